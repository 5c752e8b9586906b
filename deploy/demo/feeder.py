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
    from deploy.replay.corpus import Corpus, Window
    from deploy.replay.envelope import Event


CHUNK: Final = 500


class Feeder:
    """A thread that replays the events of a window; a context manager that ends it."""

    def __init__(self, corpus: Corpus, window: Window, connection: Mapping[str, Any], prefix: str, pace: Pace) -> None:
        """Nothing is sent before it is entered."""
        self._corpus = corpus
        self._window = window
        self._sender = Sender(connection, prefix)
        self._pace = pace
        self._stop = threading.Event()
        self._progress = Progress()
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
        progress = self._progress
        board.sent, board.sent_until = progress.acknowledged, progress.reached
        while not self._endings.empty():
            board.subscription_ended(*self._endings.get_nowait())
        return is_complete

    def _run(self) -> None:
        try:
            with self._sender as sender:
                events = self._noted(self._window.of(self._corpus.events()))
                send_all(events, sender, pace=self._pace, stop=self._stop, tell=self._take, chunk=CHUNK)
            self._is_complete = not self._stop.is_set()
        except BaseException as failure:  # noqa: BLE001 - handed to the thread that asks, which raises it
            self._failure = failure

    def _take(self, progress: Progress) -> None:
        self._progress = replace(progress)

    def _noted(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass events on, and note which subscriptions end: that is what the alerts are held against."""
        for event in events:
            if event["type"] == "subscription.upserted" and event["data"]["status"] == "canceled":
                ending: Ending = "cancelled" if "canceled_at" in event["data"] else "completed"
                self._endings.put((event["subject"], event["time"], ending))
            yield event
