"""What an account paid and got back (docs/ledger.md section 7): sums by day, so that nothing is lost when invoices and charges are let go.

Each object counts at the *stamp* of its time: noon of its day in UTC, but near the turn of a month its quarter of an hour, by which every
time zone knows its months apart. Sums of a stamp are the same whether the object is still there or was let go long since.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from models.fixed import half_up, portions
from models.times import DAY_US, HOUR_US, MINUTE_US

UNKNOWN = "unknown"
"""The product of what names none."""

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

    `by_product` is how much of what was invoiced is of each product that was named: by product, currency, and the stamp as a number of
    quarters of an hour. `has_takings`: something was paid, if only 0; what was stored before that was kept has it by its sums alone.
    """

    by_stamp: dict[int, dict[str, Sums]] = {}
    older: dict[str, Sums] = {}
    first_order_at: int | None = None
    last_order_at: int | None = None
    has_takings: bool = False
    by_product: dict[str, dict[str, dict[int, int]]] = {}


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


def lines_by_product(lines: Iterable[Any]) -> dict[str, int]:
    """The amounts of invoice lines by product, `unknown` without one; empty where no line names any."""
    found: dict[str, int] = {}
    for line in lines:
        product = line.product_id or UNKNOWN
        found[product] = found.get(product, 0) + line.amount_minor
    return found if found.keys() - {UNKNOWN} else {}


def by_product(invoice: Any, invoiced: int) -> dict[str, int]:
    """What of the amount that an invoice counts for is of each product that a line of it names.

    Where no product's lines come to less than 0 they share it in proportion, whatever discounts and taxes: in the order of their names,
    each what the rounded running total grows by. Else each is what its lines say. What is left over is of no product that is known.
    """
    lines: dict[str, int] = invoice.products
    whole = sum(lines.values())
    if whole > 0 and min(lines.values()) >= 0:
        lines = dict(portions(lines, lambda amount: half_up(invoiced * amount, whole)))
    return {product: amount for product, amount in lines.items() if product != UNKNOWN}


def of_charge(charge: Any) -> tuple[int, str, Sums] | None:
    """What a charge counts for; None when it failed."""
    if charge.outcome.value != "succeeded":
        return None
    sums = Sums(ordered=charge.amount_minor, orders=1) if charge.is_order else Sums(charged=charge.amount_minor)
    return charge.outcome.at, charge.currency, sums


def of_refund(amount: Any) -> tuple[int, str, Sums]:
    """What a refund or a credit note counts for, whatever its sign."""
    return amount.at, amount.currency, Sums(refunded=abs(amount.amount_minor))


def settle_invoice(settled: Settled, invoice: Any) -> None:
    """Keep the sums of an invoice that is let go, and of its products."""
    counted = of_invoice(invoice)
    settle(settled, counted)
    if counted is not None:
        at, currency, sums = counted
        for product, amount in by_product(invoice, sums.invoiced).items():
            own = settled.by_product.setdefault(product, {}).setdefault(currency, {})
            place = stamp(at) // QUARTER_US
            own[place] = own.get(place, 0) + amount


def settle(settled: Settled, counted: tuple[int, str, Sums] | None, *, is_taking: bool = True) -> None:
    """Keep the sums of an object that is let go: something paid, or given back."""
    if counted is None:
        return
    at, currency, sums = counted
    settled.has_takings = settled.has_takings or is_taking
    own = settled.by_stamp.setdefault(stamp(at), {})
    own.setdefault(currency, Sums()).add(sums)


def let_go(settled: Settled, newest: int) -> None:
    """Add up what is too old for a month that is told of, of whatever product."""
    horizon = newest - STAMPS_US
    for product, by_currency in list(settled.by_product.items()):
        for currency, own in list(by_currency.items()):
            for place in [place for place in own if place * QUARTER_US < horizon]:
                del own[place]
            if not own:
                del by_currency[currency]
        if not by_currency:
            del settled.by_product[product]
    for old in [at for at in settled.by_stamp if at < horizon]:
        for currency, sums in settled.by_stamp.pop(old).items():
            settled.older.setdefault(currency, Sums()).add(sums)
            if sums.orders:
                settled.first_order_at = old if settled.first_order_at is None else min(settled.first_order_at, old)
                settled.last_order_at = old if settled.last_order_at is None else max(settled.last_order_at, old)
