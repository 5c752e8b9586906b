"""The local broker's life, and the topics on it: created, checked, broken in every way, and mended."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from typer.testing import CliRunner

from deploy import kafka
from deploy.kafka_cli import kafka_app
from deploy.topics_cli import topics_app
from stream_app.admin import (
    APPLY,
    ClusterUnreachableError,
    Kind,
    Severity,
    TopicsUnfitError,
    apply_topics,
    check_topics,
    require_topics,
)
from stream_app.clock import WallClock
from stream_app.exits import ConfigError
from stream_app.topics import Installation
from tests.support.broker import private_broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000


class TestBroker:
    """The launcher starts a broker that answers, keeps its data, and takes every way of ending."""

    def test_the_commands_from_start_to_stop(self, tmp_path: Path) -> None:
        """Starting twice and stopping twice are no errors; what was written is there after a restart."""
        environment = {"CHURNWATCH_KAFKA_DIR": str(tmp_path / "kafka"), "KAFKA_BOOTSTRAP": None}

        def run(*arguments: str, exit_code: int = 0) -> str:
            ran = CliRunner().invoke(kafka_app, [*arguments], env=environment)
            assert ran.exit_code == exit_code, ran.output
            return ran.output

        try:
            started = run("start", "--port", "0")
            status = json.loads(run("status", "--json"))
            bootstrap = str(status["bootstrap"])
            assert status["running"]
            assert status["answers"]
            assert bootstrap in started
            assert "was running already" in run("start")
            assert bootstrap in run("start", "--port", "0")
            assert "--data-dir" in run("start", "--port", str(kafka.free_port()), exit_code=2)
            with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
                client.create_topics({"kept": {"num_partitions": 3}})
                cluster = client.describe_cluster()["cluster_id"]
            assert bootstrap in run("stop")
            assert "nothing to stop" in run("stop")
            run("status", exit_code=3)
            run("start", "--port", "0")
            bootstrap = json.loads(run("status", "--json"))["bootstrap"]
            with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
                assert client.list_topics() == ["kept"]
                assert client.describe_cluster()["cluster_id"] == cluster
        finally:
            run("stop", "--deadline-seconds", "0")

    def test_two_starts_at_once_are_one_broker_which_takes_a_pause_and_a_kill(self, tmp_path: Path) -> None:
        """One gets it started, the other gets the same; frozen it is silent, killed it comes back on its port."""
        settings = kafka.LauncherSettings.from_environment(os.environ, tmp_path / "kafka")
        with private_broker(settings.data_dir) as broker, ThreadPoolExecutor() as pool:
            assert set(pool.map(lambda _: kafka.start(settings, port=0), range(2))) == {broker}
            broker.pause()
            assert not broker.answers(timeout_seconds=0.3)
            broker.resume()
            assert broker.answers()
            broker.kill()
            assert not broker.is_running()
            assert kafka.running(settings.data_dir) is None
            again = kafka.start(settings, port=broker.port)
            assert again.bootstrap == broker.bootstrap
            assert again.pid != broker.pid

    def test_an_archive_that_cannot_be_used_costs_nothing(self, tmp_path: Path) -> None:
        """The broker starts without it."""
        usual = kafka.LauncherSettings.from_environment(os.environ)
        kafka.fetch(usual)
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / usual.jar_cache.folder.name).symlink_to(usual.jar_cache.folder)
        environment = os.environ | {"CHURNWATCH_CACHE_DIR": str(tmp_path / "cache")}
        settings = kafka.LauncherSettings.from_environment(environment, tmp_path / "kafka")
        java = kafka.find_java(environment)
        archive = java.archive_in(settings.cache_dir, settings.jar_cache.class_path())
        archive.parent.mkdir()
        archive.write_bytes(b"not an archive")
        try:
            assert kafka.start(settings, port=0).answers()
        finally:
            kafka.stop(settings.data_dir, deadline_seconds=0)

    def test_a_broker_that_ends_while_starting_is_told_with_its_own_words(self, tmp_path: Path) -> None:
        """The first error of its log is in the message, and the path of the rest; nothing is left running."""
        settings = kafka.LauncherSettings.from_environment(os.environ, tmp_path / "kafka")
        with pytest.raises(kafka.BrokerStartError, match=r"num\.io\.threads.*broker\.log"):
            kafka.start(settings, port=0, extra_properties={"num.io.threads": "0"})
        assert kafka.running(settings.data_dir) is None

    def test_it_runs_transactions_as_a_formatted_cluster_does(self, kafka_bootstrap: str) -> None:
        """The features that `kafka-storage format` finalizes are finalized."""
        with KafkaAdminClient(bootstrap_servers=kafka_bootstrap) as client:
            assert client.describe_features()["transaction.version"]["finalized"] == (2, 2)


class TestApply:
    """`apply` makes the topics what the inventory says, and nothing more."""

    def test_applied_topics_check_clean_and_a_second_time_changes_nothing(self, kafka_bootstrap: str, installation: Installation) -> None:
        """All of the inventory are created with what the contract asks for."""
        changes = apply_topics(kafka_bootstrap, installation)
        assert [change.action for change in changes] == ["created"] * len(installation.topics())
        assert check_topics(kafka_bootstrap, installation) == []
        assert require_topics(kafka_bootstrap, installation) == []
        assert apply_topics(kafka_bootstrap, installation) == []

    def test_the_number_of_partitions_that_is_there_is_respected(self, kafka_bootstrap: str, topic_prefix: str) -> None:
        """What is added later fits; another number is refused before anything is touched, once there are records."""
        two = Installation(topic_prefix, topic_prefix, partitions=2)
        unset = Installation(topic_prefix, topic_prefix)
        apply_topics(kafka_bootstrap, two)
        with KafkaAdminClient(bootstrap_servers=kafka_bootstrap) as client:
            _delete(client, f"{topic_prefix}.health-scores")
        (change,) = apply_topics(kafka_bootstrap, unset)
        assert change.detail.startswith("partitions=2 ")
        _write(kafka_bootstrap, f"{topic_prefix}.usage-events", partition=1)
        with pytest.raises(ConfigError, match="CHURNWATCH_PARTITIONS"):
            apply_topics(kafka_bootstrap, Installation(topic_prefix, topic_prefix, partitions=8))
        assert check_topics(kafka_bootstrap, unset) == []

    def test_a_replay_of_old_events_outlives_retention(self, kafka_bootstrap: str, installation: Installation) -> None:
        """An input's records bear the broker's time, whatever the sender put on them."""
        apply_topics(kafka_bootstrap, installation)
        topic = f"{installation.prefix}.usage-events"
        before_ms = WallClock().now_us() / 1000 - 60_000
        _write(kafka_bootstrap, topic, partition=0, timestamp_ms=1_000)
        assert _first_timestamp_ms(kafka_bootstrap, topic) > before_ms

    def test_more_replicas_than_brokers_are_a_wrong_setting(self, kafka_bootstrap: str, topic_prefix: str) -> None:
        """Nothing is created."""
        with pytest.raises(ConfigError, match="CHURNWATCH_REPLICATION"):
            apply_topics(kafka_bootstrap, Installation(topic_prefix, topic_prefix, replication=9))
        unmade = Installation(topic_prefix, topic_prefix)
        assert len(check_topics(kafka_bootstrap, unmade)) == len(unmade.topics())


class TestCheck:
    """`check` finds each kind of mismatch on a real cluster, and the mend it names mends it."""

    def test_each_mismatch_is_found_and_what_can_be_is_mended(self, kafka_bootstrap: str, installation: Installation) -> None:
        """Nine things are broken at once, on nine topics."""
        apply_topics(kafka_bootstrap, installation)
        prefix = installation.prefix
        changelog = f"{installation.app_id}-accounts-changelog"
        with KafkaAdminClient(bootstrap_servers=kafka_bootstrap) as client:
            _delete(client, f"{prefix}.alert-state", f"{prefix}.survey-events", f"{prefix}.health-scores")
            client.create_topics(
                {f"{prefix}.survey-events": {"num_partitions": 1}, f"{prefix}.health-scores": {"num_partitions": 2}},
                wait_for_metadata=True,
            )
            _set(client, f"{prefix}.ticket-events", {"cleanup.policy": "compact"})
            _set(client, changelog, {"cleanup.policy": "compact,delete"})
            _set(client, f"{prefix}.usage-events", {"retention.ms": str(7 * DAY_MS)})
            _set(client, f"{prefix}.payment-events", {"message.timestamp.type": "CreateTime"})
            _set(client, f"{prefix}.dead-letters", {"max.message.bytes": "1000"})
            _set(client, f"{prefix}.audit-log", {"retention.ms": "-1"})
        _write(kafka_bootstrap, f"{prefix}.health-scores", partition=1)

        with pytest.raises(TopicsUnfitError) as refusal:
            require_topics(kafka_bootstrap, installation)
        found = check_topics(kafka_bootstrap, installation)
        seen = {(mismatch.topic.removeprefix(f"{prefix}."), mismatch.kind, mismatch.severity) for mismatch in found}
        errors = {
            ("alert-state", Kind.MISSING),
            ("survey-events", Kind.PARTITIONS),
            ("health-scores", Kind.PARTITIONS),
            ("ticket-events", Kind.CLEANUP),
            (changelog, Kind.CLEANUP),
            ("dead-letters", Kind.SETTING),
        }
        warnings = {
            ("usage-events", Kind.RETENTION),
            ("payment-events", Kind.TIMESTAMP_TYPE),
        }
        # The two made anew with the broker's defaults lack their settings as well.
        anew = {entry for entry in seen if entry[0] in {"survey-events", "health-scores"} and entry[1] != Kind.PARTITIONS}
        assert seen - anew == {(topic, kind, Severity.ERROR) for topic, kind in errors} | {
            (topic, kind, Severity.WARNING) for topic, kind in warnings
        }
        assert {(m.topic.removeprefix(f"{prefix}."), m.kind) for m in refusal.value.mismatches} == errors

        changes = apply_topics(kafka_bootstrap, installation)
        assert (f"{prefix}.survey-events", "widened") in {(change.topic, change.action) for change in changes}
        (left,) = check_topics(kafka_bootstrap, installation)
        assert (left.topic, left.kind, left.found) == (f"{prefix}.health-scores", Kind.PARTITIONS, "2")
        assert "CHURNWATCH_TOPIC_PREFIX" in left.mend
        assert left.mend != APPLY
        assert apply_topics(kafka_bootstrap, installation) == []

    def test_nobody_there_is_said_within_the_time_given(self, installation: Installation) -> None:
        """The address and the way to a broker are in the message."""
        bootstrap = f"{kafka.HOST}:{kafka.free_port()}"
        began = time.monotonic()
        with pytest.raises(ClusterUnreachableError, match=f"{bootstrap}.*churnwatch kafka start"):
            check_topics(bootstrap, installation, timeout_seconds=0.5)
        assert time.monotonic() - began < 15

    def test_a_listener_that_is_no_broker_is_said_too(self, installation: Installation) -> None:
        """A port that accepts and stays silent is not waited for beyond the time given."""
        with socket.create_server((kafka.HOST, 0)) as silent:
            bootstrap = f"{kafka.HOST}:{silent.getsockname()[1]}"
            with pytest.raises(ClusterUnreachableError, match=bootstrap):
                check_topics(bootstrap, installation, timeout_seconds=1)


class TestCommands:
    """The commands show what the functions find, and end with codes that a script can use."""

    def test_check_apply_check(self, kafka_bootstrap: str, topic_prefix: str) -> None:
        """Missing topics are exit code 3 with their mend; applied, all is well."""
        environment = {
            "KAFKA_BOOTSTRAP": kafka_bootstrap,
            "CHURNWATCH_TOPIC_PREFIX": topic_prefix,
            "CHURNWATCH_APP_ID": topic_prefix,
        }

        def run(*arguments: str) -> tuple[int, str]:
            ran = CliRunner().invoke(topics_app, [*arguments], env=environment)
            return ran.exit_code, ran.output

        code, said = run("check")
        assert code == 3
        assert f"{topic_prefix}.usage-events: missing" in said
        code, said = run("apply", "--json")
        assert code == 0
        count = len(Installation(topic_prefix, topic_prefix).topics())
        assert len(json.loads(said)["changes"]) == count
        code, said = run("check", "--json")
        assert code == 0
        assert json.loads(said)["mismatches"] == []
        code, said = run("apply")
        assert (code, said) == (0, f"0 change(s) to {count} topics on {kafka_bootstrap}\n")

    def test_nobody_there_is_one_line_and_exit_code_3(self) -> None:
        """kafka-python's own pages about it are not shown."""
        bootstrap = f"{kafka.HOST}:{kafka.free_port()}"
        ran = CliRunner().invoke(topics_app, ["check", "--bootstrap", bootstrap, "--timeout-seconds", "0.2"])
        assert ran.exit_code == 3
        assert ran.output.startswith(f"error: KAFKA_BOOTSTRAP={bootstrap}")
        assert ran.output.count("\n") == 1


def _delete(client: KafkaAdminClient, *topics: str) -> None:
    client.delete_topics(list(topics))
    deadline = time.monotonic() + 10
    while set(topics) & set(client.list_topics()):
        assert time.monotonic() < deadline


def _set(client: KafkaAdminClient, topic: str, settings: dict[str, str]) -> None:
    client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])


def _write(bootstrap: str, topic: str, *, partition: int, timestamp_ms: int | None = None) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    try:
        producer.send(topic, b"{}", key=b"a", partition=partition, timestamp_ms=timestamp_ms).get(10)
    finally:
        producer.close()


def _first_timestamp_ms(bootstrap: str, topic: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(topic, 0)])
        records: Iterator[list[object]] = iter(consumer.poll(10_000).values())
        (record,) = next(records)
        timestamp: int = record.timestamp  # type: ignore[attr-defined]
        return timestamp
    finally:
        consumer.close()
