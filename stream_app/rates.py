"""The file of exchange rates: dated rows `day,currency,rate`, read when a worker starts."""

from __future__ import annotations

import csv
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import TYPE_CHECKING

from models.kpi.rates import Rate, valuation_of
from stream_app.exits import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from pathlib import Path

    from models.ledger import RevenueRules

COLUMNS = ["day", "currency", "rate"]


def rates_of(rules: RevenueRules) -> tuple[Rate, ...]:
    """The rates of the file, none where there is none; raises ConfigError for a file that cannot be read, or is wrong."""
    try:
        rows = [] if rules.rates_file is None else _rows(rules.rates_file)
        valuation_of(rules.reporting_currency, rows, {})
        return tuple(rows)
    except OSError as error:
        raise _wrong(rules.rates_file, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _wrong(rules.rates_file, str(error)) from error


def _rows(path: Path) -> list[Rate]:
    with path.expanduser().open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        if next(lines, None) != COLUMNS:
            raise ValueError(f"the first line is not {','.join(COLUMNS)}")
        return [_rate(line, number) for number, line in enumerate(lines, 2) if line]


def _rate(line: list[str], number: int) -> Rate:
    try:
        day, currency, rate = line
        return Rate(date.fromisoformat(day), currency, Fraction(Decimal(rate)))
    except (ValueError, InvalidOperation, OverflowError):
        raise ValueError(f"line {number} is no day, currency and rate, such as 2026-11-01,EUR,1.0850") from None


def _wrong(path: Path | None, wrong: str) -> ConfigError:
    mend = "give a CSV file with the columns day, currency and rate"
    return ConfigError([ConfigProblem("revenue.rates_file", "CHURNWATCH_REVENUE__RATES_FILE", f"{path}: {wrong}", mend)])
