"""How well feedback is read: polarity and themes held against sentences that a person labelled, with plain vaderSentiment beside ours."""

from __future__ import annotations

import csv
import hashlib
import importlib.resources
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from models.feedback import THEMES, Feedback
from models.fixed import SCALE
from models.sentiment import CustomerSuccess
from models.themes import Themes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Label = Literal["negative", "neutral", "positive"]
Half = Literal["held-out", "tuning", "all"]

LABELS: Final[tuple[Label, ...]] = ("negative", "neutral", "positive")
COLUMNS: Final = ("text", "polarity", "themes")

NEUTRAL_BELOW: Final = 500
"""A polarity (ten-thousandths) nearer to 0 than this is neutral: vaderSentiment's own convention."""

COMPETITORS: Final = ("Acmely", "Zentrics")
"""The competitors that the sentences name, told as an installation tells its own in `feedback.competitors`."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What somebody wrote, and what a person says of it."""

    text: str
    polarity: Label
    themes: frozenset[str]

    @property
    def is_held_out(self) -> bool:
        """Whether it is in the half that nothing was tuned on: the first byte of its SHA-256 is odd."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()[0] % 2 == 1


@dataclass(slots=True)
class Polarities:
    """How an analyser does: how often it says which label where a person says which."""

    said: dict[tuple[Label, Label], int] = field(default_factory=lambda: {(true, said): 0 for true in LABELS for said in LABELS})

    @property
    def accuracy(self) -> float:
        """The share of sentences that have the person's label; 0 without sentences."""
        return sum(self.said[label, label] for label in LABELS) / max(1, sum(self.said.values()))

    @property
    def macro_f1(self) -> float:
        """The mean of the labels' F1, each label counting alike."""
        return sum(map(self.f1, LABELS)) / len(LABELS)

    def f1(self, label: Label) -> float:
        """The harmonic mean of a label's precision and recall; 0 where it is neither given nor said."""
        given = sum(self.said[label, other] for other in LABELS)
        said = sum(self.said[other, label] for other in LABELS)
        return 2 * self.said[label, label] / max(1, given + said)


@dataclass(slots=True)
class Found:
    """How a theme does."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def precision(self) -> float | None:
        """The share of what was found that is right; None when nothing was found."""
        found = self.right + self.wrong
        return self.right / found if found else None

    @property
    def recall(self) -> float | None:
        """The share of what is there that was found; None when nothing is there."""
        there = self.right + self.missed
        return self.right / there if there else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of the sentences."""

    sentences: int
    ours: Polarities
    plain: Polarities
    themes: dict[str, Found]
    disagreements: tuple[str, ...]
    """A line for each sentence that we read otherwise than a person."""


def shipped() -> list[Sentence]:
    """The labelled sentences that come with the product."""
    return read(importlib.resources.files("deploy.data").joinpath("feedback.csv").read_text("utf-8"))


