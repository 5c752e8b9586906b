"""The tickets of an account (docs/state.md section 3): folded one event at a time, last write by `(time, id)`."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from models import events
from models.columns import Columns
from models.fixed import Ints
from models.monthly import Months
from models.parts import END_OF_TIME, KEEP_US, OBJECTS_MAX, Derived, Write, day_ring, let_go, oldest, put_rings, rank, write
from models.times import DAY_US

OPEN = frozenset({"new", "open", "pending", "hold"})
URGENT = frozenset({"high", "urgent"})
NOT_COUNTED = frozenset({"merged", "deleted", "moved"})


CHANGES_MAX = 64
"""Changes of a ticket that are remembered with their times, the newest ones."""

DEPARTMENTS_MAX = 2
AGENTS_MAX = 8


class Change(IntEnum):
    """What happened to a ticket; at one instant in this order."""

    CREATED = 0
    OPENED = 1
    REOPENED = 2
    SOLVED = 3
    CLOSED = 4
    MOVED = 5
    MERGED = 6
    DELETED = 7
    REPLIED = 8
    URGENT = 9
    CALM = 10


class Ticket(msgspec.Struct, array_like=True, gc=False):
    """One ticket. Times are microseconds."""

    newest_at: int
    created_at: int | None = None
    status: Write | None = None
    priority: Write | None = None
    created: tuple[int, str] | None = None
    kind: str | None = None
    channel: str | None = None
    first_reply_at: int | None = None
    agent_replies: int = 0
    reopens: int = 0
    solved_at: int | None = None
    changes: list[tuple[int, int]] = []
    departments: dict[str, int] = {}
    agents: list[tuple[int, str]] = []

    def note(self, at: int, change: Change) -> None:
        """Remember a change."""
        _insert(self.changes, (at, int(change)), CHANGES_MAX)

    def involve(self, department: str | None, at: int) -> None:
        """Remember which departments had to do with it first, and since when."""
        if department is not None:
            self.departments[department] = min(self.departments.get(department, at), at)
            if len(self.departments) > DEPARTMENTS_MAX:
                del self.departments[max(self.departments, key=lambda name: (self.departments[name], name))]

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for an answer."""
        return self.status is not None and self.status.value in OPEN

    @property
    def is_urgent(self) -> bool:
        """Whether its priority is high or urgent."""
        return self.priority is not None and self.priority.value in URGENT

    @property
    def is_counted(self) -> bool:
        """Whether it counts as one ticket: neither merged into another, nor deleted, nor moved to another account."""
        return self.status is not None and self.status.value not in NOT_COUNTED


class Support(msgspec.Struct, array_like=True, gc=False):
    """The support part of an account: its tickets by id, the ids of its last ticket events, calls given up.

    No finished ticket is older than `oldest_at`.
    """

    ids: bytearray
    tickets: dict[str, Ticket]
    abandoned: int = 0
    oldest_at: int = END_OF_TIME
    calls: list[int] = []
    months: Months = msgspec.field(default_factory=Months)


def _insert(known: list[Any], new: Any, most: int) -> None:
    """Put something into an ordered list that holds everything once, and the greatest only."""
    place = bisect_left(known, new)
    if known[place : place + 1] != [new]:
        known.insert(place, new)
        del known[: max(len(known) - most, 0)]


def empty() -> Support:
    """An account without a ticket."""
    return Support(bytearray(), {})


def fold(support: Support, event: Any, at: int) -> None:
    """Take one ticket event into the account's tickets."""
    if type(event) is events.TicketAbandoned:
        _insert(support.calls, at, OBJECTS_MAX)
    if event.data.ticket_id is None:
        support.abandoned += 1
    else:
        ticket = _ticket(support, event.data.ticket_id, at)
        change = _CHANGES.get(type(event))
        if change is not None:
            change(ticket, event, at)


def finished_at(support: Support) -> int:
    """The least newest time of a ticket that is not open: when it is old enough, `drop_old` has something to do."""
    finished = oldest(ticket.newest_at for ticket in support.tickets.values() if not ticket.is_open)
    return min(finished, support.calls[0]) if support.calls else finished


def drop_old(support: Support, newest: int, _zone: ZoneInfo) -> None:
    """Let go of what is finished and old, or too many; `newest` is the account's newest ticket event."""
    for name in let_go(((t.newest_at, name, not t.is_open) for name, t in support.tickets.items()), newest):
        del support.tickets[name]
    del support.calls[: bisect_left(support.calls, newest - KEEP_US)]


