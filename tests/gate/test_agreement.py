"""Agreement of reviewers against published examples and scikit-learn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from promptops.gate.agreement import agreement, cohen_kappa, krippendorff_alpha

_TABLE = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
PAIRS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=60)


def test_kappa_of_a_worked_example():
    """20 + 15 of 50 agree (0.70), chance 0.50: kappa 0.40; the variance is computed by hand from the formula."""
    kappa, interval = cohen_kappa(_TABLE)

    assert interval is not None
    assert (pytest.approx(0.4), pytest.approx(0.149, abs=0.03), pytest.approx(0.651, abs=0.03)) == (
        kappa,
        interval.low,
        interval.high,
    )


@given(PAIRS)
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]):
    """Whatever two people say; undefined only where chance would always agree."""
    kappa, interval = cohen_kappa(pairs)

    if kappa is None:
        assert 1 == len({value for pair in pairs for value in pair})
        return
    assert interval is not None
    first, second = zip(*pairs, strict=True)
    assert pytest.approx(cohen_kappa_score(first, second), abs=1e-9) == kappa
    assert -1 <= interval.low <= kappa + 1e-9
    assert kappa - 1e-9 <= interval.high <= 1


def test_full_agreement_on_few_items_is_no_certainty():
    """Three of three agree: kappa is 1, and its interval reaches far down."""
    kappa, interval = cohen_kappa([(True, True), (False, False), (True, True)])

    assert interval is not None
    assert (pytest.approx(1.0), 1.0, True) == (kappa, interval.high, interval.low < 0.2)


def test_alpha_of_krippendorffs_own_example():
    """Four coders, twelve units, values missing: alpha 0.743 (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability)."""
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[row[unit] for row in table if row[unit] is not None] for unit in range(12)]

    assert pytest.approx(0.743, abs=0.0005) == krippendorff_alpha(units)


def test_two_people_get_kappa_and_three_get_alpha():
    """Krippendorff's alpha only for more than two raters; items that one person saw do not count."""
    two = agreement(
        [
            [("ana", True), ("ben", True)],
            [("ana", True), ("ben", False)],
            [("ana", False), ("ben", False)],
            [("ana", True)],
        ]
    )
    three = agreement(
        [
            [("ana", "x"), ("ben", "x")],
            [("ben", "y"), ("cy", "y")],
            [("ana", "x"), ("cy", "y")],
            [("ana", "y"), ("cy", "y")],
        ]
    )

    assert two is not None
    assert three is not None
    assert ("kappa", 3, 2, pytest.approx(2 / 3), pytest.approx(0.4)) == (
        two.statistic,
        two.items,
        two.raters,
        two.agreed,
        two.beyond_chance,
    )
    assert ("alpha", 4, 3, pytest.approx(0.75)) == (three.statistic, three.items, three.raters, three.agreed)
    assert None is agreement([[("ana", True)], []])


def test_points_of_a_scale_agree_the_more_the_nearer_they_are():
    """Two people a point apart agree better than two who are four apart, though neither pair says the same."""
    near = agreement([[("ana", score), ("ben", min(5, score + 1))] for score in (1, 2, 3, 4, 1, 2, 3, 4)])
    far = agreement([[("ana", score), ("ben", 6 - score)] for score in (1, 2, 4, 5, 1, 2, 4, 5)])

    assert near is not None
    assert far is not None
    assert ("ordinal alpha", "ordinal alpha", 0.0, 0.0) == (near.statistic, far.statistic, near.agreed, far.agreed)
    assert near.beyond_chance is not None
    assert far.beyond_chance is not None
    assert near.beyond_chance > 0.5 > 0 > far.beyond_chance
