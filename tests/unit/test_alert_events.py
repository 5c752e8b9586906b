"""What is published of an alert: its identities, its members, its size, and the state as the fold of the log."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import pairwise, product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.events import (
    EVENT_BYTES_LIMIT,
    EVENT_BYTES_MAX,
    AlertContext,
    AlertEvent,
    AlertStateRecord,
    DriverFact,
    EventTooLargeError,
    Links,
    Money,
    Owner,
    Playbook,
    alert_id,
    build_event,
    decode_event,
    decode_state,
    encode_event,
    encode_state,
    event_id,
    fold_state,
)
from alerts.policy import EMPTY, AlertState, Condition, Facts, Kind, Reason, Severity, Transition, decide
from alerts.rules import AlertRules
from models.row import NEVER
from models.times import DAY_US, HOUR_US, parse_us

NOW = parse_us("2026-11-21T20:15:03.120Z")
OPENED = parse_us("2026-11-20T08:00:00Z")
CHANGE = Transition(Kind.SEVERITY_CHANGED, Severity.CRITICAL, Severity.AT_RISK, 17, 3, Reason.SEVERITY_CHANGED)
FIRING = AlertState(
    condition=Condition.FIRING,
    severity=Severity.CRITICAL,
    episode=3,
    sequence=17,
    since_us=NEVER,
    evaluations=0,
    evaluated_at_us=NEVER,
    opened_at_us=OPENED,
    resolved_at_us=NEVER,
    critical_since_us=NEVER,
    rule=Severity.AT_RISK,
)
BARE = AlertContext(account_id="acct_42", score=284_000)
FULL = AlertContext(
    account_id="acct_42",
    score=284_000,
    name="Zoë & Söhne",
    segment="enterprise",
    plan="pro",
    region="eu",
    owner=Owner("u7", "Mia", "mia@example.com", "U07"),
    previous_score=410_000,
    delta_7d=-192_000,
    churn_risk=0.83,
    model_version="2026-11",
    drivers=(DriverFact("weekly_active_users", -93_000, 4, 22, "WAU 4 vs 22"),),
    mrr=Money(420_000, "EUR"),
    mrr_at_risk=Money(348_600, "EUR"),
    renewal_on=date(2027, 1, 15),
    last_touch_at_us=parse_us("2026-10-01T00:00:00Z"),
    tickets_open=6,
    tickets_sev1=1,
    payment_failed_at_us=parse_us("2026-11-19T10:00:00.5Z"),
    playbook=Playbook("exec-save", "Executive save", "https://example.com/playbooks/exec-save"),
    links=Links("https://example.com/accounts/acct_42", "https://example.com/d/health?var-account=acct_42"),
)

EXAMPLE = {
    "specversion": "1.0",
    "id": "ec9a1c9627305a9f07192572e7e67f2078fd0f9f2cd094c73e664ba62544fab8",
    "source": "/churn-alerts",
    "type": "alert.severity_changed",
    "subject": "acct_42",
    "time": "2026-11-21T20:15:03.120Z",
    "datacontenttype": "application/json",
    "dataschema": "urn:churnwatch:schema:alert-event/1.json",
    "partitionkey": "acct_42",
    "sequence": "17",
    "data": {
        "alert_id": "al_5co5azkucbhke7bahbz67g736b",
        "episode": 3,
        "rule": "at_risk",
        "severity": "critical",
        "previous_severity": "at_risk",
        "state": "firing",
        "handling": "unacked",
        "reason": "severity_changed",
        "opened_at": "2026-11-20T08:00:00.000Z",
        "muted_by": [],
        "account": {"id": "acct_42", "name": "Zoë & Söhne", "segment": "enterprise", "plan": "pro", "region": "eu"},
        "owner": {"id": "u7", "name": "Mia", "email": "mia@example.com", "slack_id": "U07"},
        "score": {
            "health": 28.4,
            "previous": 41.0,
            "delta_7d": -19.2,
            "churn_risk": 0.83,
            "model_version": "2026-11",
        },
        "drivers": [{"name": "weekly_active_users", "points": -9.3, "value": 4, "baseline": 22, "text": "WAU 4 vs 22"}],
        "revenue": {
            "mrr": {"amount_minor": 420_000, "currency": "EUR"},
            "mrr_at_risk": {"amount_minor": 348_600, "currency": "EUR"},
        },
        "renewal": {"date": "2027-01-15", "days": 55},
        "last_touch_at": "2026-10-01T00:00:00.000Z",
        "tickets": {"open": 6, "sev1": 1},
        "payment": {"last_failed_at": "2026-11-19T10:00:00.500Z"},
        "playbook": {
            "id": "exec-save",
            "title": "Executive save",
            "url": "https://example.com/playbooks/exec-save",
        },
        "links": {
            "account": "https://example.com/accounts/acct_42",
            "dashboard": "https://example.com/d/health?var-account=acct_42",
        },
        "truncated": False,
    },
}


def strict_json(value: bytes) -> Any:
    """The JSON of a value; NaN and the infinities are no JSON."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} in an event")

    return json.loads(value.decode("utf-8"), parse_constant=refuse)


