"""promptops runs ... and promptops view: what is in the run store."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import ExitCode

if TYPE_CHECKING:
    from promptops.project.project import Project
    from promptops.project.store import Result, Run, Store, StoreAddress

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Run id, `latest`, or exported .jsonl file.")]
RunIds = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN]...", help="Run ids, or `latest`.", show_default=False)
]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_runs(
    prompt: Annotated[str, typer.Option(metavar="NAME", help="Only runs of this prompt.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Newest N.")] = 20,
    as_json: Json = False,
) -> int:
    """List runs, newest first."""
    from promptops.cli.output import emit, emit_json
    from promptops.core.errors import DataError, did_you_mean
    from promptops.report.runs import render_runs, run_row

    project, store = _open()
    with closing(store):
        runs = store.runs(prompt)
        known = {*project.names(), *(run.header.prompt for run in store.runs())}
    if prompt and prompt not in known:
        raise DataError(f"no prompt {prompt!r}", hint=did_you_mean(prompt, known))
    if as_json:
        emit_json({"runs": [run_row(run) for run in runs[:limit]]})
    else:
        emit(render_runs(runs, limit, prompt))
    return ExitCode.OK


@app.command("show")
def show_run(run: RunId = "latest", as_json: Json = False) -> int:
    """Show a run as `eval` printed it, recomputed from its rows."""
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.find_run import find_run
    from promptops.evaluation.summary import summarize
    from promptops.report.run import render_run, run_json

    project, store = _open()
    with closing(store):
        summary = summarize(store, find_run(store, project, run))
    if as_json:
        emit_json(run_json(summary))
    else:
        emit(render_run(summary, [f"promptops view {summary.run.id}"]))
    return ExitCode.OK


@app.command("watch")
def watch_run(
    run: RunId = "latest",
    every_s: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Time between two looks.")
    ] = 1.0,
) -> int:
    """Follow a run that another process makes, until it ends."""
    import time

    from promptops.cli.output import note
    from promptops.evaluation.find_run import find_run

    project, store = _open()
    with closing(store):
        found = find_run(store, project, run)
        while found.state == "running":
            done, passed = store.count_results(found.id)
            note(f"{found.id} {found.header.prompt}: {done}/{found.header.planned} done, {passed} passed")
            if not store.is_held(found.id):
                note(f"no process makes this run any more; go on with `promptops eval --resume {found.id}`")
                break
            time.sleep(every_s)
            found = store.run(found.id)
    return show_run(found.id)


@app.command("export")
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id or `latest`.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write; default: RUN.jsonl.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Write a run to a file that `import` and `compare` read."""
    from rich.console import Group

    from promptops.cli.output import emit, emit_json
    from promptops.core.errors import EvaluationError
    from promptops.evaluation.find_run import find_run
    from promptops.project.transfer import export_run
    from promptops.report.show import show
    from promptops.report.tables import command, next_line

    project, store = _open()
    with closing(store):
        found = find_run(store, project, run)
        target = output or Path(f"{found.id}.jsonl")
        comparable = target.suffix == ".jsonl" and store.runs(found.header.prompt)[0].id != found.id
        try:
            lines = export_run(store, found, target)
        except OSError as error:
            raise EvaluationError("cannot write the export", where=str(target), why=error.strerror or "") from error
    if as_json:
        emit_json({"run": found.id, "file": str(target), "lines": lines})
    else:
        use = ("compare", str(target), "latest") if comparable else ("runs", "import", str(target))
        emit(Group(show(f"EXPORTED  {found.id} to {target} ({lines} lines)"), next_line(command("promptops", *use))))
    return ExitCode.OK


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported run.")], as_json: Json = False
) -> int:
    """Read an exported run into the store."""
    from rich.console import Group
    from rich.text import Text

    from promptops.cli.output import emit, emit_json, note
    from promptops.project.transfer import import_run
    from promptops.report.tables import next_line

    _, store = _open()
    with closing(store):
        run, notices = import_run(store, file)
    for notice in notices:
        note(f"note: {notice}")
    if as_json:
        emit_json({"run": run.id, "state": run.state, "notices": notices})
    else:
        emit(Group(Text(f"IMPORTED  {run.id} ({run.state})"), next_line(f"promptops runs show {run.id}")))
    return ExitCode.OK


