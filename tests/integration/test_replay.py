"""A replay on a real broker: everything arrives, in order, on the partition that every client would choose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.partitioner import DefaultPartitioner

from deploy.replay import oulad, ravenstack
from deploy.replay.corpus import SAMPLE_DIR, Window
from deploy.replay.envelope import Event, topic_of
from deploy.replay.producer import TOPICS, Pace, Progress, Sender, replay
from stream_app.admin import apply_topics
from stream_app.exits import BrokerError
from stream_app.topics import Installation, topic_name
from tests.support.broker import private_broker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from kafka.consumer.fetcher import ConsumerRecord

pytestmark = pytest.mark.integration

FEBRUARY = Window("2013-02-01", "2013-03-01")


def _connection(bootstrap: str) -> Mapping[str, object]:
    return {"bootstrap_servers": [bootstrap]}


def _send(bootstrap: str, prefix: str, events: Iterable[Event], pace: Pace | None = None) -> Progress:
    with Sender(_connection(bootstrap), prefix) as sender:
        return replay(events, sender, pace=pace or Pace(), stop=threading.Event(), tell=lambda _: None)


def _read_all(bootstrap: str, prefix: str) -> dict[str, list[ConsumerRecord]]:
    """Return every record of the input topics, partition by partition in the order of their offsets."""
    found: dict[str, list[ConsumerRecord]] = defaultdict(list)
    consumer = KafkaConsumer(bootstrap_servers=[bootstrap], auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        for name in TOPICS:
            topic = topic_name(prefix, name)
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                for records in consumer.poll(timeout_ms=1000, max_records=10_000).values():
                    found[name].extend(records)
    finally:
        consumer.close(autocommit=False)
    return found


def _lives(records: dict[str, list[ConsumerRecord]]) -> dict[tuple[str, str], list[Event]]:
    """Return the events of each topic and account in the order they are read."""
    lives: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for topic, of_topic in records.items():
        for record in of_topic:
            lives[topic, record.key.decode()].append(msgspec.json.decode(record.value))
    return lives


def _expected(events: Iterable[Event]) -> dict[tuple[str, str], list[Event]]:
    lives: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        lives[topic_of(event["type"]), event["subject"]].append(event)
    return lives


@pytest.fixture
def prefix(kafka_bootstrap: str, installation: Installation) -> str:
    """Return the prefix of topics that are there."""
    apply_topics(kafka_bootstrap, installation)
    return installation.prefix


def test_everything_arrives_in_order(kafka_bootstrap: str, prefix: str) -> None:
    """Each account's events on a topic are read as they were made, none missing and none twice."""
    events = list(FEBRUARY.of(oulad.corpus(SAMPLE_DIR).events()))
    progress = _send(kafka_bootstrap, prefix, events)
    assert (progress.sent, progress.acknowledged) == (len(events), len(events))
    assert progress.reached == events[-1]["time"]
    assert _lives(_read_all(kafka_bootstrap, prefix)) == _expected(events)


def test_each_kind_of_topic_is_fed(kafka_bootstrap: str, prefix: str) -> None:
    """RavenStack has usage, tickets, payments and account facts, and its topics hold as many events as were made."""
    events = list(Window("2023-01-01", "2023-06-01").of(ravenstack.corpus(SAMPLE_DIR).events()))
    _send(kafka_bootstrap, prefix, events)
    arrived = {topic: len(records) for topic, records in _read_all(kafka_bootstrap, prefix).items()}
    assert arrived == Counter(topic_of(event["type"]) for event in events)
    assert set(arrived) == set(TOPICS)


def test_accounts_lie_where_every_client_looks_for_them(kafka_bootstrap: str, prefix: str) -> None:
    """The partition is that of Kafka's default partitioner, the same for an account on every topic."""
    _send(kafka_bootstrap, prefix, Window("", "2013-01-01").of(oulad.corpus(SAMPLE_DIR).events()))

    class FourPartitions:
        def topics(self) -> set[str]:
            return {"any"}

        def partitions_for_topic(self, _: str) -> set[int]:
            return {0, 1, 2, 3}

        available_partitions_for_topic = partitions_for_topic

    records = [record for of_topic in _read_all(kafka_bootstrap, prefix).values() for record in of_topic]
    assert {record.partition for record in records} == {0, 1, 2, 3}
    for record in records:
        where = DefaultPartitioner().partition("any", record.key, record.key, None, None, FourPartitions())
        assert record.partition == where


def test_a_second_replay_brings_the_same_ids(kafka_bootstrap: str, prefix: str) -> None:
    """Every record is there twice, byte for byte: the stream can tell that it knows them."""
    window = Window("2013-02-01", "2013-02-04")
    for _ in range(2):
        _send(kafka_bootstrap, prefix, window.of(oulad.corpus(SAMPLE_DIR).events()))
    values = Counter(record.value for of_topic in _read_all(kafka_bootstrap, prefix).values() for record in of_topic)
    assert set(values.values()) == {2}
    assert len({msgspec.json.decode(value)["id"] for value in values}) == len(values)


