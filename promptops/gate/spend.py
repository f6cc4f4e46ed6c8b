"""Did answers become slower or dearer? Ratios of medians, tails and means, with a bootstrap interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promptops.gate.stats import Interval

RESAMPLES = 1_000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A figure of both sides and after / before; `interval` is None when the ratio has none (nothing before, or one case)."""

    name: str
    before: float
    after: float
    interval: Interval | None
    limit: float | None

    @property
    def exceeded(self) -> bool:
        """Whether the rise is beyond the limit even at the low end of its interval: noise does not block."""
        return self.limit is not None and self.interval is not None and self.interval.low > self.limit


def compare_spending(
    latency_s: tuple[Sequence[float], Sequence[float]], cost_nanousd: tuple[Sequence[float], Sequence[float]], *,
    limits: dict[str, float | None], seed: int,
) -> tuple[Ratio, ...]:  # fmt: skip
    """p50 and p99 latency (seconds) and cost a case (nano-dollars), after against before; cases are resampled.

    Source of the interval: percentile bootstrap, Efron 1979, Ann. Stat. 7:1-26.
    """
    figures: tuple[tuple[str, tuple[Sequence[float], Sequence[float]], Callable[[Floats], Floats]], ...] = (
        ("p50", latency_s, lambda rows: np.quantile(rows, 0.50, axis=1)),
        ("p99", latency_s, lambda rows: np.quantile(rows, 0.99, axis=1)),
        ("cost", cost_nanousd, lambda rows: rows.mean(axis=1)),
    )
    return tuple(
        _ratio(name, *sides, statistic, limit=limits.get(name), seed=seed) for name, sides, statistic in figures
    )


def _ratio(
    name: str,
    before: Sequence[float],
    after: Sequence[float],
    statistic: Callable[[Floats], Floats],
    *,
    limit: float | None,
    seed: int,
) -> Ratio:
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    value_before, value_after = float(statistic(old[None, :])[0]), float(statistic(new[None, :])[0])
    interval = None
    if value_before > 0 and min(len(old), len(new)) > 1:
        rng = np.random.default_rng(seed)
        ratios = statistic(_resampled(new, rng)) / np.maximum(
            statistic(_resampled(old, rng)), np.finfo(np.float64).tiny
        )
        low, high = np.quantile(ratios, [0.025, 0.975])
        interval = Interval(low=float(low), high=float(high))
    return Ratio(name=name, before=value_before, after=value_after, interval=interval, limit=limit)


def _resampled(values: Floats, rng: np.random.Generator) -> Floats:
    return values[rng.integers(0, len(values), size=(RESAMPLES, len(values)))]
