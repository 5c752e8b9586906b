"""A broker that is not there yet, and one that goes away for longer than every timeout: the worker waits, says so, and goes on exactly."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from deploy import kafka
from deploy.verify.run import verify
from stream_app.admin import apply_topics
from stream_app.app import STOP_SECONDS
from stream_app.exits import Exit
from stream_app.topics import Installation
from stream_app.waiting import wait_until
from tests.support.broker import private_broker
from tests.support.histories import parts, send, wait_folded
from tests.support.worker import workers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.worker import Worker, Workers

pytestmark = pytest.mark.integration

DOWN_SECONDS: Final = 70.0
GROWTH_BYTES_MAX: Final = 64 << 20


@pytest.mark.seconds(120)
@pytest.mark.timeout(420)
def test_a_broker_that_comes_late_and_goes_away_for_70_s(tmp_path: Path, topic_prefix: str) -> None:
    """Alive and not ready while it is away, idle or in the midst of a transaction; one restart at most; all exact when it is back."""
    with private_broker(tmp_path / "kafka") as broker, workers(broker.bootstrap, topic_prefix, tmp_path) as crew:
        apply_topics(broker.bootstrap, Installation(prefix=topic_prefix, app_id=topic_prefix))
        first, second, third = parts(41)
        broker.kill()
        idle, busy = (crew.start(name) for name in ("idle", "busy"))
        for worker in (idle, busy):
            assert wait_until(lambda worker=worker: is_waiting(worker), 30), worker.tail()  # type: ignore[misc]
        back = start_again(broker)
        for worker in (idle, busy):
            worker.wait_ready()
        send(crew, first)
        wait_folded(crew)
        sizes = {worker.pid: psutil.Process(worker.pid).memory_info().rss for worker in (idle, busy)}
        send(crew, second)  # there are transactions under way when the broker dies
        back.kill()
        began = time.monotonic()
        now, restarts = [idle, busy], 0
        while time.monotonic() - began < DOWN_SECONDS:
            restarts += heal(crew, now)
            assert all(worker.get("/livez")[0] in (0, 200) for worker in now), now[0].tail()
            if time.monotonic() - began > 15:
                assert all(worker.get("/readyz")[0] in (0, 503) for worker in now)
            wait_until(lambda: any(worker.exit_code is not None for worker in now), 1.0)
        for worker in now:
            assert wait_until(lambda worker=worker: worker.get("/livez")[0] == 200, 10), worker.tail()  # type: ignore[misc]
            assert psutil.Process(worker.pid).memory_info().rss < max(sizes.values()) + GROWTH_BYTES_MAX
        assert restarts <= len(now)
        start_again(back)
        assert wait_until(lambda: heal(crew, now) >= 0 and all(worker.get("/readyz")[0] == 200 for worker in now), 90), now[0].tail()
        send(crew, third)
        wait_folded(crew)
        print(f"{restarts} restarts in {DOWN_SECONDS} s without a broker")  # noqa: T201 - pytest shows it
        assert [worker.terminate() for worker in now] == [Exit.CLEAN, Exit.CLEAN]
        verify(crew.settings()).check()


@pytest.mark.timeout(180)
def test_a_worker_that_is_stopped_while_the_broker_is_away_ends_in_time(tmp_path: Path, topic_prefix: str) -> None:
    """With 0, and where a transaction was open one line that says so; whoever comes next folds again what was not committed."""
    with private_broker(tmp_path / "kafka") as broker, workers(broker.bootstrap, topic_prefix, tmp_path) as crew:
        apply_topics(broker.bootstrap, Installation(prefix=topic_prefix, app_id=topic_prefix))
        first, second, _ = parts(43)
        send(crew, first)
        worker = crew.start("stopped").wait_ready()
        send(crew, second)  # there are transactions under way when the broker dies
        broker.kill()
        began = time.monotonic()
        assert worker.terminate(60) == Exit.CLEAN
        took = time.monotonic() - began
        assert took < STOP_SECONDS + 5
        assert took < STOP_SECONDS or any("Not everything could be written" in line for line in worker.lines())
        start_again(broker)
        crew.start("next").wait_ready()
        wait_folded(crew)
        verify(crew.settings()).check()


def is_waiting(worker: Worker) -> bool:
    """Say whether a worker is alive and not ready."""
    return (worker.get("/livez")[0], worker.get("/readyz")[0]) == (200, 503)


def start_again(broker: kafka.Broker) -> kafka.Broker:
    """Start a killed broker where it was."""
    return kafka.start(kafka.LauncherSettings.from_environment(os.environ, broker.data_dir), broker.port)


def heal(crew: Workers, now: list[Worker]) -> int:
    """Start what has ended again, as an orchestrator would; how many those were. They may only end in ways that ask for it."""
    ended = [place for place, worker in enumerate(now) if worker.exit_code is not None]
    for place in ended:
        assert now[place].exit_code in (Exit.RESTART, Exit.BROKER), now[place].tail()
        now[place] = crew.start(now[place].name)
    return len(ended)
