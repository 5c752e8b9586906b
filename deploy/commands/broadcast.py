"""One command for all accounts: the same record in every partition of `account-commands`, in one transaction.

Every partition folds its own copy, so a command that reached some of them only would make figures that do not fit together: either all
have it, or none. The transactional id is `<app_id>-commands`.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.verify.kafka_log import KafkaLog
from deploy.verify.records import LogRecord
from models.commands import Commands
from models.decoding import decode_batch
from models.events import EVERYBODY
from models.identity import IDENTITY_BYTES
from models.input_topics import COMMANDS
from models.times import format_us
from stream_app.exits import BrokerError, Exit, ServiceExit
from stream_app.kafka_connection import client_kwargs
from stream_app.producers import REQUEST_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS, send_whole
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_app.settings import Settings

SOURCE: Final = "/churnwatch/cli"
_HEADERS: Final = (("content-type", b"application/cloudevents+json"),)


@dataclass(frozen=True, slots=True)
class Sent:
    """A command that is in every partition: the id of its event, and how many partitions there are."""

    event_id: str
    partitions: int


def broadcast(settings: Settings, kind: str, data: dict[str, Any], now_us: int) -> Sent:
    """Write a command (`kind` is its type, `now_us` when it was decided) into every partition; all have it when this returns.

    Raises ServiceExit for a command that no worker would take, and BrokerError when it could not be written: then nobody has it.
    """
    record = command(kind, data, now_us)
    [*refused] = decode_batch(COMMANDS, [record]).rejected
    if refused:
        raise ServiceExit(Exit.CONFIGURATION, refused[0].message.removeprefix("data."), "nothing was sent; see --help")
    topic = topic_name(settings.topic_prefix, COMMANDS)
    with KafkaLog(settings) as log:
        numbers = log.partitions(topic)
    try:
        asyncio.run(_send(settings, topic, numbers, record, now_us))
    except KafkaError as error:
        raise BrokerError(f"the command could not be written: {error!r}", "run it again: no partition has it") from error
    return Sent(json.loads(record.value or b"")["id"], len(numbers))


def command(kind: str, data: dict[str, Any], now_us: int) -> LogRecord:
    """Return the record of a command for all accounts, as it is written into each partition."""
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": SOURCE,
        "type": kind,
        "time": format_us(now_us),
        "subject": EVERYBODY,
        "data": data,
    }
    return LogRecord(COMMANDS, 0, 0, EVERYBODY.encode(), json.dumps(event, ensure_ascii=False).encode(), _HEADERS)


async def _send(settings: Settings, topic: str, numbers: Sequence[int], record: LogRecord, now_us: int) -> None:
    name = f"{settings.app_id}-commands"
    producer = AIOKafkaProducer(
        **client_kwargs(settings),
        client_id=name,
        transactional_id=name,
        acks="all",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await producer.start()
        async with producer.transaction():
            for number in numbers:
                await send_whole(producer, topic, number, [(record.key, record.value, list(_HEADERS), None)], now_us // 1000)
    finally:
        await producer.stop()


def read_commands(settings: Settings) -> dict[int, Commands]:
    """Return what the log of each partition says, whether or not workers have folded it; raises BrokerError."""
    topic = topic_name(settings.topic_prefix, COMMANDS)
    found = {}
    with KafkaLog(settings) as log:
        numbers = log.partitions(topic)
        places = [(topic, number) for number in numbers]
        starts, ends = log.starts(places), log.stable_ends(places)
        for number, place in zip(numbers, places, strict=True):
            decoded = decode_batch(COMMANDS, list(log.records(place, starts[place], ends[place])))
            found[number] = Commands()
            identities = decoded.identity.view(f"V{IDENTITY_BYTES}").tolist()
            for event, at, identity in zip(decoded.events, decoded.times_us.tolist(), identities, strict=True):
                found[number].fold(event, at, identity)
    return found
