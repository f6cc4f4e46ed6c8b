"""Runs in a shared store: clients and servers that are killed, two machines with one rate limit, and what is said when it cannot be reached."""

import random
import select
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from slow_server import Reply, finish, paid_project, resume, start

from conftest import PROMPT, Outcome, Sandbox
from project.run_rows import RUN, START, answer, header, result
from promptops.core.errors import DataError, EvaluationError
from promptops.project.scaffold import scaffold
from promptops.project.store import Seat, StoreAddress, open_store
from promptops.project.store.link import Link
from promptops.project.store.migrations import VERSION, check_server
from support.postgresql import PostgresServer

Call = Callable[..., Outcome]
CONCURRENCY = 4


def share(sandbox: Sandbox, url: str) -> None:
    """Say in the project's configuration that runs are kept there."""
    sandbox.write("promptops.toml", f'store = "{url}"\n' + sandbox.read("promptops.toml"))


def run_row(outcome: Outcome) -> tuple[int, str, int, int]:
    """(exit code, state, results, calls in the ledger)."""
    (row,) = outcome.json["runs"]
    return outcome.code, row["state"], row["total"]["n"], row["calls"]


def problem(outcome: Outcome) -> dict[str, Any]:
    (found,) = outcome.json["error"]["problems"]
    return found


def test_runs_of_a_shared_store_are_there_for_everybody(
    sandbox: Sandbox, call: Call, postgres_url: str, tmp_path: Path
):
    """What one project wrote another that names the store shows, answers included; nothing is kept in the folder. Going back is one line."""
    other = Sandbox(tmp_path / "other")
    other.root.mkdir()
    scaffold(other.root)
    share(other, postgres_url)
    with paid_project(sandbox, cases=6) as server:
        share(sandbox, postgres_url)
        made, again = call("eval", PROMPT, "--json"), call("eval", PROMPT, "--json")
        calls = server.calls
    shown = other.run("runs", "show", "--json")
    viewed = other.run("view", "--case", "case-000", "--json")
    listed = call("runs", "list", "--json")
    sandbox.replace("promptops.toml", f'store = "{postgres_url}"\n', "")

    assert (0, 0, 6) == (made.code, again.code, calls)
    assert (again.json["runs"][0]["run"], 6) == (shown.json["run"], shown.json["total"]["n"])
    assert "positive" in viewed.json["answer"]
    assert (2, 0) == (len(listed.json["runs"]), len(call("runs", "list", "--json").json["runs"]))
    assert not other.path(".promptops/store.sqlite3").exists()


def test_E17_a_killed_client_of_a_shared_store_loses_nothing(sandbox: Sandbox, postgres_url: str):
    """kill -9 of the evaluation: resume asks again only what was in flight, and one more resume asks nothing."""
    rng = random.Random(17)
    with paid_project(sandbox, cases=30) as server:
        share(sandbox, postgres_url)
        command = ["eval", PROMPT, "--concurrency", str(CONCURRENCY)]
        for _ in range(3):
            before = server.calls
            process = start(sandbox, *command)
            server.wait_for(before + rng.randint(1, 9))
            process.kill()
            finish(process)
            command = ["eval", "--resume", "--concurrency", str(CONCURRENCY)]
        finished, repeats = resume(sandbox), server.repeats
        again = resume(sandbox)

    intents = finished.json["runs"][0]["calls"]
    assert (0, "complete", 30, intents) == run_row(finished) == run_row(again)
    assert (30, True) == (len(server.asked), repeats <= intents - 30 <= 3 * CONCURRENCY)


def test_E17_a_server_that_restarts_is_waited_for(sandbox: Sandbox, own_postgres: PostgresServer):
    """kill -9 of PostgreSQL in the middle of a run: it goes on when the server is back; nothing is lost, nothing asked twice."""
    with paid_project(sandbox, cases=40) as server:
        share(sandbox, own_postgres.url(own_postgres.new_database()))
        process = start(sandbox, "eval", PROMPT, "--concurrency", str(CONCURRENCY), "--json")
        for calls in (8, 20):
            server.wait_for(calls)
            own_postgres.kill()
            own_postgres.start()
        finished = finish(process)

    assert (0, "complete", 40, 40) == run_row(finished)
    assert (40, 0) == (len(server.asked), server.repeats)


