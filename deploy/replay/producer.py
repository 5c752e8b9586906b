"""Sends events to Kafka in the order given, each account to its partition, and says how far it got."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2

from deploy.replay.envelope import topic_of
from models.input_topics import ACCOUNTS, PAYMENTS, SURVEYS, TICKETS, USAGE
from stream_app.exits import BrokerError
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from threading import Event as Signal
    from types import TracebackType

    from deploy.replay.envelope import Event

TOPICS: Final = (USAGE, TICKETS, PAYMENTS, ACCOUNTS, SURVEYS)
"""The topics that a replay of a data set writes to."""

CHUNK: Final = 5_000
"""So many events at most wait for the broker, which bounds the memory; then progress is told."""
GRAIN_SECONDS: Final = 0.05
"""An event may be sent so much before its time, so that those of a busy second go together."""

ACK_TIMEOUT_SECONDS: Final = 30.0
_REACH_TIMEOUT_MS: Final = 10_000
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Progress:
    """How far a replay got: every event up to `acknowledged` is in Kafka, `reached` is the time of the last of them."""

    sent: int = 0
    acknowledged: int = 0
    reached: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the log's time goes by: `speed` seconds of it in one second of ours, None as fast as possible."""

    speed: float | None = None

    def due_after(self, first: str, now: str) -> float:
        """Return the seconds between sending an event of time `first` and one of time `now`."""
        if self.speed is None:
            return 0.0
        return (datetime.fromisoformat(now) - datetime.fromisoformat(first)).total_seconds() / self.speed


@dataclass(slots=True)
class Sender:
    """An idempotent producer for one prefix; within a topic the events of an account keep their order.

    `connection` are kafka-python's arguments: `bootstrap_servers` (a list) and what security the broker asks for; `topics`
    are those that it may be given events of. A context manager: leaving it waits for what was sent, unless an error is on its way already.
    """

    connection: Mapping[str, Any]
    prefix: str = ""
    topics: Sequence[str] = TOPICS
    _producer: Any = None
    _partitions: dict[str, int] = field(default_factory=dict)
    _homes: dict[bytes, int] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _failure: BaseException | None = None

    def __enter__(self) -> Self:
        """Look for the topics and connect; raises `BrokerError` when the broker or a topic is not there."""
        try:
            self._look_for_topics()
            self._producer = KafkaProducer(
                enable_idempotence=True,
                acks="all",
                linger_ms=20,
                batch_size=128 * 1024,
                # Its checksum is plain Python: what is packed takes half the time, besides the room.
                compression_type="gzip",
                allow_auto_create_topics=False,
                **self.connection,
            )
        except KafkaError as error:
            message = f"nobody answers at {self.bootstrap}"
            raise BrokerError(message, "start one with `churnwatch kafka start`, or set KAFKA_BOOTSTRAP") from error
        return self

    def _look_for_topics(self) -> None:
        self._names = {topic: topic_name(self.prefix, topic) for topic in self.topics}
        with KafkaAdminClient(bootstrap_timeout_ms=_REACH_TIMEOUT_MS, **self.connection) as admin:
            answer = admin.describe_topics(list(self._names.values()))
        described = {topic["name"]: topic["partitions"] for topic in answer}
        missing = [name for name in self._names.values() if not described.get(name)]
        if missing:
            setting = f"CHURNWATCH_TOPIC_PREFIX={self.prefix} " if self.prefix else ""
            message = f"{', '.join(missing)}: no such topics at {self.bootstrap}"
            raise BrokerError(message, f"create them: {setting}churnwatch topics apply")
        self._partitions = {topic: len(described[name]) for topic, name in self._names.items()}

    @property
    def bootstrap(self) -> str:
        """Return the addresses of the cluster, for people."""
        return ",".join(self.connection["bootstrap_servers"])

    def describe(self) -> str:
        """Return where events go, for people."""
        return f"{self.bootstrap}, topics {self.prefix}.*-events" if self.prefix else self.bootstrap

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connection."""
        if error is None:
            self._producer.close(timeout=ACK_TIMEOUT_SECONDS)
            return
        # What is on its way says why; that the rest was not sent either would only hide it.
        with contextlib.suppress(KafkaError):
            self._producer.close(timeout=0)

    def send(self, event: Event) -> None:
        """Hand one event over; raises `BrokerError` when an earlier one could not be delivered."""
        if self._failure is not None:
            raise self._undelivered()
        topic = topic_of(event["type"])
        key = event["subject"].encode()
        home = self._homes.get(key)
        if home is None:
            home = self._homes[key] = murmur2(key) & 0x7FFFFFFF
        try:
            partition = home % self._partitions[topic]
            sent = self._producer.send(self._names[topic], value=_encode(event), key=key, partition=partition)
        except KafkaError as error:
            self._failure = error
            raise self._undelivered() from error
        sent.add_errback(self._note_failure)

    def flush(self) -> None:
        """Wait until everything sent is acknowledged; raises `BrokerError` when something is not."""
        try:
            self._producer.flush(timeout=ACK_TIMEOUT_SECONDS)
        except KafkaError as error:
            self._failure = self._failure or error
        if self._failure is not None:
            raise self._undelivered() from self._failure

    def _note_failure(self, error: BaseException) -> None:
        self._failure = self._failure or error

    def _undelivered(self) -> BrokerError:
        cause = f"{type(self._failure).__name__}: {self._failure}"
        message = f"an event could not be delivered to {self.bootstrap}: {cause}"
        return BrokerError(message, "see that the broker is up, then replay again: what arrived is recognised")


def replay(
    events: Iterable[Event],
    sender: Sender,
    *,
    pace: Pace,
    stop: Signal,
    tell: Callable[[Progress], None],
    chunk: int = CHUNK,
) -> Progress:
    """Send events until they end or `stop` is set, and return how far that got: all of it acknowledged.

    `tell` is called from this thread, after `chunk` events at most; while it waits nothing is sent. Raises
    `BrokerError` when delivery fails; what `tell` was told last holds then.
    """
    progress = Progress()
    began = time.monotonic()
    first = ""
    latest = ""
    for event in events:
        first = first or event["time"]
        wait = pace.due_after(first, event["time"]) - (time.monotonic() - began)
        if wait > GRAIN_SECONDS:
            _settle(sender, progress, latest, tell)
            stop.wait(wait)
        if stop.is_set():
            break
        sender.send(event)
        latest = event["time"]
        progress.sent += 1
        if progress.sent % chunk == 0:
            _settle(sender, progress, latest, tell)
    _settle(sender, progress, latest, tell)
    return progress


def _settle(sender: Sender, progress: Progress, latest: str, tell: Callable[[Progress], None]) -> None:
    if progress.acknowledged != progress.sent:
        sender.flush()
        progress.acknowledged, progress.reached = progress.sent, latest
    tell(progress)
