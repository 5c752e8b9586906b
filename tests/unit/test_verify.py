"""The checks that the crash tests rest on find what they are for: each kind of damage, one at a time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.policy import Condition
from deploy.verify import reference
from deploy.verify.alert_log import alert_problems, latest_states
from deploy.verify.checks import Evidence, Input, Letter, Tail, judge_partition
from deploy.verify.equality import differences
from deploy.verify.records import LogRecord, read_records
from deploy.verify.report import Check, Report
from deploy.verify.rolled_up import Rolled
from deploy.verify.run import error_headers
from models import row
from models.decoding import Reason, decode_batch
from models.events import type_name
from models.input_topics import INPUT_TOPICS
from models.portfolio import Accounting
from models.reading import reader
from stream_app.pipeline import Cursor, read_cursor
from stream_app.settings import Settings
from stream_app.state_reader import Changelog
from tests.support.generate import DAY, START, Record, Scene, records, rfc3339, topic_of
from tests.support.memory_worker import AT_ONCE, MemoryWorker, definition, log_of
from tests.support.memory_worker import LogRecord as InMemory
from tests.support.poison import HARMLESS, POISON, Harmless, Poison
from tests.support.profiles import unhurried
from tests.unit.test_commands import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream_app.pipeline import Output

Log = list[tuple[bytes | None, bytes | None]]


@pytest.fixture(scope="module")
def worker() -> MemoryWorker:
    """Return a worker that has read a history of everything."""
    made = MemoryWorker(log_of(records(Random(4), 1_500, Scene(days=150))))
    made.run(Random(4))
    return made


@pytest.fixture(scope="module")
def alerts() -> Log:
    """Return the alerts of an account that fell silent and came back, three times."""
    days = [day for day in range(300) if day // 50 % 2 == 0]
    history = [_use("acme", day) for day in days] + [_use("busy", day) for day in range(300)]
    worker = MemoryWorker(log_of(sorted(history, key=lambda record: str(record["time"]))), definition(is_log_clock=True))
    worker.run(Random(1))
    log: Log = [(said.key, said.event) for said in worker.alerts if said.key == b"acme"]
    assert len(log) > 5
    assert alert_problems(log) == []
    return log


def _use(account: str, day: int) -> Record:
    time, data = rfc3339(START + day * DAY), {"event": "e", "user_id": "u"}
    return {"id": f"{account} {day}", "source": "s", "type": "usage.event", "time": time, "subject": account, "data": data}


def _with(value: bytes | None, **members: Any) -> bytes:
    event = json.loads(value or b"")
    data = members.pop("data", {})
    return json.dumps({**event, **members, "data": {**event["data"], **data}}).encode()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda log: [*log[:2], log[1], *log[2:]], "is there twice"),
        (lambda log: [*log[:2], *log[3:]], "its sequence is"),
        (lambda log: log[1:], "its sequence is"),
        (lambda log: [log[1], log[0], *log[2:]], "its sequence is"),
        (lambda log: [(b"another", log[0][1]), *log[1:]], "the key is"),
        (lambda log: [(log[0][0], _with(log[0][1], type="alert.resolved")), *log[1:]], "not open already"),
        (lambda log: [(log[0][0], _with(log[0][1], data={"episode": 7})), *log[1:]], "its episode is 7"),
        (lambda log: [(log[0][0], _with(log[0][1], id="x" * 64)), *log[1:]], "its ids are not those"),
    ],
    ids=["twice", "a hole", "no beginning", "out of order", "another key", "resolved first", "another episode", "another id"],
)
def test_a_damaged_log_of_alerts_is_noticed(alerts: Log, damage: Callable[[Log], Log], told: str) -> None:
    """Whatever a crash could do to it."""
    assert any(told in problem for problem in alert_problems(damage(alerts)))


def test_the_state_of_an_alert_is_the_fold_of_its_log(alerts: Log) -> None:
    """The last event counts, and one that is missing shows."""
    (whole,) = latest_states(alerts).values()
    (cut,) = latest_states(alerts[:-1]).values()
    assert whole.sequence == len(alerts)
    assert cut != whole


def test_an_account_that_differs_is_noticed(worker: MemoryWorker) -> None:
    """One use too many, one forgotten account, one score that nobody computed."""
    history = [json.loads(record.value or b"") for topic in INPUT_TOPICS for record in worker.log[topic]]
    accounts, _ = reference.replay((topic_of(record), record) for record in history)
    assert differences(worker.partition, accounts) == []
    columns = worker.partition.columns
    slot = columns.slots[b"acme"]
    columns.usage[slot, 3] += 1
    assert any("acme: usage" in problem for problem in differences(worker.partition, accounts))
    columns.usage[slot, 3] -= 1
    columns.score[slot] += 1
    assert any("acme at" in problem for problem in differences(worker.partition, accounts))
    columns.score[slot] -= 1
    forgotten = {name: account for name, account in accounts.items() if name != "acme"}
    assert any("one side only" in problem for problem in differences(worker.partition, forgotten))


# One partition before the judge


SETTINGS = Settings(alerts=AT_ONCE)
PUBLISHED_AT = START + 160 * DAY
HISTORY = records(Random(8), 1_200, Scene(days=150))
UNUSABLE = LogRecord("usage-events", 0, 10_000, b"acme", b"no event")


def judged(evidence: Evidence, settings: Settings = SETTINGS, account: bytes | None = None) -> Report:
    """Judge one partition."""
    report = Report()
    judge_partition(settings, evidence, report, account=account)
    return report


@pytest.fixture(scope="module")
def done() -> MemoryWorker:
    """Return a worker that has read, and committed, a history of everything with one record that cannot be used."""
    log = log_of(HISTORY)
    log["usage-events"].append(InMemory(UNUSABLE.key, UNUSABLE.value, len(log["usage-events"])))
    worker = MemoryWorker(log, replace(definition(), config_version=SETTINGS.config_version, read_text=reader(SETTINGS.feedback)))
    worker.run(Random(8), sizes=(1, 3, 20))
    assert len(worker.alerts) > 3
    worker.publish(PUBLISHED_AT)
    return worker


def evidence_of(worker: MemoryWorker) -> Evidence:
    """Return all that somebody would read of the partition of a worker, copied."""
    return Evidence(
        number=0,
        changelog=Changelog(dict(worker.changelog), list(worker.cursors)),
        inputs={topic: input_of(topic, records) for topic, records in worker.log.items()},
        scores=dict(worker.scores),
        alerts=[(said.key, said.event) for said in worker.alerts],
        alert_states={said.key: said.state for said in worker.alerts},
        letters=[letter_of(each) for each in worker.dead_letters],
        portfolio=[Rolled(key, value, written_ms) for key, (value, written_ms) in worker.portfolio.items()],
        cursor_times=dict(worker.cursor_times),
    )


def input_of(topic: str, sent: Sequence[InMemory], start: int = 0) -> Input:
    """Return what is read of an input whose log begins at an offset."""
    kept = [LogRecord(topic, 0, each.offset, each.key, each.value, (), each.timestamp, is_append_time=True) for each in sent[start:]]
    return Input(kept, start, len(sent))


def letter_of(sent: Output) -> Letter:
    """Return what a dead letter says of its record."""
    told = error_headers(sent.headers)
    return Letter(told["topic"], int(told["offset"]), sent.key, told["reason"])


def test_what_a_worker_wrote_is_found_right(done: MemoryWorker) -> None:
    """Every check has judged something, nothing differs, and nothing is left."""
    report = judged(evidence_of(done)).check()
    assert all(count.judged for count in report.counts.values()), report
    assert not report.reasons
    assert report.accounts == len(done.partition.columns)
    assert report.read.total() == len(HISTORY) + 1


def tampered_row(evidence: Evidence, key: bytes, **members: int) -> Evidence:
    """Change members of an account's row in the changelog."""
    rows = row.decode([evidence.changelog.latest[b"r" + key]]).copy()
    for name, value in members.items():
        rows[name][0] = value
    (evidence.changelog.latest[b"r" + key],) = row.encode(rows)
    return evidence


