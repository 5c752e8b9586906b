"""The members of Faust, mode and aiokafka that the stream path overrides or reaches into: each is where it was, as it was.

The three are pinned. When a pin moves, this says what to look at again; and when our code reaches for one more private member, it
says that the member is not held here yet.
"""

from __future__ import annotations

import ast
import inspect
import re
from importlib.metadata import requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiokafka
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState, TopicPartitionState
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.record.memory_records import MemoryRecords
from faust.app.base import App
from faust.channels import Channel
from faust.stores.rocksdb import Store
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.tables.table import Table
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from mode import Service
from mode.threads import QueueServiceThread
from prometheus_client import CollectorRegistry

from stream_app import app as app_module
from stream_app import checkpoints, local_store, producers, prompt_worker, recovery, transport
from stream_app.app import ChurnwatchApp, create_app
from stream_app.clock import WallClock
from stream_app.health import HealthState
from stream_app.metrics import Metrics
from stream_app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

PINNED: Final = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

OVERRIDDEN: Final[dict[type, dict[str, str]]] = {
    transport.BatchThread: {
        "__post_init__": "(self) -> None",
        "_commit": "(self, offsets: Mapping[TP, int]) -> bool",
        "_create_worker_consumer": "(self, transport: 'Transport') -> AIOKafkaConsumer",
        "_seek_wait": "(self, consumer: AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None",
    },
    transport.BatchConsumer: {
        "__init__": "(self, *args: Any, **kwargs: Any) -> None",
        "_new_consumer_thread": "(self) -> 'AIOKafkaConsumerThread'",
        "perform_seek": "(self) -> None",
        "_drain_messages": "(self, fetcher: ServiceT) -> None",
        "_filter_tps_with_pending_acks": "(self, topics: Optional[AbstractSet[Union[str, TP]]] = None) -> Iterator[TP]",
        "_new_offset": "(self, tp: TP) -> Optional[int]",
        "wait_empty": "(self) -> None",
        "on_partitions_revoked": "(self, revoked: Set[TP]) -> None",
        "resume_partitions": "(self, tps: Iterable[TP]) -> None",
    },
    transport.BareRecords: {"_unpack_records": "(self)"},
    transport.BareResult: {"getall": "(self, max_records=None)"},
    transport.BatchTransport: {"Consumer": "ClassVar"},
    recovery.BatchRecovery: {
        "on_rebalance": "(self, assigned: Set[TP], revoked: Set[TP], newly_assigned: Set[TP], generation_id: int = 0) -> None",
        "_build_offsets": "(self, consumer: ConsumerT, tps: Set[TP], destination: Counter[TP], title: str) -> None",
        "_set_recovery_started": "(self) -> None",
        "_slurp_changelogs": "ServiceTask",
        "on_recovery_completed": "(self, generation_id: int = 0) -> None",
    },
    recovery.BatchTableManager: {"on_start": "(self) -> None", "recovery": "property"},
    local_store.LocalStore: {
        "_open_for_partition": "(self, partition: int) -> Rdict",
        "persisted_offset": "(self, tp: TP) -> Optional[int]",
    },
    local_store.AccountTable: {"_new_store_by_url": "(self, url: Union[str, URL]) -> StoreT"},
    prompt_worker.PromptWorker: {"_gather_all": "(self) -> None", "_sentinel_task": "(self) -> None"},
    ChurnwatchApp: {"on_first_start": "(self) -> None", "on_stop": "(self) -> None", "on_shutdown": "(self) -> None"},
}
"""What our subclasses replace, as it is in the class that is subclassed."""

