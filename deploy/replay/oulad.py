"""The Open University Learning Analytics data as events: an account is one enrolment, a subscription of a fixed term.

How a row becomes an event, and why so:

- **Usage** is spread over its day by a hash of the row; the first and the last second of a day are kept free.
- **An invoice for every assessment that counts** (weight above 0; its total is the weight in dollars) is issued when
  the account signs up, for the whole term. The days are those of the account's *product and term*, which hold for all
  accounts alike. The account's own `due` rows would give the same days, but they end at a cancellation: whoever issued
  from them would tell the stream in advance who is going to cancel.
- A `due` row is only used on its day: what has not been settled by the end of that day is overdue. A `settled` row is
  a payment on its day. What is not yet due at a cancellation, or at the end of the term, is voided then.
- **A subscription** of 1.00 USD a month begins with the sign-up. It ends with the cancellation, at the beginning of
  that day (usage of that day, and some later, still arrives: it is in the data), or else with the term, at its end.
- **The score of what was settled** (0 to 100) is an answer about satisfaction, at the time of the payment; also where
  nothing is owed for it.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import partial
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from deploy.replay.corpus import Corpus
from deploy.replay.envelope import END_OF_DAY, MIDNIGHT, Event, ReplayDataError, event, rows, spread, time_of, usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from deploy.replay.corpus import Window

SOURCE: Final = "/replay/oulad"
SETS: Final = ("dev", "small")
"""The sets that a directory may hold, the larger first: `small` is 1,000 accounts of `dev`."""

_ACCOUNTS: Final = (
    "account_id",
    "product",
    "signed_up",
    "term_start",
    "term_end",
    "cancelled",
    "num_of_prev_attempts",
    "studied_credits",
)
_USAGE: Final = ("day", "account_id", "feature", "count", "pages")
_COMMITMENTS: Final = ("day", "account_id", "id_assessment", "event", "assessment_type", "weight", "score")


@dataclass(frozen=True, slots=True)
class Files:
    """The three files of one set."""

    name: str
    accounts: Path
    usage: Path
    commitments: Path


@dataclass(frozen=True, slots=True)
class Assessment:
    """One thing that falls due in a term; `due` is empty when the data never say its day."""

    assessment_id: str
    due: str
    weight: str


Term = tuple[str, str]
"""What has one schedule: a product, and the day that its term begins."""
Schedule = dict[str, Assessment]
"""What counts in a term, by id."""
_Happening = tuple[str, "Callable[[], Iterator[Event]]"]
"""A day, and what becomes of it."""


@dataclass(frozen=True, slots=True)
class Account:
    """One enrolment; days are ISO dates, `cancelled` is empty when it was not."""

    account_id: str
    product: str
    signed_up: str
    term_start: str
    term_end: str
    cancelled: str
    previous_attempts: str
    studied_credits: str

    @property
    def term(self) -> Term:
        """Return the term that the account is enrolled for."""
        return self.product, self.term_start


def find(directory: Path) -> Files:
    """Return the larger of the sets in a directory; raises `ReplayDataError` when there is none."""
    for name in SETS:
        files = [directory / f"oulad_{name}_{part}.csv.gz" for part in ("accounts", "usage", "commitments")]
        if all(file.is_file() for file in files):
            return Files(name, *files)
    message = f"{directory}: no oulad_dev_* or oulad_small_* files (accounts, usage and commitments, .csv.gz) are there"
    raise ReplayDataError(message)


def corpus(directory: Path) -> Corpus:
    """Return the larger of the sets in a directory; raises `ReplayDataError` when there is none."""
    files = find(directory)
    return Corpus(f"OULAD {files.name} in {directory}", partial(events, files), partial(count, files))


def count(files: Files, window: Window) -> int:
    """Return how many events a window holds; usage rows are counted, not mapped."""
    used = sum(window.holds(row[0]) for row in _table(files.usage, _USAGE))
    return used + sum(1 for _ in window.of(facts(files)))


def events(files: Files) -> Iterator[Event]:
    """Yield every event of a set in time order; memory is one day of usage and the accounts."""
    return merge(facts(files), usage(files), key=time_of)


def usage(files: Files) -> Iterator[Event]:
    """Yield one `usage.event` for each row, in time order; the file is sorted by day."""
    for _, day_rows in groupby(_table(files.usage, _USAGE), key=itemgetter(0)):
        yield from sorted(map(_used, day_rows), key=time_of)


def facts(files: Files) -> Iterator[Event]:
    """Yield all that is not usage, in time order: sign-ups, contracts, subscriptions, invoices."""
    accounts = {row[0]: Account(*row) for row in _table(files.accounts, _ACCOUNTS)}
    ledger = Ledger(accounts, _schedules(files.commitments, accounts))
    happenings = merge(
        _on(((account.signed_up, account) for account in accounts.values()), ledger.sign_up),
        _on(((account.cancelled, account) for account in accounts.values() if account.cancelled), ledger.cancel),
        _commitments(files, "settled", ledger.settle),
        _commitments(files, "due", ledger.fall_due),
        _on(((account.term_end, account) for account in accounts.values() if not account.cancelled), ledger.complete),
        key=itemgetter(0),
    )
    # Of one day in the order above, so that what falls due at the end of a day knows what was settled during it.
    for _, of_a_day in groupby(happenings, key=itemgetter(0)):
        yield from sorted((made for _, make in of_a_day for made in make()), key=time_of)


class Ledger:
    """Which invoices are issued, and which of them are settled, as the days go by."""

    def __init__(self, accounts: dict[str, Account], schedules: dict[Term, Schedule]) -> None:
        """Begin before the first day."""
        self._accounts = accounts
        self._schedules = schedules
        self._settled: set[tuple[str, str]] = set()

    def sign_up(self, account: Account) -> Iterator[Event]:
        """Yield the beginning of an account: its facts, its contract, its subscription, its invoices."""
        time = account.signed_up + MIDNIGHT
        yield _event("account.created", account, time, account.account_id, _facts_of(account, time))
        yield _event("contract.signed", account, time, account.account_id, _contract(account))
        begun = _subscription(account, 1, "active")
        yield _event("subscription.upserted", account, time, f"{account.account_id}:1", begun)
        for assessment in self._schedules[account.term].values():
            if not assessment.due or assessment.due >= account.signed_up:
                yield _invoice_event("invoice.issued", account, time, assessment)

    def settle(self, row: list[str]) -> Iterator[Event]:
        """Yield the payment of an invoice, early or late, and what the score of it says."""
        account, assessment = self._found(row)
        day, _, assessment_id, *_, score = row
        time = spread(day, f"{account.account_id},{assessment_id}")
        if assessment is not None:
            self._settled.add((account.account_id, assessment.assessment_id))
            yield _invoice_event("invoice.paid", account, time, assessment)
        if score:
            yield _answer(account, time, assessment_id, float(score))

    def fall_due(self, row: list[str]) -> Iterator[Event]:
        """Yield, at the end of its day, that an invoice is overdue, unless it has been settled."""
        account, assessment = self._found(row)
        if assessment is not None and (account.account_id, assessment.assessment_id) not in self._settled:
            yield _invoice_event("invoice.overdue", account, row[0] + END_OF_DAY, assessment)

    def cancel(self, account: Account) -> Iterator[Event]:
        """Yield the cancellation of a subscription, at the beginning of its day."""
        time = account.cancelled + MIDNIGHT
        yield from self._end(account, time, {"canceled_at": time, "cancellation": {"reason": "cancellation_requested"}})

    def complete(self, account: Account) -> Iterator[Event]:
        """Yield the end of a subscription that reached the end of its term: nobody cancelled."""
        yield from self._end(account, account.term_end + END_OF_DAY, {"cancellation": {"reason": "term_completed"}})

    def _end(self, account: Account, time: str, how: dict[str, object]) -> Iterator[Event]:
        ended = _subscription(account, 2, "canceled") | {"ended_at": time} | how
        yield _event("subscription.upserted", account, time, f"{account.account_id}:2", ended)
        for assessment in self._schedules[account.term].values():
            is_open = (account.account_id, assessment.assessment_id) not in self._settled
            if is_open and (not assessment.due or assessment.due + END_OF_DAY > time):
                yield _invoice_event("invoice.voided", account, time, assessment)

    def _found(self, row: list[str]) -> tuple[Account, Assessment | None]:
        """Return whose row it is and, when it counts, the assessment; raises `ReplayDataError`."""
        _, account_id, assessment_id, *_ = row
        account = self._accounts.get(account_id)
        if account is None:
            message = f"account {account_id} has commitments, and is not in the accounts file"
            raise ReplayDataError(message)
        return account, self._schedules[account.term].get(assessment_id)


def _table(file: Path, columns: tuple[str, ...]) -> Iterator[list[str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        yield from rows(file.name, lines, columns)


def _schedules(file: Path, accounts: dict[str, Account]) -> dict[Term, Schedule]:
    """Return what counts (weight above 0) in each term; an assessment that is only ever settled has no due day."""
    terms: dict[Term, Schedule] = {account.term: {} for account in accounts.values()}
    for day, account_id, assessment_id, kind, _, weight, _ in _table(file, _COMMITMENTS):
        if float(weight) > 0 and account_id in accounts:
            schedule = terms[accounts[account_id].term]
            if kind == "due" or assessment_id not in schedule:
                schedule[assessment_id] = Assessment(assessment_id, day if kind == "due" else "", weight)
    return terms


def _on(days: Iterable[tuple[str, Account]], make: Callable[[Account], Iterator[Event]]) -> Iterator[_Happening]:
    """Yield `(day, what to make of it)` in order of the day."""
    for day, account in sorted(days, key=lambda pair: (pair[0], pair[1].account_id)):
        yield day, partial(make, account)


def _commitments(files: Files, kind: str, make: Callable[[list[str]], Iterator[Event]]) -> Iterator[_Happening]:
    """Yield `(day, what to make of it)` for the rows of one kind, in order of the day as the file is."""
    for row in _table(files.commitments, _COMMITMENTS):
        if row[3] == kind:
            yield row[0], partial(make, row)


def _event(event_type: str, account: Account, time: str, object_id: str, data: dict[str, object]) -> Event:
    # The type in front makes an id sort like the life of its object, should two events fall into one second.
    return event(SOURCE, event_type, f"{event_type}:{object_id}", time, account.account_id, data)


def _facts_of(account: Account, time: str) -> dict[str, object]:
    return {
        "name": account.account_id,
        "segment": account.product,
        "plan": account.product,
        "seats": 1,
        "created_at": time,
        "currency": "USD",
        "custom": {"previous_attempts": account.previous_attempts, "studied_credits": account.studied_credits},
    }


def _contract(account: Account) -> dict[str, object]:
    return {
        "contract_id": account.account_id,
        "term_start": account.term_start + MIDNIGHT,
        "term_end": account.term_end + END_OF_DAY,
        "mrr": usd("1.00"),
    }


def _subscription(account: Account, version: int, status: str) -> dict[str, object]:
    item: dict[str, object] = {
        "item_id": account.account_id,
        "product_id": account.product,
        "price_id": account.product,
        "unit_amount_minor": "100",
        "quantity": 1,
        "interval": "month",
        "interval_count": 1,
        "usage_type": "licensed",
    }
    return {
        "subscription_id": account.account_id,
        "status": status,
        "items": [item],
        "currency": "USD",
        "started_at": account.signed_up + MIDNIGHT,
        "current_period_start": account.term_start + MIDNIGHT,
        "current_period_end": account.term_end + END_OF_DAY,
        "cancel_at_period_end": False,
        "auto_renew": False,
        "version": version,
    }


def _invoice_event(event_type: str, account: Account, time: str, assessment: Assessment) -> Event:
    invoice_id = f"{account.account_id}-{assessment.assessment_id}"
    data: dict[str, object] = {
        "invoice_id": invoice_id,
        "subscription_id": account.account_id,
        "total": usd(assessment.weight),
    }
    if assessment.due:
        data["due_at"] = assessment.due + END_OF_DAY
    return _event(event_type, account, time, invoice_id, data)


def _answer(account: Account, time: str, assessment_id: str, score: float) -> Event:
    survey_id = f"{account.account_id}-{assessment_id}"
    data: dict[str, object] = {
        "survey_id": survey_id,
        "kind": "csat",
        "score": score,
        "scale_min": 0,
        "scale_max": 100,
        "user_id": account.account_id,
    }
    return _event("survey.answered", account, time, survey_id, data)


def _used(row: list[str]) -> Event:
    day, account_id, feature, count, pages = row
    data: dict[str, object] = {
        "event": feature,
        "user_id": account_id,
        "feature": feature,
        "count": int(count),
        "properties": {"pages": int(pages)},
    }
    row_id = f"{day}:{account_id}:{feature}"
    return event(SOURCE, "usage.event", f"usage.event:{row_id}", spread(day, row_id), account_id, data)
