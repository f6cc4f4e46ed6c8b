"""Golden cases are different texts: a twin counts one mistake twice and narrows the interval without a reason."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from near_duplicates import Pair, golden_texts, near_duplicates, share_with_twin

from conftest import REPOSITORY

_GOLDEN = sorted((REPOSITORY / "golden").glob("*.jsonl"))
_MOST = 0.02


@pytest.mark.parametrize("path", _GOLDEN, ids=lambda path: path.stem)
def test_few_cases_have_a_near_duplicate(path: Path):
    """In every suite fewer than 2 % of the cases have a twin."""
    texts = golden_texts(path)
    pairs = near_duplicates(texts)

    assert share_with_twin(pairs, len(texts)) < _MOST, pairs


def test_similarity_is_jaccard_of_folded_5_grams():
    """`abcdefgh` and `abcdefgz` share 3 of 5 different 5-grams: 0.6 is not over the threshold, 3 of 4 is."""
    texts = {"a": "abcdefgh", "b": "ABCDEFGZ", "c": "ａｂｃｄｅｆｇ", "d": "something else"}

    assert [Pair(first="a", second="c", similarity=0.75), Pair(first="b", second="c", similarity=0.75)] == (
        near_duplicates(texts)
    )


@given(st.lists(st.text(alphabet="ab ", min_size=5, max_size=14), max_size=8))
def test_inverted_index_finds_what_comparing_all_pairs_finds(texts: list[str]):
    """The index is exact: the same pairs as the definition, however the texts are."""

    def grams(text: str) -> set[str]:
        plain = " ".join(text.split())
        return {plain[i : i + 5] for i in range(max(1, len(plain) - 4))}

    named = {str(number): text for number, text in enumerate(texts)}
    expected = {
        (one, two)
        for one, first in named.items()
        for two, second in named.items()
        if int(one) < int(two) and len(grams(first) & grams(second)) / len(grams(first) | grams(second)) > 0.6
    }

    assert expected == {(pair.first, pair.second) for pair in near_duplicates(named)}


def test_script_prints_pairs_and_share(tmp_path: Path):
    """Run as a script it says which cases are twins and how many have one."""
    text = "The parcel with my kettle did not arrive on Monday as promised."
    rows = [("a", text), ("b", text + "!"), ("c", "Please cancel my subscription."), ("d", "電気ケトルが壊れました。")]
    path = tmp_path / "some.jsonl"
    path.write_text(
        "".join(f'{{"id": "{name}", "inputs": {{"ticket": "{ticket}"}}}}\n' for name, ticket in rows), "utf-8"
    )

    finished = subprocess.run(
        [sys.executable, REPOSITORY / "tests/data/near_duplicates.py", path], capture_output=True, text=True, check=True
    )

    assert "0.98  a  b\nsome.jsonl: 50.0% of 4 cases have a near-duplicate\n" == finished.stdout
