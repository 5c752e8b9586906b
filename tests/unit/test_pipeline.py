"""One partition: what time alone does, what a checkpoint holds, what is published, and what a restart may not change."""

from __future__ import annotations

import json
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.rules import AlertRules
from deploy.verify.alert_log import alert_problems
from models import row
from models.row import NEVER
from stream_app.pipeline import CURSOR_KEY, TICK_ACCOUNTS, Cursor, Partition, Position, UnknownCursorVersionError, read_cursor
from tests.support.generate import DAY, HOUR, START, Record, Scene, histories, records, rfc3339
from tests.support.memory_worker import AT_ONCE, MemoryWorker, definition, log_of

if TYPE_CHECKING:
    from collections.abc import Iterable

unhurried = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32)
NOON = 12 * HOUR


def event(kind: str, at_us: int, account: str = "acme", /, **data: Any) -> Record:
    """Write an event with an id that its place in time makes unique."""
    members = {"event": "opened", "user_id": "u", **data} if kind == "usage.event" else data
    return {
        "id": f"{kind}@{at_us}",
        "source": "test",
        "type": kind,
        "time": rfc3339(at_us),
        "subject": account,
        "data": members,
    }


def use(day: int, account: str = "acme") -> Record:
    """Write a use at noon of a day after START."""
    return event("usage.event", START + day * DAY + NOON, account)


def reading(history: Iterable[Record], wall_us: int, **options: Any) -> MemoryWorker:
    """Return a worker that has read a history by a wall clock that stands at an instant."""
    worker = MemoryWorker(log_of(history), definition(**options), wall_us=wall_us)
    while behind := sorted(worker.behind()):
        worker.step(behind[0], 1_000)
    worker.checkpoint()
    return worker


def said(worker: MemoryWorker) -> list[dict[str, Any]]:
    """Return the alert events that were committed."""
    return [json.loads(each.event) for each in worker.alerts]


def published(worker: MemoryWorker) -> list[dict[str, Any]]:
    """Return the assessments that were committed."""
    return [json.loads(value)["data"] for _, value in worker.scores]


class TestTime:
    """The time of a partition is the log's while there is a backlog, and the wall's when there is none."""

    def _partition(self, *, is_log_clock: bool = False) -> Partition:
        partition = Partition(0, definition(is_log_clock=is_log_clock))
        partition.positions = {"usage-events": Position(5, 300), "ticket-events": Position(5, 100), "payment-events": Position(5, 200)}
        return partition

    def test_with_no_backlog_it_is_the_wall_clock(self) -> None:
        """Nobody is behind: now is now."""
        assert self._partition().now(set(), 999) == 999

    def test_with_a_backlog_it_is_the_least_newest_time_of_the_topics_that_are_behind(self) -> None:
        """A topic that is read to its end does not hold the others back, and the wall clock says nothing."""
        partition = self._partition()
        assert partition.now({"usage-events"}, 999) == 300
        assert partition.now({"usage-events", "payment-events"}, 999) == 200
        assert partition.now({"usage-events", "payment-events", "ticket-events"}, 999) == 100

    def test_a_topic_that_is_behind_and_was_never_read_leaves_time_unknown(self) -> None:
        """Nothing of its past is known, so nothing can be called silent yet."""
        assert self._partition().now({"usage-events", "account-events"}, 999) == NEVER

    def test_on_the_log_clock_with_no_backlog_it_is_the_newest_time_of_all(self) -> None:
        """A replay of history that has caught up stands at its last event, whatever the year is."""
        assert self._partition(is_log_clock=True).now(set(), 999) == 300
        assert Partition(0, definition(is_log_clock=True)).now(set(), 999) == NEVER

    def test_an_account_is_never_assessed_before_its_own_newest_event(self) -> None:
        """The newest event of an account can be ahead of a partition that is behind on another topic."""
        tickets = [event("ticket.assigned", START + hour * HOUR, ticket_id="t") for hour in range(2)]
        worker = MemoryWorker(log_of([use(9), *tickets]))
        worker.step("ticket-events", 1)
        worker.step("usage-events", 1)
        assert worker.partition.now(worker.behind(), worker.wall_us) == START
        worker.partition.assess_touched()
        assert int(worker.partition.columns.as_of[0]) == START + 9 * DAY + NOON

    def test_catching_up_on_old_events_is_not_taken_for_silence(self) -> None:
        """Years later, with more to read, an account is as well as it was at the time of its last event."""
        history = [use(day) for day in range(60)]
        worker = MemoryWorker(log_of(history), wall_us=START + 2_000 * DAY)
        worker.step("usage-events", 59)
        assert worker.tick() == 0
        worker.checkpoint()
        assert published(worker)[-1]["band"] == "healthy"
        assert said(worker) == []


