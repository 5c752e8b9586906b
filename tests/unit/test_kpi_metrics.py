"""The metrics: identities that always hold, and plain second formulations that agree."""

from __future__ import annotations

import statistics
from collections import Counter
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fixed import SCALE
from models.kpi import adoption, cohorts, customers, recurring, risk, scoring, surveys, tickets, worth
from models.kpi.exact import Reading, exact, power, proportion, ratio, root, rounded, text, wilson
from models.kpi.figures import bucket_of
from tests.support.profiles import unhurried

if TYPE_CHECKING:
    from models.kpi.exact import Exact

AMOUNTS = st.fractions(0, 10**6, max_denominator=1000)
COUNTS = st.integers(0, 1000)
ULP = Fraction(1, 10**20)


def of(reading: Reading) -> Fraction:
    """The value of a reading that has one."""
    assert reading.value is not None, reading.reason
    return exact(reading.value)


# Numbers


@given(part=st.integers(0, 500), rest=st.integers(0, 500))
@unhurried(60)
def test_the_wilson_interval_holds_the_proportion(part: int, rest: int) -> None:
    """It lies in 0 to 1, is symmetric under exchange of successes and failures, and its ends solve (p − x)² = z² x (1 − x) / n."""
    n = part + rest
    if not n:
        assert proportion(part, n).reason == "zero_denominator"
        return
    low, high = map(exact, wilson(part, n))
    p, z = Fraction(part, n), exact(Decimal("1.959963984540054235524594430"))
    assert 0 <= low <= p <= high <= 1
    assert abs(low - (1 - exact(wilson(rest, n)[1]))) < ULP
    for end in (low, high):
        assert abs((p - end) ** 2 - z * z * end * (1 - end) / n) < ULP


def test_the_wilson_interval_is_golden() -> None:
    """9 of 10, as in any textbook: 59.6 % to 98.2 %."""
    assert [text(end, 4) for end in wilson(9, 10)] == ["0.5958", "0.9821"]


@given(number=st.fractions(max_denominator=10**6), places=st.integers(0, 6))
@unhurried(60)
def test_rounding_is_half_up_and_away_from_zero(number: Fraction, places: int) -> None:
    """To the nearest; in the middle away from zero; and the text says the same."""
    near = rounded(number, places)
    assert abs(near - number) <= Fraction(1, 2 * 10**places)
    if abs(near - number) == Fraction(1, 2 * 10**places):
        assert abs(near) > abs(number)
    shown = text(number, places)
    assert Fraction(shown) == near
    assert not (shown.startswith("-") and near == 0)
    assert len(shown.partition(".")[2]) == places


@given(base=st.fractions(0, 1, max_denominator=10**4), whole=st.integers(1, 6))
@unhurried(60)
def test_powers_and_roots_are_good_to_twenty_digits(base: Fraction, whole: int) -> None:
    """A whole power is the product; a root times itself is the number."""
    assert abs(exact(power(base, whole)) - base**whole) < ULP
    assert abs(exact(root(base)) ** 2 - base) < ULP


def test_a_float_is_no_number_here() -> None:
    """0.1 is not a tenth."""
    with pytest.raises(TypeError, match="float"):
        exact(0.1)  # type: ignore[arg-type]


def test_a_reading_has_a_value_or_a_reason() -> None:
    """Never both, never neither."""
    with pytest.raises(ValueError, match="either"):
        Reading(None)
    with pytest.raises(ValueError, match="either"):
        Reading(1, "no_churn")
    assert ratio(1, 0) == Reading(None, "zero_denominator")


# Recurring revenue


@given(balances=st.lists(st.tuples(AMOUNTS, AMOUNTS), max_size=12), seed=st.randoms(use_true_random=False))
@unhurried(60)
def test_gross_retention_is_at_most_one_and_at_most_net(balances: list[tuple[Fraction, Fraction]], seed: object) -> None:
    """In any order; and with one movement for each account of the start, gross churn is 1 − GRR and net churn 1 − NRR."""
    gross, net = recurring.grr(balances), recurring.nrr(balances)
    mixed = list(balances)
    seed.shuffle(mixed)  # type: ignore[attr-defined]
    assert (recurring.grr(mixed), recurring.nrr(mixed)) == (gross, net)
    if not any(start for start, _ in balances):
        assert gross.value is net.value is None
        return
    assert 0 <= of(gross) <= 1
    assert of(gross) <= of(net)
    cohort = [(start, end) for start, end in balances if start]
    moved = recurring.Movements(
        start=sum(start for start, _ in cohort),
        expansion=sum(max(end - start, Fraction(0)) for start, end in cohort),
        contraction=sum(start - end for start, end in cohort if 0 < end < start),
        churn=sum(start for start, end in cohort if not end),
    )
    assert of(moved.gross_churn()) == 1 - of(gross)
    assert of(moved.net_churn()) == 1 - of(net)
    assert moved.end == sum(end for _, end in cohort)


