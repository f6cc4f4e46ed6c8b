"""Findings as SARIF 2.1.0, for code scanning: lint problems, and categories that regressed."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from promptops.core.errors import Problem
from promptops.core.version import __version__
from promptops.evaluation.casebook import Evaluation
from promptops.report.annotations import split_place
from promptops.report.comparison import sentence
from promptops.report.run import run_name
from promptops.report.show import escape

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULES = {
    "lint": "A file of the project is wrong",
    "lint-advice": "A file of the project could be better",
    "regressed": "A category became worse",
    "floor": "A category is below its floor",
    "weaker-gate": "A change asks less of itself",
    "not-evaluated": "A prompt could not be evaluated",
}


def sarif_problems(problems: Iterable[Problem], warnings: Iterable[Problem]) -> str:
    """The report of `promptops lint`."""
    found = [_result("lint", "error", str(item), *split_place(item.where)) for item in problems]
    return _document(
        [*found, *(_result("lint-advice", "warning", str(item), *split_place(item.where)) for item in warnings)]
    )


def sarif(evaluations: Sequence[Evaluation]) -> str:
    """What blocks, on the file of the prompt or its suite."""
    return _document([item for evaluation in evaluations for item in _findings(evaluation)])


def _findings(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    name, header = run_name(evaluation.run), evaluation.run.header
    file, suite = f"prompts/{header.prompt}/prompt.md", f"golden/{header.prompt}.yaml"
    if not evaluation.evaluated:
        yield _result("not-evaluated", "error", f"{name} has answers without a score", file, 1)
    elif evaluation.comparison is None:
        for row in evaluation.summary.missed_floors:
            yield _result("floor", "error", f"{name}: {row.name} is below its floor of {row.floor}", suite, 1)
    else:
        comparison = evaluation.comparison.comparison
        for verdict in comparison.blocking:
            yield _result("regressed", "error", f"{name}: {sentence(verdict, comparison)}", file, 1)
        for change in evaluation.weaker:
            yield _result("weaker-gate", "error", f"{name}: {change.what}", suite, 1)


def _result(rule: str, level: str, message: str, file: str, line: int) -> dict[str, Any]:
    place = {
        "physicalLocation": {
            "artifactLocation": {"uri": escape(file) or "pyproject.toml"},
            "region": {"startLine": line},
        }
    }
    return {"ruleId": rule, "level": level, "message": {"text": escape(message)}, "locations": [place]}


def _document(results: list[dict[str, Any]]) -> str:
    used = dict.fromkeys(item["ruleId"] for item in results)
    driver = {
        "name": "promptops", "version": __version__, "rules": [{"id": rule, "shortDescription": {"text": _RULES[rule]}} for rule in used],
    }  # fmt: skip
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    return json.dumps(document, indent=2) + "\n"
