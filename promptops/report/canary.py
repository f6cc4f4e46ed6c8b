"""A canary on a terminal and as JSON: the decision, each rate on both sides, and the command that would follow."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.audit.canary import Canary, Row, Side
from promptops.report.show import show
from promptops.report.tables import headline, next_line, percent, points, table

_STYLE: Mapping[str, str] = {"abort": "red", "promote": "green", "wait": "yellow"}


def render_canary(found: Canary, then: str) -> RenderableType:
    """`then` is the command that follows."""
    worse = [row for row in found.rows if row.verdict == "worse"]
    open_rows = [row for row in found.rows if row.verdict == "not known yet"]
    why = {
        "abort": "; ".join(f"more {row.means}" for row in worse),
        "promote": "no rate is worse by more than its tolerance",
        "wait": f"not known yet: {', '.join(row.metric for row in open_rows)}",
    }[found.decision]
    grid = table("rate", "control>", "n>", "canary>", "n>", "points>", "95% at every look>", "tolerance>", "verdict")
    for row in found.rows:
        grid.add_row(row.metric, percent(row.control.rate), str(row.control.n), percent(row.canary.rate), str(row.canary.n),
                     points((row.canary.rate or 0) - (row.control.rate or 0)), f"[{100 * row.low:+.1f}, {100 * row.high:+.1f}]", points(row.tolerance), row.verdict)  # fmt: skip
    parts: list[RenderableType] = [
        headline(found.decision.upper(), _STYLE[found.decision], f"{found.prompt}: {found.canary} beside {found.control}, {found.buckets[0]} to {found.buckets[1]}: {why}"),
        Text(""), grid,
    ]  # fmt: skip
    if found.unseen:
        parts.append(show(f"nothing to see of: {', '.join(found.unseen)}", "dim"))
    parts.append(next_line(then))
    return Group(*parts)


def canary_json(found: Canary, then: str) -> dict[str, Any]:
    """Stable keys; rates and differences in 0..1."""
    return {
        "prompt": found.prompt, "control": found.control, "canary": found.canary, "from": found.buckets[0], "to": found.buckets[1],
        "decision": found.decision, "rows": [_row(row) for row in found.rows], "unseen": list(found.unseen), "next": then,
    }  # fmt: skip


def _row(row: Row) -> dict[str, Any]:
    return {"metric": row.metric, "control": _side(row.control), "canary": _side(row.canary), "low": row.low, "high": row.high,
            "tolerance": row.tolerance, "verdict": row.verdict}  # fmt: skip


def _side(side: Side) -> dict[str, Any]:
    return {"hits": side.hits, "n": side.n, "rate": side.rate}
