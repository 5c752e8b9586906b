"""What an account pays and paid, month by month, from the deals that were agreed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from deploy.simulate.decisions import Agreed, Deal, GaveBack, Invoiced, Ordered
from deploy.simulate.dice import DAY, HOUR, MINUTE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.simulate.truth import Window

MICRO: Final = 1_000_000
_MERGED: Final = 60 * MINUTE
_ALLOWED_GAP: Final = 7 * DAY
_LIFETIME_MONTH: Final = 365 * DAY // 12
_TURN: Final = 14 * HOUR
_QUARTER: Final = 15 * MINUTE
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def recurring(deal: Deal) -> int:
    """What a deal comes to in a month, in millionths of a minor unit, rounded half-up once."""
    if deal.state in ("trialing", "ended") or deal.is_dunned:
        return 0
    percent = deal.discount if deal.is_for_ever else 0
    top = deal.unit * deal.seats * (100 - percent) * MICRO
    bottom = 100 * (12 if deal.interval == "year" else 1)
    return (2 * top + bottom) // (2 * bottom)


class _Line(NamedTuple):
    """How one deal stands: what it brings, and what is to be said of it."""

    micro: int = 0
    is_paused: bool = False
    state: str = ""
    product: str = ""


class _Turn(NamedTuple):
    """From `at` on a deal stands differently."""

    at: int
    deal: str
    line: _Line
    has_expired: bool


class Purse:
    """The money of one account, in one currency."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.pays_from: list[int] = []
        self._turns: list[_Turn] = []
        self._paid: list[tuple[int, int, int, str]] = []
        self._back: list[tuple[int, int]] = []
        self._orders: list[tuple[int, int]] = []

    def hear(self, decision: Agreed | Invoiced | Ordered | GaveBack, as_of: int) -> None:
        """Note a decision, as far as it happens up to `as_of`."""
        match decision:
            case Agreed():
                deal = decision.deal
                micro = recurring(deal)
                is_paused = deal.state == "paused"
                line = _Line(0 if is_paused else micro, is_paused and micro > 0, deal.state, deal.product)
                self._turns.append(_Turn(decision.at, deal.name, line, decision.why == "expired"))
            case Invoiced():
                if decision.paid_at is not None and decision.paid_at <= as_of:
                    self._paid.append((decision.paid_at, decision.net, decision.one_off, decision.product))
            case Ordered():
                self._orders.append((decision.at, decision.amount))
            case GaveBack():
                self._back.append((decision.at, decision.amount))

    def figures(self, windows: Sequence[Window]) -> dict[int, dict[str, int]]:
        """The figures of each month, by its place in `windows`; `pays_from` is when the account began to pay, each time."""
        walk = _Walk(sorted(self._turns, key=lambda turn: turn.at), self.currency, windows)
        found = walk.figures()
        self.pays_from = walk.began
        for place, own in self._revenue(windows).items():
            found.setdefault(place, {}).update(own)
        return found

    def _revenue(self, windows: Sequence[Window]) -> dict[int, dict[str, int]]:
        found: dict[int, dict[str, int]] = {}
        money = self.currency
        for place, window in enumerate(windows):
            paid = [(net, one_off, product) for at, net, one_off, product in self._paid if window.start <= at < window.end]
            orders = [amount for at, amount in self._orders if window.start <= at < window.end]
            to_date = sum(net for at, net, _, _ in self._paid if at < window.end)
            to_date += sum(amount for at, amount in self._orders if at < window.end)
            to_date -= sum(amount for at, amount in self._back if at < window.end)
            days = sorted(_day_of_order(at) for at, _ in self._orders if at < window.end)
            found[place] = {
                f"revenue_paid@{money}": (sum(net for net, _, _ in paid) + sum(orders)) * MICRO,
                f"revenue_one_off@{money}": (sum(one_off for _, one_off, _ in paid) + sum(orders)) * MICRO,
                f"revenue_refunded@{money}": sum(amount for at, amount in self._back if window.start <= at < window.end) * MICRO,
                f"revenue_to_date@{money}": to_date * MICRO,
                "orders": len(orders),
                "buyers": int(bool(orders)),
                "buyers_ever": int(bool(days)),
                "buyers_repeat": int(len(days) > 1),
                "order_lifespan_days": (days[-1] - days[0]) // DAY if days else 0,
            }
            products = Counter({"setup": sum(one_off for _, one_off, _ in paid), "unknown": sum(orders)})
            for net, one_off, product in paid:
                products[product] += net - one_off
            found[place] |= {f"revenue_by_product{{{name}}}@{money}": amount * MICRO for name, amount in products.items()}
        return found


