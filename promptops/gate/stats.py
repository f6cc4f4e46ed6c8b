"""Intervals and tests for rates, paired differences and repeated draws. Pure, and exact where that is possible."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

RESAMPLES = 1_999
_EXACT_VARYING = 15
_MAX_GRID = 60
_TIE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval, low <= high."""

    low: float
    high: float


def wilson_interval(passed: float, total: float, *, confidence: float = 0.95) -> Interval:
    """Interval for a pass rate, both ends in [0, 1]; usable from total = 1; `passed` may be a sum of scores in [0, 1], `total` an effective number.

    Raises ValueError if not 0 <= passed <= total or total == 0.
    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209-212; no continuity correction.
    """
    if total <= 0 or not 0 <= passed <= total:
        raise ValueError(f"{passed} of {total} is not a rate")
    z = normal_quantile(0.5 + confidence / 2)
    rate = passed / total
    centre = (rate + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half))


def weighted_interval(parts: Sequence[tuple[float, float, Interval]]) -> Interval:
    """Interval for a weighted sum of independent estimates, each (weight, estimate, its interval); weights are not negative.

    With weights that add up to 1 it stays within the range of the estimates. Source: Zou, Huang and Zhang 2009, Comput. Stat.
    Data Anal. 53:1080-1085 (square-and-add of the limits, as Newcombe 1998 for two).
    """
    estimate = sum(weight * value for weight, value, _ in parts)
    down = sqrt(sum((weight * (value - interval.low)) ** 2 for weight, value, interval in parts))
    up = sqrt(sum((weight * (interval.high - value)) ** 2 for weight, value, interval in parts))
    return Interval(low=estimate - down, high=estimate + up)


def paired_rate_interval(both: int, broken: int, fixed: int, neither: int, *, confidence: float = 0.95) -> Interval:
    """Interval for rate(candidate) - rate(baseline) of paired pass/fail results, in [-1, 1].

    `both` passed twice, `broken` only before, `fixed` only after, `neither` never. Raises ValueError without pairs.
    Source: Newcombe 1998, Stat. Med. 17:2635-2650, method 10 (square-and-add Wilson with correlation).
    """
    total = both + broken + fixed + neither
    after = wilson_interval(both + fixed, total, confidence=confidence)
    before = wilson_interval(both + broken, total, confidence=confidence)
    p_after, p_before = (both + fixed) / total, (both + broken) / total
    margins = (both + broken) * (fixed + neither) * (both + fixed) * (broken + neither)
    phi = 0.0
    if margins:
        cross = both * neither - broken * fixed
        phi = (max(cross - total / 2, 0.0) if cross > 0 else cross) / sqrt(margins)
    low_a, high_a = p_after - after.low, after.high - p_after
    low_b, high_b = p_before - before.low, before.high - p_before
    difference = p_after - p_before
    down = sqrt(max(0.0, low_a**2 - 2 * phi * low_a * high_b + high_b**2))
    up = sqrt(max(0.0, high_a**2 - 2 * phi * high_a * low_b + low_b**2))
    return Interval(low=max(-1.0, difference - down), high=min(1.0, difference + up))


