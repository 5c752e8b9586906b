"""Waiting for something outside this process: a condition asked again until a deadline, never a blind sleep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_SECONDS: Final = 0.05


def wait_until(condition: Callable[[], bool], deadline_seconds: float, pause_seconds: float = _POLL_SECONDS) -> bool:
    """Ask until the condition holds or the deadline has passed, at least once; return whether it holds."""
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause_seconds)
    return True
