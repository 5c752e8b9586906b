"""The roll-up of a partition's accounts: figures by month and segment, absolute, made of the accounts and never counted up.

docs/portfolio.md says what is published. A `Book` holds what each account comes to in this month and the one before, packed, and sums it
when it is asked. The months before those are summed in a pass over all accounts, which is made anew at the turn of a day, and when an
account's past has changed. Nothing here is stored: it follows from the accounts.
"""

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from msgspec import Meta
from pydantic import Field, field_validator, model_validator

from models import life_figures, support_figures, surveys_figures, turnover, usage_figures
from models.columns import Columns
from models.commands import Commands
from models.fold import read_part
from models.health import BAND_NAMES, Band
from models.kpi.figures import FIGURES, Key, read_key
from models.kpi.rates import Rate, valuation_of
from models.ledger import FOREVER_US, Calendar, Figures, Ledger, RevenueRules, Terms, Valuation, ledger_of
from models.life_figures import Checklists
from models.months import format_month, zone_of
from models.row import NEVER
from models.scorecard import Strict
from models.times import DAY_US, SECOND_US, format_us

OTHER = "other"
"""The segment of accounts that are in none of the configured ones."""

RECENT = 2
"""Months of which each account's figures are held: the running one, and the one before."""

USES_AT_ONCE = 250
"""Accounts whose use is counted at a stretch."""

USES_EVERY_US = 3 * SECOND_US
"""For so many accounts use is counted once in this time; it takes some milliseconds."""

LIMB_BITS = 40
"""Figures are summed in two halves, so that no sum of them overflows."""

_LIMB = (1 << LIMB_BITS) - 1

Segment = Annotated[str, Field(min_length=1, max_length=100)]


class PortfolioRules(Strict):
    """How the figures of the portfolio are cut."""

    time_zone: str = Field(default="UTC", description="IANA name of the time zone whose months and days are reported")
    segments: tuple[Segment, ...] = Field(
        default=(), max_length=50, description="segments that are reported for themselves; accounts of any other are in `other`"
    )
    checklists: dict[Segment, Annotated[tuple[Segment, ...], Field(min_length=1, max_length=100)]] = Field(
        default_factory=dict,
        description="steps of each onboarding checklist, in their order; events that name no checklist are of `default`",
    )

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        zone_of(name)
        return name

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        if len({*self.segments, OTHER}) != len(self.segments) + 1:
            raise ValueError(f"segments: each once, and `{OTHER}` is what the rest is called")
        for name, steps in self.checklists.items():
            if len({*steps}) != len(steps):
                raise ValueError(f"checklists: each step of `{name}` once")
        return self


Told = tuple[dict[int, Figures], int]
"""What a provider says of an account: its figures by month, and when they change next with no event (`FOREVER_US`: never).

Those of other providers are put into the same mappings after it.
"""

Provider = Callable[["Account"], Told]
"""Figures of an account in the months of its calendar, made of one of its parts or of several; pure."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """What decides the figures: the same for all partitions."""

    terms: Terms
    valuation: Valuation
    zone: ZoneInfo
    segments: tuple[str, ...]
    into: str | None = None
    rates: tuple[Rate, ...] = ()
    checklists: Checklists = ()

    @classmethod
    def of(cls, revenue: RevenueRules, portfolio: PortfolioRules, rates: Sequence[Rate] = ()) -> Self:
        """The accounting of some rules, with the rates of the file; each currency stands for itself without any."""
        into, rows = revenue.reporting_currency, tuple(rates)
        segments = (*portfolio.segments, OTHER)
        checklists = tuple(portfolio.checklists.items())
        return cls(Terms.of(revenue), valuation_of(into, rows, {}), zone_of(portfolio.time_zone), segments, into, rows, checklists)

    def told(self, commands: Commands) -> Self:
        """The same with the rates that were said besides."""
        said = {} if self.into is None else commands.rates(self.into)
        return replace(self, valuation=valuation_of(self.into, self.rates, said))


class Account:
    """What providers may look at: the parts of one account, the rules, and the months. Parts and ledger are made once, when asked for."""

    def __init__(self, columns: Columns, slot: int, accounting: Accounting, calendar: Calendar) -> None:
        self.accounting, self.calendar = accounting, calendar
        self._columns, self._slot = columns, slot
        self._parts: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The id of the account."""
        return self._columns.keys[self._slot].decode()

    def has(self, part: str) -> bool:
        """Whether it has a part (`models.columns.PART_NAMES`)."""
        return self._columns.parts[part].has(self._slot)

    def part(self, name: str) -> Any:
        """A part, not to be changed; an empty one when it has none."""
        if name not in self._parts:
            self._parts[name] = read_part(self._columns, name, self._slot)
        return self._parts[name]

    @cached_property
    def ledger(self) -> Ledger:
        """What became of its MRR."""
        return ledger_of(self.part("payment"), self.accounting.terms, self.accounting.valuation, self.calendar)

    @cached_property
    def revenue(self) -> dict[int, Figures]:
        """What it paid and got back, by month."""
        return turnover.month_figures(self.part("payment"), self.accounting.valuation, self.calendar)


