"""`churnwatch bench run`: every measurement in turn, as often as asked, and what came of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka.admin import AdminClient, NewTopic

from deploy.bench import scenarios
from deploy.bench.cluster import PARTITIONS, Cluster
from deploy.bench.load import ZIPF_EXPONENT, ZIPF_SHIFT, Load
from deploy.bench.measuring import CLOCK, worker_command
from deploy.bench.results import document, machine, tables, write
from deploy.bench.scenarios import FULL, QUICK, Place, Sizes
from deploy.bench.yardsticks import runner
from deploy.bench.yardsticks.streams import Program
from deploy.kafka import KAFKA_VERSION, find_java

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from rich.console import Console

    from deploy.bench.results import Found
    from stream_app.topics import Installation

_TOPIC_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run Kafka Streams: its threads, and whether its store has the cache that its own `aggregate` has."""

    name: str
    threads: int
    is_caching: bool


STREAMS: Final = (
    Variant("kafka_streams_1_thread", 1, is_caching=True),
    Variant("kafka_streams_2_threads", 2, is_caching=True),
    Variant("kafka_streams_1_thread_uncached", 1, is_caching=False),
)
"""Cached, an account that changed often is written to RocksDB and the changelog once for each commit; else with each event."""


@dataclass(slots=True)
class Bench:
    """One benchmark: what is measured, how often, and where to."""

    steps: AbstractSet[str]
    runs: int
    sizes: Sizes
    place: Place
    program: Program | None
    told: Console
    found: list[Found] = field(default_factory=list)

    def run(self) -> None:
        """Measure all of it; every run measures everything once, so that a busy minute of the machine is not one figure's alone."""
        for number in range(1, self.runs + 1):
            began = time.monotonic()
            self.found.append(self._run_once())
            self.told.print(f"run {number} of {self.runs}: {time.monotonic() - began:.0f} s")

    def _run_once(self) -> Found:
        found: Found = {}
        if self.steps & {"throughput", "wide"}:
            found["rss_mb_idle"] = round(scenarios.idle_memory(self.place), 1)
        idle_mb = found.get("rss_mb_idle") or 0.0
        if self.steps & {"throughput", "decode", "streams"}:
            found |= self._on_the_usual_load(idle_mb)
        if "wide" in self.steps:
            found |= scenarios.wide(self.place, self.sizes, idle_mb)
        if "latency" in self.steps:
            found |= scenarios.alert_latency(self.place, self.sizes)
        if "faust" in self.steps:
            found |= self._faust()
        return found

    def _on_the_usual_load(self, idle_mb: float) -> Found:
        """Let the worker and the yardsticks read the very same records."""
        found: Found = {}
        with self.place.cluster.fresh() as installation:
            load = Load(self.sizes.events, self.sizes.accounts, CLOCK.now_us())
            self.place.preload(installation, load)
            if "throughput" in self.steps:
                found |= scenarios.throughput(self.place, installation, load, idle_mb)
            if "decode" in self.steps:
                found |= self._decode_only(installation, load)
            if self.program is not None:
                for variant in STREAMS:
                    found |= self._streams(self.program, variant, installation, load)
        return found

    def _decode_only(self, installation: Installation, load: Load) -> Found:
        command = (installation.prefix, str(load.events))
        return self._yardstick("decode_only", _python("decode_only", self.place.cluster.bootstrap, *command), load)

    def _streams(self, program: Program, variant: Variant, installation: Installation, load: Load) -> Found:
        cluster = self.place.cluster
        with self._application(installation, variant.name.replace("_", "-")) as (app_id, folder):
            command = program.command(
                cluster.bootstrap,
                installation.prefix,
                app_id,
                load.events,
                variant.threads,
                folder,
                is_caching=variant.is_caching,
            )
            return self._yardstick(variant.name, command, load)

    def _faust(self) -> Found:
        """Faust's agent has a load of its own: at a thousand events a second a million would take a quarter of an hour."""
        with self.place.cluster.fresh() as installation:
            load = Load(self.sizes.faust_events, self.sizes.accounts, CLOCK.now_us())
            self.place.preload(installation, load)
            with self._application(installation, "faust") as (app_id, folder):
                arguments = (self.place.cluster.bootstrap, installation.prefix, app_id, str(load.events), str(folder))
                return self._yardstick("faust_agent", _python("faust_agent", *arguments), load)

    @contextlib.contextmanager
    def _application(self, installation: Installation, name: str) -> Iterator[tuple[str, Path]]:
        """Give a yardstick an application id of its own with a topic for its alerts, and a folder for its state."""
        app_id = f"{installation.app_id}-{name}"
        admin = AdminClient({"bootstrap.servers": self.place.cluster.bootstrap})
        for made in admin.create_topics([NewTopic(f"{app_id}.alerts", PARTITIONS, 1)]).values():
            made.result(_TOPIC_SECONDS)
        folder = self.place.folder / app_id
        folder.mkdir(parents=True)
        try:
            yield app_id, folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _yardstick(self, name: str, command: Sequence[str], load: Load) -> Found:
        self.place.tell(f"yardstick {name}")
        log = self.place.logs / f"{name}.log"
        measured = runner.run(command, log, load, self.place.cluster.broker_pid)
        return {f"yardsticks.{name}.{figure}": value for figure, value in measured.items()}


