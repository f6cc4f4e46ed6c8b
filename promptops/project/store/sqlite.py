"""The embedded run store: one SQLite file in `.promptops/`, readable while a run writes to it.

`answers` are kept by the digest of the whole request and the draw, so an unchanged case costs nothing in the next run.
`attempts` is the ledger: a row before a paid call, its outcome after it. Totals are always computed from rows.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from promptops.core.errors import ConflictError, DataError, EvaluationError
from promptops.project.config import STORE_FOLDER
from promptops.project.lock import is_held, run_lock, store_lock
from promptops.project.store.base import Statement, Store
from promptops.project.store.folder import FILE, prepare_folder
from promptops.project.store.rows import BURST_MINUTES, NO_LIMIT, RateLimit, Result, answer_row, dump, read_result

VERSION = 3
_BUSY_S = 10.0
_SCHEMA = """
create table runs (
    id text primary key, prompt text not null, prompt_digest text not null, golden_digest text not null, subject text not null,
    state text not null, started_at text not null, finished_at text not null, planned integer not null, header text not null
) strict;
create table answers (
    key text primary key, outcome text not null, text text not null, detail text not null, model text not null,
    input_tokens integer not null, output_tokens integer not null, usage_trusted integer not null,
    cost_nanousd integer not null, latency_s real not null, created_at text not null
) strict;
create table attempts (
    id integer primary key, run_id text not null references runs(id) on delete cascade, key text not null,
    started_at text not null, outcome text not null default 'intent', cost_nanousd integer not null default 0
) strict;
create table results (
    run_id text not null references runs(id) on delete cascade, case_id text not null, draw integer not null,
    category text not null, tags text not null, grouped text not null, line integer not null, case_digest text not null,
    answer_key text not null, outcome text not null, passed integer, value real, latency_s real not null,
    cost_nanousd integer not null, scores text not null, primary key (run_id, case_id, draw)
) strict, without rowid;
create table verdicts (
    run_id text not null references runs(id) on delete cascade, case_id text not null, draw integer not null,
    judge text not null, vote integer not null, swapped integer not null, answer_key text not null, outcome text not null,
    detail text not null, scores text not null, primary key (run_id, case_id, draw, judge, vote, swapped)
) strict, without rowid;
create table limits (
    key text primary key, requests real not null, tokens real not null, updated_at real not null, blocked_until real not null
) strict;
create table seats (
    run_id text not null references runs(id) on delete cascade, worker text not null, calls integer not null,
    booked_nanousd integer not null, reserved_nanousd integer not null, primary key (run_id, worker)
) strict, without rowid;
create index attempts_run on attempts(run_id);
create index runs_started on runs(started_at);
"""
_ADDED = ("verdicts", "seats")
"""The tables that versions 2, 3, ... brought."""
_STAGED = {
    "runs": "insert into main.runs select * from temp.runs",
    "answers": "insert or ignore into main.answers select * from temp.answers",
    "results": "insert into main.results select * from temp.results",
    "attempts": "insert into main.attempts(run_id, key, started_at, outcome, cost_nanousd)"
    " select run_id, key, started_at, outcome, cost_nanousd from temp.attempts order by rowid",
    "verdicts": "insert or ignore into main.verdicts select * from temp.verdicts",
}
"""How rows that were added beside the store go into it, parents first: an answer that is there already stays."""


class SqliteStore(Store):
    """One writer at a time, whoever it is; readers do not wait for it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__(f"{STORE_FOLDER}/{path.name}")
        self._sql, self.path = connection, path

    @property
    def can_write_while_read(self) -> bool:
        """Whether SQLite keeps a write-ahead log here; some network and shared folders make it go without, silently."""
        return str(self._sql.execute("pragma journal_mode").fetchone()[0]) == "wal"

    def close(self) -> None:
        self.flush()
        self._sql.close()

    def hold(self, run_id: str) -> AbstractContextManager[None]:
        return run_lock(self.path.parents[1], run_id)

    def is_held(self, run_id: str) -> bool:
        return is_held(self.path.parents[1], run_id)

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
        return self._sql.execute(sql, parameters)

    def _change(self, *statements: Statement, once: bool = False) -> list[int]:
        with self._writing():
            return [self._sql.execute(sql, parameters).rowcount for sql, parameters in statements]

    def block(self, key: str, seconds: float, now: float) -> None:
        with self._writing():
            self._sql.execute(
                "insert into limits values (?, 0, 0, 0, ?) on conflict(key) do update set blocked_until = max(blocked_until, excluded.blocked_until)",
                (key, now + seconds),
            )

    def blocked_s(self, key: str, now: float) -> float:
        row = self._sql.execute("select blocked_until from limits where key = ?", (key,)).fetchone()
        return float(row[0]) - now if row else 0.0

    def take_permit(self, limit: RateLimit, tokens: int, now: float) -> float:
        rpm, tpm = limit.rpm or NO_LIMIT, limit.tpm or NO_LIMIT
        most_requests, most_tokens = max(1.0, rpm * BURST_MINUTES), tpm * BURST_MINUTES
        with self._writing():
            row = self._sql.execute(
                "select requests, tokens, updated_at, blocked_until from limits where key = ?", (limit.key,)
            ).fetchone()
            requests, left, updated_at, blocked = row or (most_requests, most_tokens, now, 0.0)
            minutes = max(0.0, now - updated_at) / 60 if updated_at else 1.0
            requests, left = min(most_requests, requests + minutes * rpm), min(most_tokens, left + minutes * tpm)
            wanted = min(float(tokens), most_tokens)
            wait_s = max((1.0 - requests) / rpm, (wanted - left) / tpm) * 60
            if wait_s <= 0:
                requests, left = requests - 1, left - wanted
            self._sql.execute(
                "insert or replace into limits values (?, ?, ?, ?, ?)", (limit.key, requests, left, now, blocked)
            )
        return max(0.0, wait_s)

    def begin_attempts(self, run_id: str, calls: Iterable[tuple[str, int]], started_at: str) -> list[int]:
        with self._writing():
            self._write_buffers()
            first = self._sql.execute("select coalesce(max(id), 0) + 1 from attempts").fetchone()[0]
            rows = [(first + place, run_id, key, started_at, worst) for place, (key, worst) in enumerate(calls)]
            self._sql.executemany(
                "insert into attempts(id, run_id, key, started_at, cost_nanousd) values (?, ?, ?, ?, ?)", rows
            )
        self.drop_buffers()
        return [row[0] for row in rows]

    def flush(self) -> None:
        if self._dirty:
            with self._writing():
                self._write_buffers()
            self.drop_buffers()

    def _write_buffers(self) -> None:
        if self._ended:
            self._sql.executemany("update attempts set outcome = ?, cost_nanousd = ? where id = ?", self._ended)
        if self._answers:
            self._sql.executemany(
                "insert or ignore into answers values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(answer_row, self._answers.values()),
            )
        if self._results:
            self._sql.executemany(
                "insert or ignore into results values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._results
            )
        if self._verdicts:
            self._sql.executemany(
                "insert or ignore into verdicts values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._verdicts
            )

    def _find_answers(self, keys: Sequence[str]) -> Iterable[tuple[Any, ...]]:
        return self._sql.execute(
            "select wanted.value, answers.* from json_each(?) as wanted"
            " join main.answers on answers.key >= wanted.value and answers.key < wanted.value || ';'",
            (dump(keys),),
        )

    def _answers_of(self, run_id: str, draws: Sequence[tuple[str, int]]) -> Iterable[tuple[Any, ...]]:
        return self._sql.execute(
            "select results.case_id, results.draw, results.outcome, results.scores, results.answer_key, results.latency_s,"
            " results.cost_nanousd, answers.* from json_each(?) as wanted"
            " cross join results on run_id = ? and case_id = wanted.value ->> 0 and draw = wanted.value ->> 1"
            " left join answers on answers.key = results.answer_key",
            (dump(draws), run_id),
        )

    def results(self, run_id: str) -> Iterator[Result]:
        rows = self._sql.execute("select * from results where run_id = ? order by case_id, draw", (run_id,))
        return (read_result(row) for row in rows)

    def results_of(self, run_id: str, case_ids: Sequence[str]) -> list[Result]:
        # `cross join` keeps the order: the planner would go through the whole run for each list of cases.
        rows = self._sql.execute(
            "select results.* from json_each(?) as wanted cross join results on run_id = ? and case_id = wanted.value order by case_id, draw",
            (dump(case_ids), run_id),
        )
        return [read_result(row) for row in rows]

    def import_attempts(self, run_id: str, rows: Iterable[tuple[str, str, str, int]]) -> None:
        with self._writing():
            self._sql.executemany("insert into attempts(run_id, key, started_at, outcome, cost_nanousd) values (?, ?, ?, ?, ?)",
                                  ((run_id, *row) for row in rows))  # fmt: skip

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """All that is added inside is written when it ends, in one transaction; nothing after an error or a kill.

        Meanwhile it lies in temporary tables of the same names, which SQLite prefers, so other processes are not held up.
        """
        self.flush()
        for table in _STAGED:
            self._sql.execute(f"create temp table {table} as select * from main.{table} where false")
        try:
            yield
            self.flush()
            with self._writing():
                for sql, parameters in self._removals():
                    self._sql.execute(sql, parameters)
                for statement in _STAGED.values():
                    self._sql.execute(statement)
        finally:
            self.drop_buffers()
            self._replaced.clear()
            for table in _STAGED:
                self._sql.execute(f"drop table temp.{table}")

    def delete_runs(self, run_ids: Iterable[str]) -> tuple[int, int]:
        removed = super().delete_runs(run_ids)
        with suppress(sqlite3.OperationalError):  # it only gives space back, and another process may be writing
            self._sql.execute("vacuum")
        return removed

    def _writing(self) -> "_Transaction":
        return _Transaction(self._sql, self.path)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT; what SQLite says of the disk becomes an EvaluationError."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._sql, self._path = connection, path

    def __enter__(self) -> None:
        try:
            self._sql.execute("begin immediate")
        except sqlite3.OperationalError as error:
            raise _translate(error, self._path) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            self._sql.execute("rollback" if kind else "commit")
        except sqlite3.OperationalError as failure:
            if not kind:
                raise _translate(failure, self._path) from failure
        if isinstance(error, sqlite3.OperationalError):
            raise _translate(error, self._path) from error


