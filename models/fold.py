"""From usable events to the state of their accounts: the one fold that the stream, its replays and its checks share.

Synchronous and deterministic: the state after a list of events does not depend on how it was cut into batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import events, facts, payments, support, usage
from models.columns import Columns
from models.fixed import Ints
from models.input_topics import ACCOUNTS, PAYMENTS, TICKETS, TOPIC_INDEX, USAGE
from models.parts import GRACE_US, is_known, remember
from models.row import NEVER
from models.usage import NO_USE, Outcome


@dataclass(frozen=True, slots=True)
class Part:
    """How one kind of part is made, read, folded, written and turned into columns."""

    name: str
    empty: Callable[[], Any]
    read: Callable[[bytes], Any]
    fold: Callable[[Any, Any, int, int], None]
    derive: Callable[[Columns, int, Any], None]


_write = msgspec.msgpack.Encoder().encode

PARTS: dict[str, Part] = {
    TICKETS: Part("support", support.empty, msgspec.msgpack.Decoder(support.Support).decode, support.fold, support.derive),
    PAYMENTS: Part("payment", payments.empty, msgspec.msgpack.Decoder(payments.Payment).decode, payments.fold, payments.derive),
    ACCOUNTS: Part("facts", facts.empty, msgspec.msgpack.Decoder(facts.Facts).decode, facts.fold, facts.derive),
}
"""The part that each rare input topic is folded into."""

PART_BY_NAME: dict[str, Part] = {part.name: part for part in PARTS.values()}


def fold(
    columns: Columns, topic: str, batch: list[Any], slots: Ints, times: Ints, identity: NDArray[np.uint64]
) -> tuple[NDArray[np.int8], list[tuple[str, int]]]:
    """Fold usable events of one input topic, in the order of the log.

    `batch` are the decoded events, the arrays are `(n,)`: the slot of each event's account, its time in microseconds, and its
    identity (`models.decoding`). Gives what became of each event (`Outcome`, `(n,)`), and the parts that changed, by name and slot.
    """
    if topic == USAGE:
        return usage.fold(columns, slots, times, identity, _uses(batch)), []
    return _fold_parts(columns, topic, batch, slots, times, identity)


def _uses(batch: list[Any]) -> Ints:
    plain = events.UsageEvent
    return np.array([event.data.count if type(event) is plain else _other_use(event) for event in batch], np.int64)


def _other_use(event: object) -> int:
    return 1 if isinstance(event, events.UsageSession | events.UsagePage) else NO_USE


def _fold_parts(
    columns: Columns, topic: str, batch: list[Any], slots: Ints, times: Ints, identity: NDArray[np.uint64]
) -> tuple[NDArray[np.int8], list[tuple[str, int]]]:
    part, index = PARTS[topic], TOPIC_INDEX[topic]
    outcome = np.zeros(len(batch), np.int8)
    of_account: dict[int, list[int]] = {}
    for i, slot in enumerate(slots.tolist()):
        of_account.setdefault(slot, []).append(i)
    at, who = times.tolist(), identity.tolist()
    changed = []
    for slot, places in of_account.items():
        stored = columns.parts[part.name][slot]
        state = part.empty() if stored is None else part.read(stored)
        newest = int(columns.newest[slot, index])
        applied = 0
        for i in places:
            seen = is_known(state.ids, who[i])
            if seen is not False:
                outcome[i] = Outcome.DUPLICATE if seen else Outcome.CONFLICT
            elif newest != NEVER and at[i] < newest - GRACE_US:
                outcome[i] = Outcome.LATE
            else:
                newest = max(newest, at[i])
                part.fold(state, batch[i], at[i], newest)
                remember(state.ids, who[i])
                applied += 1
        if applied:
            columns.newest[slot, index] = newest
            columns.applied[slot, index] += applied
            columns.parts[part.name][slot] = _write(state)
            part.derive(columns, slot, state)
            changed.append((part.name, slot))
    return outcome, changed


def restore_part(columns: Columns, name: str, slot: int, stored: bytes) -> None:
    """Take a stored part back: its bytes, and the columns that are derived from it."""
    part = PART_BY_NAME[name]
    columns.parts[name][slot] = stored
    part.derive(columns, slot, part.read(stored))


def read_part(columns: Columns, name: str, slot: int) -> Any:
    """A decoded copy of an account's part; an empty one when it has none."""
    part = PART_BY_NAME[name]
    stored = columns.parts[name][slot]
    return part.empty() if stored is None else part.read(stored)
