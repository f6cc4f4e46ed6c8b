"""The other transport: the openai package, for Azure and for tokens that are fetched. One attempt a call, as over HTTP."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from promptops.core.money import Price
from promptops.models.base import Answer, ModelRequest
from promptops.models.parse import Response, parse_response
from promptops.models.secret import Secret
from promptops.models.wire import MAX_RESPONSE_BYTES, request_body

TokenProvider = Callable[[], Awaitable[str]]


class SdkClient:
    """One model through `openai.AsyncOpenAI`, or `AsyncAzureOpenAI` when an API version is given; retries are off."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        key: Secret,
        price: Price,
        timeout_s: float,
        api_version: str = "",
        token: TokenProvider | None = None,
    ) -> None:
        self._base_url, self._model, self._key, self._price, self._timeout_s = base_url, model, key, price, timeout_s
        self._api_version, self._token = api_version, token
        self._host = base_url.partition("//")[2].partition("/")[0]
        self._client: Any = None

    @property
    def paid(self) -> bool:
        return True

    async def answer(self, request: ModelRequest) -> Answer:
        import openai

        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = parse_response(await self._call(request), request, self._price)
        except (TimeoutError, openai.APITimeoutError):
            answer = Answer(outcome="timeout", detail=f"no answer within {self._timeout_s:g} s")
        except openai.OpenAIError as error:
            answer = Answer(outcome="connection", detail=f"{type(error).__name__} at {self._host}")
        except OverflowError:
            answer = Answer(outcome="too_large", detail=f"more than {MAX_RESPONSE_BYTES} bytes")
        latency = time.perf_counter() - started
        return replace(
            answer, text=self._key.redact(answer.text), detail=self._key.redact(answer.detail), latency_s=latency
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _call(self, request: ModelRequest) -> Response:
        import openai

        try:
            async with self._open().chat.completions.with_streaming_response.create(
                **request_body(request, self._model, stream=False)
            ) as response:
                body = bytearray()
                async for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_RESPONSE_BYTES:
                        raise OverflowError
                return Response(status=response.status_code, body=bytes(body), host=self._host)
        except openai.APIStatusError as error:
            found = error.response
            return Response(
                status=found.status_code,
                body=await _read(found),
                retry_after=found.headers.get("retry-after", ""),
                host=self._host,
            )

    def _open(self) -> Any:
        if self._client is None:
            import httpx2
            import openai

            shared = {
                "max_retries": 0, "timeout": self._timeout_s, "default_headers": {"Accept-Encoding": "identity"},
                "http_client": httpx2.AsyncClient(follow_redirects=False, trust_env=False, limits=httpx2.Limits(max_connections=None)),
            }  # fmt: skip
            key: Any = self._token or self._key.reveal() or "none"
            if self._api_version:
                self._client = openai.AsyncAzureOpenAI(
                    azure_endpoint=self._base_url, api_version=self._api_version, api_key=key, **shared
                )
            else:
                self._client = openai.AsyncOpenAI(base_url=self._base_url, api_key=key, **shared)
        return self._client


async def _read(response: Any) -> bytes:
    try:
        return bytes(response.content)[:MAX_RESPONSE_BYTES]
    except Exception:  # noqa: BLE001 - the SDK closes some error responses before anybody can read them
        return b""
