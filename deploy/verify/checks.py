"""What must hold of one partition, given all that was read of it. Pure: `deploy.verify.run` does the reading.

**The cut.** The state that is judged is the changelog up to an offset below which every transaction has ended; its last cursor says
which inputs are in it, and the inputs are folded exactly that far. What is in other topics is judged by what that state says of itself:
an alert belongs to it when its sequence is at most that of the account's row, a score when it says what the row says, a dead
letter when the record that it names is below the cursor. What is beyond must be of a transaction that was committed between the cut and
the reading of those topics: the **tail**, the changelog's records after the cut, must hold it. With the workers stopped the tail is
empty, and then nothing may be beyond.

**What the logs no longer hold** cannot be judged, and is counted as such. An input reaches back when its log begins at offset 0, or
when as many records are in it as were ever folded; never when the state was carried over from another log. Where it does not: the
tallies are held against the log from the oldest cursor that lies in it, assessments are recomputed from the stored state by `models`,
and uses are compared from the first day on that no deleted record can bear upon (see `usage_speaks_from`).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from alerts.events import decode_state, encode_state, fold_state
from alerts.policy import Condition, Severity
from deploy.verify import reference, reference_commands
from deploy.verify.alert_log import by_account, problems_of, read_alerts
from deploy.verify.equality import (
    assessed_by_stream,
    assessed_in,
    kept_by_oracle,
    kept_by_stream,
    of_topic,
    published,
    rates_by_stream,
    reassessed_by_stream,
    scorecard_record,
    told,
)
from deploy.verify.records import read_records
from deploy.verify.report import Check
from deploy.verify.rolled_up import judge_portfolio
from models import row
from models.commands import PREFIX
from models.health import Band
from models.input_topics import COMMANDS, FOLDED_TOPICS, INPUT_TOPICS, USAGE
from models.row import NEVER, UnknownRowVersionError
from models.times import DAY_US, MILLISECOND_US, MINUTE_US
from stream_app.app import definition_of
from stream_app.pipeline import CURSOR_KEY, KINDS, Partition, Position, UnknownCursorVersionError, read_cursor
from stream_app.state_reader import Changelog
from stream_app.topics import topic_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from alerts.events import AlertEvent
    from alerts.rules import AlertRules
    from deploy.verify.records import LogRecord, Members
    from deploy.verify.report import Report
    from deploy.verify.rolled_up import Rolled
    from stream_app.settings import Settings

OUTCOMES: Final = ("applied", "duplicate", "late", "dead_letter")
SCORED_TOPICS: Final = INPUT_TOPICS[:3]
"""The input topics that a score is made of."""

CONFLICT: Final = "conflicting_duplicate"

OTHER_LOG: Final = "the record may be of another log, from which the state was carried over"

_UNREADABLE: Final = (ValueError, TypeError, msgspec.DecodeError, UnknownRowVersionError)
_UNFOLDABLE: Final = (KeyError, ValueError, TypeError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says of its record: the topic's name without a prefix, the offset, the key, and the reason."""

    topic: str
    offset: int
    key: bytes | None
    reason: str


@dataclass(slots=True)
class Tail:
    """What the changelog holds after the cut: every row of an account, in order, and every cursor."""

    rows: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    cursors: list[bytes] = field(default_factory=list)

    def sequence_max(self, key: bytes) -> int:
        """Return the greatest sequence of alerts that an account's rows tell; 0 when there is no row."""
        return max((int(each["alert_sequence"]) for each in self.decoded(key)), default=0)

    def decoded(self, key: bytes) -> list[np.void]:
        """Return the rows of an account."""
        return [row.decode([value])[0] for value in self.rows.get(key, ())]


@dataclass(slots=True)
class Input:
    """One input topic of a partition: its records from `start`, where its log begins, up to the cursor or to `end`, where it ends.

    `unfolded` counts the records after the cursor, where somebody asked for that.
    """

    records: Iterable[LogRecord] = ()
    start: int = 0
    end: int = 0
    unfolded: int = 0


