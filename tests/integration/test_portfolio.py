"""The roll-up on a real broker: the figures of one, two and four workers are those of the log, also when one was killed."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.verify import reference as oracle
from deploy.verify.reference_portfolio import added_up, portfolio
from stream_app.clock import WallClock
from stream_app.topics import topic_name
from stream_app.waiting import wait_until
from tests.support.generate import Record, Scene, records, topic_of
from tests.support.histories import send, wait_folded
from tests.support.kafka_io import read_topic

if TYPE_CHECKING:
    from tests.support.worker import Workers

pytestmark = [pytest.mark.integration, pytest.mark.seconds(80)]

ACCOUNTS = tuple(f"acct-{number:02}" for number in range(16))
MONEY = Scene(accounts=ACCOUNTS, days=60, hot=0.05, topics={"payment-events": 8, "account-events": 2})
SECONDS = 90.0
"""Within this the figures are published: they follow a change within about 10 seconds, on a machine that has nothing else to do."""


def published(crew: Workers) -> dict[str, Any]:
    """Add up the latest records of all partitions, as a reader does."""
    latest: dict[bytes, bytes | None] = {}
    for reads in read_topic(crew.bootstrap, topic_name(crew.prefix, "portfolio-metrics")).values():
        latest |= {read.key: read.value for read in reads if read.key is not None}
    return added_up(json.loads(value) for value in latest.values() if value is not None)


def said_by_the_log(history: list[Record]) -> dict[str, Any]:
    """Compute the figures from nothing but the events."""
    accounts, _ = oracle.replay([(topic_of(record), record) for record in history])
    return portfolio(accounts.values(), WallClock().now_us(), segments=("smb",))


def assert_published(crew: Workers, history: list[Record]) -> None:
    """Wait until what is published is what the log says."""
    wait_folded(crew)
    expected = said_by_the_log(history)
    assert any("mrr_end" in name for by_segment in expected.values() for figures in by_segment.values() for name in figures)
    wait_until(lambda: published(crew) == expected, SECONDS, pause_seconds=1.0)
    assert published(crew) == expected


def assert_reported(crew: Workers, history: list[Record]) -> None:
    """What `churnwatch kpi` reads is what the log says: counts of each segment and month, and their total."""
    names = ("customers", "customers_new", "customers_churned")
    options = ("--by-segment", "--months", "25", "--json", "--bootstrap", crew.bootstrap, "--topic-prefix", crew.prefix)
    result = CliRunner().invoke(app, ["kpi", *names, *options, "--set", "portfolio.segments=[smb]"])
    assert result.exit_code == 0, result.output
    expected = said_by_the_log(history)
    for month in json.loads(result.stdout)["months"]:
        assert month["partitions"] == {"reported": [0, 1, 2, 3], "missing": []}
        told = {name: {line["kpi"]: line["value"] for line in column["kpis"]} for name, column in month["segments"].items()}
        for name, figure in zip(names, ("customers_end", "customers_new", "customers_churned"), strict=True):
            counts = {segment: expected.get(month["month"], {}).get(segment, {}).get(figure, 0) for segment in ("smb", "other")}
            assert {segment: values[name] for segment, values in told.items()} == {**counts, "total": sum(counts.values())}


def test_one_two_and_four_workers_publish_the_figures_of_the_log(crew: Workers) -> None:
    """Events come while workers join, and one is killed in between: nothing is lost, nothing counted twice."""
    crew.environment["CHURNWATCH_PORTFOLIO__SEGMENTS"] = '["smb"]'
    history = records(Random(21), 480, MONEY)
    first = crew.start("first").wait_ready()
    send(crew, history[:160])
    assert_published(crew, history[:160])
    second = crew.start("second").wait_ready()
    send(crew, history[160:240])
    first.kill()
    send(crew, history[240:320])
    assert_published(crew, history[:320])
    others = [crew.start(name).wait_ready() for name in ("first", "third", "fourth")]
    send(crew, history[320:])
    assert_published(crew, history)
    assert_reported(crew, history)
    for worker in (second, *others):
        assert worker.terminate() == 0, worker.tail()
    assert published(crew) == said_by_the_log(history)
