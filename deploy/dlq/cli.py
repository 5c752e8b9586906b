"""`churnwatch dlq`: see which records could not be used and why, and send them again once they can be."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from alerts.rules import parse_duration
from deploy.config_cli import Assignments, ConfigFile, overrides_of
from deploy.dlq.letters import REPLAYS_MAX, Letter, Plan, Selection, Standing, plan, standing
from deploy.dlq.reading import Reader, reading
from deploy.dlq.showing import group_json, group_table, grouped, item_json, item_lines, letter_json, letter_lines, letter_table
from deploy.one_line_errors import one_line_errors
from deploy.replay.cli import INTERRUPTED, stop_signal
from models.reasons import Reason
from models.times import MILLISECOND_US, parse_us
from stream_app.clock import WallClock
from stream_app.exits import Exit, ServiceExit
from stream_app.settings import Settings, load_settings
from stream_app.topics import TOPICS, topic_name

if TYPE_CHECKING:
    from deploy.dlq.replaying import Outcome

_INPUTS: Final = tuple(spec.name for spec in TOPICS if spec.direction == "in")
_SHOWN_IN_DRY_RUN: Final = 100
_LINE_EVERY_SECONDS: Final = 5.0
_PIPE_WIDTH: Final = 240
"""Columns of a table that nobody's terminal limits: no cell of a usual letter is folded."""

dlq_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help=f"""Look at dead letters, and send their records again.

    A record that cannot be used goes to the topic `dead-letters`, as it was, with the reason. See what there is
    (`list`), look at one (`show`), mend the cause, then send the records again to where they were (`replay`): each
    is sent once, however often `replay` is run, in the order of the log, and says which try it is. One that has come
    back {REPLAYS_MAX} times is parked.

        churnwatch dlq list
        churnwatch dlq list --each --reason future_time --since 2h
        churnwatch dlq show 0/17
        churnwatch dlq replay --reason future_time --dry-run

    A dead letter's time is when the broker received its record.
    """,
)


def _topic(text: str) -> str:
    if text not in _INPUTS:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(_INPUTS)}")
    return text


def _instant_ms(text: str) -> int:
    """Read an RFC 3339 time, a date, or a duration ago; milliseconds since 1970."""
    try:
        return parse_us(text if len(text) > len("2026-11-01") else f"{text}T00:00:00Z") // MILLISECOND_US
    except ValueError:
        pass
    try:
        return (WallClock().now_us() - parse_duration(text)) // MILLISECOND_US
    except ValueError as error:
        message = f"{text!r} is neither RFC 3339 (2026-11-01T09:00:00Z), nor a date, nor a duration ago (30m, 24h, 7d)"
        raise typer.BadParameter(message) from error


_Reasons = Annotated[list[Reason] | None, typer.Option("--reason", help="Only letters with this reason; may be given several times.")]
_Topics = Annotated[
    list[str] | None,
    typer.Option(
        "--topic", callback=lambda names: [_topic(name) for name in names or []], help="Only records of this input, without a prefix."
    ),
]
_Since = Annotated[
    int | None,
    typer.Option("--since", metavar="TIME", parser=_instant_ms, help="Only records received then or later: RFC 3339, a date, or `2h` ago."),
]
_Until = Annotated[int | None, typer.Option("--until", metavar="TIME", parser=_instant_ms, help="Only records received before.")]
_Limit = Annotated[int | None, typer.Option(min=1, help="The earliest so many of these.")]
_Places = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PLACE]...", help="Only these: PARTITION/OFFSET, or TOPIC/PARTITION/OFFSET of the record."),
]
_Bootstrap = Annotated[str | None, typer.Option(help="Brokers, host:port[,host:port]. [env: KAFKA_BOOTSTRAP]")]
_AppId = Annotated[str | None, typer.Option(help="Names this installation. [env: CHURNWATCH_APP_ID]")]
_Prefix = Annotated[str | None, typer.Option(help="Put before every topic's name. [env: CHURNWATCH_TOPIC_PREFIX]")]


