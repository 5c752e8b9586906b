"""Cohort retention: of what started in a month, how much is left each month after (shared metric definitions, section 2)."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from models.kpi.exact import Exact, Reading, exact, none, proportion, ratio


@dataclass(frozen=True, slots=True)
class Member:
    """An account of a cohort: the month it began, in months since any fixed one, and its MRR as each month from then on ended."""

    start: int
    mrr: tuple[Exact, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is left of a cohort some months on: accounts that still pay, and their MRR, both as shares of the first month's."""

    accounts: Reading
    mrr: Reading


def matrix(members: Iterable[Member], now: int, months: int, *, is_unbounded: bool = False) -> dict[int, list[Cell]]:
    """For each start month the cells of 0 to `months` months since; null where that month has not ended yet (`now` is the month that runs).

    The first month's accounts are all that began in it, its MRR is theirs as it ended. `is_unbounded`: an account counts in a month when
    it pays in that or any later one, so a row of accounts never rises.
    """
    cohorts: dict[int, list[Member]] = {}
    for member in members:
        cohorts.setdefault(member.start, []).append(member)
    return {start: [_cell(cohorts[start], start, since, now, is_unbounded) for since in range(months + 1)] for start in sorted(cohorts)}


def _cell(cohort: list[Member], start: int, since: int, now: int, is_unbounded: bool) -> Cell:
    if start + since >= now:
        return Cell(none("still_running"), none("still_running"))
    left = sum(any(each.mrr[since:] if is_unbounded else each.mrr[since : since + 1]) for each in cohort)
    worth = sum((exact(each.mrr[since]) for each in cohort if since < len(each.mrr)), Fraction(0))
    first = sum((exact(each.mrr[0]) for each in cohort if each.mrr), Fraction(0))
    return Cell(proportion(left, len(cohort)), ratio(worth, first))
