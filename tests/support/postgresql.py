"""A real PostgreSQL server for tests: on a free port, in a folder of its own, owned by another user when the tests run as root."""

import ctypes
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_NUMBERS = itertools.count()
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "jit": "off",
    "timezone": "UTC",
}
_QUICK = {"fsync": "off", "full_page_writes": "off"}
"""Nothing needs to survive that the system is switched off: without this, each start waits for the disk."""
_ACCESS = """\
local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
_SET_PARENT_DEATH_SIGNAL = 1


class PostgresServer:
    """Superuser `postgres` needs no password, all others do. `stop` and `go_on` freeze it, so that it accepts connections and answers nothing.

    A `durable` one waits for the disk as the servers of users do.
    """

    def __init__(self, *, durable: bool = False, programs: Path | None = None, **settings: str) -> None:
        self._programs = programs or _programs()
        self._settings = _SETTINGS | ({} if durable else _QUICK) | settings
        self.folder = Path(
            tempfile.mkdtemp(prefix="promptops-postgres-")
        )  # pytest's own folders are closed to other users
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            self._as = {"user": "nobody", "group": _group_of("nobody"), "extra_groups": []}
            shutil.chown(self.folder, "nobody", _group_of("nobody"))
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
        """Returns when it takes connections. After `kill`, old children may hold the shared memory for a moment: it tries again."""
        deadline = time.monotonic() + 90
        options = [item for name, value in self._settings.items() for item in ("-c", f"{name}={value}")]
        while True:
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [self._programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder, *options],
                    stdout=log, stderr=log, cwd=self.folder, start_new_session=True, preexec_fn=_end_with_the_tests, **self._as,  # noqa: PLW1509
                )  # fmt: skip
            if self._answers(deadline):
                return
            if time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-800:]}")
            time.sleep(0.05)

    def _answers(self, deadline: float) -> bool:
        import psycopg

        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                psycopg.connect(self.url(), connect_timeout=10).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return True
        return False

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9 of it and of every process of it; `start` brings it back with the same data."""
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)
        self._process.wait(60)

    def shut_down(self) -> None:
        """An orderly end: connections are closed, what they had not committed is undone."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def make_small_space(self, size: str) -> "SmallSpace | None":
        """A database on a disk of that size; None where this process may not mount one."""
        folder = self.folder / f"small-{next(_NUMBERS)}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return None
        inside = folder / "space"
        inside.mkdir()
        if self._as:
            shutil.chown(inside, "nobody", _group_of("nobody"))
        name = f"small_{next(_NUMBERS)}"
        # The system tables of a database take 7 MB: only those of the store are put on the small disk.
        self.execute(
            f"CREATE TABLESPACE {name} LOCATION '{inside}'",
            f"CREATE DATABASE {name}",
            f"ALTER DATABASE {name} SET default_tablespace = {name}",
        )
        return SmallSpace(folder=folder, database=name)

    def _signal(self, number: int) -> None:
        """To all its processes: those that serve connections are in sessions of their own."""
        pid = self._process.pid
        for one in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())):
            try:
                os.kill(one, number)
            except ProcessLookupError:
                continue

    def remove(self) -> None:
        if self._process.poll() is None:
            self.go_on()
            self._process.send_signal(signal.SIGINT)  # a fast shutdown, which gives back its shared memory
            self._process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialise(self) -> None:
        done = subprocess.run(
            [self._programs / "initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
            capture_output=True, text=True, cwd=self.folder, check=False, **self._as,
        )  # fmt: skip
        if done.returncode:
            pytest.fail(f"initdb: {done.stderr[-500:]}")
        (self.folder / "data" / "pg_hba.conf").write_text(_ACCESS, "utf-8")


@dataclass(frozen=True)
class SmallSpace:
    """A small disk under a database."""

    folder: Path
    database: str

    def grow(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)

    def remove(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=False)


def _end_with_the_tests() -> None:
    """A test process that is killed leaves no server behind."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGQUIT)


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


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database for one test, which is gone after it."""
    name = postgres_server.new_database()
    yield postgres_server.url(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of this test alone, to be frozen, killed and started again."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def vector_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with the extension pgvector, which Debian 12 has no package of: that of the Python package pgserver."""
    found = importlib.util.find_spec("pgserver")
    if found is None or not found.submodule_search_locations:
        pytest.skip("pgserver, which brings pgvector, has no wheel for this Python")
    place = Path(
        tempfile.mkdtemp(prefix="promptops-pgvector-")
    )  # the user of the server may not see where packages are
    place.chmod(0o755)
    package = Path(found.submodule_search_locations[0])
    for name in ("pgserver/pginstall", "pgserver.libs"):
        shutil.copytree(package.parent / name, place / name)
    server = PostgresServer(programs=place / "pgserver" / "pginstall" / "bin")
    yield server
    server.remove()
    shutil.rmtree(place, ignore_errors=True)
