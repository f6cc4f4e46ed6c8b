"""One process a run: a lock the system gives back when its owner dies, on whatever way."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from promptops.core.errors import EvaluationError
from promptops.project.config import STORE_FOLDER


@contextmanager
def run_lock(root: Path, run_id: str) -> Iterator[None]:
    """Hold a run while the context is open. Raises EvaluationError at once when another process holds it, or when none can."""
    folder = root / STORE_FOLDER / "locks"
    owner = folder / f"{run_id}.pid"
    lock = _acquire(folder, run_id, owner)
    try:
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


def _acquire(folder: Path, run_id: str, owner: Path) -> FileLock:
    try:
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / f"{run_id}.lock", timeout=0)
        lock.acquire()
        owner.write_text(str(os.getpid()), "utf-8")
    except Timeout:
        pid = owner.read_text("utf-8") if owner.exists() else "?"
        raise EvaluationError(f"run {run_id} is in use by pid {pid}", hint="wait for it, or stop it") from None
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        why = getattr(error, "strerror", None) or str(error)
        raise EvaluationError("the run cannot be locked", where=f"{STORE_FOLDER}/locks/", why=why) from error
    return lock
