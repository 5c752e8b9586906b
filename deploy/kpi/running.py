"""What `churnwatch kpi` does: read, make the report, show it; once, or again whenever something changes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from deploy.demo.interrupts import caught
from deploy.dlq.letters import escaped
from deploy.kpi import choosing, explaining, exporting, showing
from deploy.kpi.benchmarks_file import load_benchmarks
from deploy.kpi.reading import ROLL_UP, Feed
from models.kpi.catalogue import KPIS
from models.kpi.report import COHORTS, HEADLINE, Report, Terms, book_of, cohorts, report
from models.months import zone_of
from models.portfolio import OTHER
from stream_app.exits import BrokerError, ServiceExit
from stream_app.topics import topic_name

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from models.kpi.portfolio.book import Kpi
    from models.kpi.published import Published
    from models.kpi.report import Matrix
    from stream_app.settings import Settings

Format = Literal["table", "json", "csv"]

COHORT_MONTHS: Final = 12
WATCH_MS: Final = 500
_PIPE_WIDTH: Final = 200
"""Columns of a table that nobody's terminal limits."""
_ROWS_AROUND: Final = 2


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    month: int | None
    kpis: tuple[Kpi, ...]
    is_named: bool
    """Whether KPIs were named, one by one: then each is in the table, also when it was never observed."""
    is_all: bool
    segments: tuple[str, ...]
    by_segment: bool
    months: int
    currency: str | None
    format: Format

    @property
    def table_kpis(self) -> tuple[Kpi, ...]:
        """The KPIs of a table that has no room for all of them."""
        return tuple(KPIS[name] for name in HEADLINE) if self.is_all else self.kpis


class Reporter:
    """Makes and shows what a request asks for, of what is published."""

    def __init__(self, settings: Settings, request: Request) -> None:
        """Raises ConfigError for a file of benchmarks that cannot be used, ServiceExit for a segment that is not configured."""
        self._settings, self._request = settings, request
        self._benchmarks = load_benchmarks(settings.kpi.benchmarks_file)
        self._topic = topic_name(settings.topic_prefix, ROLL_UP)
        configured = (*settings.portfolio.segments, OTHER)
        self._scopes = choosing.scopes_of(configured, request.segments, is_split=request.by_segment)

    def _terms(self, published: Published) -> Terms:
        settings = self._settings
        currency = choosing.currency_of(published, self._request.currency)
        return Terms(settings.kpi, settings.revenue.pause_policy, zone_of(settings.portfolio.time_zone), self._benchmarks, currency)

    def _reports(self, published: Published, kpis: Sequence[Kpi], terms: Terms) -> list[Report]:
        last = choosing.month_of(published, self._request.month, self._topic)
        there = set(published.months)
        months = [month for month in range(last - self._request.months + 1, last + 1) if month in there]
        return [report(published, month, self._scopes, kpis, terms) for month in months]

    def _matrices(self, published: Published, kpis: Sequence[Kpi], last: int, terms: Terms) -> dict[str, dict[str, Matrix]]:
        wanted = [kpi for kpi in kpis if kpi.name in COHORTS]
        months = self._request.months if self._request.months > 1 else COHORT_MONTHS
        if not wanted:
            return {}
        return {
            name: {kpi.name: cohorts(published, kpi, last, months, segments, terms) for kpi in wanted}
            for name, segments in self._scopes.items()
        }

    def text(self, published: Published, notes: Sequence[str]) -> str:
        """The report as JSON or CSV."""
        terms, kpis = self._terms(published), self._request.kpis
        reports = self._reports(published, kpis, terms)
        if self._request.format == "csv":
            return exporting.as_csv(reports).removesuffix("\n")
        return exporting.as_json(reports, self._matrices(published, kpis, reports[-1].month, terms), notes)

    def tables(self, published: Published, notes: Sequence[str], width: int, *, is_short: bool = False) -> Iterator[RenderableType]:
        """The report for a terminal; `is_short`: of all KPIs only those of the headline."""
        request, terms = self._request, self._terms(published)
        kpis = request.table_kpis if is_short or request.months > 1 else request.kpis
        reports = self._reports(published, kpis, terms)
        yield from showing.heading(reports[-1], notes)
        yield Text("")
        if request.months > 1:
            yield from showing.history_tables(reports, width, keeps_unseen=request.is_named)
        elif len(reports[-1].columns) > 1:
            yield from showing.segments_tables(reports[-1], width)
        else:
            yield from showing.month_table(reports[-1], keeps_unseen=request.is_named)
        for name, by_kpi in self._matrices(published, kpis, reports[-1].month, terms).items():
            for kpi_name, matrix in by_kpi.items():
                if matrix or request.is_named:
                    yield showing.cohort_table(KPIS[kpi_name], matrix, name)

    def notes(self, published: Published, unreadable: int) -> list[str]:
        """What is to be known of what was read."""
        told = []
        if published.config_versions - {self._settings.config_version}:
            told.append(
                "the figures were made with another configuration than this command has: give it the workers' (--config FILE), "
                "else segments and months may be cut in another way"
            )
        if published.others:
            listed = ", ".join(f"{segment} ({count})" for segment, count in sorted(published.others.items()))
            told.append(f"records of segments that are not configured are not taken: {escaped(listed)}")
        # They are looked at when figures are read: by now, all of them were.
        if published.unknown:
            told.append(f"figures of a newer release are left out: {escaped(', '.join(sorted(published.unknown)), 200)}")
        if unreadable:
            told.append(f"{unreadable} records on {self._topic} are none of ours")
        quiet = self._quiet(published)
        if quiet:
            told.append(quiet)
        return told

    def _quiet(self, published: Published) -> str:
        """Partitions whose latest publication is of another day than the latest of all."""
        day = published.as_of[:10]
        listed = ", ".join(f"{number} ({at})" for number, at in published.as_of_by_partition().items() if at[:10] != day)
        return f"partitions that have published nothing new since: {listed}" if listed else ""

    def explanation(self, kpi: Kpi, published: Published | None) -> Iterator[str]:
        """A KPI explained, with the figures of the month where something is published."""
        yield from explaining.definition(kpi, self._benchmarks)
        if published is None:
            return
        terms = self._terms(published)
        month = choosing.month_of(published, self._request.month, self._topic)
        for name, segments in self._scopes.items():
            yield ""
            yield from explaining.figures(kpi, published, month, name, segments)
            made = report(published, month, {name: segments}, [kpi], terms)
            book = book_of(published, month, segments, terms)
            if book is not None:
                values = {line.label: line.now for line in made.columns[0].lines}
                yield from explaining.result(kpi, values.get("", values), made.currency)

    def explanation_json(self, kpi: Kpi, published: Published | None) -> dict[str, object]:
        """The same as one JSON object."""
        told: dict[str, object] = explaining.as_json(kpi, self._benchmarks)
        if published is None:
            return told
        month = choosing.month_of(published, self._request.month, self._topic)
        return {
            **told,
            "values": {name: explaining.figures_json(kpi, published, month, segments) for name, segments in self._scopes.items()},
        }


