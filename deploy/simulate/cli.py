"""`churnwatch simulate`: a believable portfolio from a seed, to Kafka or into files, with the truth of its figures beside it."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console

from deploy.one_line_errors import one_line_errors
from deploy.replay.cli import INTERRUPTED, PaceOption, stop_signal
from deploy.replay.envelope import topic_of
from deploy.replay.producer import Progress, Sender, replay
from deploy.simulate.report import progress, summary, truth_document
from deploy.simulate.stream import TOPICS, disordered, events
from deploy.simulate.truth import Truth
from deploy.simulate.world import CURRENCIES, Scope, SimulationError, World
from models.times import format_us
from stream_app.clock import WallClock
from stream_app.exits import BrokerError
from stream_app.kafka_connection import client_kwargs
from stream_app.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from threading import Event as Signal
    from typing import BinaryIO

    from deploy.replay.envelope import Event
    from deploy.replay.producer import Pace
    from deploy.simulate.report import Show

_DEFAULT: Final = Scope()
START: Final = datetime.combine(_DEFAULT.start, time(), UTC)
SEGMENTS: Final = ",".join(f"{name}={share:g}" for name, share in _DEFAULT.segments)
_TRUTH: Final = "truth.json"
_TELL_EVERY: Final = 5_000
_encode: Final = msgspec.json.Encoder().encode


def _segments(text: str) -> tuple[tuple[str, float], ...]:
    """Read `smb=70,enterprise=5`; raises `SimulationError` for what is none."""
    found = []
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        try:
            found.append((name, float(share or 1)))
        except ValueError:
            name = ""
        if not name:
            raise SimulationError(f"--segments: {part!r} is no segment", "write NAME=SHARE, as in smb=70,enterprise=5")
    return tuple(found)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def simulate(
    *,
    accounts: Annotated[
        int, typer.Option(help="How many accounts there are in the end; nearly half pay from the beginning.")
    ] = _DEFAULT.accounts,
    months: Annotated[int, typer.Option(help="How many months go by.")] = _DEFAULT.months,
    start: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d", "%Y-%m"], help="The first day of the first month.", show_default=f"{START:%Y-%m-%d}")
    ] = START,
    seed: Annotated[int, typer.Option(help="Another seed, another portfolio; the same seed gives the same bytes.")] = _DEFAULT.seed,
    segments: Annotated[
        str, typer.Option(metavar="NAME=SHARE,...", help="Segments and their shares, the smallest accounts first.")
    ] = SEGMENTS,
    currencies: Annotated[
        str, typer.Option(metavar="USD,...", help=f"Currencies that accounts pay in, the most common first: {', '.join(CURRENCIES)}.")
    ] = ",".join(_DEFAULT.currencies),
    events_per_user_day: Annotated[
        float, typer.Option(help="Usage events of a user on an average day: what decides how many events there are.")
    ] = _DEFAULT.events_per_user_day,
    disorder: Annotated[bool, typer.Option("--disorder", help="Some events come days late (within the grace) and some twice.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Write one file of JSON lines for each topic, and truth.json; send nothing."),
    ] = None,
    truth: Annotated[Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Where to write the truth, besides.")] = None,
    speed: PaceOption = "max",  # type: ignore[assignment]  # the text that the parser is given
    bootstrap: Annotated[
        str | None,
        typer.Option(envvar="KAFKA_BOOTSTRAP", help="Address of the cluster, host:port[,host:port]. [default: 127.0.0.1:29092]"),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option("--topic-prefix", "--prefix", envvar="CHURNWATCH_TOPIC_PREFIX", help="Put before every topic's name."),
    ] = None,
) -> None:
    """Simulate a portfolio: accounts that grow, shrink, fail to pay, pause, leave and come back, and all that they say.

    Everything comes from the seed. The simulator knows what it decided, so it knows every figure and KPI without reading one
    event: that is the truth, which a worker's `portfolio-metrics` must equal. docs/simulate.md says what is simulated.

    **An example**: a small company in files, then the same one through Kafka

        churnwatch simulate --accounts 50 --months 12 --out /tmp/portfolio

        churnwatch topics apply

        CHURNWATCH_CLOCK=log CHURNWATCH_PORTFOLIO__SEGMENTS='["smb","mid_market","enterprise"]' churnwatch worker &

        churnwatch simulate --accounts 50 --months 12 --truth /tmp/truth.json

    The worker must run on the log's time (`CHURNWATCH_CLOCK=log`), or it takes the time since the last event for silence.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it would log is told in one line of ours
    with one_line_errors():
        scope = Scope(accounts, months, start.date(), seed, _segments(segments), _names(currencies), events_per_user_day)
        run = _Run(scope, is_disordered=disorder)
        if truth is not None:
            _check_writable(truth)  # now: what is in Kafka cannot be taken back
        if out is not None:
            finished = run.write(out, console)
        else:
            settings = {"kafka_bootstrap": bootstrap, "topic_prefix": prefix}
            finished = run.send({key: value for key, value in settings.items() if value is not None}, speed, console)
        if not finished:
            console.print("Stopped. What is there is only the beginning; the same seed gives it again.")
            raise typer.Exit(INTERRUPTED)
        document = truth_document(scope, run.truth)
        for file in (truth, out and out / _TRUTH):
            if file is not None:
                _write(file, msgspec.json.format(_encode(document), indent=1) + b"\n")
        typer.echo(summary(scope, run.counts, document))


