"""The polarity of texts and the mean of an account: what it says, that it always says something, and that it is exact."""

from __future__ import annotations

import csv
import importlib.resources
import subprocess
import sys
import time
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.feedback import TEXT_MAX, Feedback
from models.fixed import SCALE
from models.sentiment import SLOT, WEIGHTS, WINDOW_DAYS, CustomerSuccess, read_lexicon, sentiment_mean
from models.times import DAY_US
from tests.support.profiles import examples

if TYPE_CHECKING:
    from random import Random

ANALYSER = CustomerSuccess(Feedback(competitors=("Acmely", "Big Blue Desk")))
AGAIN = CustomerSuccess(Feedback(competitors=("Acmely", "Big Blue Desk")))
NOW = 20_000 * DAY_US + 5


def said(text: str) -> int:
    """The polarity of an English text."""
    polarity = ANALYSER.polarity(text, "en")
    assert polarity is not None
    return polarity


# -- polarity


def test_what_the_plain_lexicon_takes_for_praise_is_clearly_negative() -> None:
    """The sentence that the lexicon was begun for: +0.23 with vaderSentiment alone."""
    assert said("We are cancelling, support never answers.") < -5_000


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("We cannot wait for the release.", "We cannot wait to leave."),
        ("We cannot wait for the release.", "We cannot wait any longer for the fix."),
        ("We can't recommend it enough.", "We can't recommend it."),
        ("We are not cancelling.", "We are cancelling."),
        ("We switched from Acmely.", "We are switching to Acmely."),
        ("We moved from Big Blue Desk.", "We moved to Big Blue Desk."),
        ("We have no complaints.", "We have complaints."),
    ],
)
def test_a_phrase_means_another_thing_than_its_words(better: str, worse: str) -> None:
    """The longest phrase counts, and what stands around it."""
    assert said(worse) < 0 < said(better)


def test_a_competitor_is_one_that_the_configuration_names_or_that_nobody_names() -> None:
    """Whoever switches to annual billing goes nowhere."""
    assert said("We are switching to annual billing.") == 0
    assert said("We are switching to a competitor.") == said("We are switching to BIG BLUE DESK'S.") < 0
    assert CustomerSuccess().polarity("We are switching to Acmely.", "en") == 0


@pytest.mark.parametrize("text", ["Support replied.", "Our support ticket is 4711.", "Please help.", "I would like to share the number."])
def test_words_of_the_trade_feel_nothing(text: str) -> None:
    """The plain lexicon takes support, help, like and share for praise."""
    assert said(text) == 0


def test_a_phrase_does_not_go_across_a_pause() -> None:
    """`no, problem` is not `no problem`."""
    assert said("No problem, it works.") > said("There is no. Problem with the sync.")


def test_typography_is_as_typed() -> None:
    """Word processors write other apostrophes."""
    assert said("We can’t wait to leave — really…") == said("We can't wait to leave - really...")


def test_shouting_is_louder() -> None:
    """A phrase in capitals counts as a word in capitals."""
    assert said("We are NOT RENEWING this.") < said("We are not renewing this.")


def test_sentences_are_weighed_against_each_other() -> None:
    """The mean of those that feel anything: what is neutral in between does not count."""
    good, bad = said("Great product."), said("Terrible bugs.")
    assert said("Great product. We have 12 seats. Terrible bugs.") == pytest.approx((good + bad) / 2, abs=1)


@pytest.mark.parametrize("language", ["en", "EN", "en-US", "en_GB", "eng"])
def test_english_has_many_names(language: str) -> None:
    """With or without a region, in any case."""
    assert ANALYSER.polarity("Love it", language) == said("Love it")


@pytest.mark.parametrize("language", [None, "", "de", "fr-CA", "english?", "e", "ent", "-en", "\ud800"])
def test_another_or_an_unknown_language_has_no_polarity(language: str | None) -> None:
    """Null, never a guess."""
    assert ANALYSER.polarity("Love it", language) is None


def test_a_default_language_is_that_of_texts_without_one() -> None:
    """The event's own language goes first."""
    analyser = CustomerSuccess(Feedback(default_language="en-IE"))
    assert analyser.polarity("Love it", None) == analyser.polarity("Love it", "en") == said("Love it")
    assert analyser.polarity("Love it", "de") is None


@pytest.mark.parametrize("text", ["", " ", "\n\t\u2003"])
def test_nothing_said_has_no_polarity(text: str) -> None:
    """An empty comment field is no opinion, and does not pull the mean to 0."""
    assert ANALYSER.polarity(text, "en") is None


@pytest.mark.parametrize(("text", "sign"), [("👍", 1), ("👎", -1), ("great👍", 1), ("???", 0), ("-", 0), (":)", 1), (":(", -1)])
def test_signs_speak_too(text: str, sign: int) -> None:
    """Emoji are read as their names; emoticons as they are."""
    assert (said(text) > 0) - (said(text) < 0) == sign


@given(st.text(st.characters(exclude_categories=()), max_size=300))
@example("\ud800")
@example("\x00")
@example("n't no not never BUT but . ! ;")
@settings(max_examples=examples(300), deadline=None)
def test_every_text_has_an_answer(text: str) -> None:
    """Whatever it holds: lone surrogates, control characters, nothing; the same each time."""
    polarity = ANALYSER.polarity(text, "en")
    assert polarity == AGAIN.polarity(text, "en")
    if polarity is None:
        assert not text.strip()
    else:
        assert -SCALE <= polarity <= SCALE