def ledger_figures(account: Account) -> Told:
    """What an account pays, and what moved it."""
    return account.ledger.months, account.ledger.next_at


def revenue_figures(account: Account) -> Told:
    """What an account paid and got back."""
    return account.revenue, FOREVER_US


def acquisition_figures(account: Account) -> Told:
    """How a customer came."""
    return life_figures.acquired(account.part("facts").life.acquired, account.ledger.months, account.revenue), FOREVER_US


def life_of(account: Account) -> Told:
    """The life of an account besides payments, tickets and surveys."""
    facts, now = account.part("facts"), account.calendar.now
    paying = account.ledger.paying if account.has("payment") else None
    months = life_figures.month_figures(facts, paying, account.accounting.valuation, account.calendar)
    mrr = account.ledger.months.get(account.calendar.last, {}) if account.has("payment") else {}
    for month, figures in life_figures.onboarding(facts, account.accounting.checklists, account.calendar).items():
        months[month] |= figures
    months[account.calendar.last] |= life_figures.renewing(facts, mrr, account.accounting.valuation, now)
    return months, life_figures.changes_next(facts, now)


def each_month(
    part: str,
    figures_of: Callable[[Any, int, ZoneInfo, int], Mapping[str, int]],
    changes_next: Callable[[Any, int], int] = lambda _part, _now: FOREVER_US,
) -> Provider:
    """A provider made of `month_figures(part, month, zone, now_us)`, asked for each month; names may have a label, `name{label}`.

    `changes_next(part, now_us)` says when they change next with no event.
    """
    return partial(_each_month, part, figures_of, changes_next)


def _each_month(
    name: str,
    figures_of: Callable[[Any, int, ZoneInfo, int], Mapping[str, int]],
    changes_next: Callable[[Any, int], int],
    account: Account,
) -> Told:
    part, calendar = account.part(name), account.calendar
    months: dict[int, Figures] = {}
    for month in range(calendar.first, calendar.last + 1):
        if figures := figures_of(part, month, calendar.zone, calendar.now):
            months[month] = {_key(text): value for text, value in figures.items()}
    return months, changes_next(part, calendar.now)


_key = lru_cache(1 << 14)(read_key)

PROVIDERS: dict[str, tuple[Provider, ...]] = {
    "payment": (ledger_figures, revenue_figures, acquisition_figures),
    "facts": (life_of,),
    "support": (each_month("support", support_figures.month_figures, support_figures.changes_next),),
    "surveys": (each_month("surveys", surveys_figures.month_figures, surveys_figures.changes_next),),
}
"""Who makes figures of the accounts that have a part (`models.columns.PART_NAMES`); each of them may look at the other parts, too.

A new part's are added here, and nowhere else. No figure comes from two providers.
"""

_PAYMENT_FIGURES = (
    "customers_start",
    "customers_start_paused",
    "customers_end",
    "customers_end_paused",
    "customers_churned",
    "customers_new",
    "customers_reactivated",
    "customers_same_period_churned",
    "customer_days",
    "customers_ever",
    "lifetime_days_ended",
    "mrr_start",
    "mrr_end",
    "mrr_new",
    "mrr_reactivation",
    "mrr_expansion",
    "mrr_contraction",
    "mrr_churn",
    "mrr_churn_expired",
    "mrr_pause",
    "mrr_resume",
    "mrr_fx",
    "mrr_grr_kept",
    "mrr_nrr_kept",
    "mrr_reactivated_kept",
    "mrr_delinquent",
    "mrr_pending_churn",
)

