"""Months in a time zone: they touch, they never overlap, and clocks that are put forward or back at midnight change nothing of that."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.months import (
    MONTH_MAX,
    MONTH_MIN,
    UTC_ZONE,
    begins,
    day_begins,
    format_month,
    month_index,
    month_of,
    parse_month,
    span,
    zone_of,
)
from models.times import DAY_US, HOUR_US, MINUTE_US, format_us, parse_us

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "Asia/Amman",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Australia/Lord_Howe",
]
zones = st.sampled_from(ZONES).map(ZoneInfo)
months = st.integers(month_index(1900, 1), month_index(2200, 12))


@given(months, zones)
@example(month_index(2009, 11), ZoneInfo("America/St_Johns"))
@example(month_index(2016, 4), ZoneInfo("Asia/Amman"))
def test_a_month_holds_its_span_and_the_next_begins_where_it_ends(month: int, zone: ZoneInfo) -> None:
    """The first and the last microsecond of a span are in the month; the one before and the one after are in its neighbours."""
    start, end = span(month, zone)
    assert 27 * DAY_US < end - start < 32 * DAY_US
    assert begins(month + 1, zone) == end
    assert [month_of(at, zone) for at in (start - 1, start, end - 1, end)] == [month - 1, month, month, month + 1]


@given(st.integers(parse_us("1900-01-01T00:00:00Z"), parse_us("2200-01-01T00:00:00Z")), zones)
def test_the_month_of_an_instant_is_what_the_calendar_of_the_zone_says(at: int, zone: ZoneInfo) -> None:
    """Except for the hour in which clocks show the month before once more, which counts with the new one."""
    local = datetime.fromtimestamp(at // 1_000_000, UTC).astimezone(zone)
    found = month_of(at, zone)
    if found != month_index(local.year, local.month):
        assert begins(found, zone) <= at < begins(found, zone) + HOUR_US
        assert found == month_index(local.year, local.month) + 1


@pytest.mark.parametrize(
    ("zone", "month", "start"),
    [
        ("UTC", "2026-11", "2026-11-01T00:00:00.000Z"),
        ("Europe/Berlin", "2026-11", "2026-10-31T23:00:00.000Z"),
        ("Europe/Berlin", "2026-07", "2026-06-30T22:00:00.000Z"),
        # Midnight was skipped: the month began at one o'clock.
        ("Asia/Amman", "2016-04", "2016-03-31T22:00:00.000Z"),
        # One o'clock became midnight again: the month began the first time.
        ("America/Havana", "2020-11", "2020-11-01T04:00:00.000Z"),
        # A minute past midnight became 23:01 of the day before.
        ("America/St_Johns", "2009-11", "2009-11-01T02:30:00.000Z"),
    ],
)
def test_where_a_month_begins(zone: str, month: str, start: str) -> None:
    """Months worked by hand."""
    assert format_us(begins(parse_month(month), zone_of(zone))) == start


def test_an_hour_that_is_shown_twice_across_the_edge_counts_with_the_new_month() -> None:
    """In St John's of 2009 the clocks showed 31 October again after a minute of November."""
    zone = zone_of("America/St_Johns")
    start = begins(parse_month("2009-11"), zone)
    again = start + 30 * MINUTE_US
    assert datetime.fromtimestamp(again // 1_000_000, UTC).astimezone(zone).date() == date(2009, 10, 31)
    assert month_of(again, zone) == parse_month("2009-11")


def test_a_day_that_a_zone_left_out_begins_where_the_next_one_does() -> None:
    """Samoa had no 30 December 2011; Toronto's clocks went from half past eleven to half past midnight in 1919."""
    apia, toronto = ZoneInfo("Pacific/Apia"), ZoneInfo("America/Toronto")
    assert day_begins(date(2011, 12, 30), apia) == day_begins(date(2011, 12, 31), apia) == parse_us("2011-12-30T10:00:00Z")
    assert day_begins(date(1919, 3, 31), toronto) == parse_us("1919-03-31T04:30:00Z")


@given(st.integers(MONTH_MIN, MONTH_MAX))
def test_a_month_is_read_as_it_was_written(month: int) -> None:
    """As text and back, in every year that there is; and each has its first and last instant everywhere."""
    assert parse_month(format_month(month)) == month
    assert month_index(*map(int, format_month(month).split("-"))) == month
    for zone in (UTC_ZONE, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Pago_Pago")):
        start, end = span(month, zone)
        assert (month_of(start, zone), month_of(end - 1, zone)) == (month, month)


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "2026-11\n", "２０２６-11", "0001-01", "9999-12"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    """A month is four digits, a hyphen, two digits."""
    with pytest.raises(ValueError, match="expected a month"):
        parse_month(text)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "/etc/passwd", "Europe", "UTC\0"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    """The message names what was given, and what is expected."""
    with pytest.raises(ValueError, match="is no time zone"):
        zone_of(name)
