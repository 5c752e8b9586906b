"""What a rebuild is going to do, before it does anything: of each input partition, from where to where it is folded, and what is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.rebuild.folding import Stretch
from stream_app.exits import Exit, ServiceExit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy.rebuild.past import Past
    from deploy.verify.kafka_log import Place
    from stream_app.pipeline import Position


@dataclass(slots=True)
class Plan:
    """The stretches by partition and topic; `gaps` are records that a snapshot needs and no log holds, `cut` where a log begins late."""

    partitions: int
    stretches: dict[int, dict[str, Stretch]] = field(default_factory=dict)
    cut: dict[Place, int] = field(default_factory=dict)
    gaps: dict[Place, int] = field(default_factory=dict)
    accounts_said: int = 0
    is_known: bool = True
    snapshot: str | None = None

    @property
    def records(self) -> int:
        """How many offsets are folded."""
        return sum(stretch.goal - stretch.start for of_topic in self.stretches.values() for stretch in of_topic.values())

    @property
    def left(self) -> int:
        """How many offsets are left to the workers."""
        return sum(stretch.end - stretch.goal for of_topic in self.stretches.values() for stretch in of_topic.values())

    def lines(self) -> list[str]:
        """Say it for people."""
        begun = "from their beginning" if self.snapshot is None else f"from where {self.snapshot} ends"
        told = [f"{self.records:,} offsets of {self.partitions} partitions are folded {begun}, and nothing is said of what happens there"]
        if self.is_known:
            told.append(f"{self.left:,} offsets that were never folded before are left to the workers, who say what there is to say")
        else:
            told.append("nothing tells how far the inputs were read before: all of them are taken to have been, up to their ends")
        told.append(f"the alerts of {self.accounts_said:,} accounts are carried over as they were said")
        for (topic, number), begin in sorted(self.cut.items()):
            told.append(f"lost: {topic}, partition {number} begins at offset {begin}; what was older is in no log")
        for (topic, number), count in sorted(self.gaps.items()):
            told.append(f"lost: {topic}, partition {number}: {count:,} offsets after the snapshot are in no log")
        return told

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return {
            "partitions": self.partitions,
            "offsets": self.records,
            "left_to_workers": self.left,
            "is_known_how_far": self.is_known,
            "accounts_with_alerts": self.accounts_said,
            "snapshot": self.snapshot,
            "inputs": [
                {"topic": topic, "partition": number, "from": stretch.start, "to": stretch.goal, "end": stretch.end}
                for number, of_topic in sorted(self.stretches.items())
                for topic, stretch in of_topic.items()
            ],
            "lost": [{"topic": topic, "partition": number, "begins_at": begin} for (topic, number), begin in sorted(self.cut.items())]
            + [{"topic": topic, "partition": number, "offsets": count} for (topic, number), count in sorted(self.gaps.items())],
        }


def make_plan(
    inputs: Iterable[str],
    bounds: Mapping[Place, tuple[int, int]],
    past: Past,
    partitions: int,
    bases: Mapping[int, Mapping[str, Position]] | None = None,
) -> Plan:
    """Plan a rebuild; `bounds` say where each input partition begins and ends, `bases` where a snapshot's positions are.

    A log that begins late has lost something only where there is no snapshot that reaches to it.
    """
    plan = Plan(partitions, accounts_said=sum(map(len, past.states.values())), is_known=len(past.is_known) == partitions)
    for number in range(partitions):
        plan.stretches[number] = {}
        for topic in inputs:
            place = topic, number
            begin, end = bounds[place]
            start = begin
            if bases is None:
                if begin:
                    plan.cut[place] = begin
            else:
                base = bases[number].get(topic)
                start = begin if base is None else max(base.offset, begin)
                if (gap := begin - (0 if base is None else base.offset)) > 0:
                    plan.gaps[place] = gap
                if start > end:
                    raise ServiceExit(
                        Exit.CONFIGURATION,
                        f"the snapshot has {topic}, partition {number} up to offset {start}, and its log ends at {end}",
                        "the log lost its end, or is another one; rebuild without the snapshot",
                    )
            plan.stretches[number][topic] = Stretch(start, max(past.goal(place, begin, end), start), end)
    return plan
