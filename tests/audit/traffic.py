"""Events of made-up services, and what monitoring makes of them."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from promptops.audit.events import EventReader, Traffic

NOW = 1_793_836_800.0  # 2026-11-05T00:00:00Z


def reply(at: str, number: int = 0, **changes: Any) -> dict[str, Any]:
    """A reply as EventsFile writes it."""
    return {
        "at": at, "kind": "reply", "id": f"r{number}", "prompt": "triage", "version": "v1.0.0", "tenant": "t1", "feature": "inbox", "category": "billing",
        "source": "model", "degraded": "", "model": "small", "calls": 1, "cost_nanousd": 1000, "latency_ms": 100.0, "input_tokens": 9, "output_tokens": 3,
        "citations": 0, "queued_id": "", "language": "en", "input_chars": 40, "output_chars": 12,
        "steps": [{"stage": "cache", "decision": "miss", "reason": "", "at_ms": 1.0}, {"stage": "model", "decision": "ok", "reason": "", "at_ms": 99.0}],
    } | changes  # fmt: skip


def notice(at: str, event: str, reason: str) -> dict[str, Any]:
    return {"at": at, "kind": "notice", "event": event, "reason": reason}


def verdict(event: dict[str, Any], *, failing: bool) -> dict[str, Any]:
    """What `promptops monitor sample` writes of a reply."""
    kept = {name: event[name] for name in ("id", "prompt", "version", "category", "language", "tenant", "feature")}
    return {"at": event["at"], "kind": "judged", "replied_at": event["at"]} | kept | {"passed": not failing, "value": 0.2 if failing else 0.9, "judge": "sha256:a", "cost_nanousd": 5}  # fmt: skip


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode() + b"\n"


def stamp(hour: int, second: int = 0) -> str:
    return f"2026-11-{1 + hour // 24:02d}T{hour % 24:02d}:{second // 60:02d}:{second % 60:02d}.000Z"


def hours(
    many: int, a_hour: int, change: Callable[[int, random.Random], dict[str, Any]], seed: int = 7
) -> Iterator[dict[str, Any]]:
    """Requests of many hours; `change` says what is not as usual in one, and may name `bad` (feedback), `failing` (a verdict), `wrong` (an audit)."""
    rng = random.Random(seed)
    for number in range(many * a_hour):
        hour, place = divmod(number, a_hour)
        changes = dict(change(hour, rng))
        bad, failing, wrong = (changes.pop(name, None) for name in ("bad", "failing", "wrong"))
        at = stamp(hour, place * 3600 // a_hour)
        event = reply(at, number, **changes)
        yield event
        if failing is not None:
            yield verdict(event, failing=failing)
        if wrong is not None:
            yield notice(
                at, f"semantic_audit_{'wrong' if wrong else 'right'}", "triage: some were wrong, 0 nano-dollars"
            )
        if bad is not None:
            yield notice(at, "feedback_bad" if bad else "feedback_good", f"r{number} thumbs")


def read(events: Iterator[dict[str, Any]] | list[dict[str, Any]], now: float = NOW) -> Traffic:
    reader = EventReader(now=lambda: now)
    for event in events:
        reader.add(line(event))
    return reader.traffic
