"""Transactions that a real broker has decided and not marked everywhere: whoever writes next gives them the mark they were meant to have.

A broker leaves marks out when it is killed at the wrong moment (`stream_app.producers` says how), which no test can time. The same logs
come about when its coordinator is not told of a partition that is written to, which a broker that does not verify this allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.conn import CloseReason
from aiokafka.structs import TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from stream_app.admin import last_decisions, undecided
from stream_app.exits import StateMustBeRebuilt
from stream_app.producers import Producers, Writer, send, take_over
from stream_app.waiting import wait_until
from tests.support.broker import private_broker
from tests.support.kafka_io import read_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

UNVERIFIED: Final = {"transaction.partition.verification.enable": "false"}
KINDS: Final = ("changelog", "scores", "alerts", "alert-state")
PARTITION: Final = 1


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a broker that believes what producers say of their transactions."""
    with private_broker(tmp_path_factory.mktemp("kafka"), UNVERIFIED) as broker:
        yield broker.bootstrap


@pytest.fixture
def topics(bootstrap: str, topic_prefix: str) -> tuple[str, ...]:
    """Return topics of two partitions each, as a worker's outputs, the changelog first; the last is always marked."""
    names = tuple(f"{topic_prefix}-{kind}" for kind in KINDS)
    with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
        client.create_topics([NewTopic(name, 2, 1) for name in names])
    return names


async def write(producer: AIOKafkaProducer, topics: tuple[str, ...], value: bytes) -> None:
    """Write a value into every topic, in the transaction that is open."""
    for topic in topics:
        await send(producer, topic, PARTITION, [(b"key", value)], 1_700_000_000_000)


def keep_quiet_about(producer: AIOKafkaProducer, forgotten: tuple[str, ...]) -> Any:
    """Let a producer not tell the coordinator that it writes to some topics; return what gives it its voice back."""
    manager = producer._txn_manager
    tell = manager.maybe_add_partition_to_txn

    def told(place: Any) -> None:
        if place.topic not in forgotten:
            tell(place)

    manager.maybe_add_partition_to_txn = told
    return lambda: setattr(manager, "maybe_add_partition_to_txn", tell)


