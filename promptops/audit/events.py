"""The events of services, read as a stream into counts per hour and per prompt, version, category, language, tenant and feature."""

import calendar
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp, log
from typing import Any, Literal

import orjson

from promptops.core.outcome import OF_THE_MODEL

Every = Literal["hour", "minute"]
Dimension = Literal["prompt", "version", "category", "language", "tenant", "feature"]
Key = tuple[Dimension, str, str]
"""What a tally counts: a dimension, the prompt ('' for tenants and features, which are counted over all prompts), and the value."""

COSTS = ("model", "retry", "hedge", "escalation", "repair", "judge", "shadow", "audit", "not told")
"""What money went to: first calls, calls after a failure, second calls beside a slow one, the large model after the small one, a second try for the
right form, sampled verdicts, shadow models, semantic hits answered again; and what an older runtime did not tell by step."""
MOST_VALUES = 2000
OTHER = "other"
_WHOLE = frozenset(("model", "cache", "semantic"))
_CALLS_THAT_GO_ON = frozenset(("ok", "retry", "hedge")) | OF_THE_MODEL
_STAMP = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3])(?::[0-5]\d)?")
_ANOTHER_CALL = frozenset(("retry", "hedge"))
_ROUTES = frozenset(("small", "large"))
_NO_ROUTER = "no router in the bundle"
_PRICE = re.compile(r"\b(\d{1,17}) nano-dollars$")
_STEPS_A_FACTOR = 20.0
_REMEMBERED = 400_000
_CORRECTED = 100
"""After so many events in a row from before a jump, it is the earlier clock that was wrong."""


@dataclass(slots=True)
class Tally:
    """Counts of one value in one bucket of time."""

    requests: int = 0
    errors: int = 0
    """Requests in which a model call failed, whether or not something else answered."""
    fallbacks: int = 0
    """Requests whose answer stands in for a whole one."""
    rejected: int = 0
    """Requests in which guardrails refused an answer of a model (wrong form, schema, citations)."""
    refused: int = 0
    """Requests in which a model refused or was cut off."""
    cached: int = 0
    semantic: int = 0
    calls: int = 0
    cost_nanousd: int = 0
    scored: int = 0
    bad: int = 0
    judged: int = 0
    """Replies of a random sample that a judge scored (`promptops monitor sample`)."""
    failing: int = 0
    score: float = 0.0
    """The sum of their scores in 0..1."""
    routed: int = 0
    """Requests for which the router chose a model."""
    small: int = 0
    audited: int = 0
    """Semantic hits that were answered again; counted for prompts alone."""
    false_hits: int = 0

    def add(self, other: "Tally") -> None:
        for name in _FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_FIELDS = tuple(Tally.__slots__)


class Histogram(dict[int, int]):
    """Counts of positive values in steps of 5 %: quantiles are right to 2.5 %."""

    def quantile(self, share: float) -> float:
        """0 when there are no values."""
        left = share * sum(self.values())
        for step in sorted(self):
            left -= self[step]
            if left <= 0:
                return upper(step)
        return 0.0

    def above(self, step: int) -> int:
        return sum(count for found, count in self.items() if found > step)

    def add(self, other: "Histogram") -> None:
        for step, count in other.items():
            self[step] = self.get(step, 0) + count


def upper(step: int) -> float:
    """The middle of a step."""
    return 0.0 if step == _ZERO else exp((step + 0.5) / _STEPS_A_FACTOR)


_ZERO = -10_000


@dataclass(slots=True)
class Measures:
    """How long, how costly and how large the requests of one version were in one bucket."""

    latency_ms: Histogram = field(default_factory=Histogram)
    cost_nanousd: Histogram = field(default_factory=Histogram)
    input_chars: Histogram = field(default_factory=Histogram)
    output_chars: Histogram = field(default_factory=Histogram)

    def add(self, other: "Measures") -> None:
        for name in ("latency_ms", "cost_nanousd", "input_chars", "output_chars"):
            getattr(self, name).add(getattr(other, name))


@dataclass(slots=True)
class Bucket:
    """An hour (or minute) of traffic."""

    at: str
    tallies: dict[Key, Tally] = field(default_factory=dict)
    measures: dict[tuple[str, str], Measures] = field(default_factory=dict)


