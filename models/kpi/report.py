"""The report of a month: every KPI with its sample size and interval, against the month before and against benchmarks. Pure.

A total is made of the figures of all segments added up, never of their KPIs: a mean of ratios is no ratio.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Final
from zoneinfo import ZoneInfo

from models.kpi.benchmarks import Benchmark, Benchmarks, Verdict
from models.kpi.catalogue import KPIS
from models.kpi.exact import Exact, Reading, Reason, exact, none
from models.kpi.figures import FIGURES, Key
from models.kpi.money import to_major
from models.kpi.portfolio.book import PREVIOUS, Book, Kpi, Value
from models.kpi.published import Published, Standing
from models.kpi.recurring import PausePolicy
from models.kpi.rules import KpiRules
from models.months import begins, first_day, format_month, local_time
from models.times import parse_us

TOTAL: Final = "total"

HEADLINE: Final = (
    "mrr",
    "net_new_mrr",
    "mrr_growth_rate",
    "grr",
    "nrr",
    "gross_mrr_churn",
    "quick_ratio",
    "arpa",
    "total_revenue",
    "customers",
    "customers_new",
    "customers_churned",
    "customer_churn_rate",
    "mau",
    "stickiness",
    "tickets_open",
    "first_response_median",
    "nps",
    "csat",
)
"""What is shown where there is no room for everything."""

COHORTS: Final = ("cohort_retention", "cohort_retention_unbounded", "cohort_mrr_retention")
"""KPIs by start month, which are shown as a matrix of start months and months since."""

REASONS: Final[Mapping[Reason, str]] = {
    "zero_denominator": "there is nothing to divide by",
    "not_observed": "no event of that kind was ever seen, which is not zero",
    "no_losses": "nothing was lost",
    "no_answers": "nobody answered",
    "no_baseline": "there is no baseline yet",
    "no_churn": "nobody left, so no lifetime can be told",
    "no_costs": "no such costs were sent",
    "no_margin": "no cost of goods sold was sent, so the margin is not known",
    "no_new_customers": "there were no new customers",
    "no_orders": "there were no orders",
    "no_calibrated_risk": "no churn risk is calibrated",
    "no_previous_period": "nothing is published of the month before",
    "one_order": "nobody has ordered twice",
    "too_few": "there are too few to tell",
    "several_currencies": "amounts are in several currencies, and none was asked for",
    "still_running": "its time is not over",
    "not_reached": "more than half are still there",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a report is made by. `currency` is the one that amounts are wanted in; empty: the only one that there is."""

    rules: KpiRules
    pause_policy: PausePolicy
    zone: ZoneInfo
    benchmarks: Benchmarks
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """A benchmark and how the value stands to it; None where it cannot be compared, for the reason given."""

    benchmark: Benchmark
    verdict: Verdict | None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One KPI, or one of its labels: this month, the month before, and benchmarks."""

    kpi: Kpi
    label: str
    now: Reading
    before: Reading
    compared: tuple[Compared, ...]

    @property
    def change(self) -> Fraction | None:
        """This month less the month before; None where one of them is null."""
        if self.now.value is None or self.before.value is None:
            return None
        return exact(self.now.value) - exact(self.before.value)


@dataclass(frozen=True, slots=True)
class Column:
    """A segment, several together, or the whole portfolio."""

    name: str
    segments: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A month. `currency` is that of all amounts, empty when there is none; `currencies` are those that occur."""

    month: int
    as_of: str
    is_running: bool
    standing: Standing
    standing_before: Standing | None
    currency: str
    currencies: tuple[str, ...]
    columns: tuple[Column, ...]


def report(published: Published, month: int, scopes: Mapping[str, Sequence[str]], kpis: Iterable[Kpi], terms: Terms) -> Report:
    """The report of a month that something is published of; `scopes` are the columns by name, each with its segments."""
    listed = list(kpis)
    everything = tuple(dict.fromkeys(segment for segments in scopes.values() for segment in segments))
    currencies = _currencies(published, month, everything)
    currency = terms.currency or (currencies[0] if len(currencies) == 1 else "")
    is_running = _is_running(published, month, terms.zone)
    columns = []
    for name, segments in scopes.items():
        now, before = (_book(published, at, segments, currency, terms) for at in (month, month - 1))
        is_mixed = not currency and len(currencies) > 1
        lines = [line for kpi in listed for line in _lines(kpi, now, before, terms, is_running=is_running, is_mixed=is_mixed)]
        columns.append(Column(name, tuple(segments), tuple(lines)))
    before_there = published.figures(month - 1, everything) is not None
    return Report(
        month,
        published.as_of,
        is_running,
        published.standing(month, everything),
        published.standing(month - 1, everything) if before_there else None,
        currency,
        currencies,
        tuple(columns),
    )


def book_of(published: Published, month: int, segments: Sequence[str], terms: Terms) -> Book | None:
    """The figures of a month and the one before it as KPIs read them; None when nothing is published of it."""
    currencies = _currencies(published, month, segments)
    return _book(published, month, segments, terms.currency or (currencies[0] if len(currencies) == 1 else ""), terms)


def _book(published: Published, month: int, segments: Sequence[str], currency: str, terms: Terms) -> Book | None:
    parts = published.figures(month, segments)
    if parts is None:
        return None
    options = terms.rules.options(_days(published, month, terms.zone), terms.pause_policy)
    return Book(parts, published.figures(month - 1, segments), currency, options)


