"""The `churnwatch` command: the roles of the service and the tools around it."""

from __future__ import annotations

import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
import yaml

from deploy.bench.cli import bench_app
from deploy.commands.rates import rates_app
from deploy.config_cli import Assignments, ConfigFile, config_app, overrides_of
from deploy.demo.cli import demo
from deploy.dlq.cli import dlq_app
from deploy.examples.cli import examples_app
from deploy.feedback_cli import feedback_app
from deploy.kafka_cli import kafka_app
from deploy.kpi.cli import kpi
from deploy.rebuild.cli import rebuild
from deploy.replay.cli import replay_app
from deploy.simulate.cli import simulate
from deploy.snapshot.cli import snapshot_app
from deploy.topics_cli import topics_app
from deploy.verify.cli import verify
from stream_app.exits import ConfigError, Exit, ServiceExit
from stream_app.kafka_connection import secret_values
from stream_app.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_app.settings import Settings

HELP = """Which account is slipping away today, and why.

churnwatch reads product usage, support tickets and payments from Kafka, keeps a health score for every account up to
date as the events come in, and opens an alert when an account has been at risk for long enough. Scores and alerts go to
Kafka topics; a silent account loses score by itself.

**A first look**, on a laptop with Java 17 and no Docker: `churnwatch demo`, or step by step

    churnwatch kafka start               # a real broker on 127.0.0.1:29092
    churnwatch topics apply              # the topics
    CHURNWATCH_CLOCK=log churnwatch worker &
    churnwatch replay ravenstack --speed max
    churnwatch state ACCOUNT             # one account: score, reasons, alert

**With your own cluster**: set `KAFKA_BOOTSTRAP`, and `KAFKA_SECURITY_PROTOCOL` with what goes with it.

**Settings** come from a YAML file (`CHURNWATCH_CONFIG`), the environment (`CHURNWATCH_APP_ID`, `CHURNWATCH_DATA_DIR`,
`CHURNWATCH_TOPIC_PREFIX`, `CHURNWATCH_METRICS_PORT` ...) and the command line, each over the one before;
`churnwatch config default` prints them all.

**Exit codes**: 0 clean, 2 configuration, 3 broker or topics, 4 state must be rebuilt, 5 restart me, 1 anything else.
"""

app = typer.Typer(
    name="churnwatch",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # Its tracebacks are pages long, and could show what local variables hold.
    pretty_exceptions_enable=False,
)
app.add_typer(config_app, name="config")
app.add_typer(kafka_app, name="kafka")
app.add_typer(topics_app, name="topics")
app.add_typer(replay_app, name="replay")
app.add_typer(dlq_app, name="dlq")
app.add_typer(feedback_app, name="feedback")
app.add_typer(bench_app, name="bench")
app.add_typer(snapshot_app, name="snapshot")
app.add_typer(examples_app, name="examples")
app.add_typer(rates_app, name="rates")
app.command()(demo)
app.command()(kpi)
app.command()(verify)
app.command()(rebuild)
app.command()(simulate)


def _option(flag: str, variable: str, text: str) -> typer.models.OptionInfo:
    made: typer.models.OptionInfo = typer.Option(flag, help=f"{text} [env: {variable}]")
    return made


Bootstrap = Annotated[str | None, _option("--bootstrap", "KAFKA_BOOTSTRAP", "Brokers, host:port[,host:port].")]
AppId = Annotated[str | None, _option("--app-id", "CHURNWATCH_APP_ID", "Names this installation.")]
TopicPrefix = Annotated[str | None, _option("--topic-prefix", "CHURNWATCH_TOPIC_PREFIX", "Goes before every topic.")]
_USERS_SHOWN = 20
"""Users of an account that `state` prints for a person."""

DataDir = Annotated[Path | None, _option("--data-dir", "CHURNWATCH_DATA_DIR", "Local copy of the state.")]
InstanceId = Annotated[str | None, _option("--instance-id", "CHURNWATCH_INSTANCE_ID", "Static membership.")]
MetricsHost = Annotated[str | None, _option("--metrics-host", "CHURNWATCH_METRICS_HOST", "Address of the probes.")]
MetricsPort = Annotated[int | None, _option("--metrics-port", "CHURNWATCH_METRICS_PORT", "0 takes a free one.")]
ClockChoice = Annotated[str | None, _option("--clock", "CHURNWATCH_CLOCK", "`wall`, or `log` to replay the past.")]
LogLevel = Annotated[str | None, _option("--log-level", "CHURNWATCH_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR.")]


