"""The server for Prometheus and for probes, in a thread of its own: a worker that recovers for minutes must answer."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from prometheus_client.exposition import choose_encoder

from stream_app.exits import ConfigError, ConfigProblem
from stream_app.health import livez, readyz, startupz, status
from stream_app.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from stream_app.clock import Clock
    from stream_app.health import Answer, HealthState, Limits

log = get_logger(__name__)


class HealthServer:
    """Answers `/metrics`, `/livez`, `/readyz`, `/startupz` and `/status` from threads of its own."""

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        """Nothing listens before `start`; port 0 takes a free one."""
        self._host = host
        self._port = port
        self._pages = pages
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
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
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
        mend = (
            "give an address of this machine"
            if is_address
            else "stop what listens there, or choose another; 0 takes a free one"
        )
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
        self._registry = registry
        self._state = state
        self._limits = limits
        self._clock = clock
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
            return _text(
                HTTPStatus.OK, f"ok, {len(partitions)} partitions" if partitions else "ok, no partition assigned"
            )
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(answer.reasons))

    def _status(self) -> Page:
        told = status(self._state.read(), self._clock.monotonic(), self._limits)
        return Page(HTTPStatus.OK, "application/json", json.dumps(told, allow_nan=False, default=str).encode())

    def _metrics(self, accept: str) -> Page:
        encode, content_type = choose_encoder(accept)
        return Page(HTTPStatus.OK, content_type, encode(self._registry))


def _text(code: HTTPStatus, text: str) -> Page:
    return Page(code, "text/plain; charset=utf-8", f"{text}\n".encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    connections_max: ClassVar[int] = 32

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self.pages = pages
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = threading.BoundedSemaphore(self.connections_max)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would ask the resolver for our name here, which takes seconds where there is none.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

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
