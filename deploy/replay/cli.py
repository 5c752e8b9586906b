"""`churnwatch replay`: sends a data set to Kafka as events, at a chosen speed-up or as fast as possible."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from deploy.one_line_errors import one_line_errors
from deploy.replay import oulad as oulad_data
from deploy.replay import ravenstack as ravenstack_data
from deploy.replay.corpus import SAMPLE_DIR, Corpus, Window
from deploy.replay.producer import Pace, Sender, replay
from deploy.replay.producer import Progress as Reached
from stream_app.exits import BrokerError
from stream_app.kafka_connection import client_kwargs
from stream_app.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rich.progress import Task

INTERRUPTED: Final = 130
"""What a shell calls a command that Ctrl-C ended: the replay is not complete."""
_SHOWN_IN_DRY_RUN: Final = 12
_LINE_EVERY_SECONDS: Final = 5.0

replay_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Send a public data set to Kafka as events, in the order of its own time.

    Both samples ship with churnwatch, so that `churnwatch replay oulad` works as it is. Every event has the same id in
    every replay: a second one brings duplicates, which are recognised as such. The worker must run on the log's time
    (`CHURNWATCH_CLOCK=log`), or it takes years of silence for churn.
    """,
)


def _speed(text: str) -> Pace:
    if text == "max":
        return Pace()
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        message = f"{text!r} is neither 'max' nor a number above 0"
        raise typer.BadParameter(message)
    return Pace(speed)


_Directory = Annotated[
    Path,
    typer.Argument(metavar="DIR", show_default="the sample that ships", file_okay=False, help="Where the files are."),
]
PaceOption = Annotated[
    Pace,
    typer.Option(
        "--speed",
        parser=_speed,
        metavar="FACTOR|max",
        help="Seconds of the log's time in one second: 86400 is a day each second. 'max' is as fast as Kafka takes it.",
    ),
]
_From = Annotated[
    datetime | None,
    typer.Option("--from", formats=["%Y-%m-%d"], help="First day to send; what was before is left out."),
]
_Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day that is not sent any more.")]
_LimitDays = Annotated[int | None, typer.Option(min=1, help="Send so many days of the log, counted from the first event.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the first events and the counts per type; send nothing.")]
_Bootstrap = Annotated[
    str | None,
    typer.Option(envvar="KAFKA_BOOTSTRAP", help="Address of the cluster, host:port[,host:port]. [default: 127.0.0.1:29092]"),
]
_Prefix = Annotated[
    str | None,
    typer.Option(
        "--topic-prefix",
        "--prefix",
        envvar="CHURNWATCH_TOPIC_PREFIX",
        help="Put before every topic's name: PREFIX.usage-events.",
    ),
]


@replay_app.command()
def oulad(
    *,
    directory: _Directory = SAMPLE_DIR,
    speed: PaceOption = "max",  # type: ignore[assignment]  # the text that the parser is given
    since: _From = None,
    until: _Until = None,
    limit_days: _LimitDays = None,
    dry_run: _DryRun = False,
    bootstrap: _Bootstrap = None,
    prefix: _Prefix = None,
) -> None:
    """Replay the Open University Learning Analytics data: real usage, real commitments, real cancellations.

    The sample has 1,000 accounts and 191,453 events from 2012-04-02 to 2014-09-30. DIR may hold `oulad_dev_*` files
    too: the larger set is taken.
    """
    request = Request(speed, since, until, limit_days, bootstrap, prefix)
    _run(lambda: oulad_data.corpus(directory), request, dry_run=dry_run)


