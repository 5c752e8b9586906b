"""`churnwatch rates`: say what a currency is worth from a day on, and see which rates there are."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.commands.broadcast import broadcast, read_commands
from deploy.config_cli import Assignments, ConfigFile, overrides_of
from deploy.one_line_errors import one_line_errors
from models.commands import Commands
from models.times import format_us
from stream_app.clock import WallClock
from stream_app.exits import Exit, ServiceExit
from stream_app.rates import rates_of
from stream_app.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.kpi.rates import Rate

rates_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Set exchange rates, and see which there are.

    A rate is what one whole unit of a currency is worth in the reporting currency (`revenue.reporting_currency`), from a day on and
    until the next one. It takes the place of the rate of that day in `revenue.rates_file`, and of one that was set before. Workers
    make the figures of the portfolio anew; what rates alone did to MRR is the movement `fx`.

        churnwatch rates set 2026-11-01 EUR 1.0850
        churnwatch rates show
    """,
)

_Bootstrap = Annotated[str | None, typer.Option(help="Brokers, host:port[,host:port]. [env: KAFKA_BOOTSTRAP]")]
_AppId = Annotated[str | None, typer.Option(help="Names this installation. [env: CHURNWATCH_APP_ID]")]
_Prefix = Annotated[str | None, typer.Option(help="Put before every topic's name. [env: CHURNWATCH_TOPIC_PREFIX]")]


@rates_app.command("set")
def set_rate(
    day: Annotated[str, typer.Argument(metavar="DAY", help="The first day that it counts on, in UTC: 2026-11-01. It may be over.")],
    currency: Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO 4217, as in EUR.")],
    rate: Annotated[str, typer.Argument(metavar="RATE", help="What one of it is worth, as in 1.0850.")],
    *,
    into: Annotated[str | None, typer.Option(help="The currency that it leads into. [default: revenue.reporting_currency]")] = None,
    bootstrap: _Bootstrap = None,
    app_id: _AppId = None,
    topic_prefix: _Prefix = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Set a rate for all accounts: one record in every partition of `account-commands`, in one transaction.

    churnwatch rates set 2026-11-01 EUR 1.0850
    """
    _be_quiet()
    with one_line_errors():
        options = {"kafka_bootstrap": bootstrap, "app_id": app_id, "topic_prefix": topic_prefix}
        settings = load_settings(config, overrides_of(assignments, options))
        reporting = settings.revenue.reporting_currency
        currency, target = currency.upper(), into.upper() if into else reporting
        if target is None:
            raise ServiceExit(
                Exit.CONFIGURATION, "which currency does it lead into?", "set revenue.reporting_currency, or give --into, as in --into USD"
            )
        data = {"day": day, "currency": currency, "into": target, "rate": rate}
        sent = broadcast(settings, "exchange_rate.set", data, WallClock().now_us())
    typer.echo(f"from {day} on 1 {currency} is {rate} {target}: written to {sent.partitions} partitions, id {sent.event_id}")
    if target != reporting:
        typer.echo(f"warning: the figures are in {reporting or 'the own currency of each amount'}, so it is kept and not used", err=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """One rate in effect, and where it is from: `file`, or `set` with the time of that."""

    currency: str
    into: str
    day: str
    rate: str
    origin: str
    set_at: str | None = None


def shown(rows: tuple[Rate, ...], reporting: str | None, commands: Commands) -> list[Shown]:
    """List the rates in effect, by currency and day: those that were set take the place of the file's."""
    told = [
        Shown(currency, into, day.isoformat(), last.value, "set", format_us(last.at)) for currency, into, day, last in commands.all_rates()
    ]
    taken = {(each.currency, each.into, each.day) for each in told}
    told += [
        Shown(row.currency, reporting, row.day.isoformat(), format(Decimal(row.rate.numerator) / row.rate.denominator, "f"), "file")
        for row in rows
        if reporting is not None and (row.currency, reporting, row.day.isoformat()) not in taken
    ]
    return sorted(told, key=lambda each: (each.currency, each.into, each.day))


def incomplete(by_partition: Mapping[int, Commands]) -> list[int]:
    """Return the partitions whose log does not say what the others say."""
    everything = Commands()
    for commands in by_partition.values():
        everything.merge(commands)
    whole = list(everything.all_rates())
    return [number for number, commands in by_partition.items() if list(commands.all_rates()) != whole]


@rates_app.command()
def show(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a rate.")] = False,
    bootstrap: _Bootstrap = None,
    app_id: _AppId = None,
    topic_prefix: _Prefix = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Print the rates in effect: those that were set, and those of `revenue.rates_file`.

    Ends with 1, and says so, when some partitions lack what others have: set these rates again.
    """
    _be_quiet()
    with one_line_errors():
        options = {"kafka_bootstrap": bootstrap, "app_id": app_id, "topic_prefix": topic_prefix}
        settings = load_settings(config, overrides_of(assignments, options))
        rows = rates_of(settings.revenue)
        by_partition = read_commands(settings)
    everything = Commands()
    for commands in by_partition.values():
        everything.merge(commands)
    rates = shown(rows, settings.revenue.reporting_currency, everything)
    if as_json:
        for each in rates:
            typer.echo(json.dumps(asdict(each)))
    elif rates:
        table = Table("day", "currency", "rate", "into", "from", box=None)
        for each in rates:
            origin = "file" if each.set_at is None else f"set {each.set_at}"
            table.add_row(each.day, each.currency, each.rate, each.into, origin)
        Console().print(table)
    else:
        typer.echo("there are no rates: churnwatch rates set DAY CURRENCY RATE, or revenue.rates_file")
    if lacking := incomplete(by_partition):
        typer.echo(
            f"error: partitions {', '.join(map(str, lacking))} of account-commands do not say what the others say: set these rates again",
            err=True,
        )
        raise typer.Exit(Exit.OTHER)


def _be_quiet() -> None:
    """Leave what goes wrong to one line: the clients write pages."""
    for client in ("kafka", "aiokafka"):
        logging.getLogger(client).setLevel(logging.CRITICAL)
