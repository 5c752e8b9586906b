"""What the simulator decides: the only thing that its events and its truth have in common.

Times are microseconds since 1970 in UTC, amounts minor units. A decision that has a course (a ticket, an invoice) is made with all of it;
what of that lies after the end of the simulation never happens.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

State = Literal["trialing", "active", "ending", "past_due", "paused", "ended"]
"""Of a subscription: `ending` is paid for and will end, `ended` is over whatever was the reason."""

Interval = Literal["month", "year"]


class Deal(NamedTuple):
    """A subscription as it is agreed: `seats` at `unit` minor units for each interval, less a discount in per cent."""

    name: str
    product: str
    seats: int
    unit: int
    interval: Interval
    currency: str
    started_at: int
    state: State = "active"
    discount: int = 0
    is_for_ever: bool = False
    period_start: int | None = None
    period_end: int | None = None
    trial_end: int | None = None
    ends_at: int | None = None
    resumes_at: int | None = None
    renews: bool = True
    is_dunned: bool = False


class Agreed(NamedTuple):
    """From `at` on a deal stands like this. `told_at` is when an event says so; None when none does, because time alone did it."""

    account: str
    at: int
    told_at: int | None
    deal: Deal
    why: str = ""


class Invoiced(NamedTuple):
    """An invoice and what became of it: each failed attempt, when it was paid or made void; never, where that is None."""

    account: str
    at: int
    name: str
    deal: str
    net: int
    tax: int
    one_off: int
    currency: str
    product: str
    failed: tuple[int, ...] = ()
    paid_at: int | None = None
    voided_at: int | None = None


class Ordered(NamedTuple):
    """Something bought once, and paid at once."""

    account: str
    at: int
    name: str
    amount: int
    currency: str


class GaveBack(NamedTuple):
    """Money given back: a refund of a charge, one that ends the annual deal, or a credit note of an invoice."""

    account: str
    at: int
    name: str
    amount: int
    currency: str
    kind: Literal["refund", "refund_and_end", "credit_note"]
    of: str


class Joined(NamedTuple):
    """An account exists; `segment` is the one that it has at first."""

    account: str
    at: int
    created_at: int
    name: str
    segment: str | None
    industry: str
    region: str
    employees: int
    seats: int
    plan: str
    owner: str
    currency: str
    stage: str


class Changed(NamedTuple):
    """Facts of an account are others now; None is no change."""

    account: str
    at: int
    segment: str | None = None
    owner: str | None = None
    former_owner: str | None = None
    stage: str | None = None
    former_stage: str | None = None
    seats: int | None = None
    features: tuple[str, ...] | None = None
    is_deleted: bool = False


class UserMoved(NamedTuple):
    """A user joins the account, gets another role, or leaves it."""

    account: str
    at: int
    user: str
    what: Literal["added", "role_changed", "removed", "champion_left"]
    role: str | None = None


class SignedUp(NamedTuple):
    """The first user of an account signs up."""

    account: str
    at: int
    user: str
    visitor: str
    channel: str
    referred_by: str | None


class StepDone(NamedTuple):
    """A step of the onboarding is done."""

    account: str
    at: int
    checklist: str
    step: str


class Tried(NamedTuple):
    """A trial from `at` to `ends_at`: it converts, or ends without; or neither is known yet, where both are None."""

    account: str
    at: int
    name: str
    plan: str
    has_card: bool | None
    ends_at: int
    converted_at: int | None
    ended_at: int | None


class Term(NamedTuple):
    """A contract is signed: its term, what it is worth in a month, and when the end of it is announced."""

    account: str
    at: int
    name: str
    start: int
    end: int
    amount: int
    currency: str
    due_told_at: int | None


class Renewal(NamedTuple):
    """What became of a renewal; `end` is the end of the term that it is about."""

    account: str
    at: int
    name: str
    end: int
    outcome: Literal["renewed", "lapsed", "cancelled", "expanded", "contracted"]


class Referred(NamedTuple):
    """The account recommended us: to whom, and when that one became an account; never, where that is None."""

    account: str
    at: int
    name: str
    to: str
    converted_at: int | None


class Contact(NamedTuple):
    """A contact between the CSM and the account."""

    account: str
    at: int
    kind: Literal["meeting", "email", "qbr", "call"]
    direction: str
    outcome: str | None


class Pulse(NamedTuple):
    """How the CSM sees the account, 1 to 5."""

    account: str
    at: int
    value: int


class Advised(NamedTuple):
    """The CSM recommends something, and the account does it; never, where that is None."""

    account: str
    at: int
    name: str
    done_at: int | None


StepKind = Literal[
    "assigned", "agent_reply", "note", "customer_reply", "open", "urgent", "calm", "solved", "closed", "reopened", "merged", "deleted"
]


class TicketStep(NamedTuple):
    """Something happens to a ticket; `who` is the agent or the department, or the ticket that it is merged into."""

    at: int
    what: StepKind
    who: str = ""


class Ticket(NamedTuple):
    """A ticket and all that will happen to it, in the order of time, no two things at once."""

    account: str
    at: int
    name: str
    user: str
    channel: str
    priority: Literal["low", "normal", "high", "urgent"]
    kind: Literal["question", "incident", "problem", "task"]
    department: str
    steps: tuple[TicketStep, ...]


class GaveUp(NamedTuple):
    """A call that ended while waiting."""

    account: str
    at: int
    waited_ms: int


class Asked(NamedTuple):
    """Somebody is asked to answer a survey, and answers: at each of these times, with that score."""

    account: str
    at: int
    name: str
    kind: Literal["nps", "csat", "ces"]
    user: str
    scale: tuple[int, int]
    answers: tuple[tuple[int, int], ...]
    comment: str | None = None
    language: str | None = None
    ticket: str | None = None


class Wrote(NamedTuple):
    """Somebody wrote something of their own accord."""

    account: str
    at: int
    channel: str
    text: str
    language: str | None


class Used(NamedTuple):
    """What a user did at an instant."""

    account: str
    at: int
    user: str
    feature: str
    times: int
    ms: int


class Snapshot(NamedTuple):
    """The seats of an account, counted as a month ends."""

    account: str
    at: int
    seats: int


class Failure(NamedTuple):
    """The product failed for an account."""

    account: str
    at: int
    kind: str
    times: int


class Spent(NamedTuple):
    """A cost over `[start, end)`; one with the name of an earlier one takes its place."""

    account: str
    at: int
    name: str
    category: str
    amount: int
    currency: str
    start: int
    end: int
    channel: str | None = None
    of: str | None = None
    allocation: Literal["none", "equal", "mrr"] = "none"


Decision: TypeAlias = (
    Agreed
    | Invoiced
    | Ordered
    | GaveBack
    | Joined
    | Changed
    | UserMoved
    | SignedUp
    | StepDone
    | Tried
    | Term
    | Renewal
    | Referred
    | Contact
    | Pulse
    | Advised
    | Ticket
    | GaveUp
    | Asked
    | Wrote
    | Used
    | Snapshot
    | Failure
    | Spent
)
