"""The connection to a PostgreSQL server: made again when it breaks, for a bounded time, and never waited for without end."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from promptops.core.errors import DataError, EvaluationError, ExitCode, PromptopsError

if TYPE_CHECKING:
    import psycopg

_T = TypeVar("_T")
ANSWER_S = 30.0
"""Longest wait for one answer of the server in the middle of a run."""
BULK_S = 3600.0
_TICK_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_AWAY = ("08", "57P01", "57P02", "57P03", "53300")
"""SQL states of a server that ends, starts, or is full of connections."""
_SOON = ("starting up", "shutting down", "recovery", "not yet accepting connections")
_AGAIN = ("40001", "40P01")
_LOGIN = ("password", "authentication", "pg_hba.conf", 'role "', "certificate", "not permitted", "not support SSL")
"""Words of a server, or of the library, that will not let this login in."""
_NO = (*_LOGIN, "does not exist")


class Link:
    """One connection. `patience_s`: how long it is tried again after it broke; a server that is away longer ends the run.

    Not for several threads: the one it has of its own only ends connections that answer nothing.
    """

    def __init__(
        self, conninfo: str, where: str, *, patience_s: float, on_connect: Callable[["psycopg.Connection"], None]
    ) -> None:
        self._conninfo, self.where, self._patience_s, self._on_connect = conninfo, where, patience_s, on_connect
        self._lock = threading.Lock()
        self._due: float | None = None
        self._closed = threading.Event()
        self._given_up = False
        self.may_reconnect = True
        self.sql = self._open()
        threading.Thread(target=self._watch, name="promptops-store", daemon=True).start()

    def run(self, do: Callable[["psycopg.Connection"], _T], *, within_s: float | None = None) -> _T:
        """What `do` returns; done again after a broken connection, so it must bear being done twice.

        Raises EvaluationError when the server stays away or refuses, OverflowError for a value that no column takes.
        """
        import psycopg

        try:
            return self._once(do, within_s)
        except psycopg.Error as error:
            if not self._worth_another_try(error):
                raise translate(error, self.where) from error
            with _listening() as asked:
                return self._patiently(do, within_s, error, asked)

    def _once(self, do: Callable[["psycopg.Connection"], _T], within_s: float | None) -> _T:
        import psycopg

        if self._closed.is_set():
            raise RuntimeError("the store is closed")
        try:
            if self.sql.closed:
                self.sql = self._connect()
            with self._watched(self.sql, within_s or ANSWER_S):
                return do(self.sql)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise OverflowError(_first_line(error)) from error

    def _patiently(
        self, do: Callable[["psycopg.Connection"], _T], within_s: float | None, error: "psycopg.Error", asked: list[int]
    ) -> _T:
        """Again and again until it is done, the time is over, or a person asks to stop."""
        import psycopg

        give_up_at = time.monotonic() + (0.0 if self._given_up else self._patience_s)
        pause_s = _FIRST_PAUSE_S
        while time.monotonic() < give_up_at and not asked:
            until = min(time.monotonic() + pause_s, give_up_at)
            while time.monotonic() < until and not asked:
                time.sleep(min(_FIRST_PAUSE_S, pause_s))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            try:
                found = self._once(do, within_s)
            except psycopg.Error as again:
                error = again
                if not self._worth_another_try(error):
                    break
            else:
                self._given_up = False
                return found
        self._given_up = True
        failure = translate(error, self.where)
        if asked:
            failure.exit_code = ExitCode.INTERRUPTED if asked[0] == signal.SIGINT else ExitCode.TERMINATED
        raise failure from error

    def close(self) -> None:
        self._closed.set()
        self.sql.close()

    def _open(self) -> "psycopg.Connection":
        """The first connection: a server that starts is waited for, one that is not there is not."""
        import psycopg

        give_up_at = time.monotonic() + self._patience_s
        while True:
            try:
                return self._connect()
            except psycopg.Error as error:
                if not any(word in str(error) for word in _SOON) or time.monotonic() > give_up_at:
                    raise translate(error, self.where) from error
                time.sleep(_FIRST_PAUSE_S)

    def _connect(self) -> "psycopg.Connection":
        import psycopg

        connection = psycopg.connect(self._conninfo, autocommit=True)
        try:
            with self._watched(connection, ANSWER_S):
                self._on_connect(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _worth_another_try(self, error: "psycopg.Error") -> bool:
        state = error.sqlstate or ""
        if state in _AGAIN:
            return True
        if not self.may_reconnect:
            return False
        return state.startswith(_AWAY) or (self.sql.closed and not state and not _is_refusal(error))

    @contextmanager
    def _watched(self, connection: "psycopg.Connection", seconds: float) -> Iterator[None]:
        with self._lock:
            self._watched_connection, self._due = connection, time.monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                self._due = None

    def _watch(self) -> None:
        """A server that is frozen, or behind a network that swallows packets, keeps the socket open and says nothing."""
        while not self._closed.wait(_TICK_S):
            with self._lock:
                if self._due is not None and time.monotonic() > self._due:
                    self._due = None
                    _hang_up(self._watched_connection)


@contextmanager
def _listening() -> Iterator[list[int]]:
    """Signals that ask to stop, while an event loop, which would hear them, cannot run; nobody else's handling is lost."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {
        number: signal.signal(number, lambda got, _: asked.append(got)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for got in asked:
            if before[signal.Signals(got)] in (signal.SIG_DFL, signal.default_int_handler):
                signal.raise_signal(got)


def _hang_up(connection: "psycopg.Connection") -> None:
    import psycopg

    # It may have closed meanwhile, which is what is wanted.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _is_refusal(error: Exception) -> bool:
    """Whether a server said no to the login or the database, which it will say again: libpq gives a text alone."""
    return any(word in str(error) for word in _NO)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def translate(error: "psycopg.Error", where: str) -> PromptopsError:
    """What a person can do about an error of the server."""
    state, text = error.sqlstate or "", _first_line(error)
    text = (
        text.removeprefix("connection failed: ").rpartition("failed: ")[2].removeprefix("FATAL:").strip()
        or "no reason given"
    )
    if state == "53100":
        return EvaluationError(
            "disk full", where=where, why="what was written before is kept", hint="free some space on the server"
        )
    if state == "42501":
        return EvaluationError("this login may not do that in the shared store", where=where, why=text,
                               hint="use one with the rights of a writer; docs/scale.md lists them")  # fmt: skip
    if state in ("25006", "55P03"):
        return EvaluationError(
            "the shared store cannot be written now", where=where, why=text, hint="name the primary server, or wait"
        )
    if "database" in text and "does not exist" in text:
        return DataError(
            "the server has no such database", where=where, why=text, hint="make it with createdb, or correct `store`"
        )
    if not state and any(word in str(error) for word in _LOGIN):
        return EvaluationError("the server refuses the login", where=where, why=text,
                               hint="check the user in `store`, and PGPASSWORD or PGPASSFILE")  # fmt: skip
    if not state or state.startswith(_AWAY):
        return EvaluationError("the shared store cannot be reached", where=where, why=text,
                               hint="check that the server runs and that this host may reach it")  # fmt: skip
    return EvaluationError("the shared store cannot be used", where=where, why=text, hint="see the log of the server")
