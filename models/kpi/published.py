"""What is published of a portfolio, as a reader sees it: the latest record of each partition, month and segment, added up on demand."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from models.kpi.figures import Key, add_up, read_key
from models.months import format_month, parse_month
from models.portfolio import PortfolioRecord
from models.times import parse_us

Place = tuple[int, int, str]
"""Partition, month and segment of a record."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Which partitions have told all segments of a month, and which have not."""

    reported: tuple[int, ...]
    missing: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every partition has."""
        return not self.missing

    def __str__(self) -> str:
        total = len(self.reported) + len(self.missing)
        return f"{len(self.reported)} of {total} partitions {'has' if len(self.reported) == 1 else 'have'} reported"


@dataclass(slots=True)
class Published:
    """The records of the segments in `segments`, of partitions 0 to `partitions` - 1.

    Records of a segment that is not configured, or of a partition that is not there, are not taken: they stay behind. Figures that this
    release does not know, those of a newer one, are left out and named in `unknown`.
    """

    partitions: int
    segments: tuple[str, ...]
    records: dict[Place, PortfolioRecord] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    """Segments whose records were not taken, with how many there were."""
    unknown: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, records: Iterable[PortfolioRecord], partitions: int, segments: Iterable[str]) -> Self:
        """Take those that belong to the portfolio; a later record of the same place replaces an earlier one.

        Months and times of the records are such; raises ValueError for others.
        """
        made = cls(partitions, tuple(segments))
        for record in records:
            if record.segment not in made.segments or not 0 <= record.partition < partitions:
                made.others[record.segment] = made.others.get(record.segment, 0) + 1
            else:
                made.records[record.partition, parse_month(record.month), record.segment] = record
        return made

    @property
    def months(self) -> list[int]:
        """The months that anything is published of, in order."""
        return sorted({month for _, month, _ in self.records})

    @property
    def as_of(self) -> str:
        """The instant of the latest publication; empty without one. What no later record contradicts is true at it."""
        return max((record.as_of for record in self.records.values()), key=parse_us, default="")

    @property
    def config_versions(self) -> set[str]:
        """The configurations that the records of the latest month were made with."""
        last = self.months[-1:]
        return {record.config_version for (_, month, _), record in self.records.items() if month in last}

    def as_of_by_partition(self) -> dict[int, str]:
        """When each partition published last; it publishes what has changed only."""
        found: dict[int, str] = {}
        for (partition, _, _), record in sorted(self.records.items()):
            found[partition] = max(found.get(partition, record.as_of), record.as_of, key=parse_us)
        return found

    def standing(self, month: int, segments: Iterable[str]) -> Standing:
        """Which partitions have told of a month: a partition that lacks one of the segments has not."""
        wanted = list(segments)
        reported = [part for part in range(self.partitions) if all((part, month, segment) in self.records for segment in wanted)]
        return Standing(tuple(reported), tuple(part for part in range(self.partitions) if part not in reported))

    def figures(self, month: int, segments: Iterable[str]) -> dict[Key, int] | None:
        """The figures of a month in some segments, added up over partitions; None when no partition has told of it."""
        parts = [
            record.figures
            for segment in segments
            for partition in range(self.partitions)
            if (record := self.records.get((partition, month, segment))) is not None
        ]
        return add_up(map(self._read, parts)) if parts else None

    def currencies(self) -> set[str]:
        """The currencies that any amount is in."""
        read = (self._read(record.figures) for record in self.records.values())
        return {key.currency for figures in read for key, value in figures.items() if key.currency and value}

    def _read(self, figures: dict[str, int]) -> dict[Key, int]:
        read = {}
        for text, value in figures.items():
            key = _key(text)
            if key is None:
                self.unknown.add(text)
            else:
                read[key] = value
        return read


@lru_cache(1 << 16)
def _key(text: str) -> Key | None:
    """The key of a figure, None for one that this release does not know."""
    try:
        return read_key(text)
    except ValueError:
        return None


def months_text(months: list[int]) -> str:
    """The months from the first to the last, as text; none of no months."""
    if not months:
        return "none"
    first, last = format_month(months[0]), format_month(months[-1])
    return first if first == last else f"{first} to {last}"
