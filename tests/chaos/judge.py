"""What must hold of a history and of the workers' logs: faults landed, recoveries, progress (I7), probes (I8), exits (I9), logs (I10)."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.chaos.history import of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.chaos.history import Entry

RECOVER_SECONDS: Final = 90.0
"""After what was struck is whole again, within this everything that was there when the fault struck must be folded."""

PROGRESS_SECONDS: Final = 30.0
"""With a backlog and no fault at work, some cursor moves at least this often (I7)."""

STOP_SECONDS: Final = 30.0
STOP_SECONDS_AWAY: Final = 60.0
AWAY_SECONDS: Final = 16.0
"""By then a worker has noticed that the broker is away: it asks every 3 s for up to 3 s, and excuses 10."""

LAST_WORDS_SECONDS: Final = 3.0
"""A worker that says it has crashed has ended within this."""

RESTARTS_PER_OUTAGE: Final = 2
"""Restarts of each worker in one outage of the broker: more is a crash loop."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A scenario in numbers: what the report's table says of it."""

    scenario: str
    seed: int
    form: str
    planned: int
    landed: int
    events: int
    seconds: float
    recoveries: tuple[float, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def recover_max(self) -> float | None:
        """The longest time to recover."""
        return max(self.recoveries, default=None)

    @property
    def recover_median(self) -> float | None:
        """The median time to recover."""
        return statistics.median(self.recoveries) if self.recoveries else None


@dataclass(slots=True)
class Struck:
    """A fault, as the history tells of it."""

    kind: str
    at: float
    over_at: float | None = None
    recovered_at: float | None = None

    @property
    def seconds(self) -> float | None:
        """From the blow until everything that was there then was folded and committed."""
        return None if self.recovered_at is None else max(self.recovered_at - self.at, 0.0)

    @property
    def end(self) -> float:
        """When it was no longer at work."""
        return max(self.recovered_at or float("inf"), self.over_at or float("inf"))


@dataclass(slots=True)
class _Rises:
    """When something last moved, over the samples of a history."""

    value: int = -1
    since: float = 0.0
    told: bool = field(default=False)


def summarize(entries: Sequence[Entry]) -> Summary:
    """Judge a whole history."""
    begin = next(of(entries, "begin"))
    found = strokes(entries)
    refusals = list(of(entries, "refusal"))
    impossible = list(of(entries, "impossible"))
    planned = begin["faults"] + begin["refusals"] - len(impossible)
    landed = sum(entry["lag_before"] > 0 for entry in of(entries, "fault")) + sum(entry["lag_before"] > 0 for entry in refusals)
    ends = list(of(entries, "produced"))
    return Summary(
        begin["scenario"],
        begin["seed"],
        begin["form"],
        planned,
        landed,
        sum(entry["events"] for entry in ends),
        entries[-1].at,
        tuple(round(each.seconds, 3) for each in found.values() if each.seconds is not None),
        tuple(problems(entries, planned, landed)),
        tuple(_notes(entries)),
    )


def problems(entries: Sequence[Entry], planned: int, landed: int) -> Iterator[str]:
    """Tell everything in a history that is not as it must be."""
    if landed < planned:
        yield f"{landed} of {planned} faults landed"
    if not any(of(entries, "drained")):
        yield "it was never drained to lag 0"
    yield from (f"broken off: {entry['why']}" for entry in of(entries, "broken"))
    yield from (f"refusal {entry['kind']}: {entry['wrong']}" for entry in of(entries, "refusal") if entry["wrong"])
    yield from recovery_problems(entries)
    yield from progress_problems(entries)
    yield from probe_problems(entries)
    yield from exit_problems(entries)
    yield from generation_problems(entries)
    yield from outage_problems(entries)
    yield from (f"I9: the group has members after all have left: {entry['members']}" for entry in of(entries, "group") if entry["members"])


def strokes(entries: Sequence[Entry]) -> dict[int, Struck]:
    """The faults of a history by their number."""
    found = {entry["number"]: Struck(entry["kind"], entry["struck_at"]) for entry in of(entries, "fault")}
    for entry in of(entries, "over"):
        if entry["number"] in found:
            found[entry["number"]].over_at = entry.at
    for entry in of(entries, "recovered"):
        found[entry["number"]].recovered_at = entry.at
    return found


def recovery_problems(entries: Sequence[Entry]) -> Iterator[str]:
    """Each fault is made good, in time."""
    found = strokes(entries)
    overs = [fault.over_at for fault in found.values() if fault.over_at is not None]
    for number, fault in found.items():
        if fault.recovered_at is None:
            yield f"I7: fault {number} ({fault.kind}) was never made good"
            continue
        # Where the next one fell meanwhile, nobody had the time until that one was over.
        since = max((over_at for over_at in overs if fault.at <= over_at <= fault.recovered_at), default=fault.recovered_at)
        if fault.recovered_at - since > RECOVER_SECONDS:
            yield f"I7: fault {number} ({fault.kind}) was made good {fault.recovered_at - since:.0f} s after all was whole again"


def progress_problems(entries: Sequence[Entry]) -> Iterator[str]:
    """I7: with a backlog and no fault at work, cursors move."""
    at_work = [(fault.at, fault.end) for fault in strokes(entries).values()]
    begun = next((entry.at for entry in of(entries, "served")), float("inf"))
    drained = next((entry.at for entry in of(entries, "drained")), float("inf"))
    rises = _Rises()
    for entry in of(entries, "progress"):
        is_calm = begun <= entry.at <= drained and not any(start <= entry.at <= end for start, end in at_work)
        if not is_calm or not entry["lag"] or entry["folded"] != rises.value:
            rises = _Rises(-1 if entry["folded"] is None else entry["folded"], entry.at)
        elif entry.at - rises.since > PROGRESS_SECONDS and not rises.told:
            rises.told = True
            yield f"I7: at {entry.at} s no cursor had moved for {entry.at - rises.since:.0f} s, with {entry['lag']} records to fold"


def probe_problems(entries: Sequence[Entry]) -> Iterator[str]:
    """I8: ready only with recovered state and a broker that answers; alive also without one."""
    outages = _outages(entries)
    exits = {entry["pid"]: entry.at for entry in of(entries, "exit")}
    for entry in of(entries, "probe"):
        readyz, livez, before, after = entry["readyz"], entry["livez"], entry["before"], entry["after"]
        whose = f"{entry['worker']} (process {entry['pid']}) at {entry.at} s"
        if readyz == 200 and before and after and before["generation"] == after["generation"]:
            for state in ("is_recovering", "is_breaker_open", "is_stopping"):
                if before[state] and after[state]:
                    yield f"I8: {whose}: ready, and {state}"
        # One that says it crashed is about to end.
        if livez == 503 and exits.get(entry["pid"], float("inf")) - entry.at > LAST_WORDS_SECONDS:
            yield f"I8: {whose}: not alive: {entry['why']}"
        if readyz == 200 and any(start + AWAY_SECONDS < entry.at < end for start, end in outages):
            yield f"I8: {whose}: ready, and the broker has been away for more than {AWAY_SECONDS:.0f} s"


def _outages(entries: Sequence[Entry]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    since: float | None = None
    for entry in of(entries, "broker"):
        if entry["is_away"]:
            since = entry.at
        elif since is not None:
            found.append((since, entry.at))
            since = None
    return found


def exit_problems(entries: Sequence[Entry]) -> Iterator[str]:
    """I9: SIGTERM ends a worker with 0, in time; one that had not yet come up may end by the signal itself."""
    for entry in of(entries, "exit"):
        if entry["how"] != "SIGTERM":
            continue
        whose = f"I9: {entry['worker']} (process {entry['pid']}) at {entry.at} s"
        allowed = {0} if entry["was_serving"] else {0, -15}
        limit = STOP_SECONDS_AWAY if entry["is_broker_away"] else STOP_SECONDS
        if entry["code"] not in allowed:
            yield f"{whose}: SIGTERM ended it with {entry['code']}"
        if entry["seconds"] > limit:
            yield f"{whose}: it took {entry['seconds']:.1f} s to end"


def generation_problems(entries: Sequence[Entry]) -> Iterator[str]:
    """A rolling restart of static members: one generation for each of them at most."""
    told = list(of(entries, "generation"))
    for before, after in zip(told[::2], told[1::2], strict=True):
        if after["value"] - before["value"] > 1:
            yield f"{after['worker']} was restarted, and the group went from generation {before['value']} to {after['value']}"


def outage_problems(entries: Sequence[Entry]) -> Iterator[str]:
    """A broker that is away is no crash loop."""
    for entry in of(entries, "outlived"):
        if entry["restarts"] > RESTARTS_PER_OUTAGE * entry["workers"]:
            yield f"{entry['restarts']} restarts of {entry['workers']} workers while the broker was away for {entry['seconds']} s"


def _notes(entries: Sequence[Entry]) -> Iterator[str]:
    exits = Counter(f"{entry['how']}: {entry['code']}" for entry in of(entries, "exit"))
    if exits:
        yield "exits " + ", ".join(f"{how} ({count})" for how, count in sorted(exits.items()))
    yield from (f"not possible here: {entry['kind']}: {entry['why']}" for entry in of(entries, "impossible"))
    yield from (f"broker away {entry['seconds']} s: {entry['restarts']} restarts" for entry in of(entries, "outlived"))
    yield from (f"taken over in {entry['seconds']} s" for entry in of(entries, "taken over"))
    yield from (f"put aside: {entry['count']} local stores" for entry in of(entries, "put aside") if entry["count"])


def log_problems(logs: Sequence[Path], planted: str) -> Iterator[str]:
    """I10: every line is one JSON object, and none holds what the payloads hold."""
    for log in logs:
        for number, line in enumerate(log.read_text("utf-8", "replace").splitlines(), 1):
            if not isinstance(_parsed(line), dict):
                yield f"I10: {log.name}, line {number} is no JSON object: {line[:120]!r}"
            if planted in line:
                yield f"I10: {log.name}, line {number} holds a payload"


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