class TestSilence:
    """An account that stops sending loses its score by itself: ticks are the only input."""

    def _fall_silent(self, worker: MemoryWorker, days: int) -> list[float]:
        """Let days go by and return the score at the end of each."""
        scores = []
        for _ in range(days):
            worker.wall_us += DAY
            while worker.tick():
                pass
            worker.checkpoint()
            scores.append(int(worker.partition.columns.score[0]) / 10_000)
        return scores

    def test_it_falls_day_by_day_and_alerts_with_no_event_at_all(self) -> None:
        """From full marks to none: opened when at risk, worse when critical, and nothing twice."""
        worker = reading([use(day) for day in range(40)], START + 40 * DAY)
        assert published(worker)[-1]["score"] == 100
        scores = self._fall_silent(worker, 40)
        assert all(later <= earlier for earlier, later in pairwise(scores))
        assert scores[-1] == 0
        events = said(worker)
        assert [each["type"] for each in events] == ["alert.opened", "alert.severity_changed"]
        assert [each["data"]["severity"] for each in events] == ["at_risk", "critical"]
        assert alert_problems([(each.key, each.event) for each in worker.alerts]) == []

    def test_it_recovers_when_it_is_used_again(self) -> None:
        """Events after the silence resolve the alert that ticks opened."""
        worker = reading([use(day) for day in range(40)], START + 40 * DAY)
        self._fall_silent(worker, 40)
        back = [use(day) for day in range(40)] + [use(day) for day in range(80, 100)]
        worker.log = log_of(back)
        worker.wall_us = START + 100 * DAY
        worker.step("usage-events", 100)
        worker.checkpoint()
        assert [each["type"] for each in said(worker)] == ["alert.opened", "alert.severity_changed", "alert.resolved"]

    def test_a_wait_that_ends_in_silence_opens_the_alert_at_its_end(self) -> None:
        """With the product's waits a critical account is told of after them, though nothing comes in between."""
        worker = reading([use(0)], START + 60 * DAY, rules=AlertRules())
        assert said(worker) == []
        deadline = worker.wall_us + 300_000_000  # pending_for.critical, 5 minutes
        while worker.wall_us < deadline - 10_000_000:
            worker.wall_us += 10_000_000
            worker.tick()
        worker.checkpoint()
        assert said(worker) == []
        worker.wall_us += 10_000_000
        worker.tick()
        worker.checkpoint()
        (opened,) = said(worker)
        assert (opened["type"], opened["data"]["severity"], opened["data"]["reason"]) == ("alert.opened", "critical", "first_notification")
        assert opened["time"] == rfc3339(deadline)[:-1] + ".000Z"

    def test_an_alert_that_is_resolved_with_no_change_of_score_is_resolved_for_good(self) -> None:
        """The wait of a recovery ends by itself: the row that says so is written with the event, and a restart does not say it again."""
        rules = AlertRules.model_validate({"pending_for": {"at_risk": 0, "critical": 0}, "recover_for": "1h"})
        silent = [use(day) for day in range(40)]
        worker = reading(silent, START + 40 * DAY, rules=rules)
        self._fall_silent(worker, 40)
        worker.log = log_of([*silent, *(use(day) for day in range(80, 100))])
        worker.wall_us = START + 99 * DAY + NOON
        worker.step("usage-events", 100)
        worker.checkpoint()
        assert [each["type"] for each in said(worker)][-1] == "alert.severity_changed"
        for _ in range(3):
            worker.wall_us += HOUR
            worker.tick()
            worker.checkpoint()
            worker.crash()
        assert [each["type"] for each in said(worker)].count("alert.resolved") == 1
        assert alert_problems([(each.key, each.event) for each in worker.alerts]) == []

    def test_ticks_publish_assessments_that_no_event_triggered(self) -> None:
        """Trigger and occurrence are null; the decision time is the tick's."""
        worker = reading([use(day) for day in range(40)], START + 40 * DAY)
        first = len(worker.scores)
        self._fall_silent(worker, 10)
        by_tick = published(worker)[first:]
        assert by_tick
        assert all(each["trigger"] is None and each["occurred_at"] is None for each in by_tick)
        assert by_tick[-1]["scored_at"] == rfc3339(START + 50 * DAY)[:-1] + ".000Z"

    def test_a_tick_that_changes_nothing_publishes_nothing(self) -> None:
        """At the same instant nobody is due; on a day that moves no measure the account is looked at and not said again."""
        worker = reading([use(0)], START + 200 * DAY)
        while worker.tick():
            pass
        worker.checkpoint()
        assert worker.tick() == 0
        worker.wall_us += DAY
        assert worker.tick() == 1
        assert not worker.partition.is_moved
        assert worker.partition.dirty == 0
        assert worker.checkpoint().keys == []

    def test_an_account_that_is_long_settled_is_not_looked_at_any_more(self) -> None:
        """400 days after its last event, and with no alert, there is nothing that time could move; an event wakes it."""
        rules = AT_ONCE.model_copy(
            update={"health": AT_ONCE.health.model_validate({"at_risk": {"enter": 1, "exit": 2}, "critical": {"enter": 0, "exit": 1}})}
        )
        history = [event("account.created", START + NOON, name="Acme")]
        worker = reading(history, START + 401 * DAY + 13 * HOUR, rules=rules)
        assert int(worker.partition.columns.due_at[0]) == NEVER
        worker.log = log_of([*history, event("account.updated", START + 401 * DAY, name="Acme")])
        worker.step("account-events", 1)
        worker.partition.assess_touched()
        assert int(worker.partition.columns.due_at[0]) == START + 402 * DAY

    def test_an_invoice_that_falls_due_long_after_the_last_event_is_noticed(self) -> None:
        """What is due in 500 days keeps its account awake until it is overdue."""
        far = START + 500 * DAY
        issued = event(
            "invoice.issued", START + NOON, invoice_id="i", attempt=1, total={"amount_minor": 100, "currency": "EUR"}, due_at=rfc3339(far)
        )
        worker = reading([issued, event("ticket.assigned", START + NOON, ticket_id="t")], START + 450 * DAY)
        worker.wall_us = far + 40 * DAY
        while worker.tick():
            pass
        payment = published_payment(worker)
        assert payment < 100

    def test_a_tick_looks_at_a_bounded_number_of_accounts_the_longest_due_first(self) -> None:
        """More would keep the heartbeat waiting; ticks follow each other until nobody is due."""
        history = [use(day, f"a{number}") for day, number in ((0, 0), *((5, number) for number in range(1, TICK_ACCOUNTS + 10)))]
        worker = reading([history[0]], START + DAY)
        worker.log = log_of(history)
        worker.wall_us = START + 6 * DAY
        worker.step("usage-events", len(history))
        worker.wall_us = START + 20 * DAY
        due_before = worker.partition.columns.due_at[0]
        assert worker.tick() == TICK_ACCOUNTS
        assert worker.partition.columns.due_at[0] > due_before
        assert worker.tick() == 10
        assert worker.tick() == 0


