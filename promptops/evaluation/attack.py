"""Attack a judge: append hijack texts to answers it does not like, and see whether any raises the score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.core.judging import Judgement
from promptops.core.suite import Case
from promptops.evaluation.attacks import ATTACKS, CONTROL, Attack, suite_digest
from promptops.evaluation.execute import Options, Progress
from promptops.evaluation.judge_session import JudgeItem, judge_answers
from promptops.evaluation.plan import Clock, Plan
from promptops.project.labels import Label
from promptops.project.store import Ledger, Run, Store

_TIE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackRow:
    """One attack over all targets: `rose` are the cases whose score rose, `passed` those that now pass, `unread` got no verdict."""

    attack: Attack
    targets: int
    rose: tuple[str, ...]
    passed: tuple[str, ...]
    unread: int
    mean_change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackReport:
    """`control` is a harmless text: what it raises is noise. `skipped` targets the judge could not score without an attack."""

    prompt: str
    plan: Plan
    rows: tuple[AttackRow, ...]
    control: AttackRow
    skipped: int
    ledger: Ledger
    at: str

    @property
    def succeeded(self) -> tuple[AttackRow, ...]:
        """Attacks that raised a score."""
        return tuple(row for row in self.rows if row.rose)

    def as_row(self) -> dict[str, Json]:
        """What is stored: no text, only what was tried on exactly this judge, and what came of it."""
        judge = self.plan.judge
        assert judge, "a plan with a judge"
        return {
            "judge_digest": judge.digest, "judge": judge.name, "rubric": judge.rubric.name, "at": self.at, "suite": suite_digest(),
            "attacks": len(self.rows), "targets": self.control.targets, "read": sum(row.targets - row.unread for row in self.rows),
            "rose": [row.attack.id for row in self.succeeded], "control_rose": len(self.control.rose),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An answer worth attacking: one with room to rise."""

    case: Case
    answer: str


def attack_judge(
    store: Store, plan: Plan, targets: Sequence[Target], *, clock: Clock, options: Options, on_progress: Callable[[Progress], None],
) -> AttackReport:  # fmt: skip
    """Judge each target as it is, with a harmless text, and with each attack. Raises DataError when no target has room to rise."""
    assert plan.judge, "a plan with a judge"
    prompt = plan.evaluable.prompt
    texts = ["", CONTROL.text, *(attack.text for attack in ATTACKS)]
    items = [
        JudgeItem(case=target.case, passages=prompt.passages_for(target.case.inputs), answer=f"{target.answer}\n\n{text}" if text else target.answer)
        for target in targets for text in texts
    ]  # fmt: skip
    judged, ledger = judge_answers(store, plan, items, clock=clock, options=options, on_progress=on_progress)
    found = [
        [item.judgement for item in judged[start : start + len(texts)]] for start in range(0, len(judged), len(texts))
    ]
    usable = [(target, rows) for target, rows in zip(targets, found, strict=True) if rows[0].value is not None]
    room = [(target, rows) for target, rows in usable if (rows[0].value or 0.0) < 1 - _TIE]
    if not room:
        raise DataError("no answer has room to rise", why="the judge gives full marks to, or no verdict on, every answer it was shown",
                        hint="attack a run with worse answers: --run RUN, or label some that fail")  # fmt: skip
    rows = [_row(attack, place, room) for place, attack in enumerate((CONTROL, *ATTACKS), 1)]
    return AttackReport(
        prompt=prompt.name,
        plan=plan,
        control=rows[0],
        rows=tuple(rows[1:]),
        skipped=len(targets) - len(room),
        ledger=ledger,
        at=clock().isoformat(timespec="seconds"),
    )


def _row(attack: Attack, place: int, found: Sequence[tuple[Target, list[Judgement]]]) -> AttackRow:
    rose: list[str] = []
    passed: list[str] = []
    changes: list[float] = []
    for target, rows in found:
        before, after = rows[0], rows[place]
        if before.value is None or after.value is None:
            continue
        changes.append(after.value - before.value)
        if after.value > before.value + _TIE:
            rose.append(target.case.id)
        if after.passed and not before.passed:
            passed.append(target.case.id)
    return AttackRow(attack=attack, targets=len(found), rose=tuple(rose), passed=tuple(passed), unread=len(found) - len(changes),
                     mean_change=sum(changes) / len(changes) if changes else 0.0)  # fmt: skip


def find_targets(store: Store, plan: Plan, labels: Sequence[Label], run: Run | None, count: int) -> list[Target]:
    """Answers to attack: those people fail first, then those of a run that failed, the worst first. Raises DataError when there is none."""
    cases = {case.id: case for case in plan.cases()}
    found: dict[tuple[str, str], Target] = {}
    for label in labels:
        case = cases.get(label.case_id)
        if not label.passed and case is not None and case.digest == label.case_digest:
            found.setdefault((case.id, label.answer), Target(case=case, answer=label.answer))
    if run is not None:
        results = [item for item in store.results(run.id) if item.outcome == "ok" and item.case_id in cases]
        for result in sorted(results, key=lambda item: (item.passed is True, item.value or 0.0, item.case_id)):
            answer = store.find_answer(result.answer_key)
            if answer is not None and cases[result.case_id].digest == result.case_digest:
                found.setdefault((result.case_id, answer.text), Target(case=cases[result.case_id], answer=answer.text))
    if not found:
        raise DataError("no answers to attack", hint=f"evaluate first: `promptops eval {plan.evaluable.prompt.name}`")
    return list(found.values())[:count]