def _days(published: Published, month: int, zone: ZoneInfo) -> int:
    """The days of a month, or those that have begun of the one that runs."""
    first, next_first = first_day(month), first_day(month + 1)
    if not _is_running(published, month, zone):
        return (next_first - first).days
    today = local_time(parse_us(published.as_of), zone).date()
    return max(1, min(today + timedelta(1), next_first).toordinal() - first.toordinal())


def _is_running(published: Published, month: int, zone: ZoneInfo) -> bool:
    return parse_us(published.as_of) < begins(month + 1, zone)


def _currencies(published: Published, month: int, segments: Sequence[str]) -> tuple[str, ...]:
    """The currencies that amounts of a month, the one before and the one before that are in."""
    parts = [published.figures(at, segments) or {} for at in (month, month - 1, month - 2)]
    return tuple(sorted({key.currency for each in parts for key, value in each.items() if key.currency and value}))


def _lines(kpi: Kpi, now: Book | None, before: Book | None, terms: Terms, *, is_running: bool, is_mixed: bool) -> list[Line]:
    is_mixed = is_mixed and reads_money(kpi)
    value = none("several_currencies") if is_mixed else none("not_observed") if now is None else kpi.value(now)
    earlier: Value = none("no_previous_period") if before is None else none("several_currencies") if is_mixed else kpi.value(before)
    if not isinstance(value, Reading) and not value:
        value = none("not_observed")  # of no label: a KPI never vanishes from a report
    if isinstance(value, Reading):
        return [_line(kpi, "", value, earlier if isinstance(earlier, Reading) else none("not_observed"), terms, is_running=is_running)]
    return [
        _line(
            kpi,
            label,
            reading,
            earlier if isinstance(earlier, Reading) else earlier.get(label, none("not_observed")),
            terms,
            is_running=is_running,
        )
        for label, reading in value.items()
    ]


def _line(kpi: Kpi, label: str, now: Reading, before: Reading, terms: Terms, *, is_running: bool) -> Line:
    # What has happened in a part of a month is no figure of a month: it would be better or worse for the calendar alone.
    is_part = is_running and any(not name.startswith(PREVIOUS) and FIGURES[name].kind == "flow" for name in kpi.figures)
    compared = []
    for benchmark in terms.benchmarks.get((kpi.name, label), ()):
        if now.value is None:
            compared.append(Compared(benchmark, None, now.reason))
        elif is_part:
            compared.append(Compared(benchmark, None, "still_running"))
        else:
            compared.append(Compared(benchmark, benchmark.verdict(now.value)))
    return Line(kpi, label, now, before, tuple(compared))


def reads_money(kpi: Kpi) -> bool:
    """Whether a KPI is made of amounts."""
    return any(FIGURES[name.removeprefix(PREVIOUS)].is_money for name in kpi.figures)


def in_unit(kpi: Kpi, value: Exact, currency: str) -> Exact:
    """A value as it is spoken of: an amount in whole units of its currency, everything else as it is."""
    return to_major(value, currency) if kpi.unit == "money" else value


Matrix = dict[int, list[Reading]]
"""By start month the shares that are left 0, 1, 2 ... months after it."""


def cohorts(published: Published, kpi: Kpi, last: int, months: int, segments: Sequence[str], terms: Terms) -> Matrix:
    """The matrix of a KPI by start month: the cohorts of so many months up to `last`, each as far as `last`.

    A month that still runs is null (`still_running`). A month in which nobody began has no row.
    """
    values: dict[int, Value] = {}
    for month in range(last - months + 1, last + 1):
        book = book_of(published, month, segments, terms)
        values[month] = none("not_observed") if book is None else kpi.value(book)
    found: Matrix = {}
    for start in range(last - months + 1, last + 1):
        label = format_month(start)
        cells = [_cell(values[month], label, is_running=_is_running(published, month, terms.zone)) for month in range(start, last + 1)]
        if any(cell.value is not None for cell in cells):
            found[start] = cells
    return found


def _cell(value: Value, label: str, *, is_running: bool) -> Reading:
    if isinstance(value, Reading):
        return value
    if is_running:
        return none("still_running")
    return value.get(label, none("not_observed"))


def edges(kpi: Kpi) -> dict[str, Value]:
    """What a KPI is at its edges, by what they are: found by asking it, so that no words can be wrong."""
    names = [name.removeprefix(PREVIOUS) for name in kpi.figures]
    zeros = {Key(name, "-" if FIGURES[name].label else "", "USD" if FIGURES[name].is_money else ""): 0 for name in dict.fromkeys(names)}
    found = {"no event of that kind was ever seen": kpi.value(Book({}, {})), "all of its figures are 0": kpi.value(Book(zeros, zeros))}
    if any(name.startswith(PREVIOUS) for name in kpi.figures):
        found["nothing is published of the month before"] = kpi.value(Book(zeros))
    if reads_money(kpi):
        found["amounts are in several currencies, and none is asked for"] = none("several_currencies")
    return found


def find(text: str) -> Kpi | None:
    """The KPI of a name, in any case and with dashes too; None when there is none."""
    return KPIS.get(text.strip().lower().replace("-", "_"))
