"""A poison record never stops a partition; a flood of them does, before the cursor moves past it."""

import numpy as np

from models.decoding import Decoded, Reason, Rejected
from stream_app.breaker import Breaker, Limits
from stream_app.pipeline import Run

LIMITS = Limits(consecutive=10, ratio=0.5, minimum=20)


def run(pattern: str, topic: str = "usage") -> Run:
    """A run of good (`.`) and unusable (`x`) records."""
    rejected = [Rejected(i, Reason.NOT_JSON, "not JSON", "decode") for i, each in enumerate(pattern) if each == "x"]
    good = [i for i, each in enumerate(pattern) if each == "."]
    nothing = np.zeros(len(good), np.int64)
    return Run(topic, [object()] * len(pattern), Decoded([object()] * len(good), good, nothing, nothing.astype(np.uint64), rejected), 1)


def test_poison_between_good_records_is_no_flood() -> None:
    """Half of few records, and less than half of many, may be unusable."""
    breaker = Breaker(LIMITS)
    assert breaker.opened_by(run("x.x.x.x.")) is None
    assert breaker.opened_by(run(".x" * 20)) is None


def test_too_many_in_a_row_open_it_across_runs() -> None:
    """The row goes on from one run to the next, and a good record ends it."""
    breaker = Breaker(LIMITS)
    assert breaker.opened_by(run("." + "x" * 9)) is None
    assert "10 unusable records in a row" in str(breaker.opened_by(run("x")))
    assert breaker.opened_by(run(".")) is None
    breaker.checkpointed()
    assert breaker.opened_by(run("x" * 9)) is None


def test_a_run_that_opens_it_is_not_counted() -> None:
    """The flood is judged again, with the same answer, when the worker comes back to it."""
    breaker = Breaker(LIMITS)
    flood = run("x" * 10)
    assert breaker.opened_by(flood) == breaker.opened_by(flood)


def test_too_great_a_share_of_a_checkpoint_opens_it() -> None:
    """The share counts from the minimum on, and anew after a checkpoint."""
    breaker = Breaker(LIMITS)
    assert breaker.opened_by(run("xx." * 6)) is None
    assert "13 of 20" in str(breaker.opened_by(run(".x")))
    breaker.checkpointed()
    assert breaker.opened_by(run(".x")) is None


def test_topics_are_counted_apart() -> None:
    """A bad sender of tickets does not stop because of one of usage."""
    breaker = Breaker(LIMITS)
    assert breaker.opened_by(run("x" * 9, "usage")) is None
    assert breaker.opened_by(run("x" * 9, "tickets")) is None
