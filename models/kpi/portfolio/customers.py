"""Customer counts, churn, retention, renewals, trials, signups, referrals and cohorts."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from models.kpi import customers, worth
from models.kpi.exact import Exact, Reading, proportion, ratio
from models.kpi.portfolio.book import AT_RISK, PREVIOUS, Direction, Kpi, Options, as_count, by_number, each, section, total

CHURN_FIGURES: Final = ("customers_start", "customers_churned", "customers_new", "customers_reactivated", "customers_same_period_churned")


def _churn(option: customers.ChurnOption) -> Callable[..., Reading]:
    def made(start: int, churned: int, new: int, reactivated: int, same_period: int) -> Reading:
        return customers.churn_rate(start, churned, new + reactivated, same_period, option)

    return made


def _scaled(to_days: Exact) -> Callable[..., Reading]:
    def made(options: Options, start: int, churned: int) -> Reading:
        churn = customers.churn_rate(start, churned)
        return churn if churn.value is None else customers.scaled_churn(churn.value, options.days, to_days)

    return made


def _daily_sum(options: Options, churned: int, same_period: int, customer_days: int) -> Reading:
    return ratio((churned + same_period) * options.days, customer_days, n=customer_days)


def _cohort(left: Mapping[str, int], began: Mapping[str, int]) -> dict[str, Reading]:
    return {month: proportion(left.get(month, 0), count) for month, count in began.items()}


def kpis() -> Iterator[Kpi]:
    """Customer counts, churn, retention, renewals, trials, signups, referrals and cohorts."""
    counts: tuple[tuple[str, str, Direction | None, str, str], ...] = (
        ("customers_new", "New customers", "up", "S1", "accounts that became a customer for the first time"),
        ("customers_reactivated", "Reactivated customers", "up", "ChartMogul", "accounts that are customers again"),
        ("customers_churned", "Churned customers", "down", "S1", "customers of the start that are none at the end"),
        (
            "customers_same_period_churned",
            "Same-period churn",
            "down",
            "Baremetrics",
            "came and left within the month: in no churn rate of the start",
        ),
        ("customers_end_paused", "Paused customers", "down", "ProfitWell", "customers on pause: not churned"),
        ("accounts", "Accounts", None, "S0", "accounts that exist"),
        ("referrals_made", "Referrals made", "up", "S0", "referrals made by accounts"),
        ("signups", "Signups", "up", "S0", "completed signups"),
        ("visitors", "Visitors", "up", "S3", "distinct visitors, anonymous ids merged"),
    )
    yield from section(
        "customers", *((name, title, "count", better, source, words, (name,), as_count) for name, title, better, source, words in counts)
    )
    renewals: tuple[tuple[str, Direction | None], ...] = (("renewed", "up"), ("lapsed", "down"), ("cancelled", "down"))
    for state, better in renewals:
        yield from section(
            "customers",
            (
                f"renewals_{state}_rate",
                f"Renewals {state}",
                "percent",
                better,
                "S0 item 6",
                f"renewals {state} / renewals due in the month",
                (f"renewals_{state}", "renewals_due"),
                proportion,
            ),
            (
                f"renewals_{state}_mrr_rate",
                f"Renewals {state}, by MRR",
                "percent",
                better,
                "S0 item 6",
                f"MRR of renewals {state} / MRR of renewals due",
                (f"mrr_renewals_{state}", "mrr_renewals_due"),
                customers.share,
            ),
        )
    outcomes = ("due", "renewed", "lapsed", "cancelled")
    yield from section(
        "customers",
        (
            "renewals_open_rate",
            "Renewals open",
            "percent",
            None,
            "S0 item 6",
            "renewals due that have no outcome yet / renewals due",
            tuple(f"renewals_{each}" for each in outcomes),
            lambda *counts: customers.renewal_shares(*counts)["open"],
        ),
        (
            "renewals_open_mrr_rate",
            "Renewals open, by MRR",
            "percent",
            None,
            "S0 item 6",
            "MRR of renewals due that have no outcome yet / MRR of renewals due",
            tuple(f"mrr_renewals_{each}" for each in outcomes),
            lambda due, *done: customers.share(due - sum(done), due),
        ),
    )
    yield from section(
        "customers",
        ("customers", "Customers", "count", "up", "S1", "accounts that pay or have paused as the month ends", ("customers_end",), as_count),
        (
            "customer_churn_rate",
            "Customer churn rate",
            "percent",
            "down",
            "S1, fight-churn 2.2",
            "customers of the start that are none at the end / customers at the start",
            ("customers_start", "customers_churned"),
            customers.churn_rate,
        ),
        (
            "customer_churn_rate_start_plus_new",
            "Customer churn rate, start and new",
            "percent",
            "down",
            "S3, Stripe",
            "all that left / (customers at the start + new and reactivated)",
            CHURN_FIGURES,
            _churn("start_plus_new"),
        ),
        (
            "customer_churn_rate_all_lost",
            "Customer churn rate, all lost",
            "percent",
            "down",
            "S3",
            "all that left, also of the new / customers at the start",
            CHURN_FIGURES,
            _churn("all_lost_over_start"),
        ),
        (
            "customer_churn_rate_average",
            "Customer churn rate, average",
            "percent",
            "down",
            "ChartMogul",
            "all that left / mean of the customers at start and end",
            CHURN_FIGURES,
            _churn("average"),
        ),
        (
            "activity_churn_rate",
            "Activity churn rate",
            "percent",
            "down",
            "S2, S4, fight-churn 2.3",
            "active accounts without an event since / accounts active in the inactivity window before the start",
            ("activity_accounts_before", "activity_accounts_lost"),
            customers.activity_churn,
        ),
        (
            "customer_retention_rate",
            "Customer retention rate",
            "percent",
            "up",
            "S3, corrected",
            "(customers at the end − new − reactivated) / customers at the start: 1 − churn rate",
            ("customers_end", *CHURN_FIGURES),
            lambda end, start, _, new, back, same: customers.retention_rate(start, end, new - same, back),
        ),
        (
            "customer_retention_rate_raw",
            "Customer retention rate, as in S3",
            "percent",
            "up",
            "S3",
            "(customers at the end − new) / customers at the start; above 100 % when accounts came back",
            ("customers_end", *CHURN_FIGURES),
            lambda end, start, _churned, new, _back, same: customers.retention_rate_raw(start, end, new - same),
        ),
        (
            "customer_growth_rate",
            "Customer growth",
            "percent",
            "up",
            "S0",
            "(customers at the end − at the start) / customers at the start",
            ("customers_start", "customers_end"),
            customers.growth_rate,
        ),
        (
            "customers_by_band",
            "Customers by band",
            "count",
            None,
            "own",
            "customers by the band of their health score",
            ("customers_by_band",),
            each,
        ),
        (
            "customers_at_risk_rate",
            "Customers at risk",
            "percent",
            "down",
            "own",
            "customers in band at_risk or critical / customers",
            ("customers_by_band",),
            lambda bands: proportion(
                sum(bands.get(band, 0) for band in AT_RISK), sum(bands.values()), "zero_denominator" if bands else "not_observed"
            ),
        ),
        (
            "repeat_purchase_rate",
            "Repeat purchase rate",
            "percent",
            "up",
            "S3",
            "buyers with two orders or more / buyers to date",
            ("buyers_repeat", "buyers_ever"),
            customers.repeat_purchase_rate,
        ),
        ("trials_started", "Trials started", "count", "up", "S3", "trials that began in the month", ("trials_started",), total),
        (
            "trials_open",
            "Trials open",
            "count",
            None,
            "S3",
            "of the trials that began in the month those whose grace is not over",
            ("trials_started", "trials_matured"),
            lambda started, matured: Reading(sum(started.values()) - sum(matured.values())),
        ),
        (
            "trial_conversion_rate",
            "Trial conversion",
            "percent",
            "up",
            "S3, corrected",
            "trials of the month that became paying up to 14 days after their end / trials of the month whose grace is over",
            ("trials_converted", "trials_matured"),
            lambda converted, matured: customers.trial_conversion(sum(converted.values()), sum(matured.values())),
        ),
        (
            "trial_conversion_rate_by_card",
            "Trial conversion by card",
            "percent",
            "up",
            "S3, retentionlens",
            "the same by whether a card was asked for at the start",
            ("trials_converted", "trials_matured"),
            lambda converted, matured: {card: customers.trial_conversion(converted.get(card, 0), count) for card, count in matured.items()},
        ),
        (
            "trial_growth_rate",
            "Trial growth",
            "percent",
            "up",
            "S3, corrected",
            "(trials started − trials started the month before) / trials started the month before",
            (f"{PREVIOUS}trials_started", "trials_started"),
            lambda old, new: customers.growth_rate(sum(old.values()), sum(new.values())),
        ),
        ("signup_rate", "Signup rate", "percent", "up", "S0, S3", "signups / visitors", ("signups", "visitors"), customers.conversion),
        (
            "activation_rate",
            "Activation rate",
            "percent",
            "up",
            "S0, S3, PostHog",
            "signups of the month that activated in time / signups of the month whose activation days are over",
            ("signups_activated", "signups_matured"),
            customers.conversion,
        ),
        (
            "referred_signup_rate",
            "Referred signups",
            "percent",
            "up",
            "S0",
            "signups that another account referred / signups",
            ("signups_referred", "signups"),
            customers.conversion,
        ),
        (
            "referral_rate",
            "Referral rate",
            "percent",
            "up",
            "S0",
            "new customers that another account referred / new customers",
            ("customers_new_referred", "customers_new"),
            customers.conversion,
        ),
        (
            "referral_revenue_rate",
            "Referral revenue",
            "percent",
            "up",
            "S0",
            "revenue of referred accounts / total revenue",
            ("revenue_referred", "revenue_paid", "revenue_refunded"),
            lambda referred, paid, refunded: customers.share(referred, paid - refunded),
        ),
        (
            "referrals_converted_per_made",
            "Referrals converted per made",
            "ratio",
            "up",
            "S0",
            "referrals converted in the month / referrals made in it",
            ("referrals_converted", "referrals_made"),
            ratio,
        ),
        (
            "cohort_retention",
            "Cohort retention",
            "percent",
            "up",
            "PostHog, ChartMogul",
            "by start month: its accounts that are customers as this month ends / all that began in it",
            ("cohort_paying", "cohort_accounts"),
            _cohort,
        ),
        (
            "cohort_retention_unbounded",
            "Cohort retention, this month or later",
            "percent",
            "up",
            "PostHog",
            "by start month: its accounts that are customers as this or a later month ends / all that began in it",
            ("cohort_paying_unbounded", "cohort_accounts"),
            _cohort,
        ),
        (
            "cohort_mrr_retention",
            "Cohort retention of MRR",
            "percent",
            "up",
            "ChartMogul",
            "by start month: MRR of its accounts as this month ends / as their first month ended",
            ("cohort_mrr", "cohort_mrr_start"),
            lambda left, began: {month: customers.share(left.get(month, 0), mrr) for month, mrr in began.items()},
        ),
        (
            "customer_lifetime_mean",
            "Average customer lifetime",
            "years",
            "up",
            "S3",
            "mean years from first paid day to churn of the accounts that churned; those that run on are beside it",
            ("lifetime_days_ended", "lifetimes_ended", "lifetimes_running"),
            lambda days, ended, running: worth.mean_lifetime(days, sum(ended.values()), sum(running.values())),
        ),
        (
            "customer_lifetime_median",
            "Median customer lifetime",
            "months",
            "up",
            "Kaplan-Meier",
            "the first month of life that at most half of the accounts survive, those that run on included",
            ("lifetimes_ended", "lifetimes_running"),
            lambda ended, running: worth.median_lifetime_months(by_number(ended), by_number(running)),
        ),
    )
    yield from section(
        "customers",
        (
            "customer_churn_rate_daily_sum",
            "Customer churn rate, daily sum",
            "percent",
            "down",
            "ChartMogul",
            "all that left / mean of the customers as each day begins",
            ("customers_churned", "customers_same_period_churned", "customer_days"),
            _daily_sum,
        ),
        (
            "customer_churn_rate_annual",
            "Customer churn rate, scaled to a year",
            "percent",
            "down",
            "fight-churn 2.5",
            "1 − (1 − churn rate)^(365 / days of the month)",
            ("customers_start", "customers_churned"),
            _scaled(customers.YEAR_DAYS),
        ),
        (
            "customer_churn_rate_monthly",
            "Customer churn rate, scaled to a month",
            "percent",
            "down",
            "fight-churn 2.5",
            "1 − (1 − churn rate)^(365 / 12 / days of the month)",
            ("customers_start", "customers_churned"),
            _scaled(customers.MONTH_DAYS),
        ),
        has_options=True,
    )
