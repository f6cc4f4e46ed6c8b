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
    shown = worst[:limit]
    passed_before, failed_after = (
        _first_draws(store, baseline, shown, passed=True),
        _first_draws(store, candidate, shown, passed=False),
    )
    cases = tuple(
        BrokenCase(
            before=find_case(store, project, baseline, case_id, draw=passed_before[case_id]),
            after=find_case(store, project, candidate, case_id, draw=failed_after[case_id]),
            passed=f"{sum(before[case_id].passed)}/{len(before[case_id].passed)} -> {sum(after[case_id].passed)}/{len(after[case_id].passed)}",
        )
        for case_id in shown
    )
    return Explanation(category=category, baseline=baseline, candidate=candidate, broken=len(worst), cases=cases)


def _rate(passed: list[bool]) -> float:
    return sum(passed) / len(passed)


def _first_draws(store: Store, run: Run, case_ids: list[str], *, passed: bool) -> dict[str, int]:
    """The first draw of each case that ended so: a passing one before and a failing one after show what broke."""
    found: dict[str, int] = {}
    wanted = set(case_ids)
    for result in store.results(run.id):
        if result.case_id in wanted and result.passed is passed:
            found.setdefault(result.case_id, result.draw)
    return found
