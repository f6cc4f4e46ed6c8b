"""One of several processes that share a run: it runs the same executor as a run of its own, on the cases it is given."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from promptops.core.errors import (
    ConflictError,
    DataError,
    EvaluationError,
    ExitCode,
    Problem,
    PromptopsError,
    RefusedError,
)
from promptops.evaluation.admission import Stop
from promptops.evaluation.execute import Execution, Progress, finish_all
from promptops.evaluation.plan import Plan, utc_now
from promptops.evaluation.workload import Share, Workload, open_shared_store, unpack
from promptops.models.base import Client
from promptops.project.golden import read_case
from promptops.project.store import Seat, Store

_ERRORS: dict[ExitCode, type[PromptopsError]] = {
    error.exit_code: error for error in (DataError, EvaluationError, RefusedError, ConflictError)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An error of ours, as it travels between processes."""

    code: ExitCode
    problems: tuple[Problem, ...]

    def error(self) -> PromptopsError:
        return _ERRORS.get(self.code, EvaluationError)(problems=self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareReport:
    """What became of a share: `progress` counts all its draws that the run has now, whoever asked."""

    progress: Progress
    trouble: Trouble | None = None
    stopped_by: Stop = ""
    stop_detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a process has done so far, for the board: `shares` are those it is at."""

    pid: int
    total: Progress
    shares: dict[int, Progress] = field(default_factory=dict)


class Sharer:
    """Lives in one event loop. Everything is opened by the first call, in the thread of that loop."""

    def __init__(self, load: Workload, seat: Seat, *, concurrency: int, careful: bool) -> None:
        self._load, self._seat = load, seat
        self._options = replace(load.options, concurrency=concurrency, careful=careful)
        self._opened: Execution | None = None
        self._plan: Plan | None = None
        self._store: Store | None = None
        self._clients: list[Client] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._shares: dict[int, Progress] = {}
        self._stopped: tuple[Stop, str] | None = None

    async def work(self, share: Share) -> ShareReport:
        """Ask what the run lacks of these cases. Several calls at a time share what limits this process."""
        progress = Progress(planned=len(share.lines) * self._load.header.repeat)
        try:
            execution = self._execution()
            assert self._plan, "made with the execution"
            suite = self._plan.evaluable.suite
            cases = [read_case(suite, number, line) for number, line in share.lines]
            self._shares[share.number] = progress
            await self._finish(execution.start_share(cases, progress))
            self._flush()
        except PromptopsError as error:
            if self._store:
                self._store.drop_buffers()
            return ShareReport(progress=progress, trouble=Trouble(code=error.exit_code, problems=error.problems))
        finally:
            self._shares.pop(share.number, None)
        done = execution.progress
        return ShareReport(progress=progress, stopped_by=done.stopped_by, stop_detail=done.stop_detail)

    async def _finish(self, tasks: Sequence["asyncio.Future[None]"]) -> None:
        self._tasks |= set(tasks)
        try:
            await finish_all(tasks)
        finally:
            self._tasks -= set(tasks)

    async def counts(self) -> Counts:
        total = self._opened.progress if self._opened else Progress(planned=0)
        return Counts(pid=os.getpid(), total=total, shares=dict(self._shares))

    async def stop(self, reason: Stop, detail: str) -> None:
        """Begin no further call; what is in flight may end."""
        self._stopped = (reason, detail)
        if self._opened:
            self._opened.stop(reason, detail)

    async def leave(self) -> None:
        """Drop what is in flight, write what there is, and close."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            await client.close()
        if self._store:
            with suppress(EvaluationError):
                self._store.settle_seat()
                self._store.close()
            self._store = None

    def _flush(self) -> None:
        if self._store:
            self._store.flush()
            self._store.settle_seat()

    def _execution(self) -> Execution:
        if self._opened is None:
            load = self._load
            self._plan = unpack(load)
            self._store = open_shared_store(load)
            self._store.take_seat(self._seat)
            client = load.client or self._plan.connect()
            judges = self._plan.connect_judges()
            self._clients = [client, *judges]
            self._opened = Execution(self._plan, client, judges, self._store, load.header, clock=utc_now, options=self._options,
                                     on_progress=lambda _: None)  # fmt: skip
            if self._stopped:
                self._opened.stop(*self._stopped)
        return self._opened
