"""Human review of stored answers: draw a batch, go through it blind, keep each verdict at once, report what it says."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from promptops.core.digest import digest, short
from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import at_pointer, parse_json
from promptops.core.rubric import Criterion, CriterionScore, Rubric
from promptops.core.suite import JUDGE, Case, Suite, slice_rows
from promptops.evaluation.review_sample import Estimate, Judged, Unit, count_reasons, draw_sample, estimate_rate
from promptops.gate.agreement import Agreement, agreement
from promptops.project.formats import format_problems, format_schema
from promptops.project.golden import read_cases
from promptops.project.labels import Label, add_labels, answer_digest, read_labels, update_labels
from promptops.project.project import Evaluable, Project
from promptops.project.reviews import Batch, ReviewItem
from promptops.project.store import Result, Run, Store

Clock = Callable[[], datetime]
DEFAULT_SAMPLE = 40
CHANGED, UNSTABLE, JUDGE_SPLIT, JUDGE_UNSURE, JUDGE_NEAR, NEAR = (
    "changed",
    "unstable",
    "judge-split",
    "judge-unsure",
    "judge-near-pass-mark",
    "near-threshold",
)
"""Reasons to look: the verdict changed between the runs; draws of the case disagree; judges, or votes of one, differ on a
criterion; the judge could not decide; its score is close to the pass mark; a graded check is close to its threshold."""
_CLOSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What a batch is drawn by: `overlap` is the share that every reviewer gets, the rest is dealt out one each."""

    reviewers: tuple[str, ...]
    size: int = DEFAULT_SAMPLE
    overlap: float = 0.2
    seed: int = 0


@dataclass(slots=True)
class _Answer:
    """One distinct answer to one case, over all runs."""

    result: Result
    text: str
    weights: dict[str, int] = field(default_factory=dict)
    reasons: set[str] = field(default_factory=set)


def rubric_of(project: Project, name: str) -> tuple[Evaluable, Rubric]:
    """What reviewers score by. Raises DataError when the suite names no rubric."""
    evaluable = project.load(name)
    if evaluable.rubric is None:
        raise DataError("the suite names no rubric", where=f"golden/{name}.yaml", why="reviewers need a question to answer",
                        hint="write rubrics/NAME.yaml and add `rubric: NAME` to the suite")  # fmt: skip
    return evaluable, evaluable.rubric


def make_batch(store: Store, project: Project, runs: Sequence[Run], plan: BatchPlan, clock: Clock) -> Batch:
    """Draw answers of these runs for review. Raises DataError when there are none, or golden cases have changed since.

    Each distinct answer to a case counts once, whichever runs gave it; the same plan over the same runs gives the same batch.
    """
    prompt = runs[0].header.prompt
    evaluable, rubric = rubric_of(project, prompt)
    cases = {case.id: case for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)}
    answers = _answers(store, runs, cases, evaluable.suite, rubric.pass_at)
    if not answers:
        raise DataError(f"no answer of {' and '.join(run.id for run in runs)} can be reviewed",
                        why="they have none, or their golden cases have changed since", hint=f"run `promptops eval {prompt}`")  # fmt: skip
    units = [
        Unit(id=key, category=answer.result.category, slices=slice_rows(answer.result.tags, evaluable.suite.slices),
             reasons=tuple(sorted(answer.reasons)))
        for key, answer in answers.items()
    ]  # fmt: skip
    picks = draw_sample(units, plan.size, seed=digest([plan.seed, *sorted(run.id for run in runs)]))
    reviewers = _deal(len(picks), plan)
    items = tuple(
        _item(pick.id, pick.inclusion, answers[pick.id], cases[answers[pick.id].result.case_id], who)
        for pick, who in zip(picks, reviewers, strict=True)
    )
    made = digest(
        [
            prompt,
            [run.id for run in runs],
            plan.seed,
            plan.size,
            plan.overlap,
            list(plan.reviewers),
            [item.id for item in items],
        ]
    )
    return Batch(id=f"{prompt}-{short(made)}", prompt=prompt, runs=tuple(run.id for run in runs), seed=plan.seed, population=len(units),
                 created_at=clock().isoformat(timespec="seconds"), reasons=count_reasons(units, picks), items=items)  # fmt: skip


