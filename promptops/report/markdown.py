"""Evaluations and comparisons as Markdown, for a pull request or a page; text from outside cannot break out of its cell."""

import re

from promptops.core.checks.base import brief
from promptops.core.money import format_usd
from promptops.evaluation.casebook import Evaluation
from promptops.evaluation.compare import RunComparison
from promptops.evaluation.summary import Row
from promptops.gate import CategoryVerdict
from promptops.report.comparison import judge_lines, sentence, traffic_lines
from promptops.report.run import judge_notices, run_line, run_name
from promptops.report.show import escape
from promptops.report.tables import p_value, percent, percent_interval, points, points_interval, seconds
from promptops.report.weighted import BY_TRAFFIC, weights_line

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#!~"})


def comparison_markdown(found: RunComparison) -> str:
    """Verdict first, one row per category and slice, a sentence for each blocked one, and how it was judged."""
    comparison = found.comparison
    word = "FAIL" if found.blocked else "PASS"
    names = f"{cell(run_name(found.candidate))} against {cell(run_name(found.baseline))}"
    lines = [f"**{word}** {names}", "", "| | verdict | n | before | after | points | 95% interval | broke | fixed | adjusted p | could see |",
             "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    lines += [_row(verdict) for verdict in comparison.verdicts]
    lines.append(_row(comparison.total, judged=False))
    if weighted := comparison.weighted:
        lines.append(f"| {BY_TRAFFIC} | | | {percent(weighted.baseline_rate)} | {percent(weighted.candidate_rate)} | {points(weighted.difference)} | "
                     f"{points_interval(weighted.interval)} | | | | |")  # fmt: skip
    lines += [f"\n{cell(sentence(verdict, comparison))}" for verdict in comparison.blocking]
    lines.append(
        f"\nMethod: {cell(comparison.method)}, alpha {comparison.alpha:g}. Runs: {found.baseline.id}, {found.candidate.id}."
    )
    lines += [f"\n{cell(line)}" for line in (*judge_lines(found), *traffic_lines(found))]
    return "\n".join(lines) + "\n"


def evaluation_markdown(item: Evaluation) -> str:
    """A run with a row per category and slice, or its comparison with what weakens the gate."""
    if item.comparison:
        weaker = "".join(f"\nThe change weakens its own gate: {cell(change.what)}\n" for change in item.weaker)
        return comparison_markdown(item.comparison) + weaker
    word, _, sentence_ = run_line(item.summary)
    lines = [
        f"**{word}** {cell(sentence_)}",
        "",
        "| | n | passed | rate | 95% interval | unscored | cost | p50 | p99 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_run_row(row) for row in (*item.summary.categories, *item.summary.slices, item.summary.total)]
    if weighted := item.summary.weighted:
        lines.append(f"| {BY_TRAFFIC} | | | {percent(weighted.rate)} | {percent_interval(weighted.interval)} | | | | |")
        lines.append(f"\n{cell(weights_line(item.run.header.weights, weighted.share))}")
    lines += [f"\n{cell(notice.plain)}" for notice in judge_notices(item.summary)]
    return "\n".join([*lines, f"\nRun {item.run.id}."]) + "\n"


def _run_row(row: Row) -> str:
    cells = (cell(row.name), str(row.scored + row.unscored), str(row.passed), percent(row.rate), percent_interval(row.interval), str(row.unscored or "-"),
             cell(format_usd(row.cost_nanousd)), seconds(row.p50_s), seconds(row.p99_s))  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _row(verdict: CategoryVerdict, *, judged: bool = True) -> str:
    seen = "-" if verdict.detectable is None else f">= {100 * verdict.detectable:.0f}"
    cells = (cell(verdict.category), f"**{verdict.verdict}**" if judged else "", str(verdict.n), percent(verdict.baseline_rate),
             percent(verdict.candidate_rate), points(verdict.difference), points_interval(verdict.interval), str(len(verdict.broken)),
             str(len(verdict.fixed)), p_value(verdict.p_adjusted) if judged else "", seen)  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def cell(text: str) -> str:
    """One line of plain text: control characters escaped, Markdown disarmed, mentions and addresses broken by an invisible joint."""
    safe = brief(escape(text), 400).translate(_SPECIAL)
    return safe.replace("@", "@\u2060").replace("://", ":\u2060//").replace("www.", "www\u2060.")


def fenced(text: str) -> str:
    """A code block that nothing in the text can end; what is in it is neither markup nor a mention."""
    safe = escape(text)
    longest = max((len(run) for run in re.findall("`+", safe)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{safe}\n{fence}\n"
