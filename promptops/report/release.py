"""Releases for people: what is live, what a command did, and how far signatures go."""

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.release.operate import Done, Synced, Wanted
from promptops.release.status import ChannelRow, Status
from promptops.report.show import show
from promptops.report.tables import command, count, headline, next_line, table

_SHOWN = 60
UNSIGNED = "UNSIGNED: this project works without signatures; anybody who may push tags can promote"


def render_status(status: Status) -> RenderableType:
    """One row a channel; broken chains first, then what is not published, then the rest."""
    broken = [row for row in status.rows if row.state.fault]
    parts: list[RenderableType] = []
    if broken or status.faults:
        parts.append(
            headline("REFUSED", "red", f"{count(len(broken) + len(status.faults), 'fault')} in what is released")
        )
    else:
        word = ("LIVE", "green") if status.rows else ("NOTHING LIVE", "yellow")
        parts.append(
            headline(
                *word,
                f"{count(len(status.rows), 'channel')} of {count(len({row.state.prompt for row in status.rows}), 'prompt')}",
            )
        )
    if status.rows:
        grid = table("prompt", "channel", "live", "canary", "latest", "event>", "who", "since", "signature", "notes")
        shown = sorted(status.rows, key=_worth)[:_SHOWN]
        for row in sorted(shown, key=lambda item: (item.state.prompt, item.state.channel)):
            grid.add_row(*_cells(row, status))
        parts.append(grid)
        if len(status.rows) > _SHOWN:
            parts.append(
                Text(
                    f"and {count(len(status.rows) - _SHOWN, 'channel')} more (broken, unpublished and held ones come first); `promptops status NAME` or --json has them"
                )
            )
    placed = {row.state.prompt for row in status.rows}
    waiting = [name for name in status.latest if name not in placed]
    if waiting:
        parts.append(
            Text(f"released and on no channel: {', '.join(f'{name} v{status.latest[name]}' for name in waiting)}")
        )
    parts += [
        Text(
            f"fault: {row.state.prompt} on {row.state.channel}: {row.state.fault} (what counts ends with event {row.state.seq:06})"
        )
        for row in broken
    ]
    parts += [show(f"fault: {fault}") for fault in status.faults]
    parts += [show(f"note: {ref} is in our namespace and names nothing; delete it") for ref in status.strange]
    parts.append(Text(_asked(status)))
    if status.unsigned:
        parts.append(Text(UNSIGNED))
    if any(not row.published for row in status.rows):
        parts.append(next_line("promptops sync"))
    elif broken:
        parts.append(next_line(command("promptops", "audit-log", broken[0].state.prompt)))
    return Group(*parts)


def _worth(row: ChannelRow) -> tuple[bool, bool, bool, bool]:
    """What a person must see first: broken, not published, held, with a canary."""
    return (not row.state.fault, row.published, not row.state.held, row.state.canary is None)


def _asked(status: Status) -> str:
    if status.checked:
        return f"as {status.remote} has it now; signers of {status.branch}"
    if not status.remote:
        return f"as this clone has it, which has no remote; signers of {status.branch}"
    return f"as this clone has it, {status.remote} was not asked ({status.why_not}); signers of {status.branch}"


def _cells(row: ChannelRow, status: Status) -> list[str | Text]:
    state, last = row.state, row.state.last
    notes = [
        "held" if state.held else "",
        f"bad: {', '.join(version.tag for version in sorted(state.bad))}" if state.bad else "",
        "" if row.published else "not published",
        "BROKEN" if state.fault else "",
    ]
    latest = status.latest.get(state.prompt, "")
    canary = f"{state.canary.tag} {state.percent}%" if state.canary else "-"
    return [state.prompt, state.channel, state.live.tag if state.live else "-", canary, f"v{latest}" if latest else "-", str(state.seq),
            show(last.actor if last else "", limit=40), last.at[:16].replace("T", " ") if last else "", row.signature.status,
            "; ".join(filter(None, notes))]  # fmt: skip


def render_done(done: Done, wanted: Wanted, *, remote: str, unsigned: bool) -> RenderableType:
    """What a command did to a channel."""
    state, event = done.state, done.event
    where = f"{wanted.prompt} on {wanted.channel}"
    live = state.live.tag if state.live else "nothing"
    if event is None:
        parts: list[RenderableType] = [headline("UNCHANGED", "yellow", f"{where}: already so ({live} live)")]
    else:
        word = {
            "promote": "PROMOTED",
            "canary": "CANARY",
            "rollback": "ROLLED BACK",
            "hold": "HELD",
            "resume": "RESUMED",
        }[event.action]
        came = event.came_from.tag if event.came_from else "nothing"
        said = {
            "promote": f"{where}: {came} -> {live}",
            "canary": f"{where}: {state.canary.tag if state.canary else ''} gets {event.percent}%, {live} the rest",
            "rollback": f"{where}: {event.bad.tag if event.bad else ''} -> {live}; {event.bad.tag if event.bad else ''} is marked bad",
            "hold": f"{where}: stays at {live} until it is resumed; rollbacks still work",
            "resume": f"{where}: at {live}, promotions are possible again",
        }[event.action]  # fmt: skip
        parts = [
            headline(word, "green", said),
            Text(
                f"event {event.seq:06} by {event.actor}, {'on ' + remote if done.published else 'in this clone only'}"
            ),
        ]
    if unsigned:
        parts.append(Text(UNSIGNED))
    if remote and not done.published:
        parts.append(next_line("promptops sync"))
    else:
        parts.append(next_line(command("promptops", "status", wanted.prompt)))
    return Group(*parts)


def done_json(done: Done, wanted: Wanted) -> dict[str, object]:
    return {
        "prompt": wanted.prompt, "channel": wanted.channel, "live": str(done.state.live or ""), "canary": str(done.state.canary or ""),
        "percent": done.state.percent, "held": done.state.held, "bad": [str(version) for version in sorted(done.state.bad)], "seq": done.state.seq,
        "published": done.published, "event": done.event.as_dict() if done.event else None,
    }  # fmt: skip


def render_synced(synced: Synced, remote: str) -> RenderableType:
    """What was exchanged; what lost is named one by one."""
    said = f"{count(len(synced.fetched), 'ref')} from {remote}, {count(len(synced.pushed), 'ref')} published"
    parts: list[RenderableType] = [headline("SYNCED", "green", said)]
    parts += [Text(f"dropped: {ref.removeprefix('refs/tags/')} (somebody else was faster)") for ref in synced.dropped]
    parts.append(next_line("promptops status"))
    return Group(*parts)


def status_json(status: Status) -> dict[str, object]:
    return {
        "channels": [row.as_dict() for row in status.rows], "latest": dict(status.latest), "remote": status.remote, "remote_checked": status.checked,
        "why_not_checked": status.why_not, "signers_of": status.branch, "unsigned": status.unsigned, "faults": list(status.faults),
        "strange_refs": list(status.strange),
    }  # fmt: skip
