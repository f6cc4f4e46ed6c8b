"""What moved in the traffic of services: each rate against its own past, by a test that may be looked at after every hour."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Literal

import numpy as np

from promptops.audit.events import Bucket, Dimension, Histogram, Measures, Tally, Traffic

Metric = Literal[
    "errors",
    "fallbacks",
    "rejected",
    "refused",
    "bad",
    "judged",
    "false hits",
    "small",
    "slow",
    "costly",
    "long questions",
    "long answers",
    "share",
]
State = Literal["alert", "recovered", "steady", "too few"]

FORTNIGHT_HOURS = 336
FALSE_ALARMS = 0.2
REFERENCE = 72
_LEAST = 200
_RECENT = 24
_ODDS = np.array([1.25, 1.5, 2.0, 3.0, 5.0, 10.0])
"""The changes of the odds that the test bets on, in equal parts."""
TOLERANCE: Mapping[Metric, float] = {
    "errors": 0.01, "fallbacks": 0.02, "rejected": 0.02, "refused": 0.02, "bad": 0.05, "judged": 0.05, "false hits": 0.02, "small": 0.10, "slow": 0.05, "costly": 0.10,
    "long questions": 0.10, "long answers": 0.10, "share": 0.03,
}  # fmt: skip
"""How far the mean may move before anybody wants to know, as a share of requests."""
MEANS: Mapping[Metric, str] = {
    "errors": "requests with a failed model call", "fallbacks": "answers that stand in for whole ones", "rejected": "answers refused by guardrails",
    "refused": "answers a model refused or cut off", "bad": "answers people or a judge call bad", "judged": "sampled answers the judge fails",
    "false hits": "audited cache hits that were wrong", "small": "requests the router sent to the small model", "slow": "requests slower than 95% were before",
    "costly": "requests dearer than 90% were before", "long questions": "inputs longer than 90% were before",
    "long answers": "answers longer than 90% were before", "share": "share of the requests",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One rate over time: `hits` of `totals` in each bucket."""

    metric: Metric
    dimension: Dimension
    prompt: str
    value: str
    hits: tuple[int, ...]
    totals: tuple[int, ...]
    falls: bool = False
    """Whether less of it is looked for; hits are then what is left of the totals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the test says of one rate: before, its limit, and now; `since` and `seen` are buckets."""

    metric: Metric
    dimension: Dimension
    prompt: str
    value: str
    falls: bool
    state: State
    before: float
    before_n: int
    limit: float
    now: float
    now_n: int
    since: str
    seen: str
    series: tuple[tuple[str, int, int], ...]

    @property
    def means(self) -> str:
        return MEANS[self.metric]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """All rates, the alerts first; `reference` buckets made the limits, `threshold` is what the evidence must pass."""

    findings: tuple[Finding, ...]
    reference: int
    buckets: int
    threshold: float
    false_alarms: float

    @property
    def alerts(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.state == "alert")


