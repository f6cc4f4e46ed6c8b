"""Scripted judges behind a real HTTP server: they read the blocks they are sent, and judge honestly, or in one of the ways judges go wrong."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from conftest import PROMPT, Sandbox
from faults.server import Call, Fault, Script, answer

BLOCK = re.compile(r"^--- begin (.+) (\w+)\n((?:\|.*\n)*)--- end \1 \2$", re.MULTILINE)
Opinion = Callable[[Mapping[str, str], Call], bool]
"""(blocks by title, call) -> whether the answer is right."""

RUBRIC = """promptops: 1
name: sentiment
criteria:
  - {id: right, question: Is the sentiment that of the feedback?, scale: pass_fail, hard: true, weight: 2}
  - id: plain
    question: How plain is the answer?
    scale: 1..5
    anchors: {"1": hidden in talk, "3": with talk, "5": the label alone}
"""


def blocks(call: Call) -> dict[str, str]:
    """What the judge was shown, by title; text that left its block would not be in it."""
    return {
        title: "\n".join(line.removeprefix("| ") for line in lines.splitlines())
        for title, _, lines in BLOCK.findall(call.prompt)
    }


def verdict(right: bool, *, reason: str = "because", plain: int = 5) -> dict[str, Any]:
    return {"right": {"reason": reason, "score": right}, "plain": {"reason": "plain", "score": plain if right else 1}}


def judge(opinion: Opinion) -> Script:
    """A judge that answers well-formed verdicts of this opinion."""

    def script(call: Call) -> Fault:
        said = list(verdict(opinion(blocks(call), call)).values())
        criteria = call.body["response_format"]["json_schema"]["schema"]["required"]
        return answer(json.dumps(dict(zip(criteria, said, strict=True))))

    return script


def honest(sandbox: Sandbox) -> Opinion:
    """Knows the right label of every golden case, and looks at the label in the answer alone."""
    expected = {row["inputs"]["feedback"]: row["expected"]["sentiment"] for row in sandbox.rows()}

    def opinion(shown: Mapping[str, str], _: Call) -> bool:
        found = re.search(r'"sentiment": ?"(\w+)"', shown["answer"])
        return found is not None and found[1] == expected[shown["input feedback"]]

    return opinion


def says(content: str) -> Script:
    """A judge that says this whatever it is shown."""
    return lambda _: answer(content)


def judged_project(sandbox: Sandbox, url: str, *, judge: str = "model: judge", rubric: str = RUBRIC, checks: str = "{check: json_schema}",
                   **model: Any) -> None:  # fmt: skip
    """The starter project with a judge in place of its check of the label: `judge` is the section of the suite."""
    settings = {
        "provider": "openai", "model": "judge-2026-01-01", "base_url": url, "timeout_s": 5, "input_usd_per_mtok": "1", "output_usd_per_mtok": "2",
    } | model  # fmt: skip
    lines = [
        "outage_patience_s = 0.5",
        "[models.judge]",
        *(f"{key} = {json.dumps(value)}" for key, value in settings.items()),
    ]
    sandbox.write("promptops.toml", "\n".join(lines) + "\n")
    sandbox.write("rubrics/sentiment.yaml", rubric)
    section = f"judge: {{{judge}}}\n" if judge else ""
    sandbox.write(
        f"golden/{PROMPT}.yaml",
        f"promptops: 1\nprompt: {PROMPT}\ncases: {PROMPT}.jsonl\nchecks: [{checks}]\nrubric: sentiment\n{section}",
    )
