"""The state of one partition's accounts, and what a batch, a tick and a checkpoint do to it. Pure: time and input are handed in.

`step` folds a batch of records; `tick` assesses the accounts that are due, with no event; `take` assesses the accounts that were
touched, and gives everything that changed since it was called last, to be written in one transaction. Memory may be ahead of the last
transaction: a process that fails throws it away and starts from the cursor.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.policy import Severity, needs_decision
from alerts.rules import AlertRules
from models import fold, row, users
from models.columns import Columns
from models.commands import PREFIX as COMMANDS_PREFIX
from models.commands import Commands
from models.dead_letters import dead_letter
from models.decoding import Decoded, Reason, Rejected, decode_batch
from models.fixed import Ints
from models.health import Assessment, Band, Scale, assess
from models.identity import IDENTITY_BYTES
from models.input_topics import COMMANDS, USAGE
from models.ledger import RevenueRules
from models.months import UTC_ZONE
from models.portfolio import Accounting, Book, PortfolioRules
from models.profile import NOBODY, Profile, profile_of
from models.row import NEVER
from models.texts import ReadText, unread
from models.times import DAY_US
from models.usage import Outcome
from stream_app import scores
from stream_app.alerting import Alerting, Said
from stream_app.scores import Scores
from stream_app.topics import Log

CURSOR_KEY = b"\x00cursor"
"""The key of the record that says how far each input topic is folded into this partition."""

KINDS: dict[bytes, str] = {b"r": "row", b"s": "support", b"p": "payment", b"f": "facts", b"v": "surveys", b"u": "users"}
"""The first byte of a stored key: which record of the account it is; the account's own key follows."""

_KEY_OF_PART = {name: kind for kind, name in KINDS.items()}

CURSOR_VERSION = 1

TICK_ACCOUNTS = 1500
"""Accounts assessed at once by a tick: more would keep the fetcher and the heartbeat waiting."""

BOOKED_AT_ONCE = 30
"""Accounts that the roll-up looks at at a stretch."""

PROFILES_MAX = 4096
"""Profiles kept ready in memory; the others are made again when they are needed."""

SETTLED_US = 400 * DAY_US
"""An account with no event for this long, and no alert, is not looked at again until one comes."""


NO_LOG = Log("", 0)


class Position(msgspec.Struct, array_like=True):
    """How far an input topic is folded: the next offset, the newest event time seen there, and what became of what was read.

    `topic_id` and `partitions` say in which log the offset is a place: a topic that is made anew, or divided anew, is another log. They
    are empty in a cursor that was written before they were kept. `carried_from` is the offset from which on this log was folded into a
    state that was carried over from another log (an imported snapshot); -1 where the state is of this log alone.
    """

    offset: int
    newest_us: int = NEVER
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    dead_letter: int = 0
    topic_id: str = ""
    partitions: int = 0
    carried_from: int = -1


class Cursor(msgspec.Struct):
    """The record that makes a partition restartable: written with the rows, in the same transaction."""

    version: int
    topics: dict[str, Position]


class UnknownCursorVersionError(Exception):
    """The cursor was written by a newer release than this one."""


_read_cursor = msgspec.msgpack.Decoder(Cursor).decode
_write_cursor = msgspec.msgpack.Encoder(order="deterministic").encode


def read_cursor(stored: bytes | None) -> dict[str, Position]:
    """The positions of a stored cursor; none when there is no cursor.

    Raises UnknownCursorVersionError when a newer release wrote it.
    """
    if stored is None:
        return {}
    cursor = _read_cursor(stored)
    if cursor.version > CURSOR_VERSION:
        raise UnknownCursorVersionError(
            f"the cursor has version {cursor.version}, this release knows up to {CURSOR_VERSION}: run the release that wrote it"
        )
    return cursor.topics


@dataclass(frozen=True, slots=True)
class Definition:
    """What a worker was configured to make of events: the same for all its partitions.

    `kinds` says which input topic (`models.input_topics`) a topic of the broker is. `is_log_clock`: with no backlog the time is the
    log's own, not the wall's, so that a replay of the past is not taken for silence. `read_text` says what is kept of a text.
    `zone` is that of the months.
    """

    kinds: dict[str, str]
    scale: Scale
    rules: AlertRules
    config_version: str
    release: str
    is_log_clock: bool = False
    read_text: ReadText = unread
    zone: ZoneInfo = UTC_ZONE
    accounting: Accounting = field(default_factory=lambda: Accounting.of(RevenueRules(), PortfolioRules()))


