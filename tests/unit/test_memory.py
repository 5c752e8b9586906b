"""The worker's process gives back what it freed, and looks for cycles seldom."""

from __future__ import annotations

import subprocess
import sys

from stream_app.memory import COLLECT_EVERY

PROGRAM = """
import gc, psutil, numpy as np
from stream_app.memory import be_sparing
be_sparing()

rss = lambda: psutil.Process().memory_info().rss
kept = []
for size in range(1 << 20, 24 << 20, 1 << 20):  # what glibc would learn from
    np.ones(size, np.uint8)
before = rss()
arrays = []
for _ in range(40):
    arrays.append(np.ones(3 << 20, np.uint8))
    kept.append(np.ones(200_000, np.uint8))  # stays behind each of them on the heap
grown = rss() - before
arrays.clear()
print(*gc.get_threshold(), grown, rss() - before)
"""


def test_arrays_that_are_freed_go_back_to_the_system() -> None:
    """Of 120 MB in large arrays between small ones that stay, what is left afterwards is the small ones."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    *thresholds, grown, left = map(int, run.stdout.split())
    assert tuple(thresholds) == COLLECT_EVERY
    assert grown > 120 << 20
    assert left < 16 << 20
