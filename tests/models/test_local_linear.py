"""The classifier of a bundle scores a text as scikit-learn does, and learns the same numbers from the same cases."""

import hashlib
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.jsontext import canonical_json, parse_json
from promptops.core.suite import Case
from promptops.models.local.classifier import linear_model, vectorizers
from promptops.models.local.linear import HINT_WEIGHT, LinearClassifier, ngrams_of, parse_classifier, words_of
from promptops.models.local.rules import Rules
from promptops.release.fallback_classifier import fit_classifier

_WORDS = (
    "Lampe",
    "kettle",
    "paquet",
    "BLUE",
    "tardé",
    "broken",
    "thanks!",
    "invoice",
    "綠色",
    "cable",
    "box",
    "a",
    "Ünïcode",
    "x1",
    "12,50",
)
_RULES = {"kind": [{"value": "order", "when": "box"}], "lang": [{"value": "de", "when": "Lampe"}]}


def cases(count: int = 60, *, kinds: int = 4) -> list[Case]:
    """Texts in which the label leaves a trace, with a property of two values and one that never changes."""
    source = random.Random(7)
    found = []
    for number in range(count):
        kind = f"kind-{number % kinds}"
        words = source.choices(_WORDS, k=source.randint(1, 14)) + [f"mark{number % kinds}"] * source.randint(0, 3)
        source.shuffle(words)
        found.append(Case(id=f"c{number:03}", category="any", inputs={"text": " ".join(words)},
                          expected={"kind": kind, "urgent": number % 3 == 0, "lang": "de"}))  # fmt: skip
    return found


def fitted(rows: list[Case], *, floor: float = 0.0, rules: dict[str, Any] | None = None) -> LinearClassifier:
    settings = {"fields": ["kind", "urgent", "lang"], "folds": 3}
    return fit_classifier(settings, ("text",), Rules(rules or {}, ("text",)), iter(rows), min_confidence=floor)


def scikit_learn_says(found: LinearClassifier, rows: list[Case], texts: list[str]) -> list[tuple[str, float]]:
    """(kind, probability) by scikit-learn's own transformers and estimator, given the numbers of the file."""
    from scipy.sparse import csr_matrix, hstack

    learnt = [str(case.inputs["text"]) for case in rows]
    blocks = [
        csr_matrix(
            ([HINT_WEIGHT * ("box" in text) for text in texts], (range(len(texts)), [0] * len(texts))),
            shape=(len(texts), 1),
        )
    ]
    weights = [np.array([found.hints["kind=order"]])]
    for vectorizer, table in zip(vectorizers(), (found.words, found.chars), strict=True):
        vectorizer.fit(learnt)
        names = vectorizer.get_feature_names_out()
        vectorizer.idf_ = np.array([table[name][0] for name in names])
        blocks.append(vectorizer.transform(texts))
        weights.append(np.array([table[name][1:] for name in names]))
    every = np.vstack(weights)
    model = linear_model(1.0).fit(hstack(blocks).tocsr(), [f"kind-{number % 4}" for number in range(len(texts))])
    for place, estimator in enumerate(model.estimators_):
        estimator.coef_, estimator.intercept_ = (
            every[:, [place]].T.copy(),
            np.array([found.fields[0].intercepts[place]]),
        )
    probabilities = model.predict_proba(hstack(blocks).tocsr())
    return [
        (str(name), float(row.max()))
        for name, row in zip(model.predict(hstack(blocks).tocsr()), probabilities, strict=True)
    ]


def test_probabilities_are_those_of_scikit_learn() -> None:
    """The same value and the same probability, to a few units of the last place, for texts with and without the rules' hint."""
    rows = cases()
    found = fitted(rows, rules={"kind": _RULES["kind"]})
    rules = Rules({"kind": _RULES["kind"]}, ("text",))
    texts = [
        *(str(case.inputs["text"]) for case in rows),
        "nothing known",
        "BOX box Box mark1 mark1",
        "tarde\u0301 mark2",
    ]

    expected = scikit_learn_says(found, rows, texts)

    from promptops.models.base import ModelRequest

    only_kind = LinearClassifier(fields=found.fields[:1], hints={name: weights[:4] for name, weights in found.hints.items()},
                                 words={term: numbers[:5] for term, numbers in found.words.items()}, chars={term: numbers[:5] for term, numbers in found.chars.items()})  # fmt: skip
    guesses = [
        only_kind.guess(text, rules.values(ModelRequest(messages=(), inputs={"text": text}), {})) for text in texts
    ]
    assert [name for name, _ in expected] == [guess.values["kind"] for guess in guesses]
    assert (
        max(abs(probability - guess.confidence) for (_, probability), guess in zip(expected, guesses, strict=True))
        <= 1e-15
    )


