"""Whether `portfolio-metrics` says what the log says: each record of a partition, at the instant and the cursor that it was made for.

A publication is in the transaction of a checkpoint, with the cursor of that checkpoint, and all records of a transaction have its
time: so the changelog tells how far the inputs were folded then. The accounts are taken as they were at that cursor, and their figures
computed at the record's `as_of` by `deploy.verify.reference_portfolio`. Where the cursor is gone (compaction leaves the last one), a record
is right when it says what the newest publication must say of its month: figures are published again only when they change.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from deploy.verify import reference, reference_commands, reference_portfolio
from deploy.verify.equality import rates_by_stream
from deploy.verify.report import Check
from models.input_topics import COMMANDS, FOLDED_TOPICS, USAGE
from models.kpi.figures import FIGURES, read_key
from models.portfolio import PortfolioRecord, read_record
from models.times import parse_us
from stream_app.pipeline import Position, read_cursor
from stream_app.rates import rates_of
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploy.verify.checks import Case

PUBLICATIONS_MOST: Final = 12
"""Publications of a partition that are computed anew, the newest ones: each costs the figures of all accounts."""

SETTLING_MS: Final = 120_000
"""Within this the sums of months that are over follow what was folded."""

Figures = dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True, slots=True)
class Rolled:
    """A record of `portfolio-metrics`, and when it was written (milliseconds)."""

    key: bytes
    value: bytes
    written_ms: int


def judge_portfolio(case: Case) -> None:
    """Judge what is published of a partition's accounts."""
    records = sorted(_current(case), key=lambda each: -each[0].written_ms)
    if why := _why_not(case):
        case.report.leave(Check.PORTFOLIO, why, len(records))
        return
    if not records:
        case.report.leave(Check.PORTFOLIO, "nothing is published yet", 1 if case.accounts else 0)
        return
    _Judge(case).judge(records)


def _current(case: Case) -> Iterator[tuple[Rolled, PortfolioRecord]]:
    """Read the records of the months and segments that a reader takes, made with this configuration."""
    settings = case.settings
    segments = (*settings.portfolio.segments, reference_portfolio.OTHER)
    for rolled in case.evidence.portfolio:
        try:
            record = read_record(rolled.value)
        except msgspec.DecodeError as error:
            case.judge(Check.PORTFOLIO, None, [f"the record {rolled.key!r} cannot be read: {error}"])
            continue
        if rolled.key != f"{record.partition}/{record.month}/{record.segment}".encode():
            case.judge(Check.PORTFOLIO, None, [f"the record {rolled.key!r} says that it is of {record.month} and {record.segment}"])
        elif record.config_version != settings.config_version:
            case.report.leave(Check.PORTFOLIO, "made with another configuration")
        elif record.segment not in segments:
            case.report.leave(Check.PORTFOLIO, "of a segment that is not configured")
        else:
            yield rolled, record


def _why_not(case: Case) -> str:
    if not all(case.folded[topic].reaches_back for topic in FOLDED_TOPICS):
        return "an input no longer reaches back"
    own = reference_commands.rates(case.commands.applied(COMMANDS))
    if rates_by_stream(case.partition.commands) != own:
        return "there are rates which the partition's own log does not say"
    return ""


