"""One process that answers requests, bare or through the runtime, and prints what each cost.

python -m benchmarks.runtime_calls aiohttp|runtime|hits|similar|package|import|asyncio|memory BUNDLE URL N IN_FLIGHT
"""

import asyncio
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

_WARM = 200
_IMPORTS = {
    "package": "import promptops.runtime",
    "import": "from promptops.runtime import Runtime",
    "asyncio": "import asyncio, tarfile, sqlite3",
}
_WORDS = Path(__file__).with_name("corpus.py").read_text("utf-8").replace('"', " ").split()
TEXT = "My parcel %d was to come on Monday, and the tracking page has said the same for three days now. What happened to it?"


def main(kind: str, bundle: str, url: str, count: int, in_flight: int) -> None:
    if kind in _IMPORTS:
        found = subprocess.run([sys.executable, "-c", f"import time; s = time.process_time(); {_IMPORTS[kind]}; print(time.process_time() - s)"], check=True, capture_output=True, text=True)  # fmt: skip
        print(json.dumps({"cpu_s": float(found.stdout)}))
        return
    if kind == "memory":
        print(json.dumps(_memory(count)))
        return
    print(json.dumps(asyncio.run(_measured(kind, bundle, url, count, in_flight))))


def varied(number: int) -> str:
    """A text of 20 words, unlike the others: what a shop is asked all day is not one sentence."""
    pick = random.Random(number)
    return " ".join(pick.choice(_WORDS) + pick.choice(("", "s", "ing", "ed", str(number % 89))) for _ in range(20))


async def _measured(kind: str, bundle: str, url: str, count: int, in_flight: int) -> dict[str, Any]:
    """CPU seconds of each request when one is in flight, and of all together."""
    ask, close = await {"aiohttp": _aiohttp, "runtime": _runtime, "hits": _hits, "similar": _similar}[kind](bundle, url, count)  # fmt: skip
    each: list[float] = []
    numbers = iter(range(_WARM))

    async def work(record: bool) -> None:
        for number in numbers:
            started = time.process_time()
            await ask(number)
            if record:
                each.append(time.process_time() - started)

    await work(False)
    numbers = iter(range(_WARM, _WARM + count))
    started = time.process_time()
    await asyncio.gather(*(work(in_flight == 1) for _ in range(in_flight)))
    total = time.process_time() - started
    await close()
    each.sort()
    return {"cpu_s": total / count, "p50_s": each[len(each) // 2] if each else None, "p99_s": each[int(len(each) * 0.99)] if each else None}  # fmt: skip


Ask = Callable[[int], Awaitable[object]]


async def _aiohttp(_: str, url: str, __: int) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    import aiohttp

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def ask(number: int) -> object:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": varied(number)}]})
        async with session.post(f"{url}/chat/completions", data=body, headers={"Content-Type": "application/json"}) as response:  # fmt: skip
            return json.loads(json.loads(await response.read())["choices"][0]["message"]["content"])["mood"]

    return ask, session.close


async def _open(bundle: str, url: str) -> Any:
    from promptops.runtime import Endpoint, Runtime

    return Runtime.load(bundle, allow_unsigned=True, models=Endpoint(base_url=url))


async def _runtime(bundle: str, url: str, _: int) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    runtime = await _open(bundle, url)

    async def ask(number: int) -> object:
        reply = await runtime.acomplete(
            "ticket-mood", {"ticket": varied(number)}, tenant=f"t{number % 50}", feature="inbox"
        )
        assert reply.source == "model", reply
        return reply

    return ask, runtime.aclose


async def _hits(bundle: str, url: str, _: int) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    """Exact hits among 100,000 entries."""
    runtime = await _open(bundle, url)
    state = runtime._shared.state  # noqa: SLF001 - filled directly, to measure hits and not the filling
    for number in range(100_000):
        state.put("other", str(number), b"x" * 100, keep_s=1e6)
    for number in range(20):
        await runtime.acomplete("ticket-mood", {"ticket": TEXT % number})

    async def ask(number: int) -> object:
        reply = await runtime.acomplete("ticket-mood", {"ticket": TEXT % (number % 20)})
        assert reply.source == "cache", reply
        return reply

    return ask, runtime.aclose


async def _similar(bundle: str, url: str, _: int) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    """Semantic hits among 99,000 entries (at 100,000 the oldest go) of one tenant, with the matcher of the bundle."""
    runtime = await _open(bundle, url)
    lane = runtime._serving.live["ticket-mood"]  # noqa: SLF001
    await runtime.acomplete("ticket-mood", {"ticket": TEXT % 1})
    from promptops.runtime.base import Request

    place = lane.semantic_partition(Request(id="", prompt="ticket-mood", inputs={"ticket": ""}))
    for number in range(99_000):
        lane.semantic.add(place, str(number), varied(number), answer="x", ttl_s=1e6)

    async def ask(number: int) -> object:
        reply = await runtime.acomplete("ticket-mood", {"ticket": (TEXT % 1) + " " * (number + 1)})
        assert reply.source == "semantic", reply
        return reply

    return ask, runtime.aclose


def _memory(count: int) -> dict[str, Any]:
    """Resident bytes that `count` cached answers of 1 kB take beyond the answers themselves."""
    from promptops.runtime.cache import Kept, partition_of, tags_of
    from promptops.runtime.state import MemoryState

    state = MemoryState()
    partition = partition_of("default")
    before = _resident()
    for number in range(count):
        text = f"{number:08}" + "x" * 992
        state.put(partition, f"{number:032x}", Kept(text=text, model="m").as_bytes(), keep_s=1e6, tags=tags_of("mood", "v1.0.0", "default", ()))  # fmt: skip
    return {"bytes": _resident() - before - count * 1000, "payload": count * 1000}


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
