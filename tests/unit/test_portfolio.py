"""The roll-up: whatever happens to workers, the figures of the partitions add up to those that the log says."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.schemas import DOCS
from deploy.verify import reference as oracle
from deploy.verify.reference_portfolio import added_up, portfolio
from models import support
from models.columns import Columns
from models.health import BAND_NAMES
from models.kpi.catalogue import KPIS
from models.kpi.figures import FIGURES, read_key
from models.kpi.portfolio.book import Book as KpiBook
from models.ledger import RevenueRules
from models.portfolio import PROVIDERS, ZEROS, Accounting, Book, PortfolioRules, each_month, read_record
from models.texts import Reading
from models.times import DAY_US, HOUR_US, parse_us
from tests.support.generate import START, Record, Scene, histories, records, topic_of
from tests.support.lives import STEPS, random_lives
from tests.support.memory_worker import MemoryWorker, definition, log_of
from tests.support.profiles import examples, unhurried

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_app.pipeline import Definition, Partition

SEGMENTS = ("smb",)
CHECKLISTS = {"default": STEPS, "admin": STEPS[:2]}
NOW = START + 75 * DAY_US
PAYING = {
    "subscription_id": "s",
    "status": "active",
    "items": [{"unit_amount_minor": 1000, "interval": "month"}],
    "currency": "USD",
    "version": 1,
    "auto_renew": True,
}
MONEY = Scene(days=70, topics={"payment-events": 8, "account-events": 2})
ALL = Scene(days=70, topics={"payment-events": 6, "account-events": 4, "ticket-events": 5, "survey-events": 4})


def of_zone(zone: str = "UTC") -> Definition:
    """A definition that reports one segment by name."""
    rules = PortfolioRules(time_zone=zone, segments=SEGMENTS, checklists=CHECKLISTS)
    return replace(definition(), accounting=Accounting.of(RevenueRules(), rules), zone=ZoneInfo(zone), read_text=read_text)


def read_text(text: str, _language: str | None) -> Reading:
    """Find every text a little better than the one before it in length, but for the shortest."""
    return Reading(len(text) * 100 if len(text) > 2 else None, ("pricing",))


def kept(partition: Partition, now: int = NOW, accounts: int = 3) -> dict[bytes, Any]:
    """Bring the roll-up up to date, and take what it publishes."""
    while partition.keep_books(now, accounts):
        pass
    partition.publish_books(now)
    return {key: None if value is None else json.loads(value) for key, value in partition.take().portfolio}


def shares(history: Iterable[Record], count: int) -> list[list[Record]]:
    """Share a history out over partitions by account."""
    parts: list[list[Record]] = [[] for _ in range(count)]
    for record in history:
        parts[sum(record["subject"].encode()) % count].append(record)
    return parts


def published(parts: Iterable[dict[bytes, Any]], *, has_bands: bool = False) -> dict[str, dict[str, dict[str, int]]]:
    """Add up what partitions published."""
    return added_up((record for part in parts for record in part.values() if record is not None), has_bands=has_bands)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(history=histories(ALL), seed=st.integers(0, 2**32), zone=st.sampled_from(["UTC", "America/New_York"]))
def test_however_accounts_are_shared_out_the_figures_are_those_of_the_log(history: list[Record], seed: int, zone: str) -> None:
    """One, two and four partitions, read in any batches, with crashes: all the naive roll-up of the whole log."""
    accounts, _ = oracle.replay([(topic_of(record), record) for record in history], read_text, ZoneInfo(zone))
    expected = portfolio(accounts.values(), NOW, zone=zone, segments=SEGMENTS, checklists=CHECKLISTS)
    for count in (1, 2, 4):
        parts = []
        for share in shares(history, count):
            worker = MemoryWorker(log_of(share), of_zone(zone))
            worker.run(Random(seed), crash_share=0.2)
            if seed % 2:
                worker.checkpoint()
                worker.crash()
            parts.append(kept(worker.partition))
        assert published(parts) == expected


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(seed=st.integers(0, 2**32))
def test_looked_at_while_events_come_in_it_ends_where_one_look_at_the_end_does(seed: int) -> None:
    """Published in between at any times, over days and months, with accounts whose past changes: latest records are absolute."""
    rng = Random(seed)
    history = records(rng, 120, ALL)
    worker = MemoryWorker(log_of(history), of_zone())
    latest: dict[bytes, Any] = {}
    now = START + 20 * DAY_US
    while behind := sorted(worker.behind()):
        worker.step(rng.choice(behind), rng.choice((1, 10, 30)))
        if rng.random() < 0.5:
            worker.partition.keep_books(now, rng.choice((1, 5, 100)))
        if rng.random() < 0.3:
            latest |= kept(worker.partition, now)
        now = min(now + rng.choice((0, HOUR_US, DAY_US, 8 * DAY_US)), NOW)
    latest |= kept(worker.partition)
    fresh = MemoryWorker(log_of(history), of_zone())
    fresh.run(rng)
    whole = kept(fresh.partition)
    assert published([latest]) == published([whole])
    assert kept(worker.partition) == {}


@unhurried(60)
@given(seed=st.integers(0, 2**32), days=st.sampled_from([120, 700]), zone=st.sampled_from(["UTC", "Europe/Berlin"]))
def test_the_figures_of_lives_are_those_of_the_log(seed: int, days: int, zone: str) -> None:
    """Also of what was let go of long since; looked at once, or again and again while time passes with no event."""
    rng = Random(seed)
    history = random_lives(rng, 100, days)
    accounts, _ = oracle.replay([(topic_of(record), record) for record in history], zone=ZoneInfo(zone))
    worker = MemoryWorker(log_of(history), of_zone(zone))
    worker.run(rng, crash_share=0.1)
    now = max(parse_us(record["time"]) for record in history) - 2 * DAY_US
    latest: dict[bytes, Any] = {}
    for _ in range(3):
        now += rng.choice((0, 1, 5 * HOUR_US, 3 * DAY_US, 14 * DAY_US))
        latest |= kept(worker.partition, now, 100)
    assert published([latest]) == portfolio(accounts.values(), now, zone=zone, segments=SEGMENTS, checklists=CHECKLISTS)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(seed=st.integers(0, 2**32), zone=st.sampled_from(["UTC", "Asia/Kolkata"]))
def test_what_time_alone_changes_is_noticed_in_time(seed: int, zone: str) -> None:
    """With no event more, a roll-up that looked before says what one says that looks now: what grows old, ends, or is to come."""
    rng = Random(seed)
    history = records(rng, 60, ALL) if seed % 2 else random_lives(rng, 100, 120)
    worker = MemoryWorker(log_of(history), of_zone(zone))
    worker.run(rng)
    fresh = MemoryWorker(log_of([]), worker.definition, changelog=worker.changelog)
    now = START + rng.randrange(75) * DAY_US
    latest: dict[bytes, Any] = {}
    for _ in range(4):
        now += rng.choice((0, HOUR_US, 6 * HOUR_US)) + rng.choice((0, 1, HOUR_US // 4))
        latest |= kept(worker.partition, now)
        fresh.crash()
        assert published([latest]) == published([kept(fresh.partition, now)])


@unhurried(30)
@given(seed=st.integers(0, 2**32))
def test_bands_are_those_that_accounts_are_in(seed: int) -> None:
    """Customers, MRR, and what renews within 90 days, of the running month only; bands that change are published."""
    rng = Random(seed)
    history = random_lives(rng, 60, 200)
    accounts, _ = oracle.replay([(topic_of(record), record) for record in history])
    worker = MemoryWorker(log_of(history), of_zone())
    worker.run(rng)
    now = max(parse_us(record["time"]) for record in history) - 3 * DAY_US
    latest: dict[bytes, Any] = {}
    for _ in range(2):
        columns = worker.partition.columns
        bands = rng.choices(list(BAND_NAMES), k=len(columns))
        columns.band[: len(columns)] = bands
        worker.partition.book.shift()
        latest |= kept(worker.partition, now, 50)
        told = published([latest], has_bands=True)
        of = {id(accounts[key.decode()]): BAND_NAMES[band] for key, band in zip(columns.keys, bands, strict=True)}

        def band_of(account: oracle.Oracle, of: dict[int, str] = of) -> str:
            return of[id(account)]

        assert told == portfolio(accounts.values(), now, segments=SEGMENTS, checklists=CHECKLISTS, band_of=band_of)
        running = [figures for _, figures in told[max(told)].items()]
        for whole, by_band in (("customers_end", "customers_by_band{"), ("mrr_end@USD", "mrr_by_band{")):
            for figures in running:
                assert figures.get(whole, 0) == sum(value for name, value in figures.items() if name.startswith(by_band))


def test_an_account_that_falls_into_another_band_is_published() -> None:
    """Nobody says anything more: that it is silent is enough."""
    used = [_event("usage.event", f"2026-01-{day:02}T12:00:00Z", {"event": "e", "user_id": "u", "count": 9}) for day in range(1, 31)]
    worker = MemoryWorker(log_of([*used, _event("subscription.upserted", "2026-01-02T00:00:00Z", PAYING)]), of_zone())
    worker.wall_us = parse_us("2026-01-30T13:00:00Z")
    worker.run(Random(0))
    first = kept(worker.partition, worker.wall_us)[b"0/2026-01/other"]["figures"]
    worker.wall_us = parse_us("2026-02-25T13:00:00Z")
    while worker.tick():
        pass
    later = kept(worker.partition, worker.wall_us)[b"0/2026-02/other"]["figures"]
    name = "customers_by_band"
    before, after = ({key for key in figures if key.startswith(name)} for figures in (first, later))
    assert len(before) == len(after) == 1
    assert before != after


def test_what_did_not_change_is_not_said_again() -> None:
    """A restarted partition says all of it, then only the months and segments that moved, and drops months that are over."""
    history = [_event("subscription.upserted", "2026-01-02T00:00:00Z", PAYING), *records(Random(3), 200, MONEY)]
    worker = MemoryWorker(log_of(history), of_zone())
    worker.run(Random(1))
    first = kept(worker.partition)
    assert len([record for record in first.values() if record is not None]) == 25 * 2
    assert len([key for key, record in first.items() if record is None]) == 3 * 2
    assert kept(worker.partition) == {}
    next_day = kept(worker.partition, NOW + DAY_US)
    assert {key.split(b"/")[1] for key in next_day} <= {b"2026-03", b"2026-04"} | {key.split(b"/")[1] for key in first if first[key]}
    assert 0 < len(next_day) < 10


def test_the_running_month_is_at_hand_as_it_was_published() -> None:
    """By segment, those that nobody is in as well; nothing before the first publication, and a new object with each."""
    worker = MemoryWorker(log_of([_event("subscription.upserted", "2026-01-02T00:00:00Z", PAYING)]), of_zone())
    worker.run(Random(1))
    assert worker.partition.book.running == {}
    told = kept(worker.partition, parse_us("2026-01-20T00:00:00Z"))
    running = worker.partition.book.running
    assert running == {segment: told[f"0/2026-01/{segment}".encode()]["figures"] for segment in ("smb", "other")}
    assert running["other"]["mrr_new@USD"] == 1_000_000_000
    next_month = kept(worker.partition, parse_us("2026-02-01T00:00:00Z"))
    assert worker.partition.book.running["other"] == next_month[b"0/2026-02/other"]["figures"]
    assert worker.partition.book.running is not running


def test_what_comes_again_after_it_was_let_go_is_another_one() -> None:
    """A credit note's id four months later: for the stream, which has let go of the first, and for the naive roll-up."""
    note = {"credit_note_id": "n", "invoice_id": "i", "amount": {"amount_minor": 990, "currency": "USD"}}
    dispute = {"dispute_id": "d", "amount": {"amount_minor": 1, "currency": "USD"}}
    history = [
        _event("credit_note.created", "2026-01-08T00:00:00Z", note),
        _event("dispute.opened", "2026-05-18T00:00:00Z", dispute),
        _event("credit_note.created", "2026-05-19T00:00:00Z", note),
    ]
    worker = MemoryWorker(log_of(history), of_zone())
    worker.run(Random(0))
    now = parse_us("2026-06-01T00:00:00Z")
    accounts, _ = oracle.replay([(topic_of(record), record) for record in history])
    expected = portfolio(accounts.values(), now, segments=SEGMENTS)
    assert expected["2026-06"]["other"]["revenue_to_date@USD"] == -1_980_000_000
    assert published([kept(worker.partition, now)]) == expected


