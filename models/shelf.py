"""The parts of one kind (`models.parts`) of all accounts of a partition: each encoded, and those in use decoded beside it.

A part that events touch stays open for those that follow, and is encoded again only when its bytes are asked for: at a checkpoint, or
when it is put back because others are used more.
"""

from collections.abc import Callable
from typing import Any

import msgspec

OPEN_MAX = 2048
"""Parts of a kind that stay open at once: enough for most of the tickets and payments of a busy partition, at some kilobytes each."""

_write = msgspec.msgpack.Encoder().encode


class Shelf:
    """The parts of one kind, by the slot of their account."""

    def __init__(self) -> None:
        self._stored: list[bytes | None] = []
        self._open: dict[int, Any] = {}
        self._unwritten: set[int] = set()

    def __len__(self) -> int:
        return len(self._stored)

    def add(self, count: int) -> None:
        """Make room for that many accounts more, with nothing of this kind."""
        self._stored.extend([None] * count)

    def has(self, slot: int) -> bool:
        """Whether an account has a part of this kind."""
        return self._stored[slot] is not None or slot in self._unwritten

    def encoded(self, slot: int) -> bytes | None:
        """The part of an account as it is stored; None when it has none."""
        if slot in self._unwritten:
            self._unwritten.remove(slot)
            self._stored[slot] = _write(self._open[slot])
        return self._stored[slot]

    def many(self, slots: list[int]) -> list[bytes]:
        """The parts of some accounts as they are stored, none of which may be open; empty where there is none."""
        stored = self._stored
        return [stored[slot] or b"" for slot in slots]

    def put(self, slot: int, stored: bytes) -> None:
        """Take a stored part back."""
        self._open.pop(slot, None)
        self._unwritten.discard(slot)
        self._stored[slot] = stored

    def read(self, slot: int, decode: Callable[[bytes], Any], empty: Callable[[], Any]) -> Any:
        """The decoded part of an account, not to be changed; an empty one when it has none."""
        opened = self._open.get(slot)
        if opened is not None:
            return opened
        stored = self._stored[slot]
        return empty() if stored is None else decode(stored)

    def open(self, slot: int, decode: Callable[[bytes], Any], empty: Callable[[], Any]) -> Any:
        """The part of an account, to be changed; whoever changes it says so with `changed`."""
        opened = self._open.pop(slot, None)
        if opened is None:
            opened = self.read(slot, decode, empty)
            if len(self._open) >= OPEN_MAX:
                self._put_back(next(iter(self._open)))
        self._open[slot] = opened  # the last one is the one used last
        return opened

    def changed(self, slot: int) -> None:
        """An open part was changed."""
        self._unwritten.add(slot)

    def _put_back(self, slot: int) -> None:
        self.encoded(slot)
        del self._open[slot]
