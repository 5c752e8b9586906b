"""Instants: what is RFC 3339 and what is not, the same for one text, for many, and for the pattern; and back to text."""

import re
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.times import DAY_US, HOUR_US, MINUTE_US, RFC3339_PATTERN, SECOND_US, format_us, parse_many, parse_us

SLOW = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|([+-])([0-9]{2}):([0-9]{2}))\Z"
)


def reference(text: str) -> int | None:
    """Read a time slowly, field by field; None for what is no RFC 3339, or outside of what can be written in UTC."""
    found = SLOW.match(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[part]) for part in range(1, 7))
    sign, offset_hour, offset_minute = found[9], int(found[10] or 0), int(found[11] or 0)
    try:
        days = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    if hour > 23 or minute > 59 or second > 60 or offset_hour > 23 or offset_minute > 59:
        return None
    if (text.startswith("0001-01-01") and sign) or (text.startswith("9999-12-31") and (sign or second == 60)):
        return None
    offset = (offset_hour * 60 + offset_minute) * (-1 if sign == "-" else 1)
    micros = int((found[7] or "0")[:6].ljust(6, "0"))
    return days * DAY_US + hour * HOUR_US + (minute - offset) * MINUTE_US + second * SECOND_US + micros


def parsed(text: str) -> int | None:
    """Give what `parse_us` gives, None where it refuses."""
    try:
        return parse_us(text)
    except ValueError:
        return None


def two(most: int) -> st.SearchStrategy[str]:
    """Draw two digits, sometimes a little beyond what is valid."""
    return st.integers(0, most + 1).map("{:02d}".format)


YEARS = st.sampled_from(["0000", "0001", "1582", "1900", "1969", "1970", "2000", "2024", "2026", "9999"])
FRACTIONS = st.one_of(st.just(""), st.text("0123456789", max_size=12).map(".{}".format))
OFFSETS = st.one_of(
    st.sampled_from(["Z", "Z", "z", "", "+00:00", "-00:00"]),
    st.tuples(st.sampled_from("+-"), two(23), two(59)).map("{0[0]}{0[1]}:{0[2]}".format),
)
SPELLINGS = st.tuples(
    YEARS,
    two(12),
    two(31),
    st.sampled_from("TTTt "),
    two(23),
    two(59),
    two(60),
    FRACTIONS,
    OFFSETS,
    st.sampled_from(["", "", "", "\n", "x"]),
).map("{0[0]}-{0[1]}-{0[2]}{0[3]}{0[4]}:{0[5]}:{0[6]}{0[7]}{0[8]}{0[9]}".format)
ANYTHING = st.one_of(
    SPELLINGS,
    SPELLINGS.flatmap(lambda text: st.integers(0, len(text)).map(lambda at: text[:at] + "é" + text[at + 1 :])),
    st.text(max_size=40),
)


@given(ANYTHING)
@example("2016-12-31T23:59:60Z")
@example("2024-02-29T00:00:00Z")
@example("2023-02-29T00:00:00Z")
@example("1900-02-29T00:00:00Z")
@example("0001-01-01T00:00:00+00:01")
@example("9999-12-31T23:59:59.999999Z")
@example("２０２４-01-02T03:04:05Z")
def test_one_text_reads_as_the_reference_says(text: str) -> None:
    """`parse_us`, the pattern and the reference agree on what is a time, and on which."""
    assert parsed(text) == reference(text)
    assert (re.search(RFC3339_PATTERN, text) is not None) == (reference(text) is not None)


@given(st.lists(ANYTHING, max_size=60), st.lists(SPELLINGS, max_size=4), st.integers(0, 40))
def test_many_texts_read_as_each_alone(texts: list[str], repeated: list[str], times: int) -> None:
    """Whatever is beside it, a text is read the same; what is no time is marked and has the instant 0."""
    batch = texts + repeated * times
    instants, ok = parse_many(batch)
    assert instants.dtype == np.int64
    assert ok.dtype == np.bool_
    expected = [parsed(text) for text in batch]
    assert ok.tolist() == [instant is not None for instant in expected]
    assert instants.tolist() == [instant or 0 for instant in expected]


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-1439, 1439), st.integers(0, 9))  # noqa: DTZ001
def test_many_texts_of_one_shape_read_as_the_standard_library_does(naive: datetime, offset_minutes: int, digits: int) -> None:
    """Every shape that is read by columns gives what `datetime` gives."""
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    instant = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    fraction = f".{moment.microsecond:06d}789"[: digits + 1] if digits else ""
    kept = instant - moment.microsecond + int(fraction[1:7].ljust(6, "0"))
    base = f"{naive.year:04d}" + naive.strftime("-%m-%dT%H:%M:%S")
    offset = f"{'-' if offset_minutes < 0 else '+'}{abs(offset_minutes) // 60:02d}:{abs(offset_minutes) % 60:02d}"
    instants, ok = parse_many([f"{base}{fraction}{offset}"] * 20)
    assert ok.all()
    assert set(instants.tolist()) == {kept}
    instants, ok = parse_many([f"{base}{fraction}Z"] * 20)
    assert ok.all()
    assert set(instants.tolist()) == {kept + offset_minutes * MINUTE_US}


@given(st.integers(parse_us("0001-01-01T00:00:00Z"), parse_us("9999-12-31T23:59:59.999999Z")))
@example(0)
@example(-1)
def test_what_is_written_reads_the_same(instant: int) -> None:
    """An instant survives the way to text and back."""
    text = format_us(instant)
    assert parse_us(text) == instant
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.([0-9]{3}|[0-9]{6})Z", text)


@given(SPELLINGS)
def test_whatever_is_read_can_be_written(text: str) -> None:
    """No time that was accepted makes trouble at the output."""
    instant = parsed(text)
    if instant is not None:
        assert parse_us(format_us(instant)) == instant


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01T00:00:00.0000019Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T16:00:00-08:00", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("2016-12-31T23:59:60Z", parse_us("2017-01-01T00:00:00Z")),
        ("2016-12-31T23:59:60.5Z", parse_us("2017-01-01T00:00:00.5Z")),
        ("2017-01-01T05:29:60+05:30", parse_us("2017-01-01T00:00:00Z")),
    ],
)
def test_a_time_is_an_instant_in_microseconds(text: str, instant: int) -> None:
    """Offsets are applied, a leap second is the second after it, what is finer than a microsecond is cut off."""
    assert parse_us(text) == instant


def test_milliseconds_are_written_unless_microseconds_are_needed() -> None:
    """Three digits, or six."""
    assert format_us(0) == "1970-01-01T00:00:00.000Z"
    assert format_us(120_000) == "1970-01-01T00:00:00.120Z"
    assert format_us(1) == "1970-01-01T00:00:00.000001Z"


def test_nothing_is_read_from_nothing() -> None:
    """An empty batch has empty answers."""
    instants, ok = parse_many([])
    assert (instants.shape, ok.shape) == ((0,), (0,))


def test_texts_whose_lengths_only_add_up_are_not_mixed() -> None:
    """A text without its `Z` beside one with two more letters is no pair of times."""
    texts = ["2026-11-21T20:15:03.120", "Z2026-11-21T20:15:03.120Z"] * 20
    assert not parse_many(texts)[1].any()
