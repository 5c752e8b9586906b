"""Sending records to the real broker and reading topics back whole, fast enough for hundreds of thousands of records."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from kafka.admin import KafkaAdminClient

from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FLUSH_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_READ_SECONDS: Final = 60.0

Header = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Read:
    """A record as it was read back; `timestamp` is the broker's, in milliseconds."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp: int


@dataclass
class Sender:
    """An idempotent producer that counts what the broker has acknowledged; keys go where every Kafka client puts them."""

    bootstrap: str
    options: Mapping[str, Any] = field(default_factory=dict)
    acknowledged: int = 0
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Connect."""
        self._is_transactional = False
        self._producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "message.max.bytes": 4_000_000,
                "log_level": 2,
                **self.options,
            }
        )

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header] = (),
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Hand a record over; its acknowledgement comes with a later call."""
        given: dict[str, Any] = {} if partition is None else {"partition": partition}
        if timestamp is not None:
            given["timestamp"] = timestamp
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers), on_delivery=self._delivered, **given)
            except BufferError:
                self._producer.poll(_POLL_SECONDS)
            else:
                break
        self._producer.poll(0)

    def begin(self) -> None:
        """Begin a transaction; the producer must have a `transactional.id`."""
        if not self._is_transactional:
            self._producer.init_transactions(FLUSH_SECONDS)
            self._is_transactional = True
        self._producer.begin_transaction()

    def end(self, *, is_commit: bool) -> None:
        """Commit the transaction, or abort it once all of it has reached the broker."""
        self.flush()
        if is_commit:
            self._producer.commit_transaction(FLUSH_SECONDS)
        else:
            self._producer.abort_transaction(FLUSH_SECONDS)

    def flush(self) -> None:
        """Wait until everything is acknowledged; raises AssertionError when something could not be delivered."""
        left = self._producer.flush(FLUSH_SECONDS)
        assert not left, f"{left} records are not acknowledged"
        assert not self.failures, self.failures[:3]

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.failures.append(str(error))


Place = tuple[str, int]
"""A topic and the number of one of its partitions."""


def read_topic(bootstrap: str, topic: str, isolation: str = "read_committed") -> dict[int, list[Read]]:
    """Read a topic from its beginning to the end that it has now: its records by partition, in the order of the log."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 8 << 20,
            "fetch.wait.max.ms": 20,
        }
    )
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
        return _read_to_the_end(consumer, sorted(numbers))
    finally:
        consumer.close()


def _read_to_the_end(consumer: Consumer, numbers: Sequence[int]) -> dict[int, list[Read]]:
    found: dict[int, list[Read]] = {number: [] for number in numbers}
    unread = set(numbers)
    idle = 0.0
    while unread:
        messages = consumer.consume(5_000, _POLL_SECONDS)
        idle = 0.0 if messages else idle + _POLL_SECONDS
        assert idle < _READ_SECONDS, f"partitions {unread} are not read to their end"
        for message in messages:
            error = message.error()
            if error is None:
                found[message.partition()].append(_read(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            else:
                raise AssertionError(error)
    return found


def _read(message: Any) -> Read:
    return Read(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
        message.timestamp()[1],
    )


def ends(bootstrap: str, topics: Iterable[str]) -> dict[Place, int]:
    """Return the offset after the last record of each partition of some topics that holds any."""
    found = {}
    for topic in topics:
        for number, records in read_topic(bootstrap, topic).items():
            if records:
                found[topic, number] = records[-1].offset + 1
    return found


def wait_caught_up(bootstrap: str, group: str, topics: Iterable[str], seconds: float) -> None:
    """Wait until a group has committed every record that some topics hold now; raises AssertionError."""
    wanted = ends(bootstrap, topics)
    behind: dict[Place, tuple[int, int]] = {}

    def is_caught_up() -> bool:
        found = admin.list_group_offsets(group)[group]
        done = {(tp.topic, tp.partition): at.offset for tp, at in found.items()}
        behind.clear()
        behind.update({place: (done.get(place, 0), end) for place, end in wanted.items() if done.get(place, 0) < end})
        return not behind

    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        assert wait_until(is_caught_up, seconds, pause_seconds=0.1), f"not caught up within {seconds} s: (committed, wanted) {behind}"


class Traffic:
    """Sends records from a thread of its own until it is told to stop: a burst and a lull by turns, two seconds each.

    In a burst there is a backlog and a checkpoint comes about once a second, in a lull each batch has its own.
    """

    def __init__(self, sender: Sender, records: Iterator[tuple[str, bytes, bytes]], per_second: int) -> None:
        """`records` yields topic, key and value, and may be endless; `per_second` is the rate of a burst, a lull has a tenth of it."""
        self._sender = sender
        self._records = records
        self._per_second = per_second
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """End it, and wait until the broker has everything."""
        self._stopping.set()
        self._thread.join(FLUSH_SECONDS)
        if error is None:
            self.check()
            self._sender.flush()

    def check(self) -> None:
        """Raise what ended the traffic before its time, if anything did."""
        if self.error is not None:
            raise self.error

    def flow(self, seconds: float) -> int:
        """Let it flow for a while, and return how many records were acknowledged meanwhile: never none."""
        before = self._sender.acknowledged
        self._stopping.wait(seconds)
        assert wait_until(lambda: self.error is not None or self._sender.acknowledged > before, FLUSH_SECONDS), "the traffic has dried up"
        self.check()
        return self._sender.acknowledged - before

    def _run(self) -> None:
        try:
            for turn in itertools.count():
                if self._stopping.wait(0.1):
                    return
                is_burst = turn // 20 % 2 == 0
                for _ in range(self._per_second // (10 if is_burst else 100)):
                    self._sender.send(*next(self._records))
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            self.error = error
