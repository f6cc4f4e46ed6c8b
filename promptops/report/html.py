"""Evaluations as one HTML page that needs nothing else: no network, no file beside it, and no text of a model is ever markup."""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import log10
from typing import Any

from promptops.core.digest import short
from promptops.core.jsontext import Json, readable
from promptops.core.money import format_usd
from promptops.core.suite import JUDGE, is_judged
from promptops.core.version import __version__
from promptops.evaluation.casebook import CaseRecord, Evaluation, Side
from promptops.evaluation.summary import Row
from promptops.gate import CategoryVerdict, Verdict
from promptops.report.comparison import method_lines, sentence, verdict_line
from promptops.report.run import judge_notices, run_line, run_name
from promptops.report.tables import command, p_value, percent, percent_interval, points, points_interval, seconds
from promptops.report.weighted import BY_TRAFFIC, weights_line

MAX_BYTES = 20_000_000
"""Of texts in a page; longer ones are cut evenly, and the page says so."""
_MAX_TEXT = 100_000
_WIDTH = 216
_BINS = 28
_TONE = {Verdict.REGRESSED: "bad", Verdict.CASES_BROKE: "warn", Verdict.BASELINE_DRIFTED: "warn", Verdict.INCONCLUSIVE: "warn",
         Verdict.PASS: "plain", Verdict.IMPROVED: "good"}  # fmt: skip
_STYLE_TONE = {"red": "bad", "green": "good", "yellow": "warn"}
_RESULT = {True: "pass", False: "fail", None: "unscored"}


def page(evaluations: Sequence[Evaluation]) -> str:
    """The whole page. Its scripts and styles are named by digest in its content policy; anything else is refused by the browser."""
    css, script = asset("report.css"), asset("report.js")
    longest = _longest_text(evaluations)
    cases = [_case(index, case, longest) for index, item in enumerate(evaluations) for case in item.cases]
    names = [run_name(item.run) for item in evaluations]
    cut = (
        ""
        if longest == _MAX_TEXT
        else f"Texts are cut at {longest} characters; `promptops view RUN --case ID` shows all."
    )
    text: str = environment().render_template(
        "report.html",
        title=f"{', '.join(dict.fromkeys(names))}: evaluation report", css=css, script=script, csp=policy(css, script),
        evaluations=[_view(index, item) for index, item in enumerate(evaluations)], cut=cut,
        data=_embedded({"names": names, "cases": cases}), footer=_footer(evaluations),
    )  # fmt: skip
    return text


@cache
def asset(name: str) -> str:
    """A file of the page."""
    return files("promptops.report").joinpath("page", name).read_text("utf-8")


@cache
def environment() -> Any:
    """Values are escaped: the template's name ends in .html."""
    from minijinja import Environment

    return Environment(
        templates={
            name: asset(name)
            for name in (
                "base.html",
                "report.html",
                "trend.html",
                "alternatives.html",
                "monitor.html",
                "coverage.html",
                "readiness.html",
            )
        }
    )


def policy(css: str, script: str = "") -> str:
    """A content policy for one style and at most one script, both named by digest."""
    style, code = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, script))
    scripts = f"script-src 'sha256-{code}'; " if script else ""
    return f"default-src 'none'; style-src 'sha256-{style}'; {scripts}base-uri 'none'; form-action 'none'"


def _embedded(value: Any) -> str:
    """JSON that cannot end its script element, whatever is in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character, code in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(character, code)
    return text.encode("utf-8", "backslashreplace").decode()


def _footer(evaluations: Sequence[Evaluation]) -> str:
    runs = "; ".join(
        f"run {item.run.id}, subject {short(item.run.header.subject)}, commit {item.run.header.commit[:12] or '-'}"
        for item in evaluations
    )
    return f"promptops {__version__}; {runs}"


# The head of an evaluation


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of the table of rows: a figure, a word with a tone, or a plot."""

    text: str = ""
    number: bool = True
    word: str = ""
    plot: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"text": self.text, "number": self.number, "word": self.word, "plot": self.plot}