def published(context: AlertContext, transition: Transition = CHANGE, state: AlertState = FIRING) -> Any:
    """The event of a context as a reader of the topic sees it."""
    return strict_json(encode_event(build_event(transition, state, context, NOW)))


def test_the_identities_are_golden() -> None:
    """Ids are in people's threads and tickets, so they never change (made once with sha256sum and base32)."""
    assert alert_id("acct_42", 3) == "al_5co5azkucbhke7bahbz67g736b"
    assert alert_id("Zoë & Söhne", 1) == "al_l3i6mzse5dlh36hp73rbl7gtp5"
    assert (
        event_id("al_5co5azkucbhke7bahbz67g736b", 17, "severity_changed")
        == "ec9a1c9627305a9f07192572e7e67f2078fd0f9f2cd094c73e664ba62544fab8"
    )


def test_a_full_event_has_the_members_of_the_contract() -> None:
    """Names, nesting, units and order are those of spec/alerts.md section 1.3."""
    event = published(FULL)
    assert event == EXAMPLE
    assert json.dumps(event) == json.dumps(EXAMPLE)


def test_what_is_not_known_is_null_or_empty_and_every_member_is_there() -> None:
    """An account of which only the id and a score are known alerts all the same, with nothing invented."""

    def keys(value: Any) -> Any:
        return {name: keys(member) for name, member in value.items()} if isinstance(value, dict) else None

    def known(value: Any) -> Iterator[Any]:
        for member in value.values():
            if isinstance(member, dict):
                yield from known(member)
            elif member not in (None, []):
                yield member

    data = published(BARE)["data"]
    expected = keys(EXAMPLE["data"])
    expected["revenue"] = {"mrr": None, "mrr_at_risk": None}
    assert keys(data) == expected
    facts = {name: data[name] for name in list(data)[list(data).index("account") : -1]}
    assert list(known(facts)) == ["acct_42", 28.4]


def test_an_account_without_a_score_can_still_be_resolved() -> None:
    """A deleted account's alert ends with a null score."""
    (closed,) = decide(FIRING, Facts(None, is_insufficient=True, is_closed=True), NOW, AlertRules()).transitions
    state = decide(FIRING, Facts(None, is_insufficient=True, is_closed=True), NOW, AlertRules()).state
    event = published(replace(BARE, score=None), closed, state)
    assert event["type"] == "alert.resolved"
    assert (event["data"]["state"], event["data"]["reason"]) == ("resolved", "account_closed")
    assert (event["data"]["severity"], event["data"]["score"]["health"]) == ("critical", None)
    assert event["data"]["opened_at"] == "2026-11-20T08:00:00.000Z"


def test_the_first_event_has_no_previous_severity() -> None:
    """`opened` follows nothing."""
    opened = Transition(Kind.OPENED, Severity.CRITICAL, Severity.NONE, 1, 1, Reason.FIRST_NOTIFICATION)
    event = published(BARE, opened, replace(FIRING, episode=1, sequence=1))
    assert event["data"]["previous_severity"] is None
    assert (event["type"], event["sequence"]) == ("alert.opened", "1")


def test_times_are_whole_milliseconds_that_have_begun() -> None:
    """Microseconds are cut off, also where the millisecond is zero."""
    event = build_event(CHANGE, replace(FIRING, opened_at_us=OPENED + 999), BARE, NOW + 999)
    assert (event.time, event.data.opened_at) == ("2026-11-21T20:15:03.120Z", "2026-11-20T08:00:00.000Z")


