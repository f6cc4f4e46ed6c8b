"""The checks of a suite applied to one answer."""

from dataclasses import dataclass

from promptops.core.checks import CaseFacts, Check, Completion, Score, Unscored

Scores = tuple[tuple[str, bool | None, str, float | None], ...]
"""(check, passed, reason, value) of each check that applied to an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """All checks of one answer. `passed` is None when no check failed but one could not run, or none applies."""

    passed: bool | None
    value: float | None
    scores: Scores


def score(checks: tuple[Check, ...], completion: Completion, facts: CaseFacts) -> Scored:
    """A case passes when every check that applies passes; `value` is the mean of graded and pass/fail checks."""
    rows: list[tuple[str, bool | None, str, float | None]] = []
    for check in checks:
        found = check.score(completion, facts)
        if isinstance(found, Score):
            rows.append((found.check, found.passed, found.reason, found.value))
        elif isinstance(found, Unscored):
            rows.append((found.check, None, found.reason, None))
    verdicts = [passed for _, passed, _, _ in rows]
    if False in verdicts:
        passed: bool | None = False
    else:
        passed = None if None in verdicts or not verdicts else True
    grades = [float(ok) if value is None else value for _, ok, _, value in rows if ok is not None]
    return Scored(passed=passed, value=sum(grades) / len(grades) if grades else None, scores=tuple(rows))


def first_reason(scores: Scores) -> str:
    """Why an answer did not pass: the first check that failed, else the first that could not run; '' when all passed."""
    for wanted in (False, None):
        for name, passed, reason, _ in scores:
            if passed is wanted:
                return f"{name}: {reason}"
    return ""
