"""Figures of a month: the business rules one by one, and that closing a month changes no figure of it."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.verify import reference
from deploy.verify.equality import differences
from models import support_figures, surveys_figures
from models.fold import read_part
from models.kpi.figures import read_key
from models.monthly import window
from models.months import UTC_ZONE, parse_month
from models.texts import Reading
from models.times import format_us, parse_us
from tests.support.generate import DAY, Record, Scene, records, topic_of
from tests.support.memory_worker import MemoryWorker, definition, log_of

unhurried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
JANUARY, FEBRUARY = parse_month("2026-01"), parse_month("2026-02")
START = parse_us("2026-01-01T00:00:00Z")
MONTHS_LATER = START + 400 * DAY
BOTH = Scene(days=100, topics={"ticket-events": 3, "survey-events": 3}, late=0.0, again=0.0, conflict=0.0, edge=0.0)


def read_text(text: str, _language: str | None) -> Reading:
    """Find every text a little better than the one before it in length."""
    return Reading(len(text) * 100, ("pricing",))


def read(history: list[Record], zone: ZoneInfo = UTC_ZONE, seed: int = 0) -> MemoryWorker:
    """Let a worker read a history, and hold its state, closed months included, against the oracle's."""
    worker = MemoryWorker(log_of(history), replace(definition(), read_text=read_text, zone=zone))
    worker.run(Random(seed), crash_share=0.1)
    accounts: dict[str, reference.Oracle] = {}
    for record in history:
        accounts.setdefault(record["subject"], reference.Oracle(read_text, zone)).apply(topic_of(record), record)
    assert differences(worker.partition, accounts) == []
    return worker


def at(day: float) -> int:
    """Name an instant by its days from the beginning of January 2026."""
    return START + round(day * DAY)


def record(kind: str, day: float, id_: str = "", /, **data: Any) -> Record:
    """Write a record of the account acme."""
    identity = id_ or f"{kind}@{day}{sorted(data.items())}"[:128]
    return {"id": identity, "source": "s", "type": kind, "time": format_us(at(day)), "subject": "acme", "data": data}


def ticket(kind: str, day: float, name: str = "t", /, **data: Any) -> Record:
    """Write an event of a ticket."""
    return record(f"ticket.{kind}", day, "", **{"ticket_id": name, **data})


def reply(day: float, name: str = "t", /, **data: Any) -> Record:
    """Write a public answer of an agent."""
    return ticket("replied", day, name, **{"author_role": "agent", "public": True, **data})


def solved(day: float, name: str = "t", /, to: str = "solved") -> Record:
    """Write that a ticket was solved."""
    return ticket("status_changed", day, name, to=to)


def of(month: int, *history: Record, now: float = 300) -> dict[str, int]:
    """Give the figures of tickets in a month."""
    part = read_part(read(list(history)).partition.columns, "support", 0)
    found = support_figures.month_figures(part, month, UTC_ZONE, at(now))
    assert all(read_key(name) for name in found)
    return found


def share(figures: dict[str, int], *names: str) -> list[int]:
    """Pick some figures; one that is not there is 0."""
    return [figures.get(name, 0) for name in names]


FCR = ("fcr_received", "fcr_solved", "fcr_resolved", "fcr_resolved_cross_department")


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([reply(2), solved(3)], [1, 1, 1, 0]),
        ([reply(2), reply(2.5), solved(3)], [1, 1, 0, 0]),
        ([solved(3)], [1, 1, 0, 0]),
        ([reply(2, public=False), solved(3)], [1, 1, 0, 0]),
        ([reply(2), solved(3), ticket("reopened", 10)], [1, 1, 0, 0]),
        ([reply(2), solved(3), ticket("reopened", 10.1)], [1, 1, 1, 0]),
        ([reply(2), solved(3), ticket("status_changed", 9, to="open")], [1, 1, 0, 0]),
        ([reply(2), solved(3), solved(5, to="closed")], [1, 1, 1, 0]),
        ([reply(2, department="a"), ticket("assigned", 2.5, department="b"), solved(3)], [1, 1, 0, 1]),
        ([reply(2), solved(3), ticket("merged", 4, into="u")], [0, 0, 0, 0]),
        ([reply(2), solved(3), ticket("deleted", 30)], [0, 0, 0, 0]),
        ([reply(2)], [1, 0, 0, 0]),
    ],
    ids=[
        "one reply",
        "two replies",
        "no reply",
        "a note",
        "reopened in time",
        "reopened later",
        "opened by its status",
        "closed afterwards",
        "two departments",
        "merged",
        "spam",
        "open",
    ],
)
def test_resolved_at_the_first_contact(history: list[Record], expected: list[int]) -> None:
    """One public reply of an agent, one department, not opened again within 7 days."""
    assert share(of(JANUARY, ticket("created", 1), *history), *FCR) == expected