@dataclass(slots=True)
class Losses:
    """What could not be counted, so that no gap is silent."""

    torn: int = 0
    """Lines that are not whole events: a crash, a full disk, another program."""
    unknown: int = 0
    """Whole events of a kind or form that this version does not know."""
    dropped: int = 0
    """Events that services say they dropped."""
    clock: int = 0
    """Events whose clock jumped; they are counted in the hour of their neighbours in the file."""
    unmatched: int = 0
    """Feedback and verdicts for replies that are not there, or too long ago."""
    gone: int = 0
    """Events that were removed from a stream before they were read."""


@dataclass(slots=True)
class Traffic:
    """All that was read: buckets in order of time, and counts over all of them."""

    every: Every
    buckets: dict[str, Bucket] = field(default_factory=dict)
    stages: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Count and milliseconds by stage and decision."""
    costs: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Count and nano-dollars by prompt and what was paid for: COSTS."""
    judges: dict[str, int] = field(default_factory=dict)
    """Verdicts by the digest of the judge that gave them."""
    notices: dict[str, int] = field(default_factory=dict)
    audited: dict[str, list[int]] = field(default_factory=dict)
    """Audited semantic hits by prompt, and the wrong ones among them."""
    losses: Losses = field(default_factory=Losses)
    events: int = 0

    def ordered(self) -> list[Bucket]:
        return [self.buckets[at] for at in sorted(self.buckets)]

    def totals(self, dimension: Dimension) -> dict[Key, Tally]:
        """Over all buckets, the most requests first."""
        found: dict[Key, Tally] = {}
        for bucket in self.buckets.values():
            for key, tally in bucket.tallies.items():
                if key[0] == dimension:
                    found.setdefault(key, Tally()).add(tally)
        return dict(sorted(found.items(), key=lambda item: (-item[1].requests, item[0])))

    def measured(self, prompt: str = "", version: str = "") -> Measures:
        """Over all buckets; '' stands for every prompt or version."""
        total = Measures()
        for bucket in self.buckets.values():
            for (found, its_version), measures in bucket.measures.items():
                if prompt in {"", found} and version in {"", its_version}:
                    total.add(measures)
        return total


