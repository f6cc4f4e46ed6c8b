"""promptops compare."""

from typing import Annotated

import typer

from promptops.cli.reports import Format, Output, Reports
from promptops.core.errors import ExitCode


def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Run id, `latest`, git ref, or exported .jsonl file.")],
    cand: Annotated[
        str, typer.Argument(metavar="CAND", help="The same; default: the newest run of BASE's prompt after it.")
    ] = "",
    name: Annotated[str, typer.Option("--prompt", metavar="NAME", help="Whose runs `latest` and git refs mean.")] = "",
    output: Output = None,
    shown: Format = "text",
    markdown: Annotated[bool, typer.Option("--markdown", help="As --format markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Say per category whether CAND is worse than BASE.

    Exit 1 when a category or slice regressed, 2 when the runs cannot be compared, 3 when one lacks results.
    """
    from pathlib import Path

    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.casebook import read_evaluation
    from promptops.evaluation.compare import compare_runs
    from promptops.evaluation.find_run import find_pair
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.report.comparison import comparison_json, render_comparison
    from promptops.report.tables import command

    reports = Reports(output, shown="markdown" if markdown else shown, as_json=as_json)
    project = open_project(Path.cwd())
    store = open_store(project.store_at)
    try:
        before, after = find_pair(store, project, base, cand, name)
        found = compare_runs(store, before, after)
        if reports.wanted:
            reports.write([read_evaluation(store, project, after, found)])
    finally:
        store.close()
    blocking = found.comparison.blocking
    if as_json:
        emit_json(comparison_json(found))
    elif not reports.shown:
        broken = ("--case", blocking[0].broken[0].case_id) if blocking else ()
        emit(render_comparison(found, [command("promptops", "view", after.id, *broken)]))
    return ExitCode.GATE if found.blocked else ExitCode.OK
