"""The `health-scores` records of a checkpoint: copied out of the columns in one step, written out in slices."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import add
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from models.columns import Columns
from models.fixed import SCALE, AnyInts, Ints, half_up_many
from models.health import BAND_NAMES, Scale
from models.input_topics import PAYMENTS, TICKETS, TOPIC_INDEX, USAGE
from models.measures import ABSENT, MEASURES, Instant, missing
from models.profile import NOBODY, Profile
from models.row import NEVER, NONE
from models.scorecard import COMPONENTS
from models.scored import Cause
from models.times import MILLISECOND_US, SECOND_US, format_us

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

        This is written for every account that an event touched, so it is written as text, column by column, and each record by one
        formatting: a tenth of what encoding structs costs. A test holds it against `HealthScored`.
        """
        part = slice(start, stop)
        accounts = quoted(map(bytes.decode, keys))
        points = texts_of(self.score[part])
        at = instants(self.as_of[part])
        names, triggers = self._triggers(part, keys)
        components, ages = self._components(part)
        columns: tuple[Iterable[str], ...] = (
            names,
            accounts,
            at,
            accounts,
            points,
            points,
            map(BAND_NAMES.__getitem__, self.band[part].tolist()),
            *components,
            self._moves(part),
            repeat(self.said.config_version),
            texts_of(self.coverage[part]),
            ages,
            self._facts(part),
            triggers,
            at,
        )
        return list(zip(keys, map(str.encode, _filled(_RECORD, columns)), strict=True))

    def _triggers(self, part: slice, keys: list[bytes]) -> tuple[list[str], list[str]]:
        """The id of each record, which says what brought it about, and the members that say it in full.

        A record that an event brought about is named after that event's place in the log; one of the clock after account and instant.
        """
        number = self.said.partition
        topics = self.trigger_topic[part]
        places = [f"{name}/{number}/" for name in self.said.topic_names]
        heads = [f'"trigger":{{"topic":"{name}","partition":{number},"offset":' for name in self.said.topic_names]
        offsets = list(map(str, self.trigger_offset[part].tolist()))
        named = topics.tolist()
        ids = list(map(add, map(places.__getitem__, named), offsets))
        told = map(heads.__getitem__, named), offsets, quoted(self.trigger_id[part].tolist()), instants(self.trigger_at[part])
        members = list(_filled(_TRIGGER, told))
        for i in np.flatnonzero(topics < 0).tolist():
            ids[i] = f"tick/{xxh3_128_hexdigest(b'%b|%d' % (keys[i], self.as_of[part][i]))}"
            members[i] = '"trigger":null,"occurred_at":null'
        return ids, members

    def _components(self, part: slice) -> tuple[list[Iterable[str]], list[str]]:
        """The components of each account, a column for each; and the age in seconds of the oldest input that counts."""
        newest = self.newest[part][:, _SOURCE_INDEX]
        is_missing = self.component[part] == NONE
        ages = np.where(newest == NEVER, -1, np.maximum(self.as_of[part][:, None] - newest, 0) // SECOND_US)
        values = np.where(is_missing, NONE, self.value[part])
        columns: list[Iterable[str]] = []
        for place, name in enumerate(COMPONENTS):
            template = _COMPONENT.replace("NAME", name).replace("WEIGHT", str(self.said.scale.weights[name] / SCALE))
            figures = (
                texts_of(self.component[part, place]),
                texts_of(self.effective[part, place]),
                texts_of(values[:, place]),
                map(str, self.applied[part, _SOURCE_INDEX[place]].tolist()),
                _seconds(ages[:, place]),
                map(_BOOLEANS.__getitem__, is_missing[:, place].tolist()),
                texts_of(self.contribution[part, place]),
            )
            columns.append(_filled(template, figures))
        return columns, _seconds(np.where(is_missing, -1, ages).max(axis=1))

    def _facts(self, part: slice) -> list[str]:
        """The members that come from what is known of the account itself."""
        told = [_NOBODY] * (part.stop - part.start)
        known = [(i, profile) for i, profile in enumerate(self.profiles[part]) if profile is not NOBODY]
        as_of = self.as_of[part].tolist() if known else []
        texts = Instants()
        for i, profile in known:
            renewal_at = profile.renewal_at(as_of[i])
            renewal = "null" if renewal_at == NEVER else f'"{texts[renewal_at]}"'
            told[i] = f'{profile.members},"renewal_at":{renewal}'
        return told

    def _moves(self, part: slice) -> list[str]:
        """How each score moved since it was published last, and what moved it: the points sum to the move exactly."""
        is_known = (self.score[part] != NONE) & (self.was[part] != NONE)
        now, before = self.contribution[part], self.contribution_was[part]
        points = np.where(now == NONE, 0, now) - np.where(before == NONE, 0, before)
        is_moved = np.flatnonzero(is_known & points.any(axis=1))
        moves = list(map((_FIRST, _STILL).__getitem__, is_known.tolist()))
        if not len(is_moved):
            return moves
        delta = (self.score[part] - self.was[part])[is_moved].tolist()
        is_reweighted = ((now == NONE) != (before == NONE)).any(axis=1)[is_moved].tolist()
        lists = points[is_moved].tolist(), now[is_moved].tolist(), before[is_moved].tolist()
        for i, change, reweighted, by, after, prior in zip(is_moved.tolist(), delta, is_reweighted, *lists, strict=True):
            moves[i] = f'"delta":{_POINTS[change]},"drivers":[{_drivers(by, after, prior, reweighted)}]'
        return moves


_RECORD = (
    '{"id":"%s","subject":%s,"time":"%s","data":{"account_id":%s,"score":%s,"computed_score":%s,"band":"%s","override":null,'
    '"churn_risk":null,"calibrated":false,"components":[%s,%s,%s],%s,"profile":"standard","config_version":"%s","model_version":null,'
    '"coverage":%s,"freshness_s":%s,"trend":null,%s,%s,"scored_at":"%s"},"specversion":"1.0","type":"health.scored",'
    '"source":"/health-scores","datacontenttype":"application/json"}'
)
_COMPONENT = '{"name":"NAME","score":%s,"weight":WEIGHT,"effective_weight":%s,"value":%s,"n":%s,"age_s":%s,"missing":%s,"contribution":%s}'
_TRIGGER = '%s%s,"id":%s},"occurred_at":"%s"'
_NOBODY = '"mrr":null,"owner":null,"segment":null,"renewal_at":null'
_STILL = '"delta":0.0,"drivers":[]'
_FIRST = '"delta":null,"drivers":[]'
_BOOLEANS = ("false", "true")


class _Points(dict[int, str]):
    """Ten-thousandths as JSON numbers, each written once; the quotient reads as its four decimals exactly."""

    MOST = 200_000

    def __missing__(self, fixed: int) -> str:
        if len(self) >= self.MOST:
            self.clear()
        text = self[fixed] = repr(fixed / SCALE)
        return text


class _PointsOrNull(_Points):
    """Ten-thousandths of what is never negative, and may not exist."""

    def __missing__(self, fixed: int) -> str:
        if fixed == NONE:
            self[fixed] = "null"
            return "null"
        return super().__missing__(fixed)


def _filled(template: str, columns: Sequence[Iterable[str]]) -> Iterator[str]:
    """The template for each row, with its `%s` replaced by what the columns hold, in their order."""
    first, *rest = map(repeat, template.split("%s"))
    pieces = chain.from_iterable(zip(columns, rest, strict=True))
    return map("".join, zip(first, *pieces, strict=False))  # the pieces of the template repeat for ever


_POINTS = _Points()
_POINTS_OR_NULL = _PointsOrNull()


def texts_of(fixed: AnyInts) -> list[str]:
    """Ten-thousandths, none negative, as JSON; null where there is `NONE`."""
    return list(map(_POINTS_OR_NULL.__getitem__, fixed.tolist()))


def _seconds(ages: AnyInts) -> list[str]:
    return ["null" if age < 0 else str(age) for age in ages.tolist()]


def quoted(texts: Iterable[str]) -> list[str]:
    """Texts as JSON."""
    return list(map(bytes.decode, map(_encode, texts)))


class Instants(dict[int, str]):
    """Instants (microseconds) as RFC 3339 texts, each written once."""

    def __missing__(self, instant: int) -> str:
        text = self[instant] = format_us(instant)
        return text


def instants(many: AnyInts) -> list[str]:
    """RFC 3339 texts of instants in microseconds, as `format_us` writes them; of `NEVER`, anything.

    Whole milliseconds, as most events have, are written all at once; the instants of assessments are the same for many accounts.
    """
    known = np.where(many == NEVER, 0, many)
    if (known % MILLISECOND_US).any():
        return list(map(Instants().__getitem__, known.tolist()))
    texts: list[str] = np.datetime_as_string(known.astype("datetime64[us]"), unit="ms", timezone="UTC").tolist()
    return texts


def _headline(columns: Columns, slots: Ints, scale: Scale) -> Ints:
    """The value of the first measure of each component, ten-thousandths, `(n, components)`."""
    at = Instant(columns, slots, columns.as_of[slots])
    return np.stack([_first(scale.lines[name][0].measure, at) for name in COMPONENTS], axis=1)


def _first(measure: str, at: Instant) -> Ints:
    value = MEASURES[measure](at)
    return np.where(missing(measure, at), NONE, value) if measure in ABSENT else value


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
        moved.append((-abs(change), name, f'{{"name":"{name}","points":{_POINTS[change]},"cause":"{cause}"}}'))
    return ",".join(text for *_, text in sorted(moved))
