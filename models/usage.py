"""Usage: the hot fold, many events at once (docs/state.md sections 1 and 2).

A batch is judged by whole arrays. What arrays cannot judge at once, an account with a repeated id, with an event close to the end of
what it remembers, or with one that may be late, is judged one event at a time, in order. Both ways give the same state, so how the
log is cut into batches does not matter.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns
from models.input_topics import TOPIC_INDEX, USAGE
from models.parts import GRACE_US
from models.row import NEVER, RING_DAYS, USAGE_IDS
from models.times import DAY_US

TOPIC = TOPIC_INDEX[USAGE]
DAY_MAX = 2**32 - 1
"""Where the uses of a day saturate."""

NO_USE = -1
"""The count of an event that is no use (a gauge, an error)."""


class Outcome(IntEnum):
    """What became of a usable event."""

    APPLIED = 0
    DUPLICATE = 1
    LATE = 2
    CONFLICT = 3


Ints = NDArray[np.int64]


def fold(columns: Columns, slots: Ints, times: Ints, identity: NDArray[np.void], counts: Ints) -> NDArray[np.int8]:
    """Fold usage events, in the order of the log, into the columns; what became of each, as `Outcome`, shape `(n,)`.

    `slots`, `times` (microseconds), `identity` (`models.identity.IDENTITY`) and `counts` (uses, `NO_USE` for none) are `(n,)`.
    """
    outcome = np.zeros(len(slots), np.int8)
    doubtful = _doubtful(columns, slots, times, identity)
    if doubtful.any():
        clear = ~doubtful
        _apply(columns, slots[clear], times[clear], identity[clear], counts[clear])
        for i in np.flatnonzero(doubtful).tolist():
            outcome[i] = _step(columns, slots, times, identity, counts, i)
    else:
        _apply(columns, slots, times, identity, counts)
    return outcome


def _doubtful(columns: Columns, slots: Ints, times: Ints, identity: NDArray[np.void]) -> NDArray[np.bool_]:
    """Events of accounts of which some event in the batch is perhaps not simply applied; 32 bits of who are enough for a doubt."""
    who = np.ascontiguousarray(identity["who"])
    is_known = columns.usage_who[slots] == who[:, None]
    suspect = is_known.any(axis=1) if is_known.any() else np.zeros(len(slots), np.bool_)
    ordered = np.sort(who)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        suspect = suspect | np.isin(who, repeated)
    before = columns.newest[slots, TOPIC]
    if times.min() < max(before.max(), times.max()) - GRACE_US:
        unique, inverse = np.unique(slots, return_inverse=True)
        reached = columns.newest[unique, TOPIC]
        np.maximum.at(reached, inverse, times)
        suspect = suspect | (times < reached[inverse] - GRACE_US)
    if suspect.any():
        return np.isin(slots, slots[suspect])
    return suspect


def _apply(columns: Columns, slots: Ints, times: Ints, identity: NDArray[np.void], counts: Ints) -> None:
    """Fold events that are all new and in time."""
    if not len(slots):
        return
    _remember(columns, slots, identity)
    np.maximum.at(columns.newest.reshape(-1), slots * columns.newest.shape[1] + TOPIC, times)
    if counts.min() < 0:
        used = counts >= 0
        slots, times, counts = slots[used], times[used], counts[used]
    if len(slots):
        _use(columns, slots, times, counts)


def _remember(columns: Columns, slots: Ints, identity: NDArray[np.void]) -> None:
    """Count events as applied, and keep who they are and what they say in the places of those applied longest ago."""
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.append(starts, len(ordered)))
    rank = np.arange(len(ordered)) - np.repeat(starts, sizes)
    count = columns.applied[:, TOPIC]
    place = ordered * USAGE_IDS + (count[ordered] + rank) % USAGE_IDS
    newest = identity[order]
    columns.usage_who.reshape(-1)[place] = newest["who"]
    columns.usage_who_more.reshape(-1)[place] = newest["who_more"]
    columns.usage_what.reshape(-1)[place] = newest["what"]
    count[ordered[starts]] += sizes.astype(np.uint32)


def _use(columns: Columns, slots: Ints, times: Ints, counts: Ints) -> None:
    before = columns.used_at[slots]
    np.maximum.at(columns.used_at, slots, times)
    newest_day = columns.used_at[slots] // DAY_US
    moved = (before // DAY_US < newest_day) & (before != NEVER)
    if moved.any():
        _clear_days(columns, slots[moved], before[moved] // DAY_US, newest_day[moved])
    ring = columns.usage.reshape(-1)
    at = slots * RING_DAYS + (times // DAY_US) % RING_DAYS
    total = ring[at].astype(np.int64).max() + counts.sum()
    if total <= DAY_MAX:
        np.add.at(ring, at, counts.astype(np.uint32))
        return
    for place, count in zip(at.tolist(), counts.tolist(), strict=True):
        ring[place] = min(int(ring[place]) + count, DAY_MAX)


def _clear_days(columns: Columns, slots: Ints, old_day: Ints, new_day: Ints) -> None:
    """Make room in the ring for the days from the old newest one to the new one; a ring that was never used is empty."""
    unique, first = np.unique(slots, return_index=True)
    gaps = np.minimum(new_day[first] - old_day[first], RING_DAYS)
    newest = new_day[first]
    for back in range(int(gaps.max())):
        behind = gaps > back
        columns.usage[unique[behind], (newest[behind] - back) % RING_DAYS] = 0


def _step(columns: Columns, slots: Ints, times: Ints, identity: NDArray[np.void], counts: Ints, i: int) -> Outcome:
    """Judge and fold one event."""
    slot, time = int(slots[i]), int(times[i])
    one = identity[i]
    is_same = (columns.usage_who[slot] == one["who"]) & (columns.usage_who_more[slot] == one["who_more"])
    if is_same.any():
        return Outcome.DUPLICATE if one["what"] in columns.usage_what[slot][is_same] else Outcome.CONFLICT
    newest = int(columns.newest[slot, TOPIC])
    if newest != NEVER and time < newest - GRACE_US:
        return Outcome.LATE
    alone = slice(i, i + 1)
    _apply(columns, slots[alone], times[alone], identity[alone], counts[alone])
    return Outcome.APPLIED
