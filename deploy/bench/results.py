"""What was measured: the spread over the runs, held against what the worker must reach, as JSON and as a table."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import psutil
from rich.table import Table

from deploy.bench.measuring import CLOCK
from models.times import format_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA: Final = 1

Found = dict[str, float | None]
"""The figures of one run by name; a dot in a name makes a group of it in the JSON."""

_PACKAGES: Final = ("churnwatch", "faust-streaming", "aiokafka", "numpy", "msgspec", "rocksdict", "confluent-kafka")


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the runs."""

    least: float
    median: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values))

    def as_json(self) -> dict[str, float]:
        """Return it as it is written."""
        return {"min": self.least, "median": self.median, "max": self.greatest}


def spreads(runs: Sequence[Found]) -> dict[str, Spread | None]:
    """Return the spread of each figure that every run has; None for one that could not be known."""
    found: dict[str, Spread | None] = {}
    for name in runs[0] if runs else ():
        values = [run[name] for run in runs if run.get(name) is not None]
        found[name] = Spread.of([value for value in values if value is not None]) if values else None
    return found


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must reach: `limit` itself is reached."""

    figure: str
    title: str
    way: Literal["at most", "at least"]
    limit: float
    unit: str

    def is_met(self, measured: float) -> bool:
        """Say whether a measured value reaches it."""
        return measured <= self.limit if self.way == "at most" else measured >= self.limit


TARGETS: Final = (
    Target("events_per_second", "one worker, 20k accounts", "at least", 50_000, "events/s"),
    Target("worker_cpu_seconds_per_million", "worker, 20k accounts", "at most", 15, "CPU s/M"),
    Target("wide_worker_cpu_seconds_per_million", "worker, 200k accounts", "at most", 35, "CPU s/M"),
    Target("alert_latency_ms.p50", "event to alert, p50", "at most", 100, "ms"),
    Target("alert_latency_ms.p99", "event to alert, p99", "at most", 300, "ms"),
    Target("transaction_seconds_max", "longest transaction, 20k", "at most", 3, "s"),
    Target("wide_transaction_seconds_max", "longest transaction, 200k", "at most", 3, "s"),
    Target("bytes_per_account", "memory of an account", "at most", 2048, "bytes"),
    Target("restore_seconds_200k", "200k accounts rebuilt", "at most", 15, "s"),
)
"""Held against the median of the runs."""

STREAMS: Final = "yardsticks.kafka_streams"
"""How the figures of every variant of Kafka Streams begin."""


def targets(measured: Mapping[str, Spread | None]) -> tuple[Target, ...]:
    """Return what must be reached; the worker is held against the cheapest Kafka Streams of the same runs, where there is one."""
    streams = [
        spread.median
        for name, spread in measured.items()
        if name.startswith(STREAMS) and name.endswith(".cpu_seconds_per_million") and spread is not None
    ]
    if not streams:
        return TARGETS
    than_streams = Target("worker_cpu_seconds_per_million", "worker, next to Streams", "at most", min(streams), "CPU s/M")
    return (*TARGETS, than_streams)


def machine(java: str) -> dict[str, Any]:
    """Say what the figures were taken on; nothing that names the host or its user."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_mb": psutil.virtual_memory().total >> 20,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "java": java,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def document(runs: Sequence[Found], *, facts: Mapping[str, Any], reasons: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the whole of bench-results.json; `reasons` say why a figure is null."""
    measured = spreads(runs)
    written: dict[str, Any] = {
        "schema": SCHEMA,
        "made_at": format_us(CLOCK.now_us()),
        "runs": len(runs),
        **facts,
    }
    for name, spread in measured.items():
        _place(written, name.split("."), None if spread is None else spread.as_json())
    written["targets"] = [_judged(target, measured) for target in targets(measured)]
    if reasons:
        written["reasons"] = dict(reasons)
    written["each_run"] = list(runs)
    return written


def _place(into: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        into = into.setdefault(part, {})
    into[path[-1]] = value


def _judged(target: Target, measured: Mapping[str, Spread | None]) -> dict[str, Any]:
    spread = measured.get(target.figure)
    return {
        "figure": target.figure,
        "title": target.title,
        "way": target.way,
        "limit": target.limit,
        "unit": target.unit,
        "measured": None if spread is None else spread.median,
        "is_met": None if spread is None else target.is_met(spread.median),
    }


def write(path: Path, written: Mapping[str, Any]) -> None:
    """Write the results, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(json.dumps(written, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def target_table(runs: Sequence[Found]) -> Table:
    """Return what must be reached beside what was."""
    measured = spreads(runs)
    table = _table("What the worker must reach", "", "target", "median", "min - max", "unit", "")
    for target in targets(measured):
        spread = measured.get(target.figure)
        limit = f"{'<=' if target.way == 'at most' else '>='} {_number(target.limit)}"
        if spread is None:
            table.add_row(target.title, limit, "-", "-", target.unit, "not measured", style="dim")
            continue
        is_met = target.is_met(spread.median)
        table.add_row(
            target.title,
            limit,
            _number(spread.median),
            f"{_number(spread.least)} - {_number(spread.greatest)}",
            target.unit,
            "met" if is_met else "NOT met",
            style=None if is_met else "red",
        )
    return table


def figure_table(runs: Sequence[Found]) -> Table:
    """Return every figure."""
    table = _table("Everything measured", "", "median", "min - max")
    for name, spread in spreads(runs).items():
        if spread is None:
            table.add_row(name, "-", "not known", style="dim")
        else:
            table.add_row(name, _number(spread.median), f"{_number(spread.least)} - {_number(spread.greatest)}")
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="left" if heading in {"", "unit"} else "right", no_wrap=True)
    return table


def _number(value: float) -> str:
    """Return a number with as many digits as say something."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 or value == int(value) else f"{value:,.1f}" if size >= 100 else f"{value:,.2f}"  # noqa: PLR2004 - the digits


def tables(runs: Sequence[Found]) -> Iterable[Table]:
    """Return what is shown at the end."""
    return target_table(runs), figure_table(runs)
