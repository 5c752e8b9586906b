"""Instants as integer microseconds since 1970-01-01T00:00:00Z, read from and written as RFC 3339 text.

`parse_us` is the definition; `parse_many` gives the same answers for many texts at once, and `RFC3339_PATTERN` matches exactly
the texts that `parse_us` accepts, so that a JSON Schema and a decoder can check a time without reading it.
"""

import re
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

MILLISECOND_US: Final = 1_000
SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

_DATE = (
    # Written out, so that 30 February needs no second look after the match.
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_OFFSET = r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_END = r"(?![\s\S])"  # `$` would let a last newline pass in Python.
_WITHIN_YEARS_1_TO_9999 = r"(?!0000)(?!0001-01-01.*[+-][0-9:]{5}$)(?!9999-12-31.*(?::60|[+-][0-9:]{5}$))"
RFC3339_PATTERN: Final = f"^{_WITHIN_YEARS_1_TO_9999}{_DATE}[Tt]{_TIME}{_OFFSET}{_END}"
"""Matches what `parse_us` accepts; the same in Python and in ECMA 262 (JSON Schema)."""

_RFC3339 = re.compile(RFC3339_PATTERN)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_END = len("1970-01-01T00:00:00")
_MONTHS = [date(year, month, 1).toordinal() - _EPOCH_ORDINAL for year in range(1, 10_000) for month in range(1, 13)]
"""The first day of each month, from January of the year 1, in days since 1970-01-01."""


def parse_us(text: str) -> int:
    """Return the instant of an RFC 3339 text with an offset, in microseconds; raises ValueError for any other text.

    A leap second (`:60`) is the second after it, digits beyond microseconds are cut off, `t` and `z` may be lower case. The
    years are 0001 to 9999; their very first and last day must be written in UTC, so that each instant can be written again.
    """
    if _RFC3339.match(text) is None:
        message = "expected an RFC 3339 time with an offset"
        raise ValueError(message)
    day = _MONTHS[int(text[:4]) * 12 + int(text[5:7]) - 13] + int(text[8:10]) - 1
    seconds = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    clock_end = len(text) - 1
    if text[-1] not in "Zz":
        clock_end = len(text) - 6
        offset = int(text[-5:-3]) * 3600 + int(text[-2:]) * 60
        seconds += offset if text[-6] == "-" else -offset
    micros = int(text[20 : min(clock_end, 26)].ljust(6, "0")) if clock_end > _SECONDS_END else 0
    return day * DAY_US + seconds * SECOND_US + micros


def format_us(instant: int) -> str:
    """Return the RFC 3339 text of an instant in UTC, with milliseconds, or with microseconds where they are not zero.

    Raises OverflowError outside the years 0001 to 9999.
    """
    moment = _EPOCH + timedelta(microseconds=instant)
    precision = "milliseconds" if instant % MILLISECOND_US == 0 else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


_MANY_MIN = 16
"""Below this many texts of one shape, reading them one by one costs less than setting up the columns."""

_MONTH_START: NDArray[np.int64] = np.array([0] * 13 + _MONTHS, dtype=np.int64)
"""The first day of each month, at `year * 12 + month`, in days since 1970-01-01; the year 0 is never valid."""
_MONTH_DAYS: NDArray[np.int64] = np.diff(_MONTH_START, append=_MONTHS[-1] + 31)
_MONTH_DAYS[:13] = 0

_PAIRS_MAX: Final = np.array([99, 99, 12, 31, 23, 59, 59, 99, 99, 99, 23, 59], dtype=np.uint8)[:, None]
"""The greatest values of two digits each: century, year of it, month, day, hour, minute, second, three pairs of a fraction, offset."""

_TEN = np.uint8(10)
_MINUS = np.uint8(ord("-"))
_PLUS = np.uint8(ord("+"))


class _Shape:
    """Where the digits and the separators are in texts of one fixed length that end in `Z`, or in an offset like `+02:00`."""

    def __init__(self, length: int, *, is_utc: bool) -> None:
        zone = length - (1 if is_utc else 6)
        self.is_utc = is_utc
        self.zone = zone
        self.digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, *range(20, min(zone, 26))]
        self.digits_unread = list(range(26, zone))
        self.digits_of_offset = [] if is_utc else [zone + 1, zone + 2, zone + 4, zone + 5]
        marks = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":"} | ({19: "."} if zone > _SECONDS_END else {})
        marks |= {zone: "Z"} if is_utc else {zone + 3: ":"}
        self.marks = list(marks)
        self.marks_expected = np.frombuffer("".join(marks.values()).encode(), dtype=np.uint8)[:, None]

    def read(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return instants and whether each was read, both of shape (n,); what was not read may still be valid RFC 3339."""
        # A character outside ASCII becomes one `?`, which is no digit: the columns stay where they are.
        grid = np.frombuffer("".join(texts).encode("ascii", "replace"), dtype=np.uint8).reshape(len(texts), -1).T
        digits = np.zeros((20 if self.is_utc else 24, len(texts)), dtype=np.uint8)
        np.subtract(grid[self.digits], ord("0"), out=digits[: len(self.digits)])
        if not self.is_utc:
            np.subtract(grid[self.digits_of_offset], ord("0"), out=digits[20:])
        ok = (digits < _TEN).all(axis=0) & (grid[self.marks] == self.marks_expected).all(axis=0)
        if self.digits_unread:
            ok &= (grid[self.digits_unread] - np.uint8(ord("0")) < _TEN).all(axis=0)
        pairs = digits[::2] * _TEN + digits[1::2]
        ok &= (pairs <= _PAIRS_MAX[: len(pairs)]).all(axis=0)
        century, year, month, day, hour, minute, second, *fraction = pairs[:10].astype(np.int32)
        place = np.where(ok, (century * 100 + year) * 12 + month, 0)
        ok &= (month >= 1) & (day >= 1) & (day <= _MONTH_DAYS[place])
        seconds = (_MONTH_START[place] + day - 1) * 86_400 + ((hour * 60 + minute) * 60 + second)
        if not self.is_utc:
            sign = grid[self.zone]
            ok &= ((sign == _PLUS) | (sign == _MINUS)) & (place > _FIRST_MONTH) & (place < _LAST_MONTH)
            offset = pairs[10].astype(np.int64) * 3600 + pairs[11].astype(np.int64) * 60
            seconds += np.where(sign == _MINUS, offset, -offset)
        micros = (fraction[0] * 100 + fraction[1]) * 100 + fraction[2]
        return seconds * SECOND_US + micros, ok


_FIRST_MONTH: Final = 13
_LAST_MONTH: Final = len(_MONTH_START) - 1
"""The months in which a time must be in UTC on one day; those are left to `parse_us`."""

_SHAPES = {
    (length + (1 if is_utc else 6), is_utc): _Shape(length + (1 if is_utc else 6), is_utc=is_utc)
    for length in (_SECONDS_END, *range(_SECONDS_END + 2, _SECONDS_END + 11))
    for is_utc in (True, False)
}


def parse_many(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the instants of many texts and whether each is valid, both of shape (n,); an invalid one's instant is 0.

    Gives what `parse_us` gives; texts like `2026-11-21T20:15:03.120Z` or `2026-11-21T22:15:03+02:00`, with 0 to 9 fraction digits,
    are read together.
    """
    lengths = set(map(len, texts))
    if len(lengths) == 1 and len(texts) >= _MANY_MIN and (shape := _SHAPES.get((lengths.pop(), texts[0].endswith("Z")))):
        instants, ok = shape.read(texts)
    else:
        instants, ok = np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_)
    if not ok.all():
        _read_by_shape(texts, instants, ok)
    if not ok.all():
        _read_one_by_one(texts, instants, ok)
    return instants, ok


def _read_by_shape(texts: list[str], instants: NDArray[np.int64], ok: NDArray[np.bool_]) -> None:
    """Read what is not `ok` yet, all texts of a shape together."""
    rows_of: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for row in np.flatnonzero(~ok).tolist():
        rows_of[len(texts[row]), texts[row].endswith("Z")].append(row)
    for key, rows in rows_of.items():
        if key in _SHAPES and len(rows) >= _MANY_MIN:
            instants[rows], ok[rows] = _SHAPES[key].read([texts[row] for row in rows])


def _read_one_by_one(texts: list[str], instants: NDArray[np.int64], ok: NDArray[np.bool_]) -> None:
    for row in np.flatnonzero(~ok).tolist():
        try:
            instants[row] = parse_us(texts[row])
        except ValueError:
            instants[row] = 0
        else:
            ok[row] = True
