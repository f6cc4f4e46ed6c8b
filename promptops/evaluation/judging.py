"""The judge at work in a run: asked only for answers that pass their checks, counted, and stopped with the run."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptops.core.knowledge import Passage
from promptops.core.suite import JUDGE, Case
from promptops.evaluation.admission import Admission, Stop, Window
from promptops.evaluation.asking import Asker
from promptops.evaluation.breaker import Breaker
from promptops.evaluation.clients import limit_key
from promptops.evaluation.judge import Judge, is_readable, with_verdict
from promptops.evaluation.plan import Clock, Plan
from promptops.evaluation.retry import RetryPolicy
from promptops.evaluation.scoring import Scored
from promptops.models.base import Client
from promptops.project.config import ModelConfig
from promptops.project.store import RateLimit, RunHeader, Store

if TYPE_CHECKING:
    from promptops.evaluation.execute import Options, Progress


class Judging:
    """One for a run. `missed` is (answers without a verdict, answers that were to be judged) by category.

    `only_unjudged` are the answers whose checks all ran and that have no score because they have no verdict.
    """

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
        self.may_block = plan.judge.standing.may_block
        self.missed: dict[str, list[int]] = {}
        self.only_unjudged = 0
        self._suffix = "" if options.reuse_judge else f":{header.id}"
        self._admissions: list[Admission] = []
        askers = [
            self._asker(model, client, clock, options, header)
            for model, client in zip(plan.judge.models, clients, strict=True)
        ]
        self._judge = Judge(plan.judge, askers, store)
        every = [main, *self._admissions]
        for admission in every:
            admission.peers = [peer for peer in every if peer is not admission]

    def _asker(self, model: ModelConfig, client: Client, clock: Clock, options: "Options", header: RunHeader) -> Asker:
        def stopped(reason: Stop, detail: str) -> None:
            self._main.stop(reason, f"judge {model.alias}: {detail}" if detail else f"judge {model.alias}")

        admission = Admission(
            self._store, header.id, clock, window=Window(options.concurrency), on_stop=stopped, cap=self._main.cap,
            breaker=Breaker(patience_s=options.outage_patience_s),
            limit=RateLimit(key=limit_key(model), rpm=model.rpm, tpm=model.tpm),
        )  # fmt: skip
        self._admissions.append(admission)
        retry = RetryPolicy(planned=header.planned * self._setup.votes, rng=random.Random(header.id))  # noqa: S311 - jitter
        return Asker(client, self._store, clock, price=model.price, admission=admission, retry=retry, share=True, on_cost=self._progress.paid,
                     accept=lambda text: is_readable(text, self._setup))  # fmt: skip

    @property
    def calls(self) -> int:
        return sum(admission.calls for admission in self._admissions)

    @property
    def in_flight(self) -> int:
        return sum(admission.window.in_flight for admission in self._admissions)

    @property
    def misses_too_many(self) -> bool:
        """Whether some category lacks more verdicts than the suite lets pass."""
        return any(missing > self._setup.max_error_rate * asked for missing, asked in self.missed.values())

    async def score(self, case: Case, draw: int, passages: tuple[Passage, ...], answer: str, scored: Scored) -> Scored:
        """The scores of an answer with the judge's. Raises Stopped when the run stops before there is a verdict."""
        if scored.passed is False:
            return scored
        judged = await self._judge.judge(case, passages, answer, suffix=self._suffix)
        self._store.add_verdicts(self._run_id, case.id, draw, judged.calls)
        self._progress.judged += 1
        found = with_verdict(scored, judged.judgement, may_block=self.may_block)
        self.count(case.category, found.scores)
        return found

    def count(self, category: str, scores: Sequence[tuple[str, bool | None, str, float | None]]) -> None:
        """Take in whether an answer that was to be judged was."""
        verdicts = {name: passed for name, passed, _, _ in scores}
        if JUDGE in verdicts:
            row = self.missed.setdefault(category, [0, 0])
            row[0] += verdicts[JUDGE] is None
            row[1] += 1
            self.only_unjudged += self.may_block and [name for name, passed in verdicts.items() if passed is None] == [
                JUDGE
            ]

    def stop(self, reason: Stop) -> None:
        for admission in self._admissions:
            admission.stop(reason)