def _view(index: int, item: Evaluation) -> dict[str, Any]:
    found, summary = item.comparison, item.summary
    word, style, headline = verdict_line(found) if found and item.evaluated else run_line(summary)
    if item.weaker:
        word, style = "FAIL", "red"
    return {
        "id": f"evaluation-{index}", "name": run_name(item.run), "word": word, "tone": _STYLE_TONE[style], "headline": headline,
        "sentences": list(_sentences(item)), "facts": list(_facts(item)), "compared": found is not None,
        "has_floor": any(row.floor is not None for row in (*summary.categories, *summary.slices)),
        "columns": _COMPARED if found else _ALONE, "rows": list(_compared_rows(item) if found else _alone_rows(item)),
        "scatter": list(_scatter(item)), "histograms": list(_histograms(item)),
        "checks": [{"name": check.name, "passed": check.passed, "failed": check.failed, "unscored": check.unscored} for check in summary.checks],
        "method": _method(item), "reproduce": _reproduce(item),
    }  # fmt: skip


def _sentences(item: Evaluation) -> Iterator[dict[str, str]]:
    for change in item.changes:
        accepted = change.name in item.accepted
        text = f"The change weakens its own gate: {change.what}" + (
            " (accepted)." if accepted else "; this blocks until it is accepted by name."
        )
        yield {"tone": "warn" if accepted else "bad", "text": text}
    if item.comparison is None:
        return
    comparison = item.comparison.comparison
    for verdict in comparison.verdicts:
        if verdict in comparison.blocking or verdict.verdict in (Verdict.CASES_BROKE, Verdict.BASELINE_DRIFTED):
            yield {"tone": _TONE[verdict.verdict], "text": sentence(verdict, comparison)}


def _facts(item: Evaluation) -> Iterator[dict[str, str]]:
    total, found = item.summary.total, item.comparison
    if found:
        whole = found.comparison.total
        yield _fact(
            "Pass rate",
            f"{percent(whole.baseline_rate)} → {percent(whole.candidate_rate)}",
            f"{points(whole.difference)} points {points_interval(whole.interval)}",
        )
        if weighted := found.comparison.weighted:
            yield _fact("Pass rate, by traffic", f"{percent(weighted.baseline_rate)} → {percent(weighted.candidate_rate)}",
                        f"{points(weighted.difference)} points {points_interval(weighted.interval)}")  # fmt: skip
        yield _fact("Cases", str(whole.n), f"{len(whole.broken)} broke, {len(whole.fixed)} fixed")
        for ratio in found.spending:
            write = seconds if ratio.name != "cost" else lambda value: format_usd(round(value))
            label = "Cost a case" if ratio.name == "cost" else f"{ratio.name} latency"
            yield _fact(
                label,
                f"{write(ratio.before)} → {write(ratio.after)}",
                f"allowed x{ratio.limit:g}" if ratio.limit else "",
            )
        return
    yield _fact("Pass rate", percent(total.rate), f"95% interval {percent_interval(total.interval)}")
    if alone := item.summary.weighted:
        yield _fact("Pass rate, by traffic", percent(alone.rate), f"95% interval {percent_interval(alone.interval)}")
    yield _fact(
        "Answers",
        f"{total.passed} of {total.scored}",
        f"{total.unscored} without a score" if total.unscored else "pass",
    )
    yield _fact("p50 latency", seconds(total.p50_s))
    yield _fact("p99 latency", seconds(total.p99_s))
    yield _fact(
        "Cost", format_usd(total.cost_nanousd), f"{format_usd(item.summary.ledger.paid_nanousd)} paid for this run"
    )


def _fact(label: str, value: str, note: str = "") -> dict[str, str]:
    return {"label": label, "value": value, "note": note}


# Rows


def _column(title: str, *, number: bool = True) -> dict[str, Any]:
    return {"title": title, "number": number}


