"""Reports for a terminal: tables of a month, of segments side by side, of months one below the other, and matrices of cohorts."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.dlq.letters import escaped
from deploy.kpi.numbers import interval_shown, reading_shown, reason_shown, shown
from models.kpi.report import COHORTS
from models.months import format_month

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType

    from models.kpi.benchmarks import Benchmark
    from models.kpi.portfolio.book import Kpi
    from models.kpi.report import Column, Compared, Line, Matrix, Report

_GOOD, _BAD, _DIM, _HEAD = "green", "red", "dim", "bold"
_VERDICTS: Final = {"better": _GOOD, "within": "", "worse": _BAD}
_LABEL_MAX: Final = 40
_LABELS_MOST: Final = 20
"""Values of one KPI that a table shows; JSON and CSV have all."""
_WHY_UNSEEN: Final = "no event of that kind has come, or workers do not tell the figure of this month: docs/portfolio.md"
_FIRST_COLUMN: Final = 30
_CELL_LEAST: Final = 12


def heading(report: Report, notes: Iterable[str]) -> list[Text]:
    """What the figures are of, as of when, and what is to be known of them."""
    running = "; still running: what happened in it counts to then, the month before is whole" if report.is_running else ""
    lines = [Text(f"{format_month(report.month)}, as of {report.as_of}{running}", _HEAD)]
    standing = f"{report.standing}"
    if not report.standing.is_whole:
        missing = ", ".join(map(str, report.standing.missing))
        lines.append(Text(f"{standing}; nothing of partition {missing}: every figure is without its accounts", _BAD))
    else:
        lines.append(Text(standing, _DIM))
    before = report.standing_before
    if before is not None and not before.is_whole:
        lines.append(Text(f"the month before: {before}", _BAD))
    if report.currency:
        lines.append(Text(f"amounts in {report.currency}", _DIM))
    elif len(report.currencies) > 1:
        lines.append(Text(f"amounts are in {', '.join(report.currencies)}: choose one with --currency", _BAD))
    return [*lines, *(Text(note, "yellow") for note in notes)]


def month_table(report: Report, *, keeps_unseen: bool) -> Iterator[RenderableType]:
    """One column of a report in full: value, sample size, interval, the month before, change, benchmark.

    Unless `keeps_unseen`, KPIs of what was never observed are named below, not each in a line.
    """
    [column] = report.columns
    lines = [line for line in column.lines if line.kpi.name not in COHORTS]
    unseen = [] if keeps_unseen else [line for line in lines if line.now.reason == "not_observed"]
    has_benchmarks = any(line.compared for line in lines if line not in unseen)
    headings = ["KPI", f">{column.name}", ">n", ">95 % interval", f">{format_month(report.month - 1)}", ">change"]
    table = _table(*headings, *(["benchmark"] if has_benchmarks else []))
    for section, of_section in groupby((line for line in lines if line not in unseen), lambda line: line.kpi.section):
        table.add_section()
        table.add_row(Text(section, _HEAD))
        for line, title in _titled(of_section):
            cells = [title, *_cells(line, report.currency)]
            table.add_row(*cells, *([_verdicts(line.compared)] if has_benchmarks else []))
    yield table
    yield from _unseen(unseen)
    yield from _sources(each.benchmark for line in lines if line not in unseen for each in line.compared)


def _titled(lines: Iterable[Line]) -> Iterator[tuple[Line, Text]]:
    """Lines with what stands before them: those of one KPI under its title, no more than a table bears."""
    for kpi, of_kpi in groupby(lines, lambda line: line.kpi):
        listed = list(of_kpi)
        for line in listed[:_LABELS_MOST]:
            title = Text(kpi.title)
            if line.label:
                title.append(f": {escaped(line.label, _LABEL_MAX)}", _DIM)
            yield line, title


def _cells(line: Line, currency: str) -> list[Text]:
    kpi, now = line.kpi, line.now
    value = Text(reading_shown(kpi, now, currency), _DIM if now.value is None else "")
    n = "" if now.n is None else f"{now.n:,}"
    before = Text(reading_shown(kpi, line.before, currency) if line.before.value is not None else f"– {reason_shown(line.before)}", _DIM)
    return [value, Text(n), Text(interval_shown(line, currency)), before, _change(line, currency)]


def _change(line: Line, currency: str) -> Text:
    change = line.change
    if change is None:
        return Text("")
    style = ""
    if change and line.kpi.better is not None:
        style = _GOOD if (change > 0) == (line.kpi.better == "up") else _BAD
    return Text(shown(line.kpi, change, currency, is_change=True), style)


def _verdicts(compared: Sequence[Compared]) -> Text:
    told = Text("")
    for number, each in enumerate(compared):
        told.append("\n" if number else "")
        if each.verdict is None:
            told.append(f"– {(each.reason or '').replace('_', ' ')} ({each.benchmark.reach})", _DIM)
        else:
            told.append(f"{each.verdict}", _VERDICTS.get(each.verdict, ""))
            told.append(f" ({each.benchmark.reach})", _DIM)
    return told


def _unseen(lines: Sequence[Line]) -> Iterator[RenderableType]:
    if lines:
        names = ", ".join(dict.fromkeys(line.kpi.name for line in lines))
        yield Text(f"\nNot observed, which is not zero ({_WHY_UNSEEN}): {names}", _DIM)


def _sources(benchmarks: Iterable[Benchmark]) -> Iterator[RenderableType]:
    """Who says so, each once."""
    told = list(dict.fromkeys(benchmarks))
    if told:
        yield Text("\nBenchmarks", _HEAD)
    for each in told:
        name = f"{each.kpi} ({each.label})" if each.label else each.kpi
        dated = f"of {each.published}, read {each.read}" if each.published else f"undated, read {each.read}"
        yield Text(f"{name} {each.reach}: {each.population}. {each.publisher}, {each.title} ({dated})", _DIM)


def segments_tables(report: Report, width: int) -> Iterator[RenderableType]:
    """The columns of a report side by side, in as many tables as the width asks for."""
    rows: dict[tuple[str, str], dict[str, Line]] = {}
    for column in report.columns:
        for line in column.lines:
            if line.kpi.name not in COHORTS:
                rows.setdefault((line.kpi.name, line.label), {})[column.name] = line
    # A label that one segment has and another has not stands under its KPI, not at the end.
    order = {line.kpi.name: place for column in report.columns for place, line in enumerate(column.lines)}
    unseen = [next(iter(row.values())) for row in rows.values() if all(line.now.reason == "not_observed" for line in row.values())]
    hidden = {line.kpi.name for line in unseen}
    listed = sorted((each for each in rows if each[0] not in hidden), key=lambda each: (order[each[0]], each[1]))
    for columns in _fitting(report.columns, width):
        table = _table("KPI", *(f">{escaped(column.name, _LABEL_MAX)}" for column in columns))
        for name, label in listed:
            row = rows[name, label]
            title = Text(next(iter(row.values())).kpi.title)
            if label:
                title.append(f": {escaped(label, _LABEL_MAX)}", _DIM)
            table.add_row(title, *(_value(row.get(column.name), report.currency) for column in columns))
        yield table
    yield from _unseen(unseen)


def _fitting(columns: Sequence[Column], width: int) -> Iterator[Sequence[Column]]:
    count = max(1, (width - _FIRST_COLUMN) // (max(_CELL_LEAST, *(len(column.name) for column in columns)) + 2))
    for start in range(0, len(columns), count):
        yield columns[start : start + count]


def _value(line: Line | None, currency: str) -> Text:
    if line is None:
        return Text("–", _DIM)
    return Text(reading_shown(line.kpi, line.now, currency), _DIM if line.now.value is None else "")


def history_tables(reports: Sequence[Report], width: int, *, keeps_unseen: bool) -> Iterator[RenderableType]:
    """Months one below the other, KPIs side by side, for each column of the reports; in as many tables as the width asks for.

    Unless `keeps_unseen`, KPIs that were not observed in any of the months are named below.
    """
    for place, column in enumerate(reports[-1].columns):
        if len(reports[-1].columns) > 1:
            yield Text(f"\n{escaped(column.name)}", _HEAD)
        by_month = [{(line.kpi.name, line.label): line for line in report.columns[place].lines} for report in reports]
        unseen: list[Line] = []
        texts = {}
        for key in dict.fromkeys(key for lines in by_month for key in lines if key[0] not in COHORTS):
            told = [line for lines in by_month if (line := lines.get(key)) is not None]
            if keeps_unseen or any(line.now.reason != "not_observed" for line in told):
                texts[key] = [_value(lines.get(key), report.currency) for lines, report in zip(by_month, reports, strict=True)]
            else:
                unseen.append(told[0])
        for some in _by_width(texts, width):
            table = _table("month", *(f">{escaped(f'{name}: {label}' if label else name, _LABEL_MAX)}" for name, label in some))
            for number, report in enumerate(reports):
                running = "*" if report.is_running else "" if report.standing.is_whole else "!"
                table.add_row(Text(format_month(report.month) + running), *(texts[key][number] for key in some))
            yield table
        yield from _unseen(unseen)
    if any(report.is_running for report in reports):
        yield Text("* still running: what happened in it counts to now", _DIM)
    if any(not report.standing.is_whole and not report.is_running for report in reports):
        yield Text("! not every partition has reported", _BAD)


def _by_width(texts: Mapping[tuple[str, str], Sequence[Text]], width: int) -> Iterator[list[tuple[str, str]]]:
    some: list[tuple[str, str]] = []
    used = len("2026-11*") + 2
    for key, cells in texts.items():
        wide = max(len(f"{key[0]}: {key[1]}" if key[1] else key[0]), *(len(cell) for cell in cells)) + 2
        if some and used + wide > width:
            yield some
            some, used = [], len("2026-11*") + 2
        some.append(key)
        used += wide
    if some:
        yield some


def cohort_table(kpi: Kpi, matrix: Matrix, name: str) -> RenderableType:
    """A matrix: start months down, months since to the right; what is null says nothing but its reason, below."""
    if not matrix:
        return Text(f"\n{kpi.title}: – not observed", _DIM)
    most = max(map(len, matrix.values()))
    table = _table("began in", *(f">{since}" for since in range(most)))
    reasons: dict[str, None] = {}
    for start, cells in matrix.items():
        row = []
        for cell in cells:
            if cell.value is None:
                reasons[reason_shown(cell)] = None
            row.append(Text("–", _DIM) if cell.value is None else Text(shown(kpi, cell.value, "").removesuffix(" %")))
        table.add_row(Text(format_month(start)), *row)
    told: list[RenderableType] = [Text(f"\n{kpi.title}, per cent, months since; {escaped(name)}", _HEAD), table]
    return Group(*told, *([Text(f"–: {', '.join(reasons)}", _DIM)] if reasons else []))


def list_table(kpis: Iterable[Kpi]) -> Table:
    """All KPIs by section: name, title, unit, definition."""
    table = _table("name", "KPI", "unit", "definition")
    for section, of_section in groupby(kpis, lambda kpi: kpi.section):
        table.add_section()
        table.add_row(Text(section, _HEAD))
        for kpi in of_section:
            table.add_row(Text(kpi.name), Text(kpi.title), Text(kpi.unit), Text(kpi.formula, _DIM))
    return table


def _table(*headings: str) -> Table:
    """Return a table without borders; a heading with `>` before it is of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        is_number = heading.startswith(">")
        table.add_column(Text(heading.removeprefix(">")), justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table