@dataclass(frozen=True, slots=True)
class _Cluster:
    """How the command line names the installation."""

    config: Path | None
    assignments: list[str] | None
    bootstrap: str | None
    app_id: str | None
    topic_prefix: str | None

    def settings(self) -> Settings:
        """Return what is in effect; raises ConfigError."""
        options = {"kafka_bootstrap": self.bootstrap, "app_id": self.app_id, "topic_prefix": self.topic_prefix}
        return load_settings(self.config, overrides_of(self.assignments, options))


@contextmanager
def _opened(cluster: _Cluster) -> Iterator[tuple[Settings, Reader]]:
    """Read an installation; what goes wrong is one line and its exit code, not the clients' pages of it."""
    for client in ("kafka", "aiokafka"):
        logging.getLogger(client).setLevel(logging.CRITICAL)
    with one_line_errors():
        settings = cluster.settings()
        with reading(settings) as reader:
            yield settings, reader


def _selection(
    settings: Settings,
    reasons: list[Reason] | None,
    topics: list[str] | None,
    since: int | None,
    until: int | None,
    limit: int | None,
    places: list[str] | None = None,
) -> Selection:
    return Selection(
        frozenset(reason.value for reason in reasons or ()),
        frozenset(topic_name(settings.topic_prefix, topic) for topic in topics or ()),
        frozenset(places or ()),
        since,
        until,
        limit,
    )


@dlq_app.command("list")
def list_letters(
    *,
    each: Annotated[bool, typer.Option("--each", help="Single dead letters instead of counts.")] = False,
    parked: Annotated[bool, typer.Option("--parked", help=f"Only records that came back from {REPLAYS_MAX} replays.")] = False,
    reason: _Reasons = None,
    topic: _Topics = None,
    since: _Since = None,
    until: _Until = None,
    limit: _Limit = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each line.")] = False,
    config: ConfigFile = None,
    bootstrap: _Bootstrap = None,
    app_id: _AppId = None,
    topic_prefix: _Prefix = None,
    assignments: Assignments = None,
) -> None:
    """Count dead letters by topic and reason, or list them one by one.

    *waiting*: a replay would send it; *replayed*: it has been sent; *parked*: its record came back too often; *damaged*: it cannot be
    sent, since not all of the record is kept.
    """
    with _opened(_Cluster(config, assignments, bootstrap, app_id, topic_prefix)) as (settings, reader):
        marks = reader.marks()
        selection = _selection(settings, reason, topic, since, until, limit)
        letters = selection.of(reader.letters(), lambda letter: not parked or standing(letter, marks) is Standing.PARKED)
        if each and as_json:
            for letter in letters:
                typer.echo(letter_json(letter, marks))
        elif each:
            _print(letter_table(letters, marks))
        elif as_json:
            for line in group_json(grouped(letters, marks)):
                typer.echo(line)
        else:
            _print(group_table(grouped(letters, marks)))


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)


@dlq_app.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="PARTITION/OFFSET, or TOPIC/PARTITION/OFFSET of the record.")],
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Write the value's bytes to stdout, and nothing else.")] = False,
    config: ConfigFile = None,
    bootstrap: _Bootstrap = None,
    app_id: _AppId = None,
    topic_prefix: _Prefix = None,
    assignments: Assignments = None,
) -> None:
    """Print everything about one dead letter: where it was, why, its headers, its bytes. Exit code 1 if there is none."""
    with _opened(_Cluster(config, assignments, bootstrap, app_id, topic_prefix)) as (_, reader):
        letter = _found(reader, place)
        if raw:
            sys.stdout.buffer.write(letter.value or b"")
            sys.stdout.buffer.flush()
            return
        for line in letter_lines(letter, reader.marks()):
            typer.echo(line)


def _found(reader: Reader, place: str) -> Letter:
    selection = Selection(places=frozenset({place}))
    letter = next(selection.of(reader.at(place)), None)
    if letter is None:
        raise ServiceExit(Exit.OTHER, f"there is no dead letter {place!r}", "`churnwatch dlq list --each` shows where they are")
    return letter


