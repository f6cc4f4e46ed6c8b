"""Is this text one read-only SQL statement?"""

import logging
import sqlite3
from collections.abc import Iterator

_READS = frozenset(("Select", "SetOperation", "Union", "Except", "Intersect", "Subquery", "With", "Values", "Describe"))
_UNSAFE_FUNCTIONS = frozenset((
    "load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "pg_read_file", "pg_read_binary_file",
    "pg_ls_dir", "pg_sleep", "lo_import", "lo_export", "dblink", "dblink_exec", "pg_terminate_backend",
    "pg_cancel_backend", "set_config", "pg_reload_conf", "query_to_xml", "load_file", "sleep", "benchmark", "sys_exec",
    "sys_eval", "xp_cmdshell", "openrowset", "opendatasource", "nextval", "setval", "pg_advisory_lock", "pg_notify",
))  # fmt: skip

_SILENT = logging.NullHandler()


def read_only_fault(text: str, dialect: str) -> str:
    """Why `text` is not exactly one read-only statement in the dialect ('' when it is one)."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    logging.getLogger("sqlglot").addHandler(_SILENT)  # it warns on stderr about what we report ourselves
    if "\x00" in text:
        return "contains NUL"
    try:
        statements = [item for item in sqlglot.parse(text, dialect=dialect) if item is not None]
    except (SqlglotError, RecursionError) as error:
        return f"does not parse as {dialect}: {str(error).partition(chr(10))[0][:120]}"
    if len(statements) != 1:
        return f"{len(statements)} statements instead of one"
    return next(_write_faults(statements[0]), "")


def _write_faults(tree: object) -> Iterator[str]:
    from sqlglot import exp

    assert isinstance(tree, exp.Expression)
    if type(tree).__name__ not in _READS:
        yield f"{type(tree).__name__} is not a read-only statement"
    for node in tree.walk():
        if isinstance(
            node, exp.DML | exp.DDL | exp.Command | exp.Set | exp.Pragma | exp.Transaction
        ) and not isinstance(node, exp.Query):
            yield f"contains {type(node).__name__}"
        elif isinstance(node, exp.Into):
            yield "SELECT ... INTO writes a table"
        elif isinstance(node, exp.Lock):
            yield "locks rows (FOR UPDATE / FOR SHARE)"
        elif isinstance(node, exp.Func):
            name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
            if name in _UNSAFE_FUNCTIONS:
                yield f"calls {name}"


def explain_fault(statement: str, ddl: str) -> str:
    """Why SQLite cannot prepare the statement on tables made by `ddl` ('' when it can). Nothing is executed.

    Raises sqlite3.Error when the ddl itself fails.
    """
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(ddl)
        connection.setlimit(sqlite3.SQLITE_LIMIT_VDBE_OP, 100_000)
        try:
            connection.execute("EXPLAIN " + statement)
        except (sqlite3.Error, sqlite3.Warning) as error:
            return f"does not prepare: {str(error)[:120]}"
    return ""
