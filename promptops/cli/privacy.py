"""promptops privacy ...: what is kept of a customer."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import DataError, EvaluationError, ExitCode

if TYPE_CHECKING:
    from promptops.audit.privacy import Erased

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
        str,
        typer.Option(
            metavar="ADDRESS",
            help="An events file, or redis://...; salted with PROMPTOPS_TELEMETRY_SALT, as services do.",
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Erase what is kept of a tenant, and look again.

    Cached answers, queued requests, events and feedback. Exits 3 when something of the tenant is still there afterwards.
    """
    from promptops.audit.privacy import erase_cache, erase_events, erase_queue, erase_stream
    from promptops.cli.output import confirm, note
    from promptops.runtime.telemetry.stream import is_redis

    salt = os.environ.get("PROMPTOPS_TELEMETRY_SALT", "")
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
        *(
            [erase_stream(events, tenant, salt=salt)]
            if is_redis(events)
            else [erase_events(Path(events), tenant, salt=salt)]
            if events
            else []
        ),
    ]
    left = _tell(found, f"tenant {tenant}", {"tenant": tenant}, "ERASED", as_json=as_json)
    note(
        "services keep a little in memory (state `memory`, the semantic index) until its lifetime ends or they restart"
    )
    if left and not as_json:
        raise EvaluationError(
            "a service wrote more of this tenant meanwhile", hint="stop its requests, and run it again"
        )
    return ExitCode.NOT_EVALUATED if left else ExitCode.OK


@app.command("retain")
def retain(
    days: Annotated[float, typer.Option(metavar="DAYS", min=0, help="How long events and requests may be kept.")],
    events: Annotated[str, typer.Option(metavar="ADDRESS", help="An events file, or redis://...")] = "",
    queue: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Queued requests, also those put aside: sqlite:FILE or redis://...")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Remove what is older than a number of days.

    Events with their texts, and queued requests. Services do so by themselves with --events-days; exits 3 when something older is still there.
    """
    import time

    from promptops.audit.privacy import retain_events, retain_queue, retain_stream
    from promptops.cli.output import confirm
    from promptops.runtime.telemetry.stream import is_redis

    if not (events or queue):
        raise DataError("where?", hint="name what the services use with --events and --queue")
    places = " and ".join(name for name, place in (("events", events), ("queued requests", queue)) if place)
    confirm(f"remove the {places} older than {days:g} days?", yes=yes)
    now = time.time()
    found = [
        *(
            [retain_stream(events, days=days, now=now)]
            if is_redis(events)
            else [retain_events(Path(events), days=days, now=now)]
            if events
            else []
        ),
        *([retain_queue(queue, days=days)] if queue else []),
    ]
    left = _tell(found, f"older than {days:g} days", {"days": days}, "REMOVED", as_json=as_json)
    if left and not as_json:
        raise EvaluationError(
            "something older is still there", why="a service is rotating or writing", hint="run it again"
        )
    return ExitCode.NOT_EVALUATED if left else ExitCode.OK


def _tell(found: "list[Erased]", what: str, asked: dict[str, object], done: str, *, as_json: bool) -> int:
    """How much is left."""
    from promptops.cli.output import emit, emit_json
    from promptops.report.show import show

    left = sum(item.left for item in found)
    if as_json:
        emit_json(asked | {"left": left, "places": [{"kind": item.kind, "place": item.place, "erased": item.erased, "left": item.left} for item in found]})  # fmt: skip
        return left
    emit(show(f"{done if not left else f'NOT ALL {done}'}  {what}: {sum(item.erased for item in found)} entries"))
    for item in found:
        emit(show(f"  {item.kind} {item.place}: {item.erased} erased, {item.left} left"))
    return left
