"""What happens in a scenario: a plan drawn from a seed, before anything runs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Form(StrEnum):
    """How much of a scenario is played: its part in `make test`, or all of it."""

    SHORT = "short"
    LONG = "long"


class Way(StrEnum):
    """How the workers are arranged."""

    PLAIN = "plain"
    STANDBY = "standby"
    """A warm copy of each partition on another worker."""
    STATIC = "static"
    """Workers that keep their name in the group."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is done to the installation; what its kind means is in `tests.chaos.acts`."""

    kind: str
    detail: str = ""
    """What of its kind: a failpoint and its passing, a number of workers, seconds of a clock."""
    target: int = 0
    """Which worker, by its place among them."""
    after_seconds: float = 0.0
    """How long traffic flows before it."""
    down_seconds: float = 0.0
    """How long what was struck stays down, or frozen."""
    is_settled: bool = True
    """Whether its worker must serve partitions when it is struck; else it need only be in the group, and may be recovering."""
    quiet_seconds: float = 0.0
    """How long nothing is done afterwards, once all is well again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario as it is played: faults under traffic, then those after which nobody can go on (`refusals`)."""

    scenario: str
    seed: int
    form: Form
    faults: tuple[Fault, ...]
    refusals: tuple[Fault, ...] = ()
    workers: int = 2
    way: Way = Way.PLAIN
    per_second: int = 1_000
    """Records sent in a second of a burst; bursts and lulls of two seconds take turns."""
    hot: float = 0.02
    """Share of the traffic that one account has."""
    session_seconds: float = 6.0
    """After this the broker gives a silent worker's partitions to another."""
    has_own_broker: bool = False
    """Whether the broker itself is struck."""
    is_clock_moved: bool = False

    @property
    def name(self) -> str:
        """A name for its directory and its topics."""
        return f"{self.scenario}-{self.seed}"


QUIET_SECONDS: Final = 5.0
QUIET_EVERY: Final = 5

CHECKPOINT_POINTS: Final = ("after_fold", "in_transaction", "after_commit", "after_store")
OTHER_POINTS: Final = ("in_rebalance:1", "in_rebalance:2", "after_fencing:1", "in_recovery:1", "in_recovery:3", "in_shutdown:1")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named kind of trouble, and how its plan is drawn."""

    name: str
    meaning: str
    draw: Callable[[Random, int, Form], Plan]
    forms: tuple[Form, ...] = tuple(Form)
    """The forms that it is part of when no scenario is named."""


def plan(scenario: str, seed: int, form: Form) -> Plan:
    """Draw a scenario's plan: the same for the same name, seed and form. Raises KeyError for a name that there is not."""
    return SCENARIOS[scenario].draw(Random(f"{scenario}/{seed}/{form}"), seed, form)


