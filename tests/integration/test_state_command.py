"""One account's state from outside: found wherever its producer put it, and said to be unknown when it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from deploy.verify.run import verify
from models.input_topics import USAGE
from stream_app.state_reader import partition_of, read_account
from stream_app.topics import topic_name
from stream_app.waiting import wait_until
from tests.support.kafka_io import Sender, wait_caught_up

if TYPE_CHECKING:
    from tests.support.worker import Workers

pytestmark = pytest.mark.integration


def use(account_id: str) -> bytes:
    """A use of the product, as it is sent."""
    event = {
        "id": f"1-{account_id}",
        "source": "/app",
        "type": "usage.event",
        "time": "2026-01-05T12:00:00Z",
        "subject": account_id,
        "data": {"event": "opened", "count": 3},
    }
    return json.dumps(event).encode()


def test_an_account_is_found_in_whatever_partition_its_producer_put_it(crew: Workers) -> None:
    """Kafka's own rule for keys says where to look first; a producer with a rule of its own is found all the same."""
    usual, elsewhere = "acme", "globex"
    topic = topic_name(crew.prefix, USAGE)
    sender = Sender(crew.bootstrap)
    odd = (partition_of(elsewhere, 4) + 1) % 4
    sender.send(topic, usual.encode(), use(usual), partition=partition_of(usual, 4))
    sender.send(topic, elsewhere.encode(), use(elsewhere), partition=odd)
    sender.flush()
    crew.start().wait_ready()
    wait_caught_up(crew.bootstrap, crew.prefix, [topic], 60)
    assert wait_until(lambda: read_account(crew.settings(), elsewhere) is not None, 10)
    for account_id, number in ((usual, partition_of(usual, 4)), (elsewhere, odd)):
        view = read_account(crew.settings(), account_id)
        assert view is not None
        assert (view["account_id"], view["partition"]) == (account_id, number)
        assert view["state"]["usage"]["days"] == {"20458": 3}
        assert view["state"]["applied"] == {USAGE: 1}
    assert read_account(crew.settings(), "nobody") is None


def test_an_account_whose_producers_disagree_is_given_with_a_warning(crew: Workers) -> None:
    """Its events lie in two partitions: the state with more of them is given, `state` and `verify` say that there is another."""
    topic = topic_name(crew.prefix, USAGE)
    sender = Sender(crew.bootstrap)
    for number, numbered in ((1, "a"), (2, "b"), (2, "c")):
        sender.send(topic, b"acme", use("acme").replace(b"1-acme", numbered.encode()), partition=number)
    sender.flush()
    worker = crew.start().wait_ready()
    wait_caught_up(crew.bootstrap, crew.prefix, [topic], 60)
    assert worker.terminate() == 0
    view = read_account(crew.settings(), "acme")
    assert view is not None
    assert (view["partition"], view["also_in_partitions"], view["state"]["applied"]) == (2, [1], {USAGE: 2})
    report = verify(crew.settings()).check()
    assert report.spread == {b"acme": [1, 2]}
    assert "warning: 1 accounts have events" in str(report)
    assert report.as_json()["accounts_in_several_partitions"] == 1
