"""Databases that SQL answers are run against, to read only: SQLite files, and PostgreSQL with a role that can write nothing."""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from promptops.core.checks import Check, Only, Sql
from promptops.core.checks.sources import NotRun
from promptops.core.errors import DataError, RefusedError

if TYPE_CHECKING:
    import psycopg

VARIABLE = "PROMPTOPS_DATABASE_"
_MAX_VALUE_BYTES = 1_000_000
_STEPS = 1_000
_GRACE_S = 0.5
_IDLE = 4
_READS = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE))
_FUNCTIONS = frozenset((
    "abs", "acos", "asin", "atan", "atan2", "avg", "ceil", "ceiling", "char", "coalesce", "concat", "concat_ws", "cos", "count", "cume_dist",
    "current_date", "current_time", "current_timestamp", "date", "datetime", "degrees", "dense_rank", "exp", "first_value", "floor", "glob",
    "group_concat", "hex", "ifnull", "iif", "instr", "json", "json_array", "json_array_length", "json_extract", "json_group_array",
    "json_group_object", "json_object", "json_type", "json_valid", "julianday", "lag", "last_value", "lead", "length", "like", "ln", "log", "log10",
    "log2", "lower", "ltrim", "max", "min", "mod", "nth_value", "ntile", "nullif", "octet_length", "percent_rank", "pi", "pow", "power", "quote",
    "radians", "rank", "replace", "round", "row_number", "rtrim", "sign", "sin", "sqrt", "strftime", "string_agg", "substr", "substring", "sum", "tan",
    "time", "timediff", "total", "trim", "trunc", "typeof", "unicode", "unixepoch", "upper", "->", "->>",
))  # fmt: skip
"""Functions that read nothing but their arguments, and make no more of them."""

_AWAY = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB))  # fmt: skip
_MAY_WRITE = """
SELECT CASE
  WHEN r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls THEN 'it has administrative rights'
  WHEN EXISTS (SELECT 1 FROM pg_roles m WHERE m.rolname IN ('pg_write_all_data', 'pg_write_server_files', 'pg_read_server_files',
               'pg_execute_server_program', 'pg_signal_backend', 'pg_checkpoint', 'pg_maintain') AND pg_has_role(m.oid, 'MEMBER')) THEN 'it is a member of a role of the system'
  WHEN has_database_privilege(current_database(), 'CREATE') THEN 'it may create schemas'
  WHEN EXISTS (SELECT 1 FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
               AND has_schema_privilege(n.oid, 'CREATE')) THEN 'it may create tables'
  WHEN EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
               AND (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR has_any_column_privilege(c.oid, 'INSERT, UPDATE')))
    THEN 'it may change tables'
  WHEN EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'
               AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'USAGE, UPDATE') ELSE false END) THEN 'it may advance sequences'
  ELSE '' END
FROM pg_roles r WHERE r.rolname = current_user
"""


class Database(Protocol):
    """Runs a statement that reads, and keeps nothing of what it gives."""

    def run(self, statement: str, timeout_s: float, max_rows: int) -> str:
        """Why it does not run, takes too long or gives too much; '' when it does. Raises NotRun when the database cannot be asked."""
        ...


def open_database(address: str, *, where: str = "") -> Database:
    """The database at `sqlite:FILE` or `postgresql://...`. Nothing is opened before the first statement. Raises DataError."""
    kind, _, rest = address.partition(":")
    if kind == "sqlite" and rest:
        return SqliteDatabase(Path(rest))
    if kind in ("postgresql", "postgres") and rest.startswith("//"):
        from importlib.util import find_spec

        if find_spec("psycopg") is None:
            raise DataError("PostgreSQL needs the extra `postgres`", where=where, hint="pip install 'promptops[postgres]'")  # fmt: skip
        return PostgresDatabase(address)
    raise DataError("not the address of a database", where=where, hint="sqlite:FILE or postgresql://ROLE@HOST/NAME")


