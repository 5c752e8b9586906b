"""`churnwatch feedback`: what a text comes to, and how well texts are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deploy.config_cli import Assignments, ConfigFile, overrides_of
from deploy.feedback import COMPETITORS, Half, evaluate, half_of, read, report, shipped
from models.fixed import SCALE
from models.sentiment import CustomerSuccess
from models.themes import Themes
from stream_app.exits import Exit, ServiceExit
from stream_app.settings import load_settings

feedback_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""See how text feedback is read: its polarity, -1 (bad) to 1 (good), and its themes.

    The same code reads the texts of `survey-events`. `feedback.competitors`, `feedback.themes` and `feedback.default_language`
    of the configuration count here, too.
    """,
)


@feedback_app.command()
def score(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What somebody said.")],
    *,
    language: Annotated[str, typer.Option(help="Language of the texts; other than English has no polarity.")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a text.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Print polarity and themes of a text, as the worker would read it.

    churnwatch feedback score "We are cancelling, support never answers."
    """
    feedback = load_settings(config, overrides_of(assignments)).feedback
    analyser, rules = CustomerSuccess(feedback), Themes(feedback)
    for text in texts:
        polarity, themes = analyser.polarity(text, language), rules.themes(text)
        if as_json:
            share = None if polarity is None else polarity / SCALE
            typer.echo(json.dumps({"text": text, "polarity": share, "themes": themes}, ensure_ascii=True))
        else:
            shown = "none" if polarity is None else f"{polarity / SCALE:+.4f}"
            typer.echo(f"{shown}  {', '.join(themes) or '-'}")


@feedback_app.command("evaluate")
def evaluate_command(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Labelled sentences. [default: those of the product]")] = None,
    *,
    half: Annotated[Half | None, typer.Option("--half", help="[default: held-out; of a FILE, all]")] = None,
    disagreements: Annotated[bool, typer.Option("--disagreements", help="Print what is read otherwise than labelled.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Measure how well polarity and themes are read, on sentences that a person labelled, with plain vaderSentiment beside.

    FILE is CSV with the columns `text`, `polarity` (negative, neutral or positive) and `themes` (any of pricing, support, bugs,
    missing_feature, competitor, onboarding, spaces between). Label some hundred of your own and see what to expect.

    The product's sentences are divided by their SHA-256: nothing was tuned on the held-out half (docs/feedback.md).
    """
    feedback = load_settings(config, overrides_of(assignments)).feedback
    if file is None:
        feedback = feedback.model_copy(update={"competitors": (*feedback.competitors, *COMPETITORS)})
        sentences = half_of(shipped(), half or "held-out")
    else:
        try:
            sentences = half_of(read(file.read_text("utf-8-sig")), half or "all")
        except OSError as error:
            raise ServiceExit(Exit.CONFIGURATION, f"{file} cannot be read: {error.strerror}", "name a readable file, or none") from error
        except ValueError as error:
            raise ServiceExit(Exit.CONFIGURATION, f"{file} cannot be used: {error}", "see churnwatch feedback evaluate --help") from error
    made = evaluate(sentences, feedback)
    if disagreements:
        typer.echo("labelled | read | text")
        for line in made.disagreements:
            typer.echo(line)
        return
    typer.echo(report(made))
