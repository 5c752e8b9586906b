"""Workers and a broker that are stopped, killed and frozen under traffic: every account exact, no cursor back, every alert once.

The short form of scenarios of `tests.chaos`; `make chaos` plays all of them at length. `CHURNWATCH_TEST_SEED` draws others.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.chaos.run import play, table
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


@pytest.mark.parametrize("scenario", ["kills", "restarts", "standby", "static", "rebalances", "fault-points", "zombie"])
def test_faults_under_traffic_leave_everything_exact(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path, scenario: str) -> None:
    """Each lands while there is lag; state, alerts, probes, exits and logs are what they must be afterwards."""
    held(play(plan(scenario, SEED, Form.SHORT), tmp_path / "run", kafka_bootstrap, topic_prefix))


def test_a_broker_that_is_killed_under_traffic_leaves_everything_exact(topic_prefix: str, tmp_path: Path) -> None:
    """The workers outlive it, or end asking for a restart; nothing is lost or counted twice."""
    with private_broker(tmp_path / "kafka") as broker:
        held(play(plan("broker", SEED, Form.SHORT), tmp_path / "run", broker.bootstrap, topic_prefix, broker))
