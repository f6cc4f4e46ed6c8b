"""The pointer file of a folder of bundles: which of them is served, moved as one rename."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from promptops.core.errors import ConflictError, DataError, RefusedError
from promptops.runtime.bundle import Bundle, Trust, parse_bundle, read_files

POINTER = "current.json"
_LONGEST = 4096
_INSTALLED = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """The name of a bundle beside the pointer, and the digest of its manifest."""

    bundle: str
    digest: str


def read_pointer(folder: Path) -> Pointer | None:
    """The pointer in a folder, None when there is none. Raises RefusedError for one that is not well-formed."""
    path = folder / POINTER
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RefusedError("the pointer cannot be read", where=str(path), why=error.strerror or "") from error
    try:
        value = json.loads(raw)
        pointer = Pointer(bundle=value["bundle"], digest=value["digest"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RefusedError("not a pointer to a bundle", where=str(path),
                           hint="delete it, and install the bundle that is to be served") from None  # fmt: skip
    names = (pointer.bundle, pointer.digest)
    if (
        not all(isinstance(name, str) for name in names)
        or not pointer.bundle
        or Path(pointer.bundle).name != pointer.bundle
        or pointer.bundle == ".."
    ):
        raise RefusedError("the pointer leaves its folder", where=str(path))
    return pointer


def install(source: Path, folder: Path, trust: Trust) -> tuple[Bundle, bool]:
    """Put a verified bundle into a folder and point there; False when it is what is served already.

    What is served stays served until the one rename at the end, and a bundle that is older than it is refused; where the pointer
    was lost, older than any bundle that was installed in the folder.
    Raises RefusedError, DataError, ConflictError when somebody else installs at the same time.
    """
    from filelock import FileLock, Timeout

    files = read_files(source)
    bundle = parse_bundle(files, trust, where=str(source))
    folder.mkdir(parents=True, exist_ok=True)
    name = bundle.digest.removeprefix("sha256:")[:32]
    try:
        with FileLock(folder / ".install.lock", timeout=10):
            current = read_pointer(folder)
            if current is not None and current.digest == bundle.digest:
                return bundle, False
            before = _installed(folder) if current is None else [_served(folder, current)]
            problems = [problem for other in before for problem in bundle.follows(other)]
            if problems:
                raise RefusedError(problems=problems)
            _write_bundle(files, folder, name)
            _replace(folder / POINTER, json.dumps({"bundle": name, "digest": bundle.digest}).encode() + b"\n")
    except Timeout:
        raise ConflictError("another installation is under way", where=str(folder), hint="try again") from None
    except OSError as error:
        raise DataError("the bundle cannot be installed", where=str(folder), why=error.strerror or str(error)) from error  # fmt: skip
    return bundle, True


def _served(folder: Path, pointer: Pointer) -> Bundle:
    return parse_bundle(read_files(folder / pointer.bundle), Trust(digest=pointer.digest), where=str(folder))


def _installed(folder: Path) -> Iterator[Bundle]:
    """The whole bundles of a folder."""
    for path in sorted(folder.iterdir()):
        if _INSTALLED.fullmatch(path.name):
            with suppress(RefusedError, DataError):
                yield parse_bundle(read_files(path), Trust(unsigned=True), where=str(path))


def write_folder(files: dict[str, bytes], folder: Path) -> None:
    """Write the files of a bundle below a folder that is not there yet."""
    for name, content in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _write_bundle(files: dict[str, bytes], folder: Path, name: str) -> None:
    """All files under a temporary name, then one rename: a bundle under its name is whole."""
    target = folder / name
    if target.is_dir() and _same(target, files):
        return
    import shutil

    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
        new = Path(temporary) / name
        write_folder(files, new)
        if target.exists():  # left half-written by hand: no installation does that
            shutil.rmtree(target)
        new.replace(target)
    _sync(folder)


def _same(target: Path, files: dict[str, bytes]) -> bool:
    try:
        return read_files(target) == files
    except (RefusedError, DataError):
        return False


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