@given(amounts=st.lists(AMOUNTS, min_size=9, max_size=9))
@unhurried(60)
def test_the_movements_are_the_whole_change(amounts: list[Fraction]) -> None:
    """Start + new + reactivation + expansion + resume − contraction − churn − pause + fx = end; growth is the same change."""
    start, new, reactivation, expansion, contraction, churn, pause, resume, fx = amounts
    moved = recurring.Movements(*amounts)  # type: ignore[arg-type]
    assert moved.end - start == new + reactivation + expansion + resume - contraction - churn - pause + fx == moved.net_new()
    assert start == 0 or of(moved.growth()) == moved.end / start - 1
    assert not moved.losses or of(moved.quick_ratio(include_reactivation=True)) >= of(moved.quick_ratio())


@given(amounts=st.dictionaries(st.text(max_size=3), AMOUNTS, max_size=8))
@unhurried(60)
def test_concentration_is_between_equal_and_one(amounts: dict[str, Fraction]) -> None:
    """1 / parts when all are equal, 1 when one has everything."""
    found = recurring.concentration(amounts)
    if any(amounts.values()):
        assert Fraction(1, len(amounts)) <= of(found) <= 1
    else:
        assert found.value is None


def test_a_product_is_sustainable_after_three_good_periods() -> None:
    """One period that is not known is no proof, either way."""
    good, bad, unknown = Reading(Fraction(1)), Reading(Fraction(99, 100)), Reading(None, "zero_denominator")
    assert recurring.is_sustainable([bad, good, good, good]) is True
    assert recurring.is_sustainable([good, good, bad]) is False
    assert recurring.is_sustainable([good, good]) is recurring.is_sustainable([good, unknown, good]) is None


def test_the_expected_loss_is_withheld_until_the_risk_is_a_probability() -> None:
    """Half of 10 and a tenth of 20 are 7."""
    mrr, chances = {"a": 10, "b": 20, "c": 30}, {"a": Fraction(1, 2), "b": Fraction(1, 10)}
    assert recurring.expected_loss(mrr, chances, is_calibrated=True) == Reading(Fraction(7), None, 2)
    assert recurring.expected_loss(mrr, chances, is_calibrated=False).reason == "no_calibrated_risk"


# Customers


@given(start=COUNTS, lost=COUNTS, new=COUNTS, back=COUNTS, left=COUNTS)
@unhurried(60)
def test_retention_is_one_less_churn(start: int, lost: int, new: int, back: int, left: int) -> None:
    """Whoever came and left within the period changes neither."""
    lost, left = min(lost, start), min(left, new + back)
    end = start - lost + new + back - left
    churn, kept = customers.churn_rate(start, lost, new + back, left), customers.retention_rate(start, end, new + back - left)
    if not start:
        assert churn.value is kept.value is None
        return
    assert of(churn) + of(kept) == 1
    assert churn.n == kept.n == start
    assert of(customers.churn_rate(start, lost, 0, 0, "start_plus_new")) == of(churn)
    daily = [start] * 30
    assert of(customers.churn_rate(start, lost, new, left, "daily_sum", daily=daily)) == Fraction(lost + left, start)


@given(churn=st.fractions(0, 1, max_denominator=1000), days=st.integers(1, 400), more=st.integers(1, 400))
@unhurried(60)
def test_scaling_churn_there_and_back_gives_it_again(churn: Fraction, days: int, more: int) -> None:
    """It stays in 0 to 1, grows with the span, and the same number of days changes nothing."""
    there = of(customers.scaled_churn(churn, days, more))
    assert 0 <= there <= 1
    assert abs(of(customers.scaled_churn(churn, days, days)) - churn) < ULP
    assert (there >= churn - ULP) if more >= days else (there <= churn + ULP)


