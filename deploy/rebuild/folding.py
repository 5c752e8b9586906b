"""The past of a partition folded again, quietly: the worker's own pipeline and line-up, over the input logs from where they begin.

Time passes as it does in a catch-up: a topic that is behind holds it back, silent accounts age by ticks, waits of alerts run. Nothing is
said of it. At the end, the cut-over, each account gets the alert that was said (`deploy.rebuild.alerts`) and is assessed once more; what
that decision says is news, and goes out with the state.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from deploy.rebuild.alerts import carried_over
from models.fixed import Ints
from models.health import assess
from models.row import NEVER, NONE
from models.times import parse_us
from stream_app.exits import BrokerError, Exit, ServiceExit
from stream_app.kafka_connection import client_kwargs
from stream_app.lineup import Lineup
from stream_app.pipeline import Partition, Position, Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from alerts.events import AlertStateRecord
    from stream_app.clock import Clock
    from stream_app.pipeline import Definition, Output
    from stream_app.settings import Settings
    from stream_app.topics import Log

FETCH_RECORDS: Final = 5_000
FETCH_MS: Final = 500
SILENT_FETCHES: Final = 120
"""A minute: how often in a row a broker may have nothing of what its log holds."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What of an input partition is folded: from `start` to before `goal`; the log ends at `end`."""

    start: int
    goal: int
    end: int


class PastPartition(Partition):
    """A partition of which everybody was told; `settle` ends that."""

    def __init__(self, number: int, definition: Definition, logs: Mapping[str, Log]) -> None:
        super().__init__(number, definition)
        self.logs = logs
        self._alerting.is_quiet = True

    def pass_time(self, now_us: int) -> None:
        """Assess what events touched, and every account that is due by then."""
        self.assess_touched()
        while self.tick(now_us):
            pass

    def take_dead_letters(self) -> list[Output]:
        """What could not be used since this was called last."""
        letters, self._dead_letters = self._dead_letters, []
        return letters

    def settle(self, now_us: int, said: Mapping[bytes, AlertStateRecord]) -> None:
        """Carry the alerts over, assess every account once, and let the policy speak; an account with nothing but an alert gets a row."""
        columns = self.columns
        if now_us == NEVER:
            now_us = max((parse_us(record.changed_at) for record in said.values()), default=NEVER)
        self.pass_time(now_us)
        columns.slots_of(list(said))
        for key, slot in columns.slots.items():
            self._alerting.keep(slot, carried_over(self._alerting.state(slot), said.get(key)))
        self._alerting.is_quiet, self._alerting.received_us = False, None
        slots = np.arange(len(columns), dtype=np.int64)
        if len(slots):
            as_of = self._as_of(slots, now_us)
            found = assess(columns, slots, as_of, self.definition.scale)
            self._write(slots, as_of, found)
            self._decide(slots, as_of, found)
        # What a reader saw last is not known here: the first assessment of a new state has no delta, as the first of all.
        columns.said_score[slots] = NONE
        columns.said_contribution[slots] = NONE
        self.mark_whole()

    def mark_whole(self) -> None:
        """Let the next checkpoint hold everything, not only what has changed."""
        self.mark(np.arange(len(self.columns), dtype=np.int64))
        self.commands.mark_whole()
        self._changed_parts = {
            (name, slot) for name, shelf in self.columns.parts.items() for slot in range(len(self.columns)) if shelf.has(slot)
        }

    def mark(self, slots: Ints) -> None:
        """Let the next checkpoint hold the rows and scores of these accounts."""
        self.columns.trigger_topic[slots] = -1
        self._mark(slots)

    def reach(self, topic: str, offset: int) -> None:
        """Let the cursor of a topic stand there, also where nothing of it was folded: so every input of a whole state has one."""
        log = self.logs[topic]
        position = self.positions.setdefault(topic, Position(offset, topic_id=log.topic_id, partitions=log.partitions))
        position.offset = offset


