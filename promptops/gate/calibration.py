"""How far a judge can be trusted, and what the pass rate is when its errors are taken out.

Sources: TPR, TNR and J: Youden 1950, Cancer 3:32-35; kappa: Cohen 1960, Educ. Psychol. Meas. 20:37-46; alpha: Krippendorff 2004,
Content Analysis, ch. 11; PPI++: Angelopoulos, Duchi, Zrnic 2023, arXiv 2311.01453, with lambda fitted on the other folds and a t quantile;
weights: Hajek 1971, in Foundations of Statistical Inference.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from promptops.gate.stats import Interval, wilson_interval

Floats = npt.NDArray[np.float64]
MIN_FOR_CORRECTION = 30
"""From so many human labels on, the judge's verdicts on the other answers are used; below, the labels alone."""
_FOLDS = 5
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share, with its interval and what it was counted from; `n` are answers, `value` None when there are none."""

    value: float | None
    interval: Interval | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Judge against people, in answers: `hit` both pass, `missed` people pass alone, `false_pass` the judge alone, `caught` neither."""

    hit: int
    missed: int
    false_pass: int
    caught: int

    @property
    def n(self) -> int:
        return self.hit + self.missed + self.false_pass + self.caught


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A judge measured against people. `bias` is its pass rate minus theirs; a true drop of d shows as `j` times d."""

    confusion: Confusion
    tpr: Rate
    tnr: Rate
    j: Rate
    bias: Rate
    kappa: Rate


def agreement(
    human: Sequence[bool], judge: Sequence[bool], weights: Sequence[float] | None = None, *, seed: int = 0
) -> Agreement:
    """How the judge's verdicts on the same answers compare with people's. `weights` are 1 / chance of having been chosen, None for equal.

    Raises ValueError without answers, or for sequences of other lengths.
    """
    y, f = np.asarray(human, dtype=np.float64), np.asarray(judge, dtype=np.float64)
    w = _weights(weights, len(y))
    if not len(y) or len(y) != len(f):
        raise ValueError("need the verdicts of both on the same answers")
    tpr, tnr = _share(f, w, y == 1), _share(1 - f, w, y == 0)
    confusion = Confusion(hit=int((y * f).sum()), missed=int((y * (1 - f)).sum()), false_pass=int(((1 - y) * f).sum()),
                          caught=int(((1 - y) * (1 - f)).sum()))  # fmt: skip
    return Agreement(
        confusion=confusion,
        tpr=tpr,
        tnr=tnr,
        j=_youden(tpr, tnr, len(y)),
        bias=_mean(f - y, w),
        kappa=_kappa_rate(y, f, w, seed),
    )


def _weights(weights: Sequence[float] | None, count: int) -> Floats:
    """Mean 1, so that counts stay counts."""
    if weights is None or not count:
        return np.ones(count)
    found = np.asarray(weights, dtype=np.float64)
    if len(found) != count or not (found > 0).all() or not np.isfinite(found).all():
        raise ValueError("need one positive weight for each answer")
    scaled: Floats = found / found.mean()
    return scaled


def effective_size(weights: Floats) -> float:
    """How many equally weighted answers tell as much. Source: Kish 1965, Survey Sampling."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def _share(values: Floats, weights: Floats, among: npt.NDArray[np.bool_]) -> Rate:
    chosen, of = values[among], weights[among]
    if not len(chosen):
        return Rate(value=None, interval=None, n=0)
    share = float((of * chosen).sum() / of.sum())
    return Rate(value=share, interval=wilson_interval(share * effective_size(of), effective_size(of)), n=len(chosen))


def _youden(tpr: Rate, tnr: Rate, n: int) -> Rate:
    """TPR + TNR - 1, its interval by square-and-add of the two (Newcombe 1998, method 10); none unless people passed and failed some."""
    if tpr.value is None or tnr.value is None or tpr.interval is None or tnr.interval is None:
        return Rate(value=None, interval=None, n=n)
    j = tpr.value + tnr.value - 1
    down = sqrt((tpr.value - tpr.interval.low) ** 2 + (tnr.value - tnr.interval.low) ** 2)
    up = sqrt((tpr.interval.high - tpr.value) ** 2 + (tnr.interval.high - tnr.value) ** 2)
    return Rate(value=j, interval=Interval(low=max(-1.0, j - down), high=min(1.0, j + up)), n=n)


