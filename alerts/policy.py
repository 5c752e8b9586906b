"""Whether a person should hear of an account now, and why: a pure function from state and facts to a decision.

The condition of an account's one alert moves through spec/alerts.md section 1.2, rows 1 to 8 and 18:

    OK -> PENDING -> FIRING <-> RECOVERING -> OK

What that page leaves open is decided here:

- **Two waits.** `pending_for.at_risk` runs from the first assessment below `at_risk.enter`, and runs on while the
  account is critical. `pending_for.critical` runs from the assessment that found the account critical, and starts anew
  when it comes back to critical. Whichever is over first opens the alert, with the severity that holds at that moment;
  `rule` says whose wait it was.
- **A wait of 0** opens at the first assessment, whatever `min_evaluations` is: evaluations guard a wait, and there is
  none.
- **Open alerts worsen and improve at once**: the hysteresis between enter and exit is their guard.
- **RECOVERING keeps the severity.** A score back below `at_risk.exit` returns to FIRING, silently unless another
  severity holds then.
- **No data holds everything.** Without a usable score nothing opens, is resolved or is counted. The waits run on, but
  only an assessment with data acts on them.
- **A deleted account** has no alert: what is open is resolved, what is pending is dropped.

Times are microseconds since 1970, scores ten-thousandths of a point. `now` may be a little earlier than at the last
decision: no time has passed then. The same facts at the same instant change nothing a second time.
"""

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from alerts.rules import AlertRules
from models.row import NEVER

_EVALUATIONS_MAX = 2**32 - 1  # the width of its column


class Condition(IntEnum):
    """Where an account's alert is in its life; the numbers are stored."""

    OK = 0
    PENDING = 1
    FIRING = 2
    RECOVERING = 3


class Severity(IntEnum):
    """How bad it is; the numbers are stored, and a greater one is worse."""

    NONE = 0
    AT_RISK = 1
    CRITICAL = 2


class Kind(StrEnum):
    """What happened to an alert; `alert.<kind>` is the type of its event."""

    OPENED = "opened"
    REOPENED = "reopened"
    SEVERITY_CHANGED = "severity_changed"
    RESOLVED = "resolved"


class Reason(StrEnum):
    """Why an alert said something, or why it did not."""

    FIRST_NOTIFICATION = "first_notification"  # the wait is over: a new alert
    REOPENED = "reopened"  # the wait is over, and the last alert was resolved only lately
    SEVERITY_CHANGED = "severity_changed"  # an open alert became worse or better
    RECOVERED = "recovered"  # the score stayed recovered for long enough
    ACCOUNT_CLOSED = "account_closed"  # the account was deleted
    PENDING = "pending"  # in an enter band, not for long enough yet
    PENDING_CLEARED = "pending_cleared"  # left the enter band before the wait was over
    RECOVERING = "recovering"  # above the exit, not for long enough yet
    RELAPSED = "relapsed"  # back below the exit while recovering
    INSUFFICIENT_DATA = "insufficient_data"  # no score that may be used
    UNCHANGED = "unchanged"  # nothing to say


@dataclass(frozen=True, slots=True)
class AlertState:
    """What is kept of an account's alert: integers, for the columns of a row; `NEVER` is a time that has not come.

    `severity` is that of the open alert, or of the pending one. `episode` numbers the account's alerts, `sequence` its
    events. `since_us` is when PENDING or RECOVERING began, `critical_since_us` when a pending account became critical.
    `evaluations` counts the distinct instants of assessment while pending, `evaluated_at_us` is the last of them.
    `opened_at_us` and `resolved_at_us` are of the newest episode; reopening keeps the first and clears the second.
    `rule` is the severity whose wait opened the alert.
    """

    condition: Condition
    severity: Severity
    episode: int
    sequence: int
    since_us: int
    evaluations: int
    evaluated_at_us: int
    opened_at_us: int
    resolved_at_us: int
    critical_since_us: int
    rule: Severity


EMPTY = AlertState(
    condition=Condition.OK,
    severity=Severity.NONE,
    episode=0,
    sequence=0,
    since_us=NEVER,
    evaluations=0,
    evaluated_at_us=NEVER,
    opened_at_us=NEVER,
    resolved_at_us=NEVER,
    critical_since_us=NEVER,
    rule=Severity.NONE,
)
"""The state of an account that never had an alert."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one assessment says about an account; `score` is in ten-thousandths of a point, None when there is none."""

    score: int | None
    is_insufficient: bool
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Transition:
    """One event of an alert's life. `previous_severity` is the severity before it: NONE when the alert was not open."""

    kind: Kind
    severity: Severity
    previous_severity: Severity
    sequence: int
    episode: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """The state from now on, what to say, why, and when to look again if nothing happens before (None: no need).

    `due_us` is later than `now`. Where `min_evaluations` asks for more assessments than the wait has had, the looks are
    spread over the rest of the wait, so that an account which fell silent still opens on time.
    """

    state: AlertState
    transitions: tuple[Transition, ...]
    reason: Reason
    due_us: int | None


