"""Text in pieces: what differs from the reference, what hides, what poses as another letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.report.review import Kind, pieces


def kinds(text: str, reference: str = "") -> list[tuple[Kind, str]]:
    return [(kind, part) for kind, part in pieces(text, reference) if part.strip()]


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_pieces_are_the_whole_text(text: str, reference: str):
    """Put together again they are the text, but for characters that are shown by name; nothing that hides is left in them."""
    from promptops.report.show import hides

    found = pieces(text, reference)
    visible = "".join(part for kind, part in found if kind != "mark")

    assert not any(hides(char) for char in visible)
    rest = iter(text)
    assert all(char in rest for char in visible)  # a subsequence
    assert len(text) - len(visible) == sum(kind == "mark" for kind, _ in found)


def test_words_that_the_reference_lacks_differ():
    """In its order, without regard to case and width; a blank belongs to neither side."""
    assert [("same", "The "), ("", "quick red"), ("same", " FOX ")] == [
        (kind, part) for kind, part in pieces("The quick red FOX ", "the brown fox")
    ]


def test_in_scripts_without_blanks_single_characters_do_not_agree_by_chance():
    """Four in a row do."""
    assert [("", "全額を"), ("same", "返金します")] == kinds("全額を返金します", "送料は返金します")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u202eb", [("", "a"), ("mark", "RLO"), ("", "b")]),
        ("a\u200bb\u00adc", [("", "a"), ("mark", "ZWSP"), ("", "b"), ("mark", "SHY"), ("", "c")]),
        ("a\u200db", [("", "a"), ("mark", "ZWJ"), ("", "b")]),
        ("👩\u200d👧", [("", "👩\u200d👧")]),
        ("می\u200cخواهم", [("", "می\u200cخواهم")]),
        ("a\u3164b\U000e0041", [("", "a"), ("mark", "U+3164"), ("", "b"), ("mark", "U+E0041")]),
        ("p\u0430ypal", [("", "p"), ("twin", "\u0430"), ("", "ypal")]),
        ("Москва and Αθήνα", [("", "Москва and Αθήνα")]),
        ("naïve café ﬁn", [("", "naïve café ﬁn")]),
        ("10 µm", [("", "10 µm")]),
        ("\u0441\u0441ab", [("twin", "\u0441"), ("twin", "\u0441"), ("", "ab")]),
    ],
)
def test_H6_what_hides_is_named_and_what_poses_is_marked(text: str, expected: list[tuple[Kind, str]]):
    """Joiners at their work, words of one script and accents are left alone."""
    assert expected == pieces(text)


def test_a_very_long_text_is_cut_and_says_so():
    """The page stays quick; two long texts are not compared word by word."""
    found = pieces("word " * 50_000, "word " * 9_000)

    assert ("mark", "50000 more characters") == found[-1]
