"""A run on the terminal and as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.digest import short
from promptops.core.money import format_usd
from promptops.evaluation.admission import MAX_WAIT_S
from promptops.evaluation.scoring import first_reason
from promptops.evaluation.summary import Row, Summary, gate_policy
from promptops.gate.standing import MIN_LABELS
from promptops.project.store import Result, Run
from promptops.report.show import escape, show
from promptops.report.tables import count, headline, next_line, percent, percent_interval, seconds, table
from promptops.report.weighted import BY_TRAFFIC, weighted_json, weights_line


def run_name(run: Run) -> str:
    """`support-summary@candidate` or the plain name."""
    header = run.header
    return header.prompt + (f"@{header.candidate}" if header.candidate else "")


_STOPPED = {
    "SIGINT": "interrupted", "SIGTERM": "terminated", "auth": "the provider refused the key: check the key",
    "quota": "the provider says the quota is used up: check key and quota", "budget": "the budget of this run is used up",
    "wait": f"the provider asks to wait longer than {MAX_WAIT_S:.0f} s altogether", "outage": "the provider does not answer",
}  # fmt: skip


def render_run(
    summary: Summary, next_commands: list[str], *, stopped_by: str = "", stop_detail: str = ""
) -> RenderableType:
    """The answer first, then the tables, the worst cases, notices, and what to do next."""
    parts: list[RenderableType] = [
        headline(*run_line(summary, stopped_by, stop_detail)),
        _tables(summary),
        *_notices(summary),
    ]
    if summary.worst:
        parts += [Text(""), Text(_worst_title(summary), style="bold"), _worst(summary.worst)]
    parts += [Text(""), *(next_line(line) for line in next_commands)]
    return Group(*parts)


def run_line(summary: Summary, stopped_by: str = "", stop_detail: str = "") -> tuple[str, str, str]:
    """How a run ended, its colour on a terminal, and a sentence."""
    run, total = summary.run, summary.total
    name = f"{run_name(run)} on {run.header.model}"
    if stopped_by and summary.stored < run.header.planned:
        return (
            "STOPPED",
            "yellow",
            f"{name}: {_STOPPED[stopped_by]}{f' ({escape(stop_detail)})' if stop_detail else ''}; {summary.stored} of {run.header.planned} results kept, no verdict",
        )
    if run.state == "interrupted":
        return ("STOPPED", "yellow", f"{name}: {summary.stored} of {run.header.planned} answers kept")
    if summary.coverage < 1:
        return (
            "NOT EVALUATED",
            "yellow",
            f"{name}: {total.unscored} of {run.header.planned} answers could not be scored; this is no verdict",
        )
    noun = "answers" if run.header.repeat > 1 else "cases"
    rate = f"{total.passed}/{total.scored} {noun} pass ({percent(total.rate)}, 95% interval {percent_interval(total.interval)})"
    missed = summary.missed_floors
    if missed:
        return ("FAIL", "red", f"{name}: {rate}; below the floor: {', '.join(_floor(row) for row in missed)}")
    return ("DONE", "green", f"{name}: {rate}")


def _worst_title(summary: Summary) -> str:
    total = summary.total
    missed = total.scored - total.passed + total.unscored
    shown = len(summary.worst)
    what = (
        f"{count(missed, 'answer')} did not pass"
        if summary.run.header.repeat > 1
        else f"{count(missed, 'case')} did not pass"
    )
    return what + (f"; the worst {shown}" if shown < missed else "")


def _floor(row: Row) -> str:
    return f"{row.name} {percent(row.rate)} < {percent(row.floor)}"


def _tables(summary: Summary) -> RenderableType:
    grid = table("", "n>", "passed>", "rate>", "95% interval>", "unscored>", "cost>?", "p50>?", "p99>?")
    rows: list[tuple[Row, str]] = [(row, "") for row in _worst_first(summary.categories)]
    rows += [(row, "") for row in _worst_first(summary.slices)]
    for position, (row, style) in enumerate(rows):
        grid.add_row(
            *_cells(row),
            style="red" if row.below_floor else style,
            end_section=position in (len(summary.categories) - 1, len(rows) - 1),
        )
    grid.add_row(*_cells(summary.total), style="bold")
    if summary.weighted:
        weighted = summary.weighted
        grid.add_row(BY_TRAFFIC, "", "", percent(weighted.rate), percent_interval(weighted.interval), "", "", "", "", style="bold")  # fmt: skip
    checks = table("check", "passed>", "failed>", "unscored>")
    for check in sorted(summary.checks, key=lambda item: -item.failed):
        checks.add_row(show(check.name), str(check.passed), str(check.failed), str(check.unscored or "-"))
    return Group(grid, Text(""), checks)


def _worst_first(rows: tuple[Row, ...]) -> list[Row]:
    return sorted(rows, key=lambda row: (1 if row.rate is None else row.rate, row.name))


def _cells(row: Row) -> tuple[str | Text, ...]:
    return (show(row.name), str(row.scored + row.unscored), str(row.passed), percent(row.rate), percent_interval(row.interval),
            str(row.unscored or "-"), format_usd(row.cost_nanousd), seconds(row.p50_s), seconds(row.p99_s))  # fmt: skip


def _notices(summary: Summary) -> Iterator[Text]:
    header, ledger = summary.run.header, summary.ledger
    few = [row.name for row in summary.categories if row.scored < 20]
    if few:
        yield show(f"few cases (under 20): {', '.join(few)}; their intervals are wide", style="yellow")
    if header.repeat > 1:
        yield Text(
            f"{header.repeat} draws a case, each counted; draws of one case are alike, so the intervals are too narrow",
            style="yellow",
        )
    policy = gate_policy(summary.run)
    for outcome, number in sorted(summary.outcomes.items()):
        counted = (
            "counted as failed (gate.unanswered)" if policy.fails(outcome) else "not scored, and not counted as wrong"
        )
        yield show(f"{count(number, 'answer')} ended in {outcome}: {counted}", style="yellow")
    if summary.untrusted_usage:
        yield Text(
            f"{summary.untrusted_usage} answers came with usage that cannot be true; their cost is an estimate",
            style="yellow",
        )
    if summary.weighted:
        yield show(weights_line(header.weights, summary.weighted.share), style="dim")
    yield from judge_notices(summary)
    paid = f"{ledger.attempts} calls, {format_usd(ledger.paid_nanousd)} paid" if ledger.attempts else "nothing paid"
    if ledger.judge_attempts:
        paid += f" (of these, the judge's: {ledger.judge_attempts} calls, {format_usd(ledger.judge_nanousd)})"
    unknown = (
        f", possibly {format_usd(ledger.possibly_nanousd)} more for answers that never arrived"
        if ledger.possibly_nanousd
        else ""
    )
    unknown += f", {ledger.unknown} calls with unknown outcome" if ledger.unknown else ""
    dirty = " with uncommitted changes" if header.dirty and header.commit else ""
    commit = f", commit {header.commit[:12]}{dirty}" if header.commit else ""
    yield show(f"run {summary.run.id}, subject {short(header.subject)}{commit}; {paid}{unknown}", style="dim")


def judge_notices(summary: Summary) -> Iterator[Text]:
    """Who judged, how far that can be trusted, and what came of it."""
    header, total = summary.run.header, summary.judged_total
    if total is None:
        if header.rubric_digest:
            yield Text(
                "the rubric is part of the subject; no judge scored this run (`--judge MODEL` has one do it)",
                style="dim",
            )
        return
    judge = header.judge
    counts = f"{total.passed}/{total.judged} pass" + (
        f" ({percent(total.passed / total.judged)})" if total.judged else ""
    )
    counts += f", {total.spared} not judged because a check failed" if total.spared else ""
    counts += f", {total.missed} without a verdict" if total.missed else ""
    role = "shown, but it counts for nothing" if judge["standing"] == "advisory" else "its verdicts count"
    style = "" if judge["standing"] == "blocking" else "yellow"
    yield show(
        f"judge {judge['name']} by {judge['rubric']}: {counts}; {role}: {judge['why']}{measured(judge)}", style=style
    )
    if header.model in judge["models"]:
        yield show(f"{header.model} judges its own answers: judges prefer what they wrote themselves", style="yellow")
    if judge["standing"] == "advisory" and judge["calibration"].get("labels", 0) >= MIN_LABELS:
        yield show(
            f"`promptops judge calibrate {header.prompt}` shows where it errs; a clearer rubric or another model may do better",
            style="yellow",
        )
    elif judge["standing"] == "advisory":
        yield show(
            f"to make it count: label answers (`promptops review {header.prompt}`), then `promptops judge calibrate {header.prompt}`",
            style="yellow",
        )


def measured(judge: Mapping[str, Any]) -> str:
    """`; TPR 0.92, TNR 0.81, J 0.73 [0.55, 0.86], 120 labels` of a calibrated judge, else nothing."""
    found = judge.get("calibration") or {}
    if not found or found.get("j") is None:
        return ""
    low, high = found["j_interval"]
    flips = f", flips {percent(found['flip_rate'])}" if found.get("flip_rate") is not None else ""
    return f"; TPR {found['tpr']:.2f}, TNR {found['tnr']:.2f}, J {found['j']:.2f} [{low:.2f}, {high:.2f}], {found['labels']} labels{flips}"


def judge_json(summary: Summary) -> dict[str, Any] | None:
    """The judge of a run with its standing, and its verdicts by category; None without one."""
    total = summary.judged_total
    if total is None:
        return None
    return {**summary.run.header.judge, "total": asdict(total), "categories": [asdict(row) for row in summary.judged]}


def _worst(results: tuple[Result, ...]) -> RenderableType:
    grid = table("case", "category", "why")
    for result in results:
        grid.add_row(show(result.case_id, limit=40), show(result.category), show(why(result), limit=110))
    return grid


def why(result: Result) -> str:
    """The first reason a case did not pass."""
    return first_reason(result.scores) or ("no check applies" if result.passed is None else "")


def run_json(summary: Summary) -> dict[str, Any]:
    """Stable keys; rates in 0..1, money in nano-dollars, seconds."""
    header = summary.run.header
    return {
        "run": summary.run.id, "state": summary.run.state, "prompt": header.prompt, "candidate": header.candidate, "model": header.model,
        "subject": header.subject, "prompt_digest": header.prompt_digest, "golden_digest": header.golden_digest,
        "commit": header.commit, "dirty": header.dirty, "started_at": header.started_at, "finished_at": summary.run.finished_at,
        "planned": header.planned, "coverage": summary.coverage, "total": _row_json(summary.total), "weighted": weighted_json(header.weights, summary.weighted),
        "categories": [_row_json(row) for row in summary.categories], "slices": [_row_json(row) for row in summary.slices],
        "checks": [{"name": item.name, "passed": item.passed, "failed": item.failed, "unscored": item.unscored} for item in summary.checks],
        "outcomes": dict(summary.outcomes), "missed_floors": [row.name for row in summary.missed_floors],
        "judge": judge_json(summary), "judge_calls": summary.ledger.judge_attempts, "judge_paid_nanousd": summary.ledger.judge_nanousd,
        "untrusted_usage": summary.untrusted_usage, "paid_nanousd": summary.ledger.paid_nanousd, "possibly_paid_nanousd": summary.ledger.possibly_nanousd, "calls": summary.ledger.attempts,
        "worst": [{"case": item.case_id, "category": item.category, "passed": item.passed, "why": why(item)} for item in summary.worst],
    }  # fmt: skip


def _row_json(row: Row) -> dict[str, Any]:
    interval = row.interval
    return {
        "name": row.name, "n": row.scored + row.unscored, "passed": row.passed, "unscored": row.unscored, "rate": row.rate,
        "interval": [interval.low, interval.high] if interval else None, "floor": row.floor,
        "cost_nanousd": row.cost_nanousd, "p50_s": row.p50_s, "p99_s": row.p99_s,
    }  # fmt: skip
