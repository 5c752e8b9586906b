"""Sending the records of dead letters again: what is sent and that it was sent are one transaction, so it happens once.

The transactional id is `<app_id>-dlq-replay`. A replay that starts ends the one before it, and aborts what that left open, before it reads
what was replayed: whatever a killed or overtaken one had not committed is sent by the next, and nothing twice.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.structs import TopicPartition

from deploy.dlq.letters import Letter, Mark, Plan, Selection, chunks, plan, replay_headers
from deploy.dlq.reading import REPLAYS, Reader
from models.times import format_us
from stream_app.exits import BrokerError, Fenced
from stream_app.failpoints import failpoint
from stream_app.kafka_connection import client_kwargs
from stream_app.producers import send_whole, take_over
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiokafka import AIOKafkaProducer

    from deploy.dlq.letters import Item, Place
    from stream_app.clock import Clock
    from stream_app.producers import Whole, Writer
    from stream_app.settings import Settings

TRANSACTION_RECORDS: Final = 500
TRANSACTION_BYTES: Final = 8 << 20


@dataclass(slots=True)
class Outcome:
    """What a replay did: `planned` is what it was going to do, `sent` how many records are committed, `gone` how many were no longer there.

    `is_stopped`: somebody asked it to end before all was sent.
    """

    planned: Plan = field(default_factory=Plan)
    sent: int = 0
    gone: int = 0
    is_stopped: bool = False


@dataclass(slots=True)
class Replay:
    """A replay of the dead letters that a selection means; `tell` hears of every transaction, `is_wanted` is asked before each."""

    settings: Settings
    reader: Reader
    clock: Clock
    selection: Selection
    is_forced: bool
    tell: Callable[[Outcome], None]
    is_wanted: Callable[[], bool]
    transaction_records: int = TRANSACTION_RECORDS

    async def run(self) -> Outcome:
        """Send what is to be sent; raises BrokerError, and Fenced when another replay has begun."""
        outcome = Outcome()
        try:
            async with self._writer() as writer:
                await self._send_all(writer, outcome)
        except ProducerFenced as error:
            raise Fenced(f"another replay has begun; {_so_far(outcome)}", "let it end") from error
        except KafkaError as error:
            message = f"a replay could not go on: {type(error).__name__}: {error}; {_so_far(outcome)}"
            raise BrokerError(message, "replay again: what was sent is not sent twice") from error
        return outcome

    @contextlib.asynccontextmanager
    async def _writer(self) -> AsyncIterator[Writer]:
        name = f"{self.settings.app_id}-dlq-replay"
        inputs = (TopicPartition(topic, number) for topic, count in self.reader.inputs.items() for number in range(count))
        places = {name: [TopicPartition(self._marks, 0), *inputs]}
        writer = (await take_over(client_kwargs(self.settings), places))[name]
        try:
            yield writer
        finally:
            await writer.producer.stop()

    @property
    def _marks(self) -> str:
        return topic_name(self.settings.topic_prefix, REPLAYS)

    async def _send_all(self, writer: Writer, outcome: Outcome) -> None:
        marks = self.reader.marks()
        outcome.planned = plan(self.selection.of(self.reader.letters()), marks, is_forced=self.is_forced)
        self.tell(outcome)
        if outlived := self.reader.outlived(marks):
            await self._forget(writer, outlived)
        for chunk in chunks(outcome.planned.items, self.transaction_records, TRANSACTION_BYTES):
            if not self.is_wanted():
                outcome.is_stopped = True
                return
            letters = self.reader.fetch(item.place for item in chunk)
            present = [(item, letters[item.place]) for item in chunk if item.place in letters]
            await self._transact(writer, present)
            outcome.sent += len(present)
            outcome.gone += len(chunk) - len(present)
            self.tell(outcome)

    async def _transact(self, writer: Writer, present: list[tuple[Item, Letter]]) -> None:
        """Send some records and their marks in one transaction."""
        now_us = self.clock.now_us()
        async with writer.transaction() as producer:
            for (topic, partition), some in groupby(present, key=lambda each: each[0][:2]):
                records = [_record(letter) for _, letter in some]
                await send_whole(producer, topic, partition, records, now_us // 1000)
            await self._mark(producer, [_mark(item, now_us) for item, _ in present], now_us)
            failpoint("in_replay")
        failpoint("after_replay")

    async def _forget(self, writer: Writer, outlived: list[Place]) -> None:
        """Remove the marks of dead letters that are gone."""
        async with writer.transaction() as producer:
            await self._mark(producer, [(str(place).encode(), None, (), None) for place in outlived], self.clock.now_us())

    async def _mark(self, producer: AIOKafkaProducer, marks: list[Whole], now_us: int) -> None:
        await send_whole(producer, self._marks, 0, marks, now_us // 1000)


def _record(letter: Letter) -> Whole:
    # A header may have no value at all, which the type of what we write ourselves does not know.
    return letter.key, letter.value, replay_headers(letter), None  # type: ignore[return-value]


def _mark(item: Item, now_us: int) -> Whole:
    return str(item.place).encode(), Mark(str(item.source), item.replay, format_us(now_us)).encode(), (), None


def _so_far(outcome: Outcome) -> str:
    return f"{outcome.sent:,} of {len(outcome.planned.items):,} records are sent, and that is on record"
