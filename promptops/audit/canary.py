"""A canary beside the version it may replace: differences that may be looked at any time, and what the policy makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from promptops.audit.drift import MEANS, TOLERANCE, Metric, always_valid_interval, step_at
from promptops.audit.events import Bucket, Histogram, Measures, Tally, Traffic
from promptops.core.errors import DataError

Verdict = Literal["worse", "no worse", "not known yet"]
Decision = Literal["abort", "promote", "wait"]

METRICS: tuple[Metric, ...] = ("errors", "fallbacks", "rejected", "refused", "bad", "judged", "slow", "costly")
ALPHA = 0.05
_LEAST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """`hits` of `n` requests (or judged answers)."""

    hits: int
    n: int

    @property
    def rate(self) -> float | None:
        return self.hits / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rate on both sides; the difference is canary less control, and [low, high] holds it at every look, all rows together."""

    metric: Metric
    control: Side
    canary: Side
    low: float
    high: float
    tolerance: float

    @property
    def verdict(self) -> Verdict:
        """Worse: surely higher, and by more than the tolerance as far as one can see."""
        difference = (self.canary.rate or 0.0) - (self.control.rate or 0.0)
        if self.low > 0 and difference > self.tolerance:
            return "worse"
        return "no worse" if self.high <= self.tolerance else "not known yet"

    @property
    def means(self) -> str:
        return MEANS[self.metric]


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What is known of a canary; `unseen` are rates of which there is nothing to look at (no feedback, no price)."""

    prompt: str
    control: str
    canary: str
    rows: tuple[Row, ...]
    unseen: tuple[Metric, ...]
    buckets: tuple[str, str]

    @property
    def decision(self) -> Decision:
        """Abort when one rate is worse; promote when all are no worse; else wait."""
        verdicts = [row.verdict for row in self.rows]
        if "worse" in verdicts:
            return "abort"
        return "promote" if verdicts and set(verdicts) == {"no worse"} else "wait"


def compare_canary(traffic: Traffic, prompt: str, *, control: str, canary: str) -> Canary:
    """Both versions in the buckets in which both had traffic, so that the hour explains no difference.

    Raises DataError when one of them has no request, or they never ran together. Slow and costly are measured by the p95 and p90 of the control
    before the canary came (at least 200 requests), else beside it. Each side of each row has an interval at 0.05 / (2 rows).
    """
    named = {_bare(key[2]): key[2] for key in traffic.totals("version") if key[1] == prompt}
    for version in (control, canary):
        if _bare(version) not in named:
            raise DataError(f"no request of {prompt} {version} in these events", why=f"there are {', '.join(sorted(named.values())) or 'none of this prompt'}")  # fmt: skip
    old, new = named[_bare(control)], named[_bare(canary)]
    if old == new:
        raise DataError("a canary needs another version beside it", where=f"{prompt} {old}")
    buckets = traffic.ordered()
    both = [bucket for bucket in buckets if {(prompt, old), (prompt, new)} <= set(bucket.measures)]
    if not both:
        raise DataError(f"{old} and {new} of {prompt} never had requests in the same {traffic.every}", hint="look at events since the canary began")  # fmt: skip
    earlier = [bucket for bucket in buckets if bucket.at < both[0].at]
    sides = _sides(both, earlier, prompt, old, new)
    seen = {metric: pair for metric, pair in sides.items() if pair[0].n and pair[1].n}
    alpha = ALPHA / (2 * len(seen))
    rows = tuple(_row(metric, before, after, alpha) for metric, (before, after) in seen.items())
    unseen = tuple(metric for metric in METRICS if metric not in seen)
    return Canary(prompt=prompt, control=old, canary=new, rows=rows, unseen=unseen, buckets=(both[0].at, both[-1].at))


def ran_together(traffic: Traffic, prompt: str, control: str, canary: str) -> bool:
    """Whether both versions had requests in the same bucket, so that they can be compared."""
    wanted = {_bare(control), _bare(canary)}
    return any(wanted <= {_bare(version) for name, version in bucket.measures if name == prompt} for bucket in traffic.buckets.values())  # fmt: skip


def _row(metric: Metric, control: Side, canary: Side, alpha: float) -> Row:
    """The union of two intervals that each hold at every look."""
    low, high = always_valid_interval(control.hits, control.n, alpha=alpha)
    new_low, new_high = always_valid_interval(canary.hits, canary.n, alpha=alpha)
    return Row(metric=metric, control=control, canary=canary, low=new_low - high, high=new_high - low, tolerance=TOLERANCE[metric])  # fmt: skip


def _sides(
    both: Sequence[Bucket], earlier: Sequence[Bucket], prompt: str, old: str, new: str
) -> Mapping[Metric, tuple[Side, Side]]:
    tallies = [_tally(both, prompt, version) for version in (old, new)]
    measures = [_measured(both, prompt, version) for version in (old, new)]
    before = _measured(earlier, prompt, old)
    usual = before if sum(before.latency_ms.values()) >= _LEAST else measures[0]
    found: dict[Metric, tuple[Side, Side]] = {}
    for metric, name in (("errors", "errors"), ("fallbacks", "fallbacks"), ("rejected", "rejected"), ("refused", "refused")):  # fmt: skip
        first, second = (Side(hits=getattr(tally, name), n=tally.requests) for tally in tallies)
        found[metric] = (first, second)  # type: ignore[index]
    first, second = (Side(hits=tally.bad, n=tally.scored) for tally in tallies)
    found["bad"] = (first, second)
    first, second = (Side(hits=tally.failing, n=tally.judged) for tally in tallies)
    found["judged"] = (first, second)
    found["slow"] = _beyond(usual.latency_ms, [side.latency_ms for side in measures], 0.95)
    found["costly"] = _beyond(usual.cost_nanousd, [side.cost_nanousd for side in measures], 0.90)
    return found


def _beyond(usual: Histogram, sides: Sequence[Histogram], share: float) -> tuple[Side, Side]:
    step = step_at(usual, share)
    if step is None:
        return Side(hits=0, n=0), Side(hits=0, n=0)
    first, second = (Side(hits=side.above(step), n=sum(side.values())) for side in sides)
    return first, second


def _tally(buckets: Sequence[Bucket], prompt: str, version: str) -> Tally:
    total = Tally()
    for bucket in buckets:
        if tally := bucket.tallies.get(("version", prompt, version)):
            total.add(tally)
    return total


def _measured(buckets: Sequence[Bucket], prompt: str, version: str) -> Measures:
    total = Measures()
    for bucket in buckets:
        if measures := bucket.measures.get((prompt, version)):
            total.add(measures)
    return total


def _bare(version: str) -> str:
    return version.removeprefix("v")
