"""The topics on the cluster held against the inventory: what is missing or differs, what mends it, and the mending."""

from __future__ import annotations

import base64
import socket
import time
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec, TransactionState
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
    TopicAlreadyExistsError,
    TransactionalIdNotFoundError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.protocol.consumer.offsets import IsolationLevel

from stream_app.exits import BrokerError, ConfigError, ConfigProblem
from stream_app.topics import (
    DEFAULT_PARTITIONS,
    DEFAULT_REPLICATION_MAX,
    MESSAGE_BYTES_MIN,
    Bound,
    Installation,
    Log,
    Setting,
    TopicSpec,
    policies,
)
from stream_app.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMEOUT_SECONDS: Final = 10.0
COORDINATOR_SECONDS: Final = 30.0
"""How long a broker that has just started may read what transactions there were."""

APPLY: Final = "churnwatch topics apply"

_DECISIONS: Final[dict[TransactionState, bool | None]] = {
    TransactionState.PREPARE_COMMIT: True,
    TransactionState.COMPLETE_COMMIT: True,
    TransactionState.ONGOING: False,
    TransactionState.PREPARE_ABORT: False,
    TransactionState.COMPLETE_ABORT: False,
    TransactionState.PREPARE_EPOCH_FENCE: False,
    TransactionState.EMPTY: None,
    TransactionState.DEAD: None,
    TransactionState.UNKNOWN: None,
}

_EPOCHS_OF_A_FENCE: Final = 2
"""A producer that is started over an open transaction takes two: one to end that, and its own."""

_SAFE_REPLICATION: Final = 3
"""From this many replicas on, a write counts once two of them have it."""


class TopicAdminError(BrokerError):
    """The cluster could not be asked, or refused."""


class ClusterUnreachableError(TopicAdminError):
    """Nobody answers at the bootstrap address."""


class Severity(StrEnum):
    """What a mismatch means for a worker."""

    ERROR = "error"
    """It must not start: it would idle, lose records or spread an account over two partitions."""
    WARNING = "warning"


