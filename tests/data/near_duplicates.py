"""Prints the pairs of golden cases whose texts are nearly the same, and the share of cases that have such a twin.

    python tests/data/near_duplicates.py golden/support-triage.jsonl ...

The measure is that of `promptops golden stats`.
"""

import json
import sys
from pathlib import Path

from promptops.evaluation.near_duplicates import Pair, near_duplicates, share_with_twin

__all__ = ["Pair", "golden_texts", "near_duplicates", "share_with_twin"]
TEXT_INPUTS = ("ticket", "question", "contract")


def golden_texts(path: Path) -> dict[str, str]:
    """The text each case is about, by id."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["id"]: next(row["inputs"][name] for name in TEXT_INPUTS if name in row["inputs"]) for row in rows}


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        texts = golden_texts(path)
        pairs = near_duplicates(texts)
        for pair in pairs:
            print(f"{pair.similarity:.2f}  {pair.first}  {pair.second}")
        print(f"{path.name}: {share_with_twin(pairs, len(texts)):.1%} of {len(texts)} cases have a near-duplicate")


if __name__ == "__main__":
    main(sys.argv[1:])
