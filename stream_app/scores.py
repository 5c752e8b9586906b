"""The `health-scores` records of a checkpoint: copied out of the columns in one step, written out in slices."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from models.columns import Columns
from models.fixed import SCALE, Ints, half_up_many
from models.health import BAND_NAMES, Scale
from models.input_topics import INPUT_TOPICS, PAYMENTS, TICKETS, TOPIC_INDEX, USAGE
from models.measures import MEASURES, Instant
from models.profile import Profile
from models.row import NEVER, NONE
from models.scorecard import COMPONENTS
from models.scored import Cause, ComponentScored, DriverScored, HealthScored, HealthScoredData, Trigger
from models.times import SECOND_US, format_us

SOURCES = (USAGE, TICKETS, PAYMENTS)
"""The input topic behind each component, in the order of `COMPONENTS`."""

_SOURCE_INDEX = [TOPIC_INDEX[topic] for topic in SOURCES]
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Said:
    """What of an assessment does not depend on the account: the same in every record of a worker."""

    scale: Scale
    config_version: str
    topic_names: list[str]
    partition: int


@dataclass(slots=True)
class Scores:
    """The assessments of `n` accounts as they are to be published; every array is `(n,)` or `(n, parts)`, a copy."""

    said: Said
    score: Ints
    was: Ints
    component: Ints
    contribution: Ints
    contribution_was: Ints
    effective: Ints
    coverage: Ints
    band: NDArray[np.uint8]
    as_of: Ints
    newest: Ints
    applied: Ints
    trigger_topic: NDArray[np.int8]
    trigger_offset: Ints
    trigger_at: Ints
    trigger_id: NDArray[Any]
    value: Ints
    profiles: list[Profile]

    @classmethod
    def take(cls, columns: Columns, slots: Ints, said: Said, profiles: list[Profile]) -> "Scores":
        """Copy what is to be published of those accounts."""
        width = len(COMPONENTS)
        component = columns.component[slots, :width].astype(np.int64)
        weights = np.array([said.scale.weights[name] for name in COMPONENTS], np.int64)
        weight = np.where(component != NONE, weights, 0)
        total = np.maximum(weight.sum(axis=1), 1)
        return cls(
            said=said,
            score=columns.score[slots],
            was=columns.said_score[slots],
            component=component,
            contribution=columns.contribution[slots, :width],
            contribution_was=columns.said_contribution[slots, :width],
            effective=half_up_many(weight * 1_000_000, total[:, None]),
            coverage=columns.coverage[slots],
            band=columns.band[slots],
            as_of=columns.as_of[slots],
            newest=columns.newest[slots],
            applied=columns.applied[slots],
            trigger_topic=columns.trigger_topic[slots],
            trigger_offset=columns.trigger_offset[slots],
            trigger_at=columns.trigger_at[slots],
            trigger_id=columns.trigger_id[slots],
            value=_headline(columns, slots, said.scale),
            profiles=profiles,
        )

    def render(self, start: int, stop: int, keys: list[bytes]) -> list[tuple[bytes, bytes]]:
        """The records of the accounts from `start` to `stop`, whose keys are given."""
        part = slice(start, stop)
        texts = _Texts()
        components = self._components(part)
        moves = self._moves(part)
        triggers = self._triggers(part)
        records = []
        for key, score, band, coverage, as_of, (topic, offset, at, event_id), (each, age), (delta, drivers), profile in zip(
            keys,
            _points(self.score[part]),
            self.band[part].tolist(),
            (self.coverage[part] / SCALE).tolist(),
            self.as_of[part].tolist(),
            triggers,
            components,
            moves,
            self.profiles[part],
            strict=True,
        ):
            account_id = key.decode()
            scored_at = texts.of(as_of)
            renewal_at = profile.renewal_at(as_of)
            is_event = topic >= 0
            data = HealthScoredData(
                account_id=account_id,
                score=score,
                computed_score=score,
                band=BAND_NAMES[band],
                override=None,
                churn_risk=None,
                calibrated=False,
                components=each,
                delta=delta,
                drivers=drivers,
                profile="standard",
                config_version=self.said.config_version,
                model_version=None,
                coverage=coverage,
                freshness_s=age,
                trend=None,
                mrr=profile.mrr,
                owner=profile.owner,
                segment=profile.segment,
                renewal_at=None if renewal_at == NEVER else texts.of(renewal_at),
                trigger=Trigger(self.said.topic_names[topic], self.said.partition, offset, event_id) if is_event else None,
                occurred_at=texts.of(at) if is_event else None,
                scored_at=scored_at,
            )
            name = xxh3_128_hexdigest(b"%b|%d|%d|%d" % (key, as_of, topic, offset))
            records.append((key, _encode(HealthScored(id=name, subject=account_id, time=scored_at, data=data))))
        return records

    def _triggers(self, part: slice) -> Iterator[tuple[int, int, int, str]]:
        return zip(
            self.trigger_topic[part].tolist(),
            self.trigger_offset[part].tolist(),
            self.trigger_at[part].tolist(),
            self.trigger_id[part].tolist(),
            strict=True,
        )

    def _components(self, part: slice) -> Iterator[tuple[list[ComponentScored], int | None]]:
        """The components of each account, and the age in seconds of the oldest input that counts."""
        newest = self.newest[part][:, _SOURCE_INDEX]
        is_missing = self.component[part] == NONE
        age = np.where(newest == NEVER, -1, np.maximum(self.as_of[part][:, None] - newest, 0) // SECOND_US)
        oldest = np.where(is_missing, -1, age).max(axis=1)
        columns = []
        for place, name in enumerate(COMPONENTS):
            columns.append(
                [
                    ComponentScored(name, None, weight, 0.0, None, n, None if age_s < 0 else age_s, True, None)
                    if score is None
                    else ComponentScored(name, score, weight, effective, value, n, age_s, False, contribution)
                    for weight, score, effective, value, n, age_s, contribution in zip(
                        repeat(self.said.scale.weights[name] / SCALE),
                        _points(self.component[part, place]),
                        (self.effective[part, place] / SCALE).tolist(),
                        (self.value[part, place] / SCALE).tolist(),
                        self.applied[part, _SOURCE_INDEX[place]].tolist(),
                        age[:, place].tolist(),
                        (self.contribution[part, place] / SCALE).tolist(),
                        strict=False,
                    )
                ]
            )
        ages = [None if seconds < 0 else seconds for seconds in oldest.tolist()]
        return zip(map(list, zip(*columns, strict=True)), ages, strict=True)

    def _moves(self, part: slice) -> Iterator[tuple[float | None, list[DriverScored]]]:
        """How each score moved since it was published last, and what moved it: the points sum to the move exactly."""
        known = (self.score[part] != NONE) & (self.was[part] != NONE)
        delta = np.where(known, self.score[part] - self.was[part], 0)
        now, before = self.contribution[part], self.contribution_was[part]
        points = np.where(now == NONE, 0, now) - np.where(before == NONE, 0, before)
        is_reweighted = ((now == NONE) != (before == NONE)).any(axis=1)
        for i, (is_known, moved) in enumerate(zip(known.tolist(), (delta / SCALE).tolist(), strict=True)):
            if not is_known:
                yield None, []
            elif not points[i].any():
                yield moved, []
            else:
                yield moved, _drivers(points[i].tolist(), now[i].tolist(), before[i].tolist(), bool(is_reweighted[i]))


def _headline(columns: Columns, slots: Ints, scale: Scale) -> Ints:
    """The value of the first measure of each component, ten-thousandths, `(n, components)`."""
    at = Instant(columns, slots, columns.as_of[slots])
    return np.stack([MEASURES[scale.lines[name][0].measure](at) for name in COMPONENTS], axis=1)


def _drivers(points: list[int], now: list[int], before: list[int], is_reweighted: bool) -> list[DriverScored]:
    drivers = []
    for name, moved, after, prior in zip(COMPONENTS, points, now, before, strict=True):
        if not moved:
            continue
        if prior == NONE:
            cause: Cause = "appeared"
        elif after == NONE:
            cause = "disappeared"
        else:
            cause = "reweighted" if is_reweighted else "value"
        drivers.append(DriverScored(name, moved / SCALE, cause))
    drivers.sort(key=lambda driver: (-abs(driver.points), driver.name))
    return drivers


def _points(fixed: Ints) -> list[float | None]:
    """Ten-thousandths as points; None where there is no score. The quotient is exactly what its four decimals read as."""
    return [None if value < 0 else value for value in (np.where(fixed == NONE, -SCALE, fixed) / SCALE).tolist()]


class _Texts:
    """Instants as text; many accounts of a checkpoint share one."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def of(self, instant: int) -> str:
        """The RFC 3339 text of an instant in microseconds."""
        text = self._known.get(instant)
        if text is None:
            text = self._known[instant] = format_us(instant)
        return text
