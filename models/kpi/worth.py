"""What customers cost and bring: CAC, CRC, CLV, margins, orders, lifetimes (shared metric definitions, sections 1 and 7).

Amounts are in one unit and currency throughout.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from fractions import Fraction

from models.kpi.exact import Exact, Reading, exact, none, proportion, ratio

YEAR_DAYS = 365


def cac(cost: Exact, new_customers: int, *, is_partial: bool = False) -> Reading:
    """Acquisition cost / accounts that became paying [S0]; null without new ones.

    Costs may be those of an earlier span: `lag_days` of `models.costs.month_costs`. `is_partial`: a channel that brought some has none.
    """
    return ratio(cost, new_customers, "no_new_customers", n=new_customers, is_partial=int(is_partial))


def crc_per_retained(cost: Exact, retained: int) -> Reading:
    """Retention cost / accounts of the start that still pay at the end [S1]; null when none does."""
    return ratio(cost, retained, n=retained)


def crc_per_customer(cost: Exact, customers: Exact) -> Reading:
    """Retention cost / customers, on average over the period [S3]; null without any."""
    return ratio(cost, customers)


def lost_opportunity(mrr_churn: Exact) -> Fraction:
    """A year of the MRR that churned: only shown when it is asked for, and never inside another cost."""
    return 12 * exact(mrr_churn)


def clv_historic(net_revenue: Exact, accounts: int) -> Reading:
    """Mean over accounts of all revenue to date, refunds taken off [S0, S4]; null without accounts."""
    return ratio(net_revenue, accounts, n=accounts)


def lifetime_months(monthly_churn: Exact, max_months: Exact | None = None) -> Reading:
    """1 / monthly churn, at most `max_months` where that is asked for; without churn it does not exist, capped or not."""
    if not monthly_churn:
        return none("no_churn")
    months = 1 / exact(monthly_churn)
    return Reading(months if max_months is None else min(months, exact(max_months)))


def clv_predictive(arpa: Exact | None, gross_margin: Exact | None, monthly_churn: Exact | None, max_months: Exact | None = None) -> Reading:
    """ARPA × gross margin / monthly churn [PostHog; margin from S0, S3]. Without churn, ARPA or margin it is null."""
    if arpa is None or monthly_churn is None:
        return none("not_observed")
    if gross_margin is None:
        return none("no_margin")
    months = lifetime_months(monthly_churn, max_months)
    return months if months.value is None else Reading(exact(arpa) * exact(gross_margin) * exact(months.value))


def clv_order(average_order: Exact | None, purchases_per_year: Exact | None, years: Exact | None) -> Reading:
    """Average order value × purchases a year × years [S1, S3]. One order has no lifespan: 0 years are null, not 0."""
    if average_order is None or purchases_per_year is None or years is None:
        return none("no_orders")
    if not years:
        return none("one_order")
    return Reading(exact(average_order) * exact(purchases_per_year) * exact(years))


def clv_net(clv: Exact | None, acquisition: Exact | None) -> Reading:
    """CLV − CAC, a figure of its own [S0 (ii)]; null when either is."""
    if clv is None or acquisition is None:
        return none("not_observed")
    return Reading(exact(clv) - exact(acquisition))


def clv_discounted(net_revenue: Sequence[Exact], factor: Exact, acquisition: Exact = 0) -> Reading:
    """Σ net revenue of each period × factor^period − CAC; the first period is not discounted, and the factor is said beside it.

    The article multiplies by a rate; what is meant is the factor that a later amount is worth less by.
    """
    total = sum((exact(each) * exact(factor) ** period for period, each in enumerate(net_revenue)), Fraction(0))
    return Reading(total - exact(acquisition), None, len(net_revenue), None, {"factor": factor})


def clv_discounted_predictive(arpa: Exact, gross_margin: Exact, monthly_churn: Exact, factor: Exact, acquisition: Exact = 0) -> Reading:
    """The same for the months to come: ARPA × margin / (1 − (1 − churn) × factor) − CAC. It exists without churn, for a factor below 1."""
    per_month = exact(arpa) * exact(gross_margin)
    total = ratio(per_month, 1 - (1 - exact(monthly_churn)) * exact(factor), "no_churn", factor=factor)
    return total if total.value is None else Reading(exact(total.value) - exact(acquisition), None, None, None, total.beside)


def ltv_cac(ltv: Exact | None, acquisition: Exact | None) -> Reading:
    """CLV / CAC [S3]; null when CAC is 0 or either is null. Below 1 `unit_economics_negative` is raised."""
    if ltv is None or acquisition is None:
        return none("not_observed", unit_economics_negative=0)
    found = ratio(ltv, acquisition)
    return Reading(found.value, found.reason, None, None, {"unit_economics_negative": int(found.value is not None and found.value < 1)})


def gross_margin(revenue: Exact, cogs: Exact | None) -> Reading:
    """(revenue − COGS) / revenue [S0, S3]; without cost events null, never 100 %."""
    return none("no_costs") if cogs is None else ratio(exact(revenue) - exact(cogs), revenue)


def net_margin(revenue: Exact, cogs: Exact | None, opex: Exact | None) -> Reading:
    """(revenue − COGS − opex) / revenue [S0, S3]; without cost events of both kinds null."""
    if cogs is None or opex is None:
        return none("no_costs")
    return ratio(exact(revenue) - exact(cogs) - exact(opex), revenue)


def average_order_value(paid: Exact, orders: int) -> Reading:
    """Paid one-off orders / their number; null without orders."""
    return ratio(paid, orders, "no_orders", n=orders)


def purchase_frequency(orders: int, buyers: int) -> Reading:
    """Orders / distinct buyers of the period; null without any."""
    return ratio(orders, buyers, "no_orders", n=buyers)


def lifespan_years(days: Exact) -> Fraction:
    """Days / 365 [S3]."""
    return exact(days) / YEAR_DAYS


def customer_lifetime(first: date, last: date | None) -> Reading:
    """Years of 365 days from the first day to the last, the days beside it; null while the account is still there: a censored lifetime."""
    if last is None:
        return none("still_running")
    days = (last - first).days
    return Reading(lifespan_years(days), None, None, None, {"days": days})


def mean_lifetime(days_ended: int, ended: int, running: int) -> Reading:
    """Mean years of the lifetimes that have ended; those that run on are beside it, not in it."""
    return ratio(lifespan_years(days_ended), ended, "no_churn", n=ended, running=running)


def median_lifetime_months(ended: Mapping[int, int], running: Mapping[int, int]) -> Reading:
    """Kaplan–Meier median in whole months: the first at which at most half survive; null while more do.

    Both by whole months lived. A lifetime that runs on counts as at risk through the month that it has reached.
    """
    survival = Fraction(1)
    at_risk = sum(ended.values()) + sum(running.values())
    n = at_risk
    if not n:
        return none("not_observed", 0)
    for months in sorted({*ended, *running}):
        if lost := ended.get(months, 0):
            survival *= 1 - Fraction(lost, at_risk)
        if survival <= Fraction(1, 2):
            return Reading(months, None, n)
        at_risk -= lost + running.get(months, 0)
    return none("not_reached", n)


def plan_adherence(actioned: int, made: int) -> Reading:
    """Recommendations acted on / made."""
    return proportion(actioned, made)
