"""The additive figures: whole numbers per month and segment, from which every portfolio KPI is a sum and a ratio.

A worker makes them absolute from the accounts that it owns, a reader adds those of all partitions up, and no figure depends on how the
accounts are shared out. So a figure is never a mean, a rate, a distinct count across accounts or a float.

- **Absent is not zero.** A figure that is not there was never observed (its feed sends nothing); one that is 0 was observed. A producer
  writes every figure without a label of a feed that it has ever seen something of, and of those with a label the ones that are not 0.
- **Money** is `micro_minor`: millionths of a minor unit. An amount of the ledger is rounded half-up to that once per subscription
  (`to_micro`), so that all identities between figures are those of integers. Each currency is kept apart. Where a reporting currency is
  configured all money is in that one (converted by the rate of the day, `models/kpi/rates.py`), else each amount in its own.
- **A user of two accounts** is a user in each: users are distinct inside their account.
- **A customer** is an account that pays (MRR above 0), or that has paused without having left. In each month and segment, exactly:
  `customers_start + customers_new + customers_reactivated - customers_churned - customers_same_period_churned = customers_end` and
  `mrr_start + mrr_new + mrr_reactivation + mrr_expansion + mrr_resume - mrr_contraction - mrr_churn - mrr_pause + mrr_fx = mrr_end`.
  An account counts in the segment that it has now, in all its months: so a month begins in each segment as the one before it ended.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from models.fixed import half_up

Kind = Literal["flow", "stock", "opening"]
"""`flow`: what happened in the month. `stock`: how it is as the month ends, or now while it runs. `opening`: as the month begins."""

Unit = Literal[
    "accounts",
    "agents",
    "answers",
    "days",
    "features",
    "invitations",
    "micro",
    "micro_minor",
    "milliseconds",
    "orders",
    "recommendations",
    "referrals",
    "renewals",
    "reports",
    "seats",
    "seconds",
    "sessions",
    "steps",
    "texts",
    "tickets",
    "touchpoints",
    "trials",
    "user_days",
    "users",
    "views",
    "visitors",
]
"""What a figure counts; `micro` are millionths of a number without a unit."""

MICRO = 1_000_000
"""Millionths in one."""

PAYMENTS, USAGE, TICKETS, SURVEYS, ACCOUNTS, COSTS, SCORES = (
    "payment-events",
    "usage-events",
    "ticket-events",
    "survey-events",
    "account-events",
    "cost-events",
    "health-scores",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One additive figure: what it counts, over which time, and the topic that it comes from.

    `label` names what it is kept apart by (`scale`, `band`, ...), and is empty for a figure that is one number.
    """

    name: str
    unit: Unit
    kind: Kind
    topic: str
    meaning: str
    label: str = ""

    @property
    def is_money(self) -> bool:
        """Whether it is kept apart by currency."""
        return self.unit == "micro_minor"


def _group(topic: str, *rows: tuple[str, Unit, Kind, str] | tuple[str, Unit, Kind, str, str]) -> Iterator[Figure]:
    for name, unit, kind, meaning, *label in rows:
        yield Figure(name, unit, kind, topic, meaning, *label)


