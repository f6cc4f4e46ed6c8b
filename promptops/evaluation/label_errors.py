"""Labels that are probably wrong: what models that did not see a case say with more confidence than is usual for that label."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptops.core.jsontext import Json, canonical_json, parse_json
from promptops.models.local.folds import Labelled, one_thread, splits

_FOLDS = 3
_LEAST = 5
"""A label needs so many cases before a model can be asked about it."""
_ENOUGH, _GAIN = 0.7, 0.5
"""Models that agree with fewer labels, or with less than half of those that always guessing the commonest one gets wrong, tell nothing."""
_STEPS = 25_000
_BELOW_CHANCE, _HALF, _UNLIKE = 0.5, 0.5, 0.02
_EVERYDAY, _MANY_LABELS = 0.2, 20
_MAX_CHARS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A case whose `field` says `label` where the others suggest `suggested`; `margin` (0..1) is how much surer they are."""

    id: str
    field: str
    label: str
    suggested: str
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCheck:
    """What was looked at: `fields` with the accuracy of the models out of fold; `skipped` says why others were not."""

    accuracy: Mapping[str, float]
    skipped: Mapping[str, str]
    suspects: tuple[Suspect, ...]


def check_labels(rows: Sequence[Labelled], columns: Mapping[str, Sequence[Json]], *, seed: int = 0) -> LabelCheck:
    """Suspected errors in each column of labels, surest first.

    After confident learning (Northcutt, Jiang and Chuang 2021, J. Artif. Intell. Res. 70:1373-1411): what is usual for a label is the
    mean out-of-fold probability that its cases have for it. A case is suspect when another label is the likeliest, and either that
    one is as likely as is usual for it and the case's own less likely than half of chance, or that one is half as likely as usual
    and the own has not a fiftieth of what is usual. (The first alone, as published, names many cases between two labels: on 77
    labels with 2 % flipped precision 0.53 and recall 0.66; with the second 0.84 and 0.83.) Models: linear, by stochastic gradient, on TF-IDF. Raises DataError for fewer than two different cases.
    """
    accuracy: dict[str, float] = {}
    skipped: dict[str, str] = {}
    suspects: list[Suspect] = []
    matrix: Any = None
    done: dict[tuple[int, ...], str] = {}
    for name, values in columns.items():
        labels = ["" if value is None else canonical_json(value).decode() for value in values]
        counts = Counter(filter(None, labels))
        often = {label for label, count in counts.items() if count >= _LEAST}
        if len(often) < 2:
            skipped[name] = f"fewer than two values with {_LEAST} cases each"
            continue
        order: dict[str, int] = {}
        if (same := done.setdefault(tuple(order.setdefault(label, len(order)) for label in labels), name)) != name:
            skipped[name] = f"the same division as {same}"
            continue
        with one_thread():
            matrix = _features([row.text[:_MAX_CHARS] for row in rows]) if matrix is None else matrix
            if matrix is None:
                skipped[name] = "the cases hold no words"
                continue
            used = [index for index, label in enumerate(labels) if label in often]
            seen = _telling(matrix) if len(often) >= _MANY_LABELS else matrix
            found = _suspects([rows[index] for index in used], seen[used], [labels[index] for index in used], seed)
        accuracy[name] = found[0]
        share = Counter(labels[index] for index in used).most_common(1)[0][1] / len(used)
        if found[0] < _ENOUGH or (found[0] - share) < _GAIN * (1 - share):
            skipped[name] = (
                f"models that did not see the case agree with {100 * found[0]:.0f}% only ({100 * share:.0f}% have the same label): too little to doubt one"
            )
            del accuracy[name]
            continue
        suspects += [Suspect(id=rows[used[index]].id, field=name, label=_shown(labels[used[index]]), suggested=_shown(other), margin=margin)
                     for index, other, margin in found[1]]  # fmt: skip
    return LabelCheck(accuracy=accuracy, skipped=skipped, suspects=tuple(sorted(suspects, key=lambda item: (-item.margin, item.id, item.field))))  # fmt: skip


def _suspects(rows: Sequence[Labelled], matrix: Any, labels: Sequence[str], seed: int) -> tuple[float, list[tuple[int, str, float]]]:  # fmt: skip
    """(accuracy, [(index, other label, margin)])."""
    import numpy as np

    classes = sorted(set(labels))
    place = {label: index for index, label in enumerate(classes)}
    given = np.array([place[label] for label in labels])
    chance = np.zeros((len(rows), len(classes)))
    for train, test in splits("labels", rows, folds=_FOLDS, seed=seed):
        seen = given[train]
        if len(set(seen.tolist())) < 2:
            chance[np.ix_(test, [int(seen[0])])] = 1.0
            continue
        model = _model(len(train), seed).fit(matrix[train], seen)
        chance[np.ix_(test, model.classes_)] = model.predict_proba(matrix[test])
    every = np.arange(len(rows))
    usual = np.array([chance[given == index, index].mean() for index in range(len(classes))])
    best = chance.argmax(axis=1)
    own, other = chance[every, given], chance[every, best]
    confident = (other >= usual[best]) & (own <= _BELOW_CHANCE / len(classes))
    unlike = (other >= _HALF * usual[best]) & (own <= _UNLIKE * usual[given])
    sure = (best != given) & (confident | unlike)
    margins = other - own
    return float((best == given).mean()), [
        (int(index), classes[best[index]], float(margins[index])) for index in np.flatnonzero(sure)
    ]


def _model(rows: int, seed: int) -> Any:
    from sklearn.linear_model import SGDClassifier

    epochs = max(2, min(60, _STEPS // rows))
    return SGDClassifier(loss="log_loss", alpha=2e-5, max_iter=epochs, tol=None, random_state=seed)


def _features(texts: Sequence[str]) -> Any:
    """TF-IDF of words and letter groups, unit rows; None without any word. Labels play no part, so that all rows may."""
    from promptops.evaluation.text_space import lexical_matrix

    return lexical_matrix(texts)


def _telling(matrix: Any) -> Any:
    """Without the features that a fifth of the texts share: with many labels they tell none apart, and take a fifth of the time."""
    import numpy as np
    from sklearn.preprocessing import normalize

    kept = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]) <= _EVERYDAY * matrix.shape[0])
    return normalize(matrix[:, kept]) if len(kept) else matrix


def _shown(label: str) -> str:
    value = parse_json(label)
    return value if isinstance(value, str) else label
