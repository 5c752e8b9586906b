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

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Final, Literal, Protocol, TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.events import BROADCASTS, EVENT_CLASSES, EVENT_ID_MAX, EVERYBODY, SUBJECT_MAX, TOPIC_EVENTS, Envelope, payload_class, type_name
from models.identity import contents, identities
from models.reasons import Reason, Unusable, explained, missing, not_json
from models.times import MILLISECOND_US, MINUTE_US, parse_many

__all__ = ["Decoded", "Reason", "Record", "Rejected", "decode_batch"]

VALUE_MAX: Final = 1_000_000
"""Bytes of the largest value that is read."""

DEPTH_MAX: Final = 32
"""How deep arrays and objects may be nested, the outermost counted."""

ABSURD_DEPTH: Final = 1_000
"""Beyond this, parsers differ in what they can read at all: it is no JSON for anybody."""

FUTURE_MAX_US: Final = 5 * MINUTE_US
"""How far an event may be ahead of the broker's time."""


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
    the event is, made of `(source, id)`, and what it says, made of its content (type, instant and known members of `data`, however they
    were written), as `models.identity.IDENTITY`. Identities are kept: they never change from one release to the next.
    """

    events: list[Any]
    index: list[int]
    times_us: NDArray[np.int64]
    identity: NDArray[np.void]
    rejected: list[Rejected]


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
                except Unusable as unusable:
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


def _hold_against_records(records: Sequence[Record], decoded: list[Any], index: list[int], rejected: list[Rejected]) -> Decoded:
    """Check keys and times of decoded events against their records, drop those that fail, and add the identities."""
    times_us, timely = parse_many([event.time for event in decoded])
    bad: dict[int, Rejected] = {}
    kinds = set(map(type, decoded))
    packed, unpackable = contents(decoded, kinds)
    strangers = _strangers(records, decoded, index)
    astray = (
        [i for i, event in enumerate(decoded) if type(event) in BROADCASTS and event.subject != EVERYBODY] if kinds & BROADCASTS else []
    )
    for reason, message, places in (  # the last one that fits a record counts
        (Reason.FUTURE_TIME, "time: more than 5 minutes ahead of the broker's time", _ahead(records, index, times_us)),
        (Reason.BAD_TIME, "time: expected RFC 3339 with an offset", [] if timely.all() else np.flatnonzero(~timely).tolist()),
        (Reason.KEY_MISMATCH, "subject: expected the record's key", [i for i in strangers if records[index[i]].key]),
        (Reason.BAD_VALUE, "data: expected integers of at most 64 bits", unpackable),
        (Reason.BAD_VALUE, f"subject: expected {EVERYBODY}, in every partition", astray),
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
    return Decoded(decoded, index, times_us, identities(decoded, kinds, times_us, packed), rejected)


def _strangers(records: Sequence[Record], decoded: list[Any], index: list[int]) -> list[int]:
    """Return the places of events whose subject is not the record's key."""
    keys = [record.key for record in records] if len(index) == len(records) else [records[i].key for i in index]
    subjects = [event.subject for event in decoded]
    joined = "\0".join(subjects).encode()
    try:
        # As long as no NUL stands within a subject, the joined texts are equal only where each key is.
        if joined == b"\0".join(cast("list[bytes]", keys)) and joined.count(0) == len(subjects) - 1:
            return []
    except TypeError:  # a null key
        pass
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


# One record by itself


def _decode_one(topic: str, record: Record) -> Any:
    """Return the event of a record that is odd in any way; raises `Unusable` with the first thing that is wrong."""
    mode = _mode(record.headers or ())
    text = _json_text(_value(record), DEPTH_MAX - 1 if mode == _BINARY else DEPTH_MAX)
    members = _header_members(record.headers, text) if mode == _BINARY else _json_members(text)
    if mode != _PLAIN and members.get("specversion") in (None, _NULL):
        raise missing("specversion")
    envelope = {name: _envelope_member(members, name) for name in ("specversion", "id", "source")}
    event_class: Any = _event_class(topic, _envelope_member(members, "type"))
    envelope |= {name: _envelope_member(members, name) for name in ("time", "subject", "dataschema")}
    if "data" not in members:
        raise missing("data")
    return event_class(**envelope, data=_read(_PAYLOAD_DECODERS[event_class], members["data"], "data"))


