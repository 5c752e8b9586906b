"""The polarity of a text, and the mean of an account's: integers in ten-thousandths, -10,000 (bad) to 10,000 (good).

Polarity is vaderSentiment's, with a lexicon of customer success (`lexicon.csv`) over its own: what customers say when they are about to
leave has no bad word in it, and `support` is no praise. Another analyser can take its place behind the protocol.
"""

import csv
import importlib.resources
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from string import punctuation
from typing import Any, Final, Protocol

from models.feedback import TEXT_MAX, Feedback
from models.fixed import SCALE, half_up
from models.times import DAY_US
from models.words import TYPOGRAPHY

# fmt: off
WEIGHTS: Final = (
    1_000_000, 977_160, 954_842, 933_033, 911_722, 890_899, 870_551, 850_667, 831_238, 812_252, 793_701, 775_572, 757_858, 740_549,
    723_635, 707_107, 690_956, 675_175, 659_754, 644_685, 629_961, 615_572, 601_513, 587_774, 574_349, 561_231, 548_412, 535_887,
    523_647, 511_687, 500_000, 488_580, 477_421, 466_516, 455_861, 445_449, 435_275, 425_334, 415_619, 406_126, 396_850, 387_786,
    378_929, 370_274, 361_817, 353_553, 345_478, 337_587, 329_877, 322_343, 314_980, 307_786, 300_756, 293_887, 287_175, 280_616,
    274_206, 267_943, 261_824, 255_843, 250_000, 244_290, 238_710, 233_258, 227_931, 222_725, 217_638, 212_667, 207_809, 203_063,
    198_425, 193_893, 189_465, 185_137, 180_909, 176_777, 172_739, 168_794, 164_938, 161_171, 157_490, 153_893, 150_378, 146_943,
    143_587, 140_308, 137_103, 133_972, 130_912, 127_922,
)
# fmt: on
"""The weight of an answer by its age in days, in millionths: the nearest integers to 1,000,000 / 2 ** (days / 30)."""

WINDOW_DAYS: Final = len(WEIGHTS)
"""Whole UTC days that the mean looks at, the day of `as_of` included."""

PRIOR: Final = 5 * WEIGHTS[0]
"""The weight of the prior: five answers of today with polarity 0. One angry answer does not make an angry account."""

RUN_MAX: Final = 40
"""Words that are scored together at most: the time that the library takes grows with the square of them."""

SLOT: Final = "<competitor>"
"""Stands for a competitor in a phrase of the lexicon."""

SOME_COMPETITOR: Final = (
    "competitor",
    "a competitor",
    "your competitor",
    "your competitors",
    "the competition",
    "one of your competitors",
    "another vendor",
    "another provider",
    "another supplier",
    "another solution",
    "another tool",
    "another platform",
)
"""How people speak of competitors that they do not name."""


class Analyser(Protocol):
    """Says how a text feels. It is total, and of one text it always says the same."""

    def polarity(self, text: str, language: str | None) -> int | None:
        """The polarity in ten-thousandths; None for a language that is unknown or not understood, and for a blank text."""


