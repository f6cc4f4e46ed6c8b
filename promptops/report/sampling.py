"""A judged sample of replies on a terminal and as JSON; no text of a customer is shown."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.audit.sampling import Sample, Verdict
from promptops.core.money import format_usd
from promptops.gate.stats import wilson_interval
from promptops.report.show import show
from promptops.report.tables import command, count, headline, next_line, percent, percent_interval, table

_BY = ("category", "language", "version")


def render_planned(sample: Sample, source: str) -> RenderableType:
    """What would be judged, and what it would cost at the most."""
    calls, cost = sample.estimate()
    assert sample.plan.judge, "a plan with a judge"
    text = f"{count(len(sample.open), 'reply').replace('replys', 'replies')} of {sample.prompt} would be judged by {sample.plan.judge.name}: at most {calls} calls, {format_usd(cost)}"
    return Group(headline("PLANNED", "yellow", text), show(_frame(sample), "dim"),
                 next_line(command("promptops", "monitor", "sample", sample.prompt, "--events", source, "--judge", "--max-cost", "1")))  # fmt: skip


def render_judged(sample: Sample, verdicts: Sequence[Verdict], cost_nanousd: int, source: str) -> RenderableType:
    """Pass rate and score of the new verdicts, by category, language and version; the worst answers by id."""
    given = [verdict for verdict in verdicts if verdict.passed is not None]
    parts: list[RenderableType] = (
        [headline("JUDGED", "green", f"{sample.prompt}: {_line(given)}; {format_usd(cost_nanousd)}")]
        if given
        else [headline("NOTHING NEW", "green", "every reply of the sample has its verdict")]
    )
    parts.append(show(_frame(sample), "dim"))
    if len(given) < len(verdicts):
        parts.append(show(f"{len(verdicts) - len(given)} got no verdict and are not counted", "yellow"))
    grid = table("of", "n>", "pass>", "95%>", "score>")
    for name in _BY:
        for value in sorted({str(verdict.event[name]) for verdict in given}):
            rows = [verdict for verdict in given if verdict.event[name] == value]
            passed = sum(bool(verdict.passed) for verdict in rows)
            grid.add_row(show(f"{name} {value or '(none)'}", limit=60), str(len(rows)), percent(passed / len(rows)), percent_interval(wilson_interval(passed, len(rows))), f"{_mean(rows):.2f}")  # fmt: skip
    if given:
        parts += [Text(""), grid]
    for verdict in sorted((item for item in given if not item.passed), key=lambda item: item.value or 0.0)[:5]:
        parts.append(
            show(f"  fails: {verdict.event['id']} of {verdict.event['at'][:16]}, score {verdict.value or 0.0:.2f}")
        )
    parts.append(next_line(command("promptops", "monitor", "--events", source, "--by", "category")))
    return Group(*parts)


def sample_json(sample: Sample, verdicts: Sequence[Verdict], cost_nanousd: int, *, written: int) -> dict[str, Any]:
    """Stable keys; values and rates in 0..1, money in nano-dollars."""
    calls, cost = sample.estimate()
    assert sample.plan.judge, "a plan with a judge"
    given = [verdict for verdict in verdicts if verdict.passed is not None]
    return {
        "prompt": sample.prompt, "judge": sample.plan.judge.name, "judge_digest": sample.plan.judge.digest, "standing": sample.plan.judge.standing.standing,
        "replies": sample.replies, "with_texts": sample.whole, "sampled": len(sample.chosen), "to_judge": len(sample.open),
        "at_most_calls": calls, "at_most_nanousd": cost, "judged": len(given), "passed": sum(bool(verdict.passed) for verdict in given),
        "score": round(_mean(given), 4) if given else None, "no_verdict": len(verdicts) - len(given), "cost_nanousd": cost_nanousd, "written": written,
        "verdicts": [{"id": verdict.event["id"], "category": verdict.event["category"], "language": verdict.event["language"], "version": verdict.event["version"],
                      "passed": verdict.passed, "value": verdict.value} for verdict in verdicts],
    }  # fmt: skip


def _line(given: Sequence[Verdict]) -> str:
    passed = sum(bool(verdict.passed) for verdict in given)
    interval = percent_interval(wilson_interval(passed, len(given)))
    return f"{percent(passed / len(given))} of {len(given)} pass {interval}, mean score {_mean(given):.2f}"


def _mean(given: Sequence[Verdict]) -> float:
    return sum(verdict.value or 0.0 for verdict in given) / len(given)


def _frame(sample: Sample) -> str:
    assert sample.plan.judge, "a plan with a judge"
    known = len(sample.chosen) - len(sample.open)
    standing = (
        ""
        if sample.plan.judge.standing.may_block
        else f"; the judge is {sample.plan.judge.standing.standing}: {sample.plan.judge.standing.why}"
    )
    return f"{len(sample.chosen)} chosen by chance of {sample.whole} whole answers with texts ({sample.replies} in all), {known} judged before{standing}"
