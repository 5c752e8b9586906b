"""What a rebuild decides: which alert an account has afterwards, from where to where its inputs are folded, and where cursors stand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alerts.events import AlertContext, AlertStateRecord, build_event, fold_state
from alerts.policy import EMPTY, AlertState, Condition, Facts, Severity, decide
from alerts.rules import AlertRules
from deploy.rebuild.alerts import carried_over, said_state
from deploy.rebuild.past import Past
from deploy.rebuild.plan import make_plan
from deploy.rebuild.run import refuse_gaps
from deploy.snapshot.format import Header, InputLog
from deploy.snapshot.placing import Elsewhere, placed, refuse_needless
from models.row import NEVER
from models.times import DAY_US, HOUR_US, MINUTE_US
from stream_app.exits import Exit, ServiceExit
from stream_app.pipeline import Position
from stream_app.topics import Log
from stream_app.unfinished import refuse_unfinished

NOW = 1_800_000_000_000_000
RULES = AlertRules()
FIRING, RECOVERING, PENDING, OK = Condition.FIRING, Condition.RECOVERING, Condition.PENDING, Condition.OK


def lived(*scores: tuple[float, int]) -> tuple[AlertState, AlertStateRecord | None]:
    """The alert after assessments, each a score and when it was made, and what was said of it last."""
    state, said = EMPTY, None
    for score, at_us in scores:
        decision = decide(state, Facts(int(score * 10_000), is_insufficient=False, is_closed=False), at_us, RULES)
        state = decision.state
        for transition in decision.transitions:
            said = fold_state(said, build_event(transition, state, AlertContext(account_id="acme", score=0), at_us))
    return state, said


OPEN = ((40, NOW), (40, NOW + HOUR_US))
RESOLVED = (*OPEN, (90, NOW + DAY_US), (90, NOW + 3 * DAY_US))


@pytest.mark.parametrize(
    "scores",
    [(), OPEN, (*OPEN, (10, NOW + 2 * HOUR_US)), (*OPEN, (90, NOW + DAY_US)), RESOLVED, (*RESOLVED, (40, NOW + 4 * DAY_US)), ((40, NOW),)],
    ids=["never", "open", "critical", "recovering", "resolved", "pending again", "pending"],
)
def test_a_fold_that_finds_what_was_said_gives_the_alert_as_it_was(scores: tuple[tuple[float, int], ...]) -> None:
    """With its waits; numbers of the fold do not count, those that were said do."""
    state, said = lived(*scores)
    assert carried_over(replace(state, episode=17, sequence=99), said) == state


def test_an_alert_that_nobody_was_told_of_is_not_open() -> None:
    """It begins to wait, so that a rebuild by itself opens no alert for a past that nobody saw."""
    folded, _ = lived(*OPEN)
    carried = carried_over(folded, None)
    assert carried == EMPTY
    decision = decide(carried, Facts(400_000, is_insufficient=False, is_closed=False), NOW + 2 * HOUR_US, RULES)
    assert (decision.state.condition, decision.transitions) == (PENDING, ())


def test_an_alert_that_was_said_stays_open_until_it_has_recovered_anew() -> None:
    """Also where the fold has it resolved, or knows of none."""
    _, said = lived(*OPEN)
    for folded in (EMPTY, lived(*RESOLVED)[0]):
        carried = carried_over(folded, said)
        assert (carried.condition, carried.episode, carried.sequence) == (FIRING, 1, 1)
        decision = decide(carried, Facts(900_000, is_insufficient=False, is_closed=False), NOW + 9 * DAY_US, RULES)
        assert (decision.state.condition, decision.transitions) == (RECOVERING, ())


def test_the_severity_is_the_one_that_was_said() -> None:
    """What is different now is said as a change, with the next sequence."""
    folded, _ = lived(*OPEN, (10, NOW + 2 * HOUR_US))
    _, said = lived(*OPEN)
    carried = carried_over(folded, said)
    assert carried.severity == Severity.AT_RISK
    (transition,) = decide(carried, Facts(100_000, is_insufficient=False, is_closed=False), NOW + 3 * HOUR_US, RULES).transitions
    assert (transition.kind, transition.previous_severity, transition.sequence, transition.episode) == (
        "severity_changed",
        Severity.AT_RISK,
        2,
        1,
    )


def test_a_next_alert_goes_on_counting() -> None:
    """After a resolved one that was said: the next episode, the next sequence, or the old episode within the reopen window."""
    _, said = lived(*RESOLVED)
    folded, _ = lived((40, NOW + 3 * DAY_US))
    waiting = carried_over(folded, said)
    for later, episode in ((3 * DAY_US + 31 * MINUTE_US, 1), (9 * DAY_US, 2)):
        (transition,) = decide(waiting, Facts(400_000, is_insufficient=False, is_closed=False), NOW + later, replace_min(RULES)).transitions
        assert (transition.sequence, transition.episode) == (3, episode)


def replace_min(rules: AlertRules) -> AlertRules:
    """The same rules, satisfied with one assessment."""
    return rules.model_copy(update={"min_evaluations": 1})


def test_said_states_know_their_times_to_the_millisecond() -> None:
    """They come from what was published."""
    _, said = lived(*RESOLVED)
    state = said_state(said)
    assert (state.opened_at_us, state.resolved_at_us, state.condition) == (NOW + HOUR_US, NOW + 3 * DAY_US, OK)
    assert said_state(None) == EMPTY
    assert state.since_us == NEVER


# -- from where to where


USAGE, TICKETS = "usage-events", "ticket-events"


def past(**members: Any) -> Past:
    """A past of which a test knows something."""
    found = Past()
    for name, value in members.items():
        setattr(found, name, value)
    return found


def test_inputs_are_folded_to_where_they_were_read() -> None:
    """The rest was never folded: it is the workers', who say what there is to say."""
    plan = make_plan([USAGE], {(USAGE, 0): (0, 100)}, past(read={(USAGE, 0): 60}, is_known={0}), 1)
    stretch = plan.stretches[0][USAGE]
    assert (stretch.start, stretch.goal, stretch.end) == (0, 60, 100)
    assert (plan.records, plan.left, plan.cut) == (60, 40, {})


