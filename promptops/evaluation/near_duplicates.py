"""Texts that are nearly the same: Jaccard similarity of their character 5-grams, every pair over the threshold."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil

from promptops.core.text import fold

SIZE = 5
THRESHOLD = 0.6
MAX_CHARS = 5_000
"""Only so much of a text is compared."""
_BITS = 512
_CHUNK = 500
_BATCH = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two cases and the Jaccard similarity of their texts, 0..1."""

    first: str
    second: str
    similarity: float


def near_duplicates(texts: Mapping[str, str], threshold: float = THRESHOLD) -> list[Pair]:
    """Every pair over the threshold, most similar first; 5-grams of folded text work in every script.

    Exact: candidates share one of the rarest elements of both sets (prefixes of PPJoin: Xiao et al. 2008, "Efficient similarity
    joins for near duplicate detection") and could reach the overlap by their bitmaps (Sandes, Teodoro and Melo 2020, "Bitmap filter
    for exact set similarity joins"); each of those is compared.
    """
    names = list(texts)
    grams = [_grams(texts[name]) for name in names]
    pairs: list[Pair] = []
    for one, other in _candidates(grams, threshold):
        common = len(grams[one] & grams[other])
        similarity = common / (len(grams[one]) + len(grams[other]) - common)
        if similarity > threshold:
            first, second = sorted((one, other))
            pairs.append(Pair(first=names[first], second=names[second], similarity=similarity))
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _candidates(grams: Sequence[frozenset[str]], threshold: float) -> Iterator[tuple[int, int]]:
    """Places of two sets that may be similar; every pair that is, and few others."""
    import numpy as np
    from scipy.sparse import csr_array

    often = Counter(gram for found in grams for gram in found)
    rank = {gram: place for place, gram in enumerate(sorted(often, key=lambda gram: (often[gram], gram)))}
    order = sorted(range(len(grams)), key=lambda place: (len(grams[place]), place))
    sizes = np.array([len(grams[place]) for place in order])
    bits = np.zeros((len(order), _BITS), dtype=bool)
    rows: dict[str, list[list[int]]] = {"probe": [], "index": []}
    for row, place in enumerate(order):
        ranks = sorted(rank[gram] for gram in grams[place])
        bits[row, np.array(ranks) % _BITS] = True
        for name, share in (("probe", threshold), ("index", 2 * threshold / (1 + threshold))):
            rows[name].append(ranks[: len(ranks) - ceil(share * len(ranks) - 1e-9) + 1])
    packed = np.packbits(bits, axis=1)
    probe, index = (
        csr_array((np.ones(sum(map(len, found)), dtype=np.int32), np.fromiter(chain.from_iterable(found), dtype=np.int64), np.cumsum([0, *map(len, found)])),
                  shape=(len(order), len(rank)))
        for found in (rows["probe"], rows["index"])
    )  # fmt: skip
    bit_counts = np.array([value.bit_count() for value in range(256)], dtype=np.uint16)
    turned = index.T.tocsr()
    for start in range(0, len(order), _CHUNK):
        met = (probe[start : start + _CHUNK] @ turned).tocoo()
        mine, others = met.row + start, met.col
        kept = (others < mine) & (sizes[others] >= threshold * sizes[mine] - 1e-9)
        mine, others = mine[kept], others[kept]
        for begin in range(0, len(mine), _BATCH):
            one, other = mine[begin : begin + _BATCH], others[begin : begin + _BATCH]
            apart = bit_counts[packed[one] ^ packed[other]].sum(axis=1, dtype=np.int64)
            both = sizes[one] + sizes[other]
            near = (both - apart) / 2 >= threshold / (1 + threshold) * both - 1e-9
            yield from (
                (order[left], order[right])
                for left, right in zip(one[near].tolist(), other[near].tolist(), strict=True)
            )


def share_with_twin(pairs: list[Pair], total: int) -> float:
    """Share of all cases that are in at least one pair, 0..1."""
    return len({name for pair in pairs for name in (pair.first, pair.second)}) / total


def _grams(text: str) -> frozenset[str]:
    folded = fold(text[:MAX_CHARS])
    return frozenset(folded[start : start + SIZE] for start in range(max(1, len(folded) - SIZE + 1)))
