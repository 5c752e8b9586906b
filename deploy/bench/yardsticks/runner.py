"""Runs a yardstick as a process and measures it from outside, from its first event until what it made is durable."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from deploy.bench.measuring import BenchError, Lines, Meter, child, tail
from deploy.bench.yardsticks.speaking import DURABLE, FIRST, LAST, RESULT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deploy.bench.load import Load
    from deploy.bench.measuring import Cost

DEADLINE_SECONDS: Final = 600.0


def run(command: Sequence[str | Path], log: Path, load: Load, broker_pid: int | None) -> dict[str, float]:
    """Return what a yardstick reached and cost over a load.

    Events a second count from the first to the last event, processor time until all is durable. Raises `BenchError` when it
    fails, takes too long, or has not counted what the load holds.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    with child(command, log, is_spoken_to=True) as process:
        lines = Lines(process, Meter.of(process.pid, broker_pid))

        def next_line(start: str) -> tuple[str, Cost]:
            found = lines.until(start, deadline)
            if found is None:
                message = f"the yardstick did not say {start!r}: {tail(log)}"
                raise BenchError(message, f"see {log}")
            return found

        _, first = next_line(FIRST)
        _, last = next_line(LAST)
        _, durable = next_line(DURABLE)
        said, _ = next_line(RESULT)
    counted = json.loads(said.removeprefix(RESULT))
    _hold_against(counted, load)
    seconds, cpu, broker_cpu = durable.since(first)
    millions = load.events / 1e6
    found = {
        "events_per_second": round(load.events / (last.at - first.at)),
        "cpu_seconds_per_million": round(cpu / millions, 2),
        "seconds": round(seconds, 2),
        "alerts": counted.get("alerts", 0),
    }
    if broker_cpu is not None:
        found["broker_cpu_seconds_per_million"] = round(broker_cpu / millions, 2)
    return found


def _hold_against(counted: dict[str, int], load: Load) -> None:
    """A yardstick that lost or repeated an event has measured something else."""
    wanted = {
        "events": load.events,
        "accounts": load.plan.accounts_touched,
        "uses": load.plan.uses_counted,
    }
    wrong = {name: count for name, count in counted.items() if name in wanted and count != wanted[name]}
    if wrong:
        message = f"the yardstick counted {wrong}, and the load holds {wanted}"
        raise BenchError(message)
