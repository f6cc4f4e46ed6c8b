"""Asks, scores and stores: each case once a draw, answers from the store where the request is unchanged."""

import asyncio
import random
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from promptops.core.checks import Completion, ToolCalls
from promptops.core.digest import digest
from promptops.core.errors import EvaluationError, ExitCode, PromptopsError
from promptops.core.knowledge import Passage
from promptops.core.suite import Case
from promptops.evaluation.admission import Admission, SpendCap, Stop, Stopped, Window
from promptops.evaluation.asking import Asker
from promptops.evaluation.breaker import Breaker
from promptops.evaluation.clients import limit_key
from promptops.evaluation.databases import runs_sql
from promptops.evaluation.judging import Judging, VerdictCount
from promptops.evaluation.plan import Clock, Plan
from promptops.evaluation.retry import RetryPolicy
from promptops.evaluation.scoring import Scored, score
from promptops.evaluation.signals import stop_on_signals
from promptops.models.base import Client, ModelRequest
from promptops.project.store import RateLimit, Result, Run, RunHeader, RunState, Store, StoredAnswer

DRAIN_S = 5.0
_FLUSH_EVERY = 256
_LOOKAHEAD = 32
STOP_EXIT: dict[Stop, ExitCode] = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How runs are made, as opposed to what is asked. All runs made with the same options share the one `cap`.

    A `careful` run begins with one call in flight: what killed it before may do so again, and each kill repeats what is in flight.

    `processes` share the run, each with its own `concurrency`.

    With `answers_of`, the answers are those of that run, draw by draw, instead of whatever answers the same request.
    """

    concurrency: int = 8
    reuse: bool = True
    cap: SpendCap = field(default_factory=SpendCap)
    outage_patience_s: float = 60.0
    answers_of: str = ""
    careful: bool = False
    reuse_judge: bool = True
    processes: int = 1

    def part_of(self, planned: int) -> int:
        """What one of the processes has of so many draws, about: its part of the retries is of these."""
        return -(-planned // self.processes)


@dataclass(slots=True, kw_only=True)
class Progress:
    """Counts while a run is going; `done` is passed + failed + errors, `categories` are (done, passed)."""

    planned: int
    done: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    reused: int = 0
    calls: int = 0
    judged: int = 0
    in_flight: int = 0
    rate_limited: int = 0
    cost_nanousd: int = 0
    max_cost_nanousd: int | None = None
    stopped_by: Stop = ""
    stop_detail: str = ""
    categories: dict[str, list[int]] = field(default_factory=dict)

    def paid(self, cost_nanousd: int) -> None:
        self.cost_nanousd += cost_nanousd

    def reuse(self) -> None:
        self.reused += 1

    def add(self, category: str, *, passed: bool | None) -> None:
        self.done += 1
        self.passed += passed is True
        self.failed += passed is False
        self.errors += passed is None
        row = self.categories.setdefault(category, [0, 0])
        row[0] += 1
        row[1] += passed is True


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    run: Run
    progress: Progress

    @property
    def exit_code(self) -> ExitCode:
        """Of the execution alone: floors and gates are judged elsewhere."""
        if self.run.state == "complete":
            return ExitCode.OK
        return STOP_EXIT.get(self.progress.stopped_by, ExitCode.NOT_EVALUATED)


async def execute(
    plan: Plan, client: Client, store: Store, header: RunHeader, *, clock: Clock, options: Options, on_progress: Callable[[Progress], None],
    judges: Sequence[Client] = (),
) -> Executed:  # fmt: skip
    """Bring a run that was begun to its end, or as far as signals, caps and the provider let it; all answers are stored.

    `judges` are the clients of the plan's judge, one for each of its models.

    What the store has of the run is not asked again. Raises EvaluationError when the store cannot be written, DataError
    when the golden file changes meanwhile.
    """
    execution = Execution(plan, client, judges, store, header, clock=clock, options=options, on_progress=on_progress)
    execution.count_ledger()
    state: RunState = "interrupted"
    try:
        await execution.run()
        state = state_of(execution.progress, evaluated=execution.is_evaluated)
    except EvaluationError as error:
        store.drop_buffers()
        raise with_kept(error, store, header) from error
    finally:
        for one in (client, *judges):
            await one.close()
        with suppress(EvaluationError) if sys.exception() else nullcontext():
            store.finish_run(header.id, state, clock().isoformat(timespec="seconds"))
    return Executed(run=store.run(header.id), progress=execution.progress)


def state_of(progress: Progress, *, evaluated: bool) -> RunState:
    """How a run ended that nothing broke off."""
    if progress.done == progress.planned:
        return "complete" if evaluated else "incomplete"
    return "interrupted" if progress.stopped_by in STOP_EXIT else "incomplete"


def all_evaluated(errors: int, counted: VerdictCount | None) -> bool:
    """Whether every answer has its scores, but for the few that a judge may miss; `counted` is of its verdicts, None without one."""
    if counted is None:
        return errors == 0
    return errors == counted.only_unjudged and not counted.misses_too_many


def with_kept(error: EvaluationError, store: Store, header: RunHeader) -> EvaluationError:
    """What stopped the run, with how much of it is safe, and how to go on."""
    (problem,) = error.problems
    try:
        stored, _ = store.count_results(header.id)
        kept = f"{stored} of {header.planned} results kept"
    except EvaluationError:  # a server that is away cannot be asked
        kept = "what was written before is kept"
    found = EvaluationError(f"{problem.what}, {kept}", where=problem.where, why=problem.why,
                            hint=f"{problem.hint or 'put that right'}, then `promptops eval --resume {header.id}`")  # fmt: skip
    found.exit_code = error.exit_code
    return found


@dataclass(frozen=True, slots=True)
class _Question:
    """One draw of a case, ready to be asked; `stored` is what answers it already."""

    case: Case
    request: ModelRequest
    key: str
    stored: StoredAnswer | None


class Execution:
    """A run, or a share of one, in this process: everything that its calls have in common."""

    def __init__(
        self,
        plan: Plan,
        client: Client,
        judges: Sequence[Client],
        store: Store,
        header: RunHeader,
        *,
        clock: Clock,
        options: Options,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._plan, self._client, self._store, self._run_id, self._clock = plan, client, store, header.id, clock
        self._options, self._on_progress = options, on_progress
        self._prompt, self._suite = plan.evaluable.prompt, plan.evaluable.suite
        self._waits = runs_sql(self._suite)
        self._local = plan.model.provider == "local"
        self._schema = dict(self._prompt.output_schema.document) if self._prompt.output_schema else None
        tools = [dict(tool) for tool in self._prompt.tools]
        fixed = [dict(plan.identity), dict(self._prompt.params), self._prompt.output_format, self._schema]
        self._fixed = digest([*fixed, tools] if tools else fixed)
        self.progress = Progress(planned=header.planned, max_cost_nanousd=options.cap.max_nanousd)
        self._calls_before = 0
        self._admission = Admission(
            store, header.id, clock, window=Window(options.concurrency, careful=options.careful), on_stop=self._stopped,
            cap=options.cap, breaker=Breaker(patience_s=options.outage_patience_s),
            limit=RateLimit(key=limit_key(plan.model), rpm=plan.model.rpm, tpm=plan.model.tpm),
        )  # fmt: skip
        self._judging = (
            Judging(
                plan, judges, store, header, clock=clock, main=self._admission, progress=self.progress, options=options
            )
            if plan.judge
            else None
        )
        self._asker = Asker(
            client, store, clock, price=plan.model.price, admission=self._admission, share=options.reuse, on_cost=self.progress.paid,
            on_reuse=self.progress.reuse, retry=RetryPolicy(planned=options.part_of(header.planned), rng=random.Random(header.id)),  # noqa: S311 - jitter
        )  # fmt: skip

    def count_ledger(self) -> None:
        """Count what the run paid before it goes on."""
        ledger, cap = self._store.ledger(self._run_id), self._options.cap
        self._calls_before = ledger.attempts
        cap.calls += ledger.attempts
        cap.spent_nanousd += ledger.paid_nanousd + ledger.possibly_nanousd

    async def run(self) -> None:
        """The whole run."""
        done = self._count(self._store.results(self._run_id), self.progress)
        tasks = self._start(self._plan.cases(), done, self.progress)
        async with stop_on_signals(self.stop, tasks, DRAIN_S):
            await finish_all(tasks)
        self._store.flush()
        self._report()

    def start_share(self, cases: Sequence[Case], progress: Progress) -> list["asyncio.Future[None]"]:
        """Ask what the run lacks of these cases, counted in `progress`, beside other shares of this process; the caller waits and flushes."""
        done = self._count(self._store.results_of(self._run_id, [case.id for case in cases]), progress)
        return self._start(cases, done, progress)

    def _start(
        self, cases: Iterable[Case], done: Container[tuple[str, int]], progress: Progress
    ) -> list["asyncio.Future[None]"]:
        draws = ((case, draw) for case in cases for draw in self._plan.selection.draws if (case.id, draw) not in done)
        workers = self._options.concurrency if self._client.paid or self._judging else 1
        questions = self._questions(draws)
        return [asyncio.ensure_future(self._work(questions, progress)) for _ in range(workers)]

    def _questions(self, draws: Iterator[tuple[Case, int]]) -> Iterator[_Question]:
        """What is to be asked next, looked up in the store a few at a time: one query costs less than one each."""
        while batch := list(islice(draws, _LOOKAHEAD)):
            asked = [(case, request, self._key(request)) for case, request in map(self._request, batch)]
            self._asker.forget()
            stored = self._find([(case.id, request.draw, key) for case, request, key in asked])
            for (case, request, key), answer in zip(asked, stored, strict=True):
                if answer and not self._options.answers_of and not self._is_answer(case, request.passages, answer):
                    answer = None  # calls of tools that another suite could score  # noqa: PLW2901
                yield _Question(case, request, key, answer)

    def _request(self, drawn: tuple[Case, int]) -> tuple[Case, ModelRequest]:
        (case, draw), prompt = drawn, self._prompt
        passages = prompt.passages_for(case.inputs)
        request = ModelRequest(
            messages=prompt.render(case.inputs, passages), params=prompt.params, output_format=prompt.output_format,
            output_schema=self._schema, tools=prompt.tools, inputs=case.inputs, passages=passages, draw=draw,
        )  # fmt: skip
        return case, request

    def _find(self, wanted: Sequence[tuple[str, int, str]]) -> list[StoredAnswer | None]:
        """For each (case id, draw, key), the answer there is to exactly this request."""
        if self._options.answers_of:
            own = self._store.answers_of(self._options.answers_of, [(case_id, draw) for case_id, draw, _ in wanted])
            found = [own.get((case_id, draw)) for case_id, draw, _ in wanted]
            keys = [key for _, _, key in wanted]
            same = (
                item if item and f"{item.key}:".startswith(f"{key}:") else None
                for item, key in zip(found, keys, strict=True)
            )
            return list(same)
        # Without reuse the keys are of this run alone: it goes on with its own answers where its judge had failed.
        answers = self._store.find_answers([key for _, _, key in wanted])
        return [answers.get(key) for _, _, key in wanted]

    def _count(self, results: Iterable[Result], progress: Progress) -> set[tuple[str, int]]:
        """Take in what the run has already."""
        done: set[tuple[str, int]] = set()
        for result in results:
            done.add((result.case_id, result.draw))
            progress.add(result.category, passed=result.passed)
            if self._judging:
                self._judging.counted.add(result.category, result.scores)
        return done

    @property
    def is_evaluated(self) -> bool:
        """Whether what was answered is a verdict: every answer has its scores, but for the few that a judge may miss."""
        return all_evaluated(self.progress.errors, self._judging.counted if self._judging else None)

    def stop(self, reason: Stop, detail: str = "") -> None:
        """Begin no further call."""
        self._admission.stop(reason, detail)

    def _stopped(self, reason: Stop, detail: str) -> None:
        if not self.progress.stopped_by:
            self.progress.stopped_by, self.progress.stop_detail = reason, detail
        if self._judging:
            self._judging.stop(reason)

    async def _work(self, questions: Iterator[_Question], progress: Progress) -> None:
        try:
            for question in questions:
                if self.progress.stopped_by:
                    return
                answer = await self._asker.ask(question.request, question.key, question.stored)
                self._record(question, answer, await self._scored(question, answer), progress)
                self._report()
                if self._store.buffered >= _FLUSH_EVERY:
                    self._store.flush()
                    await asyncio.sleep(0)
        except Stopped:
            return

    async def _scored(self, question: _Question, answer: StoredAnswer) -> Scored:
        # A database may take a second; calls in flight must not wait for it.
        scored = await asyncio.to_thread(self._score, question, answer) if self._waits else self._score(question, answer)  # fmt: skip
        if self._judging is None or answer.outcome != "ok":
            return scored
        case, request = question.case, question.request
        return await self._judging.score(case, request.draw, request.passages, answer.text, scored)

    def _is_answer(self, case: Case, passages: tuple[Passage, ...], answer: StoredAnswer) -> bool:
        """Whether it can be scored: text, or calls of tools where the suite says which they should be."""
        if answer.outcome != "tool_call":
            return answer.outcome == "ok"
        checks = (item for item in self._suite.checks_for(case.category) if isinstance(item, ToolCalls))
        return bool(answer.text) and any(check.wanted(case.facts(passages)) is not None for check in checks)

    def _score(self, question: _Question, answer: StoredAnswer) -> Scored:
        """By the suite's checks; an answer that is none fails where the policy says so, and has no score elsewhere."""
        if not self._is_answer(question.case, question.request.passages, answer):
            reason = f"{answer.outcome}: {answer.detail}" if answer.detail else answer.outcome
            fails = self._suite.gate.fails(answer.outcome)
            passed, value = (False, 0.0) if fails else (None, None)
            return Scored(passed=passed, value=value, scores=(("answer", passed, reason, value),))
        spent: dict[str, Any] = {"latency_s": answer.latency_s, "cost_nanousd": answer.cost_nanousd}
        if answer.outcome == "tool_call":
            completion = Completion.of_calls(answer.text, **spent)
        else:
            completion = Completion.of(answer.text, self._prompt.output_format, **spent)
        case = question.case
        return score(self._suite.checks_for(case.category), completion, case.facts(question.request.passages))

    def _key(self, request: ModelRequest) -> str:
        """The digest of everything that decides the answer, which draw of it this is, and the run if it is to have its own."""
        local = [dict(request.inputs), [[item.id, item.text] for item in request.passages]] if self._local else None
        content = digest([self._fixed, [[message.role, message.content] for message in request.messages], local])
        own = "" if self._options.reuse else f":{self._run_id}"
        return f"{content}:{request.draw}{own}"

    def _record(self, question: _Question, answer: StoredAnswer, scored: Scored, progress: Progress) -> None:
        case, draw = question.case, question.request.draw
        outcome = "ok" if self._is_answer(case, question.request.passages, answer) else answer.outcome
        progress.add(case.category, passed=scored.passed)
        self._store.add_result(
            self._run_id,
            Result(case_id=case.id, draw=draw, category=case.category, tags=case.tags, group=case.group, line=case.line,
                   case_digest=case.digest, answer_key=answer.key, outcome=outcome, passed=scored.passed, value=scored.value,
                   latency_s=answer.latency_s, cost_nanousd=answer.cost_nanousd, scores=scored.scores),
        )  # fmt: skip

    def _report(self) -> None:
        progress, admission = self.progress, self._admission
        progress.calls, progress.in_flight, progress.rate_limited = (
            self._calls_before + admission.calls + (self._judging.calls if self._judging else 0),
            admission.window.in_flight + (self._judging.in_flight if self._judging else 0),
            admission.rate_limited,
        )
        self._on_progress(progress)


async def finish_all(tasks: Sequence["asyncio.Future[None]"]) -> None:
    """Wait for all workers; the first error of ours ends the others and is raised, cancelled ones are done."""
    pending: set[asyncio.Future[None]] = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        failed = [task for task in done if not task.cancelled() and task.exception()]
        if failed:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            errors = [task.exception() for task in failed]
            raise next((error for error in errors if isinstance(error, PromptopsError)), errors[0]) or AssertionError
