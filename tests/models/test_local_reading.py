"""Numbers, dates and durations as people write them, in English, German and French."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.models.local.reading import read_date, read_duration, read_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("no digits", None),
        ("7", 7.0),
        ("３，５００", 3500.0),
        ("1,234.56", 1234.56),
        ("1.234,56 €", 1234.56),
        ("CHF 200'000", 200000.0),
        ("CHF 1’250.50", 1250.5),
        ("12 500 euros", 12500.0),
        ("1 234 567,80", 1234567.8),
        ("12.000", 12000.0),
        ("12,000", 12000.0),
        ("1.234.567", 1234567.0),
        ("Rs. 25,00,000/-", 2500000.0),
        ("500.000,- EUR", 500000.0),
        ("0,5", 0.5),
        ("0.125", 0.125),
        ("1234.567", 1234.567),
        ("It costs 3.", 3.0),
        ("49 2 weeks ago", 49.0),
        ("100 25", 100.0),
    ],
)
def test_number_is_read_with_either_decimal_separator(text: str, number: float | None):
    """Three digits after a lone separator are thousands; a blank separates thousands only."""
    assert number == read_number(text)


@given(cents=st.integers(min_value=0, max_value=10**11), style=st.sampled_from([",.", ".,", "'.", " ,", "’,"]))
def test_every_amount_of_every_convention_is_read_back(cents: int, style: str):
    """An amount printed with thousands separators and two decimals is read as that amount."""
    thousands, decimal = style
    text = f"{cents // 100:,}".replace(",", thousands) + f"{decimal}{cents % 100:02}"

    assert cents / 100 == read_number(f"total {text} due")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2024-03-05", "2024-03-05"),
        ("2024/3/5", "2024-03-05"),
        ("2024年3月5日", "2024-03-05"),
        ("２０２４年３月５日", "2024-03-05"),
        ("01.02.2024", "2024-02-01"),
        ("31/12/2024", "2024-12-31"),
        ("12/31/2024", None),
        ("4 September 2023", "2023-09-04"),
        ("the 1st day of April, 2024", "2024-04-01"),
        ("3rd of May 2024", "2024-05-03"),
        ("March 3rd, 2024", "2024-03-03"),
        ("Sept. 5, 2024", "2024-09-05"),
        ("3. März 2024", "2024-03-03"),
        ("10. Jänner 2024", "2024-01-10"),
        ("le 1er mars 2024", "2024-03-01"),
        ("5 déc. 2022", "2022-12-05"),
        ("15 août 2023", "2023-08-15"),
        ("29 February 2024", "2024-02-29"),
        ("29 February 2023", None),
        ("2024-13-01", None),
        ("June 2024", None),
        ("2 of foo 2020, then 3 May 2021", "2021-05-03"),
        ("3 May 2021 and 2020-01-02", "2021-05-03"),
    ],
)
def test_first_real_date_is_read(text: str, found: str | None):
    """Digits alone are day, month, year; what is no day of the calendar is not a date."""
    assert found == read_date(text)


_MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
}


@pytest.mark.parametrize("language", _MONTHS)
@given(day=st.dates(min_value=date(1900, 1, 1), max_value=date(2999, 12, 31)))
def test_every_day_is_read_back_in_every_language(language: str, day: date):
    """A date written out with the name of its month is read as that date."""
    month = _MONTHS[language].split()[day.month - 1]

    assert day.isoformat() == read_date(f"({day.day}{'.' if language == 'de' else ''} {month} {day.year})")


@pytest.mark.parametrize(
    ("text", "months", "days"),
    [
        ("18 months", 18, 540),
        ("18-month", 18, 540),
        ("thirty (30) days", None, 30),
        ("24 (twenty-four) months", 24, 720),
        ("45 (forty five) days", None, 45),
        ("two (2) full years", 24, 720),
        ("12 calendar months", 12, 360),
        ("one year", 12, 360),
        ("a year", 12, 360),
        ("twenty-four months", 24, 720),
        ("forty-eight months", 48, 1440),
        ("fourteen days", None, 14),
        ("six weeks", None, 42),
        ("zwei Jahre", 24, 720),
        ("drei Monaten", 3, 90),
        ("vier Wochen", None, 28),
        ("vierundzwanzig Monate", 24, 720),
        ("achtzehn Monate", 18, 540),
        ("vierzehn Tagen", None, 14),
        ("deux ans", 24, 720),
        ("dix-huit (18) mois", 18, 540),
        ("trente-six mois", 36, 1080),
        ("quatre-vingt-dix jours", None, 90),
        ("quinze jours", None, 15),
        ("six semaines", None, 42),
        ("within 30 days of a term of 2 years", 24, 30),
        ("half a year", None, None),
        ("1.5 years", None, None),
        ("some months", None, None),
        ("an anniversary", None, None),
    ],
)
def test_first_duration_is_read_in_whole_months_or_days(text: str, months: int | None, days: int | None):
    """A month is 30 days, a week 7 and no months; what is no whole count is not read as another count."""
    assert (months, days) == (read_duration(text, unit="months"), read_duration(text, unit="days"))


@given(count=st.integers(min_value=0, max_value=999), unit=st.sampled_from(["days", "Tage", "jours"]))
def test_every_count_of_days_is_read_back(count: int, unit: str):
    """Digits are read as they stand, in every language."""
    assert count == read_duration(f"notice: {count} {unit}", unit="days")
