"""The naive second implementation of docs/state.md section 5d: figures of a month from all account events of an account, each time anew.

It shares no code with `models/`.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from deploy.verify.reference_lifecycle import KINDS, Object, objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploy.verify.reference_ledger import Books

Figures: TypeAlias = dict[str, int]
Event: TypeAlias = Any
Members: TypeAlias = dict[str, Any]

DAY = 86_400_000_000
GRACE = 14 * DAY
CARD = {True: "card", False: "no_card", None: "unknown"}
MEANS = {"renewed": "renewed", "expanded": "renewed", "contracted": "renewed", "lapsed": "lapsed", "cancelled": "cancelled"}


class Life:
    """The account events of an account, its payments, and the months that are told."""

    def __init__(self, applied: Sequence[Event], facts: Members, books: Books | None, months: Mapping[str, tuple[int, int]]) -> None:
        """Take all events; `months` is each month's beginning and end, `books` None without any payment event."""
        self._applied, self._facts, self._books, self._months = applied, facts, books, months
        self._name = applied[0].subject if applied else ""

    def figures(self, now: int) -> dict[str, Figures]:
        """Compute the figures of each month; those that are 0 are left out."""
        found: dict[str, Counter[str]] = {month: Counter() for month in self._months}
        for at, figure, amount in (*self._signups(), *self._others(), *self._trials(now), *self._renewals(now)):
            for month, (start, end) in self._months.items():
                if start <= at < end and at <= now:
                    found[month][figure] += amount
        for month, (_, end) in self._months.items():
            found[month]["accounts"] += self._is_there(min(end - 1, now))
        return {month: {name: int(count) for name, count in figures.items() if count} for month, figures in found.items()}

    def acquired(self, paid: Mapping[str, Figures]) -> dict[str, Figures]:
        """Compute how a customer came, from the figures of what it paid."""
        signups = [event for event in self._applied if event.type == "signup.completed"]
        first = min(signups, key=lambda event: event.rank, default=None)
        is_referred = first is not None and self._is_referred(first)
        channel = (first.data.get("channel") if first else None) or "unknown"
        found: dict[str, Figures] = {}
        for month, figures in paid.items():
            own = found.setdefault(month, {})
            own[f"customers_new_by_channel{{{channel}}}"] = figures.get("customers_new", 0)
            own["customers_new_referred"] = figures.get("customers_new", 0) if is_referred else 0
            for name, sign in (("revenue_paid@", 1), ("revenue_refunded@", -1)):
                for key, amount in figures.items():
                    if is_referred and key.startswith(name):
                        total = key.replace(name, "revenue_referred@")
                        own[total] = own.get(total, 0) + sign * amount
        return found

    def onboarding(self, now: int, checklists: Mapping[str, Sequence[str]], today: int) -> dict[str, Figures]:
        """Compute how far the account is with checklists that it has begun and not finished; `today` is when the day of `now` began."""
        found: dict[str, Figures] = {}
        for month, (_, end) in self._months.items():
            stop = min(end - 1, now)
            for name, steps in checklists.items():
                done = [
                    (steps.index(event.data["step"]), event.time)
                    for event in self._applied
                    if event.type == "onboarding.step_completed"
                    and event.data.get("checklist", "default") == name
                    and event.data["step"] in steps
                    and event.time <= stop
                ]
                furthest = max((place for place, _ in done), default=None)
                if furthest is None or furthest == len(steps) - 1 or self._is_deleted(stop):
                    continue
                reached = min(at for place, at in done if place == furthest)
                own = found.setdefault(month, {"onboarding_accounts": 1, "onboarding_steps_done": 0, "onboarding_steps": 0})
                own["onboarding_steps_done"] += furthest + 1
                own["onboarding_steps"] += len(steps)
                days = max((today if end > now else end) - reached, 0) // DAY
                own["onboarding_position_days"] = own.get("onboarding_position_days", 0) + days
        return found

    def renewing(self, now: int, end: Mapping[str, int]) -> Figures:
        """Compute the MRR that renews within 90 days; `end` is what the account has, by currency."""
        found: Figures = {}
        is_any = False
        for due, _, outcome, mrr in self._renewed(now):
            if now < due <= now + 90 * DAY and outcome is None:
                is_any = True
                for amount, contracted in mrr:
                    currency, worth = self._money(contracted, amount * 1_000_000, now)
                    name = f"mrr_renewing_at_risk@{currency}"
                    found[name] = found.get(name, 0) + worth
        return found if found or not is_any else {f"mrr_renewing_at_risk@{currency}": amount for currency, amount in end.items()}

    def _objects(self, kind: str) -> list[Object]:
        return objects(self._applied, KINDS[kind])

    def _is_there(self, at: int) -> bool:
        if not self._applied:
            return False
        since = self._facts.get("created_at", min(event.time for event in self._applied))
        return bool(since <= at and not self._is_deleted(at))

    def _is_deleted(self, at: int) -> bool:
        said = [event for event in self._applied if event.type in ("account.created", "account.deleted")]
        last = max(said, key=lambda event: event.rank, default=None)
        return bool(last is not None and last.type == "account.deleted" and last.time <= at)

    def _is_referred(self, event: Event) -> bool:
        return event.data.get("referred_by") not in (None, self._name, event.data["user_id"])

    def _signups(self) -> Iterator[tuple[int, str, int]]:
        """One for each person: no earlier signup of the same visitor was kept at the same time."""
        everybody = self._objects("signups")
        for one in everybody:
            visitor = one.view["visitor_id"]
            same = [
                other
                for other in everybody
                if visitor is not None and other.view["visitor_id"] == visitor and other.first <= one.last and one.first <= other.last
            ]
            if all((one.view["time"], one.key) <= (other.view["time"], other.key) for other in same):
                yield one.view["time"], "signups", 1
                if self._is_referred(min(one.events, key=lambda event: event.rank)):
                    yield one.view["time"], "signups_referred", 1

    def _others(self) -> Iterator[tuple[int, str, int]]:
        for one in self._objects("touchpoints"):
            yield one.view["time"], f"touchpoints{{{one.view['kind']}}}", 1
        for one in self._objects("referrals"):
            for member in ("made", "converted"):
                at = one.view[f"{member}_at"]
                if at is not None and one.view["referred_account"] != self._name:
                    yield at, f"referrals_{member}", 1
        for one in self._objects("recommendations"):
            made = one.view["made_at"]
            if made is not None:
                yield made, "recommendations_made", 1
                yield made, "recommendations_actioned", int(one.view["actioned_at"] is not None)

    def _trials(self, now: int) -> Iterator[tuple[int, str, int]]:
        for one in self._objects("trials"):
            trial, card = one.view, CARD[one.view["card_on_file"]]
            start = trial["started_at"] if trial["starts_at"] is None else trial["starts_at"]
            end = trial["ended_at"] if trial["ends_at"] is None else trial["ends_at"]
            if start is not None and one.last == math.inf:
                is_over = end is not None and end + GRACE <= now
                yield start, f"trials_started{{{card}}}", 1
                yield start, f"trials_matured{{{card}}}", int(is_over)
                yield start, f"trials_converted{{{card}}}", int(is_over and self._has_converted(trial, start, end + GRACE, now))

    def _has_converted(self, trial: Members, start: int, deadline: int, now: int) -> bool:
        says = trial["converted_at"] is not None and trial["converted_at"] <= deadline
        if self._books is None:
            return says
        spans = self._books.paying(now)
        if any(start <= began <= deadline for began, _ in spans):
            return True
        return says and any(began < start and (ended is None or ended > start) for began, ended in spans)

    def _renewed(self, now: int) -> Iterator[tuple[int, str, str | None, list[tuple[int, str]]]]:
        """Give each renewal: when it is due, its contract, what became of it, and the MRR that its term names."""
        terms = [one.view for one in self._objects("terms") if one.last == math.inf]
        outcomes = [one for one in self._objects("renewal_outcomes") if one.last == math.inf]
        told: dict[tuple[str, int], list[tuple[tuple[int, str], str]]] = {(t["contract_id"], t["term_end"]): [] for t in terms}
        for one in outcomes:
            if one.view["outcome"] is not None:
                ends = sorted(t["term_end"] for t in terms if t["contract_id"] == one.view["contract_id"])
                of = (one.view["contract_id"], _due(one.view, ends))
                told.setdefault(of, []).append(((one.view["time"], one.key), one.view["outcome"]))
        for (contract, due), said in told.items():
            begun = [t for t in terms if t["contract_id"] == contract and t["term_start"] is not None and due <= t["term_start"] <= now]
            outcome = max(said)[1] if said else "renewed" if begun else None
            mrr = [t["mrr"] for t in terms if (t["contract_id"], t["term_end"]) == (contract, due) and t["mrr"] is not None]
            yield due, contract, outcome, mrr

    def _renewals(self, now: int) -> Iterator[tuple[int, str, int]]:
        for due, _, outcome, mrr in self._renewed(now):
            for state in ("due", *([MEANS[outcome]] if outcome else [])):
                yield due, f"renewals_{state}", 1
                for amount, contracted in mrr:
                    currency, worth = self._money(contracted, amount * 1_000_000, due)
                    yield due, f"mrr_renewals_{state}@{currency}", worth

    def _money(self, currency: str, micro: int, at: int) -> tuple[str, int]:
        return (currency, micro) if self._books is None else self._books.money(currency, micro, at)


def _due(outcome: Members, ends: Sequence[int]) -> int:
    for member in ("term_end", "term_start"):
        if outcome[member] in ends:
            return int(outcome[member])
    if ends:
        return min(ends, key=lambda end: (abs(end - outcome["time"]), end))
    return int(outcome["time"] if outcome["term_end"] is None else outcome["term_end"])
