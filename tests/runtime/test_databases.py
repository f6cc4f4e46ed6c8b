"""SQL answers that are run: to read only, within limits, on SQLite files and a real PostgreSQL server."""

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Sandbox
from promptops.core.checks import CaseFacts, Completion, Score, Sql, Unscored
from promptops.core.checks.sources import NotRun
from promptops.core.errors import DataError, RefusedError
from promptops.runtime import Runtime
from promptops.runtime.databases import (
    Database,
    Databases,
    PostgresDatabase,
    SqliteDatabase,
    open_database,
    variable_of,
)
from runtime.bundles import NAME, Scripted, make_bundle, ok
from support.postgresql import PostgresServer

_TABLES = ("CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT, total INTEGER)", "INSERT INTO orders VALUES (1, 'Kyoto', 30), (2, 'Bonn', 20), (3, 'Bonn', 5)")  # fmt: skip
_FACTS = CaseFacts(category="c", inputs={})
_FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.sqlite3"
    with sqlite3.connect(path) as connection:
        for statement in _TABLES:
            connection.execute(statement)
    connection.close()
    return path


@pytest.fixture
def reader(postgres_server: PostgresServer, postgres_database: str) -> str:
    """The address of a database with a role that may read one table."""
    role = f"reader_{postgres_database}"
    postgres_server.execute(
        *_TABLES,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT ON orders TO {role}",
        database=postgres_database,
    )
    return postgres_server.url(postgres_database, f"{role}:x")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    if request.param == "sqlite":
        return SqliteDatabase(request.getfixturevalue("shop"))
    return PostgresDatabase(request.getfixturevalue("reader"))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT city, sum(total) FROM orders GROUP BY city ORDER BY 2 DESC", ""),
        ("WITH big AS (SELECT * FROM orders WHERE total > 10) SELECT count(*) FROM big", ""),
        ("SELECT upper(city) || '%' FROM orders WHERE city LIKE 'B%'", ""),
        ("SELECT id FROM orders", ""),
        ("SELECT a.id FROM orders a, orders b", "gives more than 3 rows"),
        ("SELECT nothing FROM orders", "does not run: "),
        ("SELECT * FROM nowhere", "does not run: "),
        ("SELEC 1", "does not run: "),
    ],
)
def test_T27_a_statement_that_reads_is_run(database: Database, statement: str, expected: str) -> None:
    """What runs passes; what does not says why; more rows than allowed are a fault."""
    found = database.run(statement, 5.0, 3)

    assert (expected, True) == (
        found if not expected.endswith(": ") else found[: len(expected)],
        bool(found) == bool(expected),
    )


def test_T28_a_statement_that_does_not_end_is_stopped(database: Database) -> None:
    """By the database itself, after the time it was given."""
    assert "takes longer than 0.2 s" == database.run(_FOREVER.replace("count(*)", "count(i)"), 0.2, 10)


WRITES = [
    "DELETE FROM orders", "UPDATE orders SET total = 0", "INSERT INTO orders VALUES (9, 'x', 1)", "DROP TABLE orders", "CREATE TABLE x (i INTEGER)",
    "SELECT 1; DELETE FROM orders", "BEGIN; DELETE FROM orders; COMMIT",
    "WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d", "VACUUM",
]  # fmt: skip


