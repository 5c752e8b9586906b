"""The file of a snapshot: what is read is what was written, and nothing that is cut, changed or newer is ever taken for one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.snapshot.format import ALERT, STATE, Footer, Header, InputLog, Line, PartitionSum, SnapshotError, Writer, open_snapshot
from stream_app.exits import Exit

HEADER = Header(
    release="0.1.0",
    created_at="2026-11-22T00:00:00Z",
    app_id="churnwatch",
    topic_prefix="eu",
    config_version="c",
    partitions=2,
    inputs={"usage-events": InputLog("an-id", 2)},
)
LINES = [
    Line(0, STATE, b"\x00cursor", bytes(range(256))),
    Line(0, STATE, b"racme", b"\x01\x00" + bytes(900)),
    Line(0, ALERT, b"acme", b"{}"),
    Line(1, STATE, "rgrüne-wiese".encode(), b""),
]


def footer_of(lines: list[Line]) -> Footer:
    """The footer that fits some lines."""
    return Footer(
        [
            PartitionSum(
                number=number,
                state=sum(line.partition == number and line.kind == STATE for line in lines),
                alerts=sum(line.partition == number and line.kind == ALERT for line in lines),
            )
            for number in range(HEADER.partitions)
        ]
    )


def written(path: Path, lines: list[Line] = LINES, footer: Footer | None = None) -> Path:
    """Write a snapshot of some lines."""
    with Writer(path, HEADER) as writer:
        for line in lines:
            writer.write(line)
        writer.seal(footer or footer_of(lines))
    return path


def edited(path: Path, **members: Any) -> Path:
    """Write members into the header of a snapshot, as another release would have."""
    with gzip.open(path) as file:
        head, *rest = file.read().splitlines(keepends=True)
    content = json.dumps({**json.loads(head), **members}).encode() + b"\n" + b"".join(rest)
    path.write_bytes(gzip.compress(content))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a snapshot may be."""
    return tmp_path / "state.jsonl.gz"


def test_what_is_read_is_what_was_written(path: Path) -> None:
    """Header, records in their order, and sums."""
    snapshot = open_snapshot(written(path))
    assert snapshot.header == HEADER
    assert list(snapshot.lines()) == LINES
    assert [(each.state, each.alerts) for each in snapshot.footer.partitions] == [(2, 1), (1, 0)]


@given(st.lists(st.builds(Line, st.integers(0, 1), st.sampled_from([STATE, ALERT]), st.binary(max_size=50), st.binary(max_size=200))))
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, lines: list[Line]) -> None:
    """Keys and values are bytes of any kind, also none at all."""
    path = tmp_path_factory.mktemp("any") / "state.jsonl.gz"
    assert list(open_snapshot(written(path, lines)).lines()) == lines


def test_the_same_state_is_the_same_file(tmp_path: Path) -> None:
    """No name and no time of writing gets into it besides the one that it says."""
    assert written(tmp_path / "a").read_bytes() == written(tmp_path / "b").read_bytes()


def test_a_cut_file_is_refused_wherever_it_was_cut(path: Path) -> None:
    """Exit code 2; a file that was not written to its end is no snapshot."""
    whole = written(path).read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SnapshotError) as refused:
            open_snapshot(path)
        assert refused.value.exit_code == Exit.CONFIGURATION


def test_a_line_that_is_missing_is_refused(path: Path) -> None:
    """Also where whole lines are gone and the rest is sound."""
    with gzip.open(written(path)) as file:
        lines = file.read().splitlines(keepends=True)
    for missing in range(len(lines)):
        path.write_bytes(gzip.compress(b"".join(lines[:missing] + lines[missing + 1 :])))
        with pytest.raises(SnapshotError):
            open_snapshot(path)


def test_a_flipped_byte_is_refused_wherever_it_is(path: Path) -> None:
    """In the packed bytes, but for the bits in which nothing is packed, and in the unpacked ones."""
    packed = written(path).read_bytes()
    content = gzip.decompress(packed)
    for place in range(10, len(packed)):
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 0x10]) + packed[place + 1 :])
        try:
            found = list(open_snapshot(path).lines())
        except SnapshotError:
            continue
        assert found == LINES, place
    for place in range(0, len(content), 7):
        path.write_bytes(gzip.compress(content[:place] + bytes([content[place] ^ 0x01]) + content[place + 1 :], 1))
        with pytest.raises(SnapshotError):
            open_snapshot(path)


@pytest.mark.parametrize("member", ["version", "row_version", "cursor_version"])
def test_what_a_newer_release_wrote_is_refused_by_name(path: Path, member: str) -> None:
    """Before anything of it is read; it says which release can read it."""
    edited(written(path), **{member: 99, "release": "9.0"})
    with pytest.raises(SnapshotError, match=f"{member} 99.*run release 9.0"):
        open_snapshot(path)


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    """Text, JSON of another kind, a directory, and nothing."""
    text, other = tmp_path / "text", tmp_path / "other"
    text.write_text("no snapshot")
    other.write_bytes(gzip.compress(b'{"format":"another"}\n'))
    for path in (text, other, tmp_path, tmp_path / "nothing"):
        with pytest.raises(SnapshotError):
            open_snapshot(path)


def test_sums_that_do_not_fit_are_refused(path: Path) -> None:
    """A seal alone says that nothing was changed, not that it was written right."""
    with pytest.raises(SnapshotError, match="other records of partition 0"):
        open_snapshot(written(path, footer=Footer([PartitionSum(number=0, state=3), PartitionSum(number=1, state=1)])))


def test_a_snapshot_is_never_overwritten(path: Path) -> None:
    """A name that is taken is refused, and what is there stays."""
    before = written(path).read_bytes()
    with pytest.raises(SnapshotError, match="is there already"):
        written(path, [])
    assert path.read_bytes() == before


def test_an_export_that_fails_leaves_nothing(path: Path) -> None:
    """Neither a file of that name nor a part of one."""
    with pytest.raises(TypeError), Writer(path, HEADER) as writer:
        writer.write(LINES[0]._replace(key=cast("bytes", object())))
    assert list(path.parent.iterdir()) == []
