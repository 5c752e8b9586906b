"""`churnwatch rebuild`: the state made anew from the inputs."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.config_cli import Assignments, ConfigFile, overrides_of
from stream_app.clock import WallClock
from stream_app.exits import Exit, ServiceExit
from stream_app.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deploy.rebuild.plan import Plan
    from deploy.rebuild.run import Base
    from stream_app.topics import Log

Bootstrap = Annotated[str | None, typer.Option(help="Brokers, host:port[,host:port]. [env: KAFKA_BOOTSTRAP]")]
AppId = Annotated[str | None, typer.Option(help="Names this installation. [env: CHURNWATCH_APP_ID]")]
TopicPrefix = Annotated[str | None, typer.Option(help="Goes before every topic. [env: CHURNWATCH_TOPIC_PREFIX]")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_LINES_EVERY: Final = 20
"""Without a terminal a step of work is told in so many lines."""


def rebuild(
    *,
    from_snapshot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Begin with this snapshot, and fold what the inputs hold after it.")
    ] = None,
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Go on where records between the snapshot and the logs' beginning are lost.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    app_id: AppId = None,
    topic_prefix: TopicPrefix = None,
    assignments: Assignments = None,
) -> None:
    """Make the state of every account anew from the inputs: for a worker that ends with exit code 4.

    Folds every input from its beginning, up to where it was read before, and writes a new changelog. Stop every worker first.

    **Nothing is said twice.** What was folded before is folded quietly; alerts keep the episode, the sequence and the severity that were
    said, and only what is different at the end is said, as news. Records that nobody has folded yet are left to the workers.

    **What is lost** is what no input holds any more: `--dry-run` says from where each is folded. Where the inputs no longer reach back,
    begin with a snapshot (`churnwatch snapshot export`).

    **It can be killed at any moment**, and run again. The old changelog stays until the whole new state is in memory (about as much as a
    worker with all partitions needs); after that no worker starts before a rebuild has come to its end.

    Give it the configuration of the workers. **Exit codes**: 0 done; 1 workers are running, or you did not want it; 2 configuration; 3 the
    broker has no answer, or a topic is missing; 5 a worker was started meanwhile.

        churnwatch rebuild --dry-run
        churnwatch rebuild --yes
        churnwatch verify
    """
    from deploy.rebuild.run import Rebuild, refuse_gaps  # noqa: PLC0415 - it brings the Kafka clients and numpy along

    settings = opened(config, assignments, bootstrap, app_id, topic_prefix)
    with progress(Console(stderr=True)) as tell:
        base = None if from_snapshot is None else _base(settings, from_snapshot, tell)
        work = Rebuild(settings, WallClock(), tell, base, None if from_snapshot is None else str(from_snapshot))
        plan = work.prepare(is_dry=dry_run)
    if dry_run:
        _print_plan(plan, as_json=as_json)
        return
    refuse_gaps(plan, is_gap_accepted=accept_gap)
    if not yes:
        for line in plan.lines():
            typer.echo(line, err=True)
        confirm("Make the state anew?")
    with progress(Console(stderr=True)) as tell:
        work.tell = tell
        work.fold()
        rebuilt = work.install()
    if as_json:
        typer.echo(json.dumps({"plan": plan.as_json(), "rebuilt": asdict(rebuilt)}))
        return
    typer.echo(f"rebuilt {rebuilt.accounts:,} accounts from {plan.records:,} offsets; {rebuilt.records:,} records in the new changelog")
    typer.echo(f"said anew: {rebuilt.alerts} alert events; {rebuilt.dead_letters} dead letters")
    typer.echo("start the workers, then: churnwatch verify")


def _base(settings: Settings, file: Path, tell: Callable[[str, int, int], None]) -> Callable[[Mapping[str, Log]], Base]:
    """Check a snapshot, and return what gives its partitions once the topics are known."""
    from deploy.snapshot.format import open_snapshot  # noqa: PLC0415 - numpy
    from deploy.snapshot.importing import base_of  # noqa: PLC0415

    snapshot = open_snapshot(file, lambda count: tell("checking the snapshot", count, 0))
    return lambda logs: base_of(settings, snapshot, logs)


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(plan.as_json()))
        return
    for line in plan.lines():
        typer.echo(line)
    typer.echo("nothing was changed")


def opened(
    config: Path | None, assignments: list[str] | None, bootstrap: str | None, app_id: str | None, topic_prefix: str | None
) -> Settings:
    """Return the settings in effect, and let the clients be silent: the command's own line is the only word about a failure."""
    for client in ("kafka", "aiokafka"):
        logging.getLogger(client).setLevel(logging.CRITICAL)
    return load_settings(config, overrides_of(assignments, {"kafka_bootstrap": bootstrap, "app_id": app_id, "topic_prefix": topic_prefix}))


def confirm(question: str) -> None:
    """Ask a person; raises ServiceExit when there is none, or when the answer is no."""
    if not sys.stdin.isatty():
        raise ServiceExit(Exit.CONFIGURATION, "nobody is there to be asked", "say --yes")
    if not typer.confirm(question, err=True):
        raise ServiceExit(Exit.OTHER, "nothing was changed")


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what shows how far a step is: a bar on a terminal, else a line now and then; a total of 0 is not known."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        told: dict[str, int] = {}

        def tell(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total or None)
            if not console.is_terminal and total and done * _LINES_EVERY // total > told.get(step, 0):
                told[step] = done * _LINES_EVERY // total
                console.print(f"{step}: {done:,} of {total:,}", highlight=False, soft_wrap=True)

        yield tell
