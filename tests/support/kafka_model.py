"""Kafka in memory, and workers on it that run the product's own code: no socket, no disk, no clock, every step taken on demand.

Modelled are the broker (a log for each partition, transactions with producer epochs and fencing, readers that see committed records only,
compaction), the group (assignments by generation), what Faust's app does around a rebalance, and a local store that loses what a killed
process had not logged. Everything else is the product: the fetch and delivery of `stream_app.transport`, the agents, `receive`, `advance`
and `tick` of the app, `Checkpoints`, `Producers`, Faust's recovery with ours on top, and `Partition` with all that it folds.

A worker can be told to end, to stand still, or to meet a broker that does not answer, at each point that it passes on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_left
from collections import Counter, defaultdict
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError, ProducerFenced
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.queues import FlowControlEvent, FlowControlQueue
from prometheus_client import CollectorRegistry

from models.input_topics import FOLDED_TOPICS
from stream_app import agents
from stream_app.admin import Decision
from stream_app.app import ChurnwatchApp, Names
from stream_app.breaker import Limits
from stream_app.checkpoints import Checkpoints
from stream_app.health import HealthState
from stream_app.metrics import Metrics
from stream_app.pipeline import CURSOR_KEY
from stream_app.producers import Producers
from stream_app.recovery import BatchRecovery
from stream_app.topics import Log
from stream_app.transport import BatchConsumer, Batches, BatchThread
from stream_app.unfinished import UNFINISHED_KEY
from tests.support.memory_worker import LATER_US, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator

    from stream_app.pipeline import Definition

PARTITIONS: Final = 2
NAMES: Final = Names("changelog", "health-scores", "churn-alerts", "alert-state", "dead-letters", "portfolio-metrics")
SPINS_MAX: Final = 20_000
"""Turns of the loop after which something that neither ends nor stands still is stuck."""

SPINS_OF_A_HELD_WORKER: Final = 500
"""Turns of the loop that a worker has for everything else while it waits for an answer that does not come."""

CRASH_POINTS: Final = ("after_fold", "in_transaction", "after_commit", "after_store")
"""The failpoints of a checkpoint: see `stream_app.failpoints`."""

BROKER_POINTS: Final = ("begin", "send", "commit", "committed", "fence", "fenced", "highwaters", "fetched", "sought")
"""Where a worker talks to the broker: it can stand still there, or hear nothing."""

_CHANGELOG_KEY: Final = b"\0changelog"
_METRICS: Final = Metrics(CollectorRegistry())
_CURRENT: ContextVar[Worker] = ContextVar("worker")


class Died(BaseException):
    """The process has ended here; no `except Exception` of the product may hold it up."""


class UnansweredError(KafkaTimeoutError):  # type: ignore[misc] # aiokafka has no types here
    """A broker that was told not to answer: what a test has asked for."""


# -- the broker


@dataclass(slots=True, eq=False)
class Transaction:
    """What one producer has written between begin and end."""

    state: str = "open"
    places: set[TP] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a log as a consumer gets it, and what decides whether it does."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()
    transaction: Transaction | None = None
    is_marker: bool = False

    @property
    def is_committed(self) -> bool:
        """Whether a reader of committed records ever sees it."""
        return not self.is_marker and (self.transaction is None or self.transaction.state == "committed")


class PartitionLog:
    """The log of one partition; compaction leaves holes between its offsets."""

    def __init__(self) -> None:
        """Begin empty."""
        self.entries: list[Entry] = []
        self.end = 0

    def append(self, key: bytes | None, value: bytes | None, timestamp: int, **members: Any) -> int:
        """Add a record, and return its offset."""
        self.entries.append(Entry(self.end, key, value, timestamp, **members))
        self.end += 1
        return self.end - 1

    def stable(self) -> int:
        """Return the offset before which everything is decided: that of the first record of an open transaction, or the end."""
        for entry in self.entries:
            if entry.transaction is not None and entry.transaction.state == "open":
                return entry.offset
        return self.end

    def committed(self, start: int = 0) -> list[Entry]:
        """Return what a reader of committed records sees from an offset on."""
        stable = self.stable()
        first = bisect_left(self.entries, start, key=lambda entry: entry.offset)
        return [entry for entry in self.entries[first:] if entry.offset < stable and entry.is_committed]

    def compact(self) -> None:
        """Keep the latest committed record of each key, and what is not decided yet."""
        stable = self.stable()
        latest = {entry.key: entry.offset for entry in self.committed()}
        self.entries = [
            entry for entry in self.entries if entry.offset >= stable or (entry.is_committed and latest[entry.key] == entry.offset)
        ]


class Broker:
    """All logs, the producers' epochs, and the offsets that the group has committed."""

    def __init__(self) -> None:
        """Begin with empty topics."""
        self.logs: defaultdict[TP, PartitionLog] = defaultdict(PartitionLog)
        self.offsets: dict[TP, int] = {}
        self.cursors: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        """Every cursor that was ever committed, with its offset, also those that compaction has removed."""
        self.commits = 0
        self.forgets: frozenset[str] = frozenset()
        """The topics in which the next commit is not marked: the broker is killed then, and starts with that hole of Kafka's."""
        self.producers: list[ModelProducer] = []
        self._epochs: Counter[str] = Counter()
        self._open: dict[str, Transaction] = {}
        self._decided: dict[str, bool] = {}
        self.lost_decisions: set[str] = set()
        """The transactional ids of which something hangs, and nobody but who has just asked knows how it was decided."""
        self._hanging: defaultdict[str, dict[TP, Transaction]] = defaultdict(dict)

    def start_producer(self, identity: str) -> int:
        """Return a new epoch: whoever had the one before is fenced, and what it left open is aborted."""
        self._epochs[identity] += identity in self._open  # to end it takes an epoch of its own
        self._end(identity, "aborted")
        self._decided.pop(identity, None)
        if self._hanging[identity]:
            self.lost_decisions.add(identity)
        self._epochs[identity] += 1
        return self._epochs[identity]

    def append(self, identity: str, epoch: int, tp: TP, records: Iterable[tuple[bytes | None, bytes | None, int, Any]]) -> int:
        """Write records in the producer's transaction, and return the offset of the first; raises ProducerFenced."""
        self._check(identity, epoch)
        transaction = self._open.setdefault(identity, Transaction())
        transaction.places.add(tp)
        log = self.logs[tp]
        first = log.end
        for key, value, timestamp, headers in records:
            log.append(key, value, timestamp, headers=tuple(headers), transaction=transaction)
        return first

    def end(self, identity: str, epoch: int, state: str, touched: Iterable[TP]) -> None:
        """Make the producer's transaction visible, or undo it, with marks also in what it has only touched; raises ProducerFenced.

        That a transaction touches places and that it is ended are two requests, and one step here.
        """
        self._check(identity, epoch)
        places = set(touched)
        if places:
            self._open.setdefault(identity, Transaction()).places.update(places)
        self._end(identity, state)

    def decision(self, identity: str) -> Decision:
        """Return how the last transaction of a transactional id was decided."""
        is_open = identity in self._open
        return Decision(False if is_open else self._decided.get(identity), self._epochs[identity], is_open)

    def undecided(self, places: Iterable[TP]) -> dict[TP, int]:
        """Return where readers stop in these places, without those that can be read to the end."""
        return {place: self.logs[place].stable() for place in places if self.logs[place].stable() < self.logs[place].end}

    def _check(self, identity: str, epoch: int) -> None:
        if epoch != self._epochs[identity]:
            raise ProducerFenced

    def _end(self, identity: str, state: str) -> None:
        transaction = self._open.pop(identity, None)
        if transaction is None:
            return
        self._decided[identity] = state == "committed"
        transaction.state = state
        forgotten = self.forgets if state == "committed" else frozenset()
        for tp in sorted(transaction.places):
            if tp.topic in forgotten:
                self._leave_hanging(identity, tp, transaction)
            else:
                self._mark(identity, tp, transaction)
        self.commits += state == "committed"
        if forgotten:
            self.forgets = frozenset()
            for producer in self.producers:
                producer.client._on_connection_closed(None, None)

    def _leave_hanging(self, identity: str, tp: TP, transaction: Transaction) -> None:
        hanging = self._hanging[identity].setdefault(tp, Transaction())
        log = self.logs[tp]
        log.entries = [replace(entry, transaction=hanging) if entry.transaction is transaction else entry for entry in log.entries]

    def _mark(self, identity: str, tp: TP, transaction: Transaction) -> None:
        """End a transaction in a place, and with it what hangs there."""
        log, hanging = self.logs[tp], self._hanging[identity].pop(tp, None)
        if hanging is not None:
            hanging.state = transaction.state
            if not self._hanging[identity]:
                self.lost_decisions.discard(identity)
        if transaction.state == "committed" and tp.topic == NAMES.changelog:
            self.cursors[tp.partition] += [
                (entry.offset, entry.value or b"")
                for entry in log.entries
                if entry.transaction is not None and entry.transaction in (transaction, hanging) and entry.key == CURSOR_KEY
            ]
        log.append(None, None, 0, transaction=transaction, is_marker=True)


