"""A real PostgreSQL server for tests: on a free port, in a folder of its own, owned by another user when the tests run as root."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_NUMBERS = itertools.count()
_QUICK = "-c fsync=off -c full_page_writes=off -c shared_buffers=16MB -c max_connections=60 -c jit=off"
"""Nothing needs to survive a test: without this, each start waits for the disk."""


class PostgresServer:
    """Superuser `postgres`, no passwords. `stop` and `go_on` freeze the server, so that it accepts connections and answers nothing."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._folder = Path(
            tempfile.mkdtemp(prefix="promptops-postgres-")
        )  # pytest's own folders are closed to other users
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            self._as = {"user": "nobody", "group": _group_of("nobody"), "extra_groups": []}
            shutil.chown(self._folder, "nobody", _group_of("nobody"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._initialise()
        self.start()

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The name of an empty database of its own."""
        name = f"test_{next(_NUMBERS)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def execute(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements as superuser; the rows of the last one."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                 "-k", self._folder, *_QUICK.split()],
                stdout=log, stderr=log, cwd=self._folder, start_new_session=True, **self._as,
            )  # fmt: skip
        import psycopg

        deadline = time.monotonic() + 90
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=10).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    pytest.fail(f"PostgreSQL did not start: {error}\n{(self._folder / 'log').read_text()[-800:]}")
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; `start` brings it back with the same data."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(60)

    def remove(self) -> None:
        if self._process.poll() is None:
            self.go_on()
            self._process.send_signal(signal.SIGINT)  # a fast shutdown, which gives back its shared memory
            self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self) -> None:
        done = subprocess.run(
            [self._programs / "initdb", "-D", self._folder / "data", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
            capture_output=True, text=True, cwd=self._folder, check=False, **self._as,
        )  # fmt: skip
        if done.returncode:
            pytest.fail(f"initdb: {done.stderr[-500:]}")


def _programs() -> Path:
    """The folder with initdb and postgres; Debian keeps it out of PATH."""
    found = shutil.which("initdb")
    folders = (
        [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    )
    for folder in folders:
        if (folder / "postgres").exists():
            return folder
    if os.environ.get("CI") == "true":
        pytest.fail("PostgreSQL is not installed; .ci/run installs it")
    pytest.skip("PostgreSQL is not installed")


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server a test process; tests keep apart by `postgres_database`."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> str:
    """The name of an empty database for one test."""
    return postgres_server.new_database()
