"""Judge answers outside of a run of their prompt: with the same store, caps, ledger and signals, under a run id of their own."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from promptops.core.errors import EvaluationError, ExitCode
from promptops.core.knowledge import Passage
from promptops.core.suite import Case
from promptops.evaluation.admission import Stop, Stopped
from promptops.evaluation.execute import DRAIN_S, STOP_EXIT, Options, Progress, finish_all
from promptops.evaluation.judge import Judge, Judged
from promptops.evaluation.judging import open_askers
from promptops.evaluation.plan import Clock, Plan
from promptops.evaluation.session import check_judge_cap
from promptops.evaluation.signals import stop_on_signals
from promptops.models.base import Client
from promptops.project.store import Ledger, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeItem:
    """An answer to judge; votes are numbered from `first_vote`, other numbers are other votes."""

    case: Case
    passages: tuple[Passage, ...]
    answer: str
    first_vote: int = 0


def judge_answers(
    store: Store, plan: Plan, items: Sequence[JudgeItem], *, clock: Clock, options: Options,
    on_progress: Callable[[Progress], None],
) -> tuple[list[Judged], Ledger]:  # fmt: skip
    """The verdict on each item, in order, and what they cost; what was asked before costs nothing.

    Raises EvaluationError when it stops before the end (what was answered is kept), DataError without a key.
    """
    assert plan.judge, "a plan with a judge"
    check_judge_cap(plan, options)
    clients = plan.connect_judges()
    header = replace(plan.header(clock()), kind="judge", planned=len(items))
    progress = Progress(planned=len(items), max_cost_nanousd=options.cap.max_nanousd)
    with store.hold(header.id):
        store.begin_run(header)
        found: list[Judged | None] = [None] * len(items)
        try:
            asyncio.run(_judge(plan, store, header.id, items, found, clients=clients, clock=clock, options=options, progress=progress,
                               on_progress=on_progress))  # fmt: skip
        finally:
            whole = all(item is not None for item in found)
            store.finish_run(header.id, "complete" if whole else "interrupted", clock().isoformat(timespec="seconds"))
    done = [item for item in found if item is not None]
    if len(done) < len(items):
        error = EvaluationError(f"{len(done)} of {len(items)} verdicts, then: {progress.stop_detail or progress.stopped_by}",
                                hint="run the same command again: what was answered costs nothing")  # fmt: skip
        error.exit_code = STOP_EXIT.get(progress.stopped_by, ExitCode.NOT_EVALUATED)
        raise error
    return done, store.ledger(header.id)


async def _judge(
    plan: Plan, store: Store, run_id: str, items: Sequence[JudgeItem], found: list[Judged | None], *, clients: Sequence[Client], clock: Clock,
    options: Options, progress: Progress, on_progress: Callable[[Progress], None],
) -> None:  # fmt: skip
    assert plan.judge, "a plan with a judge"

    def stopped(reason: Stop, detail: str) -> None:
        if not progress.stopped_by:
            progress.stopped_by, progress.stop_detail = reason, detail
        for admission in admissions:
            admission.stop(reason)

    askers, admissions = open_askers(plan.judge, clients, store, run_id, planned=len(items), clock=clock, options=options, cap=options.cap,
                                     on_stop=stopped, on_cost=progress.paid)  # fmt: skip
    for admission in admissions:
        admission.peers = [peer for peer in admissions if peer is not admission]
    judge = Judge(plan.judge, askers, store)
    waiting: Iterator[tuple[int, JudgeItem]] = iter(enumerate(items))

    async def work() -> None:
        try:
            for place, item in waiting:
                if progress.stopped_by:
                    return
                judged = await judge.judge(item.case, item.passages, item.answer, first_vote=item.first_vote,
                                           suffix="" if options.reuse_judge else f":{run_id}")  # fmt: skip
                found[place] = judged
                store.add_verdicts(run_id, f"{item.case.id}#{place}", 0, judged.calls)
                progress.add(item.case.category, passed=judged.judgement.passed)
                progress.calls = sum(admission.calls for admission in admissions)
                progress.in_flight = sum(admission.window.in_flight for admission in admissions)
                on_progress(progress)
        except Stopped:
            return

    def stop(reason: Stop) -> None:
        stopped(reason, "")

    tasks = [asyncio.ensure_future(work()) for _ in range(options.concurrency)]
    try:
        async with stop_on_signals(stop, tasks, DRAIN_S):
            await finish_all(tasks)
        store.flush()
    finally:
        for client in clients:
            await client.close()
