"""`churnwatch examples run FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deploy.examples.running import Outcome, as_json, read_examples, run_example
from deploy.one_line_errors import one_line_errors
from stream_app.exits import Exit, ServiceExit

examples_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Check the metrics against worked examples.

    An example is `{"id", "metric", "input", "expected", "source"}`: the metric is calculated from the input and compared with what is
    expected. Decimal texts are compared at the places they are printed with, rounded half-up; scores and contributions within 0.0002.
    """,
)

File = Annotated[Path, typer.Argument(help="Examples in JSON: a list of objects.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object: each example with what the metric gave.")]


@examples_app.callback()
def examples() -> None:
    """Check the metrics against worked examples."""


@examples_app.command()
def run(file: File, *, as_json: AsJson = False) -> None:
    """Calculate every example of a file: pass or fail for each with what differed, and `N passed, N failed` at the end.

    The exit code is 1 when any failed, 2 when the file cannot be read.
    """
    with one_line_errors():
        outcomes = [run_example(entry, place) for place, entry in enumerate(_read(file), 1)]
    passed = sum(each.has_passed for each in outcomes)
    last = f"{passed} passed, {len(outcomes) - passed} failed"
    typer.echo(json.dumps(_report(outcomes), ensure_ascii=False, indent=1) if as_json else "\n".join([*map(_lines, outcomes), last]))
    if passed < len(outcomes):
        raise typer.Exit(Exit.OTHER)


def _read(file: Path) -> list[object]:
    try:
        return read_examples(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ServiceExit(Exit.CONFIGURATION, f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ServiceExit(Exit.CONFIGURATION, f"{file} holds no examples: {error}") from error


def _lines(outcome: Outcome) -> str:
    verdict = "pass" if outcome.has_passed else "FAIL"
    return "\n".join([f"{verdict}  {outcome.id}  {outcome.metric}", *(f"        {line}" for line in outcome.problems)])


def _report(outcomes: list[Outcome]) -> dict[str, object]:
    passed = sum(each.has_passed for each in outcomes)
    listed = [
        {
            "id": each.id,
            "metric": each.metric,
            "passed": each.has_passed,
            "problems": list(each.problems),
            "output": as_json(each.output),
        }
        for each in outcomes
    ]
    return {"passed": passed, "failed": len(outcomes) - passed, "examples": listed}
