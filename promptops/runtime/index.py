"""Nearest cached questions of one partition: compared one by one while few, by an inverted index when many."""

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
SCANNED_UP_TO: Final = 64
_LOW = 0xFFFF


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


class _Columns:
    """An inverted index: a feature has a column, and a column lists the places of the entries that have the feature.

    Each item is one number (the weight's 32 bits, then the place), so that a search joins columns without reading their items one
    by one. Columns lose the places of deleted entries when these are many, so that no deletion pays for all the others.
    """

    def __init__(self) -> None:
        self.of: dict[int, int] = {}
        self.features: list[int] = []
        self.postings: list[array[int]] = []
        self._stale: list[int] = []
        self._unused: list[int] = []

    def add(self, place: int, features: Iterable[int], values: "array[float]") -> "array[int]":
        """Put an entry into the columns of its features; which they are."""
        get, postings, columns = self.of.get, self.postings, array("i")
        append = columns.append
        for feature, bits in zip(features, memoryview(values).cast("B").cast("I"), strict=True):
            column = get(feature)
            if column is None:
                column = self._new(feature, bits << 32 | place)
            else:
                postings[column].append(bits << 32 | place)
            append(column)
        return columns

    def _new(self, feature: int, item: int) -> int:
        if self._unused:
            column = self._unused.pop()
            self.features[column] = feature
            self.postings[column] = array("Q", (item,))
        else:
            column = len(self.features)
            self.features.append(feature)
            self.postings.append(array("Q", (item,)))
            self._stale.append(0)
        self.of[feature] = column
        return column

    def live(self, column: int) -> int:
        """How many entries have it, without deleted ones."""
        return len(self.postings[column]) - self._stale[column]

    def take_out(self, columns: Iterable[int], start: int, expires: "array[float]") -> None:
        """An entry in these columns was deleted. `expires` says of every place from `start` on whether it is live (above -inf).

        A column without live entries is free. One with many deleted ones loses them: not all columns at the same time.
        """
        for column in columns:
            self._stale[column] += 1
            found, stale = self.postings[column], self._stale[column]
            if stale == len(found):
                del self.of[self.features[column]]
                self.postings[column] = array("Q")
                self._unused.append(column)
            elif stale > _SPARE and stale > (len(found) - stale) * (8 + column % 8) // 16:
                import numpy as np

                items = np.frombuffer(found, dtype=np.uint64)
                slots = (items & _PLACE).view(np.int64) - start
                live = np.frombuffer(expires, dtype=np.float64)[np.maximum(slots, 0)] > float("-inf")
                self.postings[column] = array("Q", items[live & (slots >= 0)].tobytes())
            else:
                continue
            self._stale[column] = 0


