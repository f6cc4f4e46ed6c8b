"""Does a bundle keep the stated policy for personal data: what it keeps for how long, what events hold, and whether a customer can be erased."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from promptops.audit.checklist import PersonalData, Todo
from promptops.audit.simulate import Seen, leftovers
from promptops.audit.sources import open_source
from promptops.core.errors import PromptopsError
from promptops.core.personal import Masked
from promptops.core.serving import Settings
from promptops.core.suite import Case
from promptops.runtime.telemetry.outbox import DAY_S, iso
from promptops.runtime.telemetry.rewriting import stamp_of

_LOOKED_AT = 10_000


def look_at_personal_data(
    policy: PersonalData, settings: Settings, *, name: str, bundle: Path, case: Case, events: str, now: datetime
) -> Seen:
    """The policy against settings, against the events that services wrote, and against an erasure that is really done."""
    window_s = policy.retention_days * DAY_S
    kept_s = max(settings.cache.ttl_s, settings.cache.stale_s)
    if kept_s > window_s:
        return Seen(passed=False, what=f"cached answers are kept {kept_s / DAY_S:g} days, and the policy says {policy.retention_days}", todo=Todo(
            words=f"lower `ttl_s` and `stale_s` of `cache:` below `runtime:` in golden/{name}.yaml, or raise `retention_days`",
            run=(f"git add golden/{name}.yaml prompts/{name}/readiness.yaml && git commit -m 'Evidence for {name}'",)))  # fmt: skip
    wrong = _wrong_events(policy, name, events, before=iso(now.timestamp() - window_s - DAY_S))
    if wrong is not None:
        return wrong
    answer = dict(case.expected) or {"text": "fine"}
    seen = leftovers(bundle, name, case.inputs, answer, texts=policy.events == "masked")
    told = f"inputs: {policy.inputs}; {policy.retention_days} days at most, ask {policy.contact}"
    return Seen(passed=seen.passed, what=f"{told}; {seen.what}", todo=seen.todo)


def _wrong_events(policy: PersonalData, name: str, events: str, *, before: str) -> Seen | None:
    """What the events file holds against the policy; a day of grace, as services prune once an hour. Missing files are for the item of monitoring."""
    texts = unmasked = old = 0
    for line in _lines(events) if events else ():
        if (stamp := stamp_of(line)) and stamp < before.encode():
            old += 1
        if b'"inputs":' in line and (event := _event(line)).get("prompt") == name:
            texts += 1
            told = {key: event.get(key) for key in ("inputs", "text")}
            if policy.events == "masked" and texts <= _LOOKED_AT and Masked().value(told) != told:
                unmasked += 1
    if old:
        return Seen(passed=False, what=f"{old} events are older than the {policy.retention_days} days of the policy", todo=Todo(
            words="remove them, and have services do it: `--events-days`, or `keep_days` of EventsFile",
            run=(f"promptops privacy retain --days {policy.retention_days} --events {shlex.quote(events)} --yes",)))  # fmt: skip
    if texts and policy.events == "digests":
        return Seen(passed=False, what=f"{texts} events hold texts of customers, and the policy says digests", todo=Todo(
            words="make the observer of the services without `content=True`, or state `events: masked` in the policy"))  # fmt: skip
    if unmasked:
        return Seen(passed=False, what=f"{unmasked} events hold personal data that is not masked", todo=Todo(
            words="make the observer of the services with `mask=True`, its default, and remove the old events"))  # fmt: skip
    return None


def _lines(events: str) -> Iterator[bytes]:
    with suppress(PromptopsError), closing(open_source(events)) as source:
        yield from source


def _event(line: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
