"""The HTTP server: routes, keys, and a shutdown that finishes what was begun."""

import asyncio
import ipaddress
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.core.jsontext import canonical_json
from promptops.runtime.serve import wire
from promptops.runtime.serve.keys import Keys
from promptops.runtime.serve.wire import Refusal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from promptops.runtime.base import Reply
    from promptops.runtime.runtime import Runtime

_MAX_BODY = 2 * 2**20
_LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))
_TENANT = web.RequestKey("tenant", str)


class Server:
    """Serves one Runtime. `problem` says what is wrong with the service beside its bundle ('' when nothing is)."""

    def __init__(
        self, runtime: "Runtime", keys: Keys, *, loopback: bool, registry: "CollectorRegistry | None" = None,
        problem: Callable[[], str] = lambda: "",
    ) -> None:  # fmt: skip
        """Raises RefusedError for a server that anybody on a network could spend on."""
        if not loopback and not len(keys):
            raise RefusedError("other machines could ask without a key", why="the address is not a loopback address",
                               hint="add keys (--keys, --new-key), or listen on 127.0.0.1")  # fmt: skip
        self._runtime, self._keys, self._loopback, self._registry, self._problem = (
            runtime,
            keys,
            loopback,
            registry,
            problem,
        )
        self.stopping = False

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=_MAX_BODY)
        application.router.add_get("/healthz", self._health)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/v1/models/{name}", self._model)
        application.router.add_post("/v1/chat/completions", self._complete)
        application.router.add_post("/v1/feedback", self._feedback)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        """Errors in OpenAI's shape; keys; and no page of a browser may talk to a loopback server."""
        try:
            self._check_host(request.host)
            if request.path.startswith("/v1/"):
                request[_TENANT] = self._tenant(request)
            response: web.StreamResponse = await handler(request)
        except Refusal as refusal:
            return _refused(refusal)
        except DataError as error:
            return _refused(Refusal(status=400, message=str(error)[:1000], code="invalid_inputs"))
        except web.HTTPRequestEntityTooLarge:
            return _refused(Refusal(status=413, message=f"the body has more than {_MAX_BODY} bytes", code="too_large"))
        except web.HTTPException as error:
            return _refused(
                Refusal(
                    status=error.status,
                    message=f"{request.method} {request.path[:100]}: {error.reason}",
                    code="not_found",
                )
            )
        return response

    def _check_host(self, host: str) -> None:
        """A name that resolves to this machine is how a page of a browser would reach a loopback server."""
        if self._loopback and not {host, host.rpartition(":")[0]} & _LOOPBACK_NAMES:
            raise Refusal(status=403, message="this server answers to localhost only", code="wrong_host")

    def _tenant(self, request: web.Request) -> str:
        """The tenant of the key; `default` where no keys are set up. Nothing else in a request can name one."""
        if not len(self._keys):
            return "default"
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        tenant = self._keys.tenant(key.strip()) if scheme.lower() == "bearer" else None
        if tenant is None:
            raise Refusal(
                status=401,
                message="a valid API key is needed: `Authorization: Bearer ...`",
                kind="authentication_error",
                code="invalid_api_key",
            )
        return tenant

    async def _health(self, _: web.Request) -> web.Response:
        problem = "stopping" if self.stopping else self._problem()
        bundle = self._runtime.bundle
        body = {
            "status": "degraded" if problem else "ok",
            "problem": problem,
            "bundle": bundle.digest,
            "channel": bundle.channel,
        }
        return _json(body, status=503 if self.stopping else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        if self._registry is None:
            raise Refusal(
                status=404,
                message="metrics need the package `prometheus-client`: pip install 'promptops[prometheus]'",
                code="not_installed",
            )
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _models(self, _: web.Request) -> web.Response:
        return _json({"object": "list", "data": [self._listed(name) for name in sorted(self._runtime.bundle.channels)]})

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._runtime.bundle.channels:
            raise Refusal(status=404, message=f"no prompt {name[:80]!r}", param="model", code="model_not_found")
        return _json(self._listed(name))

    def _listed(self, name: str) -> dict[str, Any]:
        release = self._runtime.bundle.channels[name].live
        return {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "promptops",
            "promptops": {"version": release.version, "digest": release.digest},
        }

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        prompts = {name: channel.live.prompt for name, channel in self._runtime.bundle.channels.items()}
        asked = wire.asked_for(body, prompts)
        options: dict[str, Any] = {
            "tenant": request[_TENANT],
            "feature": asked.feature,
            "category": asked.category,
            "deadline_s": asked.deadline_s,
            "request_id": self._keys.new_id(request[_TENANT]),
        }
        if asked.stream:
            return await self._stream(request, asked, options)
        reply = await self._runtime.acomplete(asked.prompt, asked.inputs, **options)
        refusal = wire.no_answer(reply)
        if refusal is not None:
            raise refusal
        return _json(wire.completion(reply, wire.now()), headers=_told(reply))

    async def _feedback(self, request: web.Request) -> web.Response:
        """How an answer did; observers hear of it, and `promptops monitor` joins it with the reply."""
        told = wire.feedback_of(await _body(request))
        if not self._keys.is_of(told.reply_id, request[_TENANT]):
            raise Refusal(
                status=404, message="no answer with this id was given to you", param="id", code="reply_not_found"
            )
        self._runtime.feedback(told.reply_id, good=told.good, by=told.by)
        return _json({"object": "feedback", "id": told.reply_id, "by": told.by, "good": told.good}, status=202)

    async def _stream(self, request: web.Request, asked: wire.Asked, options: dict[str, Any]) -> web.StreamResponse:
        """Server-sent events. Guarded answers come whole, so an error is still an HTTP error: nothing was sent before."""
        from promptops.runtime.base import Reply

        items = [item async for item in self._runtime.astream(asked.prompt, asked.inputs, **options)]
        reply = items.pop()
        assert isinstance(reply, Reply)
        refusal = wire.no_answer(reply)
        if refusal is not None:
            raise refusal
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"} | _told(
            reply
        )
        response, created = web.StreamResponse(headers=headers), wire.now()
        await response.prepare(request)
        await response.write(
            wire.server_sent(wire.chunk(reply.request_id, reply.prompt, created, {"role": "assistant", "content": ""}))
        )
        for piece in items:
            await response.write(
                wire.server_sent(wire.chunk(reply.request_id, reply.prompt, created, {"content": piece}))
            )
        await response.write(wire.server_sent(wire.last_chunk(reply, created, usage=asked.usage_in_stream)))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


