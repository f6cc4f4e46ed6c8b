"""One read-only statement, in the dialect of the database that will run it."""

import sqlite3
from pathlib import Path

import pytest

from promptops.core.checks import CaseFacts, Completion, Score, Sql, Unscored
from promptops.core.sql import explain_fault, read_only_fault

ANY = ("sqlite", "postgres", "mysql")
HOSTILE = {
    ANY: [
        "DELETE FROM t", "UPDATE t SET a = 1", "INSERT INTO t VALUES (1)", "INSERT INTO t SELECT 1", "DROP TABLE t", "CREATE TABLE x (a int)",
        "ALTER TABLE t ADD b int", "TRUNCATE TABLE t", "GRANT ALL ON t TO x", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT x", "ANALYZE t",
        "SELECT 1; DROP TABLE t", "SELECT 1;; SELECT 2", "SELECT 1 -- x\n; DELETE FROM t", "SELECT 1 /* x */; DELETE FROM t",
        "WITH x AS (SELECT 1) DELETE FROM t", "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "CREATE VIEW v AS SELECT 1",
        "EXPLAIN DELETE FROM t", "(DELETE FROM t)", "SELECT * FROM (DELETE FROM t) x", "SELECT 1\x00; DROP TABLE t", "DELETE FROM t RETURNING *",
        "", " ", ";", "-- nothing", "/* SELECT 1 */", "not sql", "```sql\nSELECT 1\n```", "Here is the query: SELECT 1", "SELECT FROM WHERE",
        "SELECT 'open", "SELECT (1", "SELECT " + "(" * 5000 + "1" + ")" * 5000, "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
    ],
    ("sqlite",): [
        "PRAGMA journal_mode = DELETE", "PRAGMA user_version", "ATTACH DATABASE 'x' AS y", "DETACH y", "VACUUM", "VACUUM INTO 'x.db'", "REINDEX",
        "REPLACE INTO t VALUES (1)", "INSERT OR REPLACE INTO t VALUES (1)", "SELECT load_extension('x')", 'SELECT "load_extension"(\'x\')',
        "select LOAD_EXTENSION /* x */ ('x')", "SELECT readfile('/etc/passwd')", "SELECT writefile('x', 'y')", "SELECT edit('x')",
        "SELECT * FROM fsdir('/')", "SELECT fts3_tokenizer('x', 1)", "SELECT a FROM t WHERE b = (SELECT writefile('x', 'y'))",
    ],
    ("postgres",): [
        "SELECT * INTO x FROM t", "COPY t TO '/tmp/x'", "COPY t TO PROGRAM 'sh'", "COPY (SELECT 1) TO '/tmp/x'", "DO $$ BEGIN DELETE FROM t; END $$",
        "SELECT * FROM t FOR UPDATE", "SELECT * FROM t FOR SHARE", "SELECT * FROM t FOR NO KEY UPDATE", "SELECT * FROM (SELECT 1 FROM t FOR UPDATE) x",
        "CALL f()", "PREPARE x AS DELETE FROM t", "EXECUTE x", "SET ROLE postgres", "RESET ALL", "LOCK TABLE t", "NOTIFY x", "LISTEN x", "CHECKPOINT",
        "REFRESH MATERIALIZED VIEW v", "CREATE FUNCTION f() RETURNS int AS $$ SELECT 1 $$ LANGUAGE sql", "EXPLAIN ANALYZE DELETE FROM t",
        "WITH d AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM d", "WITH d AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM d",
        "SELECT pg_sleep(10)", "SELECT pg_catalog.pg_sleep(10)", "SELECT * FROM pg_sleep(1)", "SELECT pg_sleep_for('5 min')", 'SELECT U&"pg\\005fsleep"(1)',
        "SELECT pg_read_file('/etc/passwd')", "SELECT pg_stat_file('x')", "SELECT pg_ls_dir('.')", "SELECT pg_terminate_backend(1)",
        "SELECT pg_advisory_xact_lock(1)", "SELECT pg_switch_wal()", "SELECT pg_promote()", "SELECT pg_logical_emit_message(true, 'a', 'b')",
        "SELECT lo_import('/etc/passwd')", "SELECT lo_export(1, '/x')", "SELECT lo_unlink(1)", "SELECT lo_from_bytea(0, 'x')",
        "SELECT dblink_exec('x', 'DELETE')", "SELECT * FROM dblink('x', 'y') AS t(a int)", "SELECT setval('s', 1)", "SELECT nextval('s')",
        "SELECT set_config('a', 'b', false)", "SELECT query_to_xml('DELETE FROM t', true, true, '')", "SELECT ts_stat('SELECT 1')",
    ],
    ("mysql",): [
        "SELECT 1 INTO OUTFILE '/tmp/x'", "SELECT 1 INTO DUMPFILE '/tmp/x'", "SELECT 1 INTO @x", "SELECT @a := 1", "SET @a = 1", "SET GLOBAL x = 1",
        "SELECT LOAD_FILE('/etc/passwd')", "SELECT `load_file`('x')", "SELECT SLEEP(10)", "SELECT BENCHMARK(1000000000, MD5('x'))",
        "SELECT benchmark /**/ (1, 2)", "SELECT GET_LOCK('a', 1)", "SELECT RELEASE_LOCK('a')", "SELECT * FROM t LOCK IN SHARE MODE",
        "SELECT * FROM t FOR UPDATE", "SELECT 1 /*!; DROP TABLE t */", "SELECT /*!50000 SLEEP(5) */ 1", "SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */",
        "SELECT 1 /*M!100100 INTO OUTFILE '/tmp/x' */", "SELECT 1 # x\n; DROP TABLE t", "LOAD DATA INFILE 'x' INTO TABLE t", "REPLACE INTO t VALUES (1)",
        "FLUSH TABLES", "KILL 1", "HANDLER t OPEN", "CALL p()", "DO SLEEP(5)", "USE mysql", "SHUTDOWN", "RENAME TABLE a TO b", "LOCK TABLES t WRITE",
        "OPTIMIZE TABLE t", "PREPARE s FROM 'DELETE FROM t'", "EXECUTE s", "XA START 'x'", "BINLOG 'x'", "RESET MASTER", "SELECT sys_exec('x')",
    ],
}  # fmt: skip
HONEST = {
    ANY: [
        "SELECT 1", "select a, b from t where a = 1", "SELECT 1;", " SELECT 1 ; \n", "SELECT a FROM t; -- the list", "SELECT 1 -- done",
        "SELECT count(*), sum(b) AS total FROM t GROUP BY a HAVING count(*) > 1 ORDER BY 2 DESC LIMIT 10 OFFSET 5",
        "SELECT t.a FROM t JOIN s ON s.a = t.a LEFT JOIN r ON r.b = s.b", "SELECT a FROM t UNION ALL SELECT b FROM s", "(SELECT 1) UNION (SELECT 2)",
        "WITH x AS (SELECT a FROM t) SELECT * FROM x", "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 9) SELECT n FROM x",
        "SELECT a, row_number() OVER (PARTITION BY b ORDER BY c) FROM t", "SELECT CASE WHEN a > 1 THEN 'x' ELSE 'y' END FROM t",
        "SELECT a FROM t WHERE b IN (SELECT b FROM s) AND EXISTS (SELECT 1 FROM r)", "SELECT REPLACE(a, 'x', 'y'), lower(b), coalesce(c, 0) FROM t",
        "SELECT a FROM t WHERE note LIKE '%; DROP TABLE t;%'", 'SELECT a AS "update" FROM t', "SELECT deleted, updated_at, insert_count FROM t",
        "SELECT CAST(a AS char(10)), abs(-1), round(b, 2) FROM t", "SELECT '-- no comment', '/*! text */'", "SELECT " + "1+" * 2000 + "1",
    ],
    ("sqlite",): ["VALUES (1)", "SELECT date('now', '-1 day'), json_extract(a, '$.b') FROM t", "SELECT a FROM t WHERE a GLOB 'x*'"],
    ("postgres",): [
        "SELECT a::int, b ->> 'c' FROM t WHERE d ILIKE 'x%'", "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a", "SELECT date_trunc('month', a) FROM t",
        "SELECT $$; DELETE FROM t; $$", "SELECT generate_series(1, 3)", "SELECT pg_typeof(a), pg_size_pretty(pg_relation_size('t')) FROM t",
        "SELECT a FROM t WHERE b = ANY(ARRAY[1, 2])", "SELECT a FILTER_ FROM t", "SELECT string_agg(a, ',') FILTER (WHERE b) FROM t",
    ],
    ("mysql",): ['SELECT `a` FROM `t` WHERE b = "x"', "SELECT GROUP_CONCAT(a), DATE_FORMAT(b, '%Y-%m') FROM t", "SELECT INSERT('a', 1, 1, 'b')"],
}  # fmt: skip


