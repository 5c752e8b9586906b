"""Which KPIs, which month and which segments the command line asked for; what it cannot mean is told with what it could."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

from models.kpi.catalogue import KPIS
from models.kpi.published import months_text
from models.kpi.report import TOTAL, find
from models.months import format_month, parse_month
from stream_app.exits import Exit, ServiceExit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deploy.kpi.groups import Group
    from models.kpi.portfolio.book import Kpi
    from models.kpi.published import Published

_NEAR: Final = 0.5
_NEAR_MOST: Final = 4
_DIGITS_FIRST: Final = re.compile(r"[0-9]")


def usage_error(message: str, mend: str) -> ServiceExit:
    """What the command line says cannot be done: exit code 2."""
    return ServiceExit(Exit.CONFIGURATION, message, mend)


def month_and_names(words: Iterable[str]) -> tuple[int | None, list[str]]:
    """Part the arguments: at most one month, and the rest. No KPI begins with a digit; raises ServiceExit for what is no month."""
    months: list[int] = []
    names: list[str] = []
    for word in words:
        if not _DIGITS_FIRST.match(word):
            names.append(word)
            continue
        try:
            months.append(parse_month(word))
        except ValueError as error:
            raise usage_error(f"{word!r} is no month", f"{error}") from None
    if len(months) > 1:
        raise usage_error("there are several months", "give one, and `--months N` for so many up to it")
    return (months[0] if months else None), names


def chosen(names: Sequence[str], groups: Sequence[Group]) -> list[Kpi]:
    """The KPIs of some names and groups, in the order of the catalogue; all of them when nothing is named."""
    wanted = {kpi.name for kpi in map(kpi_of, names)} | {kpi.name for kpi in KPIS.values() if kpi.section in {g.section for g in groups}}
    return [kpi for kpi in KPIS.values() if (not names and not groups) or kpi.name in wanted]


def kpi_of(name: str) -> Kpi:
    """The KPI of a name; raises ServiceExit that names the ones nearest to it."""
    found = find(name)
    if found is None:
        raise usage_error(f"there is no KPI {name!r}", _nearest(name))
    return found


def _nearest(name: str) -> str:
    """KPIs that may have been meant: by name, by title, and by what a name is part of."""
    wanted = name.strip().lower().replace("-", "_")
    by_title = {kpi.title.lower(): kpi.name for kpi in KPIS.values()}
    near = difflib.get_close_matches(wanted, KPIS, _NEAR_MOST, _NEAR)
    near += [by_title[title] for title in difflib.get_close_matches(name.lower(), by_title, 2, _NEAR)]
    near += [other for other in KPIS if wanted and wanted in other]
    listed = list(dict.fromkeys(near))[:_NEAR_MOST]
    return f"did you mean {', '.join(listed)}?" if listed else "`churnwatch kpi --list` names them all"


def scopes_of(configured: Sequence[str], wanted: Sequence[str], *, is_split: bool) -> dict[str, tuple[str, ...]]:
    """The columns of a report by name: the segments asked for, or all, together or each by itself with their total.

    `configured` are all segments with `other` last. Raises ServiceExit for one that is not configured.
    """
    for segment in wanted:
        if segment not in configured:
            mend = f"segments are {', '.join(configured)}; they are configured by `portfolio.segments`"
            raise usage_error(f"there is no segment {segment!r}", mend)
    segments = tuple(dict.fromkeys(wanted)) or tuple(configured)
    total = TOTAL if not wanted else " + ".join(segments)
    if is_split and len(segments) > 1:
        # A segment may be called what the total is called.
        total = total if total not in segments else f"{total} of all"
        return {**{segment: (segment,) for segment in segments}, total: segments}
    return {total: segments}


def month_of(published: Published, asked: int | None, topic: str) -> int:
    """The month to report: the one asked for, else the latest that anything is published of. Raises ServiceExit when there is none."""
    months = published.months
    if not months:
        left = sum(published.others.values())
        if left:
            others = ", ".join(sorted(published.others))
            raise ServiceExit(
                Exit.OTHER,
                f"{topic} has figures of other segments only: {others}",
                "give the workers' configuration: `--config FILE`, or `portfolio.segments`",
            )
        raise ServiceExit(
            Exit.OTHER, f"nothing is published on {topic} yet", "run a worker; it publishes some seconds after it has read the events"
        )
    if asked is None:
        return months[-1]
    if asked not in months:
        raise ServiceExit(
            Exit.OTHER,
            f"there are no figures of {format_month(asked)}",
            f"there are of {months_text(months)}: 24 months and the running one",
        )
    return asked


def currency_of(published: Published, asked: str | None) -> str:
    """The currency asked for, in capitals; raises ServiceExit for one that no amount is in. Empty when none was asked for."""
    if not asked:
        return ""
    wanted = asked.strip().upper()
    found = sorted(published.currencies())
    if wanted not in found:
        raise usage_error(f"no amount is in {asked!r}", f"amounts are in {', '.join(found) or 'no currency yet'}")
    return wanted
