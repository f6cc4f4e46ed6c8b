"""One model as a run asks it: the store first, then whoever asks the same just now, then the provider, again where that makes sense."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import cast

from promptops.core.jsontext import canonical_json
from promptops.core.money import Price
from promptops.core.outcome import Outcome
from promptops.evaluation.admission import Admission
from promptops.evaluation.retry import RetryPolicy
from promptops.models.base import Answer, Client, ModelRequest, is_answer
from promptops.models.replay import RecordingClient
from promptops.project.store import Store, StoredAnswer

_OUTPUT_TOKENS = 4096


class Asker:
    """Lives in the run's event loop. With `share`, who asks the same gets the same answer.

    `accept` says whether an answer is worth keeping for the next who asks.
    """

    def __init__(
        self, client: Client, store: Store, clock: Callable[[], datetime], *, price: Price, admission: Admission, retry: RetryPolicy, share: bool,
        on_cost: Callable[[int], None], on_reuse: Callable[[], None] = lambda: None, accept: Callable[[str], bool] = lambda _: True,
    ) -> None:  # fmt: skip
        self.client, self.admission = client, admission
        self._store, self._clock, self._price, self._retry, self._share = store, clock, price, retry, share
        self._on_cost, self._on_reuse, self._accept = on_cost, on_reuse, accept
        self._asking: dict[str, asyncio.Future[StoredAnswer]] = {}
        self._fresh: dict[str, StoredAnswer] = {}
        self._schema: tuple[object, int] = (None, 0)

    def forget(self) -> None:
        """Look answers up in the store again, which has them by now or keeps them until it writes."""
        self._fresh.clear()

    async def ask(self, request: ModelRequest, key: str, stored: StoredAnswer | None) -> StoredAnswer:
        """The answer to a request; `stored` is what the store had for it. Raises Stopped when the run stops before there is one."""
        found = stored or self._fresh.get(key)
        if found is None and key in self._asking:
            found = await asyncio.shield(self._asking[key])
        if found is not None:
            self._on_reuse()
            if isinstance(self.client, RecordingClient):
                self.client.keep(request, _as_answer(found))
            return found
        if not (self.client.paid and self._share):
            call = self._call(request, key) if self.client.paid else self.client.answer(request)
            return self._keep(request, await call, key)
        future = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            found = self._keep(request, await self._call(request, key), key)
            future.set_result(found)
        finally:
            del self._asking[key]
            future.cancel()
        return found

    async def _call(self, request: ModelRequest, key: str) -> Answer:
        """Ask a provider, again where that makes sense. Raises Stopped when the run stops before an answer."""
        tokens, worst = self._worst_case(request)
        tries = 0
        while True:
            ticket = await self.admission.admit(key, tokens=tokens, worst_nanousd=worst)
            answer = await self.client.answer(request)
            self.admission.settle(ticket, answer)
            tries += 1
            delay = self._retry.delay_s(answer, tries, breaker_open=self.admission.breaker.is_open)
            if delay is None:
                return answer
            await asyncio.sleep(delay)

    def _worst_case(self, request: ModelRequest) -> tuple[int, int]:
        """(tokens, nano-dollars) the call can use at the most: no token is shorter than a byte."""
        if request.output_schema is not self._schema[0]:  # nearly always the same
            self._schema = (request.output_schema, len(canonical_json(request.output_schema)))
        tools = len(canonical_json([dict(tool) for tool in request.tools])) if request.tools else 0
        input_tokens = self._schema[1] + tools + sum(len(message.content.encode()) + 16 for message in request.messages)
        output_tokens = int(request.params.get("max_output_tokens", _OUTPUT_TOKENS))
        worst = self._price.cost_nanousd(input_tokens=input_tokens, output_tokens=output_tokens)
        return input_tokens // 3 + output_tokens, worst

    def _keep(self, request: ModelRequest, answer: Answer, key: str) -> StoredAnswer:
        self._on_cost(answer.cost_nanousd)
        stored = StoredAnswer(
            key=key, outcome=answer.outcome, text=answer.text, detail=answer.detail, model=answer.model, input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens, usage_trusted=answer.usage_trusted, cost_nanousd=answer.cost_nanousd,
            latency_s=answer.latency_s, created_at=self._clock().isoformat(timespec="seconds"),
        )  # fmt: skip
        if is_answer(request, answer) and self._accept(answer.text):
            self._store.add_answer(stored)
            if self._share:
                self._fresh[key] = stored
        return stored


def _as_answer(stored: StoredAnswer) -> Answer:
    outcome = cast("Outcome", stored.outcome)
    return Answer(outcome=outcome, text=stored.text, detail=stored.detail, model=stored.model, input_tokens=stored.input_tokens,
                  output_tokens=stored.output_tokens, cost_nanousd=stored.cost_nanousd, usage_trusted=stored.usage_trusted,
                  latency_s=stored.latency_s)  # fmt: skip
