"""The simulation as a stream: day by day, each account in its turn, what was decided as events in the order of time."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from deploy.simulate.behaviour import Account
from deploy.simulate.dice import DAY, HOUR, SECOND, Dice
from deploy.simulate.events import Writer
from models.input_topics import ACCOUNTS, PAYMENTS, SURVEYS, TICKETS, USAGE
from models.times import parse_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from deploy.replay.envelope import Event
    from deploy.simulate.decisions import Decision
    from deploy.simulate.world import World

TOPICS: Final = (USAGE, TICKETS, PAYMENTS, SURVEYS, ACCOUNTS, "cost-events")
"""The topics that a simulation has events of."""

_LATE_SHARE: Final = 0.05
_LATEST: Final = 6 * DAY + 12 * HOUR
"""Later than this no event arrives: what is more than 7 days behind its account's newest would not count."""
_TWICE_SHARE: Final = 0.02
_TWICE_WITHIN: Final = 20 * SECOND
"""So soon an event is sent again: before 64 others of its account, as far back as ids are known."""


def events(world: World, hear: Callable[[Decision], None] = lambda _: None) -> Iterator[Event]:
    """Every event of a world in the order of time; `hear` is told each decision as it is made.

    In memory are the accounts as they stand, and the events of a day; none is after the end.
    """
    writer = Writer(world.scope.stops)
    accounts: list[Account] = []
    for day, midnight in enumerate(world.midnights):
        while len(accounts) < len(world.arrivals) and world.arrivals[len(accounts)].day <= day:
            accounts.append(Account(len(accounts), world))
        for account in accounts:
            for decision in account.day(day):
                hear(decision)
                writer.write(decision)
        for spent in world.costs(day):
            hear(spent)
            writer.write(spent)
        yield from writer.until(midnight + DAY)


def disordered(ordered: Iterable[Event], seed: int) -> Iterator[Event]:
    """The same events as a real system brings them: some late, by days within the grace of 7, and some twice."""
    dice = Dice(f"{seed}/disorder")
    waiting: list[tuple[int, int, Event]] = []
    count = 0
    for event in ordered:
        at = parse_us(event["time"])
        while waiting and waiting[0][0] <= at:
            yield heapq.heappop(waiting)[2]
        arrives = at + (int(_LATEST * dice.random() ** 3) if dice.chance(_LATE_SHARE) else 0)
        count += 1
        heapq.heappush(waiting, (arrives, count, event))
        if dice.chance(_TWICE_SHARE):
            count += 1
            heapq.heappush(waiting, (arrives + dice.span(0, _TWICE_WITHIN), count, event))
    while waiting:
        yield heapq.heappop(waiting)[2]
