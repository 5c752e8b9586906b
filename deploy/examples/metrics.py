"""The metrics that an example can name: each takes the example's input and gives what it should expect, in exact numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from deploy.examples.arguments import Arguments, BadInputError, number
from models.fixed import SCALE
from models.kpi import adoption, customers, recurring, risk, scoring, surveys, tickets, worth
from models.kpi.exact import Exact, Reading, none, rounded
from models.kpi.money import convert_minor, to_major, to_minor
from models.revenue import Line, Pricing, Reduction, Standing, carries_mrr, monthly, months_factor
from models.times import DAY_US

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Output = dict[str, Any]
"""What a metric gives: exact numbers, null, words, flags, and lists and objects of them."""

PERCENT = 100
PLACES_MOST = 28

_INTERVALS: Final = {
    **{name: name for name in ("day", "week", "month", "quarter", "half_year", "year")},
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "quarterly": "quarter",
    "yearly": "year",
    "annual": "year",
    "annually": "year",
    "halfyear": "half_year",
    "half_yearly": "half_year",
    "semiannual": "half_year",
    "semi_annual": "half_year",
}
_DISCOUNTS: Final = {"forever": "forever", "stripe": "forever", "all": "all", "always": "all", "profitwell": "all"}
_NO_DISCOUNTS: Final = {"none": "none", "never": "none", "ignore": "none", "paddle": "none"}
_DIRECTIONS: Final = {"higher_better": "higher_better", "lower_better": "lower_better"}


def _readings(**readings: Reading) -> Output:
    """Readings as members: the value of each; `reason` of the first that is null; sample size and interval of the first."""
    output: Output = {name: each.value for name, each in readings.items()}
    reasons = {name: each.reason for name, each in readings.items() if each.reason}
    if reasons:
        output["reason"] = next(iter(reasons.values()))
    shown = next(iter(readings.values()))
    if shown.n is not None:
        output["n"] = shown.n
    if shown.interval is not None:
        output["interval95"] = list(shown.interval)
    return output


def _percent(**readings: Reading) -> Output:
    return _readings(**{name: each.times(PERCENT) for name, each in readings.items()})


def _nps(given: Arguments) -> Output:
    scale_min = given.count("scale_min", 0)
    if scale_min > 1:
        raise BadInputError(f"scale_min is {scale_min}: NPS is asked on 0 to 10, or 1 to 10")
    scores = [number(each, f"{given.named('scores')}[{place}]") for place, each in enumerate(given.items("scores"))]
    counts, rejected = surveys.nps_counts(scores, scale_min)
    return {**_nps_of(counts), "rejected": rejected}


def _nps_error(given: Arguments) -> Output:
    return _nps_of(surveys.NpsCounts(given.count("promoters"), given.count("passives"), given.count("detractors")))


def _nps_of(counts: surveys.NpsCounts) -> Output:
    found = surveys.nps(counts)
    return {
        "promoters": counts.promoters,
        "passives": counts.passives,
        "detractors": counts.detractors,
        **_readings(nps=found),
        "nps_rounded": None if found.value is None else rounded(found.value),
        "margin95": found.beside.get("margin"),
        "standard_error": found.beside.get("standard_error"),
    }


_WORDS: Final = {"good": Fraction(1), "bad": Fraction(0)}
"""Zendesk's answers, on a scale of 0 to 1."""


def _scale(given: Arguments, least: int, most: int) -> surveys.Scale:
    direction = given.choice("direction", "higher_better", **_DIRECTIONS)
    low, high = given.given("scale_min", least), given.given("scale_max", most)
    return surveys.Scale(low, high, cast("surveys.Direction", direction))


def _scores(given: Arguments) -> tuple[list[Fraction], bool]:
    """The scores, and whether they are words."""
    listed = given.items("scores")
    has_words = any(isinstance(each, str) and each.lower() in _WORDS for each in listed)
    if has_words:
        listed = [_WORDS.get(each.lower(), each) if isinstance(each, str) else each for each in listed]
    named = given.named("scores")
    return [each if isinstance(each, Fraction) else number(each, f"{named}[{place}]") for place, each in enumerate(listed)], has_words


