"""The money ledger: what an account pays over time, what moved it, and that a naive second implementation says the same."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import events, payments
from models.changes import CHANGES_MAX
from models.kpi.figures import FIGURES, Key
from models.times import DAY_US, format_us, parse_us
from tests.support.ledgers import (
    START,
    Record,
    Writer,
    folded,
    of_oracle,
    of_stream,
    paid_of_oracle,
    paid_of_stream,
    random_history,
    random_payments,
    told,
)
from tests.support.profiles import examples

MRR = [f"mrr_{kind}" for kind in ["start", "end", "new", "reactivation", "expansion", "resume", "contraction", "churn", "pause", "fx"]]
BY_PRODUCT = {"mrr_end": "mrr_by_product", "mrr_start": "mrr_by_product_start", "mrr_nrr_kept": "mrr_by_product_kept"}
CUSTOMERS = [f"customers_{kind}" for kind in ["start", "end", "new", "reactivated", "churned", "same_period_churned"]]

ZONES = ["UTC", "Asia/Kolkata", "Pacific/Auckland", "Pacific/Honolulu"]
seeds = st.integers(0, 2**32)
rules = st.fixed_dictionaries(
    {},
    optional={
        "dunning_days": st.sampled_from([0, 3, 30]),
        "allowed_gap_days": st.sampled_from([0, 40]),
        "reactivation_horizon_days": st.sampled_from([5, 90]),
        "pause_policy": st.just("keep"),
        "churn_recognition": st.just("immediate"),
        "discount_policy": st.sampled_from(["all", "none"]),
        "include_metered": st.just(True),  # noqa: FBT003
        "weeks_per_month": st.just("4.33"),
        "mrr_expiry_days": st.sampled_from([None, 7, 400]),
        "merge_minutes": st.sampled_from([0, 11, 1440]),
    },
)


def some(months: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Leave out months of which nothing is told."""
    return {month: figures for month, figures in months.items() if figures}


@settings(max_examples=examples(150), deadline=None)
@given(seed=seeds, count=st.integers(0, 14), rules=rules, zone=st.sampled_from(["UTC", "America/New_York"]), is_rated=st.booleans())
def test_the_ledger_is_the_naive_one(seed: int, count: int, rules: dict[str, Any], zone: str, is_rated: bool) -> None:
    """Any history, any rules, any zone, with and without rates: every figure of every month agrees."""
    rng = Random(seed)
    history = random_history(rng, count)
    now = START + rng.randrange(560) * DAY_US
    past = [record for record in history if parse_us(record["time"]) <= now]
    stream = of_stream(folded(past), now, zone, is_rated=is_rated, **rules)
    assert told(stream) == some(of_oracle(past, now, zone, is_rated=is_rated, **rules))


@settings(max_examples=examples(6), deadline=None)
@given(seed=seeds)
def test_what_is_forgotten_changes_no_month_that_is_told(seed: int) -> None:
    """Years of history: versions older than 800 days are let go, and the figures stay those of the naive implementation."""
    rng = Random(seed)
    history = random_history(rng, 30, days=1800)
    now = START + rng.randrange(1400, 1900) * DAY_US
    past = [record for record in history if parse_us(record["time"]) <= now]
    assert told(of_stream(folded(past), now)) == some(of_oracle(past, now))


@settings(max_examples=examples(60), deadline=None)
@given(seed=seeds, count=st.integers(0, 40), is_rated=st.booleans())
def test_what_moved_a_month_leads_from_its_start_to_its_end(seed: int, count: int, is_rated: bool) -> None:
    """The two identities hold exactly, in each month and currency, and a month begins where the last one ended."""
    rng = Random(seed)
    ledger = of_stream(folded(random_history(rng, count)), START + 700 * DAY_US, is_rated=is_rated)
    ended: dict[Key, int] = {}
    for figures in ledger.months.values():
        for currency in {key.currency for key in figures if key.currency}:
            own = {name: figures.get(Key(name, "", currency), 0) for name in MRR}
            gains = own["mrr_new"] + own["mrr_reactivation"] + own["mrr_expansion"] + own["mrr_resume"]
            losses = own["mrr_contraction"] + own["mrr_churn"] + own["mrr_pause"]
            assert own["mrr_start"] + gains - losses + own["mrr_fx"] == own["mrr_end"]
            assert min(value for name, value in own.items() if name != "mrr_fx") >= 0
        for whole, by_product in BY_PRODUCT.items():
            for currency in {key.currency for key in figures if key.currency}:
                shares = [amount for key, amount in figures.items() if key.name == by_product and key.currency == currency]
                assert min(shares, default=1) > 0
                total = figures.get(Key(whole, "", currency), 0)
                assert sum(shares) <= total if whole == "mrr_nrr_kept" else sum(shares) == total
        count_of = {name: figures.get(Key(name), 0) for name in CUSTOMERS}
        came = count_of["customers_new"] + count_of["customers_reactivated"]
        left = count_of["customers_churned"] + count_of["customers_same_period_churned"]
        assert count_of["customers_start"] + came - left == count_of["customers_end"]
        for key, amount in figures.items():
            if key.name in {"mrr_start", "customers_start"} and ended:
                assert ended.get(Key(key.name.replace("start", "end"), "", key.currency)) == amount
        ended = {Key("", "", ""): 0} | figures
    assert set(CUSTOMERS) | set(MRR) <= set(FIGURES)


