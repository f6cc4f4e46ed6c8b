"""A month's bill, against sums done by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.bill import Assumption, Bill, bill_for, month_bill, swings
from promptops.core.money import Price

LARGE = Price(input_nanousd_per_mtok=3_000_000_000, output_nanousd_per_mtok=15_000_000_000)  # $3 and $15
SMALL = Price(input_nanousd_per_mtok=150_000_000, output_nanousd_per_mtok=600_000_000)


def assumed(**values: float) -> list[Assumption]:
    return [an_assumption(key, value) for key, value in values.items()]


def an_assumption(key: str, value: float, low: float | None = None, high: float | None = None) -> Assumption:
    return Assumption(key=key, what=key, value=value, low=value if low is None else low, high=value if high is None else high,
                      source="assumed", where="here")  # fmt: skip


def stages(bill: Bill) -> dict[str, tuple[int, int]]:
    return {stage.name: (stage.calls, stage.nanousd) for stage in bill.stages}


def test_a_model_alone_is_its_tokens_at_its_price():
    """1,000 tokens in, 100 out: $0.003 + $0.0015 a call; 100 a day are 3,000 calls a month, $13.50."""
    bill = month_bill(assumed(input_tokens=1000, output_tokens=100), {"large": LARGE}, per_day=100)

    assert (3000, {"large model": (3000, 13_500_000_000)}, 13_500_000_000) == (
        bill.requests,
        stages(bill),
        bill.nanousd,
    )


def test_every_stage_of_a_routed_cached_judged_prompt():
    """10,000 requests by hand: 1,000 exact hits, 900 semantic ones of 9,000, half of 8,100 to the small model, 2 % of these asked again, ...

    The large call costs 4,500,000, the small one (500 in, 50 out) 105,000 nano-dollars.
    """
    given_ = assumed(
        input_tokens=1000, output_tokens=100, small_input_tokens=500, small_output_tokens=50, shadow_input_tokens=1000, shadow_output_tokens=100,
        exact_hits=0.1, semantic_hits=0.1, audited_hits=0.1, small_share=0.5, small_rejected=0.02, repairs=0.01, retries=0.1, hedges=0.05,
        shadowed=0.1, judged=0.01, judge_cost=2_000_000,
    )  # fmt: skip

    bill = bill_for(given_, {"large": LARGE, "small": SMALL, "shadow": SMALL}, requests=10_000)

    answered = 4050 * 105_000 + (4050 + 81 + 41.31) * 4_500_000
    assert {
        "exact cache": (1000, 0), "semantic cache, embedding built in": (900, 0), "small model": (4050, 425_250_000),
        "large model": (4050, 18_225_000_000), "small rejected, large asked": (81, 364_500_000), "repairs": (41, 185_895_000),
        "retries": (822, round(answered * 0.1)), "second calls (hedging)": (411, round(answered * 0.05)),
        "audit of cache hits": (90, 45 * 105_000 + 45 * 4_500_000), "shadow model": (810, 810 * 210_000), "judge": (100, 200_000_000),
    } == stages(bill)  # fmt: skip


def test_money_is_rounded_up_in_every_stage():
    """A third of a nano-dollar is one."""
    price = Price(input_nanousd_per_mtok=1_000_000, output_nanousd_per_mtok=0)

    assert 1 == bill_for(assumed(input_tokens=1 / 3), {"large": price}, requests=1).nanousd
    assert 2 == bill_for(assumed(input_tokens=1 / 3, retries=0.1), {"large": price}, requests=1).nanousd


def test_longer_requests_and_discounts_multiply():
    """Length counts for the input alone, what was billed of the list price for all of it."""
    bill = bill_for(assumed(input_tokens=1000, output_tokens=100, length=1.5, billed=0.5), {"large": LARGE}, requests=1)

    assert (4_500_000 + 1_500_000) // 2 == bill.nanousd


def test_the_assumption_that_moves_most_comes_first():
    """By hand: 0 to 30 % exact hits take up to $4.05 of $13.50, 900 to 1,100 tokens are $1.80 apart; what is certain is not listed."""
    given_ = [an_assumption("input_tokens", 1000, 900, 1100), an_assumption("output_tokens", 100), an_assumption("exact_hits", 0, 0, 0.3)]  # fmt: skip

    found = swings(given_, {"large": LARGE}, per_day=100)

    assert [("exact_hits", 13_500_000_000, 9_450_000_000, 4_050_000_000), ("input_tokens", 12_600_000_000, 14_400_000_000, 1_800_000_000)] == [
        (swing.assumption.key, swing.low_nanousd, swing.high_nanousd, swing.nanousd) for swing in found
    ]  # fmt: skip


@given(
    st.fixed_dictionaries(
        {
            key: st.floats(0, 1)
            for key in ("exact_hits", "semantic_hits", "small_share", "small_rejected", "repairs", "retries")
        }
    ),
    st.integers(0, 10**9),
)
def test_calls_add_up_to_the_requests(values: dict[str, Any], requests: int):
    """Every request is answered once: from a cache or by one of the models."""
    found = stages(bill_for(assumed(**values, input_tokens=10), {"large": LARGE, "small": SMALL}, requests=requests))
    once = ("exact cache", "semantic cache, embedding built in", "small model", "large model")

    assert sum(found.get(name, (0, 0))[0] for name in once) == pytest.approx(requests, abs=3)