def _customers() -> Iterator[Figure]:
    return _group(
        PAYMENTS,
        ("customers_start", "accounts", "opening", "customers as the month begins"),
        ("customers_start_paused", "accounts", "opening", "of them those that had paused, with no MRR"),
        ("customers_end", "accounts", "stock", "customers as the month ends"),
        ("customers_end_paused", "accounts", "stock", "of them those that have paused, with no MRR"),
        (
            "customers_churned",
            "accounts",
            "flow",
            "customers of the start that are none at the end; who came back before it is not counted",
        ),
        ("customers_new", "accounts", "flow", "accounts that became a customer for the first time, also those that left again"),
        (
            "customers_reactivated",
            "accounts",
            "flow",
            "not customers at the start but before, that became one again, also those that left again",
        ),
        ("customers_same_period_churned", "accounts", "flow", "of the new and the reactivated those that are no customer at the end"),
        ("customer_days", "days", "flow", "customers as each day begins, summed over the days of the month"),
        ("customers_new_by_channel", "accounts", "flow", "the new ones by the channel of their signup; `unknown` without one", "channel"),
        ("customers_new_referred", "accounts", "flow", "of the new ones those that another account referred"),
        ("customers_ever", "accounts", "stock", "accounts that have ever paid"),
        ("customers_by_band", "accounts", "stock", "customers by the band of their health score", "band"),
        ("customers_with_risk", "accounts", "stock", "paying customers with a calibrated churn risk"),
        (
            "lifetime_days_ended",
            "days",
            "stock",
            "days from first paid day to churn, summed over accounts that have churned and not come back",
        ),
        ("lifetimes_ended", "accounts", "stock", "those accounts, by whole months of 365/12 days from first paid day to churn", "months"),
        ("lifetimes_running", "accounts", "stock", "customers, by whole months since their first paid day: censored lifetimes", "months"),
        ("cohort_accounts", "accounts", "stock", "accounts that first paid in a month (YYYY-MM)", "start_month"),
        ("cohort_paying", "accounts", "stock", "of them the customers as this month ends", "start_month"),
        (
            "cohort_paying_unbounded",
            "accounts",
            "stock",
            "of them those that are customers as this or any later month ends, as far as known",
            "start_month",
        ),
        ("cohort_mrr_start", "micro_minor", "stock", "MRR of the accounts of a cohort as its first month ended", "start_month"),
        ("cohort_mrr", "micro_minor", "stock", "MRR of the accounts of a cohort as this month ends", "start_month"),
    )


def _mrr() -> Iterator[Figure]:
    return _group(
        PAYMENTS,
        ("mrr_start", "micro_minor", "opening", "MRR as the month begins"),
        ("mrr_end", "micro_minor", "stock", "MRR as the month ends"),
        ("mrr_new", "micro_minor", "flow", "movements `new`"),
        ("mrr_reactivation", "micro_minor", "flow", "movements `reactivation`"),
        ("mrr_expansion", "micro_minor", "flow", "movements `expansion`"),
        ("mrr_contraction", "micro_minor", "flow", "movements `contraction`, as a positive amount"),
        ("mrr_churn", "micro_minor", "flow", "movements `churn`, as a positive amount"),
        ("mrr_churn_expired", "micro_minor", "flow", "of them those of subscriptions that no renewal was ever sent for"),
        ("mrr_pause", "micro_minor", "flow", "movements `pause`, as a positive amount; 0 when a pause keeps its MRR"),
        ("mrr_resume", "micro_minor", "flow", "movements `resume`"),
        ("mrr_fx", "micro_minor", "flow", "movements `fx`: what a change of rates alone did, of either sign"),
        (
            "mrr_grr_kept",
            "micro_minor",
            "flow",
            "accounts with MRR at the start: the lesser of MRR at start and end, at the rates of the start",
        ),
        ("mrr_nrr_kept", "micro_minor", "flow", "accounts with MRR at the start: MRR at the end, at the rates of the start"),
        ("mrr_reactivated_kept", "micro_minor", "flow", "accounts reactivated in the month: MRR at the end, at the rates of the start"),
        ("mrr_delinquent", "micro_minor", "stock", "of `mrr_end` that of past-due subscriptions inside their dunning window"),
        (
            "mrr_pending_churn",
            "micro_minor",
            "stock",
            "of `mrr_end` that of subscriptions which end with their period, or at a date that is set",
        ),
        ("mrr_by_product", "micro_minor", "stock", "`mrr_end` by product", "product"),
        ("mrr_by_product_start", "micro_minor", "opening", "`mrr_start` by product", "product"),
        (
            "mrr_by_product_kept",
            "micro_minor",
            "flow",
            "accounts with MRR in the product at the start: that at the end, at the rates of the start",
            "product",
        ),
        ("mrr_by_band", "micro_minor", "stock", "`mrr_end` by the band of the health score", "band"),
        ("mrr_with_risk", "micro_minor", "stock", "`mrr_end` of customers with a calibrated churn risk"),
        ("mrr_expected_loss", "micro_minor", "stock", "of those, churn risk times MRR"),
        (
            "mrr_renewing_at_risk",
            "micro_minor",
            "stock",
            "MRR that renews within 90 days and whose account is in band watch, at_risk or critical",
        ),
    )


