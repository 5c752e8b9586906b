"""Instants as integer microseconds since 1970-01-01T00:00:00Z, read from and written as RFC 3339 text.

`parse_us` is the definition; `parse_many` gives the same answers for many texts at once, and `RFC3339_PATTERN` matches exactly
the texts that `parse_us` accepts, so that a JSON Schema and a decoder can check a time without reading it.
"""

import re
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
"""Below this many texts of one length, reading them one by one costs less than setting up the columns."""

_FIXED_LENGTHS = frozenset({_SECONDS_END + 1, *range(_SECONDS_END + 3, _SECONDS_END + 12)})
_MONTH_START: NDArray[np.int64] = np.array([0] * 12 + _MONTHS, dtype=np.int64)
"""The first day of each month, at `year * 12 + month - 1`, in days since 1970-01-01; year 0 is never valid."""
_MONTH_DAYS: NDArray[np.int64] = np.diff(_MONTH_START, append=_MONTHS[-1] + 31)


class _Shape:
    """Where the digits and the separators of one fixed length are, and what each digit is worth.

    `weights` has one row per value that is read (see `read`) and one column per digit.
    """

    def __init__(self, length: int) -> None:
        fraction = list(range(20, length - 1))
        self.digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, *fraction]
        marks = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", length - 1: "Z"} | ({19: "."} if fraction else {})
        self.marks = list(marks)
        self.marks_expected = np.frombuffer("".join(marks.values()).encode(), dtype=np.uint8)[:, None]
        weights = np.zeros((7, len(self.digits)), dtype=np.float32)  # every sum is below 2**24, so exact
        weights[0, :6] = [12_000, 1_200, 120, 12, 10, 1]  # year * 12 + month
        weights[1, 4:6] = weights[2, 6:8] = weights[3, 8:10] = weights[4, 10:12] = weights[5, 12:14] = [10, 1]
        weights[6, 14:20] = [10 ** (5 - place) for place in range(min(len(fraction), 6))]
        self.weights = weights

    def read(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return instants and whether each was read, both of shape (n,); what was not read may still be valid RFC 3339."""
        # A character outside ASCII becomes one `?`, which is no digit: the columns stay where they are.
        grid = np.frombuffer("".join(texts).encode("ascii", "replace"), dtype=np.uint8).reshape(len(texts), -1).T
        digits = grid[self.digits] - np.uint8(48)
        ok = (digits <= 9).all(axis=0) & (grid[self.marks] == self.marks_expected).all(axis=0)
        values = self.weights @ digits.astype(np.float32)
        year_month, month, day, hour, minute, second, micros = values
        ok &= (year_month > 12) & (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
        place = np.where(ok, year_month - 1, 12).astype(np.int64)
        ok &= (day >= 1) & (day <= _MONTH_DAYS[place])
        seconds = (hour * 3600 + minute * 60 + second).astype(np.int64)
        days = _MONTH_START[place] + day.astype(np.int64) - 1
        return days * DAY_US + seconds * SECOND_US + micros.astype(np.int64), ok


_SHAPES = {length: _Shape(length) for length in _FIXED_LENGTHS}


def parse_many(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the instants of many texts and whether each is valid, both of shape (n,); an invalid one's instant is 0.

    Gives what `parse_us` gives; texts like `2026-11-21T20:15:03.120Z`, with 0 to 9 fraction digits, are read together.
    """
    lengths = set(map(len, texts))
    if len(texts) >= _MANY_MIN and len(lengths) == 1 and lengths <= _FIXED_LENGTHS:
        instants, ok = _SHAPES[lengths.pop()].read(texts)
    else:
        instants, ok = np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_)
        rows_of: dict[int, list[int]] = {length: [] for length in lengths}
        for row, text in enumerate(texts):
            rows_of[len(text)].append(row)
        for length, rows in rows_of.items():
            if length in _FIXED_LENGTHS and len(rows) >= _MANY_MIN:
                instants[rows], ok[rows] = _SHAPES[length].read([texts[row] for row in rows])
    if ok.all():
        return instants, ok
    for row in np.flatnonzero(~ok).tolist():
        try:
            instants[row] = parse_us(texts[row])
        except ValueError:
            instants[row] = 0
        else:
            ok[row] = True
    return instants, ok