@given(counts=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS))
@unhurried(60)
def test_what_became_of_renewals_sums_to_one(counts: tuple[int, int, int, int]) -> None:
    """Renewed, lapsed, cancelled and open."""
    renewed, lapsed, cancelled, still_open = counts
    shares = customers.renewal_shares(sum(counts), renewed, lapsed, cancelled)
    assert list(shares) == ["renewed", "lapsed", "cancelled", "open"]
    if sum(counts):
        assert sum(map(of, shares.values())) == 1
        assert of(shares["open"]) == Fraction(still_open, sum(counts))


@given(lives=st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40))
@unhurried(60)
def test_the_median_lifetime_is_kaplan_meiers(lives: list[tuple[int, bool]]) -> None:
    """The product over months of 1 − deaths / at risk, account by account; without censoring it is the lower median."""
    ended, running = Counter(m for m, is_over in lives if is_over), Counter(m for m, is_over in lives if not is_over)
    survival, naive = Fraction(1), None
    for month in range(31):
        at_risk = [life for life in lives if life[0] >= month]
        if at_risk:
            survival *= 1 - Fraction(sum(months == month and is_over for months, is_over in at_risk), len(at_risk))
        if naive is None and lives and survival <= Fraction(1, 2):
            naive = month
    assert worth.median_lifetime_months(ended, running).value == naive
    if lives and not running:
        assert naive == statistics.median_low(months for months, _ in lives)


MEMBERS = st.lists(
    st.builds(cohorts.Member, st.integers(0, 5), st.lists(st.integers(0, 3), min_size=1, max_size=8).map(tuple)), max_size=15
)


@given(members=MEMBERS, now=st.integers(0, 12))
@unhurried(60)
def test_a_cohort_that_is_unbounded_never_rises(members: list[cohorts.Member], now: int) -> None:
    """It is at least the bounded one; months that are not over are null in both; the first month has all MRR that it ended with."""
    plain, open_ended = cohorts.matrix(members, now, 6), cohorts.matrix(members, now, 6, is_unbounded=True)
    for start, row in plain.items():
        counts = [cell.accounts.value for cell in open_ended[start]]
        known = [value for value in counts if value is not None]
        assert counts == known + [None] * (len(counts) - len(known))
        assert len(known) == max(min(now - start, 7), 0)
        assert known == sorted(known, reverse=True)
        for cell, other in zip(row[: len(known)], open_ended[start], strict=False):
            assert of(cell.accounts) <= of(other.accounts)
        if known and any(member.mrr[0] for member in members if member.start == start):
            assert of(row[0].mrr) == 1


# Value


def test_a_value_that_is_discounted_says_its_factor() -> None:
    """100 now and 100 at 0.9 are 190, less 40; for ever at 95 % staying and 0.99 it converges."""
    found = worth.clv_discounted([100, 100], Fraction(9, 10), 40)
    assert (found.value, found.beside) == (150, {"factor": Fraction(9, 10)})
    long = worth.clv_discounted([Fraction(95, 100) ** month * 80 for month in range(1000)], Fraction(99, 100), 7)
    assert abs(of(long) - of(worth.clv_discounted_predictive(100, Fraction(8, 10), Fraction(5, 100), Fraction(99, 100), 7))) < ULP
    assert worth.clv_discounted_predictive(100, 1, 0, 1).reason == "no_churn"


def test_margins_are_null_without_their_costs() -> None:
    """Nothing known of costs is not a margin of 100 %."""
    assert of(worth.gross_margin(200, 50)) == Fraction(3, 4)
    assert of(worth.net_margin(200, 50, 250)) == Fraction(-1, 2)
    assert worth.gross_margin(200, None).reason == worth.net_margin(200, 50, None).reason == "no_costs"
    assert worth.gross_margin(0, 50).reason == "zero_denominator"


def test_small_definitions() -> None:
    """Each by its formula, and null where there is nothing to divide by."""
    assert of(worth.average_order_value(300, 4)) == 75
    assert worth.average_order_value(0, 0).reason == worth.purchase_frequency(0, 0).reason == "no_orders"
    assert of(worth.clv_historic(300, 4)) == 75
    assert of(worth.clv_net(100, 130)) == -30
    assert worth.clv_net(None, 1).value is None
    assert of(worth.customer_lifetime(date(2023, 1, 1), date(2024, 1, 1))) == 1
    assert of(tickets.per_hundred_users(3, 60)) == 5
    assert of(adoption.prorated(10, 28, 91, 14)) == 20
    assert adoption.prorated(10, 28, 91, 13).reason == "too_few"
    assert of(recurring.per_account(100, 8)) * 8 == 100
    assert recurring.arr(Fraction(1, 3)) == 4
    assert of(risk.top_decile_lift(50, 10, 4)) == 4


