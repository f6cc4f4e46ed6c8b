"""promptops golden ...: the cases a prompt is measured on."""

from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import DataError, ExitCode

Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("import")
def import_cases(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv or .jsonl file of cases.")],
    update: Annotated[bool, typer.Option("--update", help="Rows with a known id take the place of the old.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="The file is the whole set; others are removed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change; write nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Add cases from a CSV or JSONL file.

    Ids and values stay as they are written: 001, NA and None are text. All rows are checked before one is written.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.project.golden_import import import_rows, read_file
    from promptops.project.project import open_project
    from promptops.report.golden import imported_json, render_imported

    if update and replace:
        raise DataError("--update and --replace exclude each other", hint="choose one")
    project = open_project(Path.cwd())
    found = import_rows(project, name, read_file(file), replace=replace, update=update, write=not dry_run)
    if as_json:
        emit_json(imported_json(found, written=not dry_run))
    else:
        emit(render_imported(found, name, str(file), written=not dry_run))
    return ExitCode.OK


@app.command("export")
def export_cases(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write .csv or .jsonl; default: stdout.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv or jsonl; default: by the file, else csv.")
    ] = "",
    as_json: Json = False,
) -> int:
    """Write the cases as CSV or JSONL.

    Importing the file again changes nothing. Cells are not made safe for spreadsheets: one that begins with = stays so.
    """  # fmt: skip
    import sys

    from promptops.cli.output import emit_json, note
    from promptops.cli.reports import write_whole
    from promptops.project.golden_import import export_text, form_of
    from promptops.project.project import open_project
    from promptops.report.tables import count

    if form not in ("", "csv", "jsonl"):
        raise DataError(f"unknown format {form[:40]!r}", hint="use csv or jsonl")
    wanted = "jsonl" if form == "jsonl" else "csv" if form == "csv" or output is None else form_of(output)
    text, cases = export_text(open_project(Path.cwd()), name, wanted)
    if output:
        write_whole(output, text, newline="")
        note(f"wrote {output}, {count(cases, 'case')}")
    if as_json:
        emit_json({"prompt": name, "format": wanted, "cases": cases} | ({"file": str(output)} if output else {"text": text}))  # fmt: skip
    elif not output:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()
    return ExitCode.OK
