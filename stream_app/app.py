"""The scoring worker, put together: Faust's app with our transport, recovery, checkpoints, agents and timers."""

import asyncio
import contextlib
import fcntl
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NoReturn

import faust
import numpy as np
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError, OffsetOutOfRangeError, ProducerFenced
from faust.types import TP
from prometheus_client import CollectorRegistry

from models import row
from models.health import BAND_NAMES, Scale
from models.input_topics import FOLDED_TOPICS
from models.months import zone_of
from models.portfolio import Accounting
from models.reading import reader
from models.row import NEVER
from stream_app import agents
from stream_app.admin import (
    ClusterUnreachableError,
    Kind,
    TopicAdminError,
    TopicsUnfitError,
    has_read,
    inspect_topics,
    read_logs,
    require_topics,
)
from stream_app.breaker import Breaker, Limits
from stream_app.checkpoints import Checkpoints
from stream_app.clock import Clock, WallClock
from stream_app.exits import BrokerError, ConfigError, ConfigProblem, Exit, Gap, RestartNeeded, ServiceExit, StateMustBeRebuilt
from stream_app.health import LOOP, HealthServer, HealthState
from stream_app.health import Limits as HealthLimits
from stream_app.kafka_connection import client_kwargs, faust_credentials, secret_values
from stream_app.lineup import Lineup
from stream_app.local_store import AccountTable, store_problem
from stream_app.logs import configure_logging, logging_config, tame, worker_options
from stream_app.memory import be_sparing, give_back
from stream_app.metrics import Metrics
from stream_app.pipeline import BOOKED_AT_ONCE, Definition, Partition, Tally, UnknownCursorVersionError
from stream_app.producers import Producers
from stream_app.prompt_worker import PromptWorker
from stream_app.rates import rates_of
from stream_app.recovery import BatchTableManager
from stream_app.release import RELEASE
from stream_app.settings import Settings
from stream_app.topics import Installation, Log, topic_name
from stream_app.transport import Batches, BatchTransport, CursorOutsideLogError, PartitionBatch

log = logging.getLogger(__name__)

BROKER_WAIT_SECONDS = 60.0
"""How long a starting worker waits for a broker that cannot be reached."""

PROBE_SECONDS = 3.0
"""How often the broker is asked whether it is there, and how long it may take to say so."""

GIVE_BACK_RECORDS = 100_000
"""After how many records the memory that they needed is given back, once nothing more waits."""

BOOKING_SECONDS = 0.1
"""How long a tick may work on the roll-ups of all partitions."""

PUBLISHING_SECONDS = 10.0
"""The least time between two publications of a partition's roll-up."""

FAIR_TURNS = 8
"""Turns of the loop between two runs while a transaction is open: a commit has many steps, and each would wait for a run to be folded."""

TABLE = "accounts"
RAW = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
ROCKSDB = {"write_buffer_size": 4 << 20, "max_write_buffer_number": 2, "block_cache_size": 4 << 20}


@dataclass(frozen=True, slots=True)
class Names:
    """The broker's names of the topics that a worker writes."""

    changelog: str
    scores: str
    alerts: str
    alert_state: str
    dead_letters: str
    portfolio: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """All of them, the changelog first."""
        return astuple(self)

    @classmethod
    def of(cls, settings: Settings) -> "Names":
        """The names under a prefix and application id."""
        prefix = settings.topic_prefix
        return cls(
            changelog=f"{settings.app_id}-{TABLE}-changelog",
            scores=topic_name(prefix, "health-scores"),
            alerts=topic_name(prefix, "churn-alerts"),
            alert_state=topic_name(prefix, "alert-state"),
            dead_letters=topic_name(prefix, "dead-letters"),
            portfolio=topic_name(prefix, "portfolio-metrics"),
        )


