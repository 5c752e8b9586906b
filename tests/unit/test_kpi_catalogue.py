"""The catalogue: every KPI is made of figures, every figure serves one, and what is not known is null with its reason."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import starmap
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kpi.catalogue import KPIS
from models.kpi.exact import Reading, exact
from models.kpi.figures import FIGURES, MICRO, Figure, Key, add_up, key_of
from models.kpi.portfolio.book import PREVIOUS, Book, Options
from tests.support.profiles import unhurried

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LABELS = {
    "band": ("critical", "at_risk", "watch", "healthy"),
    "scale": ("1-5", "1-7 lower_better"),
    "start_month": ("2024-01", "2024-02"),
    "months": ("0", "3", "12"),
    "days": ("1", "20", "28"),
    "seconds": ("12", "640", "7168"),
    "card": ("card", "no_card"),
    "category": ("acquisition.sales", "retention.cs", "cogs", "opex"),
}


def keys(figure: Figure, *currencies: str) -> Iterator[Key]:
    """Some numbers of a figure."""
    labels = LABELS.get(figure.label, ("one", "other")) if figure.label else ("",)
    for currency in currencies if figure.is_money else ("",):
        for label in labels:
            yield key_of(figure.name, label=label, currency=currency)


ULP = Fraction(1, 10**20)
"""Intervals have 28 digits."""

EVERY = [key for figure in FIGURES.values() for key in keys(figure, "EUR")]


def readings(value: Reading | Mapping[str, Reading]) -> list[Reading]:
    """All readings of a KPI."""
    return [value] if isinstance(value, Reading) else list(value.values())


def value(name: str, book: Book) -> Fraction:
    """The value of a KPI that has one."""
    found = KPIS[name].value(book)
    assert isinstance(found, Reading)
    assert found.value is not None
    return exact(found.value)


def book(**figures: int) -> Book:
    """A book of figures without labels, money in EUR."""
    parts = {key_of(name, currency="EUR" if FIGURES[name].is_money else ""): number for name, number in figures.items()}
    return Book(parts, None, "", Options(days=30))


def test_every_figure_serves_a_kpi_and_every_kpi_is_made_of_figures() -> None:
    """A figure that nobody reads costs memory; one that nobody makes would be null for ever."""
    read = {name.removeprefix(PREVIOUS) for kpi in KPIS.values() for name in kpi.figures}
    assert read == FIGURES.keys()


def test_every_kpi_says_what_it_is() -> None:
    """Under a name and a title of its own."""
    assert len({kpi.title for kpi in KPIS.values()}) == len(KPIS)
    assert all(kpi.name == name and kpi.formula and kpi.source and kpi.figures for name, kpi in KPIS.items())


@pytest.mark.parametrize("name", KPIS)
def test_a_kpi_of_nothing_is_null_and_one_of_zeros_is_zero_or_null(name: str) -> None:
    """Never observed is not zero; and nothing divides by zero."""
    [nothing] = readings(KPIS[name].value(Book({})))
    assert nothing.value is None
    assert nothing.reason in {"not_observed", "no_previous_period"}
    zeros = dict.fromkeys(EVERY, 0)
    for found in readings(KPIS[name].value(Book(zeros, zeros))):
        assert found.value in {0, None}, found


@given(numbers=st.lists(st.integers(0, 10**9), min_size=len(EVERY), max_size=len(EVERY)), at=st.integers(1, 50))
@unhurried(40)
def test_every_kpi_of_any_figures_is_exact_and_adds_up(numbers: list[int], at: int) -> None:
    """However the accounts are shared out to partitions: the value is that of all figures together, and no float is in it."""
    whole = dict(zip(EVERY, numbers, strict=True))
    # A churned customer was one at the start: what cannot be is not asked.
    whole[Key("customers_churned")] = min(whole[Key("customers_churned")], whole[Key("customers_start")])
    first = {key: number // at for key, number in whole.items()}
    second = {key: number - first[key] for key, number in whole.items()}
    for kpi in KPIS.values():
        made = kpi.value(Book(whole, whole))
        assert made == kpi.value(Book(add_up([second, first]), add_up([first, second])))
        for found in readings(made):
            assert (found.value is None) != (found.reason is None)
            assert found.value is None or isinstance(found.value, int | Fraction | Decimal)
            if found.interval is not None and found.value is not None:
                assert exact(found.interval[0]) - ULP <= exact(found.value) <= exact(found.interval[1]) + ULP


def test_what_is_known_of_no_product_is_not_observed() -> None:
    """Payments were seen, products were not: nothing was divided by zero."""
    paying = dict.fromkeys((key for key in EVERY if not key.label), 1)
    [found] = readings(KPIS["product_concentration"].value(Book(paying, paying)))
    assert found.reason == "not_observed"


def test_the_lifetime_value_of_orders_says_how_many_lifespans_it_stands_on() -> None:
    """One buyer of thirteen who came again after six days is no sample to steer by."""
    figures = {"orders": 3, "buyers_ever": 13, "buyers_repeat": 1, "order_lifespan_days": 6}
    parts = {Key(name): number for name, number in figures.items()} | {Key("revenue_one_off", currency="USD"): 154_800 * MICRO}
    [found] = readings(KPIS["clv_ecommerce"].value(Book(parts)))
    assert found.value == Fraction(154_800, 3) * Fraction(12 * 3, 13) * Fraction(6, 365)
    assert found.n == 1


def test_amounts_of_several_currencies_are_never_added() -> None:
    """Without one that is asked for they are null; with it they are that one's."""
    both = {Key("mrr_end", "", "EUR"): 5 * MICRO, Key("mrr_end", "", "USD"): 7 * MICRO}
    mixed = KPIS["mrr"].value(Book(both))
    assert isinstance(mixed, Reading)
    assert mixed.reason == "several_currencies"
    assert value("mrr", Book(both, None, "USD")) == 7
    other = KPIS["mrr"].value(Book(both, None, "GBP"))
    assert isinstance(other, Reading)
    assert other.reason == "not_observed"


