"""The subscriptions, invoices and charges of an account (docs/state.md section 4): last write by `(time, id)`, money in minor units."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from models import changes, events, takings
from models.columns import Columns
from models.fixed import Ints
from models.parts import END_OF_TIME, KEEP_US, Derived, Number, Write, day_ring, let_go, oldest, put_rings, rank, wins, write
from models.row import NEVER
from models.times import DAY_US, parse_us

ENDED = frozenset({"canceled", "incomplete_expired"})
"""Statuses of a subscription that is over: an account with no other has left, and nobody is to be alerted of it any more."""

LONGER_US = changes.HISTORY_US - KEEP_US
"""How much longer than other objects changes of subscriptions are kept, and refunds that cancel."""

UNPAID = frozenset({"issued", "payment_failed", "overdue"})


class Amount(msgspec.Struct, array_like=True, gc=False):
    """An amount of money with the `(time, id)` of its last write; `cancels` says of a refund that it ends a subscription."""

    amount_minor: int
    currency: str
    at: int
    id: str
    cancels: bool = False


class Invoice(msgspec.Struct, array_like=True, gc=False):
    """One invoice. Times are microseconds; `failed` holds the least time of each attempt that failed, `one_off` is what does not recur.

    `products` are the lines by product, as the event said that said `one_off`.
    """

    newest_at: int
    status: Write
    due: Number | None = None
    total: Amount | None = None
    failed: dict[int, int] = {}
    paid_at: int | None = None
    tax: Amount | None = None
    one_off: Number | None = None
    products: dict[str, int] = {}

    @property
    def is_unpaid(self) -> bool:
        """Whether money is still owed."""
        return self.status.value in UNPAID

    @property
    def overdue_from(self) -> int | None:
        """Since when it is overdue, or will be; None when it is paid or was never due."""
        if not self.is_unpaid:
            return None
        if self.due is not None:
            return self.due.value
        return None if self.status.value == "issued" else self.status.at


class Charge(msgspec.Struct, array_like=True, gc=False):
    """One charge, and how it ended; one of an order is a purchase of its own."""

    outcome: Write
    amount_minor: int
    currency: str
    is_order: bool = False


class Subscription(msgspec.Struct, array_like=True, gc=False):
    """The version of a subscription that counts: the greatest `(version, time, id)`; `data` is its payload as JSON."""

    version: int
    at: int
    id: str
    data: bytes
    status: str


class Payment(msgspec.Struct, array_like=True, gc=False):
    """The payment part of an account, each kind of object by its id.

    Nothing that may be let go is older than `oldest_at`. `histories` holds the versions of each subscription over time and `renewals` when
    each was paid for, with their `prices` (`models.changes`).
    """

    ids: bytearray
    invoices: dict[str, Invoice]
    charges: dict[str, Charge]
    subscriptions: dict[str, Subscription]
    refunds: dict[str, Amount]
    disputes: dict[str, Amount]
    credit_notes: dict[str, Amount]
    oldest_at: int = END_OF_TIME
    histories: dict[str, changes.History] = {}
    renewals: dict[str, list[int]] = {}
    prices: list[bytes] = []
    settled: takings.Settled = msgspec.field(default_factory=takings.Settled)


_encode = msgspec.json.Encoder().encode


def empty() -> Payment:
    """An account without a payment."""
    return Payment(bytearray(), {}, {}, {}, {}, {}, {})


def fold(payment: Payment, event: Any, at: int) -> None:
    """Take one payment event into the account's payments."""
    _CHANGES[type(event)](payment, event, at)


def _issue(payment: Payment, event: events.InvoiceIssued, at: int) -> None:
    _invoice(payment, event, "issued", at)


def _pay(payment: Payment, event: events.InvoicePaid, at: int) -> None:
    invoice = _invoice(payment, event, "paid", at)
    invoice.paid_at = at if invoice.paid_at is None else min(invoice.paid_at, at)
    if event.data.subscription_id is not None:
        changes.renew(payment, event.data.subscription_id, at)


