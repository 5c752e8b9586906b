"""Reads what the worker puts out: its scores and alerts from Kafka, its counts from `/metrics`."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final, Self

from kafka import KafkaConsumer, TopicPartition

from deploy.demo.view import WorkerCounts, decode_alert, decode_score
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from deploy.demo.view import Board

POLL_MS: Final = 100
RECORDS_AT_ONCE: Final = 5_000
_SCRAPE_TIMEOUT_SECONDS: Final = 2.0


class Outputs:
    """The scores and alerts of an installation from their beginning, committed ones only; a context manager."""

    def __init__(self, connection: Mapping[str, Any], prefix: str) -> None:
        """Assign every partition; it belongs to no group and leaves nothing behind."""
        self._alerts = topic_name(prefix, "churn-alerts")
        self._consumer = KafkaConsumer(
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # They come from a broker that has checked them, and the check is plain Python.
            check_crcs=False,
            max_partition_fetch_bytes=4 << 20,
            allow_auto_create_topics=False,
            **connection,
        )
        topics = (topic_name(prefix, "health-scores"), self._alerts)
        self._partitions = [
            TopicPartition(topic, number) for topic in topics for number in sorted(self._consumer.partitions_for_topic(topic) or ())
        ]
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning(*self._partitions)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connection."""
        self._consumer.close(autocommit=False)

    def read_into(self, board: Board) -> int:
        """Wait a moment for records, show them to the board, and return how many there were.

        Of an account's scores in one batch only the last counts.
        """
        batches = self._consumer.poll(timeout_ms=POLL_MS, max_records=RECORDS_AT_ONCE)
        for partition, records in batches.items():
            if partition.topic == self._alerts:
                for record in records:
                    board.alerted(decode_alert(record.value))
            else:
                for value in {record.key: record.value for record in records if record.value is not None}.values():
                    board.scored(decode_score(value))
        return sum(map(len, batches.values()))

    def is_at_end(self) -> bool:
        """Say whether everything that is committed now has been read."""
        ends = self._consumer.end_offsets(self._partitions)
        return all(self._consumer.position(partition) >= end for partition, end in ends.items())


def scrape(url: str) -> WorkerCounts | None:
    """Return what the worker counts; None while it does not answer, which is so when it starts."""
    try:
        with urllib.request.urlopen(url, timeout=_SCRAPE_TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own worker's
            return WorkerCounts.from_metrics(answer.read().decode())
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return None
