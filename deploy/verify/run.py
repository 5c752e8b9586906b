"""Verifying an installation on its cluster: a consistent cut through its topics, read and judged partition by partition.

How the cut is taken, all offsets at once and before anything is read:

1. of each changelog partition the offset below which every transaction has ended: that is the cut;
2. then of each output topic where it ends, open transactions included: whatever the cut's transactions wrote is below it;
3. once every transaction below those ends has ended, the ends of the changelog: between the cut and them is the tail, which holds the
   state behind everything in the outputs that is newer than the cut.

What belongs to what is in `deploy.verify.checks`. Inputs are read up to the cut's cursor. One partition is in memory at a time: its
rows, its latest scores, its alerts, and every event of its accounts, which the reference keeps.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from deploy.verify import reference
from deploy.verify.checks import Evidence, Input, Letter, Tail, judge_partition
from deploy.verify.kafka_log import KafkaLog
from deploy.verify.records import read_records
from deploy.verify.report import Report
from deploy.verify.rolled_up import Rolled
from models.dead_letters import PREFIX
from models.input_topics import COMMANDS, FOLDED_TOPICS
from stream_app.app import Names
from stream_app.exits import Exit, ServiceExit
from stream_app.pipeline import CURSOR_KEY, Position, UnknownCursorVersionError, read_cursor
from stream_app.state_reader import Changelog
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from deploy.verify.kafka_log import Place
    from deploy.verify.records import Header, LogRecord, Members
    from stream_app.settings import Settings

_ROW = b"r"


@dataclass(slots=True)
class Cut:
    """Where each partition begins, and where it is read to: the changelog to the cut and then to its tail, the others to their ends."""

    starts: dict[Place, int] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)
    tails: dict[Place, int] = field(default_factory=dict)


def verify(
    settings: Settings,
    decode: Callable[[LogRecord], Members | None] | None = None,
    *,
    is_drained: bool = True,
    partitions: Collection[int] = (),
    account: str | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Report:
    """Hold everything that an installation's workers have written against its inputs; they may run meanwhile.

    `is_drained`: everything that the inputs hold must have been folded, as it is once the workers have caught up and were stopped.
    `decode` gives what a record says in place of `deploy.verify.records`, None for one that must be a dead letter. `partitions`
    (all when empty) and `account` narrow what is judged. `tell` is called with the offsets that were passed and how many there are.
    Raises BrokerError when something cannot be read, ServiceExit for a partition that does not exist.
    """
    total = passed = 0

    def advance(offsets: int) -> None:
        nonlocal passed
        passed += offsets
        if tell is not None:
            tell(passed, total)

    with KafkaLog(settings, advance) as log:
        reader = Reader(settings, log)
        numbers = _wanted(reader.numbers, partitions)
        reader.take_cut()
        total = reader.size(numbers)
        reader.read_letters()
        reader.read_commands(decode)
        reader.read_portfolio()
        report = Report()
        places: dict[bytes, list[int]] = defaultdict(list)
        for number in numbers:
            evidence = reader.evidence(number, report, is_drained=is_drained)
            for key in evidence.changelog.latest:
                if key.startswith(b"r"):
                    places[key[1:]].append(number)
            judge_partition(settings, evidence, report, decode=decode, account=None if account is None else account.encode())
    report.spread = {key: found for key, found in places.items() if len(found) > 1}
    return report


def _wanted(numbers: Sequence[int], partitions: Collection[int]) -> list[int]:
    if strangers := sorted(set(partitions) - set(numbers)):
        raise ServiceExit(Exit.CONFIGURATION, f"the changelog has no partition {strangers[0]}", f"--partition takes 0 to {numbers[-1]}")
    return [number for number in numbers if not partitions or number in partitions]


class Reader:
    """Reads what is judged of one partition after the other, up to one cut."""

    def __init__(self, settings: Settings, log: KafkaLog) -> None:
        self._log = log
        self._names = Names.of(settings)
        self._inputs = {topic: topic_name(settings.topic_prefix, topic) for topic in FOLDED_TOPICS}
        self._topic_of = {name: topic for topic, name in self._inputs.items()}
        self.numbers = log.partitions(self._names.changelog)
        self._letters: dict[int, list[Letter]] = defaultdict(list)
        self._commands: list[reference.Event] = []
        self._portfolio: dict[int, list[Rolled]] = defaultdict(list)
        self._cursor_times: dict[int, dict[int, bytes]] = defaultdict(dict)
        self._cut = Cut()

    def take_cut(self) -> None:
        """Fix every offset that is read to; waits for transactions that are open."""
        names, log, cut = self._names, self._log, self._cut
        changelog = [(names.changelog, number) for number in self.numbers]
        outputs = [(topic, number) for topic in (names.scores, names.alerts, names.alert_state) for number in log.partitions(topic)]
        self._letter_places = [(names.dead_letters, number) for number in log.partitions(names.dead_letters)]
        inputs = [(name, number) for name in self._inputs.values() for number in log.partitions(name)]
        cut.ends |= log.stable_ends(changelog)
        self._portfolio_places = [(names.portfolio, number) for number in log.partitions(names.portfolio)]
        written = log.ends([*outputs, *self._letter_places, *self._portfolio_places])
        log.wait_stable(written)
        cut.ends |= written
        cut.tails |= log.ends(changelog)
        cut.ends |= log.stable_ends(inputs)
        cut.starts |= log.starts([*changelog, *outputs, *self._letter_places, *self._portfolio_places, *inputs])

    def size(self, numbers: Iterable[int]) -> int:
        """Return about how many offsets are read for some partitions."""
        wanted = set(numbers)
        places = [place for place in self._cut.ends if place[1] in wanted or place[0] in (self._names.dead_letters, self._names.portfolio)]
        return sum(self._cut.ends[place] - self._cut.starts[place] for place in places)

    def read_letters(self) -> None:
        """Read what the dead letters say of their records: those of a partition may lie anywhere."""
        for place in self._letter_places:
            for record in self._log.records(place, self._cut.starts[place], self._cut.ends[place]):
                told = error_headers(record.headers)
                topic = self._topic_of.get(told.get("topic", ""), told.get("topic", ""))
                if (number := told.get("partition", "")).isdecimal() and (offset := told.get("offset", "")).isdecimal():
                    self._letters[int(number)].append(Letter(topic, int(offset), record.key, told.get("reason", "")))

    def read_commands(self, decode: Callable[[LogRecord], Members | None] | None) -> None:
        """Read what is decided for all accounts: every partition has its copy, and one that came later has those of the others."""
        name = self._inputs[COMMANDS]
        for number in self._log.partitions(name):
            for read in read_records(COMMANDS, self._whole((name, number)), decode):
                if read.members is not None:
                    self._commands.append(reference.Event.of(read.members))

    def read_portfolio(self) -> None:
        """Read the latest of each record of the roll-up: those of a partition may lie anywhere."""
        latest: dict[bytes, LogRecord] = {}
        for place in self._portfolio_places:
            for record in self._whole(place):
                latest[record.key or b""] = record
        for key, record in latest.items():
            number = key.split(b"/")[0]
            if record.value is not None and number.isdigit():
                self._portfolio[int(number)].append(Rolled(key, record.value, record.timestamp))

    def evidence(self, number: int, report: Report, *, is_drained: bool) -> Evidence:
        """Read a partition; its inputs are read when they are asked for."""
        names = self._names
        changelog = self._changelog(number)
        return Evidence(
            number=number,
            changelog=changelog,
            inputs={topic: self._input((name, number), changelog, report, is_drained=is_drained) for topic, name in self._inputs.items()},
            scores=self._latest((names.scores, number)),
            alerts=[(record.key, record.value) for record in self._whole((names.alerts, number))],
            alert_states=self._latest((names.alert_state, number)),
            letters=self._letters.pop(number, []),
            commands=self._commands,
            portfolio=self._portfolio.pop(number, []),
            cursor_times=self._cursor_times.pop(number, {}),
            tail=self._tail(number),
            # A state that was carried over from elsewhere counts alerts which were said there.
            is_alert_log_whole=self._cut.starts.get((names.alerts, number), 0) == 0 and not _is_carried(changelog),
            is_letter_log_whole=all(self._cut.starts[place] == 0 for place in self._letter_places),
        )

    def _whole(self, place: Place) -> Iterable[LogRecord]:
        return self._log.records(place, self._cut.starts.get(place, 0), self._cut.ends.get(place, 0))

    def _latest(self, place: Place) -> dict[bytes, bytes]:
        """Return the last value of each key of a compacted topic; a key that was deleted is not there."""
        latest: dict[bytes, bytes] = {}
        for record in self._whole(place):
            if record.value is None:
                latest.pop(record.key or b"", None)
            else:
                latest[record.key or b""] = record.value
        return latest

    def _changelog(self, number: int) -> Changelog:
        found = Changelog()
        for record in self._whole((self._names.changelog, number)):
            key, value = record.key or b"", record.value
            if value is None:
                found.latest.pop(key, None)
                continue
            found.latest[key] = value
            if key == CURSOR_KEY:
                found.cursors.append(value)
                self._cursor_times[number][record.timestamp] = value
        return found

    def _tail(self, number: int) -> Tail:
        tail = Tail()
        place = (self._names.changelog, number)
        for record in self._log.records(place, self._cut.ends[place], self._cut.tails[place]):
            if record.value is not None and record.key == CURSOR_KEY:
                tail.cursors.append(record.value)
            elif record.value is not None and record.key is not None and record.key.startswith(_ROW):
                tail.rows[record.key.removeprefix(_ROW)].append(record.value)
        return tail

    def _input(self, place: Place, changelog: Changelog, report: Report, *, is_drained: bool) -> Input:
        """Return one input of a partition up to the cursor; what lies behind it is counted."""
        start, end = self._cut.starts.get(place, 0), self._cut.ends.get(place, 0)
        position = _positions(changelog).get(place[0])
        cursor = None if position is None else position.offset
        start = start if position is None else max(start, position.carried_from)
        reached = start if cursor is None else max(cursor, start)
        report.behind += max(end - reached, 0)
        unfolded = sum(1 for _ in self._log.records(place, reached, end)) if is_drained else 0
        records = () if cursor is None else self._log.records(place, start, min(cursor, end))
        return Input(records, start, end, unfolded)


def _positions(changelog: Changelog) -> dict[str, Position]:
    """Return the positions of the last cursor; none where there is none, or none that can be read."""
    try:
        return read_cursor(changelog.latest.get(CURSOR_KEY))
    except (msgspec.DecodeError, UnknownCursorVersionError):
        return {}  # the judge of the cursors says so


def _is_carried(changelog: Changelog) -> bool:
    return any(position.carried_from >= 0 for position in _positions(changelog).values())


def error_headers(headers: Iterable[Header]) -> dict[str, str]:
    """Return what a dead letter says of its record, without the prefix of its headers; of a header that repeats the last counts."""
    return {name.removeprefix(PREFIX): (value or b"").decode(errors="replace") for name, value in headers if name.startswith(PREFIX)}
