"""The rules of docs/state.md, one by one, on examples worked by hand; then what must hold for any history."""

from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.verify.reference import Oracle, band, combine, exact, half_up, instant, points
from tests.support.generate import DAY, GRACE, HOUR, START, Record, Scene, histories, rfc3339, topic_of

FIRST_DAY = 20_454  # 2026-01-01, the day of START
WEIGHTS = {"usage": 40, "support": 15, "payment": 20, "sentiment": 15, "relationship": 10}
unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def at(day: int, hour: int = 0, us: int = 0) -> int:
    """Name an instant by its distance from START."""
    return START + day * DAY + hour * HOUR + us


def record(kind: str, at_us: int, data: dict[str, Any], id_: str = "", source: str = "test") -> Record:
    """Write a record of the account acme; without an id it gets one that its content makes unique."""
    identity = id_ or f"{kind}@{at_us}{sorted(data.items())}"
    return {"id": identity, "source": source, "type": kind, "time": rfc3339(at_us), "subject": "acme", "data": data}


def use(at_us: int, id_: str = "", **data: Any) -> Record:
    """Write a usage.event."""
    return record("usage.event", at_us, {"event": "e", "user_id": "u", **data}, id_)


def ticket(kind: str, at_us: int, id_: str = "", /, ticket_id: str = "t", **data: Any) -> Record:
    """Write an event of a ticket, a creation with its required members."""
    created = {"channel": "email", "priority": "normal", "kind": "question", "tags": []} if kind == "created" else {}
    return record(f"ticket.{kind}", at_us, {"ticket_id": ticket_id, **created, **data}, id_)


def invoice(kind: str, at_us: int, id_: str = "", /, invoice_id: str = "in", **data: Any) -> Record:
    """Write an event of an invoice, its first attempt unless another is named."""
    return record(f"invoice.{kind}", at_us, {"invoice_id": invoice_id, "attempt": 1, **data}, id_)


def money(amount_minor: int, currency: str = "EUR") -> dict[str, Any]:
    """Write an amount of money."""
    return {"amount_minor": amount_minor, "currency": currency}


def outcomes(account: Oracle, *records: Record) -> list[str]:
    """Apply records in order and list what became of each."""
    return [account.apply(topic_of(each), each) for each in records]


def account_of(*records: Record) -> Oracle:
    """Apply records that must all be applied."""
    account = Oracle()
    assert set(outcomes(account, *records)) <= {"applied"}
    return account


def state_of(*records: Record) -> dict[str, Any]:
    """Give the state after records that must all be applied."""
    return account_of(*records).state()


# ---- 1. From record to outcome


def test_a_time_is_microseconds_whatever_the_zone_it_is_written_in() -> None:
    """Zones, the lower case of RFC 3339, fractions and the years before 1970 are one number line."""
    assert instant("1970-01-01T00:00:00.000001Z") == 1
    assert instant("1970-01-01t02:00:00+02:00") == 0
    assert instant("1969-12-31T23:59:59.999999Z") == -1


def test_the_same_content_written_otherwise_is_a_duplicate() -> None:
    """Order of members, zone, unknown members, nulls and spelled-out defaults do not make another content."""
    account = account_of(use(at(0), "a", duration_ms=5))
    again = use(at(0), "a", count=1, unit=None, x_unknown=7) | {"time": "2026-01-01T05:45:00+05:45"}
    again["data"]["duration_ms"] = 5.0
    before = account.state()
    assert outcomes(account, again) == ["duplicate"]
    assert account.state() == before


@pytest.mark.parametrize(
    "other",
    [
        use(at(0), "a", count=2),
        use(at(0, us=1), "a"),
        use(at(0), "a", properties={"n": True}),
        record("usage.error", at(0), {"kind": "crash", "count": 1}, "a"),
    ],
    ids=["another member", "another instant", "another property", "another type"],
)
def test_a_known_id_with_other_content_is_a_dead_letter(other: Record) -> None:
    """The first of two contents stands; the second changes nothing."""
    account = account_of(use(at(0), "a"))
    before = account.state()
    assert outcomes(account, other) == ["dead_letter"]
    assert account.state() == before


def test_true_and_one_are_different_contents() -> None:
    """Python holds True and 1 for equal; JSON does not."""
    account = account_of(use(at(0), "a", properties={"n": 1}))
    assert outcomes(account, use(at(0), "a", properties={"n": True}), use(at(0), "a", properties={"n": 1.0})) == [
        "dead_letter",
        "duplicate",
    ]


def test_an_id_is_known_per_source_and_topic() -> None:
    """The same id from elsewhere, or on another topic, is another event."""
    account = account_of(
        use(at(0), "a"),
        use(at(0), "a") | {"source": "elsewhere"},
        ticket("created", at(0), "a"),
    )
    assert account.state()["applied"] == {"usage-events": 2, "ticket-events": 1}


