"""Alerts for other programs: one POST of JSON, over TLS or to this machine, to a host that was named and to no other."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from promptops.core.errors import EvaluationError, RefusedError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TIMEOUT_S = 10


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the alerts to a host nobody named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def check_webhook(url: str) -> None:
    """Raises RefusedError unless the address is https, or http on this machine; no credentials in it."""
    try:
        parts = urlsplit(url)
        host, secret = parts.hostname or "", parts.username or parts.password
    except ValueError:
        host, secret, parts = "", None, urlsplit("")
    if not host or parts.scheme not in {"http", "https"} or secret:
        raise RefusedError("the webhook is not the address of a server", why="it needs a host, and no name or password in it",
                           hint="https://HOST/PATH")  # fmt: skip
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise RefusedError("the webhook would get alerts unencrypted", where=host[:80], hint="use https")


def post_alerts(url: str, alerts: Sequence[Mapping[str, Any]]) -> None:
    """Raises EvaluationError when the server does not take them; it is told once, and follows no redirect."""
    check_webhook(url)
    body = json.dumps({"alerts": list(alerts)}, ensure_ascii=False).encode("utf-8", "backslashreplace")
    request = Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")  # noqa: S310 - checked above
    try:
        with build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_S):
            pass
    except (URLError, OSError, ValueError) as error:
        raise EvaluationError("the alerts were not posted", where=urlsplit(url).hostname or "", why=str(getattr(error, "reason", error))[:200],
                              hint="they are printed above; run again to post them") from error  # fmt: skip
