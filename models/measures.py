"""The measures of docs/state.md section 6, for many accounts at once, in fixed point.

Each takes the columns, the slots of the accounts wanted, and the instant `as_of` of each account in microseconds; it gives values
in ten-thousandths, shape `(n,)`. Whether a measure is missing is a matter of its source: see `missing`.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.columns import RINGS, Columns
from models.fixed import SCALE, half_up_many
from models.input_topics import PAYMENTS, TICKETS, TOPIC_INDEX
from models.row import NEVER
from models.times import DAY_US

WINDOWS = (7, 14, 28, 91)
"""Days of the windows, today included."""

Slots = NDArray[np.int64]
Values = NDArray[np.int64]
Counts = NDArray[np.unsignedinteger[Any]]


class Instant:
    """Some accounts at one instant each; windows that several measures need are gathered once."""

    def __init__(self, columns: Columns, slots: Slots, as_of: NDArray[np.int64]) -> None:
        self.columns = columns
        self.slots = slots
        self.as_of = as_of
        self.day = as_of // DAY_US
        self._gathered: dict[tuple[str, int], Counts] = {}

    def window(self, ring: str, newest_day: NDArray[np.int64], days: int) -> Counts:
        """What a ring holds for each of the last `days` days, today first: shape `(n, days)`.

        `newest_day` is the newest day that the ring holds, per account, never after that of `as_of`: the days since are zero, whatever
        stands in their places, and no window reaches back further than the ring.
        """
        found = self._gathered.get((ring, days))
        if found is None:
            found = self._days(getattr(self.columns, ring), days)
            ahead = self.day - newest_day
            rows = np.flatnonzero(ahead > 0)
            if len(rows):
                found[rows] *= np.arange(days) >= ahead[rows, None]
            self._gathered[ring, days] = found
        return found

    def _days(self, stored: Counts, days: int) -> Counts:
        """The places of the last `days` days in a ring, today's first."""
        back = np.arange(days)
        length = stored.shape[1]
        if len(self.day) and (self.day == self.day[0]).all():  # nearly always, and six times cheaper
            found: Counts = stored[self.slots][:, (self.day[0] - back) % length]
        else:
            found = stored[self.slots[:, None], (self.day[:, None] - back) % length]
        return found

    def usage(self, days: int) -> Counts:
        """Uses a day."""
        return self.window("usage", self.columns.used_at[self.slots] // DAY_US, days)

    def tickets(self, days: int) -> Counts:
        """Tickets created a day."""
        return self.window("tickets_created", self.columns.tickets_day[self.slots].astype(np.int64), days)

    def payments(self, ring: str, days: int) -> Counts:
        """Payments that failed, or were made, a day."""
        return self.window(ring, self.columns.payments_day[self.slots].astype(np.int64), days)


def _events(days: int) -> Callable[[Instant], Values]:
    return lambda at: at.usage(days).sum(axis=1, dtype=np.int64) * SCALE


def _active_days(days: int) -> Callable[[Instant], Values]:
    return lambda at: (at.usage(days) > 0).sum(axis=1, dtype=np.int64) * SCALE


def _idle_days(at: Instant) -> Values:
    return (at.day - at.columns.used_at[at.slots] // DAY_US) * SCALE


def _pace(at: Instant) -> Values:
    uses = at.usage(28)
    whole = uses.sum(axis=1, dtype=np.int64)
    pace = half_up_many(4 * SCALE * uses[:, :7].sum(axis=1, dtype=np.int64), np.maximum(whole, 1))
    return cast("Values", np.where(whole > 0, pace, 0))


def _tickets_created(days: int) -> Callable[[Instant], Values]:
    return lambda at: at.tickets(days).sum(axis=1, dtype=np.int64) * SCALE


def _tickets_open(at: Instant) -> Values:
    return at.columns.tickets_open[at.slots].astype(np.int64) * SCALE


def _tickets_open_urgent(at: Instant) -> Values:
    return at.columns.tickets_open_urgent[at.slots].astype(np.int64) * SCALE


def _payments(ring: str, days: int) -> Callable[[Instant], Values]:
    return lambda at: at.payments(ring, days).sum(axis=1, dtype=np.int64) * SCALE


def _overdue_days(at: Instant) -> Values:
    since = at.columns.overdue_from[at.slots]
    late = np.maximum(at.as_of - np.where(since == NEVER, at.as_of, since), 0)
    days, rest = np.divmod(late, DAY_US)
    return days * SCALE + half_up_many(rest * SCALE, DAY_US)


MEASURES: dict[str, Callable[[Instant], Values]] = {
    **{f"usage_events_{days}": _events(days) for days in WINDOWS},
    **{f"usage_active_days_{days}": _active_days(days) for days in WINDOWS},
    "usage_idle_days": _idle_days,
    "usage_pace": _pace,
    **{f"tickets_created_{days}": _tickets_created(days) for days in WINDOWS},
    "tickets_open": _tickets_open,
    "tickets_open_urgent": _tickets_open_urgent,
    **{f"payments_failed_{days}": _payments("payments_failed", days) for days in WINDOWS},
    **{f"payments_paid_{days}": _payments("payments_paid", days) for days in WINDOWS},
    "payment_overdue_days": _overdue_days,
}
"""Every measure by name."""

RING_OF: dict[str, tuple[str, int]] = {f"{ring}_{days}": (ring, days) for ring in RINGS for days in WINDOWS}
"""The derived ring that a measure counts, and how many days of it."""

WORDS: dict[str, str] = {
    **{f"usage_events_{days}": f"{{value}} uses in {days} days" for days in WINDOWS},
    **{f"usage_active_days_{days}": f"active on {{value}} of the last {days} days" for days in WINDOWS},
    "usage_idle_days": "last used {value} days ago",
    "usage_pace": "the last 7 days at {value} times its usual pace",
    **{f"tickets_created_{days}": f"{{value}} tickets in {days} days" for days in WINDOWS},
    "tickets_open": "{value} open tickets",
    "tickets_open_urgent": "{value} open urgent tickets",
    **{f"payments_failed_{days}": f"{{value}} failed payments in {days} days" for days in WINDOWS},
    **{f"payments_paid_{days}": f"{{value}} payments in {days} days" for days in WINDOWS},
    "payment_overdue_days": "payment overdue for {value} days",
}
"""Each measure in words a CSM can use."""


def missing(name: str, at: Instant) -> NDArray[np.bool_]:
    """Where a measure does not exist yet, because nothing of its source was ever seen: null, which is not zero."""
    columns = at.columns
    if name.startswith("usage_"):
        return cast("NDArray[np.bool_]", columns.used_at[at.slots] == NEVER)
    topic = TICKETS if name.startswith("tickets_") else PAYMENTS
    return cast("NDArray[np.bool_]", columns.newest[at.slots, TOPIC_INDEX[topic]] == NEVER)