@settings(max_examples=examples(60), deadline=None)
@given(seed=seeds, count=st.integers(0, 30))
def test_the_order_of_arrival_changes_nothing(seed: int, count: int) -> None:
    """Each event up to seven days after its time, some twice: the same movements and figures."""
    rng = Random(seed)
    history = random_history(rng, count, days=200)
    again = sorted(history, key=lambda record: parse_us(record["time"]) + rng.randrange(7 * DAY_US))
    again += rng.sample(again, len(again) // 4) if again else []
    one, other = (of_stream(folded(order), START + 300 * DAY_US) for order in (history, again))
    assert (one.movements, one.months, one.next_at) == (other.movements, other.months, other.next_at)


def test_nothing_happens_before_the_next_instant_that_is_named() -> None:
    """Until `next_at` the balance is the same at any `now`, and at it the ledger says something new."""
    for seed in range(40):
        rng = Random(seed)
        payment = folded(random_history(rng, 8, days=100))
        now = START + rng.randrange(100, 200) * DAY_US
        ledger = of_stream(payment, now)
        if ledger.next_at < now + 400 * DAY_US:
            assert of_stream(payment, ledger.next_at - 1).movements == ledger.movements
            assert of_stream(payment, ledger.next_at - 1).next_at == ledger.next_at
            assert of_stream(payment, ledger.next_at).next_at > ledger.next_at


def moved(writer: Writer, now: str, zone: str = "UTC", **options: Any) -> list[tuple[str, str, int]]:
    """The movements up to an instant: the minute, what it was, and minor units."""
    ledger = of_stream(folded(writer.records), parse_us(now), zone, **options)
    assert told(ledger) == some(of_oracle(writer.records, parse_us(now), zone, **options))
    return [(format_us(each.at)[:16], each.kind, each.micro // 1_000_000) for each in ledger.movements]


def figures(writer: Writer, month: str, now: str, **options: Any) -> dict[str, int]:
    """The figures of a month."""
    return told(of_stream(folded(writer.records), parse_us(now), **options))[month]


def test_a_trial_pays_nothing_until_it_converts() -> None:
    """MRR 0 while trialing, also after `trial_end` with no event; an active one with a trial pays from its end."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", status="trialing", trial_end="2026-01-20T00:00:00Z")
    assert moved(writer, "2026-02-01T00:00:00Z") == []
    writer.subscription("2026-02-02T00:00:00Z", status="active", trial_end="2026-02-04T00:00:00Z")
    assert moved(writer, "2026-03-01T00:00:00Z") == [("2026-02-04T00:00", "new", 1000)]


def test_a_delinquent_subscription_pays_for_fifteen_days() -> None:
    """Flagged in the window, churned at its end, and the window begins with the first of the versions in a row."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z")
    writer.subscription("2026-02-10T00:00:00Z", status="past_due")
    writer.subscription("2026-02-20T00:00:00Z", status="past_due")
    assert figures(writer, "2026-02", "2026-02-24T00:00:00Z")["mrr_delinquent@USD"] == 1_000_000_000
    assert moved(writer, "2026-03-01T00:00:00Z")[1:] == [("2026-02-25T00:00", "churn", 1000)]
    assert moved(writer, "2026-03-01T00:00:00Z", dunning_days=30)[1:] == []
    writer.subscription("2026-02-27T00:00:00Z")
    assert moved(writer, "2026-03-01T00:00:00Z")[2:] == [("2026-02-27T00:00", "resume", 1000)]


@pytest.mark.parametrize("status", ["unpaid", "canceled", "incomplete_expired", "incomplete"])
def test_who_does_not_pay_churns_and_comes_back_after_a_week(status: str) -> None:
    """A return within seven days resumes, a later one reactivates, one after the horizon is new."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z")
    writer.subscription("2026-02-10T00:00:00Z", status=status)
    writer.subscription("2026-02-17T00:00:00.001Z")
    assert moved(writer, "2026-03-01T00:00:00Z")[1:] == [("2026-02-10T00:00", "churn", 1000), ("2026-02-17T00:00", "reactivation", 1000)]
    assert [kind for _, kind, _ in moved(writer, "2026-03-01T00:00:00Z", allowed_gap_days=8)] == ["new", "churn", "resume"]
    assert [kind for _, kind, _ in moved(writer, "2026-03-01T00:00:00Z", reactivation_horizon_days=6, allowed_gap_days=0)] == [
        "new",
        "churn",
        "new",
    ]


def test_a_pause_is_no_churn() -> None:
    """MRR goes with `pause`, the customer stays, and leaves when it cancels; `resumes_at` needs no event."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z")
    writer.subscription("2026-02-10T00:00:00Z", pause={"resumes_at": "2026-02-15T00:00:00Z"})
    assert moved(writer, "2026-03-01T00:00:00Z")[1:] == [("2026-02-10T00:00", "pause", 1000), ("2026-02-15T00:00", "resume", 1000)]
    assert moved(writer, "2026-03-01T00:00:00Z", pause_policy="keep")[1:] == []
    writer.subscription("2026-03-02T00:00:00Z", status="paused")
    told_in = figures(writer, "2026-03", "2026-04-10T00:00:00Z")
    assert (told_in["customers_end"], told_in["customers_end_paused"], told_in.get("customers_churned")) == (1, 1, None)
    writer.subscription("2026-04-05T00:00:00Z", status="canceled")
    told_in = figures(writer, "2026-04", "2026-04-10T00:00:00Z")
    assert (told_in["customers_start_paused"], told_in["customers_churned"], told_in.get("mrr_churn@USD")) == (1, 1, None)


def test_a_cancellation_at_the_end_of_the_period_keeps_the_mrr_until_then() -> None:
    """It is pending from the request; with `immediate` it is gone at the request; withdrawn it stays."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", current_period_end="2026-02-10T00:00:00Z")
    writer.subscription("2026-01-20T00:00:00Z", current_period_end="2026-02-10T00:00:00Z", cancel_at_period_end=True)
    assert figures(writer, "2026-01", "2026-01-30T00:00:00Z")["mrr_pending_churn@USD"] == 1_000_000_000
    assert moved(writer, "2026-03-01T00:00:00Z")[1:] == [("2026-02-10T00:00", "churn", 1000)]
    assert moved(writer, "2026-03-01T00:00:00Z", churn_recognition="immediate")[1:] == [("2026-01-20T00:00", "churn", 1000)]
    writer.subscription("2026-01-30T00:00:00Z", current_period_end="2026-02-10T00:00:00Z")
    assert moved(writer, "2026-03-01T00:00:00Z")[1:] == []


def test_a_refund_that_cancels_ends_the_annual_plan_it_fits() -> None:
    """The nearest annual one churns at the refund; what comes later and still ends does not bring it back, what is bought anew does."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", "small", 120_000, "year", current_period_end="2027-01-10T00:00:00Z")
    writer.subscription("2026-01-10T00:00:00Z", "large", 240_000, "year", current_period_end="2027-01-10T00:00:00Z")
    refund = {"refund_id": "r", "amount": {"amount_minor": -220_000, "currency": "USD"}, "cancels_subscription": True}
    writer.event("refund.created", parse_us("2026-02-10T00:00:00Z"), refund)
    ending = {"current_period_end": "2027-01-10T00:00:00Z", "cancel_at_period_end": True}
    writer.subscription("2026-02-10T00:01:00Z", "large", 240_000, "year", **ending)
    assert moved(writer, "2026-03-01T00:00:00Z") == [("2026-01-10T00:00", "new", 30_000), ("2026-02-10T00:00", "contraction", 20_000)]
    writer.subscription("2026-02-20T00:00:00Z", "large", 240_000, "year")
    assert moved(writer, "2026-03-01T00:00:00Z")[2:] == [("2026-02-20T00:00", "expansion", 20_000)]