@pytest.mark.parametrize(("topic", "known"), [("usage-events", 64), ("ticket-events", 256)])
def test_an_id_is_forgotten_after_as_many_others_as_the_topic_remembers(topic: str, known: int) -> None:
    """With one other fewer the resend is a duplicate; the duplicates in between push nothing out."""

    def event(id_: str) -> Record:
        return use(at(0), id_) if topic == "usage-events" else ticket("reopened", at(0), id_)

    account = account_of(event("a"), *(event(f"b{n}") for n in range(known - 1)))
    assert outcomes(account, event("b0"), event("a"), event("last"), event("a")) == [
        "duplicate",
        "duplicate",
        "applied",
        "applied",
    ]


def test_exactly_seven_days_older_than_the_newest_is_not_late() -> None:
    """One microsecond more is late, and leaves no trace."""
    account = account_of(use(at(8), "new"), use(at(1), "old"))
    before = account.state()
    assert outcomes(account, use(at(1, us=-1), "older")) == ["late"]
    assert account.state() == before


def test_lateness_is_measured_on_the_events_of_the_own_topic() -> None:
    """A newer ticket does not make usage late; a newer gauge does, although it is no use."""
    account = account_of(ticket("created", at(30)), use(at(0), "a"))
    assert outcomes(account, record("usage.gauge", at(20), {"metric": "m", "value": 1}), use(at(1), "b")) == [
        "applied",
        "late",
    ]


def test_a_known_id_is_a_duplicate_or_a_conflict_before_it_is_late() -> None:
    """A resend from long ago is counted for what it is."""
    account = account_of(use(at(0), "a"), use(at(40), "b"))
    assert outcomes(account, use(at(0), "a"), use(at(0), "a", count=9), use(at(0), "c")) == [
        "duplicate",
        "dead_letter",
        "late",
    ]


# ---- 2. Usage


def test_events_count_their_count_and_sessions_and_pages_one() -> None:
    """Gauges and errors count no use, but are applied and newest."""
    state = state_of(
        use(at(0), "a"),
        use(at(0), "b", count=5),
        record("usage.session", at(0), {"session_id": "s"}),
        record("usage.page", at(1), {"path": "/"}),
        record("usage.gauge", at(2), {"metric": "m", "value": 9}),
        record("usage.error", at(3), {"kind": "k", "count": 9}),
    )
    assert state["usage"] == {"used_at": at(1), "days": {"20454": 7, "20455": 1}}
    assert state["newest"] == {"usage-events": at(3)}
    assert state["applied"] == {"usage-events": 6}


def test_a_count_of_zero_moves_used_at_and_makes_no_day() -> None:
    """An account that reports zero uses was heard of."""
    assert state_of(use(at(3), count=0))["usage"] == {"used_at": at(3), "days": {}}


def test_midnight_begins_the_new_day() -> None:
    """A day holds its first microsecond and not the next day's."""
    assert state_of(use(at(1, us=-1)), use(at(1)))["usage"]["days"] == {"20454": 1, "20455": 1}


def test_the_uses_of_a_day_saturate() -> None:
    """Five times a thousand million is more than a day holds: 4,294,967,295."""
    state = state_of(*(use(at(0), f"{n}", count=1_000_000_000) for n in range(5)), use(at(1), count=1_000_000_000))
    assert state["usage"]["days"] == {"20454": 4_294_967_295, "20455": 1_000_000_000}


def test_ninety_eight_days_are_kept() -> None:
    """The day of the newest use and the 97 before it; a gauge does not push days out."""
    uses = [use(at(0)), use(at(97))]
    gauge = record("usage.gauge", at(300), {"metric": "m", "value": 1})
    assert state_of(*uses, gauge)["usage"]["days"] == {"20454": 1, "20551": 1}
    assert state_of(*uses, use(at(98)))["usage"]["days"] == {"20551": 1, "20552": 1}


# ---- 3. Tickets


def test_a_ticket_from_creation_to_solution() -> None:
    """Each member follows its own rule."""
    state = state_of(
        ticket("created", at(0), priority="high", kind="incident", channel="chat"),
        ticket("replied", at(0, 1), author_role="customer", public=True),
        ticket("replied", at(0, 2), author_role="agent", public=False),
        ticket("replied", at(0, 4), author_role="agent", public=True),
        ticket("replied", at(0, 3), author_role="agent", public=True),
        ticket("priority_changed", at(0, 5), **{"from": "high", "to": "low"}),
        ticket("status_changed", at(1), to="solved"),
        ticket("reopened", at(2)),
        ticket("status_changed", at(3), to="closed"),
        ticket("assigned", at(4), department="billing", agent_id="ana"),
    )
    assert state["tickets"] == {
        "t": {
            "created_at": at(0),
            "kind": "incident",
            "channel": "chat",
            "status": "closed",
            "priority": "low",
            "first_reply_at": at(0, 3),
            "agent_replies": 2,
            "reopens": 1,
            "solved_at": at(3),
            "newest_at": at(4),
            "changes": [
                [at(0), "created"],
                [at(0), "urgent"],
                [at(0, 3), "replied"],
                [at(0, 4), "replied"],
                [at(0, 5), "calm"],
                [at(1), "solved"],
                [at(2), "reopened"],
                [at(3), "closed"],
            ],
            "departments": {"billing": at(4)},
            "agents": [[at(4), "ana"]],
        },
    }


