"""promptops review ...: people look at answers, blind and at the keyboard, here or elsewhere."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from promptops.core.errors import ExitCode

if TYPE_CHECKING:
    from promptops.evaluation.review import BatchPlan, Desk
    from promptops.project.project import Project
    from promptops.project.reviews import Batch

Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
RunOption = Annotated[
    str,
    typer.Option(
        help="Whose answers: a run's id, `latest`, a git ref or an exported file; default: the newest complete run."
    ),
]
Against = Annotated[
    str,
    typer.Option(
        help="Another run whose answers are mixed in, unmarked; cases whose verdict changed are likelier to be chosen."
    ),
]
Sample = Annotated[
    int | None, typer.Option(min=1, max=100_000, help="Answers to draw; default: `review.sample` of the suite, or 40.")
]
Seed = Annotated[int, typer.Option(help="Of the draw; the same runs, plan and seed give the same batch.")]
BatchOption = Annotated[
    str, typer.Option(help="An existing batch: its id, or the file a colleague sent; default: the newest.")
]
As = Annotated[str, typer.Option("--as", help="Who labels; default: git's user.name.")]


class _Reviews(TyperGroup):
    """`review NAME` is short for `review label NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["label", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Reviews, no_args_is_help=True, rich_markup_mode=None)


@app.command("label")
def label(
    name: Name,
    who: As = "",
    web: Annotated[
        bool, typer.Option("--web", help="On a page of this machine's browser instead of the terminal.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any free one.")] = 0,
    batch: BatchOption = "",
    run: RunOption = "",
    against: Against = "",
    sample: Sample = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> int:
    """Label answers by the suite's rubric, and see what they say of the pass rate (`review NAME` is the same).

    Goes on with the newest batch that has answers waiting for you; without one, or with --run, --against, --sample or --seed, draws one.
    Every label is in golden/NAME.labels.jsonl at once. It does not show which run or version an answer is from.
    """
    from promptops.core.errors import DataError

    desk = _desk(name, who, batch, _Draw(run, against, sample, seed))
    if web:
        from promptops.cli.review_server import serve

        serve(desk, _suite(name), port=port)
    elif not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise DataError("no terminal to review on", hint="use --web, or `promptops review export` and `import`")
    else:
        from promptops.cli.review_screen import run_screen

        run_screen(desk, _suite(name))
    return _report(desk, as_json=as_json)


@app.command("assign")
def assign(
    name: Name,
    to: Annotated[list[str], typer.Option(metavar="WHO", help="A reviewer; give it once for each.")],
    overlap: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of the answers that all of them get, so that their agreement can be seen."
        ),
    ] = 0.2,
    run: RunOption = "",
    against: Against = "",
    sample: Sample = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> int:
    """Draw a batch of answers and deal it out to reviewers."""
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.review import BatchPlan, reviewer_name
    from promptops.report.review import batch_json, render_batch

    reviewers = tuple(dict.fromkeys(map(reviewer_name, to)))
    project, draw = _project(), _Draw(run, against, sample, seed)
    plan = BatchPlan(reviewers=reviewers, size=draw.size(project, name), overlap=overlap, seed=seed)
    made, path = _new_batch(project, name, draw, plan)
    if as_json:
        emit_json(batch_json(made, path))
    else:
        emit(render_batch(made, path))
    return ExitCode.OK


@app.command("report")
def report(name: Name, batch: BatchOption = "", as_json: Json = False) -> int:
    """The pass rate as reviewers see it, and how far they agree."""
    return _report(_desk_of(_project(), name, _newest(_project(), name, batch), ""), as_json=as_json)


@app.command("export")
def export(
    name: Name,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Where to write: FILE.csv for a spreadsheet, FILE.jsonl for a program."),
    ],
    who: Annotated[
        str, typer.Option("--as", help="Only the answers of this reviewer; default: all of the batch.")
    ] = "",
    batch: BatchOption = "",
    as_json: Json = False,
) -> int:
    """Write a batch for those who label elsewhere: fill in the criteria (and `passed`, if it should differ), and import it."""
    from promptops.cli.output import emit, emit_json
    from promptops.core.errors import DataError, EvaluationError
    from promptops.report.review import export_csv, export_jsonl
    from promptops.report.tables import command, count, headline, next_line

    desk = _desk_of(_project(), name, _newest(_project(), name, batch), who)
    items = desk.batch.items_of(who) if who else desk.batch.items
    if not items:
        raise DataError(
            f"batch {desk.batch.id} has nothing for {who[:60]}", hint=f"it is for {', '.join(desk.batch.reviewers)}"
        )
    write = {".csv": export_csv, ".jsonl": export_jsonl}.get(output.suffix)
    if write is None:
        raise DataError(f"{output.name[:80]!r} ends in neither .csv nor .jsonl", hint="name the file accordingly")
    try:
        output.write_text(write(items, desk.rubric), "utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise EvaluationError("the file cannot be written", where=str(output), why=error.strerror or "") from error
    if as_json:
        emit_json({"batch": desk.batch.id, "file": str(output), "items": len(items)})
    else:
        emit(headline("WROTE", "green", f"{count(len(items), 'answer')} of batch {desk.batch.id} to {output}"))
        emit(
            next_line(
                command(
                    "promptops", "review", "import", name, str(output), "--as", who or "WHO", "--batch", desk.batch.id
                )
            )
        )
    return ExitCode.OK


@app.command("import")
def import_(
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A filled-in export (.csv, .jsonl), or labels of the same prompt (.labels.jsonl)."
        ),
    ],
    who: As = "",
    batch: BatchOption = "",
    as_json: Json = False,
) -> int:
    """Take in labels made elsewhere; all of them, or none and what is wrong with each line."""
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.review import import_rows, reviewer_name
    from promptops.project.labels import add_labels, parse_labels
    from promptops.report.tables import command, count, headline, next_line

    project, data = _project(), _read(file)
    if file.name.endswith(".labels.jsonl"):
        labels = parse_labels(data, str(file))
        add_labels(project.root, name, labels)
        kept, empty = len(labels), 0
    else:
        kept, empty = import_rows(
            _desk_of(project, name, _newest(project, name, batch), reviewer_name(who or _me(project))),
            _rows(data, file),
        )
    if as_json:
        emit_json({"prompt": name, "labels": kept, "empty": empty})
    else:
        left = f"; {count(empty, 'row')} without a verdict left out" if empty else ""
        emit(headline("IMPORTED", "green", f"{count(kept, 'label')} into golden/{name}.labels.jsonl{left}"))
        emit(next_line(command("promptops", "review", "report", name)))
    return ExitCode.OK


@app.command("due")
def due(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Prompts; default: all whose suite has `review`.")
    ] = None,
    as_json: Json = False,
) -> int:
    """When the next review falls due; exits 1 when one is overdue whose suite says `review: {required: true}`."""
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.core.errors import DataError
    from promptops.evaluation.plan import utc_now
    from promptops.evaluation.review_due import review_due
    from promptops.project.labels import read_labels
    from promptops.report.review import due_json, render_due

    project = _project()
    found = []
    for name in names or project.names():
        policy = project.load(name).suite.review
        if policy is None and names:
            raise DataError(
                "the suite plans no review",
                where=f"golden/{name}.yaml",
                hint="add `review: {every_days: 90, sample: 40}`",
            )
        if policy is not None:
            found.append(review_due(name, policy, read_labels(project.tree, name), utc_now()))
    if as_json:
        emit_json(due_json(found))
    elif found:
        emit(render_due(found))
    else:
        emit(Text("no suite plans a review; add `review: {every_days: 90, sample: 40}` to golden/NAME.yaml"))
    return ExitCode.GATE if any(one.fails for one in found) else ExitCode.OK


class _Draw:
    """What the options say of a batch to draw."""

    def __init__(self, run: str, against: str, sample: int | None, seed: int) -> None:
        self.run, self.against, self.sample, self.seed = run, against, sample, seed

    @property
    def stated(self) -> bool:
        return bool(self.run or self.against or self.sample or self.seed)

    def size(self, project: "Project", name: str) -> int:
        from promptops.evaluation.review import DEFAULT_SAMPLE, rubric_of

        policy = rubric_of(project, name)[0].suite.review
        return self.sample or (policy.sample if policy else DEFAULT_SAMPLE)


def _project() -> "Project":
    from promptops.project.project import open_project

    return open_project(Path.cwd())


def _suite(name: str) -> Any:
    return _project().load(name).suite


def _me(project: "Project") -> str:
    """Git's user.name, or the account's."""
    import getpass

    from promptops.core.errors import DataError, PromptopsError

    try:
        found = project.git.run("config", "--get", "user.name").decode("utf-8", "replace").strip()
    except PromptopsError:
        found = ""
    try:
        found = found or getpass.getuser()
    except (OSError, KeyError) as error:
        raise DataError("nothing says who labels", hint="use --as NAME") from error
    return found


def _desk(name: str, who: str, batch: str, draw: _Draw) -> "Desk":
    """The desk of a reviewer with answers waiting, a new batch where there is none."""
    from promptops.evaluation.review import BatchPlan, Reviewing, reviewer_name
    from promptops.project.reviews import list_batches

    project = _project()
    who = reviewer_name(who or _me(project))
    if batch:
        return _desk_of(project, name, _newest(project, name, batch), who)
    if not draw.stated:
        for known in list_batches(project.root, name):
            desk = _desk_of(project, name, known, who)
            if known.items_of(who) and Reviewing(desk).place().item is not None:
                return desk
    plan = BatchPlan(reviewers=(who,), size=draw.size(project, name), seed=draw.seed)
    return _desk_of(project, name, _new_batch(project, name, draw, plan)[0], who)


def _desk_of(project: "Project", name: str, batch: "Batch", who: str) -> "Desk":
    from promptops.evaluation.plan import utc_now
    from promptops.evaluation.review import Desk, rubric_of

    return Desk(root=project.root, batch=batch, rubric=rubric_of(project, name)[1], who=who, clock=utc_now)


def _newest(project: "Project", name: str, batch: str) -> "Batch":
    """The batch that was named, or the newest of the prompt. Raises DataError when there is none, or it is of another prompt."""
    from promptops.core.errors import DataError, did_you_mean
    from promptops.project.reviews import list_batches, load_batch

    if name not in project.names():
        raise DataError(f"no prompt {name[:80]!r}", hint=did_you_mean(name, project.names()))
    if batch:
        found = load_batch(project.root, batch)
        if found.prompt != name:
            raise DataError(
                f"batch {found.id} is of {found.prompt}, not of {name}", hint=f"promptops review {found.prompt}"
            )
        return found
    known = list_batches(project.root, name)
    if not known:
        raise DataError(
            f"no review batch of {name}",
            hint=f"draw one with `promptops review {name}` or `promptops review assign {name}`",
        )
    return known[0]


def _new_batch(project: "Project", name: str, draw: _Draw, plan: "BatchPlan") -> "tuple[Batch, str]":
    """Draw a batch and keep it; one that was drawn before stays as it is."""
    from promptops.core.errors import DataError
    from promptops.evaluation.find_run import find_run
    from promptops.evaluation.plan import utc_now
    from promptops.evaluation.review import make_batch
    from promptops.project.reviews import list_batches, save_batch
    from promptops.project.store import open_store

    with closing(open_store(project.store_at)) as store:
        complete = [one for one in store.runs(name) if one.state == "complete"]
        if not draw.run and not complete:
            raise DataError(f"no complete run of {name}", hint=f"run `promptops eval {name}`")
        runs = [find_run(store, project, draw.run, name) if draw.run else complete[0]]
        runs += [find_run(store, project, draw.against, name)] if draw.against else []
        for one in runs:
            if one.header.prompt != name:
                raise DataError(
                    f"run {one.id} is of {one.header.prompt}, not of {name}", hint="name a run of this prompt"
                )
        batch = make_batch(store, project, runs, plan, utc_now)
    known = next((one for one in list_batches(project.root, name) if one.id == batch.id), None)
    path = save_batch(project.root, known or batch)
    return known or batch, path.relative_to(project.root).as_posix()


def _report(desk: "Desk", *, as_json: bool) -> int:
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.review import read_labels_of, review_report
    from promptops.report.review import render_report, report_json

    found = review_report(desk.batch, desk.rubric, read_labels_of(desk.root, desk.batch.prompt))
    if as_json:
        emit_json(report_json(found))
    else:
        emit(render_report(found))
    return ExitCode.OK


def _read(file: Path) -> bytes:
    from promptops.core.errors import DataError

    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError("the file cannot be read", where=str(file), why=error.strerror or "") from error


def _rows(data: bytes, file: Path) -> list[tuple[str, dict[str, object]]]:
    """(file:line, columns) of an export that was filled in. Raises DataError for what is none."""
    import csv
    import io

    from promptops.core.errors import DataError
    from promptops.core.jsontext import JsonError, parse_json
    from promptops.project.tree import decode_text

    text = decode_text(data, str(file))
    if file.suffix == ".jsonl":
        rows: list[tuple[str, dict[str, object]]] = []
        for number, line in enumerate(text.split("\n"), 1):
            try:
                row = parse_json(line) if line.strip() else None
            except JsonError as error:
                raise DataError("not a valid row", where=f"{file}:{number}", why=str(error)) from error
            if row is not None and not isinstance(row, dict):
                raise DataError("not a row of an export", where=f"{file}:{number}", hint="keep the objects as exported")
            rows += [(f"{file}:{number}", row)] if row else []
        return rows
    if file.suffix != ".csv":
        raise DataError(
            f"{file.name[:80]!r} ends in neither .csv nor .jsonl", hint="import what `promptops review export` wrote"
        )
    csv.field_size_limit(64 * 1024 * 1024)
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    try:
        found = [(f"{file}:{reader.line_num}", {str(name).strip(): (value or "").strip() for name, value in row.items() if name is not None})
                 for row in reader]  # fmt: skip
    except (csv.Error, AttributeError) as error:
        raise DataError(
            "not a table of comma-separated values", where=f"{file}:{reader.line_num}", why=str(error)
        ) from error
    if "item" not in [name.strip() for name in reader.fieldnames or ()]:
        raise DataError(
            "the table has no column `item`", where=f"{file}:1", hint="import what `promptops review export` wrote"
        )
    return [row for row in found if any(row[1].values())]
