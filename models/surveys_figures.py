"""The figures of a month that surveys and texts give (docs/state.md section 5a), from what is kept of them: pure."""

from collections import Counter
from zoneinfo import ZoneInfo

from models import monthly
from models.fixed import SCALE, half_up
from models.kpi.figures import MICRO, key_of
from models.monthly import Figures, Window
from models.parts import oldest
from models.sentiment import WEIGHTS, WINDOW_DAYS
from models.surveys import Answer, Surveys, answered, answers_of
from models.times import DAY_US

RECENT_US = 180 * DAY_US
"""How old the answer of an account may be that still says how it is."""

PROMOTER, PASSIVE = 9 * MICRO, 7 * MICRO


def month_figures(surveys: Surveys, month: int, zone: ZoneInfo, now: int) -> Figures:
    """The figures of surveys and texts in a month (`models.months`), as they stand at `now` (microseconds)."""
    return monthly.figures_of(surveys, month, zone, now, count)


def changes_next(surveys: Surveys, now: int) -> int:
    """The least instant after `now` at which the figures may change with no event; the end of time when there is none."""
    later = [answer.at + RECENT_US for answer in surveys.answers.values() if answer.kind == "csat"]
    later += [each.at for objects in (surveys.answers, surveys.invitations, surveys.opinions) for each in objects.values()]
    today = now // DAY_US
    if any(opinion.polarity is not None and today - opinion.at // DAY_US < WINDOW_DAYS for opinion in surveys.opinions.values()):
        later.append((today + 1) * DAY_US)
    return oldest(at for at in later if at > now)


def count(surveys: Surveys, seen: Window) -> Figures:
    """Count the figures of surveys in a window."""
    found: Counter[str] = Counter()
    end = min(seen.end, seen.known + 1)
    for answer in answers_of(surveys, "nps", seen.start, end):
        found[_nps_name(answer.score)] += 1
    for kind in ("csat", "ces"):
        for answer in answers_of(surveys, kind, seen.start, end):
            _count_answer(kind, answer, found)
    latest = answers_of(surveys, "csat", seen.stop + 1 - RECENT_US, seen.stop + 1)
    if latest:
        found["csat_accounts"] = 1
        found["csat_accounts_positive"] = int(latest[-1].is_positive)
    for kind, (offered, replied) in answered(surveys, seen.start, end, seen.known).items():
        found[_labelled("surveys_offered", kind)] = offered
        found[_labelled("surveys_answered", kind)] = replied
    _count_texts(surveys, seen, found)
    return {name: number for name, number in found.items() if number}


def _nps_name(score: int) -> str:
    if score >= PROMOTER:
        return "nps_promoters"
    return "nps_passives" if score >= PASSIVE else "nps_detractors"


def _count_answer(kind: str, answer: Answer, found: Counter[str]) -> None:
    scale = f"{answer.scale_min}-{answer.scale_max}" + (" lower_better" if answer.is_lower_better else "")
    found[_labelled(f"{kind}_answers", scale)] += 1
    found[_labelled(f"{kind}_positive", scale)] += answer.is_positive
    found[_labelled(f"{kind}_scores", scale)] += answer.score


def _count_texts(surveys: Surveys, seen: Window, found: Counter[str]) -> None:
    weight = felt = 0
    for opinion in surveys.opinions.values():
        if seen.start <= opinion.at < seen.end and opinion.at <= seen.known:
            found["feedback_texts"] += 1
            found["feedback_texts_unread"] += opinion.polarity is None
            for theme in set(opinion.themes):
                found[_labelled("feedback_by_theme", theme)] += 1
        age = seen.stop // DAY_US - opinion.at // DAY_US
        if opinion.polarity is not None and opinion.at <= seen.stop and age < WINDOW_DAYS:
            weight += WEIGHTS[age]
            felt += WEIGHTS[age] * opinion.polarity
    found["sentiment_weight"] = weight
    found["sentiment_polarity"] = half_up(felt, SCALE)


def _labelled(name: str, label: str) -> str:
    return str(key_of(name, label=label))
