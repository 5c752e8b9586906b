"""The simulator: the same bytes for a seed, events that are all good, and a truth that the product must equal to the last integer."""

from __future__ import annotations

from collections import Counter
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from deploy.replay.envelope import topic_of
from deploy.simulate.stream import TOPICS, events
from deploy.simulate.truth import OTHER, Truth, added_up
from deploy.simulate.truth_kpis import KPIS as TRUE_KPIS
from deploy.simulate.truth_kpis import kpis
from deploy.simulate.world import Scope, World
from models.costs import month_costs
from models.decoding import decode_batch
from models.events import CostRecorded
from models.kpi.catalogue import KPIS
from models.kpi.exact import Reading, exact
from models.kpi.figures import FIGURES, Key, read_key
from models.kpi.portfolio.book import Book
from models.months import UTC_ZONE, parse_month
from models.times import DAY_US, parse_us
from tests.support.replayed import records_of
from tests.support.simulated import MUST_BE_COMPARED, USED, USED_NOW, Simulated, of_all, simulated, told_by, worker_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.replay.envelope import Event
    from deploy.simulate.truth import Figures

SMALL: Final = Scope(accounts=25, months=5, seed=11, events_per_user_day=0.1)
QUIET: Final = {"events_per_user_day": 0.01}
COMPARED: Final = (
    (Scope(accounts=60, months=14, seed=10, **QUIET), False),  # type: ignore[arg-type]
    (Scope(accounts=60, months=12, seed=2, currencies=("EUR", "USD"), **QUIET), True),  # type: ignore[arg-type]
    (Scope(accounts=25, months=27, seed=3, segments=(("all_of_it", 1),), **QUIET), True),  # type: ignore[arg-type]
    (Scope(accounts=90, months=6, seed=4, start=date(2023, 11, 1), currencies=("USD", "GBP", "CHF"), **QUIET), False),  # type: ignore[arg-type]
)
"""Portfolios, each with or without disorder; one is longer than figures are told of."""


def lines(stream: Iterable[Event]) -> list[bytes]:
    """Events as they are written into files."""
    return [msgspec.json.encode(event) for event in stream]


def names_of(figures: Iterable[str]) -> set[str]:
    """The names of figures, without labels and currencies."""
    return {read_key(key).name for key in figures}


def said_by_truth(truth: Truth) -> dict[str, dict[str, Figures]]:
    """The true figures of every month and segment, also of those in which nothing is."""
    figures = truth.figures()
    return {window.text: figures.get(window.text, {}) for window in truth.windows}


def without_usage(truth: Truth) -> dict[tuple[str, str, str], int]:
    """The true figures of everything but usage, by month, segment and key."""
    return {
        (month, segment, key): value
        for month, by_segment in truth.figures().items()
        for segment, figures in by_segment.items()
        for key, value in figures.items()
        if FIGURES[read_key(key).name].topic != "usage-events"
    }


# -- events


def test_a_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    """Everything is drawn from the seed, the disorder too."""
    first = lines(simulated(SMALL).events)
    assert lines(events(World.of(SMALL))) == first
    assert lines(simulated(Scope(accounts=25, months=5, seed=12, events_per_user_day=0.1)).events) != first
    late = simulated(SMALL, is_disordered=True).events
    simulated.cache_clear()
    assert lines(simulated(SMALL, is_disordered=True).events) == lines(late)


def test_events_come_in_the_order_of_time_and_none_after_the_end() -> None:
    """The stream is sorted, and begins and ends with the months that were asked for."""
    times = [event["time"] for event in simulated(SMALL).events]
    assert times == sorted(times)
    assert times[0] >= "2024-01-01T00:00:00Z"
    assert times[-1] == "2024-05-31T23:59:59Z"


def test_every_event_decodes_and_every_topic_has_some() -> None:
    """No record of any topic is a dead letter; an id is used once, but for costs that are corrected."""
    by_topic: dict[str, list[Event]] = {topic: [] for topic in TOPICS}
    for event in simulated(Scope(accounts=60, months=12, seed=5, events_per_user_day=0.05)).events:
        by_topic[topic_of(event["type"])].append(event)
    for topic, told in by_topic.items():
        batch = decode_batch(topic, records_of(told))
        assert told
        assert batch.rejected == []
        if topic != "cost-events":
            assert len({event["id"] for event in told}) == len(told)


