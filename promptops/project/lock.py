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
    """Hold a run while the context is open. Raises EvaluationError at once when another process holds it."""
    folder = root / STORE_FOLDER / "locks"
    folder.mkdir(exist_ok=True)
    path = folder / f"{run_id}.lock"
    owner = folder / f"{run_id}.pid"
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        pid = owner.read_text("utf-8") if owner.exists() else "?"
        raise EvaluationError(f"run {run_id} is in use by pid {pid}", hint="wait for it, or stop it") from None
    try:
        owner.write_text(str(os.getpid()), "utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
