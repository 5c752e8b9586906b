"""Where the `churnwatch` command begins: importing it takes a while, and Ctrl-C ends it meanwhile without a word."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Import the command and run it."""
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from deploy.cli import main as run  # noqa: PLC0415 - not before the line above

    signal.signal(signal.SIGINT, handler)
    run()
