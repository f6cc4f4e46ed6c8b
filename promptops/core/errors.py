"""Errors a user can act on, and the exit codes they end in.

PromptopsError
├── DataError         2   bad input: configuration, prompt, schema, golden data, usage
├── EvaluationError   3   could not evaluate; resumable, never a verdict
├── RefusedError      4   tampered, path escape, not allowed
└── ConflictError     5   lost a race or a precondition
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What a command tells the shell."""

    OK = 0
    GATE = 1
    BAD_INPUT = 2
    NOT_EVALUATED = 3
    REFUSED = 4
    CONFLICT = 5
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with an input: `where` is `file:line`, `hint` says what to do."""

    what: str
    where: str = ""
    why: str = ""
    hint: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return "".join([head, f", {self.why}" if self.why else "", f"; {self.hint}" if self.hint else ""])

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class PromptopsError(Exception):
    """Base of every error meant for a person; carries one or more problems."""

    exit_code = ExitCode.BUG

    def __init__(
        self, what: str = "", *, where: str = "", why: str = "", hint: str = "", problems: Iterable[Problem] = ()
    ) -> None:
        found = tuple(problems)
        self.problems = found or (Problem(what=what, where=where, why=why, hint=hint),)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataError(PromptopsError):
    exit_code = ExitCode.BAD_INPUT


class EvaluationError(PromptopsError):
    exit_code = ExitCode.NOT_EVALUATED


class RefusedError(PromptopsError):
    exit_code = ExitCode.REFUSED


class ConflictError(PromptopsError):
    exit_code = ExitCode.CONFLICT


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or lists the known ones (at most 12)."""
    from difflib import get_close_matches

    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else ""
