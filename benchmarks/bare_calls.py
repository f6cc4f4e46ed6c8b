"""The bare loops of model runs: N calls with 64 in flight, the answer read, nothing checked and nothing kept.

python -m benchmarks.bare_calls aiohttp|openai URL N GOLDEN
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

_IN_FLIGHT = 64


async def main(kind: str, url: str, count: int, golden: Path) -> None:
    with golden.open() as file:
        texts = iter([json.loads(line)["inputs"]["ticket"] for _, line in zip(range(count), file, strict=False)])
    await {"aiohttp": _aiohttp, "openai": _openai}[kind](url, texts)


async def _aiohttp(url: str, texts: object) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(text: str) -> None:
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
            async with session.post(
                f"{url}/chat/completions", data=body, headers={"Content-Type": "application/json"}
            ) as response:
                json.loads(await response.read())["choices"][0]["message"]["content"]

        await _in_flight(ask, texts)


async def _openai(url: str, texts: object) -> None:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)

    async def ask(text: str) -> None:
        found = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        found.choices[0].message.content  # noqa: B018 - what a user would read

    await _in_flight(ask, texts)


async def _in_flight(ask: Callable[[str], Awaitable[None]], texts: object) -> None:
    async def work() -> None:
        for text in texts:
            await ask(text)

    await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