def test_E17_a_server_that_stays_away_ends_the_run_and_resume_finishes_it(
    sandbox: Sandbox, own_postgres: PostgresServer
):
    """After the stated patience: exit 3, what to do, the command that goes on; nothing more is paid. Later 0 lost, repeats at most those in flight."""
    with paid_project(sandbox, cases=24) as server:
        share(sandbox, own_postgres.url(own_postgres.new_database()) + "?patience_s=0.5")
        process = start(sandbox, "eval", PROMPT, "--concurrency", str(CONCURRENCY), "--json")
        server.wait_for(9)
        own_postgres.kill()
        stopped = finish(process)
        paid_until_then = server.calls
        own_postgres.start()
        finished = resume(sandbox)

    assert (3, "the shared store cannot be reached, what was written before is kept") == (
        stopped.code,
        problem(stopped)["what"],
    )
    assert problem(stopped)["hint"].partition(" --resume ")[0].endswith("then `promptops eval")
    assert (0, "complete", 24) == run_row(finished)[:3]
    assert (24, True, True) == (len(server.asked), server.repeats <= CONCURRENCY, paid_until_then <= 9 + CONCURRENCY)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_E18_a_wait_for_the_server_ends_when_a_person_asks(
    sandbox: Sandbox, own_postgres: PostgresServer, number: signal.Signals, code: int
):
    """Ctrl-C is heard while the store is away, however long the patience; the command that goes on is named."""
    with paid_project(sandbox, cases=40) as server:
        share(sandbox, own_postgres.url(own_postgres.new_database()) + "?patience_s=3600")
        process = start(sandbox, "eval", PROMPT, "--concurrency", str(CONCURRENCY), "--json")
        server.wait_for(6)
        own_postgres.kill()
        server.wait_until_idle()
        while process.poll() is None:  # one that came before the wait began stops the run and not the wait
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(3)
        stopped = finish(process)
        own_postgres.start()
        finished = resume(sandbox)

    assert (code, True) == (stopped.code, " --resume " in problem(stopped)["hint"]), stopped.err
    assert (0, "complete", 40, True) == (*run_row(finished)[:3], server.repeats <= CONCURRENCY)


def test_S5_a_run_of_another_machine_is_in_use(sandbox: Sandbox, postgres_url: str, tmp_path: Path):
    """The file locks of two machines do not know each other; the server does."""
    elsewhere = Sandbox(tmp_path / "elsewhere")
    with paid_project(sandbox, cases=6) as server:
        share(sandbox, postgres_url)
        subprocess.run(["cp", "-r", sandbox.root, elsewhere.root], check=True)
        server.hold()
        process = start(sandbox, "eval", PROMPT, "--concurrency", "2", "--json")
        server.wait_for(2)
        refused = resume(elsewhere)
        server.release()
        finished = finish(process)

    assert (3, True) == (refused.code, f"is in use by pid {process.pid} on " in problem(refused)["what"])
    assert (0, "complete", 6, 6) == run_row(finished)


def test_a_run_that_is_made_elsewhere_is_not_deleted(sandbox: Sandbox, call: Call, postgres_url: str):
    """Cleaning up on one machine takes no run from under an evaluation on another."""
    with paid_project(sandbox, cases=6) as server:
        share(sandbox, postgres_url)
        call("eval", PROMPT)
        server.hold()
        process = start(sandbox, "eval", PROMPT, "--no-cache", "--concurrency", "2", "--json")
        server.wait_for(8)
        deleted = call("runs", "gc", "--keep", "0", "--yes", "--json")
        server.release()
        finished = finish(process)

    assert (1, 6) == (deleted.json["deleted_runs"], deleted.json["deleted_answers"])
    assert (0, "complete", 6, 6) == run_row(finished)


