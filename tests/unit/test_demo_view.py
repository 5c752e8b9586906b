"""What the demo shows: fed with records as a worker wrote them, and with pages as `/metrics` writes them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from alerts.policy import Kind, Severity
from deploy.demo.view import (
    AlertRecord,
    Board,
    ScoreRecord,
    WorkerCounts,
    decode_alert,
    decode_score,
    line,
    render,
    summary,
)
from stream_app.metrics import Metrics

if TYPE_CHECKING:
    from rich.console import RenderableType

# Both as a worker wrote them, shortened by members that the demo passes over.
SCORE = b"""{"id":"tick/2652279a8239564953a44e424ec3609d","subject":"A-d535f6","time":"2024-12-31T00:00:00.000Z","data":
{"account_id":"A-d535f6","score":70.6223,"computed_score":70.6223,"band":"watch","override":null,"churn_risk":null,
"components":[{"name":"usage","score":55.9334,"weight":40.0,"effective_weight":66.6667,"value":2.0,"n":60,
"age_s":440542,"missing":false,"contribution":37.289},{"name":"support","score":null,"weight":15.0,
"effective_weight":0.0,"value":null,"n":0,"age_s":null,"missing":true,"contribution":null},{"name":"payment",
"score":100.0,"weight":20.0,"effective_weight":33.3333,"value":0.0,"n":9,"age_s":1382400,"missing":false,
"contribution":33.3333}],"delta":37.289,"drivers":[{"name":"usage","points":37.289,"cause":"value"}],
"mrr":{"amount_minor":741500,"currency":"USD"},"scored_at":"2024-12-31T00:00:00.000Z"},"specversion":"1.0",
"type":"health.scored","source":"/health-scores","datacontenttype":"application/json"}"""
ALERT = b"""{"specversion":"1.0","id":"197d9660e223b0793af8a7b79bd42be0507a1f05103920070fd38352aeeee008","source":
"/churn-alerts","type":"alert.opened","subject":"A-310452","time":"2024-12-30T20:52:14.000Z","sequence":"1","data":
{"alert_id":"al_vmol4qqcrxwsm5rv4v7e43ulw3","episode":1,"rule":"at_risk","severity":"at_risk","previous_severity":null,
"state":"firing","handling":"unacked","reason":"first_notification","opened_at":"2024-12-30T20:52:14.000Z","score":
{"health":46.6667,"previous":46.6667},"drivers":[{"name":"usage_active_days_28","points":-26.6666,"value":0.0,
"baseline":null,"text":"active on 0 of the last 28 days"},{"name":"usage_pace","points":-16.0,"value":0.0,
"baseline":null,"text":null},{"name":"usage_idle_days","points":-10.6666,"value":35.0,"baseline":null,
"text":"last used 35 days ago"}]}}"""


def _score(account_id: str, time: str, score: float | None, band: str) -> ScoreRecord:
    record = decode_score(SCORE)
    record.subject, record.time, record.data.score, record.data.band = account_id, time, score, band
    return record


def _alert(account_id: str, time: str, opened_at: str, *, state: str = "firing", severity: str = "at_risk") -> AlertRecord:
    record = decode_alert(ALERT)
    record.subject, record.time = account_id, time
    record.data.opened_at, record.data.state, record.data.severity = opened_at, state, severity
    return record


def _shown(picture: RenderableType, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(picture)
    assert isinstance(console.file, io.StringIO)
    return [text.rstrip() for text in console.file.getvalue().splitlines()]


def test_the_records_of_a_worker_are_understood() -> None:
    """Score, band, alert and drivers come from the records themselves."""
    board = Board(total=10)
    board.scored(decode_score(SCORE))
    board.alerted(decode_alert(ALERT))
    assert board.log_time == "2024-12-31T00:00:00"
    assert board.bands() == {"watch": 1, "insufficient_data": 1}
    assert board.open_alerts() == {"at_risk": 1}
    ((account_id, standing),) = board.at_risk()
    assert account_id == "A-310452"
    assert standing.why == "active on 0 of the last 28 days; usage pace -16.0"
    assert board.accounts["A-d535f6"].why == "usage 56 of 100"


def test_the_worst_account_comes_first() -> None:
    """By score; of equals the newest alert; a healthy account without an alert is not in the table."""
    board = Board(total=10)
    for account_id, score, band in (
        ("a", 30.0, "at_risk"),
        ("b", 12.0, "critical"),
        ("c", 30.0, "at_risk"),
        ("d", 90.0, "healthy"),
    ):
        board.scored(_score(account_id, "2013-05-01T00:00:00Z", score, band))
    board.alerted(_alert("a", "2013-04-01T00:00:00Z", "2013-04-01T00:00:00Z"))
    board.alerted(_alert("c", "2013-04-20T00:00:00Z", "2013-04-20T00:00:00Z"))
    assert [account_id for account_id, _ in board.at_risk()] == ["b", "c", "a"]


def test_an_account_recovered_or_gone_leaves_the_table() -> None:
    """A resolved alert leaves it, and so does a subscription: cancelled at once, with its term after the last day."""
    board = Board(total=10)
    for account_id in ("a", "b", "c"):
        board.scored(_score(account_id, "2013-05-01T00:00:00.000Z", 55.0, "watch"))
        board.alerted(_alert(account_id, "2013-05-01T00:00:00.000Z", "2013-05-01T00:00:00.000Z"))
    board.subscription_ended("a", "2013-05-02T23:59:59Z", "cancelled")
    board.subscription_ended("c", "2013-05-02T23:59:59Z", "completed")
    assert [account_id for account_id, _ in board.at_risk()] == ["a", "b", "c"]
    board.alerted(_alert("b", "2013-05-02T23:59:59.000Z", "2013-05-01T00:00:00.000Z", state="resolved"))
    assert [account_id for account_id, _ in board.at_risk()] == ["c"]
    board.scored(_score("b", "2013-05-03T00:00:00.000Z", 90.0, "healthy"))
    assert board.at_risk() == []
    assert list(board.running) == ["b"]


def test_the_change_is_that_of_a_week_of_the_log() -> None:
    """Against the score that held seven days before, however often it was published since; unknown before any score."""
    board = Board(total=10)
    for day, score in (("01", 90.0), ("02", 80.0), ("20", 70.0), ("20", 60.0), ("22", 50.0)):
        board.scored(_score("a", f"2013-05-{day}T10:00:00Z", score, "watch"))
    standing = board.accounts["a"]
    assert standing.change("2013-05-22") == 50.0 - 80.0
    assert standing.change("2013-05-28") == 50.0 - 60.0
    assert standing.change("2013-06-30") == 0.0
    assert len(standing.daily) <= 8
    board.scored(_score("b", "2013-05-22T10:00:00Z", None, "insufficient_data"))
    assert board.accounts["b"].change("2013-05-22") is None


def test_endings_are_held_against_alerts() -> None:
    """An ending counts once the log has reached it, and with the days since the alert opened that was open then."""
    board = Board(total=10)
    board.alerted(_alert("a", "2013-05-01T00:00:00.000Z", "2013-05-01T00:00:00.000Z"))
    board.alerted(_alert("b", "2013-05-01T00:00:00.000Z", "2013-05-01T00:00:00.000Z"))
    board.alerted(_alert("b", "2013-05-03T00:00:00.000Z", "2013-05-01T00:00:00.000Z", state="resolved"))
    board.subscription_ended("a", "2013-05-11T00:00:00Z", "cancelled")
    board.subscription_ended("b", "2013-05-11T00:00:00Z", "cancelled")
    board.subscription_ended("c", "2013-05-11T23:59:59Z", "completed")
    assert board.endings("cancelled") == (0, [])
    board.scored(_score("d", "2013-05-11T00:00:00.000Z", 90.0, "healthy"))
    assert board.endings("cancelled") == (2, [10])
    assert board.endings("completed") == (0, [])
    board.scored(_score("d", "2013-05-12T00:00:00.000Z", 90.0, "healthy"))
    assert board.endings("completed") == (1, [])
    assert "cancelled  2, of which 1 with an alert open (since 10 days, median)" in _shown(summary(board))


def test_counts_and_lag_are_read_off_the_metrics_page() -> None:
    """Every topic and partition adds up; a worker that has read nothing yet counts zero."""
    metrics = Metrics(CollectorRegistry())
    assert WorkerCounts.from_metrics(generate_latest(metrics.registry).decode()).read == 0
    metrics.batch("usage-events", {"applied": 70, "duplicate": 3}, {}, 0.1)
    metrics.batch("payment-events", {"applied": 30, "late": 2, "dead_letter": 1}, {"bad_time": 1}, 0.1)
    metrics.position("usage-events", 0, 500)
    metrics.position("usage-events", 1, 7)
    metrics.alert(Kind.OPENED, Severity.CRITICAL)
    counts = WorkerCounts.from_metrics(generate_latest(metrics.registry).decode())
    assert counts.outcomes == {"applied": 100, "duplicate": 3, "late": 2, "dead_letter": 1}
    assert (counts.read, counts.lag) == (106, 507)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """What was read before them does not count; with one look at the worker there is no rate yet."""
    board = Board(total=10)
    board.counted(WorkerCounts({"applied": 1000}), 10.0)
    assert board.events_per_second == 0.0
    board.counted(WorkerCounts({"applied": 2000}), 11.0)
    assert board.events_per_second == 1000.0
    for second in range(12, 30):
        board.counted(WorkerCounts({"applied": 2000}), float(second))
    assert board.events_per_second == 0.0


def test_the_picture_fits_the_terminal() -> None:
    """With more accounts than lines the worst are shown, the rest are counted, and no line is wider than the screen."""
    board = Board(total=185_754, sent=1_000)
    for number in range(200):
        board.scored(_score(f"A{number:05}", "2013-05-01T00:00:00Z", number / 10, "critical"))
    board.counted(WorkerCounts({"applied": 900}, lag=100), 1.0)
    for width, height in ((80, 24), (120, 50), (60, 12)):
        lines = _shown(render(board, height, "Ctrl-C ends the demo"), width)
        assert len(lines) <= height
        assert all(len(text) <= width for text in lines)
        assert any("A00000" in text for text in lines)
        assert "more  Ctrl-C ends the demo" in lines[-1]


def test_the_picture_names_what_a_csm_asks_for() -> None:
    """Account, health, change, reason and since when, and above them the log's date, counts, rate and lag."""
    board = Board(total=185_754, sent=1_000)
    board.scored(_score("A-310452", "2024-12-20T00:00:00Z", 80.0, "healthy"))
    board.scored(_score("A-310452", "2024-12-30T00:00:00Z", 46.6667, "at_risk"))
    board.alerted(decode_alert(ALERT))
    board.counted(WorkerCounts({"applied": 900, "dead_letter": 2}, lag=98), 1.0)
    assert _shown(render(board, 24), 90) == [
        "log        2024-12-30",
        "events     1,000 of 185,754 sent, 900 applied, 2 dead letters, 0/s, lag 98",
        "accounts   1:  0 critical  1 at risk  0 watch  0 healthy  0 unknown",
        "alerts     1 open, 0 of them critical; 1 opened so far",
        "",
        "account   health  7 days  why                                                   alert of",
        "A-310452      47     -33  active on 0 of the last 28 days; usage pace -16.0     2024-12-30",
        "",
        "",
    ]


def test_a_line_says_the_same_where_there_is_no_terminal() -> None:
    """Before the worker answers it says that; then counts and the worst account with its reason."""
    board = Board(total=10, sent=3)
    assert line(board).startswith("not begun: 3 of 10 sent, the worker is starting")
    board.alerted(decode_alert(ALERT))
    board.counted(WorkerCounts({"applied": 3}), 1.0)
    assert line(board) == (
        "2024-12-30: 3 of 10 sent, 3 applied, 0/s, lag 0; 1:  0 critical  0 at risk  0 watch  0 healthy  "
        "1 unknown; 1 open, 0 of them critical; 1 opened so far; "
        "worst A-310452 ? (active on 0 of the last 28 days; usage pace -16.0)"
    )
