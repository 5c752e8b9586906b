"""From usable events to the state of their accounts: the one fold that the stream, its replays and its checks share.

Synchronous and deterministic: the state after a list of events does not depend on how it was cut into batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, cast
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import events, facts, monthly, payments, support, support_figures, surveys, surveys_figures, usage, users
from models.columns import Columns
from models.fixed import Ints
from models.identity import IDENTITY_BYTES
from models.input_topics import ACCOUNTS, PAYMENTS, SURVEYS, TICKETS, TOPIC_INDEX, USAGE
from models.parts import GRACE_US, KEEP_US, KNOWN_BYTES, Derived, is_repeated, remember
from models.row import NEVER
from models.usage import NO_USE, Outcome


class Kind(Protocol):
    """What a module of a part offers (`models.support`, `models.payments`, `models.facts`, `models.surveys`)."""

    def empty(self) -> Any:
        """A part with nothing in it."""

    def fold(self, part: Any, event: Any, at: int, /) -> None:
        """Take one event into a part."""

    def finished_at(self, part: Any, /) -> int:
        """When the oldest object ended that may be let go."""

    def drop_old(self, part: Any, newest: int, zone: ZoneInfo, /) -> None:
        """Let go of what is old or too many; what it counts for is kept by months of the zone."""

    def derived(self, columns: Columns, part: Any, /) -> Derived:
        """What a score needs of a part."""

    def put(self, columns: Columns, slots: Ints, many: Sequence[Derived], /) -> None:
        """Put that of some accounts into the columns."""


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of part: its name, how its bytes are read, and the module that knows the rest.

    `keep_us` is how long what is finished is kept; `count` counts the figures of its months.
    """

    name: str
    read: Callable[[bytes], Any]
    kind: Kind
    keep_us: int = KEEP_US
    count: monthly.Count | None = None


PARTS: dict[str, Part] = {
    TICKETS: Part("support", msgspec.msgpack.Decoder(support.Support).decode, cast("Kind", support), count=support_figures.count),
    PAYMENTS: Part("payment", msgspec.msgpack.Decoder(payments.Payment).decode, cast("Kind", payments)),
    ACCOUNTS: Part("facts", msgspec.msgpack.Decoder(facts.Facts).decode, cast("Kind", facts)),
    SURVEYS: Part(
        "surveys", msgspec.msgpack.Decoder(surveys.Surveys).decode, cast("Kind", surveys), surveys.KEEP_US, surveys_figures.count
    ),
}
"""The part that each rare input topic is folded into."""

PART_BY_NAME: dict[str, Part] = {part.name: part for part in PARTS.values()}


def fold(
    columns: Columns, topic: str, batch: list[Any], slots: Ints, times: Ints, identity: NDArray[np.void]
) -> tuple[NDArray[np.int8], list[tuple[str, int]]]:
    """Fold usable events of one input topic, in the order of the log.

    `batch` are the decoded events, the arrays are `(n,)`: the slot of each event's account, its time in microseconds, and its
    identity (`models.decoding`). Gives what became of each event (`Outcome`, `(n,)`), and the parts that changed, by name and slot.
    """
    if topic == USAGE:
        return _fold_usage(columns, batch, slots, times, identity)
    return _fold_parts(columns, topic, batch, slots, times, identity)


def _fold_usage(
    columns: Columns, batch: list[Any], slots: Ints, times: Ints, identity: NDArray[np.void]
) -> tuple[NDArray[np.int8], list[tuple[str, int]]]:
    uses = _uses(batch)
    outcome = usage.fold(columns, slots, times, identity, uses.counts)
    is_applied = outcome == Outcome.APPLIED
    if uses.gauges:
        told = np.array([i for i in uses.gauges if is_applied[i]], np.int64)
        users.seat(columns, slots[told], times[told], np.array([uses.gauges[i] for i in told.tolist()], np.int64))
    who = users.hashes(uses.names)
    used = (uses.counts > 0) & is_applied
    if not used.all():
        slots, times, who = slots[used], times[used], who[used]
    return outcome, [(users.PART, slot) for slot in users.fold(columns, slots, times, who)]


class _Uses(NamedTuple):
    """How many uses each event of a batch counts (`NO_USE`: it is none), who made it (empty: nobody is named), and what seats it tells."""

    counts: Ints
    names: list[str]
    gauges: dict[int, int]


_PLAIN: Final = events.UsageEventData(event="-")


