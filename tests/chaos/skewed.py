"""The command `churnwatch` with a wall clock that is off by as many seconds as the file says that TEST_CLOCK_FILE names."""

from __future__ import annotations

import os
import time
from pathlib import Path

from deploy.cli import main
from stream_app.clock import WallClock

_FILE = Path(os.environ.get("TEST_CLOCK_FILE", os.devnull))


def _now_us(_: WallClock) -> int:
    return time.time_ns() // 1_000 + int(_FILE.read_text("ascii") or 0) * 1_000_000  # noqa: TID251 - this is a clock


if __name__ == "__main__":
    WallClock.now_us = _now_us  # type: ignore[assignment,method-assign]
    main()
