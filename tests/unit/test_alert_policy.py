"""The alert policy: every row of spec/alerts.md section 1.2 that it covers, and what must hold on any history."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.policy import (
    EMPTY,
    AlertState,
    Condition,
    Decision,
    Facts,
    Kind,
    Reason,
    Severity,
    Transition,
    decide,
    needs_decision,
)
from alerts.rules import AlertRules
from models import row

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
T0 = 1_790_000_000 * SECOND  # an instant in September 2026

RULES = AlertRules()
AT_ONCE = AlertRules.model_validate({"pending_for": {"at_risk": 0, "critical": 0}})

NO_DATA = Facts(None, is_insufficient=True, is_closed=False)
THIN_DATA = Facts(100_000, is_insufficient=True, is_closed=False)
CLOSED = Facts(800_000, is_insufficient=False, is_closed=True)


def at(points: float) -> Facts:
    """An assessment with that health score."""
    return Facts(round(points * 10_000), is_insufficient=False, is_closed=False)


def after(*steps: tuple[Facts, int], rules: AlertRules = RULES, start: AlertState = EMPTY) -> AlertState:
    """The state after assessments, each at its offset from T0 in microseconds."""
    state = start
    for facts, offset in steps:
        state = decide(state, facts, T0 + offset, rules).state
    return state


PENDING = after((at(40), 0))
PENDING_CRITICAL = after((at(20), 0))
FIRING = after((at(40), 0), (at(40), 30 * MINUTE))
FIRING_CRITICAL = after((at(20), 0), (at(20), 5 * MINUTE))
RECOVERING = after((at(60), HOUR), start=FIRING)
RECOVERING_CRITICAL = after((at(60), HOUR), start=FIRING_CRITICAL)
RESOLVED = after((at(60), 25 * HOUR), start=RECOVERING)
PENDING_AGAIN = after((at(40), 26 * HOUR), start=RESOLVED)
PENDING_LONG_AFTER = after((at(40), 200 * HOUR), start=RESOLVED)


@dataclass(frozen=True)
class Case:
    """One row of the table: what is assessed, when, and what must come of it."""

    before: AlertState
    facts: Facts
    offset: int
    condition: Condition
    severity: Severity
    kind: Kind | None
    reason: Reason


OK_, PENDING_, FIRING_, RECOVERING_ = Condition
NONE_, AT_RISK_, CRITICAL_ = Severity

TABLE = {
    "healthy: nothing": Case(EMPTY, at(80), 0, OK_, NONE_, None, Reason.UNCHANGED),
    "at enter: not below it": Case(EMPTY, at(50), 0, OK_, NONE_, None, Reason.UNCHANGED),
    "1 below enter: pending": Case(EMPTY, at(49.9999), 0, PENDING_, AT_RISK_, None, Reason.PENDING),
    "1 below critical enter: pending critical": Case(EMPTY, at(24.9999), 0, PENDING_, CRITICAL_, None, Reason.PENDING),
    "1 at critical enter: pending at risk": Case(EMPTY, at(25), 0, PENDING_, AT_RISK_, None, Reason.PENDING),
    "1 score zero is a score": Case(EMPTY, at(0), 0, PENDING_, CRITICAL_, None, Reason.PENDING),
    "1 no score: never pending": Case(EMPTY, NO_DATA, 0, OK_, NONE_, None, Reason.INSUFFICIENT_DATA),
    "1 thin data: never pending": Case(EMPTY, THIN_DATA, 0, OK_, NONE_, None, Reason.INSUFFICIENT_DATA),
    "2 left in time": Case(PENDING, at(50), 29 * MINUTE, OK_, NONE_, None, Reason.PENDING_CLEARED),
    "2 left when the wait is over": Case(PENDING, at(50), HOUR, OK_, NONE_, None, Reason.PENDING_CLEARED),
    "2 wait not over": Case(PENDING, at(40), 30 * MINUTE - 1, PENDING_, AT_RISK_, None, Reason.PENDING),
    "2 critical wait not over": Case(PENDING_CRITICAL, at(20), 5 * MINUTE - 1, PENDING_, CRITICAL_, None, Reason.PENDING),
    "2 pending improves to at risk": Case(PENDING_CRITICAL, at(30), 5 * MINUTE, PENDING_, AT_RISK_, None, Reason.PENDING),
    "3 wait over": Case(PENDING, at(40), 30 * MINUTE, FIRING_, AT_RISK_, Kind.OPENED, Reason.FIRST_NOTIFICATION),
    "3 critical wait over": Case(PENDING_CRITICAL, at(20), 5 * MINUTE, FIRING_, CRITICAL_, Kind.OPENED, Reason.FIRST_NOTIFICATION),
    "3 no data: never opens": Case(PENDING, NO_DATA, HOUR, PENDING_, AT_RISK_, None, Reason.INSUFFICIENT_DATA),
    "3 thin data: never opens": Case(PENDING, THIN_DATA, HOUR, PENDING_, AT_RISK_, None, Reason.INSUFFICIENT_DATA),
    "3b soon after the last": Case(PENDING_AGAIN, at(40), 27 * HOUR, FIRING_, AT_RISK_, Kind.REOPENED, Reason.REOPENED),
    "3b just inside the window": Case(PENDING_AGAIN, at(40), 97 * HOUR - 1, FIRING_, AT_RISK_, Kind.REOPENED, Reason.REOPENED),
    "3b the window is over": Case(PENDING_AGAIN, at(40), 97 * HOUR, FIRING_, AT_RISK_, Kind.OPENED, Reason.FIRST_NOTIFICATION),
    "3b long after the last": Case(PENDING_LONG_AFTER, at(40), 201 * HOUR, FIRING_, AT_RISK_, Kind.OPENED, Reason.FIRST_NOTIFICATION),
    "4 worse, at once": Case(FIRING, at(24.9999), HOUR, FIRING_, CRITICAL_, Kind.SEVERITY_CHANGED, Reason.SEVERITY_CHANGED),
    "4 at critical enter: as it was": Case(FIRING, at(25), HOUR, FIRING_, AT_RISK_, None, Reason.UNCHANGED),
    "5 better, at the critical exit": Case(
        FIRING_CRITICAL, at(32), HOUR, FIRING_, AT_RISK_, Kind.SEVERITY_CHANGED, Reason.SEVERITY_CHANGED
    ),
    "5 below the critical exit: as it was": Case(FIRING_CRITICAL, at(31.9999), HOUR, FIRING_, CRITICAL_, None, Reason.UNCHANGED),
    "5 above at-risk enter, below its exit": Case(
        FIRING_CRITICAL, at(55), HOUR, FIRING_, AT_RISK_, Kind.SEVERITY_CHANGED, Reason.SEVERITY_CHANGED
    ),
    "6 at the exit": Case(FIRING, at(57), HOUR, RECOVERING_, AT_RISK_, None, Reason.RECOVERING),
    "6 below the exit: as it was": Case(FIRING, at(56.9999), HOUR, FIRING_, AT_RISK_, None, Reason.UNCHANGED),
    "6 from critical, severity kept": Case(FIRING_CRITICAL, at(57), HOUR, RECOVERING_, CRITICAL_, None, Reason.RECOVERING),
    "6 no data: no recovery": Case(FIRING, NO_DATA, HOUR, FIRING_, AT_RISK_, None, Reason.INSUFFICIENT_DATA),
    "7 back below the exit": Case(RECOVERING, at(56.9999), 2 * HOUR, FIRING_, AT_RISK_, None, Reason.RELAPSED),
    "7 back, the wait being over": Case(RECOVERING, at(56), 99 * HOUR, FIRING_, AT_RISK_, None, Reason.RELAPSED),
    "7 back below the critical exit": Case(RECOVERING_CRITICAL, at(31), 2 * HOUR, FIRING_, CRITICAL_, None, Reason.RELAPSED),
    "7+5 back, but only at risk": Case(
        RECOVERING_CRITICAL, at(40), 2 * HOUR, FIRING_, AT_RISK_, Kind.SEVERITY_CHANGED, Reason.SEVERITY_CHANGED
    ),
    "7+4 back, and worse": Case(RECOVERING, at(10), 2 * HOUR, FIRING_, CRITICAL_, Kind.SEVERITY_CHANGED, Reason.SEVERITY_CHANGED),
    "8 wait not over": Case(RECOVERING, at(60), 25 * HOUR - 1, RECOVERING_, AT_RISK_, None, Reason.RECOVERING),
    "8 wait over": Case(RECOVERING, at(60), 25 * HOUR, OK_, NONE_, Kind.RESOLVED, Reason.RECOVERED),
    "8 from critical": Case(RECOVERING_CRITICAL, at(60), 25 * HOUR, OK_, NONE_, Kind.RESOLVED, Reason.RECOVERED),
    "8 no data: never resolves": Case(RECOVERING, NO_DATA, 99 * HOUR, RECOVERING_, AT_RISK_, None, Reason.INSUFFICIENT_DATA),
    "18 closed while firing": Case(FIRING, CLOSED, HOUR, OK_, NONE_, Kind.RESOLVED, Reason.ACCOUNT_CLOSED),
    "18 closed while recovering": Case(RECOVERING, CLOSED, 2 * HOUR, OK_, NONE_, Kind.RESOLVED, Reason.ACCOUNT_CLOSED),
    "18 closed without a score": Case(
        FIRING,
        Facts(None, is_insufficient=True, is_closed=True),
        HOUR,
        OK_,
        NONE_,
        Kind.RESOLVED,
        Reason.ACCOUNT_CLOSED,
    ),
    "18 closed while pending": Case(PENDING, CLOSED, HOUR, OK_, NONE_, None, Reason.ACCOUNT_CLOSED),
    "18 closed with no alert": Case(EMPTY, Facts(0, is_insufficient=False, is_closed=True), 0, OK_, NONE_, None, Reason.ACCOUNT_CLOSED),
    "21 the same instant again": Case(PENDING, at(40), 0, PENDING_, AT_RISK_, None, Reason.PENDING),
    "21 an earlier instant": Case(PENDING, at(40), -HOUR, PENDING_, AT_RISK_, None, Reason.PENDING),
    "21 nothing new while firing": Case(FIRING, at(40), HOUR, FIRING_, AT_RISK_, None, Reason.UNCHANGED),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_each_row_of_the_state_machine(case: Case) -> None:
    """An assessment moves the alert as its row says, with its reason, and says what the row says it emits."""
    decision = decide(case.before, case.facts, T0 + case.offset, RULES)
    assert (decision.state.condition, decision.state.severity) == (case.condition, case.severity)
    assert [transition.kind for transition in decision.transitions] == ([] if case.kind is None else [case.kind])
    assert decision.reason == case.reason
    assert all(transition.reason == case.reason for transition in decision.transitions)
    if case.kind is None:
        assert decision.state.sequence == case.before.sequence


def test_an_opened_alert_carries_its_identity() -> None:
    """The first alert is episode 1, its first event sequence 1; the state knows when it opened and by which rule."""
    decision = decide(PENDING, at(40), T0 + 30 * MINUTE, RULES)
    assert decision.transitions == (Transition(Kind.OPENED, AT_RISK_, NONE_, sequence=1, episode=1, reason=Reason.FIRST_NOTIFICATION),)
    assert decision.state == AlertState(
        condition=FIRING_,
        severity=AT_RISK_,
        episode=1,
        sequence=1,
        since_us=row.NEVER,
        evaluations=0,
        evaluated_at_us=row.NEVER,
        opened_at_us=T0 + 30 * MINUTE,
        resolved_at_us=row.NEVER,
        critical_since_us=row.NEVER,
        rule=AT_RISK_,
    )


def test_a_change_of_severity_says_what_it_was() -> None:
    """The event of a change carries both severities and the next sequence of the same episode."""
    worse = decide(FIRING, at(20), T0 + HOUR, RULES)
    assert worse.transitions == (Transition(Kind.SEVERITY_CHANGED, CRITICAL_, AT_RISK_, 2, 1, Reason.SEVERITY_CHANGED),)
    better = decide(worse.state, at(40), T0 + 2 * HOUR, RULES)
    assert better.transitions == (Transition(Kind.SEVERITY_CHANGED, AT_RISK_, CRITICAL_, 3, 1, Reason.SEVERITY_CHANGED),)
    assert better.state.rule == AT_RISK_


def test_a_resolved_alert_says_how_severe_it_was() -> None:
    """Whoever was told of a critical alert must be told of its end, so the event still carries the severity."""
    (transition,) = decide(RECOVERING_CRITICAL, at(60), T0 + 25 * HOUR, RULES).transitions
    assert (transition.severity, transition.previous_severity) == (CRITICAL_, CRITICAL_)


def test_a_reopened_alert_is_the_same_alert() -> None:
    """Reopening keeps the episode, hence the alert_id, and when it was opened first; the sequence goes on."""
    decision = decide(PENDING_AGAIN, at(40), T0 + 27 * HOUR, RULES)
    assert (decision.state.episode, decision.state.sequence) == (1, RESOLVED.sequence + 1)
    assert decision.state.opened_at_us == FIRING.opened_at_us
    assert decision.state.resolved_at_us == row.NEVER


def test_an_alert_long_after_the_last_is_a_new_one() -> None:
    """Outside the reopen window the episode goes up by one; the sequence is the account's, so it goes on."""
    decision = decide(PENDING_LONG_AFTER, at(40), T0 + 201 * HOUR, RULES)
    assert (decision.state.episode, decision.state.sequence) == (2, RESOLVED.sequence + 1)
    assert decision.state.opened_at_us == T0 + 201 * HOUR


