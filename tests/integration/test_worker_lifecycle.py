"""How a worker starts, ends and comes back: exit codes, messages that say what to do, and local stores that are gone or stale."""

from __future__ import annotations

import json
import shutil
import signal
import time
from random import Random
from typing import TYPE_CHECKING

import pytest
from kafka.admin import KafkaAdminClient

from deploy.verify.run import verify
from models.input_topics import INPUT_TOPICS
from stream_app.admin import apply_topics
from stream_app.exits import Exit
from stream_app.topics import Installation, topic_name
from stream_app.waiting import wait_until
from tests.support.generate import Record, Scene, records, to_kafka
from tests.support.kafka_io import Sender, wait_caught_up
from tests.support.worker import Worker, workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.support.worker import Workers

pytestmark = pytest.mark.integration

ACCOUNTS = tuple(f"acct-{number:02}" for number in range(40))
ORDERLY = Scene(accounts=ACCOUNTS, days=60, hot=0.05)


def send(crew: Workers, history: Iterable[Record]) -> None:
    """Send records in their order, and wait until the broker has them."""
    sender = Sender(crew.bootstrap)
    for record in history:
        sender.send(*to_kafka(record, crew.prefix))
    sender.flush()


def wait_folded(crew: Workers) -> None:
    """Wait until everything that was sent is folded and committed."""
    wait_caught_up(crew.bootstrap, crew.prefix, [topic_name(crew.prefix, topic) for topic in INPUT_TOPICS], 60)