@pytest.mark.parametrize("statement", WRITES)
def test_T27_nothing_is_written_even_without_the_parser(
    database: Database, request: pytest.FixtureRequest, statement: str
) -> None:
    """The statement goes to the database as it is, past the check's own reading of SQL: the database refuses it."""
    assert database.run(statement, 5.0, 10).startswith("does not run: ")
    assert "" == database.run(
        "SELECT 1 FROM orders WHERE (SELECT count(*) FROM orders) = 3 AND (SELECT sum(total) FROM orders) = 55", 5.0, 3
    )
    assert "gives more than 0 rows" == database.run(
        "SELECT 1 FROM orders WHERE (SELECT sum(total) FROM orders) = 55", 5.0, 0
    )


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH 'other.db' AS other", "PRAGMA writable_schema=1", "PRAGMA query_only=OFF", "SELECT load_extension('x')", "SELECT randomblob(100000000)",
        "SELECT zeroblob(1000000000)", "SELECT printf('%100000000d', 1)", "SELECT * FROM pragma_database_list", "SELECT writefile('x', 'y')",
        "SELECT fts3_tokenizer('x')", "SELECT hex(replace(hex(zeroblob(1000)), '0', hex(zeroblob(1000))))", "SELECT sqlite_version()", "DETACH main", "SAVEPOINT a",
    ],
)  # fmt: skip
def test_T27_sqlite_runs_only_what_is_on_its_list(shop: Path, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """An authorizer allows selecting, reading and listed functions; no file is made and no memory is taken."""
    monkeypatch.chdir(shop.parent)
    before = shop.read_bytes()

    assert SqliteDatabase(shop).run(statement, 5.0, 10).startswith("does not run: ")
    assert ([shop.name], before) == ([path.name for path in shop.parent.iterdir()], shop.read_bytes())


def test_a_value_beyond_a_megabyte_is_not_made(shop: Path) -> None:
    """Growing text with allowed functions ends at the limit of the connection."""
    grown = "WITH RECURSIVE n(s) AS (SELECT 'xxxxxxxxxx' UNION ALL SELECT s || s FROM n) SELECT length(s) FROM n"

    assert "does not run: string or blob too big" == SqliteDatabase(shop).run(grown, 5.0, 1000)


@pytest.mark.parametrize("broken", ["missing", "not a database", "locked"])
def test_T28_a_file_that_cannot_be_read_decides_nothing(shop: Path, broken: str) -> None:
    """It is not the statement's fault: no score offline, a rejection online; nothing is created."""
    held = None
    if broken == "missing":
        shop.unlink()
    elif broken == "not a database":
        shop.write_bytes(b"x" * 4096)
    else:
        held = sqlite3.connect(shop)
        held.execute("PRAGMA locking_mode=EXCLUSIVE")
        held.execute("BEGIN EXCLUSIVE")
    with pytest.raises(NotRun, match="the database cannot be read"):
        SqliteDatabase(shop).run("SELECT 1 FROM orders", 0.1, 10)
    if held:
        held.close()
    assert (broken != "missing") == shop.exists()


def test_a_file_that_may_not_be_written_is_still_read(shop: Path) -> None:
    """Nothing is written beside it either."""
    shop.chmod(stat.S_IRUSR)

    assert "" == SqliteDatabase(shop).run("SELECT 1 FROM orders", 5.0, 10)
    assert [shop] == list(shop.parent.iterdir())


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT pg_read_file('/etc/passwd')", "does not run: permission denied"), ("COPY orders TO PROGRAM 'id'", "does not run: "), ("SELECT set_config('default_transaction_read_only', 'off', false)", ""),
 ("SELECT * FROM secret", "does not run: permission denied"),
        ("SELECT repeat('x', 50000000) FROM orders", ""), ("SELECT 100 / (total - 20) FROM orders", "does not run: division by zero"), ("SELECT '%s %d'", ""),
        ("SET ROLE postgres", "does not run: "), ("SHOW data_directory", "does not run: "),
    ],
)  # fmt: skip
def test_T27_postgres_runs_it_on_the_server_and_sends_no_row(reader: str, postgres_server: PostgresServer, postgres_database: str, statement: str, expected: str) -> None:  # fmt: skip
    """Rights and the read-only transaction decide; values, however large, stay there; the next statement still cannot write."""
    postgres_server.execute("CREATE TABLE IF NOT EXISTS secret (i INTEGER)", database=postgres_database)
    database = PostgresDatabase(reader)
    found = database.run(statement, 20.0, 10)

    assert (expected, bool(expected)) == (found[: len(expected)], bool(found))
    assert database.run("DELETE FROM orders", 5.0, 10).startswith("does not run: ")


@pytest.mark.parametrize("statement", ["CREATE TEMP TABLE kept AS SELECT 1", "SELECT lo_create(4711)"])
def test_T27_what_postgres_lets_a_reader_do_is_undone(reader: str, postgres_server: PostgresServer, postgres_database: str, statement: str) -> None:  # fmt: skip
    """The parser refuses it first; were it not to, the transaction is rolled back whatever happened in it."""
    PostgresDatabase(reader).run(statement, 5.0, 10)
    left = (
        "SELECT (SELECT count(*) FROM pg_class WHERE relname = 'kept') + (SELECT count(*) FROM pg_largeobject_metadata)"
    )

    assert [(0,)] == postgres_server.execute(left, database=postgres_database)


