"""Does a model beat something simpler: on the terminal, as Markdown, as a page and as JSON."""

from collections.abc import Iterator
from math import ceil
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.checks.base import brief
from promptops.core.money import format_usd
from promptops.core.version import __version__
from promptops.evaluation.alternatives import Alternatives, Choice, Measured, Rivalry, RowAdvice
from promptops.evaluation.summary import Row
from promptops.report.html import asset, environment, policy
from promptops.report.markdown import cell
from promptops.report.show import escape, show
from promptops.report.tables import (
    command,
    count,
    headline,
    next_line,
    percent,
    percent_interval,
    points,
    points_interval,
    seconds,
    table,
)
from promptops.report.weighted import weighted_json

_WORD: dict[Choice, tuple[str, str, str]] = {
    "simple": ("SIMPLER", "green", "good"), "model": ("MODEL", "red", "bad"), "unclear": ("TOO FEW CASES", "yellow", "warn"),
}  # fmt: skip
_STYLE = {"use the simpler one": "green", "use the model": "yellow", "use both": "green", "too few cases to tell": "yellow",
          "no model measured": "yellow", "nothing to compare": "yellow"}  # fmt: skip


def render_alternatives(found: Alternatives, *, requests_per_day: int) -> RenderableType:
    """The advice first, then every way to answer, then row by row against each model, then the questions behind it."""
    parts: list[RenderableType] = [
        headline(found.advice.upper(), _STYLE[found.advice], advice_sentence(found)),
        _measured(found, requests_per_day),
    ]
    skipped = [item for item in found.measured if item.why_not]
    parts += [show(f"not tried: {item.name}, {item.why_not}", style="dim") for item in skipped]
    for rivalry in found.rivalries:
        parts += [
            Text(""),
            show(f"{rivalry.simple.name} against {rivalry.model.name}: {rivalry.advice}", style="bold"),
            _rows(rivalry),
        ]
        parts += [show(line) for line in _in_words(rivalry, requests_per_day)]
    parts += [Text(""), Text("how the decision was made", style="bold")]
    for node in found.nodes:
        parts.append(show(f"{'yes' if node.answer else 'no '}  {node.question} {node.fact}; {node.then}"))
    return Group(*parts, Text(""), *map(next_line, _next(found)))


def advice_sentence(found: Alternatives) -> str:
    simple = found.simple
    if not simple:
        return f"{found.prompt}: nothing simple applies; see below why"
    best = f"{simple[0].name} passes {percent(simple[0].rate)} of {found.cases} cases for nothing"
    if not found.rivalries:
        return f"{found.prompt}: {best}; what a model would add is not known until one is measured"
    rivalry = found.rivalries[0]
    total = rivalry.comparison.total
    return (f"{found.prompt}: {rivalry.model.name} passes {percent(rivalry.model.rate)}, {best}: {points(total.difference)} points "
            f"{points_interval(total.interval)}")  # fmt: skip


def _measured(found: Alternatives, requests_per_day: int) -> RenderableType:
    grid = table("", "passed>", "rate>", "95% interval>", "cost of 1,000>", "a month>", "p99>?")
    for item in (*found.simple, *(item for item in found.measured if not item.simple)):
        grid.add_row(*_measured_cells(item, requests_per_day))
    return grid


def _measured_cells(item: Measured, requests_per_day: int) -> tuple[str | Text, ...]:
    assert item.summary
    total = item.summary.total
    return (show(item.name), f"{total.passed}/{total.scored}", percent(total.rate), percent_interval(total.interval),
            format_usd(item.thousand_nanousd), format_usd(item.month_nanousd(requests_per_day)), seconds(total.p99_s))  # fmt: skip


_COLUMNS = (
    "n",
    "model",
    "model 95%",
    "model 1,000",
    "model p99",
    "simple",
    "simple 95%",
    "simple p99",
    "points",
    "95% interval",
    "needs about",
)
_MUST = frozenset(("n", "model", "simple", "points", "95% interval", "needs about"))


def _rows(rivalry: Rivalry) -> RenderableType:
    grid = table("", "better", *(f"{name}>" if name in _MUST else f"{name}>?" for name in _COLUMNS))
    for row in rivalry.rows:
        word, style, _ = _WORD[row.choice]
        grid.add_row(show(row.verdict.category), Text(word, style=style), *_row_cells(rivalry, row))
    return grid


def _row_cells(rivalry: Rivalry, row: RowAdvice) -> tuple[str, ...]:
    """The cells of `_COLUMNS`: both sides of a category or slice, and the difference."""
    verdict = row.verdict
    model, simple = (side.row(verdict.category) for side in (rivalry.model, rivalry.simple))
    return (str(verdict.n), percent(verdict.baseline_rate), percent_interval(model.interval if model else None), format_usd(_thousand(model)),
            seconds(model.p99_s) if model else "-", percent(verdict.candidate_rate), percent_interval(simple.interval if simple else None),
            seconds(simple.p99_s) if simple else "-", points(verdict.difference), points_interval(verdict.interval),
            f"{row.needed} cases" if row.needed else "")  # fmt: skip


