"""promptops monitor and drift: what services do, what moved, and what is asked that no golden case asks."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.cli.events import Events, wanted_events
from promptops.core.errors import DataError, EvaluationError, ExitCode, did_you_mean

if TYPE_CHECKING:
    from promptops.audit.drift import Drift
    from promptops.audit.events import Dimension, EventReader, Traffic
    from promptops.audit.sampling import Verdict
    from promptops.audit.sources import Source

_LOOK_S = 2.0


app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@app.callback()
def monitor(
    context: typer.Context,
    events: Events = "",
    follow: Annotated[
        bool, typer.Option("--follow", help="A live board; without a terminal: wait for an alert, print it, exit 1.")
    ] = False,
    every: Annotated[str, typer.Option(metavar="hour|minute", help="How traffic is cut into buckets.")] = "hour",
    reference: Annotated[
        int,
        typer.Option(
            min=1, metavar="BUCKETS", help="How many first buckets say what is usual; at most a third of all."
        ),
    ] = 72,
    false_alarms: Annotated[
        float, typer.Option(min=1e-6, max=1000, help="How many to expect a fortnight, at most, over all rates.")
    ] = 0.2,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIMENSION", help="More tables: version, category, language, tenant, feature (may be repeated)."
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write it too: .html or .json (may be repeated)."),
    ] = None,
    webhook: Annotated[
        str, typer.Option(metavar="URL", help="Where alerts are posted as JSON; https, or http on this machine.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Show what services do; exit 1 when a rate moved.

    Rates of errors, fallbacks, rejections, bad answers, latency, cost and of every category, language and tenant are compared with their own past.
    """
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    from contextlib import closing

    from promptops.audit.drift import find_drift
    from promptops.audit.events import EventReader
    from promptops.audit.sources import checked, open_source

    address = wanted_events(events)
    if every not in {"hour", "minute"}:
        raise DataError(f"--every {every[:40]!r}", hint="hour or minute")
    dimensions, hook = _dimensions(by or []), _hook(webhook)
    for file in output or ():
        if not file.endswith((".html", ".json")):
            raise DataError("the report is a page or JSON", where=file, hint="-o FILE.html or -o FILE.json")
    reader = EventReader(every="minute" if every == "minute" else "hour")

    def judge() -> "Drift":
        return find_drift(reader.traffic, reference=reference, false_alarms=false_alarms)

    with closing(open_source(address)) as lines:
        _take(reader, lines)
        if follow:
            drift = _follow(reader, lines, judge, dimensions, address)
        else:
            if rest := lines.remainder():
                reader.add(rest)
            checked(reader.traffic, address)
            drift = judge()
    _tell(reader.traffic, drift, dimensions, output or [], hook, address, as_json=as_json)
    return ExitCode.GATE if drift.alerts else ExitCode.OK


