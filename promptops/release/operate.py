"""Promote, roll back, hold, resume, sync: one new event on a channel, written here and pushed create-only."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptops.core.errors import ConflictError, DataError, EvaluationError, Problem, RefusedError
from promptops.project.git import RefExistsError
from promptops.release.channels import Action, ChannelState, Event, apply, rule_broken
from promptops.release.desk import Desk
from promptops.release.ledger import EventTag, Ledger, VersionTag, event_tag, read_ledger
from promptops.release.names import EVIDENCE, LAST_SEQ, EventName, Version, check_channel, parse_ref
from promptops.release.share import Fetched, Share, UnknownPushError, drop, pending_events, prefixes_of
from promptops.release.tags import tag_content, utc, write_tag

_MAX_REASON = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command did to a channel: the state after it, the event (None when nothing had to be done), and whether it is pushed."""

    state: ChannelState
    event: Event | None
    published: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody wants of a channel. `to` None: a rollback finds the last good version itself."""

    prompt: str
    channel: str
    action: Action
    to: Version | None = None
    percent: int = 100
    reason: str = ""
    if_current: Version | None = None
    clear_bad: bool = False


def operate(desk: Desk, wanted: Wanted, *, offline: bool) -> Done:
    """Do it, on the remote as well unless `offline`.

    Raises ConflictError when somebody was faster or the channel is not what was expected, RefusedError for what the rules
    forbid or a broken chain, EvaluationError when the remote cannot be reached. Then nothing is left behind, unless the
    remote fell silent in the middle: UnknownPushError says so.
    """
    check_channel(wanted.channel)
    _check_reason(wanted)
    fetched = _look(desk, wanted.prompt, offline=offline)
    _refuse_lost(fetched)
    ledger = read_ledger(desk.git, wanted.prompt)
    state = desk.judge.channel(ledger, wanted.prompt, wanted.channel)
    refuse_broken(state)
    if wanted.if_current is not None and wanted.if_current != state.live:
        raise ConflictError(f"{wanted.channel} of {wanted.prompt} is at {state.live.tag if state.live else 'nothing'}, not {wanted.if_current.tag}",
                            hint="look again with `promptops status`")  # fmt: skip
    if _nothing_to_do(state, wanted):
        return Done(state=state, event=None, published=_publish_waiting(desk, wanted, fetched, offline=offline))
    if state.seq >= LAST_SEQ:
        raise RefusedError(f"{wanted.channel} of {wanted.prompt} has had {LAST_SEQ} events", hint="use another channel")
    tagger, sign, _ = desk.acting()
    target = _target(state, wanted)
    version = _version(desk, ledger, wanted, target)
    now = desk.clock()
    event = Event(
        prompt=wanted.prompt, channel=wanted.channel, seq=state.seq + 1, prev=state.head, action=wanted.action, came_from=state.live,
        to=target, bad=(state.canary or state.live) if wanted.action == "rollback" else None, percent=wanted.percent,
        evidence=version.record.evidence if version.record else "", actor=tagger.email, reason=wanted.reason, at=utc(now), nonce=secrets.token_hex(8),
    )  # fmt: skip
    broken = rule_broken(state, event)
    if broken:
        raise RefusedError(
            f"{wanted.action} of {wanted.prompt} on {wanted.channel}: {broken}", hint=_hint(wanted, broken)
        )
    content = tag_content(
        target=version.tag.target, tag=event.name.tag, tagger=tagger, at=now, title=title(event), body=event.as_dict()
    )
    tag = write_tag(desk.git, event.name.ref, content, sign)
    _refuse_own_key(desk, ledger.events.get((wanted.prompt, wanted.channel), ()), event_tag(event.name, tag))
    try:
        desk.git.change_refs([f"create {event.name.ref} {tag.oid}"])
    except RefExistsError as error:
        raise ConflictError(
            f"{event.name.tag} was written by another process meanwhile", hint="look again with `promptops status`"
        ) from error
    if desk.remote and not offline:
        _publish(desk, event, tag.oid, fetched)
    after = apply(state, event, tag.oid)
    return Done(state=after, event=event, published=bool(desk.remote) and not offline)


def _publish(desk: Desk, event: Event, oid: str, fetched: Fetched) -> None:
    """Push the event with what waits before it; take it back when that fails and the remote does not have it."""
    waiting = {ref: own for ref, own in fetched.pending.items() if not isinstance(parse_ref(ref), EventName)}
    waiting |= {ref: fetched.pending[ref] for ref in pending_events(fetched.pending, event.prompt, event.channel)}
    try:
        Share(desk.git, desk.remote).push(waiting | {event.name.ref: oid})
    except UnknownPushError:
        raise
    except (ConflictError, EvaluationError):
        drop(desk.git, {event.name.ref: oid})
        raise


def _publish_waiting(desk: Desk, wanted: Wanted, fetched: Fetched, *, offline: bool) -> bool:
    """Push events of the channel that an earlier command left behind; whether everything is on the remote."""
    if offline or not desk.remote:
        return False
    waiting = {ref: fetched.pending[ref] for ref in pending_events(fetched.pending, wanted.prompt, wanted.channel)}
    if waiting:
        Share(desk.git, desk.remote).push(waiting)
    return True


def _look(desk: Desk, prompt: str, *, offline: bool) -> Fetched:
    if offline or not desk.remote:
        return Fetched()
    try:
        return Share(desk.git, desk.remote).look(prefixes_of(prompt))
    except EvaluationError as error:
        raise EvaluationError(f"{desk.remote} cannot be reached", why=error.problems[0].why, hint="with --offline it is written here, and `promptops sync` publishes it") from error  # fmt: skip


def _refuse_lost(fetched: Fetched) -> None:
    if fetched.lost:
        tags = ", ".join(ref.removeprefix("refs/tags/") for ref in fetched.lost)
        raise ConflictError(f"{tags}: written here offline, and by somebody else on the remote", hint="`promptops sync` drops yours and takes theirs; then decide again")  # fmt: skip


def refuse_broken(state: ChannelState) -> None:
    """Raise RefusedError when not all events of a channel count."""
    if state.fault:
        at = f"{state.live.tag if state.live else 'nothing'} at event {state.seq:06}"
        raise RefusedError(f"{state.channel} of {state.prompt}: {state.fault}", where=state.faulty_ref, why=f"what counts ends with {at}",
                           hint="see `promptops audit-log`; docs/release.md says how each of these is repaired")  # fmt: skip


def _check_reason(wanted: Wanted) -> None:
    if wanted.action in ("rollback", "hold") and not wanted.reason.strip():
        raise DataError(f"a {wanted.action} needs a reason", hint="add --reason")
    if wanted.clear_bad and not wanted.reason.strip():
        raise DataError("--clear-bad needs a reason", hint="add --reason")
    if len(wanted.reason) > _MAX_REASON:
        raise DataError(f"the reason has more than {_MAX_REASON} characters")


def _nothing_to_do(state: ChannelState, wanted: Wanted) -> bool:
    if wanted.action == "promote":
        return state.live == wanted.to and state.canary is None
    if wanted.action == "canary":
        return state.canary == wanted.to and state.percent == wanted.percent
    return state.held == (wanted.action == "hold") if wanted.action in ("hold", "resume") else False


def _target(state: ChannelState, wanted: Wanted) -> Version | None:
    if wanted.action in ("hold", "resume"):
        return state.live
    if wanted.action != "rollback":
        return wanted.to
    leaving = state.canary or state.live
    if leaving is None:
        raise RefusedError(
            f"nothing of {wanted.prompt} is on {wanted.channel}",
            hint=f"promptops promote {wanted.prompt}@VERSION --to {wanted.channel}",
        )
    target = wanted.to or state.last_good(leaving)
    if target is None:
        raise RefusedError(f"{wanted.channel} of {wanted.prompt} has no good version before {leaving.tag}",
                           hint="name a version with --to, or release a repaired one and promote it")  # fmt: skip
    return target


def _version(desk: Desk, ledger: Ledger, wanted: Wanted, target: Version | None) -> VersionTag:
    """The version an event is about. Raises when it is not released, or its tag does not count."""
    known = ledger.versions.get(wanted.prompt, {})
    if target is None:
        raise RefusedError(
            f"nothing of {wanted.prompt} is on {wanted.channel}",
            hint=f"promptops promote {wanted.prompt}@VERSION --to {wanted.channel}",
        )
    if target not in known:
        highest = max(known, default=None)
        raise DataError(
            f"{wanted.prompt} has no version {target.tag}",
            hint=f"the latest is {highest.tag}" if highest else f"promptops release {wanted.prompt}",
        )
    item = known[target]
    if item.record is None:
        raise RefusedError(f"{item.name.tag} cannot be used", where=item.name.ref, why=item.fault)
    signature = desk.judge.version(item)
    if not signature.counts:
        raise RefusedError(f"{item.name.tag} does not count", where=item.name.ref, why=signature.why,
                           hint="somebody with the role promptops-release must release it")  # fmt: skip
    promoted = ledger.promoted_commit(wanted.prompt, target)
    if promoted not in ("", item.tag.target):
        raise RefusedError(f"{item.name.tag} was moved", where=item.name.ref, why=f"it pointed to {promoted[:12]} when it was promoted and points to {item.tag.target[:12]}",
                           hint="ask who did it, and have the old tag put back")  # fmt: skip
    bad = [
        other
        for other in ledger.channels(wanted.prompt)
        if other != wanted.channel and target in ledger.state(wanted.prompt, other).bad
    ]
    if bad and wanted.action in ("promote", "canary") and not wanted.clear_bad:
        raise RefusedError(
            f"{item.name.tag} was rolled back on {', '.join(bad)}",
            hint="if it is good here, say so with --clear-bad --reason ...",
        )
    return item


def _refuse_own_key(desk: Desk, earlier: Sequence[EventTag], item: EventTag) -> None:
    """Raise, before a ref is made, when others would not count what is about to be written."""
    found = desk.judge.events([*earlier, item])[-1]
    if item.link.event and not found.counts:
        raise RefusedError(f"you may not {item.link.event.action} on {item.name.channel}", why=found.why,
                           hint="ask somebody who is listed, or have your key listed on the protected branch; if a key seems expired, check the clock")  # fmt: skip


def _hint(wanted: Wanted, broken: str) -> str:
    if "that is a rollback" in broken:
        return f"promptops rollback {wanted.prompt} --channel {wanted.channel} --to {wanted.to.tag if wanted.to else 'V'} --reason ..."
    if "marked bad" in broken:
        return "release a repaired version; if the mark is wrong, promote with --clear-bad --reason ..."
    if "held" in broken:
        return f"promptops resume {wanted.prompt} --channel {wanted.channel}"
    return "see `promptops status`"


def title(event: Event) -> str:
    """The first line of an event's tag."""
    to = event.to.tag if event.to else ""
    words = {
        "promote": f"promote {to}", "canary": f"give {to} {event.percent}% of the traffic",
        "rollback": f"roll back from {event.bad.tag if event.bad else ''} to {to}", "hold": f"hold at {to}", "resume": f"resume at {to}",
    }[event.action]  # fmt: skip
    return f"{event.prompt} on {event.channel}: {words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What came, what went, and what was dropped because somebody else had been faster."""

    fetched: tuple[str, ...]
    pushed: tuple[str, ...]
    dropped: tuple[str, ...]


