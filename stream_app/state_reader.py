"""Reading an installation's state from outside: its changelog, committed transactions only, nothing written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2

from models.times import format_us
from models.view import View, assessment_view, state_view
from stream_app.app import Names, definition_of
from stream_app.exits import BrokerError
from stream_app.kafka_connection import client_kwargs
from stream_app.pipeline import CURSOR_KEY, Partition
from stream_app.settings import Settings

POLL_MS = 500


@dataclass(slots=True)
class Changelog:
    """One changelog partition read to its end: the latest value of each key, and every cursor in the order of the log."""

    latest: dict[bytes, bytes] = field(default_factory=dict)
    cursors: list[bytes] = field(default_factory=list)


def read_account(settings: Settings, account_id: str) -> View | None:
    """What is kept of an account and the assessment published last; None when nothing is known of it.

    It is looked for where Kafka's own rule for keys puts it, then in the other partitions: some clients have a rule of their own
    (librdkafka's default, which kcat uses). Where producers disagree, an account has a part of its events in several partitions: the
    one where most were applied is given, and `also_in_partitions` names the others. Raises BrokerError when the broker or the
    changelog cannot be read.
    """
    key = account_id.encode()
    found = []
    with _consumer(settings) as consumer:
        topic = Names.of(settings).changelog
        count = _partition_count(consumer, topic)
        expected = partition_of(account_id, count)
        for number in sorted(range(count), key=lambda each: each != expected):
            changelog = _read(consumer, topic, number)
            if b"r" + key in changelog.latest:
                found.append(_view_of(settings, key, number, changelog))
    if not found:
        return None
    view = max(found, key=lambda each: sum(each["state"]["applied"].values()))
    others = sorted(each["partition"] for each in found if each is not view)
    return {**view, "also_in_partitions": others} if others else view


def _view_of(settings: Settings, key: bytes, number: int, changelog: Changelog) -> View:
    partition = Partition(number, definition_of(settings))
    mine = ((stored, value) for stored, value in changelog.latest.items() if stored[1:] == key)
    partition.restore(mine, changelog.latest.get(CURSOR_KEY))
    return {"account_id": key.decode(), "partition": number, **account_view(partition, partition.columns.slots[key])}


def account_view(partition: Partition, slot: int) -> View:
    """The state of an account and its assessment, times as RFC 3339 beside the microseconds."""
    assessment = assessment_view(partition.columns, slot)
    as_of = assessment["as_of"]
    return {**assessment, "as_of_time": None if as_of is None else format_us(as_of), "state": state_view(partition.columns, slot)}


def read_partitions(settings: Settings) -> dict[int, tuple[Partition, Changelog]]:
    """Every partition's accounts as the changelog has them, and the changelog itself; raises BrokerError."""
    found = {}
    with _consumer(settings) as consumer:
        topic = Names.of(settings).changelog
        for number in range(_partition_count(consumer, topic)):
            changelog = _read(consumer, topic, number)
            partition = Partition(number, definition_of(settings))
            partition.restore(
                ((key, value) for key, value in changelog.latest.items() if key != CURSOR_KEY), changelog.latest.get(CURSOR_KEY)
            )
            found[number] = partition, changelog
    return found


def partition_of(account_id: str, count: int) -> int:
    """The partition of an account among `count`: Kafka's own rule for keys."""
    return (int(murmur2(account_id.encode())) & 0x7FFFFFFF) % count


@contextmanager
def _consumer(settings: Settings) -> Iterator[Any]:
    try:
        client = KafkaConsumer(
            **client_kwargs(settings),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 << 20,
            bootstrap_timeout_ms=10_000,
        )
    except KafkaError as error:
        raise BrokerError(
            f"the broker at {settings.kafka_bootstrap} cannot be reached: {error}",
            "start one with: churnwatch kafka start; or name yours in KAFKA_BOOTSTRAP",
        ) from error
    try:
        yield client
    finally:
        client.close()


def _partition_count(consumer: Any, topic: str) -> int:
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise BrokerError(f"there is no changelog {topic}", "churnwatch topics apply, then run a worker")
    return len(numbers)


def _read(consumer: Any, topic: str, number: int) -> Changelog:
    """Read one changelog partition to the end that it has now."""
    changelog = Changelog()
    for key, value in _records(consumer, TopicPartition(topic, number)):
        if value is None:
            changelog.latest.pop(key, None)
            continue
        changelog.latest[key] = value
        if key == CURSOR_KEY:
            changelog.cursors.append(value)
    return changelog


def _records(consumer: Any, tp: TopicPartition) -> Iterator[tuple[bytes, bytes | None]]:
    consumer.assign([tp])
    consumer.seek_to_beginning(tp)
    end = consumer.end_offsets([tp])[tp]
    while consumer.position(tp) < end:
        for batch in consumer.poll(timeout_ms=POLL_MS).values():
            for record in batch:
                yield record.key, record.value