def test_disorder_loses_nothing_and_nothing_of_it_is_late() -> None:
    """Each event arrives, some twice and some after later ones; the product applies each once."""
    ordered, disordered = simulated(SMALL), simulated(SMALL, is_disordered=True)
    counts = Counter(lines(disordered.events))
    assert set(counts) == set(lines(ordered.events))
    assert set(counts.values()) == {1, 2}
    times = [event["time"] for event in disordered.events]
    assert times != sorted(times)
    told = worker_of(disordered).outcomes()
    assert {outcome for outcomes in told.values() for outcome in outcomes} == {"applied", "duplicate"}
    applied = sum(outcomes["applied"] for outcomes in told.values())
    assert applied == sum(topic_of(event["type"]) != "cost-events" for event in ordered.events)


def test_more_use_changes_nothing_but_the_use() -> None:
    """The knob for usage leaves all that was decided as it is."""
    louder = simulated(Scope(accounts=25, months=5, seed=11, events_per_user_day=1.0))

    def others(portfolio: Simulated) -> list[tuple[str, str, str]]:
        return [(event["time"], event["type"], event["subject"]) for event in portfolio.events if topic_of(event["type"]) != "usage-events"]

    assert others(louder) == others(simulated(SMALL))
    assert without_usage(louder.truth) == without_usage(simulated(SMALL).truth)
    assert len(louder.events) > 2 * len(simulated(SMALL).events)


# -- the truth by itself


@pytest.mark.parametrize(("scope", "is_disordered"), COMPARED)
def test_counts_and_money_reconcile(scope: Scope, is_disordered: bool) -> None:
    """Start and what happened make the end, and each month begins as the one before it ended, in every segment and currency."""
    figures = said_by_truth(simulated(scope, is_disordered=is_disordered).truth)
    before: dict[tuple[str, str], int] = {}
    for by_segment in figures.values():
        for segment in (*scope.names(), OTHER):
            own = Counter(by_segment.get(segment, {}))
            gains = own["customers_new"] + own["customers_reactivated"]
            losses = own["customers_churned"] + own["customers_same_period_churned"]
            assert own["customers_start"] + gains - losses == own["customers_end"]
            assert before.get((segment, ""), own["customers_start"]) == own["customers_start"]
            before[segment, ""] = own["customers_end"]
            for currency in scope.currencies:
                mrr = {kind: own[f"mrr_{kind}@{currency}"] for kind in MOVEMENTS}
                end = mrr["start"] + sum(mrr[kind] for kind in GAINS) - sum(mrr[kind] for kind in LOSSES)
                assert end == mrr["end"]
                assert before.get((segment, currency), mrr["start"]) == mrr["start"]
                before[segment, currency] = mrr["end"]


