"""The numbers that decide when a person hears of an account, checked when they are made."""

import re
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from models.fixed import to_fixed
from models.scorecard import Points, Strict
from models.times import DAY_US, HOUR_US, MILLISECOND_US, MINUTE_US, SECOND_US

DURATION_MAX_US = 3_650 * DAY_US
"""Ten years: an instant plus any wait still fits 63 bits, and a longer wait is a slip of the pen."""

_UNITS_US = {"d": DAY_US, "h": HOUR_US, "m": MINUTE_US, "s": SECOND_US, "ms": MILLISECOND_US}
_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")


def parse_duration(value: object) -> int:
    """The microseconds of a duration such as `250ms`, `10s`, `30m`, `24h` or `7d`, or of 0.

    Raises ValueError for anything else, a bare number other than 0 included: its unit would be a guess.
    """
    if value == 0 and not isinstance(value, bool):
        return 0
    text = str(value).strip()
    if text == "0":
        return 0
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{value!r} is not a duration: write a whole number and its unit (ms, s, m, h or d), for example 30m, or 0")
    duration_us = int(found[1]) * _UNITS_US[found[2]]
    if duration_us > DURATION_MAX_US:
        raise ValueError(f"{value!r} is longer than ten years: write at most {format_duration(DURATION_MAX_US)}")
    return duration_us


def format_duration(duration_us: int) -> str:
    """The text in the largest unit that `parse_duration` reads back as these microseconds: whole milliseconds."""
    if duration_us == 0:
        return "0"
    unit, unit_us = next((unit, us) for unit, us in _UNITS_US.items() if duration_us % us == 0)
    return f"{duration_us // unit_us}{unit}"


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^(0|{_DURATION.pattern})$"}, {"const": 0}]}),
]
"""A length of time in microseconds, written in a configuration as a whole number and its unit, or 0."""


class Hysteresis(Strict):
    """Where the health score enters and leaves a severity, in points: between the two, what was goes on."""

    enter: Points
    exit: Points

    @cached_property
    def enter_fixed(self) -> int:
        """A score below this enters; ten-thousandths of a point."""
        return to_fixed(self.enter)

    @cached_property
    def exit_fixed(self) -> int:
        """A score of at least this leaves; ten-thousandths of a point."""
        return to_fixed(self.exit)

    @model_validator(mode="after")
    def _exit_is_above_enter(self) -> Self:
        if self.exit_fixed <= self.enter_fixed:
            raise ValueError(
                f"exit ({self.exit}) must be greater than enter ({self.enter}), or an alert flaps with every small "
                f"move: raise exit or lower enter"
            )
        return self


class AtRiskHysteresis(Hysteresis):
    """Where an account becomes at risk, and where it has recovered."""

    enter: Points = Field(default=Decimal(50), description="a health score below it is at risk")
    exit: Points = Field(default=Decimal(57), description="a health score of at least it has recovered")


class CriticalHysteresis(Hysteresis):
    """Where an account becomes critical, and where it is only at risk again."""

    enter: Points = Field(default=Decimal(25), description="a health score below it is critical")
    exit: Points = Field(default=Decimal(32), description="a health score of at least it is no longer critical")


class HealthRules(Strict):
    """The rules on the health score, one for each severity."""

    at_risk: AtRiskHysteresis = Field(default_factory=AtRiskHysteresis)
    critical: CriticalHysteresis = Field(default_factory=CriticalHysteresis)

    @model_validator(mode="after")
    def _critical_is_inside_at_risk(self) -> Self:
        if self.critical.exit_fixed > self.at_risk.enter_fixed:
            raise ValueError(
                f"critical.exit ({self.critical.exit}) must be at most at_risk.enter ({self.at_risk.enter}), or an "
                f"account would count as critical that is not even at risk: lower critical.exit or raise at_risk.enter"
            )
        return self


class PendingFor(Strict):
    """How long the score must stay in the enter band of a severity before an alert opens."""

    at_risk: Duration = Field(
        default=30 * MINUTE_US,
        json_schema_extra={"default": "30m"},
        description="counted from the assessment that found the account at risk or worse",
    )
    critical: Duration = Field(
        default=5 * MINUTE_US,
        json_schema_extra={"default": "5m"},
        description="counted from the assessment that found the account critical",
    )


class AlertRules(Strict):
    """When an alert opens, changes severity, is resolved and is reopened (spec/alerts.md section 1.1)."""

    health: HealthRules = Field(default_factory=HealthRules)
    pending_for: PendingFor = Field(
        default_factory=PendingFor,
        description="how long the score must stay in the enter band before an alert opens; with 0 it opens at the "
        "first assessment, whatever min_evaluations says",
    )
    min_evaluations: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=2,
        description="assessments at different instants, ticks included, that must have found the account in an enter "
        "band before an alert opens; it guards the wait of pending_for, so where that is 0 it guards nothing",
    )
    recover_for: Duration = Field(
        default=24 * HOUR_US,
        json_schema_extra={"default": "1d"},
        description="how long the score must stay recovered before the alert is resolved; 0 resolves at once",
    )
    reopen_window: Duration = Field(
        default=72 * HOUR_US,
        json_schema_extra={"default": "3d"},
        description="an alert that fires again in less than this after it was resolved is reopened under its old "
        "alert_id; with 0 it always gets a new one",
    )
