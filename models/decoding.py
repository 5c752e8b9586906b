"""From records as they were read to typed events, or to the reason why a record cannot be used.

Decoding is total: whatever bytes a record holds, it becomes exactly one event or exactly one `Rejected`; nothing is raised. Most
records take the fast way, a whole batch at a time. Whatever is odd about one, it is read once more by itself (`_decode_one`), which
either understands it after all (binary mode, a version suffix, lone surrogates) or names the first of the following that is wrong:

1. the record: `key_missing`, `null_value`, `too_large`
2. the JSON text: `not_json`, `not_finite` (NaN, Infinity, 1e999), nesting deeper than `DEPTH_MAX` (`bad_value`), no object (`bad_type`)
3. the envelope: its members, `unknown_type`, `schema_unsupported`
4. the payload: `missing_member`, `bad_type`, `bad_value`, `bad_time`
5. the envelope against the record: `key_mismatch`, `bad_time`, `future_time`

Text is taken as people meant it where JSON cannot hold it: a lone surrogate becomes U+FFFD, a raw NUL in a text stays a NUL.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Literal, NoReturn, Protocol, TypeAlias, Union, cast

import msgspec
import numpy as np
from msgspec import inspect
from numpy.typing import NDArray
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from models.events import (
    CURRENCY_PATTERN,
    DECIMAL_PATTERN,
    EVENT_ID_MAX,
    NEWER_SCHEMA,
    SUBJECT_MAX,
    TOPIC_EVENTS,
    Envelope,
    UsageEvent,
    type_name,
)
from models.times import MILLISECOND_US, MINUTE_US, RFC3339_PATTERN, parse_many, parse_us

VALUE_MAX: Final = 1_000_000
"""Bytes of the largest value that is read."""

DEPTH_MAX: Final = 32
"""How deep arrays and objects may be nested, the outermost counted."""

ABSURD_DEPTH: Final = 1_000
"""Beyond this, parsers differ in what they can read at all: it is no JSON for anybody."""

FUTURE_MAX_US: Final = 5 * MINUTE_US
"""How far an event may be ahead of the broker's time."""


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


