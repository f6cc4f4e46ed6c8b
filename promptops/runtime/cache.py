"""Cached answers: what they are kept under, what is kept, and one call for many identical requests at once."""

import hashlib
import random
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.runtime.base import Citation

if TYPE_CHECKING:
    from promptops.core.knowledge import Passage

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A complete, guarded answer. `passages` are the ids of the documents that were shown."""

    text: str
    model: str
    passages: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()

    def as_bytes(self) -> bytes:
        cited = [[item.id, item.title] for item in self.citations]
        entry = {"v": _VERSION, "t": self.text, "m": self.model, "p": list(self.passages), "c": cited}
        # A copy: orjson shrinks a buffer of 8 kB to the answer, and kept by the thousand, the gaps between them are seven times the answers.
        return bytes(memoryview(canonical_json(entry)))

    @classmethod
    def read(cls, raw: bytes) -> "Kept | None":
        """None for what is no entry of this version: a cache is never worth an error."""
        try:
            found = parse_json(raw)
            if found["v"] != _VERSION or not isinstance(found["t"], str) or not isinstance(found["m"], str):
                return None
            return cls(text=found["t"], model=found["m"], passages=tuple(map(str, found["p"])),
                       citations=tuple(Citation(id=str(item[0]), title=str(item[1])) for item in found["c"]))  # fmt: skip
        except (JsonError, KeyError, TypeError, IndexError, ValueError):
            return None


@lru_cache(maxsize=4096)
def partition_of(tenant: str) -> str:
    """The wall between tenants; chosen before anything is searched. Two tenants share it only if they are the same text."""
    return hashlib.blake2b(tenant.encode("utf-8", "surrogatepass"), digest_size=16, person=b"tenant").hexdigest()


class Keys:
    """Keys of one release: its digest, the models that may answer and the knowledge are in each of them."""

    def __init__(self, parts: Sequence[Json]) -> None:
        self._start = hashlib.blake2b(canonical_json(list(parts)), digest_size=16)

    def key(self, inputs: Mapping[str, Json], category: str, documents: "Sequence[Passage] | None") -> str:
        """The key of one request; `documents` are those found outside of the bundle. Raises JsonError for inputs that are no JSON."""
        found = self._start.copy()
        shown = None if documents is None else [[item.id, item.title, item.text] for item in documents]
        found.update(canonical_json([category, inputs, shown]))
        return found.hexdigest()


def tags_of(name: str, version: str, tenant: str, passages: Sequence[str]) -> tuple[str, ...]:
    """What an entry can be invalidated by: its prompt, the version, the tenant, each document."""
    common = _common_tags(name, version, tenant)
    return (*common, *(f"document:{name}:{item}" for item in passages)) if passages else common


@lru_cache(maxsize=4096)
def _common_tags(name: str, version: str, tenant: str) -> tuple[str, ...]:
    """One tuple for all entries of a tenant: kept by the hundred thousand, they are most of what an entry takes beside its answer."""
    return (f"prompt:{name}", f"prompt:{name}@{version}", f"tenant:{partition_of(tenant)}")


def jittered(ttl_s: float, jitter: float, key: str) -> float:
    """A lifetime shorter by a share that the key decides, so that entries made together do not end together."""
    return ttl_s * (1 - jitter * random.Random(key).random())  # noqa: S311 - spread, not secrecy


@dataclass(slots=True, eq=False)
class Flight:
    """Identical requests in one process: one of them asks, the others wait for its result. `attempt` counts paid calls.

    `after` is the flight its followers go on to when it fails; they all find the same one, even when it has landed already.
    """

    _lock: threading.Lock
    attempt: int = 1
    after: "Flight | None" = None
    _future: "Future[Any] | None" = None
    _result: object = None
    _landed: bool = False

    @property
    def future(self) -> "Future[Any]":
        """What followers wait for; made for the first of them, as most requests have none."""
        with self._lock:
            if self._future is None:
                self._future = Future()
                if self._landed:
                    self._future.set_result(self._result)
            return self._future

    def land(self, result: object) -> None:
        """End it with what its followers are to know."""
        with self._lock:
            self._landed, self._result = True, result
            if self._future is not None:
                self._future.set_result(result)


class Flights:
    """The flights under way in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[str, str], Flight] = {}

    def board(self, key: tuple[str, str]) -> tuple[Flight, bool]:
        """The flight for a key, and whether the caller leads it."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight(self._lock)
            return flight, True

    def board_next(self, key: tuple[str, str], landed: Flight, attempt: int) -> tuple[Flight, bool]:
        """The flight that followers of a landed one take, and whether the caller leads it."""
        with self._lock:
            if landed.after is not None:
                return landed.after, False
            landed.after = Flight(self._lock, attempt)
            self._flights.setdefault(key, landed.after)
            return landed.after, True

    def land(self, key: tuple[str, str], flight: Flight, result: object) -> None:
        """End a flight with what its followers are to know."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        flight.land(result)

    def __len__(self) -> int:
        return len(self._flights)
