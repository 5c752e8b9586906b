"""What a ticket comes to in a month, from its course."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from deploy.simulate.dice import DAY, SECOND

if TYPE_CHECKING:
    from deploy.simulate.decisions import Ticket, TicketStep
    from deploy.simulate.truth import Window

_WEEK: Final = 7 * DAY
_EXACT: Final = 64


def bucket(seconds: int) -> int:
    """The least second of the bucket of a duration: buckets are exact below 64 seconds, then 32 in each doubling."""
    width = 1
    while seconds // width >= _EXACT:
        width *= 2
    return seconds // width * width


def ticket_figures(ticket: Ticket, window: Window) -> dict[str, int]:
    """The figures of one ticket in a month; none once it is known to be spam or a duplicate."""
    steps = [step for step in ticket.steps if step.at <= window.known]
    if any(step.what in ("deleted", "merged") for step in steps):
        return {}
    found: Counter[str] = Counter()
    _flows(ticket, steps, window, found)
    _solution(ticket, steps, window, found)
    _stocks(ticket, [step for step in steps if step.at <= window.stop], window, found)
    return {name: count for name, count in found.items() if count}


def _is_in(at: int, window: Window) -> bool:
    return window.start <= at < window.end


def _flows(ticket: Ticket, steps: list[TicketStep], window: Window, found: Counter[str]) -> None:
    if _is_in(ticket.at, window):
        found["tickets_created"] += 1
        found["fcr_received"] += ticket.at + _WEEK <= window.known
    found["tickets_created_28d"] += window.stop - 28 * DAY < ticket.at <= window.stop
    found["tickets_reopened"] += sum(step.what == "reopened" and _is_in(step.at, window) for step in steps)
    closed = [step.at for step in steps if step.what == "closed"]
    if closed and _is_in(closed[-1], window):
        agents = [step.who for step in steps if step.what == "assigned" and step.at <= closed[-1]]
        found["tickets_closed"] += 1
        found[f"tickets_closed_by_agent{{{agents[-1] if agents else 'unknown'}}}"] += 1
    answers = [step.at for step in steps if step.what == "agent_reply"]
    if answers and _is_in(answers[0], window):
        found[f"first_responses{{{bucket((answers[0] - ticket.at) // SECOND)}}}"] += 1


def _waits_since(ticket: Ticket, steps: list[TicketStep], at: int) -> int:
    return max([ticket.at, *(step.at for step in steps if step.what == "reopened" and step.at <= at)])


def _solution(ticket: Ticket, steps: list[TicketStep], window: Window, found: Counter[str]) -> None:
    solved = [step.at for step in steps if step.what == "solved"]
    if not solved or not _is_in(solved[-1], window):
        return
    at, until = solved[-1], solved[-1] + _WEEK
    found["tickets_solved"] += 1
    found[f"resolutions{{{bucket((at - _waits_since(ticket, steps, at)) // SECOND)}}}"] += 1
    if until > window.known:
        return
    found["fcr_solved"] += 1
    week = [step for step in steps if step.at <= until]
    if sum(step.what == "agent_reply" for step in week) == 1 and not any(step.what == "reopened" for step in week):
        departments = {ticket.department, *(step.who for step in week if step.what in ("agent_reply", "note"))}
        found["fcr_resolved" if len(departments) == 1 else "fcr_resolved_cross_department"] += 1


def _stocks(ticket: Ticket, steps: list[TicketStep], window: Window, found: Counter[str]) -> None:
    states = [step.what for step in steps if step.what in ("solved", "closed", "reopened")]
    if ticket.at > window.stop or (states and states[-1] != "reopened"):
        return
    found["tickets_open"] += 1
    marks = [step.what for step in steps if step.what in ("urgent", "calm")]
    if marks[-1] == "urgent" if marks else ticket.priority in ("high", "urgent"):
        found["tickets_open_urgent"] += 1
        found["tickets_open_urgent_seconds"] += max(window.clock - _waits_since(ticket, steps, window.stop), 0) // SECOND
    if not any(step.what == "agent_reply" for step in steps):
        found[f"first_responses_waiting{{{bucket(max(window.clock - ticket.at, 0) // SECOND)}}}"] += 1