@app.command("push")
def push(
    runs: RunIds = None,
    to: Annotated[
        str,
        typer.Option("--to", metavar="ADDRESS", help="postgresql://... or the folder of a project; default: `store`."),
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All runs of this project's folder.")] = False,
    as_json: Json = False,
) -> int:
    """Copy runs from the folder of this project to a store that others read.

    Runs that are there already are left or brought up to date; answers and the ledger go along. The run's id stands for one run: a different one under
    the same id is refused.
    """
    from promptops.project.project import open_project
    from promptops.project.store import StoreAddress

    project = open_project(Path.cwd())
    other = _other(project, to, "--to")
    return _exchange(
        "push",
        runs or [],
        StoreAddress(root=project.root),
        other,
        where=to or other.shown,
        everything=everything,
        as_json=as_json,
    )


@app.command("pull")
def pull(
    runs: RunIds = None,
    from_: Annotated[
        str,
        typer.Option(
            "--from", metavar="ADDRESS", help="postgresql://... or the folder of a project; default: `store`."
        ),
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All runs that are there.")] = False,
    as_json: Json = False,
) -> int:
    """Copy runs from a store that others write to the folder of this project."""
    from promptops.project.project import open_project
    from promptops.project.store import StoreAddress

    project = open_project(Path.cwd())
    other, here = _other(project, from_, "--from"), StoreAddress(root=project.root)
    return _exchange("pull", runs or [], other, here, where=here.shown, everything=everything, as_json=as_json)


def _other(project: "Project", text: str, option: str) -> "StoreAddress":
    """The store that is not in the folder of the project: the one named, or that of the configuration."""
    from promptops.core.errors import DataError
    from promptops.project.config import has_password
    from promptops.project.store import StoreAddress

    if text.startswith(("postgresql://", "postgres://")):
        if has_password(text):
            raise DataError(
                "a password on the command line",
                why="others on this machine can read it",
                hint="set PGPASSWORD or PGPASSFILE instead",
            )
        return project.shared_store(text)
    if text:
        folder = Path(text).resolve()
        if folder == project.root.resolve() or not folder.is_dir():
            raise DataError(
                f"{text[:80]!r} is not the folder of another project",
                hint=f"{option} postgresql://USER@HOST/DATABASE, or a folder",
            )
        return StoreAddress(root=folder)
    if not project.store_at.url:
        raise DataError("which store?", hint=f"add {option} postgresql://USER@HOST/DATABASE, or set `store`")
    return project.store_at


def _exchange(
    verb: str, names: list[str], source_at: "StoreAddress", target_at: "StoreAddress", *, where: str, everything: bool, as_json: bool
) -> int:  # fmt: skip
    from promptops.cli.output import emit, emit_json
    from promptops.core.errors import ConflictError, DataError, Problem
    from promptops.project.exchange import Copied, copy_run
    from promptops.project.store import open_store
    from promptops.report.runs import copied_row, render_copied

    if not names and not everything:
        raise DataError("which runs?", hint=f"promptops runs {verb} RUN..., or --all")
    copied: list[Copied] = []
    problems: list[Problem] = []
    with closing(open_store(source_at)) as source, closing(open_store(target_at)) as target:
        listed = source.runs()
        found = (
            listed if everything else [listed[0] if name == "latest" and listed else source.run(name) for name in names]
        )
        for run in reversed(found):  # oldest first: those of the same second are listed in the order they came
            try:
                copied.append(copy_run(source, target, run.id))
            except ConflictError as error:
                problems += error.problems
    copied.reverse()
    if as_json:
        emit_json(
            {"runs": [copied_row(item) for item in copied], "problems": [problem.as_dict() for problem in problems]}
        )
    elif copied or not problems:
        emit(render_copied(copied, verb, where))
    if problems and not as_json:
        raise ConflictError(problems=problems)
    return ExitCode.CONFLICT if problems else ExitCode.OK


@app.command("gc")
def collect(
    keep: Annotated[int, typer.Option(metavar="N", min=0, help="Newest runs to keep of each prompt.")] = 20,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> int:
    """Delete old runs, and the answers no kept run needs; a run that a process makes stays."""
    from rich.text import Text

    from promptops.cli.output import confirm, emit, emit_json
    from promptops.report.tables import count

    _, store = _open()
    with closing(store):
        old = [run.id for run in _older(store.runs(), keep) if run.state != "running" or not store.is_held(run.id)]
        if old:
            confirm(f"delete {count(len(old), 'run')} of {store.where} and the answers only they use?", yes=yes)
        runs, answers = store.delete_runs(old)
    if as_json:
        emit_json({"deleted_runs": runs, "deleted_answers": answers})
    else:
        emit(Text(f"DELETED  {count(runs, 'run')} and {count(answers, 'answer')}"))
    return ExitCode.OK


def view(
    run: RunId = "latest",
    case: Annotated[str, typer.Option(metavar="ID", help="Show this case: input, expected, answer, checks.")] = "",
    draw: Annotated[int, typer.Option(metavar="N", min=1, help="Which draw of it.")] = 1,
    category: Annotated[
        str, typer.Option(metavar="NAME", help="Only cases of this category or tag, as `billing` or `lang=ja`.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Passed cases too.")] = False,
    as_json: Json = False,
) -> int:
    """Browse the cases of a run; a terminal asks which to open."""
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.browse import find_case
    from promptops.evaluation.find_run import find_run
    from promptops.report.runs import case_json, render_case

    project, store = _open()
    with closing(store):
        found = find_run(store, project, run)
        if case:
            shown = find_case(store, project, found, case, draw - 1)
            if as_json:
                emit_json(case_json(shown))
            else:
                emit(render_case(shown))
            return ExitCode.OK
        return _view_cases(store, project, found, category, everything=everything, as_json=as_json)


def _view_cases(
    store: "Store", project: "Project", run: "Run", category: str, *, everything: bool, as_json: bool
) -> int:
    from promptops.cli.output import emit, emit_json
    from promptops.core.errors import DataError, did_you_mean
    from promptops.report.run import why
    from promptops.report.runs import render_cases

    known: set[str] = set()
    kept: list[Result] = []
    of = 0
    for result in store.results(run.id):
        names = {result.category, *(f"{name}={value}" for name, value in result.tags.items())}
        known |= names
        if not category or category in names:
            of += 1
            if everything or result.passed is not True:
                kept.append(result)
    if category and category not in known:
        raise DataError(
            f"no case of run {run.id} has the category or tag {category[:60]!r}", hint=did_you_mean(category, known)
        )
    if as_json:
        emit_json({"run": run.id, "cases": [{"case": item.case_id, "draw": item.draw, "category": item.category, "tags": dict(item.tags),
                                             "passed": item.passed, "why": why(item)} for item in kept]})  # fmt: skip
        return ExitCode.OK
    emit(render_cases(run, kept, of, category))
    if sys.stdin.isatty() and sys.stdout.isatty():
        _browse(store, project, run)
    return ExitCode.OK


def _browse(store: "Store", project: "Project", run: "Run") -> None:
    from promptops.cli.output import emit, note
    from promptops.core.errors import DataError
    from promptops.evaluation.browse import find_case
    from promptops.report.runs import render_case

    while case_id := typer.prompt("case (empty to leave)", default="", show_default=False, err=True).strip():
        try:
            emit(render_case(find_case(store, project, run, case_id)))
        except DataError as error:
            note(str(error))


def _older(runs: "list[Run]", keep: int) -> "list[Run]":
    counts: dict[str, int] = {}
    old: list[Run] = []
    for run in runs:
        counts[run.header.prompt] = counts.get(run.header.prompt, 0) + 1
        if counts[run.header.prompt] > keep:
            old.append(run)
    return old


def _open() -> "tuple[Project, Store]":
    from promptops.project.project import open_project
    from promptops.project.store import open_store

    project = open_project(Path.cwd())
    return project, open_store(project.store_at)