def definition_of(settings: Settings) -> Definition:
    """What the settings make of events."""
    return Definition(
        kinds={topic_name(settings.topic_prefix, kind): kind for kind in FOLDED_TOPICS},
        scale=Scale.of(settings.health),
        rules=settings.alerts,
        config_version=settings.config_version,
        release=RELEASE,
        is_log_clock=settings.clock == "log",
        read_text=reader(settings.feedback),
        zone=zone_of(settings.portfolio.time_zone),
        accounting=Accounting.of(settings.revenue, settings.portfolio, rates_of(settings.revenue)),
    )


STOP_SECONDS = 25.0
"""How long a stop may take: orchestrators kill after 30, and while the broker is away what is to be written would wait for ever."""


class ChurnwatchApp(faust.App):
    """Faust's app, and what the stream path shares: the partitions in memory, their producers and checkpoints."""

    settings: Settings
    definition: Definition
    names: Names
    clock: Clock
    metrics: Metrics
    health_state: HealthState
    partitions: dict[int, Partition]
    lineups: dict[int, Lineup]
    breakers: dict[int, Breaker]
    stopped: dict[int, str]
    logs: dict[str, Log]
    published_at: dict[int, float]
    shown: Sequence[Mapping[str, Mapping[str, int]]]
    producers: Producers
    checkpoints: Checkpoints
    batches: Batches
    table: Any
    turn: asyncio.Lock
    breaker_limits: Limits
    is_serving: bool = False
    unreturned: int = 0
    leaving: threading.Timer

    async def on_first_start(self) -> None:
        """Subscribe to the input topics; their records come through the batch channels, not through Faust's conductor."""
        await super().on_first_start()
        self.add_future(self._watch())  # not a Faust timer: those begin only when the first recovery is complete
        self.topics.add(self.topic(*self.definition.kinds, **RAW).clone(is_iterator=True))

    async def on_stop(self) -> None:
        """Write everything, leave the group, and only then let go of the producers; what takes longer than `STOP_SECONDS` is left."""
        self.health_state.stopping()
        self.leaving = threading.Timer(STOP_SECONDS, _leave)
        self.leaving.daemon = True
        self.leaving.start()
        await super().on_stop()
        await self.producers.stop()

    async def on_shutdown(self) -> None:
        """Everything was written in time."""
        self.leaving.cancel()
        await super().on_shutdown()

    def fail(self, error: BaseException) -> NoReturn:
        """End the process at once with the exit code of what happened: crash-only, memory is worth nothing now."""
        known = exit_of(error)
        self.health_state.crashed(type(error).__name__)
        log.critical("%s", known.message, exc_info=error if known.exit_code is Exit.OTHER else None, extra={"mend": known.mend})
        logging.shutdown()
        os._exit(int(known.exit_code))

    def receive(self, batch: PartitionBatch) -> None:
        """Decode a batch and put it into its partition's line; one that was fetched before a rebalance or a seek is dropped.

        Raises Gap when records are missing between what is there and the batch.
        """
        consumer = self.consumer
        if batch.generation != self.consumer_generation_id or not consumer.flow_active or batch.epoch < consumer.epoch_wanted:
            self.metrics.stale_generation_dropped()
            return
        number, topic = batch.tp.partition, batch.tp.topic
        if number in self.stopped:
            return  # what opened the breaker was taken out of the line and not folded: nothing fits behind it
        partition, lineup = self.partitions[number], self.lineups[number]
        position = partition.positions.get(topic)
        expected = lineup.following(topic)
        if expected is None:
            # Of a topic of which nothing is folded yet, the first batch begins where it was sought to.
            expected = consumer.durable.get(batch.tp) if position is None else position.offset
        records = batch.records
        if expected is not None and batch.start != expected:
            if batch.start > expected:
                raise Gap(f"the batch of {topic} partition {number} starts at {batch.start}, the state at {expected}")
            records = [record for record in records if record.offset >= expected]
        if records:
            lineup.add(topic, partition.runs(topic, records, batch.following))

    async def advance(self, number: int) -> None:
        """Fold what waits in a partition's line, run by run, for as long as it is its turn."""
        while self.is_serving and self.consumer.flow_active:
            partition = self.partitions.get(number)
            if partition is None:
                return
            if partition.dirty >= self.settings.dirty_rows_max:
                await self.checkpoints.write(number)
                continue
            # One run in each turn of the loop, so that what waits for the broker's answers waits for one run, not for all.
            async with self.turn:
                if self.partitions.get(number) is not partition or not self.consumer.flow_active:
                    return
                if not self._fold_next(partition):
                    return
                for _ in range(FAIR_TURNS if self.checkpoints.is_busy else 1):
                    await asyncio.sleep(0)

    def _fold_next(self, partition: Partition) -> bool:
        """Fold the next run of a partition, if there is one whose turn it is; nothing is awaited in between."""
        consumer, number = self.consumer, partition.number

        def newest_us(topic: str) -> int:
            position = partition.positions.get(topic)
            return NEVER if position is None else position.newest_us

        if number in self.stopped:
            return False
        run = self.lineups[number].take(consumer.behind(number), newest_us, self.clock.monotonic())
        if run is None:
            return False
        flood = self.breakers[number].opened_by(run)
        if flood is not None:
            self._stop_partition(number, flood)
            return False
        consumer.folded[TP(run.topic, number)] = run.following
        started, wall_us = self.clock.monotonic(), self.clock.now_us()
        tally = Tally()
        partition.step_run(run, consumer.behind(number), wall_us, tally)
        kind = self.definition.kinds[run.topic]
        self.metrics.batch(kind, tally.outcomes, tally.reasons, self.clock.monotonic() - started)
        self.metrics.progress(kind, number, run.records[-1].timestamp * 1000, wall_us)
        self.unreturned += len(run.records)
        consumer.room.set()
        self.checkpoints.kick(number)
        return True

    def _stop_partition(self, number: int, flood: str) -> None:
        """Stop folding a partition: its cursor stays before the flood, until somebody looked and the worker is started again."""
        self.stopped[number] = flood
        log.critical("Partition %s is stopped: %s", number, flood, extra={"mend": "mend the sender, or raise dead_letter_breaker; restart"})
        self.health_state.breaker(is_open=True)
        self.metrics.breaker(is_open=True)

    def has_room(self, tp: TP) -> bool:
        """Whether more of an input partition may be fetched."""
        lineup = self.lineups.get(tp.partition)
        if lineup is None or tp.partition in self.stopped:
            return False
        return lineup.has_room(tp.topic) and self.batches.has_room(tp.topic)

    async def tick(self) -> None:
        """Look at the accounts of every partition that are due, and write what came of it."""
        if not self.is_serving:
            return  # before the inputs are sought nobody knows which of them are behind
        wall_us = self.clock.now_us()
        for number, partition in list(self.partitions.items()):
            if number in self.stopped:
                continue
            await self.advance(number)  # a line may have waited for its turn long enough
            while self.consumer.flow_active and self.partitions.get(number) is partition:
                if not partition.tick(partition.now(self.consumer.behind(number), wall_us)):
                    break
                if partition.dirty >= self.settings.dirty_rows_max:
                    await self.checkpoints.write(number)
                await asyncio.sleep(0)
            await self._keep_books(partition, wall_us)
            self.checkpoints.kick(number)

    async def _keep_books(self, partition: Partition, wall_us: int) -> None:
        """Work on the roll-up of a partition that is not far behind, for a part of the time; publish it now and then."""
        number, stops = partition.number, self.clock.monotonic() + BOOKING_SECONDS / len(self.partitions)
        while self.consumer.flow_active and self.partitions.get(number) is partition:
            if self.consumer.lag(number) >= self.settings.batch_records_max:
                return  # what it says would soon be old
            now_us = partition.now(self.consumer.behind(number), wall_us)
            if not partition.keep_books(now_us, BOOKED_AT_ONCE) or self.clock.monotonic() > stops:
                break
            await asyncio.sleep(0)
        if self.clock.monotonic() - self.published_at.get(number, -math.inf) >= PUBLISHING_SECONDS and partition.book.has_news:
            self.published_at[number] = self.clock.monotonic()
            partition.publish_books(partition.now(self.consumer.behind(number), wall_us))

    async def inspect_logs(self) -> None:
        """Look up which topics there are now under the names of the inputs and the changelog.

        Raises BrokerError when one is missing or was divided anew, and when the broker cannot be asked.
        """
        names = [*self.definition.kinds, self.names.changelog]
        self.logs = await self.loop.run_in_executor(None, _read_logs, self.settings, names)
        for name in names:
            if name not in self.logs:
                raise BrokerError(f"{name}: the topic is missing", "churnwatch topics check")
            if self.logs[name].partitions != self.conf.topic_partitions:
                wrong = (
                    f"{name}: it has {self.logs[name].partitions} partitions, and this worker was started with {self.conf.topic_partitions}"
                )
                raise BrokerError(wrong, "churnwatch topics check")

    def own(self, partition: Partition) -> None:
        """Take a partition whose state is recovered."""
        self.partitions[partition.number] = partition
        self.lineups[partition.number] = Lineup(self.definition.is_log_clock)
        self.breakers[partition.number] = Breaker(self.breaker_limits)

    def disown(self) -> None:
        """Forget every partition: what is in memory may be ahead of what was committed."""
        self.is_serving = False
        for held in (self.partitions, self.lineups, self.breakers, self.stopped, self.published_at):
            held.clear()
        self.shown = []
        self.metrics.portfolio(self.shown)
        self.health_state.breaker(is_open=False)
        self.metrics.breaker(is_open=False)

    async def _watch(self) -> None:
        """Tell the probes every second that the loop turns and how far it is, and now and then whether the broker answers."""
        probed_at = self.clock.monotonic()
        while not self.should_stop:
            self.observe()
            if self.unreturned >= GIVE_BACK_RECORDS and self._is_caught_up():
                self.unreturned = 0
                await asyncio.to_thread(give_back)
            if self.clock.monotonic() - probed_at >= PROBE_SECONDS and self._consumer is not None:
                is_reachable = await self.consumer.batch_thread.probe(PROBE_SECONDS)
                probed_at = self.clock.monotonic()
                self.health_state.broker(is_reachable=is_reachable, now=probed_at)
            await self.sleep(1.0)

    def _is_caught_up(self) -> bool:
        """Whether next to nothing waits to be folded or written."""
        few = self.settings.batch_records_max
        lags = [self.consumer.lag(number) for number in self.partitions]
        dirty = [partition.dirty for partition in self.partitions.values()]
        return not self.checkpoints.is_busy and max([*lags, *dirty], default=0) < few

    def observe(self) -> None:
        """Say how far each partition is, for the probes and the metrics."""
        now = self.clock.monotonic()
        self.health_state.beat(LOOP, now)
        if not self.is_serving:
            return
        bands = np.zeros(len(BAND_NAMES), np.int64)
        for number, partition in self.partitions.items():
            bands += partition.bands()
            for topic, (position, end) in self.consumer.places(number).items():
                kind = self.definition.kinds[topic]
                self.health_state.progress(kind, number, position, end, now)
                self.metrics.position(kind, number, max(0, end - position))
        self.metrics.accounts({BAND_NAMES[band]: int(count) for band, count in enumerate(bands)})
        self._show_books()

    def _show_books(self) -> None:
        """Let the gauges say what the partitions published last, when that is something else than what they say."""
        running = [partition.book.running for partition in self.partitions.values() if partition.book.running]
        if list(map(id, running)) != list(map(id, self.shown)):
            self.shown = running
            self.metrics.portfolio(running)


