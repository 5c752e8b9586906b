"""Plays scenarios and judges them: the faults under traffic, the refusals, the drain, `churnwatch verify`, the report."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from deploy import kafka
from deploy.verify.run import verify
from stream_app.admin import apply_topics
from stream_app.clock import WallClock
from stream_app.exits import ServiceExit
from stream_app.topics import Installation
from tests.chaos import history as histories
from tests.chaos import judge, skewed
from tests.chaos.acts import ACTS, REFUSALS, ImpossibleError, clock_file, set_clock, start_all
from tests.chaos.schedule import Form, Plan, Way, plan
from tests.chaos.stage import PLANTED, Stage
from tests.support.broker import private_broker
from tests.support.memory_worker import AT_ONCE
from tests.support.worker import Workers, workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deploy.verify.report import Report

META: Final = "scenario.json"
REPORT: Final = "report.json"
VERIFIED: Final = "verify.json"
BROKER: Final = "kafka"
REFUSED: Final = "refused"


def tell(text: str) -> None:
    """Say on stderr how far it is."""
    print(f"{time.monotonic() - _BEGAN:7.1f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201 - a command


_BEGAN: Final = time.monotonic()


def play(drawn: Plan, directory: Path, bootstrap: str, prefix: str, broker: kafka.Broker | None = None) -> judge.Summary:
    """Play a scenario on a broker and judge it; what was seen is in the directory, and what broke it off is in the summary."""
    directory.mkdir(parents=True, exist_ok=True)
    written = {"scenario": drawn.scenario, "prefix": prefix, "plan": asdict(drawn)}
    (directory / META).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    with histories.History(directory) as history:
        history.tell(
            "begin",
            scenario=drawn.scenario,
            seed=drawn.seed,
            form=drawn.form,
            faults=len(drawn.faults),
            refusals=len(drawn.refusals),
            prefix=prefix,
            unix_us=WallClock().now_us(),
        )
        try:
            _play_faults(drawn, directory, bootstrap, prefix, history, broker)
            _play_refusals(drawn, directory / REFUSED, bootstrap, f"{prefix}-{REFUSED}", history)
        except (AssertionError, OSError, ServiceExit, KafkaError, KafkaException) as error:
            history.tell("broken", why=f"{type(error).__name__}: {error}")
        history.tell("end")
    return judged(directory, bootstrap)


def _play_faults(
    drawn: Plan, directory: Path, bootstrap: str, prefix: str, history: histories.History, broker: kafka.Broker | None
) -> None:
    apply_topics(bootstrap, Installation(prefix=prefix, app_id=prefix))
    with workers(bootstrap, prefix, directory, has_tails=False) as crew:
        if drawn.is_clock_moved:
            set_clock(crew, "0")
            crew.program = (skewed.__file__,)
            crew.environment["TEST_CLOCK_FILE"] = str(clock_file(crew))
        stage = Stage(drawn, crew, history, broker)
        with stage.cleanups, stage.gauge, stage.watcher:
            try:
                with stage.traffic:
                    _storm(stage)
                stage.drain()
            finally:
                history.tell("produced", events=stage.produced)
        _note_leavings(stage)


def _storm(stage: Stage) -> None:
    start_all(stage)
    stage.wait_all_served()
    stage.history.tell("served")
    drawn = stage.plan
    for number, fault in enumerate(drawn.faults, 1):
        stage.flow(fault.after_seconds)
        tell(f"{drawn.scenario}: fault {number} of {len(drawn.faults)}: {fault.kind} {fault.detail}")
        try:
            ACTS[fault.kind](stage, fault)
        except ImpossibleError as error:
            stage.history.tell("impossible", kind=fault.kind, why=str(error))
        if fault.quiet_seconds:
            stage.quiet(fault.quiet_seconds)


def _note_leavings(stage: Stage) -> None:
    """Write down whether the group is left, and which local stores were put aside."""
    if stage.plan.way is not Way.STATIC:  # a static member does not leave
        with KafkaAdminClient(bootstrap_servers=stage.crew.bootstrap) as admin:
            (group,) = admin.describe_groups([stage.crew.prefix]).values()
        stage.history.tell("group", members=len(group["members"] or ()))
    logs = {worker.log for worker in stage.crew.started}
    stage.history.tell("put aside", count=sum(log.read_text("utf-8", "replace").count("is put aside") for log in logs))


def _play_refusals(drawn: Plan, directory: Path, bootstrap: str, prefix: str, history: histories.History) -> None:
    """Do what nobody can go on after, on an installation of its own whose worker was killed behind its inputs."""
    if not drawn.refusals:
        return
    apply_topics(bootstrap, Installation(prefix=prefix, app_id=prefix))
    directory.mkdir()
    with workers(bootstrap, prefix, directory, has_tails=False) as crew:
        stage = Stage(replace(drawn, workers=1), crew, history)
        with stage.gauge:
            with stage.traffic:
                stage.start("worker")
                stage.wait_all_served()
                stage.flow(3)
                stage.wait_lag()
                stage.end("worker", "SIGKILL")
                stage.flow(1)
            lag = stage.wait_lag().lag
            history.tell("produced", events=stage.produced)
        for number, fault in enumerate(drawn.refusals, 1):
            tell(f"{drawn.scenario}: refusal {number} of {len(drawn.refusals)}: {fault.kind}")
            wrong = _refuse(crew, fault.kind, fault.detail)
            history.tell("refusal", kind=fault.kind, detail=fault.detail, lag_before=lag, wrong=wrong)


def _refuse(crew: Workers, kind: str, detail: str) -> str:
    """Do it; what is wrong with the refusal, empty when nothing is."""
    try:
        REFUSALS[kind](crew, detail)
    except AssertionError as error:
        return str(error)
    return ""


def judged(directory: Path, bootstrap: str) -> judge.Summary:
    """Judge what was kept of a scenario: its history, its logs, its topics. Nothing is written but the verdict: it can be had again."""
    entries = histories.read(directory)
    summary = judge.summarize(entries)
    prefix = next(histories.of(entries, "begin"))["prefix"]
    found = [*summary.problems, *judge.log_problems(_logs(directory), PLANTED)]
    produced = next((entry["produced"] for entry in histories.of(entries, "drained")), None)
    if produced is not None:
        report = _verified(directory, bootstrap, prefix)
        found += _differences(report, produced)
        (directory / "verify.txt").write_text(f"{report}\n", encoding="utf-8")
        (directory / VERIFIED).write_text(json.dumps(report.as_json()) + "\n", encoding="utf-8")
    summary = replace(summary, problems=tuple(found))
    (directory / REPORT).write_text(json.dumps(as_json(summary), indent=1) + "\n", encoding="utf-8")
    return summary


def _logs(directory: Path) -> list[Path]:
    """The workers' logs; below lie their local stores, and RocksDB has files of that name, too."""
    return sorted([*directory.glob("*.log"), *(directory / REFUSED).glob("*.log")])