# Usage


def test_a_user_is_in_one_state_of_the_lifecycle() -> None:
    """New, current, resurrected, dormant; or in none of the two windows."""
    states = [
        adoption.lifecycle(is_active=now, was_active=before, was_active_earlier=earlier)
        for now, before, earlier in product((True, False), repeat=3)
    ]
    assert states == ["current", "current", "resurrected", "new", "dormant", "dormant", None, None]


def test_adoption_is_capped_and_says_what_is_beyond() -> None:
    """Twelve users on ten seats are a full house, and a sign of expansion."""
    full = adoption.seat_utilisation(12, 10)
    assert (full.value, full.beside["raw"]) == (1, Fraction(6, 5))
    assert adoption.seat_utilisation(3, None).reason == "not_observed"
    assert adoption.seat_utilisation(3, 0).reason == "zero_denominator"
    assert of(adoption.adoption_frequency([28, 5, 0], 10)) == Fraction(1, 2)
    assert adoption.adoption_frequency([], 10).value is adoption.adoption_frequency([1], 0).value is None
    assert adoption.slipping_after_days(2) == 7
    assert adoption.slipping_after_days(Fraction(5, 2)) == Fraction(15, 2)


def test_engagement_is_the_mean_of_three() -> None:
    """(0.5 + 0.2 + 0.8) / 3 × 100; null when one of them is."""
    parts = Reading(Fraction(1, 2)), Reading(Fraction(1, 5)), adoption.growth_score(3, 1, 5)
    assert of(adoption.pes(*parts)) == 50
    assert adoption.pes(*parts[:2], adoption.growth_score(0, 0, 0)).value is None
    assert of(adoption.growth_score(1, 0, 0)) == of(adoption.growth_score(9, 0, 2)) == 1


@given(days=st.lists(st.integers(0, 28), max_size=60))
@unhurried(60)
def test_power_users_are_the_top_tenth(days: list[int]) -> None:
    """Of the active ones: at least a tenth has as many days, and fewer than a tenth has more; under ten users nobody is."""
    active = [each for each in days if each]
    found = adoption.power_users(Counter(days))
    if len(active) < 10:
        assert found.reason == "too_few"
        return
    assert 10 * sum(each >= of(found) for each in active) >= len(active)
    assert 10 * sum(each > of(found) for each in active) < len(active)
    assert found.beside["users"] == sum(each >= of(found) for each in active)


def test_a_custom_metric_is_a_sum_a_last_or_a_mean() -> None:
    """Demos booked, for example; nothing reported is null."""
    assert [of(adoption.custom_metric(how, 9, 2, 4)) for how in ("sum", "last", "mean")] == [9, 4, Fraction(9, 2)]
    assert adoption.custom_metric("sum", 0, 0, None).reason == "not_observed"


# Support


