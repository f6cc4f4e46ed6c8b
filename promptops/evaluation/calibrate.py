"""Measure a judge against people's labels: judge the labelled answers again, compare, and say what it may be used for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from promptops.core.digest import digest
from promptops.core.errors import DataError, EvaluationError
from promptops.core.judging import Judgement
from promptops.core.rubric import Rubric
from promptops.core.suite import Case
from promptops.evaluation.execute import Options, Progress
from promptops.evaluation.judge_session import JudgeItem, judge_answers
from promptops.evaluation.plan import Clock, Plan, Selection, make_plan
from promptops.gate.agreement import Agreement as HumanAgreement
from promptops.gate.agreement import agreement as human_agreement
from promptops.gate.calibration import Agreement, Rate, agreement, cohen_kappa, majority, ordinal_alpha
from promptops.gate.standing import WANTED_FAILS, WANTED_LABELS, JudgeStanding, standing_of
from promptops.project.labels import Label
from promptops.project.project import Project
from promptops.project.store import Ledger, Store

MIN_IN_CATEGORY = 10
MOST_UNREAD = 0.05
SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledAnswer:
    """An answer with what people said of it; `human` is the majority, None when they are split evenly."""

    case: Case
    answer: str
    labels: tuple[Label, ...]
    human: bool | None
    inclusion: float | None

    @property
    def note(self) -> str:
        """Why people say so: the notes of those in the majority, or what they failed it for."""
        agreeing = [label for label in self.labels if label.passed == self.human]
        notes = [f"{label.by}: {label.note}" for label in agreeing if label.note]
        failed = sorted(
            {
                name
                for label in agreeing
                for name, score in label.verdicts.items()
                if score is False or (score is not True and score <= 2)
            }
        )
        return "; ".join(notes) or (
            f"{', '.join(failed)} not met" if failed else f"{len(agreeing)} of {len(self.labels)} say so"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """The labels that count today; `stale_case`, `stale_rubric`: labels of content that has changed since, `split`: answers people disagree on."""

    answers: tuple[LabelledAnswer, ...]
    stale_case: int
    stale_rubric: int
    split: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    case_id: str
    category: str
    answer: str
    human: bool
    human_reason: str
    judge: bool
    judge_value: float
    judge_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionAgreement:
    """One criterion: on how many answers both have a verdict, how often they agree, and beyond chance (`alpha` on a scale, else kappa)."""

    criterion: str
    n: int
    agree: float
    beyond_chance: float | None
    statistic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a judge compares with people. `flips` is the share of verdict pairs on one answer that differ, `unread` answers got no verdict."""

    prompt: str
    plan: Plan
    labelled: Labelled
    total: Agreement
    categories: Mapping[str, Agreement]
    criteria: tuple[CriterionAgreement, ...]
    humans: HumanAgreement | None
    flips: Rate
    unread: int
    weighted: bool
    disagreements: tuple[Disagreement, ...]
    standing: JudgeStanding
    ledger: Ledger
    at: str

    @property
    def human_fails(self) -> int:
        return self.total.confusion.false_pass + self.total.confusion.caught

    @property
    def advice(self) -> tuple[str, ...]:
        """What would make the figures firmer."""
        found: list[str] = []
        if self.total.confusion.n < WANTED_LABELS:
            found.append(f"{self.total.confusion.n} labelled answers: {WANTED_LABELS} are better")
        if self.human_fails < WANTED_FAILS:
            found.append(f"{self.human_fails} of them people fail: {WANTED_FAILS} tell how well it catches what is bad")
        if not self.weighted:
            found.append("the answers were not all chosen by chance: the figures are of these answers, not of all")
        return tuple(found)

    def as_row(self) -> dict[str, Any]:
        """What is stored, and what a run shows of its judge."""
        judge = self.plan.judge
        assert judge, "a plan with a judge"
        total = self.total
        return {
            "judge_digest": judge.digest, "judge": judge.name, "rubric": judge.rubric.name, "at": self.at,
            "labels_digest": self.labelled.digest, "labels": total.confusion.n, "human_fails": self.human_fails, "weighted": self.weighted,
            "tpr": total.tpr.value, "tpr_interval": _ends(total.tpr), "tnr": total.tnr.value, "tnr_interval": _ends(total.tnr),
            "j": total.j.value, "j_interval": _ends(total.j), "bias": total.bias.value, "bias_interval": _ends(total.bias),
            "kappa": total.kappa.value, "kappa_interval": _ends(total.kappa), "confusion": asdict(total.confusion),
            "human_agreement": None if self.humans is None else
            {"answers": self.humans.items, "raters": self.humans.raters, "agreed": self.humans.agreed, self.humans.statistic: self.humans.beyond_chance},
            "flip_rate": self.flips.value, "flip_pairs": self.flips.n, "unread": self.unread,
            "categories": {name: {"labels": item.confusion.n, "tpr": item.tpr.value, "tnr": item.tnr.value, "j": item.j.value, "j_interval": _ends(item.j),
                                  "bias": item.bias.value} for name, item in self.categories.items()},
        }  # fmt: skip


