"""The history of a prompt, on the terminal and as JSON."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.digest import short
from promptops.release.channels import ChannelState
from promptops.release.ledger import EventTag, VersionTag
from promptops.release.log import Commit, Log
from promptops.report.show import escape, show
from promptops.report.tables import command, next_line, table

_SHORT = 12
_LINE = 70


def render_log(found: Log) -> RenderableType:
    """What is live, then versions, channel events and unreleased commits, each newest first."""
    parts: list[RenderableType] = [Text.assemble((found.name, "bold"), "  ", escape(_headline(found)))]
    if found.versions:
        parts += [Text(""), Text("versions", style="bold"), _versions(found)]
    if found.events:
        parts += [Text(""), Text("channel events", style="bold"), _events(found)]
    if found.pending:
        parts += [Text(""), Text("described, not released", style="bold"),
                  *(Text.assemble(f"  {item.bumps[found.name]:6} ", show(item.title, limit=_LINE), (f"  {escape(item.path)}", "dim"))
                    for item in found.pending)]  # fmt: skip
    title = f"commits since {found.since}" if found.since else "commits"
    if found.commits:
        parts += [Text(""), Text(title, style="bold"), _commits(found)]
    if found.more:
        parts += [Text("older ones are left out; see --limit", style="dim")]
    return Group(*parts, Text(""), next_line(_next(found)))


def _headline(found: Log) -> str:
    live = [_channel(state) for state in found.channels]
    if live:
        return "; ".join(live)
    if found.versions:
        return f"newest version {found.versions[0].name.version.tag}, on no channel"
    return "nothing is released yet"


def _channel(state: ChannelState) -> str:
    if state.fault:
        return f"{state.channel}: BROKEN, {state.fault}"
    text = f"{state.channel}: {state.live.tag if state.live else 'nothing'}"
    if state.canary:
        text += f", {state.percent}% {state.canary.tag}"
    return text + (", held" if state.held else "")


def _versions(found: Log) -> RenderableType:
    grid = table("version", "bump", "when", "who", "evidence?", "commit?", "what changed")
    bad = {version for state in found.channels for version in state.bad}
    for item in found.versions:
        record = item.record
        mark = " (bad)" if item.name.version in bad else ""
        if record is None:
            grid.add_row(
                item.name.version.tag,
                "-",
                "-",
                show(item.tag.tagger or "-"),
                "-",
                "-",
                show(f"CANNOT BE READ: {item.fault}"),
            )
            continue
        grid.add_row(item.name.version.tag + mark, record.bump, record.at[:10], show(record.actor), short(record.evidence) or "none",
                     item.tag.target[:_SHORT], show(record.changelog or record.reason or "-", limit=_LINE))  # fmt: skip
    return grid


def _events(found: Log) -> RenderableType:
    grid = table("channel", "seq>", "what", "when", "who", "why")
    for item in found.events:
        event = item.link.event
        if event is None:
            grid.add_row(
                show(item.name.channel), str(item.name.seq), show(f"CANNOT BE READ: {item.link.fault}"), "-", "-", "-"
            )
            continue
        came = event.came_from.tag if event.came_from else "nothing"
        to = event.to.tag if event.to else "nothing"
        what = f"{event.action} {came} -> {to}" if event.action not in ("hold", "resume") else event.action
        what += f", {event.percent}%" if event.action == "canary" else ""
        grid.add_row(
            show(event.channel),
            str(event.seq),
            what,
            event.at[:10],
            show(event.actor),
            show(event.reason or "-", limit=_LINE),
        )
    return grid


def _commits(found: Log) -> RenderableType:
    grid = table("commit", "when", "who", "what of it", "subject")
    for commit in found.commits:
        grid.add_row(commit.commit[:_SHORT], commit.at[:10], show(commit.author), show(", ".join(commit.parts)), show(commit.subject, limit=_LINE))  # fmt: skip
    return grid


def _next(found: Log) -> str:
    if len(found.versions) > 1:
        newest, older = found.versions[0], found.versions[1]
        return command("promptops", "diff", found.name, f"{older.name.version.tag}..{newest.name.version.tag}")
    if found.versions or len(found.commits) < 2:
        return command("promptops", "diff", found.name)
    return command(
        "promptops", "diff", found.name, f"{found.commits[1].commit[:_SHORT]}..{found.commits[0].commit[:_SHORT]}"
    )


def log_json(found: Log) -> dict[str, Any]:
    return {
        "prompt": found.name, "channels": [_state_json(state) for state in found.channels],
        "versions": [_version_json(item) for item in found.versions], "events": [_event_json(item) for item in found.events],
        "pending": [{"path": item.path, "bump": item.bumps[found.name], "text": item.text} for item in found.pending],
        "since": found.since, "commits": [_commit_json(item) for item in found.commits], "more": found.more,
    }  # fmt: skip


def _state_json(state: ChannelState) -> dict[str, Any]:
    return {"channel": state.channel, "live": state.live.tag if state.live else "", "canary": state.canary.tag if state.canary else "",
            "percent": state.percent, "held": state.held, "seq": state.seq, "fault": state.fault}  # fmt: skip


def _version_json(item: VersionTag) -> dict[str, Any]:
    record = item.record.as_dict() if item.record else {}
    return {
        **record,
        "version": item.name.version.tag,
        "target": item.tag.target,
        "signed": bool(item.tag.signature),
        "fault": item.fault,
    }


def _event_json(item: EventTag) -> dict[str, Any]:
    event = item.link.event
    return {**(event.as_dict() if event else {}), "channel": item.name.channel, "seq": item.name.seq, "signed": bool(item.tag.signature),
            "fault": item.link.fault}  # fmt: skip


def _commit_json(commit: Commit) -> dict[str, Any]:
    return {"commit": commit.commit, "author": commit.author, "email": commit.email, "at": commit.at, "subject": commit.subject,
            "parts": list(commit.parts)}  # fmt: skip