def published_payment(worker: MemoryWorker) -> float:
    """Return the points of the payment component in the columns."""
    return int(worker.partition.columns.component[0, 2]) / 10_000


class TestLogClock:
    """On the log's own time a replay lives through every day of it."""

    @pytest.mark.parametrize("size", [1, 7, 1_000])
    def test_silence_within_a_batch_is_noticed_on_the_day_it_becomes_one(self, size: int) -> None:
        """One busy account carries the time on, the silent one alerts on the same days however the log is cut."""
        history = [use(day, "quiet") for day in range(40)] + [use(day, "busy") for day in range(40, 100)]
        worker = MemoryWorker(log_of(history), definition(is_log_clock=True))
        worker.run(Random(0), sizes=(size,))
        days = [(each["type"], each["subject"], each["time"][:10]) for each in said(worker)]
        # Last used on 9 February. 18 idle days are worth 50% of 10/12 and 20% of 10/25: 49.7; 23 are worth 24.8.
        assert days == [("alert.opened", "quiet", "2026-02-27"), ("alert.severity_changed", "quiet", "2026-03-04")]

    def test_a_replay_of_the_past_leaves_accounts_as_they_were_at_its_end(self) -> None:
        """No tick after the last event, whatever the wall clock says."""
        worker = MemoryWorker(log_of([use(day) for day in range(40)]), definition(is_log_clock=True))
        worker.run(Random(0))
        assert worker.tick() == 0
        assert published(worker)[-1]["band"] == "healthy"


