"""`churnwatch rebuild` and `churnwatch snapshot` on the real broker: what is lost comes back exactly, and nothing is said twice."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka import TopicPartition

from deploy.verify.run import verify
from models.input_topics import INPUT_TOPICS
from models.view import state_view
from stream_app.admin import apply_topics
from stream_app.exits import Exit
from stream_app.pipeline import CURSOR_KEY, read_cursor
from stream_app.state_reader import read_partitions
from stream_app.topics import Installation, topic_name
from stream_app.waiting import wait_until
from tests.support.generate import Scene, records, to_kafka
from tests.support.histories import (
    ACCOUNTS,
    admin,
    changelog,
    delete_group,
    delete_topic,
    inputs,
    last_word,
    lived,
    parts,
    refused,
    replace_topic,
    send,
    wait_folded,
)
from tests.support.kafka_io import Read, Sender, Traffic, read_topic
from tests.support.worker import ALERT_AT_ONCE, Workers, workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.seconds(80)]

SAID: Final = ("churn-alerts", "dead-letters")
"""Topics in which each record is something that was said to somebody."""


def churnwatch(crew: Workers, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the operator of these workers would."""
    command = [sys.executable, "-P", "-m", "deploy.cli", *words]
    environment = crew.variables("operator", **extra)
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def wait_alone(crew: Workers) -> None:
    """Wait until nobody is in the group: a worker that ended without leaving it is counted until its session is over."""
    with admin(crew) as client:
        assert wait_until(lambda: not client.describe_groups([crew.prefix])[crew.prefix]["members"], 30, pause_seconds=0.25)


def done(crew: Workers, *words: str) -> dict[str, Any]:
    """Run a command that must succeed, and return the one JSON object that it prints."""
    if words[0] == "rebuild":
        wait_alone(crew)
    ended = churnwatch(crew, *words, "--json")
    assert ended.returncode == Exit.CLEAN, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def said(crew: Workers) -> dict[str, list[tuple[bytes | None, bytes | None]]]:
    """Return every record that was said to somebody, by topic."""
    return {
        topic: [(read.key, read.value) for reads in read_topic(crew.bootstrap, topic_name(crew.prefix, topic)).values() for read in reads]
        for topic in SAID
    }


def kept(crew: Workers, **settings: Any) -> dict[bytes, Any]:
    """Return what is kept of every account, and how its alert is numbered."""
    found = {}
    for partition, _ in read_partitions(crew.settings(**settings)).values():
        columns = partition.columns
        for key, slot in columns.slots.items():
            alert = int(columns.alert_episode[slot]), int(columns.alert_sequence[slot]), int(columns.alert_condition[slot])
            found[key] = state_view(columns, slot), alert
    return found


def latest(crew: Workers) -> dict[int, dict[bytes, bytes]]:
    """Return what the changelog holds last of each key, by partition."""
    return {number: found.latest for number, (_, found) in read_partitions(crew.settings()).items()}


def usable(history: list[Any], prefix: str) -> list[tuple[str, bytes, bytes]]:
    """Return a history as it is sent, with a record that cannot be used now and then."""
    sent = [to_kafka(record, prefix) for record in history]
    return [each for record in sent[::100] for each in (record, (record[0], record[1], b"no event"))] + sent


def lived_badly(crew: Workers, history: list[Any]) -> None:
    """Let a worker fold a history of which not everything can be used, and stop."""
    worker = crew.start().wait_ready()
    sender = Sender(crew.bootstrap)
    for record in usable(history, crew.prefix):
        sender.send(*record)
    sender.flush()
    wait_folded(crew)
    assert worker.terminate() == Exit.CLEAN, worker.tail()


@pytest.fixture
def alert_crew(crew: Workers) -> Workers:
    """Workers of which each crossing of a threshold is an alert event."""
    crew.environment |= ALERT_AT_ONCE
    return crew


