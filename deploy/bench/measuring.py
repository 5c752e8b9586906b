"""Processes that are started, watched and always ended, and what they cost: processor time and resident memory."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Self

import psutil

from stream_app.clock import WallClock
from stream_app.exits import Exit, ServiceExit
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

CLOCK: Final = WallClock()
"""What the events of a load are dated by: the very clock of the worker that folds them."""

STOP_SECONDS: Final = 30.0
"""How long a process may take to end when it is asked to; then it is killed."""

_REQUEST_SECONDS: Final = 10.0
_TAIL_CHARACTERS: Final = 300


class BenchError(ServiceExit):
    """The benchmark cannot go on, or what it measured is not what it claims to measure."""

    def __init__(self, message: str, mend: str = "") -> None:
        """See ServiceExit."""
        super().__init__(Exit.OTHER, message, mend)


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time that was used up to a moment (`time.monotonic`), in seconds; the broker's is None when it is not ours."""

    at: float
    cpu: float
    broker_cpu: float | None

    def since(self, before: Self) -> tuple[float, float, float | None]:
        """Return the seconds that went by since another moment, and the processor time used in them."""
        broker = None
        if self.broker_cpu is not None and before.broker_cpu is not None:
            broker = self.broker_cpu - before.broker_cpu
        return self.at - before.at, self.cpu - before.cpu, broker


@dataclass(frozen=True, slots=True)
class Meter:
    """Reads what a process and the broker beside it have cost so far."""

    process: psutil.Process
    broker: psutil.Process | None

    @classmethod
    def of(cls, pid: int, broker_pid: int | None) -> Self:
        """Watch a process by its id, and the broker unless it is somebody else's (None)."""
        return cls(psutil.Process(pid), None if broker_pid is None else psutil.Process(broker_pid))

    def read(self) -> Cost:
        """Return what was used up to now; raises `BenchError` when the process is gone."""
        try:
            return Cost(time.monotonic(), _cpu(self.process), None if self.broker is None else _cpu(self.broker))
        except psutil.Error as error:
            message = f"a measured process has ended: {error}"
            raise BenchError(message, "see its log") from error

    def resident_mb(self) -> float:
        """Return the resident memory of the process, in MiB."""
        return self.process.memory_info().rss / (1 << 20)

    def peak_mb(self) -> float | None:
        """Return the greatest resident memory that the process ever had, in MiB; None where the system does not tell."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text("utf-8").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return None


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def child(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    is_spoken_to: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Run a process, its words in `log`, and end it whatever happens; `is_spoken_to` gives it pipes for its in- and output."""
    with log.open("a", encoding="utf-8") as words:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE if is_spoken_to else subprocess.DEVNULL,
            stdout=subprocess.PIPE if is_spoken_to else words,
            stderr=words,
            env=None if environment is None else dict(environment),
            text=True,
        )
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and kill it when it does not within `STOP_SECONDS`; returns when it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def tail(log: Path) -> str:
    """Return the end of the last line of a log, for a message of one line; the log itself is kept."""
    with contextlib.suppress(OSError), log.open(encoding="utf-8", errors="replace") as lines:
        last = "".join(deque(lines, 1)).strip()
        return f"... {last[-_TAIL_CHARACTERS:]}" if len(last) > _TAIL_CHARACTERS else last
    return ""


class Lines:
    """The lines that a process says, each with what it had cost when it was said."""

    def __init__(self, process: subprocess.Popen[str], meter: Meter) -> None:
        """Read in a thread of its own: the cost is taken the moment that a line comes."""
        self._said: SimpleQueue[tuple[str, Cost] | None] = SimpleQueue()
        threading.Thread(target=self._read, args=(process.stdout, meter), name="lines", daemon=True).start()

    def _read(self, pipe: IO[str], meter: Meter) -> None:
        with contextlib.suppress(BenchError, ValueError):  # it ended, or its pipe was closed: the reader is told below
            for line in pipe:
                self._said.put((line.rstrip("\n"), meter.read()))
        self._said.put(None)

    def until(self, start: str, deadline: float) -> tuple[str, Cost] | None:
        """Return the next line that starts so; None when there is none before the deadline (`time.monotonic`) or at all."""
        while True:
            try:
                found = self._said.get(timeout=max(deadline - time.monotonic(), 0.001))
            except Empty:
                return None
            if found is None or found[0].startswith(start):
                return found


