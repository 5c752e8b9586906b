"""The naive second implementation of docs/state.md section 2a: who used an account, and when, from all events that are applied.

It takes the events of `deploy.verify.reference` by what they have (`time`, `type`, `data`), and imports nothing of the product.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Any, TypeAlias

from xxhash import xxh3_64_intdigest

Event: TypeAlias = Any
Members: TypeAlias = dict[str, Any]

DAY = 86_400_000_000
DAYS_TOLD_APART = 63
SILENT_AT_MOST = 400
WEEK, MONTH = 7, 28
LAST_DAY = 65_535


def user_of(event: Event) -> str | None:
    """Name the user whose activity an event is; None where it is nobody's."""
    is_use = event.type == "usage.session" or (event.type == "usage.event" and event.data["count"] > 0)
    return (event.data.get("user_id") or None) if is_use and 0 <= event.time // DAY <= LAST_DAY else None


def name_of(user_id: str) -> str:
    """Write a user as the state knows one: the upper 47 bits of XXH3-64 of the id."""
    return f"{xxh3_64_intdigest(user_id.encode()) >> 17:012x}"


def users(applied: Iterable[Event], used_at: int | None) -> dict[str, Members]:
    """Give the users of an account from its applied usage events in the order of arrival; `used_at` is that of the account."""
    known: dict[str, tuple[set[int], bool]] = {}
    for event in applied:
        user_id = user_of(event)
        if user_id is None:
            continue
        day, name = event.time // DAY, name_of(user_id)
        days, is_older = known.get(name, (set(), False))
        if days and day - max(days) > SILENT_AT_MOST:
            days, is_older = set(), False
        days = days | {day}
        told_apart = {each for each in days if each > max(days) - DAYS_TOLD_APART}
        known[name] = (told_apart, is_older or told_apart != days)
    today = 0 if used_at is None else used_at // DAY
    return {
        name: {"days": sorted(days), "has_earlier": is_older}
        for name, (days, is_older) in known.items()
        if max(days) >= today - SILENT_AT_MOST
    }


def in_sample(kept: dict[str, Members], level: int) -> dict[str, Members]:
    """Leave the users that stand for all at a level: those whose names end with so many bits of zero."""
    return {name: user for name, user in kept.items() if int(name, 16) % 2**level == 0}


def seats(applied: Sequence[Event]) -> Members | None:
    """Give the seats that the latest gauge which tells any has told; of several at one instant the most."""
    told = [(event.time, event.data["seats"]) for event in applied if event.type == "usage.gauge" and event.data.get("seats") is not None]
    return None if not told else {"time": max(told)[0], "seats": max(told)[1]}


def seats_known(state: Members) -> int:
    """Find the seats that were told last, by a gauge or as a fact; 0 when none are known."""
    told = [(each["time"], each["seats"]) for each in (state["gauge_seats"], state["fact_seats"]) if each is not None]
    return max(told)[1] if told else 0


def measures(state: Members, uses: Mapping[int, int], today: int) -> dict[str, Fraction | None]:
    """Give the measures of section 6 that are about users, seats and the account's own pace, from its uses by day."""
    stands_for = 2 ** state["users_level"]
    active = {
        width: [[day for day in user["days"] if today - width < day <= today] for user in state["user_days"].values()]
        for width in (1, 7, 28)
    }
    counts = {width: stands_for * sum(map(bool, found)) for width, found in active.items()}
    user_days, month, seats = stands_for * sum(map(len, active[28])), counts[28], seats_known(state)
    return {
        **{f"usage_users_{width}": Fraction(count) for width, count in counts.items()},
        "usage_stickiness": Fraction(user_days, 28 * month) if month else None,
        "usage_days_per_user": Fraction(user_days, month) if month else None,
        "usage_seats_used": min(Fraction(month, seats), Fraction(1)) if seats else None,
        "usage_seats_used_raw": Fraction(month, seats) if seats else None,
        "usage_trend": _trend(uses, today),
        "usage_slipping": _slipping(state, uses, today),
    }