class Kind(StrEnum):
    """What differs."""

    MISSING = "missing"
    PARTITIONS = "partitions"
    CLEANUP = "cleanup"
    RETENTION = "retention"
    REPLICATION = "replication"
    TIMESTAMP_TYPE = "timestamp_type"
    SETTING = "setting"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One way in which a topic is not as it should be: what is, what should be, and what mends it."""

    topic: str
    kind: Kind
    severity: Severity
    found: str
    expected: str
    mend: str

    @property
    def is_error(self) -> bool:
        """Say whether a worker must refuse to start."""
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.topic}: {self.kind}: found {self.found}, expected {self.expected}; mend: {self.mend}"


class TopicsUnfitError(TopicAdminError):
    """The topics are not such that a worker may start; `mismatches` are the errors among what was found."""

    def __init__(self, mismatches: Iterable[Mismatch]) -> None:
        """Keep the errors; the message tells each with its mend."""
        self.mismatches = tuple(mismatch for mismatch in mismatches if mismatch.is_error)
        told = "; ".join(f"[{number}] {mismatch}" for number, mismatch in enumerate(self.mismatches, 1))
        super().__init__(f"the topics are not fit for a worker: {told}")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done to a topic: `created`, `widened` or `altered`, and how."""

    topic: str
    action: str
    detail: str


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it.

    `settings` is None when they may not be read. `was_written` is looked up where the number of partitions is wrong,
    and assumed elsewhere.
    """

    partitions: int
    replication: int
    settings: Mapping[str, str] | None
    was_written: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """How the last transaction of a transactional id was decided: to be committed, or aborted, as one is that is open; by which epoch.

    `is_commit` is None where the coordinator knows of no transaction.
    """

    is_commit: bool | None
    epoch: int
    is_open: bool = False

    def holds_for(self, epoch: int) -> bool:
        """Whether nobody else has begun with the transactional id since: `epoch` is that of the producer that was started next."""
        return self.is_commit is not None and epoch - self.epoch == (_EPOCHS_OF_A_FENCE if self.is_open else 1)


@dataclass(frozen=True, slots=True)
class Inspection:
    """The cluster beside the inventory: `specs` and `states` by topic name, `states` without what is missing."""

    specs: Mapping[str, TopicSpec]
    states: Mapping[str, TopicState]
    partitions: int
    replication: int
    mismatches: list[Mismatch]


def check_topics(
    bootstrap: str,
    installation: Installation,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> list[Mismatch]:
    """Return every mismatch between the cluster and the inventory, errors first.

    `client_options` go to kafka-python's admin client (security). Raises `TopicAdminError`, `ConfigError`.
    """
    return inspect_topics(
        bootstrap,
        installation,
        timeout_seconds=timeout_seconds,
        client_options=client_options,
    ).mismatches


def require_topics(
    bootstrap: str,
    installation: Installation,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> list[Mismatch]:
    """Return the warnings, or raise `TopicsUnfitError` with every error: the gate before a worker starts."""
    mismatches = check_topics(
        bootstrap,
        installation,
        timeout_seconds=timeout_seconds,
        client_options=client_options,
    )
    if any(mismatch.is_error for mismatch in mismatches):
        raise TopicsUnfitError(mismatches)
    return mismatches


def inspect_topics(
    bootstrap: str,
    installation: Installation,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> Inspection:
    """Do what `check_topics` does, and return what was seen as well."""
    _check(installation)
    with _Cluster.reached(bootstrap, timeout_seconds, client_options) as cluster:
        return cluster.inspect(installation)


def read_logs(
    bootstrap: str,
    names: Iterable[str],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> dict[str, Log]:
    """Return the ids and partitions of topics, without what is missing; raises `TopicAdminError`."""
    with _Cluster.reached(bootstrap, timeout_seconds, client_options) as cluster:
        return cluster.logs(names)


def has_read(
    bootstrap: str,
    group: str,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> bool:
    """Say whether a consumer group has ever committed that it read something; raises `TopicAdminError`."""
    with _Cluster.reached(bootstrap, timeout_seconds, client_options) as cluster:
        return cluster.has_read(group)


def last_decisions(
    bootstrap: str,
    identities: Iterable[str],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> dict[str, Decision]:
    """Say by transactional id how its last transaction was decided; raises `TopicAdminError`."""
    with _Cluster.reached(bootstrap, timeout_seconds, client_options) as cluster:
        return {identity: cluster.last_decision(identity) for identity in identities}


def written(
    bootstrap: str,
    places: Iterable[tuple[str, int]],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> set[tuple[str, int]]:
    """Return those of some topics' partitions that anything was ever written to; raises `TopicAdminError`."""
    with _Cluster.reached(bootstrap, timeout_seconds, client_options) as cluster:
        return cluster.written(places)


