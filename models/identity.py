"""Who an event is, and what it says, in ten bytes.

Six are a hash of `(source, id)`, four one of the content: type, instant, and the known members of `data`. Unknown members and the way
the JSON was written make no difference: the order of members, 1.0 for 1, "9.90" for "9.9", one offset or another. Identities are kept
with an account's state, so they never change from one release to the next.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from msgspec import inspect
from numpy.typing import NDArray
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from models.events import DECIMAL_PATTERN, EVENT_CLASSES, RATE_PATTERN, UsageEvent, payload_class, type_name
from models.times import RFC3339_PATTERN, parse_us

IDENTITY: Final = np.dtype([("who", "<u4"), ("who_more", "<u2"), ("what", "<u4")])
"""An identity: 48 bits of who, in two members because 32 of them tell nearly all apart at half the cost; 32 bits of what."""

IDENTITY_BYTES: Final = IDENTITY.itemsize
WHO_BYTES: Final = 6
"""How many of the bytes of an identity, the first ones, say who it is."""

_pack_one = msgspec.msgpack.Encoder(order="deterministic").encode
_FLOAT: Final = b"\xcb"
"""What every float starts with in msgpack; other things may hold that byte too."""
_ZERO: Final = msgspec.msgpack.encode(0.0)
_MINUS_ZERO: Final = msgspec.msgpack.encode(-0.0)


def contents(decoded: list[Any], kinds: set[type]) -> tuple[list[bytes], list[int]]:
    """Return the payload of each event in its one way of writing; and the places of those that cannot be written (their bytes are empty).

    `kinds` are the classes of the events. Only an integer beyond 64 bits, among members that may be anything, cannot be written.
    """
    payloads = [event.data for event in decoded]
    unpackable: list[int] = []
    try:
        packed = list(map(_pack_one, payloads))
    except OverflowError:  # an integer beyond 64 bits among free members
        packed = list(map(_pack_or_nothing, payloads))
        unpackable = [i for i, content in enumerate(packed) if not content]
    spelled = kinds & _SPELLED.keys()
    places = {i for i, kind in enumerate(map(type, decoded)) if kind in spelled} if spelled else set()
    if _FLOAT in b"".join(packed):
        places |= {i for i, content in enumerate(packed) if _FLOAT in content}
    for i in places.difference(unpackable):
        packed[i] = _repack(decoded[i], packed[i])
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


_ONE_SPELLING: Final[dict[str | None, _Respell]] = {
    RFC3339_PATTERN: parse_us,
    DECIMAL_PATTERN: _plain_decimal,
    RATE_PATTERN: _plain_decimal,
}


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


_SPELLED: Final[dict[type, _Respell]] = {
    event_class: respell
    for event_class in EVENT_CLASSES
    if (respell := _respell_of(inspect.type_info(payload_class(event_class)))) is not None
}
"""The events with members that can be spelled in several ways."""

_TYPE_HASH: Final = {event_class: xxh3_64_intdigest(type_name(event_class).encode()) for event_class in EVENT_CLASSES}
_MORE: Final = np.uint64(32)


class _SourceHashes(dict[str, int]):
    """The hash of each source, made once; sources are few."""

    MOST = 4096

    def __missing__(self, source: str) -> int:
        if len(self) >= self.MOST:
            self.clear()
        self[source] = found = xxh3_64_intdigest(source.encode())
        return found


_SOURCE_HASHES: Final = _SourceHashes()


def identities(decoded: list[Any], kinds: set[type], times_us: NDArray[np.int64], packed: list[bytes]) -> NDArray[np.void]:
    """Return the `IDENTITY` of each event, `(n,)`, from its classes, instants (`(n,)`, microseconds) and `contents`."""
    found = np.empty(len(decoded), IDENTITY)
    if not decoded:
        return found
    # Hashes that all have in common stay arrays of one, to be broadcast.
    names = [event.source for event in decoded]
    sources = _column(_SOURCE_HASHES.__getitem__, names[:1] if names.count(names[0]) == len(names) else names)
    types = _column(_TYPE_HASH.__getitem__, kinds if len(kinds) == 1 else map(type, decoded))
    who = _mix(_hashes(map(str.encode, [event.id for event in decoded])) ^ _mix(sources))
    what = _mix(_hashes(packed) ^ _mix(times_us.view(np.uint64) ^ types))
    found["who"], found["who_more"], found["what"] = who, who >> _MORE, what  # each takes the lowest bits
    return found


def _hashes(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(map(xxh3_64_digest, texts)), dtype=">u8").astype(np.uint64)


def _column(hash_of: Callable[[Any], int], values: Iterable[Any]) -> NDArray[np.uint64]:
    return np.fromiter(map(hash_of, values), dtype=np.uint64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all others, one to one (the finalizer of MurmurHash3)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))
