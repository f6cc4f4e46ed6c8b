"""The shared run store: a schema of a PostgreSQL database, for evaluations on many machines at once."""

import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from promptops.core.errors import ConflictError, DataError, EvaluationError, PromptopsError
from promptops.project.store.base import Statement, Store
from promptops.project.store.link import BULK_S, Link
from promptops.project.store.migrations import prepare_schema
from promptops.project.store.rows import (
    BURST_MINUTES,
    NO_LIMIT,
    RateLimit,
    Result,
    StoredAnswer,
    Verdict,
    answer_row,
    read_answer,
    read_result,
    read_verdict,
)
from promptops.project.store.texts import Texts

if TYPE_CHECKING:
    import psycopg

    from promptops.project.store.address import StoreAddress

_PAGE = 2000
_ID_BLOCK = 256
_COLUMNS = {
    "answers": {
        "key": "text", "outcome": "text", "text": "text", "detail": "text", "model": "text", "input_tokens": "bigint", "output_tokens": "bigint",
        "usage_trusted": "smallint", "cost_nanousd": "bigint", "latency_s": "double precision", "created_at": "text",
        "text_sha256": "text",
    },
    "results": {
        "run_id": "text", "case_id": "text", "draw": "integer", "category": "text", "tags": "text", "grouped": "text", "line": "bigint",
        "case_digest": "text", "answer_key": "text", "outcome": "text", "passed": "smallint", "value": "double precision",
        "latency_s": "double precision", "cost_nanousd": "bigint", "scores": "text",
    },
    "verdicts": {
        "run_id": "text", "case_id": "text", "draw": "integer", "judge": "text", "vote": "integer", "swapped": "smallint", "answer_key": "text",
        "outcome": "text", "detail": "text", "scores": "text",
    },
    "attempts": {"id": "bigint", "run_id": "text", "key": "text", "started_at": "text", "outcome": "text", "cost_nanousd": "bigint"},
}  # fmt: skip
_ORDER = {"answers": "key", "results": "run_id, case_id, draw", "verdicts": "run_id, case_id, draw", "attempts": "id"}
"""Writers that take the same rows take them in the same order, so that none waits for another that waits for it."""
_LOCK_OF = (
    "locktype = 'advisory' and objsubid = 1 and classid::bigint = ? and objid::bigint = ?"
    " and database = (select oid from pg_database where datname = current_database())"
)
_BLOCK = (
    "insert into limits values (?, 0, 0, 0, coalesce(?::double precision, extract(epoch from clock_timestamp())) + ?)"
    " on conflict (key) do update set blocked_until = greatest(limits.blocked_until, excluded.blocked_until)"
)
_ENDED = {"id": "bigint", "outcome": "text", "cost_nanousd": "bigint"}
_ESCAPE = "\x1a"


