"""promptops route ...: when is the small model good enough?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from promptops.cli.reports import Reports

Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("train")
def train(
    name: Name,
    small: Annotated[str, typer.Option(metavar="RUN|MODEL", help="The cheap model: a stored run, or a model to ask.")],
    large: Annotated[str, typer.Option(metavar="RUN|MODEL", help="The model that answers everything today.")],
    outcomes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="More rows (JSONL): id, text, category, small, large.")
    ] = None,
    max_loss: Annotated[float, typer.Option(metavar="POINTS", help="Most quality to lose, in points of 100.")] = 1.0,
    max_cost: Annotated[str, typer.Option(metavar="USD", help="Stop before a run could have cost more.")] = "",
    as_json: Json = False,
) -> int:
    """Learn a rule from the answers of both models, and the largest share of small calls that is proven to lose little.

    Writes prompts/NAME/router.json. Too little evidence means that everything goes to the large model; it says what is missing.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.cli.session import open_session, spend_cap
    from promptops.release.router_training import training_json
    from promptops.release.routing import save_router
    from promptops.release.routing import train as train_on
    from promptops.report.routing import render_training

    if not 0 < max_loss < 100:
        raise DataError("--max-loss is in points of 100", why="no number of cases proves a loss of nothing",
                        hint="write 1 for one point")  # fmt: skip
    with open_session(name, quiet=as_json, cap=spend_cap(max_cost)) as session:
        training = train_on(session, name, small, large, more=outcomes, max_loss=max_loss / 100)
        path = save_router(session.project.root, name, training.router)
        where = path.relative_to(session.project.root).as_posix()
    if as_json:
        emit_json({"router": where, **training_json(training)})
    else:
        emit(render_training(training, name))
    return ExitCode.OK


@app.command("show")
def show(name: Name, as_json: Json = False) -> int:
    """The router of a prompt, and on what evidence it routes."""
    from promptops.cli.output import emit, emit_json
    from promptops.project.project import open_project
    from promptops.release.routing import load_router
    from promptops.report.routing import render_router, router_json

    project = open_project(Path.cwd())
    project.load(name)
    router = load_router(project.root, name)
    if as_json:
        emit_json(router_json(router))
    else:
        emit(render_router(router, name))
    return ExitCode.OK


def eval_routed(
    names: list[str], *, repeat: int, max_cost: str, reports: "Reports", as_json: bool, concurrency: int | None
) -> int:
    """`eval NAME --policy routed --against large`: the routed policy, gated like any candidate."""
    from promptops.cli.output import emit, emit_json
    from promptops.cli.session import open_session, spend_cap
    from promptops.evaluation.casebook import read_evaluation
    from promptops.release.routing import evaluate_routed, load_router
    from promptops.report.comparison import comparison_json, render_comparison
    from promptops.report.routing import render_saving
    from promptops.report.tables import command

    if len(names) != 1:
        raise DataError("--policy routed needs one prompt", hint="promptops eval NAME --policy routed --against large")
    name = names[0]
    with open_session(
        name, quiet=as_json or bool(reports.shown), cap=spend_cap(max_cost), concurrency=concurrency
    ) as session:
        session.project.load(name)
        result = evaluate_routed(session, name, load_router(session.project.root, name), repeat=repeat)
        if reports.wanted:
            reports.write([read_evaluation(session.store, session.project, result.found.candidate, result.found)])
    if as_json:
        emit_json({**comparison_json(result.found), "cases": result.cases, "small_calls": result.small_calls,
                   "cost_nanousd": result.cost_nanousd, "large_cost_nanousd": result.large_cost_nanousd})  # fmt: skip
    elif not reports.shown:
        emit(render_comparison(result.found, [command("promptops", "view", result.found.candidate.id)]))
        emit(render_saving(result))
    return ExitCode.GATE if result.found.blocked else ExitCode.OK
