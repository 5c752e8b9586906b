"""The history of a scenario: one JSON object per line, each with the seconds since it began; written as it happens, read back whole."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FILE: Final = "history.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; `at` is in seconds since the scenario began, on a clock that never goes back."""

    at: float
    what: str
    told: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """What it tells under a name; raises KeyError."""
        return self.told[name]


class History:
    """Writes the history of one scenario; any thread may tell it something."""

    def __init__(self, directory: Path) -> None:
        """The file is made anew."""
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._file = (directory / FILE).open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        """Nothing to do: the file is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def tell(self, what: str, **told: Any) -> float:
        """Write down what happened, and return when."""
        with self._lock:
            at = round(self.now(), 3)
            self._file.write(json.dumps({"at": at, "what": what, **told}, default=str) + "\n")
            self._file.flush()
        return at


def read(directory: Path) -> list[Entry]:
    """Read a history back, in its order."""
    with (directory / FILE).open(encoding="utf-8") as lines:
        return [_entry(json.loads(line)) for line in lines]


def _entry(told: dict[str, Any]) -> Entry:
    return Entry(told.pop("at"), told.pop("what"), told)


def of(entries: Iterable[Entry], *whats: str) -> Iterator[Entry]:
    """The entries of some kinds."""
    return (entry for entry in entries if entry.what in whats)
