"""What an installation has said and how far it had read, as far as its outputs, its group and its old changelog still tell."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from alerts.events import AlertStateRecord, decode_event, decode_state, encode_state, fold_state
from deploy.verify.kafka_log import KafkaLog
from deploy.verify.run import error_headers
from models.scored import Trigger
from stream_app.exits import BrokerError
from stream_app.pipeline import CURSOR_KEY, Position, UnknownCursorVersionError, read_cursor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.rebuild.cluster import Cluster
    from deploy.verify.kafka_log import Place
    from stream_app.settings import Settings
    from stream_app.topics import Log

TAIL_OFFSETS: Final = 50_000
"""How much of the old changelog's end is read for its last cursor: more than a transaction has records."""


class _Brought(msgspec.Struct):
    trigger: Trigger | None = None
    scored_at: str = ""


class _Scored(msgspec.Struct):
    data: _Brought


_read_scored = msgspec.json.Decoder(_Scored).decode

Letter = tuple[str, int, int]
"""Topic, partition and offset of a record that has a dead letter."""


@dataclass(slots=True)
class Past:
    """What was said of the accounts of each partition, and how far each input was read.

    `states` are the latest of each account's alert, by partition; `mends` those of them that `alert-state` does not have. `scored` are
    the accounts in `health-scores`, and when they were scored. `read` says how far an input was read at least; of the
    partitions in `is_known` the group or a cursor says so. `replaced` are inputs that were made anew. `ends` are those of the outputs when
    they were read: whoever writes moves them.
    """

    states: dict[int, dict[bytes, AlertStateRecord]] = field(default_factory=lambda: defaultdict(dict))
    mends: dict[int, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    scored: dict[int, dict[bytes, str]] = field(default_factory=lambda: defaultdict(dict))
    letters: set[Letter] = field(default_factory=set)
    read: dict[Place, int] = field(default_factory=dict)
    is_known: set[int] = field(default_factory=set)
    replaced: set[Place] = field(default_factory=set)
    ends: dict[Place, int] = field(default_factory=dict)

    def reached(self, place: Place, offset: int) -> None:
        """Note that an input was read up to an offset at least."""
        self.read[place] = max(self.read.get(place, 0), offset)

    def goal(self, place: Place, begin: int, end: int) -> int:
        """Return up to where an input is folded again: where it was read to, and its end where nothing tells."""
        if place in self.replaced or place[1] not in self.is_known:
            return end
        return min(max(self.read.get(place, begin), begin), end)


def output_places(cluster: Cluster, log: KafkaLog) -> list[Place]:
    """Return the partitions of the topics that a worker writes, without the changelog."""
    names = cluster.names
    return [
        (topic, number) for topic in (names.scores, names.alerts, names.alert_state, names.dead_letters) for number in log.partitions(topic)
    ]


def read_past(cluster: Cluster, log: KafkaLog, logs: Mapping[str, Log]) -> Past:
    """Read what the outputs, the group and the old changelog tell; raises BrokerError."""
    past, names = Past(), cluster.names
    places = output_places(cluster, log)
    past.ends = log.stable_ends(places)
    starts = log.starts(places)
    _read_states(past, log, names.alert_state, starts)
    for place in places:
        if place[0] == names.alerts:
            _read_alerts(past, log, place, starts[place])
        elif place[0] == names.scores:
            _read_scores(past, log, place, starts[place])
        elif place[0] == names.dead_letters:
            _read_letters(past, log, place, starts[place])
    for place, offset in cluster.committed().items():
        if place[0] in cluster.inputs:
            past.is_known.add(place[1])
            past.reached(place, offset)
    if names.changelog in logs:
        for number in log.partitions(names.changelog):
            _read_cursor(past, log, (names.changelog, number), logs)
    return past


def refuse_writers(settings: Settings, cluster: Cluster, past: Past) -> None:
    """Raise BrokerError when the outputs have moved since they were read: somebody writes."""
    with KafkaLog(settings) as log:
        if log.stable_ends(output_places(cluster, log)) != past.ends:
            raise BrokerError("somebody has written to the outputs since they were read", "stop every worker, then run it again")


def _read_states(past: Past, log: KafkaLog, topic: str, starts: Mapping[Place, int]) -> None:
    """Read the latest state of each account's alert; one that cannot be read is as if it were not there."""
    for place, end in past.ends.items():
        if place[0] != topic:
            continue
        for record in log.records(place, starts[place], end):
            try:
                past.states[place[1]][record.key or b""] = decode_state(record.value or b"")
            except msgspec.DecodeError:
                past.states[place[1]].pop(record.key or b"", None)


def _read_alerts(past: Past, log: KafkaLog, place: Place, start: int) -> None:
    """Fold the log of alerts over what `alert-state` says: it is the truth of which that is the fold."""
    states = past.states[place[1]]
    for record in log.records(place, start, past.ends[place]):
        try:
            event = decode_event(record.value or b"")
        except msgspec.DecodeError:
            continue
        key = event.subject.encode()
        before = states.get(key)
        after = fold_state(before, event)
        if after is not before:
            states[key] = after
            past.mends[place[1]][key] = encode_state(after)


def _read_scores(past: Past, log: KafkaLog, place: Place, start: int) -> None:
    scored = past.scored[place[1]]
    for record in log.records(place, start, past.ends[place]):
        if record.key is None or record.value is None:
            scored.pop(record.key or b"", None)
            continue
        try:
            found = _read_scored(record.value).data
        except msgspec.DecodeError:
            found = _Brought()
        scored[record.key] = found.scored_at
        if found.trigger is not None:
            past.reached((found.trigger.topic, found.trigger.partition), found.trigger.offset + 1)


def _read_letters(past: Past, log: KafkaLog, place: Place, start: int) -> None:
    for record in log.records(place, start, past.ends[place]):
        told = error_headers(record.headers)
        number, offset = told.get("partition", ""), told.get("offset", "")
        if number.isdecimal() and offset.isdecimal():
            topic = told.get("topic", "")
            past.letters.add((topic, int(number), int(offset)))
            past.reached((topic, int(number)), int(offset) + 1)


def _read_cursor(past: Past, log: KafkaLog, place: Place, logs: Mapping[str, Log]) -> None:
    """Read the last cursor that the old changelog holds; an input that it knows under another id was made anew."""
    begin, end = log.starts([place])[place], log.stable_ends([place])[place]
    stored = None
    for record in log.records(place, max(begin, end - TAIL_OFFSETS), end):
        stored = record.value if record.key == CURSOR_KEY else stored
    try:
        positions: dict[str, Position] = read_cursor(stored)
    except (msgspec.DecodeError, UnknownCursorVersionError):
        return
    for topic, position in positions.items():
        if position.topic_id and topic in logs and position.topic_id != logs[topic].topic_id:
            past.replaced.add((topic, place[1]))
        else:
            past.is_known.add(place[1])
            past.reached((topic, place[1]), position.offset)
