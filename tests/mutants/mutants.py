"""The mutants: each an exact replacement of text in one file, why somebody could write it, and the tests that must find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MODEL: Final = "tests/unit/test_state_machine.py"
AT_A_POINT: Final = f"{MODEL}::test_whatever_happens_at_a_point_is_made_good"
NO_FAULT: Final = f"{MODEL}::test_the_product_runs_on_the_model"


@dataclass(frozen=True, slots=True)
class Mutant:
    """`changes` are pairs of a text that occurs once in `file` and what takes its place; `tests` are those to run."""

    name: str
    why: str
    file: str
    changes: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


MUTANTS: Final = (
    Mutant(
        "store-before-commit",
        "the local store is written before the transaction is committed: after a crash in between it says what never happened",
        "stream_app/checkpoints.py",
        (
            ('        await writer.commit()\n        failpoint("after_commit")\n', ""),
            (
                '        failpoint("after_store")\n',
                '        await writer.commit()\n        failpoint("after_commit")\n        failpoint("after_store")\n',
            ),
        ),
        (AT_A_POINT,),
    ),
    Mutant(
        "cursor-outside-the-transaction",
        "the rows are committed, then the cursor: after a crash in between the events are applied again",
        "stream_app/checkpoints.py",
        (
            (
                "(names.changelog, part.changelog)",
                '(names.changelog, [each for each in part.changelog if each[0] != b"\\x00cursor"])',
            ),
            (
                '        failpoint("after_commit")\n',
                (
                    '        failpoint("after_commit")\n        await writer.begin()\n'
                    '        cursor = [each for each in stored if each[0] == b"\\x00cursor"]\n'
                    "        await send(writer.producer, self._app.names.changelog, partition.number, cursor, 0)\n"
                    "        await writer.commit()\n"
                ),
            ),
        ),
        (AT_A_POINT,),
    ),
    Mutant(
        "fence-after-the-end-was-read",
        "the previous owner is fenced only when the recovery has begun: what it commits until then is never read",
        "stream_app/recovery.py",
        (
            ("            await app.producers.own(actives)\n", ""),
            (
                "        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)\n",
                (
                    "        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)\n"
                    "        await app.producers.own(actives)\n"
                ),
            ),
        ),
        (f"{MODEL}::test_what_a_predecessor_commits_until_it_is_fenced_is_recovered",),
    ),
    Mutant(
        "decided-not-marked",
        "what the broker decided and did not mark is not settled when a partition is taken over: it is read too late",
        "stream_app/producers.py",
        (
            (
                "            writers[name].settle(is_commit=is_commit, places=[place for place in places[name] if place in full])\n",
                "            asyncio.sleep(0 * is_commit)\n",
            ),
        ),
        (f"{MODEL}::test_what_the_broker_forgot_to_mark_counts_once",),
    ),
    Mutant(
        "lost-connection-not-noticed",
        "a worker goes on after its connection was lost, and does not settle what the broker may have left without a mark",
        "stream_app/producers.py",
        (("        self._lost += 1\n", ""),),
        (f"{MODEL}::test_what_the_broker_forgot_to_mark_counts_once",),
    ),
    Mutant(
        "queue-cleared-after-the-seek",
        "Faust's own order: the queues are cleared when the inputs are read again already",
        "stream_app/recovery.py",
        (
            (
                (
                    "        if app.flow_control.is_active():\n            app.flow_control.clear()\n        else:\n"
                    "            app.flow_control.resume()\n"
                ),
                "",
            ),
            ("            await self._serve()\n", "            await self._serve()\n            app.flow_control.resume()\n"),
        ),
        (NO_FAULT, AT_A_POINT),
    ),
    Mutant(
        "decode-error-swallowed",
        "what cannot be decoded is passed over: no dead letter, and the cursor does not count it",
        "stream_app/pipeline.py",
        (("        for rejected in decoded.rejected:\n", "        for rejected in decoded.rejected[:0]:\n"),),
        (NO_FAULT,),
    ),
    Mutant(
        "exception-acknowledged",
        "an exception in an agent is logged, and the agent goes on with the next batch, as Faust's own would",
        "stream_app/agents.py",
        (
            (
                "  # noqa: BLE001 - crash-only: Faust would acknowledge the batch and go on\n                app.fail(error)\n",
                '\n                app.log.error("%r", error)\n',
            ),
        ),
        (f"{MODEL}::test_a_lost_batch_ends_the_worker",),
    ),
    Mutant(
        "nan-not-filtered",
        "NaN and Infinity are read as numbers",
        "models/decoding.py",
        (
            (
                "    values = [record.value for record in records]\n",
                '    values = [record.value and record.value.replace(b"NaN", b"0").replace(b"Infinity", b"0") for record in records]\n',
            ),
        ),
        ("tests/unit/test_decoding.py::test_what_cannot_be_used_has_its_reason",),
    ),
    Mutant(
        "dedupe-dropped",
        "an event of a part that is known is applied once more",
        "models/fold.py",
        (("        if repeated is not None:\n", "        if repeated is False:\n"),),
        ("tests/unit/test_fold_oracle.py::test_records_sent_again_change_nothing_but_the_count_of_duplicates",),
    ),
    Mutant(
        "usage-dedupe-dropped",
        "the ids of earlier batches are not looked at for usage",
        "models/usage.py",
        (("is_known.any(axis=1) if is_known.any() else np.zeros(len(slots), np.bool_)", "np.zeros(len(slots), np.bool_)"),),
        ("tests/unit/test_fold_oracle.py::test_records_sent_again_change_nothing_but_the_count_of_duplicates",),
    ),
    Mutant(
        "alert-id-from-the-clock",
        "an alert's id is made of the moment: said again after a crash it is another alert",
        "alerts/events.py",
        (
            (
                '    digest = sha256(f"{account_id}|{episode}".encode()).digest()\n',
                "    digest = sha256(f\"{account_id}|{__import__('time').time_ns()}\".encode()).digest()\n",
            ),
        ),
        ("tests/unit/test_alert_events.py::test_the_identities_are_golden", NO_FAULT),
    ),
    Mutant(
        "store-not-flushed",
        "what a recovery wrote without the store's log is not flushed before checkpoints are written with it",
        "stream_app/recovery.py",
        (("        store._db_for_partition(partition.number).flush()\n", "        store._db_for_partition(partition.number)\n"),),
        (f"{MODEL}::test_a_kill_after_a_recovery_from_the_changelog_loses_nothing",),
    ),
    Mutant(
        "generation-not-checked",
        "a batch of before a rebalance is folded after it",
        "stream_app/app.py",
        (
            (
                "batch.generation != self.consumer_generation_id or not consumer.flow_active or batch.epoch < consumer.epoch_wanted",
                "not consumer.flow_active",
            ),
        ),
        (f"{MODEL}::test_batches_of_before_a_rebalance_count_for_nothing",),
    ),
    Mutant(
        "gap-not-looked-for",
        "a batch is taken wherever it begins",
        "stream_app/app.py",
        (("            if batch.start > expected:\n", "            if batch.start > expected + 1_000_000:\n"),),
        (f"{MODEL}::test_a_lost_batch_ends_the_worker",),
    ),
    Mutant(
        "first-gap-not-looked-for",
        "the first batch of a topic is taken wherever it begins",
        "stream_app/app.py",
        (("consumer.durable.get(batch.tp) if position is None else position.offset", "None if position is None else position.offset"),),
        (f"{MODEL}::test_a_lost_batch_ends_the_worker",),
    ),
    Mutant(
        "memory-kept-over-a-rebalance",
        "what was folded and could not be committed stays in memory when partitions are assigned anew",
        "stream_app/recovery.py",
        (
            (
                "            cursor = await self._load(generation_id)\n",
                "            cursor = {} if app.partitions else await self._load(generation_id)\n",
            ),
            ("        app.disown()\n", ""),
        ),
        (NO_FAULT, AT_A_POINT),
    ),
    Mutant(
        "uncommitted-records-read",
        "inputs are read before their transaction is committed",
        "stream_app/transport.py",
        (("        self.consumer.in_transaction = True  #", "        self.consumer.in_transaction = False  #"),),
        ("tests/contract/test_faust_members.py::test_the_fetch_settings_reach_the_fetcher",),
    ),
    Mutant(
        "recovery-ends-at-once",
        "the end signal of the recovery before is not cleared",
        "stream_app/recovery.py",
        (("        self.signal_recovery_end.clear()\n", ""),),
        (f"{MODEL}::test_a_recovery_waits_for_a_slow_changelog",),
    ),
    Mutant(
        "markers-awaited-for-ever",
        "commit markers at the end of a changelog are waited for, though no reader ever gets one",
        "stream_app/recovery.py",
        (("                self.active_offsets[tp] = highwater\n", "                pass\n"),),
        (AT_A_POINT,),
    ),
    Mutant(
        "store-ahead-of-itself",
        "the local store says that it has more of the changelog than it has",
        "stream_app/checkpoints.py",
        (("        batch.put(store.offset_key, str(last).encode())\n", "        batch.put(store.offset_key, str(last + 9).encode())\n"),),
        (AT_A_POINT,),
    ),
    Mutant(
        "dead-letters-said-again",
        "dead letters stay with the partition after they were taken",
        "stream_app/pipeline.py",
        (
            (
                "        self._changed_parts = set()\n        self._dead_letters = []\n",
                "        self._changed_parts = set()\n        self._dead_letters = list(self._dead_letters)\n",
            ),
        ),
        (NO_FAULT,),
    ),
    Mutant(
        "late-by-a-microsecond",
        "an event that is exactly seven days older counts as late",
        "models/usage.py",
        (
            ("    if newest != NEVER and time < newest - GRACE_US:\n", "    if newest != NEVER and time <= newest - GRACE_US:\n"),
            ("    if times.min() < max(", "    if times.min() <= max("),
            ("suspect | (times < reached", "suspect | (times <= reached"),
        ),
        ("tests/unit/test_fold_oracle.py::test_an_event_exactly_seven_days_older_counts_and_a_microsecond_more_is_late",),
    ),
)
