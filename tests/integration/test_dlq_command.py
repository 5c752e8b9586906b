"""Dead letters on the real broker: each record sent again once, in its order, tagged, and parked when it keeps coming back."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from typer.testing import CliRunner

from deploy.dlq.cli import dlq_app
from deploy.dlq.letters import ORIGIN_HEADER, REPLAY_HEADER, REPLAYS_MAX, Selection
from deploy.dlq.reading import DEAD_LETTERS, REPLAYS, reading
from deploy.dlq.replaying import Replay
from deploy.verify.records import LogRecord
from deploy.verify.run import verify
from models.input_topics import INPUT_TOPICS, USAGE
from models.times import MILLISECOND_US, MINUTE_US, SECOND_US, format_us, parse_us
from stream_app.clock import WallClock
from stream_app.exits import Exit, Fenced
from stream_app.state_reader import partition_of
from stream_app.topics import topic_name
from stream_app.waiting import wait_until
from tests.support.kafka_io import Read, Sender, read_topic, wait_caught_up
from tests.support.poison import POISON

if TYPE_CHECKING:
    from tests.support.worker import Workers

pytestmark = pytest.mark.integration

PARTITIONS = 4
ACCOUNTS = tuple(f"acct-{number}" for number in range(40))
EARLY = 600
"""Records too far in the future when they are sent: more than one transaction of a replay takes."""
AHEAD_US = 5 * MINUTE_US
UNBROKEN = {"CHURNWATCH_DEAD_LETTER_BREAKER__CONSECUTIVE": "100000", "CHURNWATCH_DEAD_LETTER_BREAKER__RATIO": "1"}
ERRORS = "churnwatch.error."


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def ours(crew: Workers) -> dict[str, str]:
    """Return the variables that name the installation."""
    return {name: value for name, value in crew.variables("dlq").items() if name.startswith(("CHURNWATCH_", "KAFKA_"))}


def dlq(crew: Workers, *arguments: str) -> Ended:
    """Run the command."""
    ran = CliRunner().invoke(dlq_app, arguments, env=ours(crew))
    return Ended(ran.exit_code, ran.stdout_bytes, ran.stderr)


def killed(crew: Workers, failpoint: str, *arguments: str) -> None:
    """Run the command in a process of its own, which ends with SIGKILL at a point."""
    environment = crew.variables("dlq", CHURNWATCH_FAILPOINT=failpoint)
    command = [sys.executable, "-P", "-m", "deploy.cli", "dlq", *arguments]
    assert subprocess.run(command, env=environment, cwd=crew.directory, check=False, timeout=120).returncode == -signal.SIGKILL


def replay_elsewhere(crew: Workers) -> int:
    """Replay everything in a process of its own, and return how many records that sent."""
    command = [sys.executable, "-P", "-m", "deploy.cli", "dlq", "replay", "--json"]
    ran = subprocess.run(command, env=crew.variables("dlq"), cwd=crew.directory, capture_output=True, check=True, timeout=120)
    return int(json.loads(ran.stdout)["sent"])


def sent(crew: Workers, *arguments: str, code: int = Exit.CLEAN) -> dict[str, Any]:
    """Replay, and return what the command says that it did."""
    ended = dlq(crew, "replay", "--json", *arguments)
    assert ended.code == code, ended.err
    return ended.rows[-1]


def settle(crew: Workers) -> None:
    """Wait until the workers have read everything."""
    wait_caught_up(crew.bootstrap, crew.prefix, [topic_name(crew.prefix, topic) for topic in INPUT_TOPICS], 60)


def use(number: int, time_us: int) -> dict[str, Any]:
    """Write a use of the product by one of the accounts."""
    account = ACCOUNTS[number % len(ACCOUNTS)]
    data = {"event": "opened", "user_id": "u1"}
    return {"id": f"e{number}", "source": "/s", "type": "usage.event", "time": format_us(time_us), "subject": account, "data": data}


def usable(read: Read | LogRecord) -> dict[str, Any] | None:
    """Say what the oracle is to fold: nothing that is no JSON, and nothing too far ahead of the broker's time."""
    try:
        event: dict[str, Any] = msgspec.json.decode(read.value or b"")
    except msgspec.DecodeError:
        return None
    return event if parse_us(event["time"]) <= read.timestamp * MILLISECOND_US + AHEAD_US else None


def replayed(crew: Workers, topic: str) -> list[Read]:
    """Return the records of a topic that a replay has sent, in the order of each partition's log."""
    by_number = read_topic(crew.bootstrap, topic_name(crew.prefix, topic))
    return [read for reads in by_number.values() for read in reads if REPLAY_HEADER in dict(read.headers)]


