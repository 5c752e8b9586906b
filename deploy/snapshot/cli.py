"""`churnwatch snapshot`: the state of an installation in one file, and back."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deploy.config_cli import Assignments, ConfigFile
from deploy.one_line_errors import one_line_errors
from deploy.rebuild.cli import AppId, AsJson, Bootstrap, TopicPrefix, Yes, confirm, opened, progress
from stream_app.clock import WallClock
from stream_app.exits import Exit, ServiceExit

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.snapshot.format import Snapshot

snapshot_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Keep the state of an installation in a file, for histories that are longer than the inputs' retention.

    A snapshot holds the state of every account as the changelog has it, how far each input is in it, and the latest alert of each
    account. It is a gzip'd file of JSON lines, sealed with its SHA-256. It holds what is known of accounts: keep it as you keep that.

        churnwatch snapshot export state-2026-11-22.jsonl.gz      # any time, beside the workers too
        churnwatch snapshot show state-2026-11-22.jsonl.gz
        churnwatch snapshot import state-2026-11-22.jsonl.gz      # where there is no state

    Where the inputs still hold what came after it, and alerts of that were said already, use
    `churnwatch rebuild --from-snapshot FILE` instead of `import`.
    """,
)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="The snapshot.")]


@snapshot_app.command("export")
def export_command(
    file: _File,
    *,
    as_json: AsJson = False,
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    app_id: AppId = None,
    topic_prefix: TopicPrefix = None,
    assignments: Assignments = None,
) -> None:
    """Write a snapshot; workers may run meanwhile. A file that is there is never overwritten.

    Of each partition it is a state that the workers committed as a whole, with the cursor that belongs to it. Keeps the state of one
    partition in memory.
    """
    from deploy.snapshot.exporting import Export  # noqa: PLC0415 - it brings the Kafka client and numpy along

    with one_line_errors():
        settings = opened(config, assignments, bootstrap, app_id, topic_prefix)
        with _progress() as tell:
            export = Export(settings, WallClock(), lambda done, total: tell("exporting", done, total))
            footer = export.run(file)
    sums = footer.partitions
    told = {
        "file": str(file),
        "bytes": file.stat().st_size,
        "partitions": len(sums),
        "accounts": sum(each.accounts for each in sums),
        "records": sum(each.state for each in sums),
        "alerts": sum(each.alerts for each in sums),
        "alerts_missing": export.alerts_missing,
    }
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(
        f"{file}: {told['accounts']:,} accounts, {told['records']:,} records of {told['partitions']} partitions, {told['bytes']:,} bytes"
    )
    if export.alerts_missing:
        typer.echo(f"{export.alerts_missing} alerts are in no topic as the state counts them, and are not in it", err=True)


@snapshot_app.command("show")
def show_command(file: _File, *, as_json: AsJson = False) -> None:
    """Read a snapshot to its end, and say what is in it; exit code 2 when it is damaged or written by a newer release."""
    from deploy.snapshot.format import open_snapshot  # noqa: PLC0415 - numpy

    with one_line_errors():
        with _progress() as tell:
            snapshot = open_snapshot(file, lambda count: tell("checking", count, 0))
        if as_json:
            typer.echo(json.dumps(snapshot.as_json()))
        else:
            for line in _lines(snapshot):
                typer.echo(line)


@snapshot_app.command("import")
def import_command(
    file: _File,
    *,
    at_beginning: Annotated[
        bool, typer.Option("--at-beginning", help="Inputs that are other topics now hold what came after the snapshot, and nothing else.")
    ] = False,
    at_end: Annotated[bool, typer.Option("--at-end", help="Whatever inputs that are other topics now hold is in the snapshot.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    app_id: AppId = None,
    topic_prefix: TopicPrefix = None,
    assignments: Assignments = None,
) -> None:
    """Put a snapshot into an installation that has no state and whose workers are stopped.

    The file is read to its end and checked before anything is changed. Where the inputs are the topics that it was made from (by
    their ids), workers go on from its cursors. Where they are others, offsets mean nothing, and you have to say what they hold.

    It is refused when the outputs have said what the snapshot does not know yet: `churnwatch rebuild --from-snapshot` is for that.
    It can be killed at any moment, and run again; until it is done no worker starts.
    """
    from deploy.snapshot.format import open_snapshot  # noqa: PLC0415 - they bring the Kafka clients and numpy along
    from deploy.snapshot.importing import Import  # noqa: PLC0415
    from deploy.snapshot.placing import Elsewhere  # noqa: PLC0415

    with one_line_errors():
        if at_beginning and at_end:
            raise ServiceExit(Exit.CONFIGURATION, "--at-beginning and --at-end contradict each other", "give one of them")
        settings = opened(config, assignments, bootstrap, app_id, topic_prefix)
        elsewhere = Elsewhere.BEGINNING if at_beginning else Elsewhere.END if at_end else None
        with _progress() as tell:
            snapshot = open_snapshot(file, lambda count: tell("checking", count, 0))
            work = Import(settings, WallClock(), snapshot, elsewhere, tell)
            work.prepare()
        if not yes:
            for line in _lines(snapshot):
                typer.echo(line, err=True)
            confirm(f"Import it into {settings.app_id}?")
        with _progress() as tell:
            work.tell = tell
            imported = work.install()
    if as_json:
        typer.echo(json.dumps(asdict(imported)))
        return
    typer.echo(f"imported {imported.accounts:,} accounts, {imported.records:,} records")
    typer.echo(f"published: {imported.scores:,} scores, the states of {imported.alert_states:,} alerts")
    typer.echo("start the workers, then: churnwatch verify")


def _progress() -> AbstractContextManager[Callable[[str, int, int], None]]:
    return progress(Console(stderr=True))


def _lines(snapshot: Snapshot) -> list[str]:
    header, sums = snapshot.header, snapshot.footer.partitions
    lines = [
        f"{snapshot.path}: whole, sha256 {snapshot.sha256}",
        f"made {header.created_at} by release {header.release} of {header.app_id!r}, topic prefix {header.topic_prefix!r}",
        f"format {header.version}, rows {header.row_version}, cursor {header.cursor_version}, configuration {header.config_version}",
        f"{sum(each.accounts for each in sums):,} accounts, {sum(each.alerts for each in sums):,} with alerts, in {len(sums)} partitions",
    ]
    for each in sums:
        places = ", ".join(f"{topic} {offset}" for topic, offset in each.offsets.items()) or "nothing folded"
        lines.append(f"  {each.number}: {each.accounts:,} accounts, {each.state:,} records; {places}")
    return lines
