"""The naive second implementation of docs/state.md: keep every applied event, recompute everything from scratch.

Written from that page alone and sharing no code with `models/`, so that the two can be compared. Nothing here is fast:
each answer replays the account's events in the order in which they arrived. Times are integer microseconds since 1970.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import accumulate
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from deploy.verify import reference_months, reference_users
from deploy.verify.reference_lifecycle import lifecycle

Outcome: TypeAlias = Literal["applied", "duplicate", "late", "dead_letter"]
Shape: TypeAlias = "str | list[Shape] | dict[str, Shape]"
Json: TypeAlias = Any
Members: TypeAlias = dict[str, Json]
Record: TypeAlias = Mapping[str, Json]
Figures: TypeAlias = dict[str, int]
ReadText: TypeAlias = Callable[[str, "str | None"], "tuple[int | None, Iterable[str]]"]

UTC_ZONE = ZoneInfo("UTC")
DAY = 86_400_000_000
LATENESS = 7 * DAY
LET_GO = 105 * DAY
LET_GO_SURVEYS = 200 * DAY
LET_GO_CANCELLING = 800 * DAY
DAYS_KEPT = 98
OBJECTS_KEPT = 1_000
IDS_KNOWN = {"usage-events": 64}
IDS_KNOWN_ELSEWHERE = 256
NEVER_LATE = ("account-commands",)
DAY_USES_MOST = 4_294_967_295
DAY_COUNT_MOST = 255
OPEN_COUNT_MOST = 65_535
WINDOWS = (7, 14, 28, 91)
SCALE = 10_000
FULL = 100 * SCALE
USES = ("usage.event", "usage.session", "usage.page")
OPEN = ("new", "open", "pending", "hold")
URGENT = ("high", "urgent")
UNPAID = ("issued", "payment_failed", "overdue")
FACTS = (
    "name",
    "segment",
    "industry",
    "employees",
    "region",
    "plan",
    "seats",
    "parent_id",
    "owner",
    "created_at",
    "lifecycle_stage",
    "currency",
)
BANDS = ((25, "critical"), (50, "at_risk"), (75, "watch"), (101, "healthy"))

# The known members of `data`, per type: all that two contents are compared by, and all that a subscription keeps.
PLAIN, INSTANT, DECIMAL = "plain", "instant", "decimal"


def _members(names: str, **shaped: Shape) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), PLAIN) | shaped


_MONEY = _members("amount_minor currency")
_PERIOD = _members("", start=INSTANT, end=INSTANT)
_ITEM = _members(
    "item_id product_id price_id quantity interval interval_count usage_type",
    unit_amount_minor=DECIMAL,
)
_SUBSCRIPTION = _members(
    "subscription_id status currency cancel_at_period_end auto_renew version",
    items=[_ITEM],
    discounts=[_members("percent amount_minor duration")],
    pause=_members("behavior", resumes_at=INSTANT),
    cancellation=_members("reason feedback comment"),
    started_at=INSTANT,
    current_period_start=INSTANT,
    current_period_end=INSTANT,
    trial_start=INSTANT,
    trial_end=INSTANT,
    cancel_at=INSTANT,
    canceled_at=INSTANT,
    ended_at=INSTANT,
)
_INVOICE = _members(
    "invoice_id subscription_id billing_reason attempt",
    total=_MONEY,
    tax=_MONEY,
    lines=[_members("product_id amount_minor recurring proration", period=_PERIOD)],
    due_at=INSTANT,
    next_attempt_at=INSTANT,
)
_CHARGE = _members("charge_id failure_code order_id", amount=_MONEY)
_DISPUTE = _members("dispute_id outcome", amount=_MONEY)
_ACCOUNT = _members(" ".join(FACTS), created_at=INSTANT, custom=PLAIN)
_TRIAL = _members("trial_id plan card_on_file", starts_at=INSTANT, ends_at=INSTANT)
_CONTRACT = _members("contract_id outcome", term_start=INSTANT, term_end=INSTANT, mrr=_MONEY)

KNOWN: dict[str, dict[str, Shape]] = {
    "usage.event": _members(
        "event user_id anonymous_id feature count value unit session_id duration_ms properties",
    ),
    "usage.session": _members("session_id user_id pages is_bounce", started_at=INSTANT, ended_at=INSTANT),
    "usage.page": _members("path referrer visitor_id", campaign=_members("source medium name")),
    "usage.gauge": _members("metric value seats"),
    "usage.error": _members("kind count"),
    "ticket.created": _members("ticket_id user_id subject channel priority kind tags department"),
    "ticket.replied": _members("ticket_id author_role public department text"),
    "ticket.status_changed": _members("ticket_id from to reason"),
    "ticket.priority_changed": _members("ticket_id from to"),
    "ticket.assigned": _members("ticket_id agent_id department"),
    "ticket.reopened": _members("ticket_id"),
    "ticket.merged": _members("ticket_id into"),
    "ticket.deleted": _members("ticket_id"),
    "ticket.account_changed": _members("ticket_id from to"),
    "ticket.abandoned": _members("ticket_id wait_ms"),
    "subscription.upserted": _SUBSCRIPTION,
    "invoice.issued": _INVOICE,
    "invoice.paid": _INVOICE,
    "invoice.payment_failed": _INVOICE,
    "invoice.voided": _INVOICE,
    "invoice.overdue": _INVOICE,
    "charge.succeeded": _CHARGE,
    "charge.failed": _CHARGE,
    "refund.created": _members("refund_id charge_id reason cancels_subscription", amount=_MONEY),
    "dispute.opened": _DISPUTE,
    "dispute.closed": _DISPUTE,
    "credit_note.created": _members("credit_note_id invoice_id", amount=_MONEY),
    "account.created": _ACCOUNT,
    "account.updated": _ACCOUNT,
    "account.deleted": _ACCOUNT,
    "account.owner_changed": _members("from to"),
    "account.stage_changed": _members("from to"),
    "account.aliased": _members("", alias=_members("system id")),
    "user.added": _members("user_id role"),
    "user.removed": _members("user_id role"),
    "user.role_changed": _members("user_id role"),
    "signup.completed": _members("user_id visitor_id channel campaign referred_by"),
    "onboarding.step_completed": _members("step checklist"),
    "trial.started": _TRIAL,
    "trial.converted": _TRIAL,
    "trial.ended": _TRIAL,
    "contract.signed": _CONTRACT,
    "renewal.due": _CONTRACT,
    "renewal.outcome": _CONTRACT,
    "referral.made": _members("referral_id referred_account"),
    "referral.converted": _members("referral_id referred_account"),
    "entitlement.changed": _members("features seats"),
    "touchpoint.logged": _members("kind direction outcome sentiment"),
    "csm.pulse_set": _members("value comment"),
    "champion.left": _members("user_id"),
    "recommendation.made": _members("recommendation_id"),
    "recommendation.actioned": _members("recommendation_id"),
    "survey.offered": _members("survey_id kind user_id"),
    "survey.answered": _members("survey_id kind score scale_min scale_max direction user_id ticket_id comment language"),
    "feedback.received": _members("channel text rating language"),
    "cost.recorded": _members("category account_id channel allocation", amount=_MONEY, period=_PERIOD),
    "exchange_rate.set": _members("day currency into", rate=DECIMAL),
}

DEFAULTS: dict[str, Members] = {
    "usage.event": {"count": 1},
    "survey.answered": {"direction": "higher_better"},
    "cost.recorded": {"allocation": "none"},
}


def instant(text: str) -> int:
    """Read an RFC 3339 date-time as microseconds since 1970; what is finer than a microsecond is cut off, a leap second the next one."""
    is_leap = text[17:19] == "60"
    usual = f"{text[:17]}59{text[19:]}" if is_leap else text
    return (datetime.fromisoformat(usual.upper()) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) + is_leap * 1_000_000


def _canonical(value: Json, shape: Shape) -> Json:
    """Write a value in its one way: known members that carry something, instants as integers, whole numbers as int."""
    if isinstance(shape, dict):
        return {name: _canonical(value[name], inner) for name, inner in shape.items() if value.get(name) is not None}
    if isinstance(shape, list):
        return [_canonical(item, shape[0]) for item in value]
    if shape == INSTANT:
        return instant(value)
    if shape == DECIMAL:
        return format(Decimal(str(value)).normalize(), "f")
    return _plain(value)


def _plain(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True, slots=True)
class Event:
    """One applied event; `rank` is what `(time, id)` compares, with the source where both are equal."""

    time: int
    id: str
    source: str
    type: str
    subject: str
    data: Members

    @classmethod
    def of(cls, record: Record) -> "Event":
        """Read a valid CloudEvents record, keeping the known members of its data in their one way of writing."""
        data = _canonical(record["data"], KNOWN.get(record["type"], PLAIN))
        data = DEFAULTS.get(record["type"], {}) | data
        return cls(instant(record["time"]), record["id"], record["source"], record["type"], record["subject"], data)

    @property
    def rank(self) -> tuple[int, str, str]:
        """What decides between two writes: the greater wins."""
        return (self.time, self.id, self.source)

    @property
    def content(self) -> str:
        """What a second record of the same `(source, id)` must equal to be a duplicate."""
        return json.dumps([self.type, self.time, self.data], sort_keys=True)


def _latest(events: Iterable[Event]) -> Event | None:
    return max(events, key=lambda event: event.rank, default=None)


def _last_write(events: Iterable[Event], written: Callable[[Event], Json]) -> Json:
    """Find what the latest of the events that write anything wrote; None when none did."""
    latest = _latest(event for event in events if written(event) is not None)
    return None if latest is None else written(latest)


def _newest(events: Iterable[Event]) -> int:
    return max(event.time for event in events)


def _kept(
    applied: Sequence[Event],
    object_of: Callable[[Event], str | None],
    may_go: Callable[[list[Event]], bool],
    newest_of: Callable[[list[Event]], int] = _newest,
    let_go: int = LET_GO,
    watch: Callable[[int, dict[str, list[Event]], int], None] = lambda _place, _kept, _newest: None,
    goes_after: Callable[[list[Event]], int] = lambda _: 0,
    gone: Callable[[list[Event]], None] = lambda _: None,
) -> dict[str, list[Event]]:
    """Replay a topic in order of arrival, letting objects go after each event: the events that each object kept has.

    `watch` sees, before anything is let go, how many events there were, what is kept of them, and the newest time; `gone` what is let go.
    """
    kept: dict[str, list[Event]] = {}
    newest_at: dict[str, int] = {}
    newest: int | None = None
    for place, event in enumerate(applied, 1):
        newest = event.time if newest is None else max(newest, event.time)
        identity = object_of(event)
        if identity is not None:
            kept.setdefault(identity, []).append(event)
            newest_at[identity] = newest_of(kept[identity])
        watch(place, kept, newest)
        old = [each for each, at in newest_at.items() if newest - at > let_go]
        for each in old:
            if may_go(kept[each]) and newest - newest_at[each] > goes_after(kept[each]):
                gone(kept.pop(each))
                del newest_at[each]
        while len(kept) > OBJECTS_KEPT:
            least = min(kept, key=lambda each: (newest_at[each], each))
            gone(kept.pop(least))
            del newest_at[least]
    return kept


def payment_objects(applied: Sequence[Event], kind: str) -> tuple[dict[str, list[Event]], list[list[Event]]]:
    """Give the events of the objects of a kind that are kept, and of those that were let go: what comes for one later is another object."""

    def object_of(event: Event) -> str | None:
        return str(event.data[f"{kind}_id"]) if event.type.startswith(f"{kind}.") else None

    gone: list[list[Event]] = []
    may_go: dict[str, Callable[[list[Event]], bool]] = {
        "invoice": lambda events: _invoice(events)["status"] not in UNPAID,
        "subscription": lambda _: False,
    }
    newest_of: dict[str, Callable[[list[Event]], int]] = {"subscription": lambda events: _upsert(events).time, "refund": _latest_time}
    goes_after = _refund_goes_after if kind == "refund" else lambda _: LET_GO
    kept = _kept(
        applied, object_of, may_go.get(kind, lambda _: True), newest_of.get(kind, _newest), goes_after=goes_after, gone=gone.append
    )
    return kept, gone


def _ticket_status(event: Event) -> str | None:
    to = event.data.get("to")
    written = {
        "ticket.created": "new",
        "ticket.status_changed": to,
        "ticket.reopened": "open",
        "ticket.merged": "merged",
        "ticket.deleted": "deleted",
        "ticket.account_changed": "open" if to == event.subject else "moved",
    }
    return written.get(event.type)


def _ticket_priority(event: Event) -> str | None:
    if event.type == "ticket.created":
        return str(event.data.get("priority", "normal"))
    return event.data.get("to") if event.type == "ticket.priority_changed" else None


def _ticket(events: list[Event]) -> Members:
    created = [event for event in events if event.type == "ticket.created"]
    replies = [
        event.time
        for event in events
        if event.type == "ticket.replied" and event.data["author_role"] == "agent" and event.data["public"] is True
    ]
    solved = [event.time for event in events if event.type == "ticket.status_changed" and event.data["to"] in ("solved", "closed")]
    first = _latest(created)
    return {
        "created_at": min((event.time for event in created), default=None),
        "kind": first.data.get("kind") if first else None,
        "channel": first.data.get("channel") if first else None,
        "status": _last_write(events, _ticket_status),
        "priority": _last_write(events, _ticket_priority) or "normal",
        "first_reply_at": min(replies, default=None),
        "agent_replies": len(replies),
        "reopens": sum(event.type == "ticket.reopened" for event in events),
        "solved_at": max(solved, default=None),
        "changes": reference_months.changes(events),
        "departments": reference_months.departments(events),
        "agents": reference_months.agents(events),
        "newest_at": _newest(events),
    }


def _invoice(events: list[Event]) -> Members:
    latest = max(events, key=lambda event: event.rank)
    total = _last_write(events, lambda event: event.data.get("total")) or {}
    failed: dict[str, int] = {}
    for event in events:
        if event.type == "invoice.payment_failed":
            attempt = str(event.data.get("attempt", 1))
            failed[attempt] = min(failed.get(attempt, event.time), event.time)
    return {
        "status": latest.type.removeprefix("invoice."),
        "status_at": latest.time,
        "due_at": _last_write(events, lambda event: event.data.get("due_at")),
        "total_minor": total.get("amount_minor"),
        "currency": total.get("currency"),
        "failed": failed,
        "paid_at": min((event.time for event in events if event.type == "invoice.paid"), default=None),
        "newest_at": _newest(events),
    }


def _overdue_from(invoice: Members) -> int | None:
    if invoice["status"] not in UNPAID:
        return None
    if invoice["due_at"] is not None:
        return int(invoice["due_at"])
    return None if invoice["status"] == "issued" else int(invoice["status_at"])


def _amount(events: list[Event]) -> Members:
    latest = max(events, key=lambda event: event.rank)
    amount = latest.data["amount"]
    return {"time": latest.time, "amount_minor": amount["amount_minor"], "currency": amount["currency"]}


def _latest_time(events: list[Event]) -> int:
    return max(events, key=lambda event: event.rank).time


def _refund_goes_after(events: list[Event]) -> int:
    """A refund that ends a subscription is part of the ledger (docs/ledger.md)."""
    latest = max(events, key=lambda event: event.rank)
    return LET_GO_CANCELLING if latest.data.get("cancels_subscription") else LET_GO


def _charge(events: list[Event]) -> Members:
    latest = max(events, key=lambda event: event.rank)
    return {"outcome": latest.type.removeprefix("charge."), **_amount(events)}


def _upsert(events: list[Event]) -> Event:
    return max(events, key=lambda event: (event.data["version"], *event.rank))


def _subscription(events: list[Event]) -> Members:
    upsert = _upsert(events)
    return {"version": upsert.data["version"], "time": upsert.time, "id": upsert.id, "data": upsert.data}


def _facts_written(event: Event) -> Members:
    carried = {name: event.data[name] for name in FACTS if name in event.data}
    written: dict[str, Members] = {
        "account.created": carried | {"is_deleted": False},
        "account.updated": carried,
        "account.deleted": {"is_deleted": True},
        "account.owner_changed": {"owner": event.data.get("to")},
        "account.stage_changed": {"lifecycle_stage": event.data.get("to")},
        "entitlement.changed": {"seats": event.data.get("seats")},
    }
    return written.get(event.type, {})


def _facts(applied: Sequence[Event]) -> Members:
    facts: Members = {}
    for event in sorted(applied, key=lambda event: event.rank, reverse=True):
        for name, value in _facts_written(event).items():
            if value is not None:
                facts.setdefault(name, value)
    return facts


def _survey_answer(event: Event) -> Members:
    data = event.data
    return {
        "time": event.time,
        **{name: data[name] for name in ("kind", "survey_id", "user_id", "direction")},
        "score": half_up(exact(data["score"]) * 1_000_000),
        "scale": [data["scale_min"], data["scale_max"]],
        "ticket_id": data.get("ticket_id"),
    }


def is_answer(event: Event) -> bool:
    """Say whether an event is an answer to a survey."""
    return event.type == "survey.answered"


def is_invitation(event: Event) -> bool:
    """Say whether an event invites to a survey."""
    return event.type == "survey.offered"


def has_text(event: Event) -> bool:
    """Say whether an event holds a text that is read."""
    return _text_in(event) is not None


def _text_in(event: Event) -> str | None:
    text = event.data.get("text" if event.type == "feedback.received" else "comment") or ""
    return text if text.strip() else None


def _uses_by_day(uses: Iterable[Event], used_at: int) -> dict[str, int]:
    days: Counter[int] = Counter()
    for event in uses:
        days[event.time // DAY] += event.data["count"] if event.type == "usage.event" else 1
    oldest = used_at // DAY - (DAYS_KEPT - 1)
    return {str(day): min(count, DAY_USES_MOST) for day, count in sorted(days.items()) if day >= oldest and count}


def _per_day_at_most(times: Iterable[int], most: int) -> dict[int, int]:
    return {day: min(count, most) for day, count in Counter(time // DAY for time in times).items()}


def _by_window(name: str, days: Mapping[int, int], today: int) -> dict[str, Fraction]:
    return {f"{name}_{width}": Fraction(sum(count for day, count in days.items() if today - width < day <= today)) for width in WINDOWS}


class Oracle:
    """All that was applied to one account, in order of arrival, and what docs/state.md says follows from it."""

    def __init__(self, read_text: ReadText = lambda _text, _language: (None, ()), zone: ZoneInfo = UTC_ZONE) -> None:
        """Start as an account of which nothing is known.

        `read_text` gives polarity and themes of a text in a language, `zone` is that of the months.
        """
        self._read_text = read_text
        self._zone = zone
        self._applied: dict[str, list[Event]] = {}
        self._newest: dict[str, int] = {}
        self._state: Members | None = None
        self._users_level = 0

    def assume_sample(self, users_level: int) -> None:
        """Tell of its users those that are in a sample: how coarse the stream's is, only the stream can say."""
        if users_level != self._users_level:
            self._users_level, self._state = users_level, None

    def apply(self, topic: str, record: Record) -> Outcome:
        """Take a valid record of this account; `dead_letter` only ever means `conflicting_duplicate`."""
        event = Event.of(record)
        applied = self._applied.setdefault(topic, [])
        for known in applied[-IDS_KNOWN.get(topic, IDS_KNOWN_ELSEWHERE) :]:
            if (known.source, known.id) == (event.source, event.id):
                return "duplicate" if known.content == event.content else "dead_letter"
        newest = self._newest.get(topic, event.time)
        if newest - event.time > LATENESS and topic not in NEVER_LATE:
            return "late"
        applied.append(event)
        self._state = None
        self._newest[topic] = max(newest, event.time)
        return "applied"

    def newest(self) -> int:
        """Return the time of its newest event, 0 without any."""
        return max(self._newest.values(), default=0)

    def until(self, counts: Mapping[str, int]) -> "Oracle":
        """Return the account as it was when so many events of each topic were applied."""
        found = Oracle(self._read_text, self._zone)
        for topic, events in self._applied.items():
            if before := events[: counts.get(topic, 0)]:
                found._applied[topic] = before
                found._newest[topic] = max(event.time for event in before)
        return found

    def state(self) -> Members:
        """Sections 2 to 5 as one JSON-able dict; days, attempts and object ids are its text keys."""
        return {
            "newest": dict(self._newest),
            "applied": {topic: len(events) for topic, events in self._applied.items() if events},
            **self._usage(),
            **self._tickets(),
            **self._payments(),
            **self._account(),
            **self._surveys(),
            **lifecycle(self._of("account-events")),
        }

    def applied(self, topic: str) -> list[Event]:
        """Return the events of a topic that were applied, in order of arrival."""
        return list(self._of(topic))

    def facts(self) -> Members:
        """Return what is known of the account itself (section 5)."""
        return _facts(self._of("account-events"))

    def _of(self, topic: str) -> list[Event]:
        return self._applied.get(topic, [])

    def _usage(self) -> Members:
        applied = self._of("usage-events")
        uses = [event for event in applied if event.type in USES]
        used_at = _newest(uses) if uses else None
        return {
            "usage": {"used_at": used_at, "days": {} if used_at is None else _uses_by_day(uses, used_at)},
            "user_days": reference_users.in_sample(reference_users.users(applied, used_at), self._users_level),
            "users_level": self._users_level,
            "gauge_seats": reference_users.seats(applied),
        }

    def month_figures(self, now: int) -> dict[str, Figures]:
        """Sections 3b and 5a: the figures of tickets and surveys of the month of an instant and the 24 before it; those that are not 0."""
        months, kept, calls = self._ticket_months()
        found = months.told(now, lambda seen: reference_months.ticket_figures(kept, calls, seen))
        of_surveys, count = self._survey_months()
        for month, figures in of_surveys.told(now, lambda seen: count(None, seen)).items():
            found[month] |= figures
        for month, figures in self._usage_months(now).items():
            found.setdefault(month, {}).update(figures)
        return found

    def _usage_months(self, now: int) -> dict[str, Figures]:
        """Give the usage figures of the month of an instant and of the one before it."""
        applied, state = self._of("usage-events"), self._usage()
        if state["usage"]["used_at"] is None:
            return {}
        found: dict[str, Figures] = {}
        this = reference_months.month_of(now, self._zone)
        for month in (this, reference_months.later(this, -1)):
            seen = reference_months.window(month, self._zone, now)
            running = None
            if month == this:
                as_of = max(now, *self._newest.values())
                seats = reference_users.seats_known({**state, "fact_seats": self._fact_seats()})
                running = {"measures": self.measures(as_of), "seats": seats}
            uses = map(int, state["usage"]["days"])
            found[f"{month[0]:04}-{month[1]:02}"] = reference_users.month_figures(applied, uses, seen.start, seen.stop, running)
        return found

    def _ticket_months(self) -> tuple[reference_months.Months, dict[str, list[Event]], list[int]]:
        """The closed months of tickets, and what is kept: the events of each ticket, the calls that were given up."""
        applied = self._of("ticket-events")
        months = reference_months.Months(self._zone)

        def calls(place: int, let_go: int) -> list[int]:
            """Give the calls of the first events that are left when those as old as the first `let_go` tell were let go of."""
            times = {event.time for event in applied[:place] if event.type == "ticket.abandoned"}
            newest = max((event.time for event in applied[:let_go]), default=0)
            return sorted(at for at in times if newest - at <= LET_GO)[-OBJECTS_KEPT:]

        def watch(place: int, kept: dict[str, list[Event]], newest: int) -> None:
            months.reach(newest, lambda seen: reference_months.ticket_figures(kept, calls(place, place - 1), seen))

        kept = _kept(
            applied,
            lambda event: event.data.get("ticket_id"),
            lambda events: _last_write(events, _ticket_status) not in OPEN,
            watch=watch,
        )
        return months, kept, calls(len(applied), len(applied))

    def _tickets(self) -> Members:
        months, kept, calls = self._ticket_months()
        return {
            "calls": calls,
            "ticket_months": months.closed,
            "tickets": {identity: _ticket(events) for identity, events in kept.items()},
            "abandoned": sum(event.type == "ticket.abandoned" and "ticket_id" not in event.data for event in self._of("ticket-events")),
        }

    def _payments(self) -> Members:
        views: dict[str, Callable[[list[Event]], Members]] = {
            "invoice": _invoice,
            "charge": _charge,
            "subscription": _subscription,
            "refund": _amount,
            "dispute": _amount,
            "credit_note": _amount,
        }
        return {
            f"{kind}s": {name: view(events) for name, events in payment_objects(self._of("payment-events"), kind)[0].items()}
            for kind, view in views.items()
        }

    def _account(self) -> Members:
        applied = self._of("account-events")
        terms: dict[str, list[Event]] = {}
        for event in applied:
            if event.type in ("contract.signed", "renewal.due"):
                terms.setdefault(event.data["contract_id"], []).append(event)
        return {
            "facts": self.facts(),
            "contracts": {
                identity: {"term_end": _last_write(events, lambda event: event.data.get("term_end"))} for identity, events in terms.items()
            },
        }

    def _survey_months(self) -> tuple[reference_months.Months, Callable[[int | None, reference_months.Window], Figures]]:
        """The closed months of surveys, and how a window is counted of what is kept, or was after so many events."""

        def count(place: int | None, seen: reference_months.Window) -> Figures:
            opinions = [self._opinion(event) for event in self._surveyed(has_text, place)]
            return reference_months.survey_figures(self._surveyed(is_answer, place), self._surveyed(is_invitation, place), opinions, seen)

        months = reference_months.Months(self._zone)
        for place, newest in enumerate(accumulate((event.time for event in self._of("survey-events")), max), 1):
            months.reach(newest, partial(count, place))
        return months, count

    def _surveyed(self, is_one: Callable[[Event], bool], before: int | None = None) -> list[Event]:
        """Give what is kept of all events, or what was before anything was let go because of the event at that place."""
        found: dict[str, Event] = {}

        def watch(place: int, objects: dict[str, list[Event]], _newest: int) -> None:
            if place == before:
                found.update({name: events[-1] for name, events in objects.items()})

        objects = _kept(
            self._of("survey-events")[:before],
            lambda event: f"{event.id}\0{event.source}" if is_one(event) else None,
            may_go=lambda _: True,
            newest_of=lambda events: events[-1].time,
            let_go=LET_GO_SURVEYS,
            watch=watch,
        )
        if before is None:
            found = {name: events[-1] for name, events in objects.items()}
        return sorted(found.values(), key=lambda event: event.rank)

    def _opinion(self, event: Event) -> Members:
        polarity, themes = self._read_text(_text_in(event) or "", event.data.get("language"))
        return {"time": event.time, "polarity": polarity, "themes": list(themes)}

    def _fact_seats(self) -> Members | None:
        written = _latest(event for event in self._of("account-events") if _facts_written(event).get("seats") is not None)
        return None if written is None else {"time": written.time, "seats": _facts_written(written)["seats"]}

    def _surveys(self) -> Members:
        months, _ = self._survey_months()
        return {
            "answers": [_survey_answer(event) for event in self._surveyed(is_answer)],
            "invitations": [
                {"time": event.time, **{name: event.data[name] for name in ("kind", "survey_id", "user_id")}}
                for event in self._surveyed(is_invitation)
            ],
            "opinions": [self._opinion(event) for event in self._surveyed(has_text)],
            "survey_months": months.closed,
        }

    def measures(self, as_of_us: int) -> dict[str, Fraction | None]:
        """Section 6 at an instant not before the account's newest event, else ValueError; None is a missing measure."""
        if self._state is None:
            self._state = self.state()
        state = self._state
        if any(newest > as_of_us for newest in state["newest"].values()):
            msg = "as_of is before the newest event of the account"
            raise ValueError(msg)
        feeds: Sequence[tuple[bool, Mapping[str, Fraction | None]]] = (
            (state["usage"]["used_at"] is not None, _usage_measures(state | {"fact_seats": self._fact_seats()}, as_of_us)),
            ("ticket-events" in state["newest"], _ticket_measures(state, as_of_us)),
            ("payment-events" in state["newest"], _payment_measures(state, as_of_us)),
        )
        return {name: value if is_present else None for is_present, measures in feeds for name, value in measures.items()}

    def score(self, as_of_us: int, scorecard: Record) -> Members:
        """Section 7 at an instant: score, contributions and coverage in ten-thousandths, and the band."""
        return combine(component_scores(self.measures(as_of_us), scorecard), scorecard)


