"""One real broker for a test run, shared by its workers, and brokers of a test's own to kill and freeze."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kafka.admin import KafkaAdminClient

from deploy import kafka

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RUN_DIR_KEY: Final = "TEST_BROKER_DIR"
"""Where the run's broker lives: set by the pytest that was called, inherited by the workers it starts.

No `CHURNWATCH_` before it: a variable of that name that is no setting would be called a mistake.
"""

_RUN_PREFIX: Final = "churnwatch-test-"
_OWNER_FILE: Final = "owner.pid"


def open_run() -> bool:
    """Prepare a folder for this run's broker; return False in a worker, which uses its parent's."""
    if RUN_DIR_KEY in os.environ:
        return False
    _sweep()
    run_dir = Path(tempfile.mkdtemp(prefix=_RUN_PREFIX)).resolve()
    (run_dir / _OWNER_FILE).write_text(str(os.getpid()), encoding="ascii")
    os.environ[RUN_DIR_KEY] = str(run_dir)
    return True


def close_run() -> None:
    """Take the run's broker away, if a test wanted one, and its folder."""
    _remove(Path(os.environ.pop(RUN_DIR_KEY)))


def shared_bootstrap() -> str:
    """Return the address of the cluster `KAFKA_BOOTSTRAP` names, else of the run's broker, started by the first to ask.

    Raises when it cannot start: a test that needs a broker fails without one.
    """
    if own := os.environ.get("KAFKA_BOOTSTRAP"):
        return own
    settings = kafka.LauncherSettings.from_environment(os.environ, Path(os.environ[RUN_DIR_KEY]) / "kafka")
    return kafka.start(settings, port=0).bootstrap


@contextlib.contextmanager
def private_broker(data_dir: Path, extra_properties: Mapping[str, str] | None = None) -> Iterator[kafka.Broker]:
    """Start a broker that only this test knows, and take it away however the test ends (or restarts it)."""
    settings = kafka.LauncherSettings.from_environment(os.environ, data_dir)
    try:
        yield kafka.start(settings, port=0, extra_properties=extra_properties)
    finally:
        _kill(data_dir)


def delete_topics(bootstrap: str, prefix: str) -> None:
    """Delete the topics whose names begin with a prefix: a cluster that is not the run's own is left as it was."""
    with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
        names = [name for name in client.list_topics() if name.startswith(prefix)]
        if names:
            client.delete_topics(names)


def _sweep() -> None:
    """Take away the brokers of earlier runs that were killed before they could do it themselves."""
    for run_dir in Path(tempfile.gettempdir()).resolve().glob(f"{_RUN_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if run_dir.stat().st_uid == os.getuid() and not _is_alive(int((run_dir / _OWNER_FILE).read_text("ascii"))):
                _remove(run_dir)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(run_dir: Path) -> None:
    _kill(run_dir / "kafka")
    shutil.rmtree(run_dir, ignore_errors=True)


def _kill(data_dir: Path) -> None:
    broker = kafka.running(data_dir)
    if broker is not None:
        broker.kill()
