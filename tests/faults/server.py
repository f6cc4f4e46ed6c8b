"""A server on 127.0.0.1 that speaks OpenAI's chat completions and does, on request, what providers do on bad days.

A script decides for each call by its number, its prompt or its key what happens to it, and answers with a `Fault`:
a coroutine function that writes to the wire. Every call is kept with its time and headers.
"""

import asyncio
import gzip
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

MEGABYTE = 1_000_000
_REASON = "Whatever"


@dataclass(slots=True, kw_only=True)
class Call:
    """One request as it arrived; `number` counts from 1, `at` is the monotonic time."""

    number: int
    at: float
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """The last message, which holds the case."""
        return str((self.body.get("messages") or self.body["input"])[-1]["content"])


@dataclass(slots=True)
class Wire:
    """The server's end of a connection, for one call."""

    call: Call
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "FaultServer"

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_client_leaves(self) -> None:
        with suppress(ConnectionError):
            await self.reader.read()
        self.server.left.append(self.call.number)

    def reset(self) -> None:
        """Close with RST instead of FIN, as a crashing or overloaded server does."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Wire], Awaitable[None]]
Script = Callable[[Call], Fault]


@dataclass
class FaultServer:
    """Runs in a thread of its own while the `with` block lasts; `left` are the calls whose client hung up first."""

    script: Script
    host: str = "127.0.0.1"
    calls: list[Call] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, self.host, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=3)  # clients that have left are noticed
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                wire = Wire(await self._read(reader), reader, writer, self)
                await self.script(wire.call)(wire)
        writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> Call:
        start = await reader.readexactly(4)
        if start != b"POST":  # a TLS handshake, for one: what follows has no end of a head
            raise ConnectionError
        head = (start + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        call = Call(number=len(self.calls) + 1, at=time.monotonic(), path=request.split()[1], headers=headers,
                    body=json.loads(body))  # fmt: skip
        self.calls.append(call)
        return call


def completion(content: Any, *, finish: Any = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
    """A chat completion object; 10 tokens in and 5 out unless `usage` says otherwise."""
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "a-model-2026-01-01",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} if usage is None else usage,
    }  # fmt: skip


def without_usage(content: str) -> dict[str, Any]:
    document = completion(content)
    del document["usage"]
    return document


def answer(content: Any = "fine", **fields: Any) -> Fault:
    """A good answer, or one with a peculiar message."""
    return document(completion(content, **fields))


def document(value: Any, *, status: int = 200, **headers: str) -> Fault:
    """Any JSON value; NaN is written as Python writes it. To a Responses call, a completion is sent in its words."""

    async def fault(wire: Wire) -> None:
        told = as_response(value) if wire.call.path.endswith("/responses") and status == 200 else value
        await raw(json.dumps(told).encode(), status=status, **headers)(wire)

    return fault


def as_response(value: Any) -> Any:
    """A chat completion as the Responses API would have answered; anything else as it is."""
    try:
        (choice,), usage = value["choices"], value["usage"]
        message, finish = choice["message"], choice["finish_reason"]
        content, calls = message["content"], message.get("tool_calls") or ()
    except (KeyError, TypeError, ValueError):
        return value
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}] if content is not None else []
    told = [part | {"type": "output_text", "logprobs": (choice.get("logprobs") or {}).get("content", [])}
            if part.get("type") == "text" else part for part in parts]  # fmt: skip
    if "refusal" in message:
        told.append({"type": "refusal", "refusal": message["refusal"]})
    output = [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": told}]
    output += [{"type": "function_call", "call_id": call.get("id"), **call["function"]} for call in calls]
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    counted = usage and isinstance(usage, dict)
    names = {
        "prompt_tokens": "input_tokens",
        "completion_tokens": "output_tokens",
        "prompt_tokens_details": "input_tokens_details",
    }
    return {
        "id": "resp_1", "object": "response", "model": value["model"], "output": output, "error": value.get("error"),
        "status": "incomplete" if finish in reasons else "completed",
        "incomplete_details": {"reason": reasons[finish]} if finish in reasons else None,
        "usage": {names[name]: count for name, count in usage.items() if name in names} if counted else usage,
        **({"created": value["created"]} if value.get("created") != 1 else {}),
    }  # fmt: skip


def failure(status: int, *, code: str = "", **headers: str) -> Fault:
    """An error object of OpenAI's with this status."""
    return document(
        {"error": {"message": "no", "type": code or "error", "code": code or None}}, status=status, **headers
    )


