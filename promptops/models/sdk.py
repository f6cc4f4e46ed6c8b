"""The other transport: the openai package, for Azure and for tokens that are fetched. One attempt a call, as over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any

from promptops.core.money import Price
from promptops.models.base import Answer, ModelRequest
from promptops.models.call import Frame
from promptops.models.parse import Response, parse_response
from promptops.models.secret import Secret
from promptops.models.wire import request_body

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
        self._frame: Frame | None = None
        self._client: Any = None

    @property
    def paid(self) -> bool:
        return True

    async def answer(self, request: ModelRequest) -> Answer:
        if self._frame is None:
            import httpx2
            import openai

            self._frame = Frame(
                host=self._host, key=self._key, timeout_s=self._timeout_s, lost=(openai.OpenAIError, httpx2.HTTPError),
                late=(openai.APITimeoutError, httpx2.TimeoutException), unsent=(httpx2.ConnectError,),
            )  # fmt: skip
        return await self._frame.around(self._ask(request))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _ask(self, request: ModelRequest) -> Answer:
        return parse_response(await self._call(request), request, self._price)

    async def _call(self, request: ModelRequest) -> Response:
        import httpx2
        import openai

        body = request_body(request, self._model, stream=False)
        try:
            # not chat.completions.create: it walks the whole body by type annotations, 2 ms a call, to change nothing
            response = await self._open().post("/chat/completions", cast_to=httpx2.Response, body=body)
            return Response(status=response.status_code, body=self._key.redact_bytes(response.content), host=self._host)
        except openai.APIStatusError as error:
            found = error.response
            return Response(
                status=found.status_code,
                body=self._key.redact_bytes(_read(found)),
                retry_after=found.headers.get("retry-after", ""),
                host=self._host,
            )

    def _open(self) -> Any:
        if self._client is None:
            import httpx2
            import openai

            from promptops.models.sdk_transport import CappedTransport

            shared = {
                "max_retries": 0, "timeout": self._timeout_s, "default_headers": {"Accept-Encoding": "identity"},
                "http_client": httpx2.AsyncClient(transport=CappedTransport(), follow_redirects=False, trust_env=False),
            }  # fmt: skip
            key: Any = self._token or self._key.reveal() or "none"
            if self._api_version:
                self._client = openai.AsyncAzureOpenAI(
                    azure_endpoint=self._base_url, api_version=self._api_version, api_key=key, **shared
                )
            else:
                self._client = openai.AsyncOpenAI(base_url=self._base_url, api_key=key, **shared)
        return self._client


def _read(response: Any) -> bytes:
    try:
        return bytes(response.content)
    except Exception:  # noqa: BLE001 - the SDK closes some error responses before anybody can read them
        return b""