# -- what a worker talks to


class ModelBatch:
    """Records on their way to the broker, as aiokafka's batch builder collects them."""

    RECORDS_MAX = 5
    """Small, so that a checkpoint takes several."""

    def __init__(self) -> None:
        """Begin empty."""
        self.records: list[tuple[bytes | None, bytes | None, int, Any]] = []
        self._builder = SimpleNamespace(append=self._append)
        self._relative_offset = 0

    def _append(self, _offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: Any) -> object | None:
        return self.append(timestamp=timestamp, key=key, value=value, headers=headers)

    def append(self, *, timestamp: int, key: bytes | None, value: bytes | None, headers: Any = ()) -> object | None:
        """Take a record; None when there is no room."""
        if len(self.records) == self.RECORDS_MAX:
            return None
        self.records.append((key, value, timestamp, headers))
        return self

    def close(self) -> None:
        """Nothing can be appended any more."""


class ModelProducer:
    """A transactional producer, in the members of aiokafka's that `stream_app.producers` and the checkpoints use."""

    def __init__(self, *, worker: Worker, transactional_id: str, **_: Any) -> None:
        """`worker` comes in place of a connection."""
        self._worker = worker
        self._broker = worker.cluster.broker
        self._identity = transactional_id
        self._epoch = 0
        self._touched: set[TP] = set()
        self._txn_manager = SimpleNamespace(maybe_add_partition_to_txn=lambda place: self._touched.add(TP(*place)), producer_epoch=0)
        self.client = SimpleNamespace(_on_connection_closed=lambda _connection, _reason: None)
        self._broker.producers.append(self)

    async def start(self) -> None:
        """Fence whoever had the transactional id before."""
        await self._worker.reach("fence")
        self._epoch = self._txn_manager.producer_epoch = self._broker.start_producer(self._identity)
        await self._worker.reach("fenced")

    async def stop(self) -> None:
        """Leave what is open as it is."""
        if self in self._broker.producers:
            self._broker.producers.remove(self)

    def create_batch(self) -> ModelBatch:
        """Return an empty batch."""
        return ModelBatch()

    async def begin_transaction(self) -> None:
        """Begin, which the broker does not hear of before the first record."""
        await self._worker.reach("begin")

    async def send_batch(self, batch: ModelBatch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        """Write a batch, and return where it is."""
        await self._worker.reach("send")
        first = self._broker.append(self._identity, self._epoch, TP(topic, partition), batch.records)
        written: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        written.set_result(SimpleNamespace(offset=first))
        return written

    async def commit_transaction(self) -> None:
        """Commit."""
        await self._end("committed")

    async def abort_transaction(self) -> None:
        """Abort."""
        await self._end("aborted")

    async def _end(self, state: str) -> None:
        await self._worker.reach("commit")
        self._broker.end(self._identity, self._epoch, state, self._touched)
        self._touched.clear()
        await self._worker.reach("committed")

    async def partitions_for(self, _topic: str) -> set[int]:
        """Return the partitions of a topic."""
        return set(range(PARTITIONS))


class WriteBatch:
    """What is written to a local store at once."""

    def __init__(self, *, raw_mode: bool) -> None:
        """Begin empty."""
        assert raw_mode
        self.writes: list[tuple[bytes, bytes | None]] = []

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.writes.append((key, value))

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        self.writes.append((key, None))


class Database:
    """The local store of one partition: what was written without its log is lost with the process, unless it was flushed."""

    def __init__(self) -> None:
        """Begin empty."""
        self._flushed: dict[bytes, bytes] = {}
        self._logged: list[tuple[bytes, bytes | None]] = []
        self._memory: dict[bytes, bytes] = {}

    def write(self, batch: WriteBatch, options: Any = None) -> None:
        """Write a batch as a whole."""
        self._apply(self._memory, batch.writes)
        if options is None or not options.disable_wal:
            self._logged += batch.writes

    def flush(self) -> None:
        """Put everything where it survives."""
        self._flushed, self._logged = dict(self._memory), []

    def kill(self) -> None:
        """Come back as after the process was killed."""
        self._memory = dict(self._flushed)
        self._apply(self._memory, self._logged)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        return self._memory.get(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Return everything in the order of the keys."""
        return iter(sorted(self._memory.items()))

    @staticmethod
    def _apply(memory: dict[bytes, bytes], writes: Iterable[tuple[bytes, bytes | None]]) -> None:
        for key, value in writes:
            if value is None:
                memory.pop(key, None)
            else:
                memory[key] = value


class ModelStore:
    """Faust's store of a table: a database for each partition on the worker's disk."""

    offset_key = b"__faust\0offset__"

    def __init__(self, worker: Worker) -> None:
        """Begin with what the disk holds."""
        self._worker = worker

    def _db_for_partition(self, number: int) -> Database:
        self._worker.check()
        return self._worker.disk[number]

    def put_aside(self, number: int, why: str) -> None:
        """Fail: nothing ever damages a store of the model."""
        raise AssertionError(f"the store of partition {number} was put aside: {why}")

    def changelog_id(self, number: int) -> str | None:
        """Return of which changelog the store is a copy."""
        stored = self._db_for_partition(number).get(_CHANGELOG_KEY)
        return None if stored is None else stored.decode()

    def note_changelog(self, number: int, topic_id: str) -> None:
        """Write down of which changelog the store is a copy."""
        batch = WriteBatch(raw_mode=True)
        batch.put(_CHANGELOG_KEY, topic_id.encode())
        self._db_for_partition(number).write(batch)

    def items_of(self, number: int) -> Iterator[tuple[bytes, bytes]]:
        """Return every record of an account."""
        private = (CURSOR_KEY, _CHANGELOG_KEY, self.offset_key)
        return ((key, value) for key, value in self._db_for_partition(number).items() if key not in private)

    def cursor_of(self, number: int) -> bytes | None:
        """Return the stored cursor."""
        return self._db_for_partition(number).get(CURSOR_KEY)

    def mark_of(self, number: int) -> bytes | None:
        """Return the mark that the state is not whole, if there is one."""
        return self._db_for_partition(number).get(UNFINISHED_KEY)


class ModelTable:
    """Faust's table, as far as a recovery asks it."""

    recovery_buffer_size = 1000

    def __init__(self, store: ModelStore) -> None:
        """Keep everything in the store."""
        self.data = store

    def persisted_offset(self, tp: TP) -> int | None:
        """Return how far the local store is."""
        stored = self.data._db_for_partition(tp.partition).get(self.data.offset_key)
        return None if stored is None else int(stored)

    def apply_changelog_batch(self, batch: list[Any]) -> None:
        """Do nothing: Faust's own buffers stay empty."""
        assert not batch

    async def on_recovery_completed(self, active: set[TP], standby: set[TP]) -> None:
        """Do nothing."""


class ModelTables:
    """Faust's table manager, as far as the consumer and the recovery ask it."""

    standbys_ready = True
    changelog_topics = frozenset({NAMES.changelog})

    def __init__(self, table: ModelTable) -> None:
        """Manage one table."""
        self._changelogs = {NAMES.changelog: table}
        self.recovery: Any = None

    def values(self) -> list[ModelTable]:
        """Return the one table."""
        return list(self._changelogs.values())

    def on_actives_ready(self) -> None:
        """Do nothing."""

    def on_standbys_ready(self) -> None:
        """Do nothing."""


class ModelKafkaConsumer:
    """aiokafka's consumer in the members that `BatchThread` reaches into; positions move as records are fetched."""

    _closed = False

    def __init__(self, worker: Worker) -> None:
        """Begin with nothing assigned."""
        self._broker = worker.cluster.broker
        self.positions: dict[TopicPartition, int] = {}
        self.records_max = 10
        self._fetcher: Any = SimpleNamespace(
            _closed=False,
            _default_reset_strategy=None,
            _subscriptions=SimpleNamespace(fetch_context=contextlib.nullcontext),
            fetched_records=self._fetched_records,
            seek_to=self.positions.__setitem__,
        )
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=SimpleNamespace(state_value=self._state)))

    def assign(self, tps: Iterable[TP]) -> None:
        """Take an assignment over: positions are the committed ones, or the beginning."""
        self.positions.clear()
        self.positions.update({TopicPartition(*tp): self._broker.offsets.get(tp, 0) for tp in tps})

    def _state(self, tp: TopicPartition) -> Any:
        if tp not in self.positions:
            return None
        log = self._broker.logs[TP(*tp)]
        return SimpleNamespace(has_valid_position=True, position=self.positions[tp], highwater=log.end, lso=log.stable())

    async def _fetched_records(self, active: set[TP], *, timeout: float, max_records: int) -> dict[TopicPartition, list[Entry]]:  # noqa: ARG002, ASYNC109 - aiokafka's signature
        found = {}
        left = min(max_records, self.records_max)
        for tp in sorted(active):
            log, place = self._broker.logs[tp], TopicPartition(*tp)
            records = log.committed(self.positions[place])
            some = records[:left]
            left -= len(some)
            if some:
                found[place] = some
            if len(some) == len(records):  # markers and aborted records behind the last one are passed over
                self.positions[place] = max(self.positions[place], log.stable())
            elif some:
                self.positions[place] = some[-1].offset + 1
        return found

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where logs begin."""
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where logs end for a reader of committed records."""
        return {tp: self._broker.logs[TP(*tp)].stable() for tp in tps}

    async def committed(self, tp: TopicPartition) -> int | None:
        """Return what the group has committed."""
        return self._broker.offsets.get(TP(*tp))


