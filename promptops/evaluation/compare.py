"""Two runs side by side: may they be compared, and what did the change do?"""

from collections.abc import Iterable
from dataclasses import dataclass

from promptops.core.errors import DataError, EvaluationError, Problem
from promptops.core.suite import CATEGORY, JUDGE, GatePolicy, slice_rows
from promptops.evaluation.summary import gate_policy
from promptops.gate import CaseDraws, Comparison, DrawMore, decide
from promptops.gate.spend import Ratio, compare_spending
from promptops.project.store import Result, Run, Store

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """A baseline run, a candidate run, and the verdicts."""

    baseline: Run
    candidate: Run
    comparison: Comparison
    same_answers: int
    spending: tuple[Ratio, ...]
    judged: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    """(passed, judged) answers of each side by the judge's own word, whether it counts or not."""

    @property
    def blocked(self) -> bool:
        """Whether quality, latency or cost says no."""
        return self.comparison.blocked or any(ratio.exceeded for ratio in self.spending)


@dataclass(slots=True)
class CaseScores:
    """All draws of one case in a run."""

    result: Result
    passed: list[bool]
    answer_keys: set[str]

    @property
    def draws(self) -> tuple[float, ...]:
        return tuple(map(float, self.passed))

    def case_draws(self, slices: tuple[str, ...]) -> CaseDraws:
        return CaseDraws(case_id=self.result.case_id, category=self.result.category, draws=self.draws,
                         group=self.result.group or None, slices=slices)  # fmt: skip


def compare_runs(store: Store, baseline: Run, candidate: Run, *, seed: int = 0) -> RunComparison:
    """Judge every category of two complete runs of one prompt over the same golden content, by the draws they hold.

    Raises DataError when they are not comparable (saying what differs), EvaluationError when one lacks results.
    """
    if baseline.id == candidate.id:
        raise DataError(f"both are run {baseline.id}", why="a run cannot be worse than itself", hint="name two runs")
    _refuse_incomparable(baseline, candidate)
    return compare_draws(store, baseline, candidate, policy=gate_policy(candidate), seed=seed)


def compare_draws(
    store: Store, baseline: Run, candidate: Run, *, policy: GatePolicy, draw_more: DrawMore | None = None,
    keep_first: bool = True, seed: int = 0,
) -> RunComparison:  # fmt: skip
    """The gate's verdict on two complete runs over the same cases, as `decide`. Raises as `compare_runs`."""
    before, after = run_scores(store, baseline), run_scores(store, candidate)
    _refuse_other_cases(before, after)
    comparison = decide(
        case_draws(before.values(), policy),
        case_draws(after.values(), policy),
        policy=policy,
        draw_more=draw_more,
        keep_first=keep_first,
        seed=seed,
        flip_rate=_flip_rate(candidate),
        weights=candidate.header.weights,
    )
    return RunComparison(
        baseline=baseline, candidate=candidate, comparison=comparison,
        same_answers=sum(entry.answer_keys == after[case_id].answer_keys for case_id, entry in before.items()),
        spending=_spending(store, (baseline, candidate), policy, seed),
        judged=(_judged(store, baseline), _judged(store, candidate)),
    )  # fmt: skip


def _judged(store: Store, run: Run) -> tuple[int, int]:
    if not run.header.judge:
        return 0, 0
    said = [
        passed
        for result in store.results(run.id)
        for name, passed, _, _ in result.scores
        if name == JUDGE and passed is not None
    ]
    return sum(said), len(said)


def _flip_rate(run: Run) -> float:
    """How often the judge of a run changes its mind, where its verdicts count; 0 without one, or where that was not measured."""
    judge = run.header.judge
    measured = judge.get("calibration", {}).get("flip_rate") if judge and judge["standing"] != "advisory" else None
    return float(measured or 0.0)


def case_draws(scores: Iterable[CaseScores], policy: GatePolicy) -> list[CaseDraws]:
    """The draws of a run as the gate takes them, with the slices that the policy judges."""
    names = [name for name in policy.by if name != CATEGORY]
    return [entry.case_draws(slice_rows(entry.result.tags, names)) for entry in scores if entry.passed]


def _refuse_incomparable(baseline: Run, candidate: Run) -> None:
    problems: list[Problem] = []
    pairs = (("prompt", "other prompt", "compare runs of one prompt"),
             ("rubric_digest", "other rubric content", "evaluate both with one rubric"),
             ("judge_digest", "other judge (its prompt, model, parameters, votes or rubric)", "evaluate both with one judge"),
             ("judge_standing", "the judge counts in one alone", "apply today's calibration: `promptops rescore RUN`"),
             ("suite_digest", "other suite (checks, schemas or gate)", "evaluate both with one suite"),
             ("selection", "other selection of cases", "evaluate both with the same filters"))  # fmt: skip
    for field, what, hint in pairs:
        before, after = getattr(baseline.header, field), getattr(candidate.header, field)
        if before != after:
            shown = f"{str(before)[:60]} against {str(after)[:60]}"
            problems.append(
                Problem(what=f"not comparable: {what}", where=f"{baseline.id} / {candidate.id}", why=shown, hint=hint)
            )
    if problems:
        raise DataError(problems=problems)
    for run in (baseline, candidate):
        if run.state != "complete":
            raise EvaluationError(f"run {run.id} is {run.state}", why="a verdict needs every case",
                                  hint=f"evaluate {run.header.prompt} again")  # fmt: skip


def run_scores(store: Store, run: Run) -> dict[str, CaseScores]:
    """The draws of a complete run by case, without the few that its judge missed. Raises EvaluationError when some are missing."""
    found: dict[str, CaseScores] = {}
    count = 0
    for result in store.results(run.id):
        count += 1
        entry = found.setdefault(result.case_id, CaseScores(result, [], set()))
        entry.answer_keys.add(result.answer_key)
        if result.passed is not None:
            entry.passed.append(result.passed)
    if count != run.header.planned:
        raise EvaluationError(
            f"run {run.id} has {count} of {run.header.planned} results", hint=f"evaluate {run.header.prompt} again"
        )
    return found


def _refuse_other_cases(before: dict[str, CaseScores], after: dict[str, CaseScores]) -> None:
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    changed = {
        case_id
        for case_id in before.keys() & after.keys()
        if before[case_id].result.case_digest != after[case_id].result.case_digest
    }
    problems = [
        Problem(
            what=f"not comparable: {len(ids)} golden cases {word}",
            why=_some(ids),
            hint="evaluate both over the same golden cases",
        )
        for ids, word in ((gone, "are gone"), (new, "are new"), (changed, "have other content"))
        if ids
    ]
    if problems:
        raise DataError(problems=problems)


def _some(ids: Iterable[str]) -> str:
    names = sorted(ids)
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _spending(store: Store, runs: tuple[Run, Run], policy: GatePolicy, seed: int) -> tuple[Ratio, ...]:
    before, after = ([(item.latency_s, item.cost_nanousd) for item in store.results(run.id)] for run in runs)
    limits = {"p50": policy.max_p50_ratio, "p99": policy.max_p99_ratio, "cost": policy.max_cost_ratio}
    latency = ([item[0] for item in before], [item[0] for item in after])
    cost = ([float(item[1]) for item in before], [float(item[1]) for item in after])
    return compare_spending(latency, cost, limits=limits, seed=seed)