def test_of_two_creations_the_time_is_the_earlier_and_the_kind_the_later() -> None:
    """Arrival plays no part."""
    created = state_of(
        ticket("created", at(2), kind="task", channel="chat", priority="low"),
        ticket("created", at(1), kind="problem", channel="email", priority="urgent"),
    )["tickets"]["t"]
    assert (created["created_at"], created["kind"], created["channel"]) == (at(1), "task", "chat")
    assert created["priority"] == "low"


def test_any_ticket_event_makes_the_ticket() -> None:
    """What was never written has no status, and so is not open, and the normal priority; no creation, no `created_at`."""
    assigned = state_of(ticket("assigned", at(1)))["tickets"]["t"]
    assert (assigned["status"], assigned["priority"], assigned["created_at"]) == (None, "normal", None)
    assert (assigned["newest_at"], assigned["agent_replies"]) == (at(1), 0)


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        ("created", {}, "new"),
        ("status_changed", {"to": "hold"}, "hold"),
        ("reopened", {}, "open"),
        ("merged", {"into": "other"}, "merged"),
        ("deleted", {}, "deleted"),
        ("account_changed", {"from": "other", "to": "acme"}, "open"),
        ("account_changed", {"from": "acme", "to": "other"}, "moved"),
        ("assigned", {}, "pending"),
        ("replied", {"author_role": "agent", "public": True}, "pending"),
        ("priority_changed", {"to": "high"}, "pending"),
    ],
)
def test_the_status_that_each_type_writes(kind: str, data: dict[str, Any], status: str) -> None:
    """The last three write none; `merged` makes no object of what it merged into."""
    tickets = state_of(ticket("status_changed", at(0), to="pending"), ticket(kind, at(1), **data))["tickets"]
    assert {name: each["status"] for name, each in tickets.items()} == {"t": status}


def test_the_last_write_is_by_time_then_by_id_as_text() -> None:
    """At one instant "e9" beats "e10", whichever comes first; an older event that comes later changes nothing."""
    writes = [
        ticket("status_changed", at(1), "e9", to="hold"),
        ticket("status_changed", at(1), "e10", to="pending"),
        ticket("status_changed", at(0), "z", to="solved"),
    ]
    assert state_of(*writes)["tickets"]["t"]["status"] == "hold"
    assert state_of(*reversed(writes))["tickets"]["t"]["status"] == "hold"


def test_one_instant_and_one_id_from_two_sources_is_decided_by_the_source() -> None:
    """Order of arrival must not decide."""
    here = ticket("status_changed", at(1), "e", to="hold") | {"source": "a"}
    there = ticket("status_changed", at(1), "e", to="pending") | {"source": "b"}
    assert state_of(here, there)["tickets"]["t"]["status"] == "pending"
    assert state_of(there, here)["tickets"]["t"]["status"] == "pending"


def test_an_abandoned_call_is_counted_and_makes_a_ticket_only_if_it_names_one() -> None:
    """Without a ticket id there is nothing to keep but the number."""
    state = state_of(
        record("ticket.abandoned", at(0), {"wait_ms": 5}),
        record("ticket.abandoned", at(1), {"wait_ms": 5}),
        ticket("abandoned", at(2), wait_ms=5),
    )
    assert state["abandoned"] == 2
    assert state["tickets"]["t"]["newest_at"] == at(2)


def test_a_finished_ticket_goes_after_105_days_and_an_open_one_stays() -> None:
    """Exactly 105 days is not more than 105 days; any event of the topic lets go."""
    finished = ticket("status_changed", at(0), ticket_id="done", to="solved")
    still_open = ticket("created", at(0), ticket_id="open")
    assert set(state_of(finished, still_open, ticket("created", at(105)))["tickets"]) == {"done", "open", "t"}
    call = record("ticket.abandoned", at(105, us=1), {"wait_ms": 1})
    assert set(state_of(finished, still_open, call)["tickets"]) == {"open"}


