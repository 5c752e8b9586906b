"""The revenue of an account by month, from what it paid and got back (`models.takings`)."""

from collections.abc import Iterator

from models.fixed import portions
from models.kpi.figures import MICRO, Key
from models.ledger import Calendar, Figures, Valuation
from models.payments import Payment
from models.takings import QUARTER_US, UNKNOWN, Settled, Sums, by_product, of_charge, of_invoice, of_refund, stamp
from models.times import DAY_US


def _counted(payment: Payment) -> Iterator[tuple[int, str, Sums]]:
    for invoice in payment.invoices.values():
        if (found := of_invoice(invoice)) is not None:
            yield found
    for charge in payment.charges.values():
        if (found := of_charge(charge)) is not None:
            yield found
    for amounts in (payment.refunds, payment.credit_notes):
        yield from map(of_refund, amounts.values())


def has_takings(payment: Payment) -> bool:
    """Whether an invoice or a charge was ever paid: of an account that only got something back it is not known what it paid."""
    settled = payment.settled
    return (
        settled.has_takings
        or any(of_invoice(invoice) is not None for invoice in payment.invoices.values())
        or any(of_charge(charge) is not None for charge in payment.charges.values())
        or any(sums.invoiced or sums.charged or sums.orders for own in (settled.older, *settled.by_stamp.values()) for sums in own.values())
    )


def month_figures(payment: Payment, valuation: Valuation, calendar: Calendar) -> dict[int, Figures]:
    """The revenue figures of an account, by month; figures that are 0 may be absent."""
    by_stamp: dict[int, dict[str, Sums]] = {}
    settled = payment.settled
    for at, own in settled.by_stamp.items():
        for currency, sums in own.items():
            by_stamp.setdefault(at, {}).setdefault(currency, Sums()).add(sums)
    for at, currency, sums in _counted(payment):
        by_stamp.setdefault(stamp(at), {}).setdefault(currency, Sums()).add(sums)
    if not by_stamp and not settled.older:
        return {}
    return _Months(settled, by_stamp, _products(payment), valuation, calendar).figures()


Products = dict[tuple[int, str], dict[str, int]]
"""What was invoiced of the products that were named, by stamp and currency."""


def _products(payment: Payment) -> Products:
    found: Products = {}

    def add(at: int, currency: str, product: str, minor: int) -> None:
        own = found.setdefault((at, currency), {})
        own[product] = own.get(product, 0) + minor

    for product, by_currency in payment.settled.by_product.items():
        for currency, amounts in by_currency.items():
            for place, minor in amounts.items():
                add(place * QUARTER_US, currency, product, minor)
    for invoice in payment.invoices.values():
        if invoice.products and (counted := of_invoice(invoice)) is not None:
            at, currency, sums = counted
            for product, minor in by_product(invoice, sums.invoiced).items():
                add(stamp(at), currency, product, minor)
    return found


class _Months:
    """The sums of an account, laid out by month."""

    def __init__(
        self, settled: Settled, by_stamp: dict[int, dict[str, Sums]], products: Products, valuation: Valuation, calendar: Calendar
    ) -> None:
        self._older, self._by_stamp, self._products = settled.older, by_stamp, products
        self._valuation, self._calendar = valuation, calendar
        self._first, self._last = settled.first_order_at, settled.last_order_at
        every = [sums for own in (settled.older, *by_stamp.values()) for sums in own.values()]
        self._has_invoices = any(sums.invoiced for sums in every)

    def _paid(self, sums: Sums) -> int:
        """What was paid: a charge with no order pays an invoice, unless there never is one."""
        return sums.invoiced + sums.ordered + (0 if self._has_invoices else sums.charged)

    def figures(self) -> dict[int, Figures]:
        calendar = self._calendar
        months: dict[int, Figures] = {month: {} for month in range(calendar.first, calendar.last + 1)}
        to_date: dict[str, int] = {}
        for currency, sums in self._older.items():
            self._add_to(to_date, currency, self._paid(sums) - sums.refunded, calendar.starts[0])
        orders = sum(sums.orders for sums in self._older.values())
        stamps = sorted(self._by_stamp)
        place = 0
        for month, own in months.items():
            ends = calendar.starts[month + 1 - calendar.first]
            while place < len(stamps) and stamps[place] < ends:
                orders += self._take(stamps[place], months.get(calendar.month_of(stamps[place])), to_date)
                place += 1
            self._close(own, orders, to_date)
        return months

    def _take(self, at: int, figures: Figures | None, to_date: dict[str, int]) -> int:
        count = 0
        for currency, sums in self._by_stamp[at].items():
            self._add_to(to_date, currency, self._paid(sums) - sums.refunded, max(at, self._calendar.starts[0]))
            count += sums.orders
            if figures is None:
                continue
            amounts = {
                "revenue_paid": self._paid(sums),
                "revenue_refunded": sums.refunded,
                "revenue_one_off": sums.one_off + sums.ordered,
            }
            for name, minor in amounts.items():
                if minor:
                    key = Key(name, "", self._valuation.reporting(currency))
                    figures[key] = figures.get(key, 0) + self._valuation.value(currency, minor * MICRO, at)
            self._share_out(figures, at, currency, self._paid(sums))
        if count:
            self._first = at if self._first is None else self._first
            self._last = at
        if figures is not None and count:
            figures[Key("orders")] = figures.get(Key("orders"), 0) + count
            figures[Key("buyers")] = 1
        return count

    def _share_out(self, figures: Figures, at: int, currency: str, paid: int) -> None:
        """Tell what was paid by product, so that products add up to it exactly at any rate."""
        known, reporting = self._products.get((at, currency), {}), self._valuation.reporting(currency)
        rest = paid - sum(known.values())
        parts = {**known, UNKNOWN: rest} if rest else known
        for product, amount in portions(parts, lambda minor: self._valuation.value(currency, minor * MICRO, at)):
            key = Key("revenue_by_product", product, reporting)
            figures[key] = figures.get(key, 0) + amount

    def _add_to(self, to_date: dict[str, int], currency: str, minor: int, at: int) -> None:
        reporting = self._valuation.reporting(currency)
        to_date[reporting] = to_date.get(reporting, 0) + self._valuation.value(currency, minor * MICRO, at)

    def _close(self, figures: Figures, orders: int, to_date: dict[str, int]) -> None:
        for currency, amount in to_date.items():
            if amount:
                figures[Key("revenue_to_date", "", currency)] = amount
        if orders:
            figures[Key("buyers_ever")] = 1
        if orders > 1 and self._first is not None and self._last is not None:
            figures[Key("buyers_repeat")] = 1
            if days := (self._last - self._first) // DAY_US:
                figures[Key("order_lifespan_days")] = days
