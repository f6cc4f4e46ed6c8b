"""The lean client: an OpenAI-compatible chat completion over aiohttp, one attempt a call, one deadline around it."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from promptops.core.jsontext import Json, canonical_json
from promptops.core.money import Price
from promptops.models.base import Answer, ModelRequest, Outcome
from promptops.models.parse import parse_completion

MAX_RESPONSE_BYTES = 8_000_000
_STATUS: dict[int, Outcome] = {401: "auth", 403: "auth", 429: "rate_limited", 408: "timeout", 413: "too_large"}
_PARAMS = {"max_output_tokens": "max_completion_tokens"}


class HttpClient:
    """One model on one server. The key is sent to `base_url` only and kept out of every repr and message."""

    def __init__(self, *, base_url: str, model: str, key: str, price: Price, timeout_s: float) -> None:
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._model, self._price, self._timeout_s = model, price, timeout_s
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._session: Any = None

    @property
    def paid(self) -> bool:
        return True

    async def answer(self, request: ModelRequest) -> Answer:
        import aiohttp

        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._call(request)
        except TimeoutError:
            answer = Answer(outcome="timeout", detail=f"no answer within {self._timeout_s:g} s")
        except aiohttp.ClientError as error:
            answer = Answer(outcome="connection", detail=f"{type(error).__name__} at {self._host()}")
        return replace(answer, latency_s=time.perf_counter() - started)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _call(self, request: ModelRequest) -> Answer:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None), trust_env=False
            )
        async with self._session.post(
            self._url, data=self._body(request), headers=self._headers, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    return Answer(outcome="too_large", detail=f"more than {MAX_RESPONSE_BYTES} bytes")
        if response.status != 200:
            outcome = _STATUS.get(response.status, "bad_response")
            return Answer(outcome=outcome, detail=f"HTTP {response.status} from {self._host()}")
        return parse_completion(bytes(body), request, self._price)

    def _body(self, request: ModelRequest) -> bytes:
        body: dict[str, Json] = {
            "model": self._model,
            "messages": [message.as_dict() for message in request.messages],
            **{_PARAMS.get(name, name): value for name, value in request.params.items()},
        }
        if request.output_format == "json":
            body["response_format"] = _response_format(request.output_schema)
        return canonical_json(body)

    def _host(self) -> str:
        return self._url.partition("//")[2].partition("/")[0]


def _response_format(schema: Mapping[str, Json] | None) -> dict[str, Json]:
    if schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}
