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
from stream_app.pipeline import CURSOR_KEY, Partition

if TYPE_CHECKING:
    from faust.stores.rocksdb import Store

    from stream_app.app import ChurnwatchApp


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
        await super()._build_offsets(consumer, tps, destination, title)
        for tp in sorted(tps & self.active_tps):
            have, end = destination[tp], self.active_highwaters[tp]
            # Faust would end with a traceback here; before the log's first record its offset is -1, as is the end of an empty one.
            if title == "active" and have > end:
                self.app.fail(
                    StateMustBeRebuilt(
                        f"the local store has {tp.topic} partition {tp.partition} up to offset {have}, but its log ends at {end}: "
                        f"the changelog was deleted or made anew",
                        "restore the changelog, or rebuild the state from the input topics",
                    )
                )

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Stay idle: changelog records come in batches through `apply`, never through Faust's queue."""
        await self.wait_until_stopped()

    def _store(self, tp: TP) -> "Store":
        return cast("Store", self.tp_to_table[tp].data)

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
            store._db_for_partition(tp.partition).write(batch, WITHOUT_LOG)
            offsets[tp] = last
        if tp in self.active_tps:
            self._maybe_end()
        elif not self.tables.standbys_ready and not self.standby_remaining_total():
            self.tables.on_standbys_ready()

    def _maybe_end(self) -> None:
        need = sum(highwater + 1 for highwater in self.active_highwaters.values() if highwater is not None)
        remaining = self.active_remaining_total()
        self.app.health_state.recovering(max(need - remaining, 0), need, self.app.clock.monotonic())
        self.app.metrics.recovering(remaining)
        if not self.need_recovery():
            self._set_recovery_ended()
            self.signal_recovery_end.set()

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Load the recovered accounts into memory, seek the inputs to the cursors, and go on."""
        app, consumer = self.app, self.app.consumer
        if self.need_recovery() or not self.active_tps <= self.active_highwaters.keys():
            app.fail(RecoveryIncompleteError(f"recovery ended early: {self.active_remaining()} of {sorted(self.active_tps)}"))
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
        if app.flow_control.is_active():
            app.flow_control.clear()
        else:
            app.flow_control.resume()
        consumer.resume_flow()
        if consumer.assignment():
            await self._wait(self._seek(cursor), timeout=app.conf.broker_request_timeout)
        if app.consumer_generation_id == generation_id:
            await self._serve()

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

    async def _load(self, generation_id: int) -> dict[TP, int]:
        """Put every recovered account into its partition's columns; the cursors, by input partition."""
        app = self.app
        cursor: dict[TP, int] = {}
        for tp in sorted(self.active_tps):
            if app.consumer_generation_id != generation_id:
                break
            store = self._store(tp)
            database = store._db_for_partition(tp.partition)
            database.flush()  # what follows is written with the store's log, which must not begin before what it follows on
            partition = Partition(tp.partition, app.definition)
            await app.loop.run_in_executor(None, partition.restore, stored_items(database, store.offset_key), database.get(CURSOR_KEY))
            app.own(partition)
            for topic, position in partition.positions.items():
                cursor[TP(topic, tp.partition)] = position.offset
        return cursor


def stored_items(database: Any, offset_key: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Every record of a local store but the two that say how far it is."""
    for key, value in database.items():
        if key not in (CURSOR_KEY, offset_key):
            yield key, value


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