_ALONE = [_column("n"), _column("passed"), _column("rate"), _column("95% interval"), _column("0% – 100%", number=False), _column("unscored"),
          _column("cost"), _column("p50"), _column("p99")]  # fmt: skip
_COMPARED = [_column("verdict", number=False), _column("n"), _column("before"), _column("after"), _column("points"), _column("95% interval"),
             _column("0% – 100%", number=False), _column("broke"), _column("fixed"), _column("adjusted p"), _column("could see")]  # fmt: skip


def _alone_rows(item: Evaluation) -> Iterator[dict[str, Any]]:
    summary = item.summary
    for row in (*_worst_first(summary.categories), *_worst_first(summary.slices), summary.total):
        tone = "bad" if row.below_floor else ""
        interval = row.interval
        plot = _plot(f"{row.name}: {percent(row.rate)}, interval {percent_interval(interval)}", after=row.rate, floor=row.floor,
                     low=interval.low if interval else None, high=interval.high if interval else None)  # fmt: skip
        cells = [_Cell(str(row.scored + row.unscored)), _Cell(str(row.passed)), _Cell(percent(row.rate)), _Cell(percent_interval(interval)),
                 _Cell(plot=plot), _Cell(str(row.unscored or "-")), _Cell(format_usd(row.cost_nanousd)), _Cell(seconds(row.p50_s)), _Cell(seconds(row.p99_s))]  # fmt: skip
        yield {
            "name": row.name,
            "total": row is summary.total,
            "tone": tone,
            "cells": [cell.as_dict() for cell in cells],
        }
    if weighted := summary.weighted:
        plot = _plot(f"{BY_TRAFFIC}: {percent(weighted.rate)}, interval {percent_interval(weighted.interval)}", after=weighted.rate,
                     low=weighted.interval.low, high=weighted.interval.high)  # fmt: skip
        shown = [_Cell(), _Cell(), _Cell(percent(weighted.rate)), _Cell(percent_interval(weighted.interval)), _Cell(plot=plot), *[_Cell()] * 4]  # fmt: skip
        yield {"name": BY_TRAFFIC, "total": True, "tone": "", "cells": [cell.as_dict() for cell in shown]}


def _worst_first(rows: tuple[Row, ...]) -> list[Row]:
    return sorted(rows, key=lambda row: (1 if row.rate is None else row.rate, row.name))


def _compared_rows(item: Evaluation) -> Iterator[dict[str, Any]]:
    assert item.comparison is not None
    comparison = item.comparison.comparison
    for verdict in (*comparison.verdicts, comparison.total):
        total = verdict is comparison.total
        yield {"name": verdict.category, "total": total, "tone": "" if total else _TONE[verdict.verdict],
               "cells": [cell.as_dict() for cell in _compared_cells(verdict, total=total)]}  # fmt: skip
    if weighted := comparison.weighted:
        before, after, interval = weighted.baseline_rate, weighted.candidate_rate, weighted.interval
        plot = _plot(f"{BY_TRAFFIC}: {percent(before)} before, {percent(after)} after", before=before, after=after,
                     low=before + interval.low, high=before + interval.high)  # fmt: skip
        cells = [_Cell(number=False), _Cell(), _Cell(percent(before)), _Cell(percent(after)), _Cell(points(weighted.difference)),
                 _Cell(points_interval(interval)), _Cell(plot=plot), *[_Cell()] * 4]  # fmt: skip
        yield {"name": BY_TRAFFIC, "total": True, "tone": "", "cells": [cell.as_dict() for cell in cells]}


