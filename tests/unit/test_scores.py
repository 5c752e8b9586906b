"""The `health-scores` records, which are written as text: they are what the declared type would be written as."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from models.scored import HealthScored
from tests.support.generate import DAY, START, Scene, records
from tests.support.memory_worker import MemoryWorker, log_of

_read = msgspec.json.Decoder(HealthScored, strict=True).decode


@pytest.mark.parametrize("seed", range(8))
def test_a_score_written_as_text_reads_as_the_type_that_is_published(seed: int) -> None:
    """Every score of a random history, and of the clock alone, is byte for byte what encoding `HealthScored` gives."""
    history = records(Random(seed), 300, Scene(days=150))
    worker = MemoryWorker(log_of(history), wall_us=START + 151 * DAY)
    worker.run(Random(seed))
    for day in range(152, 192):
        worker.partition.tick(START + day * DAY)
        worker.checkpoint()
    assert worker.scores
    for key, value in worker.scores:
        scored = _read(value)
        assert msgspec.json.encode(scored) == value
        assert scored.subject == scored.data.account_id == key.decode()
    triggers = [_read(value).data.trigger for _, value in worker.scores]
    assert None in triggers
    assert any(trigger is not None for trigger in triggers)


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "tab\t", "percent %s %d", "emoji 😀", "nul\0", "line\u2028"])
def test_names_of_accounts_and_events_may_hold_any_character(name: str) -> None:
    """What stands in an id is escaped where a score repeats it, and never taken for a place to fill in."""
    event = {"id": name, "source": "test", "type": "usage.event", "time": "2026-01-01T00:00:00Z", "subject": name}
    worker = MemoryWorker(log_of([{**event, "data": {"event": "opened", "user_id": "u"}}]))
    worker.run(Random(0))
    ((key, value),) = worker.scores
    scored = _read(value)
    assert key.decode() == scored.subject == name
    assert scored.data.trigger is not None
    assert scored.data.trigger.id == name
    assert msgspec.json.encode(scored) == value
