"""The stored row: the bytes of today's layout are pinned, older ones are read by name, newer ones refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import row
from models.row import NEVER, NONE

GOLDEN = Path(__file__).parents[1] / "golden" / "row_v1.bin"
"""Two rows as layout version 1 stores them: one with every field told apart, one empty."""

_SIZE = 1_364
"""Bytes of a stored row of version 1: written down, so that no change of the layout goes unseen."""


def _filled() -> NDArray[np.void]:
    """Return a row in which no two fields, and no two places of one, hold the same value."""
    rows = np.zeros(1, row.LAYOUTS[1])
    for place, name in enumerate(rows.dtype.names or ()):
        field = rows[name]
        if field.dtype.itemsize == 1:
            field[...] = 100 + place
        else:
            field[...] = np.arange(field.size).reshape(field.shape) + place * 1_000 + 1
    return rows


def test_the_golden_bytes_are_read_as_what_was_written() -> None:
    """A row that some release stored with version 1 means the same for ever, field by field."""
    stored = GOLDEN.read_bytes()
    filled, empty = row.decode([stored[:_SIZE], stored[_SIZE:]])
    expected = _filled()[0]
    for name in row.LAYOUTS[1].names or ():
        assert np.array_equal(filled[name], expected[name]), name
    assert empty == row.empty(1)[0]
    assert (empty["used_at"], empty["score"], empty["coverage"]) == (NEVER, NONE, 0)


def test_the_golden_bytes_are_what_is_written_today() -> None:
    """Whoever changes a layout that was ever stored, or its empty values, breaks this: add a version instead."""
    assert b"".join(row.encode(np.concatenate([_filled(), row.empty(1)]))) == GOLDEN.read_bytes()
    assert row.VERSION == 1
    assert 2 + row.LAYOUTS[1].itemsize == _SIZE


def test_rows_survive_the_way_there_and_back() -> None:
    """Any bytes in the fields come back, many at a time and none at all."""
    random = np.random.default_rng(1).integers(0, 256, (50, row.LAYOUT.itemsize), np.uint8)
    rows = np.frombuffer(random.tobytes(), row.LAYOUT)
    assert row.decode(row.encode(rows)).tobytes() == rows.tobytes()
    assert len(row.decode([])) == 0
    assert row.encode(row.empty(0)) == []


def test_an_older_layout_is_read_by_the_names_of_its_fields() -> None:
    """What it has is taken over wherever it stood, what it lacks is empty, what is gone since is ignored."""
    older = np.dtype([("gone", "<i8"), ("used_at", "<i8"), ("band", "u1"), ("score", "<i2"), ("newest", "<i8", (row.TOPIC_SLOTS,))])
    rows = np.zeros(2, older)
    rows["gone"], rows["used_at"], rows["band"], rows["score"] = 7, (11, 12), (3, 4), (500, NONE)
    rows["newest"] = np.arange(2 * row.TOPIC_SLOTS).reshape(2, row.TOPIC_SLOTS)
    new = row.upcast(rows)
    assert new.dtype == row.LAYOUT
    assert new["used_at"].tolist() == [11, 12]
    assert new["band"].tolist() == [3, 4]
    assert new["score"].tolist() == [500, NONE]
    assert new["newest"].tolist() == rows["newest"].tolist()
    expected = row.empty(2)
    for name in set(row.FIELDS) - {"used_at", "band", "score", "newest"}:
        assert np.array_equal(new[name], expected[name]), name


def test_a_field_may_be_wider_than_it_was() -> None:
    """A place that an older row does not have is empty."""
    rows = np.zeros(2, np.dtype([("newest", "<i8", (2,)), ("contribution", "<i4", (3,))]))
    rows["newest"], rows["contribution"] = [[1, 2], [3, 4]], [[5, 6, 7], [8, 9, 10]]
    new = row.upcast(rows)
    assert new["newest"].tolist() == [[1, 2, *[NEVER] * (row.TOPIC_SLOTS - 2)], [3, 4, *[NEVER] * (row.TOPIC_SLOTS - 2)]]
    assert new["contribution"].tolist() == [[5, 6, 7, *[NONE] * (row.COMPONENT_SLOTS - 3)], [8, 9, 10, *[NONE] * (row.COMPONENT_SLOTS - 3)]]


def test_a_batch_may_mix_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade old and new rows lie side by side in one changelog."""
    older = np.dtype([("used_at", "<i8")])
    monkeypatch.setitem(row.LAYOUTS, 0, older)
    old = b"\x00\x00" + np.array([(123,)], older).tobytes()
    decoded = row.decode([row.encode(_filled())[0], old])
    assert decoded[0] == _filled()[0]
    assert decoded["used_at"].tolist() == [_filled()["used_at"][0], 123]
    assert decoded["score"][1] == NONE


def test_a_newer_version_is_refused() -> None:
    """To drop what a newer release wrote would be to lose it; the message says what to do."""
    stored = (row.VERSION + 1).to_bytes(2, "little") + bytes(row.LAYOUT.itemsize + 8)
    with pytest.raises(row.UnknownRowVersionError, match=r"version 2.*run the release that wrote it"):
        row.decode([row.encode(row.empty(1))[0], stored])


@pytest.mark.parametrize(
    "stored",
    [b"", b"\x01", b"\x01\x00", b"\x01\x00" + bytes(row.LAYOUT.itemsize - 1), b"\x01\x00" + bytes(row.LAYOUT.itemsize + 1), b"\x00\x00"],
    ids=["empty", "half a version", "no row", "cut off", "too long", "version 0"],
)
def test_a_value_that_is_no_row_is_refused(stored: bytes) -> None:
    """A torn value must not become an account."""
    with pytest.raises(ValueError, match="no account row"):
        row.decode([stored])
