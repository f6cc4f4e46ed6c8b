"""local:extractive: the most central sentences of the text, in their order.

LexRank (Erkan and Radev 2004, JAIR 22:457-479): PageRank over TF-IDF cosine similarity of sentences, here of character
n-grams so that every script works; mixed with the location and cue features of Edmundson 1969 (J. ACM 16:264-285).
"""

import html
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from promptops.core.jsontext import Json
from promptops.core.text import sentences
from promptops.models.base import ModelRequest
from promptops.models.local import input_text

_INLINE_TAG = re.compile(
    r"</?(?:a|b|i|u|s|em|strong|span|font|small|big|sub|sup|code|mark|abbr|img|wbr)\b[^>]{0,500}>|<[^<>\s]{1,100}@[^<>\s]{1,100}>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[a-zA-Z/!][^>]{0,500}>")
_QUOTED = re.compile(r"^\s*>.*$", re.MULTILINE)
_NO_BLANK_AFTER = tuple("。！？」』）")
_DIGIT = re.compile(r"\d")
_DAMPING, _ROUNDS, _CUE = 0.85, 50, 0.2
_MAX_SENTENCES = 300


class Extractive:
    version: ClassVar[int] = 2

    def __init__(self, settings: Mapping[str, Any], text: tuple[str, ...]) -> None:
        self._text = text
        self._count: int = settings.get("sentences", 3)
        self._max_chars: int = settings.get("max_chars", 600)
        self._lead: float = settings.get("lead", 0.3)
        self._drop = [re.compile(pattern, re.IGNORECASE) for pattern in settings.get("drop", ())]

    def respond(self, request: ModelRequest) -> Json:
        found = sentences(plain_text(input_text(request, self._text)))[:_MAX_SENTENCES]
        kept = [item for item in found if not any(pattern.search(item) for pattern in self._drop)]
        if not kept:
            return ""
        scores = self._scores(kept)
        chosen: list[int] = []
        pieces = [item if item.endswith(_NO_BLANK_AFTER) else item + " " for item in kept]
        room = self._max_chars + 1
        for index in sorted(range(len(kept)), key=lambda number: (-scores[number], number)):
            if len(chosen) < self._count and (len(pieces[index]) <= room or not chosen):
                chosen.append(index)
                room -= len(pieces[index])
        return "".join(pieces[index] for index in sorted(chosen)).rstrip()[: self._max_chars]

    def _scores(self, kept: list[str]) -> list[float]:
        centrality = _centrality(kept)
        top = max(centrality)
        return [
            rank / top + self._lead * (1 - index / len(kept)) + _CUE * bool(_DIGIT.search(text))
            for index, (rank, text) in enumerate(zip(centrality, kept, strict=True))
        ]


def plain_text(text: str) -> str:
    """Text without HTML tags, entities and `>` quotes."""
    return html.unescape(_QUOTED.sub("", _TAG.sub("\n", _INLINE_TAG.sub("", text)))).replace("\xa0", " ")


def _centrality(items: list[str]) -> list[float]:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    if len(items) == 1:
        return [1.0]
    try:
        vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True).fit_transform(items)
    except ValueError:  # nothing but blanks and punctuation
        return [1.0] * len(items)
    similarity = (vectors @ vectors.T).toarray()
    np.fill_diagonal(similarity, 0.0)
    totals = similarity.sum(axis=1, keepdims=True)
    step = np.divide(similarity, totals, out=np.full_like(similarity, 1 / len(items)), where=totals > 0)
    rank = np.full(len(items), 1 / len(items))
    for _ in range(_ROUNDS):
        rank = (1 - _DAMPING) / len(items) + _DAMPING * (step.T @ rank)
    return [float(value) for value in rank]
