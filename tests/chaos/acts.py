"""What each kind of fault does, under traffic and lag; and what is refused for good, on an installation of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Final

from stream_app.admin import apply_topics
from stream_app.exits import Exit
from stream_app.topics import Installation, topic_name
from tests.chaos.stage import ACCOUNTS, PLANTED, SERVED_SECONDS, BrokenError, Stage
from tests.integration.test_faults import widen
from tests.integration.test_faults_state import flip_bytes
from tests.support.histories import changelog, cut, delete_group, delete_topic, last_word, refused, replace_topic, set_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.chaos.schedule import Fault
    from tests.support.worker import Worker, Workers

BREAKER_OFF: Final = {
    "CHURNWATCH_DEAD_LETTER_BREAKER__RATIO": "1.0",
    "CHURNWATCH_DEAD_LETTER_BREAKER__CONSECUTIVE": "1000000",
}
FLOOD: Final = 12_000
LARGE_BYTES: Final = 900_000
DISK: Final = "48m"
STILL_SECONDS: Final = 5.0


class ImpossibleError(Exception):
    """This machine does not allow a fault."""


# -- workers


def kill(stage: Stage, fault: Fault) -> None:
    """SIGKILL, and a new start after a while."""
    _bounce(stage, fault, "SIGKILL")


def term(stage: Stage, fault: Fault) -> None:
    """SIGTERM, and a new start after a while."""
    _bounce(stage, fault, "SIGTERM")


def _bounce(stage: Stage, fault: Fault, how: str) -> None:
    name = stage.name_of(fault)
    if fault.is_settled:
        stage.wait_serving(name)
    else:
        stage.wait_joined(name)
    stage.strike(fault, lambda: stage.end(name, how), worker=name)
    stage.flow(fault.down_seconds)
    stage.start(name)
    stage.over()


def scale(stage: Stage, fault: Fault) -> None:
    """Start or stop workers until there are as many as the fault says; each joins the group, but no rebalance is waited for."""
    wanted = {f"worker-{number}" for number in range(int(fault.detail))}

    def deed() -> None:
        for name in sorted(wanted - set(stage.now)):
            stage.start(name)
        for name in sorted(set(stage.now) - wanted):
            stage.let_go(name)

    stage.strike(fault, deed, workers=sorted(wanted))
    for name in sorted(wanted):
        stage.wait_joined(name)  # to stop one that nobody knows of yet would move nothing
    stage.over()


def roll(stage: Stage, fault: Fault) -> None:
    """Restart a static member and wait until it serves again; the group's generation is noted before and after."""
    name = stage.name_of(fault)
    stage.wait_all_served()
    stage.history.tell("generation", is_before=True, value=_generation(stage), worker=name)
    stage.strike(fault, lambda: stage.end(name, "SIGTERM"), worker=name)
    stage.start(name)
    stage.over()
    stage.wait_serving(name)
    stage.wait_all_served()
    stage.history.tell("generation", is_before=False, value=_generation(stage), worker=name)


def _generation(stage: Stage) -> int:
    return max(int(worker.status()["generation"]) for worker in stage.now.values())


def point(stage: Stage, fault: Fault) -> None:
    """Replace a worker by one that kills itself at a point, and that one by a sound one."""
    name = stage.name_of(fault)
    where = fault.detail
    stage.wait_serving(name)
    stage.end(name, "SIGTERM")
    if where.startswith("in_recovery"):
        shutil.rmtree(stage.crew.data_dir(name))
    armed = stage.start(name, CHURNWATCH_FAILPOINT=where)
    if where == "in_shutdown:1":
        stage.wait_serving(name)
        stage.now.pop(name)
        armed.process.send_signal(signal.SIGTERM)
    else:
        stage.now.pop(name)
        if where == "in_rebalance:2":
            _rebalance(stage, armed)
    stage.wait(lambda: armed.exit_code is not None, SERVED_SECONDS, f"the crash at {where}")
    if armed.exit_code != -signal.SIGKILL:
        raise BrokenError(f"armed with {where} it ended with {armed.exit_code}\n{armed.tail()}")
    stage.note_exit(name, armed, f"at {where}", None)
    stage.strike(fault, lambda: None, worker=name)  # the blow has fallen: while it was down traffic came in
    stage.start(name)
    stage.over()


