"""What a month cost: each cost spread over the days of its period, the latest word on it counts (the definitions of `models/costs.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy.simulate.dice import DAY

if TYPE_CHECKING:
    from deploy.simulate.decisions import Spent
    from deploy.simulate.truth import Window

_MICRO: Final = 1_000_000


class Books:
    """Every cost that was told."""

    def __init__(self) -> None:
        self._spent: dict[str, Spent] = {}

    def hear(self, spent: Spent) -> None:
        """Note a cost, in place of the one of its name."""
        known = self._spent.get(spent.name)
        if known is None or known.at < spent.at:
            self._spent[spent.name] = spent

    def figures(self, window: Window) -> dict[str, int]:
        """The costs of a month of all accounts together, by category, and those of acquisition by channel."""
        found: dict[str, int] = {}
        for spent in self._spent.values():
            share = _until(spent, window.end) - _until(spent, window.start)
            keys = [f"costs{{{spent.category}}}@{spent.currency}"]
            if spent.category.startswith("acquisition."):
                keys.append(f"costs_acquisition_by_channel{{{spent.channel or 'unknown'}}}@{spent.currency}")
            for key in keys:
                found[key] = found.get(key, 0) + share
        return {name: amount for name, amount in found.items() if amount}


def _until(spent: Spent, at: int) -> int:
    """The part of a cost that falls before an instant, a midnight: whole days, each day's part rounded down from the beginning on."""
    days, whole = (spent.end - spent.start) // DAY, min(max(at - spent.start, 0), spent.end - spent.start) // DAY
    part = abs(spent.amount) * _MICRO * whole // days
    return part if spent.amount >= 0 else -part
