"""The row of an account as it is stored: one fixed-width record, versioned, upcast by field name.

The stored value is a two-byte little-endian layout version and the packed record. A reader takes any version up to its own: fields
that a newer layout added take their empty value, fields that it dropped are ignored. A row of an unknown newer version is refused:
to drop what a newer release wrote would be to lose it.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

RING_DAYS = 98
"""Days of use that are kept: the longest window, 91 days, and the 7 days that an event may be late."""

USAGE_IDS = 64
"""How many usage ids an account remembers, to recognise what a producer sent twice."""

TOPIC_SLOTS = 5
"""The input topics of a row; `models.input_topics` says which is which. One more is a new layout."""

COMPONENT_SLOTS = 5
"""Room for components in a row, in the order of `models.scorecard.COMPONENTS`."""

VISITS = 16
"""Room in a row for days of users that are not in the account's part yet (`models.users`)."""

NEVER = np.iinfo(np.int64).min
"""An instant that has not come: no event yet, no timer set."""

NONE = -1
"""A score, coverage or component that does not exist."""

VERSION = 1

LAYOUTS: dict[int, np.dtype[np.void]] = {
    1: np.dtype(
        [
            ("usage", "<u4", (RING_DAYS,)),  # uses of the day, at day modulo RING_DAYS
            # `models.identity` of the last applied usage events, at their count (`applied`) modulo USAGE_IDS
            ("usage_who", "<u4", (USAGE_IDS,)),
            ("usage_who_more", "<u2", (USAGE_IDS,)),
            ("usage_what", "<u4", (USAGE_IDS,)),
            ("newest", "<i8", (TOPIC_SLOTS,)),  # greatest time of an applied event, by input topic
            ("applied", "<u4", (TOPIC_SLOTS,)),  # applied events, by input topic
            ("used_at", "<i8"),  # greatest time of a use
            ("score", "<i4"),  # the published assessment, ten-thousandths of a point
            ("coverage", "<i4"),
            ("component", "<i4", (COMPONENT_SLOTS,)),
            ("contribution", "<i4", (COMPONENT_SLOTS,)),
            ("as_of", "<i8"),  # the instant that the published assessment holds for
            ("due_at", "<i8"),  # when to look again with no event
            ("alert_since", "<i8"),
            ("alert_evaluated_at", "<i8"),
            ("alert_opened_at", "<i8"),
            ("alert_resolved_at", "<i8"),
            ("alert_critical_since", "<i8"),
            ("alert_episode", "<u4"),
            ("alert_sequence", "<u4"),
            ("alert_evaluations", "<u4"),
            ("band", "u1"),
            ("alert_condition", "u1"),
            ("alert_severity", "u1"),
            ("alert_rule", "u1"),
            ("visits", "<u8", (VISITS,)),  # days of users that are not in the part yet, by the order in which they came
            ("seats_at", "<i8"),  # when a gauge told of seats last
            ("seats", "<u4"),
            ("visits_count", "u1"),
            ("users_level", "u1"),  # of the hashes of the users that are kept so many bits are zero; above 0 they stand for all
        ]
    )
}

LAYOUT = LAYOUTS[VERSION]
FIELDS: tuple[str, ...] = LAYOUT.names or ()

EMPTY_VALUES: dict[str, int] = {
    "newest": NEVER,
    "used_at": NEVER,
    "seats_at": NEVER,
    "score": NONE,
    "coverage": 0,
    "component": NONE,
    "contribution": NONE,
    "as_of": NEVER,
    "due_at": NEVER,
    "alert_since": NEVER,
    "alert_evaluated_at": NEVER,
    "alert_opened_at": NEVER,
    "alert_resolved_at": NEVER,
    "alert_critical_since": NEVER,
}
"""The empty value of each field that is not zero when empty."""

_PREFIX = VERSION.to_bytes(2, "little")


class UnknownRowVersionError(Exception):
    """A stored row was written by a newer release than this one."""


def empty(count: int) -> NDArray[np.void]:
    """Rows of accounts that nothing is known of."""
    rows = np.zeros(count, LAYOUT)
    for name, value in EMPTY_VALUES.items():
        rows[name] = value
    return rows


def encode(rows: NDArray[np.void]) -> list[bytes]:
    """The stored value of each row."""
    blob = rows.tobytes()
    size = LAYOUT.itemsize
    return [_PREFIX + blob[start : start + size] for start in range(0, len(blob), size)]


def decode(values: list[bytes]) -> NDArray[np.void]:
    """The rows of stored values, in their order, in today's layout.

    Raises UnknownRowVersionError for a version newer than this release, ValueError for a value that is no row.
    """
    if not values:
        return empty(0)
    expected = 2 + LAYOUT.itemsize
    if all(len(value) == expected and value.startswith(_PREFIX) for value in values):
        packed = np.frombuffer(b"".join(values), np.dtype([("version", "<u2"), ("row", LAYOUT)]))
        rows: NDArray[np.void] = packed["row"]
        return rows
    rows = empty(len(values))
    for i, value in enumerate(values):
        rows[i] = _decode_one(value)
    return rows


def _decode_one(value: bytes) -> np.void:
    version = int.from_bytes(value[:2], "little")
    if version > VERSION:
        raise UnknownRowVersionError(
            f"an account row has layout version {version}, this release knows up to {VERSION}: run the release that wrote it or a newer one"
        )
    layout = LAYOUTS.get(version)
    if layout is None or len(value) != 2 + layout.itemsize:
        raise ValueError(f"a value of {len(value)} bytes is no account row of layout version {version}")
    return cast("np.void", upcast(np.frombuffer(value, layout, offset=2))[0])


def upcast(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Rows of an older layout in today's, field by field by name; places that a field has only today are empty."""
    names = rows.dtype.names or ()
    new = empty(len(rows))
    for name in names:
        if name in FIELDS:
            places = tuple(map(slice, rows[name].shape))
            new[name][places] = rows[name]
    return new
