"""How a yardstick speaks with the one who measures it: marks on standard output, a result, and the end when its input ends."""

from __future__ import annotations

import json
import sys
from typing import Final

FIRST: Final = "MARK first"
"""The first event is processed."""
LAST: Final = "MARK last"
"""The last event is processed."""
DURABLE: Final = "MARK durable"
"""What was made of the events would survive: the end of what is measured."""
RESULT: Final = "RESULT "
"""Followed by a JSON object: `events`, and what of `accounts`, `uses` and `alerts` the yardstick knows."""


def say(line: str) -> None:
    """Say a line at once, on the standard output that the process was started with: Faust puts a log in its place."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write(f"{line}\n")
        sys.__stdout__.flush()


def say_result(**counted: int) -> None:
    """Say what was counted."""
    say(RESULT + json.dumps(counted))


def wait_for_leave() -> None:
    """Return when the one who measures closes our input."""
    while sys.stdin.read(1):
        pass
