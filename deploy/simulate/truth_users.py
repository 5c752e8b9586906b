"""Who used the product, by month: distinct users of an account by the days on which they were active."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from deploy.simulate.dice import DAY

if TYPE_CHECKING:
    from deploy.simulate.truth import Window

_WEEK: Final = 7
_FOUR_WEEKS: Final = 28
_REMEMBERED: Final = 400
"""Who was silent for more days than this and comes back is a new user (docs/state.md section 2a)."""


class Users:
    """The users of an account: of each the days on which it was active, one bit for each, the last day of the simulation the lowest."""

    def __init__(self, as_of: int) -> None:
        self._last = as_of // DAY
        self._days: dict[str, int] = {}

    def hear(self, user: str, at: int) -> None:
        """Note that a user was active."""
        self._days[user] = self._days.get(user, 0) | 1 << (self._last - at // DAY)

    def figures(self, window: Window) -> dict[str, int]:
        """The figures of a month, as of its last day."""
        found: Counter[str] = Counter()
        for bits in self._days.values():
            days = _remembered(bits >> (self._last - window.stop // DAY))
            if days:
                self._count(days, found)
        return {name: count for name, count in found.items() if count}

    @staticmethod
    def _count(days: int, found: Counter[str]) -> None:
        """Count a user who was active at some time until then."""
        active = (days & ((1 << _FOUR_WEEKS) - 1)).bit_count()
        found["active_users_1d"] += days & 1
        found["active_users_7d"] += bool(days & ((1 << _WEEK) - 1))
        found["active_users_28d"] += bool(active)
        found["user_days_28d"] += active
        if active:
            found[f"users_by_active_days_28d{{{active}}}"] += 1
        for span in (_WEEK, _FOUR_WEEKS):
            mask = (1 << span) - 1
            now, before, earlier = bool(days & mask), bool(days >> span & mask), bool(days >> 2 * span)
            if now:
                state = "current" if before else "resurrected" if earlier else "new"
                found[f"users_{state}_{span}d"] += 1
            elif before:
                found[f"users_dormant_{span}d"] += 1


def _remembered(days: int) -> int:
    """The days that no long silence lies behind."""
    kept, before = 0, None
    while days:
        lowest = days & -days
        place = lowest.bit_length()
        if before is not None and place - before > _REMEMBERED:
            break
        kept, before, days = kept | lowest, place, days ^ lowest
    return kept
