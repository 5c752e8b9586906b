"""How long it takes from an event to what it causes: a steady load with probes in it, seen by a reader of the outputs.

A probe is a failed charge of an account that nobody knows: with latency.yaml it makes the account critical and opens an alert at
once. A reader of committed records notes when the account is first seen on `health-scores` and on `churn-alerts`.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer

from deploy.bench.load import TOPICS, Load
from deploy.bench.measuring import CLOCK, BenchError
from models.input_topics import PAYMENTS
from models.times import format_us
from stream_app.topics import topic_name
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.bench.cluster import Cluster
    from deploy.bench.load import Message
    from deploy.bench.measuring import Worker

PROBE_EVERY: Final = 10
"""One event in so many is a probe."""

OUTPUTS: Final = ("health-scores", "churn-alerts")

_GRACE_SECONDS: Final = 15.0
"""How long after the last event a probe may still come; then it is lost."""
_ACCOUNTS: Final = 5_000
_RATE_LEAST: Final = 0.98


@dataclass(slots=True)
class Watch:
    """When each probe was sent, and first seen on each output; seconds of `time.monotonic`."""

    sent: dict[bytes, float] = field(default_factory=dict)
    seen: dict[str, dict[bytes, float]] = field(default_factory=lambda: {name: {} for name in OUTPUTS})

    def lost(self, name: str) -> int:
        """Return how many probes did not come out on that output."""
        return len(self.sent) - len(self.seen[name])

    def latencies_ms(self, name: str, since: float) -> list[float]:
        """Return the latency of each probe that was sent from a moment on, in milliseconds."""
        seen = self.seen[name]
        return [(seen[probe] - at) * 1000 for probe, at in self.sent.items() if at >= since and probe in seen]


class Reader:
    """Reads the outputs in a thread of its own and notes when a probe is seen first."""

    def __init__(self, cluster: Cluster, prefix: str, watch: Watch) -> None:
        """Nothing is read before it is entered."""
        self._watch = watch
        self._names = {topic_name(prefix, name): name for name in OUTPUTS}
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "group.id": f"{prefix}-probes",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
            }
        )
        places = cluster.places(self._names)
        for place in places:
            place.offset = OFFSET_BEGINNING
        self._consumer.assign(places)
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def check(self) -> None:
        """Raise `BenchError` when the reader has failed."""
        if self._failure is not None:
            message = f"the reader of the outputs failed: {self._failure!r}"
            raise BenchError(message) from self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for record in self._consumer.consume(500, 0.02):
                    self._note(record)
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread is raised in the other, by `check`
            self._failure = error

    def _note(self, record: Any) -> None:
        if record.error() is not None:
            message = f"reading the outputs: {record.error()}"
            raise BenchError(message)
        account = record.key()
        if account in self._watch.sent:
            self._watch.seen[self._names[record.topic()]].setdefault(account, time.monotonic())


def messages(rate: int, seconds: float) -> Iterator[tuple[Message, bool]]:
    """Return the events of a steady load, and whether each is a probe; times are those at which they are taken."""
    load = Load(int(rate * seconds), _ACCOUNTS, CLOCK.now_us())
    for number, (topic, account_id, event) in enumerate(load.messages()):
        now = format_us(CLOCK.now_us())
        if number % PROBE_EVERY == 0:
            yield _probe(number, now), True
        else:
            head, _, rest = event.partition('"time":"')
            yield (topic, account_id, f'{head}"time":"{now}"{rest.partition(chr(34))[2]}'), False


def _probe(number: int, now: str) -> Message:
    account_id = f"probe-{number:06d}"
    event = (
        f'{{"id":"probe-{number}","source":"stripe","type":"charge.failed","time":"{now}","subject":"{account_id}",'
        f'"data":{{"charge_id":"ch_probe_{number}","amount":{{"amount_minor":4900,"currency":"USD"}},'
        f'"failure_code":"card_declined"}}}}'
    )
    return TOPICS.index(PAYMENTS), account_id, event


def measure(
    cluster: Cluster,
    prefix: str,
    worker: Worker,
    *,
    rate: int,
    warm_seconds: float,
    seconds: float,
    tell: Callable[[int], None],
) -> dict[str, float]:
    """Send `rate` events a second to a worker that is ready, and return the latencies of the probes after the warm-up.

    Raises `BenchError` when a probe is lost, or the machine could not keep the rate.
    """
    watch = Watch()
    with Reader(cluster, prefix, watch) as reader:
        pacer = cluster.pacer(prefix)
        began = time.monotonic()
        before = worker.meter.read()
        for number, (message, is_probe) in enumerate(messages(rate, warm_seconds + seconds)):
            pacer.wait(began + number / rate - time.monotonic())
            if number == int(rate * warm_seconds):
                before = worker.meter.read()
            if is_probe:
                watch.sent[message[1].encode()] = time.monotonic()
            pacer.send(message)
            if number % rate == 0:
                reader.check()
                tell(number)
        after = worker.meter.read()
        pacer.finish()
        wait_until(lambda: not any(watch.lost(name) for name in OUTPUTS), _GRACE_SECONDS)
        reader.check()
    worker.check()
    return _found(watch, began + warm_seconds, rate, (after.at - before.at, after.cpu - before.cpu, rate * seconds))


def _found(watch: Watch, since: float, rate: int, spent: tuple[float, float, float]) -> dict[str, float]:
    took, cpu, count = spent
    for name in OUTPUTS:
        if watch.lost(name):
            message = f"{watch.lost(name)} of {len(watch.sent)} probes never came out on {name}"
            raise BenchError(message, "see the worker's log")
    found = {"latency_rate": round(count / took, 1), "latency_worker_cores": round(cpu / took, 4)}
    if found["latency_rate"] < _RATE_LEAST * rate:
        message = f"{found['latency_rate']} events a second were sent where {rate} were wanted"
        raise BenchError(message, "run it on a machine with less to do")
    for name, short in zip(OUTPUTS, ("score", "alert"), strict=True):
        latencies = np.array(watch.latencies_ms(name, since))
        found[f"{short}_latency_ms.probes"] = float(len(latencies))
        for label, percent in (("p50", 50.0), ("p99", 99.0), ("p999", 99.9)):
            found[f"{short}_latency_ms.{label}"] = round(float(np.percentile(latencies, percent)), 2)
    return found
