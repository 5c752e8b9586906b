"""The money ledger of an account (docs/ledger.md): MRR as a step function of time, and what moved it. Pure: (payments, terms, now).

Amounts are whole numbers of millionths of a minor unit ("micro"): the MRR of a subscription is rounded half-up to that once, so that
everything added up of it is exact. Times are microseconds, spans are half-open.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Protocol, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from models.changes import MONTH_US, Change, History, Price, changes_of, read_price
from models.fixed import half_up, portions
from models.kpi.figures import MICRO, Key
from models.kpi.money import exponent
from models.months import begins, day_begins, first_day, format_month, month_of
from models.payments import Payment
from models.revenue import PAYING, Pricing, Reduction, months_factor, reduced
from models.scorecard import Strict
from models.takings import UNKNOWN
from models.times import DAY_US, MINUTE_US

MONTHS_KEPT = 24
"""Months of which figures are made besides the one that runs."""

LIFETIME_MONTH_US = 365 * DAY_US // 12
"""A month of 365/12 days, by which lifetimes are counted."""

FOREVER_US = 2**62
"""Later than any instant that an event can name."""

Kind = Literal["new", "reactivation", "expansion", "resume", "contraction", "churn", "pause"]
"""What moved the balance of an account, besides exchange rates."""

Days = Annotated[int, Field(ge=0, le=3650)]


class RevenueRules(Strict):
    """What counts as recurring revenue, and when it is lost (docs/ledger.md)."""

    dunning_days: Annotated[int, Field(ge=0, le=90)] = Field(
        default=15, description="days that a subscription which is past_due keeps its MRR, flagged as delinquent"
    )
    allowed_gap_days: Days = Field(
        default=7, description="an account that pays again after no more than this resumes; later it is reactivated"
    )
    reactivation_horizon_days: Days | None = Field(
        default=None, description="an account that comes back after more than this counts as new; null: never"
    )
    pause_policy: Literal["zero", "keep"] = Field(default="zero", description="whether a paused subscription has no MRR, or keeps it")
    churn_recognition: Literal["period_end", "immediate"] = Field(
        default="period_end", description="when a cancellation at the end of the paid period takes the MRR away: then, or at the request"
    )
    discount_policy: Literal["forever", "all", "none"] = Field(default="forever", description="which discounts reduce the MRR")
    include_metered: bool = Field(default=False, description="whether metered items count, at their quantity")
    weeks_per_month: Annotated[Decimal, Field(ge=4, le=5, max_digits=8, decimal_places=6)] | None = Field(
        default=None, description="weeks of a month, for weekly prices; null: exactly 365.25 / 12 / 7"
    )
    mrr_expiry_days: Annotated[int, Field(ge=7, le=3650)] | None = Field(
        default=45, description="days after which a subscription that was not renewed and has no end has ended; null: never"
    )
    merge_minutes: Annotated[int, Field(ge=0, le=1440)] = Field(default=60, description="changes within as many minutes are one movement")
    reporting_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = Field(
        default=None, description="currency that amounts are reported in where a rate of theirs is known; null: each in its own"
    )
    rates_file: Path | None = Field(
        default=None,
        description="CSV file of exchange rates into it, with the columns day, currency and rate; `churnwatch rates set` overrides it",
    )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.rates_file is not None and self.reporting_currency is None:
            raise ValueError("rates_file needs reporting_currency: which currency do its rates lead into?")
        if self.reporting_currency is not None:
            exponent(self.reporting_currency)
        return self


class Valuation(Protocol):
    """How amounts of several currencies become comparable."""

    def reporting(self, currency: str) -> str:
        """The currency that amounts of a currency are reported in; itself when there is no rate of it."""

    def value(self, currency: str, micro: int, at: int) -> int:
        """An amount in the currency that it is reported in, by the rate of the day of an instant; rounded half-up."""


class OwnCurrencies:
    """Each currency for itself: there are no rates."""

    def reporting(self, currency: str) -> str:
        """The currency itself."""
        return currency

    def value(self, currency: str, micro: int, at: int) -> int:  # noqa: ARG002 - `Valuation`
        """The amount itself."""
        return micro


@dataclass(frozen=True, slots=True)
class Terms:
    """The rules made ready for arithmetic: times in microseconds."""

    dunning: int
    allowed_gap: int
    horizon: int
    is_pause_kept: bool
    is_immediate: bool
    merge: int
    expiry: int
    pricing: Pricing

    @classmethod
    def of(cls, rules: RevenueRules) -> Self:
        """The terms of some rules."""
        return cls(
            dunning=rules.dunning_days * DAY_US,
            allowed_gap=rules.allowed_gap_days * DAY_US,
            horizon=FOREVER_US if rules.reactivation_horizon_days is None else rules.reactivation_horizon_days * DAY_US,
            is_pause_kept=rules.pause_policy == "keep",
            is_immediate=rules.churn_recognition == "immediate",
            merge=rules.merge_minutes * MINUTE_US,
            expiry=FOREVER_US if rules.mrr_expiry_days is None else rules.mrr_expiry_days * DAY_US,
            pricing=Pricing(rules.discount_policy, rules.include_metered, rules.weeks_per_month),
        )


class Monthly(NamedTuple):
    """What a price comes to: MRR, in which currency, how long what is paid lasts at the most, and whether it is paid by the year.

    `shares` are those of its products in the MRR: by name, above 0, and together exactly the MRR.
    """

    micro: int
    currency: str
    lasts: int
    is_annual: bool
    shares: tuple[tuple[str, int], ...]


def exact_mrr(price: Price, pricing: Pricing) -> Fraction:
    """The exact MRR of a price in minor units, never below 0."""
    total = sum(_undiscounted(price, pricing).values(), Fraction(0))
    if not price.items:
        return total
    often = months_factor(price.items[0].interval, price.items[0].count, pricing.weeks_per_month)
    reductions = [
        Reduction(None if each.percent is None else Decimal(str(each.percent)), each.amount_minor, each.duration)
        for each in price.discounts
    ]
    return reduced(total, often, reductions, pricing)


def _undiscounted(price: Price, pricing: Pricing) -> dict[str, Fraction]:
    """What the items of each product come to in a month before discounts, in minor units."""
    full: dict[str, Fraction] = {}
    for item in price.items:
        if pricing.include_metered or not item.is_metered:
            often = months_factor(item.interval, item.count, pricing.weeks_per_month)
            product = item.product or UNKNOWN
            full[product] = full.get(product, Fraction(0)) + Fraction(Decimal(item.unit)) * item.quantity * often
    return full


@lru_cache(1 << 16)
def monthly(stored: bytes, pricing: Pricing) -> Monthly:
    """What a stored price comes to in a month."""
    price = read_price(stored)
    exact = exact_mrr(price, pricing) * MICRO
    micro = half_up(exact.numerator, exact.denominator)
    counted = [item for item in price.items if pricing.include_metered or not item.is_metered]
    lengths = [int(MONTH_US / (months_factor(item.interval, item.count))) for item in counted]
    lasts = max([MONTH_US, *lengths])
    return Monthly(micro, price.currency, lasts, lasts >= 12 * MONTH_US, _shares(price, pricing, micro))


def _shares(price: Price, pricing: Pricing, micro: int) -> tuple[tuple[str, int], ...]:
    """What of an MRR is due to each product: discounts reduce all items alike."""
    full = _undiscounted(price, pricing)
    if not micro or len(full) == 1:
        return tuple((product, micro) for product in full if micro)
    whole = sum(full.values(), Fraction(0)) / micro

    def rounded(part: Fraction) -> int:
        share = part / whole
        return half_up(share.numerator, share.denominator)

    return tuple(portions(full, rounded))


class Is:
    """What is to be said of a subscription besides its MRR: bits. Plain numbers, because they are asked for often."""

    NOTHING = 0
    PAUSED = 1
    DELINQUENT = 2
    ENDING = 4
    EXPIRED = 8


class Step(NamedTuple):
    """From an instant on a subscription has this MRR, until its next step; `shares` are those of its products in it."""

    at: int
    currency: str
    micro: int
    state: int
    shares: tuple[tuple[str, int], ...] = ()


NO_STEP = Step(-FOREVER_US, "", 0, Is.NOTHING)


class Loss(NamedTuple):
    """A refund that cancels."""

    at: int
    currency: str
    micro: int


class Timeline(NamedTuple):
    """The steps of one subscription; `paid` is when it was first and last paid for before the first step."""

    steps: list[Step]
    paid: tuple[int, int] | None


def timelines(payment: Payment, terms: Terms) -> list[Timeline]:
    """The MRR of each subscription as a step function of time; steps that no event says are there, too, also in the future."""
    found: dict[str, tuple[History, list[bytes]]] = {
        name: (changes_of(subscription) if (kept := payment.histories.get(name)) is None else (kept, payment.prices))
        for name, subscription in payment.subscriptions.items()
    }
    losses = _losses(payment, found, terms)
    return [
        Timeline(
            list(_steps(history, prices, losses.get(name, ()), payment.renewals.get(name, ()), terms)),
            None if history.first_paid is None or history.last_paid is None else (history.first_paid, history.last_paid),
        )
        for name, (history, prices) in found.items()
    ]


def _steps(history: History, prices: list[bytes], losses: Sequence[int], renewals: Sequence[int], terms: Terms) -> Iterator[Step]:
    overdue_from: int | None = None
    lost = FOREVER_US
    for i, change in enumerate(history.changes):
        price = monthly(prices[change.price], terms.pricing)
        begins = change.at
        if i == 0 and not history.is_cut and change.started_at is not None and change.status in PAYING:
            begins = min(begins, change.started_at)
        ends = history.changes[i + 1].at if i + 1 < len(history.changes) else FOREVER_US
        overdue_from = (change.at if overdue_from is None else overdue_from) if change.status == "past_due" else None
        if lost < begins and change.status in PAYING and not change.is_ending:
            lost = FOREVER_US
        lost = min([lost, *(at for at in losses if begins <= at < ends)])
        term = _Term(change, price, FOREVER_US if overdue_from is None else overdue_from + terms.dunning, lost, renewals, terms)
        for at in (begins, *sorted({at for at in term.turns() if begins < at < ends})):
            micro, state = term.at(at)
            yield Step(at, price.currency, micro, state, price.shares if micro else ())


class _Term:
    """The time in which one change of a subscription is in force."""

    def __init__(self, change: Change, price: Monthly, dunned: int, lost: int, renewals: Sequence[int], terms: Terms) -> None:
        self._change, self._price, self._dunned, self._lost, self._terms = change, price, dunned, lost, terms
        self._alive = self._paid_spans(renewals)

    def _paid_spans(self, renewals: Sequence[int]) -> list[tuple[int, int]]:
        """When it is paid for; without an end only where nothing expires."""
        change, terms = self._change, self._terms
        if terms.expiry == FOREVER_US or change.auto_renew or change.ends_at is not None or change.status != "active":
            return []
        late = self._price.lasts - MONTH_US + terms.expiry
        since = max(change.at, change.started_at or 0, change.trial_end or 0, change.resumes_at or 0)
        is_known = change.period_end is not None and change.period_end > since
        until = change.period_end + terms.expiry if is_known and change.period_end is not None else since + late
        return [(-FOREVER_US, until), *((at, at + late) for at in renewals)]

    def turns(self) -> Iterator[int]:
        """The instants at which something may change with no event."""
        change = self._change
        for at in (change.started_at, change.trial_end, change.ends_at, change.resumes_at):
            if at is not None:
                yield at
        yield self._dunned
        yield self._lost
        for start, stop in self._alive:
            yield start
            yield stop

    def at(self, at: int) -> tuple[int, int]:  # noqa: PLR0911 - one case after the other, as docs/ledger.md has them
        """MRR and state at an instant."""
        change, micro = self._change, self._price.micro
        if at >= self._lost or at >= self._dunned or (change.started_at is not None and at < change.started_at):
            return 0, Is.NOTHING
        if change.status == "trialing" or (change.status == "active" and change.trial_end is not None and at < change.trial_end):
            return 0, Is.NOTHING
        if (change.ends_at is not None and at >= change.ends_at) or (change.is_ending and self._terms.is_immediate):
            return 0, Is.NOTHING
        is_paused = change.is_paused and (change.resumes_at is None or at < change.resumes_at)
        if change.status not in PAYING and change.status != "paused":
            return 0, Is.NOTHING
        if is_paused:
            return (micro if self._terms.is_pause_kept else 0), Is.PAUSED if micro else Is.NOTHING
        if self._alive and not any(start <= at < stop for start, stop in self._alive):
            return 0, Is.EXPIRED
        state = Is.DELINQUENT if change.status == "past_due" else Is.NOTHING
        return micro, state | (Is.ENDING if change.is_ending or change.ends_at is not None else Is.NOTHING)


def _losses(payment: Payment, found: Mapping[str, tuple[History, list[bytes]]], terms: Terms) -> dict[str, list[int]]:
    """Which subscription each refund that cancels ends, and when: the annual one whose year is nearest to what was given back."""
    losses: dict[str, list[int]] = {}
    for refund in payment.refunds.values():
        if not refund.cancels:
            continue
        nearest: tuple[int, str] | None = None
        for name, (history, prices) in found.items():
            change = _in_force(history, refund.at)
            if change is None or change.status not in PAYING:
                continue
            price = monthly(prices[change.price], terms.pricing)
            if price.is_annual and price.micro and price.currency == refund.currency:
                distance = (abs(12 * price.micro - abs(refund.amount_minor) * MICRO), name)
                nearest = distance if nearest is None else min(nearest, distance)
        if nearest is not None:
            losses.setdefault(nearest[1], []).append(refund.at)
    return losses


def _in_force(history: History, at: int) -> Change | None:
    found = None
    for change in history.changes:
        if change.at > at:
            break
        found = change
    return found


@dataclass(frozen=True, slots=True)
class Calendar:
    """The months that figures are made of, the last of them the month of `now`, and the days in them: `days` is when each began."""

    zone: ZoneInfo
    now: int
    first: int
    starts: list[int]
    days: list[int]

    @classmethod
    def of(cls, zone: ZoneInfo, now: int, kept: int = MONTHS_KEPT) -> Self:
        """The month of `now` and `kept` months before it."""
        last = month_of(now, zone)
        first = last - kept
        starts = [begins(month, zone) for month in range(first, last + 2)]
        count = (first_day(last + 1) - first_day(first)).days
        days = [day_begins(first_day(first) + timedelta(day), zone) for day in range(count)]
        return cls(zone, now, first, starts, days)

    @property
    def last(self) -> int:
        """The month of `now`."""
        return self.first + len(self.starts) - 2

    def month_of(self, at: int) -> int:
        """The month that an instant is in."""
        place = bisect_right(self.starts, at)
        return self.first + place - 1 if 0 < place < len(self.starts) else month_of(at, self.zone)

    def day_begins(self, at: int) -> int:
        """When the day of an instant began; of the end of the last month, that instant."""
        ends = self.starts[-1]
        return at if at >= ends else self.days[bisect_right(self.days, at) - 1]

    def days_between(self, since: int, until: int) -> int:
        """How many days begin in `(since, until]`; from the first month on."""
        return bisect_right(self.days, until) - bisect_right(self.days, since)


Figures = dict[Key, int]
"""Figures of an account in a month; what is 0 may be absent."""

_key = lru_cache(1 << 14)(Key)  # there are few, and they are asked for often


@dataclass(slots=True)
class _Standing:
    """Where an account stands: what it pays in each of its currencies, what that is worth, and what it did before."""

    micro: dict[str, int]
    worth: dict[str, int]
    paused: int = 0
    is_customer: bool = False
    first_paid: int | None = None
    paid_until: int = 0
    customer_until: int = 0

    @property
    def is_paying(self) -> bool:
        return bool(self.micro)


@dataclass(slots=True)
class _Month:
    """What happened in a month so far."""

    number: int
    was_customer: bool
    was_paying: bool
    was_ever: bool
    opening: dict[str, int]
    steady: dict[str, int]
    products: dict[tuple[str, str], int]
    moved: Figures
    entered: Literal["new", "reactivated"] | None = None
    is_reactivated: bool = False
    days: int = 0
    days_from: int = 0


class _Walk:
    """Goes through the changes of an account's balance in the order of time and notes what each month was made of."""

    def __init__(self, lines: list[Timeline], terms: Terms, valuation: Valuation, calendar: Calendar) -> None:
        self._lines, self._terms, self._valuation, self._calendar = lines, terms, valuation, calendar
        self._steps = [NO_STEP] * len(lines)
        paid = [line.paid for line in lines if line.paid is not None]
        first = min((since for since, _ in paid), default=None)
        until = max((until for _, until in paid), default=0)
        self._now = _Standing({}, {}, first_paid=first, paid_until=until, customer_until=until)
        self._month: _Month | None = None
        self._shares: dict[str, dict[str, int]] = {}
        self._ended: dict[tuple[str, str], int] = {}
        self.months: dict[int, Figures] = {}
        self.movements: list[Movement] = []
        self.paying: list[tuple[int, int]] = []

    def go(self) -> None:
        """Go from the first change to the calendar's `now`."""
        turns: dict[int, list[tuple[int, Step]]] = {}
        moving: set[int] = set()
        for i, line in enumerate(self._lines):
            old = NO_STEP
            for step in line.steps:
                if step.at > self._calendar.now:
                    break
                if step[1:] == old[1:]:
                    continue
                turns.setdefault(step.at, []).append((i, step))
                if step.micro != old.micro or (step.currency != old.currency and step.micro) or (step.state ^ old.state) & Is.PAUSED:
                    moving.add(step.at)
                old = step
        for group in self._groups(sorted(turns), moving):
            self._reach(group[0])
            self._move([(at, turns[at]) for at in group])
        self._reach(self._calendar.now)
        self._close(self._calendar.now, self._calendar.now)

    def _groups(self, instants: list[int], moving: set[int]) -> Iterator[list[int]]:
        """Instants of which each is less than the merging window after the first of its group, and in the same month.

        Only one at which MRR or a pause changes begins a group; others stand alone where they are in none.
        """
        group: list[int] = []
        month = 0
        for at in instants:
            if group and (at >= group[0] + self._terms.merge or self._calendar.month_of(at) != month):
                yield group
                group = []
            if not group and at not in moving:
                yield [at]
            elif not group:
                month = self._calendar.month_of(at)
                group = [at]
            else:
                group.append(at)
        if group:
            yield group

    def _reach(self, at: int) -> None:
        """Go to an instant at which nothing has changed yet: months that end before it are closed, the next ones begun."""
        calendar = self._calendar
        if at < calendar.starts[0]:
            return
        month = calendar.month_of(at)
        if self._month is None:
            is_known = self._now.first_paid is not None or self._now.is_paying
            self._begin(calendar.first if is_known else month)
        while self._month is not None and self._month.number < month:
            ends = calendar.starts[self._month.number + 1 - calendar.first]
            self._close(ends, ends - 1)
            self._begin(self._month.number + 1)

    def _begin(self, month: int) -> None:
        now, starts = self._now, self._calendar.starts[month - self._calendar.first]
        now.worth = self._worth(starts - 1)
        self._month = _Month(
            number=month,
            was_customer=now.is_customer,
            was_paying=now.is_paying,
            was_ever=now.first_paid is not None,
            opening=now.worth,
            steady=self._worth(starts),
            products=self._ended if self._month is not None else self._by_product(starts - 1),
            moved={},
            days_from=starts - 1,
        )

    def _worth(self, at: int) -> dict[str, int]:
        """What the account pays at an instant, by the currency that it is reported in."""
        worth: dict[str, int] = {}
        for currency, micro in self._now.micro.items():
            reporting = self._valuation.reporting(currency)
            worth[reporting] = worth.get(reporting, 0) + self._valuation.value(currency, micro, at)
        return worth

    def _by_product(self, at: int) -> dict[tuple[str, str], int]:
        """What the account pays for each product, by the currency that it is reported in: of each currency together what that is worth."""
        worth: dict[tuple[str, str], int] = {}
        for currency, shares in self._shares.items():
            reporting = self._valuation.reporting(currency)
            for product, amount in portions(shares, partial(self._valuation.value, currency, at=at)):
                worth[product, reporting] = worth.get((product, reporting), 0) + amount
        return worth

    def _share_out(self) -> None:
        """Note what is paid for each product now, by contract currency."""
        self._shares = {}
        for step in self._steps:
            for product, micro in step.shares:
                own = self._shares.setdefault(step.currency, {})
                own[product] = own.get(product, 0) + micro

    def _drift(self, at: int) -> dict[str, int]:
        """Value the balance anew at an instant: what rates alone did since is an `fx` movement."""
        before, after = self._now.worth, self._worth(at)
        self._now.worth = after
        if self._month is not None:
            for currency, worth in after.items():
                self._note("mrr_fx", worth - before.get(currency, 0), currency)
        return after

    def _note(self, name: str, amount: int, currency: str = "") -> None:
        if self._month is not None and amount:
            key = _key(name, "", currency)
            self._month.moved[key] = self._month.moved.get(key, 0) + amount

    def _move(self, group: list[tuple[int, list[tuple[int, Step]]]]) -> None:
        """Take the changes of a group as one movement."""
        now = self._now
        was_paying, was_customer = now.is_paying, now.is_customer
        net: dict[str, int] = {}
        expired: dict[str, int] = {}
        paused = resumed = 0
        self._count_days(group[0][0])
        for at, turns in group:
            before = self._drift(at)
            for i, step in turns:
                old, self._steps[i] = self._steps[i], step
                is_paused, will_be = bool(old.state & Is.PAUSED), bool(step.state & Is.PAUSED)
                paused += will_be and not is_paused and step.micro < old.micro
                resumed += is_paused and not will_be and step.micro > old.micro
                now.paused += will_be - is_paused
                for currency, micro in ((old.currency, -old.micro), (step.currency, step.micro)):
                    if total := now.micro.pop(currency, 0) + micro:
                        now.micro[currency] = total
                if step.state & Is.EXPIRED and old.micro:
                    reporting = self._valuation.reporting(old.currency)
                    expired[reporting] = expired.get(reporting, 0) + self._valuation.value(old.currency, old.micro, at)
            now.worth = self._worth(at)
            for currency in before.keys() | now.worth.keys():
                net[currency] = net.get(currency, 0) + now.worth.get(currency, 0) - before.get(currency, 0)
        self._share_out()
        at = group[0][0]
        now.is_customer = now.is_paying or (was_customer and now.paused > 0)
        gain = self._gain(at, was_paying=was_paying, is_resumed=resumed > 0)
        loss = self._loss(was_paying=was_paying, is_paused=paused > 0)
        for currency, amount in sorted(net.items()):
            kind: Kind = gain if amount > 0 else loss
            if amount:
                self._note(f"mrr_{kind}", abs(amount), currency)
                self.movements.append(Movement(at, kind, abs(amount), currency))
            if amount < 0 and kind == "churn":
                self._note("mrr_churn_expired", min(expired.get(currency, 0), -amount), currency)
        self._turn(at, gain, was_paying=was_paying, was_customer=was_customer)

    def _gain(self, at: int, *, was_paying: bool, is_resumed: bool) -> Kind:
        now = self._now
        if was_paying:
            return "resume" if is_resumed else "expansion"
        if now.first_paid is None:
            return "new"
        gap = at - now.paid_until
        if gap <= self._terms.allowed_gap:
            return "resume"
        return "new" if gap > self._terms.horizon else "reactivation"

    def _loss(self, *, was_paying: bool, is_paused: bool) -> Kind:
        if is_paused and was_paying:
            return "pause"
        return "contraction" if self._now.is_paying or self._now.is_customer else "churn"

    def _turn(self, at: int, gain: Kind, *, was_paying: bool, was_customer: bool) -> None:
        """Note who became a customer, and who is none any more."""
        now, month = self._now, self._month
        if now.is_paying and not was_paying:
            if month is not None and gain == "reactivation":
                month.is_reactivated = True
            if now.first_paid is None:
                now.first_paid = at
            self.paying.append((at, FOREVER_US))
        if was_paying and not now.is_paying:
            now.paid_until = at
            self.paying[-1] = (self.paying[-1][0], at)
        if now.is_customer and not was_customer and month is not None and month.entered is None and not month.was_customer:
            month.entered = "new" if gain == "new" else "reactivated"
        if was_customer and not now.is_customer:
            now.customer_until = at

    def _count_days(self, at: int) -> None:
        """Count the days that began with a customer since this was asked last."""
        month = self._month
        if month is not None:
            if self._now.is_customer:
                month.days += self._calendar.days_between(month.days_from, at)
            month.days_from = at

    def _close(self, at: int, last: int) -> None:
        """Note the figures of the month under way; `last` is the last instant of it that counts, `at` where what follows begins."""
        month, now = self._month, self._now
        if month is None:
            return
        self._drift(last)
        self._count_days(last)
        figures = self.months[month.number] = month.moved
        is_customer = now.is_customer
        counts = {
            "customers_start": month.was_customer,
            "customers_start_paused": month.was_customer and not month.was_paying,
            "customers_end": is_customer,
            "customers_end_paused": is_customer and not now.is_paying,
            "customers_churned": month.was_customer and not is_customer,
            "customers_new": month.entered == "new",
            "customers_reactivated": month.entered == "reactivated",
            "customers_same_period_churned": month.entered is not None and not is_customer,
            "customer_days": month.days,
            "customers_ever": now.first_paid is not None,
        }
        for name, count in counts.items():
            if count:
                figures[_key(name)] = int(count)
        self._lifetime(figures, at)
        begins = self._calendar.starts[month.number - self._calendar.first]
        self._amounts(figures, month, self._worth(begins))
        self._products(figures, month, begins, last)
        for name, flag in (("mrr_delinquent", Is.DELINQUENT), ("mrr_pending_churn", Is.ENDING)):
            for step in self._steps:
                if step.state & flag and step.micro:
                    worth = self._valuation.value(step.currency, step.micro, last)
                    self._put(figures, name, worth, self._valuation.reporting(step.currency))

    def _amounts(self, figures: Figures, month: _Month, kept: dict[str, int]) -> None:
        """Note the balances of a month; `kept` is what its end is worth at the rates of its first day."""
        worth = self._now.worth
        for currency in sorted(month.opening.keys() | worth.keys()):
            self._put(figures, "mrr_start", month.opening.get(currency, 0), currency)
            self._put(figures, "mrr_end", worth.get(currency, 0), currency)
            amount = kept.get(currency, 0)
            if month.was_paying:
                self._put(figures, "mrr_nrr_kept", amount, currency)
                self._put(figures, "mrr_grr_kept", min(amount, month.steady.get(currency, 0)), currency)
            elif month.is_reactivated:
                self._put(figures, "mrr_reactivated_kept", amount, currency)

    def _products(self, figures: Figures, month: _Month, begins: int, last: int) -> None:
        """Note the balances of a month by product, and what was kept of those products that the account had as it began."""
        for (product, currency), amount in month.products.items():
            figures[_key("mrr_by_product_start", product, currency)] = amount
        self._ended = self._by_product(last)
        for (product, currency), amount in self._ended.items():
            figures[_key("mrr_by_product", product, currency)] = amount
        held = {product for product, _ in month.products}
        for (product, currency), amount in self._by_product(begins).items() if held else ():
            if product in held:
                figures[_key("mrr_by_product_kept", product, currency)] = amount

    @staticmethod
    def _put(figures: Figures, name: str, amount: int, currency: str) -> None:
        if amount:
            key = _key(name, "", currency)
            figures[key] = figures.get(key, 0) + amount

    def _lifetime(self, figures: Figures, at: int) -> None:
        """How long the account was a customer, and of which cohort it is."""
        now = self._now
        if now.first_paid is None:
            return
        # Of the month that runs, whole days: so that a day has one figure, whenever it is asked for.
        until = self._calendar.day_begins(at) if now.is_customer else now.customer_until
        months = str(max(until - now.first_paid, 0) // LIFETIME_MONTH_US)
        if now.is_customer:
            figures[_key("lifetimes_running", months)] = 1
        else:
            figures[_key("lifetimes_ended", months)] = 1
            self._put(figures, "lifetime_days_ended", max(until - now.first_paid, 0) // DAY_US, "")
        cohort = format_month(self._calendar.month_of(now.first_paid))
        figures[_key("cohort_accounts", cohort)] = 1
        if now.is_customer:
            figures[_key("cohort_paying", cohort)] = 1
        for currency, worth in now.worth.items():
            if worth:
                figures[_key("cohort_mrr", cohort, currency)] = worth


class Movement(NamedTuple):
    """One movement of an account's balance, of a positive amount."""

    at: int
    kind: Kind
    micro: int
    currency: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of an account's MRR: the figures of each month, the movements besides rates, and when it changes next with no event.

    `paying` is when it had any, `[start, end)`, in order; one that goes on ends at `FOREVER_US`.
    """

    months: dict[int, Figures]
    movements: list[Movement]
    next_at: int
    paying: list[tuple[int, int]]


def ledger_of(payment: Payment, terms: Terms, valuation: Valuation, calendar: Calendar) -> Ledger:
    """The ledger of an account at the `now` of the calendar; `next_at` is `FOREVER_US` when nothing is to come."""
    lines = timelines(payment, terms)
    walk = _Walk(lines, terms, valuation, calendar)
    walk.go()
    _look_back(walk.months)
    next_at = min((step.at for line in lines for step in line.steps if step.at > calendar.now), default=FOREVER_US)
    return Ledger(walk.months, walk.movements, next_at, walk.paying)


def _look_back(months: dict[int, Figures]) -> None:
    """Put in what a month says of its cohort with what came later, and what came earlier."""
    is_later = False
    starts: dict[Key, int] = {}
    for number in sorted(months):
        for key, amount in months[number].items():
            if key.name == "cohort_mrr" and key.label == format_month(number):
                starts[_key("cohort_mrr_start", key.label, key.currency)] = amount
        if starts:
            months[number].update(starts)
    for number in sorted(months, reverse=True):
        figures = months[number]
        is_later = is_later or _key("customers_end") in figures
        if is_later:
            for key in [key for key in figures if key.name == "cohort_accounts"]:
                figures[_key("cohort_paying_unbounded", key.label)] = 1
