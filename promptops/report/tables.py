"""How numbers are written in every table: a rate with its count, a difference with its interval."""

from rich import box
from rich.table import Table
from rich.text import Text

from promptops.gate.stats import Interval


def table(*columns: str) -> Table:
    """A plain table; names that end in `>` are aligned right."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        right = column.endswith(">")
        made.add_column(column.removesuffix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return made


def percent(rate: float | None) -> str:
    """A rate in percent, without rounding up to 100 or down to 0 what is not."""
    if rate is None:
        return "-"
    shown = 100 * rate
    return f"{shown:.1f}%" if 0 < shown < 0.95 or 99.05 < shown < 100 else f"{shown:.0f}%"


def percent_interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{100 * interval.low:.0f}-{100 * interval.high:.0f}%"


def points(difference: float) -> str:
    """A difference of rates in percentage points."""
    return f"{100 * difference:+.1f}"


def points_interval(interval: Interval) -> str:
    return f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def seconds(value: float) -> str:
    if value == 0:
        return "0"
    return "<1 ms" if value < 0.001 else f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def p_value(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0") if p < 1 else "1"


def headline(word: str, style: str, text: str) -> Text:
    """The first line of a result: a verdict in colour and a sentence."""
    return Text.assemble((word, f"bold {style}"), "  ", text)