def _rebalance(stage: Stage, armed: Worker) -> None:
    """Bring about another rebalance, once a worker has been through its first."""
    stage.wait(lambda: armed.exit_code is not None or bool(armed.partitions()), SERVED_SECONDS, "the armed worker serves partitions")
    if armed.exit_code is not None:  # joining cost it a second one already
        return
    other = min(stage.now)
    stage.end(other, "SIGTERM")
    stage.start(other)


def freeze(stage: Stage, fault: Fault) -> None:
    """SIGSTOP until others have taken over, and for three session timeouts; then SIGCONT, as if nothing had been."""
    stage.wait_all_served()
    name = stage.name_of(fault)
    zombie = stage.wait_serving(name)

    def deed() -> None:
        stage.frozen.add(name)
        zombie.freeze()

    began = stage.history.now()
    stage.strike(fault, deed, worker=name)
    stage.wait_all_served()
    stage.history.tell("taken over", seconds=round(stage.history.now() - began, 3))
    stage.flow(fault.down_seconds - (stage.history.now() - began))
    zombie.thaw()
    stage.frozen.discard(name)
    stage.over()


def wipe_all(stage: Stage, fault: Fault) -> None:
    """Kill all workers at once, take all their disks away, and start them: everything comes from the changelog."""
    stage.wait_all_served()
    names = sorted(stage.now)

    def deed() -> None:
        for name in names:
            stage.now[name].process.kill()
        for name in names:
            stage.end(name, "SIGKILL")

    stage.strike(fault, deed, workers=names)
    for name in names:
        shutil.rmtree(stage.crew.data_dir(name))
        stage.start(name)
    stage.over()


# -- the broker


def broker_kill(stage: Stage, fault: Fault) -> None:
    """SIGKILL of the broker; meanwhile a worker may be started, or stopped."""
    name = stage.name_of(fault)
    if fault.detail:
        stage.wait_serving(name)
    before = stage.by_itself
    stage.strike(fault, stage.lose_broker)
    if fault.detail == "a worker is started meanwhile":
        stage.end(name, "SIGKILL")
        waiting = stage.start(name)
        stage.wait(lambda: (waiting.get("/livez")[0], waiting.get("/readyz")[0]) == (200, 503), 30.0, f"{name} waits")
    elif fault.detail == "a worker is stopped meanwhile":
        stage.end(name, "SIGTERM")
    stage.flow(fault.down_seconds)
    stage.restore_broker()
    if name not in stage.now:
        stage.start(name)
    stage.over()
    _calm(stage)
    stage.history.tell("outlived", restarts=stage.by_itself - before, seconds=fault.down_seconds, workers=len(stage.now))


def broker_freeze(stage: Stage, fault: Fault) -> None:
    """SIGSTOP of the broker; a worker is killed and started again before it goes on."""
    name = stage.name_of(fault)
    broker = stage.broker
    assert broker is not None

    def deed() -> None:
        stage.is_broker_away = stage.may_refuse = True
        broker.pause()
        stage.history.tell("broker", is_away=True, how="SIGSTOP")

    before = stage.by_itself
    stage.strike(fault, deed)
    stage.flow(fault.down_seconds * 2 / 3)
    stage.end(name, "SIGKILL")
    stage.flow(fault.down_seconds / 3)
    broker.resume()
    stage.is_broker_away = False
    stage.history.tell("broker", is_away=False)
    stage.start(name)
    stage.over()
    _calm(stage)
    stage.history.tell("outlived", restarts=stage.by_itself - before, seconds=fault.down_seconds, workers=len(stage.now))


def _calm(stage: Stage) -> None:
    """Wait until all is served; from then on no worker may end for want of a broker."""
    stage.wait_all_served()
    stage.may_refuse = False


