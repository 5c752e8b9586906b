"""The roll-up on a real broker: the figures of one, two and four workers are the truth of a simulation, also when one was killed."""

from __future__ import annotations

import json
from threading import Event as Signal
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.replay.producer import Pace, Sender, replay
from deploy.simulate.stream import TOPICS
from deploy.simulate.world import Scope
from deploy.verify import reference as oracle
from deploy.verify.reference_portfolio import added_up, portfolio
from models.feedback import Feedback
from models.kpi.figures import read_key
from models.reading import reader
from stream_app.topics import topic_name
from stream_app.waiting import wait_until
from tests.support.generate import Record, topic_of
from tests.support.histories import wait_folded
from tests.support.kafka_io import read_topic
from tests.support.simulated import MUST_BE_COMPARED, simulated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.simulate.truth import Truth
    from tests.support.worker import Workers

pytestmark = pytest.mark.integration

SCOPE = Scope(accounts=30, months=4, seed=21, currencies=("USD", "EUR"), events_per_user_day=0.01)
"""Every account is there as the last month ends, so on the log's time each partition ends at the truth's `as_of`."""

OF_SCORES = frozenset({"customers_by_band", "mrr_by_band", "mrr_renewing_at_risk"})
"""What the running month says of bands."""

SECONDS = 90.0
"""Within this the figures are published: they follow a change within about 10 seconds, on a machine that has nothing else to do."""


def published(crew: Workers) -> dict[str, Any]:
    """Add up the latest records of all partitions, as a reader does; but what depends on scores, which no decision tells."""
    latest: dict[bytes, bytes | None] = {}
    for reads in read_topic(crew.bootstrap, topic_name(crew.prefix, "portfolio-metrics")).values():
        latest |= {read.key: read.value for read in reads if read.key is not None}
    told = added_up(json.loads(value) for value in latest.values() if value is not None)
    return {
        month: {
            segment: {key: value for key, value in figures.items() if read_key(key).name not in OF_SCORES}
            for segment, figures in own.items()
        }
        for month, own in told.items()
    }


def said_by_the_log(history: list[Record], now: int) -> dict[str, Any]:
    """Compute the figures from nothing but the events."""
    accounts, _ = oracle.replay([(topic_of(record), record) for record in history], reader(Feedback()))
    return portfolio(accounts.values(), now, segments=SCOPE.names())


def true_ones(told: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[tuple[str, str, str], int]:
    """What was told of figures that the truth knows, by month, segment and key."""
    return {
        (month, segment, key): value
        for month, by_segment in told.items()
        for segment, figures in by_segment.items()
        for key, value in figures.items()
        if read_key(key).name in MUST_BE_COMPARED
    }


def assert_published(crew: Workers, history: list[Record], truth: Truth) -> None:
    """Wait until what is published is what the log says; it must be what was decided, too."""
    wait_folded(crew)
    expected = said_by_the_log(history, truth.as_of)
    wait_until(lambda: published(crew) == expected, SECONDS)
    told = published(crew)
    assert told == expected
    assert true_ones(told) == true_ones(truth.figures())
    assert len(true_ones(told)) > 1000


def assert_reported(crew: Workers, truth: Truth) -> None:
    """What `churnwatch kpi` reads is what was decided: counts of each segment and month, and their total."""
    figures = truth.figures()
    names = {"customers": "customers_end", "customers_new": "customers_new", "customers_churned": "customers_churned"}
    options = ("--by-segment", "--months", "4", "--json", "--bootstrap", crew.bootstrap, "--topic-prefix", crew.prefix)
    segments = f"portfolio.segments={json.dumps(SCOPE.names())}"
    result = CliRunner().invoke(app, ["kpi", max(figures), *names, *options, "--set", segments])
    assert result.exit_code == 0, result.output
    months = json.loads(result.stdout)["months"]
    assert len(months) == 4
    for month in months:
        assert month["partitions"] == {"reported": [0, 1, 2, 3], "missing": []}
        told = {name: {line["kpi"]: line["value"] for line in column["kpis"]} for name, column in month["segments"].items()}
        for name, figure in names.items():
            counts = {each: figures[month["month"]].get(each, {}).get(figure, 0) for each in (*SCOPE.names(), "other")}
            assert {segment: values[name] for segment, values in told.items()} == {**counts, "total": sum(counts.values())}


def test_one_two_and_four_workers_publish_the_truth(crew: Workers) -> None:
    """Accounts come while workers join, and one is killed in between: nothing is lost, nothing counted twice."""
    crew.environment["CHURNWATCH_PORTFOLIO__SEGMENTS"] = json.dumps(SCOPE.names())
    crew.environment["CHURNWATCH_CLOCK"] = "log"
    simulation = simulated(SCOPE)
    sent: list[Record] = []
    names: set[str] = set()

    def send_accounts(first: int, last: int) -> None:
        """Send all that is to be said of some accounts, as `churnwatch simulate` does; costs are no account's."""
        chosen = {f"acct-{number:06}" for number in range(first, last)}
        history = [event for event in simulation.events if event["subject"] in chosen]
        with Sender({"bootstrap_servers": [crew.bootstrap]}, crew.prefix, topics=TOPICS) as sender:
            replay(history, sender, pace=Pace(), stop=Signal(), tell=lambda _: None)
        sent.extend(dict(event) for event in history)
        names.update(chosen)

    first = crew.start("first").wait_ready()
    send_accounts(0, 10)
    assert_published(crew, sent, simulation.truth_of(names))
    second = crew.start("second").wait_ready()
    send_accounts(10, 15)
    first.kill()
    send_accounts(15, 20)
    assert_published(crew, sent, simulation.truth_of(names))
    others = [crew.start(name).wait_ready() for name in ("first", "third", "fourth")]
    send_accounts(20, 30)
    assert_published(crew, sent, simulation.truth)
    assert_reported(crew, simulation.truth)
    for worker in (second, *others):
        assert worker.terminate() == 0, worker.tail()
    assert true_ones(published(crew)) == true_ones(simulation.truth.figures())
