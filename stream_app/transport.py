"""Batches below Faust's conductor: one item for each topic partition and fetch, on a Faust channel for each input topic.

Faust's own path costs four asyncio tasks and an acknowledgement for each record. Here a fetch becomes one `PartitionBatch` on the
channel of its topic, and a plain Faust agent folds it. Positions are not kept from acknowledgements: the truth is the cursor in the
changelog (`stream_app.recovery` seeks to it), the group's committed offsets are a mirror of it for lag monitors.

What is overridden of faust-streaming 0.15.3 and aiokafka 0.14.0 is held by tests/contract/test_faust_members.py.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from models.decoding import Record
from stream_app.failpoints import failpoint

if TYPE_CHECKING:
    from stream_app.app import ChurnwatchApp

FETCH_TIMEOUT_SECONDS = 0.2
"""How long a fetch waits for records: a seek waits for it to end."""


class BareRecords(fetcher.PartitionRecords):
    """The records of a fetch as aiokafka's parser makes them, a record batch at a time.

    To look at each record here, or to wrap it in a `ConsumerRecord`, costs more than to read it.
    """

    _rest: Sequence[Any] = ()
    _rest_ends = 0

    def take(self, most: int) -> tuple[list[Any], bool]:
        """At most that many of the records that are left, in their order, and whether none is left after them."""
        taken: list[Any] = []
        while len(taken) < most:
            if not self._rest:
                following = next(self._records_iterator, None)
                if following is None:
                    return taken, True
                self._rest = following
            some = self._rest[: most - len(taken)]
            self._rest = self._rest[len(some) :]
            self.next_fetch_offset = some[-1].offset + 1 if self._rest else self._rest_ends
            taken += some
        return taken, False

    def _unpack_records(self) -> Iterator[list[Any]]:
        """The records of each record batch that was committed and holds any; the others only move the position."""
        self._rest_ends = self.next_fetch_offset
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            records = [] if self._is_skipped(batch) else list(batch)
            if records and records[0].offset < self._rest_ends:  # a fetch may begin within a batch
                records = [record for record in records if record.offset >= self._rest_ends]
            self._rest_ends = batch.next_offset
            if records:
                yield records
            else:
                self.next_fetch_offset = self._rest_ends

    def _is_skipped(self, batch: Any) -> bool:
        """Whether a batch is of an aborted transaction, or holds nothing but a transaction's mark."""
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)


