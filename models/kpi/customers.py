"""Customer counts, retention, renewals, trials, signups and referrals (shared metric definitions, section 2). Rates are shares of 1."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from models.kpi.exact import Exact, Reading, exact, none, power, proportion, ratio

ChurnOption = Literal["start", "start_plus_new", "all_lost_over_start", "average", "daily_sum"]

YEAR_DAYS = 365
MONTH_DAYS = Fraction(365, 12)


def churn_rate(
    start: int,
    lost_from_start: int,
    new: int = 0,
    lost_from_new: int = 0,
    option: ChurnOption = "start",
    *,
    end: int | None = None,
    daily: Sequence[int] = (),
) -> Reading:
    """Customer churn rate of a period [S1; fight-churn 2.2].

    - `start`: lost of the start / start. Who came and went within the period is not in it; who paused, or was back, is not lost.
    - `start_plus_new`: all lost / (start + new) [S3; Stripe].
    - `all_lost_over_start`: all lost / start; above 1 when more of the new left than there were at the start.
    - `average`: all lost / mean of start and end [the end is start + new - lost when it is not given].
    - `daily_sum`: all lost / mean of the customers as each day begins [ChartMogul, the "Shopify" formula].

    A zero denominator is null. Only the first two are proportions, with an interval.
    """
    lost = lost_from_start + lost_from_new
    if option == "start":
        return proportion(lost_from_start, start)
    if option == "start_plus_new":
        return proportion(lost, start + new)
    if option == "all_lost_over_start":
        return ratio(lost, start, n=start)
    if option == "average":
        mean = Fraction(start + (start + new - lost if end is None else end), 2)
        return ratio(lost, mean, n=start)
    return ratio(lost * len(daily), sum(daily), n=start)


def scaled_churn(churn: Exact, days: Exact, to_days: Exact = YEAR_DAYS) -> Reading:
    """A churn rate of `days` days as that of another span: 1 − (1 − c)^(to_days / days) [fight-churn 2.5].

    A year is 365 days, a month a twelfth of that. All lost stays all lost; no days are null. Never `c × 12`. A rate outside 0 to 1
    cannot be scaled: raises ValueError.
    """
    lost = exact(churn)
    if not 0 <= lost <= 1:
        raise ValueError(f"a churn rate is between 0 and 1, not {float(lost):g}")
    if not days:
        return none("zero_denominator")
    return Reading(1 - power(1 - lost, exact(to_days) / exact(days)))


def activity_churn(active_before: int, quiet_since: int) -> Reading:
    """Of the accounts active in the inactivity window before the start, those with no event in the one before the end [S2, S4]."""
    return proportion(quiet_since, active_before)


def retention_rate(start: int, end: int, new: int, reactivated: int = 0) -> Reading:
    """(end − new − reactivated) / start: 1 − churn [S3, corrected].

    Without the reactivated it could exceed 1. New and reactivated are those that are still customers at the end.
    """
    return proportion(end - new - reactivated, start)


def retention_rate_raw(start: int, end: int, new: int) -> Reading:
    """(end − new) / start, as S3 has it: reactivated accounts can bring it above 1."""
    return ratio(end - new, start, n=start)


def mau_to_churned_ratio(mau: int, churned: int) -> Reading:
    """Active users / users active in the window before and not in this one [S0]; null when none left."""
    return ratio(mau, churned, n=churned)


def renewal_shares(due: int, renewed: int, lapsed: int, cancelled: int) -> dict[str, Reading]:
    """What became of the renewals due in a period [S0 item 6]: `renewed`, `lapsed`, `cancelled` and `open`, which sum to 1."""
    shares = {"renewed": renewed, "lapsed": lapsed, "cancelled": cancelled, "open": due - renewed - lapsed - cancelled}
    return {name: proportion(count, due) for name, count in shares.items()}


def repeat_purchase_rate(with_two_or_more: int, with_any: int) -> Reading:
    """Customers with two orders or more / customers with one or more [S3]."""
    return proportion(with_two_or_more, with_any)


def trial_conversion(converted: int, started: int, still_open: int = 0) -> Reading:
    """Trials that became paying no later than the grace (14 days) after their end / trials started that have come so far.

    The cohort is that of the start; trials whose grace is not over are `open`, in neither number, and said beside it [S3, which has it
    inverted].
    """
    return proportion(converted, started - still_open, open=still_open)


def growth_rate(old: Exact, new: Exact) -> Reading:
    """(new − old) / old [S3: 15 to 18 is 20 %]; from nothing it is null."""
    return ratio(exact(new) - exact(old), old)


def conversion(reached: int, base: int) -> Reading:
    """A step of a funnel: signups / unique visitors, activated / signups whose days to activate are over [S0, S3]."""
    return proportion(reached, base)


def share(part: Exact, whole: Exact) -> Reading:
    """A part of an amount: referral revenue / revenue, MRR of a product / MRR. Amounts have no interval."""
    return ratio(part, whole)
