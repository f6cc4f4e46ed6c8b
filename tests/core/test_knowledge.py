"""Passages are cut at headings, and found by words or by character pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.errors import Problem
from promptops.core.knowledge import Hit, Passage, PassageIndex, index_of, split_passages

POLICY = """# Policy
preamble, part of no passage

## Returns {#returns}

You have 14 days.
### Detail
Keep the box.

## Warranty\t{#de.w-1_2}
Two years.
"""


def test_each_level_two_section_is_a_passage():
    """Title, id and text; deeper headings belong to the text."""
    passages, problems = split_passages(POLICY, "de.md")

    assert [
        Passage(id="returns", title="Returns", text="You have 14 days.\n### Detail\nKeep the box.", source="de.md"),
        Passage(id="de.w-1_2", title="Warranty", text="Two years.", source="de.md"),
    ] == passages
    assert [] == problems


def test_a_section_without_an_id_is_a_problem_with_its_line():
    """Answers cite by id, so a section without one could never be cited; the others are kept."""
    passages, problems = split_passages("## A {#a}\nx\n\n## B\ny\n## C {bad}\n## D {#d d}\n", "k.md")

    assert [Passage(id="a", title="A", text="x", source="k.md")] == passages
    assert [("passage without an id", f"k.md:{line}") for line in (4, 6, 7)] == [
        (problem.what, problem.where) for problem in problems
    ]
    assert all(isinstance(problem, Problem) and problem.hint for problem in problems)


@pytest.mark.parametrize("text", ["", "# A {#a}\n### B {#b}\n##C {#c}\n ## D {#d}\n"])
def test_a_file_without_level_two_headings_has_no_passages(text: str):
    """Only a line that starts with `## ` starts a passage."""
    assert ([], []) == split_passages(text, "k.md")


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x0c", "\x85", "\x1e"])
def test_only_a_line_feed_ends_a_line(separator: str):
    """Other separators stay in the text as they are, so that a quote of it is found."""
    passages, _ = split_passages(f"## A {{#a}}\none{separator}two", "k.md")

    assert [f"one{separator}two"] == [passage.text for passage in passages]


def _passage(passage_id: str, title: str, text: str, source: str = "a.md") -> Passage:
    return Passage(id=passage_id, title=title, text=text, source=source)


SHELF = (
    _passage("returns", "Returns", "You may send goods back within 14 days."),
    _passage("warranty", "Warranty", "The warranty lasts two years. Goods with water damage are excluded."),
    _passage("fr", "Garantie", "La durée de la garantie est de deux ans, été comme hiver.", "fr.md"),
    _passage("ja-returns", "返品について", "商品到着後14日以内であれば返品できます。", "ja.md"),
    _passage("ja-warranty", "保証期間", "保証期間は購入日から2年間です。", "ja.md"),
)


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("How long is the WARRANTY?", "warranty"), ("send it back", "returns"), ("duree garantie", "fr"), ("ÉTÉ", "fr"),
        ("返品したいです", "ja-returns"), ("保証は何年ですか", "ja-warranty"), ("ﾎｼｮｳ 保証期間", "ja-warranty"), ("１４日以内", "ja-returns"),
        ("water-damage", "warranty"),
    ],
)  # fmt: skip
def test_search_finds_the_passage_a_reader_would_open(query: str, best: str):
    """Words in spaced scripts, character pairs in Japanese; accents, width and case do not matter."""
    assert best == PassageIndex(SHELF).search(query, top=1)[0].passage.id


@pytest.mark.parametrize("query", ["", "  ", "?!", "🙂", "zebra", '"', "*", "NEAR(", "ั่"])
def test_a_query_that_matches_nothing_finds_nothing(query: str):
    """No guess when no term occurs, and no error for what is an operator of the index."""
    assert [] == PassageIndex(SHELF).search(query, top=3)


@given(st.text(max_size=30))
def test_no_query_breaks_the_index(query: str):
    """Questions come from strangers: quotes, operators and NUL are text."""
    PassageIndex(SHELF).search(query, top=2)


def test_hits_come_best_first_limited_and_from_the_asked_files():
    """`top` counts after the scope is applied, and ties keep the order of the files."""
    index = PassageIndex([*SHELF, _passage("twin", "Returns", "You may send goods back within 14 days.", "z.md")])

    everywhere = index.search("send goods back", top=10)
    scoped = index.search("send goods back", top=1, sources=["z.md"])

    assert sorted((hit.score for hit in everywhere), reverse=True) == [hit.score for hit in everywhere]
    assert ["returns", "twin", "warranty"] == [hit.passage.id for hit in everywhere]
    assert ["twin"] == [hit.passage.id for hit in scoped]
    assert [] == index.search("goods", top=5, sources=[])
    assert isinstance(everywhere[0], Hit)


def test_a_title_counts_more_than_a_text():
    """A section named after the question is the better answer."""
    shelf = [_passage("text", "Other things", "refund here"), _passage("title", "refund here", "Other things")]

    assert ["title", "text"] == [hit.passage.id for hit in PassageIndex(shelf).search("refund", top=2)]


def test_equal_passages_share_one_index():
    """An evaluation of thousands of cases builds the index once."""
    assert index_of(SHELF) is index_of(tuple(SHELF))
