"""Rebuilding: read what was said, fold the inputs again, and only when the new state is whole, put it in the place of the old one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from deploy.rebuild.cluster import Cluster
from deploy.rebuild.folding import PastPartition, cut_over_us, folding
from deploy.rebuild.installing import TRANSACTION_SLICES, Portion, fence, install
from deploy.rebuild.past import read_past, refuse_writers
from deploy.rebuild.plan import Plan, make_plan
from deploy.verify.kafka_log import KafkaLog
from deploy.verify.run import error_headers
from models.commands import Commands
from stream_app.app import definition_of
from stream_app.checkpoints import SLICE_ACCOUNTS
from stream_app.exits import Exit, ServiceExit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from deploy.verify.kafka_log import Place
    from stream_app.clock import Clock
    from stream_app.pipeline import Output
    from stream_app.settings import Settings
    from stream_app.topics import Log

COMMAND: Final = "churnwatch rebuild"

Base = dict[int, PastPartition]
"""The partitions as a snapshot has them."""


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild did."""

    accounts: int = 0
    records: int = 0
    alerts: int = 0
    dead_letters: int = 0


@dataclass
class Rebuild:
    """A rebuild of an installation; its steps in their order are `prepare`, `fold` and `install`.

    `tell` hears what is under way, how much of it is done, and of how much.
    """

    settings: Settings
    clock: Clock
    tell: Callable[[str, int, int], None]
    base: Callable[[Mapping[str, Log]], Base] | None = None
    snapshot: str | None = None
    _letters: dict[int, list[Output]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing is asked of the cluster yet."""
        self.cluster = Cluster(self.settings)
        self._partitions: Base = {}

    def prepare(self, *, is_dry: bool = False) -> Plan:
        """Look at everything, and end who still writes (not when it is dry); raises BrokerError, and ServiceExit while workers run."""
        self.cluster.refuse_workers()
        partitions = self.cluster.inspect().partitions
        if not is_dry:
            fence(self.settings, partitions)
        self.logs = self.cluster.logs()
        if self.base is not None:
            self._partitions = self.base(self.logs)
        with KafkaLog(self.settings) as log:
            self.past = read_past(self.cluster, log, self.logs)
            places = [(topic, number) for topic in self.cluster.inputs for number in log.partitions(topic)]
            starts, ends = log.starts(places), log.stable_ends(places)
        bounds = {place: (starts[place], ends[place]) for place in places}
        bases = {number: partition.positions for number, partition in self._partitions.items()} if self.base is not None else None
        self.plan = make_plan(self.cluster.inputs, bounds, self.past, partitions, bases)
        self.plan.snapshot = self.snapshot
        return self.plan

    def fold(self) -> None:
        """Fold the inputs; nothing is written. Raises BrokerError."""
        asyncio.run(self._fold())

    async def _fold(self) -> None:
        total = self.plan.records
        done = 0

        def advance(offsets: int) -> None:
            nonlocal done
            done += offsets
            self.tell("folding", done, total)

        definition = definition_of(self.settings)
        async with folding(self.settings, self.clock, advance) as work:
            for number, stretches in self.plan.stretches.items():
                partition = self._partitions.setdefault(number, PastPartition(number, definition, self.logs))
                self._letters[number] = await work.fold(partition, stretches, self._is_missing)
                partition.settle(cut_over_us(partition, stretches, self.clock.now_us()), self.past.states[number])
        share_commands(self._partitions.values())

    def _is_missing(self, letter: Output) -> bool:
        """Whether a dead letter is to be written: its record has none, and nothing says that it was read before."""
        told = error_headers(letter.headers)
        topic, number, offset = told["topic"], int(told["partition"]), int(told["offset"])
        was_read = number in self.past.is_known and (topic, number) not in self.past.replaced
        return not was_read and (topic, number, offset) not in self.past.letters

    def install(self) -> Rebuilt:
        """Put the new state in the place of the old one; raises BrokerError, and ServiceExit when a worker was started meanwhile."""
        self.cluster.refuse_workers()
        refuse_writers(self.settings, self.cluster, self.past)
        cursors: dict[Place, int] = {
            (topic, number): stretch.goal for number, of_topic in self.plan.stretches.items() for topic, stretch in of_topic.items()
        }
        rebuilt = Rebuilt(accounts=sum(len(partition.columns) for partition in self._partitions.values()))

        def written(records: int) -> None:
            rebuilt.records += records
            self.tell("writing", rebuilt.records, 0)

        states = ((number, self._portions(number, rebuilt)) for number in sorted(self._partitions))
        install(self.settings, self.cluster, self.clock, self._command, cursors, states, written)
        return rebuilt

    @property
    def _command(self) -> str:
        return COMMAND if self.snapshot is None else f"{COMMAND} --from-snapshot {self.snapshot}"

    def _portions(self, number: int, rebuilt: Rebuilt) -> Iterator[Portion]:
        """Write a partition out, and let go of it; what is said goes with the cursor."""
        checkpoint = self._partitions.pop(number).take()
        slices, letters, said = checkpoint.slices(SLICE_ACCOUNTS), self._letters.pop(number), checkpoint.alerts
        gone = self.past.scored[number].keys() - set(checkpoint.keys)
        rebuilt.alerts += len(said)
        rebuilt.dead_letters += len(letters)
        some = list(islice(slices, TRANSACTION_SLICES))
        while some:
            portion = Portion([each for part in some for each in part.changelog], [each for part in some for each in part.scores])
            some = list(islice(slices, TRANSACTION_SLICES))
            if not some:
                portion.scores += [(key, None) for key in sorted(gone)]
                portion.alerts = [(each.key, each.event) for each in said]
                portion.alert_states = list((self.past.mends[number] | {each.key: each.state for each in said}).items())
                portion.letters = letters
            yield portion


def share_commands(partitions: Collection[PastPartition]) -> None:
    """Give every partition what was decided for all accounts: one that the topics got since then has no record of it in its own log."""
    everything = Commands()
    for partition in partitions:
        everything.merge(partition.commands)
    for partition in partitions:
        partition.commands.merge(everything)
        partition.commands.mark_whole()
        partition.revalue()


def refuse_gaps(plan: Plan, *, is_gap_accepted: bool) -> None:
    """Raise ServiceExit when a snapshot and the logs leave a gap that nobody has accepted."""
    if plan.gaps and not is_gap_accepted:
        (topic, number), count = min(plan.gaps.items())
        raise ServiceExit(
            Exit.OTHER,
            f"{topic}, partition {number}: {count:,} offsets after the snapshot are no longer in the log",
            "send them again under the same ids, rebuild from the inputs alone, or take the loss with --accept-gap",
        )
