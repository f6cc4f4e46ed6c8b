"""A bare remote, and clones of it in which people with keys release and promote; everything is real git."""

import io
import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from conftest import Outcome
from promptops.project.git import Git
from promptops.project.project import open_project
from promptops.project.scaffold import scaffold
from promptops.release.desk import Desk, open_desk
from promptops.release.names import Version
from promptops.release.operate import Done, Wanted, operate
from promptops.release.tags import tag_content, write_tag
from promptops.release.versions import VersionRecord
from release.keys import make_key

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NAME = "feedback-sentiment"
ROLES = {
    "ana": 'namespaces="git,promptops-*"',
    "ci": 'namespaces="promptops-evidence"',
    "bob": 'namespaces="git,promptops-promote-dev,promptops-approve"',
    "old": 'namespaces="git,promptops-*",valid-before="20260101Z"',
}


def git(folder: Path, *arguments: str, who: str = "ana") -> str:
    environment = os.environ | {
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": who, "GIT_AUTHOR_EMAIL": f"{who}@example.com",
        "GIT_COMMITTER_NAME": who, "GIT_COMMITTER_EMAIL": f"{who}@example.com",
    }  # fmt: skip
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {arguments}: {done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Clone:
    """Somebody's clone."""

    root: Path
    who: str
    keys: Path
    clock: Callable[[], datetime] = field(default=lambda: NOW)

    @property
    def environment(self) -> Mapping[str, str]:
        key = self.keys / self.who
        return {"GIT_COMMITTER_NAME": self.who, "GIT_COMMITTER_EMAIL": f"{self.who}@example.com"} | (
            {"PROMPTOPS_SIGNING_KEY": str(key)} if key.exists() else {}
        )

    @property
    def desk(self) -> Desk:
        return open_desk(open_project(self.root), clock=self.clock, environment=self.environment)

    def git(self, *arguments: str) -> str:
        return git(self.root, *arguments, who=self.who)

    def call(self, *arguments: str) -> Outcome:
        """A command of promptops in this process, as this person, in this clone."""
        from promptops.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.root)
            for key in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "PROMPTOPS_SIGNING_KEY"):
                patch.delenv(key, raising=False)
            for key, value in self.environment.items():
                patch.setenv(key, value)
            code = main(arguments)
        return Outcome(code, out.getvalue(), err.getvalue())

    def edit(self, path: str, old: str, new: str, *, push: bool = True) -> str:
        """Change a file, commit it, and push it to main; the commit."""
        file = self.root / path
        text = file.read_text()
        assert old in text, f"{old!r} is not in {path}"
        file.write_text(text.replace(old, new))
        self.git("commit", "-q", "-a", "-m", f"Change {path}")
        if push:
            self.git("push", "-q", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def tags(self) -> dict[str, str]:
        return Git(self.root).refs(["refs/tags/"])

    def version(self, number: str, *, push: bool = True) -> str:
        """A released version, straight into git: releases have tests of their own."""
        commit = self.git("rev-parse", "HEAD")
        record = VersionRecord(prompt=NAME, version=Version.parse(number), commit=commit, prompt_digest=f"sha256:{number}", subject="sha256:2", model={},
                               evidence="", previous=None, bump="minor", reason="", changelog="", actor=f"{self.who}@example.com", at=NOW.isoformat())  # fmt: skip
        desk = self.desk
        tagger, sign, _ = desk.acting()
        content = tag_content(
            target=commit, tag=record.name.tag, tagger=tagger, at=NOW, title=number, body=record.as_dict()
        )
        oid = write_tag(desk.git, record.name.ref, content, sign).oid
        desk.git.change_refs([f"create {record.name.ref} {oid}"])
        if push:
            self.git("push", "-q", "origin", record.name.ref)
        return oid

    def promote(self, version: str, channel: str = "prod", *, offline: bool = False, **options) -> Done:
        percent = options.get("percent", 100)
        action = "promote" if percent == 100 else "canary"
        return operate(
            self.desk,
            Wanted(prompt=NAME, channel=channel, action=action, to=Version.parse(version), **options),
            offline=offline,
        )

    def rollback(
        self, channel: str = "prod", *, to: str = "", offline: bool = False, reason: str = "wrong labels"
    ) -> Done:
        target = Version.parse(to) if to else None
        return operate(
            self.desk,
            Wanted(prompt=NAME, channel=channel, action="rollback", to=target, reason=reason),
            offline=offline,
        )


@dataclass(frozen=True)
class Shop:
    """The remote and where its clones are."""

    folder: Path
    signed: bool = True

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    def clone(self, who: str, *options: str, url: str = "", name: str = "", **settings) -> Clone:
        root = self.folder / (name or who)
        git(self.folder, "clone", "-q", *options, url or f"file://{self.remote}", str(root))
        return Clone(root, who, self.folder / "keys", **settings)

    def remote_refs(self) -> dict[str, str]:
        return Git(self.remote).refs(["refs/tags/"])


def open_shop(folder: Path, *, signed: bool = True) -> Shop:
    """A remote whose main branch has one prompt and the rules: four people with roles, or no signatures."""
    folder.mkdir(exist_ok=True)
    keys = folder / "keys"
    keys.mkdir()
    shop = Shop(folder, signed)
    git(folder, "init", "-q", "--bare", "-b", "main", str(shop.remote))
    first = folder / "first"
    git(folder, "clone", "-q", f"file://{shop.remote}", str(first))
    git(first, "checkout", "-q", "-b", "main")
    scaffold(first)
    settings = (first / "promptops.toml").read_text()
    files: dict[str, str] = {}
    if signed:
        lines = [
            f"{who}@example.com {options} {make_key(keys / who).with_name(who + '.pub').read_text().strip()}"
            for who, options in ROLES.items()
        ]
        make_key(keys / "eve")
        files |= {".promptops-signers": "\n".join(lines) + "\n"}
    else:
        files |= {"promptops.toml": settings + "\n[release]\nunsigned = true\n"}
    for name, text in files.items():
        path = first / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(first, "add", "-A")
    git(first, "commit", "-q", "-m", "Start")
    git(first, "push", "-q", "origin", "main")
    return shop
