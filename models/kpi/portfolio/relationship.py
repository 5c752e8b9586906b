"""What is done with accounts: contacts, recommendations, onboarding."""

from collections.abc import Iterator

from models.kpi import worth
from models.kpi.exact import ratio
from models.kpi.portfolio.book import Kpi, each, section


def kpis() -> Iterator[Kpi]:
    """What is done with accounts: contacts, recommendations, onboarding."""
    return section(
        "relationship",
        ("touchpoints", "Touchpoints", "count", None, "own", "contacts with accounts, by kind", ("touchpoints",), each),
        (
            "plan_adherence",
            "Plan adherence",
            "percent",
            "up",
            "S0",
            "recommendations of the month acted on / recommendations made",
            ("recommendations_actioned", "recommendations_made"),
            worth.plan_adherence,
        ),
        (
            "onboarding_position",
            "Onboarding position",
            "percent",
            "up",
            "S2",
            "furthest step completed / steps, over accounts in onboarding",
            ("onboarding_steps_done", "onboarding_steps", "onboarding_accounts"),
            lambda done, steps, accounts: ratio(done, steps, n=accounts),
        ),
        (
            "onboarding_days",
            "Days in the onboarding step",
            "days",
            "down",
            "S2",
            "mean days since accounts in onboarding reached their step",
            ("onboarding_position_days", "onboarding_accounts"),
            lambda days, accounts: ratio(days, accounts, n=accounts),
        ),
    )
