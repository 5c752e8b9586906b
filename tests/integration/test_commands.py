"""A command for all accounts on the real broker: every partition has it, once, through crashes, a rebuild and a snapshot."""

from __future__ import annotations

import json
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from deploy.verify import reference as oracle
from deploy.verify.reference_commands import rate_of
from deploy.verify.reference_portfolio import added_up, portfolio
from stream_app.clock import WallClock
from stream_app.exits import Exit
from stream_app.topics import topic_name
from stream_app.waiting import wait_until
from tests.support.generate import Record, Scene, records, topic_of
from tests.support.histories import send, wait_folded
from tests.support.kafka_io import read_topic

if TYPE_CHECKING:
    from tests.support.worker import Workers

pytestmark = pytest.mark.integration

ACCOUNTS = tuple(f"acct-{number:02}" for number in range(16))
MONEY = Scene(accounts=ACCOUNTS, days=60, hot=0.05, topics={"payment-events": 8, "account-events": 2})
SECONDS = 90.0
"""Within this the figures are published: they follow a change within about 10 seconds, on a machine that has nothing else to do."""


def churnwatch(crew: Workers, *words: str, code: Exit = Exit.CLEAN) -> str:
    """Run a command as the operator of these workers would; what it printed."""
    command = [sys.executable, "-P", "-m", "deploy.cli", *words]
    ran = subprocess.run(
        command, env=crew.variables("operator"), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def said_in_each_partition(crew: Workers) -> list[list[Record]]:
    """Read the commands that each partition has."""
    reads = read_topic(crew.bootstrap, topic_name(crew.prefix, "account-commands"))
    return [[json.loads(read.value or b"") for read in of_one] for _, of_one in sorted(reads.items())]


def published(crew: Workers) -> dict[str, Any]:
    """Add up the latest records of all partitions, as a reader does."""
    latest: dict[bytes, bytes | None] = {}
    for reads in read_topic(crew.bootstrap, topic_name(crew.prefix, "portfolio-metrics")).values():
        latest |= {read.key: read.value for read in reads if read.key is not None}
    return added_up(json.loads(value) for value in latest.values() if value is not None)


def assert_published(crew: Workers, history: list[Record]) -> dict[str, Any]:
    """Wait until what is published is what the log says with the rates that are set; the figures."""
    wait_folded(crew)
    accounts, _ = oracle.replay([(topic_of(record), record) for record in history])
    told = [oracle.Event.of(record) for record in said_in_each_partition(crew)[0]]
    rated = {"reporting": "USD", "rate": rate_of("USD", {}, told)}
    expected = portfolio(accounts.values(), WallClock().now_us(), rated=rated)
    wait_until(lambda: published(crew) == expected, SECONDS)
    assert published(crew) == expected
    return expected


def test_a_rate_reaches_every_partition_and_stays(crew: Workers) -> None:
    """Set while a worker runs, corrected, killed, rebuilt: the figures are those of the log, and `verify` finds nothing."""
    crew.environment["CHURNWATCH_REVENUE__REPORTING_CURRENCY"] = "USD"
    history = records(Random(31), 320, MONEY)
    worker = crew.start("first").wait_ready()
    send(crew, history[:200])
    before = assert_published(crew, history[:200])
    assert any(name.endswith("@EUR") for by_segment in before.values() for figures in by_segment.values() for name in figures)
    churnwatch(crew, "rates", "set", "2026-01-01", "EUR", "1.25")
    churnwatch(crew, "rates", "set", "2026-02-01", "EUR", "1.0850")
    copies = said_in_each_partition(crew)
    assert [len(each) for each in copies] == [2] * 4
    assert all(each == copies[0] for each in copies)
    after = assert_published(crew, history[:200])
    assert not any(name.endswith("@EUR") for by_segment in after.values() for figures in by_segment.values() for name in figures)
    worker.kill()
    churnwatch(crew, "rates", "set", "2026-02-01", "EUR", "0.75")
    workers = [crew.start(name).wait_ready() for name in ("first", "second")]
    send(crew, history[200:])
    assert_published(crew, history)
    for each in workers:
        assert each.terminate() == Exit.CLEAN, each.tail()
    assert "2026-02-01" in churnwatch(crew, "rates", "show")
    report = json.loads(churnwatch(crew, "verify", "--json", "--drained"))
    assert (report["difference_count"], report["checks"]["commands"]["judged"]) == (0, 4)
    assert report["outcomes"]["account-commands"] == {"applied": 12}
    churnwatch(crew, "rebuild", "--yes")
    assert json.loads(churnwatch(crew, "verify", "--json", "--drained"))["difference_count"] == 0
    last = crew.start("third").wait_ready()
    assert_published(crew, history)
    assert last.terminate() == Exit.CLEAN, last.tail()


def test_a_command_that_nobody_would_take_is_not_sent(crew: Workers) -> None:
    """Said in one line, with the member that is wrong; without a currency to lead into it asks for one."""
    assert "into" in churnwatch(crew, "rates", "set", "2026-01-01", "EUR", "1.25", code=Exit.CONFIGURATION)
    assert "day" in churnwatch(crew, "rates", "set", "2026-02-30", "EUR", "1.25", "--into", "USD", code=Exit.CONFIGURATION)
    assert said_in_each_partition(crew) in ([], [[], [], [], []])
    assert "not used" in churnwatch(crew, "rates", "set", "2026-01-01", "EUR", "1.25", "--into", "USD")
    assert json.loads(churnwatch(crew, "rates", "show", "--json"))["rate"] == "1.25"