@pytest.mark.parametrize(
    ("grant", "why"),
    [
        ("ALTER ROLE {role} SUPERUSER", "administrative rights"), ("GRANT INSERT ON orders TO {role}", "change tables"), ("GRANT UPDATE (city) ON orders TO {role}", "change tables"),
        ("GRANT CREATE ON SCHEMA public TO {role}", "create tables"), ("GRANT CREATE ON DATABASE {database} TO {role}", "create schemas"),
        ("GRANT pg_write_all_data TO {role}", "role of the system"), ("GRANT pg_execute_server_program TO {role}", "role of the system"), ("ALTER TABLE orders OWNER TO {role}", "change tables"),
    ],
)  # fmt: skip
def test_T27_a_role_that_can_write_is_refused(reader: str, postgres_server: PostgresServer, postgres_database: str, grant: str, why: str) -> None:  # fmt: skip
    """Before any statement of a model is run."""
    postgres_server.execute(
        grant.format(role=f"reader_{postgres_database}", database=postgres_database), database=postgres_database
    )
    with pytest.raises(RefusedError, match=why):
        PostgresDatabase(reader).run("SELECT 1", 5.0, 10)


def test_T28_a_server_that_hangs_or_is_away_decides_nothing(reader: str, postgres_server: PostgresServer) -> None:
    """A frozen server holds a statement no longer than its time and half a second; afterwards it is asked again."""
    database = PostgresDatabase(reader)
    assert "" == database.run("SELECT 1", 5.0, 10)
    postgres_server.stop()
    try:
        with pytest.raises(NotRun, match="the database cannot be asked"):
            database.run("SELECT 1", 0.1, 10)
    finally:
        postgres_server.go_on()
    assert "" == database.run("SELECT 1", 20.0, 10)
    with pytest.raises(NotRun):
        PostgresDatabase("postgresql://reader@127.0.0.1:1/none").run("SELECT 1", 0.1, 10)


def test_T35_a_forked_child_opens_connections_of_its_own(reader: str) -> None:
    """The parent's connection is neither used nor closed by the child."""
    database = PostgresDatabase(reader)
    assert "" == database.run("SELECT 1", 5.0, 10)
    child = os.fork()
    if child == 0:
        os._exit(0 if database.run("SELECT 1", 20.0, 10) == "" else 1)

    assert (0, "") == (os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), database.run("SELECT 1", 5.0, 10))


def test_the_check_says_whether_a_statement_runs(shop: Path) -> None:
    """One read-only statement first; then it is run. Without a database nothing is known."""
    check = Sql(name="sql", database="shop", run=SqliteDatabase(shop).run)
    away = Sql(name="sql", database="shop", run=SqliteDatabase(shop.parent / "none").run)
    answers = [
        Completion.of(text, "text")
        for text in ("SELECT city FROM orders", "SELECT cities FROM orders", "DELETE FROM orders")
    ]

    assert [
        Score(check="sql", passed=True, reason="one read-only statement, and it runs"),
        Score(check="sql", passed=False, reason="does not run: no such column: cities"),
        Score(check="sql", passed=False, reason="Delete is not a read-only statement"),
    ] == [check.score(answer, _FACTS) for answer in answers]
    assert Unscored(check="sql", reason="database 'shop' is not connected") == Sql(name="sql", database="shop").score(
        answers[0], _FACTS
    )
    assert isinstance(away.score(answers[0], _FACTS), Unscored)


