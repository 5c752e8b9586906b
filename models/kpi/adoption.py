"""Usage and adoption (shared metric definitions, section 3). Rates are shares of 1."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

from models.kpi.exact import Exact, Reading, exact, median, none, proportion, ratio

IDEAL_TREND = Fraction(85, 100)
"""A pace of 85 % of an account's own baseline counts as whole."""

SilentWeeks = Literal["zero", "skip"]
State = Literal["new", "current", "resurrected", "dormant"]


def stickiness(daily_active_users: Sequence[int], mau: int) -> Reading:
    """Mean DAU over the days given (28 in the product) / MAU [Pendo, Sourcegraph]; null for MAU 0.

    Beside it the active days of 30 that it stands for: 0.4 are 12 days.
    """
    if not daily_active_users:
        return none("not_observed")
    return stickiness_of(sum(daily_active_users), len(daily_active_users), mau)


def stickiness_of(user_days: int, days: int, mau: int) -> Reading:
    """The same from the user-days of so many days."""
    found = ratio(Fraction(user_days, days), mau, n=mau)
    of_30 = None if found.value is None else exact(found.value) * 30
    return Reading(found.value, found.reason, mau, None, {"active_days_of_30": of_30})


def seat_utilisation(active_users: int, seats: int | None) -> Reading:
    """Active users of 28 days / seats purchased, at most 1; no or unknown seats are null.

    The raw ratio is beside it: above 1 is a sign of expansion.
    """
    if seats is None:
        return none("not_observed")
    raw = ratio(active_users, seats, n=seats)
    if raw.value is None:
        return raw
    return Reading(min(raw.value, Fraction(1)), None, seats, None, {"raw": raw.value})


def adoption_breadth(used: int, entitled: int | None) -> Reading:
    """Core features used in 28 days / core features entitled [Pendo core events]; with none configured null."""
    return none("not_observed") if entitled is None else proportion(used, entitled)


def adoption_frequency(active_days: Sequence[int], ideal_days: Exact) -> Reading:
    """Active days of each user in 28 / ideal days, at most 1 for each user, and their mean; null without users or ideal."""
    if not active_days or not ideal_days:
        return none("zero_denominator", len(active_days))
    ideal = exact(ideal_days)
    return ratio(sum(min(Fraction(days), ideal) for days in active_days), ideal * len(active_days), n=len(active_days))


def own_baseline(current: Exact | None, baseline: Exact | None) -> Reading:
    """Trend against its own baseline: min(current / baseline / 0.85, 1) [PostHog].

    Without a baseline it is null: never used is not zero. A current of zero is 0.
    """
    if baseline is None or not baseline:
        return none("no_baseline")
    if current is None:
        return none("not_observed")
    return Reading(min(exact(current) / exact(baseline) / IDEAL_TREND, Fraction(1)))


def weekly_current(weeks: Sequence[Exact], silent_weeks: SilentWeeks = "zero") -> Fraction | None:
    """Mean weekly actives of the last 21 days.

    Silent weeks count as 0. PostHog skips them, and says that this is systematically generous: `skip`. All silent is 0 either way.
    """
    counted = [exact(each) for each in weeks if each or silent_weeks == "zero"]
    if not weeks:
        return None
    return Fraction(sum(counted), len(counted)) if counted else Fraction(0)


def weekly_baseline(weeks: Sequence[Exact]) -> Fraction | None:
    """Median of the weeks that are 28 to 84 days old; None without any."""
    return median([exact(each) for each in weeks])


def slipping_after_days(median_gap_days: Exact) -> Fraction:
    """Days idle beyond which an account slips away: 3 times its median gap, at least 7 [June; fight-churn 7.6]."""
    return max(3 * exact(median_gap_days), Fraction(7))


def prorated(count: Exact, described_days: Exact, observed_days: Exact, tenure_days: Exact, min_tenure_days: Exact = 14) -> Reading:
    """A count scaled to a period: count × described / min(observed, tenure); null before `min_tenure_days` [fight-churn 7.8]."""
    if tenure_days < min_tenure_days:
        return none("too_few")
    return ratio(exact(count) * exact(described_days), min(exact(observed_days), exact(tenure_days)))


def lifecycle(*, is_active: bool, was_active: bool, was_active_earlier: bool) -> State | None:
    """Where a user stands between two adjacent windows [Amplitude]; None for one who is in neither."""
    if is_active and was_active:
        return "current"
    if is_active:
        return "resurrected" if was_active_earlier else "new"
    return "dormant" if was_active else None


def growth_score(new: int, resurrected: int, dormant: int) -> Reading:
    """(new + resurrected users) / dormant users, at most 1 [Pendo]: 1 when more come than go. With neither it is null."""
    if not dormant:
        return Reading(1) if new + resurrected else none("zero_denominator")
    return Reading(min(Fraction(new + resurrected, dormant), Fraction(1)), None, dormant)


def pes(adoption: Reading, stickiness: Reading, growth: Reading) -> Reading:
    """Product engagement score: mean of adoption, stickiness and growth × 100 [Pendo]; null when one of them is."""
    values = [each.value for each in (adoption, stickiness, growth)]
    known = [exact(value) for value in values if value is not None]
    return none("not_observed") if len(known) < len(values) else Reading(Fraction(sum(known) * 100, len(known)))


def power_users(users_by_active_days: Mapping[int, int], n_min: int = 10) -> Reading:
    """Least active days (of 28) of the top 10 % of a segment's active users, who have at least that many beside it; null below 10 users.

    The tenth is rounded up, and all who share its least count belong to it: the boundary does not depend on an order.
    """
    active = {days: count for days, count in users_by_active_days.items() if days > 0 and count > 0}
    n = sum(active.values())
    if n < n_min:
        return none("too_few", n)
    wanted, found = -(-n // 10), 0
    for days in sorted(active, reverse=True):
        found += active[days]
        if found >= wanted:
            return Reading(days, None, n, None, {"users": found})
    raise AssertionError("the users add up to n")


def custom_metric(how: Literal["sum", "last", "mean"], total: Exact, count: int, last: Exact | None) -> Reading:
    """A custom metric: the sum, the last or the mean of what was reported; null when nothing was."""
    if not count:
        return none("not_observed", 0)
    if how == "last":
        return none("not_observed", count) if last is None else Reading(exact(last), None, count)
    return Reading(exact(total) if how == "sum" else exact(total) / count, None, count)
