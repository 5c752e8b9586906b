"""Putting a snapshot into an installation that has no state: record by record as it was, with the scores and the alerts that go with it.

What the outputs hold must not be newer than the snapshot: a worker that went on from there would say once more what it has said
already. Then `churnwatch rebuild --from-snapshot` is the way, which folds the rest quietly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from alerts.events import decode_state
from deploy.rebuild.cluster import Cluster
from deploy.rebuild.folding import PastPartition
from deploy.rebuild.installing import Portion, fence, install
from deploy.rebuild.past import read_past, refuse_writers
from deploy.snapshot.format import STATE
from deploy.snapshot.placing import placed, refuse_needless
from deploy.verify.kafka_log import KafkaLog
from models.times import parse_us
from stream_app.app import definition_of
from stream_app.checkpoints import SLICE_ACCOUNTS
from stream_app.exits import Exit, ServiceExit
from stream_app.pipeline import CURSOR_KEY, CURSOR_VERSION, Cursor, Position, read_cursor
from stream_app.recovery import hold_logs
from stream_app.unfinished import UNFINISHED_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deploy.rebuild.past import Past
    from deploy.snapshot.format import Line, Snapshot
    from deploy.snapshot.placing import Elsewhere
    from deploy.verify.kafka_log import Place
    from stream_app.clock import Clock
    from stream_app.settings import Settings
    from stream_app.topics import Log

COMMAND: Final = "churnwatch snapshot import"
TRANSACTION_RECORDS: Final = 5_000


@dataclass(slots=True)
class Imported:
    """What an import wrote."""

    accounts: int = 0
    records: int = 0
    scores: int = 0
    alert_states: int = 0


@dataclass
class Part:
    """What a snapshot holds of one partition."""

    number: int
    state: dict[bytes, bytes]
    alerts: dict[bytes, bytes]

    @property
    def positions(self) -> dict[str, Position]:
        """Where its cursor stands."""
        return read_cursor(self.state.get(CURSOR_KEY))


def parts_of(snapshot: Snapshot) -> Iterator[Part]:
    """Read a snapshot partition by partition; a partition of which it holds nothing is empty."""
    following = 0
    for number, lines in groupby(snapshot.lines(), key=lambda line: line.partition):
        yield from (Part(empty, {}, {}) for empty in range(following, number))
        yield _part(number, lines)
        following = number + 1
    yield from (Part(empty, {}, {}) for empty in range(following, snapshot.header.partitions))


def _part(number: int, lines: Iterator[Line]) -> Part:
    part = Part(number, {}, {})
    for line in lines:
        (part.state if line.kind == STATE else part.alerts)[line.key] = line.value
    return part


def refuse_other_partitions(snapshot: Snapshot, partitions: int) -> None:
    """Raise ServiceExit when accounts would not be where their events come."""
    if snapshot.header.partitions != partitions:
        raise ServiceExit(
            Exit.CONFIGURATION,
            f"{snapshot.path} is of {snapshot.header.partitions} partitions, and there are {partitions} here",
            "make topics with as many partitions: CHURNWATCH_PARTITIONS, under another CHURNWATCH_TOPIC_PREFIX",
        )


def base_of(settings: Settings, snapshot: Snapshot, logs: Mapping[str, Log]) -> dict[int, PastPartition]:
    """Return the partitions as a snapshot has them, for a rebuild to go on from; raises StateMustBeRebuilt where the inputs are others."""
    names = Cluster(settings).input_names
    refuse_other_partitions(snapshot, next(logs[name].partitions for name in names.values()))
    prefix = f"{snapshot.header.topic_prefix}." if snapshot.header.topic_prefix else ""
    found = {}
    for part in parts_of(snapshot):
        partition = PastPartition(part.number, definition_of(settings), logs)
        partition.restore(iter(part.state.items()), None)
        partition.positions = {names.get(name.removeprefix(prefix), name): position for name, position in part.positions.items()}
        hold_logs(partition, logs)
        found[part.number] = partition
    return found


@dataclass
class Import:
    """An import of a snapshot that was found whole; `tell` hears what is under way, how much of it is done, and of how much."""

    settings: Settings
    clock: Clock
    snapshot: Snapshot
    elsewhere: Elsewhere | None
    tell: Callable[[str, int, int], None]

    def __post_init__(self) -> None:
        """Nothing is asked of the cluster yet."""
        self.cluster = Cluster(self.settings)

    def prepare(self) -> None:
        """Look whether it can be imported, and change nothing, but end who still writes; raises BrokerError and ServiceExit."""
        cluster = self.cluster
        cluster.refuse_workers()
        partitions = cluster.inspect().partitions
        refuse_other_partitions(self.snapshot, partitions)
        fence(self.settings, partitions)
        self.logs = cluster.logs()
        with KafkaLog(self.settings) as log:
            self._refuse_state(log)
            places = [(name, number) for name in cluster.inputs for number in log.partitions(name)]
            starts, ends = log.starts(places), log.stable_ends(places)
            self.past = read_past(cluster, log, {})
        bounds = {place: (starts[place], ends[place]) for place in places}
        self.positions: dict[int, dict[str, Position]] = {}
        for part in parts_of(self.snapshot):
            positions = placed(part.positions, part.number, self.snapshot.header, cluster.input_names, self.logs, bounds, self.elsewhere)
            refuse_newer(part, positions, self.past)
            self.positions[part.number] = positions
        refuse_needless(self.elsewhere, self.positions)

    def _refuse_state(self, log: KafkaLog) -> None:
        """Raise ServiceExit when the changelog holds anything but what a killed import has left."""
        name = self.cluster.names.changelog
        if name not in self.logs:
            return
        places = [(name, number) for number in log.partitions(name)]
        starts, ends = log.starts(places), log.stable_ends(places)
        marks: dict[int, bytes | None] = {}
        for place in places:
            for record in log.records(place, starts[place], ends[place]):
                if record.key == UNFINISHED_KEY or place[1] not in marks:
                    marks[place[1]] = record.value if record.key == UNFINISHED_KEY else None
        if marks and not any(mark is not None and mark.decode().startswith(COMMAND) for mark in marks.values()):
            raise ServiceExit(
                Exit.OTHER,
                f"{name} is not empty: there is a state here",
                "import into another CHURNWATCH_APP_ID and CHURNWATCH_TOPIC_PREFIX, or delete the changelog if you mean to",
            )

    def install(self) -> Imported:
        """Write it all; raises BrokerError, and ServiceExit when a worker was started meanwhile."""
        cluster, imported = self.cluster, Imported()
        cluster.refuse_workers()
        refuse_writers(self.settings, cluster, self.past)
        total = sum(each.state for each in self.snapshot.footer.partitions)
        cursors: dict[Place, int] = {
            # What the state has no position of was never read: to have committed nothing of it says so.
            (name, number): positions[name].offset if name in positions else 0
            for number, positions in self.positions.items()
            for name in cluster.inputs
        }

        def written(records: int) -> None:
            imported.records += records
            self.tell("writing", imported.records, total)

        states = ((part.number, self._portions(part, imported)) for part in parts_of(self.snapshot))
        install(self.settings, cluster, self.clock, f"{COMMAND} {self.snapshot.path}", cursors, states, written)
        return imported

    def _portions(self, part: Part, imported: Imported) -> Iterator[Portion]:
        """Write a partition as it is in the file, and of scores and alerts what is not there yet; the cursor comes last."""
        cursor = part.state.pop(CURSOR_KEY, None)
        positions = self.positions[part.number]
        if positions != read_cursor(cursor):
            cursor = msgspec.msgpack.encode(Cursor(CURSOR_VERSION, positions), order="deterministic")
        imported.accounts += self.snapshot.footer.partitions[part.number].accounts
        for batch in self._scores(part):
            imported.scores += len(batch)
            yield Portion(scores=batch)
        waiting = list(part.state.items())
        for start in range(0, len(waiting), TRANSACTION_RECORDS):
            yield Portion(changelog=[*waiting[start : start + TRANSACTION_RECORDS]])
        known = self.past.states[part.number]
        states = [(key, value) for key, value in part.alerts.items() if key not in known]
        imported.alert_states += len(states)
        yield Portion(changelog=[] if cursor is None else [(CURSOR_KEY, cursor)], alert_states=[*states])

    def _scores(self, part: Part) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """Write the scores of the rows that `health-scores` does not hold, as those of the configuration that made them."""
        definition = replace(definition_of(self.settings), config_version=self.snapshot.header.config_version)
        partition = PastPartition(part.number, definition, self.logs)
        partition.restore(iter(part.state.items()), None)
        columns, known = partition.columns, self.past.scored[part.number]
        missing = [slot for key, slot in columns.slots.items() if not _is_scored_at(known.get(key, ""), int(columns.as_of[slot]))]
        partition.mark(np.array(missing, np.int64))
        for slice_ in partition.take().slices(SLICE_ACCOUNTS):
            yield [*slice_.scores]


def _is_scored_at(scored_at: str, as_of: int) -> bool:
    return bool(scored_at) and parse_us(scored_at) == as_of


def refuse_newer(part: Part, positions: Mapping[str, Position], past: Past) -> None:
    """Raise ServiceExit when the outputs have said of a partition what its part of the snapshot does not know."""
    mend = "churnwatch rebuild --from-snapshot FILE folds what came after the snapshot, and says nothing twice"
    said = {key: decode_state(value).sequence for key, value in part.alerts.items()}
    for key, state in past.states[part.number].items():
        if state.sequence > said.get(key, 0):
            raise ServiceExit(Exit.OTHER, f"partition {part.number}: alerts were said that are newer than the snapshot", mend)
    for topic, number, offset in past.letters:
        position = positions.get(topic) if number == part.number else None
        # A dead letter does not say of which log it is: where the input is another topic now, it may be of the old one.
        if position is not None and position.carried_from != position.offset and offset >= position.offset:
            raise ServiceExit(Exit.OTHER, f"{topic}, partition {number}: there are dead letters that are newer than the snapshot", mend)