class ModelThread(BatchThread):
    """The consumer's thread with no thread: its fetches and seeks are the product's, on the model's consumer."""

    def __init__(self, worker: Worker, consumer: ModelConsumer) -> None:
        """Take the place of Faust's constructor."""
        self._worker = worker
        self.consumer = consumer
        self.kafka = self._consumer = ModelKafkaConsumer(worker)
        self._positions_lock = None
        self._starts = {}

    async def call_thread(self, fun: Callable[..., Any], *args: Any) -> Any:
        """Run a coroutine function, and be slow to hand over what it found."""
        found = await fun(*args)
        await self._worker.reach("sought" if fun == self._seek_sources else "fetched")
        return found

    def _ensure_consumer(self) -> Any:
        return self.kafka


class FaustSide(driver.Consumer):  # type: ignore[misc] # Faust has no types here
    """What Faust's consumer and app do when partitions are taken away: flow stops, queues are cleared, then `wait_empty`."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Follow `faust.App._on_partitions_revoked`."""
        self._active_partitions.difference_update(revoked)
        self._paused_partitions.difference_update(revoked)
        if self.assignment():
            self.stop_flow()
            self.app.flow_control.suspend()
            self.pause_partitions(self.assignment())
            self.app.flow_control.clear()
            await self.wait_empty()


