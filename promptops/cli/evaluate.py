"""promptops eval."""

from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import ExitCode

if TYPE_CHECKING:
    from promptops.evaluation.execute import Executed
    from promptops.evaluation.plan import Plan, Selection
    from promptops.evaluation.summary import Summary
    from promptops.project.project import Project
    from promptops.project.store import Store

_SEVERITY = (ExitCode.OK, ExitCode.GATE, ExitCode.NOT_EVALUATED, ExitCode.INTERRUPTED, ExitCode.TERMINATED)


def eval_prompts(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Prompts; default: all.")] = None,
    model: Annotated[str, typer.Option(help="Alias of the configuration, `local`, or `local:NAME`.")] = "",
    category: Annotated[list[str] | None, typer.Option(help="Only this category (may be repeated).")] = None,
    filter_tag: Annotated[
        list[str] | None, typer.Option(help="Only cases with this tag, as `lang=ja` or `noise`.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N of the selected cases.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, max=1024, help="Calls in flight.")] = None,
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Draws of each case.")] = 1,
    candidate: Annotated[
        str, typer.Option(help="Evaluate prompts/NAME/candidates/CANDIDATE instead of the prompt itself.")
    ] = "",
    at: Annotated[str, typer.Option(help="Evaluate the files as they were in this commit, branch or tag.")] = "",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ask again what is already answered.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Ask a model every golden case, score the answers, and show the result per category."""
    from pathlib import Path

    from promptops.cli.output import emit_json
    from promptops.core.errors import DataError
    from promptops.evaluation.plan import Selection
    from promptops.project.project import open_project
    from promptops.project.store import open_store

    project = open_project(Path.cwd())
    wanted = list(dict.fromkeys(names or project.names()))
    if not wanted:
        raise DataError("no prompts", where="prompts/", hint="run `promptops init`")
    if candidate and len(wanted) != 1:
        raise DataError("--candidate needs one prompt", hint=f"promptops eval NAME --candidate {candidate}")
    selection = Selection(categories=tuple(category or ()), tags=tuple(filter_tag or ()), limit=limit, repeat=repeat)
    plans = [_plan(project, name, model, candidate, selection, at) for name in wanted]
    if dry_run:
        return _print_estimates(plans, as_json=as_json)
    store = open_store(project.root)
    try:
        found = []
        for plan in plans:
            executed, summary = _evaluate(
                plan, store, concurrency or project.config.concurrency, reuse=not no_cache, quiet=as_json
            )
            code = _exit_code(executed, summary)
            found.append((summary, code))
            if not as_json:
                _print(summary, plan, code)
            if code >= ExitCode.INTERRUPTED:
                break
    finally:
        store.close()
    code = max((code for _, code in found), key=_SEVERITY.index)
    if as_json:
        from promptops.report.run import run_json

        emit_json({"exit_code": int(code), "runs": [run_json(summary) for summary, _ in found]})
    return code


def _plan(project: "Project", name: str, model: str, candidate: str, selection: "Selection", at: str) -> "Plan":
    from promptops.evaluation.plan import make_plan

    return make_plan(project, name, model=model, candidate=candidate, selection=selection, at=at)


def _evaluate(
    plan: "Plan", store: "Store", concurrency: int, *, reuse: bool, quiet: bool
) -> tuple["Executed", "Summary"]:
    import asyncio

    from promptops.cli.progress import watch
    from promptops.evaluation.execute import execute
    from promptops.evaluation.plan import utc_now
    from promptops.evaluation.summary import summarize

    with watch(plan.evaluable.prompt.name, quiet=quiet) as on_progress:
        executed = asyncio.run(
            execute(plan, store, clock=utc_now, concurrency=concurrency, reuse=reuse, on_progress=on_progress)
        )
    return executed, summarize(store, executed.run)


def _exit_code(executed: "Executed", summary: "Summary") -> ExitCode:
    if executed.exit_code is not ExitCode.OK:
        return executed.exit_code
    return ExitCode.GATE if summary.missed_floors else ExitCode.OK


def _print(summary: "Summary", plan: "Plan", code: ExitCode) -> None:
    from rich.text import Text

    from promptops.cli.output import emit
    from promptops.report.run import render_run

    emit(render_run(summary, _next_commands(summary, plan, code)))
    emit(Text(""))


def _next_commands(summary: "Summary", plan: "Plan", code: ExitCode) -> list[str]:
    run = summary.run
    if code is ExitCode.OK and plan.candidate:
        return [f"promptops compare main {run.id}"]
    if code in (ExitCode.NOT_EVALUATED, ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        return [
            f"promptops eval {run.header.prompt} --model {run.header.model}   (answers that were given are not asked again)"
        ]
    worst = f" --case {summary.worst[0].case_id}" if summary.worst else ""
    return [f"promptops view {run.id}{worst}"]


def _print_estimates(plans: list["Plan"], *, as_json: bool) -> int:
    from dataclasses import asdict

    from rich.console import Group
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.core.money import format_usd
    from promptops.evaluation.plan import estimate
    from promptops.report.show import show
    from promptops.report.tables import table

    found = [(plan, estimate(plan)) for plan in plans]
    if as_json:
        emit_json(
            {
                "dry_run": [
                    {"prompt": plan.evaluable.prompt.name, "model": plan.model.alias, **asdict(item)}
                    for plan, item in found
                ]
            }
        )
        return ExitCode.OK
    grid = table("prompt", "model", "calls>", "input tokens>", "output tokens, at most>", "cost, at most>")
    for plan, item in found:
        grid.add_row(show(plan.evaluable.prompt.name), show(plan.model.alias), str(item.calls), f"~{item.input_tokens}", f"{item.output_tokens}",
                     format_usd(item.cost_nanousd))  # fmt: skip
    total = format_usd(sum(item.cost_nanousd for _, item in found))
    text = f"DRY RUN  at most about {total}; nothing was asked. Tokens are estimated (about 4 characters each), so allow 30 % either way."
    emit(Group(Text(text), grid))
    return ExitCode.OK
