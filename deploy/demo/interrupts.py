"""Ctrl-C for something that must be taken down in order: a flag, and an exception only where waiting would be long."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Whether the user wants it to end; made by `caught`, in the main thread."""

    def __init__(self) -> None:
        """Begin with nothing asked for."""
        self.stop = threading.Event()
        self._is_prompt = False

    def check(self) -> None:
        """Raise `KeyboardInterrupt` when the user wants it to end."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    @contextmanager
    def promptly(self) -> Iterator[None]:
        """Let a signal raise `KeyboardInterrupt` here: for long work that leaves nothing behind when it breaks off."""
        self.check()
        self._is_prompt = True
        try:
            yield
        finally:
            self._is_prompt = False

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        self.stop.set()
        if self._is_prompt:
            raise KeyboardInterrupt


@contextmanager
def caught() -> Iterator[Interrupts]:
    """Catch SIGINT, SIGTERM and SIGHUP as long as this lasts."""
    interrupts = Interrupts()
    before = {number: signal.signal(number, interrupts.ask) for number in SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
