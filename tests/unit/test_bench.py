"""The benchmark: its load, what it makes of what it measured, and that it leaves no process behind."""

from __future__ import annotations

import importlib.resources
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from deploy.bench import latency, results
from deploy.bench.fastest_python import candidates, fastest
from deploy.bench.load import SHARES, SPAN_SECONDS, TOPICS, Load
from deploy.bench.measuring import CLOCK, BenchError, Cost, Page, child
from deploy.bench.results import Spread
from deploy.bench.steps import STEPS, parse_steps
from deploy.bench.yardsticks import job, runner, streams
from deploy.kafka_jars import manifest as kafka_manifest
from models.decoding import decode_batch
from models.health import Scale
from models.input_topics import INPUT_TOPICS
from models.times import parse_us
from stream_app.pipeline import Definition, Partition
from stream_app.settings import Settings, load_settings

END_US = parse_us("2026-11-18T10:00:00Z")
USUAL = Load(10_000, 2_000, END_US)
EVEN = Load(5_000, 1_000, END_US, is_even=True)


def records(load: Load) -> dict[str, list[Any]]:
    """Return a load as a consumer would see it, by topic."""
    found: dict[str, list[Any]] = defaultdict(list)
    for topic, account_id, event in load.messages():
        found[TOPICS[topic]].append(record(account_id, event))
    return found


