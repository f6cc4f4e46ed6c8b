"""Evaluations as rows, one a case: CSV for spreadsheets, JSON lines for programs."""

import csv
import json
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any

from promptops.core.jsontext import readable
from promptops.evaluation.casebook import CaseRecord, Evaluation
from promptops.report.run import run_name
from promptops.report.show import spreadsheet_cell

_COLUMNS = ("prompt", "run", "case", "category", "tags", "where", "change", "result", "passed", "draws", "before", "why",
            "answer", "expected", "inputs", "latency_s", "cost_usd")  # fmt: skip
_RESULT = {True: "pass", False: "fail", None: "unscored"}


def csv_rows(evaluations: Sequence[Evaluation]) -> str:
    """One row a case. Text that a spreadsheet would run as a formula starts with an apostrophe."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for evaluation in evaluations:
        writer.writerows([spreadsheet_cell(value) for value in _row(evaluation, case)] for case in evaluation.cases)
    return out.getvalue()


def _row(evaluation: Evaluation, case: CaseRecord) -> Iterator[str | float | int]:
    side, before = case.side, case.before
    yield run_name(evaluation.run)
    yield evaluation.run.id
    yield case.id
    yield case.category
    yield " ".join(f"{name}={value}" for name, value in sorted(case.tags.items()))
    yield f"{case.file}:{case.line}"
    yield case.change
    yield _RESULT[side.verdict]
    yield side.passed
    yield side.draws
    yield "" if before is None else f"{before.passed} of {before.draws}"
    yield side.reason
    yield side.answer
    yield readable(dict(case.expected)) if case.expected is not None else ""
    yield readable(dict(case.inputs)) if case.inputs is not None else ""
    yield round(side.latency_s, 6)
    yield side.cost_nanousd / 1e9


def json_lines(evaluations: Sequence[Evaluation]) -> str:
    """One JSON object a case, with all that is known of it."""
    return "".join(json.dumps(row) + "\n" for evaluation in evaluations for row in case_rows(evaluation))


def case_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for case in evaluation.cases:
        yield {
            "prompt": run_name(evaluation.run), "run": evaluation.run.id, "case": case.id, "category": case.category,
            "tags": dict(case.tags), "file": case.file, "line": case.line, "change": case.change,
            "inputs": dict(case.inputs) if case.inputs is not None else None,
            "expected": dict(case.expected) if case.expected is not None else None,
            **_side(case), "before": _before(case),
        }  # fmt: skip


def _side(case: CaseRecord) -> dict[str, Any]:
    side = case.side
    return {
        "passed": side.passed, "failed": side.failed, "unscored": side.unscored, "outcome": side.outcome, "answer": side.answer, "why": side.reason,
        "scores": [{"check": name, "passed": passed, "reason": reason, "value": value} for name, passed, reason, value in side.scores],
        "latency_s": side.latency_s, "cost_nanousd": side.cost_nanousd,
    }  # fmt: skip


def _before(case: CaseRecord) -> dict[str, Any] | None:
    if case.before is None:
        return None
    side = case.before
    return {
        "passed": side.passed,
        "failed": side.failed,
        "unscored": side.unscored,
        "answer": side.answer,
        "why": side.reason,
    }