def _rows(table: dict[tuple[str, ...], list[str]]) -> list[tuple[str, str]]:
    return [
        (dialect, statement)
        for dialects, statements in table.items()
        for dialect in dialects
        for statement in statements
    ]


@pytest.mark.parametrize(("dialect", "statement"), _rows(HOSTILE), ids=lambda value: value[:50])
def test_what_writes_locks_waits_or_is_no_statement_is_refused(dialect: str, statement: str):
    """Whatever the first word is: writes in a CTE, side effects of functions, a second statement, comments that run."""
    assert read_only_fault(statement, dialect)


@pytest.mark.parametrize(("dialect", "statement"), _rows(HONEST), ids=lambda value: value[:50])
def test_an_honest_query_passes(dialect: str, statement: str):
    """Words of writing in strings, names and comments are no reason."""
    assert "" == read_only_fault(statement, dialect)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("SELECT 1; SELECT 2", "2 statements instead of one"),
        ("-- nothing", "0 statements instead of one"),
        ("DELETE FROM t", "Delete is not a read-only statement"),
        ("SELECT * FROM t FOR UPDATE", "locks rows (FOR UPDATE / FOR SHARE)"),
        ("SELECT pg_sleep(1)", "calls pg_sleep"),
        ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "contains Delete"),
    ],
)
def test_a_fault_says_what_is_wrong(statement: str, fault: str):
    """The first fault found, in words."""
    assert fault == read_only_fault(statement, "postgres")


