"""The demo as a user starts it: from nothing to scored accounts, and back to nothing."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil
import pytest
from kafka.admin import KafkaAdminClient

from deploy.replay.corpus import SAMPLE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

DEMO = [sys.executable, "-P", "-m", "deploy.demo"]
EVERY = 20
"""So many accounts of the sample for one that is taken, from all its products and terms."""


@pytest.fixture
def few_accounts(tmp_path: Path) -> Path:
    """Return a directory with some accounts of the sample and their rows."""
    directory = tmp_path / "data"
    directory.mkdir()
    kept: set[str] = set()
    for part, column in (("accounts", 0), ("usage", 1), ("commitments", 1)):
        name = f"oulad_small_{part}.csv.gz"
        with (
            gzip.open(SAMPLE_DIR / name, "rt", encoding="utf-8") as rows,
            gzip.open(directory / name, "wt", encoding="utf-8") as out,
        ):
            out.write(next(rows))
            for number, row in enumerate(rows):
                account_id = row.split(",")[column]
                if part == "accounts" and number % EVERY == 0:
                    kept.add(account_id)
                if account_id in kept:
                    out.write(row)
    return directory


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which everything temporary lies in a folder of the test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return {key: value for key, value in os.environ.items() if key != "KAFKA_BOOTSTRAP"} | {"TMPDIR": str(folder)}


def _until(lines: IO[str], pattern: str) -> Iterator[str]:
    """Yield lines up to the one that has the pattern in it."""
    for line in lines:
        yield line
        if re.search(pattern, line):
            return


def _started_by(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _gone(processes: list[psutil.Process]) -> bool:
    return not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_the_demo_scores_everything_and_leaves_nothing(few_accounts: Path, environment: dict[str, str]) -> None:
    """With its own Kafka: every event is sent and applied, accounts at risk are named with reasons, all of it ends."""
    command = [*DEMO, str(few_accounts), "--exit-when-done"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    total = re.search(r": ([\d,]+) events", ran.stdout)
    assert total is not None
    picture = ran.stdout[ran.stdout.rindex("\nlog ") :]
    assert re.search(rf"events +{total[1]} of {total[1]} sent, {total[1]} applied, [\d,]+/s, lag 0", picture)
    assert re.search(r"cancelled +\d+, of which \d+ with an alert open", picture)
    assert re.search(r"alerts +[1-9][\d,]* open", picture)
    assert re.search(r"^A\d{5} +\d+ .*of the last 28 days.* \d{4}-\d\d-\d\d$", picture, flags=re.MULTILINE)
    assert ran.stderr == ""
    assert not any(Path(environment["TMPDIR"]).iterdir())


def test_ctrl_c_ends_all_of_it(few_accounts: Path, environment: dict[str, str]) -> None:
    """Exit code 0, no traceback, no process and no file left: neither Kafka nor the worker outlives the demo."""
    command = [*DEMO, str(few_accounts), "--speed", "2000000"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        said = list(_until(demo.stdout, r"applied"))
        started = _started_by(demo)
        assert len(started) == 2, said
        demo.send_signal(signal.SIGINT)
        said.extend(demo.stdout)
    assert demo.returncode == 0, "".join(said)
    assert "Traceback" not in "".join(said)
    assert _gone(started)
    assert not any(Path(environment["TMPDIR"]).iterdir())


def test_a_worker_that_dies_ends_the_demo(few_accounts: Path, environment: dict[str, str]) -> None:
    """The demo says so with the end of the worker's log, keeps that log, ends the rest, and does not end with 0."""
    command = [*DEMO, str(few_accounts), "--speed", "2000000"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        said = list(_until(demo.stdout, r"applied"))
        started = _started_by(demo)
        worker = re.search(r"Worker +pid (\d+), log (\S+),", "".join(said))
        assert worker is not None
        os.kill(int(worker[1]), signal.SIGKILL)
        said.extend(demo.stdout)
    assert demo.returncode == 1, "".join(said)
    assert f"error: the worker was killed by signal 9; its log is {worker[2]}" in "".join(said)
    assert "Traceback" not in "".join(said)
    assert _gone(started)
    assert list(Path(environment["TMPDIR"]).iterdir()) == [Path(worker[2])]


def test_a_cluster_of_the_users_own_is_left_as_it_was(few_accounts: Path, environment: dict[str, str], kafka_bootstrap: str) -> None:
    """With KAFKA_BOOTSTRAP no broker is started, and the demo's topics and group are gone afterwards."""
    command = [*DEMO, str(few_accounts), "--exit-when-done"]
    own = environment | {"KAFKA_BOOTSTRAP": kafka_bootstrap}
    ran = subprocess.run(command, env=own, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"your own cluster {kafka_bootstrap}" in ran.stdout
    with KafkaAdminClient(bootstrap_servers=[kafka_bootstrap]) as admin:
        assert [topic for topic in admin.list_topics() if topic.startswith("demo-")] == []
        assert [group for group in admin.list_groups() if group["group_id"].startswith("demo-")] == []
