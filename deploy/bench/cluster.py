"""The broker that is measured with, and fresh topics on it for each measurement."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from deploy import kafka
from deploy.bench.load import TOPICS
from deploy.bench.measuring import BenchError
from stream_app.admin import apply_topics
from stream_app.exits import BrokerError
from stream_app.topics import Installation, topic_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from rich.console import Console

    from deploy.bench.load import Load, Message

PARTITIONS: Final = 4

_OWN_CLUSTER: Final = "KAFKA_BOOTSTRAP"
_ANSWER_SECONDS: Final = 30.0
_TOLD_EVERY: Final = 20_000
_QUIET: Final[Mapping[str, str | int | bool]] = {"log_level": 2}
"""What the library tries again is no news; what it gives up is raised here."""

_PRODUCER: Final[Mapping[str, str | int | bool]] = {
    # The Java client's partitioner: what any other producer of the installation would do.
    "partitioner": "murmur2_random",
    "enable.idempotence": True,
    "queue.buffering.max.messages": 500_000,
    "delivery.report.only.error": True,
    **_QUIET,
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A broker to measure with; `broker_pid` is None when it is not ours, and then what it costs is not known."""

    bootstrap: str
    broker_pid: int | None

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path, console: Console) -> Iterator[Self]:
        """Start a broker on a free port with data of its own, and stop it; or take that of `KAFKA_BOOTSTRAP`."""
        if own := os.environ.get(_OWN_CLUSTER):
            _refuse_security()
            yield cls(own, None)
            return
        settings = kafka.LauncherSettings.from_environment(os.environ, folder)
        broker = kafka.start(settings, 0, console=console)
        try:
            yield cls(broker.bootstrap, broker.pid)
        finally:
            kafka.stop(settings.data_dir)

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Installation]:
        """Make the topics of an installation that nobody has used, and delete them: a run must not slow the next one."""
        name = f"bench-{uuid.uuid4().hex[:10]}"
        installation = Installation(prefix=name, app_id=name, partitions=PARTITIONS, replication=1)
        apply_topics(self.bootstrap, installation)
        try:
            yield installation
        finally:
            self._delete(name)

    def _delete(self, start: str) -> None:
        """Delete every topic whose name begins so: a yardstick makes some of its own."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        with contextlib.suppress(KafkaException):  # a broker that is gone has nothing to delete
            names = [name for name in admin.list_topics(timeout=_ANSWER_SECONDS).topics if name.startswith(start)]
            for deleted in admin.delete_topics(names, operation_timeout=_ANSWER_SECONDS).values() if names else ():
                deleted.result(_ANSWER_SECONDS)

    def preload(self, prefix: str, load: Load, tell: Callable[[int], None]) -> None:
        """Put a load on empty input topics; raises `BenchError` unless they hold exactly its records afterwards."""
        self.send(prefix, load, tell)
        held = self.count(input_names(prefix))
        if held != load.events:
            message = f"{load.events:,} events were sent and the topics hold {held:,}"
            raise BenchError(message, "run it again")

    def send(self, prefix: str, load: Load, tell: Callable[[int], None]) -> None:
        """Put a load on the input topics as fast as it goes; `tell` is told how many events were handed over.

        Raises `BrokerError` when a topic is missing, and `BenchError` when an event could not be delivered.
        """
        self._require(input_names(prefix))
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                **_PRODUCER,
                "linger.ms": 50,
                "batch.size": 1 << 20,
                "queue.buffering.max.kbytes": 400_000,
            }
        )
        _hand_over(producer, input_names(prefix), load.messages(), tell)

    def _require(self, topics: Iterable[str]) -> None:
        """The client library would wait minutes for a topic that is not there."""
        try:
            there = AdminClient({"bootstrap.servers": self.bootstrap, **_QUIET}).list_topics(timeout=_ANSWER_SECONDS).topics
        except KafkaException as error:
            raise BrokerError(f"no broker answered at {self.bootstrap}", "see that it runs, or set KAFKA_BOOTSTRAP") from error
        if missing := [name for name in topics if name not in there]:
            raise BrokerError(f"{', '.join(missing)}: not there", "create the topics: churnwatch topics apply")

    def count(self, topics: Iterable[str]) -> int:
        """Return how many records some topics hold; markers of transactions count, too."""
        total = 0
        for place in self.places(topics):
            with _reading(self.bootstrap) as reader:
                low, high = reader.get_watermark_offsets(place, timeout=_ANSWER_SECONDS)
                total += high - low
        return total

    def committed(self, group: str, topics: Iterable[str]) -> int:
        """Return how many records of some topics, which nothing was ever deleted from, a group has committed."""
        with _reading(self.bootstrap, group) as reader:
            found = reader.committed(self.places(topics), timeout=_ANSWER_SECONDS)
        return sum(max(place.offset, 0) for place in found)

    def places(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Return every partition of some topics."""
        return [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]

    def pacer(self, prefix: str) -> Pacer:
        """Return what sends events one by one, each at its moment."""
        producer = Producer({"bootstrap.servers": self.bootstrap, **_PRODUCER, "linger.ms": 0})
        return Pacer(producer, input_names(prefix))


