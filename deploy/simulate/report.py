"""What a simulation tells people: how far it is, and what came out, as a document and as a few lines."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.simulate.truth import ALL, added_up
from deploy.simulate.truth_kpis import kpis
from deploy.simulate.world import month_after
from models.times import format_us

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping
    from fractions import Fraction

    from rich.console import Console

    from deploy.simulate.truth import Truth
    from deploy.simulate.world import Scope

    Show = Callable[[int, str], None]
    """Shows how many events there were, and the time of the last one."""

_PLACES: Final = 6
_LINE_EVERY_SECONDS: Final = 5.0
_MINOR: Final = 100
"""Minor units of a whole one: the same in every currency that is simulated."""


def truth_document(scope: Scope, truth: Truth) -> dict[str, Any]:
    """The truth as one JSON object: by month and segment, and for `all`, the figures and by currency the KPIs."""
    months: dict[str, Any] = {}
    costs = truth.costs()
    for month, by_segment in truth.figures().items():
        told = {**by_segment, ALL: added_up(by_segment) | costs[month]}
        months[month] = {
            segment: {
                "figures": figures,
                "kpis": {
                    currency: {name: None if value is None else _decimal(value) for name, value in kpis(figures, currency).items()}
                    for currency in scope.currencies
                },
            }
            for segment, figures in told.items()
        }
    return {
        "as_of": format_us(truth.as_of),
        "accounts": scope.accounts,
        "months_simulated": scope.months,
        "start": scope.start.isoformat(),
        "seed": scope.seed,
        "segments": list(scope.names()),
        "months": months,
    }


def _decimal(value: Fraction) -> str:
    """A number as text with six places, rounded half-up away from zero."""
    scaled = abs(value) * 10**_PLACES
    digits = f"{(2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator):0{_PLACES + 1}}"
    return f"{'-' if value < 0 else ''}{digits[:-_PLACES]}.{digits[-_PLACES:]}"


def summary(scope: Scope, counts: Counter[str], document: Mapping[str, Any]) -> str:
    """What was simulated: events by topic, and how each month went, by the truth."""
    last = month_after(scope.start, scope.months - 1)
    lines = [f"{scope.accounts:,} account{'s' * (scope.accounts > 1)}, {scope.start:%Y-%m} to {last:%Y-%m}, seed {scope.seed}", ""]
    lines += [f"{count:>12,}  {topic}" for topic, count in sorted(counts.items())]
    lines += [f"{counts.total():>12,}  events", ""]
    currency = scope.currencies[0]
    head = ("month", "customers", "new", "lost", "churn %", f"MRR {currency}", "NRR %", "GRR %", "tickets", "CSAT %", "NPS")
    lines.append("  ".join(f"{title:>9}" for title in head))
    first = f"{scope.start:%Y-%m}"
    for month, by_segment in document["months"].items():
        if month >= first:
            lines.append("  ".join(f"{cell:>9}" for cell in _row(month, by_segment[ALL]["kpis"][currency])))
    return "\n".join(lines)


def _row(month: str, told: Mapping[str, str | None]) -> list[str]:
    def number(name: str, places: int = 0, over: int = 1) -> str:
        value = told[name]
        return "-" if value is None else f"{Decimal(value) / over:,.{places}f}"

    return [
        month,
        number("customers"),
        number("customers_new"),
        number("customers_churned"),
        number("customer_churn_rate", 1),
        number("mrr", over=_MINOR),
        number("nrr", 1),
        number("grr", 1),
        number("tickets_created"),
        number("csat"),
        number("nps"),
    ]


@contextmanager
def progress(scope: Scope, console: Console) -> Iterator[Show]:
    """Yield what shows how far the simulation is: a bar of its days on a terminal, else a line every few seconds."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[events]:,} events"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("simulating", total=scope.days, events=0)

        def show(events: int, reached: str) -> None:
            day = (date.fromisoformat(reached[:10]) - scope.start).days if reached else 0
            bar.update(task, completed=day, events=events, description=reached[:10] or "waiting")

        yield show


def _lines(console: Console) -> Show:
    last = time.monotonic()

    def show(events: int, reached: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_SECONDS:
            last = time.monotonic()
            console.print(f"{events:,} events, up to {reached}")

    return show
