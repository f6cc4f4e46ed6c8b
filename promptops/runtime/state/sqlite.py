"""State of many processes on one host, in a SQLite file."""

import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from promptops.runtime.state.base import BUCKETS, Denied, Entry, Grant, Hold, bucket_of, retry_after_s
from promptops.runtime.state.sqlite_link import SqliteLink

_SCHEMA = """
create table if not exists entries (
    id integer primary key, partition blob not null, key blob not null, value blob not null, at real not null, until real not null,
    size integer not null, unique (partition, key)
) strict;
create index if not exists entries_until on entries(until);
create index if not exists entries_at on entries(at);
create table if not exists tags (tag blob not null, entry integer not null, primary key (tag, entry)) strict, without rowid;
create index if not exists tags_entry on tags(entry);
create table if not exists total (bytes integer not null) strict;
insert into total select 0 where not exists (select 1 from total);
create trigger if not exists entry_added after insert on entries begin update total set bytes = bytes + new.size; end;
create trigger if not exists entry_gone after delete on entries begin
    update total set bytes = bytes - old.size;
    delete from tags where entry = old.id;
end;
create table if not exists meters (
    id integer primary key, meter blob not null, window_s integer not null, bucket integer not null, amount integer not null,
    gone_at real not null, unique (meter, window_s, bucket)
) strict;
create index if not exists meters_gone on meters(gone_at);
create table if not exists grants (id text primary key, until real not null) strict, without rowid;
create index if not exists grants_until on grants(until);
"""
_OVERHEAD_BYTES = 350
_SWEPT = 8


class SqliteState:
    """A call waits at most about `timeout_s` for the file. Cached answers beyond `max_bytes` go, oldest first.

    `clock` is UTC seconds: all processes must read the same one.
    """

    blocks = True

    def __init__(
        self, path: Path, *, timeout_s: float = 0.05, max_bytes: int = 2**30, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_bytes, self._clock = max_bytes, clock
        self._link = SqliteLink(path, _SCHEMA, timeout_s=timeout_s, synchronous="normal")

    def get(self, partition: str, key: str) -> Entry | None:
        with self._link.use() as database:
            row = database.execute(
                "select value, at, until from entries where partition = ? and key = ?", (_raw(partition), _raw(key))
            ).fetchone()
        if row is None:
            return None
        now = self._clock()
        return Entry(value=row[0], age_s=now - row[1]) if row[1] <= now < row[2] else None

    def put(self, partition: str, key: str, value: bytes, *, keep_s: float, tags: Sequence[str] = ()) -> None:
        size = len(value) + _OVERHEAD_BYTES
        if size > self._max_bytes:
            self.drop(partition, key)
            return
        now = self._clock()
        with self._link.use(write=True) as database:
            _sweep(database, "entries", "until", now)
            database.execute("delete from entries where partition = ? and key = ?", (_raw(partition), _raw(key)))
            while database.execute("select bytes from total").fetchone()[0] + size > self._max_bytes:
                database.execute("delete from entries where id in (select id from entries order by at limit 16)")
            entry = database.execute(
                "insert into entries (partition, key, value, at, until, size) values (?, ?, ?, ?, ?, ?)",
                (_raw(partition), _raw(key), value, now, now + keep_s, size),
            ).lastrowid
            database.executemany("insert or ignore into tags values (?, ?)", [(_raw(tag), entry) for tag in tags])

    def drop(self, partition: str, key: str) -> None:
        with self._link.use(write=True) as database:
            database.execute("delete from entries where partition = ? and key = ?", (_raw(partition), _raw(key)))

    def invalidate(self, tag: str) -> int:
        with self._link.use(write=True) as database:
            return database.execute(
                "delete from entries where id in (select entry from tags where tag = ?)", (_raw(tag),)
            ).rowcount

    def reserve(self, holds: Sequence[Hold], *, lease_s: float, pass_soft: bool = False) -> Grant | Denied:
        now = self._clock()
        with self._link.use(write=True) as database:
            _sweep(database, "meters", "gone_at", now)
            database.execute("delete from grants where until <= ?", (now,))
            wanted: dict[tuple[str, int], int] = {}
            for hold in holds:
                name = (hold.meter, hold.window_s)
                used = _counted(database, hold.meter, hold.window_s, now) + wanted.get(name, 0)
                wanted[name] = wanted.get(name, 0) + hold.amount
                hard = used + hold.amount > hold.limit
                if hard or (not pass_soft and hold.soft is not None and used + hold.amount > hold.soft):
                    limit = hold.limit if hard or hold.soft is None else hold.soft
                    counts = database.execute(
                        "select bucket, amount from meters where meter = ? and window_s = ?",
                        (_raw(hold.meter), hold.window_s),
                    ).fetchall()
                    wait_s = retry_after_s(now, hold.window_s, counts, used + hold.amount - limit)
                    return Denied(hold=hold, used=used, soft=not hard, retry_after_s=wait_s)
            grant = Grant(id=uuid.uuid4().hex, holds=tuple(holds), buckets=tuple(bucket_of(now, hold.window_s) for hold in holds))  # fmt: skip
            database.executemany(
                "insert into meters (meter, window_s, bucket, amount, gone_at) values (?, ?, ?, ?, ?)"
                " on conflict (meter, window_s, bucket) do update set amount = amount + excluded.amount",
                [(_raw(hold.meter), hold.window_s, bucket, hold.amount, (bucket + BUCKETS + 1) * hold.window_s / BUCKETS)
                 for hold, bucket in zip(holds, grant.buckets, strict=True)],
            )  # fmt: skip
            database.execute("insert into grants values (?, ?)", (grant.id, now + lease_s))
            return grant

    def settle(self, grant: Grant, amounts: Sequence[int]) -> None:
        with self._link.use(write=True) as database:
            open_now = database.execute("delete from grants where id = ? and until > ?", (grant.id, self._clock()))
            if open_now.rowcount:
                database.executemany(
                    "update meters set amount = amount + ? where meter = ? and window_s = ? and bucket = ?",
                    [(amount - hold.amount, _raw(hold.meter), hold.window_s, bucket)
                     for hold, bucket, amount in zip(grant.holds, grant.buckets, amounts, strict=True)],
                )  # fmt: skip

    def used(self, meter: str, window_s: int) -> int:
        with self._link.use() as database:
            return _counted(database, meter, window_s, self._clock())

    def reserved(self) -> int:
        with self._link.use() as database:
            found: int = database.execute("select count(*) from grants where until > ?", (self._clock(),)).fetchone()[0]
        return found

    def after_fork(self) -> None:
        self._link.after_fork()

    def close(self) -> None:
        self._link.close()


def _raw(text: str) -> bytes:
    """Names are compared byte by byte, whatever is in them."""
    return text.encode("utf-8", "surrogatepass")


def _counted(database: sqlite3.Connection, meter: str, window_s: int, now: float) -> int:
    found: int = database.execute(
        "select coalesce(sum(amount), 0) from meters where meter = ? and window_s = ? and bucket >= ?",
        (_raw(meter), window_s, bucket_of(now, window_s) - BUCKETS),
    ).fetchone()[0]
    return found


def _sweep(database: sqlite3.Connection, table: str, column: str, now: float) -> None:
    """Forget a few rows whose time is over, so that the file does not grow with what nobody asks for again."""
    sql = f"delete from {table} where id in (select id from {table} where {column} <= ? limit {_SWEPT})"  # noqa: S608 - names of ours
    database.execute(sql, (now,))