def test_counts_reconcile() -> None:
    """Start + new + reactivated − churned − same-period churned = end: then retention is 1 − churn, to the last digit."""
    left = {"customers_churned": 8, "customers_same_period_churned": 3}
    counts = book(customers_start=97, customers_new=13, customers_reactivated=2, customers_end=101, **left)
    assert value("customer_retention_rate", counts) == 100 - value("customer_churn_rate", counts)
    assert value("customer_churn_rate_start_plus_new", counts) == Fraction(100 * 11, 112)
    assert value("customer_churn_rate_all_lost", counts) == Fraction(1100, 97)
    assert value("customer_churn_rate_average", counts) == Fraction(1100, 99)
    assert value("customer_retention_rate_raw", counts) == Fraction(9100, 97)


def test_arpa_times_paying_customers_is_mrr() -> None:
    """Paused customers do not pay."""
    figures = book(mrr_end=1_000_001, customers_end=5, customers_end_paused=2)
    assert value("arpa", figures) * 3 == value("mrr", figures) == Fraction(1_000_001, MICRO)


def test_a_sum_of_lifetime_value() -> None:
    """ARPA 100, margin 80 %, churn 5 %, CAC 400: 1600, 4 times the CAC; discounted by 0.99 a month 80 / (1 − 0.95 × 0.99) − 400."""
    plain = book(
        mrr_end=100_000 * MICRO, customers_end=1000, customers_end_paused=0, customers_start=1000, customers_churned=50,
        revenue_paid=100_000 * MICRO, revenue_refunded=0, customers_new=10,
    )  # fmt: skip
    labelled = {
        Key("costs", "cogs", "EUR"): 20_000 * MICRO,
        Key("costs", "acquisition.marketing", "EUR"): 3_000 * MICRO,
        Key("costs", "acquisition.sales", "EUR"): 1_000 * MICRO,
        Key("customers_new_by_channel", "web"): 10,
        Key("costs_acquisition_by_channel", "web", "EUR"): 4_000 * MICRO,
    }
    whole = Book({**plain.parts, **labelled})
    assert value("cac", whole) == 400
    assert value("clv_predictive", whole) == 1600
    assert value("clv_net_of_cac", whole) == 1200
    assert value("ltv_cac", whole) == 4
    assert value("clv_discounted", whole) == 80 / (1 - Fraction(95, 100) * Fraction(99, 100)) - 400
    assert value("clv_predictive", Book(whole.parts, None, "", Options(max_lifetime_months=12))) == 960
    without = KPIS["clv_predictive"].value(Book({**plain.parts, Key("costs", "opex", "EUR"): 1}))
    assert isinstance(without, Reading)
    assert without.reason == "no_margin"