def _fail(payment: Payment, event: events.InvoicePaymentFailed, at: int) -> None:
    invoice = _invoice(payment, event, "payment_failed", at)
    attempt = event.data.attempt
    invoice.failed[attempt] = min(invoice.failed.get(attempt, at), at)


def _void(payment: Payment, event: events.InvoiceVoided, at: int) -> None:
    _invoice(payment, event, "voided", at)


def _fall_due(payment: Payment, event: events.InvoiceOverdue, at: int) -> None:
    _invoice(payment, event, "overdue", at)


def _invoice(payment: Payment, event: events.InvoiceEvent, status: str, at: int) -> Invoice:
    data = event.data
    invoice = payment.invoices.get(data.invoice_id)
    if invoice is None:
        invoice = payment.invoices[data.invoice_id] = Invoice(at, Write(status, at, rank(event)), failed={})
    else:
        invoice.newest_at = max(invoice.newest_at, at)
        invoice.status = write(invoice.status, status, at, rank(event))
    if data.due_at is not None and wins(invoice.due, at, rank(event)):
        invoice.due = Number(parse_us(data.due_at), at, rank(event))
    if data.total is not None and (invoice.total is None or (at, rank(event)) > (invoice.total.at, invoice.total.id)):
        invoice.total = Amount(data.total.amount_minor, data.total.currency, at, rank(event))
    if data.tax is not None and (invoice.tax is None or (at, rank(event)) > (invoice.tax.at, invoice.tax.id)):
        invoice.tax = Amount(data.tax.amount_minor, data.tax.currency, at, rank(event))
    if data.lines is not None and wins(invoice.one_off, at, rank(event)):
        invoice.one_off = Number(sum(line.amount_minor for line in data.lines if line.recurring is False), at, rank(event))
        invoice.products = takings.lines_by_product(data.lines)
    return invoice


def _charge(payment: Payment, event: events.ChargeSucceeded | events.ChargeFailed, at: int) -> None:
    outcome = "succeeded" if isinstance(event, events.ChargeSucceeded) else "failed"
    known = payment.charges.get(event.data.charge_id)
    if known is None or wins(known.outcome, at, rank(event)):
        amount = event.data.amount
        payment.charges[event.data.charge_id] = Charge(
            Write(outcome, at, rank(event)), amount.amount_minor, amount.currency, event.data.order_id is not None
        )


def _subscription(payment: Payment, event: events.SubscriptionUpserted, at: int) -> None:
    known = payment.subscriptions.get(event.data.subscription_id)
    version = event.data.version
    changes.add(payment, event.data.subscription_id, event.data, at, rank(event), known)
    if known is None or (version, at, rank(event)) > (known.version, known.at, known.id):
        payment.subscriptions[event.data.subscription_id] = Subscription(version, at, rank(event), _encode(event.data), event.data.status)


def _refund(payment: Payment, event: events.RefundCreated, at: int) -> None:
    _amount(payment.refunds, event.data.refund_id, event.data.amount, at, rank(event), cancels=event.data.cancels_subscription)


def _dispute(payment: Payment, event: events.DisputeOpened | events.DisputeClosed, at: int) -> None:
    _amount(payment.disputes, event.data.dispute_id, event.data.amount, at, rank(event))


def _credit(payment: Payment, event: events.CreditNoteCreated, at: int) -> None:
    _amount(payment.credit_notes, event.data.credit_note_id, event.data.amount, at, rank(event))


def _amount(amounts: dict[str, Amount], name: str, amount: events.Money, at: int, event_id: str, *, cancels: bool = False) -> None:
    known = amounts.get(name)
    if known is None or (at, event_id) > (known.at, known.id):
        amounts[name] = Amount(amount.amount_minor, amount.currency, at, event_id, cancels)


_CHANGES: dict[type, Callable[[Payment, Any, int], None]] = {
    events.InvoiceIssued: _issue,
    events.InvoicePaid: _pay,
    events.InvoicePaymentFailed: _fail,
    events.InvoiceVoided: _void,
    events.InvoiceOverdue: _fall_due,
    events.ChargeSucceeded: _charge,
    events.ChargeFailed: _charge,
    events.SubscriptionUpserted: _subscription,
    events.RefundCreated: _refund,
    events.DisputeOpened: _dispute,
    events.DisputeClosed: _dispute,
    events.CreditNoteCreated: _credit,
}