def test_a_ticket_let_go_begins_anew() -> None:
    """What it had is gone with it."""
    tickets = state_of(
        ticket("created", at(0)),
        ticket("status_changed", at(0), to="closed"),
        ticket("created", at(106), ticket_id="other"),
        ticket("replied", at(106), author_role="agent", public=True),
    )["tickets"]
    assert (tickets["t"]["created_at"], tickets["t"]["status"]) == (None, None)


def test_the_1001st_ticket_drives_out_the_one_with_the_least_newest_time_and_id() -> None:
    """Open or not, and even if it is the one that has just come."""
    tickets = [ticket("created", at(1), ticket_id=f"t{n:04}") for n in range(1_000)]
    account = account_of(*tickets)
    outcomes(account, ticket("created", at(2), ticket_id="a"))
    kept = set(account.state()["tickets"])
    assert len(kept) == 1_000
    assert "t0000" not in kept
    outcomes(account, ticket("created", at(0), ticket_id="older"))
    assert set(account.state()["tickets"]) == kept


# ---- 4. Payments


def test_an_invoice_that_failed_twice_and_was_paid() -> None:
    """The status is the last write, each attempt has its first failure, the total is the newest that was sent."""
    state = state_of(
        invoice("issued", at(0), total=money(900), due_at=rfc3339(at(10))),
        invoice("payment_failed", at(3), attempt=2, total=money(990, "USD")),
        invoice("payment_failed", at(2), attempt=1),
        invoice("payment_failed", at(4), attempt=2, due_at=rfc3339(at(12), 120)),
        invoice("paid", at(6)),
        invoice("paid", at(5)),
    )
    assert state["invoices"] == {
        "in": {
            "status": "paid",
            "status_at": at(6),
            "due_at": at(12),
            "total_minor": 990,
            "currency": "USD",
            "failed": {"1": at(2), "2": at(3)},
            "paid_at": at(5),
            "newest_at": at(6),
        },
    }


def test_charges_refunds_disputes_and_credit_notes_are_their_last_write() -> None:
    """One object per id, of its own kind only: a refund makes no charge, a credit note no invoice."""
    state = state_of(
        record("charge.failed", at(2), {"charge_id": "c", "amount": money(3)}),
        record("charge.succeeded", at(1), {"charge_id": "c", "amount": money(2)}),
        record("refund.created", at(0), {"refund_id": "r", "charge_id": "x", "amount": money(4)}),
        record("dispute.opened", at(0), {"dispute_id": "d", "amount": money(5)}),
        record("dispute.closed", at(1), {"dispute_id": "d", "amount": money(6)}),
        record("credit_note.created", at(0), {"credit_note_id": "n", "invoice_id": "y", "amount": money(-7, "JPY")}),
    )
    assert state["charges"] == {"c": {"outcome": "failed", "time": at(2), "amount_minor": 3, "currency": "EUR"}}
    assert state["refunds"] == {"r": {"time": at(0), "amount_minor": 4, "currency": "EUR"}}
    assert state["disputes"] == {"d": {"time": at(1), "amount_minor": 6, "currency": "EUR"}}
    assert state["credit_notes"] == {"n": {"time": at(0), "amount_minor": -7, "currency": "JPY"}}
    assert state["invoices"] == {}


def test_a_subscription_is_its_greatest_version_then_time_then_id() -> None:
    """A higher version from an earlier time wins."""

    def upsert(version: int, at_us: int, id_: str, quantity: float) -> Record:
        item = {"item_id": "i", "unit_amount_minor": "990.50", "quantity": quantity, "x_unknown": 1}
        return record(
            "subscription.upserted",
            at_us,
            {"subscription_id": "s", "version": version, "started_at": "2026-01-01T01:00:00+01:00", "items": [item]},
            id_,
        )

    state = state_of(upsert(2, at(1), "b", 2.0), upsert(1, at(3), "c", 1), upsert(2, at(1), "a", 4))
    assert state["subscriptions"]["s"] == {
        "version": 2,
        "time": at(1),
        "id": "b",
        "data": {
            "subscription_id": "s",
            "version": 2,
            "started_at": START,
            "items": [{"item_id": "i", "unit_amount_minor": "990.5", "quantity": 2}],
        },
    }


