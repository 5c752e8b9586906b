"""Exact numbers, and a reading: a value with its sample size and interval, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from models.fixed import half_up

Exact: TypeAlias = int | Fraction | Decimal
"""A number without rounding. Roots and powers are decimals of 28 digits; everything else is a fraction."""

CONTEXT: Final = Context(prec=28, rounding=ROUND_HALF_UP)

NORMAL_95: Final = Decimal("1.959963984540054235524594430")
"""The 97.5 % quantile of the normal distribution: half the width of a 95 % interval, in standard errors."""

Reason = Literal[
    "zero_denominator",
    "not_observed",
    "no_losses",
    "no_answers",
    "no_baseline",
    "no_churn",
    "no_costs",
    "no_margin",
    "no_new_customers",
    "no_orders",
    "no_calibrated_risk",
    "no_previous_period",
    "one_order",
    "too_few",
    "several_currencies",
    "still_running",
    "not_reached",
]
"""Why a figure does not exist. `not_observed`: its feed has never sent anything, which is not zero."""

PERCENT = 100


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric: its value, or None and the reason.

    `n` is the sample size: the denominator of a ratio, the number of answers. `interval` is the 95 % interval, in the unit of the value.
    `beside` is what is to be shown with it: a numerator, a flag.
    """

    value: Exact | None
    reason: Reason | None = None
    n: int | None = None
    interval: tuple[Decimal, Decimal] | None = None
    beside: Mapping[str, Exact | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a reading has either a value or a reason")

    def times(self, factor: int) -> "Reading":
        """The same in a unit that is that many times smaller: a share as per cent."""
        if self.value is None:
            return self
        interval = self.interval and (self.interval[0] * factor, self.interval[1] * factor)
        return Reading(exact(self.value) * factor, None, self.n, interval, self.beside)


def none(reason: Reason, n: int | None = None, **beside: Exact | None) -> Reading:
    """A reading that does not exist."""
    return Reading(None, reason, n, None, beside)


def exact(number: Exact) -> Fraction:
    """The number as a fraction; raises TypeError for a float, which is not what was meant."""
    if isinstance(number, float):
        raise TypeError("a float is no exact number")
    return Fraction(number)


def ratio(
    numerator: Exact, denominator: Exact, reason: Reason = "zero_denominator", n: int | None = None, **beside: Exact | None
) -> Reading:
    """A quotient; with a zero denominator it does not exist, for the reason given: it is neither 0 nor infinite."""
    if not denominator:
        return none(reason, n, **beside)
    return Reading(exact(numerator) / exact(denominator), None, n, None, beside)


def proportion(part: int, whole: int, reason: Reason = "zero_denominator", **beside: Exact | None) -> Reading:
    """A part of a whole with its Wilson interval; with an empty whole it does not exist.

    A part below zero or above the whole, which only inconsistent counts can give, has no interval.
    """
    if not whole:
        return none(reason, 0, **beside)
    interval = wilson(part, whole) if 0 <= part <= whole else None
    return Reading(Fraction(part, whole), None, whole, interval, beside)


def wilson(part: int, whole: int) -> tuple[Decimal, Decimal]:
    """The Wilson 95 % score interval of a proportion, inside [0, 1].

    `(p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)`. It holds the proportion; at 0 of n and n of n it touches 0 and 1.
    """
    c, n, k, z = CONTEXT, Decimal(whole), Decimal(part), NORMAL_95
    square = c.multiply(z, z)
    middle = c.add(k, c.divide(square, Decimal(2)))
    spread = c.multiply(z, c.sqrt(c.add(c.divide(k * (n - k), n), c.divide(square, Decimal(4)))))
    over = c.add(n, square)
    low = Decimal(0) if part == 0 else max(Decimal(0), c.divide(c.subtract(middle, spread), over))
    high = Decimal(1) if part == whole else min(Decimal(1), c.divide(c.add(middle, spread), over))
    return low, high


def power(base: Exact, exponent: Exact) -> Decimal:
    """A power with a fractional exponent, in 28 digits; the base is not negative."""
    fraction = exact(base)
    if fraction in {0, 1}:
        return Decimal(int(fraction)) if exponent else Decimal(1)
    c = Context(prec=40)
    return CONTEXT.plus(c.exp(c.multiply(c.ln(_decimal(fraction, c)), _decimal(exact(exponent), c))))


def root(number: Exact) -> Decimal:
    """The square root, in 28 digits."""
    return CONTEXT.plus(Context(prec=40).sqrt(_decimal(exact(number), Context(prec=40))))


def decimal(number: Exact) -> Decimal:
    """The number as a decimal of 28 digits."""
    return _decimal(exact(number), CONTEXT)


def _decimal(number: Fraction, context: Context) -> Decimal:
    return context.divide(Decimal(number.numerator), Decimal(number.denominator))


def rounded(number: Exact, places: int = 0) -> Fraction:
    """The number with that many decimal places, rounded half-up, away from zero: 0.5 is 1, and -2.5 is -3."""
    scaled = exact(number) * 10**places
    return Fraction(half_up(scaled.numerator, scaled.denominator), 10**places)


def text(number: Exact, places: int) -> str:
    """The number as a decimal text with that many places, rounded half-up; never in exponents, and no minus before a zero."""
    scaled = rounded(number, places) * 10**places
    digits = str(abs(int(scaled))).rjust(places + 1, "0")
    sign = "-" if scaled < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def median(values: list[Fraction]) -> Fraction | None:
    """The middle value, or the mean of the two middle ones; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