class BareResult(fetcher.FetchResult):
    """What was fetched of a partition, handed out a list at a time."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        """At most that many records; the position moves behind them."""
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        records, is_last = self._partition_records.take(sys.maxsize if max_records is None else max_records)
        self._update_position()
        if is_last:
            self._partition_records = None
        return cast("list[Any]", records)


# The fetcher offers no other place to say so.
fetcher.PartitionRecords = BareRecords
fetcher.FetchResult = BareResult


@dataclass(eq=False, slots=True)
class PartitionBatch:
    """Records of one topic partition, in the order of the log.

    `start` is the offset that the fetch read from, `following` the offset to read next: between them lie the records and
    nothing else that is to be applied. `generation` and `epoch` say under which assignment and after which seek they were fetched.
    """

    tp: TP
    generation: int
    epoch: int
    start: int
    following: int
    records: list[Record]


class Fetched(NamedTuple):
    """What one fetch found: records by partition, where each was read from and goes on, and where the log ends."""

    records: dict[TP, list[Record]]
    starts: dict[TP, int]
    positions: dict[TP, int]
    ends: dict[TP, int]
    epoch: int


class Sought(NamedTuple):
    """Where a source partition was sought to, and where its log begins and ends."""

    offset: int
    begin: int
    end: int


class CursorOutsideLogError(Exception):
    """A cursor and its log contradict each other: one of them was shortened, or made anew."""


class BatchThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, with one fetch or one seek at a time, and committed transactions only."""

    epoch = 0

    def __post_init__(self) -> None:
        """Make the lock in which every fetch and every seek runs, and the positions that batches start from."""
        super().__post_init__()
        self._positions_lock: asyncio.Lock | None = None
        self._starts: dict[TP, int] = {}

    def _lock(self) -> asyncio.Lock:
        """The lock belongs to the loop of this thread, which is running when it is first asked for."""
        if self._positions_lock is None:
            self._positions_lock = asyncio.Lock()
        return self._positions_lock

    async def fetch(self, active: set[TP], max_records: int) -> Fetched:
        """Fetch what there is of the active partitions, at most `max_records` records."""
        return cast("Fetched", await self.call_thread(self._fetch, active, max_records))

    async def _fetch(self, active: set[TP], max_records: int) -> Fetched:
        async with self._lock():
            consumer = self._ensure_consumer()
            # An empty set would mean all partitions to aiokafka.
            if not active or not self.consumer.flow_active:
                return Fetched({}, {}, {}, {}, self.epoch)
            if consumer._closed or consumer._fetcher._closed:
                raise driver.ConsumerStoppedError
            with consumer._fetcher._subscriptions.fetch_context():
                found = await consumer._fetcher.fetched_records(active, timeout=FETCH_TIMEOUT_SECONDS, max_records=max_records)
            records, starts, positions, ends = {}, {}, {}, {}
            assignment = consumer._subscription.subscription.assignment
            for tp in active:
                state = assignment.state_value(TopicPartition(tp.topic, tp.partition))
                if state is not None and state.has_valid_position:
                    positions[tp] = state.position
                    ends[tp] = state.highwater if state.lso is None else state.lso
            for found_tp, batch in found.items():
                tp = ensure_TP(found_tp)
                records[tp] = batch
                starts[tp] = self._starts.get(tp, batch[0].offset)
                self._starts[tp] = positions[tp]
            return Fetched(records, starts, positions, {tp: end for tp, end in ends.items() if end is not None}, self.epoch)

    async def seek_sources(self, cursor: Mapping[TP, int], sources: Iterable[TP]) -> dict[TP, Sought]:
        """Seek each source to its cursor; without one to the beginning of its log.

        From here on a position that its log no longer holds is an error, and no reason to begin somewhere else. Raises
        CursorOutsideLogError for a cursor that its log does not reach, and where the group has read on but there is no cursor.
        """
        return cast("dict[TP, Sought]", await self.call_thread(self._seek_sources, cursor, list(sources)))

    async def _seek_sources(self, cursor: Mapping[TP, int], sources: list[TP]) -> dict[TP, Sought]:
        async with self._lock():
            consumer = self._ensure_consumer()
            tps = [TopicPartition(tp.topic, tp.partition) for tp in sources]
            begins = await consumer.beginning_offsets(tps)
            ends = await consumer.end_offsets(tps)
            sought = {}
            for tp, aiotp in zip(sources, tps, strict=True):
                begin, end = begins[aiotp], ends[aiotp]
                offset = cursor.get(tp)
                if offset is None:
                    # The group commits what the state has folded, and nothing else: with no state to go with it, that state is lost.
                    committed = await consumer.committed(aiotp)
                    if committed:
                        raise CursorOutsideLogError(
                            f"{tp.topic} partition {tp.partition} was folded up to offset {committed}, but of that no state is left"
                        )
                    offset = begin
                elif not begin <= offset <= end:
                    raise CursorOutsideLogError(
                        f"{tp.topic} partition {tp.partition} is folded up to offset {offset}, but its log holds {begin} to {end}"
                    )
                consumer._fetcher.seek_to(aiotp, offset)
                self._starts[tp] = offset
                sought[tp] = Sought(offset, begin, end)
            self.epoch += 1
            consumer._fetcher._default_reset_strategy = OffsetResetStrategy.NONE
            return sought

    def allow_resets(self) -> None:
        """Let positions be found anew, as they are in a new assignment before they are sought."""
        if self._consumer is not None:
            self._consumer._fetcher._default_reset_strategy = OffsetResetStrategy.EARLIEST

    async def _seek_wait(self, consumer: "driver.Consumer", partitions: Mapping[TP, int]) -> Any:
        async with self._lock():
            return await super()._seek_wait(consumer, partitions)

    async def probe(self, timeout_seconds: float) -> bool:
        """Whether the broker answers in time."""
        return bool(await self.call_thread(self._probe, timeout_seconds))

    async def _probe(self, timeout_seconds: float) -> bool:
        try:
            return bool(await asyncio.wait_for(self._ensure_consumer()._client.force_metadata_update(), timeout_seconds))
        except (KafkaError, TimeoutError, driver.ConsumerNotStarted):
            return False

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Mirror the cursors for lag monitors; the state does not depend on it, so a failure is only logged."""
        consumer = self._ensure_consumer()
        mine = self.assignment()
        mirrored = {TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(at, "") for tp, at in offsets.items() if tp in mine}
        if not mirrored:
            return False
        try:
            await consumer.commit(mirrored)
        except KafkaError as error:
            self.log.warning("Mirroring the cursor to the group's offsets failed: %r", error)
            return False
        return True

    def _create_worker_consumer(self, transport: Any) -> Any:
        settings = cast("ChurnwatchApp", self.app).settings
        was_in_transaction = self.consumer.in_transaction
        self.consumer.in_transaction = True  # what makes Faust read committed transactions only
        try:
            consumer = super()._create_worker_consumer(transport)
        finally:
            self.consumer.in_transaction = was_in_transaction
        # Faust hard-codes 1,500 ms. One fetch is in flight for each broker, so topics with nothing new would stall the busy ones.
        consumer._fetch_max_wait_ms = settings.fetch_max_wait_ms
        consumer._fetch_min_bytes = settings.fetch_min_bytes
        return consumer


class BatchConsumer(driver.Consumer):
    """Faust's consumer, delivering partition batches to the channels of `app.batches`."""

    app: "ChurnwatchApp"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.durable: dict[TP, int] = {}
        self.delivered: dict[TP, int] = {}
        self.folded: dict[TP, int] = {}
        self.ends: dict[TP, int] = {}
        self.epoch_wanted = 0
        self.begun: dict[TP, int] = {}
        self.room = asyncio.Event()
        self.resumed = asyncio.Event()

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def batch_thread(self) -> BatchThread:
        """The thread that talks to the broker."""
        return cast("BatchThread", self._thread)

    async def perform_seek(self) -> None:
        """Do nothing: Faust never moves positions behind our back, `seek_sources` alone does."""

    async def seek_sources(self, cursor: Mapping[TP, int]) -> None:
        """Seek every assigned input partition to its cursor; batches that were fetched before are refused from here on."""
        sources = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        self.epoch_wanted = self.batch_thread.epoch + 1
        generation = self.app.consumer_generation_id
        sought = await self.batch_thread.seek_sources(cursor, sources)
        if generation != self.app.consumer_generation_id:
            return
        self.durable = {tp: at.offset for tp, at in sought.items()}
        self.begun = {tp: at.offset for tp, at in sought.items() if tp not in cursor}
        self.delivered = dict(self.durable)
        self.folded = dict(self.durable)
        self.ends = {tp: at.end for tp, at in sought.items()}
        self._committed_offset.clear()

    def behind(self, partition: int) -> set[str]:
        """The input topics that have records of this partition which are not folded yet."""
        return {tp.topic for tp, end in self.ends.items() if tp.partition == partition and self.folded.get(tp, 0) < end}

    def lag(self, partition: int) -> int:
        """How many records of a partition are not folded yet, over all input topics."""
        return sum(max(0, end - position) for position, end in self.places(partition).values())

    def unwritten(self, partition: int) -> int:
        """How many records of a partition are folded and not committed yet, over all input topics."""
        return sum(position - self.durable.get(tp, position) for tp, position in self.folded.items() if tp.partition == partition)

    def places(self, partition: int) -> dict[str, tuple[int, int]]:
        """How far each input topic's partition is folded, and where it ends as far as the last fetch knew."""
        return {tp.topic: (self.folded.get(tp, 0), end) for tp, end in self.ends.items() if tp.partition == partition}

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Fetch from these partitions (again)."""
        super().resume_partitions(tps)
        self.resumed.set()

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self._drain_once()
        except asyncio.CancelledError:
            if self.app.should_stop or fetcher._stopped.is_set():
                return
            raise
        except Exception as error:  # noqa: BLE001 - crash-only: a fetcher that is restarted has lost what it had fetched
            if not self.app.should_stop:
                self.app.fail(error)

    async def _drain_once(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        self.resumed.clear()
        self.room.clear()
        active = {tp for tp in self._get_active_partitions() if self._is_changelog_tp(tp) or self.app.has_room(tp)}
        if not active:
            await self.wait_first(self.resumed.wait(), self.room.wait(), self.suspend_flow.wait())
            return
        generation = self.app.consumer_generation_id
        try:
            fetched = await self.batch_thread.fetch(active, self.app.settings.batch_records_max * 4)
        except self.consumer_stopped_errors:
            if self.app.should_stop:
                return
            raise
        if generation != self.app.consumer_generation_id or not self.flow_active:
            return  # a rebalance: positions are reset by the seek that ends it
        recovery = self.app.tables.recovery
        # A position is past what was fetched with it: where records came along, only applying them counts.
        recovery.note_positions({tp: at for tp, at in fetched.positions.items() if tp not in fetched.records})
        self._note_ends(fetched)
        for tp, records in fetched.records.items():
            if self._is_changelog_tp(tp):
                recovery.apply(tp, records)
                await asyncio.sleep(0)
            else:
                self._deliver(generation, tp, records, fetched)

    def _note_ends(self, fetched: Fetched) -> None:
        if fetched.epoch < self.epoch_wanted:
            return
        for tp, end in fetched.ends.items():
            if tp in self.ends:
                self.ends[tp] = end
                # Control records at the end are never delivered: with nothing delivered that is not folded, they are behind us.
                at = fetched.positions[tp]
                if tp not in fetched.records and self.folded[tp] >= self.delivered[tp]:
                    self.folded[tp] = max(self.folded[tp], at)

    def _deliver(self, generation: int, tp: TP, records: list[Any], fetched: Fetched) -> None:
        """Put the records on their topic's channel in batches; there is always room, or they would not have been fetched."""
        queue = self.app.batches.queue(tp.topic)
        size = self.app.settings.batch_records_max
        start = fetched.starts[tp]
        for first in range(0, len(records), size):
            some = records[first : first + size]
            is_last = first + size >= len(records)
            following = fetched.positions[tp] if is_last else some[-1].offset + 1
            self.delivered[tp] = following
            # Never `await queue.put()`: clearing the queue, as a rebalance does, cancels who waits in it and ends the fetcher.
            queue.put_nowait(PartitionBatch(tp, generation, fetched.epoch, start, following, some))
            start = following

    # -- the mirror of the cursor

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:  # noqa: ARG002 - Faust's signature
        # What nothing was folded of is not mirrored: committed offsets without a cursor mean that state was lost.
        return [tp for tp, offset in self.durable.items() if offset not in (self._committed_offset[tp], self.begun.get(tp))]

    def _new_offset(self, tp: TP) -> int | None:
        return self.durable.get(tp)

    async def wait_empty(self) -> None:
        """Write everything that is folded: what precedes a revoke and a shutdown. A fold awaits nothing, so none is half done."""
        await self.app.checkpoints.write_all()
        if self.app.should_stop:
            failpoint("in_shutdown")
        await self.commit_and_end_transactions()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Write everything, then forget where the partitions stood."""
        self.app.health_state.rebalancing(self.app.clock.monotonic())
        self.batch_thread.allow_resets()
        await super().on_partitions_revoked(revoked)
        failpoint("in_rebalance")
        self.room.set()
        for positions in (self.durable, self.delivered, self.folded, self.ends):
            positions.clear()


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the batch consumer."""

    Consumer = BatchConsumer


class Batches:
    """A Faust channel for each input topic, on which its batches come; little is left to wait there, because it is whole batches."""

    SIZE = 8
    """Batches that may wait on a channel before no more of its topic are fetched."""

    def __init__(self, app: "ChurnwatchApp", topics: Iterable[str]) -> None:
        self.channels = {topic: app.channel() for topic in topics}

    def has_room(self, topic: str) -> bool:
        """Whether more of a topic may be fetched."""
        return self.queue(topic).qsize() < self.SIZE

    def queue(self, topic: str) -> asyncio.Queue[Any]:
        """The queue that the one agent of a topic reads."""
        (subscriber,) = self.channels[topic]._subscribers
        return cast("asyncio.Queue[Any]", subscriber.queue)
