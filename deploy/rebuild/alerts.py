"""Which alert an account has after its past was folded again: what was said is a fact, what is only waited for comes from the fold.

Nothing that was said is said again, taken back or renumbered: whether an alert is open, how severe it was said to be, its episode and the
account's sequence are those of `churn-alerts` and `alert-state`. A wait was never said to anybody, so it is taken from the past as it
was folded again: since when an account is pending, or recovering. Where the two contradict each other, what was said counts, and the
next decision goes on from there: an alert that would be resolved by now begins to recover, an account that would have an alert by now
begins to wait for it. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from alerts.policy import EMPTY, AlertState, Condition, Severity
from models.row import NEVER
from models.times import parse_us

if TYPE_CHECKING:
    from alerts.events import AlertStateRecord

_SEVERITIES: Final = {"at_risk": Severity.AT_RISK, "critical": Severity.CRITICAL}


def said_state(record: AlertStateRecord | None) -> AlertState:
    """Return the alert that an account was said to have; instants are known to the millisecond."""
    if record is None:
        return EMPTY
    is_open = record.resolved_at is None
    return AlertState(
        condition=Condition.FIRING if is_open else Condition.OK,
        severity=_SEVERITIES[record.severity] if is_open else Severity.NONE,
        episode=record.episode,
        sequence=record.sequence,
        since_us=NEVER,
        evaluations=0,
        evaluated_at_us=NEVER,
        opened_at_us=parse_us(record.opened_at),
        resolved_at_us=NEVER if record.resolved_at is None else parse_us(record.resolved_at),
        critical_since_us=NEVER,
        rule=_SEVERITIES[record.rule],
    )


def carried_over(folded: AlertState, record: AlertStateRecord | None) -> AlertState:
    """Return the alert of an account whose past was folded again to `folded`, and of which `record` was said last."""
    said = said_state(record)
    if said.condition == Condition.FIRING:
        if folded.condition == Condition.RECOVERING:
            return replace(said, condition=Condition.RECOVERING, since_us=folded.since_us)
        return said
    if folded.condition == Condition.PENDING:
        return replace(
            said,
            condition=Condition.PENDING,
            severity=folded.severity,
            since_us=folded.since_us,
            evaluations=folded.evaluations,
            evaluated_at_us=folded.evaluated_at_us,
            critical_since_us=folded.critical_since_us,
        )
    return said
