"""The topics the service reads and writes: one inventory, from which they are created, checked and documented."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, NamedTuple

DEFAULT_APP_ID: Final = "churnwatch"
DEFAULT_PARTITIONS: Final = 4
DEFAULT_REPLICATION_MAX: Final = 3
"""Unless a setting says otherwise, as many replicas as there are brokers, and no more than this."""

WINDOW_DAYS: Final = 98
"""How far back an event can still matter: a ring of 91 days, and 7 days of lateness."""

_DAY_MS: Final = 86_400_000
_LEGAL_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")

Direction = Literal["in", "out", "state"]
Cleanup = Literal["delete", "compact", "compact,delete"]


class Bound(StrEnum):
    """How a topic's setting is held against the one wanted."""

    EXACTLY = "exactly"
    AT_LEAST = "at least"
    AT_MOST = "at most"
    AT_CREATION = "at creation"
    """Given when the topic is created, and its owner's business afterwards."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a topic, in Kafka's own words."""

    key: str
    value: str
    bound: Bound

    def holds(self, found: str) -> bool:
        """Say whether a value found on the cluster is good enough; for numbers -1 is Kafka's word for no limit."""
        if self.bound is Bound.AT_CREATION:
            return True
        if self.key == "cleanup.policy":
            return policies(found) == policies(self.value)
        if self.bound is Bound.EXACTLY:
            return found == self.value
        limits = _limit(found), _limit(self.value)
        return limits[0] >= limits[1] if self.bound is Bound.AT_LEAST else limits[0] <= limits[1]


def policies(cleanup: str) -> frozenset[str]:
    """Return the parts of a cleanup policy: Kafka keeps their order, which means nothing."""
    return frozenset(part.strip() for part in cleanup.split(",") if part.strip())


def _limit(value: str) -> float:
    return float("inf") if value == "-1" else float(value)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic of the inventory.

    `retention_ms` is None where compaction alone rules. `partitioned` topics have the accounts' number of partitions
    (co-partitioned); the others have `partitions`, or the same number when that is None, and are not held to it.
    """

    name: str
    direction: Direction
    key: str
    cleanup: Cleanup
    retention_ms: int | None
    partitioned: bool
    carries: str
    extra: tuple[Setting, ...] = ()
    partitions: int | None = None

    @property
    def is_event_log(self) -> bool:
        """Say whether every record counts, so that compaction would destroy what is needed."""
        return self.cleanup == "delete"

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Return everything the topic should have set, cleanup first."""
        timestamps = "LogAppendTime" if self.direction == "in" else "CreateTime"
        wanted = [
            Setting("cleanup.policy", self.cleanup, Bound.EXACTLY),
            Setting("message.timestamp.type", timestamps, Bound.EXACTLY),
        ]
        if self.retention_ms is not None:
            wanted.append(Setting("retention.ms", str(self.retention_ms), Bound.AT_LEAST))
            wanted.append(Setting("retention.bytes", "-1", Bound.AT_LEAST))
        return (*wanted, *self.extra)


# A stale reader (a worker with an old disk, a console that slept) must still see the tombstone of an erased account,
# and an erased account's older values must be gone in time: the promise is 30 days.
_COMPACTED: Final = (
    Setting("delete.retention.ms", str(7 * _DAY_MS), Bound.AT_LEAST),
    Setting("max.compaction.lag.ms", str(14 * _DAY_MS), Bound.AT_MOST),
    Setting("min.cleanable.dirty.ratio", "0.2", Bound.AT_CREATION),
    Setting("segment.bytes", str(128 << 20), Bound.AT_CREATION),
)


def _input(name: str, carries: str, days: int = 100) -> TopicSpec:
    """Return an input keyed by account.

    Its timestamps are the broker's (`LogAppendTime`): they are the `received_at` that no sender can falsify, and a
    replay of last quarter's events is not deleted by retention the moment it arrives.
    """
    return TopicSpec(name, "in", "account id", "delete", days * _DAY_MS, partitioned=True, carries=carries)