def record(account_id: str, event: str, offset: int = 0) -> Any:
    """Return one record as a consumer would see it."""
    return SimpleNamespace(key=account_id.encode(), value=event.encode(), headers=(), timestamp=END_US // 1000, offset=offset, partition=0)


def packaged(name: str) -> Path:
    """Return a file that the benchmark ships."""
    return Path(str(importlib.resources.files("deploy.bench").joinpath(name)))


# -- the load


def test_the_same_seed_gives_the_same_events() -> None:
    """Two loads of the same numbers are the same to the byte."""
    assert list(USUAL.messages()) == list(Load(10_000, 2_000, END_US).messages())


def test_another_end_changes_the_times_alone() -> None:
    """A load of another day is the same load: accounts, topics and ids stay."""
    later = Load(10_000, 2_000, END_US + 86_400_000_000)
    for (topic, account_id, event), (other_topic, other_id, other) in zip(USUAL.messages(), later.messages(), strict=True):
        assert (topic, account_id) == (other_topic, other_id)
        assert json.loads(event)["id"] == json.loads(other)["id"]


def test_the_service_accepts_every_event_of_a_load() -> None:
    """Nothing in a load ends in the dead letters."""
    for topic, some in records(USUAL).items():
        decoded = decode_batch(topic, some)
        assert not decoded.rejected
        assert len(decoded.events) == len(some)


def test_the_topics_have_their_shares() -> None:
    """Nine in ten events are usage, six in a hundred tickets, four in a hundred payments."""
    counts = {topic: len(some) for topic, some in records(USUAL).items()}
    for topic, share in zip(TOPICS, SHARES, strict=True):
        assert counts[topic] / USUAL.events == pytest.approx(share, abs=0.01)


def test_an_event_has_about_two_hundred_bytes() -> None:
    """The mean size is what real envelopes have."""
    sizes = [len(event) for _, _, event in USUAL.messages()]
    assert 200 <= sum(sizes) / len(sizes) <= 260


def test_the_events_lie_in_the_hour_before_the_end_and_never_after_it() -> None:
    """Times ascend over the span, and the last is the end itself."""
    times = np.array([parse_us(json.loads(event)["time"]) for _, _, event in USUAL.messages()])
    assert (np.diff(times) >= 0).all()
    assert times[-1] == END_US
    assert 0 <= times[0] - (END_US - SPAN_SECONDS * 1_000_000) < 1_000_000


def test_no_event_id_comes_twice() -> None:
    """A load holds no duplicates, so a worker must apply all of it."""
    ids = [json.loads(event)["id"] for _, _, event in USUAL.messages()]
    assert len(set(ids)) == len(ids)


def test_the_usual_load_is_unequal_and_the_even_one_is_not() -> None:
    """By Zipf's law a few accounts have much; evenly all have about the same, and each has something."""
    usual = np.bincount(USUAL.plan.account, minlength=USUAL.accounts)
    even = np.bincount(EVEN.plan.account, minlength=EVEN.accounts)
    assert usual.max() > 10 * np.median(usual)
    assert usual.max() < 0.01 * USUAL.events
    assert even.min() == even.max() == 5


def test_the_plan_knows_what_a_reader_counts() -> None:
    """Accounts and uses of the plan are those of the events: a yardstick that lost one is found out."""
    accounts = set()
    uses = 0
    for _, account_id, event in USUAL.messages():
        said = json.loads(event)
        accounts.add(account_id)
        if said["type"].startswith("usage."):
            uses += said["data"].get("count", 1)
    assert (USUAL.plan.accounts_touched, USUAL.plan.uses_counted) == (len(accounts), uses)


def test_replies_and_solutions_are_to_open_tickets_of_the_same_account() -> None:
    """A ticket is created before anything else happens to it, and nothing does after it is solved."""
    opened: dict[str, set[str]] = defaultdict(set)
    kinds: Counter[str] = Counter()
    for some in records(Load(10_000, 100, END_US))["ticket-events"]:
        said = json.loads(some.value)
        ticket = said["data"]["ticket_id"]
        kinds[said["type"]] += 1
        if said["type"] == "ticket.created":
            assert ticket not in opened[said["subject"]]
            opened[said["subject"]].add(ticket)
        else:
            assert ticket in opened[said["subject"]]
            if said["type"] == "ticket.status_changed":
                opened[said["subject"]].remove(ticket)
    assert min(kinds.values()) > 50


# -- the probes


def test_every_tenth_event_is_a_probe_of_an_account_of_its_own() -> None:
    """The others are the usual load; all of them are dated now."""
    sent = list(latency.messages(100, 2.0))
    probes = [message[1] for message, is_probe in sent if is_probe]
    assert len(sent) == 200
    assert len(set(probes)) == len(probes) == 20
    for (topic, account_id, event), is_probe in sent:
        assert account_id.startswith("probe-") == is_probe
        assert not decode_batch(TOPICS[topic], [live(account_id, event)]).rejected


def live(account_id: str, event: str) -> Any:
    """Return a record that the broker has received just now."""
    found = record(account_id, event)
    found.timestamp = CLOCK.now_us() // 1000
    return found


def test_a_probe_opens_an_alert_at_once() -> None:
    """With the configuration that is measured with, one failed charge of a new account is a critical alert."""
    settings = load_settings(packaged("latency.yaml"))
    partition = Partition(
        0,
        Definition(
            kinds={name: name for name in INPUT_TOPICS},
            scale=Scale.of(settings.health),
            rules=settings.alerts,
            config_version=settings.config_version,
            release="test",
        ),
    )
    ((topic, account_id, event), is_probe) = next(iter(latency.messages(1, 1.0)))
    assert is_probe
    partition.step(TOPICS[topic], [live(account_id, event)], 1, set(), parse_us(json.loads(event)["time"]))
    (said,) = partition.take().alerts
    assert (said.key, str(said.kind)) == (account_id.encode(), "opened")


def test_latencies_count_from_the_end_of_the_warm_up() -> None:
    """What was sent before is not counted, but must come out all the same."""
    watch = latency.Watch({b"a": 1.0, b"b": 10.0, b"c": 11.0})
    watch.seen["churn-alerts"] |= {b"a": 2.0, b"b": 10.05}
    assert watch.latencies_ms("churn-alerts", since=10.0) == [pytest.approx(50.0)]
    assert watch.lost("churn-alerts") == 1


def test_the_throughput_configuration_only_takes_the_waits_away() -> None:
    """The scorecard that is measured is the product's own."""
    measured, default = load_settings(packaged("throughput.yaml")), Settings()
    assert measured.health == default.health
    assert measured.alerts.pending_for.at_risk == measured.alerts.pending_for.critical == 0


# -- what was measured


def test_a_page_of_metrics_is_added_up_by_name_and_label() -> None:
    """A metric's samples are those of its whole name, whatever their labels."""
    page = Page.parse(
        "# HELP churnwatch_events_total Records.\n"
        'churnwatch_events_total{outcome="applied",topic="usage-events"} 7.0\n'
        'churnwatch_events_total{outcome="late",topic="usage-events"} 2.0\n'
        'churnwatch_events_created{outcome="late",topic="usage-events"} 1.7e+09\n'
    )
    assert page.total("churnwatch_events_total") == 9
    assert page.total("churnwatch_events_total", 'outcome="applied"') == 7


@pytest.mark.parametrize(("slow", "bound"), [(0, 1.0), (1, 2.5)])
def test_the_longest_observation_is_known_by_the_least_bound_above_all(slow: int, bound: float) -> None:
    """A histogram tells no maximum, but one that it does not exceed."""
    lines = {"0.5": 3, "1.0": 5, "2.5": 5 + slow, "+Inf": 5 + slow}
    text = "".join(f'x_seconds_bucket{{le="{le}"}} {count}\n' for le, count in lines.items())
    assert Page.parse(f"{text}x_seconds_count {5 + slow}\n").at_most("x_seconds") == bound


def test_cost_is_what_was_used_between_two_moments() -> None:
    """The broker's cost is unknown as soon as one of the two is."""
    before, after = Cost(10.0, 1.0, 5.0), Cost(12.5, 4.0, 5.5)
    assert after.since(before) == (2.5, 3.0, 0.5)
    assert after.since(Cost(10.0, 1.0, None)) == (2.5, 3.0, None)


def test_a_spread_is_least_median_and_greatest() -> None:
    """Of an even number of runs the median lies between the two in the middle."""
    assert Spread.of([3.0, 1.0, 2.0]).as_json() == {"min": 1.0, "median": 2.0, "max": 3.0}
    assert Spread.of([1.0, 2.0]).median == 1.5


RUNS: list[results.Found] = [
    {
        "events_per_second": 60_000,
        "worker_cpu_seconds_per_million": cpu,
        "broker_cpu_seconds_per_million": None,
        "alert_latency_ms.p50": 40.0,
        "yardsticks.kafka_streams_1_thread.cpu_seconds_per_million": 17.0,
        "yardsticks.kafka_streams_2_threads.cpu_seconds_per_million": 21.0,
    }
    for cpu in (9.0, 18.0, 10.0)
]


def test_the_results_group_what_belongs_together() -> None:
    """Latencies and yardsticks are objects of their own; what could not be known is null, with its reason."""
    written = results.document(RUNS, facts={"kafka": "4.3.1"}, reasons={"broker_cpu_seconds_per_million": "not ours"})
    assert written["worker_cpu_seconds_per_million"] == {"min": 9.0, "median": 10.0, "max": 18.0}
    assert written["alert_latency_ms"]["p50"]["median"] == 40.0
    assert written["yardsticks"]["kafka_streams_1_thread"]["cpu_seconds_per_million"]["max"] == 17.0
    assert written["broker_cpu_seconds_per_million"] is None
    assert written["reasons"] == {"broker_cpu_seconds_per_million": "not ours"}
    assert len(written["each_run"]) == written["runs"] == 3
    assert json.loads(json.dumps(written, allow_nan=False)) == written


def test_a_target_is_held_against_the_median() -> None:
    """One slow run of three does not fail it; what was not measured is neither met nor missed."""
    judged = {target["title"]: target for target in results.document(RUNS, facts={})["targets"]}
    assert judged["worker, 20k accounts"]["is_met"]
    assert judged["one worker, 20k accounts"]["is_met"]
    assert judged["200k accounts rebuilt"]["is_met"] is None


def test_the_worker_is_held_against_the_cheapest_kafka_streams() -> None:
    """The limit is what the best of its variants took in the same runs."""
    target = results.targets(results.spreads(RUNS))[-1]
    assert (target.figure, target.way, target.limit) == ("worker_cpu_seconds_per_million", "at most", 17.0)


def test_the_tables_show_every_target_and_every_figure() -> None:
    """A target that was not measured has its row, too."""
    targets, figures = results.tables(RUNS)
    assert targets.row_count == len(results.TARGETS) + 1
    assert figures.row_count == len(RUNS[0])


def test_results_are_written_whole(tmp_path: Path) -> None:
    """The folder is made, and no unfinished file stays."""
    results.write(tmp_path / "new" / "bench-results.json", results.document(RUNS, facts={}))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["bench-results.json"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("all", set(STEPS)),
        ("throughput, latency", {"throughput", "latency"}),
        ("rebuild", {"wide"}),
        ("decode,memory", {"decode", "throughput", "wide"}),
    ],
)
def test_steps_have_names_and_groups(said: str, meant: set[str]) -> None:
    """Steps are named with commas between."""
    assert parse_steps(said) == meant