def test_the_time_of_the_figures_never_goes_back() -> None:
    """Behind a backlog the log's time is an earlier one: the figures stay those of the instant that they say."""
    worker = MemoryWorker(log_of([_event("subscription.upserted", "2026-01-02T00:00:00Z", PAYING)]), of_zone())
    kept(worker.partition, NOW)
    worker.run(Random(1))
    told = kept(worker.partition, parse_us("2026-01-20T00:00:00Z"))
    running = told[b"0/2026-03/other"]
    assert (parse_us(running["as_of"]), running["figures"]["mrr_start@USD"]) == (NOW, 1_000_000_000)


def test_a_change_of_segment_takes_the_account_along() -> None:
    """It counts in the segment that it has now, in every month."""
    at = "2026-01-10T00:00:00Z"
    history = [_event("subscription.upserted", at, PAYING), _event("account.updated", "2026-03-01T00:00:00Z", {"segment": "smb"})]
    worker = MemoryWorker(log_of(history[:1]), of_zone())
    worker.run(Random(0))
    now = parse_us("2026-03-05T00:00:00Z")
    before = kept(worker.partition, now)
    assert before[b"0/2026-01/other"]["figures"]["mrr_new@USD"] == 1_000_000_000
    assert before[b"0/2026-01/smb"]["figures"]["mrr_new@USD"] == 0
    worker.log = log_of(history)
    worker.run(Random(0))
    after = kept(worker.partition, now)
    assert after[b"0/2026-01/smb"]["figures"]["mrr_new@USD"] == 1_000_000_000
    assert after[b"0/2026-01/other"]["figures"]["mrr_new@USD"] == 0


