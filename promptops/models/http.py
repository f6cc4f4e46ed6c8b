"""The lean client: an OpenAI-compatible chat completion over aiohttp, one attempt a call, one deadline around it."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from promptops.core.errors import EvaluationError
from promptops.core.jsontext import JsonError, canonical_json, parse_json
from promptops.core.money import Price
from promptops.models.base import Answer, ModelRequest
from promptops.models.body import MAX_RESPONSE_BYTES, CappedBody, TooLarge
from promptops.models.call import Frame, cause_of
from promptops.models.parse import Response, parse_response
from promptops.models.responses import as_completion, responses_body
from promptops.models.secret import Secret
from promptops.models.stream import StreamReader
from promptops.models.wire import request_body

_CONNECT_S = 10.0


class HttpClient:
    """One model on one server. The key goes to `base_url` only and is cut out of everything that comes back."""

    def __init__(
        self, *, base_url: str, model: str, key: Secret, price: Price, timeout_s: float | None, stream: bool = False,
        api: Literal["chat", "responses"] = "chat",
    ) -> None:  # fmt: skip
        self._base, self._model, self._price, self._stream = base_url.rstrip("/"), model, price, stream
        self._host = self._base.partition("//")[2].partition("/")[0]
        self._key, self._timeout_s, self._api = key, timeout_s, api
        self._frame: Frame | None = None
        self._session: Any = None

    @property
    def paid(self) -> bool:
        return True

    async def answer(self, request: ModelRequest) -> Answer:
        if self._frame is None:
            import aiohttp

            self._frame = Frame(host=self._host, key=self._key, timeout_s=self._timeout_s, lost=(aiohttp.ClientError,),
                                unsent=(aiohttp.ClientConnectorError,))  # fmt: skip
        return await self._frame.around(self._call(request))

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text, in order. Raises EvaluationError when the server does not give them."""
        body = canonical_json({"model": self._model, "input": list(texts)})
        async with asyncio.timeout(self._timeout_s), self._post("/embeddings", body) as response:
            data = await _read(response)
        try:
            rows = sorted(parse_json(data)["data"], key=lambda row: row["index"])
            vectors = [[float(number) for number in row["embedding"]] for row in rows]
        except (JsonError, KeyError, TypeError, ValueError):
            vectors = []
        if response.status != 200 or len(vectors) != len(texts):
            raise EvaluationError("no embeddings", where=self._host, why=f"HTTP {response.status}")
        return vectors

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _call(self, request: ModelRequest) -> Answer:
        if self._api == "responses":
            path, body, read = "/responses", responses_body(request, self._model), as_completion
        else:
            path, body, read = "/chat/completions", request_body(request, self._model, stream=self._stream), None
        async with self._post(path, canonical_json(body)) as response:
            if self._stream and response.status == 200:
                return await self._read_stream(response, request)
            data = await _read(response)
            retry_after = "" if response.status == 200 else response.headers.get("Retry-After", "")
        found = Response(
            status=response.status, body=self._key.redact_bytes(data), retry_after=retry_after, host=self._host
        )
        return parse_response(found, request, self._price, read=read)

    async def _read_stream(self, response: Any, request: ModelRequest) -> Answer:
        import aiohttp

        reader = StreamReader()
        try:
            async for chunk in _capped(response):
                reader.feed(chunk)
        except (aiohttp.ClientError, OSError, zlib.error) as error:
            return Answer(outcome="stream", detail=f"{cause_of(error)} in the stream")
        return reader.answer(request, self._price)

    def _post(self, path: str, body: bytes) -> Any:
        if self._session is None:
            import aiohttp

            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key.reveal()}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), headers=headers, trust_env=False, auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            )  # fmt: skip
        return self._session.post(self._base + path, data=body, allow_redirects=False)


async def _read(response: Any) -> bytes:
    """The whole body, plain. Raises TooLarge beyond the cap."""
    if response.content_length is not None and "Content-Encoding" not in response.headers:
        if response.content_length > MAX_RESPONSE_BYTES:
            raise TooLarge
        return bytes(await response.read())  # it ends where its length says
    return b"".join([chunk async for chunk in _capped(response)])


async def _capped(response: Any) -> AsyncIterator[bytes]:
    """The body, plain. Raises TooLarge beyond the cap."""
    body = CappedBody(response.headers.get("Content-Encoding", ""))
    async for chunk in response.content.iter_any():
        yield body.take(chunk)