def show(settings: Settings, request: Request) -> None:
    """Read once, and print the report."""
    reporter = Reporter(settings, request)
    with Feed(settings) as feed:
        published = feed.published()
    print_report(reporter, published, feed.latest.unreadable, request)


def print_report(reporter: Reporter, published: Published, unreadable: int, request: Request) -> None:
    """Print the report of what is published: tables with their notes, or text with the notes on stderr."""
    if request.format == "table":
        console = _console()
        rendered = list(reporter.tables(published, reporter.notes(published, unreadable), console.width))
        console.print(*rendered, sep="\n")
        return
    text = reporter.text(published, [])
    notes = reporter.notes(published, unreadable)
    if request.format == "json" and notes:
        text = reporter.text(published, notes)
    for note in notes if request.format == "csv" else ():
        typer.echo(f"warning: {note}", err=True)
    typer.echo(text)


def explain(settings: Settings, request: Request, *, is_offline: bool) -> None:
    """Print what the KPIs of the request mean, with their figures where the broker can be reached."""
    reporter = Reporter(settings, request)
    published = None
    if not is_offline:
        try:
            with Feed(settings) as feed:
                published = feed.published()
            choosing.month_of(published, request.month, topic_name(settings.topic_prefix, ROLL_UP))
        except ServiceExit as error:
            if not isinstance(error, BrokerError) and request.month is not None:
                raise
            published = None
            typer.echo(f"without figures: {error}", err=True)
    if request.format == "json":
        told = [reporter.explanation_json(kpi, published) for kpi in request.kpis]
        typer.echo(exporting.encoded(told[0] if len(told) == 1 else told))
        return
    typer.echo("\n".join(chain.from_iterable(("", *reporter.explanation(kpi, published)) for kpi in request.kpis)).removeprefix("\n"))


def watch(settings: Settings, request: Request, stop: threading.Event) -> None:
    """Show the report, and again whenever something is published, until `stop` is set."""
    reporter = Reporter(settings, request)
    with Feed(settings) as feed:
        if request.format == "table" and _console().is_terminal:
            _watch_live(reporter, feed, stop)
            return
        is_new = True
        while not stop.is_set():
            published = feed.published()
            if is_new and published.months:
                print_report(reporter, published, feed.latest.unreadable, request)
            is_new = feed.take_more(WATCH_MS) > 0


def _watch_live(reporter: Reporter, feed: Feed, stop: threading.Event) -> None:
    console = _console()
    with Live(console=console, auto_refresh=False, transient=False, vertical_overflow="ellipsis") as live:
        while not stop.is_set():
            published = feed.published()
            if published.months:
                notes = reporter.notes(published, feed.latest.unreadable)
                tables = list(reporter.tables(published, notes, console.width, is_short=True))
                live.update(Group(*tables, Text("\nCtrl-C ends this", "dim")), refresh=True)
            else:
                live.update(Text("Nothing is published yet; waiting for a worker. Ctrl-C ends this"), refresh=True)
            while not stop.is_set() and not feed.take_more(WATCH_MS):
                pass


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def watch_until_stopped(settings: Settings, request: Request) -> None:
    """Watch until Ctrl-C, or SIGTERM."""
    with caught() as interrupts, suppress(KeyboardInterrupt), interrupts.promptly():
        watch(settings, request, interrupts.stop)


def show_list(kpis: Sequence[Kpi], *, is_json: bool) -> None:
    """Print the catalogue."""
    if is_json:
        typer.echo(exporting.encoded([explaining.as_json(kpi, {}) for kpi in kpis]))
    else:
        _console().print(showing.list_table(kpis))
