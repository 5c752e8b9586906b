"""The parts of the benchmark by name, and the names that stand for several of them."""

from __future__ import annotations

from typing import Final

STEPS: Final = ("throughput", "wide", "latency", "decode", "faust", "streams")
"""In the order of their use to a reader; each can be measured alone."""

YARDSTICKS: Final = frozenset({"decode", "faust", "streams"})

ALIASES: Final = {
    "all": frozenset(STEPS),
    "memory": frozenset({"throughput", "wide"}),
    "rebuild": frozenset({"wide"}),
    "yardsticks": YARDSTICKS,
}
"""What else one may say."""


def parse_steps(text: str) -> frozenset[str]:
    """Return the steps that a list with commas names; raises `ValueError` for a name that nobody knows."""
    found: frozenset[str] = frozenset()
    for name in (part.strip() for part in text.split(",")):
        if name in STEPS:
            found |= {name}
        elif name in ALIASES:
            found |= ALIASES[name]
        else:
            message = f"{name!r} is not measured here; known are {', '.join((*STEPS, *ALIASES))}"
            raise ValueError(message)
    return found
