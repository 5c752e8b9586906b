"""The KPIs of RavenStack, folded and rolled up by the product: they reconcile, stay in their range, and say why they are not there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from deploy.replay import ravenstack
from deploy.replay.corpus import SAMPLE_DIR
from models.feedback import Feedback
from models.kpi.catalogue import KPIS
from models.kpi.exact import Reading
from models.kpi.portfolio.book import Book
from models.reading import reader
from models.times import parse_us
from tests.support.generate import TOPIC_OF
from tests.support.memory_worker import MemoryWorker, definition, log_of
from tests.support.simulated import told_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.kpi.figures import Key

CURRENCY: Final = "USD"

BEYOND: Final = frozenset(
    {
        "cohort_mrr_retention",
        "customer_growth_rate",
        "customer_retention_rate_raw",
        "gross_margin",
        "mrr_growth_rate",
        "net_margin",
        "net_mrr_churn",
        "nrr",
        "nrr_with_reactivation",
        "product_nrr",
        "trial_growth_rate",
    }
)
"""Per cents that may be below 0 or above 100: what grows, and margins."""

Months = dict[str, dict["Key", int]]


@pytest.fixture(scope="module")
def months() -> Months:
    """Return the figures of every month that is told of; nobody has a segment there."""
    events = list(ravenstack.corpus(SAMPLE_DIR).events())
    log = log_of(dict(event) for event in events if event["type"] in TOPIC_OF)
    worker = MemoryWorker(log, replace(definition(), read_text=reader(Feedback())))
    worker.run(Random(1), sizes=(400, 2000))
    told = told_by(worker, max(parse_us(event["time"]) for event in events))
    return {month: by_segment["other"] for month, by_segment in sorted(told.items())}


def by_name(figures: dict[Key, int]) -> dict[str, int]:
    """Return the figures that are one number by name; money is in one currency."""
    return {key.name: value for key, value in figures.items() if not key.label and key.currency in ("", CURRENCY)}


def readings(months: Months) -> Iterator[tuple[str, str, Reading]]:
    """Give every reading of every KPI: its month, its name."""
    before: dict[Key, int] | None = None
    for month, figures in months.items():
        for name, kpi in KPIS.items():
            read = kpi.value(Book(figures, before, CURRENCY))
            for reading in [read] if isinstance(read, Reading) else read.values():
                yield month, name, reading
        before = figures


def test_each_month_begins_as_the_one_before_it_ended_and_ends_as_what_happened_says(months: Months) -> None:
    """Customers and MRR, exactly, in two years of money."""
    assert len(months) == 25
    told = [by_name(figures) for figures in months.values()]
    for before, after in pairwise(told):
        assert after["customers_start"] == before["customers_end"]
        assert after["mrr_start"] == before["mrr_end"]
    for own in told:
        came, left = own["customers_new"] + own["customers_reactivated"], own["customers_churned"] + own["customers_same_period_churned"]
        assert own["customers_start"] + came - left == own["customers_end"]
        gained = sum(own[f"mrr_{kind}"] for kind in ("new", "reactivation", "expansion", "resume", "fx"))
        lost = sum(own[f"mrr_{kind}"] for kind in ("contraction", "churn", "pause"))
        assert own["mrr_start"] + gained - lost == own["mrr_end"]
    assert told[-1]["customers_end"] > 100
    assert any(own["customers_churned"] for own in told)


def test_no_rate_is_outside_of_its_range_and_every_null_has_its_reason(months: Months) -> None:
    """Shares are between 0 and 100, NPS between -100 and 100, intervals hold their value."""
    seen = set()
    for month, name, reading in readings(months):
        if reading.value is None:
            assert reading.reason, (month, name)
            continue
        seen.add(name)
        assert reading.reason is None
        if KPIS[name].unit == "percent" and name not in BEYOND:
            assert 0 <= reading.value <= 100, (month, name)
        if name == "nps":
            assert -100 <= reading.value <= 100
        if reading.interval is not None:
            low, high = reading.interval
            assert low <= reading.value <= high, (month, name)
    assert seen >= {
        "mrr",
        "nrr",
        "grr",
        "customer_churn_rate",
        "customer_retention_rate",
        "quick_ratio",
        "first_contact_resolution",
        "csat",
        "mau",
    }
