"""What the demo shows, and from what: the accounts at risk with their drivers, counts, lag and rate. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

Ending = Literal["cancelled", "completed"]
"""How a subscription ended: by its account, or with its term."""

BANDS: Final = {
    "critical": "critical",
    "at_risk": "at risk",
    "watch": "watch",
    "healthy": "healthy",
    "insufficient_data": "unknown",
}
"""In words, worst first."""
STYLES: Final = {
    "critical": "bold red",
    "at_risk": "red",
    "watch": "yellow",
    "healthy": "green",
    "insufficient_data": "dim",
}
CHANGE_DAYS: Final = 7
"""The change of a score that is shown is the one over so many days of the log."""
DRIVERS_SHOWN: Final = 2
RATE_SECONDS: Final = 5.0
ROWS_IN_SUMMARY: Final = 15
_NEVER: Final = "9999"
_LINES_AROUND: Final = 4
"""Lines of a picture besides its head and its accounts."""
_ENDINGS: Final[dict[str, Ending]] = {"cancelled": "cancelled", "term over": "completed"}
_FINE_FROM: Final = 75.0
_UNKNOWN: Final = 101.0
"""Where an account without a score stands in the order: after all the others."""


class ComponentSeen(msgspec.Struct):
    """What is shown of a component of a score."""

    name: str
    score: float | None
    effective_weight: float = 0.0


class ScoreSeen(msgspec.Struct):
    """What is shown of a score."""

    band: str
    score: float | None = None
    components: list[ComponentSeen] = []


class ScoreRecord(msgspec.Struct):
    """The envelope of `health.scored`; other members are passed over."""

    subject: str
    time: str
    data: ScoreSeen


class DriverSeen(msgspec.Struct):
    """What is shown of a driver of an alert."""

    name: str
    points: float
    text: str | None = None


class AlertSeen(msgspec.Struct):
    """What is shown of an alert as an event left it."""

    state: str
    severity: str
    opened_at: str
    drivers: list[DriverSeen] = []


class AlertRecord(msgspec.Struct):
    """The envelope of an event on `churn-alerts`; other members are passed over."""

    subject: str
    time: str
    data: AlertSeen


decode_score = msgspec.json.Decoder(ScoreRecord).decode
decode_alert = msgspec.json.Decoder(AlertRecord).decode


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """What the worker says of itself: records by what became of them, and how many it has not read yet."""

    outcomes: dict[str, int] = field(default_factory=dict)
    lag: int = 0

    @property
    def read(self) -> int:
        """Return how many records it is done with."""
        return sum(self.outcomes.values())

    @classmethod
    def from_metrics(cls, text: str) -> WorkerCounts:
        """Read them out of a `/metrics` page."""
        outcomes: Counter[str] = Counter()
        lag = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "churnwatch_events_total":
                    outcomes[sample.labels["outcome"]] += int(sample.value)
                elif sample.name == "churnwatch_consumer_lag_records":
                    lag += sample.value
        return cls(dict(outcomes), int(lag))


@dataclass(slots=True)
class Standing:
    """An account's latest score, what it was on the days of the last week, and the latest word on its alert."""

    band: str = "insufficient_data"
    score: float | None = None
    components: list[ComponentSeen] = field(default_factory=list)
    daily: deque[tuple[str, float]] = field(default_factory=deque)
    """Day and last score of it, oldest first: those of the last week, and the one that held before."""
    alert: AlertSeen | None = None
    episodes: dict[str, str] = field(default_factory=dict)
    """When an alert opened, and when it was resolved: empty while it is open."""

    @property
    def is_alerted(self) -> bool:
        """Say whether an alert is open."""
        return self.alert is not None and self.alert.state != "resolved"

    @property
    def is_at_risk(self) -> bool:
        """Say whether it belongs in the table: an alert is open, or the score is in one of the lower bands."""
        return self.is_alerted or self.band in {"critical", "at_risk"}

    @property
    def alerted_at(self) -> str:
        """Return when the open alert was opened, empty when none is."""
        return self.alert.opened_at if self.alert is not None and self.is_alerted else ""

    def remember(self, day: str, score: float) -> None:
        """Keep the last score of a day."""
        if self.daily and self.daily[-1][0] == day:
            self.daily.pop()
        self.daily.append((day, score))
        week_ago = _days_before(day, CHANGE_DAYS)
        while len(self.daily) > 1 and self.daily[1][0] <= week_ago:
            self.daily.popleft()

    def change(self, today: str) -> float | None:
        """Return by how many points the score has changed in the week before a day; None when it is not known."""
        if self.score is None or not self.daily:
            return None
        week_ago = _days_before(today, CHANGE_DAYS)
        before = [score for day, score in self.daily if day <= week_ago] or [self.daily[0][1]]
        return self.score - before[-1]

    @property
    def why(self) -> str:
        """Return the drivers in words, the strongest first: those of the alert, else the components that are low."""
        if self.alert is not None and self.is_alerted and self.alert.drivers:
            return "; ".join(map(_words, self.alert.drivers[:DRIVERS_SHOWN]))
        low = [c for c in self.components if c.score is not None and c.score < _FINE_FROM]
        low.sort(key=lambda component: component.effective_weight * ((component.score or 0.0) - 100))
        return "; ".join(f"{component.name} {component.score:.0f} of 100" for component in low[:DRIVERS_SHOWN])

    def was_alerted_at(self, moment: str) -> str | None:
        """Return when the alert opened that was open at a moment."""
        for opened_at, resolved_at in self.episodes.items():
            if _second(opened_at) <= _second(moment) and (not resolved_at or _second(resolved_at) >= _second(moment)):
                return opened_at
        return None


