"""A comparison on the terminal and as JSON."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.money import format_usd
from promptops.evaluation.compare import RunComparison
from promptops.gate import CategoryVerdict, Verdict
from promptops.report.run import run_name
from promptops.report.show import show
from promptops.report.tables import headline, p_value, percent, points, points_interval, table

_STYLE = {Verdict.REGRESSED: "red", Verdict.INCONCLUSIVE: "yellow", Verdict.PASS: "green", Verdict.IMPROVED: "green"}
_NAMED = 6


def render_comparison(found: RunComparison, next_commands: list[str]) -> RenderableType:
    """The verdict first, one row per category and slice worst first, then a sentence for each blocked one."""
    comparison = found.comparison
    grid = table(
        "",
        "verdict",
        "n>",
        "baseline>",
        "candidate>",
        "difference>",
        "95% interval>",
        "adjusted p>",
        "broken>",
        "fixed>",
    )
    for position, verdict in enumerate(comparison.verdicts):
        grid.add_row(*_cells(verdict), end_section=position == len(comparison.verdicts) - 1)
    grid.add_row(*_cells(comparison.total), style="bold")
    parts: list[RenderableType] = [_answer(found), grid]
    parts += [Text(sentence(verdict, comparison.alpha), style="red") for verdict in comparison.regressed]
    parts += [_cases(verdict) for verdict in comparison.regressed]
    parts += [Text(_method(found), style="dim"), Text(""), *(Text(f"next: {command}") for command in next_commands)]
    return Group(*parts)


def _answer(found: RunComparison) -> Text:
    comparison = found.comparison
    names = f"{run_name(found.candidate)} on {found.candidate.header.model} against {run_name(found.baseline)} on {found.baseline.header.model}"
    regressed = comparison.regressed
    if not regressed:
        return headline("PASS", "green", f"{names}: no category of {len(comparison.verdicts)} regressed")
    text = f"{names}: {', '.join(item.name for item in regressed)} regressed ({len(regressed)} of {len(comparison.verdicts)})"
    if comparison.total.difference > 0:
        text += f", although the total rose by {100 * comparison.total.difference:.1f} points"
    return headline("FAIL", "red", text)


def _cells(verdict: CategoryVerdict) -> tuple[RenderableType, ...]:
    return (show(verdict.name), Text(verdict.verdict, style=_STYLE[verdict.verdict]), str(verdict.n), percent(verdict.baseline),
            percent(verdict.candidate), points(verdict.difference), points_interval(verdict.interval), p_value(verdict.p_adjusted),
            str(len(verdict.broken)), str(len(verdict.fixed)))  # fmt: skip


def sentence(verdict: CategoryVerdict, alpha: float) -> str:
    """A blocked category in words, for someone who reads no statistics."""
    before, after = round(verdict.baseline * verdict.n, 1), round(verdict.candidate * verdict.n, 1)
    return (f"{verdict.name}: {before:g}/{verdict.n} -> {after:g}/{verdict.n} cases pass; {len(verdict.broken)} cases broke, "
            f"{len(verdict.fixed)} fixed; chance alone would do this in fewer than {100 * max(verdict.p_adjusted, 0.001):.1f} of 100 comparisons "
            f"(allowed: {100 * alpha:g}): blocked.")  # fmt: skip


def _cases(verdict: CategoryVerdict) -> Text:
    shown = ", ".join(verdict.broken[:_NAMED]) + (
        f", and {len(verdict.broken) - _NAMED} more" if len(verdict.broken) > _NAMED else ""
    )
    return Text.assemble(f"  broke in {verdict.name}: ", show(shown))


def _method(found: RunComparison) -> str:
    before, after = found.cost_nanousd
    return (f"one draw a side, exact paired test, corrected for {len(found.comparison.verdicts)} rows (min-P, alpha {found.comparison.alpha:g}); "
            f"{found.same_answers} of {found.comparison.total.n} answers are the same; cost {format_usd(before)} -> {format_usd(after)}; "
            f"runs {found.baseline.id} and {found.candidate.id}")  # fmt: skip


def comparison_json(found: RunComparison) -> dict[str, Any]:
    """Stable keys; rates and differences in 0..1."""
    comparison = found.comparison
    return {
        "verdict": "FAIL" if comparison.regressed else "PASS", "baseline": found.baseline.id, "candidate": found.candidate.id,
        "prompt": found.candidate.header.prompt, "alpha": comparison.alpha, "regressed": [item.name for item in comparison.regressed],
        "rows": [_verdict_json(item) for item in comparison.verdicts], "total": _verdict_json(comparison.total),
        "same_answers": found.same_answers, "cost_nanousd": {"baseline": found.cost_nanousd[0], "candidate": found.cost_nanousd[1]},
    }  # fmt: skip


def _verdict_json(verdict: CategoryVerdict) -> dict[str, Any]:
    return {
        "name": verdict.name, "verdict": verdict.verdict, "n": verdict.n, "baseline": verdict.baseline, "candidate": verdict.candidate,
        "difference": verdict.difference, "interval": [verdict.interval.low, verdict.interval.high], "p": verdict.p,
        "p_adjusted": verdict.p_adjusted, "tolerance": verdict.tolerance, "broken": list(verdict.broken), "fixed": list(verdict.fixed),
    }  # fmt: skip
