"""`churnwatch verify` on a real installation: beside its worker, after it, on a log that lost its beginning, and on damaged state."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from deploy.verify.report import Check
from models import row
from models.input_topics import INPUT_TOPICS
from stream_app.exits import Exit
from stream_app.topics import topic_name
from stream_app.waiting import wait_until
from tests.support.generate import DAY, Scene, records, to_kafka
from tests.support.kafka_io import Sender, Traffic, read_topic, wait_caught_up
from tests.support.worker import ALERT_AT_ONCE, Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

ACCOUNTS = tuple(f"acct-{number:02}" for number in range(40))


def endless(prefix: str) -> Iterator[tuple[str, bytes, bytes]]:
    """Write records without end, with whatever a producer can do to them; each thousandth cannot be used."""
    for number in itertools.count():
        scene = Scene(accounts=ACCOUNTS, days=60, hot=0.05)
        for record in records(Random(number), 999, scene):
            yield to_kafka({**record, "id": f"{number}-{record['id']}"}, prefix)
        yield topic_name(prefix, "usage-events"), b"acct-00", b"no event"


def verified(crew: Workers, *options: str) -> tuple[int, dict[str, Any]]:
    """Run the command as the operator of these workers would; its exit code and its report."""
    command = [sys.executable, "-P", "-m", "deploy.cli", "verify", "--json", *options]
    ended = subprocess.run(command, env=crew.variables("operator"), capture_output=True, text=True, check=False)
    assert ended.stderr == "", ended.stderr
    return ended.returncode, json.loads(ended.stdout)


@pytest.mark.seconds(80)
def test_verify_beside_the_worker_and_after_it(crew: Workers) -> None:
    """While records flow it finds nothing, nor afterwards; a log without its beginning it counts; a changed row it finds by its account."""
    crew.environment |= ALERT_AT_ONCE
    worker = crew.start().wait_ready()
    with Traffic(Sender(crew.bootstrap), endless(crew.prefix), 500) as flowing:
        flowing.flow(2)
        for _ in range(2):
            code, report = verified(crew)
            assert (code, report["differences"]) == (Exit.CLEAN, [])
        assert worker.exit_code is None
    assert sum(report["read"].values()) > 300
    wait_caught_up(crew.bootstrap, crew.prefix, [topic_name(crew.prefix, topic) for topic in INPUT_TOPICS], 60)
    # What was published behind the backlog is published again, by the time of the wall.
    wait_until(lambda: verified(crew)[1]["not_judged"] == {}, 60)
    assert worker.terminate() == 0
    code, report = verified(crew, "--drained")
    assert (code, report["difference_count"], report["not_judged"], report["behind"]) == (Exit.CLEAN, 0, {}, 0)
    assert report["accounts"] == len(ACCOUNTS)
    assert all(report["checks"][check]["judged"] > 0 for check in Check), report
    expect_truncation_is_counted(crew)
    expect_damage_is_found(crew)


def expect_truncation_is_counted(crew: Workers) -> None:
    """Delete the first records of one partition of the usage, as retention does."""
    name = topic_name(crew.prefix, "usage-events")
    reads = read_topic(crew.bootstrap, name)[1]
    with KafkaAdminClient(bootstrap_servers=crew.bootstrap) as admin:
        admin.delete_records({TopicPartition(name, 1): reads[len(reads) // 2].offset})
    code, report = verified(crew, "--drained", "--partition", "1")
    assert (code, report["differences"]) == (Exit.CLEAN, [])
    (speaks,) = report["speaks_from"]
    assert (speaks["topic"], speaks["partition"]) == ("usage-events", 1)
    # Everything was sent today, so no day is far enough from the log's beginning.
    assert speaks["usage_days_from"] is not None
    assert report["checks"]["state"]["not_judged"] == report["accounts"]
    assert report["checks"]["assessments"]["judged"] == report["accounts"]


def expect_damage_is_found(crew: Workers) -> None:
    """Write a row with one use more into the changelog, as no worker did."""
    name, account = f"{crew.prefix}-accounts-changelog", b"acct-07"
    number, stored = next(
        (number, read.value)
        for number, reads in read_topic(crew.bootstrap, name).items()
        for read in reversed(reads)
        if read.key == b"r" + account and read.value is not None
    )
    rows = row.decode([stored]).copy()
    rows["usage"][0, int(rows["used_at"][0]) // DAY % row.RING_DAYS] += 1
    sender = Sender(crew.bootstrap)
    sender.send(name, b"r" + account, row.encode(rows)[0], partition=number)
    sender.flush()
    code, report = verified(crew, "--account", account.decode())
    assert code == Exit.OTHER
    assert {(each["check"], each["account"]) for each in report["differences"]} >= {("state", account.decode())}
    assert {each["account"] for each in report["differences"]} == {account.decode()}
    code, _ = verified(crew, "--account", "acct-08")
    assert code == Exit.CLEAN


def test_verify_needs_a_broker_that_answers(crew: Workers) -> None:
    """Exit code 3, one line, and no report."""
    command = [sys.executable, "-P", "-m", "deploy.cli", "verify", "--bootstrap", "127.0.0.1:1"]
    ended = subprocess.run(command, env=crew.variables("operator"), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (Exit.BROKER, "")
    assert ended.stderr.startswith("error: the broker at 127.0.0.1:1 has no answer")
    assert ended.stderr.count("\n") == 1
