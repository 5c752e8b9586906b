"""The stage of a scenario: its workers, its traffic, its broker; who watches them; and what acts need to strike them."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from deploy import kafka
from models.times import DAY_US, HOUR_US
from stream_app.clock import WallClock
from stream_app.exits import Exit
from stream_app.waiting import wait_until
from tests.chaos.gauge import PARTITIONS, Gauge, Reading
from tests.chaos.schedule import Plan, Way
from tests.support.generate import Scene, records, to_kafka
from tests.support.kafka_io import Sender, Traffic
from tests.support.worker import ALERT_AT_ONCE, Worker, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.chaos.history import History
    from tests.chaos.schedule import Fault
    from tests.support.kafka_io import Place

T = TypeVar("T")

PLANTED: Final = "open-sesame-7c1d"
"""What the payloads hold and no log may."""

ACCOUNTS: Final = tuple(f"acct-{number:03}" for number in range(300))
CHUNK: Final = 1_000
GARBAGE_EVERY: Final = 200
SERVED_SECONDS: Final = 90.0
DRAIN_SECONDS: Final = 180.0
LAG_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 0.25
PROBE_SECONDS: Final = 1.0
BY_ITSELF_MAX: Final = 40
"""Restarts that nobody asked for, in a whole scenario: more is a crash loop."""

_PACE_SECONDS: Final = 0.25


class BrokenError(AssertionError):
    """The scenario cannot go on: something did not come about in time, or a worker ended as none may."""


def endless(rng: Random, prefix: str, hot: float) -> Iterator[tuple[str, bytes, bytes]]:
    """Write records without end, two hours forward with each chunk: the last weeks up to now; one in 200 is unusable, all are planted."""
    now = WallClock().now_us()
    for number in itertools.count():
        start = min(now - 40 * DAY_US + number * 2 * HOUR_US, now - 9 * DAY_US)
        scene = Scene(accounts=ACCOUNTS, start_us=start, days=8, hot=hot)
        for place, record in enumerate(records(rng, CHUNK, scene)):
            # The ids of a chunk are its own: what it repeats, it repeats inside.
            body = {**record, "id": f"{number}-{record['id']}", "data": {**record["data"], "x_note": PLANTED}}
            topic, key, value = to_kafka(body, prefix)
            yield topic, key, garbage(rng, value) if place % GARBAGE_EVERY == GARBAGE_EVERY - 1 else value


def garbage(rng: Random, value: bytes) -> bytes:
    """Spoil a record: cut off, of a type that there is not, at a time that is none."""
    planted = PLANTED.encode()
    return rng.choice(
        (
            value[: len(value) // 2] + planted,
            value.replace(b'"type": "', b'"type": "' + planted),
            value.replace(b'"time": "', b'"time": "' + planted),
        )
    )


@dataclass
class Watcher:
    """Looks at everything from a thread of its own: how far it is, which faults are made good, what the probes say."""

    stage: Stage
    _awaited: dict[int, Mapping[Place, int]] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stopping.set()
        self._thread.join(30)

    def await_recovery(self, number: int, ends: Mapping[Place, int]) -> None:
        """Say when everything that was there when a fault struck is folded and committed."""
        self._awaited[number] = ends

    @property
    def is_all_well(self) -> bool:
        """Whether every fault is made good."""
        return not self._awaited

    def _run(self) -> None:
        try:
            told_at = 0.0
            while not self._stopping.wait(WATCH_SECONDS):
                reading = self.stage.gauge.read()
                self._note_recoveries(reading)
                if time.monotonic() - told_at >= PROBE_SECONDS:
                    told_at = time.monotonic()
                    self._tell(reading)
        except BaseException as error:  # noqa: BLE001 - the scenario's own thread raises it
            self.error = error

    def _note_recoveries(self, reading: Reading | None) -> None:
        for number, ends in list(self._awaited.items()):
            if reading is not None and reading.has_reached(ends):
                del self._awaited[number]
                self.stage.history.tell("recovered", number=number)

    def _tell(self, reading: Reading | None) -> None:
        history, stage = self.stage.history, self.stage
        if reading is None:
            history.tell("progress", produced=stage.produced, lag=None, folded=None)
        else:
            history.tell("progress", produced=stage.produced, lag=reading.lag, folded=reading.folded)
        for name, worker in list(stage.now.items()):
            if name not in stage.frozen and worker.exit_code is None:
                history.tell("probe", worker=name, pid=worker.pid, **probed(worker))


def probed(worker: Worker) -> dict[str, Any]:
    """Ask a worker's probes; its state before and after, so that a change in between is seen."""
    before = state_of(worker.status())
    livez, readyz = worker.get("/livez"), worker.get("/readyz")
    after = state_of(worker.status())
    why = readyz[1].decode("utf-8", "replace").strip()
    return {"livez": livez[0], "readyz": readyz[0], "why": why, "before": before, "after": after}