class TestCheckpoint:
    """A checkpoint is exactly what changed since the last one, and the cursor that goes with it."""

    def test_each_changed_account_is_in_it_once_and_the_cursor_is_the_last_record(self) -> None:
        """However many batches touched it; and a checkpoint with nothing to say holds the cursor alone."""
        worker = MemoryWorker(log_of([use(day, account) for day in range(9) for account in ("a", "b")]))
        worker.step("usage-events", 4)
        worker.step("usage-events", 4)
        changelog = [record for part in worker.partition.take().slices(1) for record in part.changelog]
        assert [key for key, _ in changelog] == [b"ra", b"rb", CURSOR_KEY]
        assert read_cursor(changelog[-1][1])["usage-events"].offset == 8
        assert not worker.partition.is_moved
        assert [key for part in worker.partition.take().slices(1) for key, _ in part.changelog] == [CURSOR_KEY]

    def test_only_the_parts_that_changed_are_written(self) -> None:
        """A use writes the row; a ticket writes the row and the tickets."""
        worker = MemoryWorker(log_of([use(0), event("ticket.assigned", START, ticket_id="t")]))
        worker.step("usage-events", 1)
        assert worker.partition.take().parts == []
        worker.step("ticket-events", 1)
        assert [key for key, _ in worker.partition.take().parts] == [b"sacme"]
        worker.log = log_of([use(0), use(1), event("ticket.assigned", START, ticket_id="t")])
        worker.step("usage-events", 1)
        assert worker.partition.take().parts == []

    def test_what_is_folded_after_it_was_taken_is_not_in_it(self) -> None:
        """The rows and positions are copies: a checkpoint is written while the next batch is folded."""
        worker = MemoryWorker(log_of([use(0), use(1)]))
        worker.step("usage-events", 1)
        taken = worker.partition.take()
        worker.step("usage-events", 1)
        (part,) = taken.slices(10)
        stored = dict(part.changelog)
        assert read_cursor(stored[CURSOR_KEY])["usage-events"].offset == 1
        assert row.decode([stored[b"racme"] or b""])["applied"][0][0] == 1

    def test_a_position_counts_every_record_read_exactly_once(self) -> None:
        """Applied, duplicate, late and dead letters of a topic sum to the records read of it."""
        history = records(Random(3), 1_500, Scene(days=60))
        worker = MemoryWorker(log_of(history))
        worker.run(Random(3))
        for topic, position in worker.partition.positions.items():
            assert position.offset == len(worker.log[topic])
            assert position.applied + position.duplicate + position.late + position.dead_letter == position.offset

    def test_offsets_that_hold_no_record_are_passed_over(self) -> None:
        """A transaction's marker at the end of a batch moves the cursor with it, and counts as nothing."""
        worker = MemoryWorker(log_of([use(0)]))
        worker.partition.step("usage-events", worker.log["usage-events"], 7, set(), worker.wall_us)
        position = worker.partition.positions["usage-events"]
        assert (position.offset, position.applied) == (7, 1)


