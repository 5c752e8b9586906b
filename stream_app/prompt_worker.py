"""Faust's worker, ended as soon as everything is stopped."""

import asyncio

import faust

_LAST_WORDS_SECONDS = 1.0


class PromptWorker(faust.Worker):
    """Ends when its services have: Faust's waits two seconds more, for tasks that never end by themselves and then for nothing."""

    def _gather_all(self) -> None:
        """Cancel what is left and wait for that; whatever had to be written is: the services stopped before this."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=_LAST_WORDS_SECONDS))

    async def _sentinel_task(self) -> None:
        """Wait for nothing."""
