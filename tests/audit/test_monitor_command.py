"""`promptops monitor`: the answer first, exit codes for machines, and alerts that reach nobody who was not named."""

import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from traffic import hours, line, notice, read, reply, stamp

from conftest import Outcome, Sandbox

Call = Callable[..., Outcome]


def usual(hour: int, rng: random.Random) -> dict:
    return {"category": rng.choice(("billing", "delivery")), "latency_ms": rng.lognormvariate(5, 0.3)}


def slow(hour: int, rng: random.Random) -> dict:
    event = usual(hour, rng)
    return event | {"latency_ms": event["latency_ms"] * 3} if hour >= 20 else event


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return _written(tmp_path / "good.jsonl", hours(30, 40, usual))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return _written(tmp_path / "bad.jsonl", hours(30, 40, slow))


def _written(path: Path, events) -> Path:
    path.write_bytes(b"".join(map(line, events)))
    return path


@pytest.fixture
def hook() -> Iterator[tuple[str, list[tuple[str, dict]]]]:
    """A server that keeps what is posted to /ok, and sends /moved elsewhere."""
    got: list[tuple[str, dict]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("Location", "/ok")
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()
    thread.join()


def test_steady_traffic_is_exit_0_and_the_first_line_says_so(call: Call, good: Path):
    found = call("monitor", "--events", str(good))

    assert (0, "") == (found.code, found.err)
    assert re.match(
        r"STEADY  none of \d+ rates moved beyond its limit; 1200 requests, 2026-11-01T00 to 2026-11-02T05\n", found.out
    )
    assert "at most 0.2 false alarms expected a fortnight" in found.out


def test_a_rate_that_moved_is_exit_1_named_and_posted(call: Call, bad: Path, hook):
    """The alert is on stdout, in the JSON, and at the webhook, in the same words."""
    url, got = hook
    found = call("monitor", "--events", str(bad), "--json", "--webhook", f"{url}/ok")
    document = found.json
    ((path, posted),) = got

    assert (1, "alert", "/ok") == (found.code, document["verdict"], path)
    assert [("slow", "prompt", "triage", "2026-11-01T20")] == [
        (alert["metric"], alert["dimension"], alert["prompt"], alert["since"]) for alert in document["alerts"]
    ]
    assert document["alerts"] == posted["alerts"]
    assert document["alerts"][0]["text"] in call("monitor", "--events", str(bad)).out


def test_steady_traffic_posts_nothing(call: Call, good: Path, hook):
    url, got = hook

    assert (0, []) == (call("monitor", "--events", str(good), "--webhook", f"{url}/ok").code, got)


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://example.com/x", 4, "unencrypted"),
        ("ftp://example.com/x", 4, "not the address of a server"),
        ("https://me:secret@example.com/x", 4, "no name or password"),
        ("https://", 4, "not the address of a server"),
        ("http://127.0.0.1:1/x", 3, "were not posted"),
    ],
)
def test_alerts_go_to_no_other_place(call: Call, bad: Path, url: str, code: int, said: str):
    """Not unencrypted to another machine, not with a password on the command line; a server that is away is exit 3."""
    found = call("monitor", "--events", str(bad), "--webhook", url)

    assert (code, True, False) == (found.code, said in found.err, "secret@" in found.err)


def test_a_webhook_that_redirects_is_not_followed(call: Call, bad: Path, hook):
    url, got = hook
    found = call("monitor", "--events", str(bad), "--webhook", f"{url}/moved")

    assert (3, ["/moved"]) == (found.code, [path for path, _ in got])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing says which events"),
        (("--events", "gone.jsonl"), "no events file"),
        (("--events", "empty.jsonl"), "no requests to look at, nothing is there"),
        (("--events", "empty.jsonl", "--every", "day"), "--every 'day'"),
        (("--events", "empty.jsonl", "--by", "tenants"), "did you mean 'tenant'"),
        (("--events", "empty.jsonl", "-o", "x.pdf"), "the report is a page or JSON"),
    ],
)
def test_bad_input_is_exit_2(call: Call, sandbox: Sandbox, arguments: tuple[str, ...], said: str, monkeypatch):
    monkeypatch.delenv("PROMPTOPS_EVENTS", raising=False)
    sandbox.write("empty.jsonl", "")
    found = call("monitor", *arguments)

    assert (2, "", True) == (found.code, found.out, said in found.err)