def find_drift(traffic: Traffic, *, reference: int = REFERENCE, false_alarms: float = FALSE_ALARMS) -> Drift:
    """Compare every rate with its first `reference` buckets (at most a third of all).

    Each rate has an e-detector: for a factor f of the odds, L is the likelihood of the hits of a bucket at the shifted rate over that at the
    limit, M = max(M, 1) * L, and the mean of M over the factors is the evidence. While the mean rate is not above the limit, M is expected to
    grow by at most 1 a bucket, whatever the rate does below the limit and however often one looks; so with K rates and T buckets the expected
    number of false alarms is at most K * T / threshold, and the threshold is set to make that `false_alarms` a fortnight.
    The limit is the reference rate, three standard errors (with the spread between buckets), twice that spread, and a tolerance.

    Sources: Shin, Ramdas, Rinaldo 2024, E-detectors, New Engl. J. Stat. Data Sci. 2:229-260; Page 1954, Biometrika 41:100-115.
    """
    buckets = traffic.ordered()
    used = min(reference, len(buckets) // 3)
    streams = list(_streams(traffic, buckets, used)) if used else []
    horizon = FORTNIGHT_HOURS * (60 if traffic.every == "minute" else 1)
    threshold = max(1, len(streams)) * horizon / false_alarms
    judged = [(stream, limit) for stream in streams if (limit := _limit(stream, used)) is not None and limit < 1]
    alarms = _alarms(judged, used, log(threshold))
    watched = [_finding(stream, limit, alarm, [bucket.at for bucket in buckets], used) for (stream, limit), alarm in zip(judged, alarms, strict=True)]  # fmt: skip
    known = {id(stream) for stream, _ in judged}
    unwatched = [_too_few(stream, used) for stream in streams if id(stream) not in known and not stream.falls]
    order: Mapping[State, int] = {"alert": 0, "recovered": 1, "steady": 2, "too few": 3}
    findings = sorted([*watched, *unwatched], key=lambda found: (order[found.state], found.seen, -(found.now - found.limit)))  # fmt: skip
    return Drift(findings=tuple(findings), reference=used, buckets=len(buckets), threshold=threshold, false_alarms=false_alarms)  # fmt: skip


# The rates


def _streams(traffic: Traffic, buckets: Sequence[Bucket], used: int) -> Iterable[Stream]:
    requests = [bucket_requests(bucket) for bucket in buckets]
    for key in traffic.totals("prompt"):
        prompt = key[1]
        own = _of(buckets, ("prompt", prompt, ""))
        totals = tuple(tally.requests for tally in own)
        yield from _decided("prompt", prompt, "", own)
        yield from _beside(prompt, own)
        yield from _sized(prompt, buckets, used)
        yield from _judged_versions(traffic, buckets, prompt, own)
        for dimension in ("category", "language"):
            for _, _, value in (found for found in traffic.totals(dimension) if found[1] == prompt):
                tallies = _of(buckets, (dimension, prompt, value))
                hits = tuple(tally.requests for tally in tallies)
                if hits != totals:
                    yield from _decided(dimension, prompt, value, tallies)
                    yield Stream(metric="share", dimension=dimension, prompt=prompt, value=value, hits=hits, totals=totals)  # fmt: skip
                    rest = tuple(total - hit for total, hit in zip(totals, hits, strict=True))
                    yield Stream(metric="share", dimension=dimension, prompt=prompt, value=value, hits=rest, totals=totals, falls=True)  # fmt: skip
    yield from _languages(traffic, buckets)
    tenants = traffic.totals("tenant")
    for key in tenants if len(tenants) > 1 else ():
        hits = tuple(tally.requests for tally in _of(buckets, key))
        yield Stream(metric="share", dimension="tenant", prompt="", value=key[2], hits=hits, totals=tuple(requests))


def _languages(traffic: Traffic, buckets: Sequence[Bucket]) -> Iterable[Stream]:
    """Quality of a language over all prompts: few answers are judged, and a model that forgets a language forgets it everywhere."""
    prompts: dict[str, list[str]] = {}
    for _, prompt, value in traffic.totals("language"):
        prompts.setdefault(value, []).append(prompt)
    for value, names in prompts.items():
        if value and len(names) > 1:
            every = [_of(buckets, ("language", name, value)) for name in names]
            for metric, hit, total in (("bad", "bad", "scored"), ("judged", "failing", "judged")):
                totals = tuple(sum(getattr(tally, total) for tally in row) for row in zip(*every, strict=True))
                if any(totals):
                    hits = tuple(sum(getattr(tally, hit) for tally in row) for row in zip(*every, strict=True))
                    yield Stream(metric=metric, dimension="language", prompt="", value=value, hits=hits, totals=totals)  # type: ignore[arg-type]


def bucket_requests(bucket: Bucket) -> int:
    return sum(tally.requests for key, tally in bucket.tallies.items() if key[0] == "prompt")


_NONE = Tally()


def _of(buckets: Sequence[Bucket], key: tuple[Dimension, str, str]) -> list[Tally]:
    return [bucket.tallies.get(key, _NONE) for bucket in buckets]


def _decided(dimension: Dimension, prompt: str, value: str, tallies: Sequence[Tally]) -> Iterable[Stream]:
    totals = tuple(tally.requests for tally in tallies)
    named: tuple[tuple[Metric, tuple[int, ...]], ...] = (
        ("errors", tuple(tally.errors for tally in tallies)), ("fallbacks", tuple(tally.fallbacks for tally in tallies)),
        ("rejected", tuple(tally.rejected for tally in tallies)), ("refused", tuple(tally.refused for tally in tallies)),
    )  # fmt: skip
    for metric, hits in named:
        yield Stream(metric=metric, dimension=dimension, prompt=prompt, value=value, hits=hits, totals=totals)
    if any(tally.scored for tally in tallies):
        yield Stream(metric="bad", dimension=dimension, prompt=prompt, value=value, hits=tuple(tally.bad for tally in tallies),
                     totals=tuple(tally.scored for tally in tallies))  # fmt: skip
    if any(tally.judged for tally in tallies):
        yield Stream(metric="judged", dimension=dimension, prompt=prompt, value=value, hits=tuple(tally.failing for tally in tallies),
                     totals=tuple(tally.judged for tally in tallies))  # fmt: skip


def _beside(prompt: str, tallies: Sequence[Tally]) -> Iterable[Stream]:
    """What the router and the semantic cache did: shares of a whole prompt."""
    if any(tally.audited for tally in tallies):
        yield Stream(metric="false hits", dimension="prompt", prompt=prompt, value="", hits=tuple(tally.false_hits for tally in tallies),
                     totals=tuple(tally.audited for tally in tallies))  # fmt: skip
    totals, small = tuple(tally.routed for tally in tallies), tuple(tally.small for tally in tallies)
    if any(totals):
        large = tuple(total - hit for total, hit in zip(totals, small, strict=True))
        yield Stream(metric="small", dimension="prompt", prompt=prompt, value="", hits=small, totals=totals)
        yield Stream(metric="small", dimension="prompt", prompt=prompt, value="", hits=large, totals=totals, falls=True)


def _judged_versions(
    traffic: Traffic, buckets: Sequence[Bucket], prompt: str, own: Sequence[Tally]
) -> Iterable[Stream]:
    """The judge's verdicts of each version that is not all there is."""
    whole = tuple(tally.judged for tally in own)
    for key in traffic.totals("version") if any(whole) else ():
        tallies = _of(buckets, key)
        totals = tuple(tally.judged for tally in tallies)
        if key[1] == prompt and any(totals) and totals != whole:
            yield Stream(metric="judged", dimension="version", prompt=prompt, value=key[2], hits=tuple(tally.failing for tally in tallies), totals=totals)  # fmt: skip


def _sized(prompt: str, buckets: Sequence[Bucket], used: int) -> Iterable[Stream]:
    """Shares beyond a quantile of the reference: for the mean of a rate no spread of latencies or costs needs to be known."""
    measures = [_measures(bucket, prompt) for bucket in buckets]
    sizes: tuple[tuple[Metric, list[Histogram], float], ...] = (
        ("slow", [found.latency_ms for found in measures], 0.95), ("costly", [found.cost_nanousd for found in measures], 0.90),
        ("long questions", [found.input_chars for found in measures], 0.90), ("long answers", [found.output_chars for found in measures], 0.90),
    )  # fmt: skip
    for metric, histograms, share in sizes:
        before = Histogram()
        for histogram in histograms[:used]:
            before.add(histogram)
        step = step_at(before, share)
        if step is not None:
            yield Stream(metric=metric, dimension="prompt", prompt=prompt, value="", hits=tuple(found.above(step) for found in histograms),
                         totals=tuple(sum(found.values()) for found in histograms))  # fmt: skip


def _measures(bucket: Bucket, prompt: str) -> Measures:
    total = Measures()
    for (found, _), measures in bucket.measures.items():
        if found == prompt:
            total.add(measures)
    return total


def step_at(histogram: Histogram, share: float) -> int | None:
    """The step that this share of the values does not pass; None when there are no values."""
    left = share * sum(histogram.values())
    for step in sorted(histogram):
        left -= histogram[step]
        if left <= 0:
            return step
    return None


# The test


def _limit(stream: Stream, used: int) -> float | None:
    """The highest mean that is still no news; None when the reference says too little."""
    hits, totals = np.array(stream.hits[:used], float), np.array(stream.totals[:used], float)
    n = totals.sum()
    if n < _LEAST:
        return None
    seen = totals > 0
    rate = hits.sum() / n
    smooth = (hits.sum() + 1) / (n + 2)
    noise = smooth * (1 - smooth)
    spread = float((totals[seen] * (hits[seen] / totals[seen] - rate) ** 2).sum() / n)
    between = max(0.0, spread - noise * seen.sum() / n)
    error = sqrt(noise / n + between / max(1, seen.sum()))
    tolerance = TOLERANCE[stream.metric]
    if stream.falls and stream.metric == "share":  # it must fall by half, or by the tolerance if that is more
        tolerance = max(tolerance, (1 - rate) / 2)
    elif stream.metric == "share":
        tolerance = max(tolerance, rate / 4)
    return float(rate + 3 * error + 2 * sqrt(between) + tolerance)


@dataclass(frozen=True, slots=True)
class _Alarm:
    seen: int
    since: int


def _alarms(judged: Sequence[tuple[Stream, float]], used: int, needed: float) -> list[_Alarm | None]:
    """The first bucket after the reference in which the evidence for each rate passes, and when it began to grow."""
    if not judged:
        return []
    hits = np.array([stream.hits for stream, _ in judged], float)
    misses = np.array([stream.totals for stream, _ in judged], float) - hits
    limits = np.array([limit for _, limit in judged])[:, None]
    odds = _ODDS * limits / (1 - limits)
    shifted = odds / (1 + odds)
    for_hit, for_miss = np.log(shifted / limits), np.log((1 - shifted) / (1 - limits))
    evidence = np.zeros((len(judged), len(_ODDS)))
    began = np.full(evidence.shape, used)
    found: list[_Alarm | None] = [None] * len(judged)
    for place in range(used, hits.shape[1]):
        began = np.where(evidence <= 0, place, began)
        evidence = np.maximum(evidence, 0) + hits[:, place, None] * for_hit + misses[:, place, None] * for_miss
        top = evidence.max(axis=1)
        total = top + np.log(np.exp(evidence - top[:, None]).mean(axis=1))
        for row in np.flatnonzero(total >= needed):
            if found[row] is None:
                found[row] = _Alarm(place, int(began[row, int(evidence[row].argmax())]))
    return found


def _finding(stream: Stream, limit: float, alarm: _Alarm | None, times: Sequence[str], used: int) -> Finding:
    recent = slice(max(used, len(times) - _RECENT), None)
    hits, n = sum(stream.hits[recent]), sum(stream.totals[recent])
    now = hits / n if n else 0.0
    state: State = "steady" if alarm is None else "alert" if now > limit or not n else "recovered"
    return _make(stream, used, limit=limit, now=now, now_n=n, state=state, since=times[alarm.since] if alarm else "",
                 seen=times[alarm.seen] if alarm else "", times=times if alarm else ())  # fmt: skip


def _too_few(stream: Stream, used: int) -> Finding:
    n = sum(stream.totals[used:])
    return _make(stream, used, limit=1.0, now=sum(stream.hits[used:]) / n if n else 0.0, now_n=n, state="too few", since="", seen="", times=())  # fmt: skip


def _make(
    stream: Stream, used: int, *, limit: float, now: float, now_n: int, state: State, since: str, seen: str, times: Sequence[str]
) -> Finding:  # fmt: skip
    """A share that falls was judged by what is left of it; it is told as people say it."""
    n = sum(stream.totals[:used])
    before = sum(stream.hits[:used]) / n if n else 0.0
    hits = stream.hits
    if stream.falls:
        before, now, limit = 1 - before, 1 - now, 1 - limit
        hits = tuple(total - hit for total, hit in zip(stream.totals, stream.hits, strict=True))
    return Finding(
        metric=stream.metric, dimension=stream.dimension, prompt=stream.prompt, value=stream.value, falls=stream.falls, state=state,
        before=before, before_n=n, limit=limit, now=now, now_n=now_n, since=since, seen=seen,
        series=tuple(zip(times, hits, stream.totals, strict=True)) if times else (),
    )  # fmt: skip


# Intervals that hold at every look


def always_valid_interval(hits: int, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """An interval for a rate that holds at all sample sizes at once with 1 - alpha, both ends in [0, 1].

    All rates whose likelihood is not below alpha times the mean likelihood under Beta(1/2, 1/2).
    Source: Robbins 1970, Ann. Math. Stat. 41:1397-1409 (mixture martingales and Ville's inequality).
    """
    from scipy.special import betaln

    if n == 0:
        return 0.0, 1.0
    floor = float(betaln(hits + 0.5, n - hits + 0.5) - betaln(0.5, 0.5)) + log(alpha)

    def inside(rate: float) -> bool:
        likelihood = (hits * log(rate) if hits else 0.0) + ((n - hits) * log(1 - rate) if n > hits else 0.0)
        return likelihood >= floor

    middle = min(1 - 1e-12, max(1e-12, hits / n))
    low = 0.0 if hits == 0 else _edge(inside, middle, 1e-15)
    high = 1.0 if hits == n else _edge(inside, middle, 1 - 1e-15)
    return low, high


def _edge(inside: Callable[[float], bool], within: float, outside: float) -> float:
    for _ in range(60):
        middle = (within + outside) / 2
        within, outside = (middle, outside) if inside(middle) else (within, middle)
    return outside
