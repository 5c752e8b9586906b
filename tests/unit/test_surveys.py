"""Surveys: what is kept of answers, invitations and texts, by both implementations; and what counts in a window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.verify import reference
from deploy.verify.equality import differences, kept_by_oracle, kept_by_stream
from models.fold import read_part
from models.input_topics import INPUT_TOPICS, SURVEYS
from models.monthly import Months
from models.surveys import Answer, Invitation, Opinion, Surveys, answered, answers_of
from models.texts import Reading
from models.view import state_view
from stream_app.app import definition_of
from stream_app.settings import Settings
from tests.support.generate import DAY, HOUR, START, Record, Scene, histories, records, rfc3339, topic_of
from tests.support.memory_worker import MemoryWorker, definition, log_of

GOLDEN = Path(__file__).parents[1] / "golden" / "surveys_part.bin"
"""A surveys part with every member told apart, as it was stored when surveys were first kept."""

unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
TALKATIVE = Scene(days=260, topics={"survey-events": 5, "ticket-events": 1})


def read_text(text: str, language: str | None) -> Reading:
    """Read a text as no analyser would: by its length, and by who is spoken of."""
    polarity = None if language is None else len(text) * 100 - 1_000
    return Reading(polarity, ("competitor",) if "competitor" in text else ())


def read(history: list[Record], seed: int = 0, **changed: Any) -> MemoryWorker:
    """Let a worker with a reader of texts read a history, and hold its state against the oracle's."""
    worker = MemoryWorker(log_of(history), replace(definition(), read_text=read_text, **changed))
    worker.run(Random(seed), crash_share=0.1)
    accounts, _ = reference.replay(((topic_of(record), record) for record in history), read_text)
    assert differences(worker.partition, accounts) == []
    return worker


def state_of(*history: Record) -> dict[str, Any]:
    """Give the state of the only account."""
    return state_view(read(list(history)).partition.columns, 0)


def part_of(*history: Record) -> Surveys:
    """Give the surveys part of the only account."""
    part: Surveys = read_part(read(list(history)).partition.columns, "surveys", 0)
    return part


def at(day: int, hour: int = 0, us: int = 0) -> int:
    """Name an instant by its distance from START."""
    return START + day * DAY + hour * HOUR + us


def record(kind: str, at_us: int, id_: str = "", source: str = "s", /, **data: Any) -> Record:
    """Write a record of the account acme."""
    identity = id_ or f"{kind}@{at_us}{sorted(data.items())}"[:128]
    return {"id": identity, "source": source, "type": kind, "time": rfc3339(at_us), "subject": "acme", "data": data}


def answer(at_us: int, score: float, id_: str = "", /, **data: Any) -> Record:
    """Write an nps answer of the user u, or another with members changed."""
    usual = {"survey_id": "q", "kind": "nps", "score": score, "scale_min": 0, "scale_max": 10, "user_id": "u"}
    return record("survey.answered", at_us, id_, **{**usual, **data})


def csat(at_us: int, score: float, id_: str = "", /, **data: Any) -> Record:
    """Write an answer of 1 to 5."""
    return answer(at_us, score, id_, **{"kind": "csat", "scale_min": 1, "scale_max": 5, **data})


def offer(at_us: int, id_: str = "", /, **data: Any) -> Record:
    """Write an invitation of the user u to nps."""
    return record("survey.offered", at_us, id_, **{"survey_id": "q", "kind": "nps", "user_id": "u", **data})


def feedback(at_us: int, text: str, **data: Any) -> Record:
    """Write feedback in English."""
    return record("feedback.received", at_us, f"f{at_us}", **{"channel": "in_app", "text": text, "language": "en", **data})


@unhurried
@given(history=histories(TALKATIVE), seed=st.integers(0, 2**32))
def test_any_history_of_surveys_ends_as_the_oracle_says(history: list[Record], seed: int) -> None:
    """Late, twice, in conflict, beyond 200 days, with crashes in between."""
    read(history, seed)


@pytest.mark.parametrize("seed", range(3))
def test_long_histories_of_surveys_agree_too(seed: int) -> None:
    """Ids are forgotten, objects are let go and come back."""
    read(records(Random(seed), 1_500, replace(TALKATIVE, accounts=("acme", "fox/🦊"), days=500)), seed)


def test_more_than_a_thousand_answers_let_the_oldest_go() -> None:
    """What is kept of one account is bounded, and the same on both sides."""
    history = [answer(at(0, us=number), 9, f"e{number}", user_id=f"u{number}") for number in range(1_003)]
    assert [each["user_id"] for each in state_of(*history)["answers"]] == [f"u{number}" for number in range(3, 1_003)]