def state_of(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """What decides whether a worker may be ready; None when it did not answer."""
    if not status:
        return None
    return {
        "is_recovering": status["recovery"] is not None,
        "is_breaker_open": status["is_breaker_open"],
        "is_stopping": status["is_stopping"],
        "generation": status["generation"],
        "partitions": status["partitions"],
    }


class Stage:
    """A scenario's installation, and what can be done to it; each worker that ends is started again, as an orchestrator would."""

    def __init__(self, plan: Plan, crew: Workers, history: History, broker: kafka.Broker | None = None) -> None:
        """`crew`: workers of an installation that has its topics. `broker`: one that may be struck."""
        self.plan, self.crew, self.history, self.broker = plan, crew, history, broker
        self.rng = Random(plan.name)
        self.now: dict[str, Worker] = {}
        self.leaving: list[tuple[str, Worker, float]] = []
        self.frozen: set[str] = set()
        self.senders: list[Sender] = []
        self.struck = 0
        self.by_itself = 0
        self.is_broker_away = False
        self.may_refuse = False
        """Whether workers may end with 3 just now: the broker is away, or refuses what they write."""
        self.gauge = Gauge(crew.bootstrap, crew.prefix)
        self.watcher = Watcher(self)
        self.traffic = Traffic(self.sender(), endless(self.rng, crew.prefix, plan.hot), plan.per_second)
        self.cleanups = contextlib.ExitStack()
        crew.environment |= {**ALERT_AT_ONCE, "CHURNWATCH_SESSION_TIMEOUT": str(plan.session_seconds)}
        if plan.way is Way.STANDBY:
            crew.environment["CHURNWATCH_STANDBY_REPLICAS"] = "1"

    # -- traffic

    def sender(self) -> Sender:
        """Return a new sender, whose records count."""
        self.senders.append(Sender(self.crew.bootstrap))
        return self.senders[-1]

    @property
    def produced(self) -> int:
        """Records that the broker has acknowledged."""
        return sum(sender.acknowledged for sender in self.senders)

    def flow(self, seconds: float) -> None:
        """Let traffic flow for a while, and start what ends meanwhile."""
        pause, deadline = threading.Event(), time.monotonic() + seconds
        while True:
            self.check()
            self.heal()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            pause.wait(min(left, _PACE_SECONDS))

    def check(self) -> None:
        """Raise what ended a thread of ours before its time."""
        self.traffic.check()
        if self.watcher.error is not None:
            raise self.watcher.error

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for something, and start what ends meanwhile; raises BrokenError with the ends of all logs."""

        def holds() -> bool:
            self.check()
            self.heal()
            return condition()

        # Whoever is asked how it is has work to do.
        if not wait_until(holds, seconds, _PACE_SECONDS):
            tails = "\n".join(worker.tail() for worker in self.now.values())
            raise BrokenError(f"{what}: not within {seconds:.0f} s\n{tails}")

    def wait_lag(self) -> Reading:
        """Wait until records are there that are not folded; raises BrokenError."""
        found: list[Reading] = []

        def is_behind() -> bool:
            reading = self.gauge.read()
            if reading is not None and reading.lag > 0:
                found.append(reading)
            return bool(found)

        self.wait(is_behind, LAG_SECONDS, "lag")
        return found[0]

    # -- workers

    def start(self, name: str, **extra: str) -> Worker:
        """Start a worker, once the one before it on its directory has ended."""
        self.wait(lambda: all(leaver != name for leaver, _, _ in self.leaving), 60.0, f"the end of {name}")
        named = {"CHURNWATCH_INSTANCE_ID": name} if self.plan.way is Way.STATIC else {}
        worker = self.now[name] = self.crew.start(name, **named, **extra)
        self.history.tell("started", worker=name, pid=worker.pid, **extra)
        return worker

    def name_of(self, fault: Fault) -> str:
        """The worker that a fault is for."""
        names = sorted(self.now)
        return names[fault.target % len(names)]

    def others(self, name: str) -> list[Worker]:
        """The workers besides one."""
        return [worker for each, worker in self.now.items() if each != name]

    def heal(self) -> None:
        """Start what has ended by itself; note who has left as he was told."""
        for leaver in list(self.leaving):
            name, worker, asked_at = leaver
            if leaver in self.leaving and worker.exit_code is not None:
                self.leaving.remove(leaver)
                self.note_exit(name, worker, "SIGTERM", asked_at)
            elif self.history.now() - asked_at > 2 * SERVED_SECONDS:
                raise BrokenError(f"{name} does not end\n{worker.tail()}")
        for name, worker in list(self.now.items()):
            # To start one may be to wait for another, and whoever waits heals: this one may be another by now.
            if self.now.get(name) is worker and worker.exit_code is not None:
                del self.now[name]
                self.note_exit(name, worker, "by itself", None)
                may_end = {Exit.RESTART, Exit.BROKER} if self.may_refuse else {Exit.RESTART}
                self.by_itself += 1
                if worker.exit_code not in may_end or self.by_itself > BY_ITSELF_MAX:
                    raise BrokenError(f"{name} ended by itself with {worker.exit_code}\n{worker.tail()}")
                self.start(name)

    def note_exit(self, name: str, worker: Worker, how: str, asked_at: float | None) -> None:
        """Write down how a worker ended."""
        self.history.tell(
            "exit",
            worker=name,
            pid=worker.pid,
            code=worker.exit_code,
            how=how,
            seconds=None if asked_at is None else round(self.history.now() - asked_at, 3),
            was_serving=any("Worker ready" in line for line in worker.lines()),
            is_broker_away=self.is_broker_away,
        )

    def end(self, name: str, how: str) -> Worker:
        """End a worker by a signal and wait for it: it is not started again by itself."""
        worker = self.now.pop(name)
        asked_at = self.history.now()
        worker.process.send_signal(getattr(signal, how))
        worker.wait_exit(SERVED_SECONDS)
        self.note_exit(name, worker, how, asked_at)
        return worker

    def let_go(self, name: str) -> None:
        """Send SIGTERM to a worker, and do not wait for it."""
        worker = self.now.pop(name)
        self.leaving.append((name, worker, self.history.now()))
        worker.process.send_signal(signal.SIGTERM)

    def ended(self, name: str, how: str, seconds: float = SERVED_SECONDS) -> Worker:
        """Wait until a worker has ended by itself as it must; it is not started again by itself."""
        return self.all_ended([name], how, seconds)[0]

    def all_ended(self, names: list[str], how: str, seconds: float = SERVED_SECONDS) -> list[Worker]:
        """Wait until workers have ended by themselves as they must; they are not started again by themselves."""
        ending = [(name, self.now.pop(name)) for name in names]
        self.wait(lambda: all(worker.exit_code is not None for _, worker in ending), seconds, f"the end of {names}")
        for name, worker in ending:
            self.note_exit(name, worker, how, None)
        return [worker for _, worker in ending]

    def wait_joined(self, name: str) -> None:
        """Wait until a worker is in the group: its partitions are being given out, or recovered, or served."""
        self.wait(lambda: self.now[name].status().get("generation", -1) >= 0, SERVED_SECONDS, f"{name} joins the group")

    def wait_serving(self, name: str) -> Worker:
        """Wait until a worker serves partitions of its own."""
        self.wait(lambda: bool(self.now[name].partitions()), SERVED_SECONDS, f"{name} serves partitions")
        return self.now[name]

    def wait_all_served(self) -> None:
        """Wait until every partition is served by exactly one worker."""

        def are_all() -> bool:
            shares = [worker.partitions() for name, worker in self.now.items() if name not in self.frozen]
            return sorted(itertools.chain(*shares)) == list(range(PARTITIONS))

        self.wait(are_all, SERVED_SECONDS, "all partitions served")

    # -- faults

    def strike(self, fault: Fault, deed: Callable[[], T], **told: object) -> T:
        """Do something while there is lag, and write it down; `over` says when what was struck is whole again."""
        before = self.wait_lag()
        self.struck += 1
        number = self.struck
        at = self.history.tell("striking", number=number, kind=fault.kind, detail=fault.detail, lag=before.lag)
        done = deed()
        after = self.gauge.read()
        lag_after = None if after is None else after.lag
        self.history.tell(
            "fault", number=number, kind=fault.kind, detail=fault.detail, struck_at=at, lag_before=before.lag, lag_after=lag_after, **told
        )
        self.watcher.await_recovery(number, before.ends)
        return done

    def over(self) -> None:
        """Say that what was struck last is whole again, and has only to catch up."""
        self.history.tell("over", number=self.struck)

    def quiet(self, seconds: float) -> None:
        """Wait until all is well again, and do nothing for a while."""
        self.wait(lambda: self.watcher.is_all_well, SERVED_SECONDS, "every fault made good")
        self.wait_all_served()
        self.history.tell("quiet", seconds=seconds)
        self.flow(seconds)

    def drain(self) -> None:
        """Let the workers fold everything that there is, then stop them one after the other."""
        for sender in self.senders:
            sender.flush()
        self.wait_all_served()

        def is_drained() -> bool:
            reading = self.gauge.read()
            return reading is not None and reading.lag == 0

        self.wait(is_drained, DRAIN_SECONDS, "lag 0")
        self.wait(lambda: self.watcher.is_all_well, SERVED_SECONDS, "every fault made good")
        self.wait(lambda: all(worker.get("/readyz")[0] == 200 for worker in self.now.values()), SERVED_SECONDS, "every worker ready")
        self.history.tell("drained", produced=self.produced)
        for name in sorted(self.now):
            self.wait_all_served()  # one that is asked to end in the midst of a rebalance does not always leave the group: docs/chaos.md
            self.end(name, "SIGTERM")

    # -- the broker

    def lose_broker(self) -> None:
        """Kill the broker."""
        assert self.broker is not None
        self.is_broker_away = self.may_refuse = True
        self.broker.kill()
        self.history.tell("broker", is_away=True, how="SIGKILL")

    def restore_broker(self) -> None:
        """Start the broker again where it was; workers that gave up on it may still end with 3 for a minute."""
        assert self.broker is not None
        settings = kafka.LauncherSettings.from_environment(os.environ, self.broker.data_dir)
        self.broker = kafka.start(settings, self.broker.port)
        self.is_broker_away = False
        self.history.tell("broker", is_away=False)
