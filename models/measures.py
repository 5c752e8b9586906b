"""The measures of docs/state.md section 6, for many accounts at once, in fixed point.

Each takes the columns, the slots of the accounts wanted, and the instant `as_of` of each account in microseconds; it gives values
in ten-thousandths, shape `(n,)`. Whether a measure is missing is a matter of its source: see `missing`.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.columns import RINGS, Columns
from models.fixed import SCALE, half_up_many
from models.input_topics import PAYMENTS, TICKETS, TOPIC_INDEX
from models.row import NEVER, RING_DAYS
from models.times import DAY_US
from models.users import Users, per_account, recent, users_of, within

WINDOWS = (7, 14, 28, 91)
"""Days of the windows, today included."""

TREND_DAYS = 84
"""Days that an account's own trend looks back."""

_RECENT_WEEKS, _BASELINE_FROM = 3, 4
"""Weeks of the current level, and the first week that belongs to the baseline: older than 28 days."""

USER_WINDOWS = (1, 7, 28)
"""Days of the windows in which users are counted."""

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

    @cached_property
    def users(self) -> tuple[Users, NDArray[np.uint64]]:
        """The users of the accounts, and the days of each as seen from the account's instant."""
        users = users_of(self.columns, self.slots)
        return users, recent(users, self.day)

    def active_users(self, days: int) -> Values:
        """Users who were active within so many days (at most 63), today included."""
        users, masks = self.users
        return self._told(per_account(users, masks & within(days) != 0))

    def user_days(self, days: int) -> Values:
        """The days on which they were, summed over the users."""
        users, masks = self.users
        return self._told(per_account(users, np.bitwise_count(masks & within(days))))

    def _told(self, counts: Values) -> Values:
        """What the users who are kept stand for."""
        return cast("Values", counts << self.columns.users_level[self.slots].astype(np.int64))

    @property
    def seats(self) -> Values:
        """The seats that were told last, by a gauge or as a fact; of both at one instant the greater number; 0 where none are known."""
        columns, slots = self.columns, self.slots
        gauge_at, fact_at = columns.seats_at[slots], columns.fact_seats_at[slots]
        gauge, fact = columns.seats[slots].astype(np.int64), columns.fact_seats[slots]
        return cast("Values", np.where(gauge_at == fact_at, np.maximum(gauge, fact), np.where(gauge_at > fact_at, gauge, fact)))

    def weeks(self) -> Values:
        """Uses in each of the last 12 weeks of 7 days, the one that ends today first: `(n, 12)`."""
        uses = self.usage(TREND_DAYS).astype(np.int64)
        return cast("Values", uses.reshape(len(self.slots), TREND_DAYS // 7, 7).sum(axis=2))

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


def _active_users(days: int) -> Callable[[Instant], Values]:
    return lambda at: at.active_users(days) * SCALE


def _stickiness(at: Instant) -> Values:
    return half_up_many(at.user_days(28) * SCALE, np.maximum(28 * at.active_users(28), 1))


def _days_per_user(at: Instant) -> Values:
    return half_up_many(at.user_days(28) * SCALE, np.maximum(at.active_users(28), 1))


def _seats_used(at: Instant) -> Values:
    return half_up_many(at.active_users(28) * SCALE, np.maximum(at.seats, 1))


def _seats_used_capped(at: Instant) -> Values:
    return np.minimum(_seats_used(at), SCALE)


def _baseline_twice(at: Instant) -> Values:
    """Twice the median of the weeks that are older than 28 days, from the first of them with a use; 0 where there is none."""
    weeks = at.weeks()[:, _BASELINE_FROM:]
    is_there = np.maximum.accumulate(weeks[:, ::-1] > 0, axis=1)[:, ::-1]
    count = is_there.sum(axis=1)
    ordered = np.sort(np.where(is_there, weeks, np.iinfo(np.int64).max), axis=1)
    rows = np.arange(len(ordered))
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    return cast("Values", np.where(count > 0, ordered[rows, low] + np.where(count > 0, ordered[rows, high], 0), 0))


def _trend(at: Instant) -> Values:
    """min(current / baseline / 0.85, 1): a third of three weeks by half of `_baseline_twice`."""
    current = at.weeks()[:, :_RECENT_WEEKS].sum(axis=1)
    baseline = np.maximum(_baseline_twice(at), 1)
    # More than a pace of 0.85 is 1 whatever it is, and no product of what is left overflows.
    is_whole = 200 * current >= 255 * baseline
    return cast("Values", np.where(is_whole, SCALE, half_up_many(200 * SCALE * np.where(is_whole, 0, current), 255 * baseline)))


def _slipping(at: Instant) -> Values:
    """Days idle by what is usual: 3 times the median gap between days of use, at least 7 days."""
    is_used = at.usage(91) > 0
    places = np.where(is_used, np.arange(is_used.shape[1]), -1)
    before = np.full_like(places, -1)
    before[:, 1:] = np.maximum.accumulate(places, axis=1)[:, :-1]
    is_gap = is_used & (before >= 0)
    gaps = np.sort(np.where(is_gap, places - before, RING_DAYS), axis=1)
    count = is_gap.sum(axis=1)
    rows = np.arange(len(gaps))
    twice = gaps[rows, np.maximum(count - 1, 0) // 2] + gaps[rows, np.maximum(count, 1) // 2]
    usual_twice = np.maximum(np.where(count > 0, 3 * twice, 0), 14)
    return half_up_many(2 * _idle_days(at), usual_twice)


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
    **{f"usage_users_{days}": _active_users(days) for days in USER_WINDOWS},
    "usage_stickiness": _stickiness,
    "usage_days_per_user": _days_per_user,
    "usage_seats_used": _seats_used_capped,
    "usage_seats_used_raw": _seats_used,
    "usage_trend": _trend,
    "usage_slipping": _slipping,
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
    "usage_users_1": "{value} users today",
    **{f"usage_users_{days}": f"{{value}} users in {days} days" for days in USER_WINDOWS[1:]},
    "usage_stickiness": "{value} of its users on an average day",
    "usage_days_per_user": "each user on {value} of the last 28 days",
    "usage_seats_used": "{value} of its seats in use",
    "usage_seats_used_raw": "users for {value} times its seats",
    "usage_trend": "use at {value} of its own baseline",
    "usage_slipping": "idle for {value} times what is usual",
    **{f"tickets_created_{days}": f"{{value}} tickets in {days} days" for days in WINDOWS},
    "tickets_open": "{value} open tickets",
    "tickets_open_urgent": "{value} open urgent tickets",
    **{f"payments_failed_{days}": f"{{value}} failed payments in {days} days" for days in WINDOWS},
    **{f"payments_paid_{days}": f"{{value}} payments in {days} days" for days in WINDOWS},
    "payment_overdue_days": "payment overdue for {value} days",
}
"""Each measure in words a CSM can use."""


def _without_users(at: Instant) -> NDArray[np.bool_]:
    return cast("NDArray[np.bool_]", at.active_users(28) == 0)


def _without_seats(at: Instant) -> NDArray[np.bool_]:
    return cast("NDArray[np.bool_]", at.seats == 0)


ABSENT: dict[str, Callable[[Instant], NDArray[np.bool_]]] = {
    "usage_stickiness": _without_users,
    "usage_days_per_user": _without_users,
    "usage_seats_used": _without_seats,
    "usage_seats_used_raw": _without_seats,
    "usage_trend": lambda at: _baseline_twice(at) == 0,
}
"""Measures that may not exist where their source does: they have a denominator that may be zero."""


def missing(name: str, at: Instant) -> NDArray[np.bool_]:
    """Where a measure does not exist yet, because nothing of its source was ever seen, or it has no denominator: null, not zero."""
    columns = at.columns
    if name.startswith("usage_"):
        unseen = cast("NDArray[np.bool_]", columns.used_at[at.slots] == NEVER)
        return unseen | ABSENT[name](at) if name in ABSENT else unseen
    topic = TICKETS if name.startswith("tickets_") else PAYMENTS
    return cast("NDArray[np.bool_]", columns.newest[at.slots, TOPIC_INDEX[topic]] == NEVER)
