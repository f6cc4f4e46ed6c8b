"""Approvals and releases for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.digest import short
from promptops.core.jsontext import Json
from promptops.release.approve import Approval
from promptops.release.evidence import SIGN_OFF, TEST_RESULT, Evidence
from promptops.release.publish import Released
from promptops.report.release import UNSIGNED
from promptops.report.show import show
from promptops.report.tables import command, count, headline, next_line


def render_approval(found: Approval, *, remote: str, unsigned: bool) -> RenderableType:
    """The evidence, or why there is none."""
    if found.evidence is None:
        parts: list[RenderableType] = [headline("FAIL", "red", f"{found.prompt}: run {found.run} is no evidence")]
        parts += [show(f"- {reason}") for reason in found.reasons]
        parts.append(next_line(command("promptops", "view", found.run)))
        return Group(*parts)
    own = found.evidence
    detail = own.predicate["promptops"]
    if own.kind == TEST_RESULT:
        total = detail["total"]
        said = f"{found.prompt}: run {found.run}, {total['passed']} of {total['scored']} draws pass" + (
            f", not worse than {found.against}" if found.against else ", the first version"
        )
        parts = [headline("APPROVED", "green", said)]
        warned = own.predicate["warnedTests"]
        if warned:
            parts.append(show(f"not proven either way, or better looked at: {', '.join(warned)}"))
    else:
        parts = [headline("SIGNED OFF", "green", f"{found.prompt} as {detail['commit'][:12]} has it")]
    parts.append(
        show(
            f"evidence {own.name.digest[:12]} for subject {short(found.subject)}, by {own.actor} ({own.signature.status}), {_where(remote, published=found.published)}"
        )
    )
    people = sorted({item.actor for item in found.all_evidence if item.kind == SIGN_OFF and item.counts})
    if people:
        parts.append(show(f"signed off: {', '.join(people)}"))
    if unsigned:
        parts.append(Text(UNSIGNED))
    parts.append(next_line(command("promptops", "release", found.prompt)))
    return Group(*parts)


def approval_json(found: Approval) -> dict[str, Any]:
    return {
        "prompt": found.prompt, "subject": found.subject, "run": found.run, "against": found.against, "approved": found.evidence is not None,
        "reasons": list(found.reasons), "published": found.published, "evidence": evidence_json(found.evidence) if found.evidence else None,
        "all_evidence": [evidence_json(item) for item in found.all_evidence],
    }  # fmt: skip


def evidence_json(item: Evidence) -> dict[str, Json]:
    return {"digest": item.digest, "subject": f"sha256:{item.name.subject}", "kind": item.kind, "actor": item.actor, "at": item.at,
            "signature": item.signature.status, "why": item.fault or item.signature.why, "predicate": _plain(item.predicate)}  # fmt: skip


def _plain(value: Mapping[str, Json]) -> dict[str, Json]:
    return dict(value)


def render_released(found: Released, *, remote: str, unsigned: bool) -> RenderableType:
    """The version, why it has its number, and what changed."""
    record = found.record
    pin = f"{record.prompt}@{record.version.tag}"
    if not found.made:
        parts: list[RenderableType] = [headline("UNCHANGED", "yellow", f"{pin} is this content already")]
    else:
        parts = [headline("RELEASED", "green", f"{pin}: {record.bump}, {record.reason}"), show(f"commit {record.commit[:12]}, subject {short(record.subject)}, {_where(remote, published=found.published)}"),
                 show(f"evidence {short(record.evidence)} by {found.evidence_by}" + (f"; signed off by {', '.join(found.approvers)}" if found.approvers else f"; {count(0, 'sign-off')}"))]  # fmt: skip
        if record.changelog.strip():
            parts += [Text(""), show(record.changelog.rstrip()), Text("")]
    if unsigned:
        parts.append(Text(UNSIGNED))
    waiting = bool(remote) and not found.published
    parts.append(next_line("promptops sync" if waiting else command("promptops", "promote", pin, "--to", "staging")))
    return Group(*parts)


def released_json(found: Released) -> dict[str, Any]:
    return {**found.record.as_dict(), "tag": found.record.name.tag, "made": found.made, "published": found.published, "approvers": list(found.approvers),
            "evidence_by": found.evidence_by}  # fmt: skip


def _where(remote: str, *, published: bool) -> str:
    return f"on {remote}" if published else "in this clone only"
