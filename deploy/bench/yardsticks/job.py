"""The yardsticks' job on one account, one event at a time, as it is first written: plain Python, plain types.

The same as in ChurnStreams.java, so that both keep and count the same.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

RING_DAYS: Final = 30
ALERT_RISK: Final = 0.75
_DAY_SECONDS: Final = 86_400
_WEEK: Final = 7

Account = dict[str, Any]
"""What is kept: `uses` by day modulo 30, the newest `day`, `users` as bits, counters, and the last score."""


def new_account() -> Account:
    """Return an account of which nothing is known."""
    return {
        "uses": [0] * RING_DAYS,
        "day": 0,
        "users": 0,
        "tickets_open": 0,
        "is_payment_failed": False,
        "failures": 0,
        "newest": 0,
        "health": 0.0,
        "risk": 0.0,
        "is_alerted": False,
    }


def fold(account: Account, kind: str, time: str, data: dict[str, Any]) -> int:
    """Fold an event of a type into its account, and return the uses that it counted."""
    at = datetime.fromisoformat(time).astimezone(UTC).timestamp()
    today = int(at // _DAY_SECONDS)
    _advance(account, today)
    account["newest"] = max(account["newest"], int(at * 1000))
    if kind in {"usage.event", "usage.page", "usage.session"}:
        count: int = data.get("count", 1)
        if today > account["day"] - RING_DAYS:
            account["uses"][today % RING_DAYS] += count
        if user := data.get("user_id"):
            account["users"] |= 1 << (int(user[-2:]) & 63)
        return count
    if kind == "ticket.created":
        account["tickets_open"] += 1
    elif kind == "ticket.status_changed" and data["to"] == "solved":
        account["tickets_open"] = max(0, account["tickets_open"] - 1)
    elif kind in {"charge.failed", "invoice.payment_failed"}:
        account["is_payment_failed"] = True
        account["failures"] += 1
    elif kind in {"charge.succeeded", "invoice.paid"}:
        account["is_payment_failed"] = False
        account["failures"] = 0
    return 0


def _advance(account: Account, today: int) -> None:
    """Make room for the days since the newest one."""
    for day in range(max(account["day"] + 1, today - RING_DAYS + 1), today + 1):
        account["uses"][day % RING_DAYS] = 0
    account["day"] = max(account["day"], today)


def score(account: Account) -> bool:
    """Score an account; whether its risk has just crossed the line."""
    day = account["day"]
    uses = [account["uses"][(day - back) % RING_DAYS] for back in range(RING_DAYS)]
    active = [back for back, count in enumerate(uses) if count]
    uses_7, uses_before, uses_30 = sum(uses[:_WEEK]), sum(uses[_WEEK : 2 * _WEEK]), sum(uses)
    pace = uses_7 / (uses_30 * _WEEK / RING_DAYS + 1.0)
    trend = (uses_7 - uses_before) / (uses_7 + uses_before + 1.0)
    active_30, active_7 = len(active), sum(back < _WEEK for back in active)
    idle = active[0] if active else RING_DAYS
    seen = account["users"].bit_count()
    tickets, failures = account["tickets_open"], account["failures"]
    failed = 1.0 if account["is_payment_failed"] else 0.0
    points = (
        45.0
        + 0.05 * uses_7
        + 0.02 * uses_30
        + 6.0 * pace
        + 0.8 * active_30
        + 1.0 * active_7
        - 1.2 * idle
        + 5.0 * trend
        + 0.3 * seen
        - 4.0 * tickets
        - 15.0 * failed
        - 3.0 * failures
        + 2.0 * math.log1p(uses_30)
    )
    odds = (
        0.6
        - 0.003 * uses_7
        - 0.001 * uses_30
        - 0.5 * pace
        - 0.05 * active_30
        - 0.06 * active_7
        + 0.09 * idle
        - 0.4 * trend
        - 0.04 * seen
        + 0.45 * tickets
        + 1.3 * failed
        + 0.3 * failures
        - 0.1 * math.log1p(uses_30)
    )
    account["health"] = min(100.0, max(0.0, points))
    account["risk"] = 1.0 / (1.0 + math.exp(-odds))
    was_alerted: bool = account["is_alerted"]
    account["is_alerted"] = account["risk"] >= ALERT_RISK
    return account["is_alerted"] and not was_alerted
