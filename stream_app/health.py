"""Whether this process lives, is ready, has started: facts in, an answer with its reasons out; and who tells probes.

`Health` holds facts; `livez`, `readyz` and `startupz` are pure functions of them and of the time; `HealthState` is what
the service updates; `HealthServer` answers from threads of its own: a worker that recovers for minutes answers, too.
All times are seconds of a clock that never goes back.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from prometheus_client.exposition import choose_encoder

from stream_app.exits import ConfigError, ConfigProblem
from stream_app.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import CollectorRegistry

    from stream_app.clock import Clock

log = get_logger(__name__)

LOOP: Final = "loop"
"""The heartbeat of the event loop, which no outage excuses."""


class Place(NamedTuple):
    """A partition of an input topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition of an input topic is folded."""

    position: int
    """The next offset to fold."""
    end: int
    """The offset that the next record sent will have."""
    progressed_at: float
    """When the position last moved, or there was nothing to do, or the partition was not to be read."""
    is_paused: bool = False

    @property
    def lag(self) -> int:
        """Records still to be folded."""
        return max(0, self.end - self.position)


@dataclass(frozen=True, slots=True)
class Recovery:
    """State that is being read back from the changelog."""

    have: int
    need: int
    moved_at: float


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of this process at one moment."""

    beats: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """When each thread that must not stall last said that it goes on. One that has never said so is not watched yet."""
    has_joined: bool = False
    generation: int = -1
    partitions: tuple[int, ...] = ()
    rebalancing_since: float | None = None
    recovery: Recovery | None = None
    has_started: bool = False
    """Whether an assignment and its recovery were once complete."""
    places: Mapping[Place, Progress] = field(default_factory=lambda: MappingProxyType({}))
    reachable_since: float = 0.0
    unreachable_since: float | None = None
    """Since when the broker has not answered; None while it does."""
    are_producers_healthy: bool = True
    is_breaker_open: bool = False
    is_stopping: bool = False
    crash: str = ""
    """What ended the service, in a word; empty while it runs."""
    facts: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """What /status says besides: release, configuration, model. No secrets."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each thing may last, in seconds."""

    stall: float = 120.0
    """A partition with a backlog, a recovery, or a thread that stands still."""
    loop: float = 30.0
    """The event loop does not come round."""
    unreachable: float = 10.0
    rebalancing: float = 30.0

    @classmethod
    def of_stall(cls, stall: float) -> Limits:
        """The limits that go with the setting `liveness_stall`."""
        return cls(stall=stall, loop=min(cls().loop, stall))


class Answer(NamedTuple):
    """What a probe is told: yes or no, and if no, why."""

    ok: bool
    reasons: tuple[str, ...]


def livez(health: Health, now: float, limits: Limits) -> Answer:
    """Whether progress is possible: an absent broker, a rebalance, a slow recovery are no reason to restart us."""
    return _answer(_dead(health, now, limits))


def readyz(health: Health, now: float, limits: Limits) -> Answer:
    """Whether this worker can answer for its partitions with recovered state; a spare with none can."""
    return _answer([*_dead(health, now, limits), *_unready(health, now, limits)])


def startupz(health: Health) -> Answer:
    """Whether a first assignment and its recovery were complete once; from then on always yes."""
    return _answer([] if health.has_started else ["the first assignment and recovery are not complete"])


def status(health: Health, now: float, limits: Limits) -> dict[str, object]:
    """Everything for people, as JSON's types."""
    recovery = health.recovery
    return {
        "live": _told(livez(health, now, limits)),
        "ready": _told(readyz(health, now, limits)),
        "started": _told(startupz(health)),
        "generation": health.generation,
        "partitions": list(health.partitions),
        "is_spare": health.has_joined and not health.partitions,
        "positions": [_position(place, progress, now) for place, progress in sorted(health.places.items())],
        "recovery": {"have": recovery.have, "need": recovery.need} if recovery else None,
        "rebalancing_seconds": _since(health.rebalancing_since, now),
        "broker_unreachable_seconds": _since(health.unreachable_since, now),
        "are_producers_healthy": health.are_producers_healthy,
        "is_breaker_open": health.is_breaker_open,
        "is_stopping": health.is_stopping,
        "heartbeat_seconds": {name: _since(at, now) for name, at in sorted(health.beats.items())},
        **health.facts,
    }