def _leave() -> NoReturn:
    """End a process whose stop does not come to its end. Nothing is lost: what is not committed is folded again by whoever comes next."""
    log.warning("Not everything could be written within %s s: it is folded again by the next worker", STOP_SECONDS)
    logging.shutdown()
    os._exit(int(Exit.CLEAN))


_KNOWN: tuple[tuple[type[BaseException], Callable[[BaseException], ServiceExit]], ...] = (
    (CursorOutsideLogError, lambda error: StateMustBeRebuilt(str(error))),
    (UnknownCursorVersionError, lambda error: ServiceExit(Exit.REBUILD, str(error), "run the newer release")),
    (row.UnknownRowVersionError, lambda error: ServiceExit(Exit.REBUILD, str(error), "run the newer release")),
    (ProducerFenced, lambda error: RestartNeeded(f"fenced: another worker owns the partition now ({type(error).__name__})")),
    (
        OffsetOutOfRangeError,
        lambda error: RestartNeeded(f"the log does not hold what was to be read next: {error}"),
    ),
    (
        MessageSizeTooLargeError,
        lambda _: BrokerError("a topic refuses what is written to it: its max.message.bytes is too small", "churnwatch topics apply"),
    ),
    (
        InvalidTimestampError,
        lambda _: RestartNeeded(
            "the broker refuses records of a time too far from its own", "set the clock of this machine or the broker's"
        ),
    ),
    (KafkaError, lambda error: RestartNeeded(f"the broker refused or did not answer: {error!r}")),
)
"""What ends the process in a known way, and how; the first that fits."""


