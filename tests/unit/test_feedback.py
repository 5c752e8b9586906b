"""How well feedback is read: the figures of docs/feedback.md are those of the code, and better than the plain library's."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import app
from deploy.feedback import (
    COMPETITORS,
    LABELS,
    Evaluation,
    Found,
    Half,
    Polarities,
    Sentence,
    evaluate,
    half_of,
    label_of,
    read,
    report,
    shipped,
)
from models.feedback import Feedback
from stream_app.exits import Exit, ServiceExit

PAGE = (Path(__file__).parents[2] / "docs" / "feedback.md").read_text(encoding="utf-8")


@cache
def evaluation(half: Half) -> Evaluation:
    """What comes of a half of the product's sentences."""
    return evaluate(half_of(shipped(), half), Feedback(competitors=COMPETITORS))


def test_the_page_has_the_figures_of_the_held_out_half() -> None:
    """If this fails, paste what `churnwatch feedback evaluate` prints."""
    assert report(evaluation("held-out")) in PAGE
    assert f"right in {evaluation('tuning').ours.accuracy:.3f}" in PAGE


def test_ours_reads_sentences_it_was_not_tuned_on_better_than_the_plain_library() -> None:
    """By far, for each label; themes are found more often than not, and rightly."""
    held_out = evaluation("held-out")
    assert held_out.ours.accuracy > held_out.plain.accuracy + 0.2
    assert all(held_out.ours.f1(label) > held_out.plain.f1(label) + 0.2 for label in LABELS)
    assert all((found.precision or 0) > 0.75 and (found.recall or 0) > 0.6 for found in held_out.themes.values())


def test_there_are_enough_sentences_of_every_kind_in_both_halves() -> None:
    """At least 240, none twice, every label and every theme in each half."""
    sentences = shipped()
    assert len({sentence.text for sentence in sentences}) == len(sentences) >= 240
    halves = half_of(sentences, "tuning"), half_of(sentences, "held-out")
    assert sorted(map(len, halves)) == [129, 169]
    assert half_of(sentences, "all") == sentences
    for half in halves:
        assert {sentence.polarity for sentence in half} == set(LABELS)
        assert {theme for sentence in half for theme in sentence.themes} == evaluation("tuning").themes.keys()


def test_a_perfect_reader_scores_one_and_a_silent_one_nothing() -> None:
    """Accuracy, F1, precision and recall by hand."""
    does = Polarities()
    assert (does.accuracy, does.macro_f1) == (0, 0)
    does.said["negative", "negative"] = 3
    does.said["positive", "positive"] = does.said["neutral", "neutral"] = 1
    assert (does.accuracy, does.macro_f1) == (1, 1)
    does.said["positive", "negative"] = 5
    assert (does.accuracy, does.f1("negative"), does.f1("positive")) == (0.5, 6 / 11, 2 / 7)
    found = Found(right=3, wrong=1, missed=2)
    assert (found.precision, found.recall) == (0.75, 0.6)
    assert (Found().precision, Found().recall) == (None, None)


@pytest.mark.parametrize(
    ("polarity", "label"), [(None, "neutral"), (499, "neutral"), (-499, "neutral"), (500, "positive"), (-500, "negative")]
)
def test_a_label_begins_at_a_twentieth(polarity: int | None, label: str) -> None:
    """The plain library's own convention."""
    assert label_of(polarity) == label


def test_sentences_are_read_from_csv() -> None:
    """Columns in any order, others beside them, texts over several lines."""
    text = 'themes,id,polarity,text\nbugs pricing,1,negative,"Broken,\nand expensive"\n,2,neutral,Hello\n'
    assert read(text) == [
        Sentence("Broken,\nand expensive", "negative", frozenset({"bugs", "pricing"})),
        Sentence("Hello", "neutral", frozenset()),
    ]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "must name the columns text, polarity, themes"),
        ("text,polarity\nx,neutral\n", "must name the columns"),
        ("text,polarity,themes\n", "holds no sentence"),
        ("text,polarity,themes\nfine,neutral,\nx,good,\n", "line 3: 'good' is no polarity"),
        ("text,polarity,themes\nx,neutral,weather\n", "line 2: 'weather' is no theme; known are pricing, support"),
        ("text,polarity,themes\nx\n", "line 2: it has fewer columns"),
        ('text,polarity,themes\n"x"y,neutral,\n', "line 2: it is not CSV"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_it_is_wrong(text: str, wrong: str) -> None:
    """The line, what is there and what may be."""
    with pytest.raises(ValueError, match=wrong):
        read(text)


# -- the commands


def run(*arguments: str) -> str:
    """What `churnwatch feedback` prints."""
    result = CliRunner().invoke(app, ["feedback", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_score_prints_polarity_and_themes() -> None:
    """A line a text; another language has no polarity; the configuration counts."""
    line = run("score", "We are cancelling, support never answers.")
    assert line.startswith("-0.")
    assert line.endswith("  support\n")
    assert run("score", "--language", "de", "Der Support antwortet nie.", "Gut") == "none  support\nnone  -\n"
    assert run("score", "--set", "feedback.competitors=[Acmely]", "Acmely") == "+0.0000  competitor\n"
    said = json.loads(run("score", "--json", "Love it, but the price!"))
    assert said["themes"] == ["pricing"]
    assert 0 < said["polarity"] <= 1


def test_evaluate_prints_what_the_page_shows() -> None:
    """The held-out half by default."""
    assert run("evaluate") == report(evaluation("held-out")) + "\n"


def test_evaluate_reads_sentences_of_ones_own(tmp_path: Path) -> None:
    """All of them, also from a spreadsheet, which begins a file with a mark."""
    path = tmp_path / "own.csv"
    path.write_text("\ufefftext,polarity,themes\nLove it,positive,\nIt is a bug,positive,pricing\n", encoding="utf-8")
    assert "| ours | 0.500 |" in run("evaluate", str(path))
    assert run("evaluate", "--disagreements", str(path)) == ("labelled | read | text\npositive pricing | negative bugs | It is a bug\n")


def test_evaluate_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    """One sentence, and exit code 2."""
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, wrong in ((tmp_path / "none.csv", "cannot be read"), (binary, "cannot be used")):
        with pytest.raises(ServiceExit, match=wrong) as raised:
            run("evaluate", str(path))
        assert raised.value.exit_code is Exit.CONFIGURATION
