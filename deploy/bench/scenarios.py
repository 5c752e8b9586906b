"""What is measured of the worker: how much it can do, what an account costs, how soon an alert comes, how long a rebuild takes."""

from __future__ import annotations

import importlib.resources
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from deploy.bench import latency
from deploy.bench.cluster import Cluster, input_names
from deploy.bench.load import Load
from deploy.bench.measuring import CLOCK, BenchError, Page, Worker
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from deploy.bench.measuring import Cost
    from deploy.bench.results import Found
    from stream_app.topics import Installation

EVENTS: Final = "churnwatch_events_total"
CHECKPOINTS: Final = "churnwatch_checkpoint_seconds"
ACCOUNTS: Final = "churnwatch_accounts"

READY_SECONDS: Final = 120.0
SETTLE_SECONDS: Final = 60.0
"""How long it may take after the last event until everything is committed."""
WORK_SECONDS: Final = 600.0
"""How long a worker may take for a load: at 50,000 events a second one of a million takes 20 s."""

_REST_SECONDS: Final = 2.0
"""How long a worker may rest before its memory is read."""
_SELDOM_SECONDS, _OFTEN_SECONDS = 0.5, 0.1
"""How often /metrics is asked, in the middle of a load and near its ends: each answer costs the worker some milliseconds."""
_NEARLY: Final = 0.9
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    accounts: int = 20_000
    events: int = 1_000_000
    wide_accounts: int = 200_000
    wide_events: int = 1_000_000
    faust_events: int = 20_000
    rate: int = 500
    warm_seconds: float = 15.0
    latency_seconds: float = 30.0


FULL: Final = Sizes()
QUICK: Final = Sizes(events=100_000, wide_events=200_000, faust_events=3_000, warm_seconds=4.0, latency_seconds=6.0)
"""Enough to see that everything works; its figures are those of a cold start."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is measured: the cluster, a folder for local state, and one for logs."""

    cluster: Cluster
    folder: Path
    logs: Path
    tell: Callable[[str], None]
    """Is told what is going on, for people."""

    def data_dir(self, installation: Installation) -> Path:
        """Return where the worker of an installation keeps its local state."""
        return self.folder / installation.app_id / "data"

    def environment(self, installation: Installation, config: str) -> Mapping[str, str]:
        """Return the environment of a worker: ours without what is set for another worker of ours."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CHURNWATCH_")}
        home = self.folder / installation.app_id
        home.mkdir(parents=True, exist_ok=True)
        configuration = home / config
        packaged = importlib.resources.files("deploy.bench").joinpath(config)
        configuration.write_text(packaged.read_text("utf-8"), encoding="utf-8")
        return {
            **kept,
            "KAFKA_BOOTSTRAP": self.cluster.bootstrap,
            "CHURNWATCH_APP_ID": installation.app_id,
            "CHURNWATCH_TOPIC_PREFIX": installation.prefix,
            "CHURNWATCH_DATA_DIR": str(self.data_dir(installation)),
            "CHURNWATCH_CONFIG": str(configuration),
            "CHURNWATCH_LOG_LEVEL": "WARNING",
        }

    def preload(self, installation: Installation, load: Load) -> None:
        """Put a load on the topics of an installation, and tell how far that is."""
        self.tell(f"sending {load.events:,} events")
        self.cluster.preload(installation.prefix, load, lambda sent: self.tell(f"sending {load.events:,} events: {sent:,}"))


@dataclass(frozen=True, slots=True)
class Sample:
    """A worker at one moment: what it had cost, and how far it was."""

    cost: Cost
    page: Page
    handled: int
    checkpoints: int

    @classmethod
    def of(cls, worker: Worker) -> Sample:
        """Ask a worker."""
        page = worker.metrics()
        return cls(worker.meter.read(), page, int(page.total(EVENTS)), int(page.total(f"{CHECKPOINTS}_count")))


@dataclass(slots=True)
class Follower:
    """Follows a worker through a load, from the first events that it has folded until the last are committed."""

    worker: Worker
    events: int
    count_committed: Callable[[], int]
    tell: Callable[[str], None]
    pause: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> tuple[Sample, Sample]:
        """Return the worker after its first events, and when all are committed; raises `BenchError` when that takes too long."""
        deadline = time.monotonic() + WORK_SECONDS
        first = last = Sample.of(self.worker)
        while last.handled < self.events:
            if time.monotonic() > deadline:
                message = f"the worker folded {last.handled:,} of {self.events:,} events in {WORK_SECONDS:.0f} s"
                raise BenchError(message, "see its log")
            is_middle = 0 < last.handled < _NEARLY * self.events
            self.pause.wait(_SELDOM_SECONDS if is_middle else _OFTEN_SECONDS)
            last = Sample.of(self.worker)
            first = last if first.handled == 0 else first
            self.tell(f"the worker has folded {last.handled:,} of {self.events:,} events")
        return first, self._committed(last)

    def _committed(self, last: Sample) -> Sample:
        """Return the worker when it had just committed for the last time: its group's offsets mirror the committed cursors."""
        deadline = last.cost.at + SETTLE_SECONDS
        while self.count_committed() < self.events:
            if time.monotonic() > deadline:
                message = (
                    f"{SETTLE_SECONDS:.0f} s after the last event the worker had committed {self.count_committed():,} of {self.events:,}"
                )
                raise BenchError(message, "see its log")
            self.pause.wait(_OFTEN_SECONDS)
            now = Sample.of(self.worker)
            last = now if now.checkpoints != last.checkpoints else last
        return last


