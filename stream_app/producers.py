"""The transactional producers of a worker: one for each partition that it owns.

`transactional.id` is `<app id>-<partition>`: starting one fences whoever owned the partition before, and aborts what it left open.

**What was decided and not marked.** A broker writes down that a transaction is committed, and then puts a mark into every partition that it
has touched. Kafka 4.3 has a hole there: a broker that is killed in between, and reads its transactions again before it knows which topics
there are, takes the partitions for deleted ones, leaves their marks out, and calls the transaction complete. Its records hang: readers
stop before them, and the next mark of the same transactional id decides them, whichever that is. So nobody goes on before they have the
mark that they were meant to have: a transaction that says nothing, in every place that one can touch, is ended as the last one was decided.

- Who takes a partition over asks for that decision first of all: the coordinator forgets it when a producer is started.
- Who has lost a connection since its last transaction cannot know what became of that one.
"""

import asyncio
import contextlib
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import TopicPartition

from stream_app.admin import COORDINATOR_SECONDS, last_decisions, read_logs, undecided, written
from stream_app.exits import BrokerError, StateMustBeRebuilt
from stream_app.topics import MESSAGE_BYTES_MIN
from stream_app.waiting import wait_until

BATCH_BYTES_MAX = MESSAGE_BYTES_MIN
"""Below the broker's limit of a record batch, 1 MiB; one batch is pending for each partition, so a large one costs fewer trips."""

TRANSACTION_TIMEOUT_MS = 20_000
REQUEST_TIMEOUT_MS = 15_000


class RecordTooLargeError(Exception):
    """A record does not fit into a batch on its own."""


class Writer:
    """A started transactional producer, and every place that its transactions can touch."""

    def __init__(self, producer: AIOKafkaProducer, places: Sequence[TopicPartition]) -> None:
        self.producer = producer
        self._places = places
        self._lost = 0
        self._settled_at = 0
        producer.client._on_connection_closed = partial(self._note_loss, producer.client._on_connection_closed)

    def _note_loss(self, tell_client: Callable[[Any, Any], None], connection: Any, reason: Any) -> None:
        self._lost += 1
        tell_client(connection, reason)

    @property
    def epoch(self) -> int:
        """Which producer of its transactional id it is."""
        return int(self.producer._txn_manager.producer_epoch)

    @property
    def is_settled(self) -> bool:
        """Whether no connection was lost since the last transaction that would have settled what hangs."""
        return self._lost == self._settled_at

    async def begin(self) -> None:
        """Begin a transaction; after a connection was lost only when nothing of the one before can hang any more."""
        if not self.is_settled:
            await self.settle()
        await self.producer.begin_transaction()

    async def commit(self) -> None:
        """Commit; when a connection was lost since the last transaction, with marks in every place."""
        lost = self._lost
        if lost != self._settled_at:
            self._touch(self._places)
        await self.producer.commit_transaction()
        self._settled_at = lost

    async def settle(self, *, is_commit: bool = True, places: Sequence[TopicPartition] | None = None) -> None:
        """Give whatever of this transactional id hangs its mark, in some places or in all."""
        lost = self._lost
        await self.producer.begin_transaction()
        self._touch(self._places if places is None else places)
        await (self.producer.commit_transaction() if is_commit else self.producer.abort_transaction())
        self._settled_at = lost

    def _touch(self, places: Sequence[TopicPartition]) -> None:
        for place in places:
            self.producer._txn_manager.maybe_add_partition_to_txn(place)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AIOKafkaProducer]:
        """A transaction that is committed at the end, and aborted by an exception."""
        await self.begin()
        try:
            yield self.producer
        except BaseException:
            if not self.producer._txn_manager.is_fatal_error():
                await self.producer.abort_transaction()
            raise
        await self.commit()


async def take_over(
    connection: Mapping[str, Any], places: Mapping[str, Sequence[TopicPartition]], *, is_abandoning: bool = False
) -> dict[str, Writer]:
    """Start the writers of some transactional ids; `places` are all that the transactions of each can touch, the decisive one first.

    Their predecessors are fenced, what these had decided is marked, and what they had left open is aborted. Where nobody knows how the last
    transaction was decided, and one hangs in the first place, StateMustBeRebuilt is raised; `is_abandoning`: it is aborted.
    Raises TopicAdminError, and what aiokafka raises when a producer cannot be started.
    """
    bootstrap, options = _admin(connection)
    # Before they are started: the coordinator forgets how a transaction was decided when its next producer is.
    decided = await to_thread(last_decisions, bootstrap, list(places), client_options=options)
    # Nothing hangs where nothing was ever written; and a changelog that is empty must stay so, because that is how a lost one is known.
    full = await to_thread(written, bootstrap, list({place for some in places.values() for place in some}), client_options=options)
    writers = dict(await asyncio.gather(*(_start(connection, identity, each) for identity, each in places.items())))
    known = {name: bool(decided[name].is_commit) for name, writer in writers.items() if decided[name].holds_for(writer.epoch)}
    if is_abandoning:
        known = dict.fromkeys(places, False) | known
    await asyncio.gather(
        *(
            writers[name].settle(is_commit=is_commit, places=[place for place in places[name] if place in full])
            for name, is_commit in known.items()
        )
    )
    doubtful = [some[0] for identity, some in places.items() if some and identity not in known]
    if doubtful and (hanging := await to_thread(undecided, bootstrap, doubtful, client_options=options)):
        (topic, number), offset = min(hanging.items())
        raise StateMustBeRebuilt(
            f"{topic} partition {number} holds a transaction from offset {offset} on that is neither committed nor aborted, "
            f"and the broker does not know any more which it was to be"
        )
    return writers