@dataclass(frozen=True, slots=True)
class Output:
    """A record to be sent."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


@dataclass(slots=True)
class Slice:
    """A part of a checkpoint that is sent at once, so that nothing else waits long."""

    changelog: list[tuple[bytes, bytes | None]]
    scores: list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Checkpoint:
    """What changed in a partition since the last one, taken in one step: exactly this is committed."""

    positions: dict[str, Position]
    keys: list[bytes]
    rows: NDArray[np.void]
    scores: Scores
    parts: list[tuple[bytes, bytes | None]]
    alerts: list[Said]
    dead_letters: list[Output]
    portfolio: list[tuple[bytes, bytes | None]] = field(default_factory=list)

    def slices(self, size: int) -> Iterator[Slice]:
        """The changelog and score records in slices of about `size` accounts; the cursor is the last changelog record of all."""
        count = len(self.keys)
        for start in range(0, max(count, 1), size):
            stop = min(start + size, count)
            stored = row.encode(self.rows[start:stop])
            keys = self.keys[start:stop]
            changelog: list[tuple[bytes, bytes | None]] = [(b"r" + key, value) for key, value in zip(keys, stored, strict=True)]
            if start == 0:
                changelog += self.parts
            if stop == count:
                changelog.append((CURSOR_KEY, _write_cursor(Cursor(CURSOR_VERSION, self.positions))))
            yield Slice(changelog, self.scores.render(start, stop, keys))


@dataclass(slots=True)
class Tally:
    """What one step did, for the metrics: records by outcome, dead letters by reason."""

    outcomes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """Records of one topic that are folded at a stretch, decoded; `following` is where the cursor stands after them."""

    topic: str
    records: Sequence[Any]
    decoded: Decoded
    following: int

    @property
    def begins_us(self) -> int:
        """The time of its first event; NEVER when none of its records can be used."""
        return int(self.decoded.times_us[0]) if self.decoded.events else NEVER


def _between(decoded: Decoded, start: int, stop: int) -> Decoded:
    """What was decoded of the records from `start` to `stop`, places counted from `start`."""
    first, last = bisect_left(decoded.index, start), bisect_left(decoded.index, stop)
    if last - first == len(decoded.events) and start == 0:
        return decoded
    return Decoded(
        decoded.events[first:last],
        [place - start for place in decoded.index[first:last]],
        decoded.times_us[first:last],
        decoded.identity[first:last],
        [replace(each, index=each.index - start) for each in decoded.rejected if start <= each.index < stop],
    )


class Partition:
    """The accounts of one partition and how far its input topics are folded into them."""

    def __init__(self, number: int, definition: Definition) -> None:
        self.number = number
        self.definition = definition
        self.columns = Columns(definition.scale.ring_days, definition.read_text, definition.zone)
        self.positions: dict[str, Position] = {}
        self.logs: Mapping[str, Log] = {}
        self._alerting = Alerting(definition.rules, definition.scale, self.columns, self.profile)
        self._is_moved = False
        self._dirty = 0
        self._changed_parts: set[tuple[str, int]] = set()
        self._dead_letters: list[Output] = []
        self._due_next = NEVER
        self._unassessed_at = NEVER
        self._topic_names = list(definition.kinds)
        self._profiles: dict[int, Profile] = {}
        self.commands = Commands()
        self.book = Book(number, self.columns, definition.accounting, definition.config_version)
        self._publishing_at = NEVER
        self._said = scores.Said(definition.scale, definition.config_version, self._topic_names, number)

    # -- coming back

    def restore(self, records: Iterator[tuple[bytes, bytes]], cursor: bytes | None, chunk: int = 4096) -> None:
        """Take stored records back into memory, in any order; `cursor` is the stored cursor."""
        self.positions = read_cursor(cursor)
        keys: list[bytes] = []
        values: list[bytes] = []
        parts: dict[str, tuple[list[bytes], list[bytes]]] = {name: ([], []) for name in _KEY_OF_PART}
        for key, value in records:
            kind = key[:1]
            if kind == b"r":
                keys.append(key[1:])
                values.append(value)
                if len(keys) == chunk:
                    self._restore_rows(keys, values)
                    keys, values = [], []
            elif kind in KINDS:
                keys_of_part, stored = parts[KINDS[kind]]
                keys_of_part.append(key[1:])
                stored.append(value)
            elif key.startswith(COMMANDS_PREFIX):
                self.commands.put(key, value)
        self.revalue()
        self._restore_rows(keys, values)
        for name, (keys_of_part, stored) in parts.items():
            if stored:
                fold.restore_parts(self.columns, name, self.columns.slots_of(keys_of_part), stored)
        self._due_next = self._earliest_due()

    def _restore_rows(self, keys: list[bytes], values: list[bytes]) -> None:
        if keys:
            self.columns.put_rows(self.columns.slots_of(keys), row.decode(values))

    def revalue(self) -> None:
        """Let the roll-up be made by the rates that are known now."""
        self.book.revalue(self.definition.accounting.told(self.commands))

    # -- time

    def now(self, behind: frozenset[str] | set[str], wall_us: int) -> int:
        """The time of this partition: with a backlog, the least of the newest event times of the topics that are behind.

        With none, the wall clock; on the log clock, the newest event time of all accounts: what is decided today about a past that is
        replayed must not end it. NEVER before there is one.
        """
        if behind:
            return min(self.positions[topic].newest_us if topic in self.positions else NEVER for topic in behind)
        if not self.definition.is_log_clock:
            return wall_us
        kinds = self.definition.kinds
        return max((position.newest_us for topic, position in self.positions.items() if kinds[topic] != COMMANDS), default=NEVER)

    # -- an event comes

    def step(self, topic: str, records: Sequence[Any], following: int, behind: frozenset[str] | set[str], wall_us: int) -> Tally:
        """Fold records of one topic, in the order of the log; the accounts that they touched wait to be assessed.

        `following` is the offset to read next: the cursor moves there. `behind` are the topics that still have records to read after
        these; `wall_us` is the wall clock.
        """
        tally = Tally()
        for run in self.runs(topic, records, following):
            self.step_run(run, behind, wall_us, tally)
        return tally

    def runs(self, topic: str, records: Sequence[Any], following: int) -> list[Run]:
        """Decode records and cut them into what is folded at a stretch: one run, or, on the log clock, one for each day.

        A replay of the past is then seen day by day, as it was lived, and no day goes unseen.
        """
        decoded = decode_batch(self.definition.kinds[topic], records)
        cuts = [0, len(records)]
        if self.definition.is_log_clock and len(decoded.events) > 1:
            reached = np.maximum.accumulate(decoded.times_us // DAY_US)
            cuts[1:1] = [decoded.index[i + 1] for i in np.flatnonzero(reached[1:] > reached[:-1]).tolist()]
        return [
            Run(topic, records[start:stop], _between(decoded, start, stop), following if stop == len(records) else records[stop].offset)
            for start, stop in pairwise(cuts)
        ]

    def step_run(self, run: Run, behind: frozenset[str] | set[str], wall_us: int, tally: Tally) -> None:
        """Fold one run; what it did is added to the tally.

        The accounts that it touched are assessed together with those of the runs that follow, before anything of them is published: with
        no backlog that is some milliseconds later. On the log clock it is at once, because the run is a day.
        """
        topic, records, decoded = run.topic, run.records, run.decoded
        self._alerting.received_us = records[-1].timestamp * 1000
        position = self.positions.get(topic) or self._begin(topic, records[0].offset)
        for rejected in decoded.rejected:
            self._reject(topic, position, records[rejected.index], rejected, tally)
        if decoded.events:
            touched = self._obey(run, position, tally) if self.definition.kinds[topic] == COMMANDS else self._fold(run, position, tally)
            position.newest_us = max(position.newest_us, int(decoded.times_us.max()))
            if len(touched):
                self._mark(touched)
                self.columns.is_unassessed[touched] = True
                self._unassessed_at = self.now(behind, wall_us)
        position.offset = run.following
        self._is_moved = True
        if self.definition.is_log_clock:
            self.assess_touched()
            self.tick(self.now(behind, wall_us))

    def _begin(self, topic: str, offset: int) -> Position:
        log = self.logs.get(topic, NO_LOG)
        position = self.positions[topic] = Position(offset, topic_id=log.topic_id, partitions=log.partitions)
        return position

    def _obey(self, run: Run, position: Position, tally: Tally) -> Ints:
        """Fold the commands of a run, which are for all accounts; none of these changes by itself."""
        decoded = run.decoded
        told = zip(decoded.events, decoded.times_us.tolist(), decoded.identity.view(f"V{IDENTITY_BYTES}").tolist(), strict=True)
        outcome = np.array([self.commands.fold(event, at, identity) for event, at, identity in told], np.int8)
        applied = int((outcome == Outcome.APPLIED).sum())
        position.applied += applied
        self._count(tally, "applied", applied)
        self._count_unapplied(run.topic, position, run.records, decoded.index, outcome, tally)
        if applied:
            self.revalue()
        return np.zeros(0, np.int64)

    def _fold(self, run: Run, position: Position, tally: Tally) -> Ints:
        """Fold the events of a run; the slots of the accounts that changed, each once."""
        columns, topic, records = self.columns, run.topic, run.records
        batch, places, times = run.decoded.events, run.decoded.index, run.decoded.times_us
        slots = columns.slots_of([records[i].key for i in places])
        outcome, parts = fold.fold(columns, self.definition.kinds[topic], batch, slots, times, run.decoded.identity)
        if self.definition.kinds[topic] == USAGE:
            self.book.touch_usage()
        for name, slot in parts:
            self._changed_parts.add((name, slot))
            if name == users.PART:
                continue  # it changes with the usage, which no profile and no figure of the roll-up waits for
            self._profiles.pop(slot, None)
            self.book.touch(slot)
        is_applied = outcome == Outcome.APPLIED
        applied = int(is_applied.sum())
        position.applied += applied
        self._count(tally, "applied", applied)
        if applied < len(batch):
            self._count_unapplied(topic, position, records, places, outcome, tally)
            slots, times = slots[is_applied], times[is_applied]
            kept = np.flatnonzero(is_applied).tolist()
            batch, places = [batch[i] for i in kept], [places[i] for i in kept]
        if not applied:
            return slots
        columns.trigger_topic[slots] = self._topic_names.index(topic)
        columns.trigger_offset[slots] = [records[i].offset for i in places]
        columns.trigger_at[slots] = times
        columns.trigger_id[slots] = [event.id for event in batch]
        is_touched = np.zeros(len(columns), np.bool_)
        is_touched[slots] = True
        return np.flatnonzero(is_touched)

    def _count_unapplied(
        self, topic: str, position: Position, records: Sequence[Any], places: list[int], outcome: NDArray[np.int8], tally: Tally
    ) -> None:
        duplicate = int((outcome == Outcome.DUPLICATE).sum())
        late = int((outcome == Outcome.LATE).sum())
        position.duplicate += duplicate
        position.late += late
        self._count(tally, "duplicate", duplicate)
        self._count(tally, "late", late)
        for i in np.flatnonzero(outcome == Outcome.CONFLICT).tolist():
            conflict = Rejected(places[i], Reason.CONFLICTING_DUPLICATE, "id: known from this source with other content", "fold")
            self._reject(topic, position, records[places[i]], conflict, tally)

    def _reject(self, topic: str, position: Position, record: Any, rejected: Rejected, tally: Tally) -> None:
        position.dead_letter += 1
        self._count(tally, "dead_letter", 1)
        tally.reasons[rejected.reason] = tally.reasons.get(rejected.reason, 0) + 1
        self._dead_letters.append(Output(*dead_letter(topic, self.number, record, rejected, self.definition.release)))

    @staticmethod
    def _count(tally: Tally, outcome: str, count: int) -> None:
        if count:
            tally.outcomes[outcome] = tally.outcomes.get(outcome, 0) + count

    # -- time passes

    def tick(self, now_us: int) -> int:
        """Assess the accounts that are due at `now`, earliest first, at most `TICK_ACCOUNTS`; how many there were.

        An account whose assessment is still the same is not published again.
        """
        if self._due_next == NEVER or now_us < self._due_next:
            return 0
        self.assess_touched()
        self._alerting.received_us = None
        columns = self.columns
        due_at = columns.due_at[: len(columns)]
        due = np.flatnonzero((due_at <= now_us) & (due_at != NEVER))
        if len(due) > TICK_ACCOUNTS:
            due = due[np.argsort(due_at[due], kind="stable")[:TICK_ACCOUNTS]]
        if len(due):
            self._assess_due(due, now_us)
        self._due_next = self._earliest_due()
        return len(due)

    def _earliest_due(self) -> int:
        due_at = self.columns.due_at[: len(self.columns)]
        set_ones = due_at[due_at != NEVER]
        return int(set_ones.min()) if len(set_ones) else NEVER

    # -- what an account is worth a look for

    def assess_touched(self) -> None:
        """Assess the accounts that events touched since this was done last, as of the time of the newest of those steps."""
        columns = self.columns
        slots = np.flatnonzero(columns.is_unassessed[: len(columns)])
        if not len(slots):
            return
        columns.is_unassessed[slots] = False
        as_of = self._as_of(slots, self._unassessed_at)
        found = assess(self.columns, slots, as_of, self.definition.scale)
        self._write(slots, as_of, found)
        self._decide(slots, as_of, found)

    def _assess_due(self, slots: Ints, now_us: int) -> None:
        columns = self.columns
        as_of = self._as_of(slots, now_us)
        found = assess(columns, slots, as_of, self.definition.scale)
        is_changed = (
            (found.score != columns.score[slots])
            | (found.coverage != columns.coverage[slots])
            | (found.band != columns.band[slots])
            | (found.contribution != columns.contribution[slots]).any(axis=1)
        )
        is_changed |= self._decide(slots, as_of, found)
        changed = slots[is_changed]
        if len(changed):
            columns.trigger_topic[changed] = -1
            self._write(changed, as_of[is_changed], found, is_changed)
            self._mark(changed)

    def _as_of(self, slots: Ints, now_us: int) -> Ints:
        """The instant at which each account is assessed: now, but never before its own newest event."""
        own: Ints = self.columns.newest[slots].max(axis=1)
        return np.maximum(own, np.int64(now_us))

    def _write(self, slots: Ints, as_of: Ints, found: Assessment, which: NDArray[np.bool_] | slice = slice(None)) -> None:
        columns = self.columns
        columns.score[slots] = found.score[which]
        columns.coverage[slots] = found.coverage[which]
        if (columns.band[slots] != found.band[which]).any():
            self.book.shift()
        columns.band[slots] = found.band[which]
        columns.component[slots] = found.component[which]
        columns.contribution[slots] = found.contribution[which]
        columns.as_of[slots] = as_of

    def _decide(self, slots: Ints, as_of: Ints, found: Assessment) -> NDArray[np.bool_]:
        """Let the alert policy look at assessed accounts, and say when each is due next; where an alert's state changed, `(n,)`."""
        columns = self.columns
        due_at = self._due_at(slots, as_of)
        is_changed = np.zeros(len(slots), np.bool_)
        insufficient = found.band == Band.NO_DATA
        asked = needs_decision(
            columns.alert_condition[slots],
            columns.alert_severity[slots],
            found.score,
            insufficient,
            columns.is_deleted[slots] | columns.is_ended[slots],
            self.definition.rules,
        )
        for i in np.flatnonzero(asked).tolist():
            slot = int(slots[i])
            verdict = self._alerting.decide(slot, int(as_of[i]), int(found.score[i]), bool(insufficient[i]))
            is_changed[i] = verdict.is_changed
            if verdict.due_us is not None and (due_at[i] == NEVER or verdict.due_us < due_at[i]):
                due_at[i] = verdict.due_us
        columns.due_at[slots] = due_at
        set_ones = due_at[due_at != NEVER]
        if len(set_ones):
            earliest = int(set_ones.min())
            self._due_next = earliest if self._due_next == NEVER else min(self._due_next, earliest)
        return is_changed

    def _due_at(self, slots: Ints, as_of: Ints) -> Ints:
        """When windows and ages move next: at the end of the day, for an account that is not long settled."""
        columns = self.columns
        moving = np.maximum(columns.newest[slots].max(axis=1), columns.overdue_from[slots])
        is_settled = (as_of - moving > SETTLED_US) & (columns.alert_severity[slots] == Severity.NONE)
        return np.where(is_settled, NEVER, (as_of // DAY_US + 1) * DAY_US)

    def _mark(self, slots: Ints) -> None:
        flags = self.columns.is_dirty
        self._dirty += len(slots) - int(flags[slots].sum())
        flags[slots] = True
        self._is_moved = True

    def profile(self, slot: int) -> Profile:
        """What every score says of an account besides its numbers."""
        columns = self.columns
        if not columns.parts["facts"].has(slot) and not columns.has_subscriptions[slot]:
            return NOBODY
        known = self._profiles.get(slot)
        if known is None:
            if len(self._profiles) >= PROFILES_MAX:
                self._profiles.clear()
            known = self._profiles[slot] = profile_of(columns, slot)
        return known

    def bands(self) -> Ints:
        """How many accounts are in each band, by the number of the band."""
        return np.bincount(self.columns.band[: len(self.columns)], minlength=len(Band))

    def _profiles_of(self, slots: Ints) -> list[Profile]:
        facts = self.columns.parts["facts"]
        return [
            self.profile(slot) if has_subscriptions or facts.has(slot) else NOBODY
            for slot, has_subscriptions in zip(slots.tolist(), self.columns.has_subscriptions[slots].tolist(), strict=True)
        ]

    # -- the roll-up

    def keep_books(self, now_us: int, accounts: int) -> bool:
        """Bring the roll-up up to date by up to so many accounts; whether there is more to do."""
        return now_us != NEVER and self.book.advance(now_us, accounts)

    def publish_books(self, now_us: int) -> None:
        """Let the next checkpoint carry what is new in the roll-up, if it is complete by then."""
        if self.book.has_news:
            self._publishing_at = now_us
            self._is_moved = True

    # -- what is to be written

    @property
    def is_moved(self) -> bool:
        """Whether a checkpoint would write anything."""
        return self._is_moved

    @property
    def dirty(self) -> int:
        """How many accounts changed since the last checkpoint was taken."""
        return self._dirty

    def take(self) -> Checkpoint:
        """Everything that changed since this was called last, and the cursor that goes with it, in one step."""
        self.assess_touched()
        columns = self.columns
        slots = np.flatnonzero(columns.is_dirty[: len(columns)])
        columns.is_dirty[slots] = False
        self._dirty = 0
        taken = Scores.take(columns, slots, self._said, self._profiles_of(slots))
        columns.said_score[slots] = columns.score[slots]
        columns.said_contribution[slots] = columns.contribution[slots]
        columns.trigger_id[slots] = None
        checkpoint = Checkpoint(
            positions={topic: msgspec.structs.replace(position) for topic, position in self.positions.items()},
            keys=[columns.keys[slot] for slot in slots.tolist()],
            rows=columns.rows(slots),
            scores=taken,
            parts=[
                *(
                    (_KEY_OF_PART[name] + columns.keys[slot], columns.parts[name].encoded(slot))
                    for name, slot in sorted(self._changed_parts)
                ),
                *self.commands.take(),
            ],
            alerts=self._alerting.take(),
            dead_letters=self._dead_letters,
            portfolio=self._take_books(),
        )
        self._changed_parts = set()
        self._dead_letters = []
        self._is_moved = False
        return checkpoint

    def _take_books(self) -> list[tuple[bytes, bytes | None]]:
        """What is new in the roll-up, if it was asked for and few accounts have changed since it was looked at."""
        now_us, self._publishing_at = self._publishing_at, NEVER
        if now_us == NEVER or self.book.waiting > BOOKED_AT_ONCE:
            return []
        self.book.advance(now_us, self.book.waiting)
        return self.book.records(now_us)