def test_what_is_paid_goes_after_105_days_and_unpaid_invoices_and_subscriptions_stay() -> None:
    """Any event of the topic lets go of every kind."""
    amount = {"amount": money(1)}
    old = [
        invoice("issued", at(0), invoice_id="issued"),
        invoice("payment_failed", at(0), invoice_id="failed"),
        invoice("overdue", at(0), invoice_id="overdue"),
        invoice("paid", at(0), invoice_id="paid"),
        invoice("voided", at(0), invoice_id="voided"),
        record("charge.succeeded", at(0), {"charge_id": "c", **amount}),
        record("refund.created", at(0), {"refund_id": "r", **amount}),
        record("dispute.opened", at(0), {"dispute_id": "d", **amount}),
        record("credit_note.created", at(0), {"credit_note_id": "n", **amount}),
        record("subscription.upserted", at(0), {"subscription_id": "s", "version": 1}),
    ]
    kinds = ("invoices", "charges", "refunds", "disputes", "credit_notes", "subscriptions")
    at_105_days = state_of(*old, invoice("issued", at(105), invoice_id="new"))
    assert [len(at_105_days[kind]) for kind in kinds] == [6, 1, 1, 1, 1, 1]
    after = state_of(*old, invoice("issued", at(105, us=1), invoice_id="new"))
    assert set(after["invoices"]) == {"issued", "failed", "overdue", "new"}
    assert [len(after[kind]) for kind in kinds[1:]] == [0, 0, 0, 0, 1]


def test_a_thousand_of_each_kind_are_kept() -> None:
    """The cap of one kind does not touch another; an unpaid invoice goes like any."""
    account = account_of(
        *(invoice("issued", at(0), invoice_id=f"i{n:04}") for n in range(1_001)),
        record("charge.failed", at(0), {"charge_id": "c", "amount": money(1)}),
    )
    state = account.state()
    assert len(state["invoices"]) == 1_000
    assert "i0000" not in state["invoices"]
    assert len(state["charges"]) == 1


# ---- 5. Account facts


def test_each_fact_is_the_last_write_of_its_own() -> None:
    """An update leaves alone what it does not carry; unknown members and `custom` keep nothing."""
    state = state_of(
        record("account.created", at(0), {"name": "Acme", "seats": 5, "plan": "team", "created_at": rfc3339(at(-9))}),
        record("account.updated", at(2), {"plan": "pro", "owner": "ana", "region": None, "custom": {"x": 1}}),
        record("account.updated", at(1), {"plan": "old", "name": "Acme Inc", "x_unknown": 1}),
        record("account.owner_changed", at(3), {"from": "ana", "to": "bo"}),
        record("account.stage_changed", at(3), {"from": "trial", "to": "adopted"}),
        record("entitlement.changed", at(3), {"features": [], "seats": 8}),
        record("user.added", at(4), {"user_id": "u", "role": "admin"}),
    )
    assert state["facts"] == {
        "name": "Acme Inc",
        "seats": 8,
        "plan": "pro",
        "owner": "bo",
        "lifecycle_stage": "adopted",
        "created_at": at(-9),
        "is_deleted": False,
    }
    assert state["applied"] == {"account-events": 7}


def test_an_account_is_deleted_and_created_again_by_time() -> None:
    """Deletion writes nothing but `is_deleted`."""
    created = record("account.created", at(0), {"name": "Acme"})
    deleted = record("account.deleted", at(1), {"name": "gone"})
    assert state_of(deleted, created)["facts"] == {"name": "Acme", "is_deleted": True}
    assert state_of(record("account.created", at(2), {}), deleted)["facts"] == {"is_deleted": False}


def test_a_contract_keeps_the_last_end_of_its_term() -> None:
    """Signing and a due renewal write it; its outcome does not."""
    state = state_of(
        record("renewal.due", at(1), {"contract_id": "c", "term_end": rfc3339(at(60))}),
        record("contract.signed", at(0), {"contract_id": "c", "term_end": rfc3339(at(50))}),
        record("renewal.outcome", at(2), {"contract_id": "c", "term_end": rfc3339(at(99)), "outcome": "renewed"}),
        record("renewal.outcome", at(2), {"contract_id": "d", "term_end": rfc3339(at(99)), "outcome": "lapsed"}),
    )
    assert state["contracts"] == {"c": {"term_end": at(60)}}


# ---- 6. Measures


def test_measures_are_missing_until_their_feed_was_heard_of() -> None:
    """A gauge is no use; an abandoned call is heard of; an account event feeds none."""
    measures = account_of(
        record("usage.gauge", at(0), {"metric": "m", "value": 1}),
        record("user.added", at(0), {"user_id": "u"}),
        record("ticket.abandoned", at(0), {"wait_ms": 1}),
    ).measures(at(1))
    assert {name for name, value in measures.items() if value is not None} == {
        "tickets_created_7",
        "tickets_created_14",
        "tickets_created_28",
        "tickets_created_91",
        "tickets_open",
        "tickets_open_urgent",
    }
    assert len(measures) == 34


