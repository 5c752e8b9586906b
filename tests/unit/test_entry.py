"""The command while it is being imported, which takes a second or more."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = "from deploy.entry import main; main()"


def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_traceback() -> None:
    """Python tells what it imports: at the first module after the command itself it is interrupted, and says nothing of its own."""
    command = [sys.executable, "-X", "importtime", "-P", "-c", PROGRAM, "topics", "check", "--bootstrap", "127.0.0.1:1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "typer" in line:
                process.send_signal(signal.SIGINT)
                break
        told += process.stderr.readlines()
        assert process.wait(timeout=30) == -signal.SIGINT
    assert not [line for line in told if not line.startswith("import time:")]
