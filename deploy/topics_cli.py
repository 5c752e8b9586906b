"""`churnwatch topics`: the topics on the cluster, created and held against the inventory."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.config_cli import Assignments, ConfigFile, overrides_of
from deploy.one_line_errors import one_line_errors
from stream_app.admin import TIMEOUT_SECONDS, Change, Inspection, Mismatch, Severity, apply_topics, inspect_topics
from stream_app.exits import Exit
from stream_app.kafka_connection import client_kwargs
from stream_app.settings import load_settings
from stream_app.topics import Installation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from stream_app.settings import Settings

_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow"}

topics_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Create the topics churnwatch needs, and check that they are as they must be.

    The worker makes none itself and refuses to start on topics that would lose records or part an account from its
    state. `apply` is safe to run again and again: it creates what is missing and sets what differs, and never deletes,
    shortens or narrows anything.

    The cluster is `KAFKA_BOOTSTRAP`, with the security settings that the worker has; without any, it is the local
    broker of `churnwatch kafka start`.
    """,
)

_Bootstrap = Annotated[
    str | None,
    typer.Option(help="Brokers, host:port[,host:port]. [env: KAFKA_BOOTSTRAP] [default: 127.0.0.1:29092]"),
]
_Prefix = Annotated[
    str | None,
    typer.Option(help="Put before every topic's name: PREFIX.usage-events. [env: CHURNWATCH_TOPIC_PREFIX]"),
]
_AppId = Annotated[
    str | None,
    typer.Option(help="Names this installation; its changelog begins with it. [env: CHURNWATCH_APP_ID]"),
]
_Partitions = Annotated[
    int | None,
    typer.Option(
        help="Partitions of every topic keyed by account: the most workers that can share the load. Cannot be changed "
        "once there are records. [env: CHURNWATCH_PARTITIONS] [default: what the inputs have, else 4]",
    ),
]
_Replication = Annotated[
    int | None,
    typer.Option(
        help="Copies of each partition. [env: CHURNWATCH_REPLICATION] [default: 3, or the number of brokers when that is less]",
    ),
]
_Timeout = Annotated[float, typer.Option("--timeout-seconds", help="How long to try to reach the cluster.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@topics_app.command()
def apply(
    *,
    bootstrap: _Bootstrap = None,
    topic_prefix: _Prefix = None,
    app_id: _AppId = None,
    partitions: _Partitions = None,
    replication: _Replication = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    timeout_seconds: _Timeout = TIMEOUT_SECONDS,
    as_json: _AsJson = False,
) -> None:
    """Create what is missing, set what differs, and say each change; exit code 3 when an error is left."""
    with one_line_errors(), _quiet_client():
        settings = _settings(config, assignments, bootstrap, topic_prefix, app_id, partitions, replication)
        changes = apply_topics(
            settings.kafka_bootstrap,
            _installation(settings),
            timeout_seconds=timeout_seconds,
            client_options=client_kwargs(settings),
        )
        seen = _inspect(settings, timeout_seconds)
    if as_json:
        _print_json(seen, changes)
    else:
        for change in changes:
            typer.echo(f"{change.action} {change.topic}: {change.detail}")
        typer.echo(f"{len(changes)} change(s) to {len(seen.specs)} topics on {settings.kafka_bootstrap}")
        _print_mismatches(seen.mismatches)
    _exit_on_errors(seen.mismatches)


@topics_app.command()
def check(
    *,
    bootstrap: _Bootstrap = None,
    topic_prefix: _Prefix = None,
    app_id: _AppId = None,
    partitions: _Partitions = None,
    replication: _Replication = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    timeout_seconds: _Timeout = TIMEOUT_SECONDS,
    as_json: _AsJson = False,
) -> None:
    """Show every topic and what mends each mismatch; exit code 3 when one of them would stop a worker."""
    with one_line_errors(), _quiet_client():
        settings = _settings(config, assignments, bootstrap, topic_prefix, app_id, partitions, replication)
        seen = _inspect(settings, timeout_seconds)
    if as_json:
        _print_json(seen)
    else:
        Console().print(_table(seen))
        _print_mismatches(seen.mismatches)
    _exit_on_errors(seen.mismatches)


def _settings(
    config: Path | None,
    assignments: list[str] | None,
    bootstrap: str | None,
    topic_prefix: str | None,
    app_id: str | None,
    partitions: int | None,
    replication: int | None,
) -> Settings:
    options = {
        "kafka_bootstrap": bootstrap,
        "topic_prefix": topic_prefix,
        "app_id": app_id,
        "partitions": partitions,
        "replication": replication,
    }
    return load_settings(config, overrides_of(assignments, options))


def _installation(settings: Settings) -> Installation:
    return Installation(settings.topic_prefix, settings.app_id, settings.partitions, settings.replication)


def _inspect(settings: Settings, timeout_seconds: float) -> Inspection:
    return inspect_topics(
        settings.kafka_bootstrap,
        _installation(settings),
        timeout_seconds=timeout_seconds,
        client_options=client_kwargs(settings),
    )


@contextlib.contextmanager
def _quiet_client() -> Iterator[None]:
    """Let the command's own line be the only word about a failure, not kafka-python's pages of it."""
    logger = logging.getLogger("kafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _table(seen: Inspection) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("topic", "way", "parts", "copies", "cleanup", "kept", "state"):
        table.add_column(heading, overflow="fold")
    for name, spec in seen.specs.items():
        worst = next((mismatch.severity for mismatch in seen.mismatches if mismatch.topic == name), None)
        state = seen.states.get(name)
        if state is None:
            table.add_row(name, spec.direction, "", "", "", "", "missing", style="red")
            continue
        settings = state.settings or {}
        table.add_row(
            name,
            spec.direction,
            str(state.partitions),
            str(state.replication),
            settings.get("cleanup.policy", "hidden"),
            _days(settings.get("retention.ms")) if spec.retention_ms is not None else "",
            worst or "ok",
            style=None if worst is None else _STYLES[worst],
        )
    return table


def _days(retention_ms: str | None) -> str:
    if retention_ms is None:
        return "hidden"
    return "for ever" if retention_ms == "-1" else f"{int(retention_ms) / 86_400_000:g} days"


def _print_mismatches(mismatches: Iterable[Mismatch]) -> None:
    for mismatch in mismatches:
        typer.echo(f"{mismatch.severity}: {mismatch}", err=True)


def _print_json(seen: Inspection, changes: Iterable[Change] | None = None) -> None:
    document: dict[str, object] = {
        "ok": not any(mismatch.is_error for mismatch in seen.mismatches),
        "partitions": seen.partitions,
        "replication": seen.replication,
        "topics": {
            name: {
                "direction": spec.direction,
                "exists": name in seen.states,
                "partitions": seen.states[name].partitions if name in seen.states else None,
                "replication": seen.states[name].replication if name in seen.states else None,
            }
            for name, spec in seen.specs.items()
        },
        "mismatches": [dataclasses.asdict(mismatch) for mismatch in seen.mismatches],
    }
    if changes is not None:
        document["changes"] = [dataclasses.asdict(change) for change in changes]
    typer.echo(json.dumps(document, indent=2))


def _exit_on_errors(mismatches: Iterable[Mismatch]) -> None:
    if any(mismatch.is_error for mismatch in mismatches):
        raise typer.Exit(Exit.BROKER)


if __name__ == "__main__":
    topics_app()
