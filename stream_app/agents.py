"""The Faust agents: one for each input topic, each a few lines around the pure pipeline; and the tick beside them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from stream_app.app import ChurnwatchApp
    from stream_app.transport import PartitionBatch


def register(app: "ChurnwatchApp") -> None:
    """Attach an agent for each input topic, and the tick, to an app."""
    for topic, kind in app.definition.kinds.items():
        app.agent(app.batches.channels[topic], name=f"stream_app.agents.{kind.replace('-', '_')}")(_agent(app))
    app.timer(app.settings.tick_interval, name="tick")(_tick(app))


def _agent(app: "ChurnwatchApp") -> Any:
    async def fold(batches: "AsyncIterable[PartitionBatch]") -> None:
        """Fold the batches of one input topic, one at a time."""
        async for batch in batches:
            try:
                app.receive(batch)
                await app.advance(batch.tp.partition)
            except Exception as error:  # noqa: BLE001 - crash-only: Faust would acknowledge the batch and go on
                app.fail(error)
            app.consumer.room.set()

    return fold


def _tick(app: "ChurnwatchApp") -> Any:
    async def tick() -> None:
        """Let time pass for accounts that nothing comes from."""
        try:
            await app.tick()
        except Exception as error:  # noqa: BLE001 - crash-only, as above
            app.fail(error)

    return tick
