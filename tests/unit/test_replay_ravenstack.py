"""The RavenStack mapping, held against the tables that ship: every row becomes what it should."""

from __future__ import annotations

import csv
import io
import tarfile
from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from deploy.replay import ravenstack
from deploy.replay.corpus import SAMPLE_DIR, Window
from deploy.replay.envelope import Event, ReplayDataError, topic_of
from models.decoding import decode_batch
from tests.support.replayed import records_of

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, str]


@pytest.fixture(scope="module")
def tables() -> dict[str, list[Row]]:
    """Return the rows of each table."""
    with tarfile.open(SAMPLE_DIR / "ravenstack.tar.gz") as packed:
        found = {}
        for table in ("accounts", "subscriptions", "feature_usage", "support_tickets", "churn_events"):
            member = packed.extractfile(f"ravenstack/ravenstack_{table}.csv")
            assert member is not None
            found[table] = list(csv.DictReader(io.StringIO(member.read().decode(), newline="")))
    return found


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """Return every event of the data set."""
    return list(ravenstack.corpus(SAMPLE_DIR).events())


def _of(events: list[Event], event_type: str) -> list[Event]:
    return [event for event in events if event["type"] == event_type]


def test_events_come_in_the_order_of_their_time(events: list[Event]) -> None:
    """The times of all topics together never go back."""
    times = [event["time"] for event in events]
    assert times == sorted(times)


def test_ids_are_unique_and_the_same_in_every_replay(events: list[Event]) -> None:
    """A second replay makes the same events with the same ids, so that it is recognised as one."""
    assert len({event["id"] for event in events}) == len(events)
    assert all(event["source"] == "/replay/ravenstack" for event in events)
    assert list(ravenstack.corpus(SAMPLE_DIR).events()) == events


def test_every_event_is_valid(events: list[Event]) -> None:
    """The service's own decoder rejects none of them."""
    by_topic: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_topic[topic_of(event["type"])].append(event)
    assert set(by_topic) == {"usage-events", "ticket-events", "payment-events", "account-events", "survey-events"}
    for topic, of_topic in by_topic.items():
        decoded = decode_batch(topic, records_of(of_topic))
        assert not decoded.rejected
        assert len(decoded.events) == len(of_topic)


def test_rows_and_events_agree_in_number(events: list[Event], tables: dict[str, list[Row]]) -> None:
    """No row is lost and none is sent twice."""
    subscriptions, usage, tickets = tables["subscriptions"], tables["feature_usage"], tables["support_tickets"]
    assert Counter(event["type"] for event in events) == {
        "account.created": len(tables["accounts"]),
        "subscription.upserted": len(subscriptions) + sum(bool(row["end_date"]) for row in subscriptions),
        "usage.event": len(usage),
        "usage.error": sum(row["error_count"] != "0" for row in usage),
        "ticket.created": len(tickets),
        "ticket.replied": len(tickets),
        "ticket.status_changed": len(tickets),
        "account.stage_changed": len(tables["churn_events"]),
        "refund.created": sum(float(row["refund_amount_usd"]) > 0 for row in tables["churn_events"]),
        "survey.answered": sum(bool(row["satisfaction_score"]) for row in tickets),
        "feedback.received": sum(bool(row["feedback_text"]) for row in tables["churn_events"]),
    }
    assert ravenstack.corpus(SAMPLE_DIR).count(Window()) == len(events) == 47_086


def test_usage_belongs_to_the_account_of_its_subscription(events: list[Event], tables: dict[str, list[Row]]) -> None:
    """Day, account, feature, count and duration are those of the row; its errors stand beside it."""
    owners = {row["subscription_id"]: row["account_id"] for row in tables["subscriptions"]}
    used = {event["id"].partition(":")[2]: event for event in _of(events, "usage.event")}
    failed = {event["id"].partition(":")[2]: event for event in _of(events, "usage.error")}
    for row in tables["feature_usage"]:
        event = used[row["usage_id"]]
        assert (event["time"][:10], event["subject"]) == (row["usage_date"], owners[row["subscription_id"]])
        assert event["data"]["feature"] == row["feature_name"]
        assert event["data"]["count"] == int(row["usage_count"])
        assert event["data"]["duration_ms"] == int(row["usage_duration_secs"]) * 1000
        if row["error_count"] != "0":
            error = failed[row["usage_id"]]
            assert (error["time"], error["subject"]) == (event["time"], event["subject"])
            assert error["data"]["count"] == int(row["error_count"])