def test_records_whose_time_has_come_are_applied_once_however_often_they_are_replayed(crew: Workers) -> None:
    """A replay killed within its second transaction is taken up by the next; a third sends nothing; the order of each key is kept."""
    crew.environment |= UNBROKEN
    worker = crew.start().wait_ready()
    sender = Sender(crew.bootstrap)
    topic = topic_name(crew.prefix, USAGE)
    good_at = WallClock().now_us() + 10 * SECOND_US
    early = [use(number, good_at + AHEAD_US - number) for number in range(EARLY)]
    for event in early:
        key = event["subject"].encode()
        sender.send(topic, key, json.dumps(event).encode(), (("trace", b"\xff"),), partition=partition_of(event["subject"], PARTITIONS))
    sender.send(topic, b"acct-0", b"\x1b[31m no JSON \xff", partition=0)
    sender.send(topic, b"acct-0", b"x" * 1_000_001, partition=0)
    sender.flush()
    settle(crew)
    counts = {(row["reason"], row["letters"], row["waiting"], row["damaged"]) for row in dlq(crew, "list", "--json").rows}
    assert counts == {("future_time", EARLY, EARLY, 0), ("not_json", 1, 1, 0), ("too_large", 1, 0, 1)}
    [unreadable] = dlq(crew, "list", "--each", "--json", "--reason", "not_json").rows
    for place in (unreadable["place"], unreadable["record"]):
        assert dlq(crew, "show", "--raw", place).out == b"\x1b[31m no JSON \xff"

    assert wait_until(lambda: WallClock().now_us() > good_at, 60)
    chosen = ("--reason", "future_time", "--topic", USAGE)
    assert len(dlq(crew, "replay", "--dry-run", "--json", *chosen).rows) == EARLY
    assert replayed(crew, USAGE) == []
    killed(crew, "in_replay:2", "replay", *chosen)
    assert sent(crew, *chosen) == {"sent": EARLY - 500, "planned": EARLY - 500, "gone": 0, "replayed": 500, "parked": 0, "damaged": 0}
    assert sent(crew, *chosen)["sent"] == 0
    again = replayed(crew, USAGE)
    expect_order(again, early)
    assert all(dict(read.headers)[REPLAY_HEADER] == b"1" and read.headers[0] == ("trace", b"\xff") for read in again)
    assert not any(name.startswith(ERRORS) for read in again for name, _ in read.headers)

    refused = dlq(crew, "replay", "--reason", "too_large")
    assert refused.code == Exit.OTHER
    assert "only the beginning of the value is kept" in refused.err
    settle(crew)
    assert worker.terminate() == 0
    found = verify(crew.settings(), usable).check()
    assert found.outcomes[USAGE] == {"applied": EARLY, "dead_letter": EARLY + 2}
    assert found.read[USAGE] == 2 * EARLY + 2


def expect_order(again: list[Read], events: list[dict[str, Any]]) -> None:
    """Compare the records of each key with those that were sent at first."""
    told: dict[str, list[str]] = defaultdict(list)
    for read in again:
        event = json.loads(read.value or b"")
        told[event["subject"]].append(event["id"])
        assert read.partition == partition_of(event["subject"], PARTITIONS)
    wanted: dict[str, list[str]] = defaultdict(list)
    for event in events:
        wanted[event["subject"]].append(event["id"])
    assert told == wanted


def test_records_that_never_get_better_come_back_unchanged_three_times_and_are_parked(crew: Workers) -> None:
    """The whole catalogue: tagged 1, 2 and 3, byte for byte what it was; then nothing is sent, unless by force."""
    crew.environment |= UNBROKEN
    sender = Sender(crew.bootstrap)
    for each in POISON:
        if each.before is not None:
            sender.send(topic_name(crew.prefix, each.before.topic), each.before.key, each.before.value, each.before.headers, 1)
        sender.send(topic_name(crew.prefix, each.topic), each.key, each.value, each.headers, 1)
    sender.flush()
    worker = crew.start().wait_ready()
    settle(crew)
    damaged = sum(row["damaged"] for row in dlq(crew, "list", "--json").rows)
    assert damaged >= 3
    whole = len(POISON) - damaged
    for number in range(1, REPLAYS_MAX + 1):
        outcome = sent(crew, code=Exit.OTHER)
        assert (outcome["sent"], outcome["replayed"], outcome["damaged"]) == (whole, whole * (number - 1), damaged)
        settle(crew)
    outcome = sent(crew, code=Exit.OTHER)
    assert (outcome["sent"], outcome["parked"]) == (0, whole)
    parked = dlq(crew, "list", "--parked", "--each", "--json").rows
    assert {(row["standing"], row["replays"]) for row in parked} == {("parked", REPLAYS_MAX)}
    assert len(parked) == whole
    expect_same_bytes(crew)

    place = parked[0]["place"]
    assert sent(crew, place)["sent"] == 0
    assert sent(crew, place, "--force")["sent"] == 1
    assert sent(crew, place, "--force")["sent"] == 0
    settle(crew)
    assert worker.terminate() == 0
    befores = {(each.before.key, each.before.value) for each in POISON if each.before is not None}
    found = verify(
        crew.settings(), lambda read: msgspec.json.decode(read.value or b"") if (read.key, read.value) in befores else None
    ).check()
    assert found.dead_letters == len(POISON) + REPLAYS_MAX * whole + 1


