"""The only reader of wall time: everything else is handed the time it needs."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; a test or a replay brings its own."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z; it may jump, back too."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; it never goes back, so durations and deadlines are measured with it."""
        ...


class WallClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Seconds since some fixed moment of this process."""
        return time.monotonic()