def test_without_a_reopen_window_nothing_is_reopened() -> None:
    """With 0 even an alert at the very instant of the last one's end is new, or before it if the clock went back."""
    rules = AlertRules.model_validate({"pending_for": {"at_risk": 0}, "recover_for": 0, "reopen_window": 0})
    resolved = after((at(40), 0), (at(60), 0), rules=rules)
    assert [t.kind for t in decide(resolved, at(40), T0, rules).transitions] == [Kind.OPENED]
    assert [t.kind for t in decide(resolved, at(40), T0 - SECOND, rules).transitions] == [Kind.OPENED]


def test_becoming_critical_never_waits_longer_than_the_critical_wait() -> None:
    """The critical wait runs from the moment the account became critical, not from when it became at risk."""
    state = after((at(40), 0), (at(20), 10 * MINUTE))
    decision = decide(state, at(20), T0 + 12 * MINUTE, RULES)
    assert decision.transitions == ()
    assert decision.due_us == T0 + 15 * MINUTE
    opened = decide(decision.state, at(20), T0 + 15 * MINUTE, RULES)
    assert (opened.state.severity, opened.state.rule) == (CRITICAL_, CRITICAL_)


def test_becoming_critical_does_not_stop_the_at_risk_wait() -> None:
    """An account that turns critical late in the at-risk wait opens when that wait is over, and as critical."""
    state = after((at(40), 0), (at(20), 28 * MINUTE))
    decision = decide(state, at(20), T0 + 30 * MINUTE, RULES)
    assert [t.kind for t in decision.transitions] == [Kind.OPENED]
    assert (decision.state.severity, decision.state.rule) == (CRITICAL_, AT_RISK_)


