"""Workers that are stopped, killed and frozen under traffic: every account exact, no cursor back, every alert once."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from deploy.verify.report import Report
from deploy.verify.run import verify
from models.input_topics import INPUT_TOPICS
from stream_app.clock import WallClock
from stream_app.exits import Exit
from stream_app.topics import topic_name
from stream_app.waiting import wait_until
from tests.support.generate import DAY, HOUR, Scene, records, to_kafka
from tests.support.kafka_io import Sender, Traffic, wait_caught_up
from tests.support.memory_worker import AT_ONCE
from tests.support.worker import ALERT_AT_ONCE, Worker, Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

PARTITIONS: Final = 4
PER_SECOND: Final = 2_000
ACCOUNTS: Final = tuple(f"acct-{number:03}" for number in range(300))
CHUNK: Final = 1_000
SEED: Final = int(os.environ.get("CHURNWATCH_TEST_SEED", "20261121"))
"""What everything random here is drawn from; a failure names it."""

EXPECTED_EXITS: Final = {int(Exit.CLEAN), int(Exit.RESTART), -signal.SIGKILL}


def endless(rng: Random, prefix: str) -> Iterator[tuple[str, bytes, bytes]]:
    """Write records without end, two hours forward with each chunk: the last weeks up to now."""
    now = WallClock().now_us()
    for number in itertools.count():
        start = min(now - 40 * DAY + number * 2 * HOUR, now - 9 * DAY)
        scene = Scene(accounts=ACCOUNTS, start_us=start, days=8, hot=0.02)
        for record in records(rng, CHUNK, scene):
            # The ids of a chunk are its own: what it repeats, it repeats inside.
            yield to_kafka({**record, "id": f"{number}-{record['id']}"}, prefix)


@dataclass
class Crew:
    """Two workers and what happens to them; each is started again as an orchestrator would.

    `has_names`: they are static members of their group.
    """

    workers: Workers
    rng: Random
    has_names: bool = False
    now: dict[str, Worker] = field(default_factory=dict)
    exits: Counter[str] = field(default_factory=Counter)

    def start(self, name: str, **extra: str) -> Worker:
        """Start a worker, anew if need be."""
        named = {"CHURNWATCH_INSTANCE_ID": name} if self.has_names else {}
        self.now[name] = self.workers.start(name, **named, **extra)
        return self.now[name]

    def heal(self) -> None:
        """Start what has ended by itself; it may only have ended in ways that ask for it."""
        for name, worker in self.now.items():
            if worker.exit_code is not None:
                self.note("by itself", worker)
                self.start(name)

    def note(self, how: str, worker: Worker) -> None:
        """Count how a worker ended, and refuse an end that no orchestrator could mend."""
        assert worker.exit_code in EXPECTED_EXITS, worker.tail()
        self.exits[f"{how}: {worker.exit_code}"] += 1

    def wait_serving(self, name: str, seconds: float = 60.0) -> Worker:
        """Wait until a worker serves partitions of its own; what ends meanwhile is started again."""

        def is_serving() -> bool:
            self.heal()
            return bool(self.now[name].partitions())

        assert wait_until(is_serving, seconds), f"{name} serves nothing\n{self.now[name].tail()}"
        return self.now[name]

    def wait_all_served(self, seconds: float = 60.0) -> None:
        """Wait until every partition is served by exactly one worker, and every worker serves some."""

        def are_all() -> bool:
            self.heal()
            shares = [worker.partitions() for worker in self.now.values()]
            return all(shares) and sorted(itertools.chain(*shares)) == list(range(PARTITIONS))

        assert wait_until(are_all, seconds), "\n".join(worker.tail() for worker in self.now.values())

    def finish(self, seconds: float = 120.0) -> None:
        """Let them fold everything, then stop them."""
        self.wait_all_served()
        topics = [topic_name(self.workers.prefix, topic) for topic in INPUT_TOPICS]
        wait_caught_up(self.workers.bootstrap, self.workers.prefix, topics, seconds)
        for worker in self.now.values():
            worker.process.send_signal(signal.SIGTERM)
        for worker in self.now.values():
            assert worker.wait_exit() == Exit.CLEAN, worker.tail()


@pytest.fixture
def stage(crew: Workers) -> Crew:
    """Return the crew that things happen to."""
    crew.environment |= ALERT_AT_ONCE
    return Crew(crew, Random(SEED))


def traffic(stage: Crew) -> Traffic:
    """Return the traffic of an installation; it flows from entering it on."""
    return Traffic(Sender(stage.workers.bootstrap), endless(stage.rng, stage.workers.prefix), PER_SECOND)


def verified(stage: Crew) -> Report:
    """Hold everything that was written against what was sent."""
    found = verify(stage.workers.settings(alerts=AT_ONCE)).check()
    print(f"seed {SEED}: {found}; exits {dict(stage.exits)}")  # noqa: T201 - pytest shows it
    assert found.alerts.total() > 300, found
    assert all(found.outcomes[topic]["late"] and found.outcomes[topic]["duplicate"] for topic in INPUT_TOPICS), found
    return found


@pytest.mark.timeout(900)
def test_twenty_restarts_and_a_frozen_worker_leave_everything_exact(stage: Crew) -> None:
    """Under traffic: ten SIGTERM, ten SIGKILL, four of them at points of a checkpoint, and a SIGSTOP longer than the session."""
    points = ["after_fold", "in_transaction", "after_commit", "after_store"]
    plan = ["term"] * 6 + ["kill"] * 6 + points + ["freeze"]
    stage.rng.shuffle(plan)
    with traffic(stage) as flowing:
        for name in ("one", "two"):
            stage.start(name)
        stage.wait_all_served()
        for act in plan:
            name = stage.rng.choice(sorted(stage.now))
            if act == "freeze":
                freeze(stage, name, flowing)
            elif act in points:
                crash_at(stage, name, act, flowing)
            else:
                restart(stage, name, act, flowing)
        flowing.flow(1)
        stage.heal()
    stage.finish()
    verified(stage)
    assert stage.exits["SIGTERM: 0"] == 10
    assert stage.exits["SIGKILL: -9"] + stage.exits["failpoint: -9"] == 10


@pytest.mark.parametrize("arrangement", ["standby replicas", "static members"])
def test_the_other_ways_to_run_are_as_exact(stage: Crew, arrangement: str) -> None:
    """With a warm copy of each partition on the other worker, and with workers that keep their name: kills and stops under traffic."""
    if arrangement == "standby replicas":
        stage.workers.environment["CHURNWATCH_STANDBY_REPLICAS"] = "1"
    else:
        stage.has_names = True
    with traffic(stage) as flowing:
        for name in ("one", "two"):
            stage.start(name)
        stage.wait_all_served()
        for act in ("kill", "term", "kill", "kill", "term"):
            restart(stage, stage.rng.choice(sorted(stage.now)), act, flowing)
        stage.wait_all_served()
        flowing.flow(1)
    stage.finish()
    verified(stage)


def restart(stage: Crew, name: str, act: str, flowing: Traffic) -> None:
    """End a worker that serves partitions while records flow, and start it again."""
    end(stage, name, act, flowing)
    stage.start(name)
    if stage.rng.random() < 0.5:  # else the next act comes while this one is not yet over
        flowing.flow(stage.rng.uniform(0.0, 3.0))


def end(stage: Crew, name: str, act: str, flowing: Traffic) -> None:
    """End a worker in the midst of its work."""
    stage.wait_serving(name)
    assert flowing.flow(stage.rng.uniform(0.1, 1.5)) > 0
    worker = stage.wait_serving(name)
    if act == "term":
        worker.terminate()
        stage.note("SIGTERM", worker)
    else:
        worker.kill()
        stage.note("SIGKILL", worker)


def crash_at(stage: Crew, name: str, point: str, flowing: Traffic) -> None:
    """Replace a worker by one that kills itself at a point of its n-th checkpoint, and that one by a sound one."""
    end(stage, name, "term", flowing)
    armed = stage.start(name, CHURNWATCH_FAILPOINT=f"{point}:{stage.rng.randint(1, 12)}")
    armed.wait_exit(60)
    stage.note("failpoint", armed)
    assert flowing.flow(0.1) > 0
    stage.start(name)


def freeze(stage: Crew, name: str, flowing: Traffic) -> None:
    """Stop a serving worker in its tracks until the other one has all partitions, and let it go on as if nothing had been."""
    stage.wait_all_served()
    zombie = stage.wait_serving(name)
    (other,) = (worker for each, worker in stage.now.items() if each != name)
    zombie.freeze()
    assert wait_until(lambda: len(other.partitions()) == PARTITIONS, 60), other.tail()
    assert flowing.flow(3) > 0
    zombie.thaw()
    flowing.flow(3)
    stage.exits["frozen"] += 1
    stage.heal()


@pytest.mark.parametrize("point", ["after_fold", "in_transaction", "after_commit", "after_store"])
def test_a_crash_at_each_point_of_a_checkpoint_is_made_good_on_the_same_disk(stage: Crew, point: str) -> None:
    """The first checkpoint that a worker ever writes, and a later one: before the commit nothing counts, after it everything."""
    with traffic(stage) as flowing:
        for nth in (1, 7):
            armed = stage.start("one", CHURNWATCH_FAILPOINT=f"{point}:{nth}")
            armed.wait_exit(60)
            stage.note("failpoint", armed)
            assert flowing.flow(0.1) > 0
        stage.start("one")
        stage.wait_all_served()
        flowing.flow(2)
    stage.finish()
    found = verify(stage.workers.settings(alerts=AT_ONCE)).check()
    assert stage.exits == {"failpoint: -9": 2}
    assert found.read.total() > PER_SECOND
