"""The public data sets, whole, through the real broker and a real worker on the log's time: every account is the oracle's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.replay import oulad, ravenstack
from deploy.replay.corpus import SAMPLE_DIR
from deploy.replay.envelope import topic_of
from deploy.verify.run import verify
from models.input_topics import INPUT_TOPICS
from stream_app.topics import topic_name
from tests.support.generate import to_kafka
from tests.support.kafka_io import Sender, wait_caught_up

if TYPE_CHECKING:
    from deploy.replay.corpus import Corpus
    from tests.support.worker import Workers

pytestmark = [pytest.mark.integration, pytest.mark.seconds(80)]


@pytest.mark.parametrize(
    ("corpus", "accounts", "events"),
    [(oulad.corpus(SAMPLE_DIR), 1_000, 191_453), (ravenstack.corpus(SAMPLE_DIR), 500, 47_086)],
    ids=["oulad", "ravenstack"],
)
def test_a_replay_ends_as_the_oracle_says(crew: Workers, corpus: Corpus, accounts: int, events: int) -> None:
    """Years of real behaviour in seconds: nothing is lost, nothing counted twice, and the scores are those of the log's last day."""
    sender = Sender(crew.bootstrap)
    for event in corpus.events():
        topic, key, value = to_kafka(dict(event), crew.prefix)
        assert topic == topic_name(crew.prefix, topic_of(event["type"]))
        sender.send(topic, key, value)
    sender.flush()
    worker = crew.start(CHURNWATCH_CLOCK="log").wait_ready()
    wait_caught_up(crew.bootstrap, crew.prefix, [topic_name(crew.prefix, topic) for topic in INPUT_TOPICS], 180)
    assert worker.terminate() == 0
    found = verify(crew.settings(clock="log")).check()
    assert (found.accounts, found.read.total()) == (accounts, events)
    assert all(counts.keys() <= {"applied"} for counts in found.outcomes.values()), found
    assert found.alerts["alert.opened"] > accounts // 20
