"""What tests with the real broker share: an installation with its topics, and its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream_app.admin import apply_topics
from tests.support.worker import Workers, workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_app.topics import Installation


@pytest.fixture
def crew(kafka_bootstrap: str, installation: Installation, tmp_path: Path) -> Iterator[Workers]:
    """Return an installation's workers, its topics made; what still runs at the end of the test is killed."""
    apply_topics(kafka_bootstrap, installation)
    with workers(kafka_bootstrap, installation.prefix, tmp_path) as mine:
        yield mine