@dataclass(slots=True)
class Board:
    """Everything the demo knows: what was sent, what the worker made of it, and how each account stands."""

    total: int
    sent: int = 0
    sent_until: str = ""
    worker: WorkerCounts | None = None
    log_time: str = ""
    """The newest time in the worker's output, to the second."""
    accounts: dict[str, Standing] = field(default_factory=dict)
    ended: dict[str, tuple[str, Ending]] = field(default_factory=dict)
    """When the subscription of an account ended, by the log, and how."""
    alerts_opened: int = 0
    _rates: deque[tuple[float, int]] = field(default_factory=deque)

    def scored(self, record: ScoreRecord) -> None:
        """Take in a score."""
        standing = self.accounts.setdefault(record.subject, Standing())
        standing.band, standing.score = record.data.band, record.data.score
        standing.components = record.data.components
        if record.data.score is not None:
            standing.remember(record.time[:10], record.data.score)
        self.log_time = max(self.log_time, _second(record.time))

    def alerted(self, record: AlertRecord) -> None:
        """Take in an event of an alert."""
        standing = self.accounts.setdefault(record.subject, Standing())
        standing.alert = record.data
        opened_at = record.data.opened_at
        if opened_at not in standing.episodes:
            self.alerts_opened += 1
        standing.episodes[opened_at] = record.time if record.data.state == "resolved" else ""
        self.log_time = max(self.log_time, _second(record.time))

    def subscription_ended(self, account_id: str, moment: str, ending: Ending) -> None:
        """Take in that a subscription ends, at a moment that the log may not have reached yet."""
        self.ended[account_id] = (_second(moment), ending)

    def counted(self, counts: WorkerCounts, at_seconds: float) -> None:
        """Take in what the worker counted, at a moment of a clock that only goes forward."""
        self.worker = counts
        self._rates.append((at_seconds, counts.read))
        while at_seconds - self._rates[0][0] > RATE_SECONDS and len(self._rates) > 2:  # noqa: PLR2004 - it takes two
            self._rates.popleft()

    @property
    def events_per_second(self) -> float:
        """Return how many records the worker read a second, over the last of them."""
        if len(self._rates) < 2 or self._rates[-1][0] <= self._rates[0][0]:  # noqa: PLR2004 - it takes two
            return 0.0
        (began, first), (ended, last) = self._rates[0], self._rates[-1]
        return (last - first) / (ended - began)

    @property
    def running(self) -> dict[str, Standing]:
        """Return the accounts whose subscription is not over at the log's time."""
        return {account_id: standing for account_id, standing in self.accounts.items() if not self._is_over(account_id)}

    def _is_over(self, account_id: str) -> bool:
        """Say whether a subscription is over: from a cancellation on, or from the day after the last one of its term."""
        moment, ending = self.ended.get(account_id, (_NEVER, "cancelled"))
        return moment <= self.log_time if ending == "cancelled" else moment[:10] < self.log_time[:10]

    def at_risk(self) -> list[tuple[str, Standing]]:
        """Return the running accounts at risk, the worst first, of equals the one whose alert is newest."""
        found = [(account_id, standing) for account_id, standing in self.running.items() if standing.is_at_risk]
        found.sort(key=lambda pair: pair[1].alerted_at, reverse=True)
        return sorted(found, key=lambda pair: _UNKNOWN if pair[1].score is None else pair[1].score)

    def bands(self) -> Counter[str]:
        """Return how many running accounts are in each band."""
        return Counter(standing.band for standing in self.running.values())

    def open_alerts(self) -> Counter[str]:
        """Return how many running accounts have an open alert, by severity."""
        return Counter(standing.alert.severity for standing in self.running.values() if standing.alert is not None and standing.is_alerted)

    def endings(self, ending: Ending) -> tuple[int, list[int]]:
        """Return how many subscriptions have ended so, and for those with an alert open, since how many days it was."""
        leads: list[int] = []
        count = 0
        for account_id, (moment, how) in self.ended.items():
            if how != ending or not self._is_over(account_id):
                continue
            count += 1
            opened_at = self.accounts[account_id].was_alerted_at(moment) if account_id in self.accounts else None
            if opened_at is not None:
                opened = datetime.fromisoformat(_second(opened_at))
                leads.append((datetime.fromisoformat(moment) - opened).days)
        return count, leads


