"""Sorting more records than fit in memory: sorted parts on disk, merged as they are read."""

import heapq
import tempfile
from collections.abc import Iterator
from typing import IO

_LENGTH = 4
PART = 500_000
"""Records that are held before a part is written: about 60 MB."""


class SortedRecords:
    """Add records (bytes), then iterate once, in order. Parts are anonymous files in the temporary folder, gone with this object."""

    def __init__(self, part: int = PART) -> None:
        self._part = part
        self._held: list[bytes] = []
        self._files: list[IO[bytes]] = []
        self.count = 0

    def add(self, record: bytes) -> None:
        self._held.append(record)
        self.count += 1
        if len(self._held) >= self._part:
            self._write()

    def __iter__(self) -> Iterator[bytes]:
        self._held.sort()
        if not self._files:
            return iter(self._held)
        return heapq.merge(self._held, *map(_read, self._files))

    def _write(self) -> None:
        self._held.sort()
        file: IO[bytes] = tempfile.TemporaryFile(prefix="promptops-")  # noqa: SIM115 - lives as long as this object
        for record in self._held:
            file.write(len(record).to_bytes(_LENGTH))
            file.write(record)
        file.seek(0)
        self._files.append(file)
        self._held = []

    def close(self) -> None:
        for file in self._files:
            file.close()


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while head := file.read(_LENGTH):
        yield file.read(int.from_bytes(head))