def test_an_unknown_step_is_refused_with_those_that_are_known() -> None:
    """A slip of the pen does not measure nothing for a quarter of an hour."""
    with pytest.raises(ValueError, match="'throughputs' is not measured here; known are throughput, wide"):
        parse_steps("throughputs")


# -- the yardsticks


def test_the_small_job_keeps_thirty_days_of_uses() -> None:
    """A day that is over thirty days back has made room."""
    account = job.new_account()
    assert job.fold(account, "usage.event", "2026-10-01T10:00:00.000Z", {"count": 3, "user_id": "u-000001-07"}) == 3
    assert job.fold(account, "usage.page", "2026-10-30T23:59:59.999Z", {"path": "/"}) == 1
    assert sum(account["uses"]) == 4
    job.fold(account, "usage.session", "2026-10-31T00:00:00.000Z", {"session_id": "s"})
    assert sum(account["uses"]) == 2


def test_the_small_job_says_once_that_a_risk_has_crossed_the_line() -> None:
    """Only the crossing is said, not the state."""
    account = job.new_account()
    crossed = []
    for _ in range(3):
        job.fold(account, "charge.failed", "2026-10-01T10:00:00.000Z", {})
        crossed.append(job.score(account))
    assert crossed == [True, False, False]


def test_the_fastest_python_is_one_that_can_run_the_project(tmp_path: Path) -> None:
    """What cannot be run, or is of another version, is left out; with nothing left there is none."""
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert candidates(str(tmp_path))[0] == str(broken)
    assert fastest([str(broken), sys.executable], rounds=1) == sys.executable
    assert fastest([str(broken)], rounds=1) is None


