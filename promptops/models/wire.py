"""The request as an OpenAI-compatible server reads it; both transports send the same."""

from collections.abc import Mapping

from promptops.core.jsontext import Json
from promptops.models.base import ModelRequest

_PARAMS = {"max_output_tokens": "max_completion_tokens"}
CHOICES = ("auto", "none", "required")


def request_body(request: ModelRequest, model: str, *, stream: bool) -> dict[str, Json]:
    """The JSON body of a chat completion."""
    body: dict[str, Json] = {
        "model": model,
        "messages": [message.as_dict() for message in request.messages],
        **{_PARAMS.get(name, name): value for name, value in request.params.items()},
    }
    if request.tools:
        body["tools"] = [{"type": "function", "function": dict(tool)} for tool in request.tools]
        choice = body.get("tool_choice", "auto")
        if choice not in CHOICES:
            body["tool_choice"] = {"type": "function", "function": {"name": choice}}
    if request.output_format == "json":
        body["response_format"] = _response_format(request.output_schema)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _response_format(schema: Mapping[str, Json] | None) -> dict[str, Json]:
    if schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}
