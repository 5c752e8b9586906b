"""The generated records are valid, repeatable, and reach what they are there to reach."""

import json
from collections import Counter
from functools import cache
from random import Random

from hypothesis import HealthCheck, find, given, settings

from deploy.verify.reference import KNOWN, Event, instant, replay
from tests.support.generate import (
    ACCOUNTS,
    BURST,
    DAY,
    GRACE,
    TOPIC_OF,
    TYPES,
    Record,
    Scene,
    histories,
    records,
    to_kafka,
    topic_of,
)

LONG = Scene(days=200)


@cache
def long_run() -> list[Record]:
    """Write one run that several tests look at."""
    return records(Random(7), 6_000, LONG)


def assert_valid(record: Record) -> None:
    """Check the envelope, and that all of `data` but the deliberately unknown is of the type."""
    assert set(record) - {"traceparent"} == {"specversion", "id", "source", "type", "time", "subject", "data"}
    assert 1 <= len(record["id"]) <= 128
    assert 1 <= len(record["subject"]) <= 256
    assert {name for name in record["data"] if not name.startswith("x_")} <= set(KNOWN[record["type"]])
    assert Event.of(record).time == instant(record["time"])


def test_the_same_seed_writes_the_same_records() -> None:
    """And another seed writes others."""
    assert records(Random(3), 200) == records(Random(3), 200)
    assert records(Random(3), 200) != records(Random(4), 200)


def test_every_type_of_each_topic_appears_for_every_account() -> None:
    """With the oracle knowing the members of each."""
    assert {record["type"] for record in long_run()} == set(TOPIC_OF) == set(KNOWN) - {"cost.recorded", "exchange_rate.set"}
    assert {record["subject"] for record in long_run()} == set(ACCOUNTS)
    assert {topic_of(record) for record in long_run()} == set(TYPES)


def test_every_record_is_valid() -> None:
    """Also those that were rewritten, and those that conflict."""
    for record in long_run():
        assert_valid(record)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories())
def test_the_strategy_writes_valid_records(history: list[Record]) -> None:
    """The same code, drawn by Hypothesis."""
    for record in history:
        assert_valid(record)


def test_the_strategy_shrinks_to_the_records_that_matter() -> None:
    """Out of up to sixty events it leaves little more than the first and its conflict."""
    scene = Scene(accounts=("acme",), conflict=0.3, burst=0, edge=0)

    def has_a_conflict(history: list[Record]) -> bool:
        return "dead_letter" in replay((topic_of(record), record) for record in history)[1]

    smallest = find(histories(scene), has_a_conflict, settings=settings(max_examples=2_000, database=None, derandomize=True))
    assert len(smallest) <= 3


def test_every_outcome_is_reached() -> None:
    """Most records are applied, and there are hundreds that are not."""
    outcomes = Counter(replay((topic_of(record), record) for record in long_run())[1])
    assert set(outcomes) == {"applied", "duplicate", "late", "dead_letter"}
    assert outcomes["applied"] > 0.8 * outcomes.total()
    assert min(outcomes.values()) > 50


def test_lateness_is_tried_to_the_microsecond() -> None:
    """Some events are exactly seven days behind the newest of their topic, and some one microsecond more."""
    newest: dict[tuple[str, str], int] = {}
    behind: Counter[int] = Counter()
    for record in long_run():
        key, at_us = (record["subject"], topic_of(record)), instant(record["time"])
        newest[key] = max(newest.get(key, at_us), at_us)
        behind[newest[key] - at_us] += 1
    assert behind[GRACE] > 0
    assert behind[GRACE + 1] > 0


def test_there_are_midnights_ties_and_edges_of_what_is_kept() -> None:
    """Times coincide within an account, and lie exactly 97, 98 and 105 days apart."""
    times = Counter((record["subject"], instant(record["time"])) for record in long_run())
    midnights = {at_us - LONG.start_us for _, at_us in times if at_us % DAY == 0}
    assert {0, 7 * DAY, 97 * DAY, 98 * DAY, 105 * DAY} <= midnights
    assert 105 * DAY + 1 in {at_us - LONG.start_us for _, at_us in times}
    ids = {(record["subject"], instant(record["time"]), record["source"], record["id"]) for record in long_run()}
    assert max(Counter(identity[:2] for identity in ids).values()) > 1


def test_a_hot_account_has_more_usage_at_once_than_ids_are_known() -> None:
    """A burst is at one instant, back to back."""
    longest = run = 0
    previous = None
    for record in long_run():
        now = (record["subject"], record["time"], topic_of(record))
        run = run + 1 if now == previous else 1
        previous = now
        longest = max(longest, run)
    assert longest >= BURST > 64


def test_accounts_go_through_kafka_as_utf_8() -> None:
    """The key is the subject, the value the record, the prefix stands before the topic."""
    for record in long_run()[:300]:
        topic, key, value = to_kafka(record, "run1")
        assert topic == f"run1.{topic_of(record)}"
        assert key.decode() == record["subject"]
        assert json.loads(value) == record
    assert to_kafka(long_run()[0])[0] in TYPES
