"""The naive reading of what is decided for all accounts: of each rate the last write, from all commands of a partition (docs/state.md).

It shares no code with `models/`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date

    from deploy.verify.reference import Event

About = tuple[str, str, str]
"""The currency of a rate, the one that it leads into, and the day."""

Told = tuple[tuple[int, str, str], str]
"""The rank of a write, and the rate."""


def writes(events: Iterable[Event]) -> set[tuple[About, Told]]:
    """List every rate that was ever said."""
    return {((event.data["currency"], event.data["into"], event.data["day"]), (event.rank, event.data["rate"])) for event in events}


def rates(events: Iterable[Event]) -> dict[About, Told]:
    """Read the rates that a list of applied commands comes to."""
    found: dict[About, Told] = {}
    for about, told in writes(events):
        found[about] = max(found.get(about, told), told)
    return found


def rate_of(into: str, file: Mapping[tuple[str, str], str], events: Iterable[Event]) -> Callable[[str, date], Fraction | None]:
    """Give the rate of a currency on a day: the latest on or before it, else the first there is; None for a currency without any.

    `file` has rates by currency and day; what was said of that day takes their place.
    """
    table = dict(file)
    for (currency, target, day), (_, told) in rates(events).items():
        if target == into:
            table[currency, day] = told

    def rate(currency: str, day: date) -> Fraction | None:
        if currency == into:
            return Fraction(1) if table else None
        days = sorted(each for name, each in table if name == currency)
        before = [each for each in days if each <= day.isoformat()]
        return Fraction(table[currency, (before or days[:1])[-1]]) if days else None

    return rate
