"""local:classifier: logistic regression on TF-IDF and on what the rules say, each golden case predicted out of fold.

A case is never predicted by a model that saw it, or a case of its group, or another case with the same text: what is
scored is what the classifier would do on a new text.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from promptops.core.digest import digest
from promptops.core.errors import DataError
from promptops.core.jsontext import Json, canonical_json, parse_json
from promptops.core.suite import Case
from promptops.models.base import ModelRequest
from promptops.models.local import input_text
from promptops.models.local.rules import Rules

MAX_ROWS = 50_000
_DEFAULT_FOLDS = 10
_DEFAULT_REGULARIZATION = 10.0
_HINT_WEIGHT = 0.5


class Classifier:
    """Predicts each of `fields`; what else the answer needs comes from `rules`."""

    version: ClassVar[int] = 2

    def __init__(self, settings: Mapping[str, Any], text: tuple[str, ...], rules: Rules, cases: Iterable[Case]) -> None:
        self._text, self._rules = text, rules
        self._fields: tuple[str, ...] = tuple(settings["fields"])
        # Folds depend on the order of the rows; the golden digest, by which answers are kept, does not.
        rows = sorted((case for case, _ in zip(cases, range(MAX_ROWS + 1), strict=False)), key=lambda case: case.id)
        if len(rows) > MAX_ROWS:
            raise DataError(f"local:classifier trains on at most {MAX_ROWS} cases", hint="use local:rules")
        self._predictions = self._cross_validate(
            rows,
            folds=settings.get("folds", _DEFAULT_FOLDS),
            regularization=settings.get("regularization", _DEFAULT_REGULARIZATION),
            seed=settings.get("seed", 0),
        )

    def respond(self, request: ModelRequest) -> Json:
        key = digest(input_text(request, self._text))
        if key not in self._predictions:
            raise DataError("local:classifier knows only the golden cases", hint="evaluate the golden cases")
        return self._rules.answer(request, self._predictions[key])

    def _cross_validate(
        self, rows: list[Case], *, folds: int, regularization: float, seed: int
    ) -> dict[str, dict[str, Json]]:
        """Out-of-fold predictions by text."""
        import numpy as np
        from sklearn.model_selection import GroupKFold

        texts = [input_text(ModelRequest(messages=(), inputs=row.inputs), self._text) for row in rows]
        groups = _groups(rows, texts)
        folds = min(folds, len(set(groups)))
        if folds < 2:
            raise DataError("local:classifier needs at least two different cases", hint="add golden cases")
        predicted: dict[str, dict[str, Json]] = {digest(text): {} for text in texts}
        hints = self._hints(rows)
        labels = {name: [canonical_json(row.expected.get(name)).decode() for row in rows] for name in self._fields}
        splitter = GroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        for train, test in splitter.split(np.zeros(len(rows)), groups=groups):
            seen, unseen = _features(
                [texts[index] for index in train], [texts[index] for index in test], hints[train], hints[test]
            )
            for name in self._fields:
                values = _fit_predict(seen, [labels[name][index] for index in train], unseen, regularization)
                for index, value in zip(test, values, strict=True):
                    predicted[digest(texts[index])][name] = parse_json(value)
        return predicted

    def _hints(self, rows: list[Case]) -> Any:
        """What the rules say of each case, one-hot: features that need no training."""
        from sklearn.feature_extraction import DictVectorizer

        said = [self._rules.values(ModelRequest(messages=(), inputs=row.inputs), {}) for row in rows]
        marks = [{f"{name}={values[name]}": _HINT_WEIGHT for name in self._fields if name in values} for values in said]
        return DictVectorizer().fit_transform(marks)


def _groups(rows: list[Case], texts: list[str]) -> list[int]:
    """One label for each set of cases that may not be split between training and test: linked by a group or a text."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    first: dict[tuple[str, str], int] = {}
    links = [
        first.setdefault(key, index)
        for index, (row, text) in enumerate(zip(rows, texts, strict=True))
        for key in (("text", text), ("group", row.group) if row.group else ("case", row.id))
    ]
    here = [index for index in range(len(rows)) for _ in range(2)]
    graph = csr_array(([1] * len(links), (here, links)), shape=(len(rows), len(rows)))
    return [int(label) for label in connected_components(graph, directed=False)[1]]


def _features(seen: list[str], unseen: list[str], seen_hints: Any, unseen_hints: Any) -> tuple[Any, Any]:
    """TF-IDF of words and of character n-grams, learnt from the seen texts only, beside the hints."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts = [(seen_hints, unseen_hints)]
    for vectorizer in (
        TfidfVectorizer(sublinear_tf=True, strip_accents="unicode"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True, max_features=20_000),
    ):
        try:
            parts.append((vectorizer.fit_transform(seen), vectorizer.transform(unseen)))
        except ValueError:  # no term in any text, or none in two of them
            continue
    return hstack([part for part, _ in parts]).tocsr(), hstack([part for _, part in parts]).tocsr()


def _fit_predict(seen: Any, labels: list[str], unseen: Any, regularization: float) -> list[str]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    if len(set(labels)) == 1 or not seen.shape[1]:
        return [max(sorted(set(labels)), key=labels.count)] * unseen.shape[0]
    model = OneVsRestClassifier(LogisticRegression(C=regularization, solver="liblinear", class_weight="balanced"))
    return [str(label) for label in model.fit(seen, labels).predict(unseen)]
