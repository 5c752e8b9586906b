"""What a record of an input says, for the second implementation to fold.

Whether a record can be used at all is decided by `models.decoding`: the same bytes, the same verdict and the same reason. What a usable
record says is then read here once more, plainly, with the standard library: nothing that the fast decoder made of it gets into the
second implementation.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from models.decoding import decode_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Members = dict[str, Any]
Header = tuple[str, bytes]

CHUNK: Final = 2_000
"""Records that are decoded at once."""

_ENVELOPE: Final = ("specversion", "id", "source", "type", "time", "subject", "dataschema")
_HEADERS: Final = {f"ce_{name}": name for name in _ENVELOPE}
_MARKS: Final = _HEADERS.keys() - {"ce_dataschema"}
_CLOUDEVENTS: Final = b"application/cloudevents"
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_INTEGER_DIGITS_MAX: Final = 4_000
"""Python refuses to read longer ones; no known member is that long."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record as it was read; `timestamp` is in milliseconds, the broker's own when `is_append_time`."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    timestamp: int = -1
    is_append_time: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """What a record says, or the reason why it cannot be used; the second implementation sees no other record."""

    record: LogRecord
    members: Members | None
    reason: str = ""


def read_records(topic: str, records: Iterable[LogRecord], decode: Callable[[LogRecord], Members | None] | None = None) -> Iterator[Read]:
    """Read the records of a topic (its name without a prefix), in their order.

    `decode` takes the place of this module: it gives what a record says, None where it must be a dead letter for whatever reason.
    """
    if decode is not None:
        yield from (Read(record, decode(record)) for record in records)
        return
    for chunk in _chunks(records):
        decoded = decode_batch(topic, chunk)
        reasons = {each.index: each.reason.value for each in decoded.rejected}
        for place, record in enumerate(chunk):
            reason = reasons.get(place)
            yield Read(record, None, reason) if reason else Read(record, plain_members(record))


def _chunks(records: Iterable[LogRecord]) -> Iterator[Sequence[LogRecord]]:
    chunk: list[LogRecord] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def plain_members(record: LogRecord) -> Members:
    """Return the CloudEvents members of a usable record, in whichever of the three modes it holds them."""
    content = _plain_json(record.value or b"")
    if _is_binary(record.headers):
        given = {name: value.decode() for name, value in record.headers if value is not None and name in _HEADERS}
        content = {_HEADERS[name]: value for name, value in given.items()} | {"data": content}
    return {**content, "type": content["type"].removesuffix(".v1")}


def _is_binary(headers: Sequence[Header]) -> bool:
    types = [value for name, value in headers if name.lower() == "content-type"]
    is_structured = bool(types) and (types[-1] or b"").strip().lower().startswith(_CLOUDEVENTS)
    return not is_structured and any(name in _MARKS for name, _ in headers)


def _plain_json(value: bytes) -> Any:
    text = value.decode()
    read = json.loads(text, strict=False, parse_int=_integer)
    return _whole(read) if "\\u" in text else read  # UTF-8 itself has no surrogates


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _INTEGER_DIGITS_MAX else float(digits)


def _whole(value: Any) -> Any:
    """Put U+FFFD for what JSON can write and no text can hold: half a surrogate pair."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_whole(name): _whole(inner) for name, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value