@contextlib.contextmanager
def _reading(bootstrap: str, group: str = "bench-look") -> Iterator[Consumer]:
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, **_QUIET})
    try:
        yield reader
    finally:
        reader.close()


def input_names(prefix: str) -> list[str]:
    """Return the names of the topics that a load is sent to, in the order of `TOPICS`."""
    return [topic_name(prefix, name) for name in TOPICS]


def _refuse_security() -> None:
    """The measuring clients speak plain text: a cluster that wants more is refused before anything is started."""
    protocol = os.environ.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT").upper()
    if protocol != "PLAINTEXT":
        message = f"KAFKA_SECURITY_PROTOCOL is {protocol}, and the benchmark's clients speak PLAINTEXT only"
        raise BenchError(message, f"unset {_OWN_CLUSTER}: it starts a broker of its own")


def _hand_over(producer: Producer, names: list[str], messages: Iterable[Message], tell: Callable[[int], None]) -> None:
    failures: list[KafkaError] = []

    def note(error: KafkaError, _message: object) -> None:
        failures.append(error)

    for sent, (topic, account_id, event) in enumerate(messages, 1):
        while True:
            try:
                producer.produce(names[topic], event, account_id, on_delivery=note)
            except BufferError:  # the queue is full: let some go
                producer.poll(0.1)
            else:
                break
        if sent % _TOLD_EVERY == 0:
            producer.poll(0)
            tell(sent)
    left = producer.flush(_ANSWER_SECONDS * 4)
    if left or failures:
        raise BenchError(
            f"{left + len(failures)} events were not delivered ({failures[0] if failures else 'no answer in time'})", "see the broker's log"
        )


class Pacer:
    """Sends events at their moments, and says when each was handed to the client library."""

    def __init__(self, producer: Producer, names: list[str]) -> None:
        """`names`: of the topics, in the order of `TOPICS`."""
        self._producer = producer
        self._names = names
        self._pause = threading.Event()
        self._failure: KafkaError | None = None

    def wait(self, seconds: float) -> None:
        """Let time pass; acknowledgements are taken meanwhile."""
        self._producer.poll(0)
        if seconds > 0:
            self._pause.wait(seconds)

    def send(self, message: Message) -> None:
        """Hand one event over."""
        topic, account_id, event = message
        self._producer.produce(self._names[topic], event, account_id, on_delivery=self._note)

    def _note(self, error: KafkaError | None, _message: object) -> None:
        self._failure = self._failure or error

    def finish(self) -> None:
        """Wait until everything is acknowledged; raises `BenchError` when something is not."""
        left = self._producer.flush(_ANSWER_SECONDS)
        if left or self._failure is not None:
            message = f"{left} events were not acknowledged ({self._failure})"
            raise BenchError(message, "run it again")