def test_the_jars_that_kafka_streams_shares_with_kafka_are_the_same() -> None:
    """They are fetched once, into one cache; the two that are new have their own pins."""
    kafkas = set(kafka_manifest())
    assert {jar.name for jar in set(streams.manifest()) - kafkas} == {"kafka-streams-4.3.1.jar", "rocksdbjni-10.1.3.jar"}


def test_a_java_without_a_compiler_is_told_apart(tmp_path: Path) -> None:
    """The message names the mend, and how to go on without."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.1\"' >&2\n")
    java.chmod(0o755)
    with pytest.raises(BenchError, match=r"javac is missing.*is a JRE.*install a JDK 17 or newer.*--only throughput"):
        streams.Jdk.find({"JAVA_HOME": str(tmp_path), "PATH": ""})


def yardstick(counted: dict[str, int]) -> list[str]:
    """Return the command of a process that speaks as a yardstick does."""
    program = (
        f"from deploy.bench.yardsticks.speaking import *\nsay(FIRST); say(LAST); say(DURABLE); say_result(**{counted}); wait_for_leave()"
    )
    return [sys.executable, "-c", program]


def test_a_yardstick_is_measured_from_its_first_mark_to_its_last(tmp_path: Path) -> None:
    """What it counted is held against the load."""
    counted = {"events": EVEN.events, "uses": EVEN.plan.uses_counted, "alerts": 3}
    found = runner.run(yardstick(counted), tmp_path / "log", EVEN, psutil.Process().pid)
    assert found["events_per_second"] > 0
    assert found["alerts"] == 3
    assert found["broker_cpu_seconds_per_million"] >= 0


def test_a_yardstick_that_lost_an_event_is_no_measure(tmp_path: Path) -> None:
    """It has done less, so what it took means nothing."""
    with pytest.raises(BenchError, match=r"the yardstick counted \{'events': 4999\}"):
        runner.run(yardstick({"events": EVEN.events - 1}), tmp_path / "log", EVEN, None)


def test_a_yardstick_that_fails_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    """Whoever reads the message knows why."""
    command = [sys.executable, "-c", "raise SystemExit('no broker there')"]
    with pytest.raises(BenchError, match="did not say 'MARK first': no broker there"):
        runner.run(command, tmp_path / "log", EVEN, None)


def test_a_process_is_ended_whatever_happens(tmp_path: Path) -> None:
    """An error in the measuring leaves nothing running."""
    with pytest.raises(ZeroDivisionError), child([sys.executable, "-c", "input()"], tmp_path / "log", is_spoken_to=True) as process:
        _ = 1 / 0
    assert process.poll() is not None