def _compared_cells(verdict: CategoryVerdict, *, total: bool) -> list[_Cell]:
    before, after, interval = verdict.baseline_rate, verdict.candidate_rate, verdict.interval
    plot = _plot(f"{verdict.category}: {percent(before)} before, {percent(after)} after", before=before, after=after,
                 low=before + interval.low, high=before + interval.high)  # fmt: skip
    seen = "-" if verdict.detectable is None else f"≥ {100 * verdict.detectable:.0f}"
    return [
        _Cell(number=False) if total else _Cell(word=verdict.verdict), _Cell(str(verdict.n)), _Cell(percent(before)), _Cell(percent(after)),
        _Cell(points(verdict.difference)), _Cell(points_interval(interval)), _Cell(plot=plot), _Cell(str(len(verdict.broken))),
        _Cell(str(len(verdict.fixed))), _Cell("" if total else p_value(verdict.p_adjusted)), _Cell(seen),
    ]  # fmt: skip


def _plot(
    label: str,
    *,
    after: float | None,
    before: float | None = None,
    floor: float | None = None,
    low: float | None,
    high: float | None,
) -> dict[str, Any]:
    """Places on a line from 0 to 100 %."""

    def place(rate: float | None) -> float | None:
        return None if rate is None else round(2 + _WIDTH * min(1.0, max(0.0, rate)), 1)

    start, end = place(low), place(high)
    return {"label": label, "before": place(before), "after": place(after), "floor": place(floor), "low": start,
            "width": None if start is None or end is None else round(max(1.0, end - start), 1)}  # fmt: skip


def _scatter(item: Evaluation) -> Iterator[dict[str, Any]]:
    for verdict in item.comparison.comparison.verdicts if item.comparison else ():
        yield {"x": round(220 * verdict.baseline_rate, 1), "y": round(220 * (1 - verdict.candidate_rate), 1), "tone": _TONE[verdict.verdict],
               "label": f"{verdict.category}: {percent(verdict.baseline_rate)} → {percent(verdict.candidate_rate)}"}  # fmt: skip


# Distributions


def _histograms(item: Evaluation) -> Iterator[dict[str, Any]]:
    after = [case.side for case in item.cases]
    before = [case.before for case in item.cases if case.before]
    latency = _histogram(
        "Latency of a case, logarithmic",
        [side.latency_s for side in before],
        [side.latency_s for side in after],
        seconds,
    )
    cost = _histogram(
        "Cost of a case, logarithmic",
        [_cost(side) for side in before],
        [_cost(side) for side in after],
        lambda value: format_usd(round(value * 1e9)),
    )
    yield from (chart for chart in (latency, cost) if chart)


def _cost(side: Side) -> float:
    return side.cost_nanousd / max(1, side.draws) / 1e9


def _histogram(title: str, before: list[float], after: list[float], write: Any) -> dict[str, Any] | None:
    """One row of bars a side, on one logarithmic axis; None when there is nothing to see."""
    shown = [value for value in (*before, *after) if value > 0]
    if not shown:
        return None
    low, high = min(shown), max(shown)
    span = log10(high / low) or 1.0
    sides = [("before", before), ("after", after)] if before else [("", after)]
    series = []
    for number, (name, values) in enumerate(sides):
        counts = [0] * _BINS
        for value in values:
            counts[min(_BINS - 1, int(_BINS * log10(max(value, low) / low) / span)) if value > 0 else 0] += 1
        most, top = max(counts) or 1, number * 78
        bars = [{"x": round(index * 280 / _BINS, 1), "y": round(top + 70 - 52 * count / most, 1), "width": round(280 / _BINS - 1.5, 1),
                 "height": round(52 * count / most, 1)} for index, count in enumerate(counts) if count]  # fmt: skip
        series.append({"name": name, "tone": name, "bars": bars, "top": top, "base": top + 70})
    note = "; ".join(
        f"{name + ': ' if name else ''}median {write(sorted(values)[len(values) // 2])}, highest {write(max(values))}"
        for name, values in sides
        if values
    )
    return {
        "title": title,
        "label": f"{title}: {note}",
        "series": series,
        "height": 78 * len(sides) + 14,
        "low": write(low),
        "high": write(high),
        "note": note,
    }


# How, and again


