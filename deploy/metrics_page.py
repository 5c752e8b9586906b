"""The page of all metrics, docs/metrics.md, made from the catalogue and the list of figures: `python -m deploy.schemas write`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from models.kpi.catalogue import KPIS
from models.kpi.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.kpi.portfolio.book import Kpi

HEAD: Final = """# Metrics

<!-- Generated from models/kpi: change the catalogue or the figures there, then run `python -m deploy.schemas write`. -->

Every figure that customer success is steered by, each with one definition. A KPI of a month and segment is made of **figures**, whole
numbers that add up over partitions and segments, so it does not depend on how many workers run. Per account the same functions
(`models/kpi/`) take that account's numbers.

`churnwatch kpi` reports them ([kpi.md](kpi.md)).

`churnwatch examples run FILE` calculates worked examples and compares them; 173 of them are in the tests
(`tests/golden/examples.json`, `examples_more.json`), most of the second file for what happens at the edges.

## 1. Rules for all of them

- **Exact**: integers, fractions and decimals of 28 digits (for roots and powers), never a float. Rounded half-up, away from zero, where
  it is shown: 0.5 is 1, and −2.5 is −3.
- **Null, with a reason, where there is nothing to say**: never 0 and never infinite. `zero_denominator`: nothing to divide by.
  `not_observed`: no event of that kind was ever seen, which is not zero. `no_losses`, `no_churn`, `no_costs`, `no_margin`,
  `no_new_customers`, `no_orders`, `one_order`, `no_answers`, `no_baseline`, `no_calibrated_risk`, `no_previous_period`, `too_few`,
  `not_reached`, `still_running`: as they read. `several_currencies`: amounts in several, and none was asked for.
- **Sample size and interval**: a ratio says its `n`; a proportion of counts has its Wilson 95 % interval, NPS the one of its standard
  error.
- **Money** is in minor units (ISO 4217: a dollar has 100, a yen 1, a Kuwaiti dinar 1000), kept in millionths of one, each currency
  apart. A reporting currency takes a dated table of rates: the rate of a day is the latest on or before it, a missing one is an error
  that names currency and day, and a change of rates alone is the movement `fx`, never an expansion.
- **MRR** of a subscription: `Σ unit price × quantity × months factor × (1 − percent) − amount × months factor`; the factor is 1 for a
  month, 1/12 for a year, 1/3 for a quarter, 1/6 for half a year, 365.25/12/7 for a week, 365.25/12 for a day, each divided by the
  interval count. Percents are taken off first, then amounts; an amount comes off as often as the first item is billed; MRR is never
  below 0.
- **A customer** is an account that pays, or that has paused without having left: paused is not churned. An account counts in the
  segment that it has as the month ends. A user of two accounts is a user in each.
- **Medians of durations** come from buckets that are at most 1/32 wide, so they are within 1.6 %, and exact below 64 seconds.
- **Options**: `revenue.pause_policy` (`zero`: a pause is a contraction and a resumption an expansion in every rate; `keep`: in none),
  and under `kpi` `max_lifetime_months` (none), `discount_factor` (0.99 a month), `fcr_denominator` (`solved`, or `received`),
  `count_abandoned`, `count_cross_department`. Variants of churn, NRR and quick ratio are KPIs of their own, so none is ever shown
  under the name of another.

Sources: S0 to S4 are the five customer-success articles that this product implements; the others are what a definition was checked against.
"""

FIGURES_HEAD: Final = """
## 3. Figures

What workers add up. `flow` is what happened in the month, `stock` how it is as the month ends, `opening` how it was as it began.
`micro_minor` are millionths of a minor unit, `micro` millionths of one. A figure that is not there was never observed; one that is 0 was.
"""


def metrics_page() -> str:
    """The text of the page."""
    return HEAD + "\n## 2. KPIs\n" + "\n".join(_kpis()) + "\n" + FIGURES_HEAD + "\n".join(_figures()) + "\n"


def _kpis() -> Iterator[str]:
    for section, listed in groupby(KPIS.values(), lambda kpi: kpi.section):
        yield f"\n### {section.capitalize()}\n"
        yield "| KPI | name | unit | better | definition | source |"
        yield "|---|---|---|---|---|---|"
        yield from map(_row, listed)


def _row(kpi: Kpi) -> str:
    return f"| {kpi.title} | `{kpi.name}` | {kpi.unit} | {kpi.better or ''} | {kpi.formula} | {kpi.source} |"


def _figures() -> Iterator[str]:
    for topic, listed in groupby(sorted(FIGURES.values(), key=lambda figure: figure.topic), lambda figure: figure.topic):
        yield f"\n### `{topic}`\n"
        yield "| figure | by | kind | unit | what it counts |"
        yield "|---|---|---|---|---|"
        for figure in listed:
            yield f"| `{figure.name}` | {figure.label.replace('_', ' ')} | {figure.kind} | {figure.unit} | {figure.meaning} |"