def _uses(batch: list[Any]) -> _Uses:
    plain = events.UsageEvent
    data = [event.data for event in batch]
    kinds = list(map(type, batch))
    others = [] if kinds.count(plain) == len(kinds) else [i for i, kind in enumerate(kinds) if kind is not plain]
    for i in others:
        data[i] = _PLAIN
    counts = [each.count for each in data]
    names = [each.user_id or "" for each in data]
    gauges: dict[int, int] = {}
    for i in others:
        event = batch[i]
        counts[i] = 1 if isinstance(event, events.UsageSession | events.UsagePage) else NO_USE
        if isinstance(event, events.UsageSession):
            names[i] = event.data.user_id or ""
        elif isinstance(event, events.UsageGauge) and event.data.seats is not None:
            gauges[i] = event.data.seats
    return _Uses(np.array(counts, np.int64), names, gauges)


def _fold_parts(
    columns: Columns, topic: str, batch: list[Any], slots: Ints, times: Ints, identity: NDArray[np.void]
) -> tuple[NDArray[np.int8], list[tuple[str, int]]]:
    part, index = PARTS[topic], TOPIC_INDEX[topic]
    if topic == SURVEYS:
        batch = surveys.prepared(batch, columns.read_text)
    shelf = columns.parts[part.name]
    outcome = np.zeros(len(batch), np.int8)
    of_account: dict[int, list[int]] = {}
    for i, slot in enumerate(slots.tolist()):
        of_account.setdefault(slot, []).append(i)
    at, who = times.tolist(), identity.view(f"V{IDENTITY_BYTES}").tolist()
    accounts = list(of_account)
    changed, newest, applied, derived = [], [], [], []
    for slot, before in zip(accounts, columns.newest[accounts, index].tolist(), strict=True):
        state = shelf.open(slot, part.read, part.kind.empty)
        latest, count = _fold_part(part, state, batch, of_account[slot], at, who, before, outcome, columns.zone)
        if count:
            shelf.changed(slot)
            changed.append(slot)
            newest.append(latest)
            applied.append(count)
            derived.append(part.kind.derived(columns, state))
    if changed:
        where = np.array(changed, np.int64)
        columns.newest[where, index] = newest
        columns.applied[where, index] += np.array(applied, np.uint32)
        part.kind.put(columns, where, derived)
    return outcome, [(part.name, slot) for slot in changed]


def _fold_part(
    part: Part,
    state: Any,
    batch: list[Any],
    places: list[int],
    at: list[int],
    who: list[bytes],
    newest: int,
    outcome: NDArray[np.int8],
    zone: ZoneInfo,
) -> tuple[int, int]:
    """Fold the events of one account; its newest event time, and how many were applied."""
    kind, ids = part.kind, state.ids
    applied = 0
    for i in places:
        repeated = is_repeated(ids, who[i])
        if repeated is not None:
            outcome[i] = Outcome.DUPLICATE if repeated else Outcome.CONFLICT
        elif newest != NEVER and at[i] < newest - GRACE_US:
            outcome[i] = Outcome.LATE
        else:
            newest = max(newest, at[i])
            kind.fold(state, batch[i], at[i])
            remember(ids, who[i])
            applied += 1
            state.oldest_at = min(state.oldest_at, at[i])
            if part.count is not None:
                monthly.close(state, newest, zone, part.count)
            # What is old is looked for only when something can be, what is too much only when there were that many events.
            if state.oldest_at < newest - part.keep_us or len(ids) >= KNOWN_BYTES:
                kind.drop_old(state, newest, zone)
                state.oldest_at = kind.finished_at(state)
    return newest, applied


def restore_parts(columns: Columns, name: str, slots: Ints, stored: list[bytes]) -> None:
    """Take stored parts of one kind back: their bytes, and the columns that are derived from them."""
    shelf = columns.parts[name]
    for slot, value in zip(slots.tolist(), stored, strict=True):
        shelf.put(slot, value)
    if name == users.PART:
        return
    part = PART_BY_NAME[name]
    part.kind.put(columns, slots, [part.kind.derived(columns, part.read(value)) for value in stored])


def read_part(columns: Columns, name: str, slot: int) -> Any:
    """An account's part, decoded and not to be changed; an empty one when it has none."""
    part = PART_BY_NAME[name]
    return columns.parts[name].read(slot, part.read, part.kind.empty)
