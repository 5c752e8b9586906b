"""The events that the service reads: one type for each kind, with its payload, and which topic carries it.

A type `ticket.status_changed` is the class `TicketStatusChanged` (the envelope) with a `TicketStatusChangedData` (its `data`).
Members are named as on the wire; `from` is the attribute `from_`. What the contract leaves open is decided here:

- Required is only what makes the event what it is, and what an account's state is folded from. Everything else may be left out.
- A member that may be left out may also be null, which means the same, unless it has a default (`count`, `items`, `priority` ...).
- Members that nobody knows are ignored.
- Texts that are kept have a greatest length, so that no account's state grows without bound; free text that is not kept has none.
- Amounts of charges, disputes and prices are not negative. Those of refunds, credit notes, invoices, their lines and costs may be.
- What only several members together can tell (a score is on its scale, a period ends after it began) is a rule of `RULES`.
"""

from datetime import date
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct, field
from msgspec.structs import fields

from models.kpi.money import is_known
from models.times import RFC3339_PATTERN, parse_us

_END = r"(?![\s\S])"  # `$` would let a last newline pass in Python.

NEWER_SCHEMA: Final = r"(?:/|^urn:.*:)v?(?:[2-9]|[1-9][0-9]+)(?:\.json)?" + _END
"""Found in a `dataschema` that names a major version after the first, as in `https://example.com/usage.event/2.json`."""

CURRENCY_PATTERN: Final = "^[A-Z]{3}" + _END
DECIMAL_PATTERN: Final = r"^[0-9]{1,18}(?:\.[0-9]{1,12})?" + _END
DAY_PATTERN: Final = r"^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])" + _END
RATE_PATTERN: Final = r"^(?=[0-9.]*[1-9])[0-9]{1,12}(?:\.[0-9]{1,18})?" + _END

EVENT_ID_MAX: Final = 128
SUBJECT_MAX: Final = 256

EventId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=EVENT_ID_MAX, description="Unique within `source`.")]
Source: TypeAlias = Annotated[str, Meta(min_length=1, description="Who says so: `segment`, `stripe`, `/app/production` ...")]
Subject: TypeAlias = Annotated[str, Meta(min_length=1, max_length=SUBJECT_MAX, description="The account id; equals the record's key.")]
DataSchema: TypeAlias = Annotated[
    str,
    Meta(pattern=f"^(?!.*{NEWER_SCHEMA})", description="The schema of `data`; a major version after 1 is not read."),
]
OccurredAt: TypeAlias = Annotated[
    # Checked for a whole batch at once, after decoding; the schema says the same.
    str,
    Meta(
        description="When it happened: RFC 3339 with an offset.",
        extra_json_schema={"format": "date-time", "pattern": RFC3339_PATTERN},
    ),
]

Instant: TypeAlias = Annotated[
    str,
    Meta(
        pattern=RFC3339_PATTERN,
        description="RFC 3339 with an offset.",
        extra_json_schema={"format": "date-time"},
    ),
]
ObjectId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Name: TypeAlias = Annotated[str, Meta(max_length=1_000)]
Label: TypeAlias = Annotated[str, Meta(max_length=256)]
Text: TypeAlias = str
Comment: TypeAlias = Annotated[str, Meta(max_length=10_000)]
Currency: TypeAlias = Annotated[str, Meta(pattern=CURRENCY_PATTERN, description="ISO 4217, upper case.")]
Minor: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="In minor units of the currency.")]
NonNegativeMinor: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1, description="In minor units of the currency.")]
DecimalMinor: TypeAlias = Annotated[str, Meta(pattern=DECIMAL_PATTERN, description="In minor units, parts of them allowed.")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Attempt: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000_000, description="Which attempt to collect it, counted from 1.")]
Version: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1, description="Grows with each change of the object.")]
IntervalCount: TypeAlias = Annotated[int, Meta(ge=1, le=1_000)]
Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
Milliseconds: TypeAlias = Annotated[float, Meta(ge=0, description="Milliseconds.")]
Attributes: TypeAlias = dict[str, Any]