def test_a_refund_that_does_not_cancel_moves_nothing() -> None:
    """It is money given back, not MRR."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", "s", 120_000, "year")
    writer.event("refund.created", parse_us("2026-02-10T00:00:00Z"), {"refund_id": "r", "amount": {"amount_minor": 1, "currency": "USD"}})
    assert len(moved(writer, "2026-03-01T00:00:00Z")) == 1


def test_what_is_not_renewed_expires() -> None:
    """45 days without a renewal: from the end of the period, or of the month; a paid invoice renews, and `auto_renew` needs none."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", auto_renew=None)
    assert moved(writer, "2026-05-01T00:00:00Z")[1:] == [("2026-02-24T00:00", "churn", 1000)]
    assert figures(writer, "2026-02", "2026-05-01T00:00:00Z")["mrr_churn_expired@USD"] == 1_000_000_000
    assert moved(writer, "2026-05-01T00:00:00Z", mrr_expiry_days=None)[1:] == []
    writer.event("invoice.paid", parse_us("2026-02-20T00:00:00Z"), {"invoice_id": "i", "subscription_id": "s"})
    assert moved(writer, "2026-05-01T00:00:00Z")[1:] == [("2026-04-06T00:00", "churn", 1000)]
    yearly = Writer()
    yearly.subscription("2025-01-10T00:00:00Z", "s", 120_000, "year", auto_renew=None)
    assert moved(yearly, "2026-05-01T00:00:00Z")[1:] == [("2026-01-24T19:30", "churn", 10_000)]


