"""What every test may ask for: the real broker, and names of its own on it."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from stream_app.topics import Installation
from tests.support import broker

if TYPE_CHECKING:
    from collections.abc import Iterator

_IS_OWNER = pytest.StashKey[bool]()

_INTEGRATION_SECONDS: Final = 10.0
"""What a test with the real broker takes that does not say so itself."""


def pytest_configure(config: pytest.Config) -> None:
    """Open the run in the pytest that was called; its xdist workers inherit it."""
    config.stash[_IS_OWNER] = broker.open_run()
    _keep_compiled()


def _keep_compiled() -> None:
    """Let the hundreds of processes of a run share compiled modules, where the environment says that none are to be written.

    Without them a worker takes 1.7 CPU seconds longer to start. They are in the run's folder, which goes with it.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None) is not None:
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(Path(os.environ[broker.RUN_DIR_KEY]) / "compiled")
        sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest, so that none of them is left to one process when the others have nothing more to do."""
    items.sort(key=_seconds, reverse=True)


def _seconds(item: pytest.Item) -> float:
    """About how long a test takes: what its mark says, else what its kind does."""
    mark = item.get_closest_marker("seconds")
    if mark is not None:
        return float(mark.args[0])
    return _INTEGRATION_SECONDS if item.get_closest_marker("integration") else 0.0


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the broker away once every worker is done."""
    if config.stash.get(_IS_OWNER, False):
        broker.close_run()


@pytest.fixture(scope="session")
def kafka_bootstrap() -> str:
    """Return the address of a real broker: `KAFKA_BOOTSTRAP`, or one started for this run and shared by its workers."""
    return broker.shared_bootstrap()


@pytest.fixture
def topic_prefix() -> Iterator[str]:
    """Return a prefix for topics, groups and application ids that no other test has."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    yield prefix
    if own := os.environ.get("KAFKA_BOOTSTRAP"):
        broker.delete_topics(own, prefix)


@pytest.fixture
def installation(topic_prefix: str) -> Installation:
    """Return an installation of this test's own: its topics' prefix is also its application id."""
    return Installation(prefix=topic_prefix, app_id=topic_prefix)
