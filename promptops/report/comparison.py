"""A comparison on the terminal and as JSON."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.money import format_usd
from promptops.evaluation.compare import RunComparison
from promptops.gate import CategoryVerdict, Verdict
from promptops.report.run import run_name
from promptops.report.show import show
from promptops.report.tables import count, headline, next_line, p_value, percent, points, points_interval, table

_STYLE = {Verdict.REGRESSED: "red", Verdict.INCONCLUSIVE: "yellow", Verdict.PASS: "green", Verdict.IMPROVED: "green"}
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
    )
    for position, verdict in enumerate(comparison.verdicts):
        grid.add_row(*_cells(verdict), end_section=position == len(comparison.verdicts) - 1)
    grid.add_row(*_cells(comparison.total, judged=False), style="bold")
    parts: list[RenderableType] = [_answer(found), grid, Text("")]
    for verdict in comparison.regressed:
        parts += [show(sentence(verdict, comparison.alpha), style="red"), _cases(verdict), Text("")]
    parts += [Text(line, style="dim") for line in _method(found)]
    return Group(*parts, Text(""), *(next_line(line) for line in next_commands))


def _answer(found: RunComparison) -> Text:
    comparison = found.comparison
    names = f"{run_name(found.candidate)} on {found.candidate.header.model} against {run_name(found.baseline)} on {found.baseline.header.model}"
    regressed, rows = comparison.regressed, len(comparison.verdicts)
    if not regressed:
        unsure = sum(item.verdict is Verdict.INCONCLUSIVE for item in comparison.verdicts)
        doubt = f"; {unsure} inconclusive: too few cases to rule a drop out" if unsure else ""
        return headline("PASS", "green", f"{names}: none of {rows} categories and slices regressed{doubt}")
    text = f"{names}: {', '.join(item.name for item in regressed)} regressed ({len(regressed)} of {rows} categories and slices)"
    if comparison.total.difference > 0:
        text += f", although the total rose by {100 * comparison.total.difference:.1f} points"
    return headline("FAIL", "red", text)


def _cells(verdict: CategoryVerdict, *, judged: bool = True) -> tuple[str | Text, ...]:
    """The total has no verdict of its own: one good category must not make up for a bad one."""
    word = Text(verdict.verdict, style=_STYLE[verdict.verdict]) if judged else Text("")
    return (show(verdict.name), word, str(verdict.n), percent(verdict.baseline),
            percent(verdict.candidate), points(verdict.difference), points_interval(verdict.interval),
            str(len(verdict.broken)), str(len(verdict.fixed)), p_value(verdict.p_adjusted) if judged else "")  # fmt: skip


def sentence(verdict: CategoryVerdict, alpha: float) -> str:
    """A blocked category in words, for someone who reads no statistics."""
    before, after = round(verdict.baseline * verdict.n, 1), round(verdict.candidate * verdict.n, 1)
    chance = 100 * verdict.p_adjusted
    often = "fewer than 0.1" if chance < 0.1 else f"about {chance:.1f}"
    return (f"{verdict.name}: {before:g}/{verdict.n} -> {after:g}/{verdict.n} cases pass; {count(len(verdict.broken), 'case')} broke, "
            f"{len(verdict.fixed)} fixed. If nothing had changed, chance alone would do this in {often} of 100 comparisons "
            f"(allowed: {100 * alpha:g}): blocked.")  # fmt: skip


def _cases(verdict: CategoryVerdict) -> Text:
    shown = ", ".join(verdict.broken[:_NAMED]) + (
        f", and {len(verdict.broken) - _NAMED} more" if len(verdict.broken) > _NAMED else ""
    )
    return Text.assemble(f"  broke in {verdict.name}: ", show(shown))


def _method(found: RunComparison) -> tuple[str, ...]:
    before, after = found.cost_nanousd
    return (f"exact paired test, corrected for {len(found.comparison.verdicts)} rows (min-P, alpha {found.comparison.alpha:g}); PASS: no drop beyond the tolerance",
            f"{found.same_answers} of {found.comparison.total.n} cases got the same answers; cost {format_usd(before)} -> {format_usd(after)}",
            f"before: run {found.baseline.id}, after: run {found.candidate.id}")  # fmt: skip


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
