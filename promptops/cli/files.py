"""promptops init, lint, list, show: the files of a project."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from promptops.evaluation.lint import LintReport

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where; default: here.")] = ".",
    as_json: Json = False,
) -> int:
    """Make a small project that evaluates at once.

    One prompt with its golden cases and a local model, so that neither a key nor an edit is needed.
    """
    from rich.console import Group
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.project.scaffold import scaffold
    from promptops.report.tables import command, count, next_line

    made = scaffold(Path(folder))
    if as_json:
        emit_json({"created": made})
        return ExitCode.OK
    into = "" if folder == "." else f"{command('cd', folder)} && "
    listed = [Text(f"  {name}") for name in made]
    emit(
        Group(
            Text(f"CREATED  {count(len(made), 'file')}"),
            *listed,
            Text(""),
            next_line(f"{into}promptops lint && promptops eval"),
        )
    )
    return ExitCode.OK


def lint(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Prompts; default: all.")] = None,
    staged: Annotated[
        bool, typer.Option("--staged", help="What the next commit would hold, not the files as they are.")
    ] = False,
    shown: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="text, sarif for code scanning, or github for annotations."),
    ] = "text",
    as_json: Json = False,
) -> int:
    """Check every file of the project; ask no model.

    Prompts with their candidates, schemas, suites, golden rows, rubrics and the configuration.
    """
    from rich.console import Group
    from rich.text import Text

    from promptops.cli.output import emit, emit_json, note
    from promptops.evaluation.lint import lint_project
    from promptops.project.project import open_project
    from promptops.report.tables import count, next_line

    project = open_project(Path.cwd())
    project = project.staged() if staged else project
    wanted = names or project.names()
    if not wanted:
        raise DataError("no prompts", where="prompts/", hint="run `promptops init`")
    if shown not in ("text", "sarif", "github") or (as_json and shown != "text"):
        raise DataError(f"--format {shown[:40]!r}", hint="use text, sarif or github, or --json alone")
    report = lint_project(project, wanted)
    code = ExitCode.BAD_INPUT if report.problems else ExitCode.OK
    if as_json:
        emit_json({"exit_code": int(code), "prompts": report.prompts, "cases": report.cases,
                   "problems": [item.as_dict() for item in report.problems], "warnings": [item.as_dict() for item in report.warnings]})  # fmt: skip
        return code
    if shown != "text":
        sys.stdout.write(_findings(report, shown))
        return code
    for problem in report.problems:
        note(f"error: {problem}")
    for problem in report.warnings:
        note(f"warning: {problem}")
    sound = f"{count(report.prompts, 'prompt')} (candidates included), {count(report.cases, 'golden case')}"
    if report.problems:
        emit(Text(f"FAIL  {count(len(report.problems), 'problem')}; sound: {sound}"))
    else:
        emit(Group(Text(f"OK  {sound}, {count(len(report.warnings), 'warning')}"), next_line("promptops eval")))
    return code


def _findings(report: "LintReport", shown: str) -> str:
    from promptops.report.annotations import problem_annotations
    from promptops.report.sarif import sarif_problems

    if shown == "sarif":
        return sarif_problems(report.problems, report.warnings)
    return "".join((*problem_annotations(report.problems, "error"), *problem_annotations(report.warnings, "warning")))


def list_prompts(as_json: Json = False) -> int:
    """List the prompts with their cases and newest run."""
    from rich.console import Group
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.core.digest import short
    from promptops.evaluation.listing import list_prompts as listing
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.report.show import show
    from promptops.report.tables import next_line, table

    project = open_project(Path.cwd())
    store = open_store(project.store_at)
    try:
        rows = listing(project, store)
    finally:
        store.close()
    if as_json:
        emit_json({"prompts": [row.as_dict() for row in rows]})
        return ExitCode.OK
    broken = any(row.problems for row in rows)
    grid = table(
        "prompt", "cases>", "categories>?", "model", "newest run", *(["problems>"] if broken else []), "digest?"
    )
    for row in rows:
        counts = ("-", "-") if row.problems else (str(row.cases), str(row.categories))
        problems = [str(row.problems or "-")] if broken else []
        grid.add_row(
            show(row.name),
            *counts,
            show(row.model or "-"),
            show(row.newest_run or "-"),
            *problems,
            short(row.digest) or "-",
        )
    following = "promptops lint" if broken else f"promptops show {rows[0].name}" if rows else "promptops init"
    emit(Group(grid if rows else Text("no prompts"), Text(""), next_line(following)))
    return ExitCode.OK


def show_prompt(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    candidate: Annotated[str, typer.Option(metavar="NAME", help="Show this candidate of it.")] = "",
    at: Annotated[str, typer.Option(metavar="REF", help="As it was in this commit, branch or tag.")] = "",
    as_json: Json = False,
) -> int:
    """Show one prompt as it is evaluated.

    Messages with partials inlined, model, inputs, checks, and its golden cases by category and slice.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.clients import identify
    from promptops.evaluation.judge import set_up_judge
    from promptops.project.config import resolve_model
    from promptops.project.project import open_project
    from promptops.report.prompt import prompt_json, render_prompt

    project = open_project(Path.cwd())
    evaluable = (project.at(at) if at else project).load(name, candidate)
    model = resolve_model(project.config, evaluable.prompt.model or project.config.default_model)
    identity = identify(model, evaluable.prompt, evaluable.scan.digest)
    judge = set_up_judge(project.config, evaluable)
    if as_json:
        emit_json(prompt_json(evaluable, model.alias, identity, judge))
    else:
        emit(render_prompt(evaluable, model.alias, identity, judge))
    return ExitCode.OK
