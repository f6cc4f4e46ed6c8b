"""local:nearest answers with what is expected of the most similar other case; local:constant with what is expected most often."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import pairwise
from typing import Any, ClassVar

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, canonical_json, parse_json
from promptops.core.suite import Case
from promptops.models.base import ModelRequest
from promptops.models.local import input_text
from promptops.models.local.folds import Labelled, labelled, splits, text_key

_FOLDS = 10
_NEIGHBOURS = (1, 3, 5)
_TUNED_ON = 300
_TEXT_FIELDS = ("answer", "summary", "output", "text")


class Nearest:
    """Per field the vote of the k most similar cases (TF-IDF cosine); k is chosen inside the training rows of each fold.

    `fields` are the properties an answer may have; those that no case states are left out. Without any, the answer is the
    text that is expected (`answer`, `summary`, `output` or `text`). Raises DataError when the cases state neither.
    """

    version: ClassVar[int] = 1

    def __init__(
        self, fields: tuple[str, ...], text: tuple[str, ...], cases: Iterable[Case], more: Iterable[Case] = ()
    ) -> None:
        self._text = text
        rows, extra = labelled("nearest", cases, text), labelled("nearest", more, text)
        self._fields = _stated(fields, rows)
        self._text_field = "" if self._fields else next(iter(_stated(_TEXT_FIELDS, rows)), "")
        if not (self._fields or self._text_field):
            raise DataError("local:nearest has nothing to answer with", why="no case states a property of the answer, or its text",
                            hint="state the expected answer in the golden cases")  # fmt: skip
        self._answers = self._predict(rows, extra)

    def respond(self, request: ModelRequest) -> Json:
        return _known(self._answers, input_text(request, self._text), "nearest")

    def _predict(self, rows: Sequence[Labelled], extra: Sequence[Labelled]) -> dict[str, Json]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        answers: dict[str, Json] = {}
        for train, test in splits("nearest", rows, folds=_FOLDS, seed=0):
            known = [*(rows[index] for index in train), *extra]
            vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=50_000)
            try:
                seen = vectorizer.fit_transform([row.text for row in known])
            except ValueError as error:
                raise DataError(
                    "local:nearest finds no word in the cases", hint="state `text` in rules.yaml"
                ) from error
            k = self._best_k(seen, known)
            similar = vectorizer.transform([rows[index].text for index in test]) @ seen.T
            for index, near in zip(test, _nearest(similar, k), strict=True):
                answers[text_key(rows[index].text)] = self._vote(near, known)
        return answers

    def _best_k(self, seen: Any, known: Sequence[Labelled]) -> int:
        """How many neighbours agree best with what is expected of the training rows themselves, each left out in turn."""
        sample = min(len(known), _TUNED_ON)
        found = _nearest(seen[:sample] @ seen.T, max(_NEIGHBOURS) + 1)
        others = [[item for item in near if item[0] != place] for place, near in enumerate(found)]

        def hits(k: int) -> int:
            return sum(self._vote(near[:k], known) == self._expected(known[place]) for place, near in enumerate(others))

        return max(_NEIGHBOURS, key=lambda k: (hits(k), -k))

    def _vote(self, neighbours: Sequence[tuple[int, float]], known: Sequence[Labelled]) -> Json:
        near = neighbours or [(0, 1.0)]
        if not self._fields:
            return self._expected(known[near[0][0]])
        return _voted(self._fields, [(known[place], weight) for place, weight in near])

    def _expected(self, row: Labelled) -> Json:
        if not self._fields:
            return row.expected.get(self._text_field, "")
        return {name: row.expected[name] for name in self._fields if name in row.expected}


class Constant:
    """What is expected most often in the other cases, whatever is asked: the floor that everything has to beat."""

    version: ClassVar[int] = 1

    def __init__(
        self, fields: tuple[str, ...], text: tuple[str, ...], cases: Iterable[Case], more: Iterable[Case] = ()
    ) -> None:
        self._text = text
        rows, extra = labelled("constant", cases, text), labelled("constant", more, text)
        self._answers: dict[str, Json] = {}
        fields = _stated(fields, rows)
        if not fields:
            raise DataError("local:constant has nothing to answer with", why="no case states a property of the answer",
                            hint="it is for answers of a few possible values")  # fmt: skip
        for train, test in splits("constant", rows, folds=_FOLDS, seed=0):
            known = [*(rows[index] for index in train), *extra]
            answer = _voted(fields, [(row, 1.0) for row in known])
            self._answers |= {text_key(rows[index].text): answer for index in test}

    def respond(self, request: ModelRequest) -> Json:
        return _known(self._answers, input_text(request, self._text), "constant")


def _stated(fields: Sequence[str], rows: Sequence[Labelled]) -> tuple[str, ...]:
    return tuple(name for name in fields if any(name in row.expected for row in rows))


def _known(answers: Mapping[str, Json], text: str, name: str) -> Json:
    key = text_key(text)
    if key not in answers:
        raise DataError(f"local:{name} knows only the golden cases", hint="evaluate the golden cases")
    return answers[key]


def _nearest(similar: Any, k: int) -> Iterator[list[tuple[int, float]]]:
    """For each row of a sparse matrix (index, similarity) of the k most similar columns, best first; ties by index."""
    for start, end in pairwise(similar.indptr.tolist()):
        found = zip(similar.data[start:end].tolist(), similar.indices[start:end].tolist(), strict=True)
        best = nsmallest(k, ((-value, index) for value, index in found if value > 0))
        yield [(index, -value) for value, index in best]


def _voted(fields: Sequence[str], rows: Sequence[tuple[Labelled, float]]) -> dict[str, Json]:
    """Per field the value with the most weight, ties by its JSON text; a field that most rows do not state is left out."""
    answer: dict[str, Json] = {}
    for name in fields:
        votes: dict[bytes, float] = {}
        for row, weight in rows:
            value = canonical_json(row.expected[name]) if name in row.expected else b""
            votes[value] = votes.get(value, 0.0) + weight
        best = min(votes, key=lambda text: (-votes[text], text))
        if best:
            answer[name] = parse_json(best)
    return answer
