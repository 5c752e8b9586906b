"""Every metric of the service, declared here and nowhere else.

Labels come from fixed lists, topics and partitions, never from an event: the number of series does not grow with the
accounts. The pipeline calls these methods once for each batch or checkpoint, not for each event.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from alerts.policy import Kind, Severity
from models.decoding import Reason
from models.health import BAND_NAMES
from models.input_topics import FOLDED_TOPICS
from models.kpi.figures import FIGURES, MICRO, add_up, read_key
from models.kpi.money import is_known, to_major

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from prometheus_client import CollectorRegistry

OUTCOMES: Final = ("applied", "duplicate", "late", "dead_letter")
"""What becomes of a record; each has exactly one of them (docs/state.md section 1)."""

SEVERITIES: Final[dict[Severity, str]] = {severity: severity.name.lower() for severity in Severity if severity is not Severity.NONE}

HEADLINE: Final = (
    "customers_start",
    "customers_start_paused",
    "customers_end",
    "customers_end_paused",
    "customers_new",
    "customers_reactivated",
    "customers_churned",
    "customers_same_period_churned",
    "mrr_start",
    "mrr_end",
    "mrr_new",
    "mrr_reactivation",
    "mrr_expansion",
    "mrr_contraction",
    "mrr_churn",
    "mrr_pause",
    "mrr_resume",
    "mrr_fx",
    "mrr_grr_kept",
    "mrr_nrr_kept",
    "mrr_delinquent",
    "mrr_pending_churn",
    "revenue_paid",
    "revenue_refunded",
    "revenue_one_off",
    "orders",
    "buyers_ever",
    "buyers_repeat",
    "accounts",
    "renewals_due",
    "renewals_renewed",
    "signups",
    "signups_matured",
    "signups_activated",
    "active_users_1d",
    "active_users_7d",
    "active_users_28d",
    "user_days_28d",
    "tickets_created_28d",
    "tickets_open",
    "tickets_open_urgent",
    "nps_promoters",
    "nps_passives",
    "nps_detractors",
    "csat_accounts",
    "csat_accounts_positive",
)
"""The figures of the portfolio (`models.kpi.figures`) that are gauges, too: none of them has a label of its own."""

_SHORT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CHECKPOINT_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 10.0)
_LONG_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0)
_ROWS: Final = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000)


class Metrics:
    """The metrics of one worker, on the registry that it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Declare them and touch every value of every fixed list, so that a rate is right from the first event on."""
        self.registry = registry
        ProcessCollector(registry=registry)
        self._declare_stream(registry)
        self._declare_state(registry)
        self._declare_alerts(registry)
        self._declare_portfolio(registry)
        self._placed: set[tuple[str, str]] = set()
        self._partitions: set[str] = set()
        self._touch()

    def _declare_stream(self, registry: CollectorRegistry) -> None:
        place = ("topic", "partition")
        self._events = Counter("churnwatch_events_total", "Records read, by what became of them.", ("topic", "outcome"), registry=registry)
        self._dlq = Counter("churnwatch_dlq_total", "Records sent to dead-letters, by reason.", ("topic", "reason"), registry=registry)
        self._breaker_open = Gauge(
            "churnwatch_dlq_breaker_open",
            "1 while a flood of unusable records has stopped the worker.",
            registry=registry,
        )
        self._lag = Gauge("churnwatch_consumer_lag_records", "Records not yet folded.", place, registry=registry)
        self._event_lag = Gauge("churnwatch_event_lag_seconds", "Age, in the broker, of the last record folded.", place, registry=registry)
        self._progress = Gauge("churnwatch_last_progress_timestamp_seconds", "When a record was last folded.", place, registry=registry)
        self._assigned = Gauge(
            "churnwatch_partition_assigned",
            "1 for each partition that this worker owns.",
            ("partition",),
            registry=registry,
        )
        self._rebalances = Counter("churnwatch_rebalances_total", "Times that partitions were given out anew.", registry=registry)
        self._stale_generation = Counter(
            "churnwatch_stale_generation_drops_total",
            "Batches dropped because the partition had changed hands since they were fetched.",
            registry=registry,
        )
        self._fold_seconds = Histogram(
            "churnwatch_fold_seconds", "Time to fold and assess one batch.", buckets=_SHORT_SECONDS, registry=registry
        )

    def _declare_state(self, registry: CollectorRegistry) -> None:
        self._recovering = Gauge("churnwatch_recovering", "1 while state is being read back.", registry=registry)
        self._recovery_remaining = Gauge(
            "churnwatch_recovery_remaining_records", "Changelog records still to be read back.", registry=registry
        )
        self._checkpoint_seconds = Histogram(
            "churnwatch_checkpoint_seconds",
            "Time of one checkpoint, from taking what changed to the local write.",
            buckets=_CHECKPOINT_SECONDS,
            registry=registry,
        )
        self._checkpoint_rows = Histogram(
            "churnwatch_checkpoint_rows", "Accounts written by one checkpoint.", buckets=_ROWS, registry=registry
        )
        self._write_failures = Counter("churnwatch_state_write_failures_total", "Checkpoints that failed.", registry=registry)
        self._accounts = Gauge("churnwatch_accounts", "Accounts in this worker's state, by band.", ("band",), registry=registry)
        self._build = Gauge("churnwatch_build_info", "Always 1: the release that runs.", ("version",), registry=registry)
        self._config = Gauge("churnwatch_config_info", "Always 1: the configuration that scores.", ("config_version",), registry=registry)

    def _declare_alerts(self, registry: CollectorRegistry) -> None:
        self._alerts = Counter("churnwatch_alerts_total", "Alert events committed, by kind.", ("kind", "severity"), registry=registry)
        self._event_to_alert = Histogram(
            "churnwatch_event_to_alert_seconds",
            "Time from the broker's receipt of the deciding record to the commit of the alert.",
            buckets=_LONG_SECONDS,
            registry=registry,
        )

    def _declare_portfolio(self, registry: CollectorRegistry) -> None:
        """One gauge for each headline figure: what comes of it is in `deploy/prometheus/portfolio.rules.yaml`."""
        self._portfolio_partitions = Gauge(
            "churnwatch_portfolio_partitions",
            "Partitions of this worker whose figures are in the gauges of the portfolio.",
            registry=registry,
        )
        self._portfolio: dict[str, Gauge] = {}
        for name in HEADLINE:
            figure = FIGURES[name]
            words = f"Portfolio, running month, {figure.kind}: {figure.meaning}{', in whole units of the currency' * figure.is_money}."
            labels = ("segment", "currency") if figure.is_money else ("segment",)
            self._portfolio[name] = Gauge(f"churnwatch_portfolio_{name}", words, labels, registry=registry)
        self._told: set[tuple[str, ...]] = set()

    def _touch(self) -> None:
        for topic in FOLDED_TOPICS:
            for outcome in OUTCOMES:
                self._events.labels(topic, outcome)
            for reason in Reason:
                self._dlq.labels(topic, reason)
        for kind in Kind:
            for severity in SEVERITIES.values():
                self._alerts.labels(kind, severity)
        for band in BAND_NAMES.values():
            self._accounts.labels(band)

    def describe(self, version: str, config_version: str) -> None:
        """Say which release runs, and the `config_version` of every score that it publishes."""
        self._build.labels(version).set(1)
        self._config.clear()
        self._config.labels(config_version).set(1)

    def batch(self, topic: str, outcomes: Mapping[str, int], reasons: Mapping[str, int], seconds: float) -> None:
        """Count a folded batch of an input topic (its name in the contract): records by outcome, rejects by reason."""
        for outcome, count in outcomes.items():
            self._events.labels(topic, outcome).inc(count)
        for reason, count in reasons.items():
            self._dlq.labels(topic, reason).inc(count)
        self._fold_seconds.observe(seconds)

    def position(self, topic: str, partition: int, lag_records: int) -> None:
        """Say how many records of a partition that this worker owns are still to be folded."""
        self._lag.labels(*self._place(topic, partition)).set(lag_records)

    def progress(self, topic: str, partition: int, received_us: int, now_us: int) -> None:
        """Say that records were folded up to one that the broker received at `received_us`."""
        place = self._place(topic, partition)
        self._progress.labels(*place).set(now_us / 1e6)
        self._event_lag.labels(*place).set(max(0, now_us - received_us) / 1e6)

    def assigned(self, partitions: Collection[int]) -> None:
        """Say which partitions this worker owns now; what was said of others is forgotten."""
        now = {str(partition) for partition in partitions}
        for partition in self._partitions - now:
            self._assigned.remove(partition)
        for place in [place for place in self._placed if place[1] not in now]:
            self._placed.discard(place)
            for gauge in (self._lag, self._event_lag, self._progress):
                gauge.remove(*place)
        for partition in now:
            self._assigned.labels(partition).set(1)
        self._partitions = now

    def rebalanced(self) -> None:
        """Count a rebalance."""
        self._rebalances.inc()

    def stale_generation_dropped(self, batches: int = 1) -> None:
        """Count batches that were fetched before the partition changed hands."""
        self._stale_generation.inc(batches)

    def recovering(self, remaining_records: int | None) -> None:
        """Say how many changelog records are still to be read; None when the state is complete."""
        self._recovering.set(remaining_records is not None)
        self._recovery_remaining.set(remaining_records or 0)

    def checkpoint(self, seconds: float, rows: int) -> None:
        """Record a committed checkpoint."""
        self._checkpoint_seconds.observe(seconds)
        self._checkpoint_rows.observe(rows)

    def checkpoint_failed(self) -> None:
        """Count a checkpoint that was not committed."""
        self._write_failures.inc()

    def alert(self, kind: Kind, severity: Severity, seconds: float | None = None) -> None:
        """Count a committed alert event; `seconds` since the broker received what decided it, None when a timer did."""
        self._alerts.labels(kind, SEVERITIES[severity]).inc()
        if seconds is not None:
            self._event_to_alert.observe(max(0.0, seconds))

    def accounts(self, by_band: Mapping[str, int]) -> None:
        """Say how many accounts of this worker's partitions are in each band; a band that is not named has none."""
        for band in BAND_NAMES.values():
            self._accounts.labels(band).set(by_band.get(band, 0))

    def portfolio(self, partitions: Sequence[Mapping[str, Mapping[str, int]]]) -> None:
        """Say what the running month comes to: figures by segment and the text of their key, for each partition that this worker owns.

        The gauges are their sums. What no partition tells of has no series: it was never observed, or is another worker's by now. Amounts
        in a currency that is not in ISO 4217 have none either, since nobody knows their whole units.
        """
        told: set[tuple[str, ...]] = set()
        for segment in sorted({segment for partition in partitions for segment in partition}):
            parts = ({read_key(text): value for text, value in each.get(segment, {}).items()} for each in partitions)
            for key, value in add_up(parts).items():
                gauge = self._portfolio.get(key.name)
                if gauge is None or (key.currency and not is_known(key.currency)):
                    continue
                labels = (segment, key.currency) if key.currency else (segment,)
                gauge.labels(*labels).set(float(to_major(Fraction(value, MICRO), key.currency) if key.currency else value))
                told.add((key.name, *labels))
        for name, *gone in self._told - told:
            self._portfolio[name].remove(*gone)
        self._told = told
        self._portfolio_partitions.set(len(partitions))

    def breaker(self, *, is_open: bool) -> None:
        """Say whether a flood of unusable records has stopped the worker."""
        self._breaker_open.set(is_open)

    def _place(self, topic: str, partition: int) -> tuple[str, str]:
        """The labels of a partition; its three series exist together or not at all."""
        place = (topic, str(partition))
        if place not in self._placed:
            self._placed.add(place)
            for gauge in (self._lag, self._event_lag, self._progress):
                gauge.labels(*place)
        return place
