"""The semantic cache of a service: partitions, lookups, and an audit that switches it off when its bound is broken."""

import hashlib
import math
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import time
from typing import Final

from promptops.core.jsontext import Json, canonical_json
from promptops.runtime.embedding import Vector
from promptops.runtime.facts import facts_of, pair_features, vetoes
from promptops.runtime.index import Entry, LexicalIndex
from promptops.runtime.matcher import NEIGHBOURS, Decision, Matcher

MAX_PARTITIONS: Final = 10_000
_SWEEP_SHARE = 64
_ODDS = 20.0
_LABELS = 10_000
_TELLING: Final = frozenset({"number", "date", "unit", "id", "negation"})
_SAME_WORDS = 0.6
_BETS: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditState:
    """What the audit saw: `audited` hits answered again, `wrong` of them, the rate with its 95 % interval, and whether it is off."""

    audited: int
    wrong: int
    rate: float
    low: float
    high: float
    broken: bool


def same_answer(served: tuple[str, Json], fresh: tuple[str, Json]) -> bool | None:
    """Whether two answers (text, parsed value) say the same; None when two texts do so neither surely nor surely not.

    Values must be equal. Texts with other numbers, dates, units, ids or negation are different; with most content words in common
    they are the same.
    """
    if served[1] is not None or fresh[1] is not None:
        return bool(served[1] == fresh[1])
    if " ".join(served[0].split()).casefold() == " ".join(fresh[0].split()).casefold():
        return True
    one, other = facts_of(served[0]), facts_of(fresh[0])
    if _TELLING & set(vetoes(one, other)):
        return False
    return True if pair_features(one, other)[0] >= _SAME_WORDS else None


class Audit:
    """A random share of hits is answered again in the shadow and compared; a broken bound switches the cache off.

    The test is valid however often it is looked at: odds against "the error rate is at most `max_error`", from bets that double
    on wrong answers, must reach 20 to 1. Source: Ramdas, Grunwald, Vovk and Shafer 2023, Statistical Science 38:576. Thread-safe.
    """

    def __init__(self, *, max_error: float, share: float, seed: int | None = None) -> None:
        self._max_error, self._share = max(max_error, 1e-6), share
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self._lock = threading.Lock()
        self._audited = self._wrong = 0
        self._broken = False
        self._log_odds = [0.0] * len(_BETS)
        self._labels: deque[dict[str, Json]] = deque(maxlen=_LABELS)

    def wants(self) -> bool:
        """Whether this hit is to be answered again."""
        with self._lock:
            return self._share > 0 and self._random.random() < self._share

    def record(self, *, same: bool, cached: str = "", asked: str = "") -> None:
        """What the comparison of one audited hit said; with both questions it is also a label for the next calibration."""
        wrong, limit = not same, self._max_error
        with self._lock:
            self._audited += 1
            self._wrong += wrong
            if cached and asked:
                self._labels.append({"a": cached, "b": asked, "same": same})
            for place, bet in enumerate(_BETS):
                self._log_odds[place] += math.log1p(bet * (1.0 - limit) / limit if wrong else -bet)
            top = max(self._log_odds)
            odds = top + math.log(math.fsum(math.exp(value - top) for value in self._log_odds) / len(_BETS))
            self._broken |= odds >= math.log(_ODDS)

    @property
    def is_broken(self) -> bool:
        return self._broken

    def state(self) -> AuditState:
        with self._lock:
            low, high = _wilson(self._wrong, self._audited)
            rate = self._wrong / self._audited if self._audited else 0.0
            return AuditState(audited=self._audited, wrong=self._wrong, rate=rate, low=low, high=high, broken=self._broken)  # fmt: skip

    def labels(self) -> list[dict[str, Json]]:
        """The last 10,000 audited pairs, as `promptops cache calibrate --pairs FILE` reads them (one JSON object a line).

        They hold what users wrote: keep them as carefully as the answers.
        """
        with self._lock:
            return list(self._labels)

    def reset(self) -> None:
        """Begin anew, as after a new calibration."""
        with self._lock:
            self._audited = self._wrong = 0
            self._broken = False
            self._log_odds = [0.0] * len(_BETS)


