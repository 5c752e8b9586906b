"""The naive second implementation of the months of docs/state.md sections 3b and 5a: what is counted of events, and when a month is closed.

It takes the events of `deploy.verify.reference` by what they have, and imports nothing of ours.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

Event: TypeAlias = Any
Figures: TypeAlias = dict[str, int]

SECOND = 1_000_000
DAY = 86_400 * SECOND
WEEK = 7 * DAY
MONTHS_KEPT = 24
CHANGES_KEPT = 64
EXACT_SECONDS = 63
ORDER = ("created", "opened", "reopened", "solved", "closed", "moved", "merged", "deleted", "replied", "urgent", "calm")
STATUSES, OPENINGS, SOLUTIONS = ORDER[:8], ORDER[:3], ORDER[3:5]


class Window(NamedTuple):
    """A month: `[start, end)`, when its stocks are taken, up to when events count for it."""

    start: int
    end: int
    stop: int
    known: int


def begins(year: int, month: int, zone: ZoneInfo) -> int:
    """Return the instant at which a month begins in a zone."""
    return (datetime(year, month, 1, tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def month_of(at: int, zone: ZoneInfo) -> tuple[int, int]:
    """Return year and month of an instant."""
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).astimezone(zone)
    return local.year, local.month


def later(month: tuple[int, int], by: int = 1) -> tuple[int, int]:
    """Return the month that many months later."""
    number = month[0] * 12 + month[1] - 1 + by
    return number // 12, number % 12 + 1


def window(month: tuple[int, int], zone: ZoneInfo, now: int) -> Window:
    """Return a month as it is known at an instant."""
    start, end = begins(*month, zone), begins(*later(month), zone)
    return Window(start, end, min(end - 1, now), min(end + WEEK, now))


def clock(seen: Window) -> int:
    """Up to when it is counted how long something takes that is not over: the last quarter of an hour in a month that runs."""
    quarter = 15 * 60 * SECOND
    return seen.stop if seen.stop == seen.end - 1 else seen.stop // quarter * quarter


class Months:
    """The closed months of a topic, as its newest event time grows."""

    def __init__(self, zone: ZoneInfo) -> None:
        """Begin with none."""
        self._zone = zone
        self._open: tuple[int, int] | None = None
        self.closed: dict[str, Figures] = {}

    def reach(self, newest: int, count: Callable[[Window], Figures]) -> None:
        """Close every month that ended more than two weeks before the newest event."""
        if self._open is None:
            self._open = month_of(newest - WEEK, self._zone)
        while newest > begins(*later(self._open), self._zone) + 2 * WEEK:
            self._open = max(self._open, later(month_of(newest, self._zone), -MONTHS_KEPT))
            if figures := {name: value for name, value in count(window(self._open, self._zone, 2**63 - 1)).items() if value}:
                self.closed[_text(self._open)] = figures
            self._open = later(self._open)
        least = _text(later(self._open, -MONTHS_KEPT))
        self.closed = {month: figures for month, figures in self.closed.items() if month >= least}

    def told(self, now: int, count: Callable[[Window], Figures]) -> dict[str, Figures]:
        """Give the figures of the month of `now` and the 24 before it: those of closed ones, else what is counted of them."""
        current = month_of(now, self._zone)
        found: dict[str, Figures] = {}
        for month in [later(current, -back) for back in range(MONTHS_KEPT + 1)]:
            if self._open is not None and month < self._open:
                figures = self.closed.get(_text(month), {})
            else:
                figures = count(window(month, self._zone, now))
            found[_text(month)] = {name: value for name, value in figures.items() if value}
        return found


def _text(month: tuple[int, int]) -> str:
    return "{:04}-{:02}".format(*month)


# Tickets


def _changes_of(event: Event) -> list[str]:
    urgency = {"low": "calm", "normal": "calm", "high": "urgent", "urgent": "urgent"}
    to = event.data.get("to")
    is_answer = event.data.get("author_role") == "agent" and event.data.get("public") is True
    meanings = {
        "ticket.created": ["created", urgency[event.data.get("priority", "normal")]],
        "ticket.status_changed": [to if to in SOLUTIONS else "opened"],
        "ticket.priority_changed": [urgency.get(to, "")],
        "ticket.account_changed": ["opened" if to == event.subject else "moved"],
        "ticket.reopened": ["reopened"],
        "ticket.merged": ["merged"],
        "ticket.deleted": ["deleted"],
        "ticket.replied": ["replied"] if is_answer else [],
    }
    return meanings.get(event.type, [])


def changes(events: Sequence[Event]) -> list[list[Any]]:
    """Return the changes of a ticket with their times, each once, in the order of time and then of `ORDER`; the newest 64."""
    found = {(event.time, ORDER.index(change)) for event in events for change in _changes_of(event)}
    return [[at, ORDER[place]] for at, place in sorted(found)[-CHANGES_KEPT:]]


def departments(events: Sequence[Event]) -> dict[str, int]:
    """Return the two departments that had to do with a ticket first, and since when."""
    named = [
        event for event in events if event.type in ("ticket.created", "ticket.replied", "ticket.assigned") and "department" in event.data
    ]
    first = {name: min(e.time for e in named if e.data["department"] == name) for name in {e.data["department"] for e in named}}
    return dict(sorted(first.items(), key=lambda item: (item[1], item[0]))[:2])


def agents(events: Sequence[Event]) -> list[list[Any]]:
    """Return the last eight assignments to an agent."""
    return [list(each) for each in sorted({(e.time, e.data["agent_id"]) for e in events if "agent_id" in e.data})[-8:]]


def _bucket(us: int) -> str:
    seconds, width = max(us // SECOND, 0), 1
    while seconds // width > EXACT_SECONDS:
        width *= 2
    return str(seconds // width * width)


def ticket_figures(tickets: Mapping[str, Sequence[Event]], calls: Sequence[int], seen: Window) -> Figures:
    """Count the figures of a window of all tickets that are kept, by their events."""
    found: Counter[str] = Counter()
    for events in tickets.values():
        ticket = _Ticket(events, seen)
        if ticket.statuses and ticket.statuses[-1][1] not in ("moved", "merged", "deleted"):
            ticket.flows(found)
            ticket.solution(found)
            ticket.stocks(found)
    found["tickets_abandoned"] = len([at for at in calls if seen.start <= at < seen.end and at <= seen.known])
    return dict(found)


class _Ticket:
    """A ticket as far as its events count for a window."""

    def __init__(self, events: Sequence[Event], seen: Window) -> None:
        self.events, self.seen = events, seen
        self.known = [(at, change) for at, change in changes(events) if at <= seen.known]
        self.statuses = [(at, change) for at, change in self.known if change in STATUSES]
        self.created = min((e.time for e in events if e.type == "ticket.created" and e.time <= seen.known), default=None)
        self.replied = min((e.time for e in events if "replied" in _changes_of(e) and e.time <= seen.known), default=None)
        steps = list(zip(self.statuses, ["", *(change for _, change in self.statuses)], strict=False))
        self.solved = [at for (at, change), last in steps if change in SOLUTIONS and last not in SOLUTIONS]
        self.again = [at for (at, change), last in steps if change in OPENINGS and last in SOLUTIONS]

    def inside(self, at: int | None) -> bool:
        return at is not None and self.seen.start <= at < self.seen.end

    def waits_from(self, until: int) -> int:
        again = [at for at in self.again if at <= until]
        if again:
            return int(again[-1])
        return int(self.statuses[0][0] if self.created is None else self.created)

    def flows(self, found: Counter[str]) -> None:
        seen, created = self.seen, self.created
        if created is not None:
            found["tickets_created"] += self.inside(created)
            found["fcr_received"] += self.inside(created) and created <= seen.known - WEEK
            found["tickets_created_28d"] += seen.stop - 28 * DAY < created <= seen.stop
        found["tickets_reopened"] += sum(change == "reopened" and self.inside(at) for at, change in self.known)
        closed = [at for at, change in self.statuses if change == "closed"]
        if closed and self.inside(closed[-1]):
            found["tickets_closed"] += 1
            assigned = [name for at, name in agents(self.events) if at <= closed[-1]] or ["unknown"]
            found[f"tickets_closed_by_agent{{{assigned[-1]}}}"] += 1
        if self.inside(self.replied) and created is not None:
            found[f"first_responses{{{_bucket((self.replied or 0) - created)}}}"] += 1

    def solution(self, found: Counter[str]) -> None:
        if not self.solved or not self.inside(self.solved[-1]):
            return
        solved, settled = self.solved[-1], self.solved[-1] + WEEK
        found["tickets_solved"] += 1
        found[f"resolutions{{{_bucket(solved - self.waits_from(solved))}}}"] += 1
        if settled > self.seen.known:
            return
        found["fcr_solved"] += 1
        replies = [at for at, change in self.known if change == "replied" and at <= settled]
        again = [at for at in (*self.again, *(at for at, change in self.known if change == "reopened")) if at <= settled]
        if len(replies) == 1 and not again:
            several = len([at for at in departments(self.events).values() if at <= settled]) > 1
            found["fcr_resolved_cross_department" if several else "fcr_resolved"] += 1

    def stocks(self, found: Counter[str]) -> None:
        stop, created = self.seen.stop, self.created
        status = [change for at, change in self.statuses if at <= stop][-1:]
        if not status or status[0] not in OPENINGS:
            return
        found["tickets_open"] += 1
        if [change for at, change in self.known if at <= stop and change in ("urgent", "calm")][-1:] == ["urgent"]:
            found["tickets_open_urgent"] += 1
            found["tickets_open_urgent_seconds"] += max(clock(self.seen) - self.waits_from(stop), 0) // SECOND
        if created is not None and created <= stop and (self.replied is None or self.replied > stop):
            found[f"first_responses_waiting{{{_bucket(clock(self.seen) - created)}}}"] += 1


# Surveys


def survey_figures(answers: Sequence[Event], invitations: Sequence[Event], opinions: Sequence[Mapping[str, Any]], seen: Window) -> Figures:
    """Count the figures of a window of all answers, invitations and opinions that are kept."""
    found: Counter[str] = Counter()

    def inside(at: int) -> bool:
        return seen.start <= at < seen.end and at <= seen.known

    def latest(kind: str, among: Callable[[int], bool], *about: str) -> list[Event]:
        of_kind = [event for event in answers if event.data["kind"] == kind and among(event.time)]
        last = {tuple(event.data.get(name) for name in about): event for event in sorted(of_kind, key=lambda event: event.rank)}
        return sorted(last.values(), key=lambda event: event.rank)

    for event in latest("nps", inside, "user_id"):
        found["nps_promoters" if event.data["score"] >= 9 else "nps_passives" if event.data["score"] >= 7 else "nps_detractors"] += 1  # noqa: PLR2004 - the definition of nps
    for kind in ("csat", "ces"):
        for event in latest(kind, inside, "user_id", "survey_id", "ticket_id"):
            suffix = " lower_better" if event.data["direction"] == "lower_better" else ""
            scale = f"{{{event.data['scale_min']}-{event.data['scale_max']}{suffix}}}"
            found[f"{kind}_answers{scale}"] += 1
            found[f"{kind}_positive{scale}"] += _is_positive(event)
            found[f"{kind}_scores{scale}"] += _micro(event)
    recent = latest("csat", lambda at: seen.stop - 180 * DAY < at <= seen.stop, "user_id", "survey_id", "ticket_id")
    found["csat_accounts"] = len(recent[-1:])
    found["csat_accounts_positive"] = sum(map(_is_positive, recent[-1:]))
    for event in invitations:
        if inside(event.time):
            found[f"surveys_offered{{{event.data['kind']}}}"] += 1
            found[f"surveys_answered{{{event.data['kind']}}}"] += _is_answered(event, answers, invitations, seen.known)
    _count_texts(opinions, inside, seen, found)
    return dict(found)


def _count_texts(opinions: Sequence[Mapping[str, Any]], inside: Callable[[int], bool], seen: Window, found: Counter[str]) -> None:
    weight = felt = 0
    for opinion in opinions:
        if inside(opinion["time"]):
            found["feedback_texts"] += 1
            found["feedback_texts_unread"] += opinion["polarity"] is None
            found.update(f"feedback_by_theme{{{theme}}}" for theme in set(opinion["themes"]))
        age = seen.stop // DAY - opinion["time"] // DAY
        if opinion["time"] <= seen.stop and age < 90 and opinion["polarity"] is not None:  # noqa: PLR2004 - the window in days
            each = round(1_000_000 / 2 ** (age / 30))
            weight, felt = weight + each, felt + each * opinion["polarity"]
    found["sentiment_weight"] = weight
    found["sentiment_polarity"] = (2 * abs(felt) + 10_000) // 20_000 * (-1 if felt < 0 else 1)


def _micro(event: Event) -> int:
    return int((Decimal(str(event.data["score"])) * 1_000_000).quantize(Decimal(1), ROUND_HALF_UP))


def _is_positive(event: Event) -> bool:
    beyond = 2 * _micro(event) - (event.data["scale_min"] + event.data["scale_max"]) * 1_000_000
    return bool(beyond < 0 if event.data["direction"] == "lower_better" else beyond > 0)


def _is_answered(invitation: Event, answers: Sequence[Event], invitations: Sequence[Event], known: int) -> bool:
    """Say whether an answer came before the next invitation of the same person to the same survey; of two at one instant to the last."""

    def is_same(event: Event) -> bool:
        return all(event.data[name] == invitation.data[name] for name in ("kind", "survey_id", "user_id"))

    after = sorted(event.rank for event in invitations if is_same(event) and event.rank > invitation.rank)
    until = after[0][0] if after else 2**63
    return any(is_same(event) and invitation.time <= event.time < until and event.time <= known for event in answers)
