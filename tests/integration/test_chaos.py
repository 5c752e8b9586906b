"""Workers and a broker that are stopped, killed and frozen under traffic: every account exact, no cursor back, every alert once.

The short form of scenarios of `tests.chaos`; `make chaos` plays all of them at length. `CHURNWATCH_TEST_SEED` draws others.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from models.input_topics import INPUT_TOPICS
from tests.chaos.history import of, read
from tests.chaos.run import VERIFIED, play, table
from tests.chaos.schedule import Form, plan
from tests.support.broker import private_broker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.judge import Summary

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420)]

SEED: Final = int(os.environ.get("CHURNWATCH_TEST_SEED", "20261121"))


def held(summary: Summary) -> None:
    """Hold that every planned fault has landed and nothing differs."""
    print(table([summary]))  # noqa: T201 - pytest shows it
    assert not summary.problems, table([summary])
    assert summary.landed == summary.planned > 0


def ends(directory: Path) -> Counter[str]:
    """Count how workers ended that did not end by themselves: SIGTERM, or SIGKILL by whomever."""
    exits = [entry for entry in of(read(directory), "exit") if entry["how"] != "by itself"]
    return Counter("SIGKILL" if entry["code"] == -signal.SIGKILL else entry["how"] for entry in exits)


@pytest.mark.seconds(200)
@pytest.mark.timeout(900)
def test_twenty_restarts_a_frozen_worker_and_lost_disks_leave_everything_exact(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Two workers under traffic: ten SIGTERM, ten SIGKILL, four at points of a checkpoint, a SIGSTOP of three sessions; then no disks."""
    drawn = plan("storm", SEED, Form.SHORT)
    found = play(drawn, tmp_path / "run", kafka_bootstrap, topic_prefix)
    held(found)
    # Those of the last disks, and of the end, come on top.
    assert ends(tmp_path / "run") == {"SIGTERM": 6 + 4 + drawn.workers, "SIGKILL": 6 + 4 + drawn.workers}
    report = json.loads((tmp_path / "run" / VERIFIED).read_text("utf-8"))
    assert sum(report["alerts"].values()) > 300, report
    assert all(report["outcomes"][topic][outcome] for topic in INPUT_TOPICS for outcome in ("late", "duplicate")), report


@pytest.mark.seconds(80)
@pytest.mark.parametrize("scenario", ["standby", "rebalances", "fault-points"])
def test_faults_under_traffic_leave_everything_exact(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path, scenario: str) -> None:
    """Each lands while there is lag; state, alerts, probes, exits and logs are what they must be afterwards."""
    held(play(plan(scenario, SEED, Form.SHORT), tmp_path / "run", kafka_bootstrap, topic_prefix))


@pytest.mark.seconds(60)
def test_a_broker_that_is_killed_under_traffic_leaves_everything_exact(topic_prefix: str, tmp_path: Path) -> None:
    """The workers outlive it, or end asking for a restart; nothing is lost or counted twice."""
    with private_broker(tmp_path / "kafka") as broker:
        held(play(plan("broker", SEED, Form.SHORT), tmp_path / "run", broker.bootstrap, topic_prefix, broker))
