"""Draws from a seed. Everything is made of `random()`, which is the same in every release of Python."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
"""Spans in microseconds, as times are; everything happens at a whole second."""

_OPENS, _CLOSES = 7 * 3600, 19 * 3600


class Dice(Random):
    """Draws of one kind of thing; those of another do not disturb them."""

    def chance(self, probability: float) -> bool:
        """Whether something of that probability happens."""
        return self.random() < probability

    def between(self, least: int, most: int) -> int:
        """A whole number of `[least, most]`, each as likely."""
        return least + int(self.random() * (most - least + 1))

    def pick(self, things: Sequence[T]) -> T:
        """One of several, each as likely."""
        return things[int(self.random() * len(things))]

    def weighted(self, shares: Sequence[tuple[T, float]]) -> T:
        """One of several by their shares, which need not add up to one."""
        left = self.random() * sum(share for _, share in shares)
        for thing, share in shares:
            left -= share
            if left < 0:
                return thing
        return shares[-1][0]

    def normal(self) -> float:
        """A draw of the standard normal distribution (Box and Muller)."""
        return math.sqrt(-2 * math.log(1 - self.random())) * math.cos(2 * math.pi * self.random())

    def around(self, median: float, spread: float) -> float:
        """A lognormal draw: half are below the median, two of three within a factor of `exp(spread)`."""
        return median * math.exp(spread * self.normal())

    def office_hours(self, midnight: int) -> int:
        """A second between 7 and 19 o'clock of the day that begins at `midnight` (microseconds)."""
        return midnight + self.between(_OPENS, _CLOSES - 1) * SECOND

    def span(self, least: int, most: int) -> int:
        """A span of `[least, most]` microseconds, in whole seconds."""
        return self.between(least // SECOND, most // SECOND) * SECOND