@app.command()
def worker(
    *,
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    app_id: AppId = None,
    topic_prefix: TopicPrefix = None,
    data_dir: DataDir = None,
    instance_id: InstanceId = None,
    metrics_host: MetricsHost = None,
    metrics_port: MetricsPort = None,
    clock: ClockChoice = None,
    log_level: LogLevel = None,
    assignments: Assignments = None,
) -> None:
    """Run a scoring worker until SIGTERM or SIGINT.

    Start as many as there are partitions: they share the accounts. Each needs a data directory of its own. Logs are
    JSON lines on stderr; `/metrics`, `/livez`, `/readyz`, `/startupz` and `/status` are on the metrics port.
    """
    options = {
        "kafka_bootstrap": bootstrap,
        "app_id": app_id,
        "topic_prefix": topic_prefix,
        "data_dir": str(data_dir) if data_dir else None,
        "instance_id": instance_id,
        "metrics_host": metrics_host,
        "metrics_port": metrics_port,
        "clock": clock,
        "log_level": log_level,
    }
    _run_role(lambda: load_settings(config, overrides_of(assignments, options)), _worker)


@app.command()
def state(
    account: Annotated[str, typer.Argument(help="Account id: the key of its events.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    app_id: AppId = None,
    topic_prefix: TopicPrefix = None,
    assignments: Assignments = None,
) -> None:
    """Print what is kept of one account: its score and why, its measures, its alert. Exit code 1 if it is not known."""
    from stream_app.state_reader import read_account  # noqa: PLC0415 - it brings the Kafka client along

    # The command's own line is the only word about a failure, not the client's pages of it.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    options = {"kafka_bootstrap": bootstrap, "app_id": app_id, "topic_prefix": topic_prefix}
    found = read_account(load_settings(config, overrides_of(assignments, options)), account)
    if found is None:
        raise ServiceExit(Exit.OTHER, f"nothing is kept of an account {account!r}", "account ids are case-sensitive")
    if others := found.get("also_in_partitions"):
        where = ", ".join(map(str, others))
        typer.echo(
            f"warning: partition {where} has events of this account too, and a state of its own; "
            "its producers must all choose the partition by the same rule",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, allow_nan=False))
    else:
        if len(users := found["state"]["user_days"]) > _USERS_SHOWN:
            found["state"]["user_days"] = f"{len(users)} users; --json prints each"
        typer.echo(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), nl=False)


def _version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"churnwatch {version('churnwatch')}")
        raise typer.Exit


@app.callback()
def churnwatch(
    *,
    show_version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the release and exit.")] = False,
) -> None:
    """Options of every command; the help is the application's."""


def main() -> NoReturn:
    """Run the command; a known error is one line on stderr and its exit code, never a traceback."""
    try:
        app()
    except ServiceExit as error:
        for line in _plain_lines(error):
            typer.echo(line, err=True)
        sys.exit(int(error.exit_code))
    raise AssertionError  # typer ends the process


def _worker(settings: Settings) -> int:
    from stream_app.app import run_worker  # noqa: PLC0415 - Faust takes half a second to import

    return run_worker(settings)


def _run_role(load: Callable[[], Settings], run: Callable[[Settings], int]) -> NoReturn:
    """Run a role and end with its code; an error that ends it is a JSON line like its others, for a person plain text."""
    from stream_app.logs import configure_logging  # noqa: PLC0415 - tools log nothing

    try:
        settings = load()
        configure_logging(settings.log_level, secret_values(settings))
        code = run(settings)
    except ServiceExit as error:
        if sys.stderr.isatty():
            raise
        _log(error)
        code = int(error.exit_code)
    raise typer.Exit(code)


def _log(error: ServiceExit) -> None:
    from stream_app.logs import configure_logging, get_logger, is_configured  # noqa: PLC0415

    if not is_configured():
        configure_logging()
    log = get_logger(__name__)
    code = int(error.exit_code)
    if not isinstance(error, ConfigError):
        log.critical(error.message, mend=error.mend, exit_code=code)
        return
    for problem in error.problems:
        log.critical(str(problem), key=problem.key, environment=problem.environment, mend=problem.mend, exit_code=code)


def _plain_lines(error: ServiceExit) -> list[str]:
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        head = f"error: {len(error.problems)} problems in the configuration:"
        return [head, *(f"  - {problem}" for problem in error.problems)]
    return [f"error: {error}"]


if __name__ == "__main__":
    main()
