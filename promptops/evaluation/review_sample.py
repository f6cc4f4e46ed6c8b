"""Which answers are worth a person's minute, each with a known chance of being chosen, and the pass rate that follows from them."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptops.gate.stats import Interval, wilson_interval

RANDOM_SHARE, BALANCED_SHARE, TELLING_SHARE = 0.4, 0.2, 0.4
"""How the chances are made up: equal for all; equal for every category and slice value, however small; for answers with a reason to look."""
WHOLE = 2**40
"""Chances are whole numbers of this: they add up exactly, and as floats they lose nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One answer that could be reviewed; `reasons` are why it tells more than others, `slices` as `lang=ja`."""

    id: str
    category: str
    slices: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A chosen answer and the exact probability with which it was."""

    id: str
    inclusion: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One reviewed answer: `score` 0 (fail) to 1 (pass; between them where reviewers disagree), for `weight` draws of a run."""

    score: float
    inclusion: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A pass rate of all answers from those that were reviewed; `effective` is how many random ones would say as much."""

    rate: float
    interval: Interval
    reviewed: int
    effective: float


def inclusion_chances(units: Sequence[Unit], size: int) -> dict[str, int]:
    """The chance of each unit in 1/WHOLE: none is 0, none above WHOLE, and together they are exactly `size` * WHOLE.

    Raises ValueError without units, or for a size that is not positive.
    """
    if not units or size < 1:
        raise ValueError("nothing to sample")
    if size >= len(units):
        return dict.fromkeys((unit.id for unit in units), WHOLE)
    ordered = sorted(units, key=lambda unit: unit.id)
    chances = _in_whole_numbers(_capped(_shares(ordered), size), size)
    return {unit.id: chance for unit, chance in zip(ordered, chances, strict=True)}


def draw_sample(units: Sequence[Unit], size: int, *, seed: str) -> list[Pick]:
    """`size` units, in an order to review them in that says nothing about them; all of them when there are no more.

    Systematic sampling with unequal probabilities (Madow 1949, Ann. Math. Stat. 20:333-354): the units lie on a line, each as
    long as its chance, sorted by category and slices and shuffled within, and one random start puts a mark at every whole
    number. So each chance is met exactly, and every category gets its expected number of units, rounded up or down.
    """
    chances = inclusion_chances(units, size)
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    line = sorted(units, key=lambda unit: unit.id)
    rng.shuffle(line)
    line.sort(key=lambda unit: (unit.category, unit.slices))
    mark, end, chosen = rng.randrange(WHOLE), 0, []
    for unit in line:
        end += chances[unit.id]
        if mark < end:
            chosen.append(Pick(id=unit.id, inclusion=chances[unit.id] / WHOLE))
            mark += WHOLE
    rng.shuffle(chosen)
    return chosen


def estimate_rate(judged: Sequence[Judged], *, confidence: float = 0.95) -> Estimate | None:
    """The pass rate of all draws: each reviewed one counts for 1 / inclusion of its kind (Hajek 1971). None without any.

    The variance is Hajek's for a fixed-size sample of high entropy (Hajek 1964, Ann. Math. Stat. 35:1491-1523; as given by
    Deville 1999), of the linearised ratio; the interval is Wilson's for the number of independent draws that would vary as
    much (Korn and Graubard 1998, Survey Methodology 24:193-201). Answers that were all chosen for certain leave no doubt.
    """
    if not judged:
        return None
    weights = [one.weight / one.inclusion for one in judged]
    total = sum(weights)
    rate = sum(weight * one.score for weight, one in zip(weights, judged, strict=True)) / total
    if all(one.inclusion >= 1 for one in judged):
        return Estimate(rate=rate, interval=Interval(low=rate, high=rate), reviewed=len(judged), effective=len(judged))
    kish = total * total / sum(weight * weight for weight in weights)
    doubtful = sum(weight * (1 - one.inclusion) for weight, one in zip(weights, judged, strict=True)) / total
    effective = kish / doubtful
    variance = _variance(judged, weights, rate) / (total * total)
    if variance > 0:
        effective = min(effective, rate * (1 - rate) / variance)
    passed = min(effective, max(0.0, rate * effective))
    return Estimate(rate=rate, interval=wilson_interval(passed, effective, confidence=confidence),
                    reviewed=len(judged), effective=effective)  # fmt: skip


def _variance(judged: Sequence[Judged], weights: Sequence[float], rate: float) -> float:
    """Of the weighted sum of (score - rate)."""
    count = len(judged)
    if count < 2:
        return 0.0
    doubt = [max(0.0, 1 - one.inclusion) * count / (count - 1) for one in judged]
    residuals = [weight * (one.score - rate) for weight, one in zip(weights, judged, strict=True)]
    centre = sum(c * e for c, e in zip(doubt, residuals, strict=True)) / (sum(doubt) or 1.0)
    return sum(c * (e - centre) ** 2 for c, e in zip(doubt, residuals, strict=True))


def _shares(units: Sequence[Unit]) -> list[float]:
    """What each unit would get of one draw; together 1."""
    rows = [(unit.category, *unit.slices) for unit in units]
    sizes: Counter[str] = Counter(name for names in rows for name in names)
    reasons = sum(len(unit.reasons) for unit in units)
    even = RANDOM_SHARE if reasons else RANDOM_SHARE + TELLING_SHARE
    shares = []
    for unit, names in zip(units, rows, strict=True):
        balanced = sum(1 / (len(sizes) * sizes[name]) for name in names)
        telling = TELLING_SHARE * len(unit.reasons) / reasons if reasons else 0.0
        shares.append(even / len(units) + BALANCED_SHARE * balanced + telling)
    return shares


def _capped(shares: Sequence[float], size: int) -> list[float]:
    """Probabilities in proportion to the shares, none above 1, that add up to `size`: what is cut off goes to the others."""
    certain: set[int] = set()
    while True:
        rest = sum(share for index, share in enumerate(shares) if index not in certain)
        scale = (size - len(certain)) / rest
        over = {index for index, share in enumerate(shares) if index not in certain and share * scale >= 1}
        if not over:
            return [1.0 if index in certain else share * scale for index, share in enumerate(shares)]
        certain |= over


def _in_whole_numbers(probabilities: Sequence[float], size: int) -> list[int]:
    """The probabilities in 1/WHOLE, rounded so that they add up exactly: what is left goes where there is room."""
    chances = [min(WHOLE, max(1, round(probability * WHOLE))) for probability in probabilities]
    left = size * WHOLE - sum(chances)
    for index, chance in enumerate(chances):
        moved = min(left, WHOLE - chance) if left > 0 else max(left, 1 - chance)
        chances[index] += moved
        left -= moved
    return chances


def count_reasons(units: Sequence[Unit], picks: Sequence[Pick]) -> Mapping[str, tuple[int, int]]:
    """(chosen, of how many) for each reason, by name."""
    chosen = {pick.id for pick in picks}
    every = Counter(reason for unit in units for reason in unit.reasons)
    taken = Counter(reason for unit in units if unit.id in chosen for reason in unit.reasons)
    return {reason: (taken[reason], every[reason]) for reason in sorted(every)}