def rest() -> None:
    """Let a worker rest before its memory is read."""
    threading.Event().wait(_REST_SECONDS)


def idle_memory(place: Place) -> float:
    """Return the resident memory of a worker that has never seen an account, in MiB."""
    place.tell("an idle worker's memory")
    with place.cluster.fresh() as installation:
        environment = place.environment(installation, "throughput.yaml")
        with Worker.running(environment, place.logs / "idle.log", place.cluster.broker_pid) as worker:
            worker.wait_until_ready(READY_SECONDS)
            rest()
            return worker.meter.resident_mb()


def fold_load(place: Place, installation: Installation, load: Load, idle_mb: float, log: str) -> Found:
    """Let a new worker fold a load that is on the topics already, and return what that cost; the worker is stopped again.

    Raises `BenchError` unless it applied every event and ended cleanly.
    """
    environment = place.environment(installation, "throughput.yaml")
    with Worker.running(environment, place.logs / log, place.cluster.broker_pid) as worker:
        worker.wait_until_ready(READY_SECONDS)

        def count_committed() -> int:
            return place.cluster.committed(installation.app_id, input_names(installation.prefix))

        first, last = Follower(worker, load.events, count_committed, place.tell).follow()
        _require_applied(last.page, load)
        rest()
        resident_mb, peak_mb = worker.meter.resident_mb(), worker.meter.peak_mb()
        code = worker.stop()
    if code != 0:
        message = f"the worker ended with code {code} when it was stopped"
        raise BenchError(message, f"see {place.logs / log}")
    seconds, cpu, broker_cpu = last.cost.since(first.cost)
    millions = (load.events - first.handled) / 1e6
    return {
        "events_per_second": round(millions * 1e6 / seconds),
        "worker_cpu_seconds_per_million": round(cpu / millions, 2),
        "broker_cpu_seconds_per_million": None if broker_cpu is None else round(broker_cpu / millions, 2),
        "worker_cores": round(cpu / seconds, 3),
        "transaction_seconds_max": last.page.at_most(CHECKPOINTS),
        "checkpoint_seconds_mean": _mean(last.page, CHECKPOINTS),
        "checkpoints": last.checkpoints,
        "alerts": last.page.total("churnwatch_alerts_total"),
        "rss_mb": round(resident_mb, 1),
        "rss_peak_mb": None if peak_mb is None else round(peak_mb, 1),
        "bytes_per_account": round((resident_mb - idle_mb) * _MIB / load.plan.accounts_touched),
    }


