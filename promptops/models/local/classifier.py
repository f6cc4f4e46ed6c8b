"""local:classifier: logistic regression on TF-IDF and on what the rules say, each golden case predicted out of fold.

local:boosted is the same with gradient-boosted trees on the leading components of TF-IDF. A case is never predicted by a
model that saw it: what is scored is what the classifier would do on a new text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, canonical_json, parse_json
from promptops.core.suite import Case
from promptops.models.base import ModelRequest
from promptops.models.local import input_text
from promptops.models.local.folds import Labelled, labelled, one_thread, splits, text_key
from promptops.models.local.linear import HINT_WEIGHT, NGRAMS, hint_of
from promptops.models.local.rules import Rules

DEFAULT_FOLDS = 10
_BOOSTED_FOLDS = 4
DEFAULT_REGULARIZATION = 10.0
_COMPONENTS = 40
Kind = Literal["classifier", "boosted"]


class Classifier:
    """Predicts each of `fields`; what else the answer needs comes from `rules`. `more` rows are learnt from, never predicted."""

    version: ClassVar[int] = 2

    def __init__(
        self, settings: Mapping[str, Any], text: tuple[str, ...], rules: Rules, cases: Iterable[Case], *, more: Iterable[Case] = (),
        kind: Kind = "classifier",
    ) -> None:  # fmt: skip
        self._text, self._rules, self._kind = text, rules, kind
        self._fields: tuple[str, ...] = tuple(settings["fields"])
        self._regularization: float = settings.get("regularization", DEFAULT_REGULARIZATION)
        folds = settings.get("folds", DEFAULT_FOLDS) if kind == "classifier" else _BOOSTED_FOLDS
        rows, extra = labelled(kind, cases, text), labelled(kind, more, text)
        with one_thread():
            self._predictions = self._cross_validate(rows, extra, folds=folds, seed=settings.get("seed", 0))

    def respond(self, request: ModelRequest) -> Json:
        key = text_key(input_text(request, self._text))
        if key not in self._predictions:
            raise DataError(f"local:{self._kind} knows only the golden cases", hint="evaluate the golden cases")
        return self._rules.answer(request, self._predictions[key])

    def _cross_validate(
        self, rows: list[Labelled], extra: list[Labelled], *, folds: int, seed: int
    ) -> dict[str, dict[str, Json]]:
        """Out-of-fold predictions by text."""
        parts = list(splits(self._kind, rows, folds=folds, seed=seed))
        every = [*rows, *extra]
        predicted: dict[str, dict[str, Json]] = {text_key(row.text): {} for row in rows}
        hints = self._hints(every)
        labels = {name: [canonical_json(row.expected.get(name)).decode() for row in every] for name in self._fields}
        always = list(range(len(rows), len(every)))
        for train, test in parts:
            known = [*train, *always]
            seen, unseen = _features(
                [every[index].text for index in known], [rows[index].text for index in test], hints[known], hints[test]
            )
            if self._kind == "boosted":
                seen, unseen = _components(seen, unseen, seed)
            for name in self._fields:
                values = self._fit_predict(seen, [labels[name][index] for index in known], unseen, seed)
                for index, value in zip(test, values, strict=True):
                    predicted[text_key(rows[index].text)][name] = parse_json(value)
        return predicted

    def _hints(self, rows: Sequence[Labelled]) -> Any:
        """What the rules say of each case, one-hot: features that need no training."""
        from sklearn.feature_extraction import DictVectorizer

        said = [self._rules.values(ModelRequest(messages=(), inputs=row.inputs), {}) for row in rows]
        marks = [
            {hint_of(name, values[name]): HINT_WEIGHT for name in self._fields if name in values} for values in said
        ]
        return DictVectorizer().fit_transform(marks)

    def _fit_predict(self, seen: Any, labels: list[str], unseen: Any, seed: int) -> list[str]:
        if len(set(labels)) == 1 or not seen.shape[1]:
            return [max(sorted(set(labels)), key=labels.count)] * unseen.shape[0]
        model = _boosted(seed) if self._kind == "boosted" else linear_model(self._regularization)
        return [str(label) for label in model.fit(seen, labels).predict(unseen)]


def linear_model(regularization: float) -> Any:
    """The estimator, one binary one for each class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    return OneVsRestClassifier(LogisticRegression(C=regularization, solver="liblinear", class_weight="balanced"))


def vectorizers() -> tuple[Any, Any]:
    """TF-IDF of words, and of characters within words; `linear` in this package cuts texts the same way."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return (
        TfidfVectorizer(sublinear_tf=True, strip_accents="unicode"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, min_df=2, sublinear_tf=True, max_features=20_000),
    )


def _boosted(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=20, max_leaf_nodes=6, learning_rate=0.25, min_samples_leaf=5, random_state=seed
    )


def _components(seen: Any, unseen: Any, seed: int) -> tuple[Any, Any]:
    """Dense leading components, learnt from the seen texts only: trees take no sparse matrix."""
    from sklearn.decomposition import TruncatedSVD

    size = min(_COMPONENTS, min(seen.shape) - 1)
    if size < 1:
        return seen.toarray(), unseen.toarray()
    reducer = TruncatedSVD(n_components=size, random_state=seed)
    return reducer.fit_transform(seen), reducer.transform(unseen)


def _features(seen: list[str], unseen: list[str], seen_hints: Any, unseen_hints: Any) -> tuple[Any, Any]:
    """TF-IDF of words and of character n-grams, learnt from the seen texts only, beside the hints."""
    from scipy.sparse import hstack

    parts = [(seen_hints, unseen_hints)]
    for vectorizer in vectorizers():
        try:
            parts.append((vectorizer.fit_transform(seen), vectorizer.transform(unseen)))
        except ValueError:  # no term in any text, or none in two of them
            continue
    return hstack([part for part, _ in parts]).tocsr(), hstack([part for _, part in parts]).tocsr()
