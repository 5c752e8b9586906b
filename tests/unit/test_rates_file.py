"""The file of exchange rates, as a worker reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.ledger import OwnCurrencies, RevenueRules, Valuation
from models.portfolio import Accounting, PortfolioRules
from models.times import parse_us
from stream_app.exits import ConfigError
from stream_app.rates import rates_of

if TYPE_CHECKING:
    from pathlib import Path


def valuation_of(of: RevenueRules) -> Valuation:
    """How amounts are compared by rules, with nothing said besides."""
    return Accounting.of(of, PortfolioRules(), rates_of(of)).valuation


def rules(directory: Path, text: str) -> RevenueRules:
    """Rules that name a file of that text."""
    path = directory / "rates.csv"
    path.write_text(text, encoding="utf-8")
    return RevenueRules(reporting_currency="USD", rates_file=path)


def test_the_latest_rate_on_or_before_the_day_counts(tmp_path: Path) -> None:
    """By the day in UTC; before the first rate that one, and a currency without a rate is reported for itself."""
    valuation = valuation_of(rules(tmp_path, "day,currency,rate\n2026-02-01,EUR,1.1\n2026-01-01,EUR,1.0850\n\n2026-01-01,JPY,0.0065\n"))
    days = ["2025-06-01T00:00:00Z", "2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z"]
    assert [valuation.value("EUR", 100_000_000_000, parse_us(day)) for day in days] == [108_500_000_000, 108_500_000_000, 110_000_000_000]
    assert valuation.value("JPY", 1_000_000, parse_us(days[0])) == 650_000  # a yen is no hundred of anything
    assert [valuation.reporting(currency) for currency in ("EUR", "JPY", "USD", "CHF")] == ["USD", "USD", "USD", "CHF"]
    assert valuation.value("CHF", 7, parse_us(days[0])) == 7


def test_without_a_file_each_currency_stands_for_itself() -> None:
    """Nothing is converted, nothing added up."""
    assert isinstance(valuation_of(RevenueRules()), OwnCurrencies)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "first line"),
        ("date,currency,rate\n", "first line"),
        ("day,currency,rate\n2026-01-01,EUR\n", "line 2"),
        ("day,currency,rate\n2026-01-01,EUR,1\n01.02.2026,EUR,1\n", "line 3"),
        ("day,currency,rate\n2026-01-01,EUR,NaN\n", "line 2"),
        ("day,currency,rate\n2026-01-01,EUR,0\n", "above 0"),
        ("day,currency,rate\n2026-01-01,EUR,1\n2026-01-01,EUR,2\n", "two rates"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    """The setting is named, and the line."""
    with pytest.raises(ConfigError, match=told):
        valuation_of(rules(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """So is a file with no currency to report in, and a currency that does not exist."""
    with pytest.raises(ConfigError, match="cannot be read"):
        valuation_of(RevenueRules(reporting_currency="USD", rates_file=tmp_path / "none.csv"))
    with pytest.raises(ValueError, match="no currency of ISO 4217"):
        RevenueRules(reporting_currency="ZZZ")
    with pytest.raises(ValueError, match="needs reporting_currency"):
        RevenueRules(rates_file=tmp_path / "none.csv")
