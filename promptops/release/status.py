"""What is live: one row per channel, from the ledger, with the state of its chain and its last signature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptops.core.errors import DataError, EvaluationError, did_you_mean
from promptops.core.jsontext import Json
from promptops.release.channels import ChannelState
from promptops.release.desk import Desk
from promptops.release.ledger import Ledger, read_ledger
from promptops.release.share import Share, prefixes_of
from promptops.release.trust import SignatureState


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRow:
    """A channel, whether all its events are known to the remote, and who signed the last one."""

    state: ChannelState
    published: bool
    signature: SignatureState

    def as_dict(self) -> dict[str, Json]:
        state, last = self.state, self.state.last
        return {
            "prompt": state.prompt, "channel": state.channel, "live": str(state.live or ""), "canary": str(state.canary or ""),
            "percent": state.percent, "held": state.held, "bad": [str(version) for version in sorted(state.bad)], "seq": state.seq,
            "action": last.action if last else "", "actor": last.actor if last else "", "reason": last.reason if last else "", "at": last.at if last else "",
            "signature": self.signature.status, "published": self.published, "fault": state.fault, "faulty_ref": state.faulty_ref,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`latest` are the highest versions by prompt; `checked` says whether the remote was asked just now, `why_not` why it was not."""

    rows: tuple[ChannelRow, ...]
    latest: Mapping[str, str]
    branch: str
    unsigned: bool
    remote: str
    checked: bool
    why_not: str
    strange: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def broken(self) -> bool:
        """Whether some channel cannot be relied on."""
        return any(row.state.fault for row in self.rows) or bool(self.faults)


def read_status(desk: Desk, prompt: str, *, offline: bool) -> Status:
    """Where every channel of a prompt, or of all, is. A remote that cannot be reached is said, not raised.

    Raises RefusedError when the remote lost or changed what was seen, DataError for a prompt that has neither version nor channel.
    """
    checked, why_not = False, "" if desk.remote else "there is no remote"
    share = Share(desk.git, desk.remote) if desk.remote else None
    if share and not offline:
        try:
            share.look(prefixes_of(prompt))
            checked = True
        except EvaluationError as error:
            why_not = error.problems[0].why or error.problems[0].what
    elif share:
        why_not = "--offline"
    ledger = read_ledger(desk.git, prompt)
    known = sorted({owner for owner, _ in ledger.events} | set(ledger.versions))
    if prompt and prompt not in known:
        raise DataError(f"nothing of {prompt[:80]!r} is released", hint=_hint(desk, prompt))
    seen = share.seen() if share else None
    rows = [_row(desk, ledger, owner, channel, seen, thorough=bool(prompt)) for owner, channel in sorted(ledger.events)]
    latest = {name: str(found.name.version) for name in known if (found := ledger.latest(name))}
    return Status(rows=tuple(rows), latest=latest, branch=desk.branch, unsigned=desk.trust.unsigned, remote=desk.remote, checked=checked,
                  why_not=why_not, strange=ledger.strange, faults=tuple(_version_faults(desk, ledger, rows, thorough=bool(prompt))))  # fmt: skip


def _hint(desk: Desk, prompt: str) -> str:
    names = desk.project.names()
    return f"promptops release {prompt}" if prompt in names else did_you_mean(prompt, names)


def _row(
    desk: Desk, ledger: Ledger, prompt: str, channel: str, seen: Mapping[str, str] | None, *, thorough: bool
) -> ChannelRow:
    """`thorough` checks every signature of the channel; else the last one, which covers the chain before it."""
    state, signature = desk.judge.head(ledger, prompt, channel)
    if thorough:
        state = desk.judge.channel(ledger, prompt, channel)
    published = seen is None or all(seen.get(item.name.ref) == item.tag.oid for item in ledger.events[prompt, channel])
    return ChannelRow(state=state, published=published, signature=signature)


def _version_faults(desk: Desk, ledger: Ledger, rows: Sequence[ChannelRow], *, thorough: bool) -> list[str]:
    """What is wrong with the versions that channels point to.

    The signed event that made a version live points to the version's commit; `thorough` checks the version's own signature, too.
    """
    faults: dict[str, None] = {}
    for row in rows:
        state = row.state
        for version in filter(None, (state.live, state.canary)):
            found = ledger.versions.get(state.prompt, {}).get(version)
            name = f"prompt/{state.prompt}/{version.tag}"
            if found is None:
                faults[f"{name} is live, and its tag is not here: it was deleted, or `promptops sync` brings it"] = None
            elif found.record is None:
                faults[f"{name} is live, and its tag does not count: {found.fault}"] = None
            elif ledger.promoted_commit(state.prompt, version) not in ("", found.tag.target):
                faults[
                    f"{name} is live, and its tag points to another commit than when it was promoted: it was moved"
                ] = None
            elif (thorough or not found.tag.signature) and not (signature := desk.judge.version(found)).counts:
                faults[f"{name} is live, and its tag does not count: {signature.why}"] = None
    return list(faults)
