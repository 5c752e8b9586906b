"""Where the cursors of a snapshot stand in the inputs that there are now. Pure.

An offset is a place in one log. Where an input is still the topic that the snapshot was made from, by its id, the cursor is kept, and
must lie in the log. Where it is another topic, a restored, mirrored or new one, nobody but the operator knows what it holds: all of
it is folded (`Elsewhere.BEGINNING`: it holds what came after the snapshot, and nothing else), or none of it (`Elsewhere.END`: all of
it is in the snapshot). A position in another log says from where on (`carried_from`), so that `churnwatch verify` does not take the
new log for the whole truth.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from stream_app.exits import Exit, ServiceExit
from stream_app.pipeline import Position

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.snapshot.format import Header
    from deploy.verify.kafka_log import Place
    from stream_app.topics import Log


class Elsewhere(StrEnum):
    """Where to go on reading an input that is another topic than the one that the snapshot was made from."""

    BEGINNING = "at-beginning"
    END = "at-end"


def placed(
    positions: Mapping[str, Position],
    number: int,
    header: Header,
    names: Mapping[str, str],
    logs: Mapping[str, Log],
    bounds: Mapping[Place, tuple[int, int]],
    elsewhere: Elsewhere | None,
) -> dict[str, Position]:
    """Return the positions of a partition in the inputs that there are now.

    Raises ServiceExit for a position that its log does not hold, and where an input is another topic and nobody said where to go on.
    """
    found = {}
    for topic, name in names.items():
        begin, end = bounds[name, number]
        before = positions.get(f"{header.topic_prefix}.{topic}" if header.topic_prefix else topic)
        if _is_other(topic, before, header, logs[name]):
            if elsewhere is None:
                raise ServiceExit(
                    Exit.CONFIGURATION,
                    f"{name} is another topic than the one that the snapshot was made from: its offsets mean nothing here",
                    "--at-beginning when the inputs hold what came after the snapshot and nothing else; "
                    "--at-end when all of what they hold is in the snapshot",
                )
            offset, log = begin if elsewhere is Elsewhere.BEGINNING else end, logs[name]
            found[name] = msgspec.structs.replace(
                before or Position(offset), offset=offset, topic_id=log.topic_id, partitions=log.partitions, carried_from=offset
            )
        elif before is not None:
            _hold(name, number, before, begin, end)
            found[name] = before
    return found


def _is_other(topic: str, before: Position | None, header: Header, log: Log) -> bool:
    """Whether a log is another one than the one that the state was folded from: the cursor knows best which that was."""
    known = before.topic_id if before is not None and before.topic_id else ""
    if not known and topic in header.inputs:
        known = header.inputs[topic].topic_id
    return not known or known != log.topic_id


def refuse_needless(elsewhere: Elsewhere | None, positions: Mapping[int, Mapping[str, Position]]) -> None:
    """Raise ServiceExit when somebody said where to go on elsewhere, and every input is the one that the snapshot was made from."""
    moved = any(position.carried_from == position.offset for of_topic in positions.values() for position in of_topic.values())
    if elsewhere is not None and not moved:
        raise ServiceExit(
            Exit.CONFIGURATION,
            f"the inputs are the topics that the snapshot was made from: --{elsewhere} would lose records or repeat them",
            "leave it out: the cursors of the snapshot are kept",
        )


def _hold(name: str, number: int, position: Position, begin: int, end: int) -> None:
    if position.offset < begin:
        raise ServiceExit(
            Exit.OTHER,
            f"{name}, partition {number}: the snapshot goes up to offset {position.offset}, and the log begins at {begin}",
            "take a newer snapshot; or take the loss: churnwatch rebuild --from-snapshot FILE --accept-gap",
        )
    if position.offset > end:
        raise ServiceExit(
            Exit.OTHER,
            f"{name}, partition {number}: the snapshot goes up to offset {position.offset}, and the log ends at {end}",
            "the log lost its end: churnwatch rebuild, or an older snapshot",
        )
