"""Who uses an account's product, and when: against the naive second implementation, at every edge, and as bytes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.verify import reference as oracle
from deploy.verify.equality import differences
from models import users
from models.columns import Columns
from models.measures import MEASURES, Instant, missing
from models.row import VISITS
from models.times import DAY_US
from models.view import assessment_view, state_view
from tests.support.generate import rfc3339, topic_of
from tests.support.memory_worker import MemoryWorker, definition, log_of
from tests.support.profiles import unhurried

if TYPE_CHECKING:
    from tests.support.generate import Record

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "users_part.bin"
"""The part of an account as it is stored: three users, one of them with a day before all that the mask tells apart."""

FIRST: Final = 20_000
"""The first day of the histories."""


def use(number: int, day: int, user: str | None, kind: str = "usage.event", account: str = "acme", **data: Any) -> Record:
    """An event of a user, `day` days after the first one."""
    members = {"event": "e"} if kind == "usage.event" else {"session_id": "s"}
    return {
        "id": f"e{number}",
        "source": "s",
        "type": kind,
        "time": rfc3339((FIRST + day) * DAY_US + number),
        "subject": account,
        "data": {**members, **({} if user is None else {"user_id": user}), **data},
    }


def history(days_and_users: list[tuple[int, str]]) -> list[Record]:
    """Events of users on days, in the order given."""
    return [use(number, day, user) for number, (day, user) in enumerate(days_and_users)]


def read(records: list[Record], sizes: tuple[int, ...] = (10_000,), seed: int = 0, crash_share: float = 0.0) -> MemoryWorker:
    """A worker that has read some records."""
    worker = MemoryWorker(log_of(records), definition())
    worker.run(Random(seed), sizes=sizes, crash_share=crash_share)
    return worker


def assert_agree(worker: MemoryWorker, records: list[Record]) -> None:
    """Hold the worker's accounts against the second implementation."""
    accounts, _ = oracle.replay([(topic_of(record), record) for record in records])
    assert differences(worker.partition, accounts) == []


def told(worker: MemoryWorker) -> dict[str, Any]:
    """The users of the first account, by their hash."""
    found: dict[str, Any] = state_view(worker.partition.columns, 0)["user_days"]
    return found


def user(name: str) -> str:
    """A user as the state knows one."""
    return f"{int(users.hashes([name])[0]):012x}"


def crowd(seed: int, count: int, people: int, days: int, accounts: int = 2) -> list[Record]:
    """Events of many users, nearly in order: up to a week late, some sent again, some of nobody and some that are no use."""
    rng = Random(seed)
    day = 0.0
    records: list[Record] = []
    for number in range(count):
        day += rng.expovariate(count / days) * (200 if rng.random() < 0.003 else 1)
        name = rng.choice((None, "")) if rng.random() < 0.03 else f"u{int(rng.paretovariate(0.6)) % people}"
        kind = "usage.session" if rng.random() < 0.1 else "usage.event"
        extra = {"count": 0} if kind == "usage.event" and rng.random() < 0.05 else {}
        at = max(int(min(day, 1_900)) - (rng.randrange(8) if rng.random() < 0.3 else 0), 0)
        records.append(use(number, at, name, kind, f"a{rng.randrange(accounts)}", **extra))
        if rng.random() < 0.03:
            records.append(rng.choice(records[-10:]))
    return records


@unhurried(40)
@given(seed=st.integers(0, 2**32), days=st.sampled_from([3, 30, 150, 900]), people=st.sampled_from([3, 40, 200]))
def test_any_history_of_users_is_what_the_second_implementation_makes_of_it(seed: int, days: int, people: int) -> None:
    """Late, in any order within the grace, sent again, of nobody; in any batches, and with crashes."""
    records = crowd(seed, 400, people, days)
    assert_agree(read(records, (1, 3, 40, 400), seed, crash_share=0.05), records)


