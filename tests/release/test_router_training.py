"""Training of the router: the simplest rule that is not beaten, and a threshold that keeps its bound."""

import numpy as np
import pytest

from promptops.core.errors import DataError
from promptops.core.suite import GatePolicy
from promptops.gate.risk import (
    cases_needed,
    clean_needed,
    fixed_sequence,
    loss_p_value,
    lower_rate,
    paired_loss_p,
    upper_rate,
)
from promptops.release.router_training import (
    Outcome,
    _choose_threshold,
    compare_rules,
    fit,
    is_for_threshold,
    make_table,
    train_router,
)


def falling(length: int) -> float:
    return 1 - length / 500


def strong(_: int) -> float:
    return 0.95


def always(_: int) -> float:
    return 1.0


def made(count: int, *, small, large, seed: int = 0, start: str = "please help with order") -> list[Outcome]:
    """Cases whose small and large pass rates are functions of their length."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        length = int(rng.integers(20, 400))
        text = (start + " " + "x" * length)[:length]
        found.append(Outcome(id=f"c{number}", text=text, category=f"k{number % 3}",
                             small=float(rng.random() < small(length)), large=float(rng.random() < large(length))))  # fmt: skip
    return found


def test_length_is_shipped_where_nothing_beats_it():
    """Where the small model fails on long texts alone, `rule: length` is the answer, and most short texts go small."""
    outcomes = made(3000, small=lambda length: 0.95 if length < 200 else 0.3, large=strong)

    training = train_router(outcomes, small="s", large="l", max_loss=0.02)

    assert ("length", True, True) == (
        training.router.rule, 0.2 < training.share_small.value < 0.6, training.loss.value <= 0.02,
    )  # fmt: skip


def test_a_model_that_is_no_better_is_not_needed():
    """The small model is as good everywhere: rule `small`, nearly everything small."""
    outcomes = made(1500, small=strong, large=lambda length: 0.8 + 0 * length)

    training = train_router(outcomes, small="s", large="l", max_loss=0.01)

    assert ("small", True) == (training.router.rule, training.share_small.value > 0.98)


def test_too_little_evidence_means_off_and_says_how_much_is_missing():
    """100 cases cannot prove one point, however good the small model is."""
    training = train_router(made(100, small=always, large=always), small="s", large="l")

    assert (None, "large") == (training.router.threshold, training.router.route("please help").target)
    assert f"at least {cases_needed(0.01)}" in training.summary


def test_a_few_outcomes_are_refused():
    """Below 40 rows there is no training at all."""
    with pytest.raises(DataError, match="39 outcomes"):
        train_router(made(39, small=always, large=always), small="s", large="l")


def test_text_beats_length_where_words_decide():
    """A word marks what the small model cannot do; length says nothing: length is reported as beaten."""

    def words(rng):
        return "prove the theorem" if rng.random() < 0.5 else "translate the sentence"

    rng = np.random.default_rng(5)
    outcomes = []
    for number in range(1200):
        text = words(rng) + " " + " ".join(rng.choice(["red", "blue", "green", "old", "new"], size=8))
        hard = text.startswith("prove")
        outcomes.append(Outcome(id=str(number), text=text, category="one", small=float(rng.random() < (0.2 if hard else 0.9)), large=float(rng.random() < 0.9)))  # fmt: skip

    rules = {item.rule: item for item in compare_rules(make_table(outcomes), seed=0)}

    assert ("text", True) == (rules["length"].beaten_by, rules["text"].apgr.low > 0.6)
    assert rules["chosen"].apgr.low > 0.6


def test_groups_are_never_split():
    """Cases of one document are on one side of the threshold split."""
    assert 1 == len({is_for_threshold("doc-1") for _ in range(10)})
    halves = [is_for_threshold(f"doc-{number}") for number in range(2000)]
    assert 900 < sum(halves) < 1100


def test_training_is_reproducible():
    """Same outcomes, same seed, same bytes."""
    outcomes = made(200, small=falling, large=strong)

    first, second = (train_router(outcomes, small="s", large="l", max_loss=0.1).router.as_json() for _ in range(2))

    assert first == second


def test_the_routed_loss_keeps_its_bound_on_fresh_data():
    """Over 60 thresholds with a bound of 10 points, at most 6 lose more than that on 4,000 fresh cases (5 % are allowed)."""
    broken = used = 0
    for seed in range(60):
        outcomes = made(400, small=falling, large=strong, seed=seed)
        learn = make_table([item for item in outcomes if not is_for_threshold(item.id)])
        hold = [item for item in outcomes if is_for_threshold(item.id)]
        found = _choose_threshold(fit(learn, np.arange(len(learn)), "length"), learn, hold, max_loss=0.1, policy=GatePolicy(), seed=seed)  # fmt: skip
        fresh = made(4000, small=falling, large=strong, seed=seed + 1000)
        losses = [item.large - item.small if found.router.route(item.text, item.category).target == "small" else 0.0 for item in fresh]  # fmt: skip
        broken += sum(losses) / len(losses) > 0.1
        used += found.router.threshold is not None

    assert (True, True) == (broken <= 6, used > 30), (broken, used)


def test_bounds_agree_with_tables():
    """Clopper-Pearson: 0 of 299 is below 1 %, 0 of 298 is not; 2 of 20 has the upper 95 % limit 0.283 (Clopper and Pearson 1934)."""
    assert (299, 149) == (clean_needed(0.01), clean_needed(0.02))
    assert upper_rate(0, 299) <= 0.01 < upper_rate(0, 298)
    assert 0.2826 == round(upper_rate(2, 20), 4)
    assert 0.0181 == round(lower_rate(2, 20), 4)
    assert 1.0 == upper_rate(0, 0)


def test_paired_loss_agrees_with_enumeration():
    """The tail of the difference of two multinomial counts, summed by hand for 12 cases, at the largest rate of the nuisance set."""
    from math import comb

    total, lost, won, limit = 12, 1, 2, 0.3
    highest = (upper_rate(lost + won, total, confidence=0.995) - limit) / 2

    def tail(rate: float) -> float:
        lose, win = rate + limit, rate
        return sum(
            comb(total, b) * comb(total - b, c) * lose**b * win**c * (1 - lose - win) ** (total - b - c)
            for b in range(total + 1)
            for c in range(total - b + 1)
            if b - c <= lost - won
        )

    expected = max(tail(highest * step / 20) for step in range(21)) + 0.005

    assert paired_loss_p(lost, won, total, limit) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["three-valued", "graded"])
def test_a_loss_at_the_limit_is_rarely_called_safe(kind):
    """The chance to accept a true mean loss of exactly the limit is at most 5 %."""
    rng = np.random.default_rng(3)
    accepted = 0
    for _ in range(300):
        losses = rng.choice([1.0, -1.0, 0.0], p=[0.15, 0.05, 0.8], size=200)
        if kind == "graded":
            losses = np.where(losses > 0, rng.uniform(0.5, 1, 200) / 0.75, losses) * 0.7
            accepted += loss_p_value(losses, 0.07) <= 0.05
        else:
            accepted += loss_p_value(losses, 0.10) <= 0.05

    assert accepted <= 24


def test_fixed_sequence_stops_at_the_first_that_stands():
    """What comes after a failure is never looked at."""
    assert [1, None, 2] == [fixed_sequence(p) for p in ([0.01, 0.04, 0.2, 0.001], [0.2, 0.001], [0.01, 0.01, 0.05])]
