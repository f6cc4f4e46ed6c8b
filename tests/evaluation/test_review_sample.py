"""What a sample for review promises: exact chances, every category, the telling answers first, an unbiased rate."""

from collections import Counter
from math import sqrt
from statistics import fmean, pstdev

from hypothesis import given, settings
from hypothesis import strategies as st

from promptops.evaluation.review_sample import WHOLE, Judged, Unit, draw_sample, estimate_rate, inclusion_chances

UNITS = st.lists(
    st.builds(
        lambda category, lang, reasons: (category, (f"lang={lang}",), reasons),
        st.sampled_from("abc"), st.sampled_from(["en", "ja"]), st.sampled_from([(), ("changed",), ("changed", "near")]),
    ),
    min_size=1, max_size=60,
).map(lambda rows: [Unit(id=f"u{index}", category=row[0], slices=row[1], reasons=row[2]) for index, row in enumerate(rows)])  # fmt: skip


@given(UNITS, st.integers(1, 70))
def test_chances_add_up_to_the_size_of_the_sample(units: list[Unit], size: int):
    """Exactly, in whole numbers; none is impossible, none more than certain, and a float holds each without loss."""
    chances = inclusion_chances(units, size)

    assert min(size, len(units)) * WHOLE == sum(chances.values())
    assert all(1 <= chance <= WHOLE and int(chance / WHOLE * WHOLE) == chance for chance in chances.values())


@given(UNITS, st.integers(1, 70), st.text(max_size=5))
def test_a_sample_has_its_size_its_chances_and_every_category(units: list[Unit], size: int, seed: str):
    """No answer twice; of each category the expected number, rounded up or down; the same seed gives the same sample."""
    sample = draw_sample(units, size, seed=seed)
    chances = inclusion_chances(units, size)
    expected: Counter[str] = Counter()
    category = {unit.id: unit.category for unit in units}
    for unit in units:
        expected[unit.category] += chances[unit.id]
    found = Counter(category[pick.id] for pick in sample)

    assert min(size, len(units)) == len({pick.id for pick in sample}) == len(sample)
    assert [chances[pick.id] / WHOLE for pick in sample] == [pick.inclusion for pick in sample]
    assert all(-WHOLE < found[name] * WHOLE - total < WHOLE for name, total in expected.items())
    assert sample == draw_sample(list(reversed(units)), size, seed=seed)


def a_population() -> tuple[list[Unit], dict[str, float]]:
    """200 answers of which 30 have a reason to look; those mostly fail, the others mostly pass: 75 % pass."""
    units = [
        Unit(id=f"u{index}", category="rare" if index % 20 == 0 else "usual", slices=(f"lang={'ja' if index % 3 else 'en'}",),
             reasons=("changed",) if index < 30 else ())
        for index in range(200)
    ]  # fmt: skip
    scores = {f"u{index}": float(index % 5 == 0 if index < 30 else index % 7 != 3) for index in range(200)}
    return units, scores


def test_the_estimate_is_unbiased_over_seeds():
    """The mean over 1,500 samples is the rate of all answers, while the plain share of passes is far below; 19 of 20 intervals hold it."""
    units, scores = a_population()
    truth = fmean(scores.values())
    chances = inclusion_chances(units, 30)
    times: Counter[str] = Counter()
    rates, totals, plain, held = [], [], [], 0
    for seed in range(1500):
        sample = draw_sample(units, 30, seed=str(seed))
        times.update(pick.id for pick in sample)
        estimate = estimate_rate([Judged(score=scores[pick.id], inclusion=pick.inclusion) for pick in sample])
        assert estimate is not None
        rates.append(estimate.rate)
        totals.append(sum(scores[pick.id] / pick.inclusion for pick in sample) / len(units))
        plain.append(fmean(scores[pick.id] for pick in sample))
        held += estimate.interval.low <= truth <= estimate.interval.high

    assert abs(fmean(totals) - truth) < 5 * pstdev(totals) / sqrt(1500)  # Horvitz-Thompson: exactly unbiased
    assert abs(fmean(rates) - truth) < 0.01  # Hajek: a ratio, so only nearly; it varies much less
    assert pstdev(rates) < pstdev(totals)
    assert fmean(plain) < truth - 0.08
    assert 0.93 <= held / 1500 <= 0.99
    for unit in units:
        chance = chances[unit.id] / WHOLE
        assert abs(times[unit.id] / 1500 - chance) < 5 * sqrt(chance * (1 - chance) / 1500) + 1e-9


@settings(max_examples=25)
@given(UNITS)
def test_an_answer_with_a_reason_is_likelier_than_one_of_its_kind_without(units: list[Unit]):
    """Within one category and slice, never the other way round."""
    chances = inclusion_chances(units, max(1, len(units) // 3))
    for one in units:
        for other in units:
            if one.reasons and not other.reasons and (one.category, one.slices) == (other.category, other.slices):
                assert chances[one.id] >= chances[other.id] - len(units)  # rounding


def test_all_answers_reviewed_leave_no_doubt():
    """A census: the rate is the rate, draws that gave the same answer count each, and disagreement counts half."""
    found = estimate_rate([Judged(score=1.0, inclusion=1.0, weight=3.0), Judged(score=0.5, inclusion=1.0)])

    assert found is not None
    assert (0.875, 0.875, 0.875, 2) == (found.rate, found.interval.low, found.interval.high, found.reviewed)
    assert None is estimate_rate([])


def test_one_answer_says_little():
    """A single pass of many answers: the interval stays wide."""
    found = estimate_rate([Judged(score=1.0, inclusion=0.01)])

    assert found is not None
    assert found.interval.low < 0.3
