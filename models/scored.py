"""What is published of an assessment: `health.scored` on `health-scores` (shared contract: docs/schemas)."""

from typing import Literal

import msgspec

Cause = Literal["value", "appeared", "disappeared", "reweighted"]
"""Why a component's contribution moved: its own value, its data came or went, or the weights of others shifted."""


class ComponentScored(msgspec.Struct, gc=False):
    """One component of a score, in points from 0 to 100; its contribution is its share of the score.

    `value` is that of its first measure, `n` the events behind it, `age_s` the age of the newest of them.
    """

    name: str
    score: float | None
    weight: float
    effective_weight: float
    value: float | None
    n: int
    age_s: int | None
    missing: bool
    contribution: float | None


class DriverScored(msgspec.Struct, gc=False):
    """What moved the score since it was published last. The points of all drivers sum to `delta`."""

    name: str
    points: float
    cause: Cause


class Trigger(msgspec.Struct, gc=False):
    """The input record that touched the account last."""

    topic: str
    partition: int
    offset: int
    id: str


class MoneyScored(msgspec.Struct, gc=False):
    """An amount in minor units."""

    amount_minor: int
    currency: str


class HealthScoredData(msgspec.Struct, gc=False):
    """The assessment of one account at `scored_at` (the decision time, `as_of`); null is unknown, never zero."""

    account_id: str
    score: float | None
    computed_score: float | None
    band: Literal["healthy", "watch", "at_risk", "critical", "insufficient_data"]
    override: None
    churn_risk: None
    calibrated: bool
    components: list[ComponentScored]
    delta: float | None
    drivers: list[DriverScored]
    profile: str
    config_version: str
    model_version: None
    coverage: float
    freshness_s: int | None
    trend: None
    mrr: MoneyScored | None
    owner: str | None
    segment: str | None
    renewal_at: str | None
    trigger: Trigger | None
    occurred_at: str | None
    scored_at: str


class HealthScored(msgspec.Struct, gc=False):
    """The CloudEvents envelope of an assessment."""

    id: str
    subject: str
    time: str
    data: HealthScoredData
    specversion: Literal["1.0"] = "1.0"
    type: Literal["health.scored"] = "health.scored"
    source: str = "/health-scores"
    datacontenttype: Literal["application/json"] = "application/json"
