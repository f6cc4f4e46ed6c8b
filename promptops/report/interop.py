"""What became of each part of a foreign file, on the terminal and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.project.interop.losses import Fate, counts
from promptops.report.show import escape, show
from promptops.report.tables import count, next_line, table

_STYLE = {"lost": "red", "changed": "yellow"}
_SHOWN = 40


def render_import(word: str, what: str, fates: Sequence[Fate], files: Sequence[str], following: str) -> RenderableType:
    """What was made, how much was kept, and every part that changed or was lost, with its place and why."""
    found = counts(fates)
    head = f"{what}: {count(found['kept'], 'part')} kept, {found['changed']} changed, {found['lost']} lost"
    parts: list[RenderableType] = [
        Text.assemble((word, "bold green" if not found["lost"] else "bold yellow"), "  ", escape(head))
    ]
    parts += [Text(f"  {escape(name)}") for name in files]
    told = merged(fates)
    if told:
        grid = table("", "where", "what", "why")
        for fate, places in told[:_SHOWN]:
            why = f"{fate.why}; {fate.hint}" if fate.hint else fate.why
            where = fate.where if places == 1 else f"{fate.where} and {places - 1} more"
            grid.add_row(Text(fate.status, style=_STYLE[fate.status]), show(where), show(fate.what), show(why))
        parts += [Text(""), grid]
        if len(told) > _SHOWN:
            parts.append(Text(f"and {len(told) - _SHOWN} more; --json lists all of them", style="dim"))
    return Group(*parts, Text(""), next_line(following))


def merged(fates: Sequence[Fate]) -> list[tuple[Fate, int]]:
    """What was lost, then what changed; equal fates of several places are told once, with their number."""
    groups: dict[tuple[str, str, str], list[Fate]] = {}
    for fate in fates:
        if fate.status != "kept":
            groups.setdefault((fate.status, fate.what, fate.why), []).append(fate)
    told = [(group[0], len({fate.where for fate in group})) for group in groups.values()]
    return sorted(told, key=lambda item: item[0].status != "lost")


def import_json(fates: Sequence[Fate], files: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, "files": list(files), "counts": counts(fates), "parts": [fate.as_dict() for fate in fates]}
