"""The transactional producers of a worker: one for each partition that it owns.

`transactional.id` is `<app id>-<partition>`: starting one fences whoever owned the partition before, and aborts what it left open.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from stream_app.topics import MESSAGE_BYTES_MIN

BATCH_BYTES_MAX = MESSAGE_BYTES_MIN
"""Below the broker's limit of a record batch, 1 MiB; one batch is pending for each partition, so a large one costs fewer trips."""

TRANSACTION_TIMEOUT_MS = 20_000
REQUEST_TIMEOUT_MS = 15_000


class RecordTooLargeError(Exception):
    """A record does not fit into a batch on its own."""


class Producers:
    """Starts and stops the transactional producers as partitions come and go."""

    def __init__(self, app_id: str, connection: dict[str, Any]) -> None:
        self._app_id = app_id
        self._connection = connection
        self._of: dict[int, AIOKafkaProducer] = {}

    def of(self, partition: int) -> AIOKafkaProducer | None:
        """The producer of an owned partition."""
        return self._of.get(partition)

    async def own(self, partitions: Iterable[int]) -> None:
        """Become the only writer of these partitions, and of no other."""
        old, self._of = self._of, {}
        await asyncio.gather(*(producer.stop() for producer in old.values()), return_exceptions=True)
        started = await asyncio.gather(*(self._start(partition) for partition in sorted(set(partitions))))
        self._of = dict(started)

    async def _start(self, partition: int) -> tuple[int, AIOKafkaProducer]:
        producer = AIOKafkaProducer(
            **self._connection,
            client_id=f"{self._app_id}-{partition}",
            transactional_id=f"{self._app_id}-{partition}",
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=2 * BATCH_BYTES_MAX,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        await producer.start()
        return partition, producer

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
