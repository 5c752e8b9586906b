"""The local store of a partition: a copy of its changelog in RocksDB, put aside when it cannot be trusted.

A copy is never mended: what is damaged, or belongs to another changelog, is renamed, logged, and made anew from the changelog.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from faust.stores.rocksdb import Store
from faust.tables.table import Table
from faust.types import TP

from models.times import format_us
from stream_app.exits import ConfigError, ConfigProblem, Exit, RestartNeeded, ServiceExit
from stream_app.pipeline import CURSOR_KEY
from stream_app.unfinished import UNFINISHED_KEY

if TYPE_CHECKING:
    from stream_app.app import ChurnwatchApp

log = logging.getLogger(__name__)

CHANGELOG_KEY: Final = b"\x00changelog"
"""The key of the record that says of which changelog a store is the copy: the id of the topic."""

_UNWRITABLE: Final = ("Permission denied", "Read-only file system", "Not a directory", "Operation not permitted")
_SHORT_OF: Final = ("No space left on device", "Disk quota exceeded", "File too large", "Too many open files", "Input/output error")


class StoreDamagedError(Exception):
    """A local store that was opened cannot be read to its end."""


def store_problem(error: BaseException) -> str:
    """What RocksDB says in an error, on one line; empty when it is not RocksDB's, which has no type of its own for them."""
    text = " ".join(str(error).split())
    return text if type(error) is Exception and text.startswith(("IO error", "Corruption", "Invalid argument")) else ""


def _damage(error: Exception) -> str:
    """What RocksDB says of a damaged store; empty when the error tells of something else."""
    text = store_problem(error)
    return text if text.startswith("Corruption") or "No such file" in text else ""


class LocalStore(Store):
    """Faust's RocksDB store that puts aside what is damaged."""

    app: "ChurnwatchApp"

    def _open_for_partition(self, partition: int) -> Any:
        try:
            return super()._open_for_partition(partition)
        except Exception as error:
            if "/LOCK" in str(error):  # held by whoever had it just now: Faust tries again
                raise
            self._refuse_unusable(error)
            self.put_aside(partition, " ".join(str(error).split()))
        return super()._open_for_partition(partition)

    def persisted_offset(self, tp: TP) -> int | None:
        """The offset of the last changelog record in the store; None in an empty one, and in one that had to be put aside."""
        try:
            return super().persisted_offset(tp)
        except Exception as error:
            if not _damage(error):
                raise
            self.put_aside(tp.partition, _damage(error))
            return None

    def _refuse_unusable(self, error: Exception) -> None:
        """End the process when it is the disk, not the store, that is at fault: to put a sound store aside would not mend it."""
        text = " ".join(str(error).split())
        directory = self.app.settings.data_dir
        if any(each in text for each in _UNWRITABLE):
            wrong, mend = f"{directory} cannot be used: {text}", "name a directory that can be written"
            self.app.fail(ConfigError([ConfigProblem("data_dir", "CHURNWATCH_DATA_DIR", wrong, mend)]))
        if any(each in text for each in _SHORT_OF):
            self.app.fail(
                ServiceExit(Exit.OTHER, f"the local store in {directory} cannot be opened: {text}", "make room, then start it again")
            )

    def put_aside(self, partition: int, why: str) -> None:
        """Rename the store of a partition, with the time in its new name, so that it is opened empty; only the last one is kept."""
        database = self._dbs.pop(partition, None)
        if database is not None:
            with contextlib.suppress(Exception):  # it is damaged: that it cannot be closed in order is no news
                database.close()
        path = Path(self.partition_path(partition))
        aside = path.with_name(f"{path.name}.aside-{format_us(self.app.clock.now_us()).replace(':', '')}")
        for earlier in path.parent.glob(f"{path.name}.aside-*"):
            shutil.rmtree(earlier, ignore_errors=True)
        if path.exists():
            path.rename(aside)
        mend = f"nothing to do; see whether the disk is sound, and delete {aside} when nobody wants to look at it"
        log.error("The local store of partition %s is put aside and made anew from the changelog: %s", partition, why, extra={"mend": mend})

    # -- of which changelog it is the copy

    def changelog_id(self, partition: int) -> str | None:
        """The id of the changelog that the store of a partition is a copy of; None when nothing says so."""
        stored = self._db_for_partition(partition).get(CHANGELOG_KEY)
        return None if stored is None else bytes(stored).decode()

    def note_changelog(self, partition: int, topic_id: str) -> None:
        """Write down of which changelog the store of a partition is the copy."""
        self._db_for_partition(partition).put(CHANGELOG_KEY, topic_id.encode())

    # -- reading

    def items_of(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every record of an account in the store of a partition.

        Raises StoreDamagedError when it cannot be read to its end; what was given until then is not all of it.
        """
        private = (CURSOR_KEY, CHANGELOG_KEY, UNFINISHED_KEY, self.offset_key)
        # Not `items()`: that ends at the first damaged block as if there were no more.
        found = self._db_for_partition(partition).iter()
        found.seek_to_first()
        while found.valid():
            key = found.key()
            if key not in private:
                yield key, found.value()
            found.next()
        with damage_told():
            found.status()

    def cursor_of(self, partition: int) -> bytes | None:
        """The stored cursor of a partition; raises StoreDamagedError."""
        with damage_told():
            stored: bytes | None = self._db_for_partition(partition).get(CURSOR_KEY)
        return stored

    def mark_of(self, partition: int) -> bytes | None:
        """The mark that the state of a partition is not whole, if there is one; raises StoreDamagedError."""
        with damage_told():
            stored: bytes | None = self._db_for_partition(partition).get(UNFINISHED_KEY)
        return stored


@contextlib.contextmanager
def damage_told() -> Iterator[None]:
    """Raise what RocksDB says of a damaged store as StoreDamagedError."""
    try:
        yield
    except Exception as error:
        if not _damage(error):
            raise
        raise StoreDamagedError(_damage(error)) from error


@contextlib.contextmanager
def written_or_put_aside(store: LocalStore, partition: int) -> Iterator[None]:
    """Put a store aside that RocksDB finds damaged only when it is written to, in a compaction; raises RestartNeeded.

    What was to be written is in the changelog, or comes from there.
    """
    try:
        with damage_told():
            yield
    except StoreDamagedError as error:
        store.put_aside(partition, str(error))
        raise RestartNeeded(
            f"the local store of partition {partition} was found damaged while it was written to: it is put aside"
        ) from error


class AccountTable(Table):
    """Faust's table on our store."""

    def _new_store_by_url(self, url: Any) -> LocalStore:
        return LocalStore(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            loop=self.loop,
            options=self.options,
        )
