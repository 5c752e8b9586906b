"""What a dead letter says, which ones are meant, and what is sent when its record is tried again: nothing here knows a broker."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from models.dead_letters import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

REPLAYS_MAX: Final = 3
"""A record that came back so many times is parked: another try would end as the others did."""

REPLAY_HEADER: Final = "x-churnwatch-replay"
"""Which try a record is: 1 for the first replay. A record that nobody replayed has none."""

ORIGIN_HEADER: Final = "x-churnwatch-replay-offset"
"""The offset at which a replayed record stood first: what keeps the order of a key when some of it has come back before."""

_DIGITS_MAX: Final = 18

Header = tuple[str, bytes | None]


class Place(NamedTuple):
    """Where a dead letter is: partition and offset of `dead-letters`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        """As `show` and `replay` take it."""
        return f"{self.partition}/{self.offset}"


def read_place(text: str) -> Place | None:
    """Read `PARTITION/OFFSET`; None for anything else."""
    partition, offset = (_number(part) for part in (text.split("/") if text.count("/") == 1 else ("", "")))
    return None if partition is None or offset is None else Place(partition, offset)


class Source(NamedTuple):
    """Where the record of a dead letter was read: the topic as the cluster names it, partition, offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """As `show` and `replay` take it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Standing(StrEnum):
    """What a replay would do with a dead letter."""

    WAITING = "waiting"
    """Send its record again."""
    REPLAYED = "replayed"
    """Nothing: it has been sent."""
    PARKED = "parked"
    """Nothing, unless it is forced: its record has come back from three replays."""
    DAMAGED = "damaged"
    """Refuse it: what is kept is not the whole record, or does not say where it came from."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it was read; `timestamp_ms` is the record's own, when the broker received it.

    `headers` are the record's own, without what says why it is here; `errors` are those, by their names without the prefix. Of a
    letter that somebody else wrote `source` is None. `damage` says why the record cannot be sent again; None when it can.
    """

    place: Place
    timestamp_ms: int
    source: Source | None
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    errors: Mapping[str, str]
    replays: int
    origin: int
    damage: str | None

    @property
    def reason(self) -> str:
        """Why the record could not be used; empty when the letter does not say."""
        return self.errors.get("reason", "")

    @property
    def size(self) -> int:
        """The bytes of key, value and headers of its own."""
        return len(self.key or b"") + len(self.value or b"") + sum(len(name) + len(value or b"") for name, value in self.headers)


def read_letter(
    place: Place, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Sequence[Header], inputs: Mapping[str, int]
) -> Letter:
    """Read a record of `dead-letters`; `inputs` are the topics that records may go back to, with their partitions.

    The last header of a name counts, as dead letters are written: a record that bore such headers itself has them before.
    """
    errors = {name.removeprefix(PREFIX): text(value) for name, value in headers if name.startswith(PREFIX)}
    own = tuple(header for header in headers if not header[0].startswith(PREFIX))
    source = _source(errors)
    tags = dict(own)
    return Letter(
        place,
        timestamp_ms,
        source,
        key,
        value,
        own,
        errors,
        replays=_number(text(tags.get(REPLAY_HEADER))) or 0,
        origin=_first_offset(tags.get(ORIGIN_HEADER), source),
        damage=_damage(errors, source, inputs),
    )


def _source(errors: Mapping[str, str]) -> Source | None:
    partition, offset = _number(errors.get("partition", "")), _number(errors.get("offset", ""))
    topic = errors.get("topic")
    return None if not topic or partition is None or offset is None else Source(topic, partition, offset)


def _first_offset(told: bytes | None, source: Source | None) -> int:
    here = 0 if source is None else source.offset
    first = _number(text(told))
    # A record never stood behind itself: a larger one was written by somebody else.
    return here if first is None or first > here else first


def _number(digits: str) -> int | None:
    """Return the number that digits write; None for anything else."""
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX else None


def _damage(errors: Mapping[str, str], source: Source | None, inputs: Mapping[str, int]) -> str | None:
    if source is None:
        return "it does not say where its record came from"
    if source.partition >= inputs.get(source.topic, 0):
        return f"{escaped(source.topic)}/{source.partition} is no input of this installation"
    for name, what in (("sha256", "value"), ("key_sha256", "key")):
        if name in errors:
            return f"only the beginning of the {what} is kept"
    if "headers_dropped" in errors:
        return "not all headers are kept"
    return None


@dataclass(frozen=True, slots=True)
class Mark:
    """What is kept of a replay: which dead letter was sent, and as which try."""

    source: str
    replay: int
    at: str
    """RFC 3339."""

    def encode(self) -> bytes:
        """Return the value of its record."""
        return json.dumps({"source": self.source, "replay": self.replay, "at": self.at}).encode()


def decode_mark(value: bytes) -> Mark | None:
    """Read the value of a mark's record; None for what is none."""
    try:
        told = json.loads(value)
        return Mark(str(told["source"]), int(told["replay"]), str(told["at"]))
    except (ValueError, TypeError, KeyError):
        return None


Marks = dict[Place, Mark]
"""The replays so far, by the place of the dead letter."""


