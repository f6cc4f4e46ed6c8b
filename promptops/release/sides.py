"""What a person means by one content of a prompt: a version, a channel, a git ref, the work tree, a candidate."""

from dataclasses import dataclass, replace
from typing import Literal

from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.core.names import is_name
from promptops.core.prompt import Prompt
from promptops.project.git import GitTree
from promptops.project.project import Project
from promptops.project.prompts import load_prompt
from promptops.project.tree import Tree
from promptops.release.ledger import Ledger, read_ledger
from promptops.release.names import Version

Kind = Literal["version", "channel", "ref", "work tree", "candidate"]
WORK_TREE = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One content of a prompt: `label` as a person would say it, `commit` '' for files that are in none, `version` and `subject` if released."""

    label: str
    kind: Kind
    tree: Tree
    prompt: Prompt
    commit: str = ""
    version: str = ""
    subject: str = ""


def split_range(text: str) -> tuple[str, str]:
    """(A, B) of `A..B`, `A`, `A..` or `..B`; '' where a side is left out. Raises DataError for three dots."""
    before, dots, after = text.partition("..")
    if after.startswith("."):
        raise DataError(f"{text[:80]!r} has three dots", hint="write A..B")
    return (before, after) if dots else (text, "")


def find_sides(project: Project, name: str, text: str) -> tuple[Side, Side]:
    """Both sides of a range: the left one is by default the newest version (HEAD when nothing is released), the right one the
    work tree.

    Raises DataError, EvaluationError or RefusedError.
    """
    before, after = split_range(text)
    ledger = _ledger(project, name)
    right = find_side(project, name, after or WORK_TREE, ledger)
    latest = ledger.latest(name)
    return find_side(project, name, before or (latest.name.version.tag if latest else "HEAD"), ledger), right


def find_side(project: Project, name: str, text: str, ledger: Ledger) -> Side:
    """The content that `v1.4.0`, `prod`, a git ref, `.` (the work tree) or `@candidate` names.

    Raises DataError for a name that is none, EvaluationError for a commit that is not here, RefusedError for a broken channel.
    """
    if text == WORK_TREE:
        return Side(label="work tree", kind="work tree", tree=project.tree, prompt=load_prompt(project.tree, name))
    if text.startswith("@"):
        tree = project.prompt_tree(name, text[1:])
        return Side(label=f"{name}{text}", kind="candidate", tree=tree, prompt=load_prompt(tree, name))
    version = _version(text)
    if version is not None:
        return _released(project, ledger, name, version, label=version.tag, kind="version")
    if text in ledger.channels(name):
        state = ledger.state(name, text)
        if state.fault:
            raise RefusedError(f"channel {text} of {name} is broken", where=state.faulty_ref, why=state.fault,
                               hint=f"see `promptops status {name}`")  # fmt: skip
        if state.live is None:
            raise DataError(f"nothing is live on channel {text} of {name}", hint=f"see `promptops log {name}`")
        return _released(project, ledger, name, state.live, label=f"{text} ({state.live.tag})", kind="channel")
    return _at(project, name, text, label=text, kind="ref")


def _ledger(project: Project, name: str) -> Ledger:
    """What is released; nothing outside a repository, where a git ref says so itself."""
    try:
        return read_ledger(project.git, name) if is_name(name) else Ledger(versions={}, events={})
    except EvaluationError:
        return Ledger(versions={}, events={})


def _version(text: str) -> Version | None:
    try:
        return Version.parse(text)
    except DataError:
        return None


def _released(project: Project, ledger: Ledger, name: str, version: Version, *, label: str, kind: Kind) -> Side:
    known = ledger.versions.get(name, {})
    found = known.get(version)
    if found is None:
        names = ", ".join(item.tag for item in sorted(known, reverse=True)[:12])
        raise DataError(
            f"{name} has no version {version.tag}", hint=f"known: {names}" if names else "nothing is released yet"
        )
    if found.record is None:
        raise RefusedError(f"version {version.tag} of {name} cannot be read", where=found.name.ref, why=found.fault)
    side = _at(project, name, found.tag.target, label=label, kind=kind, version=version.tag)
    return replace(side, subject=found.record.subject)


def _at(project: Project, name: str, ref: str, *, label: str, kind: Kind, version: str = "") -> Side:
    then = project.at(ref)
    assert isinstance(then.tree, GitTree)
    try:
        prompt = load_prompt(then.tree, name)
    except DataError as error:
        placed = [replace(item, where=f"{label}:{item.where}" if item.where else label) for item in error.problems]
        raise DataError(problems=placed) from error
    return Side(label=label, kind=kind, tree=then.tree, prompt=prompt, commit=then.tree.commit, version=version)
