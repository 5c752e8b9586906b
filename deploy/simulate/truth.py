"""The truth of a simulation: every figure of each month and segment, from what was decided and from nothing that was sent.

It knows the definitions (docs/ledger.md, docs/state.md sections 3b and 5a, the meanings in `models/kpi/figures.py`), and shares no code
with what computes them from events. Times are microseconds in UTC, so the months are those of UTC; money is millionths of a minor unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from deploy.simulate import decisions as d
from deploy.simulate.dice import DAY, SECOND
from deploy.simulate.truth_costs import Books
from deploy.simulate.truth_life import Life
from deploy.simulate.truth_money import Purse
from deploy.simulate.truth_surveys import Opinions
from deploy.simulate.truth_tickets import ticket_figures
from deploy.simulate.truth_users import Users

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OTHER: Final = "other"
ALL: Final = "all"
"""What the whole portfolio is called where segments are."""

_MONTHS_BACK: Final = 24
_SETTLED: Final = 7 * DAY
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Figures = dict[str, int]
"""By the text of a figure's key: `name`, `name{label}`, money `name@USD`; those that are 0 are left out."""


class Window(NamedTuple):
    """A month `[start, end)`: its stocks are those at `stop`, and what happens until `known` counts for it."""

    text: str
    start: int
    end: int
    stop: int
    known: int

    @property
    def clock(self) -> int:
        """Up to when the time counts of what is not over yet: of the month that runs, whole quarters of an hour."""
        return self.stop if self.stop == self.end - 1 else self.stop - self.stop % (900 * SECOND)


@dataclass(slots=True)
class _Account:
    segment: str | None
    purse: Purse
    opinions: Opinions
    life: Life
    users: Users
    figures: dict[int, Figures]


class Truth:
    """Hears every decision, and adds up what they come to as of the last second of the simulation `[starts, stops)`."""

    def __init__(self, stops: int, segments: Sequence[str]) -> None:
        self.as_of = stops - SECOND
        self._segments = (*segments, OTHER)
        self.windows = tuple(_windows(self.as_of))
        self._accounts: dict[str, _Account] = {}
        self._books = Books()

    def hear(self, decision: d.Decision) -> None:
        """Note a decision. What is after the end is not there."""
        if isinstance(decision, d.Failure | d.Snapshot) or decision.at > self.as_of:
            return
        if isinstance(decision, d.Spent):
            self._books.hear(decision)
            return
        if isinstance(decision, d.Joined):
            self._accounts[decision.account] = _Account(
                decision.segment, Purse(decision.currency), Opinions(), Life(decision, self.as_of), Users(self.as_of), {}
            )
        account = self._accounts[decision.account]
        if isinstance(decision, d.Changed) and decision.segment is not None:
            account.segment = decision.segment
        match decision:
            case d.Used():
                account.users.hear(decision.user, decision.at)
            case d.Agreed() | d.Invoiced() | d.Ordered() | d.GaveBack():
                account.purse.hear(decision, self.as_of)
            case d.Ticket():
                self._hear_ticket(account, decision)
            case d.GaveUp():
                self._add(account, self._place(decision.at), {"tickets_abandoned": 1})
            case d.Asked() | d.Wrote():
                account.opinions.hear(decision, self.as_of)
            case _:
                account.life.hear(decision)

    def figures(self) -> dict[str, dict[str, Figures]]:
        """The figures by month and segment."""
        found: dict[str, dict[str, Figures]] = {}
        for account in self._accounts.values():
            by_month = account.purse.figures(self.windows)
            for place, window in enumerate(self.windows):
                own = by_month[place]
                own |= account.figures.get(place, {}) | account.opinions.figures(window) | account.users.figures(window)
                own |= account.life.figures(window, account.purse.pays_from) | _acquired(account, own)
            for place, own in by_month.items():
                total = found.setdefault(self.windows[place].text, {}).setdefault(
                    account.segment if account.segment in self._segments else OTHER, {}
                )
                for name, value in own.items():
                    total[name] = total.get(name, 0) + value
        return {
            month: {
                segment: {name: value for name, value in sorted(by_segment[segment].items()) if value}
                for segment in self._segments
                if any(by_segment.get(segment, {}).values())
            }
            for month, by_segment in sorted(found.items())
        }

    def costs(self) -> dict[str, Figures]:
        """What each month cost: figures of the whole portfolio, as no cost is of a segment."""
        return {window.text: self._books.figures(window) for window in self.windows}

    def _hear_ticket(self, account: _Account, ticket: d.Ticket) -> None:
        """A ticket is written into all its months at once: its course is known."""
        ticket = ticket._replace(steps=tuple(step for step in ticket.steps if step.at <= self.as_of))
        for place, window in enumerate(self.windows):
            if ticket.at < window.end:
                self._add(account, place, ticket_figures(ticket, window))

    def _place(self, at: int) -> int:
        return next((place for place, window in enumerate(self.windows) if window.start <= at < window.end), -1)

    @staticmethod
    def _add(account: _Account, place: int, figures: Mapping[str, int]) -> None:
        if place < 0 or not figures:
            return
        own = account.figures.setdefault(place, {})
        for name, value in figures.items():
            own[name] = own.get(name, 0) + value


def _acquired(account: _Account, own: Figures) -> Figures:
    """How a customer came, in the month in which it was new; and what referred accounts pay."""
    found: Figures = {}
    if own.get("customers_new"):
        found[f"customers_new_by_channel{{{account.life.channel}}}"] = 1
        found["customers_new_referred"] = int(account.life.is_referred)
    if account.life.is_referred:
        money = account.purse.currency
        found[f"revenue_referred@{money}"] = own.get(f"revenue_paid@{money}", 0) - own.get(f"revenue_refunded@{money}", 0)
    return found


def added_up(by_segment: Mapping[str, Figures]) -> Figures:
    """The figures of all segments together."""
    total: Figures = {}
    for figures in by_segment.values():
        for name, value in figures.items():
            total[name] = total.get(name, 0) + value
    return total


def _windows(as_of: int) -> Iterator[Window]:
    """The month of an instant and those before it that are reported."""
    today = _EPOCH + timedelta(microseconds=as_of)
    last = today.year * 12 + today.month - 1
    for index in range(last - _MONTHS_BACK, last + 1):
        start, end = _first_instant(index), _first_instant(index + 1)
        text = f"{index // 12:04}-{index % 12 + 1:02}"
        yield Window(text, start, end, min(end - 1, as_of), min(end + _SETTLED, as_of))


def _first_instant(index: int) -> int:
    return (datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
