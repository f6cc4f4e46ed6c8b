"""Is what the ledger says signed by somebody who may say it? Judged by the trust file of the protected branch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from promptops.release.channels import ChannelState, fold
from promptops.release.ledger import EventTag, Ledger, VersionTag
from promptops.release.tags import Tag
from promptops.release.trust import GIT, SignatureState, Trust

RELEASE = "promptops-release"
PROMOTE = "promptops-promote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges tags by a trust file; `now` only tells which of the times that signers state lie in the future."""

    trust: Trust
    now: datetime

    def version(self, item: VersionTag) -> SignatureState:
        """The signature of a version."""
        if item.record is None:
            return SignatureState(status="bad", why=item.fault)
        return self._tag(item.tag, [RELEASE], item.record.actor, _time(item.record.at, self.now))

    def events(self, items: Sequence[EventTag]) -> list[SignatureState]:
        """The signatures of a channel's events, in order.

        A key is judged at the latest time that it or an event before it states: a key that has expired cannot sign something
        old after something newer. Times in the future are a wrong clock and date nobody else.
        """
        states: list[SignatureState] = []
        latest = datetime.min.replace(tzinfo=UTC)
        vouched = max((place for place, item in enumerate(items) if item.tag.oid in self.trust.accepted), default=-1)
        for place, item in enumerate(items):
            event = item.link.event
            if event is None:
                states.append(SignatureState(status="bad", why=item.link.fault))
                continue
            stated = _time(event.at, self.now)
            if place <= vouched:
                states.append(
                    SignatureState(status="accepted", principal=event.actor, why=f"accepted in {self.trust.source}")
                )
            else:
                roles = [PROMOTE, f"{PROMOTE}-{event.channel}"]
                states.append(self._tag(item.tag, roles, event.actor, max(stated, latest)))
            latest = max(latest, stated) if stated <= self.now else latest
        return states

    def channel(self, ledger: Ledger, prompt: str, channel: str) -> ChannelState:
        """The state of a channel with every signature checked: it stops at the first event that does not count."""
        items = ledger.events.get((prompt, channel), ())
        state = fold(prompt, channel, (item.link for item in items))
        for item, signature in zip(items, self.events(items), strict=True):
            if not signature.counts and item.name.seq <= state.seq:
                known = [other.link for other in items if other.name.seq < item.name.seq]
                why = f"event {item.name.seq:06} does not count: {signature.why}"
                return replace(fold(prompt, channel, known), fault=why, faulty_ref=item.name.ref)
        return state

    def head(self, ledger: Ledger, prompt: str, channel: str) -> tuple[ChannelState, SignatureState]:
        """As `channel` with the last signature alone, which covers the events before it, and what that signature is.

        An event without any signature is looked for in the whole channel.
        """
        items = ledger.events.get((prompt, channel), ())
        state = fold(prompt, channel, (item.link for item in items))
        counted = [item for item in items if item.name.seq <= state.seq]
        if not counted:
            return state, SignatureState(status="bad", why=state.fault)
        signature = self.events(counted[-1:])[0]
        unsigned = not self.trust.unsigned and any(not item.tag.signature for item in counted)
        return (self.channel(ledger, prompt, channel) if unsigned or not signature.counts else state), signature

    def _tag(self, tag: Tag, roles: Sequence[str], actor: str, when: datetime) -> SignatureState:
        if tag.oid in self.trust.accepted:
            return SignatureState(status="accepted", principal=actor, why=f"accepted in {self.trust.source}")
        return self.trust.judge(tag.signature, tag.payload, namespace=GIT, roles=roles, actor=actor, when=when)


def _time(text: str, default: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return default
    return found if found.tzinfo else found.replace(tzinfo=UTC)