def test_a_dip_into_critical_and_back_leaves_the_at_risk_wait_alone() -> None:
    """The at-risk wait counts from the first assessment below its enter, whatever came between."""
    state = after((at(40), 0), (at(20), 10 * MINUTE), (at(40), 12 * MINUTE))
    assert decide(state, at(40), T0 + 30 * MINUTE - 1, RULES).transitions == ()
    assert [t.kind for t in decide(state, at(40), T0 + 30 * MINUTE, RULES).transitions] == [Kind.OPENED]


def test_a_second_dip_into_critical_waits_anew() -> None:
    """The critical wait is for staying critical, so leaving it starts it over."""
    state = after((at(20), 0), (at(40), 4 * MINUTE), (at(20), 6 * MINUTE))
    assert decide(state, at(20), T0 + 10 * MINUTE, RULES).transitions == ()
    assert [t.kind for t in decide(state, at(20), T0 + 11 * MINUTE, RULES).transitions] == [Kind.OPENED]


def test_leaving_the_enter_band_starts_the_wait_over() -> None:
    """Half an hour in two pieces is not half an hour."""
    state = after((at(40), 0), (at(52), 20 * MINUTE), (at(40), 25 * MINUTE))
    assert decide(state, at(40), T0 + 40 * MINUTE, RULES).transitions == ()
    assert [t.kind for t in decide(state, at(40), T0 + 55 * MINUTE, RULES).transitions] == [Kind.OPENED]


