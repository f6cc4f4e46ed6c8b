"""A local OpenAI-compatible server that answers at once or after a fixed latency, for measuring what is around the call.

python -m benchmarks.provider LATENCY_S PORT_FILE
"""

import asyncio
import sys
from pathlib import Path

_BODY = (b'{"model":"fixed-2026-01-01","choices":[{"message":{"content":"{\\"mood\\":\\"neutral\\",\\"text\\":\\"x\\"}"},'
         b'"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":12}}')  # fmt: skip
_HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n".encode()
_calls = 0


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency_s: float) -> None:
    global _calls  # noqa: PLW0603 - one counter for one process
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /calls"):
                count = str(_calls).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(count), count))
                continue
            length = next(
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            _calls += 1
            if latency_s:
                await asyncio.sleep(latency_s)
            writer.write(_HEAD + _BODY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(latency_s: float, port_file: Path) -> None:
    server = await asyncio.start_server(lambda r, w: _serve(r, w, latency_s), "127.0.0.1", 0)
    port_file.write_text(str(server.sockets[0].getsockname()[1]))  # noqa: ASYNC240 - once, before anybody is served
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), Path(sys.argv[2])))
