"""What GitHub shows beside the lines of a change: workflow commands in which no text of a model can be a command."""

from collections.abc import Iterable, Iterator, Sequence

from promptops.core.checks.base import brief
from promptops.core.errors import Problem
from promptops.evaluation.casebook import Evaluation
from promptops.report.comparison import sentence
from promptops.report.run import run_name
from promptops.report.show import escape

_MOST = 10  # GitHub shows ten of a kind a step
_LONGEST = 1000


def annotations(evaluations: Sequence[Evaluation]) -> str:
    """Errors for what blocks (on the prompt's file), warnings for cases that broke (on their golden row)."""
    return "".join(line for evaluation in evaluations for line in _annotate(evaluation))


def _annotate(evaluation: Evaluation) -> Iterator[str]:
    name, header = run_name(evaluation.run), evaluation.run.header
    file = f"prompts/{header.prompt}/prompt.md"
    if not evaluation.evaluated:
        yield annotation(
            "error", f"{name} could not be evaluated; this is no verdict on quality", file=file, title="not evaluated"
        )
        return
    if evaluation.comparison is None:
        for row in evaluation.summary.missed_floors:
            yield annotation(
                "error",
                f"{row.name}: {row.passed}/{row.scored} pass, below the floor of {row.floor}",
                file=file,
                title=name,
            )
        return
    comparison = evaluation.comparison.comparison
    for verdict in comparison.blocking:
        yield annotation("error", sentence(verdict, comparison), file=file, title=f"{name}: {verdict.verdict}")
    for change in evaluation.weaker:
        yield annotation(
            "error", f"the change weakens its own gate: {change.what}", file=f"golden/{header.prompt}.yaml", title=name
        )
    broken = [case for case in evaluation.cases if case.change == "broken"]
    for case in broken[:_MOST]:
        yield annotation("warning", case.side.reason, file=case.file, line=case.line, title=f"{case.id} broke")


def problem_annotations(problems: Iterable[Problem], level: str) -> Iterator[str]:
    for problem in problems:
        file, line = split_place(problem.where)
        yield annotation(level, str(problem), file=file, line=line, title="promptops lint")


def split_place(where: str) -> tuple[str, int]:
    """(file, line) of `file:line`; line 1 where none is given."""
    file, _, line = where.rpartition(":")
    return (file, int(line)) if file and line.isdigit() else (where, 1)


def annotation(level: str, message: str, *, file: str = "", line: int = 1, title: str = "") -> str:
    """One workflow command; everything that could end it or begin another is written as an escape."""
    properties = {"file": file, "line": str(line), "title": title} if file else {"title": title}
    shown = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value)
    return f"::{level} {shown}::{_message(brief(escape(message), _LONGEST))}\n"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(brief(escape(text), 200)).replace(":", "%3A").replace(",", "%2C")
