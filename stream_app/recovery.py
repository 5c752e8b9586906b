"""Recovery of the account table: fence the previous owner first, then read its changelog, then seek the inputs to the cursor.

The order is what makes the state exact. A partition's transactional producer is started before anyone looks at where its changelog
ends, so that nothing can be written behind our back; the cursor that is read from the recovered state is then the last one there is.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import rocksdict
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

from stream_app.exits import RestartNeeded, StateMustBeRebuilt
from stream_app.failpoints import failpoint
from stream_app.local_store import LocalStore, StoreDamagedError, damage_told, written_or_put_aside
from stream_app.pipeline import Partition, Position
from stream_app.topics import Log
from stream_app.unfinished import refuse_unfinished

if TYPE_CHECKING:
    from stream_app.app import ChurnwatchApp

TELL_SECONDS = 5.0
"""How often a long recovery says in the log how far it is."""


def _without_log() -> rocksdict.WriteOptions:
    options = rocksdict.WriteOptions()
    options.disable_wal = True
    return options


WITHOUT_LOG = _without_log()


class RecoveryIncompleteError(Exception):
    """A recovery ended before the changelog was read to its end."""


class BatchRecovery(Recovery):
    """Faust's recovery with our own apply, end and seek."""

    app: "ChurnwatchApp"
    _told_at = 0.0

    async def on_rebalance(self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0) -> None:
        """Forget what is in memory, fence the previous owners, and only then begin to recover."""
        app = self.app
        actives = {tp.partition for tp in app.assignor.assigned_actives() if tp.topic in self.tables._changelogs}
        app.metrics.rebalanced()
        app.metrics.assigned(actives)
        app.disown()
        app.consumer.folded.clear()
        app.consumer.delivered.clear()
        app.consumer.ends.clear()
        self.active_highwaters.clear()
        try:
            await app.producers.own(actives)
            failpoint("after_fencing")
            await app.inspect_logs()
        except Exception as error:  # noqa: BLE001 - whatever it is, this worker cannot own its partitions
            app.fail(error)
        app.health_state.joined(generation_id, actives, app.clock.monotonic())
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def _set_recovery_started(self) -> None:
        # The end signal of the recovery before stays set (stock Faust clears it in the task that is replaced below): this recovery would
        # end at once. Faust calls this again, with no await in between, right before it waits for the signal.
        super()._set_recovery_started()
        self.signal_recovery_end.clear()

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:
        try:
            await self._check_copies(consumer, tps, destination)
            await super()._build_offsets(consumer, tps, destination, title)
            if title == "active":
                await self._check_changelogs(consumer, tps, destination)
                self._tell_progress()
        except StateMustBeRebuilt as error:
            self.app.fail(error)

    async def _check_copies(self, consumer: Any, tps: set[TP], destination: Any) -> None:
        """Put aside the local stores that are copies of another changelog than the one there is now.

        Raises StateMustBeRebuilt where the changelog is empty: then such a store is all that is left of the state.
        """
        for tp in sorted(tps):
            store, topic_id = self._store(tp), self.app.logs[tp.topic].topic_id
            known = store.changelog_id(tp.partition)
            if known and topic_id and known != topic_id and destination[tp] is not None:
                if not (await consumer.highwaters(tp))[tp]:
                    raise StateMustBeRebuilt(
                        f"the local store has state of partition {tp.partition}, but its changelog {tp.topic} was made anew and is empty"
                    )
                store.put_aside(tp.partition, f"it is a copy of the topic {known}, and {tp.topic} is now the topic {topic_id}")
                destination[tp] = None
            if known != topic_id:
                store.note_changelog(tp.partition, topic_id)

    async def _check_changelogs(self, consumer: Any, tps: set[TP], destination: Any) -> None:
        """Hold where the changelogs begin and end against the local stores.

        Raises StateMustBeRebuilt where records were taken away: a log that is only compacted begins at 0 for ever.
        """
        begins = await consumer.earliest_offsets(*tps) if tps else {}
        for tp in sorted(tps):
            # Faust would end with a traceback here; before the log's first record its offset is -1, as is the end of an empty one.
            have, end = destination[tp], self.active_highwaters[tp]
            if have > end:
                raise StateMustBeRebuilt(
                    f"the local store has {tp.topic} partition {tp.partition} up to offset {have}, but its log ends at {end}: "
                    f"the changelog was deleted, cut or made anew"
                )
            if begins[tp]:
                raise StateMustBeRebuilt(
                    f"{tp.topic} partition {tp.partition} begins at offset {begins[tp]}: records were deleted from it, and with them state"
                )

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Stay idle: changelog records come in batches through `apply`, never through Faust's queue."""
        await self.wait_until_stopped()

    def _store(self, tp: TP) -> LocalStore:
        return cast("LocalStore", self.tp_to_table[tp].data)

    def note_positions(self, positions: Mapping[TP, int]) -> None:
        """Take the fetch positions for what was read: commit markers at the end of a changelog are never delivered."""
        if not self.in_recovery:
            return
        for tp, highwater in self.active_highwaters.items():
            offset = self.active_offsets[tp]
            if highwater is not None and positions.get(tp, -1) > highwater and (-1 if offset is None else offset) < highwater:
                self.active_offsets[tp] = highwater
        self._maybe_end()

    def apply(self, tp: TP, records: Iterable[Any]) -> None:
        """Write changelog records straight into the local store, with the offset of the last."""
        if tp in self.active_tps:
            if not self.in_recovery:
                return  # a fetch that was under way when the recovery ended
            offsets = self.active_offsets
        elif tp in self.standby_tps:
            offsets = self.standby_offsets
        else:
            return
        seen = -1 if offsets[tp] is None else offsets[tp]
        last = seen
        batch = rocksdict.WriteBatch(raw_mode=True)
        for record in records:
            if record.offset > last:
                if record.value is None:
                    batch.delete(record.key)
                else:
                    batch.put(record.key, record.value)
                last = record.offset
        if last > seen:
            store = self._store(tp)
            batch.put(store.offset_key, str(last).encode())
            # Without the store's own log: a crash loses rows and offset together, and the recovery is done again from the offset before.
            with written_or_put_aside(store, tp.partition):
                store._db_for_partition(tp.partition).write(batch, WITHOUT_LOG)
            offsets[tp] = last
        if tp in self.active_tps:
            failpoint("in_recovery")
            self._maybe_end()
        elif not self.tables.standbys_ready and not self.standby_remaining_total():
            self.tables.on_standbys_ready()

    def _tell_progress(self) -> None:
        """Say how far the recovery is: to the probes and the metrics always, in the log now and then."""
        now = self.app.clock.monotonic()
        need = sum(highwater + 1 for highwater in self.active_highwaters.values() if highwater is not None)
        remaining = self.active_remaining_total()
        have = max(need - remaining, 0)
        self.app.health_state.recovering(have, need, now)
        self.app.metrics.recovering(remaining)
        if remaining and now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            self.log.info("Recovering: %s of %s changelog records (%s %%)", have, need, 100 * have // need)

    def _maybe_end(self) -> None:
        self._tell_progress()
        if not self.need_recovery():
            self._set_recovery_ended()
            self.signal_recovery_end.set()

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Load the recovered accounts into memory, seek the inputs to the cursors, and go on."""
        app, consumer = self.app, self.app.consumer
        if app.consumer_generation_id != generation_id:
            return  # another rebalance has begun, and with it another recovery
        self._require_whole()
        await app.on_rebalance_complete.send()
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
        if app.consumer_generation_id != generation_id:
            return
        try:
            cursor = await self._load(generation_id)
        except Exception as error:  # a state that cannot be read must never be taken for an empty one
            app.fail(error)
            raise
        if app.consumer_generation_id != generation_id:
            return
        if cursor is None:
            consumer.stop_flow()  # what is being fetched now is of the recovery before
            self.signal_recovery_start.set()
            return
        if app.flow_control.is_active():
            app.flow_control.clear()
        else:
            app.flow_control.resume()
        consumer.resume_flow()
        if consumer.assignment():
            await self._wait(self._seek(cursor), timeout=app.conf.broker_request_timeout)
        if app.consumer_generation_id == generation_id:
            await self._serve()

    def _require_whole(self) -> None:
        if self.need_recovery() or not self.active_tps <= self.active_highwaters.keys():
            self.app.fail(RecoveryIncompleteError(f"recovery ended early: {self.active_remaining()} of {sorted(self.active_tps)}"))

    async def _serve(self) -> None:
        """Read the inputs from where they were sought to."""
        app, consumer = self.app, self.app.consumer
        if consumer.batch_thread.epoch < consumer.epoch_wanted:  # Faust goes on after a timeout as if nothing had happened
            app.fail(RestartNeeded("the inputs could not be sought to their cursors in time"))
        app.is_serving = True
        consumer.resume_partitions({tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)})
        self.completed.set()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        if not app.assignor.assigned_standbys():
            self.tables.on_standbys_ready()
        app.on_rebalance_end()
        app.health_state.recovered()
        app.metrics.recovering(None)
        self.log.info("Worker ready: partitions %s", sorted(app.partitions))

    async def _seek(self, cursor: Mapping[TP, int]) -> None:
        try:
            await self.app.consumer.seek_sources(cursor)
        except Exception as error:
            self.app.fail(error)
            raise

    async def _load(self, generation_id: int) -> dict[TP, int] | None:
        """Put every recovered account into its partition's columns; the cursors, by input partition.

        None when a local store turned out to be damaged: it is put aside, and the recovery must be done again.
        """
        app = self.app
        cursor: dict[TP, int] = {}
        is_sound = True
        for tp in sorted(self.active_tps):
            if app.consumer_generation_id != generation_id:
                break
            store = self._store(tp)
            partition = Partition(tp.partition, app.definition)
            try:
                await app.loop.run_in_executor(None, _restore, partition, store)
            except StoreDamagedError as error:
                store.put_aside(tp.partition, str(error))
                self.active_offsets[tp] = None
                is_sound = False
                continue
            hold_logs(partition, app.logs)
            app.own(partition)
            for topic, position in partition.positions.items():
                cursor[TP(topic, tp.partition)] = position.offset
        return cursor if is_sound else None


def _restore(partition: Partition, store: LocalStore) -> None:
    """Take what a local store holds into memory; raises StoreDamagedError, and StateMustBeRebuilt when it is not whole."""
    with damage_told():
        # What follows is written with the store's log, which must not begin before what it follows on.
        store._db_for_partition(partition.number).flush()
    refuse_unfinished(partition.number, store.mark_of(partition.number))
    partition.restore(store.items_of(partition.number), store.cursor_of(partition.number))


def hold_logs(partition: Partition, logs: Mapping[str, Log]) -> None:
    """Hold the positions of a partition against the topics as they are now, and let the partition know these.

    Raises StateMustBeRebuilt for a position in another log. A position that does not say in which log it is, is taken to be in this one.
    """
    for topic, position in partition.positions.items():
        if topic in logs:
            _hold_log(topic, partition.number, position, logs[topic])
    partition.logs = logs


def _hold_log(topic: str, number: int, position: Position, log: Log) -> None:
    if position.topic_id and position.topic_id != log.topic_id:
        raise StateMustBeRebuilt(
            f"partition {number} was folded from the topic {topic} with the id {position.topic_id}, and {topic} has the id {log.topic_id} "
            f"now: it was deleted and made anew"
        )
    if position.partitions and position.partitions != log.partitions:
        raise StateMustBeRebuilt(
            f"partition {number} was folded when {topic} had {position.partitions} partitions, and it has {log.partitions} now: "
            f"accounts have moved away from their state"
        )
    position.topic_id, position.partitions = log.topic_id, log.partitions


class BatchTableManager(TableManager):
    """Faust's table manager with our recovery."""

    app: "ChurnwatchApp"
    _recovery: BatchRecovery | None

    @property
    def recovery(self) -> BatchRecovery:
        """The recovery of the tables."""
        if self._recovery is None:
            self._recovery = BatchRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Go on at once: Faust waits a second for tables that are made while the app starts, and ours is made before."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