@given(seconds=st.lists(st.integers(0, 10**7), min_size=1, max_size=60), tenths=st.integers(1, 10))
@unhurried(60)
def test_a_quantile_from_buckets_is_near_the_exact_one(seconds: list[int], tenths: int) -> None:
    """Within 1.6 %, exact below 64 seconds, and the same however the tickets are shared out."""
    buckets = Counter(int(bucket_of(each)) for each in seconds)
    true = sorted(seconds)[-(-tenths * len(seconds) // 10) - 1]
    found = of(tickets.duration(buckets, Fraction(tenths, 10)))
    assert abs(found - true) <= (true / Fraction(64) if true >= 64 else 0)


# Surveys


@given(scores=st.lists(st.integers(0, 10), max_size=50))
@unhurried(60)
def test_nps_is_the_mean_of_plus_and_minus_hundred(scores: list[int]) -> None:
    """And its standard error that of this mean; its interval stays inside −100 to 100."""
    counts, rejected = surveys.nps_counts(scores)
    found = surveys.nps(counts)
    assert (rejected, counts.n) == (0, len(scores))
    if not scores:
        assert found.reason == "no_answers"
        return
    votes = [Fraction(100 if score > 8 else -100 if score < 7 else 0) for score in scores]
    assert of(found) == statistics.mean(votes)
    error = found.beside["standard_error"]
    assert error is not None
    assert abs(exact(error) ** 2 - statistics.pvariance(votes) / len(votes)) < Fraction(1, 10**15)
    assert found.interval is not None
    assert -100 <= found.interval[0] <= found.interval[1] <= 100


@given(least=st.integers(-3, 3), span=st.integers(1, 9), data=st.data())
@unhurried(60)
def test_satisfaction_turned_round_is_its_mirror(least: int, span: int, data: st.DataObject) -> None:
    """The same answers on a scale where less is better, mirrored, are as positive, and as far up from 0 to 100."""
    scores = data.draw(st.lists(st.integers(least, least + span), min_size=1, max_size=20))
    scale = surveys.Scale(least, least + span)
    mirror = surveys.Scale(least, least + span, "lower_better")
    one, _ = surveys.Answers.of(scale, scores)
    other, _ = surveys.Answers.of(mirror, [2 * least + span - score for score in scores])
    first, second = surveys.positive_share([one]), surveys.positive_share([other])
    assert (first.value, first.n, first.beside) == (second.value, second.n, second.beside)
    positive = sum(2 * score > 2 * least + span for score in scores)
    assert of(first) == Fraction(positive, len(scores))
    if least >= 0:
        assert surveys.Scale.read(mirror.label()) == mirror


def test_sentiment_is_shrunk_while_there_are_few_texts() -> None:
    """One enthusiastic text of today is 1 / 6; a text of 30 days ago weighs a half."""
    assert of(surveys.sentiment(1, 1)) == Fraction(1, 6)
    assert surveys.sentiment(0, 0).reason == "no_answers"
    assert surveys.weight_of_age(0) == 1
    assert abs(exact(surveys.weight_of_age(30)) - Fraction(1, 2)) < ULP
    assert abs(exact(surveys.weight_of_age(60)) - Fraction(1, 4)) < ULP


# Scores


POINTS = st.none() | st.decimals(0, 100, places=4)
NAMES = st.sampled_from(["usage", "support", "payment", "sentiment", "relationship", "onboarding"])


@given(
    weights=st.dictionaries(NAMES, st.decimals("0.0001", 1000, places=4) | st.fractions(Fraction(1, 10**6), 50), min_size=1),
    before=st.dictionaries(NAMES, POINTS),
    after=st.dictionaries(NAMES, POINTS),
)
@unhurried(60)
def test_a_score_is_the_weighted_mean_and_its_parts_sum_to_it(
    weights: dict[str, Exact], before: dict[str, Decimal | None], after: dict[str, Decimal | None]
) -> None:
    """Contributions to the score, drivers to its change: exactly, in ten-thousandths; and the mean itself to within one."""
    composition = scoring.Composition(weights)
    first, second = scoring.compose(composition, before), scoring.compose(composition, after)
    for composed, scores in ((first, before), (second, after)):
        present = {name: exact(points) for name in weights if (points := scores.get(name)) is not None}
        if not present:
            assert (composed.score, composed.band, composed.coverage) == (None, "insufficient_data", 0)
            continue
        total = sum(exact(weights[name]) for name in present)
        mean = sum(exact(weights[name]) * points for name, points in present.items()) / total
        assert composed.score is not None
        assert abs(composed.score - mean * SCALE) <= 1
        assert sum(composed.contributions.values()) == composed.score
        assert sum(composed.effective_weights.values()) == 100
        assert composed.contributions.keys() == present.keys()
    if first.score is not None and second.score is not None:
        assert sum(scoring.drivers(first, second).values()) == second.score - first.score


@given(value=st.fractions(-50, 50), worst=st.fractions(-20, 20), best=st.fractions(-20, 20))
@unhurried(60)
def test_a_line_and_its_reverse_add_up_to_a_hundred(value: Fraction, worst: Fraction, best: Fraction) -> None:
    """Between 0 and 100; bounded and unbounded are the same inside, and outside the bounded one is 0 at both ends."""
    if worst == best:
        assert scoring.linear(value, worst, best).reason == "zero_denominator"
        return
    there, back = of(scoring.linear(value, worst, best)), of(scoring.linear(value, best, worst))
    assert there + back == 100
    assert 0 <= there <= 100
    is_inside = min(worst, best) <= value <= max(worst, best)
    assert of(scoring.linear(value, worst, best, is_bounded=True)) == (there if is_inside else 0)


def test_bands_must_ascend_and_weights_are_not_negative() -> None:
    """What cannot be meant is refused."""
    with pytest.raises(ValueError, match="ascend"):
        scoring.Bounds(50, 50, 75)
    with pytest.raises(ValueError, match="negative"):
        scoring.Composition({"usage": -1})
    with pytest.raises(ValueError, match="between 0 and 1"):
        scoring.Composition({"usage": 1}, {"usage": 2})
