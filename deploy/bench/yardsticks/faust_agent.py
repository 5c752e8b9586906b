"""The same small job as its documentation shows how: a Faust agent, one event at a time, a table on RocksDB.

`python -m deploy.bench.yardsticks.faust_agent BOOTSTRAP PREFIX APPLICATION_ID EVENTS DIRECTORY`
"""

from __future__ import annotations

import sys
from typing import Any, Final

import faust

from deploy.bench.yardsticks import job
from deploy.bench.yardsticks.speaking import DURABLE, FIRST, LAST, say, say_result

_TOPICS: Final = ("usage-events", "ticket-events", "payment-events")
_PARTITIONS: Final = 4


class Event(faust.Record, serializer="json"):  # type: ignore[call-arg, misc]
    """An event as it is sent."""

    id: str
    source: str
    type: str
    time: str
    subject: str
    data: dict[str, Any]


class Alert(faust.Record, serializer="json"):  # type: ignore[call-arg, misc]
    """An account whose risk has crossed the line."""

    account_id: str
    health: float
    risk: float
    time: str


def create_app(bootstrap: str, prefix: str, app_id: str, expected: int, directory: str) -> faust.App:
    """Return the app; it says its marks and its result when `expected` events are processed."""
    app = faust.App(
        app_id,
        broker=f"kafka://{bootstrap}",
        store="rocksdb://",
        datadir=directory,
        topic_partitions=_PARTITIONS,
        topic_replication_factor=1,
        topic_disable_leader=True,
        web_enabled=False,
    )
    events = app.topic(*(f"{prefix}.{topic}" for topic in _TOPICS), key_type=str, value_type=Event)
    alerts = app.topic(f"{app_id}.alerts", key_type=str, value_type=Alert)
    accounts = app.Table("accounts", key_type=str, default=job.new_account, partitions=_PARTITIONS)
    counted = {"events": 0, "accounts": 0, "uses": 0, "alerts": 0}

    @app.agent(events)  # type: ignore[untyped-decorator]
    async def score(stream: faust.Stream[Event]) -> None:
        async for event in stream:
            account = accounts[event.subject]
            counted["accounts"] += not account["day"]
            counted["uses"] += job.fold(account, event.type, event.time, event.data)
            if job.score(account):
                counted["alerts"] += 1
                alert = Alert(event.subject, account["health"], account["risk"], event.time)
                await alerts.send(key=event.subject, value=alert)
            accounts[event.subject] = account
            counted["events"] += 1
            if counted["events"] == 1:
                say(FIRST)
            if counted["events"] == expected:
                say(LAST)
                say(DURABLE)  # the changelog is sent with each event, and the offset is committed every 2.8 s
                say_result(**counted)

    return app


def run(bootstrap: str, prefix: str, app_id: str, expected: int, directory: str) -> None:
    """Run the app until the one who measures ends it."""
    worker = faust.Worker(create_app(bootstrap, prefix, app_id, expected, directory), loglevel="WARN")
    worker.spinner = None
    worker.execute_from_commandline()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
