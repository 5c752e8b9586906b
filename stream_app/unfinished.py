"""The mark on a changelog partition that is being written as a whole, by a rebuild or an import: no worker may start on half a state.

It is written before the first row and taken away with the cursor, in the last transaction; whoever was killed in between leaves it.
"""

from typing import Final

from stream_app.exits import StateMustBeRebuilt

UNFINISHED_KEY: Final = b"\x00unfinished"
"""The key of the record; its value is the command that writes the state."""


def refuse_unfinished(partition: int, mark: bytes | None) -> None:
    """Raise StateMustBeRebuilt when there is a mark on a partition."""
    if mark is not None:
        command = mark.decode()
        raise StateMustBeRebuilt(
            f"the state of partition {partition} is not whole: {command} was ended before it was done", f"{command}, again"
        )
