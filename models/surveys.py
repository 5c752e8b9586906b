"""The surveys of an account (docs/state.md section 5a): answers, invitations, and what its texts say; kept for 200 days."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from models import events
from models.columns import Columns
from models.fixed import Ints, half_up
from models.kpi.figures import MICRO
from models.monthly import Months
from models.parts import END_OF_TIME, Derived, let_go, oldest, rank
from models.texts import Reading, ReadText
from models.times import DAY_US

KEEP_US = 200 * DAY_US
"""Longer than other objects: a health score asks for the answers of 180 days."""


class Answer(msgspec.Struct, array_like=True, gc=False):
    """An answer: its score in millionths, on a scale of whole numbers."""

    at: int
    kind: str
    survey_id: str
    user_id: str
    score: int
    scale_min: int
    scale_max: int
    is_lower_better: bool = False
    ticket_id: str | None = None

    @property
    def is_positive(self) -> bool:
        """Whether it is strictly on the good side of the middle of its scale."""
        beyond = 2 * self.score - (self.scale_min + self.scale_max) * MICRO
        return beyond < 0 if self.is_lower_better else beyond > 0


class Invitation(msgspec.Struct, array_like=True, gc=False):
    """That somebody was asked to answer a survey."""

    at: int
    kind: str
    survey_id: str
    user_id: str


class Opinion(msgspec.Struct, array_like=True, gc=False):
    """What a text says (`models.texts.Reading`); the text itself is not kept."""

    at: int
    polarity: int | None
    themes: tuple[str, ...] = ()


class Surveys(msgspec.Struct, array_like=True, gc=False):
    """The surveys part of an account, each object by the rank of its event. Nothing in it is older than `oldest_at`."""

    ids: bytearray
    answers: dict[str, Answer]
    invitations: dict[str, Invitation]
    opinions: dict[str, Opinion]
    oldest_at: int = END_OF_TIME
    months: Months = msgspec.field(default_factory=Months)


Heard = tuple[Any, Reading | None]
"""A survey event, and what was read of the text in it; None when it has none."""


def prepared(batch: Iterable[Any], read: ReadText) -> list[Heard]:
    """Read the texts of a batch."""
    return [(event, read(text, event.data.language) if (text := _text_of(event)) is not None else None) for event in batch]


def _text_of(event: Any) -> str | None:
    text: str | None
    match event:
        case events.FeedbackReceived():
            text = event.data.text
        case events.SurveyAnswered():
            text = event.data.comment
        case _:
            return None
    return text if text and not text.isspace() else None


def empty() -> Surveys:
    """An account that was never asked and never said anything."""
    return Surveys(bytearray(), {}, {}, {})


def fold(surveys: Surveys, heard: Heard, at: int) -> None:
    """Take one survey event into the account's surveys; what has its rank already, sent again after its id was forgotten, is replaced."""
    event, reading = heard
    name = rank(event)
    if reading is not None:
        surveys.opinions[name] = Opinion(at, *reading)
    match event:
        case events.SurveyAnswered():
            surveys.answers[name] = _answer(event.data, at)
        case events.SurveyOffered():
            surveys.invitations[name] = Invitation(at, event.data.kind, event.data.survey_id, event.data.user_id)
        case _:
            pass


def _answer(data: events.SurveyAnsweredData, at: int) -> Answer:
    score = Fraction(repr(data.score)) * MICRO
    return Answer(
        at,
        data.kind,
        data.survey_id,
        data.user_id,
        half_up(score.numerator, score.denominator),
        data.scale_min,
        data.scale_max,
        data.direction == "lower_better",
        data.ticket_id,
    )


def _objects(surveys: Surveys) -> Iterator[dict[str, Any]]:
    yield surveys.answers
    yield surveys.invitations
    yield surveys.opinions


def finished_at(surveys: Surveys) -> int:
    """The least time of all that is kept: when it is old enough, `drop_old` has something to do."""
    return oldest(each.at for objects in _objects(surveys) for each in objects.values())


def drop_old(surveys: Surveys, newest: int, _zone: ZoneInfo) -> None:
    """Let go of what is old, or too many; `newest` is the account's newest survey event."""
    for objects in _objects(surveys):
        for name in let_go(((each.at, name, True) for name, each in objects.items()), newest, KEEP_US):
            del objects[name]


def derived(_columns: Columns, _surveys: Surveys) -> Derived:
    """No score needs anything of them yet."""
    return ()


def put(columns: Columns, slots: Ints, many: Sequence[Derived]) -> None:
    """Put nothing."""


def answers_of(surveys: Surveys, kind: str, start: int, end: int) -> list[Answer]:
    """The answers of a kind that count in a window `[start, end)`, in the order of `(time, id)`: of each respondent the latest.

    Who answers the same survey about several tickets has an answer for each; nps knows no tickets.
    """
    counted: dict[tuple[str, ...], Answer] = {}
    for _, _, answer in sorted((a.at, name, a) for name, a in surveys.answers.items() if a.kind == kind and start <= a.at < end):
        about = (answer.user_id,) if kind == "nps" else (answer.user_id, answer.survey_id, answer.ticket_id or "")
        counted.pop(about, None)
        counted[about] = answer
    return list(counted.values())


def answered(surveys: Surveys, start: int, end: int, known: int = END_OF_TIME) -> dict[str, tuple[int, int]]:
    """By kind, how many invitations there were in a window `[start, end)`, and how many of them were answered up to the instant `known`.

    An answer answers the last invitation of its survey and respondent that is not after it.
    """
    invited: dict[tuple[str, str, str], list[int]] = {}
    for invitation in sorted(surveys.invitations.values(), key=lambda each: each.at):
        invited.setdefault((invitation.kind, invitation.survey_id, invitation.user_id), []).append(invitation.at)
    replied: dict[tuple[str, str, str], list[int]] = {}
    for answer in (each for each in surveys.answers.values() if each.at <= known):
        replied.setdefault((answer.kind, answer.survey_id, answer.user_id), []).append(answer.at)
    found: dict[str, tuple[int, int]] = {}
    for who, times in invited.items():
        ends = [*times[1:], END_OF_TIME]
        for at, until in zip(times, ends, strict=True):
            if start <= at < end:
                offered, is_answered = found.get(who[0], (0, 0)), any(at <= reply < until for reply in replied.get(who, ()))
                found[who[0]] = (offered[0] + 1, offered[1] + is_answered)
    return found
