"""Recurring and other revenue."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from models.kpi import customers, recurring
from models.kpi.exact import Reading, none, ratio
from models.kpi.portfolio.book import AT_RISK, Direction, Kpi, Options, as_count, section, shares

MOVEMENTS: Final = (
    "mrr_start",
    "mrr_new",
    "mrr_reactivation",
    "mrr_expansion",
    "mrr_contraction",
    "mrr_churn",
    "mrr_pause",
    "mrr_resume",
    "mrr_fx",
)


def _moved(options: Options, *amounts: Fraction) -> recurring.Movements:
    start, new, reactivation, expansion, contraction, churn, pause, resume, fx = amounts
    return recurring.Movements(start, new, reactivation, expansion, contraction, churn, pause, resume, fx, options.pause_policy)


def _retained(kept: Fraction, start: Fraction, everybody: int, paused: int) -> Reading:
    return ratio(kept, start, n=everybody - paused)


def kpis() -> Iterator[Kpi]:
    """Recurring and other revenue."""
    yield from section(
        "revenue",
        ("mrr", "MRR", "money", "up", "S1, S3", "sum of the monthly balances of all accounts as the month ends", ("mrr_end",), as_count),
        ("arr", "ARR", "money", "up", "Baremetrics, PostHog", "12 × MRR", ("mrr_end",), lambda mrr: Reading(recurring.arr(mrr))),
        (
            "arpa",
            "ARPA",
            "money",
            "up",
            "S3",
            "MRR / paying customers (those on pause do not pay)",
            ("mrr_end", "customers_end", "customers_end_paused"),
            lambda mrr, everybody, paused: recurring.per_account(mrr, everybody - paused),
        ),
        ("arpu", "ARPU", "money", "up", "S3", "MRR / users active in 28 days", ("mrr_end", "active_users_28d"), recurring.per_user),
        (
            "net_new_mrr",
            "Net new MRR",
            "money",
            "up",
            "ChartMogul",
            "MRR at the end − MRR at the start",
            ("mrr_start", "mrr_end"),
            lambda start, end: Reading(end - start),
        ),
        (
            "mrr_growth_rate",
            "MRR growth rate",
            "percent",
            "up",
            "S3",
            "(MRR at the end − MRR at the start) / MRR at the start",
            ("mrr_start", "mrr_end"),
            customers.growth_rate,
        ),
        (
            "grr",
            "Gross revenue retention",
            "percent",
            "up",
            "SaaS Metrics Standards Board",
            "over accounts with MRR at the start: sum of min(MRR at end, MRR at start) / sum of MRR at start, at the rates of the start",
            ("mrr_grr_kept", "mrr_start", "customers_start", "customers_start_paused"),
            _retained,
        ),
        (
            "nrr",
            "Net revenue retention",
            "percent",
            "up",
            "fight-churn 2.1",
            "over accounts with MRR at the start: sum of MRR at the end / sum of MRR at the start, at the rates of the start",
            ("mrr_nrr_kept", "mrr_start", "customers_start", "customers_start_paused"),
            _retained,
        ),
        (
            "nrr_with_reactivation",
            "Net revenue retention with reactivation",
            "percent",
            "up",
            "ChartMogul",
            "as NRR, and MRR at the end of accounts reactivated in the month above the line",
            ("mrr_nrr_kept", "mrr_reactivated_kept", "mrr_start", "customers_start", "customers_start_paused"),
            lambda kept, back, start, everybody, paused: _retained(kept + back, start, everybody, paused),
        ),
        (
            "total_revenue",
            "Total revenue",
            "money",
            "up",
            "S3",
            "paid amounts − refunds",
            ("revenue_paid", "revenue_refunded"),
            lambda paid, refunded: Reading(paid - refunded),
        ),
        (
            "revenue_by_product",
            "Revenue by product",
            "percent",
            None,
            "S0 items 13-15",
            "share of each product in paid amounts",
            ("revenue_by_product",),
            shares,
        ),
        (
            "mrr_by_product",
            "MRR by product",
            "percent",
            None,
            "S0 items 13-15",
            "share of each product in MRR",
            ("mrr_by_product",),
            shares,
        ),
        (
            "product_nrr",
            "NRR by product",
            "percent",
            "up",
            "S0 items 13-15",
            "NRR of each product; one that is at least 100 % for three periods is sustainable",
            ("mrr_by_product_kept", "mrr_by_product_start"),
            lambda kept, start: {product: ratio(kept.get(product, 0), mrr) for product, mrr in start.items()},
        ),
        (
            "product_concentration",
            "Concentration (HHI)",
            "ratio",
            "down",
            "S0 items 13-15",
            "sum of the squared shares of products in MRR; 1 is one product",
            ("mrr_by_product",),
            lambda amounts: recurring.concentration(amounts) if amounts else none("not_observed"),
        ),
        (
            "mrr_at_risk",
            "MRR at risk",
            "money",
            "down",
            "PostHog",
            "MRR of accounts in band at_risk or critical",
            ("mrr_by_band",),
            lambda bands: Reading(sum((bands.get(band, Fraction(0)) for band in AT_RISK), Fraction(0))) if bands else none("not_observed"),
        ),
        (
            "mrr_expected_loss",
            "Expected loss of MRR",
            "money",
            "down",
            "PostHog",
            "sum of churn risk × MRR; withheld while the risk is not calibrated",
            ("mrr_expected_loss", "customers_with_risk"),
            lambda lost, n: Reading(lost, None, n) if n else none("no_calibrated_risk", 0),
        ),
        (
            "mrr_with_risk",
            "MRR with a churn risk",
            "percent",
            "up",
            "own",
            "MRR of customers with a calibrated churn risk / MRR: how much the expected loss speaks of",
            ("mrr_with_risk", "mrr_end"),
            customers.share,
        ),
    )
    yield from section(
        "revenue",
        (
            "gross_mrr_churn",
            "Gross MRR churn",
            "percent",
            "down",
            "ChartMogul",
            "(churn + contraction, pauses included under pause_policy zero) / MRR at the start",
            MOVEMENTS,
            lambda *given: _moved(*given).gross_churn(),
        ),
        (
            "net_mrr_churn",
            "Net MRR churn",
            "percent",
            "down",
            "ChartMogul",
            "(churn + contraction − expansion − reactivation, pauses as losses and resumptions as gains) / MRR at the start",
            MOVEMENTS,
            lambda *given: _moved(*given).net_churn(),
        ),
        (
            "quick_ratio",
            "Quick ratio",
            "ratio",
            "up",
            "Baremetrics",
            "(new + expansion) / (churn + contraction), pauses as losses and resumptions as gains; null without losses",
            MOVEMENTS,
            lambda *given: _moved(*given).quick_ratio(),
        ),
        (
            "quick_ratio_with_reactivation",
            "Quick ratio with reactivation",
            "ratio",
            "up",
            "Baremetrics",
            "(new + expansion + reactivation) / (churn + contraction), pauses as losses and resumptions as gains; null without losses",
            MOVEMENTS,
            lambda *given: _moved(*given).quick_ratio(include_reactivation=True),
        ),
        has_options=True,
    )
    money: tuple[tuple[str, str, Direction | None, str, str], ...] = (
        ("mrr_new", "New MRR", "up", "ChartMogul", "MRR of accounts that pay for the first time"),
        ("mrr_reactivation", "Reactivation MRR", "up", "ChartMogul", "MRR of accounts that paid before and are back after the allowed gap"),
        ("mrr_expansion", "Expansion MRR", "up", "S3, ChartMogul", "more MRR of accounts that go on paying; orders are one-off revenue"),
        ("mrr_contraction", "Contraction MRR", "down", "ChartMogul", "less MRR of accounts that go on paying"),
        ("mrr_churn", "Churned MRR", "down", "ChartMogul", "MRR of accounts that stopped paying"),
        ("mrr_churn_expired", "Expired MRR", "down", "PostHog", "churned MRR that was never renewed and never cancelled"),
        ("mrr_pause", "Paused MRR", "down", "ProfitWell", "MRR of accounts that paused: no lost customers"),
        ("mrr_resume", "Resumed MRR", "up", "ProfitWell", "MRR of accounts that are back from a pause"),
        ("mrr_fx", "FX movement", None, "ChartMogul", "what changed exchange rates alone did to MRR: never an expansion"),
        ("mrr_delinquent", "Delinquent MRR", "down", "Stripe, ProfitWell", "MRR of past-due subscriptions inside their dunning window"),
        ("mrr_pending_churn", "Pending churn MRR", "down", "ProfitWell", "MRR of subscriptions that were cancelled and still run"),
        (
            "mrr_renewing_at_risk",
            "MRR renewing at risk",
            "down",
            "PostHog",
            "MRR that renews within 90 days of accounts at risk or on watch",
        ),
        ("revenue_refunded", "Refunds", "down", "S4", "refunds and credit notes"),
        ("revenue_one_off", "One-off revenue", "up", "S3", "paid orders and other revenue that does not recur"),
        ("revenue_usage", "Usage revenue", "up", "Stripe", "paid for metered use"),
    )
    yield from section(
        "revenue", *((name, title, "money", better, source, f"{words}", (name,), as_count) for name, title, better, source, words in money)
    )
