"""The health score of many accounts at one instant each, in fixed point (docs/state.md section 7)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.columns import RINGS, Columns
from models.fixed import FULL, SCALE, Ints, apportion, half_up_many, to_fixed
from models.measures import ABSENT, MEASURES, RING_OF, WORDS, Instant, missing
from models.row import COMPONENT_SLOTS, NONE
from models.scorecard import COMPONENTS, ComponentName, Linear, Scorecard


class Band(IntEnum):
    """Which band a score is in; the number is the stored one."""

    NO_DATA = 0
    CRITICAL = 1
    AT_RISK = 2
    WATCH = 3
    HEALTHY = 4


BAND_NAMES: dict[int, str] = {
    Band.NO_DATA: "insufficient_data",
    Band.CRITICAL: "critical",
    Band.AT_RISK: "at_risk",
    Band.WATCH: "watch",
    Band.HEALTHY: "healthy",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A linear normalisation in fixed point."""

    measure: str
    worst: int
    best: int
    weight: int

    def points(self, values: Ints) -> Ints:
        """The points of measured values, 0 to `FULL`, both in ten-thousandths."""
        low, high = min(self.worst, self.best), max(self.worst, self.best)
        inside = np.minimum(np.maximum(values, low), high)
        distance = inside - self.worst if self.best > self.worst else self.worst - inside
        return half_up_many(distance * FULL, high - low)


@dataclass(frozen=True, slots=True)
class Scale:
    """A scorecard made ready for arithmetic: weights, lines and bounds as integers in ten-thousandths."""

    weights: dict[ComponentName, int]
    lines: dict[ComponentName, tuple[Line, ...]]
    feeds: frozenset[ComponentName]
    coverage_min: int
    bounds: tuple[int, int, int]
    ring_days: dict[str, int]

    @classmethod
    def of(cls, card: Scorecard) -> "Scale":
        """The scale of a scorecard."""
        return cls(
            weights={name: to_fixed(card.component(name).weight) for name in COMPONENTS},
            lines={name: tuple(_line(linear) for linear in card.component(name).measures) for name in COMPONENTS},
            feeds=frozenset(card.feeds),
            coverage_min=card.coverage_min_fixed,
            ring_days=_ring_days(card),
            bounds=(to_fixed(card.bands.at_risk), to_fixed(card.bands.watch), to_fixed(card.bands.healthy)),
        )


def _ring_days(card: Scorecard) -> dict[str, int]:
    """How many days of each derived ring the scorecard looks at."""
    days = dict.fromkeys(RINGS, 0)
    for name in COMPONENTS:
        for linear in card.component(name).measures:
            if linear.measure in RING_OF:
                ring, window = RING_OF[linear.measure]
                days[ring] = max(days[ring], window)
    return days


def _line(linear: Linear) -> Line:
    return Line(linear.measure, to_fixed(linear.worst), to_fixed(linear.best), to_fixed(linear.weight))


@dataclass(frozen=True, slots=True)
class Assessment:
    """Scores of `n` accounts: all `(n,)` or `(n, COMPONENT_SLOTS)`, ten-thousandths, `NONE` where something does not exist."""

    score: Ints
    coverage: Ints
    band: NDArray[np.uint8]
    component: Ints
    contribution: Ints


def assess(columns: Columns, slots: Ints, as_of: Ints, scale: Scale) -> Assessment:
    """Assess accounts, each at its own instant (microseconds, `(n,)`)."""
    at = Instant(columns, slots, as_of)
    component = np.full((len(slots), COMPONENT_SLOTS), NONE, np.int64)
    for place, name in enumerate(COMPONENTS):
        component[:, place] = _component(at, scale.lines[name])
    return weigh(component, scale)


def weigh(component: Ints, scale: Scale) -> Assessment:
    """The score of components that are already scored: `(n, COMPONENT_SLOTS)`, `NONE` where one has no data."""
    used = component[:, : len(COMPONENTS)]
    weights = np.array([scale.weights[name] for name in COMPONENTS], np.int64)
    fed = np.array([name in scale.feeds for name in COMPONENTS], np.int64)
    present = used != NONE
    weight = weights * present
    total = weight.sum(axis=1)
    score, parts = weighted_mean(used, weight, total)  # where nothing is, the weight is zero
    contribution = np.full(component.shape, NONE, np.int64)
    contribution[:, : len(COMPONENTS)] = np.where(present, parts, NONE)
    coverage = half_up_many(weight @ fed * SCALE, int(weights @ fed))
    score = np.where(total > 0, score, NONE)
    band = band_of(score, scale)
    band[(coverage < scale.coverage_min) | (total == 0)] = Band.NO_DATA
    return Assessment(score, coverage, band, component, contribution)


def weighted_mean(points: Ints, weight: Ints, total: Ints) -> tuple[Ints, Ints]:
    """The mean of points, and what each contributes to it: `(n,)` and `(n, parts)`; the parts sum to the mean exactly.

    `total` are the sums of the weights; where one is zero, so is the mean. Twice the sum of weight times points fits 63 bits.
    """
    shares = weight * points
    divisor = np.maximum(total, 1)
    mean = half_up_many(shares.sum(axis=1), divisor)
    return mean, apportion(shares, divisor, mean)


def band_of(score: Ints, scale: Scale) -> NDArray[np.uint8]:
    """The band of each score; a band includes its lower bound."""
    return (np.searchsorted(np.array(scale.bounds), score, side="right") + Band.CRITICAL).astype(np.uint8)


def _component(at: Instant, lines: tuple[Line, ...]) -> Ints:
    points = np.zeros(len(at.slots), np.int64)
    weight = np.zeros(len(at.slots), np.int64)
    absent: dict[str, NDArray[np.bool_]] = {}
    for line in lines:
        source = line.measure if line.measure in ABSENT else line.measure.split("_", 1)[0]
        if source not in absent:
            absent[source] = missing(line.measure, at)
        here = np.where(absent[source], 0, line.weight)
        weight += here
        if not absent[source].all():
            points += here * line.points(MEASURES[line.measure](at))
    return cast("Ints", np.where(weight > 0, half_up_many(points, np.maximum(weight, 1)), NONE))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What keeps an account from a full score: a measure, its value (ten-thousandths) and the points that it costs (below 0)."""

    component: ComponentName
    measure: str
    value: int
    points: int
    words: str


def shortfalls(columns: Columns, slot: int, as_of: int, scale: Scale) -> list[Shortfall]:
    """Every measure that costs an account points at an instant, the costliest first.

    The points are shares of `FULL - score`, so they sum to `score - FULL` up to the rounding of each.
    """
    at = Instant(columns, np.array([slot], np.int64), np.array([as_of], np.int64))
    lines = [(name, line) for name in COMPONENTS for line in scale.lines[name] if not missing(line.measure, at)[0]]
    weights: dict[ComponentName, int] = {}
    for name, line in lines:
        weights[name] = weights.get(name, 0) + line.weight
    total = sum(scale.weights[name] for name in weights)
    found = []
    for name, line in lines:
        values = MEASURES[line.measure](at)
        lost = FULL - int(line.points(values)[0])
        points = -(lost * line.weight * scale.weights[name] // (weights[name] * total))
        if points:
            value = int(values[0])
            found.append(Shortfall(name, line.measure, value, points, in_words(line.measure, value)))
    return sorted(found, key=lambda each: (each.points, each.measure))


def in_words(measure: str, value: int) -> str:
    """A measured value (ten-thousandths) as a person would say it."""
    return WORDS[measure].format(value=f"{value / SCALE:.1f}".removesuffix(".0"))