def _revenue() -> Iterator[Figure]:
    return _group(
        PAYMENTS,
        ("revenue_paid", "micro_minor", "flow", "paid invoices and charges, without tax; discounts and rebates are out already"),
        ("revenue_refunded", "micro_minor", "flow", "refunds and credit notes, as a positive amount"),
        ("revenue_one_off", "micro_minor", "flow", "of `revenue_paid` that of orders: charges and lines that do not recur"),
        ("revenue_usage", "micro_minor", "flow", "of `revenue_paid` that of metered use"),
        ("revenue_by_product", "micro_minor", "flow", "`revenue_paid` by product; `unknown` without one", "product"),
        ("revenue_referred", "micro_minor", "flow", "`revenue_paid` less `revenue_refunded` of accounts that another account referred"),
        ("revenue_to_date", "micro_minor", "stock", "paid less refunded since the account began"),
        ("orders", "orders", "flow", "paid one-off orders"),
        ("buyers", "accounts", "flow", "accounts with a paid order in the month"),
        ("buyers_ever", "accounts", "stock", "accounts with an order to date"),
        ("buyers_repeat", "accounts", "stock", "of them those with two orders or more"),
        ("order_lifespan_days", "days", "stock", "days from first to last order, summed over `buyers_repeat`"),
    )


def _renewals() -> Iterator[Figure]:
    rows: list[tuple[str, Unit, Kind, str]] = []
    for state, words in (
        ("due", "renewals with their due date in the month; an early one counts at that date"),
        ("renewed", "of those due the renewed; with auto-renewal when the new term begins"),
        ("lapsed", "of those due the lapsed"),
        ("cancelled", "of those due the cancelled"),
    ):
        rows.append((f"renewals_{state}", "renewals", "flow", words))
        rows.append((f"mrr_renewals_{state}", "micro_minor", "flow", f"MRR of `renewals_{state}` at the due date"))
    return _group(ACCOUNTS, *rows)


def _growth() -> Iterator[Figure]:
    return _group(
        ACCOUNTS,
        ("accounts", "accounts", "stock", "accounts that exist"),
        ("trials_started", "trials", "flow", "trials that began in the month, by `card`, `no_card` or `unknown`", "card"),
        ("trials_matured", "trials", "flow", "of them those whose end and grace are over", "card"),
        ("trials_converted", "trials", "flow", "of the matured those that became paying before the grace was over", "card"),
        ("signups", "users", "flow", "completed signups"),
        ("signups_matured", "users", "flow", "of them those whose activation days are over"),
        ("signups_activated", "users", "flow", "of the matured those that activated in time"),
        ("signups_referred", "users", "flow", "of the signups those that were referred by another account"),
        ("referrals_made", "referrals", "flow", "referrals made"),
        ("referrals_converted", "referrals", "flow", "referrals that converted in the month"),
        ("onboarding_accounts", "accounts", "stock", "accounts in onboarding"),
        ("onboarding_steps_done", "steps", "stock", "position of the furthest step completed, summed over them"),
        ("onboarding_steps", "steps", "stock", "steps of their checklists"),
        ("onboarding_position_days", "days", "stock", "days since they reached that step"),
        ("recommendations_made", "recommendations", "flow", "recommendations made to accounts"),
        ("recommendations_actioned", "recommendations", "flow", "of those made in the month the ones acted on"),
        ("touchpoints", "touchpoints", "flow", "contacts with accounts", "kind"),
    )


