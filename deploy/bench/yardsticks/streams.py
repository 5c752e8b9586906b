"""Kafka Streams: its jars from where Kafka's come from, the yardstick compiled with the JDK that is there."""

from __future__ import annotations

import importlib.resources
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from deploy.bench.measuring import BenchError
from deploy.kafka import LauncherSettings, find_java
from deploy.kafka_jars import KAFKA_VERSION, Jar, JarCache, Repository

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE: Final = "ChurnStreams.java"
MANIFEST: Final = "kafka-streams-jars.json"

_COMPILE_SECONDS: Final = 120.0
_RELEASE: Final = "17"


def manifest() -> tuple[Jar, ...]:
    """Return the pinned jars in class-path order."""
    text = _resource(MANIFEST)
    return tuple(Jar(path=row["path"], size=row["size"], sha256=row["sha256"]) for row in json.loads(text))


def _resource(name: str) -> str:
    return importlib.resources.files("deploy.bench.yardsticks").joinpath(name).read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Jdk:
    """A Java with its compiler."""

    java: Path
    javac: Path
    banner: str

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> Self:
        """Return the Java that runs the broker, with the `javac` beside it, else that of the PATH; raises `BenchError` for a JRE."""
        java = find_java(environment)
        beside = java.executable.resolve().with_name("javac")
        on_path = shutil.which("javac", path=environment.get("PATH", ""))
        if not beside.is_file() and on_path is None:
            message = f"javac is missing: {java.executable} ({java.origin}) is a JRE, and Kafka Streams must be compiled"
            mend = (
                "install a JDK 17 or newer (openjdk-17-jdk) or set JAVA_HOME to one, or leave this yardstick out: "
                "--only throughput,wide,latency,decode,faust"
            )
            raise BenchError(message, mend)
        return cls(java.executable, beside if beside.is_file() else Path(str(on_path)), java.banner)


@dataclass(frozen=True, slots=True)
class Program:
    """The compiled yardstick."""

    java: Path
    class_path: str

    @classmethod
    def build(cls, folder: Path) -> Self:
        """Fetch what is missing of the jars, and compile into `folder`; raises `BenchError` and `JarError`."""
        jdk = Jdk.find(os.environ)
        # Kafka's own cache, whose layout is that of a Maven repository: the jars that both need are there already.
        cache = JarCache(LauncherSettings.from_environment(os.environ).cache_dir / f"kafka-{KAFKA_VERSION}", manifest())
        if missing := cache.missing():
            cache.fetch(Repository.from_environment(os.environ), missing)
        classes = folder / "classes"
        classes.mkdir(parents=True, exist_ok=True)
        source = folder / SOURCE
        source.write_text(_resource(SOURCE), encoding="utf-8")
        command = [str(jdk.javac), "--release", _RELEASE, "-cp", cache.class_path(), "-d", str(classes), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMPILE_SECONDS)
        if done.returncode != 0:
            message = f"{jdk.javac} could not compile {SOURCE}: {done.stderr.strip()}"
            raise BenchError(message, "a JDK 17 or newer is needed; JAVA_HOME chooses one")
        return cls(jdk.java, f"{classes}{os.pathsep}{cache.class_path()}")

    def command(self, bootstrap: str, prefix: str, app_id: str, events: int, threads: int, state: Path, *, is_caching: bool) -> list[str]:
        """Return what runs it: the JVM with its defaults, quiet but for warnings."""
        return [
            str(self.java),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            self.class_path,
            "ChurnStreams",
            bootstrap,
            prefix,
            app_id,
            str(events),
            str(threads),
            str(is_caching).lower(),
            str(state),
        ]
