"""The local page of a review: this machine only, one reviewer, nobody else's page can talk to it."""

import asyncio
import hmac
import secrets
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from promptops.cli.output import note
from promptops.core.errors import DataError, EvaluationError, PromptopsError
from promptops.core.jsontext import JsonError, parse_json
from promptops.core.suite import Suite
from promptops.evaluation.review import Desk, Place, Reviewing, reference_of
from promptops.report.review import place_view, review_page

HOST = "127.0.0.1"
TOKEN = "X-Promptops-Token"  # noqa: S105 - the name of a header
_MAX_BODY = 128 * 1024
_HEADERS = {
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), clipboard-read=()",
}  # fmt: skip


def serve(desk: Desk, suite: Suite, *, port: int) -> None:
    """Show the page until the reviewer finishes or stops the command. Raises EvaluationError when the port is taken."""
    asyncio.run(_serve(ReviewServer(desk, suite), port))


async def _serve(server: "ReviewServer", port: int) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, server.finished.set)
    runner = web.AppRunner(server.application(), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            raise EvaluationError(
                f"port {port} of {HOST} cannot be used",
                why=(error.strerror or "").rpartition(": ")[2],
                hint="leave --port out",
            ) from error
        server.port = runner.addresses[0][1]
        note(f"open {server.link}\nonly this machine can; Ctrl-C ends it, and every label is kept")
        await server.finished.wait()
    finally:
        await runner.cleanup()


class ReviewServer:
    """Answers the page. Whoever has the token is the reviewer; the token is in the link, behind #."""

    def __init__(self, desk: Desk, suite: Suite) -> None:
        self.reviewing, self.suite = Reviewing(desk), suite
        self.token, self.port = secrets.token_urlsafe(32), 0
        self.finished, self._ends = asyncio.Event(), False
        self._one_at_a_time = asyncio.Lock()
        self._calls: dict[str, Callable[[dict[str, Any]], Any]] = {
            "/api/state": self._state, "/api/label": self._label, "/api/skip": self._skip, "/api/undo": self._undo,
            "/api/propose": self._propose, "/api/finish": self._finish,
        }  # fmt: skip

    @property
    def link(self) -> str:
        return f"http://{HOST}:{self.port}/#{self.token}"

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY, middlewares=[self._guard])
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        refusal = self._refusal(request)
        try:
            response = refusal or await handler(request)
        except web.HTTPException as stop:  # of the framework: a body that is too large, a bad request line
            response = _error(stop.status, stop.reason)
        response.headers.update(_HEADERS)
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        """A host other than ours is DNS rebinding; a site other than ours is somebody else's page."""
        if request.headers.getall("Host", []) not in ([f"{HOST}:{self.port}"], [f"localhost:{self.port}"]):
            return _error(403, "this is not the host of this page")
        site = request.headers.get("Sec-Fetch-Site", "")
        if site != "same-origin" and not (site == "none" and request.raw_path == "/"):
            return _error(403, "another site asked, or a browser that does not say which")
        if request.raw_path == "/":
            return None if request.method == "GET" else _error(405, "GET only")
        if request.raw_path not in self._calls:
            return _error(404, "there is nothing here")
        if request.method != "POST":
            return _error(405, "POST only")
        if (
            request.headers.get("Origin") != f"http://{request.headers['Host']}"
            or request.content_type != "application/json"
        ):
            return _error(403, "another origin asked")
        if not hmac.compare_digest(
            request.headers.get(TOKEN, "").encode("utf-8", "surrogateescape"), self.token.encode()
        ):
            return _error(403, "the token is not that of this review; open the link that the terminal shows")
        return None

    async def _answer(self, request: web.Request) -> web.Response:
        if request.raw_path == "/":
            page = review_page()
            return web.Response(
                text=page.html, content_type="text/html", headers={"Content-Security-Policy": page.policy}
            )
        try:
            body = parse_json(await request.read())
            if not isinstance(body, dict):
                raise DataError("not an object")
            async with self._one_at_a_time:
                found = await asyncio.to_thread(self._calls[request.raw_path], body)
            if self._ends:
                asyncio.get_running_loop().call_soon(self.finished.set)  # cleanup waits until the page has its answer
            return web.json_response(found)
        except JsonError as error:
            return _error(400, f"not JSON: {error}")
        except PromptopsError as error:
            return _error(503 if isinstance(error, EvaluationError) else 400, str(error))

    def _state(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._view(self.reviewing.place())

    def _label(self, body: dict[str, Any]) -> dict[str, Any]:
        passed, text = body.get("passed"), body.get("note", "")
        if not isinstance(passed, bool) or not isinstance(text, str):
            raise DataError("a label says whether the answer passes")
        return self._view(self.reviewing.label(_name(body), _verdicts(body), passed=passed, note=text))

    def _skip(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._view(self.reviewing.skip(_name(body)))

    def _undo(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._view(self.reviewing.undo())

    def _propose(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"passed": self.reviewing.proposal(_name(body), _verdicts(body))}

    def _finish(self, body: dict[str, Any]) -> dict[str, Any]:
        self._ends = True
        return {}

    def _view(self, place: Place) -> dict[str, Any]:
        reference = reference_of(place.item, self.suite) if place.item else ""
        return place_view(place, self.reviewing.rubric, self.reviewing.batch, reference)


def _name(body: dict[str, Any]) -> str:
    return str(body.get("item", ""))


def _verdicts(body: dict[str, Any]) -> dict[str, Any]:
    found = body.get("verdicts")
    if not isinstance(found, dict):
        raise DataError("verdicts are scores by criterion")
    return found


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
