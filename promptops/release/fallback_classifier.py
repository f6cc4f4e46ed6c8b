"""The classifier of the fallback ladder: fitted on the golden cases of a commit, the same cases give the same numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, canonical_json, parse_json
from promptops.core.suite import Case
from promptops.models.base import ModelRequest
from promptops.models.local.classifier import DEFAULT_FOLDS, DEFAULT_REGULARIZATION, linear_model, vectorizers
from promptops.models.local.folds import Labelled, labelled, one_thread, splits
from promptops.models.local.linear import HINT_WEIGHT, MAX_CHARS, Column, Guess, LinearClassifier, hint_of
from promptops.models.local.rules import Rules

MAX_BYTES = 32 * 2**20
_DECIMALS = 6
"""Weights are cut so far that the last bits of a processor's arithmetic do not reach the file."""


def fit_classifier(settings: Mapping[str, Any], text: tuple[str, ...], rules: Rules, cases: Iterable[Case], *, min_confidence: float) -> LinearClassifier:  # fmt: skip
    """Logistic regression as in local:classifier, learned from all cases; its `evidence` is out of fold.

    `settings` is the section `classifier` of rules.yaml. Raises DataError for too few cases, or more classes than fit a bundle.
    """
    rows = labelled("classifier", cases, text)
    said = [rules.values(ModelRequest(messages=(), inputs=row.inputs), {}) for row in rows]
    with one_thread():
        found = _fit(settings, rows, said)
        evidence = _evidence(settings, rows, said, min_confidence)
    found = LinearClassifier(fields=found.fields, hints=found.hints, words=found.words, chars=found.chars, evidence=evidence)  # fmt: skip
    size = len(canonical_json(found.as_json()))
    if size > MAX_BYTES:
        raise DataError(f"a fallback classifier of {size:,} bytes", why=f"{MAX_BYTES:,} is the most",
                        hint="predict fewer properties, or leave the step `classifier` out")  # fmt: skip
    return found


def _evidence(settings: Mapping[str, Any], rows: Sequence[Labelled], said: Sequence[Mapping[str, Json]], min_confidence: float) -> dict[str, Json]:  # fmt: skip
    """What the floor lets pass and how much of that is right, each case predicted without having been seen."""
    answered = right = 0
    for train, test in splits("classifier", rows, folds=settings.get("folds", DEFAULT_FOLDS), seed=settings.get("seed", 0)):  # fmt: skip
        fitted = _fit(settings, [rows[index] for index in train], [said[index] for index in train])
        for index in test:
            guess = fitted.guess(rows[index].text, said[index])
            if guess.confidence >= min_confidence:
                answered += 1
                right += _is_right(guess, rows[index])
    return {"cases": len(rows), "min_confidence": float(min_confidence), "answered": answered, "right": right}


def _is_right(guess: Guess, row: Labelled) -> bool:
    return all(canonical_json(value) == canonical_json(row.expected.get(name)) for name, value in guess.values.items())


def _fit(settings: Mapping[str, Any], rows: Sequence[Labelled], said: Sequence[Mapping[str, Json]]) -> LinearClassifier:
    from scipy.sparse import hstack
    from sklearn.feature_extraction import DictVectorizer

    fields: tuple[str, ...] = tuple(settings["fields"])
    texts = [row.text[:MAX_CHARS] for row in rows]
    marks = [{hint_of(name, values[name]): HINT_WEIGHT for name in fields if name in values} for values in said]
    encoder = DictVectorizer()
    blocks = [encoder.fit_transform(marks)]
    fitted: list[Any] = []
    for vectorizer in vectorizers():
        try:
            blocks.append(vectorizer.fit_transform(texts))
        except ValueError:  # no term in any text, or none in two of them
            fitted.append(None)
            continue
        fitted.append(vectorizer)
    features = hstack(blocks).tocsr()
    columns: list[Column] = []
    weights: list[Any] = []
    for name in fields:
        labels = [canonical_json(row.expected.get(name)).decode() for row in rows]
        column, found = _column(name, labels, features, settings.get("regularization", DEFAULT_REGULARIZATION))
        columns.append(column)
        weights += found
    start = len(encoder.get_feature_names_out())
    hints = {str(name): _rounded(weights, place) for place, name in enumerate(encoder.get_feature_names_out())}
    tables: list[dict[str, tuple[float, ...]]] = []
    for item in fitted:
        table: dict[str, tuple[float, ...]] = {}
        if item is not None:
            table = {term: (round(float(item.idf_[place]), _DECIMALS), *_rounded(weights, start + place)) for term, place in item.vocabulary_.items()}  # fmt: skip
            start += len(table)
        tables.append(table)
    return LinearClassifier(fields=tuple(columns), hints=hints, words=tables[0], chars=tables[1])


def _column(name: str, labels: Sequence[str], features: Any, regularization: float) -> tuple[Column, list[Any]]:
    """A field with its intercepts, and its weights by column."""
    classes = sorted(set(labels))
    if len(classes) == 1 or not features.shape[1]:
        return Column(name=name, classes=(parse_json(max(classes, key=labels.count)),), intercepts=()), []
    model = linear_model(regularization).fit(features, labels)
    intercepts = tuple(round(float(each.intercept_[0]), _DECIMALS) for each in model.estimators_)
    found = Column(name=name, classes=tuple(parse_json(str(label)) for label in model.classes_), intercepts=intercepts)
    return found, [each.coef_[0] for each in model.estimators_]


def _rounded(weights: Sequence[Any], place: int) -> tuple[float, ...]:
    return tuple(round(float(weight[place]), _DECIMALS) for weight in weights)
