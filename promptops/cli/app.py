"""The command tree. Command modules import what they need when they run, so that --help stays light."""

import typer

from promptops.cli import (
    alternatives,
    baseline,
    canary,
    channels,
    ci,
    compare,
    cost,
    evaluate,
    explain,
    export,
    files,
    golden,
    history,
    interop,
    judge,
    kill,
    monitor,
    privacy,
    queue,
    readiness,
    release,
    reports,
    review,
    route,
    runs,
    semantic,
    serve,
)
from promptops.core.version import __version__

app = typer.Typer(name="promptops", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Version, evaluate, gate and ship prompts.")  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"promptops {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors."),
) -> None:
    """Version, evaluate, gate and ship prompts."""


app.command("init")(files.init)
app.command("lint")(files.lint)
app.command("list")(files.list_prompts)
app.command("show")(files.show_prompt)
app.command("eval")(evaluate.eval_prompts)
app.command("retry")(evaluate.retry)
app.command("rescore")(evaluate.rescore)
app.command("explain")(explain.explain)
app.command("diff")(history.diff)
app.command("log")(history.log)
app.command("import")(interop.import_foreign)
app.command("convert")(interop.convert)
app.command("blame")(history.blame)
app.command("compare")(compare.compare)
app.command("alternatives")(alternatives.alternatives)
app.command("report")(reports.report)
app.command("view")(runs.view)
app.command("kill")(kill.kill)
app.add_typer(
    monitor.app,
    name="monitor",
    help="Show what services do; exit 1 when a rate moved. sample: judge replies chosen by chance.",
)
app.command("drift")(monitor.drift)
app.command("readiness")(readiness.readiness)
app.add_typer(canary.app, name="canary", help="Whether a canary may have all the traffic: status, guard.")
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.add_typer(ci.app, name="ci", help="The jobs of a pull request: run, gate, comment.")
app.command("promote")(channels.promote)
app.command("rollback")(channels.rollback)
app.command("hold")(channels.hold)
app.command("resume")(channels.resume)
app.command("status")(channels.status)
app.command("sync")(channels.sync)
app.command("approve")(release.approve)
app.command("release")(release.release)
app.command("audit-log")(release.audit_log)
app.command("doctor")(release.doctor)
app.add_typer(golden.app, name="golden", help="Are the cases enough: stats, coverage.")
app.add_typer(baseline.app, name="baseline", help="Recorded draws: record, list, push, fetch.")
app.add_typer(route.app, name="route", help="When the small model is good enough: train, show.")
app.command("cost")(cost.cost)
app.add_typer(semantic.app, name="cache", help="When an old answer may serve: calibrate, show.")
app.add_typer(runs.app, name="runs", help="Stored runs: list, show, watch, export, import, gc.")
app.add_typer(judge.app, name="judge", help="How far a judge can be trusted: calibrate, report, attack.")
app.add_typer(review.app, name="review", help="People label answers: label, assign, report, export, due.")
app.add_typer(queue.app, name="queue", help="Requests nobody could answer when they came: list, drain.")
app.add_typer(privacy.app, name="privacy", help="What is kept of a customer: erase, retain.")
app.add_typer(export.app, name="bundle", help="What services load: verify, show, diff, install.")
