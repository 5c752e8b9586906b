"""Scores, bands and normalisations of any components, by the arithmetic of the product's own scores (docs/state.md section 7)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Literal

import numpy as np

from models.fixed import FULL, SCALE, half_up
from models.health import BAND_NAMES, Band, weighted_mean
from models.kpi.exact import Exact, Reading, exact, none

Boundary = Literal["lower", "upper"]

WEIGHT_MOST = 2**42
"""Weights are made whole numbers with at most this sum: times a full score, twice, it fits 63 bits."""


def linear(value: Exact | None, worst: Exact, best: Exact, *, is_bounded: bool = False) -> Reading:
    """Points on a straight line from `worst` (0) to `best` (100), which may be the lesser [Planhat].

    Outside the range it is 0 or 100, whichever end is near; when it is bounded everything outside scores 0. A line without a length, or no
    value, is null.
    """
    if value is None:
        return none("not_observed")
    span = exact(best) - exact(worst)
    if not span:
        return none("zero_denominator")
    place = (exact(value) - exact(worst)) / span
    if is_bounded and not 0 <= place <= 1:
        return Reading(Fraction(0))
    return Reading(100 * min(max(place, Fraction(0)), Fraction(1)))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where the bands begin, in points. A band includes its lower bound; with `upper` its upper one instead, as Gainsight has it."""

    at_risk: Exact = 25
    watch: Exact = 50
    healthy: Exact = 75
    boundary: Boundary = "lower"

    def __post_init__(self) -> None:
        if not exact(self.at_risk) < exact(self.watch) < exact(self.healthy):
            raise ValueError("bands must ascend: at_risk < watch < healthy")

    def band(self, score: Exact | None) -> str:
        """The band of a score, by its exact value; of none, `insufficient_data`."""
        if score is None:
            return BAND_NAMES[Band.NO_DATA]
        points = exact(score)
        lows = (exact(self.at_risk), exact(self.watch), exact(self.healthy))
        passed = sum(points > low or (points == low and self.boundary == "lower") for low in lows)
        return BAND_NAMES[Band.CRITICAL + passed]


@dataclass(frozen=True, slots=True)
class Composition:
    """How components make a score: what each weighs, which are fed, and the bands.

    `freshness` is a factor of 0 to 1 on the weight of a component, 1 where it is not given; it does not lower the coverage. Components that
    are not in `feeds` (None: all are) do not count in the coverage.
    """

    weights: Mapping[str, Exact]
    freshness: Mapping[str, Exact] = field(default_factory=dict)
    feeds: Collection[str] | None = None
    coverage_min: Exact = Fraction(1, 2)
    bounds: Bounds = Bounds()

    def __post_init__(self) -> None:
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("a weight is not negative")
        if any(not 0 <= factor <= 1 for factor in self.freshness.values()):
            raise ValueError("a freshness factor is between 0 and 1")


@dataclass(frozen=True, slots=True)
class Composed:
    """A score and what made it, in ten-thousandths; components without data are in neither mapping.

    The contributions sum to the score exactly. The score is None without any data.
    """

    score: int | None
    coverage: int
    band: str
    effective_weights: dict[str, Fraction]
    contributions: dict[str, int]


def compose(composition: Composition, scores: Mapping[str, Exact | None]) -> Composed:
    """The score of components, each 0 to 100 or None for one without data: Σ w·c·s / Σ w·c over those that have some.

    Below the least coverage the band is `insufficient_data`, the score stays. Raises ValueError for points outside 0 to 100.
    """
    points = {name: _points(name, value) for name in composition.weights if (value := scores.get(name)) is not None}
    weights = {name: exact(composition.weights[name]) * exact(composition.freshness.get(name, 1)) for name in points}
    total = sum(weights.values(), Fraction(0))
    coverage = _coverage(composition, points)
    if not total:
        return Composed(None, coverage, BAND_NAMES[Band.NO_DATA], {}, {})
    whole = np.array([_whole(list(weights.values()))], np.int64)
    mean, parts = weighted_mean(np.array([list(points.values())], np.int64), whole, whole.sum(axis=1))
    score = int(mean[0])
    is_thin = coverage < exact(composition.coverage_min) * SCALE
    return Composed(
        score=score,
        coverage=coverage,
        band=BAND_NAMES[Band.NO_DATA] if is_thin else composition.bounds.band(Fraction(score, SCALE)),
        effective_weights={name: weight * 100 / total for name, weight in weights.items()},
        contributions=dict(zip(points, parts[0].tolist(), strict=True)),
    )


def drivers(before: Composed, after: Composed) -> dict[str, int]:
    """What moved a score, in ten-thousandths: the change of each contribution, those that changed; they sum to the change exactly.

    Without a score before or after there is no change to explain.
    """
    if before.score is None or after.score is None:
        return {}
    names = dict.fromkeys([*before.contributions, *after.contributions])
    moved = {name: after.contributions.get(name, 0) - before.contributions.get(name, 0) for name in names}
    return {name: points for name, points in moved.items() if points}


def _points(name: str, value: Exact) -> int:
    points = exact(value) * SCALE
    fixed = half_up(points.numerator, points.denominator)
    if not 0 <= fixed <= FULL:
        raise ValueError(f"the points of {name} are between 0 and 100, not {value}")
    return fixed


def _coverage(composition: Composition, present: Collection[str]) -> int:
    fed = [name for name in composition.weights if composition.feeds is None or name in composition.feeds]
    whole = sum((exact(composition.weights[name]) for name in fed), Fraction(0))
    if not whole:
        return 0
    share = sum((exact(composition.weights[name]) for name in fed if name in present), Fraction(0)) / whole
    return half_up(share.numerator * SCALE, share.denominator)


def _whole(weights: list[Fraction]) -> list[int]:
    """Weights in whole numbers: exact where that fits, else rounded to a millionth of a millionth of their sum, or so."""
    common = lcm(*(weight.denominator for weight in weights))
    if common * sum(weights) <= WEIGHT_MOST:
        return [int(weight * common) for weight in weights]
    unit = Fraction(WEIGHT_MOST // 2) / sum(weights, Fraction(0))
    scaled = [weight * unit for weight in weights]
    return [half_up(each.numerator, each.denominator) for each in scaled]
