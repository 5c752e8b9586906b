"""Metrics: fixed series, declared once, fed by batch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from alerts.policy import Kind, Severity
from models.decoding import Reason
from models.health import BAND_NAMES
from models.input_topics import INPUT_TOPICS
from models.kpi.figures import FIGURES
from stream_app.metrics import HEADLINE, OUTCOMES, Metrics

ROOT = Path(__file__).parents[2]


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a worker on a registry of their own."""
    return Metrics(CollectorRegistry())


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of a series; None when there is none."""
    return metrics.registry.get_sample_value(name, labels)


def series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every series of ours, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in metrics.registry.collect()
        for sample in family.samples
        if family.name.startswith("churnwatch_") and not sample.name.endswith("_created")
    }


def test_two_workers_can_live_in_one_process() -> None:
    """Each set of metrics is on the registry that it was given."""
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.rebalanced()
    assert value(one, "churnwatch_rebalances_total") == 1
    assert value(other, "churnwatch_rebalances_total") == 0


def test_every_value_of_every_list_is_there_from_the_start(metrics: Metrics) -> None:
    """Nothing appears only once it happened: a rate of something new would miss its first increase."""
    for topic in INPUT_TOPICS:
        for outcome in OUTCOMES:
            assert value(metrics, "churnwatch_events_total", topic=topic, outcome=outcome) == 0
        for reason in Reason:
            assert value(metrics, "churnwatch_dlq_total", topic=topic, reason=reason) == 0
    for kind in Kind:
        for severity in ("at_risk", "critical"):
            assert value(metrics, "churnwatch_alerts_total", kind=kind, severity=severity) == 0
    for band in BAND_NAMES.values():
        assert value(metrics, "churnwatch_accounts", band=band) == 0


def test_a_batch_counts_its_records_by_what_became_of_them(metrics: Metrics) -> None:
    """Outcomes and reasons of a batch are added, and its time observed once."""
    for _ in range(2):
        metrics.batch("usage-events", {"applied": 7, "dead_letter": 2}, {Reason.NOT_JSON: 2}, 0.004)
    assert value(metrics, "churnwatch_events_total", topic="usage-events", outcome="applied") == 14
    assert value(metrics, "churnwatch_events_total", topic="usage-events", outcome="late") == 0
    assert value(metrics, "churnwatch_dlq_total", topic="usage-events", reason="not_json") == 4
    assert value(metrics, "churnwatch_fold_seconds_count") == 2
    assert value(metrics, "churnwatch_fold_seconds_bucket", le="0.005") == 2


def test_nothing_that_happens_makes_a_new_series_but_partitions(metrics: Metrics) -> None:
    """A thousand batches, checkpoints and alerts leave as many series as there were."""
    before = series(metrics)
    for _ in range(1000):
        for reason in Reason:
            metrics.batch("usage-events", dict.fromkeys(OUTCOMES, 1), {reason: 1}, 0.1)
        metrics.checkpoint(0.1, 100)
        metrics.checkpoint_failed()
        metrics.alert(Kind.OPENED, Severity.CRITICAL, 1.0)
        metrics.accounts({"critical": 3})
        metrics.recovering(5)
        metrics.breaker(is_open=True)
        metrics.stale_generation_dropped()
    assert series(metrics) == before


def test_what_was_said_of_a_partition_is_forgotten_with_it(metrics: Metrics) -> None:
    """When a partition goes to another worker its series end here, or its lag would stand still for ever."""
    before = series(metrics)
    metrics.assigned({0, 1})
    metrics.position("usage-events", 0, 12)
    metrics.position("usage-events", 1, 5)
    metrics.progress("usage-events", 1, received_us=1_000_000, now_us=3_500_000)
    assert value(metrics, "churnwatch_consumer_lag_records", topic="usage-events", partition="0") == 12
    assert value(metrics, "churnwatch_event_lag_seconds", topic="usage-events", partition="1") == 2.5
    assert value(metrics, "churnwatch_last_progress_timestamp_seconds", topic="usage-events", partition="1") == 3.5
    metrics.assigned({1})
    assert value(metrics, "churnwatch_consumer_lag_records", topic="usage-events", partition="0") is None
    assert value(metrics, "churnwatch_partition_assigned", partition="0") is None
    assert value(metrics, "churnwatch_partition_assigned", partition="1") == 1
    metrics.assigned(())
    assert series(metrics) == before


def test_an_age_is_never_negative(metrics: Metrics) -> None:
    """A broker whose clock is ahead makes no negative lag."""
    metrics.progress("usage-events", 0, received_us=2_000_000, now_us=1_000_000)
    assert value(metrics, "churnwatch_event_lag_seconds", topic="usage-events", partition="0") == 0
    metrics.alert(Kind.OPENED, Severity.AT_RISK, -1.0)
    assert value(metrics, "churnwatch_event_to_alert_seconds_sum") == 0


def test_an_alert_by_a_timer_has_no_deciding_record(metrics: Metrics) -> None:
    """An alert that silence opened is counted, but has no delay since a record."""
    metrics.alert(Kind.OPENED, Severity.AT_RISK)
    assert value(metrics, "churnwatch_alerts_total", kind="opened", severity="at_risk") == 1
    assert value(metrics, "churnwatch_event_to_alert_seconds_count") == 0


def test_recovery_says_that_it_runs_and_what_remains(metrics: Metrics) -> None:
    """Recovering with nothing left is still recovering; None is complete."""
    for remaining, expected in ((5, (1, 5)), (0, (1, 0)), (None, (0, 0))):
        metrics.recovering(remaining)
        shown = (value(metrics, "churnwatch_recovering"), value(metrics, "churnwatch_recovery_remaining_records"))
        assert shown == expected


def test_a_band_that_is_not_named_has_no_accounts(metrics: Metrics) -> None:
    """The counts of bands replace the ones before."""
    metrics.accounts({"critical": 3, "healthy": 7})
    metrics.accounts({"healthy": 6})
    assert value(metrics, "churnwatch_accounts", band="critical") == 0
    assert value(metrics, "churnwatch_accounts", band="healthy") == 6


def test_the_portfolio_is_the_sum_of_the_partitions(metrics: Metrics) -> None:
    """Headline figures by segment, money in whole units; other figures, and currencies that nobody knows, have no series."""
    one = {"smb": {"customers_end": 2, "mrr_end@USD": 1_234_560_000, "mrr_end@JPY": 7_000_000, "cohort_paying{2026-01}": 3}}
    two = {"smb": {"customers_end": 3, "mrr_end@USD": -234_560_000, "mrr_end@ZZZ": 1, "customers_ever": 9}, "other": {"customers_end": 0}}
    before = series(metrics)
    metrics.portfolio([one, two])
    assert value(metrics, "churnwatch_portfolio_customers_end", segment="smb") == 5
    assert value(metrics, "churnwatch_portfolio_customers_end", segment="other") == 0
    assert value(metrics, "churnwatch_portfolio_mrr_end", segment="smb", currency="USD") == 10
    assert value(metrics, "churnwatch_portfolio_mrr_end", segment="smb", currency="JPY") == 7
    assert value(metrics, "churnwatch_portfolio_partitions") == 2
    assert len(series(metrics) - before) == 4
    metrics.portfolio([one])
    assert value(metrics, "churnwatch_portfolio_mrr_end", segment="smb", currency="USD") == 12.3456
    assert len(series(metrics) - before) == 3
    metrics.portfolio([])
    assert series(metrics) == before
    assert value(metrics, "churnwatch_portfolio_partitions") == 0


def test_headline_figures_have_no_label_but_segment_and_currency() -> None:
    """Of a figure that is kept apart by something else nobody knows how many series it would have."""
    assert not [name for name in HEADLINE if FIGURES[name].label]
    assert len(set(HEADLINE)) == len(HEADLINE)


def test_the_release_and_the_configuration_are_shown(metrics: Metrics) -> None:
    """One series says which release runs and one which configuration scores."""
    metrics.describe("1.2.3", "aa")
    metrics.describe("1.2.3", "bb")
    assert value(metrics, "churnwatch_build_info", version="1.2.3") == 1
    assert value(metrics, "churnwatch_config_info", config_version="bb") == 1
    assert value(metrics, "churnwatch_config_info", config_version="aa") is None


def test_names_follow_prometheus_customs(metrics: Metrics) -> None:
    """Names have our prefix, counters end in _total, times are in seconds, and no label is an account."""
    for family in metrics.registry.collect():
        if family.name.startswith(("process_", "python_")):
            continue
        assert family.name.startswith("churnwatch_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_ms", "_millis", "_microseconds"))
        for sample in family.samples:
            assert not sample.labels.keys() & {"account", "account_id", "plan", "segment"}
    assert b"process_cpu_seconds_total" in generate_latest(metrics.registry)


def test_metrics_are_declared_in_one_module() -> None:
    """No other module of the service makes a metric."""
    makers = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
    for path in (ROOT / "stream_app").rglob("*.py"):
        if path.name == "metrics.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client"):
                assert not makers & {alias.name for alias in node.names}, path