def variable_of(alias: str) -> str:
    """The environment variable that says where a database is."""
    return VARIABLE + alias.upper().replace("-", "_")


def connected(check: Check, opened: Callable[[str], Database]) -> Check:
    """The check with its database, if it names one; others as they are."""
    from dataclasses import replace

    if isinstance(check, Only):
        return replace(check, check=connected(check.check, opened))
    return replace(check, run=opened(check.database).run) if isinstance(check, Sql) and check.database else check


class Databases:
    """Databases by alias, each opened once: given by the service, or named by a variable of the environment."""

    def __init__(self, given: Mapping[str, str], environment: Mapping[str, str] | None = None) -> None:
        self._given = given
        self._environment = os.environ if environment is None else environment
        self._opened: dict[str, Database] = {}

    def __call__(self, alias: str) -> Database:
        """Raises DataError when nothing says where it is."""
        if alias not in self._opened:
            variable = variable_of(alias)
            address = self._given.get(alias) or self._environment.get(variable, "").strip()
            if not address:
                raise DataError(f"nothing says where database {alias!r} is", hint=f"set {variable}=sqlite:FILE or postgresql://ROLE@HOST/NAME")  # fmt: skip
            self._opened[alias] = open_database(address, where=f"database {alias}")
        return self._opened[alias]