def parts(seed: int, count: int = 3) -> Iterator[list[Record]]:
    """Write a history in parts, every account in each of them."""
    history = records(Random(seed), 1_000 * count, ORDERLY)
    size = -(-len(history) // count)
    for first in range(0, len(history), size):
        part = history[first : first + size]
        assert {record["subject"] for record in part} == set(ACCOUNTS)
        yield part


def last_word(worker: Worker) -> dict[str, str]:
    """Return the last log line of a worker that has ended, which says why."""
    found: dict[str, str] = json.loads(worker.lines()[-1])
    return found


class TestEnding:
    """SIGTERM and SIGINT end a worker cleanly, whatever it is doing."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
    def test_a_signal_under_load_writes_everything_and_ends_with_0(self, crew: Workers, number: signal.Signals) -> None:
        """Within 30 s, with no traceback, every line of the log one JSON object; the group is left, and what was read is exact."""
        history = records(Random(1), 8_000, ORDERLY)
        worker = crew.start().wait_ready()
        send(crew, history)
        worker.process.send_signal(number)
        assert worker.wait_exit(30) == Exit.CLEAN
        lines = [json.loads(line) for line in worker.lines()]
        assert not [line for line in lines if "exception" in line]
        # While a coordinator is looked for aiokafka writes errors that are none.
        assert not [line for line in lines if line["level"] in ("error", "critical") and not line["logger"].startswith("aiokafka")]
        with KafkaAdminClient(bootstrap_servers=crew.bootstrap) as admin:
            (group,) = admin.describe_groups([crew.prefix]).values()
            assert not group["members"]
        again = crew.start().wait_ready()
        wait_folded(crew)
        assert again.terminate() == Exit.CLEAN
        verify(crew.settings()).check()

    def test_a_signal_while_it_starts_ends_it_too(self, crew: Workers) -> None:
        """Before it has joined the group there is nothing to write, and nothing to wait for."""
        worker = crew.start()
        assert wait_until(lambda: worker.port is not None, 30), worker.tail()
        assert worker.terminate() in (Exit.CLEAN, -signal.SIGTERM)


class TestRefusing:
    """What a restart cannot mend ends the process at once, with a code and a sentence that says what does."""

    def test_missing_topics(self, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
        """Exit 3, and the command that makes them."""
        with workers(kafka_bootstrap, topic_prefix, tmp_path) as crew:
            worker = crew.start()
            assert worker.wait_exit(60) == Exit.BROKER
            assert "churnwatch topics apply" in last_word(worker)["mend"]
            assert f"{topic_prefix}.usage-events" in last_word(worker)["message"]

    def test_a_setting_out_of_its_range(self, crew: Workers) -> None:
        """Exit 2, naming the variable."""
        worker = crew.start(CHURNWATCH_SESSION_TIMEOUT="1")
        assert worker.wait_exit(60) == Exit.CONFIGURATION
        assert "CHURNWATCH_SESSION_TIMEOUT" in last_word(worker)["message"]

    def test_a_variable_that_is_misspelt(self, crew: Workers) -> None:
        """Exit 2: it would silently be without effect."""
        worker = crew.start(CHURNWATCH_TOPIC_PREFX="x")
        assert worker.wait_exit(60) == Exit.CONFIGURATION
        assert "CHURNWATCH_TOPIC_PREFX" in last_word(worker)["message"]

    def test_a_second_worker_on_the_same_data_directory(self, crew: Workers) -> None:
        """Exit 2, and the first one is not disturbed."""
        first = crew.start("shared").wait_ready()
        second = crew.start("shared")
        assert second.wait_exit(60) == Exit.CONFIGURATION
        assert "in use by another worker" in second.tail()
        assert first.get("/readyz")[0] == 200
        assert first.terminate() == Exit.CLEAN

    @pytest.mark.seconds(70)
    def test_nobody_at_the_address_of_the_broker(self, crew: Workers) -> None:
        """Alive but not ready while it waits; after about a minute exit 3, naming the setting."""
        began = time.monotonic()
        worker = crew.start(KAFKA_BOOTSTRAP="127.0.0.1:1")
        assert wait_until(lambda: worker.get("/livez")[0] == 200, 30), worker.tail()
        assert worker.get("/readyz")[0] == 503
        assert worker.wait_exit(90) == Exit.BROKER
        assert time.monotonic() - began < 100
        assert "KAFKA_BOOTSTRAP" in last_word(worker)["message"]

    def test_an_input_topic_that_was_made_anew(self, crew: Workers) -> None:
        """Exit 4: the cursor points beyond a log that has begun again, and to go on would be to guess."""
        worker = crew.start().wait_ready()
        send(crew, next(parts(2)))
        wait_folded(crew)
        assert worker.terminate() == Exit.CLEAN
        replace_topic(crew, topic_name(crew.prefix, "usage-events"))
        again = crew.start()
        assert again.wait_exit(60) == Exit.REBUILD, again.tail()
        assert "usage-events" in again.tail()

    def test_a_changelog_that_was_made_anew_below_a_local_store(self, crew: Workers) -> None:
        """Exit 4: the disk knows more than the changelog; an empty state is never taken for the truth."""
        worker = crew.start().wait_ready()
        send(crew, next(parts(3)))
        wait_folded(crew)
        assert worker.terminate() == Exit.CLEAN
        replace_topic(crew, f"{crew.prefix}-accounts-changelog")
        again = crew.start()
        assert again.wait_exit(60) == Exit.REBUILD, again.tail()
        assert "accounts-changelog" in last_word(again)["message"]

    def test_a_changelog_that_was_made_anew_when_the_local_store_is_gone_too(self, crew: Workers) -> None:
        """Exit 4: the group has read events of which no state tells; to go on would be to forget them silently."""
        worker = crew.start().wait_ready()
        send(crew, next(parts(3)))
        wait_folded(crew)
        assert worker.terminate() == Exit.CLEAN
        replace_topic(crew, f"{crew.prefix}-accounts-changelog")
        again = crew.start("other")
        assert again.wait_exit(60) == Exit.REBUILD, again.tail()
        assert crew.prefix in last_word(again)["message"]


class TestComingBack:
    """The local store is a copy: gone, stale or strange, the changelog makes it good, and the next event finds the right state."""

    def test_a_store_that_was_deleted_is_rebuilt(self, crew: Workers) -> None:
        """From the changelog alone; every account goes on from where it was."""
        for part in parts(4):
            worker = crew.start().wait_ready()
            send(crew, part)
            wait_folded(crew)
            assert worker.terminate() == Exit.CLEAN
            shutil.rmtree(crew.data_dir("worker"))
        verify(crew.settings()).check()

    def test_a_store_that_is_older_than_the_changelog_is_brought_up_to_date(self, crew: Workers) -> None:
        """Another worker went on meanwhile, on a disk of its own; the old one comes back and takes up where that one left."""
        for name, part in zip(("mine", "another", "mine"), parts(5), strict=True):
            worker = crew.start(name).wait_ready()
            send(crew, part)
            wait_folded(crew)
            assert worker.terminate() == Exit.CLEAN
        verify(crew.settings()).check()

    def test_a_worker_on_an_empty_changelog_is_ready_and_folds_from_the_beginning(self, crew: Workers) -> None:
        """With nothing anywhere, and then with a backlog that came while nobody ran."""
        worker = crew.start().wait_ready()
        assert worker.partitions() == [0, 1, 2, 3]
        assert worker.terminate() == Exit.CLEAN
        send(crew, next(parts(6)))
        worker = crew.start().wait_ready()
        wait_folded(crew)
        assert worker.terminate() == Exit.CLEAN
        assert verify(crew.settings()).check().accounts == len(ACCOUNTS)

    def test_a_spare_worker_is_ready_and_takes_over(self, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
        """With more workers than partitions one has none, says so, and steps in when the other one is killed."""
        apply_topics(kafka_bootstrap, Installation(prefix=topic_prefix, app_id=topic_prefix, partitions=1))
        with workers(kafka_bootstrap, topic_prefix, tmp_path) as crew:
            pair = [crew.start(name).wait_ready() for name in ("one", "two")]
            assert wait_until(lambda: sorted(len(worker.partitions()) for worker in pair) == [0, 1], 30)
            (serving,) = (worker for worker in pair if worker.partitions())
            (spare,) = (worker for worker in pair if worker is not serving)
            assert spare.get("/readyz") == (200, b"ok, no partition assigned\n")
            first, *rest = parts(7)
            send(crew, first)
            serving.kill()
            for part in rest:
                send(crew, part)
            assert wait_until(lambda: spare.partitions() == [0], 60), spare.tail()
            wait_folded(crew)
            assert spare.terminate() == Exit.CLEAN
            verify(crew.settings()).check()


def replace_topic(crew: Workers, name: str) -> None:
    """Delete a topic and make it anew, as somebody might by mistake."""
    with KafkaAdminClient(bootstrap_servers=crew.bootstrap) as admin:
        admin.delete_topics([name])
        assert wait_until(lambda: name not in admin.list_topics(), 30)
    apply_topics(crew.bootstrap, Installation(prefix=crew.prefix, app_id=crew.prefix))
