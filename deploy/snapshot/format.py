"""The file of a snapshot: gzip'd JSON lines, a header, the records, a footer with their sums, and a seal.

    {"format":"churnwatch-snapshot","version":1,"release":...,"row_version":1,"cursor_version":1,"partitions":4,"inputs":{...},...}
    [0,"s","<key, base64>","<value, base64>"]      partition, kind, key, value: `s` is a record of the changelog, `a` one of alert-state
    {"footer":{"partitions":[{"number":0,"state":812,"alerts":17,"accounts":268,"offsets":{"usage-events":4711,...}},...]}}
    {"sha256":"..."}

Records come partition by partition; the changelog's have each key once, as the changelog has it last. The SHA-256 is that of all bytes
before the seal's line, unpacked. Whoever reads a file reads it to its seal first: one that was cut, changed, or written by a newer
release is refused before anything is made of it. Keys and values are those of the topics, so the versions of rows and cursor are those
of `models.row` and `stream_app.pipeline`. Nothing in a file is ever executed.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Self

import msgspec

from models import row
from stream_app.exits import Exit, ServiceExit
from stream_app.pipeline import CURSOR_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FORMAT: Final = "churnwatch-snapshot"
VERSION: Final = 1

STATE: Final = "s"
ALERT: Final = "a"

_COMPRESSION: Final = 3
"""Rows are mostly zeros: more effort costs much time and saves little room."""

_LINE_BYTES_MAX: Final = 64 << 20


class InputLog(msgspec.Struct):
    """An input topic as it was: offsets of a snapshot are places in this log and in no other."""

    topic_id: str
    partitions: int


class Header(msgspec.Struct, kw_only=True):
    """What the first line says; the inputs' names are without the prefix."""

    format: str = FORMAT
    version: int = VERSION
    release: str
    row_version: int = row.VERSION
    cursor_version: int = CURSOR_VERSION
    created_at: str
    app_id: str
    topic_prefix: str
    config_version: str
    partitions: int
    inputs: dict[str, InputLog]


class PartitionSum(msgspec.Struct, kw_only=True):
    """What was written of one partition: records of each kind, accounts, and how far each input is in it."""

    number: int
    state: int = 0
    alerts: int = 0
    accounts: int = 0
    offsets: dict[str, int] = msgspec.field(default_factory=dict)


class Footer(msgspec.Struct):
    """What was written, by partition."""

    partitions: list[PartitionSum]


class _Sums(msgspec.Struct, forbid_unknown_fields=True):
    footer: Footer


class _Seal(msgspec.Struct, forbid_unknown_fields=True):
    sha256: str


class Line(NamedTuple):
    """A record of a snapshot."""

    partition: int
    kind: str
    key: bytes
    value: bytes


_encode: Final = msgspec.json.Encoder().encode
_read_header: Final = msgspec.json.Decoder(Header).decode
_read_line: Final = msgspec.json.Decoder(Line).decode
_read_sums: Final = msgspec.json.Decoder(_Sums).decode
_read_seal: Final = msgspec.json.Decoder(_Seal).decode
_DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile, msgspec.DecodeError, UnicodeDecodeError)


class SnapshotError(ServiceExit):
    """A file is no snapshot that this release can use."""

    def __init__(self, path: Path, wrong: str, mend: str) -> None:
        """Nothing was changed."""
        super().__init__(Exit.CONFIGURATION, f"{path}: {wrong}", mend)


_ANOTHER: Final = "nothing was changed; take another copy of the file, or an older snapshot"


