"""What services did and what moved, on a terminal, as JSON, and as a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.audit.drift import Drift, Finding, always_valid_interval
from promptops.audit.events import COSTS, Dimension, Tally, Traffic
from promptops.core.money import format_usd
from promptops.core.version import __version__
from promptops.report.html import asset, environment, policy
from promptops.report.show import escape, show
from promptops.report.tables import command, count, headline, next_line, percent, seconds, table

_WIDTH, _HEIGHT, _POINTS = 300, 120, 56
_SHOWN = 20
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
_COLUMNS = ("requests", "errors", "fallbacks", "rejected", "cached", "bad", "judge", "small", "a request", "cost")
_OPTIONAL = frozenset(("rejected", "cached", "judge", "small", "a request", "cost"))
_PLURALS: Mapping[Dimension, str] = {"prompt": "prompts", "version": "versions", "category": "categories", "language": "languages", "tenant": "tenants", "feature": "features"}  # fmt: skip


def where(finding: Finding) -> str:
    """Which traffic a finding is about."""
    what = f"{finding.dimension} {finding.value or '(none)'}" if finding.dimension != "prompt" else ""
    return ", ".join(part for part in (finding.prompt, what) if part)


def sentence(finding: Finding) -> str:
    """One finding in words: before, now with its count, the limit, and since when."""
    limit = f"{'at least' if finding.falls else 'limit'} {percent(finding.limit)}"
    times = f"; since {finding.since}, seen {finding.seen}" if finding.seen else ""
    return f"{where(finding)}: {finding.means} {percent(finding.before)} -> {percent(finding.now)} (n={finding.now_n}, {limit}){times}"


def _verdict(traffic: Traffic, drift: Drift) -> tuple[str, str, str]:
    stamps = sorted(traffic.buckets)
    requests = sum(tally.requests for tally in traffic.totals("prompt").values())
    span = f"{count(requests, 'request')}, {stamps[0]} to {stamps[-1]}"
    judged = sum(finding.state != "too few" for finding in drift.findings)
    if drift.alerts:
        return "ALERT", "red", f"{len(drift.alerts)} of {count(judged, 'rate')} moved beyond the limit; {span}"
    if not drift.reference or not judged:
        return "NO LIMITS", "yellow", f"too little traffic to say what is usual: {span}"
    return "STEADY", "green", f"none of {count(judged, 'rate')} moved beyond its limit; {span}"


def render_monitor(
    traffic: Traffic, drift: Drift, by: Sequence[Dimension] = (), *, source: str = "FILE"
) -> RenderableType:
    """The answer, what moved, the table of prompts, what could not be counted, and what to run next."""
    parts: list[RenderableType] = [headline(*_verdict(traffic, drift))]
    for finding in drift.findings:
        if finding.state == "alert":
            parts.append(show(f"  {sentence(finding)}", "red"))
        elif finding.state == "recovered":
            parts.append(show(f"  back within its limit: {sentence(finding)}", "dim"))
    for dimension in dict.fromkeys(("prompt", *by)):
        parts += [Text(""), _table(traffic, dimension)]
    parts += [Text(""), _costs(traffic)] if traffic.costs else []
    parts += [Text(""), _stages(traffic)] if traffic.stages else []
    for prompt, (audited, wrong) in sorted(traffic.audited.items()):
        low, high = always_valid_interval(wrong, audited)
        parts.append(
            show(
                f"{prompt}: {wrong} of {audited} audited semantic hits wrong, {100 * low:.1f}-{100 * high:.1f}% at every look"
            )
        )
    parts += [show(line, "yellow") for line in losses(traffic)]
    if drift.reference:
        every, fewer = traffic.every, sum(finding.state == "too few" for finding in drift.findings)
        parts.append(Text(f"limits: from the first {count(drift.reference, every)}; at most {drift.false_alarms:g} false alarms expected a fortnight"
                          + (f"; {count(fewer, 'rate')} had too few requests for a limit" if fewer else ""), style="dim"))  # fmt: skip
    parts.append(next_line(_next(drift, source)))
    return Group(*parts)


def render_board(
    traffic: Traffic, drift: Drift, by: Sequence[Dimension], *, source: str, every_s: float, wrong: str
) -> RenderableType:
    """The same for a screen that is drawn anew: whether it is live comes first, as the end may not fit."""
    state = (
        show(wrong, "red")
        if wrong
        else show(f"live: {source} every {every_s:g} s, {count(traffic.events, 'event')}; Ctrl-C ends", "dim")
    )
    if not traffic.buckets:
        return Group(
            state, headline("WAITING", "yellow", "no request yet"), *(show(line, "yellow") for line in losses(traffic))
        )
    return Group(state, render_monitor(traffic, drift, by, source=source))


def _next(drift: Drift, source: str) -> str:
    for finding in drift.alerts:
        if finding.prompt:
            return command("promptops", "log", finding.prompt)
    return command("promptops", "monitor", "--events", source, "-o", "monitor.html")


def losses(traffic: Traffic) -> Iterator[str]:
    """What is not in the counts, one line each."""
    found = traffic.losses
    for number, text in (
        (found.torn, "not whole (torn by a crash or a full disk)"), (found.unknown, "of a kind or form this version does not know"),
        (found.clock, "with a clock that jumped; counted with their neighbours"), (found.unmatched, "feedback and verdicts for replies that are not there"),
        (found.dropped, "dropped by the services because the disk or Redis was slower than the requests"),
        (found.gone, "removed from the stream before they were read"),
    ):  # fmt: skip
        if number:
            yield f"{count(number, 'event')}: {text}"
    if len(traffic.judges) > 1:
        yield f"{len(traffic.judges)} judges gave the verdicts: their scores are not comparable with each other"


def _cells(tally: Tally) -> tuple[str, ...]:
    n = tally.requests
    bad = f"{percent(tally.bad / tally.scored)} of {tally.scored}" if tally.scored else "-"
    judge = f"{tally.score / tally.judged:.2f} of {tally.judged}" if tally.judged else "-"
    small = f"{percent(tally.small / tally.routed)} of {tally.routed}" if tally.routed else "-"
    return (str(n), percent(tally.errors / n), percent(tally.fallbacks / n), percent(tally.rejected / n), percent((tally.cached + tally.semantic) / n),
            bad, judge, small, format_usd(round(tally.cost_nanousd / n)), format_usd(tally.cost_nanousd)) if n else ("0", "-", "-", "-", "-", bad, judge, small, "-", "-")  # fmt: skip


def _shown_columns(traffic: Traffic) -> list[int]:
    """Places of the columns that have something to show in some row: judges and routers are not everywhere."""
    tallies = traffic.totals("prompt").values()
    empty = {"judge": not any(tally.judged for tally in tallies), "small": not any(tally.routed for tally in tallies)}
    return [place for place, name in enumerate(_COLUMNS) if not empty.get(name)]


def _label(key: tuple[str, str, str]) -> str:
    return " ".join(part for part in (key[1], key[2] or ("(none)" if key[0] != "prompt" else "")) if part)


def _quantiles(traffic: Traffic, key: tuple[str, str, str]) -> tuple[str, str, str]:
    measures = traffic.measured(key[1], key[2] if key[0] == "version" else "")
    p50, p95, p99 = (seconds(measures.latency_ms.quantile(share) / 1000) for share in (0.5, 0.95, 0.99))
    return p50, p95, p99


def _table(traffic: Traffic, dimension: Dimension) -> RenderableType:
    timed = dimension in {"prompt", "version"}
    shown = _shown_columns(traffic)
    names = [f"{_COLUMNS[place]}>{'?' if _COLUMNS[place] in _OPTIONAL else ''}" for place in shown]
    grid = table(dimension, *names, *(("p50>?", "p95>", "p99>") if timed else ()))
    totals = traffic.totals(dimension)
    for key, tally in list(totals.items())[:_SHOWN]:
        cells = _cells(tally)
        grid.add_row(
            show(_label(key), limit=60),
            *(cells[place] for place in shown),
            *(_quantiles(traffic, key) if timed else ()),
        )
    more = len(totals) - _SHOWN
    return Group(grid, show(f"and {more} more {_PLURALS[dimension]}", "dim")) if more > 0 else grid


def _cost_rows(traffic: Traffic) -> list[tuple[str, int, int]]:
    """(what was paid for, how often, nano-dollars) over all prompts, in the order of COSTS."""
    found: dict[str, list[int]] = {}
    for (_, kind), (times, cost) in traffic.costs.items():
        total = found.setdefault(kind, [0, 0])
        total[0] += times
        total[1] += cost
    return [(kind, *found[kind]) for kind in COSTS if kind in found]  # type: ignore[misc]


def _costs(traffic: Traffic) -> RenderableType:
    grid = table("paid for", "times>", "cost>", "share>")
    rows = _cost_rows(traffic)
    total = sum(cost for _, _, cost in rows)
    for kind, times, cost in rows:
        grid.add_row(kind, str(times), format_usd(cost), percent(cost / total) if total else "-")
    return grid


def _stages(traffic: Traffic) -> RenderableType:
    grid = table("stage", "decision", "times>", "mean time>")
    found = sorted(traffic.stages.items(), key=lambda item: (-item[1][1], item[0]))
    for (stage, decision), (number, spent_ms) in found[:8]:
        grid.add_row(
            show(stage, limit=40), show(decision, limit=40), f"{number:.0f}", seconds(spent_ms / number / 1000)
        )
    return grid


# JSON


def monitor_json(traffic: Traffic, drift: Drift) -> dict[str, Any]:
    """Stable keys; rates in 0..1, latencies in ms, money in nano-dollars."""
    stamps = sorted(traffic.buckets)
    return {
        "verdict": _verdict(traffic, drift)[0].lower().replace(" ", "_"), "from": stamps[0], "to": stamps[-1], "every": traffic.every, "events": traffic.events,
        "alerts": [finding_json(finding) for finding in drift.findings if finding.state in {"alert", "recovered"}],
        "limits": [{key: value for key, value in finding_json(finding).items() if key not in {"text", "since", "seen"}}
                   for finding in drift.findings if finding.state == "steady"],
        "too_few": sum(finding.state == "too few" for finding in drift.findings), "reference": drift.reference, "false_alarms_a_fortnight": drift.false_alarms,
        **{_PLURALS[dimension]: [_row_json(traffic, key, tally) for key, tally in traffic.totals(dimension).items()] for dimension in DIMENSIONS},
        "stages": [{"stage": stage, "decision": decision, "count": round(number), "total_ms": round(spent_ms, 3)}
                   for (stage, decision), (number, spent_ms) in sorted(traffic.stages.items())],
        "costs": [{"prompt": prompt, "stage": kind, "count": times, "cost_nanousd": cost} for (prompt, kind), (times, cost) in sorted(traffic.costs.items())],
        "judges": dict(sorted(traffic.judges.items())),
        "notices": dict(sorted(traffic.notices.items())),
        "semantic_audit": [_audit_json(prompt, audited, wrong) for prompt, (audited, wrong) in sorted(traffic.audited.items())],
        "losses": {name: getattr(traffic.losses, name) for name in ("torn", "unknown", "dropped", "clock", "unmatched", "gone")},
    }  # fmt: skip


def _audit_json(prompt: str, audited: int, wrong: int) -> dict[str, Any]:
    low, high = always_valid_interval(wrong, audited)
    return {"prompt": prompt, "audited": audited, "wrong": wrong, "low": low, "high": high}


def finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "state": finding.state, "metric": finding.metric, "dimension": finding.dimension, "prompt": finding.prompt, "value": finding.value,
        "falls": finding.falls, "before": finding.before, "before_n": finding.before_n, "limit": finding.limit, "now": finding.now, "now_n": finding.now_n,
        "since": finding.since, "seen": finding.seen, "text": sentence(finding),
    }  # fmt: skip


def _row_json(traffic: Traffic, key: tuple[Dimension, str, str], tally: Tally) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": key[1], "value": key[2]} | {name: getattr(tally, name) for name in Tally.__slots__}
    if key[0] in {"prompt", "version"}:
        latency = traffic.measured(key[1], key[2] if key[0] == "version" else "").latency_ms
        row |= {f"p{round(100 * share)}_ms": round(latency.quantile(share), 1) for share in (0.5, 0.95, 0.99)}
    return row


# Page


def monitor_page(traffic: Traffic, drift: Drift) -> str:
    """One file without scripts: the verdict, a chart for each rate that moved, and tables of every dimension."""
    css = asset("report.css")
    word, style, text = _verdict(traffic, drift)
    total = Tally()
    for tally in traffic.totals("prompt").values():
        total.add(tally)
    latency = traffic.measured().latency_ms
    cells = _cells(total)
    facts = [("Requests", cells[0], f"{traffic.events} events"), ("Errors", cells[1], f"{total.errors} requests"), ("Fallbacks", cells[2], f"{total.fallbacks} requests"),
             ("Rejected by guardrails", cells[3], f"{total.rejected} requests"), ("From a cache", cells[4], f"{total.cached} exact, {total.semantic} semantic"),
             ("Bad answers", cells[5].partition(" of ")[0], f"{total.scored} judged"), ("Latency", seconds(latency.quantile(0.5) / 1000), f"p95 {seconds(latency.quantile(0.95) / 1000)}, p99 {seconds(latency.quantile(0.99) / 1000)}"),
             ("Cost", format_usd(total.cost_nanousd), f"{cells[8]} a request")]  # fmt: skip
    if total.judged:
        facts.append(("Judge score", cells[6].partition(" of ")[0], f"{total.judged} sampled, {total.failing} fail"))
    if total.routed:
        facts.append(("Small model", cells[7].partition(" of ")[0], f"of {total.routed} routed requests"))
    if total.audited:
        facts.append(
            ("False hits", percent(total.false_hits / total.audited), f"{total.audited} semantic hits audited")
        )
    moved = [finding for finding in drift.findings if finding.state in {"alert", "recovered"}]
    page: str = environment().render_template(
        "monitor.html",
        title=f"{word.lower()}: services", css=css, csp=policy(css), word=word, headline=text,
        tone={"red": "bad", "green": "good"}.get(style, "warn"), sentences=[escape(line) for line in losses(traffic)],
        facts=[{"label": label, "value": value, "note": note} for label, value, note in facts],
        charts=[_chart(finding) for finding in moved],
        legend=f"Limits come from the first {count(drift.reference, traffic.every)}. Dashed: the limit; upright line: where the change began.",
        tables=[_page_table(traffic, dimension) for dimension in DIMENSIONS],
        costs=[{"kind": kind, "times": str(times), "cost": format_usd(cost)} for kind, times, cost in _cost_rows(traffic)],
        stages=[{"stage": escape(stage), "decision": escape(decision), "times": f"{number:.0f}", "mean": seconds(spent_ms / number / 1000)}
                for (stage, decision), (number, spent_ms) in sorted(traffic.stages.items(), key=lambda item: (-item[1][1], item[0]))],
        footer=f"promptops {__version__}",
    )  # fmt: skip
    return page


def _page_table(traffic: Traffic, dimension: Dimension) -> dict[str, Any]:
    timed = dimension in {"prompt", "version"}
    totals = list(traffic.totals(dimension).items())
    shown = _shown_columns(traffic)
    rows = [{"label": escape(_label(key)), "cells": [*([*_cells(tally)][place] for place in shown), *(_quantiles(traffic, key) if timed else ())]}
            for key, tally in totals[:200]]  # fmt: skip
    more = f"and {len(totals) - 200} more" if len(totals) > 200 else ""
    return {
        "title": f"By {dimension}",
        "name": dimension,
        "rows": rows,
        "more": more,
        "columns": [*(_COLUMNS[place] for place in shown), *(("p50", "p95", "p99") if timed else ())],
    }


def _chart(finding: Finding) -> dict[str, Any]:
    """A rate over time, in at most 56 points, each with its count."""
    size = -(-len(finding.series) // _POINTS)
    points = []
    for start in range(0, len(finding.series), size):
        part = finding.series[start : start + size]
        n = sum(total for _, _, total in part)
        if n:
            points.append((part[0][0], start + len(part) / 2, sum(hits for _, hits, _ in part) / n, n))
    most = max((finding.limit, *(rate for _, _, rate, _ in points))) * 1.1 or 1.0

    def y(rate: float) -> float:
        return round(_HEIGHT * (1 - rate / most), 1)

    def x(place: float) -> float:
        return round(_WIDTH * place / max(1, len(finding.series)), 1)

    def beyond(rate: float) -> bool:
        return rate < finding.limit if finding.falls else rate > finding.limit

    dots = [{"x": x(place), "y": y(rate), "tone": "bad" if beyond(rate) else "", "text": f"{at}: {percent(rate)} of {n}"} for at, place, rate, n in points]  # fmt: skip
    begins = [place for place, (at, _, _) in enumerate(finding.series) if at == finding.since]
    return {
        "title": where(finding), "label": sentence(finding), "width": _WIDTH, "dots": dots, "limit": y(finding.limit), "since": [x(place) for place in begins],
        "line": " ".join(f"{dot['x']},{dot['y']}" for dot in dots), "ticks": [{"y": y(rate), "text": percent(rate)} for rate in (0.0, most / 2, most / 1.1)],
        "first": finding.series[0][0][5:], "last": finding.series[-1][0][5:], "note": sentence(finding).partition(": ")[2], "tone": "bad" if finding.state == "alert" else "",
    }  # fmt: skip