class Worker:
    """A `churnwatch worker` that runs, with the environment it was given."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path, broker_pid: int | None) -> None:
        """`port`: where its metrics and probes are."""
        self._process = process
        self._port = port
        self._log = log
        self.started_at = time.monotonic()
        self.meter = Meter.of(process.pid, broker_pid)

    @classmethod
    @contextlib.contextmanager
    def running(cls, environment: Mapping[str, str], log: Path, broker_pid: int | None) -> Iterator[Self]:
        """Start one, and end it whatever happens: by SIGTERM, as an orchestrator does."""
        port = free_port()
        given = {**environment, "CHURNWATCH_METRICS_PORT": str(port), "CHURNWATCH_METRICS_HOST": "127.0.0.1"}
        with child([worker_command(), "worker"], log, environment=given) as process:
            yield cls(process, port, log, broker_pid)

    def wait_until_ready(self, deadline_seconds: float) -> float:
        """Return the seconds from its start until /readyz said yes with partitions of its own."""

        def is_ready() -> bool:
            self.check()
            answer = self._get("/readyz")
            return answer is not None and answer.startswith("ok") and "no partition" not in answer

        if not wait_until(is_ready, deadline_seconds):
            message = f"the worker was not ready within {deadline_seconds:.0f} s: {tail(self._log)}"
            raise BenchError(message, f"see {self._log}")
        return time.monotonic() - self.started_at

    def check(self) -> None:
        """Raise `BenchError` when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(f"the worker ended with code {code}: {tail(self._log)}", f"see {self._log}")

    def metrics(self) -> Page:
        """Return what /metrics says now; raises `BenchError` when it does not answer."""
        text = self._get("/metrics")
        if text is None:
            self.check()
            message = "the worker's /metrics does not answer"
            raise BenchError(message, f"see {self._log}")
        return Page.parse(text)

    def stop(self) -> int:
        """Stop it by SIGTERM and return its exit code."""
        end(self._process)
        return self._process.returncode

    def _get(self, path: str) -> str | None:
        """Return the body of an answer of 200, None for any other or none."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_REQUEST_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return body if answer.status == http.HTTPStatus.OK else None


def worker_command() -> Path:
    """Return the `churnwatch` of this environment, which is what a user runs; raises `BenchError` when it is not installed."""
    command = Path(sys.executable).with_name("churnwatch")
    if not os.access(command, os.X_OK):
        message = f"{command} is not there"
        raise BenchError(message, "install the project: uv sync --all-groups")
    return command


@dataclass(frozen=True, slots=True)
class Page:
    """A page of /metrics: each sample's value by its name with labels, as it is written there."""

    samples: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read Prometheus' text format (no timestamps, no spaces in labels: the worker's own metrics have neither)."""
        found: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return cls(found)

    def total(self, name: str, label: str = "") -> float:
        """Return the sum of a metric's samples, of those alone that carry a label such as `outcome="applied"`."""
        return sum(value for sample, value in self.samples.items() if sample.partition("{")[0] == name and label in sample)

    def at_most(self, histogram: str) -> float:
        """Return the least bound of a histogram that no observation lies above, in the histogram's unit; 0 when it is empty."""
        count = self.total(f"{histogram}_count")
        if count == 0:
            return 0.0
        bounds = [
            float(sample.partition('le="')[2].partition('"')[0])
            for sample, value in self.samples.items()
            if sample.startswith(f"{histogram}_bucket{{") and value >= count
        ]
        return min(bounds)
