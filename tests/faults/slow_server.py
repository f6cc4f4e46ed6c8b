"""A small OpenAI-compatible server with a fixed latency that counts calls per request body, and a project that asks it."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import PROMPT, Outcome, Sandbox

WORST_NANOUSD = 1_000_000
"""One call at the most: 50 output tokens at 20 USD a million; input is free."""
COST_NANOUSD = 200_000
"""One call as charged: 10 output tokens."""
PATIENCE_S = 30


@dataclass(frozen=True)
class Reply:
    """What the server says to one request."""

    text: str = '{"sentiment": "positive"}'
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        if self.status != 200:
            return json.dumps({"error": {"message": self.text}}).encode()
        message = {"role": "assistant", "content": self.text}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        choices = [{"message": message, "finish_reason": "stop"}]
        return json.dumps({"model": "slow-1", "choices": choices, "usage": usage, **self.extra}).encode()


class SlowServer(ThreadingHTTPServer):
    """`reply` maps (text of the last message, how many calls came before) to a Reply; `hold()` keeps all answers back."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, latency_s: float, reply: Callable[[str, int], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.latency_s, self.reply = latency_s, reply
        self.asked: Counter[str] = Counter()
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self._changed = threading.Condition()
        self._open = threading.Event()
        self._open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def calls(self) -> int:
        return len(self.times)

    @property
    def repeats(self) -> int:
        """Calls for a request that was asked before."""
        return self.calls - len(self.asked)

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def wait_for(self, calls: int) -> None:
        """Return once that many calls have arrived."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls >= calls, PATIENCE_S), f"{self.calls} of {calls} calls"

    def wait_until_idle(self) -> None:
        """Return once no call is being answered, also none of a client that is gone."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.in_flight == 0, PATIENCE_S)
            self.most_in_flight = 0

    def arrived(self, text: str) -> int:
        """Count a call; how many came before it."""
        with self._changed:
            self.asked[text] += 1
            self.times.append(time.monotonic())
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._changed.notify_all()
            return self.calls - 1

    def left(self) -> None:
        with self._changed:
            self.in_flight -= 1
            self._changed.notify_all()

    def wait_to_answer(self) -> None:
        self._open.wait(PATIENCE_S)
        threading.Event().wait(self.latency_s)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SlowServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = request["messages"][-1]["content"]
        before = self.server.arrived(text)
        try:
            self.server.wait_to_answer()
            reply = self.server.reply(text, before)
        finally:
            self.server.left()
        body = reply.body()
        self.send_response(reply.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **reply.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass


def positive(text: str, before: int) -> Reply:
    return Reply()


def a_row(number: int, feedback: str = "") -> dict[str, Any]:
    category = ("delivery", "product")[number % 2]
    return {
        "id": f"case-{number:03}", "category": category, "inputs": {"feedback": feedback or f"Feedback number {number}."},
        "expected": {"sentiment": "positive"}, "tags": {"length": "short"}, "source": "written",
    }  # fmt: skip


@contextmanager
def paid_project(
    sandbox: Sandbox, *, cases: int = 8, latency_s: float = 0.02, reply: Callable[[str, int], Reply] = positive, model: str = ""
) -> Iterator[SlowServer]:  # fmt: skip
    """The starter project with that many cases and the default model `slow` on a running server; `model` are more settings."""
    with SlowServer(latency_s, reply) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        sandbox.write_rows([a_row(number) for number in range(cases)])
        sandbox.write(
            "promptops.toml",
            f'default_model = "slow"\n[models.slow]\nprovider = "openai"\nmodel = "slow-1"\nbase_url = "{server.url}"\n'
            f'input_usd_per_mtok = "0"\noutput_usd_per_mtok = "20"\n{model}\n',
        )
        try:
            yield server
        finally:
            server.release()
            server.shutdown()
            thread.join()


def start(sandbox: Sandbox, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
    """The command as a process that a test can signal."""
    return subprocess.Popen(
        [sys.executable, "-m", "promptops", *arguments], cwd=sandbox.root, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def finish(process: "subprocess.Popen[bytes]") -> Outcome:
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def deliver(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send a signal and return when the process has taken it: two equal signals that wait at the same time become one."""
    process.send_signal(number)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        if not int(status["ShdPnd"], 16) & 1 << (number - 1):
            return
    raise AssertionError(f"{number.name} was not taken")


def evaluate(sandbox: Sandbox, *arguments: str, **options: Any) -> Outcome:
    return sandbox.run("eval", PROMPT, *arguments, "--json", **options)


def resume(sandbox: Sandbox, *arguments: str, **options: Any) -> Outcome:
    return sandbox.run("eval", "--resume", *arguments, "--json", **options)
