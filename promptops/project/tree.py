"""Where project files are read from: the work tree, a commit, or an overlay; always below one root."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from promptops.core.errors import DataError, RefusedError


class Tree(Protocol):
    """Read-only files by POSIX path relative to the project root."""

    def read(self, path: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError; RefusedError for a path that leaves the root."""
        ...

    def open(self, path: str) -> BinaryIO:
        """The file as a stream of bytes, for files too large to hold. Raises as `read`."""
        ...

    def names(self, folder: str) -> list[str]:
        """Sorted names of the entries of a folder; empty when there is no such folder."""
        ...


@dataclass(frozen=True, slots=True)
class WorkTree:
    """The files on disk. A path whose real place is outside the root is refused, whatever links lead there."""

    root: Path

    def read(self, path: str) -> bytes:
        return self.resolve(path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        return self.resolve(path).open("rb")

    def names(self, folder: str) -> list[str]:
        place = self.resolve(folder)
        return sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []

    def resolve(self, path: str) -> Path:
        """The real place of a file. Raises RefusedError outside the root, FileNotFoundError for what is no name."""
        refuse_escape(path)
        try:
            real = (self.root / path).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise FileNotFoundError(path) from error
        if not real.is_relative_to(self.root.resolve()):
            raise RefusedError(
                "path leaves the project", where=path, hint="keep the file, not a link to it, in the project"
            )
        return real


@dataclass(frozen=True, slots=True)
class OverlayTree:
    """`over` (a folder of `base`) in front of `under` (another folder of it): a candidate replaces files of a prompt."""

    base: Tree
    under: str
    over: str

    def read(self, path: str) -> bytes:
        name = self._over(path)
        if name:
            try:
                return self.base.read(name)
            except (FileNotFoundError, IsADirectoryError):
                pass
        return self.base.read(path)

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.read(path)) if self._over(path) else self.base.open(path)

    def names(self, folder: str) -> list[str]:
        name = self._over(folder)
        return sorted({*self.base.names(folder), *(self.base.names(name) if name else [])})

    def _over(self, path: str) -> str:
        inside = PurePosixPath(path)
        return str(self.over / inside.relative_to(self.under)) if inside.is_relative_to(self.under) else ""


@dataclass(frozen=True, slots=True)
class SplitTree:
    """One folder from another tree: the prompts of a commit with the golden data of today.

    A file that folder did not have then, such as a schema that the suite names now, is read from today's.
    """

    folder: str
    inside: Tree
    outside: Tree

    def read(self, path: str) -> bytes:
        try:
            return self._tree(path).read(path)
        except FileNotFoundError:
            return self.outside.read(path)

    def open(self, path: str) -> BinaryIO:
        try:
            return self._tree(path).open(path)
        except FileNotFoundError:
            return self.outside.open(path)

    def names(self, folder: str) -> list[str]:
        return self._tree(folder).names(folder)

    def _tree(self, path: str) -> Tree:
        return self.inside if path == self.folder or path.startswith(self.folder + "/") else self.outside


def read_text(tree: Tree, path: str, *, wanted_by: str = "") -> str:
    """A UTF-8 text file, its line ends as in Unix and without byte order mark. Raises DataError when missing or not such text."""
    try:
        data = tree.read(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError("file not found", where=path, why=f"named by {wanted_by}" if wanted_by else "") from None
    except OSError as error:
        raise DataError("file cannot be read", where=path, why=error.strerror or "") from None
    return decode_text(data, path)


def decode_text(data: bytes, where: str) -> str:
    """Text of a file's bytes; raises DataError for what is not UTF-8 or holds NUL, with the line."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            "not UTF-8", where=f"{where}:{line}", why=f"byte 0x{data[error.start]:02x}", hint="save the file as UTF-8"
        ) from None
    if "\x00" in text:
        raise DataError(
            "NUL character", where=f"{where}:{text.count(chr(10), 0, text.index(chr(0))) + 1}", hint="remove it"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_stream(path: Path) -> bool:
    """Whether a path is a device or a pipe: it is written to, and never replaced by a file."""
    return path.exists() and not path.is_file() and not path.is_dir()


def folder_files(tree: Tree, folder: str, suffix: str) -> Iterator[str]:
    """Paths of the files of one folder that end in `suffix`, sorted."""
    return (f"{folder}/{name}" for name in tree.names(folder) if name.endswith(suffix))


def refuse_escape(path: str) -> None:
    """Raises RefusedError for a path that is not plainly relative and inside."""
    pure = PurePosixPath(path)
    if (
        pure.is_absolute()
        or ".." in pure.parts
        or path.startswith("~")
        or "\\" in path
        or ":" in path
        or os.sep + os.sep in path
    ):
        raise RefusedError(f"path {path[:80]!r} leaves the project", hint="use a relative path inside the project")
