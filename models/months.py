"""Calendar months in a time zone: which month an instant is in, and where a month begins and ends.

A month is one integer, `year × 12 + month − 1`, so that months are counted and compared by plain arithmetic; as text it is `2026-11`.
It begins with the first instant at which its zone's clocks show a date of it or a later one, and lasts until the next one begins: months
touch and never overlap, also where clocks are put forward or back at that midnight.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from models.times import SECOND_US

MONTHS_OF_YEAR: Final = 12
MONTH_MIN: Final = 1 * MONTHS_OF_YEAR + 1
MONTH_MAX: Final = 9999 * MONTHS_OF_YEAR + 10
"""The first and the last month that are there: February of the year 1 and November of 9999, in every zone."""

UTC_ZONE: Final = ZoneInfo("UTC")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])(?![\s\S])")
_REMEMBERED: Final = 4096


def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name, e.g. `Europe/Berlin`; raises ValueError for a name that is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone: expected an IANA name such as UTC or Europe/Berlin") from None


def month_index(year: int, month: int) -> int:
    """The index of a month, `month` from 1 to 12."""
    return year * MONTHS_OF_YEAR + month - 1


def parse_month(text: str) -> int:
    """The index of a month written as `2026-11`; raises ValueError for any other text."""
    found = _TEXT.match(text)
    if found is None or not MONTH_MIN <= (month := month_index(int(found[1]), int(found[2]))) <= MONTH_MAX:
        raise ValueError("expected a month such as 2026-11")
    return month


def format_month(month: int) -> str:
    """A month as text, `2026-11`."""
    return f"{month // MONTHS_OF_YEAR:04}-{month % MONTHS_OF_YEAR + 1:02}"


def first_day(month: int) -> date:
    """The date on which a month begins."""
    return date(month // MONTHS_OF_YEAR, month % MONTHS_OF_YEAR + 1, 1)


@lru_cache(_REMEMBERED)
def day_begins(day: date, zone: ZoneInfo) -> int:
    """The first instant at which the clocks of a zone show that date or a later one, in microseconds."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    first, second = _instant(midnight), _instant(midnight.replace(fold=1))
    if first <= second:
        return first  # midnight is there once, or twice and this is the first time
    # Clocks are put forward over midnight: the day begins at that very second, between the two readings of a time that is not there.
    before, after = second // SECOND_US, first // SECOND_US
    while after - before > 1:
        between = (before + after) // 2
        if local_time(between * SECOND_US, zone).date() >= day:
            after = between
        else:
            before = between
    return after * SECOND_US


def begins(month: int, zone: ZoneInfo) -> int:
    """The first instant of a month, in microseconds."""
    return day_begins(first_day(month), zone)


def span(month: int, zone: ZoneInfo) -> tuple[int, int]:
    """The instants `[start, end)` of a month, in microseconds."""
    return begins(month, zone), begins(month + 1, zone)


def month_of(at: int, zone: ZoneInfo) -> int:
    """The month that an instant (microseconds) is in."""
    local = local_time(at, zone)
    month = month_index(local.year, local.month)
    # Clocks that are put back from the first minutes of a month show the month before once more.
    return month + 1 if at >= begins(month + 1, zone) else month


def local_time(at: int, zone: ZoneInfo) -> datetime:
    """What the clocks of a zone show at an instant (microseconds)."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(zone)


def _instant(local: datetime) -> int:
    return (local - _EPOCH) // timedelta(microseconds=1)
