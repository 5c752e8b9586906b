"""What the life of an account comes to in a month: trials, signups, renewals, referrals, contacts, advice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from deploy.simulate import decisions as d
from deploy.simulate.dice import DAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.simulate.truth import Window

_GRACE: Final = 14 * DAY
_MICRO: Final = 1_000_000
_CARD: Final = {True: "card", False: "no_card", None: "unknown"}


class Life:
    """What happened to an account besides money, tickets and surveys: each thing by when it happened and the figure that it counts in."""

    def __init__(self, joined: d.Joined, as_of: int) -> None:
        self._account, self._as_of = joined.account, as_of
        self._created_at = joined.created_at
        self._deleted_at: int | None = None
        self._happened: list[tuple[int, str]] = []
        self._trials: list[d.Tried] = []
        self._terms: list[d.Term] = []
        self._outcomes: dict[tuple[str, int], str] = {}
        self._signup: d.SignedUp | None = None

    @property
    def channel(self) -> str:
        """What brought the account."""
        return "unknown" if self._signup is None else self._signup.channel

    @property
    def is_referred(self) -> bool:
        """Whether another account referred it."""
        return self._signup is not None and self._signup.referred_by not in (None, self._account)

    def hear(self, decision: d.Decision) -> None:
        """Note a decision."""
        match decision:
            case d.Changed():
                self._deleted_at = decision.at if decision.is_deleted else self._deleted_at
            case d.SignedUp():
                self._signup = decision
            case d.Tried():
                self._trials.append(decision)
            case d.Term():
                self._terms.append(decision)
            case d.Renewal():
                self._outcomes[decision.name, decision.end] = decision.outcome
        for at, figure in self._counts(decision):
            if at is not None and at <= self._as_of:
                self._happened.append((at, figure))

    def _counts(self, decision: d.Decision) -> Iterator[tuple[int | None, str]]:
        """When a decision counts, and in which figure."""
        match decision:
            case d.SignedUp():
                yield decision.at, "signups"
                if self.is_referred:
                    yield decision.at, "signups_referred"
            case d.Referred():
                yield decision.at, "referrals_made"
                yield decision.converted_at, "referrals_converted"
            case d.Contact():
                yield decision.at, f"touchpoints{{{decision.kind}}}"
            case d.Advised():
                yield decision.at, "recommendations_made"
                if decision.done_at is not None and decision.done_at <= self._as_of:
                    yield decision.at, "recommendations_actioned"

    def figures(self, window: Window, pays_from: Sequence[int]) -> dict[str, int]:
        """The figures of a month; the account began to pay at the instants `pays_from`."""
        found = Counter(figure for at, figure in self._happened if window.start <= at < window.end)
        is_gone = self._deleted_at is not None and self._deleted_at <= window.stop
        found["accounts"] = int(self._created_at <= window.stop and not is_gone)
        for trial in self._trials:
            if window.start <= trial.at < window.end:
                self._count_trial(trial, pays_from, found)
        for term in self._terms:
            if window.start <= term.end < window.end and term.end <= self._as_of:
                self._count_renewal(term, found)
        return {name: count for name, count in found.items() if count}

    def _count_trial(self, trial: d.Tried, pays_from: Sequence[int], found: Counter[str]) -> None:
        """A trial has come so far when two weeks have gone since its end; it converted if the account began to pay until then."""
        card, deadline = _CARD[trial.has_card], trial.ends_at + _GRACE
        found[f"trials_started{{{card}}}"] += 1
        if deadline <= self._as_of:
            found[f"trials_matured{{{card}}}"] += 1
            found[f"trials_converted{{{card}}}"] += any(trial.at < at <= deadline for at in pays_from)

    def _count_renewal(self, term: d.Term, found: Counter[str]) -> None:
        """What became of the renewal at the end of a term; one that nobody tells of is renewed when the next term begins."""
        outcome = self._outcomes.get((term.name, term.end))
        if outcome in ("expanded", "contracted") or (outcome is None and any(next_.start == term.end for next_ in self._terms)):
            outcome = "renewed"
        for state in ("due", *(() if outcome is None else (outcome,))):
            found[f"renewals_{state}"] += 1
            found[f"mrr_renewals_{state}@{term.currency}"] += term.amount * _MICRO