def test_cutting_the_weights_moves_no_probability_noticeably() -> None:
    """Six decimals: within 1e-4 of what scikit-learn predicts with the weights it fitted."""
    from scipy.sparse import hstack

    rows = cases()
    texts = [str(case.inputs["text"]) for case in rows]
    features = hstack([vectorizer.fit_transform(texts) for vectorizer in vectorizers()]).tocsr()
    model = linear_model(10.0).fit(features, [str(case.expected["urgent"]).lower() for case in rows])
    found = fitted(rows)
    urgent = LinearClassifier(fields=found.fields[1:2], hints={}, words={term: (numbers[0], numbers[5]) for term, numbers in found.words.items()},
                              chars={term: (numbers[0], numbers[5]) for term, numbers in found.chars.items()})  # fmt: skip

    expected = model.predict_proba(features).max(axis=1)

    assert (
        float(
            max(abs(wanted - urgent.guess(text, {}).confidence) for wanted, text in zip(expected, texts, strict=True))
        )
        < 1e-4
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_texts_are_cut_as_scikit_learn_cuts_them(text: str) -> None:
    """Words without accents, and pieces within words, in the same order and number."""
    by_word, by_char = (vectorizer.build_analyzer() for vectorizer in vectorizers())

    assert (by_word(text), by_char(text)) == (words_of(text), ngrams_of(text))


def test_the_confidence_is_that_of_the_least_sure_property() -> None:
    """A property that never changes is sure; the least of the others counts."""
    rows = cases()
    found = fitted(rows)
    guess = found.guess(str(rows[0].inputs["text"]), {})

    assert ({"kind", "urgent", "lang"}, "de") == (set(guess.values), guess.values["lang"])
    assert guess.confidence < 1


def test_evidence_counts_cases_that_were_not_learned_from() -> None:
    """With a floor of 0 every case is answered; random labels are then right by chance only."""
    source = random.Random(3)
    rows = [Case(id=f"c{number:03}", category="any", inputs={"text": " ".join(source.choices(_WORDS, k=8))},
                 expected={"kind": source.choice(["a", "b"]), "urgent": True, "lang": "de"}) for number in range(120)]  # fmt: skip

    seen, strict = fitted(rows).evidence, fitted(rows, floor=1.0).evidence

    assert (120, 120, 0.0) == (seen["cases"], seen["answered"], seen["min_confidence"])
    assert abs(seen["right"] / 120 - 0.5) < 0.14
    assert (0, 0) == (strict["answered"], strict["right"])


def test_a_document_comes_back_as_the_same_classifier() -> None:
    """What is written is what is read."""
    found = fitted(cases(), rules=_RULES)

    assert found == parse_classifier(parse_json(canonical_json(found.as_json())))


_FIT = """
import hashlib, sys
sys.path.insert(0, {tests!r})
from models.test_local_linear import cases, fitted, _RULES
from promptops.core.jsontext import canonical_json
print(hashlib.sha256(canonical_json(fitted(cases(), rules=_RULES).as_json())).hexdigest())
"""


@pytest.mark.parametrize("kernel", ["Prescott", "Haswell"])
def test_R18_the_same_cases_give_the_same_bytes_on_another_processor(kernel: str) -> None:
    """The arithmetic of another processor (OpenBLAS picks its kernels by name), another time zone, rows in another order."""
    from conftest import REPOSITORY

    rows = cases()
    expected = hashlib.sha256(canonical_json(fitted(rows[::-1], rules=_RULES).as_json())).hexdigest()
    done = subprocess.run([sys.executable, "-c", _FIT.format(tests=str(REPOSITORY / "tests"))], capture_output=True, text=True, check=True, timeout=300,
                          env=os.environ | {"OPENBLAS_CORETYPE": kernel, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "3"})  # fmt: skip

    assert expected == done.stdout.strip()
