"""Nearest cached questions of one partition: an inverted index, exact up to 10,000 entries and by the rarest features beyond."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from promptops.runtime.embedding import Embedder, Vector

EXACT_UP_TO: Final = 10_000
_BUDGET = 30_000
_RESCORED = 40
_COMPACT_FROM = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A cached question: `answer` names what is served, `expires_at` is on the clock of the cache."""

    key: str
    text: str
    answer: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Near:
    """An entry and its cosine similarity to the question."""

    entry: Entry
    similarity: float


class LexicalIndex:
    """Add, delete, expire, search. Not thread-safe: the owner holds a lock."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._places: dict[str, int] = {}
        self._clear()

    def _clear(self) -> None:
        self._entries: list[Entry | None] = []
        self._vectors: list[tuple[array[int], array[float]] | None] = []
        self._ids: dict[int, array[int]] = {}
        self._values: dict[int, array[float]] = {}
        self._expires = array("d")
        self._dead = 0

    def __len__(self) -> int:
        return len(self._places)

    def entries(self) -> Iterator[Entry]:
        """All live entries, oldest first; what is needed to build the index again."""
        return (entry for entry in self._entries if entry is not None)

    def add(self, entry: Entry, vector: Vector | None = None) -> None:
        """Add an entry, in place of one with the same key."""
        self.delete(entry.key)
        place = len(self._entries)
        self._entries.append(entry)
        self._expires.append(entry.expires_at)
        self._places[entry.key] = place
        vector = self._embedder.embed(entry.text) if vector is None else vector
        self._vectors.append((array("i", vector), array("f", vector.values())))
        for feature, value in vector.items():
            ids = self._ids.get(feature)
            if ids is None:
                self._ids[feature], self._values[feature] = array("i", (place,)), array("f", (value,))
            else:
                ids.append(place)
                self._values[feature].append(value)

    def delete(self, key: str) -> bool:
        """Whether there was such an entry."""
        place = self._places.pop(key, None)
        if place is None:
            return False
        self._entries[place] = self._vectors[place] = None
        self._expires[place] = float("-inf")
        self._dead += 1
        if self._dead > max(_COMPACT_FROM, len(self._places)):
            self.rebuild()
        return True

    def expire(self, now: float) -> int:
        """Delete what is too old; how many."""
        old = [entry.key for entry in self.entries() if entry.expires_at <= now]
        for key in old:
            self.delete(key)
        return len(old)

    def rebuild(self) -> None:
        """Make the index anew from its live entries."""
        kept = list(self.entries())
        self._places.clear()
        self._clear()
        for entry in kept:
            self.add(entry)

    def search(self, vector: Vector, count: int, *, now: float = float("-inf"), without: str = "") -> list[Near]:
        """The `count` most similar live entries, best first; the entry with the key `without` is left out."""
        import numpy as np

        if not self._places or not vector:
            return []
        used, whole = self._chosen(vector)
        if not used:
            return []
        ids = np.concatenate([np.frombuffer(self._ids[feature], dtype=np.int32) for feature in used])
        values = np.concatenate([np.frombuffer(self._values[feature], dtype=np.float32) for feature in used])
        weights = np.repeat(
            np.fromiter((vector[feature] for feature in used), dtype=np.float32, count=len(used)),
            [len(self._ids[feature]) for feature in used],
        )
        scores = np.bincount(ids, weights=values * weights, minlength=len(self._entries))
        scores *= np.frombuffer(self._expires, dtype=np.float64) > now
        wanted = count if whole else max(count, _RESCORED)
        found = self._best(scores, wanted, without)
        if whole:
            return [Near(entry, float(scores[place])) for place, entry in found]
        near = [Near(entry, self._cosine(vector, place)) for place, entry in found]
        return sorted(near, key=lambda item: -item.similarity)[:count]

    def _chosen(self, vector: Vector) -> tuple[list[int], bool]:
        """The features to look up, and whether they are all: beyond 10,000 entries common ones only order the candidates."""
        known = [feature for feature in vector if feature in self._ids]
        if len(self._entries) <= EXACT_UP_TO:
            return known, True
        known.sort(key=lambda feature: len(self._ids[feature]))
        total = 0
        used: list[int] = []
        for feature in known:
            total += len(self._ids[feature])
            if used and total > _BUDGET:
                break
            used.append(feature)
        return used, len(used) == len(known)

    def _best(self, scores: Any, count: int, without: str) -> list[tuple[int, Entry]]:
        import numpy as np

        spare = count + 1
        least = 0.0 if len(scores) <= EXACT_UP_TO else float(scores.max()) * 0.1
        candidates = np.flatnonzero(scores > least)
        if len(candidates) > spare:
            top = np.argpartition(scores[candidates], len(candidates) - spare)[len(candidates) - spare :]
            candidates = candidates[top]
        found: list[tuple[int, Entry]] = []
        for place in candidates[np.argsort(-scores[candidates], kind="stable")]:
            entry = self._entries[place]
            if entry is None or entry.key == without:
                continue
            found.append((int(place), entry))
            if len(found) == count:
                break
        return found

    def _cosine(self, vector: Vector, place: int) -> float:
        stored, get = self._vectors[place], vector.get
        return 0.0 if stored is None else sum(value * get(key, 0.0) for key, value in zip(*stored, strict=True))
