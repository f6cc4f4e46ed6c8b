"""Nearest cached questions of one partition: an inverted index, exact up to 10,000 entries and by the rarest features beyond."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promptops.runtime.embedding import Embedder, Vector

EXACT_UP_TO: Final = 10_000
_BUDGET = 30_000
_RESCORED = 40
_SPARE = 64
_PLACE = 0xFFFF_FFFF


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
    """Add, delete, expire, search. Not thread-safe: the owner holds a lock.

    An entry has a place, the next number when it is added; a feature has a column. A column lists the entries that have the
    feature, each as one number (the weight's 32 bits, then the place), so that a search joins columns without reading them one
    by one. Columns lose the places of deleted entries when these are many, so that no deletion pays for all the others.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._clear()

    def _clear(self) -> None:
        self._places: dict[str, int] = {}
        self._columns: dict[int, int] = {}
        self._features: list[int] = []
        self._postings: list[array[int]] = []
        self._stale: list[int] = []
        self._unused: list[int] = []
        # The place of the first item of the lists below, and how many at their head are deleted.
        self._start = self._gone = 0
        self._entries: list[Entry | None] = []
        self._vectors: list[tuple[array[int], array[float]] | None] = []
        self._expires = array("d")
        self._soonest = float("inf")
        self._query: Any = None

    def __len__(self) -> int:
        return len(self._places)

    def entries(self) -> Iterator[Entry]:
        """All live entries, oldest first; what is needed to build the index again."""
        return (entry for entry in self._entries if entry is not None)

    @property
    def soonest(self) -> float:
        """No entry expires before this."""
        return self._soonest

    def add(self, entry: Entry, vector: Vector | None = None) -> None:
        """Add an entry, in place of one with the same key."""
        self.delete(entry.key)
        vector = self._embedder.embed(entry.text) if vector is None else vector
        self._append(entry, vector.keys(), array("f", vector.values()))

    def _append(self, entry: Entry, features: Iterable[int], values: "array[float]") -> None:
        place, get = self._start + len(self._entries), self._columns.get
        postings, columns = self._postings, array("i")
        append = columns.append
        for feature, bits in zip(features, memoryview(values).cast("B").cast("I"), strict=True):
            column = get(feature)
            if column is None:
                column = self._new_column(feature, bits << 32 | place)
            else:
                postings[column].append(bits << 32 | place)
            append(column)
        self._places[entry.key] = place
        self._entries.append(entry)
        self._vectors.append((columns, values))
        self._expires.append(entry.expires_at)
        self._soonest = min(self._soonest, entry.expires_at)

    def _new_column(self, feature: int, item: int) -> int:
        if self._unused:
            column = self._unused.pop()
            self._features[column] = feature
            self._postings[column] = array("Q", (item,))
        else:
            column = len(self._features)
            self._features.append(feature)
            self._postings.append(array("Q", (item,)))
            self._stale.append(0)
        self._columns[feature] = column
        return column

    def delete(self, key: str) -> bool:
        """Whether there was such an entry."""
        place = self._places.pop(key, None)
        if place is None:
            return False
        slot = place - self._start
        vector = self._vectors[slot]
        self._entries[slot] = self._vectors[slot] = None
        self._expires[slot] = float("-inf")
        for column in vector[0] if vector is not None else ():
            self._stale[column] += 1
            self._tidy(column)
        self._close_up()
        return True

    def _tidy(self, column: int) -> None:
        """Free a column without live entries, or take deleted ones out of it once they are many: not all columns at the same time."""
        found, stale = self._postings[column], self._stale[column]
        if stale == len(found):
            del self._columns[self._features[column]]
            self._postings[column] = array("Q")
            self._unused.append(column)
        elif stale > _SPARE and stale > (len(found) - stale) * (8 + column % 8) // 16:
            import numpy as np

            items = np.frombuffer(found, dtype=np.uint64)
            slots = (items & _PLACE).view(np.int64) - self._start
            live = np.frombuffer(self._expires, dtype=np.float64)[np.maximum(slots, 0)] > float("-inf")
            self._postings[column] = array("Q", items[live & (slots >= 0)].tobytes())
        else:
            return
        self._stale[column] = 0

    def _close_up(self) -> None:
        """Forget the places of deleted entries at the head; count all anew when those between live ones are the greater part."""
        entries = self._entries
        while self._gone < len(entries) and entries[self._gone] is None:
            self._gone += 1
        if self._gone > max(_SPARE, len(entries) // 8):
            for items in (entries, self._vectors, self._expires):
                del items[: self._gone]
            self._start += self._gone
            self._gone = 0
        if len(entries) - self._gone - len(self._places) > max(_SPARE, len(self._places)):
            self._rebuild()

    def drop_oldest(self, count: int) -> int:
        """Delete the `count` entries that were added first; how many there were."""
        wanted = max(0, min(count, len(self)))
        for _ in range(wanted):
            oldest = self._entries[self._gone]
            assert oldest is not None
            self.delete(oldest.key)
        return wanted

    def expire(self, now: float) -> int:
        """Delete what is too old; how many."""
        old = [entry.key for entry in self.entries() if entry.expires_at <= now]
        for key in old:
            self.delete(key)
        self._soonest = min((entry.expires_at for entry in self.entries()), default=float("inf"))
        return len(old)

    def _rebuild(self) -> None:
        """Make the index anew from its live entries."""
        features = self._features
        kept = [(entry, [features[column] for column in vector[0]], vector[1])
                for entry, vector in zip(self._entries, self._vectors, strict=True) if entry is not None and vector is not None]  # fmt: skip
        self._clear()
        for entry, found, values in kept:
            self._append(entry, found, values)

    def search(self, vector: Vector, count: int, *, now: float = float("-inf"), without: str = "") -> list[Near]:
        """The `count` most similar live entries, best first; the entry with the key `without` is left out."""
        import numpy as np

        used, whole = self._chosen(vector)
        if not used:
            return []
        postings = [self._postings[column] for _, column in used]
        items = np.frombuffer(b"".join(postings), dtype=np.uint64)
        weights = np.fromiter([vector[feature] for feature, _ in used], dtype=np.float32, count=len(used))
        shares = (items >> 32).astype(np.uint32).view(np.float32) * np.repeat(
            weights, [len(found) for found in postings]
        )
        slots = (items & _PLACE).view(np.int64)
        slots -= self._start - 1
        np.maximum(slots, 0, out=slots)  # what is before the start was deleted: all of it counts for a slot of its own
        scores = np.bincount(slots, weights=shares, minlength=len(self._entries) + 1)[1:]
        if now < self._soonest and len(self._entries) - self._gone == len(self._places):
            scores[: self._gone] = 0.0
        else:
            scores *= np.frombuffer(self._expires, dtype=np.float64) > now
        found = self._best(scores, count if whole else max(count, _RESCORED), without)
        if not whole:
            found = self._rescored(vector, found)[:count]
        return [Near(entry, similarity) for _, entry, similarity in found]

    def _chosen(self, vector: Vector) -> tuple[list[tuple[int, int]], bool]:
        """The features to look up with their columns, and whether they are all: beyond 10,000 entries common ones only order the candidates."""
        get = self._columns.get
        known = [(feature, column) for feature in vector if (column := get(feature)) is not None]
        if len(self) <= EXACT_UP_TO:
            return known, True
        postings, stale = self._postings, self._stale
        sizes = [len(postings[column]) - stale[column] for _, column in known]
        total = 0
        used: list[tuple[int, int]] = []
        for number in sorted(range(len(known)), key=sizes.__getitem__):
            total += sizes[number]
            if used and total > _BUDGET:
                break
            used.append(known[number])
        return used, len(used) == len(known)

    def _best(self, scores: Any, count: int, without: str) -> list[tuple[int, Entry, float]]:
        import numpy as np

        spare = count + 1
        least = 0.0 if len(self) <= EXACT_UP_TO else float(scores.max()) * 0.1
        slots = np.flatnonzero(scores > least)
        if len(slots) > spare:
            slots = slots[np.argpartition(scores[slots], len(slots) - spare)[len(slots) - spare :]]
        slots = slots[np.argsort(-scores[slots], kind="stable")]
        found: list[tuple[int, Entry, float]] = []
        for slot, score in zip(slots.tolist(), scores[slots].tolist(), strict=True):
            entry = self._entries[slot]
            if entry is None or entry.key == without:
                continue
            found.append((slot, entry, score))
            if len(found) == count:
                break
        return found

    def _rescored(self, vector: Vector, found: Sequence[tuple[int, Entry, float]]) -> list[tuple[int, Entry, float]]:
        """The same entries with their whole similarity, best first."""
        import numpy as np

        if self._query is None or len(self._query) < len(self._features):
            self._query = np.zeros(len(self._features) * 5 // 4)
        query, get = self._query, self._columns.get
        asked = [column for feature in vector if (column := get(feature)) is not None]
        query[asked] = [value for feature, value in vector.items() if feature in self._columns]
        vectors = [stored for slot, _, _ in found if (stored := self._vectors[slot]) is not None]
        columns = np.frombuffer(b"".join([columns for columns, _ in vectors]), dtype=np.int32)
        values = np.frombuffer(b"".join([values for _, values in vectors]), dtype=np.float32)
        rows = np.repeat(np.arange(len(vectors)), [len(values) for _, values in vectors])
        scores = np.bincount(rows, weights=query[columns] * values, minlength=len(found))
        query[asked] = 0.0
        return [(*found[number][:2], float(scores[number])) for number in np.argsort(-scores, kind="stable").tolist()]