class PostgresStore(Store):
    """Many writers at once, on any host. What loses the connection is done again on the next one, for `patience_s` of the address.

    Limits count by the clock of the server, the one all hosts share; with `own_clock=False` by the clock of callers.
    """

    _newest = "seq"

    def __init__(self, address: "StoreAddress", *, own_clock: bool = True) -> None:
        super().__init__(address.shown)
        self._schema, self._own_clock = address.schema, own_clock
        self._token = secrets.token_hex(8)
        self._held: set[str] = set()
        self._ids: Iterator[int] = iter(())
        self._deferred: list[Statement] | None = None
        self._prepared = False
        self._texts = Texts(address.texts, address.texts_min_bytes) if address.texts else None
        self._link = Link(_conninfo(address), self.where, patience_s=address.patience_s, on_connect=self._connected)

    def _connected(self, connection: "psycopg.Connection") -> None:
        # A host that vanishes gives its runs back after a minute, not after the two hours of most systems.
        connection.execute(
            "select set_config('search_path', %s, false), set_config('tcp_keepalives_idle', '30', false),"
            " set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '3', false), set_config('jit', 'off', false)",
            (self._schema,),
        )
        if not self._prepared:
            prepare_schema(connection, self._schema, self.where)
            self._prepared = True
        for run_id in self._held:
            self._hold_again(connection, run_id)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._link.close()

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        query = _dollar(sql)
        return self._link.run(lambda connection: connection.execute(query, parameters).fetchall())

    def _change(self, *statements: Statement, once: bool = False) -> list[int]:
        if self._deferred is not None:
            self._deferred += statements
            return [1] * len(statements)
        within_s = BULK_S if any(sql.startswith("delete") for sql, _ in statements) else None

        unheard: list[tuple[str, list[int]]] = []  # the transaction whose end was not heard, and what it changed

        def change(connection: "psycopg.Connection") -> list[int]:
            if unheard and _was_committed(connection, unheard[-1][0]):
                return unheard[-1][1]
            if once:
                with connection.transaction():
                    counts = [connection.execute(_dollar(sql), parameters).rowcount for sql, parameters in statements]
                    ((transaction,),) = connection.execute("select pg_current_xact_id()::text").fetchall()
                    unheard.append((transaction, counts))
                return counts
            if len(statements) == 1:
                return [connection.execute(_dollar(statements[0][0]), statements[0][1]).rowcount]
            with connection.transaction():
                return [connection.execute(_dollar(sql), parameters).rowcount for sql, parameters in statements]

        return self._link.run(change, within_s=within_s)

    @contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        """By an advisory lock of the session, which the server gives back when this process or its host is gone."""
        holder = f"pid {os.getpid()} on {socket.gethostname()}"
        if not self._link.run(lambda connection: self._take(connection, run_id, holder)):
            rows = self._rows("select holder from leases where run_id = ?", (run_id,))
            raise EvaluationError(
                f"run {run_id} is in use by {rows[0][0] if rows else 'another process'}", hint="wait for it, or stop it"
            )
        try:
            yield
        finally:
            self._held.discard(run_id)
            with suppress(PromptopsError):  # a lost connection has given it back already
                self._change(("delete from leases where run_id = ? and token = ?", (run_id, self._token)))
                self._rows("select pg_advisory_unlock(?)", (self._lock_key(run_id),))

    def _take(self, connection: "psycopg.Connection", run_id: str, holder: str) -> bool:
        ((taken,),) = connection.execute("select pg_try_advisory_lock(%s)", (self._lock_key(run_id),)).fetchall()
        if taken:
            connection.execute(
                "insert into leases values (%s, %s, %s, now()) on conflict (run_id) do update"
                " set token = excluded.token, holder = excluded.holder, taken_at = excluded.taken_at",
                (run_id, self._token, holder),
            )
            self._held.add(run_id)
        return bool(taken)

    def _hold_again(self, connection: "psycopg.Connection", run_id: str) -> None:
        """On a new connection: the run, unless another process took it meanwhile. The old session may not know yet that it is over."""
        import psycopg

        mine = "select exists (select 1 from leases where run_id = %s and token = %s)"
        still = connection.execute(mine.encode(), (run_id, self._token)).fetchall() == [(True,)]
        if still:
            connection.execute("select set_config('lock_timeout', '5s', false)")
            try:
                connection.execute(f"select pg_terminate_backend(pid) from pg_locks where {_LOCK_OF.replace('?', '%s')} and pid <> pg_backend_pid()".encode(),
                                   self._lock_parts(run_id))  # fmt: skip
                connection.execute("select pg_advisory_lock(%s)", (self._lock_key(run_id),))
                still = connection.execute(mine.encode(), (run_id, self._token)).fetchall() == [(True,)]
            except psycopg.errors.LockNotAvailable:
                still = False
            connection.execute("select set_config('lock_timeout', '0', false)")
        if not still:
            raise EvaluationError(f"run {run_id} was taken over by another process", where=self.where,
                                  why="the connection to the store was lost meanwhile", hint="let that one finish it")  # fmt: skip

    def is_held(self, run_id: str) -> bool:
        return bool(self._rows(f"select 1 from pg_locks where {_LOCK_OF}", self._lock_parts(run_id)))

    def _lock_key(self, run_id: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._schema}:{run_id}".encode()).digest()[:8], "big", signed=True)

    def _lock_parts(self, run_id: str) -> tuple[int, int]:
        key = self._lock_key(run_id) & 0xFFFFFFFFFFFFFFFF
        return key >> 32, key & 0xFFFFFFFF

    def block(self, key: str, seconds: float, now: float) -> None:
        self._change((_BLOCK, (key, self._at(now), seconds)))

    def blocked_s(self, key: str, now: float) -> float:
        rows = self._rows(
            "select blocked_until - coalesce(?::double precision, extract(epoch from clock_timestamp())) from limits where key = ?",
            (self._at(now), key),
        )
        return float(rows[0][0]) if rows else 0.0

    def take_permit(self, limit: RateLimit, tokens: int, now: float) -> float:
        # Asynchronous commit: everybody who asks waits for the row, and a permit forgotten by a crash is none to worry about.
        ((wait_s, _),) = self._rows(
            "select take_permit(?, ?, ?, ?, ?, ?), set_config('synchronous_commit', 'off', true)",
            (
                limit.key,
                float(limit.rpm or NO_LIMIT),
                float(limit.tpm or NO_LIMIT),
                BURST_MINUTES,
                float(tokens),
                self._at(now),
            ),
        )
        return float(wait_s)

    def _at(self, now: float) -> float | None:
        """The server's clock is the one all machines share; tests state another."""
        return None if self._own_clock else now

    def begin_attempts(self, run_id: str, calls: Iterable[tuple[str, int]], started_at: str) -> list[int]:
        rows = [(self._next_id(), run_id, key, started_at, "intent", worst) for key, worst in calls]
        self._write(rows)
        return [row[0] for row in rows]

    def _next_id(self) -> int:
        """Ids are taken from the server before the row that has them, so that a row written twice is one row."""
        found = next(self._ids, None)
        if found is None:
            ((first,),) = self._rows("select nextval('attempt_blocks')")
            self._ids = iter(range(first, first + _ID_BLOCK))
            found = next(self._ids)
        return found

    def flush(self) -> None:
        if self._dirty:
            self._write(())

    def _write(self, intents: Sequence[tuple[Any, ...]]) -> None:
        rows: dict[str, Iterable[tuple[Any, ...]]] = {
            "answers": self._answer_rows(), "results": _first_of_each(self._results, 3),
            "verdicts": map(_verdict_row, _first_of_each(self._verdicts, 6)), "attempts": intents,
        }  # fmt: skip
        if self._deferred is not None:
            self._stage(rows)
        else:
            ended = sorted((attempt, outcome, cost) for outcome, cost, attempt in self._ended)
            parameters = (_json(_ENDED, ended), *(_json(_COLUMNS[table], found) for table, found in rows.items()))
            self._link.run(lambda connection: connection.execute(_write_sql(), parameters))
        self.drop_buffers()

    def _answer_rows(self) -> list[tuple[Any, ...]]:
        """What is buffered; large texts are put where they belong first."""
        rows = sorted(map(_answer_row, self._answers.values()))
        if self._texts is None:
            return rows
        large = {row[0]: self._answers[row[0]].text for row in rows if len(row[2].encode()) >= self._texts.min_bytes}
        names = dict(zip(large, self._texts.put(large.values()), strict=True))
        return [(*row[:2], "", *row[3:-1], names[row[0]]) if row[0] in names else row for row in rows]

    def _find_answers(self, keys: Sequence[str]) -> Iterable[tuple[Any, ...]]:
        return self._rows(
            "select wanted.value, answers.* from json_array_elements_text(?::json) as wanted"
            " join answers on answers.key >= wanted.value and answers.key < wanted.value || ';'",
            (_dumps(list(keys)),),
        )

    def _answers_of(self, run_id: str, draws: Sequence[tuple[str, int]]) -> Iterable[tuple[Any, ...]]:
        return self._rows(
            "select results.case_id, results.draw, results.outcome, results.scores, results.answer_key, results.latency_s,"
            " results.cost_nanousd, answers.* from json_to_recordset(?::json) as wanted (case_id text, draw integer)"
            " join results on run_id = ? and results.case_id = wanted.case_id and results.draw = wanted.draw"
            " left join answers on answers.key = results.answer_key",
            (_dumps([{"case_id": case_id, "draw": draw} for case_id, draw in draws]), run_id),
        )

    def _read_answers(self, rows: Sequence[tuple[Any, ...]]) -> list[StoredAnswer]:
        large = [row[-1] for row in rows if row[-1]]
        if large and self._texts is None:
            raise DataError(
                "texts of this store are kept elsewhere",
                where=self.where,
                hint="set `texts` as those who wrote them have",
            )
        texts = self._texts.get(large) if self._texts else {}
        return [
            read_answer((*row[:2], texts.get(row[-1], _unescape(row[2])), *map(_unescape, row[3:5]), *row[5:-1]))
            for row in rows
        ]

    def results(self, run_id: str) -> Iterator[Result]:
        return (read_result(row) for row in self._pages("results", ("case_id", "draw"), run_id, ("", -1)))

    def results_of(self, run_id: str, case_ids: Sequence[str]) -> list[Result]:
        names = ", ".join(f"results.{name}" for name in _COLUMNS["results"])
        rows = self._rows(
            f"select {names} from json_array_elements_text(?::json) as wanted"
            " join results on run_id = ? and case_id = wanted.value order by case_id, draw",
            (_dumps(list(case_ids)), run_id),
        )
        return [read_result(row) for row in rows]

    def verdicts(self, run_id: str) -> Iterator[tuple[str, int, Verdict]]:
        order = ("case_id", "draw", "vote", "judge", "swapped")
        return ((row[1], row[2], _verdict(row)) for row in self._pages("verdicts", order, run_id, ("", -1, -1, "", -1)))

    def verdicts_on(self, run_id: str, case_id: str, draw: int) -> list[Verdict]:
        rows = self._rows(
            "select * from verdicts where run_id = ? and case_id = ? and draw = ? order by vote, judge, swapped",
            (run_id, case_id, draw),
        )
        return [_verdict(row) for row in rows]

    def attempts(self, run_id: str) -> Iterator[tuple[str, str, str, int]]:
        """In the order each writer made them; those of several writers by the blocks of ids they took."""
        return ((row[2], row[3], row[4], row[5]) for row in self._pages("attempts", ("id",), run_id, (-1,)))

    def _pages(
        self, table: str, order: tuple[str, ...], run_id: str, first: tuple[Any, ...]
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of a run a page at a time, each found by where the last one ended: nothing is held open between."""
        names = list(_COLUMNS[table])
        places = [names.index(name) for name in order]
        keys, marks = ", ".join(order), ", ".join("?" * len(order))
        sql = f"select {', '.join(names)} from {table} where run_id = ? and ({keys}) > ({marks}) order by {keys} limit {_PAGE}"
        after = first
        while True:
            page = self._rows(sql, (run_id, *after))
            yield from page
            if len(page) < _PAGE:
                return
            after = tuple(page[-1][place] for place in places)

    def import_attempts(self, run_id: str, rows: Iterable[tuple[str, str, str, int]]) -> None:
        self._write([(self._next_id(), run_id, *row) for row in rows])

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """All that is added inside is written when it ends, in one transaction; nothing after an error or a kill.

        Meanwhile it lies in temporary tables, so other processes are not held up. A lost connection ends it.
        """
        self.flush()
        self._link.run(_make_stage)
        self._deferred, self._link.may_reconnect = [], False
        try:
            yield
            self.flush()
            self._link.run(
                lambda connection: self._publish(connection, [*self._removals(), *(self._deferred or [])]),
                within_s=BULK_S,
            )
        finally:
            self.drop_buffers()
            self._replaced.clear()
            self._deferred, self._link.may_reconnect = None, True
            with suppress(PromptopsError):
                self._link.run(_drop_stage)

    def _stage(self, rows: Mapping[str, Iterable[tuple[Any, ...]]]) -> None:
        def copy(connection: "psycopg.Connection") -> None:
            for table, found in rows.items():
                with connection.cursor().copy(
                    f"copy staged_{table} ({', '.join(_COLUMNS[table])}) from stdin".encode()
                ) as stream:
                    for row in found:
                        stream.write_row(row)

        self._link.run(copy)

    def _publish(self, connection: "psycopg.Connection", statements: Sequence[Statement]) -> None:
        with connection.transaction():
            for sql, parameters in statements:
                if connection.execute(_dollar(sql), parameters).rowcount == 0 and sql.startswith("insert"):
                    raise ConflictError(
                        f"run {parameters[0]} was written by another process meanwhile", where=self.where
                    )
            for table, order in _ORDER.items():
                names = ", ".join(_COLUMNS[table])
                connection.execute(
                    f"insert into {table} ({names}) select {names} from staged_{table} order by {order}, place on conflict do nothing".encode()
                )

    def delete_runs(self, run_ids: Iterable[str]) -> tuple[int, int]:
        removed = super().delete_runs(run_ids)
        if self._texts:
            self._texts.sweep(self._used_texts, datetime.now(UTC))
        return removed

    def _used_texts(self, names: list[str]) -> set[str]:
        rows = self._rows(
            "select distinct text_sha256 from answers join json_array_elements_text(?::json) as wanted on text_sha256 = wanted.value",
            (_dumps(names),),
        )
        return {str(row[0]) for row in rows}

    def _kept(self, table: str) -> str:
        return table


def _conninfo(address: "StoreAddress") -> str:
    """With waits that end, and over TLS to another host unless the address or PGSSLMODE says otherwise."""
    import psycopg
    from psycopg import conninfo

    settings = {
        "connect_timeout": "10",
        "application_name": "promptops",
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
    }
    if address.hosts and not address.is_local and "PGSSLMODE" not in os.environ:
        settings["sslmode"] = "require"
    try:
        stated = conninfo.conninfo_to_dict(address.connection)
    except psycopg.ProgrammingError as error:
        raise DataError("not the address of a PostgreSQL database", where=address.shown, why=re.sub(r'".*"', "…", str(error).strip()),
                        hint="write postgresql://USER@HOST/DATABASE") from None  # fmt: skip
    return conninfo.make_conninfo(**{**settings, **{name: str(value) for name, value in stated.items()}})


def open_postgres(address: "StoreAddress") -> PostgresStore:
    """Connect, and make or upgrade the tables when this login may. Raises DataError when psycopg is not installed, and as `open_store`."""
    if find_spec("psycopg") is None:
        raise DataError(
            "the shared store needs the package `psycopg`",
            where=address.shown,
            hint="pip install 'promptops[postgres]'",
        )
    return PostgresStore(address)


def _was_committed(connection: "psycopg.Connection", transaction: str) -> bool:
    """Whether a transaction of a connection that broke counts. It ends before it is asked for, or the server ends it now."""
    import psycopg

    ((status,),) = connection.execute("select pg_xact_status(%s::xid8)", (transaction,)).fetchall()
    if status == "in progress":
        raise psycopg.errors.ConnectionDoesNotExist(
            "the old session has not ended"
        )  # tried again, as a lost connection
    return bool(status == "committed")


def _make_stage(connection: "psycopg.Connection") -> None:
    _drop_stage(connection)
    for table, columns in _COLUMNS.items():
        kinds = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        connection.execute(
            f"create temp table staged_{table} ({kinds}, place bigint generated always as identity)".encode()
        )


def _drop_stage(connection: "psycopg.Connection") -> None:
    for table in _COLUMNS:
        connection.execute(f"drop table if exists pg_temp.staged_{table}".encode())


@lru_cache
def _dollar(sql: str) -> bytes:
    """SQL of all stores as psycopg takes it."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


@lru_cache
def _write_sql() -> bytes:
    """All that is buffered in one statement: one round trip, and all of it or nothing."""
    ended = ", ".join(f"{name} {kind}" for name, kind in _ENDED.items())
    parts = {table: _insert_sql(table) for table in _COLUMNS}
    return (
        f"with ended as (update attempts set outcome = found.outcome, cost_nanousd = found.cost_nanousd"
        f" from json_to_recordset(%s::json) as found ({ended}) where attempts.id = found.id),"
        f" kept_answers as ({parts['answers']}), kept_results as ({parts['results']}), kept_verdicts as ({parts['verdicts']}) {parts['attempts']}"
    ).encode()


def _insert_sql(table: str) -> str:
    names = ", ".join(_COLUMNS[table])
    kinds = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS[table].items())
    return f"insert into {table} ({names}) select {names} from json_to_recordset(%s::json) as found ({kinds}) on conflict do nothing"


