"""Fixtures shared by all tests: a real project in a temporary folder, and the command line as a process or a call."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from promptops.project.scaffold import scaffold

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
PROMPT = "feedback-sentiment"
pytest_plugins = ("runtime.redis_fixtures", "engine.ray_fixtures", "support.postgresql", "support.stores")


@dataclass(frozen=True)
class Outcome:
    """What a finished command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Sandbox:
    """The starter project in a folder of its own, with the means to change and run it."""

    root: Path

    def path(self, name: str) -> Path:
        return self.root / name

    def read(self, name: str) -> str:
        return self.path(name).read_text("utf-8")

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.read(name)
        assert old in text, f"{old!r} is not in {name}"
        self.write(name, text.replace(old, new))

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read(f"golden/{PROMPT}.jsonl").splitlines()]

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        self.write(f"golden/{PROMPT}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def run(self, *arguments: str, env: dict[str, str] | None = None, timeout: float = 60, **options: Any) -> Outcome:
        """The command as a process of its own, as a user's shell would start it."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTOPS_")} | (
            env or {}
        )
        finished = subprocess.run(
            [sys.executable, "-m", "promptops", *arguments],
            cwd=options.pop("cwd", self.root), env=environment, capture_output=True, timeout=timeout, check=False, **options,
        )  # fmt: skip
        return Outcome(
            finished.returncode, finished.stdout.decode("utf-8", "replace"), finished.stderr.decode("utf-8", "replace")
        )

    def git(self, *arguments: str) -> str:
        """A real git command with a fixed identity and no configuration of the machine."""
        environment = os.environ | {
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "Author", "GIT_AUTHOR_EMAIL": "author@example.com",
            "GIT_COMMITTER_NAME": "Author", "GIT_COMMITTER_EMAIL": "author@example.com",
        }  # fmt: skip
        return subprocess.run(
            ["git", *arguments], cwd=self.root, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit_all(self, subject: str = "Change") -> str:
        if not self.path(".git").exists():
            self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """A fresh starter project (prompt `feedback-sentiment`, 22 cases in two categories, local rules)."""
    root = tmp_path / "project"
    root.mkdir()
    scaffold(root)
    return Sandbox(root)


@pytest.fixture
def call(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The command in this process: faster, for everything that does not depend on being a process."""
    monkeypatch.chdir(sandbox.root)

    def run(*arguments: str) -> Outcome:
        from promptops.cli.main import main

        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def _no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no key and no setting of the machine they run on."""
    for name in list(os.environ):
        if name.startswith("PROMPTOPS_") or name in ("OPENAI_API_KEY", "COLUMNS", "NO_COLOR"):
            monkeypatch.delenv(name)
