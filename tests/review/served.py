"""`promptops review NAME --web` as a process of its own, and plain HTTP to it with whatever headers a test wants."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from conftest import PROMPT, Sandbox

HEADERS = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Served:
    """A running page; `link` is what the reviewer opens."""

    process: "subprocess.Popen[str]"
    link: str

    @property
    def port(self) -> int:
        return urlsplit(self.link).port or 0

    @property
    def token(self) -> str:
        return urlsplit(self.link).fragment

    @property
    def own(self) -> dict[str, str]:
        """The headers that the page itself sends."""
        return {
            **HEADERS,
            "Host": f"127.0.0.1:{self.port}",
            "Origin": f"http://127.0.0.1:{self.port}",
            "X-Promptops-Token": self.token,
        }

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, call: str, body: Any = None) -> dict[str, Any]:
        """What the page gets for a call of its own."""
        status, _, answer = self.ask("POST", f"/api/{call}", self.own, body or {})
        assert status == 200, answer
        return dict(json.loads(answer))


@contextmanager
def served(sandbox: Sandbox, who: str = "ana") -> Iterator[Served]:
    """The page of a reviewer, ended as Ctrl-C does; what it printed is in `process.communicate()` by then."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTOPS_")}
    with subprocess.Popen([sys.executable, "-m", "promptops", "review", PROMPT, "--as", who, "--web", "--json"], cwd=sandbox.root, env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        assert process.stderr is not None
        first = process.stderr.readline()
        try:
            assert first.startswith("open http://127.0.0.1:"), first + process.stderr.read()
            yield Served(process, first.split()[1])
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(60)
