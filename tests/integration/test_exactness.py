"""Through the real broker and real workers: the state of every account is the oracle's, and every record is accounted for."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import pytest

from deploy.verify.checks import OUTCOMES
from deploy.verify.run import verify
from models.input_topics import INPUT_TOPICS
from stream_app.clock import WallClock
from stream_app.topics import topic_name
from tests.support.generate import DAY, Record, Scene, records, rfc3339, to_kafka
from tests.support.kafka_io import Sender, read_topic, wait_caught_up
from tests.support.memory_worker import AT_ONCE
from tests.support.worker import ALERT_AT_ONCE, Workers

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.integration

ACCOUNTS = (*(f"acct-{number:03}" for number in range(60)), "grüne-wiese", "株式会社", "fox/🦊")


def send_all(crew: Workers, history: Iterable[Record]) -> int:
    """Send records in their order and return how many there were, once the broker has them."""
    sender = Sender(crew.bootstrap)
    for record in history:
        sender.send(*to_kafka(record, crew.prefix))
    sender.flush()
    return sender.acknowledged


def wait_for_all(crew: Workers, seconds: float = 120.0) -> None:
    """Wait until the installation's group has committed everything that was sent."""
    wait_caught_up(crew.bootstrap, crew.prefix, [topic_name(crew.prefix, topic) for topic in INPUT_TOPICS], seconds)


def test_a_backlog_is_folded_exactly(crew: Workers) -> None:
    """Duplicates, conflicts, late and disordered records of 63 accounts on four partitions, read by one worker."""
    crew.environment |= ALERT_AT_ONCE
    history = records(Random(11), 12_000, Scene(accounts=ACCOUNTS, days=150, hot=0.05))
    sent = send_all(crew, history)
    worker = crew.start().wait_ready()
    wait_for_all(crew)
    assert worker.terminate() == 0
    found = verify(crew.settings(alerts=AT_ONCE)).check()
    assert found.read.total() == sent == len(history)
    assert found.accounts == len(ACCOUNTS)
    assert all(found.outcomes[topic][outcome] > 0 for topic in INPUT_TOPICS for outcome in OUTCOMES), found
    assert found.alerts["alert.opened"] > 10


def test_a_trickle_over_two_workers_is_folded_exactly(crew: Workers) -> None:
    """Small batches, each followed by its own checkpoint, while a second worker joins and the first one leaves."""
    crew.environment |= ALERT_AT_ONCE
    history = records(Random(12), 6_000, Scene(accounts=ACCOUNTS, days=60, hot=0.05))
    first = crew.start("first").wait_ready()
    send_all(crew, history[:2_000])
    second = crew.start("second").wait_ready()
    send_all(crew, history[2_000:4_000])
    assert first.terminate() == 0
    send_all(crew, history[4_000:])
    wait_for_all(crew)
    assert second.terminate() == 0
    found = verify(crew.settings(alerts=AT_ONCE)).check()
    assert found.read.total() == len(history)


def test_transactional_input_is_read_as_its_producer_meant_it(crew: Workers) -> None:
    """What was aborted is not folded, and the markers of transactions, holes in the offsets, are passed over."""
    history = records(Random(13), 600, Scene(accounts=ACCOUNTS, days=60, late=0, conflict=0))
    sender = Sender(crew.bootstrap, {"transactional.id": f"{crew.prefix}-source"})
    worker = crew.start().wait_ready()
    expected = 0
    for number, first in enumerate(range(0, len(history), 50)):
        some = history[first : first + 50]
        sender.begin()
        for record in some:
            sender.send(*to_kafka(record, crew.prefix))
        is_commit = number % 2 == 0
        sender.end(is_commit=is_commit)
        expected += is_commit * len(some)
    wait_for_all(crew)
    assert worker.terminate() == 0
    found = verify(crew.settings()).check()
    assert found.read.total() == expected
    everything = read_topic(crew.bootstrap, topic_name(crew.prefix, "usage-events"), "read_uncommitted")
    assert found.read["usage-events"] < sum(map(len, everything.values()))


def test_events_at_the_edge_of_the_brokers_time(crew: Workers) -> None:
    """Up to five minutes ahead an event is taken, a day ahead it is a dead letter and moves nothing."""
    now = WallClock().now_us()
    data = {"event": "e", "user_id": "u"}

    def use(id_: str, at_us: int) -> Record:
        return {"id": id_, "source": "s", "type": "usage.event", "time": rfc3339(at_us), "subject": "acme", "data": data}

    send_all(crew, [use("soon", now + 60_000_000), use("tomorrow", now + DAY), use("now", now)])
    worker = crew.start().wait_ready()
    wait_for_all(crew)
    assert worker.terminate() == 0
    found = verify(crew.settings(), lambda read: None if b"tomorrow" in (read.value or b"") else json.loads(read.value or b"")).check()
    assert found.outcomes["usage-events"] == {"applied": 2, "dead_letter": 1}