def independent_rate_interval(before: tuple[int, int], after: tuple[int, int], *, confidence: float = 0.95) -> Interval:
    """Interval for the difference of two pass rates that are not paired, each (passed, total), in [-1, 1].

    Raises ValueError for a total of 0. Source: Newcombe 1998, Stat. Med. 17:873-890, method 10 (square-and-add Wilson).
    """
    old, new = wilson_interval(*before, confidence=confidence), wilson_interval(*after, confidence=confidence)
    p_old, p_new = before[0] / before[1], after[0] / after[1]
    down = sqrt((p_new - new.low) ** 2 + (old.high - p_old) ** 2)
    up = sqrt((new.high - p_new) ** 2 + (p_old - old.low) ** 2)
    return Interval(low=max(-1.0, p_new - p_old - down), high=min(1.0, p_new - p_old + up))


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Student t interval for the mean of independent values; infinite below two values."""
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        return Interval(low=float("-inf"), high=float("inf"))
    mean = sum(values) / count
    spread = sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count)
    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * spread
    return Interval(low=mean - half, high=mean + half)


def redraw_interval(
    baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]], *, confidence: float = 0.95
) -> Interval:
    """Interval for the mean difference candidate - baseline over *these* cases: only the draws vary, the cases are fixed.

    The variance of a case is that of all its draws of both sides, S^2 * (1 / kb + 1 / kc), so that a real change widens it;
    one discordant pair is added so that a few equal draws do not look certain (in the spirit of Agresti and Min 2005,
    Stat. Med. 24:729-740). Raises ValueError without cases.
    """
    if not baseline:
        raise ValueError("no cases")
    total = variance = 0.0
    for before, after in zip(baseline, candidate, strict=True):
        total += sum(after) / len(after) - sum(before) / len(before)
        variance += _pooled_variance(before, after) * (1 / len(before) + 1 / len(after))
    n = len(baseline)
    half = normal_quantile(0.5 + confidence / 2) * sqrt(variance + 1.0) / n
    difference = total / n
    return Interval(low=max(-1.0, difference - half), high=min(1.0, difference + half))


def within_case_p(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]], *, seed: int) -> float:
    """One-sided p that the candidate is worse, when under "nothing changed" a case's draws are exchangeable between sides.

    Pass/fail draws: exact. Case i with t successes in K draws gives the candidate a hypergeometric(K, t, kc) count,
    independent over cases; p = P(sum <= observed) by convolution. One draw a side is the exact McNemar test.
    Scores: labels permuted within each case; normal with mean kc * mean_i and variance (kc * kb / K) * S_i^2 summed over
    cases; Monte Carlo when at most 15 cases vary. Source: GATE.md steps 2 and 6; Fisher 1935 (randomisation tests).
    """
    varying = [pair for pair in zip(baseline, candidate, strict=True) if _varies(*pair)]
    if not varying:
        return 1.0
    if all(score in (0, 1) for pair in varying for side in pair for score in side):
        return _exact_p(varying)
    if len(varying) <= _EXACT_VARYING:
        return _monte_carlo_p(varying, seed)
    observed = sum(sum(after) for _, after in varying)
    mean = sum(len(after) * (sum(before) + sum(after)) / (len(before) + len(after)) for before, after in varying)
    variance = sum(
        len(after) * len(before) / (len(before) + len(after)) * _pooled_variance(before, after)
        for before, after in varying
    )
    return NormalDist().cdf((observed - mean) / sqrt(variance))


def sign_flip_p(differences: Sequence[float], *, seed: int) -> float:
    """One-sided p that the mean difference is negative, when each could as well have had the other sign.

    Exact by convolution when the differences are multiples of 1/60 of a point scale (as means of up to 5 pass/fail draws
    are), else Monte Carlo with 1,999 flips. Source: Fisher 1935; Edgington and Onghena 2007, Randomization Tests.
    """
    import numpy as np

    found = [value for value in differences if abs(value) > _TIE]
    if not found:
        return 1.0
    steps = [round(abs(value) * _MAX_GRID) for value in found]
    if all(abs(abs(value) * _MAX_GRID - step) < 1e-6 for value, step in zip(found, steps, strict=True)):
        lost = sum(step for value, step in zip(found, steps, strict=True) if value < 0)
        pmf = np.ones(1)
        for step in steps:
            spread = np.zeros(step + 1)
            spread[0] = spread[-1] = 0.5
            pmf = np.convolve(pmf, spread)
        return min(1.0, float(pmf[lost:].sum()))
    rng = np.random.default_rng(seed)
    sizes = np.abs(np.array(found))
    signs = rng.integers(0, 2, size=(RESAMPLES, len(found)), dtype=np.int8).astype(np.float64) * 2 - 1
    return (int(np.count_nonzero(signs @ sizes <= sum(found) + _TIE)) + 1) / (RESAMPLES + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false alarm at alpha. Source: Holm 1979, Scand. J. Stat. 6:65-70."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@lru_cache(maxsize=64)
def normal_quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _varies(before: Sequence[float], after: Sequence[float]) -> bool:
    first = before[0]
    return any(abs(value - first) > _TIE for value in (*before, *after))


def _pooled_variance(before: Sequence[float], after: Sequence[float]) -> float:
    """Sample variance of all draws of a case, as if both sides were one."""
    values = (*before, *after)
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _exact_p(varying: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    import numpy as np

    pmf = np.ones(1)
    observed = 0
    for before, after in varying:
        observed += round(sum(after))
        pmf = np.convolve(pmf, _hypergeometric(len(before) + len(after), round(sum(before) + sum(after)), len(after)))
    return min(1.0, float(pmf[: observed + 1].sum()))


@lru_cache(maxsize=4096)
def _hypergeometric(population: int, successes: int, draws: int) -> "Floats":
    """P(X = 0..draws) of successes among `draws` taken from a population without replacement."""
    from math import comb

    import numpy as np

    ways = comb(population, draws)
    return np.array([comb(successes, x) * comb(population - successes, draws - x) / ways for x in range(draws + 1)])


def _monte_carlo_p(varying: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int) -> float:
    import numpy as np

    rng = np.random.default_rng(seed)
    totals = np.zeros(RESAMPLES)
    for before, after in varying:
        pool = np.tile(np.array((*before, *after), dtype=np.float64), (RESAMPLES, 1))
        totals += rng.permuted(pool, axis=1)[:, : len(after)].sum(axis=1)
    observed = sum(sum(after) for _, after in varying)
    return (int(np.count_nonzero(totals <= observed + _TIE)) + 1) / (RESAMPLES + 1)
