"""Costs are spread evenly by day over their period, both days included, so that any span of days has its exact share."""

from collections.abc import Mapping
from datetime import date, timedelta
from fractions import Fraction
from typing import Literal

from models.kpi.exact import Exact, exact

Allocation = Literal["none", "equal", "mrr"]


def spent(amount: Exact, period: tuple[date, date], span: tuple[date, date], lag_days: int = 0) -> Fraction:
    """The share of a cost that falls into a span of days, first and last day of each included.

    `lag_days`: what a customer cost was spent so many days before, so the span of the costs lies that much earlier. Raises ValueError
    for a period that ends before it begins.
    """
    first, last = period
    if last < first:
        raise ValueError(f"a period of costs ends on {last.isoformat()}, before it begins on {first.isoformat()}")
    lag = timedelta(days=lag_days)
    common = min(last, span[1] - lag) - max(first, span[0] - lag)
    return exact(amount) * max(common.days + 1, 0) / ((last - first).days + 1)


def allocate(amount: Exact, allocation: Allocation, mrr_by_account: Mapping[str, Exact]) -> dict[str, Fraction]:
    """Share a cost out to accounts: `equal`, in proportion to their MRR, or to none at all. The shares sum to the amount exactly.

    In proportion to MRR where nobody has any it is shared out equally.
    """
    if allocation == "none" or not mrr_by_account:
        return {}
    total = sum(map(exact, mrr_by_account.values()))
    if allocation == "equal" or not total:
        return dict.fromkeys(mrr_by_account, exact(amount) / len(mrr_by_account))
    return {account: exact(amount) * exact(mrr) / total for account, mrr in mrr_by_account.items()}
