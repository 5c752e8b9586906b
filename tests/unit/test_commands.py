"""What is decided for all accounts: kept exactly once, with the state, and in the figures."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deploy.cli import app
from deploy.commands.broadcast import command
from deploy.commands.rates import incomplete, shown
from deploy.rebuild.run import share_commands
from deploy.verify import reference as oracle
from deploy.verify.equality import rates_by_stream
from deploy.verify.reference_commands import rate_of, rates
from deploy.verify.reference_portfolio import added_up, portfolio
from models.commands import PREFIX, Commands
from models.decoding import Reason, decode_batch
from models.input_topics import COMMANDS
from models.kpi.rates import Rate
from models.ledger import RevenueRules
from models.portfolio import Accounting, PortfolioRules
from models.row import NEVER, UnknownRowVersionError
from models.times import DAY_US, HOUR_US, format_us
from models.usage import Outcome
from stream_app.exits import Exit
from tests.support.generate import START, Record, Scene, records
from tests.support.memory_worker import MemoryWorker, definition, log_of
from tests.support.profiles import unhurried
from tests.unit.test_portfolio import PAYING, kept

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_app.pipeline import Definition

NOW = START + 75 * DAY_US
MONEY = Scene(days=70, topics={"payment-events": 8, "account-events": 2})
FILE = {("EUR", "2025-12-01"): "1.05", ("EUR", "2026-01-20"): "1.15", ("GBP", "2026-02-01"): "1.3"}


def rated() -> Definition:
    """A definition that reports in dollars, with rates of a file."""
    rows = [Rate(date.fromisoformat(day), currency, Fraction(rate)) for (currency, day), rate in FILE.items()]
    return replace(definition(), accounting=Accounting.of(RevenueRules(reporting_currency="USD"), PortfolioRules(), rows))


def said(number: int, day: str = "2026-01-10", rate: str = "1.2", at: int = START, **members: Any) -> Record:
    """Write the command that sets a rate."""
    data = {"day": day, "currency": "EUR", "into": "USD", "rate": rate} | members
    return {"id": f"c{number}", "source": "/ops", "type": "exchange_rate.set", "time": format_us(at), "subject": "_all", "data": data}


def commands(rng: Random, count: int) -> list[Record]:
    """Write commands about few days, in any order of their times; some come again, some again with another content."""
    made: list[Record] = []
    for number in range(count):
        if made and rng.random() < 0.2:
            again = dict(rng.choice(made))
            if rng.random() < 0.5:
                again["data"] = again["data"] | {"rate": rng.choice(("1.10", "9.9", "1.1"))}
            made.append(again)
            continue
        day = format_us(START + rng.choice((-30, 0, 5, 31, 60, 500)) * DAY_US)[:10]
        at = START + rng.choice((0, 0, 3, 30, 60)) * DAY_US + rng.choice((0, HOUR_US))
        currency, into = rng.choice((("EUR", "USD"), ("EUR", "USD"), ("GBP", "USD"), ("USD", "EUR")))
        made.append(said(number, day, rng.choice(("1.1", "1.10", "1.25", "0.9")), at, currency=currency, into=into))
    return made


@unhurried(40)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 60))
def test_however_it_is_read_what_is_kept_is_what_the_log_says(seed: int, count: int) -> None:
    """In any batches, with crashes: last writes, and every record has the outcome that the reference gives it."""
    rng = Random(seed)
    history = commands(rng, count)
    naive = oracle.Oracle()
    outcomes = [naive.apply(COMMANDS, record) for record in history]
    worker = MemoryWorker(log_of(history), rated())
    worker.run(rng, crash_share=0.3, sizes=(1, 3, 20))
    worker.checkpoint()
    worker.crash()
    worker.run(rng)
    assert rates_by_stream(worker.partition.commands) == rates(naive.applied(COMMANDS))
    position = worker.partition.positions.get(COMMANDS)
    found = (0, 0, 0, 0) if position is None else (position.applied, position.duplicate, position.late, position.dead_letter)
    assert found == tuple(outcomes.count(outcome) for outcome in ("applied", "duplicate", "late", "dead_letter"))
    assert len(worker.partition.columns) == 0


@unhurried(10)
@given(seed=st.integers(0, 2**32))
def test_the_figures_are_those_of_the_rates_that_were_said(seed: int) -> None:
    """Over the file's, whenever they come; what was published before is published anew where it changes."""
    rng = Random(seed)
    history, decided = records(rng, 80, MONEY), commands(rng, 8)
    worker = MemoryWorker(log_of([*history, *decided]), rated())
    latest: dict[bytes, Any] = {}
    while behind := sorted(worker.behind()):
        worker.step(rng.choice(behind), rng.choice((3, 20)))
        if rng.random() < 0.3:
            latest |= published(worker)
        if rng.random() < 0.1:
            worker.crash()
    latest |= published(worker)
    accounts, _ = oracle.replay([(COMMANDS if each in decided else _topic(each), each) for each in [*history, *decided]])
    told = accounts.pop("_all").applied(COMMANDS)
    expected = portfolio(accounts.values(), NOW, rated={"reporting": "USD", "rate": rate_of("USD", FILE, told)})
    assert added_up(record for record in latest.values() if record is not None) == expected