def exit_of(error: BaseException) -> ServiceExit:
    """The known way to end that an error stands for."""
    if isinstance(error, ServiceExit):
        return error
    for kind, known in _KNOWN:
        if isinstance(error, kind):
            return known(error)
    if problem := store_problem(error):
        return ServiceExit(Exit.OTHER, f"the local store cannot be used: {problem}", "see to the disk of data_dir, then start it again")
    return ServiceExit(Exit.OTHER, f"{type(error).__name__}: {error}")


def create_app(settings: Settings, clock: Clock, metrics: Metrics, health_state: HealthState, partitions: int) -> ChurnwatchApp:
    """The app of a scoring worker; nothing of it is at import, so several can live in one process."""
    faust_settings: dict[str, Any] = {}
    if settings.instance_id is not None:
        faust_settings["consumer_group_instance_id"] = settings.instance_id
    app = ChurnwatchApp(
        settings.app_id,
        broker=settings.kafka_broker_urls,
        broker_credentials=faust_credentials(settings),
        store="rocksdb://",
        datadir=str(settings.data_dir),
        topic_partitions=partitions,
        topic_replication_factor=settings.replication or 1,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=settings.standby_replicas,
        TableManager=BatchTableManager,
        Table=AccountTable,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=min(2.0, settings.session_timeout / 4),
        broker_rebalance_timeout=20.0,
        broker_request_timeout=max(40.0, settings.session_timeout + 10.0),
        broker_commit_interval=1.0,
        broker_max_poll_interval=300.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=512 << 10,
        stream_wait_empty=True,
        stream_recovery_delay=0.0,
        producer_request_timeout=20.0,
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        logging_config=logging_config(settings.log_level, secret_values(settings)),
        **faust_settings,
    )
    app.transport = BatchTransport(app.conf.broker_consumer, app, loop=app.loop)
    app.settings, app.clock, app.metrics, app.health_state = settings, clock, metrics, health_state
    app.definition, app.names = definition_of(settings), Names.of(settings)
    app.partitions, app.lineups, app.breakers, app.stopped, app.logs, app.published_at = {}, {}, {}, {}, {}, {}
    app.shown = []
    app.breaker_limits = Limits(**settings.dead_letter_breaker.model_dump())
    app.turn = asyncio.Lock()
    app.producers = Producers(settings.app_id, client_kwargs(settings), app.names.outputs)
    app.checkpoints = Checkpoints(app)
    app.table = app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=partitions, options=ROCKSDB)
    app.batches = Batches(app, app.definition.kinds)
    agents.register(app)
    return app


