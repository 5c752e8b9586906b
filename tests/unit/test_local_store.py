"""A local store on a real disk: damage is found wherever it is, and what is damaged is put aside and begun anew."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest
import rocksdict
from faust.types import TP
from prometheus_client import CollectorRegistry

from stream_app.app import create_app
from stream_app.clock import WallClock
from stream_app.exits import RestartNeeded
from stream_app.health import HealthState
from stream_app.local_store import LocalStore, StoreDamagedError, written_or_put_aside
from stream_app.metrics import Metrics
from stream_app.pipeline import CURSOR_KEY
from stream_app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROWS: Final = 5_000
CHANGELOG: Final = TP("store-accounts-changelog", 0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    """Return the store of an app as a worker makes it, with rows, a cursor, an offset and the name of its changelog."""
    settings = Settings(app_id="store", data_dir=tmp_path)
    app = create_app(settings, WallClock(), Metrics(CollectorRegistry()), HealthState(0.0), partitions=1)
    made = app.table.data
    batch = rocksdict.WriteBatch(raw_mode=True)
    for number in range(ROWS):
        batch.put(b"r%05d" % number, os.urandom(200))
    batch.put(CURSOR_KEY, b"cursor")
    batch.put(made.offset_key, b"4711")
    made._db_for_partition(0).write(batch)
    made.note_changelog(0, "id-of-the-changelog")
    made._db_for_partition(0).flush()
    yield made
    app.consumer.batch_thread.thread_loop.close()


def damage(store: LocalStore, share: float) -> None:
    """Close a store, and overwrite some bytes at a share of its largest file."""
    store._dbs.pop(0).close()
    largest = max(store.partition_path(0).glob("*.sst"), key=lambda file: file.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(int(largest.stat().st_size * share))
        file.write(os.urandom(64))


def test_a_sound_store_gives_rows_cursor_offset_and_changelog(store: LocalStore) -> None:
    """What is the store's own is not among the rows."""
    store._dbs.pop(0).close()
    assert len(list(store.items_of(0))) == ROWS
    assert store.cursor_of(0) == b"cursor"
    assert store.persisted_offset(CHANGELOG) == 4711
    assert store.changelog_id(0) == "id-of-the-changelog"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_damaged_rows_are_never_taken_for_the_end_of_the_store(store: LocalStore, share: float) -> None:
    """Reading ends with an error, and not with fewer rows; put aside, the store is empty, and the damaged one is still there."""
    damage(store, share)
    with pytest.raises(StoreDamagedError, match="checksum"):
        list(store.items_of(0))
    store.put_aside(0, "a test")
    assert list(store.items_of(0)) == []
    assert store.persisted_offset(CHANGELOG) is None
    assert len(list(store.partition_path(0).parent.glob("*.aside-*Z"))) == 1


def test_a_store_that_cannot_be_opened_is_put_aside_at_once(store: LocalStore) -> None:
    """Its index is damaged: the error speaks of a block, which is no lock to wait for; only the last one put aside is kept."""
    store.put_aside(0, "a test")
    store._db_for_partition(0).put(b"r", b"row")
    store._db_for_partition(0).flush()
    damage(store, 0.85)
    assert store.persisted_offset(CHANGELOG) is None
    assert list(store.items_of(0)) == []
    assert len(list(store.partition_path(0).parent.glob("*.aside-*Z"))) == 1


def test_damage_that_only_a_compaction_finds_puts_the_store_aside_and_asks_for_a_restart(store: LocalStore) -> None:
    """Writes go well until RocksDB merges the damaged file: then none does, and the next process begins with an empty store."""
    damage(store, 0.5)

    def fill() -> None:
        with written_or_put_aside(store, 0):
            for _ in range(100):
                batch = rocksdict.WriteBatch(raw_mode=True)
                for number in range(0, ROWS, 3):
                    batch.put(b"r%05d" % number, os.urandom(200))
                store._db_for_partition(0).write(batch)
                store._db_for_partition(0).flush()

    with pytest.raises(RestartNeeded, match="partition 0 was found damaged"):
        fill()
    assert len(list(store.partition_path(0).parent.glob("*.aside-*Z"))) == 1
    assert list(store.items_of(0)) == []