@app.command("sample")
def sample(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    events: Events = "",
    judge: Annotated[bool, typer.Option("--judge", help="Judge them; without it only the price is told.")] = False,
    many: Annotated[
        int, typer.Option("-n", "--replies", metavar="N", min=1, max=100_000, help="So many replies.")
    ] = 100,
    hours: Annotated[
        float, typer.Option(metavar="HOURS", min=0, help="Of the last so many hours; 0: of all events.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Decides which replies.")] = 0,
    model: Annotated[str, typer.Option("--judge-model", metavar="MODEL", help="In place of the suite's judge.")] = "",
    max_cost: Annotated[str, typer.Option(metavar="USD", help="Stop before this could have cost more.")] = "",
    concurrency: Annotated[int | None, typer.Option(metavar="N", min=1, max=1024, help="Most calls in flight.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Judge replies chosen by chance.

    By the rubric of the suite, of services that keep texts. The verdicts are added to the events, where `promptops monitor` watches them.
    """
    import time

    from promptops.audit.sampling import draw_sample, judge_sample, write_verdicts
    from promptops.cli.output import emit, emit_json
    from promptops.cli.session import open_session, spend_cap
    from promptops.report.sampling import render_judged, render_planned, sample_json

    address = wanted_events(events)
    with open_session(name, quiet=as_json or not judge, cap=spend_cap(max_cost), concurrency=concurrency) as session:
        found = draw_sample(
            session.project, name, address, many=many, seed=seed, judge=model, hours=hours, now=time.time
        )
        verdicts: list[Verdict] = []
        cost = written = 0
        if judge:
            verdicts, cost = judge_sample(
                session.store, found, clock=session.clock, options=session.options, on_progress=session.on_progress)  # fmt: skip
            written = (
                write_verdicts(address, found, verdicts, cost_nanousd=cost, clock=session.clock) if verdicts else 0
            )
    if as_json:
        emit_json(sample_json(found, verdicts, cost, written=written))
    elif judge:
        emit(render_judged(found, verdicts, cost, _told(address)))
    else:
        emit(render_planned(found, _told(address)))
    return ExitCode.OK


def _told(address: str) -> str:
    """An address as it may be printed."""
    from promptops.runtime.telemetry.stream import shown_address

    return shown_address(address)


def _dimensions(names: list[str]) -> "list[Dimension]":
    from promptops.report.monitor import DIMENSIONS

    found = [known for name in names for known in DIMENSIONS if known == name]
    for name in names:
        if name not in DIMENSIONS:
            raise DataError(f"no table by {name[:40]!r}", hint=did_you_mean(name, DIMENSIONS))
    return found


def _hook(url: str) -> str:
    from promptops.audit.webhook import check_webhook

    if url:
        check_webhook(url)
    return url


def _take(reader: "EventReader", lines: "Source") -> None:
    for line in lines:
        reader.add(line)
    reader.traffic.losses.gone = lines.lost


def _take_what_came(reader: "EventReader", lines: "Source") -> str:
    """Read on; what keeps it from that is waited for, and returned in words ('' when all is well)."""
    try:
        _take(reader, lines)
    except EvaluationError as error:
        return str(error.problems[0])
    return ""


def _follow(reader: "EventReader", lines: "Source", judge: Any, dimensions: "list[Dimension]", address: str) -> "Drift":
    """Until Ctrl-C on a terminal; elsewhere until a rate has moved."""
    import time

    from promptops.cli.output import console, note
    from promptops.report.monitor import render_board

    wrong = ""
    if not sys.stdout.isatty():
        note("waiting for an alert; Ctrl-C ends")
        while not (drift := judge()).alerts:
            time.sleep(_LOOK_S)
            before, wrong = wrong, _take_what_came(reader, lines)
            if wrong and not before:
                note(f"{wrong}; waiting for it")
        return drift  # type: ignore[no-any-return]
    from rich.live import Live

    def board() -> Any:
        return render_board(reader.traffic, judge(), dimensions, source=_told(address), every_s=_LOOK_S, wrong=wrong)

    with Live(board(), console=console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(board(), refresh=True)
            time.sleep(_LOOK_S)
            wrong = _take_what_came(reader, lines)


def _tell(
    traffic: "Traffic",
    drift: "Drift",
    dimensions: "list[Dimension]",
    output: list[str],
    hook: str,
    address: str,
    *,
    as_json: bool,
) -> None:
    from promptops.audit.webhook import post_alerts
    from promptops.cli.output import emit, emit_json, note
    from promptops.cli.reports import write_whole
    from promptops.report.monitor import finding_json, monitor_json, monitor_page, render_monitor

    for file, text in _files(output, lambda: monitor_page(traffic, drift), lambda: monitor_json(traffic, drift)):
        write_whole(Path(file), text)
        note(f"wrote {file}")
    if as_json:
        emit_json(monitor_json(traffic, drift))
    else:
        emit(render_monitor(traffic, drift, dimensions, source=_told(address)))
    if hook and drift.alerts:
        post_alerts(hook, [finding_json(finding) for finding in drift.alerts])
        note(f"posted {len(drift.alerts)} alerts")


def _files(output: list[str], page: Any, document: Any) -> Iterator[tuple[str, str]]:
    import json

    for file in output:
        yield file, page() if file.endswith(".html") else json.dumps(document(), ensure_ascii=False, indent=2) + "\n"


def drift(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    events: Events = "",
    seed: Annotated[int, typer.Option(help="Decides the sample and the permutations.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Compare what people ask with the golden cases.

    Languages, lengths, categories and words; names the requests that no golden case is like. Exits 0 whatever it finds.
    """
    from promptops.audit.inputs import compare_inputs
    from promptops.cli.output import emit, emit_json
    from promptops.project.project import open_project
    from promptops.report.inputs import inputs_json, render_inputs

    address = wanted_events(events)
    found = compare_inputs(open_project(Path.cwd()), name, address, seed=seed)
    if as_json:
        emit_json(inputs_json(found))
    else:
        emit(render_inputs(found))
    return ExitCode.OK
