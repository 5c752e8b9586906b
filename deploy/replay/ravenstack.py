"""The simulated SaaS company RavenStack as events: accounts, subscriptions, feature usage, tickets, refunds.

How a row becomes an event, and why so:

- **Accounts** are created at their sign-up. **Subscriptions** begin and end at the beginning of their days; their price
  a seat is the MRR over the seats (twelve times that for an annual one), a trial's is 0.
- **Usage** belongs to the account of its subscription and is spread over its day by a hash of its id; errors become a
  second event beside it.
- **Tickets** are created at the beginning of their day, answered after the response time and solved when they were
  closed; a few are answered after that, and stay so.
- **Satisfaction** with a ticket (1 to 5) is answered when it was closed, by the account itself, as nobody is named.
- **Churn events** move the account to the stage `churned`, are a refund where money went back, and feedback where something was said.

The tables contradict each other (usage before its subscription, tickets before the sign-up, churn without an end of a
subscription): every row is sent as it is, at its own time. What the data do not tell is left out: the user, a ticket's
channel and kind. So is what only the future knew: `churn_flag`, `upgrade_flag`, `downgrade_flag`, `escalation_flag`
have no day.
"""

from __future__ import annotations

import io
import tarfile
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from deploy.replay.corpus import Corpus
from deploy.replay.envelope import MIDNIGHT, Event, ReplayDataError, cents, event, rows, spread, time_of, usd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SOURCE: Final = "/replay/ravenstack"
ARCHIVE: Final = "ravenstack.tar.gz"

_TABLES: Final = {
    "accounts": (
        "account_id",
        "account_name",
        "industry",
        "country",
        "signup_date",
        "referral_source",
        "plan_tier",
        "seats",
        "is_trial",
        "churn_flag",
    ),
    "subscriptions": (
        "subscription_id",
        "account_id",
        "start_date",
        "end_date",
        "plan_tier",
        "seats",
        "mrr_amount",
        "arr_amount",
        "is_trial",
        "upgrade_flag",
        "downgrade_flag",
        "churn_flag",
        "billing_frequency",
        "auto_renew_flag",
    ),
    "feature_usage": (
        "usage_id",
        "subscription_id",
        "usage_date",
        "feature_name",
        "usage_count",
        "usage_duration_secs",
        "error_count",
        "is_beta_feature",
    ),
    "support_tickets": (
        "ticket_id",
        "account_id",
        "submitted_at",
        "closed_at",
        "resolution_time_hours",
        "priority",
        "first_response_time_minutes",
        "satisfaction_score",
        "escalation_flag",
    ),
    "churn_events": (
        "churn_event_id",
        "account_id",
        "churn_date",
        "reason_code",
        "refund_amount_usd",
        "preceding_upgrade_flag",
        "preceding_downgrade_flag",
        "is_reactivation",
        "feedback_text",
    ),
}
_PRIORITY: Final = {"low": "low", "medium": "normal", "high": "high", "urgent": "urgent"}
_MONTHS_BILLED: Final = {"monthly": 1, "annual": 12}
_INTERVAL: Final = {"monthly": "month", "annual": "year"}

Row = dict[str, str]


def find(directory: Path) -> Mapping[str, str]:
    """Return the text of each table, from the archive or the CSV files; raises `ReplayDataError` without them."""
    if (directory / ARCHIVE).is_file():
        return _unpacked(directory / ARCHIVE)
    for folder in (directory, directory / "ravenstack"):
        files = {table: folder / f"ravenstack_{table}.csv" for table in _TABLES}
        if all(file.is_file() for file in files.values()):
            return {table: file.read_text(encoding="utf-8") for table, file in files.items()}
    message = f"{directory}: neither {ARCHIVE} nor its five ravenstack_*.csv tables are there"
    raise ReplayDataError(message)


def corpus(directory: Path) -> Corpus:
    """Return the data set in a directory; raises `ReplayDataError` when it is not there."""
    tables = find(directory)
    return Corpus(
        f"RavenStack in {directory}",
        partial(events, tables),
        lambda window: sum(1 for _ in window.of(events(tables))),
    )


def events(tables: Mapping[str, str]) -> Iterator[Event]:
    """Yield every event in time order; the whole set is sorted in memory (45,000 events)."""
    return iter(sorted(_in_table_order(tables), key=time_of))


def _in_table_order(tables: Mapping[str, str]) -> Iterator[Event]:
    owners: dict[str, str] = {}
    for account in _rows(tables, "accounts"):
        yield _account_created(account)
    for subscription in _rows(tables, "subscriptions"):
        owners[subscription["subscription_id"]] = subscription["account_id"]
        yield from _subscription(subscription)
    for use in _rows(tables, "feature_usage"):
        owner = owners.get(use["subscription_id"])
        if owner is None:
            message = f"usage {use['usage_id']} is of subscription {use['subscription_id']}, which is in no row"
            raise ReplayDataError(message)
        yield from _usage(use, owner)
    for ticket in _rows(tables, "support_tickets"):
        yield from _ticket(ticket)
    for churn in _rows(tables, "churn_events"):
        yield from _churn(churn)


def _unpacked(archive: Path) -> dict[str, str]:
    tables: dict[str, str] = {}
    try:
        with tarfile.open(archive, "r:gz") as packed:
            for table in _TABLES:
                member = packed.extractfile(f"ravenstack/ravenstack_{table}.csv")
                if member is not None:
                    tables[table] = member.read().decode("utf-8")
    except (tarfile.TarError, KeyError, EOFError) as error:
        message = f"{archive}: cannot be unpacked ({error})"
        raise ReplayDataError(message, "fetch the file again") from error
    return tables


