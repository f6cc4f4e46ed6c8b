"""Requests and answers in the shape of OpenAI's chat completions; what a client may not decide is refused, not ignored."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json

if TYPE_CHECKING:
    from promptops.core.prompt import Prompt
    from promptops.runtime.base import Reply

MAX_DEADLINE_S = 60.0
_KNOWN = frozenset(("model", "messages", "stream", "stream_options", "promptops", "n"))
_OWN = frozenset(("inputs", "feature", "category", "deadline_s"))
FEEDBACK_OF_CLIENTS = ("thumbs", "edit", "escalation")
_WHY = {
    "user": "the tenant is the one the API key belongs to",
    "tools": "the released prompt decides what the model may do",
    "base_url": "the service decides where models are",
    "api_key": "the service decides where models are",
    "tenant": "the tenant is the one the API key belongs to",
}


class Refusal(Exception):  # noqa: N818 - an answer to the client, not a fault of the program
    """An HTTP error in OpenAI's shape."""

    def __init__(self, *, status: int, message: str, kind: str = "invalid_request_error", code: str = "", param: str = "",
                 extra: Mapping[str, Json] | None = None) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.kind, self.code, self.param, self.extra = (
            status,
            message,
            kind,
            code,
            param,
            dict(extra or {}),
        )

    def body(self) -> dict[str, Json]:
        error = {"message": self.message, "type": self.kind, "param": self.param or None, "code": self.code or None}
        return {"error": error | self.extra}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat completion as the runtime is asked for it."""

    prompt: str
    inputs: Mapping[str, Json]
    feature: str = ""
    category: str = ""
    deadline_s: float | None = None
    stream: bool = False
    usage_in_stream: bool = False


def read_body(raw: bytes) -> dict[str, Json]:
    """The JSON object of a request. Raises Refusal."""
    try:
        body = parse_json(raw)
    except (JsonError, ValueError, RecursionError) as error:
        raise Refusal(status=400, message=f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise Refusal(status=400, message="the body is not a JSON object", code="invalid_json")
    return body


def asked_for(body: Mapping[str, Json], prompts: "Mapping[str, Prompt]") -> Asked:
    """What a client asks for. Raises Refusal for whatever the service does not do, naming the parameter."""
    for name in sorted(body.keys() - _KNOWN):
        why = _WHY.get(name, "it is part of the released prompt")
        raise Refusal(
            status=400,
            message=f"{name[:80]!r} cannot be set by a client: {why}",
            param=name[:80],
            code="unsupported_parameter",
        )
    if body.get("n", 1) != 1:
        raise Refusal(status=400, message="one answer a request", param="n", code="unsupported_parameter")
    prompt = body.get("model")
    if not isinstance(prompt, str) or prompt not in prompts:
        known = ", ".join(sorted(prompts)[:20])
        raise Refusal(
            status=404,
            message=f"no prompt {str(prompt)[:80]!r}; `model` is one of: {known}",
            param="model",
            code="model_not_found",
        )
    own = body.get("promptops", {})
    if not isinstance(own, dict) or own.keys() - _OWN:
        unknown = ", ".join(sorted(own.keys() - _OWN))[:80] if isinstance(own, dict) else "not an object"
        raise Refusal(
            status=400,
            message=f"`promptops` takes {', '.join(sorted(_OWN))}; got {unknown}",
            param="promptops",
            code="unsupported_parameter",
        )
    options = body.get("stream_options") or {}
    stream = _flag(body.get("stream"), "stream")
    return Asked(
        prompt=prompt, inputs=_inputs(body.get("messages"), own.get("inputs"), prompts[prompt]), feature=_text(own, "feature"),
        category=_text(own, "category"), deadline_s=_deadline(own.get("deadline_s")), stream=stream,
        usage_in_stream=isinstance(options, dict) and _flag(options.get("include_usage"), "stream_options.include_usage"),
    )  # fmt: skip


def completion(reply: "Reply", created: int) -> dict[str, Json]:
    """A whole answer."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    return {
        "id": f"chatcmpl-{reply.request_id}", "object": "chat.completion", "created": created, "model": reply.prompt,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}], "usage": _usage(reply), "promptops": _told(reply),
    }  # fmt: skip


def chunk(
    reply_id: str, prompt: str, created: int, delta: Mapping[str, Json], *, finish: str | None = None
) -> dict[str, Json]:
    """A piece of an answer."""
    return {
        "id": f"chatcmpl-{reply_id}", "object": "chat.completion.chunk", "created": created, "model": prompt,
        "choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}],
    }  # fmt: skip


def last_chunk(reply: "Reply", created: int, *, usage: bool) -> dict[str, Json]:
    """The end of a stream: why it ended, where the answer came from, and usage if it was asked for."""
    end = chunk(reply.request_id, reply.prompt, created, {}, finish="stop") | {"promptops": _told(reply)}
    return end | ({"usage": _usage(reply)} if usage else {})


