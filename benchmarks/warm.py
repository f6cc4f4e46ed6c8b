"""A new replica beside 100,000 shared questions: until it is warm, its memory, and what lies in Redis."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import REPOSITORY, Figure

_ROWS, _TENANTS = 100_000, 50
_WORDS = ["order", "parcel", "late", "refund", "invoice", "account", "password", "change", "delivery", "address", "cancel", "charge", "twice", "card", "login", "app", "crash", "update", "price", "size", "colour"]  # fmt: skip


def warm(folder: Path) -> Iterator[Figure]:
    """Load all rows in a process of its own, three times; the bare way adds the same rows from a list in memory."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from runtime.redis_server import RedisServer

    server = RedisServer(folder)
    try:
        before = _used(server.url)
        written_s = _fill(server.url)
        size = _used(server.url) - before
        runs = [[_child(server.url, how) for how in ("shared", "list")] for _ in range(3)]
    finally:
        server.kill()
    shared, bare = ([run[place] for run in runs] for place in (0, 1))
    rows = {run["rows"] for run in shared}
    yield Figure(what=f"rows that are missing in the new replica, of {_ROWS}", unit="", value=_ROWS - min(rows), reference=0, target=0)  # fmt: skip
    for key, unit in (("cpu_s", "CPU s"), ("wall_s", "wall s")):
        yield Figure(what="until a new replica is warm", unit=unit, value=median(run[key] for run in shared), reference=median(run[key] for run in bare), target=30, max_ratio=2)  # fmt: skip
    yield Figure(what="memory of its semantic cache", unit="MiB", value=median(run["bytes"] for run in shared) / 2**20, reference=median(run["bytes"] for run in bare) / 2**20, target=512)  # fmt: skip
    yield Figure(what="a shared question in Redis", unit="bytes", value=size / _ROWS, reference=_row_bytes(), target=1_000)  # fmt: skip
    yield Figure(what="telling a question, in portions of 100", unit="CPU us", value=written_s / _ROWS * 1e6, reference=0, target=100)  # fmt: skip
    yield Figure(what="an answer of the process meanwhile, p99", unit="ms", value=median(run["p99_s"] for run in shared) * 1e3, reference=median(run["p99_s"] for run in bare) * 1e3, target=100)  # fmt: skip


def _questions() -> Iterator[Any]:
    from promptops.runtime.cache import partition_of
    from promptops.runtime.state.redis_questions import Question

    chance = random.Random(1)
    for number in range(_ROWS):
        tenant = partition_of(f"tenant-{number % _TENANTS}")
        text = " ".join(chance.choices(_WORDS, k=10)) + f" {number}"
        yield Question(tenant=tenant, partition=tenant, key=f"{number:032x}", keep_s=86_400, answer=f"sha256:{number % 997:064x}", text=text)  # fmt: skip


def _row_bytes() -> float:
    return sum(len(item.text) + len(item.answer) for item in _questions()) / _ROWS


def _fill(url: str) -> float:
    """CPU seconds of this process for telling all."""
    from promptops.runtime.state.redis import RedisState

    state, items = RedisState(url, timeout_s=5.0), list(_questions())
    questions, begun = state.questions("bench"), time.process_time()
    for start in range(0, len(items), 100):
        questions.change(items[start : start + 100])
    spent = time.process_time() - begun
    state.close()
    return spent


def _used(url: str) -> int:
    import redis

    with redis.Redis.from_url(url) as client:
        return int(client.info("memory")["used_memory"])


def _child(url: str, how: str) -> dict[str, Any]:
    found = subprocess.run([sys.executable, "-m", "benchmarks.warm", url, how], cwd=REPOSITORY, capture_output=True, text=True, check=True)  # fmt: skip
    loaded: dict[str, Any] = json.loads(found.stdout)
    return loaded


def _load(url: str, how: str) -> dict[str, Any]:
    """In the child: all rows, with a thread beside that looks similar questions up as requests do."""
    import threading

    from promptops.runtime.embedding import Embedder
    from promptops.runtime.matcher import Matcher
    from promptops.runtime.semantic import SemanticCache
    from promptops.runtime.state.redis import RedisState
    from promptops.runtime.warm import Warm

    cache = SemanticCache(Matcher(embedder=Embedder(), threshold=0.0, text_inputs=("text",)))
    items = list(_questions())
    state = RedisState(url, timeout_s=1.0)
    if how == "shared":
        del items[100:]
        state.reserved()
    stop, took = threading.Event(), []

    def ask() -> None:
        while not stop.wait(0.02):
            begun = time.perf_counter()
            cache.find(items[0].partition, items[len(took) % 100].text)
            took.append(time.perf_counter() - begun)

    thread = threading.Thread(target=ask)
    thread.start()
    memory, begun, cpu = _resident(), time.monotonic(), time.thread_time()
    if how == "shared":
        Warm(cache, state.questions("bench"), tags=(), notice=lambda *_: None).exchange()
    else:
        for item in items:
            cache.add(item.partition, item.key, item.text, answer=item.answer, ttl_s=item.keep_s, owner=item.tenant)
    wall_s, cpu_s = time.monotonic() - begun, time.thread_time() - cpu
    stop.set()
    thread.join()
    took.sort()
    return {"rows": len(cache), "cpu_s": cpu_s, "wall_s": wall_s, "bytes": _resident() - memory, "p99_s": took[int(0.99 * (len(took) - 1))]}  # fmt: skip


def _resident() -> int:
    import os

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(_load(*sys.argv[1:])))