def raw(body: bytes, *, status: int = 200, missing: int = 0, **headers: str) -> Fault:
    """A response of these bytes; `missing` more are promised by the length, then the connection closes."""

    async def fault(wire: Wire) -> None:
        await wire.send(_head(status, {"Content-Length": str(len(body) + missing), **_named(headers)}) + body)
        if missing:
            wire.writer.close()

    return fault


def garbage(data: bytes) -> Fault:
    """Bytes that are no HTTP."""

    async def fault(wire: Wire) -> None:
        await wire.send(data)
        wire.writer.close()

    return fault


async def reset(wire: Wire) -> None:
    """Reset before the answer."""
    wire.reset()


async def reset_within(wire: Wire) -> None:
    """The model ran; the connection is reset in the middle of its answer."""
    await wire.send(_head(200, {"Content-Length": "1000"}) + b'{"choices": [')
    await asyncio.sleep(0.02)  # let what was sent leave before the reset discards it
    wire.reset()


async def hang(wire: Wire) -> None:
    """Accept and say nothing."""
    await wire.until_client_leaves()


async def drip(wire: Wire) -> None:
    """One byte a second: each read succeeds, the answer never comes."""
    body = json.dumps(completion("fine")).encode()
    leaving = asyncio.ensure_future(wire.until_client_leaves())
    await wire.send(_head(200, {"Content-Length": str(len(body))}))
    for byte in body:
        await wire.send(bytes([byte]))
        await asyncio.wait([leaving], timeout=1)
        if leaving.done():
            return


def huge(*, status: int = 200, size: int = 256 * MEGABYTE) -> Fault:
    """A body of `size` bytes."""

    async def fault(wire: Wire) -> None:
        await wire.send(_head(status, {"Content-Length": str(size)}))
        for _ in range(size // 65_536):
            await wire.send(b" " * 65_536)
        wire.writer.close()

    return fault


def bomb(*, status: int = 200, size: int = 256 * MEGABYTE) -> Fault:
    """`size` bytes, gzipped to a thousandth, to a client that asked for none of it."""
    return raw(_bomb(size // MEGABYTE), status=status, Content_Encoding="gzip")


@cache
def _bomb(megabytes: int) -> bytes:
    """A gzip file put together from one deflated megabyte, many times over (RFC 1952)."""
    block = b" " * MEGABYTE
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(megabytes):
        checksum = zlib.crc32(block, checksum)
    header, end = b"\x1f\x8b\x08" + bytes(7), packer.flush()
    return header + packed * megabytes + end + struct.pack("<II", checksum, megabytes * MEGABYTE)


def gzipped(value: Any, *, trailing: int = 0) -> Fault:
    """A compressed answer, followed by `trailing` bytes that are no part of it."""
    return raw(gzip.compress(json.dumps(value).encode()) + b"\0" * trailing, Content_Encoding="gzip")


def events(values: Iterable[Any], *, then: str = "done") -> Fault:
    """A stream of these chunks; `then` it ends with [DONE], is cut, resets, stalls, or closes as if it were whole."""

    async def fault(wire: Wire) -> None:
        await wire.send(_head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}))
        texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        for text in [*texts, "[DONE]"] if then == "done" else texts:
            data = f"data: {text}\n\n".encode()
            await wire.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        match then:
            case "done" | "close":
                await wire.send(b"0\r\n\r\n")
            case "cut":
                wire.writer.close()
            case "reset":
                await asyncio.sleep(0.02)
                wire.reset()
            case "stall":
                await wire.until_client_leaves()

    return fault


def delta(content: str | None = None, *, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a stream."""
    piece = {} if content is None else {"content": content}
    return {"model": "a-model-2026-01-01", "choices": [{"index": 0, "delta": piece | fields, "finish_reason": finish}]}


USAGE_CHUNK = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}
GOOD_STREAM = [delta("fi"), delta("ne"), delta(finish="stop"), USAGE_CHUNK]


def in_order(*faults: Fault, then: Fault) -> Script:
    """The first call gets the first fault, and so on; all later ones get `then`."""
    return lambda call: faults[call.number - 1] if call.number <= len(faults) else then


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASON}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
