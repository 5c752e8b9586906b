"""What a rebuild or an import asks of the cluster and does to it: who is in the group, what it has read, the changelog made anew."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorNotAvailableError, KafkaError, NoError, NotCoordinatorError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata

from models.input_topics import FOLDED_TOPICS
from stream_app.admin import ClusterUnreachableError, Inspection, TopicsUnfitError, apply_topics, inspect_topics, read_logs
from stream_app.app import Names
from stream_app.exits import BrokerError, Exit, ServiceExit
from stream_app.kafka_connection import client_kwargs
from stream_app.topics import Installation, topic_name
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deploy.verify.kafka_log import Place
    from stream_app.settings import Settings
    from stream_app.topics import Log

_DELETED_WITHIN_SECONDS: Final = 30.0
_COORDINATED_WITHIN_SECONDS: Final = 20.0


class Cluster:
    """An installation's cluster, to be asked and changed; raises BrokerError for what it has no answer to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options = client_kwargs(settings)
        del self._options["bootstrap_servers"]
        self.installation = Installation(settings.topic_prefix, settings.app_id, settings.partitions, settings.replication)
        self.names = Names.of(settings)
        self.input_names = {topic: topic_name(settings.topic_prefix, topic) for topic in FOLDED_TOPICS}
        self.inputs = list(self.input_names.values())

    @contextmanager
    def _client(self) -> Iterator[Any]:
        options = client_kwargs(self._settings)
        try:
            client = KafkaAdminClient(**options, bootstrap_timeout_ms=10_000)
        except KafkaError as error:
            raise BrokerError(f"the broker at {self._settings.kafka_bootstrap} cannot be reached: {error}") from error
        try:
            yield client
        except KafkaError as error:
            raise BrokerError(
                f"the cluster at {self._settings.kafka_bootstrap} refused: {error}", "see what this user may do there"
            ) from error
        finally:
            client.close()

    def inspect(self) -> Inspection:
        """Return what is on the cluster; raises BrokerError when anything but the changelog is not such that a worker may start."""
        try:
            seen = inspect_topics(self._settings.kafka_bootstrap, self.installation, client_options=self._options)
        except ClusterUnreachableError as error:
            raise BrokerError(error.message, error.mend) from error
        wrong = [each for each in seen.mismatches if each.is_error and each.topic != self.names.changelog]
        if wrong:
            raise BrokerError(str(TopicsUnfitError(wrong)), "churnwatch topics apply")
        return seen

    def logs(self) -> dict[str, Log]:
        """Return the ids and partitions of the inputs and of the changelog, without what is missing."""
        names = [*self.inputs, self.names.changelog]
        return read_logs(self._settings.kafka_bootstrap, names, client_options=self._options)

    def refuse_workers(self) -> None:
        """Raise ServiceExit, naming them, when there are workers in the group."""
        group = self._settings.app_id
        with self._client() as client:
            members = _answer(lambda: client.describe_groups([group]))[group]["members"]
        if members:
            named = ", ".join(sorted(f"{each.get('group_instance_id') or each['client_id']} at {each['client_host']}" for each in members))
            raise ServiceExit(
                Exit.OTHER,
                f"{len(members)} worker(s) of {group} are running: {named}",
                "stop them all; one that was killed is counted until its session_timeout is over",
            )

    def committed(self) -> dict[Place, int]:
        """Return how far the group has committed that it read."""
        group = self._settings.app_id
        with self._client() as client:
            found = _answer(lambda: client.list_group_offsets(group))[group]
        return {(tp.topic, tp.partition): int(at.offset) for tp, at in found.items() if at.offset >= 0}

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Let the group have read so far: for lag monitors, and as the witness that state is missing as long as there is none."""
        wanted = {TopicPartition(*place): OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}
        with self._client() as client:
            answers = _answer(lambda: client.alter_group_offsets(self._settings.app_id, wanted))
        refused = {error for error in answers.values() if error is not NoError}
        if refused:
            raise BrokerError(
                f"the offsets of the group could not be set: {refused.pop().__name__}", "stop every worker, then run it again"
            )

    def replace_changelog(self) -> None:
        """Delete the changelog if there is one, and make it anew as `churnwatch topics apply` does; returns when it is there."""
        name = self.names.changelog
        before = self.logs().get(name)
        if before is not None:
            with self._client() as client, suppress(UnknownTopicOrPartitionError):  # somebody else has just done so
                client.delete_topics([name])
            if not wait_until(lambda: name not in self.logs(), _DELETED_WITHIN_SECONDS):
                raise BrokerError(f"{name} is not gone {_DELETED_WITHIN_SECONDS:.0f} s after it was deleted", "run it again")
        apply_topics(self._settings.kafka_bootstrap, self.installation, client_options=self._options)


def _answer(ask: Callable[[], Any]) -> Any:
    """Ask about a group until somebody is responsible for it: on a new cluster the first question makes the topic of the groups."""
    found: list[Any] = []

    def is_answered() -> bool:
        try:
            found.append(ask())
        except (CoordinatorNotAvailableError, NotCoordinatorError):
            return False
        return True

    return found[0] if wait_until(is_answered, _COORDINATED_WITHIN_SECONDS) else ask()