def _dead(health: Health, now: float, limits: Limits) -> Iterable[str]:
    is_reachable = health.unreachable_since is None
    is_assigned = health.rebalancing_since is None
    is_settled = is_assigned and health.recovery is None
    if health.crash:
        yield f"the service crashed: {health.crash}"
    for name, at in sorted(health.beats.items()):
        limit = limits.loop if name == LOOP else limits.stall
        # Other threads talk to the broker: with none, or between assignments, they have nothing to come round for.
        if now - at > limit and (name == LOOP or (is_reachable and is_settled)):
            yield f"{name} has not come round for {now - at:.0f} s"
    if is_reachable and is_assigned and health.recovery:
        stood = _stood_still(health, health.recovery.moved_at, now)
        if stood > limits.stall:
            yield f"recovery has stood still for {stood:.0f} s"
    if health.is_breaker_open or not (is_reachable and is_settled):
        return  # a breaker that is open stands still on purpose, and would be open again after a restart
    for place, progress in sorted(health.places.items()):
        stood = _stood_still(health, progress.progressed_at, now)
        if progress.lag and not progress.is_paused and stood > limits.stall:
            yield f"{place.topic}[{place.partition}] stood still for {stood:.0f} s with {progress.lag} records to fold"


def _unready(health: Health, now: float, limits: Limits) -> Iterable[str]:
    if health.is_stopping:
        yield "stopping"
    if not health.has_joined:
        yield "has not joined the group"
    if health.recovery:
        yield f"recovering: {health.recovery.have} of {health.recovery.need} records"
    if health.rebalancing_since is not None and now - health.rebalancing_since > limits.rebalancing:
        yield f"rebalancing for {now - health.rebalancing_since:.0f} s"
    if health.unreachable_since is not None and now - health.unreachable_since > limits.unreachable:
        yield f"the broker has not answered for {now - health.unreachable_since:.0f} s"
    if not health.are_producers_healthy:
        yield "results cannot be written"
    if health.is_breaker_open:
        yield "the breaker is open: too many unusable records"


def _stood_still(health: Health, since: float, now: float) -> float:
    """Seconds without progress that were ours to make: none count from before the broker came back."""
    return now - max(since, health.reachable_since)


def _answer(reasons: Iterable[str]) -> Answer:
    found = tuple(reasons)
    return Answer(not found, found)


def _told(answer: Answer) -> dict[str, object]:
    return {"ok": answer.ok, "reasons": list(answer.reasons)}


