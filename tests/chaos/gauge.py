"""How far an installation is, from outside: where its inputs end, and what its committed cursors say. Asked as often as one likes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from models.input_topics import INPUT_TOPICS
from stream_app.pipeline import CURSOR_KEY, read_cursor
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.kafka_io import Place

PARTITIONS: Final = 4
_ANSWER_SECONDS: Final = 2.0
_FETCHED_MAX: Final = 10_000
_QUIET: Final = {"log_level": 2, "socket.timeout.ms": 3_000}
"""A broker that is away is what these tests are about: nothing to log."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the inputs ended at one moment, and how far each was folded and committed."""

    ends: Mapping[Place, int]
    cursors: Mapping[Place, int]

    @property
    def lag(self) -> int:
        """Records that are there and not yet committed as folded."""
        return sum(max(0, end - self.cursors.get(place, 0)) for place, end in self.ends.items())

    @property
    def folded(self) -> int:
        """Records that are committed as folded."""
        return sum(self.cursors.values())

    def has_reached(self, ends: Mapping[Place, int]) -> bool:
        """Whether everything below some ends is committed as folded."""
        return all(self.cursors.get(place, 0) >= end for place, end in ends.items())


class Gauge:
    """Reads the ends of the inputs, and follows the changelog for its cursors; any thread may ask."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        """Nothing is asked yet; the topics must be there."""
        self._lock = threading.Lock()
        self._inputs = [(topic_name(prefix, topic), number) for topic in INPUT_TOPICS for number in range(PARTITIONS)]
        self._cursors: dict[Place, int] = {}
        self._bootstrap = bootstrap
        self._admin = self._client()
        self._changelog = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{prefix}-gauge",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,
                **_QUIET,
            }
        )
        changelog = f"{prefix}-accounts-changelog"
        self._changelog.assign([TopicPartition(changelog, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])

    def __enter__(self) -> Self:
        """Nothing to do: it is connected."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        with self._lock:
            self._changelog.close()

    def read(self) -> Reading | None:
        """Return how far the installation is; None when the broker has no answer."""
        with self._lock:
            # The cursors first: what comes in meanwhile is lag, never the other way round.
            self._follow()
            ends = self._ends()
            return None if ends is None else Reading(ends, dict(self._cursors))

    def _follow(self) -> None:
        while messages := self._changelog.consume(_FETCHED_MAX, 0.0):
            for message in messages:
                if message.error() is None and message.key() == CURSOR_KEY:
                    for topic, position in read_cursor(message.value()).items():
                        self._cursors[topic, message.partition()] = position.offset

    def _ends(self) -> dict[Place, int] | None:
        wanted: dict[Any, Any] = {TopicPartition(*place): OffsetSpec.latest() for place in self._inputs}
        try:
            asked = self._admin.list_offsets(wanted, request_timeout=_ANSWER_SECONDS)
            return {(tp.topic, tp.partition): answer.result(2 * _ANSWER_SECONDS).offset for tp, answer in asked.items()}
        except (KafkaException, TimeoutError):
            # This client would go on asking the broker that there was, also once there is one again.
            self._admin = self._client()
            return None

    def _client(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self._bootstrap, **_QUIET})
