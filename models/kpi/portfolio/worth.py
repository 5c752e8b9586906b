"""What customers bring and cost."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from models.kpi import customers, recurring, worth
from models.kpi.exact import Exact, Reading, none
from models.kpi.portfolio.book import Kpi, Options, section


def _spent(costs: Mapping[str, Fraction], kind: str) -> Fraction | None:
    """What was spent on a kind of cost, `acquisition` or `cogs`; None when nothing ever said."""
    found = [amount for category, amount in costs.items() if category == kind or category.startswith(f"{kind}.")]
    return sum(found, Fraction(0)) if found else None


def _cac(costs: Mapping[str, Fraction], new: int, new_by_channel: Mapping[str, int], by_channel: Mapping[str, Fraction]) -> Reading:
    cost = _spent(costs, "acquisition")
    if cost is None:
        return none("no_costs")
    is_partial = any(channel not in by_channel for channel in new_by_channel if channel != "unknown")
    return worth.cac(cost, new, is_partial=is_partial)


def _margin(paid: Fraction, refunded: Fraction, costs: Mapping[str, Fraction]) -> Reading:
    return worth.gross_margin(paid - refunded, _spent(costs, "cogs"))


CLV_FIGURES: Final = (
    "mrr_end",
    "customers_end",
    "customers_end_paused",
    "customers_start",
    "customers_churned",
    "revenue_paid",
    "revenue_refunded",
    "costs",
)


def _clv(
    options: Options, mrr: Fraction, end: int, paused: int, start: int, churned: int, paid: Fraction, refunded: Fraction, costs: Any
) -> Reading:
    arpa, churn = recurring.per_account(mrr, end - paused), customers.churn_rate(start, churned)
    if arpa.value is None:
        return arpa
    if churn.value is None:
        return churn
    margin = _margin(paid, refunded, costs).value
    found = worth.clv_predictive(arpa.value, margin, churn.value, options.max_lifetime_months)
    return Reading(found.value, found.reason, start)


def _clv_less_cac(options: Options, *given: Any) -> Reading:
    *of_clv, new, new_by_channel, by_channel = given
    clv, spent = _clv(options, *of_clv), _cac(of_clv[-1], new, new_by_channel, by_channel)
    return clv if clv.value is None else spent if spent.value is None else worth.clv_net(clv.value, spent.value)


def _ltv_cac(options: Options, *given: Any) -> Reading:
    *of_clv, new, new_by_channel, by_channel = given
    clv, spent = _clv(options, *of_clv), _cac(of_clv[-1], new, new_by_channel, by_channel)
    return clv if clv.value is None else spent if spent.value is None else worth.ltv_cac(clv.value, spent.value)


def _clv_discounted(
    options: Options,
    mrr: Fraction,
    end: int,
    paused: int,
    start: int,
    churned: int,
    paid: Fraction,
    refunded: Fraction,
    costs: Any,
    *more: Any,
) -> Reading:
    arpa, churn = recurring.per_account(mrr, end - paused), customers.churn_rate(start, churned)
    margin, spent = _margin(paid, refunded, costs), _cac(costs, *more)
    if arpa.value is None:
        return arpa
    if churn.value is None:
        return churn
    if margin.value is None:
        return none("no_margin")
    if spent.value is None:
        return spent
    return worth.clv_discounted_predictive(arpa.value, margin.value, churn.value, options.discount_factor, spent.value)


def _clv_ecommerce(one_off: Fraction, orders: int, ever: int, repeat: int, lifespan_days: int) -> Reading:
    value = worth.average_order_value(one_off, orders).value
    if value is None or not ever:
        return none("no_orders")
    years = worth.lifespan_years(Fraction(lifespan_days, repeat)) if repeat else Fraction(0)
    return replace(worth.clv_order(value, Fraction(12 * orders, ever), years), n=repeat)  # it stands on as many lifespans


def _crc(costs: Mapping[str, Fraction], retained: Exact) -> Reading:
    cost = _spent(costs, "retention")
    return none("no_costs") if cost is None else worth.crc_per_customer(cost, retained)


CAC_FIGURES: Final = ("customers_new", "customers_new_by_channel", "costs_acquisition_by_channel")


def kpis() -> Iterator[Kpi]:
    """What customers bring and cost."""
    yield from section(
        "value and cost",
        (
            "cac",
            "Customer acquisition cost",
            "money",
            "down",
            "S0",
            "acquisition costs / accounts that became paying; partial when a channel that brought some has no cost",
            ("costs", *CAC_FIGURES),
            _cac,
        ),
        (
            "crc_per_retained",
            "Retention cost per retained customer",
            "money",
            "down",
            "S1",
            "retention costs / customers of the start that still are at the end",
            ("costs", "customers_start", "customers_churned"),
            lambda costs, start, churned: _crc(costs, start - churned),
        ),
        (
            "crc_per_customer",
            "Retention cost per customer",
            "money",
            "down",
            "S3",
            "retention costs / mean of the customers at start and end",
            ("costs", "customers_start", "customers_end"),
            lambda costs, start, end: _crc(costs, Fraction(start + end, 2)),
        ),
        (
            "lost_opportunity",
            "Lost opportunity",
            "money",
            "down",
            "S1",
            "12 × churned MRR; a figure of its own, in no other cost",
            ("mrr_churn",),
            lambda churn: Reading(worth.lost_opportunity(churn)),
        ),
        (
            "clv_historic",
            "Customer lifetime value to date",
            "money",
            "up",
            "S0, S4",
            "all revenue less refunds to date / accounts that have ever paid",
            ("revenue_to_date", "customers_ever", "revenue_paid"),
            lambda to_date, ever, _paid: worth.clv_historic(to_date, ever),
        ),
        (
            "clv_ecommerce",
            "Customer lifetime value of orders",
            "money",
            "up",
            "S1, S3",
            "average order value × 12 × orders per buyer × mean years from first to last order; null while nobody has ordered twice",
            ("revenue_one_off", "orders", "buyers_ever", "buyers_repeat", "order_lifespan_days"),
            _clv_ecommerce,
        ),
        (
            "gross_margin",
            "Gross margin",
            "percent",
            "up",
            "S0, S3",
            "(revenue − cost of goods sold) / revenue; null without such costs",
            ("revenue_paid", "revenue_refunded", "costs"),
            _margin,
        ),
        (
            "net_margin",
            "Net margin",
            "percent",
            "up",
            "S0, S3",
            "(revenue − cost of goods sold − operating costs) / revenue; null without such costs",
            ("revenue_paid", "revenue_refunded", "costs"),
            lambda paid, refunded, costs: worth.net_margin(paid - refunded, _spent(costs, "cogs"), _spent(costs, "opex")),
        ),
        (
            "average_order_value",
            "Average order value",
            "money",
            "up",
            "S1, S3",
            "paid one-off orders / number of orders",
            ("revenue_one_off", "orders"),
            worth.average_order_value,
        ),
        (
            "purchase_frequency",
            "Purchase frequency",
            "ratio",
            "up",
            "S3",
            "orders / distinct buyers of the month",
            ("orders", "buyers"),
            worth.purchase_frequency,
        ),
    )
    yield from section(
        "value and cost",
        (
            "clv_predictive",
            "Customer lifetime value",
            "money",
            "up",
            "S0, S3, PostHog",
            "ARPA × gross margin / monthly churn rate; null without churn",
            CLV_FIGURES,
            _clv,
        ),
        (
            "clv_net_of_cac",
            "Customer lifetime value net of CAC",
            "money",
            "up",
            "S0 (ii)",
            "predictive CLV − CAC",
            (*CLV_FIGURES, *CAC_FIGURES),
            _clv_less_cac,
        ),
        (
            "clv_discounted",
            "Discounted customer lifetime value",
            "money",
            "up",
            "S3, corrected",
            "ARPA × gross margin / (1 − (1 − monthly churn rate) × monthly discount factor) − CAC",
            (*CLV_FIGURES, *CAC_FIGURES),
            _clv_discounted,
        ),
        (
            "ltv_cac",
            "LTV : CAC",
            "ratio",
            "up",
            "S3",
            "predictive CLV / CAC; below 1 the unit economics are negative",
            (*CLV_FIGURES, *CAC_FIGURES),
            _ltv_cac,
        ),
        has_options=True,
    )