def test_two_machines_share_the_limit_of_a_key(sandbox: Sandbox, postgres_url: str, tmp_path: Path):
    """Two projects on two disks with rpm = 120 get twelve calls at once and two a second after that, together."""
    elsewhere = Sandbox(tmp_path / "elsewhere")
    with paid_project(sandbox, cases=8, model="rpm = 120") as server:
        share(sandbox, postgres_url)
        subprocess.run(["cp", "-r", sandbox.root, elsewhere.root], check=True)
        both = [start(where, "eval", PROMPT, "--no-cache", "--json") for where in (sandbox, elsewhere)]
        ended = [finish(process) for process in both]
    with closing(open_store(StoreAddress(root=sandbox.root, url=postgres_url))) as store:
        begun = sorted(datetime.fromisoformat(at) for run in store.runs() for _, at, _, _ in store.attempts(run.id))

    assert ([0, 0], 16, 16) == ([outcome.code for outcome in ended], server.calls, len(begun))
    assert begun[15] - begun[0] >= timedelta(seconds=(16 - 12) / 2) - timedelta(
        seconds=1.5
    )  # a permit is older than its row


def test_a_wait_is_counted_by_the_clock_of_the_server(postgres_url: str, tmp_path: Path):
    """Machines whose clocks differ by hours wait equally long."""
    address = StoreAddress(root=tmp_path, url=postgres_url)
    with closing(open_store(address)) as early, closing(open_store(address)) as late:
        early.block("key", 60.0, now=1_000.0)

        assert [True, True] == [0 < store.blocked_s("key", now) <= 60 for store, now in ((early, 1_000.0), (late, 9e9))]


@pytest.fixture
def roles(postgres_server: PostgresServer, postgres_url: str) -> Iterator[Callable[[str], str]]:
    """The address as one of the three roles of docs/scale.md, made by the SQL that the document shows."""
    database = postgres_url.rpartition("/")[2]
    shown = (Path(__file__).parents[2] / "docs" / "scale.md").read_text("utf-8").split("```sql\n")
    first, second = (block.partition("```")[0] for block in shown[1:3])
    postgres_server.execute(first.replace("DATABASE", database), database=database)
    addresses = {
        name: postgres_server.url(database, user=f"promptops_{name}") for name in ("owner", "writer", "reader")
    }
    with closing(open_store(StoreAddress(root=Path(), url=_with_password(addresses["owner"])))):
        pass
    postgres_server.execute(second, database=database)
    yield addresses.__getitem__
    postgres_server.execute(f"drop database {database} with (force)", f"create database {database}",
                            *(f"drop role promptops_{name}" for name in addresses))  # fmt: skip


def _with_password(url: str) -> str:
    return url.replace("@", ":change-me@", 1)


def test_a_reader_may_show_and_not_write(
    sandbox: Sandbox, call: Call, roles: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
):
    """The roles as documented: a writer evaluates and makes no tables, a reader shows runs and can change nothing."""
    environment = {"PGPASSWORD": "change-me"}
    with paid_project(sandbox, cases=4) as server:
        wrote = sandbox.run("eval", PROMPT, "--json", env=environment | {"PROMPTOPS_STORE": roles("writer")})
        reader = environment | {"PROMPTOPS_STORE": roles("reader")}
        shown = sandbox.run("runs", "show", "--json", env=reader)
        refused = sandbox.run("eval", PROMPT, "--no-cache", "--json", env=reader)
        monkeypatch.setenv("PGPASSWORD", "change-me")
        monkeypatch.setenv("PROMPTOPS_STORE", roles("writer") + "?schema=other")
        new_schema = call("runs", "list")
        monkeypatch.setenv("PROMPTOPS_STORE", roles("reader"))
        deleted = call("runs", "gc", "--keep", "0", "--yes")
        left = call("runs", "show", "--json")

    assert (0, 0, 4, 4) == (wrote.code, shown.code, shown.json["total"]["n"], server.calls)
    assert (3, "this login may not do that in the shared store") == (refused.code, problem(refused)["what"])
    assert (3, 3) == (deleted.code, new_schema.code)
    assert "this login may not make tables" in new_schema.err
    assert 4 == left.json["total"]["n"]


