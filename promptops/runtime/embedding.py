"""The built-in lexical embedder: weighted words, pairs of words and letter groups of a text; standard library only."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise, repeat
from operator import mul
from typing import Final
from zlib import crc32

MAX_CHARS: Final = 2_000
"""Only so much of a text is embedded."""

HASH_BITS: Final = 24
_MASK = 2**HASH_BITS - 1
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_HALF = math.sqrt(0.5)
_PAIR = 0x9E3779
_KEPT_CHARS = 32
Vector = dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """Weights of features by their hash; a feature that training did not see weighs `unseen`."""

    weights: Mapping[int, float] = field(default_factory=dict)
    unseen: float = 1.0

    def embed(self, text: str) -> Vector:
        """A vector of length 1 (empty for a text without words): half of it words and pairs, half groups of 3 and 4 letters."""
        words, letters = features(text)
        vector, rest = self._weighed(words), self._weighed(letters)
        if not vector.keys().isdisjoint(rest):  # a word and letters with the same hash
            for key in vector.keys() & rest.keys():
                vector[key] += rest.pop(key)
        vector.update(rest)
        return vector

    def _weighed(self, found: list[int]) -> Vector:
        counts = Counter(found)
        values = list(map(self.weights.get, counts, repeat(self.unseen)))
        if len(counts) < len(found):
            values = [value if count == 1 else value * (1.0 + math.log(count)) for value, count in zip(values, counts.values(), strict=True)]  # fmt: skip
        square = math.fsum(map(mul, values, values))
        if not square:
            return {}
        scale = _HALF / math.sqrt(square)
        return dict(zip(counts, [value * scale for value in values], strict=True))


def features(text: str) -> tuple[list[int], list[int]]:
    """Hashes of words and neighbouring pairs, and of groups of 3 and 4 letters inside padded words."""
    hashes: list[int] = []
    letters: list[int] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text[:MAX_CHARS]).casefold()):
        own, groups = (_of_word if len(word) <= _KEPT_CHARS else _of_word.__wrapped__)(word)
        hashes.append(own)
        letters += groups
    hashes += [(first * 31 + second * 17 + _PAIR) & _MASK for first, second in pairwise(hashes)]
    return hashes, letters


@lru_cache(maxsize=8_192)
def _of_word(word: str) -> tuple[int, tuple[int, ...]]:
    """The hash of a word and those of its letter groups; texts share most of their words."""
    raw = word.encode("utf-8", "surrogatepass")
    if word.isascii():
        padded = b" " + raw + b" "
        groups = [crc32(padded[start : start + size], size) & _MASK for size in (3, 4) for start in range(len(padded) - size + 1)]  # fmt: skip
    else:
        wide = f" {word} "
        groups = [
            crc32(wide[start : start + size].encode("utf-8", "surrogatepass"), size) & _MASK
            for size in (3, 4)
            for start in range(len(wide) - size + 1)
        ]
    return crc32(raw) & _MASK, tuple(groups)


def cosine(one: Vector, other: Vector) -> float:
    """Similarity of two vectors of `embed`, 0..1."""
    if len(one) > len(other):
        one, other = other, one
    return sum(value * other[key] for key, value in one.items() if key in other)
