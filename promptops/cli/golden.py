"""promptops golden ...: the cases a prompt is measured on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from promptops.audit.candidates import Candidates
    from promptops.evaluation.coverage import Ground
    from promptops.project.project import Evaluable, Project

Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Log = Annotated[
    Path, typer.Option("--traffic", metavar="LOG", help='Requests of users (JSONL): {"inputs": {...}, "count": 1}.')
]
MaybeLog = Annotated[
    Path | None,
    typer.Option("--traffic", metavar="LOG", help='Requests of users (JSONL): {"inputs": {...}, "count": 1}.'),
]
FromEvents = Annotated[
    str,
    typer.Option(
        "--from-events", metavar="ADDRESS", help="Events of services that keep texts, instead: FILE or redis://..."
    ),
]
Radius = Annotated[
    float | None,
    typer.Option(
        "--radius", metavar="DISTANCE", help="Alike is within this distance, 0 to 1; default: by the traffic."
    ),
]
Wanted = Annotated[int, typer.Option("-k", "--cases", metavar="K", min=1, max=2000, help="So many cases.")]
EngineName = Annotated[
    str,
    typer.Option("--engine", metavar="local|ray|ray://HOST:PORT", help="Where it runs; default: `engine` of the configuration, else here."),
]  # fmt: skip
Workers = Annotated[int | None, typer.Option(metavar="N", min=1, max=4096, help="On Ray: so many processes.")]
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


@app.command("stats")
def stats(
    name: Name,
    train: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Training rows (JSONL, as golden rows): which are golden cases?")
    ] = None,
    as_json: Json = False,
) -> int:
    """Say whether the cases are enough, and which are wrong.

    Counts against minimums and what the gate can see, near-duplicates, leaks, doubtful labels, and cases that anything solves.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.golden_stats import golden_stats
    from promptops.project.golden import read_rows
    from promptops.project.project import open_project
    from promptops.report.golden import render_stats, stats_json

    project = open_project(Path.cwd())
    rows = read_rows(train, project.load(name).prompt) if train else []
    found = golden_stats(project, name, train=rows)
    if as_json:
        emit_json(stats_json(found, trained_on=len(rows)))
    else:
        emit(render_stats(found, trained_on=len(rows)))
    return ExitCode.OK


@app.command("coverage")
def coverage(
    name: Name,
    traffic: Log,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write a page (.html) or the picture (.png) too."),
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Print `categories:` with the traffic's shares, for the suite.")
    ] = False,
    radius: Radius = None,
    engine: EngineName = "",
    workers: Workers = None,
    as_json: Json = False,
) -> int:
    """Say how well the cases cover what users send.

    Distances to the nearest case, what users ask and no case is like, languages and lengths. Nothing leaves this machine. Stores the figures,
    without texts, for exactly these cases; not with a --radius of your own.
    """
    from promptops.cli.output import emit, emit_json, note
    from promptops.cli.reports import write_whole
    from promptops.evaluation.plan import utc_now
    from promptops.evaluation.traffic import traffic_digest
    from promptops.project.golden import read_cases
    from promptops.project.records import COVERAGE, write_record
    from promptops.report.coverage import coverage_json, coverage_page, render_coverage
    from promptops.report.picture import coverage_picture

    if output and output.suffix not in (".html", ".png"):
        raise DataError(f"cannot tell the format of {output.name!r}", hint="use .html or .png, or --json")
    project, evaluable, ground = _ground(name, traffic, radius, engine=engine, workers=workers)
    found = ground.measure()
    shares = ground.shares([case.category for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)])
    if radius is None:
        row = found.as_row(golden_digest=evaluable.scan.digest, traffic_digest=traffic_digest(traffic), at=utc_now().isoformat(timespec="seconds"))  # fmt: skip
        note(f"stored in {write_record(project.root, name, COVERAGE, row)} for exactly these cases")
    if output:
        write_whole(output, coverage_picture(found, name) if output.suffix == ".png" else coverage_page(found, name))
        note(f"wrote {output}")
    if as_json:
        emit_json(coverage_json(found, name, shares))
    else:
        emit(render_coverage(found, name, str(traffic), shares if weights else None))
    return ExitCode.OK


