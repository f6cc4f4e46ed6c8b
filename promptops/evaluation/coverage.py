"""Do the golden cases cover what users send: distances in a space of texts, uncovered clusters, and cases that would cover most."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.core.personal import Masked
from promptops.core.text import words
from promptops.evaluation.text_space import TextSpace
from promptops.evaluation.traffic import Traffic

CLUSTERS = 10
LENGTHS = ((10, "to 10 words"), (30, "to 30"), (100, "to 100"), (300, "to 300"), (10**9, "longer"))
_PAIRS = 200_000
_ALIKE = 0.01
_RADIUS, _RADIUS_RANGE, _RADIUS_FROM = 0.5, (0.1, 0.8), 50
_SAMPLE, _CANDIDATES = 8_000, 4_000
_BATCH = 4_000
_DOTS = 1_200
_HEAD_CHARS = 2_000
Kind = Literal["golden", "covered", "uncovered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Requests near one of them, none of them near a golden case; `share` of all traffic, 0..1; `example` is masked."""

    share: float
    inputs: int
    example: str
    line: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A language or length: its share of the traffic and of the golden cases, and how much of that traffic is covered, 0..1."""

    name: str
    traffic: float
    golden: float
    covered: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    x: float
    y: float
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Shares are of requests (0..1), distances 1 - cosine. `idle`: golden cases that no request is near to."""

    cases: int
    rows: int
    inputs: int
    radius: float
    covered: float
    mean_distance: float
    median_distance: float
    p90_distance: float
    idle: int
    clusters: tuple[Cluster, ...]
    languages: tuple[Part, ...]
    lengths: tuple[Part, ...]
    dots: tuple[Dot, ...]
    skipped: Mapping[str, int]
    sampled: int

    def as_row(self, *, golden_digest: str, traffic_digest: str, at: str) -> dict[str, Json]:
        """What is stored: figures for exactly these cases and this log, no text."""
        return {
            "golden_digest": golden_digest, "traffic_digest": traffic_digest, "at": at, "cases": self.cases, "requests": self.rows,
            "inputs": self.inputs, "left_out": sum(self.skipped.values()), "covered": self.covered, "radius": self.radius,
            "mean_distance": self.mean_distance, "uncovered_clusters": len(self.clusters),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A request worth being a case (`text` masked, `inputs` as sent): how far the nearest case was, and what is covered, and the mean distance, with all up to it."""

    text: str
    inputs: Mapping[str, Json]
    line: int
    weight: int
    distance: float
    covered: float
    mean_distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryShares:
    """The share of the traffic of each category (0..1, adding up to 1; empty when nothing tells), and of which part of it that is known.

    `stated`: by the log itself; `near`: by the golden case that is nearest, where one is alike. The rest is of no known category.
    """

    shares: Mapping[str, float]
    stated: float
    near: float


class Ground:
    """Traffic and golden texts in one space. The same texts and seed give the same numbers."""

    def __init__(self, traffic: Traffic, golden: Sequence[str], *, radius: float | None = None, seed: int = 0,
                 spread: Callable[..., Iterator[Any]] = map) -> None:  # fmt: skip
        import numpy as np

        if not golden:
            raise DataError("no golden case to compare with", hint="write at least one")
        self.traffic, self.golden, self.seed = traffic, golden, seed
        self.requests = traffic.requests
        space = TextSpace([*(item.text for item in self.requests), *golden], seed=seed)
        self.points = space.embed([item.text for item in self.requests], spread)
        self.cases = space.embed(golden)
        self.weights = np.array([item.weight for item in self.requests], dtype=np.float64)
        self.weights /= self.weights.sum()
        self.distances = _nearest(self.points, self.cases)
        self.radius = self._radius() if radius is None else radius

    def _radius(self) -> float:
        """Two inputs are alike when they are nearer than 99 of 100 pairs of different inputs of this traffic."""
        import numpy as np

        many = len(self.points)
        if many < _RADIUS_FROM:
            return _RADIUS
        first, second = np.random.default_rng(self.seed).integers(0, many, size=(2, _PAIRS))
        first, second = first[first != second], second[first != second]
        near = 1 - np.einsum("ij,ij->i", self.points[first], self.points[second])
        return float(np.clip(np.quantile(near, _ALIKE), *_RADIUS_RANGE))

    @cached_property
    def _sample(self) -> Any:
        """Places of the requests that stand for all: everything, or 8,000 drawn by weight."""
        import numpy as np

        many = len(self.points)
        if many <= _SAMPLE:
            return np.arange(many)
        return np.sort(np.random.default_rng(self.seed).choice(many, _SAMPLE, replace=False, p=self.weights))

    @cached_property
    def _sample_weights(self) -> Any:
        """Drawn by weight, each stands for the same share; otherwise its own."""
        import numpy as np

        many = len(self._sample)
        return self.weights if many == len(self.points) else np.full(many, 1 / many)

    @property
    def covered(self) -> float:
        """Share of the traffic that is like a golden case, 0..1."""
        return float(self.weights[self.distances <= self.radius].sum())

    def measure(self) -> Coverage:
        import numpy as np

        order = np.argsort(self.distances, kind="stable")
        mass = np.cumsum(self.weights[order])

        def quantile(share: float) -> float:
            return float(self.distances[order][min(len(order) - 1, int(np.searchsorted(mass, share)))])

        covered = self.distances <= self.radius
        languages, lengths = self._parts(covered)
        return Coverage(
            cases=len(self.golden), rows=self.traffic.rows, inputs=len(self.requests), radius=self.radius, covered=self.covered,
            mean_distance=float(self.weights @ self.distances), median_distance=quantile(0.5), p90_distance=quantile(0.9),
            idle=int((_nearest(self.cases, self.points) > self.radius).sum()), clusters=tuple(self._clusters()), languages=languages, lengths=lengths,
            dots=self._dots(covered), skipped=self.traffic.skipped, sampled=len(self._sample) if len(self._sample) < len(self.points) else 0,
        )  # fmt: skip

    def shares(self, categories: Sequence[str]) -> CategoryShares:
        """By category of the golden cases, which are given in the order of the golden texts."""
        import numpy as np

        names = sorted(set(categories))
        place = {name: index for index, name in enumerate(names)}
        mine = np.array([place[name] for name in categories])
        stated = np.array([place.get(item.category, -1) for item in self.requests])
        by_case = mine[_nearest_place(self.points, self.cases)]
        near = (stated < 0) & (self.distances <= self.radius)
        which = np.where(stated >= 0, stated, by_case)
        known = (stated >= 0) | near
        sums = np.bincount(which[known], weights=self.weights[known], minlength=len(names))
        whole = float(sums.sum())
        shares = {name: float(sums[index]) / whole for name, index in place.items()} if whole else {}
        return CategoryShares(shares=shares, stated=float(self.weights[stated >= 0].sum()), near=float(self.weights[near].sum()))  # fmt: skip

    def suggest(self, wanted: int) -> Iterator[Suggestion]:
        """The requests that lower the mean distance most, each given those before it; fewer when nothing is left to gain.

        Greedy k-median, at least 1 - 1/e of the best possible gain (Nemhauser, Wolsey and Fisher 1978), evaluated lazily (Minoux
        1978) over 4,000 candidates and the sample.
        """
        import numpy as np

        chance = np.random.default_rng(self.seed)
        here, share = self._sample, self._sample_weights
        far = self.distances[here] > 0
        pool = here[far] if far.any() else here
        picked = np.sort(chance.choice(pool, min(_CANDIDATES, len(pool)), replace=False))
        between = np.maximum(0, 1 - self.points[picked] @ self.points[here].T)
        left = self.distances[here].astype(np.float64)
        queue = [(-float(np.maximum(left - between[place], 0) @ share), place, 0) for place in range(len(picked))]
        heapq.heapify(queue)
        taken = 0
        while queue and taken < wanted:
            gain, place, fresh = heapq.heappop(queue)
            if fresh != taken:
                gain = -float(np.maximum(left - between[place], 0) @ share)
                heapq.heappush(queue, (gain, place, taken))
                continue
            if -gain <= 1e-9:
                return
            request = self.requests[int(picked[place])]
            before = float(left[np.searchsorted(here, picked[place])])
            left = np.minimum(left, between[place])
            taken += 1
            yield Suggestion(text=Masked().text(request.text[:_HEAD_CHARS]), inputs=request.inputs, line=request.line, weight=request.weight, distance=before,
                             covered=float(share[left <= self.radius].sum()), mean_distance=float(left @ share))  # fmt: skip

    def _clusters(self) -> Iterator[Cluster]:
        """The heaviest uncovered neighbourhoods, each without the members of those before it."""
        import numpy as np

        here, share = self._sample, self._sample_weights
        open_ = here[self.distances[here] > self.radius]
        weight = share[self.distances[here] > self.radius]
        if not len(open_):
            return
        heads = np.sort(np.random.default_rng(self.seed).permutation(len(open_))[:_CANDIDATES])
        near = 1 - self.points[open_[heads]] @ self.points[open_].T <= self.radius
        everyday = _documents([self.requests[int(place)].text for place in here[:: max(1, len(here) // 2_000)]])
        for _ in range(CLUSTERS):
            masses = near @ weight
            head = int(masses.argmax())
            if masses[head] <= 0:
                return
            members = np.flatnonzero(near[head] & (weight > 0))
            example = self.requests[int(open_[heads[head]])]
            yield Cluster(share=float(masses[head]), inputs=len(members), example=Masked().text(example.text[:_HEAD_CHARS]), line=example.line,
                          words=_telling([Masked().text(self.requests[int(open_[place])].text[:_HEAD_CHARS]) for place in members[:500]], everyday))  # fmt: skip
            weight = np.where(near[head], 0.0, weight)

    def _parts(self, covered: Any) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        from promptops.runtime.language import guess_language

        def language(text: str) -> str:
            return guess_language(text) or "not told"

        def length(text: str) -> str:
            many = len(words(text[:_HEAD_CHARS]))
            return next(name for most, name in LENGTHS if many <= most)

        found: list[tuple[Part, ...]] = []
        for name_of in (language, length):
            sent: Counter[str] = Counter()
            met: Counter[str] = Counter()
            for request, weight, is_covered in zip(self.requests, self.weights.tolist(), covered.tolist(), strict=True):
                name = name_of(request.text)
                sent[name] += weight
                met[name] += weight * is_covered
            ours = Counter(name_of(text) for text in self.golden)
            names = sorted({*sent, *ours}, key=lambda name: (-sent[name], name))
            found.append(
                tuple(
                    Part(name=name, traffic=sent[name], golden=ours[name] / len(self.golden),
                         covered=met[name] / sent[name] if sent[name] else 1.0) for name in names
                )
            )  # fmt: skip
        order = [name for _, name in LENGTHS]
        return found[0], tuple(sorted(found[1], key=lambda part: order.index(part.name)))

    def _dots(self, covered: Any) -> tuple[Dot, ...]:
        """The two directions in which the points differ most, scaled to 0..1."""
        import numpy as np

        chance = np.random.default_rng(self.seed)
        sent = np.sort(chance.permutation(len(self.points))[:_DOTS])
        ours = np.sort(chance.permutation(len(self.cases))[:_DOTS])
        together = np.concatenate([self.points[sent], self.cases[ours]])
        together = together - together.mean(axis=0)
        _, _, axes = np.linalg.svd(together, full_matrices=False)
        flat = together @ axes[:2].T
        if flat.shape[1] < 2:
            flat = np.concatenate([flat, np.zeros((len(flat), 1))], axis=1)
        low, high = flat.min(axis=0), flat.max(axis=0)
        flat = (flat - low) / np.maximum(high - low, 1e-9)
        kinds: list[Kind] = ["covered" if covered[place] else "uncovered" for place in sent]
        kinds += ["golden"] * len(ours)
        return tuple(Dot(x=round(float(x), 4), y=round(float(y), 4), kind=kind) for (x, y), kind in zip(flat, kinds, strict=True))  # fmt: skip


def _nearest(points: Any, others: Any) -> Any:
    """Distance of each point to the nearest of the others, 0..2."""
    import numpy as np

    found = np.empty(len(points), dtype=np.float32)
    step = max(1, _BATCH * 1_000 // max(1_000, len(others)))
    for start in range(0, len(points), step):
        found[start : start + step] = np.maximum(0, 1 - (points[start : start + step] @ others.T).max(axis=1))
    return np.where(found < 1e-5, 0, found)  # a text and itself, but for rounding


def _nearest_place(points: Any, others: Any) -> Any:
    """Which of the others is nearest to each point; the first of equals."""
    import numpy as np

    found = np.empty(len(points), dtype=np.int64)
    step = max(1, _BATCH * 1_000 // max(1_000, len(others)))
    for start in range(0, len(points), step):
        found[start : start + step] = (points[start : start + step] @ others.T).argmax(axis=1)
    return found


def _documents(texts: Sequence[str]) -> Mapping[str, float]:
    """The share of texts that hold each word."""
    found = Counter(word for text in texts for word in _set(text))
    return {word: count / len(texts) for word, count in found.items()}


def _telling(texts: Sequence[str], everyday: Mapping[str, float]) -> tuple[str, ...]:
    """Words that are common here and not elsewhere, most telling first."""
    here = Counter(word for text in texts for word in _set(text))
    scored = {word: count / len(texts) - 2 * everyday.get(word, 0) for word, count in here.items() if count / len(texts) >= 0.15}  # fmt: skip
    return tuple(sorted((word for word in scored if scored[word] > 0), key=lambda word: (-scored[word], word))[:4])


def _set(text: str) -> set[str]:
    return {word for word in words(text[:_HEAD_CHARS].casefold()) if len(word) > 1 or not word.isascii()}
