"""Every case of a run, or of two side by side, with what was asked, expected and answered: what reports are made of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from promptops.core.errors import PromptopsError
from promptops.core.jsontext import Json
from promptops.core.suite import Case
from promptops.evaluation.compare import RunComparison
from promptops.evaluation.policy import PolicyChange
from promptops.evaluation.scoring import Scores, first_reason
from promptops.evaluation.summary import Summary, summarize
from promptops.gate import CaseChange
from promptops.project.golden import read_cases
from promptops.project.project import Project
from promptops.project.store import Result, Run, Store

Change = Literal["broken", "fixed", "same", "alone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """All draws of one case in a run. The answer and the scores are of the draw that tells most: see `_telling`."""

    passed: int
    failed: int
    unscored: int
    answer: str
    outcome: str
    scores: Scores
    latency_s: float
    cost_nanousd: int

    @property
    def draws(self) -> int:
        return self.passed + self.failed + self.unscored

    @property
    def verdict(self) -> bool | None:
        """True when every draw passed, False when a draw failed, None when one has no score and none failed."""
        return False if self.failed else None if self.unscored else True

    @property
    def unstable(self) -> bool:
        return bool(self.passed and self.failed)

    @property
    def reason(self) -> str:
        """The first reason the shown draw did not pass; '' when it did."""
        return first_reason(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRecord:
    """One case. `inputs` and `expected` are None when the golden row is no longer what it was in the run.

    `moved` counts the draws the gate judged by, which may be fresh ones that are in neither run.
    """

    id: str
    category: str
    tags: Mapping[str, str]
    file: str
    line: int
    inputs: Mapping[str, Json] | None
    expected: Mapping[str, Json] | None
    side: Side
    before: Side | None = None
    change: Change = "alone"
    moved: CaseChange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """An evaluated prompt, alone or beside its baseline, with every case. `weaker` are changes of the gate that block."""

    summary: Summary
    cases: tuple[CaseRecord, ...]
    comparison: RunComparison | None = None
    ref: str = ""
    changes: tuple[PolicyChange, ...] = ()
    accepted: frozenset[str] = field(default_factory=frozenset)

    @property
    def run(self) -> Run:
        return self.summary.run

    @property
    def weaker(self) -> tuple[PolicyChange, ...]:
        return tuple(change for change in self.changes if change.name not in self.accepted)

    @property
    def evaluated(self) -> bool:
        """Whether every planned draw has a score; without that there is no verdict."""
        return self.run.state == "complete"

    @property
    def blocked(self) -> bool:
        if self.comparison is None:
            return bool(self.summary.missed_floors)
        return self.comparison.blocked or bool(self.weaker)


def read_evaluation(
    store: Store, project: Project, run: Run, comparison: RunComparison | None = None, *, ref: str = "",
    changes: tuple[PolicyChange, ...] = (), accepted: Iterable[str] = (),
) -> Evaluation:  # fmt: skip
    """A stored run with its cases, in the order of its golden file; with a comparison, both sides of each."""
    after = _sides(store, run)
    before = _sides(store, comparison.baseline) if comparison else {}
    golden = _golden(project, run)
    moved = _moved(comparison)
    records = []
    for case_id, (result, side) in sorted(after.items(), key=lambda item: (item[1][0].line, item[0])):
        case = golden.get(case_id)
        same = case is not None and case.digest == result.case_digest
        records.append(
            CaseRecord(
                id=case_id, category=result.category, tags=result.tags, file=f"golden/{run.header.prompt}.jsonl", line=result.line,
                inputs=case.inputs if case and same else None, expected=case.expected if case and same else None,
                side=side, before=before[case_id][1] if case_id in before else None,
                change=_change(moved.get(case_id)) if comparison else "alone", moved=moved.get(case_id),
            )
        )  # fmt: skip
    return Evaluation(summary=summarize(store, run), cases=tuple(records), comparison=comparison, ref=ref, changes=changes,
                      accepted=frozenset(accepted))  # fmt: skip


def _moved(comparison: RunComparison | None) -> dict[str, CaseChange]:
    """What the gate saw of each case that broke or was fixed."""
    verdicts = (*comparison.comparison.verdicts, comparison.comparison.total) if comparison else ()
    return {change.case_id: change for verdict in verdicts for change in (*verdict.broken, *verdict.fixed)}


def _change(moved: CaseChange | None) -> Change:
    return "same" if moved is None else "broken" if moved.difference < 0 else "fixed"


def _sides(store: Store, run: Run) -> dict[str, tuple[Result, Side]]:
    grouped: dict[str, list[Result]] = {}
    for result in store.results(run.id):
        grouped.setdefault(result.case_id, []).append(result)
    return {case_id: (draws[0], _side(store, draws)) for case_id, draws in grouped.items()}


def _side(store: Store, draws: list[Result]) -> Side:
    shown = _telling(draws)
    answer = store.find_answer(shown.answer_key)
    return Side(
        passed=sum(draw.passed is True for draw in draws), failed=sum(draw.passed is False for draw in draws),
        unscored=sum(draw.passed is None for draw in draws), answer=answer.text if answer else "", outcome=shown.outcome,
        scores=shown.scores, latency_s=sum(draw.latency_s for draw in draws) / len(draws),
        cost_nanousd=sum(draw.cost_nanousd for draw in draws),
    )  # fmt: skip


def _telling(draws: list[Result]) -> Result:
    """The first draw that ended as most did: what the case usually does, not its rare exception."""
    passed = sum(draw.passed is True for draw in draws)
    usual = passed * 2 > len(draws)
    return next((draw for draw in draws if (draw.passed is True) is usual), draws[0])


def _golden(project: Project, run: Run) -> dict[str, Case]:
    try:
        evaluable = project.load(run.header.prompt)
        return {case.id: case for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)}
    except PromptopsError:
        return {}
