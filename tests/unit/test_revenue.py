"""MRR of subscriptions: exact, rounded once, and nothing for who does not pay."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest

from models.events import SubscriptionUpsertedData
from models.revenue import months_factor, mrr_by_currency, subscription_mrr


def subscription(*items: dict[str, Any], status: str = "active", currency: str = "USD", **members: Any) -> SubscriptionUpsertedData:
    """A subscription as it comes in an event."""
    listed = [{"item_id": f"i{n}", "quantity": 1, "interval": "month", **item} for n, item in enumerate(items)]
    data = {"subscription_id": "s", "status": status, "currency": currency, "version": 1, "items": listed, **members}
    return msgspec.convert(data, SubscriptionUpsertedData)


def test_monthly_and_annual_items_add_up() -> None:
    """Worked example E14: 100 monthly seats at 100.00 and 50 annual ones at 600.00 are 12,500.00 a month."""
    data = subscription({"unit_amount_minor": 10_000, "quantity": 100}, {"unit_amount_minor": 60_000, "quantity": 50, "interval": "year"})
    assert subscription_mrr(data) == 1_250_000


def test_a_discount_for_ever_counts_and_one_for_once_does_not() -> None:
    """Worked example E15, a subscription each."""
    for_ever = subscription({"unit_amount_minor": 10_000}, discounts=[{"percent": 50, "duration": "forever"}])
    once = subscription({"unit_amount_minor": 10_000}, discounts=[{"percent": 50, "duration": "once"}])
    assert mrr_by_currency([for_ever, once]) == {"USD": 15_000}


@pytest.mark.parametrize(
    ("interval", "count", "factor"),
    [
        ("month", 1, Fraction(1)),
        ("month", 3, Fraction(1, 3)),
        ("quarter", 1, Fraction(1, 3)),
        ("half_year", 1, Fraction(1, 6)),
        ("year", 2, Fraction(1, 24)),
        ("week", 1, Fraction("365.25") / 84),
        ("day", 1, Fraction("365.25") / 12),
    ],
)
def test_every_interval_has_its_share_of_a_month(interval: str, count: int, factor: Fraction) -> None:
    """365.25 days are a year; a month is a twelfth of it."""
    assert months_factor(interval, count) == factor


@pytest.mark.parametrize("status", ["trialing", "unpaid", "canceled", "incomplete", "incomplete_expired", "paused"])
def test_who_does_not_pay_has_no_mrr(status: str) -> None:
    """A trial has none until it converts, a paused subscription none while it is."""
    assert mrr_by_currency([subscription({"unit_amount_minor": 10_000}, status=status)]) == {}


def test_metered_use_is_no_recurring_revenue() -> None:
    """What is billed by use is not known in advance; past_due stays during dunning."""
    data = subscription({"unit_amount_minor": 500, "usage_type": "metered"}, {"unit_amount_minor": 900}, status="past_due")
    assert mrr_by_currency([data]) == {"USD": 900}


def test_currencies_stay_apart_and_are_rounded_once() -> None:
    """Three thirds of a cent are one cent; euros are not dollars."""
    third = subscription({"unit_amount_minor": 1, "interval": "quarter"})
    euro = subscription({"unit_amount_minor": "0.5"}, currency="EUR")
    assert mrr_by_currency([third, third, third, euro]) == {"EUR": 1, "USD": 1}


def test_a_fixed_discount_never_makes_it_negative() -> None:
    """More taken off than there is leaves nothing."""
    data = subscription({"unit_amount_minor": 100}, discounts=[{"amount_minor": 500, "duration": "forever"}])
    assert subscription_mrr(data) == 0
