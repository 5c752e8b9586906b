"""Monthly recurring revenue of subscriptions (shared metric definitions, section 1), exact as fractions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from models.fixed import half_up

PAYING = frozenset({"active", "past_due"})
"""Statuses that carry MRR: a trial has none until it converts, a delinquent subscription keeps it during dunning."""

MONTHS = {"month": Fraction(1), "year": Fraction(1, 12), "quarter": Fraction(1, 3), "half_year": Fraction(1, 6)}
MONTHS["week"] = Fraction("365.25") / 12 / 7
MONTHS["day"] = Fraction("365.25") / 12
"""How often a month an interval begins."""

Number = int | Fraction | Decimal


class Reduction(NamedTuple):
    """A discount: per cent, or an amount in minor units that comes off each bill."""

    percent: Number | None
    amount_minor: Number | None
    duration: str | None


class Line(NamedTuple):
    """A price in minor units for each `every` intervals, times the quantity; and the discounts of that line alone."""

    unit: Number
    quantity: Number
    interval: str
    every: int = 1
    is_metered: bool = False
    reductions: tuple[Reduction, ...] = ()


@dataclass(frozen=True, slots=True)
class Pricing:
    """What of a price is recurring revenue.

    `discount_policy`: only discounts for ever reduce it (Stripe), `all` do (ProfitWell), or `none` (Paddle). `weeks_per_month`: None is
    365.25 / 12 / 7, Lago takes 4.33.
    """

    discount_policy: Literal["forever", "all", "none"] = "forever"
    include_metered: bool = False
    weeks_per_month: Number | None = None


STANDARD = Pricing()


def months_factor(interval: str, count: int, weeks_per_month: Number | None = None) -> Fraction:
    """How many of a price are due in a month, for a price of every `count` intervals."""
    if interval == "week" and weeks_per_month is not None:
        return Fraction(weeks_per_month) / count
    return MONTHS[interval] / count


def monthly(lines: Sequence[Line], reductions: Iterable[Reduction], pricing: Pricing = STANDARD) -> Fraction:
    """What prices come to in a month, exact, never below 0.

    `Σ unit × quantity × months_factor × (1 − percent) − amount × months_factor`: percents one after the other, then the amounts, which
    come off as often as the first line that counts is billed.
    """
    counted = [line for line in lines if pricing.include_metered or not line.is_metered]
    if not counted:
        return Fraction(0)
    often = [months_factor(line.interval, line.every, pricing.weeks_per_month) for line in counted]
    full = [Fraction(line.unit) * Fraction(line.quantity) * times for line, times in zip(counted, often, strict=True)]
    own = [reduced(amount, times, line.reductions, pricing) for line, amount, times in zip(counted, full, often, strict=True)]
    return reduced(sum(own, Fraction(0)), often[0], reductions, pricing)


def reduced(amount: Fraction, often: Fraction, reductions: Iterable[Reduction], pricing: Pricing) -> Fraction:
    """An amount less its discounts, never below 0: percents first, then the amounts, which come off `often` times a month."""
    off = Fraction(0)
    for reduction in reductions:
        if pricing.discount_policy == "none" or (pricing.discount_policy == "forever" and reduction.duration != "forever"):
            continue
        if reduction.percent is not None:
            amount *= 1 - Fraction(reduction.percent) / 100
        elif reduction.amount_minor is not None:
            off += Fraction(reduction.amount_minor) * often
    return max(amount - off, Fraction(0))


def subscription_mrr(data: Any, pricing: Pricing = STANDARD) -> Fraction:
    """The exact MRR of a subscription payload (`SubscriptionUpsertedData`) in minor units; 0 for a status that does not pay."""
    if data.status not in PAYING:
        return Fraction(0)
    lines = [
        Line(Decimal(each.unit_amount_minor), each.quantity, each.interval, each.interval_count, each.usage_type == "metered")
        for each in data.items
    ]
    reductions = [
        Reduction(None if each.percent is None else Decimal(str(each.percent)), each.amount_minor, each.duration) for each in data.discounts
    ]
    return monthly(lines, reductions, pricing)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a subscription stands at an instant, as far as its MRR depends on it.

    `days_past_due` is how long it has been past due, `ends_at_period_end` whether it was cancelled and runs to the end of what is paid.
    """

    status: str = "active"
    is_paused: bool = False
    days_past_due: Number = 0
    ends_at_period_end: bool = False


def carries_mrr(
    standing: Standing,
    pause_policy: Literal["zero", "keep"] = "zero",
    churn_recognition: Literal["period_end", "immediate"] = "period_end",
    dunning_days: int = 15,
) -> bool:
    """Whether a subscription has MRR as it stands.

    A trial has none, nor what is unpaid or has ended. What is past due keeps it for `dunning_days`. A pause takes it away, unless the
    policy is to keep it; a cancellation does when the paid period ends, or at the request when that is recognised immediately.
    """
    is_paused = standing.is_paused or standing.status == "paused"
    if is_paused and pause_policy == "zero":
        return False
    if standing.status not in PAYING and standing.status != "paused":
        return False
    if standing.status == "past_due" and standing.days_past_due > dunning_days:
        return False
    return not (standing.ends_at_period_end and churn_recognition == "immediate")


def mrr_by_currency(subscriptions: Iterable[Any]) -> dict[str, int]:
    """The MRR of an account in minor units by currency, rounded half-up once for each currency; currencies with none left out."""
    exact: dict[str, Fraction] = {}
    for data in subscriptions:
        exact[data.currency] = exact.get(data.currency, Fraction(0)) + subscription_mrr(data)
    return {currency: half_up(mrr.numerator, mrr.denominator) for currency, mrr in sorted(exact.items()) if mrr}
