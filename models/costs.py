"""What a month cost: recorded costs, spread evenly by whole days over their periods.

- **A day** is a date of the zone whose months are asked for. It belongs to a period when its noon lies in `[start, end)`, so a period
  written from midnight to midnight has the same days in every zone less than twelve hours away. A period that holds no noon is one day:
  the date on which it begins.
- **A day's share** is in millionths of a minor unit, and the shares of a cost's days add up to its amount exactly: each is the even share
  rounded down, or one millionth more; those that are more are spread evenly over the period, too. A credit is spread as the cost of its
  size would be, so that it takes that cost back on each day.
- **A correction** is a record with the `(source, id)` of the one that it replaces and a later `time`; it replaces all of it. At one and
  the same time the content decides, so that the order of reading never does. To take a cost back altogether, correct its amount to 0.
"""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from models.events import CostRecorded
from models.kpi.figures import MICRO
from models.months import first_day, local_time
from models.times import parse_us

_NOON: Final = time(12)
_pack = msgspec.msgpack.Encoder(order="deterministic").encode


class CostKey(NamedTuple):
    """What costs are kept apart by; channel and account are empty where none is named."""

    category: str
    channel: str
    account_id: str
    allocation: str
    currency: str


def month_costs(events: Iterable[CostRecorded], month: int, zone: ZoneInfo, lag_days: int = 0) -> dict[CostKey, int]:
    """The costs of the days of a month (`models.months`), in millionths of a minor unit; what has no day in it is left out.

    `lag_days`: each day counts so much later, since the customers that it brings come so much later (CAC).
    """
    costs: dict[CostKey, int] = {}
    for event in latest(events):
        cost = event.data
        spent = days_of(parse_us(cost.period.start), parse_us(cost.period.end), zone)
        days = range(spent.start + lag_days, spent.stop + lag_days)
        if days.start < first_day(month + 1).toordinal() and first_day(month).toordinal() < days.stop:
            key = CostKey(cost.category, cost.channel or "", cost.account_id or "", cost.allocation, cost.amount.currency)
            costs[key] = costs.get(key, 0) + share(cost.amount.amount_minor, days, month)
    return costs


def latest(events: Iterable[CostRecorded]) -> list[CostRecorded]:
    """The costs that count: of each `(source, id)` the last write."""
    known: dict[tuple[str, str], tuple[int, bytes, CostRecorded]] = {}
    for event in events:
        name, written = (event.source, event.id), (parse_us(event.time), _pack(event.data))
        last = known.get(name)
        if last is None or written > last[:2]:
            known[name] = (*written, event)
    return [event for _, _, event in known.values()]


def days_of(start: int, end: int, zone: ZoneInfo) -> range:
    """The days of a period `[start, end)` (microseconds) in a zone, as proleptic ordinals (`date.toordinal`); at least one."""
    first, stop = _first_noon_from(start, zone), _first_noon_from(end, zone)
    if first == stop:
        first = local_time(start, zone).date().toordinal()
        stop = first + 1
    return range(first, stop)


def share(amount_minor: int, days: range, month: int) -> int:
    """The share of a month in an amount that is spread over days, in millionths of a minor unit."""
    start, stop = (min(max(first_day(m).toordinal(), days.start), days.stop) - days.start for m in (month, month + 1))
    return _until(amount_minor, stop, len(days)) - _until(amount_minor, start, len(days))


def _until(amount_minor: int, day: int, days: int) -> int:
    """The shares of the days before `day`."""
    until = abs(amount_minor) * MICRO * day // days
    return until if amount_minor >= 0 else -until


def _first_noon_from(at: int, zone: ZoneInfo) -> int:
    """The first day whose noon is not before an instant."""
    local: datetime = local_time(at, zone)
    day: date = local.date()
    return (day if local.time() <= _NOON else day + timedelta(days=1)).toordinal()