def test_two_subscriptions_at_once_are_one_new_and_one_of_two_cancelled_is_contraction() -> None:
    """Movements are an account's; what is 60 minutes apart stands for itself."""
    writer = Writer()
    writer.subscription("2026-01-10T10:00:00Z", "a")
    writer.subscription("2026-01-10T10:59:59Z", "b", 500)
    writer.subscription("2026-01-10T11:00:00Z", "c", 100)
    writer.subscription("2026-02-10T00:00:00Z", "b", 500, status="canceled")
    assert moved(writer, "2026-03-01T00:00:00Z") == [
        ("2026-01-10T10:00", "new", 1500),
        ("2026-01-10T11:00", "expansion", 100),
        ("2026-02-10T00:00", "contraction", 500),
    ]


def test_who_comes_and_goes_in_a_month_is_in_both() -> None:
    """`new` and `churn`, and a churn within the period."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z")
    writer.subscription("2026-01-20T00:00:00Z", status="canceled")
    told_in = figures(writer, "2026-01", "2026-03-01T00:00:00Z")
    assert (told_in["mrr_new@USD"], told_in["mrr_churn@USD"], told_in["customers_same_period_churned"]) == (1_000_000_000, 1_000_000_000, 1)
    assert "customers_churned" not in told_in


def test_a_smaller_version_that_comes_later_never_counts() -> None:
    """And a greater one hides the others from its own time on, whatever theirs."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", version=1)
    writer.subscription("2026-01-20T00:00:00Z", unit=3000, version=3)
    writer.subscription("2026-01-25T00:00:00Z", unit=2000, version=2)
    assert moved(writer, "2026-03-01T00:00:00Z")[1:] == [("2026-01-20T00:00", "expansion", 2000)]


def test_what_was_sold_before_we_heard_of_it_was_sold_then() -> None:
    """The first version counts from `started_at`, a later start is waited for."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", "a", started_at="2025-11-05T00:00:00Z")
    writer.subscription("2026-01-10T00:00:00Z", "b", 500, started_at="2026-02-01T00:00:00Z")
    assert moved(writer, "2026-03-01T00:00:00Z") == [("2025-11-05T00:00", "new", 1000), ("2026-02-01T00:00", "expansion", 500)]


def test_a_rate_alone_is_never_an_expansion() -> None:
    """What a rate does is `fx`; what is kept of the start is valued at the rates of the start."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", "a", currency="EUR")
    assert [kind for _, kind, _ in moved(writer, "2026-06-01T00:00:00Z", is_rated=True)] == ["new"]
    told_in = figures(writer, "2026-03", "2026-06-01T00:00:00Z", is_rated=True)
    assert told_in["mrr_fx@USD"] == told_in["mrr_end@USD"] - told_in["mrr_start@USD"] != 0
    assert told_in["mrr_nrr_kept@USD"] == told_in["mrr_grr_kept@USD"]