def _mean(values: Floats, weights: Floats) -> Rate:
    """Weighted mean with a t interval; no interval below two values."""
    n = len(values)
    mean = float((weights * values).sum() / weights.sum())
    if n < 2:
        return Rate(value=mean, interval=None, n=n)
    half = t_quantile(n - 1) * sqrt(_variance_of_mean(values, weights))
    return Rate(value=mean, interval=Interval(low=mean - half, high=mean + half), n=n)


def _variance_of_mean(values: Floats, weights: Floats) -> float:
    """Of a Hajek mean, by linearisation; the usual s^2 / n for equal weights."""
    n = len(values)
    centred = values - (weights * values).sum() / weights.sum()
    return float((weights**2 * centred**2).sum() / weights.sum() ** 2 * n / (n - 1))


def t_quantile(degrees: int, share: float = 0.975) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))


def cohen_kappa(one: Sequence[object], other: Sequence[object], weights: Sequence[float] | None = None) -> float | None:
    """Agreement of two raters beyond chance, for any set of words; None when both always say the same one thing."""
    w = _weights(weights, len(one))
    names = sorted({*one, *other}, key=repr)
    place = {name: index for index, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for a, b, weight in zip(one, other, w, strict=True):
        table[place[a], place[b]] += weight
    table /= table.sum()
    observed, expected = float(np.trace(table)), float((table.sum(axis=0) * table.sum(axis=1)).sum())
    return None if expected >= 1 - 1e-12 else (observed - expected) / (1 - expected)


def _kappa_rate(y: Floats, f: Floats, w: Floats, seed: int) -> Rate:
    """Kappa with a percentile bootstrap interval over answers."""
    value = cohen_kappa(list(y), list(f), list(w))
    if value is None or len(y) < 2:
        return Rate(value=value, interval=None, n=len(y))
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, len(y), size=(_RESAMPLES, len(y)))
    ys, fs, ws = y[picked], f[picked], w[picked]
    total = ws.sum(axis=1)
    observed = (ws * (ys == fs)).sum(axis=1) / total
    p, q = (ws * ys).sum(axis=1) / total, (ws * fs).sum(axis=1) / total
    expected = p * q + (1 - p) * (1 - q)
    defined = expected < 1 - 1e-12
    found = (observed[defined] - expected[defined]) / (1 - expected[defined])
    low, high = np.quantile(found, [0.025, 0.975]) if len(found) else (value, value)
    return Rate(value=value, interval=Interval(low=float(low), high=float(high)), n=len(y))


