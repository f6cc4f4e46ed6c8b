"""A SQLite file that threads, processes and forked children of one host share.

SQLite keeps its file locks a second time in the memory of the process. A child that is forked while a transaction is under way
inherits the record of a lock that nobody will release, and one that is forked beside an open connection takes no locks of its own. So a fork
waits for the thread that uses the file, and no connection is open across it.
"""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from promptops.runtime.state.base import StateError

_MAKING_S = 1.0
_FORK_WAITS_S = 10.0
_LEFT_TO_THE_PARENT: list[sqlite3.Connection] = []
_LINKS: "weakref.WeakSet[SqliteLink]" = weakref.WeakSet()
_RESTING: dict[int, list["SqliteLink"]] = {}
"""Links that a thread holds still while it forks, by the id of the thread."""


class SqliteLink:
    """One connection a process, used by one thread at a time; opened when first used, and the file made with `schema`.

    Waits at most about `timeout_s` for other threads and processes. `synchronous`: `full` when what was written must survive
    the machine, `normal` when it must survive the process. Nothing but StateError comes out of `use`.
    """

    def __init__(self, path: Path, schema: str, *, timeout_s: float, synchronous: Literal["full", "normal"]) -> None:
        self.path, self.timeout_s = path, timeout_s
        self._schema, self._synchronous = schema, synchronous
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = os.getpid()
        _LINKS.add(self)

    @contextmanager
    def use(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """The connection; a write is one transaction."""
        if self._pid != os.getpid():
            self.after_fork()
        if not self._lock.acquire(timeout=self.timeout_s):
            raise StateError(f"{self.path} is busy for more than {self.timeout_s} s")
        try:
            database = self._connection or self._connect()
            if write:
                database.execute("begin immediate")
            try:
                yield database
                if database.in_transaction:
                    database.commit()
            except BaseException:
                if database.in_transaction:
                    database.rollback()
                raise
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"{self.path}: {error}") from error
        finally:
            self._lock.release()

    def rest(self) -> bool:
        """Close the connection and let no thread use the file until `wake`; False where a thread does not let go of it."""
        if not self._lock.acquire(timeout=_FORK_WAITS_S):
            return False
        self.close()
        return True

    def wake(self) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        """In the child. A connection that is still the parent's is left untouched: closing it here would take its locks away."""
        if self._connection is not None:
            _LEFT_TO_THE_PARENT.append(self._connection)
        self._connection, self._lock, self._pid = None, threading.Lock(), os.getpid()

    def close(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # texts of customers are for this user only
        database = sqlite3.connect(self.path, timeout=self.timeout_s, isolation_level=None, check_same_thread=False)
        try:
            self._use_log(database)
            database.execute(f"pragma synchronous = {self._synchronous}")
            if database.execute("pragma user_version").fetchone()[0] == 0:
                database.executescript(f"begin immediate;{self._schema}pragma user_version = 1; commit;")
        except BaseException:
            database.close()
            raise
        self._connection = database
        return database

    def _use_log(self, database: sqlite3.Connection) -> None:
        """SQLite waits for nobody when two processes change the journal mode of a new file at the same moment: ask again."""
        until = time.monotonic() + max(self.timeout_s, _MAKING_S)
        while True:
            try:
                database.execute("pragma journal_mode = wal")
            except sqlite3.OperationalError:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.005)
            else:
                return


def _before_fork() -> None:
    _RESTING[threading.get_ident()] = [link for link in list(_LINKS) if link.rest()]


def _after_in_parent() -> None:
    for link in _RESTING.pop(threading.get_ident(), ()):
        link.wake()


def _after_in_child() -> None:
    _RESTING.clear()
    for link in list(_LINKS):
        link.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