def _usage() -> Iterator[Figure]:
    return _group(
        USAGE,
        ("active_users_1d", "users", "stock", "distinct users with a qualifying event on the last day"),
        ("active_users_7d", "users", "stock", "distinct users with one in the last 7 days"),
        ("active_users_28d", "users", "stock", "distinct users with one in the last 28 days"),
        ("active_users_approximate", "accounts", "stock", "accounts whose active users are estimated"),
        ("user_days_28d", "user_days", "stock", "active users of each day, summed over the last 28 days"),
        ("users_by_active_days_28d", "users", "stock", "active users of 28 days by how many of them they were active on", "days"),
        ("user_days_toward_ideal", "user_days", "stock", "active days of each user in 28 days, at most the ideal number"),
        ("user_days_ideal", "user_days", "stock", "ideal days in 28, summed over the active users"),
        ("users_new_7d", "users", "stock", "active in the last 7 days, never before"),
        ("users_current_7d", "users", "stock", "active in the last 7 days and in the 7 before"),
        ("users_resurrected_7d", "users", "stock", "active in the last 7 days, not in the 7 before, active earlier"),
        ("users_dormant_7d", "users", "stock", "active in the 7 days before the last 7, not since"),
        ("users_new_28d", "users", "stock", "active in the last 28 days, never before"),
        ("users_current_28d", "users", "stock", "active in the last 28 days and in the 28 before"),
        ("users_resurrected_28d", "users", "stock", "active in the last 28 days, not in the 28 before, active earlier"),
        ("users_dormant_28d", "users", "stock", "active in the 28 days before the last 28, not since"),
        ("activity_accounts_before", "accounts", "opening", "accounts with an event in the inactivity window before the start"),
        ("activity_accounts_lost", "accounts", "flow", "of them those with no event in the inactivity window before the end"),
        ("seats_purchased", "seats", "stock", "seats of accounts whose seats are known"),
        ("seats_used", "users", "stock", "their active users of 28 days"),
        ("seats_used_capped", "users", "stock", "the same, in each account at most its seats"),
        ("features_entitled", "features", "stock", "core features that accounts are entitled to"),
        ("features_used_28d", "features", "stock", "of them those used in 28 days"),
        ("trend_accounts", "accounts", "stock", "accounts with a baseline of their own"),
        ("trend_points", "micro", "stock", "their own-baseline trend, 0 to 1"),
        ("core_accounts", "accounts", "stock", "accounts that have ever had a core event"),
        ("core_idle_days", "days", "stock", "whole days since their last core event"),
        ("core_accounts_slipping", "accounts", "stock", "of them those idle for more than 3 times their median gap, at least 7 days"),
        ("sessions", "sessions", "flow", "sessions that ended"),
        ("sessions_bounced", "sessions", "flow", "of them those of a single page"),
        ("session_ms", "milliseconds", "flow", "their time on the platform"),
        ("page_views", "views", "flow", "pages viewed"),
        ("visitors", "visitors", "flow", "distinct visitors, anonymous ids merged"),
        ("custom_sum", "micro", "flow", "reports of a custom metric added up", "metric"),
        ("custom_count", "reports", "flow", "how many reports of it there were", "metric"),
        ("custom_last", "micro", "stock", "each account's last report of it", "metric"),
    )


def _support() -> Iterator[Figure]:
    return _group(
        TICKETS,
        ("tickets_created", "tickets", "flow", "tickets created; merged ones once, deleted ones and spam not"),
        ("tickets_created_28d", "tickets", "stock", "the same in the last 28 days"),
        ("tickets_solved", "tickets", "flow", "tickets whose last solution is in the month"),
        ("tickets_closed", "tickets", "flow", "tickets closed"),
        ("tickets_closed_by_agent", "tickets", "flow", "tickets closed, by who was assigned; `unknown` without one", "agent"),
        ("tickets_reopened", "tickets", "flow", "times that a ticket was opened again"),
        ("tickets_abandoned", "tickets", "flow", "calls that ended while waiting"),
        ("tickets_open", "tickets", "stock", "open tickets: the backlog"),
        ("tickets_open_urgent", "tickets", "stock", "of them those of priority high or urgent"),
        ("tickets_open_urgent_seconds", "seconds", "stock", "how long those have been open"),
        ("first_responses", "tickets", "flow", "tickets first answered in the month, by `bucket_of` the seconds that took", "seconds"),
        ("first_responses_waiting", "tickets", "stock", "open tickets without an answer, by `bucket_of` the seconds so far", "seconds"),
        ("resolutions", "tickets", "flow", "`tickets_solved` by `bucket_of` the seconds since created, or since opened again", "seconds"),
        ("fcr_received", "tickets", "flow", "tickets created in the month, 7 days ago or more"),
        ("fcr_solved", "tickets", "flow", "tickets solved in the month, 7 days ago or more"),
        (
            "fcr_resolved",
            "tickets",
            "flow",
            "of them those with one public reply of an agent, one department and no reopening within 7 days",
        ),
        ("fcr_resolved_cross_department", "tickets", "flow", "the same, but of several departments"),
    )