@unhurried(25)
@given(seed=st.integers(0, 2**32), days=st.sampled_from([5, 60, 150]), later=st.integers(0, 120), cap=st.sampled_from([8, 10_000]))
def test_measures_of_users_are_those_of_the_second_implementation(seed: int, days: int, later: int, cap: int) -> None:
    """Active users, stickiness, seats, trend and slipping, at the newest event and up to months later; of a sample, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "USERS_MAX", cap)
        records = crowd(seed, 300, 40, days)
        told_seats = {"name": "Acme", "seats": Random(seed).randrange(30)}
        records.append({**use(0, days, None, account="a0"), "id": "f", "type": "account.updated", "data": told_seats})
        columns = read(records).partition.columns
    accounts, _ = oracle.replay([(topic_of(record), record) for record in records])
    as_of = columns.newest[: len(columns)].max(axis=1) + later * DAY_US
    at = Instant(columns, np.arange(len(columns)), as_of)
    for key, slot in columns.slots.items():
        account = accounts[key.decode()]
        account.assume_sample(int(columns.users_level[slot]))
        for name, value in account.measures(int(as_of[slot])).items():
            if name.startswith("usage_"):
                measured = None if missing(name, at)[slot] else int(MEASURES[name](at)[slot])
                assert (name, measured) == (name, None if value is None else oracle.half_up(value * 10_000))


@unhurried(25)
@given(seed=st.integers(0, 2**32), cap=st.sampled_from([5, 20]))
def test_the_sample_of_too_many_users_is_exact_too(seed: int, cap: int) -> None:
    """Whoever is in the sample is kept as if nobody else were there, and nobody of it is missing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "USERS_MAX", cap)
        records = crowd(seed, 600, 400, 60)
        worker = read(records, (1, 40, 400), seed, crash_share=0.05)
        assert worker.partition.columns.users_level[:2].max() > 0
        assert_agree(worker, records)
        for slot in range(2):
            assert len(users.users_of(worker.partition.columns, np.array([slot])).words) <= cap + VISITS