def test_what_could_not_be_counted_is_said(call: Call, tmp_path: Path):
    """A few requests give no verdict; torn lines, unknown kinds and drops are named; audits of the semantic cache are shown."""
    events = [reply(stamp(0)), {"at": stamp(0), "kind": "new"}, {"at": stamp(0), "kind": "dropped", "count": 3}, notice(stamp(0), "semantic_audit_wrong", "triage: 1 of 1 audited hits were wrong")]  # fmt: skip
    path = _written(tmp_path / "e.jsonl", events)
    path.write_bytes(path.read_bytes() + b'{"at": "20')
    found = call("monitor", "--events", str(path))

    assert (0, "NO LIMITS  too little traffic") == (found.code, found.out[:29])
    for said in (
        "1 event: not whole",
        "1 event: of a kind or form",
        "3 events: dropped",
        "triage: 1 of 1 audited semantic hits wrong",
    ):
        assert said in found.out


def test_hostile_names_steer_neither_terminal_nor_page(call: Call, tmp_path: Path):
    """Prompts, categories and stages are written by services, and whoever writes their log."""
    evil = "\x1b[2J<script>alert(1)</script>[/red]"
    path = _written(tmp_path / "e.jsonl", [reply(stamp(0), number, prompt=evil, category=evil, steps=[{"stage": evil, "decision": evil, "reason": "", "at_ms": 1}]) for number in range(3)])  # fmt: skip
    page = tmp_path / "m.html"
    found = call("monitor", "--events", str(path), "--by", "category", "-o", str(page))

    assert (0, False, False) == (found.code, "\x1b" in found.out, "\x1b" in (text := page.read_text()))
    assert (False, True) == (
        "<script" in text,
        "default-src &#x27;none&#x27;; style-src" in text or "default-src 'none'; style-src" in text,
    )


def test_following_without_a_terminal_ends_at_the_first_alert(good: Path, tmp_path: Path):
    """A script waits for trouble: events that come later are read, and the exit code is 1."""
    child = subprocess.Popen(
        [sys.executable, "-m", "promptops", "monitor", "--events", str(good), "--follow"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert child.stderr
    assert "waiting for an alert; Ctrl-C ends\n" == child.stderr.readline()
    late = [event | {"latency_ms": 9000.0} for event in hours(36, 40, usual) if event["at"] >= stamp(30)]
    with good.open("ab") as file:
        file.write(b"".join(map(line, late)))
    out, _ = child.communicate(timeout=120)

    assert (1, True) == (child.returncode, out.startswith("ALERT  1 of "))


def test_a_board_says_first_whether_it_is_live():
    """Before the first request, while events come, and while they cannot be read: the last line of a screen may not be seen."""
    from promptops.audit.drift import find_drift
    from promptops.report.monitor import render_board

    def board(traffic, wrong: str) -> list[str]:
        console = Console(width=100, file=StringIO())
        console.print(render_board(traffic, find_drift(traffic), (), source="e.jsonl", every_s=2, wrong=wrong))
        return console.file.getvalue().splitlines()  # type: ignore[attr-defined]

    empty, some = read([]), read([reply(stamp(0))])

    assert ["live: e.jsonl every 2 s, 0 events; Ctrl-C ends", "WAITING  no request yet"] == board(empty, "")
    assert ["Redis is away", "NO LIMITS"] == [said.partition("  ")[0] for said in board(some, "Redis is away")[:2]]
