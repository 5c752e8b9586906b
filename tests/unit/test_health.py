"""Probes: what they answer to every combination of facts, how facts change, and the server that tells them."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter

from stream_app.clock import WallClock
from stream_app.exits import ConfigError, Exit
from stream_app.health import (
    LOOP,
    Health,
    HealthServer,
    HealthState,
    Limits,
    Place,
    Progress,
    Recovery,
    _Server,
    livez,
    readyz,
    startupz,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = 10_000.0
LIMITS = Limits()
LONG_AGO = NOW - LIMITS.stall - 1
LATELY = NOW - 1
USAGE = Place("usage-events", 0)


# -- every combination of facts

LOOPS = ("turns", "hangs", "unwatched")
FETCHERS = ("turns", "hangs", "unwatched")
GROUPS = ("joined", "not joined")
REBALANCES = ("none", "short", "long")
RECOVERIES = ("none", "moves", "stands still")
BROKERS = ("answers", "away shortly", "away long", "back just now")
PARTITIONS = ("none", "idle", "moves", "stands still", "paused")
WRITERS = ("write", "fail")
BREAKERS = ("closed", "open")
ENDS = ("runs", "stopping", "crashed")


def health(facts: tuple[str, ...]) -> Health:
    """The facts that these words stand for."""
    loop, fetcher, group, rebalance, recovery, broker, partition, writer, breaker, end = facts
    beats = {name: LONG_AGO if word == "hangs" else LATELY for name, word in ((LOOP, loop), ("fetch", fetcher)) if word != "unwatched"}
    places = {
        "none": {},
        "idle": {USAGE: Progress(5, 5, LONG_AGO)},
        "moves": {USAGE: Progress(5, 9, LATELY)},
        "stands still": {USAGE: Progress(5, 9, LONG_AGO)},
        "paused": {USAGE: Progress(5, 9, LONG_AGO, is_paused=True)},
    }
    return Health(
        beats=beats,
        has_joined=group == "joined",
        rebalancing_since={"none": None, "short": LATELY, "long": LONG_AGO}[rebalance],
        recovery={"none": None, "moves": Recovery(1, 2, LATELY), "stands still": Recovery(1, 2, LONG_AGO)}[recovery],
        places=places[partition],
        reachable_since=LATELY if broker == "back just now" else 0.0,
        unreachable_since={"away shortly": LATELY, "away long": LONG_AGO}.get(broker),
        are_producers_healthy=writer == "write",
        is_breaker_open=breaker == "open",
        is_stopping=end == "stopping",
        crash="RuntimeError" if end == "crashed" else "",
    )


def lives(facts: tuple[str, ...]) -> bool:
    """The table of docs/interface.md section 5, column /livez, said once more in other words."""
    loop, fetcher, _, rebalance, recovery, broker, partition, _, breaker, end = facts
    if end == "crashed" or loop == "hangs":
        return False
    is_calm = rebalance == "none" and recovery == "none"
    is_there = broker in {"answers", "back just now"}
    if fetcher == "hangs" and is_there and is_calm:
        return False
    if broker != "answers":
        return True  # what stood still, stood still for want of a broker
    if recovery == "stands still" and rebalance == "none":
        return False
    return not (partition == "stands still" and is_calm and breaker == "closed")


def is_ready(facts: tuple[str, ...]) -> bool:
    """The column /readyz."""
    _, _, group, rebalance, recovery, broker, _, writer, breaker, end = facts
    wanted = (
        group == "joined",
        rebalance != "long",
        recovery == "none",
        broker != "away long",
        writer == "write",
        breaker == "closed",
        end == "runs",
    )
    return lives(facts) and all(wanted)


ALL = (LOOPS, FETCHERS, GROUPS, REBALANCES, RECOVERIES, BROKERS, PARTITIONS, WRITERS, BREAKERS, ENDS)


def test_probes_answer_as_documented_to_every_combination_of_facts() -> None:
    """All 77,760 combinations: liveness, readiness, and reasons exactly when the answer is no."""
    for facts in itertools.product(*ALL):
        made = health(facts)
        live, ready = livez(made, NOW, LIMITS), readyz(made, NOW, LIMITS)
        assert live.ok == lives(facts), facts
        assert ready.ok == is_ready(facts), facts
        assert live.ok != bool(live.reasons)
        assert ready.ok != bool(ready.reasons)
        assert set(live.reasons) <= set(ready.reasons), facts


@dataclass(frozen=True)
class Case:
    """A boundary: facts, and whether the process lives and is ready."""

    made: Health
    lives: bool
    is_ready: bool


JOINED = Health(has_joined=True)
BOUNDARIES = {
    "the broker away for as long as allowed": Case(
        Health(has_joined=True, unreachable_since=NOW - LIMITS.unreachable), lives=True, is_ready=True
    ),
    "the broker away for a bit longer": Case(
        Health(has_joined=True, unreachable_since=NOW - LIMITS.unreachable - 0.1), lives=True, is_ready=False
    ),
    "the loop as late as allowed": Case(Health(has_joined=True, beats={LOOP: NOW - LIMITS.loop}), lives=True, is_ready=True),
    "the loop a bit later": Case(Health(has_joined=True, beats={LOOP: NOW - LIMITS.loop - 0.1}), lives=False, is_ready=False),
    "a partition as still as allowed": Case(
        Health(has_joined=True, places={USAGE: Progress(0, 1, NOW - LIMITS.stall)}), lives=True, is_ready=True
    ),
    "a partition still for a bit longer": Case(
        Health(has_joined=True, places={USAGE: Progress(0, 1, NOW - LIMITS.stall - 0.1)}), lives=False, is_ready=False
    ),
    "nothing said yet": Case(Health(), lives=True, is_ready=False),
    "a spare": Case(JOINED, lives=True, is_ready=True),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_limits_are_inclusive(name: str) -> None:
    """What lasts exactly as long as it may is still well."""
    case = BOUNDARIES[name]
    assert livez(case.made, NOW, LIMITS).ok == case.lives
    assert readyz(case.made, NOW, LIMITS).ok == case.is_ready


def test_a_small_stall_limit_holds_for_the_loop_too() -> None:
    """The loop never gets longer than a partition does."""
    assert Limits.of_stall(5).loop == 5
    assert Limits.of_stall(120).loop == 30


def test_reasons_say_what_and_for_how_long() -> None:
    """A reason names the partition, its backlog and the time."""
    made = Health(has_joined=True, places={USAGE: Progress(5, 9, NOW - 300)})
    assert livez(made, NOW, LIMITS).reasons == ("usage-events[0] stood still for 300 s with 4 records to fold",)


# -- how facts change


def test_a_worker_becomes_ready_once_its_state_is_read_back() -> None:
    """Joined with partitions is not ready before recovery is complete; started stays true for ever."""
    state = HealthState(NOW)
    steps: list[Callable[[], None]] = [
        lambda: None,
        lambda: state.joined(3, [1, 0], NOW),
        lambda: state.recovering(5, 10, NOW),
        state.recovered,
        lambda: state.rebalancing(NOW),
        lambda: state.joined(4, [0], NOW),
        state.recovered,
        state.stopping,
    ]
    answers = []
    for step in steps:
        step()
        answers.append((readyz(state.read(), NOW, LIMITS).ok, startupz(state.read()).ok))
    assert answers == [
        (False, False),
        (False, False),
        (False, False),
        (True, True),
        (True, True),
        (False, True),
        (True, True),
        (False, True),
    ]
    assert state.read().partitions == (0,)
    assert state.read().generation == 4


def test_a_spare_is_ready_at_once() -> None:
    """A worker that gets no partition has nothing to recover."""
    state = HealthState(NOW)
    state.joined(1, [], NOW)
    assert readyz(state.read(), NOW, LIMITS).ok
    assert startupz(state.read()).ok
    assert status(state.read(), NOW, LIMITS)["is_spare"] is True


def test_a_rebalance_does_not_end_a_recovery() -> None:
    """A worker that was recovering when a rebalance began does not look ready during it."""
    state = HealthState(NOW)
    state.joined(1, [0], NOW)
    state.recovering(1, 10, NOW)
    state.rebalancing(NOW)
    assert not readyz(state.read(), NOW, LIMITS).ok


def test_a_rebalance_is_timed_from_its_beginning() -> None:
    """Saying again that a rebalance goes on does not start its clock anew."""
    state = HealthState(NOW)
    state.rebalancing(NOW)
    state.rebalancing(NOW + 20)
    assert state.read().rebalancing_since == NOW


def test_a_recovery_that_moves_is_alive_for_ever_and_one_that_does_not_is_not() -> None:
    """Only standing still counts, not the length of a recovery."""
    state = HealthState(0.0)
    state.joined(1, [0], 0.0)
    for minute in range(60):
        state.recovering(minute, 1000, minute * 60.0)
        assert livez(state.read(), minute * 60.0, LIMITS).ok
    for minute in range(60, 63):
        state.recovering(59, 1000, minute * 60.0)
    assert not livez(state.read(), 62 * 60.0, LIMITS).ok


def test_standing_still_is_timed_from_when_there_was_something_to_do() -> None:
    """A partition that was idle for an hour has its whole time when a record comes."""
    state = HealthState(0.0)
    state.joined(1, [0], 0.0)
    state.recovered()
    for now in range(0, 3601, 60):
        state.progress("usage-events", 0, 5, 5, float(now))
    state.progress("usage-events", 0, 5, 6, 3660.0)
    assert livez(state.read(), 3720.0, LIMITS).ok
    state.progress("usage-events", 0, 5, 9, 3720.0)
    assert not livez(state.read(), 3800.0, LIMITS).ok
    state.progress("usage-events", 0, 6, 9, 3800.0)
    assert livez(state.read(), 3800.0, LIMITS).ok


def test_a_pause_is_no_standing_still_neither_during_nor_after() -> None:
    """The clock of a partition that is paused begins when it goes on."""
    state = HealthState(0.0)
    state.joined(1, [0], 0.0)
    state.recovered()
    for now in (0.0, 200.0, 400.0):
        state.progress("usage-events", 0, 5, 9, now, is_paused=True)
    assert livez(state.read(), 600.0, LIMITS).ok
    state.progress("usage-events", 0, 5, 9, 600.0)
    assert livez(state.read(), 700.0, LIMITS).ok
    state.progress("usage-events", 0, 5, 9, 700.0)
    assert not livez(state.read(), 730.0, LIMITS).ok


def test_the_time_of_an_outage_does_not_count_as_standing_still() -> None:
    """After an hour without a broker a partition has its whole time again."""
    state = HealthState(0.0)
    state.joined(1, [0], 0.0)
    state.recovered()
    state.progress("usage-events", 0, 5, 9, 0.0)
    state.broker(is_reachable=False, now=1.0)
    state.broker(is_reachable=False, now=3000.0)
    assert livez(state.read(), 3600.0, LIMITS).ok
    assert not readyz(state.read(), 12.0, LIMITS).ok
    state.broker(is_reachable=True, now=3600.0)
    assert livez(state.read(), 3700.0, LIMITS).ok
    assert not livez(state.read(), 3721.0, LIMITS).ok


def test_what_is_read_does_not_change_any_more() -> None:
    """A reader's facts stay as they were when it read them."""
    state = HealthState(NOW)
    before = state.read()
    state.beat(LOOP, NOW)
    state.describe(release="1")
    assert (before.beats, before.facts) == ({}, {})


