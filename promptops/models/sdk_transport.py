"""What the openai package sends its requests through: it would read an error of any size, and decompress it, by itself."""

from collections.abc import AsyncIterator

import httpx2

from promptops.models.body import CappedBody


class CappedTransport(httpx2.AsyncHTTPTransport):
    """HTTP without proxies, whose bodies come plain and end in TooLarge when they pass the cap."""

    def __init__(self) -> None:
        super().__init__(trust_env=False, limits=httpx2.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        encoding = response.headers.pop("Content-Encoding", "")
        return httpx2.Response(
            status_code=response.status_code, headers=response.headers, stream=_CappedStream(response.stream, encoding),
            extensions=response.extensions,
        )  # fmt: skip


class _CappedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, encoding: str) -> None:
        self._inner, self._body = inner, CappedBody(encoding)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._inner:
            yield self._body.take(data)

    async def aclose(self) -> None:
        await self._inner.aclose()
