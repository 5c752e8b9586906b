"""What the demo runs on: a broker of its own (or the user's), topics under a fresh prefix, one worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from deploy import kafka
from stream_app.admin import apply_topics
from stream_app.exits import Exit, ServiceExit
from stream_app.kafka_connection import client_kwargs
from stream_app.settings import load_settings
from stream_app.topics import Installation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from deploy.demo.interrupts import Interrupts

WORKER_STOP_SECONDS: Final = 30.0
LOG_LINES_SHOWN: Final = 12
_TIDY_TIMEOUT_MS: Final = 10_000
_RUN_CHURNWATCH: Final = "from deploy.cli import main; main()"


class WorkerEndedError(ServiceExit):
    """The worker ended in error, or though nobody asked it to; carries its exit code."""


@dataclass(slots=True)
class Worker:
    """One `churnwatch worker`; its log stays when it ends in error."""

    process: subprocess.Popen[bytes]
    log_file: Path
    metrics_url: str

    def check(self) -> None:
        """Raise `WorkerEndedError` with the last lines of its log when it has ended."""
        code = self.process.poll()
        if code is not None:
            raise self._ended(code)

    def stop(self) -> None:
        """Ask it to stop, kill it when it does not; raises `WorkerEndedError` when it does not end cleanly.

        One that had ended before was told of by `check`.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(WORKER_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                code = self.process.wait()
            if code != 0:
                raise self._ended(code)
            self.log_file.unlink()

    def _ended(self, code: int) -> WorkerEndedError:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        exit_code = next((known for known in Exit if known == code and known is not Exit.CLEAN), Exit.OTHER)
        lines = "".join(f"\n  {line}" for line in last_lines(self.log_file, LOG_LINES_SHOWN))
        return WorkerEndedError(exit_code, f"the worker {how}; its log is {self.log_file}, which ends so:{lines}")


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that runs: how to reach the cluster, the names on it, the worker."""

    connection: Mapping[str, Any]
    installation: Installation
    worker: Worker


@contextmanager
def running_stack(console: Console, interrupts: Interrupts) -> Iterator[Stack]:
    """Start broker, topics and worker, and take all of it away again, whatever happens in between.

    With `KAFKA_BOOTSTRAP` set no broker is started: the topics are made there, and deleted at the end. Raises
    `ServiceExit` when something cannot start or ends in error, `KeyboardInterrupt` when the user does not wait for it.
    """
    name = f"demo-{uuid.uuid4().hex[:8]}"
    installation = Installation(prefix=name, app_id=name)
    with ExitStack() as cleanup:
        # Whatever starts is registered before a signal can come between: see `Interrupts`.
        folder = Path(tempfile.mkdtemp(prefix="churnwatch-demo-")).resolve()
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        own_cluster = os.environ.get("KAFKA_BOOTSTRAP")
        if own_cluster:
            connection = client_kwargs(load_settings())
            cleanup.callback(_delete_all, connection, installation, console)
            console.print(f"Kafka   your own cluster {own_cluster}; topics {name}.* are deleted at the end", soft_wrap=True)
        else:
            connection = {"bootstrap_servers": [_start_broker(folder / "kafka", cleanup, console, interrupts)]}
        with interrupts.promptly():
            _apply_topics(connection, installation)
        worker = _start_worker(connection, installation, folder, is_local=not own_cluster)
        cleanup.callback(worker.stop)
        console.print(f"Worker  pid {worker.process.pid}, log {worker.log_file}, metrics {worker.metrics_url}", soft_wrap=True)
        yield Stack(connection, installation, worker)


def _start_broker(data_dir: Path, cleanup: ExitStack, console: Console, interrupts: Interrupts) -> str:
    settings = kafka.LauncherSettings.from_environment(os.environ, data_dir)
    with interrupts.promptly():
        kafka.find_java(settings.environment)
        kafka.fetch(settings, console)
    cleanup.callback(kafka.stop, data_dir)
    began = time.monotonic()
    broker = kafka.start(settings, port=0, console=console)
    interrupts.check()
    took = time.monotonic() - began
    console.print(f"Kafka   {kafka.KAFKA_VERSION} on {broker.bootstrap}, pid {broker.pid}, started in {took:.1f} s", soft_wrap=True)
    return broker.bootstrap


def _apply_topics(connection: Mapping[str, Any], installation: Installation) -> None:
    security = {key: value for key, value in connection.items() if key != "bootstrap_servers"}
    apply_topics(",".join(connection["bootstrap_servers"]), installation, client_options=security)


def _start_worker(connection: Mapping[str, Any], installation: Installation, folder: Path, *, is_local: bool) -> Worker:
    metrics_port = kafka.free_port()
    # Security that is meant for another cluster must not be tried on the demo's own.
    inherited = {key: value for key, value in os.environ.items() if not (is_local and key.startswith("KAFKA_"))}
    environment = inherited | {
        "KAFKA_BOOTSTRAP": ",".join(connection["bootstrap_servers"]),
        "CHURNWATCH_TOPIC_PREFIX": installation.prefix,
        "CHURNWATCH_APP_ID": installation.app_id,
        "CHURNWATCH_DATA_DIR": str(folder / "worker"),
        "CHURNWATCH_METRICS_HOST": kafka.HOST,
        "CHURNWATCH_METRICS_PORT": str(metrics_port),
        "CHURNWATCH_CLOCK": "log",
    }
    log_file = folder.with_name(f"{folder.name}-worker.log")
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _RUN_CHURNWATCH, "worker"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the demo, which stops the worker in its turn
        )
    return Worker(process, log_file, f"http://{kafka.HOST}:{metrics_port}/metrics")


def _delete_all(connection: Mapping[str, Any], installation: Installation, console: Console) -> None:
    """Leave the user's cluster as it was found; what cannot be deleted is said."""
    try:
        with KafkaAdminClient(bootstrap_timeout_ms=_TIDY_TIMEOUT_MS, **connection) as admin:
            ours = set(admin.list_topics()) & set(installation.topics())
            if ours:
                admin.delete_topics(sorted(ours))
            groups = [group["group_id"] for group in admin.list_groups() if group["group_id"] == installation.app_id]
            if groups:
                admin.delete_groups(groups)
    except KafkaError as error:
        console.print(f"Topics {installation.prefix}.* could not be deleted: {error}", soft_wrap=True)


def last_lines(log_file: Path, count: int) -> list[str]:
    """Return the last lines of a worker's log for people: level and message of a JSON line, any other as it is."""
    lines = log_file.read_text("utf-8", errors="replace").splitlines()[-count:]
    return [_readable(line) for line in lines]


def _readable(line: str) -> str:
    try:
        said = json.loads(line)
        text = f"{said['level']}: {said['message']}"
    except (ValueError, KeyError, TypeError):
        return line
    mend = f" ({said['mend']})" if said.get("mend") else ""
    trace = said.get("exception", "").strip().rpartition("\n")[2]
    return f"{text}{mend}{f' [{trace}]' if trace else ''}"
