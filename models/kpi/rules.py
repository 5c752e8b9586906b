"""Where the definitions of KPIs leave a choice: the part `kpi` of the configuration. What is published does not depend on it."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from models.kpi.portfolio.book import Options
from models.kpi.recurring import PausePolicy
from models.scorecard import Strict


class KpiRules(Strict):
    """How a report of KPIs is made (docs/kpi.md)."""

    benchmarks_file: Path | None = Field(
        default=None, description="YAML file of benchmarks to compare with, instead of those that ship; docs/kpi.md says what is in it"
    )
    max_lifetime_months: Annotated[int, Field(ge=1, le=1200)] | None = Field(
        default=None, description="most months that the lifetime value of a customer counts; null: as long as the churn rate says"
    )
    discount_factor: Annotated[Decimal, Field(gt=0, le=1, max_digits=7, decimal_places=6)] = Field(
        default=Decimal("0.99"), description="what an amount of the month after is worth now, for the discounted lifetime value"
    )
    fcr_denominator: Literal["solved", "received"] = Field(
        default="solved", description="whether first contact resolution is a share of the tickets solved, or of those received"
    )
    count_abandoned: bool = Field(default=False, description="whether calls that were given up count in first contact resolution")
    count_cross_department: bool = Field(
        default=False, description="whether a ticket that several departments worked on can be resolved at first contact"
    )

    def options(self, days: int, pause_policy: PausePolicy) -> Options:
        """The same as KPIs take them; `days` of the month, or that have passed of it."""
        return Options(
            days,
            pause_policy,
            self.max_lifetime_months,
            Fraction(self.discount_factor),
            self.fcr_denominator,
            self.count_abandoned,
            self.count_cross_department,
        )