def test_mrr_is_told_by_product() -> None:
    """Discounts reduce all items alike, what names no product is `unknown`; kept is what the account had of the product before."""
    writer = Writer()
    items: list[dict[str, Any]] = [
        {"unit_amount_minor": 1000, "interval": "month", "product_id": "seats"},
        {"unit_amount_minor": 500, "interval": "month", "product_id": "seats"},
        {"unit_amount_minor": 18_000, "interval": "year"},
    ]
    third = [{"percent": 33.3, "duration": "forever"}]
    writer.subscription("2026-01-10T00:00:00Z", items=items, discounts=third)
    told_in = figures(writer, "2026-01", "2026-02-01T00:00:00Z")
    assert (told_in["mrr_by_product{seats}@USD"], told_in["mrr_by_product{unknown}@USD"]) == (1_000_500_000, 1_000_500_000)
    writer.subscription("2026-02-10T00:00:00Z", items=[items[0], items[2] | {"product_id": "support"}])
    assert [kind for _, kind, _ in moved(writer, "2026-03-01T00:00:00Z")] == ["new", "expansion"]
    told_in = {name: amount for name, amount in figures(writer, "2026-02", "2026-03-01T00:00:00Z").items() if "product" in name}
    assert told_in == {
        "mrr_by_product_start{seats}@USD": 1_000_500_000,
        "mrr_by_product_start{unknown}@USD": 1_000_500_000,
        "mrr_by_product{seats}@USD": 1_000_000_000,
        "mrr_by_product{support}@USD": 1_500_000_000,
        "mrr_by_product_kept{seats}@USD": 1_000_000_000,
    }


def test_another_product_at_the_same_price_is_no_movement() -> None:
    """It is told by product all the same, from then on."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", product="old")
    writer.subscription("2026-02-10T00:00:00Z", product="new")
    assert len(moved(writer, "2026-03-01T00:00:00Z")) == 1
    told_in = figures(writer, "2026-02", "2026-03-01T00:00:00Z")
    assert told_in["mrr_by_product{new}@USD"] == told_in["mrr_by_product_start{old}@USD"] == 1_000_000_000
    assert not [name for name in told_in if name.startswith("mrr_by_product_kept")]


def test_currencies_without_a_rate_are_never_added_up() -> None:
    """Each is reported for itself; the account is one customer, and new once."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", "a")
    writer.subscription("2026-01-20T00:00:00Z", "b", 700, currency="CHF")
    told_in = figures(writer, "2026-01", "2026-03-01T00:00:00Z")
    assert (told_in["mrr_new@USD"], told_in["mrr_expansion@CHF"], told_in["customers_new"]) == (1_000_000_000, 700_000_000, 1)


def test_renewals_in_time_are_kept_as_one() -> None:
    """Two years of monthly renewals are some hundred bytes, and say what the naive implementation says."""
    writer = Writer()
    for month in range(24):
        at = f"{2024 + month // 12}-{month % 12 + 1:02}-10T00:00:00Z"
        until = f"{2024 + (month + 1) // 12}-{(month + 1) % 12 + 1:02}-10T00:00:00Z"
        writer.subscription(at, current_period_end=until, auto_renew=None, version=month)
    payment = folded(writer.records)
    assert len(payment.histories["s"].changes) <= 2
    assert len(msgspec.msgpack.encode(payment.histories)) < 150
    assert moved(writer, "2026-06-01T00:00:00Z") == [("2024-01-10T00:00", "new", 1000), ("2026-02-24T00:00", "churn", 1000)]


def test_a_part_of_an_older_release_has_the_version_that_was_kept() -> None:
    """It reads, its subscription pays from its start, and goes on with what comes."""
    writer = Writer()
    writer.subscription("2026-01-10T00:00:00Z", started_at="2026-01-02T00:00:00Z")
    whole = folded(writer.records)
    old = msgspec.msgpack.encode(msgspec.structs.astuple(whole)[:8])
    payment = msgspec.msgpack.decode(old, type=payments.Payment)
    assert payment.histories == {}
    now = parse_us("2026-03-01T00:00:00Z")
    assert of_stream(payment, now) == of_stream(whole, now)
    later = Writer()
    later.subscription("2026-02-01T00:00:00Z", unit=1500, version=2)
    event = msgspec.json.decode(msgspec.json.encode(later.records[0]), type=events.SubscriptionUpserted)
    payments.fold(payment, event, parse_us("2026-02-01T00:00:00Z"))
    payments.fold(whole, event, parse_us("2026-02-01T00:00:00Z"))
    assert of_stream(payment, now) == of_stream(whole, now)