def test_usage_windows_end_with_the_day_of_the_instant() -> None:
    """Seven days at day 90 are the days 84 to 90; 91 are the days 0 to 90."""
    uses = [use(at(day, 12), count=10) for day in (0, 83, 84)] + [use(at(90, 1), count=0), use(at(90, 2), count=3)]
    measures = account_of(*uses).measures(at(90, 23))
    assert [measures[f"usage_events_{width}"] for width in (7, 14, 28, 91)] == [13, 23, 23, 33]
    assert [measures[f"usage_active_days_{width}"] for width in (7, 14, 28, 91)] == [2, 3, 3, 4]
    assert measures["usage_idle_days"] == 0
    assert measures["usage_pace"] == Fraction(52, 23)


def test_a_silent_account_idles_and_its_windows_empty() -> None:
    """Days since the last use are whole UTC days; the pace of nothing is 0."""
    measures = account_of(use(at(0, 23))).measures(at(28, 0))
    assert [measures["usage_idle_days"], measures["usage_pace"]] == [28, 0]
    assert [measures["usage_events_28"], measures["usage_events_91"]] == [0, 1]


def test_tickets_created_leave_out_what_was_merged_deleted_or_moved() -> None:
    """A ticket that is solved still was created; one without a creation was not."""
    measures = account_of(
        ticket("created", at(0), ticket_id="a"),
        ticket("created", at(0), ticket_id="b"),
        ticket("status_changed", at(1), ticket_id="b", to="solved"),
        *(ticket("created", at(6), ticket_id=gone) for gone in ("c", "d", "e")),
        ticket("merged", at(7), ticket_id="c", into="a"),
        ticket("deleted", at(7), ticket_id="d"),
        ticket("account_changed", at(7), ticket_id="e", to="other"),
        ticket("assigned", at(7), ticket_id="f"),
        ticket("created", at(7), ticket_id="g", priority="urgent"),
        ticket("created", at(7), ticket_id="h", priority="high"),
        ticket("status_changed", at(7), ticket_id="h", to="closed"),
    ).measures(at(7))
    assert [measures["tickets_created_7"], measures["tickets_created_14"]] == [2, 4]
    assert [measures["tickets_open"], measures["tickets_open_urgent"]] == [2, 1]


def test_a_day_counts_at_most_255_tickets() -> None:
    """The next day counts for itself."""
    tickets = [ticket("created", at(0), ticket_id=f"t{n}") for n in range(257)]
    measures = account_of(*tickets, ticket("created", at(1), ticket_id="next")).measures(at(1))
    assert [measures["tickets_created_7"], measures["tickets_open"]] == [256, 258]


def test_failed_and_paid_payments_are_invoices_and_charges_together() -> None:
    """An attempt counts once, on the day of its first failure; a void takes nothing back."""
    measures = account_of(
        invoice("payment_failed", at(0), attempt=1),
        invoice("payment_failed", at(1), attempt=2),
        invoice("payment_failed", at(2), attempt=2),
        invoice("paid", at(3)),
        invoice("voided", at(4)),
        record("charge.failed", at(5), {"charge_id": "a", "amount": money(1)}),
        record("charge.succeeded", at(6), {"charge_id": "b", "amount": money(1)}),
    ).measures(at(7))
    assert [measures["payments_failed_7"], measures["payments_failed_14"]] == [2, 3]
    assert [measures["payments_paid_7"], measures["payments_paid_14"]] == [2, 2]


def test_a_day_counts_at_most_255_failed_payments_of_both_kinds_together() -> None:
    """200 attempts and 100 charges on one day are 255."""
    account = account_of(
        *(invoice("payment_failed", at(0), attempt=n) for n in range(200)),
        *(record("charge.failed", at(0), {"charge_id": f"c{n}", "amount": money(1)}) for n in range(100)),
    )
    assert account.measures(at(0))["payments_failed_7"] == 255


@pytest.mark.parametrize(
    ("records", "days"),
    [
        ([invoice("issued", at(0))], Fraction(0)),
        ([invoice("issued", at(0), due_at=rfc3339(at(20)))], Fraction(0)),
        ([invoice("issued", at(0), due_at=rfc3339(at(4, 12)))], Fraction(11, 2)),
        ([invoice("overdue", at(0), due_at=rfc3339(at(4))), invoice("payment_failed", at(1))], Fraction(6)),
        ([invoice("payment_failed", at(7)), invoice("payment_failed", at(8), attempt=2)], Fraction(2)),
        ([invoice("overdue", at(3))], Fraction(7)),
        ([invoice("overdue", at(3)), invoice("paid", at(4))], Fraction(0)),
        ([invoice("overdue", at(3), due_at=rfc3339(at(1))), invoice("voided", at(4))], Fraction(0)),
        ([invoice("overdue", at(3)), invoice("overdue", at(1), invoice_id="other")], Fraction(9)),
        ([record("charge.failed", at(0), {"charge_id": "c", "amount": money(1)})], Fraction(0)),
    ],
    ids=[
        "no date",
        "not yet",
        "due",
        "due counts, not the status",
        "failed",
        "overdue",
        "paid",
        "voided",
        "least",
        "charge",
    ],
)
def test_days_overdue_at_day_ten(records: list[Record], days: Fraction) -> None:
    """The earliest unpaid invoice counts, to the fraction of a day."""
    assert account_of(*records).measures(at(10))["payment_overdue_days"] == days