def decide(previous: AlertState, facts: Facts, now_us: int, rules: AlertRules) -> Decision:
    """What this assessment means for the account's alert."""
    is_open = previous.condition in (Condition.FIRING, Condition.RECOVERING)
    if facts.is_closed:
        if is_open:
            return _resolve(previous, now_us, Reason.ACCOUNT_CLOSED)
        return _quiet(_without_pending(previous), Reason.ACCOUNT_CLOSED)
    if facts.is_insufficient or facts.score is None:
        return _quiet(previous, Reason.INSUFFICIENT_DATA)
    if is_open:
        return _follow(previous, facts.score, now_us, rules)
    return _await(previous, facts.score, now_us, rules)


def _quiet(state: AlertState, reason: Reason, due_us: int | None = None) -> Decision:
    return Decision(state, (), reason, due_us)


def _say(state: AlertState, kind: Kind, severity: Severity, previous_severity: Severity, reason: Reason) -> Decision:
    """A decision that emits one event; the state already carries its sequence and episode."""
    return Decision(state, (Transition(kind, severity, previous_severity, state.sequence, state.episode, reason),), reason, None)


def _elapsed_us(since_us: int, now_us: int) -> int:
    return max(0, now_us - since_us)


def _entered(score: int, rules: AlertRules) -> Severity:
    """The worst severity whose enter band the score is in."""
    if score < rules.health.critical.enter_fixed:
        return Severity.CRITICAL
    return Severity.AT_RISK if score < rules.health.at_risk.enter_fixed else Severity.NONE


def _held(severity: Severity, score: int, rules: AlertRules) -> Severity:
    """The severity of an open alert whose score is below the at-risk exit: critical holds up to its own exit."""
    critical = rules.health.critical
    limit = critical.exit_fixed if severity == Severity.CRITICAL else critical.enter_fixed
    return Severity.CRITICAL if score < limit else Severity.AT_RISK


# Not open: rows 1 to 3b.


def _await(previous: AlertState, score: int, now_us: int, rules: AlertRules) -> Decision:
    severity = _entered(score, rules)
    if severity == Severity.NONE:
        is_pending = previous.condition == Condition.PENDING
        return _quiet(_without_pending(previous), Reason.PENDING_CLEARED if is_pending else Reason.UNCHANGED)
    pending = _counted(previous, severity, now_us)
    rule = _ready_rule(pending, now_us, rules)
    if rule == Severity.NONE:
        return _quiet(pending, Reason.PENDING, _pending_due_us(pending, now_us, rules))
    return _open(pending, rule, now_us, rules)


def _without_pending(state: AlertState) -> AlertState:
    return _settled(state) if state.condition == Condition.PENDING else state


def _settled(state: AlertState) -> AlertState:
    """OK, with no wait running; what is known of the last episode stays, for the reopen window."""
    return replace(
        state,
        condition=Condition.OK,
        severity=Severity.NONE,
        since_us=NEVER,
        evaluations=0,
        evaluated_at_us=NEVER,
        critical_since_us=NEVER,
    )


def _counted(previous: AlertState, severity: Severity, now_us: int) -> AlertState:
    """PENDING, with this assessment counted unless its instant was counted before."""
    is_critical = severity == Severity.CRITICAL
    if previous.condition != Condition.PENDING:
        return replace(
            previous,
            condition=Condition.PENDING,
            severity=severity,
            since_us=now_us,
            evaluations=1,
            evaluated_at_us=now_us,
            critical_since_us=now_us if is_critical else NEVER,
        )
    was_critical = previous.severity == Severity.CRITICAL
    is_new_instant = now_us > previous.evaluated_at_us
    return replace(
        previous,
        severity=severity,
        evaluations=min(_EVALUATIONS_MAX, previous.evaluations + is_new_instant),
        evaluated_at_us=max(previous.evaluated_at_us, now_us),
        critical_since_us=(previous.critical_since_us if was_critical else now_us) if is_critical else NEVER,
    )


def _ready_rule(pending: AlertState, now_us: int, rules: AlertRules) -> Severity:
    """The worst severity whose wait is over; NONE while all waits run."""
    waits = rules.pending_for
    if pending.severity == Severity.CRITICAL and _is_over(pending, pending.critical_since_us, waits.critical, now_us, rules):
        return Severity.CRITICAL
    return Severity.AT_RISK if _is_over(pending, pending.since_us, waits.at_risk, now_us, rules) else Severity.NONE