def _day_of_order(at: int) -> int:
    """When an order counts: noon of its day, within 14 hours of the turn of a month its quarter of an hour (docs/ledger.md section 7)."""
    before, after = (_EPOCH + timedelta(microseconds=at + turn) for turn in (-_TURN, _TURN))
    return at - at % DAY + DAY // 2 if before.month == after.month else at - at % _QUARTER


class _Walk:
    """Goes through the turns of an account, month by month."""

    def __init__(self, turns: Sequence[_Turn], currency: str, windows: Sequence[Window]) -> None:
        self._currency, self._windows = currency, windows
        self._groups = list(_groups(turns))
        self._lines: dict[str, _Line] = {}
        self._is_customer = False
        self._first_paid: int | None = None
        self._paid_until = self._customer_until = 0
        self._moved: dict[str, int] = {}
        self._entered = ""
        self._has_reactivated = False
        self.began: list[int] = []

    @property
    def _balance(self) -> int:
        return sum(line.micro for line in self._lines.values())

    def _by_product(self) -> Counter[str]:
        """The balance, by product."""
        found: Counter[str] = Counter()
        for line in self._lines.values():
            found[line.product] += line.micro
        return +found

    def figures(self) -> dict[int, dict[str, int]]:
        """The figures of each month, by its place."""
        found: dict[int, dict[str, int]] = {}
        while self._groups and self._groups[0][0].at < self._windows[0].start:
            self._move(self._groups.pop(0), was_in=True)
        for place, window in enumerate(self._windows):
            found[place] = self._month(window)
        self._look_back(found)
        return found

    def _month(self, window: Window) -> dict[str, int]:
        money = self._currency
        start, products, was_customer = self._balance, self._by_product(), self._is_customer
        self._moved, self._entered, self._has_reactivated = {}, "", False
        days, since = 0, window.start - 1
        while self._groups and self._groups[0][0].at <= window.stop:
            group = self._groups.pop(0)
            days += _midnights(since, group[0].at) if self._is_customer else 0
            since = group[0].at
            self._move(group, was_in=was_customer)
        days += _midnights(since, window.stop) if self._is_customer else 0
        end, is_customer, had_paid = self._balance, self._is_customer, self._first_paid is not None
        figures = {
            **{f"mrr_{kind}@{money}": amount for kind, amount in self._moved.items()},
            f"mrr_start@{money}": start,
            f"mrr_end@{money}": end,
            f"mrr_nrr_kept@{money}": end if start else 0,
            f"mrr_grr_kept@{money}": min(start, end),
            f"mrr_reactivated_kept@{money}": end if not start and self._has_reactivated else 0,
            f"mrr_delinquent@{money}": sum(line.micro for line in self._lines.values() if line.state == "past_due"),
            f"mrr_pending_churn@{money}": sum(line.micro for line in self._lines.values() if line.state == "ending"),
            "customers_start": int(was_customer),
            "customers_start_paused": int(was_customer and not start),
            "customers_end": int(is_customer),
            "customers_end_paused": int(is_customer and not end),
            "customers_churned": int(was_customer and not is_customer),
            "customers_new": int(self._entered == "new"),
            "customers_reactivated": int(self._entered == "back"),
            "customers_same_period_churned": int(bool(self._entered) and not is_customer),
            "customer_days": days,
            "customers_ever": int(had_paid),
        }
        figures |= {f"mrr_by_product_start{{{name}}}@{money}": micro for name, micro in products.items()}
        figures |= {f"mrr_by_product{{{name}}}@{money}": micro for name, micro in self._by_product().items()}
        figures |= {f"mrr_by_product_kept{{{name}}}@{money}": micro for name, micro in self._by_product().items() if products[name]}
        if self._first_paid is not None:
            self._lifetime(figures, window, self._first_paid)
        return {name: value for name, value in figures.items() if value}

    def _lifetime(self, figures: dict[str, int], window: Window, first: int) -> None:
        is_running = self._is_customer
        # One that goes on: to the month's end, or to the beginning of today.
        until = (window.end if window.stop == window.end - 1 else window.stop - window.stop % DAY) if is_running else self._customer_until
        months = max(until - first, 0) // _LIFETIME_MONTH
        figures[f"lifetimes_{'running' if is_running else 'ended'}{{{months}}}"] = 1
        if not is_running:
            figures["lifetime_days_ended"] = (until - first) // DAY
        cohort = self._cohort(first)
        figures[f"cohort_accounts{{{cohort}}}"] = 1
        figures[f"cohort_paying{{{cohort}}}"] = int(is_running)
        figures[f"cohort_mrr{{{cohort}}}@{self._currency}"] = self._balance

    def _cohort(self, first: int) -> str:
        for window in self._windows:
            if window.start <= first < window.end:
                return window.text
        return _month_text(first)

    def _look_back(self, found: dict[int, dict[str, int]]) -> None:
        """What a month says of the beginning of its cohort, and of months after it."""
        if self._first_paid is None:
            return
        cohort, money = self._cohort(self._first_paid), self._currency
        began = next((place for place, window in enumerate(self._windows) if window.text == cohort), None)
        mrr = 0 if began is None else found[began].get(f"cohort_mrr{{{cohort}}}@{money}", 0)
        stays = max((place for place, own in found.items() if own.get("customers_end")), default=-1)
        for place, own in found.items():
            if mrr and began is not None and place >= began:
                own[f"cohort_mrr_start{{{cohort}}}@{money}"] = mrr
            if place <= stays and f"cohort_accounts{{{cohort}}}" in own:
                own[f"cohort_paying_unbounded{{{cohort}}}"] = 1

    # -- movements

    def _move(self, group: list[_Turn], *, was_in: bool) -> None:
        """What changes within an hour is one movement (docs/ledger.md section 5)."""
        at, before, was_customer = group[0].at, self._balance, self._is_customer
        pauses = resumes = False
        expired = 0
        for turn in group:
            old, new = self._lines.get(turn.deal, _Line()), turn.line
            pauses |= new.is_paused and not old.is_paused and new.micro < old.micro
            resumes |= old.is_paused and not new.is_paused and new.micro > old.micro
            expired += old.micro if turn.has_expired else 0
            self._lines[turn.deal] = new
        after = self._balance
        self._is_customer = after > 0 or (was_customer and any(line.is_paused for line in self._lines.values()))
        gain = self._gain(at, before, is_resumed=resumes)
        loss = "pause" if pauses and before else "contraction" if after or self._is_customer else "churn"
        if after != before:
            kind = gain if after > before else loss
            self._moved[kind] = self._moved.get(kind, 0) + abs(after - before)
            if kind == "churn" and expired:
                self._moved["churn_expired"] = self._moved.get("churn_expired", 0) + min(expired, before - after)
        if after and not before:
            self.began.append(at)
            self._has_reactivated |= gain == "reactivation"
            self._first_paid = at if self._first_paid is None else self._first_paid
        if before and not after:
            self._paid_until = at
        if self._is_customer and not was_customer and not was_in and not self._entered:
            self._entered = "new" if gain == "new" else "back"
        if was_customer and not self._is_customer:
            self._customer_until = at

    def _gain(self, at: int, before: int, *, is_resumed: bool) -> str:
        if before:
            return "resume" if is_resumed else "expansion"
        if self._first_paid is None:
            return "new"
        return "resume" if at - self._paid_until <= _ALLOWED_GAP else "reactivation"


def _groups(turns: Sequence[_Turn]) -> Iterator[list[_Turn]]:
    """Turns that are one movement: one that moves money, and those within the hour after it and in its month; others stand alone."""
    lines: dict[str, _Line] = {}
    group: list[_Turn] = []
    for turn in turns:
        old = lines.get(turn.deal, _Line())
        lines[turn.deal] = turn.line
        if group and (turn.at >= group[0].at + _MERGED or _month_text(turn.at) != _month_text(group[0].at)):
            yield group
            group = []
        if group or old[:2] != turn.line[:2]:
            group.append(turn)
        else:
            yield [turn]
    if group:
        yield group


def _month_text(at: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=at):%Y-%m}"


def _midnights(since: int, until: int) -> int:
    """How many days begin in `(since, until]`."""
    return until // DAY - since // DAY
