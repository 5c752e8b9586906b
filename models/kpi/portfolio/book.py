"""What a KPI of a portfolio is, and how it reads the figures of a month and segment that were added up."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Literal, TypeAlias

from models.kpi import customers, recurring
from models.kpi.exact import Exact, Reading, exact, none
from models.kpi.figures import FIGURES, MICRO, Key, Parts

Unit = Literal["percent", "money", "count", "ratio", "score", "days", "months", "years", "seconds", "users"]
"""`money` is in minor units of the currency asked for, `percent` in per cent, `score` in points of the scale that the formula names."""

Direction = Literal["up", "down"]
"""Which way is better; a KPI that is good neither way has none."""

Section = Literal["revenue", "value and cost", "customers", "usage", "support", "surveys", "relationship"]

Value: TypeAlias = Reading | Mapping[str, Reading]
"""What a KPI says: one reading, or one for each label (a product, a cohort)."""

PREVIOUS: Final = "previous."
"""Goes before the name of a figure of the month before."""

AT_RISK: Final = ("at_risk", "critical")


@dataclass(frozen=True, slots=True)
class Options:
    """How KPIs are made, where the definitions leave a choice. `days` are those of the month, or that have passed of it.

    `discount_factor` is what an amount of the month after is worth now: 0.99 a month is 11.4 % a year.
    """

    days: int = 30
    pause_policy: recurring.PausePolicy = "zero"
    max_lifetime_months: int | None = None
    discount_factor: Fraction = Fraction(99, 100)
    fcr_denominator: Literal["solved", "received"] = "solved"
    count_abandoned: bool = False
    count_cross_department: bool = False


class _AbsentError(LookupError):
    """A figure is not there: its feed has never sent anything."""


class _SeveralError(LookupError):
    """There are amounts in several currencies, and none was asked for."""


@dataclass(frozen=True)
class Book:
    """The figures of a month and segment, added up over partitions, as KPIs read them.

    `previous` are those of the month before. `currency` is the one that money is wanted in; it may be left out when there is only one.
    """

    parts: Parts
    previous: Parts | None = None
    currency: str = ""
    options: Options = field(default_factory=Options)

    def read(self, name: str) -> Any:
        """A figure: an int, money as exact minor units, one with labels as a dict of them without those that are zero."""
        if name.startswith(PREVIOUS):
            if self.previous is None:
                raise _AbsentError
            return Book(self.previous, None, self.currency, self.options).read(name.removeprefix(PREVIOUS))
        figure = FIGURES[name]
        currency = self._currency(name) if figure.is_money else ""
        if not figure.label:
            found = self.parts.get(Key(name, "", currency))
            if found is None:
                raise _AbsentError
            return Fraction(found, MICRO) if figure.is_money else found
        by_label = {key.label: value for key, value in self.parts.items() if key.name == name and key.currency == currency and value}
        if not by_label and not any(FIGURES[key.name].topic == figure.topic for key in self.parts):
            raise _AbsentError
        return {label: Fraction(value, MICRO) if figure.is_money else value for label, value in sorted(by_label.items())}

    def _currency(self, name: str) -> str:
        if self.currency:
            return self.currency
        found = {key.currency for key in self.parts if key.name == name}
        if len(found) > 1:
            raise _SeveralError
        return found.pop() if found else next((key.currency for key in self.parts if key.currency), "")


@dataclass(frozen=True, slots=True)
class Kpi:
    """One KPI: `make` takes what `figures` are, in their order, after the options where `has_options`.

    `rare` are those that count as 0 where they were never observed and the others were.
    """

    name: str
    title: str
    section: Section
    unit: Unit
    better: Direction | None
    source: str
    formula: str
    figures: tuple[str, ...]
    make: Callable[..., Value]
    has_options: bool = False
    rare: frozenset[str] = frozenset()

    def _read(self, book: Book, name: str) -> Any:
        try:
            return book.read(name)
        except _AbsentError:
            if name in self.rare:
                return 0
            raise

    def value(self, book: Book) -> Value:
        """The KPI of a month and segment; null with a reason where a figure was never observed or there is nothing to divide by."""
        try:
            given = [self._read(book, name) for name in self.figures]
        except _AbsentError:
            is_first = book.previous is None and any(name.startswith(PREVIOUS) for name in self.figures)
            return none("no_previous_period" if is_first else "not_observed")
        except _SeveralError:
            return none("several_currencies")
        made = self.make(book.options, *given) if self.has_options else self.make(*given)
        if self.unit != "percent":
            return made
        return made.times(100) if isinstance(made, Reading) else {label: each.times(100) for label, each in made.items()}


Row: TypeAlias = tuple[str, str, Unit, Direction | None, str, str, tuple[str, ...], Callable[..., Value]]
"""A KPI as the lists have it: name, title, unit, which way is better, source, formula, figures, how it is made."""


def section(name_of: Section, *rows: Row, has_options: bool = False, rare: frozenset[str] = frozenset()) -> Iterator[Kpi]:
    """The KPIs of a section, in their order."""
    for name, title, unit, better, source, formula, figures, make in rows:
        yield Kpi(name, title, name_of, unit, better, source, formula, figures, make, has_options, rare)


def as_count(number: Exact) -> Reading:
    """A figure as it is."""
    return Reading(number)


def total(by_label: Mapping[str, Exact]) -> Reading:
    """All labels of a figure together."""
    return Reading(sum(map(exact, by_label.values()), Fraction(0)))


def each(by_label: Mapping[str, Exact]) -> dict[str, Reading]:
    """Each label of a figure by itself."""
    return {label: Reading(value) for label, value in by_label.items()}


def shares(by_label: Mapping[str, Exact]) -> dict[str, Reading]:
    """The share of each label in all of them."""
    whole = sum(map(exact, by_label.values()), Fraction(0))
    return {label: customers.share(value, whole) for label, value in by_label.items()}


def by_number(by_label: Mapping[str, int]) -> dict[int, int]:
    """A figure whose labels are numbers."""
    return {int(label): count for label, count in by_label.items()}