def test_a_wait_of_zero_opens_at_the_first_assessment() -> None:
    """Evaluations guard a wait; with none there is nothing to guard, whatever min_evaluations is."""
    rules = AlertRules.model_validate({"pending_for": {"at_risk": 0, "critical": 0}, "min_evaluations": 9})
    for points, severity in ((40, AT_RISK_), (20, CRITICAL_)):
        decision = decide(EMPTY, at(points), T0, rules)
        assert [t.kind for t in decision.transitions] == [Kind.OPENED]
        assert (decision.state.severity, decision.state.rule) == (severity, severity)


def test_a_critical_wait_of_zero_leaves_the_at_risk_wait_standing() -> None:
    """Each severity has its own wait."""
    rules = AlertRules.model_validate({"pending_for": {"critical": 0}})
    assert decide(EMPTY, at(40), T0, rules).transitions == ()
    assert [t.kind for t in decide(PENDING, at(20), T0 + SECOND, rules).transitions] == [Kind.OPENED]


def test_a_recovery_wait_of_zero_resolves_at_the_exit() -> None:
    """With recover_for 0 the alert does not pass through RECOVERING."""
    rules = AlertRules.model_validate({"recover_for": 0})
    decision = decide(FIRING, at(57), T0 + HOUR, rules)
    assert [t.kind for t in decision.transitions] == [Kind.RESOLVED]
    assert decision.state.resolved_at_us == T0 + HOUR


