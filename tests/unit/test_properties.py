"""The properties P1 to P9 that no other test holds; docs/testing.md says where each of the others is held."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.columns import RINGS
from models.health import Scale, assess
from models.input_topics import INPUT_TOPICS
from models.measures import MEASURES, Instant
from models.row import COMPONENT_SLOTS, NEVER, NONE, RING_DAYS
from models.scorecard import COMPONENTS, Scorecard
from models.view import state_view
from stream_app.pipeline import Partition, read_cursor
from tests.support.generate import DAY, START, Record, Scene, records, rfc3339
from tests.support.memory_worker import LATER_US, LogRecord, MemoryWorker, definition, log_of
from tests.support.poison import POISON
from tests.support.profiles import examples

if TYPE_CHECKING:
    from models.columns import Columns
    from stream_app.pipeline import Definition

seeds = st.integers(0, 2**32)
unhurried = settings(max_examples=examples(25), deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
ORDERLY = Scene(days=60, late=0.0, again=0.0, conflict=0.0, edge=0.0, burst=0.0)
AFTER_US = START + 62 * DAY


def read(history: list[Record], seed: int = 0) -> MemoryWorker:
    """Return a worker that has read a history in batches of any size."""
    worker = MemoryWorker(log_of(history), every_window())
    worker.run(Random(seed))
    return worker


def every_window() -> Definition:
    """Return a definition that keeps every window, for any measure."""
    plain = definition()
    return replace(plain, scale=replace(plain.scale, ring_days=dict.fromkeys(RINGS, RING_DAYS)))


def states(worker: MemoryWorker) -> dict[bytes, object]:
    """Return what is kept of every account."""
    columns = worker.partition.columns
    return {key: state_view(columns, slot) for key, slot in columns.slots.items()}


# -- P3: redelivery


@unhurried
@given(seed=seeds, count=st.integers(1, 60), share=st.floats(0, 1))
def test_p3_any_suffix_sent_again_from_any_place_changes_nothing(seed: int, count: int, share: float) -> None:
    """A producer that starts over from anywhere, while its ids are known: every record of it is a duplicate."""
    history = records(Random(seed), count, ORDERLY)
    again = history[int(share * len(history)) :]
    once, twice = read(history, seed), read(history + again, seed)
    assert states(once) == states(twice)
    assert sum(counts["duplicate"] for counts in twice.outcomes().values()) == len(again)


# -- P5: monotony of the whole score


def score(columns: Columns, as_of: int) -> tuple[int, list[bool]]:
    """Return the score of the one account at an instant, and which components there are."""
    found = assess(columns, np.array([0]), np.array([as_of]), Scale.of(Scorecard()))
    component = found.component[0].tolist()
    assert len(component) == COMPONENT_SLOTS
    return int(found.score[0]), [component[place] != NONE for place in range(len(COMPONENTS))]


def event(kind: str, at_us: int, /, **data: object) -> Record:
    """Write one more event of the account."""
    return {"id": f"more {kind}", "source": "more", "type": kind, "time": rfc3339(at_us), "subject": "acme", "data": data}


@settings(parent=unhurried, max_examples=examples(15))
@given(seed=seeds, uses=st.integers(1, 1_000))
def test_p5_bad_news_never_raise_the_score_and_use_never_lowers_it(seed: int, uses: int) -> None:
    """One more failed charge, one more urgent ticket, some more use: the whole score moves one way, whatever there was before."""
    scene = replace(ORDERLY, accounts=("acme",), days=30)
    at_us = START + 31 * DAY
    basis = [
        *records(Random(seed), 40, scene),
        event("usage.event", START, event="e", user_id="u"),
        event("ticket.assigned", START, ticket_id="t"),
        event("dispute.opened", START, dispute_id="d", amount={"amount_minor": 1, "currency": "EUR"}),
    ]
    before, there = score(read(basis).partition.columns, at_us)
    assert all(there)
    failed = event("charge.failed", at_us, charge_id="more", amount={"amount_minor": 1, "currency": "EUR"})
    urgent = event("ticket.created", at_us, ticket_id="more", channel="email", priority="urgent", kind="incident", tags=[])
    used = event("usage.event", at_us, event="e", user_id="u", count=uses) | {"id": "today"}
    assert 0 <= before <= 1_000_000
    assert score(read([*basis, failed]).partition.columns, at_us)[0] <= before
    assert score(read([*basis, urgent]).partition.columns, at_us)[0] <= before
    assert score(read([*basis, used]).partition.columns, at_us)[0] >= before


# -- P6: what an older release wrote


def test_p6_a_cursor_of_an_older_release_is_read() -> None:
    """Members that a position did not have yet are empty, and what it had is what it was."""
    older = msgspec.msgpack.encode({"version": 1, "topics": {"usage-events": [7], "ticket-events": [9, 5, 4, 3, 2, 1]}})
    positions = read_cursor(older)
    assert (positions["usage-events"].offset, positions["usage-events"].newest_us) == (7, NEVER)
    told = positions["ticket-events"]
    assert (told.offset, told.newest_us, told.applied, told.duplicate, told.late, told.dead_letter) == (9, 5, 4, 3, 2, 1)


@unhurried
@given(seed=seeds)
def test_p6_a_checkpoint_reads_back_as_it_was_written(seed: int) -> None:
    """Every row, every part and the cursor come back from their bytes, and are written as the same bytes again."""
    worker = read(records(Random(seed), 80, Scene(days=60)), seed)
    partition = Partition(0, worker.definition)
    partition.restore(((key, value) for key, value in worker.changelog.items() if key[:1] != b"\0"), worker.changelog[b"\0cursor"])
    assert partition.positions == worker.partition.positions
    slots = np.arange(len(partition.columns))
    again = {b"r" + key: value.tobytes() for key, value in zip(partition.columns.keys, partition.columns.rows(slots), strict=True)}
    stored = {key: value for key, value in worker.changelog.items() if key[:1] == b"r"}
    assert again.keys() == stored.keys()
    assert all(stored[key].endswith(value) for key, value in again.items())


# -- P7: windows


@unhurried
@given(
    moments=st.lists(st.tuples(st.integers(0, 97), st.sampled_from([0, 1, DAY // 2, DAY - 1]), st.integers(0, 9)), min_size=1, max_size=40),
    edge=st.sampled_from([0, 1, DAY - 1]),
)
def test_p7_a_window_is_the_sum_over_its_days_to_the_microsecond(moments: list[tuple[int, int, int]], edge: int) -> None:
    """Uses at the first and the last microsecond of days, looked at in the first and the last microsecond of a day."""
    in_order = sorted((START + day * DAY + within, count) for day, within, count in moments)
    history = [
        event("usage.event", at, event="e", user_id="u", count=count) | {"id": str(place)} for place, (at, count) in enumerate(in_order)
    ]
    columns = read(history).partition.columns
    for day in {(in_order[-1][0] - START) // DAY + ahead for ahead in (0, 1, 6, 7, 13, 14, 27, 28, 90, 91, 98)}:
        as_of = max(START + day * DAY + edge, in_order[-1][0])
        last = as_of // DAY
        at = Instant(columns, np.array([0]), np.array([as_of]))
        for width in (7, 14, 28, 91):
            inside = [(when // DAY, count) for when, count in in_order if last - width < when // DAY <= last]
            assert int(MEASURES[f"usage_events_{width}"](at)[0]) == 10_000 * sum(count for _, count in inside)
            active = {when for when, count in inside if count}
            assert int(MEASURES[f"usage_active_days_{width}"](at)[0]) == 10_000 * len(active)


# -- P9: totality


def spoiled(rng: Random, value: bytes) -> bytes:
    """Change a few bytes of a value: flip, cut out, repeat, insert what JSON minds, break off."""
    found = bytearray(value)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(5):
            case 0 if at < len(found):
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                del found[at : at + rng.randrange(1, 9)]
            case 2:
                found[at:at] = found[max(at - 20, 0) : at]
            case 3:
                found[at:at] = rng.choice(
                    (b"NaN", b"1e999", b"\xff", b"\\ud800", b"\0", b'"', b"{", b"[" * 40, b"-", b"9" * 30, b"null", b'"a":')
                )
            case _:
                del found[at + rng.randrange(40) :]
    return bytes(found)


@settings(parent=unhurried, max_examples=examples(40))
@given(seed=seeds)
def test_p9_any_spoiled_record_ends_as_exactly_one_outcome(seed: int) -> None:
    """Events and poison with bytes changed anywhere, on any topic, with and without headers: nothing raises, everything is counted."""
    rng = Random(seed)
    corpus: list[tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]]
    corpus = [(each["subject"].encode(), json.dumps(each).encode(), ()) for each in records(rng, 20, Scene(days=30))]
    corpus += [(bad.key, bad.value, tuple(bad.headers)) for bad in rng.sample(POISON, 10) if bad.value and len(bad.value) < 5_000]
    partition = Partition(0, definition())
    for topic in INPUT_TOPICS:
        log: list[LogRecord] = []
        for key, value, headers in corpus:
            spoilt = spoiled(rng, value) if rng.random() < 0.8 else value
            log.append(LogRecord(key, spoilt, len(log), headers=headers if rng.random() < 0.5 else ()))
        tally = partition.step(topic, log, len(log), set(), LATER_US)
        position = partition.positions[topic]
        assert sum(tally.outcomes.values()) == len(log)
        assert position.applied + position.duplicate + position.late + position.dead_letter == len(log)
    checkpoint = partition.take()
    for part in checkpoint.slices(10):
        assert all(0 <= (json.loads(value)["data"]["score"] or 0) <= 100 for _, value in part.scores)