def test_cac_says_when_a_channel_has_no_cost() -> None:
    """What came by referral may have cost something that nobody sent."""
    parts = {
        Key("customers_new"): 3,
        Key("customers_new_by_channel", "web"): 2,
        Key("customers_new_by_channel", "partner"): 1,
        Key("costs", "acquisition.sales", "EUR"): 6 * MICRO,
        Key("costs_acquisition_by_channel", "web", "EUR"): 6 * MICRO,
    }
    found = KPIS["cac"].value(Book(parts))
    assert isinstance(found, Reading)
    assert (found.value, found.n, found.beside["is_partial"]) == (2, 3, 1)


def test_growth_needs_the_month_before() -> None:
    """Three trials after two are 50 %; in the first month there is nothing to grow from."""
    parts = {Key("trials_started", "card"): 2, Key("trials_started", "no_card"): 1}
    before = {Key("trials_started", "card"): 2}
    assert value("trial_growth_rate", Book(parts, before)) == 50
    first = KPIS["trial_growth_rate"].value(Book(parts))
    assert isinstance(first, Reading)
    assert first.reason == "no_previous_period"


def test_satisfaction_adds_up_over_scales() -> None:
    """Two of three on 1 to 5 and one of one on 1 to 7 where less is better: 3 of 4, and the mean of each scale."""
    scale, other = "1-5", "1-7 lower_better"
    rows = [("csat_answers", scale, 3), ("csat_positive", scale, 2), ("csat_scores", scale, 11 * MICRO)]
    rows += [("csat_answers", other, 1), ("csat_positive", other, 1), ("csat_scores", other, 1 * MICRO)]
    parts = dict(starmap(lambda name, label, number: (Key(name, label), number), rows))
    csat = KPIS["csat"].value(Book(parts))
    assert isinstance(csat, Reading)
    assert (csat.value, csat.n) == (75, 4)
    assert csat.interval is not None
    assert csat.beside["mean_0_100"] == (3 * (Fraction(11, 3) - 1) * 25 + 100) / 4
    means = KPIS["csat_mean"].value(Book(parts))
    assert not isinstance(means, Reading)
    assert {label: each.value for label, each in means.items()} == {scale: Fraction(11, 3), other: 1}


def test_a_first_response_that_is_still_awaited_counts_with_its_time_so_far() -> None:
    """Otherwise the slowest tickets would be the ones that are not seen."""
    parts = {
        Key("first_responses", "10"): 2,
        Key("first_responses", "20"): 1,
        Key("first_responses_waiting", "60"): 2,
    }
    found = KPIS["first_response_median"].value(Book(parts))
    assert isinstance(found, Reading)
    assert (found.value, found.n, found.beside["waiting"]) == (20, 5, 2)


def test_first_contact_resolution_answers_the_articles_two_questions() -> None:
    """Whether calls that were given up count, and whether another department may help."""
    figures = book(fcr_resolved=66, fcr_solved=88, fcr_received=100, tickets_abandoned=12, fcr_resolved_cross_department=11)
    shown = [
        value("first_contact_resolution", Book(figures.parts, None, "", options))
        for options in (Options(), Options(fcr_denominator="received"), Options(count_abandoned=True), Options(count_cross_department=True))
    ]
    assert shown == [75, 66, 66, Fraction(175, 2)]