def test_an_instant_before_the_newest_event_has_no_measures() -> None:
    """Asking for one is a mistake of the caller."""
    with pytest.raises(ValueError, match="before the newest"):
        account_of(use(at(1))).measures(at(1, us=-1))


# ---- 7. Score


def components(weights: dict[str, int]) -> dict[str, Any]:
    """Make a scorecard of components only, each with its feed."""
    return {
        "components": [{"name": name, "weight": weight, "measures": []} for name, weight in weights.items()],
        "feeds": list(weights),
    }


@pytest.mark.parametrize(("number", "rounded"), [("70.5", 71), ("0.5", 1), ("1.5", 2), ("-2.5", -3), ("-2.4999", -2)])
def test_halves_round_away_from_zero(number: str, rounded: int) -> None:
    """Worked example E40."""
    assert half_up(exact(number)) == rounded


@pytest.mark.parametrize(
    ("value", "worst", "best", "expected"),
    [
        (Fraction(7), "0", "10", 700_000),  # worked example E34
        (Fraction(12), "0", "10", 1_000_000),
        (Fraction(-1), "0", "10", 0),
        (Fraction(7), "10", "0", 300_000),
        (Fraction(11), 10, 0, 0),
        (Fraction(4, 3), "0", "2", 666_650),  # 1.3333 of 2, not 4/3 of 2
        (Fraction(1, 20_000), "0", "1", 100),  # 0.00005 rounds up to 0.0001
        (Fraction(1), "0.5", "3.5", 166_667),
        (Fraction(1), "0", "3", 333_333),
    ],
)
def test_points_lie_on_the_line_from_worst_to_best(value: Fraction, worst: object, best: object, expected: int) -> None:
    """The value is rounded to ten-thousandths first, the points after; outside is held at the ends."""
    assert points(value, worst, best) == expected


def test_a_score_over_the_components_that_are_there() -> None:
    """Worked example E31; the shares' last digits are given out so that they sum to the score.

    85 parts: 33.88235, 15.88235, 14.11765 and 5.88235 make 69.76471. The floors in ten-thousandths miss two, which go
    to the first two of the three equal remainders: E31 itself, rounding each share alone, has 58,824 for the last.
    """
    scores = {"usage": 720_000, "support": 900_000, "payment": 600_000, "sentiment": None, "relationship": 500_000}
    result = combine(scores, components(WEIGHTS))
    assert (result["score"], result["coverage"], result["band"]) == (697_647, 8_500, "watch")
    assert {name: each["contribution"] for name, each in result["components"].items()} == {
        "usage": 338_824,
        "support": 158_824,
        "payment": 141_176,
        "sentiment": 0,
        "relationship": 58_823,
    }
    assert result["components"]["sentiment"] == {"score": None, "contribution": 0, "missing": True}


def test_a_score_of_little_data_is_published_without_a_band() -> None:
    """Worked example E32."""
    scores = {"usage": None, "support": 900_000, "payment": None, "sentiment": None, "relationship": 500_000}
    result = combine(scores, components(WEIGHTS))
    assert (result["score"], result["coverage"], result["band"]) == (740_000, 2_500, "insufficient_data")
    assert result["components"]["support"]["contribution"] == 540_000
    assert result["components"]["relationship"]["contribution"] == 200_000


def test_a_score_before_and_after() -> None:
    """Worked example E33: 77.2941 and 69.7647."""
    scorecard = components({"usage": 40, "support": 15, "payment": 20, "relationship": 10})
    before = {"usage": 880_000, "support": 900_000, "payment": 600_000, "relationship": 500_000}
    assert combine(before, scorecard)["score"] == 772_941
    assert combine({**before, "usage": 720_000}, scorecard)["score"] == 697_647


def test_the_missing_ten_thousandth_goes_to_the_first_of_equal_remainders() -> None:
    """Two thirds round up to one, and three floors of zero miss it."""
    result = combine({"a": 0, "b": 1, "c": 1}, components({"a": 1, "b": 1, "c": 1}))
    assert result["score"] == 1
    assert [each["contribution"] for each in result["components"].values()] == [0, 1, 0]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0, "critical"),
        (249_990, "critical"),
        (250_000, "at_risk"),
        (499_990, "at_risk"),
        (500_000, "watch"),
        (749_990, "watch"),
        (750_000, "healthy"),
        (1_000_000, "healthy"),
        (None, "insufficient_data"),
    ],
)
def test_the_lower_bound_of_a_band_belongs_to_it(score: int | None, expected: str) -> None:
    """Worked example E36."""
    assert band(score, 10_000) == expected
    assert band(score, 4_999) == "insufficient_data"
    assert band(score, 5_000) == expected


