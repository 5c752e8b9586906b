"""Measures and scores, vectorised, against the oracle's plain arithmetic; and what any health score owes its reader."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.verify import reference as oracle
from deploy.verify.equality import scorecard_record
from models.columns import RINGS, Columns
from models.fixed import FULL, SCALE
from models.health import BAND_NAMES, Assessment, Line, Scale, assess, band_of, shortfalls, weigh
from models.measures import MEASURES, WORDS, Instant, missing
from models.row import COMPONENT_SLOTS, NONE, RING_DAYS
from models.scorecard import COMPONENTS, Scorecard
from tests.support.generate import DAY, HOUR, START, Record, Scene, histories, records, rfc3339, topic_of
from tests.support.memory_worker import MemoryWorker, definition, log_of

unhurried = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32)
MEASURE_NAMES = sorted(MEASURES)
PRESETS = Scale.of(Scorecard())


def decimals(rng: Random, least: int, most: int) -> Decimal:
    """Draw a number with up to four decimals."""
    return Decimal(rng.randint(least * SCALE, most * SCALE)) / SCALE


def random_card(rng: Random) -> Scorecard:
    """Draw a scorecard: any measures on any lines, either way up, any weights, any feeds."""

    def line(name: str) -> dict[str, Any]:
        worst, best = decimals(rng, -5, 60), decimals(rng, -5, 60)
        return {"measure": name, "worst": worst, "best": best if best != worst else worst + 1, "weight": decimals(rng, 1, 90)}

    components = {
        name: {"weight": decimals(rng, 1, 90), "measures": [line(measure) for measure in rng.sample(MEASURE_NAMES, rng.randint(1, 6))]}
        for name in COMPONENTS
    }
    return Scorecard.model_validate({"components": components, "feeds": rng.sample(COMPONENTS, rng.randint(1, 3))})


def folded(history: list[Record]) -> tuple[Columns, dict[str, oracle.Oracle]]:
    """Fold a history on both sides."""
    plain = definition()
    every_window = replace(plain.scale, ring_days=dict.fromkeys(RINGS, RING_DAYS))  # for any scorecard, not for one
    worker = MemoryWorker(log_of(history), replace(plain, scale=every_window))
    worker.run(Random(0))
    return worker.partition.columns, oracle.replay((topic_of(record), record) for record in history)[0]


def instants(rng: Random, columns: Columns) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Draw an instant for each account: at its newest event, or any time after, windows and years later."""
    newest = columns.newest[: len(columns)].max(axis=1)
    later = [rng.choice((0, 1, rng.randrange(DAY), rng.randrange(120) * DAY, rng.randrange(900 * DAY))) for _ in columns.keys]
    return np.asarray(newest + np.array(later, np.int64))


