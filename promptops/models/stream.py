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
        self._calls: dict[Any, dict[str, str]] = {}
        self._logprobs: list[Json] = []
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
        calls = [{"function": function} for function in self._calls.values()]
        message = {**self._message, "content": "".join(self._text), **({"tool_calls": calls} if calls else {})}
        choice = {"message": message, "finish_reason": self._finish, "logprobs": {"content": self._logprobs}}
        document = {**self._document, "choices": [choice]}
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
            if delta.get("refusal"):
                self._message["refusal"] = f"{self._message.get('refusal', '')}{delta['refusal']}"
            for piece in delta.get("tool_calls") or ():
                self._call(piece)
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self._logprobs += logprobs["content"]
        self._finish = choice.get("finish_reason") or self._finish

    def _call(self, piece: Json) -> None:
        """A tool call comes as a name and then its arguments in pieces, told apart by an index."""
        function = piece.get("function") if isinstance(piece, dict) else None
        if not isinstance(function, dict):
            self._fault = "a tool call that is none"
            return
        index = piece.get("index", 0)
        call = self._calls.setdefault(index if isinstance(index, int) else 0, {"name": "", "arguments": ""})
        for name in call:
            if isinstance(function.get(name), str):
                call[name] += function[name]
