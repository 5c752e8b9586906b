"""Holds everything that an installation has written against the inputs it was given: offline, once its workers are stopped.

The inputs are read back from Kafka and folded by the oracle; the state is read from the changelog, committed transactions only.
What differs is listed, one line each.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from alerts.events import decode_state, encode_state
from alerts.policy import Condition, Severity
from deploy.verify import reference as oracle
from deploy.verify.alert_log import alert_problems, latest_states
from deploy.verify.equality import assessed_by_stream, differences, scorecard_record
from models.health import Band
from models.input_topics import INPUT_TOPICS
from stream_app.pipeline import CURSOR_KEY, read_cursor
from stream_app.state_reader import read_partitions
from stream_app.topics import topic_name
from tests.support.kafka_io import Read, read_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from alerts.rules import AlertRules
    from stream_app.pipeline import Partition, Position
    from stream_app.settings import Settings
    from stream_app.state_reader import Changelog

Place = tuple[int, bytes]
"""The number of a partition and the key of an account: what is said of an account must be said where its events are."""

OUTCOMES: Final = ("applied", "duplicate", "late", "dead_letter")


@dataclass
class Findings:
    """What was found: `problems` must be empty, the rest says how much was looked at."""

    problems: list[str] = field(default_factory=list)
    read: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    accounts: int = 0
    cursors: int = 0
    alerts: Counter[str] = field(default_factory=Counter)
    scores: int = 0
    dead_letters: list[Read] = field(default_factory=list)

    def check(self) -> Findings:
        """Raise AssertionError with everything that was found when there are problems."""
        if self.problems:
            raise AssertionError(str(self))
        return self

    def __str__(self) -> str:
        """Write all of it on a few lines, at most twenty problems."""
        told = f"read {dict(self.read)}, outcomes { {topic: dict(counts) for topic, counts in self.outcomes.items()} }, "
        told += f"{self.accounts} accounts, {self.cursors} cursors, alerts {dict(self.alerts)}, {self.scores} scores"
        return "\n".join([told, f"{len(self.problems)} problems", *self.problems[:20]])


def verify(settings: Settings, decode: Callable[[Read], dict[str, Any] | None] | None = None) -> Findings:
    """Compare everything that an installation's workers have written with its inputs.

    `decode` gives the record that the oracle folds, None for one that must be a dead letter; by default the value's JSON.
    """
    findings = Findings()
    inputs = {topic: read_topic(settings.kafka_bootstrap, topic_name(settings.topic_prefix, topic)) for topic in INPUT_TOPICS}
    findings.read = Counter({topic: sum(map(len, by_number.values())) for topic, by_number in inputs.items()})
    state = read_partitions(settings)
    everyone: dict[Place, oracle.Oracle] = {}
    for number, (partition, changelog) in state.items():
        mine = {topic: by_number.get(number, []) for topic, by_number in inputs.items()}
        accounts, outcomes = _folded(mine, decode or (lambda record: json.loads(record.value or b"")))
        everyone |= {(number, name.encode()): account for name, account in accounts.items()}
        findings.problems += [f"partition {number}: {problem}" for problem in differences(partition, accounts)]
        findings.problems += list(_cursor_problems(number, changelog, settings, mine, outcomes))
        findings.cursors += len(changelog.cursors)
        for topic, counts in outcomes.items():
            findings.outcomes.setdefault(topic, Counter()).update(counts)
    findings.accounts = len(everyone)
    partitions = {number: partition for number, (partition, _) in state.items()}
    _check_alerts(settings, partitions, findings)
    _check_scores(settings, partitions, everyone, findings)
    _check_dead_letters(settings, findings)
    return findings


def _folded(
    inputs: Mapping[str, list[Read]], decode: Callable[[Read], dict[str, Any] | None]
) -> tuple[dict[str, oracle.Oracle], dict[str, Counter[str]]]:
    """Let the oracle read one partition of every topic; its accounts, and what became of the records, by topic."""
    accounts: dict[str, oracle.Oracle] = {}
    outcomes: dict[str, Counter[str]] = {topic: Counter() for topic in inputs}
    for topic, records in inputs.items():
        for read in records:
            record = decode(read)
            if record is None:
                outcomes[topic]["dead_letter"] += 1
            else:
                outcomes[topic][accounts.setdefault(record["subject"], oracle.Oracle()).apply(topic, record)] += 1
    return accounts, outcomes


def _cursor_problems(
    number: int, changelog: Changelog, settings: Settings, inputs: Mapping[str, list[Read]], outcomes: Mapping[str, Counter[str]]
) -> Iterable[str]:
    """List where cursors go back, and where the last one is not what the inputs say."""
    history = [read_cursor(stored) for stored in changelog.cursors]
    for place, (before, after) in enumerate(pairwise(history)):
        for topic, position in before.items():
            if topic not in after or _counts(after[topic], "offset", *OUTCOMES) < _counts(position, "offset", *OUTCOMES):
                yield f"partition {number}: cursor {place + 1} of {topic} goes back from {position} to {after.get(topic)}"
    last = read_cursor(changelog.latest.get(CURSOR_KEY))
    for topic, records in inputs.items():
        reached = last.get(topic_name(settings.topic_prefix, topic))
        if reached is None:
            if records:
                yield f"partition {number}: nothing of {topic} is folded, {len(records)} records are there"
            continue
        told = {outcome: getattr(reached, outcome) for outcome in OUTCOMES}
        expected = {outcome: outcomes[topic][outcome] for outcome in OUTCOMES}
        if told != expected:
            yield f"partition {number}: {topic}: the cursor counts {told}, the oracle {expected}"
        if sum(told.values()) != len(records):
            yield f"partition {number}: {topic}: {sum(told.values())} records are counted, {len(records)} were read"
        if records and reached.offset < records[-1].offset + 1:
            yield f"partition {number}: {topic}: folded up to {reached.offset}, the last record is at {records[-1].offset}"


class _Counts(tuple[int, ...]):
    """Counts that are less than others when any of them is."""

    __slots__ = ()

    def __lt__(self, other: tuple[int, ...]) -> bool:
        """Whether any count is smaller."""
        return any(mine < theirs for mine, theirs in zip(self, other, strict=True))


def _counts(position: Position, *names: str) -> _Counts:
    return _Counts(getattr(position, name) for name in names)


def _check_alerts(settings: Settings, partitions: Mapping[int, Partition], findings: Findings) -> None:
    """Hold the log of alerts against itself, against alert-state, and against the state of the accounts."""
    log = {number: [(read.key, read.value) for read in records] for number, records in _by_partition(settings, "churn-alerts").items()}
    expected: dict[Place, bytes] = {}
    for number, said in log.items():
        findings.problems += alert_problems(said)
        findings.alerts.update(json.loads(value or b"")["type"] for _, value in said)
        expected |= {(number, name.encode()): encode_state(state) for name, state in latest_states(said).items()}
    latest = _latest(_by_partition(settings, "alert-state"))
    for place in sorted(latest.keys() | expected.keys()):
        if latest.get(place) != expected.get(place):
            findings.problems.append(f"{place}: alert-state is not the fold of its alerts: {latest.get(place)!r}")
    for number, partition in partitions.items():
        counts = Counter(key for key, _ in log[number])
        columns = partition.columns
        for key, slot in columns.slots.items():
            if int(columns.alert_sequence[slot]) != counts[key]:
                findings.problems.append(f"{key!r}: its row counts {columns.alert_sequence[slot]} alert events, the log {counts[key]}")
            findings.problems += _alert_state_problems(partition, slot, latest.get((number, key)), settings.alerts)


def _alert_state_problems(partition: Partition, slot: int, stored: bytes | None, rules: AlertRules) -> Iterable[str]:
    """Say where an account's alert is not the one that alert-state tells, or not the one that its score asks for."""
    columns = partition.columns
    key = columns.keys[slot]
    is_open = Condition(int(columns.alert_condition[slot])) in (Condition.FIRING, Condition.RECOVERING)
    told = None if stored is None else decode_state(stored)
    if is_open != (told is not None and told.state != "resolved"):
        yield f"{key!r}: the row says {'open' if is_open else 'not open'}, alert-state {told and told.state}"
    if told is not None and is_open and told.severity != Severity(int(columns.alert_severity[slot])).name.lower():
        yield f"{key!r}: the severity of the row is {columns.alert_severity[slot]}, that of alert-state {told.severity}"
    has_no_waits = not (rules.pending_for.at_risk or rules.pending_for.critical or rules.recover_for)
    if not has_no_waits or columns.is_deleted[slot] or columns.is_ended[slot] or columns.band[slot] == Band.NO_DATA:
        return
    score = int(columns.score[slot])
    if score < rules.health.at_risk.enter_fixed and not is_open:
        yield f"{key!r}: it scores {score} and has no open alert"
    if score >= rules.health.at_risk.exit_fixed and is_open:
        yield f"{key!r}: it scores {score} and its alert is open"


