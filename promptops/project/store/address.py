"""Where the runs of a project are kept."""

from dataclasses import dataclass
from pathlib import Path

from promptops.project.config import STORE_FOLDER
from promptops.project.store.base import Store
from promptops.project.store.folder import FILE
from promptops.project.store.sqlite import open_sqlite


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """All that a process needs to open the store, on another host too: small, and it can be pickled."""

    root: Path

    @property
    def exists(self) -> bool:
        """Whether there may be runs; nobody is asked over a network."""
        return (self.root / STORE_FOLDER / FILE).exists()


def open_store(at: StoreAddress | Path) -> Store:
    """The store there, or the one in the folder of the project at a path; made on first use.

    Raises RefusedError when it is a link, DataError when a newer promptops wrote it, EvaluationError when it cannot be written.
    """
    return open_sqlite(at if isinstance(at, Path) else at.root)
