"""Usage in the roll-up: counted over whole arrays, and what the naive roll-up of the whole log says."""

from __future__ import annotations

from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.verify import reference as oracle
from deploy.verify.reference_portfolio import portfolio
from models import portfolio as rolled
from models import users
from models.kpi.figures import FIGURES
from models.times import DAY_US, MINUTE_US
from tests.support.generate import START, Scene, histories, topic_of
from tests.support.generate import Record as Event
from tests.support.memory_worker import MemoryWorker, log_of
from tests.support.profiles import unhurried
from tests.unit.test_portfolio import SEGMENTS, kept, of_zone, published, read_text, shares
from tests.unit.test_users import FIRST, crowd, history, use

USED = Scene(days=70, topics={"usage-events": 8, "account-events": 2, "payment-events": 1})
NOW = START + 75 * DAY_US


def expected(records: list[Event], now: int, zone: str = "UTC") -> dict[str, dict[str, dict[str, int]]]:
    """The naive roll-up of a log."""
    accounts, _ = oracle.replay([(topic_of(record), record) for record in records], read_text, ZoneInfo(zone))
    return portfolio(accounts.values(), now, zone=zone, segments=SEGMENTS)


@unhurried(15)
@given(records=histories(USED), seed=st.integers(0, 2**32), zone=st.sampled_from(["UTC", "America/New_York"]))
def test_of_any_history_the_figures_are_those_of_the_log(records: list[Event], seed: int, zone: str) -> None:
    """One and two partitions, read in any batches with crashes, with segments that change."""
    for count in (1, 2):
        parts = []
        for share in shares(records, count):
            worker = MemoryWorker(log_of(share), of_zone(zone))
            worker.run(Random(seed), crash_share=0.2)
            parts.append(kept(worker.partition, NOW))
        assert published(parts) == expected(records, NOW, zone)


@unhurried(25)
@given(seed=st.integers(0, 2**32), days=st.sampled_from([10, 60, 150]), later=st.integers(0, 45))
def test_of_many_users_the_figures_are_those_of_the_log(seed: int, days: int, later: int) -> None:
    """Who is active, new, back or gone, on how many days, in this month and the last; at the newest event and weeks after it."""
    records = crowd(seed, 400, 60, days)
    now = max(oracle.instant(record["time"]) for record in records) + later * DAY_US
    worker = MemoryWorker(log_of(records), of_zone())
    worker.run(Random(seed))
    assert published([kept(worker.partition, now)]) == expected(records, now)


def test_every_figure_of_usage_that_is_told_is_one_of_the_catalogue() -> None:
    """Of two users, one of them new in this month; a figure that is 0 is told, too."""
    records = history([(-30, "ana"), (0, "ana"), (0, "ben")])
    worker = MemoryWorker(log_of(records), of_zone())
    worker.run(Random(0))
    now = FIRST * DAY_US + MINUTE_US
    told = {key.decode(): record["figures"] for key, record in kept(worker.partition, now).items() if record and record["figures"]}
    running = told["0/2024-10/other"]
    assert {name.split("{")[0] for name in running} <= FIGURES.keys()
    assert (running["users_new_28d"], running["users_resurrected_28d"], running["users_current_28d"]) == (1, 0, 1)
    assert (running["seats_purchased"], running["active_users_approximate"]) == (0, 0)
    assert running["users_by_active_days_28d{1}"] == 2
    assert "users_current_28d" not in told["0/2024-09/other"]
    assert told["0/2024-09/other"]["active_users_28d"] == 1


def test_figures_of_a_sample_stand_for_all_and_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for 200 users, 1,000 are told as some 1,000, of one account that is estimated."""
    monkeypatch.setattr(users, "USERS_MAX", 200)
    worker = MemoryWorker(log_of(history([(0, f"u{number}") for number in range(1_000)])), of_zone())
    worker.run(Random(0))
    ((figures,),) = (by_segment.values() for by_segment in published([kept(worker.partition, FIRST * DAY_US + 2_000)]).values())
    assert figures["active_users_approximate"] == 1
    assert figures["active_users_28d"] == pytest.approx(1_000, rel=0.15)


def test_use_is_counted_again_only_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often accounts are used, all of them are counted once in a while; at the turn of a day at once."""
    monkeypatch.setattr(rolled, "USES_AT_ONCE", 1)
    records = [*history([(0, "ana"), (0, "ben")]), use(9, 0, "cem", account="globex")]
    worker = MemoryWorker(log_of(records), of_zone())
    worker.step("usage-events", 2)
    now = FIRST * DAY_US + MINUTE_US
    first = published([kept(worker.partition, now)])["2024-10"]["other"]
    worker.step("usage-events", 1)
    assert published([kept(worker.partition, now + 1)]) == {}
    then = published([kept(worker.partition, now + 2 * rolled.USES_EVERY_US)])["2024-10"]["other"]
    assert (first["active_users_28d"], then["active_users_28d"]) == (2, 3)
    tomorrow = published([kept(worker.partition, now + DAY_US)])["2024-10"]["other"]
    assert "active_users_1d" not in tomorrow