def _usage_measures(state: Members, as_of_us: int) -> dict[str, Fraction | None]:
    today = as_of_us // DAY
    days = {int(day): count for day, count in state["usage"]["days"].items()}
    events = _by_window("usage_events", days, today)
    return {
        **events,
        **_by_window("usage_active_days", dict.fromkeys(days, 1), today),
        **reference_users.measures(state, days, today),
        "usage_idle_days": Fraction(today - (state["usage"]["used_at"] or 0) // DAY),
        "usage_pace": 4 * events["usage_events_7"] / (events["usage_events_28"] or 1),
    }


def _ticket_measures(state: Members, as_of_us: int) -> dict[str, Fraction]:
    tickets = state["tickets"].values()
    created = [
        ticket["created_at"]
        for ticket in tickets
        if ticket["created_at"] is not None and ticket["status"] not in ("merged", "deleted", "moved")
    ]
    still_open = [ticket for ticket in tickets if ticket["status"] in OPEN]
    urgent = [ticket for ticket in still_open if ticket["priority"] in URGENT]
    return {
        **_by_window("tickets_created", _per_day_at_most(created, DAY_COUNT_MOST), as_of_us // DAY),
        "tickets_open": Fraction(min(len(still_open), OPEN_COUNT_MOST)),
        "tickets_open_urgent": Fraction(min(len(urgent), OPEN_COUNT_MOST)),
    }


def _payment_measures(state: Members, as_of_us: int) -> dict[str, Fraction]:
    today = as_of_us // DAY
    invoices, charges = state["invoices"].values(), state["charges"].values()
    failed = [time for invoice in invoices for time in invoice["failed"].values()]
    failed += [charge["time"] for charge in charges if charge["outcome"] == "failed"]
    paid = [invoice["paid_at"] for invoice in invoices if invoice["paid_at"] is not None]
    paid += [charge["time"] for charge in charges if charge["outcome"] == "succeeded"]
    overdue = [since for invoice in invoices if (since := _overdue_from(invoice)) is not None]
    return {
        **_by_window("payments_failed", _per_day_at_most(failed, DAY_COUNT_MOST), today),
        **_by_window("payments_paid", _per_day_at_most(paid, DAY_COUNT_MOST), today),
        "payment_overdue_days": max(Fraction(as_of_us - min(overdue, default=as_of_us), DAY), Fraction(0)),
    }


def exact(number: object) -> Fraction:
    """Read a configured number, a decimal text or an int, without loss."""
    return Fraction(str(number))


def half_up(number: Fraction) -> int:
    """Round to the nearest integer, halves away from zero."""
    floor_of_half_more = (2 * abs(number) + 1) // 2
    return int(floor_of_half_more if number >= 0 else -floor_of_half_more)


def points(value: Fraction, worst: object, best: object) -> int:
    """Place a measure on the line from worst (0) to best (1,000,000), and hold it inside."""
    low, high = exact(worst) * SCALE, exact(best) * SCALE
    return min(max(half_up((half_up(value * SCALE) - low) * FULL / (high - low)), 0), FULL)


def _weighted_mean(weighted: Sequence[tuple[Fraction, int]]) -> Fraction | None:
    total = sum(weight for weight, _ in weighted)
    return sum((weight * value for weight, value in weighted), Fraction(0)) / total if total else None


def component_scores(measures: Mapping[str, Fraction | None], scorecard: Record) -> dict[str, int | None]:
    """Score each configured component from those of its measures that are not missing; None when all are."""
    scores: dict[str, int | None] = {}
    for component in scorecard["components"]:
        mean = _weighted_mean(
            [
                (exact(each["weight"]), points(value, each["worst"], each["best"]))
                for each in component["measures"]
                if (value := measures[each["name"]]) is not None
            ],
        )
        scores[component["name"]] = None if mean is None else half_up(mean)
    return scores


def combine(scores: Mapping[str, int | None], scorecard: Record) -> Members:
    """Make the score, its contributions, its coverage and its band from the scores of the components."""
    weights = {component["name"]: exact(component["weight"]) for component in scorecard["components"]}
    feeds = scorecard.get("feeds", list(weights))
    there = {name: scores[name] for name in weights if scores[name] is not None}
    mean = _weighted_mean([(weights[name], value) for name, value in there.items() if value is not None])
    score = None if mean is None else half_up(mean)
    configured = sum(weights[name] for name in weights if name in feeds)
    covered = sum(weights[name] for name in there if name in feeds)
    coverage = half_up(Fraction(covered * SCALE, configured)) if configured else 0
    contributions = _contributions(there, weights, score)
    return {
        "score": score,
        "coverage": coverage,
        "band": band(score, coverage),
        "components": {
            name: {"score": scores[name], "contribution": contributions.get(name, 0), "missing": name not in there} for name in weights
        },
    }


def _contributions(
    there: Mapping[str, int | None],
    weights: Mapping[str, Fraction],
    score: int | None,
) -> dict[str, int]:
    """Share the score out: each its floor, and what is then missing one each to the greatest remainders."""
    if score is None:
        return {}
    total = sum(weights[name] for name in there)
    shares = {name: weights[name] * (value or 0) / total for name, value in there.items()}
    floors = {name: int(share // 1) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: floors[name] - shares[name])  # stable: ties keep configured order
    for name in by_remainder[: score - sum(floors.values())]:
        floors[name] += 1
    return floors


def band(score: int | None, coverage: int) -> str:
    """Name the band of a score and a coverage in ten-thousandths; the lower bound of a band belongs to it."""
    if score is None or 2 * coverage < SCALE:
        return "insufficient_data"
    return next(name for upper, name in BANDS if score < upper * SCALE)


def replay(
    records: Iterable[tuple[str, Record]], read_text: ReadText | None = None, zone: ZoneInfo = UTC_ZONE
) -> tuple[dict[str, Oracle], list[Outcome]]:
    """Apply `(topic, record)` of many accounts in order: the oracle of each account, and each record's outcome."""
    accounts: dict[str, Oracle] = {}
    outcomes: list[Outcome] = []
    for topic, record in records:
        account = accounts.get(record["subject"])
        if account is None:
            account = accounts[record["subject"]] = Oracle(zone=zone) if read_text is None else Oracle(read_text, zone)
        outcomes.append(account.apply(topic, record))
    return accounts, outcomes
