"""One reading of what an OpenAI-compatible server sends, whatever transport brought it."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.core.money import Price
from promptops.core.outcome import Outcome
from promptops.core.text import estimate_tokens
from promptops.models.base import Answer, ModelRequest

_MAX_TOKENS = 100_000_000
_SHOWN_BYTES = 200
_STATUS: Mapping[int, Outcome] = {
    401: "auth",
    402: "quota",
    403: "auth",
    408: "timeout",
    413: "too_large",
    429: "rate_limited",
}
_Read = tuple[Outcome, str, str]
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "account_deactivated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What arrived: status, the headers that matter, and at most the allowed number of bytes."""

    status: int
    body: bytes
    retry_after: str = ""
    host: str = ""


def parse_response(
    response: Response, request: ModelRequest, price: Price, *, read: Callable[[Json], Json] | None = None
) -> Answer:
    """The answer in a response; anything but one complete text answer is an outcome of its own.

    `read` makes a chat completion of what the server sends, where that is something else.
    """
    if response.status != 200:
        return _parse_failure(response)
    try:
        document = parse_json(response.body)
    except JsonError as error:
        return _priced(_bad(f"not JSON ({error})", response.body), {}, request, price)
    return parse_document(read(document) if read else document, request, price, response.body)


def parse_document(document: Json, request: ModelRequest, price: Price, body: bytes) -> Answer:
    """The answer in a chat completion object; `body` is shown when it is none."""
    if not isinstance(document, dict):
        return _priced(_bad("not an object", body), {}, request, price)
    return _priced(_read_document(document, body), document, request, price)


def parse_retry_after(text: str, now: datetime) -> float | None:
    """Seconds a Retry-After header asks to wait, from a number or an HTTP date; None for junk and negative values."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _parse_failure(response: Response) -> Answer:
    outcome = _STATUS.get(response.status, "server_error" if response.status >= 500 else "bad_response")
    if outcome == "rate_limited" and not _error_codes(response.body).isdisjoint(_QUOTA):
        outcome = "quota"
    detail = f"HTTP {response.status} from {response.host}"
    if outcome == "bad_response":
        detail += f": {_shown(response.body)}"
    wait = parse_retry_after(response.retry_after, datetime.now(UTC)) if response.retry_after else None
    return Answer(outcome=outcome, detail=detail, retry_after_s=wait)


def _error_codes(body: bytes) -> set[str]:
    try:
        error = parse_json(body).get("error", {})
        return {str(error.get("code")), str(error.get("type"))}
    except (JsonError, AttributeError):
        return set()


def _read_document(document: dict[str, Any], body: bytes) -> _Read:
    if document.get("error") is not None:
        return _bad("an error in a successful response", body)
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return _bad("no choices", body)
    message = choices[0].get("message")
    if not isinstance(message, dict):
        return _bad("no message", body)
    outcome, text, detail = _read_message(message, choices[0].get("finish_reason"))
    if outcome == "bad_response":
        return _bad(detail, body)
    return outcome, text, _probability(choices[0].get("logprobs")) if outcome == "ok" else detail


def _read_message(message: dict[str, Any], finish: Json) -> _Read:
    refusal, content = message.get("refusal"), message.get("content")
    if isinstance(refusal, str) and refusal:
        return "refused", "", "the model refused"
    if finish == "content_filter":
        return "filtered", "", "stopped by the provider's content filter"
    if message.get("tool_calls") or finish in ("tool_calls", "function_call"):
        return _read_calls(message.get("tool_calls"), finish)
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(map(str, texts)) if texts and all(isinstance(text, str) for text in texts) else None
    if not isinstance(content, str):
        return "bad_response", "", "no text content"
    if finish == "length":
        return "truncated", content, "cut at max_output_tokens"
    return ("ok", content, "") if content else ("bad_response", "", "empty content")


def _read_calls(calls: Json, finish: Json) -> _Read:
    """The calls as canonical JSON; arguments that are no JSON stay the text they are, for a check to find."""
    if finish == "length":
        return "truncated", "", "cut at max_output_tokens"
    found: list[Json] = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return "bad_response", "", "a tool call without a name"
        arguments = function.get("arguments") or "{}"
        if isinstance(arguments, str):
            with suppress(JsonError):
                arguments = parse_json(arguments)
        found.append({"name": function["name"], "arguments": arguments})
    names = ", ".join(call["name"] for call in found)
    return (
        "tool_call",
        canonical_json(found).decode() if found else "",
        f"the model called {names}" if names else "the model called a tool",
    )


def _probability(logprobs: Json) -> str:
    """How probable the answer was to the model, where that was asked for and can be read."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    values = (
        [token.get("logprob") if isinstance(token, dict) else None for token in tokens]
        if isinstance(tokens, list)
        else []
    )
    numbers = [
        value
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value <= 0
    ]
    if not numbers or len(numbers) != len(values):
        return ""
    return f"mean logprob {sum(numbers) / len(numbers):.4f} over {len(numbers)} tokens"


def _priced(read: _Read, document: dict[str, Any], request: ModelRequest, price: Price) -> Answer:
    """The answer with its tokens and cost; usage that cannot be true is replaced by an estimate, and marked."""
    outcome, text, detail = read
    found = document.get("usage")
    usage: dict[str, Any] = found if isinstance(found, dict) else {}
    input_tokens: Any = usage.get("prompt_tokens")
    output_tokens: Any = usage.get("completion_tokens")
    cached: Any = 0
    trusted = _is_count(input_tokens) and _is_count(output_tokens)
    if trusted:
        details = usage.get("prompt_tokens_details")
        said = details.get("cached_tokens") if isinstance(details, dict) else 0
        cached = said if _is_count(said) and said <= input_tokens else 0
    else:
        input_tokens = sum(estimate_tokens(message.content) for message in request.messages)
        output_tokens = estimate_tokens(text)
    return Answer(
        outcome=outcome, text=text, detail=detail, model=str(document.get("model", ""))[:200], usage_trusted=trusted,
        input_tokens=input_tokens, output_tokens=output_tokens, cached_input_tokens=cached,
        cost_nanousd=price.cost_nanousd(input_tokens=input_tokens, output_tokens=output_tokens, cached_input_tokens=cached),
    )  # fmt: skip


def _is_count(value: Json) -> bool:
    return type(value) is int and 0 <= value <= _MAX_TOKENS


def _bad(why: str, body: bytes) -> _Read:
    return "bad_response", "", f"{why}: {_shown(body)}"


def _shown(body: bytes) -> str:
    return ascii(body[:_SHOWN_BYTES].decode("utf-8", "replace"))
