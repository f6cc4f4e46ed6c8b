"""promptops init, lint, list, show: the files of a project."""

from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import ExitCode

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def init(
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where; default: here.")] = ".",
    as_json: Json = False,
) -> int:
    """Make a small project that passes `promptops lint` and evaluates at once."""
    from rich.console import Group
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.project.scaffold import scaffold

    made = scaffold(Path(folder))
    if as_json:
        emit_json({"created": made})
        return ExitCode.OK
    into = "" if folder == "." else f"cd {folder} && "
    emit(
        Group(
            Text(f"CREATED  {len(made)} files"),
            *(Text(f"  {name}") for name in made),
            Text(""),
            Text(f"next: {into}promptops lint && promptops eval"),
        )
    )
    return ExitCode.OK


def lint(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Prompts; default: all.")] = None,
    as_json: Json = False,
) -> int:
    """Check prompts, schemas, suites, golden rows, rubrics and configuration; asks no model."""
    from rich.text import Text

    from promptops.cli.output import emit, emit_json, note
    from promptops.evaluation.lint import lint_project
    from promptops.project.project import open_project

    project = open_project(Path.cwd())
    report = lint_project(project, names or project.names())
    code = ExitCode.BAD_INPUT if report.problems else ExitCode.OK
    if as_json:
        emit_json({"exit_code": int(code), "prompts": report.prompts, "cases": report.cases,
                   "problems": [item.as_dict() for item in report.problems], "warnings": [item.as_dict() for item in report.warnings]})  # fmt: skip
        return code
    for problem in report.problems:
        note(f"error: {problem}")
    for problem in report.warnings:
        note(f"warning: {problem}")
    checked = f"{report.prompts} prompts and candidates, {report.cases} golden cases"
    if report.problems:
        emit(Text(f"FAIL  {len(report.problems)} problems; {checked} are sound"))
    else:
        emit(Text(f"OK  {checked}, {len(report.warnings)} warnings"))
    return code


def list_prompts(as_json: Json = False) -> int:
    """The prompts of the project, with their cases and newest run."""
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.core.digest import short
    from promptops.evaluation.listing import list_prompts as listing
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.report.show import show
    from promptops.report.tables import table

    project = open_project(Path.cwd())
    store = open_store(project.root)
    try:
        rows = listing(project, store)
    finally:
        store.close()
    if as_json:
        emit_json({"prompts": [row.as_dict() for row in rows]})
        return ExitCode.OK
    grid = table("prompt", "cases>", "categories>", "model", "digest", "newest run", "problems>")
    for row in rows:
        grid.add_row(
            show(row.name),
            str(row.cases),
            str(row.categories),
            show(row.model),
            short(row.digest),
            show(row.newest_run),
            str(row.problems or "-"),
        )
    emit(grid if rows else Text("no prompts; next: promptops init"))
    return ExitCode.OK


def show_prompt(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    candidate: Annotated[str, typer.Option(help="Show this candidate of it.")] = "",
    at: Annotated[str, typer.Option(help="As it was in this commit, branch or tag.")] = "",
    as_json: Json = False,
) -> int:
    """One prompt, resolved: messages, model, schemas, checks, and its golden cases by category and slice."""
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.clients import identify
    from promptops.project.config import resolve_model
    from promptops.project.project import open_project
    from promptops.report.prompt import prompt_json, render_prompt

    project = open_project(Path.cwd())
    evaluable = (project.at(at) if at else project).load(name, candidate)
    model = resolve_model(project.config, evaluable.prompt.model or project.config.default_model)
    identity = identify(model, evaluable.prompt, evaluable.scan.digest)
    if as_json:
        emit_json(prompt_json(evaluable, model.alias, identity))
    else:
        emit(render_prompt(evaluable, model.alias, identity))
    return ExitCode.OK