# -- local stores


def flip(stage: Stage, fault: Fault) -> None:
    """Bytes of a table file are overwritten."""
    _damage(stage, fault, flip_bytes)


def manifest(stage: Stage, fault: Fault) -> None:
    """The MANIFEST of a local store is deleted."""
    _damage(stage, fault, _unlink_manifest)


def _unlink_manifest(store: Path) -> None:
    for each in store.glob("MANIFEST*"):
        each.unlink()


def wipe(stage: Stage, fault: Fault) -> None:
    """A worker's whole data directory is deleted."""
    _damage(stage, fault, lambda store: shutil.rmtree(next(each for each in store.parents if each.parent == stage.crew.directory)))


def _damage(stage: Stage, fault: Fault, deed: Callable[[Path], object]) -> None:
    name = stage.name_of(fault)
    partition = stage.wait_serving(name).partitions()[0]
    stage.strike(fault, lambda: stage.end(name, "SIGKILL" if fault.detail == "kill" else "SIGTERM"), worker=name)
    (store,) = stage.crew.data_dir(name).rglob(f"accounts-{partition}.db")
    deed(store)
    stage.start(name)
    stage.over()
    stage.wait_serving(name)


def twin(stage: Stage, fault: Fault) -> None:
    """A second worker on the same directory refuses, and the first is not disturbed."""
    name = stage.name_of(fault)
    first = stage.wait_serving(name)

    def deed() -> Worker:
        second = stage.crew.start("twin", CHURNWATCH_DATA_DIR=str(stage.crew.data_dir(name)))
        second.wait_exit(SERVED_SECONDS)
        return second

    second = stage.strike(fault, deed, worker=name)
    stage.note_exit("twin", second, "refused", None)
    if second.exit_code != Exit.CONFIGURATION or "in use by another worker" not in second.tail() or first.exit_code is not None:
        raise BrokenError(f"two workers on one directory\n{first.tail()}\n{second.tail()}")
    stage.over()


# -- topics and group


def writes_rejected(stage: Stage, fault: Fault) -> None:
    """The changelog takes no record: the workers end with 3, nothing is committed past it, and all is well when it takes them again."""
    stage.wait_all_served()
    topic = changelog(stage.crew)
    stage.may_refuse = True
    stage.strike(fault, lambda: set_topic(stage.crew, topic, max__message__bytes="100"))
    for worker in stage.all_ended(sorted(stage.now), "writes rejected"):
        if worker.exit_code != Exit.BROKER:
            raise BrokenError(f"its writes are rejected, and it ended with {worker.exit_code}\n{worker.tail()}")
    held = stage.gauge.read()
    stage.flow(fault.down_seconds)
    now = stage.gauge.read()
    if held is None or now is None or now.cursors != held.cursors:
        raise BrokenError("a cursor has moved though the changelog takes nothing")
    apply_topics(stage.crew.bootstrap, Installation(prefix=stage.crew.prefix, app_id=stage.crew.prefix))
    stage.may_refuse = False
    start_all(stage)
    stage.over()


def group_deleted(stage: Stage, fault: Fault) -> None:
    """All workers are stopped and the group's offsets are deleted: the cursor alone says how far the state is."""
    stage.wait_all_served()
    for name in sorted(stage.now):
        stage.let_go(name)
    stage.wait(lambda: not stage.leaving, SERVED_SECONDS, "the end of all workers")
    stage.strike(fault, lambda: delete_group(stage.crew))
    start_all(stage)
    stage.over()


def start_all(stage: Stage) -> None:
    """Start the workers of the plan."""
    for number in range(stage.plan.workers):
        stage.start(f"worker-{number}")


# -- resources


def clock_jump(stage: Stage, fault: Fault) -> None:
    """The wall clock of all workers is set to so many seconds beside the true time."""
    stage.strike(fault, lambda: set_clock(stage.crew, fault.detail))
    stage.over()


