"""local:extractive picks whole sentences of the text, in their order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.text import sentences
from promptops.models.base import ModelRequest
from promptops.models.local.extractive import Extractive, plain_text

_TICKET = (
    "The kettle leaks water. I bought the kettle on 3 May. My sister likes tea. "
    "The kettle leaks water at the base when it is hot. Please send a new kettle."
)


def summary(text: str, **settings: Any) -> Any:
    request = ModelRequest(messages=(), inputs={"text": text}, output_format="text")
    return Extractive(settings, ("text",)).respond(request)


def test_what_the_text_repeats_is_chosen_in_the_order_of_the_text():
    """The sentences about the leaking kettle win over the one about tea."""
    assert "The kettle leaks water. The kettle leaks water at the base when it is hot." == summary(
        _TICKET, sentences=2, lead=0.0
    )


def test_lead_prefers_the_beginning():
    """Between sentences of equal centrality the earlier one wins by the weight `lead`."""
    assert "aaa bbb." == summary("aaa bbb. Ccc ddd. Eee fff.", sentences=1, lead=1.0)


def test_number_makes_a_sentence_worth_more():
    """Between sentences of equal centrality one with a number wins."""
    assert "Eee 12." == summary("Aaa bbb. Ccc ddd. Eee 12.", sentences=1, lead=0.0)


@given(
    text=st.lists(st.sampled_from(["Aa bb", "Cc dd 1", "Ee ff gg hh", "日本語の文", "Ii"]), max_size=12).map(
        lambda parts: "".join(f"{part}. " for part in parts)
    ),
    count=st.integers(1, 5),
    max_chars=st.integers(40, 80),
)
def test_answer_is_whole_sentences_within_both_limits(text: str, count: int, max_chars: int):
    """Never more sentences or characters than allowed, nothing reworded, the order kept."""
    found = summary(text, sentences=count, max_chars=max_chars)

    picked, source = sentences(found), iter(sentences(text))
    assert len(picked) <= count
    assert len(found) <= max_chars
    assert all(sentence in source for sentence in picked), f"{picked} is no subsequence of the text"


def test_blanks_between_sentences_count_as_characters():
    """Three sentences of 20 characters do not fit into 60: a sentence is left out, not cut."""
    text = "Aaaa bbbb cccc dddd. Eeee ffff gggg hhhh. Iiii jjjj kkkk llll."

    assert [41, 62] == [len(summary(text, sentences=3, max_chars=limit)) for limit in (60, 62)]


def test_one_sentence_that_is_too_long_is_cut():
    """There is always an answer, and never a longer one than allowed."""
    assert "word " * 8 == summary("word " * 50, max_chars=40)


def test_japanese_sentences_are_joined_without_blanks():
    """Unspaced scripts are cut at their own full stop and put together as they are written."""
    text = (
        "注文した電気ケトルが届きません。今日は天気がいいです。電気ケトルの注文番号は1234です。ケトルを待っています。"
    )

    assert "注文した電気ケトルが届きません。電気ケトルの注文番号は1234です。" == summary(text, sentences=2)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>First.</p><p>Second.</p>", "\nFirst.\n\nSecond.\n"),
        ("one<br>two<BR/>three", "one\ntwo\nthree"),
        ("It is <b>very</b> <span style='a'>urgent</span>.", "It is very urgent."),
        ("Write to <help@example.com> now.", "Write to  now."),
        ("Tom &amp; Jerry&nbsp;&lt;3", "Tom & Jerry <3"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("mine\n> yours\n>> older\nmine too", "mine\n\n\nmine too"),
    ],
)
def test_markup_and_quotes_are_not_text(html: str, text: str):
    """Tags that end a block end a line, tags inside a line vanish; quoted lines are somebody else's words."""
    assert text == plain_text(html)


def test_dropped_sentences_are_never_chosen():
    """A pattern of `drop` rules a sentence out, whatever its case."""
    assert "The kettle leaks water." == summary(
        _TICKET, sentences=5, drop=["\\bPLEASE\\b", "bought", "sister", "when it is"]
    )


@pytest.mark.parametrize("text", ["", "   \n ", "<p></p>", "> all quoted", "Drop me. Drop me too."])
def test_nothing_left_gives_an_empty_answer(text: str):
    """An answer is not invented when every sentence is gone."""
    assert "" == summary(text, drop=["drop me"])


@pytest.mark.parametrize("text", ["?! ?! ?!", "!!! ... ???", "1. 2. 3."])
def test_text_without_words_is_answered(text: str):
    """Nothing to compare sentences by: the first are taken."""
    assert sentences(text)[0] == summary(text, sentences=1)


def test_long_text_is_read_up_to_300_sentences():
    """The work is bounded: what comes after the 300th sentence is not looked at."""
    text = " ".join(f"Filler number {number}." for number in range(300)) + " The 301st has 99 numbers 12 34."

    assert "301st" not in summary(text, sentences=20, max_chars=10_000)