def tampered_uses(evidence: Evidence) -> Evidence:
    """Add a use that nobody made."""
    rows = row.decode([evidence.changelog.latest[b"racme"]]).copy()
    rows["usage"][0, 5] += 1
    (evidence.changelog.latest[b"racme"],) = row.encode(rows)
    return evidence


def tampered_score(evidence: Evidence) -> Evidence:
    """Publish another score than the one in the row."""
    event = json.loads(evidence.scores[b"acme"])
    event["data"]["score"] = 99.5
    return replace(evidence, scores={**evidence.scores, b"acme": json.dumps(event).encode()})


def without(evidence: Evidence, key: bytes) -> Evidence:
    """Forget a record of the changelog."""
    del evidence.changelog.latest[key]
    return evidence


def with_cursors(evidence: Evidence, change: Callable[[list[bytes]], list[bytes]]) -> Evidence:
    """Change the history of cursors; the last one stays the latest."""
    return replace(evidence, changelog=Changelog(evidence.changelog.latest, change(evidence.changelog.cursors)))


def recounted(evidence: Evidence, **members: int) -> Evidence:
    """Change what the last cursor says of usage-events."""
    topics = read_cursor(evidence.changelog.cursors[-1])
    topics["usage-events"] = msgspec.structs.replace(topics["usage-events"], **members)
    last = msgspec.msgpack.encode(Cursor(1, topics))
    return with_cursors(evidence, lambda cursors: [*cursors[:-1], last])