def test_what_is_kept_of_an_answer() -> None:
    """Its score in millionths, its scale and direction, who and about what; not its comment."""
    state = state_of(csat(at(1), 3.1234565, "e1", ticket_id="t", comment="Fine.", language="en", direction="lower_better"), offer(at(0)))
    assert state["answers"] == [
        {
            "time": at(1),
            "kind": "csat",
            "survey_id": "q",
            "user_id": "u",
            "score": 3_123_457,
            "scale": [1, 5],
            "direction": "lower_better",
            "ticket_id": "t",
        }
    ]
    assert state["invitations"] == [{"time": at(0), "kind": "nps", "survey_id": "q", "user_id": "u"}]
    assert state["opinions"] == [{"time": at(1), "polarity": -500, "themes": []}]


def test_texts_are_read_and_let_go_of() -> None:
    """Feedback and comments alike; a blank one is none, and an unknown language has no polarity."""
    history = [
        feedback(at(0), "To a competitor."),
        feedback(at(1), " \n\u3000"),
        feedback(at(2), "", language="de"),
        feedback(at(3), "Zu teuer.", language=None),
        answer(at(4), 3, "a", comment="\t"),
        answer(at(5), 3, "b", comment="No."),
    ]
    worker = read(history)
    assert state_view(worker.partition.columns, 0)["opinions"] == [
        {"time": at(0), "polarity": 600, "themes": ["competitor"]},
        {"time": at(3), "polarity": None, "themes": []},
        {"time": at(5), "polarity": None, "themes": []},
    ]
    stored = b"".join(worker.changelog.values())
    assert not any(word in stored for word in (b"To a", b"teuer", b"No."))


def test_without_a_reader_texts_are_counted_only() -> None:
    """Neither polarity nor themes, on both sides."""
    history = [feedback(at(0), "To a competitor.")]
    worker = MemoryWorker(log_of(history))
    worker.run(Random(0))
    [account] = reference.replay([(SURVEYS, history[0])])[0].values()
    assert kept_by_stream(worker.partition.columns, 0) == kept_by_oracle(account)
    assert state_view(worker.partition.columns, 0)["opinions"] == [{"time": at(0), "polarity": None, "themes": []}]


def test_surveys_are_kept_for_two_hundred_days() -> None:
    """One microsecond more, and an answer, an invitation and an opinion are let go."""
    old = [answer(at(0), 9), offer(at(0)), feedback(at(0), "Love it")]
    kept = state_of(*old, offer(at(200), user_id="v"))
    assert [len(kept[name]) for name in ("answers", "invitations", "opinions")] == [1, 2, 1]
    gone = state_of(*old, offer(at(200, us=1), user_id="v"))
    assert [len(gone[name]) for name in ("answers", "invitations", "opinions")] == [0, 1, 0]


def test_an_answer_sent_again_after_its_id_was_forgotten_counts_once() -> None:
    """Answers are idempotent by themselves."""
    others = [answer(at(0, us=number), 9, f"e{number}", user_id="v") for number in range(1, 300)]
    assert len(state_of(answer(at(0), 9, "e0"), *others, answer(at(0), 9, "e0"))["answers"]) == 300


def test_a_respondent_has_one_nps_answer_in_a_window_the_latest() -> None:
    """By `(time, id)`, across surveys; who answered in the next window counts there again."""
    part = part_of(
        answer(at(0), 3, "b"),
        answer(at(2), 9, "c", survey_id="q2"),
        answer(at(2), 1, "b2"),
        answer(at(2), 7, "d", user_id="v"),
        answer(at(5), 2, "e"),
    )
    assert [(each.user_id, each.score) for each in answers_of(part, "nps", at(0), at(5))] == [("u", 9_000_000), ("v", 7_000_000)]
    assert [each.score for each in answers_of(part, "nps", at(5), at(9))] == [2_000_000]
    assert answers_of(part, "csat", at(0), at(9)) == []


def test_each_ticket_has_a_csat_answer_of_its_own() -> None:
    """And the last word about one of them counts."""
    part = part_of(csat(at(0), 2, ticket_id="t1"), csat(at(1), 5, ticket_id="t2"), csat(at(2), 4, ticket_id="t1"), csat(at(3), 1))
    found = answers_of(part, "csat", at(0), at(9))
    assert [(each.ticket_id, each.score) for each in found] == [("t2", 5_000_000), ("t1", 4_000_000), (None, 1_000_000)]