def render(board: Board, height: int, hint: str = "") -> RenderableType:
    """Return the picture, no higher than `height` lines unless that leaves no room for an account."""
    head = header(board)
    worst = board.at_risk()
    room = max(height - head.row_count - _LINES_AROUND, 1)
    table = Table(expand=True, box=None, header_style="bold", pad_edge=False)
    table.add_column("account", no_wrap=True)
    table.add_column("health", justify="right", no_wrap=True)
    table.add_column("7 days", justify="right", no_wrap=True)
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("alert of", no_wrap=True)
    for account_id, standing in worst[:room]:
        table.add_row(account_id, *_row(standing, board.log_time))
    left = f"and {len(worst) - room} more" if len(worst) > room else ("" if worst else "no account is at risk")
    foot = Text(f"{left}  {hint}".strip(), style="dim", no_wrap=True, overflow="ellipsis")
    return Group(head, Text(), table, Text(), foot)


def header(board: Board) -> Table:
    """Return the lines above the table: how far it is and how fast, how the portfolio stands, what became of alerts."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, width=9)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row("log", Text(board.log_time[:10] or "not begun", style="bold"))
    table.add_row("events", _events(board))
    table.add_row("accounts", _portfolio(board))
    table.add_row("alerts", _alerts(board))
    for label, text in _endings(board):
        table.add_row(label, text)
    return table


def line(board: Board) -> str:
    """Return the same in one line, for an output that is no terminal."""
    worst = board.at_risk()
    first = f"; worst {worst[0][0]} {_points(worst[0][1])} ({worst[0][1].why})" if worst else ""
    facts = (_events(board), _portfolio(board), _alerts(board))
    return f"{board.log_time[:10] or 'not begun'}: {'; '.join(text.plain for text in facts)}{first}"


def summary(board: Board) -> RenderableType:
    """Return what is printed at the end."""
    return render(board, header(board).row_count + _LINES_AROUND + ROWS_IN_SUMMARY)


def _events(board: Board) -> Text:
    text = Text(f"{board.sent:,} of {board.total:,} sent")
    if board.worker is None:
        text.append(", the worker is starting", style="dim")
        return text
    outcomes = board.worker.outcomes
    text.append(f", {outcomes.get('applied', 0):,} applied")
    for outcome, words in (("duplicate", "duplicates"), ("late", "late"), ("dead_letter", "dead letters")):
        if count := outcomes.get(outcome, 0):
            text.append(f", {count:,} {words}", style="red" if outcome == "dead_letter" else "")
    text.append(f", {board.events_per_second:,.0f}/s, lag {board.worker.lag:,}")
    return text


def _portfolio(board: Board) -> Text:
    bands = board.bands()
    text = Text(f"{bands.total():,}:")
    for band, words in BANDS.items():
        text.append(f"  {bands[band]:,} {words}", style=STYLES[band])
    return text


def _alerts(board: Board) -> Text:
    alerts = board.open_alerts()
    return Text(f"{alerts.total():,} open, {alerts['critical']:,} of them critical; {board.alerts_opened:,} opened so far")


def _endings(board: Board) -> Iterator[tuple[str, Text]]:
    for label, ending in _ENDINGS.items():
        count, leads = board.endings(ending)
        if count:
            since = f" (since {median(leads):.0f} days, median)" if leads else ""
            yield label, Text(f"{count:,}, of which {len(leads):,} with an alert open{since}")


def _row(standing: Standing, log_time: str) -> Iterator[Text]:
    yield Text(_points(standing), style=STYLES.get(standing.band, ""))
    change = standing.change(log_time[:10])
    points = "" if change is None else f"{change:+.0f}"
    yield Text("" if points in {"+0", "-0"} else points, style="red" if points.startswith("-") else "green")
    yield Text(standing.why)
    severity = standing.alert.severity if standing.alert is not None else ""
    yield Text(standing.alerted_at[:10], style=STYLES.get(severity, ""))


def _points(standing: Standing) -> str:
    return "?" if standing.score is None else f"{standing.score:.0f}"


def _words(driver: DriverSeen) -> str:
    return driver.text or f"{driver.name.replace('_', ' ')} {driver.points:+.1f}"


def _second(moment: str) -> str:
    """Return an RFC 3339 time in UTC without its fraction: text order is time order then."""
    return moment[:19]


def _days_before(day: str, days: int) -> str:
    return (date.fromisoformat(day) - timedelta(days=days)).isoformat()