TOPICS: Final[tuple[TopicSpec, ...]] = (
    _input("usage-events", "product usage"),
    _input("ticket-events", "support tickets"),
    _input("payment-events", "subscriptions, invoices, charges, refunds"),
    _input("survey-events", "NPS, CSAT, CES answers, free-text feedback"),
    _input("account-events", "account facts, users, trials, contracts, referrals, CSM touchpoints"),
    # Few, and some count for as long as the months that they bear upon: the portfolio has two years of these.
    _input("account-commands", "what people decide: overrides, acknowledge, snooze, erase, outcomes; and activations", days=800),
    TopicSpec(
        name="cost-events",
        direction="in",
        key="_costs",
        cleanup="delete",
        retention_ms=100 * _DAY_MS,
        partitioned=False,
        carries="acquisition, retention and delivery costs of the portfolio",
        partitions=1,  # one key, so one partition holds them all
    ),
    TopicSpec(
        name="health-scores",
        direction="out",
        key="account id",
        cleanup="compact",
        retention_ms=None,
        partitioned=True,
        carries="the latest assessment of each account",
        extra=_COMPACTED,
    ),
    TopicSpec(
        name="churn-alerts",
        direction="out",
        key="account id",
        cleanup="delete",
        retention_ms=90 * _DAY_MS,
        partitioned=True,
        carries="alert life-cycle events, for people's channels and downstream consumers",
    ),
    TopicSpec(
        name="alert-state",
        direction="out",
        key="account id",
        cleanup="compact",
        retention_ms=None,
        partitioned=True,
        carries="the latest alert state of each account: the fold of churn-alerts",
        extra=_COMPACTED,
    ),
    TopicSpec(
        name="portfolio-metrics",
        direction="out",
        key="partition/month/segment",
        cleanup="compact",
        retention_ms=None,
        partitioned=False,
        carries="additive roll-ups, from which every portfolio KPI is a sum and a ratio",
        extra=_COMPACTED,
    ),
    TopicSpec(
        name="alert-deliveries",
        direction="out",
        key="notification id",
        cleanup="compact,delete",
        retention_ms=90 * _DAY_MS,
        partitioned=False,
        carries="the schedule and outcome of each delivery",
        extra=_COMPACTED,
    ),
    TopicSpec(
        name="audit-log",
        direction="out",
        key="account id",
        cleanup="delete",
        retention_ms=365 * _DAY_MS,
        partitioned=True,
        carries="who decided what, when, old and new",
    ),
    TopicSpec(
        name="dead-letters",
        direction="out",
        key="the record's own key",
        cleanup="delete",
        retention_ms=30 * _DAY_MS,
        partitioned=False,
        carries="every input that could not be used, with the reason",
        # A record of the usual limit (1 MiB) must still fit with the headers that say why it is here.
        extra=(Setting("max.message.bytes", str(2 << 20), Bound.AT_LEAST),),
    ),
    TopicSpec(
        name="dlq-replays",
        direction="out",
        key="place of the dead letter",
        cleanup="compact",  # kept as long as the dead letters are: a replay takes away what has outlived its letter
        retention_ms=None,
        partitioned=False,
        carries="which dead letters were replayed, so that none is sent twice",
        extra=_COMPACTED,
        partitions=1,
    ),
)
"""Every topic of the event contract (spec/events.md section 1), inputs first, and those of our own tools."""


MESSAGE_BYTES_MIN: Final = 900_000
"""What a topic that a worker writes must take at once: as much as a worker sends."""


def changelog(app_id: str = DEFAULT_APP_ID) -> TopicSpec:
    """Return the changelog of the account table: the truth about every account's state, so it is never deleted from.

    Raises `ValueError` for an application id that Kafka cannot have in a name.
    """
    return TopicSpec(
        name=_legal(f"{app_id}-accounts-changelog"),
        direction="state",
        key="account id",
        cleanup="compact",
        retention_ms=None,
        partitioned=True,
        carries="the state of each account and the cursor of each partition",
        extra=(*_COMPACTED, Setting("max.message.bytes", str(8 << 20), Bound.AT_LEAST)),
    )


def topic_name(prefix: str, name: str) -> str:
    """Return the topic's name on the cluster: `<prefix>.<name>`, or the bare name when there is no prefix.

    Raises `ValueError` for a prefix that Kafka cannot have in a name.
    """
    return _legal(f"{prefix}.{name}" if prefix else name)


class Log(NamedTuple):
    """A topic as it is on the cluster now: its id, which a topic of the same name made anew does not have, and its partitions."""

    topic_id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Installation:
    """What tells one installation's topics from another's on the same cluster, and how they are laid out.

    `partitions` None takes the number the inputs have already (4 when there are none); `replication` None takes as
    many replicas as there are brokers, and no more than 3.
    """

    prefix: str = ""
    app_id: str = DEFAULT_APP_ID
    partitions: int | None = None
    replication: int | None = None

    def topics(self) -> dict[str, TopicSpec]:
        """Return what should be on the cluster, by its name there: the contract's topics, then the changelog.

        Raises `ValueError` for a prefix or application id that Kafka cannot have in a name.
        """
        state = changelog(self.app_id)
        return {topic_name(self.prefix, spec.name): spec for spec in TOPICS} | {state.name: state}


def _legal(name: str) -> str:
    if _LEGAL_NAME.fullmatch(name) is None or name in {".", ".."}:
        message = f"{name!r} is no name for a topic: letters, digits, '.', '_' and '-' only, 249 at most"
        raise ValueError(message)
    return name