def _rows(tables: Mapping[str, str], table: str) -> Iterator[Row]:
    columns = _TABLES[table]
    for row in rows(f"ravenstack_{table}.csv", io.StringIO(tables[table], newline=""), columns):
        yield dict(zip(columns, row, strict=True))


def _event(event_type: str, object_id: str, time: str, account_id: str, data: dict[str, object]) -> Event:
    return event(SOURCE, event_type, f"{event_type}:{object_id}", time, account_id, data)


def _account_created(row: Row) -> Event:
    time = row["signup_date"] + MIDNIGHT
    facts: dict[str, object] = {
        "name": row["account_name"],
        "industry": row["industry"],
        "region": row["country"],
        "plan": row["plan_tier"],
        "seats": int(row["seats"]),
        "created_at": time,
        "lifecycle_stage": "trial" if row["is_trial"] == "True" else "customer",
        "currency": "USD",
        "custom": {"referral_source": row["referral_source"]},
    }
    return _event("account.created", row["account_id"], time, row["account_id"], facts)


def _subscription(row: Row) -> Iterator[Event]:
    subscription_id, account_id = row["subscription_id"], row["account_id"]
    started_at = row["start_date"] + MIDNIGHT
    is_trial = row["is_trial"] == "True"
    begun: dict[str, object] = {
        "subscription_id": subscription_id,
        "status": "trialing" if is_trial else "active",
        "items": [_item(row)],
        "currency": "USD",
        "started_at": started_at,
        "cancel_at_period_end": False,
        "auto_renew": row["auto_renew_flag"] == "True",
        "version": 1,
    }
    if is_trial:
        begun["trial_start"] = started_at
    yield _event("subscription.upserted", f"{subscription_id}:1", started_at, account_id, begun)
    if row["end_date"]:
        ended_at = row["end_date"] + MIDNIGHT
        ended = begun | {"status": "canceled", "canceled_at": ended_at, "ended_at": ended_at, "version": 2}
        yield _event("subscription.upserted", f"{subscription_id}:2", ended_at, account_id, ended)


def _item(row: Row) -> dict[str, object]:
    seats, billing = int(row["seats"]), row["billing_frequency"]
    a_month, rest = divmod(cents(row["mrr_amount"]), seats)
    if rest:
        message = f"subscription {row['subscription_id']}: {row['mrr_amount']} for {seats} seats is no price in cents"
        raise ReplayDataError(message)
    return {
        "item_id": row["subscription_id"],
        "product_id": row["plan_tier"],
        "price_id": f"{row['plan_tier']}-{billing}",
        "unit_amount_minor": str(a_month * _MONTHS_BILLED[billing]),
        "quantity": seats,
        "interval": _INTERVAL[billing],
        "interval_count": 1,
        "usage_type": "licensed",
    }


def _usage(row: Row, account_id: str) -> Iterator[Event]:
    usage_id, feature = row["usage_id"], row["feature_name"]
    time = spread(row["usage_date"], usage_id)
    used: dict[str, object] = {
        "event": feature,
        "feature": feature,
        "count": int(row["usage_count"]),
        "duration_ms": int(row["usage_duration_secs"]) * 1000,
        "properties": {"subscription_id": row["subscription_id"], "is_beta": row["is_beta_feature"] == "True"},
    }
    yield _event("usage.event", usage_id, time, account_id, used)
    if errors := int(row["error_count"]):
        yield _event("usage.error", usage_id, time, account_id, {"kind": feature, "count": errors})


def _ticket(row: Row) -> Iterator[Event]:
    ticket_id, account_id = row["ticket_id"], row["account_id"]
    submitted = datetime.fromisoformat(row["submitted_at"])
    replied_at = _rfc3339(submitted + timedelta(minutes=float(row["first_response_time_minutes"])))
    created: dict[str, object] = {
        "ticket_id": ticket_id,
        "priority": _PRIORITY[row["priority"]],
    }
    yield _event("ticket.created", ticket_id, _rfc3339(submitted), account_id, created)
    reply: dict[str, object] = {"ticket_id": ticket_id, "author_role": "agent", "public": True}
    yield _event("ticket.replied", f"{ticket_id}:1", replied_at, account_id, reply)
    if row["closed_at"]:
        closed_at = _rfc3339(datetime.fromisoformat(row["closed_at"]))
        solved: dict[str, object] = {
            "ticket_id": ticket_id,
            "from": "open" if replied_at <= closed_at else "new",
            "to": "solved",
        }
        yield _event("ticket.status_changed", f"{ticket_id}:solved", closed_at, account_id, solved)
        if row["satisfaction_score"]:
            answer: dict[str, object] = {
                "survey_id": ticket_id,
                "kind": "csat",
                "score": float(row["satisfaction_score"]),
                "scale_min": 1,
                "scale_max": 5,
                "user_id": account_id,
                "ticket_id": ticket_id,
            }
            yield _event("survey.answered", ticket_id, closed_at, account_id, answer)


def _churn(row: Row) -> Iterator[Event]:
    churn_id, account_id = row["churn_event_id"], row["account_id"]
    time = row["churn_date"] + MIDNIGHT
    yield _event("account.stage_changed", churn_id, time, account_id, {"from": "customer", "to": "churned"})
    refunded = usd(row["refund_amount_usd"])
    if refunded["amount_minor"]:
        refund: dict[str, object] = {
            "refund_id": churn_id,
            "amount": refunded,
            "reason": row["reason_code"],
            "cancels_subscription": True,
        }
        yield _event("refund.created", churn_id, time, account_id, refund)
    if row["feedback_text"]:
        said: dict[str, object] = {"channel": "cancellation", "text": row["feedback_text"]}
        yield _event("feedback.received", churn_id, time, account_id, said)


def _rfc3339(moment: datetime) -> str:
    """Write a time of the data, which are all UTC, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
