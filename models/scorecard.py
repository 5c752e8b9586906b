"""The scorecard: which measures make which component, and what each weighs. Checked when it is made; the default is the product's."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.fixed import SCALE, to_fixed
from models.measures import MEASURES

ComponentName = Literal["usage", "support", "payment"]
Feed = Literal["usage", "support", "payment"]

COMPONENTS: tuple[ComponentName, ...] = ("usage", "support", "payment")

Points = Annotated[Decimal, Field(ge=0, le=100)]
Weight = Annotated[Decimal, Field(gt=0, le=1000, max_digits=7, decimal_places=4)]


class Strict(BaseModel):
    """A frozen part of the configuration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Linear(Strict):
    """A measure of a component, scored on a straight line from `worst` (0 points) to `best` (100 points), flat outside."""

    measure: str = Field(description="a measure of docs/state.md section 6, for example usage_active_days_28")
    worst: Annotated[Decimal, Field(ge=-1_000_000, le=1_000_000)] = Field(description="the value that scores 0 points")
    best: Annotated[Decimal, Field(ge=-1_000_000, le=1_000_000)] = Field(description="the value that scores 100 points")
    weight: Weight = Field(description="what it weighs inside its component, beside the other measures")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.measure not in MEASURES:
            raise ValueError(f"measure: {self.measure!r} is not a measure; known are {', '.join(MEASURES)}")
        if to_fixed(self.worst) == to_fixed(self.best):
            raise ValueError(f"worst and best of {self.measure} are equal: give two values, the worst scores 0 and the best 100")
        return self


class Component(Strict):
    """One scored aspect of an account, 0 to 100, higher is healthier."""

    weight: Weight = Field(description="what it weighs in the health score; renormalised over the components that have data")
    measures: tuple[Linear, ...] = Field(min_length=1, max_length=16, description="what it is made of")


def _usage() -> Component:
    return Component(
        weight=Decimal(40),
        measures=(
            Linear(measure="usage_active_days_28", worst=Decimal(0), best=Decimal(12), weight=Decimal(50)),
            Linear(measure="usage_pace", worst=Decimal(0), best=Decimal("0.85"), weight=Decimal(30)),
            Linear(measure="usage_idle_days", worst=Decimal(28), best=Decimal(3), weight=Decimal(20)),
        ),
    )


def _support() -> Component:
    return Component(
        weight=Decimal(15),
        measures=(
            Linear(measure="tickets_open_urgent", worst=Decimal(3), best=Decimal(0), weight=Decimal(60)),
            Linear(measure="tickets_created_28", worst=Decimal(12), best=Decimal(2), weight=Decimal(40)),
        ),
    )


def _payment() -> Component:
    return Component(
        weight=Decimal(20),
        measures=(
            Linear(measure="payment_overdue_days", worst=Decimal(30), best=Decimal(0), weight=Decimal(60)),
            Linear(measure="payments_failed_28", worst=Decimal(3), best=Decimal(0), weight=Decimal(40)),
        ),
    )


class Components(Strict):
    """The components of the health score."""

    usage: Component = Field(default_factory=_usage, description="how much and how steadily the product is used")
    support: Component = Field(default_factory=_support, description="how much trouble the account is in")
    payment: Component = Field(default_factory=_payment, description="whether it pays, and on time")


class Bands(Strict):
    """Where the bands begin, in points; each includes its lower bound."""

    at_risk: Points = Field(default=Decimal(25), description="below it an account is critical")
    watch: Points = Field(default=Decimal(50), description="below it an account is at_risk")
    healthy: Points = Field(default=Decimal(75), description="below it an account is on watch")

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if not self.at_risk < self.watch < self.healthy:
            raise ValueError("bands must ascend: at_risk < watch < healthy")
        return self


class Scorecard(Strict):
    """How the health score is made (docs/state.md section 7 is the arithmetic)."""

    components: Components = Field(default_factory=Components)
    bands: Bands = Field(default_factory=Bands)
    feeds: tuple[Feed, ...] = Field(
        default=("usage", "support", "payment"),
        min_length=1,
        description="components whose data this installation sends; one that is not fed does not lower the coverage",
    )
    coverage_min: Annotated[Decimal, Field(ge=0, le=1)] = Field(
        default=Decimal("0.5"), description="share of the weight that must have data; below it the band is insufficient_data"
    )

    def component(self, name: ComponentName) -> Component:
        """The component of that name."""
        component: Component = getattr(self.components, name)
        return component

    @property
    def coverage_min_fixed(self) -> int:
        """The least coverage, in ten-thousandths."""
        return int(self.coverage_min * SCALE)
