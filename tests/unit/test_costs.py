"""Costs by day: months add up to the amount, corrections replace, credits cancel, and no zone moves a month's cost into its neighbour."""

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.costs import CostKey, days_of, latest, month_costs, share
from models.decoding import Reason, decode_batch
from models.events import CostRecorded
from models.kpi.figures import MICRO
from models.months import MONTH_MAX, UTC_ZONE, month_of, parse_month
from models.times import DAY_US, HOUR_US, format_us, parse_us
from tests.support.poison import Sent, text

ZONES = [ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Tokyo", "Asia/Amman", "Pacific/Kiritimati")]
instants = st.integers(parse_us("1995-01-01T00:00:00Z"), parse_us("2060-01-01T00:00:00Z"))
KEY = CostKey("retention.cs", "", "", "none", "EUR")


def record(cost_id: str = "c1", at: str = "2026-01-05T00:00:00Z", **changed: Any) -> dict[str, Any]:
    """Write a cost of 310.00 EUR for January 2026, with some members changed."""
    data = {
        "category": "retention.cs",
        "amount": {"amount_minor": 31_000, "currency": "EUR"},
        "period": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"},
    }
    return {"id": cost_id, "source": "/erp", "type": "cost.recorded", "time": at, "subject": "_costs", "data": data | changed}


def decoded(*records: dict[str, Any]) -> list[CostRecorded]:
    """Decode records that must all be usable."""
    found = decode_batch("cost-events", [Sent("cost-events", b"_costs", text(one)) for one in records])
    assert found.rejected == []
    return found.events


def cost(amount_minor: int, start: int, end: int, cost_id: str = "c1", at: str = "2026-01-05T00:00:00Z") -> dict[str, Any]:
    """Write a cost in euros over a period of microseconds."""
    period = {"start": format_us(start), "end": format_us(end)}
    return record(cost_id, at, amount={"amount_minor": amount_minor, "currency": "EUR"}, period=period)


@given(st.integers(-(2**63), 2**63 - 1), instants, st.integers(1, 900 * DAY_US), st.sampled_from(ZONES))
def test_the_months_of_a_cost_add_up_to_its_amount(amount: int, start: int, length: int, zone: ZoneInfo) -> None:
    """Whatever the amount, the period and the zone: nothing is lost or made, and no month differs from its days by a millionth."""
    events = decoded(cost(amount, start, start + length))
    days = days_of(start, start + length, zone)
    first, last = (month_of(at, zone) for at in (start - 2 * DAY_US, start + length + 2 * DAY_US))
    shares = {month: month_costs(events, month, zone).get(KEY, 0) for month in range(first, last + 1)}
    assert sum(shares.values()) == amount * MICRO
    for month, found in shares.items():
        inside = sum(1 for day in days if month == (on := date.fromordinal(day)).year * 12 + on.month - 1)
        assert abs(found * len(days) - amount * MICRO * inside) < len(days)
        assert inside or not found


@given(st.integers(0, 2**63 - 1), instants, st.integers(1, 900 * DAY_US), st.sampled_from(ZONES))
def test_a_credit_takes_the_cost_of_its_size_back_in_every_month(amount: int, start: int, length: int, zone: ZoneInfo) -> None:
    """The same period with the other sign leaves nothing."""
    events = decoded(cost(amount, start, start + length, "c1"), cost(-amount, start, start + length, "c2"))
    for month in range(month_of(start, zone), month_of(start + length, zone) + 1):
        assert month_costs(events, month, zone).get(KEY, 0) == 0


def test_a_cost_with_a_lag_counts_where_its_customers_come() -> None:
    """January's 31 days, 30 days later: one of them is still in January, two are in March, and nothing is lost."""
    january = decoded(record(amount={"amount_minor": 3_100, "currency": "EUR"}))
    found = [month_costs(january, parse_month(month), UTC_ZONE, 30).get(KEY, 0) for month in ("2026-01", "2026-02", "2026-03")]
    assert found == [100 * MICRO, 2_800 * MICRO, 200 * MICRO]


def test_a_quarter_is_shared_out_by_days() -> None:
    """90 days of 1.00: 31, 28 and 31 of them."""
    quarter = decoded(cost(9_000, parse_us("2026-01-01T00:00:00Z"), parse_us("2026-04-01T00:00:00Z")))
    found = [month_costs(quarter, parse_month(f"2026-{month:02}"), UTC_ZONE) for month in (1, 2, 3, 4)]
    assert found == [{KEY: 3_100 * MICRO}, {KEY: 2_800 * MICRO}, {KEY: 3_100 * MICRO}, {}]


@pytest.mark.parametrize("zone", ZONES[:5], ids=str)
@pytest.mark.parametrize("offset", ["Z", "+01:00", "-08:00"])
def test_a_month_from_midnight_to_midnight_is_that_month_in_any_zone(zone: ZoneInfo, offset: str) -> None:
    """Whoever writes January, in whichever zone near the one that is asked for, means January."""
    if zone.key == "Asia/Tokyo" and offset == "-08:00":
        return  # 17 hours away
    month = decoded(record(period={"start": f"2026-01-01T00:00:00{offset}", "end": f"2026-02-01T00:00:00{offset}"}))
    assert month_costs(month, parse_month("2026-01"), zone) == {KEY: 31_000 * MICRO}


def test_a_period_without_a_noon_is_the_day_on_which_it_begins() -> None:
    """An hour of an evening, and a minute around midnight."""
    evening = parse_us("2026-01-31T20:00:00Z")
    assert list(days_of(evening, evening + HOUR_US, UTC_ZONE)) == [date(2026, 1, 31).toordinal()]
    assert list(days_of(evening, evening + 15 * HOUR_US, UTC_ZONE)) == [date(2026, 1, 31).toordinal()]
    assert list(days_of(evening, evening + 17 * HOUR_US, UTC_ZONE)) == [date(2026, 2, 1).toordinal()]


def test_costs_are_kept_apart_by_category_channel_account_allocation_and_currency() -> None:
    """And added up where all of these are the same."""
    events = decoded(
        record("c1"),
        record("c2"),
        record("c3", channel="events"),
        record("c4", account_id="acme", allocation="mrr"),
        record("c5", amount={"amount_minor": 5, "currency": "USD"}),
        record("c6", category="acquisition.marketing"),
    )
    assert month_costs(events, parse_month("2026-01"), UTC_ZONE) == {
        KEY: 62_000 * MICRO,
        KEY._replace(channel="events"): 31_000 * MICRO,
        KEY._replace(account_id="acme", allocation="mrr"): 31_000 * MICRO,
        KEY._replace(currency="USD"): 5 * MICRO,
        KEY._replace(category="acquisition.marketing"): 31_000 * MICRO,
    }


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_correction_replaces_the_record_of_its_source_and_id(is_turned: bool) -> None:
    """The later time counts, whichever is read first; the id of another source is another cost."""
    first, second = record(), record(at="2026-01-06T00:00:00Z", amount={"amount_minor": 62_000, "currency": "EUR"})
    other = {**record(), "source": "/other"}
    events = decoded(*([second, other, first] if is_turned else [first, second, other]))
    assert month_costs(events, parse_month("2026-01"), UTC_ZONE) == {KEY: 93_000 * MICRO}


def test_two_records_of_one_id_at_one_time_count_once_in_either_order() -> None:
    """No reader depends on which came first."""
    pair = [record(), record(channel="ads")]
    assert latest(decoded(*pair)) == latest(decoded(*pair[::-1]))
    assert len(latest(decoded(*pair, *pair))) == 1


def test_the_last_month_that_there_is_has_its_share() -> None:
    """The calendar ends, arithmetic does not."""
    assert share(31, range(date(9999, 11, 30).toordinal(), date(9999, 12, 2).toordinal()), MONTH_MAX) == 31 * MICRO // 2


@pytest.mark.parametrize(
    ("changed", "reason", "message"),
    [
        ({"category": "cogs.hosting"}, Reason.BAD_VALUE, "data.category: expected one of"),
        ({"amount": 12}, Reason.BAD_TYPE, "data.amount: expected object"),
        ({"period": {"start": "2026-01-01T00:00:00Z"}}, Reason.MISSING_MEMBER, "data.period.end: required"),
        ({"period": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01"}}, Reason.BAD_TIME, "data.period.end: expected RFC 3339"),
        (
            {"period": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00+01:00"}},
            Reason.BAD_VALUE,
            "data.period.end: expected an instant after the start",
        ),
        ({"allocation": "by_seat"}, Reason.BAD_VALUE, "data.allocation: expected one of equal, mrr, none"),
    ],
)
def test_a_cost_that_cannot_be_used_has_its_reason(changed: dict[str, Any], reason: Reason, message: str) -> None:
    """A period must end after it began, as instants, however they are written."""
    sent = Sent("cost-events", b"_costs", text(record(**changed)))
    [rejected] = decode_batch("cost-events", [sent]).rejected
    assert rejected.reason == reason
    assert rejected.message.startswith(message)


def test_a_cost_is_keyed_costs() -> None:
    """The key and the subject are the same, as everywhere."""
    [rejected] = decode_batch("cost-events", [Sent("cost-events", b"acme", text(record()))]).rejected
    assert rejected.reason == Reason.KEY_MISMATCH