class Record(Protocol):
    """What is read of a record: `timestamp` is the broker's time in milliseconds, 0 or less when it is not known."""

    @property
    def key(self) -> bytes | None:
        """The account id in UTF-8."""

    @property
    def value(self) -> bytes | None:
        """The event, or its payload in binary mode."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """The headers in their order; names may repeat."""

    @property
    def timestamp(self) -> int:
        """The broker's time in milliseconds."""

    @property
    def offset(self) -> int:
        """The position in the partition."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used: `index` is its place in the batch. The message is one line and holds nothing of the payload."""

    index: int
    reason: Reason
    message: str
    stage: Literal["decode", "fold"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded batch of `n` usable events in the order of the records, and the records that are not.

    `index[i]` is the place of `events[i]` in the batch. `times_us` and `identity` are `(n,)`: the instant in microseconds; and who
    the event is, the upper 48 bits made of `(source, id)`, and what it says, the lower 16 bits made of its content (type, instant and
    known members of `data`, however they were written). Identities are kept: they never change from one release to the next.
    """

    events: list[Any]
    index: list[int]
    times_us: NDArray[np.int64]
    identity: NDArray[np.uint64]
    rejected: list[Rejected]


class _Unusable(Exception):  # noqa: N818 - an answer, not a fault
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


_KEY_MISSING: Final = "key: expected the account id"

_Mode: TypeAlias = Literal["plain", "structured", "binary"]
_PLAIN: Final = "plain"
_STRUCTURED: Final = "structured"
_BINARY: Final = "binary"

# msgspec leaves texts that it skips or reads unchecked to Python's own decoder, and recursion to the interpreter.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_batch(topic: str, records: Sequence[Record]) -> Decoded:
    """Decode the records of a topic (its name without a prefix); raises KeyError for a topic that has no events in `TOPIC_EVENTS`."""
    values = [record.value for record in records]
    is_bare = not any([record.headers for record in records])  # noqa: C419 - half the time of a generator
    modes = [] if is_bare else [_mode(record.headers) if record.headers else _PLAIN for record in records]
    odd = _doubtful(values)
    binary = frozenset(i for i, mode in enumerate(modes) if mode == _BINARY)
    decoded = _decode_usual(_FAST[topic].decode, values, odd | binary)
    for i, mode in enumerate(modes):
        if mode == _BINARY:
            decoded[i] = None if i in odd else _decode_binary(topic, records[i])
        elif mode == _STRUCTURED and decoded[i] is not None and decoded[i].specversion is None:
            decoded[i] = None
    rejected: list[Rejected] = []
    index = list(range(len(decoded)))
    if not all(decoded):
        for i in index:
            if decoded[i] is None:
                try:
                    decoded[i] = _decode_one(topic, records[i])
                except _Unusable as unusable:
                    rejected.append(Rejected(i, unusable.reason, unusable.message, "decode"))
        index = [i for i in index if decoded[i] is not None]
        decoded = [decoded[i] for i in index]
    return _hold_against_records(records, decoded, index, rejected)


def _decode_usual(fast_decode: Callable[[bytes], Any], values: list[bytes | None], skip: frozenset[int]) -> list[Any]:
    """Return the event of each value; None for those to skip, and for those which fail."""
    if not skip:
        try:
            return [fast_decode(value) for value in cast("list[bytes]", values)]
        except _UNREADABLE:
            pass
    decoded = []
    for i, value in enumerate(values):
        event = None
        if i not in skip:
            try:
                event = fast_decode(cast("bytes", value))
            except _UNREADABLE:
                event = None
        decoded.append(event)
    return decoded


def _doubtful(values: list[bytes | None]) -> frozenset[int]:
    """Return the places of values that the usual way must not see: null, too large, perhaps nested too deep, or not UTF-8."""
    try:
        return frozenset(_doubtful_texts(cast("list[bytes]", values)))
    except TypeError:  # null has no length
        nulls = [i for i, value in enumerate(values) if value is None]
        return frozenset(nulls + _doubtful_texts([value or b"" for value in values]))


def _doubtful_texts(values: list[bytes]) -> list[int]:
    """Return the places of values that are too large, perhaps nested too deep, or not UTF-8."""
    doubtful = []
    length_max = max(map(len, values), default=0)
    if length_max > VALUE_MAX:
        doubtful = [i for i, value in enumerate(values) if len(value) > VALUE_MAX]
        values = [b"" if len(value) > VALUE_MAX else value for value in values]
    joined = b"".join([*values, bytes(_STRIDE)])
    if not joined.isascii():
        doubtful += [i for i, value in enumerate(values) if not (value.isascii() or _is_utf8(value))]
    if _perhaps_deep(joined, length_max):
        doubtful += [i for i, value in enumerate(values) if value.count(b"{") + value.count(b"[") >= DEPTH_MAX]
    return doubtful


_STRIDE: Final = 64


def _perhaps_deep(joined: bytes, length_max: int) -> bool:
    """Return whether some text of at most `length_max` bytes, of those joined here, has enough opening brackets to be nested too deep.

    Counts them in strides of 64 bytes, and adds up as many neighbouring strides as such a text can touch. The texts have a stride of
    zeros behind them.
    """
    brackets = np.frombuffer(joined, dtype=np.uint8, count=len(joined) // _STRIDE * _STRIDE) | 0x20  # `[` is `{` without this bit
    opening = np.packbits(np.equal(brackets, ord("{"), out=brackets.view(np.bool_)))
    before = np.zeros(len(opening) * 8 // _STRIDE + 1, dtype=np.int64)
    np.cumsum(np.bitwise_count(opening.view(np.uint64)), out=before[1:])
    touched = min(length_max // _STRIDE + 2, len(before) - 1)
    return bool((before[touched:] - before[:-touched]).max() >= DEPTH_MAX)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _hold_against_records(
    records: Sequence[Record], decoded: list[Any], index: list[int], rejected: list[Rejected]
) -> Decoded:
    """Check keys and times of decoded events against their records, drop those that fail, and add the identities."""
    times_us, timely = parse_many([event.time for event in decoded])
    bad: dict[int, Rejected] = {}
    kinds = set(map(type, decoded))
    packed, unpackable = _pack(decoded, kinds)
    strangers = _strangers(records, decoded, index)
    for reason, message, places in (  # the last one that fits a record counts
        (Reason.FUTURE_TIME, "time: more than 5 minutes ahead of the broker's time", _ahead(records, index, times_us)),
        (Reason.BAD_TIME, "time: expected RFC 3339 with an offset", [] if timely.all() else np.flatnonzero(~timely).tolist()),
        (Reason.KEY_MISMATCH, "subject: expected the record's key", [i for i in strangers if records[index[i]].key]),
        (Reason.BAD_VALUE, "data: expected integers of at most 64 bits", unpackable),
        (Reason.KEY_MISSING, _KEY_MISSING, [i for i in strangers if not records[index[i]].key]),
    ):
        bad |= {i: Rejected(index[i], reason, message, "decode") for i in places}
    if bad:
        kept = [i for i in range(len(decoded)) if i not in bad]
        decoded, index = [decoded[i] for i in kept], [index[i] for i in kept]
        packed, times_us = [packed[i] for i in kept], times_us[kept]
        rejected = [*rejected, *bad.values()]
    if rejected:
        rejected.sort(key=lambda one: one.index)
    return Decoded(decoded, index, times_us, _identities(decoded, kinds, times_us, packed), rejected)


def _strangers(records: Sequence[Record], decoded: list[Any], index: list[int]) -> list[int]:
    """Return the places of events whose subject is not the record's key."""
    keys = [record.key for record in records] if len(index) == len(records) else [records[i].key for i in index]
    subjects = [event.subject for event in decoded]
    joined = "\0".join(subjects).encode()
    # As long as no NUL stands within a subject, the joined texts are equal only where each key is.
    if all(keys) and joined == b"\0".join(cast("list[bytes]", keys)) and joined.count(0) == len(subjects) - 1:
        return []
    return [i for i, subject in enumerate(subjects) if keys[i] != subject.encode()]


def _ahead(records: Sequence[Record], index: list[int], times_us: NDArray[np.int64]) -> Iterable[int]:
    """Return the places of events that are too far ahead of the broker's time, where that is known."""
    if not index:
        return []
    stamps = [record.timestamp for record in records]
    earliest = min(stamps)
    if earliest > 0 and int(times_us.max()) <= earliest * MILLISECOND_US + FUTURE_MAX_US:
        return []
    return [
        i
        for i, (place, time_us) in enumerate(zip(index, times_us.tolist(), strict=True))
        if stamps[place] > 0 and time_us > stamps[place] * MILLISECOND_US + FUTURE_MAX_US
    ]


# Identity


_pack_one = msgspec.msgpack.Encoder(order="deterministic").encode
_FLOAT: Final = b"\xcb"
"""What every float starts with in msgpack; other things may hold that byte too."""
_ZERO: Final = msgspec.msgpack.encode(0.0)
_MINUS_ZERO: Final = msgspec.msgpack.encode(-0.0)


def _pack(decoded: list[Any], kinds: set[type]) -> tuple[list[bytes], list[int]]:
    """Return the content of each event in its one way of writing, and the places of those that have none (their bytes are empty)."""
    payloads = [event.data for event in decoded]
    unpackable: list[int] = []
    try:
        packed = list(map(_pack_one, payloads))
    except OverflowError:  # an integer beyond 64 bits among free members
        packed = list(map(_pack_or_nothing, payloads))
        unpackable = [i for i, content in enumerate(packed) if not content]
    if kinds & _SPELLED.keys() or _FLOAT in b"".join(packed):
        packed = [
            _repack(event, content) if content and (_FLOAT in content or type(event) in _SPELLED) else content
            for event, content in zip(decoded, packed, strict=True)
        ]
    return packed, unpackable


def _pack_or_nothing(data: Any) -> bytes:
    try:
        return _pack_one(data)
    except OverflowError:
        return b""


def _repack(event: Any, content: bytes) -> bytes:
    """Write a payload so that what is the same reads the same: 1.0 as 1 where both are possible, an instant as its microseconds."""
    if respell := _SPELLED.get(type(event)):
        return _pack_one(_whole_numbers(respell(msgspec.to_builtins(event.data))))
    if type(event) is UsageEvent and _has_whole_float(event.data.properties):
        content = _pack_one(msgspec.structs.replace(event.data, properties=_whole_numbers(event.data.properties)))
    return content.replace(_MINUS_ZERO, _ZERO)


def _has_whole_float(value: Any) -> bool:
    if type(value) is float:
        return value.is_integer()
    if type(value) is dict:
        return any(map(_has_whole_float, value.values()))
    return type(value) is list and any(map(_has_whole_float, value))


def _whole_numbers(value: Any) -> Any:
    """Return a JSON value with integers in the place of the floats that equal one of at most 64 bits."""
    if isinstance(value, float) and value.is_integer() and -(2.0**63) <= value < 2.0**64:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_numbers(inner) for inner in value]
    return value