def _check_scores(
    settings: Settings, partitions: Mapping[int, Partition], everyone: Mapping[Place, oracle.Oracle], findings: Findings
) -> None:
    """Recompute the latest published assessment of every account at its own instant."""
    latest = _latest(_by_partition(settings, "health-scores"))
    findings.scores = len(latest)
    if latest.keys() != everyone.keys():
        findings.problems.append(f"accounts with a score or with events, but not both: {sorted(latest.keys() ^ everyone.keys())[:5]}")
    card = scorecard_record(settings.health)
    for number, partition in partitions.items():
        columns = partition.columns
        for key, slot in columns.slots.items():
            place = (number, key)
            if place not in latest or place not in everyone:
                continue
            data = json.loads(latest[place])["data"]
            scored_at = oracle.instant(data["scored_at"])
            if scored_at != int(columns.as_of[slot]):
                findings.problems.append(f"{place}: its score is of {scored_at}, its row of {columns.as_of[slot]}")
            told = assessed_by_stream(columns, slot)
            # At the row's own instant the row was held against the oracle already, and its arithmetic is slow.
            expected = told if scored_at == int(columns.as_of[slot]) else everyone[place].score(scored_at, card)
            if _published(data) != expected:
                findings.problems.append(f"{place}: health-scores has {_published(data)}, expected is {expected}")