def _wilson(errors: int, total: int) -> tuple[float, float]:
    if not total:
        return 0.0, 1.0
    z = 1.959964
    rate = errors / total
    centre = (rate + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


class SemanticCache:
    """Cached questions of one prompt version, apart by partition; answers themselves stay in the exact cache, by key. Thread-safe.

    A partition is named by everything that must be equal: `partition(...)`. It is chosen before any search, so a question can
    never meet an entry of another tenant, version, model, language or set of documents.
    """

    def __init__(
        self,
        matcher: Matcher,
        *,
        clock: Callable[[], float] = time,
        max_entries: int = 100_000,
        seed: int | None = None,
    ) -> None:
        self.matcher = matcher
        self.audit = Audit(max_error=matcher.max_error, share=matcher.audit_share, seed=seed)
        self._clock, self._max_entries = clock, max_entries
        self._partitions: OrderedDict[str, LexicalIndex] = OrderedDict()
        self._owners: dict[str, str] = {}
        self._count = 0
        self._until_sweep = 0
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        """Whether anything can be served."""
        return self.matcher.threshold is not None and not self.audit.is_broken

    def partition(self, parts: Iterable[Json], inputs: Mapping[str, Json]) -> str:
        """The name of a partition: tenant, version, model, parameters, documents (`parts`), and every input that is not compared by meaning.

        The parts are hashed as JSON, so that no two lists of parts can be written alike. Raises JsonError for what is no JSON.
        """
        fixed = {name: value for name, value in inputs.items() if name not in self.matcher.text_inputs}
        return hashlib.blake2b(canonical_json([list(parts), fixed]), digest_size=16, person=b"semantic").hexdigest()

    def text(self, inputs: Mapping[str, Json]) -> str:
        """What is compared by meaning."""
        found = (inputs.get(name) for name in self.matcher.text_inputs)
        return "\n".join(value for value in found if isinstance(value, str))

    def embed(self, text: str) -> Vector:
        """The vector of a text, for `find` and then `add`: half of what a miss costs."""
        return self.matcher.embedder.embed(text)

    def find(self, partition: str, text: str, category: str = "", *, vector: Vector | None = None) -> Decision:
        """Whether a cached answer may be served; the caller still has to read it, and to run its guardrails on it.

        `vector` is `embed(text)` where the caller has it.
        """
        if self.matcher.threshold is None:
            return Decision(entry=None, reason="off: not calibrated")
        if self.audit.is_broken:
            return Decision(entry=None, reason="off: audited hits broke the bound")
        if not text.strip():
            return Decision(entry=None, reason="empty text")
        vector = self.embed(text) if vector is None else vector
        with self._lock:
            index = self._partitions.get(partition)
            near = index.search(vector, NEIGHBOURS, now=self._clock()) if index is not None else []
            if index is not None:
                self._partitions.move_to_end(partition)
        return self.matcher.decide(text, near, category)

    def add(self, partition: str, key: str, text: str, *, answer: str, ttl_s: float, vector: Vector | None = None, owner: str = "") -> None:  # fmt: skip
        """Remember that the question `text` has the answer `answer` (a digest), kept under `key`; an empty text is not.

        `owner` is the tenant whose partition it is, for `drop`.
        """
        if not text.strip() or ttl_s <= 0:
            return
        vector = self.embed(text) if vector is None else vector
        if not vector:
            return
        with self._lock:
            index = self._partitions.get(partition)
            if index is None:
                index = self._partitions[partition] = LexicalIndex(self.matcher.embedder)
                self._owners[partition] = owner
            self._partitions.move_to_end(partition)
            before = len(index)
            index.add(Entry(key, text, answer, self._clock() + ttl_s), vector)
            self._count += len(index) - before
            self._make_room(index)

    def _make_room(self, kept: LexicalIndex) -> None:
        """Too much of it: expired entries go first, then the partitions that were used longest ago, then the oldest entries.

        A full cache is full at every request, so expired entries are looked for once in a while only.
        """
        while len(self._partitions) > MAX_PARTITIONS:
            self._drop_partition()
        if self._count <= self._max_entries:
            return
        self._until_sweep -= 1
        if self._until_sweep < 0:
            self._until_sweep = self._max_entries // _SWEEP_SHARE
            now = self._clock()
            self._count -= sum(index.expire(now) for index in self._partitions.values() if index.soonest <= now)
        while len(self._partitions) > 1 and self._count > self._max_entries:
            self._drop_partition()
        self._count -= kept.drop_oldest(self._count - self._max_entries)

    def _drop_partition(self) -> None:
        partition, index = self._partitions.popitem(last=False)
        self._owners.pop(partition, None)
        self._count -= len(index)

    def forget(self, partition: str, key: str) -> None:
        """Delete an entry, as when its answer is gone or was found bad."""
        with self._lock:
            index = self._partitions.get(partition)
            if index is not None:
                self._count -= index.delete(key)

    def drop(self, owner: str) -> int:
        """Forget everything of one owner; how many entries there were."""
        with self._lock:
            found = [partition for partition, other in self._owners.items() if other == owner]
            dropped = sum(len(self._partitions.pop(partition)) for partition in found)
            for partition in found:
                del self._owners[partition]
            self._count -= dropped
            return dropped

    def clear(self) -> None:
        """Forget all entries."""
        with self._lock:
            self._partitions.clear()
            self._owners.clear()
            self._count = 0

    def rows(self) -> Iterator[dict[str, Json]]:
        """All entries, as they are kept on disk; `load` takes them back."""
        with self._lock:
            found = [(partition, entry) for partition, index in self._partitions.items() for entry in index.entries()]
        for partition, entry in found:
            yield {"partition": partition, "key": entry.key, "text": entry.text, "answer": entry.answer, "expires_at": entry.expires_at}  # fmt: skip

    def load(self, rows: Iterable[Mapping[str, Json]]) -> int:
        """Take entries back that are not too old; how many. A row that is none is left out: a cache is never worth an error."""
        now, count = self._clock(), 0
        for row in rows:
            fields = [row.get(name) for name in ("partition", "key", "text", "answer")]
            raw = row.get("expires_at")
            expires_at = float(raw) if isinstance(raw, (int, float)) else 0.0
            if (
                all(isinstance(value, str) and value for value in fields)
                and type(expires_at) in {int, float}
                and expires_at > now
            ):
                partition, key, text, answer = (str(value) for value in fields)
                self.add(partition, key, text, answer=answer, ttl_s=expires_at - now)
                count += 1
        return count

    def __len__(self) -> int:
        return self._count