def set_clock(crew: Workers, seconds: str) -> None:
    """Say by how much the clock of all workers is off."""
    file = clock_file(crew)
    part = file.with_suffix(".part")
    part.write_text(seconds, encoding="ascii")
    part.replace(file)


def clock_file(crew: Workers) -> Path:
    """Where that is said."""
    return crew.directory / "clock.offset"


def large(stage: Stage, fault: Fault) -> None:
    """Records of 900 kB, usable and not, and a worker killed while they come in."""
    name = stage.name_of(fault)
    stage.wait_serving(name)
    sender = stage.sender()
    topic = topic_name(stage.crew.prefix, "usage-events")
    for number in range(8):
        account = stage.rng.choice(ACCOUNTS)
        event = {
            "id": f"large-{stage.struck}-{number}",
            "source": "/chaos",
            "type": "usage.event" if number % 2 else "usage.nothing",
            "time": "2026-01-01T00:00:00Z",
            "subject": account,
            "data": {"event": "large", "user_id": "u", "properties": {"text": PLANTED + "x" * LARGE_BYTES}},
        }
        sender.send(topic, account.encode(), json.dumps(event).encode())
    stage.strike(fault, lambda: stage.end(name, "SIGKILL"), worker=name)
    stage.start(name)
    stage.over()


