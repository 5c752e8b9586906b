"""A backlog of several topics is folded in the order of event time; with no backlog nothing waits."""

import numpy as np
import pytest

from models.decoding import Decoded
from models.row import NEVER
from models.times import DAY_US
from stream_app.lineup import PATIENCE_SECONDS, RECORDS_MAX, Lineup
from stream_app.pipeline import Run

NOON = DAY_US // 2


def run(topic: str, *times_us: int, following: int = 1, rejected_only: bool = False) -> Run:
    """A run of events at those times."""
    times = np.array([] if rejected_only else times_us, np.int64)
    events = [object()] * len(times)
    decoded = Decoded(events, list(range(len(times))), times, np.zeros(len(times), np.uint64), [])
    return Run(topic, [object()] * max(len(times_us), 1), decoded, following)


def taken(lineup: Lineup, behind: set[str], newest: dict[str, int], now: float = 0.0) -> str | None:
    """The topic of the run that goes next."""
    found = lineup.take(behind, lambda topic: newest.get(topic, NEVER), now)
    return None if found is None else found.topic


def test_with_no_backlog_a_run_goes_at_once() -> None:
    """Nothing is awaited from a topic that has nothing to read."""
    lineup = Lineup(is_log_clock=False)
    lineup.add("usage", [run("usage", 100 * DAY_US)])
    assert taken(lineup, {"usage"}, {"tickets": 1 * DAY_US}) == "usage"
    assert taken(lineup, set(), {}) is None


def test_the_run_that_begins_first_goes_first() -> None:
    """Runs of several topics are merged by the time of their first event, each topic in its own order."""
    lineup = Lineup(is_log_clock=False)
    lineup.add("usage", [run("usage", 5 * DAY_US), run("usage", 6 * DAY_US)])
    lineup.add("tickets", [run("tickets", 4 * DAY_US), run("tickets", 20 * DAY_US)])
    order = [taken(lineup, set(), {}) for _ in range(4)]
    assert order == ["tickets", "usage", "usage", "tickets"]


@pytest.mark.parametrize(
    ("is_log_clock", "begins", "awaited", "goes"),
    [
        (False, 10 * DAY_US, 9 * DAY_US, True),  # a day ahead of the topic that is behind: windows are whole days
        (False, 10 * DAY_US + 1, 9 * DAY_US, False),  # more than that: the other topic may still tell of these days
        (False, 10 * DAY_US, NEVER, False),  # nothing was ever read of a topic that is behind
        (True, 9 * DAY_US + NOON, 9 * DAY_US, True),  # on the log clock the same day may go
        (True, 10 * DAY_US, 9 * DAY_US + NOON, False),  # and the next day may not
    ],
)
def test_a_run_waits_for_a_topic_that_is_behind(is_log_clock: bool, begins: int, awaited: int, goes: bool) -> None:
    """A topic that is behind, with nothing fetched yet, holds the others back as far as its newest event is."""
    lineup = Lineup(is_log_clock)
    lineup.add("usage", [run("usage", begins)])
    assert (taken(lineup, {"usage", "tickets"}, {"tickets": awaited}) == "usage") is goes


def test_patience_ends() -> None:
    """A topic from which nothing comes does not stop the others for long, and the next wait has its own patience."""
    lineup = Lineup(is_log_clock=False)
    lineup.add("usage", [run("usage", 50 * DAY_US), run("usage", 51 * DAY_US)])
    behind, newest = {"usage", "tickets"}, {"tickets": DAY_US}
    assert taken(lineup, behind, newest, now=10.0) is None
    assert taken(lineup, behind, newest, now=10.0 + PATIENCE_SECONDS / 2) is None
    assert taken(lineup, behind, newest, now=10.0 + PATIENCE_SECONDS) == "usage"


def test_a_run_with_no_usable_record_waits_for_nobody() -> None:
    """Dead letters have no time to wait for."""
    lineup = Lineup(is_log_clock=True)
    lineup.add("usage", [run("usage", rejected_only=True)])
    assert taken(lineup, {"usage", "tickets"}, {}) == "usage"


def test_room_and_the_next_offset_follow_what_waits() -> None:
    """More is fetched only while little waits, and a batch must begin where the last one that waits ends."""
    lineup = Lineup(is_log_clock=False)
    assert lineup.has_room("usage")
    assert lineup.following("usage") is None
    lineup.add("usage", [run("usage", *range(RECORDS_MAX), following=77)])
    assert not lineup.has_room("usage")
    assert lineup.has_room("tickets")
    assert lineup.following("usage") == 77
    assert taken(lineup, set(), {}) == "usage"
    assert lineup.has_room("usage")
