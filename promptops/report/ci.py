"""A judged pull request on the terminal and as the comment people read: the verdict first, details folded."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.digest import short
from promptops.core.jsontext import readable
from promptops.core.money import format_usd
from promptops.evaluation.casebook import CaseRecord, Evaluation
from promptops.evaluation.ci import Checked, CiResult, GateAnswer
from promptops.gate import Verdict
from promptops.release.changes import PromptDiff
from promptops.report.changes import diff_text, summary_line
from promptops.report.comparison import method_lines, render_comparison, sentence, verdict_line
from promptops.report.markdown import cell, comparison_markdown, evaluation_markdown, fenced
from promptops.report.run import run_line
from promptops.report.show import show
from promptops.report.tables import command, count, headline, next_line, seconds, table

_WORD = {"passed": ("PASSED", "green"), "nothing changed": ("NOTHING CHANGED", "green"), "blocked": ("BLOCKED", "red"),
         "not evaluated": ("NOT EVALUATED", "yellow"), "pending": ("PENDING", "yellow"), "bad input": ("BAD INPUT", "red"),
         "approved": ("APPROVED", "green")}  # fmt: skip
_SHOWN_CASES = 5
_MOST_TEXT = 1_200


def render_ci(result: CiResult) -> RenderableType:
    """The verdict, a line for each changed prompt, then the comparisons of those that block."""
    word, style = _WORD[result.verdict]
    parts: list[RenderableType] = [headline(word, style, _whole(result))]
    if result.items:
        grid = table("prompt", "state", "changed", "what")
        for item in result.items:
            grid.add_row(
                show(item.change.name),
                Text(*_WORD[item.state]),
                show(", ".join(item.change.parts) or item.change.kind),
                show(_line(item), limit=200),
            )
        parts += [grid]
    for item in result.items:
        if item.state == "blocked" and item.evaluation and item.evaluation.comparison:
            parts += [Text(""), render_comparison(item.evaluation.comparison, [])]
        parts += [show(f"{item.change.name}: {change.what}; accept it with --accept-policy-change {change.name}", style="red")
                  for change in (item.evaluation.weaker if item.evaluation else ())]  # fmt: skip
    return Group(*parts, Text(""), *map(next_line, _next(result)))


def _whole(result: CiResult) -> str:
    since = f"since {result.base[:12]}"
    if result.lint.problems:
        return f"{count(len(result.lint.problems), 'problem')} in the files; nothing was evaluated"
    if not result.items:
        return f"no prompt, golden case, rubric or gate changed {since}"
    return (
        f"{count(len(result.items), 'prompt')} changed {since}: {', '.join(item.change.name for item in result.items)}"
    )


def _line(item: Checked) -> str:
    evaluation = item.evaluation
    if evaluation is None:
        return item.detail
    if evaluation.comparison and evaluation.evaluated:
        _, _, text = verdict_line(evaluation.comparison)
        if evaluation.weaker:
            text = f"the change weakens its own gate ({', '.join(change.name for change in evaluation.weaker)}); {text}"
        return text
    return run_line(evaluation.summary)[2]


def _next(result: CiResult) -> Iterator[str]:
    for item in result.items:
        found = item.evaluation.comparison if item.evaluation else None
        if item.state == "blocked" and found and found.comparison.blocking:
            yield command(
                "promptops",
                "explain",
                found.candidate.id,
                found.comparison.blocking[0].category,
                "--base",
                found.baseline.id,
            )
            return


# The comment


def ci_markdown(result: CiResult, *, most: int, report_url: str = "", diffs: Sequence[PromptDiff] = ()) -> str:
    """The body of a comment, at most `most` characters: what does not fit is left out from the end, and it says so."""
    where = f" See the [report]({report_url})." if report_url.startswith(("https://", "http://")) else ""
    head = [f"### promptops: {_badge(result.verdict)}", "", cell(_whole(result)) + where, ""]
    note = "\n_The rest is left out for lack of room; the report of the job has all of it._\n"
    text = "\n".join(head)
    for part in _parts(result, diffs):
        if len(text) + len(part) > most - len(note):
            return text + note
        text += part
    return text


def _badge(state: str) -> str:
    return {"passed": "✅ passed", "approved": "✅ approved", "nothing changed": "✅ nothing changed", "blocked": "❌ blocked",
            "not evaluated": "⚠️ not evaluated (this is no verdict on quality)", "pending": "⏳ pending",
            "bad input": "❌ files are wrong"}[state]  # fmt: skip


def _parts(result: CiResult, diffs: Sequence[PromptDiff]) -> Iterator[str]:
    if result.lint.problems:
        yield "\n".join(f"- {cell(str(problem))}" for problem in result.lint.problems[:50]) + "\n"
        return
    for item in result.items:
        yield _section(item)
    for diff in diffs:
        if text := diff_text(diff):
            yield _details(f"What changed in {cell(diff.name)}: {cell(summary_line(diff))}", fenced(_short(text)))
    for item in result.items:
        if item.evaluation:
            yield from _folded(item.evaluation)
    if result.items:
        again = "\n".join(
            [
                command("git", "checkout", result.head),
                *(command("promptops", "eval", item.change.name, "--against", result.base) for item in result.items),
            ]
        )
        yield _details("How to reproduce", fenced(again))


def _section(item: Checked) -> str:
    changed = ", ".join(item.change.parts) or item.change.kind
    lines = [
        f"\n#### {cell(item.change.name)}: {_badge(item.state)}",
        "",
        f"Changed: {cell(changed)}. Subject `{short(item.change.subject) or '-'}`.",
        "",
    ]
    evaluation = item.evaluation
    if evaluation is None:
        return "\n".join([*lines, cell(item.detail), ""])
    lines.append(
        evaluation_markdown(evaluation) if not evaluation.comparison else comparison_markdown(evaluation.comparison)
    )
    for change in evaluation.changes:
        state = (
            "accepted"
            if change.name in evaluation.accepted
            else f"blocks until it is accepted: `--accept-policy-change {cell(change.name)}`"
        )
        lines.append(f"- The gate became weaker: {cell(change.what)} ({state})")
    warned = (Verdict.CASES_BROKE, Verdict.BASELINE_DRIFTED)
    comparison = evaluation.comparison.comparison if evaluation.comparison else None
    lines += [
        f"- {cell(sentence(verdict, comparison))}"
        for verdict in (comparison.verdicts if comparison else ())
        if comparison and verdict.verdict in warned
    ]
    lines.append(f"\n{cell(_spending(evaluation))}\n")
    return "\n".join(lines)


def _spending(evaluation: Evaluation) -> str:
    total, paid = evaluation.summary.total, evaluation.summary.ledger.paid_nanousd
    text = f"p50 {seconds(total.p50_s)}, p99 {seconds(total.p99_s)}, cost of this run {format_usd(paid)}"
    if evaluation.comparison:
        text = f"{method_lines(evaluation.comparison)[2]}; {format_usd(paid)} paid for the new answers"
    return f"Latency and cost: {text}."


def _folded(evaluation: Evaluation) -> Iterator[str]:
    name = evaluation.run.header.prompt
    for kind in ("broken", "fixed"):
        cases = [case for case in evaluation.cases if case.change == kind]
        if cases:
            shown = "\n".join(_case(case) for case in cases[:_SHOWN_CASES])
            more = (
                f"\nand {len(cases) - _SHOWN_CASES} more: {', '.join(cell(case.id) for case in cases[_SHOWN_CASES:][:60])}\n"
                if len(cases) > _SHOWN_CASES
                else ""
            )
            yield _details(
                f"{count(len(cases), 'case')} of {cell(name)} {'broke' if kind == 'broken' else 'fixed'}", shown + more
            )


def _case(case: CaseRecord) -> str:
    parts = [
        f"**{cell(case.id)}** ({cell(case.category)}, {cell(case.file)}:{case.line}): {cell(case.side.reason)}",
        "",
    ]
    for title, text in (
        *((name, readable(value)) for name, value in (case.inputs or {}).items()),
        ("before", case.before.answer if case.before else ""),
        ("after", case.side.answer),
    ):
        if text:
            parts += [cell(title), fenced(_short(text))]
    return "\n".join(parts)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}… ({len(text) - _MOST_TEXT} more characters)"


def _details(title: str, body: str) -> str:
    return f"\n<details><summary>{title}</summary>\n\n{body}\n\n</details>\n"


def render_gate(answer: GateAnswer) -> RenderableType:
    """The answer of the required status, and what stands in its way."""
    word, style = _WORD[answer.verdict]
    said = {"passed": "every changed prompt passed", "nothing changed": "no prompt changed", "blocked": "a change made something worse",
            "not evaluated": "something could not be evaluated; this is no verdict on quality", "pending": "an evaluation is still missing",
            "bad input": "files are wrong"}[answer.verdict]  # fmt: skip
    return Group(headline(word, style, said), *(show(f"  {problem}") for problem in answer.why))
