"""Surveys and sentiment."""

from collections.abc import Iterator, Mapping
from fractions import Fraction

from models.kpi import surveys
from models.kpi.exact import Reading, proportion
from models.kpi.figures import MICRO
from models.kpi.portfolio.book import Kpi, each, section


def _answers(n: Mapping[str, int], positive: Mapping[str, int], scores: Mapping[str, int]) -> list[surveys.Answers]:
    return [
        surveys.Answers(surveys.Scale.read(scale), count, positive.get(scale, 0), Fraction(scores.get(scale, 0), MICRO))
        for scale, count in n.items()
    ]


def _positive(n: Mapping[str, int], positive: Mapping[str, int], scores: Mapping[str, int]) -> Reading:
    return surveys.positive_share(_answers(n, positive, scores))


def _means(n: Mapping[str, int], positive: Mapping[str, int], scores: Mapping[str, int]) -> dict[str, Reading]:
    answers = _answers(n, positive, scores)
    return {each.scale.label(): Reading(each.mean, None, each.n) for each in answers if each.mean is not None}


def kpis() -> Iterator[Kpi]:
    """Surveys and sentiment."""
    csat, ces = ("csat_answers", "csat_positive", "csat_scores"), ("ces_answers", "ces_positive", "ces_scores")
    return section(
        "surveys",
        (
            "nps",
            "Net promoter score",
            "score",
            "up",
            "S1, S3",
            "100 × (promoters − detractors) / answers, the latest of each respondent in the month; −100 to 100",
            ("nps_promoters", "nps_passives", "nps_detractors"),
            lambda *counts: surveys.nps(surveys.NpsCounts(*counts)),
        ),
        (
            "csat",
            "Customer satisfaction",
            "percent",
            "up",
            "S3",
            "answers strictly above the midpoint of their scale / answers",
            csat,
            _positive,
        ),
        ("csat_mean", "Customer satisfaction, mean", "score", "up", "S1", "mean of the scores, for each scale", csat, _means),
        (
            "ces",
            "Customer effort",
            "percent",
            "up",
            "Gartner, S3",
            "answers strictly on the easy side of the midpoint / answers",
            ces,
            _positive,
        ),
        ("ces_mean", "Customer effort, mean", "score", "up", "S3", "mean of the scores, for each scale", ces, _means),
        (
            "satisfied_of_answered",
            "Satisfied customers of those asked",
            "percent",
            "up",
            "S0",
            "accounts whose latest CSAT is positive / accounts that answered",
            ("csat_accounts_positive", "csat_accounts"),
            lambda positive, answered: proportion(positive, answered, "no_answers"),
        ),
        (
            "satisfied_of_all",
            "Satisfied customers of all",
            "percent",
            "up",
            "S0",
            "accounts whose latest CSAT is positive / all accounts, those that answered before they were created among them",
            ("csat_accounts_positive", "accounts", "csat_accounts"),
            lambda positive, accounts, answered: proportion(positive, max(accounts, answered)),
        ),
        (
            "response_rate",
            "Response rate",
            "percent",
            "up",
            "own",
            "surveys offered in the month that were answered / surveys offered",
            ("surveys_answered", "surveys_offered"),
            lambda answered, offered: surveys.response_rate(sum(answered.values()), sum(offered.values())),
        ),
        (
            "sentiment",
            "Sentiment",
            "score",
            "up",
            "S1, S3, Planhat",
            "mean polarity of the texts of 90 days, half-life 30 days, shrunk to 0 with a prior weight of 5; −1 to 1",
            ("sentiment_polarity", "sentiment_weight"),
            lambda polarity, weight: surveys.sentiment(Fraction(polarity, MICRO), Fraction(weight, MICRO)),
        ),
        (
            "feedback_texts",
            "Feedback",
            "count",
            None,
            "S3",
            "texts received; those that could not be read are beside it",
            ("feedback_texts", "feedback_texts_unread"),
            lambda texts, unread: Reading(texts, None, None, None, {"unread": unread}),
        ),
        (
            "feedback_by_theme",
            "Feedback by theme",
            "count",
            None,
            "S3",
            "texts by theme; one may have several",
            ("feedback_by_theme",),
            each,
        ),
    )
