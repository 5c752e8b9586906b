"""What the life of an account comes to in a month: trials, signups, referrals, contacts, advice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from deploy.simulate import decisions as d

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.simulate.truth import Window

_CARD = {True: "card", False: "no_card", None: "unknown"}


class Life:
    """What happened to an account besides money, tickets and surveys: each thing by when it happened and the figure that it counts in."""

    def __init__(self, joined: d.Joined) -> None:
        self._account = joined.account
        self._joined_at = joined.at
        self._deleted_at: int | None = None
        self._happened: list[tuple[int, str]] = []

    def hear(self, decision: d.Decision, as_of: int) -> None:
        """Note a decision, as far as it happens up to `as_of`."""
        if isinstance(decision, d.Changed) and decision.is_deleted:
            self._deleted_at = decision.at
        self._happened += [(at, figure) for at, figure in self._counts(decision) if at is not None and at <= as_of]

    def _counts(self, decision: d.Decision) -> Iterator[tuple[int | None, str]]:
        match decision:
            case d.Tried():
                yield decision.at, f"trials_started{{{_CARD[decision.has_card]}}}"
            case d.SignedUp():
                yield decision.at, "signups"
                if decision.referred_by not in (None, self._account):
                    yield decision.at, "signups_referred"
            case d.Referred():
                yield decision.at, "referrals_made"
                yield decision.converted_at, "referrals_converted"
            case d.Contact():
                yield decision.at, f"touchpoints{{{decision.kind}}}"
            case d.Advised():
                yield decision.at, "recommendations_made"
            case _:
                pass

    def figures(self, window: Window) -> dict[str, int]:
        """The figures of a month."""
        found = Counter(figure for at, figure in self._happened if window.start <= at < window.end)
        is_gone = self._deleted_at is not None and self._deleted_at <= window.stop
        found["accounts"] = int(self._joined_at <= window.stop and not is_gone)
        return {name: count for name, count in found.items() if count}
