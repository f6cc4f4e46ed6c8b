"""promptops import and convert: other tools' files."""

from pathlib import Path
from typing import Annotated

import typer

from promptops.core.errors import DataError, ExitCode

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def import_foreign(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="promptfoo, openai-evals, inspect, langsmith, langfuse, prompty, dotprompt or gto."
        ),
    ],
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="The file to read; none for gto, which reads the tags of this repository."),
    ] = "",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the prompt; an existing one gets the cases of a data set.")
    ] = "",
    into: Annotated[str, typer.Option(metavar="FOLDER", help="Where to write; default: here.")] = ".",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each part; write nothing.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Make a project of another tool's file.

    It lints and evaluates at once; what was kept, changed and lost is listed with its place.

    Nothing in the file is run, nothing outside its folder is read, no key is copied, and no file is overwritten.
    """  # fmt: skip
    from promptops.cli.output import emit, emit_json
    from promptops.project.interop.formats import read_foreign
    from promptops.project.interop.receive import receive
    from promptops.report.interop import import_json, render_import
    from promptops.report.tables import command, count

    if form == "gto":
        return _import_gto(name, as_json=as_json)
    draft = read_foreign(form, file, name)
    folder = Path(into)
    files = receive(draft, folder, write=not dry_run)
    prompt = draft.prompts[0]
    if as_json:
        facts = {"format": form, "prompt": prompt.name, "cases": len(prompt.cases), "candidates": list(prompt.variants),
                 "models": list(draft.models), "written": not dry_run}  # fmt: skip
        emit_json(import_json(draft.fates, files, facts))
        return ExitCode.OK
    what = f"{file} as {prompt.name}, {count(len(prompt.cases), 'case')}"
    begin = "" if into == "." else f"{command('cd', into)} && "
    following = (
        command("promptops", "import", form, file)
        if dry_run
        else f"{begin}promptops lint && promptops eval {prompt.name}"
    )
    emit(render_import("WOULD IMPORT" if dry_run else "IMPORTED", what, draft.fates, files, following))
    return ExitCode.OK


def _import_gto(name: str, *, as_json: bool) -> int:
    from promptops.cli.output import emit, emit_json
    from promptops.project.git import Git
    from promptops.release.gto import read_gto
    from promptops.report.gto import render_gto

    found = read_gto(Git(Path.cwd()), name)
    if as_json:
        emit_json(found.as_dict())
    else:
        emit(render_gto(found))
    return ExitCode.OK


def convert(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="promptfoo, openai-evals, inspect, langsmith, langfuse, prompty-v1, prompty-v2 or dotprompt.",
        ),
    ],
    candidate: Annotated[str, typer.Option(metavar="NAME", help="This candidate of it.")] = "",
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Where to write; default: stdout.")
    ] = "",
    as_json: Json = False,
) -> int:
    """Write a prompt in another tool's format.

    Or its golden cases; what was kept, changed and lost is listed.

    The report goes to stderr, so that stdout is the file alone; with --json, the text is part of the document.
    """  # fmt: skip
    import sys

    from promptops.cli.output import emit, emit_json, note
    from promptops.project.interop.draft import write_files
    from promptops.project.interop.export import export_prompt
    from promptops.project.project import open_project
    from promptops.report.interop import import_json, merged, render_import
    from promptops.report.tables import command

    found = export_prompt(open_project(Path.cwd()), name, to, candidate)
    if output:
        path = Path(output)
        if path.exists():
            raise DataError("file exists already", where=output, why="nothing was written", hint="choose another -o")
        write_files({path.name: found.text.encode()}, path.parent)
    if as_json:
        emit_json(
            import_json(found.fates, [output] if output else [], {"format": to, "prompt": name, "text": found.text})
        )
    elif output:
        emit(
            render_import(
                "WROTE",
                f"{output}: {name} as {to}",
                found.fates,
                [],
                command("promptops", "import", to.partition("-v")[0], output, "--into", "FOLDER", "--dry-run"),
            )
        )
    else:
        sys.stdout.write(found.text)
        for fate, places in merged(found.fates):
            note(
                f"{fate.status}: {fate.where}{f' and {places - 1} more' if places > 1 else ''}: {fate.what}, {fate.why}"
            )
    return ExitCode.OK
