"""The scope of a simulation, and what all of its accounts have in common: who comes when, the climate, incidents, costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from deploy.simulate.decisions import Spent
from deploy.simulate.dice import DAY, HOUR, SECOND, Dice
from stream_app.exits import Exit, ServiceExit

if TYPE_CHECKING:
    from collections.abc import Iterator

CURRENCIES: Final = {"USD": 0, "GBP": 20, "EUR": 19, "CHF": 8}
"""Currencies that accounts may pay in, and the tax in per cent that is on top of a price."""

CHANNELS: Final = (("organic", 0.35), ("paid_search", 0.25), ("outbound", 0.2), ("event", 0.1), ("partner", 0.1))
REFERRAL: Final = "referral"

COSTS: Final = "_costs"
"""The subject of cost events."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SEASON: Final = (1.25, 1.05, 1.05, 1.0, 0.95, 0.9, 0.75, 0.7, 1.25, 1.15, 1.1, 0.75)
"""How many come in each month of a year."""
_ACTIVITY: Final = (1.0, 1.02, 1.02, 1.0, 0.98, 0.97, 0.85, 0.78, 1.0, 1.03, 1.02, 0.8)
"""How much is done in each month of a year."""
_WEEKDAY: Final = (1.1, 1.2, 1.2, 1.15, 0.95, 0.2, 0.16)
_HOLIDAYS: Final = ((12, 24, 26), (12, 31, 31), (1, 1, 1))
"""Month, first and last day of days on which hardly anybody works."""
_WERE_THERE: Final = 0.45
"""The share of the accounts that are customers already as the simulation begins."""
_REFERRED: Final = 0.12
_MOST_ACCOUNTS: Final = 1_000_000


class SimulationError(ServiceExit):
    """The scope makes no sense; the message names the option."""

    def __init__(self, message: str, mend: str = "") -> None:
        """See `ServiceExit`; the exit code is that of a wrong command line."""
        super().__init__(Exit.CONFIGURATION, message, mend)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is simulated: so many accounts over whole months from the first day of `start`, the same for the same seed.

    `segments` are names with their shares, the smallest accounts first; `events_per_user_day` is how many usage events a user of a healthy
    account has on an average day.
    """

    accounts: int = 200
    months: int = 24
    start: date = date(2024, 1, 1)
    seed: int = 1
    segments: tuple[tuple[str, float], ...] = (("smb", 70.0), ("mid_market", 25.0), ("enterprise", 5.0))
    currencies: tuple[str, ...] = ("USD",)
    events_per_user_day: float = 0.5

    def __post_init__(self) -> None:
        """Raise `SimulationError` for what cannot be simulated."""
        problems = (
            (not 1 <= self.accounts <= _MOST_ACCOUNTS, "--accounts: expected 1 to 1,000,000"),
            (not 1 <= self.months <= 240, "--months: expected 1 to 240"),  # noqa: PLR2004 - twenty years
            (self.start.day != 1, f"--start: {self.start} is not the first day of a month"),
            (not 0 <= self.events_per_user_day <= 100, "--events-per-user-day: expected 0 to 100"),  # noqa: PLR2004
            (not self.segments, "--segments: expected at least one"),
            (any(not share > 0 or math.isinf(share) for _, share in self.segments), "--segments: expected shares above 0"),
            (
                len({name for name, _ in self.segments} | {"other", "all"}) <= len(self.segments) + 1,
                "--segments: each once, and none called `other` or `all`",
            ),
            (not self.currencies or len(set(self.currencies)) < len(self.currencies), "--currencies: expected each once"),
        )
        for is_wrong, message in problems:
            if is_wrong:
                raise SimulationError(message, "see `churnwatch simulate --help`")
        for currency in self.currencies:
            if currency not in CURRENCIES:
                raise SimulationError(f"--currencies: {currency!r} is not simulated", f"choose from {', '.join(CURRENCIES)}")

    @property
    def starts(self) -> int:
        """The first instant, microseconds."""
        return instant_of(self.start)

    @property
    def stops(self) -> int:
        """The first instant that is not simulated any more."""
        return instant_of(month_after(self.start, self.months))

    @property
    def days(self) -> int:
        """How many days there are."""
        return (self.stops - self.starts) // DAY

    def names(self) -> tuple[str, ...]:
        """The names of the segments."""
        return tuple(name for name, _ in self.segments)


def instant_of(day: date) -> int:
    """The first instant of a day, microseconds."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def day_of(at: int) -> date:
    """The day of an instant."""
    return (_EPOCH + timedelta(microseconds=at)).date()