def component_rows(scores: list[list[int | None]]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Lay out scores of components, None where one is missing."""
    rows = np.full((len(scores), COMPONENT_SLOTS), NONE, np.int64)
    for row, given_scores in zip(rows, scores, strict=True):
        row[: len(COMPONENTS)] = [NONE if score is None else score for score in given_scores]
    return rows


class TestAgainstTheOracle:
    """Whole arrays at once and one fraction at a time come to the same integers."""

    @unhurried
    @given(history=histories(Scene(days=150)), seed=seeds)
    def test_every_measure_is_the_oracles_at_any_later_instant(self, history: list[Record], seed: int) -> None:
        """All of them, in ten-thousandths, and which are missing."""
        columns, accounts = folded(history)
        at = Instant(columns, np.arange(len(columns)), instants(Random(seed), columns))
        found = {name: (MEASURES[name](at), missing(name, at)) for name in MEASURE_NAMES}
        for key, slot in columns.slots.items():
            expected = accounts[key.decode()].measures(int(at.as_of[slot]))
            told = {name: None if absent[slot] else int(values[slot]) for name, (values, absent) in found.items()}
            assert told == {name: None if value is None else oracle.half_up(value * SCALE) for name, value in expected.items()}

    @unhurried
    @given(history=histories(Scene(days=150)), seed=seeds)
    def test_the_score_of_any_scorecard_is_the_oracles_at_any_later_instant(self, history: list[Record], seed: int) -> None:
        """Components, contributions, coverage and band, whatever is measured and however it weighs."""
        columns, accounts = folded(history)
        rng = Random(seed)
        card = random_card(rng)
        as_of = instants(rng, columns)
        found = assess(columns, np.arange(len(columns)), as_of, Scale.of(card))
        for key, slot in columns.slots.items():
            expected = accounts[key.decode()].score(int(as_of[slot]), scorecard_record(card))
            assert told(found, slot) == expected

    @unhurried
    @given(scores=st.lists(st.lists(st.none() | st.integers(0, FULL), min_size=3, max_size=3), min_size=1, max_size=30), seed=seeds)
    def test_any_components_weigh_the_same_on_both_sides(self, scores: list[list[int | None]], seed: int) -> None:
        """Rounding, ties of the largest remainder, and what is missing."""
        card = random_card(Random(seed))
        found = weigh(component_rows(scores), Scale.of(card))
        for row, given_scores in enumerate(scores):
            by_name: dict[str, int | None] = dict(zip(COMPONENTS, given_scores, strict=True))
            assert told(found, row) == oracle.combine(by_name, scorecard_record(card))

    @given(value=st.integers(-(10**9), 10**9), worst=st.integers(-(10**7), 10**7), span=st.integers(1, 10**7), falls=st.booleans())
    def test_points_on_a_line_are_the_oracles(self, value: int, worst: int, span: int, falls: bool) -> None:
        """Inside, at both ends and far outside; rising and falling."""
        best = worst - span if falls else worst + span
        (found,) = Line("usage_pace", worst, best, SCALE).points(np.array([value])).tolist()
        expected = oracle.points(Fraction(value, SCALE), Fraction(worst, SCALE), Fraction(best, SCALE))
        assert found == expected

    @pytest.mark.parametrize("bound", [0, 25, 50, 75, 100])
    def test_a_band_includes_its_lower_bound_and_no_more(self, bound: int) -> None:
        """One ten-thousandth of a point below it is another band."""
        for score in {max(bound * SCALE - 1, 0), bound * SCALE, min(bound * SCALE + 1, FULL)}:
            assert BAND_NAMES[int(band_of(np.array([score]), PRESETS)[0])] == oracle.band(score, SCALE)

    def test_half_the_coverage_is_enough_and_less_is_not(self) -> None:
        """With usage alone (40 of 75) an account has a band, with support and payment alone (35 of 75) it has none."""
        found = weigh(component_rows([[FULL, None, None], [None, FULL, FULL]]), PRESETS)
        assert [BAND_NAMES[int(band)] for band in found.band] == ["healthy", "insufficient_data"]
        assert found.coverage.tolist() == [5_333, 4_667]


def told(found: Assessment, row: int) -> dict[str, Any]:
    """Write one account's assessment as the oracle does."""
    component, contribution = found.component[row].tolist(), found.contribution[row].tolist()
    return {
        "score": None if found.score[row] == NONE else int(found.score[row]),
        "coverage": int(found.coverage[row]),
        "band": BAND_NAMES[int(found.band[row])],
        "components": {
            name: {
                "score": None if component[place] == NONE else component[place],
                "contribution": 0 if component[place] == NONE else contribution[place],
                "missing": component[place] == NONE,
            }
            for place, name in enumerate(COMPONENTS)
        },
    }


class TestConduct:
    """What holds for every component and every card."""

    @unhurried
    @given(scores=st.lists(st.lists(st.none() | st.integers(0, FULL), min_size=3, max_size=3), min_size=1, max_size=30), seed=seeds)
    def test_scores_stay_within_bounds_and_contributions_sum_to_them(self, scores: list[list[int | None]], seed: int) -> None:
        """0 to 100, between the least and the greatest component, and shared out without a rest."""
        found = weigh(component_rows(scores), Scale.of(random_card(Random(seed))))
        for row, given_scores in enumerate(scores):
            there = [score for score in given_scores if score is not None]
            contributions = [share for share in found.contribution[row].tolist() if share != NONE]
            if there:
                assert min(there) <= found.score[row] <= max(there)
                assert sum(contributions) == found.score[row]
                assert len(contributions) == len(there)
            else:
                assert found.score[row] == NONE
                assert contributions == []

    @given(
        values=st.lists(st.integers(-(10**8), 10**8), min_size=2, max_size=20),
        worst=st.integers(-(10**7), 10**7),
        span=st.integers(1, 10**7),
        falls=st.booleans(),
    )
    def test_points_never_move_against_their_direction(self, values: list[int], worst: int, span: int, falls: bool) -> None:
        """A value nearer to the best one never scores less."""
        best = worst - span if falls else worst + span
        ordered = np.array(sorted(values, reverse=falls))
        points = Line("usage_pace", worst, best, SCALE).points(ordered)
        assert (np.diff(points) >= 0).all()
        assert points.min() >= 0
        assert points.max() <= FULL

    @pytest.mark.parametrize("seed", range(5))
    def test_an_assessment_changes_nothing_and_does_not_depend_on_company(self, seed: int) -> None:
        """The columns stay as they are, a second look is the same, and so is each account on its own or in another order."""
        rng = Random(seed)
        columns, _ = folded(records(rng, 400, Scene(days=120)))
        slots, as_of = np.arange(len(columns)), instants(rng, columns)
        before = columns.rows(slots).tobytes()
        together = assess(columns, slots, as_of, PRESETS)
        assert columns.rows(slots).tobytes() == before
        order = np.array(rng.sample(slots.tolist(), len(slots)))
        shuffled = assess(columns, slots[order], as_of[order], PRESETS)
        for place, slot in enumerate(order.tolist()):
            alone = assess(columns, slots[slot : slot + 1], as_of[slot : slot + 1], PRESETS)
            assert told(shuffled, place) == told(together, slot) == told(alone, 0)

    def test_an_account_of_which_nothing_is_known_has_no_score(self) -> None:
        """Null is not zero: no component, no contribution, no coverage, no band."""
        columns = Columns()
        columns.add([b"new"])
        found = assess(columns, np.array([0]), np.array([START]), PRESETS)
        assert told(found, 0)["score"] is None
        assert (told(found, 0)["coverage"], told(found, 0)["band"]) == (0, "insufficient_data")
        assert set(found.component[0].tolist()) == {NONE}
        assert shortfalls(columns, 0, START, PRESETS) == []

    @unhurried
    @given(seed=seeds, amount=st.integers(1, 1_000))
    def test_one_more_use_today_never_lowers_the_usage_component(self, seed: int, amount: int) -> None:
        """However the account was used before."""
        rng = Random(seed)
        history = records(rng, 30, Scene(accounts=("acme",), days=30, topics={"usage-events": 1}, late=0, edge=0))
        history.append({**_envelope("usage.event", START), "data": {"event": "e", "user_id": "u"}})
        as_of = START + 31 * DAY
        more = {**_envelope("usage.event", as_of), "data": {"event": "e", "user_id": "u", "count": amount}}
        assert component("usage", history, as_of) <= component("usage", [*history, more], as_of)

    @unhurried
    @given(seed=seeds)
    def test_one_more_failed_payment_never_raises_the_payment_component(self, seed: int) -> None:
        """Nor does one more urgent ticket raise that of support."""
        rng = Random(seed)
        scene = Scene(accounts=("acme",), days=30, topics={"payment-events": 1, "ticket-events": 1}, late=0, edge=0)
        history = records(rng, 30, scene)
        as_of = START + 31 * DAY
        amount = {"amount_minor": 1, "currency": "EUR"}
        failed = {**_envelope("charge.failed", as_of), "data": {"charge_id": "new", "amount": amount}}
        ticket = {"ticket_id": "new", "channel": "email", "priority": "urgent", "kind": "incident", "tags": []}
        urgent = {**_envelope("ticket.created", as_of), "data": ticket}
        assert component("payment", history, as_of) >= component("payment", [*history, failed], as_of)
        assert component("support", history, as_of) >= component("support", [*history, urgent], as_of)

    @unhurried
    @given(history=histories(Scene(days=120)), seed=seeds)
    def test_shortfalls_are_what_is_missing_to_a_full_score(self, history: list[Record], seed: int) -> None:
        """They sum to it up to the rounding of each, the costliest first, each with words for a person."""
        columns, _ = folded(history)
        as_of = instants(Random(seed), columns)
        found = assess(columns, np.arange(len(columns)), as_of, PRESETS)
        for slot in range(len(columns)):
            lost = shortfalls(columns, slot, int(as_of[slot]), PRESETS)
            assert [each.points for each in lost] == sorted(each.points for each in lost)
            assert all(each.points < 0 and each.words for each in lost)
            if found.score[slot] != NONE:
                assert abs(sum(each.points for each in lost) - (int(found.score[slot]) - FULL)) <= len(MEASURES)

    def test_every_measure_has_words(self) -> None:
        """And every measure that the default card names exists."""
        assert WORDS.keys() == MEASURES.keys()
        assert {line.measure for lines in PRESETS.lines.values() for line in lines} <= MEASURES.keys()


def _envelope(kind: str, at_us: int) -> Record:
    return {"specversion": "1.0", "id": f"{kind}@{at_us}", "source": "more", "type": kind, "time": rfc3339(at_us - HOUR), "subject": "acme"}


def component(name: str, history: list[Record], as_of: int) -> float:
    """Return the points of a component of the account acme; of a missing one, those of a perfect one."""
    columns, _ = folded(history)
    found = assess(columns, np.array([0]), np.array([as_of]), PRESETS)
    points = int(found.component[0, COMPONENTS.index(name)])
    return FULL if points == NONE else points
