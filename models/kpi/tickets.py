"""Support (shared metric definitions, section 4). Rates are shares of 1, durations seconds."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from models.kpi.exact import Exact, Reading, exact, none, proportion, ratio
from models.kpi.figures import bucket_width


def per_hundred_users(created: int, active_users: int) -> Reading:
    """Tickets created in 28 days for 100 active users; null without users. None created is not the best that can be."""
    return ratio(100 * created, active_users, n=active_users)


def first_contact_resolution(
    resolved: int,
    solved: int,
    received: int | None = None,
    abandoned: int = 0,
    cross_department: int = 0,
    *,
    denominator: Literal["solved", "received"] = "solved",
    count_abandoned: bool = False,
    count_cross_department: bool = False,
) -> Reading:
    """Tickets solved with one public reply, by one department, not reopened within 7 days / tickets solved [S3].

    Only tickets that are 7 days old count. `denominator` `received` is HubSpot's original. `count_abandoned`: calls that were given up
    while waiting are in the denominator, as not resolved. `count_cross_department`: a ticket that another department answered counts as
    resolved at first contact. `resolved` has none of those.
    """
    whole = solved if denominator == "solved" else received
    if whole is None:
        return none("not_observed")
    return proportion(resolved + (cross_department if count_cross_department else 0), whole + (abandoned if count_abandoned else 0))


def closed_per_agent(closed: int, agents: int) -> Reading:
    """Tickets closed / distinct agents of the period; null without agents."""
    return ratio(closed, agents, n=agents)


def duration(buckets: Mapping[int, int], quantile: Fraction) -> Reading:
    """A quantile of durations that are counted in buckets, by their least second; null of none.

    It is the middle of the bucket that holds it (the exact one below 64 seconds), so within 1.6 % of the exact quantile: the smallest
    duration that at least that share does not exceed.
    """
    n = sum(buckets.values())
    if not n:
        return none("not_observed", 0)
    wanted, found = quantile * n, 0
    for least in sorted(buckets):
        found += buckets[least]
        if found >= wanted:
            return Reading(least + Fraction(bucket_width(least) - 1, 2), None, n)
    raise ValueError("a quantile is between 0 and 1")


def mean_age(seconds: Exact, tickets: int) -> Reading:
    """How long tickets have been open on average; null without any."""
    return none("zero_denominator", 0) if not tickets else Reading(exact(seconds) / tickets, None, tickets)