def _thousand(row: Row | None) -> int:
    """What 1,000 answers of a row cost in its run."""
    return ceil(1000 * row.cost_nanousd / (row.scored + row.unscored)) if row and row.scored + row.unscored else 0


def _in_words(rivalry: Rivalry, requests_per_day: int) -> Iterator[str]:
    """A sentence a person can act on."""
    by_choice = {
        choice: [
            row.verdict.category for row in rivalry.rows if row.choice == choice and "=" not in row.verdict.category
        ]
        for choice in _WORD
    }
    if by_choice["simple"]:
        yield f"{rivalry.simple.name} loses at most the tolerance in: {', '.join(by_choice['simple'])}"
    if by_choice["model"]:
        yield f"{rivalry.model.name} is better in: {', '.join(by_choice['model'])}"
    if by_choice["unclear"]:
        needed = max(row.needed for row in rivalry.rows if row.verdict.category in by_choice["unclear"])
        yield f"too few cases to tell in: {', '.join(by_choice['unclear'])}; up to {needed} cases a category would"
    yield from _by_traffic(rivalry)
    if rivalry.mixed:
        month = rivalry.model.month_nanousd(requests_per_day)
        saved = month - ceil((1 - rivalry.simple_share) * month)
        yield (f"each category to what suffices: {percent(rivalry.mixed.candidate_rate)} against {percent(rivalry.mixed.baseline_rate)} of the model alone "
               f"({points(rivalry.mixed.difference)} points {points_interval(rivalry.mixed.interval)}), {percent(rivalry.simple_share)} of these requests without the model, "
               f"{format_usd(saved)} a month less")  # fmt: skip


def _by_traffic(rivalry: Rivalry) -> Iterator[str]:
    """The same difference with categories counted by the suite's weights."""
    weighted = rivalry.comparison.weighted
    if weighted:
        yield (f"counted by traffic: {percent(weighted.candidate_rate)} against {percent(weighted.baseline_rate)} of the model "
               f"({points(weighted.difference)} points {points_interval(weighted.interval)})")  # fmt: skip


def _next(found: Alternatives) -> Iterator[str]:
    if not found.rivalries:
        yield command("promptops", "eval", found.prompt, "--model", "MODEL", "--dry-run")
        return
    if any(row.choice == "unclear" for row in found.rivalries[0].rows):
        yield command("promptops", "golden", "stats", found.prompt)
    else:
        yield command("promptops", "view", found.simple[0].summary.run.id if found.simple[0].summary else "latest")


def alternatives_json(found: Alternatives, *, requests_per_day: int) -> dict[str, Any]:
    """Rates in 0..1, money in nano-dollars."""
    return {
        "prompt": found.prompt, "advice": found.advice, "cases": found.cases, "trained_on": found.trained_on, "requests_per_day": requests_per_day,
        "measured": [_measured_json(item, requests_per_day) for item in found.measured],
        "rivalries": [_rivalry_json(item) for item in found.rivalries],
        "nodes": [{"question": node.question, "answer": node.answer, "fact": node.fact, "then": node.then, "otherwise": node.otherwise} for node in found.nodes],
    }  # fmt: skip


def _measured_json(item: Measured, requests_per_day: int) -> dict[str, Any]:
    total = item.summary.total if item.summary else None
    return {
        "name": item.name, "simple": item.simple, "why_not": item.why_not, "run": item.summary.run.id if item.summary else "",
        "passed": total.passed if total else None, "n": total.scored if total else None, "rate": total.rate if total else None,
        "thousand_nanousd": item.thousand_nanousd, "month_nanousd": item.month_nanousd(requests_per_day), "p99_s": total.p99_s if total else None,
    }  # fmt: skip


def _rivalry_json(item: Rivalry) -> dict[str, Any]:
    return {
        "model": item.model.name, "simple": item.simple.name, "advice": item.advice, "simple_share": item.simple_share,
        "weighted": weighted_json(item.model.summary.run.header.weights if item.model.summary else {}, item.comparison.weighted), "rows": [_row_json(item, row) for row in item.rows],
        "mixed": {"rate": item.mixed.candidate_rate, "difference": item.mixed.difference, "interval": [item.mixed.interval.low, item.mixed.interval.high]} if item.mixed else None,
    }  # fmt: skip


def _row_json(rivalry: Rivalry, row: RowAdvice) -> dict[str, Any]:
    verdict = row.verdict
    return {"name": verdict.category, "choice": row.choice, "n": verdict.n, "model": verdict.baseline_rate, "simple": verdict.candidate_rate,
            "difference": verdict.difference, "interval": [verdict.interval.low, verdict.interval.high], "needed": row.needed,
            "sides": {name: _side_json(side.row(verdict.category)) for name, side in (("model", rivalry.model), ("simple", rivalry.simple))}}  # fmt: skip