@dataclass(slots=True)
class Evidence:
    """All that was read of one partition; the scores and states of alerts are the latest of each key.

    `letters` are those that name a record of this partition, `commands` what is decided for all accounts, of all partitions. A log that
    `is_whole` begins at offset 0. `portfolio` is what is published of this partition's
    accounts, `cursor_times` are the cursors up to the cut by the time of their record (milliseconds).
    """

    number: int
    changelog: Changelog
    inputs: Mapping[str, Input]
    scores: Mapping[bytes, bytes]
    alerts: Sequence[tuple[bytes | None, bytes | None]]
    alert_states: Mapping[bytes, bytes]
    letters: Sequence[Letter]
    commands: Sequence[reference.Event] = ()
    portfolio: Sequence[Rolled] = ()
    cursor_times: Mapping[int, bytes] = field(default_factory=dict)
    tail: Tail = field(default_factory=Tail)
    is_alert_log_whole: bool = True
    is_letter_log_whole: bool = True


@dataclass(slots=True)
class Folded:
    """What the reference made of one input topic of a partition."""

    outcomes: Counter[str] = field(default_factory=Counter)
    count: int = 0
    count_since: int = 0
    begins_us: int | None = None
    letters: dict[int, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    reaches_back: bool = True


@dataclass
class Case:
    """One partition before the judge: what was read, what the reference makes of it, and where the verdicts go.

    `offsets` are those of the records that were applied to an account, by topic and account, in their order; commands for all are nobody's.
    """

    settings: Settings
    evidence: Evidence
    report: Report
    account: bytes | None
    partition: Partition
    unreadable: Mapping[bytes, str] = field(default_factory=dict)
    accounts: dict[str, reference.Oracle] = field(default_factory=dict)
    folded: dict[str, Folded] = field(default_factory=dict)
    card: Members = field(default_factory=dict)
    commands: reference.Oracle = field(default_factory=reference.Oracle)
    offsets: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def stranger(self) -> reference.Oracle:
        """Return an account of which nothing was read yet, as the reference sees it with this configuration."""
        definition = self.partition.definition
        return reference.Oracle(definition.read_text, definition.zone)

    def account_of(self, name: str) -> reference.Oracle:
        """Return what the reference makes of an account."""
        if name not in self.accounts:
            self.accounts[name] = self.stranger()
        return self.accounts[name]

    def judge(self, check: Check, account: bytes | str | None, wrong: Iterable[str]) -> None:
        """Count one thing of this partition as judged."""
        self.report.judge(check, self.evidence.number, account, wrong)


def judge_partition(
    settings: Settings,
    evidence: Evidence,
    report: Report,
    *,
    decode: Callable[[LogRecord], Members | None] | None = None,
    account: bytes | None = None,
) -> None:
    """Judge everything that was read of a partition, and add the verdicts to the report.

    `decode`: see `deploy.verify.records`. With an `account` only what is of it is judged; tallies and dead letters are nobody's alone.
    """
    if account is not None:
        evidence = only(evidence, account)
    partition, unreadable = restored(settings, evidence)
    case = Case(settings, evidence, report, account, partition, unreadable, card=scorecard_record(settings.health))
    for key, why in unreadable.items():
        case.judge(Check.STATE, key, [f"its records in the changelog cannot be read: {why}"])
    report.partitions.append(evidence.number)
    report.accounts += len(case.partition.columns)
    _judge_cursors(case)
    for topic in FOLDED_TOPICS:
        _fold_topic(case, topic, decode)
    if account is None:
        for topic in FOLDED_TOPICS:
            _judge_records(case, topic)
        _judge_letters(case)
        _judge_commands(case)
        judge_portfolio(case)
    _judge_states(case)
    _judge_assessments(case)
    _judge_alerts(case)


def only(evidence: Evidence, account: bytes) -> Evidence:
    """Return what was read of one account; the inputs, the cursors and the dead letters stay whole."""
    mine = {key: value for key, value in evidence.changelog.latest.items() if key == CURSOR_KEY or key[1:] == account}
    return replace(
        evidence,
        changelog=Changelog(mine, evidence.changelog.cursors),
        scores={key: value for key, value in evidence.scores.items() if key == account},
        alerts=[alert for alert in evidence.alerts if alert[0] == account],
        alert_states={key: value for key, value in evidence.alert_states.items() if key == account},
    )


# The changelog


def restored(settings: Settings, evidence: Evidence) -> tuple[Partition, dict[bytes, str]]:
    """Return the accounts as the changelog has them; those whose records cannot be read are left out, and it is said why."""
    stored = {key: value for key, value in evidence.changelog.latest.items() if key != CURSOR_KEY}
    try:
        return _restore(settings, evidence.number, stored), {}
    except _UNREADABLE:
        of_account: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        for key, value in stored.items():
            of_account[key[1:]][key] = value
    unreadable = {}
    for account, records in of_account.items():
        try:
            _restore(settings, evidence.number, records)
        except _UNREADABLE as error:
            unreadable[account] = str(error)
            for key in records:
                del stored[key]
    return _restore(settings, evidence.number, stored), unreadable


def _restore(settings: Settings, number: int, stored: Mapping[bytes, bytes]) -> Partition:
    partition = Partition(number, definition_of(settings))
    partition.restore(((key, value) for key, value in stored.items() if key[:1] in KINDS or key.startswith(PREFIX)), None)
    return partition


def _judge_cursors(case: Case) -> None:
    """Hold each cursor against the one before."""
    before: dict[str, Position] = {}
    for stored in case.evidence.changelog.cursors:
        try:
            after = read_cursor(stored)
        except (msgspec.DecodeError, UnknownCursorVersionError) as error:
            case.judge(Check.CURSORS, None, [f"a cursor cannot be read: {error}"])
            continue
        case.judge(Check.CURSORS, None, steps_back(before, after))
        before = after
    case.report.cursors += len(case.evidence.changelog.cursors)
    case.partition.positions = before


def steps_back(before: Mapping[str, Position], after: Mapping[str, Position]) -> Iterator[str]:
    """Say for which topics a cursor stands, or counts, less than the one before it in the log."""
    for topic, position in before.items():
        if topic not in after or any(getattr(after[topic], name) < getattr(position, name) for name in ("offset", *OUTCOMES)):
            yield f"the cursor of {topic} goes back from {position} to {after.get(topic)}"


# The inputs


def _reached(case: Case, topic: str) -> Position | None:
    return case.partition.positions.get(topic_name(case.settings.topic_prefix, topic))


def _is_carried(case: Case, topic: str) -> bool:
    """Say whether the state of an input began in another log than the one that is there now."""
    reached = _reached(case, topic)
    return reached is not None and reached.carried_from >= 0


def _fold_topic(case: Case, topic: str, decode: Callable[[LogRecord], Members | None] | None) -> None:
    """Let the reference fold one input topic, and say whether the log reaches back to the first record that was ever folded."""
    source, reached, folded = case.evidence.inputs[topic], _reached(case, topic), Folded()
    oldest = _oldest_position(case, topic)
    since = source.start if oldest is None else oldest.offset
    for read in read_records(topic, _counted(case, source.records, folded, since), decode):
        if read.members is None:
            outcome, reason = "dead_letter", read.reason
        else:
            try:
                whose = case.commands if topic == COMMANDS else case.account_of(read.members["subject"])
                outcome, reason = whose.apply(topic, read.members), CONFLICT
                if outcome == "applied":
                    case.offsets[topic, "" if topic == COMMANDS else read.members["subject"]].append(read.record.offset)
            except _UNFOLDABLE as error:
                folded.failures.append(f"{topic}: the reference cannot fold the record at {read.record.offset}: {error!r}")
                continue
        folded.outcomes[outcome] += 1
        if outcome == "dead_letter":
            folded.letters[read.record.offset] = reason
    ever = 0 if reached is None else _tally(reached).total()
    is_carried = _is_carried(case, topic)
    folded.reaches_back = not is_carried and (source.start == 0 or ever == folded.count)
    case.folded[topic] = folded
    case.report.read[topic] += folded.outcomes.total()
    case.report.outcomes.setdefault(topic, Counter()).update(folded.outcomes)
    if not folded.reaches_back:
        is_told = topic == USAGE and not is_carried
        case.report.speaks_from[topic, case.evidence.number] = usage_speaks_from(folded.begins_us) if is_told else None


def _counted(case: Case, records: Iterable[LogRecord], folded: Folded, since: int) -> Iterator[LogRecord]:
    """Count the records that pass, and let those of the account pass that is asked for."""
    for record in records:
        if folded.count == 0 and record.is_append_time:
            folded.begins_us = record.timestamp * MILLISECOND_US
        folded.count += 1
        folded.count_since += record.offset >= since
        if case.account is None or record.key == case.account:
            yield record


def _oldest_position(case: Case, topic: str) -> Position | None:
    """Return the oldest position of a topic that lies in its log and that the changelog still tells."""
    name, start = topic_name(case.settings.topic_prefix, topic), case.evidence.inputs[topic].start
    for stored in case.evidence.changelog.cursors:
        try:
            position = read_cursor(stored).get(name)
        except (msgspec.DecodeError, UnknownCursorVersionError):
            continue
        if position is not None and position.offset >= start:
            return position
    return None


def _judge_records(case: Case, topic: str) -> None:
    """Hold what the cursor counts against what the reference made of the same records."""
    source, folded, reached = case.evidence.inputs[topic], case.folded[topic], _reached(case, topic)
    if reached is None:
        if source.unfolded:
            case.judge(Check.RECORDS, None, [f"{topic}: nothing is folded, {source.unfolded} records are there"])
        return
    wrong = [*folded.failures, *_bounds_problems(topic, source, reached)]
    tally = _tally(reached)
    oldest = _oldest_position(case, topic)
    if folded.reaches_back:
        if tally != folded.outcomes:
            wrong.append(f"{topic}: the cursor counts {dict(tally)}, the oracle {dict(folded.outcomes)}")
        if tally.total() != folded.count:
            wrong.append(f"{topic}: {tally.total()} records are counted, {folded.count} were read")
    elif oldest is not None:
        counted = tally.total() - _tally(oldest).total()
        if counted != folded.count_since:
            wrong.append(f"{topic}: {counted} records are counted since offset {oldest.offset}, {folded.count_since} were read")
    case.judge(Check.RECORDS, None, wrong)


def _tally(position: Position) -> Counter[str]:
    return Counter({outcome: count for outcome in OUTCOMES if (count := getattr(position, outcome))})


def _bounds_problems(topic: str, source: Input, reached: Position) -> Iterator[str]:
    """Say where a cursor does not lie in its log, or not at its end where it must."""
    if reached.offset > source.end:
        yield f"{topic}: folded up to {reached.offset}, and the log ends at {source.end}"
    if reached.offset < source.start:
        yield f"{topic}: folded up to {reached.offset}, and the log begins at {source.start}: what lay between was never folded"
    if source.unfolded:
        yield f"{topic}: folded up to {reached.offset}, {source.unfolded} records are there after it"


def _judge_letters(case: Case) -> None:
    """Hold the dead letters against the records that the reference could not use."""
    case.report.dead_letters += len(case.evidence.letters)
    letters: dict[tuple[str, int], list[Letter]] = defaultdict(list)
    for letter in case.evidence.letters:
        letters[letter.topic, letter.offset].append(letter)
    for topic, folded in case.folded.items():
        for offset, reason in folded.letters.items():
            found = letters.pop((topic, offset), [])
            if not folded.reaches_back and reason == CONFLICT:
                case.report.leave(Check.DEAD_LETTERS, "what was sent twice may be older than the log")
            elif len(found) > 1 and _is_carried(case, topic):
                case.report.leave(Check.DEAD_LETTERS, OTHER_LOG, len(found))
            elif not found and not case.evidence.is_letter_log_whole:
                case.report.leave(Check.DEAD_LETTERS, "dead-letters no longer reaches back")
            else:
                case.judge(Check.DEAD_LETTERS, None, _letter_problems(topic, offset, reason, found))
    for (topic, offset), found in letters.items():
        _judge_stray(case, topic, offset, found)


def _letter_problems(topic: str, offset: int, reason: str, found: Sequence[Letter]) -> Iterator[str]:
    if len(found) != 1:
        yield f"{topic}, offset {offset}: {len(found) or 'no'} dead letters of a record that could not be used ({reason})"
    elif reason and found[0].reason != reason:
        yield f"{topic}, offset {offset}: its dead letter says {found[0].reason}, expected {reason}"


def _judge_stray(case: Case, topic: str, offset: int, found: Sequence[Letter]) -> None:
    """Judge dead letters of a record that the reference did not find unusable below the cursor."""
    folded, source, reached = case.folded.get(topic), case.evidence.inputs.get(topic), _reached(case, topic)
    if folded is None or source is None:
        case.judge(Check.DEAD_LETTERS, None, [f"a dead letter of {topic}, which is no input"])
    elif _is_carried(case, topic):
        case.report.leave(Check.DEAD_LETTERS, OTHER_LOG, len(found))
    elif reached is None or offset >= reached.offset:
        name = topic_name(case.settings.topic_prefix, topic)
        later = [read_cursor(stored).get(name) for stored in case.evidence.tail.cursors]
        if not any(position is not None and position.offset > offset for position in later):
            case.judge(Check.DEAD_LETTERS, None, [f"{topic}, offset {offset}: a dead letter of a record that is not folded"])
    elif offset < source.start:
        case.report.leave(Check.DEAD_LETTERS, "the record is no longer in the log", len(found))
    elif found[0].reason == CONFLICT and not folded.reaches_back:
        case.report.leave(Check.DEAD_LETTERS, "what was sent twice may be older than the log", len(found))
    else:
        case.judge(Check.DEAD_LETTERS, None, [f"{topic}, offset {offset}: a dead letter ({found[0].reason}) of a record that can be used"])


# What is decided for all accounts


def _judge_commands(case: Case) -> None:
    """Hold the rates that a partition keeps against those that its own log says, and against those that any partition's log says.

    A partition that the topics got later was given what the others had: what is not in its own log must be what the others say.
    """
    if not case.folded[COMMANDS].reaches_back:
        case.report.leave(Check.COMMANDS, "the log no longer reaches back")
        return
    own = reference_commands.rates(case.commands.applied(COMMANDS))
    anywhere = reference_commands.writes(case.evidence.commands)
    kept = rates_by_stream(case.partition.commands)
    wrong = [
        f"the rate of {' '.join(about)}: kept is {kept.get(about)}, expected {own.get(about)}"
        for about in sorted(kept.keys() | own.keys())
        if kept.get(about) != own.get(about) and not _is_of_others(about, kept.get(about), own.get(about), anywhere)
    ]
    case.judge(Check.COMMANDS, None, wrong)


def _is_of_others(
    about: reference_commands.About,
    kept: reference_commands.Told | None,
    own: reference_commands.Told | None,
    anywhere: Collection[tuple[reference_commands.About, reference_commands.Told]],
) -> bool:
    """Say whether a rate is a later one of another partition's log, or one that the own log does not have at all."""
    return kept is not None and (about, kept) in anywhere and (own is None or kept > own)


# The accounts


def _judge_states(case: Case) -> None:
    """Compare what is kept of every account with what the reference keeps."""
    columns = case.partition.columns
    # An id that was used twice, with other content: the first of the two is no longer in the log.
    doubtful = {
        letter.key
        for letter in case.evidence.letters
        if letter.topic == USAGE
        and letter.reason == CONFLICT
        and letter.offset >= case.evidence.inputs[USAGE].start
        and letter.offset not in case.folded[USAGE].letters
    }
    for name in sorted({key.decode(errors="replace") for key in columns.keys} | case.accounts.keys()):
        key = name.encode()
        slot, account = columns.slots.get(key), case.accounts.get(name)
        if slot is None:
            _judge_missing(case, key)
            continue
        try:
            kept = kept_by_stream(columns, slot)
        except _UNREADABLE as error:
            case.judge(Check.STATE, key, [f"what is kept of it cannot be read: {error}"])
            continue
        expected = kept_by_oracle(case.stranger() if account is None else account, kept["users_level"])
        for topic in INPUT_TOPICS:
            mine, theirs = of_topic(kept, topic), of_topic(expected, topic)
            if case.folded[topic].reaches_back:
                if mine["applied"] or theirs["applied"]:
                    case.judge(Check.STATE, key, (f"{topic}: {text}" for text in told(mine, theirs)))
            elif mine["applied"]:
                since = case.report.speaks_from[topic, case.evidence.number]
                _judge_uses(case, key, mine, theirs, None if key in doubtful else since)


def _judge_missing(case: Case, key: bytes) -> None:
    if case.evidence.tail.rows.get(key):
        # The cleaner may have taken the row of the cut away because of the newer one, while this was read.
        case.report.leave(Check.STATE, "compacted while it was read")
    elif key not in case.unreadable:
        case.judge(Check.STATE, key, ["nothing is kept of it, and there are records of it"])


def usage_speaks_from(begins_us: int | None) -> int | None:
    """Return the first instant, the start of a day, from which uses can be compared with a log that begins at `begins_us`.

    An event may be 5 minutes ahead of the broker's time and 7 days late: what happened later than that after the first record that is
    left is in the log whole, and no deleted record can make it a duplicate or late. None when the log's times are not the broker's.
    """
    if begins_us is None:
        return None
    return ((begins_us + reference.LATENESS + 5 * MINUTE_US) // DAY_US + 1) * DAY_US


def _judge_uses(case: Case, key: bytes, mine: Members, theirs: Members, since_us: int | None) -> None:
    """Compare the uses of the days that the log tells all about, and leave the rest."""
    days = [] if since_us is None or "usage" not in mine else [_days_since(each["usage"]["days"], since_us) for each in (mine, theirs)]
    if any(days):
        case.judge(Check.STATE, key, [] if days[0] == days[1] else [f"uses by day: the stream has {days[0]}, the oracle {days[1]}"])
    else:
        case.report.leave(Check.STATE, "the log no longer reaches back")


def _days_since(days: Mapping[str, int], since_us: int) -> dict[str, int]:
    return {day: count for day, count in days.items() if int(day) * DAY_US >= since_us}


def _judge_assessments(case: Case) -> None:
    """Recompute every stored assessment, and hold the latest published one and the open alert against it."""
    columns, scores = case.partition.columns, case.evidence.scores
    for key, slot in columns.slots.items():
        stored = scores.get(key)
        try:
            data = None if stored is None else json.loads(stored)["data"]
            config_version = None if data is None else data["config_version"]
        except _UNFOLDABLE:
            case.judge(Check.SCORES, key, ["its record in health-scores cannot be read"])
            continue
        case.judge(Check.SCORES, key, _score_problems(case, key, slot, data))
        if config_version != case.settings.config_version:
            for check in (Check.ASSESSMENTS, Check.CONDITION):
                case.report.leave(check, "scored with another configuration")
            continue
        case.judge(Check.ASSESSMENTS, key, _assessment_problems(case, key, slot))
        case.judge(
            Check.CONDITION, key, condition_problems(columns.rows(np.array([slot]))[0], _is_closed(case, slot), case.settings.alerts)
        )
    case.report.scores += len(scores)
    for key in scores.keys() - columns.slots.keys() - case.evidence.tail.rows.keys() - case.unreadable.keys():
        case.judge(Check.SCORES, key, ["it has a score, and nothing is kept of it"])


def _score_problems(case: Case, key: bytes, slot: int, data: Members | None) -> Iterator[str]:
    if data is None:
        yield "it has no score in health-scores"
        return
    columns = case.partition.columns
    scored_at, as_of = reference.instant(data["scored_at"]), int(columns.as_of[slot])
    found = published(data)
    # Not by the instant alone: while `now` stands still, several assessments of an account are of the same one.
    if any(int(each["as_of"]) == scored_at and assessed_in(each) == found for each in case.evidence.tail.decoded(key)):
        return
    if scored_at == as_of:
        yield from (f"health-scores: {text}" for text in told(found, assessed_by_stream(columns, slot)))
    else:
        yield f"its score is of {scored_at}, its row of {as_of}"


def _assessment_problems(case: Case, key: bytes, slot: int) -> Iterator[str]:
    columns = case.partition.columns
    as_of, account = int(columns.as_of[slot]), case.accounts.get(key.decode(errors="replace"))
    if as_of == NEVER:
        yield "it was never assessed"
        return
    found = assessed_by_stream(columns, slot)
    if account is None or not all(case.folded[topic].reaches_back for topic in SCORED_TOPICS):
        expected = reassessed_by_stream(columns, slot, case.partition.definition.scale)
    else:
        try:
            expected = account.score(as_of, case.card)
        except ValueError as error:
            yield f"at {as_of}: {error}"
            return
    yield from (f"at {as_of}: {text}" for text in told(found, expected))


# The alerts


def _is_closed(case: Case, slot: int) -> bool:
    columns = case.partition.columns
    return bool(columns.is_deleted[slot] | columns.is_ended[slot])


def condition_problems(stored: np.void, is_closed: bool, rules: AlertRules) -> Iterator[str]:
    """Say where the alert of a row of `models.row` is not what its score asks for."""
    condition = Condition(int(stored["alert_condition"]))
    if is_closed:
        if condition != Condition.OK:
            yield f"the account has left, and its alert is {condition.name.lower()}"
        return
    score = int(stored["score"])
    if int(stored["band"]) == Band.NO_DATA or score < 0:
        return
    enter, leave = rules.health.at_risk.enter_fixed, rules.health.at_risk.exit_fixed
    if score < enter:
        allowed = {Condition.FIRING, Condition.PENDING}
    else:
        allowed = {Condition.OK, Condition.FIRING if score < leave else Condition.RECOVERING}
    if condition not in allowed:
        yield f"it scores {score} and its alert is {condition.name.lower()}"
    elif condition == Condition.RECOVERING and rules.recover_for == 0:
        yield f"it scores {score} and its alert is open"
    elif condition == Condition.PENDING and _is_wait_over(stored, rules):
        yield f"it scores {score}, its wait is over, and it has no open alert"


def _is_wait_over(stored: np.void, rules: AlertRules) -> bool:
    waits = [(int(stored["alert_since"]), rules.pending_for.at_risk)]
    if int(stored["alert_severity"]) == Severity.CRITICAL:
        waits.append((int(stored["alert_critical_since"]), rules.pending_for.critical))
    is_counted = int(stored["alert_evaluations"]) >= rules.min_evaluations
    return any(wait == 0 or (is_counted and int(stored["alert_evaluated_at"]) - since >= wait) for since, wait in waits)


def _judge_alerts(case: Case) -> None:
    """Hold the log of alerts against itself, against alert-state, and against the rows of the accounts."""
    evidence, columns = case.evidence, case.partition.columns
    events, problems = read_alerts(evidence.alerts)
    for problem in problems:
        case.judge(Check.ALERTS, None, [problem])
    case.report.alerts.update(event.type for event in events)
    said = by_account(events)
    for name in sorted(said.keys() | {key.decode(errors="replace") for key in columns.keys}):
        key = name.encode()
        slot, mine = columns.slots.get(key), said.get(name, [])
        sequence = 0 if slot is None else int(columns.alert_sequence[slot])
        if sequence and not mine and not evidence.is_alert_log_whole:
            case.report.leave(Check.ALERTS, "churn-alerts no longer reaches back")
        else:
            case.judge(Check.ALERTS, key, _alert_problems(case, key, sequence, mine))
        _judge_alert_state(case, key, slot, mine)


def _alert_problems(case: Case, key: bytes, sequence: int, said: Sequence[AlertEvent]) -> Iterator[str]:
    """Say what is wrong with the alerts of an account whose row counts `sequence` of them."""
    if said:
        yield from problems_of(said, is_whole=case.evidence.is_alert_log_whole)
    last = int(said[-1].sequence) if said else 0
    if last < sequence or (last > sequence and last > case.evidence.tail.sequence_max(key)):
        yield f"its row counts {sequence} alert events, the log {last}"


def _judge_alert_state(case: Case, key: bytes, slot: int | None, said: Sequence[AlertEvent]) -> None:
    stored = case.evidence.alert_states.get(key)
    sequence = 0 if slot is None else int(case.partition.columns.alert_sequence[slot])
    if stored is None:
        if sequence:
            case.judge(Check.ALERT_STATE, key, [f"its row counts {sequence} alert events, and it is not in alert-state"])
        return
    try:
        latest = decode_state(stored)
    except msgspec.DecodeError as error:
        case.judge(Check.ALERT_STATE, key, [f"its record in alert-state cannot be read: {error}"])
        return
    wrong = []
    if latest.sequence < sequence or latest.sequence > max(sequence, case.evidence.tail.sequence_max(key)):
        wrong.append(f"alert-state is at {latest.sequence}, its row at {sequence}")
    last = next((event for event in said if int(event.sequence) == latest.sequence), None)
    if last is None:
        if case.evidence.is_alert_log_whole and latest.sequence <= sequence:
            wrong.append(f"alert-state is at {latest.sequence}, and the log has no such event")
    elif encode_state(fold_state(None, last)) != stored:
        wrong.append(f"alert-state is not the fold of its alerts: {stored!r}")
    if slot is not None and latest.sequence == sequence:
        wrong += _row_against_state(case.partition, slot, latest.state, latest.severity)
    case.judge(Check.ALERT_STATE, key, wrong)


def _row_against_state(partition: Partition, slot: int, state: str, severity: str) -> Iterator[str]:
    columns = partition.columns
    is_open = Condition(int(columns.alert_condition[slot])) in (Condition.FIRING, Condition.RECOVERING)
    if is_open != (state != "resolved"):
        yield f"the row says {'open' if is_open else 'not open'}, alert-state {state}"
    elif is_open and severity != Severity(int(columns.alert_severity[slot])).name.lower():
        yield f"the severity of the row is {columns.alert_severity[slot]}, that of alert-state {severity}"
