"""One reading of an OpenAI-compatible chat completion, whatever transport brought it."""

from dataclasses import replace
from typing import Any

from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.core.money import Price
from promptops.core.text import estimate_tokens
from promptops.models.base import Answer, ModelRequest, Outcome

_MAX_TOKENS = 100_000_000
_SHOWN_BYTES = 200


def parse_completion(body: bytes, request: ModelRequest, price: Price) -> Answer:
    """The answer in a response body; anything but one complete text answer is an outcome of its own."""
    try:
        document = parse_json(body)
    except JsonError as error:
        return _bad(f"not JSON ({error})", body)
    if not isinstance(document, dict):
        return _bad("not an object", body)
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
    return _priced(Answer(outcome=outcome, text=text, detail=detail), document, request, price)


def _read_message(message: dict[str, Any], finish: Json) -> tuple[Outcome, str, str]:
    refusal, content = message.get("refusal"), message.get("content")
    if isinstance(refusal, str) and refusal:
        return "refused", "", "the model refused"
    if finish == "content_filter":
        return "filtered", "", "stopped by the provider's content filter"
    if message.get("tool_calls") or finish in ("tool_calls", "function_call"):
        return "tool_call", "", "the model called a tool"
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(map(str, texts)) if texts and all(isinstance(text, str) for text in texts) else None
    if not isinstance(content, str):
        return "bad_response", "", "no text content"
    if finish == "length":
        return "truncated", content, "cut at max_output_tokens"
    return ("ok", content, "") if content else ("bad_response", "", "empty content")


def _priced(answer: Answer, document: dict[str, Any], request: ModelRequest, price: Price) -> Answer:
    """The answer with its tokens and cost; usage that cannot be true is replaced by an estimate, and marked."""
    usage = document.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    trusted = all(type(count) is int and 0 <= count <= _MAX_TOKENS for count in counts)
    if not trusted:
        counts = [sum(estimate_tokens(message.content) for message in request.messages), estimate_tokens(answer.text)]
    input_tokens, output_tokens = (int(count or 0) for count in counts)
    return replace(
        answer, model=str(document.get("model", ""))[:200], usage_trusted=trusted,
        input_tokens=input_tokens, output_tokens=output_tokens,
        cost_nanousd=price.cost_nanousd(input_tokens=input_tokens, output_tokens=output_tokens),
    )  # fmt: skip


def _bad(why: str, body: bytes) -> Answer:
    shown = ascii(body[:_SHOWN_BYTES].decode("utf-8", "replace"))
    return Answer(outcome="bad_response", detail=f"{why}: {shown}")