TicketStatus: TypeAlias = Literal["new", "open", "pending", "hold", "solved", "closed"]
Priority: TypeAlias = Literal["low", "normal", "high", "urgent"]
TicketKind: TypeAlias = Literal["question", "incident", "problem", "task"]
AuthorRole: TypeAlias = Literal["agent", "customer", "bot"]
SubscriptionStatus: TypeAlias = Literal[
    "incomplete",
    "incomplete_expired",
    "trialing",
    "active",
    "past_due",
    "canceled",
    "unpaid",
    "paused",
]
Interval: TypeAlias = Literal["day", "week", "month", "quarter", "half_year", "year"]
UsageType: TypeAlias = Literal["licensed", "metered"]
UserRole: TypeAlias = Literal["champion", "sponsor", "admin", "member"]
RenewalOutcomeName: TypeAlias = Literal["renewed", "lapsed", "cancelled", "expanded", "contracted"]
TouchpointKind: TypeAlias = Literal["meeting", "email", "qbr", "call"]
PulseNumber: TypeAlias = Annotated[int, Meta(ge=1, le=5)]
PulseColour: TypeAlias = Literal["red", "yellow", "green"]
SurveyKind: TypeAlias = Literal["nps", "csat", "ces", "custom"]
Direction: TypeAlias = Literal["higher_better", "lower_better"]
ScalePoint: TypeAlias = Annotated[int, Meta(ge=-1_000, le=1_000)]
Score: TypeAlias = Annotated[float, Meta(ge=-1_000, le=1_000, description="On the scale; a whole number for nps.")]
CostCategory: TypeAlias = Literal[
    "acquisition.marketing",
    "acquisition.sales",
    "retention.cs",
    "retention.support",
    "retention.marketing",
    "cogs",
    "opex",
]
CostAllocation: TypeAlias = Literal["none", "equal", "mrr"]

NPS_WHOLE: Final = "score: expected a whole number for nps"
NPS_SCALE: Final = "scale_max: expected a scale of 0 or 1 to 10, higher_better, for nps"
SCALE_ORDER: Final = "scale_max: expected more than scale_min"
ON_THE_SCALE: Final = "score: expected a score from scale_min to scale_max"
PERIOD_ORDER: Final = "period.end: expected an instant after the start"
A_DAY: Final = "day: expected a day of the calendar"
KNOWN_CURRENCY: Final = "currency: expected one of ISO 4217, and into another one"

RULES: Final[dict[str, Literal["bad_type", "bad_value"]]] = {
    NPS_WHOLE: "bad_type",
    NPS_SCALE: "bad_value",
    SCALE_ORDER: "bad_value",
    ON_THE_SCALE: "bad_value",
    PERIOD_ORDER: "bad_value",
    A_DAY: "bad_value",
    KNOWN_CURRENCY: "bad_value",
}
"""What several members of `data` must be to each other, each as its complaint, and the reason why a record that breaks it is unusable."""

NPS_MAX: Final = 10


class Payload(Struct, frozen=True, gc=False, omit_defaults=True):
    """What an event says. Written again, a member that says no more than its default is left out."""


class Envelope(Struct, frozen=True, gc=False, kw_only=True):
    """The CloudEvents members that every event has besides its `type` and `data`."""

    id: EventId
    source: Source
    time: OccurredAt
    subject: Subject
    specversion: Literal["1.0"] | None = None
    dataschema: DataSchema | None = None


class Money(Payload, frozen=True):
    """An amount in minor units; a credit is negative."""

    amount_minor: Minor
    currency: Currency


class NonNegativeMoney(Money, frozen=True):
    """An amount in minor units that is never a credit."""

    amount_minor: NonNegativeMinor


class Period(Payload, frozen=True):
    """A span of time, `[start, end)`."""

    start: Instant
    end: Instant


class Campaign(Payload, frozen=True):
    """What brought a visitor."""

    source: Label | None = None
    medium: Label | None = None
    name: Label | None = None


# usage-events


class UsageEventData(Payload, frozen=True, kw_only=True):
    """Somebody used something, `count` times."""

    event: Annotated[str, Meta(min_length=1, description="What was done, e.g. `report_exported`.")]
    user_id: str | None = None
    anonymous_id: str | None = None
    feature: str | None = None
    count: Count = 1
    value: float | None = None
    unit: str | None = None
    session_id: str | None = None
    duration_ms: Milliseconds | None = None
    properties: Attributes | None = None


class UsageEvent(Envelope, frozen=True, kw_only=True, tag_field="type", tag="usage.event"):
    """Product usage."""

    data: UsageEventData


class UsageSessionData(Payload, frozen=True, kw_only=True):
    """A visit to the product."""

    session_id: ObjectId
    user_id: str | None = None
    started_at: Instant | None = None
    ended_at: Instant | None = None
    pages: Count | None = None
    is_bounce: bool | None = None


class UsageSession(Envelope, frozen=True, kw_only=True, tag_field="type", tag="usage.session"):
    """A visit to the product; counts as one use."""

    data: UsageSessionData