def month_after(day: date, months: int) -> date:
    """The same day so many months later, at the latest the 28th."""
    index = day.year * 12 + day.month - 1 + months
    return date(index // 12, index % 12 + 1, min(day.day, 28))


def months_later(at: int, months: int) -> int:
    """The same time of the same day so many months later, at the latest on the 28th."""
    return instant_of(month_after(day_of(at), months)) + at % DAY


@dataclass(frozen=True, slots=True)
class Incident:
    """A failure of the product from an instant on: which share of the accounts it hits, how badly (0 to 1), for how long."""

    at: int
    lasts: int
    share: float
    severity: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """When an account comes, as the number of the day; it was there before where `was_there` is."""

    day: int
    was_there: bool
    channel: str
    referred_by: int | None = None


@dataclass(frozen=True)
class World:
    """What was drawn for all accounts together."""

    scope: Scope
    arrivals: tuple[Arrival, ...]
    incidents: dict[int, Incident]
    slump: tuple[int, int]
    midnights: tuple[int, ...]
    days: tuple[date, ...]
    climate: tuple[float, ...]
    referrals: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Draw the world of a scope."""
        dice = Dice(f"{scope.seed}/world")
        days = tuple(scope.start + timedelta(day) for day in range(scope.days))
        midnights = tuple(scope.starts + day * DAY for day in range(scope.days))
        begins = dice.between(0, max(scope.days - 1, 0))
        slump = (begins, begins + dice.between(60, 150))
        climate = tuple(_climate(day, slump) for day in range(scope.days))
        arrivals = _arrivals(scope, days, climate, dice)
        referrals: dict[int, list[int]] = {}
        for number, arrival in enumerate(arrivals):
            if arrival.referred_by is not None:
                referrals.setdefault(arrival.referred_by, []).append(number)
        return cls(scope, arrivals, _incidents(midnights, dice), slump, midnights, days, climate, referrals)

    def activity(self, day: int) -> float:
        """How much is done on a day, beside an average one: by weekday, season and holiday."""
        date_ = self.days[day]
        if any(date_.month == month and first <= date_.day <= last for month, first, last in _HOLIDAYS):
            return 0.08
        return _WEEKDAY[date_.weekday()] * _ACTIVITY[date_.month - 1]

    def costs(self, day: int) -> Iterator[Spent]:
        """What is spent, as told on a day: on the second of a month for that month, corrected on the twentieth."""
        date_ = self.days[day]
        if date_.day not in (2, 20):
            return
        dice = Dice(f"{self.scope.seed}/costs/{date_.isoformat()}")
        at = dice.office_hours(self.midnights[day])
        month = date_.replace(day=1)
        start, end = instant_of(month), instant_of(month_after(month, 1))
        since = sum(1 for arrival in self.arrivals if arrival.day <= day)
        coming = sum(1 for arrival in self.arrivals if not arrival.was_there and self.days[arrival.day].replace(day=1) == month)
        currency = self.scope.currencies[0]
        text = f"{month:%Y-%m}"

        def spent(kind: str, category: str, amount: float, **more: object) -> Spent:
            return Spent(COSTS, at, f"cost-{text}-{kind}", category, round(amount), currency, start, end, **more)  # type: ignore[arg-type]

        if date_.day != 2:  # noqa: PLR2004 - the day of corrections
            if dice.chance(0.5):
                yield spent("cogs", "cogs", 2_400 * since * dice.around(1, 0.1))
            return
        for channel, share in CHANNELS:
            yield spent(channel, "acquisition.marketing", (60_000 * coming + 5_000) * share * dice.around(1, 0.2), channel=channel)
        yield spent("sales", "acquisition.sales", (45_000 * coming + 20_000) * dice.around(1, 0.15))
        yield spent("cs", "retention.cs", 3_000 * since * dice.around(1, 0.1), allocation="mrr")
        yield spent("support", "retention.support", 2_000 * since * dice.around(1, 0.1), allocation="equal")
        yield spent("cogs", "cogs", 2_400 * since * dice.around(1, 0.1))
        if dice.chance(0.2):
            yield spent("credit", "cogs", -150 * since * dice.around(1, 0.3))
        if month.month in (1, 7) or day < 31:  # noqa: PLR2004 - rent is paid by the half-year
            half = instant_of(month_after(month, 6))
            yield spent("opex", "opex", 30_000 * self.scope.accounts * dice.around(1, 0.05))._replace(end=half)


def _climate(day: int, slump: tuple[int, int]) -> float:
    """How much more accounts leave on a day than on an average one: a wave of a year and a half, and the slump."""
    wave = 1 + 0.15 * math.sin(2 * math.pi * day / 540)
    return wave * (1.5 if slump[0] <= day < slump[1] else 1.0)


def _arrivals(scope: Scope, days: tuple[date, ...], climate: tuple[float, ...], dice: Dice) -> tuple[Arrival, ...]:
    """Who comes when, in the order of their coming: more as time goes by, by season, hardly anybody on weekends."""
    were_there = max(1, round(scope.accounts * _WERE_THERE))
    weights = [
        _SEASON[date_.month - 1] * (0.25 if date_.weekday() > 4 else 1.0) * (1 + 0.6 * day / max(len(days), 1)) / climate[day]  # noqa: PLR2004
        for day, date_ in enumerate(days)
    ]
    total, reached, bounds = sum(weights), 0.0, []
    for weight in weights:
        reached += weight / total
        bounds.append(reached)
    drawn = sorted(dice.random() for _ in range(scope.accounts - were_there))
    found = [Arrival(0, was_there=True, channel=dice.weighted(CHANNELS)) for _ in range(were_there)]
    day = 0
    for draw in drawn:
        while day < len(days) - 1 and bounds[day] < draw:
            day += 1
        referrer = dice.between(0, len(found) - 1) if dice.chance(_REFERRED) else None
        if referrer is not None and found[referrer].day > day - 30:
            referrer = None
        channel = dice.weighted(CHANNELS) if referrer is None else REFERRAL
        found.append(Arrival(day, was_there=False, channel=channel, referred_by=referrer))
    return tuple(found)


def _incidents(midnights: tuple[int, ...], dice: Dice) -> dict[int, Incident]:
    """About one in forty days; few hit many accounts."""
    found: dict[int, Incident] = {}
    for day, midnight in enumerate(midnights):
        if dice.chance(1 / 40):
            severity = dice.random() ** 2
            lasts = dice.span(HOUR // 2, 9 * HOUR)
            at = midnight + dice.between(6 * 3600, 14 * 3600) * SECOND
            found[day] = Incident(at, lasts, 0.05 + 0.5 * dice.random() * severity, severity)
    return found
