"""Random payment histories of an account, and what the stream and the naive implementation make of their money."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import msgspec

from deploy.verify import reference, reference_ledger
from models import events, payments
from models.ledger import Calendar, Figures, Ledger, OwnCurrencies, RevenueRules, Terms, Valuation, ledger_of
from models.months import UTC_ZONE, format_month
from models.parts import KEEP_US
from models.times import DAY_US, HOUR_US, MINUTE_US, format_us, parse_us
from models.turnover import month_figures

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from models.payments import Payment

Record = dict[str, Any]

START: Final = parse_us("2025-01-20T00:00:00Z")
STATUSES: Final = ("active", "active", "active", "past_due", "canceled", "trialing", "paused", "unpaid", "incomplete", "incomplete_expired")
_DECODE: Final = {
    kind: msgspec.json.Decoder(type_).decode
    for kind, type_ in {
        "subscription.upserted": events.SubscriptionUpserted,
        "invoice.issued": events.InvoiceIssued,
        "invoice.paid": events.InvoicePaid,
        "invoice.voided": events.InvoiceVoided,
        "charge.succeeded": events.ChargeSucceeded,
        "charge.failed": events.ChargeFailed,
        "credit_note.created": events.CreditNoteCreated,
        "refund.created": events.RefundCreated,
    }.items()
}


class Writer:
    """Writes the payment events of one account."""

    def __init__(self) -> None:
        """Begin with none."""
        self.records: list[Record] = []

    def event(self, kind: str, at: int, data: Record) -> None:
        """Add an event at an instant."""
        record = {"id": f"e{len(self.records)}", "source": "/test", "type": kind, "subject": "acme", "time": format_us(at), "data": data}
        self.records.append(record)

    def subscription(self, at: int | str, name: str = "s", unit: Any = 1000, interval: str = "month", **members: Any) -> None:
        """Add a version of a subscription; the next number when it names none."""
        instant = parse_us(at) if isinstance(at, str) else at
        item = {"unit_amount_minor": unit, "interval": interval, "product_id": members.pop("product", "p")}
        data = {
            "subscription_id": name,
            "status": "active",
            "items": [item],
            "currency": "USD",
            "version": len(self.records) + 1,
            "auto_renew": True,
        }
        self.event("subscription.upserted", instant, data | members)


def random_history(rng: Random, count: int, days: int = 500) -> list[Record]:
    """Write versions that come in any order, with every status, end, pause, trial and price; paid invoices and refunds."""
    writer = Writer()
    names = ["s1", "s2", "s3"][: rng.randint(1, 3)]
    latest: dict[str, Record] = {}
    at = START
    for _ in range(count):
        at += rng.choice((0, 10 * MINUTE_US, 45 * MINUTE_US, HOUR_US, DAY_US, 9 * DAY_US, 16 * DAY_US, 31 * DAY_US, 50 * DAY_US))
        at = min(at, START + days * DAY_US)
        if rng.random() < 0.1:
            at += DAY_US - at % DAY_US  # the edges of days and months
        name = rng.choice(names)
        kind = rng.random()
        if kind < 0.1:
            writer.event("invoice.paid", at, {"invoice_id": f"i{at}", "subscription_id": name})
        elif kind < 0.15:
            amount = {"amount_minor": rng.choice((-12_000, 9_000, 120)), "currency": rng.choice(("USD", "EUR"))}
            writer.event(
                "refund.created", at, {"refund_id": rng.choice("rst"), "amount": amount, "cancels_subscription": rng.random() < 0.7}
            )
        elif rng.random() < 0.3 and (last := latest.get(name)) is not None:
            renewed = last | {"version": len(writer.records), "current_period_end": format_us(at + rng.choice((9, 31, 366)) * DAY_US)}
            latest[name] = renewed
            writer.event("subscription.upserted", at, renewed)
        else:
            latest[name] = _version(rng, name, at, len(writer.records))
            writer.event("subscription.upserted", at, latest[name])
    return writer.records


def _version(rng: Random, name: str, at: int, number: int) -> Record:
    def near(share: float) -> str | None:
        days = rng.choice((-40, -1, 0, 1, 7, 15, 30, 365))
        return format_us(at + days * DAY_US) if rng.random() < share else None

    items = [
        {
            "unit_amount_minor": rng.choice((0, 1000, 1000, 12_000, "0.333", 2**40)),
            "quantity": rng.choice((1, 1, 3)),
            "interval": rng.choice(("month", "month", "year", "year", "week", "day", "quarter", "half_year")),
            "interval_count": rng.choice((1, 1, 2)),
            "usage_type": rng.choice(("licensed", "licensed", "metered")),
            "product_id": rng.choice((None, "", "a", "b", "c")),
        }
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))
    ]
    discounts = [
        {"percent": rng.choice((12.5, 100, 33.3)), "duration": rng.choice(("forever", "once"))}
        if rng.random() < 0.6
        else {"amount_minor": rng.choice((1, 700)), "duration": "forever"}
        for _ in range(rng.choice((0, 0, 0, 1, 2)))
    ]
    data: Record = {
        "subscription_id": name,
        "status": rng.choice(STATUSES),
        "items": items,
        "discounts": discounts,
        "currency": rng.choice(("USD", "USD", "USD", "EUR")),
        "version": max(0, number + rng.choice((0, 0, 0, 0, -3, 2))),
        "started_at": near(0.3),
        "current_period_end": near(0.5),
        "trial_end": near(0.1),
        "cancel_at": near(0.1),
        "cancel_at_period_end": rng.random() < 0.15,
        "ended_at": near(0.05),
        "auto_renew": rng.choice((None, True, False)),
    }
    if rng.random() < 0.15:
        data["pause"] = {"resumes_at": near(0.5)} if rng.random() < 0.7 else {}
    return {member: value for member, value in data.items() if value is not None}


def folded(records: Iterable[Record]) -> Payment:
    """Fold payment events, in their order, as the stream does."""
    payment = payments.empty()
    newest = 0
    for record in records:
        event = _DECODE[record["type"]](msgspec.json.encode(record))
        at = parse_us(record["time"])
        newest = max(newest, at)
        payments.fold(payment, event, at)
        payment.oldest_at = min(payment.oldest_at, at)
        if payment.oldest_at < newest - KEEP_US:
            payments.drop_old(payment, newest, UTC_ZONE)
            payment.oldest_at = payments.finished_at(payment)
    payments.drop_old(payment, newest, UTC_ZONE)
    return payment


RATES: Final = {"EUR": tuple(map(Fraction, ("1.0850", "1.1", "0.97", "1.0001", "1.3")))}


def rate(currency: str, day: date) -> Fraction | None:
    """Return a rate that moves every 9 days, of all currencies but one."""
    if currency == "USD":
        return Fraction(1)
    steps = RATES.get(currency)
    return None if steps is None else steps[day.toordinal() // 9 % len(steps)]


class Rated:
    """The same rates for the stream's ledger."""

    def reporting(self, currency: str) -> str:
        """Everything that has a rate is in US dollars."""
        return "USD" if currency == "USD" or currency in RATES else currency

    def value(self, currency: str, micro: int, at: int) -> int:
        """An amount at the rate of a day."""
        found = rate(currency, date.fromordinal(date(1970, 1, 1).toordinal() + at // DAY_US))
        return micro if found is None else reference.half_up(micro * found)


def of_stream(payment: Payment, now: int, zone: str = "UTC", *, is_rated: bool = False, **rules: Any) -> Ledger:
    """Return what the stream's ledger says at an instant."""
    valuation: Valuation = Rated() if is_rated else OwnCurrencies()
    return ledger_of(payment, Terms.of(RevenueRules(**rules)), valuation, Calendar.of(ZoneInfo(zone), now))


def paid_of_stream(payment: Payment, now: int, zone: str = "UTC", *, is_rated: bool = False) -> dict[str, dict[str, int]]:
    """Return what the stream says was paid, by the text of its keys."""
    valuation: Valuation = Rated() if is_rated else OwnCurrencies()
    months = month_figures(payment, valuation, Calendar.of(ZoneInfo(zone), now))
    return _texts(months)


def paid_of_oracle(records: Iterable[Record], now: int, zone: str = "UTC", *, is_rated: bool = False) -> dict[str, dict[str, int]]:
    """Return what the naive implementation says was paid."""
    rated: dict[str, Any] = {"reporting": "USD", "rate": rate} if is_rated else {}
    return reference_ledger.Books([reference.Event.of(record) for record in records], zone=zone, **rated).revenue(now)


def random_payments(rng: Random, count: int, days: int = 900) -> list[Record]:
    """Write invoices, charges and refunds, each object once or twice within a week, many at the turn of a month."""
    writer = Writer()
    at = START
    for number in range(count):
        at += rng.choice((HOUR_US, DAY_US, 9 * DAY_US, 40 * DAY_US))
        if rng.random() < 0.3:
            at = parse_us(format_us(at)[:8] + "01T00:00:00Z") + 31 * DAY_US + rng.choice((-15, -3, 0, 5, 13)) * HOUR_US
        if at > START + days * DAY_US:
            break
        amount = {"amount_minor": rng.randrange(1, 5000), "currency": rng.choice(("USD", "USD", "EUR"))}
        again = at + rng.randrange(1, 7) * DAY_US
        match rng.choice(("invoice", "invoice", "charge", "order", "failed", "refund", "credit")):
            case "invoice":
                writer.event("invoice.issued", at, {"invoice_id": f"i{number}", "total": amount, "lines": _lines(rng)})
                kind = rng.choice(("invoice.paid", "invoice.paid", "invoice.voided"))
                corrected = {"lines": _lines(rng)} if rng.random() < 0.2 else {}
                writer.event(kind, again, {"invoice_id": f"i{number}", "tax": amount | {"amount_minor": 3}} | corrected)
            case "refund":
                refund = {"refund_id": f"r{number}", "amount": amount | {"amount_minor": -5}, "cancels_subscription": rng.random() < 0.5}
                writer.event("refund.created", at, refund)
            case "credit":
                writer.event("credit_note.created", at, {"credit_note_id": f"n{number}", "amount": amount})
            case kind:
                order = {"order_id": f"o{number}"} if kind == "order" else {}
                outcome = "charge.failed" if kind == "failed" else "charge.succeeded"
                writer.event(outcome, at, {"charge_id": f"c{number}", "amount": amount} | order)
    return sorted(writer.records, key=lambda record: str(record["time"]))


def _lines(rng: Random) -> list[Record]:
    """Write the lines of an invoice: some of a product, some of none, some given back."""
    products = rng.choice((("a", "b", "c"), ("a",), ("", "a"), ("",)))
    amounts = (7, 700, 0) if rng.random() < 0.7 else (7, -900, 40)
    return [
        {"amount_minor": rng.choice(amounts), "recurring": rng.choice((True, False)), "product_id": rng.choice(products)}
        for _ in range(rng.randrange(4))
    ]


def told(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Write figures by the text of their keys, as the naive implementation has them."""
    return _texts(ledger.months)


def _texts(months: dict[int, Figures]) -> dict[str, dict[str, int]]:
    texts = {format_month(month): {str(key): value for key, value in figures.items() if value} for month, figures in months.items()}
    return {month: figures for month, figures in texts.items() if figures}


def of_oracle(records: Iterable[Record], now: int, zone: str = "UTC", *, is_rated: bool = False, **rules: Any) -> dict[str, dict[str, int]]:
    """Return what the naive implementation says at an instant."""
    past = [reference.Event.of(record) for record in records]
    rated: dict[str, Any] = {"reporting": "USD", "rate": rate} if is_rated else {}
    return reference_ledger.Books(past, rules=rules, zone=zone, **rated).months(now)