def _since(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


def _position(place: Place, progress: Progress, now: float) -> dict[str, object]:
    return {
        "topic": place.topic,
        "partition": place.partition,
        "position": progress.position,
        "end": progress.end,
        "lag": progress.lag,
        "still_seconds": _since(progress.progressed_at, now),
        "is_paused": progress.is_paused,
    }


class HealthState:
    """The facts of this process, which any thread may update and read."""

    def __init__(self, now: float) -> None:
        """`now`: the moment at which the process began."""
        self._lock = threading.Lock()
        self._health = Health(reachable_since=now)

    def read(self) -> Health:
        """The facts of this moment, which no longer change."""
        return self._health

    def describe(self, **facts: object) -> None:
        """Say what /status shows besides; JSON's types, no secrets."""
        self._update(lambda health: {"facts": {**health.facts, **facts}})

    def beat(self, name: str, now: float) -> None:
        """Say that a thread goes on; from the first time on it is watched."""
        self._update(lambda health: {"beats": {**health.beats, name: now}})

    def rebalancing(self, now: float) -> None:
        """Partitions are being given out anew; what was said of positions no longer holds."""

        def begun(health: Health) -> dict[str, object]:
            since = now if health.rebalancing_since is None else health.rebalancing_since
            return {"rebalancing_since": since, "places": {}}

        self._update(begun)

    def joined(self, generation: int, partitions: Iterable[int], now: float) -> None:
        """The group has a new generation and these partitions are ours; if there are any, their recovery begins."""
        owned = tuple(sorted(partitions))
        self._update(
            lambda health: {
                "has_joined": True,
                "generation": generation,
                "partitions": owned,
                "rebalancing_since": None,
                "places": {},
                "recovery": Recovery(0, 0, now) if owned else None,
                "has_started": health.has_started or not owned,
            }
        )

    def recovering(self, have: int, need: int, now: float) -> None:
        """So many of the changelog's records are read back."""

        def moved(health: Health) -> dict[str, object]:
            before = health.recovery
            moved_at = before.moved_at if before and (before.have, before.need) == (have, need) else now
            return {"recovery": Recovery(have, need, moved_at)}

        self._update(moved)

    def recovered(self) -> None:
        """The state of our partitions is complete; say so after each `joined`, even if there was nothing to read."""
        self._update(lambda health: {"recovery": None, "has_started": health.has_started or health.has_joined})

    def progress(self, topic: str, partition: int, position: int, end: int, now: float, *, is_paused: bool = False) -> None:
        """Say where a partition that is ours stands; call it for each now and then, also when nothing moved."""
        place = Place(topic, partition)

        def moved(health: Health) -> dict[str, object]:
            before = health.places.get(place)
            is_idle = position >= end or is_paused
            stands = before is not None and before.position == position and not before.is_paused and not is_idle
            # A position that moves back is a rewind: it counts as a move, too.
            progressed_at = before.progressed_at if stands and before else now
            return {"places": {**health.places, place: Progress(position, end, progressed_at, is_paused)}}

        self._update(moved)

    def broker(self, *, is_reachable: bool, now: float) -> None:
        """Say whether the broker answers."""

        def changed(health: Health) -> dict[str, object]:
            was_reachable = health.unreachable_since is None
            if is_reachable == was_reachable:
                return {}
            return {"unreachable_since": None, "reachable_since": now} if is_reachable else {"unreachable_since": now}

        self._update(changed)

    def producers(self, *, are_healthy: bool) -> None:
        """Say whether results and dead letters can be written."""
        self._update(lambda _: {"are_producers_healthy": are_healthy})

    def breaker(self, *, is_open: bool) -> None:
        """Say whether a flood of unusable records has stopped the worker."""
        self._update(lambda _: {"is_breaker_open": is_open})

    def stopping(self) -> None:
        """The process has been asked to end."""
        self._update(lambda _: {"is_stopping": True})

    def crashed(self, what: str) -> None:
        """The service ended; `what` is a word, the name of an exception."""
        self._update(lambda _: {"crash": what})

    def _update(self, change: Callable[[Health], Mapping[str, object]]) -> None:
        with self._lock:
            # Health is replaced, never changed: who reads it needs no lock.
            self._health = replace(self._health, **change(self._health))  # type: ignore[arg-type]


class HealthServer:
    """Answers `/metrics`, `/livez`, `/readyz`, `/startupz` and `/status` from threads of its own."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, state: HealthState, limits: Limits, clock: Clock) -> None:
        """Nothing listens before `start`; port 0 takes a free one; `clock` is the one that the state is told of."""
        self._host = host
        self._port = port
        self._pages = Pages(registry, state, limits, clock)
        self._server: _Server | None = None

    def start(self) -> int:
        """Listen, and return the port, which is a free one when 0 was asked for.

        Raises ConfigError when the address cannot be had.
        """
        try:
            self._server = _Server(self._host, self._port, self._pages)
        except OSError as error:
            raise self._unusable(error) from error
        port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True).start()
        log.info("metrics and probes are served", host=self._host, port=port)
        return port

    def stop(self) -> None:
        """Stop listening; a request that is being answered is not waited for."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _unusable(self, error: OSError) -> ConfigError:
        is_address = isinstance(error, socket.gaierror)
        key = "metrics_host" if is_address else "metrics_port"
        wrong = f"{self._host}:{self._port} cannot be listened on: {error.strerror}"
        mend = "give an address of this machine" if is_address else "stop what listens there, or choose another; 0 takes a free one"
        return ConfigError([ConfigProblem(key, f"CHURNWATCH_{key.upper()}", wrong, mend)])


class Page(NamedTuple):
    """An answer to a request."""

    code: HTTPStatus
    content_type: str
    body: bytes


class Pages:
    """What is answered to a path."""

    def __init__(self, registry: CollectorRegistry, state: HealthState, limits: Limits, clock: Clock) -> None:
        """`clock`: the one whose seconds the state is told."""
        self.clock = clock
        self._registry = registry
        self._state = state
        self._limits = limits
        self._known: dict[str, Callable[[str], Page]] = {
            "/livez": lambda _: self._probe(livez(state.read(), clock.monotonic(), limits)),
            "/readyz": lambda _: self._probe(readyz(state.read(), clock.monotonic(), limits)),
            "/startupz": lambda _: self._probe(startupz(state.read())),
            "/status": lambda _: self._status(),
            "/metrics": self._metrics,
        }

    def get(self, path: str, accept: str = "") -> Page:
        """The page at a path; `accept` is the header of that name."""
        page = self._known.get(path.partition("?")[0])
        if page is None:
            return _text(HTTPStatus.NOT_FOUND, "known here: " + " ".join(self._known))
        return page(accept)

    def _probe(self, answer: Answer) -> Page:
        if answer.ok:
            partitions = self._state.read().partitions
            return _text(HTTPStatus.OK, f"ok, {len(partitions)} partitions" if partitions else "ok, no partition assigned")
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(answer.reasons))

    def _status(self) -> Page:
        told = status(self._state.read(), self.clock.monotonic(), self._limits)
        return Page(HTTPStatus.OK, "application/json", json.dumps(told, allow_nan=False, default=str).encode())

    def _metrics(self, accept: str) -> Page:
        encode, content_type = choose_encoder(accept)
        return Page(HTTPStatus.OK, content_type, encode(self._registry))