_Respell: TypeAlias = Callable[[Any], Any]


def _plain_decimal(amount: str | int) -> str:
    whole, _, parts = str(amount).partition(".")
    return f"{int(whole)}.{parts}".rstrip("0").rstrip(".") if parts else str(int(whole))


_ONE_SPELLING: Final[dict[str | None, _Respell]] = {RFC3339_PATTERN: parse_us, DECIMAL_PATTERN: _plain_decimal}


def _respell_of(declared: inspect.Type) -> _Respell | None:
    """Return what gives the values of a type their one spelling; None where there is only one anyway."""
    match declared:
        case inspect.Metadata():
            return _respell_of(declared.type)
        case inspect.UnionType():
            return next((respell for inner in declared.types if (respell := _respell_of(inner))), None)
        case inspect.StrType():
            return _ONE_SPELLING.get(declared.pattern)
        case inspect.VarTupleType():
            respell_item = _respell_of(declared.item_type)
            return None if respell_item is None else lambda items: [respell_item(item) for item in items]
        case inspect.StructType():
            return _respell_members({member.encode_name: _respell_of(member.type) for member in declared.fields})
    return None


def _respell_members(members: dict[str, _Respell | None]) -> _Respell | None:
    respelled = {name: respell for name, respell in members.items() if respell is not None}
    if not respelled:
        return None

    def respell_known(value: dict[str, Any]) -> dict[str, Any]:
        return value | {name: respell(value[name]) for name, respell in respelled.items() if name in value}

    return respell_known