def _csat(given: Arguments) -> Output:
    scores, has_words = _scores(given)
    answers, rejected = surveys.Answers.of(_scale(given, *((0, 1) if has_words else (1, 5))), scores)
    found = surveys.positive_share([answers])
    beside = {"mean": answers.mean, "mean_0_100": found.beside.get("mean_0_100"), "rejected": rejected}
    return {**_percent(csat_pct=found), **beside, "n": answers.n}


def _ces(given: Arguments) -> Output:
    counted = next((name for name in given.names() if name.startswith("counts_")), None)
    rejected = 0
    if counted is None:
        scores, _ = _scores(given)
        answers, rejected = surveys.Answers.of(_scale(given, 1, 7), scores)
    else:
        least, to, most = counted.removeprefix("counts_").partition("_to_")
        if not (to and least.isdecimal() and most.isdecimal()):
            raise BadInputError(f"{counted} should name its scale: counts_1_to_7")
        scale = replace(_scale(given, 1, 7), least=int(least), most=int(most))
        answers = _counted(scale, int(least), int(most), given.counts(counted), counted)
    found = surveys.positive_share([answers])
    beside = {"mean": answers.mean, "mean_0_100": found.beside.get("mean_0_100"), "rejected": rejected}
    return {**beside, **_percent(positive_pct=found), "n": answers.n}


def _counted(scale: surveys.Scale, least: int, most: int, counts: list[int], name: str) -> surveys.Answers:
    if len(counts) != most - least + 1:
        raise BadInputError(f"{name} has {len(counts)} counts: {least} to {most} are {most - least + 1}")
    scored = list(zip(range(least, most + 1), counts, strict=True))
    positive = sum(count for score, count in scored if scale.is_positive(score))
    return surveys.Answers(scale, sum(counts), positive, sum(score * count for score, count in scored))


def _churn_rate(given: Arguments) -> Output:
    start, lost = given.count("start"), given.count("lost_from_start", 0)
    new, lost_new = given.count("new", 0), given.count("lost_from_new", 0)
    end = given.count("end") if "end" in given else None
    daily = given.counts(given.first("daily", "daily_customers", "customers_by_day"), [])
    options: tuple[customers.ChurnOption, ...] = ("start", "start_plus_new", "all_lost_over_start", "average", "daily_sum")
    found = {option: customers.churn_rate(start, lost, new, lost_new, option, end=end, daily=daily) for option in options}
    return {**_percent(**found), "same_period_churn": lost_new}


def _scaled_churn(given: Arguments) -> Output:
    start, churned = given.count("start"), given.count("churned")
    first, last = given.day("from") if "from" in given else None, given.day("to") if "to" in given else None
    days: Exact = given.given("days") if first is None or last is None else (last - first).days
    if days < 0:
        raise BadInputError("to is before from")
    churn = customers.churn_rate(start, churned)
    if churn.value is None:
        return {"days": days, **_readings(annual=churn, monthly=churn)}
    year, month = (customers.scaled_churn(churn.value, days, to) for to in (customers.YEAR_DAYS, customers.MONTH_DAYS))
    return {"days": days, **_readings(annual=year, monthly=month), "n": start}


def _retention_rate(given: Arguments) -> Output:
    start, end, new = given.count("start"), given.count("end"), given.count("new", 0)
    rate = customers.retention_rate(start, end, new, given.count("reactivated", 0))
    return _percent(retention_pct=rate, retention_rate_raw=customers.retention_rate_raw(start, end, new))


def _nrr_grr(given: Arguments) -> Output:
    accounts = given.inner("accounts")
    balances = {name: _balance(accounts, name) for name in accounts.names()}
    back = set(map(str, given.items("reactivated", [])))
    reactivated: list[Exact] = []
    if given.flag("include_reactivation"):
        reactivated = [end for name, (start, end) in balances.items() if name in back and not start]
    pairs = list(balances.values())
    return _percent(nrr_pct=recurring.nrr(pairs, reactivated), grr_pct=recurring.grr(pairs))


