"""Real workers in processes of their own: started with settings of a test, asked how they are, stopped, frozen and killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stream_app.settings import Settings
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

READY_SECONDS: Final = 60.0
"""Within this a worker must be ready, also on a busy machine: it starts, joins the group, and recovers its partitions."""

STOP_SECONDS: Final = 30.0
"""Within this SIGTERM must have ended it: what an orchestrator waits at least."""

_TAIL_LINES: Final = 60
_OURS: Final = ("CHURNWATCH_", "KAFKA_")

ALERT_AT_ONCE: Final = {
    "CHURNWATCH_ALERTS__PENDING_FOR__AT_RISK": "0",
    "CHURNWATCH_ALERTS__PENDING_FOR__CRITICAL": "0",
    "CHURNWATCH_ALERTS__RECOVER_FOR": "0",
}
"""Settings with which each crossing of a threshold is an alert event."""


class WorkerError(AssertionError):
    """A worker did not do what it must; the message ends with the last lines of its log."""


@dataclass
class Worker:
    """One worker process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_starts: int
    _port: int | None = None

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, minus the number of the signal if one did; None while it runs."""
        return self.process.poll()

    def lines(self) -> list[str]:
        """Return what this process has logged."""
        with self.log.open("rb") as log:
            log.seek(self.log_starts)
            return log.read().decode("utf-8", "replace").splitlines()

    def tail(self) -> str:
        """Return the end of its log, for people."""
        return f"--- {self.log.name}, process {self.pid}, exit code {self.exit_code}\n" + "\n".join(self.lines()[-_TAIL_LINES:])

    @property
    def port(self) -> int | None:
        """The port of its probes, once it has said so."""
        if self._port is None:
            for line in self.lines():
                if "metrics and probes are served" in line:
                    self._port = int(json.loads(line)["port"])
        return self._port

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask its server, and return the status and the body; (0, b"") when nobody answers."""
        if self.port is None:
            return 0, b""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()
        except (OSError, http.client.HTTPException):  # the second: killed in the midst of its answer
            return 0, b""

    def status(self) -> dict[str, Any]:
        """Return what /status says; empty when nobody answers."""
        code, body = self.get("/status")
        found: dict[str, Any] = json.loads(body) if code == 200 else {}
        return found

    def partitions(self) -> list[int]:
        """Return the partitions that it says are its own and recovered."""
        status = self.status()
        is_settled = status and status["recovery"] is None and status["rebalancing_seconds"] is None
        return list(status["partitions"]) if is_settled else []

    def wait_ready(self, seconds: float = READY_SECONDS) -> Worker:
        """Wait until /readyz says yes; raises WorkerError when it ends or takes too long."""
        wait_until(lambda: self.exit_code is not None or self.get("/readyz")[0] == 200, seconds, pause_seconds=0.1)
        code, body = self.get("/readyz")
        if code != 200:
            raise WorkerError(f"{self.name} is not ready within {seconds} s: {code} {body.decode()}\n{self.tail()}")
        return self

    def wait_exit(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it has ended, and return its exit code; raises WorkerError when it takes too long."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise WorkerError(f"{self.name} has not ended within {seconds} s\n{self.tail()}") from None

    def terminate(self, seconds: float = STOP_SECONDS) -> int:
        """Send SIGTERM, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(seconds)

    def kill(self) -> int:
        """Send SIGKILL, and return its exit code."""
        self.process.kill()
        return self.wait_exit()

    def freeze(self) -> None:
        """Send SIGSTOP: it owns what it owns, and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT: it goes on where it stood, and does not know that time has passed."""
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Workers:
    """The workers of one test, on one installation: each name has its own data directory and log."""

    bootstrap: str
    prefix: str
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: list[Worker] = field(default_factory=list)
    program: tuple[str, ...] = ("-m", "deploy.cli")
    """What Python runs as `churnwatch`."""

    def variables(self, name: str, **extra: str) -> dict[str, str]:
        """Return the whole environment of a worker; nothing of ours is inherited from whoever runs the test."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        return {
            **inherited,
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "CHURNWATCH_APP_ID": self.prefix,
            "CHURNWATCH_TOPIC_PREFIX": self.prefix,
            "CHURNWATCH_DATA_DIR": str(self.data_dir(name)),
            "CHURNWATCH_METRICS_PORT": "0",
            "CHURNWATCH_SESSION_TIMEOUT": "6",
            **self.environment,
            **extra,
        }

    def data_dir(self, name: str) -> Path:
        """Return where a worker keeps its local store."""
        return self.directory / name

    def start(self, name: str = "worker", **extra: str) -> Worker:
        """Start a worker; `extra` are environment variables of this process alone."""
        log = self.directory / f"{name}.log"
        log_starts = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", *self.program, "worker"],
                env=self.variables(name, **extra),
                cwd=self.directory,
                stdout=out,
                stderr=out,
            )
        worker = Worker(name, process, log, log_starts)
        self.started.append(worker)
        return worker

    def stop_all(self) -> list[int]:
        """Send SIGTERM to all that still run, and return their exit codes."""
        running = [worker for worker in self.started if worker.exit_code is None]
        for worker in running:
            worker.process.send_signal(signal.SIGTERM)
        return [worker.wait_exit() for worker in running]

    def settings(self, **members: Any) -> Settings:
        """Return the settings for reading what these workers keep."""
        mine: dict[str, Any] = {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "app_id": self.prefix,
            "topic_prefix": self.prefix,
            "data_dir": self.directory,
        }
        return Settings(**mine | members)


@contextlib.contextmanager
def workers(
    bootstrap: str, prefix: str, directory: Path, environment: Mapping[str, str] | None = None, *, has_tails: bool = True
) -> Iterator[Workers]:
    """Give a test its workers, and take away what still runs afterwards.

    The ends of their logs are printed, for pytest to show on failure, unless not `has_tails`.
    """
    mine = Workers(bootstrap, prefix, directory, dict(environment or {}))
    try:
        yield mine
    finally:
        for worker in mine.started:
            if worker.exit_code is None:
                worker.process.kill()
                worker.process.wait()
        for worker in mine.started if has_tails else ():
            print(worker.tail())  # noqa: T201 - pytest captures it
