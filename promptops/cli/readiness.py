"""promptops readiness: the production checklist of a prompt, by evidence."""

import os
from pathlib import Path
from typing import Annotated

import typer

from promptops.cli.events import Events, named_events
from promptops.core.errors import DataError, ExitCode

_KINDS = (".html", ".md", ".json")


def readiness(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    channel: Annotated[str, typer.Option(metavar="C", help="The channel it is served on.")] = "prod",
    at: Annotated[str, typer.Option(metavar="REF", help="The commit, branch or tag that is looked at.")] = "HEAD",
    model: Annotated[str, typer.Option(help="The model that answers; default: the prompt's.")] = "",
    events: Events = "",
    flags: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="The kill flags that services read, FILE or redis://...: the switch is tried on a copy.",
        ),
    ] = "",
    output: Annotated[
        list[str] | None,
        typer.Option("-o", "--output", metavar="FILE", help="A card for auditors: .html, .md or .json (repeatable)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Whether a prompt is ready for production, by evidence.

    Looks at a commit, not at the work tree. Exits 1 when an item fails.
    """
    import json

    from promptops.audit.checklist import Asked
    from promptops.audit.readiness import audit
    from promptops.cli.output import emit, emit_json, note
    from promptops.cli.reports import write_whole
    from promptops.project.project import open_project
    from promptops.report.readiness import readiness_json, readiness_markdown, readiness_page, render_readiness

    for file in output or ():
        if Path(file).suffix not in _KINDS:
            raise DataError(f"no card in the form of {file[:80]!r}", hint=f"name a file that ends in {', '.join(_KINDS)}")  # fmt: skip
    asked = Asked(name=name, channel=channel, at=at, model=model, flags=flags, events=named_events(events))
    found = audit(open_project(Path.cwd()), asked, environment=os.environ)
    if as_json:
        emit_json(readiness_json(found))
    else:
        emit(render_readiness(found))
    for file in output or ():
        kind = Path(file).suffix
        text = readiness_page(found) if kind == ".html" else readiness_markdown(found) if kind == ".md" else json.dumps(readiness_json(found), indent=2) + "\n"  # fmt: skip
        write_whole(Path(file), text)
        note(f"wrote {file}")
    return ExitCode.GATE if found.failed else ExitCode.OK
