"""Dead letters for people and for programs: tables, one of them in full, JSON. What came from outside is escaped."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from deploy.dlq.letters import Letter, Standing, escaped, hexdump, standing
from models.times import MILLISECOND_US, format_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deploy.dlq.letters import Item, Mark, Place

_KEY_MAX: Final = 40
_VALUE_MAX: Final = 4_096
"""Bytes of a value that are shown; `--raw` gives all of them."""

_TIME_LEAST_MS: Final = 0
_TIME_MOST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def time_text(timestamp_ms: int) -> str:
    """Return a record's time as RFC 3339, or as the number that it is when no calendar has it."""
    if _TIME_LEAST_MS <= timestamp_ms <= _TIME_MOST_MS:
        return format_us(timestamp_ms * MILLISECOND_US)
    return str(timestamp_ms)


@dataclass(slots=True)
class Group:
    """How many dead letters of a topic have a reason, by standing, and when the first and the last were received."""

    counts: Counter[Standing] = field(default_factory=Counter)
    first_ms: int = _TIME_MOST_MS
    last_ms: int = _TIME_LEAST_MS


Groups = dict[tuple[str, str], Group]
"""By topic and reason; both are empty for what is no dead letter of ours."""


def grouped(letters: Iterable[Letter], marks: Mapping[Place, Mark]) -> Groups:
    """Count dead letters."""
    groups: Groups = {}
    for letter in letters:
        group = groups.setdefault((letter.source.topic if letter.source else "", letter.reason), Group())
        group.counts[standing(letter, marks)] += 1
        group.first_ms = min(group.first_ms, letter.timestamp_ms)
        group.last_ms = max(group.last_ms, letter.timestamp_ms)
    return dict(sorted(groups.items(), key=lambda item: (-item[1].counts.total(), item[0])))


def group_table(groups: Groups) -> Table:
    """Return the counts as a table, the most first, with a line of sums."""
    table = _table("topic", "reason", *(f">{name}" for name in ("letters", *Standing)), "first", "last")
    sums: Counter[Standing] = Counter()
    for (topic, reason), group in groups.items():
        sums += group.counts
        counts = (str(number or "") for number in (group.counts.total(), *(group.counts[each] for each in Standing)))
        _row(table, escaped(topic or None), escaped(reason or None), *counts, time_text(group.first_ms), time_text(group.last_ms))
    _row(table, "in all", "", *(str(number) for number in (sums.total(), *(sums[each] for each in Standing))), "", "")
    return table


def group_json(groups: Groups) -> Iterator[str]:
    """Give the counts as one JSON object for each line."""
    for (topic, reason), group in groups.items():
        told: dict[str, Any] = {"topic": topic or None, "reason": reason or None, "letters": group.counts.total()}
        told |= {each.value: group.counts[each] for each in Standing}
        yield json.dumps({**told, "first": time_text(group.first_ms), "last": time_text(group.last_ms)})


def letter_table(letters: Iterable[Letter], marks: Mapping[Place, Mark]) -> Table:
    """Return single dead letters as a table."""
    table = _table("place", "record", "time", "reason", "standing", ">replays", "key", "message")
    for letter in letters:
        _row(
            table,
            str(letter.place),
            escaped(str(letter.source) if letter.source else None),
            time_text(letter.timestamp_ms),
            escaped(letter.reason or None),
            standing(letter, marks),
            str(letter.replays or ""),
            escaped(letter.key, _KEY_MAX),
            escaped(letter.errors.get("message")),
        )
    return table


def letter_json(letter: Letter, marks: Mapping[Place, Mark]) -> str:
    """Return a dead letter as one line of JSON in ASCII; a key that is no UTF-8 is in `key_base64`, and `key` is null."""
    told: dict[str, Any] = {
        "place": str(letter.place),
        "record": str(letter.source) if letter.source else None,
        "time": time_text(letter.timestamp_ms),
        "reason": letter.reason or None,
        "message": letter.errors.get("message"),
        "stage": letter.errors.get("stage"),
        "version": letter.errors.get("version"),
        "standing": standing(letter, marks),
        "damage": letter.damage,
        "replays": letter.replays,
        "key": None,
        "value_bytes": None if letter.value is None else len(letter.value),
    }
    try:
        told["key"] = None if letter.key is None else letter.key.decode()
    except UnicodeDecodeError:
        told["key_base64"] = base64.b64encode(letter.key or b"").decode()
    return json.dumps(told)


def letter_lines(letter: Letter, marks: Mapping[Place, Mark]) -> Iterator[str]:
    """Give everything about one dead letter, a line for each thing, the value last."""
    mark = marks.get(letter.place)
    found = standing(letter, marks)
    yield f"place     {letter.place}"
    yield f"record    {escaped(str(letter.source) if letter.source else None)}"
    yield f"time      {time_text(letter.timestamp_ms)}"
    for name in ("reason", "message", "stage", "version"):
        yield f"{name:<9} {escaped(letter.errors.get(name))}"
    told = f"at {mark.at}, as try {mark.replay}" if mark and found is Standing.REPLAYED else letter.damage
    yield f"standing  {found}{f': {told}' if told else ''}"
    yield f"replays   {letter.replays}"
    yield f"key       {escaped(letter.key)}"
    for name, value in letter.headers:
        yield f"header    {escaped(name)}: {escaped(value)}"
    for name, digest in letter.errors.items():
        if name in {"sha256", "key_sha256", "headers_dropped"}:
            yield f"{name}  {escaped(digest)}"
    yield from _value_lines(letter.value)


def _value_lines(value: bytes | None) -> Iterator[str]:
    if value is None:
        yield "value     none"
        return
    yield f"value     {len(value):,} bytes"
    shown = value[:_VALUE_MAX]
    try:
        # Cut within a character, the beginning is text all the same.
        written = shown.decode() if len(shown) == len(value) else shown.decode("utf-8", "ignore" if _is_text(value) else "strict")
    except UnicodeDecodeError:
        yield from (f"  {line}" for line in hexdump(shown))
    else:
        # Line breaks of an indented document are kept; every other control character is escaped.
        yield from (f"  {escaped(line)}" for line in written.split("\n"))
    if len(shown) < len(value):
        yield f"  … {len(value) - len(shown):,} bytes more: `--raw` writes them all"


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def item_lines(items: Iterable[Item], most: int) -> Iterator[str]:
    """Give what would be sent, a line for each record, in order."""
    for item in islice(items, most):
        yield f"{escaped(str(item.source))}  {escaped(item.reason)}  dead letter {item.place}  as try {item.replay}"


def item_json(item: Item) -> str:
    """Return what would be sent as one line of JSON."""
    return json.dumps({"record": str(item.source), "place": str(item.place), "reason": item.reason, "replay": item.replay})


def _table(*headings: str) -> Table:
    """Return a table without borders; a heading with `>` before it is of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        is_number = heading.startswith(">")
        table.add_column(heading.removeprefix(">"), justify="right" if is_number else "left", overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    # As Text, so that no bracket is taken for markup.
    table.add_row(*map(Text, cells))
