"""The reader of texts that a worker is configured with: our analyser for how a text feels, our themes for what it is about."""

from models.feedback import Feedback
from models.sentiment import CustomerSuccess
from models.texts import Reading, ReadText
from models.themes import Themes


def reader(feedback: Feedback) -> ReadText:
    """Return what reads texts as the configuration says; the lexicons are read when the first text comes."""
    analyser, themes = CustomerSuccess(feedback), Themes(feedback)

    def read(text: str, language: str | None) -> Reading:
        return Reading(analyser.polarity(text, language), themes.themes(text))

    return read
