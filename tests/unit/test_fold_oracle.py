"""The stream's fold against the naive second implementation: whatever comes, in whatever order and batches, they agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.replay import oulad, ravenstack
from deploy.replay.corpus import SAMPLE_DIR
from deploy.verify import reference as oracle
from deploy.verify.equality import differences, kept_by_oracle, kept_by_stream
from models.health import assess
from models.view import state_view
from tests.support.generate import DAY, GRACE, START, Record, Scene, histories, records, rfc3339, topic_of
from tests.support.memory_worker import MemoryWorker, definition, log_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.replay.corpus import Corpus
    from stream_app.pipeline import Partition

unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
seeds = st.integers(0, 2**32)
ORDERLY = Scene(days=60, late=0.0, again=0.0, conflict=0.0, edge=0.0)
"""Every event once and in time, and no object old enough to be let go: what docs/state.md section 8 excepts is not in it."""
AFTER_US = START + 61 * DAY
"""An instant after every event of such a scene."""


def _oracle_of(history: Iterable[Record]) -> tuple[dict[str, oracle.Oracle], dict[str, Counter[str]]]:
    """Let the oracle read a history: its accounts, and the outcomes by topic."""
    in_order = [(topic_of(record), record) for record in history]
    accounts, outcomes = oracle.replay(in_order)
    by_topic: dict[str, Counter[str]] = defaultdict(Counter)
    for (topic, _), outcome in zip(in_order, outcomes, strict=True):
        by_topic[topic][outcome] += 1
    return accounts, dict(by_topic)


def _assert_agree(worker: MemoryWorker, history: list[Record]) -> None:
    """Compare a worker that has read a history with the oracle: every account, and every topic's tally."""
    accounts, outcomes = _oracle_of(history)
    assert worker.outcomes() == outcomes
    assert differences(worker.partition, accounts) == []


@unhurried
@given(history=histories(Scene(days=150)), seed=seeds, is_log_clock=st.booleans())
def test_any_history_in_any_batches_gives_the_oracles_state(history: list[Record], seed: int, is_log_clock: bool) -> None:
    """Late, sent twice, in conflict, out of order, at every edge of the windows: state, score and outcomes are the oracle's."""
    worker = MemoryWorker(log_of(history), definition(is_log_clock=is_log_clock))
    worker.run(Random(seed))
    _assert_agree(worker, history)


@unhurried
@given(history=histories(Scene(days=150)), seed=seeds, is_log_clock=st.booleans())
def test_a_crash_anywhere_changes_nothing(history: list[Record], seed: int, is_log_clock: bool) -> None:
    """A worker that loses its memory again and again and goes on from the last checkpoint ends where the oracle does."""
    worker = MemoryWorker(log_of(history), definition(is_log_clock=is_log_clock))
    worker.run(Random(seed), crash_share=0.3)
    worker.crash()
    _assert_agree(worker, history)


@pytest.mark.parametrize("seed", range(12))
def test_long_histories_of_few_objects_agree_too(seed: int) -> None:
    """Thousands of records on eight accounts: memories of ids overflow, rings wrap, objects are let go and come back."""
    rng = Random(seed)
    history = records(rng, 2_000, Scene(days=rng.choice((20, 60, 150, 400)), burst=0.02))
    worker = MemoryWorker(log_of(history))
    worker.run(rng, crash_share=0.05)
    _assert_agree(worker, history)


@pytest.mark.parametrize("seed", range(2))
def test_more_than_a_thousand_objects_of_an_account_let_the_oldest_go(seed: int) -> None:
    """What is kept of one account is bounded, and the same on both sides."""
    rng = Random(seed)
    scene = Scene(accounts=("acme",), days=30, object_ids=1_500, topics={"ticket-events": 1, "payment-events": 4})
    history = records(rng, 2_000, scene)
    worker = MemoryWorker(log_of(history))
    worker.run(rng, sizes=(400,))
    _assert_agree(worker, history)


@unhurried
@given(seed=seeds, count=st.integers(1, 150))
def test_any_order_of_arrival_inside_the_grace_gives_the_same_state(seed: int, count: int) -> None:
    """Each event may come up to seven days after its time: two such orders end in one state, and nothing is late."""
    rng = Random(seed)
    history = records(rng, count, ORDERLY)
    again = sorted(history, key=lambda record: oracle.instant(record["time"]) + rng.randrange(GRACE + 1))
    first, second = (MemoryWorker(log_of(order)) for order in (history, again))
    first.run(rng)
    second.run(rng)
    assert first.outcomes() == second.outcomes()
    assert _states(first) == _states(second)
    _assert_agree(second, again)


