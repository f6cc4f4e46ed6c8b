"""A comparison on the terminal and as JSON."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.money import format_usd
from promptops.evaluation.compare import RunComparison
from promptops.gate import CaseChange, CategoryVerdict, Comparison, Verdict
from promptops.gate.spend import Ratio
from promptops.report.run import measured, run_name
from promptops.report.show import show
from promptops.report.tables import (
    count,
    headline,
    next_line,
    p_value,
    percent,
    points,
    points_interval,
    seconds,
    table,
)
from promptops.report.weighted import BY_TRAFFIC, weighted_json, weights_line

_STYLE = {Verdict.REGRESSED: "red", Verdict.CASES_BROKE: "magenta", Verdict.BASELINE_DRIFTED: "yellow", Verdict.INCONCLUSIVE: "yellow",
          Verdict.PASS: "green", Verdict.IMPROVED: "green"}  # fmt: skip
_NAMED = 6


def render_comparison(found: RunComparison, next_commands: list[str]) -> RenderableType:
    """The verdict first, one row per category and slice worst first, then a sentence for each blocked one."""
    comparison = found.comparison
    grid = table(
        "",
        "verdict",
        "n>",
        "before>",
        "after>",
        "points>",
        "95% interval>",
        "broke>",
        "fixed>?",
        "adjusted p>?",
        "could see>?",
    )
    for position, verdict in enumerate(comparison.verdicts):
        grid.add_row(*_cells(verdict), end_section=position == len(comparison.verdicts) - 1)
    grid.add_row(*_cells(comparison.total, judged=False), style="bold")
    if weighted := comparison.weighted:
        grid.add_row(BY_TRAFFIC, "", "", percent(weighted.baseline_rate), percent(weighted.candidate_rate), points(weighted.difference),
                     points_interval(weighted.interval), "", "", "", "", style="bold")  # fmt: skip
    parts: list[RenderableType] = [headline(*verdict_line(found)), grid, Text("")]
    for verdict in comparison.verdicts:
        if verdict in comparison.blocking or verdict.verdict in (Verdict.CASES_BROKE, Verdict.BASELINE_DRIFTED):
            parts += [show(sentence(verdict, comparison), style=_STYLE[verdict.verdict]), _cases(verdict), Text("")]
    parts += [Text(line, style="dim") for line in method_lines(found)]
    return Group(*parts, Text(""), *(next_line(line) for line in next_commands))


def verdict_line(found: RunComparison) -> tuple[str, str, str]:
    """The verdict, its colour on a terminal, and a sentence."""
    comparison = found.comparison
    names = f"{run_name(found.candidate)} on {found.candidate.header.model} against {run_name(found.baseline)} on {found.baseline.header.model}"
    blocking, rows = comparison.blocking, len(comparison.verdicts)
    dearer = [ratio for ratio in found.spending if ratio.exceeded]
    if dearer and not comparison.blocked:
        return "FAIL", "red", f"{names}: {'; '.join(map(_ratio, dearer))}"
    if not comparison.blocked:
        unsure = sum(item.verdict is Verdict.INCONCLUSIVE for item in comparison.verdicts)
        doubt = f"; {unsure} inconclusive: too few cases to rule a drop out" if unsure else ""
        return "PASS", "green", f"{names}: none of {rows} categories and slices regressed{doubt}"
    if comparison.vanished:
        return "FAIL", "red", f"{names}: {', '.join(comparison.vanished)} vanished"
    text = f"{names}: {', '.join(item.category for item in blocking)} regressed ({len(blocking)} of {rows} categories and slices)"
    if comparison.total.difference > 0:
        text += f", although the total rose by {100 * comparison.total.difference:.1f} points"
    return "FAIL", "red", text


def _cells(verdict: CategoryVerdict, *, judged: bool = True) -> tuple[str | Text, ...]:
    """The total has no verdict of its own: one good category must not make up for a bad one."""
    word = Text(verdict.verdict, style=_STYLE[verdict.verdict]) if judged else Text("")
    seen = "-" if verdict.detectable is None else f">= {100 * verdict.detectable:.0f}"
    return (show(verdict.category), word, str(verdict.n), percent(verdict.baseline_rate),
            percent(verdict.candidate_rate), points(verdict.difference), points_interval(verdict.interval),
            str(len(verdict.broken)), str(len(verdict.fixed)), p_value(verdict.p_adjusted) if judged else "", seen)  # fmt: skip


def sentence(verdict: CategoryVerdict, comparison: Comparison) -> str:
    """A row in words, for someone who reads no statistics."""
    if verdict.verdict is Verdict.BASELINE_DRIFTED:
        return (f"{verdict.category}: the baseline answers differently today than when it was recorded: "
                "the provider changed. Record the baseline again.")  # fmt: skip
    before, after = (round(rate * verdict.n, 1) for rate in (verdict.baseline_rate, verdict.candidate_rate))
    chance = 100 * verdict.p_adjusted
    often = "fewer than 0.1" if chance < 0.1 else f"about {chance:.1f}"
    text = (f"{verdict.category}: {before:g}/{verdict.n} -> {after:g}/{verdict.n} cases pass; {count(len(verdict.broken), 'case')} broke, "
            f"{len(verdict.fixed)} fixed. If nothing had changed, chance alone would do this in {often} of 100 comparisons "
            f"(allowed: {100 * comparison.alpha:g})")  # fmt: skip
    if verdict in comparison.blocking:
        return f"{text}: blocked."
    return f"{text}; some cases broke for good, but the category as a whole may not be worse: a warning."


def _cases(verdict: CategoryVerdict) -> Text:
    named = [_named(change) for change in verdict.broken[:_NAMED]]
    more = len(verdict.broken) - _NAMED
    shown = ", ".join(named) + (f", and {more} more" if more > 0 else "")
    return show(f"  broke in {verdict.category}: {shown}")


def _named(change: CaseChange) -> str:
    """A case, with its draws when there are several: `id (5/5 -> 0/5)`."""
    if change.baseline_draws == change.candidate_draws == 1:
        return change.case_id
    return f"{change.case_id} ({change.baseline:g}/{change.baseline_draws} -> {change.candidate:g}/{change.candidate_draws})"


def _ratio(ratio: Ratio) -> str:
    """`p99 0.20 s -> 0.31 s (x1.55 [1.20, 1.90])`, and the limit when there is one."""
    write = (lambda value: format_usd(round(value))) if ratio.name == "cost" else seconds
    name = "cost a case" if ratio.name == "cost" else f"{ratio.name} latency"
    text = f"{name} {write(ratio.before)} -> {write(ratio.after)}"
    if ratio.interval is not None:
        text += f" (x{ratio.after / ratio.before:.2f} [{ratio.interval.low:.2f}, {ratio.interval.high:.2f}])"
    return text + (f", allowed x{ratio.limit:g}" if ratio.limit is not None else "")


def method_lines(found: RunComparison) -> tuple[str, ...]:
    """How a comparison was judged, and what it spent."""
    comparison = found.comparison
    spent = ", ".join(f"{calls} in stage {stage}" for stage, calls in sorted(comparison.calls.items()))
    lines = [f"method: {comparison.method}, alpha {comparison.alpha:g}; PASS: no drop beyond the tolerance" + (f"; draws: {spent}" if spent else ""),
             f"{found.same_answers} of {comparison.total.n} cases were the same request, answered once",
             "; ".join(map(_ratio, found.spending)),
             *judge_lines(found), *traffic_lines(found),
             f"before: run {found.baseline.id}, after: run {found.candidate.id}"]  # fmt: skip
    if all(verdict.detectable is None for verdict in comparison.verdicts):
        lines.append(
            "one draw does not tell what drop could have been seen; `promptops eval NAME --against REF` draws again where needed"
        )
    return tuple(lines)


def traffic_lines(found: RunComparison) -> list[str]:
    """What the total by traffic is made of."""
    weighted = found.comparison.weighted
    return [weights_line(found.candidate.header.weights, weighted.share)] if weighted else []


def judge_lines(found: RunComparison) -> list[str]:
    """Who judged both runs, and how far that can be trusted."""
    judge = found.candidate.header.judge
    if not judge:
        return []
    sides = [
        f"{passed}/{judged}" + (f" ({percent(passed / judged)})" if judged else "") for passed, judged in found.judged
    ]
    said = f"of the answers that pass their checks, it passes {sides[0]} before, {sides[1]} after"
    role = (
        "counts for nothing here, the checks alone decide" if judge["standing"] == "advisory" else "its verdicts count"
    )
    return [f"judge {judge['name']} by {judge['rubric']}: {role}: {judge['why']}{measured(judge)}", said]


def comparison_json(found: RunComparison) -> dict[str, Any]:
    """Stable keys; rates and differences in 0..1."""
    comparison = found.comparison
    return {
        "verdict": "FAIL" if found.blocked else "PASS", "baseline": found.baseline.id, "candidate": found.candidate.id,
        "prompt": found.candidate.header.prompt, "alpha": comparison.alpha, "method": comparison.method,
        "regressed": [item.category for item in comparison.blocking], "vanished": list(comparison.vanished),
        "calls": {str(stage): calls for stage, calls in comparison.calls.items()},
        "rows": [_verdict_json(item) for item in comparison.verdicts], "total": _verdict_json(comparison.total),
        "weighted": weighted_json(found.candidate.header.weights, comparison.weighted),
        "judge": dict(found.candidate.header.judge) or None,
        "judged": [{"passed": passed, "judged": judged} for passed, judged in found.judged] if found.candidate.header.judge else None, "same_answers": found.same_answers, "spending": [_ratio_json(ratio) for ratio in found.spending],
    }  # fmt: skip


def _ratio_json(ratio: Ratio) -> dict[str, Any]:
    """Latency in seconds, cost in nano-dollars a case."""
    interval = [ratio.interval.low, ratio.interval.high] if ratio.interval else None
    return {
        "name": ratio.name,
        "baseline": ratio.before,
        "candidate": ratio.after,
        "interval": interval,
        "limit": ratio.limit,
        "exceeded": ratio.exceeded,
    }


def _verdict_json(verdict: CategoryVerdict) -> dict[str, Any]:
    return {
        "name": verdict.category, "verdict": verdict.verdict, "n": verdict.n, "draws": list(verdict.draws),
        "baseline": verdict.baseline_rate, "candidate": verdict.candidate_rate, "difference": verdict.difference,
        "interval": [verdict.interval.low, verdict.interval.high], "p": verdict.p, "p_adjusted": verdict.p_adjusted, "p_guard": verdict.p_guard,
        "tolerance": verdict.tolerance, "stage": verdict.stage, "detectable": verdict.detectable, "calls": verdict.calls, "drifted": verdict.drifted,
        "broken": [change.case_id for change in verdict.broken], "fixed": [change.case_id for change in verdict.fixed],
    }  # fmt: skip