def test_active_users_are_those_of_the_events() -> None:
    """Counted once more from the events that were sent, day by day and user by user."""
    portfolio = simulated(Scope(accounts=30, months=4, seed=7, segments=(("all_of_it", 1),), events_per_user_day=0.2))
    days: dict[str, set[int]] = {}
    for event in portfolio.events:
        if event["type"] == "usage.event":
            days.setdefault(str(event["data"]["user_id"]), set()).add(parse_us(event["time"]) // DAY_US)
    true = portfolio.truth.figures()
    for window in portfolio.truth.windows[-4:]:
        last = window.stop // DAY_US
        figures = added_up(true[window.text])
        found: Counter[str] = Counter()
        for active in days.values():
            spans = {
                (span, times): {day for day in active if last - span * times < day <= last - span * (times - 1)}
                for span in (7, 28)
                for times in (1, 2)
            }
            ever = {day for day in active if day <= last}
            found["active_users_1d"] += last in active
            found["active_users_7d"] += bool(spans[7, 1])
            found["active_users_28d"] += bool(spans[28, 1])
            found["user_days_28d"] += len(spans[28, 1])
            if spans[28, 1]:
                found[f"users_by_active_days_28d{{{len(spans[28, 1])}}}"] += 1
            for span in (7, 28):
                now, before = spans[span, 1], spans[span, 2]
                found[f"users_new_{span}d"] += bool(now) and ever == now
                found[f"users_current_{span}d"] += bool(now and before)
                found[f"users_resurrected_{span}d"] += bool(now) and not before and ever != now
                found[f"users_dormant_{span}d"] += bool(before) and not now
        told = {key: value for key, value in figures.items() if FIGURES[read_key(key).name].topic == "usage-events"}
        assert told == {key: value for key, value in found.items() if value}
        assert found["active_users_28d"] > found["active_users_7d"] > found["active_users_1d"] > 0


GAINS: Final = ("new", "reactivation", "expansion", "resume")
LOSSES: Final = ("contraction", "churn", "pause")
MOVEMENTS: Final = ("start", "end", *GAINS, *LOSSES)


def test_a_portfolio_is_one_that_could_be() -> None:
    """It grows, 1 to 4 % of the customers leave in a month, and net revenue retention is that of a healthy company."""
    truth = simulated(Scope(accounts=160, months=24, seed=6, events_per_user_day=0.0)).truth
    every = [added_up(by_segment) for month, by_segment in sorted(truth.figures().items()) if month >= "2024-01"]
    rates = [kpis(figures, "USD") for figures in every]

    def mean(name: str) -> float:
        return float(sum((rate[name] or Fraction(0) for rate in rates), Fraction(0)) / len(rates))

    assert 1 <= mean("customer_churn_rate") <= 4
    assert 90 <= mean("nrr") <= 115
    assert 90 <= mean("grr") <= 100
    assert -20 <= mean("nps") <= 70
    assert 40 <= mean("csat") <= 100
    assert every[-1]["customers_end"] > every[0]["customers_start"]
    assert every[-1]["tickets_open"] < every[-1]["tickets_created"]


# -- the product against the truth


@pytest.mark.parametrize(("scope", "is_disordered"), COMPARED)
def test_the_product_tells_the_truth(scope: Scope, is_disordered: bool) -> None:
    """Every figure that both know, and every KPI made of them, in every month and segment, exactly."""
    portfolio = simulated(scope, is_disordered=is_disordered)
    told, true = told_by(worker_of(portfolio), portfolio.truth.as_of), said_by_truth(portfolio.truth)
    assert sorted(told) == sorted(true)
    *_, before, running = sorted(true)
    for month, by_segment in true.items():
        names = MUST_BE_COMPARED | (USED if month in (before, running) else set()) | (USED_NOW if month == running else set())
        for segment in (*scope.names(), OTHER):
            ours = {str(key): value for key, value in told[month][segment].items() if value and key.name in names}
            theirs = {key: value for key, value in by_segment.get(segment, {}).items() if read_key(key).name in names}
            assert ours == theirs, (month, segment)
            assert_same_kpis(told[month][segment], by_segment.get(segment, {}), scope.currencies)
        costs = costs_of(portfolio, month)
        true_costs = portfolio.truth.costs()[month]
        assert {str(key): value for key, value in costs.items()} == true_costs
        assert_same_kpis(of_all(told[month]) | costs, added_up(by_segment) | true_costs, scope.currencies)


def costs_of(portfolio: Simulated, month: str) -> dict[Key, int]:
    """What a month cost by the product's arithmetic."""
    sent = [msgspec.convert(event, CostRecorded) for event in portfolio.events if event["type"] == "cost.recorded"]
    found: dict[Key, int] = {}
    for cost, amount in month_costs(sent, parse_month(month), UTC_ZONE).items():
        keys = [Key("costs", cost.category, cost.currency)]
        if cost.category.startswith("acquisition."):
            keys.append(Key("costs_acquisition_by_channel", cost.channel or "unknown", cost.currency))
        for key in keys:
            found[key] = found.get(key, 0) + amount
    return {key: amount for key, amount in found.items() if amount}


def assert_same_kpis(told: dict[Key, int], true: dict[str, int], currencies: tuple[str, ...]) -> None:
    """Compare every KPI of what is compared; where a feed never sent anything it has nothing to tell."""
    for currency in currencies:
        expected = kpis(true, currency)
        for name, value in expected.items():
            if not set(KPIS[name].figures) <= MUST_BE_COMPARED | {"costs", "costs_acquisition_by_channel"}:
                continue
            reading = KPIS[name].value(Book(told, None, currency))
            assert isinstance(reading, Reading)
            if reading.reason == "not_observed":
                assert not value, name
            else:
                assert (None if reading.value is None else exact(reading.value)) == value, (name, currency)


def test_what_must_be_compared_happens_in_what_is_compared() -> None:
    """No figure is equal only because it is 0 in every portfolio; and the truth knows no figure that there is not."""
    seen: set[str] = set()
    for scope, is_disordered in COMPARED:
        for by_segment in simulated(scope, is_disordered=is_disordered).truth.figures().values():
            seen |= names_of(key for figures in by_segment.values() for key in figures)
    assert (MUST_BE_COMPARED | USED | USED_NOW) - seen == set()
    assert seen <= set(FIGURES)
    assert set(TRUE_KPIS) <= set(KPIS)