def _json(columns: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> str:
    names = tuple(columns)
    return _dumps([dict(zip(names, row, strict=True)) for row in rows])


def _dumps(value: object) -> str:
    import orjson

    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:  # a number of more than 64 bits, half a surrogate pair
        raise OverflowError(str(error)) from error


def _first_of_each(rows: Iterable[tuple[Any, ...]], width: int) -> list[tuple[Any, ...]]:
    """In order of what identifies a row, its first `width` fields; of several with the same the first."""
    first: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in rows:
        first.setdefault(row[:width], row)
    return [first[key] for key in sorted(first)]


def _answer_row(answer: StoredAnswer) -> tuple[Any, ...]:
    key, outcome, text, detail, model, *rest = answer_row(answer)
    return (key, outcome, _escape(text), _escape(detail), _escape(model), *rest, "")


def _verdict_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    *head, detail, scores = row
    return (*head, _escape(detail), scores)


def _verdict(row: tuple[Any, ...]) -> Verdict:
    *head, detail, scores = row[3:]
    return read_verdict((*head, _unescape(detail), scores))


def _escape(text: str) -> str:
    """PostgreSQL takes every character but NUL, which a model may well write."""
    if "\x00" not in text and _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE, _ESCAPE + "1").replace("\x00", _ESCAPE + "0")


def _unescape(text: str | None) -> str | None:
    if text is None or _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE + "0", "\x00").replace(_ESCAPE + "1", _ESCAPE)