def test_what_is_not_seven_days_old_is_not_judged_yet() -> None:
    """Neither received nor solved counts for the rate before it is mature; the ticket counts at once."""
    history = [ticket("created", 1), reply(2), solved(3)]
    assert share(of(JANUARY, *history, now=7.9), "tickets_created", *FCR) == [1, 0, 0, 0, 0]
    assert share(of(JANUARY, *history, now=8), *FCR) == [1, 0, 0, 0]
    assert share(of(JANUARY, *history, now=10), *FCR) == [1, 1, 1, 0]


def test_a_first_response_counts_when_it_came_and_is_censored_until_then() -> None:
    """Created in January, answered in February: waiting as January ends, answered in February."""
    history = [ticket("created", 30), reply(32), reply(33)]
    assert of(JANUARY, *history)["first_responses_waiting{86016}"] == 1
    found = of(FEBRUARY, *history)
    assert found["first_responses{172032}"] == 1
    assert not any(name.startswith("first_responses_waiting") for name in found)
    running = of(JANUARY, ticket("created", 3), now=3.5)
    assert running["first_responses_waiting{43008}"] == 1


def test_a_reopening_starts_the_clock_anew_and_counts() -> None:
    """The last solution counts, in its month, from when it was opened again; one more of an open ticket changes nothing."""
    history = [ticket("created", 1), solved(2), ticket("reopened", 20), ticket("reopened", 21), solved(20 + 1 / 24 + 1)]
    found = of(JANUARY, *history)
    assert share(found, "tickets_solved", "tickets_reopened", "resolutions{88064}") == [1, 2, 1]
    later = of(JANUARY, ticket("created", 1), solved(2), ticket("reopened", 35), solved(36))
    assert share(later, "tickets_solved") == [0]
    much_later = of(JANUARY, ticket("created", 1), solved(2), ticket("reopened", 45), solved(46))
    assert share(much_later, "tickets_solved") == [1]


def test_a_merged_ticket_counts_once_and_a_deleted_one_not() -> None:
    """Until a week after the month; what happens then is too late for it."""
    three = [ticket("created", day, name) for day, name in ((1, "a"), (2, "b"), (3, "c"))]
    assert of(JANUARY, *three)["tickets_created"] == 3
    assert of(JANUARY, *three, ticket("merged", 37, "a", into="b"), ticket("deleted", 38, "c"))["tickets_created"] == 1
    assert of(JANUARY, *three, ticket("deleted", 38.1, "c"))["tickets_created"] == 3


def test_the_backlog_is_that_of_the_month_s_end() -> None:
    """Open as it ends, with the priority that it had then; solved afterwards changes nothing."""
    history = [
        ticket("created", 10, "b"),
        ticket("created", 30, "a", priority="urgent"),
        solved(31, "b"),
        ticket("priority_changed", 32, "a", to="low"),
        solved(33, "a"),
    ]
    assert share(of(JANUARY, *history), "tickets_open", "tickets_open_urgent", "tickets_open_urgent_seconds") == [2, 1, 86_399]
    assert share(of(FEBRUARY, *history), "tickets_open", "tickets_solved") == [0, 2]


def test_closed_tickets_are_those_of_who_was_assigned_then() -> None:
    """Not of who was assigned later."""
    history = [
        ticket("created", 1, "a"),
        ticket("assigned", 2, "a", agent_id="ana"),
        solved(3, "a", to="closed"),
        ticket("assigned", 4, "a", agent_id="bo"),
        ticket("created", 1, "b"),
        solved(5, "b", to="closed"),
    ]
    found = of(JANUARY, *history)
    assert share(found, "tickets_closed", "tickets_closed_by_agent{ana}", "tickets_closed_by_agent{unknown}") == [2, 1, 1]