def published(worker: MemoryWorker) -> dict[bytes, Any]:
    """Bring the roll-up up to date, and commit it with everything else."""
    return {key: None if value is None else json.loads(value) for key, value in worker.publish(NOW).portfolio}


def _topic(record: Record) -> str:
    return "payment-events" if record["type"].split(".")[0] in _PAYING else "account-events"


_PAYING = {"subscription", "invoice", "charge", "refund", "dispute", "credit_note"}


def test_a_rate_alone_is_fx_and_never_expansion() -> None:
    """10 euros a month, and the rate goes from 1.05 to 1.25 on the tenth of a month, set when that is over."""
    subscription = {
        "id": "s",
        "source": "/test",
        "type": "subscription.upserted",
        "subject": "acme",
        "time": "2026-01-02T00:00:00Z",
        "data": PAYING | {"currency": "EUR"},
    }
    now = START + 20 * DAY_US
    worker = MemoryWorker(log_of([subscription]), rated())
    worker.run(Random(0))
    before = kept(worker.partition, now)[b"0/2026-01/other"]["figures"]
    assert (before["mrr_new@USD"], before["mrr_fx@USD"], before["mrr_end@USD"]) == (1_050_000_000, 100_000_000, 1_150_000_000)
    worker.log = log_of([subscription, said(1, "2026-01-10", "1.25"), said(2, "2026-01-20", "1.25"), said(3, "2026-02-01", "1")])
    worker.run(Random(0))
    after = kept(worker.partition, now)[b"0/2026-01/other"]["figures"]
    assert (after["mrr_fx@USD"], after["mrr_end@USD"], after["mrr_expansion@USD"]) == (200_000_000, 1_250_000_000, 0)
    assert kept(worker.partition, now) == {}
    later = kept(worker.partition, START + 31 * DAY_US)[b"0/2026-02/other"]["figures"]
    assert (later["mrr_start@USD"], later["mrr_fx@USD"], later["mrr_contraction@USD"]) == (1_250_000_000, -250_000_000, 0)


def test_rates_without_a_file_and_without_a_reporting_currency() -> None:
    """With the first everything has a rate once one is said; without the second nothing is converted."""
    for currency, expected in (("USD", "USD"), (None, "EUR")):
        accounting = Accounting.of(RevenueRules(reporting_currency=currency), PortfolioRules())
        worker = MemoryWorker(log_of([said(1)]), replace(definition(), accounting=accounting))
        assert accounting.valuation.reporting("EUR") == "EUR"
        worker.run(Random(0))
        assert worker.partition.book._accounting.valuation.reporting("EUR") == expected