def _answers(
    store: Store, runs: Sequence[Run], cases: Mapping[str, Case], suite: Suite, pass_at: float
) -> dict[str, _Answer]:
    found: dict[str, _Answer] = {}
    of_case: dict[str, dict[str, list[bool]]] = {}
    for run in runs:
        split = _split_votes(store, run)
        for result in store.results(run.id):
            case, answer = cases.get(result.case_id), store.find_answer(result.answer_key)
            if case is None or case.digest != result.case_digest or answer is None or result.outcome != "ok":
                continue
            key = _key(result.case_id, answer.text)
            entry = found.setdefault(key, _Answer(result, answer.text))
            entry.weights[run.id] = entry.weights.get(run.id, 0) + 1
            entry.reasons |= _reasons(result, suite, pass_at)
            entry.reasons |= {JUDGE_SPLIT} if (result.case_id, result.draw) in split else set()
            if result.passed is not None:
                of_case.setdefault(result.case_id, {}).setdefault(run.id, []).append(result.passed)
    for entry in found.values():
        draws = list(of_case.get(entry.result.case_id, {}).values())
        if any(len(set(passed)) > 1 for passed in draws):
            entry.reasons.add(UNSTABLE)
        if len({sum(passed) * 2 > len(passed) for passed in draws}) > 1:
            entry.reasons.add(CHANGED)
    return found


def _split_votes(store: Store, run: Run) -> set[tuple[str, int]]:
    """(case, draw) on which the votes of the judges differ: some criterion has two values."""
    said: dict[tuple[str, int, str, bool], set[float]] = {}
    for case_id, draw, verdict in store.verdicts(run.id):
        for name, (value, _) in verdict.scores.items():
            said.setdefault((case_id, draw, name, verdict.swapped), set()).add(value)
    return {(case_id, draw) for (case_id, draw, _, _), values in said.items() if len(values) > 1}


def _reasons(result: Result, suite: Suite, pass_at: float) -> set[str]:
    limits = {
        check.name: getattr(check, "min_share", getattr(check, "min", None))
        for check in suite.checks_for(result.category)
    }
    found: set[str] = set()
    for name, passed, _, value in result.scores:
        if name == JUDGE:
            found |= {JUDGE_UNSURE} if passed is None else set()
            found |= {JUDGE_NEAR} if value is not None and abs(value - pass_at) <= _CLOSE else set()
        limit = limits.get(name)
        if value is not None and isinstance(limit, float) and abs(value - limit) <= _CLOSE and value < 1:
            found.add(NEAR)
    return found


def _key(case_id: str, answer: str) -> str:
    return short(digest([case_id, answer]))


def _deal(count: int, plan: BatchPlan) -> list[tuple[str, ...]]:
    """Who gets each answer. The order is random already, so the first ones may be those that all get."""
    shared = count if len(plan.reviewers) == 1 else round(plan.overlap * count)
    return [
        plan.reviewers if place < shared else (plan.reviewers[place % len(plan.reviewers)],) for place in range(count)
    ]


def _item(key: str, inclusion: float, answer: _Answer, case: Case, reviewers: tuple[str, ...]) -> ReviewItem:
    return ReviewItem(
        id=key, case_id=case.id, category=case.category, case_digest=case.digest, inputs=dict(case.inputs), expected=dict(case.expected),
        answer=answer.text, inclusion=inclusion, weights=dict(answer.weights), reviewers=reviewers, draw=answer.result.draw,
        reasons=tuple(sorted(answer.reasons)),
    )  # fmt: skip