@replay_app.command()
def ravenstack(
    *,
    directory: _Directory = SAMPLE_DIR,
    speed: PaceOption = "max",  # type: ignore[assignment]  # the text that the parser is given
    since: _From = None,
    until: _Until = None,
    limit_days: _LimitDays = None,
    dry_run: _DryRun = False,
    bootstrap: _Bootstrap = None,
    prefix: _Prefix = None,
) -> None:
    """Replay the simulated SaaS company RavenStack: tickets, subscriptions, money, contradictions.

    500 accounts and 47,086 events from 2023-01-01 to 2024-12-31.
    """
    request = Request(speed, since, until, limit_days, bootstrap, prefix)
    _run(lambda: ravenstack_data.corpus(directory), request, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    pace: Pace
    since: datetime | None
    until: datetime | None
    limit_days: int | None
    bootstrap: str | None
    prefix: str | None

    def window(self, corpus: Corpus) -> Window:
        """Return the days to send."""
        return Window.chosen(
            corpus,
            self.since.date() if self.since else None,
            self.until.date() if self.until else None,
            self.limit_days,
        )

    def sender(self) -> Sender:
        """Return the producer for the cluster that the options, the environment or the configuration file name."""
        given = {"kafka_bootstrap": self.bootstrap, "topic_prefix": self.prefix}
        settings = load_settings(overrides={key: value for key, value in given.items() if value is not None})
        return Sender(client_kwargs(settings), settings.topic_prefix)


def _run(find: Callable[[], Corpus], request: Request, *, dry_run: bool) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    # What kafka-python would log is told in one line of ours.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with one_line_errors():
        corpus = find()
        window = request.window(corpus)
        console.print(f"Data: {corpus.title}")
        if dry_run:
            _show(corpus, window)
        else:
            _send(corpus, window, request, console)


def _show(corpus: Corpus, window: Window) -> None:
    """Print the first events as JSON lines, then how many there are of each type."""
    for event in islice(window.of(corpus.events()), _SHOWN_IN_DRY_RUN):
        typer.echo(json.dumps(event, ensure_ascii=False))
    counts = Counter(event["type"] for event in window.of(corpus.events()))
    for event_type, count in counts.most_common():
        typer.echo(f"{count:>10,}  {event_type}")
    typer.echo(f"{counts.total():>10,}  in all")


def _send(corpus: Corpus, window: Window, request: Request, console: Console) -> None:
    with request.sender() as sender, stop_signal() as stop:
        total = corpus.count(window)
        told = Reached()

        def tell(reached: Reached) -> None:
            nonlocal told
            told = Reached(reached.sent, reached.acknowledged, reached.reached)
            show(told)

        began = time.monotonic()
        try:
            with _progress(total, console) as show:
                replay(window.of(corpus.events()), sender, pace=request.pace, stop=stop, tell=tell)
        except BrokerError as error:
            message = f"{error.message}; {_how_far(told, total)}"
            raise BrokerError(message, error.mend) from error
        seconds = time.monotonic() - began
    rate = told.acknowledged / seconds if seconds else 0.0
    console.print(f"{_how_far(told, total)} in {seconds:.1f} s ({rate:,.0f}/s), to {sender.describe()}")
    if stop.is_set():
        console.print("Stopped. Sent again from the beginning, these events are recognised as duplicates.")
        raise typer.Exit(INTERRUPTED)


def _how_far(told: Reached, total: int) -> str:
    until = f", up to {told.reached} of the log" if told.reached else ""
    return f"{told.acknowledged:,} of {total:,} events are in Kafka{until}"


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Make SIGINT and SIGTERM set a flag, so that what was sent is waited for; the second one ends the process."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(_: int, __: FrameType | None) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()


class _RateColumn(ProgressColumn):
    """Events in a second, over the last of them."""

    def render(self, task: Task) -> str:
        """Return the rate as text."""
        return f"{task.finished_speed or task.speed or 0.0:,.0f}/s"


@contextmanager
def _progress(total: int, console: Console) -> Iterator[Callable[[Reached], None]]:
    """Yield what shows progress: a bar on a terminal, else a line every few seconds."""
    if not console.is_terminal:
        yield _lines(total, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("events"), _RateColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("connecting", total=total)
        yield lambda reached: bar.update(task, completed=reached.acknowledged, description=reached.reached[:10] or "waiting")


def _lines(total: int, console: Console) -> Callable[[Reached], None]:
    last = time.monotonic()

    def show(reached: Reached) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_SECONDS:
            last = time.monotonic()
            console.print(_how_far(reached, total))

    return show


if __name__ == "__main__":
    replay_app()