class TestRestore:
    """What comes back from a changelog is what was written, and what a newer release wrote is refused."""

    def test_a_newer_cursor_is_refused(self) -> None:
        """To go on from it could lose what it says."""
        stored = msgspec.msgpack.encode(Cursor(2, {"usage-events": Position(9)}))
        with pytest.raises(UnknownCursorVersionError, match="version 2"):
            Partition(0, definition()).restore(iter(()), stored)

    def test_a_newer_row_is_refused(self) -> None:
        """The same for an account's row."""
        worker = MemoryWorker(log_of([use(0)]))
        worker.run(Random(0))
        worker.changelog[b"racme"] = b"\x09\x00" + worker.changelog[b"racme"][2:]
        with pytest.raises(row.UnknownRowVersionError, match="version 9"):
            worker.crash()

    def test_the_order_of_the_stored_records_does_not_matter(self) -> None:
        """A part may come back before its row."""
        worker = MemoryWorker(log_of(records(Random(5), 300, Scene(days=60))))
        worker.run(Random(5))
        before = {name: worker.partition.columns.slots[name] for name in worker.partition.columns.slots}
        worker.changelog = dict(sorted(worker.changelog.items(), reverse=True))
        old = worker.partition
        worker.crash()
        for key, slot in before.items():
            restored = worker.partition.columns.slots[key]
            for name in ("score", "tickets_open", "overdue_from", "is_deleted", "said_score", "due_at", "alert_sequence"):
                assert getattr(worker.partition.columns, name)[restored] == getattr(old.columns, name)[slot]

    def test_timers_that_were_due_while_nobody_ran_fire_at_once(self) -> None:
        """The first tick after a restart looks at every account whose time came meanwhile."""
        worker = reading([use(day) for day in range(40)], START + 40 * DAY)
        worker.crash()
        worker.wall_us = START + 80 * DAY
        assert worker.tick() == 1
        worker.checkpoint()
        assert [each["type"] for each in said(worker)] == ["alert.opened"]
        worker.crash()
        assert worker.tick() == 0
        worker.checkpoint()
        assert len(said(worker)) == 1