CALLED: Final[dict[type, dict[str, str]]] = {
    driver.AIOKafkaConsumerThread: {"_ensure_consumer": "(self) -> AIOKafkaConsumer", "assignment": "(self) -> Set[TP]"},
    QueueServiceThread: {
        "call_thread": "(self, fun: Callable[..., Awaitable], *args: Any, **kwargs: Any) -> Any",
    },
    Consumer: {
        "_get_active_partitions": "(self) -> Set[TP]",
        "_is_changelog_tp": "(self, tp: TP) -> bool",
        "commit_and_end_transactions": "(self) -> None",
        "stop_flow": "(self) -> None",
        "resume_flow": "(self) -> None",
    },
    Recovery: {
        "_set_recovery_ended": "(self) -> None",
        "_is_changelog_tp": "(self, tp: TP) -> bool",
        "_wait": "(self, coro: *, timeout: *) -> None",
        "need_recovery": "(self) -> bool",
        "active_remaining": "(self) -> Counter[TP]",
        "active_remaining_total": "(self) -> int",
        "standby_remaining_total": "(self) -> int",
        "signal_recovery_end": "property",
    },
    TableManager: {"_update_channels": "(self) -> None", "on_actives_ready": "(self) -> None", "on_standbys_ready": "(self) -> None"},
    Table: {"on_recovery_completed": "(self, active_tps: Set[TP], standby_tps: Set[TP]) -> None"},
    Store: {"_db_for_partition": "(self, partition: int) -> Rdict", "partition_path": "(self, partition: int) -> Path"},
    Channel: {"queue": "property"},
    App: {"on_rebalance_end": "(self) -> None", "on_rebalance_start": "(self) -> None"},
    Service: {"wait_first": "(self, *coros: *, timeout: *) -> WaitResults", "maybe_start": "(self) -> bool"},
    aiokafka.AIOKafkaProducer: {
        "create_batch": "(self)",
        "send_batch": "(self, batch, topic, *, partition)",
        "begin_transaction": "(self)",
        "commit_transaction": "(self)",
        "abort_transaction": "(self)",
    },
    BatchBuilder: {"append": "(self, *, timestamp, key, value, headers: Sequence = [])", "close": "(self)"},
    Fetcher: {"fetched_records": "(self, partitions, timeout=0, max_records=None)", "seek_to": "(self, tp, offset)"},
    aiokafka.AIOKafkaConsumer: {
        "beginning_offsets": "(self, partitions)",
        "end_offsets": "(self, partitions)",
        "committed": "(self, partition)",
        "commit": "(self, offsets=None)",
    },
    AIOKafkaClient: {"force_metadata_update": "(self)", "_on_connection_closed": "(self, conn, reason)"},
    TransactionManager: {
        "maybe_add_partition_to_txn": "(self, tp: TopicPartition)",
        "is_fatal_error": "(self)",
        "producer_epoch": "property",
    },
    SubscriptionState: {"fetch_context": "(self)", "subscription": "property"},
    Assignment: {"state_value": "(self, tp: 'TopicPartition') -> 'TopicPartitionState'"},
    TopicPartitionState: {"position": "property", "has_valid_position": "property"},
}
"""What is called of them, that a release without notice could change."""

PRIVATE: Final[dict[str, tuple[str, ...]]] = {
    "app.consumer._thread": ("_thread",),
    "app.consumer": ("_committed_offset", "_get_active_partitions", "_is_changelog_tp"),
    "app._fetcher": ("_stopped",),
    "app.tables": ("_changelogs", "_recovery", "_update_channels"),
    "app.tables.recovery": ("_is_changelog_tp", "_set_recovery_ended", "_set_recovery_started", "_wait"),
    "app": ("_consumer", "_fetcher"),
    "channel": ("_subscribers",),
    "store": ("_db_for_partition", "_dbs"),
    "thread": ("_create_worker_consumer", "_ensure_consumer", "_seek_wait"),
    "kafka consumer": ("_client", "_closed", "_fetch_max_wait_ms", "_fetch_min_bytes", "_fetcher", "_subscription"),
    "batch": ("_builder", "_relative_offset"),
    "kafka producer": ("_txn_manager",),
    "kafka client": ("_on_connection_closed",),
    "kafka fetcher": ("_closed", "_default_reset_strategy", "_subscriptions"),
    "kafka records": (
        "_aborted_producers",
        "_check_crcs",
        "_consume_aborted_up_to",
        "_contains_abort_marker",
        "_isolation_level",
        "_records",
        "_records_iterator",
        "_tp",
    ),
    "kafka result": ("_partition_records", "_topic_partition", "_update_position"),
}
"""Private attributes that are read or set, by whose they are."""