def _with_quiet(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Put a quiet phase after every fifth fault and after the last."""
    drawn = list(faults)
    last = len(drawn) - 1
    return tuple(
        replace(fault, quiet_seconds=QUIET_SECONDS) if number == last or number % QUIET_EVERY == QUIET_EVERY - 1 else fault
        for number, fault in enumerate(drawn)
    )


def _struck(rng: Random, kind: str, workers: int, *, down_seconds_max: float, settled: float = 0.6) -> Fault:
    """A worker is struck: most often while it serves, and left alone for a random time."""
    return Fault(
        kind,
        target=rng.randrange(workers),
        after_seconds=round(rng.uniform(0.1, 1.5), 3),
        down_seconds=0.0 if rng.random() < 0.3 else round(rng.uniform(0.0, down_seconds_max), 3),
        is_settled=rng.random() < settled,
    )


def _kills(rng: Random, seed: int, form: Form) -> Plan:
    workers, count, down = (2, 4, 2.0) if form is Form.SHORT else (3, 20, 10.0)
    drawn = (_struck(rng, "kill", workers, down_seconds_max=down) for _ in range(count))
    return Plan("kills", seed, form, _with_quiet(drawn), workers=workers)


def _restarts(rng: Random, seed: int, form: Form) -> Plan:
    workers, count = (2, 4) if form is Form.SHORT else (3, 20)
    drawn = (_struck(rng, "term", workers, down_seconds_max=1.0, settled=0.5) for _ in range(count))
    return Plan("restarts", seed, form, _with_quiet(drawn), workers=workers)


def _mixed(way: Way) -> Callable[[Random, int, Form], Plan]:
    def draw(rng: Random, seed: int, form: Form) -> Plan:
        kinds = ["kill", "term", "kill"] * (1 if form is Form.SHORT else 4)
        drawn = (_struck(rng, kind, 2, down_seconds_max=1.0) for kind in kinds)
        return Plan(f"{way}", seed, form, _with_quiet(drawn), way=way)

    return draw


def _rebalances(rng: Random, seed: int, form: Form) -> Plan:
    """From one worker to four and back, every five seconds, whether the last rebalance is over or not."""
    rounds = 1 if form is Form.SHORT else 4
    steps = ("4", "2", "4", "1") * rounds
    drawn = [Fault("scale", detail=count, after_seconds=5.0, target=rng.randrange(4), is_settled=False) for count in steps]
    return Plan("rebalances", seed, form, _with_quiet(drawn), workers=1)


def _rolling(rng: Random, seed: int, form: Form) -> Plan:
    rounds = 1 if form is Form.SHORT else 3
    drawn = []
    for _ in range(rounds):
        order = list(range(3))
        rng.shuffle(order)
        drawn += [Fault("roll", target=number, after_seconds=round(rng.uniform(0.2, 2.0), 3)) for number in order]
    return Plan("rolling", seed, form, _with_quiet(drawn), workers=3, way=Way.STATIC, session_seconds=30.0)


def _storm(rng: Random, seed: int, form: Form) -> Plan:
    """Ten SIGTERM and ten kill -9 of two workers in any order, a frozen one among them; then all disks wiped.

    Four of either are at points of a checkpoint: there a worker is ended by SIGTERM, and the one after it kills itself.
    """
    ends = [_struck(rng, kind, 2, down_seconds_max=2.0) for kind in ["term", "kill"] * 6]
    points = [_point(rng, f"{point}:{rng.randint(1, 6)}", 2) for point in CHECKPOINT_POINTS]
    drawn = [*ends, *points, Fault("freeze", target=rng.randrange(2), after_seconds=1.0, down_seconds=18.0)]
    rng.shuffle(drawn)
    return Plan("storm", seed, form, _with_quiet([*drawn, Fault("wipe_all", after_seconds=1.0)]))


def _point(rng: Random, detail: str, workers: int) -> Fault:
    return Fault("point", detail=detail, target=rng.randrange(workers), after_seconds=round(rng.uniform(0.1, 1.0), 3))


def _fault_points(rng: Random, seed: int, form: Form) -> Plan:
    """Each point of a checkpoint in the first one that a worker writes and in a later one; in the long form all others, too.

    In the short form the workers keep their name in the group, so that nobody waits for those who died.
    """
    latest = 6 if form is Form.SHORT else 12
    points = [f"{point}:{nth}" for point in CHECKPOINT_POINTS for nth in (1, rng.randint(3, latest))]
    if form is Form.LONG:
        points += OTHER_POINTS
        rng.shuffle(points)
    drawn = (_point(rng, point, 2) for point in points)
    return Plan("fault-points", seed, form, _with_quiet(drawn), way=Way.STATIC if form is Form.SHORT else Way.PLAIN)


def _zombie(rng: Random, seed: int, form: Form) -> Plan:
    rounds = 1 if form is Form.SHORT else 3
    drawn = [Fault("freeze", target=rng.randrange(2), after_seconds=1.0, down_seconds=18.0) for _ in range(rounds)]
    return Plan("zombie", seed, form, _with_quiet([*drawn, Fault("wipe_all", after_seconds=1.0)]))


def _broker(rng: Random, seed: int, form: Form) -> Plan:
    def killed(down_seconds: float, detail: str = "") -> Fault:
        return Fault("broker_kill", detail, rng.randrange(2), round(rng.uniform(0.5, 3.0), 3), down_seconds, quiet_seconds=QUIET_SECONDS)

    if form is Form.SHORT:
        drawn = [killed(1.0)]
    else:
        drawn = [killed(round(rng.uniform(0.0, 8.0), 3)) for _ in range(4)]
        drawn += [killed(70.0), killed(20.0, "a worker is started meanwhile")]
        drawn += [killed(15.0, "a worker is stopped meanwhile")]
        drawn += [Fault("broker_freeze", "a worker is killed meanwhile", rng.randrange(2), 2.0, 45.0, quiet_seconds=QUIET_SECONDS)]
    return Plan("broker", seed, form, tuple(drawn), has_own_broker=True)


def _stores(rng: Random, seed: int, form: Form) -> Plan:
    kinds = ["flip", "manifest", "wipe", "twin"] * (1 if form is Form.SHORT else 2)
    rng.shuffle(kinds)
    drawn = (Fault(kind, detail=rng.choice(("kill", "term")), target=rng.randrange(2), after_seconds=3.0) for kind in kinds)
    return Plan("stores", seed, form, _with_quiet(drawn))


def _changelog(rng: Random, seed: int, form: Form) -> Plan:
    count = 1 if form is Form.SHORT else 3
    drawn = (Fault("writes_rejected", target=rng.randrange(2), after_seconds=2.0, down_seconds=3.0) for _ in range(count))
    refusals = (Fault("changelog_partition_empty", detail=str(rng.randrange(4))), Fault("changelog_deleted"), Fault("changelog_anew"))
    return Plan("changelog", seed, form, _with_quiet(drawn), refusals)


def _inputs(rng: Random, seed: int, form: Form) -> Plan:
    count = 1 if form is Form.SHORT else 3
    drawn = (Fault("group_deleted", target=rng.randrange(2), after_seconds=2.0) for _ in range(count))
    refusals = ("input_compacted", "input_cut", "input_anew", "input_widened", "input_missing")
    return Plan("inputs", seed, form, _with_quiet(drawn), tuple(Fault(kind, detail=str(rng.randrange(4))) for kind in refusals))


def _resources(rng: Random, seed: int, form: Form) -> Plan:
    jumps = ("3600", "-3600", "0") if form is Form.SHORT else ("3600", "-3600", "86400", "-7200", "0")
    drawn = [Fault("clock_jump", detail=seconds, after_seconds=2.0) for seconds in jumps]
    drawn += [Fault(kind, target=rng.randrange(2), after_seconds=2.0) for kind in ("large", "disk_full", "large", "garbage")]
    return Plan("resources", seed, form, _with_quiet(drawn), hot=0.5, is_clock_moved=True)


def _all() -> Iterator[Scenario]:
    yield Scenario("storm", "ten SIGTERM, ten kill -9 and a frozen worker, of two; then all disks wiped", _storm, (Form.SHORT,))
    yield Scenario("kills", "20 kill -9 of random workers, restarts after 0 to 10 s", _kills)
    yield Scenario("restarts", "a storm of 20 graceful restarts", _restarts)
    yield Scenario("standby", "kills and restarts with warm copies of the partitions", _mixed(Way.STANDBY))
    yield Scenario("static", "kills and restarts of workers that keep their name in the group", _mixed(Way.STATIC))
    yield Scenario("rebalances", "1, 4, 2, 4, 1 workers, every 5 s", _rebalances)
    yield Scenario("rolling", "a rolling restart with static membership: one generation for each worker at most", _rolling)
    yield Scenario("fault-points", "a crash at each chosen point", _fault_points)
    yield Scenario("zombie", "a worker frozen for three session timeouts while another takes over; then all disks wiped", _zombie)
    yield Scenario("broker", "the broker killed, frozen, away for longer than every timeout", _broker)
    yield Scenario("stores", "local stores damaged, wiped, and used by two workers", _stores)
    yield Scenario("changelog", "the changelog takes no more; then it is cut, deleted, and made anew", _changelog)
    yield Scenario("inputs", "the group is deleted; then inputs are compacted, cut, made anew, divided anew, deleted", _inputs)
    yield Scenario("resources", "a full disk, a jumping clock, a flood of garbage, a hot account, 900 kB records", _resources)


SCENARIOS: Final = {each.name: each for each in _all()}