def no_answer(reply: "Reply") -> Refusal | None:
    """The error for a reply without any text, None when there is something to show."""
    if reply.text:
        return None
    told: dict[str, Json] = {"promptops": _told(reply)}
    if reply.queued_id:
        return Refusal(
            status=503,
            message=f"queued as {reply.queued_id}: {reply.degraded}",
            kind="server_error",
            code="queued",
            extra=told,
        )
    if any(step.stage == "budget" and step.decision == "refused" for step in reply.steps):
        return Refusal(status=429, message=reply.degraded, kind="rate_limit_error", code="budget", extra=told)
    return Refusal(status=503, message=reply.degraded or "no answer", kind="server_error", code="degraded", extra=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How a reply did, as a client tells it."""

    reply_id: str
    by: str
    good: bool


def feedback_of(body: Mapping[str, Json]) -> Told:
    """Feedback on a reply. Raises Refusal; whatever else a client sends is refused, so that no text of a user is taken for kept."""
    for name in sorted(body.keys() - {"id", "by", "good"}):
        raise Refusal(status=400, message=f"{name[:80]!r} is not taken: send id, by and good", param=name[:80], code="unsupported_parameter")  # fmt: skip
    reply_id, by, good = body.get("id"), body.get("by", "thumbs"), body.get("good")
    if not isinstance(reply_id, str) or not 0 < len(reply_id) <= 100:
        raise Refusal(status=400, message="`id` is the id of an answer", param="id", code="invalid_type")
    if by not in FEEDBACK_OF_CLIENTS:
        raise Refusal(
            status=400, message=f"`by` is one of {', '.join(FEEDBACK_OF_CLIENTS)}", param="by", code="invalid_type"
        )
    if not isinstance(good, bool) and not (good is None and by != "thumbs"):
        raise Refusal(status=400, message="`good` is true or false", param="good", code="invalid_type")
    return Told(reply_id=reply_id.removeprefix("chatcmpl-"), by=by, good=bool(good))


def server_sent(event: Mapping[str, Json]) -> bytes:
    return b"data: " + canonical_json(event) + b"\n\n"


def now() -> int:
    return int(time.time())


def _told(reply: "Reply") -> dict[str, Json]:
    return {
        "version": reply.version, "source": reply.source, "degraded": reply.degraded, "cost_nanousd": reply.cost_nanousd,
        "citations": [{"id": item.id, "title": item.title} for item in reply.citations], "queued_id": reply.queued_id,
    }  # fmt: skip


def _usage(reply: "Reply") -> dict[str, int]:
    total = reply.input_tokens + reply.output_tokens
    return {"prompt_tokens": reply.input_tokens, "completion_tokens": reply.output_tokens, "total_tokens": total}


def _inputs(messages: Json, given: Json, prompt: "Prompt") -> Mapping[str, Json]:
    """Inputs of the prompt: stated as such, or the one user message, as text or as a JSON object."""
    if given is not None:
        if not isinstance(given, dict):
            raise Refusal(
                status=400,
                message="`promptops.inputs` is not an object",
                param="promptops.inputs",
                code="invalid_inputs",
            )
        if messages:
            raise Refusal(
                status=400,
                message="inputs are given twice: leave `messages` empty beside `promptops.inputs`",
                param="messages",
                code="invalid_inputs",
            )
        return given
    match messages:
        case [{"role": "user", "content": str(text)}] if messages[0].keys() <= {"role", "content", "name"}:
            pass
        case _:
            raise Refusal(status=400, param="messages", code="invalid_messages",
                          message="one message of role `user` with text is needed: the other messages are in the released prompt")  # fmt: skip
    names = sorted(prompt.input_names)
    if len(names) == 1:
        return {names[0]: text}
    try:
        value = parse_json(text)
    except (JsonError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refusal(status=400, param="messages", code="invalid_inputs",
                      message=f"this prompt has several inputs: send a JSON object with {', '.join(names)[:300]}, or `promptops.inputs`")  # fmt: skip
    return value


def _flag(value: Any, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Refusal(status=400, message=f"`{name}` is true or false", param=name, code="invalid_type")


def _text(own: Mapping[str, Json], name: str) -> str:
    value = own.get(name, "")
    if not isinstance(value, str) or len(value) > 100:
        raise Refusal(
            status=400,
            message=f"`promptops.{name}` is a text of at most 100 characters",
            param=f"promptops.{name}",
            code="invalid_type",
        )
    return value


def _deadline(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_DEADLINE_S:
        raise Refusal(
            status=400,
            message=f"`promptops.deadline_s` is above 0 and at most {MAX_DEADLINE_S:.0f}",
            param="promptops.deadline_s",
            code="invalid_type",
        )
    return float(value)
