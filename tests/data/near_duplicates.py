"""Prints the pairs of golden cases whose texts are nearly the same, and the share of cases that have such a twin.

    python tests/data/near_duplicates.py golden/support-triage.jsonl ...

Two texts are near-duplicates when the Jaccard similarity of their sets of character 5-grams (folded: NFKC, lower case,
single blanks) is over 0.6; 5-grams work in every script. The pairs are found exactly, with an inverted index from 5-gram
to texts: a few hundred texts take about a second, so MinHash (which estimates, and would be one more dependency) is not
needed below some ten thousand.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from promptops.core.text import fold

SIZE = 5
THRESHOLD = 0.6
TEXT_INPUTS = ("ticket", "question", "contract")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two cases and the Jaccard similarity of their texts, 0..1."""

    first: str
    second: str
    similarity: float


def golden_texts(path: Path) -> dict[str, str]:
    """The text each case is about, by id."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["id"]: next(row["inputs"][name] for name in TEXT_INPUTS if name in row["inputs"]) for row in rows}


def near_duplicates(texts: Mapping[str, str], threshold: float = THRESHOLD) -> list[Pair]:
    """Every pair over the threshold, most similar first."""
    grams = {name: _grams(text) for name, text in texts.items()}
    seen: defaultdict[str, list[str]] = defaultdict(list)
    pairs: list[Pair] = []
    for name, found in grams.items():
        shared = Counter(other for gram in found for other in seen[gram])
        for other, count in shared.items():
            similarity = count / (len(found) + len(grams[other]) - count)
            if similarity > threshold:
                pairs.append(Pair(first=other, second=name, similarity=similarity))
        for gram in found:
            seen[gram].append(name)
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def share_with_twin(pairs: list[Pair], total: int) -> float:
    """Share of all cases that are in at least one pair, 0..1."""
    return len({name for pair in pairs for name in (pair.first, pair.second)}) / total


def _grams(text: str) -> frozenset[str]:
    folded = fold(text)
    return frozenset(folded[start : start + SIZE] for start in range(max(1, len(folded) - SIZE + 1)))


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        texts = golden_texts(path)
        pairs = near_duplicates(texts)
        for pair in pairs:
            print(f"{pair.similarity:.2f}  {pair.first}  {pair.second}")
        print(f"{path.name}: {share_with_twin(pairs, len(texts)):.1%} of {len(texts)} cases have a near-duplicate")


if __name__ == "__main__":
    main(sys.argv[1:])