def test_a_subscription_is_worth_what_the_table_says(events: list[Event], tables: dict[str, list[Row]]) -> None:
    """The price times the seats, a month, is the MRR of the row; its end is a newer version."""
    versions: dict[object, list[Event]] = defaultdict(list)
    for event in _of(events, "subscription.upserted"):
        versions[event["data"]["subscription_id"]].append(event)
    for row in tables["subscriptions"]:
        begun, *ended = versions[row["subscription_id"]]
        items = begun["data"]["items"]
        assert isinstance(items, list)
        (item,) = items
        months = {"month": 1, "year": 12}[item["interval"]]
        assert Decimal(item["unit_amount_minor"]) * item["quantity"] / months == Decimal(row["mrr_amount"]) * 100
        assert begun["data"]["status"] == ("trialing" if row["is_trial"] == "True" else "active")
        assert begun["time"][:10] == row["start_date"]
        assert [event["time"][:10] for event in ended] == ([row["end_date"]] if row["end_date"] else [])
        assert all(event["data"]["status"] == "canceled" and event["data"]["version"] == 2 for event in ended)


def test_a_ticket_is_created_answered_and_solved_when_the_table_says(events: list[Event], tables: dict[str, list[Row]]) -> None:
    """`medium` is `normal`; the first answer is an agent's and public; solved is when it was closed."""
    lives: dict[object, dict[str, Event]] = defaultdict(dict)
    for event in events:
        if event["type"].startswith("ticket."):
            lives[event["data"]["ticket_id"]][event["type"]] = event
    for row in tables["support_tickets"]:
        life = lives[row["ticket_id"]]
        created, replied, solved = (life[f"ticket.{kind}"] for kind in ("created", "replied", "status_changed"))
        assert created["time"] == row["submitted_at"] + "T00:00:00Z"
        assert created["data"]["priority"] == row["priority"].replace("medium", "normal")
        minutes = int(row["first_response_time_minutes"])
        assert replied["time"] == f"{row['submitted_at']}T{minutes // 60:02}:{minutes % 60:02}:00Z"
        assert (replied["data"]["author_role"], replied["data"]["public"]) == ("agent", True)
        assert solved["time"] == row["closed_at"].replace(" ", "T") + "Z"
        assert solved["data"]["to"] == "solved"
        assert solved["data"]["from"] == ("open" if replied["time"] <= solved["time"] else "new")


def test_satisfaction_is_answered_on_its_scale_when_the_ticket_was_closed(events: list[Event], tables: dict[str, list[Row]]) -> None:
    """Row for row, blank ones left out."""
    made = {event["data"]["ticket_id"]: (event["time"], event["data"]["score"]) for event in _of(events, "survey.answered")}
    closed = {event["data"]["ticket_id"]: event["time"] for event in _of(events, "ticket.status_changed")}
    rated = [row for row in tables["support_tickets"] if row["satisfaction_score"]]
    assert made == {row["ticket_id"]: (closed[row["ticket_id"]], float(row["satisfaction_score"])) for row in rated}
    assert {score for _, score in made.values()} <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_refunds_are_positive_money_in_cents(events: list[Event], tables: dict[str, list[Row]]) -> None:
    """Each churn event with money given back is one refund of that amount."""
    refunds = {event["data"]["refund_id"]: event["data"]["amount"] for event in _of(events, "refund.created")}
    assert refunds == {
        row["churn_event_id"]: {"amount_minor": int(Decimal(row["refund_amount_usd"]) * 100), "currency": "USD"}
        for row in tables["churn_events"]
        if Decimal(row["refund_amount_usd"]) > 0
    }


def test_unpacked_tables_give_the_same_events(tmp_path: Path, events: list[Event]) -> None:
    """The archive or its CSV files, in a folder of their own or not: the events are the same."""
    with tarfile.open(SAMPLE_DIR / "ravenstack.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    assert list(ravenstack.corpus(tmp_path).events()) == events
    assert list(ravenstack.corpus(tmp_path / "ravenstack").events()) == events


def test_a_directory_without_the_data_is_refused(tmp_path: Path) -> None:
    """The error names the directory and the archive it should hold."""
    with pytest.raises(ReplayDataError, match="ravenstack"):
        ravenstack.corpus(tmp_path)


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    """The error says so, with no traceback of the archive's format."""
    (tmp_path / "ravenstack.tar.gz").write_bytes((SAMPLE_DIR / "ravenstack.tar.gz").read_bytes()[:10_000])
    with pytest.raises(ReplayDataError, match="cannot be unpacked"):
        ravenstack.corpus(tmp_path)
