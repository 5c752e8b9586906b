"""A data set ready to be replayed, and the part of its time that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from deploy.replay.envelope import ReplayDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from deploy.replay.envelope import Event

SAMPLE_DIR: Final = Path(__file__).parents[1] / "data"
"""The data that ship with the product."""
_FOREVER: Final = "9999-12-31"


@dataclass(frozen=True, slots=True)
class Window:
    """The days `[since, until)`, as ISO dates."""

    since: str = ""
    until: str = _FOREVER

    def holds(self, moment: str) -> bool:
        """Say whether a day, or a time, is in it: text order is time order."""
        return self.since <= moment < self.until

    def of(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield those of events in time order that are in it, and stop at its end."""
        for event in events:
            if event["time"] >= self.until:
                return
            if event["time"] >= self.since:
                yield event

    @classmethod
    def chosen(cls, corpus: Corpus, since: date | None, until: date | None, limit_days: int | None) -> Self:
        """Return the window asked for; `limit_days` counts from the first event in it.

        Raises `ReplayDataError` when no event is in it.
        """
        window = cls(since.isoformat() if since else "", until.isoformat() if until else _FOREVER)
        first = next(window.of(corpus.events()), None)
        if first is None:
            message = f"{corpus.title} has no event from {window.since or 'its beginning'} until {window.until}"
            raise ReplayDataError(message)
        if limit_days is None:
            return window
        end = date.fromisoformat(first["time"][:10]) + timedelta(days=limit_days)
        return cls(window.since, min(window.until, end.isoformat()))


@dataclass(frozen=True, slots=True)
class Corpus:
    """A data set: `events()` begins anew each time, in time order; `count` says how many of them a window holds."""

    title: str
    events: Callable[[], Iterator[Event]]
    count: Callable[[Window], int]
