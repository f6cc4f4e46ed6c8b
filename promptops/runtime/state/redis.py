"""State of many hosts, in Redis: reservations are one script each, so nothing comes between reading and counting."""

import hashlib
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from promptops.runtime.state.base import Denied, Entry, Grant, Hold, StateError, retry_after_s
from promptops.runtime.state.ledger import Ledger
from promptops.runtime.state.redis_link import RedisLink
from promptops.runtime.state.redis_scripts import (
    BREAKERS,
    GET,
    INVALIDATE,
    PUT,
    RECOUNT,
    RESERVE,
    RESERVED,
    SETTLE,
    USED,
)

if TYPE_CHECKING:
    import redis

    from promptops.runtime.board import Report
    from promptops.runtime.state.redis_questions import RedisQuestions

_EXACT = 2**53
_SHARDS = 64
_RECOUNT_S = 3.0
_LOOK_S = 1.0
_SLOW_S = 1.0


class RedisState:
    """Keys of one server are under `{namespace}`, that of the address unless one is given. In a cluster they are spread: cached answers by partition, meters by what is before
    the first `/` of their name (the prompt), each group in one slot, so that a script touches one node.

    Time is the server's unless a `clock` is given. The server must not evict meters: `maxmemory-policy noeviction`. When it has lost
    what was counted, the processes that counted it tell it again; for 3 s nothing is granted, so that all of them have.
    """

    blocks = True

    def __init__(
        self, url: str, *, namespace: str = "", timeout_s: float = 0.05,
        clock: Callable[[], float] | None = None, monotonic: Callable[[], float] = time.monotonic, recount_s: float = _RECOUNT_S,
    ) -> None:  # fmt: skip
        self._link = RedisLink(url, timeout_s=timeout_s, monotonic=monotonic)
        self._namespace, self._clock, self._recount_s = namespace or self._link.address.namespace, clock, recount_s
        # No request waits for this one, and its answers are long.
        self._slow = RedisLink(url, timeout_s=max(timeout_s, _SLOW_S), connections=4)
        self._shards = _SHARDS if self._link.address.kind == "cluster" else 0
        self._begin()

    def _begin(self) -> None:
        self._ledger, self._process = Ledger(), uuid.uuid4().hex
        self._recounting, self._starting = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def get(self, partition: str, key: str) -> Entry | None:
        found = self._run(GET, [self._entry(partition, key)], [])
        if not found or found[1] is None or found[2] is None:
            return None
        value, at, until, now = found
        return Entry(value=value, age_s=float(now) - float(at)) if float(at) <= float(now) < float(until) else None

    def put(self, partition: str, key: str, value: bytes, *, keep_s: float, tags: Sequence[str] = ()) -> None:
        home = self._home(partition)
        names = [self._entry(partition, key), *(_named(home, "t", tag) for tag in tags)]
        self._run(PUT, names, [f"{keep_s:.6f}", value])

    def drop(self, partition: str, key: str) -> None:
        self._link.call(lambda client: client.delete(self._entry(partition, key)))

    def invalidate(self, tag: str) -> int:
        if not tag.startswith("document:"):
            from promptops.runtime.state.redis_questions import forget

            forget(self._slow, self._namespace, tag, spread=bool(self._shards))
        return sum(self._invalidate(_named(home, "t", tag)) for home in self._homes())

    def _invalidate(self, key: str) -> int:
        total = 0
        while True:
            taken: int
            dropped: int
            taken, dropped = self._run(INVALIDATE, [key], [])
            total += dropped
            if not taken:
                return total

    def open_breakers(self, host: str, process: str, own: "Sequence[Report]") -> "list[Report]":
        """Replace what a process reported of its breakers by `own`; what all others report."""
        from promptops.runtime.board import Report

        arguments: list[Any] = [self._now, host, process]
        for item in own:
            arguments += [item.place, f"{item.age_s:.3f}", f"{item.left_s:.3f}"]
        rows = self._slow.run(BREAKERS, [f"{{{self._namespace}}}:breakers"], arguments)
        texts = ([value.decode("utf-8", "replace") for value in row] for row in rows)
        return [
            Report(place=place, host=name, process=other, age_s=float(age), left_s=float(left))
            for place, name, other, age, left in texts
        ]

    def questions(self, release: str) -> "RedisQuestions":
        """Questions that all replicas of a release share (`promptops.runtime.warm`)."""
        from promptops.runtime.state.redis_questions import RedisQuestions

        return RedisQuestions(
            self._slow, self._namespace, release, spread=bool(self._shards), who=self._process, clock=self._clock
        )

    def reserve(self, holds: Sequence[Hold], *, lease_s: float, pass_soft: bool = False) -> Grant | Denied:
        name, home = uuid.uuid4().hex, self._home_of(holds)
        arguments: list[Any] = [f"{lease_s:.6f}", int(pass_soft), name, self._ledger.known(home)]
        for hold in holds:
            if not max(hold.limit, hold.soft or 0, hold.amount) < _EXACT:
                raise StateError(f"{hold.limit} is more than Redis counts exactly")
            arguments += [hold.amount, hold.limit, "" if hold.soft is None else hold.soft, hold.window_s]
        meters = [_meter(home, hold) for hold in holds]
        found = self._counted(meters, home, arguments)
        if found[0] == 1:
            grant = Grant(id=name, holds=tuple(holds), buckets=tuple(int(bucket) for bucket in found[2:]))
            self._ledger.meet(home, found[1])
            self._note(home, grant, [hold.amount for hold in holds])
            self._watch()
            return grant
        if found[0] == 2:
            self._recount(home)
        if found[0] in {2, 3}:
            raise StateError("Redis has lost what was counted (start it with `appendonly yes`); it is being told again")
        _, index, used, hard, now, counts = found
        hold, numbers = holds[index], [int(item) for item in counts]
        limit = hold.limit if hard or hold.soft is None else hold.soft
        wait_s = retry_after_s(float(now), hold.window_s, list(zip(numbers[::2], numbers[1::2], strict=True)),
                               int(used) + hold.amount - limit)  # fmt: skip
        return Denied(hold=hold, used=int(used), soft=not hard, retry_after_s=wait_s)

    def _counted(self, meters: list[str], home: str, arguments: list[Any]) -> Any:
        """What `RESERVE` says; where replicas must have it, only once they do."""
        keys = [*meters, _open(home), _memory(home)]
        wanted = self._link.address.replicas
        if not wanted:
            return self._run(RESERVE, keys, arguments)

        def work(client: Any) -> Any:
            import redis

            script = self._link.prepared(RESERVE, client)
            asked = ("EVALSHA", script.sha, len(keys), *keys, self._now, *arguments)
            for again in (True, False):
                pipeline = client.pipeline(transaction=False)
                pipeline.execute_command(*asked)
                pipeline.execute_command("WAIT", wanted, max(1, int(self._link.timeout_s * 500)))
                found, copies = pipeline.execute(raise_on_error=False)
                if again and isinstance(found, redis.exceptions.NoScriptError):
                    client.script_load(RESERVE)
                    continue
                break
            for item in (found, copies):
                if isinstance(item, Exception):
                    raise item
            if found[0] == 1 and copies < wanted:
                undo = [arguments[2]]
                for number, bucket in enumerate(found[2:]):
                    undo += [bucket, -arguments[4 + number * 4]]
                self._link.prepared(SETTLE, client)(keys=keys[:-1], args=[self._now, *undo], client=client)
                raise redis.ConnectionError(f"{copies} of {wanted} replicas have what was counted")
            return found

        return self._link.call(work)

    def settle(self, grant: Grant, amounts: Sequence[int]) -> None:
        home = self._home_of(grant.holds)
        corrections = [amount - hold.amount for hold, amount in zip(grant.holds, amounts, strict=True)]
        arguments: list[Any] = [grant.id]
        for bucket, correction in zip(grant.buckets, corrections, strict=True):
            arguments += [bucket, correction]
        if self._run(SETTLE, [*(_meter(home, hold) for hold in grant.holds), _open(home)], arguments):
            self._note(home, grant, corrections)

    def used(self, meter: str, window_s: int) -> int:
        hold = Hold(meter=meter, amount=0, limit=0, window_s=window_s)
        return int(self._run(USED, [_meter(self._home_of([hold]), hold)], [window_s]))

    def reserved(self) -> int:
        return sum(int(self._run(RESERVED, [_open(home)], [])) for home in self._homes())

    def after_fork(self) -> None:
        self._link.after_fork()
        self._slow.after_fork()
        self._begin()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_LOOK_S)
        self._link.close()
        self._slow.close()

    def look(self) -> None:
        """Tell a server that has lost it what this process had counted; a thread does this once a second."""
        for home in self._ledger.homes():
            now = self._link.call(partial(_memory_at, home))
            if now != self._ledger.known(home):
                self._recount(home)

    def _recount(self, home: str) -> None:
        with self._recounting:
            memory = b""
            while True:
                begun = memory
                for number, chunk in enumerate([*self._ledger.chunks(home), []]):
                    keys = [_named(home, f"m:{item.window_s}", item.meter) for item in chunk]
                    arguments: list[Any] = [uuid.uuid4().hex, f"{self._process}:{number}", self._recount_s]
                    for item in chunk:
                        arguments += [item.window_s, item.bucket, item.amount]
                    memory = self._run(RECOUNT, [*keys, _memory(home)], arguments)
                    if memory == self._ledger.known(home):
                        return  # another thread was here before
                if begun == memory:
                    break
            self._ledger.meet(home, memory)

    def _note(self, home: str, grant: Grant, amounts: Sequence[int]) -> None:
        for hold, bucket, amount in zip(grant.holds, grant.buckets, amounts, strict=True):
            if amount:
                self._ledger.add(home, hold.meter, hold.window_s, bucket, amount)

    def _watch(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=_look_on, args=(weakref.ref(self), self._stop), name="promptops-recount", daemon=True
                    )
                    self._thread.start()

    def _home(self, name: str) -> str:
        """Where the keys of a group are: one slot of a cluster."""
        if not self._shards:
            return f"{{{self._namespace}}}"
        return (
            f"{{{self._namespace}:{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).digest()[0] % self._shards}}}"
        )

    def _homes(self) -> list[str]:
        return [f"{{{self._namespace}:{number}}}" for number in range(self._shards)] or [f"{{{self._namespace}}}"]

    def _home_of(self, holds: Sequence[Hold]) -> str:
        homes = {self._home(hold.meter.partition("/")[0] if "/" in hold.meter else "") for hold in holds}
        if len(homes) != 1:
            raise StateError(
                "a reservation in a cluster is on meters of one group: what is before the first / of their names is the same"
            )
        return homes.pop()

    def _entry(self, partition: str, key: str) -> str:
        raw = partition.encode("utf-8", "surrogatepass")
        return _hashed(self._home(partition), "c", len(raw).to_bytes(8) + raw + key.encode("utf-8", "surrogatepass"))

    @property
    def _now(self) -> str:
        return "" if self._clock is None else f"{self._clock():.6f}"

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return self._link.run(script, keys, [self._now, *arguments])


def _memory_at(home: str, client: "redis.Redis") -> bytes | None:
    found: Any = client.hget(_memory(home), "id")
    return found  # type: ignore[no-any-return]


def _open(home: str) -> str:
    return f"{home}:open"


def _memory(home: str) -> str:
    return f"{home}:memory"


def _meter(home: str, hold: Hold) -> str:
    return _named(home, f"m:{hold.window_s}", hold.meter)


def _named(home: str, kind: str, text: str) -> str:
    return _hashed(home, kind, text.encode("utf-8", "surrogatepass"))


def _hashed(home: str, kind: str, raw: bytes) -> str:
    """Names are hashed: of any length and content, one key each, and no tenant is readable in the server."""
    return f"{home}:{kind}:{hashlib.sha256(raw).hexdigest()}"


def _look_on(reference: "weakref.ref[RedisState]", stop: threading.Event) -> None:
    while not stop.wait(_LOOK_S):
        state = reference()
        if state is None:
            return
        with suppress(StateError):  # requests say so themselves; the next look may find it
            state.look()
        del state
