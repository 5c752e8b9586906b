"""`churnwatch demo`: Kafka, topics, a worker and a replay, and the accounts at risk live in the terminal."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from deploy.demo.feeder import Feeder
from deploy.demo.interrupts import Interrupts, caught
from deploy.demo.stack import Stack, running_stack
from deploy.demo.view import Board, line, render, summary
from deploy.demo.watch import Outputs, scrape
from deploy.one_line_errors import one_line_errors
from deploy.replay import oulad
from deploy.replay.cli import PaceOption
from deploy.replay.corpus import SAMPLE_DIR, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


UNTIL: Final = datetime(2014, 5, 1, tzinfo=UTC)
"""In the middle of the sample's last term: the table at the end is of accounts that could still be kept."""

LINE_EVERY_SECONDS: Final = 5.0
SCRAPE_EVERY_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 3.0
"""All is done when everything was read and nothing has come for so long."""
_REFRESH_PER_SECOND: Final = 4
_LINES_AROUND: Final = 2


def demo(
    *,
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", show_default="the sample that ships", file_okay=False, help="Where OULAD files are."),
    ] = SAMPLE_DIR,
    speed: PaceOption = "max",  # type: ignore[assignment]  # the text that the parser is given
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day of the log that is not replayed.")] = UNTIL,
    exit_when_done: Annotated[
        bool, typer.Option("--exit-when-done", help="End by itself when the replay is done and all of it was scored.")
    ] = False,
) -> None:
    """Watch churnwatch at work: the accounts at risk, and why, while two years of real history go by.

    Starts Kafka, creates the topics, runs a worker, replays the OULAD sample and shows the worst accounts live, until
    Ctrl-C ends all of it. Needs Java 17 or newer; set KAFKA_BOOTSTRAP to use a cluster of your own instead.
    """
    console = Console(highlight=False)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it would log is told in one line of ours
    with one_line_errors(), caught() as interrupts:
        corpus = oulad.corpus(directory)
        window = Window.chosen(corpus, None, until.date(), None)
        board = Board(corpus.count(window))
        console.print(f"Data    {corpus.title}: {board.total:,} events", soft_wrap=True)
        try:
            with running_stack(console, interrupts) as stack:
                with Feeder(corpus, window, stack.connection, stack.installation.prefix, speed) as feeder:
                    _watch(stack, feeder, board, console, interrupts, exit_when_done=exit_when_done)
                console.print(summary(board))
                console.print("Ending: the worker, then Kafka ...")
        except KeyboardInterrupt:
            console.print("Stopped.")
        else:
            console.print("All of it has ended.")


def _watch(stack: Stack, feeder: Feeder, board: Board, console: Console, interrupts: Interrupts, *, exit_when_done: bool) -> None:
    """Show the board until the user wants it to end, or until all is done if that is enough."""
    scraped_at = quiet_since = time.monotonic()
    with Outputs(stack.connection, stack.installation.prefix) as outputs, _shown(board, console) as show:
        while not interrupts.stop.is_set():
            stack.worker.check()
            is_sent = feeder.tell(board)
            count = outputs.read_into(board)
            now = time.monotonic()
            if now - scraped_at >= SCRAPE_EVERY_SECONDS and (counts := scrape(stack.worker.metrics_url)) is not None:
                scraped_at = now
                board.counted(counts, now)
            is_read = is_sent and board.worker is not None and board.worker.read >= board.sent
            if count or not is_read:
                quiet_since = now
            is_done = is_read and now - quiet_since >= QUIET_SECONDS
            show("all of it is scored; Ctrl-C ends the demo" if is_done else "Ctrl-C ends the demo")
            if is_done and exit_when_done and outputs.is_at_end():
                return


@contextmanager
def _shown(board: Board, console: Console) -> Iterator[Callable[[str], None]]:
    """Yield what shows the board: live on a terminal, else a line every few seconds."""
    if not console.is_terminal:
        yield _lines(board, console)
        return
    with Live(console=console, refresh_per_second=_REFRESH_PER_SECOND, transient=True) as live:
        yield lambda hint: live.update(render(board, console.height - _LINES_AROUND, hint))


def _lines(board: Board, console: Console) -> Callable[[str], None]:
    last = time.monotonic()

    def show(_hint: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_SECONDS:
            last = time.monotonic()
            console.print(line(board), soft_wrap=True)

    return show


demo_app = typer.Typer()
demo_app.command()(demo)
