"""`churnwatch bench`: what the worker can do on this machine, beside the yardsticks."""

from __future__ import annotations

import importlib.util
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from deploy.bench.steps import ALIASES, STEPS, parse_steps
from deploy.kafka import DEFAULT_BOOTSTRAP
from deploy.one_line_errors import one_line_errors
from stream_app.exits import Exit, ServiceExit

bench_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Measure the worker on a real broker, beside other ways to do the job.

    A full benchmark of three runs takes about a quarter of an hour and wants the machine for itself. It starts a broker
    of its own, unless `KAFKA_BOOTSTRAP` names yours, and needs the development tools (`uv sync --all-groups`) and, for
    the Kafka Streams yardstick, a JDK 17 or newer. docs/benchmark.md says what each figure means.
    """,
)

_NEEDED = ("confluent_kafka", "psutil")


def _steps(text: str) -> str:
    try:
        parse_steps(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


@bench_app.command()
def run(
    *,
    runs: Annotated[int, typer.Option(min=1, max=100, help="How often everything is measured.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One run of few events: says that it works, not how fast.")] = False,
    only: Annotated[
        str,
        typer.Option(callback=_steps, help=f"What to measure, with commas: {', '.join((*STEPS, *ALIASES))}."),
    ] = "all",
    out: Annotated[Path, typer.Option(help="Where the results go, as JSON.")] = Path("bench-results.json"),
    work_dir: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Where the broker's and the workers' data go meanwhile: 3 GB. [default: the system's]"
        ),
    ] = None,
) -> None:
    """Measure, show a table, and write bench-results.json."""
    with one_line_errors():
        _require_tools()
        from deploy.bench.running import bench  # noqa: PLC0415 - its libraries are those of development

        signal.signal(signal.SIGTERM, _end)  # what was started is ended on the way out
        bench(
            Console(stderr=True),
            steps=parse_steps(only),
            runs=1 if quick else runs,
            is_quick=quick,
            out=out,
            work_dir=work_dir,
        )


@bench_app.command()
def load(
    *,
    bootstrap: Annotated[
        str, typer.Option(envvar="KAFKA_BOOTSTRAP", help="Address of the cluster, host:port[,host:port].")
    ] = DEFAULT_BOOTSTRAP,
    prefix: Annotated[str, typer.Option(envvar="CHURNWATCH_TOPIC_PREFIX", help="Put before every topic's name.")] = "",
    accounts: Annotated[int, typer.Option(min=1, help="How many accounts.")] = 20_000,
    events: Annotated[int, typer.Option(min=1, help="How many events.")] = 1_000_000,
    even: Annotated[bool, typer.Option("--even", help="Touch every account equally often, instead of by Zipf's law.")] = False,
) -> None:
    """Only put the benchmark's load on the input topics (`churnwatch topics apply` makes them) and say how long that took."""
    with one_line_errors():
        _require_tools()
        from deploy.bench.cluster import Cluster  # noqa: PLC0415 - its libraries are those of development
        from deploy.bench.load import Load  # noqa: PLC0415
        from deploy.bench.measuring import CLOCK  # noqa: PLC0415

        began = time.monotonic()
        made = Load(events, accounts, CLOCK.now_us(), is_even=even)
        Cluster(bootstrap, None).send(prefix, made, lambda _: None)
    typer.echo(f"{events:,} events of {made.plan.accounts_touched:,} accounts sent in {time.monotonic() - began:.1f} s")


def _require_tools() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        message = f"the benchmark needs {' and '.join(missing)}, which the service does not"
        raise ServiceExit(Exit.OTHER, message, "install the development tools: uv sync --all-groups")


def _end(_number: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)
