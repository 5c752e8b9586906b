"""Reading dead letters and what was replayed of them: committed transactions only, nothing written."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from deploy.dlq.letters import Letter, Marks, Place, decode_mark, read_letter, read_place, text
from stream_app.exits import BrokerError
from stream_app.kafka_connection import client_kwargs
from stream_app.topics import TOPICS, topic_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream_app.settings import Settings

DEAD_LETTERS: Final = "dead-letters"
REPLAYS: Final = "dlq-replays"

_POLL_MS: Final = 500
_READ_OVER: Final = 2_000
"""A gap of so many records that are not wanted is sought over, not read."""


class Reader:
    """An open connection to read one installation's dead letters with; raises BrokerError for what cannot be read."""

    def __init__(self, settings: Settings, consumer: Any) -> None:
        self._settings = settings
        self._consumer = consumer
        self._dead_letters = topic_name(settings.topic_prefix, DEAD_LETTERS)
        self._replays = topic_name(settings.topic_prefix, REPLAYS)
        self._inputs: dict[str, int] | None = None

    @property
    def inputs(self) -> dict[str, int]:
        """The input topics that are there, with how many partitions each has."""
        if self._inputs is None:
            names = [topic_name(self._settings.topic_prefix, spec.name) for spec in TOPICS if spec.direction == "in"]
            self._inputs = {name: len(found) for name in names if (found := self._consumer.partitions_for_topic(name))}
        return self._inputs

    def letters(self) -> Iterator[Letter]:
        """Give every dead letter that there is now, partition by partition, in the order of the log."""
        for number in self._partitions(self._dead_letters):
            for record in self._records(TopicPartition(self._dead_letters, number)):
                yield self._letter(record)

    def marks(self) -> Marks:
        """Return every replay that is on record."""
        found: Marks = {}
        for number in self._partitions(self._replays):
            for record in self._records(TopicPartition(self._replays, number)):
                place = read_place(text(record.key))
                mark = None if record.value is None else decode_mark(record.value)
                if place is not None and mark is not None:
                    found[place] = mark
                elif place is not None:
                    found.pop(place, None)
        return found

    def outlived(self, marks: Marks) -> list[Place]:
        """Return the marks of dead letters that retention has taken."""
        tps = [TopicPartition(self._dead_letters, number) for number in self._partitions(self._dead_letters)]
        begins = {tp.partition: offset for tp, offset in self._consumer.beginning_offsets(tps).items()}
        return [place for place in marks if place.offset < begins.get(place.partition, 0)]

    def fetch(self, places: Iterable[Place]) -> dict[Place, Letter]:
        """Return the dead letters at some places; those that are gone are missing."""
        wanted: dict[int, list[int]] = {}
        for place in places:
            wanted.setdefault(place.partition, []).append(place.offset)
        found: dict[Place, Letter] = {}
        existing = set(self._partitions(self._dead_letters))
        for number, offsets in wanted.items():
            if number not in existing:
                continue
            for run in _runs(sorted(offsets)):
                mine = set(run)
                tp = TopicPartition(self._dead_letters, number)
                for record in self._records(tp, run[0], run[-1] + 1):
                    if record.offset in mine:
                        letter = self._letter(record)
                        found[letter.place] = letter
        return found

    def at(self, place: str) -> Iterator[Letter]:
        """Give the dead letters that can be at a place: the one at `PARTITION/OFFSET`, else all, since any may be of that record."""
        wanted = read_place(place)
        return self.letters() if wanted is None else iter(self.fetch([wanted]).values())

    def _letter(self, record: Any) -> Letter:
        place = Place(record.partition, record.offset)
        return read_letter(place, record.timestamp, record.key, record.value, list(record.headers), self.inputs)

    def _partitions(self, topic: str) -> list[int]:
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise BrokerError(f"there is no topic {topic}", "churnwatch topics apply")
        return sorted(numbers)

    def _records(self, tp: TopicPartition, start: int | None = None, end: int | None = None) -> Iterator[Any]:
        """Give the records of a partition from `start`, or its beginning, up to `end`, or the end that it has now."""
        self._consumer.assign([tp])
        if start is None:
            self._consumer.seek_to_beginning(tp)
        else:
            self._consumer.seek(tp, start)
        last = self._consumer.end_offsets([tp])[tp]
        stop = last if end is None else min(end, last)
        while self._consumer.position(tp) < stop:
            for batch in self._consumer.poll(timeout_ms=_POLL_MS).values():
                for record in batch:
                    if record.offset >= stop:
                        return
                    yield record


def _runs(offsets: list[int]) -> Iterator[list[int]]:
    """Cut sorted offsets where reading over what lies between would cost more than seeking."""
    run = [offsets[0]]
    for offset in offsets[1:]:
        if offset - run[-1] > _READ_OVER:
            yield run
            run = []
        run.append(offset)
    yield run


@contextmanager
def reading(settings: Settings) -> Iterator[Reader]:
    """Open a connection for as long as it is used; raises BrokerError when the broker cannot be reached, or goes away."""
    unreachable = f"the broker at {settings.kafka_bootstrap} cannot be reached"
    mend = "start one with `churnwatch kafka start`, or set KAFKA_BOOTSTRAP"
    try:
        client = KafkaConsumer(
            **client_kwargs(settings),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            max_partition_fetch_bytes=4 << 20,
            bootstrap_timeout_ms=10_000,
        )
    except KafkaError as error:
        raise BrokerError(f"{unreachable}: {error}", mend) from error
    try:
        yield Reader(settings, client)
    except KafkaError as error:
        raise BrokerError(f"{unreachable}: {error}", mend) from error
    finally:
        client.close()
