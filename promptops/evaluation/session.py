"""One run from its first row to its summary, held by this process alone."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from promptops.core.errors import DataError, EvaluationError
from promptops.evaluation.execute import Executed, Options, Progress, execute
from promptops.evaluation.plan import Clock, Plan
from promptops.models.base import Client
from promptops.models.replay import ReplayClient
from promptops.project.store import Run, RunHeader, Store

_OTHER_HANDLES = 8  # the event loop, the golden file, the lock, the database and its log


class Engine(Protocol):
    """What brings a run that was begun to its end."""

    def execute(
        self, plan: Plan, client: Client, store: Store, header: RunHeader, *, clock: Clock, options: Options,
        on_progress: Callable[[Progress], None], judges: Sequence[Client] = (),
    ) -> Executed:  # fmt: skip
        """As `execute.execute`."""
        ...


class _Here:
    """The process that asks, with an event loop of its own."""

    def execute(
        self, plan: Plan, client: Client, store: Store, header: RunHeader, *, clock: Clock, options: Options,
        on_progress: Callable[[Progress], None], judges: Sequence[Client] = (),
    ) -> Executed:  # fmt: skip
        return asyncio.run(
            execute(plan, client, store, header, clock=clock, options=options, on_progress=on_progress, judges=judges)
        )


_HERE = _Here()


def start_run(
    plan: Plan,
    client: Client,
    store: Store,
    *,
    clock: Clock,
    options: Options,
    on_progress: Callable[[Progress], None],
    judges: Sequence[Client] = (),
    engine: Engine | None = None,
) -> Executed:
    """Evaluate a plan under a new run id; its judges are connected to when they are not given. Raises what `execute` raises, and DataError for a cap that cannot be kept."""
    _check_cap(plan, client, options)
    _check_handles(plan, client, options)
    judges = judges or plan.connect_judges()
    recorded = isinstance(client, ReplayClient)
    options = replace(options, reuse=options.reuse and not recorded, reuse_judge=options.reuse_judge and not recorded)
    header = replace(plan.header(clock()), reuse=options.reuse)
    with store.hold(header.id):
        store.begin_run(header)
        return (engine or _HERE).execute(
            plan, client, store, header, clock=clock, options=options, on_progress=on_progress, judges=judges
        )


def continue_run(
    run: Run, plan: Plan, client: Client, store: Store, *, clock: Clock, options: Options,
    on_progress: Callable[[Progress], None], forget_unanswered: bool = False, judges: Sequence[Client] = (), engine: Engine | None = None,
) -> Executed:  # fmt: skip
    """Ask what a run still lacks; with `forget_unanswered`, also what ended without an answer or a verdict.

    A run that has all its results is left as it is. Raises EvaluationError when another process has the run.
    """
    _check_cap(plan, client, options)
    _check_handles(plan, client, options)
    judges = judges or plan.connect_judges()
    with store.hold(run.id):
        killed = store.run(run.id).state == "running"  # nobody runs it: we hold it
        own = not run.header.reuse
        options = replace(
            options, reuse=options.reuse and not own, reuse_judge=options.reuse_judge and not own, careful=killed
        )
        stored, _ = store.count_results(run.id)
        if run.state in ("complete", "incomplete") and stored >= run.header.planned and not forget_unanswered:
            return Executed(run=run, progress=Progress(planned=run.header.planned))
        store.reopen_run(run.id, forget_unanswered=forget_unanswered)
        return (engine or _HERE).execute(
            plan, client, store, run.header, clock=clock, options=options, on_progress=on_progress, judges=judges
        )


def _check_handles(plan: Plan, client: Client, options: Options) -> None:
    """Open and close as many handles as the run will have open, so that they run out before anything is paid, if they do."""
    calls = min(options.concurrency, plan.planned) if client.paid else 0
    calls += min(options.concurrency, plan.planned * plan.judge.votes) * len(plan.judge.models) if plan.judge else 0
    with ExitStack() as handles:
        try:
            for _ in range(calls + _OTHER_HANDLES):
                handles.enter_context(Path(os.devnull).open("rb"))
        except OSError as error:
            raise EvaluationError("too few file handles", why=error.strerror or "",
                                  hint="raise the limit (`ulimit -n`), or lower --concurrency") from error  # fmt: skip


def _check_cap(plan: Plan, client: Client, options: Options) -> None:
    if options.cap.max_nanousd is None:
        return
    check_judge_cap(plan, options)
    if not client.paid:
        return
    where = f"model {plan.model.alias}"
    if plan.model.price.free:
        raise DataError("--max-cost needs prices", where=where, hint="state input_usd_per_mtok and output_usd_per_mtok")
    if "max_output_tokens" not in plan.evaluable.prompt.params:
        raise DataError("--max-cost needs a longest answer", where=f"prompts/{plan.evaluable.prompt.name}/prompt.md",
                        why="an answer without a limit has no worst case", hint="state params.max_output_tokens")  # fmt: skip


def check_judge_cap(plan: Plan, options: Options) -> None:
    """Raises DataError when there is a cap that cannot be kept with the plan's judge."""
    if options.cap.max_nanousd is None:
        return
    for model in plan.judge.models if plan.judge else ():
        if model.price.free:
            raise DataError(
                "--max-cost needs prices",
                where=f"model {model.alias}",
                hint="state input_usd_per_mtok and output_usd_per_mtok",
            )
    if plan.judge and "max_output_tokens" not in plan.judge.params:
        raise DataError("--max-cost needs a longest verdict", where=f"golden/{plan.evaluable.suite.name}.yaml",
                        why="an answer without a limit has no worst case", hint="state judge.params.max_output_tokens")  # fmt: skip