def test_abandoned_calls_count_in_their_month() -> None:
    """With a ticket or without."""
    history = [record("ticket.abandoned", 1, wait_ms=5), ticket("abandoned", 2, wait_ms=5), record("ticket.abandoned", 31, wait_ms=5)]
    assert share(of(JANUARY, *history), "tickets_abandoned") == [2]
    assert share(of(FEBRUARY, *history), "tickets_abandoned") == [1]


def test_surveys_of_a_month() -> None:
    """NPS by respondent, csat by scale, invitations that were answered, and what texts say."""

    def answer(day: float, score: float, user: str, **data: Any) -> Record:
        usual = {"survey_id": "q", "kind": "nps", "score": score, "scale_min": 0, "scale_max": 10, "user_id": user}
        return record("survey.answered", day, **{**usual, **data})

    history = [
        record("survey.offered", 1, survey_id="q", kind="nps", user_id="a"),
        record("survey.offered", 1, survey_id="q", kind="nps", user_id="z"),
        answer(2, 3, "a"),
        answer(3, 9, "a"),
        answer(3, 8, "b"),
        answer(3, 0, "c"),
        answer(4, 4, "a", kind="csat", scale_min=1, scale_max=5, comment="Fine."),
        answer(5, 2, "b", kind="csat", scale_min=1, scale_max=5, direction="lower_better"),
        answer(5, 6.5, "b", kind="ces", scale_min=1, scale_max=7),
        record("feedback.received", 30.9, "f", channel="x", text="0123456789", language="en"),
        answer(38, 9, "z"),
    ]
    part = read_part(read(history).partition.columns, "surveys", 0)
    found = surveys_figures.month_figures(part, JANUARY, UTC_ZONE, at(300))
    assert all(read_key(name) for name in found)
    texts = {name: found.pop(name) for name in ("sentiment_weight", "sentiment_polarity")}
    assert found == {
        "nps_promoters": 1,
        "nps_passives": 1,
        "nps_detractors": 1,
        "csat_answers{1-5}": 1,
        "csat_positive{1-5}": 1,
        "csat_scores{1-5}": 4_000_000,
        "csat_answers{1-5 lower_better}": 1,
        "csat_positive{1-5 lower_better}": 1,
        "csat_scores{1-5 lower_better}": 2_000_000,
        "ces_answers{1-7}": 1,
        "ces_positive{1-7}": 1,
        "ces_scores{1-7}": 6_500_000,
        "csat_accounts": 1,
        "csat_accounts_positive": 1,
        "surveys_offered{nps}": 2,
        "surveys_answered{nps}": 2,
        "feedback_texts": 2,
        "feedback_by_theme{pricing}": 2,
    }
    assert texts == {"sentiment_weight": 1_548_412, "sentiment_polarity": 127_421}


@unhurried
@given(seed=st.integers(0, 2**32), zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]).map(ZoneInfo))
def test_closing_a_month_changes_no_figure_of_it(seed: int, zone: ZoneInfo) -> None:
    """What was frozen is what is counted from all that is kept, as long as all of it is."""
    worker = read(records(Random(seed), 150, BOTH), zone, seed)
    closed = 0
    for name, figures in (("support", support_figures), ("surveys", surveys_figures)):
        for slot in range(len(worker.partition.columns)):
            part = read_part(worker.partition.columns, name, slot)
            for month in range(JANUARY, part.months.open_from):
                closed += 1
                counted = figures.count(part, window(month, zone, MONTHS_LATER))
                assert figures.month_figures(part, month, zone, MONTHS_LATER) == counted
    assert closed


def test_two_years_of_months_are_kept() -> None:
    """Each month of a ticket that stays open is closed, also those in which nothing came; 24 of them are kept."""
    history = [ticket("created", 1, "a"), ticket("created", 1_000, "b")]
    part = read_part(read(history).partition.columns, "support", 0)
    assert sorted(part.months.closed) == list(range(part.months.open_from - 24, part.months.open_from))
    assert all(figures["tickets_open"] == 1 for figures in part.months.closed.values())
    assert support_figures.month_figures(part, part.months.open_from - 25, UTC_ZONE, MONTHS_LATER) == {}


def test_a_month_that_has_not_begun_has_no_figures() -> None:
    """Nothing is open in the future."""
    assert of(FEBRUARY, ticket("created", 1), now=30) == {}