def _surveys() -> Iterator[Figure]:
    return _group(
        SURVEYS,
        ("nps_promoters", "answers", "flow", "9 and 10; each respondent's latest answer of the month"),
        ("nps_passives", "answers", "flow", "7 and 8, likewise"),
        ("nps_detractors", "answers", "flow", "0 to 6, likewise"),
        ("csat_answers", "answers", "flow", "answers by scale: `1-5`, or `1-5 lower_better`", "scale"),
        ("csat_positive", "answers", "flow", "of them those strictly on the good side of the midpoint", "scale"),
        ("csat_scores", "micro", "flow", "their scores as given, added up", "scale"),
        ("csat_accounts", "accounts", "stock", "accounts that have answered within 180 days"),
        ("csat_accounts_positive", "accounts", "stock", "of them those whose latest answer is positive"),
        ("ces_answers", "answers", "flow", "answers by scale", "scale"),
        ("ces_positive", "answers", "flow", "of them those strictly on the good side of the midpoint", "scale"),
        ("ces_scores", "micro", "flow", "their scores as given, added up", "scale"),
        ("surveys_offered", "invitations", "flow", "surveys offered, by kind", "kind"),
        ("surveys_answered", "invitations", "flow", "of those offered in the month the answered", "kind"),
        ("feedback_texts", "texts", "flow", "texts received"),
        ("feedback_texts_unread", "texts", "flow", "of them those whose language is unknown or not supported"),
        ("feedback_by_theme", "texts", "flow", "texts by theme; one may have several", "theme"),
        ("sentiment_weight", "micro", "stock", "weights of the texts of 90 days: a half for every 30 days of age"),
        ("sentiment_polarity", "micro", "stock", "their polarity, -1 to 1, times weight"),
    )


def _costs() -> Iterator[Figure]:
    return _group(
        COSTS,
        ("costs", "micro_minor", "flow", "costs of the month's days, by category", "category"),
        ("costs_acquisition_by_channel", "micro_minor", "flow", "acquisition costs by channel; `unknown` without one", "channel"),
    )


FIGURES: dict[str, Figure] = {
    figure.name: figure
    for group in (_customers(), _mrr(), _revenue(), _renewals(), _growth(), _usage(), _support(), _surveys(), _costs())
    for figure in group
}
"""Every figure by name."""


class Key(NamedTuple):
    """Which number of a figure: its label, empty when it has none, and the currency (ISO 4217) when it is money, else empty."""

    name: str
    label: str = ""
    currency: str = ""

    def __str__(self) -> str:
        label = f"{{{self.label}}}" if self.label else ""
        return f"{self.name}{label}{'@' if self.currency else ''}{self.currency}"


Parts = Mapping[Key, int]
"""The figures of a month and segment, or a part of them."""

_TEXT = re.compile(r"([a-z0-9_]+)(?:\{(.*)\})?(?:@([A-Z]{3}))?", re.DOTALL)


def key_of(name: str, *, label: str = "", currency: str = "") -> Key:
    """The key of a number; raises ValueError for a figure that does not exist, or one that is kept apart otherwise."""
    figure = FIGURES.get(name)
    if figure is None:
        raise ValueError(f"{name!r} is no figure")
    if bool(figure.label) != bool(label):
        raise ValueError(f"{name} " + (f"needs a label: {figure.label}" if figure.label else f"has no label, not {label!r}"))
    if figure.is_money != bool(currency):
        raise ValueError(f"{name} " + ("is money and needs a currency" if figure.is_money else f"is no money, not {currency}"))
    return Key(name, label, currency)


def read_key(text: str) -> Key:
    """The key that `str` of it gave; raises ValueError for what is none."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no key of a figure")
    name, label, currency = found.groups("")
    return key_of(name, label=label, currency=currency)


def add_up(parts: Iterable[Parts]) -> dict[Key, int]:
    """The figures of several partitions or segments together; what is in none of them stays absent."""
    total: dict[Key, int] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return total


def to_micro(amount: Fraction) -> int:
    """An exact amount in millionths, rounded half-up once, away from zero."""
    scaled = amount * MICRO
    return half_up(scaled.numerator, scaled.denominator)


SUB_BUCKETS = 32
"""Buckets of a duration for each doubling: one is at most 1/32 (3.2 %) wide, and exact below 64 seconds."""


def bucket_of(seconds: int) -> str:
    """The label of the bucket of a duration: its least whole second. A negative duration counts as 0."""
    seconds = max(seconds, 0)
    shift = max(seconds.bit_length() - SUB_BUCKETS.bit_length(), 0)
    return str(seconds >> shift << shift)


def bucket_width(least: int) -> int:
    """How many whole seconds are in the bucket that begins with `least`."""
    return 1 << max(least.bit_length() - SUB_BUCKETS.bit_length(), 0)
