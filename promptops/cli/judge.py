"""promptops judge ...: how far a judge can be trusted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from promptops.evaluation.against import Session
    from promptops.project.labels import Label
    from promptops.project.project import Project
    from promptops.project.store import Run, Store

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")]
Judge = Annotated[str, typer.Option("--judge", metavar="MODEL", help="In place of the suite's judge.")]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="Labels to use; default: golden/NAME.labels.jsonl.")]
MaxCost = Annotated[str, typer.Option(metavar="USD", help="Stop before this could have cost more.")]
Concurrency = Annotated[int | None, typer.Option(metavar="N", min=1, max=1024, help="Most calls in flight.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Ask again what is already answered.")]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("calibrate")
def calibrate(
    name: Name,
    labels: Labels = None,
    run: Annotated[
        str, typer.Option(metavar="RUN", help="Only labelled answers of this run: id, `latest` or exported file.")
    ] = "",
    judge: Judge = "",
    repeat: Annotated[
        int, typer.Option(metavar="N", min=1, max=20, help="Verdicts on each answer, to see how often they flip.")
    ] = 2,
    max_cost: MaxCost = "",
    concurrency: Concurrency = None,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> int:
    """Compare the judge with people's labels.

    Stores what its verdicts may be used for, for exactly this judge. Exit 1 when it is too weak to block a change, 3 when it gives no verdicts.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.calibrate import calibrate as compare
    from promptops.evaluation.calibrate import judge_plan
    from promptops.project.records import CALIBRATIONS, write_record
    from promptops.report.judge import calibration_json, render_calibration

    with _session(name, max_cost=max_cost, concurrency=concurrency, reuse=not no_cache, quiet=as_json) as session:
        plan = judge_plan(session.project, name, judge)
        only = _answers_of(session.store, _find(session.store, session.project, run, name)) if run else None
        found = compare(session.store, plan, _labels(session.project, name, labels), repeats=repeat, clock=session.clock,
                        options=session.options, on_progress=session.on_progress, only=only)  # fmt: skip
        where = write_record(session.project.root, name, CALIBRATIONS, found.as_row())
    if as_json:
        emit_json(calibration_json(found, where))
    else:
        emit(render_calibration(found, where))
    return ExitCode.OK if found.standing.may_block else ExitCode.GATE


@app.command("report")
def report(
    name: Name,
    run: Annotated[str, typer.Option(metavar="RUN", help="A judged run; default: the newest of NAME.")] = "",
    labels: Labels = None,
    as_json: Json = False,
) -> int:
    """Show the pass rate without the judge's errors.

    Beside the raw one, by category. Asks nobody.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.judge_report import report_on
    from promptops.project.records import CALIBRATIONS, read_records
    from promptops.report.judge import render_report, report_json

    with _session(name, quiet=True) as session:
        project, store = session.project, session.store
        found_run = _find(store, project, run, name) if run else _newest_judged(store, name)
        evaluable = project.load(name)
        if evaluable.rubric is None:
            raise DataError(f"{name} has no rubric", where=f"golden/{name}.yaml", hint="name one: `rubric: NAME`")
        digests = {category: evaluable.rubric.digest_for(category) for category in evaluable.scan.categories}
        found = report_on(store, found_run, _labels(project, name, labels), digests)
        measured = read_records(project.tree, name, CALIBRATIONS).get(found_run.header.judge_digest, {})
    if as_json:
        emit_json(report_json(found, measured))
    else:
        emit(render_report(found, measured))
    return ExitCode.OK


@app.command("attack")
def attack(
    name: Name,
    run: Annotated[
        str, typer.Option(metavar="RUN", help="Whose answers are attacked; default: the newest complete run of NAME.")
    ] = "",
    judge: Judge = "",
    answers: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=1000, help="Answers to attack, those that people or checks failed first."),
    ] = 5,
    max_cost: MaxCost = "",
    concurrency: Concurrency = None,
    no_cache: NoCache = False,
    as_json: Json = False,
) -> int:
    """Try to talk the judge into a pass.

    Appends texts to answers that people or checks failed; no score may rise. Stores what came of it, for exactly this judge. Exit 1 when one rose.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.attack import attack_judge, find_targets
    from promptops.evaluation.calibrate import judge_plan
    from promptops.project.records import ATTACKS, write_record
    from promptops.report.judge import attack_json, render_attack

    with _session(name, max_cost=max_cost, concurrency=concurrency, reuse=not no_cache, quiet=as_json) as session:
        project, store = session.project, session.store
        plan = judge_plan(project, name, judge)
        complete = next((item for item in store.runs(name) if item.state == "complete"), None)
        source = _find(store, project, run, name) if run else complete
        targets = find_targets(store, plan, _labels(project, name, None), source, answers)
        found = attack_judge(
            store, plan, targets, clock=session.clock, options=session.options, on_progress=session.on_progress
        )
        where = write_record(project.root, name, ATTACKS, found.as_row())
    if as_json:
        emit_json(attack_json(found, where))
    else:
        emit(render_attack(found, where))
    return ExitCode.GATE if found.succeeded else ExitCode.OK


@contextmanager
def _session(
    name: str, *, quiet: bool, max_cost: str = "", concurrency: int | None = None, reuse: bool = True
) -> "Iterator[Session]":
    from promptops.cli.session import open_session, spend_cap

    with open_session(name, quiet=quiet, cap=spend_cap(max_cost), concurrency=concurrency, reuse=reuse) as session:
        yield session


def _labels(project: "Project", name: str, file: Path | None) -> "list[Label]":
    from promptops.project.labels import parse_labels, read_labels

    if file is None:
        return read_labels(project.tree, name)
    try:
        return parse_labels(file.read_bytes(), str(file))
    except OSError as error:
        raise DataError("labels cannot be read", where=str(file), why=error.strerror or "") from error


def _find(store: "Store", project: "Project", run: str, name: str) -> "Run":
    from promptops.evaluation.find_run import find_run

    found = find_run(store, project, run, name)
    if found.header.prompt != name:
        raise DataError(
            f"run {found.id} is of {found.header.prompt}, not of {name}",
            hint=f"see `promptops runs list --prompt {name}`",
        )
    return found


def _newest_judged(store: "Store", name: str) -> "Run":
    for run in store.runs(name):
        if run.header.judge:
            return run
    raise DataError(f"no judged run of {name}", hint=f"make one: `promptops eval {name} --judge MODEL`")


def _answers_of(store: "Store", run: "Run") -> frozenset[tuple[str, str]]:
    """(case id, answer digest) of what a run answered."""
    from promptops.project.labels import answer_digest

    found: set[tuple[str, str]] = set()
    for result in store.results(run.id):
        answer = store.find_answer(result.answer_key)
        if answer is not None:
            found.add((result.case_id, answer_digest(answer.text)))
    return frozenset(found)
