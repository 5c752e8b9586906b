"""`--explain`: what a KPI means, what it is at its edges, and the figures that went into it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from deploy.dlq.letters import escaped
from deploy.kpi.numbers import plain, reading_shown
from models.kpi.exact import Reading
from models.kpi.figures import FIGURES, MICRO, Parts
from models.kpi.money import shown as amount
from models.kpi.portfolio.book import PREVIOUS
from models.kpi.report import REASONS, edges
from models.months import format_month

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.kpi.benchmarks import Benchmarks
    from models.kpi.portfolio.book import Kpi, Value
    from models.kpi.published import Published

_LABELS_MOST: Final = 20
_KINDS: Final = {"flow": "in the month", "stock": "as it ends", "opening": "as it begins"}
_BETTER: Final = {"up": "more is better", "down": "less is better", None: "good neither way"}
_UNITS: Final = {"money": "an amount in whole units of its currency", "percent": "per cent", "score": "points"}


def definition(kpi: Kpi, benchmarks: Benchmarks) -> Iterator[str]:
    """What a KPI means, a line for each thing; the same with and without a broker."""
    yield f"{kpi.title} ({kpi.name}), {kpi.section}"
    yield f"  definition  {kpi.formula}"
    yield f"  unit        {_UNITS.get(kpi.unit, kpi.unit)}; {_BETTER[kpi.better]}"
    yield f"  source      {kpi.source}"
    yield "  edge cases"
    for case, value in edges(kpi).items():
        yield f"    {case}: {_edge(kpi, value)}"
    yield "  made of"
    for name in kpi.figures:
        figure = FIGURES[name.removeprefix(PREVIOUS)]
        when = "of the month before" if name.startswith(PREVIOUS) else _KINDS[figure.kind]
        by = f", by {figure.label.replace('_', ' ')}" if figure.label else ""
        yield f"    {figure.name}{by} ({when}; from {figure.topic}): {figure.meaning}"
    for label, listed in ((label, listed) for (name, label), listed in benchmarks.items() if name == kpi.name):
        for each in listed:
            dated = f"of {each.published}, read {each.read}" if each.published else f"undated, read {each.read}"
            yield f"  benchmark   {f'{label}: ' if label else ''}{each.reach}; {each.population}"
            yield f"              {each.publisher}, {each.title} ({dated}), {each.url}"
            yield f"              {each.note}"


def _edge(kpi: Kpi, value: Value) -> str:
    if not isinstance(value, Reading):
        return "no value for any label" if not value else ", ".join(f"{label}: {_edge(kpi, each)}" for label, each in value.items())
    if value.reason is None:
        return plain(value.value or 0)
    return f"null, {value.reason}: {REASONS[value.reason]}"


def figures(kpi: Kpi, published: Published, month: int, scope: str, segments: tuple[str, ...]) -> Iterator[str]:
    """The figures of a month that a KPI was made of, a line for each."""
    standing = published.standing(month, segments)
    yield f"  {format_month(month)}, {escaped(scope)}, as of {published.as_of}; {standing}"
    now, before = (published.figures(at, segments) for at in (month, month - 1))
    for name in kpi.figures:
        parts = before if name.startswith(PREVIOUS) else now
        told = list(_values(name.removeprefix(PREVIOUS), parts or {}))
        if len(told) > _LABELS_MOST:
            told = [*told[:_LABELS_MOST], f"and {len(told) - _LABELS_MOST} more"]
        yield f"    {name} = {'; '.join(told) or 'not observed'}"


def _values(name: str, parts: Parts) -> Iterator[str]:
    figure = FIGURES[name]
    for key, value in sorted(parts.items()):
        if key.name == name:
            label = f"{escaped(key.label)}: " if key.label else ""
            if figure.is_money:
                yield f"{label}{amount(value, key.currency)} {key.currency}"
            else:
                yield f"{label}{plain(value) if figure.unit != 'micro' else _millionths(value)} {_unit(figure.unit)}".rstrip()


def _millionths(value: int) -> str:
    return plain(Fraction(value, MICRO))


def _unit(unit: str) -> str:
    return "" if unit == "micro" else unit.replace("_", " ")


def as_json(kpi: Kpi, benchmarks: Benchmarks) -> dict[str, Any]:
    """The definition for programs; `figures` are those of the catalogue, without values."""
    return {
        "kpi": kpi.name,
        "title": kpi.title,
        "section": kpi.section,
        "definition": kpi.formula,
        "unit": kpi.unit,
        "better": kpi.better,
        "source": kpi.source,
        "edge_cases": {case: _edge_json(value) for case, value in edges(kpi).items()},
        "made_of": [
            {
                "figure": name,
                "kind": figure.kind,
                "unit": figure.unit,
                "label": figure.label or None,
                "topic": figure.topic,
                "meaning": figure.meaning,
            }
            for name in kpi.figures
            for figure in [FIGURES[name.removeprefix(PREVIOUS)]]
        ],
        "benchmarks": [each.model_dump(mode="json") for (name, _), listed in benchmarks.items() if name == kpi.name for each in listed],
    }


def _edge_json(value: Value) -> Any:
    if isinstance(value, Reading):
        return {"value": None if value.value is None else plain(value.value), "reason": value.reason}
    return {label: _edge_json(each) for label, each in value.items()}


def figures_json(kpi: Kpi, published: Published, month: int, segments: tuple[str, ...]) -> dict[str, Any]:
    """The figures that a KPI of a month was made of, whole numbers by key as they are published; null what was never observed."""
    told: dict[str, Any] = {}
    for name in kpi.figures:
        at = month - 1 if name.startswith(PREVIOUS) else month
        plain_name = name.removeprefix(PREVIOUS)
        found = {str(key): value for key, value in (published.figures(at, segments) or {}).items() if key.name == plain_name}
        told[name] = found or None
    return {"month": format_month(month), "as_of": published.as_of, "segments": list(segments), "figures": told}


def result(kpi: Kpi, value: Value, currency: str) -> Iterator[str]:
    """What the figures come to."""
    if isinstance(value, Reading):
        yield f"  = {reading_shown(kpi, value, currency)}"
        return
    for label, reading in list(value.items())[:_LABELS_MOST]:
        yield f"  {escaped(label)} = {reading_shown(kpi, reading, currency)}"