def test_a_replay_can_be_stopped(kafka_bootstrap: str, prefix: str) -> None:
    """What it says it has reached is in Kafka, and nothing after it."""
    stop = threading.Event()
    events = list(FEBRUARY.of(oulad.corpus(SAMPLE_DIR).events()))

    def stopping_after_100() -> Iterable[Event]:
        for number, event in enumerate(events):
            if number == 100:
                stop.set()
            yield event

    with Sender(_connection(kafka_bootstrap), prefix) as sender:
        progress = replay(stopping_after_100(), sender, pace=Pace(), stop=stop, tell=lambda _: None)
    assert (progress.sent, progress.acknowledged) == (100, 100)
    assert progress.reached == events[99]["time"]
    assert _lives(_read_all(kafka_bootstrap, prefix)) == _expected(events[:100])


def test_a_paced_replay_takes_its_time(kafka_bootstrap: str, prefix: str) -> None:
    """At a day a second, a day of the log takes about a second, and an event is never far ahead of its time."""
    events = list(Window("2013-02-01", "2013-02-02").of(oulad.corpus(SAMPLE_DIR).events()))
    stamps: list[tuple[int, str]] = []
    _send(kafka_bootstrap, prefix, events, Pace(86_400.0))
    for of_topic in _read_all(kafka_bootstrap, prefix).values():
        stamps.extend((record.timestamp, msgspec.json.decode(record.value)["time"]) for record in of_topic)
    stamps.sort()
    took_seconds = (stamps[-1][0] - stamps[0][0]) / 1000
    due_seconds = Pace(86_400.0).due_after(stamps[0][1], stamps[-1][1])
    assert due_seconds > 0.9
    assert took_seconds > due_seconds - 0.2


def test_missing_topics_are_named_with_the_mend(kafka_bootstrap: str, topic_prefix: str) -> None:
    """Nothing is created in passing; the error says what makes them."""
    with (
        pytest.raises(BrokerError, match=r"usage-events.*churnwatch topics apply"),
        Sender(_connection(kafka_bootstrap), topic_prefix),
    ):
        pass


def test_a_broker_that_goes_away_ends_the_replay(tmp_path: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be delivered is an error that says so, not a replay that seems to have worked."""
    monkeypatch.setattr("deploy.replay.producer.ACK_TIMEOUT_SECONDS", 2.0)
    with private_broker(tmp_path) as broker:
        apply_topics(broker.bootstrap, installation)

        def killing_after_50() -> Iterable[Event]:
            for number, event in enumerate(FEBRUARY.of(oulad.corpus(SAMPLE_DIR).events())):
                if number == 50:
                    broker.kill()
                yield event

        with pytest.raises(BrokerError, match="could not be delivered"):
            _send(broker.bootstrap, installation.prefix, islice(killing_after_50(), 100))


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "deploy.replay.cli", *arguments]


def test_the_command_sends_a_window_and_says_so(kafka_bootstrap: str, prefix: str) -> None:
    """Exit code 0, and the last line has the count, the log's time and where it went."""
    environment = os.environ | {"KAFKA_BOOTSTRAP": kafka_bootstrap, "CHURNWATCH_TOPIC_PREFIX": prefix}
    command = _command("oulad", "--from", "2013-02-01", "--limit-days", "3")
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    events = list(Window("2013-02-01", "2013-02-04").of(oulad.corpus(SAMPLE_DIR).events()))
    assert f"{len(events):,} of {len(events):,} events are in Kafka, up to {events[-1]['time']}" in ran.stderr
    assert sum(map(len, _read_all(kafka_bootstrap, prefix).values())) == len(events)


def test_ctrl_c_says_how_far_it_got(kafka_bootstrap: str, prefix: str) -> None:
    """Exit code 130; what it says is in Kafka is what is there; no traceback."""
    environment = os.environ | {"KAFKA_BOOTSTRAP": kafka_bootstrap, "CHURNWATCH_TOPIC_PREFIX": prefix}
    command = _command("oulad", "--from", "2013-02-01", "--speed", "3600")
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said = [running.stderr.readline()]
        while "are in Kafka" not in said[-1]:
            assert said[-1], "".join(said)
            said.append(running.stderr.readline())
        running.send_signal(signal.SIGINT)
        said.extend(running.stderr)
    assert running.returncode == 130, "".join(said)
    assert "Traceback" not in "".join(said)
    count = sum(map(len, _read_all(kafka_bootstrap, prefix).values()))
    assert any(text.startswith(f"{count:,} of ") for text in said), "".join(said)


def test_a_broker_that_is_not_there_is_exit_code_3() -> None:
    """One line that names the address and what to do."""
    environment = os.environ | {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    ran = subprocess.run(_command("ravenstack"), env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 3
    assert "error: nobody answers at 127.0.0.1:1 (start one with `churnwatch kafka start`" in ran.stderr
    assert "Traceback" not in ran.stderr