_SUPPORT_FIGURES = (
    "tickets_created",
    "tickets_created_28d",
    "tickets_solved",
    "tickets_closed",
    "tickets_reopened",
    "tickets_open",
    "tickets_open_urgent",
    "tickets_open_urgent_seconds",
    "fcr_received",
    "fcr_solved",
    "fcr_resolved",
    "fcr_resolved_cross_department",
)

ZEROS: dict[str, tuple[str, ...]] = {
    "payment": _PAYMENT_FIGURES,
    "takings": ("revenue_paid", "revenue_one_off"),
    "refunds": ("revenue_refunded", "revenue_to_date"),
    "orders": ("orders", "buyers", "buyers_ever", "buyers_repeat", "order_lifespan_days"),
    "support": _SUPPORT_FIGURES,
    "calls": ("tickets_abandoned",),
    "facts": ("accounts",),
    "signups": ("signups", "signups_referred", "customers_new_referred", "revenue_referred"),
    "onboarding": ("onboarding_accounts", "onboarding_steps_done", "onboarding_steps", "onboarding_position_days"),
    "referrals": ("referrals_made", "referrals_converted"),
    "recommendations": ("recommendations_made", "recommendations_actioned"),
    "renewals": ("renewals_due", "renewals_renewed", "renewals_lapsed", "renewals_cancelled"),
    "mrr_renewals": ("mrr_renewals_due", "mrr_renewals_renewed", "mrr_renewals_lapsed", "mrr_renewals_cancelled"),
    "nps": ("nps_promoters", "nps_passives", "nps_detractors"),
    "csat": ("csat_accounts", "csat_accounts_positive"),
    "texts": ("feedback_texts", "feedback_texts_unread", "sentiment_weight", "sentiment_polarity"),
}
"""The figures without a label that are told of together: 0 where nothing is, once anything of that kind was observed.

That is when any account has a part of that name, or one of those figures; of `takings` once anything was ever paid, if only 0, and then
nothing refunded is 0, too. Absent is never observed.
"""

_KIND_OF = {name: kind for kind, names in ZEROS.items() for name in names}


class PortfolioRecord(msgspec.Struct):
    """One value of `portfolio-metrics`: the figures of a month and segment of the accounts in a partition, as of an instant.

    Figures are by the text of their key (`models.kpi.figures.read_key`): `name`, `name{label}`, money `name@USD` in millionths of a minor
    unit. Readers add up the partitions. A figure that is not there was never observed.
    """

    partition: Annotated[int, Meta(ge=0, description="of the topics that are keyed by account")]
    month: Annotated[str, Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="in the time zone `portfolio.time_zone`")]
    segment: Annotated[str, Meta(min_length=1, description="one of `portfolio.segments`, or `other`")]
    as_of: Annotated[
        str, Meta(description="the instant that it was made for: the running month counts to it", extra_json_schema={"format": "date-time"})
    ]
    config_version: Annotated[str, Meta(description="of the configuration that it was made with")]
    figures: Annotated[
        dict[Annotated[str, Meta(pattern=r"^[a-z0-9_]+(\{.+\})?(@[A-Z]{3})?$")], int],
        Meta(description="whole numbers by key; a reader passes over a name that it does not know"),
    ]


_encode = msgspec.json.Encoder(order="sorted").encode
read_record = msgspec.json.Decoder(PortfolioRecord).decode


def record_key(partition: int, month: str, segment: str) -> bytes:
    """The key of a record: `partition/month/segment`."""
    return f"{partition}/{month}/{segment}".encode()


Totals = dict[tuple[int, int], dict[Key, int]]
"""Figures by month and place of the segment."""