def test_a_changelog_that_is_gone_is_made_anew(alert_crew: Workers) -> None:
    """Exit 4, rebuild, and on: the state is exact, every alert and every dead letter stands there once; refused while a worker runs."""
    crew = alert_crew
    first, second, third = parts(31)
    lived_badly(crew, first)
    before, told = kept(crew), said(crew)
    assert len(told["churn-alerts"]) > 20
    assert told["dead-letters"]
    delete_topic(crew, changelog(crew))
    assert "churnwatch rebuild" in refused(crew, Exit.REBUILD)
    plan = done(crew, "rebuild", "--dry-run")
    assert (plan["left_to_workers"], plan["is_known_how_far"], plan["lost"]) == (0, True, [])
    wait_alone(crew)
    ended = churnwatch(crew, "rebuild")
    assert (ended.returncode, "--yes" in ended.stderr) == (Exit.CONFIGURATION, True)
    assert refused(crew, Exit.REBUILD), "to look and to ask changes nothing"
    rebuilt = done(crew, "rebuild", "--yes")["rebuilt"]
    assert (rebuilt["accounts"], rebuilt["dead_letters"]) == (len(ACCOUNTS), 0)
    verify(crew.settings()).check()
    after, told_after = kept(crew), said(crew)
    assert {key: view for key, (view, _) in after.items()} == {key: view for key, (view, _) in before.items()}
    assert told_after["dead-letters"] == told["dead-letters"]
    assert set(told["churn-alerts"]) <= set(told_after["churn-alerts"])
    assert len(told_after["churn-alerts"]) == len(told["churn-alerts"]) + rebuilt["alerts"]
    worker = crew.start().wait_ready()
    ended = churnwatch(crew, "rebuild", "--yes")
    assert ended.returncode == Exit.OTHER
    assert "1 worker(s)" in ended.stderr
    assert "stop them all" in ended.stderr
    send(crew, second)
    wait_folded(crew)
    assert worker.terminate() == Exit.CLEAN, worker.tail()
    lived(crew, third, "another")
    verify(crew.settings()).check()


def test_a_rebuild_that_is_killed_can_be_run_again(alert_crew: Workers) -> None:
    """At each of its steps: no worker starts on what it leaves, the next rebuild begins anew, and nothing is said twice."""
    crew = alert_crew
    first, second, _ = parts(32)
    lived_badly(crew, first)
    before, told = kept(crew), said(crew)
    delete_topic(crew, changelog(crew))
    delete_group(crew)
    plan = done(crew, "rebuild", "--dry-run")
    assert (plan["is_known_how_far"], plan["left_to_workers"]) == (False, 0)
    for point in ("witnessed", "replaced", "partition_written:2"):
        wait_alone(crew)
        ended = churnwatch(crew, "rebuild", "--yes", CHURNWATCH_FAILPOINT=point)
        assert ended.returncode == -signal.SIGKILL, (point, ended.stderr)
        worker = crew.start(point.partition(":")[0])
        assert worker.wait_exit(60) == Exit.REBUILD, (point, worker.tail())
        assert "churnwatch rebuild" in last_word(worker)["mend"]
    delete_group(crew)  # of two partitions nothing tells how far they were read
    assert done(crew, "rebuild", "--yes")["rebuilt"]["dead_letters"] == 0
    verify(crew.settings()).check()
    assert {key: view for key, (view, _) in kept(crew).items()} == {key: view for key, (view, _) in before.items()}
    assert said(crew)["dead-letters"] == told["dead-letters"]
    lived(crew, second)
    verify(crew.settings()).check()


def test_what_was_never_folded_is_left_to_the_worker(crew: Workers) -> None:
    """A rebuild goes as far as the old state went; dead letters of what came later are the worker's, once."""
    first, second, _ = parts(33)
    lived_badly(crew, first)
    sender = Sender(crew.bootstrap)
    for record in usable(second, crew.prefix):
        sender.send(*record)
    sender.flush()
    delete_topic(crew, changelog(crew))
    plan = done(crew, "rebuild", "--yes")["plan"]
    assert plan["left_to_workers"] > 900
    verify(crew.settings(), is_drained=False).check()
    worker = crew.start().wait_ready()
    wait_folded(crew)
    assert worker.terminate() == Exit.CLEAN, worker.tail()
    verify(crew.settings()).check()