def test_what_an_account_keeps_is_bounded() -> None:
    """A thousand versions besides the latest, a thousand renewals, and no price that nothing has."""
    writer = Writer()
    for number in range(1050):
        at = START + number * DAY_US // 4
        writer.subscription(at, "s", 1000 + number)
        writer.event("invoice.paid", at, {"invoice_id": f"i{number}", "subscription_id": f"s{number}"})
    payment = folded(writer.records)
    assert len(payment.histories["s"].changes) == len(payment.prices) == CHANGES_MAX + 1
    assert sum(map(len, payment.renewals.values())) == CHANGES_MAX


@settings(max_examples=examples(60), deadline=None)
@given(
    seed=seeds,
    count=st.integers(0, 40),
    zone=st.sampled_from(ZONES),
    is_rated=st.booleans(),
)
def test_what_was_paid_is_the_naive_ones_also_when_objects_were_let_go(seed: int, count: int, zone: str, is_rated: bool) -> None:
    """Invoices, charges and refunds of three years: each month has its sums in any zone, long after the objects are gone."""
    rng = Random(seed)
    history = random_payments(rng, count)
    payment = folded(history)
    assert len(payment.invoices) + len(payment.charges) <= 105
    now = START + rng.randrange(900, 1000) * DAY_US
    stream = paid_of_stream(payment, now, zone, is_rated=is_rated)
    oracle = paid_of_oracle(history, now, zone, is_rated=is_rated)
    assert stream == some(oracle)
    for months in stream.values():
        for currency in ("USD", "EUR"):
            shares = [value for name, value in months.items() if name.startswith("revenue_by_product{") and name.endswith(f"@{currency}")]
            assert sum(shares) == months.get(f"revenue_paid@{currency}", 0)


def test_what_was_paid_is_told_by_product() -> None:
    """The lines share the total less tax in proportion, or stand where one is negative; what names none, charges too, is `unknown`."""
    writer = Writer()

    def pay(name: str, total: int, *lines: tuple[str | None, int]) -> None:
        data = {"invoice_id": name, "total": {"amount_minor": total, "currency": "USD"}, "tax": {"amount_minor": 100, "currency": "USD"}}
        told_lines = [{"amount_minor": minor} | ({} if product is None else {"product_id": product}) for product, minor in lines]
        writer.event("invoice.paid", START, data | {"lines": told_lines})

    def by_product(records: list[Record], now: int) -> dict[str, int]:
        found = paid_of_stream(folded(records), now)["2025-01"]
        return {name: minor // 1_000_000 for name, minor in found.items() if name.startswith("revenue_by_product")}

    pay("discounted", 201, ("seats", 100), ("support", 100), (None, 100))
    assert by_product(writer.records, START) == {
        "revenue_by_product{seats}@USD": 34,
        "revenue_by_product{support}@USD": 33,
        "revenue_by_product{unknown}@USD": 34,
    }
    pay("prorated", 400, ("seats", 900), ("support", -500))
    pay("bare", 150)
    writer.event("charge.succeeded", START, {"charge_id": "c", "order_id": "o", "amount": {"amount_minor": 7, "currency": "USD"}})
    whole = {
        "revenue_by_product{seats}@USD": 934,
        "revenue_by_product{support}@USD": -467,
        "revenue_by_product{unknown}@USD": 34 - 100 + 50 + 7,
    }
    assert by_product(writer.records, START) == whole
    later = START + 300 * DAY_US
    writer.event("charge.failed", later, {"charge_id": "d", "amount": {"amount_minor": 7, "currency": "USD"}})
    assert folded(writer.records).invoices == {}
    assert by_product(writer.records, later) == whole


def test_a_charge_of_no_order_counts_where_no_invoice_does() -> None:
    """Elsewhere it is how an invoice was paid."""
    writer = Writer()
    amount = {"amount_minor": 500, "currency": "USD"}
    writer.event("charge.succeeded", START, {"charge_id": "c", "amount": amount})
    assert paid_of_stream(folded(writer.records), START + DAY_US)["2025-01"]["revenue_paid@USD"] == 500_000_000
    writer.event("invoice.issued", START, {"invoice_id": "i", "total": amount})
    writer.event("invoice.paid", START + 1, {"invoice_id": "i"})
    assert paid_of_stream(folded(writer.records), START + DAY_US)["2025-01"]["revenue_paid@USD"] == 500_000_000