@pytest.mark.parametrize(("end", "days"), [("2026-11-21", 0), ("2026-11-22", 1), ("2026-11-20", -1)])
def test_days_to_renewal_are_counted_in_utc_days(end: str, days: int) -> None:
    """The day of the event itself is day 0, and a renewal that has passed counts below it."""
    assert published(replace(BARE, renewal_on=date.fromisoformat(end)))["data"]["renewal"] == {
        "date": end,
        "days": days,
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Zo\x00ë\x1b[31m", "Zoë[31m"),
        ("two\nlines\tand a tab\r", "two\nlines\tand a tab"),
        ("half \ud83d a smile", "half \ufffd a smile"),
        ("\u202eright to left", "\u202eright to left"),
        ('<b>"quoted"\\</b>', '<b>"quoted"\\</b>'),
        ("", ""),
    ],
)
def test_names_lose_controls_and_halves_of_characters_only(name: str, shown: str) -> None:
    """What no display can show is removed or replaced; everything else of a name stays on the topic."""
    context = replace(
        BARE,
        name=name,
        owner=Owner(name=name),
        drivers=(DriverFact(name, 1, text=name),),
        playbook=Playbook(title=name),
    )
    data = published(context)["data"]
    assert data["account"]["name"] == data["owner"]["name"] == data["playbook"]["title"] == shown
    assert data["drivers"][0]["name"] == data["drivers"][0]["text"] == shown
    assert data["truncated"] is False


def test_the_drivers_that_moved_most_are_kept() -> None:
    """Of many drivers five are named, by the size of their points, first come first where they are equal."""
    points = [10, -90_000, 20, 50_000, -50_000, 30, 40_000, 40_000, 40_000, 0]
    drivers = tuple(DriverFact(f"d{place}", each) for place, each in enumerate(points))
    data = published(replace(BARE, drivers=drivers))["data"]
    assert [driver["name"] for driver in data["drivers"]] == ["d1", "d3", "d4", "d6", "d7"]
    assert data["truncated"] is True


def test_ten_thousand_drivers_are_five_drivers() -> None:
    """However many drivers an account has, its event stays small."""
    drivers = tuple(DriverFact(f"driver {place}", place, text="x" * 1000) for place in range(10_000))
    value = encode_event(build_event(CHANGE, FIRING, replace(FULL, drivers=drivers), NOW))
    assert len(value) <= EVENT_BYTES_MAX
    assert [driver["points"] for driver in strict_json(value)["data"]["drivers"]] == [
        0.9999,
        0.9998,
        0.9997,
        0.9996,
        0.9995,
    ]


def test_an_event_that_is_too_large_gets_short_texts_and_keeps_its_drivers() -> None:
    """A name of a megabyte costs its tail, not the reasons for the alert; a long address is left out, not cut."""
    context = replace(FULL, name="é" * 1_000_000, links=Links("https://example.com/" + "a" * 30_000, "https://example.com/d"))
    data = published(context)["data"]
    assert data["account"]["name"] == "é" * 199 + "…"
    assert data["links"] == {"account": None, "dashboard": "https://example.com/d"}
    assert data["drivers"] == EXAMPLE["data"]["drivers"]  # type: ignore[index]
    assert data["truncated"] is True


def test_an_absurd_account_id_is_refused() -> None:
    """An id cannot be cut; one that alone breaks the hard limit is a mistake of the caller."""
    with pytest.raises(EventTooLargeError):
        build_event(CHANGE, FIRING, replace(BARE, account_id="a" * EVENT_BYTES_LIMIT), NOW)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["churn_risk", "value", "baseline"])
def test_a_number_that_is_not_finite_is_refused(place: str, value: float) -> None:
    """NaN is never published, neither as itself nor as null."""
    if place == "churn_risk":
        context = replace(BARE, churn_risk=value)
    elif place == "value":
        context = replace(BARE, drivers=(DriverFact("usage", 1, value=value),))
    else:
        context = replace(BARE, drivers=(DriverFact("usage", 1, baseline=value),))
    with pytest.raises(ValueError, match="only finite numbers"):
        build_event(CHANGE, FIRING, context, NOW)


