"""Golden sets on the terminal and as JSON: what an import did, and whether a set is enough."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.evaluation.golden_stats import ASSUMED_RATE, MINIMUMS, GoldenStats, SizeRow
from promptops.evaluation.near_duplicates import MAX_CHARS, THRESHOLD
from promptops.project.golden_import import Imported
from promptops.report.show import show
from promptops.report.tables import command, count, headline, next_line, percent, table

_SHOWN = 10


def render_imported(found: Imported, name: str, file: str, *, written: bool) -> RenderableType:
    parts = [f"{found.added} added", f"{found.changed} changed", f"{found.unchanged} as they were"] + (
        [f"{found.removed} removed"] if found.removed else []
    )
    lines: list[RenderableType] = [
        headline("IMPORTED" if written else "WOULD IMPORT", "green", f"{found.path}: {', '.join(parts)}; {count(found.total, 'case')}")
    ]  # fmt: skip
    if found.left:
        lines.append(Text("the set as it is now does not lint:", style="yellow"))
        lines += [show(f"  {problem}") for problem in found.left[:_SHOWN]]
    following = ("lint", name) if found.left else ("golden", "stats", name)
    again = ("golden", "import", name, file)
    return Group(*lines, next_line(command("promptops", *(following if written else again))))


def imported_json(found: Imported, *, written: bool) -> dict[str, Any]:
    return {
        "path": found.path, "written": written, "added": found.added, "changed": found.changed, "unchanged": found.unchanged,
        "removed": found.removed, "total": found.total, "problems": [problem.as_dict() for problem in found.left],
    }  # fmt: skip


def render_stats(found: GoldenStats, *, trained_on: int) -> RenderableType:
    """The answer first: what the set is big enough for and what is wrong with it; then the evidence."""
    wrong = list(_findings(found))
    word, style = (
        ("ENOUGH", "green")
        if found.total.level != "too few" and not wrong and not _blind(found)
        else ("LOOK", "yellow")
    )
    parts: list[RenderableType] = [
        headline(word, style, _sentence(found)),
        _size_table(found),
        *map(show, _size_notes(found)),
    ]
    for title, lines in _details(found):
        parts += [Text(""), Text(title, style="bold"), *(show(line) for line in lines)]
    parts += [Text(""), *(show(line, style="yellow") for line in wrong)]
    parts += [show(line, style="dim") for line in _how(found, trained_on)]
    return Group(
        *parts, Text(""), next_line(command("promptops", "golden", "coverage", found.prompt, "--traffic", "LOG.jsonl"))
    )


def _sentence(found: GoldenStats) -> str:
    level = found.total.level
    fit = {"too few": f"fewer than the {MINIMUMS[0][1]} of a narrow task", "narrow": "enough for a narrow task", "production": "enough for production",
           "multi-purpose": "enough for a prompt of several purposes"}[level]  # fmt: skip
    return f"{found.prompt}: {count(found.total.cases, 'case')}, {fit} ({', '.join(f'{least} {name}' for name, least in MINIMUMS)})"


def _size_table(found: GoldenStats) -> RenderableType:
    grid = table("", "cases>", "enough for", "gate sees a drop of>", "tolerance>?", "twins>?", "anything solves>?")
    groups = [found.categories, found.slices]
    for rows in groups:
        for place, row in enumerate(rows):
            blind = row.detectable is None or row.detectable > found.tolerance[row.name]
            grid.add_row(*_size_cells(row, percent(found.tolerance[row.name])), style="yellow" if blind else "", end_section=place == len(rows) - 1)  # fmt: skip
    grid.add_row(*_size_cells(found.total, ""), style="bold")
    return grid


def _size_cells(row: SizeRow, tolerance: str) -> tuple[str | Text, ...]:
    seen = "no drop" if row.detectable is None else f"{100 * row.detectable:.0f} points"
    level = "too few" if row.level == "too few" else row.level
    return show(row.name), str(row.cases), level, seen, tolerance, str(row.twins or "-"), str(row.trivial or "-")


def _size_notes(found: GoldenStats) -> Iterator[str]:
    blind = _blind(found)
    if blind:
        shown = ", ".join(blind[:_SHOWN]) + (f" and {len(blind) - _SHOWN} more" if len(blind) > _SHOWN else "")
        needed = [row.needed for row in found.categories if row.name in blind]
        most = max((number for number in needed if number), default=0)
        enough = f"; about {most} cases in each would let it be seen" if most and None not in needed else "; not with 2000 cases either, so accept a larger one"  # fmt: skip
        yield f"a drop as large as the tolerance would not be seen in 80 % of comparisons in: {shown}{enough}"


def _blind(found: GoldenStats) -> list[str]:
    """Categories in which the gate would miss a drop as large as the tolerance."""
    return [
        row.name for row in found.categories if row.detectable is None or row.detectable > found.tolerance[row.name]
    ]


def _findings(found: GoldenStats) -> Iterator[str]:
    if found.leaks:
        yield f"{count(len({leak.case for leak in found.leaks}), 'case')} known from examples or training rows: remove them on one side"
    if found.twins:
        yield f"{count(len({case for pair in found.twins for case in (pair.first, pair.second)}), 'case')} with a twin: one mistake counts twice; reword, or give them one `group`"
    if found.labels.suspects:
        yield f"{count(len({item.id for item in found.labels.suspects}), 'case')} with a label to read again"
    if found.tried and len(found.trivial) > found.tried // 2:
        yield f"{percent(len(found.trivial) / found.tried)} of the cases are passed by every simple answer: they show no difference between models"


def _details(found: GoldenStats) -> Iterator[tuple[str, list[str]]]:
    if found.leaks:
        yield (
            "leaks",
            _first(
                [
                    f"{leak.similarity:.2f}  {leak.case} is {'' if leak.similarity == 1 else 'nearly '}{leak.other}"
                    for leak in found.leaks
                ]
            ),
        )
    if found.twins:
        yield "near-duplicates", _first([f"{pair.similarity:.2f}  {pair.first}  {pair.second}" for pair in found.twins])
    if found.labels.suspects:
        yield "labels to read again, surest first", _first(
            [f"{item.id}: {item.field} says {item.label}, similar cases say {item.suggested} ({item.margin:.2f} surer)" for item in found.labels.suspects]
        )  # fmt: skip
    if found.solved or found.not_tried:
        lines = [
            f"local:{name} passes {number}/{found.tried} ({percent(number / found.tried)})"
            for name, number in found.solved.items()
        ]
        lines += [f"local:{name} not tried: {why}" for name, why in found.not_tried.items()]
        yield "simple answers, each predicted from the other cases", lines


def _first(lines: list[str]) -> list[str]:
    return lines[:_SHOWN] + (
        [f"and {len(lines) - _SHOWN} more (all of them with --json)"] if len(lines) > _SHOWN else []
    )


def _how(found: GoldenStats, trained_on: int) -> Iterator[str]:
    yield f"drops: at a pass rate of {percent(ASSUMED_RATE)}, in 80 % of comparisons, all rows judged together"
    yield (
        f"twins and leaks: more than {THRESHOLD:g} of the 5-letter groups in common (Jaccard)"
        + (f"; {found.cut} texts compared by their first {MAX_CHARS} characters" if found.cut else "")
        + (f"; {trained_on} training rows" if trained_on else "")
    )
    yield from (
        f"labels of {name}: models that did not see the case agree with {percent(rate)}"
        for name, rate in found.labels.accuracy.items()
    )
    yield from (f"labels of {name} not looked at: {why}" for name, why in found.labels.skipped.items())
    if found.tried < found.total.cases:
        yield f"simple answers: on {found.tried} cases at random"


def stats_json(found: GoldenStats, *, trained_on: int) -> dict[str, Any]:
    """Rates and drops in 0..1."""

    def size(row: SizeRow) -> dict[str, Any]:
        return {**asdict(row), "level": row.level, "tolerance": found.tolerance.get(row.name)}

    return {
        "prompt": found.prompt, "total": size(found.total), "categories": [size(row) for row in found.categories], "slices": [size(row) for row in found.slices],
        "minimums": dict(MINIMUMS), "assumed_rate": ASSUMED_RATE, "twins": [asdict(pair) for pair in found.twins], "leaks": [asdict(leak) for leak in found.leaks],
        "labels": {"accuracy": dict(found.labels.accuracy), "skipped": dict(found.labels.skipped), "suspects": [asdict(item) for item in found.labels.suspects]},
        "simple": {"tried": found.tried, "passed": dict(found.solved), "not_tried": dict(found.not_tried), "trivial": list(found.trivial)},
        "compared_in_part": found.cut, "training_rows": trained_on,
    }  # fmt: skip
