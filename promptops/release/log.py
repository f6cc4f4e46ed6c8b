"""The history of one prompt: its versions, the events of its channels, and the commits that are not released."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from promptops.core.errors import DataError, EvaluationError, PromptopsError
from promptops.core.names import is_name
from promptops.project.changesets import Changeset, read_changesets
from promptops.project.git import Git
from promptops.project.project import Project
from promptops.project.prompts import CANDIDATES, FOLDER, source_lines
from promptops.project.suites import load_suite_paths
from promptops.release.channels import ChannelState
from promptops.release.ledger import EventTag, Ledger, VersionTag, read_ledger

_COMMIT = re.compile(r"commit ([0-9a-f]{40,64})")
_FORMAT = "commit %H%n%an%n%ae%n%aI%n%s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit that changed a prompt; `parts` says what of it: messages, schemas, partials, golden cases, suite, rubric, ..."""

    commit: str
    author: str
    email: str
    at: str
    subject: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Everything newest first; versions by number, events by sequence, commits as git orders them: never by anybody's clock.

    `since` is the version whose commit `commits` begin after ('' when nothing is released); `more` says that older ones exist.
    """

    name: str
    channels: tuple[ChannelState, ...]
    versions: tuple[VersionTag, ...]
    events: tuple[EventTag, ...]
    commits: tuple[Commit, ...]
    since: str
    more: bool
    pending: tuple[Changeset, ...]


def read_log(project: Project, name: str, *, limit: int) -> Log:
    """The history of a prompt, at most `limit` versions, events of a channel, and commits.

    Raises DataError for a prompt that never was, EvaluationError outside a repository.
    """
    if not is_name(name):
        raise DataError(f"{name[:80]!r} is not a prompt name", hint="see `promptops list`")
    ledger = read_ledger(project.git, name)
    versions = sorted(ledger.versions.get(name, {}).values(), key=lambda item: item.name.version, reverse=True)
    latest = next((item for item in versions if item.record), None)
    commits = read_commits(
        project.git, name, paths_of(project, name), since=latest.tag.target if latest else "", limit=limit + 1
    )
    if not (versions or commits or name in project.names()):
        raise DataError(f"no prompt {name!r}, and none in the history", hint="see `promptops list`")
    return Log(
        name=name, channels=tuple(ledger.state(name, channel) for channel in ledger.channels(name)), versions=tuple(versions[:limit]),
        events=_events(ledger, name, limit), commits=tuple(commits[:limit]), since=latest.name.version.tag if latest else "",
        more=len(commits) > limit or len(versions) > limit, pending=_pending(project, name, latest),
    )  # fmt: skip


def _events(ledger: Ledger, name: str, limit: int) -> tuple[EventTag, ...]:
    return tuple(
        event for channel in ledger.channels(name) for event in reversed(ledger.events[name, channel][-limit:])
    )


def _pending(project: Project, name: str, latest: VersionTag | None) -> tuple[Changeset, ...]:
    """Changelog fragments about the prompt that the newest version did not have."""
    try:
        now = read_changesets(project.tree)
        then = read_changesets(project.at(latest.tag.target).tree) if latest and now else ()
    except PromptopsError:
        return ()
    known = {(item.path, item.text) for item in then}
    return tuple(item for item in now if name in item.bumps and (item.path, item.text) not in known)


def paths_of(project: Project, name: str) -> list[str]:
    """The files that make a prompt and its evaluation; those of today's work tree, as far as it can be read."""
    paths = [f"{FOLDER}/{name}", f"golden/{name}.yaml", f"golden/{name}.jsonl"]
    try:
        paths += [line.file for line in source_lines(project.tree, name)]
        paths += load_suite_paths(project.tree, name)
    except PromptopsError:
        pass
    return sorted(set(paths))


def read_commits(
    git: Git, name: str, paths: Sequence[str], *, since: str, limit: int, until: str = "HEAD"
) -> list[Commit]:
    """Commits reachable from `until` that touched the paths, newest first; none in a repository without commits."""
    try:
        head = git.commit(until)
    except EvaluationError:
        return []
    wanted = [head, f"^{since}"] if since else [head]
    output = git.run("log", "--no-show-signature", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-notes", "--no-color",
                     "--name-only", "--relative", f"--max-count={limit}", f"--format={_FORMAT}", *wanted, "--", *paths)  # fmt: skip
    return parse_commits(output.decode("utf-8", "replace"), name)


def parse_commits(output: str, name: str) -> list[Commit]:
    """The commits of a `git log` in our format, each followed by the names of its files."""
    lines = output.split("\n")
    found: list[Commit] = []
    index = 0
    while index < len(lines):
        mark = _COMMIT.fullmatch(lines[index])
        if mark is None or index + 4 >= len(lines):
            index += 1
            continue
        author, email, at, subject = lines[index + 1 : index + 5]
        end = index + 5
        while end < len(lines) and not _COMMIT.fullmatch(lines[end]):
            end += 1
        parts = dict.fromkeys(_part(path, name) for path in lines[index + 5 : end] if path)
        found.append(
            Commit(commit=mark[1], author=author, email=email, at=_utc(at), subject=subject, parts=tuple(parts))
        )
        index = end
    return found


def _utc(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return ""


def _part(path: str, name: str) -> str:
    """What of a prompt a file is."""
    path = path.strip('"')
    inside = path.removeprefix(f"{FOLDER}/{name}/")
    if inside.startswith(f"{CANDIDATES}/"):
        return f"candidate {inside.split('/')[1]}"
    if inside != path:
        named = {
            "prompt.md": "messages",
            "rules.yaml": "local model",
            "router.json": "router",
            "cache.json": "semantic cache",
        }
        kind = (
            "schemas" if inside.endswith(".schema.json") else "examples" if inside.endswith(".jsonl") else "knowledge"
        )
        return named.get(inside, kind)
    if path.startswith(f"{FOLDER}/"):
        return "partials"
    if path.startswith("rubrics/"):
        return "rubric"
    return "suite" if path.endswith(".yaml") else "golden cases"