def _side_json(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    interval = row.interval
    return {"interval": [interval.low, interval.high] if interval else None, "thousand_nanousd": _thousand(row), "p50_s": row.p50_s, "p99_s": row.p99_s}  # fmt: skip


def alternatives_markdown(found: Alternatives, *, requests_per_day: int) -> str:
    """The same for a page or a decision record, with the decision as a list."""
    lines = [
        f"**{found.advice}** {cell(advice_sentence(found))}",
        "",
        "| | passed | rate | 95% interval | cost of 1,000 | a month | p99 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        "| " + " | ".join(cell(str(value)) for value in _measured_cells(item, requests_per_day)) + " |"
        for item in (*found.simple, *(item for item in found.measured if not item.simple))
    ]
    for rivalry in found.rivalries:
        lines += [
            "",
            f"{cell(rivalry.simple.name)} against {cell(rivalry.model.name)}: **{rivalry.advice}**",
            "",
            f"| | better | {' | '.join(_COLUMNS)} |",
            "|---|---|" + "--:|" * len(_COLUMNS),
        ]
        for row in rivalry.rows:
            values = (row.verdict.category, _WORD[row.choice][0].lower(), *_row_cells(rivalry, row))
            lines.append("| " + " | ".join(map(cell, values)) + " |")
        lines += [f"\n{cell(line)}" for line in _in_words(rivalry, requests_per_day)]
    lines += ["", *_tree(found), ""]
    lines += [f"{place}. {cell(node.question)} **{_answer(node.answer)}**: {cell(node.fact)}; {cell(node.then)}" for place, node in enumerate(found.nodes, 1)]  # fmt: skip
    return "\n".join(lines) + "\n"


def _tree(found: Alternatives) -> Iterator[str]:
    """The decision as a picture that Markdown renderers draw: the way taken down the middle, what the other answers would mean beside it."""
    yield from ("```mermaid", "flowchart TD")
    for place, node in enumerate(found.nodes):
        yield f'  q{place}{{{{"{_label(node.question)}<br/>{_label(node.fact)}"}}}}'
        last = place == len(found.nodes) - 1
        target = "advice" if last else f"q{place + 1}"
        yield f'  q{place} ==>|"{_answer(node.answer)}: {_label(node.then)}"| {target}'
        yield f'  q{place} -.->|"{_answer(not node.answer)}"| o{place}["{_label(node.otherwise)}"]'
    yield from (f'  advice(["{_label(found.advice)}"])', "```")


def _label(text: str) -> str:
    """Text that ends neither a label nor its block."""
    safe = brief(escape(text), 300).translate(str.maketrans("[];", "(),"))
    return "".join(character if character.isalnum() or character in " .,:%+-?=/_()" else " " for character in safe)


def _answer(yes: bool) -> str:  # noqa: FBT001 - yes or no is what it writes
    return "yes" if yes else "no"


def alternatives_page(found: Alternatives, *, requests_per_day: int) -> str:
    """One file without scripts, with the decision as a picture."""
    css = asset("report.css")
    text: str = environment().render_template(
        "alternatives.html",
        title=f"{found.prompt}: alternatives", css=css, csp=policy(css), advice=found.advice, headline=advice_sentence(found), prompt=found.prompt,
        tone={"green": "good", "yellow": "warn"}[_STYLE[found.advice]],
        measured=[[str(value) for value in _measured_cells(item, requests_per_day)] for item in (*found.simple, *(item for item in found.measured if not item.simple))],
        skipped=[f"{item.name}: {item.why_not}" for item in found.measured if item.why_not],
        nodes=[{"question": node.question, "answer": _answer(node.answer), "fact": node.fact, "then": node.then, "otherwise": node.otherwise, "other": _answer(not node.answer), "tone": "good" if node.answer else "warn"} for node in found.nodes],
        rivalries=[_rivalry_view(item, requests_per_day) for item in found.rivalries], footer=f"promptops {__version__}, {count(found.cases, 'golden case')}, {requests_per_day} requests a day",
    )  # fmt: skip
    return text


def _rivalry_view(item: Rivalry, requests_per_day: int) -> dict[str, Any]:
    rows = [{"name": row.verdict.category, "word": _WORD[row.choice][0].lower(), "tone": _WORD[row.choice][2],
             "cells": list(_row_cells(item, row))} for row in item.rows]  # fmt: skip
    return {
        "title": f"{item.simple.name} against {item.model.name}: {item.advice}",
        "rows": rows,
        "sentences": list(_in_words(item, requests_per_day)),
        "columns": _COLUMNS,
    }
