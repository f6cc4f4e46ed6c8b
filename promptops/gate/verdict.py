"""Verdicts from one draw a side: exact McNemar or sign-flip per category, min-P over all of them.

Cases of one group (a shared document) are flipped together. Categories and slices overlap, so the adjustment resamples
the cases once for all of them: step-down min-P (Westfall and Young 1993), which keeps the discreteness of small
categories and their dependence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from promptops.core.suite import GateSettings
from promptops.gate.stats import Interval, mean_interval, paired_rate_interval

RESAMPLES = 9_999
_CHUNK_CELLS = 4_000_000
_DIGITS = 9
Floats = npt.NDArray[np.float64]


class Verdict(StrEnum):
    """What a category's verdict is; only REGRESSED blocks."""

    REGRESSED = "REGRESSED"
    INCONCLUSIVE = "INCONCLUSIVE"
    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    IMPROVED = "IMPROVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCase:
    """One case in both runs: mean score of its draws, in [0, 1]; `rows` are the categories and slices it counts in."""

    case_id: str
    rows: tuple[str, ...]
    baseline: float
    candidate: float
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryVerdict:
    """The comparison of one category or slice value. Rates in 0..1; `difference` is candidate minus baseline."""

    name: str
    verdict: Verdict
    n: int
    baseline: float
    candidate: float
    difference: float
    interval: Interval
    p: float
    p_adjusted: float
    tolerance: float
    broken: tuple[str, ...]
    fixed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All verdicts, worst first, and the plain total."""

    verdicts: tuple[CategoryVerdict, ...]
    total: CategoryVerdict
    alpha: float

    @property
    def regressed(self) -> tuple[CategoryVerdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.verdict is Verdict.REGRESSED)


def decide_one_draw(cases: Sequence[PairedCase], *, settings: GateSettings, seed: int = 0) -> Comparison:
    """A verdict for every row that occurs in the cases. Deterministic for a seed; independent of the order of cases.

    Raises ValueError without cases or for a score outside [0, 1].
    """
    if not cases or not all(0 <= score <= 1 for case in cases for score in (case.baseline, case.candidate)):
        raise ValueError("need cases with scores in [0, 1]")
    ordered = sorted(cases, key=lambda case: case.case_id)
    rows = sorted({row for case in ordered for row in case.rows})
    members = {row: [case for case in ordered if row in case.rows] for row in rows}
    worse, better = _adjusted(ordered, rows, seed)
    verdicts = [
        _judge(
            row,
            members[row],
            worse[row],
            better[row],
            alpha=settings.alpha,
            tolerance=settings.tolerances.get(row, settings.tolerance),
        )
        for row in rows
    ]
    order = list(Verdict)
    verdicts.sort(key=lambda item: (order.index(item.verdict), item.p_adjusted, item.difference, item.name))
    whole = _adjusted([_in_rows(case, ("total",)) for case in ordered], ["total"], seed)
    total = _judge(
        "total", ordered, whole[0]["total"], whole[1]["total"], alpha=settings.alpha, tolerance=settings.tolerance
    )
    return Comparison(verdicts=tuple(verdicts), total=total, alpha=settings.alpha)


def _in_rows(case: PairedCase, rows: tuple[str, ...]) -> PairedCase:
    return PairedCase(
        case_id=case.case_id, rows=rows, baseline=case.baseline, candidate=case.candidate, group=case.group
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _P:
    raw: float
    adjusted: float


def _judge(
    name: str, cases: Sequence[PairedCase], worse: _P, better: _P, *, alpha: float, tolerance: float
) -> CategoryVerdict:
    n = len(cases)
    baseline, candidate = (sum(case.baseline for case in cases) / n, sum(case.candidate for case in cases) / n)
    interval = _interval(cases, 0.95)
    largest_drop = -_interval(cases, 0.90).low  # one-sided 95 %
    if worse.adjusted <= alpha:
        verdict = Verdict.REGRESSED
    elif better.adjusted <= alpha:
        verdict = Verdict.IMPROVED
    else:
        verdict = Verdict.PASS if largest_drop <= tolerance else Verdict.INCONCLUSIVE
    return CategoryVerdict(
        name=name, verdict=verdict, n=n, baseline=baseline, candidate=candidate, difference=candidate - baseline, interval=interval,
        p=worse.raw, p_adjusted=worse.adjusted, tolerance=tolerance,
        broken=tuple(case.case_id for case in cases if case.candidate < case.baseline),
        fixed=tuple(case.case_id for case in cases if case.candidate > case.baseline),
    )  # fmt: skip


def _interval(cases: Sequence[PairedCase], confidence: float) -> Interval:
    binary = all(score in (0, 1) for case in cases for score in (case.baseline, case.candidate))
    clusters = _clusters(cases)
    if binary and len(clusters) == len(cases):
        counts = dict.fromkeys(((1, 1), (1, 0), (0, 1), (0, 0)), 0)
        for case in cases:
            counts[int(case.baseline), int(case.candidate)] += 1
        return paired_rate_interval(counts[1, 1], counts[1, 0], counts[0, 1], counts[0, 0], confidence=confidence)
    found = mean_interval(
        [sum(case.candidate - case.baseline for case in members) for members in clusters.values()],
        confidence=confidence,
    )
    scale = len(clusters) / len(cases)
    return Interval(low=max(-1.0, found.low * scale), high=min(1.0, found.high * scale))


def _clusters(cases: Sequence[PairedCase]) -> dict[str, list[PairedCase]]:
    clusters: dict[str, list[PairedCase]] = {}
    for case in cases:
        clusters.setdefault(f"group {case.group}" if case.group else f"case {case.case_id}", []).append(case)
    return clusters


def _adjusted(cases: Sequence[PairedCase], rows: Sequence[str], seed: int) -> tuple[dict[str, _P], dict[str, _P]]:
    """(worse, better): raw and min-P adjusted one-sided p for every row."""
    clusters = [
        members for members in _clusters(cases).values() if any(case.candidate != case.baseline for case in members)
    ]
    drops = np.zeros((len(clusters), len(rows)))
    place = {row: index for index, row in enumerate(rows)}
    for number, members in enumerate(clusters):
        for case in members:
            for row in case.rows:
                drops[number, place[row]] += case.baseline - case.candidate
    observed = np.round(drops.sum(axis=0), _DIGITS)
    resampled = _sign_flips(drops, seed)
    worse = _min_p(observed, resampled, drops)
    better = _min_p(-observed, -resampled, -drops)
    return dict(zip(rows, worse, strict=True)), dict(zip(rows, better, strict=True))


def _sign_flips(drops: Floats, seed: int) -> Floats:
    """RESAMPLES x rows: each row's total drop when every cluster keeps or flips its sign by chance, for all rows at once."""
    rng = np.random.default_rng(seed)
    clusters, rows = drops.shape
    totals = np.empty((RESAMPLES, rows))
    step = max(1, _CHUNK_CELLS // max(clusters, 1))
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        signs = rng.integers(0, 2, size=(size, clusters), dtype=np.int8).astype(np.float64) * 2 - 1
        totals[start : start + size] = signs @ drops
    return np.round(totals, _DIGITS)


def _min_p(observed: Floats, resampled: Floats, drops: Floats) -> list[_P]:
    """Step-down min-P: each p against the smallest p of the rows that are not more extreme."""
    if not drops.shape[0]:
        return [_P(raw=1.0, adjusted=1.0)] * len(observed)
    tails = [_tail(resampled[:, column], drops[:, column]) for column in range(len(observed))]
    raw = np.array([tail(observed[column : column + 1])[0] for column, tail in enumerate(tails)])
    resampled_p = np.stack([tail(resampled[:, column]) for column, tail in enumerate(tails)], axis=1)
    order = np.argsort(raw, kind="stable")
    smallest = np.minimum.accumulate(resampled_p[:, order[::-1]], axis=1)[:, ::-1]
    adjusted = np.empty(len(raw))
    largest = 0.0
    for rank, column in enumerate(order):
        hits = int(np.count_nonzero(smallest[:, rank] <= raw[column] + 1e-12))
        largest = max(largest, (hits + 1) / (RESAMPLES + 1), float(raw[column]))
        adjusted[column] = min(1.0, largest)
    return [_P(raw=float(p), adjusted=float(q)) for p, q in zip(raw, adjusted, strict=True)]


def _tail(resampled: Floats, drops: Floats) -> Any:
    """A function from totals to P(total >= it): exact binomial when all drops are of one size, else from the resamples."""
    sizes = {round(abs(float(size)), _DIGITS) for size in drops if size}
    if not sizes:
        return lambda totals: np.ones(len(totals))
    if len(sizes) == 1:
        size, count = sizes.pop(), int(np.count_nonzero(drops))
        table = binom.sf(np.arange(-1, count), count, 0.5)
        return lambda totals: table[np.rint((totals / size + count) / 2).astype(np.int64)]
    ranked = np.sort(resampled)
    return lambda totals: (len(ranked) - np.searchsorted(ranked, totals - 1e-12, side="left") + 1) / (len(ranked) + 1)