@pytest.mark.parametrize(
    "unit", ["a", "no ", "not good but ", "😡", "👨‍👩‍👧‍👦", "cannot ", ": ", "!", ".", "GREAT ", "can't wait to leave, "]
)
def test_a_text_of_any_length_costs_little(unit: str) -> None:
    """Only the first characters are read; what the worst of them cost is milliseconds."""
    text = unit * (1_000_000 // len(unit))
    began = time.process_time()
    assert said(text) == said(text[:TEXT_MAX])
    assert time.process_time() - began < 2


def test_the_library_is_not_imported_before_there_is_a_text() -> None:
    """A worker whose stream has no feedback does not pay for it."""
    program = (
        "import sys; from models.sentiment import CustomerSuccess; a = CustomerSuccess(); a.polarity('x', 'de');"
        "assert 'vaderSentiment' not in sys.modules; a.polarity('x', 'en'); assert 'vaderSentiment' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0


def test_each_line_of_the_lexicon_says_why_and_none_is_there_twice() -> None:
    """It is a file for people: written as it is looked for, within bounds, in words that can be found."""
    text = importlib.resources.files("models").joinpath("lexicon.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["phrase"], float(row["valence"])) for row in rows] == read_lexicon()
    phrases = [row["phrase"] for row in rows]
    assert len(set(phrases)) == len(phrases)
    for row in rows:
        assert row["why"]
        assert row["phrase"] == " ".join(row["phrase"].lower().split())
        assert abs(float(row["valence"])) <= 4
        assert row["phrase"].count("<") == row["phrase"].count(SLOT)


# -- the mean


def test_without_an_answer_there_is_no_mean() -> None:
    """Null, not 0: nobody said anything. What is older than the window says nothing either."""
    assert sentiment_mean([], NOW) is None
    assert sentiment_mean([(NOW - WINDOW_DAYS * DAY_US, -10_000), (NOW + DAY_US, 10_000)], NOW) is None
    assert sentiment_mean([(NOW - (WINDOW_DAYS - 1) * DAY_US, -10_000)], NOW) is not None


def test_answers_are_shrunk_to_zero_by_five_neutral_ones() -> None:
    """One answer of today counts a sixth, five count a half."""
    assert sentiment_mean([(NOW, -9_000)], NOW) == -1_500
    assert sentiment_mean([(NOW, -9_000)] * 5, NOW) == -4_500
    assert sentiment_mean([(NOW, 0)], NOW) == 0


def test_an_answer_weighs_half_after_thirty_days() -> None:
    """Whole UTC days count, not hours."""
    assert (WEIGHTS[0], WEIGHTS[30], WEIGHTS[60]) == (1_000_000, 500_000, 250_000)
    assert sentiment_mean([(NOW - 30 * DAY_US, -9_000)] * 2, NOW) == sentiment_mean([(NOW, -9_000)], NOW)
    assert sentiment_mean([(NOW - 6, 9_000)], NOW) == sentiment_mean([(NOW - DAY_US, 9_000)], NOW)


def test_each_weight_is_the_nearest_integer() -> None:
    """Said without a root: (2w - 1) / 2,000,000 <= 2 ** (-days / 30) < (2w + 1) / 2,000,000, to the thirtieth power."""
    assert len(WEIGHTS) == 90
    for days, weight in enumerate(WEIGHTS):
        assert (2 * weight - 1) ** 30 * 2**days <= (2 * WEIGHTS[0]) ** 30 < (2 * weight + 1) ** 30 * 2**days


POLARITIES = st.integers(-SCALE, SCALE)
ANSWERS = st.lists(st.tuples(st.integers(NOW - 100 * DAY_US, NOW), POLARITIES), max_size=30)


def formula(answers: list[tuple[int, int]], as_of_us: int) -> Decimal | None:
    """The mean as metrics are written on paper: sum of w * p over sum of w + 5, w = 2 ** (-age / 30)."""
    with localcontext() as context:
        context.prec = 40
        ages = [(as_of_us // DAY_US - at // DAY_US, polarity) for at, polarity in answers]
        inside = [(Decimal(2) ** (Decimal(-age) / 30), polarity) for age, polarity in ages if age < 90]
        if not inside:
            return None
        weight = sum((weight for weight, _ in inside), Decimal(5))
        return sum((weight * polarity for weight, polarity in inside), Decimal()) / weight


@given(ANSWERS)
@settings(max_examples=examples(300), deadline=None)
def test_the_mean_is_that_of_the_formula(answers: list[tuple[int, int]]) -> None:
    """Rounded to the nearest ten-thousandth, and off by less than another hundredth of one."""
    exact, mean = formula(answers, NOW), sentiment_mean(answers, NOW)
    if exact is None:
        assert mean is None
    else:
        assert mean is not None
        assert abs(mean - exact) <= Decimal("0.51")


@given(ANSWERS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_answers_does_not_matter(answers: list[tuple[int, int]], chance: Random) -> None:
    """Events of a topic come in any order."""
    shuffled = list(answers)
    chance.shuffle(shuffled)
    assert sentiment_mean(iter(shuffled), NOW) == sentiment_mean(answers, NOW)


@given(ANSWERS, POLARITIES)
@settings(deadline=None)
def test_a_better_answer_never_makes_the_mean_worse(answers: list[tuple[int, int]], polarity: int) -> None:
    """And the mean stays within what was said and 0."""
    lower = sentiment_mean([*answers, (NOW, polarity)], NOW)
    higher = sentiment_mean([*answers, (NOW, SCALE)], NOW)
    assert lower is not None
    assert higher is not None
    assert lower <= higher
    assert min(0, *(each for _, each in answers), polarity) <= lower <= max(0, *(each for _, each in answers), polarity)
