"""promptops alternatives."""

from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import DataError, ExitCode


def alternatives(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    models: Annotated[
        str, typer.Option(metavar="A,B", help="Models to evaluate; default: those whose runs are stored.")
    ] = "",
    requests_per_day: Annotated[int, typer.Option(metavar="N", min=1, help="For the bill of a month.")] = 1000,
    train: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labelled rows to learn from, never scored.")
    ] = None,
    max_cost: Annotated[str, typer.Option(metavar="USD", help="Stop before all of it could have cost more.")] = "",
    output: Annotated[
        list[str] | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write .md, .html or .json too (may be repeated)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Say whether something simpler does as well as a model.

    Rules, classifiers, nearest neighbours, search and constants answer the same cases, each predicted from the others only, and
    are compared with models by the statistics of the gate.
    """
    import json

    from promptops.cli.output import emit, emit_json, note
    from promptops.cli.reports import write_whole
    from promptops.cli.session import open_session, spend_cap
    from promptops.evaluation.alternatives import measure_alternatives, usable_rows
    from promptops.project.golden import read_rows
    from promptops.report.alternatives import (
        alternatives_json,
        alternatives_markdown,
        alternatives_page,
        render_alternatives,
    )

    files = [Path(file) for file in output or ()]
    if odd := [str(file) for file in files if file.suffix not in (".md", ".html", ".json")]:
        raise DataError(f"cannot tell the format of {odd[0]!r}", hint="use .md, .html or .json")
    wanted = list(dict.fromkeys(filter(None, (part.strip() for part in models.split(",")))))
    with open_session(name, quiet=as_json, cap=spend_cap(max_cost)) as session:
        evaluable = session.project.load(name)
        more, leaked = usable_rows(read_rows(train, evaluable.prompt), evaluable) if train else ([], 0)
        if leaked:
            note(
                f"note: {leaked} of {leaked + len(more)} rows of {train} are golden cases; they are left out, or their answers would be known"
            )
        found = measure_alternatives(session, name, models=wanted, more=more)
    document = alternatives_json(found, requests_per_day=requests_per_day)
    for file in files:
        text = {".md": lambda: alternatives_markdown(found, requests_per_day=requests_per_day), ".html": lambda: alternatives_page(found, requests_per_day=requests_per_day),
                ".json": lambda: json.dumps(document, indent=2) + "\n"}[file.suffix]()  # fmt: skip
        write_whole(file, text)
        note(f"wrote {file}")
    if as_json:
        emit_json(document)
    else:
        emit(render_alternatives(found, requests_per_day=requests_per_day))
    return ExitCode.OK
