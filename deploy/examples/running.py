"""Run examples: what a metric gives, compared with what is expected, difference by difference."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from deploy.examples.arguments import Arguments
from deploy.examples.metrics import METRICS
from models.kpi.exact import exact, rounded, text

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLERANCE: Final = Fraction(2, 10_000)
"""How far scores and contributions may be off: each is rounded to ten-thousandths by itself."""

SCORES: Final = frozenset({"health_score", "score_delta"})
"""The metrics whose numbers are scores and contributions."""

SHOWN_PLACES: Final = 6

_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an example went: what differed, one line for each, none when it passed."""

    id: str
    metric: str
    problems: tuple[str, ...] = ()
    output: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_passed(self) -> bool:
        """Whether nothing differed."""
        return not self.problems


def read_examples(source: str) -> list[object]:
    """The examples of a file: a list of them, or an object that has it as `examples`. Numbers are read exactly.

    Raises TypeError for what is neither, ValueError for no JSON and for an empty list.
    """
    found = json.loads(source, parse_float=Decimal, parse_constant=_refuse)
    if isinstance(found, dict):
        found = found.get("examples")
    if not isinstance(found, list):
        raise TypeError("it should be a list of examples")
    if not found:
        raise ValueError("there is no example in it")
    return found


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


def run_example(entry: object, place: int) -> Outcome:
    """Calculate one example and compare; whatever is wrong with it is a problem of that example, never an exception."""
    if not isinstance(entry, dict):
        return Outcome(f"#{place}", "?", ("the example is no object",))
    name, metric = str(entry.get("id", f"#{place}")), str(entry.get("metric", "?"))
    function = METRICS.get(metric)
    if function is None:
        return Outcome(name, metric, (f"unknown metric {metric!r}; known are {', '.join(METRICS)}",))
    expected = entry.get("expected")
    if not isinstance(expected, dict) or not expected:
        return Outcome(name, metric, ("expected is missing: it should be an object with at least one member",))
    try:
        output = function(Arguments(entry.get("input")))
    except (ValueError, TypeError, ArithmeticError, OverflowError) as error:
        return Outcome(name, metric, (f"input: {error}",))
    tolerance = TOLERANCE if metric in SCORES else Fraction(0)
    problems = [line for key, value in expected.items() for line in _compared(key, value, output.get(key, _ABSENT), tolerance)]
    return Outcome(name, metric, tuple(problems), output)


_ABSENT: Final = object()


def _compared(path: str, expected: Any, actual: Any, tolerance: Fraction) -> Iterator[str]:
    """What differs between an expected value and an actual one, in lines that name where.

    What the metric gives beside what is expected does not matter at the top; inside, nothing may be missing or too much, save what is zero
    within the tolerance.
    """
    if isinstance(expected, dict) and isinstance(actual, Mapping):
        for key in dict.fromkeys([*expected, *actual]):
            yield from _compared(f"{path}.{key}", expected.get(key, _ABSENT), actual.get(key, _ABSENT), tolerance)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for place, pair in enumerate(zip(expected, actual, strict=True)):
            yield from _compared(f"{path}[{place}]", *pair, tolerance)
    elif not _agrees(expected, actual, tolerance):
        yield f"{path}: expected {_said(expected)}, got {_said(actual, _places(expected))}"


def _agrees(expected: Any, actual: Any, tolerance: Fraction) -> bool:
    if expected is _ABSENT or actual is _ABSENT:
        other = actual if expected is _ABSENT else expected
        return bool(tolerance) and _is_number(other) and abs(_number(other)) <= tolerance
    if expected is None or isinstance(expected, bool) or not _is_number(expected):
        return type(expected) is type(actual) and bool(expected == actual)
    if not _is_number(actual) or isinstance(actual, str):
        return False
    return abs(rounded(actual, _places(expected) or 0) - _number(expected)) <= tolerance


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _DECIMAL.fullmatch(value) is not None
    return isinstance(value, int | Fraction | Decimal) and not isinstance(value, bool)


def _number(value: Any) -> Fraction:
    return Fraction(value) if isinstance(value, str) else exact(value)


def _places(value: Any) -> int | None:
    """How many decimal places an expected number is printed with; None for what is no number."""
    if isinstance(value, str):
        found = _DECIMAL.fullmatch(value)
        return len(found[1] or "") if found else None
    if isinstance(value, Decimal):
        return max(-int(value.as_tuple().exponent), 0)
    return 0 if isinstance(value, int) else None


def _said(value: Any, places: int | None = None) -> str:
    return "nothing" if value is _ABSENT else json.dumps(as_json(value, places), ensure_ascii=False)


def as_json(value: Any, places: int | None = None) -> Any:
    """An output in JSON: whole numbers as such, others as decimal texts with `places`, or as many as they need up to six."""
    if isinstance(value, Mapping):
        return {key: as_json(each, places) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each, places) for each in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    number = exact(value)
    if places is None:
        return int(number) if number.denominator == 1 else text(number, SHOWN_PLACES)
    return text(number, places)
