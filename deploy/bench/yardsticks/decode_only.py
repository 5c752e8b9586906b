"""The floor: read every record with confluent-kafka and decode it with msgspec, keep nothing.

`python -m deploy.bench.yardsticks.decode_only BOOTSTRAP PREFIX EVENTS`
"""

from __future__ import annotations

import sys
from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from deploy.bench.yardsticks.speaking import DURABLE, FIRST, LAST, say, say_result, wait_for_leave

_TOPICS: Final = ("usage-events", "ticket-events", "payment-events")
_PARTITIONS: Final = 4
_BATCH: Final = 5_000
_USAGE: Final = frozenset({"usage.event", "usage.page", "usage.session"})


class Data(msgspec.Struct, gc=False):
    """What the yardsticks' job reads of an event's payload."""

    user_id: str | None = None
    count: int = 1
    to: str | None = None


class Event(msgspec.Struct, gc=False):
    """What the yardsticks' job reads of an event."""

    id: str
    source: str
    type: str
    time: str
    subject: str
    data: Data


def run(bootstrap: str, prefix: str, expected: int) -> None:
    """Decode `expected` events; raises `RuntimeError` when the broker reports an error."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-decode-only",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 131_072,
        }
    )
    consumer.assign([TopicPartition(f"{prefix}.{topic}", number, OFFSET_BEGINNING) for topic in _TOPICS for number in range(_PARTITIONS)])
    decode = msgspec.json.Decoder(Event).decode
    events = uses = 0
    while events < expected:
        for record in consumer.consume(_BATCH, 0.1):
            value = record.value()
            if record.error() is not None or value is None:
                message = f"unreadable: {record.error()}"
                raise RuntimeError(message)
            event = decode(value)
            if event.type in _USAGE:
                uses += event.data.count
            events += 1
            if events == 1:
                say(FIRST)
    say(LAST)
    say(DURABLE)
    say_result(events=events, uses=uses)
    wait_for_leave()
    consumer.close()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
