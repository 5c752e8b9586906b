"""Writing a snapshot: of each changelog partition what it holds last of each key, below an offset where no transaction is open.

It can be taken beside the workers. A partition is read to the end that it has, then once more to the end that it has then: what the
log cleaner took away while the first, long reading went on was replaced by something that the second one finds. Both ends are
offsets below which every transaction has ended, so rows and cursor are of one moment. The latest alerts go along as those rows
count them: what is newer in `alert-state` is taken back with the log of alerts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from alerts.events import AlertStateRecord, decode_event, decode_state, encode_state, fold_state
from deploy.rebuild.cluster import Cluster
from deploy.snapshot.format import ALERT, STATE, Footer, Header, InputLog, Line, PartitionSum, Writer
from deploy.verify.kafka_log import KafkaLog
from models import row
from models.times import format_us
from stream_app.exits import BrokerError, StateMustBeRebuilt
from stream_app.pipeline import CURSOR_KEY, read_cursor
from stream_app.release import RELEASE
from stream_app.unfinished import UNFINISHED_KEY, refuse_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from deploy.verify.kafka_log import Place
    from deploy.verify.records import LogRecord
    from stream_app.clock import Clock
    from stream_app.settings import Settings

_ROW: Final = b"r"
_CHUNK: Final = 4_096


@dataclass
class Export:
    """One export; `tell` hears how many offsets were passed, and of how many."""

    settings: Settings
    clock: Clock
    tell: Callable[[int, int], None]
    _total: int = 0
    _passed: int = 0
    alerts_missing: int = field(default=0, init=False)

    def run(self, path: Path) -> Footer:
        """Write the file; raises BrokerError, SnapshotError, and StateMustBeRebuilt when the state is not whole."""
        cluster = Cluster(self.settings)
        logs = cluster.logs()
        changelog = logs.get(cluster.names.changelog)
        if changelog is None:
            raise BrokerError(f"there is no changelog {cluster.names.changelog}", "check app_id and topic_prefix")
        if missing := [name for name in cluster.inputs if name not in logs]:
            raise BrokerError(f"{missing[0]}: the topic is missing", "churnwatch topics check")
        bare = {name: topic for topic, name in cluster.input_names.items()}
        header = Header(
            release=RELEASE,
            created_at=format_us(self.clock.now_us()),
            app_id=self.settings.app_id,
            topic_prefix=self.settings.topic_prefix,
            config_version=self.settings.config_version,
            partitions=changelog.partitions,
            inputs={bare[name]: InputLog(logs[name].topic_id, logs[name].partitions) for name in cluster.inputs},
        )
        with KafkaLog(self.settings, self._advance) as log, Writer(path, header) as writer:
            log.partitions(cluster.names.changelog)
            places = [(cluster.names.changelog, number) for number in range(changelog.partitions)]
            self._total = sum(log.stable_ends(places).values())
            footer = Footer([self._partition(cluster, log, writer, number) for number in range(changelog.partitions)])
            writer.seal(footer)
        return footer

    def _advance(self, offsets: int) -> None:
        self._passed += offsets
        self.tell(min(self._passed, self._total), self._total)

    def _partition(self, cluster: Cluster, log: KafkaLog, writer: Writer, number: int) -> PartitionSum:
        latest = self._latest(log, (cluster.names.changelog, number))
        refuse_unfinished(number, latest.get(UNFINISHED_KEY))
        sequences = _sequences(latest)
        states = self._alerts(cluster, log, number, sequences)
        for key, value in latest.items():
            writer.write(Line(number, STATE, key, value))
        for key, state in states.items():
            writer.write(Line(number, ALERT, key, state))
        bare = {name: topic for topic, name in cluster.input_names.items()}
        offsets = {bare.get(name, name): position.offset for name, position in read_cursor(latest.get(CURSOR_KEY)).items()}
        accounts = sum(key[:1] == _ROW for key in latest)
        return PartitionSum(number=number, state=len(latest), alerts=len(states), accounts=accounts, offsets=offsets)

    def _latest(self, log: KafkaLog, place: Place) -> dict[bytes, bytes]:
        start = log.starts([place])[place]
        if start:
            raise StateMustBeRebuilt(f"{place[0]} partition {place[1]} begins at offset {start}: records were deleted from it")
        latest: dict[bytes, bytes] = {}
        for _ in range(2):
            end = log.stable_ends([place])[place]
            for record in log.records(place, start, end):
                if record.value is None:
                    latest.pop(record.key or b"", None)
                else:
                    latest[record.key or b""] = record.value
            start = end
        return latest

    def _alerts(self, cluster: Cluster, log: KafkaLog, number: int, sequences: Mapping[bytes, int]) -> dict[bytes, bytes]:
        """Return the state of each account's alert that its row counts last."""
        place = cluster.names.alert_state, number
        found: dict[bytes, bytes] = {}
        newer: set[bytes] = set()
        for record in _to_its_end(log, place):
            key = record.key or b""
            sequence = _sequence(record.value)
            if sequence == sequences.get(key):
                found[key] = record.value or b""
                newer.discard(key)
            elif sequence > sequences.get(key, 0) > 0 and key not in found:
                newer.add(key)
        if newer:
            self._take_back(cluster, log, number, {key: sequences[key] for key in newer}, found)
        self.alerts_missing += len(sequences) - len(found)
        return found

    def _take_back(self, cluster: Cluster, log: KafkaLog, number: int, wanted: Mapping[bytes, int], found: dict[bytes, bytes]) -> None:
        """Fold the log of alerts up to where the rows are."""
        place = cluster.names.alerts, number
        states: dict[bytes, AlertStateRecord] = {}
        for record in _to_its_end(log, place):
            key = record.key or b""
            if key not in wanted:
                continue
            event = decode_event(record.value or b"")
            if int(event.sequence) <= wanted[key]:
                states[key] = fold_state(states.get(key), event)
        found.update({key: encode_state(state) for key, state in states.items() if state.sequence == wanted[key]})


def _to_its_end(log: KafkaLog, place: Place) -> Iterator[LogRecord]:
    """Read a partition with all that is written to it by now: its part of a transaction may be seen later than the changelog's."""
    log.partitions(place[0])
    end = log.ends([place])
    log.wait_stable(end)
    return log.records(place, log.starts([place])[place], end[place])


def _sequence(state: bytes | None) -> int:
    try:
        return decode_state(state or b"").sequence
    except msgspec.DecodeError:
        return -1


def _sequences(latest: Mapping[bytes, bytes]) -> dict[bytes, int]:
    """Return how many alert events the row of each account counts, without those that count none."""
    keys = [key for key in latest if key[:1] == _ROW]
    found = {}
    for start in range(0, len(keys), _CHUNK):
        some = keys[start : start + _CHUNK]
        counted = row.decode([latest[key] for key in some])["alert_sequence"].tolist()
        found.update({key[1:]: count for key, count in zip(some, counted, strict=True) if count})
    return found
