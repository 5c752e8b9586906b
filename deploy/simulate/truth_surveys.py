"""What an account's answers come to in a month, from who was asked what and what they answered."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from deploy.simulate.decisions import Asked, Wrote
from deploy.simulate.dice import DAY

if TYPE_CHECKING:
    from deploy.simulate.truth import Window

_RECENT: Final = 180 * DAY
_PROMOTER, _PASSIVE = 9, 7
_MICRO: Final = 1_000_000


class Opinions:
    """What an account was asked, and what it said."""

    def __init__(self) -> None:
        self._asked: list[Asked] = []
        self._texts: list[tuple[int, str | None]] = []

    def hear(self, decision: Asked | Wrote, as_of: int) -> None:
        """Note a survey or a text, as far as it happens up to `as_of`."""
        if isinstance(decision, Wrote):
            self._texts.append((decision.at, decision.language))
            return
        answers = tuple(answer for answer in decision.answers if answer[0] <= as_of)
        self._asked.append(decision._replace(answers=answers))
        if answers and decision.comment:
            self._texts.append((answers[0][0], decision.language))

    def figures(self, window: Window) -> dict[str, int]:
        """The figures of a month."""
        found: Counter[str] = Counter()
        latest: dict[str, tuple[int, int]] = {}
        for asked in self._asked:
            if window.start <= asked.at < window.end and asked.at <= window.known:
                found[f"surveys_offered{{{asked.kind}}}"] += 1
                found[f"surveys_answered{{{asked.kind}}}"] += any(at <= window.known for at, _ in asked.answers)
            told = [answer for answer in asked.answers if window.start <= answer[0] < window.end]
            if told and asked.kind == "nps":
                latest[asked.user] = max(latest.get(asked.user, told[-1]), told[-1])
            elif told:
                scale, score = f"{asked.scale[0]}-{asked.scale[1]}", told[-1][1]
                found[f"{asked.kind}_answers{{{scale}}}"] += 1
                found[f"{asked.kind}_positive{{{scale}}}"] += _is_positive(asked, score)
                found[f"{asked.kind}_scores{{{scale}}}"] += score * _MICRO
        for _, score in latest.values():
            found["nps_promoters" if score >= _PROMOTER else "nps_passives" if score >= _PASSIVE else "nps_detractors"] += 1
        self._satisfied(window, found)
        for at, language in self._texts:
            if window.start <= at < window.end:
                found["feedback_texts"] += 1
                found["feedback_texts_unread"] += language != "en"
        return {name: count for name, count in found.items() if count}

    def _satisfied(self, window: Window, found: Counter[str]) -> None:
        """Whether the account answered lately, and was content the last time."""
        lately = [
            (at, _is_positive(asked, score))
            for asked in self._asked
            if asked.kind == "csat"
            for at, score in asked.answers
            if window.stop - _RECENT < at <= window.stop
        ]
        if lately:
            found["csat_accounts"] = 1
            found["csat_accounts_positive"] = int(max(lately)[1])


def _is_positive(asked: Asked, score: int) -> bool:
    """Whether a score is strictly above the middle of its scale."""
    return 2 * score > asked.scale[0] + asked.scale[1]