class EventReader:
    """Counts events as they come; memory grows with hours and values, not with events."""

    def __init__(self, *, every: Every = "hour", now: Callable[[], float] = time.time) -> None:
        self.traffic = Traffic(every=every)
        self._width = 13 if every == "hour" else 16
        self._now = now
        self._stamp, self._bucket, self._newest, self._back = "", Bucket(at=""), "", 0
        self._combos: dict[tuple[Any, ...], tuple[Tally, ...]] = {}
        self._values: dict[tuple[str, str], set[str]] = {}
        self._ids: dict[str, tuple[Any, ...]] = {}
        self._order: deque[str] = deque()
        self._steps: dict[float, int] = {}

    def add(self, line: bytes) -> None:
        """Count one line of an events file."""
        try:
            event = orjson.loads(line)
        except ValueError:
            self.traffic.losses.torn += 1
            return
        try:
            kind = event["kind"]
            if kind == "reply":
                self._reply(event)
            elif kind == "notice":
                self._notice(str(event["event"])[:100], str(event["reason"]))
            elif kind == "judged":
                self._judged(event)
            elif kind == "dropped":
                self.traffic.losses.dropped += max(0, int(event["count"]))
            else:
                self.traffic.losses.unknown += 1
                return
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.traffic.losses.unknown += 1
            return
        self.traffic.events += 1

    def _reply(self, event: dict[str, Any]) -> None:  # noqa: C901, PLR0912 - straight on, as a call for each part would cost a tenth of the reading
        prompt, version, source = event["prompt"], event["version"], event["source"]
        latency, cost, calls, steps = event["latency_ms"], event["cost_nanousd"], event["calls"], event["steps"]
        combo = (prompt, version, event["category"], event.get("language", ""), event["tenant"], event["feature"])
        if not (0 <= latency < 1e12 and 0 <= cost < 10**18 and 0 <= calls < 10**6):
            raise ValueError("a count is out of range")
        failed, rejected, refused, routed = self._decisions(prompt, steps, cost)
        stamp = event["at"][: self._width]
        if stamp != self._stamp:
            self._turn(stamp)
        tallies = self._combos.get(combo)
        if tallies is None:
            tallies = self._combos[combo] = self._tallies(combo)
        stands_in, cached, semantic = (
            source not in _WHOLE or event["degraded"] != "",
            source == "cache",
            source == "semantic",
        )
        for tally in tallies:
            tally.requests += 1
            tally.calls += calls
            tally.cost_nanousd += cost
            if failed:
                tally.errors += 1
            if stands_in:
                tally.fallbacks += 1
            if rejected:
                tally.rejected += 1
            if refused:
                tally.refused += 1
            if cached:
                tally.cached += 1
            if semantic:
                tally.semantic += 1
            if routed:
                tally.routed += 1
                if routed == "small":
                    tally.small += 1
        measures = self._bucket.measures.get((prompt, version))
        if measures is None:
            measures = self._bucket.measures[prompt, version] = Measures()
        self._measure(measures.latency_ms, latency)
        self._measure(measures.cost_nanousd, cost)
        self._measure(measures.input_chars, event.get("input_chars", 0))
        self._measure(measures.output_chars, event.get("output_chars", 0))
        self._remember(event["id"], combo)

    def _decisions(self, prompt: str, steps: list[dict[str, Any]], cost: int) -> tuple[bool, bool, bool, str]:  # noqa: C901, PLR0912 - as above
        """(a call failed, guardrails rejected, a model refused, what the router chose); what was paid for goes into the costs."""
        failed = rejected = refused = False
        before, stages, routed, asked, kind = 0.0, self.traffic.stages, "", False, "model"
        for step in steps:
            stage, decision, at = step["stage"], step["decision"], step["at_ms"]
            found = stages.get((stage, decision))
            if found is None:
                if len(stages) >= MOST_VALUES:
                    stage, decision = OTHER, OTHER
                found = stages.setdefault((stage, decision), [0, 0.0])
            found[0] += 1
            if at > before:
                found[1] += at - before
                before = at
            if stage == "model":
                asked = True
                if decision in OF_THE_MODEL:
                    refused = True
                elif decision not in _CALLS_THAT_GO_ON:
                    failed = True
                spent = step.get("cost_nanousd")
                if spent:
                    cost -= self._spent(prompt, kind, spent)
                if decision in _ANOTHER_CALL:
                    kind = decision
            elif stage == "guardrails":
                if decision == "rejected":
                    rejected = True
                elif decision == "repair":
                    kind = "repair"
            elif stage == "route":
                if asked:
                    kind = "escalation"
                elif decision in _ROUTES and step["reason"] != _NO_ROUTER:
                    routed = decision
        if cost > 0:
            self._spent(prompt, "not told", cost)
        return failed, rejected, refused, routed

    def _spent(self, prompt: str, kind: str, cost: int) -> int:
        if not 0 <= cost < 10**18:
            raise ValueError("a cost is out of range")
        costs = self.traffic.costs
        found = costs.get((prompt, kind))
        if found is None:
            if len(costs) >= MOST_VALUES:
                prompt = OTHER
            found = costs.setdefault((_word(prompt), kind), [0, 0])
        found[0] += 1
        found[1] += cost
        return cost

    def _measure(self, histogram: Histogram, value: float) -> None:
        step = self._steps.get(value)
        if step is None:
            if len(self._steps) > 100_000:
                self._steps.clear()
            step = self._steps[value] = round(log(value) * _STEPS_A_FACTOR - 0.5) if value > 0 else _ZERO
        histogram[step] = histogram.get(step, 0) + 1

    def _turn(self, stamp: str) -> None:
        """Go to the bucket of a time stamp, or stay when the clock of the event cannot be right.

        Writers append, so that the file's order is the truth: a step back of more than an hour, or a time after now, is a jump.
        """
        if not _STAMP.fullmatch(stamp):
            raise ValueError("not a time")
        future = stamp > self._latest()
        if future or (self._newest and stamp < _earlier(self._newest)):
            self.traffic.losses.clock += 1
            self._back += not future
            if self._back < _CORRECTED or future:
                if not self._bucket.at:
                    raise ValueError("the first event comes from the future")
                return
            self._newest = stamp
        self._back = 0
        self._stamp = stamp
        self._newest = max(self._newest, stamp)
        bucket = self.traffic.buckets.get(stamp)
        if bucket is None:
            bucket = self.traffic.buckets[stamp] = Bucket(at=stamp)
        self._bucket = bucket
        self._combos.clear()

    def _latest(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(self._now() + 3600))[: self._width]

    def _tallies(self, combo: tuple[Any, ...], bucket: Bucket | None = None) -> tuple[Tally, ...]:
        prompt, version, category, language, tenant, feature = (_word(value) for value in combo)
        keys: tuple[Key, ...] = (
            ("prompt", prompt, ""), ("version", prompt, version), ("category", prompt, category),
            ("language", prompt, language), ("tenant", "", tenant), ("feature", "", feature),
        )  # fmt: skip
        into = (bucket or self._bucket).tallies
        return tuple(into.setdefault(self._bounded(key), Tally()) for key in keys)

    def _bounded(self, key: Key) -> Key:
        seen = self._values.setdefault(key[:2], set())
        if key[2] not in seen:
            if len(seen) >= MOST_VALUES:
                return (key[0], key[1], OTHER)
            seen.add(key[2])
        return key

    def _remember(self, request_id: str, combo: tuple[Any, ...]) -> None:
        if request_id not in self._ids:
            self._order.append(request_id)
            if len(self._order) > _REMEMBERED:
                self._ids.pop(self._order.popleft(), None)
        self._ids[request_id] = combo

    def _notice(self, event: str, reason: str) -> None:
        traffic = self.traffic
        name = event if event in traffic.notices or len(traffic.notices) < MOST_VALUES else OTHER
        traffic.notices[name] = traffic.notices.get(name, 0) + 1
        if event in {"feedback_good", "feedback_bad"}:
            self._feedback(reason.partition(" ")[0], bad=event == "feedback_bad")
        elif event in {"semantic_audit_right", "semantic_audit_wrong"}:
            found = traffic.audited.setdefault(reason.partition(":")[0][:100], [0, 0])
            wrong = event == "semantic_audit_wrong"
            found[0] += 1
            found[1] += wrong
            prompt = reason.partition(":")[0][:100]
            if self._bucket.at:
                tally = self._bucket.tallies.setdefault(self._bounded(("prompt", prompt, "")), Tally())
                tally.audited += 1
                tally.false_hits += wrong
            self._price(prompt, "audit", reason)
        elif event == "shadow":
            self._price("", "shadow", reason)

    def _price(self, prompt: str, kind: str, reason: str) -> None:
        if price := _PRICE.search(reason):
            self._spent(prompt, kind, int(price[1]))

    def _judged(self, event: dict[str, Any]) -> None:
        """Counted in the bucket of its reply: it says how good that was, whenever it was judged."""
        combo = tuple(event[name] for name in ("prompt", "version", "category", "language", "tenant", "feature"))
        passed, value, cost, judge = event["passed"], event["value"], event["cost_nanousd"], _word(event["judge"])
        if (passed is not True and passed is not False) or not 0 <= value <= 1:
            raise ValueError("not a verdict")
        bucket = self.traffic.buckets.get(event["replied_at"][: self._width])
        if bucket is None:
            self.traffic.losses.unmatched += 1
            return
        for tally in self._tallies(combo, bucket):
            tally.judged += 1
            tally.failing += not passed
            tally.score += value
        judges = self.traffic.judges
        name = judge if judge in judges or len(judges) < MOST_VALUES else OTHER
        judges[name] = judges.get(name, 0) + 1
        self._spent(combo[0], "judge", cost)

    def _feedback(self, request_id: str, *, bad: bool) -> None:
        """Counted in the bucket in which it came: a judgement that comes late is news of today."""
        combo = self._ids.get(request_id)
        if combo is None:
            self.traffic.losses.unmatched += 1
            return
        for tally in self._tallies(combo):
            tally.scored += 1
            tally.bad += bad


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a name is not a text")
    return value[:100]


def _earlier(stamp: str) -> str:
    """One hour before a stamp, in the same form."""
    layout = "%Y-%m-%dT%H:%M"[: 11 if len(stamp) == 13 else 14]
    seconds = calendar.timegm(time.strptime(stamp, layout)) - 3600
    return time.strftime(layout, time.gmtime(seconds))