def _plain(signature: inspect.Signature) -> str:
    """Write a signature without the modules of its types, and without the types of what wait functions take."""
    text = re.sub(r"(?:[a-z_]+\.)+(?=[A-Z])", "", str(signature).replace("~", ""))
    return re.sub(r"(coros?|timeout): .*?(?=, timeout|\) ->)", r"\1: *", text)


def _kind(owner: type, name: str) -> str:
    """Return how a member is declared: its signature, or what else it is."""
    found = inspect.getattr_static(owner, name)
    if isinstance(found, property):
        return "property"
    if isinstance(found, staticmethod | classmethod) or inspect.isfunction(found):
        return _plain(inspect.signature(getattr(owner, name)))
    return type(found).__name__ if not isinstance(found, type) else "ClassVar"


@pytest.mark.parametrize(("distribution", "pin"), PINNED.items())
def test_the_three_are_pinned_and_installed_as_pinned(distribution: str, pin: str) -> None:
    """An exact version in our metadata, and that one here."""
    assert version(distribution) == pin
    required = [each for each in requires("churnwatch") or [] if re.match(rf"{distribution}(\[|=)", each)]
    assert [each.partition("==")[2] for each in required] == [pin]


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        *((ours.__mro__[1], name, expected) for ours, members in OVERRIDDEN.items() for name, expected in members.items()),
        *((owner, name, expected) for owner, members in CALLED.items() for name, expected in members.items()),
    ],
)
def test_a_member_has_the_signature_that_we_know(owner: type, name: str, expected: str) -> None:
    """A member that is gone or asks for something else must be looked at before it runs."""
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone"
    assert _kind(owner, name) == expected


@pytest.mark.parametrize("ours", OVERRIDDEN, ids=lambda ours: ours.__name__)
def test_every_override_is_held_here_and_fits(ours: type) -> None:
    """What a subclass of ours replaces is listed above, and takes the same parameters in the same order."""
    given = {name for name in vars(ours) if not name.startswith("__") or name in ("__init__", "__post_init__")}
    bases = ours.__mro__[1:-1]
    declared = {name for name in given if any(name in vars(base) for base in bases)}
    bookkeeping = {"abstract", "_abc_impl", "logger", "log"}
    assert declared - bookkeeping == OVERRIDDEN[ours].keys()
    for name in OVERRIDDEN[ours]:
        mine, theirs = inspect.getattr_static(ours, name), inspect.getattr_static(ours.__mro__[1], name)
        if inspect.isfunction(mine):
            assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(theirs), name
            assert list(inspect.signature(mine).parameters) == list(inspect.signature(theirs).parameters), name


