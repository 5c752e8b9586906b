"""Usage figures of many accounts at once: the running month and the one before it (docs/portfolio.md).

They change with nearly every use, so nobody makes them account by account: they are counted over whole arrays, now and then. Older months
cannot be told: users' days are kept apart for 63 days only.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns
from models.fixed import SCALE, Ints
from models.kpi.figures import MICRO, Key
from models.measures import MEASURES, Instant, missing
from models.row import RING_DAYS
from models.times import DAY_US
from models.users import EARLIER, MASK_DAYS, Users, users_of, within

MONTH_DAYS: Final = 28
WEEK_DAYS: Final = 7

_DAYS: Final = within(MASK_DAYS)
_ONE: Final = np.uint64(1)

Counts = dict[Key, Ints]
"""Figures of accounts, each `(accounts,)`; what is 0 everywhere may be absent if it has a label."""


def count(columns: Columns, slots: Ints, start_us: int, stop_us: int, *, is_running: bool) -> Counts:
    """The figures of a month that begins at `start_us`, as it is at `stop_us`; of accounts that were used at all."""
    users = users_of(columns, slots)
    level = columns.users_level[slots].astype(np.int64)
    today, before = stop_us // DAY_US, (start_us - 1) // DAY_US
    account = users.account
    found = {
        Key(name, label): np.bincount(account[is_so], minlength=len(slots)) << level
        for name, label, is_so in _of_users(users, today, is_running=is_running)
    }
    found[Key("user_days_28d")] = sum(
        (int(key.label) * value for key, value in found.items() if key.label), start=np.zeros(len(slots), np.int64)
    )
    was_active = _is_used(columns, slots, before)
    found[Key("active_users_approximate")] = ((level > 0) & (found[Key("active_users_28d")] > 0)).astype(np.int64)
    found[Key("activity_accounts_before")] = was_active.astype(np.int64)
    found[Key("activity_accounts_lost")] = (was_active & ~_is_used(columns, slots, today)).astype(np.int64)
    if is_running:
        found |= _as_it_is(columns, slots, stop_us, found[Key("active_users_28d")])
    return found


def _seen_from(users: Users, today: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The days of each user up to a day, bit `i` is `i` days back; and whether there was one before those that are known apart."""
    ahead = today - users.newest
    left = np.clip(ahead, 0, MASK_DAYS).astype(np.uint64)
    right = np.clip(-ahead, 0, MASK_DAYS).astype(np.uint64)
    days = users.masks & _DAYS
    lost = np.where(left > 0, days >> (np.uint64(MASK_DAYS) - left), np.uint64(0)) != 0
    return (days << left & _DAYS) >> right, lost | (users.masks >= np.uint64(EARLIER))


def _of_users(users: Users, today: int, *, is_running: bool) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Name, label, and which users are meant: their places."""
    days, has_earlier = _seen_from(users, today)
    yield "active_users_1d", "", np.flatnonzero(days & _ONE)
    user_days = np.bitwise_count(days & within(MONTH_DAYS))
    order = np.argsort(user_days, kind="stable")
    ends = np.cumsum(np.bincount(user_days, minlength=MONTH_DAYS + 1))
    for number in np.flatnonzero(np.diff(ends)).tolist():
        yield "users_by_active_days_28d", str(number + 1), order[ends[number] : ends[number + 1]]
    for width in (WEEK_DAYS, MONTH_DAYS):
        is_now = days & within(width) != 0
        was = days >> np.uint64(width) & within(width) != 0
        was_ever = (days >> np.uint64(width) != 0) | has_earlier
        yield f"active_users_{width}d", "", np.flatnonzero(is_now)
        yield f"users_new_{width}d", "", np.flatnonzero(is_now & ~was_ever)
        if width == WEEK_DAYS or is_running:  # of a month that is over, two windows of 28 days reach back too far
            yield f"users_current_{width}d", "", np.flatnonzero(is_now & was)
            yield f"users_resurrected_{width}d", "", np.flatnonzero(is_now & ~was & was_ever)
            yield f"users_dormant_{width}d", "", np.flatnonzero(was & ~is_now)


def _is_used(columns: Columns, slots: Ints, day: int) -> NDArray[np.bool_]:
    """Whether an account had a use in the 28 days that end with a day, at the most 70 days before its newest one."""
    days = np.arange(day - MONTH_DAYS + 1, day + 1)
    newest = (columns.used_at[slots] // DAY_US)[:, None]
    uses = columns.usage[slots][:, days % RING_DAYS]
    is_used: NDArray[np.bool_] = (uses > 0) & (days <= newest) & (days > newest - RING_DAYS)
    return np.asarray(is_used.any(axis=1))


def _as_it_is(columns: Columns, slots: Ints, now_us: int, active: Ints) -> Counts:
    """What is known as of now only: seats, the own trend, and how long it is since the last use."""
    at = Instant(columns, slots, np.maximum(columns.newest[slots].max(axis=1), now_us))
    has_seats = at.seats > 0
    has_trend = ~missing("usage_trend", at)
    return {
        Key("seats_purchased"): at.seats,
        Key("seats_used"): np.where(has_seats, active, 0),
        Key("seats_used_capped"): np.minimum(at.seats, active),
        Key("trend_accounts"): has_trend.astype(np.int64),
        Key("trend_points"): np.where(has_trend, MEASURES["usage_trend"](at), 0) * (MICRO // SCALE),
        Key("core_accounts"): np.ones(len(slots), np.int64),
        Key("core_idle_days"): MEASURES["usage_idle_days"](at) // SCALE,
        Key("core_accounts_slipping"): (MEASURES["usage_slipping"](at) > SCALE).astype(np.int64),
    }
