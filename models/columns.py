"""The accounts of one partition in memory: a column for each field, a slot for each account.

What every usage event touches is a fixed-width column (`models.row`), so that a batch is folded and scored by whole arrays. What is
rare and of varying size (tickets, payments, facts) is an encoded part beside it, with the few figures that a score needs derived
into columns when it changes (`models.parts`).
"""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from models import row
from models.months import UTC_ZONE
from models.row import NEVER, RING_DAYS
from models.shelf import Shelf
from models.texts import ReadText, unread

RINGS = ("tickets_created", "payments_failed", "payments_paid")
"""The derived rings: as many days as the scorecard's longest window of them, for they can be derived anew from the parts at any time."""

DERIVED: tuple[tuple[str, str, tuple[int, ...], int], ...] = (
    ("tickets_created", "u1", (RING_DAYS,), 0),
    ("tickets_day", "<i4", (), 0),
    ("tickets_open", "<u2", (), 0),
    ("tickets_open_urgent", "<u2", (), 0),
    ("payments_failed", "u1", (RING_DAYS,), 0),
    ("payments_paid", "u1", (RING_DAYS,), 0),
    ("payments_day", "<i4", (), 0),
    ("overdue_from", "<i8", (), NEVER),
    ("is_deleted", "?", (), 0),
    ("fact_seats", "<i8", (), 0),
    ("fact_seats_at", "<i8", (), NEVER),
    ("is_ended", "?", (), 0),
    ("has_subscriptions", "?", (), 0),
)
"""Columns that are not stored: name, type, shape and empty value of what the parts and the last checkpoint yield."""

WORKING: tuple[tuple[str, str, tuple[int, ...], int], ...] = (
    ("said_score", "<i4", (), row.NONE),
    ("said_contribution", "<i4", (row.COMPONENT_SLOTS,), row.NONE),
    ("trigger_topic", "i1", (), -1),
    ("trigger_offset", "<i8", (), -1),
    ("trigger_at", "<i8", (), NEVER),
    ("is_dirty", "?", (), 0),
    ("is_unassessed", "?", (), 0),
)
"""Columns of the time between two checkpoints: the assessment published last, and the event that touched the account last."""

PART_NAMES = ("support", "payment", "facts", "surveys", "users")
"""The parts of an account: tickets, payments, facts, surveys, and who used it when."""

SEEN_BITS = 17
"""How many days of users are remembered as known already: two to the power of this, 8 bytes each, for all accounts together."""

_INITIAL = 1024


