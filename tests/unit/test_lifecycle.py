"""The life of an account: what is kept of it, by both implementations, and what follows about renewals, people and leaders."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.verify import reference
from deploy.verify.equality import differences
from models import lifecycle
from models.facts import Facts
from models.fold import read_part
from models.lifecycle import Lifecycle
from models.parts import Number, Write
from models.view import state_view
from tests.support.generate import DAY, START, Record, Scene, histories, records, rfc3339, topic_of
from tests.support.memory_worker import MemoryWorker, log_of

GOLDEN = Path(__file__).parents[1] / "golden"
unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
EVENTFUL = Scene(days=260, object_ids=3, topics={"account-events": 1})


def read(history: list[Record], seed: int = 0) -> MemoryWorker:
    """Let a worker read a history, with crashes in between, and hold its state against the oracle's."""
    worker = MemoryWorker(log_of(history))
    worker.run(Random(seed), crash_share=0.1)
    accounts, _ = reference.replay((topic_of(record), record) for record in history)
    assert differences(worker.partition, accounts) == []
    return worker


def state_of(*history: Record) -> dict[str, Any]:
    """Give the state of the only account, the same in both orders of arrival."""
    one, other = (state_view(read(list(order)).partition.columns, 0) for order in (history, history[::-1]))
    assert one == other
    return one


def life_of(*history: Record) -> Lifecycle:
    """Give the life of the only account."""
    facts: Facts = read_part(read(list(history)).partition.columns, "facts", 0)
    return facts.life


def at(day: int, us: int = 0) -> int:
    """Name an instant by its distance from START."""
    return START + day * DAY + us


def day(number: int) -> str:
    """Write such an instant."""
    return rfc3339(at(number))


def record(kind: str, at_us: int, id_: str = "", /, **data: Any) -> Record:
    """Write a record of the account acme."""
    identity = id_ or f"{kind}@{at_us}{sorted(data.items())}"[:128]
    return {"id": identity, "source": "s", "type": kind, "time": rfc3339(at_us), "subject": "acme", "data": data}


@unhurried
@given(history=histories(EVENTFUL), seed=st.integers(0, 2**32))
def test_any_life_ends_as_the_oracle_says(history: list[Record], seed: int) -> None:
    """Late, twice, in conflict, of few objects, over a year, with crashes in between."""
    read(history, seed)


@pytest.mark.parametrize("seed", range(3))
def test_long_lives_agree_too(seed: int) -> None:
    """Ids are forgotten, objects are let go and come back."""
    read(records(Random(seed), 1_500, Scene(accounts=("acme", "fox/🦊"), days=500, topics={"account-events": 1})), seed)


def test_more_than_a_thousand_users_let_the_least_go() -> None:
    """Who is not there goes first; what is kept of one account is bounded, and the same on both sides."""
    added = [record("user.added", at(0, us=number), user_id=f"u{number:04}") for number in range(1_002)]
    users = state_view(read([*added[:5], record("user.removed", at(1), user_id="u0003"), *added[5:]]).partition.columns, 0)["users"]
    assert {f"u{number:04}" for number in range(1_002)} - users.keys() == {"u0000", "u0003"}


def test_users_come_change_and_leave_by_time() -> None:
    """A role change of somebody unknown makes them known; who left keeps the role that they had."""
    state = state_of(
        record("user.added", at(0), user_id="a", role="admin"),
        record("user.role_changed", at(2), user_id="a", role="champion"),
        record("user.role_changed", at(1), user_id="b", role="sponsor"),
        record("user.removed", at(3), user_id="b"),
        record("user.removed", at(1), user_id="c"),
        record("user.added", at(2), user_id="c"),
        record("champion.left", at(4), user_id="d"),
    )
    assert state["users"] == {
        "a": {"is_there": True, "role": "champion"},
        "b": {"is_there": False, "role": "sponsor"},
        "c": {"is_there": True, "role": None},
        "d": {"is_there": False, "role": None},
    }
    assert state["champion_left_at"] == at(4)


def test_a_lost_champion_is_lost_until_another_is_there() -> None:
    """A sponsor is a leader, and no champion."""
    history = [record("user.added", at(0), user_id="a", role="champion"), record("champion.left", at(5), user_id="a")]
    assert lifecycle.has_leader(life_of(history[0]))
    assert lifecycle.champion_lost_at(life_of(history[0])) is None
    assert not lifecycle.has_leader(life_of(*history))
    assert lifecycle.champion_lost_at(life_of(*history)) == at(5)
    sponsored = life_of(*history, record("user.role_changed", at(6), user_id="b", role="sponsor"))
    assert lifecycle.has_leader(sponsored)
    assert lifecycle.champion_lost_at(sponsored) == at(5)
    assert lifecycle.champion_lost_at(life_of(*history, record("user.added", at(6), user_id="b", role="champion"))) is None


