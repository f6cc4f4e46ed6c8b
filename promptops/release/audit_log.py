"""The audit trail: changes, approvals, releases and channel events, put together from git alone, with every signature's state."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from promptops.core.errors import DataError, EvaluationError
from promptops.release.desk import Desk
from promptops.release.evidence import SIGN_OFF, Evidence, read_evidence
from promptops.release.ledger import Ledger, read_ledger
from promptops.release.log import paths_of, read_commits
from promptops.release.operate import title
from promptops.release.trust import SignatureState

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MAX_COMMITS = 100_000
ACTIONS = ("changed", "evaluated", "signed off", "released", "promote", "canary", "rollback", "hold", "resume")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One thing somebody did. `at` is what the record states; `order` is its number where it has one. `ref` is where it is written."""

    at: str
    actor: str
    action: str
    prompt: str
    what: str
    why: str
    signature: str
    signature_why: str
    ref: str
    order: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLog:
    """Lines by stated time, events of a channel never out of their order; `faults` say what does not count."""

    lines: tuple[AuditLine, ...]
    faults: tuple[str, ...]
    signers_of: str
    unsigned: bool


def parse_since(text: str) -> date:
    """A day. Raises DataError."""
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else _no_day(text)
    except ValueError:
        return _no_day(text)


def _no_day(text: str) -> date:
    raise DataError(f"{text[:40]!r} is not a day", hint="write it as 2026-11-30")


def read_audit_log(desk: Desk, prompt: str, *, since: date | None) -> AuditLog:
    """Everything that is here about a prompt, or about all. Raises DataError for a prompt that never was."""
    ledger = read_ledger(desk.git, prompt)
    names = (
        [prompt]
        if prompt
        else sorted({*desk.project.names(), *ledger.versions, *(owner for owner, _ in ledger.events)})
    )
    lines: list[AuditLine] = []
    faults: list[str] = []
    for name in names:
        lines += _changes(desk, name)
        lines += _versions(desk, ledger, name)
        for channel in ledger.channels(name):
            lines += _events(desk, ledger, name, channel)
            state = desk.judge.channel(ledger, name, channel)
            if state.fault:
                faults.append(f"{channel} of {name}: {state.fault}")
    known = read_evidence(desk.git, desk.trust, [], desk.clock())
    lines += [_evidence(item) for item in known if not prompt or _prompt_of(item) == prompt or item.fault]
    if prompt and not lines and prompt not in desk.project.names():
        raise DataError(f"nothing is known of {prompt[:80]!r}", hint="see `promptops list`")
    faults += [
        f"{line.ref}: {line.signature_why}"
        for line in lines
        if line.signature in ("bad", "unknown-key", "no-role", "expired", "unsigned") and line.action != "changed"
    ]
    kept = [line for line in lines if since is None or line.at[:10] >= since.isoformat()]
    return AuditLog(
        lines=tuple(_ordered(kept)),
        faults=tuple(dict.fromkeys(faults)),
        signers_of=desk.branch,
        unsigned=desk.trust.unsigned,
    )


def _ordered(lines: list[AuditLine]) -> list[AuditLine]:
    """By stated time; an event whose clock was behind stands at the latest time of the events before it."""
    latest: dict[str, str] = {}
    keys: list[tuple[str, str, int, AuditLine]] = []
    for line in sorted(lines, key=lambda item: (item.ref.rpartition("/")[0], item.order)):
        chain = line.ref.rpartition("/")[0] if line.order else line.ref
        latest[chain] = max(latest.get(chain, ""), line.at)
        keys.append((latest[chain], chain, line.order, line))
    return [line for *_, line in sorted(keys, key=lambda key: key[:3])]


def _changes(desk: Desk, name: str) -> list[AuditLine]:
    """Commits are listed as git has them: their authors are what they say, git signatures of commits are not judged here."""
    try:
        commits = read_commits(desk.git, name, paths_of(desk.project, name), since="", limit=_MAX_COMMITS)
    except EvaluationError:
        return []
    return [
        AuditLine(at=item.at, actor=item.email, action="changed", prompt=name, what=", ".join(item.parts), why=item.subject, signature="not-judged",
                  signature_why="commits are not judged", ref=item.commit)
        for item in commits
    ]  # fmt: skip


def _versions(desk: Desk, ledger: Ledger, name: str) -> list[AuditLine]:
    found: list[AuditLine] = []
    for item in ledger.versions.get(name, {}).values():
        state = desk.judge.version(item)
        record = item.record
        found.append(
            AuditLine(at=record.at if record else "", actor=record.actor if record else item.tag.tagger, action="released", prompt=name,
                      what=f"{item.name.version.tag} ({record.bump}) from {record.commit[:12]}" if record else item.name.version.tag,
                      why=record.reason if record else item.fault, signature=state.status, signature_why=state.why, ref=item.name.ref)
        )  # fmt: skip
    return found


def _events(desk: Desk, ledger: Ledger, name: str, channel: str) -> list[AuditLine]:
    items = ledger.events[name, channel]
    states: Mapping[str, SignatureState] = dict(
        zip((item.name.ref for item in items), desk.judge.events(items), strict=True)
    )
    found: list[AuditLine] = []
    for item in items:
        event, state = item.link.event, states[item.name.ref]
        found.append(
            AuditLine(at=event.at if event else "", actor=event.actor if event else item.tag.tagger, action=event.action if event else "unreadable",
                      prompt=name, what=title(event).partition(": ")[2] + f" on {channel}" if event else item.name.tag, why=event.reason if event else item.link.fault,
                      signature=state.status, signature_why=state.why, ref=item.name.ref, order=item.name.seq)
        )  # fmt: skip
    return found


def _evidence(item: Evidence) -> AuditLine:
    status = "bad" if item.fault else item.signature.status
    if item.fault:
        return AuditLine(at="", actor="", action="evaluated", prompt="", what="unreadable evidence", why=item.fault, signature=status,
                         signature_why=item.fault, ref=item.name.ref)  # fmt: skip
    detail = item.predicate["promptops"]
    if item.kind == SIGN_OFF:
        what, why = f"subject {item.name.subject[:12]}", str(item.predicate.get("comment", ""))
    else:
        total, against = detail.get("total", {}), detail.get("gate", {}).get("against", "")
        what = f"run {detail.get('run', '')}: {total.get('passed')} of {total.get('scored')} pass, subject {item.name.subject[:12]}"
        why = f"not worse than {against}" if against else "first version"
    return AuditLine(at=item.at, actor=item.actor, action="signed off" if item.kind == SIGN_OFF else "evaluated", prompt=_prompt_of(item), what=what, why=why,
                     signature=status, signature_why=item.signature.why, ref=item.name.ref)  # fmt: skip


def _prompt_of(item: Evidence) -> str:
    detail = item.predicate.get("promptops")
    return str(detail.get("prompt", "")) if isinstance(detail, dict) else ""
