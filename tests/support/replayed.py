"""Replayed events as the records that a worker would read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.replay.envelope import Event

NOW_MS = 1_700_000_000_000 * 2
"""A broker's time after every data set: nothing in them is ahead of it."""


@dataclass(frozen=True, slots=True)
class ReplayedRecord:
    """One record as the broker hands it over."""

    key: bytes
    value: bytes
    offset: int
    timestamp: int = NOW_MS
    headers: tuple[tuple[str, bytes], ...] = ()


def records_of(events: Iterable[Event]) -> list[ReplayedRecord]:
    """Return the events of one topic as records."""
    encode = msgspec.json.Encoder().encode
    return [ReplayedRecord(event["subject"].encode(), encode(event), offset) for offset, event in enumerate(events)]
