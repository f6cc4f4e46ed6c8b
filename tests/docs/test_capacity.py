"""Capacity on paper: the arithmetic by hand, the rows it reads, and the Redis calls of a request counted by Redis."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from promptops.runtime.state.redis import RedisState
from promptops.runtime.testing import ScriptedModel, open_runtime
from runtime.bundles import NAME, make_bundle
from runtime.redis_groups import say
from runtime.redis_server import RedisServer
from runtime.spender import PATIENCE_S


@pytest.fixture(scope="module")
def capacity() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "docs" / "capacity.py"))


def test_what_a_rate_takes_is_as_by_hand(capacity: dict[str, Any]):
    """1,000 requests a second: 600 calls of 600 tokens at $0.000135, an hour of answers, 31 ms of Redis and 700 ms of CPU a second."""
    found = capacity["Figures"](
        miss_ms=1, hit_ms=0.1, similar_ms=0.5, event_us=20, calls_of_a_miss=4, calls_of_a_hit=1, server_us_of_a_miss=50, server_us_of_a_hit=2,
        question_bytes=400, heard_ms=0.2, case_ms=0.25, start_s=1, postgres_per_s=2_000,
    )  # fmt: skip

    load = capacity["serving"](1_000, found)

    assert {
        "calls": 600, "cores": pytest.approx(0.6 * 1.5 + 0.3 * 0.1 + 0.1 * 0.6 + 0.02), "usd_day": pytest.approx(600 * 86_400 * 0.000135), "in_flight": 600,
        "processes": 2, "redis_calls": 600 * 4 + 500 + 16, "redis_busy": pytest.approx(0.031), "tokens_minute": 600 * 60 * 600,
        "redis_gib": pytest.approx(600 * 3_600 * 2_000 / 2**30), "events_gib_day": pytest.approx(1_000 * 86_400 * 670 / 2**30), "share": 0.05,
        "similar_s": pytest.approx(100_000 / 600),
    } == load  # fmt: skip
    assert ["quota of the provider", "CPU of one process", "1,000 GiB of events (30 days)"] == [need.name for need in capacity["short"](capacity["serving_needs"](1_000, found))]  # fmt: skip


def test_what_an_evaluation_takes_is_as_by_hand(capacity: dict[str, Any]):
    """10^6 cases: $135, 251 s of CPU, 15,625 s with 64 calls in flight, 18,000 s by 2,000,000 tokens a minute, 500 s of PostgreSQL."""
    found = capacity["Figures"](
        miss_ms=1, hit_ms=1, similar_ms=1, event_us=1, calls_of_a_miss=1, calls_of_a_hit=1, server_us_of_a_miss=1, server_us_of_a_hit=1, question_bytes=1,
        heard_ms=1, case_ms=0.25, start_s=1, postgres_per_s=2_000,
    )  # fmt: skip

    load = capacity["evaluating"](10**6, found)

    assert {
        "usd": pytest.approx(135), "cpu_s": pytest.approx(251), "wait_s": 15_625, "quota_s": pytest.approx(18_000), "postgres_s": 500,
        "store_gib": pytest.approx(760e6 / 2**30), "scan_mib": pytest.approx(100e6 / 2**20),
    } == load  # fmt: skip


def test_a_request_makes_as_many_redis_calls_as_is_computed_with(capacity: dict[str, Any], tmp_path: Path):
    """Look, reserve, settle and keep for a miss, one look for a hit: as many as docs/performance.md says, counted by the server."""
    server = RedisServer(tmp_path)
    bundle = make_bundle(tmp_path, {"state_timeout_s": 5, "deadline_s": PATIENCE_S, "budgets": [{"name": "day", "window_s": 86400, "per": ["tenant"], "requests": 1000}]})  # fmt: skip
    runtime = open_runtime(
        bundle, ScriptedModel({"sentiment": "positive"}), state=RedisState(server.url, timeout_s=PATIENCE_S)
    )

    def calls(texts: list[str]) -> float:
        say(server.port, "CONFIG", "RESETSTAT")
        for text in texts:
            runtime.complete(NAME, {"feedback": text})
        workers = runtime._shared.workers
        workers.pool.shutdown(wait=True)
        workers._pool = None
        stats = say(server.port, "INFO", "commandstats")
        counted = int(stats.partition("cmdstat_evalsha:calls=")[2].partition(",")[0])
        return round(counted / len(texts))  # a thread looks at breakers once a second beside them

    calls(["first"])
    counted = calls([f"question {number}" for number in range(50)]), calls(["first"] * 50)
    runtime.close()
    server.kill()
    found = capacity["measured"]()

    assert (found.calls_of_a_miss, found.calls_of_a_hit) == counted
