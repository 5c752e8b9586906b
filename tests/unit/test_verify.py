"""The checks that the crash tests rest on find what they are for: each kind of damage, one at a time."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from deploy.verify import reference as oracle
from deploy.verify.alert_log import alert_problems, latest_states
from deploy.verify.equality import differences
from models.input_topics import INPUT_TOPICS
from stream_app.pipeline import CURSOR_KEY, Cursor, Position
from stream_app.settings import Settings
from stream_app.state_reader import Changelog
from tests.support.generate import DAY, START, Record, Scene, records, rfc3339, topic_of
from tests.support.kafka_io import Read
from tests.support.memory_worker import MemoryWorker, definition, log_of
from tests.support.verify import _cursor_problems

if TYPE_CHECKING:
    from collections.abc import Callable

Log = list[tuple[bytes | None, bytes | None]]


@pytest.fixture(scope="module")
def worker() -> MemoryWorker:
    """Return a worker that has read a history of everything."""
    made = MemoryWorker(log_of(records(Random(4), 1_500, Scene(days=150))))
    made.run(Random(4))
    return made


@pytest.fixture(scope="module")
def alerts() -> Log:
    """Return the alerts of an account that fell silent and came back, three times."""
    days = [day for day in range(300) if day // 50 % 2 == 0]
    history = [_use("acme", day) for day in days] + [_use("busy", day) for day in range(300)]
    worker = MemoryWorker(log_of(sorted(history, key=lambda record: str(record["time"]))), definition(is_log_clock=True))
    worker.run(Random(1))
    log: Log = [(said.key, said.event) for said in worker.alerts if said.key == b"acme"]
    assert len(log) > 5
    assert alert_problems(log) == []
    return log


def _use(account: str, day: int) -> Record:
    time, data = rfc3339(START + day * DAY), {"event": "e", "user_id": "u"}
    return {"id": f"{account} {day}", "source": "s", "type": "usage.event", "time": time, "subject": account, "data": data}


def _with(value: bytes | None, **members: Any) -> bytes:
    event = json.loads(value or b"")
    data = members.pop("data", {})
    return json.dumps({**event, **members, "data": {**event["data"], **data}}).encode()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda log: [*log[:2], log[1], *log[2:]], "is there twice"),
        (lambda log: [*log[:2], *log[3:]], "its sequence is"),
        (lambda log: log[1:], "its sequence is"),
        (lambda log: [log[1], log[0], *log[2:]], "its sequence is"),
        (lambda log: [(b"another", log[0][1]), *log[1:]], "the key is"),
        (lambda log: [(log[0][0], _with(log[0][1], type="alert.resolved")), *log[1:]], "not open already"),
        (lambda log: [(log[0][0], _with(log[0][1], data={"episode": 7})), *log[1:]], "its episode is 7"),
        (lambda log: [(log[0][0], _with(log[0][1], id="x" * 64)), *log[1:]], "its ids are not those"),
    ],
    ids=["twice", "a hole", "no beginning", "out of order", "another key", "resolved first", "another episode", "another id"],
)
def test_a_damaged_log_of_alerts_is_noticed(alerts: Log, damage: Callable[[Log], Log], told: str) -> None:
    """Whatever a crash could do to it."""
    assert any(told in problem for problem in alert_problems(damage(alerts)))


def test_the_state_of_an_alert_is_the_fold_of_its_log(alerts: Log) -> None:
    """The last event counts, and one that is missing shows."""
    (whole,) = latest_states(alerts).values()
    (cut,) = latest_states(alerts[:-1]).values()
    assert whole.sequence == len(alerts)
    assert cut != whole


def test_an_account_that_differs_is_noticed(worker: MemoryWorker) -> None:
    """One use too many, one forgotten account, one score that nobody computed."""
    history = [json.loads(record.value or b"") for topic in INPUT_TOPICS for record in worker.log[topic]]
    accounts, _ = oracle.replay((topic_of(record), record) for record in history)
    assert differences(worker.partition, accounts) == []
    columns = worker.partition.columns
    slot = columns.slots[b"acme"]
    columns.usage[slot, 3] += 1
    assert any("acme: usage" in problem for problem in differences(worker.partition, accounts))
    columns.usage[slot, 3] -= 1
    columns.score[slot] += 1
    assert any("acme at" in problem for problem in differences(worker.partition, accounts))
    columns.score[slot] -= 1
    forgotten = {name: account for name, account in accounts.items() if name != "acme"}
    assert any("one side only" in problem for problem in differences(worker.partition, forgotten))


def _problems(*history: Position, records_read: int = 4, oracle_says: dict[str, int] | None = None) -> list[str]:
    """List what is wrong with a partition whose cursors said this of usage-events, one after the other."""
    stored = [msgspec.msgpack.encode(Cursor(1, {"usage-events": position})) for position in history]
    changelog = Changelog({CURSOR_KEY: stored[-1]}, stored)
    read = [Read("usage-events", 0, offset, b"k", b"v", (), 1) for offset in range(records_read)]
    inputs = {topic: read if topic == "usage-events" else [] for topic in INPUT_TOPICS}
    outcomes = {topic: Counter[str]() for topic in INPUT_TOPICS}
    outcomes["usage-events"].update(oracle_says or {"applied": 4})
    return list(_cursor_problems(0, changelog, Settings(), inputs, outcomes))


def test_cursors_that_go_forward_to_the_end_are_right() -> None:
    """They may stand still, and jump."""
    assert _problems(Position(1, 5, 1), Position(1, 5, 1), Position(4, 5, 4)) == []


def test_a_cursor_that_goes_back_is_noticed() -> None:
    """Even when the last one is right: that is what a zombie leaves behind."""
    assert any("goes back" in problem for problem in _problems(Position(3, 5, 3), Position(2, 5, 2), Position(4, 5, 4)))


def test_a_count_that_goes_back_is_noticed() -> None:
    """The offset went on, but something that was counted is not any more."""
    assert any("goes back" in problem for problem in _problems(Position(2, 5, 2), Position(3, 5, 1, 2), Position(4, 5, 4)))


def test_a_record_that_is_not_folded_is_noticed() -> None:
    """The cursor stands before the last record."""
    problems = _problems(Position(3, 5, 3))
    assert any("the last record is at 3" in problem for problem in problems)
    assert any("3 records are counted, 4 were read" in problem for problem in problems)


def test_an_outcome_that_is_not_the_oracles_is_noticed() -> None:
    """The sum is right, but a duplicate was applied."""
    assert any("the oracle" in problem for problem in _problems(Position(4, 5, 4), oracle_says={"applied": 3, "duplicate": 1}))