def disk_full(stage: Stage, fault: Fault) -> None:
    """A worker's disk, a small one of its own, takes no more; it ends with 1, and goes on when there is room again."""
    name = stage.name_of(fault)
    disk = stage.crew.data_dir(name)
    stage.wait_serving(name)
    stage.end(name, "SIGTERM")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        stage.start(name)
        raise ImpossibleError(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    stage.cleanups.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
    stage.start(name)
    stage.wait_serving(name)
    ballast = disk / "ballast"
    stage.strike(fault, lambda: _fill(ballast), worker=name)
    worker = stage.ended(name, "disk full")
    word = last_word(worker)["message"]
    if worker.exit_code != Exit.OTHER or "the local store cannot be used: IO error: No space left on device" not in word:
        raise BrokenError(f"its disk is full, and it ended with {worker.exit_code}: {word}\n{worker.tail()}")
    ballast.unlink()
    stage.start(name)
    stage.over()
    stage.wait_serving(name)


def _fill(ballast: Path) -> None:
    """Write a file until the disk is full."""
    block = bytes(4096)
    with ballast.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(block)
            except OSError:
                return


def garbage(stage: Stage, fault: Fault) -> None:
    """Nothing usable on one topic: the breaker opens, alive and not ready, and its partition stands still until somebody has looked."""
    stage.wait_all_served()
    topic = topic_name(stage.crew.prefix, "payment-events")
    sender = stage.sender()

    def deed() -> None:
        for number in range(FLOOD):
            sender.send(topic, stage.rng.choice(ACCOUNTS).encode(), f"{PLANTED} {number}".encode())
        sender.flush()

    stage.strike(fault, deed)
    stage.wait(lambda: any(_is_open(worker) for worker in stage.now.values()), SERVED_SECONDS, "the breaker opens")
    struck = next(worker for worker in stage.now.values() if _is_open(worker))
    told = [json.loads(line)["message"] for line in struck.lines() if "is stopped: " in line]
    number = int(told[0].split()[1])
    held = stage.gauge.read()
    stage.flow(STILL_SECONDS)
    now = stage.gauge.read()
    assert held is not None
    assert now is not None
    place = (topic, number)
    if held.cursors[place] != now.cursors[place] or not _is_open(struck):
        raise BrokenError(f"the breaker is open, and partition {number} goes on\n{struck.tail()}")
    stage.history.tell("breaker", message=told[0])
    names = sorted(stage.now)
    for name in names:
        stage.end(name, "SIGTERM")
    stage.crew.environment |= BREAKER_OFF
    for name in names:
        stage.start(name)
    stage.over()


def _is_open(worker: Worker) -> bool:
    """Whether a worker's breaker is open, and its probes say so: alive, not ready."""
    is_open = bool(worker.status().get("is_breaker_open"))
    return is_open and (worker.get("/livez")[0], worker.get("/readyz")[0]) == (200, 503)


ACTS: Final[Mapping[str, Callable[[Stage, Fault], None]]] = {
    act.__name__: act
    for act in (
        kill,
        term,
        scale,
        roll,
        point,
        freeze,
        wipe_all,
        broker_kill,
        broker_freeze,
        flip,
        manifest,
        wipe,
        twin,
        writes_rejected,
        group_deleted,
        clock_jump,
        large,
        disk_full,
        garbage,
    )
}


# -- what is refused for good: one after the other, on an installation whose worker was killed behind its inputs


def changelog_partition_empty(crew: Workers, detail: str) -> None:
    """Exit 4: a partition whose records were deleted is never taken for one in which nothing has happened."""
    set_topic(crew, changelog(crew), cleanup__policy="delete")
    begins = cut(crew, changelog(crew), int(detail))
    set_topic(crew, changelog(crew), cleanup__policy="compact")
    _refused(crew, Exit.REBUILD, f"partition {detail} begins at offset {begins}", "churnwatch rebuild")


def changelog_deleted(crew: Workers, _: str) -> None:
    """Exit 4 and the hint, instead of the advice to make an empty one."""
    delete_topic(crew, changelog(crew))
    _refused(crew, Exit.REBUILD, "is missing", "churnwatch rebuild")


def changelog_anew(crew: Workers, _: str) -> None:
    """Exit 4: somebody made an empty one and deleted the group, but the disk knows."""
    delete_group(crew)
    apply_topics(crew.bootstrap, Installation(prefix=crew.prefix, app_id=crew.prefix))
    _refused(crew, Exit.REBUILD, "made anew", "churnwatch rebuild")


def input_compacted(crew: Workers, _: str) -> None:
    """Exit 3, and what mends it; then it is mended."""
    usage = topic_name(crew.prefix, "usage-events")
    set_topic(crew, usage, cleanup__policy="compact")
    _refused(crew, Exit.BROKER, f"{usage}: cleanup: found cleanup.policy=compact", "churnwatch topics apply")
    set_topic(crew, usage, cleanup__policy="delete")


def input_cut(crew: Workers, detail: str) -> None:
    """Exit 4: the records after the cursor are gone, and it goes on neither from the earliest nor from the latest."""
    tickets = topic_name(crew.prefix, "ticket-events")
    begins = cut(crew, tickets, int(detail))
    _refused(crew, Exit.REBUILD, f"{tickets} partition {detail}", f"its log holds {begins} to {begins}", "churnwatch rebuild")


def input_anew(crew: Workers, _: str) -> None:
    """Exit 4: the cursor carries the topic's id."""
    usage = topic_name(crew.prefix, "usage-events")
    replace_topic(crew, usage)
    _refused(crew, Exit.REBUILD, f"{usage} has the id", "churnwatch rebuild")


def input_widened(crew: Workers, _: str) -> None:
    """Exit 3: keys go elsewhere from now on."""
    payments = topic_name(crew.prefix, "payment-events")
    widen(crew, payments)
    _refused(crew, Exit.BROKER, f"{payments}: partitions: found 8")


def input_missing(crew: Workers, _: str) -> None:
    """Exit 3, naming the topic."""
    tickets = topic_name(crew.prefix, "ticket-events")
    delete_topic(crew, tickets)
    _refused(crew, Exit.BROKER, f"{tickets}: missing", "churnwatch topics apply")


def _refused(crew: Workers, exit_code: Exit, *said: str) -> None:
    told = refused(crew, exit_code)
    missing = [each for each in said if each not in told]
    if missing:
        raise BrokenError(f"it refused without saying {missing}: {told}")


REFUSALS: Final[Mapping[str, Callable[[Workers, str], None]]] = {
    act.__name__: act
    for act in (
        changelog_partition_empty,
        changelog_deleted,
        changelog_anew,
        input_compacted,
        input_cut,
        input_anew,
        input_widened,
        input_missing,
    )
}
