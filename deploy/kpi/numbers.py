"""Values as people and as programs read them, rounded half-up once; an amount in whole units of its currency."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

from models.kpi.exact import exact, text
from models.kpi.money import exponent
from models.kpi.report import in_unit

if TYPE_CHECKING:
    from models.kpi.exact import Exact, Reading
    from models.kpi.portfolio.book import Kpi, Unit
    from models.kpi.report import Line

PLACES: Final = 6
"""Decimals for programs."""

_PLACES: Final[dict[Unit, int]] = {"percent": 1, "ratio": 2, "score": 1, "days": 1, "months": 1, "years": 2}
_FINE: Final = {"sentiment": 2}
"""Decimals of KPIs whose whole scale is a few points: sentiment is between -1 and 1."""

_SPANS: Final = ((2 * 86_400, 86_400, "d"), (2 * 3_600, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))
_UNITS: Final[dict[Unit, str]] = {"percent": " %", "days": " d", "months": " months", "years": " years"}


def shown(kpi: Kpi, value: Exact, currency: str, *, is_change: bool = False) -> str:
    """A value in its unit; a change with its sign, one of per cent in points."""
    number = exact(in_unit(kpi, value, currency))
    sign = "+" if is_change and number > 0 else ""
    if kpi.unit == "seconds":
        return sign + _span(number)
    if kpi.unit == "money":
        return sign + _grouped(number, exponent(currency))
    unit = " pp" if is_change and kpi.unit == "percent" else _UNITS.get(kpi.unit, "")
    places = _FINE.get(kpi.name, _PLACES.get(kpi.unit, 0 if number.denominator == 1 else 1))
    return sign + _grouped(number, places) + unit


def reading_shown(kpi: Kpi, reading: Reading, currency: str) -> str:
    """A value, or the reason why there is none."""
    if reading.value is None:
        return f"– {reason_shown(reading)}"
    partial = " (partial)" if reading.beside.get("is_partial") else ""
    return shown(kpi, reading.value, currency) + partial


def reason_shown(reading: Reading) -> str:
    """The reason why there is no value, in words."""
    return (reading.reason or "").replace("_", " ")


def interval_shown(line: Line, currency: str) -> str:
    """The 95 % interval, `4.1–7.9`, in the unit of the value, `-40.7 to -3.4` below 0; empty without one."""
    if line.now.interval is None:
        return ""
    low, high = (shown(line.kpi, end, currency).removesuffix(" %") for end in line.now.interval)
    return f"{low} to {high}" if low.startswith("-") else f"{low}–{high}"


def plain(value: Exact) -> str:
    """A decimal number with six places at most, and no more than it needs: never in exponents."""
    written = text(value, PLACES)
    return written.rstrip("0").rstrip(".") if "." in written else written


def _grouped(number: Fraction, places: int) -> str:
    whole, point, decimals = text(abs(number), places).partition(".")
    sign = "-" if text(number, places).startswith("-") else ""
    return f"{sign}{int(whole):,}{point}{decimals}"


def _span(seconds: Fraction) -> str:
    for least, unit, name in _SPANS:
        if abs(seconds) >= least:
            return f"{text(seconds / unit, 0 if unit == 1 else 1)} {name}"
    raise AssertionError  # the last least is 0
