"""Faults of the local store and of the changelog: a copy is made anew, the truth is never taken to be empty because it is gone."""

from __future__ import annotations

import json
import os
import resource
from typing import TYPE_CHECKING, Final

import pytest
import rocksdict

from deploy.verify.run import verify
from stream_app.admin import apply_topics
from stream_app.exits import Exit
from stream_app.topics import Installation, topic_name
from tests.support.histories import (
    changelog,
    cut,
    delete_group,
    delete_topic,
    last_word,
    lived,
    parts,
    refused,
    replace_topic,
    send,
    set_topic,
    wait_folded,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.worker import Workers

pytestmark = pytest.mark.integration

ROOM_BYTES: Final = 64 << 10
"""More than a worker logs in a short life, less than its local store writes."""


def store_of(crew: Workers, partition: int, name: str = "worker") -> Path:
    """Return the directory of a partition's local store."""
    (found,) = crew.data_dir(name).rglob(f"accounts-{partition}.db")
    return found


def flip_bytes(store: Path) -> None:
    """Overwrite some bytes in the midst of the rows of a store."""
    rocksdict.Rdict(str(store), options=rocksdict.Options(raw_mode=True)).close()
    largest = max(store.glob("*.sst"), key=lambda file: file.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 3)
        file.write(os.urandom(64))


class TestLocalStore:
    """The local store is a copy of the changelog: when it is damaged or gone it is made anew, and nothing is lost."""

    def test_damaged_stores_are_put_aside_and_made_anew(self, crew: Workers) -> None:
        """Flipped bytes in a table file, MANIFEST deleted, CURRENT deleted, a table file cut: each in another partition, all at once."""
        first, second, third = parts(21)
        lived(crew, first)
        lived(crew, second)
        flip_bytes(store_of(crew, 0))
        for manifest in store_of(crew, 1).glob("MANIFEST*"):
            manifest.unlink()
        (store_of(crew, 2) / "CURRENT").unlink()
        table = max(store_of(crew, 3).glob("*.sst"), key=lambda file: file.stat().st_size)
        os.truncate(table, table.stat().st_size // 2)
        worker = lived(crew, third)
        assert len(list(crew.data_dir("worker").rglob("*.aside-*Z"))) == 4
        told = [line for line in map(json.loads, worker.lines()) if "is put aside" in line["message"]]
        assert len(told) == 4
        assert all("look at it" in line["mend"] for line in told)
        assert any("Recovering: " in line for line in worker.lines())
        verify(crew.settings()).check()

    def test_a_copy_of_another_changelog_is_put_aside(self, crew: Workers) -> None:
        """After the state was made anew elsewhere, an old disk has offsets and rows of a log that is gone."""
        first, second, third = parts(22)
        lived(crew, first, "old")
        delete_group(crew)
        replace_topic(crew, changelog(crew))
        for topic in ("health-scores", "churn-alerts", "alert-state", "dead-letters"):
            replace_topic(crew, topic_name(crew.prefix, topic))
        lived(crew, second, "new")
        worker = lived(crew, third, "old")
        assert sum("is put aside" in line for line in worker.lines()) == 4
        verify(crew.settings()).check()

    def test_a_data_directory_that_cannot_be_written(self, crew: Workers, tmp_path: Path) -> None:
        """Exit 2, naming the setting: below a file there can be no directory."""
        (tmp_path / "file").touch()
        assert "CHURNWATCH_DATA_DIR" in refused(crew, Exit.CONFIGURATION, CHURNWATCH_DATA_DIR=str(tmp_path / "file" / "data"))

    def test_a_disk_that_takes_no_more(self, crew: Workers) -> None:
        """Exit 1 with what RocksDB says; what was committed before is read back from the changelog when there is room again."""
        first, second, third = parts(27)
        worker = crew.start().wait_ready()
        send(crew, first)
        wait_folded(crew)
        # No file of this process may grow further than this: what a full disk is to RocksDB.
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (ROOM_BYTES, ROOM_BYTES))
        send(crew, second)
        send(crew, third)
        assert worker.wait_exit(60) == Exit.OTHER, worker.tail()
        assert "the local store cannot be used: IO error" in last_word(worker)["message"]
        worker = crew.start().wait_ready()
        wait_folded(crew)
        assert worker.terminate() == Exit.CLEAN
        verify(crew.settings()).check()


class TestChangelog:
    """The changelog is the truth: what is gone from it is never taken for a state in which nothing has happened."""

    def test_a_changelog_that_lost_records(self, crew: Workers) -> None:
        """Exit 4 when one partition was emptied, with the local store, without it, and when the group's offsets are gone, too."""
        lived(crew, next(parts(24)))
        set_topic(crew, changelog(crew), cleanup__policy="delete")
        begins = cut(crew, changelog(crew), 1)
        set_topic(crew, changelog(crew), cleanup__policy="compact")
        for name in ("worker", "another"):
            told = refused(crew, Exit.REBUILD, name)
            assert f"partition 1 begins at offset {begins}" in told
            assert "churnwatch rebuild" in told
        delete_group(crew)
        refused(crew, Exit.REBUILD, "yet-another")

    def test_a_changelog_that_is_gone(self, crew: Workers) -> None:
        """Exit 4 instead of the advice to make an empty one; and when somebody made one and deleted the group, the disk still knows."""
        lived(crew, next(parts(25)))
        delete_topic(crew, changelog(crew))
        told = refused(crew, Exit.REBUILD)
        assert "is missing" in told
        assert "churnwatch rebuild" in told
        delete_group(crew)
        apply_topics(crew.bootstrap, Installation(prefix=crew.prefix, app_id=crew.prefix))
        told = refused(crew, Exit.REBUILD)
        assert "made anew" in told
        assert "churnwatch rebuild" in told

    def test_a_changelog_that_refuses_what_is_written(self, crew: Workers) -> None:
        """Exit 3 while it runs and at the next start; nothing is committed past it, and all is exact when it takes records again."""
        first, second, _ = parts(26)
        lived(crew, first)
        worker = crew.start().wait_ready()
        set_topic(crew, changelog(crew), max__message__bytes="100")
        send(crew, second)
        assert worker.wait_exit(60) == Exit.BROKER, worker.tail()
        assert "max.message.bytes" in last_word(worker)["message"]
        assert "max.message.bytes" in refused(crew, Exit.BROKER)
        apply_topics(crew.bootstrap, Installation(prefix=crew.prefix, app_id=crew.prefix))
        worker = crew.start().wait_ready()
        wait_folded(crew)
        assert worker.terminate() == Exit.CLEAN
        verify(crew.settings()).check()