def _text(code: HTTPStatus, text: str) -> Page:
    return Page(code, "text/plain; charset=utf-8", f"{text}\n".encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    connections_max: ClassVar[int] = 32
    connection_seconds: ClassVar[float] = 10.0
    """A client that sends its request byte by byte is cut off after this."""

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self.pages = pages
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._open: dict[socket.socket, float] = {}
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would ask the resolver for our name here, which takes seconds where there is none.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def service_actions(self) -> None:
        """Cut off who takes too long; the serving thread comes by here several times a second."""
        now = self.pages.clock.monotonic()
        for request, since in list(self._open.items()):
            if now - since > self.connection_seconds:
                with contextlib.suppress(OSError):  # it may have ended by itself just now
                    request.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._open) >= self.connections_max:
            self.shutdown_request(request)
            return
        self._open[request] = self.pages.clock.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._open[request]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - as declared
        log.debug("a request for metrics or a probe broke off", exc_info=sys.exc_info())


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5
    """Seconds that a client may take for each read: a slow one holds a thread, and there are few."""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path, self.headers.get("Accept", ""))
        self._send(page)

    do_HEAD = do_GET  # noqa: N815 - http.server looks for these names

    def _refuse(self) -> None:
        self._send(_text(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only"), ("Allow", "GET, HEAD"))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def _send(self, page: Page, *headers: tuple[str, str]) -> None:
        self.send_response(page.code)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(page.body)

    def version_string(self) -> str:
        return "http"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: probes come every few seconds."""