def _payload_class(event_class: type[Envelope]) -> Any:
    return next(member.type for member in msgspec.structs.fields(event_class) if member.name == "data")


_EVENT_CLASSES: Final = [event_class for classes in TOPIC_EVENTS.values() for event_class in classes]
_SPELLED: Final[dict[type, _Respell]] = {
    event_class: respell
    for event_class in _EVENT_CLASSES
    if (respell := _respell_of(inspect.type_info(_payload_class(event_class)))) is not None
}
"""The events with members that can be spelled in several ways."""

_TYPE_HASH: Final = {event_class: xxh3_64_intdigest(type_name(event_class).encode()) for event_class in _EVENT_CLASSES}
_WHO_BITS: Final = np.uint64(0xFFFF_FFFF_FFFF_0000)
_WHAT_BITS: Final = np.uint64(0xFFFF)


@lru_cache(maxsize=4096)
def _source_hash(source: str) -> int:
    return xxh3_64_intdigest(source.encode())


def _identities(
    decoded: list[Any], kinds: set[type], times_us: NDArray[np.int64], packed: list[bytes]
) -> NDArray[np.uint64]:
    if not decoded:
        return np.zeros(0, dtype=np.uint64)
    # Hashes that all have in common stay arrays of one, to be broadcast.
    names = [event.source for event in decoded]
    sources = _column(_source_hash, names[:1] if names.count(names[0]) == len(names) else names)
    types = _column(_TYPE_HASH.__getitem__, kinds if len(kinds) == 1 else map(type, decoded))
    who = _mix(_hashes(map(str.encode, [event.id for event in decoded])) ^ _mix(sources))
    what = _mix(_hashes(packed) ^ _mix(times_us.view(np.uint64) ^ types))
    return (who & _WHO_BITS) | (what & _WHAT_BITS)


