"""A past that is folded again: the same state from whatever pieces it is read in, nothing said of it, and alerts that go on counting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.events import AlertStateRecord, decode_event, fold_state
from alerts.policy import Condition
from deploy.rebuild.folding import Folding, PastPartition, Stretch, cut_over_us
from deploy.verify.alert_log import alert_problems
from models.input_topics import FOLDED_TOPICS
from models.row import NEVER
from models.view import state_view
from stream_app.clock import WallClock
from stream_app.pipeline import CURSOR_KEY, Output, read_cursor
from stream_app.topics import Log as TopicLog
from tests.support.generate import DAY, START, histories
from tests.support.memory_worker import AT_ONCE, LATER_US, LogRecord, MemoryWorker, definition, log_of
from tests.unit.test_pipeline import use

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from stream_app.pipeline import Checkpoint
    from tests.support.memory_worker import Log

unhurried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LOGS = {topic: TopicLog(f"id of {topic}", 1) for topic in FOLDED_TOPICS}


@dataclass
class MemoryConsumer:
    """Gives a log in pieces of random sizes, as aiokafka gives a topic's: a topic may have nothing just now.

    After its records each topic has a control record, which is never given and only moves the position.
    """

    log: Log
    rng: Random
    positions: dict[str, int] = field(default_factory=dict)

    def assign(self, tps: list[TopicPartition]) -> None:
        """Forget every position."""
        self.positions = {tp.topic: 0 for tp in tps}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Go on from there."""
        self.positions[tp.topic] = offset

    async def getmany(self, *tps: TopicPartition, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[LogRecord]]:
        """Give something of some of them."""
        assert timeout_ms
        assert max_records
        found = {}
        for tp in tps:
            at, size = self.positions[tp.topic], self.rng.choice((0, 1, 2, 7, 400))
            records = self.log[tp.topic][at : at + size]
            if records:
                found[tp] = records
            self.positions[tp.topic] = at + len(records) + (bool(size) and at + len(records) == len(self.log[tp.topic]))
        return found

    async def position(self, tp: TopicPartition) -> int:
        """Where a partition is read on."""
        return self.positions[tp.topic]


def said_by(worker: MemoryWorker) -> dict[bytes, AlertStateRecord]:
    """Return the last thing that was said of each account's alert."""
    states: dict[bytes, AlertStateRecord] = {}
    for each in worker.alerts:
        states[each.key] = fold_state(states.get(each.key), decode_event(each.event))
    return states


def folded_again(worker: MemoryWorker, seed: int = 0, wall_us: int = LATER_US) -> tuple[PastPartition, Checkpoint, list[Output]]:
    """Fold what a worker has folded again, and settle it."""
    stretches = {topic: Stretch(0, len(records) + 1, len(records) + 1) for topic, records in worker.log.items()}
    partition = PastPartition(0, worker.definition, LOGS)
    consumer = cast("AIOKafkaConsumer", MemoryConsumer(worker.log, Random(seed)))
    folding = Folding(consumer, WallClock(), lambda _: None)
    letters = asyncio.run(folding.fold(partition, stretches, lambda _: True))
    partition.settle(cut_over_us(partition, stretches, wall_us), said_by(worker))
    return partition, partition.take(), letters


@unhurried
@given(histories(), st.integers(0, 2**32))
def test_it_ends_as_the_state_that_was_there(history: list[Any], seed: int) -> None:
    """Every account, every count and every dead letter, however the log was read; the cursors stand where they were to stand."""
    worker = MemoryWorker(log_of(history))
    worker.run(Random(seed))
    while worker.tick():
        pass
    worker.checkpoint()
    partition, checkpoint, letters = folded_again(worker, seed)
    before, after = worker.partition.columns, partition.columns
    assert {key: state_view(after, slot) for key, slot in after.slots.items()} == {
        key: state_view(before, slot) for key, slot in before.slots.items()
    }
    assert len(letters) == len(worker.dead_letters)
    (*_, last) = checkpoint.slices(3)
    key, cursor = last.changelog[-1]
    assert key == CURSOR_KEY
    positions = read_cursor(cursor)
    assert {topic: position.offset for topic, position in positions.items()} == {t: len(log) + 1 for t, log in worker.log.items()}
    assert all(position.topic_id == LOGS[topic].topic_id for topic, position in positions.items())


@unhurried
@given(histories(), st.integers(0, 2**32))
def test_alerts_go_on_counting_where_they_were(history: list[Any], seed: int) -> None:
    """What is said at the cut-over continues what was said: no gap, no twin, opened and resolved by turns."""
    worker = MemoryWorker(log_of(history))
    worker.run(Random(seed))
    partition, checkpoint, _ = folded_again(worker, seed)
    events = [(each.key, each.event) for each in [*worker.alerts, *checkpoint.alerts]]
    assert alert_problems(events) == []
    counted = {key: int(partition.columns.alert_sequence[slot]) for key, slot in partition.columns.slots.items()}
    assert sum(counted.values()) == len(events)


def test_a_past_full_of_alerts_says_nothing_when_it_ends_as_it_was_said() -> None:
    """An account that went silent, and came back: all of it was told."""
    worker = MemoryWorker(log_of([use(day) for day in range(60)]), definition(AT_ONCE), wall_us=START + 60 * DAY)
    worker.run(Random(0))
    for _ in range(40):
        worker.wall_us += DAY
        while worker.tick():
            pass
        worker.checkpoint()
    assert len(worker.alerts) == 2
    _, checkpoint, _ = folded_again(worker, wall_us=worker.wall_us)
    assert checkpoint.alerts == []
    assert len(checkpoint.keys) == 1


def test_an_account_of_which_only_an_alert_is_left_keeps_it() -> None:
    """Its events are in no log any more: it gets a row with no score, and its alert stays as it was said."""
    worker = MemoryWorker(log_of([use(0)]), definition(AT_ONCE), wall_us=START + 60 * DAY)
    worker.run(Random(0))
    while worker.tick():
        pass
    worker.checkpoint()
    assert len(worker.alerts) == 1
    states = said_by(worker)
    partition = PastPartition(0, worker.definition, LOGS)
    partition.settle(NEVER, states)
    columns = partition.columns
    assert list(columns.slots) == [b"acme"]
    assert (columns.alert_condition[0], columns.alert_sequence[0]) == (Condition.FIRING, 1)
    assert partition.take().alerts == []


def test_nothing_at_all_is_a_state_too() -> None:
    """An installation to which no event came yet."""
    _, checkpoint, letters = folded_again(MemoryWorker(log_of([])))
    assert (checkpoint.keys, checkpoint.alerts, letters) == ([], [], [])


@pytest.mark.parametrize("goal", [0, 3])
def test_it_goes_as_far_as_it_is_to_go(goal: int) -> None:
    """What lies behind the goal is not folded, and holds the time back: it is not silence."""
    log = log_of([use(day) for day in range(10)])
    stretches = {topic: Stretch(0, goal if topic == "usage-events" else 0, len(records)) for topic, records in log.items()}
    partition = PastPartition(0, definition(), LOGS)
    folding = Folding(cast("AIOKafkaConsumer", MemoryConsumer(log, Random(1))), WallClock(), lambda _: None)
    asyncio.run(folding.fold(partition, stretches, lambda _: True))
    assert partition.positions["usage-events"].offset == goal
    assert partition.positions["usage-events"].applied == goal
    expected = START + 2 * DAY + DAY // 2 if goal else NEVER
    assert cut_over_us(partition, stretches, LATER_US) == expected