def open_sqlite(root: Path) -> SqliteStore:
    """The store in the folder of the project at `root`, made on first use.

    Raises RefusedError when it is a link, DataError when a newer promptops wrote it, EvaluationError when it cannot be written.
    """
    path = root / STORE_FOLDER / FILE
    try:
        prepare_folder(root)
        connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
        return SqliteStore(_prepare(connection, path), path)
    except sqlite3.OperationalError as error:
        raise _translate(error, path) from error
    except sqlite3.DatabaseError as error:
        raise DataError(
            "the run store is damaged",
            where=f"{STORE_FOLDER}/{FILE}",
            why=str(error),
            hint="move it away and evaluate again",
        ) from error
    except OSError as error:
        raise EvaluationError(
            "the run store cannot be made", where=f"{STORE_FOLDER}/", why=error.strerror or str(error)
        ) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    version = _version(connection)
    if version > VERSION:
        connection.close()
        raise DataError(f"the run store has format {version}", where=f"{STORE_FOLDER}/{FILE}", why=f"this promptops reads up to {VERSION}",
                        hint="upgrade promptops")  # fmt: skip
    if version == 0:
        _create(connection, path)
    elif version < VERSION:
        _upgrade(connection, path)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.execute("pragma foreign_keys = on")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def _create(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, once: SQLite waits for nobody when two processes change the journal mode at the same time."""
    with store_lock(path.parent, timeout_s=_BUSY_S):
        if _version(connection) != 0:
            return
        connection.execute("pragma journal_mode = wal")
        with _Transaction(connection, path):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"pragma user_version = {VERSION}")


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a store of version 1, which knew no judges, or 2, without seats, to this one; its rows stay as they are."""
    with store_lock(path.parent, timeout_s=_BUSY_S):
        version = _version(connection)
        if version >= VERSION:
            return
        with _Transaction(connection, path):
            for table in _ADDED[version - 1 :]:
                (statement,) = (found for found in _SCHEMA.split(";") if f"create table {table} " in found)
                connection.execute(statement)
            connection.execute(f"pragma user_version = {VERSION}")


def _translate(error: sqlite3.OperationalError, path: Path) -> EvaluationError | ConflictError:
    where = f"{STORE_FOLDER}/{path.name}"
    name = error.sqlite_errorname if hasattr(error, "sqlite_errorname") else ""
    if name.startswith("SQLITE_FULL"):
        return EvaluationError("disk full", where=where, why="what was written before is kept", hint="free some space")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return EvaluationError(
            "the run store is in use by another process", where=where, hint="wait for it, or stop it"
        )
    return EvaluationError(
        "the run store cannot be written",
        where=where,
        why=str(error),
        hint="it must be on a local disk with room and rights",
    )