class UsagePageData(Payload, frozen=True, kw_only=True):
    """A page that was looked at."""

    path: str
    referrer: str | None = None
    visitor_id: str | None = None
    campaign: Campaign | None = None


class UsagePage(Envelope, frozen=True, kw_only=True, tag_field="type", tag="usage.page"):
    """A page that was looked at; counts as one use."""

    data: UsagePageData


class UsageGaugeData(Payload, frozen=True, kw_only=True):
    """A licence or quota as it stands."""

    metric: ObjectId
    value: float
    seats: Count | None = None


class UsageGauge(Envelope, frozen=True, kw_only=True, tag_field="type", tag="usage.gauge"):
    """A licence or quota snapshot; counts as no use."""

    data: UsageGaugeData


class UsageErrorData(Payload, frozen=True, kw_only=True):
    """Something failed, `count` times."""

    kind: ObjectId
    count: Count = 1


class UsageError(Envelope, frozen=True, kw_only=True, tag_field="type", tag="usage.error"):
    """Failed queries, crashes; counts as no use."""

    data: UsageErrorData


# ticket-events


class TicketCreatedData(Payload, frozen=True, kw_only=True):
    """A new ticket."""

    ticket_id: ObjectId
    user_id: str | None = None
    subject: Text | None = None
    channel: Label | None = None
    priority: Priority = "normal"
    kind: TicketKind | None = None
    tags: tuple[str, ...] | None = None
    department: Label | None = None


