"""A repository with many prompts and tags, as years of releases leave it; written in one pass, signed like the real thing."""

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from promptops.release.channels import Event
from promptops.release.names import EventName, Version, VersionName
from promptops.release.sshsig import Signer, open_signer
from promptops.release.tags import Tagger, tag_content
from promptops.release.trust import GIT
from promptops.release.versions import VersionRecord

WHO = Tagger("Ana", "ana@example.com")
AT = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONS = 4
CHANNELS = ("prod", "staging")
_PROMPT = """---
promptops: 1
name: {name}
description: One of many.
input: {{schema: input.schema.json}}
---
user:
Answer {{{{ question }}}}.
"""
_INPUT = '{"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"], "additionalProperties": false}\n'


def git(root: Path, *arguments: str, given: bytes | None = None) -> str:
    identity = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", WHO.name), ("EMAIL", WHO.email))
    }
    environment = os.environ | identity | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *arguments], cwd=root, env=environment, input=given, check=True, capture_output=True).stdout.decode().strip()  # fmt: skip


def make_repository(root: Path, *, prompts: int, tags: int) -> tuple[Path, dict[str, str]]:
    """A project with that many prompts and tags; (root, environment of somebody who may promote).

    Each prompt has four versions; the other tags are promotions on two channels, from version to version.
    """
    root.mkdir(parents=True)
    names = [f"prompt-{number:04}" for number in range(prompts)]
    for name in names:
        folder = root / "prompts" / name
        folder.mkdir(parents=True)
        (folder / "prompt.md").write_text(_PROMPT.format(name=name))
        (folder / "input.schema.json").write_text(_INPUT)
    key = root.parent / f"{root.name}.key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signer = open_signer(str(key))
    (root / ".promptops-signers").write_text(f'{WHO.email} namespaces="git,promptops-*" {signer.key}\n')
    (root / "promptops.toml").write_text('default_model = "local"\n')
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Start")
    git(root, "config", "user.name", WHO.name)
    git(root, "config", "user.email", WHO.email)
    stream = _Stream(git(root, "rev-parse", "HEAD"), signer)
    each = tags // prompts - VERSIONS
    for name in names:
        for number in range(VERSIONS):
            stream.version(name, Version(1, number, 0))
        for place, channel in enumerate(CHANNELS):
            stream.channel(name, channel, each // 2 + (each % 2 if place == 0 else 0))
    git(root, "fast-import", "--quiet", given=b"".join(stream.parts))
    head = stream.last
    assert head[1] == git(root, "rev-parse", head[0]), "the chain was computed as git stores it"
    return root, {"PROMPTOPS_SIGNING_KEY": str(key)}


class _Stream:
    """Input of `git fast-import`, and the object ids it will give."""

    def __init__(self, commit: str, signer: Signer) -> None:
        self.commit, self.signer = commit, signer
        self.parts: list[bytes] = []
        self.last = ("", "")

    def version(self, name: str, version: Version) -> None:
        record = VersionRecord(prompt=name, version=version, commit=self.commit, prompt_digest=f"sha256:{version}", subject=f"sha256:{name}{version}", model={}, evidence="",
                               previous=None, bump="minor", reason="first", changelog="- Start\n", actor=WHO.email, at=AT.isoformat())  # fmt: skip
        self._tag(VersionName(name, version).tag, f"{name} {version.tag}", record.as_dict())

    def channel(self, name: str, channel: str, count: int) -> None:
        """Promotions up to the last version but one, then canaries of the last: the next promotion is possible, and so is a rollback."""
        prev, live = "", None
        for seq in range(1, count + 1):
            to = Version(1, min(seq - 1, VERSIONS - 2), 0)
            canary = seq > VERSIONS - 1
            event = Event(prompt=name, channel=channel, seq=seq, prev=prev, action="canary" if canary else "promote", came_from=live,
                          to=Version(1, VERSIONS - 1, 0) if canary else to, bad=None, percent=min(99, seq) if canary else 100, evidence="", actor=WHO.email,
                          reason="", at=AT.isoformat(), nonce=f"{seq:016x}")  # fmt: skip
            live = live if canary else to
            prev = self._tag(EventName(name, channel, seq).tag, f"{name} on {channel}", event.as_dict())

    def _tag(self, tag: str, title: str, body: dict) -> str:
        content = tag_content(target=self.commit, tag=tag, tagger=WHO, at=AT, title=title, body=body)
        whole = content + self.signer.sign(content, GIT).encode()
        message = whole.partition(b"\n\n")[2]
        tagger = f"tagger {WHO} {int(AT.timestamp())} +0000"
        self.parts.append(f"tag {tag}\nfrom {self.commit}\n{tagger}\ndata {len(message)}\n".encode() + message + b"\n")
        oid = hashlib.sha1(b"tag %d\0" % len(whole) + whole).hexdigest()
        self.last = (f"refs/tags/{tag}", oid)
        return oid
