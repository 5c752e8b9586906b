"""What a text is about: themes by the words and phrases in it (`themes.csv`, and what the configuration adds)."""

import csv
import importlib.resources
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from models.feedback import TEXT_MAX, THEMES, Feedback, ThemeName
from models.words import words

NO_THEME: Final = ""
"""Of a phrase that speaks of nothing, though a word in it would: `in support of`."""


class Themes:
    """Finds themes in texts of any language. A phrase is found as it is written, as whole words, in any case.

    Where several begin at one word the longest counts, and its words are not looked at again: `price support` is one thing, not two.
    """

    def __init__(self, feedback: Feedback | None = None) -> None:
        """Keep what the configuration adds; the file is read when the first text comes."""
        self._feedback = feedback or Feedback()

    def themes(self, text: str) -> tuple[ThemeName, ...]:
        """The themes of the first `TEXT_MAX` characters, in the order of `THEMES`, each once."""
        said = words(text[:TEXT_MAX])
        found: set[str] = set()
        place = 0
        while place < len(said):
            length = 1
            for phrase, themes in self._rules.get(said[place], ()):
                if phrase == said[place : place + len(phrase)]:
                    found |= themes
                    length = len(phrase)
                    break
            place += length
        return tuple(theme for theme in THEMES if theme in found)

    @cached_property
    def _rules(self) -> dict[str, list[tuple[list[str], set[str]]]]:
        """Phrases with their themes by their first word, the longest first."""
        themes: dict[tuple[str, ...], set[str]] = {}
        for phrase, theme in self._phrases():
            themes.setdefault(tuple(words(phrase)), set()).add(theme)
        rules: dict[str, list[tuple[list[str], set[str]]]] = {}
        for several in sorted(themes, key=len, reverse=True):
            rules.setdefault(several[0], []).append((list(several), themes[several]))
        return rules

    def _phrases(self) -> Iterator[tuple[str, str]]:
        yield from read_themes()
        for theme, phrases in self._feedback.themes.items():
            yield from ((phrase, theme) for phrase in phrases)
        yield from ((name, "competitor") for name in self._feedback.competitors)


def read_themes() -> list[tuple[str, ThemeName | str]]:
    """Each word or phrase of the file with its theme, `NO_THEME` for none."""
    text = importlib.resources.files("models").joinpath("themes.csv").read_text("utf-8")
    return [(row["phrase"], row["theme"]) for row in csv.DictReader(text.splitlines())]
