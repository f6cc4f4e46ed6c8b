"""promptops baseline ...: recorded draws of what is released, for screening changes."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import ExitCode

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("record")
def record(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    at: Annotated[
        str, typer.Option(help="As it was in this commit, branch or tag; default: the files as they are.")
    ] = "",
    draws: Annotated[int, typer.Option(min=2, max=100, help="Draws of each case.")] = 5,
    model: Annotated[str, typer.Option(help="Alias of the configuration, `local`, or `local:NAME`.")] = "",
    judge: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="Who judges by the rubric, in place of the suite's judge; `none` for nobody."
        ),
    ] = "",
    max_cost: Annotated[str, typer.Option(metavar="USD", help="Stop before this could have cost more.")] = "",
    as_json: Json = False,
) -> int:
    """Draw every case several times, so that changes can be screened with one draw each."""
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.cli.session import open_session, spend_cap
    from promptops.evaluation.against import record_baseline
    from promptops.report.runs import run_row

    with open_session(name, quiet=as_json, cap=spend_cap(max_cost)) as session:
        run = record_baseline(session, name, model=model, at=at, draws=draws, judge=judge)
    if as_json:
        emit_json(run_row(run))
    else:
        emit(Text(f"RECORDED  {run.id}: {run.header.planned} draws of {name} on {run.header.model}"))
        emit(Text(f"next: promptops eval {name} --against {at or 'HEAD'}"))
    return ExitCode.OK


@app.command("list")
def list_baselines(
    prompt: Annotated[str, typer.Option(help="Only those of this prompt.")] = "",
    as_json: Json = False,
) -> int:
    """Recorded baselines, newest first, and whether they are too old to be used."""
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.core.digest import short
    from promptops.evaluation.against import is_expired
    from promptops.evaluation.plan import utc_now
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.report.runs import run_row
    from promptops.report.show import show
    from promptops.report.tables import table

    project = open_project(Path.cwd())
    with closing(open_store(project.store_at)) as store:
        found = [run for run in store.runs(prompt) if run.header.kind == "baseline"]
        answered_by = {run.id: ", ".join(store.models_of(run.id)) for run in found}
    if as_json:
        emit_json(
            {
                "baselines": [
                    {**run_row(run), "answered_by": answered_by[run.id], "expired": is_expired(run, utc_now)}
                    for run in found
                ]
            }
        )
        return ExitCode.OK
    grid = table("run", "prompt", "model", "answered by", "draws>", "recorded", "state", "subject")
    for run in found:
        state = "expired" if is_expired(run, utc_now) else run.state
        grid.add_row(run.id, show(run.header.prompt), show(run.header.model), show(answered_by[run.id]), str(run.header.repeat),
                     run.header.started_at, state, short(run.header.subject))  # fmt: skip
    emit(grid if found else Text("no baselines; next: promptops baseline record NAME"))
    return ExitCode.OK


Remote = Annotated[str, typer.Argument(metavar="[REMOTE]", help="A remote of this repository.")]


@app.command("push")
def push(
    remote: Remote = "origin",
    prompt: Annotated[str, typer.Option(metavar="NAME", help="Only those of this prompt.")] = "",
    as_json: Json = False,
) -> int:
    """Share recorded baselines with the team, as refs beside the code."""
    from promptops.core.errors import DataError
    from promptops.project.project import open_project
    from promptops.project.shared_baselines import push_baselines
    from promptops.project.store import open_store
    from promptops.report.tables import count

    project = open_project(Path.cwd())
    with closing(open_store(project.store_at)) as store:
        found = [run for run in store.runs(prompt) if run.header.kind == "baseline" and run.state == "complete"]
        if not found:
            raise DataError("no baseline to push", hint="record one with `promptops baseline record NAME`")
        refs = push_baselines(project.git, store, found, remote)
    done = f"PUSHED  {count(len(refs), 'baseline')} to {remote}"
    return _exchanged(done, {"remote": remote, "refs": refs}, as_json=as_json)


@app.command("fetch")
def fetch(
    remote: Remote = "origin",
    prompt: Annotated[str, typer.Option(metavar="NAME", help="Only those of this prompt.")] = "",
    as_json: Json = False,
) -> int:
    """Get the baselines of the team; those that are here already are left as they are."""
    from promptops.cli.output import note
    from promptops.project.project import open_project
    from promptops.project.shared_baselines import fetch_baselines
    from promptops.project.store import open_store
    from promptops.report.tables import count

    project = open_project(Path.cwd())
    with closing(open_store(project.store_at)) as store:
        runs, notices = fetch_baselines(project.git, store, remote, prompt)
    for notice in notices:
        note(f"note: {notice}")
    done = f"FETCHED  {count(len(runs), 'new baseline')} from {remote}"
    return _exchanged(done, {"remote": remote, "runs": [run.id for run in runs], "notices": notices}, as_json=as_json)


def _exchanged(done: str, document: dict[str, object], *, as_json: bool) -> int:
    from rich.text import Text

    from promptops.cli.output import emit, emit_json

    if as_json:
        emit_json(document)
    else:
        emit(Text(done))
    return ExitCode.OK