@pytest.mark.parametrize(
    ("scale", "positive"), [((1, 5), [4, 5]), ((1, 7), [5, 6, 7]), ((1, 9), [6, 7, 8, 9]), ((1, 10), [6, 7, 8, 9, 10]), ((0, 1), [1])]
)
def test_positive_is_strictly_above_the_middle(scale: tuple[int, int], positive: list[int]) -> None:
    """On every scale of the definition, and mirrored where less is better."""
    least, most = scale
    scores = range(least, most + 1)
    up, down = ([Answer(0, "csat", "q", "u", s * 1_000_000, least, most, is_lower) for s in scores] for is_lower in (False, True))
    assert [each.score // 1_000_000 for each in up if each.is_positive] == positive
    assert [least + most - each.score // 1_000_000 for each in down if each.is_positive] == positive[::-1]


def test_an_invitation_is_answered_by_who_was_invited_and_once() -> None:
    """An answer answers the last invitation before it, whenever that is; one of another survey, or before, answers none."""
    part = part_of(
        offer(at(0)),
        offer(at(2)),
        offer(at(1), user_id="v"),
        offer(at(1), user_id="w"),
        offer(at(1), survey_id="q2"),
        offer(at(3), kind="csat"),
        answer(at(1), 5),
        answer(at(1), 6, "again"),
        answer(at(0), 5, user_id="v"),
        answer(at(90), 5, user_id="w"),
    )
    assert answered(part, at(0), at(9)) == {"nps": (5, 2), "csat": (1, 0)}
    assert answered(part, at(2), at(9)) == {"nps": (1, 0), "csat": (1, 0)}
    assert answered(part, at(9), at(99)) == {}


def _filled() -> Surveys:
    return Surveys(
        bytearray(range(20)),
        {
            "a\0s": Answer(1, "nps", "q", "u", 9_000_000, 0, 10),
            "b\0s": Answer(2, "csat", "q", "v", -1, -1, 5, is_lower_better=True, ticket_id="t"),
        },
        {"c\0s": Invitation(3, "ces", "q", "w")},
        {"d\0s": Opinion(4, None), "e\0s": Opinion(5, -10_000, ("pricing", "bugs"))},
        6,
        Months(24_312, 7, {24_311: {"nps_promoters": 2, "csat_scores{1-5}": 4_000_000}}),
    )


def test_a_stored_part_is_read_for_ever() -> None:
    """The bytes of today's members, in their order; whoever adds one adds it at the end, with a default."""
    stored = GOLDEN.read_bytes()
    assert msgspec.msgpack.encode(_filled()) == stored
    assert msgspec.msgpack.decode(stored, type=Surveys) == _filled()


def test_a_state_of_before_surveys_were_read_goes_on() -> None:
    """Its cursor knows no survey-events: they are read from their beginning, and all ends as if they had been read at once."""
    history = records(Random(3), 400, replace(TALKATIVE, days=60))
    before = definition()
    before = replace(before, kinds={topic: kind for topic, kind in before.kinds.items() if kind != SURVEYS})
    log = log_of(history)
    worker = MemoryWorker({topic: log[topic] for topic in before.kinds}, before)
    worker.run(Random(0))
    assert SURVEYS not in worker.partition.positions
    worker.log, worker.definition = log, replace(definition(), read_text=read_text)
    worker.crash()
    assert worker.behind() == {SURVEYS}
    worker.run(Random(1), crash_share=0.1)
    accounts, _ = reference.replay(((topic_of(record), record) for record in history), read_text)
    assert differences(worker.partition, accounts) == []


def test_an_idle_topic_holds_no_time_back() -> None:
    """`now` is that of the topics with a backlog; with none it is the clock's."""
    worker = read([answer(at(0), 9)])
    assert worker.partition.now(set(), 7) == 7
    history = [{**answer(at(3), 9), "type": "usage.event", "data": {"event": "e"}}]
    worker = MemoryWorker(log_of(history))
    assert worker.behind() == {"usage-events"}
    worker.run(Random(0))
    assert worker.partition.now({"usage-events"}, 7) == at(3)
    assert set(worker.partition.positions) < set(INPUT_TOPICS)


def test_a_worker_reads_texts_as_it_is_configured() -> None:
    """What a customer says when they leave has a polarity and a theme; the configuration names competitors and a language."""
    settings_of = Settings.model_validate({"feedback": {"competitors": ["Initech"], "default_language": "en"}})
    reading = definition_of(settings_of).read_text("We are moving to Initech.", None)
    assert reading.polarity is not None
    assert reading.polarity < 0
    assert reading.themes == ("competitor",)
    assert definition_of(Settings()).read_text("We are moving to Initech.", None).polarity is None