def _method(item: Evaluation) -> list[str]:
    header = item.run.header
    lines = list(method_lines(item.comparison)) if item.comparison else []
    lines.append(
        f"Model {header.model}; subject {header.subject}; {len(item.cases)} cases; started {header.started_at}."
    )
    if not item.comparison and item.summary.weighted:
        lines.append(weights_line(header.weights, item.summary.weighted.share))
    lines += [notice.plain for notice in judge_notices(item.summary)]
    if header.dirty:
        lines.append("The files had uncommitted changes.")
    return lines


def _reproduce(item: Evaluation) -> list[str]:
    header = item.run.header
    words = ["promptops", "eval", header.prompt, "--model", header.model]
    words += ["--candidate", header.candidate] if header.candidate else []
    words += ["--against", item.ref] if item.ref else []
    words += ["--judge", str(header.judge["choice"])] if header.judge.get("choice") else []
    checkout = [command("git", "checkout", header.commit)] if header.commit else []
    again = (
        []
        if item.ref or item.comparison is None
        else [command("promptops", "compare", item.comparison.baseline.id, item.run.id)]
    )
    return [*checkout, command(*words), *again]


# Cases


def _longest_text(evaluations: Sequence[Evaluation]) -> int:
    """How long a text may be so that all of them fit in the page."""
    sizes = [
        len(text.encode("utf-8", "replace")) for item in evaluations for case in item.cases for text in _texts(case)
    ]
    longest = _MAX_TEXT
    while longest > 200 and sum(min(size, longest) for size in sizes) > MAX_BYTES:
        longest = longest * 2 // 3
    return longest


def _texts(case: CaseRecord) -> Iterator[str]:
    yield case.side.answer
    if case.before:
        yield case.before.answer
    for values in (case.inputs, case.expected):
        yield from (readable(value) for value in (values or {}).values())
    yield from (reason for _, _, reason, _ in case.side.scores)


def _case(index: int, case: CaseRecord, longest: int) -> dict[str, Any]:
    def cut(text: str) -> str:
        return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} more characters)"

    def listed(values: Any) -> list[list[str]]:
        return [[name, cut(readable(value))] for name, value in _items(values)]

    side, before = case.side, case.before
    draws = _draws(case)
    return {
        "evaluation": index, "id": case.id, "category": case.category, "tags": [f"{name}={value}" for name, value in sorted(case.tags.items())],
        "file": case.file, "line": case.line, "result": _RESULT[side.verdict], "change": case.change, "unstable": side.unstable or bool(before and before.unstable),
        "disagrees": _disagrees(side), "why": cut(side.reason)[:300], "draws": draws, "outcome": side.outcome,
        "latency": seconds(side.latency_s), "cost": format_usd(side.cost_nanousd) if side.cost_nanousd else "",
        "inputs": listed(case.inputs), "expected": listed(case.expected), "answer": cut(side.answer), "before": cut(before.answer) if before else None,
        "scores": [[name, _RESULT[passed], cut(reason)] for name, passed, reason, _ in side.scores],
    }  # fmt: skip


def _draws(case: CaseRecord) -> str:
    """How many draws pass, by what the gate judged where it judged."""
    if case.moved:
        moved = case.moved
        return f"{moved.baseline:g}/{moved.baseline_draws} draws passed before, {moved.candidate:g}/{moved.candidate_draws} after"
    if case.before:
        return (
            f"{case.before.passed}/{case.before.draws} draws passed before, {case.side.passed}/{case.side.draws} after"
        )
    return f"{case.side.passed}/{case.side.draws} draws passed" if case.side.draws > 1 else ""


def _items(values: Any) -> list[tuple[str, Json]]:
    return list(values.items()) if values else []


def _disagrees(side: Side) -> bool:
    """Whether a judge and the other checks say different things of the shown answer."""
    judged = {passed for name, passed, _, _ in side.scores if name == JUDGE and passed is not None}
    checked = {passed for name, passed, _, _ in side.scores if not is_judged(name) and passed is not None}
    return bool(judged and checked) and (False in judged) != (False in checked)
