"""Recurring revenue of a period: movements, retention of revenue, concentration (shared metric definitions, section 1).

Amounts are in one unit and currency throughout. Rates are shares of 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from models.kpi.exact import Exact, Reading, exact, none, ratio

PausePolicy = Literal["zero", "keep"]


@dataclass(frozen=True, slots=True)
class Movements:
    """What moved MRR in a period; losses as positive amounts, `fx` of either sign.

    With `pause_policy` `zero` a pause is a contraction and a resumption an expansion in every rate; with `keep` they are in none.
    """

    start: Exact = 0
    new: Exact = 0
    reactivation: Exact = 0
    expansion: Exact = 0
    contraction: Exact = 0
    churn: Exact = 0
    pause: Exact = 0
    resume: Exact = 0
    fx: Exact = 0
    pause_policy: PausePolicy = "zero"

    @property
    def end(self) -> Fraction:
        """Start + new + reactivation + expansion + resume − contraction − churn − pause + fx, exactly."""
        gains = exact(self.new) + exact(self.reactivation) + exact(self.expansion)
        losses = exact(self.contraction) + exact(self.churn) + exact(self.pause)
        return exact(self.start) + gains + exact(self.resume) + exact(self.fx) - losses

    @property
    def _paused(self) -> Fraction:
        return exact(self.pause) if self.pause_policy == "zero" else Fraction(0)

    @property
    def _resumed(self) -> Fraction:
        return exact(self.resume) if self.pause_policy == "zero" else Fraction(0)

    @property
    def losses(self) -> Fraction:
        """Churn and contraction."""
        return exact(self.churn) + exact(self.contraction) + self._paused

    def gross_churn(self) -> Reading:
        """(churn + contraction) / start [ChartMogul: 20 %]. With one movement an account and none of new ones it is 1 − GRR."""
        return ratio(self.losses, self.start)

    def net_churn(self) -> Reading:
        """(churn + contraction − expansion − reactivation) / start [ChartMogul: 10 %]; below zero is good."""
        return ratio(self.losses - exact(self.expansion) - exact(self.reactivation) - self._resumed, self.start)

    def quick_ratio(self, *, include_reactivation: bool = False) -> Reading:
        """(new + expansion) / (churn + contraction) [Baremetrics], the reactivated as an option.

        Without losses it is null, the gains beside it.
        """
        gains = exact(self.new) + exact(self.expansion) + self._resumed
        if include_reactivation:
            gains += exact(self.reactivation)
        return ratio(gains, self.losses, "no_losses", gains=gains)

    def net_new(self) -> Fraction:
        """End − start."""
        return self.end - exact(self.start)

    def growth(self) -> Reading:
        """(end − start) / start; from nothing it is null."""
        return ratio(self.net_new(), self.start)


Balance = tuple[Exact, Exact]
"""MRR of an account at the start and at the end of a period, at the exchange rates of the start."""


def grr(balances: Iterable[Balance]) -> Reading:
    """Σ min(end, start) / Σ start over the accounts with MRR at the start [SaaS Metrics Standards Board].

    For each account by itself, so that no expansion hides another's loss: never above 1.
    """
    cohort = [(exact(start), exact(end)) for start, end in balances if start > 0]
    return ratio(sum(min(pair) for pair in cohort), sum(start for start, _ in cohort), n=len(cohort))


def nrr(balances: Iterable[Balance], reactivated: Iterable[Exact] = ()) -> Reading:
    """Σ end / Σ start over the accounts with MRR at the start [fight-churn 2.1]; what is new is not in it.

    `reactivated`: the MRR at the end of accounts that came back after the start, to count them as ChartMogul does.
    """
    cohort = [(exact(start), exact(end)) for start, end in balances if start > 0]
    kept = sum(end for _, end in cohort) + sum(map(exact, reactivated))
    return ratio(kept, sum(start for start, _ in cohort), n=len(cohort))


def arr(mrr: Exact) -> Fraction:
    """12 × MRR."""
    return 12 * exact(mrr)


def per_account(mrr: Exact, paying: int) -> Reading:
    """ARPA: MRR / paying accounts; null without any. ARPA × accounts is MRR, exactly."""
    return ratio(mrr, paying, n=paying)


def per_user(mrr: Exact, active_users: int) -> Reading:
    """ARPU: MRR / users active in 28 days; null without any."""
    return ratio(mrr, active_users, n=active_users)


def concentration(amounts: Mapping[str, Exact]) -> Reading:
    """Herfindahl-Hirschman index: Σ share², 1 / parts to 1; null of nothing. One product that has everything is 1."""
    total = sum(map(exact, amounts.values()))
    return ratio(sum(exact(each) ** 2 for each in amounts.values()), total * total, n=len(amounts))


def is_sustainable(rates: Sequence[Reading], periods: int = 3) -> bool | None:
    """Whether NRR of a product was at least 1 in each of the last periods; None when one of them has none."""
    last = [each.value for each in rates[-periods:]]
    if len(last) < periods or any(value is None for value in last):
        return None
    return all(value is not None and value >= 1 for value in last)


def expected_loss(mrr_by_account: Mapping[str, Exact], risk_by_account: Mapping[str, Exact], *, is_calibrated: bool) -> Reading:
    """Σ churn risk × MRR over the accounts with a risk; withheld while the risk is no probability yet."""
    if not is_calibrated or not risk_by_account:
        return none("no_calibrated_risk")
    lost = sum(exact(risk) * exact(mrr_by_account.get(account, 0)) for account, risk in risk_by_account.items())
    return Reading(Fraction(lost), None, len(risk_by_account))
