"""Checkpoints: everything that a partition owes, in one Kafka transaction; then the local store; then the mirror of the cursor.

With no backlog a checkpoint follows each batch, under load it comes about once a second, far behind more seldom. Only one runs for a
partition at a time.
What fails here ends the process: nothing of an open transaction counts, and the next owner starts from the last committed cursor.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import rocksdict
from faust.types import TP

from stream_app.failpoints import failpoint
from stream_app.local_store import written_or_put_aside
from stream_app.pipeline import Checkpoint, Partition
from stream_app.producers import Plain, Writer, send, send_whole

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from stream_app.app import ChurnwatchApp

PAUSE_SECONDS = 0.03
"""The least time between two transactions of a partition."""

SLICE_ACCOUNTS = 1000
"""Accounts written out at a stretch: between slices the loop fetches, folds and answers."""


FAR_BEHIND = 4
"""Far behind is a partition with this many times more to read than it has folded since its last checkpoint."""


def interval(shortest: float, longest: float, unwritten: int, lag: int) -> float:
    """The seconds between two checkpoints of a partition under load.

    `unwritten` records are folded since the last one, `lag` are not folded yet. Where a second's work is little of what is left, nobody
    waits for that second's scores: the accounts are written less often, and each of them with more events in it.
    """
    return max(longest, shortest) if lag > FAR_BEHIND * unwritten else shortest


class Checkpoints:
    """Writes the checkpoints of a worker's partitions."""

    def __init__(self, app: "ChurnwatchApp") -> None:
        self._app = app
        self._locks: dict[int, asyncio.Lock] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._last: dict[int, float] = {}
        self._open = 0

    @property
    def is_busy(self) -> bool:
        """Whether a transaction is open."""
        return self._open > 0

    def kick(self, number: int) -> None:
        """Start a checkpoint of a partition if one is due and none is under way."""
        if number not in self._tasks and self._is_due(number):
            self._tasks[number] = asyncio.ensure_future(self._run(number))

    def _is_due(self, number: int) -> bool:
        partition = self._app.partitions.get(number)
        if partition is None:
            return False
        if not partition.is_moved:
            writer = self._app.producers.of(number)
            return writer is not None and not writer.is_settled
        settings = self._app.settings
        consumer = self._app.consumer
        lag = consumer.lag(number)
        # Less than a batch is no backlog: while events come in there is nearly always one that is fetched and not folded yet.
        if partition.dirty >= settings.dirty_rows_max or lag < settings.batch_records_max:
            return True
        seconds = interval(settings.checkpoint_interval, settings.checkpoint_interval_max, consumer.unwritten(number), lag)
        return self._app.clock.monotonic() - self._last.get(number, 0.0) >= seconds

    async def _run(self, number: int) -> None:
        try:
            while self._is_due(number):
                await self._pause(number)
                await self.write(number)
        finally:
            del self._tasks[number]

    async def _pause(self, number: int) -> None:
        """Give the broker the time to finish the transaction before: one that is begun too soon is refused, and tried again later."""
        elapsed = self._app.clock.monotonic() - self._last.get(number, 0.0)
        if elapsed < PAUSE_SECONDS:
            await asyncio.sleep(PAUSE_SECONDS - elapsed)

    async def write_all(self) -> None:
        """Write every partition, whatever is due: before a revoke and a shutdown."""
        for number in list(self._app.partitions):
            await self.write(number)

    async def write(self, number: int) -> None:
        """Write one checkpoint of a partition, or settle what may hang of the one before when there is nothing to write.

        A failure ends the process, unless the partition was taken away meanwhile.
        """
        lock = self._locks.setdefault(number, asyncio.Lock())
        async with lock:
            partition = self._app.partitions.get(number)
            writer = self._app.producers.of(number)
            if partition is None or writer is None or (writer.is_settled and not partition.is_moved):
                return
            self._open += 1
            try:
                await (self._write(partition, writer) if partition.is_moved else writer.settle())
            except Exception as error:  # noqa: BLE001 - crash-only: the outermost guard of the write path
                if self._app.partitions.get(number) is partition:
                    self._app.metrics.checkpoint_failed()
                    self._app.fail(error)
                self._app.log.warning("A checkpoint of partition %s failed after it was taken away: %r", number, error)
            finally:
                self._open -= 1
            self._last[number] = self._app.clock.monotonic()

    async def _write(self, partition: Partition, writer: Writer) -> None:
        started = self._app.clock.monotonic()
        checkpoint = partition.take()
        self._app.breakers[partition.number].checkpointed()
        failpoint("after_fold")
        await writer.begin()
        stored, last = await self._send(partition.number, checkpoint, writer.producer)
        failpoint("in_transaction")
        await writer.commit()
        failpoint("after_commit")
        app = self._app
        if app.partitions.get(partition.number) is not partition:
            return  # committed, but the partition was taken away meanwhile: its next owner reads it from the changelog
        store = app.table.data
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in stored:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(store.offset_key, str(last).encode())
        with written_or_put_aside(store, partition.number):
            store._db_for_partition(partition.number).write(batch)
        failpoint("after_store")
        for topic, position in checkpoint.positions.items():
            tp = TP(topic, partition.number)
            if tp in app.consumer.durable:
                app.consumer.durable[tp] = position.offset
        app.metrics.checkpoint(app.clock.monotonic() - started, len(checkpoint.keys))
        now_us = app.clock.now_us()
        for said in checkpoint.alerts:
            app.metrics.alert(said.kind, said.severity, None if said.received_us is None else (now_us - said.received_us) / 1e6)

    async def _send(
        self, number: int, checkpoint: Checkpoint, producer: "AIOKafkaProducer"
    ) -> tuple[list[tuple[bytes, bytes | None]], int]:
        """Send everything inside the open transaction; the changelog records, and the offset of the last of them."""
        names = self._app.names
        now_ms = int(self._app.clock.now_us() // 1000)
        stored: list[tuple[bytes, bytes | None]] = []
        last = -1
        states = {said.key: said.state for said in checkpoint.alerts}
        others: list[tuple[str, Sequence[Plain]]] = [
            (names.alerts, [(said.key, said.event) for said in checkpoint.alerts]),
            (names.alert_state, list(states.items())),
        ]
        for part in checkpoint.slices(SLICE_ACCOUNTS):
            stored += part.changelog
            sending: list[tuple[str, Sequence[Plain]]] = [(names.changelog, part.changelog), (names.scores, part.scores), *others]
            offset, *_ = await asyncio.gather(*(send(producer, topic, number, records, now_ms) for topic, records in sending if records))
            last = max(last, offset)
            others = []
        if checkpoint.dead_letters:
            letters = [(each.key, each.value, each.headers, each.timestamp_ms) for each in checkpoint.dead_letters]
            # They need not lie where their records lay, and the topic may have fewer partitions than the inputs.
            count = len(await producer.partitions_for(names.dead_letters))
            await send_whole(producer, names.dead_letters, number % count, letters, now_ms)
        if checkpoint.portfolio:
            count = len(await producer.partitions_for(names.portfolio))
            await send(producer, names.portfolio, number % count, checkpoint.portfolio, now_ms)
        return stored, last
