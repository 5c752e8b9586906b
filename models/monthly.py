"""Figures of months that are over: frozen into a part when nothing that may still come can change them.

What happens until `SETTLED_US` after a month's end still counts for it (a reopening within 7 days, a ticket merged or deleted soon). Events
of then may come up to the grace later; after that the month is closed. Its figures are made of what is known of those instants only, so
neither the order within the grace nor the cut into batches decides anything.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import msgspec

from models.months import begins, month_of
from models.parts import END_OF_TIME, GRACE_US
from models.times import DAY_US, MINUTE_US

SETTLED_US: Final = 7 * DAY_US
"""How long after its end what happens still counts for a month."""

MONTHS_KEPT: Final = 24

QUARTER_US: Final = 15 * MINUTE_US
"""What still waits is looked at as often: so that its figures follow from the instant, and not from when somebody last looked."""

Figures = dict[str, int]
"""Figures by the text of their keys (`models.kpi.figures`); those that are 0 are left out."""


class Window(NamedTuple):
    """A month as it is looked at: `[start, end)`, the instant `stop` of its stocks, and `known`, up to which events count; microseconds."""

    start: int
    end: int
    stop: int
    known: int

    @property
    def clock(self) -> int:
        """Up to when the time counts of what is not over yet: `stop`, or the last quarter of an hour of the month that runs."""
        return self.stop if self.stop == self.end - 1 else self.stop - self.stop % QUARTER_US


class Months(msgspec.Struct, array_like=True, gc=False):
    """The closed months of a part: `open_from` is the first that is not (0: none was looked at yet), closed at `closes_at`."""

    open_from: int = 0
    closes_at: int = -1
    closed: dict[int, Figures] = {}


class Monthly(Protocol):
    """A part that has closed months."""

    months: Months


Count = Callable[[Any, Window], Figures]
"""Counts the figures of a window from the objects of a part."""


def close(part: Monthly, newest: int, zone: ZoneInfo, count: Count) -> None:
    """Close every month that can be closed now that the newest event of the part's topic is at `newest`."""
    months = part.months
    if not months.open_from:
        months.open_from = month_of(newest - GRACE_US, zone)
        months.closes_at = _closes_at(months.open_from, zone)
    if newest < months.closes_at:
        return
    months.open_from = max(months.open_from, month_of(newest, zone) - MONTHS_KEPT)
    while newest >= (closes_at := _closes_at(months.open_from, zone)):
        figures = count(part, window(months.open_from, zone, END_OF_TIME))
        if figures:
            months.closed[months.open_from] = figures
        months.open_from += 1
    months.closes_at = closes_at
    for month in [month for month in months.closed if month < months.open_from - MONTHS_KEPT]:
        del months.closed[month]


def _closes_at(month: int, zone: ZoneInfo) -> int:
    return begins(month + 1, zone) + SETTLED_US + GRACE_US + 1  # exactly as old as the grace is not late


def window(month: int, zone: ZoneInfo, now: int) -> Window:
    """A month as it is known at `now`."""
    start, end = begins(month, zone), begins(month + 1, zone)
    return Window(start, end, min(end - 1, now), min(end + SETTLED_US, now))


def figures_of(part: Monthly, month: int, zone: ZoneInfo, now: int, count: Count) -> Figures:
    """The figures of a month at `now`: those that it was closed with, else counted from what is kept; none before it begins."""
    if month < part.months.open_from:
        return dict(part.months.closed.get(month, {}))
    seen = window(month, zone, now)
    return {} if now < seen.start else count(part, seen)