def test_what_time_alone_changes_is_published() -> None:
    """A dunning window that ends with no event is in the next figures."""
    subscription = {
        "subscription_id": "s",
        "status": "past_due",
        "items": [{"unit_amount_minor": 1000, "interval": "month"}],
        "currency": "USD",
        "version": 1,
    }
    worker = MemoryWorker(log_of([_event("subscription.upserted", "2026-03-01T05:00:00Z", subscription)]), of_zone())
    worker.run(Random(0))
    ends = parse_us("2026-03-16T05:00:00Z")
    assert kept(worker.partition, ends - 1)[b"0/2026-03/other"]["figures"]["mrr_delinquent@USD"] == 1_000_000_000
    assert kept(worker.partition, ends)[b"0/2026-03/other"]["figures"]["mrr_churn@USD"] == 1_000_000_000


def test_a_record_says_whose_it_is_and_reads_back() -> None:
    """Key, partition, month, segment, the instant, the configuration; figures by the text of their keys, zeros of the feed included."""
    history = records(Random(5), 100, MONEY)
    worker = MemoryWorker(log_of(history), of_zone())
    worker.run(Random(1))
    while worker.partition.keep_books(NOW, 50):
        pass
    worker.partition.publish_books(NOW)
    schema = jsonschema.Draft202012Validator(json.loads((DOCS / "schemas" / "portfolio-metrics.json").read_text("utf-8")))
    for key, value in worker.partition.take().portfolio:
        if value is None:
            continue
        schema.validate(json.loads(value))
        record = read_record(value)
        assert key == f"{record.partition}/{record.month}/{record.segment}".encode()
        assert record.config_version == "test"
        assert {f"{name}" for name in ZEROS["payment"] if not FIGURES[name].is_money} <= record.figures.keys()


