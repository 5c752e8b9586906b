"""What a worker refuses to go on from, what the errors of its local store mean, and with which code each ends it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiokafka.errors import InvalidTimestampError, MessageSizeTooLargeError, OffsetOutOfRangeError, ProducerFenced

from models.row import NEVER
from stream_app.app import exit_of
from stream_app.exits import Exit, StateMustBeRebuilt
from stream_app.local_store import StoreDamagedError, damage_told
from stream_app.pipeline import Partition, Position, read_cursor
from stream_app.recovery import hold_logs
from stream_app.topics import Log
from stream_app.transport import CursorOutsideLogError
from tests.support.memory_worker import LogRecord, definition

LOG = Log("id-of-the-topic", 4)


def restored(*position: Any) -> Partition:
    """Return a partition that comes back with a stored position of one topic."""
    partition = Partition(3, definition())
    partition.restore(iter(()), msgspec.msgpack.encode({"version": 1, "topics": {"usage-events": position}}))
    return partition


class TestLogs:
    """A position is a place in a certain log."""

    def test_the_same_log_is_gone_on_with(self) -> None:
        """The same id and number of partitions."""
        partition = restored(7, NEVER, 1, 0, 0, 0, *LOG)
        hold_logs(partition, {"usage-events": LOG})
        assert partition.positions == {"usage-events": Position(7, NEVER, 1, topic_id=LOG.topic_id, partitions=4)}

    @pytest.mark.parametrize(("now", "why"), [(Log("another-id", 4), "made anew"), (Log(LOG.topic_id, 8), "it has 8 now")])
    def test_another_log_is_refused(self, now: Log, why: str) -> None:
        """A topic that was made anew, or given more partitions: exit 4, saying which, and how to rebuild."""
        with pytest.raises(StateMustBeRebuilt, match=why) as refused:
            hold_logs(restored(7, NEVER, 1, 0, 0, 0, *LOG), {"usage-events": now})
        assert "partition 3" in str(refused.value)
        assert "churnwatch rebuild" in refused.value.mend

    def test_a_cursor_from_before_logs_were_kept_takes_the_log_of_now(self) -> None:
        """And so does a topic of which nothing was folded before: it is in the next cursor."""
        partition = restored(7, NEVER, 1, 0, 0, 0)
        hold_logs(partition, {"usage-events": LOG, "ticket-events": LOG})
        partition.step("ticket-events", [LogRecord(b"acme", b"no JSON", 5)], 6, set(), 0)
        assert partition.positions == {
            "usage-events": Position(7, NEVER, 1, topic_id=LOG.topic_id, partitions=4),
            "ticket-events": Position(6, dead_letter=1, topic_id=LOG.topic_id, partitions=4),
        }

    def test_a_cursor_with_members_of_a_later_release_is_read(self) -> None:
        """Members are only ever added at the end."""
        stored = msgspec.msgpack.encode({"version": 1, "topics": {"usage-events": [7, NEVER, 1, 0, 0, 0, *LOG, -1, "more"]}})
        assert read_cursor(stored)["usage-events"].offset == 7


class TestErrors:
    """Every error that ends a worker says what an orchestrator is to do."""

    @pytest.mark.parametrize(
        ("error", "code", "told"),
        [
            (Exception("IO error: No space left on device: While appending to file: x.log"), Exit.OTHER, "No space left"),
            (Exception("Corruption: block checksum mismatch"), Exit.OTHER, "local store"),
            (MessageSizeTooLargeError(), Exit.BROKER, "max.message.bytes"),
            (OffsetOutOfRangeError({("usage-events", 1): 7}), Exit.RESTART, "usage-events"),
            (InvalidTimestampError(), Exit.RESTART, "too far from its own"),
            (ProducerFenced(), Exit.RESTART, "fenced"),
            (CursorOutsideLogError("beyond"), Exit.REBUILD, "beyond"),
            (ZeroDivisionError("x"), Exit.OTHER, "ZeroDivisionError"),
        ],
    )
    def test_an_error_has_its_exit_code(self, error: BaseException, code: Exit, told: str) -> None:
        """And its sentence; the mend of what needs a rebuild names the command."""
        known = exit_of(error)
        assert known.exit_code == code
        assert told in known.message
        assert ("churnwatch rebuild" in known.mend) == (code is Exit.REBUILD)

    def test_damage_is_told_from_everything_else(self) -> None:
        """RocksDB raises plain exceptions; only those that tell of damage make a store be put aside."""
        with pytest.raises(StoreDamagedError, match="checksum"), damage_told():
            raise Exception("Corruption: block checksum mismatch\n in 000009.sst")  # noqa: TRY002 - as rocksdict does
        with pytest.raises(Exception, match="No space") as other, damage_told():
            raise Exception("IO error: No space left on device")  # noqa: TRY002 - as rocksdict does
        assert type(other.value) is Exception
