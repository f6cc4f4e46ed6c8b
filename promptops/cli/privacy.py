"""promptops privacy ...: what is kept of a customer."""

import os
from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import DataError, EvaluationError, ExitCode

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """What is kept of a customer."""


@app.command("erase")
def erase(
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Whose, as the application calls it.")],
    state: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Cached answers: sqlite:FILE or redis://host:port/db.")
    ] = "",
    queue: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Queued requests: sqlite:FILE or redis://host:port/db.")
    ] = "",
    events: Annotated[
        str, typer.Option(metavar="FILE", help="An events file; salted with PROMPTOPS_TELEMETRY_SALT, as services do.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Erase what is kept of a tenant, and look again.

    Cached answers, queued requests, events and feedback. Exits 3 when something of the tenant is still there afterwards.
    """
    from promptops.audit.privacy import erase_cache, erase_events, erase_queue
    from promptops.cli.output import confirm, emit, emit_json, note
    from promptops.report.show import show

    if not tenant.strip():
        raise DataError("nothing says whose data to erase", hint="--tenant TENANT")
    if not (state or queue or events):
        raise DataError(
            "nothing says where the data is", hint="name what the services use with --state, --queue and --events"
        )
    places = ", ".join(name for name, place in (("cached answers", state), ("queued requests", queue), ("events", events)) if place)  # fmt: skip
    confirm(f"erase the {places} of tenant {tenant[:100]!r}?", yes=yes)
    found = [
        *([erase_cache(state, tenant)] if state else []),
        *([erase_queue(queue, tenant)] if queue else []),
        *([erase_events(Path(events), tenant, salt=os.environ.get("PROMPTOPS_TELEMETRY_SALT", ""))] if events else []),
    ]
    left = sum(item.left for item in found)
    if as_json:
        emit_json({"tenant": tenant, "left": left, "places": [{"kind": item.kind, "place": item.place, "erased": item.erased, "left": item.left} for item in found]})  # fmt: skip
    else:
        emit(
            show(
                f"{'ERASED' if not left else 'NOT ALL ERASED'}  tenant {tenant}: {sum(item.erased for item in found)} entries"
            )
        )
        for item in found:
            emit(show(f"  {item.kind} {item.place}: {item.erased} erased, {item.left} left"))
    note(
        "services keep a little in memory (state `memory`, the semantic index) until its lifetime ends or they restart"
    )
    if left and not as_json:
        raise EvaluationError(
            "a service wrote more of this tenant meanwhile", hint="stop its requests, and run it again"
        )
    return ExitCode.NOT_EVALUATED if left else ExitCode.OK
