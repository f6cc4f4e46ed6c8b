"""A repository with many prompts, versions and channel events, written as the release commands write them."""

import hashlib
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.corpus import NAME, make_project
from promptops.release.channels import Event
from promptops.release.names import EventName, Version, VersionName
from promptops.release.tags import Tagger, tag_content
from promptops.release.versions import VersionRecord

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
WHO = Tagger("Release Manager", "rel@example.com")
VERSIONS = 4
_ENVIRONMENT = os.environ | {
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
}  # fmt: skip


def prompt_name(number: int) -> str:
    return f"{NAME}-{number:03}"


def make_repository(folder: Path, *, prompts: int = 500, tags: int = 10_000) -> Path:
    """`prompts` prompts with 20 cases each and a few commits; `tags` annotated tags: 4 versions of each prompt, the rest events."""
    template = make_project(folder / "template", 20)
    root = folder / "repository"
    root.mkdir()
    for number in range(prompts):
        _copy(template, root, prompt_name(number))
    (root / ".gitignore").write_text(".promptops/\n")
    _git(root, "init", "-q", "-b", "main")
    commits = [_commit(root, "Begin")]
    for step in range(1, VERSIONS):
        for number in range(prompts):
            path = root / "prompts" / prompt_name(number) / "prompt.md"
            path.write_text(path.read_text().replace("and nothing else.", f"and nothing else. Step {step}."))
        commits.append(_commit(root, f"Step {step}"))
    _tags(root, commits, prompts, tags)
    return root


def _copy(template: Path, root: Path, name: str) -> None:
    for source in template.rglob("*"):
        if source.is_file() and ".promptops" not in source.parts:
            target = root / source.relative_to(template).as_posix().replace(NAME, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text().replace(NAME, name))


def _tags(root: Path, commits: list[str], prompts: int, count: int) -> None:
    """Objects first, in one process; then their refs, in one transaction."""
    each = count // prompts
    contents: list[tuple[str, bytes]] = []
    for number in range(prompts):
        name = prompt_name(number)
        for step, commit in enumerate(commits):
            contents.append(_version(name, step, commit))
        prev = ""
        for seq in range(1, each - VERSIONS + 1):
            ref, content = _event(name, seq, prev, commits)
            contents.append((ref, content))
            prev = hashlib.sha1(b"tag %d\0" % len(content) + content).hexdigest()
    spool = root.parent / "objects"
    spool.mkdir()
    for index, (_, content) in enumerate(contents):
        (spool / str(index)).write_bytes(content)
    paths = "".join(f"{spool / str(index)}\n" for index in range(len(contents)))
    oids = _git(root, "hash-object", "-t", "tag", "-w", "--no-filters", "--stdin-paths", given=paths).split()
    _git(
        root,
        "update-ref",
        "--stdin",
        given="".join(f"create {ref} {oid}\n" for (ref, _), oid in zip(contents, oids, strict=True)),
    )
    _git(root, "pack-refs", "--all")
    _git(root, "repack", "-adq")


def _version(name: str, step: int, commit: str) -> tuple[str, bytes]:
    number = Version(1, step, 0)
    at = BEGIN + timedelta(days=step)
    record = VersionRecord(
        prompt=name, version=number, commit=commit, prompt_digest="sha256:" + "1" * 64, subject="sha256:" + "2" * 64, model={}, evidence="",
        previous=Version(1, step - 1, 0) if step else None, bump="minor", reason="", changelog=f"Step {step}.", actor=WHO.email,
        at=at.isoformat(timespec="seconds"),
    )  # fmt: skip
    tag = VersionName(name, number)
    return tag.ref, tag_content(
        target=commit, tag=tag.tag, tagger=WHO, at=at, title=f"{name} {number.tag}", body=record.as_dict()
    )


def _event(name: str, seq: int, prev: str, commits: list[str]) -> tuple[str, bytes]:
    """Promotions of the versions in turn, then holds and resumes."""
    at = BEGIN + timedelta(days=10, minutes=seq)
    live = Version(1, min(seq, VERSIONS) - 1, 0)
    before = Version(1, min(seq - 1, VERSIONS) - 1, 0) if seq > 1 else None
    action = "promote" if seq <= VERSIONS else "hold" if (seq - VERSIONS) % 2 else "resume"
    event = Event(
        prompt=name, channel="prod", seq=seq, prev=prev, action=action, came_from=before, to=live, bad=None, percent=100, evidence="",
        actor=WHO.email, reason="planned", at=at.isoformat(timespec="seconds"), nonce=f"{seq:032x}",
    )  # fmt: skip
    tag = EventName(name, "prod", seq)
    return tag.ref, tag_content(
        target=commits[live.minor], tag=tag.tag, tagger=WHO, at=at, title=action, body=event.as_dict()
    )


def _commit(root: Path, subject: str) -> str:
    _git(root, "add", "-A")
    _git(root, "commit", "-q", "-m", subject)
    return _git(root, "rev-parse", "HEAD").strip()


def _git(root: Path, *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, env=_ENVIRONMENT, input=given, capture_output=True, text=True, check=True
    )
    return done.stdout