class ModelConsumer(BatchConsumer, FaustSide):
    """The product's consumer on the model's broker."""

    app: Any

    def __init__(self, worker: Worker) -> None:
        """Take the place of Faust's constructor."""
        self.app = worker.app
        self._worker = worker
        self.durable, self.delivered, self.folded, self.ends = {}, {}, {}, {}
        self.begun: dict[TP, int] = {}
        self.epoch_wanted = 0
        self.room, self.resumed = asyncio.Event(), asyncio.Event()
        self.can_resume_flow, self.suspend_flow = asyncio.Event(), asyncio.Event()
        self.flow_active = True
        self._active_partitions: set[TP] = set()
        self._paused_partitions: set[TP] = set()
        self._committed_offset: defaultdict[TP, int | None] = defaultdict(lambda: None)
        self._thread = ModelThread(worker, self)

    def assignment(self) -> set[TP]:
        """Return what the group has assigned, changelogs too."""
        return {TP(*tp) for tp in self._thread.kafka.positions}

    async def commit_and_end_transactions(self) -> None:
        """Mirror the cursors to the group's offsets."""
        self._worker.check()
        for tp in self._filter_tps_with_pending_acks():
            self._committed_offset[tp] = self._worker.cluster.broker.offsets[tp] = self.durable[tp]

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        """Return where changelogs end."""
        await self._worker.reach("highwaters")
        return {tp: self._worker.cluster.broker.logs[tp].stable() for tp in tps}

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        """Return where changelogs begin."""
        return dict.fromkeys(tps, 0)

    async def seek_wait(self, partitions: dict[TP, int]) -> None:
        """Seek changelogs."""
        async with self._thread._lock():
            for tp, offset in partitions.items():
                self._thread.kafka.positions[TopicPartition(*tp)] = offset
                self._thread._starts.pop(tp, None)


