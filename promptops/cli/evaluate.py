"""promptops eval, retry and rescore."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.cli.reports import Format, Output, Reports
from promptops.cli.session import opened_store, run_options, spend_cap
from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from promptops.evaluation.execute import Executed
    from promptops.evaluation.plan import Plan, Selection
    from promptops.evaluation.session import Engine
    from promptops.evaluation.summary import Summary
    from promptops.project.project import Project
    from promptops.project.store import Run, Store

_SEVERITY = (ExitCode.OK, ExitCode.GATE, ExitCode.NOT_EVALUATED, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Concurrency = Annotated[int | None, typer.Option(metavar="N", min=1, max=1024, help="Most calls in flight.")]
MaxCost = Annotated[str, typer.Option(metavar="USD", help="Stop before the command could have cost more.")]
MaxCalls = Annotated[int | None, typer.Option(metavar="N", min=0, help="Stop after this many calls of the command.")]
Record = Annotated[Path | None, typer.Option(metavar="DIR", help="Keep every answer in this folder.")]
Replay = Annotated[Path | None, typer.Option(metavar="DIR", help="Take every answer from this folder; ask nobody.")]
JudgeOption = Annotated[
    str,
    typer.Option(
        "--judge", metavar="MODEL", help="Who judges by the rubric, in place of the suite's judge; `none` for nobody."
    ),
]
EngineName = Annotated[
    str,
    typer.Option("--engine", metavar="local|ray|ray://HOST:PORT", help="Where it runs; default: `engine` of the configuration, else here."),
]  # fmt: skip
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=4096, help="On Ray: so many processes; default: one for each free CPU.")
]  # fmt: skip
LogFormat = Annotated[str, typer.Option(metavar="text|json", help="Progress on stderr for people, or as JSON lines.")]


def eval_prompts(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Prompts; default: all.")] = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Alias of the configuration, `local`, or `local:NAME`.")
    ] = "",
    category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this category (may be repeated).")
    ] = None,
    filter_tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Only cases with this tag, as `lang=ja` or `noise`.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the first N of the selected cases.")
    ] = None,
    concurrency: Concurrency = None,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Draws of each case.")] = 1,
    candidate: Annotated[
        str,
        typer.Option(metavar="NAME", help="Evaluate prompts/NAME/candidates/CANDIDATE instead of the prompt itself."),
    ] = "",
    at: Annotated[
        str, typer.Option(metavar="REF", help="Evaluate the files as they were in this commit, branch or tag.")
    ] = "",
    against: Annotated[
        str, typer.Option(metavar="REF", help="Judge it against the prompt in this commit, branch or tag.")
    ] = "",
    accept_policy_change: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Accept that this part of the gate became weaker.")
    ] = None,
    policy: Annotated[
        str, typer.Option(metavar="routed", help="With `--against large`: judge the router against the large model.")
    ] = "",
    resume: Annotated[
        str, typer.Option(metavar="[RUN]", help="Go on with this run; without a value, with the latest.")
    ] = "",
    judge: JudgeOption = "",
    max_cost: MaxCost = "",
    max_calls: MaxCalls = None,
    record: Record = None,
    replay: Replay = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ask again what is already answered.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")] = False,
    engine: EngineName = "",
    workers: Workers = None,
    log_format: LogFormat = "text",
    output: Output = None,
    shown: Format = "text",
    markdown: Annotated[bool, typer.Option("--markdown", help="With --against: as --format markdown.")] = False,
    as_json: AsJson = False,
) -> int:
    """Ask a model every golden case and score the answers.

    Exit 1 when a category is below its floor (gate.min_pass), 3 when not every case could be evaluated.
    """
    from promptops.evaluation.plan import Selection
    from promptops.project.project import open_project

    project = open_project(Path.cwd())
    reports = Reports(output, shown="markdown" if markdown else shown, as_json=as_json)
    frontend = _Frontend(as_json=as_json, log_format=log_format, record=record, replay=replay, reports=reports,
                         settings={"cap": spend_cap(max_cost, max_calls), "concurrency": concurrency, "reuse": not no_cache}, engine=engine, workers=workers)  # fmt: skip
    if resume:
        if names or model or category or filter_tag or limit or candidate or at or dry_run or judge:
            raise DataError("--resume goes on with a run as it is", hint="leave out names, models and filters")
        with opened_store(project.store_at) as store:
            return frontend.go_on(project, store, resume)
    wanted = list(dict.fromkeys(names or project.names()))
    if not wanted:
        raise DataError("no prompts", where="prompts/", hint="run `promptops init`")
    if candidate and len(wanted) != 1:
        raise DataError("--candidate needs one prompt", hint=f"promptops eval NAME --candidate {candidate}")
    selection = Selection(categories=tuple(category or ()), tags=tuple(filter_tag or ()), limit=limit, repeat=repeat)
    _check_here(engine, workers, asks_here=bool(policy or against))
    if policy:
        from promptops.cli.route import eval_routed

        if policy != "routed" or against != "large":
            raise DataError("the policy there is: --policy routed --against large")
        if model or candidate or at or category or filter_tag or limit or record or replay or dry_run or no_cache:
            raise DataError("--policy routed is judged on all held-out cases, with the models of router.json",
                            hint="leave out --model, --candidate, --at, filters, --record, --replay, --dry-run and --no-cache")  # fmt: skip
        return eval_routed(wanted, repeat=repeat, max_cost=max_cost, reports=reports, as_json=as_json, concurrency=concurrency)  # fmt: skip
    if accept_policy_change and not against:
        raise DataError("--accept-policy-change is for comparisons", hint="add --against REF")
    if against:
        from promptops.cli.against import eval_against

        if at or record or replay or repeat > 1:
            raise DataError("--against makes its own draws", hint="leave out --at, --repeat, --record and --replay")
        return eval_against(
            wanted, against, model=model, candidate=candidate, selection=selection, judge=judge, accepted=accept_policy_change or [],
            dry_run=dry_run, reports=reports, as_json=as_json, settings=frontend.settings,
        )  # fmt: skip
    plans = [_plan(project, name, model, candidate, selection, at, judge) for name in wanted]
    if dry_run:
        return _print_estimates(plans, as_json=as_json)
    with opened_store(project.store_at) as store:
        return frontend.run(project, store, plans)


def _check_here(engine: str, workers: int | None, *, asks_here: bool) -> None:
    if asks_here and (engine not in ("", "local") or workers):
        raise DataError("--against and --policy ask for more draws where they look, in one process",
                        hint="leave out --engine and --workers; or evaluate on the engine, then `promptops compare`")  # fmt: skip


def retry(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id or `latest`.")] = "latest",
    concurrency: Concurrency = None,
    max_cost: MaxCost = "",
    max_calls: MaxCalls = None,
    engine: EngineName = "",
    workers: Workers = None,
    log_format: LogFormat = "text",
    as_json: AsJson = False,
) -> int:
    """Ask again only what got no answer to score.

    That is what ended in an error, a refusal, a filter or a truncation, and what a judge gave no verdict on.
    """
    from promptops.project.project import open_project

    project = open_project(Path.cwd())
    settings = {"cap": spend_cap(max_cost, max_calls), "concurrency": concurrency, "reuse": True}
    frontend = _Frontend(as_json=as_json, log_format=log_format, settings=settings, engine=engine, workers=workers)
    with opened_store(project.store_at) as store:
        return frontend.go_on(project, store, run, forget_unanswered=True)


def rescore(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id or `latest`.")] = "latest",
    judge: JudgeOption = "",
    concurrency: Concurrency = None,
    max_cost: MaxCost = "",
    max_calls: MaxCalls = None,
    engine: EngineName = "",
    workers: Workers = None,
    log_format: LogFormat = "text",
    as_json: AsJson = False,
) -> int:
    """Apply the checks and judge of today to the answers of a run.

    Asks nobody but the judge, and the judge only what it has not answered; makes a new run.
    """
    from promptops.evaluation.resume import plan_again, refuse_changes
    from promptops.models.replay import StoredOnlyClient
    from promptops.project.project import open_project

    project = open_project(Path.cwd())
    settings = {"cap": spend_cap(max_cost, max_calls), "concurrency": concurrency, "reuse": True}
    frontend = _Frontend(as_json=as_json, log_format=log_format, settings=settings, engine=engine, workers=workers)
    with opened_store(project.store_at) as store:
        found = _find(store, project, run)
        frontend.settings["answers_of"] = found.id
        plan = plan_again(project, found, judge or None)
        refuse_changes(plan, found, allowed=("suite_digest", "rubric_digest", "judge_digest", "golden_digest", "price"))
        return frontend.finish([frontend.start(project, store, plan, StoredOnlyClient())], project, store)


class _Frontend:
    """What the three commands share: start or continue runs, print them, and find the exit code."""

    def __init__(
        self,
        *,
        as_json: bool,
        log_format: str,
        settings: dict[str, Any],
        record: Path | None = None,
        replay: Path | None = None,
        reports: Reports | None = None,
        engine: str = "",
        workers: int | None = None,
    ) -> None:
        if log_format not in ("text", "json"):
            raise DataError(f"--log-format {log_format!r}", hint="use text or json")
        if record and replay:
            raise DataError("--record and --replay exclude each other", hint="choose one")
        self.as_json, self.log_format, self.settings = as_json, log_format, settings
        self.record, self.replay = record, replay
        self.engine, self.workers = engine, workers
        self.reports = reports or Reports(())

    def engine_of(self, project: "Project") -> "Engine | None":
        """What the command line or the configuration says runs are made by; None for this process."""
        from promptops.evaluation.on_ray import make_engine

        found = make_engine(self.engine, project, workers=self.workers)
        if found and (self.record or self.replay):
            raise DataError(
                "recordings are made and read by one process", hint="leave out --engine, or add --engine local"
            )
        return found

    def run(self, project: "Project", store: "Store", plans: list["Plan"]) -> int:
        clients = [plan.connect(record=self.record, replay=self.replay) for plan in plans]
        judges = [plan.connect_judges(record=self.record, replay=self.replay) for plan in plans]
        found: list[tuple[Summary, ExitCode]] = []
        for plan, client, of_plan in zip(plans, clients, judges, strict=True):
            found.append(self.start(project, store, plan, client, of_plan))
            if found[-1][1] >= ExitCode.INTERRUPTED:
                break
        return self.finish(found, project, store)

    def start(
        self, project: "Project", store: "Store", plan: "Plan", client: Any, judges: Any = ()
    ) -> "tuple[Summary, ExitCode]":
        from promptops.cli.progress import watch
        from promptops.evaluation.plan import utc_now
        from promptops.evaluation.session import start_run

        with watch(
            plan.evaluable.prompt.name, quiet=self.as_json or bool(self.reports.shown), log_format=self.log_format
        ) as on_progress:
            executed = start_run(
                plan,
                client,
                store,
                clock=utc_now,
                options=run_options(project.config, **self.settings),
                on_progress=on_progress,
                judges=judges,
                engine=self.engine_of(project),
            )
        return self._judge(store, executed)

    def go_on(self, project: "Project", store: "Store", run: str, *, forget_unanswered: bool = False) -> int:
        from promptops.cli.progress import watch
        from promptops.evaluation.plan import utc_now
        from promptops.evaluation.resume import plan_again, refuse_changes
        from promptops.evaluation.session import continue_run

        found = _find(store, project, run)
        plan = plan_again(project, found)
        refuse_changes(plan, found)
        with watch(
            found.header.prompt, quiet=self.as_json or bool(self.reports.shown), log_format=self.log_format
        ) as on_progress:
            executed = continue_run(
                found, plan, plan.connect(record=self.record, replay=self.replay), store, clock=utc_now,
                options=run_options(project.config, **self.settings), on_progress=on_progress, forget_unanswered=forget_unanswered,
                judges=plan.connect_judges(record=self.record, replay=self.replay), engine=self.engine_of(project),
            )  # fmt: skip
        return self.finish([self._judge(store, executed)], project, store)

    def finish(self, found: "list[tuple[Summary, ExitCode]]", project: "Project", store: "Store") -> int:
        code = max((code for _, code in found), key=_SEVERITY.index)
        if self.reports.wanted:
            from promptops.evaluation.casebook import read_evaluation

            self.reports.write([read_evaluation(store, project, summary.run) for summary, _ in found])
        if self.as_json:
            from promptops.cli.output import emit_json
            from promptops.report.run import run_json

            emit_json({"exit_code": int(code), "runs": [run_json(summary) for summary, _ in found]})
        return code

    def _judge(self, store: "Store", executed: "Executed") -> "tuple[Summary, ExitCode]":
        from promptops.evaluation.summary import summarize

        summary = summarize(store, executed.run)
        code = executed.exit_code
        if code is ExitCode.OK and summary.missed_floors:
            code = ExitCode.GATE
        if not (self.as_json or self.reports.shown):
            _print(store, summary, code, executed)
        return summary, code


def _find(store: "Store", project: "Project", run: str) -> "Run":
    from promptops.evaluation.find_run import find_run

    return find_run(store, project, run)


def _plan(
    project: "Project", name: str, model: str, candidate: str, selection: "Selection", at: str, judge: str
) -> "Plan":
    from promptops.evaluation.plan import make_plan

    return make_plan(project, name, model=model, candidate=candidate, selection=selection, at=at, judge=judge)


def _print(store: "Store", summary: "Summary", code: ExitCode, executed: "Executed") -> None:
    from rich.text import Text

    from promptops.cli.output import emit
    from promptops.report.run import render_run

    progress = executed.progress
    emit(
        render_run(
            summary,
            _next_commands(store, summary, code),
            stopped_by=progress.stopped_by,
            stop_detail=progress.stop_detail,
        )
    )
    emit(Text(""))


def _next_commands(store: "Store", summary: "Summary", code: ExitCode) -> list[str]:
    run = summary.run
    if summary.stored < run.header.planned:
        return [f"promptops eval --resume {run.id}"]
    if code is ExitCode.NOT_EVALUATED:
        return [f"promptops retry {run.id}"]
    if code is ExitCode.OK and run.header.candidate:
        plain = (
            item for item in store.runs(run.header.prompt) if not item.header.candidate and item.state == "complete"
        )
        baseline = next((item.id for item in plain if item.header.selection == run.header.selection), "")
        if not baseline:
            return [f"promptops eval {run.header.prompt}", f"promptops compare latest {run.id}"]
        return [f"promptops compare {baseline} {run.id}"]
    worst = f" --case {summary.worst[0].case_id}" if summary.worst else ""
    return [f"promptops view {run.id}{worst}"]


def _print_estimates(plans: list["Plan"], *, as_json: bool) -> int:
    from dataclasses import asdict

    from rich.console import Group
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.core.money import format_usd
    from promptops.evaluation.plan import estimate
    from promptops.report.show import show
    from promptops.report.tables import table

    found = [(plan, estimate(plan)) for plan in plans]
    if as_json:
        emit_json(
            {
                "dry_run": [
                    {"prompt": plan.evaluable.prompt.name, "model": plan.model.alias, **asdict(item)}
                    for plan, item in found
                ]
            }
        )
        return ExitCode.OK
    grid = table("prompt", "model?", "calls>", "tokens in>", "tokens out, at most>", "cost, at most>")
    for plan, item in found:
        grid.add_row(show(plan.evaluable.prompt.name), show(plan.model.alias), str(item.calls), f"~{item.input_tokens}", f"{item.output_tokens}",
                     format_usd(item.cost_nanousd))  # fmt: skip
        if plan.judge:
            grid.add_row(
                show(f"  its judge, {plan.judge.name}"),
                "",
                str(item.judge_calls),
                "",
                "",
                format_usd(item.judge_cost_nanousd),
            )
    total = format_usd(sum(item.cost_nanousd + item.judge_cost_nanousd for _, item in found))
    text = f"DRY RUN  about {total} if every answer is as long as allowed; nothing was asked"
    doubt = "input tokens are estimated (about 4 characters each): allow 30% either way; answers in the store cost nothing again"
    emit(Group(Text(text), grid, Text(doubt, style="dim")))
    return ExitCode.OK
