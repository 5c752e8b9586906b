"""Usage and adoption."""

from collections.abc import Iterator
from fractions import Fraction

from models.kpi import adoption, customers
from models.kpi.exact import Reading, proportion, ratio
from models.kpi.figures import MICRO
from models.kpi.portfolio.book import Kpi, Row, as_count, by_number, section


def _lifecycle(days: int) -> Row:
    states = ("new", "current", "resurrected", "dormant")
    return (
        f"user_lifecycle_{days}d",
        f"User lifecycle, {days} days",
        "users",
        None,
        "Amplitude, S2",
        f"users new, current, resurrected and dormant between two adjacent windows of {days} days",
        tuple(f"users_{state}_{days}d" for state in states),
        lambda *counts: {state: Reading(count) for state, count in zip(states, counts, strict=True)},
    )


def _stickiness(user_days: int, mau: int) -> Reading:
    return adoption.stickiness_of(user_days, 28, mau)


def _pes(used: int, entitled: int, user_days: int, mau: int, new: int, resurrected: int, dormant: int) -> Reading:
    growth = adoption.growth_score(new, resurrected, dormant)
    return adoption.pes(adoption.adoption_breadth(used, entitled), _stickiness(user_days, mau), growth)


def kpis() -> Iterator[Kpi]:
    """Usage and adoption."""
    return section(
        "usage",
        (
            "dau",
            "Daily active users",
            "users",
            "up",
            "S0, Sourcegraph",
            "users with an event that counts on the last day",
            ("active_users_1d",),
            as_count,
        ),
        (
            "wau",
            "Weekly active users",
            "users",
            "up",
            "S0, Sourcegraph",
            "users with one in the last 7 days",
            ("active_users_7d",),
            as_count,
        ),
        (
            "mau",
            "Monthly active users",
            "users",
            "up",
            "S0, Sourcegraph",
            "users with one in the last 28 days; estimated above 10,000 an account, how many are is beside it",
            ("active_users_28d", "active_users_approximate"),
            lambda users, estimated: Reading(users, None, None, None, {"accounts_estimated": estimated}),
        ),
        (
            "stickiness",
            "Stickiness",
            "ratio",
            "up",
            "Pendo, Sourcegraph",
            "mean of DAU over 28 days / MAU",
            ("user_days_28d", "active_users_28d"),
            _stickiness,
        ),
        _lifecycle(7),
        _lifecycle(28),
        (
            "mau_to_churned_ratio",
            "MAU : churned users",
            "ratio",
            "up",
            "S0",
            "users active in 28 days / users active in the 28 days before and not since",
            ("active_users_28d", "users_dormant_28d"),
            customers.mau_to_churned_ratio,
        ),
        (
            "seat_utilisation",
            "Seat utilisation",
            "percent",
            "up",
            "GitLab, Sourcegraph",
            "active users of 28 days, in each account at most its seats / seats purchased; overuse is in the raw ratio beside it",
            ("seats_used_capped", "seats_used", "seats_purchased"),
            lambda capped, used, seats: ratio(capped, seats, n=seats, raw=Fraction(used, seats) if seats else None),
        ),
        (
            "adoption_breadth",
            "Feature adoption",
            "percent",
            "up",
            "S2, Pendo",
            "core features used in 28 days / core features entitled",
            ("features_used_28d", "features_entitled"),
            adoption.adoption_breadth,
        ),
        (
            "adoption_frequency",
            "Usage frequency",
            "percent",
            "up",
            "S2, S3",
            "active days of each user in 28, at most the ideal number / ideal number of days",
            ("user_days_toward_ideal", "user_days_ideal"),
            lambda days, ideal: ratio(days, ideal, n=ideal),
        ),
        (
            "own_baseline_trend",
            "Trend against own baseline",
            "percent",
            "up",
            "PostHog",
            "mean over accounts with a baseline of min(weekly actives of 21 days / median of weeks 28 to 84 days old / 0.85, 1)",
            ("trend_points", "trend_accounts"),
            lambda points, accounts: ratio(Fraction(points, MICRO), accounts, "no_baseline", n=accounts),
        ),
        (
            "days_since_core_event",
            "Days since last core event",
            "days",
            "down",
            "June, fight-churn 7.6",
            "mean over accounts that ever had one",
            ("core_idle_days", "core_accounts"),
            lambda days, accounts: ratio(days, accounts, "not_observed", n=accounts),
        ),
        (
            "slipping_rate",
            "Accounts slipping away",
            "percent",
            "down",
            "June, fight-churn 7.6",
            "accounts idle for more than 3 times their median gap, at least 7 days / accounts that ever had a core event",
            ("core_accounts_slipping", "core_accounts"),
            proportion,
        ),
        (
            "pes",
            "Product engagement score",
            "score",
            "up",
            "Pendo",
            "mean of feature adoption, stickiness and growth (new and resurrected / dormant users, at most 1) × 100",
            (
                "features_used_28d",
                "features_entitled",
                "user_days_28d",
                "active_users_28d",
                "users_new_28d",
                "users_resurrected_28d",
                "users_dormant_28d",
            ),
            _pes,
        ),
        (
            "power_user_days",
            "Active days of power users",
            "days",
            "up",
            "S2",
            "least active days in 28 of the top 10 % of users; null below 10 users",
            ("users_by_active_days_28d",),
            lambda users: adoption.power_users(by_number(users)),
        ),
        (
            "session_minutes",
            "Time on platform per session",
            "ratio",
            "up",
            "S3",
            "minutes of all sessions / sessions",
            ("session_ms", "sessions"),
            lambda ms, sessions: ratio(Fraction(ms, 60_000), sessions, n=sessions),
        ),
        ("page_views", "Page views", "count", "up", "S3", "pages viewed", ("page_views",), as_count),
        (
            "bounce_rate",
            "Bounce rate",
            "percent",
            "down",
            "S3",
            "sessions of a single page / sessions",
            ("sessions_bounced", "sessions"),
            proportion,
        ),
        (
            "custom_sum",
            "Custom metrics, sum",
            "ratio",
            None,
            "own",
            "what was reported in the month, added up",
            ("custom_sum",),
            lambda sums: {name: Reading(Fraction(value, MICRO)) for name, value in sums.items()},
        ),
        (
            "custom_mean",
            "Custom metrics, mean",
            "ratio",
            None,
            "own",
            "what was reported in the month / number of reports",
            ("custom_sum", "custom_count"),
            lambda sums, counts: {
                name: adoption.custom_metric("mean", Fraction(sums.get(name, 0), MICRO), n, None) for name, n in counts.items()
            },
        ),
        (
            "custom_last",
            "Custom metrics, last",
            "ratio",
            None,
            "own",
            "each account's last report, added up",
            ("custom_last",),
            lambda sums: {name: Reading(Fraction(value, MICRO)) for name, value in sums.items()},
        ),
    )