class Folding:
    """Reads and folds the inputs of one partition after the other."""

    def __init__(self, consumer: AIOKafkaConsumer, clock: Clock, tell: Callable[[int], None]) -> None:
        """`tell` is called with the number of offsets that were passed."""
        self._consumer = consumer
        self._clock = clock
        self._tell = tell

    async def fold(self, partition: PastPartition, stretches: Mapping[str, Stretch], keep: Callable[[Output], bool]) -> list[Output]:
        """Fold the stretches of a partition's inputs; the dead letters that `keep` asks for. Raises BrokerError."""
        tps = {topic: TopicPartition(topic, partition.number) for topic in stretches}
        self._consumer.assign(list(tps.values()))
        for topic, stretch in stretches.items():
            self._consumer.seek(tps[topic], stretch.start)
        pass_ = _Pass(partition, stretches, self._clock)
        letters: list[Output] = []
        silent = 0
        while wanted := pass_.wanted():
            before = sum(pass_.read.values())
            found = await self._consumer.getmany(*(tps[topic] for topic in wanted), timeout_ms=FETCH_MS, max_records=FETCH_RECORDS)
            for topic in wanted:
                pass_.take_in(topic, found.get(tps[topic], []), await self._consumer.position(tps[topic]))
            pass_.fold()
            letters += filter(keep, partition.take_dead_letters())
            passed = sum(pass_.read.values()) - before
            silent = 0 if passed else silent + 1
            if silent == SILENT_FETCHES:
                raise BrokerError(f"partition {partition.number}: nothing comes of {', '.join(wanted)}", "run it again")
            self._tell(passed)
        if not pass_.is_done:
            raise ServiceExit(Exit.OTHER, f"partition {partition.number} was not folded to its end", "report this; nothing was changed")
        for topic, stretch in stretches.items():
            partition.reach(topic, stretch.goal)
        return letters


class _Pass:
    """How far the stretches of one partition are read and folded."""

    def __init__(self, partition: PastPartition, stretches: Mapping[str, Stretch], clock: Clock) -> None:
        self.read = {topic: stretch.start for topic, stretch in stretches.items()}
        self._folded = dict(self.read)
        self._partition = partition
        self._stretches = stretches
        self._clock = clock
        self._lineup = Lineup(partition.definition.is_log_clock)

    def wanted(self) -> list[str]:
        """The topics that are to be read on; there is one as long as anything is to be folded."""
        return [topic for topic, stretch in self._stretches.items() if self.read[topic] < stretch.goal and self._lineup.has_room(topic)]

    @property
    def is_done(self) -> bool:
        """Whether all of it is folded."""
        return not self._behind("goal")

    def take_in(self, topic: str, records: Sequence[Any], position: int) -> None:
        """Put what was read of a topic into the line."""
        goal = self._stretches[topic].goal
        self.read[topic] = max(self.read[topic], min(position, goal))
        if mine := [record for record in records if record.offset < goal]:
            self._lineup.add(topic, self._partition.runs(topic, mine, self.read[topic]))
        elif self._lineup.following(topic) is None:
            self._folded[topic] = self.read[topic]

    def fold(self) -> None:
        """Fold every run whose turn it is."""
        # With the clock standing still nobody's patience ends: the order is that of the events' times, however long a fetch takes.
        while run := self._lineup.take(self._behind("goal"), self._newest_us, 0.0):
            is_last = self._lineup.following(run.topic) is None
            self._folded[run.topic] = self.read[run.topic] if is_last else run.following
            behind, wall_us = self._behind("end"), self._clock.now_us()
            self._partition.step_run(run, behind, wall_us, Tally())
            self._partition.pass_time(self._partition.now(behind, wall_us))

    def _behind(self, bound: str) -> set[str]:
        return {topic for topic, stretch in self._stretches.items() if self._folded[topic] < getattr(stretch, bound)}

    def _newest_us(self, topic: str) -> int:
        position = self._partition.positions.get(topic)
        return NEVER if position is None else position.newest_us


def cut_over_us(partition: Partition, stretches: Mapping[str, Stretch], wall_us: int) -> int:
    """Return the time of a partition whose stretches are folded: the wall clock's, unless its logs go on."""
    return partition.now({topic for topic, stretch in stretches.items() if stretch.goal < stretch.end}, wall_us)


@asynccontextmanager
async def folding(settings: Settings, clock: Clock, tell: Callable[[int], None]) -> AsyncIterator[Folding]:
    """Open a connection to fold with; raises BrokerError when the broker cannot be reached, or goes away."""
    consumer = AIOKafkaConsumer(
        **client_kwargs(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=20,
    )
    try:
        await consumer.start()
        yield Folding(consumer, clock, tell)
    except KafkaError as error:
        raise BrokerError(f"the inputs cannot be read: {error!r}", "nothing was changed; run it again") from error
    finally:
        await consumer.stop()
