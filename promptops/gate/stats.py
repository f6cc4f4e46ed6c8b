"""Intervals and exact tests for rates and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval, low <= high."""

    low: float
    high: float


def wilson_interval(passed: float, total: int, *, confidence: float = 0.95) -> Interval:
    """Interval for a pass rate, both ends in [0, 1]; usable from total = 1; `passed` may be a sum of scores in [0, 1].

    Raises ValueError if not 0 <= passed <= total or total == 0.
    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209-212; no continuity correction.
    """
    if total <= 0 or not 0 <= passed <= total:
        raise ValueError(f"{passed} of {total} is not a rate")
    z = _normal_quantile(0.5 + confidence / 2)
    rate = passed / total
    centre = (rate + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half))


def mcnemar_worse(broken: int, fixed: int) -> float:
    """One-sided exact McNemar p that the candidate is worse: P(>= broken of the discordant pairs break by chance).

    Source: McNemar 1947, Psychometrika 12:153-157, in its exact binomial form.
    """
    from scipy.stats import binom  # a second of CPU to import: only comparisons need it

    return float(binom.sf(broken - 1, broken + fixed, 0.5))


def paired_rate_interval(both: int, broken: int, fixed: int, neither: int, *, confidence: float = 0.95) -> Interval:
    """Interval for rate(candidate) - rate(baseline) of paired pass/fail results, in [-1, 1].

    `both` passed twice, `broken` only before, `fixed` only after, `neither` never. Raises ValueError without pairs.
    Source: Newcombe 1998, Stat. Med. 17:2635-2650, method 10 (square-and-add Wilson with correlation).
    """
    total = both + broken + fixed + neither
    after, before = (
        wilson_interval(both + fixed, total, confidence=confidence),
        wilson_interval(both + broken, total, confidence=confidence),
    )
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


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Student t interval for the mean of independent values; infinite below two values."""
    from scipy.stats import t as student_t

    count = len(values)
    if count < 2:
        return Interval(low=float("-inf"), high=float("inf"))
    mean = sum(values) / count
    spread = sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count)
    half = float(student_t.ppf(0.5 + confidence / 2, count - 1)) * spread
    return Interval(low=mean - half, high=mean + half)


@lru_cache(maxsize=32)
def _normal_quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)
