"""Records are read a record batch at a time, and come out as aiokafka itself gives them, one at a time."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.transport import BareRecords
from tests.support.profiles import examples

TP = TopicPartition("usage-events", 0)
ORIGINAL: Any = importlib.util.find_spec("aiokafka.consumer.fetcher")
_ATTRIBUTES = slice(21, 23)
_CRC = slice(17, 21)
_CONTROL = 0x20
_ABORT, _COMMIT = b"\0\0\0\0", b"\0\0\0\1"


def _stock() -> Any:
    """The library's own class: the module as it is on disk, without our replacement."""
    module = importlib.util.module_from_spec(ORIGINAL)
    ORIGINAL.loader.exec_module(module)
    return module.PartitionRecords


STOCK = _stock()


def batch(base: int, deltas: list[int], producer: int, *, is_transactional: bool = False, mark: bytes | None = None) -> bytes:
    """A record batch as the broker stores it: what compaction took away leaves holes; a mark ends a transaction."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=is_transactional or mark is not None,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 20,
    )
    for delta in deltas:
        key = mark if mark is not None else b"%d" % (base + delta)
        assert builder.append(delta, 1_000 + delta, key, b"value", []) is not None
    raw = bytearray(builder.build())
    raw[:8] = base.to_bytes(8, "big")
    if mark is not None:
        raw[_ATTRIBUTES] = (int.from_bytes(raw[_ATTRIBUTES], "big") | _CONTROL).to_bytes(2, "big")
        raw[_CRC] = calc_crc32c(bytes(raw[21:])).to_bytes(4, "big")
    return bytes(raw)


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]], int]:
    """A fetched piece of a log, the aborted transactions in it, and the offset that was asked for, perhaps within the first batch."""
    offset = draw(st.integers(0, 50))
    pieces, aborted, first = [], [], None
    open_since: dict[int, int] = {}
    for _ in range(draw(st.integers(1, 8))):
        producer = draw(st.integers(1, 3))
        is_mark = producer in open_since and draw(st.booleans())
        if is_mark:
            is_abort = draw(st.booleans())
            if is_abort:
                aborted.append((producer, open_since[producer]))
            del open_since[producer]
            pieces.append(batch(offset, [0], producer, mark=_ABORT if is_abort else _COMMIT))
            size = 1
        else:
            size = draw(st.integers(1, 6))
            kept = sorted(draw(st.sets(st.integers(0, size - 1), min_size=1)))
            is_transactional = draw(st.booleans())
            if is_transactional:
                open_since.setdefault(producer, offset)
            pieces.append(batch(offset, kept, producer, is_transactional=is_transactional))
            size = kept[-1] + 1
        first = size if first is None else first
        offset += size + draw(st.integers(0, 2))
    begin = int.from_bytes(pieces[0][:8], "big")
    return b"".join(pieces), aborted, begin + draw(st.integers(0, max(0, (first or 1) - 1)))


def _arguments(log: tuple[bytes, list[tuple[int, int]], int]) -> tuple[Any, ...]:
    raw, aborted, begin = log
    return TP, MemoryRecords(raw), list(aborted), begin, None, None, True, fetcher.READ_COMMITTED


@settings(max_examples=examples(150), deadline=None)
@given(log=logs(), sizes=st.lists(st.integers(1, 5), min_size=1))
def test_what_is_taken_is_what_the_library_gives(log: tuple[bytes, list[tuple[int, int]], int], sizes: list[int]) -> None:
    """In any portions: the same records, nothing of aborted transactions, and at the end the same position."""
    stock = STOCK(*_arguments(log))
    expected = [(record.offset, record.timestamp, record.key, record.value) for record in stock]
    bare = BareRecords(*_arguments(log))
    taken: list[tuple[int, int, bytes, bytes]] = []
    is_last = False
    turn = 0
    while not is_last:
        most = sizes[turn % len(sizes)]
        records, is_last = bare.take(most)
        assert len(records) == most or is_last
        taken += [(record.offset, record.timestamp, record.key, record.value) for record in records]
        assert bare.next_fetch_offset > (taken[-1][0] if taken else -1)
        turn += 1
    assert taken == expected
    assert bare.next_fetch_offset == stock.next_fetch_offset


def test_a_batch_that_was_damaged_on_its_way_is_not_read() -> None:
    """Its checksum says so, and it is fetched again."""
    good, bad = batch(0, [0, 1], 1), bytearray(batch(2, [0, 1], 1))
    bad[-1] ^= 1
    bare = BareRecords(TP, MemoryRecords(good + bytes(bad)), [], 0, None, None, check_crcs=True, isolation_level=fetcher.READ_COMMITTED)
    records, is_last = bare.take(2)
    assert ([record.offset for record in records], is_last) == ([0, 1], False)
    with pytest.raises(fetcher.Errors.CorruptRecordException, match="usage-events"):
        bare.take(1)
