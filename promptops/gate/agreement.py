"""How far reviewers agree beyond chance: Cohen's kappa for two, Krippendorff's alpha for more."""

import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

from promptops.gate.stats import Interval, wilson_interval

RESAMPLES = 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of items that several people judged: share of agreeing pairs with its interval, and what is left of it beyond chance.

    `beyond_chance` is kappa (two raters) or alpha (more), None where chance alone would always agree: everybody said the same.
    """

    items: int
    raters: int
    agreed: float
    agreed_interval: Interval
    statistic: str
    beyond_chance: float | None
    interval: Interval | None


def cohen_kappa(
    pairs: Sequence[tuple[Hashable, Hashable]], *, confidence: float = 0.95
) -> tuple[float | None, Interval | None]:
    """Kappa of two raters and its interval; (None, None) when chance agreement is complete.

    Interval: large-sample variance of Fleiss, Cohen and Everitt 1969, Psychol. Bull. 72:323-327, never narrower than Wilson's for
    the raw agreement with chance agreement held fixed: at full agreement the former would claim certainty from two items.
    Raises ValueError without pairs.
    """
    count = len(pairs)
    if not count:
        raise ValueError("no pairs")
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / count
    chance = sum(first[value] * second[value] for value in first) / count**2
    if chance >= 1:
        return None, None
    kappa = (observed - chance) / (1 - chance)
    spread = 0.0
    for (a, b), cell in Counter(pairs).items():
        margins = (second[a] + first[b]) / count
        spread += cell / count * ((a == b) * (1 - chance) - margins * (1 - observed)) ** 2
    variance = max(0.0, spread - (observed * chance - 2 * chance + observed) ** 2) / (count * (1 - chance) ** 4)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * sqrt(variance)
    raw = wilson_interval(observed * count, count, confidence=confidence)
    low, high = ((end - chance) / (1 - chance) for end in (raw.low, raw.high))
    return kappa, Interval(low=max(-1.0, min(kappa - half, low)), high=min(1.0, max(kappa + half, high)))


def krippendorff_alpha(items: Sequence[Sequence[Hashable]]) -> float | None:
    """Nominal alpha of any number of raters, items with one value ignored; None when every value is the same.

    Source: Krippendorff 2004, Content Analysis, 2nd ed., section 11.3 (coincidence matrix). Raises ValueError without a pair.
    """
    rated = [values for values in items if len(values) > 1]
    if not rated:
        raise ValueError("no item has two values")
    totals = Counter(value for values in rated for value in values)
    count = sum(totals.values())
    disagreed = 0.0
    for values in rated:
        same = sum(number * (number - 1) for number in Counter(values).values())
        disagreed += (len(values) * (len(values) - 1) - same) / (len(values) - 1)
    expected = count * count - sum(number * number for number in totals.values())
    if expected == 0:
        return None
    return 1 - (count - 1) * disagreed / expected


def agreement(
    items: Sequence[Sequence[tuple[str, Hashable]]], *, seed: int = 0, confidence: float = 0.95
) -> Agreement | None:
    """Agreement of (rater, value) judgements, item by item; None when no item has two.

    Kappa when two people rated; else alpha, its interval a bootstrap over items. Values that are whole numbers are points of a
    scale: there, alpha is ordinal for any number of raters, so that 4 and 5 agree more than 1 and 5.
    """
    rated = [sorted(item) for item in items if len(item) > 1]
    if not rated:
        return None
    raters = sorted({rater for item in rated for rater, _ in item})
    values = [[value for _, value in item] for item in rated]
    shares = [_pair_share(item) for item in values]
    agreed = sum(shares) / len(shares)
    if all(type(value) is int for item in values for value in item):
        from promptops.gate.calibration import ordinal_alpha  # numpy, for scales only

        name, beyond, interval = "ordinal alpha", *_alpha(values, ordinal_alpha, seed, confidence)
    elif len(raters) == 2:
        name = "kappa"
        beyond, interval = cohen_kappa([(item[0], item[1]) for item in values], confidence=confidence)
    else:
        name, beyond, interval = "alpha", *_alpha(values, krippendorff_alpha, seed, confidence)
    return Agreement(items=len(rated), raters=len(raters), agreed=agreed, statistic=name, beyond_chance=beyond, interval=interval,
                     agreed_interval=wilson_interval(sum(shares), len(shares), confidence=confidence))  # fmt: skip


def _pair_share(values: Sequence[Hashable]) -> float:
    """Share of the pairs of raters of an item that agree."""
    count = len(values)
    return sum(number * (number - 1) for number in Counter(values).values()) / (count * (count - 1))


def _alpha(
    items: Sequence[Sequence[Any]],
    alpha: Callable[[Sequence[Sequence[Any]]], float | None],
    seed: int,
    confidence: float,
) -> tuple[float | None, Interval | None]:
    """Alpha and its percentile interval over resampled items; resamples in which all say the same have none."""
    found = alpha(items)
    if found is None:
        return None, None
    rng = random.Random(seed)  # noqa: S311 - a resampling, not a secret
    drawn = sorted(
        value for value in (alpha(rng.choices(items, k=len(items))) for _ in range(RESAMPLES)) if value is not None
    )
    if not drawn:
        return found, None
    tail = int((1 - confidence) / 2 * len(drawn))
    return found, Interval(low=drawn[tail], high=drawn[-1 - tail])