def test_a_feed_that_is_not_configured_is_not_missed() -> None:
    """Coverage is measured on the components that have a feed."""
    scores = {"usage": 500_000, "support": None, "payment": None, "sentiment": None, "relationship": None}
    assert combine(scores, {**components(WEIGHTS), "feeds": ["usage", "support"]})["coverage"] == 7_273
    assert combine(scores, components(WEIGHTS))["coverage"] == 4_000


SCORECARD = {
    "components": [
        {
            "name": "usage",
            "weight": "60",
            "measures": [
                {"name": "usage_active_days_7", "worst": "0", "best": "4", "weight": "3"},
                {"name": "usage_pace", "worst": "0.5", "best": "1.5", "weight": "1"},
            ],
        },
        {
            "name": "support",
            "weight": "20",
            "measures": [{"name": "tickets_open_urgent", "worst": "2", "best": "0", "weight": "1"}],
        },
        {
            "name": "payment",
            "weight": "20",
            "measures": [{"name": "payment_overdue_days", "worst": "30", "best": "0", "weight": "1"}],
        },
    ],
    "feeds": ["usage", "support", "payment"],
}


def test_a_score_from_events_to_band() -> None:
    """Two active days of 4 are 50, a pace of 4/3 is 83.33; one urgent ticket of 2 is 50; payment is missing.

    Usage (3 x 500,000 + 833,300) / 4 = 583,325; the score (60 x 583,325 + 20 x 500,000) / 80 = 562,493.75.
    """
    account = account_of(
        use(at(-2), count=4),
        use(at(4)),
        use(at(5)),
        ticket("created", at(0), priority="urgent"),
        ticket("created", at(0), ticket_id="other"),
    )
    assert account.score(at(6), SCORECARD) == {
        "score": 562_494,
        "coverage": 8_000,
        "band": "watch",
        "components": {
            "usage": {"score": 583_325, "contribution": 437_494, "missing": False},
            "support": {"score": 500_000, "contribution": 125_000, "missing": False},
            "payment": {"score": None, "contribution": 0, "missing": True},
        },
    }


def test_an_account_of_which_nothing_is_known_has_no_score() -> None:
    """Null, not zero."""
    result = Oracle().score(at(0), SCORECARD)
    assert (result["score"], result["coverage"], result["band"]) == (None, 0, "insufficient_data")


# ---- What must hold for any history


ONE_ACCOUNT = Scene(accounts=("acme",), days=60, late=0, conflict=0, burst=0, hot=0)


@unhurried
@given(history=histories(ONE_ACCOUNT), rng=st.randoms(use_true_random=False))
def test_any_order_within_the_seven_days_gives_the_same_state(history: list[Record], rng: Random) -> None:
    """Arrival, time order and a fresh disorder agree, resends included."""
    in_time = sorted(history, key=lambda each: instant(each["time"]))
    disordered = sorted(history, key=lambda each: instant(each["time"]) + rng.randint(0, GRACE))
    states = []
    for order in (history, in_time, disordered):
        account = Oracle()
        assert set(outcomes(account, *order)) <= {"applied", "duplicate"}
        states.append(account.state())
    assert states[0] == states[1] == states[2]


@unhurried
@given(history=histories(Scene(accounts=("acme",), days=200, late=0.2, again=0.3, conflict=0.2, burst=0), 40))
def test_a_second_reading_of_the_log_changes_nothing(history: list[Record]) -> None:
    """What was applied is now a duplicate; every other outcome is what it was."""
    account = Oracle()
    first = outcomes(account, *history)
    before = account.state()
    again = outcomes(account, *history)
    assert [outcome for outcome in again if outcome == "applied"] == []
    assert [later for earlier, later in zip(first, again, strict=True) if earlier == "applied"] == [
        "duplicate",
    ] * first.count("applied")
    assert account.state() == before


@unhurried
@given(history=histories(Scene(accounts=("acme",), days=130)), later_us=st.integers(0, 120 * DAY))
def test_a_score_is_bounded_and_its_contributions_sum_to_it(history: list[Record], later_us: int) -> None:
    """Whatever happened and however long ago."""
    account = Oracle()
    outcomes(account, *history)
    newest = max(account.state()["newest"].values(), default=START)
    result = account.score(newest + later_us, SCORECARD)
    assert 0 <= result["coverage"] <= 10_000
    if result["score"] is None:
        assert result["band"] == "insufficient_data"
    else:
        assert 0 <= result["score"] <= 1_000_000
        assert sum(each["contribution"] for each in result["components"].values()) == result["score"]
