"""How tables and numbers are written: a rate with its count, a difference with its interval, and no cell cut silently."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from promptops.report.show import escape

if TYPE_CHECKING:  # the gate loads numpy, and most tables are not about it
    from promptops.gate.stats import Interval

_GAP = 2
_WRAPS_FROM = 32


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    right: bool
    optional: bool


@dataclass(slots=True)
class _Row:
    cells: tuple[Text, ...]
    style: str
    end_section: bool


@dataclass(slots=True)
class Grid:
    """A plain table that fits: optional columns are left out from the right, and it says which.

    Text wraps from 32 characters on, numbers never. Where even that is too wide, each row becomes a block of lines.
    """

    columns: Sequence[_Column]
    show_header: bool = True
    rows: list[_Row] = field(default_factory=list)

    def add_row(self, *cells: str | Text, style: str = "", end_section: bool = False) -> None:
        texts = tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells)
        self.rows.append(_Row(texts, style, end_section))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = list(range(len(self.columns)))
        while self._needed(kept) > options.max_width:
            droppable = [index for index in kept if self.columns[index].optional]
            if not droppable:
                break
            kept.remove(droppable[-1])
        left_out = [column.title for index, column in enumerate(self.columns) if index not in kept]
        if self._needed(kept) > options.max_width:
            yield from self._blocks(kept)
        else:
            yield self._table(kept, options.max_width)
        if left_out:
            yield Text(f"left out for lack of room: {', '.join(left_out)}", style="dim")

    def _natural(self, index: int) -> int:
        cells = [row.cells[index] for row in self.rows]
        titles = [Text(self.columns[index].title)] if self.show_header else []
        return max((line.cell_len for cell in [*titles, *cells] for line in cell.split("\n")), default=0)

    def _least(self, index: int) -> int:
        natural = self._natural(index)
        return natural if self.columns[index].right else min(natural, _WRAPS_FROM)

    def _needed(self, kept: Sequence[int]) -> int:
        return sum(self._least(index) for index in kept) + _GAP * (len(kept) - 1)

    def _table(self, kept: Sequence[int], width: int) -> Table:
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True, header_style="bold",
                     show_header=self.show_header)  # fmt: skip
        spare = width - self._needed(kept)
        for index in kept:
            least = self._least(index)
            grown = min(spare, self._natural(index) - least)
            spare -= grown
            column = self.columns[index]
            made.add_column(
                column.title, justify="right" if column.right else "left", overflow="fold", width=least + grown
            )
        for row in self.rows:
            made.add_row(*(row.cells[index] for index in kept), style=row.style, end_section=row.end_section)
        return made

    def _blocks(self, kept: Sequence[int]) -> Iterator[Text]:
        for row in self.rows:
            first, *others = kept
            yield Text.assemble(row.cells[first], style=row.style or "bold")
            for index in others:
                yield Text.assemble(f"  {self.columns[index].title}: " if self.show_header else "  ", row.cells[index])


def table(*columns: str) -> Grid:
    """A table; `>` after a name aligns right, `?` lets the column go when the terminal is narrow."""
    return Grid([_Column(title=name.rstrip(">?"), right=">" in name, optional="?" in name) for name in columns])


def count(number: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(rate: float | None) -> str:
    """A rate in percent, without rounding up to 100 or down to 0 what is not."""
    if rate is None:
        return "-"
    shown = 100 * rate
    if 0 < shown < 0.1 or 99.9 < shown < 100:
        return "<0.1%" if shown < 1 else ">99.9%"
    return f"{shown:.1f}%" if 0 < shown < 0.95 or 99.05 < shown < 100 else f"{shown:.0f}%"


def percent_interval(interval: "Interval | None") -> str:
    return "-" if interval is None else f"{100 * interval.low:.0f}-{100 * interval.high:.0f}%"


def points(difference: float) -> str:
    """A difference of rates in percentage points."""
    return f"{100 * difference:+.1f}"


def points_interval(interval: "Interval") -> str:
    return f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def seconds(value: float) -> str:
    if value == 0:
        return "0"
    return "<1 ms" if value < 0.001 else f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def p_value(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0") if p < 0.9995 else "1"


def headline(word: str, style: str, text: str) -> Text:
    """The first line of a result: a verdict in colour and a sentence."""
    return Text.assemble((word, f"bold {style}"), "  ", escape(text))


def command(*words: str) -> str:
    """A command line that can be pasted into a shell whatever the names in it are."""
    return shlex.join(words)


def next_line(text: str) -> Text:
    """The last line of a result: what to run next."""
    return Text(f"next: {escape(text)}")
