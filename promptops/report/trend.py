"""The history of a prompt as a page and as JSON: pass rates, cost and latency over its versions."""

from collections.abc import Callable, Sequence
from typing import Any

from promptops.core.money import format_usd
from promptops.core.version import __version__
from promptops.release.trend import Point, Trend
from promptops.report.html import asset, environment, policy
from promptops.report.tables import count, percent, percent_interval, seconds

_WIDTH = 300
_HEIGHT = 120
_MOST_NAMES = 3


def trend_page(trend: Trend) -> str:
    """One file without scripts: a chart for the total, each category and slice, cost and latency, and a table of all points."""
    css, points = asset("report.css"), trend.points
    notice = ""
    if trend.golden_changed:
        changed = ", ".join(points[place].label for place in trend.golden_changed)
        notice = f"The golden cases changed at {changed} (dashed lines): rates on both sides of such a line are of different questions."
    text: str = environment().render_template(
        "trend.html",
        title=f"{trend.prompt}: history", css=css, csp=policy(css), prompt=trend.prompt, count=str(len(points)), notice=notice,
        headline=f"{count(len(points), 'content')} evaluated in full on {trend.model}, {points[0].run.header.started_at[:10]} to {points[-1].run.header.started_at[:10]}",
        legend="Oldest left. Pass rates with their 95% interval; a difference here is no verdict: `promptops eval NAME --against REF` gives one.",
        charts=[_quality(trend, "total"), *(_quality(trend, name) for name in trend.rows), _cost(trend), _latency(trend)],
        columns=["total", *trend.rows, "cost", "p50", "p99"], rows=[_row(trend, point) for point in reversed(points)], footer=f"promptops {__version__}",
    )  # fmt: skip
    return text


def trend_json(trend: Trend) -> dict[str, Any]:
    """Stable keys; rates in 0..1, seconds, nano-dollars a case."""
    return {
        "prompt": trend.prompt, "model": trend.model, "golden_changed": [trend.points[place].run.id for place in trend.golden_changed],
        "points": [
            {"label": point.label, "released": point.released, "run": point.run.id, "commit": point.run.header.commit, "subject": point.run.header.subject,
             "at": point.run.header.started_at, "rate": point.summary.total.rate, "p50_s": point.summary.total.p50_s, "p99_s": point.summary.total.p99_s,
             "cost_nanousd": point.cost_nanousd, "rows": {name: row.rate for name in trend.rows if (row := point.row(name))}}
            for point in trend.points
        ],
    }  # fmt: skip


def _row(trend: Trend, point: Point) -> dict[str, Any]:
    total = point.summary.total
    rates = [percent(row.rate) if (row := point.row(name)) else "-" for name in trend.rows]
    cells = [
        percent(total.rate),
        *rates,
        format_usd(round(point.cost_nanousd)),
        seconds(total.p50_s),
        seconds(total.p99_s),
    ]
    return {"label": point.label, "cells": cells, "run": point.run.id}


def _quality(trend: Trend, name: str) -> dict[str, Any]:
    found = [point.summary.total if name == "total" else point.row(name) for point in trend.points]
    known = [
        (place, row)
        for place, row in enumerate(found)
        if row is not None and row.rate is not None and row.interval is not None
    ]
    xs = _xs(trend)
    upper = [f"{xs[place]},{_y(row.interval.high)}" for place, row in known if row.interval]
    lower = [f"{xs[place]},{_y(row.interval.low)}" for place, row in reversed(known) if row.interval]
    dots = [{"x": xs[place], "y": _y(row.rate or 0.0), "tone": "good" if trend.points[place].released else "",
             "text": f"{trend.points[place].label}: {percent(row.rate)} [{percent_interval(row.interval)}] of {row.scored}"} for place, row in known]  # fmt: skip
    last = known[-1][1] if known else None
    note = (
        f"last {percent(last.rate)}, 95% interval {percent_interval(last.interval)}, n={last.scored}"
        if last
        else "no case"
    )
    line = {"points": " ".join(f"{dot['x']},{dot['y']}" for dot in dots), "tone": ""}
    ticks = [{"y": _y(rate), "text": f"{100 * rate:.0f}%"} for rate in (0.0, 0.5, 1.0)]
    return _chart(
        trend,
        name,
        lines=[line],
        dots=dots,
        ticks=ticks,
        note=note,
        band=" ".join((*upper, *lower)) if len(known) > 1 else "",
    )


def _cost(trend: Trend) -> dict[str, Any]:
    return _measured(
        trend,
        "cost of an answer",
        [("cost", "", [point.cost_nanousd for point in trend.points])],
        lambda value: format_usd(round(value)),
    )


def _latency(trend: Trend) -> dict[str, Any]:
    totals = [point.summary.total for point in trend.points]
    return _measured(
        trend,
        "latency: p50, and p99 above it",
        [("p50", "", [total.p50_s for total in totals]), ("p99", "warn", [total.p99_s for total in totals])],
        seconds,
    )


def _measured(
    trend: Trend, title: str, series: Sequence[tuple[str, str, list[float]]], write: Callable[[float], str]
) -> dict[str, Any]:
    most = max(max(values) for _, _, values in series) or 1.0
    xs = _xs(trend)
    dots, lines = [], []
    for name, tone, values in series:
        places = [(x, _y(value / most)) for x, value in zip(xs, values, strict=True)]
        lines.append({"points": " ".join(f"{x},{y}" for x, y in places), "tone": tone})
        dots += [{"x": x, "y": y, "tone": tone, "text": f"{point.label}: {name} {write(value)}"}
                 for (x, y), value, point in zip(places, values, trend.points, strict=True)]  # fmt: skip
    ticks = [
        {"y": _y(share), "text": write(most * share)}
        for share in ((0.0, 0.5, 1.0) if any(map(any, (values for _, _, values in series))) else (0.0,))
    ]
    return _chart(
        trend,
        title,
        lines=lines,
        dots=dots,
        ticks=ticks,
        note="; ".join(f"last {name} {write(values[-1])}" for name, _, values in series),
    )


def _chart(
    trend: Trend, title: str, *, lines: list[dict[str, str]], dots: list[dict[str, Any]], ticks: list[dict[str, Any]], note: str, band: str = ""
) -> dict[str, Any]:  # fmt: skip
    xs, points = _xs(trend), trend.points
    every = -(-len(points) // _MOST_NAMES)
    last = len(points) - 1
    shown = [place for place in range(0, len(points), every) if place == 0 or last - place >= every] + (
        [last] if last else []
    )
    names = [
        {
            "x": xs[place],
            "text": points[place].label,
            "anchor": "end" if place == last and last else "start" if place == 0 else "middle",
        }
        for place in shown
    ]
    return {"title": title, "label": f"{title} over {count(len(points), 'content')}: {note}", "width": _WIDTH, "lines": lines, "dots": dots, "ticks": ticks,
            "names": names, "note": note, "band": band, "breaks": [xs[place] for place in trend.golden_changed]}  # fmt: skip


def _y(share: float) -> float:
    return round(_HEIGHT * (1 - share), 1)


def _xs(trend: Trend) -> list[float]:
    last = max(1, len(trend.points) - 1)
    return [round(_WIDTH * place / last, 1) for place in range(len(trend.points))]