@unhurried(25)
@given(seed=st.integers(0, 2**32), cap=st.sampled_from([8, 50, 10_000]), days=st.sampled_from([3, 150, 900]))
def test_how_the_log_is_cut_makes_no_difference_in_any_byte(seed: int, cap: int, days: int) -> None:
    """What is taken into the part, and when, follows from the order of the events alone; also where users are too many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "USERS_MAX", cap)
        records = crowd(seed, 500, 200, days)
        cuts = [read(records, sizes, seed) for sizes in ((1,), (10_000,), (7, 90))]
    stored = [_stored(worker) for worker in cuts]
    assert stored[0] == stored[1] == stored[2]


def _stored(worker: MemoryWorker) -> dict[bytes, tuple[Any, ...]]:
    columns = worker.partition.columns
    names = ("visits", "visits_count", "users_level", "seats", "seats_at")
    return {
        key: (*(getattr(columns, name)[slot].tobytes() for name in names), columns.parts["users"].encoded(slot))
        for key, slot in columns.slots.items()
    }


@unhurried(25)
@given(seed=st.integers(0, 2**32))
def test_any_order_within_the_grace_gives_the_same_users(seed: int) -> None:
    """A day that comes up to a week late is where it belongs, whatever came before it."""
    rng = Random(seed)
    records = history([(rng.randrange(150), f"u{rng.randrange(9)}") for _ in range(200)])
    orders = [sorted(records, key=lambda record: oracle.instant(record["time"]) + rng.randrange(7 * DAY_US + 1)) for _ in range(2)]
    first, second = (read(order, (1, 30), seed) for order in orders)
    assert told(first) == told(second)
    assert_agree(first, orders[0])


@pytest.mark.parametrize("gap", [1, 61, 62, 63, 64, 65, 126, 399, 400, 401, 407, 408, 409, 1_000])
@pytest.mark.parametrize("between", [0, 20])
def test_a_user_who_comes_back(gap: int, between: int) -> None:
    """63 days are told apart, what was before is known for 400 days; in the row and in the part alike."""
    others = [(gap, f"other{number}") for number in range(between)]
    records = history([(0, "ana"), *((0, f"early{number}") for number in range(between)), *others, (gap, "ana")])
    worker = read(records)
    assert told(worker)[user("ana")] == {
        "days": [FIRST, FIRST + gap] if gap < 63 else [FIRST + gap],
        "has_earlier": 63 <= gap <= 400,
    }
    assert_agree(worker, records)


def test_who_was_silent_for_more_than_400_days_is_not_told() -> None:
    """The account goes on; the user is let go of, first in what is told, and then in the part."""
    records = history([(0, "ana"), (1, "ben"), (401, "cem")])
    worker = read(records)
    assert set(told(worker)) == {user("ben"), user("cem")}
    assert_agree(worker, records)
    many = history([(0, "ana"), *((408, f"u{number}") for number in range(VISITS))])
    stored = read(many).partition.columns.parts["users"].encoded(0)
    assert stored is not None
    assert len(stored) == 16 * (VISITS - 1)  # ana is gone, and one of the sixteen waits in the row


def test_the_view_of_an_account_has_its_measures() -> None:
    """As of its last assessment, in units: two users, one of them on two days; no seats are known, and no baseline."""
    worker = read(history([(0, "ana"), (1, "ana"), (1, "ben")]))
    worker.partition.assess_touched()
    worker.partition.columns.as_of[0] = (FIRST + 1) * DAY_US + 5
    measures = assessment_view(worker.partition.columns, 0)["measures"]
    assert measures["usage_users_1"] == measures["usage_users_28"] == 2
    assert measures["usage_days_per_user"] == 1.5
    assert measures["usage_stickiness"] == 0.0536  # three user-days of 56
    assert measures["usage_seats_used"] is measures["usage_trend"] is None


def test_what_is_nobodys_use_makes_no_user() -> None:
    """No user named, no use counted, a page, a gauge, an error: the account is used at most, and by nobody."""
    records = [
        use(0, 0, None),
        use(1, 0, ""),
        use(2, 0, "ana", count=0),
        {**use(3, 0, None), "type": "usage.page", "data": {"path": "/", "visitor_id": "v"}},
        {**use(4, 0, None), "type": "usage.error", "data": {"kind": "k"}},
        {**use(5, -FIRST - 1, "ana")},
    ]
    worker = read(records)
    assert told(worker) == {}
    assert_agree(worker, records)


def test_the_seats_are_those_of_the_newest_gauge_that_tells_any() -> None:
    """Of two at one instant the one with the most, in either order; a gauge without seats changes nothing."""
    gauges = [(3, 9), (5, 20), (5, 30), (5, 10), (4, 99), (6, None)]
    records = [
        {**use(0, day, None), "id": f"g{number}", "type": "usage.gauge", "data": {"metric": "m", "value": 1.0, "seats": seats}}
        for number, (day, seats) in enumerate(gauges)
    ]
    for order in (records, records[::-1]):
        worker = read(order)
        assert state_view(worker.partition.columns, 0)["gauge_seats"] == {"time": (FIRST + 5) * DAY_US, "seats": 30}
        assert_agree(worker, order)


def test_a_user_takes_sixteen_bytes() -> None:
    """Thousands of users of one account, each on many days, in the bytes that are promised for one day of each."""
    rng = Random(3)
    records = history([(day, f"u{rng.randrange(3_000)}") for day in range(20) for _ in range(1_500)])
    columns = read(records, (1_500,)).partition.columns
    stored = columns.parts["users"].encoded(0)
    assert stored is not None
    found = users.users_of(columns, np.array([0]))
    assert len(stored) <= 16 * len(found.words)
    assert len(found.words) == len({record["data"]["user_id"] for record in records})


def test_above_the_greatest_number_a_sample_tells_how_many_there_are() -> None:
    """Of 60,000 users some thousands are kept, and tell their number to within three percent."""
    columns = Columns()
    slots = columns.slots_of([b"acme"])
    names = [f"u{number}" for number in range(60_000)]
    for start in range(0, len(names), 2_000):
        part = names[start : start + 2_000]
        users.fold(columns, np.repeat(slots, len(part)), np.full(len(part), FIRST * DAY_US), users.hashes(part))
    columns.used_at[0] = FIRST * DAY_US
    kept, level = len(users.users_of(columns, slots).words), int(columns.users_level[0])
    assert level == 3
    assert kept << level == pytest.approx(60_000, rel=0.03)


def test_the_golden_part_is_what_is_written_today_and_what_is_read() -> None:
    """Whoever changes the bytes of a part that was ever stored breaks this: its records need another key then."""
    days = [(0, "ana"), (70, "ana"), (68, "ben"), (70, "ben"), (70, "株式会社")]
    columns = Columns()
    slots = columns.slots_of([b"acme"])
    filler = [(71, f"x{number}") for number in range(VISITS - len(days))]
    for day, name in days + filler:
        users.fold(columns, slots, np.array([(FIRST + day) * DAY_US]), users.hashes([name]))
    stored = columns.parts["users"].encoded(0)
    assert stored is not None
    golden = GOLDEN.read_bytes()
    wanted = {golden[start : start + 16] for start in range(0, len(golden), 16)}
    assert {stored[start : start + 16] for start in range(0, len(stored), 16)} >= wanted
    assert len(wanted) == 3
    words = np.frombuffer(golden, "<u8").reshape(-1, 2)
    read_back = users.Users(words, np.array([0, 3]))
    by_name = dict(zip(read_back.who.tolist(), zip(read_back.newest.tolist(), read_back.masks.tolist(), strict=True), strict=True))
    assert by_name == {
        int(user("ana"), 16): (FIRST + 70, 1 | users.EARLIER),
        int(user("ben"), 16): (FIRST + 70, 0b101),
        int(user("株式会社"), 16): (FIRST + 70, 1),
    }