def test_what_is_decided_today_does_not_end_a_past_that_is_replayed() -> None:
    """On the log clock the time is that of what happened to accounts."""
    history = [said(1, at=START + 400 * DAY_US)]
    worker = MemoryWorker(log_of(history), definition(is_log_clock=True))
    worker.run(Random(0))
    assert worker.partition.now(set(), NOW) == NEVER


def test_a_change_writes_the_sheet_that_it_is_in() -> None:
    """And which ids are known; a year and a pair of currencies is a sheet, so that no record grows without bound."""
    worker = MemoryWorker(log_of([said(1), said(2, "2026-05-01"), said(3, "2025-05-01"), said(4, currency="GBP")]), definition())
    worker.run(Random(0))
    worker.checkpoint()
    names = sorted(key.removeprefix(PREFIX) for key in worker.changelog if key.startswith(PREFIX))
    assert names == [b"known", b"rates/2025/EUR/USD", b"rates/2026/EUR/USD", b"rates/2026/GBP/USD"]
    worker.log = log_of([said(1), said(2, "2026-05-01"), said(3, "2025-05-01"), said(4, currency="GBP"), said(5, "2025-05-02")])
    worker.step(COMMANDS, 9)
    changed = [key.removeprefix(PREFIX) for key, _ in worker.partition.take().parts]
    assert changed == [b"known", b"rates/2025/EUR/USD"]


def test_a_sheet_of_a_newer_release_is_refused() -> None:
    """To read half of it would be to lose the rest."""
    with pytest.raises(UnknownRowVersionError, match="version 2"):
        Commands().put(PREFIX + b"known", b"\x93\x02\x80\xc4\x00")


def test_a_rebuild_gives_every_partition_what_any_of_them_has() -> None:
    """A partition that the topics got later has no record of it in its own log."""
    partitions: list[Any] = []
    for history in ([said(1), said(2, "2026-02-01")], [said(1), said(3, "2026-02-01", "1.4", START + 1)], []):
        worker = MemoryWorker(log_of(history), rated())
        worker.run(Random(0))
        worker.checkpoint()
        partitions.append(worker.partition)
    assert incomplete({number: each.commands for number, each in enumerate(partitions)}) == [0, 2]
    share_commands(partitions)
    assert len({str(rates_by_stream(each.commands)) for each in partitions}) == 1
    assert partitions[2].commands.rates("USD") == {
        ("EUR", date(2026, 1, 10)): Fraction("1.2"),
        ("EUR", date(2026, 2, 1)): Fraction("1.4"),
    }
    for each in partitions:
        assert PREFIX + b"rates/2026/EUR/USD" in dict(each.take().parts)
        assert each.book._accounting.valuation.value("EUR", 1_000_000, START + 40 * DAY_US) == 1_400_000


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"day": "2026-02-30"}, Reason.BAD_VALUE),
        ({"day": "1.2.2026"}, Reason.BAD_VALUE),
        ({"currency": "ZZZ"}, Reason.BAD_VALUE),
        ({"into": "EUR"}, Reason.BAD_VALUE),
        ({"rate": "0.000"}, Reason.BAD_VALUE),
        ({"rate": "-1"}, Reason.BAD_VALUE),
        ({"rate": "1e3"}, Reason.BAD_VALUE),
        ({"rate": 1.085}, Reason.BAD_TYPE),
        ({"rate": None}, Reason.BAD_TYPE),
    ],
)
def test_a_rate_that_is_none_is_a_dead_letter(members: dict[str, Any], reason: Reason) -> None:
    """With the member that is wrong; a worker goes on with what it had."""
    worker = MemoryWorker(log_of([said(1, **members), said(2)]), rated())
    worker.run(Random(0))
    worker.checkpoint()
    assert [dict(letter.headers)["churnwatch.error.reason"] for letter in worker.dead_letters] == [reason.value.encode()]
    assert len(rates_by_stream(worker.partition.commands)) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("2026-13-01", "EUR", "1.08"), "day: expected a day, as in 2026-11-01"),
        (("2026-02-30", "EUR", "1.08"), "day: expected a day"),
        (("2026-11-01", "EUR", "1,08"), "rate: expected a decimal number above 0, as in 1.0850"),
        (("2026-11-01", "EUR", "0"), "rate: expected a decimal number above 0"),
        (("2026-11-01", "EURO", "1"), "currency: expected three upper-case letters"),
        (("2026-11-01", "usd", "1"), "currency: expected one of ISO 4217, and into another one"),
    ],
)
def test_a_rate_that_cannot_be_sent_says_which_argument_and_what_it_should_be(arguments: tuple[str, ...], told: str) -> None:
    """In the words of the command line, before a broker is asked; small letters are as good as capitals."""
    result = CliRunner().invoke(app, ["rates", "set", *arguments, "--into", "usd", "--bootstrap", "127.0.0.1:1"])
    assert result.exit_code == Exit.CONFIGURATION
    assert result.stderr.startswith(f"error: {told}")