def finished_at(payment: Payment) -> int:
    """The least newest time of an object that may be let go: when it is old enough, `drop_old` has something to do."""
    least_at = oldest(invoice.newest_at for invoice in payment.invoices.values() if not invoice.is_unpaid)
    for charge in payment.charges.values():
        least_at = min(least_at, charge.outcome.at)
    for amounts in (payment.refunds, payment.disputes, payment.credit_notes):
        for amount in amounts.values():
            least_at = min(least_at, amount.at + (LONGER_US if amount.cancels else 0))
    due_at = changes.due_at(payment)
    return least_at if due_at is None else min(least_at, due_at + LONGER_US)


def drop_old(payment: Payment, newest: int, _zone: ZoneInfo) -> None:
    """Let go of what is finished and old, or too many; `newest` is the account's newest payment event."""
    for name in let_go(((i.newest_at, name, not i.is_unpaid) for name, i in payment.invoices.items()), newest):
        takings.settle_invoice(payment.settled, payment.invoices.pop(name))
    for name in let_go(((c.outcome.at, name, True) for name, c in payment.charges.items()), newest):
        takings.settle(payment.settled, takings.of_charge(payment.charges.pop(name)))
    for name in let_go(((s.at, name, False) for name, s in payment.subscriptions.items()), newest):
        del payment.subscriptions[name]
        payment.histories.pop(name, None)
    horizon = newest - changes.HISTORY_US
    for amounts in (payment.refunds, payment.disputes, payment.credit_notes):
        for name in let_go(((a.at, name, not a.cancels or a.at < horizon) for name, a in amounts.items()), newest):
            gone = amounts.pop(name)
            if amounts is not payment.disputes:
                takings.settle(payment.settled, takings.of_refund(gone), is_taking=False)
    takings.let_go(payment.settled, newest)
    changes.let_go(payment, newest)


def _failures(payment: Payment) -> Iterator[int]:
    for invoice in payment.invoices.values():
        yield from invoice.failed.values()
    for charge in payment.charges.values():
        if charge.outcome.value == "failed":
            yield charge.outcome.at


def _payments(payment: Payment) -> Iterator[int]:
    for invoice in payment.invoices.values():
        if invoice.paid_at is not None:
            yield invoice.paid_at
    for charge in payment.charges.values():
        if charge.outcome.value == "succeeded":
            yield charge.outcome.at


def last_failure_at(payment: Payment) -> int:
    """The newest failed payment that is kept, NEVER when there is none."""
    return max(_failures(payment), default=NEVER)


def derived(columns: Columns, payment: Payment) -> Derived:
    """The figures of an account that a score needs."""
    failed, paid = list(_failures(payment)), list(_payments(payment))
    newest = max(max(failed, default=0), max(paid, default=0))
    overdue_from = NEVER
    for invoice in payment.invoices.values():
        since = invoice.overdue_from
        if since is not None and (overdue_from == NEVER or since < overdue_from):
            overdue_from = since
    return (
        newest // DAY_US,
        day_ring(failed, newest, columns.payments_failed.shape[1]),
        day_ring(paid, newest, columns.payments_paid.shape[1]),
        overdue_from,
        bool(payment.subscriptions) and all(s.status in ENDED for s in payment.subscriptions.values()),
        bool(payment.subscriptions),
    )


def put(columns: Columns, slots: Ints, many: Sequence[Derived]) -> None:
    """Put the figures of some accounts into their columns."""
    days, failed, paid, overdue_from, is_ended, has_subscriptions = zip(*many, strict=True)
    columns.payments_day[slots] = days
    put_rings(columns.payments_failed, slots, failed)
    put_rings(columns.payments_paid, slots, paid)
    columns.overdue_from[slots] = overdue_from
    columns.is_ended[slots] = is_ended
    columns.has_subscriptions[slots] = has_subscriptions
