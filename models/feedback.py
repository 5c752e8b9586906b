"""What the configuration says of text feedback: the language of texts that name none, competitors by name, further words of themes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from models.scorecard import Strict
from models.words import words

ThemeName = Literal["pricing", "support", "bugs", "missing_feature", "competitor", "onboarding"]

THEMES: tuple[ThemeName, ...] = ("pricing", "support", "bugs", "missing_feature", "competitor", "onboarding")
"""Every theme, in the order in which themes are told."""

TEXT_MAX = 2_000
"""Characters of a text that are read: what a person has to say is said by then, and a text of any length costs little."""


def _has_words(phrase: str) -> str:
    if not words(phrase):
        raise ValueError("it has neither a letter nor a digit to look for")
    return phrase


Phrase = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_has_words)]
Phrases = Annotated[tuple[Phrase, ...], Field(max_length=500)]


class Feedback(Strict):
    """How text feedback is read."""

    default_language: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$",
        max_length=35,
        description="language of a text that comes without one, as in `en`; null: unknown, and such a text has no polarity",
    )
    competitors: Phrases = Field(
        default=(), description="names of competitors: whoever names one speaks of a competitor, and `moving to NAME` is bad news"
    )
    themes: dict[ThemeName, Phrases] = Field(
        default_factory=dict,
        description="further words and phrases of a theme (pricing, support, bugs, missing_feature, competitor, onboarding), each "
        "looked for as it is written, as whole words and in any case: `themes: {bugs: [blue screen]}`",
    )