def standing(letter: Letter, marks: Mapping[Place, Mark]) -> Standing:
    """Say what a replay would do with a dead letter.

    A mark counts when it names the same record: topics that were made anew begin again at offset 0.
    """
    mark = marks.get(letter.place)
    if mark is not None and mark.source == str(letter.source):
        return Standing.REPLAYED
    if letter.damage is not None:
        return Standing.DAMAGED
    return Standing.PARKED if letter.replays >= REPLAYS_MAX else Standing.WAITING


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant: all that every given member admits, the earliest `limit` of them.

    `topics` are names on the cluster; `places` are `PARTITION/OFFSET`, or the record's `TOPIC/PARTITION/OFFSET`. `since_ms` is included,
    `until_ms` is not. Empty and None admit everything.
    """

    reasons: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int | None = None

    def admits(self, letter: Letter) -> bool:
        """Say whether a dead letter is meant, the limit aside."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.topics or (letter.source is not None and letter.source.topic in self.topics))
            and (not self.places or str(letter.place) in self.places or str(letter.source) in self.places)
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or letter.timestamp_ms < self.until_ms)
        )

    def of(self, letters: Iterable[Letter], also: Callable[[Letter], bool] = lambda _: True) -> Iterator[Letter]:
        """Give the dead letters that are meant and that `also` admits: with a limit by time, else as they come."""
        meant = (letter for letter in letters if self.admits(letter) and also(letter))
        if self.limit is None:
            return meant
        return iter(heapq.nsmallest(self.limit, meant, key=lambda letter: (letter.timestamp_ms, letter.place)))


class Item(NamedTuple):
    """A dead letter to be sent, without its bytes; they sort by the place where the record stood first.

    So the records of a key, which share a partition, are sent in the order in which they were first read.
    """

    topic: str
    partition: int
    origin: int
    offset: int
    replay: int
    place: Place
    size: int
    reason: str

    @property
    def source(self) -> Source:
        """Where the record was read."""
        return Source(self.topic, self.partition, self.offset)


@dataclass(slots=True)
class Plan:
    """What a replay is going to do: what it sends, in order, and how many dead letters it leaves alone, by standing."""

    items: list[Item] = field(default_factory=list)
    left: dict[Standing, int] = field(default_factory=dict)
    damaged: list[tuple[Place, str]] = field(default_factory=list)


def plan(letters: Iterable[Letter], marks: Mapping[Place, Mark], *, is_forced: bool = False) -> Plan:
    """Sort dead letters into those to send and those to leave alone; `is_forced` sends those that are parked, too."""
    made = Plan()
    for letter in letters:
        found = standing(letter, marks)
        if letter.source is not None and (found is Standing.WAITING or (is_forced and found is Standing.PARKED)):
            source = letter.source
            made.items.append(
                Item(
                    source.topic,
                    source.partition,
                    letter.origin,
                    source.offset,
                    letter.replays + 1,
                    letter.place,
                    letter.size,
                    letter.reason,
                )
            )
            continue
        made.left[found] = made.left.get(found, 0) + 1
        if letter.damage is not None and found is Standing.DAMAGED:
            made.damaged.append((letter.place, letter.damage))
    made.items.sort()
    return made


def chunks(items: Sequence[Item], records_max: int, bytes_max: int) -> Iterator[list[Item]]:
    """Cut a plan into what one transaction sends: never more records, and no more bytes unless a single record has them."""
    chunk: list[Item] = []
    size = 0
    for item in items:
        if chunk and (len(chunk) == records_max or size + item.size > bytes_max):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item.size
    if chunk:
        yield chunk


def replay_headers(letter: Letter) -> list[Header]:
    """Return the record's own headers, and behind them which try it is and where it stood first."""
    own = [header for header in letter.headers if header[0] not in {REPLAY_HEADER, ORIGIN_HEADER}]
    return [*own, (REPLAY_HEADER, str(letter.replays + 1).encode()), (ORIGIN_HEADER, str(letter.origin).encode())]


def text(raw: bytes | None) -> str:
    """Return bytes as text, those that are no UTF-8 written as escapes; none is the empty text."""
    return "" if raw is None else raw.decode("utf-8", "backslashreplace")


def escaped(raw: bytes | str | None, length_max: int | None = None) -> str:
    r"""Return a text that moves no cursor and turns no line: what does not print is written as `\n`, `\xNN` or `\uNNNN`.

    A backslash is doubled, so that nothing can pass for an escape. None is `-`; what is longer than `length_max` ends in `…`.
    """
    if raw is None:
        return "-"
    decoded = raw if isinstance(raw, str) else raw.decode("utf-8", "surrogateescape")
    shown = "".join(map(_shown, decoded if length_max is None else decoded[: length_max + 1]))
    return shown if length_max is None or len(shown) <= length_max else shown[: length_max - 1] + "…"


def _shown(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    escape = character.encode("unicode_escape").decode()
    # So Python writes a byte that is no UTF-8.
    return f"\\x{escape[-2:]}" if escape.startswith("\\udc") else escape


def hexdump(raw: bytes) -> Iterator[str]:
    """Give lines of sixteen bytes: where, in hexadecimal, and as ASCII with a dot for what does not print."""
    for start in range(0, len(raw), 16):
        row = raw[start : start + 16]
        shown = "".join(byte if byte.isascii() and byte.isprintable() else "." for byte in row.decode("latin-1"))
        yield f"{start:08x}  {row.hex(' ', 1):<47}  {shown}"