def _admin(connection: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The brokers' addresses, with commas between, and the other members of a connection."""
    return ",".join(connection["bootstrap_servers"]), {name: each for name, each in connection.items() if name != "bootstrap_servers"}


async def _start(connection: Mapping[str, Any], identity: str, places: Sequence[TopicPartition]) -> tuple[str, Writer]:
    producer = AIOKafkaProducer(
        **connection,
        client_id=identity,
        transactional_id=identity,
        acks="all",
        linger_ms=0,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=2 * BATCH_BYTES_MAX,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    await producer.start()
    # What it knows now it still knows when the broker goes away, and waits for it; a topic that it never heard of it would give up on.
    for topic in dict.fromkeys(place.topic for place in places):
        await producer.partitions_for(topic)
    return identity, Writer(producer, places)


class Producers:
    """Starts and stops the writers of partitions as these come and go; `outputs` are the topics that they write, the changelog first.

    `is_abandoning`: see `take_over`.
    """

    def __init__(self, app_id: str, connection: dict[str, Any], outputs: Sequence[str], *, is_abandoning: bool = False) -> None:
        self._app_id = app_id
        self._connection = connection
        self._outputs = outputs
        self._is_abandoning = is_abandoning
        self._of: dict[int, Writer] = {}

    def of(self, partition: int) -> Writer | None:
        """The writer of an owned partition."""
        return self._of.get(partition)

    async def own(self, partitions: Iterable[int]) -> None:
        """Become the only writer of these partitions, and of no other; raises what `take_over` does."""
        old, self._of = self._of, {}
        await asyncio.gather(*(writer.producer.stop() for writer in old.values()), return_exceptions=True)
        identities = {number: f"{self._app_id}-{number}" for number in sorted(set(partitions))}
        if identities:
            counts = await to_thread(self._count)
            places = {
                identity: [TopicPartition(name, number % counts[name]) for name in self._outputs] for number, identity in identities.items()
            }
            writers = await take_over(self._connection, places, is_abandoning=self._is_abandoning)
            self._of = {number: writers[identity] for number, identity in identities.items()}

    def _count(self) -> dict[str, int]:
        """How many partitions each of the outputs has; raises BrokerError when one stays missing.

        A broker that has just started may not know them yet.
        """
        bootstrap, options = _admin(self._connection)
        counts: dict[str, int] = {}

        def is_known() -> bool:
            counts.update({name: log.partitions for name, log in read_logs(bootstrap, self._outputs, client_options=options).items()})
            return counts.keys() >= set(self._outputs)

        if not wait_until(is_known, COORDINATOR_SECONDS):
            raise BrokerError(f"{min(set(self._outputs) - counts.keys())}: the topic is missing", "churnwatch topics check")
        return counts

    async def stop(self) -> None:
        """Stop them all."""
        await self.own(())


Plain = tuple[bytes, bytes | None]
"""The key and the value of a record."""

Whole = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]], int | None]
"""Key, value, headers, and the time in milliseconds where it is not now."""

_NO_HEADERS: list[tuple[str, bytes]] = []


async def send(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Plain], now_ms: int) -> int:
    """Send records in order, in batches; the offset of the last, -1 when there are none.

    Raises RecordTooLargeError for a record that no batch can hold, and what aiokafka raises when sending fails.
    """

    def fill(batch: BatchBuilder, start: int) -> int:
        # A checkpoint has thousands of records: the parser's own builder takes one in a third of the time that its wrapper does.
        append = batch._builder.append
        count = 0
        for key, value in islice(records, start, None):
            if append(count, now_ms, key, value, _NO_HEADERS) is None:
                break
            count += 1
        batch._relative_offset = count
        return count

    return await _send(producer, topic, partition, len(records), fill)


async def send_whole(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Whole], now_ms: int) -> int:
    """`send` of records that have headers, and times of their own."""

    def fill(batch: BatchBuilder, start: int) -> int:
        count = 0
        for key, value, headers, timestamp in islice(records, start, None):
            stamp = now_ms if timestamp is None else timestamp
            if batch.append(key=key, value=value, timestamp=stamp, headers=list(headers)) is None:
                break
            count += 1
        return count

    return await _send(producer, topic, partition, len(records), fill)


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, count: int, fill: Callable[[BatchBuilder, int], int]) -> int:
    """Send `count` records; `fill` puts those from a place on into a batch, and says how many went in."""
    pending: list[tuple[Any, int]] = []
    start = 0
    while start < count:
        batch = producer.create_batch()
        size = fill(batch, start)
        if not size:
            raise RecordTooLargeError(f"a record for {topic} does not fit into {BATCH_BYTES_MAX} bytes")
        batch.close()
        pending.append((await producer.send_batch(batch, topic, partition=partition), size))
        start += size
    last = -1
    for future, size in pending:
        last = (await future).offset + size - 1
    return last
