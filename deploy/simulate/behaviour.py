"""An account from day to day: its hidden health, its people, what they do, and what it decides because of it.

Health lies between 0 and 1 and is never told. It drifts towards what the account is like, and is shaken by incidents, failed payments, slow
support and champions who leave. Use, tickets, answers to surveys and the wish to leave all follow from it.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final

from deploy.simulate.contacts import Contacts
from deploy.simulate.decisions import Changed, Failure, Joined, Referred, SignedUp, Snapshot, StepDone, Used, UserMoved
from deploy.simulate.dice import DAY, HOUR, MINUTE, SECOND, Dice
from deploy.simulate.money import Money
from deploy.simulate.world import REFERRAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.simulate.decisions import Decision
    from deploy.simulate.world import World

FEATURES: Final = ("dashboards", "reports", "exports", "search", "automation", "api", "sharing", "admin", "mobile", "sso")
_CORE: Final = 5
"""So many of them belong to every product."""
_STEPS: Final = ("connect_data", "invite_team", "first_dashboard", "go_live")
_INDUSTRIES: Final = ("software", "retail", "logistics", "health", "finance", "education", "media")
_REGIONS: Final = ("EU", "US", "UK", "APAC")
_CSMS: Final = ("dana", "eli", "fatima", "goran", "hana", "ivo")
_FIRST: Final = ("North", "Blue", "Bright", "Quick", "Iron", "Silver", "Green", "Clear", "Grand", "Red")
_SECOND: Final = ("wind", "field", "bridge", "harbor", "stone", "river", "forge", "lane", "peak", "gate")
_KIND: Final = ("Labs", "Logistics", "Foods", "Systems", "Partners", "Media", "Health", "Retail")

_SEATS: Final = ((6, 0.6, 2), (22, 0.5, 8), (85, 0.4, 30))
"""Seats of small, middling and large accounts: median, spread, least."""
_LEAVES: Final = (0.024, 0.013, 0.007)
"""The share of them that leaves in a month, for one of middling health; of annual ones it is decided at renewals."""

_MIDDLING: Final = 0.62
_MONTH: Final = 30.4375
_ACTIVE: Final = 0.33
"""How likely a user of a healthy account uses the product on an average day."""


class Account:
    """One account. `day` simulates a day, and returns what was decided; of several days in their order."""

    def __init__(self, number: int, world: World) -> None:
        scope, arrival = world.scope, world.arrivals[number]
        self.number, self.world, self.id = number, world, f"acct-{number:06}"
        self.dice = Dice(f"{scope.seed}/{number}")
        self._use = Dice(f"{scope.seed}/{number}/use")
        place = self.dice.weighted([(place, share) for place, (_, share) in enumerate(scope.segments)])
        self.size = min(2, place * 3 // len(scope.segments) if len(scope.segments) > 1 else self.dice.weighted(((0, 70), (1, 25), (2, 5))))
        self._segment: str | None = scope.segments[place][0] if self.dice.chance(0.97) else None
        median, spread, least = _SEATS[self.size]
        self.seats = max(least, round(self.dice.around(median, spread)))
        self.currency = self.dice.weighted(tuple((currency, 1 / (1 + place)) for place, currency in enumerate(scope.currencies)))
        self.quality = min(0.95, max(0.15, 0.66 + 0.17 * self.dice.normal()))
        self.health = min(1.0, max(0.05, self.quality + 0.1 * self.dice.normal()))
        self.users: list[tuple[str, float]] = []
        self.money = Money(self)
        self._arrival = arrival
        self._users_ever = 0
        self._promoted_on = -1
        self._next_segment = scope.segments[min(place + 1, len(scope.segments) - 1)][0]
        if self._segment is not None and self._next_segment != self._segment and self.dice.chance(0.05):
            self._promoted_on = self.dice.between(arrival.day + 30, arrival.day + 700)
        self._owner = self.dice.pick(_CSMS)
        self._is_deleted = False
        self._agenda: list[tuple[int, int, Callable[[int], None]]] = []
        self._scheduled = 0
        self._said: list[Decision] = []
        self._today = -1
        self.is_hit = False
        self.contacts = Contacts(self)

    # -- what the parts of an account do with it

    def say(self, decision: Decision) -> None:
        """Decide something."""
        self._said.append(decision)

    def later(self, at: int, what: Callable[[int], None]) -> None:
        """Do something at an instant to come, in the order of time; what is due today is done before the day is over."""
        self._scheduled += 1
        heapq.heappush(self._agenda, (at, self._scheduled, what))

    def shake(self, by: float) -> None:
        """Take something from the health at once; what is negative does good."""
        self.health = min(1.0, max(0.02, self.health - by))

    def chance_to_leave_at_renewal(self) -> float:
        """How likely an annual account does not renew: a year of leaving, by how it is now."""
        return 1 - (1 - min(0.9, self._leaving())) ** 10

    def _leaving(self) -> float:
        """How likely it leaves within a month."""
        return _LEAVES[self.size] * math.exp(3.2 * (_MIDDLING - self.health)) * self.world.climate[self._today]

    def has_seats(self, at: int, seats: int) -> None:
        """The account has other seats from now on; users come and go with them."""
        if seats > self.seats:
            for _ in range(round((seats - self.seats) * 0.8)):
                self._add_user(at + self.dice.span(MINUTE, 5 * HOUR), "member")
        else:
            for _ in range(min(len(self.users) - 2, self.seats - seats)):
                user, _ = self.users.pop(self.dice.between(1, len(self.users) - 1))
                self.say(UserMoved(self.id, at + self.dice.span(MINUTE, 5 * HOUR), user, "removed"))
        self.seats = seats
        features = FEATURES[: _CORE + 2 * self.size] if self.dice.chance(0.5) else None
        self.say(Changed(self.id, at + SECOND, seats=seats, features=features))

    def lost(self, at: int) -> None:
        """The account is gone for good; a few are deleted some time later."""
        self.say(Changed(self.id, at + 2 * MINUTE, stage="churned", former_stage="customer"))
        if self.dice.chance(0.25):
            self.later(at + self.dice.span(40 * DAY, 120 * DAY), self._delete)

    def returned(self, at: int) -> None:
        """It is back, as good as new."""
        self.health = max(self.health, self.quality)
        self.say(Changed(self.id, at + MINUTE, stage="customer", former_stage="churned"))

    def _delete(self, at: int) -> None:
        self._is_deleted = True
        self.say(Changed(self.id, at, is_deleted=True))

    # -- a day

    def day(self, day: int) -> list[Decision]:
        """Simulate a day."""
        self._today = day
        midnight = self.world.midnights[day]
        if day == self._arrival.day:
            self._arrive(midnight)
        if not self._is_deleted:
            self._live(day, midnight)
        while self._agenda and self._agenda[0][0] < midnight + DAY:
            due, _, what = heapq.heappop(self._agenda)
            what(due)
        said, self._said = self._said, []
        return said

    def _live(self, day: int, midnight: int) -> None:
        affair = self.money.affair
        is_there = affair not in ("none", "gone")
        if is_there:
            self._change_health(day)
            if affair == "" and day > self._arrival.day:
                self._decide(midnight)
            self._use_it(day, midnight, 0.05 if affair == "paused" else 1.0)
            self._fail(day)
        if is_there or self.dice.chance(0.02):
            self.contacts.day(day, midnight)
        for referred in self.world.referrals.get(self.number, ()):
            arrives = self.world.arrivals[referred].day
            if arrives - 3 == day:
                came = self.world.midnights[arrives] + 20 * HOUR
                name = f"referral-{self.number:06}-{referred}"
                self.say(Referred(self.id, self.dice.office_hours(midnight), name, f"acct-{referred:06}", came))
        if day + 1 == len(self.world.midnights) or self.world.days[day + 1].day == 1:
            self.say(Snapshot(self.id, midnight + DAY - SECOND, self.seats if is_there else 0))
        if day == self._promoted_on:
            self.say(Changed(self.id, self.dice.office_hours(midnight), segment=self._next_segment))

    def _change_health(self, day: int) -> None:
        incident = self.world.incidents.get(day)
        drift = 0.04 * (self.quality - 0.06 * (self.world.climate[day] - 1) - self.health)
        self.health = min(1.0, max(0.02, self.health + drift + 0.018 * self.dice.normal()))
        self.is_hit = incident is not None and self.dice.chance(incident.share)
        if self.is_hit and incident is not None:
            self.shake(0.12 * incident.severity)

    def _decide(self, midnight: int) -> None:
        """At most one rare thing a day."""
        money, good = self.money, self.health / _MIDDLING
        leaving = self._leaving() * (0.1 if money.base is not None and money.base.interval == "year" else 1.0)
        acts: tuple[tuple[float, Callable[[int], None]], ...] = (
            (leaving, money.leave),
            (0.045 * good**2, money.add_seats),
            (0.014 / good, money.drop_seats),
            (0.007 * good, lambda at: money.change_plan(at, 1)),
            (0.003 / good, lambda at: money.change_plan(at, -1)),
            (0.012, money.toggle_extra),
            (0.006 / good, money.pause),
            (0.03, money.order),
            (0.012, self._lose_champion),
            (0.01, self._change_owner),
            (0.02, lambda at: self._add_user(at, "member")),
            (0.01, self._refer_in_vain),
        )
        left = self.dice.random() * _MONTH
        for monthly, act in acts:
            left -= monthly
            if left < 0:
                self.later(self.dice.office_hours(midnight), lambda at, act=act: act(at) if money.affair == "" else None)  # type: ignore[misc]
                return

    # -- how it comes, and its people

    def _arrive(self, midnight: int) -> None:
        dice, arrival = self.dice, self._arrival
        at = dice.office_hours(midnight)
        name = f"{dice.pick(_FIRST)}{dice.pick(_SECOND)} {dice.pick(_KIND)}"
        is_trial = not arrival.was_there and dice.chance((0.75, 0.4, 0.1)[self.size])
        created_at = at - dice.span(900 * DAY, 1000 * DAY) if arrival.was_there else at
        facts = (self._segment, dice.pick(_INDUSTRIES), dice.pick(_REGIONS))
        stage = "customer" if arrival.was_there else "trial" if is_trial else "lead"
        self.say(
            Joined(
                self.id, at, created_at, name, *facts, self.seats * dice.between(2, 20), self.seats, self.money.plan, self._owner,
                self.currency, stage,
            )
        )  # fmt: skip
        roles = ("champion", "sponsor", "admin")
        for place in range(max(1, round(self.seats * 0.8)) if arrival.was_there or not is_trial else max(1, min(4, self.seats))):
            self._add_user(at + dice.span(SECOND, HOUR // 2), roles[place] if place < len(roles) else "member")
        if arrival.was_there:
            self.money.was_there(at + dice.span(SECOND, HOUR))
            return
        referrer = None if arrival.referred_by is None else f"acct-{arrival.referred_by:06}"
        channel = arrival.channel if dice.chance(0.95) else REFERRAL
        self.say(SignedUp(self.id, at + SECOND, self.users[0][0], f"visitor-{self.number:06}", channel, referrer))
        self._onboard(at)
        if is_trial:
            self.money.try_it(at + 2 * SECOND)
        elif dice.chance(0.85):
            self.later(at + dice.span(HOUR, 20 * DAY), self.money.buy)

    def _onboard(self, at: int) -> None:
        when = at
        for step in _STEPS:
            when += self.dice.span(HOUR, 8 * DAY)
            if not self.dice.chance(0.55 + 0.4 * self.quality):
                return
            self.later(when, lambda at, step=step: self.say(StepDone(self.id, at, "getting_started", step)))  # type: ignore[misc]

    def _add_user(self, at: int, role: str) -> None:
        self._users_ever += 1
        user = f"user-{self.number:06}-{self._users_ever}"
        self.users.append((user, 0.35 + 1.3 * self.dice.random()))
        self.say(UserMoved(self.id, at, user, "added", role))

    def _lose_champion(self, at: int) -> None:
        if len(self.users) < 3:  # noqa: PLR2004 - somebody must take the place
            return
        user, _ = self.users.pop(0)
        self.say(UserMoved(self.id, at, user, "champion_left"))
        self.shake(0.18)
        if self.dice.chance(0.6):
            self.say(UserMoved(self.id, at + self.dice.span(HOUR, 4 * HOUR), self.users[0][0], "role_changed", "champion"))

    def _change_owner(self, at: int) -> None:
        owner = self.dice.pick(_CSMS)
        if owner != self._owner:
            self.say(Changed(self.id, at, owner=owner, former_owner=self._owner))
            self._owner = owner

    def _refer_in_vain(self, at: int) -> None:
        self.say(Referred(self.id, at, f"referral-{self.number:06}-v{self._scheduled}-{self._today}", f"lead-{self.number:06}", None))

    # -- what they do

    def _use_it(self, day: int, midnight: int, share: float) -> None:
        dice, wanted = self._use, self.world.scope.events_per_user_day
        if not wanted:
            return
        scarce = min(1.0, wanted / _ACTIVE)
        often = share * scarce * _ACTIVE * self.world.activity(day) * min(1.3, self.health / _MIDDLING)
        more = wanted / _ACTIVE - 1
        for user, eagerness in self.users:
            if dice.random() >= often * eagerness:
                continue
            times = 1 + (int(more + dice.random()) if more > 0 else 0)
            for _ in range(times):
                at = midnight + int((0.25 + 0.5 * dice.random() + 0.24 * dice.random()) * 86_400) * SECOND
                feature = FEATURES[int(len(FEATURES) * dice.random() ** 2)]
                self.say(Used(self.id, at, user, feature, 1 + int(8 * dice.random() ** 3), 1000 * int(10 + 600 * dice.random())))

    def _fail(self, day: int) -> None:
        incident = self.world.incidents.get(day)
        if incident is not None and self.is_hit:
            for _ in range(self.dice.between(1, 4)):
                at = incident.at + self.dice.span(0, incident.lasts)
                self.say(Failure(self.id, at, "http_500", self.dice.between(1, 40)))
