"""promptops cost."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import DataError, ExitCode


def cost(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    requests_per_day: Annotated[int, typer.Option(metavar="N", min=1, max=10**9, help="General availability.")] = 1000,
    pilot: Annotated[
        int, typer.Option(metavar="N", min=0, max=10**9, help="Requests a day in the pilot; 0: a tenth.")
    ] = 0,
    traffic: Annotated[
        Path | None,
        typer.Option(
            metavar="LOG", help='Requests of users (JSONL): {"inputs": {...}}; measures their length and repeats.'
        ),
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="In place of an assumption, by its key (may be repeated)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Say what a month costs.

    From the tokens of stored runs and the prices: by stage, for a pilot and for everyone, with what it rests on and what would move it.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.release.spending import spending
    from promptops.report.spending import render_spending, spending_json

    given = dict(map(_given, assume or ()))
    project = open_project(Path.cwd())
    with closing(open_store(project.store_at)) as store:
        found = spending(
            store, project, name, per_day=requests_per_day, pilot_per_day=pilot, given=given, traffic=traffic
        )
    if as_json:
        emit_json(spending_json(found))
    else:
        emit(render_spending(found, name))
    return ExitCode.OK


def _given(text: str) -> tuple[str, float]:
    from math import isfinite

    key, sign, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not sign or not isfinite(value) or value > 1e9:
        raise DataError(f"--assume {text[:60]!r} is no KEY=NUMBER", hint="for example --assume exact_hits=0.2")
    return key.strip(), value
