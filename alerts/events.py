"""What is published of an alert: its events on `churn-alerts`, and their fold on `alert-state`.

The members are those of spec/alerts.md section 1.3.

An event is a pure function of the transition, the alert's state after it, what is known of the account and the instant
of the decision: the same arguments give the same bytes. Every member is always there; what is not known is null or
empty. The state of an alert is the fold of its events and of nothing else, so any reader of the log can recompute it.
"""

import math
import re
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import sha256
from typing import Literal

import msgspec

from alerts.policy import AlertState, Condition, Severity, Transition
from models.fixed import SCALE
from models.row import NEVER
from models.times import DAY_US, MILLISECOND_US, format_us

DRIVERS_MAX = 5
"""How many drivers an event carries: those that moved the score most."""

EVENT_BYTES_MAX = 20_000
"""What an event is brought down to by giving up drivers and shortening texts."""

EVENT_BYTES_LIMIT = 64 * 1024
"""No event is ever larger than this."""

SHORT_TEXT = 200
"""Characters that are kept of each text of an event that would be too large."""

WHOLE_BYTES_MAX = 512
"""How long an id or an address of such an event may be; a longer one is left out, since a part of it leads nowhere."""

SCHEMA = "urn:churnwatch:schema:alert-event/1.json"
STATE_SCHEMA = "urn:churnwatch:schema:alert-state/1.json"

SeverityName = Literal["at_risk", "critical"]
StateName = Literal["firing", "recovering", "resolved"]
Handling = Literal["unacked", "acked", "snoozed"]

_SEVERITY_NAMES: dict[Severity, SeverityName] = {Severity.AT_RISK: "at_risk", Severity.CRITICAL: "critical"}
_STATE_NAMES: dict[Condition, StateName] = {
    Condition.FIRING: "firing",
    Condition.RECOVERING: "recovering",
    Condition.OK: "resolved",
}
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f]")
_SURROGATES = re.compile("[\ud800-\udfff]")


class EventTooLargeError(ValueError):
    """An event exceeds the hard limit even with no drivers and short texts: its account id is no account id."""


class Money(msgspec.Struct, frozen=True):
    """An amount in minor units."""

    amount_minor: int
    currency: str


class Owner(msgspec.Struct, frozen=True):
    """The CSM of an account."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    slack_id: str | None = None


class Playbook(msgspec.Struct, frozen=True):
    """What to do about it."""

    id: str | None = None
    title: str | None = None
    url: str | None = None


class Links(msgspec.Struct, frozen=True):
    """Where to look: the account, and the dashboard at the time of the alert."""

    account: str | None = None
    dashboard: str | None = None


class Driver(msgspec.Struct, frozen=True):
    """One thing that moved the score, in points, with its value and what it was compared with."""

    name: str
    points: float
    value: float | None = None
    baseline: float | None = None
    text: str | None = None


class Account(msgspec.Struct, frozen=True):
    """Which account it is."""

    id: str
    name: str | None
    segment: str | None
    plan: str | None
    region: str | None


class Score(msgspec.Struct, frozen=True):
    """The assessment: points from 0 to 100, a change in points, a probability from 0 to 1."""

    health: float | None
    previous: float | None
    delta_7d: float | None
    churn_risk: float | None
    model_version: str | None


class Revenue(msgspec.Struct, frozen=True):
    """What the account pays a month, and how much of it is at risk."""

    mrr: Money | None
    mrr_at_risk: Money | None


class Renewal(msgspec.Struct, frozen=True):
    """When the contract ends, and in how many days (UTC) after the event."""

    date: str | None
    days: int | None


class Tickets(msgspec.Struct, frozen=True):
    """Open support tickets, and the urgent ones among them."""

    open: int | None
    sev1: int | None


class Payment(msgspec.Struct, frozen=True):
    """When a payment failed last."""

    last_failed_at: str | None


class AlertData(msgspec.Struct, frozen=True, kw_only=True):
    """The alert as it is after the event, and what a CSM needs to act."""

    alert_id: str
    episode: int
    rule: SeverityName
    severity: SeverityName
    previous_severity: SeverityName | None
    state: StateName
    handling: Handling
    reason: str
    opened_at: str
    muted_by: tuple[str, ...]
    account: Account
    owner: Owner
    score: Score
    drivers: tuple[Driver, ...]
    revenue: Revenue
    renewal: Renewal
    last_touch_at: str | None
    tickets: Tickets
    payment: Payment
    playbook: Playbook
    links: Links
    truncated: bool


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of an alert's life in its CloudEvents envelope."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: Literal["/churn-alerts"] = "/churn-alerts"
    type: str
    subject: str
    time: str
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str = SCHEMA
    partitionkey: str
    sequence: str
    data: AlertData


class AlertStateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The latest state of an account's alert: the fold of its events. `resolved_at` is null while it is open."""

    alert_id: str
    episode: int
    sequence: int
    event_id: str
    rule: SeverityName
    severity: SeverityName
    state: StateName
    handling: Handling
    reason: str
    opened_at: str
    changed_at: str
    resolved_at: str | None
    account: Account
    owner: Owner
    score: Score
    revenue: Revenue


class AlertStateEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an alert in its CloudEvents envelope; `id` is that of the event which brought it about."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: Literal["/alert-state"] = "/alert-state"
    type: Literal["alert.state"] = "alert.state"
    subject: str
    time: str
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str = STATE_SCHEMA
    partitionkey: str
    sequence: str
    data: AlertStateRecord


@dataclass(frozen=True, slots=True)
class DriverFact:
    """A driver as it was measured: `points` in ten-thousandths."""

    name: str
    points: int
    value: float | None = None
    baseline: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertContext:
    """What is known of an account when its alert says something; None is unknown.

    Scores and their change are in ten-thousandths of a point, times in microseconds, churn risk is a probability.
    """

    account_id: str
    score: int | None
    name: str | None = None
    segment: str | None = None
    plan: str | None = None
    region: str | None = None
    owner: Owner = field(default_factory=Owner)
    previous_score: int | None = None
    delta_7d: int | None = None
    churn_risk: float | None = None
    model_version: str | None = None
    drivers: tuple[DriverFact, ...] = ()
    mrr: Money | None = None
    mrr_at_risk: Money | None = None
    renewal_on: date | None = None
    last_touch_at_us: int | None = None
    tickets_open: int | None = None
    tickets_sev1: int | None = None
    payment_failed_at_us: int | None = None
    playbook: Playbook = field(default_factory=Playbook)
    links: Links = field(default_factory=Links)


_ENCODER = msgspec.json.Encoder()
_EVENT_DECODER = msgspec.json.Decoder(AlertEvent)
_STATE_DECODER = msgspec.json.Decoder(AlertStateEvent)


def alert_id(account_id: str, episode: int) -> str:
    """The identity of an account's alert of that episode: 29 characters, always and everywhere the same."""
    digest = sha256(f"{account_id}|{episode}".encode()).digest()
    return f"al_{b32encode(digest).decode('ascii')[:26].lower()}"


def event_id(alert: str, sequence: int, transition: str) -> str:
    """The identity of an event of an alert: 64 hexadecimal digits."""
    return sha256(f"{alert}|{sequence}|{transition}".encode()).hexdigest()


def build_event(transition: Transition, state: AlertState, context: AlertContext, now_us: int) -> AlertEvent:
    """The event of a transition that a decision at `now_us` made; `state` is the decision's.

    Only the `DRIVERS_MAX` drivers that moved the score most are named. An event that would exceed `EVENT_BYTES_MAX`
    gets short texts, and if that is not enough, fewer drivers. `truncated` says that something was left out.
    Raises ValueError for a number that is not finite, EventTooLargeError for an account id of absurd length.
    """
    top = sorted(context.drivers, key=lambda driver: -abs(driver.points))[:DRIVERS_MAX]
    is_truncated = len(top) < len(context.drivers)
    whole = _clean(replace(context, drivers=tuple(top)))
    event = _event(transition, state, whole, now_us, is_truncated=is_truncated)
    if len(encode_event(event)) <= EVENT_BYTES_MAX:
        return event
    short = _shorten(whole)
    for count in range(len(top), -1, -1):
        event = _event(transition, state, replace(short, drivers=short.drivers[:count]), now_us, is_truncated=True)
        if len(encode_event(event)) <= EVENT_BYTES_MAX:
            return event
    if (size := len(encode_event(event))) > EVENT_BYTES_LIMIT:
        raise EventTooLargeError(f"the event of an alert has {size} bytes with nothing left to cut: check its account id")
    return event


def encode_event(event: AlertEvent) -> bytes:
    """The value of a record on `churn-alerts`."""
    return _ENCODER.encode(event)


def decode_event(value: bytes) -> AlertEvent:
    """The event in a record of `churn-alerts`; raises msgspec.DecodeError for what is none."""
    return _EVENT_DECODER.decode(value)


def fold_state(previous: AlertStateRecord | None, event: AlertEvent) -> AlertStateRecord:
    """The state of an account's alert after an event; one that is already in it, or older, changes nothing."""
    sequence = int(event.sequence)
    if previous is not None and sequence <= previous.sequence:
        return previous
    data = event.data
    return AlertStateRecord(
        alert_id=data.alert_id,
        episode=data.episode,
        sequence=sequence,
        event_id=event.id,
        rule=data.rule,
        severity=data.severity,
        state=data.state,
        handling=data.handling,
        reason=data.reason,
        opened_at=data.opened_at,
        changed_at=event.time,
        resolved_at=event.time if data.state == "resolved" else None,
        account=data.account,
        owner=data.owner,
        score=data.score,
        revenue=data.revenue,
    )


def encode_state(record: AlertStateRecord) -> bytes:
    """The value of a record on `alert-state`."""
    return _ENCODER.encode(
        AlertStateEvent(
            id=record.event_id,
            subject=record.account.id,
            time=record.changed_at,
            partitionkey=record.account.id,
            sequence=str(record.sequence),
            data=record,
        )
    )


