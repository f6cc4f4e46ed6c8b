"""One draw a side and no more to be had: discrete step-down min-P over all rows.

Signs of the cases (or groups) are flipped once for all rows, so that overlapping categories and slices keep their
dependence and small ones their discreteness. Source: Westfall and Young 1993, Resampling-Based Multiple Testing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 9_999
_CHUNK_CELLS = 4_000_000
_DIGITS = 9
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustedP:
    raw: float
    adjusted: float


def min_p(
    drops: Sequence[Mapping[str, float]], rows: Sequence[str], *, seed: int
) -> tuple[dict[str, AdjustedP], dict[str, AdjustedP]]:
    """(worse, better) for every row; `drops` gives for each case or group its baseline minus candidate in each row it counts in."""
    changed = [drop for drop in drops if any(drop.values())]
    place = {row: index for index, row in enumerate(rows)}
    matrix = np.zeros((len(changed), len(rows)))
    for number, drop in enumerate(changed):
        for row, size in drop.items():
            matrix[number, place[row]] += size
    matrix = np.round(matrix, _DIGITS)  # what is left of 0.1 + 0.2 - 0.3 is no change
    observed = np.round(matrix.sum(axis=0), _DIGITS)
    resampled = _sign_flips(matrix, seed)
    worse = _step_down(observed, resampled, matrix)
    better = _step_down(-observed, -resampled, -matrix)
    return dict(zip(rows, worse, strict=True)), dict(zip(rows, better, strict=True))


def _sign_flips(matrix: Floats, seed: int) -> Floats:
    """RESAMPLES x rows: each row's total drop when every case keeps or flips its sign by chance."""
    rng = np.random.default_rng(seed)
    cases, rows = matrix.shape
    totals = np.empty((RESAMPLES, rows))
    step = max(1, _CHUNK_CELLS // max(cases, 1))
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        signs = rng.integers(0, 2, size=(size, cases), dtype=np.int8).astype(np.float64) * 2 - 1
        totals[start : start + size] = signs @ matrix
    return np.round(totals, _DIGITS)


def _step_down(observed: Floats, resampled: Floats, matrix: Floats) -> list[AdjustedP]:
    """Each p against the smallest resampled p of the rows that are not more extreme."""
    if not matrix.shape[0]:
        return [AdjustedP(raw=1.0, adjusted=1.0)] * len(observed)
    tails = [_tail(resampled[:, column], matrix[:, column]) for column in range(len(observed))]
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
    return [AdjustedP(raw=float(p), adjusted=float(q)) for p, q in zip(raw, adjusted, strict=True)]


def _tail(resampled: Floats, drops: Floats) -> Callable[[Floats], Floats]:
    """From totals to P(total >= it): exact binomial (McNemar) when all drops are of one size, else from the resamples."""
    from scipy.special import bdtrc

    sizes = {round(abs(float(size)), _DIGITS) for size in drops if size}
    if not sizes:
        return lambda totals: np.ones(len(totals))
    if len(sizes) == 1:
        size, count = sizes.pop(), int(np.count_nonzero(drops))
        table = np.concatenate(([1.0], bdtrc(np.arange(count), count, 0.5)))
        return lambda totals: table[np.rint((totals / size + count) / 2).astype(np.int64)]
    ranked = np.sort(resampled)
    return lambda totals: (len(ranked) - np.searchsorted(ranked, totals - 1e-12, side="left") + 1) / (len(ranked) + 1)
