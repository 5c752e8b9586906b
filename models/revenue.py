"""Monthly recurring revenue of subscriptions (shared metric definitions, section 1), exact as fractions."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from models.fixed import half_up

PAYING = frozenset({"active", "past_due"})
"""Statuses that carry MRR: a trial has none until it converts, a delinquent subscription keeps it during dunning."""

_MONTHS = {"month": Fraction(1), "year": Fraction(1, 12), "quarter": Fraction(1, 3), "half_year": Fraction(1, 6)}
_MONTHS["week"] = Fraction("365.25") / 12 / 7
_MONTHS["day"] = Fraction("365.25") / 12


def months_factor(interval: str, count: int) -> Fraction:
    """How many of a price are due in a month, for a price of every `count` intervals."""
    return _MONTHS[interval] / count


def subscription_mrr(data: Any) -> Fraction:
    """The exact MRR of a subscription payload (`SubscriptionUpsertedData`), in minor units of its currency.

    `Σ unit_amount × quantity × months_factor × (1 − forever percent) − forever amount × months_factor`, metered items left out;
    0 for a status that does not pay.
    """
    if data.status not in PAYING:
        return Fraction(0)
    total = Fraction(0)
    for item in data.items:
        if item.usage_type != "metered":
            total += Fraction(Decimal(item.unit_amount_minor)) * item.quantity * months_factor(item.interval, item.interval_count)
    for discount in data.discounts:
        if discount.duration != "forever":
            continue
        if discount.percent is not None:
            total *= 1 - Fraction(Decimal(str(discount.percent))) / 100
        elif discount.amount_minor is not None and data.items:
            first = data.items[0]
            total -= discount.amount_minor * months_factor(first.interval, first.interval_count)
    return max(total, Fraction(0))


def mrr_by_currency(subscriptions: Iterable[Any]) -> dict[str, int]:
    """The MRR of an account in minor units by currency, rounded half-up once for each currency; currencies with none left out."""
    exact: dict[str, Fraction] = {}
    for data in subscriptions:
        exact[data.currency] = exact.get(data.currency, Fraction(0)) + subscription_mrr(data)
    return {currency: half_up(mrr.numerator, mrr.denominator) for currency, mrr in sorted(exact.items()) if mrr}