class ModelRecovery(BatchRecovery):
    """The product's recovery on top of Faust's own; only its tables of offsets for the log are left out."""

    def _highwater_logtable(self, *_: Any, **__: Any) -> str:
        return ""

    def _start_offsets_logtable(self, *_: Any, **__: Any) -> str:
        return ""


class ModelCheckpoints(Checkpoints):
    """The product's checkpoints, which come when they are asked for."""

    def kick(self, number: int) -> None:
        """Start none: whoever drives the model says when."""


class ModelBatches:
    """A queue for each input topic, cleared by Faust's flow control as its own are."""

    SIZE = Batches.SIZE
    has_room: Any = Batches.has_room

    def __init__(self, flow_control: FlowControlEvent) -> None:
        """Begin empty."""
        self._queues = {topic: FlowControlQueue(flow_control=flow_control, clear_on_resume=True) for topic in FOLDED_TOPICS}

    def queue(self, topic: str) -> Any:
        """Return the queue that the agent of a topic reads."""
        return self._queues[topic]


async def _nothing(*_: Any) -> None:
    pass


async def _some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def _inline(_: object, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


class ModelApp:
    """What the stream path shares of the app; its methods are the product's."""

    receive: Any = ChurnwatchApp.receive
    advance: Any = ChurnwatchApp.advance
    tick: Any = ChurnwatchApp.tick
    has_room: Any = ChurnwatchApp.has_room
    own: Any = ChurnwatchApp.own
    disown: Any = ChurnwatchApp.disown
    _fold_next: Any = ChurnwatchApp._fold_next
    _stop_partition: Any = ChurnwatchApp._stop_partition
    _keep_books: Any = ChurnwatchApp._keep_books

    is_serving = False
    unreturned = 0
    should_stop = False
    in_recovery = False
    tracer = None
    _rebalancing_span = None
    _producer = None
    consumer_generation_id = -1
    names = NAMES
    metrics = _METRICS
    log = logging.getLogger("model")

    def __init__(self, worker: Worker) -> None:
        """Put a worker together as `create_app` does."""
        self._worker = worker
        self.definition = worker.cluster.definition
        self.clock = worker.cluster
        self.settings = SimpleNamespace(dirty_rows_max=worker.cluster.dirty_rows_max, batch_records_max=worker.cluster.batch_records_max)
        self.conf = SimpleNamespace(
            stream_recovery_delay=0.0, store="rocksdb://", broker_request_timeout=3_600.0, recovery_consistency_check=True
        )
        self.loop = SimpleNamespace(run_in_executor=_inline)
        self.health_state = HealthState(0.0)
        self.partitions: dict[int, Any] = {}
        self.lineups: dict[int, Any] = {}
        self.breakers: dict[int, Any] = {}
        self.stopped: dict[int, str] = {}
        self.published_at: dict[int, float] = {}
        self.logs = {
            topic: SimpleNamespace(topic_id=f"id of {topic}", partitions=PARTITIONS) for topic in (*FOLDED_TOPICS, NAMES.changelog)
        }
        self.breaker_limits = Limits(consecutive=1_000_000, ratio=1.0, minimum=1_000_000)
        self.turn = asyncio.Lock()
        self.flow_control = FlowControlEvent()
        self.batches = ModelBatches(self.flow_control)
        self.on_rebalance_complete = SimpleNamespace(send=_nothing)
        self._fetcher = SimpleNamespace(maybe_start=_some_turns)
        self.table = ModelTable(ModelStore(worker))
        self.tables = ModelTables(self.table)
        self.assignor = SimpleNamespace(assigned_actives=lambda: worker.changelogs, assigned_standbys=set)
        self.producers = Producers("model", {"worker": worker, "bootstrap_servers": []}, NAMES.outputs)
        self.checkpoints = ModelCheckpoints(self)  # type: ignore[arg-type]
        self.consumer: Any = None

    async def inspect_logs(self) -> None:
        """Find the topics that there always were."""

    def on_rebalance_end(self) -> None:
        """Do nothing."""

    def fail(self, error: BaseException) -> None:
        """End the process."""
        self._worker.die(error)


# -- the worker and the cluster


@dataclass
class Arm:
    """What happens to a worker when it passes a point for the n-th time.

    `crash`: it is killed. `freeze`: it stands still. `fail`: the broker does not answer. `hold`: the answer takes long, and whatever else
    the worker does goes on meanwhile.
    """

    point: str
    nth: int
    action: str


class Worker:
    """One process at a time, and the disk that outlives it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """Begin with an empty disk and no process."""
        self.cluster = cluster
        self.name = name
        self.disk: defaultdict[int, Database] = defaultdict(Database)
        self.is_alive = False
        self.is_frozen = False
        self.is_held = False
        self.generation = -1
        self.changelogs: set[TP] = set()
        self.armed: Arm | None = None
        self.app: Any = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._thawed, self._released = asyncio.Event(), asyncio.Event()
        self._recovery: asyncio.Task[Any] | None = None

    # -- where things happen to it

    def check(self) -> None:
        """End whatever goes on after the process has ended."""
        if not self.is_alive:
            raise Died

    def cross(self, point: str) -> None:
        """Pass a point at which nothing is awaited."""
        self.check()
        if self._is_due(point) == "crash":
            self.die(None)

    async def reach(self, point: str) -> None:
        """Pass a point at which the broker is talked to; raises UnansweredError when it was told to say nothing."""
        self.check()
        action = self._is_due(point)
        if action == "crash":
            self.die(None)
        if action == "fail":
            raise UnansweredError
        if action == "freeze":
            self.is_frozen = True
            self._thawed.clear()
        if action == "hold":
            self.is_held = True
            self._released.clear()
            await self._released.wait()
        while self.is_frozen:
            await self._thawed.wait()
        self.check()

    def _is_due(self, point: str) -> str | None:
        armed = self.armed
        if armed is None or armed.point != point:
            return None
        armed.nth -= 1
        if armed.nth:
            return None
        self.armed = None
        return armed.action

    def die(self, error: BaseException | None) -> None:
        """End the process, and say why; None when it was killed."""
        if self.is_alive:
            self.is_alive = self.is_frozen = self.is_held = False
            self.cluster.deaths.append((self.name, error))
        raise Died

    # -- what it does

    async def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let it do something until that is done, or it stands still, or it ends."""
        token = _CURRENT.set(self)
        try:
            task = asyncio.ensure_future(work)
        finally:
            _CURRENT.reset(token)
        self._tasks.append(task)
        await self._wait(task)

    async def _wait(self, task: asyncio.Task[Any]) -> None:
        for spin in range(SPINS_MAX):
            if task.done() or self.is_frozen or not self.is_alive or (self.is_held and spin > SPINS_OF_A_HELD_WORKER):
                break
            if self._recovery is not None and self._recovery.done() and self.is_alive:
                self._end_with_recovery(self._recovery)
                break
            await asyncio.sleep(0)
        else:
            raise AssertionError(f"{self.name} is stuck in {task.get_coro()}")
        if not self.is_alive:
            await self._bury()
        elif task.done():
            self._tasks.remove(task)
            task.result()

    def _end_with_recovery(self, recovery: asyncio.Task[Any]) -> None:
        """End the process as Faust does when one of its services has crashed."""
        try:
            recovery.result()
        except KafkaError as error:
            with contextlib.suppress(Died):
                self.die(error)

    async def _bury(self) -> None:
        """Take away what was left of the process: the local store keeps what was logged."""
        tasks = [*self._tasks, *([self._recovery] if self._recovery else [])]
        self._tasks, self._recovery = [], None
        for task in tasks:
            task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(found, BaseException) and not isinstance(found, Died | asyncio.CancelledError | KafkaError):
                raise found
        for database in self.disk.values():
            database.kill()
        self.changelogs, self.generation = set(), -1

    async def start(self) -> None:
        """Start a new process on the disk."""
        self.is_alive, self.armed = True, None
        self.app = ModelApp(self)
        self.app.consumer = ModelConsumer(self)
        recovery = ModelRecovery(self.app, self.app.tables)
        self.app.tables.recovery = recovery
        token = _CURRENT.set(self)
        self._recovery = asyncio.ensure_future(recovery._restart_recovery(recovery))
        _CURRENT.reset(token)
        await asyncio.sleep(0)

    async def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(Died):
            self.die(None)
        await self._bury()

    async def thaw(self) -> None:
        """Let it go on where it stood still."""
        self.is_frozen = False
        self._thawed.set()
        for task in list(self._tasks):
            if self.is_alive and not self.is_frozen:
                await self._wait(task)

    async def release(self) -> None:
        """Let the answer that was held arrive."""
        self.is_held = False
        self._released.set()
        for task in list(self._tasks):
            if self.is_alive and not self.is_frozen and not self.is_held:
                await self._wait(task)

    async def revoke(self) -> None:
        """Give its partitions up: everything that is folded is written first."""
        await self.run(self.app.consumer.on_partitions_revoked(set(self.app.consumer.assignment())))

    async def assign(self, generation: int, numbers: Iterable[int]) -> None:
        """Take partitions over, and recover them."""
        self.generation = generation
        await self.run(self._assign(generation, set(numbers)))
        if self.is_alive and not self.is_frozen:
            await self.run(self._until_serving())

    async def _assign(self, generation: int, numbers: set[int]) -> None:
        app, consumer = self.app, self.app.consumer
        app.consumer_generation_id = generation
        before = consumer.assignment()
        self.changelogs = {TP(NAMES.changelog, number) for number in numbers}
        assigned = self.changelogs | {TP(topic, number) for topic in FOLDED_TOPICS for number in numbers}
        consumer._thread.kafka.assign(assigned)
        consumer._paused_partitions.intersection_update(assigned)
        consumer._set_active_tps(assigned)
        consumer.pause_partitions(assigned)
        await app.tables.recovery.on_rebalance(assigned, before - assigned, assigned - before, generation)

    async def _until_serving(self) -> None:
        while not self.app.is_serving:
            await self._drain_once()
            await asyncio.sleep(0)
        await self._drain_once()  # the fetcher does not wait for the last step of a recovery
        for _ in range(50):
            await asyncio.sleep(0)

    @property
    def can_work(self) -> bool:
        """Whether it reads inputs now."""
        return self.is_alive and not self.is_frozen and not self.is_held and self.app.is_serving

    async def fetch(self, records_max: int = 1_000) -> None:
        """Fetch once, and put what was found on the agents' queues."""
        self.app.consumer._thread.kafka.records_max = records_max
        await self.run(self._drain_once())

    async def _drain_once(self) -> None:
        consumer = self.app.consumer
        if consumer.flow_active and any(consumer._is_changelog_tp(tp) or self.app.has_room(tp) for tp in consumer._get_active_partitions()):
            try:
                await consumer._drain_once()
            except Exception as error:  # noqa: BLE001 - as in `_drain_messages`, which goes round for ever
                self.app.fail(error)

    async def fold(self, topic: str) -> None:
        """Let the agent of a topic take the next batch from its queue."""
        queue = self.app.batches.queue(topic)
        if not queue.empty():
            await self.run(agents._agent(self.app)(_only(queue.get_nowait())))

    async def tick(self) -> None:
        """Let time pass for accounts that nothing comes from."""
        await self.run(agents._tick(self.app)())

    async def checkpoint(self) -> None:
        """Write everything that is folded, and mirror the cursors."""
        await self.run(self._checkpoint())

    async def _checkpoint(self) -> None:
        await self.app.checkpoints.write_all()
        await self.app.consumer.commit_and_end_transactions()

    def is_behind(self) -> bool:
        """Whether there is anything that it has not folded."""
        return any(self.app.consumer.lag(number) for number in self.app.partitions)


async def _only(item: Any) -> AsyncIterator[Any]:
    yield item


class Cluster:
    """A broker, a group of workers, and the time."""

    def __init__(self, workers: int = 3, batch_records_max: int = 4, dirty_rows_max: int = 1_000) -> None:
        """Begin with nobody started; an event loop must be running."""
        self.broker = Broker()
        self.definition: Definition = definition()
        self.batch_records_max = batch_records_max
        self.dirty_rows_max = dirty_rows_max
        self.now = LATER_US
        self.generation = 0
        self.deaths: list[tuple[str, BaseException | None]] = []
        self.workers = [Worker(self, f"worker-{number}") for number in range(workers)]

    # -- the clock of everybody

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z."""
        return self.now

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return self.now / 1e6

    # -- the inputs

    def produce(
        self,
        number: int,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: tuple[tuple[str, bytes], ...] = (),
        is_aborted: bool = False,
    ) -> None:
        """Append a record to an input; an aborted one leaves a hole that no reader sees."""
        log = self.broker.logs[TP(topic, number)]
        transaction = Transaction("aborted") if is_aborted else None
        log.append(key, value, self.now // 1000, headers=headers, transaction=transaction)
        if is_aborted:
            log.append(None, None, 0, transaction=transaction, is_marker=True)

    def compact(self, number: int) -> None:
        """Compact a partition of the changelog."""
        self.broker.logs[TP(NAMES.changelog, number)].compact()

    # -- the group

    async def stop(self) -> None:
        """Kill whoever is left."""
        for worker in self.workers:
            if worker.is_alive:
                await worker.kill()

    async def rebalance(self, wanted: Iterable[int]) -> None:
        """Share the partitions out among the workers of these numbers that answer; one that has ended is started again.

        A worker that stands still does not take part and does not hear of it: it becomes a zombie.
        """
        chosen = {self.workers[number] for number in wanted}
        for worker in self.workers:
            if worker.is_alive and not worker.is_frozen and worker.generation >= 0:
                await worker.revoke()
        for worker in self.workers:
            if worker.is_alive and not worker.is_frozen and worker not in chosen:
                await worker.kill()  # it has written everything, and leaves
            elif not worker.is_alive and worker in chosen:
                await worker.start()
        members = [worker for worker in self.workers if worker in chosen and worker.is_alive and not worker.is_frozen]
        self.generation += 1
        for place, worker in enumerate(members):
            await worker.assign(self.generation, [n for n in range(PARTITIONS) if n % len(members) == place])

    async def drain(self) -> None:
        """Let the workers that can work read everything to its end, and write it."""
        for _ in range(SPINS_MAX):
            busy = [worker for worker in self.workers if worker.can_work and worker.is_behind()]
            if not busy:
                break
            for worker in busy:
                await worker.fetch()
                for topic in FOLDED_TOPICS:
                    while worker.can_work and not worker.app.batches.queue(topic).empty():
                        await worker.fold(topic)
                if worker.can_work:
                    self.now += 2_000_000  # patience of the line ends
                    await worker.tick()
        else:
            raise AssertionError("the inputs are never read to their end")
        for worker in self.workers:
            if worker.can_work:
                await worker.checkpoint()


async def _at_once(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return work(*arguments, **options)


def _read_logs(_bootstrap: str, names: Iterable[str], *, client_options: dict[str, Any]) -> dict[str, Log]:
    return {name: Log(f"id of {name}", PARTITIONS) for name in names if client_options}


def _last_decisions(_bootstrap: str, identities: Iterable[str], *, client_options: dict[str, Any]) -> dict[str, Decision]:
    return {identity: client_options["worker"].cluster.broker.decision(identity) for identity in identities}


def _written(_bootstrap: str, places: Iterable[TopicPartition], *, client_options: dict[str, Any]) -> set[TP]:
    return {TP(*place) for place in places if client_options["worker"].cluster.broker.logs[TP(*place)].end}


def _undecided(_bootstrap: str, places: Iterable[TopicPartition], *, client_options: dict[str, Any]) -> dict[TP, int]:
    return dict(client_options["worker"].cluster.broker.undecided(TP(*place) for place in places))


@contextlib.contextmanager
def on_the_model() -> Iterator[None]:
    """Let the product's modules meet the model where they would meet aiokafka, RocksDB and a failpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream_app.producers.AIOKafkaProducer", ModelProducer)
        patch.setattr("stream_app.producers.to_thread", _at_once)
        for name, answer in (
            ("read_logs", _read_logs),
            ("last_decisions", _last_decisions),
            ("written", _written),
            ("undecided", _undecided),
        ):
            patch.setattr(f"stream_app.producers.{name}", answer)
        for module in ("checkpoints", "recovery", "transport"):
            patch.setattr(f"stream_app.{module}.failpoint", lambda point: _CURRENT.get().cross(point), raising=False)
        for module in ("checkpoints", "recovery"):
            patch.setattr(f"stream_app.{module}.rocksdict", SimpleNamespace(WriteBatch=WriteBatch))
        yield
