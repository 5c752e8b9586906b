"""Reports for programs: one JSON object, or CSV with a line for each value. Numbers have six decimals at most, amounts whole units."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from deploy.kpi.numbers import plain
from models.kpi.money import to_major
from models.kpi.report import in_unit
from models.months import format_month

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.kpi.exact import Exact, Reading
    from models.kpi.portfolio.book import Kpi
    from models.kpi.report import Compared, Line, Matrix, Report

COLUMNS: Final = (
    "month", "segment", "kpi", "label", "title", "unit", "currency", "value", "reason", "n", "interval_low", "interval_high",
    "previous", "previous_reason", "change", "better", "benchmark_low", "benchmark_high", "verdict", "benchmark_population",
    "benchmark_source", "still_running", "partitions_reported", "partitions", "as_of",
)  # fmt: skip

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

_AMOUNTS_BESIDE: Final = ("gains",)
"""What is an amount of the numbers that stand beside a value."""

_encode = msgspec.json.Encoder(decimal_format="number").encode


def as_json(reports: Sequence[Report], matrices: Mapping[str, Mapping[str, Matrix]], notes: Sequence[str]) -> str:
    """The report of a month as one JSON object; several months as one object with a list of them. Numbers are exact decimals."""
    told = [_report(report) for report in reports]
    body: dict[str, Any] = told[0] if len(told) == 1 else {"months": told}
    if matrices:
        body["cohorts"] = {
            column: {
                name: {format_month(start): [_reading(cell) for cell in cells] for start, cells in found.items()}
                for name, found in by_kpi.items()
            }
            for column, by_kpi in matrices.items()
        }
    return encoded({**body, "notes": list(notes)})


def encoded(told: object) -> str:
    """As JSON on one line; a Decimal is a number."""
    return _encode(told).decode()


def _report(report: Report) -> dict[str, Any]:
    before = report.standing_before
    return {
        "month": format_month(report.month),
        "as_of": report.as_of,
        "still_running": report.is_running,
        "partitions": {"reported": list(report.standing.reported), "missing": list(report.standing.missing)},
        "partitions_before": None if before is None else {"reported": list(before.reported), "missing": list(before.missing)},
        "currency": report.currency or None,
        "currencies": list(report.currencies),
        "segments": {
            column.name: {"of": list(column.segments), "kpis": [_line(line, report.currency) for line in column.lines]}
            for column in report.columns
        },
    }


def _line(line: Line, currency: str) -> dict[str, Any]:
    kpi = line.kpi
    head: dict[str, Any] = {"kpi": kpi.name, **({"label": line.label} if line.label else {}), "unit": kpi.unit, "better": kpi.better}
    before = line.before
    return {
        **head,
        **_reading(line.now, kpi, currency),
        "previous": {"value": _number(kpi, before.value, currency), "reason": before.reason},
        "change": _number(kpi, line.change, currency),
        "benchmarks": [_compared(each) for each in line.compared],
    }


def _reading(reading: Reading, kpi: Kpi | None = None, currency: str = "") -> dict[str, Any]:
    interval = reading.interval and [_number(kpi, end, currency) for end in reading.interval]
    told = {"value": _number(kpi, reading.value, currency), "reason": reading.reason, "n": reading.n, "interval": interval}
    beside = {
        name: None if value is None else _number(None, to_major(value, currency) if name in _AMOUNTS_BESIDE and currency else value, "")
        for name, value in reading.beside.items()
    }
    return {**told, **({"beside": beside} if beside else {})}


def _number(kpi: Kpi | None, value: Exact | None, currency: str) -> Decimal | None:
    if value is None:
        return None
    return Decimal(plain(value if kpi is None else in_unit(kpi, value, currency)))


def _compared(compared: Compared) -> dict[str, Any]:
    benchmark = compared.benchmark
    return {
        "low": benchmark.low,
        "high": benchmark.high,
        "verdict": compared.verdict,
        "reason": compared.reason,
        "population": benchmark.population,
        "publisher": benchmark.publisher,
        "title": benchmark.title,
        "published": benchmark.published and benchmark.published.isoformat(),
        "read": benchmark.read.isoformat(),
        "url": benchmark.url,
        "note": benchmark.note,
    }


def as_csv(reports: Iterable[Report]) -> str:
    """A line for each value, benchmark and month, under a line of names; no text is a formula where a spreadsheet opens it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for report in reports:
        for column in report.columns:
            for line in column.lines:
                for compared in line.compared or (None,):
                    writer.writerow(_row(report, column.name, line, compared))
    return out.getvalue()


def _row(report: Report, segment: str, line: Line, compared: Compared | None) -> list[str]:
    kpi, now, before = line.kpi, line.now, line.before
    currency = report.currency

    def number(value: Exact | None) -> str:
        return "" if value is None else plain(in_unit(kpi, value, currency))

    low, high = now.interval or (None, None)
    benchmark = compared.benchmark if compared else None
    source = (
        f"{benchmark.publisher}, {benchmark.title}, {benchmark.published or f'read {benchmark.read}'}, {benchmark.url}" if benchmark else ""
    )
    return [
        format_month(report.month),
        safe(segment),
        kpi.name,
        safe(line.label),
        safe(kpi.title),
        kpi.unit,
        currency if kpi.unit == "money" else "",
        number(now.value),
        now.reason or "",
        "" if now.n is None else str(now.n),
        number(low),
        number(high),
        number(before.value),
        before.reason or "",
        number(line.change),
        kpi.better or "",
        "" if benchmark is None or benchmark.low is None else plain(benchmark.low),
        "" if benchmark is None or benchmark.high is None else plain(benchmark.high),
        (compared.verdict or compared.reason or "") if compared else "",
        safe(benchmark.population) if benchmark else "",
        safe(source),
        "yes" if report.is_running else "no",
        str(len(report.standing.reported)),
        str(len(report.standing.reported) + len(report.standing.missing)),
        report.as_of,
    ]


def safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula: what begins like one has an apostrophe before it."""
    return f"'{text}" if text.startswith(_FORMULA) else text