def test_S9_a_shared_store_of_a_newer_version_is_left_untouched(
    call: Call, monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer, postgres_url: str
):
    """Exit 2 with what to do; the tables are as they were."""
    database = postgres_url.rpartition("/")[2]
    monkeypatch.setenv("PROMPTOPS_STORE", postgres_url)
    call("runs", "list")
    postgres_server.execute(f"insert into promptops.migrations (version) values ({VERSION + 1})", database=database)
    refused = call("runs", "list")

    assert (2, 1) == (refused.code, len(refused.err.splitlines()))
    assert f"has format {VERSION + 1}, this promptops reads up to {VERSION}; upgrade promptops" in refused.err


def test_S9_a_server_that_is_too_old_is_named():
    """A version number as PostgreSQL itself counts."""
    check_server(130000, "here")
    with pytest.raises(
        DataError, match="here: the server is PostgreSQL 12, the store needs 13 or newer; upgrade the server"
    ):
        check_server(120022, "here")


@pytest.mark.parametrize(
    ("address", "password", "code", "said"),
    [
        ("postgresql://nobody_known@HOST/DATABASE", "s3cret-canary", 3, "the server refuses the login"),
        ("postgresql://nobody_known@HOST/DATABASE", "", 3, "the server refuses the login"),
        ("postgresql://nobody_known:s3cret-canary@HOST/DATABASE", "", 3, "the server refuses the login"),
        ("postgresql://postgres@HOST/no_such_database", "", 2, "the server has no such database"),
        ("postgresql://postgres:s3cret-canary@127.0.0.1:1/x", "", 3, "the shared store cannot be reached"),
        ("postgresql://postgres@127.0.0.1:1/x?password=s3cret-canary", "", 3, "the shared store cannot be reached"),
        ("postgresql://postgres:s3cret-canary@no-such-host.invalid/x", "", 3, "the shared store cannot be reached"),
        ("postgresql://postgres:s3cret-canary@127.0.0.1:99999/x", "", 3, "the shared store cannot be reached"),
        ("postgresql://postgres:s3cret-canary@HOST/DATABASE?nonsense=1", "", 2, "not the address of a PostgreSQL database"),
        ("postgresql://postgres:s3cret-canary@HOST/DATABASE?schema=a;b", "", 2, "is no schema for a store"),
        ("postgresql://postgres:s3cret-canary@HOST/DATABASE?patience_s=soon", "", 2, "is no number of seconds"),
        ("mysql://postgres:s3cret-canary@HOST/DATABASE", "", 2, "PROMPTOPS_STORE is no address of a store"),
    ],
)  # fmt: skip
def test_S10_what_is_wrong_is_said_and_no_password_is(
    call: Call, monkeypatch: pytest.MonkeyPatch, postgres_url: str, address: str, password: str, code: int, said: str
):
    """One line with the place and what to do; the password is in no line, neither whole nor with `--debug`."""
    host, _, database = postgres_url.rpartition("@")[2].partition("/")
    url = address.replace("HOST", host).replace("DATABASE", database)
    monkeypatch.setenv("PROMPTOPS_STORE", url)
    monkeypatch.setenv("PGPASSWORD", password)
    plain = call("runs", "list")
    debug = call("--debug", "runs", "list")

    assert (code, code) == (plain.code, debug.code), plain.err
    assert (True, 1, False) == (
        said in plain.err,
        len(plain.err.splitlines()),
        "s3cret" in plain.out + plain.err + debug.out + debug.err,
    ), plain.err
    assert "; " in plain.err


@pytest.mark.parametrize(
    "form",
    [
        "postgresql:///{database}?host={folder}&port={port}&user=postgres",
        "postgresql://postgres@{quoted}:{port}/{database}",
    ],
)
def test_a_server_of_this_machine_is_reached_by_its_socket(
    call: Call, monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer, postgres_url: str, form: str
):
    """Both ways PostgreSQL writes it; a socket is no host that must be allowed."""
    folder = str(postgres_server.folder)
    url = form.format(
        database=postgres_url.rpartition("/")[2],
        folder=folder,
        quoted=quote(folder, safe=""),
        port=postgres_server.port,
    )
    monkeypatch.setenv("PROMPTOPS_STORE", url)

    assert (0, ()) == (call("runs", "list").code, StoreAddress(root=Path(), url=url).hosts)


