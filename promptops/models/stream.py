"""A streamed chat completion put together again: whole, or not at all."""

from typing import Any

from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.core.money import Price
from promptops.models.base import Answer, ModelRequest
from promptops.models.parse import parse_document


class StreamReader:
    """Feed it the bytes as they come; `answer` is the completion only if the stream ended as it should."""

    def __init__(self) -> None:
        self._rest = b""
        self._text: list[str] = []
        self._message: dict[str, Any] = {}
        self._finish: Json = None
        self._document: dict[str, Any] = {}
        self._fault = ""
        self._done = False

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and not self._done and not self._fault:
                self._event(line[5:].strip())

    def answer(self, request: ModelRequest, price: Price) -> Answer:
        """A stream without its end, or with an error in it, is no answer: what came before is not scored."""
        if self._fault or not self._done:
            return Answer(outcome="stream", detail=self._fault or "the stream ended before [DONE]")
        message = {**self._message, "content": "".join(self._text)}
        document = {**self._document, "choices": [{"message": message, "finish_reason": self._finish}]}
        return parse_document(document, request, price, b"(stream)")

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._done = True
            return
        try:
            chunk = parse_json(data)
        except JsonError as error:
            self._fault = f"an event is not JSON ({error})"
            return
        if not isinstance(chunk, dict) or chunk.get("error") is not None:
            self._fault = "the stream reported an error"
            return
        self._document |= {name: chunk[name] for name in ("model", "usage") if chunk.get(name)}
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._choice(choices[0])

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if isinstance(delta.get("content"), str):
                self._text.append(delta["content"])
            self._message |= {name: delta[name] for name in ("refusal", "tool_calls") if delta.get(name)}
        self._finish = choice.get("finish_reason") or self._finish
