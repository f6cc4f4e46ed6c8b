"""How far a judge can be trusted: against hand computations, scikit-learn, and real judges."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED_DATA
from promptops.gate.calibration import agreement, cohen_kappa, corrected_rate, majority, ordinal_alpha
from promptops.gate.standing import standing_of

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


def test_figures_of_a_small_table_by_hand():
    """40 answers: people pass 20, of which the judge 18; people fail 20, of which the judge 15."""
    human = [True] * 20 + [False] * 20
    judge = [True] * 18 + [False] * 2 + [True] * 5 + [False] * 15
    found = agreement(human, judge)

    assert (18, 2, 5, 15) == (
        found.confusion.hit,
        found.confusion.missed,
        found.confusion.false_pass,
        found.confusion.caught,
    )
    assert (0.9, 0.75, pytest.approx(0.65), pytest.approx(0.075)) == (
        found.tpr.value,
        found.tnr.value,
        found.j.value,
        found.bias.value,
    )
    # Po = 33/40, Pe = .5 * 23/40 + .5 * 17/40 = .5
    assert pytest.approx((33 / 40 - 0.5) / 0.5) == found.kappa.value
    # Wilson (R: binom::binom.wilson): 18/20 -> .6990, .9721; 15/20 -> .5313, .8881; square-and-add of the distances.
    low, high = 0.65 - np.hypot(0.9 - 0.6990, 0.75 - 0.5313), 0.65 + np.hypot(0.9721 - 0.9, 0.8881 - 0.75)
    assert found.j.interval is not None
    assert (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4)) == (
        found.j.interval.low,
        found.j.interval.high,
    )


@settings(max_examples=20, deadline=None)
@given(PAIRS)
def test_j_and_kappa_are_those_of_scikit_learn(pairs: list[tuple[bool, bool]]):
    from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

    human, judge = [a for a, _ in pairs], [b for _, b in pairs]
    found = agreement(human, judge)

    if len(set(human)) == 2:
        assert pytest.approx(balanced_accuracy_score(human, judge, adjusted=True), abs=1e-12) == found.j.value
    else:
        assert found.j.value is None
    if len({*human, *judge}) == 2:
        assert pytest.approx(cohen_kappa_score(human, judge), abs=1e-12) == found.kappa.value
    else:
        assert found.kappa.value is None


def test_weights_count_answers_for_those_that_were_not_chosen():
    """A fail that was chosen with chance 1/2 stands for two; weights of one size change nothing."""
    human, judge = [True, True, False, False], [True, False, False, True]
    twice = agreement([*human, False], [*judge, False])

    assert twice.tnr.value == agreement(human, judge, [1, 1, 2, 1]).tnr.value
    assert agreement(human, judge).j == agreement(human, judge, [3, 3, 3, 3]).j


@pytest.mark.parametrize("wrong", [[1, 1], [1, 1, 0, 1], [1, 1, float("nan"), 1], [1, 1, -1, 1]])
def test_weights_must_be_positive_and_one_each(wrong: list[float]):
    with pytest.raises(ValueError, match="weight"):
        agreement([True] * 4, [True] * 4, wrong)


def test_ordinal_alpha_of_the_standard_example():
    """Krippendorff 2011, section E: four observers, twelve units, ordinal alpha .815."""
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]  # fmt: skip
    units = [[float(value) for value in column if value is not None] for column in zip(*rows, strict=True)]

    assert pytest.approx(0.815, abs=5e-4) == ordinal_alpha(units)


def test_a_majority_needs_more_than_half():
    assert (True, False, None) == (
        majority({"a": True, "b": True, "c": False}),
        majority({"a": False}),
        majority({"a": True, "b": False}),
    )


@pytest.mark.parametrize(
    ("labels", "low", "standing"),
    [(0, None, "advisory"), (49, 0.9, "advisory"), (50, None, "advisory"), (50, 0.29, "advisory"), (50, 0.3, "doubtful"), (50, 0.49, "doubtful"), (50, 0.5, "blocking")],
)  # fmt: skip
def test_a_judge_may_block_with_enough_labels_and_enough_j(labels: int, low: float | None, standing: str):
    """50 labels; lower bound of J below .3 refused, below .5 warned of."""
    assert standing == standing_of(labels, low).standing


def test_below_thirty_labels_people_are_believed_alone():
    """Jeffreys interval (R: binom::binom.bayes, prior .5, central): 7 of 10 -> .3927, .9071."""
    found = corrected_rate([1] * 7 + [0] * 3, [1] * 10, [1] * 500)

    assert ("labels", 0.7, 1.0) == (found.method, found.value, found.raw)
    assert (pytest.approx(0.3940, abs=2e-3), pytest.approx(0.9056, abs=2e-3)) == (
        found.interval.low,
        found.interval.high,
    )


def test_a_perfect_judge_makes_the_other_answers_count():
    """It is listened to fully: the interval is about that of all 600 answers, not of the 60 labelled."""
    rng = np.random.default_rng(1)
    human = (rng.random(60) < 0.7).astype(float)
    others = (rng.random(540) < 0.7).astype(float)
    found = corrected_rate(human, human, others)

    assert found.tuning > 0.85
    assert found.width < 0.6 * 2 * 2 * np.sqrt(0.21 / 60)


def test_a_judge_that_knows_nothing_costs_little():
    """It is hardly listened to: the interval is about that of the labels alone."""
    rng = np.random.default_rng(2)
    human, judge, others = ((rng.random(n) < 0.7).astype(float) for n in (100, 100, 900))
    found = corrected_rate(human, judge, others)

    assert found.tuning < 0.2
    assert found.width < 1.05 * 2 * 1.99 * human.std(ddof=1) / 10


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.05, 1)), min_size=1, max_size=80),
    st.lists(st.booleans(), max_size=80),
)
def test_a_corrected_rate_is_a_rate_in_its_interval(labelled: list[tuple[bool, bool, float]], others: list[bool]):
    """Whatever the labels, weights and verdicts are."""
    human, judge, chance = zip(*labelled, strict=True)
    found = corrected_rate(
        [float(a) for a in human], [float(b) for b in judge], [float(c) for c in others], [1 / p for p in chance]
    )

    assert 0 <= found.interval.low <= found.value <= found.interval.high <= 1


def test_unequal_chances_of_labelling_do_not_bias_the_rate():
    """Fails are labelled four times as often as passes: unweighted the rate would be far off, weighted its intervals hold the truth."""
    rng = np.random.default_rng(3)
    covered = plain = 0
    for trial in range(200):
        human = rng.random(1000) < 0.8
        judge = np.where(rng.random(1000) < 0.1, ~human, human)
        chance = np.where(judge, 0.05, 0.2)
        chosen = rng.random(1000) < chance
        y, f, rest = human[chosen].astype(float), judge[chosen].astype(float), judge[~chosen].astype(float)
        found = corrected_rate(y, f, rest, 1 / chance[chosen], seed=trial)
        naive = corrected_rate(y, f, [], seed=trial)
        covered += found.interval.low <= 0.8 <= found.interval.high
        plain += naive.interval.low <= 0.8 <= naive.interval.high
    assert covered >= 180
    assert plain < 20


def test_the_same_seed_gives_the_same_figures():
    rng = np.random.default_rng(4)
    human, judge, others = ((rng.random(n) < 0.7).astype(float) for n in (60, 60, 200))

    assert corrected_rate(human, judge, others, seed=5) == corrected_rate(human, judge, others, seed=5)
    assert agreement(list(human > 0), list(judge > 0)) == agreement(list(human > 0), list(judge > 0))


def test_intervals_hold_the_truth_on_a_real_judge():
    """GPT-4 on LLMBar, 50 labels: 95 % of intervals hold the mean of all labels (here 300 trials: 91.5 to 98.5), and they are narrower."""
    path = SHARED_DATA / "judge" / "judge_human.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    found = [
        (row["human"]["gold"] == "1", row["judge"]["GPT-4/Vanilla"][0] == "1")
        for row in rows
        if row["dataset"] == "llmbar"
    ]
    human, judge = (np.array(values, dtype=float) for values in zip(*found, strict=True))
    rng = np.random.default_rng(6)
    covered, widths, alone = 0, [], []
    for trial in range(300):
        some, rest = rng.integers(0, len(human), 50), rng.integers(0, len(human), len(human) - 50)
        result = corrected_rate(human[some], judge[some], judge[rest], seed=trial)
        covered += result.interval.low <= human.mean() <= result.interval.high
        widths.append(result.width)
        alone.append(2 * 2.0096 * human[some].std(ddof=1) / np.sqrt(50))

    assert 0.915 <= covered / 300 <= 0.985
    assert np.mean(widths) < np.mean(alone)


def test_kappa_takes_any_words():
    assert pytest.approx(0.4) == cohen_kappa(["a"] * 5 + ["b"] * 5, ["a", "a", "a", "a", "b", "b", "b", "b", "a", "a"])
