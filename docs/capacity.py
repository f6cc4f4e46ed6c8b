"""Capacity on paper: what serving and evaluating take at each size, from the figures of docs/performance.md and stated assumptions.

`docs/generate.py` writes the tables into docs/scale.md; a test compares.
"""  # noqa: INP001

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from promptops.runtime.state.redis_questions import MAX_ROWS

PERFORMANCE = Path(__file__).with_name("performance.md")

# What a service is like: change these for yours and run `python docs/generate.py`.
EXACT, SIMILAR = 0.30, 0.10
INPUT_TOKENS, OUTPUT_TOKENS = 500, 100
INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK = 0.15, 0.60
MODEL_S = 1.0
TTL_S = 3600
QUESTIONS = MAX_ROWS
ANSWER_BYTES, ENTRY_BYTES, EVENT_BYTES, STORED_CASE_BYTES = 1_000, 600, 670, 760
EVENT_DAYS = 30
# Of each process in a second: flags four times, shared questions twice, breakers and what was counted once.
LOOKS = 8
# What one unit of a resource is.
CORE_BUSY = 0.6
PROVIDER_TPM, PROVIDER_RPM = 2_000_000, 10_000
REDIS_GIB, DISK_GIB = 16, 1_000
EVALUATED_AT_ONCE = 64
DRIVER_MIB = 512
SCANNED_BYTES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Measured costs of a unit; the upper end where a range was measured."""

    miss_ms: float
    hit_ms: float
    similar_ms: float
    event_us: float
    calls_of_a_miss: float
    calls_of_a_hit: float
    server_us_of_a_miss: float
    server_us_of_a_hit: float
    question_bytes: float
    heard_ms: float
    case_ms: float
    start_s: float
    postgres_per_s: float


def measured() -> Figures:
    """The figures, read from the tables of docs/performance.md. Raises ValueError for a row that is not there."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PERFORMANCE.read_text("utf-8").splitlines()
        if line.startswith("| ")
    ]

    def of(benchmark: str, what: str, column: int = 3) -> float:
        for row in rows:
            if row[0] == benchmark and what in row[1]:
                return max(float(number.replace(",", "")) for number in re.findall(r"[\d,]*\.?\d+", row[column]))
        raise ValueError(
            f"docs/performance.md has no row of `{benchmark}` with {what!r}; docs/capacity.py computes with it"
        )

    return Figures(
        miss_ms=of("runtime", "64 in flight"), hit_ms=of("runtime", "exact hit"), similar_ms=of("runtime", "semantic hit"),
        event_us=of("service", "event of a reply"), calls_of_a_miss=of("hosts", "Redis calls of a miss"), calls_of_a_hit=of("hosts", "Redis calls of a hit"),
        server_us_of_a_miss=of("hosts", "time of the server for a miss"), server_us_of_a_hit=of("hosts", "time of the server for a hit"),
        question_bytes=of("warm", "a shared question in Redis"), heard_ms=of("warm", "questions is warm") / 100, case_ms=of("calls", "10,000 cases"), start_s=of("calls", "the start ("),
        postgres_per_s=1000 / of("writers", "a result, 200 writers, 1 call"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """How many units of a resource a load takes, and what relieves it when one is not enough."""

    name: str
    units: float
    relief: str


def call_usd() -> float:
    return (INPUT_TOKENS * INPUT_USD_PER_MTOK + OUTPUT_TOKENS * OUTPUT_USD_PER_MTOK) / 1e6


def serving(rate: float, found: Figures) -> dict[str, float]:
    """What `rate` requests a second take."""
    asked = rate * (1 - EXACT - SIMILAR)
    # A question that finds nothing exact is looked up among the similar ones as well; a similar hit reads its answer, too.
    core_ms = (
        asked * (found.miss_ms + found.similar_ms)
        + rate * EXACT * found.hit_ms
        + rate * SIMILAR * (found.hit_ms + found.similar_ms)
    )
    redis_calls = asked * found.calls_of_a_miss + rate * (EXACT + 2 * SIMILAR) * found.calls_of_a_hit
    redis_us = asked * found.server_us_of_a_miss + rate * (EXACT + 2 * SIMILAR) * found.server_us_of_a_hit
    processes = max(2, ceil((core_ms + rate * found.event_us / 1e3) / 1e3 / CORE_BUSY))
    return {
        "calls": asked, "cores": (core_ms + rate * found.event_us / 1e3) / 1e3, "usd_day": asked * 86_400 * call_usd(), "in_flight": asked * MODEL_S, "processes": processes,
        "redis_calls": redis_calls + processes * LOOKS, "redis_busy": redis_us / 1e6, "tokens_minute": asked * 60 * (INPUT_TOKENS + OUTPUT_TOKENS),
        "redis_gib": asked * TTL_S * (ANSWER_BYTES + ENTRY_BYTES + found.question_bytes) / 2**30, "events_gib_day": rate * 86_400 * EVENT_BYTES / 2**30,
        "share": 0.1 / processes, "similar_s": min(TTL_S, QUESTIONS / asked),
    }  # fmt: skip


def serving_needs(rate: float, found: Figures) -> list[Need]:
    load = serving(rate, found)
    return [
        Need(name="quota of the provider", units=max(load["tokens_minute"] / PROVIDER_TPM, load["calls"] * 60 / PROVIDER_RPM), relief="a higher quota; more hits (a longer `ttl_s`, a calibrated matcher); a second provider as `small`"),
        Need(name="CPU of one process", units=load["cores"] / CORE_BUSY, relief="more processes; they share budgets, answers and flags"),
        Need(name="CPU of each process for hearing the questions of all", units=load["calls"] * found.heard_ms / 1e3 / CORE_BUSY, relief="a `?namespace=` for each service or group of tenants, or `cache: {semantic: false}`"),
        Need(name="one core of Redis", units=load["redis_busy"] / CORE_BUSY, relief="`redis+cluster://`: answers spread by tenant, meters by prompt; a server for each service"),
        Need(name=f"{REDIS_GIB} GiB of Redis", units=load["redis_gib"] / REDIS_GIB, relief="a shorter `ttl_s`, or a cluster"),
        Need(name=f"{DISK_GIB:,} GiB of events ({EVENT_DAYS} days)", units=load["events_gib_day"] * EVENT_DAYS / DISK_GIB, relief="shorter retention, or a collector: OpenTelemetry or Prometheus instead of lines"),
    ]  # fmt: skip


def evaluating(cases: float, found: Figures) -> dict[str, float]:
    """What an evaluation of so many cases takes, one draw each, nothing answered before."""
    return {
        "usd": cases * call_usd(), "cpu_s": found.start_s + cases * found.case_ms / 1e3, "wait_s": cases * MODEL_S / EVALUATED_AT_ONCE,
        "quota_s": cases * 60 * max(1 / PROVIDER_RPM, (INPUT_TOKENS + OUTPUT_TOKENS) / PROVIDER_TPM),
        "store_gib": cases * STORED_CASE_BYTES / 2**30, "postgres_s": cases / found.postgres_per_s, "scan_mib": cases * SCANNED_BYTES / 2**20,
    }  # fmt: skip


def evaluating_needs(cases: float, found: Figures) -> list[Need]:
    """In units of an hour (time), of the driver's memory, of a disk."""
    load = evaluating(cases, found)
    return [
        Need(name=f"{EVALUATED_AT_ONCE} calls in flight", units=load["wait_s"] / 3600, relief="a higher `concurrency`, as far as the quota goes"),
        Need(name="quota of the provider", units=load["quota_s"] / 3600, relief="a higher quota; fewer cases where the gate does not need them (`eval` draws again only where it is undecided)"),
        Need(name="CPU of one process", units=load["cpu_s"] / 3600, relief="`--engine ray`: processes on several machines work on one plan"),
        Need(name="writing to one PostgreSQL", units=load["postgres_s"] / 3600, relief="more calls at once: a statement then has more rows"),
        Need(name=f"memory of the scan, {DRIVER_MIB} MiB", units=load["scan_mib"] / DRIVER_MIB, relief="cut the golden file in several prompts or runs"),
        Need(name=f"{DISK_GIB:,} GiB of store", units=load["store_gib"] / DISK_GIB, relief="large texts in a bucket; `runs delete`"),
    ]  # fmt: skip


def short(needs: Sequence[Need]) -> list[Need]:
    """The resources of which one unit is not enough, the shortest first."""
    return sorted((need for need in needs if need.units > 1), key=lambda need: -need.units)


def tables() -> dict[str, str]:
    """The generated parts of docs/scale.md."""
    found = measured()
    return {"capacity-units": _units(found), "capacity-serving": _serving(found), "capacity-evaluating": _evaluating(found)}  # fmt: skip


def _units(found: Figures) -> str:
    rows = [
        ("a request that asks a model", f"{found.miss_ms} ms of CPU, {found.calls_of_a_miss:g} Redis calls that take the server {found.server_us_of_a_miss:g} us"),
        ("an exact hit", f"{found.hit_ms} ms of CPU, {found.calls_of_a_hit:g} Redis call, {found.server_us_of_a_hit:g} us"),
        ("looking among similar questions", f"{found.similar_ms} ms of CPU, one more Redis call when it hits"),
        ("an event of a reply", f"{found.event_us:g} us of CPU, {EVENT_BYTES} bytes"),
        ("a cached answer in Redis", f"{ANSWER_BYTES:,} bytes of answer, {ENTRY_BYTES} beside it, {found.question_bytes:g} for its question; kept {TTL_S // 60} minutes"),
        ("a case of an evaluation", f"{found.case_ms} ms of CPU, {STORED_CASE_BYTES} bytes of store, {SCANNED_BYTES} bytes of memory while the file is scanned"),
        ("a model call", f"{INPUT_TOKENS} + {OUTPUT_TOKENS} tokens at ${INPUT_USD_PER_MTOK:.2f} and ${OUTPUT_USD_PER_MTOK:.2f} a million: ${call_usd():.6f}; {MODEL_S:g} s"),
        ("of all requests", f"{EXACT:.0%} are exact hits, {SIMILAR:.0%} similar ones, {1 - EXACT - SIMILAR:.0%} ask a model"),
        ("a core", f"is planned to be {CORE_BUSY:.0%} busy"),
        ("a provider", f"allows {PROVIDER_RPM:,} calls and {PROVIDER_TPM:,} tokens a minute"),
    ]  # fmt: skip
    return _table(("unit", "taken as"), rows)


def _serving(found: Figures) -> str:
    rows, lines = [], []
    for rate in (10, 100, 1_000, 10_000):
        load = serving(rate, found)
        rows.append((
            f"{rate:,}", f"{load['calls']:,.0f}", _usd(load["usd_day"]), f"{load['in_flight']:,.0f}", f"{load['processes']:,.0f}", f"{load['redis_calls']:,.0f}",
            f"{load['redis_busy']:.1%}", f"{load['redis_gib']:.1f} GiB", f"{load['events_gib_day']:.1f} GiB", f"{load['share']:.1%}", _time(load["similar_s"]),
        ))  # fmt: skip
        lines.append(_bottlenecks(f"{rate:,} requests/s", serving_needs(rate, found)))
    head = ("requests/s", "model calls/s", "cost a day", "in flight", "processes", "Redis calls/s", "Redis core", "Redis memory", "events a day", "`local_share` for 10 %", "similar questions of the last")  # fmt: skip
    return (
        _table(head, rows)
        + "\n\nThe first bottleneck at each step, the next ones, and what relieves them:\n\n"
        + "\n".join(lines)
    )


def _evaluating(found: Figures) -> str:
    rows, lines = [], []
    for power in range(3, 9):
        load = evaluating(10**power, found)
        rows.append((
            f"10^{power}", _usd(load["usd"]), _time(load["cpu_s"]), _time(load["wait_s"]), _time(load["quota_s"]), _time(load["postgres_s"]),
            f"{load['store_gib']:,.3f} GiB", f"{load['scan_mib']:,.1f} MiB",
        ))  # fmt: skip
        lines.append(_bottlenecks(f"10^{power} cases", evaluating_needs(10**power, found)))
    head = ("cases", "cost", "CPU", f"{EVALUATED_AT_ONCE} in flight", "by the quota", "one PostgreSQL", "store", "scan")
    return _table(head, rows) + "\n\nThe first bottleneck where an hour is allowed, the next ones, and what relieves them:\n\n" + "\n".join(lines)  # fmt: skip


def _bottlenecks(what: str, needs: Sequence[Need]) -> str:
    found = short(needs)
    if not found:
        return f"* **{what}**: none, one of each is enough."
    return "\n".join(
        [
            f"* **{what}**",
            *(
                f"    {place}. {need.name}, {need.units:,.1f} times what there is: {need.relief}."
                for place, need in enumerate(found, 1)
            ),
        ]
    )


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def _time(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= size * 1.5:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    return "\n".join([line(head), line(["---"] * len(head)), *(line(row) for row in rows)])
