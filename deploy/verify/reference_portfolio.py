"""The naive roll-up: the figures of every account from all of its events, added up by month and segment (docs/portfolio.md).

It shares no code with `models/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.verify.reference_ledger import Books, Figures, midnight, spans
from deploy.verify.reference_life import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deploy.verify.reference import Oracle

OTHER = "other"
OF_BANDS = ("customers_by_band", "mrr_by_band", "mrr_renewing_at_risk")


def portfolio(
    accounts: Iterable[Oracle],
    now: int,
    rules: Mapping[str, Any] | None = None,
    zone: str = "UTC",
    segments: Sequence[str] = (),
    rated: Mapping[str, Any] | None = None,
    band_of: Callable[[Oracle], str] | None = None,
    checklists: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict[str, Figures]]:
    """Compute the figures by month and segment; those that are 0 are left out.

    `rated` has `reporting` and `rate` of the books.

    `band_of` says in which band an account is; what the running month says of bands is left out without it.
    """
    total: dict[str, dict[str, Figures]] = {}
    for account in accounts:
        named = account.facts().get("segment")
        segment = str(named) if named in segments else OTHER
        told = [account.month_figures(now)]
        events = account.applied("payment-events")
        books = Books(events, rules=rules or {}, zone=zone, **(rated or {}))
        life = Life(account.applied("account-events"), account.facts(), books if events else None, spans(now, zone))
        told.append(life.figures(now))
        told.append(life.onboarding(now, checklists or {}, midnight(books.day(now), zone)))
        if events:
            paid = [books.months(now), books.revenue(now)]
            told += [*paid, life.acquired({month: paid[0].get(month, {}) | paid[1].get(month, {}) for month in paid[0]})]
        if band_of is not None:
            told.append({max(told[0]): _banded(band_of(account), life, told, now)})
        for figures_by_month in told:
            for month, figures in figures_by_month.items():
                own = total.setdefault(month, {}).setdefault(segment, {})
                for name, amount in figures.items():
                    own[name] = own.get(name, 0) + amount
    return without_zeros(total)


def _banded(band: str, life: Life, told: Sequence[Mapping[str, Figures]], now: int) -> Figures:
    """Compute the figures of the running month that the band of an account is in."""
    own = {name: amount for by_month in told for name, amount in by_month.get(max(told[0]), {}).items()}
    end = {name.partition("@")[2]: amount for name, amount in own.items() if name.startswith("mrr_end@")}
    found = {f"mrr_by_band{{{band}}}@{currency}": amount for currency, amount in end.items()}
    found[f"customers_by_band{{{band}}}"] = own.get("customers_end", 0)
    return found | (life.renewing(now, end) if band in ("critical", "at_risk", "watch") else {})


def without_zeros(total: Mapping[str, Mapping[str, Figures]]) -> dict[str, dict[str, Figures]]:
    """Leave out figures that are 0, and what has none."""
    found: dict[str, dict[str, Figures]] = {}
    for month, by_segment in total.items():
        for segment, figures in by_segment.items():
            if told := {name: amount for name, amount in figures.items() if amount}:
                found.setdefault(month, {})[segment] = told
    return found


def added_up(records: Iterable[Mapping[str, Any]], *, has_bands: bool = False) -> dict[str, dict[str, Figures]]:
    """Add up the records of `portfolio-metrics` of all partitions; figures that are 0 are left out.

    So are those of bands, if they are not asked for: they follow from when an account was assessed last, and not from the log alone.
    """
    total: dict[str, dict[str, Figures]] = {}
    for record in records:
        own = total.setdefault(record["month"], {}).setdefault(record["segment"], {})
        for name, amount in record["figures"].items():
            if has_bands or not name.startswith(OF_BANDS):
                own[name] = own.get(name, 0) + amount
    return without_zeros(total)