def sync(desk: Desk) -> Synced:
    """Exchange everything with the remote: fetch, publish what was written offline, drop what lost.

    Raises RefusedError when the remote lost or changed something, ConflictError never: what lost is in the result.
    """
    if not desk.remote:
        raise DataError("this repository has no remote", hint="git remote add origin URL")
    share = Share(desk.git, desk.remote)
    prefixes = [*prefixes_of(""), EVIDENCE]
    found = share.look(prefixes)
    dropped = _with_followers(found)
    if dropped:
        drop(desk.git, dropped)
        found = Fetched(
            new=(*found.new, *share.look(prefixes).new),
            pending={ref: oid for ref, oid in found.pending.items() if ref not in dropped},
        )
    pushed: dict[str, str] = dict(found.pending)
    if pushed:
        _refuse_unsound(desk, pushed)
        share.push(pushed)
    return Synced(fetched=found.new, pushed=tuple(sorted(pushed)), dropped=tuple(sorted(dropped)))


def _with_followers(found: Fetched) -> dict[str, str]:
    """What lost, and the events written here after it, which cannot stand without it."""
    dropped = dict(found.lost)
    for ref in found.lost:
        name = parse_ref(ref)
        if isinstance(name, EventName):
            dropped |= {
                other: oid
                for other, oid in found.pending.items()
                if isinstance(later := parse_ref(other), EventName)
                and (later.prompt, later.channel) == (name.prompt, name.channel)
                and later.seq > name.seq
            }
    return dropped


def _refuse_unsound(desk: Desk, pushed: Mapping[str, str]) -> None:
    """Nothing that does not count goes out."""
    ledger = read_ledger(desk.git)
    channels = {(name.prompt, name.channel) for ref in pushed if isinstance(name := parse_ref(ref), EventName)}
    problems: list[Problem] = []
    for prompt, channel in sorted(channels):
        state = desk.judge.channel(ledger, prompt, channel)
        if state.fault:
            problems.append(
                Problem(
                    what=f"{channel} of {prompt}: {state.fault}",
                    where=state.faulty_ref,
                    hint="what was written here is not published; see docs/release.md",
                )
            )
    if problems:
        raise RefusedError(problems=problems)
