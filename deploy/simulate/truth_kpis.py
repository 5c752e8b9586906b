"""KPIs from true figures, by the shared metric definitions, sections 1 to 5: with arithmetic of its own, exact, None where there is none.

Percentages are in per cent, money in minor units of one currency, as `churnwatch kpi` has them.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = Fraction | None

_MICRO: Final = 1_000_000


class _Sums:
    """Figures by name; what is not there is 0."""

    def __init__(self, figures: Mapping[str, int], currency: str) -> None:
        self._figures, self._currency = figures, currency

    def __getitem__(self, name: str) -> int:
        return self._figures.get(name, 0)

    def money(self, name: str) -> Fraction:
        """An amount in minor units."""
        return Fraction(self._figures.get(f"{name}@{self._currency}", 0), _MICRO)

    def by_label(self, name: str) -> dict[str, int]:
        """The numbers of a figure by what it is kept apart by."""
        start = f"{name}{{"
        return {key[len(start) : key.rindex("}")]: value for key, value in self._figures.items() if key.startswith(start)}

    def costs(self, kind: str) -> Fraction | None:
        """What was spent on a kind of cost; None when nothing ever said."""
        found = [
            amount
            for key, amount in self._figures.items()
            if key.startswith((f"costs{{{kind}.", f"costs{{{kind}}}")) and key.endswith(f"@{self._currency}")
        ]
        return Fraction(sum(found), _MICRO) if found else None

    def all_of(self, name: str) -> int:
        """Those together."""
        return sum(self.by_label(name).values())


def _over(part: Fraction | int, whole: Fraction | int) -> Value:
    return Fraction(part) / whole if whole else None


def _percent(part: Fraction | int, whole: Fraction | int) -> Value:
    return Fraction(part) * 100 / whole if whole else None


def _lost(sums: _Sums) -> int:
    return sums["customers_churned"] + sums["customers_same_period_churned"]


def _losses(sums: _Sums) -> Fraction:
    return sums.money("mrr_churn") + sums.money("mrr_contraction") + sums.money("mrr_pause")


def _gains(sums: _Sums) -> Fraction:
    return sums.money("mrr_expansion") + sums.money("mrr_resume")


def _median(ended: Mapping[str, int], running: Mapping[str, int]) -> Value:
    """The duration that half do not exceed: the middle of its bucket."""
    counts: dict[int, int] = {}
    for buckets in (ended, running):
        for label, count in buckets.items():
            counts[int(label)] = counts.get(int(label), 0) + count
    total, reached = sum(counts.values()), 0
    for least in sorted(counts):
        reached += counts[least]
        if 2 * reached >= total:
            width = 1
            while least // width >= 64:  # noqa: PLR2004 - docs/metrics.md: exact below 64 seconds
                width *= 2
            return Fraction(2 * least + width - 1, 2)
    return None


def _cost_of(kind: str, over: Callable[[_Sums], Fraction | int]) -> Callable[[_Sums], Value]:
    def made(sums: _Sums) -> Value:
        cost = sums.costs(kind)
        return None if cost is None else _over(cost, over(sums))

    return made


def _margin(*kinds: str) -> Callable[[_Sums], Value]:
    def made(sums: _Sums) -> Value:
        costs = [sums.costs(kind) for kind in kinds]
        revenue = sums.money("revenue_paid") - sums.money("revenue_refunded")
        return None if None in costs else _percent(revenue - sum(cost or 0 for cost in costs), revenue)

    return made


def _renewals(state: str) -> Callable[[_Sums], Value]:
    return lambda sums: _percent(sums[f"renewals_{state}"], sums["renewals_due"])


def _renewals_by_mrr(state: str) -> Callable[[_Sums], Value]:
    return lambda sums: _percent(sums.money(f"mrr_renewals_{state}"), sums.money("mrr_renewals_due"))


def _nps(sums: _Sums) -> Value:
    answers = sums["nps_promoters"] + sums["nps_passives"] + sums["nps_detractors"]
    return _percent(sums["nps_promoters"] - sums["nps_detractors"], answers)


KPIS: Final[dict[str, Callable[[_Sums], Value]]] = {
    "mrr": lambda s: s.money("mrr_end"),
    "arpu": lambda s: _over(s.money("mrr_end"), s["active_users_28d"]),
    "arr": lambda s: 12 * s.money("mrr_end"),
    "arpa": lambda s: _over(s.money("mrr_end"), s["customers_end"] - s["customers_end_paused"]),
    "net_new_mrr": lambda s: s.money("mrr_end") - s.money("mrr_start"),
    "mrr_growth_rate": lambda s: _percent(s.money("mrr_end") - s.money("mrr_start"), s.money("mrr_start")),
    "grr": lambda s: _percent(s.money("mrr_grr_kept"), s.money("mrr_start")),
    "nrr": lambda s: _percent(s.money("mrr_nrr_kept"), s.money("mrr_start")),
    "nrr_with_reactivation": lambda s: _percent(s.money("mrr_nrr_kept") + s.money("mrr_reactivated_kept"), s.money("mrr_start")),
    "gross_mrr_churn": lambda s: _percent(_losses(s), s.money("mrr_start")),
    "net_mrr_churn": lambda s: _percent(_losses(s) - _gains(s) - s.money("mrr_reactivation"), s.money("mrr_start")),
    "quick_ratio": lambda s: _over(s.money("mrr_new") + _gains(s), _losses(s)),
    "quick_ratio_with_reactivation": lambda s: _over(s.money("mrr_new") + _gains(s) + s.money("mrr_reactivation"), _losses(s)),
    "mrr_new": lambda s: s.money("mrr_new"),
    "mrr_expansion": lambda s: s.money("mrr_expansion"),
    "mrr_churn": lambda s: s.money("mrr_churn"),
    "lost_opportunity": lambda s: 12 * s.money("mrr_churn"),
    "total_revenue": lambda s: s.money("revenue_paid") - s.money("revenue_refunded"),
    "revenue_refunded": lambda s: s.money("revenue_refunded"),
    "revenue_one_off": lambda s: s.money("revenue_one_off"),
    "clv_historic": lambda s: _over(s.money("revenue_to_date"), s["customers_ever"]),
    "average_order_value": lambda s: _over(s.money("revenue_one_off"), s["orders"]),
    "purchase_frequency": lambda s: _over(s["orders"], s["buyers"]),
    "repeat_purchase_rate": lambda s: _percent(s["buyers_repeat"], s["buyers_ever"]),
    "cac": _cost_of("acquisition", lambda s: s["customers_new"]),
    "crc_per_retained": _cost_of("retention", lambda s: s["customers_start"] - s["customers_churned"]),
    "crc_per_customer": _cost_of("retention", lambda s: Fraction(s["customers_start"] + s["customers_end"], 2)),
    "gross_margin": _margin("cogs"),
    "net_margin": _margin("cogs", "opex"),
    "customers": lambda s: Fraction(s["customers_end"]),
    "customers_new": lambda s: Fraction(s["customers_new"]),
    "customers_churned": lambda s: Fraction(s["customers_churned"]),
    "customer_churn_rate": lambda s: _percent(s["customers_churned"], s["customers_start"]),
    "customer_churn_rate_start_plus_new": lambda s: _percent(
        _lost(s), s["customers_start"] + s["customers_new"] + s["customers_reactivated"]
    ),
    "customer_churn_rate_all_lost": lambda s: _percent(_lost(s), s["customers_start"]),
    "customer_retention_rate": lambda s: _percent(s["customers_start"] - s["customers_churned"], s["customers_start"]),
    "customer_growth_rate": lambda s: _percent(s["customers_end"] - s["customers_start"], s["customers_start"]),
    "customer_lifetime_mean": lambda s: _over(Fraction(s["lifetime_days_ended"], 365), s.all_of("lifetimes_ended")),
    "accounts": lambda s: Fraction(s["accounts"]),
    **{f"renewals_{state}_rate": _renewals(state) for state in ("renewed", "lapsed", "cancelled")},
    **{f"renewals_{state}_mrr_rate": _renewals_by_mrr(state) for state in ("renewed", "lapsed", "cancelled")},
    "renewals_open_rate": lambda s: _percent(
        s["renewals_due"] - s["renewals_renewed"] - s["renewals_lapsed"] - s["renewals_cancelled"], s["renewals_due"]
    ),
    "trials_started": lambda s: Fraction(s.all_of("trials_started")),
    "trials_open": lambda s: Fraction(s.all_of("trials_started") - s.all_of("trials_matured")),
    "trial_conversion_rate": lambda s: _percent(s.all_of("trials_converted"), s.all_of("trials_matured")),
    "signups": lambda s: Fraction(s["signups"]),
    "referred_signup_rate": lambda s: _percent(s["signups_referred"], s["signups"]),
    "referral_rate": lambda s: _percent(s["customers_new_referred"], s["customers_new"]),
    "referral_revenue_rate": lambda s: _percent(s.money("revenue_referred"), s.money("revenue_paid") - s.money("revenue_refunded")),
    "referrals_made": lambda s: Fraction(s["referrals_made"]),
    "referrals_converted_per_made": lambda s: _over(s["referrals_converted"], s["referrals_made"]),
    "tickets_created": lambda s: Fraction(s["tickets_created"]),
    "tickets_open": lambda s: Fraction(s["tickets_open"]),
    "tickets_open_urgent_age": lambda s: _over(s["tickets_open_urgent_seconds"], s["tickets_open_urgent"]),
    "first_response_median": lambda s: _median(s.by_label("first_responses"), s.by_label("first_responses_waiting")),
    "resolution_median": lambda s: _median(s.by_label("resolutions"), {}),
    "first_contact_resolution": lambda s: _percent(s["fcr_resolved"], s["fcr_solved"]),
    "tickets_per_100_users": lambda s: _over(100 * s["tickets_created_28d"], s["active_users_28d"]),
    "dau": lambda s: Fraction(s["active_users_1d"]),
    "wau": lambda s: Fraction(s["active_users_7d"]),
    "mau": lambda s: Fraction(s["active_users_28d"]),
    "stickiness": lambda s: _over(Fraction(s["user_days_28d"], 28), s["active_users_28d"]),
    "nps": _nps,
    "csat": lambda s: _percent(s.all_of("csat_positive"), s.all_of("csat_answers")),
    "ces": lambda s: _percent(s.all_of("ces_positive"), s.all_of("ces_answers")),
    "satisfied_of_answered": lambda s: _percent(s["csat_accounts_positive"], s["csat_accounts"]),
    "plan_adherence": lambda s: _percent(s["recommendations_actioned"], s["recommendations_made"]),
    "satisfied_of_all": lambda s: _percent(s["csat_accounts_positive"], max(s["accounts"], s["csat_accounts"])),
    "response_rate": lambda s: _percent(s.all_of("surveys_answered"), s.all_of("surveys_offered")),
}
"""Each KPI by its name in the catalogue (docs/metrics.md)."""


def kpis(figures: Mapping[str, int], currency: str) -> dict[str, Value]:
    """Every KPI of the figures of a month, of one segment or of several added up; money is that of one currency."""
    sums = _Sums(figures, currency)
    return {name: made(sums) for name, made in KPIS.items()}