@unhurried
@given(seed=seeds, count=st.integers(1, 150))
def test_records_sent_again_change_nothing_but_the_count_of_duplicates(seed: int, count: int) -> None:
    """Records inserted once more, soon after the first time, leave every account as it was."""
    rng = Random(seed)
    history = records(rng, count, ORDERLY)
    repeated: list[Record] = []
    for record in history:
        repeated.append(record)
        while rng.random() < 0.4:
            repeated.append(rng.choice(repeated[-20:]))
    once, twice = MemoryWorker(log_of(history)), MemoryWorker(log_of(repeated))
    once.run(rng)
    twice.run(rng)
    assert _states(once) == _states(twice)
    duplicates = sum(counts["duplicate"] for counts in twice.outcomes().values())
    assert duplicates == len(repeated) - len(history)


@unhurried
@given(history=histories(Scene(days=150)), seed=seeds)
def test_how_the_log_is_cut_into_batches_does_not_matter(history: list[Record], seed: int) -> None:
    """One record at a time, all at once, or anything between: the same bytes are stored of every account's parts and usage."""
    one, all_at_once, random = (MemoryWorker(log_of(history)) for _ in range(3))
    one.run(Random(seed), sizes=(1,))
    all_at_once.run(Random(seed), sizes=(10_000,))
    random.run(Random(seed))
    expected = _stored(one)
    assert _stored(all_at_once) == expected
    assert _stored(random) == expected


@unhurried
@given(history=histories(Scene(days=150)), seed=seeds)
def test_a_partition_restored_from_its_changelog_is_the_one_that_wrote_it(history: list[Record], seed: int) -> None:
    """Every column, also those that are derived and not stored, and every part come back as they were."""
    worker = MemoryWorker(log_of(history))
    worker.run(Random(seed))
    before = worker.partition
    worker.crash()
    after = worker.partition
    assert after.positions == before.positions
    assert _everything(after) == _everything(before)


def _states(worker: MemoryWorker) -> dict[bytes, tuple[Any, ...]]:
    """What is kept of each account, and what it is worth at one instant after all events."""
    columns = worker.partition.columns
    slots = np.arange(len(columns))
    found = assess(columns, slots, np.full(len(columns), AFTER_US), worker.definition.scale)
    worth: list[Any] = [found.score, found.coverage, found.band, found.component, found.contribution]
    return {key: (state_view(columns, slot), *(array[slot].tolist() for array in worth)) for key, slot in columns.slots.items()}


def _stored(worker: MemoryWorker) -> dict[bytes, tuple[Any, ...]]:
    """The stored bytes of what is kept of each account."""
    columns = worker.partition.columns
    usage_names = ("usage", "usage_who", "usage_who_more", "usage_what", "newest", "applied", "used_at")
    names = (*usage_names, "visits", "visits_count", "users_level", "seats", "seats_at")
    return {
        key: (
            *(getattr(columns, name)[slot].tobytes() for name in names),
            *(shelf.encoded(slot) for shelf in columns.parts.values()),
        )
        for key, slot in columns.slots.items()
    }


def _everything(partition: Partition) -> dict[bytes, dict[str, Any]]:
    """Every column of every account, except those that belong to the batch that was folded last."""
    columns = partition.columns
    momentary = {"trigger_topic", "trigger_offset", "trigger_at", "trigger_id", "is_dirty"}
    # An account that is looked at with no change is not stored again: it is only looked at once more after a restart.
    names = sorted(set(columns._empty) - momentary - {"due_at"})
    return {
        key: {name: getattr(columns, name)[slot].tolist() for name in names}
        | {name: shelf.encoded(slot) for name, shelf in columns.parts.items()}
        for key, slot in columns.slots.items()
    }


def _events_of(corpus: Corpus, share: int) -> list[Record]:
    """Return the events of one account in `share`, as a producer would send them."""
    everyone = sorted({event["subject"] for event in corpus.events()})
    chosen = set(everyone[::share])
    return [dict(event) for event in corpus.events() if event["subject"] in chosen]


@pytest.mark.parametrize(
    ("corpus", "share"), [(oulad.corpus(SAMPLE_DIR), 10), (ravenstack.corpus(SAMPLE_DIR), 5)], ids=["oulad", "ravenstack"]
)
@pytest.mark.parametrize("is_log_clock", [False, True], ids=["wall clock", "log clock"])
def test_public_data_end_as_the_oracle_says(corpus: Corpus, share: int, is_log_clock: bool) -> None:
    """A part of the accounts of OULAD and of RavenStack, years of real disorder: every account is exact, on either clock."""
    history = _events_of(corpus, share)
    worker = MemoryWorker(log_of(history), definition(is_log_clock=is_log_clock))
    worker.run(Random(7), crash_share=0.02, sizes=(400, 1_500))
    _assert_agree(worker, history)
    assert all(counts.keys() == {"applied"} for counts in worker.outcomes().values())