def test_threads_do_not_lose_each_others_facts() -> None:
    """Facts that many threads tell at once are all there."""
    state = HealthState(NOW)

    def tell(partition: int) -> None:
        for position in range(200):
            state.progress("usage-events", partition, position, 1000, NOW)

    threads = [threading.Thread(target=tell, args=(partition,)) for partition in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {progress.position for progress in state.read().places.values()} == {199}
    assert len(state.read().places) == 8


def test_status_is_json_and_complete() -> None:
    """Everything people ask for is in it, as JSON's own types."""
    state = HealthState(NOW)
    state.describe(release="0.1.0", config_version="ab")
    state.beat(LOOP, NOW)
    state.joined(7, [0], NOW)
    state.recovering(1, 2, NOW)
    state.progress("usage-events", 0, 5, 9, NOW)
    told = json.loads(json.dumps(status(state.read(), NOW + 1, LIMITS), allow_nan=False))
    assert told["release"] == "0.1.0"
    assert told["generation"] == 7
    assert told["recovery"] == {"have": 1, "need": 2}
    assert told["positions"][0]["lag"] == 4
    assert told["ready"] == {"ok": False, "reasons": ["recovering: 1 of 2 records"]}
    assert told["heartbeat_seconds"] == {"loop": 1.0}


# -- the server


@dataclass
class Served:
    """A server, the facts that it tells, and the port that it listens on."""

    state: HealthState
    registry: CollectorRegistry
    port: int

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode()
        finally:
            connection.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """A server on a free port."""
    clock = WallClock()
    state, registry = HealthState(clock.monotonic()), CollectorRegistry()
    server = HealthServer("127.0.0.1", 0, registry, state, Limits(), clock)
    yield Served(state, registry, server.start())
    server.stop()


def test_probes_answer_with_200_or_503_and_the_reason(served: Served) -> None:
    """A worker that just began lives, but is neither ready nor started."""
    assert served.ask("/livez")[::2] == (200, "ok, no partition assigned\n")
    assert served.ask("/readyz")[::2] == (503, "has not joined the group\n")
    assert served.ask("/startupz")[0] == 503
    served.state.joined(1, [0, 2], WallClock().monotonic())
    served.state.recovered()
    assert served.ask("/readyz")[::2] == (200, "ok, 2 partitions\n")
    assert served.ask("/startupz")[0] == 200
    served.state.crashed("RuntimeError")
    assert served.ask("/livez")[::2] == (503, "the service crashed: RuntimeError\n")


def test_metrics_come_in_both_formats(served: Served) -> None:
    """Prometheus' text by default, OpenMetrics when asked for."""
    Counter("churnwatch_test_total", "For this test.", registry=served.registry).inc()
    code, headers, body = served.ask("/metrics")
    assert (code, "churnwatch_test_total 1.0" in body) == (200, True)
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    _, headers, body = served.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_status_is_served_as_json(served: Served) -> None:
    """The page for people parses."""
    code, headers, body = served.ask("/status?x=1")
    assert (code, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["live"]["ok"] is True


def test_an_unknown_path_is_404_and_says_what_is_known(served: Served) -> None:
    """A wrong path is answered with the right ones."""
    code, _, body = served.ask("/health")
    assert code == 404
    assert "/livez /readyz /startupz /status /metrics" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(served: Served, method: str) -> None:
    """Any method but GET and HEAD is refused."""
    code, headers, _ = served.ask("/livez", method)
    assert (code, headers["allow"]) == (405, "GET, HEAD")


def test_head_has_the_headers_and_no_body(served: Served) -> None:
    """HEAD is GET without the body."""
    code, headers, body = served.ask("/livez", "HEAD")
    assert (code, headers["content-length"], body) == (200, "26", "")


def test_the_server_does_not_say_what_it_is(served: Served) -> None:
    """The Server header names no product and no version, and nothing is cached."""
    _, headers, _ = served.ask("/livez")
    assert headers["server"] == "http"
    assert headers["cache-control"] == "no-store"


def test_slow_clients_do_not_keep_probes_waiting(served: Served) -> None:
    """Clients that connect and send nothing hold at most their share; probes are answered meanwhile and afterwards."""
    idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(10)]
    try:
        assert served.ask("/livez")[0] == 200
    finally:
        for connection in idle:
            connection.close()
    assert served.ask("/livez")[0] == 200


def test_a_client_that_sends_byte_by_byte_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly a request comes, it does not hold its thread for longer than the limit."""
    monkeypatch.setattr(_Server, "connection_seconds", 0.5)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as slow:
        slow.sendall(b"GET /livez HT")
        assert slow.recv(1) == b""


def test_too_many_connections_are_closed_at_once(served: Served) -> None:
    """A flood of connections makes no flood of threads."""
    flood = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(60)]
    try:
        flood[-1].settimeout(5)
        assert flood[-1].recv(1) == b""
        assert sum(thread.name.startswith("Thread") for thread in threading.enumerate()) < 50
    finally:
        for connection in flood:
            connection.close()


def test_a_taken_port_is_a_configuration_error(served: Served) -> None:
    """The message names the setting and a way out."""
    other = HealthServer("127.0.0.1", served.port, CollectorRegistry(), served.state, Limits(), WallClock())
    with pytest.raises(ConfigError, match="already in use") as raised:
        other.start()
    assert raised.value.exit_code is Exit.CONFIGURATION
    (problem,) = raised.value.problems
    assert (problem.environment, "0 takes a free one" in problem.mend) == ("CHURNWATCH_METRICS_PORT", True)


def test_an_address_that_is_not_ours_is_a_configuration_error() -> None:
    """An address of another machine cannot be listened on."""
    server = HealthServer("192.0.2.1", 0, CollectorRegistry(), HealthState(0.0), Limits(), WallClock())
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:0 cannot be listened on"):
        server.start()


def test_a_stopped_server_lets_go_of_its_port() -> None:
    """After stop the port can be taken again, at once."""
    for _ in range(2):
        server = HealthServer("127.0.0.1", 0, CollectorRegistry(), HealthState(0.0), Limits(), WallClock())
        port = server.start()
        server.stop()
        server.stop()
        again = HealthServer("127.0.0.1", port, CollectorRegistry(), HealthState(0.0), Limits(), WallClock())
        assert again.start() == port
        again.stop()