async def run(
    server: Server, *, host: str, port: int, started: Callable[[str], None], grace_s: float = 15.0, delay_s: float = 0.0
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun within `grace_s`.

    `delay_s`: how long `/healthz` says 503 before no new connection is taken, for load balancers. Raises EvaluationError when
    the address cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(server.application(), access_log=None, handle_signals=False, shutdown_timeout=grace_s)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise EvaluationError(
                f"{host}:{port} cannot be used", why=error.strerror or str(error), hint="another --port or --host"
            ) from error
        address = runner.addresses[0]
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        started(f"http://{name}:{address[1]}")
        await stop.wait()
        server.stopping = True
        await asyncio.sleep(delay_s)
    finally:
        await runner.cleanup()


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises Refusal."""
    if request.content_type != "application/json":
        raise Refusal(status=415, message="Content-Type: application/json is needed", code="invalid_content_type")
    return wire.read_body(await request.read())


def _refused(refusal: Refusal) -> web.Response:
    headers = {"x-should-retry": "false"} if refusal.code in {"queued", "budget", "degraded"} else {}
    return _json(refusal.body(), status=refusal.status, headers=headers)


def _told(reply: "Reply") -> dict[str, str]:
    headers = {"x-request-id": reply.request_id, "promptops-version": reply.version, "promptops-source": reply.source}
    return {name: value for name, value in headers.items() if value.isascii() and value.isprintable()}


def _json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=canonical_json(body), status=status, content_type="application/json", headers=headers)


__all__ = ["Server", "is_loopback", "run"]
