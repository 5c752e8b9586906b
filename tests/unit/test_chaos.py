"""The chaos harness: a seed gives one schedule, and its judge finds each thing that must not be in a history."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chaos.acts import ACTS, REFUSALS
from tests.chaos.history import Entry, History, read
from tests.chaos.judge import log_problems, summarize
from tests.chaos.schedule import CHECKPOINT_POINTS, SCENARIOS, Form, Way, plan

DOCS: Final = Path(__file__).parents[2] / "docs" / "chaos.md"
READY: Final = {"is_recovering": False, "is_breaker_open": False, "is_stopping": False, "generation": 3, "partitions": [0]}


def entry(at: float, what: str, **told: Any) -> Entry:
    """Return an entry of a history."""
    return Entry(at, what, told)


def probe(at: float, *, livez: int = 200, readyz: int = 200, **state: Any) -> Entry:
    """Return a probe of a worker; `state` is what /status said before and after."""
    told = READY | state
    return entry(at, "probe", worker="one", pid=7, livez=livez, readyz=readyz, why="", before=told, after=told)


def left(at: float, code: int, seconds: float, **told: Any) -> Entry:
    """Return the end of a worker that had served, after a SIGTERM."""
    whole = {"was_serving": True, "is_broker_away": False} | told
    return entry(at, "exit", worker="one", pid=7, code=code, how="SIGTERM", seconds=seconds, **whole)


def history(*between: Entry, lag_before: int = 5, is_drained: bool = True, recovered_at: float | None = 12.0) -> list[Entry]:
    """Return a history in which one fault lands at 10 s and all is well, with what else happens in between."""
    struck = [
        entry(0.0, "begin", scenario="kills", seed=1, form="short", faults=1, refusals=0, prefix="x"),
        entry(5.0, "served"),
        entry(10.0, "fault", number=1, kind="kill", detail="", struck_at=9.9, lag_before=lag_before, lag_after=9),
        entry(11.0, "over", number=1),
    ]
    ended = [entry(200.0, "drained", produced=10)] if is_drained else []
    if recovered_at is not None:
        struck.append(entry(recovered_at, "recovered", number=1))
    whole = [*struck, *between, *ended, entry(201.0, "produced", events=10)]
    return sorted(whole, key=lambda each: each.at)


class TestSchedule:
    """What happens is drawn before anything runs."""

    @pytest.mark.parametrize("scenario", SCENARIOS)
    @pytest.mark.parametrize("form", Form)
    def test_a_seed_gives_one_plan_of_acts_that_there_are(self, scenario: str, form: Form) -> None:
        """The same seed the same plan; after every fifth fault and the last, all is quiet for a while."""
        drawn = plan(scenario, 7, form)
        assert drawn == plan(scenario, 7, form)
        assert {fault.kind for fault in drawn.faults} <= ACTS.keys()
        assert {fault.kind for fault in drawn.refusals} <= REFUSALS.keys()
        assert drawn.faults[-1].quiet_seconds
        assert all(any(fault.quiet_seconds for fault in drawn.faults[first : first + 5]) for first in range(0, len(drawn.faults) - 4, 5))

    def test_another_seed_gives_another_plan(self) -> None:
        """Which worker, when, for how long."""
        assert plan("kills", 7, Form.LONG) != plan("kills", 8, Form.LONG)

    def test_the_long_form_has_what_was_asked_for(self) -> None:
        """Twenty kills, twenty restarts, five kills of the broker, every failpoint, static members in a rolling restart."""
        assert [fault.kind for fault in plan("kills", 1, Form.LONG).faults] == ["kill"] * 20
        assert [fault.kind for fault in plan("restarts", 1, Form.LONG).faults] == ["term"] * 20
        outages = plan("broker", 1, Form.LONG).faults
        assert sum(fault.kind == "broker_kill" for fault in outages) >= 5
        assert {70.0, 45.0} <= {fault.down_seconds for fault in outages}
        points = {fault.detail.partition(":")[0] for fault in plan("fault-points", 1, Form.LONG).faults}
        steps = {"after_fold", "in_transaction", "after_commit", "after_store"}
        assert points == steps | {"in_rebalance", "after_fencing", "in_recovery", "in_shutdown"}
        assert plan("rolling", 1, Form.LONG).way is Way.STATIC

    def test_the_storm_is_for_the_suite(self) -> None:
        """Ten SIGTERM, ten SIGKILL (a point of a checkpoint takes one of each) and a freeze of three sessions, for two workers."""
        drawn = plan("storm", 1, Form.SHORT)
        kinds = Counter(fault.kind for fault in drawn.faults)
        assert kinds == {"term": 6, "kill": 6, "point": 4, "freeze": 1, "wipe_all": 1}
        assert {fault.detail.partition(":")[0] for fault in drawn.faults if fault.kind == "point"} == set(CHECKPOINT_POINTS)
        assert [fault.down_seconds for fault in drawn.faults if fault.kind == "freeze"] == [3 * drawn.session_seconds]
        assert (drawn.workers, drawn.way) == (2, Way.PLAIN)
        assert SCENARIOS["storm"].forms == (Form.SHORT,)

    def test_every_scenario_is_on_its_page(self) -> None:
        """Nobody has to read code to know what is played."""
        text = DOCS.read_text("utf-8")
        assert not [name for name in SCENARIOS if f"`{name}`" not in text]


class TestJudge:
    """A history in which all is well has no problem; each thing that must not be is one."""

    def test_all_is_well(self) -> None:
        """The time to recover is from the blow until what was there then is folded."""
        found = summarize(history(probe(20.0), left(201.0, 0, 1.0)))
        assert not found.problems
        assert (found.landed, found.planned, found.events) == (1, 1, 10)
        assert found.recoveries == (2.1,)

    def test_a_fault_that_found_nothing_to_do_has_not_landed(self) -> None:
        """It proves nothing."""
        assert summarize(history(lag_before=0)).problems == ("0 of 1 faults landed",)

    def test_a_fault_that_is_never_made_good(self) -> None:
        """Nor one that takes for ever."""
        assert any("never made good" in each for each in summarize(history(recovered_at=None)).problems)
        assert any("made good 139 s after" in each for each in summarize(history(recovered_at=150.0)).problems)
        second = {"kind": "kill", "detail": "", "lag_before": 5, "lag_after": 9}
        struck = [entry(90.0, "fault", number=2, struck_at=89.0, **second), entry(91.0, "over", number=2)]
        assert not summarize(history(*struck, entry(151.0, "recovered", number=2), recovered_at=150.0)).problems

    def test_a_run_that_was_not_drained(self) -> None:
        """What was not waited for cannot be judged."""
        assert any("never drained" in each for each in summarize(history(is_drained=False)).problems)

    def test_cursors_that_stand_still(self) -> None:
        """I7: 30 s, with a backlog; not while a fault is at work, nor with nothing to do."""
        still = [entry(20.0 + second, "progress", produced=9, folded=5, lag=4) for second in range(40)]
        assert sum("I7" in each for each in summarize(history(*still)).problems) == 1
        assert not summarize(history(*still, recovered_at=70.0)).problems
        idle = [entry(each.at, "progress", produced=5, folded=5, lag=0) for each in still]
        moving = [entry(each.at, "progress", produced=9, folded=5 + number, lag=4) for number, each in enumerate(still)]
        assert not summarize(history(*idle)).problems
        assert not summarize(history(*moving)).problems

    @pytest.mark.parametrize("state", ["is_recovering", "is_breaker_open", "is_stopping"])
    def test_a_worker_that_says_it_is_ready_and_is_not(self, state: str) -> None:
        """I8: state that is not recovered, a breaker that is open, an end that has begun."""
        assert any("I8" in each for each in summarize(history(probe(20.0, **{state: True}))).problems)
        assert not summarize(history(probe(20.0, readyz=503, **{state: True}))).problems

    def test_a_worker_that_says_it_is_dead_and_is_not(self) -> None:
        """I8: but one that ends at once may say that it does."""
        assert any("not alive" in each for each in summarize(history(probe(20.0, livez=503, readyz=503))).problems)
        assert not summarize(history(probe(20.0, livez=503, readyz=503), left(21.0, 0, 1.0))).problems

    def test_a_worker_that_is_ready_without_a_broker(self) -> None:
        """I8: it has some seconds to notice."""
        away = [entry(20.0, "broker", is_away=True, how="SIGKILL"), entry(60.0, "broker", is_away=False)]
        assert not summarize(history(*away, probe(30.0), probe(40.0, readyz=503), probe(61.0))).problems
        assert any("I8" in each for each in summarize(history(*away, probe(50.0))).problems)

    def test_an_end_that_is_not_clean(self) -> None:
        """I9: 0, within 30 s, 60 while the broker is away; one that had not come up may die of the signal."""
        assert any("I9" in each for each in summarize(history(left(50.0, 5, 1.0))).problems)
        assert any("I9" in each for each in summarize(history(left(50.0, 0, 31.0))).problems)
        assert not summarize(history(left(50.0, 0, 31.0, is_broker_away=True))).problems
        assert not summarize(history(left(50.0, -15, 1.0, was_serving=False))).problems

    def test_a_member_that_is_left_in_the_group(self) -> None:
        """I9: who has ended has left."""
        assert any("I9" in each for each in summarize(history(entry(200.5, "group", members=1))).problems)

    def test_a_rolling_restart_that_costs_two_generations(self) -> None:
        """One for each worker at most."""
        told = [entry(20.0, "generation", is_before=True, value=4, worker="one")]
        assert not summarize(history(*told, entry(30.0, "generation", is_before=False, value=5, worker="one"))).problems
        assert summarize(history(*told, entry(30.0, "generation", is_before=False, value=6, worker="one"))).problems

    def test_a_crash_loop_while_the_broker_is_away(self) -> None:
        """Some restarts are what is asked for."""
        assert not summarize(history(entry(90.0, "outlived", restarts=4, seconds=70.0, workers=2))).problems
        assert summarize(history(entry(90.0, "outlived", restarts=5, seconds=70.0, workers=2))).problems

    def test_a_refusal_that_did_not_come(self) -> None:
        """What the worker did instead is told."""
        refusal = entry(180.0, "refusal", kind="changelog_deleted", detail="", lag_before=3, wrong="it ended with 0")
        assert any("it ended with 0" in each for each in summarize(history(refusal)).problems)

    def test_a_run_that_was_broken_off(self) -> None:
        """And why."""
        assert any("broken off: x" in each for each in summarize(history(entry(50.0, "broken", why="x"))).problems)

    def test_logs_that_are_not_what_was_promised(self, tmp_path: Path) -> None:
        """I10: a line that is no JSON object, and one that holds a payload."""
        log = tmp_path / "worker.log"
        log.write_text('{"message": "fine"}\nTraceback\n[1]\n{"message": "open sesame"}\n', encoding="utf-8")
        assert len(list(log_problems([log], "open sesame"))) == 3


def test_a_history_reads_back_as_it_was_told(tmp_path: Path) -> None:
    """In its order, with times that do not go back."""
    with History(tmp_path) as told:
        told.tell("first", number=1)
        told.tell("second", name="é")
    first, second = read(tmp_path)
    assert (first.what, first["number"], second.what, second["name"]) == ("first", 1, "second", "é")
    assert first.at <= second.at