def undecided(
    bootstrap: str,
    places: Iterable[tuple[str, int]],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> dict[tuple[str, int], int]:
    """Return at which offset readers stop, for those of some topics' partitions with a transaction that is neither committed nor aborted.

    Raises `TopicAdminError`.
    """
    with _Cluster.reached(bootstrap, timeout_seconds, client_options) as cluster:
        return cluster.undecided(places)


def apply_topics(
    bootstrap: str,
    installation: Installation,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    client_options: Mapping[str, Any] | None = None,
) -> list[Change]:
    """Create what is missing, add partitions where nothing was ever written, set what differs; return what was done.

    Nothing is deleted and nothing made smaller, shorter or narrower; the second call changes nothing. Returns once
    the cluster shows the changes. Raises `TopicAdminError`, and `ConfigError` before anything is touched.
    """
    _check(installation)
    with _Cluster.reached(bootstrap, timeout_seconds, client_options) as cluster:
        seen = cluster.inspect(installation)
        _refuse_split(seen, installation.partitions)
        changes = [
            *cluster.create(seen),
            *cluster.widen(seen),
            *cluster.alter(seen),
        ]
        if changes:
            cluster.wait_until_shown(installation)
        return changes


def _check(installation: Installation) -> None:
    """Refuse what no cluster could give, before one is asked."""
    try:
        installation.topics()
    except ValueError as error:
        key = "CHURNWATCH_TOPIC_PREFIX or CHURNWATCH_APP_ID"
        raise _setting_error(key, str(error), "give another") from error
    for key, value in (
        ("CHURNWATCH_PARTITIONS", installation.partitions),
        ("CHURNWATCH_REPLICATION", installation.replication),
    ):
        if value is not None and value < 1:
            raise _setting_error(key, f"is {value}", "give 1 or more, or leave it unset")


def _setting_error(key: str, wrong: str, mend: str) -> ConfigError:
    return ConfigError([ConfigProblem(key, key, wrong, mend)])


def _refuse_split(seen: Inspection, partitions: int | None) -> None:
    """Refuse a number of partitions that topics with records do not have: new topics would not fit the old ones."""
    if partitions is None:
        return
    for name, state in seen.states.items():
        if seen.specs[name].partitioned and state.partitions != partitions and not _can_widen(state, partitions):
            wrong = f"is {partitions}, {name} has {state.partitions}: a change would part accounts from their state"
            raise _setting_error("CHURNWATCH_PARTITIONS", wrong, "unset it, or set another CHURNWATCH_TOPIC_PREFIX")


def _can_widen(state: TopicState, partitions: int) -> bool:
    return state.partitions < partitions and not state.was_written


def judge(
    specs: Mapping[str, TopicSpec],
    states: Mapping[str, TopicState],
    partitions: int,
    replication: int,
) -> list[Mismatch]:
    """Hold what the cluster has against what it should have; errors first, then in the inventory's order."""
    counts = {states[name].partitions for name, spec in specs.items() if spec.partitioned and name in states}
    mismatches: list[Mismatch] = []
    for name, spec in specs.items():
        state = states.get(name)
        if state is None:
            wanted = f"{_partitions_of(spec, partitions)} partitions, cleanup {spec.cleanup}"
            mismatches.append(Mismatch(name, Kind.MISSING, Severity.ERROR, "nothing", wanted, APPLY))
            continue
        if spec.partitioned and state.partitions != partitions:
            mismatches.append(_wrong_partitions(name, spec, state, partitions, is_split=len(counts) > 1))
        if state.replication < replication:
            mismatches.append(_wrong_replication(name, state, replication))
        mismatches.extend(_wrong_settings(name, spec, state, replication))
    return sorted(mismatches, key=lambda mismatch: not mismatch.is_error)


def _partitions_of(spec: TopicSpec, partitions: int) -> int:
    return spec.partitions or partitions


def _wrong_partitions(name: str, spec: TopicSpec, state: TopicState, partitions: int, *, is_split: bool) -> Mismatch:
    if _can_widen(state, partitions):
        mend = APPLY
    elif not is_split:
        mend = f"unset CHURNWATCH_PARTITIONS or set it to {state.partitions}: accounts stay where their state is"
    elif spec.direction == "state":
        mend = f"CHURNWATCH_APP_ID=<a new id> {APPLY}, and the new application rebuilds the state from the inputs"
    else:
        mend = f"CHURNWATCH_TOPIC_PREFIX=<a new prefix> {APPLY}, and replay into it: records cannot change partition"
    severity = Severity.ERROR if is_split else Severity.WARNING
    expected = f"{partitions}, as every topic keyed by account"
    return Mismatch(name, Kind.PARTITIONS, severity, str(state.partitions), expected, mend)


def _wrong_replication(name: str, state: TopicState, replication: int) -> Mismatch:
    mend = f"kafka-reassign-partitions.sh to {replication} replicas, or set CHURNWATCH_REPLICATION={state.replication}"
    return Mismatch(name, Kind.REPLICATION, Severity.WARNING, str(state.replication), str(replication), mend)


def _wrong_settings(name: str, spec: TopicSpec, state: TopicState, replication: int) -> Iterable[Mismatch]:
    if state.settings is None:
        mend = "grant DescribeConfigs on the topic to this user"
        yield Mismatch(name, Kind.UNREADABLE, Severity.WARNING, "settings hidden", "settings readable", mend)
        return
    for setting in _settings_of(spec, replication):
        found = state.settings.get(setting.key)
        if found is None or setting.holds(found):
            continue
        expected = setting.value if setting.bound is Bound.EXACTLY else f"{setting.bound} {setting.value}"
        severity = _severity(spec, setting, found)
        yield Mismatch(name, _kind(setting), severity, f"{setting.key}={found}", expected, APPLY)


def _settings_of(spec: TopicSpec, replication: int) -> tuple[Setting, ...]:
    if replication < _SAFE_REPLICATION or spec.direction == "in":
        return spec.settings
    return (*spec.settings, Setting("min.insync.replicas", "2", Bound.AT_LEAST))


def _kind(setting: Setting) -> Kind:
    kinds = {
        "cleanup.policy": Kind.CLEANUP,
        "retention.ms": Kind.RETENTION,
        "retention.bytes": Kind.RETENTION,
        "message.timestamp.type": Kind.TIMESTAMP_TYPE,
    }
    return kinds.get(setting.key, Kind.SETTING)


def _severity(spec: TopicSpec, setting: Setting, found: str) -> Severity:
    if setting.key == "cleanup.policy":
        return _cleanup_severity(spec, found)
    if setting.key == "max.message.bytes" and int(found) < MESSAGE_BYTES_MIN:
        return Severity.ERROR
    return Severity.WARNING


def _cleanup_severity(spec: TopicSpec, found: str) -> Severity:
    """Call it an error where records are lost for good: a log that is compacted, a state that is deleted from."""
    loses_events = spec.is_event_log and "compact" in policies(found)
    return Severity.ERROR if loses_events or spec.direction == "state" else Severity.WARNING


def _common_partitions(specs: Mapping[str, TopicSpec], states: Mapping[str, TopicState]) -> int:
    """Return the number of partitions most inputs have, the greater at a draw; else the changelog's; else 4."""
    for direction in ("in", "state"):
        counts = Counter(
            states[name].partitions for name, spec in specs.items() if spec.partitioned and spec.direction == direction and name in states
        )
        if counts:
            return max(counts, key=lambda count: (counts[count], count))
    return DEFAULT_PARTITIONS


class _Cluster:
    """A connection for administration; what kafka-python raises comes out as `TopicAdminError`."""

    def __init__(self, client: KafkaAdminClient, bootstrap: str, timeout_seconds: float) -> None:
        self._client = client
        self._bootstrap = bootstrap
        self._timeout_seconds = timeout_seconds

    @classmethod
    def reached(cls, bootstrap: str, timeout_seconds: float, client_options: Mapping[str, Any] | None) -> Self:
        deadline = time.monotonic() + timeout_seconds
        _wait_until_connectable(bootstrap, timeout_seconds)
        left_ms = max(int((deadline - time.monotonic()) * 1000), 1)
        options = {
            "bootstrap_servers": bootstrap.split(","),
            "bootstrap_timeout_ms": left_ms,
            "request_timeout_ms": int(timeout_seconds * 1000),
            **(client_options or {}),
        }
        try:
            client = KafkaAdminClient(**options)
        except KafkaError as error:
            raise _unreachable(bootstrap, timeout_seconds, str(error)) from error
        return cls(client, bootstrap, timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._client.close()
        if isinstance(error, KafkaError):
            message = f"the cluster at {self._bootstrap} refused: {error}"
            raise TopicAdminError(message, "see what this user may do there") from error

    def inspect(self, installation: Installation) -> Inspection:
        specs = installation.topics()
        brokers = len(self._client.describe_cluster()["brokers"])
        replication = installation.replication or min(DEFAULT_REPLICATION_MAX, brokers)
        if replication > brokers:
            wrong = f"is {replication}, and the cluster has {brokers} broker(s)"
            raise _setting_error("CHURNWATCH_REPLICATION", wrong, "give no more than there are, or leave it unset")
        states = self._read(specs)
        partitions = installation.partitions or _common_partitions(specs, states)
        states |= self._with_written(
            {name: seen for name, seen in states.items() if specs[name].partitioned and seen.partitions != partitions}
        )
        return Inspection(specs, states, partitions, replication, judge(specs, states, partitions, replication))

    def logs(self, names: Iterable[str]) -> dict[str, Log]:
        described = self._describe(names)
        return {name: Log(_kafka_text(topic.get("topic_id")), len(topic["partitions"])) for name, topic in described.items()}

    def has_read(self, group: str) -> bool:
        found: list[dict[Any, Any]] = []

        def is_answered() -> bool:
            try:
                found.append(self._client.list_group_offsets(group)[group])
            except CoordinatorNotAvailableError:  # a new cluster makes its coordinators when it is first asked for one
                return False
            return True

        if not wait_until(is_answered, self._timeout_seconds):
            raise TopicAdminError(f"the cluster has no coordinator for the group {group}", "see the brokers' logs")
        return any(at.offset > 0 for at in found[-1].values())

    def last_decision(self, identity: str) -> Decision:
        found: list[Decision] = []

        def is_answered() -> bool:
            try:
                last = self._client.describe_transactions([identity])[identity]
                found.append(Decision(_DECISIONS[last.state], last.producer_epoch, last.state is TransactionState.ONGOING))
            except TransactionalIdNotFoundError:
                found.append(Decision(None, 0))
            except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError):  # they are still starting
                return False
            return True

        if not wait_until(is_answered, COORDINATOR_SECONDS):
            raise TopicAdminError(f"the cluster has no coordinator for the transactions of {identity}", "see the brokers' logs")
        return found[-1]

    def written(self, places: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        found = self._client.list_partition_offsets({TopicPartition(*place): OffsetSpec.LATEST for place in places})
        return {(tp.topic, tp.partition) for tp, end in found.items() if end.offset > 0}

    def undecided(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        latest = {TopicPartition(*place): OffsetSpec.LATEST for place in places}
        stable, end = (
            self._client.list_partition_offsets(latest, isolation_level=level)
            for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
        )
        return {(tp.topic, tp.partition): stable[tp].offset for tp in latest if stable[tp].offset < end[tp].offset}

    def create(self, seen: Inspection) -> list[Change]:
        plans: dict[str, dict[str, Any]] = {
            name: {
                "num_partitions": _partitions_of(spec, seen.partitions),
                "replication_factor": seen.replication,
                "configs": {item.key: item.value for item in _settings_of(spec, seen.replication)},
            }
            for name, spec in seen.specs.items()
            if name not in seen.states
        }
        if not plans:
            return []
        answer = self._client.create_topics(plans, raise_errors=False)
        made: list[Change] = []
        for topic in answer["topics"]:
            error = for_code(topic["error_code"])
            if error is TopicAlreadyExistsError:  # another one applied at the same moment
                continue
            _raise_refusal("create", topic["name"], topic["error_code"], topic.get("error_message"))
            plan = plans[topic["name"]]
            settings = " ".join(f"{key}={value}" for key, value in plan["configs"].items())
            detail = f"partitions={plan['num_partitions']} replication={plan['replication_factor']} {settings}"
            made.append(Change(topic["name"], "created", detail))
        return made

    def widen(self, seen: Inspection) -> list[Change]:
        plans = {
            name: seen.partitions
            for name, state in seen.states.items()
            if seen.specs[name].partitioned and _can_widen(state, seen.partitions)
        }
        if not plans:
            return []
        answer = self._client.create_partitions(plans, raise_errors=False)
        for result in answer.results:
            _raise_refusal("add partitions to", result.name, result.error_code, result.error_message)
        return [Change(name, "widened", f"partitions {seen.states[name].partitions} -> {count}") for name, count in plans.items()]

    def alter(self, seen: Inspection) -> list[Change]:
        made: list[Change] = []
        for name, state in seen.states.items():
            if state.settings is None:
                continue
            wrong = {
                setting.key: setting.value
                for setting in _settings_of(seen.specs[name], seen.replication)
                if (found := state.settings.get(setting.key)) is not None and not setting.holds(found)
            }
            if not wrong:
                continue
            answer = self._client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, dict(wrong))])
            result = answer["topic"][name]
            if result != "OK":
                message = f"could not alter {name}: {result}"
                raise TopicAdminError(message, "grant AlterConfigs on the topic to this user")
            made.extend(Change(name, "altered", f"{key} {state.settings[key]} -> {value}") for key, value in wrong.items())
        return made

    def wait_until_shown(self, installation: Installation) -> None:
        """Return when nothing that `apply` mends is left to see: a cluster's metadata follow its controller."""

        def shown() -> bool:
            try:
                seen = self.inspect(installation)
            except KafkaError as error:
                if error.retriable:  # a new partition has no leader yet
                    return False
                raise
            return not any(mismatch.mend == APPLY for mismatch in seen.mismatches)

        if not wait_until(shown, self._timeout_seconds):
            message = f"the cluster did not show its new topics within {self._timeout_seconds:.0f} s"
            raise TopicAdminError(message, "see with `churnwatch topics check` whether it does now")

    def _read(self, specs: Mapping[str, TopicSpec]) -> dict[str, TopicState]:
        described = {name: topic["partitions"] for name, topic in self._describe(specs).items()}
        if not described:
            return {}
        settings = self._read_settings(described)
        return {
            name: TopicState(
                partitions=len(rows),
                replication=min(len(row["replica_nodes"]) for row in rows),
                settings=settings[name],
            )
            for name in specs
            if (rows := described.get(name)) is not None
        }

    def _describe(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        described: dict[str, dict[str, Any]] = {}
        for topic in self._client.describe_topics(list(names)):
            if for_code(topic["error_code"]) is not UnknownTopicOrPartitionError:
                _raise_refusal("describe", topic["name"], topic["error_code"], None)
                described[topic["name"]] = topic
        return described

    def _read_settings(self, names: Iterable[str]) -> dict[str, dict[str, str] | None]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answer = self._client.describe_configs(resources, config_filter="all")["topic"]
        return {resource.name: {key: str(row["value"]) for key, row in answer[resource.name].items()} or None for resource in resources}

    def _with_written(self, states: Mapping[str, TopicState]) -> dict[str, TopicState]:
        """Say of topics whether they ever held a record: their ends are past zero, even when all was deleted since."""
        if not states:
            return {}
        latest = {TopicPartition(name, number): OffsetSpec.LATEST for name, state in states.items() for number in range(state.partitions)}
        ends = self._client.list_partition_offsets(latest)
        written = {partition.topic for partition, end in ends.items() if end.offset > 0}
        return {name: replace(state, was_written=name in written) for name, state in states.items()}


def _kafka_text(topic_id: str | None) -> str:
    """Write a topic's id as Kafka's own tools print it; empty where the cluster is too old (before 2.8) to have given it one."""
    known = UUID(topic_id or str(UUID(int=0)))
    return base64.urlsafe_b64encode(known.bytes).decode().rstrip("=") if known.int else ""


def _raise_refusal(what: str, topic: str, code: int, detail: str | None) -> None:
    if code != 0:
        cause = f"{for_code(code).__name__}: {detail}" if detail else for_code(code).__name__
        message = f"could not {what} {topic}: {cause}"
        raise TopicAdminError(message, "see what this user may do there, and what the cluster's policy allows")


def _unreachable(bootstrap: str, timeout_seconds: float, cause: str) -> ClusterUnreachableError:
    message = f"KAFKA_BOOTSTRAP={bootstrap}: no broker answered within {timeout_seconds:.0f} s: {cause}"
    return ClusterUnreachableError(message, "start one with `churnwatch kafka start`, or give the address of your own")


def _wait_until_connectable(bootstrap: str, timeout_seconds: float) -> None:
    """Return when any of the addresses accepts a connection; kafka-python would log every refusal at length."""
    addresses = [_address(part) for part in bootstrap.split(",")]
    cause = "nothing tried"
    deadline = time.monotonic() + timeout_seconds

    def connectable() -> bool:
        nonlocal cause
        for address in addresses:
            try:
                socket.create_connection(address, timeout=max(deadline - time.monotonic(), 0.001)).close()
            except OSError as error:
                cause = f"{address[0]}:{address[1]}: {error.strerror or error}"
            else:
                return True
        return False

    if not wait_until(connectable, timeout_seconds):
        raise _unreachable(bootstrap, timeout_seconds, cause)


def _address(part: str) -> tuple[str, int]:
    host, separator, port = part.strip().rpartition(":")
    if not separator or not host or not port.isdecimal():
        # The value is not repeated: people put a password before an @.
        raise _setting_error("KAFKA_BOOTSTRAP", "has an address that is not host:port", "give host:port[,host:port]")
    return host.strip("[]"), int(port)
