"""The record that says which input could not be used, and why: what was read, unchanged, with headers added.

The key, the value, the headers and the timestamp are those of the record. `churnwatch.error.*` headers come last, so that they are the
ones that count when a record has been here before. Whatever was read, the dead letter stays below `SIZE_MAX` bytes.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from models.decoding import Record, Rejected

VALUE_MAX: Final = 900_000
"""Bytes that are kept of a value; of a longer one, its SHA-256 is kept too."""

KEY_MAX: Final = 10_000
"""Bytes that are kept of a key, with the SHA-256 of a longer one."""

SIZE_MAX: Final = 1_000_000
"""Bytes of key, value and headers together: what a broker takes with its usual settings, with room for the batch around them."""

MESSAGE_MAX: Final = 1_000
"""Characters that are kept of a message."""

PREFIX: Final = "churnwatch.error."

_HEADER_OVERHEAD: Final = 16
"""More than the bytes that Kafka adds to the name and the value of a header."""

Header = tuple[str, bytes]


def dead_letter(
    topic: str, partition: int, record: Record, rejected: Rejected, version: str
) -> tuple[bytes | None, bytes | None, list[Header], int]:
    """Return key, value, headers and timestamp (milliseconds) of the dead letter of a record of that topic and partition.

    `version` is that of the program. Original headers are kept in their order as far as there is room;
    `churnwatch.error.headers_dropped` says how many are missing.
    """
    errors: list[tuple[str, str]] = [
        ("topic", topic),
        ("partition", str(partition)),
        ("offset", str(record.offset)),
        ("reason", rejected.reason.value),
        ("message", _one_line(rejected.message)),
        ("stage", rejected.stage),
        ("version", version),
    ]
    key, value = record.key, record.value
    if value is not None and len(value) > VALUE_MAX:
        errors.append(("sha256", sha256(value).hexdigest()))
        value = value[:VALUE_MAX]
    if key is not None and len(key) > KEY_MAX:
        errors.append(("key_sha256", sha256(key).hexdigest()))
        key = key[:KEY_MAX]
    added = [(PREFIX + name, text.encode("utf-8", "replace")) for name, text in errors]
    room = SIZE_MAX - len(key or b"") - len(value or b"") - sum(map(_size, added)) - _size((PREFIX + "headers_dropped", b"1000000"))
    kept = _as_many_as_fit(record.headers or (), room)
    if dropped := len(record.headers or ()) - len(kept):
        added.append((PREFIX + "headers_dropped", str(dropped).encode()))
    return key, value, [*kept, *added], record.timestamp


def _one_line(message: str) -> str:
    """Return a message without line breaks or other control characters, shortened."""
    return "".join(character if character.isprintable() else " " for character in message[:MESSAGE_MAX])


def _as_many_as_fit(headers: Sequence[Header], room: int) -> list[Header]:
    """Return the headers up to the first that no longer fits."""
    kept = []
    for header in headers:
        room -= _size(header)
        if room < 0:
            break
        kept.append(header)
    return kept


def _size(header: Header) -> int:
    name, value = header
    return len(name.encode("utf-8", "replace")) + len(value or b"") + _HEADER_OVERHEAD
