"""promptops explain."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import ExitCode


def explain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The candidate's run: id or `latest`.")],
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="Category or slice, as `billing` or `lang=ja`.")],
    base: Annotated[
        str, typer.Option(help="The baseline's run or git ref; default: the run of the prompt before it.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most cases to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Show the cases of a category that broke.

    Input, expected values, and both answers with what changed in words.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.explain import explain_category
    from promptops.evaluation.find_run import find_run, previous_run
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.report.explain import explanation_json, render_explanation

    project = open_project(Path.cwd())
    with closing(open_store(project.store_at)) as store:
        after = find_run(store, project, run)
        before = find_run(store, project, base, after.header.prompt) if base else previous_run(store, after)
        found = explain_category(store, project, before, after, category, limit=limit)
    if as_json:
        emit_json(explanation_json(found))
    else:
        emit(render_explanation(found))
    return ExitCode.OK