def _is_over(pending: AlertState, since_us: int, wait_us: int, now_us: int, rules: AlertRules) -> bool:
    if wait_us == 0:
        return True
    return _elapsed_us(since_us, now_us) >= wait_us and pending.evaluations >= rules.min_evaluations


def _pending_due_us(pending: AlertState, now_us: int, rules: AlertRules) -> int:
    """When to assess a pending account next: such that the evaluations it lacks are made by the end of its wait."""
    deadline_us = pending.since_us + rules.pending_for.at_risk
    if pending.severity == Severity.CRITICAL:
        deadline_us = min(deadline_us, pending.critical_since_us + rules.pending_for.critical)
    lacking = max(1, rules.min_evaluations - pending.evaluations)
    last_us = max(now_us, pending.evaluated_at_us)
    return last_us + max(1, -(-(deadline_us - last_us) // lacking))


def _open(pending: AlertState, rule: Severity, now_us: int, rules: AlertRules) -> Decision:
    is_reopened = pending.episode > 0 and _elapsed_us(pending.resolved_at_us, now_us) < rules.reopen_window
    state = AlertState(
        condition=Condition.FIRING,
        severity=pending.severity,
        episode=pending.episode if is_reopened else pending.episode + 1,
        sequence=pending.sequence + 1,
        since_us=NEVER,
        evaluations=0,
        evaluated_at_us=NEVER,
        opened_at_us=pending.opened_at_us if is_reopened else now_us,
        resolved_at_us=NEVER,
        critical_since_us=NEVER,
        rule=rule,
    )
    if is_reopened:
        return _say(state, Kind.REOPENED, state.severity, Severity.NONE, Reason.REOPENED)
    return _say(state, Kind.OPENED, state.severity, Severity.NONE, Reason.FIRST_NOTIFICATION)


# Open: rows 4 to 8, and 18.


def _follow(previous: AlertState, score: int, now_us: int, rules: AlertRules) -> Decision:
    was_recovering = previous.condition == Condition.RECOVERING
    if score >= rules.health.at_risk.exit_fixed:
        since_us = previous.since_us if was_recovering else now_us
        if _elapsed_us(since_us, now_us) >= rules.recover_for:
            return _resolve(previous, now_us, Reason.RECOVERED)
        recovering = replace(previous, condition=Condition.RECOVERING, since_us=since_us)
        return _quiet(recovering, Reason.RECOVERING, since_us + rules.recover_for)
    firing = replace(previous, condition=Condition.FIRING, since_us=NEVER)
    severity = _held(previous.severity, score, rules)
    if severity != previous.severity:
        changed = replace(firing, severity=severity, sequence=firing.sequence + 1)
        return _say(changed, Kind.SEVERITY_CHANGED, severity, previous.severity, Reason.SEVERITY_CHANGED)
    return _quiet(firing, Reason.RELAPSED if was_recovering else Reason.UNCHANGED)


def _resolve(previous: AlertState, now_us: int, reason: Reason) -> Decision:
    """OK; the event still says how severe the alert was, so that it reaches whoever was told."""
    state = replace(_settled(previous), sequence=previous.sequence + 1, resolved_at_us=now_us)
    return _say(state, Kind.RESOLVED, previous.severity, previous.severity, reason)


def needs_decision(
    condition: NDArray[np.integer[Any]],
    severity: NDArray[np.integer[Any]],
    scores: NDArray[np.integer[Any]],
    insufficient: NDArray[np.bool_],
    closed: NDArray[np.bool_],
    rules: AlertRules,
) -> NDArray[np.bool_]:
    """Which accounts `decide` must be asked about, each array `(n_accounts,)`; a score that does not exist is negative.

    Where it is False, `decide` would keep the state, emit nothing and set no time to look again.
    """
    at_risk, critical = rules.health.at_risk, rules.health.critical
    has_score = ~insufficient & (scores >= 0)
    is_ok = (condition == Condition.OK) & (closed | ~has_score | (scores >= at_risk.enter_fixed))
    holds_critical = (severity == Severity.CRITICAL) & (scores < critical.exit_fixed)
    holds_at_risk = (severity == Severity.AT_RISK) & (scores >= critical.enter_fixed) & (scores < at_risk.exit_fixed)
    is_firing = (condition == Condition.FIRING) & ~closed & (~has_score | holds_critical | holds_at_risk)
    return cast("NDArray[np.bool_]", ~(is_ok | is_firing))
