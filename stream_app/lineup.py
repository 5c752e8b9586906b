"""Which run of a partition is folded next: a backlog of several topics is folded in the order of their events' times.

Topics are read one by one, so in a catch-up a small one would be far ahead of a large one: an account would look silent on the days that
its other topic has yet to tell of. So runs wait here until every topic that is behind is as far as they are. With no backlog nothing
waits. Pure: positions and time are handed in.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable

from models.row import NEVER
from models.times import DAY_US
from stream_app.pipeline import Run

SLACK_US = DAY_US
"""How far a topic may be ahead of another: windows are whole days. On the log clock it is less: the end of the day."""

PATIENCE_SECONDS = 1.0
"""How long runs wait for a topic that is behind and from which nothing comes."""

RECORDS_MAX = 3000
"""Records of a topic's partition that may wait here before no more are fetched."""


class Lineup:
    """The runs of one partition that are decoded and not folded yet, by topic."""

    def __init__(self, is_log_clock: bool) -> None:
        self._is_log_clock = is_log_clock
        self._waiting: dict[str, deque[Run]] = {}
        self._records: Counter[str] = Counter()
        self._stuck_since: float | None = None

    def add(self, topic: str, runs: Iterable[Run]) -> None:
        """Put the runs of a batch at the end of their topic's line."""
        line = self._waiting.setdefault(topic, deque())
        for run in runs:
            line.append(run)
            self._records[topic] += len(run.records)

    def following(self, topic: str) -> int | None:
        """The offset after the last run that waits; None when none does."""
        line = self._waiting.get(topic)
        return line[-1].following if line else None

    def has_room(self, topic: str) -> bool:
        """Whether more of a topic may be fetched."""
        return self._records[topic] < RECORDS_MAX

    def take(self, behind: Collection[str], newest_us: Callable[[str], int], now_seconds: float) -> Run | None:
        """The run to fold next; None when there is none, or when it has to wait for a topic that is behind.

        `behind` are the topics with records that are not folded, those that wait here included; `newest_us` gives the newest event time
        folded from a topic, NEVER for none; `now_seconds` is monotonic.
        """
        heads = {topic: line[0] for topic, line in self._waiting.items() if line}
        if not heads:
            self._stuck_since = None
            return None
        topic = min(heads, key=lambda name: heads[name].begins_us)
        awaited = [newest_us(name) for name in behind if name not in heads]
        if awaited and not self._may_go(heads[topic].begins_us, min(awaited)):
            if self._stuck_since is None:
                self._stuck_since = now_seconds
            if now_seconds - self._stuck_since < PATIENCE_SECONDS:
                return None
        else:
            self._stuck_since = None
        run = self._waiting[topic].popleft()
        self._records[topic] -= len(run.records)
        return run

    def _may_go(self, begins_us: int, awaited_us: int) -> bool:
        if begins_us == NEVER:
            return True
        if awaited_us == NEVER:
            return False
        if self._is_log_clock:
            return begins_us // DAY_US <= awaited_us // DAY_US
        return begins_us <= awaited_us + SLACK_US
