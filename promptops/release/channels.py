"""Channels: append-only events, and the pure fold that says what a channel points to.

The sequence number orders events and `prev` chains them. Times are written down and never compared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.release.names import LAST_SEQ, EventName, Version

Action = Literal["promote", "canary", "rollback", "hold", "resume"]
ACTIONS: tuple[str, ...] = get_args(Action)
FORMAT = 1
_TEXTS = ("prompt", "channel", "prev", "evidence", "actor", "reason", "at", "nonce", "from", "to", "bad")
_KEYS = frozenset((*_TEXTS, "promptops", "kind", "seq", "action", "percent"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a channel.

    `prev` is the object id of the tag before it ('' for the first), `came_from` the version that was live, `to` the version this
    leaves live (for a canary: the version that gets `percent` of the traffic), `bad` the version a rollback marks.
    `nonce` keeps two equal events of two clones apart.
    """

    prompt: str
    channel: str
    seq: int
    prev: str
    action: Action
    came_from: Version | None
    to: Version | None
    bad: Version | None
    percent: int
    evidence: str
    actor: str
    reason: str
    at: str
    nonce: str

    @property
    def name(self) -> EventName:
        return EventName(self.prompt, self.channel, self.seq)

    def as_dict(self) -> dict[str, Json]:
        return {
            "promptops": FORMAT, "kind": "event", "prompt": self.prompt, "channel": self.channel, "seq": self.seq, "prev": self.prev,
            "action": self.action, "from": _text(self.came_from), "to": _text(self.to), "bad": _text(self.bad), "percent": self.percent,
            "evidence": self.evidence, "actor": self.actor, "reason": self.reason, "at": self.at, "nonce": self.nonce,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Json]) -> "Event":
        """Inverse of `as_dict`. Raises ValueError saying what is wrong with the body."""
        if body.get("promptops") != FORMAT or body.get("kind") != "event":
            raise ValueError(f"not an event of format {FORMAT}")
        if body.keys() != _KEYS:
            raise ValueError(f"missing or unknown keys: {', '.join(sorted(body.keys() ^ _KEYS))}")
        if not all(isinstance(body[key], str) for key in _TEXTS):
            raise ValueError("a value that should be text is not")
        if body["action"] not in ACTIONS:
            raise ValueError("unknown action")
        if not _whole(body["seq"], LAST_SEQ) or not _whole(body["percent"], 100):
            raise ValueError("seq or percent is out of range")
        return cls(
            prompt=body["prompt"], channel=body["channel"], seq=body["seq"], prev=body["prev"], action=body["action"],
            came_from=_version(body["from"]), to=_version(body["to"]), bad=_version(body["bad"]), percent=body["percent"],
            evidence=body["evidence"], actor=body["actor"], reason=body["reason"], at=body["at"], nonce=body["nonce"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An event as it is stored: the object id of its tag, and the event (or why it cannot be read)."""

    oid: str
    name: EventName
    event: Event | None
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """Where a channel is after its unbroken events.

    `live` serves the traffic, `canary` gets `percent` of it; `was_live` are the versions that were live, oldest first. `fault` says
    why later events do not count; '' when all of them do.
    """

    prompt: str
    channel: str
    seq: int = 0
    head: str = ""
    live: Version | None = None
    canary: Version | None = None
    percent: int = 100
    held: bool = False
    bad: frozenset[Version] = frozenset()
    was_live: tuple[Version, ...] = ()
    last: Event | None = None
    fault: str = ""
    faulty_ref: str = ""

    def last_good(self, leaving: Version) -> Version | None:
        """The version a rollback lands on: the last one live before `leaving` that was not marked bad."""
        return next((old for old in reversed(self.was_live) if old != leaving and old not in self.bad), None)


def fold(prompt: str, channel: str, links: Iterable[Link]) -> ChannelState:
    """The state of a channel after its events; it stops at the first event that does not fit, and says why."""
    state = ChannelState(prompt=prompt, channel=channel)
    for link in sorted(links, key=lambda item: item.name.seq):
        fault = _misfit(state, link)
        if fault:
            return replace(state, fault=fault, faulty_ref=link.name.ref)
        assert link.event is not None, "an event that cannot be read is a misfit"
        state = apply(state, link.event, link.oid)
    return state


def apply(state: ChannelState, event: Event, head: str) -> ChannelState:
    """The state after an event that fits, whose tag has the id `head`."""
    if event.action in ("hold", "resume"):
        return replace(state, seq=event.seq, last=event, head=head, held=event.action == "hold")
    if event.action == "canary":
        return replace(state, seq=event.seq, last=event, head=head, canary=event.to, percent=event.percent)
    assert event.to is not None, "checked by misfit"
    bad = state.bad | {event.bad} if event.bad else state.bad - {event.to}
    history = tuple(old for old in state.was_live if old != event.to)
    return replace(state, seq=event.seq, last=event, head=head, live=event.to, canary=None, percent=100, bad=frozenset(bad),
                   was_live=(*history, event.to))  # fmt: skip


def _misfit(state: ChannelState, link: Link) -> str:
    """Why an event cannot follow a state; '' when it can."""
    event, name = link.event, link.name
    if name.seq != state.seq + 1:
        return f"event {state.seq + 1:06} is missing before {name.seq:06}"
    if event is None:
        return f"event {name.seq:06} cannot be read: {link.fault}"
    if event.name != name:
        return f"event {name.seq:06} says that it is {event.name.tag}"
    if event.prev != state.head:
        return f"event {name.seq:06} does not follow the event before it: one of the two was replaced"
    if event.came_from != state.live:
        return f"event {name.seq:06} starts from {_text(event.came_from) or 'nothing'}, and {_text(state.live) or 'nothing'} was live"
    return rule_broken(state, event)


def rule_broken(state: ChannelState, event: Event) -> str:
    """Which rule of channels an event breaks; '' when none. Writing and reading ask the same rules."""
    if event.action in ("hold", "resume"):
        if event.to != state.live or event.bad is not None or event.percent != 100:
            return f"a {event.action} changes no version"
        return (
            f"the channel is {'already' if state.held else 'not'} held"
            if state.held == (event.action == "hold")
            else ""
        )
    if event.to is None:
        return f"a {event.action} needs a version"
    return (
        _rollback_broken(state, event, event.to)
        if event.action == "rollback"
        else _advance_broken(state, event, event.to)
    )


def _rollback_broken(state: ChannelState, event: Event, target: Version) -> str:
    leaving = state.canary or state.live
    if leaving is None or event.bad != leaving:
        return "a rollback marks the version it leaves"
    if target == event.bad or target in state.bad:
        return f"a rollback must not land on {target.tag}, which is marked bad"
    if state.canary is not None and target != state.live:
        return f"a rollback of a canary lands on the live version, {_text(state.live)}"
    return "" if event.percent == 100 else "a rollback serves all traffic"


def _advance_broken(state: ChannelState, event: Event, target: Version) -> str:
    if event.bad is not None:
        return f"a {event.action} marks no version bad"
    if state.held:
        return "the channel is held"
    if target in state.bad and not event.reason:
        return f"{target.tag} is marked bad, and no reason is given to use it again"
    if state.live is not None and target < state.live:
        return f"{target.tag} is older than {state.live.tag}: that is a rollback"
    if event.action == "canary":
        if state.live is None or target == state.live:
            return "a canary needs another version that serves the rest"
        return "" if event.percent < 100 else "a canary gets less than all traffic"
    return "" if event.percent == 100 else "a promotion serves all traffic"


def _text(version: Version | None) -> str:
    return version.tag if version else ""


def _version(text: str) -> Version | None:
    if not text:
        return None
    try:
        version = Version.parse(text)
    except DataError as error:
        raise ValueError(str(error)) from error
    if text != version.tag:
        raise ValueError(f"{text[:20]!r} is not a version")
    return version


def _whole(value: Json, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
