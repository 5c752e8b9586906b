"""The topic inventory, and the judgement of a cluster against it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_app.admin import APPLY, Kind, Mismatch, Severity, TopicState, TopicsUnfitError, judge
from stream_app.topics import TOPICS, WINDOW_DAYS, Bound, Installation, Setting, changelog, topic_name

_DAY_MS = 86_400_000
_SPECS = Installation().topics()


def _as_wanted(partitions: int = 4, replication: int = 3) -> dict[str, TopicState]:
    """Return a cluster that has everything as the inventory wants it."""
    return {
        name: TopicState(
            partitions=spec.partitions or partitions,
            replication=replication,
            settings={setting.key: setting.value for setting in spec.settings} | {"min.insync.replicas": "2"},
        )
        for name, spec in _SPECS.items()
    }


def _with(states: dict[str, TopicState], topic: str, **settings: str) -> dict[str, TopicState]:
    """Return the cluster with some settings of one topic changed."""
    known = states[topic].settings or {}
    changed = {key.replace("_", "."): value for key, value in settings.items()}
    return states | {topic: replace(states[topic], settings={**known, **changed})}


def _only(states: dict[str, TopicState], partitions: int = 4, replication: int = 3) -> Mismatch:
    """Return the one mismatch there must be."""
    (mismatch,) = judge(_SPECS, states, partitions, replication)
    return mismatch


class TestInventory:
    """The inventory is the event contract's."""

    def test_it_has_the_contracts_fourteen_topics_and_one_of_our_own(self) -> None:
        """Seven are read and eight written, and no name is there twice."""
        names = [spec.name for spec in TOPICS]
        assert len(set(names)) == len(names) == 15
        assert [spec.name for spec in TOPICS if spec.direction == "in"] == [
            "usage-events",
            "ticket-events",
            "payment-events",
            "survey-events",
            "account-events",
            "account-commands",
            "cost-events",
        ]

    def test_every_topic_keyed_by_account_is_co_partitioned_and_no_other(self) -> None:
        """An account's records meet in one partition number on all of them."""
        assert {spec.name for spec in TOPICS if spec.partitioned} == {spec.name for spec in TOPICS if spec.key == "account id"}

    def test_inputs_are_kept_longer_than_the_window_and_stamped_by_the_broker(self) -> None:
        """A rebuild from the inputs sees all that still counts."""
        for spec in TOPICS:
            if spec.direction == "in":
                assert spec.retention_ms is not None
                assert spec.retention_ms >= WINDOW_DAYS * _DAY_MS
                assert Setting("message.timestamp.type", "LogAppendTime", Bound.EXACTLY) in spec.settings

    def test_compaction_alone_has_no_retention(self) -> None:
        """What is compacted is kept until its key is erased."""
        for spec in (*TOPICS, changelog()):
            assert (spec.retention_ms is None) == (spec.cleanup == "compact")

    def test_a_prefix_goes_before_every_topic_and_the_changelog_bears_the_application_id(self) -> None:
        """Two installations on a cluster never share a topic."""
        names = set(Installation(prefix="eu", app_id="churn-eu").topics())
        assert "eu.usage-events" in names
        assert "churn-eu-accounts-changelog" in names
        assert names.isdisjoint(Installation().topics())

    def test_without_a_prefix_a_name_is_bare(self) -> None:
        """The default installation uses the contract's own names."""
        assert topic_name("", "usage-events") == "usage-events"

    @pytest.mark.parametrize("prefix", ["a b", "../..", "ü", "x" * 250])
    def test_a_prefix_kafka_cannot_have_is_refused(self, prefix: str) -> None:
        """The error shows the name."""
        with pytest.raises(ValueError, match="is no name for a topic"):
            topic_name(prefix, "usage-events")


