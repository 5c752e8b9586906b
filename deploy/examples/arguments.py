"""Read the input of an example: what is missing or of the wrong kind is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

from models.times import parse_us


class BadInputError(ValueError):
    """An input that a metric cannot be calculated from."""


EPOCH: Final = date(1970, 1, 1)
_NOT_GIVEN: Final = object()

DIGITS_MOST: Final = 100
"""A number has at most about so many digits before or behind its point: 1e999999 would only cost memory."""


class Arguments:
    """The members of an example's input; options may stand beside them, or under `options`."""

    def __init__(self, members: object, path: str = "") -> None:
        if not isinstance(members, Mapping):
            raise BadInputError(f"{path or 'input'} is {_said(members)}: it should be an object")
        options = members.get("options")
        self._members = {**options, **members} if isinstance(options, Mapping) else dict(members)
        self._path = path

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None

    def named(self, name: str) -> str:
        """How a member is called in messages."""
        return f"{self._path}.{name}" if self._path else name

    def first(self, *names: str) -> str:
        """The first of several names of one thing that is given, else the first of them."""
        return next((name for name in names if name in self._members), names[0])

    def raw(self, name: str, default: Any = _NOT_GIVEN) -> Any:
        """A member as it stands; one that is not given has its default, and is an error when it has none."""
        if name in self._members:
            return self._members[name]
        if default is _NOT_GIVEN:
            raise BadInputError(f"{self.named(name)} is missing")
        return default

    def number(self, name: str, default: Any = _NOT_GIVEN) -> Fraction | None:
        """A number, given as one or as text; null is None."""
        value = self.raw(name, default)
        return None if value is None else number(value, self.named(name))

    def given(self, name: str, default: Any = _NOT_GIVEN) -> Fraction:
        """A number that may not be null."""
        found = self.number(name, default)
        if found is None:
            raise BadInputError(f"{self.named(name)} is null: it should be a number")
        return found

    def count(self, name: str, default: Any = _NOT_GIVEN) -> int:
        """A whole number, not negative."""
        found = self.given(name, default)
        if found.denominator != 1 or found < 0:
            raise BadInputError(f"{self.named(name)} is {_said(self.raw(name, default))}: it should be a whole number, not below 0")
        return int(found)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.raw(name, default)
        if not isinstance(value, bool):
            raise BadInputError(f"{self.named(name)} is {_said(value)}: it should be true or false")
        return value

    def choice(self, name: str, default: str, **also: str) -> str:
        """One of some words: the values of `also`, and the other names of them that are its keys."""
        value = self.raw(name, default)
        if value is None:
            return default
        found = also.get(str(value).lower().replace("-", "_").replace(" ", "_"))
        if found is None:
            raise BadInputError(f"{self.named(name)} is {_said(value)}: it should be one of {', '.join(sorted(set(also.values())))}")
        return found

    def items(self, name: str, default: Any = _NOT_GIVEN) -> list[Any]:
        """A list."""
        value = self.raw(name, default)
        if not isinstance(value, list | tuple):
            raise BadInputError(f"{self.named(name)} is {_said(value)}: it should be a list")
        return list(value)

    def numbers(self, name: str, default: Any = _NOT_GIVEN) -> list[Fraction]:
        """A list of numbers."""
        return [number(value, f"{self.named(name)}[{place}]") for place, value in enumerate(self.items(name, default))]

    def counts(self, name: str, default: Any = _NOT_GIVEN) -> list[int]:
        """A list of whole numbers, none negative."""
        found = self.numbers(name, default)
        if any(each.denominator != 1 or each < 0 for each in found):
            raise BadInputError(f"{self.named(name)} should hold whole numbers, none below 0")
        return list(map(int, found))

    def inner(self, name: str, default: Any = _NOT_GIVEN) -> Arguments:
        """An object inside."""
        return Arguments(self.raw(name, default), self.named(name))

    def table(self, name: str, default: Any = _NOT_GIVEN) -> dict[str, Fraction | None]:
        """An object of numbers, some of which may be null."""
        inner = self.inner(name, default)
        return {key: inner.number(key) for key in inner.names()}

    def weights(self, name: str, default: Any = _NOT_GIVEN) -> dict[str, Fraction]:
        """An object of numbers."""
        inner = self.inner(name, default)
        return {key: inner.given(key) for key in inner.names()}

    def names(self) -> list[str]:
        """The names of all members, as they are listed."""
        return list(self._members)

    def day(self, name: str) -> date | None:
        """A date, or an instant's day in UTC; null is None."""
        value = self.raw(name)
        if value is None:
            return None
        at = self.instant(name)
        return EPOCH + timedelta(microseconds=0 if at is None else at)

    def instant(self, name: str) -> int | None:
        """An instant in microseconds, of a date its beginning in UTC; None where none is given."""
        value = self.raw(name, None)
        if value is None:
            return None
        try:
            if len(value) > len("2020-01-01"):
                return parse_us(value)
            return int((date.fromisoformat(value) - EPOCH) / timedelta(microseconds=1))
        except (ValueError, TypeError):
            raise BadInputError(f"{self.named(name)} is {_said(value)}: it should be a date, 2020-03-01, or an instant") from None


def number(value: object, name: str) -> Fraction:
    """A number, given as one or as text."""
    if isinstance(value, int | Fraction) and not isinstance(value, bool):
        return Fraction(value)
    if isinstance(value, str | Decimal):
        with suppress(InvalidOperation):
            read = Decimal(value)
            if read.is_finite() and abs(read.adjusted()) <= DIGITS_MOST:
                return Fraction(read)
    raise BadInputError(f"{name} is {_said(value)}: it should be a number")


def _said(value: object) -> str:
    """A value as a message shows it."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    text = str(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 - one line is short