@app.command("suggest")
def suggest(
    name: Name, traffic: MaybeLog = None, from_events: FromEvents = "", cases: Wanted = 20, radius: Radius = None, as_json: Json = False
) -> int:  # fmt: skip
    """Name the inputs that would cover most if added.

    Each is chosen with those before it in mind; `golden add` writes them down. From events, what people, judges and guardrails found bad comes first.
    """
    if from_events:
        return _suggest_from_events(name, traffic, from_events, cases, radius, as_json=as_json)
    traffic = _log(traffic)
    from promptops.cli.output import emit, emit_json
    from promptops.report.coverage import render_suggestions, suggestions_json

    ground = _ground(name, traffic, radius)[2]
    found = list(ground.suggest(cases))
    if as_json:
        emit_json(suggestions_json(found, name, before=ground.covered))
    else:
        emit(render_suggestions(found, name, str(traffic), before=ground.covered))
    return ExitCode.OK


@app.command("add")
def add(
    name: Name,
    traffic: MaybeLog = None,
    from_events: FromEvents = "",
    cases: Wanted = 20,
    keep_pii: Annotated[
        bool, typer.Option("--keep-pii", help="Do not mask e-mail, phone, card and account numbers.")
    ] = False,
    radius: Radius = None,
    as_json: Json = False,
) -> int:
    """Write suggested inputs as cases to be labelled.

    Into golden/NAME.todo.jsonl, with personal data masked. Those that wait there already count as cases.
    """  # fmt: skip
    from promptops.cli.output import emit, emit_json
    from promptops.core.personal import Masked
    from promptops.project.golden import read_cases
    from promptops.project.golden_todo import add_todo, todo_path, todo_row
    from promptops.report.coverage import render_added

    masked, rows, unfit = Masked(), [], 0
    if from_events:
        project, evaluable, found = _candidates(name, traffic, from_events, cases, radius, keep_pii=keep_pii)
        masked, unfit = Masked(counts=dict(found.masked)), found.unfit
        rows = [todo_row(item.inputs, f"events, {item.id}: {item.reason}") for item in found.chosen]
    else:
        log = _log(traffic)
        project, evaluable, ground = _ground(name, log, radius, with_todo=True)
        for item in ground.suggest(cases):
            inputs = item.inputs if keep_pii else masked.value(item.inputs)
            if any(evaluable.prompt.input_problems(inputs)):
                unfit += 1
                continue
            rows.append(todo_row(inputs, f"traffic, {log.name}:{item.line}"))
    known = [case.id for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)]
    added, waiting = add_todo(project, name, rows, known)
    if as_json:
        emit_json(
            {
                "prompt": name,
                "path": todo_path(name),
                "added": added,
                "waiting": waiting,
                "masked": dict(masked.counts),
                "kept_pii": keep_pii,
                "unfit": unfit,
            }
        )
    else:
        emit(render_added(name, todo_path(name), added, waiting, masked.counts, kept_pii=keep_pii, unfit=unfit))
    return ExitCode.OK


@app.command("sample")
def sample(
    name: Name,
    source: Annotated[
        str, typer.Option("--from", metavar="PLACE", help="A .jsonl, .csv or .parquet file, a folder, a pattern, or a URL of one.")
    ],
    by: Annotated[str, typer.Option("--by", metavar="COLUMN", help="Sample each value of it alike, as `channel` or `tags.lang`.")] = "",
    per_stratum: Annotated[int, typer.Option("--per-stratum", metavar="N", min=1, max=10_000, help="So many of each.")] = 20,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**63, help="Another seed is another sample.")] = 0,
    keep_pii: Annotated[
        bool, typer.Option("--keep-pii", help="Do not mask e-mail, phone, card and account numbers.")
    ] = False,
    engine: EngineName = "",
    workers: Workers = None,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Draw a stratified sample of logs of any size, to be labelled.

    Into golden/NAME.todo.jsonl, with personal data masked, as `golden add`. The same inputs count once; the same seed draws the same.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.core.personal import Masked
    from promptops.evaluation.sampling import SampleSpec, sample_logs
    from promptops.project.golden import read_cases
    from promptops.project.golden_todo import add_todo, todo_path, todo_row
    from promptops.project.project import open_project
    from promptops.project.row_files import files_at
    from promptops.report.coverage import render_sampled

    project = open_project(Path.cwd())
    evaluable = project.load(name)
    spec = SampleSpec(by=by, per_stratum=per_stratum, seed=seed)
    found = sample_logs(files_at(source), project.tree, name, spec, max_case_bytes=project.config.max_case_bytes,
                        spread=_spread(project, engine, workers))  # fmt: skip
    masked, rows, unfit = Masked(), [], 0
    for _, item in found.chosen():
        inputs = item.inputs if keep_pii else masked.value(item.inputs)
        if any(evaluable.prompt.input_problems(inputs)):
            unfit += 1
            continue
        rows.append(todo_row(inputs, f"sample, {item.source}"))
    known = [case.id for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)]
    added, waiting = add_todo(project, name, rows, known)
    strata = {stratum: {"rows": found.rows[stratum], "drawn": len(items)} for stratum, items in sorted(found.strata.items())}  # fmt: skip
    if as_json:
        emit_json({"prompt": name, "path": todo_path(name), "added": added, "waiting": waiting, "masked": dict(masked.counts), "kept_pii": keep_pii,
                   "unfit": unfit, "rows": found.rows.total(), "strata": strata, "skipped": dict(found.skipped), "seed": seed})  # fmt: skip
    else:
        emit(render_sampled(name, todo_path(name), added, waiting, masked.counts, kept_pii=keep_pii, unfit=unfit, strata=strata, skipped=found.skipped))  # fmt: skip
    return ExitCode.OK


