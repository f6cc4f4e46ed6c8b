"""The runtime: what it adds to a bare call, hits, throughput, import, memory, and 10,000 requests under faults."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.corpus import NAME, make_project
from benchmarks.measure import REPOSITORY, Figure
from benchmarks.model_runs import provider

PYTHON = sys.executable
_MODEL = """
[models.fixed]
provider = "openai"
model = "fixed-2026-01-01"
base_url = "http://127.0.0.1:9/v1"
input_usd_per_mtok = "0.15"
output_usd_per_mtok = "0.60"
"""
_EVERYTHING: Mapping[str, Any] = {
    "deadline_s": 60, "timeout": {"min_s": 30, "max_s": 30}, "fallback": [{"step": "stale"}, {"step": "text", "text": "later"}],
    "budgets": [{"name": "tenant-calls", "window_s": 3600, "requests": 10**9, "tokens": 10**12, "usd": "1000000", "soft": 0.9},
                {"name": "feature-money", "window_s": 86400, "per": ["feature", "model"], "usd": "1000000"}],
}  # fmt: skip


def runtime(folder: Path) -> Iterator[Figure]:
    """CPU a request, one in flight and 64, against a bare aiohttp call in a process of its own; hits; import; memory."""
    full, lean = make_bundle(folder / "full"), make_bundle(folder / "lean", dict(_EVERYTHING))
    with provider(folder, 0) as port:
        url = f"http://127.0.0.1:{port}/v1"
        one = _in_turn(3, ("aiohttp", lean, url, 1_000, 1), ("runtime", lean, url, 1_000, 1), ("runtime", full, url, 1_000, 1))  # fmt: skip
        bare, most, every = ({key: median(run[key] for run in runs) for key in ("p50_s", "p99_s")} for runs in one)
        for found, stages in ((most, "all but semantic"), (every, "semantic too")):
            for key, target in (("p50_s", 1.0), ("p99_s", 2.0)):
                yield Figure(what=f"added to a bare call, {stages}, {key[:3]}", unit="CPU ms", value=(found[key] - bare[key]) * 1e3, reference=bare[key] * 1e3, target=target)  # fmt: skip
        many = _in_turn(3, ("aiohttp", lean, url, 2_000, 64), ("runtime", lean, url, 2_000, 64))
        fast, slow = (median(run["cpu_s"] for run in runs) * 1e3 for runs in many)
        yield Figure(what="a request, 64 in flight (2.5x: 0.4 throughput)", unit="CPU ms", value=slow, reference=fast, target=10, max_ratio=2.5)  # fmt: skip
        hit = median(run["p50_s"] for run in _in_turn(3, ("hits", lean, url, 2_000, 1))[0])
        yield Figure(what="exact hit in 100,000 entries, p50", unit="CPU ms", value=hit * 1e3, reference=bare["p50_s"] * 1e3, target=0.15)  # fmt: skip
    package, whole, nothing = (median(run["cpu_s"] for run in runs) for runs in _in_turn(5, ("package", lean, "-", 0, 0), ("import", lean, "-", 0, 0), ("asyncio", lean, "-", 0, 0)))  # fmt: skip
    yield Figure(what="import promptops.runtime", unit="CPU ms", value=package * 1e3, reference=0, target=60)
    yield Figure(what="from promptops.runtime import Runtime", unit="CPU ms", value=whole * 1e3, reference=nothing * 1e3, target=60)  # fmt: skip
    (memory,) = _in_turn(1, ("memory", lean, "-", 100_000, 0))[0]
    payload = memory["payload"] / 2**20
    yield Figure(what="100,000 cached answers beyond 1 kB each", unit="MiB", value=memory["bytes"] / 2**20, reference=payload, target=payload)  # fmt: skip
    with provider(folder, 0) as port:
        (near,) = _in_turn(1, ("similar", full, f"http://127.0.0.1:{port}/v1", 200, 1))[0]
    yield Figure(what="semantic hit in 100,000 entries, p50", unit="CPU ms", value=near["p50_s"] * 1e3, reference=bare["p50_s"] * 1e3, target=1.0)  # fmt: skip


def runtime_faults(folder: Path) -> Iterator[Figure]:
    """10,000 requests, 200 in flight, of which one in ten meets a reset, an error, a limit, a hang, garbage or truncation."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from faults import server as provider

    good = provider.answer('{"mood": "neutral", "text": "x"}')
    bad = [provider.reset, provider.failure(500), provider.failure(429), provider.hang, provider.garbage(b"\0"), provider.answer("x", finish="length")]  # fmt: skip
    bundle = make_bundle(folder, {**_EVERYTHING, "deadline_s": 3, "timeout": {"max_s": 1, "min_s": 0.3}, "cache": {"ttl_s": 0}, "breaker": {"error_rate": 1}})  # fmt: skip
    with provider.FaultServer(lambda call: bad[call.number // 10 % 6] if call.number % 10 == 0 else good) as server:
        replies = asyncio.run(_ask_all(bundle, server.url, 10_000, 200))
        calls = len(server.calls)
    late = sum(reply.latency_s > 3.05 for reply in replies)
    yield Figure(what="requests without a reply, of 10,000 under faults", unit="", value=10_000 - len(replies), reference=0, target=0)  # fmt: skip
    yield Figure(what="replies later than the deadline of 3 s + 50 ms", unit="", value=late, reference=0, target=0)
    yield Figure(what="model calls for 10,000 requests", unit="", value=calls, reference=10_000, target=12_000)


async def _ask_all(bundle: str, url: str, count: int, in_flight: int) -> list[Any]:
    from promptops.runtime import Endpoint, Runtime

    served = Runtime.load(bundle, allow_unsigned=True, models=Endpoint(base_url=url))
    numbers, found = iter(range(count)), []

    async def work() -> None:
        for number in numbers:
            reply = await served.acomplete(NAME, {"ticket": f"Where is parcel {number}?"})
            found.append(reply)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    await served.aclose()
    return found


RUNTIME: Mapping[str, Callable[[Path], Iterator[Figure]]] = {"runtime": runtime, "runtime_faults": runtime_faults}


def make_bundle(folder: Path, settings: Mapping[str, Any] = _EVERYTHING) -> str:
    """A development bundle with every stage on: checks online, a router that sends all to one model, a matcher that always agrees."""
    from promptops.project.project import open_project
    from promptops.release.export import Served, bundle_files, shipped_at, write_bundle
    from promptops.runtime.embedding import Embedder
    from promptops.runtime.matcher import Matcher

    root = make_project(folder / "project", 20)
    (root / "promptops.toml").write_text('default_model = "fixed"\n' + _MODEL)
    suite = root / f"golden/{NAME}.yaml"
    text = suite.read_text().replace("{check: json_schema}", "{check: json_schema, online: true}\n  - {check: length, max: 2000, online: true}")  # fmt: skip
    suite.write_text(text + f"runtime: {json.dumps(settings)}\n")
    matcher = Matcher(embedder=Embedder(), threshold=-1e6, text_inputs=("ticket",), audit_share=0.0)
    if settings is _EVERYTHING:
        (root / f"prompts/{NAME}/cache.json").write_text(json.dumps(matcher.as_json()))
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=b", "-c", "user.email=b@example.com", "commit", "-qm", "x"]):  # fmt: skip
        subprocess.run(["git", *command], cwd=root, check=True)
    project = open_project(root)
    files = bundle_files([Served(live=shipped_at(project, NAME, at="HEAD", version="dev-bench"))], channel="", development=True)  # fmt: skip
    write_bundle(files, folder / "bundle", as_archive=False)
    return str(folder / "bundle")


def _in_turn(times: int, *ways: tuple[str, str, str, int, int]) -> list[list[dict[str, Any]]]:
    """What each way printed, alternately, so that a busy moment of the machine hits all of them."""
    rounds = [[_child(*way) for way in ways] for _ in range(times)]
    return [list(found) for found in zip(*rounds, strict=True)]


def _child(kind: str, bundle: str, url: str, count: int, in_flight: int) -> dict[str, Any]:
    arguments = [PYTHON, "-m", "benchmarks.runtime_calls", kind, bundle, url, str(count), str(in_flight)]
    done = subprocess.run(arguments, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
