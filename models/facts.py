"""What is known of an account itself (docs/state.md section 5): name, segment, owner, contracts; last write by `(time, id)`.

Its users, trials, renewals and the like are `models.lifecycle`, in the same part.
"""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from models import events, lifecycle
from models.columns import Columns
from models.fixed import Ints
from models.lifecycle import Lifecycle
from models.parts import END_OF_TIME, OBJECTS_MAX, Derived, Number, Write, rank, write, write_number
from models.row import NEVER
from models.times import parse_us

TEXT_FACTS = ("name", "segment", "industry", "region", "plan", "parent_id", "owner", "created_at", "lifecycle_stage", "currency")
NUMBER_FACTS = ("employees", "seats")


class Facts(msgspec.Struct, array_like=True, gc=False):
    """The facts part of an account: its members with their last writes, and when each contract's term ends (microseconds).

    `first_at` is the least time of an event.
    """

    ids: bytearray
    texts: dict[str, Write]
    numbers: dict[str, Number]
    contracts: dict[str, Number]
    oldest_at: int = END_OF_TIME
    life: Lifecycle = msgspec.field(default_factory=Lifecycle)
    first_at: int = END_OF_TIME

    def text(self, name: str) -> str | None:
        """The value of a text fact."""
        found = self.texts.get(name)
        return None if found is None else found.value

    def number(self, name: str) -> int | None:
        """The value of a number fact; `is_deleted` is 0 or 1."""
        found = self.numbers.get(name)
        return None if found is None else found.value

    @property
    def since(self) -> int:
        """Since when the account is there: since it was created as far as somebody says when, else since it was first heard of."""
        created = self.text("created_at")
        if created is not None:
            return parse_us(created)
        # Of before this was noted only the last writes are known.
        return min([self.first_at, *(write.at for write in self.texts.values()), *(number.at for number in self.numbers.values())])

    def renewal_at(self, as_of: int) -> int | None:
        """When the next contract ends that has not ended at `as_of`; None when there is none."""
        return min((c.value for c in self.contracts.values() if c.value >= as_of), default=None)


def empty() -> Facts:
    """An account of which nothing is known but its id."""
    return Facts(bytearray(), {}, {}, {})


def fold(facts: Facts, event: object, at: int) -> None:
    """Take one account event into the facts, and into the life of the account."""
    lifecycle.fold(facts.life, event, at)
    facts.first_at = min(facts.first_at, at)
    match event:
        case events.AccountCreated() | events.AccountUpdated():
            _members(facts, event, at)
            if isinstance(event, events.AccountCreated):
                _number(facts, "is_deleted", 0, at, rank(event))
        case events.AccountDeleted():
            _number(facts, "is_deleted", 1, at, rank(event))
        case events.AccountOwnerChanged():
            _text(facts, "owner", event.data.to, at, rank(event))
        case events.AccountStageChanged():
            _text(facts, "lifecycle_stage", event.data.to, at, rank(event))
        case events.EntitlementChanged():
            if event.data.seats is not None:
                _number(facts, "seats", event.data.seats, at, rank(event))
        case events.ContractSigned() | events.RenewalDue():
            _contract(facts, event, at)
        case _:
            pass


def _members(facts: Facts, event: events.AccountCreated | events.AccountUpdated, at: int) -> None:
    for name in TEXT_FACTS:
        text = getattr(event.data, name)
        if text is not None:
            _text(facts, name, text, at, rank(event))
    for name in NUMBER_FACTS:
        number = getattr(event.data, name)
        if number is not None:
            _number(facts, name, number, at, rank(event))


def _contract(facts: Facts, event: events.ContractSigned | events.RenewalDue, at: int) -> None:
    if event.data.term_end is None:
        return
    known = facts.contracts
    known[event.data.contract_id] = write_number(known.get(event.data.contract_id), parse_us(event.data.term_end), at, rank(event))
    if len(known) > OBJECTS_MAX:
        del known[min(known, key=lambda name: (known[name].at, name))]


def _text(facts: Facts, name: str, value: str, at: int, event_id: str) -> None:
    facts.texts[name] = write(facts.texts.get(name), value, at, event_id)


def _number(facts: Facts, name: str, value: int, at: int, event_id: str) -> None:
    facts.numbers[name] = write_number(facts.numbers.get(name), value, at, event_id)


def finished_at(facts: Facts) -> int:
    """When the oldest object of the account's life ended; facts do not grow old."""
    return lifecycle.finished_at(facts.life)


def drop_old(facts: Facts, newest: int, zone: ZoneInfo) -> None:
    """Let go of what is old, or too many, in the account's life; facts stay."""
    lifecycle.drop_old(facts.life, newest, zone)


def derived(_columns: Columns, facts: Facts) -> Derived:
    """The figures of an account that a score needs."""
    seats = facts.numbers.get("seats")
    return facts.number("is_deleted") == 1, *((0, NEVER) if seats is None else (seats.value, seats.at))


def put(columns: Columns, slots: Ints, many: Sequence[Derived]) -> None:
    """Put the figures of some accounts into their columns."""
    is_deleted, seats, seats_at = zip(*many, strict=True)
    columns.is_deleted[slots] = is_deleted
    columns.fact_seats[slots] = seats
    columns.fact_seats_at[slots] = seats_at