def _published(data: dict[str, Any]) -> dict[str, Any]:
    """Write a published assessment as the oracle does, in ten-thousandths."""

    def fixed(points: float | None) -> int | None:
        return None if points is None else round(points * 10_000)

    return {
        "score": fixed(data["score"]),
        "coverage": fixed(data["coverage"]),
        "band": data["band"],
        "components": {
            each["name"]: {
                "score": fixed(each["score"]),
                "contribution": fixed(each["contribution"]) or 0,
                "missing": each["missing"],
            }
            for each in data["components"]
        },
    }


def _check_dead_letters(settings: Settings, findings: Findings) -> None:
    """Count the dead letters: one for each record that is counted as one, each naming another record."""
    letters = [read for records in _by_partition(settings, "dead-letters").values() for read in records]
    findings.dead_letters = letters
    counted = sum(counts["dead_letter"] for counts in findings.outcomes.values())
    if len(letters) != counted:
        findings.problems.append(f"{len(letters)} dead letters, {counted} are counted")
    places = Counter(error_headers(read)["topic partition offset"] for read in letters)
    findings.problems += [f"{count} dead letters of {place}" for place, count in places.items() if count > 1]


def error_headers(letter: Read) -> dict[str, str]:
    """Return what a dead letter says of its record, without the prefix of its headers; and the place of the record as one text."""
    found: dict[str, str] = {}
    for name, value in letter.headers:
        if name.startswith("churnwatch.error."):
            found[name.removeprefix("churnwatch.error.")] = (value or b"").decode()
    return {**found, "topic partition offset": f"{found['topic']} {found['partition']} {found['offset']}"}


def _by_partition(settings: Settings, topic: str) -> dict[int, list[Read]]:
    return read_topic(settings.kafka_bootstrap, topic_name(settings.topic_prefix, topic))


def _latest(by_partition: Mapping[int, list[Read]]) -> dict[Place, bytes]:
    """Return the last value of each key of a compacted topic, by partition and key."""
    latest: dict[Place, bytes] = {}
    for number, records in by_partition.items():
        for read in records:
            latest[number, read.key or b""] = read.value or b""
    return latest
