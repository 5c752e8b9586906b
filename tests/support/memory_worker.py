"""One partition of a worker with everything around it in memory: a log to read, a changelog to come back from."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from alerts.rules import AlertRules
from models.health import Scale
from models.input_topics import FOLDED_TOPICS
from models.scorecard import Scorecard
from stream_app.pipeline import CURSOR_KEY, Definition, Partition
from tests.support.generate import topic_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from random import Random

    from stream_app.alerting import Said
    from stream_app.pipeline import Checkpoint, Output

LATER_US: Final = 1_900_000_000_000_000
"""A wall clock after everything that the generator writes."""

AT_ONCE: Final = AlertRules.model_validate({"pending_for": {"at_risk": 0, "critical": 0}, "recover_for": 0})
"""Alert rules with no waits, so that every crossing is an event."""


def definition(rules: AlertRules = AT_ONCE, *, is_log_clock: bool = False, card: Scorecard | None = None) -> Definition:
    """Return what a worker with no topic prefix makes of events."""
    return Definition(
        kinds={topic: topic for topic in FOLDED_TOPICS},
        scale=Scale.of(card or Scorecard()),
        rules=rules,
        config_version="test",
        release="0.0",
        is_log_clock=is_log_clock,
    )


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as the broker hands it over; the broker's time is after every event."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int = LATER_US // 1000
    headers: tuple[tuple[str, bytes], ...] = ()


Log = dict[str, list[LogRecord]]
"""The records of one partition, by topic, in the order of their offsets."""


def log_of(records: Iterable[Mapping[str, Any]]) -> Log:
    """Lay records out on their topics, in their order."""
    log: Log = {topic: [] for topic in FOLDED_TOPICS}
    for record in records:
        on = log[topic_of(dict(record))]
        on.append(LogRecord(record["subject"].encode(), json.dumps(record, ensure_ascii=False).encode(), len(on)))
    return log


@dataclass
class MemoryWorker:
    """Reads a log as a worker does: batch by batch, with checkpoints to a changelog, from which it can come back.

    `cursors` is every cursor that was committed; `alerts`, `scores` and `dead_letters` are what was committed, in order; what a crash
    threw away never gets there. `portfolio` is the latest of each record of the roll-up and when it was committed, `cursor_times` are the
    cursors by that: the time is the number of the checkpoint.
    """

    log: Log
    definition: Definition = field(default_factory=definition)
    wall_us: int = LATER_US
    changelog: dict[bytes, bytes] = field(default_factory=dict)
    cursors: list[bytes] = field(default_factory=list)
    alerts: list[Said] = field(default_factory=list)
    scores: list[tuple[bytes, bytes]] = field(default_factory=list)
    dead_letters: list[Output] = field(default_factory=list)
    portfolio: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    cursor_times: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.partition = Partition(0, self.definition)

    def position(self, topic: str) -> int:
        """Return the offset of a topic that is folded next."""
        position = self.partition.positions.get(topic)
        return 0 if position is None else position.offset

    def behind(self) -> set[str]:
        """Return the topics with records that are not folded yet."""
        return {topic for topic, records in self.log.items() if self.position(topic) < len(records)}

    def step(self, topic: str, count: int) -> None:
        """Fold the next records of a topic, at most `count`."""
        start = self.position(topic)
        records = self.log[topic][start : start + count]
        following = start + len(records)
        behind = {other for other in self.behind() if other != topic or following < len(self.log[topic])}
        self.partition.step(topic, records, following, behind, self.wall_us)

    def tick(self) -> int:
        """Let time pass once, and return how many accounts were looked at."""
        return self.partition.tick(self.partition.now(self.behind(), self.wall_us))

    def checkpoint(self) -> Checkpoint:
        """Commit what changed."""
        checkpoint = self.partition.take()
        for part in checkpoint.slices(7):
            for key, value in part.changelog:
                if value is None:
                    self.changelog.pop(key, None)
                else:
                    self.changelog[key] = value
                    if key == CURSOR_KEY:
                        self.cursors.append(value)
                        self.cursor_times[len(self.cursors)] = value
            self.scores += part.scores
        for key, value in checkpoint.portfolio:
            self.portfolio.pop(key, None)
            if value is not None:
                self.portfolio[key] = value, len(self.cursors)
        self.alerts += checkpoint.alerts
        self.dead_letters += checkpoint.dead_letters
        return checkpoint

    def publish(self, now_us: int) -> Checkpoint:
        """Bring the roll-up up to date, and commit it with everything else."""
        while self.partition.keep_books(now_us, 50):
            pass
        self.partition.publish_books(now_us)
        return self.checkpoint()

    def crash(self) -> None:
        """Lose the memory and come back from the changelog, as a new worker does."""
        self.partition = Partition(0, self.definition)
        stored = ((key, value) for key, value in self.changelog.items() if key != CURSOR_KEY)
        self.partition.restore(stored, self.changelog.get(CURSOR_KEY), chunk=3)

    def run(self, rng: Random, *, crash_share: float = 0.0, sizes: tuple[int, ...] = (1, 3, 50, 400)) -> None:
        """Read the whole log: batches of random sizes from topics in random turns, checkpoints and crashes in between."""
        while behind := sorted(self.behind()):
            self.step(rng.choice(behind), rng.choice(sizes))
            if rng.random() < 0.1:
                self.tick()
            if rng.random() < 0.3:
                self.checkpoint()
            if rng.random() < crash_share:
                self.crash()
        self.checkpoint()

    def outcomes(self) -> dict[str, Counter[str]]:
        """Return what became of the records of each topic, from the cursor."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for topic, position in self.partition.positions.items():
            for outcome in ("applied", "duplicate", "late", "dead_letter"):
                if count := getattr(position, outcome):
                    found[topic][outcome] = count
        return dict(found)
