"""Every KPI of a portfolio by name: what it means, and how it is made from the figures of a month and segment (docs/metrics.md)."""

from typing import Final

from models.kpi.portfolio import customers, relationship, revenue, support, surveys, usage, worth
from models.kpi.portfolio.book import Kpi

KPIS: Final[dict[str, Kpi]] = {
    kpi.name: kpi for section in (revenue, worth, customers, usage, support, surveys, relationship) for kpi in section.kpis()
}
"""In the order that they are shown."""