class TicketCreated(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.created"):
    """A ticket was opened."""

    data: TicketCreatedData


class TicketRepliedData(Payload, frozen=True, kw_only=True):
    """An answer or a note on a ticket."""

    ticket_id: ObjectId
    author_role: AuthorRole
    public: Annotated[bool, Meta(description="Whether the customer sees it.")]
    department: Label | None = None
    text: Text | None = None


class TicketReplied(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.replied"):
    """Somebody wrote on a ticket."""

    data: TicketRepliedData


class TicketStatusChangedData(Payload, frozen=True, kw_only=True):
    """The status of a ticket, before and after."""

    ticket_id: ObjectId
    from_: TicketStatus | None = field(default=None, name="from")
    to: TicketStatus
    reason: Text | None = None


class TicketStatusChanged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.status_changed"):
    """A ticket has another status."""

    data: TicketStatusChangedData


class TicketPriorityChangedData(Payload, frozen=True, kw_only=True):
    """The priority of a ticket, before and after."""

    ticket_id: ObjectId
    from_: Priority | None = field(default=None, name="from")
    to: Priority


class TicketPriorityChanged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.priority_changed"):
    """A ticket has another priority."""

    data: TicketPriorityChangedData


class TicketAssignedData(Payload, frozen=True, kw_only=True):
    """Who takes care of a ticket."""

    ticket_id: ObjectId
    agent_id: Label | None = None
    department: Label | None = None


class TicketAssigned(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.assigned"):
    """A ticket was given to somebody."""

    data: TicketAssignedData


class TicketReopenedData(Payload, frozen=True, kw_only=True):
    """Which ticket."""

    ticket_id: ObjectId


class TicketReopened(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.reopened"):
    """A solved ticket was opened again."""

    data: TicketReopenedData


class TicketMergedData(Payload, frozen=True, kw_only=True):
    """Which ticket, and which one goes on in its place."""

    ticket_id: ObjectId
    into: ObjectId


class TicketMerged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.merged"):
    """A ticket became part of another."""

    data: TicketMergedData


class TicketDeletedData(Payload, frozen=True, kw_only=True):
    """Which ticket."""

    ticket_id: ObjectId


class TicketDeleted(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.deleted"):
    """A ticket was deleted, or was spam."""

    data: TicketDeletedData


class TicketAccountChangedData(Payload, frozen=True, kw_only=True):
    """The account of a ticket, before and after."""

    ticket_id: ObjectId
    from_: ObjectId | None = field(default=None, name="from")
    to: ObjectId


class TicketAccountChanged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.account_changed"):
    """A ticket belongs to another account; sent once for each of the two."""

    data: TicketAccountChangedData


class TicketAbandonedData(Payload, frozen=True, kw_only=True):
    """How long somebody waited in vain."""

    wait_ms: Milliseconds
    ticket_id: ObjectId | None = None


class TicketAbandoned(Envelope, frozen=True, kw_only=True, tag_field="type", tag="ticket.abandoned"):
    """A call ended while it was waiting."""

    data: TicketAbandonedData


# payment-events


class SubscriptionItem(Payload, frozen=True, kw_only=True):
    """What is subscribed to: a price for every `interval_count` intervals, times the quantity."""

    item_id: ObjectId | None = None
    product_id: Label | None = None
    price_id: Label | None = None
    unit_amount_minor: NonNegativeMinor | DecimalMinor
    quantity: Count = 1
    interval: Interval
    interval_count: IntervalCount = 1
    usage_type: UsageType = "licensed"


class Discount(Payload, frozen=True, kw_only=True):
    """A reduction, as a share or as an amount in the subscription's currency."""

    percent: Percent | None = None
    amount_minor: NonNegativeMinor | None = None
    duration: Label | None = None


class Pause(Payload, frozen=True, kw_only=True):
    """Collection is paused; the status of the subscription stays."""

    behavior: Label | None = None
    resumes_at: Instant | None = None


class Cancellation(Payload, frozen=True, kw_only=True):
    """What was said about a cancellation."""

    reason: Label | None = None
    feedback: Label | None = None
    comment: Comment | None = None


class SubscriptionUpsertedData(Payload, frozen=True, kw_only=True):
    """A subscription as it is now, whole. The greatest `version` counts."""

    subscription_id: ObjectId
    status: SubscriptionStatus
    items: Annotated[tuple[SubscriptionItem, ...], Meta(max_length=100)]
    currency: Currency
    version: Version
    discounts: Annotated[tuple[Discount, ...], Meta(max_length=100)] = ()
    started_at: Instant | None = None
    current_period_start: Instant | None = None
    current_period_end: Instant | None = None
    trial_start: Instant | None = None
    trial_end: Instant | None = None
    cancel_at: Instant | None = None
    cancel_at_period_end: bool = False
    canceled_at: Instant | None = None
    ended_at: Instant | None = None
    pause: Pause | None = None
    cancellation: Cancellation | None = None
    auto_renew: bool | None = None


class SubscriptionUpserted(Envelope, frozen=True, kw_only=True, tag_field="type", tag="subscription.upserted"):
    """A subscription is new or has changed."""

    data: SubscriptionUpsertedData


class InvoiceLine(Payload, frozen=True, kw_only=True):
    """A line of an invoice, in its currency."""

    product_id: Label | None = None
    amount_minor: Minor
    recurring: bool | None = None
    period: Period | None = None
    proration: bool = False


class InvoiceData(Payload, frozen=True, kw_only=True):
    """An invoice, as far as the sender tells."""

    invoice_id: ObjectId
    subscription_id: ObjectId | None = None
    billing_reason: Label | None = None
    total: Money | None = None
    tax: Money | None = None
    lines: tuple[InvoiceLine, ...] | None = None
    due_at: Instant | None = None
    attempt: Attempt = 1
    next_attempt_at: Instant | None = None


class InvoiceIssuedData(InvoiceData, frozen=True, kw_only=True):
    """A new invoice, with its total."""

    total: Money


class InvoiceIssued(Envelope, frozen=True, kw_only=True, tag_field="type", tag="invoice.issued"):
    """An invoice was sent."""

    data: InvoiceIssuedData


class InvoicePaidData(InvoiceData, frozen=True, kw_only=True):
    """The invoice that was paid."""


class InvoicePaid(Envelope, frozen=True, kw_only=True, tag_field="type", tag="invoice.paid"):
    """An invoice was paid."""

    data: InvoicePaidData


class InvoicePaymentFailedData(InvoiceData, frozen=True, kw_only=True):
    """The invoice, and which attempt failed."""


class InvoicePaymentFailed(Envelope, frozen=True, kw_only=True, tag_field="type", tag="invoice.payment_failed"):
    """An attempt to collect an invoice failed."""

    data: InvoicePaymentFailedData


class InvoiceVoidedData(InvoiceData, frozen=True, kw_only=True):
    """The invoice that is void."""


class InvoiceVoided(Envelope, frozen=True, kw_only=True, tag_field="type", tag="invoice.voided"):
    """An invoice is owed no more."""

    data: InvoiceVoidedData


class InvoiceOverdueData(InvoiceData, frozen=True, kw_only=True):
    """The invoice that is overdue."""


class InvoiceOverdue(Envelope, frozen=True, kw_only=True, tag_field="type", tag="invoice.overdue"):
    """An invoice should have been paid by now."""

    data: InvoiceOverdueData


InvoiceEvent: TypeAlias = InvoiceIssued | InvoicePaid | InvoicePaymentFailed | InvoiceVoided | InvoiceOverdue


class ChargeData(Payload, frozen=True, kw_only=True):
    """An attempt to take money."""

    charge_id: ObjectId
    amount: NonNegativeMoney
    failure_code: Label | None = None
    order_id: Annotated[ObjectId, Meta(description="Of a one-off purchase.")] | None = None


class ChargeSucceededData(ChargeData, frozen=True, kw_only=True):
    """The charge that succeeded."""


class ChargeSucceeded(Envelope, frozen=True, kw_only=True, tag_field="type", tag="charge.succeeded"):
    """Money was taken."""

    data: ChargeSucceededData


class ChargeFailedData(ChargeData, frozen=True, kw_only=True):
    """The charge that failed."""


class ChargeFailed(Envelope, frozen=True, kw_only=True, tag_field="type", tag="charge.failed"):
    """Money could not be taken."""

    data: ChargeFailedData


class RefundCreatedData(Payload, frozen=True, kw_only=True):
    """Money given back; its amount counts the same with either sign."""

    refund_id: ObjectId
    charge_id: ObjectId | None = None
    amount: Money
    reason: Label | None = None
    cancels_subscription: bool = False


class RefundCreated(Envelope, frozen=True, kw_only=True, tag_field="type", tag="refund.created"):
    """A charge was refunded, whole or in part."""

    data: RefundCreatedData


class DisputeData(Payload, frozen=True, kw_only=True):
    """A charge that the payer's bank asks back."""

    dispute_id: ObjectId
    amount: NonNegativeMoney
    outcome: Label | None = None


class DisputeOpenedData(DisputeData, frozen=True, kw_only=True):
    """The dispute that was opened."""


class DisputeOpened(Envelope, frozen=True, kw_only=True, tag_field="type", tag="dispute.opened"):
    """A charge is disputed."""

    data: DisputeOpenedData


class DisputeClosedData(DisputeData, frozen=True, kw_only=True):
    """The dispute that was closed, and how."""


class DisputeClosed(Envelope, frozen=True, kw_only=True, tag_field="type", tag="dispute.closed"):
    """A dispute was decided."""

    data: DisputeClosedData


class CreditNoteCreatedData(Payload, frozen=True, kw_only=True):
    """A correction of an invoice."""

    credit_note_id: ObjectId
    amount: Money
    invoice_id: ObjectId | None = None


class CreditNoteCreated(Envelope, frozen=True, kw_only=True, tag_field="type", tag="credit_note.created"):
    """An invoice was corrected by a credit note."""

    data: CreditNoteCreatedData


# account-events


class AccountData(Payload, frozen=True, kw_only=True):
    """Facts of an account; each one that is there replaces what was known."""

    name: Name | None = None
    segment: Label | None = None
    industry: Label | None = None
    employees: Count | None = None
    region: Label | None = None
    plan: Label | None = None
    seats: Count | None = None
    parent_id: ObjectId | None = None
    owner: Annotated[Label, Meta(description="The CSM.")] | None = None
    created_at: Instant | None = None
    lifecycle_stage: Label | None = None
    currency: Currency | None = None
    custom: Attributes | None = None


class AccountCreatedData(AccountData, frozen=True, kw_only=True):
    """Facts of the new account."""


class AccountCreated(Envelope, frozen=True, kw_only=True, tag_field="type", tag="account.created"):
    """An account exists (again)."""

    data: AccountCreatedData


class AccountUpdatedData(AccountData, frozen=True, kw_only=True):
    """Facts that have changed."""


class AccountUpdated(Envelope, frozen=True, kw_only=True, tag_field="type", tag="account.updated"):
    """Facts of an account have changed."""

    data: AccountUpdatedData


class AccountDeletedData(AccountData, frozen=True, kw_only=True):
    """The account as it was."""


class AccountDeleted(Envelope, frozen=True, kw_only=True, tag_field="type", tag="account.deleted"):
    """An account exists no more."""

    data: AccountDeletedData


class AccountOwnerChangedData(Payload, frozen=True, kw_only=True):
    """The CSM, before and after."""

    from_: Label | None = field(default=None, name="from")
    to: Label


class AccountOwnerChanged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="account.owner_changed"):
    """An account has another CSM."""

    data: AccountOwnerChangedData


class AccountStageChangedData(Payload, frozen=True, kw_only=True):
    """The stage of the life cycle, before and after."""

    from_: Label | None = field(default=None, name="from")
    to: Label


class AccountStageChanged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="account.stage_changed"):
    """An account is in another stage of its life cycle."""

    data: AccountStageChangedData


class Alias(Payload, frozen=True, kw_only=True):
    """What another system calls the account."""

    system: ObjectId
    id: ObjectId


class AccountAliasedData(Payload, frozen=True, kw_only=True):
    """Another name of the account."""

    alias: Alias


class AccountAliased(Envelope, frozen=True, kw_only=True, tag_field="type", tag="account.aliased"):
    """Another system knows the account by a name of its own."""

    data: AccountAliasedData


class UserAddedData(Payload, frozen=True, kw_only=True):
    """The user, and what they are to the account."""

    user_id: ObjectId
    role: UserRole | None = None


class UserAdded(Envelope, frozen=True, kw_only=True, tag_field="type", tag="user.added"):
    """A user joined the account."""

    data: UserAddedData


class UserRemovedData(Payload, frozen=True, kw_only=True):
    """The user who left."""

    user_id: ObjectId
    role: UserRole | None = None


class UserRemoved(Envelope, frozen=True, kw_only=True, tag_field="type", tag="user.removed"):
    """A user left the account."""

    data: UserRemovedData


class UserRoleChangedData(Payload, frozen=True, kw_only=True):
    """The user and the new role."""

    user_id: ObjectId
    role: UserRole


class UserRoleChanged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="user.role_changed"):
    """A user is something else to the account."""

    data: UserRoleChangedData


class SignupCompletedData(Payload, frozen=True, kw_only=True):
    """Who signed up, and what brought them."""

    user_id: ObjectId
    visitor_id: Label | None = None
    channel: Label | None = None
    campaign: Campaign | None = None
    referred_by: Label | None = None


class SignupCompleted(Envelope, frozen=True, kw_only=True, tag_field="type", tag="signup.completed"):
    """Somebody signed up."""

    data: SignupCompletedData


class OnboardingStepCompletedData(Payload, frozen=True, kw_only=True):
    """The step that is done."""

    step: ObjectId
    checklist: Label | None = None


class OnboardingStepCompleted(Envelope, frozen=True, kw_only=True, tag_field="type", tag="onboarding.step_completed"):
    """A step of the onboarding is done."""

    data: OnboardingStepCompletedData


class TrialData(Payload, frozen=True, kw_only=True):
    """A trial."""

    trial_id: ObjectId
    plan: Label | None = None
    card_on_file: bool | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None


class TrialStartedData(TrialData, frozen=True, kw_only=True):
    """The trial that started."""


class TrialStarted(Envelope, frozen=True, kw_only=True, tag_field="type", tag="trial.started"):
    """A trial started."""

    data: TrialStartedData


class TrialConvertedData(TrialData, frozen=True, kw_only=True):
    """The trial that is paid for now."""


class TrialConverted(Envelope, frozen=True, kw_only=True, tag_field="type", tag="trial.converted"):
    """A trial became a subscription."""

    data: TrialConvertedData


class TrialEndedData(TrialData, frozen=True, kw_only=True):
    """The trial that ended."""


class TrialEnded(Envelope, frozen=True, kw_only=True, tag_field="type", tag="trial.ended"):
    """A trial ended without a subscription."""

    data: TrialEndedData


class ContractData(Payload, frozen=True, kw_only=True):
    """A contract and its term."""

    contract_id: ObjectId
    term_start: Instant | None = None
    term_end: Instant | None = None
    outcome: RenewalOutcomeName | None = None
    mrr: Money | None = None


class ContractSignedData(ContractData, frozen=True, kw_only=True):
    """The contract that was signed."""


class ContractSigned(Envelope, frozen=True, kw_only=True, tag_field="type", tag="contract.signed"):
    """A contract was signed."""

    data: ContractSignedData


class RenewalDueData(ContractData, frozen=True, kw_only=True):
    """The contract whose term ends."""


class RenewalDue(Envelope, frozen=True, kw_only=True, tag_field="type", tag="renewal.due"):
    """The term of a contract comes to its end."""

    data: RenewalDueData


class RenewalOutcomeData(ContractData, frozen=True, kw_only=True):
    """The contract, and what became of it."""


class RenewalOutcome(Envelope, frozen=True, kw_only=True, tag_field="type", tag="renewal.outcome"):
    """A renewal was decided."""

    data: RenewalOutcomeData


class ReferralMadeData(Payload, frozen=True, kw_only=True):
    """The referral."""

    referral_id: ObjectId
    referred_account: ObjectId | None = None


class ReferralMade(Envelope, frozen=True, kw_only=True, tag_field="type", tag="referral.made"):
    """The account recommended us to another."""

    data: ReferralMadeData


class ReferralConvertedData(Payload, frozen=True, kw_only=True):
    """The referral that became an account."""

    referral_id: ObjectId
    referred_account: ObjectId | None = None


class ReferralConverted(Envelope, frozen=True, kw_only=True, tag_field="type", tag="referral.converted"):
    """A referral became an account."""

    data: ReferralConvertedData


class EntitlementChangedData(Payload, frozen=True, kw_only=True):
    """What the account may use now."""

    features: tuple[Label, ...] | None = None
    seats: Count | None = None


class EntitlementChanged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="entitlement.changed"):
    """The account may use something else."""

    data: EntitlementChangedData


class TouchpointLoggedData(Payload, frozen=True, kw_only=True):
    """A contact between the CSM and the account."""

    kind: TouchpointKind
    direction: Label | None = None
    outcome: Label | None = None
    sentiment: float | Label | None = None


class TouchpointLogged(Envelope, frozen=True, kw_only=True, tag_field="type", tag="touchpoint.logged"):
    """A contact was logged."""

    data: TouchpointLoggedData


class CsmPulseSetData(Payload, frozen=True, kw_only=True):
    """How the CSM sees the account."""

    value: PulseNumber | PulseColour
    comment: Text | None = None


class CsmPulseSet(Envelope, frozen=True, kw_only=True, tag_field="type", tag="csm.pulse_set"):
    """The CSM gave their own view."""

    data: CsmPulseSetData


class ChampionLeftData(Payload, frozen=True, kw_only=True):
    """The champion."""

    user_id: ObjectId


class ChampionLeft(Envelope, frozen=True, kw_only=True, tag_field="type", tag="champion.left"):
    """The account's champion left it."""

    data: ChampionLeftData


class RecommendationMadeData(Payload, frozen=True, kw_only=True):
    """The recommendation, by a name under which it is found again when the account follows it."""

    recommendation_id: ObjectId | None = None


class RecommendationMade(Envelope, frozen=True, kw_only=True, tag_field="type", tag="recommendation.made"):
    """The CSM recommended something to the account."""

    data: RecommendationMadeData


class RecommendationActionedData(Payload, frozen=True, kw_only=True):
    """The recommendation that was followed."""

    recommendation_id: ObjectId | None = None


class RecommendationActioned(Envelope, frozen=True, kw_only=True, tag_field="type", tag="recommendation.actioned"):
    """The account followed a recommendation."""

    data: RecommendationActionedData


# survey-events


class SurveyOfferedData(Payload, frozen=True, kw_only=True):
    """Which survey, and who was asked."""

    survey_id: ObjectId
    kind: SurveyKind
    user_id: ObjectId


class SurveyOffered(Envelope, frozen=True, kw_only=True, tag_field="type", tag="survey.offered"):
    """Somebody was asked to answer a survey."""

    data: SurveyOfferedData


class SurveyAnsweredData(Payload, frozen=True, kw_only=True):
    """An answer on its scale. Good and bad are 1 and 0 on a scale of 0 to 1; nps may begin at 1."""

    survey_id: ObjectId
    kind: SurveyKind
    score: Score
    scale_min: ScalePoint
    scale_max: ScalePoint
    direction: Annotated[Direction, Meta(description="`lower_better` where a high score is bad, as for effort asked in the old way.")] = (
        "higher_better"
    )
    user_id: ObjectId
    ticket_id: ObjectId | None = None
    comment: Text | None = None
    language: Label | None = None

    def __post_init__(self) -> None:
        """Raise ValueError, with the rule of `RULES` that is broken, for a score that is not on its scale."""
        if self.kind == "nps":
            if not self.score.is_integer():
                raise ValueError(NPS_WHOLE)
            if self.scale_min not in (0, 1) or self.scale_max != NPS_MAX or self.direction != "higher_better":
                raise ValueError(NPS_SCALE)
        if self.scale_max <= self.scale_min:
            raise ValueError(SCALE_ORDER)
        if not self.scale_min <= self.score <= self.scale_max:
            raise ValueError(ON_THE_SCALE)


class SurveyAnswered(Envelope, frozen=True, kw_only=True, tag_field="type", tag="survey.answered"):
    """Somebody answered a survey."""

    data: SurveyAnsweredData


class FeedbackReceivedData(Payload, frozen=True, kw_only=True):
    """What somebody wrote of their own accord."""

    channel: Label
    text: Text
    rating: float | None = None
    language: Annotated[Label, Meta(description="BCP 47, e.g. `en` or `de-AT`.")] | None = None


class FeedbackReceived(Envelope, frozen=True, kw_only=True, tag_field="type", tag="feedback.received"):
    """Feedback in words."""

    data: FeedbackReceivedData


# cost-events


class CostRecordedData(Payload, frozen=True, kw_only=True):
    """A cost, spread evenly over the days of its period; a credit is negative."""

    category: CostCategory
    amount: Money
    period: Period
    account_id: ObjectId | None = None
    channel: Label | None = None
    allocation: Annotated[CostAllocation, Meta(description="How a cost of no account is shared out among accounts.")] = "none"

    def __post_init__(self) -> None:
        """Raise ValueError, with the rule of `RULES` that is broken, for a period that does not end after it began."""
        if parse_us(self.period.end) <= parse_us(self.period.start):
            raise ValueError(PERIOD_ORDER)


class CostRecorded(Envelope, frozen=True, kw_only=True, tag_field="type", tag="cost.recorded"):
    """A cost of the portfolio, or of one account; the subject is `_costs`."""

    data: CostRecordedData


# account-commands

EVERYBODY: Final = "_all"
"""The subject and the key of a command that is for all accounts: its record is in every partition."""

Everybody: TypeAlias = Annotated[Literal["_all"], Meta(description="For all accounts; the same record is in every partition.")]


class ExchangeRateSetData(Payload, frozen=True, kw_only=True):
    """What one whole unit of a currency is worth from a day on, until the next rate."""

    day: Annotated[str, Meta(pattern=DAY_PATTERN, description="In UTC; also one that is over.", extra_json_schema={"format": "date"})]
    currency: Currency
    into: Annotated[Currency, Meta(description="The currency that amounts are reported in.")]
    rate: Annotated[str, Meta(pattern=RATE_PATTERN, description="A decimal above 0: `1.0850`.")]

    def __post_init__(self) -> None:
        """Raise ValueError, with the rule of `RULES` that is broken, for a day or a currency that does not exist."""
        try:
            date.fromisoformat(self.day)
        except ValueError:
            raise ValueError(A_DAY) from None
        if not (is_known(self.currency) and is_known(self.into)) or self.currency == self.into:
            raise ValueError(KNOWN_CURRENCY)


class ExchangeRateSet(Envelope, frozen=True, kw_only=True, tag_field="type", tag="exchange_rate.set"):
    """An exchange rate, in place of the one that was said for that day before. The last write by `(time, id)` counts."""

    subject: Everybody
    data: ExchangeRateSetData


BROADCASTS: Final[frozenset[type[Envelope]]] = frozenset({ExchangeRateSet})
"""The commands that are for all accounts (`models.commands`)."""


TOPIC_EVENTS: Final[dict[str, tuple[type[Envelope], ...]]] = {
    "usage-events": (UsageEvent, UsageSession, UsagePage, UsageGauge, UsageError),
    "ticket-events": (
        TicketCreated,
        TicketReplied,
        TicketStatusChanged,
        TicketPriorityChanged,
        TicketAssigned,
        TicketReopened,
        TicketMerged,
        TicketDeleted,
        TicketAccountChanged,
        TicketAbandoned,
    ),
    "payment-events": (
        SubscriptionUpserted,
        InvoiceIssued,
        InvoicePaid,
        InvoicePaymentFailed,
        InvoiceVoided,
        InvoiceOverdue,
        ChargeSucceeded,
        ChargeFailed,
        RefundCreated,
        DisputeOpened,
        DisputeClosed,
        CreditNoteCreated,
    ),
    "account-events": (
        AccountCreated,
        AccountUpdated,
        AccountDeleted,
        AccountOwnerChanged,
        AccountStageChanged,
        AccountAliased,
        UserAdded,
        UserRemoved,
        UserRoleChanged,
        SignupCompleted,
        OnboardingStepCompleted,
        TrialStarted,
        TrialConverted,
        TrialEnded,
        ContractSigned,
        RenewalDue,
        RenewalOutcome,
        ReferralMade,
        ReferralConverted,
        EntitlementChanged,
        TouchpointLogged,
        CsmPulseSet,
        ChampionLeft,
        RecommendationMade,
        RecommendationActioned,
    ),
    "survey-events": (SurveyOffered, SurveyAnswered, FeedbackReceived),
    "cost-events": (CostRecorded,),
    "account-commands": (ExchangeRateSet,),
}
"""The events of each topic, by its name without a prefix."""

EVENT_CLASSES: Final[list[type[Envelope]]] = [event_class for classes in TOPIC_EVENTS.values() for event_class in classes]


def type_name(event_class: type[Envelope]) -> str:
    """Return the `type` that a class of events has on the wire, e.g. `usage.event`."""
    return str(event_class.__struct_config__.tag)


def payload_class(event_class: type[Envelope]) -> Any:
    """Return the class of the `data` of a class of events."""
    return next(member.type for member in fields(event_class) if member.name == "data")