def _require_applied(page: Page, load: Load) -> None:
    """The load holds nothing that a worker may refuse, so everything must have been applied once."""
    applied = int(page.total(EVENTS, 'outcome="applied"'))
    if applied != load.events:
        others = {outcome: int(page.total(EVENTS, f'outcome="{outcome}"')) for outcome in ("duplicate", "late", "dead_letter")}
        message = f"the worker applied {applied:,} of {load.events:,} events; the others: {others}"
        raise BenchError(message, "see its log, and the headers of its dead-letters topic")


def _mean(page: Page, histogram: str) -> float:
    return round(page.total(f"{histogram}_sum") / max(page.total(f"{histogram}_count"), 1), 4)


def rebuild(place: Place, installation: Installation, accounts: int) -> Found:
    """Delete a stopped worker's local state, start it again, and return how long it took to be ready with every account.

    Raises `BenchError` when accounts are missing, or events were read again.
    """
    place.tell(f"rebuilding {accounts:,} accounts from the changelog")
    shutil.rmtree(place.data_dir(installation))
    environment = place.environment(installation, "throughput.yaml")
    with Worker.running(environment, place.logs / "rebuild.log", place.cluster.broker_pid) as worker:
        seconds = worker.wait_until_ready(READY_SECONDS)
        cost = worker.meter.read()

        def is_complete() -> bool:
            return worker.metrics().total(ACCOUNTS) == accounts

        if not wait_until(is_complete, READY_SECONDS):
            message = f"the worker is ready with {worker.metrics().total(ACCOUNTS):,.0f} of {accounts:,} accounts"
            raise BenchError(message)
        if again := worker.metrics().total(EVENTS):
            message = f"after the rebuild {again:,.0f} events were read again"
            raise BenchError(message)
    return {"restore_seconds_200k": round(seconds, 2), "restore_cpu_seconds_200k": round(cost.cpu, 2)}


def throughput(place: Place, installation: Installation, load: Load, idle_mb: float) -> Found:
    """Measure a worker on the usual load, which is on the topics already."""
    found = fold_load(place, installation, load, idle_mb, "throughput.log")
    return _renamed(found, {"rss_mb": "rss_mb_20k", "rss_peak_mb": "rss_peak_mb_20k", "bytes_per_account": "bytes_per_account_20k"})


def wide(place: Place, sizes: Sizes, idle_mb: float) -> Found:
    """Measure a worker on many accounts, each touched as often as any other, and then their rebuild."""
    with place.cluster.fresh() as installation:
        load = Load(sizes.wide_events, sizes.wide_accounts, CLOCK.now_us(), is_even=True)
        place.preload(installation, load)
        found = fold_load(place, installation, load, idle_mb, "wide.log")
        kept = {"rss_mb": "rss_mb_200k", "rss_peak_mb": "rss_peak_mb_200k", "bytes_per_account": "bytes_per_account"}
        named = _renamed(found, {**{name: f"wide_{name}" for name in found}, **kept})
        return named | rebuild(place, installation, load.plan.accounts_touched)


def _renamed(found: Found, names: Mapping[str, str]) -> Found:
    return {names.get(name, name): value for name, value in found.items()}


def alert_latency(place: Place, sizes: Sizes) -> Found:
    """Measure how long an event takes to its score and its alert, at a steady rate with no backlog."""
    with place.cluster.fresh() as installation:
        environment = place.environment(installation, "latency.yaml")
        with Worker.running(environment, place.logs / "latency.log", place.cluster.broker_pid) as worker:
            worker.wait_until_ready(READY_SECONDS)
            total = int(sizes.rate * (sizes.warm_seconds + sizes.latency_seconds))
            return dict(
                latency.measure(
                    place.cluster,
                    installation.prefix,
                    worker,
                    rate=sizes.rate,
                    warm_seconds=sizes.warm_seconds,
                    seconds=sizes.latency_seconds,
                    tell=lambda sent: place.tell(f"{sizes.rate} events a second: {sent:,} of {total:,}"),
                )
            )
