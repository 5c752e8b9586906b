"""Exchange rates by day: the rate of a day is the latest on or before it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from models.fixed import half_up
from models.kpi.exact import Exact, exact
from models.kpi.money import convert_minor, exponent
from models.ledger import OwnCurrencies, Valuation
from models.times import DAY_US

EPOCH = date(1970, 1, 1)


class MissingRateError(ValueError):
    """There is no rate for a currency on or before a day: an amount cannot be converted, and is not left out silently."""

    def __init__(self, currency: str, target: str, day: date) -> None:
        super().__init__(f"no rate from {currency} to {target} on or before {day.isoformat()}")
        self.currency, self.target, self.day = currency, target, day


@dataclass(frozen=True, slots=True)
class Rate:
    """What one whole unit of a currency is worth in the table's target from a day on, until the next rate."""

    day: date
    currency: str
    rate: Fraction


class Rates:
    """A dated table of rates into one currency. The order of its rows does not matter."""

    def __init__(self, target: str, rates: Iterable[Rate]) -> None:
        exponent(target)
        self.target = target
        self._rates: dict[str, dict[date, Fraction]] = {}
        for each in rates:
            exponent(each.currency)
            self._add(each)
        self._days = {currency: sorted(table) for currency, table in self._rates.items()}

    def _add(self, new: Rate) -> None:
        if new.rate <= 0:
            raise ValueError(f"the rate from {new.currency} to {self.target} of {new.day.isoformat()} is {new.rate}: it must be above 0")
        if new.currency == self.target and new.rate != 1:
            raise ValueError(f"the rate from {new.currency} to itself of {new.day.isoformat()} is {new.rate}: it can only be 1")
        table = self._rates.setdefault(new.currency, {})
        if table.setdefault(new.day, new.rate) != new.rate:
            raise ValueError(f"there are two rates from {new.currency} to {self.target} on {new.day.isoformat()}")

    def knows(self, currency: str) -> bool:
        """Whether there is a rate for a currency on any day; of the target itself there is."""
        return currency == self.target or currency in self._days

    def on(self, currency: str, day: date) -> Fraction:
        """The rate of a day: the latest on or before it, 1 for the target itself; raises MissingRateError without one."""
        if currency == self.target:
            return Fraction(1)
        days = self._days.get(currency, [])
        place = bisect_right(days, day)
        if not place:
            raise MissingRateError(currency, self.target, day)
        return self._rates[currency][days[place - 1]]

    def convert(self, minor: Exact, currency: str, day: date) -> Fraction:
        """An amount in minor units of the target, exact, at the rate of a day; raises MissingRateError without one."""
        if currency == self.target:
            return exact(minor)
        return convert_minor(minor, currency, self.target, self.on(currency, day))

    def fx(self, minor: Exact, currency: str, before: date, after: date) -> Fraction:
        """What the change of rates alone does to an amount that stays the same: an `fx` movement, never an expansion."""
        return self.convert(minor, currency, after) - self.convert(minor, currency, before)


class InReportingCurrency:
    """Amounts in whole millionths, reported in the target of a table where it knows their currency, else in their own."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates

    def reporting(self, currency: str) -> str:
        """The currency that amounts of a currency are reported in."""
        return self._rates.target if self._rates.knows(currency) else currency

    def value(self, currency: str, micro: int, at: int) -> int:
        """An amount in the currency that it is reported in, by the rate of the UTC day of an instant (microseconds), rounded half-up.

        Raises MissingRateError before the first rate of a currency that the table knows.
        """
        if not self._rates.knows(currency):
            return micro
        converted = self._rates.convert(micro, currency, EPOCH + timedelta(days=at // DAY_US))
        return half_up(converted.numerator, converted.denominator)


def valuation_of(into: str | None, rows: Iterable[Rate], said: Mapping[tuple[str, date], Fraction]) -> Valuation:
    """How amounts of several currencies become comparable: each stands for itself where none is reported in, or no rate is known.

    `said` are rates by currency and day, each in the place of the row of that day. Before the first rate of a currency that one counts.
    Raises ValueError for rows that contradict each other, or that are no rates.
    """
    if into is None:
        return OwnCurrencies()
    table = [row for row in rows if (row.currency, row.day) not in said]
    table += [Rate(day, currency, rate) for (currency, day), rate in said.items()]
    if not table:
        return OwnCurrencies()
    first: dict[str, Rate] = {}
    for row in sorted(table, key=lambda each: each.day):
        first.setdefault(row.currency, row)
    before = [Rate(date.min, row.currency, row.rate) for row in first.values() if row.day != date.min]
    return InReportingCurrency(Rates(into, [*before, *table]))