def without_records(evidence: Evidence, topic: str, count: int) -> Evidence:
    """Take the last records away from an input: what was folded is no longer there."""
    source = evidence.inputs[topic]
    return replace(evidence, inputs={**evidence.inputs, topic: Input(list(source.records)[:-count], 0, source.end - count)})


def resolved_state(evidence: Evidence) -> Evidence:
    """Say in alert-state that an open alert is resolved."""
    key, stored = next((key, value) for key, value in evidence.alert_states.items() if b'"state":"firing"' in value)
    return replace(evidence, alert_states={**evidence.alert_states, key: stored.replace(b'"firing"', b'"resolved"')})


@pytest.mark.parametrize(
    ("damage", "check", "told"),
    [
        (tampered_uses, "state", "usage-events: usage.days."),
        (lambda all_: tampered_row(all_, b"acme", score=1), "assessments", "score: the stream has 1"),
        (lambda all_: without(all_, b"racme"), "state", "applied: the stream has"),
        (lambda all_: replace(all_, changelog=without_account(all_.changelog, b"acme")), "state", "nothing is kept of it"),
        (lambda all_: without(all_, b"sacme"), "state", "ticket-events"),
        (lambda all_: garbled(all_, b"racme"), "state", "cannot be read"),
        (tampered_score, "scores", "health-scores: score"),
        (lambda all_: replace(all_, scores={key: value for key, value in all_.scores.items() if key != b"acme"}), "scores", "no score"),
        (lambda all_: replace(all_, scores={**all_.scores, b"nobody": all_.scores[b"acme"]}), "scores", "nothing is kept of it"),
        (lambda all_: with_cursors(all_, lambda cursors: [cursors[-1], *cursors]), "cursors", "goes back"),
        (lambda all_: recounted(all_, applied=1_000_000), "records", "the cursor counts"),
        (lambda all_: recounted(all_, offset=1_000_000), "records", "and the log ends at"),
        (lambda all_: without_records(all_, "ticket-events", 1), "records", "the log ends at"),
        (lambda all_: replace(all_, inputs={**all_.inputs, "usage-events": unread(all_)}), "records", "3 records are there after it"),
        (lambda all_: replace(all_, alerts=[*all_.alerts, all_.alerts[-1]]), "alerts", "is there twice"),
        (lambda all_: replace(all_, alerts=all_.alerts[1:]), "alerts", "its sequence is"),
        (lambda all_: replace(all_, alerts=all_.alerts[:-1]), "alerts", "alert events, the log"),
        (lambda all_: replace(all_, alerts=[(b"acme", b"{}"), *all_.alerts]), "alerts", "cannot be read"),
        (resolved_state, "alert-state", "not the fold of its alerts"),
        (lambda all_: replace(all_, alert_states={}), "alert-state", "is not in alert-state"),
        (lambda all_: tampered_row(all_, b"acme", alert_condition=int(Condition.PENDING)), "condition", "acme"),
        (lambda all_: replace(all_, letters=all_.letters[1:]), "dead-letters", "no dead letters"),
        (lambda all_: replace(all_, letters=[*all_.letters, all_.letters[0]]), "dead-letters", "2 dead letters"),
        (
            lambda all_: replace(all_, letters=[Letter("usage-events", 0, b"acme", "not_json"), *all_.letters]),
            "dead-letters",
            "can be used",
        ),
        (
            lambda all_: replace(all_, letters=[Letter("usage-events", 10**6, b"x", "not_json"), *all_.letters]),
            "dead-letters",
            "not folded",
        ),
        (
            lambda all_: replace(all_, letters=[replace(each, reason="bad_time") for each in all_.letters]),
            "dead-letters",
            "says bad_time, expected",
        ),
    ],
)
def test_each_damage_is_found_by_its_check(done: MemoryWorker, damage: Callable[[Evidence], Evidence], check: str, told: str) -> None:
    """Whatever is tampered with, forgotten or there twice."""
    report = judged(damage(evidence_of(done)))
    lines = [str(each) for each in report.differences if each.check == check]
    assert any(told in line for line in lines), report
    assert not report.is_right


