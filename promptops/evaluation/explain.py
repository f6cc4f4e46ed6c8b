"""The broken cases of a category, with both answers."""

from dataclasses import dataclass

from promptops.core.errors import DataError, did_you_mean
from promptops.evaluation.browse import CaseView, find_case
from promptops.evaluation.compare import run_scores
from promptops.project.project import Project
from promptops.project.store import Run, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenCase:
    """A case that passed more often before: `passed` is "5/5 -> 0/5"."""

    before: CaseView
    after: CaseView
    passed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    category: str
    baseline: Run
    candidate: Run
    broken: int
    cases: tuple[BrokenCase, ...]


def explain_category(
    store: Store, project: Project, baseline: Run, candidate: Run, category: str, *, limit: int
) -> Explanation:
    """The cases that broke in a category or `slice=value`, worst first. Raises DataError for a category the run lacks."""
    before, after = run_scores(store, baseline), run_scores(store, candidate)
    name, _, value = category.partition("=")
    members = [
        case_id
        for case_id, entry in after.items()
        if category == entry.result.category or (value and entry.result.tags.get(name) == value)
    ]
    if not members:
        known = {entry.result.category for entry in after.values()}
        raise DataError(f"run {candidate.id} has no category {category[:60]!r}", hint=did_you_mean(category, known))
    drops = {
        case_id: _rate(before[case_id].passed) - _rate(after[case_id].passed)
        for case_id in members
        if case_id in before
    }
    worst = sorted(
        (case_id for case_id, drop in drops.items() if drop > 0), key=lambda case_id: (-drops[case_id], case_id)
    )
    cases = tuple(
        BrokenCase(
            before=find_case(store, project, baseline, case_id, draw=before[case_id].result.draw),
            after=find_case(store, project, candidate, case_id, draw=after[case_id].result.draw),
            passed=f"{sum(before[case_id].passed)}/{len(before[case_id].passed)} -> {sum(after[case_id].passed)}/{len(after[case_id].passed)}",
        )
        for case_id in worst[:limit]
    )
    return Explanation(category=category, baseline=baseline, candidate=candidate, broken=len(worst), cases=cases)


def _rate(passed: list[bool]) -> float:
    return sum(passed) / len(passed)