def test_an_input_of_which_nothing_was_read_is_left_whole() -> None:
    """Where others of its partition were."""
    bounds = {(USAGE, 0): (0, 100), (TICKETS, 0): (0, 9)}
    plan = make_plan([USAGE, TICKETS], bounds, past(read={(USAGE, 0): 60}, is_known={0}), 1)
    assert plan.stretches[0][TICKETS].goal == 0


def test_where_nothing_tells_how_far_it_was_read_all_of_it_was() -> None:
    """So that nobody hears of the past anew; the same for an input that was made anew."""
    bounds = {(USAGE, 0): (0, 100)}
    assert make_plan([USAGE], bounds, past(read={(USAGE, 0): 60}), 1).stretches[0][USAGE].goal == 100
    replaced = past(read={(USAGE, 0): 60}, is_known={0}, replaced={(USAGE, 0)})
    assert make_plan([USAGE], bounds, replaced, 1).stretches[0][USAGE].goal == 100


def test_what_no_log_holds_is_told() -> None:
    """A log that begins late, without a snapshot and with one that reaches to it, and with one that does not."""
    bounds, known = {(USAGE, 0): (50, 100)}, past(read={(USAGE, 0): 80}, is_known={0})
    assert make_plan([USAGE], bounds, known, 1).cut == {(USAGE, 0): 50}
    reaching = make_plan([USAGE], bounds, known, 1, {0: {USAGE: Position(70)}})
    assert (reaching.cut, reaching.gaps, reaching.stretches[0][USAGE].start) == ({}, {}, 70)
    refuse_gaps(reaching, is_gap_accepted=False)
    short = make_plan([USAGE], bounds, known, 1, {0: {USAGE: Position(30)}})
    assert (short.gaps, short.stretches[0][USAGE].start) == ({(USAGE, 0): 20}, 50)
    with pytest.raises(ServiceExit, match="20 offsets after the snapshot are no longer in the log"):
        refuse_gaps(short, is_gap_accepted=False)
    refuse_gaps(short, is_gap_accepted=True)