@pytest.mark.parametrize("address", ["", "sqlite:", "mysql://x", "postgresql:x", "/tmp/x.db"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """With what it should be."""
    with pytest.raises(DataError, match="sqlite:FILE or postgresql"):
        open_database(address)


def test_a_database_is_given_by_the_service_or_named_by_the_environment(shop: Path) -> None:
    """PROMPTOPS_DATABASE_<NAME>; the service's word counts first; opened once."""
    found = Databases({"mine": f"sqlite:{shop}"}, {"PROMPTOPS_DATABASE_OUR_SHOP": f"sqlite:{shop}"})

    assert "PROMPTOPS_DATABASE_OUR_SHOP" == variable_of("our-shop")
    assert (True, "") == (found("mine") is found("mine"), found("our-shop").run("SELECT 1", 1.0, 1))
    with pytest.raises(DataError, match="PROMPTOPS_DATABASE_NONE"):
        found("none")


def _sql_prompt(*, online: bool, extra: str = "") -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        prompt = root / f"prompts/{NAME}/prompt.md"
        prompt.write_text(
            prompt.read_text().replace("output: {format: json, schema: output.schema.json}", "output: {format: text}")
        )
        suite = root / f"golden/{NAME}.yaml"
        suite.write_text(suite.read_text().replace("  - {check: json_schema}\n  - {check: equals, path: /sentiment}", f"  - {{check: sql, database: shop, online: {str(online).lower()}{extra}}}"))  # fmt: skip

    return edit


def test_an_evaluation_runs_the_answers(sandbox: Sandbox, shop: Path) -> None:
    """The database is a file of the project, or named by the environment; without either, nothing is asked (exit 2)."""
    _sql_prompt(online=False)(sandbox.root)
    rules = sandbox.path(f"prompts/{NAME}/rules.yaml")
    rules.write_text(
        "promptops: 1\ndefault: rules\nrules:\n  text:\n    - {value: SELECT city FROM orders, when: '[aeiou]{2}'}\n    - {value: SELECT town FROM orders}\n"
    )
    nothing = sandbox.run("eval", NAME)
    named = sandbox.run("eval", NAME, "--json", env={"PROMPTOPS_DATABASE_SHOP": f"sqlite:{shop}"})
    toml = sandbox.path("promptops.toml")
    toml.write_text((toml.read_text() if toml.exists() else "") + '\n[databases.shop]\npath = "data/shop.sqlite3"\n')
    sandbox.write("data/shop.sqlite3", shop.read_bytes())
    inside = sandbox.run("eval", NAME, "--json")
    sandbox.path("data/shop.sqlite3").unlink()
    sandbox.path("data/shop.sqlite3").symlink_to(shop)
    outside = sandbox.run("eval", NAME)

    assert (2, True) == (nothing.code, "nothing says where database 'shop' is" in nothing.err), nothing.err
    counts = [[done.json["runs"][0]["total"][key] for key in ("n", "passed", "unscored")] for done in (named, inside)]
    assert counts[0] == counts[1], (named.err, inside.err)
    assert 0 < inside.json["runs"][0]["total"]["passed"] < inside.json["runs"][0]["total"]["n"]
    assert (4, True) == (outside.code, "outside of the project" in outside.err), outside.err


def test_T27_T28_a_service_runs_the_answer_before_it_is_shown(tmp_path: Path, shop: Path, reader: str) -> None:
    """The same check: what runs is served, what does not is not, and a database that is away rejects everything."""
    settings = {"cache": {"ttl_s": 0}, "fallback": [{"step": "text", "text": "later"}]}
    place = make_bundle(tmp_path / "b", settings, edit=_sql_prompt(online=True))
    document = json.loads((place / f"prompts/{NAME}/v1.0.0/guardrails.json").read_text())["checks"][0]["fields"]

    def source(answer: str, address: str) -> str:
        clients = {"small": Scripted(lambda _: ok(answer)), "large": Scripted()}
        runtime = Runtime.load(place, allow_unsigned=True, clients=clients, databases={"shop": address})
        try:
            return runtime.complete(NAME, {"feedback": "x"}, deadline_s=20).source
        finally:
            runtime.close()

    assert ("shop", False) == (document["database"], "run" in document)
    with pytest.raises(DataError, match="PROMPTOPS_DATABASE_SHOP"):
        Runtime.load(place, allow_unsigned=True, clients={"small": Scripted(), "large": Scripted()})
    for address in (f"sqlite:{shop}", reader):
        assert ["model", "text", "text"] == [
            source(answer, address)
            for answer in ("SELECT city FROM orders", "SELECT town FROM orders", "DROP TABLE orders")
        ]
    assert "text" == source("SELECT city FROM orders", f"sqlite:{tmp_path}/none")