class TestPublished:
    """What health-scores and churn-alerts say adds up, and survives crashes."""

    @unhurried
    @given(history=histories(Scene(days=150)), seed=seeds, is_log_clock=st.booleans())
    def test_contributions_sum_to_the_score_and_drivers_to_its_move_exactly(
        self, history: list[Record], seed: int, is_log_clock: bool
    ) -> None:
        """In ten-thousandths, for every assessment ever published; and each move is the one since the assessment before."""
        worker = MemoryWorker(log_of(history), definition(is_log_clock=is_log_clock))
        worker.run(Random(seed), crash_share=0.2)
        latest: dict[str, float | None] = {}
        for data in published(worker):
            contributions = [_fixed(each["contribution"]) for each in data["components"] if not each["missing"]]
            if data["score"] is None:
                assert contributions == []
            else:
                assert sum(contributions) == _fixed(data["score"])
                assert 0 <= data["score"] <= 100
            before = latest.get(data["account_id"])
            if before is None or data["score"] is None:
                assert (data["delta"], data["drivers"]) == (None, [])
            else:
                assert _fixed(data["delta"]) == _fixed(data["score"]) - _fixed(before)
                assert sum(_fixed(each["points"]) for each in data["drivers"]) == _fixed(data["delta"])
            assert all(each["points"] for each in data["drivers"])
            latest[data["account_id"]] = data["score"]

    @unhurried
    @given(history=histories(Scene(days=150)), seed=seeds, is_log_clock=st.booleans())
    def test_alerts_have_no_gap_and_no_twin_whatever_crashes(self, history: list[Record], seed: int, is_log_clock: bool) -> None:
        """Per account the sequence goes on by one, opened and resolved alternate, every id is there once."""
        worker = MemoryWorker(log_of(history), definition(is_log_clock=is_log_clock))
        worker.run(Random(seed), crash_share=0.3)
        assert alert_problems([(each.key, each.event) for each in worker.alerts]) == []

    def test_an_assessment_names_the_record_that_touched_the_account_last(self) -> None:
        """Topic, partition, offset and id of the last applied record; a duplicate or a late one triggers nothing."""
        history = [use(30), use(31), use(31), use(2)]
        worker = reading(history, START + 40 * DAY)
        (data,) = published(worker)
        assert data["trigger"] == {"topic": "usage-events", "partition": 0, "offset": 1, "id": history[1]["id"]}
        assert data["occurred_at"] == rfc3339(START + 31 * DAY + NOON)[:-1] + ".000Z"

    def test_an_assessment_has_the_same_id_when_it_is_made_again(self) -> None:
        """A reader that sees uncommitted ones, too, can tell which are one."""
        history = records(Random(9), 200, Scene(days=60))

        def ids() -> list[str]:
            worker = MemoryWorker(log_of(history))
            worker.run(Random(9))
            return [json.loads(value)["id"] for _, value in worker.scores]

        assert ids() == ids()
        assert len(set(ids())) == len(ids())

    def test_a_change_of_the_facts_is_in_the_next_assessment(self) -> None:
        """Owner, segment, MRR and renewal are those that hold now, before a restart and after."""
        subscription = {
            "subscription_id": "s",
            "status": "active",
            "items": [{"unit_amount_minor": 1_000, "quantity": 3, "interval": "month"}],
            "currency": "EUR",
        }
        history = [
            event("account.created", START, name="Acme", owner="ana", segment="smb"),
            event("contract.signed", START, contract_id="c", term_end=rfc3339(START + 90 * DAY)),
            event("subscription.upserted", START, **subscription, version=1),
            event("account.owner_changed", START + HOUR, **{"from": "ana", "to": "bo"}),
            event("subscription.upserted", START + HOUR, **{**subscription, "status": "canceled"}, version=2),
        ]
        worker = MemoryWorker(log_of(history), wall_us=START + DAY)
        for topic, count in (("account-events", 2), ("payment-events", 1), ("account-events", 1), ("payment-events", 1)):
            worker.step(topic, count)
            worker.checkpoint()
            worker.crash()
        told = [(each["owner"], each["segment"], each["mrr"], each["renewal_at"]) for each in published(worker)]
        renewal = rfc3339(START + 90 * DAY)[:-1] + ".000Z"
        paid = {"amount_minor": 3_000, "currency": "EUR"}
        assert told == [
            ("ana", "smb", None, renewal),
            ("ana", "smb", paid, renewal),
            ("bo", "smb", paid, renewal),
            ("bo", "smb", None, renewal),
        ]

    def test_an_account_whose_subscriptions_have_all_ended_has_no_alert(self) -> None:
        """It has left: nobody can keep it any more. With one subscription that goes on it can still be lost."""
        plan = {"items": [{"unit_amount_minor": 1_000, "interval": "month"}], "currency": "EUR"}
        history = [
            event("subscription.upserted", START + hours * HOUR, subscription_id=name, status=status, version=version, **plan)
            for hours, name, status, version in (
                (0, "s", "active", 1),
                (1, "s", "canceled", 2),
                (2, "r", "active", 1),
                (3, "r", "canceled", 2),
            )
        ]
        worker = MemoryWorker(log_of([]), wall_us=START + 60 * DAY)
        for count in range(5):
            worker.log = log_of([use(0), *history[:count]])
            worker.step("payment-events" if count else "usage-events", 1)
            worker.checkpoint()
            worker.crash()
        kinds = [each["type"].removeprefix("alert.") for each in said(worker)]
        # That it pays at all makes it less bad than no usage alone.
        assert kinds == ["opened", "severity_changed", "resolved", "reopened", "resolved"]

    def test_a_closed_account_has_no_alert(self) -> None:
        """What is open when it is deleted is resolved, and its silence is nobody's business."""
        worker = reading([use(0)], START + 60 * DAY)
        worker.log = log_of([use(0), event("account.deleted", START + DAY)])
        worker.step("account-events", 1)
        worker.wall_us += 30 * DAY
        worker.tick()
        worker.checkpoint()
        assert [(each["type"], each["data"]["reason"]) for each in said(worker)] == [
            ("alert.opened", "first_notification"),
            ("alert.resolved", "account_closed"),
        ]


def _fixed(points: float) -> int:
    """Return points in ten-thousandths: what is published is their exact decimal text."""
    fixed = round(points * 10_000)
    assert fixed / 10_000 == points
    return fixed
