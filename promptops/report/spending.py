"""What a prompt costs: the bill of a month by stage, what it rests on and what would move it, on the terminal and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.bill import DAYS, Assumption, Bill
from promptops.core.money import format_usd
from promptops.release.spending import REQUESTS, Month, Spending
from promptops.report.show import show
from promptops.report.tables import headline, next_line, percent, table

_FREE = "costs nothing; shares of model calls are shown instead of money"


def render_spending(found: Spending, name: str) -> RenderableType:
    """The bill first, then what it rests on, what would move it, and 1,000 requests with what is proven."""
    month = found.month
    if found.priced:
        first = (f"{name}: {format_usd(month.general.nanousd)} a month at {month.per_day:,} requests a day to {found.model}; "
                 f"{format_usd(month.pilot.nanousd)} in a pilot of {month.pilot_per_day:,} a day")  # fmt: skip
    else:
        first = f"{name}: {found.model} {_FREE}"
    parts: list[RenderableType] = [headline("COST", "green", first), _stages(found), Text(""), _assumptions(month)]
    if found.priced and month.swings:
        parts += [Text(""), _swings(month)]
    parts += [Text(""), _proven(found)]
    parts.extend(show(f"note: {note}") for note in found.notes)
    parts.append(next_line(found.following))
    return Group(*parts)


def _stages(found: Spending) -> RenderableType:
    month = found.month
    alone = all(stage.name != "small model" for stage in month.general.stages)
    grid = table(
        f"{DAYS} days", f"{month.per_day:,} a day>", "cost>", f"pilot, {month.pilot_per_day:,} a day>", "cost>"
    )
    pilot = {stage.name: stage for stage in month.pilot.stages}
    for position, stage in enumerate(month.general.stages):
        small = pilot[stage.name]
        what = found.model if alone and stage.name == "large model" else stage.name
        grid.add_row(show(what), f"{stage.calls:,}", format_usd(stage.nanousd), f"{small.calls:,}", format_usd(small.nanousd),
                     end_section=position == len(month.general.stages) - 1)  # fmt: skip
    sides = [
        cell
        for bill in (month.general, month.pilot)
        for cell in (f"{bill.requests:,} requests", format_usd(bill.nanousd))
    ]
    grid.add_row("together", *sides, style="bold")
    return grid


def _assumptions(month: Month) -> RenderableType:
    grid = table("it rests on", "value>", "could be>", "source", "where from", "key")
    for item in month.assumptions:
        could = "-" if item.low == item.high else f"{written(item, item.low)} to {written(item, item.high)}"
        grid.add_row(show(item.what), written(item, item.value), could, item.source, show(item.where), item.key)
    return grid


def written(item: Assumption, value: float) -> str:
    """A value of an assumption with its unit."""
    if item.unit == "share":
        return percent(value)
    if item.unit == "nano-dollars":
        return format_usd(-int(-value // 1))
    return f"x{value:g}" if item.unit == "times" else f"{value:,.1f}"


def _swings(month: Month) -> RenderableType:
    grid = table("what moves the bill", "low to high>", "at low>", "as it is>", "at high>", "swing>")
    for swing in month.swings:
        item = swing.assumption
        grid.add_row(show(item.what), f"{written(item, item.low)} to {written(item, item.high)}", format_usd(swing.low_nanousd), format_usd(month.general.nanousd),
                     format_usd(swing.high_nanousd), format_usd(swing.nanousd))  # fmt: skip
    return grid


def _proven(found: Spending) -> RenderableType:
    grid = table(f"{REQUESTS:,} requests", "large calls>", "small calls>", "cost>", "saved>", "measured on")
    for row in found.rows:
        cost = format_usd(row.nanousd) if found.priced else "-"
        grid.add_row(row.what, f"{row.large_calls:.0f}", f"{row.small_calls:.0f}", cost, percent(row.saved), show(row.measured))  # fmt: skip
    return grid


def spending_json(found: Spending) -> dict[str, Any]:
    """Money in nano-dollars, shares in 0..1."""
    month = found.month
    return {
        "model": found.model, "priced": found.priced, "rows": [asdict(row) for row in found.rows],
        "month": {
            "days": DAYS, "requests_per_day": month.per_day, "pilot_per_day": month.pilot_per_day, "general": bill_json(month.general), "pilot": bill_json(month.pilot),
            "assumptions": [asdict(item) for item in month.assumptions],
            "sensitivity": [{"key": swing.assumption.key, "low": swing.assumption.low, "high": swing.assumption.high, "low_nanousd": swing.low_nanousd,
                             "base_nanousd": month.general.nanousd, "high_nanousd": swing.high_nanousd, "swing_nanousd": swing.nanousd} for swing in month.swings],
        },
        "notes": list(found.notes), "following": found.following,
    }  # fmt: skip


def bill_json(bill: Bill) -> dict[str, Any]:
    return {"requests": bill.requests, "nanousd": bill.nanousd, "stages": [asdict(stage) for stage in bill.stages]}
