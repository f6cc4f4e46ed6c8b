"""The ledger of releases: every version and channel event in this repository, read in two git processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from promptops.project.git import Git
from promptops.release.channels import ChannelState, Event, Link, fold
from promptops.release.names import EVENTS, VERSIONS, EventName, Version, VersionName, is_ours, parse_ref
from promptops.release.tags import Tag, read_tags
from promptops.release.versions import VersionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTag:
    """A version as it is stored; `record` is None and `fault` says why when it cannot be read."""

    name: VersionName
    tag: Tag
    record: VersionRecord | None
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTag:
    """An event as it is stored."""

    name: EventName
    tag: Tag
    link: Link


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """`versions` by prompt and number, `events` by (prompt, channel) in order of number, `strange` refs that name nothing."""

    versions: Mapping[str, Mapping[Version, VersionTag]]
    events: Mapping[tuple[str, str], tuple[EventTag, ...]]
    strange: tuple[str, ...] = ()

    def state(self, prompt: str, channel: str) -> ChannelState:
        """Where a channel is; without events it points nowhere."""
        return fold(prompt, channel, (item.link for item in self.events.get((prompt, channel), ())))

    def channels(self, prompt: str) -> list[str]:
        return self._channels.get(prompt, [])

    @cached_property
    def _channels(self) -> Mapping[str, list[str]]:
        """Sorted channels by prompt."""
        found: dict[str, list[str]] = {}
        for owner, channel in sorted(self.events):
            found.setdefault(owner, []).append(channel)
        return found

    def promoted_commit(self, prompt: str, version: Version) -> str:
        """The commit that the newest event about a version points to, on any channel; '' when there is none."""
        for channel in self.channels(prompt):
            for item in reversed(self.events[prompt, channel]):
                if item.link.event and item.link.event.to == version:
                    return item.tag.target
        return ""

    def latest(self, prompt: str) -> VersionTag | None:
        """The highest version that can be read."""
        known = [item for item in self.versions.get(prompt, {}).values() if item.record]
        return max(known, key=lambda item: item.name.version, default=None)


def read_ledger(git: Git, prompt: str = "") -> Ledger:
    """All versions and events, or those of one prompt. Raises EvaluationError outside a repository."""
    below = f"{prompt}/" if prompt else ""
    return make_ledger(read_tags(git, [VERSIONS + below, EVENTS + below]))


def make_ledger(tags: list[Tag]) -> Ledger:
    """The ledger that tags make up."""
    versions: dict[str, dict[Version, VersionTag]] = {}
    events: dict[tuple[str, str], list[EventTag]] = {}
    strange: list[str] = []
    for tag in tags:
        name = parse_ref(tag.ref)
        if isinstance(name, VersionName):
            versions.setdefault(name.prompt, {})[name.version] = _version(name, tag)
        elif isinstance(name, EventName):
            events.setdefault((name.prompt, name.channel), []).append(event_tag(name, tag))
        elif is_ours(tag.ref):
            strange.append(tag.ref)
    return Ledger(versions=versions, events={key: tuple(sorted(found, key=lambda item: item.name.seq)) for key, found in events.items()},
                  strange=tuple(strange))  # fmt: skip


def _version(name: VersionName, tag: Tag) -> VersionTag:
    if tag.fault:
        return VersionTag(name=name, tag=tag, record=None, fault=tag.fault)
    try:
        record = VersionRecord.from_dict(tag.body)
    except ValueError as error:
        return VersionTag(name=name, tag=tag, record=None, fault=str(error))
    if record.name != name:
        return VersionTag(name=name, tag=tag, record=None, fault=f"it says that it is {record.name.tag}")
    if record.commit != tag.target:
        return VersionTag(name=name, tag=tag, record=None, fault="it points to another commit than it says")
    return VersionTag(name=name, tag=tag, record=record)


def event_tag(name: EventName, tag: Tag) -> EventTag:
    """An event from its tag; what cannot be read is a fault of its link."""
    event, fault = None, tag.fault
    if not fault:
        try:
            event = Event.from_dict(tag.body)
        except ValueError as error:
            fault = str(error)
    return EventTag(name=name, tag=tag, link=Link(oid=tag.oid, name=name, event=event, fault=fault))