def reference_of(item: ReviewItem, suite: Suite) -> str:
    """The expected text that an answer is compared with: what the judge is shown, else the longest; '' when there is none."""
    if suite.judge is not None:
        try:
            named = at_pointer(dict(item.expected), suite.judge.reference)
        except KeyError:
            named = None
        if isinstance(named, str):
            return named
    return max((value for value in item.expected.values() if isinstance(value, str)), key=len, default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a reviewer is: the answer to look at (None: all are labelled), how many are done, and what was said of it before."""

    item: ReviewItem | None
    criteria: tuple[Criterion, ...]
    done: int
    total: int
    skipped: int
    undoable: bool
    verdicts: Mapping[str, CriterionScore]
    passed: bool | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Who labels which batch by which rubric, and where the labels go."""

    root: Path
    batch: Batch
    rubric: Rubric
    who: str
    clock: Clock


class Reviewing:
    """One person going through a batch. The labels file is the only memory: whatever ends the session, nothing is lost."""

    def __init__(self, desk: Desk) -> None:
        batch, who = desk.batch, desk.who
        if not batch.items_of(who):
            raise DataError(
                f"batch {batch.id} has nothing for {who[:60]}",
                why=f"it is for {', '.join(batch.reviewers)}",
                hint="use --as",
            )
        self.desk, self.root, self.batch, self.who, self.rubric = desk, desk.root, batch, who, desk.rubric
        self._items = {item.id: item for item in batch.items_of(who)}
        self._skipped: list[str] = []
        self._order: deque[str] = deque(self._items)
        self._history: list[tuple[str, Label | None]] = []
        self._redo: tuple[str, Label | None] | None = None

    def place(self, labels: Sequence[Label] | None = None) -> Place:
        """Where the reviewer is now, by the labels on disk or these. Raises DataError when the file cannot be read."""
        done = self._mine(labels).keys()
        waiting = [name for name in self._order if name not in done]
        current = self._items[waiting[0]] if waiting else None
        before = self._redo[1] if self._redo and current and self._redo[0] == current.id else None
        return Place(
            item=current, criteria=self.rubric.criteria_for(current.category) if current else (), done=len(done), total=len(self._items),
            skipped=len([name for name in self._skipped if name not in done]), undoable=bool(done),
            verdicts=dict(before.verdicts) if before else {}, passed=before.passed if before else None, note=before.note if before else "",
        )  # fmt: skip

    def proposal(self, item_id: str, verdicts: Mapping[str, CriterionScore]) -> bool:
        """Whether the answer passes by the rubric. Raises DataError for verdicts that are incomplete or off the scale."""
        item = self._named(item_id)
        return self.rubric.grade(item.category, checked_verdicts(self.rubric, item.category, verdicts)).passed

    def label(self, item_id: str, verdicts: Mapping[str, CriterionScore], *, passed: bool, note: str = "") -> Place:
        """Keep a verdict on disk, then go on. Raises DataError for one that cannot be, EvaluationError when the disk refuses."""
        item = self._named(item_id)
        if len(note) > 4000:
            raise DataError("the note is too long", why=f"{len(note)} characters", hint="keep it under 4000")
        label = make_label(
            self.desk, item, checked_verdicts(self.rubric, item.category, verdicts), passed=passed, note=note
        )
        before: list[Label | None] = [None]

        def change(known: list[Label]) -> Iterable[Label]:
            before[0] = next((other for other in known if other.key == label.key), None)
            return [*(other for other in known if other.key != label.key), label]

        labels = update_labels(self.root, self.batch.prompt, change)
        self._history.append((item_id, before[0]))
        self._redo = None
        return self.place(labels)

    def skip(self, item_id: str) -> Place:
        """Put an answer at the end of the line."""
        self._named(item_id)
        self._order.remove(item_id)
        self._order.append(item_id)
        if item_id not in self._skipped:
            self._skipped.append(item_id)
        return self.place()

    def undo(self) -> Place:
        """Take the last label back and show its answer again; after a restart, the latest one of this batch."""
        mine = self._mine()
        if self._history:
            item_id, before = self._history.pop()
        else:
            last = max(mine, key=lambda name: (mine[name].at, list(self._order).index(name)), default=None)
            if last is None:
                return self.place()
            item_id, before = last, None
        taken = mine.get(item_id)
        if taken is not None:
            keys = {taken.key}
            update_labels(
                self.root,
                self.batch.prompt,
                lambda known: [*(one for one in known if one.key not in keys), *([before] if before else [])],
            )
        self._order.remove(item_id)
        self._order.appendleft(item_id)
        self._redo = (item_id, taken)
        return self.place()

    def _named(self, item_id: str) -> ReviewItem:
        if item_id not in self._items:
            raise DataError("no such answer in this batch")
        return self._items[item_id]

    def _mine(self, labels: Sequence[Label] | None = None) -> dict[str, Label]:
        """The reviewer's labels under today's rubric, by item."""
        known = read_labels_of(self.root, self.batch.prompt) if labels is None else labels
        mine = {label.key: label for label in known if label.by == self.who}
        found = {}
        for name, item in self._items.items():
            label = mine.get(
                (item.case_id, answer_digest(item.answer), self.rubric.digest_for(item.category), self.who)
            )
            if label is not None:
                found[name] = label
        return found


def read_labels_of(root: Path, prompt: str) -> list[Label]:
    from promptops.project.tree import WorkTree

    return read_labels(WorkTree(root), prompt)


def checked_verdicts(
    rubric: Rubric, category: str, verdicts: Mapping[str, CriterionScore]
) -> dict[str, CriterionScore]:
    """A score for each criterion of the category. Raises DataError for one that is missing, unknown or off its scale."""
    criteria = {criterion.id: criterion for criterion in rubric.criteria_for(category)}
    for name in verdicts:
        if name not in criteria:
            raise DataError(f"unknown criterion {str(name)[:60]!r}", hint=f"known: {', '.join(criteria)}")
    for name, criterion in criteria.items():
        if name not in verdicts:
            raise DataError(f"no verdict on {name!r}", hint="score every criterion, or skip the answer")
        if not criterion.allows(verdicts[name]):
            scale = "pass or fail" if criterion.scale == "pass_fail" else "1 to 5"
            raise DataError(f"{str(verdicts[name])[:20]!r} is no verdict on {name!r}", hint=f"say {scale}")
    return dict(verdicts)


def make_label(
    desk: Desk, item: ReviewItem, verdicts: Mapping[str, CriterionScore], *, passed: bool, note: str
) -> Label:
    """The label of an answer, with the chance it was drawn with. It names no run where several gave the same answer."""
    runs, rubric = tuple(item.weights), desk.rubric
    label = Label(
        case_id=item.case_id, category=item.category, case_digest=item.case_digest, answer=item.answer, rubric=rubric.name,
        rubric_digest=rubric.digest_for(item.category), by=desk.who, at=desk.clock().isoformat(timespec="seconds"), passed=passed,
        verdicts=dict(verdicts), note=note.strip(), inclusion=item.inclusion, batch=desk.batch.id, run=runs[0] if len(runs) == 1 else "",
        draw=item.draw if len(runs) == 1 else 0,
    )  # fmt: skip
    if not format_schema("label").accepts(
        label.as_row()
    ):  # of a batch that somebody sent: what is written must be readable
        raise DataError(
            problems=format_problems(
                "label", label.as_row(), lambda _: f"batch {desk.batch.id}, case {item.case_id[:60]!r}"
            )
        )
    return label


def reviewer_name(text: str) -> str:
    """A reviewer's name as labels have it, blanks made single. Raises DataError for one that cannot be."""
    name = " ".join(text.split())
    if not name or len(name) > 120 or not name.isprintable():
        raise DataError(
            f"{name[:40]!r} cannot be a reviewer's name",
            why="it is empty, over 120 characters, or has characters that cannot be printed",
        )
    return name


# What the labels say


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """The pass rate of one run of a batch, and of its categories, as reviewers see it."""

    run: str
    estimate: Estimate | None
    categories: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReport:
    """A batch so far: who has labelled how many of theirs, the rates, and how far reviewers agree, on the whole and by criterion."""

    batch: Batch
    progress: Mapping[str, tuple[int, int]]
    runs: tuple[RunEstimate, ...]
    agreed: Agreement | None
    agreed_by: Mapping[str, Agreement]
    notes: tuple[tuple[str, str, str], ...]

    @property
    def open(self) -> int:
        return sum(total - done for done, total in self.progress.values())


def review_report(batch: Batch, rubric: Rubric, labels: Iterable[Label]) -> ReviewReport:
    """What the labels under today's rubric say of a batch."""
    by_answer: dict[tuple[str, str, str], list[Label]] = {}
    for label in labels:
        by_answer.setdefault((label.case_id, label.answer_digest, label.rubric_digest), []).append(label)
    said = {
        item.id: by_answer.get((item.case_id, answer_digest(item.answer), rubric.digest_for(item.category)), [])
        for item in batch.items
    }
    progress = {
        who: (
            sum(any(label.by == who for label in said[item.id]) for item in batch.items_of(who)),
            len(batch.items_of(who)),
        )
        for who in batch.reviewers
    }
    whole: list[list[tuple[str, Hashable]]] = [[(label.by, label.passed) for label in found] for found in said.values()]
    names = sorted({name for found in said.values() for label in found for name in label.verdicts})
    by_criterion = {
        name: agreement(
            [[(label.by, label.verdicts[name]) for label in found if name in label.verdicts] for found in said.values()]
        )
        for name in names
    }
    notes = tuple((item.case_id, label.by, label.note) for item in batch.items for label in said[item.id] if label.note)
    return ReviewReport(batch=batch, progress=progress, runs=tuple(_run_estimate(run, batch.items, said) for run in batch.runs), agreed=agreement(whole),
                        agreed_by={name: found for name, found in by_criterion.items() if found}, notes=notes)  # fmt: skip


def _run_estimate(run: str, items: Sequence[ReviewItem], said: Mapping[str, Sequence[Label]]) -> RunEstimate:
    judged: list[tuple[str, Judged]] = []
    for item in items:
        weight, labels = item.weights.get(run, 0), said[item.id]
        if weight and labels:
            score = sum(label.passed for label in labels) / len(labels)
            judged.append((item.category, Judged(score=score, inclusion=item.inclusion, weight=float(weight))))
    categories = {
        category: estimate_rate([one for name, one in judged if name == category])
        for category in sorted({name for name, _ in judged})
    }
    return RunEstimate(run=run, estimate=estimate_rate([one for _, one in judged]),
                       categories={name: found for name, found in categories.items() if found})  # fmt: skip


# Labels made elsewhere


def import_rows(desk: Desk, rows: Iterable[tuple[str, Mapping[str, object]]]) -> tuple[int, int]:
    """Labels of rows (where, columns) that name an item of the batch; (labels kept, rows left empty).

    Raises DataError with every problem, and keeps nothing then.
    """
    items = {item.id: item for item in desk.batch.items}
    labels: list[Label] = []
    problems: list[Problem] = []
    empty = 0
    for where, row in rows:
        try:
            label = _row_label(desk, items, row)
        except DataError as error:
            problems += [Problem(what=one.what, why=one.why, hint=one.hint, where=where) for one in error.problems]
            continue
        if label is None:
            empty += 1
        else:
            labels.append(label)
    if problems:
        raise DataError(problems=problems)
    add_labels(desk.root, desk.batch.prompt, labels)
    return len(labels), empty


def _row_label(desk: Desk, items: Mapping[str, ReviewItem], row: Mapping[str, object]) -> Label | None:
    rubric = desk.rubric
    item = items.get(str(row.get("item", "")))
    if item is None:
        raise DataError(
            f"{str(row.get('item', ''))[:40]!r} is no item of batch {desk.batch.id}",
            hint="keep the column `item` as exported",
        )
    nested = row.get("verdicts")
    given = nested if isinstance(nested, dict) else {c.id: row.get(c.id) for c in rubric.criteria_for(item.category)}
    read = {
        name: _read_score(rubric, item.category, name, value)
        for name, value in given.items()
        if value not in (None, "")
    }
    whole, note = row.get("passed"), str(row.get("note") or "")
    if not read and whole in (None, ""):
        if note:
            raise DataError("a note without a verdict", hint="fill in the criteria or `passed`, or remove the note")
        return None
    verdicts = checked_verdicts(rubric, item.category, read) if read else {}
    passed = _read_yes_no(whole, "passed") if whole not in (None, "") else rubric.grade(item.category, verdicts).passed
    return make_label(desk, item, verdicts, passed=passed, note=note[:4000])


def _read_score(rubric: Rubric, category: str, name: str, value: object) -> CriterionScore:
    criterion = next((one for one in rubric.criteria_for(category) if one.id == name), None)
    if criterion is None or criterion.scale == "pass_fail":
        return _read_yes_no(value, name)
    if isinstance(value, str) and value.strip().isdecimal():
        return int(parse_json(value.strip().lstrip("0") or "0"))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DataError(f"{str(value)[:20]!r} is no verdict on {name!r}", hint="say 1 to 5")


def _read_yes_no(value: object, name: str) -> bool:
    words = {"pass": True, "yes": True, "true": True, "1": True, "fail": False, "no": False, "false": False, "0": False}
    found = value if isinstance(value, bool) else words.get(str(value).strip().lower())
    if found is None:
        raise DataError(f"{str(value)[:20]!r} is no verdict on {name!r}", hint="say pass or fail")
    return found
