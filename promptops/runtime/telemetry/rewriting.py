"""Lines taken out of events files while services write: by what they hold (an erasure), or by their age (retention)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_HEAD = b'{"at":"'
_STAMP = len("2026-11-02T00:00:00")


def older_files(path: Path) -> list[Path]:
    """The rotated forerunners of an events file, oldest first."""
    found = [file for file in path.parent.glob(f"{path.name}.*") if file.suffix[1:].isdigit()]
    return sorted(found, key=lambda file: -int(file.suffix[1:]))


def lines_of(file: Path) -> Iterator[bytes]:
    """The lines of a file, none when it is gone."""
    try:
        with file.open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        return


def set_aside(path: Path) -> Path:
    """Where the file that services write is moved before it is rewritten; they find it moved and open a new one."""
    return path.with_name(f"{path.name}.erasing")


def rewrite_events(path: Path, is_gone: Callable[[], Callable[[bytes], bool]]) -> int:
    """Take lines out of an events file and its rotated forerunners; how many. The caller holds the lock of the file.

    `is_gone` makes a predicate for each file, as ages are told from line to line. What services wrote until then becomes part of FILE.1.
    """
    aside, first = set_aside(path), path.with_name(f"{path.name}.1")
    if path.exists() and not aside.exists():
        path.replace(aside)
    removed = sum(rewrite((file,), file, is_gone()) for file in older_files(path) if file != first)
    removed += rewrite((first, aside), first, is_gone())
    aside.unlink(missing_ok=True)
    return removed


def rewrite(sources: tuple[Path, ...], target: Path, is_gone: Callable[[bytes], bool]) -> int:
    """The lines of all sources that stay, in the place of the target; it is whole before it is there, and none is made of nothing."""
    made, removed, left = target.with_name(f".{target.name}.kept"), 0, 0
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as kept:
        for source in sources:
            for line in lines_of(source):
                if is_gone(line):
                    removed += 1
                else:
                    left += 1
                    kept.write(line if line.endswith(b"\n") else line + b"\n")
        kept.flush()
        os.fsync(kept.fileno())
    if left:
        made.replace(target)
    else:
        target.unlink(missing_ok=True)
        made.unlink()
    return removed


def older_than(before: str) -> Callable[[bytes], bool]:
    """Whether a line is older than a time as events write it; a line that tells no time (torn) is as old as the line before it."""
    limit, last = before[:_STAMP].encode(), b""

    def is_old(line: bytes) -> bool:
        nonlocal last
        last = stamp_of(line) or last
        return last < limit

    return is_old


def stamp_of(line: bytes) -> bytes:
    """The second of an event; nothing when the line does not begin with one."""
    begins = line.startswith(_HEAD) and line[len(_HEAD) + 10 : len(_HEAD) + 11] == b"T"
    return line[len(_HEAD) : len(_HEAD) + _STAMP] if begins else b""


def lock_of(path: Path) -> Path:
    """Who rotates or rewrites holds this lock."""
    return path.with_name(f".{path.name}.lock")


def prune_events(path: Path, *, before: str) -> int:
    """Remove the lines older than a time from an events file and its forerunners; how many, 0 too when another process is at it.

    Only files that begin with such a line are rewritten. What is left of the file that services write becomes FILE.1: when it begins so early,
    nothing of the FILE.1 before it stays. Raises OSError.
    """
    from filelock import FileLock, Timeout

    if not begin_before(path, before):
        return 0
    try:
        with FileLock(lock_of(path), timeout=1):
            removed = 0
            early = begin_before(path, before)
            for file in early:
                if file != path:
                    removed += rewrite((file,), file, older_than(before))
            if path in early:
                aside, first = set_aside(path), path.with_name(f"{path.name}.1")
                path.replace(aside)
                removed += rewrite((first, aside), first, older_than(before))
                aside.unlink()
            return removed
    except Timeout:
        return 0


def begin_before(path: Path, before: str) -> list[Path]:
    """Which of the files begin with a line older than a time, or with one that tells none."""
    limit, found = before[:_STAMP].encode(), []
    for file in (*older_files(path), path):
        line = next(lines_of(file), b"")
        if line and stamp_of(line) < limit:
            found.append(file)
    return found