def without_account(changelog: Changelog, key: bytes) -> Changelog:
    """Forget every record of an account."""
    return Changelog({stored: value for stored, value in changelog.latest.items() if stored[1:] != key}, changelog.cursors)


def garbled(evidence: Evidence, key: bytes) -> Evidence:
    """Put something in the changelog that is no record."""
    evidence.changelog.latest[key] = b"?"
    return evidence


def unread(evidence: Evidence) -> Input:
    """Return the usage, with three records after the cursor."""
    return replace(evidence.inputs["usage-events"], unfolded=3)


# What is newer than the cut


def test_what_was_written_after_the_cut_is_right_when_the_tail_holds_it(done: MemoryWorker) -> None:
    """The outputs are read a little later than the state: with the tail of the changelog they are right, without it they are not."""
    log = log_of([*HISTORY, *[_use(f"new-{number}", 200) for number in range(3)], _use("acme", 200)])
    log["usage-events"].insert(len(log["usage-events"]) - 4, InMemory(UNUSABLE.key, UNUSABLE.value, 0))
    log["usage-events"].append(InMemory(b"acme", b"no event either", 0))
    log["usage-events"] = [replace(each, offset=offset) for offset, each in enumerate(log["usage-events"])]
    ahead = MemoryWorker(log, replace(definition(), config_version=SETTINGS.config_version, read_text=reader(SETTINGS.feedback)))
    ahead.changelog, ahead.scores, ahead.alerts, ahead.dead_letters = (
        dict(done.changelog),
        list(done.scores),
        list(done.alerts),
        list(done.dead_letters),
    )
    ahead.crash()
    before = dict(ahead.changelog)
    while ahead.behind():
        ahead.step("usage-events", 2)
        ahead.checkpoint()
    tail = Tail(cursors=ahead.cursors)
    for key, value in ahead.changelog.items():
        if key.startswith(b"r") and before.get(key) != value:
            tail.rows[key[1:]].append(value)
    late = evidence_of(ahead)
    cut = replace(evidence_of(done), scores=late.scores, alerts=late.alerts, alert_states=late.alert_states, letters=late.letters)
    assert judged(replace(cut, tail=tail)).check().scores > sum(key.startswith(b"r") for key in before)
    found = {each.check for each in judged(cut).differences}
    assert found >= {"scores", "dead-letters"}