def _trend(uses: Mapping[int, int], today: int) -> Fraction | None:
    weeks = [sum(count for day, count in uses.items() if today - 7 * (week + 1) < day <= today - 7 * week) for week in range(12)]
    old = weeks[4:]
    while old and not old[-1]:
        old.pop()
    baseline = Fraction(median(map(Fraction, old))) if old else Fraction(0)
    return min(Fraction(sum(weeks[:3]), 3) / baseline / Fraction(85, 100), Fraction(1)) if baseline else None


def _slipping(state: Members, uses: Mapping[int, int], today: int) -> Fraction:
    days = sorted(day for day in uses if today - 91 < day <= today)
    gaps = [Fraction(after - before) for before, after in pairwise(days)]
    usual = max(3 * Fraction(median(gaps)) if gaps else Fraction(0), Fraction(7))
    return Fraction(today - (state["usage"]["used_at"] or 0) // DAY) / usual


def _days_of(applied: Iterable[Event]) -> dict[str, set[int]]:
    """Give every day of each user since the user was new last, by name, from the applied events in the order of arrival."""
    known: dict[str, set[int]] = {}
    for event in applied:
        user_id = user_of(event)
        if user_id is not None:
            day = event.time // DAY
            days = known.setdefault(name_of(user_id), set())
            if days and day - max(days) > SILENT_AT_MOST:
                days.clear()
            days.add(day)
    return known


def month_figures(
    applied: Sequence[Event], uses: Iterable[int], start: int, stop: int, running: Mapping[str, Any] | None
) -> dict[str, int]:
    """Give the usage figures of an account in a month that begins at `start`, as it is at `stop` (microseconds).

    `uses` are its days of use; `running` has, for the running month only, its `measures` and `seats`.
    """
    today, before = stop // DAY, (start - 1) // DAY
    days = [{today - day for day in found if day <= today} for found in _days_of(applied).values()]
    used = set(uses)
    is_active_before = any(before - MONTH < day <= before for day in used)
    found = {
        **{f"active_users_{width}d": sum(any(back < width for back in user) for user in days) for width in (1, WEEK, MONTH)},
        "user_days_28d": sum(back < MONTH for user in days for back in user),
        "activity_accounts_before": int(is_active_before),
        "activity_accounts_lost": int(is_active_before and not any(today - MONTH < day <= today for day in used)),
    }
    for user in days:
        if count := sum(back < MONTH for back in user):
            name = f"users_by_active_days_28d{{{count}}}"
            found[name] = found.get(name, 0) + 1
    for width in (WEEK, MONTH):
        for user in days:
            state = _state(user, width)
            if state == "new" or (state and (width == WEEK or running is not None)):
                found[f"users_{state}_{width}d"] = found.get(f"users_{state}_{width}d", 0) + 1
    if running is not None:
        found |= _as_it_is(running["measures"], running["seats"], found["active_users_28d"])
    return found


def _state(user: set[int], width: int) -> str | None:
    is_now, was = any(back < width for back in user), any(width <= back < 2 * width for back in user)
    if is_now:
        return "current" if was else "resurrected" if any(back >= width for back in user) else "new"
    return "dormant" if was else None


def _as_it_is(measured: Mapping[str, Fraction | None], seats: int, active: int) -> dict[str, int]:
    trend, idle, slipping = (measured[f"usage_{name}"] for name in ("trend", "idle_days", "slipping"))
    return {
        "seats_purchased": seats,
        "seats_used": active if seats else 0,
        "seats_used_capped": min(seats, active),
        "trend_accounts": int(trend is not None),
        "trend_points": 0 if trend is None else int(trend * 10_000 + Fraction(1, 2)) * 100,
        "core_accounts": 1,
        "core_idle_days": int(idle or 0),
        "core_accounts_slipping": int((slipping or 0) > 1),
    }