def test_a_snapshot_of_more_than_the_log_has_is_refused() -> None:
    """The log lost its end, or is another one."""
    with pytest.raises(ServiceExit, match="its log ends at 100"):
        make_plan([USAGE], {(USAGE, 0): (0, 100)}, past(), 1, {0: {USAGE: Position(101)}})


# -- where the cursors of a snapshot stand


NAMES = {USAGE: "b.usage-events"}
LOGS = {"b.usage-events": Log("here", 1)}
MOVED = Position(40, newest_us=7, applied=39, late=1, topic_id="there", partitions=1)


def header(topic_id: str) -> Header:
    """The header of a snapshot that was made from a topic with that id."""
    return Header(
        release="1", created_at="", app_id="a", topic_prefix="a", config_version="c", partitions=1, inputs={USAGE: InputLog(topic_id, 1)}
    )


def test_cursors_are_kept_where_the_inputs_are_the_same() -> None:
    """By the id of the topic; and only if the log still holds what comes next."""
    same = replace_prefix(header("here"))
    here = {"b.usage-events": Position(40, applied=40, topic_id="here", partitions=1)}
    assert placed(here, 0, same, NAMES, LOGS, {("b.usage-events", 0): (40, 50)}, None) == here
    for bounds in ((41, 50), (0, 39)):
        with pytest.raises(ServiceExit, match="up to offset 40"):
            placed(here, 0, same, NAMES, LOGS, {("b.usage-events", 0): bounds}, None)
    kept = {0: placed(here, 0, same, NAMES, LOGS, {("b.usage-events", 0): (0, 50)}, Elsewhere.END)}
    refuse_needless(None, kept)
    with pytest.raises(ServiceExit, match="would lose records"):
        refuse_needless(Elsewhere.END, kept)


def replace_prefix(made: Header) -> Header:
    """The same header, of an installation with the prefix of `NAMES`."""
    made.topic_prefix = "b"
    return made


@pytest.mark.parametrize(("elsewhere", "offset"), [(Elsewhere.BEGINNING, 3), (Elsewhere.END, 8)])
def test_in_another_topic_somebody_has_to_say_where_to_go_on(elsewhere: Elsewhere, offset: int) -> None:
    """What was counted stays counted; from where on this log was read is noted."""
    bounds = {("b.usage-events", 0): (3, 8)}
    positions = {"a.usage-events": MOVED}
    with pytest.raises(ServiceExit, match="another topic"):
        placed(positions, 0, header("there"), NAMES, LOGS, bounds, None)
    found = placed(positions, 0, header("there"), NAMES, LOGS, bounds, elsewhere)
    assert found == {"b.usage-events": Position(offset, 7, 39, 0, 1, 0, "here", 1, offset)}
    refuse_needless(elsewhere, {0: found})


def test_the_cursor_knows_best_which_log_it_is_of() -> None:
    """A topic that was made anew before the snapshot was taken has another id than the one that the state was folded from."""
    with pytest.raises(ServiceExit, match="another topic"):
        placed({"a.usage-events": MOVED}, 0, header("here"), NAMES, LOGS, {("b.usage-events", 0): (0, 50)}, None)


def test_a_state_that_is_not_whole_is_refused_with_what_to_run_again() -> None:
    """The mark says which command was ended before it was done."""
    refuse_unfinished(0, None)
    with pytest.raises(ServiceExit, match="churnwatch rebuild was ended") as refused:
        refuse_unfinished(3, b"churnwatch rebuild")
    assert refused.value.mend == "churnwatch rebuild, again"
    assert refused.value.exit_code == Exit.REBUILD
