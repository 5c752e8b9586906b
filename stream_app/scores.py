"""The `health-scores` records of a checkpoint: copied out of the columns in one step, written out in slices."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from models.columns import Columns
from models.fixed import SCALE, AnyInts, Ints, half_up_many
from models.health import BAND_NAMES, Scale
from models.input_topics import PAYMENTS, TICKETS, TOPIC_INDEX, USAGE
from models.measures import MEASURES, Instant
from models.profile import NOBODY, Profile
from models.row import NEVER, NONE
from models.scorecard import COMPONENTS
from models.scored import Cause
from models.times import MILLISECOND_US, SECOND_US, format_us

SOURCES = (USAGE, TICKETS, PAYMENTS)
"""The input topic behind each component, in the order of `COMPONENTS`."""

_SOURCE_INDEX = [TOPIC_INDEX[topic] for topic in SOURCES]


def _quote(text: str) -> str:
    """A text as JSON."""
    return _encode(text).decode()


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
    score: AnyInts
    was: AnyInts
    component: AnyInts
    contribution: AnyInts
    contribution_was: AnyInts
    effective: AnyInts
    coverage: AnyInts
    band: NDArray[np.uint8]
    as_of: AnyInts
    newest: AnyInts
    applied: AnyInts
    trigger_topic: NDArray[np.int8]
    trigger_offset: AnyInts
    trigger_at: AnyInts
    trigger_id: NDArray[Any]
    value: AnyInts
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
        """The records of the accounts from `start` to `stop`, whose keys are given.

        This is written for every account that an event touched, so it is written as text: a third of what encoding a struct costs. A
        test holds it against `HealthScored`.
        """
        part = slice(start, stop)
        texts = Texts()
        records = []
        for key, account, score, band, coverage, (as_of, at), trigger, (components, age), moved, profile in zip(
            keys,
            quoted(keys),
            self.score[part].tolist(),
            self.band[part].tolist(),
            self.coverage[part].tolist(),
            zip(self.as_of[part].tolist(), many_texts(self.as_of[part]), strict=True),
            self._triggers(part, keys),
            self._components(part),
            self._moves(part),
            self.profiles[part],
            strict=True,
        ):
            points = "null" if score == NONE else POINTS[score]
            record = (
                f'{{"id":{trigger[0]},"subject":{account},"time":"{at}","data":{{"account_id":{account},"score":{points},'
                f'"computed_score":{points},"band":"{BAND_NAMES[band]}","override":null,"churn_risk":null,"calibrated":false,'
                f'"components":[{components}],{moved},"profile":"standard","config_version":"{self.said.config_version}",'
                f'"model_version":null,"coverage":{POINTS[coverage]},"freshness_s":{age},"trend":null,{facts(profile, as_of, texts)},'
                f'{trigger[1]},"scored_at":"{at}"}},"specversion":"1.0","type":"health.scored","source":"/health-scores",'
                f'"datacontenttype":"application/json"}}'
            )
            records.append((key, record.encode()))
        return records

    def _triggers(self, part: slice, keys: list[bytes]) -> Iterator[tuple[str, str]]:
        """The id of each record, which says what brought it about, and the members that say it in full.

        A record that an event brought about is named after that event's place in the log; one of the clock after account and instant.
        """
        names, number = self.said.topic_names, self.said.partition
        topics = self.trigger_topic[part].tolist()
        offsets = self.trigger_offset[part].tolist()
        for key, topic, offset, at, event_id, as_of in zip(
            keys, topics, offsets, many_texts(self.trigger_at[part]), self.trigger_id[part].tolist(), self.as_of[part].tolist(), strict=True
        ):
            if topic < 0:
                yield f'"tick/{xxh3_128_hexdigest(b"%b|%d" % (key, as_of))}"', '"trigger":null,"occurred_at":null'
            else:
                name = names[topic]
                yield (
                    f'"{name}/{number}/{offset}"',
                    f'"trigger":{{"topic":"{name}","partition":{number},"offset":{offset},"id":{_quote(event_id)}}},"occurred_at":"{at}"',
                )

    def _components(self, part: slice) -> Iterator[tuple[str, str]]:
        """The components of each account, and the age in seconds of the oldest input that counts."""
        newest = self.newest[part][:, _SOURCE_INDEX]
        is_missing = self.component[part] == NONE
        age = np.where(newest == NEVER, -1, np.maximum(self.as_of[part][:, None] - newest, 0) // SECOND_US)
        oldest = np.where(is_missing, -1, age).max(axis=1).tolist()
        columns = []
        for place, name in enumerate(COMPONENTS):
            head = f'{{"name":"{name}","score":'
            weight = f'"weight":{self.said.scale.weights[name] / SCALE}'
            columns.append(
                [
                    f'{head}null,{weight},"effective_weight":0.0,"value":null,"n":{n},"age_s":{"null" if age_s < 0 else age_s},'
                    f'"missing":true,"contribution":null}}'
                    if score == NONE
                    else f'{head}{POINTS[score]},{weight},"effective_weight":{POINTS[effective]},"value":{POINTS[value]},"n":{n},'
                    f'"age_s":{age_s},"missing":false,"contribution":{POINTS[contribution]}}}'
                    for score, effective, value, n, age_s, contribution in zip(
                        self.component[part, place].tolist(),
                        self.effective[part, place].tolist(),
                        self.value[part, place].tolist(),
                        self.applied[part, _SOURCE_INDEX[place]].tolist(),
                        age[:, place].tolist(),
                        self.contribution[part, place].tolist(),
                        strict=True,
                    )
                ]
            )
        ages = ["null" if seconds < 0 else str(seconds) for seconds in oldest]
        return zip(map(",".join, zip(*columns, strict=True)), ages, strict=True)

    def _moves(self, part: slice) -> Iterator[str]:
        """How each score moved since it was published last, and what moved it: the points sum to the move exactly."""
        is_known = (self.score[part] != NONE) & (self.was[part] != NONE)
        now, before = self.contribution[part], self.contribution_was[part]
        points = np.where(now == NONE, 0, now) - np.where(before == NONE, 0, before)
        is_moved = is_known & points.any(axis=1)
        if not is_moved.any():
            return iter([_STILL if known else _FIRST for known in is_known.tolist()])
        moves = [_STILL if known else _FIRST for known in is_known.tolist()]
        delta = (self.score[part] - self.was[part]).tolist()
        is_reweighted = ((now == NONE) != (before == NONE)).any(axis=1).tolist()
        lists = points.tolist(), now.tolist(), before.tolist()
        for i in np.flatnonzero(is_moved).tolist():
            drivers = _drivers(lists[0][i], lists[1][i], lists[2][i], is_reweighted[i])
            moves[i] = f'"delta":{POINTS[delta[i]]},"drivers":[{drivers}]'
        return iter(moves)


_STILL = '"delta":0.0,"drivers":[]'
_FIRST = '"delta":null,"drivers":[]'


class _Points(dict[int, str]):
    """Ten-thousandths as JSON numbers, each written once; the quotient reads as its four decimals exactly."""

    MOST = 200_000

    def __missing__(self, fixed: int) -> str:
        if len(self) >= self.MOST:
            self.clear()
        text = self[fixed] = repr(fixed / SCALE)
        return text


POINTS = _Points()


def quoted(keys: list[bytes]) -> list[str]:
    """Account ids as JSON texts."""
    return [_quote(key.decode()) for key in keys]


def many_texts(instants: AnyInts) -> list[str]:
    """RFC 3339 texts of instants in microseconds, as `format_us` writes them; of `NEVER`, anything."""
    known = np.where(instants == NEVER, 0, instants)
    if (known % MILLISECOND_US).any():
        return [format_us(instant) for instant in known.tolist()]
    texts: list[str] = np.datetime_as_string(known.astype("datetime64[us]"), unit="ms", timezone="UTC").tolist()
    return texts


def facts(profile: Profile, as_of: int, texts: "Texts") -> str:
    """The members that come from what is known of the account itself."""
    if profile is NOBODY:
        return '"mrr":null,"owner":null,"segment":null,"renewal_at":null'
    renewal_at = profile.renewal_at(as_of)
    renewal = "null" if renewal_at == NEVER else f'"{texts.of(renewal_at)}"'
    return f'{profile.members},"renewal_at":{renewal}'


class Texts:
    """Instants as text; many accounts of a checkpoint share one."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def of(self, instant: int) -> str:
        """The RFC 3339 text of an instant in microseconds."""
        text = self._known.get(instant)
        if text is None:
            text = self._known[instant] = format_us(instant)
        return text


def _headline(columns: Columns, slots: Ints, scale: Scale) -> Ints:
    """The value of the first measure of each component, ten-thousandths, `(n, components)`."""
    at = Instant(columns, slots, columns.as_of[slots])
    return np.stack([MEASURES[scale.lines[name][0].measure](at) for name in COMPONENTS], axis=1)


def _drivers(points: list[int], now: list[int], before: list[int], is_reweighted: bool) -> str:
    moved = []
    for name, change, after, prior in zip(COMPONENTS, points, now, before, strict=True):
        if not change:
            continue
        cause: Cause = "reweighted" if is_reweighted else "value"
        if prior == NONE:
            cause = "appeared"
        elif after == NONE:
            cause = "disappeared"
        moved.append((-abs(change), name, f'{{"name":"{name}","points":{POINTS[change]},"cause":"{cause}"}}'))
    return ",".join(text for *_, text in sorted(moved))