@contextlib.contextmanager
def owning(directory: Path) -> Iterator[None]:
    """Hold a data directory alone: two processes on one local store would ruin it.

    Raises ConfigError when another process holds it, or it cannot be written.
    """
    mend = "give each worker its own CHURNWATCH_DATA_DIR, or stop the other one"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = (directory / "lock").open("w")
    except OSError as error:
        raise _unusable(f"{directory} cannot be used: {error.strerror}", "name a directory that can be written") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _unusable(f"{directory} is in use by another worker", mend) from error
        yield


def _unusable(wrong: str, mend: str) -> ConfigError:
    return ConfigError([ConfigProblem("data_dir", "CHURNWATCH_DATA_DIR", wrong, mend)])


@contextlib.contextmanager
def _serving(settings: Settings, metrics: Metrics, health_state: HealthState, clock: Clock) -> Iterator[None]:
    """Answer probes and metrics from a thread."""
    limits = HealthLimits.of_stall(settings.liveness_stall)
    server = HealthServer(settings.metrics_host, settings.metrics_port, metrics.registry, health_state, limits, clock)
    server.start()
    try:
        yield
    finally:
        server.stop()


def _installation(settings: Settings) -> Installation:
    return Installation(settings.topic_prefix, settings.app_id, settings.partitions, settings.replication)


