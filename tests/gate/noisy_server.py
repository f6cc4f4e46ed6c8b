"""A server on 127.0.0.1 that speaks OpenAI's chat completions and answers right with a chance per case, seeded.

The n-th answer to a text under a system message is decided by (seed, system message, text, n) alone, so that neither the
order of calls nor their concurrency changes what a test sees.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from conftest import PROMPT, Sandbox

Chance = Callable[[str, str], float]
"""(system message, feedback) -> chance of the right answer"""


class NoisyServer(ThreadingHTTPServer):
    """`truth` maps a case's text to its label. `chance` may be exchanged while it runs; `refuse` is a status for all calls."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, truth: Mapping[str, str], chance: Chance, *, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.truth, self.chance, self.seed = truth, chance, seed
        self.refuse = 0
        self.model = "noisy-1"
        self.hold = threading.Event()
        self.hold.set()
        self.asked_once = threading.Event()
        self.asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def calls(self) -> int:
        return sum(self.asked.values())

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self.shutdown()
        self.server_close()

    def reply(self, body: Mapping[str, Any]) -> str:
        system, text = (str(message["content"]) for message in body["messages"])
        text = text.removeprefix("<feedback>").removesuffix("</feedback>").strip()
        with self._lock:
            number = self.asked[system, text]
            self.asked[system, text] += 1
        self.asked_once.set()
        self.hold.wait(30)
        right = random.Random(f"{self.seed} {system} {text} {number}").random() < self.chance(system, text)
        wrong = "neutral" if self.truth[text] != "neutral" else "positive"
        return json.dumps({"sentiment": self.truth[text] if right else wrong})


class _Handler(BaseHTTPRequestHandler):
    server: NoisyServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        content, status = self.server.reply(body), self.server.refuse or 200
        choices = [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        document = (
            {"model": self.server.model, "choices": choices, "usage": usage}
            if status == 200
            else {"error": {"message": "no"}}
        )
        data = json.dumps(document).encode()
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def always(chance: float) -> Chance:
    """The same for every text."""
    return lambda *_: chance


MARK = "Be terse."
"""What the changed prompt says and the base does not."""


def write_cases(
    sandbox: Sandbox, *, categories: tuple[str, ...] = ("delivery", "product"), each: int = 12
) -> dict[str, str]:
    """Golden rows with texts of their own; the truth about each text."""
    rows = [
        {"id": f"{category}-{number:02}", "category": category, "inputs": {"feedback": f"{category} feedback {number:02}"},
         "expected": {"sentiment": ("positive", "negative")[number % 2]}, "tags": {"length": "short"}, "source": "written"}
        for category in categories for number in range(each)
    ]  # fmt: skip
    sandbox.write_rows(rows)
    return {row["inputs"]["feedback"]: row["expected"]["sentiment"] for row in rows}


def use_server(sandbox: Sandbox, server: NoisyServer) -> None:
    """Make the server the default model; no key, no price, no patience with outages."""
    sandbox.write(
        "promptops.toml",
        f'default_model = "noisy"\noutage_patience_s = 0\n[models.noisy]\nprovider = "openai"\nmodel = "noisy-1-2026-01-01"\n'
        f'base_url = "{server.url}"\ntimeout_s = 20\n',
    )


def change_prompt(sandbox: Sandbox) -> None:
    """The candidate: one more sentence in the system message."""
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "Mixed feedback is", f"{MARK} Mixed feedback is")