def test_what_is_kept_of_a_trial() -> None:
    """When it started, converted and ended first, and the last word about its dates and card."""
    state = state_of(
        record("trial.started", at(0), trial_id="t", card_on_file=False, starts_at=day(0), ends_at=day(14)),
        record("trial.started", at(2), trial_id="t", ends_at=day(21)),
        record("trial.converted", at(6), trial_id="t", card_on_file=True),
        record("trial.converted", at(5), trial_id="t"),
    )
    assert state["trials"]["t"] == {
        "started_at": at(0),
        "converted_at": at(5),
        "ended_at": None,
        "starts_at": at(0),
        "ends_at": at(21),
        "card_on_file": True,
    }


def test_the_first_signup_of_a_user_and_of_the_account_counts() -> None:
    """Whatever comes later, or earlier in the log."""
    state = state_of(
        record("signup.completed", at(2), user_id="a", channel="web", visitor_id="v"),
        record("signup.completed", at(3), user_id="a", channel="ads"),
        record("signup.completed", at(1), user_id="b", channel="event", referred_by="other"),
    )
    first = {"time": at(1), "channel": "event", "referred_by": "other", "visitor_id": None}
    assert state["signups"] == {"a": {"time": at(2), "channel": "web", "referred_by": None, "visitor_id": "v"}, "b": first}
    assert state["acquired"] == first


def test_users_of_one_visitor_are_one_person() -> None:
    """Anonymous ids are merged before anybody is counted; who has none is somebody."""
    visits = {"a": "v1", "b": "v2", "c": "v1", "d": None, "e": None}
    life = life_of(*(record("signup.completed", at(0, us=n), user_id=u, visitor_id=v) for n, (u, v) in enumerate(visits.items())))
    assert lifecycle.people(life) == [["a", "c"], ["b"], ["d"], ["e"]]


def test_contacts_pulse_features_steps_and_the_rest() -> None:
    """Everything else that is kept, once."""
    state = state_of(
        record("touchpoint.logged", at(1), "m", kind="meeting"),
        record("touchpoint.logged", at(2), "n", kind="call", outcome="No_Show"),
        record("touchpoint.logged", at(3), "o", kind="email", direction="outbound"),
        record("touchpoint.logged", at(2), "p", kind="email", direction="INBOUND"),
        record("csm.pulse_set", at(2), value="yellow", comment="so so"),
        record("csm.pulse_set", at(1), value=5),
        record("entitlement.changed", at(1), features=["sso", "api", "sso"]),
        record("entitlement.changed", at(2), seats=5),
        record("onboarding.step_completed", at(4), step="invite", checklist="admin"),
        record("onboarding.step_completed", at(3), step="invite", checklist="admin"),
        record("onboarding.step_completed", at(3), step="invite"),
        record("referral.made", at(1), referral_id="r", referred_account="other"),
        record("referral.converted", at(5), referral_id="r"),
        record("recommendation.made", at(1), recommendation_id="x"),
        record("recommendation.actioned", at(3), recommendation_id="x"),
        record("recommendation.made", at(2), "nameless"),
    )
    assert {name: touch["is_two_way"] for name, touch in state["touchpoints"].items()} == {
        "m|s": True,
        "n|s": False,
        "o|s": False,
        "p|s": True,
    }
    assert (state["contact_at"], state["pulse"], state["features"]) == (at(2), 50, ["api", "sso"])
    assert state["steps"] == {"admin|invite": {"time": at(3)}, "|invite": {"time": at(3)}}
    assert state["referrals"] == {"r": {"made_at": at(1), "converted_at": at(5), "referred_account": "other"}}
    assert state["recommendations"] == {
        "x": {"made_at": at(1), "actioned_at": at(3)},
        "|nameless|s": {"made_at": at(2), "actioned_at": None},
    }


def test_objects_go_a_hundred_and_five_days_after_they_lasted() -> None:
    """Trials and terms go 800 days after their end, because what becomes of them may be late; steps and users who are there stay."""
    history = [
        record("contract.signed", at(0), contract_id="c", term_end=day(30)),
        record("trial.started", at(0), trial_id="t", ends_at=day(14)),
        record("touchpoint.logged", at(0), kind="call"),
        record("user.added", at(0), user_id="u"),
        record("user.removed", at(0), user_id="v"),
        record("onboarding.step_completed", at(0), step="invite"),
    ]
    for now, left in ((105, "touchpoints trials terms"), (106, "trials terms"), (814, "trials terms"), (815, "terms"), (831, "")):
        state = state_view(read([*history, record("account.updated", at(now))]).partition.columns, 0)
        assert {name for name in ("touchpoints", "trials", "terms") if state[name]} == set(left.split())
        assert list(state["users"]) == (["u", "v"] if now == 105 else ["u"])
        assert len(state["steps"]) == 1
        assert state["contact_at"] == at(0)


