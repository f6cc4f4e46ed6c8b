"""Promote and roll back, killed after every step that git takes; and over http."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from promptops.core.errors import ConflictError, EvaluationError
from promptops.project.git import Git
from promptops.release.names import Version
from promptops.release.operate import sync
from release.shop import NAME, Clone, Shop, git, open_shop

V1, V2 = Version(1, 0, 0), Version(1, 1, 0)
_STEPS = 12
_WRAPPER = """#!/bin/sh
n=$(($(cat {count}) + 1)); echo $n > {count}
if [ $n -eq {kill_at} ]; then {git} "$@"; kill -9 $PPID; exit 1; fi
exec {git} "$@"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """One remote with two versions, unsigned: what is tested here is git's part."""
    shop = open_shop(tmp_path_factory.mktemp("interrupted") / "shop", signed=False)
    ana = shop.clone("ana")
    for number in ("1.0.0", "1.1.0"):
        ana.version(number)
    return shop


@pytest.fixture(scope="module")
def ana(shop: Shop) -> Clone:
    return Clone(shop.folder / "ana", "ana", shop.folder / "keys")


def killed_after(clone: Clone, step: int, action) -> bool:
    """Run an action in a child that is killed with SIGKILL after its `step`-th git command; False when it ended before."""
    folder = clone.root.parent / "bin"
    folder.mkdir(exist_ok=True)
    count = folder / "count"
    count.write_text("0")
    program = folder / "git"
    program.write_text(_WRAPPER.format(count=count, kill_at=step, git=shutil.which("git")))
    program.chmod(0o755)
    desk = clone.desk
    child = os.fork()
    if child == 0:
        try:
            os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
            action(desk)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must never come back into the test
            os._exit(7)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert 0 == os.waitstatus_to_exitcode(status)
    return False


def promote(clone: Clone, version: str, channel: str, desk=None):
    from promptops.release.operate import Wanted, operate

    wanted = Wanted(prompt=NAME, channel=channel, action="promote", to=Version.parse(version))
    return operate(desk or clone.desk, wanted, offline=False)


def rollback(clone: Clone, channel: str, desk=None):
    from promptops.release.operate import Wanted, operate

    return operate(
        desk or clone.desk, Wanted(prompt=NAME, channel=channel, action="rollback", reason="x"), offline=False
    )


def events(repository: Path, channel: str) -> dict[str, str]:
    return Git(repository).refs([f"refs/tags/channel/{NAME}/{channel}/"])


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_R12_a_promotion_killed_after_any_step_is_old_or_new_and_is_finished_by_the_same_command(
    ana: Clone, shop: Shop
):
    """kill -9 after each git command: the channel is whole, and the same command again ends where it should, once."""
    kills = 0
    for step in range(1, _STEPS + 1):
        channel = f"promoted-{step}"
        kills += killed_after(ana, step, lambda desk, channel=channel: promote(ana, "1.0.0", channel, desk))
        there, here = events(shop.remote, channel), events(ana.root, channel)
        assert there.items() <= here.items()
        assert len(here) <= 1
        done = promote(ana, "1.0.0", channel)
        assert (V1, 1) == (done.state.live, done.state.seq)
        assert 1 == len(events(shop.remote, channel))
        assert events(shop.remote, channel) == events(ana.root, channel)
    assert kills >= 8
    assert [] == [str(path) for path in (ana.root / ".git").rglob("*.lock")]


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_R12_a_rollback_killed_after_any_step_never_goes_two_versions_back(ana: Clone, shop: Shop):
    """Whoever looks and repeats it ends on the version before, with one version marked bad."""
    channels = [f"rolled-{step}" for step in range(1, _STEPS + 1)]
    for channel in channels:
        for version in ("1.0.0", "1.1.0"):
            ana.promote(version, channel, offline=True)
    sync(ana.desk)
    kills = 0
    for step, channel in enumerate(channels, 1):
        kills += killed_after(ana, step, lambda desk, channel=channel: rollback(ana, channel, desk))
        there, here = events(shop.remote, channel), events(ana.root, channel)
        assert there.items() <= here.items()
        assert len(here) in (2, 3)
        if len(here) == 2:
            rollback(ana, channel)
        elif len(there) == 2:
            sync(ana.desk)
        assert (3, events(ana.root, channel)) == (len(events(shop.remote, channel)), events(shop.remote, channel))
    assert kills >= 8
    assert [(V1, frozenset({V2}))] * len(channels) == [
        (state.live, state.bad) for state in (_state(ana, channel) for channel in channels)
    ]


def _state(clone: Clone, channel: str):
    from promptops.release.ledger import read_ledger

    desk = clone.desk
    return desk.judge.channel(read_ledger(desk.git, NAME), NAME, channel)


def test_C15_a_lock_left_by_a_killed_git_is_named(ana: Clone):
    """Exit 3 with the path of the lock; the channel is as it was."""
    lock = ana.root / f".git/refs/tags/channel/{NAME}/locked/000001.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")

    with pytest.raises(EvaluationError, match=r"000001\.lock"):
        promote(ana, "1.0.0", "locked")
    lock.unlink()
    assert V1 == promote(ana, "1.0.0", "locked").state.live


class _GitOverHttp(BaseHTTPRequestHandler):
    """git http-backend behind a server: what a host without ssh offers."""

    root: Path
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": "tester", "REMOTE_ADDR": "127.0.0.1", "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_CONFIG_GLOBAL": os.devnull,
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        status, headers = 200, []
        for line in head.decode().splitlines():
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            elif name:
                headers.append((name, value))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """A test says what went wrong, not the server."""


@contextmanager
def served(shop: Shop) -> Iterator[str]:
    git(shop.remote, "config", "http.receivepack", "true")
    handler = type("Handler", (_GitOverHttp,), {"root": shop.folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/remote.git"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_over_http_one_wins_and_the_loser_is_clean(tmp_path: Path):
    """The same over git's smart http: promote, lose a race, roll back, look at a shallow clone."""
    shop = open_shop(tmp_path / "shop", signed=False)
    first = shop.clone("ana")
    for number in ("1.0.0", "1.1.0"):
        first.version(number)
    with served(shop) as url:
        one, two = shop.clone("ana", url=url, name="http-one"), shop.clone("bob", url=url, name="http-two")
        promote(one, "1.0.0", "web")
        promote(two, "1.0.0", "web")
        late = two.promote("1.1.0", "web", offline=True)
        promote(one, "1.1.0", "web")
        with pytest.raises(ConflictError):
            two.rollback("web")
        assert (late.event.name.ref,) == sync(two.desk).dropped
        assert V1 == two.rollback("web").state.live
        shallow = shop.clone("bob", "--depth", "1", "--no-tags", url=url, name="http-shallow")
        assert V2 == shallow.promote("1.1.0", "web", reason="false alarm", clear_bad=True).state.live
