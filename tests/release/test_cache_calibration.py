"""Calibration of the semantic cache: thresholds keep their bound, and too little evidence means off."""

import math
import random

import pytest

from promptops.core.errors import DataError
from promptops.gate.risk import clean_needed
from promptops.release.cache_calibration import (
    Labelled,
    Labels,
    Lookup,
    calibrate_texts,
    choose_threshold,
    count_hits,
    learn_embedder,
)
from promptops.runtime.embedding import Embedder
from promptops.runtime.index import Entry, LexicalIndex
from promptops.runtime.matcher import FEATURES, Matcher

TOPICS = {
    "card": ["my bank card is lost", "someone stole my card", "card missing since yesterday night"], "pin": ["change the pin code", "i forgot my pin number", "set another pin"],
    "limit": ["raise my transfer limit", "the limit for transfers is too low", "higher transfer maximum"], "fee": ["why was i charged a fee", "strange fee on my statement", "explain this charge"],
    "app": ["the app crashes at start", "cannot open the app", "app closes by itself"],
}  # fmt: skip
FILLERS = ["please", "hello", "today", "quickly", "kindly", "again", "now", "help", "thanks", "question", "sir", "madam", "urgent", "new", "phone", "bank"]  # fmt: skip


def labels(count: int, seed: int, noise: float = 0.05) -> list[Labelled]:
    """Questions of five topics in three wordings; a share of them is labelled at random, so that no matcher is ever perfect."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        topic = rng.choice(list(TOPICS))
        text = " ".join([*rng.sample(FILLERS, rng.randrange(0, 4)), rng.choice(TOPICS[topic])])
        rows.append(Labelled(id=f"{seed}-{number}", text=text, answer=rng.choice(list(TOPICS)) if rng.random() < noise else topic))  # fmt: skip
    return rows


def test_hits_are_served_and_wrong_ones_stay_below_the_bound_on_fresh_questions():
    """An easy set, 10 % allowed: most questions hit, and on fresh ones the error is below the bound."""
    known = labels(700, 1)
    found = calibrate_texts(known, max_error=0.10)
    index = Labels(found.matcher.embedder, known)
    fresh = labels(400, 2)
    hits, wrong = count_hits(found.matcher, index.lookups(fresh))

    assert (True, True, True) == (found.matcher.threshold is not None, hits > 100, wrong / hits <= 0.10), found.summary
    assert found.upper <= 0.10


def test_a_question_whose_answer_is_not_there_is_mostly_rejected():
    """Out of scope: with the entries of its answer left out, few questions are served."""
    found = calibrate_texts(labels(700, 1), max_error=0.10)

    assert found.out_of_scope_lookups > 50
    assert found.out_of_scope < 0.2


def test_the_bound_is_kept_by_thresholds_on_random_scores():
    """300 calibrations of one score whose error rises smoothly: at most 5 % choose a threshold that is truly worse than allowed."""
    rng = random.Random(4)
    matcher = Matcher(embedder=Embedder(), weights=(1.0,) + (0.0,) * (len(FEATURES) - 1), max_error=0.05)

    def lookups(count: int) -> list[Lookup]:
        scores = [rng.random() for _ in range(count)]
        return [Lookup(features=(score,) + (0.0,) * (len(FEATURES) - 1), right=rng.random() > 0.2 * (1 - score)) for score in scores]  # fmt: skip

    broken = chosen = 0
    for _ in range(300):
        cut = choose_threshold(matcher, lookups(300), lookups(700))
        if cut is not None:
            chosen += 1
            broken += 0.1 * (1 - cut) > 0.05  # mean error of scores uniform in cut..1
    assert (True, True) == (chosen > 100, broken <= 24), (chosen, broken)


def test_too_few_labels_mean_off_and_say_how_many_are_needed():
    """60 labels cannot prove 2 %: 149 clean hits can, 299 prove 1 %."""
    found = calibrate_texts(labels(60, 1), max_error=0.02)

    assert (None, 149, 149, 299) == (found.matcher.threshold, found.needed, clean_needed(0.02), clean_needed(0.01))
    assert "149 hits without a single error" in found.summary


def test_below_20_labels_nothing_is_learned():
    """Not a calibration at all."""
    with pytest.raises(DataError, match="19 labelled"):
        calibrate_texts(labels(19, 1), max_error=0.02)


def test_answers_that_never_repeat_mean_off():
    """Where no two questions share an answer there is nothing to serve."""
    rows = [
        Labelled(id=str(number), text=f"{row.text} {number}", answer=str(number))
        for number, row in enumerate(labels(100, 1))
    ]

    assert calibrate_texts(rows, max_error=0.02).matcher.threshold is None


def test_scopes_do_not_meet():
    """The same question in another scope (another country, say) is not a neighbour."""
    rows = [
        Labelled(id="a", text="return period", answer="1", scope="fr"),
        Labelled(id="b", text="return period", answer="2", scope="de"),
    ]

    assert [(), ()] == [item.features for item in Labels(Embedder(), rows).lookups(rows)]


def test_many_neighbours_at_once_are_those_of_the_index_in_the_service():
    """Calibrated on what will be served: same entries, same similarities."""
    rows = labels(120, 3)
    embedder = learn_embedder([row.text for row in rows], [row.answer for row in rows])
    index = LexicalIndex(embedder)
    for row in rows:
        index.add(Entry(row.id, row.text, row.answer, math.inf))
    expected = [
        [item.similarity for item in index.search(embedder.embed(row.text), 30, without=row.id)] for row in rows
    ]
    found = [[item.similarity for item in near] for near in Labels(embedder, rows).near(rows)]

    assert [pytest.approx(one, abs=1e-6) for one in expected] == found


def test_calibration_is_reproducible():
    """Same labels, same matcher."""
    first, second = (calibrate_texts(labels(300, 1), max_error=0.1).matcher for _ in range(2))

    assert first == second


def test_words_that_tell_answers_apart_weigh_more():
    """A word of one topic says more than one of all, at about the same rarity."""
    texts = [
        f"{'card' if number % 3 == 0 else 'pin' if number % 3 == 1 else 'fee'} {'please' if number % 2 else 'hello'}"
        for number in range(90)
    ]
    embedder = learn_embedder(texts, [text.split()[0] for text in texts])
    told = embedder.embed("card please")
    from promptops.runtime.embedding import features

    (card, please, _), _ = features("card please")

    assert told[card] > 1.5 * told[please]
