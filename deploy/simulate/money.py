"""What an account pays: trials, deals and their changes, invoices, dunning, pauses, how it ends and whether it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy.simulate.decisions import Agreed, Deal, GaveBack, Invoiced, Ordered, Renewal, Term, Tried
from deploy.simulate.dice import DAY, HOUR, MINUTE, SECOND
from deploy.simulate.world import CURRENCIES, months_later

if TYPE_CHECKING:
    from deploy.simulate.behaviour import Account

PLANS: Final = (("starter", 1_900), ("team", 3_900), ("business", 6_900))
"""Products, and minor units for a seat and month; a year costs ten months."""
EXTRA: Final = ("analytics", 900)
"""What a monthly deal may have besides, for each seat."""

DUNNING: Final = 15 * DAY
"""How long we wait for a payment before the deal counts for nothing: the product's `revenue.dunning_days`."""
SILENCE: Final = 45 * DAY
"""How long after its last payment a deal counts that never says when it ends: the product's `revenue.mrr_expiry_days`."""

RENEWAL_NOTICE: Final = 60 * DAY
_ATTEMPTS: Final = (MINUTE, 3 * DAY, 7 * DAY)
_TRIAL: Final = 14 * DAY


class Money:
    """The money side of an account. `affair` is what is going on: while something is, nothing else is begun."""

    def __init__(self, account: Account) -> None:
        dice = account.dice
        self._account, self._dice = account, dice
        self.base: Deal | None = None
        self.extra: Deal | None = None
        self.affair = "none"
        self._is_annual = dice.chance((0.1, 0.45, 0.85)[account.size])
        self._is_manual = not self._is_annual and dice.chance(0.18)
        self._plan = min(account.size + (1 if dice.chance(0.3) else 0), len(PLANS) - 1)
        self._discount, self._is_for_ever = dice.weighted((((0, False), 82), ((10, True), 6), ((15, True), 3), ((50, False), 9)))
        self._deals = self._invoices = self._others = 0
        self._last_paid = self._last_version = 0
        self._term: tuple[str, int] | None = None

    @property
    def is_paying(self) -> bool:
        """Whether the account pays, or is being reminded to."""
        return self.base is not None and self.base.state in ("active", "ending", "past_due") and not self.base.is_dunned

    @property
    def plan(self) -> str:
        """The name of the product."""
        return PLANS[self._plan][0]

    # -- how it begins

    def was_there(self, at: int) -> None:
        """The account pays already as the simulation begins; its deal is told at `at`."""
        started = self._account.world.scope.starts - self._dice.span(3 * DAY, 900 * DAY)
        started += self._dice.between(7 * 3600, 18 * 3600) * SECOND - started % DAY
        months = self._months
        count = 0
        while (until := months_later(started, count + months)) <= at:
            count += months
        period = (None, None) if self._is_manual else (months_later(started, count) if count else started, until)
        self._agree(started, self._deal(started)._replace(period_start=period[0], period_end=period[1]), told_at=at)
        self.affair = ""
        self._last_version = at
        following = until
        if self._is_annual:
            self._sign(at, months_later(started, count) if count else started, until)
        self._account.later(following, self._renew)

    def try_it(self, at: int) -> None:
        """Begin a trial, which converts or not, depending on how the account does."""
        has_card = self._dice.weighted(((True, 35), (False, 60), (None, 5)))
        ends_at = at + _TRIAL
        chance = (0.52 if has_card else 0.24) * (0.5 + self._account.quality)
        converts = self._dice.chance(chance)
        ends = at + self._dice.span(3 * DAY, _TRIAL) if converts and self._dice.chance(0.25) else ends_at
        trial = Tried(
            self._account.id,
            at,
            f"trial-{self._account.number:06}",
            self.plan,
            has_card,
            ends_at,
            ends if converts else None,
            None if converts else ends_at,
        )
        self._account.say(trial)
        self.affair = "trial"
        self._agree(at, self._deal(at)._replace(state="trialing", trial_end=ends_at, period_start=at, period_end=ends_at))
        self._account.later(ends, self._convert if converts else self._trial_over)

    def buy(self, at: int) -> None:
        """Begin a new deal, sometimes with an extra a few minutes later."""
        self.affair = ""
        self._begin(at, self._deal(at))
        if self._is_monthly_by_card and self._dice.chance(0.06):
            self._add_extra(at + self._dice.span(2 * MINUTE, 40 * MINUTE))

    @property
    def _is_monthly_by_card(self) -> bool:
        return not self._is_annual and not self._is_manual

    @property
    def _months(self) -> int:
        return 12 if self._is_annual else 1

    def _deal(self, at: int) -> Deal:
        self._deals += 1
        product, unit = PLANS[self._plan]
        return Deal(
            f"sub-{self._account.number:06}-{self._deals}",
            product,
            self._account.seats,
            unit * 10 if self._is_annual else unit,
            "year" if self._is_annual else "month",
            self._account.currency,
            at,
            discount=self._discount,
            is_for_ever=self._is_for_ever,
            renews=not self._is_manual,
        )

    def _begin(self, at: int, deal: Deal) -> None:
        """Pay from `at` on, for the first period."""
        until = months_later(at, self._months)
        period = (None, None) if self._is_manual else (at, until)
        self._agree(at, deal._replace(state="active", period_start=period[0], period_end=period[1], trial_end=None))
        setup = 50_000 if self._account.size and self._deals == 1 and self._dice.chance(0.5) else 0
        if self._is_annual:
            self._sign(at, at, until)
        self._account.later(until, self._renew)
        self._bill(at, setup=setup)
        if not self._is_annual and self._dice.chance(0.03):
            self._account.later(at + self._dice.span(DAY, 20 * DAY), self._regret)

    def _regret(self, at: int) -> None:
        """Go again within days of the first payment."""
        if not self.affair:
            self._end(at, told_at=at, why="voluntary")

    def _convert(self, at: int) -> None:
        if self.base is not None:
            self.affair = ""
            self._begin(at, self.base)

    def _trial_over(self, at: int) -> None:
        if self.base is not None:
            self._agree(at, self.base._replace(state="ended", ends_at=at), why="trial_over")
            self.affair = "none"
            if self._dice.chance(0.08):
                self._account.later(at + self._dice.span(10 * DAY, 90 * DAY), self._come_late)

    def _come_late(self, at: int) -> None:
        if not self.is_paying:
            self.buy(at)

    # -- what is agreed

    def _agree(self, at: int, deal: Deal, *, told_at: int | None = -1, why: str = "") -> None:
        """Note how the base deal stands from `at` on; `told_at` is the same instant unless it is given."""
        if self.base is None or self.base.name == deal.name or self.base.state == "ended":
            self.base = deal
        told = at if told_at == -1 else told_at
        if told is not None:
            self._last_version = max(told, self._last_version)
        self._account.say(Agreed(self._account.id, at, told, deal, why))

    def _agree_extra(self, at: int, deal: Deal, *, why: str = "") -> None:
        self.extra = None if deal.state == "ended" else deal
        self._account.say(Agreed(self._account.id, at, at, deal, why))

    def add_seats(self, at: int) -> None:
        """More seats: a few, or many at once."""
        growth = max(1, round(self._account.seats * abs(self._dice.around(0.15, 0.6))))
        self._reseat(at, self._account.seats + growth)

    def drop_seats(self, at: int) -> None:
        """Fewer seats."""
        if self._account.seats > 1:
            loss = max(1, round(self._account.seats * min(0.7, self._dice.around(0.2, 0.5))))
            self._reseat(at, max(1, self._account.seats - loss))

    def _reseat(self, at: int, seats: int) -> None:
        if self.base is None:
            return
        self._agree(at, self.base._replace(seats=seats))
        if self.extra is not None and self._dice.chance(0.5):
            self._agree_extra(at + self._dice.span(SECOND, 20 * MINUTE), self.extra._replace(seats=seats))
        self._account.has_seats(at, seats)

    def change_plan(self, at: int, step: int) -> None:
        """Another product, dearer or cheaper."""
        plan = self._plan + step
        if self.base is not None and 0 <= plan < len(PLANS):
            self._plan = plan
            product, unit = PLANS[plan]
            self._agree(at, self.base._replace(product=product, unit=unit * 10 if self._is_annual else unit))

    def toggle_extra(self, at: int) -> None:
        """Buy the extra, or give it up."""
        if self.extra is not None:
            self._agree_extra(at, self.extra._replace(state="ended", ends_at=at), why="voluntary")
        elif self._is_monthly_by_card:
            self._add_extra(at)

    def _add_extra(self, at: int) -> None:
        self._others += 1
        product, unit = EXTRA
        name = f"sub-{self._account.number:06}-x{self._others}"
        self._agree_extra(at, Deal(name, product, self._account.seats, unit, "month", self._account.currency, at))

    # -- periods and invoices

    def _renew(self, at: int) -> None:
        """A period is over: the next begins, unless the deal ends with it."""
        base = self.base
        if base is None or self.affair in ("gone", "silent", "paused", "none", "trial"):
            return
        if base.period_end is not None and base.period_end != at:
            return
        if base.state == "ending":
            self._end(at, told_at=at + self._dice.span(SECOND, 5 * MINUTE), why="voluntary")
            return
        until = months_later(at, self._months)
        if not self._is_manual:
            self._agree(at, base._replace(period_start=at, period_end=until))
        if self._is_annual:
            self._sign(at, at, until)
        self._account.later(until, self._renew)
        self._bill(at)

    def _bill(self, at: int, setup: int = 0) -> None:
        """Send the invoice of a period, and collect it."""
        base, dice = self.base, self._dice
        if base is None:
            return
        net = base.seats * base.unit
        if base.discount and (base.is_for_ever or at - base.started_at < DAY):
            net = net * (100 - base.discount) // 100
        if self._is_manual:
            # More than seven days late is seen as a failure nowhere, but it must be well inside the time after which a deal expires.
            self._last_paid = at + dice.span(2 * HOUR, 9 * DAY)
            self._invoice(at, base, net + setup, setup, (), self._last_paid)
        elif dice.chance(0.035 * (1.5 - self._account.health)):
            self._dun(at, base, net + setup, setup)
        else:
            self._invoice(at, base, net + setup, setup, (), at + dice.span(20 * SECOND, 10 * MINUTE))
        if self.extra is not None:
            amount = self.extra.seats * self.extra.unit
            self._invoice(at + SECOND, self.extra, amount, 0, (), at + dice.span(20 * SECOND, 10 * MINUTE))
        if dice.chance(0.006):
            self._invoice(at + HOUR, base, net, 0, (), None, voided_at=at + HOUR + dice.span(MINUTE, 3 * DAY))

    def _invoice(
        self, at: int, deal: Deal, net: int, one_off: int, failed: tuple[int, ...], paid_at: int | None, *, voided_at: int | None = None
    ) -> None:
        self._invoices += 1
        name = f"in-{self._account.number:06}-{self._invoices}"
        tax = net * CURRENCIES[deal.currency] // 100
        self._account.say(
            Invoiced(self._account.id, at, name, deal.name, net, tax, one_off, deal.currency, deal.product, failed, paid_at, voided_at)
        )
        if paid_at is not None and self._dice.chance(0.012):
            kind = self._dice.weighted((("refund", 2), ("credit_note", 1)))
            amount = max(1, net * self._dice.between(5, 60) // 100)
            back_at = paid_at + self._dice.span(HOUR, 20 * DAY)
            self._account.later(back_at, lambda at: self._give_back(at, amount, kind, name))

    def _give_back(self, at: int, amount: int, kind: str, of: str) -> None:
        self._others += 1
        name = f"back-{self._account.number:06}-{self._others}"
        self._account.say(GaveBack(self._account.id, at, name, amount, self._account.currency, kind, of))  # type: ignore[arg-type]

    def order(self, at: int) -> None:
        """Buy something once."""
        self._others += 1
        amount = self._dice.pick((25_000, 49_000, 120_000)) if self._account.size else self._dice.pick((4_900, 9_900, 19_900))
        self._account.say(Ordered(self._account.id, at, f"order-{self._account.number:06}-{self._others}", amount, self._account.currency))

    def _dun(self, at: int, base: Deal, net: int, setup: int) -> None:
        """A payment fails: tried again on the third and the seventh day, and sometimes it comes very late."""
        dice = self._dice
        since = at + MINUTE
        self.affair = "dunning"
        self._agree(since, base._replace(state="past_due"))
        paid_on = dice.weighted(((1, 40), (2, 30), (3, 30)))
        paid_at: int | None = None
        if paid_on < len(_ATTEMPTS):
            paid_at = at + _ATTEMPTS[paid_on]
        else:
            self._account.later(since + DUNNING, self._write_off)
            if dice.chance(0.2):
                paid_at = since + DUNNING + dice.span(HOUR, 5 * DAY)
        if paid_at is None:
            self._account.later(since + DUNNING + 5 * DAY, self._give_up)
        else:
            self._account.later(paid_at, self._recover)
        self._invoice(at, base, net, setup, tuple(at + after for after in _ATTEMPTS[:paid_on]), paid_at)
        self._account.shake(0.05)

    def _recover(self, at: int) -> None:
        if self.base is not None and self.affair == "dunning":
            self._agree(at, self.base._replace(state="active", is_dunned=False))
            self.affair = ""

    def _write_off(self, at: int) -> None:
        if self.base is not None and self.affair == "dunning":
            self._agree(at, self.base._replace(is_dunned=True), told_at=None, why="dunning")

    def _give_up(self, at: int) -> None:
        self._end(at, told_at=at, why="involuntary")

    # -- pauses

    def pause(self, at: int) -> None:
        """Pay nothing for a while: mostly for weeks, and not all come back."""
        if self.base is None or not self._is_monthly_by_card or self.extra is not None:
            return
        dice = self._dice
        self.affair = "paused"
        ends = at + (dice.span(DAY, 6 * DAY) if dice.chance(0.2) else dice.span(20 * DAY, 95 * DAY))
        comes_back = dice.chance(0.72)
        is_set = comes_back and dice.chance(0.4)
        self._agree(at, self.base._replace(state="paused", resumes_at=ends if is_set else None))
        self._account.later(ends, self._resume if comes_back else self._leave_pause)

    def _resume(self, at: int) -> None:
        base = self.base
        if base is None or self.affair != "paused":
            return
        is_told = base.resumes_at is None or self._dice.chance(0.5)
        until = months_later(at, 1)
        resumed = base._replace(state="active", resumes_at=None, period_start=at, period_end=until)
        self._agree(at, resumed, told_at=at if is_told else None)
        self.affair = ""
        self._account.later(until, self._renew)
        self._bill(at)

    def _leave_pause(self, at: int) -> None:
        if self.affair == "paused":
            self._end(at, told_at=at, why="voluntary")

    # -- how it ends

    def leave(self, at: int) -> None:
        """Decide to go: at the end of the period, at once, or without a word; with annual deals a refund is asked for."""
        if self._is_manual:
            if self._dice.chance(0.6):
                self._fall_silent()
            else:
                self._end(at, told_at=at, why="voluntary")
        elif self._is_annual:
            self._leave_with_refund(at)
        elif self._dice.chance(0.2):
            self._end(at, told_at=at, why="voluntary")
        else:
            self._ask_to_end(at)

    def _ask_to_end(self, at: int) -> bool:
        """Ask to end with the period; whether there is time for that."""
        base = self.base
        if base is None or base.period_end is None or base.period_end <= at + HOUR:
            return False
        self.affair = "ending"
        self._agree(at, base._replace(state="ending", ends_at=base.period_end), why="voluntary")
        if self.extra is not None:
            self._agree_extra(at + SECOND, self.extra._replace(state="ending", ends_at=base.period_end))
        if base.period_end - at > 3 * DAY and self._dice.chance(0.15):
            self._account.later(at + self._dice.span(DAY, base.period_end - at - DAY), self._stay)
        return True

    def _stay(self, at: int) -> None:
        if self.base is not None and self.affair == "ending":
            self.affair = ""
            self._agree(at, self.base._replace(state="active", ends_at=None))
            if self.extra is not None:
                self._agree_extra(at + SECOND, self.extra._replace(state="active", ends_at=None))
            self._account.shake(-0.15)

    def _fall_silent(self) -> None:
        self.affair = "silent"
        self._account.later(max(self._last_version, self._last_paid) + SILENCE, self._expire)

    def _expire(self, at: int) -> None:
        self._end(at, told_at=None, why="expired")

    def _leave_with_refund(self, at: int) -> None:
        base = self.base
        if base is None or base.period_end is None or base.period_end <= at + 2 * DAY:
            return
        left = (base.period_end - at) / (365 * DAY)
        self._give_back(at, max(1, int(base.seats * base.unit * min(left, 1.0))), "refund_and_end", base.name)
        self._end(at, told_at=at + self._dice.span(MINUTE, DAY), why="voluntary")

    def _end(self, at: int, *, told_at: int | None, why: str) -> None:
        """The deal is over; some come back, most do not."""
        dice, base = self._dice, self.base
        if base is None or self.affair == "gone":
            return
        self._agree(at, base._replace(state="ended", ends_at=at), told_at=told_at, why=why)
        if self.extra is not None:
            self._agree_extra(at, self.extra._replace(state="ended", ends_at=at), why=why)
        self.affair = "gone"
        comes_back = dice.weighted(((0, 85), (1, 3), (2, 12)))
        if comes_back:
            back_at = at + (dice.span(12 * HOUR, 6 * DAY) if comes_back == 1 else dice.span(14 * DAY, 240 * DAY))
            self._account.later(max(back_at, (told_at or at) + HOUR), self._return)
        else:
            self._account.lost(at)

    def _return(self, at: int) -> None:
        if self.affair == "gone":
            self._account.returned(at)
            self.buy(at)

    # -- annual contracts

    def _sign(self, at: int, start: int, end: int) -> None:
        """Sign a term, whose renewal is announced two months before its end and decided then."""
        base = self.base
        if base is None:
            return
        name = f"contract-{self._account.number:06}-{self._deals}"
        if self._term is not None and self._term[0] == name:
            decided: tuple[tuple[str, float], ...] = (("renewed", 80), ("expanded", 15), ("contracted", 5))
            outcome = self._dice.weighted(decided) if self._dice.chance(0.85) else None
            if outcome is not None:  # else nobody told, and the new term says it
                self._account.say(Renewal(self._account.id, at, name, self._term[1], outcome))  # type: ignore[arg-type]
        self._term = (name, end)
        notice = end - RENEWAL_NOTICE
        told = notice if notice > at and self._dice.chance(0.9) else None
        self._account.say(Term(self._account.id, at, name, start, end, base.seats * base.unit // 12, base.currency, told))
        self._account.later(max(notice, at + HOUR), self._decide)

    def _decide(self, at: int) -> None:
        """Whether a term that ends soon is renewed."""
        base, dice = self.base, self._dice
        if base is None or self.affair or base.period_end is None or self._term is None or self._term[1] != base.period_end:
            return
        if not dice.chance(self._account.chance_to_leave_at_renewal()):
            return
        if self._ask_to_end(at):
            outcome = dice.weighted((("cancelled", 70), ("lapsed", 30)))
            name, end = self._term
            decided_at = at + dice.span(HOUR, 20 * DAY) if outcome == "cancelled" else end + dice.span(HOUR, 3 * DAY)
            self._account.later(decided_at, lambda at: self._tell_end(at, name, end, outcome))

    def _tell_end(self, at: int, name: str, end: int, outcome: str) -> None:
        if self.affair in ("ending", "gone"):
            self._account.say(Renewal(self._account.id, at, name, end, outcome))  # type: ignore[arg-type]
