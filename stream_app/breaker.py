"""When a flood of unusable records stops a partition: a full dead-letter topic is usually a sender that was just deployed. Pure."""

from collections import Counter
from dataclasses import dataclass

from stream_app.pipeline import Run


@dataclass(frozen=True, slots=True)
class Limits:
    """How many dead letters in a row, or what share of at least `minimum` records of one checkpoint, are too many."""

    consecutive: int
    ratio: float
    minimum: int


class Breaker:
    """Counts the dead letters of one partition by topic, and says before a run is folded whether it is one too many."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._row: Counter[str] = Counter()
        self._read: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()

    def opened_by(self, run: Run) -> str | None:
        """Why the partition must stop before this run, None when it may be folded; a run that may is counted."""
        limits, topic = self._limits, run.topic
        dead = len(run.decoded.rejected)
        longest, row = self._rows(run)
        if longest >= limits.consecutive:
            return f"{topic}: {longest} unusable records in a row, the limit is {limits.consecutive}"
        read, all_dead = self._read[topic] + len(run.records), self._dead[topic] + dead
        if dead and read >= limits.minimum and all_dead > limits.ratio * read:
            return f"{topic}: {all_dead} of {read} records are unusable, the limit is {limits.ratio:.0%}"
        self._row[topic], self._read[topic], self._dead[topic] = row, read, all_dead
        return None

    def checkpointed(self) -> None:
        """Begin to count the share anew."""
        self._read.clear()
        self._dead.clear()

    def _rows(self, run: Run) -> tuple[int, int]:
        """The longest row of dead letters that the run makes, and the one that it ends with."""
        longest = row = self._row[run.topic]
        rejected = {each.index for each in run.decoded.rejected}
        if not rejected:
            return 0, 0
        for place in range(len(run.records)):
            row = row + 1 if place in rejected else 0
            longest = max(longest, row)
        return longest, row
