"""Counting and cutting text the same way in every script.

Chinese, Japanese, Korean and Thai write no blanks between words: there, every character counts as a word.
"""

import re
import unicodedata

_UNSPACED = "\u0e00-\u0e7f\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:[-'’.,][^\W{_UNSPACED}]+)*")
_RUN = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")
_UNSPACED_CHAR = re.compile(rf"[{_UNSPACED}]")
_SENTENCE_END = re.compile(r"(?<=[。！？])[」』）”’]{0,2}\s*|(?<=[.!?…])(?:[\"'”“’)»]{1,2}|\s»)?\s+(?=[^a-zà-ÿ\s])|\n+")
_ABBREVIATION = re.compile(
    r"(?:^|\W)(?:mr|mrs|ms|dr|prof|hr|fr|st|abs|tel|vgl|vs|inc|ltd|co|z\.\s?b|d\.\s?h|bzw|ca|evtl|inkl|zzgl|sr|sra|srta"
    r"|mme|mlle|m|approx|e\.g|i\.e|jan|feb|aug|sept|okt|oct|nov|dez|dec|[a-z])\.$",
    re.IGNORECASE,
)
_BEFORE_A_NUMBER = re.compile(r"(?:^|\W)(?:nr|no|art|ziff|p|pp)\.$", re.IGNORECASE)
_LIST_MARK = re.compile(r"\s*\d{1,3}\.")
_ORDINAL = re.compile(r"(?:^|\W)\d{1,2}\.$")
_COUNTED_IN_GERMAN = re.compile(
    r"(?:Jän(?:ner|\.)|Jan(?:uar|\.)|Feb(?:ruar|\.)|März|Apr(?:il|\.)|Mai|Juni|Juli|Aug(?:ust|\.)|Sept?(?:ember|\.)|Okt(?:ober|\.)"
    r"|Nov(?:ember|\.)|Dez(?:ember|\.)|Jahrhundert)(?!\w)"
)


def fold(text: str) -> str:
    """Text for comparing by eye: NFKC (full-width digits become ASCII), lower case, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """Words in order; each character of an unspaced script is one word."""
    return _WORD.findall(text)


def has_unspaced_script(text: str) -> bool:
    return _UNSPACED_CHAR.search(text) is not None


def terms(text: str) -> list[str]:
    """Search terms: folded words, and overlapping character pairs for unspaced scripts."""
    found: list[str] = []
    for run in _RUN.findall(fold(text)):
        if _UNSPACED_CHAR.match(run) and len(run) > 1:
            found.extend(run[i : i + 2] for i in range(len(run) - 1))
        else:
            found.append(run)
    return found


def sentences(text: str) -> list[str]:
    """Sentences in order, stripped, without empty ones; a line break always ends one."""
    parts: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if "\n" not in match.group() and _goes_on(text[start : match.start()], text[match.end() : match.end() + 12]):
            continue
        parts.append(text[start : match.end()].strip())
        start = match.end()
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _goes_on(piece: str, following: str) -> bool:
    """Whether the full stop at the end of `piece` belongs to an abbreviation, a German ordinal or a list number."""
    return bool(
        _ABBREVIATION.search(piece)
        or (following[:1].isdecimal() and _BEFORE_A_NUMBER.search(piece))
        or (_ORDINAL.search(piece) and _COUNTED_IN_GERMAN.match(following))
        or _LIST_MARK.fullmatch(piece)
    )


def estimate_tokens(text: str) -> int:
    """Rough token count for planning only (about 4 characters a token, 1 for unspaced scripts); never billed."""
    unspaced = len(_UNSPACED_CHAR.findall(text))
    return unspaced + -(-(len(text) - unspaced) // 4)
