"""OpenAI's Responses API: the request in its words, and its answer put into those of a chat completion, so that one parser reads both."""

from collections.abc import Mapping
from typing import Any

from promptops.core.jsontext import Json
from promptops.models.base import ModelRequest
from promptops.models.wire import CHOICES

UNSUPPORTED = ("seed", "stop", "frequency_penalty", "presence_penalty")
"""Parameters of chat completions that this API does not have."""
_SAME = ("temperature", "top_p", "max_output_tokens", "parallel_tool_calls")


def responses_body(request: ModelRequest, model: str) -> dict[str, Json]:
    """The JSON body of a request; nothing is kept by the provider."""
    params = request.params
    body: dict[str, Json] = {
        "model": model,
        "input": [message.as_dict() for message in request.messages],
        "store": False,
        **{name: params[name] for name in _SAME if name in params},
    }
    if "reasoning_effort" in params:
        body["reasoning"] = {"effort": params["reasoning_effort"]}
    if params.get("logprobs"):
        body["include"] = ["message.output_text.logprobs"]
    if request.tools:
        body["tools"] = [{"type": "function", **tool} for tool in request.tools]
    if "tool_choice" in params:
        choice = params["tool_choice"]
        body["tool_choice"] = choice if choice in CHOICES else {"type": "function", "name": choice}
    if request.output_format == "json":
        schema = request.output_schema
        named = {"type": "json_schema", "name": "answer", "schema": dict(schema)} if schema is not None else None
        body["text"] = {"format": named or {"type": "json_object"}}
    return body


def as_completion(document: Json) -> Json:
    """The same as a chat completion object; what cannot be one is left as it is, for the parser to refuse."""
    if not isinstance(document, dict) or not isinstance(document.get("output"), list):
        return document
    items = [item for item in document["output"] if isinstance(item, dict)]
    parts = [
        part
        for item in items
        if item.get("type") == "message" and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict)
    ]
    calls = [{"function": {"name": item.get("name"), "arguments": item.get("arguments")}}
             for item in items if item.get("type") == "function_call"]  # fmt: skip
    message: dict[str, Any] = {"content": None}
    texts = [part.get("text") for part in parts if part.get("type") == "output_text"]
    if texts and all(isinstance(text, str) for text in texts):
        message["content"] = "".join(map(str, texts))
    refusals = [part.get("refusal") for part in parts if part.get("type") == "refusal"]
    if refusals:
        message["refusal"] = str(refusals[0])
    if calls:
        message["tool_calls"] = calls
    finish = _finish(document)
    logprobs = [token for part in parts if isinstance(part.get("logprobs"), list) for token in part["logprobs"]]
    choice = {"message": message, "finish_reason": finish, "logprobs": {"content": logprobs}}
    error = document.get("error") or (None if finish else f"status {document.get('status')!r}")
    return {
        "model": document.get("model", ""),
        "error": error,
        "choices": [choice],
        "usage": _usage(document.get("usage")),
    }


def _finish(document: Mapping[str, Any]) -> str:
    """Why it ended; '' when it did not."""
    if document.get("status") == "completed":
        return "stop"
    details = document.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else ""
    return {"max_output_tokens": "length", "content_filter": "content_filter"}.get(str(reason), "")


def _usage(usage: Json) -> Json:
    if not isinstance(usage, dict):
        return None
    return {"prompt_tokens": usage.get("input_tokens"), "completion_tokens": usage.get("output_tokens"),
            "prompt_tokens_details": usage.get("input_tokens_details")}  # fmt: skip
