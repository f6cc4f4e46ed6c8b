"""The remote is the truth: what it has is fetched, what it lost or changed is refused, and a new ref is pushed create-only.

What a clone has seen on its remote is kept in `.git/promptops/`, so that it notices a tag that was deleted or moved there.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promptops.core.errors import ConflictError, EvaluationError, Problem, RefusedError
from promptops.project.git import Git
from promptops.release.names import EVENTS, EVIDENCE, VERSIONS, EventName, parse_ref

_LOST = (
    "already exists",
    "reference already exists",
    "cannot lock ref",
    "failed to update ref",
    "stale info",
    "unable to create",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What looking at the remote brought: refs that are new here, refs only here, and refs that others hold with other content."""

    new: tuple[str, ...] = ()
    pending: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)


def prefixes_of(prompt: str) -> list[str]:
    """Where versions and events of a prompt are, or of all prompts."""
    below = f"{prompt}/" if prompt else ""
    return [VERSIONS + below, EVENTS + below]


@dataclass(frozen=True, slots=True)
class Share:
    """Exchange with one remote."""

    git: Git
    remote: str

    def look(self, prefixes: Sequence[str]) -> Fetched:
        """Fetch what is new below the prefixes.

        Raises RefusedError when the remote lost or changed what was seen there, EvaluationError when it cannot be reached.
        """
        there = self.git.remote_refs(self.remote, [f"{prefix}*" for prefix in prefixes])
        there = {ref: oid for ref, oid in there.items() if parse_ref(ref)}
        here = {ref: oid for ref, oid in self.git.refs(prefixes).items() if parse_ref(ref)}
        seen = self.seen()
        known = {ref: oid for ref, oid in seen.items() if ref.startswith(tuple(prefixes))}
        self._refuse_tampering(known, there, here)
        lost = {ref: oid for ref, oid in here.items() if ref in there and there[ref] != oid}
        new = sorted(ref for ref in there if ref not in here)
        if new:
            self.git.exchange(
                "fetch", self.remote, [f"{ref}:{ref}" for ref in new], depth=1 if self.git.shallow() else 0
            )
        if there.keys() - known.keys() - lost.keys():
            self.remember({ref: oid for ref, oid in there.items() if ref not in lost})
        pending = {ref: oid for ref, oid in here.items() if ref not in there}
        return Fetched(new=tuple(new), pending=pending, lost=lost)

    def push(self, refs: Mapping[str, str]) -> None:
        """Push refs that the remote must not have yet, all or none.

        Raises ConflictError when the remote has one of them with other content, EvaluationError when it refuses or cannot be reached.
        """
        try:
            self.git.exchange("push", self.remote, [f"{ref}:{ref}" for ref in refs], atomic=True)
        except EvaluationError as error:
            self._explain_failed_push(refs, error)
        self.remember(refs)

    def _explain_failed_push(self, refs: Mapping[str, str], error: EvaluationError) -> None:
        """Return when the refs arrived all the same, else raise why they did not."""
        try:
            there = self.git.remote_refs(self.remote, list(refs))
        except EvaluationError:
            raise UnknownPushError(
                f"{self.remote} did not answer while it was told", why=error.problems[0].why, hint="`promptops sync` finds out what arrived",
            ) from error  # fmt: skip
        if all(there.get(ref) == oid for ref, oid in refs.items()):
            return
        taken = [ref for ref, oid in refs.items() if ref in there and there[ref] != oid]
        said = error.problems[0].why
        if taken or any(word in said.lower() for word in _LOST):
            what = f"somebody else wrote {', '.join(taken or refs).replace('refs/tags/', '')} first"
            raise ConflictError(
                what, why="nothing of yours was kept", hint="`promptops status` shows what is there; decide again"
            ) from error
        raise EvaluationError(
            f"{self.remote} refused", why=said, hint="check your rights and the rules for tags there"
        ) from error

    def _refuse_tampering(self, known: Mapping[str, str], there: Mapping[str, str], here: Mapping[str, str]) -> None:
        problems: list[Problem] = []
        for ref, oid in sorted(known.items()):
            if ref not in there:
                problems.append(Problem(what=f"{_short(ref)} was deleted on {self.remote}", where=ref, why="what was released is never deleted",
                                        hint=f"ask who did it; put it back with `git push {self.remote} {oid}:{ref}`"))  # fmt: skip
            elif there[ref] != oid:
                problems.append(Problem(what=f"{_short(ref)} was moved on {self.remote}", where=ref, why=f"it was {oid[:12]} and is {there[ref][:12]}",
                                        hint=f"ask who did it; put it back with `git push --force {self.remote} {oid}:{ref}`"))  # fmt: skip
            elif ref in here and here[ref] != oid:
                problems.append(Problem(what=f"{_short(ref)} was moved in this clone", where=ref, why=f"{self.remote} has {oid[:12]}, here is {here[ref][:12]}",
                                        hint=f"git fetch {self.remote} +{ref}:{ref}"))  # fmt: skip
        if problems:
            raise RefusedError(problems=problems)

    @property
    def _file(self) -> Path:
        return self.git.common_folder / "promptops" / f"seen-{self.remote.replace('/', '%')}"

    def seen(self) -> dict[str, str]:
        """Ref -> object id of what was seen on the remote by this clone."""
        try:
            lines = self._file.read_text("ascii").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return {}
        return {ref: oid for oid, _, ref in (line.partition(" ") for line in lines) if ref}

    def remember(self, refs: Mapping[str, str]) -> None:
        """Add to what was seen. The file is replaced in one step; two writers at once lose nothing but a notice."""
        lines = sorted(f"{oid} {ref}" for ref, oid in (self.seen() | dict(refs)).items())
        self._file.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._file.parent, prefix="seen-")
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._file)


class UnknownPushError(EvaluationError):
    """It is not known whether what was pushed arrived."""


def drop(git: Git, refs: Mapping[str, str]) -> None:
    """Remove refs that lost, when they still are what they were."""
    if refs:
        git.change_refs([f"delete {ref} {oid}" for ref, oid in refs.items()])


def pending_events(refs: Iterable[str], prompt: str, channel: str) -> list[str]:
    """Those of the refs that are events of one channel, in order."""
    names = [(name, ref) for ref in refs if isinstance(name := parse_ref(ref), EventName)]
    return [
        ref
        for name, ref in sorted(names, key=lambda pair: pair[0].seq)
        if (name.prompt, name.channel) == (prompt, channel)
    ]


def evidence_prefix(subject: str) -> str:
    return f"{EVIDENCE}{subject.removeprefix('sha256:')}/"


def _short(ref: str) -> str:
    return ref.removeprefix("refs/tags/")