def _balance(accounts: Arguments, name: str) -> tuple[Fraction, Fraction]:
    if isinstance(accounts.raw(name), list):
        pair = accounts.items(name)
        if len(pair) != 2:  # noqa: PLR2004 - a pair
            raise BadInputError(f"{accounts.named(name)} should be its MRR at the start and at the end")
        start, end = (number(0 if each is None else each, accounts.named(name)) for each in pair)
        return start, end
    inner = accounts.inner(name)
    return inner.number("start", 0) or Fraction(0), inner.number("end", 0) or Fraction(0)


def _mrr_movements(given: Arguments) -> Output:
    names = ("start", "new", "reactivation", "expansion", "contraction", "churn", "pause", "resume", "fx")
    policy = given.choice("pause_policy", "zero", zero="zero", keep="keep")
    amounts = {name: given.given(f"{name}_minor", *(() if name == "start" else (0,))) for name in names}
    moved = recurring.Movements(**amounts, pause_policy=cast("recurring.PausePolicy", policy))
    quick = moved.quick_ratio(include_reactivation=given.flag("include_reactivation"))
    return {
        "end_minor": moved.end,
        "net_new_minor": moved.net_new(),
        **_percent(gross_churn_pct=moved.gross_churn(), net_churn_pct=moved.net_churn(), growth_pct=moved.growth()),
        "quick_ratio": quick.value,
        "quick_ratio_reason": quick.reason,
        "quick_ratio_numerator": quick.beside["gains"],
    }


def _reductions(given: Arguments) -> tuple[Reduction, ...]:
    found = []
    for place, each in enumerate(given.items("discounts", None) if "discounts" in given else []):
        discount = Arguments(each, f"{given.named('discounts')}[{place}]")
        percent = discount.number(discount.first("percent", "percent_off"), None)
        amount = discount.number(discount.first("amount_minor", "amount_off_minor"), None)
        if percent is None and amount is None:
            raise BadInputError(f"{discount.named('percent')} is missing, and so is amount_minor")
        if percent is not None and not 0 <= percent <= PERCENT:
            raise BadInputError(f"{discount.named('percent')} should be between 0 and 100")
        found.append(Reduction(percent, amount, discount.raw("duration", None)))
    return tuple(found)


def _line(item: Arguments, currency: str | None) -> Line:
    if "unit_amount_minor" not in item and "unit_amount" in item and currency:
        unit: Fraction = to_minor(item.given("unit_amount"), currency)
    else:
        unit = item.given("unit_amount_minor")
    every = item.count("interval_count", 1)
    if not every:
        raise BadInputError(f"{item.named('interval_count')} is 0: it should be at least 1")
    interval = item.choice("interval", "month", **_INTERVALS)
    is_metered = item.choice("usage_type", "licensed", licensed="licensed", metered="metered") == "metered"
    return Line(unit, item.given("quantity", 1), interval, every, is_metered, _reductions(item))


def _standing(given: Arguments) -> tuple[Standing, bool]:
    """How a subscription stands, and whether it has ended, at the instant `at`, or as it is said to be."""
    at = given.instant("at")
    status = str(given.raw("status", None) or "active").lower()
    pause = given.raw("pause", None)
    is_paused = given.flag("paused")
    if pause is not None:
        resumes = Arguments(pause, "pause").instant("resumes_at")
        is_paused = at is None or resumes is None or at < resumes
    trial_end = given.instant("trial_end")
    if at is not None and trial_end is not None and at < trial_end:
        status = "trialing"
    past_due = given.given("days_past_due", 0)
    since = given.instant("past_due_since")
    if at is not None and since is not None:
        past_due = Fraction(max(at - since, 0), DAY_US)
    is_ending = given.flag("cancel_at_period_end")
    ends = [given.instant("ended_at"), given.instant("cancel_at"), given.instant("current_period_end") if is_ending else None]
    has_ended = at is not None and any(end is not None and end <= at for end in ends)
    return Standing(status, is_paused, past_due, is_ending), has_ended