def _write(file: Path, content: bytes) -> None:
    with _unwritable(file):
        file.write_bytes(content)


def _check_writable(file: Path) -> None:
    """Raise `SimulationError` for a file that cannot be written; what is there stays as it is."""
    is_new = not file.exists()
    with _unwritable(file):
        file.open("ab").close()
        if is_new:
            file.unlink()


@contextlib.contextmanager
def _unwritable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SimulationError(f"--truth: {file} cannot be written ({error.strerror})", "name another file") from error


@dataclass
class _Run:
    """One run of a simulation: the events go by once, and the truth hears what is decided."""

    scope: Scope
    is_disordered: bool

    def __post_init__(self) -> None:
        self.truth = Truth(self.scope.stops, self.scope.names())
        self.counts: Counter[str] = Counter()

    def _events(self) -> Iterator[Event]:
        ordered = events(World.of(self.scope), self.truth.hear)
        for event in disordered(ordered, self.scope.seed) if self.is_disordered else ordered:
            self.counts[topic_of(event["type"])] += 1
            yield event

    def write(self, directory: Path, console: Console) -> bool:
        """Write the events into files; whether that came to its end. Raises `SimulationError` where files are already."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise SimulationError(f"--out: {directory} is not empty", "name another directory, or empty this one")
            with contextlib.ExitStack() as stack:
                files = {topic: stack.enter_context((directory / f"{topic}.jsonl").open("wb")) for topic in TOPICS}
                stop = stack.enter_context(stop_signal())
                show = stack.enter_context(progress(self.scope, console))
                return self._write_events(files, stop, show)
        except OSError as error:
            raise SimulationError(f"--out: {error.filename or directory} cannot be written ({error.strerror})") from error

    def _write_events(self, files: Mapping[str, BinaryIO], stop: Signal, show: Show) -> bool:
        for count, event in enumerate(self._events(), 1):
            files[topic_of(event["type"])].write(_encode(event) + b"\n")
            if count % _TELL_EVERY == 0:
                show(count, event["time"])
                if stop.is_set():
                    return False
        return not stop.is_set()

    def send(self, overrides: dict[str, str], pace: Pace, console: Console) -> bool:
        """Send the events to Kafka; whether all of them are there. Raises `BrokerError` when they cannot be delivered."""
        if self.scope.stops > WallClock().now_us():
            raise SimulationError(
                f"--months: the simulation ends on {format_us(self.scope.stops - 1)[:10]}, and no event may come from the future",
                "choose an earlier --start or fewer --months, or write files with --out",
            )
        settings = load_settings(overrides=dict(overrides))
        told = Progress()
        with Sender(client_kwargs(settings), settings.topic_prefix, topics=TOPICS) as sender, stop_signal() as stop:
            try:
                with progress(self.scope, console) as show:

                    def tell(reached: Progress) -> None:
                        nonlocal told
                        told = Progress(reached.sent, reached.acknowledged, reached.reached)
                        show(told.acknowledged, told.reached)

                    replay(self._events(), sender, pace=pace, stop=stop, tell=tell)
            except BrokerError as error:
                raise BrokerError(f"{error.message}; {told.acknowledged:,} events are in Kafka", error.mend) from error
            console.print(f"{told.acknowledged:,} events are in Kafka, at {sender.describe()}")
        return not stop.is_set()