def _python(module: str, *arguments: str) -> list[str]:
    """Return what runs a yardstick in Python, beside the `churnwatch` of this environment."""
    python = str(worker_command().with_name("python"))
    return [python, "-P", "-m", f"deploy.bench.yardsticks.{module}", *arguments]


def bench(console: Console, *, steps: AbstractSet[str], runs: int, is_quick: bool, out: Path, work_dir: Path | None) -> Mapping[str, Any]:
    """Measure, show and write the results; return them as they are written.

    What is not there (a JDK, the command) is said before anything is measured. When it fails the logs are kept, nothing else.
    """
    worker_command()
    sizes = QUICK if is_quick else FULL
    folder = Path(tempfile.mkdtemp(prefix="churnwatch-bench-", dir=work_dir))
    try:
        with contextlib.ExitStack() as stack:
            program = Program.build(folder / "streams") if "streams" in steps else None
            (folder / "logs").mkdir()
            cluster = stack.enter_context(Cluster.running(folder / "kafka", console))
            status = stack.enter_context(console.status("starting"))
            place = Place(cluster, folder / "state", folder / "logs", status.update)
            measured = Bench(steps, runs, sizes, place, program, console)
            measured.run()
    except BaseException:
        _keep_logs(folder, console)
        raise
    shutil.rmtree(folder)
    written = document(measured.found, facts=_facts(sizes, steps, is_quick=is_quick), reasons=_reasons(cluster))
    write(out, written)
    for table in tables(measured.found):
        console.print(table)
    console.print(f"written to {out}")
    return written


def _keep_logs(folder: Path, console: Console) -> None:
    """Remove what is large; a folder of logs is what explains a failure."""
    logs = folder / "logs"
    broker_log = folder / "kafka" / "broker.log"
    if broker_log.is_file() and logs.is_dir():
        shutil.copy(broker_log, logs / "broker.log")
    for entry in folder.iterdir():
        if entry != logs:
            shutil.rmtree(entry, ignore_errors=True)
    if logs.is_dir() and any(logs.iterdir()):
        console.print(f"the logs are in {logs}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _facts(sizes: Sizes, steps: AbstractSet[str], *, is_quick: bool) -> dict[str, Any]:
    return {
        "is_quick": is_quick,
        "steps": sorted(steps),
        "machine": machine(find_java(os.environ).banner.splitlines()[0]),
        "kafka": KAFKA_VERSION,
        "load": {
            "partitions": PARTITIONS,
            "accounts": sizes.accounts,
            "events": sizes.events,
            "zipf_exponent": ZIPF_EXPONENT,
            "zipf_shift": ZIPF_SHIFT,
            "wide_accounts": sizes.wide_accounts,
            "wide_events": sizes.wide_events,
            "faust_events": sizes.faust_events,
            "latency_events_per_second": sizes.rate,
            "latency_seconds": sizes.latency_seconds,
        },
    }


def _reasons(cluster: Cluster) -> dict[str, str]:
    if cluster.broker_pid is not None:
        return {}
    return {"broker_cpu_seconds_per_million": "KAFKA_BOOTSTRAP names a cluster that is not ours to look into"}
