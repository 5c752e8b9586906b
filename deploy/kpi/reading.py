"""Reading `portfolio-metrics` from outside: committed records only, to the end that it has, and what comes after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from models.kpi.published import Published
from models.months import parse_month
from models.portfolio import OTHER, PortfolioRecord, read_record
from models.times import parse_us
from stream_app.exits import BrokerError
from stream_app.kafka_connection import client_kwargs
from stream_app.topics import topic_name
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

    from stream_app.settings import Settings

ROLL_UP: Final = "portfolio-metrics"
ACCOUNTS: Final = "usage-events"
"""Has as many partitions as accounts are divided into."""

POLL_MS: Final = 200
SILENCE_SECONDS: Final = 60.0
"""How long the broker may have nothing for us before its end is reached."""


class Latest:
    """The latest value of each key of the topic."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._records: dict[bytes, PortfolioRecord] = {}
        self.unreadable = 0
        """How many records were none of ours."""

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record of the log, in its order; without a value it deletes what its key had."""
        if key is None:
            self.unreadable += 1
        elif value is None:
            self._records.pop(key, None)
        else:
            try:
                record = read_record(value)
                parse_month(record.month)
                parse_us(record.as_of)
            except (msgspec.DecodeError, ValueError):
                self.unreadable += 1
            else:
                self._records[key] = record

    def published(self, settings: Settings, partitions: int) -> Published:
        """What is published of the segments that are configured."""
        return Published.of(self._records.values(), partitions, (*settings.portfolio.segments, OTHER))


class Feed:
    """A connection to the topic, a context manager; raises BrokerError for a broker that has no answer or a topic that is missing."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected before it is entered."""
        self._settings = settings
        self._topic = topic_name(settings.topic_prefix, ROLL_UP)
        self.latest = Latest()
        self.partitions = 0

    def __enter__(self) -> Self:
        """Connect, and begin at the beginning."""
        try:
            self._consumer: Any = KafkaConsumer(
                **client_kwargs(self._settings),
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                # In pure Python they cost more than all the rest, and the broker has checked them.
                check_crcs=False,
                max_partition_fetch_bytes=4 << 20,
                fetch_max_wait_ms=POLL_MS,
                bootstrap_timeout_ms=10_000,
            )
        except KafkaError as error:
            raise self._no_answer(error) from error
        try:
            self._begin()
        except BaseException:
            self._consumer.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Disconnect."""
        self._consumer.close()

    def _begin(self) -> None:
        try:
            self.partitions = len(self._numbers(topic_name(self._settings.topic_prefix, ACCOUNTS)))
            self._places = [TopicPartition(self._topic, number) for number in self._numbers(self._topic)]
            self._consumer.assign(self._places)
            self._consumer.seek_to_beginning(*self._places)
            ends = self._consumer.end_offsets(self._places)
            if not wait_until(lambda: self._is_read(ends), SILENCE_SECONDS):
                raise BrokerError(f"{self._topic}: nothing came for {SILENCE_SECONDS:.0f} s", "run it again")
        except KafkaError as error:
            raise self._no_answer(error) from error

    def _numbers(self, topic: str) -> list[int]:
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise BrokerError(f"there is no topic {topic}", "churnwatch topics apply, then run a worker")
        return sorted(numbers)

    def _is_read(self, ends: dict[Any, int]) -> bool:
        """Take all that comes at once, and say whether the ends are reached."""
        while self.take_more(POLL_MS):
            pass
        return all(self._consumer.position(place) >= ends[place] for place in self._places)

    def take_more(self, wait_ms: int) -> int:
        """Wait a while for records, take them, and return how many there were; while the broker is away there are none."""
        try:
            batches = self._consumer.poll(timeout_ms=wait_ms)
        except KafkaError as error:
            raise self._no_answer(error) from error
        for records in batches.values():
            for record in records:
                self.latest.take(record.key, record.value)
        return sum(map(len, batches.values()))

    def published(self) -> Published:
        """What is published now."""
        return self.latest.published(self._settings, self.partitions)

    def _no_answer(self, error: KafkaError) -> BrokerError:
        return BrokerError(
            f"the broker at {self._settings.kafka_bootstrap} has no answer: {error}",
            "start one with: churnwatch kafka start; or name yours in KAFKA_BOOTSTRAP",
        )
