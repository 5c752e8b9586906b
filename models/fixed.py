"""Fixed point: values and points are integers in ten-thousandths, so that sums and recomputations are exact."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

SCALE = 10_000
"""Ten-thousandths in one."""

FULL = 100 * SCALE
"""One hundred points: the best score."""

Ints = NDArray[np.int64]
AnyInts = NDArray[np.integer[Any]]

Exact = TypeVar("Exact", int, Fraction)


def to_fixed(value: Decimal) -> int:
    """The value in ten-thousandths, halves away from zero."""
    return int(half_up(int(value * SCALE * SCALE), SCALE))


def half_up(numerator: int, denominator: int) -> int:
    """The exact quotient rounded to the nearest integer, halves away from zero; the denominator is positive."""
    sign = -1 if numerator < 0 else 1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))


def portions(parts: Mapping[str, Exact], rounded: Callable[[Exact], int]) -> Iterator[tuple[str, int]]:
    """What each part is worth, so that all of them add up to what the sum of them is worth: exactly, whatever is rounded.

    In the order of their names each is what the rounded running total grows by. Parts that come to 0 are left out.
    """
    if len(parts) == 1:  # nearly always, and asked for often
        ((only, part),) = parts.items()
        if worth := rounded(part):
            yield only, worth
        return
    total: Exact | None = None
    before = 0
    for name in sorted(parts):
        total = parts[name] if total is None else total + parts[name]
        after = rounded(total)
        if after != before:
            yield name, after - before
        before = after


def half_up_many(numerator: Ints, denominator: Ints | int) -> Ints:
    """`half_up` of arrays; the denominators are positive, and twice a numerator fits 63 bits."""
    rounded = (2 * np.abs(numerator) + denominator) // (2 * denominator)
    return cast("Ints", np.where(numerator < 0, -rounded, rounded))


def apportion(shares: Ints, weight: Ints, total: Ints) -> Ints:
    """Split totals into integer parts that sum to them exactly, by the largest remainder.

    `shares` is `(n, parts)`: the numerators of each part; `weight` is `(n,)`: their common denominator; `total` is `(n,)`: what the
    parts must sum to, at least the sum of the floors and at most that sum plus the number of parts. Ties go to the part that is
    named first.
    """
    parts, remainder = np.divmod(shares, weight[:, None])
    missing = total - parts.sum(axis=1)
    columns = list(remainder.T)
    for place, own in enumerate(columns):
        # How many parts come before this one: comparing a few columns costs less than sorting short rows.
        before = np.zeros(len(own), np.int64)
        for other, of_other in enumerate(columns):
            if other != place:
                before += of_other >= own if other < place else of_other > own
        parts[:, place] += before < missing
    return cast("Ints", parts)