@pytest.mark.parametrize(
    "module", [transport, recovery, local_store, producers, checkpoints, prompt_worker, app_module], ids=lambda module: module.__name__
)
def test_every_private_member_that_is_reached_for_is_held_here(module: ModuleType) -> None:
    """Private names in the source are our own, or listed above."""
    tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    reached = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)}
    ours = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    ours |= {
        node.attr
        for statement in ast.walk(tree)
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        for node in ast.walk(target)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    held = {name for names in PRIVATE.values() for name in names}
    overridden = {name for members in OVERRIDDEN.values() for name in members}
    assert reached - ours - held - overridden - {"_exit"} == set()


async def test_private_attributes_are_where_we_reach_for_them(app: ChurnwatchApp) -> None:
    """On an app as a worker makes it, but not started: every attribute that is read or set exists."""
    thread = app.consumer.batch_thread
    kafka_consumer = thread._create_worker_consumer(app.transport)
    producer = aiokafka.AIOKafkaProducer(transactional_id="contract")
    owners: dict[str, Any] = {
        "app.consumer._thread": app.consumer,
        "app.consumer": app.consumer,
        "app._fetcher": app._fetcher,
        "app.tables": app.tables,
        "app.tables.recovery": app.tables.recovery,
        "app": app,
        "channel": next(iter(app.batches.channels.values())),
        "store": app.table.data,
        "thread": thread,
        "kafka consumer": kafka_consumer,
        "batch": BatchBuilder(1024, 0),
        "kafka producer": producer,
        "kafka client": producer.client,
        "kafka records": transport.BareRecords(None, MemoryRecords(b""), [], 0, None, None, check_crcs=True, isolation_level=0),
        "kafka result": transport.BareResult(None, assignment=None, partition_records=None, backoff=0),
    }
    for owner, names in PRIVATE.items():
        if owner == "kafka fetcher":  # one is only made when a consumer starts
            assert set(names) <= _assigned(Fetcher)
        else:
            for name in names:
                assert hasattr(owners[owner], name), f"{owner}.{name}"
    await kafka_consumer.stop()
    await producer.stop()


async def test_what_is_asked_of_a_connection_s_end_is_looked_up_when_it_is_made() -> None:
    """A writer hears of every connection that its client makes from then on and loses."""
    assert "on_close=self._on_connection_closed" in inspect.getsource(AIOKafkaClient._get_conn)


async def test_the_fetch_settings_reach_the_fetcher(app: ChurnwatchApp) -> None:
    """What we set on the consumer behind Faust's back is what its fetcher is made with; and only committed records are read."""
    consumer = app.consumer.batch_thread._create_worker_consumer(app.transport)
    assert (consumer._fetch_max_wait_ms, consumer._fetch_min_bytes) == (app.settings.fetch_max_wait_ms, app.settings.fetch_min_bytes)
    assert consumer._isolation_level == "read_committed"
    start = inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    for name in ("fetch_max_wait_ms", "fetch_min_bytes", "isolation_level"):
        assert f"{name}=self._{name}" in start
    await consumer.stop()


async def test_an_app_is_made_of_our_parts(app: ChurnwatchApp) -> None:
    """Faust takes our transport, consumer, thread, table manager and recovery, and one agent reads each input topic."""
    assert type(app.transport) is transport.BatchTransport
    assert type(app.consumer) is transport.BatchConsumer
    assert type(app.consumer.batch_thread) is transport.BatchThread
    assert type(app.tables) is recovery.BatchTableManager
    assert type(app.tables.recovery) is recovery.BatchRecovery
    assert type(app.table) is local_store.AccountTable
    assert type(app.table.data) is local_store.LocalStore
    assert len(app.agents) == len(app.definition.kinds)


async def test_faust_takes_our_settings_over(app: ChurnwatchApp) -> None:
    """Where its own defaults would lose data or time."""
    conf = app.conf
    assert (conf.broker_session_timeout, conf.broker_heartbeat_interval) == (10.0, 2.0)
    assert conf.stream_wait_empty
    assert conf.consumer_auto_offset_reset == "earliest"
    assert not conf.topic_allow_declare
    assert conf.topic_disable_leader
    assert not conf.web_enabled
    assert not conf.web_tables_enabled


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ChurnwatchApp]:
    """Return an app as a worker makes it; the loop of its consumer's thread, which never ran, is closed behind it."""
    settings = Settings(app_id="contract", data_dir=tmp_path)
    made = create_app(settings, WallClock(), Metrics(CollectorRegistry()), HealthState(0.0), partitions=4)
    yield made
    made.consumer.batch_thread.thread_loop.close()


def _assigned(owner: type) -> set[str]:
    """Return the names that the source of a class assigns to `self`."""
    return set(re.findall(r"self\.(\w+)\s*[:=]", inspect.getsource(owner)))