def _ends(rate: Rate) -> list[float] | None:
    return None if rate.interval is None else [rate.interval.low, rate.interval.high]


def current_answers(
    plan: Plan, rubric: Rubric, labels: Sequence[Label], only: frozenset[tuple[str, str]] | None = None
) -> Labelled:
    """The labels whose case and criteria are as they were, by answer; `only` keeps those (case id, answer digest)."""
    cases = {case.id: case for case in plan.cases()}
    grouped: dict[tuple[str, str], list[Label]] = {}
    stale_case = stale_rubric = 0
    for label in labels:
        case = cases.get(label.case_id)
        if case is None or case.digest != label.case_digest:
            stale_case += 1
        elif label.rubric_digest != rubric.digest_for(case.category):
            stale_rubric += 1
        elif only is None or (label.case_id, label.answer_digest) in only:
            grouped.setdefault((label.case_id, label.answer_digest), []).append(label)
    answers: list[LabelledAnswer] = []
    split = 0
    for (case_id, _), found in sorted(grouped.items()):
        human = majority({label.by: label.passed for label in found})
        split += human is None
        chances = [label.inclusion for label in found if label.inclusion is not None]
        answers.append(LabelledAnswer(case=cases[case_id], answer=found[0].answer, labels=tuple(found), human=human,
                                      inclusion=max(chances) if chances else None))  # fmt: skip
    used = [label.as_row() for item in answers for label in item.labels]
    return Labelled(
        answers=tuple(answers), stale_case=stale_case, stale_rubric=stale_rubric, split=split, digest=digest(used)
    )


def judge_plan(project: Project, name: str, judge: str) -> Plan:
    """A plan over all cases with a judge. Raises DataError when there is none."""
    plan = make_plan(project, name, model="local:echo", selection=Selection(), judge=judge)
    if plan.judge is None:
        raise DataError(
            f"{name} has no judge",
            where=f"golden/{name}.yaml",
            hint="add `judge: {model: ...}` to the suite, or use --judge MODEL",
        )
    return plan


def calibrate(
    store: Store, plan: Plan, labels: Sequence[Label], *, repeats: int, clock: Clock, options: Options,
    on_progress: Callable[[Progress], None], only: frozenset[tuple[str, str]] | None = None, seed: int = 0,
) -> Calibration:  # fmt: skip
    """Judge every labelled answer `repeats` times and compare with people; what is judged already costs nothing.

    Raises DataError without labels that count, EvaluationError when more than 5 % of the answers get no verdict.
    """
    judge = plan.judge
    assert judge, "a plan with a judge"
    name = plan.evaluable.prompt.name
    labelled = current_answers(plan, judge.rubric, labels, only)
    usable = [item for item in labelled.answers if item.human is not None]
    if not usable:
        raise DataError("no label counts", where=f"golden/{name}.labels.jsonl", why=_why_none(labels, labelled),
                        hint=f"label answers with `promptops review {name}`")  # fmt: skip
    prompt = plan.evaluable.prompt
    items = [
        JudgeItem(case=item.case, passages=prompt.passages_for(item.case.inputs), answer=item.answer, first_vote=turn * judge.votes)
        for item in usable for turn in range(repeats)
    ]  # fmt: skip
    judged, ledger = judge_answers(store, plan, items, clock=clock, options=options, on_progress=on_progress)
    turns = [[judged[place * repeats + turn].judgement for turn in range(repeats)] for place in range(len(usable))]
    unread = sum(found[0].passed is None for found in turns)
    if unread > MOST_UNREAD * len(usable):
        (why, *_) = (found[0].reason for found in turns if found[0].passed is None)
        raise EvaluationError(f"the judge gave no verdict on {unread} of {len(usable)} labelled answers", why=why,
                              hint="a judge that cannot be read cannot be calibrated; try another model")  # fmt: skip
    pairs = [(item, found) for item, found in zip(usable, turns, strict=True) if found[0].passed is not None]
    weighted = all(item.inclusion is not None for item, _ in pairs)
    total = _agreement(pairs, weighted=weighted, seed=seed)
    by_category: dict[str, list[tuple[LabelledAnswer, list[Judgement]]]] = {}
    for pair in pairs:
        by_category.setdefault(pair[0].case.category, []).append(pair)
    said = [[(label.by, label.passed) for label in item.labels] for item in labelled.answers]
    return Calibration(
        prompt=name, plan=plan, labelled=labelled, total=total, unread=unread, weighted=weighted, ledger=ledger,
        categories={category: _agreement(found, weighted=weighted, seed=seed) for category, found in sorted(by_category.items())
                    if len(found) >= MIN_IN_CATEGORY},
        criteria=_criteria(judge.rubric, pairs), humans=human_agreement(said, seed=seed), flips=_flips(turns),
        disagreements=_disagreements(pairs), at=clock().isoformat(timespec="seconds"),
        standing=standing_of(total.confusion.n, total.j.interval.low if total.j.interval else None),
    )  # fmt: skip


