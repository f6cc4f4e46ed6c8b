"""The files that loading a prompt reads, by value: what another host needs to load it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from promptops.project.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTree:
    """A tree of files held in memory."""

    files: Mapping[str, bytes]
    folders: Mapping[str, tuple[str, ...]]

    def read(self, path: str) -> bytes:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.read(path))

    def names(self, folder: str) -> list[str]:
        return list(self.folders.get(folder, ()))


@dataclass(slots=True)
class RecordedTree:
    """Another tree, which keeps what is read of it."""

    tree: Tree
    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def read(self, path: str) -> bytes:
        found = self.files[path] = self.tree.read(path)
        return found

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.read(path))

    def names(self, folder: str) -> list[str]:
        found = self.tree.names(folder)
        self.folders[folder] = tuple(found)
        return found

    def snapshot(self) -> SnapshotTree:
        return SnapshotTree(files=dict(self.files), folders=dict(self.folders))
