"""Where the events of services are: the option and the variable that name them."""

import os
from typing import Annotated

import typer

from promptops.core.errors import DataError

VARIABLE = "PROMPTOPS_EVENTS"
Events = Annotated[
    str, typer.Option(metavar="ADDRESS", help=f"Where services write events: FILE or redis://...; default: {VARIABLE}.")
]


def named_events(events: str) -> str:
    """What the option says, else the variable; '' when neither does."""
    return events or os.environ.get(VARIABLE, "")


def wanted_events(events: str) -> str:
    """As `named_events`. Raises DataError when neither names any."""
    address = named_events(events)
    if not address:
        raise DataError("nothing says which events to read", hint=f"name the file or stream the services write with --events or {VARIABLE}")  # fmt: skip
    return address
