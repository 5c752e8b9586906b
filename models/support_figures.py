"""The figures of a month that tickets give (docs/state.md section 3b), from what is kept of them: pure."""

from collections import Counter
from zoneinfo import ZoneInfo

from models import monthly
from models.kpi.figures import bucket_of, key_of
from models.monthly import QUARTER_US, SETTLED_US, Figures, Window
from models.parts import oldest
from models.support import Change, Support, Ticket
from models.times import DAY_US, SECOND_US

MONTH_US = 28 * DAY_US
"""The window of `tickets_created_28d`."""

_OPENINGS = frozenset({Change.CREATED, Change.OPENED, Change.REOPENED})
_SOLUTIONS = frozenset({Change.SOLVED, Change.CLOSED})
_GONE = frozenset({Change.MOVED, Change.MERGED, Change.DELETED})


class _Seen:
    """A ticket as it is known up to an instant."""

    def __init__(self, ticket: Ticket, known: int) -> None:
        self.ticket = ticket
        self.changes = [(at, Change(code)) for at, code in ticket.changes if at <= known]
        self.statuses = [(at, change) for at, change in self.changes if change <= Change.DELETED]
        self.created_at = ticket.created_at if ticket.created_at is not None and ticket.created_at <= known else None

    @property
    def is_counted(self) -> bool:
        """Whether it is a ticket of this account: neither merged, nor deleted, nor moved."""
        return bool(self.statuses) and self.statuses[-1][1] not in _GONE

    def status(self, until: int) -> Change | None:
        """Its status at an instant."""
        return next((change for at, change in reversed(self.statuses) if at <= until), None)

    def is_urgent(self, until: int) -> bool:
        """Whether its priority at an instant is high or urgent."""
        priorities = (Change.URGENT, Change.CALM)
        return next((change for at, change in reversed(self.changes) if at <= until and change in priorities), None) is Change.URGENT

    def solutions(self) -> list[int]:
        """When it was solved, each time anew; closing what is solved is no solution."""
        found, was_solved = [], False
        for at, change in self.statuses:
            is_solved = change in _SOLUTIONS
            if is_solved and not was_solved:
                found.append(at)
            was_solved = is_solved
        return found

    def clock_from(self, until: int) -> int | None:
        """Since when it waits at an instant: since it was opened again last, else created, else since it was first heard of."""
        start, was_solved = self.created_at, False
        for at, change in self.statuses:
            if at > until:
                break
            if start is None or (was_solved and change in _OPENINGS):
                start = at
            was_solved = change in _SOLUTIONS
        return start

    def replies(self, until: int) -> int:
        """Public answers of agents up to an instant."""
        return sum(at <= until for at, change in self.changes if change is Change.REPLIED)

    def waits_since(self, until: int) -> int | None:
        """When it was created, if nobody has answered it at an instant."""
        replied, created = self.ticket.first_reply_at, self.created_at
        return created if created is not None and created <= until and (replied is None or replied > until) else None

    def was_reopened(self, until: int) -> bool:
        """Whether it was opened again after a solution, up to an instant."""
        was_solved = False
        for at, change in self.statuses:
            if at <= until and (change is Change.REOPENED or (was_solved and change in _OPENINGS)):
                return True
            was_solved = change in _SOLUTIONS
        return False

    def agent(self, until: int) -> str:
        """Who was assigned at an instant."""
        return next((name for at, name in reversed(self.ticket.agents) if at <= until), "unknown")


def month_figures(support: Support, month: int, zone: ZoneInfo, now: int) -> Figures:
    """The figures of tickets in a month (`models.months`), as they stand at `now` (microseconds)."""
    return monthly.figures_of(support, month, zone, now, count)


def changes_next(support: Support, now: int) -> int:
    """The least instant after `now` at which the figures may change with no event; the end of time when there is none."""
    later = list(support.calls)
    for ticket in support.tickets.values():
        known = _Seen(ticket, now)
        later += [at for at, _ in ticket.changes]
        later += [at + span for at in (ticket.created_at,) if at is not None for span in (SETTLED_US, MONTH_US)]
        later += [at + SETTLED_US for at in known.solutions()[-1:]]
        if known.is_counted and known.status(now) in _OPENINGS and (known.is_urgent(now) or known.waits_since(now) is not None):
            later.append(now - now % QUARTER_US + QUARTER_US)
    return oldest(at for at in later if at > now)


def count(support: Support, seen: Window) -> Figures:
    """Count the figures of tickets in a window."""
    found: Counter[str] = Counter()
    for ticket in support.tickets.values():
        known = _Seen(ticket, seen.known)
        if known.is_counted:
            _count_flows(known, seen, found)
            _count_solution(known, seen, found)
            _count_stocks(known, seen, found)
    found["tickets_abandoned"] = sum(seen.start <= at < seen.end and at <= seen.known for at in support.calls)
    return {name: number for name, number in found.items() if number}


def _count_flows(ticket: _Seen, seen: Window, found: Counter[str]) -> None:
    created = ticket.created_at
    if created is not None:
        if seen.start <= created < seen.end:
            found["tickets_created"] += 1
            found["fcr_received"] += created + SETTLED_US <= seen.known
        found["tickets_created_28d"] += seen.stop - MONTH_US < created <= seen.stop and created < seen.end
    found["tickets_reopened"] += sum(seen.start <= at < seen.end for at, change in ticket.changes if change is Change.REOPENED)
    closed = [at for at, change in ticket.statuses if change is Change.CLOSED]
    if closed and seen.start <= closed[-1] < seen.end:
        found["tickets_closed"] += 1
        found[str(key_of("tickets_closed_by_agent", label=ticket.agent(closed[-1])))] += 1
    replied = ticket.ticket.first_reply_at
    if replied is not None and created is not None and seen.start <= replied < seen.end and replied <= seen.known:
        found[_timed("first_responses", replied - created)] += 1


def _count_solution(ticket: _Seen, seen: Window, found: Counter[str]) -> None:
    solutions = ticket.solutions()
    if not solutions or not seen.start <= solutions[-1] < seen.end:
        return
    solved = solutions[-1]
    found["tickets_solved"] += 1
    begun = ticket.clock_from(solved)
    found[_timed("resolutions", 0 if begun is None else solved - begun)] += 1
    if solved + SETTLED_US <= seen.known:
        found["fcr_solved"] += 1
        until = solved + SETTLED_US
        if ticket.replies(until) == 1 and not ticket.was_reopened(until):
            departments = sum(at <= until for at in ticket.ticket.departments.values())
            found["fcr_resolved" if departments <= 1 else "fcr_resolved_cross_department"] += 1


def _count_stocks(ticket: _Seen, seen: Window, found: Counter[str]) -> None:
    if ticket.status(seen.stop) not in _OPENINGS:
        return
    found["tickets_open"] += 1
    if ticket.is_urgent(seen.stop):
        found["tickets_open_urgent"] += 1
        begun = ticket.clock_from(seen.stop)
        found["tickets_open_urgent_seconds"] += 0 if begun is None else max(seen.clock - begun, 0) // SECOND_US
    if (created := ticket.waits_since(seen.stop)) is not None:
        found[_timed("first_responses_waiting", seen.clock - created)] += 1


def _timed(name: str, us: int) -> str:
    return str(key_of(name, label=bucket_of(us // SECOND_US)))