def cursors_of(crew: Workers) -> dict[TopicPartition, int]:
    """Return where the cursors of an installation stand."""
    return {
        TopicPartition(topic, number): position.offset
        for number, found in latest(crew).items()
        for topic, position in read_cursor(found.get(CURSOR_KEY)).items()
    }


def test_a_snapshot_reaches_back_where_the_inputs_do_not(alert_crew: Workers, tmp_path: Path) -> None:
    """Rebuilt from it and from what the inputs still hold, the state is that of before; a gap between the two is refused."""
    crew, file = alert_crew, str(tmp_path / "state.jsonl.gz")
    first, second, third = parts(34)
    lived(crew, first)
    done(crew, "snapshot", "export", file)
    covered = cursors_of(crew)
    lived(crew, second)
    before, told = kept(crew), said(crew)
    with admin(crew) as client:
        client.delete_records(covered)
    replace_topic(crew, changelog(crew))
    ended = churnwatch(crew, "snapshot", "import", file, "--yes")
    assert (ended.returncode, "newer than the snapshot" in ended.stderr, "--from-snapshot" in ended.stderr) == (Exit.OTHER, True, True)
    assert len(done(crew, "rebuild", "--dry-run")["lost"]) == len(covered)
    rebuilt = done(crew, "rebuild", "--yes", "--from-snapshot", file)
    assert rebuilt["plan"]["lost"] == []
    after = kept(crew)
    assert {key: view for key, (view, _) in after.items()} == {key: view for key, (view, _) in before.items()}
    assert len(said(crew)["churn-alerts"]) == len(told["churn-alerts"]) + rebuilt["rebuilt"]["alerts"]
    verify(crew.settings()).check()
    lived(crew, third)
    verify(crew.settings()).check()
    number = next(iter(covered)).partition
    with admin(crew) as client:
        client.delete_records({tp: offset + 1 for tp, offset in covered.items() if tp.partition == number})
    ended = churnwatch(crew, "rebuild", "--yes", "--from-snapshot", file)
    assert (ended.returncode, "--accept-gap" in ended.stderr) == (Exit.OTHER, True)


def test_an_imported_state_is_the_exported_one(alert_crew: Workers, tmp_path: Path) -> None:
    """Record by record, after everything of it was wiped; refused where there is a state; killed, it is run again."""
    crew, file = alert_crew, str(tmp_path / "state.jsonl.gz")
    first, second, _ = parts(35)
    lived_badly(crew, first)
    before, told = latest(crew), said(crew)
    exported = done(crew, "snapshot", "export", file)
    assert exported["accounts"] == len(ACCOUNTS)
    assert done(crew, "snapshot", "show", file)["partitions"] == 4
    ended = churnwatch(crew, "snapshot", "import", file, "--yes")
    assert (ended.returncode, "there is a state here" in ended.stderr) == (Exit.OTHER, True)
    delete_topic(crew, changelog(crew))
    delete_group(crew)
    ended = churnwatch(crew, "snapshot", "import", file, "--yes", CHURNWATCH_FAILPOINT="partition_written:2")
    assert ended.returncode == -signal.SIGKILL
    assert "snapshot import" in refused(crew, Exit.REBUILD, "too-early")
    wait_alone(crew)
    done(crew, "snapshot", "import", file, "--yes")
    assert latest(crew) == before
    assert said(crew) == told
    verify(crew.settings()).check()
    lived(crew, second, "another")
    verify(crew.settings()).check()


