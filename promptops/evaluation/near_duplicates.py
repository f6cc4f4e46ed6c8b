"""Texts that are nearly the same: Jaccard similarity of their character 5-grams, every pair over the threshold."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

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

    if not grams:
        return
    order = sorted(range(len(grams)), key=lambda place: (len(grams[place]), place))
    sizes = np.array([len(grams[place]) for place in order])
    ids: defaultdict[str, int] = defaultdict()
    ids.default_factory = ids.__len__
    flat = np.fromiter(map(ids.__getitem__, chain.from_iterable(grams[place] for place in order)), dtype=np.int64)
    often = np.bincount(flat, minlength=len(ids))
    rank = np.empty(len(ids), dtype=np.int64)
    rank[np.argsort(often, kind="stable")] = np.arange(len(ids))
    row = np.repeat(np.arange(len(order)), sizes)
    ranks = np.sort(row * len(ids) + rank[flat]) - row * len(ids)  # rarest first in each row
    bits = np.zeros((len(order), _BITS), dtype=bool)
    bits[row, ranks % _BITS] = True
    packed = np.packbits(bits, axis=1)
    starts = np.cumsum(sizes) - sizes
    place_in_row = np.arange(len(flat)) - starts[row]

    def prefixes(share: float) -> Any:
        kept = place_in_row < (sizes - np.ceil(share * sizes - 1e-9) + 1)[row]
        ends = np.concatenate(([0], np.cumsum(np.bincount(row[kept], minlength=len(order)))))
        return csr_array((np.ones(int(kept.sum()), dtype=np.int32), ranks[kept], ends), shape=(len(order), len(ids)))

    probe, index = prefixes(threshold), prefixes(2 * threshold / (1 + threshold))
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
