"""The judge at work in a run: asked only for answers that pass their checks, counted, and stopped with the run."""

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from promptops.core.knowledge import Passage
from promptops.core.suite import JUDGE, Case
from promptops.evaluation.admission import Admission, SpendCap, Stop, Window
from promptops.evaluation.asking import Asker
from promptops.evaluation.breaker import Breaker
from promptops.evaluation.clients import limit_key
from promptops.evaluation.judge import Judge, JudgeSetup, is_readable, with_verdict
from promptops.evaluation.plan import Clock, Plan
from promptops.evaluation.retry import RetryPolicy
from promptops.evaluation.scoring import Scored
from promptops.models.base import Client
from promptops.project.store import RateLimit, RunHeader, Store

if TYPE_CHECKING:
    from promptops.evaluation.execute import Options, Progress


def open_askers(
    setup: JudgeSetup, clients: Sequence[Client], store: Store, run_id: str, *, planned: int, clock: Clock, options: "Options", cap: SpendCap,
    on_stop: Callable[[Stop, str], None], on_cost: Callable[[int], None],
) -> tuple[list[Asker], list[Admission]]:  # fmt: skip
    """One asker for each judge of a run, with a door of its own: another server, another key, other limits, but one cap."""
    askers: list[Asker] = []
    for model, client in zip(setup.models, clients, strict=True):

        def stopped(reason: Stop, detail: str, who: str = model.alias) -> None:
            on_stop(reason, f"judge {who}: {detail}" if detail else f"judge {who}")

        admission = Admission(
            store, run_id, clock, window=Window(options.concurrency), on_stop=stopped, cap=cap, breaker=Breaker(patience_s=options.outage_patience_s),
            limit=RateLimit(key=limit_key(model), rpm=model.rpm, tpm=model.tpm),
        )  # fmt: skip
        retry = RetryPolicy(planned=planned * setup.votes, rng=random.Random(run_id))  # noqa: S311 - jitter
        askers.append(Asker(client, store, clock, price=model.price, admission=admission, retry=retry, share=True, on_cost=on_cost,
                            accept=lambda text: is_readable(text, setup)))  # fmt: skip
    return askers, [asker.admission for asker in askers]


class VerdictCount:
    """`missed` is (answers without a verdict, answers that were to be judged) by category.

    `only_unjudged` are the answers whose checks all ran and that have no score because they have no verdict.
    """

    def __init__(self, setup: JudgeSetup) -> None:
        self.may_block, self._most = setup.standing.may_block, setup.max_error_rate
        self.missed: dict[str, list[int]] = {}
        self.only_unjudged = 0

    @property
    def misses_too_many(self) -> bool:
        """Whether some category lacks more verdicts than the suite lets pass."""
        return any(missing > self._most * asked for missing, asked in self.missed.values())

    def add(self, category: str, scores: Sequence[tuple[str, bool | None, str, float | None]]) -> None:
        """Take in whether an answer that was to be judged was."""
        verdicts = {name: passed for name, passed, _, _ in scores}
        if JUDGE in verdicts:
            row = self.missed.setdefault(category, [0, 0])
            row[0] += verdicts[JUDGE] is None
            row[1] += 1
            self.only_unjudged += self.may_block and [name for name, passed in verdicts.items() if passed is None] == [
                JUDGE
            ]


class Judging:
    """One for a run, or for the share of one that a process has."""

    def __init__(self, plan: Plan, clients: Sequence[Client], store: Store, header: RunHeader, *, clock: Clock, main: Admission,
                 progress: "Progress", options: "Options") -> None:  # fmt: skip
        assert plan.judge, "a plan with a judge"
        self._setup, self._store, self._run_id, self._progress, self._main = (
            plan.judge,
            store,
            header.id,
            progress,
            main,
        )
        self.counted = VerdictCount(plan.judge)
        self._suffix = "" if options.reuse_judge else f":{header.id}"
        askers, self._admissions = open_askers(
            plan.judge, clients, store, header.id, planned=options.part_of(header.planned), clock=clock, options=options, cap=main.cap, on_stop=main.stop,
            on_cost=progress.paid,
        )  # fmt: skip
        self._judge = Judge(plan.judge, askers, store)
        every = [main, *self._admissions]
        for admission in every:
            admission.peers = [peer for peer in every if peer is not admission]

    @property
    def calls(self) -> int:
        return sum(admission.calls for admission in self._admissions)

    @property
    def in_flight(self) -> int:
        return sum(admission.window.in_flight for admission in self._admissions)

    async def score(self, case: Case, draw: int, passages: tuple[Passage, ...], answer: str, scored: Scored) -> Scored:
        """The scores of an answer with the judge's. Raises Stopped when the run stops before there is a verdict."""
        if scored.passed is False:
            return scored
        judged = await self._judge.judge(case, passages, answer, suffix=self._suffix)
        self._store.add_verdicts(self._run_id, case.id, draw, judged.calls)
        self._progress.judged += 1
        found = with_verdict(scored, judged.judgement, may_block=self.counted.may_block)
        self.counted.add(case.category, found.scores)
        return found

    def stop(self, reason: Stop) -> None:
        for admission in self._admissions:
            admission.stop(reason)
