"""What an account paid and got back (docs/ledger.md section 7): sums by day, so that nothing is lost when invoices and charges are let go.

Each object counts at the *stamp* of its time: noon of its day in UTC, but near the turn of a month its quarter of an hour, by which every
time zone knows its months apart. Sums of a stamp are the same whether the object is still there or was let go long since.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from models.times import DAY_US, HOUR_US, MINUTE_US

QUARTER_US = 15 * MINUTE_US
TURN_US = 14 * HOUR_US
"""No zone is further from UTC."""

STAMPS_US = 800 * DAY_US
"""How far back sums are kept by stamp; older ones are added up."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Sums(msgspec.Struct, array_like=True, gc=False):
    """Minor units of one currency at one stamp, and how many orders."""

    invoiced: int = 0
    one_off: int = 0
    charged: int = 0
    ordered: int = 0
    orders: int = 0
    refunded: int = 0

    def add(self, other: "Sums") -> None:
        """Add other sums to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Settled(msgspec.Struct, array_like=True, gc=False):
    """The sums of what was let go: by stamp and currency, and of all that is older, with the stamps of the first and last order of that.

    `has_takings`: something was paid, if only 0; what was stored before that was kept has it by its sums alone.
    """

    by_stamp: dict[int, dict[str, Sums]] = {}
    older: dict[str, Sums] = {}
    first_order_at: int | None = None
    last_order_at: int | None = None
    has_takings: bool = False


def stamp(at: int) -> int:
    """The instant that something at `at` counts at."""
    noon = at // DAY_US * DAY_US + DAY_US // 2
    if (_EPOCH + timedelta(microseconds=at - TURN_US)).month != (_EPOCH + timedelta(microseconds=at + TURN_US)).month:
        return at // QUARTER_US * QUARTER_US
    return noon


def of_invoice(invoice: Any) -> tuple[int, str, Sums] | None:
    """What an invoice counts for, at which time; None when it was not paid."""
    if invoice.paid_at is None or invoice.total is None or invoice.status.value == "voided":
        return None
    currency = invoice.total.currency
    tax = invoice.tax.amount_minor if invoice.tax is not None and invoice.tax.currency == currency else 0
    one_off = 0 if invoice.one_off is None else invoice.one_off.value
    return invoice.paid_at, currency, Sums(invoiced=invoice.total.amount_minor - tax, one_off=one_off)


def of_charge(charge: Any) -> tuple[int, str, Sums] | None:
    """What a charge counts for; None when it failed."""
    if charge.outcome.value != "succeeded":
        return None
    sums = Sums(ordered=charge.amount_minor, orders=1) if charge.is_order else Sums(charged=charge.amount_minor)
    return charge.outcome.at, charge.currency, sums


def of_refund(amount: Any) -> tuple[int, str, Sums]:
    """What a refund or a credit note counts for, whatever its sign."""
    return amount.at, amount.currency, Sums(refunded=abs(amount.amount_minor))


def settle(settled: Settled, counted: tuple[int, str, Sums] | None, *, is_taking: bool = True) -> None:
    """Keep the sums of an object that is let go: something paid, or given back."""
    if counted is None:
        return
    at, currency, sums = counted
    settled.has_takings = settled.has_takings or is_taking
    own = settled.by_stamp.setdefault(stamp(at), {})
    own.setdefault(currency, Sums()).add(sums)


def let_go(settled: Settled, newest: int) -> None:
    """Add up what is too old for a month that is told of."""
    for old in [at for at in settled.by_stamp if at < newest - STAMPS_US]:
        for currency, sums in settled.by_stamp.pop(old).items():
            settled.older.setdefault(currency, Sums()).add(sums)
            if sums.orders:
                settled.first_order_at = old if settled.first_order_at is None else min(settled.first_order_at, old)
                settled.last_order_at = old if settled.last_order_at is None else max(settled.last_order_at, old)
