"""A job of GitHub's on this machine: its environment, its files, and the part of its API that comments need."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from conftest import REPOSITORY, Outcome, Sandbox

WORKFLOW = REPOSITORY / ".github" / "workflows" / "promptops.yml"
OWNER = "acme/prompts"


@dataclass
class Job:
    """One job in a clone; `run_step` runs the shell of a step of the shipped workflow as it is written."""

    sandbox: Sandbox
    folder: Path
    event: Mapping[str, Any]
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / "event.json"
        path.write_text(json.dumps(self.event), "utf-8")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PROMPTOPS_", "GITHUB_"))}
        return kept | {
            "GITHUB_ACTIONS": "true", "GITHUB_EVENT_PATH": str(path), "GITHUB_REPOSITORY": OWNER,
            "GITHUB_OUTPUT": str(self.folder / "output"), "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        } | self.extra  # fmt: skip

    def run_step(self, job: str, name: str, **inputs: str) -> Outcome:
        step = next(item for item in workflow()["jobs"][job]["steps"] if item.get("name") == name)
        values = {"max-cost": "5", "accept": ""} | inputs
        given = {key: _filled(value, values) for key, value in step.get("env", {}).items()}
        done = subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], cwd=self.sandbox.root,
                              env=self.environment | given, capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    @property
    def outputs(self) -> dict[str, str]:
        """As GitHub reads the file: NAME<<DELIMITER, lines, DELIMITER."""
        lines = iter((self.folder / "output").read_text("utf-8").splitlines())
        found = {}
        for line in lines:
            name, _, delimiter = line.partition("<<")
            found[name] = "\n".join(iter(lines.__next__, delimiter))
        return found

    @property
    def summary(self) -> str:
        return (self.folder / "summary").read_text("utf-8")


def workflow() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    return found


def _filled(value: str, inputs: Mapping[str, str]) -> str:
    for name, given in inputs.items():
        value = value.replace("${{ inputs." + name + " }}", given)
    return "" if "${{" in value else value


def pull_request(base: str, *, fork: bool = False) -> dict[str, Any]:
    repository = "stranger/prompts" if fork else OWNER
    return {
        "pull_request": {
            "number": 7,
            "base": {"sha": base},
            "head": {"sha": "0" * 40, "repo": {"full_name": repository}},
        }
    }


@dataclass
class Api:
    """Comments as GitHub keeps them; `calls` are (method, path)."""

    address: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    author: str = "github-actions[bot]"
    status: int = 200


@contextmanager
def github_api() -> Iterator[Api]:
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def _answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(api.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _body(self) -> str:
            return str(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"])

        def do_GET(self) -> None:
            api.calls.append(("GET", self.path))
            page = int(self.path.rpartition("page=")[2])
            self._answer(api.comments[(page - 1) * 100 : page * 100])

        def do_POST(self) -> None:
            api.calls.append(("POST", self.path))
            api.comments.append(
                {
                    "id": len(api.comments) + 1,
                    "user": {"login": api.author},
                    "body": self._body(),
                    "html_url": "http://x/1",
                }
            )
            self._answer(api.comments[-1])

        def do_PATCH(self) -> None:
            api.calls.append(("PATCH", self.path))
            comment = api.comments[int(self.path.rpartition("/")[2]) - 1]
            comment["body"] = self._body()
            self._answer(comment)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    api.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
