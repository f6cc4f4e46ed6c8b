"""Asks, scores and stores: each case once a draw, answers from the store where the request is unchanged."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from promptops.core.checks import Completion
from promptops.core.digest import digest
from promptops.core.errors import ExitCode
from promptops.core.suite import Case
from promptops.evaluation.plan import Clock, Plan
from promptops.evaluation.scoring import Scored, score
from promptops.models.base import Answer, ModelRequest
from promptops.project.store import Result, Run, RunState, Store, StoredAnswer

_FLUSH_EVERY = 256
_STOPPING: frozenset[str] = frozenset(("auth",))


@dataclass(slots=True, kw_only=True)
class Progress:
    """Counts while a run is going; `done` includes `reused`, `failed` and `errors`."""

    planned: int
    done: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    reused: int = 0
    cost_nanousd: int = 0
    stopped_by: Literal["", "SIGINT", "SIGTERM", "auth"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    run: Run
    progress: Progress

    @property
    def exit_code(self) -> ExitCode:
        """Of the execution alone: gates are judged elsewhere."""
        stops = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED, "auth": ExitCode.NOT_EVALUATED}
        if self.progress.stopped_by:
            return stops[self.progress.stopped_by]
        return ExitCode.OK if self.run.state == "complete" else ExitCode.NOT_EVALUATED


async def execute(
    plan: Plan, store: Store, *, clock: Clock, concurrency: int, reuse: bool, on_progress: Callable[[Progress], None]
) -> Executed:
    """Run a plan to its end, or until SIGINT, SIGTERM or a refused key; what was answered is stored in any case.

    Raises EvaluationError when the store cannot be written, DataError when the golden file changes meanwhile.
    """
    header = plan.header(clock())
    store.begin_run(header)
    execution = _Execution(plan, store, header.id, clock, reuse, on_progress)
    state: RunState = "interrupted"
    try:
        async with _stop_on_signal(execution.stop):
            await execution.run(1 if plan.client.paid is False else concurrency)
        progress = execution.progress
        if not progress.stopped_by:
            state = "complete" if progress.errors == 0 else "incomplete"
    finally:
        store.finish_run(header.id, state, clock().isoformat(timespec="seconds"))
        await plan.client.close()
    return Executed(run=store.run(header.id), progress=execution.progress)


@asynccontextmanager
async def _stop_on_signal(stop: Callable[[Literal["SIGINT", "SIGTERM"]], None]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    names: tuple[Literal["SIGINT", "SIGTERM"], ...] = ("SIGINT", "SIGTERM")
    try:
        for name in names:
            loop.add_signal_handler(signal.Signals[name], stop, name)
    except (RuntimeError, ValueError, NotImplementedError):  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for name in names:
            loop.remove_signal_handler(signal.Signals[name])


@dataclass(slots=True)
class _Execution:
    plan: Plan
    store: Store
    run_id: str
    clock: Clock
    reuse: bool
    on_progress: Callable[[Progress], None]
    progress: Progress = field(init=False)
    _ledger: "_Ledger" = field(init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(planned=self.plan.planned)
        self._ledger = _Ledger(self.store, self.run_id, self.clock)

    def stop(self, reason: Literal["SIGINT", "SIGTERM", "auth"]) -> None:
        self.progress.stopped_by = self.progress.stopped_by or reason

    async def run(self, workers: int) -> None:
        draws = ((case, draw) for case in self.plan.cases() for draw in range(self.plan.selection.repeat))
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(draws))
        self._ledger.write_ended()
        self.on_progress(self.progress)

    async def _work(self, draws: Iterator[tuple[Case, int]]) -> None:
        for case, draw in draws:
            if self.progress.stopped_by:
                return
            await self._one(case, draw)
            if self.store.buffered >= _FLUSH_EVERY:
                self.store.flush()
                self.on_progress(self.progress)
                await asyncio.sleep(0)

    async def _one(self, case: Case, draw: int) -> None:
        prompt = self.plan.evaluable.prompt
        passages = prompt.passages_for(case.inputs)
        request = ModelRequest(
            messages=prompt.render(case.inputs, passages), params=prompt.params, output_format=prompt.output_format,
            output_schema=prompt.output_schema.document if prompt.output_schema else None, inputs=case.inputs, passages=passages,
        )  # fmt: skip
        key = self._key(request, draw)
        stored = self.store.find_answer(key) if self.reuse else None
        if stored is None:
            stored = await self._ask(request, key)
        else:
            self.progress.reused += 1
        scored = Scored(passed=None, value=None, scores=())
        if stored.outcome == "ok":
            completion = Completion.of(
                stored.text, prompt.output_format, latency_s=stored.latency_s, cost_nanousd=stored.cost_nanousd
            )
            scored = score(self.plan.evaluable.suite.checks_for(case.category), completion, case.facts(passages))
        self._record(case, draw, stored, scored)

    def _key(self, request: ModelRequest, draw: int) -> str:
        """The digest of everything that decides the answer, and which draw of it this is."""
        local = None if self.plan.client.paid else [dict(request.inputs), [passage.id for passage in request.passages]]
        content = [dict(self.plan.identity), [message.as_dict() for message in request.messages], dict(request.params),
                   request.output_format, request.output_schema, local]  # fmt: skip
        return f"{digest(content)}:{draw}"

    async def _ask(self, request: ModelRequest, key: str) -> StoredAnswer:
        attempt = await self._ledger.begin(key) if self.plan.client.paid else 0
        answer = await self.plan.client.answer(request)
        if attempt:
            self._ledger.end(attempt, answer)
        self.progress.cost_nanousd += answer.cost_nanousd
        if answer.outcome in _STOPPING:
            self.stop("auth")
        stored = _stored(answer, key, self.clock().isoformat(timespec="seconds"))
        if answer.outcome == "ok":
            self.store.add_answer(stored)
        return stored

    def _record(self, case: Case, draw: int, answer: StoredAnswer, scored: Scored) -> None:
        progress = self.progress
        progress.done += 1
        progress.passed += scored.passed is True
        progress.failed += scored.passed is False
        progress.errors += scored.passed is None
        reasons = scored.scores or (
            (("answer", None, answer.detail or answer.outcome, None),) if answer.outcome != "ok" else ()
        )
        self.store.add_result(
            self.run_id,
            Result(case_id=case.id, draw=draw, category=case.category, tags=case.tags, group=case.group, line=case.line,
                   case_digest=case.digest, answer_key=answer.key, outcome=answer.outcome, passed=scored.passed, value=scored.value,
                   latency_s=answer.latency_s, cost_nanousd=answer.cost_nanousd, scores=reasons),
        )  # fmt: skip


def _stored(answer: Answer, key: str, created_at: str) -> StoredAnswer:
    return StoredAnswer(key=key, outcome=answer.outcome, text=answer.text, detail=answer.detail, model=answer.model,
                        input_tokens=answer.input_tokens, output_tokens=answer.output_tokens, usage_trusted=answer.usage_trusted,
                        cost_nanousd=answer.cost_nanousd, latency_s=answer.latency_s, created_at=created_at)  # fmt: skip


class _Ledger:
    """Groups writes of paid calls: whoever asks while a write is due joins it, and goes on once its intent is on disk.

    What has been answered since the last write goes to disk in the same step, so that a crash repeats little.
    """

    def __init__(self, store: Store, run_id: str, clock: Clock) -> None:
        self._store, self._run_id, self._clock = store, run_id, clock
        self._waiting: list[tuple[str, asyncio.Future[int]]] = []
        self._ended: list[tuple[int, str, int]] = []
        self._due = False

    async def begin(self, key: str) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._write)
        return await future

    def end(self, attempt: int, answer: Answer) -> None:
        self._ended.append((attempt, answer.outcome, answer.cost_nanousd))

    def write_ended(self) -> None:
        """Raises EvaluationError when the disk refuses."""
        ended, self._ended = self._ended, []
        if ended:
            self._store.end_attempts(ended)
            self._store.flush()

    def _write(self) -> None:
        self._due = False
        waiting, self._waiting = self._waiting, []
        try:
            self.write_ended()
            ids = self._store.begin_attempts(self._run_id, [key for key, _ in waiting], self._clock().isoformat())
        except Exception as error:  # noqa: BLE001 - raised where the callers wait
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), attempt in zip(waiting, ids, strict=True):
            future.set_result(attempt)
