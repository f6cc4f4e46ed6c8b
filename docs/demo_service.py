# ruff: noqa: INP001
"""The end of `make demo`: 200 people ask a service at once, and the model behind it fails half-way.

python docs/demo_service.py BUNDLE
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from promptops.core.money import format_usd
from promptops.runtime import Endpoint, Reply, Runtime

PROMPT = "support-triage"
PEOPLE = 200
WORKS_FOR = 100
"""Calls that the model answers before it goes down."""


class Provider:
    """An OpenAI-compatible server on this machine: it answers by the rules of the prompt, then resets every connection."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer, self.calls = answer, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))  # fmt: skip
                asked = json.loads(await reader.readexactly(length))
                self.calls += 1
                if self.calls > WORKS_FOR:
                    break
                await asyncio.sleep(0.05)
                body = json.dumps({
                    "model": asked["model"], "usage": {"prompt_tokens": 420, "completion_tokens": 60},
                    "choices": [{"message": {"content": self.answer(asked["messages"][-1]["content"])}, "finish_reason": "stop"}],
                }).encode()  # fmt: skip
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)  # fmt: skip
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.transport.abort()


def open_cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("golden/support-triage.jsonl").read_text("utf-8").splitlines()]


async def main(bundle: str, cases: list[dict[str, Any]]) -> None:
    """Ask for everybody, at once, and print what they got."""
    right = {case["inputs"]["ticket"]: json.dumps(case["expected"], ensure_ascii=False) for case in cases}
    provider = Provider(lambda prompt: next((answer for ticket, answer in right.items() if ticket in prompt), "{}"))
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    runtime = Runtime.load(bundle, models=Endpoint(base_url=url), allow_unsigned=True)
    replies = await asyncio.gather(*(
        runtime.acomplete(PROMPT, cases[number * 7 % len(cases)]["inputs"], tenant=f"shop-{number % 4}") for number in range(PEOPLE)
    ))  # fmt: skip
    await runtime.aclose()
    server.close()
    show(replies, provider.calls)


def show(replies: list[Reply], calls: int) -> None:
    """Answers, degraded answers and their reasons, cost, p99."""
    whole = [reply for reply in replies if not reply.degraded]
    late = sorted(reply.latency_s for reply in replies)
    cost = format_usd(sum(reply.cost_nanousd for reply in replies))
    say(f"{len(replies)} people asked at once: {len(whole)} got the model's answer, {len(replies) - len(whole)} a degraded one, 0 an error.")  # fmt: skip
    for (source, why), count in Counter((reply.source, reply.degraded) for reply in replies).most_common():
        say(f"  {count:4}  from {source}{': ' + why if why else ''}")
    say(f"model calls {calls}, cost {cost} at the price of gpt-4o-mini (lost calls counted in full), p50 {late[len(late) // 2]:.2f} s, p99 {late[int(len(late) * 0.99)]:.2f} s")  # fmt: skip


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], open_cases()))