def test_a_missing_package_is_named(sandbox: Sandbox, postgres_url: str, tmp_path: Path):
    """Without psycopg: exit 2 and the extra to install."""
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text("import sys, importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'psycopg' else find(name, package)\n", "utf-8")  # fmt: skip
    refused = sandbox.run("runs", "list", env={"PROMPTOPS_STORE": postgres_url, "PYTHONPATH": str(tmp_path / "hide")})

    assert (2, True) == (
        refused.code,
        "the shared store needs the package `psycopg`; pip install 'promptops[postgres]'" in refused.err,
    ), refused.err


def test_a_password_in_a_file_of_the_project_is_refused(sandbox: Sandbox, call: Call):
    """Files are committed: exit 2 with the line, and not the password."""
    share(sandbox, "postgresql://me:s3cret-canary@127.0.0.1/x")
    refused = call("runs", "list")

    assert (2, True, False) == (
        refused.code,
        "promptops.toml:1: a password in `store`" in refused.err,
        "s3cret" in refused.err,
    )


def test_a_server_that_only_a_file_names_is_not_told_a_login(
    sandbox: Sandbox, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """A change of a file must not send answers and a login anywhere: exit 4, and how to allow it."""
    share(sandbox, "postgresql://me@db.example.com,db2.example.com:5433/x")
    refused = call("runs", "list")
    monkeypatch.setenv("PROMPTOPS_ALLOWED_HOSTS", "db.example.com")
    second = call("runs", "list")
    monkeypatch.setenv("PROMPTOPS_STORE", "local")
    local = call("runs", "list")

    assert (4, 4, 0) == (refused.code, second.code, local.code), local.err
    assert "PROMPTOPS_ALLOWED_HOSTS=db.example.com" in refused.err
    assert "'db2.example.com'" in second.err


def test_S3_a_full_disk_of_the_server_keeps_what_was_written(sandbox: Sandbox, own_postgres: PostgresServer):
    """`disk full, N results kept`, exit 3, nothing paid after it; with room again the run goes on."""
    small = own_postgres.make_small_space("6m")
    if small is None:
        pytest.skip("no right to mount a small disk")
    long = (
        '{"sentiment": "positive", "why": "'
        + "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=60_000))
        + '"}'
    )
    try:
        with paid_project(
            sandbox, cases=150, latency_s=0.001, reply=lambda text, _: Reply(text=long.replace("why", text[-8:-1]))
        ) as server:
            share(sandbox, own_postgres.url(small.database))
            sandbox.replace(f"golden/{PROMPT}.yaml", "  - {check: json_schema}\n", "")
            failed = sandbox.run("eval", "--json", "--concurrency", str(CONCURRENCY))
            calls = server.calls
            kept = sandbox.run("runs", "show", "latest", "--json").json["total"]["n"]
            small.grow("64m")
            finished = resume(sandbox)
    finally:
        small.remove()

    assert (3, f"disk full, {kept} of 150 results kept") == (failed.code, problem(failed)["what"])
    assert (True, True) == (0 < kept < 150, calls <= kept + CONCURRENCY)
    assert (0, "complete", 150) == run_row(finished)[:3]


def test_E2_a_server_that_answers_nothing_is_not_waited_for_without_end(own_postgres: PostgresServer):
    """A frozen server keeps the socket open and says nothing: after the time for an answer, the wait for another server begins and ends."""
    link = Link(own_postgres.url() + "?connect_timeout=2", "here", patience_s=0.1, on_connect=lambda _: None)
    own_postgres.stop()
    try:
        with pytest.raises(EvaluationError, match="here: the shared store cannot be reached"):
            link.run(lambda connection: connection.execute("select 1").fetchall(), within_s=0.5)
    finally:
        own_postgres.go_on()
    after = link.run(lambda connection: connection.execute("select 1").fetchall())
    link.close()

    assert [(1,)] == after


def test_a_run_that_was_taken_over_meanwhile_is_given_up(own_postgres: PostgresServer, tmp_path: Path):
    """Who lost the connection and finds the run in other hands stops, rather than writing beside the new owner."""
    address = StoreAddress(root=tmp_path, url=own_postgres.url(own_postgres.new_database()) + "?patience_s=5")
    run = "20260102-030405-abcdef"
    with closing(open_store(address)) as first, closing(open_store(address)) as second, first.hold(run):
        own_postgres.kill()
        own_postgres.start()
        with second.hold(run), pytest.raises(EvaluationError, match=f"run {run} was taken over by another process"):
            first.runs()


class LosingProxy(socketserver.ThreadingTCPServer):
    """Stands before a server, and once swallows its answer to the message that holds `mark`; the connection then breaks."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Pass)
        self.server_port, self.mark, self.lost = port, b"", 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class _Pass(socketserver.BaseRequestHandler):
    server: LosingProxy

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.server_port)) as there:
            while True:
                for readable in select.select([self.request, there], [], [])[0]:
                    message = readable.recv(1 << 20)
                    if not message:
                        return
                    if readable is there:
                        self.request.sendall(message)
                        continue
                    there.sendall(message)
                    if self.server.mark and self.server.mark in message:
                        self.server.mark, self.server.lost = b"", self.server.lost + 1
                        there.recv(1)  # it was done
                        return


@pytest.fixture
def losing(postgres_server: PostgresServer) -> Iterator[LosingProxy]:
    with LosingProxy(postgres_server.port) as proxy:
        yield proxy
        proxy.shutdown()


def test_an_answer_of_the_server_that_is_lost_makes_no_second_write(
    losing: LosingProxy, postgres_url: str, tmp_path: Path
):
    """The write was done and nobody heard: it is repeated, or found done, and counts once. Intents, results, beginnings, and bookings under a cap."""
    address = StoreAddress(
        root=tmp_path,
        url=f"postgresql://postgres@127.0.0.1:{losing.server_address[1]}/{postgres_url.rpartition('/')[2]}",
    )
    with closing(open_store(address)) as store:
        losing.mark = b"insert into runs"
        store.begin_run(header())
        store.open_seats(RUN, calls=0, booked_nanousd=0)
        store.take_seat(Seat(run_id=RUN, worker="w", max_nanousd=100))
        losing.mark = b"COMMIT"
        booked = store.book([30, 30])
        losing.mark = b"insert into attempts"
        attempts = store.begin_attempts(RUN, [("key-a", 30), ("key-b", 30)], START)
        for attempt, case_id in zip(attempts, ("a", "b"), strict=True):
            store.end_attempt(attempt, "ok", 10, 30)
            store.add_answer(answer(f"key-{case_id}"))
            store.add_result(RUN, result(case_id))
        losing.mark = b"insert into attempts"
        store.flush()
        losing.mark = b"COMMIT"
        store.settle_seat()
        rows = store._rows("select calls, booked_nanousd, reserved_nanousd from seats order by worker")

        assert (5, 2, 2, 20, (2, 2)) == (
            losing.lost,
            booked,
            store.ledger(RUN).attempts,
            store.ledger(RUN).paid_nanousd,
            store.count_results(RUN),
        )
        assert [(2, 20, 0), (0, 0, 0)] == rows


def test_many_writers_of_one_run_write_each_row_once(postgres_url: str, tmp_path: Path):
    """Workers that write the same results at the same time: each is there once, every paid call is counted."""
    address = StoreAddress(root=tmp_path, url=postgres_url)
    with closing(open_store(address)) as store:
        store.begin_run(header())
    together = threading.Barrier(8)
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            with closing(open_store(address)) as store:
                together.wait(60)
                names = [f"c{place}" for place in range(50)]
                random.Random(number).shuffle(names)
                for name in names:
                    (attempt,) = store.begin_attempts(RUN, [(f"key-{name}", 9)], START)
                    store.add_answer(answer(f"key-{name}"))
                    store.add_result(RUN, result(name))
                    store.end_attempt(attempt, "ok", 7)
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    with closing(open_store(address)) as store:
        assert ([], (50, 50), 400, 2800) == (
            failed,
            store.count_results(RUN),
            store.ledger(RUN).attempts,
            store.ledger(RUN).paid_nanousd,
        )