async def leave_hanging(bootstrap: str, identity: str, topics: tuple[str, ...], forgotten: tuple[str, ...], *, is_commit: bool) -> None:
    """Be the worker before: one whole transaction, then one that is decided and hangs in some topics."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity, acks="all")
    await producer.start()
    try:
        async with producer.transaction():
            await write(producer, topics, b"before")
        assert wait_until(lambda: not hanging(bootstrap, topics), 10)  # a coordinator that is asked waits for its marks; this one is not
        keep_quiet_about(producer, forgotten)
        await producer.begin_transaction()
        await write(producer, topics, b"decided")
        await (producer.commit_transaction() if is_commit else producer.abort_transaction())
    finally:
        await producer.stop()


def values(bootstrap: str, topics: tuple[str, ...]) -> list[list[bytes | None]]:
    """Return what a reader of committed records gets from each topic, read to its end."""
    return [[record.value for record in read_topic(bootstrap, topic)[PARTITION]] for topic in topics]


def hanging(bootstrap: str, topics: tuple[str, ...]) -> set[str]:
    """Return the topics that readers of committed records cannot read to the end."""
    return {topic for topic, _ in undecided(bootstrap, [(topic, PARTITION) for topic in topics])}


@pytest.mark.parametrize("forgotten", [slice(0, 1), slice(1, 3), slice(0, 3)], ids=["state", "outputs", "all"])
@pytest.mark.parametrize("is_commit", [True, False])
async def test_the_next_owner_gives_what_hangs_the_mark_that_it_was_to_have(
    bootstrap: str, topics: tuple[str, ...], forgotten: slice, is_commit: bool
) -> None:
    """All of a transaction that was committed is there, nothing of one that was aborted, and readers can go on."""
    app_id = topics[0]
    await leave_hanging(bootstrap, f"{app_id}-{PARTITION}", topics, topics[forgotten], is_commit=is_commit)
    assert wait_until(lambda: hanging(bootstrap, topics) == set(topics[forgotten]), 10)
    producers = Producers(app_id, {"bootstrap_servers": [bootstrap]}, topics)
    await producers.own([PARTITION])
    try:
        assert hanging(bootstrap, topics) == set()
        assert values(bootstrap, topics) == [[b"before", b"decided"] if is_commit else [b"before"]] * len(topics)
        writer = producers.of(PARTITION)
        assert writer is not None
        async with writer.transaction() as producer:
            await write(producer, topics, b"after")
    finally:
        await producers.stop()
    assert values(bootstrap, topics) == [[b"before", *([b"decided"] if is_commit else []), b"after"]] * len(topics)


async def test_a_writer_that_lost_a_connection_settles_what_may_hang_before_it_goes_on(bootstrap: str, topics: tuple[str, ...]) -> None:
    """It was told that its transaction is committed, and cannot know whether the broker that said so has marked it."""
    identity = topics[0]
    writer = await started(bootstrap, identity, topics)
    try:
        assert wait_until(lambda: not hanging(bootstrap, topics), 10)
        speak = keep_quiet_about(writer.producer, topics[:3])
        await writer.begin()
        await write(writer.producer, topics, b"decided")
        await writer.commit()
        speak()
        assert wait_until(lambda: hanging(bootstrap, topics) == set(topics[:3]), 10)
        assert writer.is_settled
        writer.producer.client._on_connection_closed(None, CloseReason.CONNECTION_BROKEN)
        assert not writer.is_settled
        await writer.begin()
        assert values(bootstrap, topics) == [[b"decided"]] * len(topics)
        await write(writer.producer, topics, b"undone")
        await writer.producer.abort_transaction()
        assert writer.is_settled
    finally:
        await writer.producer.stop()
    assert values(bootstrap, topics) == [[b"decided"]] * len(topics)


async def test_what_was_asked_holds_for_the_producer_that_is_started_next_alone(bootstrap: str, topics: tuple[str, ...]) -> None:
    """After a commit, an abort and over an open transaction: whoever comes in between makes the answer an old one."""
    identity = topics[0]

    async def start() -> AIOKafkaProducer:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity, acks="all")
        await producer.start()
        return producer

    started = [await start()]
    try:
        for end in ("commit_transaction", "abort_transaction", None):
            producer = started[-1]
            await producer.begin_transaction()
            await write(producer, topics, b"value")
            if end is not None:
                await getattr(producer, end)()
            asked = last_decisions(bootstrap, [identity])[identity]
            assert (asked.is_commit, asked.is_open) == (end == "commit_transaction", end is None)
            started.append(await start())
            assert asked.holds_for(started[-1]._txn_manager.producer_epoch)
            started.append(await start())
            assert not asked.holds_for(started[-1]._txn_manager.producer_epoch)
            assert last_decisions(bootstrap, [identity])[identity].is_commit is None
    finally:
        for producer in started:
            await producer.stop()


async def test_what_nobody_can_decide_any_more_is_refused_or_given_up(bootstrap: str, topics: tuple[str, ...]) -> None:
    """A producer was started since, so the coordinator has forgotten: a worker ends with code 4, a rebuild throws it away."""
    app_id = topics[0]
    identity = f"{app_id}-{PARTITION}"
    await leave_hanging(bootstrap, identity, topics, topics[:3], is_commit=True)
    forgetting = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity, acks="all")
    await forgetting.start()
    await forgetting.stop()
    with pytest.raises(
        StateMustBeRebuilt, match=rf"{topics[0]} partition {PARTITION} holds a transaction from offset 2 on that is neither"
    ):
        await Producers(app_id, {"bootstrap_servers": [bootstrap]}, topics).own([PARTITION])
    rebuilding = Producers(app_id, {"bootstrap_servers": [bootstrap]}, topics, is_abandoning=True)
    await rebuilding.own([PARTITION])
    await rebuilding.stop()
    assert values(bootstrap, topics[:3]) == [[b"before"]] * 3


async def started(bootstrap: str, identity: str, topics: tuple[str, ...]) -> Writer:
    """Return a writer of a transactional id of its own."""
    places = {identity: [TopicPartition(topic, PARTITION) for topic in topics]}
    return (await take_over({"bootstrap_servers": [bootstrap]}, places))[identity]
