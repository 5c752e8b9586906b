"""How long the searches of Hypothesis last: `CHURNWATCH_HYPOTHESIS_PROFILE=nightly` makes them a hundred times longer."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

_FACTORS: Final = {"default": 1, "nightly": 100}

PROFILE: Final = os.environ.get("CHURNWATCH_HYPOTHESIS_PROFILE", "default")


def examples(count: int) -> int:
    """Return how many examples a search has that has `count` in the suite; raises KeyError for a profile that nobody knows."""
    return count * _FACTORS[PROFILE]


def unhurried(count: int) -> settings:
    """The settings of a search with `count` examples in the suite, each of which may take as long as a busy machine makes it."""
    return settings(max_examples=examples(count), deadline=None, suppress_health_check=[HealthCheck.too_slow])
