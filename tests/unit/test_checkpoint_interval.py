"""How often a partition is written under load."""

from hypothesis import given
from hypothesis import strategies as st

from stream_app.checkpoints import FAR_BEHIND, interval


def test_far_behind_it_is_written_more_seldom() -> None:
    """One second while the end is near, three as long as what is unwritten is less than a quarter of what is left."""
    assert interval(1.0, 3.0, unwritten=10_000, lag=40_000) == 1.0
    assert interval(1.0, 3.0, unwritten=10_000, lag=40_001) == 3.0
    assert interval(1.0, 3.0, unwritten=0, lag=1) == 3.0
    assert interval(1.0, 3.0, unwritten=0, lag=0) == 1.0


@given(lag=st.integers(0, 10**9), unwritten=st.integers(0, 10**9))
def test_what_is_not_written_never_outgrows_what_is_left_or_the_longest_wait(lag: int, unwritten: int) -> None:
    """It is never shorter than the interval that was set, and the longer one holds only while little is unwritten."""
    seconds = interval(5.0, 3.0, unwritten, lag)
    assert seconds == 5.0
    assert interval(1.0, 3.0, unwritten, lag) in {1.0, 3.0}
    assert interval(1.0, 3.0, unwritten, lag) == 1.0 or unwritten * FAR_BEHIND < lag