class CustomerSuccess:
    """Our analyser, for English: each sentence by vaderSentiment, then the mean of those that feel anything."""

    def __init__(self, feedback: Feedback | None = None) -> None:
        """Keep what the configuration says; the lexicons are read when the first text comes."""
        self._feedback = feedback or Feedback()

    def polarity(self, text: str, language: str | None) -> int | None:
        """The polarity of the first `TEXT_MAX` characters."""
        if not is_english(language or self._feedback.default_language):
            return None
        words = self._plain(text).split()
        if not words:
            return None
        felt = [score for score in map(self._score, self._sentences(words)) if score]
        return half_up(sum(felt), len(felt)) if felt else 0

    def _plain(self, text: str) -> str:
        """The part of a text that is read, with emoji in words."""
        text = text[:TEXT_MAX].translate(TYPOGRAPHY)
        if not text.isascii():
            emoji: Mapping[str, str] = self._vader.emojis
            text = "".join(f" {emoji[sign]} " if sign in emoji else sign for sign in text)[:TEXT_MAX]
        return text

    def _score(self, sentence: str) -> int:
        compound: float = self._vader.polarity_scores(sentence)["compound"]
        return round(SCALE * compound)

    def _sentences(self, words: Sequence[str]) -> Iterator[str]:
        """The sentences of a text, at most `RUN_MAX` words each; a phrase of the lexicon is one word in them, joined by `_`."""
        keys = [_key(word) for word in words]
        sentence: list[str] = []
        place = 0
        while place < len(words):
            length = self._phrase_at(place, words, keys)
            word = _joined(words[place : place + length], keys[place : place + length]) if length > 1 else words[place]
            place += length
            sentence.append(word)
            if word[-1] in ".!?;" or len(sentence) == RUN_MAX:
                yield " ".join(sentence)
                sentence.clear()
        if sentence:
            yield " ".join(sentence)

    def _phrase_at(self, place: int, words: Sequence[str], keys: Sequence[str]) -> int:
        """How many words the longest phrase has that begins here; 1 when there is none. No phrase goes across a pause."""
        for phrase in self._phrases.get(keys[place], ()):
            end = place + len(phrase)
            if phrase == keys[place:end] and not any(word[-1] in ".!?;:," for word in words[place : end - 1]):
                return len(phrase)
        return 1

    @cached_property
    def _lexicon(self) -> dict[tuple[str, ...], float]:
        """The valence of each word or phrase of ours; 0 says that it feels nothing."""
        names = (*SOME_COMPETITOR, *self._feedback.competitors)
        return {
            tuple(map(_key, phrase.replace(SLOT, name).split())): valence
            for phrase, valence in read_lexicon()
            for name in (names if SLOT in phrase else ("",))
        }

    @cached_property
    def _phrases(self) -> dict[str, list[list[str]]]:
        """The phrases of several words by their first word, the longest first."""
        several = sorted((list(phrase) for phrase in self._lexicon if len(phrase) > 1), key=lambda phrase: (phrase[0], -len(phrase)))
        return {first: list(phrases) for first, phrases in groupby(several, key=lambda phrase: phrase[0])}

    @cached_property
    def _vader(self) -> Any:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: PLC0415 - a worker without texts does without it

        vader = SentimentIntensityAnalyzer()
        for phrase, valence in self._lexicon.items():
            if valence:
                vader.lexicon["_".join(phrase)] = valence
            else:
                vader.lexicon.pop("_".join(phrase), None)
        return vader


def is_english(language: str | None) -> bool:
    """Whether a language tag (`en`, `en-GB`, `EN_us`) is of English."""
    return language is not None and language.replace("_", "-").split("-", 1)[0].lower() in {"en", "eng"}


def read_lexicon() -> list[tuple[str, float]]:
    """Each word or phrase of our lexicon with its valence, -4 to 4."""
    text = importlib.resources.files("models").joinpath("lexicon.csv").read_text("utf-8")
    return [(row["phrase"], float(row["valence"])) for row in csv.DictReader(text.splitlines())]


def sentiment_mean(answers: Iterable[tuple[int, int]], as_of_us: int) -> int | None:
    """The mean polarity of an account's answers, each `(at_us, polarity)`, in any order; None when none is in the window.

    An answer weighs half as much for each 30 days of its age, and the prior pulls the mean to 0.
    """
    today = as_of_us // DAY_US
    weight = total = 0
    for at_us, polarity in answers:
        age = today - at_us // DAY_US
        if 0 <= age < WINDOW_DAYS:
            weight += WEIGHTS[age]
            total += WEIGHTS[age] * polarity
    return half_up(total, weight + PRIOR) if weight else None


def _key(word: str) -> str:
    """A word as phrases are compared: no punctuation around it, no case, `it's` as `it`."""
    return word.strip(punctuation).lower().removesuffix("'s")


def _joined(words: Sequence[str], keys: Sequence[str]) -> str:
    """A phrase as one word; it shouts when its words do, and ends as the last one does."""
    phrase = "_".join(keys)
    last = words[-1]
    return (phrase.upper() if all(map(str.isupper, words)) else phrase) + last[len(last.rstrip(punctuation)) :]
