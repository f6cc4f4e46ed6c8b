"""A queue in a SQLite file, for processes of one host."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path

from promptops.runtime.queue.base import MAX_JOBS, MAX_PAYLOAD_BYTES, MAX_TRIES, REMEMBER_S, Counts, Job, JobState
from promptops.runtime.state.base import StateError
from promptops.runtime.state.sqlite_link import SqliteLink

_SCHEMA = """
create table jobs (
    id integer primary key autoincrement, key blob not null unique, payload blob not null, state text not null, tries integer not null,
    created_at real not null, ready_at real not null, lease text not null, reason text not null
) strict;
create index jobs_ready on jobs(state, ready_at);
"""
_TAKE = """
update jobs set state = 'taken', tries = tries + 1, ready_at = ?, lease = ?
where id in (select id from jobs where state in ('waiting', 'taken') and ready_at <= ? order by id limit ?)
returning id, key, payload, tries, created_at, state, reason, lease
"""
_LIST = "select id, key, payload, tries, created_at, state, reason, lease from jobs where state != 'done' order by id limit ?"


class SqliteQueue:
    """What `put` returned for is on the disk (synchronous = full), whatever happens to process or machine."""

    blocks = True

    def __init__(
        self, path: Path, *, max_jobs: int = MAX_JOBS, timeout_s: float = 5.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_jobs, self._clock = max_jobs, clock
        self._link = SqliteLink(path, _SCHEMA, timeout_s=timeout_s, synchronous="full")

    def put(self, key: str, payload: bytes) -> str:
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise StateError(f"a job of {len(payload)} bytes is more than {MAX_PAYLOAD_BYTES}")
        now, raw = self._clock(), key.encode("utf-8", "surrogatepass")
        with self._link.use(write=True) as database:
            known = database.execute("select id from jobs where key = ?", (raw,)).fetchone()
            if known is not None:
                return str(known[0])
            database.execute(
                "delete from jobs where id in (select id from jobs where state = 'done' and ready_at <= ? limit 8)",
                (now,),
            )
            kept = database.execute("select count(*) from jobs where state != 'done'").fetchone()[0]
            if kept >= self._max_jobs:
                raise StateError(f"the queue is full: {kept} jobs")
            row = database.execute(
                "insert into jobs (key, payload, state, tries, created_at, ready_at, lease, reason) values (?, ?, 'waiting', 0, ?, ?, '', '')",
                (raw, payload, now, now),
            )
            return str(row.lastrowid)

    def take(self, *, lease_s: float, most: int = 1) -> tuple[Job, ...]:
        now, lease = self._clock(), uuid.uuid4().hex
        with self._link.use(write=True) as database:
            database.execute("update jobs set state = 'dead', reason = 'its workers did not come back' where state = 'taken' and ready_at <= ? and tries >= ?",
                             (now, MAX_TRIES))  # fmt: skip
            rows = database.execute(_TAKE, (now + lease_s, lease, now, most)).fetchall()
        return tuple(sorted((_job(row, now) for row in rows), key=lambda job: int(job.id)))

    def done(self, job: Job) -> None:
        with self._link.use(write=True) as database:
            database.execute(
                "update jobs set state = 'done', payload = x'', ready_at = ? where id = ?",
                (self._clock() + REMEMBER_S, int(job.id)),
            )

    def again(self, job: Job, *, after_s: float, reason: str) -> None:
        with self._link.use(write=True) as database:
            database.execute(
                "update jobs set state = ?, ready_at = ?, reason = ?, lease = '' where id = ? and state = 'taken' and lease = ?",
                (
                    "dead" if job.tries >= MAX_TRIES else "waiting",
                    self._clock() + after_s,
                    reason[:500],
                    int(job.id),
                    job.lease,
                ),
            )

    def counts(self) -> Counts:
        with self._link.use(write=True) as database:
            found = dict(database.execute("select state, count(*) from jobs group by state").fetchall())
        return Counts(waiting=found.get("waiting", 0), taken=found.get("taken", 0), dead=found.get("dead", 0))

    def jobs(self, most: int) -> tuple[Job, ...]:
        with self._link.use(write=True) as database:
            rows = database.execute(_LIST, (most,)).fetchall()
        now = self._clock()
        return tuple(_job(row, now) for row in rows)

    def remove(self, job: Job) -> None:
        with self._link.use(write=True) as database:
            database.execute("delete from jobs where id = ?", (int(job.id),))

    def close(self) -> None:
        self._link.close()


def _job(row: tuple[int, bytes, bytes, int, float, JobState, str, str], now: float) -> Job:
    number, key, payload, tries, created_at, state, reason, lease = row
    return Job(id=str(number), key=key.decode("utf-8", "surrogatepass"), payload=payload, tries=tries, waited_s=max(0.0, now - created_at),
               state=state, reason=reason, lease=lease)  # fmt: skip