class Writer:
    """Writes a snapshot beside its name, and gives it the name once it is sealed. A context manager."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._header = header
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        """Begin the file; raises SnapshotError when there is one already, or it cannot be made."""
        if self._path.exists():
            raise SnapshotError(self._path, "is there already", "name another file: a snapshot is never overwritten")
        try:
            self._raw: BinaryIO = self._partial.open("wb")
        except OSError as error:
            raise SnapshotError(
                self._path, f"cannot be written: {error.strerror}", "name a file in a directory that can be written"
            ) from error
        self._file = gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=self._raw, mtime=0)
        self._write(_encode(self._header))
        return self

    def write(self, line: Line) -> None:
        """Add a record."""
        self._write(_encode(line))

    def seal(self, footer: Footer) -> None:
        """Add the footer and the seal; from here on there is a snapshot of that name."""
        self._write(_encode(_Sums(footer)))
        self._file.write(_encode(_Seal(self._digest.hexdigest())) + b"\n")
        self._close()
        self._partial.rename(self._path)

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind of what was not sealed."""
        if not self._raw.closed:
            self._close()
            self._partial.unlink()

    def _close(self) -> None:
        self._file.close()
        self._raw.close()

    def _write(self, line: bytes) -> None:
        line += b"\n"
        self._digest.update(line)
        self._file.write(line)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file that was read to its end and found whole."""

    path: Path
    header: Header
    footer: Footer
    sha256: str

    def lines(self) -> Iterator[Line]:
        """Read its records once more; raises SnapshotError when the file was changed meanwhile."""
        return _Reading(self.path).records(lambda _: None, expected=self.sha256)

    def as_json(self) -> dict[str, Any]:
        """Return what is in it as one JSON object."""
        return {**msgspec.to_builtins(self.header), "sums": msgspec.to_builtins(self.footer.partitions), "sha256": self.sha256}


def open_snapshot(path: Path, tell: Callable[[int], None] = lambda _: None) -> Snapshot:
    """Read a file to its end; raises SnapshotError for one that is cut, changed, or newer than this release.

    `tell` is called with the number of records that were read.
    """
    reading = _Reading(path)
    counts: dict[int, Counter[str]] = {}
    for line in reading.records(tell):
        counts.setdefault(line.partition, Counter())[line.kind] += 1
    header, footer = reading.header, reading.footer
    if [each.number for each in footer.partitions] != list(range(header.partitions)):
        raise SnapshotError(path, f"is not of all {header.partitions} partitions", _ANOTHER)
    for each in footer.partitions:
        found = counts.get(each.number, Counter())
        if (found[STATE], found[ALERT]) != (each.state, each.alerts):
            raise SnapshotError(path, f"holds other records of partition {each.number} than it says", _ANOTHER)
    return Snapshot(path, header, footer, reading.sha256)


@dataclass
class _Reading:
    """One pass over a file."""

    path: Path
    _digest: Any = field(default_factory=hashlib.sha256)
    sha256: str = ""

    def records(self, tell: Callable[[int], None], expected: str | None = None) -> Iterator[Line]:
        """Give the records; at the end, and not before, the header and the footer are known to belong to them."""
        try:
            with gzip.open(self.path, "rb") as file:
                yield from self._records(file, tell)
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile):
                raise SnapshotError(self.path, f"is damaged, or no snapshot: {error}", _ANOTHER) from error
            raise SnapshotError(
                self.path, f"cannot be read: {error.strerror or error}", "name a file that `churnwatch snapshot export` wrote"
            ) from error
        except _DAMAGED as error:
            raise SnapshotError(self.path, f"is damaged, or no snapshot: {error}", _ANOTHER) from error
        if expected is not None and self.sha256 != expected:
            raise SnapshotError(self.path, "was changed while it was read", _ANOTHER)

    def _records(self, file: gzip.GzipFile, tell: Callable[[int], None]) -> Iterator[Line]:
        self.header = self._known(self._line(file))
        count = 0
        while (line := self._line(file)).startswith(b"["):
            self._digest.update(line)
            yield _read_line(line)
            count += 1
            tell(count)
        self._digest.update(line)
        self.footer, self.sha256 = _read_sums(line).footer, self._digest.hexdigest()
        if _read_seal(self._line(file)).sha256 != self.sha256:
            raise SnapshotError(self.path, "is damaged: its SHA-256 is not the one that it was sealed with", _ANOTHER)
        if file.read(1):
            raise SnapshotError(self.path, "is damaged: something follows its end", _ANOTHER)

    def _line(self, file: gzip.GzipFile) -> bytes:
        line = file.readline(_LINE_BYTES_MAX)
        if not line.endswith(b"\n"):
            raise SnapshotError(self.path, "is damaged: it ends before its end", _ANOTHER)
        return line

    def _known(self, line: bytes) -> Header:
        """Decode the header; what a newer release wrote is not even tried to be understood."""
        told = msgspec.json.decode(line)
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise SnapshotError(self.path, "is no snapshot", "name a file that `churnwatch snapshot export` wrote")
        for name, known in (("version", VERSION), ("row_version", row.VERSION), ("cursor_version", CURSOR_VERSION)):
            found = told.get(name)
            if not isinstance(found, int) or found > known:
                wrong = f"has {name} {found}, this release knows up to {known}"
                raise SnapshotError(self.path, wrong, f"run release {told.get('release')} or a newer one")
        self._digest.update(line)
        return _read_header(line)