class Book:
    """The roll-up of one partition. `touch` says that an account changed, `advance` works, `records` gives what is to be published."""

    def __init__(self, partition: int, columns: Columns, accounting: Accounting, config_version: str) -> None:
        self._partition, self._columns, self._accounting = partition, columns, accounting
        self._config_version = config_version
        self._calendar: Calendar | None = None
        self._now_us = NEVER
        self._day_ends = 0
        self._ids: dict[tuple[int, Key], int] = {}
        self._packed: dict[int, tuple[int, bytes]] = {}
        self._past: dict[int, int] = {}
        self._touched: set[int] = set()
        self._due: list[tuple[int, int]] = []
        self._due_at: dict[int, int] = {}
        self._seen: set[str] = set()
        self._next = 0
        self._is_passing = False
        self._is_stale = False
        self._adding: Totals = {}
        self._closed: Totals | None = None
        self._said: dict[bytes, dict[str, int]] = {}
        self._gone: set[bytes] = set()
        self._is_moved = False
        self._places: array[int] = array("q")
        self._uses_moved = True
        self._uses_at = 0
        self._uses_next: int | None = None
        self._uses_adding: Totals = {}
        self._uses: Totals | None = None
        self.running: dict[str, dict[str, int]] = {}
        """The figures of the running month by segment, as they were given to be published last; a new object each time."""

    # -- what changed

    def touch(self, slot: int) -> None:
        """A part of an account has changed."""
        self._touched.add(slot)

    def shift(self) -> None:
        """The bands of some accounts have changed: they are looked up when the figures are summed, nobody is looked at anew."""
        self._is_moved = True

    def touch_usage(self) -> None:
        """Accounts were used: what that changes is counted again later, of all accounts together."""
        self._uses_moved = True

    def revalue(self, accounting: Accounting) -> None:
        """Make everything anew by another accounting, as on a new day."""
        self._accounting = accounting
        self._calendar = None

    @property
    def is_whole(self) -> bool:
        """Whether every account is in the sums as it is; those of months long over may be older, while a pass is under way."""
        return self._closed is not None and self._uses is not None and not self._touched

    @property
    def waiting(self) -> int:
        """How many accounts have changed since they were looked at."""
        return len(self._touched)

    @property
    def has_news(self) -> bool:
        """Whether there may be something to publish."""
        return self.is_whole and self._is_moved

    # -- work

    def advance(self, now_us: int, accounts: int) -> bool:
        """Look at up to so many accounts; whether there is more to do. A new day begins everything anew: lifetimes and days have grown."""
        now_us = self._now_us = max(now_us, self._now_us)  # behind a backlog that came later the log's time is an earlier one
        if self._calendar is None or now_us >= self._day_ends:
            self._begin(now_us)
        self._calendar = replace(self._begun, now=now_us)
        while self._due and self._due[0][0] <= now_us:
            at, slot = heapq.heappop(self._due)
            if self._due_at.get(slot) == at:
                self._touched.add(slot)
        for _ in range(accounts):
            if self._touched:
                self._book(self._touched.pop())
            elif self._next < len(self._columns):
                self._next += 1
                self._touched.discard(self._next - 1)
                self._book(self._next - 1, is_passing=True)
            elif self._is_passing:
                self._end_pass()
            elif self._uses_next is not None or self._is_counting_due(now_us):
                self._count_uses()
                return True  # that was as much as all the other accounts of a stretch
            else:
                return False
        return True

    def _is_counting_due(self, now_us: int) -> bool:
        """Whether use is to be counted anew, seldom enough that it costs a thousandth of the time; at the turn of a UTC day at once."""
        waits = len(self._columns) // USES_AT_ONCE * USES_EVERY_US
        is_due = not 0 <= now_us - self._uses_at < waits or now_us // DAY_US != self._uses_at // DAY_US
        if (self._uses_moved or now_us // DAY_US != self._uses_at // DAY_US) and is_due:
            self._uses_next, self._uses_at, self._uses_moved, self._uses_adding = 0, now_us, False, {}
            return True
        return False

    def _count_uses(self) -> None:
        """Count the usage figures of the next accounts."""
        columns, calendar = self._columns, self._begun
        assert self._uses_next is not None  # noqa: S101 - whoever calls this looked
        slots = np.arange(self._uses_next, min(self._uses_next + USES_AT_ONCE, len(self._places)))
        self._uses_next += USES_AT_ONCE
        slots = slots[columns.used_at[slots] != NEVER]
        if len(slots):
            places = np.frombuffer(self._places, np.int64)[slots]
            for month in range(calendar.last - RECENT + 1, calendar.last + 1):
                start, end = calendar.starts[month - calendar.first : month - calendar.first + 2]
                counted = usage_figures.count(columns, slots, start, min(end - 1, self._uses_at), is_running=month == calendar.last)
                for key, values in counted.items():
                    for place, value in enumerate(np.bincount(places, values, len(self._accounting.segments)).astype(np.int64).tolist()):
                        total = self._uses_adding.setdefault((month, place), {})
                        total[key] = total.get(key, 0) + value
        if self._uses_next >= len(self._places):
            self._uses_next = None
            self._is_moved = self._is_moved or self._uses != self._uses_adding
            self._uses = self._uses_adding

    def _begin(self, now_us: int) -> None:
        """Begin a pass over all accounts, on a new day."""
        self._begun = Calendar.of(self._accounting.zone, now_us)
        self._day_ends = next(at for at in (*self._begun.days, self._begun.starts[-1]) if at > now_us)
        self._closed = None
        self._ids, self._packed, self._past = {}, {}, {}
        self._due, self._due_at = [], {}
        self._uses_moved, self._uses_at, self._uses_next, self._uses = True, 0, None, None
        self._restart()

    def _restart(self) -> None:
        self._next, self._is_passing, self._is_stale, self._adding = 0, True, False, {}

    def _end_pass(self) -> None:
        if self._is_stale:
            self._restart()
        else:
            self._is_passing = False
            self._is_moved = self._is_moved or self._closed != self._adding
            self._closed, self._adding = self._adding, {}

    def _book(self, slot: int, *, is_passing: bool = False) -> None:
        """Make the figures of an account anew."""
        months, due_at, segment = self._figures(slot)
        calendar = self._begun
        self._place(slot, segment)
        packed = self._pack(months)
        if packed or slot in self._packed:
            self._is_moved = self._is_moved or self._packed.get(slot) != (segment, packed)
            self._packed[slot] = (segment, packed)
        past = {month: figures for month, figures in months.items() if month <= calendar.last - RECENT and figures}
        told = hash((segment, tuple((month, frozenset(figures.items())) for month, figures in sorted(past.items())))) if past else 0
        if is_passing:
            for month, figures in past.items():
                total = self._adding.setdefault((month, segment), {})
                for key, value in figures.items():
                    total[key] = total.get(key, 0) + value
        elif told != self._past.get(slot, 0):
            self._has_another_past(slot)
        if told:
            self._past[slot] = told
        elif slot in self._past:
            del self._past[slot]
        if due_at < FOREVER_US:
            heapq.heappush(self._due, (due_at, slot))
            self._due_at[slot] = due_at
        else:
            self._due_at.pop(slot, None)

    def _place(self, slot: int, segment: int) -> None:
        """Remember the segment of an account."""
        while len(self._places) <= slot:
            self._places.append(len(self._accounting.segments) - 1)
        if self._places[slot] != segment:
            self._places[slot], self._uses_moved = segment, True

    def _has_another_past(self, slot: int) -> None:
        """Sum the closed months anew, once those who are under way with it are through."""
        if not self._is_passing:
            self._restart()
        elif slot < self._next:
            self._is_stale = True

    def _figures(self, slot: int) -> tuple[dict[int, Figures], int, int]:
        months: dict[int, Figures] = {}
        due_at = FOREVER_US
        columns, calendar = self._columns, self._calendar
        assert calendar is not None  # noqa: S101 - `advance` made it
        account = Account(columns, slot, self._accounting, calendar)
        for part in [part for part in PROVIDERS if account.has(part)]:
            self._see(part)
            for provider in PROVIDERS[part]:
                told, next_at = provider(account)
                due_at = min(due_at, next_at)
                for month, figures in told.items():
                    if month in months:
                        months[month].update(figures)
                    elif calendar.first <= month <= calendar.last:
                        months[month] = figures
        if "takings" not in self._seen and account.has("payment") and turnover.has_takings(account.part("payment")):
            self._see("takings")
            self._see("refunds")
        segment = account.part("facts").text("segment") if account.has("facts") else None
        segments = self._accounting.segments
        return months, due_at, segments.index(segment) if segment in segments else len(segments) - 1

    def _see(self, kind: str) -> None:
        """Remember that something of a kind was observed, if nothing but zeros comes of it."""
        if kind not in self._seen:
            self._seen.add(kind)
            self._is_moved = True

    def _pack(self, months: dict[int, Figures]) -> bytes:
        """The figures of the recent months: the place of each key, twice over, and a value, in two halves."""
        packed = array("q")
        for month in range(self._begun.last - RECENT + 1, self._begun.last + 1):
            for key, value in months.get(month, {}).items():
                place = self._ids.setdefault((month, key), len(self._ids))
                low, high = value & _LIMB, value >> LIMB_BITS
                if low:
                    packed.extend((2 * place, low))
                if high:
                    packed.extend((2 * place + 1, high))
        return packed.tobytes()

    # -- what is to be published

    def records(self, now_us: int) -> list[tuple[bytes, bytes | None]]:
        """The records that say something new since they were asked for last; none before everything was looked at once.

        After a start all of them do: what was published before is not known.
        """
        if not self.is_whole or not self._is_moved or self._closed is None:
            return []
        self._is_moved = False
        totals: Totals = {**self._closed, **self._recent()}
        for where, used in (self._uses or {}).items():
            totals[where] = {**totals.get(where, {}), **used}
        currencies = sorted({key.currency for total in totals.values() for key in total if key.currency})
        kinds = self._seen | {_KIND_OF[key.name] for total in totals.values() for key in total if key.name in _KIND_OF}
        zeros = {Key(*each): 0 for each in self._zeros(kinds, currencies)}
        calendar = self._begun
        found: list[tuple[bytes, bytes | None]] = []
        as_of = format_us(max(now_us, self._now_us))
        for month in range(calendar.first, calendar.last + 1):
            for place, segment in enumerate(self._accounting.segments):
                if month == calendar.last and "renewals" in kinds:
                    zeros |= {Key("mrr_renewing_at_risk", "", currency): 0 for currency in currencies}
                figures = {str(key): value for key, value in (zeros | totals.get((month, place), {})).items() if value or not key.label}
                key = record_key(self._partition, format_month(month), segment)
                if self._said.get(key) != figures:
                    self._said[key] = figures
                    record = PortfolioRecord(self._partition, format_month(month), segment, as_of, self._config_version, figures)
                    found.append((key, _encode(record)))
        last = format_month(calendar.last)
        self.running = {segment: self._said[record_key(self._partition, last, segment)] for segment in self._accounting.segments}
        return found + self._forgotten(calendar.first)

    def _forgotten(self, first: int) -> list[tuple[bytes, bytes | None]]:
        """Delete the records of months that are not kept any more: of all that were told of here, and of the three before.

        The last publication of another worker may be some time ago.
        """
        since = format_month(first).encode()
        keys = [key for key in self._said if key.split(b"/")[1] < since]
        keys += [
            record_key(self._partition, format_month(month), segment)
            for month in range(first - 3, first)
            for segment in self._accounting.segments
        ]
        new = [key for key in dict.fromkeys(keys) if key not in self._gone]
        for key in new:
            self._gone.add(key)
            self._said.pop(key, None)
        return [(key, None) for key in new]

    @staticmethod
    def _zeros(kinds: Iterable[str], currencies: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        for kind in sorted(kinds):
            for name in ZEROS.get(kind, ()):
                for currency in currencies if FIGURES[name].is_money else ("",):
                    yield name, "", currency

    def _recent(self) -> Totals:
        """The sums of the recent months, by segment; those of the running one by band, too."""
        keys = list(self._ids)
        bands = self._columns.band
        together: dict[tuple[int, int], list[bytes]] = {}
        for slot, (segment, packed) in self._packed.items():
            together.setdefault((segment, int(bands[slot])), []).append(packed)
        totals: Totals = {}
        for (segment, band), many in together.items():
            sums = np.zeros(2 * len(keys), np.int64)
            pairs = np.frombuffer(b"".join(many), np.int64).reshape(-1, 2)
            np.add.at(sums, pairs[:, 0], pairs[:, 1])
            for (month, key), low, high in zip(keys, sums[::2].tolist(), sums[1::2].tolist(), strict=True):
                value = (high << LIMB_BITS) + low
                for told in _banded(key, band, is_running=month == self._begun.last) if value else ():
                    total = totals.setdefault((month, segment), {})
                    total[told] = total.get(told, 0) + value
        return totals


def _banded(key: Key, band: int, *, is_running: bool) -> Iterator[Key]:
    """The figures that a sum over accounts in a band goes into."""
    if key.name != "mrr_renewing_at_risk" or band in _AT_RISK:
        yield key
    if is_running and (name := _BY_BAND.get(key.name)) is not None:
        yield Key(name, BAND_NAMES[band], key.currency)


_BY_BAND = {"customers_end": "customers_by_band", "mrr_end": "mrr_by_band"}
_AT_RISK = frozenset({Band.CRITICAL, Band.AT_RISK, Band.WATCH})
