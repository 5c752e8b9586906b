"""Simulated portfolios: their events and their truth, and what the product makes of the events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from deploy.simulate.stream import disordered, events
from deploy.simulate.truth import Truth
from deploy.simulate.world import Scope, World
from models.feedback import Feedback
from models.kpi.figures import Key, add_up, read_key
from models.ledger import RevenueRules
from models.portfolio import Accounting, PortfolioRules, read_record
from models.reading import reader
from tests.support.generate import TOPIC_OF
from tests.support.memory_worker import MemoryWorker, definition, log_of

if TYPE_CHECKING:
    from deploy.replay.envelope import Event

Told = dict[str, dict[str, dict[Key, int]]]
"""Figures by month and segment."""


@dataclass(frozen=True)
class Simulated:
    """A portfolio with all of its events, in order of arrival, and its truth."""

    scope: Scope
    events: tuple[Event, ...]
    truth: Truth


@cache
def simulated(scope: Scope, *, is_disordered: bool = False) -> Simulated:
    """Simulate a portfolio."""
    truth = Truth(scope.stops, scope.names())
    ordered = events(World.of(scope), truth.hear)
    return Simulated(scope, tuple(disordered(ordered, scope.seed) if is_disordered else ordered), truth)


def worker_of(portfolio: Simulated) -> MemoryWorker:
    """A worker that has read all of it; costs are no account's, and read elsewhere."""
    accounting = Accounting.of(RevenueRules(), PortfolioRules(segments=portfolio.scope.names()))
    log = log_of(dict(event) for event in portfolio.events if event["type"] in TOPIC_OF)
    worker = MemoryWorker(log, replace(definition(), accounting=accounting, read_text=reader(Feedback())))
    worker.run(Random(portfolio.scope.seed), sizes=(40, 400, 2000))
    return worker


def told_by(worker: MemoryWorker, now: int) -> Told:
    """What the worker publishes at an instant, zeros included."""
    while worker.partition.keep_books(now, 1000):
        pass
    worker.partition.publish_books(now)
    found: Told = {}
    for _, value in worker.partition.take().portfolio:
        if value is not None:
            record = read_record(value)
            figures = {read_key(name): number for name, number in record.figures.items()}
            found.setdefault(record.month, {})[record.segment] = figures
    return found


def of_all(by_segment: dict[str, dict[Key, int]]) -> dict[Key, int]:
    """The figures of all segments together."""
    return add_up(by_segment.values())
