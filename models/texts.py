"""What of a free text is kept: how it feels and what it is about, never its words."""

from collections.abc import Callable
from typing import NamedTuple


class Reading(NamedTuple):
    """What was read of a text: its polarity in ten-thousandths from -10,000 to 10,000, None when it cannot be told, and its themes."""

    polarity: int | None
    themes: tuple[str, ...]


ReadText = Callable[[str, str | None], Reading]
"""Reads a text of a language (BCP 47, None when it is unknown); total, and the same for the same text."""


def unread(_text: str, _language: str | None) -> Reading:
    """Read nothing: where no reader is configured, texts are only counted."""
    return Reading(None, ())
