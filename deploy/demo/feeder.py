"""Replays a data set in the background while the demo shows what becomes of it."""

from __future__ import annotations

import threading
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self

from deploy.replay.producer import Pace, Progress, Sender
from deploy.replay.producer import replay as send_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from deploy.demo.view import Board, Ending
    from deploy.replay.corpus import Corpus
    from deploy.replay.envelope import Event


AHEAD: Final = 1_500
"""So many events at most are sent that the worker has not read.

Its topics differ in size by a factor of ten. Were all of them full, it would have read the payments of next year before
the usage of today, and take for silence what it merely has not read.
"""
CHUNK: Final = 500
_LOOK_EVERY_SECONDS: Final = 0.02


class Feeder:
    """A thread that replays no faster than the worker reads; a context manager that ends it."""

    def __init__(self, corpus: Corpus, connection: Mapping[str, Any], prefix: str, pace: Pace) -> None:
        """Nothing is sent before it is entered."""
        self._corpus = corpus
        self._sender = Sender(connection, prefix)
        self._pace = pace
        self._stop = threading.Event()
        self._progress = Progress()
        self._read = 0
        self._endings: SimpleQueue[tuple[str, str, Ending]] = SimpleQueue()
        self._failure: BaseException | None = None
        self._is_complete = False
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop, once what was sent has arrived."""
        self._stop.set()
        self._thread.join()

    def tell(self, board: Board) -> bool:
        """Show the board how far it is, look there how far the worker is, and return whether all was sent.

        Raises what the replay failed with.
        """
        # First whether it is complete, then how far: the other way round the last of it could be missed.
        is_complete = self._is_complete
        if self._failure is not None:
            raise self._failure
        if board.worker is not None:
            self._read = board.worker.read
        progress = self._progress
        board.sent, board.sent_until = progress.acknowledged, progress.reached
        while not self._endings.empty():
            board.subscription_ended(*self._endings.get_nowait())
        return is_complete

    def _run(self) -> None:
        try:
            with self._sender as sender:
                events = self._noted(self._corpus.events())
                send_all(events, sender, pace=self._pace, stop=self._stop, tell=self._take, chunk=CHUNK)
            self._is_complete = not self._stop.is_set()
        except BaseException as failure:  # noqa: BLE001 - handed to the thread that asks, which raises it
            self._failure = failure

    def _take(self, progress: Progress) -> None:
        self._progress = replace(progress)
        while progress.acknowledged - self._read > AHEAD - CHUNK and not self._stop.is_set():
            self._stop.wait(_LOOK_EVERY_SECONDS)

    def _noted(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass events on, and note which subscriptions end: that is what the alerts are held against."""
        for event in events:
            if event["type"] == "subscription.upserted" and event["data"]["status"] == "canceled":
                ending: Ending = "cancelled" if "canceled_at" in event["data"] else "completed"
                self._endings.put((event["subject"], event["time"], ending))
            yield event
