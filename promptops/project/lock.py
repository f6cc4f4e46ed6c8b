"""One process at a time: locks the system gives back when their owner dies, on whatever way."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from promptops.core.errors import EvaluationError
from promptops.project.config import STORE_FOLDER

if TYPE_CHECKING:
    from filelock import FileLock


@contextmanager
def run_lock(root: Path, run_id: str) -> Iterator[None]:
    """Hold a run while the context is open. Raises EvaluationError at once when another process holds it, or when none can."""
    from filelock import Timeout

    folder = root / STORE_FOLDER
    owner = folder / "locks" / f"{run_id}.pid"
    try:
        lock = _acquire(folder, f"run {run_id}", run_id, timeout_s=0)
    except Timeout:
        pid = owner.read_text("utf-8") if owner.exists() else "?"
        raise EvaluationError(f"run {run_id} is in use by pid {pid}", hint="wait for it, or stop it") from None
    try:
        owner.write_text(str(os.getpid()), "utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def is_held(root: Path, run_id: str) -> bool:
    """Whether some process has the run now."""
    try:
        with run_lock(root, run_id):
            return False
    except EvaluationError:
        return True


@contextmanager
def store_lock(folder: Path, *, timeout_s: float, name: str = "store", what: str = "the run store") -> Iterator[None]:
    """Hold the store's folder, or the file `what` by a lock of its own. Raises EvaluationError when it stays taken, or cannot be locked."""
    from filelock import Timeout

    try:
        lock = _acquire(folder, what, name, timeout_s=timeout_s)
    except Timeout:
        raise EvaluationError(f"{what} is in use by another process", where=f"{folder.name}/",
                              hint="wait for it, or stop it") from None  # fmt: skip
    try:
        yield
    finally:
        lock.release()


def _acquire(folder: Path, what: str, name: str, *, timeout_s: float) -> "FileLock":
    from filelock import FileLock, Timeout  # it brings asyncio, which few commands need

    try:
        (folder / "locks").mkdir(exist_ok=True)
        lock = FileLock(folder / "locks" / f"{name}.lock", timeout=timeout_s)
        lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        why = getattr(error, "strerror", None) or str(error)
        raise EvaluationError(f"{what} cannot be locked", where=f"{STORE_FOLDER}/locks/", why=why) from error
    return lock
