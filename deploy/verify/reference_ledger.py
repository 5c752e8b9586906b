"""The naive second implementation of docs/ledger.md: every event is kept, and each balance is looked up anew for each instant.

Written from that page alone and sharing no code with `models/`. Slow on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo

from deploy.verify.reference import half_up, payment_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deploy.verify.reference import Event

Json: TypeAlias = Any
Amounts: TypeAlias = dict[str, int]
Figures: TypeAlias = dict[str, int]

DAY = 86_400_000_000
MINUTE = 60_000_000
MICRO = 1_000_000
AVERAGE_MONTH = Fraction("365.25") / 12
MONTHS = {"month": Fraction(1), "quarter": Fraction(1, 3), "half_year": Fraction(1, 6), "year": Fraction(1, 12)}
MONTHS_BACK = 24
REMEMBERED = 800 * DAY
DEFAULTS: dict[str, Json] = {
    "dunning_days": 15,
    "allowed_gap_days": 7,
    "reactivation_horizon_days": None,
    "pause_policy": "zero",
    "churn_recognition": "period_end",
    "discount_policy": "forever",
    "include_metered": False,
    "weeks_per_month": None,
    "mrr_expiry_days": 45,
    "merge_minutes": 60,
}


@dataclass(frozen=True, slots=True)
class Worth:
    """A subscription at an instant."""

    currency: str = ""
    micro: int = 0
    flag: str = ""


NOTHING = Worth()


@dataclass(slots=True)
class Books:
    """All payment events of one account, and the rules; `rate` gives the rate of a currency on a day, None when there is none."""

    events: Sequence[Event]
    rules: Mapping[str, Json] = field(default_factory=dict)
    zone: str = "UTC"
    reporting: str | None = None
    rate: Callable[[str, date], Fraction | None] = lambda _currency, _day: None
    _versions: dict[str, list[Event]] = field(init=False)

    def rule(self, name: str) -> Json:
        """Return a setting, or its default."""
        return self.rules.get(name, DEFAULTS[name])

    # -- one subscription

    def __post_init__(self) -> None:
        """Remember what never changes."""
        self._versions = self._remembered()

    def horizon(self) -> int:
        """Return the time before which only what is still in force is remembered (section 6)."""
        return max((event.time for event in self.events), default=0) - REMEMBERED

    def all_versions(self) -> dict[str, list[Event]]:
        """Return the versions of each subscription."""
        found: dict[str, list[Event]] = {}
        for event in self.events:
            if event.type == "subscription.upserted":
                found.setdefault(event.data["subscription_id"], []).append(event)
        return found

    def subscriptions(self) -> dict[str, list[Event]]:
        """Return the versions of each subscription that are remembered."""
        return self._versions

    def _remembered(self) -> dict[str, list[Event]]:
        remembered = {}
        for name, versions in self.all_versions().items():
            before = [event for event in versions if event.time < self.horizon()]
            latest = max(before, key=_version, default=None)
            remembered[name] = [event for event in versions if event not in before] + ([latest] if latest else [])
        return remembered

    def paid_before(self) -> list[tuple[int, int]]:
        """Return when the versions that are forgotten were paid for, by their status, price and end alone."""
        spans = []
        for versions in self.all_versions().values():
            steps = []
            for instant in sorted({event.time for event in versions if event.time < self.horizon()}):
                found = max((event for event in versions if event.time <= instant), key=_version)
                if found not in steps:
                    steps.append(found)
            for place, event in enumerate(steps[:-1]):
                data = event.data
                since = min(event.time, data.get("started_at", event.time)) if place == 0 else event.time
                until = min([steps[place + 1].time, *_ends(data)])
                is_paid = data["status"] in ("active", "past_due") and data.get("pause") is None and _has_price(data)
                if is_paid and since < until:
                    spans.append((since, until))
        return spans

    def in_force(self, versions: list[Event], at: int) -> Event | None:
        """Find the version that counts at an instant (section 1); the first one before its own time."""
        known = [event for event in versions if event.time <= at]
        if known:
            return max(known, key=_version)
        first = self._first(versions)
        if len([event for event in self.all_versions()[first.data["subscription_id"]] if event.time < first.time]) > 0:
            return None  # it had predecessors, which are forgotten
        is_sold = first.data["status"] in ("active", "past_due") and first.data.get("started_at", first.time) <= at
        return first if is_sold else None

    @staticmethod
    def _first(versions: list[Event]) -> Event:
        earliest = min(event.time for event in versions)
        return max((event for event in versions if event.time == earliest), key=_version)

    def price(self, data: Json) -> int:
        """Compute the whole MRR of a version in micro."""
        total = Fraction(0)
        for item in data["items"]:
            if item.get("usage_type", "licensed") != "metered" or self.rule("include_metered"):
                total += Fraction(Decimal(str(item["unit_amount_minor"]))) * item.get("quantity", 1) * self._factor(item)
        shares = [each for each in data.get("discounts", []) if each.get("percent") is not None]
        amounts = [each for each in data.get("discounts", []) if each.get("percent") is None]
        for discount in shares + amounts:
            policy = self.rule("discount_policy")
            if policy == "none" or (policy == "forever" and discount.get("duration") != "forever"):
                continue
            if discount.get("percent") is not None:
                total = total * (100 - Fraction(Decimal(str(discount["percent"])))) / 100
            elif discount.get("amount_minor") is not None and data["items"]:
                total -= discount["amount_minor"] * self._factor(data["items"][0])
        return half_up(max(total, Fraction(0)) * MICRO)

    def split(self, data: Json) -> Amounts:
        """Share the MRR of a version out over its products: by their names, each what the rounded running total grows by."""
        full: dict[str, Fraction] = {}
        for item in data["items"]:
            if item.get("usage_type", "licensed") != "metered" or self.rule("include_metered"):
                amount = Fraction(Decimal(str(item["unit_amount_minor"]))) * item.get("quantity", 1) * self._factor(item)
                name = item.get("product_id") or "unknown"
                full[name] = full.get(name, Fraction(0)) + amount
        price, whole = self.price(data), sum(full.values(), start=Fraction(0))
        return {} if not price else _running(full, lambda amount: half_up(price * amount / whole))

    def products(self, instant: int, at: int) -> dict[tuple[str, str], int]:
        """Value what each product brings at an instant, by the rates of another: by product and reported currency."""
        held: dict[str, Amounts] = {}
        for name, versions in self.subscriptions().items():
            worth, event = self.worth(name, instant), self.in_force(versions, instant)
            if worth.micro and event is not None:
                own = held.setdefault(worth.currency, {})
                for product, micro in self.split(event.data).items():
                    own[product] = own.get(product, 0) + micro
        found: dict[tuple[str, str], int] = {}
        for contract, own in held.items():
            for product, amount in _running(own, partial(self._amount, contract, at)).items():
                key = product, self.money(contract, 0, at)[0]
                found[key] = found.get(key, 0) + amount
        return found

    def _factor(self, item: Json) -> Fraction:
        weeks = self.rule("weeks_per_month")
        factors = MONTHS | {"day": AVERAGE_MONTH, "week": AVERAGE_MONTH / 7 if weeks is None else Fraction(str(weeks))}
        return factors[item["interval"]] / Fraction(item.get("interval_count", 1))

    def _lasts(self, data: Json) -> int:
        """How long the longest interval is, in microseconds."""
        days = {"day": Fraction(1), "week": Fraction(7)} | {name: AVERAGE_MONTH / factor for name, factor in MONTHS.items()}
        lengths = [
            days[item["interval"]] * item.get("interval_count", 1)
            for item in data["items"]
            if item.get("usage_type", "licensed") != "metered" or self.rule("include_metered")
        ]
        return int(max([AVERAGE_MONTH, *lengths]) * DAY)

    def ended_by_refund(self, name: str, at: int) -> bool:
        """Say whether a refund has cancelled a subscription at an instant (section 3)."""
        versions = self.subscriptions()[name]
        for refund in self._refunds():
            if refund.time <= at and self._cancelled(refund) == name:
                later = {
                    id(found): found
                    for instant in sorted({event.time for event in versions})
                    if refund.time < instant <= at and (found := self.in_force(versions, instant)) is not None
                }
                if not any(_is_alive(event.data) and event.time > refund.time for event in later.values()):
                    return True
        return False

    def _refunds(self) -> list[Event]:
        latest: dict[str, Event] = {}
        for event in self.events:
            if event.type == "refund.created":
                known = latest.get(event.data["refund_id"])
                if known is None or event.rank > known.rank:
                    latest[event.data["refund_id"]] = event
        return [event for event in latest.values() if event.data.get("cancels_subscription") and event.time >= self.horizon()]

    def _cancelled(self, refund: Event) -> str | None:
        candidates = []
        for name, versions in self.subscriptions().items():
            known = [event for event in versions if event.time <= refund.time]
            if not known:
                continue
            data = max(known, key=_version).data
            is_annual = self._lasts(data) >= 12 * int(AVERAGE_MONTH * DAY)
            price = self.price(data)
            amount = refund.data["amount"]
            if data["status"] in ("active", "past_due") and is_annual and price and data["currency"] == amount["currency"]:
                candidates.append((abs(12 * price - abs(amount["amount_minor"]) * MICRO), name))
        return min(candidates)[1] if candidates else None

    def worth(self, name: str, at: int) -> Worth:  # noqa: C901, PLR0911 - one case after the other, as the page has them
        """Value a subscription at an instant (section 2), by the first case that fits."""
        versions = self.subscriptions()[name]
        event = self.in_force(versions, at)
        if event is None:
            return NOTHING
        data = event.data
        status, currency, price = data["status"], data["currency"], self.price(data)
        nothing = Worth(currency)
        ends = _ends(data)
        asked = bool(data.get("cancel_at_period_end")) or data.get("cancel_at") is not None
        pause = data.get("pause")
        resumes = None if pause is None else pause.get("resumes_at")
        if self.ended_by_refund(name, at):
            return nothing
        if status == "past_due" and at >= self._overdue_since(versions, event) + self.rule("dunning_days") * DAY:
            return nothing
        if at < data.get("started_at", at):
            return nothing
        if status == "trialing" or (status == "active" and at < data.get("trial_end", at)):
            return nothing
        if ends and at >= min(ends):
            return nothing
        if asked and self.rule("churn_recognition") == "immediate":
            return nothing
        if status not in ("active", "past_due", "paused"):
            return nothing
        if (status == "paused" or pause is not None) and (resumes is None or at < resumes):
            return Worth(currency, price if self.rule("pause_policy") == "keep" else 0, "paused" if price else "")
        if self._has_expired(name, event, at):
            return Worth(currency, 0, "expired")
        flags = ("delinquent " if status == "past_due" else "") + ("ending" if ends or asked else "")
        return Worth(currency, price, flags.strip())

    def _overdue_since(self, versions: list[Event], event: Event) -> int:
        """Find when the row of versions in force that are past due began, which ends with this one."""
        since = event.time
        for instant in sorted({each.time for each in versions if each.time <= event.time}, reverse=True):
            found = self.in_force(versions, instant)
            if found is None or found.data["status"] != "past_due":
                break
            since = found.time
        return since

    def _has_expired(self, name: str, event: Event, at: int) -> bool:
        data, days = event.data, self.rule("mrr_expiry_days")
        if days is None or data["status"] != "active" or _ends(data) or data.get("auto_renew") is True:
            return False
        pause = data.get("pause") or {}
        since = max(event.time, data.get("started_at", 0), data.get("trial_end", 0), pause.get("resumes_at", 0))
        grace = days * DAY
        late = self._lasts(data) - int(AVERAGE_MONTH * DAY) + grace
        paid_until = data.get("current_period_end", 0)
        if at < (paid_until + grace if paid_until > since else since + late):
            return False
        paid = [
            each.time
            for each in self.events
            if each.type == "invoice.paid" and each.data.get("subscription_id") == name and each.time >= self.horizon()
        ]
        return not any(time <= at < time + late for time in paid)

    def turns(self, now: int) -> list[int]:
        """List every instant up to now at which anything may change."""
        found: set[int] = set()
        names = ("started_at", "trial_end", "ended_at", "cancel_at", "current_period_end")
        for event in self.events:
            data = event.data
            found.add(event.time)
            if event.type == "invoice.paid":
                found |= {
                    event.time + (self.rule("mrr_expiry_days") or 0) * DAY + self._lasts(version.data) - int(AVERAGE_MONTH * DAY)
                    for versions in self.subscriptions().values()
                    for version in versions
                }
            if event.type != "subscription.upserted":
                continue
            instants = [data[name] for name in names if name in data]
            if "resumes_at" in (data.get("pause") or {}):
                instants.append(data["pause"]["resumes_at"])
            found |= set(instants)
            found.add(event.time + self.rule("dunning_days") * DAY)
            if (days := self.rule("mrr_expiry_days")) is not None:
                late = self._lasts(data) - int(AVERAGE_MONTH * DAY)
                found |= {instant + days * DAY + extra for instant in [event.time, *instants] for extra in (0, late)}
        return sorted(instant for instant in found if instant <= now)

    # -- the account

    def day(self, at: int) -> date:
        """Return the day of an instant."""
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).astimezone(ZoneInfo(self.zone)).date()

    def month(self, at: int) -> str:
        """Return the month of an instant."""
        return self.day(at).isoformat()[:7]

    def money(self, currency: str, micro: int, at: int) -> tuple[str, int]:
        """Return an amount in the currency that it is reported in."""
        rate = self.rate(currency, date(1970, 1, 1) + timedelta(days=at // DAY)) if self.reporting is not None else None
        if rate is None or self.reporting is None:
            return currency, micro
        return self.reporting, half_up(micro * rate)

    def _amount(self, currency: str, at: int, micro: Fraction) -> int:
        return self.money(currency, int(micro), at)[1]

    def _total(self, held: Iterable[Worth], at: int) -> Amounts:
        by_contract: Amounts = {}
        for each in held:
            by_contract[each.currency] = by_contract.get(each.currency, 0) + each.micro
        total: Amounts = {}
        for contract, micro in by_contract.items():
            if micro:
                currency, amount = self.money(contract, micro, at)
                total[currency] = total.get(currency, 0) + amount
        return total

    def months(self, now: int) -> dict[str, Figures]:
        """Compute the ledger's figures of the month of now and of the 24 before it; figures that are 0 are left out."""
        return _Teller(self, now).months()

    def paying(self, now: int) -> list[tuple[int, int | None]]:
        """List when the account began to pay, and when it stopped."""
        teller = _Teller(self, now)
        teller.months()
        return teller.paying

    # -- what was paid (section 7)

    def takings(self) -> list[tuple[int, str, str, int]]:
        """List what was paid and given back: the stamp, the currency, what it was, and minor units."""
        found = []
        for at, currency, without, lines in self._paid_invoices():
            one_off = sum(line["amount_minor"] for line in lines if line.get("recurring") is False)
            found += [(at, currency, "invoiced", without), (at, currency, "one_off", one_off)]
        for kind in ("charge", "refund", "credit_note"):
            for events in self._objects(kind):
                latest = max(events, key=lambda event: event.rank)
                amount = latest.data["amount"]
                if kind != "charge":
                    found.append((latest.time, amount["currency"], "refunded", abs(amount["amount_minor"])))
                elif latest.type == "charge.succeeded":
                    what = "charged" if latest.data.get("order_id") is None else "ordered"
                    found.append((latest.time, amount["currency"], what, amount["amount_minor"]))
        return [(_stamp(at), currency, what, minor) for at, currency, what, minor in found]

    def paid_by_product(self) -> dict[tuple[int, str], Amounts]:
        """Compute what was paid by product, in minor units, by stamp and currency; `unknown` without one."""
        takings = self.takings()
        has_invoices = any(minor for _, _, what, minor in takings if what == "invoiced")
        counted = {"ordered"} if has_invoices else {"ordered", "charged"}
        found: dict[tuple[int, str], Amounts] = {}
        for at, currency, what, minor in takings:
            if what in counted:
                own = found.setdefault((at, currency), {})
                own["unknown"] = own.get("unknown", 0) + minor
        for at, currency, net, lines in self._paid_invoices():
            own = found.setdefault((_stamp(at), currency), {})
            for name, minor in _by_product(net, lines).items():
                own[name] = own.get(name, 0) + minor
        return found

    def _paid_invoices(self) -> list[tuple[int, str, int, list[Json]]]:
        """List the invoices that were paid: when, the currency, the total without tax, and their lines."""
        found = []
        for events in self._objects("invoice"):
            latest = max(events, key=lambda event: event.rank)
            paid = [event.time for event in events if event.type == "invoice.paid"]
            total, tax = _said(events, "total"), _said(events, "tax")
            if paid and total is not None and latest.type != "invoice.voided":
                without = total["amount_minor"] - (tax["amount_minor"] if tax and tax["currency"] == total["currency"] else 0)
                found.append((min(paid), total["currency"], without, _said(events, "lines") or []))
        return found

    def _objects(self, kind: str) -> list[list[Event]]:
        kept, gone = payment_objects(self.events, kind)
        return [*gone, *kept.values()]

    def revenue(self, now: int) -> dict[str, Figures]:
        """Compute the figures of what was paid, of the same months; figures that are 0 are left out."""
        takings = self.takings()
        has_invoices = any(minor for _, _, what, minor in takings if what == "invoiced")
        signs = {"invoiced": 1, "ordered": 1, "charged": 0 if has_invoices else 1}
        months = _months_to(self.month(now))
        told: dict[str, Figures] = {}
        for month in months:
            figures: Figures = {}
            orders = sorted(at for at, _, what, _ in takings if what == "ordered" and self.month(at) <= month)
            for at, currency, what, minor in takings:
                if self.month(at) > month:
                    continue
                priced, amount = self.money(currency, minor * MICRO, max(at, _begins(months[0], self.zone)))
                _put(figures, f"revenue_to_date@{priced}", amount * (signs.get(what, 0) - (what == "refunded")))
                if self.month(at) == month:
                    _put(figures, f"revenue_paid@{priced}", amount * signs.get(what, 0))
                    _put(figures, f"revenue_refunded@{priced}", amount * (what == "refunded"))
                    _put(figures, f"revenue_one_off@{priced}", amount * (what in ("one_off", "ordered")))
                    _put(figures, "orders", int(what == "ordered"))
            for (at, currency), parts in self.paid_by_product().items():
                if self.month(at) == month:
                    priced = self.money(currency, 0, at)[0]
                    micro = {name: minor * MICRO for name, minor in parts.items()}
                    for name, amount in _running(micro, partial(self._amount, currency, at)).items():
                        _put(figures, f"revenue_by_product{{{name}}}@{priced}", amount)
            _put(figures, "buyers", int("orders" in figures))
            _put(figures, "buyers_ever", int(bool(orders)))
            if len(orders) > 1:
                _put(figures, "buyers_repeat", 1)
                _put(figures, "order_lifespan_days", (orders[-1] - orders[0]) // DAY)
            told[month] = {name: amount for name, amount in figures.items() if amount}
        return told


class _Teller:
    """Goes through an account's groups once."""

    def __init__(self, books: Books, now: int) -> None:
        self._books, self._now = books, now
        self._names = sorted(books.subscriptions())
        self._instants = books.turns(now)
        self._held: dict[str, Worth] = dict.fromkeys(self._names, NOTHING)
        self._is_customer = False
        self.paying: list[tuple[int, int | None]] = []
        paid = books.paid_before()
        self._first_paid: int | None = min((since for since, _ in paid), default=None)
        self._paid_until = self._left_at = max((until for _, until in paid), default=0)

    def months(self) -> dict[str, Figures]:
        books = self._books
        groups: list[list[int]] = []
        for at in self._instants:
            if not self._changes(at):
                continue
            merged = groups and at < groups[-1][0] + books.rule("merge_minutes") * MINUTE
            if merged and books.month(at) == books.month(groups[-1][0]):
                groups[-1].append(at)
            else:
                groups.append([at])
        self._held = dict.fromkeys(self._names, NOTHING)
        told: dict[str, Figures] = {}
        for month in _months_to(books.month(self._now)):
            begins, ends = _begins(month, books.zone), _begins(_next(month), books.zone)
            own = [group for group in groups if begins <= group[0] < ends]
            if len(told) == 0:
                for group in groups:
                    if group[0] < begins:
                        self._take(group, {})
            told[month] = self._month(begins, min(ends - 1, self._now), min(ends, self._now), own)
        _later(told)
        return told

    def _changes(self, at: int) -> bool:
        """Say whether anything changes at an instant, and remember how it is after it."""
        after = {name: self._books.worth(name, at) for name in self._names}
        before, self._held = self._held, after
        return any(_paid(after[name]) != _paid(before[name]) for name in self._names)

    def _month(self, begins: int, last: int, ends: int, groups: list[list[int]]) -> Figures:  # noqa: C901 - a month as the page tells it
        books = self._books
        told: Figures = {}

        def put(name: str, amount: int) -> None:
            if amount:
                told[name] = told.get(name, 0) + amount

        was_customer, was_paying = self._is_customer, self._pays()
        opening = books._total(self._held.values(), begins - 1)
        steady_opening = books._total(self._held.values(), begins)
        entered: list[str] = []
        reactivated = False
        days, day_from = 0, begins - 1
        known = opening
        for group in groups:
            known = self._drift(known, group[0], put)
            was = self._is_customer
            if was:
                days += _days_between(day_from, group[0], books.zone)
            day_from = group[0]
            kind = self._take(group, told)
            known = books._total(self._held.values(), group[-1])
            if self._is_customer and not was and not was_customer:
                entered.append("new" if kind == "new" else "reactivated")
            reactivated = reactivated or kind == "reactivation"
        end = self._drift(known, last, put)
        self._held = {name: books.worth(name, last) for name in self._names}
        if self._is_customer:
            days += _days_between(day_from, last, books.zone)
        put("customers_start", was_customer)
        put("customers_start_paused", was_customer and not was_paying)
        put("customers_end", self._is_customer)
        put("customers_end_paused", self._is_customer and not self._pays())
        put("customers_churned", was_customer and not self._is_customer)
        put("customers_new", entered[:1] == ["new"])
        put("customers_reactivated", entered[:1] == ["reactivated"])
        put("customers_same_period_churned", bool(entered) and not self._is_customer)
        put("customer_days", days)
        put("customers_ever", self._first_paid is not None)
        for currency, amount in opening.items():
            put(f"mrr_start@{currency}", amount)
        kept = books._total(self._held.values(), begins)
        for currency, amount in end.items():
            put(f"mrr_end@{currency}", amount)
        for currency, amount in kept.items():
            if was_paying:
                put(f"mrr_nrr_kept@{currency}", amount)
                put(f"mrr_grr_kept@{currency}", min(amount, steady_opening.get(currency, 0)))
            elif reactivated:
                put(f"mrr_reactivated_kept@{currency}", amount)
        self._products(begins, last, put)
        for figure, flag in (("mrr_delinquent", "delinquent"), ("mrr_pending_churn", "ending")):
            for each in self._held.values():
                if flag in each.flag and each.micro:
                    currency, amount = books.money(each.currency, each.micro, last)
                    put(f"{figure}@{currency}", amount)
        self._lives(end, ends, put)
        return {name: int(amount) for name, amount in told.items() if amount}

    def _products(self, begins: int, last: int, put: Callable[[str, int], None]) -> None:
        books = self._books
        held = books.products(begins - 1, begins - 1)
        for (product, currency), amount in held.items():
            put(f"mrr_by_product_start{{{product}}}@{currency}", amount)
        for (product, currency), amount in books.products(last, last).items():
            put(f"mrr_by_product{{{product}}}@{currency}", amount)
        for (product, currency), amount in books.products(last, begins).items():
            if product in {name for name, _ in held}:
                put(f"mrr_by_product_kept{{{product}}}@{currency}", amount)

    def _drift(self, known: Amounts, at: int, put: Callable[[str, int], None]) -> Amounts:
        after = self._books._total(self._held.values(), at)
        for currency, amount in after.items():
            put(f"mrr_fx@{currency}", amount - known.get(currency, 0))
        return after

    def _lives(self, end: Amounts, ends: int, put: Callable[[str, int], None]) -> None:
        if self._first_paid is None:
            return
        today = self._books.day(ends)
        until = midnight(today, self._books.zone) if self._is_customer else self._left_at
        length = max(until - self._first_paid, 0)
        whole = length // (365 * DAY // 12)
        put(f"lifetimes_{'running' if self._is_customer else 'ended'}{{{whole}}}", 1)
        if not self._is_customer:
            put("lifetime_days_ended", length // DAY)
        cohort = self._books.month(self._first_paid)
        put(f"cohort_accounts{{{cohort}}}", 1)
        put(f"cohort_paying{{{cohort}}}", self._is_customer)
        for currency, amount in end.items():
            put(f"cohort_mrr{{{cohort}}}@{currency}", amount)

    def _pays(self) -> bool:
        return any(each.micro for each in self._held.values())

    def _take(self, group: list[int], told: Figures) -> str:  # noqa: C901, PLR0912 - a group as the page tells it
        """Move over a group; the kind of the gain with which the account began to pay, empty when it did not."""
        books = self._books
        was_paying, was_customer = self._pays(), self._is_customer
        net: Amounts = {}
        expired: Amounts = {}
        has_paused = has_resumed = False
        for place, at in enumerate(group):
            if place:
                known = books._total(self._held.values(), group[place - 1])
                for currency, amount in books._total(self._held.values(), at).items():
                    name = f"mrr_fx@{currency}"
                    told[name] = told.get(name, 0) + amount - known.get(currency, 0)
            before = dict(self._held)
            for name in self._names:
                self._held[name] = books.worth(name, at)
            for name in self._names:
                old, new = before[name], self._held[name]
                was_paused, is_paused = old.flag == "paused", new.flag == "paused"
                has_paused |= is_paused and not was_paused and new.micro < old.micro
                has_resumed |= was_paused and not is_paused and new.micro > old.micro
                if new.flag == "expired" and old.micro:
                    currency, amount = books.money(old.currency, old.micro, at)
                    expired[currency] = expired.get(currency, 0) + amount
            worth_before, worth_after = books._total(before.values(), at), books._total(self._held.values(), at)
            for currency in worth_before | worth_after:
                net[currency] = net.get(currency, 0) + worth_after.get(currency, 0) - worth_before.get(currency, 0)
        is_on_hold = any(each.flag == "paused" for each in self._held.values())
        self._is_customer = self._pays() or (was_customer and is_on_hold)
        gain = self._gain(group[0], was_paying=was_paying, has_resumed=has_resumed)
        loss = "pause" if has_paused and was_paying else "contraction" if self._pays() or self._is_customer else "churn"
        for currency, amount in net.items():
            name = f"mrr_{gain if amount > 0 else loss}@{currency}"
            told[name] = told.get(name, 0) + abs(amount)
            if amount < 0 and loss == "churn":
                name = f"mrr_churn_expired@{currency}"
                told[name] = told.get(name, 0) + min(expired.get(currency, 0), -amount)
        if self._pays() and not was_paying and self._first_paid is None:
            self._first_paid = group[0]
        if self._pays() and not was_paying:
            self.paying.append((group[0], None))
        if was_paying and not self._pays():
            self._paid_until = group[0]
            self.paying[-1] = (self.paying[-1][0], group[0])
        if was_customer and not self._is_customer:
            self._left_at = group[0]
        return gain if self._pays() and not was_paying else ""

    def _gain(self, at: int, *, was_paying: bool, has_resumed: bool) -> str:
        if was_paying:
            return "resume" if has_resumed else "expansion"
        if self._first_paid is None:
            return "new"
        gap, horizon = at - self._paid_until, self._books.rule("reactivation_horizon_days")
        if gap <= self._books.rule("allowed_gap_days") * DAY:
            return "resume"
        return "new" if horizon is not None and gap > horizon * DAY else "reactivation"


def _later(told: dict[str, Figures]) -> None:
    """Add what a month says of a cohort by what came later, and what its first month said."""
    for month, first in told.items():
        amounts = {name: amount for name, amount in first.items() if name.startswith(f"cohort_mrr{{{month}}}")}
        for later, figures in told.items():
            if later >= month:
                figures.update({name.replace("cohort_mrr", "cohort_mrr_start"): amount for name, amount in amounts.items()})
    for month, figures in told.items():
        if any(told[later].get("customers_end") for later in told if later >= month):
            for name in [name for name in figures if name.startswith("cohort_accounts{")]:
                figures[name.replace("cohort_accounts", "cohort_paying_unbounded")] = 1


def _by_product(net: int, lines: list[Json]) -> Amounts:
    """Share what an invoice was paid out over the products of its lines (section 7)."""
    by_product: Amounts = {}
    for line in lines:
        name = line.get("product_id") or "unknown"
        by_product[name] = by_product.get(name, 0) + line["amount_minor"]
    whole = sum(by_product.values())
    if not any(name != "unknown" for name in by_product):
        return {"unknown": net}
    if whole > 0 and all(amount >= 0 for amount in by_product.values()):
        return _running(by_product, lambda amount: half_up(net * amount / whole))
    return by_product | {"unknown": by_product.get("unknown", 0) + net - whole}


def _running(parts: Mapping[str, Fraction | int], rounded: Callable[[Fraction], int]) -> Amounts:
    """Round parts so that they add up to their rounded sum: what each adds to the rounded total of those with a lesser name."""
    names = sorted(parts)
    totals = [rounded(sum((Fraction(parts[name]) for name in names[:place]), start=Fraction(0))) for place in range(len(names) + 1)]
    return {name: totals[place + 1] - totals[place] for place, name in enumerate(names) if totals[place + 1] != totals[place]}


def _put(figures: Figures, name: str, amount: int) -> None:
    if amount:
        figures[name] = figures.get(name, 0) + amount


def _said(events: list[Event], member: str) -> Json:
    """Return what the latest event that carries a member says of it; None when none does."""
    carrying = [event for event in events if member in event.data]
    return max(carrying, key=lambda event: event.rank).data[member] if carrying else None


def _stamp(at: int) -> int:
    """Return the instant that something counts at: noon of its day, or its quarter of an hour near the turn of a month."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    if (moment - timedelta(hours=14)).month != (moment + timedelta(hours=14)).month:
        return at - at % (15 * MINUTE)
    return at - at % DAY + DAY // 2


def _paid(worth: Worth) -> tuple[str, int, bool]:
    return (worth.currency if worth.micro else "", worth.micro, worth.flag == "paused")


def _version(event: Event) -> tuple[int, int, str, str]:
    return (event.data["version"], *event.rank)


def _ends(data: Json) -> list[int]:
    ends = [data[name] for name in ("ended_at", "cancel_at") if data.get(name) is not None]
    if data.get("cancel_at_period_end") and data.get("current_period_end") is not None:
        ends.append(data["current_period_end"])
    return ends


def _has_price(data: Json) -> bool:
    return any(
        Decimal(str(item["unit_amount_minor"])) * item.get("quantity", 1) > 0
        for item in data["items"]
        if item.get("usage_type", "licensed") != "metered"
    )


def _is_alive(data: Json) -> bool:
    return data["status"] in ("active", "past_due") and not data.get("cancel_at_period_end") and data.get("cancel_at") is None


def _days_between(since: int, until: int, zone: str) -> int:
    """Count the days that begin in `(since, until]`."""
    here = ZoneInfo(zone)
    first, last = ((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).astimezone(here).date() for at in (since, until))
    return (last - first).days


def _next(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def _months_to(month: str) -> list[str]:
    year, number = int(month[:4]), int(month[5:])
    places = [year * 12 + number - 1 - back for back in range(MONTHS_BACK, -1, -1)]
    return [f"{place // 12:04}-{place % 12 + 1:02}" for place in places]


def spans(now: int, zone: str) -> dict[str, tuple[int, int]]:
    """Give when the month of an instant, and each of the 24 before it, begins and ends."""
    months = _months_to((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)).astimezone(ZoneInfo(zone)).date().isoformat()[:7])
    return {month: (_begins(month, zone), _begins(_next(month), zone)) for month in months}


def _begins(month: str, zone: str) -> int:
    return midnight(date(int(month[:4]), int(month[5:]), 1), zone)


def midnight(day: date, zone: str) -> int:
    """Give when a day begins."""
    local = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