def _shape(count: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (count, *shape)


class Columns:
    """Slots, keys and columns of one partition's accounts; a column is an attribute of its field's name."""

    usage: NDArray[np.uint32]
    usage_who: NDArray[np.uint32]
    usage_who_more: NDArray[np.uint16]
    usage_what: NDArray[np.uint32]
    newest: NDArray[np.int64]
    applied: NDArray[np.uint32]
    used_at: NDArray[np.int64]
    score: NDArray[np.int32]
    coverage: NDArray[np.int32]
    component: NDArray[np.int32]
    contribution: NDArray[np.int32]
    as_of: NDArray[np.int64]
    due_at: NDArray[np.int64]
    alert_since: NDArray[np.int64]
    alert_evaluated_at: NDArray[np.int64]
    alert_opened_at: NDArray[np.int64]
    alert_resolved_at: NDArray[np.int64]
    alert_critical_since: NDArray[np.int64]
    alert_episode: NDArray[np.uint32]
    alert_sequence: NDArray[np.uint32]
    alert_evaluations: NDArray[np.uint32]
    band: NDArray[np.uint8]
    alert_condition: NDArray[np.uint8]
    alert_severity: NDArray[np.uint8]
    alert_rule: NDArray[np.uint8]
    visits: NDArray[np.uint64]
    seats_at: NDArray[np.int64]
    seats: NDArray[np.uint32]
    visits_count: NDArray[np.uint8]
    users_level: NDArray[np.uint8]
    tickets_created: NDArray[np.uint8]
    tickets_day: NDArray[np.int32]
    tickets_open: NDArray[np.uint16]
    tickets_open_urgent: NDArray[np.uint16]
    payments_failed: NDArray[np.uint8]
    payments_paid: NDArray[np.uint8]
    payments_day: NDArray[np.int32]
    overdue_from: NDArray[np.int64]
    is_deleted: NDArray[np.bool_]
    fact_seats: NDArray[np.int64]
    fact_seats_at: NDArray[np.int64]
    is_ended: NDArray[np.bool_]
    has_subscriptions: NDArray[np.bool_]
    said_score: NDArray[np.int32]
    said_contribution: NDArray[np.int32]
    trigger_topic: NDArray[np.int8]
    trigger_offset: NDArray[np.int64]
    trigger_at: NDArray[np.int64]
    is_dirty: NDArray[np.bool_]
    is_unassessed: NDArray[np.bool_]

    def __init__(self, ring_days: Mapping[str, int] | None = None, read_text: ReadText = unread, zone: ZoneInfo = UTC_ZONE) -> None:
        """`ring_days` says how many days each derived ring holds; as many as the usage ring when it is not given.

        `read_text` is what texts are read with before they are let go of, `zone` that of the months.
        """
        self.read_text = read_text
        self.zone = zone
        self.slots: dict[bytes, int] = {}
        self.keys: list[bytes] = []
        self.parts: dict[str, Shelf] = {name: Shelf() for name in PART_NAMES}
        self._empty: dict[str, int] = {}
        self._capacity = 0
        for name in row.FIELDS:
            base, shape = row.LAYOUT[name].base, row.LAYOUT[name].shape
            self._declare(name, base, shape, row.EMPTY_VALUES.get(name, 0))
        for name, kind, shape, empty in (*DERIVED, *WORKING):
            if ring_days is not None and name in RINGS:
                shape = (ring_days.get(name, 0),)  # noqa: PLW2901 - the declared shape is the longest
            self._declare(name, np.dtype(kind), shape, empty)
        self.seen = np.zeros(1 << SEEN_BITS, np.uint64)
        self.trigger_id: NDArray[Any] = np.empty(0, object)
        self._grow(_INITIAL)

    def _declare(self, name: str, base: np.dtype[Any], shape: tuple[int, ...], empty: int) -> None:
        self._empty[name] = empty
        setattr(self, name, np.zeros(_shape(0, shape), base))

    def __len__(self) -> int:
        return len(self.keys)

    def _grow(self, capacity: int) -> None:
        """Room for `capacity` accounts. Memory that no account uses yet is not touched, so it costs nothing."""
        used = len(self.keys)
        for name in (*self._empty, "trigger_id"):
            old: NDArray[Any] = getattr(self, name)
            new = np.zeros(_shape(capacity, old.shape[1:]), old.dtype)
            new[:used] = old[:used]
            setattr(self, name, new)
        self._capacity = capacity

    def add(self, keys: list[bytes]) -> None:
        """Make a slot for each key, which must be new."""
        start = len(self.keys)
        stop = start + len(keys)
        if stop > self._capacity:
            self._grow(max(stop, self._capacity + max(_INITIAL, self._capacity // 2)))
        for name, empty in self._empty.items():
            if empty:
                getattr(self, name)[start:stop] = empty
        for slot, key in enumerate(keys, start):
            self.slots[key] = slot
        self.keys.extend(keys)
        for shelf in self.parts.values():
            shelf.add(len(keys))

    def slots_of(self, keys: list[bytes]) -> NDArray[np.int64]:
        """The slot of each key; an account seen for the first time gets one."""
        slots = self.slots
        try:
            return np.array([slots[key] for key in keys], np.int64)
        except KeyError:
            self.add([key for key in dict.fromkeys(keys) if key not in slots])
            return np.array([slots[key] for key in keys], np.int64)

    def rows(self, slots: NDArray[np.int64]) -> NDArray[np.void]:
        """A copy of the stored fields of those accounts."""
        rows = np.empty(len(slots), row.LAYOUT)
        for name in row.FIELDS:
            rows[name] = getattr(self, name)[slots]
        return rows

    def put_rows(self, slots: NDArray[np.int64], rows: NDArray[np.void]) -> None:
        """Take stored rows back into the columns."""
        for name in row.FIELDS:
            getattr(self, name)[slots] = rows[name]
        self.said_score[slots] = rows["score"]
        self.said_contribution[slots] = rows["contribution"]