def _subscription_mrr(given: Arguments) -> Output:
    currency = given.raw("currency", None)
    lines = [_line(Arguments(each, f"items[{place}]"), currency) for place, each in enumerate(given.items("items"))]
    pricing = Pricing(
        cast("Literal['forever', 'all', 'none']", given.choice("discount_policy", "forever", **_DISCOUNTS, **_NO_DISCOUNTS)),
        given.flag("include_metered"),
        given.number("weeks_per_month", None),
    )
    standing, has_ended = _standing(given)
    pause = given.choice("pause_policy", "zero", zero="zero", keep="keep")
    recognised = given.choice("churn_recognition", "period_end", period_end="period_end", immediate="immediate")
    is_carried = not has_ended and carries_mrr(
        standing,
        cast("Literal['zero', 'keep']", pause),
        cast("Literal['period_end', 'immediate']", recognised),
        given.count("dunning_days", 15),
    )
    mrr = monthly(lines, _reductions(given), pricing) if is_carried else Fraction(0)
    output: Output = {
        "mrr_minor": mrr,
        "arr_minor": 12 * mrr,
        "mrr_delinquent_minor": mrr if standing.status == "past_due" else Fraction(0),
        "pending_churn_mrr_minor": mrr if standing.ends_at_period_end else Fraction(0),
    }
    if currency is not None:
        output["mrr"] = to_major(mrr, str(currency))
    return output


def _cac(given: Arguments) -> Output:
    cost = given.number("cost")
    if cost is None:
        return _readings(cac=none("no_costs"))
    return _readings(cac=worth.cac(cost, given.count("new_customers")))


def _ltv_cac(given: Arguments) -> Output:
    found = worth.ltv_cac(given.number("ltv"), given.number("cac"))
    return {**_readings(ltv_cac=found), "unit_economics_negative": bool(found.beside["unit_economics_negative"])}


def _crc(given: Arguments) -> Output:
    cost = given.number("cost")
    if cost is None:
        return _readings(per_retained=none("no_costs"), per_customer=none("no_costs"))
    retained = worth.crc_per_retained(cost, given.count("retained"))
    output = _readings(per_retained=retained, per_customer=worth.crc_per_customer(cost, given.given("total_customers")))
    if given.flag("include_lost_opportunity"):
        output["lost_opportunity"] = worth.lost_opportunity(given.given("churn_mrr"))
    return output


def _clv_order(given: Arguments) -> Output:
    years = given.number("years", None)
    if "first" in given and "last" in given:
        years = _years(given)
    return _readings(clv=worth.clv_order(given.number("average_order_value"), given.number("purchases_per_year"), years))


def _years(given: Arguments) -> Fraction:
    first, last = given.day("first"), given.day("last")
    if first is None or last is None:
        raise BadInputError("first and last are needed both")
    return worth.lifespan_years((last - first).days)


def _clv_predictive(given: Arguments) -> Output:
    churn, cap = given.number("monthly_churn"), given.number("max_lifetime_months", None)
    margin = given.number("gross_margin_pct", None)
    months = none("not_observed") if churn is None else worth.lifetime_months(churn, cap)
    share = None if margin is None else margin / PERCENT
    return _readings(lifetime_months=months, clv=worth.clv_predictive(given.number("arpa"), share, churn, cap))


def _customer_lifetime(given: Arguments) -> Output:
    first, last = given.day("first"), given.day("last")
    if first is None:
        return {"days": None, **_readings(years=none("not_observed"))}
    found = worth.customer_lifetime(first, last)
    if last is not None and last < first:
        raise BadInputError("last is before first")
    return {"days": found.beside.get("days"), **_readings(years=found)}


def _trial_conversion(given: Arguments) -> Output:
    still_open = given.count("open", 0)
    found = customers.trial_conversion(given.count("converted"), given.count("started"), still_open)
    return {**_percent(pct=found), "open": still_open}


