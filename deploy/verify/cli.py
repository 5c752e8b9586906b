"""`churnwatch verify`: whether what an installation keeps and has said follows from its inputs."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.config_cli import Assignments, ConfigFile, overrides_of
from stream_app.exits import Exit, ServiceExit
from stream_app.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def verify(
    *,
    partition: Annotated[
        list[int] | None, typer.Option(metavar="NUMBER", help="Only this partition; as often as needed. [default: all]")
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this account; its inputs are read all the same, tallies are not judged.")
    ] = None,
    drained: Annotated[
        bool, typer.Option("--drained", help="Records that are not folded yet count as differences: for after the workers caught up.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    config: ConfigFile = None,
    bootstrap: Annotated[str | None, typer.Option(help="Brokers, host:port[,host:port]. [env: KAFKA_BOOTSTRAP]")] = None,
    app_id: Annotated[str | None, typer.Option(help="Names this installation. [env: CHURNWATCH_APP_ID]")] = None,
    topic_prefix: Annotated[str | None, typer.Option(help="Goes before every topic. [env: CHURNWATCH_TOPIC_PREFIX]")] = None,
    assignments: Assignments = None,
) -> None:
    """Hold everything that the workers have written against the inputs, with a second, naive implementation.

    Reads the state, the inputs exactly as far as the state has them, the scores, the alerts and the dead letters, and says of each check
    how much was judged, how much differs, and how much nobody can tell of. Nothing is written and no consumer group joined, so it can run
    at any time, beside the workers too: what they write meanwhile is left out.

    Give it the configuration of the workers: scores of another one are not judged. Where an input's retention has passed, it says so,
    counts what can no longer be judged, and from which day on it still compares uses.

    It keeps every event of one partition in memory, and reads some thousands of records in a second. `--partition` and `--account`
    narrow it.

    **Exit codes**: 0 nothing differs; 1 something differs, the first 20 differences are printed; 2 configuration; 3 the broker has no
    answer or a topic is missing.

        churnwatch verify                       # a running installation
        churnwatch verify --drained --json      # after the workers have caught up and were stopped
        churnwatch verify --account acme        # is this one right?
    """
    from deploy.verify import run  # noqa: PLC0415 - it brings the Kafka client and numpy along

    # The command's own line is the only word about a failure, not the client's pages of it.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    options = {"kafka_bootstrap": bootstrap, "app_id": app_id, "topic_prefix": topic_prefix}
    settings = load_settings(config, overrides_of(assignments, options))
    with _progress(Console(stderr=True)) as tell:
        report = run.verify(settings, is_drained=drained, partitions=partition or (), account=account, tell=tell)
    if account is not None and not report.accounts and not report.read.total():
        raise ServiceExit(Exit.OTHER, f"there is nothing of an account {account!r}", "account ids are case-sensitive")
    typer.echo(json.dumps(report.as_json(), ensure_ascii=False) if as_json else str(report))
    if not report.is_right:
        raise typer.Exit(Exit.OTHER)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows how far the reading is: a bar on a terminal, else nothing."""
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TextColumn("offsets"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda passed, total: bar.update(task, completed=passed, total=total or None)