class SqliteDatabase:
    """A SQLite file, opened for each statement: read-only by its mode and by an authorizer, with a clock that interrupts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def run(self, statement: str, timeout_s: float, max_rows: int) -> str:
        deadline = time.monotonic() + timeout_s
        try:
            with closing(self._open(timeout_s)) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
                return self._rows(connection, statement, max_rows)
        except UnicodeError:
            return "does not run: it is no text"
        except (sqlite3.Error, sqlite3.Warning) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _AWAY:
                raise NotRun(f"the database cannot be read: {str(error)[:120]}") from error
            if code == sqlite3.SQLITE_INTERRUPT:
                return f"takes longer than {timeout_s:g} s"
            return f"does not run: {str(error)[:120]}"

    def _open(self, timeout_s: float) -> sqlite3.Connection:
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout_s, isolation_level=None, cached_statements=0)  # fmt: skip
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            for limit, value in (
                (sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES), (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000), (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
                (sqlite3.SQLITE_LIMIT_VDBE_OP, 100_000), (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 200), (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 50),
            ):  # fmt: skip
                connection.setlimit(limit, value)
            connection.set_authorizer(_authorize)
        except BaseException:
            connection.close()
            raise
        return connection

    def _rows(self, connection: sqlite3.Connection, statement: str, max_rows: int) -> str:
        cursor = connection.execute(statement)
        for count, _ in enumerate(cursor, 1):
            if count > max_rows:
                return f"gives more than {max_rows} rows"
        return ""


def _authorize(action: int, _table: str | None, name: str | None, _database: str | None, _trigger: str | None) -> int:
    """Selecting and reading, and functions of the list; everything else is denied when the statement is prepared."""
    allowed = action in _READS or (action == sqlite3.SQLITE_FUNCTION and (name or "").lower() in _FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


class PostgresDatabase:
    """A PostgreSQL database: a role that can write nothing, a transaction that only reads, time limits on the server and here.

    A statement is run by EXPLAIN ANALYZE, so that no row leaves the server, whatever its size.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._idle: list[psycopg.Connection[tuple[object, ...]]] = []
        self._pid = os.getpid()
        weakref.finalize(self, _close_all, self._idle, self._pid)

    def run(self, statement: str, timeout_s: float, max_rows: int) -> str:
        import psycopg

        if "\0" in statement or not _is_text(statement):
            return "does not run: it is no text"
        try:
            with self.reading(timeout_s) as cursor:
                try:
                    # Binary means the extended protocol, which takes one statement only, whatever a parser here thought of it.
                    cursor.execute(
                        b"EXPLAIN (ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON) " + statement.encode(), binary=True
                    )
                    row = cursor.fetchone()
                except psycopg.errors.QueryCanceled:
                    return f"takes longer than {timeout_s:g} s"
                except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError, psycopg.InternalError, psycopg.IntegrityError) as error:  # fmt: skip
                    return f"does not run: {_first_line(error)}"
        except psycopg.Error as error:
            raise NotRun(f"the database cannot be asked: {_first_line(error)}") from error
        rows = _rows_of(row)
        return f"gives more than {max_rows} rows" if rows > max_rows else ""

    @contextmanager
    def reading(self, timeout_s: float) -> "Iterator[psycopg.Cursor[tuple[object, ...]]]":
        """A cursor in a read-only transaction that ends, here or on the server, soon after `timeout_s`.

        Raises psycopg.Error when the server is away, RefusedError (and never runs anything) when the role can write.
        """
        until = time.monotonic() + timeout_s + _GRACE_S
        connection = self._take(timeout_s)
        clock = threading.Timer(max(0.05, until - time.monotonic()), _hang_up, [connection])
        clock.daemon = True
        clock.start()
        healthy = False
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{max(1, int(timeout_s * 1000))}ms"])
            yield cursor
            connection.rollback()
            healthy = True
        finally:
            clock.cancel()
            self._give_back(connection, healthy=healthy)

    def _take(self, timeout_s: float) -> "psycopg.Connection[tuple[object, ...]]":
        with self._lock:
            if self._pid != os.getpid():  # a forked child opens its own; those of the parent are not touched
                self._pid = os.getpid()
                _INHERITED.extend(self._idle)
                self._idle = []
                weakref.finalize(self, _close_all, self._idle, self._pid)
            if self._idle:
                return self._idle.pop()
        return self._connect(timeout_s)

    def _connect(self, timeout_s: float) -> "psycopg.Connection[tuple[object, ...]]":
        import psycopg

        options = "-c default_transaction_read_only=on -c idle_in_transaction_session_timeout=60000 -c lock_timeout=1000 -c max_parallel_workers_per_gather=0"
        connection = psycopg.connect(self._url, connect_timeout=max(2, int(timeout_s) + 1), options=options, application_name="promptops")  # fmt: skip
        try:
            connection.read_only = True
            row = connection.execute(_MAY_WRITE).fetchone()
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        if row is None or row[0]:
            connection.close()
            raise RefusedError("the database role can write", why=str(row[0]) if row else "nobody knows what it may do",
                               hint="CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader; and no more than that")  # fmt: skip
        return connection

    def _give_back(self, connection: "psycopg.Connection[tuple[object, ...]]", *, healthy: bool) -> None:
        if healthy and self._pid == os.getpid():
            with self._lock:
                if len(self._idle) < _IDLE:
                    self._idle.append(connection)
                    return
        connection.close()


_INHERITED: "list[psycopg.Connection[tuple[object, ...]]]" = []
"""Connections of a parent process: closing them here would end them there."""


def _close_all(idle: "list[psycopg.Connection[tuple[object, ...]]]", pid: int) -> None:
    if pid == os.getpid():
        for connection in idle:
            connection.close()


def _hang_up(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    """End the connection of a server that does not answer; whoever waits for it gets an error at once."""
    import socket

    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (OSError, Exception):  # noqa: BLE001, S110 - it is gone already
        pass


def _is_text(statement: str) -> bool:
    try:
        statement.encode()
    except UnicodeError:
        return False
    return True


def _rows_of(row: tuple[object, ...] | None) -> int:
    """Rows of the outermost node of a plan that was run."""
    import json

    found = row[0] if row else None
    plan = json.loads(found) if isinstance(found, str | bytes) else found
    try:
        node = plan[0]["Plan"]  # type: ignore[index]
        return int(node["Actual Rows"] * node["Actual Loops"])
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise NotRun("the server gave no plan") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:160]
