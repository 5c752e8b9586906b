"""What the parts of an account have in common: last writes, known ids, and letting go of what is old.

A part is the rare and varying side of an account's state (tickets, payments, facts). It is kept encoded (msgpack, arrays of members
in the order of the struct, so members are only ever added at the end, with a default), decoded for the few events that touch it, and
stored in a record of its own only when it changed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.fixed import Ints
from models.identity import IDENTITY_BYTES, WHO_BYTES
from models.times import DAY_US

KNOWN_IDS = 256
"""How many ids of applied events an account remembers for each topic other than usage."""

KNOWN_BYTES = KNOWN_IDS * IDENTITY_BYTES

KEEP_DAYS = 105
"""Days that a finished object is kept after its newest event: the longest window, and the lateness twice over."""

KEEP_US = KEEP_DAYS * DAY_US

OBJECTS_MAX = 1000
"""Objects of a kind that an account keeps at the most, so that no account's state grows without bound."""

GRACE_US = 7 * DAY_US
"""How much older than the newest event of its account and topic an event may be and still count."""

BYTE_MAX = 255
END_OF_TIME = 2**63 - 1


def rank(event: Any) -> str:
    """What decides between two writes at the same instant: the event's id, and after it its source; the greater text wins."""
    return f"{event.id}\0{event.source}"


class Write(msgspec.Struct, array_like=True, gc=False):
    """A value with the time and the rank of its last write."""

    value: str
    at: int
    id: str


class Number(msgspec.Struct, array_like=True, gc=False):
    """An integer value with the time and the rank of its last write."""

    value: int
    at: int
    id: str


class Written(Protocol):
    """Anything that has the time and the rank of its last write."""

    at: int
    id: str


def wins(last: Written | None, at: int, event_id: str) -> bool:
    """Whether a write at `(at, event_id)` comes after the last one."""
    return last is None or (at, event_id) > (last.at, last.id)


def write(last: Write | None, value: str, at: int, event_id: str) -> Write:
    """The later of two writes."""
    return Write(value, at, event_id) if wins(last, at, event_id) else last  # type: ignore[return-value]


def write_number(last: Number | None, value: int, at: int, event_id: str) -> Number:
    """The later of two writes."""
    return Number(value, at, event_id) if wins(last, at, event_id) else last  # type: ignore[return-value]


def is_repeated(ids: bytearray, identity: bytes) -> bool | None:
    """Whether a part knows an event with the same content; None when it does not know the event at all.

    `ids` are the identities (`models.identity`) of the part's last applied events one after the other, oldest first. They are searched
    as they lie: a part is mostly opened for one event, and to take 256 of them apart would cost more than to fold it.
    """
    who = identity[:WHO_BYTES]
    at = ids.find(who)
    while at > 0 and at % IDENTITY_BYTES:  # across two of them
        at = ids.find(who, at + 1)
    return None if at < 0 else ids.startswith(identity, at)


def remember(ids: bytearray, identity: bytes) -> None:
    """Add an applied event to the known ones; the oldest goes when there are too many."""
    ids += identity
    if len(ids) > KNOWN_BYTES:
        del ids[:IDENTITY_BYTES]


def let_go(ages: Iterable[tuple[int, str, bool]], newest: int, keep_us: int = KEEP_US) -> list[str]:
    """The ids of the objects to drop, from `(newest time, id, is finished)` of each."""
    horizon = newest - keep_us
    kept, dropped = [], []
    for age in ages:
        if age[2] and age[0] < horizon:
            dropped.append(age[1])
        else:
            kept.append(age)
    if len(kept) > OBJECTS_MAX:
        kept.sort()
        dropped += [name for _, name, _ in kept[: len(kept) - OBJECTS_MAX]]
    return dropped


def day_ring(times: list[int], newest: int, length: int) -> bytes:
    """How many of the times fall on each of `length` days, a byte each at day modulo that, at most 255.

    `newest` is at least the greatest of the times; days too old for a ring that ends there are left out.
    """
    if not times or not length:
        return bytes(length)
    ring = bytearray(length)
    last = newest // DAY_US
    for time in times:
        day = time // DAY_US
        if day > last - length and ring[day % length] < BYTE_MAX:
            ring[day % length] += 1
    return bytes(ring)


def put_rings(rings: NDArray[np.uint8], slots: Ints, many: Sequence[bytes]) -> None:
    """Put the rings of some accounts into their column, `(accounts, days)`."""
    if rings.shape[1]:
        rings[slots] = np.frombuffer(b"".join(many), np.uint8).reshape(len(many), rings.shape[1])


Derived = tuple[Any, ...]
"""What a part derives for the columns of its account, in the order that its `put` takes it."""


def oldest(times: Iterable[int]) -> int:
    """The least of some instants, the end of time when there is none."""
    return min(times, default=END_OF_TIME)