def test_the_generator_reaches_every_outcome() -> None:
    """The histories that all this rests on hold applied, duplicate, late and conflicting records on every topic."""
    worker = MemoryWorker(log_of(records(Random(1), 4_000, Scene(days=60))))
    worker.run(Random(1))
    for counts in worker.outcomes().values():
        assert counts.keys() == {"applied", "duplicate", "late", "dead_letter"}


def test_an_event_exactly_seven_days_older_counts_and_a_microsecond_more_is_late() -> None:
    """The edge of the grace is inside, for the vectorised fold and for the others."""
    for kind, data in (("usage.event", {"event": "e", "user_id": "u"}), ("ticket.reopened", {"ticket_id": "t"})):
        history = [
            {"id": str(i), "source": "s", "type": kind, "time": at, "subject": "acme", "data": data}
            for i, at in enumerate(("2026-03-08T00:00:00Z", "2026-03-01T00:00:00Z", "2026-02-28T23:59:59.999999Z"))
        ]
        worker = MemoryWorker(log_of(history))
        worker.run(Random(0), sizes=(10,))
        (counts,) = worker.outcomes().values()
        assert counts == Counter(applied=2, late=1)
        (account,) = _oracle_of(history)[0].values()
        assert kept_by_stream(worker.partition.columns, 0) == kept_by_oracle(account)


def _use(day: int, number: int = 0) -> Record:
    data = {"event": "e", "user_id": "u"}
    return {
        "id": f"{day}-{number}",
        "source": "s",
        "type": "usage.event",
        "time": rfc3339(DAY * (20_000 + day) + number),
        "subject": "acme",
        "data": data,
    }


def _ticket(kind: str, at_us: int, id_: str, source: str = "s", **data: Any) -> Record:
    members = {"ticket_id": "t", **data}
    return {"id": id_, "source": source, "type": f"ticket.{kind}", "time": rfc3339(at_us), "subject": "acme", "data": members}


def _read(history: list[Record]) -> MemoryWorker:
    worker = MemoryWorker(log_of(history))
    worker.run(Random(0), sizes=(10_000,))
    _assert_agree(worker, history)
    return worker


def test_the_ring_keeps_ninety_eight_days() -> None:
    """The day of the newest use and the 97 before it stay, the one before those goes."""
    worker = _read([_use(0), _use(1), _use(98)])
    assert state_view(worker.partition.columns, 0)["usage"]["days"] == {"20001": 1, "20098": 1}


@pytest.mark.parametrize("silence", [97, 98, 99, 100, 195, 196, 400])
def test_after_a_long_silence_no_old_day_is_taken_for_a_new_one(silence: int) -> None:
    """The days of a ring are used again and again: whatever stood in the place of a new day is gone."""
    worker = _read([_use(day) for day in range(100)] + [_use(99 + silence)])
    days = state_view(worker.partition.columns, 0)["usage"]["days"]
    assert days == {str(20_000 + day): 1 for day in [*range(99 + silence - 97, 100), 99 + silence]}


@pytest.mark.parametrize(("known", "outcome"), [(63, "duplicate"), (64, "applied")])
def test_sixty_four_usage_ids_are_known(known: int, outcome: str) -> None:
    """After 63 others an id is still known, after 64 it is not."""
    worker = _read([_use(0), *(_use(0, number) for number in range(1, known + 1)), _use(0)])
    assert worker.outcomes()["usage-events"]["duplicate"] == (outcome == "duplicate")


@pytest.mark.parametrize(("known", "outcome"), [(255, "duplicate"), (256, "applied")])
def test_two_hundred_and_fifty_six_ids_are_known_of_the_other_topics(known: int, outcome: str) -> None:
    """The same for tickets, where what is not known any more is counted again."""
    replies = [_ticket("reopened", DAY * 20_000 + number, f"e{number}") for number in range(known + 1)]
    worker = _read([*replies, replies[0]])
    assert worker.outcomes()["ticket-events"]["duplicate"] == (outcome == "duplicate")


@pytest.mark.parametrize("is_turned", [False, True])
def test_at_one_instant_and_with_one_id_the_source_decides(is_turned: bool) -> None:
    """The greater text wins, whichever comes first."""
    pair = [
        _ticket("status_changed", DAY * 20_000, "same", source, **{"from": "new", "to": to})
        for source, to in (("a", "hold"), ("b", "open"))
    ]
    worker = _read(pair[::-1] if is_turned else pair)
    assert state_view(worker.partition.columns, 0)["tickets"]["t"]["status"] == "open"
