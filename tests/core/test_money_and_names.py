"""Money is counted in whole nano-dollars and rounded up; names have one grammar."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.money import NANO, Price, format_usd, parse_usd
from promptops.core.names import is_name, is_run_id


@pytest.mark.parametrize(
    ("text", "nanousd"),
    [("0", 0), ("0.15", 150_000_000), ("0.60", 600_000_000), ("2.5", 2_500_000_000), ("1000000", 10**15), ("00.10", 10**8),
     ("0.000000001", 1), ("0.0000000001", 1), ("0.0000000011", 2), ("999999.0000000000000000000000000001", 999_999 * NANO + 1)],
)  # fmt: skip
def test_dollars_become_nano_dollars_rounded_up(text: str, nanousd: int):
    """1 USD = 10^9; any rest costs one more."""
    assert nanousd == parse_usd(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "-0", "+1", "NaN", "sNaN", "Infinity", "1e5", "1e-9", "1E999999999", "1_000", "1,5", "0.15 ", " 1", ".5", "5.", "٠.١",
     "1000000.0000000001", "1" + "0" * 50, "$1", "1\n"],
)  # fmt: skip
def test_what_is_no_plain_amount_is_refused(text: str):
    """No exponent, sign, separator or blank; from 0 to 1,000,000."""
    with pytest.raises(ValueError, match=r"is not"):
        parse_usd(text)


@given(st.decimals(0, 1_000_000, places=20, allow_nan=False))
def test_parsed_money_is_the_smallest_whole_amount_that_covers_it(amount):
    """The rounding error is below one nano-dollar and never in the payer's favour."""
    text = f"{amount:f}"
    exact = Fraction(text) * NANO

    assert 0 <= parse_usd(text) - exact < 1


PRICE = Price(input_nanousd_per_mtok=150_000_000, output_nanousd_per_mtok=600_000_000)
CACHED = Price(
    input_nanousd_per_mtok=150_000_000, cached_input_nanousd_per_mtok=75_000_000, output_nanousd_per_mtok=600_000_000
)


@pytest.mark.parametrize(
    ("price", "tokens", "cost"),
    [
        (PRICE, (0, 0, 0), 0),
        (PRICE, (1000, 200, 0), 270_000),  # 1000 * 150 + 200 * 600 nano-dollars
        (PRICE, (1000, 200, 400), 270_000),  # no price for cached input: it costs as much
        (CACHED, (1000, 200, 400), 240_000),  # 600 * 150 + 400 * 75 + 200 * 600
        (Price(input_nanousd_per_mtok=1), (1, 0, 0), 1),  # 10^-6, rounded up
        (Price(output_nanousd_per_mtok=1), (0, 1_000_001, 0), 2),
        (Price(), (10**15, 10**15, 10**15), 0),
    ],
)
def test_a_call_costs_the_sum_of_its_tokens_rounded_up_once(price: Price, tokens: tuple[int, int, int], cost: int):
    """Input and output are added before rounding."""
    assert cost == price.cost_nanousd(input_tokens=tokens[0], output_tokens=tokens[1], cached_input_tokens=tokens[2])


@pytest.mark.parametrize("tokens", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (5, 0, 6)])
def test_impossible_token_counts_are_refused(tokens: tuple[int, int, int]):
    """A negative cost could pay for other calls."""
    with pytest.raises(ValueError, match="token counts"):
        PRICE.cost_nanousd(input_tokens=tokens[0], output_tokens=tokens[1], cached_input_tokens=tokens[2])


def test_only_a_price_of_zero_is_free():
    """Free models need no budget."""
    assert (True, False, False) == (Price().free, Price(output_nanousd_per_mtok=1).free, PRICE.free)


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [(0, "$0"), (1, "$0.0000000010"), (42_000, "$0.000042"), (4_200_000, "$0.0042"), (500_000_000, "$0.5000"), (NANO, "$1.00"),
     (12_300_000_000, "$12.30"), (1_234_560_000_000, "$1234.56")],
)  # fmt: skip
def test_dollars_for_people_keep_two_significant_digits(nanousd: int, text: str):
    """A small cost is never shown as zero."""
    assert text == format_usd(nanousd)


@pytest.mark.parametrize(
    ("text", "valid"),
    [("a", True), ("support-triage", True), ("gpt-4", True), ("0", True), ("a" * 80, True), ("a" * 81, False), ("", False), ("A", False),
     ("a--b", False), ("-a", False), ("a-", False), ("a_b", False), ("a.b", False), ("a/b", False), ("..", False), ("a\n", False),
     ("a b", False), ("é", False), ("a٣", False), ("ａ", False)],
)  # fmt: skip
def test_a_name_is_a_short_lower_case_slug(text: str, *, valid: bool):
    """Names become folders, tags and file names."""
    assert valid is is_name(text)


@given(st.text(st.sampled_from("ab-0_/.A\n"), max_size=8))
def test_names_follow_their_grammar(text: str):
    """The grammar of DESIGN section 2, checked piece by piece."""
    assert is_name(text) is all(re.fullmatch("[a-z0-9]+", part, re.ASCII) for part in text.split("-"))


@pytest.mark.parametrize(
    ("text", "valid"),
    [("20240131-235959-0a1b2c", True), ("20240131-235959-0A1B2C", False), ("20240131-235959-0a1b2c\n", False), ("../etc/passwd", False),
     ("20240131-235959", False), ("20240131-235959-0a1b2c/..", False), ("٢٠٢٤٠١٣١-235959-0a1b2c", False)],
)  # fmt: skip
def test_a_run_id_is_a_time_and_six_hex_digits(text: str, *, valid: bool):
    """Nothing else can be asked from the run store."""
    assert valid is is_run_id(text)
