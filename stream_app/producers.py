"""The transactional producers of a worker: one for each partition that it owns.

`transactional.id` is `<app id>-<partition>`: starting one fences whoever owned the partition before, and aborts what it left open.
"""

import asyncio
from collections.abc import Iterable, Sequence
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


Record = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]], int | None]


async def send(producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record], now_ms: int) -> int:
    """Send `(key, value, headers, timestamp or None)` in order, in batches; the offset of the last, -1 when there are none.

    Raises RecordTooLargeError for a record that no batch can hold, and what aiokafka raises when sending fails.
    """
    pending: list[tuple[Any, int]] = []
    batch, count = producer.create_batch(), 0
    for key, value, headers, timestamp in records:
        stamp = now_ms if timestamp is None else timestamp
        if not _append(batch, key, value, stamp, headers):
            pending.append((await _hand_over(producer, batch, topic, partition), count))
            batch, count = producer.create_batch(), 0
            if not _append(batch, key, value, stamp, headers):
                raise RecordTooLargeError(f"a record of {len(value or b'')} bytes for {topic} does not fit into {BATCH_BYTES_MAX} bytes")
        count += 1
    if count:
        pending.append((await _hand_over(producer, batch, topic, partition), count))
    last = -1
    for future, size in pending:
        last = (await future).offset + size - 1
    return last


def _append(batch: BatchBuilder, key: bytes | None, value: bytes | None, timestamp: int, headers: Sequence[tuple[str, bytes]]) -> bool:
    return batch.append(key=key, value=value, timestamp=timestamp, headers=list(headers)) is not None


async def _hand_over(producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int) -> Any:
    batch.close()
    return await producer.send_batch(batch, topic, partition=partition)
