"""Broken cases on the terminal and as JSON, with word differences between the answers."""

from difflib import SequenceMatcher
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.text import has_unspaced_script
from promptops.evaluation.explain import BrokenCase, Explanation
from promptops.report.run import run_name, why
from promptops.report.runs import case_json
from promptops.report.show import escape, show
from promptops.report.tables import command, count, next_line

_MAX_INPUT = 600


def render_explanation(found: Explanation) -> RenderableType:
    head = f"{count(found.broken, 'case')} broke in {found.category}: {run_name(found.candidate)} ({found.candidate.id}) against {found.baseline.id}"
    parts: list[RenderableType] = [show(head, style="bold")]
    for case in found.cases:
        parts += [Text(""), *_case(case)]
    if found.broken > len(found.cases):
        parts += [
            Text(""),
            next_line(
                command("promptops", "explain", found.candidate.id, found.category, "--limit", str(found.broken))
            ),
        ]
    return Group(*parts)


def _case(case: BrokenCase) -> list[RenderableType]:
    result = case.after.result
    parts: list[RenderableType] = [
        Text.assemble(
            ("BROKE", "bold red"), "  ", show(result.case_id), f"  {case.passed} draws pass, ", show(case.after.where)
        )
    ]
    if case.after.case is not None:
        for name, value in case.after.case.inputs.items():
            parts.append(Text.assemble((f"{escape(name)}: ", "bold"), show(str(value), limit=_MAX_INPUT)))
        for name, value in case.after.case.expected.items():
            parts.append(Text.assemble((f"expected {escape(name)}: ", "bold"), show(str(value), limit=_MAX_INPUT)))
    before, after = (view.answer.text if view.answer else "(no answer)" for view in (case.before, case.after))
    parts += [Text.assemble(("before: ", "bold"), _marked(before, after, "red")), Text.assemble(("after:  ", "bold"), _marked(after, before, "green")),
              Text.assemble(("why: ", "bold"), show(why(result)))]  # fmt: skip
    return parts


def _marked(text: str, other: str, style: str) -> Text:
    """The words of one answer, those that the other lacks in colour and brackets (brackets show without colours too).

    In scripts without blanks characters are compared, and what agrees by chance (under 4 in a row) counts as different.
    """
    joint, least = ("", 4) if has_unspaced_script(text + other) else (" ", 1)
    mine, theirs = ([*escape(item)] if not joint else escape(item).split() for item in (text, other))
    parts: list[tuple[bool, str]] = []
    for tag, start, end, _, _ in SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes():
        words, same = joint.join(mine[start:end]), tag == "equal" and end - start >= least
        if words and parts and parts[-1][0] == same:
            parts[-1] = (same, parts[-1][1] + joint + words)
        elif words:
            parts.append((same, words))
    marked = [(words, "") if same else (f"[{words}]", style) for same, words in parts]
    return Text(joint).join(Text(words, style=colour) for words, colour in marked)


def explanation_json(found: Explanation) -> dict[str, Any]:
    return {
        "category": found.category, "baseline": found.baseline.id, "candidate": found.candidate.id, "broken": found.broken,
        "cases": [{"passed": case.passed, "before": case_json(case.before), "after": case_json(case.after)} for case in found.cases],
    }  # fmt: skip