def _repeat_purchase_rate(given: Arguments) -> Output:
    return _percent(pct=customers.repeat_purchase_rate(given.count("customers_with_two_or_more"), given.count("customers")))


def _first_contact_resolution(given: Arguments) -> Output:
    found = tickets.first_contact_resolution(
        given.count("resolved_at_first_contact"),
        given.count("solved", 0),
        given.count("received") if "received" in given else None,
        given.count("abandoned", 0),
        given.count("cross_department", 0),
        denominator=cast("Literal['solved', 'received']", given.choice("denominator", "solved", solved="solved", received="received")),
        count_abandoned=given.flag("count_abandoned"),
        count_cross_department=given.flag("count_cross_department"),
    )
    return _percent(pct=found)


def _growth_rate(given: Arguments) -> Output:
    return _percent(growth_pct=customers.growth_rate(given.given("old"), given.given("new")))


def _stickiness(given: Arguments) -> Output:
    found = adoption.stickiness(given.counts("daily_active_users"), given.count("mau"))
    return {**_readings(dau_mau=found), "active_days_of_30": found.beside.get("active_days_of_30")}


BASELINE_WEEKS = 8
CURRENT_WEEKS = 3
WEEKS = 12


def _own_baseline(given: Arguments) -> Output:
    """The trend from `current` and `baseline`, or from their weeks, or from the last twelve weeks in their order."""
    silent = cast("adoption.SilentWeeks", given.choice("silent_weeks", "zero", zero="zero", skip="skip"))
    weeks = given.numbers(given.first("weeks", "weekly_active_users"), [])[-WEEKS:]
    current = given.number("current", None)
    baseline = given.number("baseline", None)
    if "current_weeks" in given or weeks:
        current = adoption.weekly_current(given.numbers("current_weeks", weeks[-CURRENT_WEEKS:]), silent)
    if "baseline_weeks" in given or weeks:
        older = weeks[: -(WEEKS - BASELINE_WEEKS)]
        baseline = adoption.weekly_baseline(given.numbers("baseline_weeks", older))
    if not {"current", "current_weeks", "weeks", "weekly_active_users"} & set(given.names()):
        raise BadInputError("current is missing")
    return {**_percent(score=adoption.own_baseline(current, baseline)), "current": current, "baseline": baseline}


def _bounds(given: Arguments) -> scoring.Bounds:
    boundary = given.choice("band_boundary", "lower", lower="lower", upper="upper")
    standard = scoring.Bounds()
    name = given.first("bounds", "thresholds", "bands")
    inner = given.inner(name, {}) if name in given else Arguments({})
    lows = {band: inner.given(band, getattr(standard, band)) for band in ("at_risk", "watch", "healthy")}
    return scoring.Bounds(**lows, boundary=cast("scoring.Boundary", boundary))


def _composition(given: Arguments, weights: str = "weights", freshness: str = "freshness") -> scoring.Composition:
    return scoring.Composition(
        given.weights(weights),
        given.weights(freshness, {}),
        given.items("feeds") if "feeds" in given else None,
        given.given("coverage_min", Fraction(1, 2)),
        _bounds(given),
    )


def _points(fixed: int | None) -> Fraction | None:
    return None if fixed is None else Fraction(fixed, SCALE)


def _health_score(given: Arguments) -> Output:
    found = scoring.compose(_composition(given), given.table("scores"))
    return {
        "score": _points(found.score),
        "coverage": Fraction(found.coverage, SCALE),
        "band": found.band,
        "effective_weights": dict(found.effective_weights),
        "contributions": {name: _points(part) for name, part in found.contributions.items()},
    }


def _score_delta(given: Arguments) -> Output:
    first = given.first("weights_before", "weights")
    last = given.first("weights_after", "weights")
    freshness = given.first("freshness_after", "freshness")
    before = scoring.compose(_composition(given, first if first in given else "weights"), given.table("before"))
    after = scoring.compose(_composition(given, last if last in given else "weights", freshness), given.table("after"))
    moved = {name: _points(points) for name, points in scoring.drivers(before, after).items()}
    delta = None if before.score is None or after.score is None else after.score - before.score
    return {"before": _points(before.score), "after": _points(after.score), "delta": _points(delta), "drivers": moved}


