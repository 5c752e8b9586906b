"""Reading topics from outside: bounds of partitions, and the committed records between two offsets. Nothing is written, no group joined."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from deploy.verify.records import LogRecord
from stream_app.exits import BrokerError
from stream_app.kafka_connection import client_kwargs
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stream_app.settings import Settings

Place = tuple[str, int]
"""A topic's name on the cluster, and the number of one of its partitions."""

POLL_MS: Final = 200
SILENCE_SECONDS: Final = 60.0
"""How long a broker may have no answer, and a transaction may stay open: longer than any of ours may."""

_APPEND_TIME: Final = 1


class KafkaLog:
    """An installation's cluster, to be read. A context manager; its methods raise BrokerError when the broker has no answer."""

    def __init__(self, settings: Settings, tell: Callable[[int], None] | None = None) -> None:
        """`tell` is called with the number of offsets that were passed."""
        self._settings = settings
        self._tell = tell or (lambda _: None)

    def __enter__(self) -> Self:
        """Connect."""
        with self._answers():
            self._committed = self._consumer("read_committed")
            self._any = self._consumer("read_uncommitted")
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._committed.close()
        self._any.close()

    def _consumer(self, isolation: str) -> Any:
        return KafkaConsumer(
            **client_kwargs(self._settings),
            isolation_level=isolation,
            enable_auto_commit=False,
            # A position that the log no longer holds is told, never silently moved.
            auto_offset_reset="none",
            max_partition_fetch_bytes=4 << 20,
            max_poll_records=5_000,
            # A partition that is read to its end is left at once: no fetch of it may hold up the next one.
            fetch_max_wait_ms=20,
            retry_backoff_ms=10,
            # In pure Python they cost more than all the rest, and the broker has checked them.
            check_crcs=False,
            bootstrap_timeout_ms=10_000,
        )

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except OffsetOutOfRangeError as error:
            raise BrokerError(f"records were deleted while they were read: {error}", "run it again") from error
        except KafkaError as error:
            raise BrokerError(f"the broker at {self._settings.kafka_bootstrap} has no answer: {error}") from error

    def partitions(self, topic: str) -> list[int]:
        """Return the numbers of a topic's partitions; raises BrokerError when there is no such topic."""
        with self._answers():
            # Both clients must know a topic: asked for the bounds of one that it does not know, kafka-python forgets some of the answers.
            numbers = self._any.partitions_for_topic(topic) and self._committed.partitions_for_topic(topic)
        if not numbers:
            raise BrokerError(f"there is no topic {topic}", "churnwatch topics apply, then run a worker")
        return sorted(numbers)

    def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the first offset that each partition still holds."""
        return self._bounds(self._any.beginning_offsets, places)

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset after the last record of each partition, open transactions included."""
        return self._bounds(self._any.end_offsets, places)

    def stable_ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset of each partition below which every transaction has ended."""
        return self._bounds(self._committed.end_offsets, places)

    def wait_stable(self, ends: dict[Place, int]) -> None:
        """Wait until no transaction is open below some ends; raises BrokerError when one stays open for too long."""

        def are_stable() -> bool:
            reached = self.stable_ends(ends)
            return all(reached[place] >= end for place, end in ends.items())

        if not wait_until(are_stable, SILENCE_SECONDS):
            raise BrokerError(f"a transaction on the outputs has been open for {SILENCE_SECONDS:.0f} s", "run it again")

    def _bounds(self, ask: Callable[[list[Any]], dict[Any, int]], places: Iterable[Place]) -> dict[Place, int]:
        with self._answers():
            found = ask([TopicPartition(*place) for place in places])
        return {(tp.topic, tp.partition): int(offset) for tp, offset in found.items()}

    def records(self, place: Place, start: int, end: int) -> Iterator[LogRecord]:
        """Read the committed records of a partition with `start <= offset < end`; one reading at a time."""
        consumer, tp = self._committed, TopicPartition(*place)
        if start >= end:
            return
        consumer.assign([tp])
        consumer.seek(tp, start)
        reached = start
        while reached < end:
            for record in self._next(tp, reached):
                if record.offset < end:
                    yield record
            before, reached = reached, min(consumer.position(tp), end)
            self._tell(reached - before)

    def _next(self, tp: Any, reached: int) -> list[LogRecord]:
        """Poll until the position has moved; what came with it."""
        found: list[Any] = []

        def is_moved() -> bool:
            found.extend(self._committed.poll(timeout_ms=POLL_MS).get(tp, ()))
            return bool(found) or self._committed.position(tp) > reached

        with self._answers():
            if not wait_until(is_moved, SILENCE_SECONDS):
                raise BrokerError(f"{tp.topic}, partition {tp.partition}: nothing comes after offset {reached}", "run it again")
        return [_record(each) for each in found]


def _record(read: Any) -> LogRecord:
    return LogRecord(
        read.topic,
        read.partition,
        read.offset,
        read.key,
        read.value,
        tuple(read.headers or ()),
        read.timestamp,
        read.timestamp_type == _APPEND_TIME,
    )
