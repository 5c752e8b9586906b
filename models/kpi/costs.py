"""Costs shared out to accounts. How they are spread over days and months is in `models.costs`."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from models.kpi.exact import Exact, exact

Allocation = Literal["none", "equal", "mrr"]


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