def decode_state(value: bytes) -> AlertStateRecord:
    """The state in a record of `alert-state`; raises msgspec.DecodeError for what is none."""
    return _STATE_DECODER.decode(value).data


def _event(transition: Transition, state: AlertState, context: AlertContext, now_us: int, *, is_truncated: bool) -> AlertEvent:
    identity = alert_id(context.account_id, transition.episode)
    data = AlertData(
        alert_id=identity,
        episode=transition.episode,
        rule=_SEVERITY_NAMES[state.rule],
        severity=_SEVERITY_NAMES[transition.severity],
        previous_severity=_SEVERITY_NAMES.get(transition.previous_severity),
        state=_STATE_NAMES[state.condition],
        handling="unacked",
        reason=transition.reason,
        opened_at=_instant(state.opened_at_us),
        muted_by=(),
        account=Account(context.account_id, context.name, context.segment, context.plan, context.region),
        owner=context.owner,
        score=_score(context),
        drivers=tuple(_driver(driver) for driver in context.drivers),
        revenue=_revenue(context),
        renewal=_renewal(context, now_us),
        last_touch_at=_time(context.last_touch_at_us),
        tickets=Tickets(context.tickets_open, context.tickets_sev1),
        payment=Payment(_time(context.payment_failed_at_us)),
        playbook=context.playbook,
        links=context.links,
        truncated=is_truncated,
    )
    return AlertEvent(
        id=event_id(identity, transition.sequence, transition.kind),
        type=f"alert.{transition.kind}",
        subject=context.account_id,
        time=_instant(now_us),
        partitionkey=context.account_id,
        sequence=str(transition.sequence),
        data=data,
    )


def _score(context: AlertContext) -> Score:
    return Score(
        health=_points(context.score),
        previous=_points(context.previous_score),
        delta_7d=_points(context.delta_7d),
        churn_risk=_finite("churn_risk", context.churn_risk),
        model_version=context.model_version,
    )


def _driver(fact: DriverFact) -> Driver:
    return Driver(
        name=fact.name,
        points=fact.points / SCALE,
        value=_finite("the value of a driver", fact.value),
        baseline=_finite("the baseline of a driver", fact.baseline),
        text=fact.text,
    )


def _revenue(context: AlertContext) -> Revenue:
    """MRR as it is; the part at risk only where neither is negative, since a credit cannot be lost."""
    amounts = [money.amount_minor for money in (context.mrr, context.mrr_at_risk) if money is not None]
    return Revenue(context.mrr, context.mrr_at_risk if min(amounts, default=0) >= 0 else None)


def _renewal(context: AlertContext, now_us: int) -> Renewal:
    if context.renewal_on is None:
        return Renewal(None, None)
    today = date(1970, 1, 1) + timedelta(days=now_us // DAY_US)
    return Renewal(context.renewal_on.isoformat(), (context.renewal_on - today).days)


def _points(fixed: int | None) -> float | None:
    return None if fixed is None else fixed / SCALE


def _time(instant_us: int | None) -> str | None:
    return None if instant_us is None or instant_us == NEVER else _instant(instant_us)


def _instant(instant_us: int) -> str:
    """RFC 3339 in whole milliseconds, those that have begun."""
    return format_us(instant_us - instant_us % MILLISECOND_US)


def _finite(what: str, value: float | None) -> float | None:
    """The number itself: JSON has no other, and null would say that it is unknown."""
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{what} of an alert is {value}: only finite numbers can be published")
    return value


Edit = Callable[[str | None], str | None]


def _clean(context: AlertContext) -> AlertContext:
    return _edited(context, _displayable, _displayable)


def _shorten(context: AlertContext) -> AlertContext:
    return _edited(context, _cut, _whole)


def _edited(context: AlertContext, prose: Edit, exact: Edit) -> AlertContext:
    """The context with `prose` applied to what is read, and `exact` to what is useless in part: ids and addresses."""
    owner, playbook, links = context.owner, context.playbook, context.links
    return replace(
        context,
        name=prose(context.name),
        segment=prose(context.segment),
        plan=prose(context.plan),
        region=prose(context.region),
        model_version=prose(context.model_version),
        owner=Owner(exact(owner.id), prose(owner.name), exact(owner.email), exact(owner.slack_id)),
        playbook=Playbook(exact(playbook.id), prose(playbook.title), exact(playbook.url)),
        links=Links(exact(links.account), exact(links.dashboard)),
        drivers=tuple(replace(fact, name=prose(fact.name) or "", text=prose(fact.text)) for fact in context.drivers),
    )


def _displayable(text: str | None) -> str | None:
    """The text without control characters but tabs and line ends, and without halves of characters."""
    return None if text is None else _SURROGATES.sub("\ufffd", _CONTROLS.sub("", text))


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= SHORT_TEXT else text[: SHORT_TEXT - 1] + "…"


def _whole(text: str | None) -> str | None:
    return text if text is None or len(text.encode()) <= WHOLE_BYTES_MAX else None
