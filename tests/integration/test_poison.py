"""Records that cannot be used, between good ones on every partition: each ends as one dead letter, and nothing else notices."""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from kafka.admin import KafkaAdminClient

from deploy.verify.records import LogRecord
from deploy.verify.run import error_headers, verify
from models.dead_letters import KEY_MAX, VALUE_MAX
from models.input_topics import INPUT_TOPICS
from stream_app.admin import apply_topics
from stream_app.release import RELEASE
from stream_app.state_reader import partition_of
from stream_app.topics import Installation, topic_name
from tests.support.generate import Record, Scene, records, to_kafka
from tests.support.kafka_io import Read, Sender, read_topic, wait_caught_up
from tests.support.poison import POISON, Poison
from tests.support.worker import workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.worker import Workers

pytestmark = pytest.mark.integration

PARTITIONS = 4
GOOD_EACH = 3
"""Good records before each poison record: fewer, and the breaker would rightly take it for a flood."""

Written = tuple[str, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
"""What identifies a record that was sent: topic without a prefix, key, value, headers."""


def good_records(partition: int, count: int) -> Iterator[Record]:
    """Write usable records of accounts that belong on a partition: each once, none late."""
    names = [f"acct-{number}" for number in range(100)]
    mine = tuple(name for name in names if partition_of(name, PARTITIONS) == partition)
    scene = Scene(accounts=mine, days=60, late=0, again=0, conflict=0, burst=0, edge=0)
    return iter(records(Random(partition), count, scene))


def send_between(crew: Workers, poison: Sequence[Poison]) -> dict[int, int]:
    """Send every poison record to every partition, good ones of that partition around it; how many good ones, by partition."""
    sender = Sender(crew.bootstrap, {"linger.ms": 20})
    good = dict.fromkeys(range(PARTITIONS), 0)
    for number in range(PARTITIONS):
        usable = good_records(number, GOOD_EACH * (len(poison) + 1))
        for each in poison:
            for record in [next(usable) for _ in range(GOOD_EACH)]:
                sender.send(*to_kafka(record, crew.prefix), partition=number)
            if each.before is not None:
                sent = each.before
                sender.send(topic_name(crew.prefix, sent.topic), sent.key, sent.value, sent.headers, number)
            sender.send(topic_name(crew.prefix, each.topic), each.key, each.value, each.headers, number)
            good[number] += GOOD_EACH
        for record in usable:
            sender.send(*to_kafka(record, crew.prefix), partition=number)
            good[number] += 1
    sender.flush()
    return good


def written(crew: Workers, read: Read | LogRecord) -> Written:
    """Identify a record that was read back."""
    return read.topic.removeprefix(f"{crew.prefix}."), read.key, read.value, read.headers


def test_poison_between_good_records_on_every_partition(crew: Workers) -> None:
    """The whole catalogue, four times: each record once in dead-letters as it was, every good one applied, one process all along."""
    bad: dict[Written, Poison] = {(each.topic, each.key, each.value, tuple(each.headers)): each for each in POISON}
    assert len(bad) >= 60
    good = send_between(crew, POISON)
    worker = crew.start().wait_ready()
    wait_caught_up(crew.bootstrap, crew.prefix, [topic_name(crew.prefix, topic) for topic in INPUT_TOPICS], 120)
    assert worker.exit_code is None
    assert {worker.pid} == {started.pid for started in crew.started}
    assert worker.get("/livez")[0] == 200
    assert worker.terminate() == 0

    def usable(read: LogRecord) -> dict[str, Any] | None:
        return None if written(crew, read) in bad else msgspec.json.decode(read.value or b"")

    found = verify(crew.settings(), usable).check()
    befores = sum(each.before is not None for each in POISON)
    applied = sum(counts["applied"] + counts["duplicate"] for counts in found.outcomes.values())
    assert applied == sum(good.values()) + PARTITIONS * befores
    assert not any(counts["late"] for counts in found.outcomes.values())
    assert found.dead_letters == PARTITIONS * len(bad)
    expect_letters(crew, bad)


def letters(crew: Workers) -> list[Read]:
    """Read the dead letters."""
    by_number = read_topic(crew.bootstrap, topic_name(crew.prefix, "dead-letters"))
    return [letter for read in by_number.values() for letter in read]


def expect_letters(crew: Workers, bad: dict[Written, Poison]) -> None:
    """Hold each dead letter against the record that it names: bytes, headers, timestamp and reason."""
    inputs = {
        (read.topic, read.partition, read.offset): read
        for topic in INPUT_TOPICS
        for by_number in read_topic(crew.bootstrap, topic_name(crew.prefix, topic)).values()
        for read in by_number
    }
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for letter in letters(crew):
        told = error_headers((name, value or b"") for name, value in letter.headers)
        original = inputs[told["topic"], int(told["partition"]), int(told["offset"])]
        poison = bad[written(crew, original)]
        reasons[poison.name][told["reason"]] += 1
        expect_unchanged(letter, original, told)
        assert told["version"] == RELEASE, poison.name
        assert told["stage"] == ("fold" if told["reason"] == "conflicting_duplicate" else "decode"), poison.name
        assert told["message"].isprintable(), poison.name
        assert letter.partition == original.partition, poison.name
    assert reasons == {each.name: {each.reason.value: PARTITIONS} for each in bad.values()}


def expect_unchanged(letter: Read, original: Read, told: dict[str, str]) -> None:
    """Compare a dead letter with its record: all of it, or its beginning with the digest of the whole."""
    assert letter.timestamp == original.timestamp
    kept = [header for header in letter.headers if not header[0].startswith("churnwatch.error.")]
    assert kept == list(original.headers)
    assert letter.headers[: len(kept)] == original.headers
    for mine, theirs, most, digest in (
        (letter.value, original.value, VALUE_MAX, "sha256"),
        (letter.key, original.key, KEY_MAX, "key_sha256"),
    ):
        if theirs is not None and len(theirs) > most:
            assert mine == theirs[:most]
            assert told[digest] == sha256(theirs).hexdigest()
        else:
            assert mine == theirs
            assert digest not in told


def test_dead_letters_may_have_fewer_partitions_than_the_inputs(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    """Whoever made the topic with one partition still gets the letters of all of them, and no partition stops."""
    name = topic_name(topic_prefix, "dead-letters")
    with KafkaAdminClient(bootstrap_servers=kafka_bootstrap) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}})
    apply_topics(kafka_bootstrap, Installation(prefix=topic_prefix, app_id=topic_prefix, partitions=PARTITIONS))
    with workers(kafka_bootstrap, topic_prefix, tmp_path) as crew:
        worker = crew.start().wait_ready()
        sender = Sender(kafka_bootstrap)
        for number in range(PARTITIONS):
            sender.send(topic_name(topic_prefix, "usage-events"), b"acme", b"no event", partition=number)
        sender.flush()
        wait_caught_up(kafka_bootstrap, topic_prefix, [topic_name(topic_prefix, topic) for topic in INPUT_TOPICS], 30)
        assert worker.terminate() == 0
        found = verify(crew.settings()).check()
        assert {letter.partition for letter in letters(crew)} == {0}
    assert found.dead_letters == PARTITIONS
    assert found.outcomes["usage-events"] == {"dead_letter": PARTITIONS}


def test_an_account_with_a_lot_in_it_stops_nobody(crew: Workers) -> None:
    """Records near the limit of their size, object after object: what is kept of the account still fits into its records."""
    labels = dict.fromkeys(("item_id", "product_id", "price_id"), "x" * 256)
    items = [{**labels, "unit_amount_minor": 1, "interval": "month"}] * 100
    sender = Sender(crew.bootstrap)
    for number in range(60):
        data = {"subscription_id": f"s{number}", "status": "active", "currency": "EUR", "version": 1, "items": items}
        record = {"id": f"e{number}", "source": "s", "type": "subscription.upserted", "time": "2026-03-01T00:00:00Z", "subject": "acme"}
        sender.send(*to_kafka({**record, "data": data}, crew.prefix))
    sender.flush()
    worker = crew.start().wait_ready()
    wait_caught_up(crew.bootstrap, crew.prefix, [topic_name(crew.prefix, topic) for topic in INPUT_TOPICS], 60)
    assert worker.terminate() == 0
    assert verify(crew.settings()).check().read["payment-events"] == 60