def test_a_foreign_dialect_is_read_in_its_own_grammar():
    """Backquotes quote names in MySQL and are no SQL in Postgres."""
    assert ("", True) == (
        read_only_fault("SELECT `a` FROM t", "mysql"),
        bool(read_only_fault("SELECT `a` FROM t", "postgres")),
    )


DDL = "CREATE TABLE tickets (id INTEGER PRIMARY KEY, label TEXT);"


@pytest.mark.parametrize(
    ("statement", "passed", "reason"),
    [
        ("SELECT label, count(*) FROM tickets GROUP BY label", True, "one read-only statement"),
        ("SELECT labels FROM tickets", False, "does not prepare: no such column: labels"),
        ("SELECT label FROM ticket", False, "does not prepare: no such table: ticket"),
        ("DELETE FROM tickets", False, "Delete is not a read-only statement"),
    ],
)
def test_sql_check_prepares_the_statement_on_the_tables(statement: str, *, passed: bool, reason: str):
    """With `ddl`, a query for a column that does not exist fails; nothing is executed."""
    check = Sql(name="sql", ddl=DDL)

    assert Score(check="sql", passed=passed, reason=reason) == check.score(
        Completion.of(statement, "text"), CaseFacts(category="c", inputs={})
    )


def test_sql_check_with_broken_tables_is_unscored():
    """The fault is the suite's, not the answer's."""
    score = Sql(name="sql", ddl="CREATE TABLE (").score(
        Completion.of("SELECT 1", "text"), CaseFacts(category="c", inputs={})
    )

    assert Unscored(check="sql", reason='the ddl of the check does not run: near "(": syntax error') == score


def test_explaining_executes_nothing(tmp_path: Path):
    """EXPLAIN prepares; an attached file would prove the contrary."""
    assert "" == explain_fault(f"ATTACH '{tmp_path}/made.db' AS x", DDL)
    assert [] == list(tmp_path.iterdir())
    with pytest.raises(sqlite3.Error):
        explain_fault("SELECT 1", "nonsense")