@pytest.mark.parametrize(
    ("mrr", "at_risk", "shown"),
    [(100, 50, 50), (-100, 50, None), (100, -50, None), (0, 0, 0), (10**30, 10**29, 10**29)],
)
def test_revenue_at_risk_is_left_out_when_negative(mrr: int, at_risk: int, shown: int | None) -> None:
    """A credit cannot be lost; an amount of any size is published as it is."""
    revenue = published(replace(BARE, mrr=Money(mrr, "EUR"), mrr_at_risk=Money(at_risk, "EUR")))["data"]["revenue"]
    assert revenue["mrr"] == {"amount_minor": mrr, "currency": "EUR"}
    assert revenue["mrr_at_risk"] == (None if shown is None else {"amount_minor": shown, "currency": "EUR"})


def test_what_is_no_event_is_not_read_as_one() -> None:
    """Unknown severities and missing members are errors for the reader."""
    value = encode_event(build_event(CHANGE, FIRING, FULL, NOW))
    for broken in (b"{}", value[:-1], value.replace(b'"severity":"critical"', b'"severity":"severe"')):
        with pytest.raises(msgspec.DecodeError):
            decode_event(broken)


texts = st.none() | st.text(st.characters(), max_size=400) | st.text('"\\\n\x01\ud800é😀', max_size=3_000)
amounts = st.none() | st.builds(Money, st.integers(-(2**63), 2**63 - 1), st.sampled_from(["EUR", "JPY", "XXX"]))
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
drivers = st.builds(DriverFact, texts.map(lambda text: text or ""), st.integers(-(10**6), 10**6), numbers, numbers, texts)
contexts = st.builds(
    AlertContext,
    account_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256),
    score=st.none() | st.integers(0, 1_000_000),
    name=texts,
    segment=texts,
    plan=texts,
    region=texts,
    owner=st.builds(Owner, texts, texts, texts, texts),
    previous_score=st.none() | st.integers(0, 1_000_000),
    delta_7d=st.none() | st.integers(-1_000_000, 1_000_000),
    churn_risk=st.none() | st.floats(0, 1),
    model_version=texts,
    drivers=st.lists(drivers, max_size=8).map(tuple),
    mrr=amounts,
    mrr_at_risk=amounts,
    renewal_on=st.none() | st.dates(),
    last_touch_at_us=st.none() | st.integers(0, NOW),
    tickets_open=st.none() | st.integers(0, 65_535),
    payment_failed_at_us=st.none() | st.integers(0, NOW),
    playbook=st.builds(Playbook, texts, texts, texts),
    links=st.builds(Links, texts, texts),
)


@given(contexts)
def test_every_event_is_valid_small_and_reads_back(context: AlertContext) -> None:
    """Whatever the names, an event is strict JSON below its size, the same bytes each time, and reads back whole."""
    event = build_event(CHANGE, FIRING, context, NOW)
    value = encode_event(event)
    assert encode_event(build_event(CHANGE, FIRING, context, NOW)) == value
    assert len(value) <= EVENT_BYTES_MAX
    assert strict_json(value)["subject"] == context.account_id
    assert decode_event(value) == event
    assert encode_event(decode_event(value)) == value
    name = event.data.account.name or ""
    assert not any(ord(character) < 32 and character not in "\n\t" for character in name)


