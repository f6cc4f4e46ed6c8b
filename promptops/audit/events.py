"""The events of services, read as a stream into counts per hour and per prompt, version, category, language, tenant and feature."""

import calendar
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any, Literal

import orjson

from promptops.core.errors import DataError
from promptops.core.outcome import OF_THE_MODEL

Every = Literal["hour", "minute"]
Dimension = Literal["prompt", "version", "category", "language", "tenant", "feature"]
Key = tuple[Dimension, str, str]
"""What a tally counts: a dimension, the prompt ('' for tenants and features, which are counted over all prompts), and the value."""

MOST_VALUES = 2000
OTHER = "other"
_WHOLE = frozenset(("model", "cache", "semantic"))
_CALLS_THAT_GO_ON = frozenset(("ok", "retry", "hedge")) | OF_THE_MODEL
_STAMP = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3])(?::[0-5]\d)?")
_STEPS_A_FACTOR = 20.0
_REMEMBERED = 400_000
_MAX_LINE = 2**20
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
    """Feedback for replies that are not in the file, or too long ago."""


@dataclass(slots=True)
class Traffic:
    """All that was read: buckets in order of time, and counts over all of them."""

    every: Every
    buckets: dict[str, Bucket] = field(default_factory=dict)
    stages: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Count and milliseconds by stage and decision."""
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
            elif kind == "dropped":
                self.traffic.losses.dropped += max(0, int(event["count"]))
            else:
                self.traffic.losses.unknown += 1
                return
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.traffic.losses.unknown += 1
            return
        self.traffic.events += 1

    def _reply(self, event: dict[str, Any]) -> None:
        prompt, version, source = event["prompt"], event["version"], event["source"]
        latency, cost, calls, steps = event["latency_ms"], event["cost_nanousd"], event["calls"], event["steps"]
        combo = (prompt, version, event["category"], event.get("language", ""), event["tenant"], event["feature"])
        if not (0 <= latency < 1e12 and 0 <= cost < 10**18 and 0 <= calls < 10**6):
            raise ValueError("a count is out of range")
        failed, rejected, refused = self._decisions(steps)
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
        measures = self._bucket.measures.get((prompt, version))
        if measures is None:
            measures = self._bucket.measures[prompt, version] = Measures()
        self._measure(measures.latency_ms, latency)
        self._measure(measures.cost_nanousd, cost)
        self._measure(measures.input_chars, event.get("input_chars", 0))
        self._measure(measures.output_chars, event.get("output_chars", 0))
        self._remember(event["id"], combo)

    def _decisions(self, steps: list[dict[str, Any]]) -> tuple[bool, bool, bool]:
        failed = rejected = refused = False
        before, stages = 0.0, self.traffic.stages
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
                if decision in OF_THE_MODEL:
                    refused = True
                elif decision not in _CALLS_THAT_GO_ON:
                    failed = True
            elif stage == "guardrails" and decision == "rejected":
                rejected = True
        return failed, rejected, refused

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

    def _tallies(self, combo: tuple[Any, ...]) -> tuple[Tally, ...]:
        prompt, version, category, language, tenant, feature = (_word(value) for value in combo)
        keys: tuple[Key, ...] = (
            ("prompt", prompt, ""), ("version", prompt, version), ("category", prompt, category),
            ("language", prompt, language), ("tenant", "", tenant), ("feature", "", feature),
        )  # fmt: skip
        return tuple(self._bucket.tallies.setdefault(self._bounded(key), Tally()) for key in keys)

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
            found[0] += 1
            found[1] += event == "semantic_audit_wrong"

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


class EventLines:
    """The lines of an events file and its rotated forerunners, oldest first; can be asked again for what came since."""

    def __init__(self, path: Path) -> None:
        """Raises DataError when there is no file."""
        self._path = path
        if not path.is_file():
            raise DataError("no events file", where=str(path), hint="services write one with EventsFile(path) or `promptops serve --events FILE`")  # fmt: skip
        self._file: Any = None
        self._rest = b""
        self._started = False

    def __iter__(self) -> Iterator[bytes]:
        """Whole lines that are there now. A last line without its end waits for the next round."""
        if not self._started:
            self._started = True
            for older in self._older():
                with older.open("rb") as file:
                    yield from file
        while True:
            if self._file is None:
                try:
                    self._file = self._path.open("rb")
                except FileNotFoundError:  # between two steps of a rotation
                    return
            yield from self._whole_lines()
            if not self._rotated():
                return
            yield from self._whole_lines()
            if self._rest:
                yield self._rest
            self._rest = b""
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remainder(self) -> bytes:
        """A last line that has no end; reading it once means to give it up."""
        rest, self._rest = self._rest, b""
        return rest

    def _whole_lines(self) -> Iterator[bytes]:
        while line := self._file.readline(_MAX_LINE):
            whole = self._rest + line
            if not line.endswith(b"\n") and len(whole) < _MAX_LINE:
                self._rest = whole
                return
            self._rest = b""
            yield whole

    def _rotated(self) -> bool:
        ours = os.fstat(self._file.fileno())
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return True
        if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
            return True
        if named.st_size < self._file.tell():  # emptied in place
            self._file.seek(0)
        return False

    def _older(self) -> list[Path]:
        found = [path for path in self._path.parent.glob(f"{self._path.name}.*") if path.suffix[1:].isdigit()]
        return sorted(found, key=lambda path: -int(path.suffix[1:]))


def read_traffic(path: Path, *, every: Every = "hour", now: Callable[[], float] = time.time) -> Traffic:
    """All events of a file and its rotated forerunners. Raises DataError when there are none."""
    reader = EventReader(every=every, now=now)
    with closing(EventLines(path)) as lines:
        for line in lines:
            reader.add(line)
        if rest := lines.remainder():
            reader.add(rest)
    return checked(reader.traffic, path)


def checked(traffic: Traffic, path: Path) -> Traffic:
    """Raises DataError when there is nothing to judge: no requests is not a healthy service."""
    if not traffic.buckets:
        losses = traffic.losses
        why = (
            f"{losses.torn} lines are torn and {losses.unknown} are of unknown form"
            if losses.torn or losses.unknown
            else "the file is empty"
        )
        raise DataError("no requests to look at", where=str(path), why=why, hint="check that the services write there, and their version of promptops")  # fmt: skip
    return traffic
