"""What every mapping shares: the CloudEvents envelope, times inside a day, money in minor units, tables of text."""

from __future__ import annotations

import csv
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import TYPE_CHECKING, Final, TypedDict
from zlib import crc32

from models.events import TOPIC_EVENTS, type_name
from stream_app.exits import Exit, ServiceExit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DAY_SECONDS: Final = 86_400
MIDNIGHT: Final = "T00:00:00Z"
"""The first second of a day: sign-ups and cancellations."""
END_OF_DAY: Final = "T23:59:59Z"
"""The last second of a day: what was due that day and did not happen."""

_CENT: Final = Decimal("0.01")
_TOPIC_OF: Final = {type_name(event_class): topic for topic, classes in TOPIC_EVENTS.items() for event_class in classes}


class ReplayDataError(ServiceExit):
    """The files are not what the mapping reads; the message is one line that names file and row."""

    def __init__(self, message: str, mend: str = "") -> None:
        """See `ServiceExit`; the exit code is that of a wrong command line."""
        super().__init__(Exit.CONFIGURATION, message, mend)


class Event(TypedDict):
    """One CloudEvent in structured mode; `time` is RFC 3339 in UTC to the second, so text order is time order."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str
    data: dict[str, object]


def event(source: str, event_type: str, event_id: str, time: str, account_id: str, data: dict[str, object]) -> Event:
    """Return the envelope around `data`; `event_id` is unique within the source."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": event_type,
        "time": time,
        "subject": account_id,
        "data": data,
    }


def time_of(event: Event) -> str:
    """Return the key that events are ordered by."""
    return event["time"]


def topic_of(event_type: str) -> str:
    """Return the input topic (without prefix) that a type of event belongs on."""
    return _TOPIC_OF[event_type]


def spread(day: str, row: str) -> str:
    """Return a time on `day` that the text of the row alone decides.

    Never the first or the last second, which belong to sign-ups, cancellations and due dates.
    """
    return day + _clock()[1 + crc32(row.encode()) % (DAY_SECONDS - 2)]


@cache
def _clock() -> tuple[str, ...]:
    """Return every second of a day as the end of a time; not made at import, which every command pays for."""
    return tuple(f"T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z" for second in range(DAY_SECONDS))


def usd(amount: str) -> dict[str, object]:
    """Return an amount of dollars as money in cents; raises `ReplayDataError` when it is none."""
    return {"amount_minor": cents(amount), "currency": "USD"}


def cents(amount: str) -> int:
    """Return an amount of dollars in cents, exactly; raises `ReplayDataError` when it has more than two places."""
    try:
        exact = Decimal(amount)
        minor = exact.quantize(_CENT)
    except InvalidOperation as error:
        message = f"{amount!r} is not an amount of dollars"
        raise ReplayDataError(message) from error
    if minor != exact:
        message = f"{amount!r} has a fraction of a cent"
        raise ReplayDataError(message)
    return int(minor * 100)


def rows(name: str, lines: Iterable[str], columns: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield the rows of a CSV table with exactly these columns; raises `ReplayDataError` naming file and line."""
    table = csv.reader(lines)
    header = next(table, [])
    if tuple(header) != columns:
        message = f"{name}: the header is {','.join(header)!r}, expected {','.join(columns)!r}"
        raise ReplayDataError(message)
    for row in table:
        if len(row) != len(columns):
            message = f"{name}, line {table.line_num}: {len(row)} fields, expected {len(columns)}"
            raise ReplayDataError(message)
        yield row