def _why_none(labels: Sequence[Label], labelled: Labelled) -> str:
    if not labels:
        return "there is none"
    return (f"{labelled.stale_case} are of golden cases that have changed, {labelled.stale_rubric} of criteria that have changed, "
            f"{labelled.split} answers are split evenly")  # fmt: skip


def _agreement(pairs: Sequence[tuple[LabelledAnswer, list[Judgement]]], *, weighted: bool, seed: int) -> Agreement:
    weights = [1 / (item.inclusion or 1.0) for item, _ in pairs] if weighted else None
    return agreement(
        [bool(item.human) for item, _ in pairs], [bool(found[0].passed) for _, found in pairs], weights, seed=seed
    )


def _flips(turns: Sequence[Sequence[Judgement]]) -> Rate:
    """Over all pairs of verdicts on the same answer; None when each was judged once."""
    from promptops.gate.stats import wilson_interval

    pairs = [
        (a.passed, b.passed)
        for found in turns
        for a, b in combinations(found, 2)
        if a.passed is not None and b.passed is not None
    ]
    if not pairs:
        return Rate(value=None, interval=None, n=0)
    flipped = sum(a != b for a, b in pairs)
    return Rate(value=flipped / len(pairs), interval=wilson_interval(flipped, len(pairs)), n=len(pairs))


def _criteria(
    rubric: Rubric, pairs: Sequence[tuple[LabelledAnswer, list[Judgement]]]
) -> tuple[CriterionAgreement, ...]:
    """For each criterion that people scored: their first label against the judge."""
    scores: dict[str, list[tuple[float, float]]] = {}
    scales: dict[str, str] = {}
    for item, found in pairs:
        values = {verdict.id: verdict.value for verdict in found[0].criteria}
        for criterion in rubric.criteria_for(item.case.category):
            human = [
                criterion.value(label.verdicts[criterion.id]) for label in item.labels if criterion.id in label.verdicts
            ]
            if human and criterion.id in values:
                scores.setdefault(criterion.id, []).append((human[0], values[criterion.id]))
                scales[criterion.id] = criterion.scale
    rows: list[CriterionAgreement] = []
    for name, both in scores.items():
        graded = scales[name] == "1..5"
        beyond = ordinal_alpha(both) if graded else cohen_kappa([a for a, _ in both], [b for _, b in both])
        rows.append(CriterionAgreement(criterion=name, n=len(both), agree=sum(a == b for a, b in both) / len(both), beyond_chance=beyond,
                                       statistic="alpha" if graded else "kappa"))  # fmt: skip
    return tuple(rows)


def _disagreements(pairs: Sequence[tuple[LabelledAnswer, list[Judgement]]]) -> tuple[Disagreement, ...]:
    """Where people and judge differ, those first in which the judge is furthest from them."""
    found = [
        Disagreement(case_id=item.case.id, category=item.case.category, answer=item.answer, human=bool(item.human), human_reason=item.note,
                     judge=bool(verdict.passed), judge_value=verdict.value or 0.0, judge_reason=_judge_reason(verdict))
        for item, (verdict, *_) in pairs if bool(item.human) is not verdict.passed
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda item: (-abs(item.judge_value - item.human), item.case_id)))


def _judge_reason(verdict: Judgement) -> str:
    if not verdict.passed:
        return verdict.reason
    return "; ".join(f"{item.id}: {item.reason}" for item in verdict.criteria)