def expect_same_bytes(crew: Workers) -> None:
    """Hold each record that was sent again against the one that stood first: key, value, headers, and the tags behind them."""
    for topic in INPUT_TOPICS:
        reads = read_topic(crew.bootstrap, topic_name(crew.prefix, topic)).get(1, [])
        first = {read.offset: read for read in reads}
        for read in reads:
            tags = dict(read.headers)
            if REPLAY_HEADER in tags:
                original = first[int(tags[ORIGIN_HEADER] or b"")]
                assert (read.key, read.value, read.headers[:-2]) == (original.key, original.value, original.headers)


def test_the_tables_and_one_letter_are_safe_to_print(crew: Workers) -> None:
    """A key that would move the cursor is escaped wherever it is shown; the window of time and the limit choose among the letters."""
    sender = Sender(crew.bootstrap)
    topic = topic_name(crew.prefix, USAGE)
    for number in range(3):
        sender.send(topic, b"\x1b[2J\n\xff" if number == 0 else f"k{number}".encode(), b"[bold]", partition=0)
    sender.flush()
    worker = crew.start().wait_ready()
    settle(crew)
    assert worker.terminate() == 0
    for arguments in (("list",), ("list", "--each"), ("list", "--each", "--json"), ("show", f"{topic}/0/0"), ("replay", "--dry-run")):
        ended = dlq(crew, *arguments)
        assert (ended.code, ended.err) == (0, "")
        assert b"\x1b" not in ended.out
        assert all(line.decode().isprintable() for line in ended.out.splitlines())
    assert b"\\x1b[2J\\n\\xff" in dlq(crew, "list", "--each").out
    rows = dlq(crew, "list", "--each", "--json").rows
    assert [row["record"] for row in rows] == [f"{topic}/0/{offset}" for offset in range(3)]
    assert len(dlq(crew, "list", "--each", "--json", "--limit", "2").rows) == 2
    assert len(dlq(crew, "list", "--each", "--json", "--since", "1h").rows) == 3
    assert dlq(crew, "list", "--each", "--json", "--until", rows[0]["time"]).rows == []
    absent = dlq(crew, "show", "0/99")
    assert (absent.code, absent.out) == (Exit.OTHER, b"")
    assert absent.err.startswith("error: there is no dead letter '0/99'")


def test_what_is_on_record_goes_when_the_dead_letter_has_gone(crew: Workers) -> None:
    """Retention takes dead letters; a later replay takes their notes, and keeps those of the others."""
    sender = Sender(crew.bootstrap)
    for _ in range(3):
        sender.send(topic_name(crew.prefix, USAGE), b"acme", b"no JSON", partition=0)
    sender.flush()
    worker = crew.start().wait_ready()
    settle(crew)
    assert worker.terminate() == 0
    assert sent(crew)["sent"] == 3
    with KafkaAdminClient(bootstrap_servers=crew.bootstrap) as admin:
        admin.delete_records({TopicPartition(topic_name(crew.prefix, DEAD_LETTERS), 0): 2})
    outcome = sent(crew)
    assert (outcome["sent"], outcome["replayed"]) == (0, 1)
    [notes] = read_topic(crew.bootstrap, topic_name(crew.prefix, REPLAYS)).values()
    latest = {note.key: note.value for note in notes}
    assert [key for key, value in latest.items() if value is not None] == [b"0/2"]
    assert latest.keys() == {b"0/0", b"0/1", b"0/2"}


def test_a_replay_that_another_one_has_overtaken_ends_and_nothing_is_sent_twice(crew: Workers) -> None:
    """The second begins when the first has sent one of three records: it sends the others, and the first is fenced."""
    sender = Sender(crew.bootstrap)
    for _ in range(3):
        sender.send(topic_name(crew.prefix, USAGE), b"acme", b"no JSON", partition=0)
    sender.flush()
    worker = crew.start().wait_ready()
    settle(crew)
    assert worker.terminate() == 0
    told: list[int] = []

    def overtaken() -> bool:
        told.append(replay_elsewhere(crew) if len(told) == 1 else 0)
        return True

    settings = crew.settings()
    with reading(settings) as reader:
        first = Replay(
            settings, reader, WallClock(), Selection(), is_forced=False, tell=lambda _: None, is_wanted=overtaken, transaction_records=1
        )
        with pytest.raises(Fenced, match="1 of 3 records are sent"):
            asyncio.run(first.run())
    assert told == [0, 2]
    assert len(replayed(crew, USAGE)) == 3
