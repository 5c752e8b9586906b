"""Faults of the topics, of the group and of a worker: refused with what mends it, or made good to the last record."""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING

import pytest

from deploy.verify.run import verify
from stream_app.exits import Exit
from stream_app.topics import Installation, topic_name
from stream_app.waiting import wait_until
from tests.support.histories import (
    admin,
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
    from tests.support.worker import Worker, Workers

pytestmark = pytest.mark.integration

TAKEOVER_SECONDS = 20.0
"""Within this the partitions of a killed worker are served by another that has warm copies of them."""


class TestInputs:
    """The cursor is a place in a certain log: in another one it means nothing, and to go on from there would be to guess."""

    def test_an_input_that_was_cut_or_made_anew_below_the_cursor(self, crew: Workers) -> None:
        """Exit 4 for records that are gone before they were read, and for a topic made anew, also when it has more records than before."""
        first, second, third = parts(31)
        lived(crew, first)
        send(crew, second)
        payments, usage = topic_name(crew.prefix, "payment-events"), topic_name(crew.prefix, "usage-events")
        begins = cut(crew, payments, 2)
        told = refused(crew, Exit.REBUILD)
        assert f"{payments} partition 2" in told
        assert f"its log holds {begins} to {begins}" in told
        replace_topic(crew, usage)
        send(crew, [record for record in [*first, *second, *third] if record["type"].startswith("usage.")])
        told = refused(crew, Exit.REBUILD)
        assert f"{usage} has the id" in told
        assert "churnwatch rebuild" in told

    def test_an_input_that_is_cut_while_a_worker_does_not_look(self, crew: Workers) -> None:
        """It never goes on elsewhere by itself: exit 5, and then 4."""
        first, second, _ = parts(32)
        worker = crew.start().wait_ready()
        send(crew, first)
        wait_folded(crew)
        worker.freeze()
        send(crew, second)
        for partition in range(4):
            cut(crew, topic_name(crew.prefix, "usage-events"), partition)
        worker.thaw()
        assert worker.wait_exit(60) == Exit.RESTART, worker.tail()
        assert "usage-events" in last_word(worker)["message"]
        assert "usage-events" in refused(crew, Exit.REBUILD)

    def test_an_input_that_gets_more_partitions_while_a_worker_runs(self, crew: Workers) -> None:
        """Exit 3, soon: keys go elsewhere from now on, and records of the new partitions would stay unread."""
        worker = crew.start().wait_ready()
        widen(crew, topic_name(crew.prefix, "usage-events"))
        assert worker.wait_exit(60) == Exit.BROKER, worker.tail()
        assert "it has 8 partitions, and this worker was started with 4" in last_word(worker)["message"]

    def test_an_input_that_is_made_anew_while_a_worker_runs(self, crew: Workers) -> None:
        """It ends, and does not go on in the new one as if it were the old one; the next start says why."""
        first, second, third = parts(38)
        worker = crew.start().wait_ready()
        send(crew, first)
        wait_folded(crew)
        replace_topic(crew, topic_name(crew.prefix, "usage-events"))
        send(crew, [record for record in [*first, *second, *third] if record["type"].startswith("usage.")])
        assert worker.wait_exit(60) in (Exit.BROKER, Exit.REBUILD, Exit.RESTART), worker.tail()
        assert "it was deleted and made anew" in refused(crew, Exit.REBUILD)

    def test_inputs_that_are_not_what_they_must_be(self, crew: Workers) -> None:
        """Exit 3 for one that is compacted, missing, or has more partitions than the others; exit 4 when all have more than the state."""
        lived(crew, next(parts(33)))
        usage, tickets = topic_name(crew.prefix, "usage-events"), topic_name(crew.prefix, "ticket-events")
        set_topic(crew, usage, cleanup__policy="compact")
        told = refused(crew, Exit.BROKER)
        assert f"{usage}: cleanup: found cleanup.policy=compact" in told
        assert "churnwatch topics apply" in told
        set_topic(crew, usage, cleanup__policy="delete")
        widen(crew, usage)
        assert f"{usage}: partitions: found 8" in refused(crew, Exit.BROKER)
        keyed = [name for name, spec in Installation(prefix=crew.prefix, app_id=crew.prefix).topics().items() if spec.partitioned]
        widen(crew, *(name for name in keyed if name != usage))
        told = refused(crew, Exit.REBUILD)
        assert "had 4 partitions, and it has 8 now" in told
        delete_topic(crew, tickets)
        assert f"{tickets}: missing" in refused(crew, Exit.BROKER)

    def test_deleted_group_offsets_change_nothing(self, crew: Workers) -> None:
        """The cursor says how far the state is; the group's offsets are its mirror, and come back."""
        first, second, third = parts(34)
        lived(crew, first)
        delete_group(crew)
        lived(crew, second)
        delete_group(crew)
        shown = lived(crew, third, "another")
        assert not any("put aside" in line for line in shown.lines())
        verify(crew.settings()).check()


def widen(crew: Workers, *topics: str) -> None:
    """Give topics eight partitions."""
    with admin(crew) as client:
        client.create_partitions(dict.fromkeys(topics, 8))
        assert wait_until(lambda: all(len(each["partitions"]) == 8 for each in client.describe_topics(list(topics))), 30)


class TestCrashPoints:
    """A crash outside of a checkpoint, too, leaves nothing behind that the next start does not make good."""

    def test_a_crash_at_each_point_of_starting_and_stopping(self, crew: Workers) -> None:
        """In the first rebalance, after fencing, in the first and a later batch of a recovery, with records coming; then in a shutdown."""
        history = parts(35, 7)
        lived(crew, next(history))
        for point in ("in_rebalance:1", "after_fencing:1", "in_recovery:1", "in_recovery:3"):
            # On a disk of its own, so that there is something to recover.
            armed = crew.start(point.replace(":", "-"), CHURNWATCH_FAILPOINT=point)
            send(crew, next(history))
            assert armed.wait_exit(60) == -signal.SIGKILL, armed.tail()
        armed = crew.start("worker", CHURNWATCH_FAILPOINT="in_shutdown:1").wait_ready()
        send(crew, next(history))
        assert armed.terminate() == -signal.SIGKILL
        lived(crew, next(history), "in_recovery-3")
        verify(crew.settings()).check()

    def test_a_crash_while_partitions_are_given_to_another(self, crew: Workers) -> None:
        """The worker that gives some up dies after it has written and before it knows what it keeps."""
        first, second, third = parts(36)
        armed = crew.start("one", CHURNWATCH_FAILPOINT="in_rebalance:2").wait_ready()
        send(crew, first)
        other = crew.start("two")
        send(crew, second)
        assert armed.wait_exit(60) == -signal.SIGKILL, armed.tail()
        back = crew.start("one")
        send(crew, third)
        assert wait_until(lambda: is_shared(other, back), 60), other.tail()
        wait_folded(crew)
        assert crew.stop_all() == [Exit.CLEAN, Exit.CLEAN]
        verify(crew.settings()).check()


def is_shared(*crew: Worker) -> bool:
    """Say whether workers serve all four partitions, and each of them some."""
    shares = [worker.partitions() for worker in crew]
    return all(shares) and sorted(itertools.chain(*shares)) == [0, 1, 2, 3]


class TestTakingOver:
    """A worker with warm copies takes the partitions of a killed one over, quickly."""

    def test_with_a_standby_all_is_served_again_within_20_s(self, crew: Workers) -> None:
        """The other one says so itself, with recovered state, and goes on exactly where the killed one was."""
        crew.environment["CHURNWATCH_STANDBY_REPLICAS"] = "1"
        first, second, third = parts(37)
        pair = [crew.start(name).wait_ready() for name in ("one", "two")]
        assert wait_until(lambda: is_shared(*pair), 60), pair[0].tail()
        send(crew, first)
        wait_folded(crew)
        pair[0].kill()
        send(crew, second)
        assert wait_until(lambda: pair[1].partitions() == [0, 1, 2, 3], TAKEOVER_SECONDS), pair[1].tail()
        send(crew, third)
        wait_folded(crew)
        assert pair[1].terminate() == Exit.CLEAN
        verify(crew.settings()).check()
