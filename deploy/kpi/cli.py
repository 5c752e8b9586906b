"""`churnwatch kpi`: every KPI of a month, what it means, and how it compares."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Annotated, Final

import typer

from deploy.config_cli import Assignments, ConfigFile, overrides_of
from deploy.kpi.groups import Group
from stream_app.settings import load_settings

MONTHS_MOST: Final = 25


class Format(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def kpi(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MONTH] [KPI]...",
            show_default="the latest month that is published, every KPI",
            help="A month, `2026-10`, and KPIs by name, `nrr`.",
        ),
    ] = None,
    *,
    group: Annotated[list[Group] | None, typer.Option(help="Only the KPIs of this section; as often as needed.")] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this segment; several are added up. [default: the whole portfolio]"),
    ] = None,
    by_segment: Annotated[bool, typer.Option("--by-segment", help="Each segment in a column of its own, and their total.")] = False,
    months: Annotated[int, typer.Option(min=1, max=MONTHS_MOST, metavar="N", help="A history: so many months, one in each row.")] = 1,
    currency: Annotated[
        str | None, typer.Option(metavar="CODE", help="Amounts in this currency, where there are several: `EUR`. Nothing is converted.")
    ] = None,
    explain: Annotated[
        list[str] | None,
        typer.Option(metavar="KPI", help="Say what this KPI means, its edge cases, and the figures that went into it."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="With --explain: ask no broker, the definition only.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List all KPIs with their definitions; asks no broker.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and show it again whenever something changes, until Ctrl-C.")] = False,
    as_format: Annotated[Format, typer.Option("--format", help="`csv` has a line for each value.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    config: ConfigFile = None,
    bootstrap: Annotated[str | None, typer.Option(help="Brokers, host:port[,host:port]. [env: KAFKA_BOOTSTRAP]")] = None,
    topic_prefix: Annotated[str | None, typer.Option(help="Goes before every topic. [env: CHURNWATCH_TOPIC_PREFIX]")] = None,
    assignments: Assignments = None,
) -> None:
    """Report the KPIs of a month: value, sample size, 95 % interval, the month before, and benchmarks of the same definition.

    They are made of what workers publish on `portfolio-metrics`: the running month and the 24 before it. A total is made of the figures
    of all segments, never of their KPIs. What cannot be said is null with its reason, never 0.

    Give it the configuration of the workers: segments, time zone and rules are theirs.

    **Exit codes**: 0; 1 nothing is published, or nothing of that month; 2 no such KPI, segment, month or currency, or a configuration
    that cannot be used; 3 the broker has no answer, or a topic is missing.

        churnwatch kpi                              # the latest month
        churnwatch kpi 2026-10 nrr grr --by-segment
        churnwatch kpi --group revenue --months 12 --format csv > revenue.csv
        churnwatch kpi cohort_retention             # as a matrix
        churnwatch kpi --explain nrr
        churnwatch kpi --watch --group customers
    """
    from deploy.kpi import choosing, running  # noqa: PLC0415 - they bring the Kafka client and numpy along

    # The command's own line is the only word about a failure, not the client's pages of it.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    month, names = choosing.month_and_names(what or ())
    groups = group or []
    is_json = as_json or as_format is Format.JSON
    if as_json and as_format is Format.CSV:
        raise choosing.usage_error("--json and --format csv are two formats", "take one of them")
    if show_list and as_format is Format.CSV:
        raise choosing.usage_error("--list has no CSV", "take --json")
    if show_list:
        running.show_list(choosing.chosen(names, groups), is_json=is_json)
        return
    if explain and (names or groups or watch or months > 1 or as_format is Format.CSV):
        raise choosing.usage_error("--explain goes with a month and segments only", "leave the rest out; give --explain once for each KPI")
    if offline and not explain:
        raise choosing.usage_error("--offline goes with --explain", "figures of a month come from the broker")
    if watch and as_format is Format.CSV:
        raise choosing.usage_error("--watch has no CSV", "take --json: a line for each change")
    chosen = [choosing.kpi_of(name) for name in explain] if explain else choosing.chosen(names, groups)
    settings = load_settings(config, overrides_of(assignments, {"kafka_bootstrap": bootstrap, "topic_prefix": topic_prefix}))
    request = running.Request(
        month,
        tuple(dict.fromkeys(chosen)),
        bool(names),
        not names and not groups,
        tuple(segment or ()),
        by_segment,
        months,
        currency,
        "json" if is_json else as_format.value,
    )
    if explain:
        running.explain(settings, request, is_offline=offline)
    elif watch:
        running.watch_until_stopped(settings, request)
    else:
        running.show(settings, request)
