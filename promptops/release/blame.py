"""Which commit and author last changed each line of a prompt as a model reads it, partials included."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher

from promptops.core.errors import DataError, EvaluationError
from promptops.core.prompt import Role
from promptops.project.git import Git
from promptops.project.project import Project
from promptops.project.prompts import SourceLine, source_lines
from promptops.project.tree import WorkTree, read_text

_HEAD = re.compile(r"([0-9a-f]{40,64}) \d+ (\d+)(?: \d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A commit that changed a line; `commit` is '' for what is not committed."""

    commit: str
    author: str
    email: str
    at: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlamedLine:
    """One line (or part of one, where a partial begins or ends inside it), where it is written, and who last changed it."""

    role: Role
    text: str
    file: str
    line: int
    change: Change


UNCOMMITTED = Change(commit="", author="", email="", at="", subject="")


def blame_prompt(project: Project, name: str, ref: str = "") -> list[BlamedLine]:
    """Every line of the messages in order, in the work tree or in a commit.

    Raises DataError for a prompt that cannot be read, EvaluationError outside a repository.
    """
    git = project.git
    commit = git.commit(ref or "HEAD")
    tree = project.at(commit).tree if ref else project.tree
    lines = source_lines(tree, name)
    files = {line.file for line in lines}
    changes = {file: _changes(git, project, commit, file, at_commit=bool(ref)) for file in sorted(files)}
    return [_blamed(line, changes[line.file]) for line in lines]


def _blamed(line: SourceLine, changes: Mapping[int, Change]) -> BlamedLine:
    change = changes.get(line.line, UNCOMMITTED)
    return BlamedLine(role=line.role, text=line.text, file=line.file, line=line.line, change=change)


def _changes(git: Git, project: Project, commit: str, file: str, *, at_commit: bool) -> dict[int, Change]:
    """Line number -> the commit that last changed it. Lines that only the work tree has are missing.

    The blame is of the commit, never of the file on disk: git would run the repository's content filters on that.
    """
    try:
        committed = read_text(project.at(commit).tree, file)
        found = parse_blame(git.run("blame", "--porcelain", "--no-textconv", "--no-progress", commit, "--", file))
    except (DataError, EvaluationError):
        if not at_commit:  # a new file: nothing of it is committed
            return {}
        raise
    if at_commit or not isinstance(project.tree, WorkTree):
        return found
    old, new = committed.split("\n"), read_text(project.tree, file).split("\n")
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return {
        block.b + offset + 1: found[block.a + offset + 1]
        for block in blocks
        for offset in range(block.size)
        if block.a + offset + 1 in found
    }


def parse_blame(output: bytes) -> dict[int, Change]:
    """Line number -> change, of `git blame --porcelain`, which describes each commit where it is first named."""
    commits: dict[str, dict[str, str]] = {}
    found: dict[int, str] = {}
    current, line = "", 0
    for text in output.decode("utf-8", "replace").split("\n"):
        if text.startswith("\t"):
            found[line] = current
            continue
        head = _HEAD.fullmatch(text)
        if head:
            current, line = head[1], int(head[2])
            commits.setdefault(current, {})
        elif current:
            key, _, value = text.partition(" ")
            commits[current].setdefault(key, value)
    made = {commit: _change(commit, facts) for commit, facts in commits.items()}
    return {number: made[commit] for number, commit in found.items()}


def _change(commit: str, facts: Mapping[str, str]) -> Change:
    seconds = facts.get("author-time", "0")
    at = (
        datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds")
        if seconds.lstrip("-").isdecimal()
        else ""
    )
    return Change(commit=commit, author=facts.get("author", ""), email=facts.get("author-mail", "").strip("<>"), at=at,
                  subject=facts.get("summary", ""))  # fmt: skip


def grouped(lines: Sequence[BlamedLine]) -> Iterator[tuple[Role, list[BlamedLine]]]:
    """The lines message by message; a message begins where the role changes or its lines start over."""
    group: list[BlamedLine] = []
    for line in lines:
        if group and line.role != group[0].role:
            yield group[0].role, group
            group = []
        group.append(line)
    if group:
        yield group[0].role, group
