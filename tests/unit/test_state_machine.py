"""Workers on a Kafka in memory, in any order of faults: whatever happens, what they commit is what the oracle makes of the inputs.

The model is `tests/support/kafka_model.py`; what must hold is in `tests/support/model_audit.py`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest
import rocksdict
from aiokafka.errors import ProducerFenced
from faust.types import TP
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from deploy.verify import reference as oracle
from deploy.verify.reference_portfolio import portfolio
from models.input_topics import FOLDED_TOPICS
from stream_app.app import PUBLISHING_SECONDS
from stream_app.exits import Gap, StateMustBeRebuilt
from stream_app.recovery import WITHOUT_LOG
from tests.support.generate import ACCOUNTS, HOUR, START, Record, Scene, records, rfc3339, topic_of
from tests.support.kafka_model import (
    BROKER_POINTS,
    CRASH_POINTS,
    NAMES,
    PARTITIONS,
    Arm,
    Cluster,
    Database,
    Worker,
    WriteBatch,
    on_the_model,
)
from tests.support.model_audit import Audit
from tests.support.poison import POISON
from tests.support.profiles import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from tests.support.kafka_model import Entry

WORKERS: Final = 3
NUMBER_OF: Final = {account: place % PARTITIONS for place, account in enumerate(ACCOUNTS)}
BAD: Final = [each for each in POISON if each.before is None and len(each.value or b"") < 10_000]
BAD_RECORDS: Final = frozenset((each.key, each.value) for each in BAD)
SCENE: Final = Scene(days=60, burst=0, object_ids=2)
FAULTS: Final = [
    *((point, "crash") for point in CRASH_POINTS),
    *((point, action) for point in BROKER_POINTS for action in ("crash", "freeze", "fail", "hold")),
]


def is_poison(entry: Entry) -> bool:
    """Whether an input record is one of those that cannot be used."""
    return (entry.key, entry.value) in BAD_RECORDS


@pytest.fixture(autouse=True)
def _model() -> Iterator[None]:
    """Let the product meet the model."""
    with on_the_model():
        yield


def send(cluster: Cluster, record: Record, *, is_aborted: bool = False) -> None:
    """Produce a record of the generator to the partition of its account."""
    value = json.dumps(record, ensure_ascii=False).encode()
    cluster.produce(NUMBER_OF[record["subject"]], topic_of(record), record["subject"].encode(), value, is_aborted=is_aborted)


async def publish(cluster: Cluster) -> None:
    """Let the time pass after which figures are published again."""
    cluster.now += int(PUBLISHING_SECONDS * 1_000_000)
    for worker in cluster.workers:
        if worker.can_work:
            await worker.tick()
            await worker.checkpoint()


def decide(cluster: Cluster, number: int) -> None:
    """Produce a command for all accounts to every partition."""
    data = {"day": f"2026-01-{1 + number % 28:02}", "currency": "EUR", "into": "USD", "rate": f"1.{number % 100 + 1}"}
    command = {"id": f"rate-{number % 40}", "source": "/ops", "type": "exchange_rate.set", "time": rfc3339(START + number * HOUR)}
    value = json.dumps(command | {"subject": "_all", "data": data}).encode()
    for partition in range(PARTITIONS):
        cluster.produce(partition, "account-commands", b"_all", value)


async def settle(cluster: Cluster) -> None:
    """Let everything come to an end with no more faults: frozen workers go on while others own their partitions."""
    for worker in cluster.workers:
        worker.armed = None
    await cluster.rebalance(range(WORKERS))
    await cluster.drain()
    for worker in cluster.workers:
        if worker.is_frozen:
            await worker.thaw()
        if worker.is_held:
            await worker.release()
    for _ in range(5):
        # A worker that stood still while it took over fences the new owner when it goes on: then there is one more rebalance.
        await cluster.rebalance(range(WORKERS))
        deaths = len(cluster.deaths)
        await cluster.drain()
        owned = sorted(number for worker in cluster.workers if worker.can_work for number in worker.app.partitions)
        if owned == list(range(PARTITIONS)) and len(cluster.deaths) == deaths:
            return
    raise AssertionError(f"no peace: {cluster.deaths}")


async def loaded(dirty_rows_max: int = 1_000) -> Cluster:
    """Return a cluster with inputs of every kind: applied, late, sent twice, in conflict, and unusable."""
    cluster = Cluster(batch_records_max=7, dirty_rows_max=dirty_rows_max)
    for place, record in enumerate(records(Random(5), 80, SCENE)):
        send(cluster, record)
        if not place % 20:
            decide(cluster, place)
        if not place % 10:
            bad = BAD[place % len(BAD)]
            cluster.produce(place % PARTITIONS, bad.topic, bad.key, bad.value, headers=tuple(bad.headers))
    return cluster


async def read_some(worker: Worker) -> None:
    """Let a worker read until there is something of every partition to be written."""
    for _ in range(20):
        worker.cluster.now += 2_000_000  # whatever waits in a line has waited long enough
        folds = [partial(worker.fold, topic) for topic in FOLDED_TOPICS]
        steps: list[Callable[[], Coroutine[Any, Any, None]]] = [worker.fetch, worker.tick, *folds]
        for step in steps:
            if worker.can_work:
                await step()
        if not worker.can_work or all(partition.is_moved for partition in worker.app.partitions.values()):
            return


@pytest.mark.parametrize("dirty_rows_max", [1, 1_000], ids=["many checkpoints", "few checkpoints"])
def test_the_product_runs_on_the_model(dirty_rows_max: int) -> None:
    """With no fault at all everything is read, something of every kind is said, and it is what the oracle says."""

    async def scene() -> None:
        cluster = await loaded(dirty_rows_max)
        await cluster.rebalance([0, 1])
        await cluster.drain()
        assert Audit(cluster, is_poison).final_problems() == []
        await publish(cluster)
        said = {topic for (topic, _), log in cluster.broker.logs.items() if log.committed()}
        assert said == {*FOLDED_TOPICS, *written_topics()}
        assert cluster.deaths == []
        accounts, _ = oracle.replay([(topic_of(record), record) for record in records(Random(5), 80, SCENE)])
        assert Audit(cluster, is_poison).figures() == portfolio(accounts.values(), cluster.now) != {}
        await cluster.stop()

    asyncio.run(scene())


def written_topics() -> set[str]:
    """Return the topics that a worker writes."""
    return {NAMES.changelog, NAMES.scores, NAMES.alerts, NAMES.alert_state, NAMES.dead_letters, NAMES.portfolio}


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    ("point", "action", "is_disk_kept"),
    [*((*fault, True) for fault in FAULTS), *((point, action, False) for point, action in FAULTS if action == "crash")],
)
def test_whatever_happens_at_a_point_is_made_good(point: str, action: str, nth: int, is_disk_kept: bool) -> None:
    """Killed, stopped, unanswered or answered late at each point of a recovery and a checkpoint, the first time or the second."""

    async def scene() -> None:
        cluster = await loaded()
        audit = Audit(cluster, is_poison)
        one = cluster.workers[0]
        await one.start()
        one.armed = Arm(point, nth, action)
        await cluster.rebalance([0])
        for _ in range(3):
            if one.can_work:
                await read_some(one)
            if one.can_work:
                await one.checkpoint()
            if one.can_work:
                await cluster.rebalance([0])
        assert one.armed is None, "the point is never passed"
        if not one.is_alive and not is_disk_kept:
            one.disk.clear()
        await settle(cluster)
        assert audit.final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


@pytest.mark.parametrize("point", ["begin", "send", "commit"])
def test_a_zombie_is_fenced_and_leaves_no_trace(point: str) -> None:
    """A worker stands still in a checkpoint, another takes over and goes on; what the first still wants to write is refused."""

    async def scene() -> None:
        cluster = await loaded()
        zombie, heir = cluster.workers[:2]
        await cluster.rebalance([0])
        await read_some(zombie)
        zombie.armed = Arm(point, 1, "freeze")
        await zombie.checkpoint()
        assert zombie.is_frozen
        await cluster.rebalance([1])
        await read_some(heir)
        await heir.checkpoint()
        await zombie.thaw()
        assert isinstance(dict(cluster.deaths)[zombie.name], ProducerFenced)
        await settle(cluster)
        assert Audit(cluster, is_poison).final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


@pytest.mark.parametrize("is_disk_kept", [True, False])
@pytest.mark.parametrize("is_killed", [True, False])
@pytest.mark.parametrize(
    "topics", [{NAMES.changelog}, {NAMES.dead_letters, NAMES.alerts}, set(NAMES.outputs)], ids=["state", "outputs", "all"]
)
def test_what_the_broker_forgot_to_mark_counts_once(topics: list[str], is_killed: bool, is_disk_kept: bool) -> None:
    """It is killed with a commit decided and not marked everywhere: whoever goes on, nothing is lost and nothing said twice."""

    async def scene() -> None:
        cluster = await loaded()
        audit = Audit(cluster, is_poison)
        one = cluster.workers[0]
        await cluster.rebalance([0])
        await read_some(one)
        cluster.broker.forgets = frozenset(topics)
        await one.checkpoint()
        places = [TP(topic, number) for topic in topics for number in range(PARTITIONS)]
        assert cluster.broker.undecided(places)
        if is_killed:
            await one.kill()
            if not is_disk_kept:
                one.disk.clear()
        else:
            await one.checkpoint()  # there is nothing to be written: it is settled all the same
            assert not cluster.broker.undecided(places)
        await settle(cluster)
        assert audit.final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


def test_what_nobody_can_decide_any_more_ends_the_worker() -> None:
    """The coordinator has forgotten how a transaction that hangs was decided: the state may be either, and no worker goes on with it."""

    async def scene() -> None:
        cluster = await loaded()
        one, heir = cluster.workers[:2]
        await cluster.rebalance([0])
        await read_some(one)
        cluster.broker.forgets = frozenset(NAMES.outputs)
        await one.checkpoint()
        await one.kill()
        await heir.start()
        heir.armed = Arm("begin", 1, "crash")  # after the producers were started, before anything was settled
        await cluster.rebalance([1])
        await cluster.rebalance([1])
        assert isinstance(cluster.deaths[-1][1], StateMustBeRebuilt)
        assert "neither committed nor aborted" in str(cluster.deaths[-1][1])
        await cluster.stop()

    asyncio.run(scene())


def test_what_a_predecessor_commits_until_it_is_fenced_is_recovered() -> None:
    """The end of the changelog is only looked at when nobody else can write to it any more."""

    async def scene() -> None:
        cluster = await loaded()
        before, heir = cluster.workers[:2]
        await cluster.rebalance([0])
        await read_some(before)
        before.armed = Arm("commit", 1, "freeze")
        await before.checkpoint()
        await heir.start()
        heir.armed = Arm("fence", 1, "hold")
        await cluster.rebalance([1])
        commits = cluster.broker.commits
        await before.thaw()
        assert cluster.broker.commits > commits
        await heir.release()
        assert heir.can_work
        await cluster.drain()
        assert Audit(cluster, is_poison).final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


def test_a_recovery_waits_for_a_slow_changelog() -> None:
    """Also when it is not the first of its process: nothing is served before what was written last is back."""

    async def scene() -> None:
        cluster = await loaded()
        one = cluster.workers[0]
        for _ in range(3):
            await cluster.rebalance([0])
            await read_some(one)
            await one.checkpoint()
        one.armed = Arm("fetched", 1, "hold")
        await cluster.rebalance([0])
        assert one.is_held
        assert not one.app.is_serving
        await one.release()
        assert one.can_work
        await cluster.drain()
        assert Audit(cluster, is_poison).final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


def test_a_kill_after_a_recovery_from_the_changelog_loses_nothing() -> None:
    """A worker with an empty disk recovers, writes a checkpoint and is killed: what it had recovered is still on its disk."""

    async def scene() -> None:
        cluster = await loaded()
        await cluster.rebalance([0])
        await read_some(cluster.workers[0])
        await cluster.rebalance([1])
        heir = cluster.workers[1]
        await read_some(heir)
        await heir.checkpoint()
        await heir.kill()
        await cluster.rebalance([1])
        await cluster.drain()
        assert Audit(cluster, is_poison).final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


def test_a_fetch_that_was_under_way_in_a_rebalance_counts_for_nothing() -> None:
    """What it found is handed over when the partitions were sought to their cursors again."""

    async def scene() -> None:
        cluster = await loaded()
        one = cluster.workers[0]
        await cluster.rebalance([0])
        await read_some(one)
        one.armed = Arm("fetched", 1, "hold")
        await one.fetch(25)
        assert one.is_held
        await cluster.rebalance([0])
        await one.release()
        await settle(cluster)
        assert Audit(cluster, is_poison).final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


def test_batches_of_before_a_rebalance_count_for_nothing() -> None:
    """A batch that an agent holds when the partitions are taken away is dropped, although its offsets would fit."""

    async def scene() -> None:
        cluster = await loaded()
        one = cluster.workers[0]
        await cluster.rebalance([0])
        await one.fetch(1)
        queues = {topic: one.app.batches.queue(topic) for topic in FOLDED_TOPICS}
        held = {topic: queue.get_nowait() for topic, queue in queues.items() if not queue.empty()}
        await cluster.rebalance([0])
        (topic, batch), *_ = held.items()
        positions = {number: dict(partition.positions) for number, partition in one.app.partitions.items()}
        one.app.receive(batch)
        assert [line.following(topic) for line in one.app.lineups.values()] == [None] * PARTITIONS
        assert {number: partition.positions for number, partition in one.app.partitions.items()} == positions
        await settle(cluster)
        assert Audit(cluster, is_poison).final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


@pytest.mark.parametrize("is_first", [True, False])
def test_a_lost_batch_ends_the_worker(is_first: bool) -> None:
    """Where records are missing between what is folded, or was sought to, and what comes, the process ends: nothing goes on."""

    async def scene() -> None:
        cluster = await loaded()
        one = cluster.workers[0]
        await cluster.rebalance([0])
        queue = one.app.batches.queue("usage-events")
        while queue.qsize() < 5:
            assert one.is_alive
            await one.fetch()
        batches = [queue.get_nowait() for _ in range(queue.qsize())]
        kept = [batch for batch in batches if batch.tp.partition == 0]
        del kept[0 if is_first else 1]
        for batch in kept:
            queue.put_nowait(batch)
        while one.is_alive and not queue.empty():
            await one.fold("usage-events")
        assert isinstance(dict(cluster.deaths)[one.name], Gap)
        assert not one.is_alive
        await settle(cluster)
        cluster.deaths.clear()
        assert Audit(cluster, is_poison).final_problems() == []
        await cluster.stop()

    asyncio.run(scene())


@pytest.mark.parametrize("is_logged", [True, False])
def test_the_stores_of_the_model_lose_what_those_of_rocksdb_do(tmp_path: Path, is_logged: bool) -> None:
    """What was flushed or logged survives a kill, what was neither does not: on RocksDB, of whose files a copy is opened, as in memory."""
    real = rocksdict.Rdict(str(tmp_path / "live"), rocksdict.Options(raw_mode=True))
    model = Database()
    for store, batch_type in ((real, rocksdict.WriteBatch), (model, WriteBatch)):
        for key, is_flushed in ((b"flushed", True), (b"written", False)):
            batch = batch_type(raw_mode=True)
            batch.put(key, b"value")
            store.write(batch, *(() if is_logged else (WITHOUT_LOG,)))
            if is_flushed:
                store.flush()
    shutil.copytree(tmp_path / "live", tmp_path / "killed")
    model.kill()
    killed = rocksdict.Rdict(str(tmp_path / "killed"), rocksdict.Options(raw_mode=True))
    expected = {b"flushed", b"written"} if is_logged else {b"flushed"}
    assert {key for key, _ in killed.items()} == {key for key, _ in model.items()} == expected
    for database in (killed, real):
        database.close()


class Faults(RuleBasedStateMachine):
    """Producers, one to three workers and their disks, and everything that can go wrong between them."""

    def __init__(self) -> None:
        """Begin with a loop of its own."""
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something to its end."""
        self.loop.run_until_complete(work)

    @initialize(
        seed=st.integers(0, 2**32),
        sent=st.integers(20, 100),
        batch_records_max=st.sampled_from([2, 5, 50]),
        dirty_rows_max=st.sampled_from([1, 3, 1_000]),
    )
    def begin(self, seed: int, sent: int, batch_records_max: int, dirty_rows_max: int) -> None:
        """Two workers, and a history of which some is sent."""
        self.history = records(Random(seed), 300, SCENE)
        self.sent: list[Record] = []
        self.cluster = Cluster(WORKERS, batch_records_max, dirty_rows_max)
        self.audit = Audit(self.cluster, is_poison)
        self.produce(sent)
        self.do(self.cluster.rebalance([0, 1]))

    # -- the inputs

    @rule(count=st.integers(1, 20))
    def produce(self, count: int) -> None:
        """The next records of the history: in order, late, twice, in conflict."""
        for record in self.history[len(self.sent) : len(self.sent) + count]:
            send(self.cluster, record)
            self.sent.append(record)

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(1, 30), is_aborted=st.booleans())
    def produce_again(self, back: int, is_aborted: bool) -> None:
        """A record that was sent before; or one in a transaction that is aborted, which leaves a hole."""
        send(self.cluster, self.sent[-back % len(self.sent)], is_aborted=is_aborted)

    @rule(bad=st.sampled_from(BAD), number=st.integers(0, PARTITIONS - 1))
    def produce_poison(self, bad: Any, number: int) -> None:
        """A record that cannot be used."""
        self.cluster.produce(number, bad.topic, bad.key, bad.value, headers=tuple(bad.headers))

    @rule(number=st.integers(0, 60))
    def decide(self, number: int) -> None:
        """A command for all accounts, in every partition: perhaps one that came before, or its id with another content."""
        decide(self.cluster, number)

    @rule(hours=st.sampled_from([1, 24, 24 * 15, 24 * 40]))
    def advance_clock(self, hours: int) -> None:
        """Time passes."""
        self.cluster.now += hours * HOUR

    # -- the workers

    def _working(self, number: int) -> Iterator[Worker]:
        """One of those that can work, if there are any."""
        able = [worker for worker in self.cluster.workers if worker.can_work]
        if able:
            yield able[number % len(able)]

    workers = st.integers(0, WORKERS - 1)

    @rule(number=workers, records_max=st.sampled_from([1, 7, 1_000]))
    def fetch(self, number: int, records_max: int) -> None:
        """A fetch, whose batches stay on the queues."""
        for worker in self._working(number):
            self.do(worker.fetch(records_max))

    @rule(number=workers, topic=st.sampled_from(FOLDED_TOPICS))
    def fold(self, number: int, topic: str) -> None:
        """The agent of one topic takes one batch."""
        for worker in self._working(number):
            self.do(worker.fold(topic))

    @rule(number=workers)
    def work(self, number: int) -> None:
        """Fetches, folds and ticks until there is something to be written."""
        for worker in self._working(number):
            self.do(read_some(worker))

    @rule(number=workers)
    def tick(self, number: int) -> None:
        """The timer."""
        for worker in self._working(number):
            self.do(worker.tick())

    @rule(number=workers)
    def checkpoint(self, number: int) -> None:
        """A checkpoint of all partitions."""
        for worker in self._working(number):
            self.do(worker.checkpoint())

    # -- what goes wrong

    @rule(number=workers, fault=st.sampled_from(FAULTS), nth=st.integers(1, 3))
    def arm(self, number: int, fault: tuple[str, str], nth: int) -> None:
        """A worker will end, stand still or hear nothing at a point on its way, whichever operation passes it."""
        self.cluster.workers[number].armed = Arm(fault[0], nth, fault[1])

    @rule(number=workers, fault=st.sampled_from(FAULTS), nth=st.integers(1, 3))
    def strike(self, number: int, fault: tuple[str, str], nth: int) -> None:
        """The same, while it reads and writes."""
        for worker in self._working(number):
            worker.armed = Arm(fault[0], nth, fault[1])
            self.do(read_some(worker))
            if worker.can_work:
                self.do(worker.checkpoint())

    @rule(number=workers, point=st.sampled_from(["begin", "send", "commit", "committed"]), nth=st.integers(1, 2))
    def take_over(self, number: int, point: str, nth: int) -> None:
        """A worker stands still in a checkpoint, the others take its partitions over and go on: it is a zombie."""
        self.strike(number, (point, "freeze"), nth)
        others = {place for place, worker in enumerate(self.cluster.workers) if not worker.is_frozen}
        self.do(self.cluster.rebalance(others))
        self.work(number)
        self.checkpoint(number)

    @rule(number=workers)
    def kill(self, number: int) -> None:
        """SIGKILL; to one that stands still, too."""
        if self.cluster.workers[number].is_alive:
            self.do(self.cluster.workers[number].kill())

    @rule(number=workers)
    def thaw(self, number: int) -> None:
        """A worker that stood still goes on; if the group went on without it, it is a zombie."""
        if self.cluster.workers[number].is_frozen:
            self.do(self.cluster.workers[number].thaw())

    @rule(number=workers)
    def release(self, number: int) -> None:
        """An answer that took long arrives."""
        if self.cluster.workers[number].is_held:
            self.do(self.cluster.workers[number].release())

    @rule(chosen=st.sets(workers, min_size=1))
    def rebalance(self, chosen: set[int]) -> None:
        """The group is these now: some leave, some are started, who stands still is left out."""
        self.do(self.cluster.rebalance(sorted(chosen)))

    @rule(number=workers)
    def lose_the_disk(self, number: int) -> None:
        """What a worker that is not running had on its disk is gone."""
        if not self.cluster.workers[number].is_alive:
            self.cluster.workers[number].disk.clear()

    @rule(number=st.integers(0, PARTITIONS - 1))
    def compact(self, number: int) -> None:
        """The broker compacts the changelog."""
        self.cluster.compact(number)

    # -- what must hold

    @invariant()
    def what_is_committed_is_sound(self) -> None:
        """Cursors never go back and count every record once; alerts have no gap and no twin; nobody ends for another reason."""
        if hasattr(self, "audit"):
            assert self.audit.problems() == []

    def teardown(self) -> None:
        """Let everything be read to its end, and hold it against the oracle."""
        try:
            # Killed between two requests right after the broker was: every worker refuses, as long as nobody rebuilds the state.
            if hasattr(self, "audit") and not self.cluster.broker.lost_decisions:
                self.do(settle(self.cluster))
                assert self.audit.final_problems() == []
        finally:
            if hasattr(self, "cluster"):
                self.do(self.cluster.stop())
            self.loop.close()


TestFaults = pytest.mark.seconds(60)(Faults.TestCase)
TestFaults.settings = settings(
    max_examples=examples(150),
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
