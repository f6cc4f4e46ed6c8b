"""promptops report, and what --format and -o of eval and compare write."""

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import DataError, EvaluationError, ExitCode

if TYPE_CHECKING:
    from promptops.evaluation.casebook import Evaluation

Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="What to print: text, json, jsonl, junit, github, sarif, markdown, csv or html.",
    ),
]
Output = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write a report too (may be repeated): .json .jsonl .xml .sarif .md .csv .html, or FORMAT:FILE.",
    ),
]


class Reports:
    """The reports a command was asked for, checked before anything is evaluated.

    Raises DataError for formats there are not, and for more than one way to say what is printed.
    """

    def __init__(self, outputs: Sequence[str] | None, *, shown: str = "text", as_json: bool = False) -> None:
        from promptops.report.formats import split_output, writer

        if as_json and shown != "text":
            raise DataError(f"--json and --format {shown} exclude each other", hint="choose one")
        self.shown = "" if shown == "text" or as_json else shown
        if self.shown:
            writer(self.shown)
        self.files = [split_output(text) for text in outputs or ()]

    @property
    def wanted(self) -> bool:
        return bool(self.shown or self.files)

    def write(self, evaluations: Sequence["Evaluation"]) -> None:
        """Write each file, then print. Raises EvaluationError when a file cannot be written; what was there before stays."""
        from promptops.cli.output import note
        from promptops.report.formats import writer

        for name, file in self.files:
            write_whole(Path(file), writer(name)(evaluations))
            note(f"wrote {file}")
        if self.shown:
            sys.stdout.write(writer(self.shown)(evaluations))


def write_whole(path: Path, content: str | bytes, *, newline: str | None = None) -> None:
    """Replace a file by one that is complete, or leave it as it was; a device or pipe is written to. Raises EvaluationError."""
    from promptops.project.tree import is_stream

    made = ""
    if isinstance(content, str):
        ends = content if newline == "" else content.replace("\n", os.linesep)
        content = ends.encode("utf-8", "backslashreplace")
    try:
        if is_stream(path):
            with path.open("wb") as stream:
                stream.write(content)
            return
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(made).chmod(0o644)
        Path(made).replace(path)
    except OSError as error:
        with suppress(OSError):
            Path(made).unlink()
        raise EvaluationError(
            "the report cannot be written",
            where=str(path),
            why=error.strerror or "",
            hint="what was there before is unchanged",
        ) from error


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id, `latest`, or exported .jsonl file.")] = "latest",
    base: Annotated[
        str, typer.Option(metavar="RUN", help="Compare with this run: an id, `latest`, a git ref or a file.")
    ] = "",
    output: Output = None,
    shown: Format = "text",
    history: Annotated[
        str, typer.Option(metavar="NAME", help="How this prompt did over its versions, instead of a run.")
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="With --history: on this model; default: that of the newest run.")
    ] = "",
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Write a stored run as a page or a file.

    Alone, or with --base beside a baseline; with --history a prompt over its versions. Without -o and --format: report.html.
    """
    from contextlib import closing

    from promptops.evaluation.casebook import read_evaluation
    from promptops.evaluation.compare import compare_runs
    from promptops.evaluation.find_run import find_pair, find_run
    from promptops.project.project import open_project
    from promptops.project.store import open_store

    if history and (base or run != "latest" or shown != "text"):
        raise DataError(
            "--history shows all versions", why="a run, --base and --format belong to one run", hint="leave them out"
        )
    if model and not history:
        raise DataError("--model chooses the runs of --history", hint="add --history NAME, or name the run")
    if history:
        return _history(
            history,
            output or [] if as_json else output or ["history.html"],
            model=model,
            open_it=open_it,
            as_json=as_json,
        )
    asked = Reports(output or ([] if shown != "text" else ["report.html"]), shown=shown, as_json=as_json)
    pages = [file for name, file in asked.files if name == "html"]
    if open_it and not pages:
        raise DataError("--open needs a page", hint="add -o report.html")
    project = open_project(Path.cwd())
    with closing(open_store(project.store_at)) as store:
        if base:
            before, after = find_pair(store, project, base, run)
            evaluation = read_evaluation(store, project, after, compare_runs(store, before, after))
        else:
            evaluation = read_evaluation(store, project, find_run(store, project, run))
    asked.write([evaluation])
    if as_json:
        from promptops.cli.output import emit_json

        emit_json({"run": evaluation.run.id, "files": [file for _, file in asked.files]})
    if open_it:
        _open(pages[0])
    return ExitCode.OK


def _history(name: str, outputs: Sequence[str], *, model: str, open_it: bool, as_json: bool) -> int:
    from contextlib import closing

    from promptops.cli.output import emit_json, note
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.release.trend import read_trend
    from promptops.report.trend import trend_json, trend_page

    if any(not file.endswith(".html") for file in outputs):
        raise DataError("a history is a page", where=", ".join(outputs), hint="-o FILE.html, or --json")
    project = open_project(Path.cwd())
    with closing(open_store(project.store_at)) as store:
        trend = read_trend(store, project, name, model)
    for file in outputs:
        write_whole(Path(file), trend_page(trend))
        note(f"wrote {file}")
    if as_json:
        emit_json(trend_json(trend))
    if open_it and outputs:
        _open(outputs[0])
    return ExitCode.OK


def _open(file: str) -> None:
    import webbrowser

    webbrowser.open(Path(file).resolve().as_uri())
