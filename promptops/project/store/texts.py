"""Large texts beside a shared store: objects named by the sha256 of what they hold, in a bucket or folder that fsspec opens."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from promptops.core.errors import DataError, EvaluationError, PromptopsError

_KEEP_UNUSED = timedelta(days=7)
_BATCH = 1000
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


class Texts:
    """`url` is `s3://bucket/prefix`, `gs://`, `az://` or `file://`. An object is there before anything names it, and verified when it is read.

    Raises DataError when a package for it is missing, EvaluationError when it cannot be reached.
    """

    def __init__(self, url: str, min_bytes: int) -> None:
        self.url, self.min_bytes = url, min_bytes
        scheme = url.partition("://")[0]
        try:
            import fsspec
        except ImportError as error:
            raise DataError(
                "`texts` needs the package `fsspec`", where=url, hint="pip install 'promptops[objects]'"
            ) from error
        try:
            self._files, root = fsspec.core.url_to_fs(url, **({"auto_mkdir": True} if scheme == "file" else {}))
        except ImportError as error:
            package = _PACKAGES.get(scheme, scheme)
            raise DataError(
                f"`texts` needs the package `{package}`", where=url, hint=f"pip install {package}"
            ) from error
        self._root = root.rstrip("/")
        self._is_folder = scheme == "file"

    def put(self, texts: Iterable[str]) -> list[str]:
        """Keep texts; their digests, in order. What is there already is written again, so that it counts as new for `sweep`."""
        named = [(hashlib.sha256(data).hexdigest(), data) for data in (text.encode() for text in texts)]
        if named:
            self._reach("written", lambda: self._write(dict(named)))
        return [name for name, _ in named]

    def get(self, names: Iterable[str]) -> dict[str, str]:
        """The texts with these digests. Raises EvaluationError for one that is missing or is not what its name says."""
        paths = {self._path(name): name for name in dict.fromkeys(names)}
        if not paths:
            return {}
        found: Mapping[str, Any] = self._reach("read", lambda: self._files.cat(list(paths), on_error="return"))
        texts: dict[str, str] = {}
        for path, data in found.items():
            name = paths[path]
            if isinstance(data, FileNotFoundError):
                raise EvaluationError("the text of an answer is missing", where=f"{self.url}/{name[:2]}/{name}",
                                      hint="restore the bucket or folder, or delete the runs that need it")  # fmt: skip
            if isinstance(data, Exception):
                raise self._failed("read", data) from data
            if hashlib.sha256(data).hexdigest() != name:
                raise EvaluationError("the text of an answer was changed", where=f"{self.url}/{name[:2]}/{name}", why="it is not what its name says",
                                      hint="restore it, or delete the runs that need it")  # fmt: skip
            texts[name] = data.decode()
        return texts

    def sweep(self, used: Callable[[list[str]], set[str]], now: datetime) -> int:
        """Remove texts that nothing names and that are older than a week: a younger one may be named by a row that is being written."""
        removed = 0
        paths = self._reach("listed", lambda: list(self._files.find(self._root)))
        named = {name: path for path in paths if len(name := path.rpartition("/")[2]) == 64}
        names = sorted(named)
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            kept = used(batch)
            for name in batch:
                if name not in kept and self._reach("listed", lambda: self._modified(named[name])) < now - _KEEP_UNUSED:  # noqa: B023 - called at once
                    self._reach("removed", lambda: self._files.rm_file(named[name]))  # noqa: B023 - called at once
                    removed += 1
        return removed

    def _modified(self, path: str) -> datetime:
        found: datetime = self._files.modified(path)
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name[:2]}/{name}"

    def _write(self, content: Mapping[str, bytes]) -> None:
        if self._is_folder:
            for name, data in content.items():
                _write_whole(Path(self._path(name)), data)
        else:
            self._files.pipe({self._path(name): data for name, data in content.items()})

    def _reach(self, what: str, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except Exception as error:  # each kind of storage has errors of its own
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: Exception) -> PromptopsError:
        return EvaluationError(f"large texts cannot be {what}", where=self.url, why=f"{type(error).__name__}: {str(error)[:200]}",
                               hint="check the address in `texts`, rights and room")  # fmt: skip


def _write_whole(path: Path, data: bytes) -> None:
    """A file is whole under its name, or not there; a bucket sees to that itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