@dlq_app.command()
def replay(
    places: _Places = None,
    *,
    reason: _Reasons = None,
    topic: _Topics = None,
    since: _Since = None,
    until: _Until = None,
    limit: _Limit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Send parked records, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object; with --dry-run a line for each record.")] = False,
    config: ConfigFile = None,
    bootstrap: _Bootstrap = None,
    app_id: _AppId = None,
    topic_prefix: _Prefix = None,
    assignments: Assignments = None,
) -> None:
    """Send the records of dead letters again to where they were read, each once; without a choice all that wait.

    Key, value and headers are the original ones; the header `x-churnwatch-replay` says which try it is. Running it again
    sends nothing twice, also when it was killed. Exit code 1 when some records could not be sent since they are damaged, 130 when it was
    interrupted.
    """
    from deploy.dlq.replaying import Replay  # noqa: PLC0415 - only this command needs aiokafka, which takes its time

    with _opened(_Cluster(config, assignments, bootstrap, app_id, topic_prefix)) as (settings, reader):
        selection = _selection(settings, reason, topic, since, until, limit, places)
        if dry_run:
            _tell_plan(plan(selection.of(reader.letters()), reader.marks(), is_forced=force), as_json=as_json)
            return
        with stop_signal() as stop, _progress() as tell:
            work = Replay(settings, reader, WallClock(), selection, force, tell, lambda: not stop.is_set())
            outcome = asyncio.run(work.run())
        _tell_outcome(outcome, as_json=as_json)


def _tell_plan(made: Plan, *, as_json: bool) -> None:
    if as_json:
        for item in made.items:
            typer.echo(item_json(item))
        return
    for line in item_lines(made.items, _SHOWN_IN_DRY_RUN):
        typer.echo(line)
    if len(made.items) > _SHOWN_IN_DRY_RUN:
        typer.echo(f"… and {len(made.items) - _SHOWN_IN_DRY_RUN:,} more")
    typer.echo(f"{_records(len(made.items))} would be sent{_left(made)}")
    _tell_damaged(made)


def _tell_outcome(outcome: Outcome, *, as_json: bool) -> None:
    made = outcome.planned
    if as_json:
        left = {each.value: made.left.get(each, 0) for each in Standing if each is not Standing.WAITING}
        typer.echo(json.dumps({"sent": outcome.sent, "planned": len(made.items), "gone": outcome.gone, **left}))
    else:
        gone = f"; {outcome.gone:,} were deleted meanwhile" if outcome.gone else ""
        typer.echo(f"{_records(outcome.sent)} sent{gone}{_left(made)}")
    _tell_damaged(made)
    if outcome.is_stopped:
        typer.echo(f"stopped: {outcome.sent:,} of {len(made.items):,} records are sent; replay again for the rest", err=True)
        raise typer.Exit(INTERRUPTED)
    if made.damaged:
        raise typer.Exit(Exit.OTHER)


def _tell_damaged(made: Plan) -> None:
    for place, damage in made.damaged[:_SHOWN_IN_DRY_RUN]:
        typer.echo(f"error: the record of dead letter {place} cannot be sent: {damage} (send it anew from where it came from)", err=True)
    if len(made.damaged) > _SHOWN_IN_DRY_RUN:
        typer.echo(
            f"error: {len(made.damaged) - _SHOWN_IN_DRY_RUN:,} more cannot be sent (`churnwatch dlq list --each` shows them)", err=True
        )


def _records(count: int) -> str:
    return f"{count:,} {'record' if count == 1 else 'records'}"


def _left(made: Plan) -> str:
    """Say what is left alone, as the end of a sentence."""
    words = {
        Standing.REPLAYED: "replayed before",
        Standing.PARKED: "parked (`--force` sends them)",
        Standing.DAMAGED: "damaged",
    }
    return "".join(f"; {made.left[each]:,} {word}" for each, word in words.items() if made.left.get(each))


@contextmanager
def _progress() -> Iterator[Callable[[Outcome], None]]:
    """Yield what shows progress: a bar on a terminal, else a line every few seconds."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("records"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("reading dead letters", total=None)
        yield lambda outcome: bar.update(task, description="sending", completed=outcome.sent, total=len(outcome.planned.items))


def _lines(console: Console) -> Callable[[Outcome], None]:
    last = time.monotonic()

    def show(outcome: Outcome) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_SECONDS:
            last = time.monotonic()
            console.print(f"{outcome.sent:,} of {len(outcome.planned.items):,} records are sent")

    return show
