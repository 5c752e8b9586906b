"""The naive roll-up: the figures of every account from all of its events, added up by month and segment (docs/portfolio.md).

It shares no code with `models/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.verify.reference_ledger import Books, Figures, spans
from deploy.verify.reference_life import Life

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deploy.verify.reference import Oracle

OTHER = "other"


def portfolio(
    accounts: Iterable[Oracle],
    now: int,
    rules: Mapping[str, Any] | None = None,
    zone: str = "UTC",
    segments: Sequence[str] = (),
    rated: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Figures]]:
    """Compute the figures by month and segment; those that are 0 are left out. `rated` has `reporting` and `rate` of the books."""
    total: dict[str, dict[str, Figures]] = {}
    for account in accounts:
        named = account.facts().get("segment")
        segment = str(named) if named in segments else OTHER
        told = [account.month_figures(now)]
        events = account.applied("payment-events")
        books = Books(events, rules=rules or {}, zone=zone, **(rated or {}))
        life = Life(account.applied("account-events"), account.facts(), books if events else None, spans(now, zone))
        told.append(life.figures(now))
        if events:
            paid = [books.months(now), books.revenue(now)]
            told += [*paid, life.acquired({month: paid[0].get(month, {}) | paid[1].get(month, {}) for month in paid[0]})]
        for figures_by_month in told:
            for month, figures in figures_by_month.items():
                own = total.setdefault(month, {}).setdefault(segment, {})
                for name, amount in figures.items():
                    own[name] = own.get(name, 0) + amount
    return without_zeros(total)


def without_zeros(total: Mapping[str, Mapping[str, Figures]]) -> dict[str, dict[str, Figures]]:
    """Leave out figures that are 0, and what has none."""
    found: dict[str, dict[str, Figures]] = {}
    for month, by_segment in total.items():
        for segment, figures in by_segment.items():
            if told := {name: amount for name, amount in figures.items() if amount}:
                found.setdefault(month, {})[segment] = told
    return found


def added_up(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Figures]]:
    """Add up the records of `portfolio-metrics` of all partitions; figures that are 0 are left out."""
    total: dict[str, dict[str, Figures]] = {}
    for record in records:
        own = total.setdefault(record["month"], {}).setdefault(record["segment"], {})
        for name, amount in record["figures"].items():
            own[name] = own.get(name, 0) + amount
    return without_zeros(total)
