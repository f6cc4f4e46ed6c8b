"""The pass rate of a judged run with the judge's errors taken out, as far as people's labels tell them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptops.core.errors import DataError
from promptops.core.suite import JUDGE
from promptops.gate.calibration import Corrected, corrected_rate, majority
from promptops.project.labels import Label, answer_digest
from promptops.project.store import Run, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """Of the answers of a category (or all) that the judge judged: its own pass rate, and the corrected one, None without a label."""

    name: str
    judged: int
    passed: int
    corrected: Corrected | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReport:
    """`spared` failed a check and were not judged, `missed` got no verdict; both are outside of the rates. `weighted`: chances of labelling used."""

    run: Run
    total: RateRow
    categories: tuple[RateRow, ...]
    spared: int
    missed: int
    weighted: bool

    @property
    def overall(self) -> float | None:
        """Corrected share of all answers that pass checks and rubric; those without a verdict are left out."""
        if self.total.corrected is None:
            return None
        return self.total.corrected.value * self.total.judged / (self.total.judged + self.spared)


@dataclass(slots=True, kw_only=True)
class _Answer:
    category: str
    judge: bool
    human: bool | None
    inclusion: float | None


def report_on(
    store: Store, run: Run, labels: Sequence[Label], rubric_digests: Mapping[str, str], *, seed: int = 0
) -> JudgeReport:
    """The rates of a judged run. `rubric_digests` by category: labels by other criteria do not count. Raises DataError for a run no judge judged."""
    if not run.header.judge:
        raise DataError(
            f"no judge judged run {run.id}", hint=f"have one do it: `promptops rescore {run.id} --judge MODEL`"
        )
    said: dict[tuple[str, str, str], dict[str, Label]] = {}
    for label in labels:
        said.setdefault((label.case_id, label.case_digest, label.answer_digest), {})[
            f"{label.by} {label.rubric_digest}"
        ] = label
    answers: list[_Answer] = []
    spared = missed = 0
    for result in store.results(run.id):
        verdict = next((row for row in result.scores if row[0] == JUDGE), None)
        if verdict is None:
            spared += 1
            continue
        if verdict[1] is None:
            missed += 1
            continue
        stored = store.find_answer(result.answer_key)
        key = (result.case_id, result.case_digest, answer_digest(stored.text) if stored else "")
        valid = [
            label for label in said.get(key, {}).values() if label.rubric_digest == rubric_digests.get(result.category)
        ]
        chances = [label.inclusion for label in valid if label.inclusion is not None]
        answers.append(_Answer(category=result.category, judge=verdict[1], human=majority({label.by: label.passed for label in valid}) if valid else None,
                               inclusion=max(chances) if chances else None))  # fmt: skip
    if not answers:
        raise DataError(f"the judge gave no verdict in run {run.id}", hint=f"`promptops retry {run.id}`")
    labelled = [item for item in answers if item.human is not None]
    weighted = bool(labelled) and all(item.inclusion is not None for item in labelled)
    by_category: dict[str, list[_Answer]] = {}
    for item in answers:
        by_category.setdefault(item.category, []).append(item)
    return JudgeReport(
        run=run, total=_row("total", answers, weighted=weighted, seed=seed), spared=spared, missed=missed, weighted=weighted,
        categories=tuple(_row(name, found, weighted=weighted, seed=seed) for name, found in sorted(by_category.items())),
    )  # fmt: skip


def _row(name: str, answers: Sequence[_Answer], *, weighted: bool, seed: int) -> RateRow:
    labelled = [item for item in answers if item.human is not None]
    others = [float(item.judge) for item in answers if item.human is None]
    weights = [1 / (item.inclusion or 1.0) for item in labelled] if weighted else None
    corrected = None
    if labelled:
        corrected = corrected_rate(
            [float(bool(item.human)) for item in labelled],
            [float(item.judge) for item in labelled],
            others,
            weights,
            seed=seed,
        )
    return RateRow(name=name, judged=len(answers), passed=sum(item.judge for item in answers), corrected=corrected)