def _value(record: Record) -> bytes:
    if not record.key:
        raise Unusable(Reason.KEY_MISSING, _KEY_MISSING)
    if record.value is None:
        raise Unusable(Reason.NULL_VALUE, "value: expected an event, got null")
    if len(record.value) > VALUE_MAX:
        raise Unusable(Reason.TOO_LARGE, f"value: expected at most {VALUE_MAX} bytes, got {len(record.value)}")
    return record.value


_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A JSON string, or what is left of one at the end; possessive, so that no text makes it slow."""


def _json_text(value: bytes, depth_max: int) -> bytes:
    """Return a value as UTF-8 that is not nested too deep, with texts repaired; whether it is JSON is not yet known."""
    if value.startswith(b"\xef\xbb\xbf"):
        raise Unusable(Reason.NOT_JSON, "value: expected JSON, got a byte order mark")
    if not _is_utf8(value):
        raise Unusable(Reason.NOT_JSON, "value: expected UTF-8")
    depth = _depth(value)
    if depth > ABSURD_DEPTH:
        raise Unusable(Reason.NOT_JSON, f"value: nested deeper than {ABSURD_DEPTH}")
    if depth > depth_max:
        raise Unusable(Reason.BAD_VALUE, f"value: nested deeper than {DEPTH_MAX}")
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
        raise explained(str(error), "value", None) from None
    except _UNREADABLE:
        raise not_json(text) from None


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
                raise Unusable(Reason.BAD_VALUE, f"{member}: expected UTF-8") from None
    try:
        members["data"] = _read_raw(text)
    except _UNREADABLE:
        raise not_json(text) from None
    return members


_read_raw = msgspec.json.Decoder(msgspec.Raw).decode


# Members

_ENVELOPE_TYPES: Final[dict[str, Any]] = {member.name: member.type for member in msgspec.structs.fields(Envelope)} | {"type": str}
_ENVELOPE_DECODERS: Final = {name: msgspec.json.Decoder(declared) for name, declared in _ENVELOPE_TYPES.items()}
_OPTIONAL: Final = frozenset({"specversion", "dataschema"})
_PAYLOAD_DECODERS: Final[dict[type[Envelope], msgspec.json.Decoder[Any]]] = {
    event_class: msgspec.json.Decoder(payload_class(event_class)) for event_class in EVENT_CLASSES
}
_FAST: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    topic: msgspec.json.Decoder(reduce(or_, cast("Any", classes))) for topic, classes in TOPIC_EVENTS.items()
}
_TOPIC_AND_CLASS: Final = {type_name(one): (topic, one) for topic, classes in TOPIC_EVENTS.items() for one in classes}
_VERSIONED: Final = re.compile(r"(.+)\.v(0|[1-9][0-9]*)", re.DOTALL)


def _envelope_member(members: dict[str, msgspec.Raw], name: str) -> Any:
    if name in members:
        return _read(_ENVELOPE_DECODERS[name], members[name], name)
    if name in _OPTIONAL:
        return None
    raise missing(name)


def _event_class(topic: str, kind: str) -> type[Envelope]:
    """Return the class of a type; `.v1` says nothing new, later majors are unsupported."""
    versioned = _VERSIONED.fullmatch(kind)
    base, major = (kind, "1") if versioned is None else versioned.groups()
    home, event_class = _TOPIC_AND_CLASS.get(base, (None, None))
    if event_class is None or major == "0":
        raise Unusable(Reason.UNKNOWN_TYPE, f"type: none of those of {topic}")
    if home != topic:
        raise Unusable(Reason.UNKNOWN_TYPE, f"type: {base} belongs on {home}")
    if major != "1":
        raise Unusable(Reason.SCHEMA_UNSUPPORTED, f"type: expected version 1 of {base}")
    return event_class


def _read(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw, name: str) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise explained(str(error), name, decoder.type) from None
    except _UNREADABLE:
        raise Unusable(Reason.NOT_JSON, f"{name}: expected JSON") from None
