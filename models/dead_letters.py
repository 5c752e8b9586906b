"""A record that cannot be used, as it goes to `dead-letters`: unchanged, with headers that say what was wrong and where it came from."""

from collections.abc import Sequence
from hashlib import sha256

from models.decoding import Record, Rejected

VALUE_MAX = 900_000
"""Bytes of a value that are kept; a longer one is cut, and its SHA-256 is added."""

HEADERS_MAX = 64_000
"""Bytes of the record's own headers that are kept."""

_PREFIX = "churnwatch.error."

Header = tuple[str, bytes]
DeadLetter = tuple[bytes | None, bytes | None, list[Header], int]


def dead_letter(topic: str, partition: int, record: Record, rejected: Rejected, version: str) -> DeadLetter:
    """The key, value, headers and timestamp (milliseconds) of a dead letter.

    `topic` is the broker's name of the topic that the record was read from, `version` the release that could not use it.
    """
    added = {
        "topic": topic,
        "partition": str(partition),
        "offset": str(record.offset),
        "reason": rejected.reason.value,
        "message": rejected.message,
        "stage": rejected.stage,
        "version": version,
    }
    value = record.value
    if value is not None and len(value) > VALUE_MAX:
        added["sha256"] = sha256(value).hexdigest()
        value = value[:VALUE_MAX]
    headers, dropped = _kept(record.headers)
    if dropped:
        added["headers_dropped"] = str(dropped)
    headers += [(_PREFIX + name, text.encode()) for name, text in added.items()]
    return record.key, value, headers, record.timestamp


def _kept(headers: Sequence[Header]) -> tuple[list[Header], int]:
    """As many of the record's own headers as fit, and how many did not."""
    kept: list[Header] = []
    size = 0
    for name, value in headers:
        size += len(name.encode()) + len(value or b"")
        if size > HEADERS_MAX:
            break
        kept.append((name, value))
    return kept, len(headers) - len(kept)