def _ticket(support: Support, ticket_id: str, at: int) -> Ticket:
    ticket = support.tickets.get(ticket_id)
    if ticket is None:
        ticket = support.tickets[ticket_id] = Ticket(at)
    ticket.newest_at = max(ticket.newest_at, at)
    return ticket


def _create(ticket: Ticket, event: events.TicketCreated, at: int) -> None:
    name = rank(event)
    ticket.created_at = at if ticket.created_at is None else min(ticket.created_at, at)
    ticket.status = write(ticket.status, "new", at, name)
    ticket.priority = write(ticket.priority, event.data.priority, at, name)
    ticket.note(at, Change.CREATED)
    ticket.note(at, Change.URGENT if event.data.priority in URGENT else Change.CALM)
    ticket.involve(event.data.department, at)
    if ticket.created is None or (at, name) > ticket.created:
        ticket.created = (at, name)
        ticket.kind = event.data.kind
        ticket.channel = event.data.channel


def _change_status(ticket: Ticket, event: events.TicketStatusChanged, at: int) -> None:
    ticket.status = write(ticket.status, event.data.to, at, rank(event))
    ticket.note(at, _STATUS_CHANGES.get(event.data.to, Change.OPENED))
    if event.data.to in ("solved", "closed"):
        ticket.solved_at = at if ticket.solved_at is None else max(ticket.solved_at, at)


def _change_priority(ticket: Ticket, event: events.TicketPriorityChanged, at: int) -> None:
    ticket.priority = write(ticket.priority, event.data.to, at, rank(event))
    ticket.note(at, Change.URGENT if event.data.to in URGENT else Change.CALM)


def _assign(ticket: Ticket, event: events.TicketAssigned, at: int) -> None:
    ticket.involve(event.data.department, at)
    if event.data.agent_id is not None:
        _insert(ticket.agents, (at, event.data.agent_id), AGENTS_MAX)


def _reply(ticket: Ticket, event: events.TicketReplied, at: int) -> None:
    ticket.involve(event.data.department, at)
    if event.data.author_role == "agent" and event.data.public:
        ticket.note(at, Change.REPLIED)
        ticket.agent_replies += 1
        ticket.first_reply_at = at if ticket.first_reply_at is None else min(ticket.first_reply_at, at)


def _reopen(ticket: Ticket, event: events.TicketReopened, at: int) -> None:
    ticket.reopens += 1
    ticket.note(at, Change.REOPENED)
    ticket.status = write(ticket.status, "open", at, rank(event))


def _merge(ticket: Ticket, event: events.TicketMerged, at: int) -> None:
    ticket.status = write(ticket.status, "merged", at, rank(event))
    ticket.note(at, Change.MERGED)


def _delete(ticket: Ticket, event: events.TicketDeleted, at: int) -> None:
    ticket.status = write(ticket.status, "deleted", at, rank(event))
    ticket.note(at, Change.DELETED)


def _move(ticket: Ticket, event: events.TicketAccountChanged, at: int) -> None:
    is_ours = event.data.to == event.subject
    ticket.status = write(ticket.status, "open" if is_ours else "moved", at, rank(event))
    ticket.note(at, Change.OPENED if is_ours else Change.MOVED)


_STATUS_CHANGES = {"solved": Change.SOLVED, "closed": Change.CLOSED}

_CHANGES: dict[type, Callable[[Ticket, Any, int], None]] = {
    events.TicketCreated: _create,
    events.TicketStatusChanged: _change_status,
    events.TicketPriorityChanged: _change_priority,
    events.TicketAssigned: _assign,
    events.TicketReplied: _reply,
    events.TicketReopened: _reopen,
    events.TicketMerged: _merge,
    events.TicketDeleted: _delete,
    events.TicketAccountChanged: _move,
}


def derived(columns: Columns, support: Support) -> Derived:
    """The figures of an account that a score needs."""
    counted = [t.created_at for t in support.tickets.values() if t.created_at is not None and t.is_counted]
    still_open = [t for t in support.tickets.values() if t.is_open]
    newest = max(counted, default=0)
    return (
        newest // DAY_US,
        day_ring(counted, newest, columns.tickets_created.shape[1]),
        min(len(still_open), 65_535),
        min(sum(t.is_urgent for t in still_open), 65_535),
    )


def put(columns: Columns, slots: Ints, many: Sequence[Derived]) -> None:
    """Put the figures of some accounts into their columns."""
    days, rings, still_open, urgent = zip(*many, strict=True)
    columns.tickets_day[slots] = days
    put_rings(columns.tickets_created, slots, rings)
    columns.tickets_open[slots] = still_open
    columns.tickets_open_urgent[slots] = urgent