class LexicalIndex:
    """Add, delete, expire, search. Not thread-safe: the owner holds a lock.

    An entry has a place, the next number when it is added. Up to 64 entries are compared one by one: an inverted index of so few
    takes ten times their memory, and longer to write than to read.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._clear()

    def _clear(self) -> None:
        self._places: dict[str, int] = {}
        self._columns: _Columns | None = None
        # The place of the first item of the lists below, and how many at their head are deleted.
        self._start = self._gone = 0
        self._entries: list[Entry | None] = []
        # What an entry has, its features or, with an inverted index, their columns; and their weights.
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
        self._append(entry, vector, array("f", vector.values()))
        if self._columns is None and len(self) > SCANNED_UP_TO:
            self._rebuild()

    def _append(self, entry: Entry, features: Iterable[int], values: "array[float]") -> None:
        place, columns = self._start + len(self._entries), self._columns
        self._places[entry.key] = place
        self._entries.append(entry)
        self._vectors.append(
            (array("i", features) if columns is None else columns.add(place, features, values), values)
        )
        self._expires.append(entry.expires_at)
        self._soonest = min(self._soonest, entry.expires_at)

    def delete(self, key: str) -> bool:
        """Whether there was such an entry."""
        place = self._places.pop(key, None)
        if place is None:
            return False
        slot = place - self._start
        vector = self._vectors[slot]
        self._entries[slot] = self._vectors[slot] = None
        self._expires[slot] = float("-inf")
        if self._columns is not None and vector is not None:
            self._columns.take_out(vector[0], self._start, self._expires)
        self._close_up()
        return True

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
        features = None if self._columns is None else self._columns.features
        kept = [(entry, vector[0] if features is None else [features[column] for column in vector[0]], vector[1])
                for entry, vector in zip(self._entries, self._vectors, strict=True) if entry is not None and vector is not None]  # fmt: skip
        self._clear()
        self._columns = _Columns() if len(kept) > SCANNED_UP_TO else None
        for entry, found, values in kept:
            self._append(entry, found, values)

    def search(self, vector: Vector, count: int, *, now: float = float("-inf"), without: str = "") -> list[Near]:
        """The `count` most similar live entries, best first; the entry with the key `without` is left out."""
        import numpy as np

        if not vector or not self._places:
            return []
        slots, shares, whole = (
            self._scanned(vector) if self._columns is None else self._looked_up(vector, self._columns)
        )
        scores = np.bincount(slots, weights=shares, minlength=len(self._entries) + 1)[1:]
        if now < self._soonest and len(self._entries) - self._gone == len(self._places):
            scores[: self._gone] = 0.0
        else:
            scores *= np.frombuffer(self._expires, dtype=np.float64) > now
        found = self._best(scores, count if whole else max(count, _RESCORED), without)
        if not whole:
            found = self._rescored(vector, found)[:count]
        return [Near(entry, similarity) for _, entry, similarity in found]

    def _scanned(self, vector: Vector) -> tuple[Any, Any, bool]:
        """For each feature that an entry shares with the question: the entry's slot (from 1) and what it adds to the similarity."""
        import numpy as np

        live = [(slot, stored) for slot, stored in enumerate(self._vectors, start=1) if stored is not None]
        features = np.frombuffer(b"".join([stored[0] for _, stored in live]), dtype=np.int32)
        values = np.frombuffer(b"".join([stored[1] for _, stored in live]), dtype=np.float32)
        slots = np.repeat([slot for slot, _ in live], [len(stored[0]) for _, stored in live])
        asked = np.fromiter(vector, dtype=np.int32, count=len(vector))
        every = np.arange(len(asked), dtype=np.int16)
        number_of = np.full(_LOW + 1, -1, dtype=np.int16)  # by the low half of a feature, which few share
        number_of[asked & _LOW] = every
        numbers = number_of[features & _LOW]
        hits = np.flatnonzero(numbers >= 0)
        numbers = numbers[hits]
        same = asked[numbers] == features[hits]
        hits, numbers = hits[same], numbers[same]
        for number in np.flatnonzero(number_of[asked & _LOW] != every).tolist():
            more = np.flatnonzero(features == asked[number])
            hits, numbers = (
                np.concatenate((hits, more)),
                np.concatenate((numbers, np.full(len(more), number, dtype=np.int16))),
            )
        # In the order of the question's features, as columns are joined: the same sum to the last bit.
        by_feature = np.argsort(numbers, kind="stable")
        hits, numbers = hits[by_feature], numbers[by_feature]
        weights = np.fromiter(vector.values(), dtype=np.float32, count=len(vector))
        return slots[hits], values[hits] * weights[numbers], True

    def _looked_up(self, vector: Vector, columns: _Columns) -> tuple[Any, Any, bool]:
        """The same by the columns of the question's features, and whether these are all: beyond 10,000 entries only rare ones are read."""
        import numpy as np

        used, whole = self._chosen(vector, columns)
        postings = [columns.postings[column] for _, column in used]
        items = np.frombuffer(b"".join(postings), dtype=np.uint64)
        weights = np.fromiter([vector[feature] for feature, _ in used], dtype=np.float32, count=len(used))
        shares = (items >> 32).astype(np.uint32).view(np.float32) * np.repeat(
            weights, [len(found) for found in postings]
        )
        slots = (items & _PLACE).view(np.int64)
        slots -= self._start - 1
        np.maximum(slots, 0, out=slots)  # what is before the start was deleted: all of it counts for slot 0
        return slots, shares, whole

    def _chosen(self, vector: Vector, columns: _Columns) -> tuple[list[tuple[int, int]], bool]:
        """The features to look up with their columns, and whether they are all: beyond 10,000 entries common ones only order the candidates."""
        get = columns.of.get
        known = [(feature, column) for feature in vector if (column := get(feature)) is not None]
        if len(self) <= EXACT_UP_TO:
            return known, True
        sizes = [columns.live(column) for _, column in known]
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

        columns = self._columns
        assert columns is not None
        if self._query is None or len(self._query) < len(columns.features):
            self._query = np.zeros(len(columns.features) * 5 // 4)
        query, get = self._query, columns.of.get
        known = [(column, value) for feature, value in vector.items() if (column := get(feature)) is not None]
        asked = [column for column, _ in known]
        query[asked] = [value for _, value in known]
        vectors = [stored for slot, _, _ in found if (stored := self._vectors[slot]) is not None]
        places = np.frombuffer(b"".join([stored[0] for stored in vectors]), dtype=np.int32)
        values = np.frombuffer(b"".join([stored[1] for stored in vectors]), dtype=np.float32)
        rows = np.repeat(np.arange(len(vectors)), [len(stored[1]) for stored in vectors])
        scores = np.bincount(rows, weights=query[places] * values, minlength=len(found))
        query[asked] = 0.0
        return [(*found[number][:2], float(scores[number])) for number in np.argsort(-scores, kind="stable").tolist()]