class TestJudge:
    """Each kind of mismatch is told with what is, what should be and the mend."""

    def test_a_cluster_as_wanted_has_none(self) -> None:
        """Nothing is said when there is nothing to say."""
        assert judge(_SPECS, _as_wanted(), 4, 3) == []

    def test_more_than_wanted_is_no_mismatch(self) -> None:
        """Longer retention and more copies are the owner's choice, and the order of policies means nothing."""
        states = _with(_as_wanted(replication=4), "usage-events", retention_ms="-1")
        states = _with(states, "alert-deliveries", cleanup_policy="delete,compact")
        assert judge(_SPECS, states, 4, 3) == []

    def test_a_missing_topic_stops_a_worker(self) -> None:
        """It would idle without saying why."""
        states = _as_wanted()
        del states["survey-events"]
        mismatch = _only(states)
        assert (mismatch.topic, mismatch.kind, mismatch.mend) == ("survey-events", Kind.MISSING, APPLY)
        assert mismatch.is_error

    @pytest.mark.parametrize("topic", ["usage-events", "account-commands", "churn-alerts", "audit-log", "dead-letters"])
    def test_a_compacted_log_stops_a_worker(self, topic: str) -> None:
        """Compaction would keep one event of each account and destroy the others."""
        mismatch = _only(_with(_as_wanted(), topic, cleanup_policy="compact"))
        assert (mismatch.kind, mismatch.severity) == (Kind.CLEANUP, Severity.ERROR)
        assert (mismatch.found, mismatch.expected, mismatch.mend) == ("cleanup.policy=compact", "delete", APPLY)

    @pytest.mark.parametrize("cleanup", ["delete", "compact,delete"])
    def test_a_changelog_that_is_deleted_from_stops_a_worker(self, cleanup: str) -> None:
        """Quiet accounts would lose their state."""
        mismatch = _only(_with(_as_wanted(), "churnwatch-accounts-changelog", cleanup_policy=cleanup))
        assert (mismatch.kind, mismatch.severity) == (Kind.CLEANUP, Severity.ERROR)

    @pytest.mark.parametrize(("limit", "severity"), [("899999", Severity.ERROR), ("900000", Severity.WARNING)])
    def test_a_changelog_that_takes_less_than_is_sent_at_once_stops_a_worker(self, limit: str, severity: Severity) -> None:
        """Every checkpoint would be refused; a limit that only large accounts reach is a warning."""
        mismatch = _only(_with(_as_wanted(), "churnwatch-accounts-changelog", max_message_bytes=limit))
        assert (mismatch.severity, mismatch.mend) == (severity, APPLY)

    def test_an_output_that_is_not_compacted_is_a_warning(self) -> None:
        """Its readers lose quiet accounts; the worker loses nothing."""
        mismatch = _only(_with(_as_wanted(), "health-scores", cleanup_policy="delete"))
        assert (mismatch.kind, mismatch.severity) == (Kind.CLEANUP, Severity.WARNING)

    @pytest.mark.parametrize(
        ("topic", "setting", "found", "kind"),
        [
            ("usage-events", "retention.ms", str(7 * _DAY_MS), Kind.RETENTION),
            ("usage-events", "retention.bytes", "1073741824", Kind.RETENTION),
            ("payment-events", "message.timestamp.type", "CreateTime", Kind.TIMESTAMP_TYPE),
            ("churn-alerts", "message.timestamp.type", "LogAppendTime", Kind.TIMESTAMP_TYPE),
            ("alert-state", "delete.retention.ms", str(_DAY_MS), Kind.SETTING),
            ("alert-state", "max.compaction.lag.ms", "9223372036854775807", Kind.SETTING),
            ("dead-letters", "max.message.bytes", "1048588", Kind.SETTING),
            ("churnwatch-accounts-changelog", "min.insync.replicas", "1", Kind.SETTING),
        ],
    )
    def test_a_setting_short_of_what_is_wanted_is_a_warning(self, topic: str, setting: str, found: str, kind: Kind) -> None:
        """A worker can run on it, and its owner ought to know."""
        mismatch = _only(_with(_as_wanted(), topic, **{setting: found}))
        assert (mismatch.topic, mismatch.kind, mismatch.severity) == (topic, kind, Severity.WARNING)
        assert mismatch.found == f"{setting}={found}"
        assert mismatch.mend == APPLY

    def test_too_few_copies_are_a_warning(self) -> None:
        """Moving partitions between brokers is the cluster owner's work, so the mend is his tool."""
        states = _as_wanted()
        mismatch = _only(states | {"alert-state": replace(states["alert-state"], replication=1)})
        assert (mismatch.kind, mismatch.severity) == (Kind.REPLICATION, Severity.WARNING)
        assert "kafka-reassign-partitions.sh" in mismatch.mend

    def test_settings_that_may_not_be_read_are_a_warning(self) -> None:
        """A worker with few rights still starts."""
        states = _as_wanted()
        mismatch = _only(states | {"alert-state": replace(states["alert-state"], settings=None)})
        assert (mismatch.kind, mismatch.severity) == (Kind.UNREADABLE, Severity.WARNING)

    def test_a_topic_of_other_partitions_than_the_rest_stops_a_worker(self) -> None:
        """An account's events would meet another account's state; with records in it, only fresh topics mend it."""
        states = _as_wanted()
        mismatch = _only(states | {"ticket-events": replace(states["ticket-events"], partitions=2)})
        assert (mismatch.kind, mismatch.severity, mismatch.found) == (Kind.PARTITIONS, Severity.ERROR, "2")
        assert "CHURNWATCH_TOPIC_PREFIX" in mismatch.mend

    def test_a_topic_that_was_never_written_to_can_be_widened(self) -> None:
        """No record can be parted from its state."""
        states = _as_wanted()
        mismatch = _only(states | {"ticket-events": replace(states["ticket-events"], partitions=1, was_written=False)})
        assert (mismatch.severity, mismatch.mend) == (Severity.ERROR, APPLY)

    def test_a_changelog_of_other_partitions_is_mended_by_a_new_application_id(self) -> None:
        """The state can be rebuilt from the inputs, so the inputs need not move."""
        states = _as_wanted()
        name = "churnwatch-accounts-changelog"
        mismatch = _only(states | {name: replace(states[name], partitions=8)})
        assert mismatch.is_error
        assert "CHURNWATCH_APP_ID" in mismatch.mend

    def test_other_partitions_than_the_setting_but_the_same_everywhere_are_a_warning(self) -> None:
        """What is there works; the setting is what is wrong."""
        mismatches = judge(_SPECS, _as_wanted(partitions=4), 8, 3)
        assert {mismatch.kind for mismatch in mismatches} == {Kind.PARTITIONS}
        assert not any(mismatch.is_error for mismatch in mismatches)
        assert all("CHURNWATCH_PARTITIONS" in mismatch.mend for mismatch in mismatches)

    def test_topics_not_keyed_by_account_may_have_any_number_of_partitions(self) -> None:
        """Nobody joins them with an account's state."""
        states = _as_wanted()
        assert judge(_SPECS, states | {"dead-letters": replace(states["dead-letters"], partitions=12)}, 4, 3) == []

    def test_errors_come_first_and_the_refusal_says_only_them(self) -> None:
        """The reader of a worker's last words sees what stopped it."""
        states = _with(_as_wanted(), "usage-events", retention_ms="1000")
        del states["dead-letters"]
        mismatches = judge(_SPECS, states, 4, 3)
        assert [mismatch.severity for mismatch in mismatches] == [Severity.ERROR, Severity.WARNING]
        assert str(TopicsUnfitError(mismatches)) == (
            "the topics are not fit for a worker: [1] dead-letters: missing: found nothing, "
            "expected 4 partitions, cleanup delete; mend: churnwatch topics apply"
        )
