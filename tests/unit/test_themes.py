"""Themes of texts: literal words and phrases, the longest first, and what the configuration may add."""

from __future__ import annotations

import csv
import importlib.resources
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.feedback import TEXT_MAX, THEMES, Feedback
from models.themes import NO_THEME, Themes, read_themes
from models.words import words
from tests.support.profiles import examples

RULES = Themes()
AGAIN = Themes()
PHRASES = [(words(phrase), theme) for phrase, theme in read_themes()]
CONFIGURED = Themes(Feedback(competitors=("Acmely", "C++ Desk"), themes={"bugs": ("blue screen", "(a+)+$"), "pricing": ("Rebate",)}))


@pytest.mark.parametrize(
    ("text", "themes"),
    [
        ("", ()),
        ("Nothing of the kind.", ()),
        ("The invoice is wrong and support does not reply.", ("pricing", "support")),
        ("SUPPORT!", ("support",)),
        ("Are these regions supported?", ()),
        ("A debugger is no insect.", ()),
        ("It is buggy, slow and expensive; a competitor costs less.", ("pricing", "bugs", "competitor")),
        ("The set-up wizard crashed.", ("bugs", "onboarding")),
        ("It doesn’t work.", ("bugs",)),
        ("It does not support SAML.", ("missing_feature",)),
        ("It does not support SAML, says support.", ("support", "missing_feature")),
    ],
)
def test_what_a_text_is_about(text: str, themes: tuple[str, ...]) -> None:
    """Whole words in any case; several themes at once, always in the same order."""
    assert RULES.themes(text) == themes


def test_the_configuration_adds_words_to_what_is_there() -> None:
    """Of competitors the names; the product's own words stay."""
    assert CONFIGURED.themes("Acmely's rebate caused a BLUE  SCREEN and a crash") == ("pricing", "bugs", "competitor")
    assert CONFIGURED.themes("we tried c++-desk") == ("competitor",)
    assert RULES.themes("Acmely's rebate caused a blue screen") == ()


def test_a_configured_phrase_is_no_pattern() -> None:
    """Nothing of it is special: what it says is looked for, so that no text can take long."""
    assert CONFIGURED.themes("a a a a") == ("bugs",)  # `(a+)+$` is the word `a`, with punctuation around it
    began = time.process_time()
    assert CONFIGURED.themes("aaaaaaaaaa" * 100_000) == ()
    assert CONFIGURED.themes("does not " * 100_000) == ()
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "part",
    [
        {"themes": {"weather": ("rain",)}},
        {"themes": {"bugs": ("",)}},
        {"themes": {"bugs": ("?!",)}},
        {"themes": {"bugs": ("x" * 81,)}},
        {"themes": {"bugs": ("x",) * 501}},
        {"competitors": ("...",)},
        {"default_language": "English, please"},
        {"language": "en"},
    ],
)
def test_what_cannot_be_looked_for_is_refused(part: dict[str, object]) -> None:
    """A phrase without a word, a theme that nobody knows, a key that is none."""
    with pytest.raises(ValidationError):
        Feedback.model_validate(part)


@given(st.text(st.characters(exclude_categories=()), max_size=200))
@example("\ud800 support \x00")
@settings(max_examples=examples(200), deadline=None)
def test_every_text_has_its_themes(text: str) -> None:
    """Whatever it holds; in the order of THEMES, each once, the same each time."""
    found = RULES.themes(text)
    assert found == tuple(theme for theme in THEMES if theme in found) == AGAIN.themes(text)


@given(st.lists(st.sampled_from(["support", "price", "does", "not", "support's", "bug", "of", "in", "a", "competitor"]), max_size=12))
@settings(max_examples=examples(200), deadline=None)
def test_themes_are_those_of_a_naive_search(said: list[str]) -> None:
    """At each place try every phrase of the file, the longest first."""
    rest, found = words(" ".join(said)), set()
    while rest:
        here = [(phrase, theme) for phrase, theme in PHRASES if rest[: len(phrase)] == phrase]
        longest = max((len(phrase) for phrase, _ in here), default=1)
        found |= {theme for phrase, theme in here if len(phrase) == longest}
        rest = rest[longest:]
    assert set(RULES.themes(" ".join(said))) == found - {NO_THEME}


def test_only_the_beginning_of_a_text_is_read() -> None:
    """As much of it as the analyser of polarity reads."""
    assert RULES.themes("x" * (TEXT_MAX - 4) + " bug") == ("bugs",)
    assert RULES.themes("x" * TEXT_MAX + " bug") == ()


def test_each_line_of_the_file_can_be_found() -> None:
    """No phrase twice for one theme, none for a theme that nobody knows, each as its words are looked for."""
    text = importlib.resources.files("models").joinpath("themes.csv").read_text("utf-8")
    rows = [(tuple(words(row["phrase"])), row["theme"]) for row in csv.DictReader(text.splitlines())]
    assert len(set(rows)) == len(rows)
    assert {theme for _, theme in rows} <= {*THEMES, NO_THEME}
    assert all(phrase for phrase, _ in rows)
    assert {theme for _, theme in rows} >= set(THEMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("It's Acmely's", "it acmely"), ("don’t — STOP…", "don't stop"), ("a-b_c 1.5", "a b_c 1 5"), ("Straße", "strasse"), ("", "")],
)
def test_words_are_letters_digits_and_apostrophes(text: str, expected: str) -> None:
    """Case-folded, and without a possessive."""
    assert words(text) == expected.split()
