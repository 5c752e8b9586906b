"""Currencies and exchange rates."""

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kpi.costs import allocate
from models.kpi.money import convert_minor, exponent, shown, to_major, to_minor
from models.kpi.rates import InReportingCurrency, MissingRateError, Rate, Rates
from models.times import DAY_US, parse_us
from tests.support.profiles import unhurried

DAY = date(2024, 1, 1)


@pytest.mark.parametrize(("currency", "decimals"), [("JPY", 0), ("USD", 2), ("EUR", 2), ("KWD", 3), ("CLF", 4), ("XAU", 0)])
def test_a_currency_has_the_decimals_of_iso_4217(currency: str, decimals: int) -> None:
    """Gold has none that anybody says."""
    assert exponent(currency) == decimals


@pytest.mark.parametrize("currency", ["XYZ", "usd", "", "JPN"])
def test_what_is_no_currency_is_refused(currency: str) -> None:
    """By its name."""
    with pytest.raises(ValueError, match=f"'{currency}' is no currency"):
        exponent(currency)


def test_amounts_are_shown_rounded_half_up() -> None:
    """To the decimals of their currency, and never as minus zero."""
    assert shown(1_234_567_890, "USD") == "12.35"
    assert shown(-500_000, "JPY") == "-1"
    assert shown(-400_000, "JPY") == "0"
    assert shown(1_500_000, "KWD") == "0.002"


@given(minor=st.integers(-(10**12), 10**12), rate=st.decimals("0.0001", 1000, places=4))
@unhurried(100)
def test_a_conversion_and_back_is_exact(minor: int, rate: Decimal) -> None:
    """Through a currency without decimals, too: nothing is rounded on the way."""
    yen = convert_minor(minor, "USD", "JPY", rate)
    assert yen == Fraction(minor, 100) * Fraction(rate)
    assert convert_minor(yen, "JPY", "USD", 1 / Fraction(rate)) == minor
    assert to_minor(to_major(minor, "KWD"), "KWD") == minor


def test_the_rate_of_a_day_is_the_latest_on_or_before_it() -> None:
    """In whatever order the table was written."""
    rates = Rates("USD", [Rate(DAY + timedelta(10), "EUR", Fraction(11, 10)), Rate(DAY, "EUR", Fraction(1))])
    assert [rates.on("EUR", DAY + timedelta(days)) for days in (0, 9, 10, 500)] == [1, 1, Fraction(11, 10), Fraction(11, 10)]
    assert rates.on("USD", date(1970, 1, 1)) == 1
    assert rates.convert(100, "EUR", DAY + timedelta(10)) == 110
    assert rates.fx(100, "EUR", DAY, DAY + timedelta(10)) == 10
    assert rates.fx(100, "USD", DAY, DAY + timedelta(10)) == 0


@pytest.mark.parametrize(("currency", "day"), [("EUR", DAY - timedelta(1)), ("GBP", DAY)])
def test_a_missing_rate_names_the_currency_and_the_day(currency: str, day: date) -> None:
    """It is never guessed, and the amount is never left out."""
    rates = Rates("USD", [Rate(DAY, "EUR", Fraction(1))])
    with pytest.raises(MissingRateError, match=f"no rate from {currency} to USD on or before {day.isoformat()}") as error:
        rates.convert(1, currency, day)
    assert (error.value.currency, error.value.target, error.value.day) == (currency, "USD", day)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([Rate(DAY, "EUR", Fraction(0))], "must be above 0"),
        ([Rate(DAY, "EUR", Fraction(1)), Rate(DAY, "EUR", Fraction(2))], "two rates from EUR to USD on 2024-01-01"),
        ([Rate(DAY, "USD", Fraction(2))], "it can only be 1"),
        ([Rate(DAY, "EURO", Fraction(2))], "'EURO' is no currency"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(rows: list[Rate], problem: str) -> None:
    """Which of two rates would count is nobody's guess."""
    with pytest.raises(ValueError, match=problem):
        Rates("USD", rows)


def test_what_has_no_rate_at_all_is_reported_in_its_own_currency() -> None:
    """Yen become dollars at the rate of the day, rounded half-up once; pounds stay pounds."""
    reported = InReportingCurrency(Rates("USD", [Rate(DAY, "JPY", Fraction(67, 10_000)), Rate(DAY + timedelta(1), "JPY", Fraction(1, 3))]))
    at = parse_us("2024-01-01T23:59:59Z")
    assert [reported.reporting(each) for each in ("JPY", "USD", "GBP")] == ["USD", "USD", "GBP"]
    assert [reported.value(each, 1_000_000, at) for each in ("JPY", "USD", "GBP")] == [670_000, 1_000_000, 1_000_000]
    assert reported.value("JPY", 1, at + DAY_US) == 33
    with pytest.raises(MissingRateError):
        reported.value("JPY", 1, at - DAY_US)


def test_a_cost_is_shared_out_to_the_last_part() -> None:
    """Equally, by MRR, or not at all."""
    mrr = {"a": 1, "b": 2, "c": 0}
    assert allocate(100, "equal", mrr) == dict.fromkeys("abc", Fraction(100, 3))
    assert allocate(99, "mrr", mrr) == {"a": 33, "b": 66, "c": 0}
    assert allocate(9, "mrr", dict.fromkeys("abc", 0)) == dict.fromkeys("abc", 3)
    assert allocate(100, "none", mrr) == allocate(100, "mrr", {}) == {}
