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