def test_revenue_is_not_told_before_anything_was_paid() -> None:
    """Subscriptions and refunds alone say nothing of what was paid, and no total is below 0; one paid invoice does, if only of 0."""
    refund = {"refund_id": "r", "amount": {"amount_minor": 500, "currency": "USD"}}
    history = [_event("subscription.upserted", "2026-01-02T00:00:00Z", PAYING), _event("refund.created", "2026-03-03T00:00:00Z", refund)]
    names = {"revenue_paid", "revenue_one_off", "revenue_refunded", "orders", "buyers", "buyers_ever"}

    def told_after(*more: Record) -> tuple[dict[str, int], Any, Any]:
        worker = MemoryWorker(log_of([*history, *more]), of_zone())
        worker.run(Random(0))
        told = kept(worker.partition)[b"0/2026-03/other"]["figures"]
        book = KpiBook({read_key(name): value for name, value in told.items()}, None, "USD")
        own = {name: value for name, value in told.items() if name.partition("@")[0] in names}
        return own, KPIS["total_revenue"].value(book), KPIS["clv_historic"].value(book)

    figures, *kpis = told_after()
    assert figures == {"revenue_refunded@USD": 500_000_000}
    assert [(kpi.value, kpi.reason) for kpi in kpis] == [(None, "not_observed")] * 2
    free = {"invoice_id": "i", "total": {"amount_minor": 0, "currency": "USD"}}
    figures, total, _ = told_after(_event("invoice.paid", "2026-03-04T00:00:00Z", free))
    assert figures == {"revenue_paid@USD": 0, "revenue_one_off@USD": 0, "revenue_refunded@USD": 500_000_000}
    assert total.value == -500
    order = {"charge_id": "c", "order_id": "o", "amount": {"amount_minor": 700, "currency": "USD"}}
    figures, total, _ = told_after(_event("charge.succeeded", "2026-03-04T00:00:00Z", order))
    assert (figures["orders"], figures["buyers"], figures["buyers_ever"], total.value) == (1, 1, 1, 200)