# What the logs no longer hold


def test_what_the_log_no_longer_holds_is_neither_equal_nor_different(done: MemoryWorker) -> None:
    """A log without its first third: tallies, cursors, scores and alerts are judged, the state is counted as not judged."""
    whole = evidence_of(done)
    cut = {topic: input_of(topic, sent, len(sent) // 3) for topic, sent in done.log.items()}
    report = judged(replace(whole, inputs=cut)).check()
    assert report.counts[Check.STATE].not_judged > 0
    assert report.counts[Check.STATE].judged == 0
    assert report.counts[Check.RECORDS].judged == len(INPUT_TOPICS)
    assert report.counts[Check.ASSESSMENTS].judged == report.accounts
    assert {topic for topic, _ in report.speaks_from} == set(INPUT_TOPICS)
    lost = replace(cut["ticket-events"], records=list(cut["ticket-events"].records)[:-1])
    assert any("are counted since" in line for line in judged(replace(whole, inputs={**cut, "ticket-events": lost})).problems)
    assert not judged(tampered_row(replace(whole, inputs=cut), b"acme", score=1)).is_right


def test_uses_are_compared_from_the_day_on_that_no_deleted_record_bears_upon(done: MemoryWorker) -> None:
    """A log that the broker received as it happened: the last days are told by it whole."""
    sent = [replace(each, timestamp=as_it_happened(each)) for each in done.log["usage-events"]]
    start = len(sent) // 3
    evidence = evidence_of(done)
    evidence = replace(evidence, inputs={**evidence.inputs, "usage-events": input_of("usage-events", sent, start)})
    report = judged(evidence).check()
    since = report.speaks_from["usage-events", 0]
    assert since is not None
    assert since > sent[start].timestamp * 1000 + 7 * DAY
    state = report.counts[Check.STATE]
    assert state.judged > 0
    account = "fox/🦊".encode()
    columns = done.partition.columns
    last_day = int(columns.used_at[columns.slots[account]]) // DAY
    rows = row.decode([evidence.changelog.latest[b"r" + account]]).copy()
    rows["usage"][0, last_day % row.RING_DAYS] += 1
    (evidence.changelog.latest[b"r" + account],) = row.encode(rows)
    assert any("fox" in line and "uses by day" in line for line in judged(evidence).problems)


def as_it_happened(record: InMemory) -> int:
    """Return the milliseconds of a record's own time; of one that has none, those of the beginning."""
    try:
        return int(reference.instant(json.loads(record.value or b"")["time"]) // 1000)
    except ValueError:
        return START // 1000


def test_alerts_whose_beginning_is_gone_are_judged_from_there_on(done: MemoryWorker) -> None:
    """The first one that is left is taken as it is; a hole after it still shows."""
    evidence = evidence_of(done)
    key = Counter(key for key, _ in evidence.alerts).most_common(1)[0][0]
    mine = [alert for alert in evidence.alerts if alert[0] == key]
    assert len(mine) > 2
    rest = [alert for alert in evidence.alerts if alert != mine[0]]
    assert not judged(replace(evidence, alerts=rest)).is_right
    judged(replace(evidence, alerts=rest, is_alert_log_whole=False)).check()
    holed = [alert for alert in rest if alert != mine[2]]
    assert not judged(replace(evidence, alerts=holed, is_alert_log_whole=False)).is_right
    gone = judged(replace(evidence, alerts=[], is_alert_log_whole=False)).check()
    assert gone.counts[Check.ALERTS].not_judged > 0


def test_dead_letters_that_may_have_been_deleted_are_not_missed(done: MemoryWorker) -> None:
    """They are counted as not judged."""
    report = judged(replace(evidence_of(done), letters=[], is_letter_log_whole=False)).check()
    assert report.counts[Check.DEAD_LETTERS].not_judged == len(done.dead_letters)


def test_scores_of_another_configuration_are_not_judged(done: MemoryWorker) -> None:
    """What they should be is not known here; whether they were published is."""
    report = judged(evidence_of(done), Settings()).check()
    assert report.counts[Check.ASSESSMENTS].judged == 0
    assert report.counts[Check.ASSESSMENTS].not_judged == report.accounts
    assert report.counts[Check.SCORES].judged == report.accounts


def test_one_account_alone_is_judged_like_all_of_them(done: MemoryWorker) -> None:
    """Its events are read and no other's, and what differs of it is found."""
    report = judged(evidence_of(done), account=b"acme").check()
    assert report.accounts == 1
    assert 0 < report.read.total() < len(HISTORY)
    assert report.counts[Check.STATE].judged == len(INPUT_TOPICS)
    assert not judged(tampered_uses(evidence_of(done)), account=b"acme").is_right
    judged(tampered_uses(evidence_of(done)), account=b"a b").check()


# What a record says


@pytest.mark.parametrize("harmless", HARMLESS, ids=lambda each: each.name)
def test_an_odd_record_says_the_same_to_the_reference(harmless: Harmless) -> None:
    """In every mode, however it was written: the second implementation reads the event that the first one reads."""
    sent = harmless.sent
    record = LogRecord(sent.topic, 0, sent.offset, sent.key, sent.value, tuple(sent.headers), sent.timestamp)
    (read,) = read_records(sent.topic, [record])
    assert read.members is not None
    event = reference.Event.of(read.members)
    decoded = decode_batch(sent.topic, [record])
    assert event.time == int(decoded.times_us[0])
    assert event.id == decoded.events[0].id
    assert event.type == type_name(type(decoded.events[0]))
    assert event.subject.encode() == sent.key
    assert reference.Oracle().apply(sent.topic, read.members) == "applied"


ALIKE: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "ticket-events": [
        ("ticket.account_changed", {"ticket_id": "t3", "from": "elsewhere", "to": "acct-036"}),
        ("ticket.merged", {"ticket_id": "t1", "into": "t2"}),
    ],
    "usage-events": [("usage.event", {"event": "report_exported", "user_id": "u1", "count": count}) for count in (140, 316)],
}
"""Contents of two events of one id and instant, whose hashes agree in their last sixteen bits; those of tickets were found in a storm."""


@pytest.mark.parametrize("topic", ALIKE)
@pytest.mark.parametrize("sizes", [(1,), (10,)], ids=["one at a time", "in one batch"])
def test_a_conflict_whose_content_has_nearly_the_same_hash_is_a_dead_letter(topic: str, sizes: tuple[int, ...]) -> None:
    """And a repetition of what was applied is a duplicate; `verify` has nothing to say against either."""
    time = "2026-11-06T09:00:48.765286Z"
    first, other = (
        {"type": kind, "time": time, "subject": "acct-036", "id": "147-e207", "source": "segment", "data": data}
        for kind, data in ALIKE[topic]
    )
    worker = MemoryWorker(log_of([first, other, first, other]), replace(definition(), config_version=SETTINGS.config_version))
    worker.run(Random(0), sizes=sizes)
    assert worker.outcomes() == {topic: {"applied": 1, "duplicate": 1, "dead_letter": 2}}
    assert [letter_of(each) for each in worker.dead_letters] == [Letter(topic, at, b"acct-036", "conflicting_duplicate") for at in (1, 3)]
    worker.publish(START + 400 * DAY)
    report = judged(evidence_of(worker)).check()
    assert not report.reasons, report


@pytest.mark.parametrize("poison", POISON, ids=lambda each: each.name)
def test_a_record_that_cannot_be_used_is_not_shown_to_the_reference(poison: Poison) -> None:
    """It gets the reason that its dead letter must have; a conflicting duplicate is found by the fold."""
    sent = [each for each in (poison.before, poison.sent) if each is not None]
    log = [LogRecord(each.topic, 0, i, each.key, each.value, tuple(each.headers), each.timestamp) for i, each in enumerate(sent)]
    read = list(read_records(poison.topic, log))
    expected = "" if poison.reason is Reason.CONFLICTING_DUPLICATE else poison.reason.value
    assert read[-1].reason == expected
    assert (read[-1].members is None) == bool(expected)


# The report


def test_a_report_tells_the_first_differences_and_counts_the_others() -> None:
    """Twenty of them, as lines and as JSON."""
    report = Report()
    for number in range(50):
        report.judge(Check.STATE, 3, f"a{number}".encode(), ["one", "two"])
    assert not report.is_right
    document = report.as_json()
    assert document["ok"] is False
    assert len(document["differences"]) == 20
    assert document["difference_count"] == 100
    assert document["checks"]["state"] == {"invariants": ["I1", "I3"], "judged": 50, "different": 50, "not_judged": 0}
    text = str(report)
    assert "state: partition 3: account 'a0': one" in text
    assert "and 80 more" in text
    json.dumps(document)


def test_nothing_is_wrong_with_a_report_of_nothing() -> None:
    """An empty cluster is right."""
    assert Report().check().as_json()["ok"] is True


# The roll-up


def rolled(evidence: Evidence, month: str, change: Callable[[dict[str, Any]], None]) -> Evidence:
    """Change the published record of a month."""

    def changed(each: Rolled) -> Rolled:
        record = json.loads(each.value)
        if record["month"] == month:
            change(record)
        return replace(each, value=json.dumps(record).encode())

    return replace(evidence, portfolio=[changed(each) for each in evidence.portfolio])


def long_ago(evidence: Evidence) -> Evidence:
    """Let the last cursor be written an hour after everything else."""
    last = max(evidence.cursor_times)
    return replace(evidence, cursor_times={**evidence.cursor_times, last + 3_600_000: evidence.cursor_times[last]})


def test_a_figure_that_nobody_published_is_found(done: MemoryWorker) -> None:
    """One more than there is, one that is not there, in the running month and in one that is over; a record that is missing."""
    whole = long_ago(evidence_of(done))
    assert judged(whole).counts[Check.PORTFOLIO].judged == 25
    for month in ("2026-06", "2026-02"):

        def one_more(record: dict[str, Any]) -> None:
            record["figures"]["customers_end"] += 1

        def gone(record: dict[str, Any]) -> None:
            record["figures"] = {}

        report = judged(rolled(whole, month, one_more))
        assert report.counts[Check.PORTFOLIO].different == 1
        assert [text for text in report.problems if f"{month}, other" in text and "customers_end is" in text]
        assert judged(rolled(whole, month, gone)).counts[Check.PORTFOLIO].different == 1
    lost = replace(whole, portfolio=[each for each in whole.portfolio if b"2026-02" not in each.key])
    assert [each.text for each in judged(lost).differences] == ["2026-02, other: there is no record"]
    just_now = judged(rolled(evidence_of(done), "2026-02", one_more))
    assert list(just_now.reasons) == ["portfolio: sums of a month that is over may have been under way"]


def test_figures_are_judged_at_the_cursor_that_they_were_made_at() -> None:
    """What was folded after the last publication is in none of them; without that cursor nobody can tell, unless nothing changed."""
    settings = Settings(alerts=AT_ONCE)
    log = log_of(records(Random(11), 300, Scene(days=60)))
    worker = MemoryWorker(log, replace(definition(), config_version=settings.config_version, read_text=reader(settings.feedback)))
    for topic in log:
        if log[topic]:
            worker.step(topic, len(log[topic]) // 2)
    worker.publish(START + 70 * DAY)
    worker.run(Random(0))
    worker.checkpoint()
    assert judged(evidence_of(worker)).check().counts[Check.PORTFOLIO].judged == 25
    last = max(worker.cursor_times)
    compacted = replace(evidence_of(worker), cursor_times={last: worker.cursor_times[last]})
    report = judged(compacted).check()
    assert report.counts[Check.PORTFOLIO].judged == 0
    assert report.reasons["portfolio: the cursor that it was made at is gone from the changelog"] == 25
    worker.publish(START + 70 * DAY)
    newest = max(worker.cursor_times)
    report = judged(replace(evidence_of(worker), cursor_times={newest: worker.cursor_times[newest]})).check()
    assert (report.counts[Check.PORTFOLIO].judged, report.counts[Check.PORTFOLIO].not_judged) == (25, 0)


def test_what_was_made_behind_a_backlog_is_not_judged() -> None:
    """The time was that of the slowest topic, and accounts had newer events: what these come to by then is not defined."""
    settings = Settings(alerts=AT_ONCE)
    worker = MemoryWorker(
        log_of(records(Random(3), 100, Scene(days=60))),
        replace(definition(), config_version=settings.config_version, read_text=reader(settings.feedback)),
    )
    worker.run(Random(0))
    worker.publish(START + 5 * DAY)
    report = judged(evidence_of(worker)).check()
    [(why, count)] = report.reasons.items()
    assert "behind a backlog" in why
    assert (count, report.counts[Check.PORTFOLIO].judged) == (25, 0)


def test_what_cannot_be_judged_of_the_roll_up_is_counted(done: MemoryWorker) -> None:
    """Another configuration, a segment that is not configured, a record after the cut, an input that lost its beginning."""
    whole = evidence_of(done)

    def left(evidence: Evidence) -> dict[str, int]:
        report = judged(evidence).check()
        assert report.counts[Check.PORTFOLIO].not_judged == sum(
            count for why, count in report.reasons.items() if why.startswith("portfolio:")
        )
        return {why.removeprefix("portfolio: "): count for why, count in report.reasons.items() if why.startswith("portfolio:")}

    assert left(rolled(whole, "2026-02", lambda record: record.update(config_version="other"))) == {"made with another configuration": 1}
    strange = Rolled(b"0/2026-02/gone", _with_segment(whole.portfolio[0], "gone"), whole.portfolio[0].written_ms)
    assert left(replace(whole, portfolio=[*whole.portfolio, strange])) == {"of a segment that is not configured": 1}
    assert left(replace(whole, portfolio=[])) == {"nothing is published yet": 1}
    cut = {topic: input_of(topic, sent, len(sent) // 3) for topic, sent in done.log.items()}
    assert left(replace(whole, inputs=cut)) == {"an input no longer reaches back": 25}


def _with_segment(each: Rolled, segment: str) -> bytes:
    return json.dumps(json.loads(each.value) | {"month": "2026-02", "segment": segment}).encode()


@unhurried(8)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_published_when_is_found_right(seed: int) -> None:
    """In the middle of a history, with segments, rates and crashes, over days and months: nothing is called different that is not."""
    rng = Random(seed)
    settings = Settings.model_validate(
        {"alerts": AT_ONCE, "portfolio": {"segments": ["smb"]}, "revenue": {"reporting_currency": "USD", "dunning_days": 3}}
    )
    accounting = Accounting.of(settings.revenue, settings.portfolio)
    made_of = replace(definition(), config_version=settings.config_version, read_text=reader(settings.feedback), accounting=accounting)
    worker = MemoryWorker(log_of([*records(rng, 250, Scene(days=60)), *commands(rng, 5)]), made_of)
    now = START + 61 * DAY
    while behind := sorted(worker.behind()):
        worker.step(rng.choice(behind), rng.choice((1, 10, 40)))
        if rng.random() < 0.1:
            worker.publish(now)
        elif rng.random() < 0.1:
            worker.checkpoint()
            worker.crash()
        now += rng.choice((0, 0, DAY // 24, DAY, 9 * DAY))
    worker.checkpoint()
    if worker.portfolio:
        report = judged(long_ago(evidence_of(worker)), settings).check()
        assert report.counts[Check.PORTFOLIO].judged + report.counts[Check.PORTFOLIO].not_judged == len(worker.portfolio)
