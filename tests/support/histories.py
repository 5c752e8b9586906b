"""A short history in parts, sent to the broker and waited for; and what somebody may do to a cluster behind our back."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec

from models.input_topics import FOLDED_TOPICS
from stream_app.admin import apply_topics
from stream_app.exits import Exit
from stream_app.topics import Installation, topic_name
from stream_app.waiting import wait_until
from tests.support.generate import Record, Scene, records, to_kafka
from tests.support.kafka_io import Sender, wait_caught_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.worker import Worker, Workers

ACCOUNTS: Final = tuple(f"acct-{number:02}" for number in range(40))
ORDERLY: Final = Scene(accounts=ACCOUNTS, days=60, hot=0.05)


def parts(seed: int, count: int = 3) -> Iterator[list[Record]]:
    """Write a history in parts, every account in each of them."""
    history = records(Random(seed), 1_000 * count, ORDERLY)
    size = -(-len(history) // count)
    for first in range(0, len(history), size):
        part = history[first : first + size]
        assert {record["subject"] for record in part} == set(ACCOUNTS)
        yield part


def send(crew: Workers, history: Iterable[Record]) -> None:
    """Send records in their order, and wait until the broker has them."""
    sender = Sender(crew.bootstrap)
    for record in history:
        sender.send(*to_kafka(record, crew.prefix))
    sender.flush()


def inputs(crew: Workers) -> list[str]:
    """Return the broker's names of the input topics."""
    return [topic_name(crew.prefix, topic) for topic in FOLDED_TOPICS]


def changelog(crew: Workers) -> str:
    """Return the broker's name of the changelog."""
    return f"{crew.prefix}-accounts-changelog"


def wait_folded(crew: Workers, seconds: float = 60) -> None:
    """Wait until everything that was sent is folded and committed."""
    wait_caught_up(crew.bootstrap, crew.prefix, inputs(crew), seconds)


def lived(crew: Workers, history: Iterable[Record], name: str = "worker", **extra: str) -> Worker:
    """Let a worker fold some history and stop; it is its process that is returned."""
    worker = crew.start(name, **extra).wait_ready()
    send(crew, history)
    wait_folded(crew)
    assert worker.terminate() == Exit.CLEAN, worker.tail()
    return worker


def last_word(worker: Worker) -> dict[str, Any]:
    """Return the last log line of a worker that has ended, which says why."""
    found: dict[str, Any] = json.loads(worker.lines()[-1])
    return found


def refused(crew: Workers, exit_code: Exit, name: str = "worker", **extra: str) -> str:
    """Start a worker, hold how it ends, and return what it says of that and of its mend."""
    worker = crew.start(name, **extra)
    assert worker.wait_exit(60) == exit_code, worker.tail()
    word = last_word(worker)
    return f"{word['message']} {word.get('mend', '')}"


def admin(crew: Workers) -> Any:
    """Return a client for administration."""
    return KafkaAdminClient(bootstrap_servers=crew.bootstrap)


def set_topic(crew: Workers, topic: str, **settings: str) -> None:
    """Change settings of a topic; a point in a name is written as two underscores."""
    configs = {key.replace("__", "."): value for key, value in settings.items()}
    with admin(crew) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])


def delete_topic(crew: Workers, topic: str) -> None:
    """Delete a topic, and wait until it is gone."""
    with admin(crew) as client:
        client.delete_topics([topic])
        assert wait_until(lambda: topic not in client.list_topics(), 30)


def replace_topic(crew: Workers, topic: str) -> None:
    """Delete a topic and make it anew, as somebody might by mistake."""
    delete_topic(crew, topic)
    apply_topics(crew.bootstrap, Installation(prefix=crew.prefix, app_id=crew.prefix))


def delete_group(crew: Workers) -> None:
    """Delete the consumer group, and what it has committed, once no member is left that ended without leaving it."""
    with admin(crew) as client:

        def is_gone() -> bool:
            client.delete_groups([crew.prefix])
            return not client.list_group_offsets(crew.prefix)[crew.prefix]

        assert wait_until(is_gone, 30)


def cut(crew: Workers, topic: str, partition: int) -> int:
    """Delete all records that a partition has now, as retention would; the offset that it begins at then."""
    tp = TopicPartition(topic, partition)
    with admin(crew) as client:
        end = client.list_partition_offsets({tp: OffsetSpec.LATEST})[tp].offset
        client.delete_records({tp: end})
    return int(end)