def test_the_figures_of_a_feed_are_figures() -> None:
    """Those that are told of together exist, once, and have no label; providers are of parts that there are."""
    assert PROVIDERS.keys() <= set(Columns().parts)
    names = [name for names in ZEROS.values() for name in names]
    assert len({*names}) == len(names)
    assert not [name for name in names if FIGURES[name].label]


def test_amounts_of_any_size_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures beyond 64 bits, of either sign, are summed exactly; a part is asked for by each of its months."""
    columns = Columns()
    columns.slots_of([b"a", b"b", b"c"])
    for slot in range(3):
        columns.parts["support"].put(slot, msgspec.msgpack.encode(support.empty()))
    asked: list[int] = []

    def figures_of(_part: Any, month: int, _zone: ZoneInfo, _now: int) -> dict[str, int]:
        asked.append(month)
        return {"tickets_open": 2**80, "tickets_reopened": -(2**70) - 1, "touchpoints{qbr}": 1}

    monkeypatch.setitem(PROVIDERS, "support", (each_month("support", figures_of),))
    book = Book(0, columns, Accounting.of(RevenueRules(), PortfolioRules()), "test")
    while book.advance(NOW, 1):
        pass
    told = [read_record(value).figures for _, value in book.records(NOW) if value is not None]
    sums = {"tickets_open": 3 * 2**80, "tickets_reopened": 3 * (-(2**70) - 1), "touchpoints{qbr}": 3}
    assert told == [dict.fromkeys(ZEROS["support"], 0) | sums] * 25
    assert len(set(asked)) == 25


@pytest.mark.parametrize(
    "wrong",
    [{"time_zone": "Mars/Base"}, {"segments": ["a", "a"]}, {"segments": ["other"]}, {"segments": [""]}, {"checklists": {"a": ["b", "b"]}}],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    """A zone that is none, a segment named twice, or called as the rest is."""
    with pytest.raises(ValueError, match=r"time zone|segments|character|checklists"):
        PortfolioRules(**wrong)


def _event(kind: str, time: str, data: Record) -> Record:
    return {"id": f"{kind}{time}", "source": "/test", "type": kind, "subject": "acme", "time": time, "data": data}