def _verified(directory: Path, bootstrap: str, prefix: str) -> Report:
    return verify(Workers(bootstrap, prefix, directory).settings(alerts=AT_ONCE))


def _differences(report: Report, produced: int) -> Iterator[str]:
    yield from report.problems
    if report.difference_count > len(report.problems):
        yield f"and {report.difference_count - len(report.problems)} more"
    if report.read.total() != produced:
        yield f"I2: {produced} records were produced, {report.read.total()} have an outcome"
    if not report.alerts.total():
        yield "no alert was ever sent: nothing was tried of them"


def as_json(summary: judge.Summary) -> dict[str, Any]:
    """A summary as a JSON object."""
    return {**asdict(summary), "recover_max": summary.recover_max, "recover_median": summary.recover_median, "ok": not summary.problems}


def table(summaries: Iterable[judge.Summary]) -> str:
    """The report, for people: a line for each scenario, then what is wrong, then what is worth knowing."""
    rows = list(summaries)
    lines = [f"{'scenario':<13}{'faults':>8}{'events':>10}{'duration':>10}{'recover max':>13}{'median':>9}{'differences':>13}"]
    for row in rows:
        faults = f"{row.landed}/{row.planned}"
        lines.append(
            f"{row.scenario:<13}{faults:>8}{row.events:>10}{row.seconds:>8.0f} s"
            f"{_seconds(row.recover_max):>13}{_seconds(row.recover_median):>9}{len(row.problems):>13}"
        )
    for row in rows:
        lines += [f"{row.scenario}: {problem}" for problem in row.problems[:20]]
    lines += [f"  {row.scenario}: {note}" for row in rows for note in row.notes]
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def run(names: Iterable[str], seed: int, form: Form, out: Path) -> list[judge.Summary]:
    """Play scenarios one after the other, on brokers whose data are kept; the report is beside them."""
    drawn = [plan(name, seed, form) for name in names]
    summaries = []
    with contextlib.ExitStack() as stack:
        shared: kafka.Broker | None = None
        for each in drawn:
            directory = out / each.name
            tell(f"{each.scenario}: seed {seed}, {form}, in {directory}")
            if each.has_own_broker:
                with private_broker(directory / BROKER) as own:
                    summaries.append(play(each, directory, own.bootstrap, f"chaos-{each.name}", own))
                    kafka.stop(directory / BROKER)
            else:
                shared = shared or stack.enter_context(private_broker(out / BROKER))
                summaries.append(play(each, directory, shared.bootstrap, f"chaos-{each.name}"))
            tell(f"{each.scenario}: {len(summaries[-1].problems)} differences")
        if shared is not None:
            kafka.stop(out / BROKER)
    return _reported(summaries, out)


def verify_again(out: Path) -> list[judge.Summary]:
    """Judge a run that was kept once more: its brokers are started on their data, its histories and logs are read again."""
    summaries = []
    for directory in sorted(meta.parent for meta in out.glob(f"*/{META}")):
        tell(f"{directory.name}: judged again")
        data = directory / BROKER if (directory / BROKER).is_dir() else out / BROKER
        with private_broker(data) as broker:
            summaries.append(judged(directory, broker.bootstrap))
            kafka.stop(data)
    return _reported(summaries, out)


def _reported(summaries: list[judge.Summary], out: Path) -> list[judge.Summary]:
    (out / REPORT).write_text(json.dumps([as_json(each) for each in summaries], indent=1) + "\n", encoding="utf-8")
    (out / "report.txt").write_text(table(summaries) + "\n", encoding="utf-8")
    return summaries