def test_the_largest_account_stays_below_the_bound() -> None:
    """Every text as long and as costly to write as can be: drivers are given up until the event is small enough."""
    fewer = 0
    for character, costly in product('"\\\n😀', '"\\\n😀'):
        text, whole = character * 5_000, costly * (512 // len(costly.encode()))
        context = AlertContext(
            account_id="\x01" * 256,
            score=0,
            name=text,
            segment=text,
            plan=text,
            region=text,
            owner=Owner(whole, text, whole, whole),
            model_version=text,
            drivers=tuple(DriverFact(text, 1, 1e308, 1e308, text) for _ in range(9)),
            playbook=Playbook(whole, text, whole),
            links=Links(whole, whole),
        )
        event = build_event(CHANGE, FIRING, context, NOW)
        assert len(encode_event(event)) <= EVENT_BYTES_MAX
        assert event.data.truncated
        assert event.data.owner.id == whole
        fewer += len(event.data.drivers) < 5
    assert fewer


def test_an_address_is_measured_in_bytes() -> None:
    """In an event that must be short, an address of 512 bytes is kept and a longer one is left out."""
    links = Links("é" * 256, "é" * 257)
    assert build_event(CHANGE, FIRING, replace(BARE, name="x" * 30_000, links=links), NOW).data.links == Links("é" * 256)


def lived(scores: list[int | None]) -> list[AlertEvent]:
    """The events of an account whose score is assessed every 12 hours; None is a day on which it is closed."""
    rules = AlertRules.model_validate({"pending_for": {"at_risk": 0, "critical": 0}, "reopen_window": "36h"})
    state, events = EMPTY, []
    for place, score in enumerate(scores):
        now = OPENED + place * 12 * HOUR_US
        decision = decide(state, Facts(score, is_insufficient=False, is_closed=score is None), now, rules)
        state = decision.state
        context = replace(FULL, score=score)
        events += [build_event(transition, state, context, now) for transition in decision.transitions]
    return events


def fold(events: list[AlertEvent]) -> AlertStateRecord | None:
    """The state after events, from nothing."""
    state = None
    for event in events:
        state = fold_state(state, event)
    return state


histories = st.lists(st.sampled_from([100_000, 300_000, 400_000, 600_000, 600_000, 800_000, None]), max_size=30)


@given(histories)
def test_the_state_is_the_fold_of_the_log(scores: list[int | None]) -> None:
    """Any reader of the log's bytes arrives at the state's bytes, and what it was given twice changes nothing."""
    events = lived(scores)
    log = [encode_event(event) for event in events]
    state: AlertStateRecord | None = None
    for event in events:
        state = fold_state(state, event)
        assert decode_state(encode_state(state)) == state
    assert fold([decode_event(value) for value in log]) == state
    assert fold([decode_event(value) for value in log for _ in range(2)]) == state
    assert fold([*events, *events]) == state


@given(histories)
def test_events_of_an_account_are_told_apart_and_in_order(scores: list[int | None]) -> None:
    """Every event has an id of its own, sequences have no gap, and the alert_id changes with `opened` only."""
    events = lived(scores)
    assert len({event.id for event in events}) == len(events)
    assert [event.sequence for event in events] == [str(number) for number in range(1, len(events) + 1)]
    for before, event in pairwise(events):
        assert (event.data.alert_id != before.data.alert_id) == (event.type == "alert.opened")
        assert event.time >= before.time


def test_the_state_follows_an_alert_through_its_life() -> None:
    """Open, worse, resolved, reopened: the state says where the alert is and since when."""
    opened, worse, resolved, reopened = lived([400_000, 100_000, 600_000, 600_000, 600_000, 400_000])
    states = [fold([opened]), fold([opened, worse]), fold([opened, worse, resolved])]
    states.append(fold([opened, worse, resolved, reopened]))
    seen = [(s.sequence, s.severity, s.state, s.reason, s.opened_at, s.resolved_at) for s in states if s is not None]
    start = "2026-11-20T08:00:00.000Z"
    assert seen == [
        (1, "at_risk", "firing", "first_notification", start, None),
        (2, "critical", "firing", "severity_changed", start, None),
        (3, "critical", "resolved", "recovered", start, "2026-11-22T08:00:00.000Z"),
        (4, "at_risk", "firing", "reopened", start, None),
    ]
    assert len({s.alert_id for s in states if s is not None}) == 1


def test_a_state_is_published_in_an_envelope_that_names_its_event() -> None:
    """`alert-state` is CloudEvents too: the same subject, time, sequence and id as the event that brought it about."""
    event = build_event(CHANGE, FIRING, FULL, NOW)
    state = strict_json(encode_state(fold_state(None, event)))
    log = strict_json(encode_event(event))
    for member in ("specversion", "id", "subject", "time", "partitionkey", "sequence", "datacontenttype"):
        assert state[member] == log[member]
    assert (state["type"], state["source"]) == ("alert.state", "/alert-state")
    for member in ("alert_id", "episode", "rule", "severity", "state", "handling", "reason", "opened_at", "score"):
        assert state["data"][member] == log["data"][member]


def test_after_a_tombstone_the_state_starts_from_the_next_event() -> None:
    """An event says all that the state holds, so a reader that has forgotten an account loses nothing."""
    events = lived([400_000, None, 400_000])
    assert fold(events) == fold(events[-1:])


def test_a_day_is_a_utc_day() -> None:
    """The renewal is counted from midnight UTC, not from the hour of the alert."""
    late = NOW - NOW % DAY_US + DAY_US - 1
    event = build_event(CHANGE, FIRING, replace(BARE, renewal_on=date(2026, 11, 22)), late)
    assert event.data.renewal.days == 1