def test_a_command_for_all_is_nobodys_own() -> None:
    """Under an account's id it would reach one partition: it is refused, in every way of writing it."""
    mine = said(1) | {"subject": "acme"}
    worker = MemoryWorker(log_of([mine]), rated())
    worker.run(Random(0))
    worker.checkpoint()
    [letter] = worker.dead_letters
    assert dict(letter.headers)["churnwatch.error.reason"] == b"bad_value"
    assert b"subject" in dict(letter.headers)["churnwatch.error.message"]


def test_the_command_that_is_sent_is_one_that_a_worker_takes() -> None:
    """Each with an id of its own, decided at the instant that it says."""
    data = {"day": "2026-11-01", "currency": "EUR", "into": "USD", "rate": "1.0850"}
    one, two = command("exchange_rate.set", data, NOW), command("exchange_rate.set", data, NOW)
    decoded = decode_batch(COMMANDS, [one, two])
    assert decoded.times_us.tolist() == [NOW, NOW]
    assert Commands().fold(decoded.events[0], NOW, decoded.identity[0].tobytes()) == Outcome.APPLIED
    assert json.loads(one.value or b"")["id"] != json.loads(two.value or b"")["id"]


def test_what_is_shown_says_where_a_rate_is_from() -> None:
    """A rate that was set takes the place of the file's of that day."""
    worker = MemoryWorker(log_of([said(1, "2026-01-20", "1.20")]), rated())
    worker.run(Random(0))
    rows = shown(rated().accounting.rates, "USD", worker.partition.commands)
    assert [(each.currency, each.day, each.rate, each.origin) for each in rows] == [
        ("EUR", "2025-12-01", "1.05", "file"),
        ("EUR", "2026-01-20", "1.20", "set"),
        ("GBP", "2026-02-01", "1.3", "file"),
    ]


def read_back(sheets: Iterable[tuple[bytes, bytes]]) -> Commands:
    """Read sheets back."""
    found = Commands()
    for key, value in sheets:
        found.put(key, value)
    return found


def test_what_is_stored_reads_back() -> None:
    """All of it, known ids included: what came before a crash is a duplicate after it."""
    told = Commands()
    [event] = decode_batch(COMMANDS, log_of([said(1)])[COMMANDS]).events
    told.fold(event, START, b"whose-what")
    again = read_back(told.take())
    assert rates_by_stream(again) == rates_by_stream(told)
    assert again.fold(event, START, b"whose-what") == Outcome.DUPLICATE
    assert again.fold(event, START, b"whose-else") == Outcome.CONFLICT
    assert again.take() == []
    again.mark_whole()
    assert rates_by_stream(read_back(again.take())) == rates_by_stream(told)
