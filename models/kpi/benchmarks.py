"""Benchmarks: dated, sourced ranges to hold a KPI against, each of the same definition as the KPI or not at all."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.kpi.catalogue import KPIS
from models.kpi.exact import Exact, exact
from models.scorecard import Strict

Verdict = Literal["better", "within", "worse", "above", "below"]
"""How a value stands to a range; `above` and `below` where a KPI is good neither way."""

Number = Annotated[Decimal, Field(ge=-(10**12), le=10**12)]
Words = Annotated[str, Field(min_length=1, max_length=1000)]


class Benchmark(Strict):
    """What others reach in one KPI: a range with one end or both, who they are, and who says so."""

    kpi: str = Field(description="name of the KPI that it is for; its definition must be the same")
    label: str = Field(
        default="", max_length=200, description="which of its values, where a KPI has one for each product, card or the like"
    )
    low: Number | None = Field(default=None, description="least of the range, in the unit of the KPI; null: open")
    high: Number | None = Field(default=None, description="most of the range; null: open")
    population: Words = Field(description="of whom it tells, for example SaaS businesses with more than 10,000 USD of MRR")
    publisher: Words = Field(description="who published it")
    title: Words = Field(description="under which title")
    published: date | None = Field(default=None, description="the day of its publication; null: the source bears none")
    read: date = Field(description="the day that somebody read it there")
    url: Words = Field(description="where")
    note: Words = Field(description="what it means by the KPI, and what it leaves open")

    @model_validator(mode="after")
    def _is_a_range_of_a_kpi(self) -> Self:
        if self.kpi not in KPIS:
            raise ValueError(f"kpi: {self.kpi!r} is no KPI; `churnwatch kpi --list` names them all")
        if KPIS[self.kpi].unit == "money":
            raise ValueError(f"kpi: {self.kpi} is an amount, which depends on prices: benchmarks are of rates, ratios and times")
        if self.low is None and self.high is None:
            raise ValueError("low and high are both missing: give one, or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}: change them over")
        return self

    @property
    def reach(self) -> str:
        """The range as it is shown: `3–7`, `≥ 4`, `≤ 2`."""
        if self.high is None:
            return f"≥ {self.low}"
        if self.low is None:
            return f"≤ {self.high}"
        return f"{self.low}" if self.low == self.high else f"{self.low}–{self.high}"

    def verdict(self, value: Exact) -> Verdict:
        """How a value stands to the range, both ends of which belong to it."""
        number, better = exact(value), KPIS[self.kpi].better
        if self.low is not None and number < exact(self.low):
            return {"up": "worse", "down": "better", None: "below"}[better]  # type: ignore[return-value]
        if self.high is not None and number > exact(self.high):
            return {"up": "better", "down": "worse", None: "above"}[better]  # type: ignore[return-value]
        return "within"


class BenchmarksFile(Strict):
    """A file of benchmarks."""

    benchmarks: tuple[Benchmark, ...] = Field(max_length=1000, description="in any order; a KPI may have several, of other populations")


Benchmarks = Mapping[tuple[str, str], tuple[Benchmark, ...]]
"""By KPI and label."""


def by_kpi(benchmarks: Iterable[Benchmark]) -> dict[tuple[str, str], tuple[Benchmark, ...]]:
    """Benchmarks by KPI and label, in their order."""
    found: dict[tuple[str, str], tuple[Benchmark, ...]] = {}
    for each in benchmarks:
        key = (each.kpi, each.label)
        found[key] = (*found.get(key, ()), each)
    return found
