"""Words, search terms and sentences are counted alike in every script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.text import estimate_tokens, fold, has_unspaced_script, sentences, terms, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []), (" \n ", []), ("…!?", []), ("🙂", []),
        ("Don't stop", ["Don't", "stop"]),
        ("l'été d’hier", ["l'été", "d’hier"]),
        ("A well-known e-mail.", ["A", "well-known", "e-mail"]),
        ("3.14 and 1,000 or 10%", ["3.14", "and", "1,000", "or", "10"]),
        ("Grüße, naïve Öle", ["Grüße", "naïve", "Öle"]),
        ("foo--bar / baz", ["foo", "bar", "baz"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("日本語とEnglish 2語", ["日", "本", "語", "と", "English", "2", "語"]),
        ("我爱你。", ["我", "爱", "你"]),
        ("한국어 text", ["한", "국", "어", "text"]),
        ("ภาษา", ["ภ", "า", "ษ", "า"]),
    ],
)  # fmt: skip
def test_words_are_counted_as_a_reader_would(text: str, expected: list[str]):
    """Apostrophes, hyphens and decimal marks do not split; each character of an unspaced script is a word."""
    assert expected == words(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("The Don't", ["the", "don", "t"]),
        ("ＡＢＣ１２ Straße", ["abc12", "strasse"]),
        ("INV-2024_001", ["inv", "2024", "001"]),
        ("返品期間", ["返品", "品期", "期間"]),
        ("本", ["本"]),
        ("ｶﾀｶﾅ", ["カタ", "タカ", "カナ"]),
        ("保証は2年です", ["保証", "証は", "2", "年で", "です"]),
    ],
)
def test_search_terms_are_folded_words_and_pairs_of_characters(text: str, expected: list[str]):
    """Full-width, half-width and capital letters find their plain forms."""
    assert expected == terms(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  Zwei   Wörter\n", "zwei wörter"), ("１２，５００円", "12,500円"), ("STRASSE", "strasse"), ("Straße", "strasse"), ("ﬁn\u00a0de", "fin de")],
)  # fmt: skip
def test_fold_keeps_what_the_eye_compares(text: str, expected: str):
    """Width, case and blanks do not count."""
    assert expected == fold(text)


ENGLISH = [
    ("", []),
    ("  \n ", []),
    ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
    ("Dr. Smith paid $3.50. He left.", ["Dr. Smith paid $3.50.", "He left."]),
    ("Use e.g. Python, i.e. This one. Done.", ["Use e.g. Python, i.e. This one.", "Done."]),
    ("J. R. Tolkien wrote it. Yes.", ["J. R. Tolkien wrote it.", "Yes."]),
    ("The U.S. Army came. It went.", ["The U.S. Army came.", "It went."]),
    ("The answer is no. Try again.", ["The answer is no.", "Try again."]),
    ("See No. 5 and art. 7. Then pp. 8.", ["See No. 5 and art. 7.", "Then pp. 8."]),
    ("He likes modern art. She does not.", ["He likes modern art.", "She does not."]),
    ('He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
    ("It works. (Really.) Good.", ["It works.", "(Really.)", "Good."]),
    ("It costs 5. Then it rose to 17. That was it.", ["It costs 5.", "Then it rose to 17.", "That was it."]),
    ("Wait... What?! Yes.", ["Wait...", "What?!", "Yes."]),
    ("version 2.0 of example.com is out", ["version 2.0 of example.com is out"]),
    ("a line\nanother\n\nlast", ["a line", "another", "last"]),
    ("1. Open it.\n2. Close it.", ["1. Open it.", "2. Close it."]),
]
GERMAN = [
    ("Der Termin ist am 17. Oktober. Bitte kommen.", ["Der Termin ist am 17. Oktober.", "Bitte kommen."]),
    ("Vom 3. Mai bis zum 31. Dez. 2024. Danke!", ["Vom 3. Mai bis zum 31. Dez. 2024.", "Danke!"]),
    ("17. März 2024", ["17. März 2024"]),
    ("Im 19. Jahrhundert war es so. Ja.", ["Im 19. Jahrhundert war es so.", "Ja."]),
    ("Es waren 12. Maier kam nicht.", ["Es waren 12.", "Maier kam nicht."]),
    ("Nimm z. B. Äpfel bzw. Birnen, d. h. Obst. Gut.", ["Nimm z. B. Äpfel bzw. Birnen, d. h. Obst.", "Gut."]),
    ("Nach § 5 Abs. 2 gilt Nr. 7. Ende.", ["Nach § 5 Abs. 2 gilt Nr. 7.", "Ende."]),
    (
        "Hr. Prof. Weber und Fr. Öztürk kamen. Änderungen folgen.",
        ["Hr. Prof. Weber und Fr. Öztürk kamen.", "Änderungen folgen."],
    ),
    ("Er sagte: „Nein.“ Dann ging er.", ["Er sagte: „Nein.“", "Dann ging er."]),
]
FRENCH = [
    ("M. Dupont et Mme. Durand sont là. Merci !", ["M. Dupont et Mme. Durand sont là.", "Merci !"]),
    ("Il part le 1er mai. Elle reste.", ["Il part le 1er mai.", "Elle reste."]),
    ("« Oui. » Il est parti. Écoutez !", ["« Oui. »", "Il est parti.", "Écoutez !"]),
    ("Ça va ? Très bien ! Élise arrive.", ["Ça va ?", "Très bien !", "Élise arrive."]),
]
JAPANESE = [
    ("今日は晴れ。明日は雨！本当？はい", ["今日は晴れ。", "明日は雨！", "本当？", "はい"]),
    ("「はい。」次です。", ["「はい。」", "次です。"]),
    ("（注意。）『本。』終わり。", ["（注意。）", "『本。』", "終わり。"]),
    ("バージョン2.0です。OK", ["バージョン2.0です。", "OK"]),
    ("是的。“好。”他说。", ["是的。", "“好。”", "他说。"]),
]


@pytest.mark.parametrize(("text", "expected"), ENGLISH + GERMAN + FRENCH + JAPANESE)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]):
    """Abbreviations, ordinals before a month, list numbers and decimals do not end a sentence; a line break does."""
    assert expected == sentences(text)


@given(st.text(st.sampled_from("aB1.!?。」»” \n"), max_size=20))
def test_no_character_is_lost_or_doubled_by_splitting(text: str):
    """Sentences are the text, without the blanks between them."""
    parts = sentences(text)

    assert "".join(text.split()) == "".join("".join(parts).split())
    assert [part.strip() for part in parts] == parts


@pytest.mark.parametrize(
    ("text", "tokens", "unspaced"),
    [("", 0, False), ("abc", 1, False), ("abcd", 1, False), ("abcde", 2, False), ("日本", 2, True), ("日本abcde", 4, True)],
)  # fmt: skip
def test_tokens_are_estimated_at_four_characters_or_one_sign(text: str, tokens: int, *, unspaced: bool):
    """A plan before the call; the provider's own count is the truth."""
    assert (tokens, unspaced) == (estimate_tokens(text), has_unspaced_script(text))