def renewed(*history: Record, now: int = 0) -> list[tuple[str, int, str | None]]:
    """Give each renewal as it stands: its contract, its due day, its outcome."""
    found = lifecycle.renewals(life_of(*history), at(now))
    return [(each.contract_id, (each.due - START) // DAY, each.outcome) for each in found]


DUE = record("renewal.due", at(0), contract_id="c", term_start=day(-330), term_end=day(30))
NEXT = record("renewal.due", at(1), contract_id="c", term_end=day(60))


@pytest.mark.parametrize(
    ("data", "when", "which"),
    [
        ({"term_end": day(30)}, 80, 30),
        ({"term_start": day(30)}, 80, 30),
        ({"term_start": day(30), "term_end": day(60)}, 80, 60),
        ({"term_start": day(30), "term_end": day(90)}, 80, 30),
        ({}, 44, 30),
        ({}, 45, 30),
        ({}, 46, 60),
        ({"term_end": day(31)}, 1, 30),
    ],
)
def test_an_outcome_is_about_a_renewal_of_its_contract(data: dict[str, Any], when: int, which: int) -> None:
    """By the end of the old term, the start of the new one, or the nearest due date; early ones count at the due date."""
    outcome = record("renewal.outcome", at(when), contract_id="c", outcome="lapsed", **data)
    assert renewed(DUE, NEXT, outcome) == [("c", each, "lapsed" if each == which else None) for each in (30, 60)]


def test_the_last_outcome_of_a_renewal_counts() -> None:
    """And one that says nothing changes nothing."""
    told = [
        record("renewal.outcome", at(when), contract_id="c", **data)
        for when, data in ((30, {"outcome": "lapsed"}), (33, {"outcome": "expanded"}), (31, {"outcome": "cancelled"}), (34, {}))
    ]
    assert renewed(DUE, *told) == [("c", 30, "expanded")]


def test_a_term_that_goes_on_is_renewed_when_the_new_one_begins() -> None:
    """Nobody has to say so; before it begins the renewal is open."""
    following = record("contract.signed", at(2), contract_id="c", term_start=day(30), term_end=day(395))
    assert renewed(DUE, following, now=29) == [("c", 30, None), ("c", 395, None)]
    assert renewed(DUE, following, now=30) == [("c", 30, "renewed"), ("c", 395, None)]
    other = record("contract.signed", at(2), contract_id="d", term_start=day(30), term_end=day(395))
    assert renewed(DUE, other, now=30) == [("c", 30, None), ("d", 395, None)]


def test_an_outcome_without_any_term_is_a_renewal_by_itself() -> None:
    """Due at the end that it names, else when it was told."""
    named = record("renewal.outcome", at(40), contract_id="x", outcome="lapsed", term_end=day(30))
    told = record("renewal.outcome", at(40), contract_id="y", outcome="renewed")
    assert renewed(named, told) == [("x", 30, "lapsed"), ("y", 40, "renewed")]


def _filled() -> Facts:
    signup = lifecycle.Signup(5, "i\0s", "web", "other", "v", is_self=True, is_same=True)
    return Facts(
        bytearray(range(20)),
        {"name": Write("Acme", 1, "a\0s")},
        {"seats": Number(5, 2, "b\0s")},
        {"c": Number(3, 3, "c\0s")},
        4,
        Lifecycle(
            {"u": lifecycle.User(Number(1, 1, "r"), Write("champion", 2, "r"))},
            {"t": lifecycle.Trial(1, 2, Number(3, 3, "r"), Number(4, 4, "r"), Number(1, 5, "r"), 6, 7)},
            {"u": signup},
            {"\0step": lifecycle.Step(8)},
            {"c\x009": lifecycle.Term(8, "c", 9, Number(10, 10, "r"), lifecycle.Amount(11, "EUR", 12, "r"))},
            {"e\0s": lifecycle.Outcome(13, "c", "renewed", 14, 15, 16, "USD")},
            {"r": lifecycle.Referral(17, 18, 19, Write("other", 20, "r"), is_self=True)},
            {"e\0s": lifecycle.Touchpoint(21, "qbr", is_two_way=True)},
            {"x": lifecycle.Recommendation(22, 23, 24)},
            Number(75, 25, "r"),
            lifecycle.Features(("api",), 26, "r"),
            27,
            28,
            signup,
            {24312: {"touchpoints{qbr}": 29}},
        ),
        30,
    )


def test_a_stored_part_is_read_for_ever() -> None:
    """The bytes of today's members, in their order; whoever adds one adds it at the end, with a default."""
    stored = (GOLDEN / "facts_part.bin").read_bytes()
    assert msgspec.msgpack.encode(_filled()) == stored
    assert msgspec.msgpack.decode(stored, type=Facts) == _filled()


def test_a_part_of_before_lives_were_kept_is_read() -> None:
    """It has none yet."""
    before = _filled()
    stored = msgspec.msgpack.encode([before.ids, before.texts, before.numbers, before.contracts, before.oldest_at])
    found = msgspec.msgpack.decode(stored, type=Facts)
    assert (found.texts, found.oldest_at, found.life) == (before.texts, 4, Lifecycle())
    assert found.since == 1
