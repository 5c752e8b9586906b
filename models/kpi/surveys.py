"""Surveys and sentiment (shared metric definitions, section 5)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from models.kpi.exact import NORMAL_95, Exact, Reading, decimal, exact, none, power, proportion, root

Direction = Literal["higher_better", "lower_better"]


@dataclass(frozen=True, slots=True)
class NpsCounts:
    """Promoters (9, 10), passives (7, 8), detractors (up to 6)."""

    promoters: int = 0
    passives: int = 0
    detractors: int = 0

    @property
    def n(self) -> int:
        """How many answered."""
        return self.promoters + self.passives + self.detractors


def nps_counts(scores: Iterable[Exact], scale_min: int = 0) -> tuple[NpsCounts, int]:
    """The answers by group, and how many are none: outside `scale_min` (0 or 1) to 10, or no whole number."""
    groups = [0, 0, 0]
    rejected = 0
    for each in scores:
        score = exact(each)
        if score.denominator != 1 or not scale_min <= score <= 10:  # noqa: PLR2004 - the scale of NPS
            rejected += 1
        else:
            groups[(score <= 8) + (score <= 6)] += 1  # noqa: PLR2004 - the groups of NPS
    return NpsCounts(*groups), rejected


def nps(counts: NpsCounts) -> Reading:
    """Net promoter score: 100 × (promoters − detractors) / n, −100 to 100 [S1, S3]; null without answers.

    Its interval is ± 1.96 standard errors, SE = 100 × √(p + d − (p − d)²) / √n [DELA], kept inside the range; `standard_error` and
    `margin` are beside it.
    """
    if not counts.n:
        return none("no_answers", 0)
    score = Fraction(100 * (counts.promoters - counts.detractors), counts.n)
    error = 100 * root(_variance(counts))
    margin = NORMAL_95 * error
    middle = decimal(score)
    interval = (max(Decimal(-100), middle - margin), min(Decimal(100), middle + margin))
    return Reading(score, None, counts.n, interval, {"standard_error": error, "margin": margin})


def _variance(counts: NpsCounts) -> Fraction:
    p, d = Fraction(counts.promoters, counts.n), Fraction(counts.detractors, counts.n)
    return (p + d - (p - d) ** 2) / counts.n


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of a question's answers, and which end of it is good."""

    least: Exact
    most: Exact
    direction: Direction = "higher_better"

    def __post_init__(self) -> None:
        if exact(self.least) >= exact(self.most):
            raise ValueError(f"a scale ends above where it begins, not at {self.least} to {self.most}")

    def holds(self, score: Exact) -> bool:
        """Whether a score is on the scale."""
        return exact(self.least) <= exact(score) <= exact(self.most)

    def is_positive(self, score: Exact) -> bool:
        """Whether a score is strictly on the good side of the midpoint: 4 and 5 of 1 to 5, 6 to 10 of 1 to 10 [S3]; the midpoint is not."""
        beyond = 2 * exact(score) - exact(self.least) - exact(self.most)
        return beyond > 0 if self.direction == "higher_better" else beyond < 0

    def percent(self, mean: Exact) -> Fraction:
        """A mean from 0 (worst) to 100 (best)."""
        above = (exact(mean) - exact(self.least)) * 100 / (exact(self.most) - exact(self.least))
        return above if self.direction == "higher_better" else 100 - above

    def label(self) -> str:
        """How figures name it: `1-5`, or `1-5 lower_better`."""
        return f"{self.least}-{self.most}" + ("" if self.direction == "higher_better" else f" {self.direction}")

    @classmethod
    def read(cls, label: str) -> "Scale":
        """The scale that `label` gave."""
        span, _, direction = label.partition(" ")
        least, _, most = span.rpartition("-")
        return cls(Decimal(least), Decimal(most), "lower_better" if direction == "lower_better" else "higher_better")


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers on one scale: how many, how many positive, and their sum as given."""

    scale: Scale
    n: int = 0
    positive: int = 0
    total: Exact = 0

    @classmethod
    def of(cls, scale: Scale, scores: Sequence[Exact]) -> tuple["Answers", int]:
        """The answers among some scores, and how many are not on the scale."""
        held = [score for score in scores if scale.holds(score)]
        positive = sum(map(scale.is_positive, held))
        return cls(scale, len(held), positive, sum(map(exact, held), Fraction(0))), len(scores) - len(held)

    @property
    def mean(self) -> Fraction | None:
        """Mean of the scores as given; None without any."""
        return exact(self.total) / self.n if self.n else None


def positive_share(answers: Iterable[Answers]) -> Reading:
    """CSAT and CES: answers strictly on the good side of the midpoint / answers, over any scales [S3; Gartner]; null without any.

    Beside it the mean from 0 to 100 [S1], each answer on its own scale.
    """
    known = [each for each in answers if each.n]
    n = sum(each.n for each in known)
    if not n:
        return none("no_answers", 0)
    found = proportion(sum(each.positive for each in known), n)
    points = sum((each.scale.percent(exact(each.total) / each.n) * each.n for each in known), Fraction(0))
    return Reading(found.value, None, n, found.interval, {"mean_0_100": points / n})


def satisfied(positive: int, answered: int, accounts: int) -> dict[str, Reading]:
    """Accounts whose latest CSAT is positive / those that answered, and / all accounts [S0]."""
    return {"of_answered": proportion(positive, answered, "no_answers"), "of_all": proportion(positive, accounts)}


def response_rate(answered: int, offered: int) -> Reading:
    """Surveys answered / offered."""
    return proportion(answered, offered)


HALF_LIFE_DAYS = 30
PRIOR_WEIGHT = 5


def weight_of_age(days: Exact, half_life_days: Exact = HALF_LIFE_DAYS) -> Decimal:
    """What a text of that age weighs: a half for every half-life."""
    return power(Fraction(1, 2), exact(days) / exact(half_life_days))


def sentiment(polarity: Exact, weight: Exact, n: int | None = None, prior_weight: Exact = PRIOR_WEIGHT) -> Reading:
    """Σ weight × polarity / (Σ weight + prior weight), −1 to 1: shrunk to 0 while there are few texts; null without any."""
    if not weight:
        return none("no_answers", n)
    return Reading(exact(polarity) / (exact(weight) + exact(prior_weight)), None, n)