def _hashes(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(map(xxh3_64_digest, texts)), dtype=">u8").astype(np.uint64)


def _column(hash_of: Callable[[Any], int], values: Iterable[Any]) -> NDArray[np.uint64]:
    return np.fromiter(map(hash_of, values), dtype=np.uint64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all others, one to one (the finalizer of MurmurHash3)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


# One record by itself


def _decode_one(topic: str, record: Record) -> Any:
    """Return the event of a record that is odd in any way; raises `_Unusable` with the first thing that is wrong."""
    mode = _mode(record.headers or ())
    text = _json_text(_value(record), DEPTH_MAX - 1 if mode == _BINARY else DEPTH_MAX)
    members = _header_members(record.headers, text) if mode == _BINARY else _json_members(text)
    if mode != _PLAIN and members.get("specversion") in (None, _NULL):
        raise _missing("specversion")
    envelope = {name: _envelope_member(members, name) for name in ("specversion", "id", "source")}
    event_class: Any = _event_class(topic, _envelope_member(members, "type"))
    envelope |= {name: _envelope_member(members, name) for name in ("time", "subject", "dataschema")}
    if "data" not in members:
        raise _missing("data")
    return event_class(**envelope, data=_read(_PAYLOAD_DECODERS[event_class], members["data"], "data"))


def _value(record: Record) -> bytes:
    if not record.key:
        raise _Unusable(Reason.KEY_MISSING, _KEY_MISSING)
    if record.value is None:
        raise _Unusable(Reason.NULL_VALUE, "value: expected an event, got null")
    if len(record.value) > VALUE_MAX:
        raise _Unusable(Reason.TOO_LARGE, f"value: expected at most {VALUE_MAX} bytes, got {len(record.value)}")
    return record.value


_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A JSON string, or what is left of one at the end; possessive, so that no text makes it slow."""


def _json_text(value: bytes, depth_max: int) -> bytes:
    """Return a value as UTF-8 that is not nested too deep, with texts repaired; whether it is JSON is not yet known."""
    if value.startswith(b"\xef\xbb\xbf"):
        raise _Unusable(Reason.NOT_JSON, "value: expected JSON, got a byte order mark")
    if not _is_utf8(value):
        raise _Unusable(Reason.NOT_JSON, "value: expected UTF-8")
    depth = _depth(value)
    if depth > ABSURD_DEPTH:
        raise _Unusable(Reason.NOT_JSON, f"value: nested deeper than {ABSURD_DEPTH}")
    if depth > depth_max:
        raise _Unusable(Reason.BAD_VALUE, f"value: nested deeper than {DEPTH_MAX}")
    return _repaired(value)


def _depth(value: bytes) -> int:
    brackets = np.frombuffer(_STRING.sub(b"", value), dtype=np.uint8) | 0x20  # `[` becomes `{`, and `]` becomes `}`
    steps = (brackets == ord("{")).astype(np.int32) - (brackets == ord("}"))
    return int(np.cumsum(steps).max(initial=0))


_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|(\x00)|\\.", re.DOTALL
)
"""Every escape, so that none is entered in its middle; group 1 is half a surrogate pair, group 2 a raw NUL."""


def _repaired(value: bytes) -> bytes:
    """Return JSON with U+FFFD for lone surrogates and with escaped NULs; outside of texts a NUL stays wrong."""
    if b"\\u" not in value and b"\0" not in value:
        return value
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else rb"\u0000" if found[2] else found[0], value)


_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL: Final = msgspec.Raw(b"null")


def _json_members(text: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _read_object(text)
    except msgspec.ValidationError as error:
        raise _explained(str(error), "value", None) from None
    except _UNREADABLE:
        raise _not_json(text) from None


def _not_json(text: bytes) -> _Unusable:
    """Return why a text is not JSON: because of NaN or an infinity, or for any other reason."""
    try:
        json.loads(text, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except _Unusable as unusable:
        return unusable
    except (ValueError, RecursionError):
        pass
    return _Unusable(Reason.NOT_JSON, "value: expected JSON")


def _refuse_constant(_: str) -> NoReturn:
    raise _Unusable(Reason.NOT_FINITE, "value: expected finite numbers, got NaN or Infinity")


# Envelope modes

_CONTENT_TYPE: Final = "content-type"
_CLOUDEVENTS: Final = b"application/cloudevents"
_HEADER_MEMBERS: Final = {f"ce_{name}": name for name in ("specversion", "id", "source", "type", "time", "subject", "dataschema")}
_REQUIRED_HEADERS: Final = ("ce_type", "ce_id", "ce_source", "ce_time", "ce_subject")
_BINARY_MARKS: Final = frozenset({"ce_specversion", *_REQUIRED_HEADERS})


def _mode(headers: Sequence[tuple[str, bytes | None]]) -> _Mode:
    """Return how a record holds its event, by its headers; of a header that repeats the last one counts."""
    content_type: bytes | None = None
    mode: _Mode = _PLAIN
    for name, value in headers:
        if name in _BINARY_MARKS:
            mode = _BINARY
        elif len(name) == len(_CONTENT_TYPE) and name.lower() == _CONTENT_TYPE:
            content_type = value
    if content_type is not None and content_type.strip()[: len(_CLOUDEVENTS)].lower() == _CLOUDEVENTS:
        return _STRUCTURED
    return mode


def _decode_binary(topic: str, record: Record) -> Any:
    """Return the event of a usual record in binary mode; None where something asks for a closer look."""
    headers = dict(record.headers)
    try:
        kind, event_id, source, time, subject = [headers[name].decode() for name in _REQUIRED_HEADERS]
        home, event_class = _TOPIC_AND_CLASS[kind]
        data = _PAYLOAD_DECODERS[event_class].decode(cast("bytes", record.value))
    except (KeyError, AttributeError, *_UNREADABLE):  # AttributeError: a null header
        return None
    is_usual = home == topic and headers.get("ce_specversion") == b"1.0" and "ce_dataschema" not in headers
    if is_usual and source and 0 < len(event_id) <= EVENT_ID_MAX and 0 < len(subject) <= SUBJECT_MAX:
        build: Any = event_class
        return build(id=event_id, source=source, time=time, subject=subject, specversion="1.0", data=data)
    return None


def _header_members(headers: Sequence[tuple[str, bytes | None]], text: bytes) -> dict[str, msgspec.Raw]:
    members: dict[str, msgspec.Raw] = {}
    for name, value in headers:
        member = _HEADER_MEMBERS.get(name)
        if member is not None and value is not None:
            try:
                members[member] = msgspec.Raw(msgspec.json.encode(value.decode()))
            except UnicodeDecodeError:
                raise _Unusable(Reason.BAD_VALUE, f"{member}: expected UTF-8") from None
    try:
        members["data"] = _read_raw(text)
    except _UNREADABLE:
        raise _not_json(text) from None
    return members


_read_raw = msgspec.json.Decoder(msgspec.Raw).decode


# Members

_ENVELOPE_TYPES: Final[dict[str, Any]] = {member.name: member.type for member in msgspec.structs.fields(Envelope)} | {"type": str}
_ENVELOPE_DECODERS: Final = {name: msgspec.json.Decoder(declared) for name, declared in _ENVELOPE_TYPES.items()}
_OPTIONAL: Final = frozenset({"specversion", "dataschema"})
_PAYLOAD_DECODERS: Final[dict[type[Envelope], msgspec.json.Decoder[Any]]] = {
    event_class: msgspec.json.Decoder(_payload_class(event_class)) for event_class in _EVENT_CLASSES
}
_FAST: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    topic: msgspec.json.Decoder(cast("Any", Union[classes])) for topic, classes in TOPIC_EVENTS.items()  # noqa: UP007
}
_TOPIC_AND_CLASS: Final = {type_name(one): (topic, one) for topic, classes in TOPIC_EVENTS.items() for one in classes}
_VERSIONED: Final = re.compile(r"(.+)\.v(0|[1-9][0-9]*)", re.DOTALL)


def _envelope_member(members: dict[str, msgspec.Raw], name: str) -> Any:
    if name in members:
        return _read(_ENVELOPE_DECODERS[name], members[name], name)
    if name in _OPTIONAL:
        return None
    raise _missing(name)


def _missing(name: str) -> _Unusable:
    return _Unusable(Reason.MISSING_MEMBER, f"{name}: required, but missing")


def _event_class(topic: str, kind: str) -> type[Envelope]:
    """Return the class of a type; `.v1` says nothing new, later majors are unsupported."""
    versioned = _VERSIONED.fullmatch(kind)
    base, major = (kind, "1") if versioned is None else versioned.groups()
    home, event_class = _TOPIC_AND_CLASS.get(base, (None, None))
    if event_class is None or major == "0":
        raise _Unusable(Reason.UNKNOWN_TYPE, f"type: none of those of {topic}")
    if home != topic:
        raise _Unusable(Reason.UNKNOWN_TYPE, f"type: {base} belongs on {home}")
    if major != "1":
        raise _Unusable(Reason.SCHEMA_UNSUPPORTED, f"type: expected version 1 of {base}")
    return event_class


def _read(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw, name: str) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _explained(str(error), name, decoder.type) from None
    except _UNREADABLE:
        raise _Unusable(Reason.NOT_JSON, f"{name}: expected JSON") from None


_LOCATED: Final = re.compile(r"(.*) - at `\$([^`]*)`", re.DOTALL)
_PATTERNS: Final = {
    RFC3339_PATTERN: (Reason.BAD_TIME, "expected RFC 3339 with an offset"),
    NEWER_SCHEMA: (Reason.SCHEMA_UNSUPPORTED, "expected major version 1"),
    CURRENCY_PATTERN: (Reason.BAD_VALUE, "expected three upper-case letters (ISO 4217)"),
    DECIMAL_PATTERN: (Reason.BAD_VALUE, "expected a decimal number that is not negative"),
}


def _explained(complaint: str, name: str, declared: Any) -> _Unusable:
    """Turn a complaint of msgspec about a value called `name` into a reason and a message that holds nothing of the payload.

    Only what is known to name types, members and limits is taken over.
    """
    located = _LOCATED.fullmatch(complaint)
    what, path = (complaint, "") if located is None else located.groups()
    where = f"{name}{path}"
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return _missing(f"{where}.{missing[1]}")
    if types := re.fullmatch(r"Expected `([\w |]+)`(?:, got `(\w+)`)?", what):
        return _Unusable(Reason.BAD_TYPE, f"{where}: expected {types[1]}" + (f", got {types[2]}" if types[2] else ""))
    if limit := re.fullmatch(r"Expected `(\w+)` ((?:of length )?[<>]=? -?\d+(?:\.\d+)?)", what):
        return _Unusable(Reason.BAD_VALUE, f"{where}: expected {limit[1]} {limit[2]}")
    if what == "Number out of range":
        return _Unusable(Reason.NOT_FINITE, f"{where}: expected a finite number")
    if what.startswith("Expected `str` matching regex"):
        reason, expected = next((told for pattern, told in _PATTERNS.items() if repr(pattern)[1:-1] in what), _UNEXPLAINED)
        return _Unusable(reason, f"{where}: {expected}")
    if what.startswith("Invalid enum value"):
        return _Unusable(Reason.BAD_VALUE, f"{where}: expected one of {', '.join(_choices(declared, path))}")
    return _Unusable(Reason.BAD_VALUE, f"{where}: {_UNEXPLAINED[1]}")


_UNEXPLAINED: Final = (Reason.BAD_VALUE, "expected a value within range")


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
