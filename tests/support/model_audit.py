"""What must hold of everything that workers on the model of Kafka have committed: at any moment, and once all of it is read."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from aiokafka.errors import ProducerFenced
from faust.types import TP

from alerts.events import encode_state
from deploy.verify import reference as oracle
from deploy.verify.alert_log import alert_problems, latest_states
from deploy.verify.equality import assessed_by_stream, differences, rates_by_stream
from deploy.verify.reference_commands import rates
from deploy.verify.reference_portfolio import added_up
from models.input_topics import COMMANDS, FOLDED_TOPICS
from stream_app.exits import StateMustBeRebuilt
from stream_app.pipeline import CURSOR_KEY, Partition, Position, read_cursor
from tests.support.kafka_model import NAMES, PARTITIONS, Cluster, Entry, UnansweredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNTS = ("applied", "duplicate", "late", "dead_letter")


@dataclass
class Audit:
    """Holds a cluster against its inputs; `is_poison` says which input records cannot be used."""

    cluster: Cluster
    is_poison: Callable[[Entry], bool]
    _looked_at: int = -1
    _cursors: Counter[int] = field(default_factory=Counter)

    # -- at any moment

    def problems(self) -> list[str]:
        """List what is wrong with what is committed so far; quick when nothing was since the last look."""
        found = list(self._deaths())
        if self.cluster.broker.commits != self._looked_at:
            self._looked_at = self.cluster.broker.commits
            for number in range(PARTITIONS):
                found += [f"partition {number}: {problem}" for problem in (*self._cursor_problems(number), *self._output_problems(number))]
        return found

    def _deaths(self) -> Iterator[str]:
        """A worker may be killed, be fenced, or give up on a broker that was told not to answer, or on what nobody can decide any more."""
        for name, error in self.cluster.deaths:
            if isinstance(error, StateMustBeRebuilt) and self.cluster.broker.lost_decisions:
                continue
            if error is not None and not isinstance(error, ProducerFenced | UnansweredError):
                yield f"{name} ended with {error!r}"

    def _cursor_problems(self, number: int) -> Iterator[str]:
        """In the order of the log no position goes back, and each says what became of every record before it, once."""
        history = self.cluster.broker.cursors[number]
        fresh = history[max(self._cursors[number] - 1, 0) :]
        for (before_at, before), (after_at, after) in pairwise(fresh):
            if after_at <= before_at:
                yield f"the cursor at {after_at} was committed after the one at {before_at}"
            earlier, later = read_cursor(before), read_cursor(after)
            for topic, position in earlier.items():
                if topic not in later or any(getattr(later[topic], name) < getattr(position, name) for name in ("offset", *COUNTS)):
                    yield f"the cursor of {topic} goes back from {position} to {later.get(topic)}"
        for _, stored in fresh:
            for topic, position in read_cursor(stored).items():
                read = sum(entry.offset < position.offset for entry in self._inputs(number, topic))
                if _total(position) != read:
                    yield f"{topic}: {position} accounts for {_total(position)} records, {read} are before it"
        self._cursors[number] = len(history)

    def _output_problems(self, number: int) -> Iterator[str]:
        yield from alert_problems((entry.key, entry.value) for entry in self._committed(NAMES.alerts, number))
        letters = Counter(
            tuple(value for name, value in entry.headers if name in _PLACE) for entry in self._committed(NAMES.dead_letters, number)
        )
        for place, count in letters.items():
            if count > 1:
                yield f"{count} dead letters of {place}"

    # -- once everything is read

    def final_problems(self) -> list[str]:
        """List where state, cursor, alerts, scores and dead letters are not what the oracle makes of the inputs."""
        found = self.problems()
        for number in range(PARTITIONS):
            found += [f"partition {number}: {problem}" for problem in self._partition_problems(number)]
        return found

    def _partition_problems(self, number: int) -> Iterator[str]:
        accounts: dict[str, oracle.Oracle] = {}
        decided = oracle.Oracle()
        counts = {topic: Counter[str]() for topic in FOLDED_TOPICS}
        for topic in FOLDED_TOPICS:
            for entry in self._inputs(number, topic):
                if self.is_poison(entry):
                    counts[topic]["dead_letter"] += 1
                    continue
                record = json.loads(entry.value or b"")
                whose = decided if topic == COMMANDS else accounts.setdefault(record["subject"], oracle.Oracle())
                counts[topic][whose.apply(topic, record)] += 1
        changelog = self._latest(NAMES.changelog, number)
        cursor = changelog.pop(CURSOR_KEY, None)
        partition = Partition(number, self.cluster.definition)
        partition.restore(((key, value) for key, value in changelog.items() if value is not None), cursor)
        yield from differences(partition, accounts)
        if rates_by_stream(partition.commands) != rates(decided.applied(COMMANDS)):
            yield f"kept are the rates {rates_by_stream(partition.commands)}, said were {rates(decided.applied(COMMANDS))}"
        for topic, expected in counts.items():
            position = partition.positions.get(topic, Position(0))
            told = {name: getattr(position, name) for name in COUNTS}
            if told != {name: expected[name] for name in COUNTS}:
                yield f"{topic}: the cursor counts {told}, the oracle {dict(expected)}"
        yield from self._alert_problems(number, partition)
        yield from self._score_problems(number, partition)
        letters, expected_letters = len(self._committed(NAMES.dead_letters, number)), sum(each["dead_letter"] for each in counts.values())
        if letters != expected_letters:
            yield f"{letters} dead letters, expected are {expected_letters}"

    def _alert_problems(self, number: int, partition: Partition) -> Iterator[str]:
        """`alert-state` is the fold of the log, the rows count its events, and whoever scores below the bound has an open alert."""
        said = [(entry.key, entry.value) for entry in self._committed(NAMES.alerts, number)]
        folded = {name.encode(): state for name, state in latest_states(said).items()}
        if self._latest(NAMES.alert_state, number) != {key: encode_state(state) for key, state in folded.items()}:
            yield "alert-state is not the fold of churn-alerts"
        counts = Counter(key for key, _ in said)
        columns, bounds = partition.columns, self.cluster.definition.rules.health.at_risk
        for key, slot in columns.slots.items():
            if int(columns.alert_sequence[slot]) != counts[key]:
                yield f"{key!r}: its row counts {columns.alert_sequence[slot]} alert events, the log {counts[key]}"
            is_open = key in folded and folded[key].state != "resolved"
            if columns.is_deleted[slot] or columns.is_ended[slot] or not columns.band[slot]:
                continue
            score = int(columns.score[slot])
            if (score < bounds.enter_fixed and not is_open) or (score >= bounds.exit_fixed and is_open):
                yield f"{key!r} scores {score}, and its alert is {'open' if is_open else 'not open'}"

    def _score_problems(self, number: int, partition: Partition) -> Iterator[str]:
        """The latest published assessment of every account is that of its row, which `differences` holds against the oracle."""
        columns, latest = partition.columns, self._latest(NAMES.scores, number)
        if latest.keys() != columns.slots.keys():
            yield f"accounts with a score or a row, but not both: {sorted(latest.keys() ^ columns.slots.keys())}"
        for key, slot in columns.slots.items():
            data, row = json.loads(latest.get(key) or b"{}").get("data", {}), assessed_by_stream(columns, slot)
            told = (data.get("account_id"), _fixed(data.get("score")), data.get("band"), oracle.instant(data["scored_at"]))
            if told != (key.decode(), row["score"], row["band"], int(columns.as_of[slot])):
                yield f"{key!r}: health-scores says {told}, the row {row} at {columns.as_of[slot]}"

    def _inputs(self, number: int, topic: str) -> list[Entry]:
        return self._committed(topic, number)

    def figures(self) -> dict[str, dict[str, dict[str, int]]]:
        """Add up what the partitions have published of the portfolio."""
        latest = [value for number in range(PARTITIONS) for value in self._latest(NAMES.portfolio, number).values()]
        return added_up(json.loads(value) for value in latest if value is not None)

    def _committed(self, topic: str, number: int) -> list[Entry]:
        return self.cluster.broker.logs[TP(topic, number)].committed()

    def _latest(self, topic: str, number: int) -> dict[bytes, Any]:
        return {entry.key or b"": entry.value for entry in self._committed(topic, number)}


_PLACE = tuple(f"churnwatch.error.{name}" for name in ("topic", "partition", "offset"))


def _total(position: Position) -> int:
    return sum(getattr(position, name) for name in COUNTS)


def _fixed(points: float | None) -> int | None:
    return None if points is None else round(points * 10_000)
