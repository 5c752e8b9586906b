"""A partition that a flood of unusable records has stopped stands still, whatever comes in after it, until the worker is started again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from stream_app.app import ChurnwatchApp, create_app
from stream_app.clock import WallClock
from stream_app.exits import Gap
from stream_app.health import HealthState, livez, readyz
from stream_app.health import Limits as HealthLimits
from stream_app.metrics import Metrics
from stream_app.pipeline import Partition
from stream_app.settings import Settings
from stream_app.transport import PartitionBatch
from tests.support.memory_worker import LogRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PLACE: Final = TP("usage-events", 0)
FLOOD: Final = 1_000
"""As many as the breaker takes in a row by default."""


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ChurnwatchApp]:
    """Return the app of a worker that owns partition 0, in which nothing is folded yet."""
    settings = Settings(app_id="stopped", data_dir=tmp_path)
    made = create_app(settings, WallClock(), Metrics(CollectorRegistry()), HealthState(0.0), partitions=1)
    made.own(Partition(0, made.definition))
    made.consumer.durable[PLACE] = made.consumer.folded[PLACE] = 0
    made.consumer.ends[PLACE] = 3 * FLOOD
    yield made
    made.consumer.batch_thread.thread_loop.close()


def receive(app: ChurnwatchApp, start: int, count: int) -> None:
    """Hand over a batch of records that cannot be used."""
    records = [LogRecord(b"acme", b"no JSON", start + number) for number in range(count)]
    app.receive(PartitionBatch(PLACE, app.consumer_generation_id, app.consumer.epoch_wanted, start, start + count, records))  # type: ignore[arg-type]


async def test_what_comes_in_after_a_flood_is_no_gap(app: ChurnwatchApp) -> None:
    """What opened the breaker is not folded, so nothing fits behind it: it is left in the log, and no more is fetched; alive, not ready."""
    receive(app, 0, FLOOD)
    assert not app._fold_next(app.partitions[0])
    assert app.stopped
    receive(app, FLOOD, 500)
    receive(app, FLOOD + 500, 500)
    assert not app._fold_next(app.partitions[0])
    assert not app.has_room(PLACE)
    assert app.consumer.folded[PLACE] == 0
    health = app.health_state.read()
    assert livez(health, 0.0, HealthLimits()).ok
    assert "breaker" in readyz(health, 0.0, HealthLimits()).reasons[-1]


async def test_with_no_flood_the_same_is_a_gap(app: ChurnwatchApp) -> None:
    """Records that are missing before a batch are never passed over."""
    with pytest.raises(Gap):
        receive(app, FLOOD, 500)