class _Judge:
    """Computes what publications of one partition must have said, each once."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._expected: dict[tuple[int, int], Figures | None] = {}
        self._newest_ms = max(case.evidence.cursor_times, default=-1)

    def judge(self, records: list[tuple[Rolled, PortfolioRecord]]) -> None:
        """Judge records, newest first."""
        case = self._case
        known = [each for each in records if each[0].written_ms in case.evidence.cursor_times]
        newest = self._figures(*known[0]) if known else None
        for rolled, record in records:
            is_known = rolled.written_ms in case.evidence.cursor_times
            if newest is not None and _is_equal(newest, record):  # what is unchanged is not published again
                case.judge(Check.PORTFOLIO, None, ())
            elif not is_known:
                is_newer = rolled.written_ms > self._newest_ms
                why = "newer than the cut" if is_newer else "the cursor that it was made at is gone from the changelog"
                case.report.leave(Check.PORTFOLIO, why)
            elif (rolled.written_ms, parse_us(record.as_of)) not in self._expected and len(self._expected) >= PUBLICATIONS_MOST:
                case.report.leave(Check.PORTFOLIO, "published at too many instants to compute each")
            else:
                self._compare(rolled, record)
        if newest is not None:
            self._miss(newest)

    def _compare(self, rolled: Rolled, record: PortfolioRecord) -> None:
        expected = self._figures(rolled, record)
        if expected is None:
            self._case.report.leave(Check.PORTFOLIO, "made behind a backlog: its accounts have events that are newer than its instant")
            return
        is_over = record.month < record.as_of[:7]
        if not _is_equal(expected, record) and is_over and self._newest_ms - rolled.written_ms < SETTLING_MS:
            self._case.report.leave(Check.PORTFOLIO, "sums of a month that is over may have been under way")
            return
        mine, theirs = _compared(record.figures), _compared(expected.get(record.month, {}).get(record.segment, {}))
        where = f"{record.month}, {record.segment}, as of {record.as_of}"
        self._case.judge(
            Check.PORTFOLIO,
            None,
            [
                f"{where}: {name} is {mine.get(name, 0)}, the oracle has {theirs.get(name, 0)}"
                for name in sorted(mine.keys() | theirs.keys())
                if mine.get(name) != theirs.get(name)
            ],
        )

    def _miss(self, expected: Figures) -> None:
        told = {each.key for each in self._case.evidence.portfolio}
        for month, by_segment in expected.items():
            for segment in by_segment:
                if f"{self._case.evidence.number}/{month}/{segment}".encode() not in told:
                    self._case.judge(Check.PORTFOLIO, None, [f"{month}, {segment}: there is no record"])

    def _figures(self, rolled: Rolled, record: PortfolioRecord) -> Figures | None:
        """What a publication must say: of the accounts at its cursor, at its instant; None where that instant is not after all events."""
        key = rolled.written_ms, parse_us(record.as_of)
        if key not in self._expected:
            self._expected[key] = self._made(read_cursor(self._case.evidence.cursor_times[rolled.written_ms]), key[1])
        return self._expected[key]

    def _made(self, cursor: Mapping[str, Position], now: int) -> Figures | None:
        case, settings = self._case, self._case.settings
        reached = {
            topic: position.offset
            for topic in FOLDED_TOPICS
            if (position := cursor.get(topic_name(settings.topic_prefix, topic))) is not None
        }

        def until(account: reference.Oracle, name: str) -> reference.Oracle:
            return account.until(
                {topic: bisect_left(case.offsets.get((topic, name), ()), reached.get(topic, 0)) for topic in FOLDED_TOPICS}
            )

        rated: dict[str, Any] | None = None
        into = settings.revenue.reporting_currency
        if into is not None:
            file = {(rate.currency, rate.day.isoformat()): str(rate.rate) for rate in rates_of(settings.revenue)}
            said = until(case.commands, "").applied(COMMANDS)
            rated = {"reporting": into, "rate": reference_commands.rate_of(into, file, said)}
        rules = settings.revenue.model_dump(exclude={"reporting_currency", "rates_file"})
        accounts = [until(account, name) for name, account in case.accounts.items()]
        if any(account.newest() > now for account in accounts):
            return None
        return reference_portfolio.portfolio(
            accounts, now, rules=rules, zone=settings.portfolio.time_zone, segments=settings.portfolio.segments, rated=rated
        )


def _compared(figures: Mapping[str, int]) -> dict[str, int]:
    """Leave out what is 0, what is made of health scores, which are assessed at instants of their own, and what is counted now and then."""
    return {
        name: value
        for name, value in figures.items()
        if value and not name.startswith(reference_portfolio.OF_BANDS) and FIGURES[read_key(name).name].topic != USAGE
    }


def _is_equal(expected: Figures, record: PortfolioRecord) -> bool:
    return _compared(record.figures) == _compared(expected.get(record.month, {}).get(record.segment, {}))