def test_an_input_that_was_made_anew_need_not_cost_its_past(alert_crew: Workers, tmp_path: Path) -> None:
    """Exported and imported, the state goes on with the new topic from its beginning; the others go on where they were."""
    crew, file = alert_crew, str(tmp_path / "state.jsonl.gz")
    first, second, _ = parts(36)
    lived_badly(crew, first)
    before = kept(crew)
    replace_topic(crew, topic_name(crew.prefix, "usage-events"))
    assert "made anew" in refused(crew, Exit.REBUILD)
    done(crew, "snapshot", "export", file)
    delete_topic(crew, changelog(crew))
    wait_alone(crew)
    ended = churnwatch(crew, "snapshot", "import", file, "--yes")
    assert (ended.returncode, "usage-events is another topic" in ended.stderr) == (Exit.CONFIGURATION, True)
    done(crew, "snapshot", "import", file, "--yes", "--at-beginning")
    assert kept(crew) == before
    assert {tp.topic: at for tp, at in cursors_of(crew).items()}[topic_name(crew.prefix, "usage-events")] == 0
    verify(crew.settings()).check()
    lived_badly(crew, second)
    verify(crew.settings()).check()


def endless(prefix: str) -> Iterator[tuple[str, bytes, bytes]]:
    """Write records without end, with whatever a producer can do to them."""
    for number in itertools.count():
        for record in records(Random(number), 999, Scene(accounts=ACCOUNTS, days=60, hot=0.05)):
            yield to_kafka({**record, "id": f"{number}-{record['id']}"}, prefix)


def rest_of(crew: Workers, after: dict[tuple[str, int], int]) -> list[Read]:
    """Return what the inputs hold after some offsets, by topic without a prefix and partition."""
    return [
        read
        for topic in INPUT_TOPICS
        for number, reads in read_topic(crew.bootstrap, topic_name(crew.prefix, topic)).items()
        for read in reads
        if read.offset >= after.get((topic, number), 0)
    ]


def test_a_snapshot_beside_a_worker_goes_on_elsewhere(alert_crew: Workers, tmp_path: Path) -> None:
    """Taken under traffic and imported into other topics that get only what came after it, it ends as the state that it was taken from."""
    crew, file = alert_crew, tmp_path / "state.jsonl.gz"
    worker = crew.start().wait_ready()
    with Traffic(Sender(crew.bootstrap), endless(crew.prefix), 500) as flowing:
        flowing.flow(3)
        done(crew, "snapshot", "export", str(file))
        flowing.flow(1)
    wait_folded(crew)
    assert worker.terminate() == Exit.CLEAN, worker.tail()
    sums = done(crew, "snapshot", "show", str(file))["sums"]
    rest = rest_of(crew, {(topic, each["number"]): offset for each in sums for topic, offset in each["offsets"].items()})
    assert rest
    elsewhere = f"{crew.prefix}-elsewhere"
    apply_topics(crew.bootstrap, Installation(prefix=elsewhere, app_id=elsewhere))
    with workers(crew.bootstrap, elsewhere, tmp_path, crew.environment) as there:
        ended = churnwatch(there, "snapshot", "import", str(file), "--yes")
        assert (ended.returncode, "another topic" in ended.stderr) == (Exit.CONFIGURATION, True)
        done(there, "snapshot", "import", str(file), "--yes", "--at-beginning")
        verify(there.settings()).check()
        second = there.start("elsewhere").wait_ready()
        sender = Sender(there.bootstrap)
        for read in rest:
            bare = read.topic.removeprefix(f"{crew.prefix}.")
            sender.send(topic_name(elsewhere, bare), read.key, read.value, read.headers, read.partition)
        sender.flush()
        wait_folded(there)
        assert second.terminate() == Exit.CLEAN, second.tail()
        verify(there.settings()).check()
        mine, theirs = kept(there), kept(crew)
        assert {key: view for key, (view, _) in mine.items()} == {key: view for key, (view, _) in theirs.items()}
    assert inputs(crew) != inputs(there)
