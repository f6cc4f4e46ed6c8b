"""local:classifier in plain Python: the numbers that a bundle ships, scored as scikit-learn scores them, without it."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Any, Final

from promptops.core.jsontext import Json

FORMAT: Final = "promptops.classifier/1"
MAX_CHARS: Final = 4_096
"""Only so much of a text is read, in training and in a service: what it costs is bounded by it."""

HINT_WEIGHT: Final = 0.5
NGRAMS: Final = (2, 4)
MAX_COLUMNS: Final = 2_000
_LARGEST = 1e6
_WORD = re.compile(r"\b\w\w+\b")
_BLANKS = re.compile(r"\s\s+")

Terms = Mapping[str, tuple[float, ...]]
"""By term: its idf, and its weight in each column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One property of the answer. Two classes share one column, of the second; one class needs none."""

    name: str
    classes: tuple[Json, ...]
    intercepts: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """The predicted properties; `confidence` is the least of their probabilities."""

    values: Mapping[str, Json]
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearClassifier:
    """One-vs-rest logistic regression on TF-IDF of words and of characters within words, and on what the rules say."""

    fields: tuple[Column, ...]
    hints: Mapping[str, tuple[float, ...]]
    words: Terms
    chars: Terms
    evidence: Mapping[str, Json] = field(default_factory=dict)

    def guess(self, text: str, said: Mapping[str, Json]) -> Guess:
        """The likeliest value of each property; `said` are the values that the rules give."""
        scores = [number for item in self.fields for number in item.intercepts]
        for name in said.keys() & {item.name for item in self.fields}:
            weights = self.hints.get(hint_of(name, said[name]))
            if weights is not None:
                for place, weight in enumerate(weights):
                    scores[place] += HINT_WEIGHT * weight
        text = text[:MAX_CHARS]
        _add(scores, words_of(text), self.words)
        _add(scores, ngrams_of(text), self.chars)
        values: dict[str, Json] = {}
        confidence, start = 1.0, 0
        for item in self.fields:
            stop = start + len(item.intercepts)
            value, probability = _best(item, scores[start:stop])
            values[item.name] = value
            confidence = min(confidence, probability)
            start = stop
        return Guess(values=values, confidence=confidence)

    def as_json(self) -> dict[str, Json]:
        """The document `parse_classifier` reads."""
        return {
            "format": FORMAT, "max_chars": MAX_CHARS, "hint_weight": HINT_WEIGHT, "ngrams": list(NGRAMS),
            "fields": [{"name": item.name, "classes": list(item.classes), "intercepts": list(item.intercepts)} for item in self.fields],
            "hints": {name: list(weights) for name, weights in sorted(self.hints.items())},
            "words": {term: list(numbers) for term, numbers in sorted(self.words.items())},
            "chars": {term: list(numbers) for term, numbers in sorted(self.chars.items())},
            "evidence": dict(self.evidence),
        }  # fmt: skip


def hint_of(name: str, value: Json) -> str:
    return f"{name}={value}"


def words_of(text: str) -> list[str]:
    """Words as scikit-learn's TfidfVectorizer(strip_accents="unicode") finds them."""
    text = text.lower()
    if not text.isascii():
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return _WORD.findall(text)


def ngrams_of(text: str) -> list[str]:
    """Pieces of 2 to 4 characters within words, as scikit-learn's analyzer `char_wb` cuts them; a short word counts once."""
    found: list[str] = []
    low, high = NGRAMS
    for word in _BLANKS.sub(" ", text.lower()).split():
        padded = f" {word} "
        length = len(padded)
        for size in range(low, high + 1):
            if length <= size:
                found.append(padded)
                break
            found += [padded[start : start + size] for start in range(length - size + 1)]
    return found


def _add(scores: list[float], terms: Iterable[str], known: Terms) -> None:
    """Add the weights times the tf-idf vector (1 + log tf, unit length)."""
    found: list[tuple[float, tuple[float, ...]]] = []
    square = 0.0
    for term, count in Counter(terms).items():
        numbers = known.get(term)
        if numbers is None:
            continue
        value = numbers[0] if count == 1 else numbers[0] * (1.0 + math.log(count))
        square += value * value
        found.append((value, numbers))
    if not found:
        return
    norm = math.sqrt(square)
    shares = [value / norm for value, _ in found]
    columns = zip(*(numbers for _, numbers in found), strict=True)
    next(columns)  # the idf
    for place, column in enumerate(columns):
        scores[place] += sum(map(mul, shares, column))


def _best(item: Column, scores: Sequence[float]) -> tuple[Json, float]:
    """The likeliest class and its probability; the first of equals, as in scikit-learn."""
    if len(item.classes) == 1:
        return item.classes[0], 1.0
    if len(item.classes) == 2:
        second = _sigmoid(scores[0])
        return (item.classes[1], second) if scores[0] > 0 else (item.classes[0], 1.0 - second)
    place = max(range(len(scores)), key=scores.__getitem__)
    probabilities = [_sigmoid(score) for score in scores]
    total = sum(probabilities)
    return item.classes[place], probabilities[place] / total if total else 0.0


def _sigmoid(score: float) -> float:
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    grown = math.exp(score)
    return grown / (1.0 + grown)


def parse_classifier(document: Mapping[str, Any]) -> LinearClassifier:
    """A classifier from a document that keeps to classifier.schema.json. Raises ValueError for what a schema cannot say."""
    fields = tuple(
        Column(name=item["name"], classes=tuple(item["classes"]), intercepts=_numbers("fields", item["intercepts"]))
        for item in document["fields"]
    )
    for item in fields:
        wanted = {1: 0, 2: 1}.get(len(item.classes), len(item.classes))
        if len(item.intercepts) != wanted:
            raise ValueError(f"{item.name[:60]!r} has {len(item.classes)} classes and {len(item.intercepts)} intercepts")  # fmt: skip
    if len({item.name for item in fields}) != len(fields):
        raise ValueError("two fields have the same name")
    columns = sum(len(item.intercepts) for item in fields)
    if columns > MAX_COLUMNS:
        raise ValueError(f"{columns} columns; {MAX_COLUMNS} is the most")
    return LinearClassifier(
        fields=fields,
        hints=_table("hints", document["hints"], columns), words=_table("words", document["words"], columns + 1),
        chars=_table("chars", document["chars"], columns + 1), evidence=document["evidence"],
    )  # fmt: skip


def _table(label: str, rows: Mapping[str, Sequence[Any]], width: int) -> dict[str, tuple[float, ...]]:
    found: dict[str, tuple[float, ...]] = {}
    for term, numbers in rows.items():
        if len(numbers) != width:
            raise ValueError(f"{label}[{term[:40]!r}] has {len(numbers)} numbers, not {width}")
        found[term] = _numbers(label, numbers)
    return found


def _numbers(label: str, numbers: Sequence[Any]) -> tuple[float, ...]:
    if not all(-_LARGEST <= number <= _LARGEST for number in numbers):
        raise ValueError(f"{label}: a number beyond {_LARGEST:g}")
    return tuple(float(number) for number in numbers)
