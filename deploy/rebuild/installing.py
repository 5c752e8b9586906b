"""Putting a whole state in the place of what there is: the changelog made anew, marked, written, and only then fit for a worker.

The order makes it safe to be killed at any point. First the group is said to have read as far as the new state: without a cursor that alone
makes every worker refuse to start (exit code 4). Then the old changelog is deleted, the new one made, and each of its partitions marked
as not whole (`stream_app.unfinished`). A partition's rows follow in transactions of some thousands, with the scores that go with them;
the last one takes the mark away, and carries the alerts, the dead letters and the cursor. Whoever was killed is run again from the start.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError, ProducerFenced

from stream_app.app import Names
from stream_app.exits import BrokerError, Fenced
from stream_app.failpoints import failpoint
from stream_app.kafka_connection import client_kwargs
from stream_app.producers import Producers, send, send_whole
from stream_app.unfinished import UNFINISHED_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aiokafka import AIOKafkaProducer

    from deploy.rebuild.cluster import Cluster
    from deploy.verify.kafka_log import Place
    from stream_app.clock import Clock
    from stream_app.pipeline import Output
    from stream_app.producers import Plain
    from stream_app.settings import Settings

TRANSACTION_SLICES: Final = 5
"""Slices of a checkpoint in one transaction: some thousand accounts."""


@dataclass(slots=True)
class Portion:
    """A part of a partition's state, written at once: the last one of a partition ends with its cursor."""

    changelog: list[Plain] = field(default_factory=list)
    scores: list[Plain] = field(default_factory=list)
    alerts: list[Plain] = field(default_factory=list)
    alert_states: list[Plain] = field(default_factory=list)
    letters: Sequence[Output] = ()


Whole = tuple[int, "Iterable[Portion]"]
"""A partition's number, and all of its state."""


def fence(settings: Settings, partitions: int) -> None:
    """End whoever still writes as a worker of this installation, and abort what a killed one left open; raises BrokerError."""
    asyncio.run(_guarded(_fence(settings, partitions)))


async def _fence(settings: Settings, partitions: int) -> None:
    _changelog, *outputs = Names.of(settings).outputs  # which may be missing, and is made anew
    producers = Producers(settings.app_id, client_kwargs(settings), outputs, is_abandoning=True)
    try:
        await producers.own(range(partitions))
    finally:
        await producers.stop()


def install(
    settings: Settings,
    cluster: Cluster,
    clock: Clock,
    command: str,
    cursors: Mapping[Place, int],
    states: Iterable[Whole],
    tell: Callable[[int], None],
) -> None:
    """Put a whole state in the place of what there is.

    `command` is what has to be run again when this is killed; `cursors` say how far the state has every input; `states` has every
    partition once; `tell` hears how many records of the changelog were written. Raises BrokerError, and Fenced when a worker was started.
    """
    cluster.commit(cursors)
    failpoint("witnessed")
    cluster.replace_changelog()
    failpoint("replaced")
    numbers = range(cluster.inspect().partitions)
    asyncio.run(_guarded(_Installation(settings, cluster, clock, tell).write(command, numbers, states)))


async def _guarded(work: object) -> None:
    try:
        await work  # type: ignore[misc]
    except ProducerFenced as error:
        raise Fenced("a worker was started meanwhile", "stop it, then run this again") from error
    except KafkaError as error:
        raise BrokerError(f"the state could not be written: {error!r}", "run this again: no worker starts on what is there now") from error


class _Installation:
    """Writes a state, partition by partition, as the only writer."""

    def __init__(self, settings: Settings, cluster: Cluster, clock: Clock, tell: Callable[[int], None]) -> None:
        self._names = cluster.names
        self._producers = Producers(settings.app_id, client_kwargs(settings), cluster.names.outputs, is_abandoning=True)
        self._clock = clock
        self._tell = tell

    async def write(self, command: str, numbers: Iterable[int], states: Iterable[Whole]) -> None:
        """Mark every partition, then write them all."""
        try:
            await self._producers.own(numbers)
            for number in numbers:
                await self._transact(number, Portion(changelog=[(UNFINISHED_KEY, command.encode())]))
            failpoint("marked")
            for number, portions in states:
                await self._write_partition(number, portions)
                failpoint("partition_written")
        finally:
            await self._producers.stop()

    async def _write_partition(self, number: int, portions: Iterable[Portion]) -> None:
        pending: Portion | None = None
        for portion in portions:
            if pending is not None:
                await self._transact(number, pending)
                failpoint("portion_written")
            pending = portion
        last = pending or Portion()
        last.changelog.insert(0, (UNFINISHED_KEY, None))
        await self._transact(number, last)

    async def _transact(self, number: int, portion: Portion) -> None:
        writer, names = self._producers.of(number), self._names
        if writer is None:
            raise BrokerError(f"there is no partition {number}", "churnwatch topics check")
        now_ms = self._clock.now_us() // 1000
        async with writer.transaction() as producer:
            for topic, records in (
                (names.alerts, portion.alerts),
                (names.alert_state, portion.alert_states),
                (names.scores, portion.scores),
                (names.changelog, portion.changelog),
            ):
                if records:
                    await send(producer, topic, number, records, now_ms)
            if portion.letters:
                await self._send_letters(producer, number, portion.letters, now_ms)
        self._tell(len(portion.changelog))

    async def _send_letters(self, producer: AIOKafkaProducer, number: int, letters: Sequence[Output], now_ms: int) -> None:
        topic = self._names.dead_letters
        count = len(await producer.partitions_for(topic))
        records = [(each.key, each.value, each.headers, each.timestamp_ms) for each in letters]
        await send_whole(producer, topic, number % count, records, now_ms)
