"""What a verification found: of each check how much was judged, how much differs and how much could not be judged; and the differences."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

from models.times import format_us

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN: Final = 20
"""Differences that a report tells; the others are counted."""

KEPT: Final = 1_000
"""Differences that are kept in memory."""


class Check(StrEnum):
    """What is checked, with the invariants that it is part of and what is counted as one."""

    CURSORS = "cursors", "I4", "cursor records: no count or offset ever goes back"
    RECORDS = "records", "I2", "input topics of a partition: each record read has one outcome, the reference's"
    STATE = "state", "I1 I3", "accounts by input topic: what is kept is what the reference keeps"
    ASSESSMENTS = "assessments", "I1", "accounts: the stored assessment, recomputed at its own instant"
    SCORES = "scores", "I1", "accounts: the latest record of health-scores is the stored assessment"
    ALERTS = "alerts", "I4 I5", "accounts: ids, sequence, episodes and alternation of their alerts"
    ALERT_STATE = "alert-state", "I5", "accounts: alert-state is the fold of their alerts, and what the row says"
    CONDITION = "condition", "I5", "accounts: whether an alert is open is what score and rules ask for"
    PORTFOLIO = "portfolio", "I1", "records of portfolio-metrics: what the accounts came to at the instant that they were made for"
    COMMANDS = "commands", "I1", "partitions: what is decided for all accounts is kept as the reference reads it"
    DEAD_LETTERS = "dead-letters", "I2", "dead letters: one for each record that could not be used, with its reason"

    invariants: str
    meaning: str

    def __new__(cls, name: str, invariants: str, meaning: str) -> Self:
        """Keep what it means beside its name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.invariants = invariants
        member.meaning = meaning
        return member


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be: where, whose, and what."""

    check: Check
    partition: int
    account: str | None
    text: str

    def __str__(self) -> str:
        """All of it on one line."""
        whose = "" if self.account is None else f"account {self.account!r}: "
        return f"{self.check}: partition {self.partition}: {whose}{self.text}"


@dataclass(slots=True)
class Count:
    """How many things of one kind were equal or different, and how many nobody can tell of."""

    judged: int = 0
    different: int = 0
    not_judged: int = 0


@dataclass
class Report:
    """What was found; `problems` must be empty.

    `accounts` have a row at the cut. `read` and `outcomes` count the records that the reference folded, by input topic. `behind` counts
    offsets of inputs that were not folded yet at the cut. `reasons` says why things were not judged. `speaks_from`: input topic and
    partition whose log no longer reaches back, with the first day (microseconds since 1970) from which uses are compared; None when
    none can be. `spread`: the partitions of accounts that have events in several, because producers place them by different rules.
    """

    counts: dict[Check, Count] = field(default_factory=lambda: {check: Count() for check in Check})
    differences: list[Difference] = field(default_factory=list)
    difference_count: int = 0
    partitions: list[int] = field(default_factory=list)
    accounts: int = 0
    read: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    alerts: Counter[str] = field(default_factory=Counter)
    scores: int = 0
    cursors: int = 0
    dead_letters: int = 0
    behind: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    speaks_from: dict[tuple[str, int], int | None] = field(default_factory=dict)
    spread: dict[bytes, list[int]] = field(default_factory=dict)

    def judge(self, check: Check, partition: int, account: bytes | str | None, wrong: Iterable[str]) -> None:
        """Count one thing as judged, and as different when anything is wrong with it."""
        texts = list(wrong)
        count = self.counts[check]
        count.judged += 1
        count.different += bool(texts)
        self.difference_count += len(texts)
        name = account.decode(errors="replace") if isinstance(account, bytes) else account
        room = max(KEPT - len(self.differences), 0)
        self.differences += [Difference(check, partition, name, text) for text in texts[:room]]

    def leave(self, check: Check, why: str, count: int = 1) -> None:
        """Count things as not judged, and say why."""
        if count:
            self.counts[check].not_judged += count
            self.reasons[f"{check}: {why}"] += count

    @property
    def is_right(self) -> bool:
        """Whether nothing differs."""
        return self.difference_count == 0

    @property
    def problems(self) -> list[str]:
        """The differences as lines, at most `KEPT`."""
        return [str(each) for each in self.differences]

    def check(self) -> Report:
        """Raise AssertionError with everything that was found when something differs."""
        if not self.is_right:
            raise AssertionError(str(self))
        return self

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON object; the first `SHOWN` differences."""
        return {
            "ok": self.is_right,
            "partitions": self.partitions,
            "accounts": self.accounts,
            "read": dict(self.read),
            "outcomes": {topic: dict(counts) for topic, counts in self.outcomes.items()},
            "alerts": dict(self.alerts),
            "behind": self.behind,
            "checks": {str(check): {"invariants": check.invariants.split(), **asdict(count)} for check, count in self.counts.items()},
            "not_judged": dict(self.reasons),
            "speaks_from": [
                {"topic": topic, "partition": number, "usage_days_from": None if since is None else format_us(since)}
                for (topic, number), since in sorted(self.speaks_from.items())
            ],
            "accounts_in_several_partitions": len(self.spread),
            "difference_count": self.difference_count,
            "differences": [
                {"check": str(each.check), "partition": each.partition, "account": each.account, "text": each.text}
                for each in self.differences[:SHOWN]
            ],
        }

    def __str__(self) -> str:
        """Write all of it for people: counts, what could not be judged, then the first `SHOWN` differences."""
        return "\n".join([*self._head(), *self._table(), *self._unspoken(), *self._spread(), *self._told()])

    def _head(self) -> list[str]:
        numbers = ", ".join(map(str, self.partitions)) or "none"
        lines = [f"partitions {numbers}: {self.accounts} accounts, {self.read.total()} records read"]
        for topic, counts in self.outcomes.items():
            if counts:
                lines.append(f"  {topic}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
        if self.alerts:
            lines.append("  alerts: " + ", ".join(f"{count} {kind.removeprefix('alert.')}" for kind, count in sorted(self.alerts.items())))
        if self.behind:
            lines.append(f"  not folded yet at the cut: {self.behind} offsets")
        return lines

    def _table(self) -> list[str]:
        lines = [f"{'check':<13} {'holds':<6} {'judged':>9} {'different':>10} {'not judged':>11}"]
        for check, count in self.counts.items():
            lines.append(f"{check:<13} {check.invariants:<6} {count.judged:>9} {count.different:>10} {count.not_judged:>11}")
        return lines

    def _unspoken(self) -> list[str]:
        lines = [f"not judged, {why}: {count}" for why, count in sorted(self.reasons.items())]
        for (topic, number), since in sorted(self.speaks_from.items()):
            spoken = "" if since is None else f"; uses are compared from {format_us(since)[:10]} on"
            lines.append(f"{topic}, partition {number}: the log no longer reaches back{spoken}")
        return lines

    def _spread(self) -> list[str]:
        if not self.spread:
            return []
        key, numbers = next(iter(self.spread.items()))
        first = f"{key.decode(errors='replace')!r}: {', '.join(map(str, numbers))}"
        found = f"{len(self.spread)} accounts have events, and a state each, in several partitions (the first: {first})"
        return [f"warning: {found}; their producers must all choose the partition by the same rule"]

    def _told(self) -> list[str]:
        lines = ["1 difference" if self.difference_count == 1 else f"{self.difference_count} differences"]
        lines += [f"  {each}" for each in self.differences[:SHOWN]]
        if self.difference_count > SHOWN:
            lines.append(f"  and {self.difference_count - SHOWN} more")
        return lines
