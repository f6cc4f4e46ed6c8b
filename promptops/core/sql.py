"""Is this text one read-only SQL statement?"""

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

_READS = frozenset(("Select", "SetOperation", "Union", "Except", "Intersect", "Subquery", "With", "Values", "Describe"))
_UNSAFE_FUNCTIONS = frozenset((
    "load_extension", "readfile", "writefile", "edit", "fsdir", "fts3_tokenizer", "set_config", "query_to_xml",
    "query_to_xmlschema", "query_to_xml_and_xmlschema", "cursor_to_xml", "ts_stat", "load_file", "sleep", "benchmark",
    "sys_exec", "sys_eval", "xp_cmdshell", "openrowset", "opendatasource", "openquery", "nextval", "setval",
    "get_lock", "release_lock", "release_all_locks", "master_pos_wait", "source_pos_wait", "txid_current",
))  # fmt: skip
_UNSAFE_FAMILIES = ("pg_", "lo_", "dblink", "binary_upgrade_", "wait_for_executed_gtid")
_HARMLESS = re.compile(
    r"pg_(?:typeof|get_\w+|\w+_is_visible|(?:column|table|relation|indexes|total_relation|database|tablespace)_size"
    r"|size_pretty|size_bytes|is_in_recovery|postmaster_start_time|encoding_to_char|char_to_encoding)"
)
_PLAIN_NAME = re.compile(r"[\w$.]+")

_SILENT = logging.NullHandler()


def read_only_fault(text: str, dialect: str) -> str:
    """Why `text` is not exactly one read-only statement in the dialect ('' when it is one)."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    logging.getLogger("sqlglot").addHandler(_SILENT)  # it warns on stderr about what we report ourselves
    if "\x00" in text:
        return "contains NUL"
    try:
        if any(
            comment.startswith(("!", "M!")) for token in sqlglot.tokenize(text, dialect) for comment in token.comments
        ):
            return "a comment that MySQL runs"
        parsed = sqlglot.parse(text, dialect=dialect)
    except (SqlglotError, RecursionError) as error:
        return f"does not parse as {dialect}: {str(error).partition(chr(10))[0][:120]}"
    statements = [item for item in parsed if item is not None and type(item).__name__ != "Semicolon"]
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
        elif isinstance(node, exp.PropertyEQ) and isinstance(node.this, exp.Parameter):
            yield "assigns a variable"
        elif isinstance(node, exp.Lock):
            yield "locks rows (FOR UPDATE / FOR SHARE)"
        elif isinstance(node, exp.Func):
            name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
            if _is_unsafe(name):
                yield f"calls {name[:60]}"


def _is_unsafe(name: str) -> bool:
    listed = name in _UNSAFE_FUNCTIONS or (name.startswith(_UNSAFE_FAMILIES) and not _HARMLESS.fullmatch(name))
    return listed or (name != "" and not _PLAIN_NAME.fullmatch(name))


def explain_fault(statement: str, ddl: str) -> str:
    """Why SQLite cannot prepare the statement on tables made by `ddl` ('' when it can). Nothing is executed.

    Raises sqlite3.Error when the ddl itself fails.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(ddl)
        connection.setlimit(sqlite3.SQLITE_LIMIT_VDBE_OP, 100_000)
        try:
            connection.execute("EXPLAIN " + statement)
        except (sqlite3.Error, sqlite3.Warning) as error:
            return f"does not prepare: {str(error)[:120]}"
    return ""