def ordinal_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Agreement of any number of raters on a scale beyond chance; `units` are the values each answer got. None when nothing varies.

    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability (coincidences, ordinal metric).
    """
    pairable = [list(values) for values in units if len(values) > 1]
    names = sorted({value for values in pairable for value in values})
    if len(names) < 2:
        return None
    place = {name: index for index, name in enumerate(names)}
    coincidences = np.zeros((len(names), len(names)))
    for values in pairable:
        for a, b in ((a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i != j):
            coincidences[place[a], place[b]] += 1 / (len(values) - 1)
    margins = coincidences.sum(axis=0)
    total = margins.sum()
    distance = _distances(margins)
    observed = float((coincidences * distance).sum())
    expected = float((np.outer(margins, margins) * distance).sum() / (total - 1))
    return 1 - observed / expected if expected else None


def _distances(margins: Floats) -> Floats:
    size = len(margins)
    found = np.zeros((size, size))
    for a in range(size):
        for b in range(a + 1, size):
            found[a, b] = found[b, a] = (margins[a : b + 1].sum() - (margins[a] + margins[b]) / 2) ** 2
    return found


def majority(verdicts: Mapping[str, bool]) -> bool | None:
    """What most reviewers of an answer say; None when they are split evenly."""
    counts = Counter(verdicts.values())
    return None if counts[True] == counts[False] else counts[True] > counts[False]


# The pass rate with the judge's errors taken out


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """A pass rate. `method`: `ppi++` uses people's labels and all the judge's verdicts, `labels` people's alone; `raw` is the judge's own.

    `tuning` is how much the judge is listened to (lambda, 0: not at all).
    """

    value: float
    interval: Interval
    method: Literal["ppi++", "labels"]
    labels: int
    answers: int
    raw: float
    tuning: float = 0.0

    @property
    def width(self) -> float:
        return self.interval.high - self.interval.low


def corrected_rate(
    human: Sequence[float], judge: Sequence[float], others: Sequence[float], weights: Sequence[float] | None = None, *, seed: int = 0
) -> Corrected:  # fmt: skip
    """The pass rate of all answers: `human` and `judge` verdicts (0, 1) on labelled ones, the judge's on the `others`.

    From 30 labels on PPI++, with lambda for each fold fitted on the other folds and a t quantile; below, the labels alone with a Jeffreys
    interval. With unequal `weights` (1 / chance of having been chosen for labelling), the labelled answers stand for all of them: a difference
    estimator with the same cross-fitting. Raises ValueError without labels.
    """
    y, f, rest = (np.asarray(values, dtype=np.float64) for values in (human, judge, others))
    if not len(y) or len(y) != len(f):
        raise ValueError("need labelled answers, each with a verdict of the judge")
    w = _weights(weights, len(y))
    everyone = np.concatenate([f, rest])
    raw = float(everyone.mean())
    equal = bool(np.ptp(w) < 1e-12)
    if len(y) < MIN_FOR_CORRECTION or not len(rest):
        return _labels_alone(y, w, raw, len(everyone))
    lambdas, folds = _cross_fitted(y, f, w, 1.0 if not equal else 1 / (1 + len(y) / len(rest)), seed)
    residual = y - lambdas[folds] * f
    tuning = float(np.bincount(folds, weights=w, minlength=len(lambdas)) @ lambdas / w.sum())
    if equal:
        value = float(residual.mean() + tuning * rest.mean())
        variance = float(residual.var(ddof=1)) / len(y) + tuning**2 * float(
            rest.var(ddof=1) if len(rest) > 1 else 0.25
        ) / len(rest)
    else:
        value = float((w * residual).sum() / w.sum() + tuning * everyone.mean())
        mean = min(1.0, max(0.0, value))
        variance = _variance_of_mean(residual, w) + mean * (1 - mean) / len(everyone)
    half = t_quantile(len(y) - 1) * sqrt(variance)
    return Corrected(value=min(1.0, max(0.0, value)), interval=Interval(low=max(0.0, value - half), high=min(1.0, value + half)), method="ppi++",
                     labels=len(y), answers=len(everyone), raw=raw, tuning=tuning)  # fmt: skip


def _labels_alone(y: Floats, w: Floats, raw: float, answers: int) -> Corrected:
    """Jeffreys interval, (0, 1) kept where nothing failed or passed. Source: Brown, Cai, DasGupta 2001, Stat. Sci. 16:101-133."""
    from scipy.special import betaincinv

    share, n = float((w * y).sum() / w.sum()), effective_size(w)
    passed = share * n
    low = 0.0 if share == 0 else float(betaincinv(passed + 0.5, n - passed + 0.5, 0.025))
    high = 1.0 if share == 1 else float(betaincinv(passed + 0.5, n - passed + 0.5, 0.975))
    return Corrected(
        value=share, interval=Interval(low=low, high=high), method="labels", labels=len(y), answers=answers, raw=raw
    )


def _cross_fitted(y: Floats, f: Floats, w: Floats, shrink: float, seed: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(lambda by fold, fold of each label): the slope of people's verdicts on the judge's in the other folds, within [0, 1]."""
    folds = np.arange(len(y)) % _FOLDS
    np.random.default_rng(seed).shuffle(folds)
    found = np.zeros(_FOLDS)
    for fold in range(_FOLDS):
        kept = folds != fold
        weights = w[kept] / w[kept].sum()
        centred_y, centred_f = y[kept] - weights @ y[kept], f[kept] - weights @ f[kept]
        spread = float(weights @ centred_f**2)
        found[fold] = (
            min(1.0, max(0.0, shrink * float(weights @ (centred_y * centred_f)) / spread)) if spread > 1e-12 else 0.0
        )
    return found, folds
