"""Simulated portfolios: their events and their truth, and what the product makes of the events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Final

from deploy.simulate.stream import disordered, events
from deploy.simulate.truth import Truth
from deploy.simulate.world import Scope, World
from models.feedback import Feedback
from models.kpi.figures import Key, add_up, read_key
from models.ledger import RevenueRules
from models.portfolio import Accounting, PortfolioRules, read_record
from models.reading import reader
from tests.support.generate import TOPIC_OF
from tests.support.memory_worker import MemoryWorker, definition, log_of

if TYPE_CHECKING:
    from collections.abc import Container

    from deploy.replay.envelope import Event
    from deploy.simulate.decisions import Decision

MUST_BE_COMPARED: Final = frozenset(
    {
        "customers_start",
        "customers_start_paused",
        "customers_end",
        "customers_end_paused",
        "customers_churned",
        "customers_new",
        "customers_reactivated",
        "customers_same_period_churned",
        "customer_days",
        "customers_ever",
        "lifetime_days_ended",
        "lifetimes_ended",
        "lifetimes_running",
        "cohort_accounts",
        "cohort_paying",
        "cohort_paying_unbounded",
        "cohort_mrr",
        "cohort_mrr_start",
        "mrr_start",
        "mrr_end",
        "mrr_new",
        "mrr_reactivation",
        "mrr_expansion",
        "mrr_contraction",
        "mrr_churn",
        "mrr_churn_expired",
        "mrr_pause",
        "mrr_resume",
        "mrr_grr_kept",
        "mrr_nrr_kept",
        "mrr_reactivated_kept",
        "mrr_by_product",
        "mrr_by_product_start",
        "mrr_by_product_kept",
        "mrr_delinquent",
        "mrr_pending_churn",
        "revenue_paid",
        "revenue_refunded",
        "revenue_one_off",
        "revenue_by_product",
        "revenue_to_date",
        "orders",
        "buyers",
        "buyers_ever",
        "buyers_repeat",
        "order_lifespan_days",
        "tickets_created",
        "tickets_created_28d",
        "tickets_solved",
        "tickets_closed",
        "tickets_closed_by_agent",
        "tickets_reopened",
        "tickets_abandoned",
        "tickets_open",
        "tickets_open_urgent",
        "tickets_open_urgent_seconds",
        "first_responses",
        "first_responses_waiting",
        "resolutions",
        "fcr_received",
        "fcr_solved",
        "fcr_resolved",
        "fcr_resolved_cross_department",
        "nps_promoters",
        "nps_passives",
        "nps_detractors",
        "csat_answers",
        "csat_positive",
        "csat_scores",
        "csat_accounts",
        "csat_accounts_positive",
        "ces_answers",
        "ces_positive",
        "ces_scores",
        "surveys_offered",
        "surveys_answered",
        "feedback_texts",
        "feedback_texts_unread",
        "accounts",
        "trials_started",
        "trials_matured",
        "trials_converted",
        "signups",
        "signups_referred",
        "referrals_made",
        "referrals_converted",
        "recommendations_made",
        "recommendations_actioned",
        "touchpoints",
        "renewals_due",
        "renewals_renewed",
        "renewals_lapsed",
        "renewals_cancelled",
        "mrr_renewals_due",
        "mrr_renewals_renewed",
        "mrr_renewals_lapsed",
        "mrr_renewals_cancelled",
        "customers_new_by_channel",
        "customers_new_referred",
        "revenue_referred",
    }
)
"""What the truth and the product must both tell, and not only as 0, in one of the portfolios at least."""

USED: Final = frozenset(
    {
        "active_users_1d",
        "active_users_7d",
        "active_users_28d",
        "user_days_28d",
        "users_by_active_days_28d",
        "users_new_7d",
        "users_current_7d",
        "users_resurrected_7d",
        "users_dormant_7d",
        "users_new_28d",
    }
)
"""The same of the running month and the one before it, which the product tells of use alone."""

USED_NOW: Final = frozenset({"users_current_28d", "users_resurrected_28d", "users_dormant_28d"})
"""The same of the running month."""

Told = dict[str, dict[str, dict[Key, int]]]
"""Figures by month and segment."""


@dataclass(frozen=True)
class Simulated:
    """A portfolio with all of its events, in order of arrival, and its truth."""

    scope: Scope
    events: tuple[Event, ...]
    truth: Truth
    decisions: tuple[Decision, ...]

    def truth_of(self, accounts: Container[str]) -> Truth:
        """The truth of some of its accounts: what a portfolio of these alone would tell."""
        truth = Truth(self.scope.stops, self.scope.names())
        for decision in self.decisions:
            if decision.account in accounts:
                truth.hear(decision)
        return truth


@cache
def simulated(scope: Scope, *, is_disordered: bool = False) -> Simulated:
    """Simulate a portfolio."""
    truth = Truth(scope.stops, scope.names())
    decisions: list[Decision] = []

    def hear(decision: Decision) -> None:
        decisions.append(decision)
        truth.hear(decision)

    ordered = events(World.of(scope), hear)
    arrived = tuple(disordered(ordered, scope.seed) if is_disordered else ordered)
    return Simulated(scope, arrived, truth, tuple(decisions))


def worker_of(portfolio: Simulated) -> MemoryWorker:
    """A worker that has read all of it; costs are no account's, and read elsewhere."""
    accounting = Accounting.of(RevenueRules(), PortfolioRules(segments=portfolio.scope.names()))
    log = log_of(dict(event) for event in portfolio.events if event["type"] in TOPIC_OF)
    worker = MemoryWorker(log, replace(definition(), accounting=accounting, read_text=reader(Feedback())))
    worker.run(Random(portfolio.scope.seed), sizes=(40, 400, 2000))
    return worker


def told_by(worker: MemoryWorker, now: int) -> Told:
    """What the worker publishes at an instant, zeros included."""
    while worker.partition.keep_books(now, 1000):
        pass
    worker.partition.publish_books(now)
    found: Told = {}
    for _, value in worker.partition.take().portfolio:
        if value is not None:
            record = read_record(value)
            figures = {read_key(name): number for name, number in record.figures.items()}
            found.setdefault(record.month, {})[record.segment] = figures
    return found


def of_all(by_segment: dict[str, dict[Key, int]]) -> dict[Key, int]:
    """The figures of all segments together."""
    return add_up(by_segment.values())
