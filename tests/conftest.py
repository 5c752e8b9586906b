"""What every test may ask for: the real broker, and names of its own on it."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

from stream_app.topics import Installation
from tests.support import broker

if TYPE_CHECKING:
    from collections.abc import Iterator

_IS_OWNER = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Open the run in the pytest that was called; its xdist workers inherit it."""
    config.stash[_IS_OWNER] = broker.open_run()


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