def _linear_normalisation(given: Arguments) -> Output:
    value = given.number("value")
    return _readings(score=scoring.linear(value, given.given("worst"), given.given("best"), is_bounded=given.flag("bounded")))


def _bands(given: Arguments) -> Output:
    bounds = _bounds(given)
    scores = [None if each is None else number(each, f"scores[{place}]") for place, each in enumerate(given.items("scores"))]
    return {"bands": [bounds.band(score) for score in scores]}


def _top_decile_lift(given: Arguments) -> Output:
    top = given.number(given.first("top_decile", "n_top_decile"), None)
    found = risk.top_decile_lift(given.count("n"), given.count("churners"), given.count("churners_in_top_decile"), top)
    return _readings(lift=found)


def _reporting_currency_mrr(given: Arguments) -> Output:
    """MRR of a price in another currency: `<interval>_minor` times the rate, of one whole unit of it."""
    name = next((name for name in given.names() if name.removesuffix("_minor") in _INTERVALS and name.endswith("_minor")), "annual_minor")
    minor, rate = given.given(name), given.number("rate")
    if rate is None:
        return _readings(mrr_minor=none("not_observed"))
    every = given.count("interval_count", 1) or 1
    mrr = minor * months_factor(_INTERVALS[name.removesuffix("_minor")], every, given.number("weeks_per_month", None))
    source = given.raw(given.first("currency", "from_currency", "from"), None)
    target = given.raw(given.first("reporting_currency", "to_currency", "to"), None)
    if source is None or target is None:
        shift = given.count("to_exponent", 0) - given.count("from_exponent", 0)
        return {"mrr_minor": mrr * rate * Fraction(10) ** max(min(shift, PLACES_MOST), -PLACES_MOST)}
    converted = convert_minor(mrr, str(source), str(target), rate)
    return {"mrr_minor": converted, "mrr": to_major(converted, str(target))}


def _mau_to_churned_ratio(given: Arguments) -> Output:
    return _readings(mau_to_churned_ratio=customers.mau_to_churned_ratio(given.count("mau"), given.count("churned")))


def _round_half_up(given: Arguments) -> Output:
    places = given.count("places", 0)
    if places > PLACES_MOST:
        raise BadInputError(f"places is {places}: it should be at most {PLACES_MOST}")
    return {"rounded": [rounded(each, places) for each in given.numbers("values")]}


METRICS: Mapping[str, Callable[[Arguments], Output]] = {
    "nps": _nps,
    "nps_error": _nps_error,
    "csat": _csat,
    "ces": _ces,
    "churn_rate": _churn_rate,
    "scaled_churn": _scaled_churn,
    "retention_rate": _retention_rate,
    "nrr_grr": _nrr_grr,
    "mrr_movements": _mrr_movements,
    "subscription_mrr": _subscription_mrr,
    "cac": _cac,
    "ltv_cac": _ltv_cac,
    "crc": _crc,
    "clv_order": _clv_order,
    "clv_predictive": _clv_predictive,
    "customer_lifetime": _customer_lifetime,
    "trial_conversion": _trial_conversion,
    "repeat_purchase_rate": _repeat_purchase_rate,
    "first_contact_resolution": _first_contact_resolution,
    "growth_rate": _growth_rate,
    "stickiness": _stickiness,
    "own_baseline": _own_baseline,
    "health_score": _health_score,
    "score_delta": _score_delta,
    "linear_normalisation": _linear_normalisation,
    "bands": _bands,
    "top_decile_lift": _top_decile_lift,
    "reporting_currency_mrr": _reporting_currency_mrr,
    "mau_to_churned_ratio": _mau_to_churned_ratio,
    "round_half_up": _round_half_up,
}
"""Every metric by the name that examples call it."""
