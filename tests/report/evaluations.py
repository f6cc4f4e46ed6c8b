"""Evaluations whose every text is chosen by the test."""

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from conftest import Outcome, Sandbox
from promptops.evaluation.casebook import CaseRecord, Evaluation, Side, read_evaluation
from promptops.project.project import open_project
from promptops.project.store import open_store

Call = Callable[..., Outcome]
HOSTILE = (
    "</script><script>window.pwned=1;alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(2)>"
    '{{7*7}}{% raw %}<a href="javascript:alert(3)">x</a><svg onload=alert(4)>\u202egnp.exe\u200b &amp; "quoted" \'single\''
)


def evaluation_of(sandbox: Sandbox, run: str = "latest") -> Evaluation:
    project = open_project(sandbox.root)
    with closing(open_store(sandbox.root)) as store:
        return read_evaluation(store, project, store.runs()[0] if run == "latest" else store.run(run))


def a_case(name: str, *, passed: bool | None = True, answer: str = "text", **changes: Any) -> CaseRecord:
    values: dict[str, Any] = {"id": name, "category": "billing", "tags": {"lang": "en"}, "file": "golden/p.jsonl", "line": 3,
                              "inputs": {"ticket": "in"}, "expected": {"label": "out"}, "side": a_side(passed=passed, answer=answer)}  # fmt: skip
    return CaseRecord(**(values | changes))


def a_side(*, passed: bool | None = True, answer: str = "text", reason: str = "because", outcome: str = "ok") -> Side:
    return Side(passed=int(passed is True), failed=int(passed is False), unscored=int(passed is None), answer=answer, outcome=outcome,
                scores=(("equals/label", passed, reason, None),), latency_s=0.25, cost_nanousd=1_500_000)  # fmt: skip


def with_cases(evaluation: Evaluation, *cases: CaseRecord) -> Evaluation:
    return Evaluation(summary=evaluation.summary, cases=cases, comparison=evaluation.comparison)


def hostile_rows(sandbox: Sandbox) -> list[Mapping[str, Any]]:
    """The starter's rows with hostile text wherever a row may hold text, as long as the row is still valid."""
    return [{**row, "inputs": {"feedback": f"{HOSTILE} {index}"}, "expected": {"sentiment": HOSTILE}, "tags": {"length": HOSTILE[:80]}}
            for index, row in enumerate(sandbox.rows())]  # fmt: skip
