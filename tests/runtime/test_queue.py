"""The queue for requests nobody could answer: one contract for SQLite and Redis, and honest errors."""

import multiprocessing
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from promptops.core.errors import DataError
from promptops.runtime.queue import Counts, DurableQueue, Job, open_queue
from promptops.runtime.queue.base import MAX_PAYLOAD_BYTES, MAX_TRIES
from promptops.runtime.queue.redis import RedisQueue
from promptops.runtime.queue.sqlite import SqliteQueue
from promptops.runtime.state import StateError
from runtime.redis_server import RedisServer
from runtime.spender import PATIENCE_S, empty_queue

MAX_JOBS = 12


@pytest.fixture(params=["sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "redis":
        return request.getfixturevalue("redis_server").url, request.getfixturevalue("namespace")
    return "sqlite", str(tmp_path / "queue.sqlite3")


@pytest.fixture
def queue(where: tuple[str, str]) -> Iterator[DurableQueue]:
    kind, detail = where
    made: DurableQueue = (
        SqliteQueue(Path(detail), max_jobs=MAX_JOBS, timeout_s=PATIENCE_S)
        if kind == "sqlite"
        else RedisQueue(kind, namespace=detail, max_jobs=MAX_JOBS, timeout_s=PATIENCE_S)
    )
    yield made
    made.close()


def seen(jobs: tuple[Job, ...]) -> list[tuple[str, bytes, int]]:
    return [(job.key, job.payload, job.tries) for job in jobs]


def test_jobs_come_in_the_order_they_were_kept(queue: DurableQueue):
    """Oldest first, each to one taker, with its payload byte for byte."""
    ids = [queue.put(f"k{number}", bytes([number, 0, 255])) for number in range(3)]
    first, rest, none = queue.take(lease_s=60), queue.take(lease_s=60, most=9), queue.take(lease_s=60)

    assert [("k0", b"\x00\x00\xff", 1)] == seen(first)
    assert [("k1", b"\x01\x00\xff", 1), ("k2", b"\x02\x00\xff", 1)] == seen(rest)
    assert () == none
    assert ids == [job.id for job in (*first, *rest)]


def test_an_empty_queue_has_nothing(queue: DurableQueue):
    """Before anything was kept, too."""
    assert ((), Counts(waiting=0, taken=0, dead=0), ()) == (queue.take(lease_s=60), queue.counts(), queue.jobs(9))


def test_T23_a_key_is_kept_once(queue: DurableQueue):
    """While it waits, while it is worked on, and after it is done: the same id, and no second job."""
    ids = [queue.put("k", b"1"), queue.put("k", b"2")]
    (job,) = queue.take(lease_s=60)
    ids.append(queue.put("k", b"3"))
    queue.done(job)
    ids.append(queue.put("k", b"4"))

    assert ([job.id] * 4, b"1", ()) == (ids, job.payload, queue.take(lease_s=60))


def test_T23_a_job_whose_worker_died_is_taken_again(queue: DurableQueue):
    """At least once: a lease that ended gives the job to the next."""
    queue.put("k", b"1")
    queue.take(lease_s=0)

    assert [("k", b"1", 2)] == seen(queue.take(lease_s=60))
    assert () == queue.take(lease_s=60)


def test_a_job_that_is_given_back_waits_and_says_why(queue: DurableQueue):
    """`again` sets when and keeps the reason for whoever lists the queue."""
    queue.put("now", b"1")
    queue.put("later", b"2")
    now, later = queue.take(lease_s=60, most=2)
    queue.again(now, after_s=0, reason="provider is down")
    queue.again(later, after_s=600, reason="quota\nused up")
    listed = [(job.key, job.state, job.tries, job.reason) for job in queue.jobs(9)]
    counts = queue.counts()

    assert Counts(waiting=2, taken=0, dead=0) == counts
    assert [("now", "waiting", 1, "provider is down"), ("later", "waiting", 1, "quota\nused up")] == listed
    assert [("now", b"1", 2)] == seen(queue.take(lease_s=60, most=9))


def test_whoever_lost_the_lease_cannot_give_the_job_back(queue: DurableQueue):
    """A slow worker does not disturb the next one; what it finished is finished."""
    queue.put("k", b"1")
    (slow,) = queue.take(lease_s=0)
    (fast,) = queue.take(lease_s=60)
    queue.again(slow, after_s=0, reason="too late")
    between = queue.take(lease_s=60)
    queue.done(slow)

    assert ((), Counts(waiting=0, taken=0, dead=0)) == (between, queue.counts())
    queue.done(fast)


@pytest.mark.parametrize("answers", [True, False])
def test_T23_a_job_that_always_fails_is_put_aside(queue: DurableQueue, answers: bool):
    """After five tries it is dead, with its reason, whether its workers said so or never came back; the others go on."""
    queue.put("poison", b"1")
    queue.put("good", b"2")
    for _ in range(MAX_TRIES):
        (job,) = queue.take(lease_s=0)
        assert "poison" == job.key
        if answers:
            queue.again(job, after_s=0, reason="cannot be answered")
    (good,) = queue.take(lease_s=60)
    counts = queue.counts()
    dead = queue.jobs(9)[0]

    assert ("good", Counts(waiting=0, taken=1, dead=1)) == (good.key, counts)
    reason = "cannot be answered" if answers else "its workers did not come back"
    assert ("poison", b"1", "dead", MAX_TRIES, reason) == (dead.key, dead.payload, dead.state, dead.tries, dead.reason)


def test_T23_a_full_queue_says_so_and_keeps_what_it_has(queue: DurableQueue):
    """Never claimed queued: an error with the number, and room again when one is done; known keys are still known."""
    ids = [queue.put(str(number), b"1") for number in range(MAX_JOBS)]
    with pytest.raises(StateError, match=f"the queue is full: {MAX_JOBS} jobs"):
        queue.put("one more", b"1")
    known = queue.put("3", b"1")
    queue.done(queue.take(lease_s=60)[0])

    assert (ids[3], True) == (known, bool(queue.put("one more", b"1")))


def test_T23_a_payload_that_is_too_large_is_refused(queue: DurableQueue):
    """A bound for one job, as for their number."""
    with pytest.raises(StateError, match="is more than"):
        queue.put("k", b"x" * (MAX_PAYLOAD_BYTES + 1))

    assert Counts(waiting=0, taken=0, dead=0) == queue.counts()


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", "x" * 10_000, "é", "e\u0301"])
def test_any_text_is_a_key(queue: DurableQueue, key: str):
    """Keys are compared as they are."""
    queue.put(key, b"1")
    queue.put(key + "'", b"2")

    assert [key, key + "'"] == [job.key for job in queue.take(lease_s=60, most=9)]


def test_T23_workers_in_many_processes_share_the_jobs(where: tuple[str, str], queue: DurableQueue):
    """Every job is done, and none by two workers whose leases hold."""
    for number in range(MAX_JOBS):
        queue.put(str(number), b"1")
    context = multiprocessing.get_context("spawn")
    worked = context.Queue()
    processes = [context.Process(target=empty_queue, args=(where, worked)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    found = [worked.get(timeout=PATIENCE_S) for _ in range(MAX_JOBS)]

    assert (sorted(map(str, range(MAX_JOBS))), True, Counts(waiting=0, taken=0, dead=0)) == (
        sorted(found),
        worked.empty(),
        queue.counts(),
    )


def test_T23_what_put_returned_for_survives_the_process(tmp_path: Path):
    """A process that dies right after `put` leaves the job behind."""
    path = tmp_path / "queue.sqlite3"
    code = (
        "import os, pathlib, sys; from promptops.runtime.queue.sqlite import SqliteQueue;"
        "SqliteQueue(pathlib.Path(sys.argv[1])).put('k', b'1'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=PATIENCE_S)
    queue = SqliteQueue(path)
    jobs = queue.take(lease_s=60)
    queue.close()

    assert [("k", b"1", 1)] == seen(jobs)


def test_T23_a_full_disk_is_an_honest_error(tmp_path: Path):
    """No id without a row; what was kept before is there."""
    queue = SqliteQueue(tmp_path / "queue.sqlite3")
    queue.put("first", b"1")
    pages = queue._link._connection.execute("pragma page_count").fetchone()[0]
    queue._link._connection.execute(f"pragma max_page_count = {pages + 1}")
    with pytest.raises(StateError, match="full"):
        queue.put("big", b"x" * 100_000)
    kept = [job.key for job in queue.jobs(9)]
    queue.close()

    assert ["first"] == kept


def test_T23_a_queue_that_cannot_be_written_is_an_honest_error(tmp_path: Path, namespace: str):
    """No folder, no database, no server: StateError, nothing else."""
    (tmp_path / "not-a-database").write_bytes(b"text " * 1000)
    server = RedisServer(tmp_path)
    server.kill()
    queues = [
        SqliteQueue(tmp_path / "missing" / "queue.sqlite3"),
        SqliteQueue(tmp_path / "not-a-database"),
        RedisQueue(server.url, namespace=namespace),
    ]
    for queue in queues:
        with pytest.raises(StateError):
            queue.put("k", b"1")
        with pytest.raises(StateError):
            queue.counts()


def test_a_finished_key_is_forgotten_after_a_day(tmp_path: Path):
    """The file does not grow with what was done."""
    now = [1_000_000.0]
    queue = SqliteQueue(tmp_path / "queue.sqlite3", clock=lambda: now[0])
    queue.put("old", b"1")
    queue.done(queue.take(lease_s=60)[0])
    now[0] += 86_401
    queue.put("new", b"1")
    queue.close()
    with sqlite3.connect(tmp_path / "queue.sqlite3") as database:
        keys = [row[0] for row in database.execute("select key from jobs")]
    database.close()

    assert [b"new"] == keys


@pytest.mark.parametrize("address", ["", "sqlite:", "https://x/y", "redis://host:port/x"])
def test_an_address_that_is_no_queue_is_refused(address: str):
    """The answer names what there is."""
    with pytest.raises(DataError, match="redis://host:port/db"):
        open_queue(address)


def test_a_removed_job_is_gone_in_any_state(queue: DurableQueue):
    """Waiting, being worked on, put aside: no payload stays, and its key may be kept anew."""
    for name in ("aside", "taken", "waiting", "other"):
        queue.put(name, name.encode())
    (aside,) = queue.take(lease_s=60)
    for _ in range(MAX_TRIES - 1):
        queue.again(aside, after_s=0, reason="no")
        (aside,) = queue.take(lease_s=60)
    queue.again(aside, after_s=0, reason="no")
    queue.take(lease_s=60)
    before = queue.counts()
    for job in queue.jobs(9):
        if job.key != "other":
            queue.remove(job)

    assert (Counts(waiting=2, taken=1, dead=1), Counts(waiting=1, taken=0, dead=0)) == (before, queue.counts())
    assert ["other"] == [job.key for job in queue.jobs(9)]
    queue.put("aside", b"again")
    assert [("other", b"other", 1), ("aside", b"again", 1)] == seen(queue.take(lease_s=60, most=9))