def wait_for_topics(settings: Settings, clock: Clock) -> int:
    """Wait for the broker, hold its topics against the contract, and count the partitions.

    Raises BrokerError when it cannot be reached in time, or when a topic is missing or wrong; StateMustBeRebuilt when it is the
    changelog that is missing, and there was state in it.
    """
    deadline = clock.monotonic() + BROKER_WAIT_SECONDS
    while True:
        try:
            return _check_topics(settings)
        except ClusterUnreachableError as error:
            if clock.monotonic() > deadline:
                raise BrokerError(str(error), "start the broker, or set KAFKA_BOOTSTRAP to where it is") from error
            log.warning("Waiting for the broker: %s", error)
        except TopicsUnfitError as error:
            _refuse_lost_state(settings, error)
            raise BrokerError(str(error), "churnwatch topics apply") from error
        except TopicAdminError as error:
            raise BrokerError(str(error), error.mend) from error


def _refuse_lost_state(settings: Settings, error: TopicsUnfitError) -> None:
    """Raise StateMustBeRebuilt when the changelog is missing, and the group has read: to make an empty one would hide that."""
    changelog = Names.of(settings).changelog
    is_missing = any(mismatch.topic == changelog and mismatch.kind is Kind.MISSING for mismatch in error.mismatches)
    if is_missing and has_read(settings.kafka_bootstrap, settings.app_id, client_options=_admin_options(settings)):
        raise StateMustBeRebuilt(
            f"the changelog {changelog} is missing, and the group {settings.app_id} has read events: their state is lost"
        )


def _admin_options(settings: Settings) -> dict[str, Any]:
    options = client_kwargs(settings)
    options.pop("bootstrap_servers")
    return options


def _read_logs(settings: Settings, names: list[str]) -> dict[str, Log]:
    return read_logs(settings.kafka_bootstrap, names, client_options=_admin_options(settings))


def _check_topics(settings: Settings) -> int:
    installation = _installation(settings)
    options = _admin_options(settings)
    for warning in require_topics(settings.kafka_bootstrap, installation, client_options=options):
        log.warning("%s", warning)
    return inspect_topics(settings.kafka_bootstrap, installation, client_options=options).partitions


def run_worker(settings: Settings) -> int:
    """Run a scoring worker until it is stopped; the exit code. Raises ServiceExit for what can be said in one line."""
    configure_logging(settings.log_level, secret_values(settings))
    be_sparing()
    clock = WallClock()
    metrics = Metrics(CollectorRegistry())
    metrics.describe(RELEASE, settings.config_version)
    health_state = HealthState(clock.monotonic())
    health_state.describe(release=RELEASE, config_version=settings.config_version, app_id=settings.app_id)
    with owning(settings.data_dir), _serving(settings, metrics, health_state, clock):
        partitions = wait_for_topics(settings, clock)
        app = create_app(settings, clock, metrics, health_state, partitions)
        worker = PromptWorker(app, **worker_options())
        tame(worker)
        try:
            worker.execute_from_commandline()
        except SystemExit as ended:
            return int(ended.code or 0)
    return int(Exit.CLEAN)
