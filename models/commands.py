"""What is decided for all accounts: the commands that every partition has, each in its own log and in its own state.

Such a command (`models.events.BROADCASTS`) is written to every partition of `account-commands`, under the subject `_all`. Each partition
folds its own copy, exactly once, and keeps it beside its accounts: so nothing has to be told from one worker to another, and whoever
takes a partition over has what was decided. What is kept are last writes by `(time, id)`: no order of arrival matters, and a copy that
comes again changes nothing. They are never late. It is stored in sheets, a record of the changelog each, so that a change writes little.

Kept are exchange rates: one for each day, currency, and currency that it leads into. A sheet has those of a year and a pair.
"""

from collections.abc import Iterator
from datetime import date
from fractions import Fraction

import msgspec

from models.events import ExchangeRateSet
from models.parts import Write, is_repeated, rank, remember, write
from models.row import UnknownRowVersionError
from models.usage import Outcome

PREFIX = b"\x00commands/"
"""What the keys of the sheets begin with in the changelog."""

VERSION = 1

_KNOWN = "known"


class Sheet(msgspec.Struct, array_like=True):
    """A sheet as it is stored: last writes by what they are about; or, in one of them, the identities that are remembered."""

    version: int
    writes: dict[str, Write] = {}
    known: bytes = b""


_read = msgspec.msgpack.Decoder(Sheet).decode
_write = msgspec.msgpack.Encoder(order="deterministic").encode


class Commands:
    """What was decided for all accounts, as one partition has it."""

    def __init__(self) -> None:
        self._sheets: dict[str, dict[str, Write]] = {}
        self._known = bytearray()
        self._changed: set[str] = set()

    def fold(self, event: ExchangeRateSet, at: int, identity: bytes) -> Outcome:
        """Take a command of an instant (microseconds); its identity is that of `models.identity`."""
        repeated = is_repeated(self._known, identity)
        if repeated is not None:
            return Outcome.DUPLICATE if repeated else Outcome.CONFLICT
        remember(self._known, identity)
        self._changed.add(_KNOWN)
        rate = event.data
        self._put_write(f"rates/{rate.day[:4]}/{rate.currency}/{rate.into}", rate.day, Write(rate.rate, at, rank(event)))
        return Outcome.APPLIED

    def _put_write(self, name: str, about: str, new: Write) -> None:
        sheet = self._sheets.setdefault(name, {})
        last = sheet.get(about)
        sheet[about] = write(last, new.value, new.at, new.id)
        if sheet[about] is not last:
            self._changed.add(name)

    # -- what was said

    def rates(self, into: str) -> dict[tuple[str, date], Fraction]:
        """The rates into a currency, by currency and day."""
        return {(currency, day): Fraction(told.value) for currency, target, day, told in self.all_rates() if target == into}

    def all_rates(self) -> Iterator[tuple[str, str, date, Write]]:
        """Every rate: currency, the one that it leads into, day, and the last write; in the order of these."""
        for name in sorted(self._sheets, key=lambda each: (each.split("/")[2:], each)):
            _, _, currency, into = name.split("/")
            for day, told in sorted(self._sheets[name].items()):
                yield currency, into, date.fromisoformat(day), told

    # -- storing

    def put(self, key: bytes, value: bytes) -> None:
        """Take a stored sheet back; raises UnknownRowVersionError for one of a newer release."""
        sheet = _read(value)
        if sheet.version > VERSION:
            raise UnknownRowVersionError(
                f"a sheet of commands has version {sheet.version}, this release knows up to {VERSION}: run the release that wrote it"
            )
        name = key.removeprefix(PREFIX).decode()
        if name == _KNOWN:
            self._known = bytearray(sheet.known)
        else:
            self._sheets[name] = sheet.writes

    def take(self) -> list[tuple[bytes, bytes]]:
        """The sheets that changed since this was called last, as they are to be stored."""
        changed, self._changed = sorted(self._changed), set()
        return [(PREFIX + name.encode(), _write(self._sheet(name))) for name in changed]

    def _sheet(self, name: str) -> Sheet:
        return Sheet(VERSION, {}, bytes(self._known)) if name == _KNOWN else Sheet(VERSION, self._sheets[name])

    def mark_whole(self) -> None:
        """Let everything be stored, not only what has changed."""
        self._changed = {*self._sheets, *([_KNOWN] if self._known else [])}

    def merge(self, other: "Commands") -> None:
        """Take over what another partition has; which records of its own log a partition has seen stays its own."""
        for name, sheet in other._sheets.items():
            for about, told in sheet.items():
                self._put_write(name, about, told)
