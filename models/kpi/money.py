"""Currencies: how many decimals an amount has, and amounts as people read them. Money is integers of minor units, never a float."""

from decimal import Decimal
from fractions import Fraction
from functools import cache

from iso4217 import Currency

from models.kpi.exact import Exact, exact, text
from models.kpi.figures import MICRO


@cache
def exponent(currency: str) -> int:
    """How many decimals a currency has by ISO 4217: JPY 0, USD 2, KWD 3; raises ValueError for one that is not in the list."""
    try:
        found = Currency(currency).exponent
    except ValueError:
        raise ValueError(f"{currency!r} is no currency of ISO 4217") from None
    return found or 0  # precious metals and the like have none


def is_known(currency: str) -> bool:
    """Whether a currency is in the list of ISO 4217."""
    try:
        exponent(currency)
    except ValueError:
        return False
    return True


def scale(currency: str) -> int:
    """How many minor units one whole unit has."""
    return int(10 ** exponent(currency))


def to_major(minor: Exact, currency: str) -> Fraction:
    """Minor units as the amount that is spoken of: 1050 US cents are 10.50 dollars."""
    return exact(minor) / scale(currency)


def to_minor(major: Exact, currency: str) -> Fraction:
    """An amount as it is spoken of in minor units, exact: it may be no whole number of them."""
    return exact(major) * scale(currency)


def convert_minor(minor: Exact, source: str, target: str, rate: Decimal | Fraction) -> Fraction:
    """An amount in minor units of another currency; the rate is what one whole unit of the source is worth in the target."""
    return to_minor(to_major(minor, source) * exact(rate), target)


def shown(micro_minor: int, currency: str) -> str:
    """Millionths of a minor unit as a person reads them, rounded half-up to the currency's decimals: `1234.50`."""
    return text(to_major(Fraction(micro_minor, MICRO), currency), exponent(currency))