def test_evaluations_are_distinct_instants() -> None:
    """Assessing many times at one instant, or at an earlier one, is one evaluation: the wait alone does not open."""
    rules = AlertRules.model_validate({"min_evaluations": 3})
    state = after((at(40), 0), (at(40), 0), (at(40), -MINUTE), (at(40), 0), rules=rules)
    assert state.evaluations == 1
    second = decide(state, at(40), T0 + HOUR, rules)
    assert (second.transitions, second.state.evaluations) == ((), 2)
    assert decide(second.state, at(40), T0 + HOUR, rules).transitions == ()
    assert [t.kind for t in decide(second.state, at(40), T0 + HOUR + 1, rules).transitions] == [Kind.OPENED]


@pytest.mark.parametrize("evaluations", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(("points", "wait"), [(40, 30 * MINUTE), (20, 5 * MINUTE)])
def test_an_account_that_fell_silent_opens_on_time_by_ticks_alone(evaluations: int, points: float, wait: int) -> None:
    """Looking again whenever due opens the alert at the very end of the wait, however many looks it takes."""
    rules = AlertRules.model_validate({"min_evaluations": evaluations})
    decision = decide(EMPTY, at(points), T0, rules)
    looks, now = 1, T0
    while not decision.transitions:
        assert decision.due_us is not None
        now = decision.due_us
        decision = decide(decision.state, at(points), now, rules)
        looks += 1
    assert now == T0 + wait
    assert looks == max(2, evaluations)


def test_a_tick_after_a_long_stop_opens_with_one_more_look_at_most() -> None:
    """Overdue evaluations follow each other at once instead of waiting out the period again."""
    rules = AlertRules.model_validate({"min_evaluations": 3})
    late = decide(PENDING, at(40), T0 + 99 * HOUR, rules)
    assert late.due_us == T0 + 99 * HOUR + 1
    assert [t.kind for t in decide(late.state, at(40), late.due_us, rules).transitions] == [Kind.OPENED]


def test_a_look_that_is_due_counts_even_if_the_clock_went_back() -> None:
    """An evaluation counts from the latest instant on, so the next look is due after that one."""
    rules = AlertRules.model_validate({"pending_for": {"at_risk": "1ms"}, "min_evaluations": 3})
    back = decide(PENDING, at(40), T0 - MINUTE, rules)
    assert back.due_us is not None
    assert decide(back.state, at(40), back.due_us, rules).state.evaluations == 2


def test_a_relapse_leaves_no_trace() -> None:
    """An alert that recovered for a while and relapsed is the open alert that it was."""
    assert decide(RECOVERING, at(56), T0 + 2 * HOUR, RULES).state == FIRING


def test_a_recovering_account_is_due_when_its_wait_is_over() -> None:
    """A silent account is resolved by a tick alone."""
    decision = decide(FIRING, at(60), T0 + HOUR, RULES)
    assert decision.due_us == T0 + 25 * HOUR
    assert [t.kind for t in decide(decision.state, at(60), decision.due_us, RULES).transitions] == [Kind.RESOLVED]


def test_a_relapse_starts_the_recovery_over() -> None:
    """The condition must stay out: a day in two pieces is not a day."""
    state = after((at(50), 10 * HOUR), (at(60), 11 * HOUR), start=RECOVERING)
    assert decide(state, at(60), T0 + 35 * HOUR - 1, RULES).transitions == ()
    assert [t.kind for t in decide(state, at(60), T0 + 35 * HOUR, RULES).transitions] == [Kind.RESOLVED]


def test_time_without_data_counts_but_decides_nothing() -> None:
    """The waits run on while there is no data, and the first assessment with data acts on them."""
    pending = decide(PENDING, NO_DATA, T0 + HOUR, RULES)
    assert (pending.state, pending.due_us) == (PENDING, None)
    assert [t.kind for t in decide(pending.state, at(40), T0 + 2 * HOUR, RULES).transitions] == [Kind.OPENED]
    recovering = decide(RECOVERING, NO_DATA, T0 + 30 * HOUR, RULES)
    assert (recovering.state, recovering.due_us) == (RECOVERING, None)
    assert [t.kind for t in decide(recovering.state, at(60), T0 + 31 * HOUR, RULES).transitions] == [Kind.RESOLVED]


def test_an_account_that_comes_back_soon_reopens_its_alert() -> None:
    """Closing resolves; the same account alive and at risk again inside the window gets its old alert back."""
    closed = decide(FIRING, CLOSED, T0 + HOUR, RULES)
    assert closed.transitions == (Transition(Kind.RESOLVED, AT_RISK_, AT_RISK_, 2, 1, Reason.ACCOUNT_CLOSED),)
    assert [t.kind for t in decide(closed.state, at(40), T0 + 2 * HOUR, AT_ONCE).transitions] == [Kind.REOPENED]


def test_the_empty_state_is_that_of_an_empty_row() -> None:
    """What a new row holds is read as an account that never had an alert."""
    (new,) = row.empty(1)
    stored = {
        "since_us": "alert_since",
        "evaluated_at_us": "alert_evaluated_at",
        "opened_at_us": "alert_opened_at",
        "resolved_at_us": "alert_resolved_at",
        "critical_since_us": "alert_critical_since",
        "rule": "alert_rule",
        "episode": "alert_episode",
        "sequence": "alert_sequence",
        "evaluations": "alert_evaluations",
        "condition": "alert_condition",
        "severity": "alert_severity",
    }
    assert {name: int(new[column]) for name, column in stored.items()} == {name: getattr(EMPTY, name) for name in stored}


# What must hold on any history.


durations = st.sampled_from(["0", "1s", "1m", "5m", "30m", "1h", "1d"])
all_rules = st.builds(
    lambda at_risk, critical, evaluations, recover, reopen: AlertRules.model_validate(
        {
            "pending_for": {"at_risk": at_risk, "critical": critical},
            "min_evaluations": evaluations,
            "recover_for": recover,
            "reopen_window": reopen,
        }
    ),
    durations,
    durations,
    st.integers(1, 4),
    durations,
    durations,
)
scores = st.one_of(
    st.integers(0, 1_000_000),
    st.sampled_from([0, 249_999, 250_000, 319_999, 320_000, 499_999, 500_000, 569_999, 570_000, 1_000_000]),
)
facts_of_any_kind = st.one_of(
    *[scores.map(lambda score: Facts(score, is_insufficient=False, is_closed=False))] * 6,
    st.builds(Facts, st.none() | scores, is_insufficient=st.booleans(), is_closed=st.just(value=False)),
    st.builds(Facts, st.none() | scores, is_insufficient=st.booleans(), is_closed=st.booleans()),
)
gaps = st.one_of(
    st.integers(-5 * SECOND, 2 * HOUR),
    st.sampled_from([0, 0, 1, SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE, HOUR, 24 * HOUR, 24 * HOUR + 1]),
)
histories = st.lists(st.tuples(gaps, facts_of_any_kind), min_size=1, max_size=40)
forward_histories = st.lists(st.tuples(gaps.map(abs), facts_of_any_kind), min_size=1, max_size=40)


@dataclass(frozen=True)
class Step:
    """One assessment of a history, with the state before it and the decision."""

    previous: AlertState
    facts: Facts
    now_us: int
    decision: Decision


def lived(history: list[tuple[int, Facts]], rules: AlertRules) -> Iterator[Step]:
    """The decisions along a history of gaps and facts."""
    state, now = EMPTY, T0
    for gap, facts in history:
        now += gap
        decision = decide(state, facts, now, rules)
        yield Step(state, facts, now, decision)
        state = decision.state


def said(history: list[tuple[int, Facts]], rules: AlertRules) -> list[tuple[int, Transition]]:
    """The transitions along a history, each with its instant."""
    return [(step.now_us, t) for step in lived(history, rules) for t in step.decision.transitions]


@given(histories, all_rules)
def test_opening_and_resolving_strictly_alternate(history: list[tuple[int, Facts]], rules: AlertRules) -> None:
    """An alert is opened or reopened, then resolved, then opened or reopened; severities change only in between."""
    severity = NONE_
    for _, transition in said(history, rules):
        assert transition.previous_severity == severity
        match transition.kind:
            case Kind.OPENED | Kind.REOPENED:
                assert severity == NONE_
                severity = transition.severity
            case Kind.SEVERITY_CHANGED:
                assert NONE_ not in (severity, transition.severity)
                assert severity != transition.severity
                severity = transition.severity
            case Kind.RESOLVED:
                assert transition.severity == severity != NONE_
                severity = NONE_


@given(histories, all_rules)
def test_sequences_have_no_gap_and_episodes_never_go_back(history: list[tuple[int, Facts]], rules: AlertRules) -> None:
    """Each event is one more than the last; the episode goes up by one with `opened` and stays otherwise."""
    episode = 0
    for expected, (_, transition) in enumerate(said(history, rules), 1):
        assert transition.sequence == expected
        episode += transition.kind == Kind.OPENED
        assert transition.episode == episode


@given(histories, all_rules)
def test_only_an_alert_resolved_lately_is_reopened(history: list[tuple[int, Facts]], rules: AlertRules) -> None:
    """After a resolve, `reopened` comes inside the reopen window and `opened` outside of it."""
    resolved_at: int | None = None
    for now, transition in said(history, rules):
        if transition.kind == Kind.RESOLVED:
            resolved_at = now
        elif transition.kind in (Kind.OPENED, Kind.REOPENED):
            is_lately = resolved_at is not None and max(0, now - resolved_at) < rules.reopen_window
            assert (transition.kind == Kind.REOPENED) == is_lately


@given(histories, all_rules)
def test_the_same_facts_at_the_same_instant_change_nothing_more(history: list[tuple[int, Facts]], rules: AlertRules) -> None:
    """A decision is a function of its arguments, and repeating one says nothing twice."""
    for step in lived(history, rules):
        assert decide(step.previous, step.facts, step.now_us, rules) == step.decision
        again = decide(step.decision.state, step.facts, step.now_us, rules)
        assert (again.state, again.transitions, again.due_us) == (step.decision.state, (), step.decision.due_us)


@given(histories, all_rules)
def test_no_data_says_nothing_and_a_closed_account_has_no_alert(history: list[tuple[int, Facts]], rules: AlertRules) -> None:
    """Without data the state stays as it is; after a close it is OK."""
    for step in lived(history, rules):
        if step.facts.is_closed:
            assert step.decision.state.condition == OK_
        elif step.facts.is_insufficient or step.facts.score is None:
            assert step.decision == Decision(step.previous, (), Reason.INSUFFICIENT_DATA, None)


@given(histories, all_rules, st.floats(0, 1, exclude_max=True))
def test_nothing_is_said_before_it_is_due_and_something_changes_then(
    history: list[tuple[int, Facts]], rules: AlertRules, part: float
) -> None:
    """`due_us` is ahead; with the same facts nothing is said before it, at it the state moves; without it, never."""
    for step in lived(history, rules):
        state, due = step.decision.state, step.decision.due_us
        if due is None:
            much_later = decide(state, step.facts, step.now_us + 365 * 24 * HOUR, rules)
            assert (much_later.state, much_later.transitions) == (state, ())
            continue
        assert due > step.now_us
        between = step.now_us + int((due - step.now_us) * part)
        assert decide(state, step.facts, between, rules).transitions == ()
        assert decide(state, step.facts, due, rules).state != state


@given(histories, all_rules)
def test_a_state_fits_the_columns_of_a_row(history: list[tuple[int, Facts]], rules: AlertRules) -> None:
    """Counters are at least 0 and fit 32 bits, times fit 63, whatever the clock did."""
    for step in lived(history, rules):
        for field in fields(AlertState):
            value = getattr(step.decision.state, field.name)
            assert isinstance(value, int)
            if field.name.endswith("_us"):
                assert value == row.NEVER or T0 - HOUR <= value < 2**63
            else:
                assert 0 <= value < 2**32


@given(
    st.sampled_from([EMPTY, FIRING, RESOLVED]),
    st.lists(st.tuples(gaps.map(abs), st.integers(500_000, 569_999)), max_size=20),
)
def test_a_score_inside_the_at_risk_hysteresis_says_nothing(start: AlertState, moves: list[tuple[int, int]]) -> None:
    """Between enter and exit what was goes on: no alert opens, and an open one stays as it is, for however long."""
    state, now = start, T0 + 1000 * HOUR
    for gap, score in moves:
        now += gap
        assert decide(state, at(score / 10_000), now, AT_ONCE) == Decision(start, (), Reason.UNCHANGED, None)


@given(
    st.sampled_from([FIRING, FIRING_CRITICAL]),
    st.lists(st.tuples(gaps.map(abs), st.integers(250_000, 319_999)), max_size=20),
)
def test_a_score_inside_the_critical_hysteresis_says_nothing(start: AlertState, moves: list[tuple[int, int]]) -> None:
    """Between the critical enter and exit an alert keeps its severity."""
    state, now = start, T0 + 1000 * HOUR
    for gap, score in moves:
        now += gap
        assert decide(state, at(score / 10_000), now, AT_ONCE) == Decision(start, (), Reason.UNCHANGED, None)


def first_opening(seen: list[tuple[int, int]], rules: AlertRules) -> int | None:
    """Which assessment of (instant, score) opens the first alert, found naively from the whole history."""
    for last in range(len(seen)):
        stay = stay_below(seen[: last + 1], rules.health.at_risk.enter_fixed)
        stay_critical = stay_below(seen[: last + 1], rules.health.critical.enter_fixed)
        is_enough = len(set(stay)) >= rules.min_evaluations
        for instants, wait in ((stay, rules.pending_for.at_risk), (stay_critical, rules.pending_for.critical)):
            if instants and (wait == 0 or (is_enough and instants[-1] - instants[0] >= wait)):
                return last
    return None


def stay_below(seen: list[tuple[int, int]], enter: int) -> list[int]:
    """The instants of the unbroken run of scores below `enter` that ends with the last one."""
    instants: list[int] = []
    for now, score in reversed(seen):
        if score >= enter:
            break
        instants.insert(0, now)
    return instants


@given(st.lists(st.tuples(gaps.map(abs), scores), min_size=1, max_size=15), all_rules)
def test_the_first_alert_opens_where_the_whole_history_says(moves: list[tuple[int, int]], rules: AlertRules) -> None:
    """The state that is kept gives the same opening as looking at every assessment again."""
    steps = list(lived([(gap, at(score / 10_000)) for gap, score in moves], rules))
    openings = [place for place, step in enumerate(steps) if step.decision.transitions]
    naive = first_opening([(step.now_us, step.facts.score or 0) for step in steps], rules)
    assert (openings[0] if openings else None) == naive


@given(histories, all_rules)
def test_what_the_prefilter_leaves_out_needs_no_decision(history: list[tuple[int, Facts]], rules: AlertRules) -> None:
    """Where `needs_decision` is False, the decision is the state as it was, no event and no time to look again."""
    steps = list(lived(history, rules))
    asked = needs_decision(
        np.array([step.previous.condition for step in steps], np.uint8),
        np.array([step.previous.severity for step in steps], np.uint8),
        np.array([row.NONE if step.facts.score is None else step.facts.score for step in steps], np.int32),
        np.array([step.facts.is_insufficient for step in steps]),
        np.array([step.facts.is_closed for step in steps]),
        rules,
    )
    for step, is_asked in zip(steps, asked, strict=True):
        if not is_asked:
            assert (step.decision.state, step.decision.transitions) == (step.previous, ())
            assert step.decision.due_us is None


def test_the_prefilter_leaves_out_the_common_cases() -> None:
    """A healthy account, and an open alert that goes on as it is, cost no decision; anything else does."""
    cases: list[tuple[AlertState, int, bool]] = [
        (EMPTY, 800_000, False),
        (EMPTY, 500_000, False),
        (EMPTY, 499_999, True),
        (FIRING, 569_999, False),
        (FIRING, 250_000, False),
        (FIRING, 249_999, True),
        (FIRING, 570_000, True),
        (FIRING_CRITICAL, 0, False),
        (FIRING_CRITICAL, 319_999, False),
        (FIRING_CRITICAL, 320_000, True),
        (PENDING, 400_000, True),
        (RECOVERING, 800_000, True),
        (FIRING, row.NONE, False),
    ]
    closed = [(EMPTY, 100_000, False), (FIRING, 400_000, True), (PENDING, 400_000, True), (RECOVERING, 800_000, True)]
    cases += closed
    asked: Any = needs_decision(
        np.array([state.condition for state, _, _ in cases], np.uint8),
        np.array([state.severity for state, _, _ in cases], np.uint8),
        np.array([score for _, score, _ in cases], np.int32),
        np.zeros(len(cases), np.bool_),
        np.arange(len(cases)) >= len(cases) - len(closed),
        RULES,
    )
    assert asked.tolist() == [expected for _, _, expected in cases]


def test_conditions_and_severities_keep_their_stored_numbers() -> None:
    """The numbers are in the rows of every installation."""
    assert [int(condition) for condition in Condition] == [0, 1, 2, 3]
    assert [int(severity) for severity in Severity] == [0, 1, 2]