def read(text: str) -> list[Sentence]:
    """Read sentences from CSV with the columns of `COLUMNS`, themes with spaces between; raises ValueError that names the line."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(f"its first line must name the columns {', '.join(COLUMNS)}")
        sentences = [_sentence(row, reader.line_num) for row in reader]
    except csv.Error as error:
        raise ValueError(f"line {reader.reader.line_num}: it is not CSV: {error}") from error
    if not sentences:
        raise ValueError("it holds no sentence")
    return sentences


def _sentence(row: dict[str, str | None], line: int) -> Sentence:
    text, polarity, themes = (row[column] for column in COLUMNS)
    if text is None or polarity is None or themes is None:
        raise ValueError(f"line {line}: it has fewer columns than the first line")
    label = next((label for label in LABELS if label == polarity), None)
    if label is None:
        raise ValueError(f"line {line}: {polarity!r} is no polarity; it must be one of {', '.join(LABELS)}")
    if unknown := sorted(set(themes.split()) - set(THEMES)):
        raise ValueError(f"line {line}: {unknown[0]!r} is no theme; known are {', '.join(THEMES)}")
    return Sentence(text, label, frozenset(themes.split()))


def half_of(sentences: Iterable[Sentence], half: Half) -> list[Sentence]:
    """The sentences of a half."""
    return [sentence for sentence in sentences if half == "all" or sentence.is_held_out == (half == "held-out")]


def evaluate(sentences: Sequence[Sentence], feedback: Feedback) -> Evaluation:
    """Read each sentence, and hold what comes of it against the person's labels."""
    analyser, rules = CustomerSuccess(feedback), Themes(feedback)
    plain = plain_polarity()
    made = Evaluation(len(sentences), Polarities(), Polarities(), {theme: Found() for theme in THEMES}, ())
    disagreements = []
    for sentence in sentences:
        polarity, themes = analyser.polarity(sentence.text, "en"), frozenset(rules.themes(sentence.text))
        made.ours.said[sentence.polarity, label_of(polarity)] += 1
        made.plain.said[sentence.polarity, label_of(plain(sentence.text))] += 1
        for theme, found in made.themes.items():
            found.right += theme in sentence.themes and theme in themes
            found.wrong += theme in themes - sentence.themes
            found.missed += theme in sentence.themes - themes
        if label_of(polarity) != sentence.polarity or themes != sentence.themes:
            wanted = f"{sentence.polarity} {' '.join(sorted(sentence.themes)) or '-'}"
            disagreements.append(f"{wanted} | {label_of(polarity)} {' '.join(sorted(themes)) or '-'} | {sentence.text}")
    return Evaluation(made.sentences, made.ours, made.plain, made.themes, tuple(disagreements))


def plain_polarity() -> Callable[[str], int]:
    """The polarity of vaderSentiment as it comes, in ten-thousandths."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: PLC0415 - only this command compares with it

    vader = SentimentIntensityAnalyzer()
    return lambda text: round(SCALE * vader.polarity_scores(text)["compound"])


def label_of(polarity: int | None) -> Label:
    """The label of a polarity; nothing said is neutral."""
    if polarity is None or abs(polarity) < NEUTRAL_BELOW:
        return "neutral"
    return "positive" if polarity > 0 else "negative"


def report(evaluation: Evaluation) -> str:
    """The figures as Markdown: what docs/feedback.md holds."""
    readers = (("ours", evaluation.ours), ("plain vaderSentiment", evaluation.plain))
    lines = [
        f"Polarity, {evaluation.sentences} sentences:",
        "",
        "| | accuracy | macro-F1 | " + " | ".join(f"F1 {label}" for label in LABELS) + " |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {does.accuracy:.3f} | {does.macro_f1:.3f} | " + " | ".join(f"{does.f1(label):.3f}" for label in LABELS) + " |"
            for name, does in readers
        ),
        "",
        "What they were labelled, and what was said of them:",
        "",
        "| | " + " | ".join(f"{name}: {label}" for name, _ in readers for label in LABELS) + " |",
        "|---|---|---|---|---|---|---|",
        *(f"| {true} | " + " | ".join(str(does.said[true, said]) for _, does in readers for said in LABELS) + " |" for true in LABELS),
        "",
        "Themes:",
        "",
        "| theme | labelled | found | precision | recall |",
        "|---|---|---|---|---|",
        *(_line(theme, found) for theme, found in evaluation.themes.items()),
        _line("all", _total(evaluation.themes.values())),
    ]
    return "\n".join(lines)


def _line(theme: str, found: Found) -> str:
    shares = (f"{share:.3f}" if share is not None else "" for share in (found.precision, found.recall))
    return f"| {theme} | {found.right + found.missed} | {found.right + found.wrong} | {' | '.join(shares)} |"


def _total(found: Iterable[Found]) -> Found:
    total = Found()
    for each in found:
        total.right += each.right
        total.wrong += each.wrong
        total.missed += each.missed
    return total