def _log(traffic: Path | None) -> Path:
    if traffic is None:
        raise DataError("nothing says what users send", hint="--traffic LOG, or --from-events ADDRESS")
    return traffic


def _suggest_from_events(
    name: str, traffic: Path | None, address: str, cases: int, radius: float | None, *, as_json: bool
) -> int:
    from promptops.cli.output import emit, emit_json
    from promptops.report.candidates import candidates_json, render_candidates
    from promptops.runtime.telemetry.stream import shown_address

    found = _candidates(name, traffic, address, cases, radius, keep_pii=False)[2]
    if as_json:
        emit_json(candidates_json(found, name))
    else:
        emit(render_candidates(found, name, shown_address(address)))
    return ExitCode.OK


def _candidates(
    name: str, traffic: Path | None, address: str, cases: int, radius: float | None, *, keep_pii: bool
) -> "tuple[Project, Evaluable, Candidates]":
    """Candidates that are neither golden cases nor wait for a label."""
    from promptops.audit.candidates import find_candidates
    from promptops.project.golden import read_cases
    from promptops.project.golden_todo import read_todo
    from promptops.project.project import open_project

    if traffic is not None:
        raise DataError("--traffic and --from-events exclude each other", hint="choose one")
    _check_radius(radius)
    project = open_project(Path.cwd())
    evaluable = project.load(name)
    golden = [case.inputs for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)]
    golden += [row["inputs"] for row in read_todo(project, name)]
    found = find_candidates(address, evaluable.prompt, golden, most=cases, radius=radius, keep_pii=keep_pii, max_case_bytes=project.config.max_case_bytes)  # fmt: skip
    return project, evaluable, found


def _check_radius(radius: float | None) -> None:
    if radius is not None and not 0 < radius < 1:
        raise DataError("--radius is a distance above 0 and below 1", hint="leave it out to have it measured")


def _ground(
    name: str, log: Path, radius: float | None, *, with_todo: bool = False, engine: str = "local", workers: int | None = None
) -> "tuple[Project, Evaluable, Ground]":  # fmt: skip
    """Traffic and golden cases of a prompt in one space, and with them, if wanted, those that wait for a label."""
    from promptops.evaluation.clients import input_names
    from promptops.evaluation.coverage import Ground
    from promptops.evaluation.traffic import read_traffic
    from promptops.models.base import ModelRequest
    from promptops.models.local import input_text
    from promptops.project.golden import read_cases
    from promptops.project.golden_todo import read_todo
    from promptops.project.project import open_project

    _check_radius(radius)
    project = open_project(Path.cwd())
    evaluable = project.load(name)
    sent = read_traffic(log, evaluable.prompt, max_case_bytes=project.config.max_case_bytes)
    read = input_names(evaluable.prompt)
    inputs = [case.inputs for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)]
    inputs += [row["inputs"] for row in read_todo(project, name)] if with_todo else []
    texts = [input_text(ModelRequest(messages=(), inputs=item), read) for item in inputs]
    return project, evaluable, Ground(sent, texts, radius=radius, spread=_spread(project, engine, workers))


def _spread(project: "Project", engine: str, workers: int | None) -> "Callable[..., Iterator[Any]]":
    """`map`, here or on the engine that the command line or the configuration names."""
    from promptops.evaluation.on_ray import make_engine

    found = make_engine(engine, project, workers=workers, writes=False)
    return found.spread if found else map
