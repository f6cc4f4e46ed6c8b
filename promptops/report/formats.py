"""The formats an evaluation can be written in, and which one a file name means."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from promptops.core.errors import DataError, did_you_mean
from promptops.evaluation.casebook import Evaluation
from promptops.report.annotations import annotations
from promptops.report.comparison import comparison_json
from promptops.report.html import page
from promptops.report.junit import junit
from promptops.report.markdown import evaluation_markdown
from promptops.report.rows import csv_rows, json_lines
from promptops.report.run import run_json
from promptops.report.sarif import sarif

Writer = Callable[[Sequence[Evaluation]], str]


def json_document(evaluations: Sequence[Evaluation]) -> str:
    """Runs and comparisons as `eval --json` and `compare --json` print them."""
    import orjson

    return (
        orjson.dumps(
            {"evaluations": [evaluation_json(item) for item in evaluations]}, option=orjson.OPT_INDENT_2
        ).decode()
        + "\n"
    )


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """A run, with its comparison where there is one, and whether it blocks."""
    comparison = comparison_json(evaluation.comparison) if evaluation.comparison else None
    changes = [
        {"name": item.name, "what": item.what, "accepted": item.name in evaluation.accepted}
        for item in evaluation.changes
    ]
    return {"run": run_json(evaluation.summary), "comparison": comparison, "against": evaluation.ref, "policy_changes": changes,
            "evaluated": evaluation.evaluated, "blocked": evaluation.blocked}  # fmt: skip


WRITERS: Mapping[str, Writer] = {
    "json": json_document, "jsonl": json_lines, "junit": junit, "github": annotations, "sarif": sarif,
    "markdown": lambda evaluations: "\n".join(map(evaluation_markdown, evaluations)), "csv": csv_rows, "html": page,
}  # fmt: skip
_SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".xml": "junit",
    ".sarif": "sarif",
    ".md": "markdown",
    ".csv": "csv",
    ".html": "html",
}


def writer(name: str) -> Writer:
    """Raises DataError for a format there is not."""
    if name not in WRITERS:
        raise DataError(f"no format {name[:40]!r}", hint=did_you_mean(name, WRITERS))
    return WRITERS[name]


def split_output(text: str) -> tuple[str, str]:
    """(format, file) of `FORMAT:FILE`, or of a file whose ending says what it holds. Raises DataError."""
    name, colon, file = text.partition(":")
    if colon and name in WRITERS:
        return name, file
    suffix = PurePath(text).suffix
    if suffix not in _SUFFIXES:
        raise DataError(
            f"cannot tell the format of {text[:80]!r}", hint="write FORMAT:FILE, with one of " + ", ".join(WRITERS)
        )
    return _SUFFIXES[suffix], text
