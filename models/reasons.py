"""Why a record cannot be used: the reasons, and how a complaint of the decoder becomes one of them.

A message is one line: the member, and what is expected of it. It never holds anything of the payload, since it goes into headers
and logs.
"""

import json
import re
from enum import StrEnum
from typing import Any, Final, NoReturn

from msgspec import inspect

from models.events import CURRENCY_PATTERN, DAY_PATTERN, DECIMAL_PATTERN, NEWER_SCHEMA, RATE_PATTERN, RULES
from models.times import RFC3339_PATTERN


class Reason(StrEnum):
    """Why a record cannot be used."""

    NOT_JSON = "not_json"
    NOT_FINITE = "not_finite"
    MISSING_MEMBER = "missing_member"
    BAD_TYPE = "bad_type"
    BAD_VALUE = "bad_value"
    BAD_TIME = "bad_time"
    FUTURE_TIME = "future_time"
    UNKNOWN_TYPE = "unknown_type"
    KEY_MISSING = "key_missing"
    KEY_MISMATCH = "key_mismatch"
    TOO_LARGE = "too_large"
    NULL_VALUE = "null_value"
    SCHEMA_UNSUPPORTED = "schema_unsupported"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"


class Unusable(Exception):  # noqa: N818 - an answer, not a fault
    """A record cannot be used; caught where the records of a batch are told apart, and nowhere else."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def missing(name: str) -> Unusable:
    """Return that a member is required, but missing."""
    return Unusable(Reason.MISSING_MEMBER, f"{name}: required, but missing")


def not_json(text: bytes) -> Unusable:
    """Return why a text is not JSON: because of NaN or an infinity, or for any other reason."""
    try:
        json.loads(text, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except Unusable as unusable:
        return unusable
    except (ValueError, RecursionError):
        pass
    return Unusable(Reason.NOT_JSON, "value: expected JSON")


def _refuse_constant(_: str) -> NoReturn:
    raise Unusable(Reason.NOT_FINITE, "value: expected finite numbers, got NaN or Infinity")


_LOCATED: Final = re.compile(r"(.*) - at `\$([^`]*)`", re.DOTALL)
_PATTERNS: Final = {
    RFC3339_PATTERN: (Reason.BAD_TIME, "expected RFC 3339 with an offset"),
    NEWER_SCHEMA: (Reason.SCHEMA_UNSUPPORTED, "expected major version 1"),
    CURRENCY_PATTERN: (Reason.BAD_VALUE, "expected three upper-case letters (ISO 4217)"),
    DECIMAL_PATTERN: (Reason.BAD_VALUE, "expected a decimal number that is not negative"),
    RATE_PATTERN: (Reason.BAD_VALUE, "expected a decimal number above 0, as in 1.0850"),
    DAY_PATTERN: (Reason.BAD_VALUE, "expected a day, as in 2026-11-01"),
}
_COMPLAINTS: Final = (
    # Only words that name types, members and limits are taken over: groups 1 and 2.
    (re.compile(r"Expected `([\w |]+)`(?:, got `(\w+)`)?"), Reason.BAD_TYPE, "expected {}, got {}"),
    (re.compile(r"Expected `(\w+)` ((?:of length )?[<>]=? -?\d+(?:\.\d+)?)"), Reason.BAD_VALUE, "expected {} {}"),
    (re.compile(r"(Number) (out of range)"), Reason.NOT_FINITE, "expected a finite number"),
)


def explained(complaint: str, name: str, declared: Any) -> Unusable:
    """Turn a complaint of msgspec about a value called `name`, of a declared type, into a reason and a message."""
    located = _LOCATED.fullmatch(complaint)
    what, path = (complaint, "") if located is None else located.groups()
    if member := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return missing(f"{name}{path}.{member[1]}")
    if broken := RULES.get(what):
        return Unusable(Reason(broken), f"{name}{path}.{what}")
    reason, expected = Reason.BAD_VALUE, "expected a value within range"
    if what.startswith("Invalid enum value"):
        expected = f"expected one of {', '.join(_choices(declared, path))}"
    for pattern, told in _PATTERNS.items():
        if what.startswith("Expected `str` matching regex ") and repr(pattern)[1:-1] in what:
            reason, expected = told
    for form, reason_of_form, text in _COMPLAINTS:
        if words := form.fullmatch(what):
            reason, expected = reason_of_form, text.format(words[1], words[2] or "something else")
    return Unusable(reason, f"{name}{path}: {expected}")


def _choices(declared: Any, path: str) -> list[str]:
    """Return the values that the member at a path of a type may have."""
    found = [inspect.type_info(declared)]
    for member in (part for part in re.split(r"\.|\[[^\]]*\]", path) if part):
        structs = [struct for one in found for struct in _flattened(one) if isinstance(struct, inspect.StructType)]
        found = [field.type for struct in structs for field in struct.fields if field.encode_name == member]
    literals = [one for declared_type in found for one in _flattened(declared_type) if isinstance(one, inspect.LiteralType)]
    return [str(value) for literal in literals for value in literal.values]


def _flattened(declared: inspect.Type) -> list[inspect.Type]:
    """Return a type without what wraps it: annotations, unions, arrays."""
    match declared:
        case inspect.Metadata():
            return _flattened(declared.type)
        case inspect.UnionType():
            return [one for inner in declared.types for one in _flattened(inner)]
        case inspect.VarTupleType():
            return _flattened(declared.item_type)
    return [declared]
