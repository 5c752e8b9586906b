"""Valid input records of the topics keyed by account, in order of arrival: seeded for long runs, and as a Hypothesis strategy.

The same code writes both, from anything that behaves like `random.Random`. Beyond plausible events it seeks the edges
of docs/state.md: records sent again (unchanged, rewritten, or with other content), disorder up to and beyond seven
days, ties in time, midnights, distances of exactly 7, 97, 98, 105 and 200 days, few object ids, bursts of one account, ids
beyond ASCII.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any, TypeAlias

from hypothesis import strategies as st

Json: TypeAlias = Any
Record: TypeAlias = dict[str, Json]

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
GRACE = 7 * DAY
START = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
EDGE_DAYS = (0, 1, 7, 14, 28, 90, 91, 97, 98, 104, 105, 112, 200)
BURST = 70
ACCOUNTS = ("acme", "grüne-wiese", "株式会社", "a b", "fox/🦊", "caf\u00e9", "cafe\u0301", "x" * 256)
SOURCES = ("segment", "/app/production", "https://example.com/é")

TYPES: dict[str, tuple[str, ...]] = {
    "usage-events": ("usage.event", "usage.session", "usage.page", "usage.gauge", "usage.error"),
    "ticket-events": (
        "ticket.created",
        "ticket.replied",
        "ticket.status_changed",
        "ticket.priority_changed",
        "ticket.assigned",
        "ticket.reopened",
        "ticket.merged",
        "ticket.deleted",
        "ticket.account_changed",
        "ticket.abandoned",
    ),
    "payment-events": (
        "subscription.upserted",
        "invoice.issued",
        "invoice.paid",
        "invoice.payment_failed",
        "invoice.voided",
        "invoice.overdue",
        "charge.succeeded",
        "charge.failed",
        "refund.created",
        "dispute.opened",
        "dispute.closed",
        "credit_note.created",
    ),
    "account-events": (
        "account.created",
        "account.updated",
        "account.deleted",
        "account.owner_changed",
        "account.stage_changed",
        "account.aliased",
        "user.added",
        "user.removed",
        "user.role_changed",
        "signup.completed",
        "onboarding.step_completed",
        "trial.started",
        "trial.converted",
        "trial.ended",
        "contract.signed",
        "renewal.due",
        "renewal.outcome",
        "referral.made",
        "referral.converted",
        "entitlement.changed",
        "touchpoint.logged",
        "csm.pulse_set",
        "champion.left",
        "recommendation.made",
        "recommendation.actioned",
    ),
    "survey-events": ("survey.offered", "survey.answered", "feedback.received"),
}
TOPIC_OF = {kind: topic for topic, kinds in TYPES.items() for kind in kinds}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a run is made of: whose events, when, how many objects, and the share of records with each oddity."""

    accounts: tuple[str, ...] = ACCOUNTS
    start_us: int = START
    days: int = 60
    object_ids: int = 5
    topics: Mapping[str, int] = field(
        default_factory=lambda: {"usage-events": 8, "ticket-events": 5, "payment-events": 5, "account-events": 2, "survey-events": 3},
    )
    hot: float = 0.3
    disorder: float = 0.4
    late: float = 0.02
    again: float = 0.08
    conflict: float = 0.02
    burst: float = 0.002
    edge: float = 0.02


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it has an id: what it says, when it arrives, how it is sent again, what barely comes in time."""

    topic: str
    body: Record
    arrives_us: int
    again: Record | None
    again_us: int
    copies: int
    edge: Record | None


def rfc3339(at_us: int, offset_minutes: int = 0) -> str:
    """Write an instant in the shortest RFC 3339 form of a zone; microseconds only when there are any."""
    zone = timezone(timedelta(minutes=offset_minutes)) if offset_minutes else UTC
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).astimezone(zone).isoformat()
    return text.replace("+00:00", "Z")


def to_kafka(record: Record, prefix: str = "") -> tuple[str, bytes, bytes]:
    """Make the topic, the key and the value that a producer would send, with `<prefix>.` before the topic if given."""
    topic = TOPIC_OF[record["type"]]
    value = json.dumps(record, ensure_ascii=False).encode()
    return (f"{prefix}.{topic}" if prefix else topic), record["subject"].encode(), value


def topic_of(record: Record) -> str:
    """Name the topic, without a prefix, that carries a record's type."""
    return "account-commands" if record["type"] == "exchange_rate.set" else TOPIC_OF[record["type"]]


def records(rng: Random, count: int, scene: Scene = Scene()) -> list[Record]:
    """Write about `count` records in order of arrival, the same for the same seed."""
    return _in_order_of_arrival([_draft(rng, scene) for _ in range(count)])


def histories(scene: Scene = Scene(), max_size: int = 60) -> st.SearchStrategy[list[Record]]:
    """Make a strategy of records in order of arrival, which shrinks event by event."""
    draft = st.randoms(use_true_random=False).map(lambda rng: _draft(rng, scene))
    return st.lists(draft, max_size=max_size).map(_in_order_of_arrival)


def _in_order_of_arrival(drafts: list[Draft]) -> list[Record]:
    arrivals: list[tuple[int, int, Record]] = []
    for number, draft in enumerate(drafts):
        for copy in range(draft.copies):
            identity = {"id": f"e{number}" if draft.copies == 1 else f"e{number}-{copy}", "source": SOURCES[number % 3]}
            if number % 19 == 1:  # the id of its predecessor, but from elsewhere: not a duplicate
                identity = {"id": f"e{number - 1}", "source": f"/twin/{copy}"}
            arrivals.append((draft.arrives_us, number, {**draft.body, **identity}))
            if draft.again is not None:
                arrivals.append((draft.again_us, number, {**draft.again, **identity}))
        if draft.edge is not None:
            arrivals.append((draft.arrives_us, number, {**draft.edge, "id": f"e{number}-edge", "source": SOURCES[0]}))
    arrivals.sort(key=lambda arrival: arrival[:2])
    return [record for _, _, record in arrivals]


def _chance(rng: Random, share: float) -> bool:
    return rng.random() >= 1 - share


def _draft(rng: Random, scene: Scene) -> Draft:
    account = scene.accounts[0] if _chance(rng, scene.hot) else rng.choice(scene.accounts)
    topic = rng.choices(list(scene.topics), weights=list(scene.topics.values()))[0]
    copies = BURST if topic == "usage-events" and _chance(rng, scene.burst) else 1
    at_us = _at(rng, scene)
    body = _body(rng, scene, topic, account, at_us)
    arrives_us = at_us + _delay(rng, scene)
    again: Record | None = None
    if _chance(rng, scene.again):
        again = _rewritten(rng, body, at_us) if rng.randrange(2) else body
    elif _chance(rng, scene.conflict):
        again = _body(rng, scene, topic, account, at_us + rng.choice((0, 1, HOUR)))
    again_us = arrives_us + rng.choice((0, SECOND, HOUR, DAY, GRACE, 30 * DAY))
    edge: Record | None = None
    if arrives_us == at_us and _chance(rng, scene.edge):
        # Nothing newer can have come: this is exactly seven days late, or one microsecond more.
        edge = _body(rng, scene, topic, account, at_us - GRACE - (rng.randrange(2) if scene.late else 0))
    return Draft(topic, body, arrives_us, again, again_us, copies, edge)


def _at(rng: Random, scene: Scene) -> int:
    """Draw an event's time: anywhere, on a whole hour (so that there are ties), or within a microsecond of an edge."""
    where = rng.choices(("anywhere", "whole hour", "edge"), weights=(6, 2, 2))[0]
    if where == "anywhere":
        return scene.start_us + rng.randrange(scene.days * DAY)
    if where == "whole hour":
        return scene.start_us + rng.randrange(scene.days * 24) * HOUR
    edges = [day for day in EDGE_DAYS if day < scene.days]
    return scene.start_us + rng.choice(edges) * DAY + rng.choice((0, 0, 1, -1))


def _delay(rng: Random, scene: Scene) -> int:
    if _chance(rng, scene.late):
        return GRACE + rng.choice((1, HOUR, DAY, 30 * DAY))
    if _chance(rng, scene.disorder):
        return GRACE if _chance(rng, 0.2) else rng.randrange(GRACE)
    return 0


def _written(rng: Random, at_us: int) -> str:
    return rfc3339(at_us, rng.choice((0, 0, 0, 120, -330, 14 * 60)))


def _body(rng: Random, scene: Scene, topic: str, account: str, at_us: int) -> Record:
    kind = rng.choice(TYPES[topic])
    if topic == "usage-events" and rng.randrange(2):
        kind = "usage.event"
    data = _Author(rng, scene.object_ids, account, at_us).data(kind)
    if _chance(rng, 0.1):
        data["x_unknown"] = {"any": [1, None, "é"]}
    return {"specversion": "1.0", "type": kind, "time": _written(rng, at_us), "subject": account, "data": data}


def _rewritten(rng: Random, body: Record, at_us: int) -> Record:
    """Say the same in another way: other order, other zone, members that nobody knows, an empty optional one."""
    data = {"x_hop": rng.randrange(9), **dict(reversed(body["data"].items()))}
    if body["type"] == "usage.event":
        data.setdefault("count", 1)
        data.setdefault("anonymous_id", None)
    return {"traceparent": "00-1-2-01", **dict(reversed(body.items())), "time": rfc3339(at_us, 345), "data": data}


class _Author:
    """Writes the `data` of one event of an account."""

    def __init__(self, rng: Random, object_ids: int, account: str, at_us: int) -> None:
        self._rng = rng
        self._object_ids = object_ids
        self._account = account
        self._at_us = at_us

    def data(self, kind: str) -> Record:
        writers: dict[str, Callable[[str], Record]] = {
            "usage-events": self._usage,
            "ticket-events": self._ticket,
            "payment-events": self._payment,
            "account-events": self._facts,
            "survey-events": self._survey,
        }
        return writers[TOPIC_OF[kind]](kind)

    def _pick(self, *choices: Json) -> Json:
        return self._rng.choice(choices)

    def _flag(self) -> bool:
        return self._rng.randrange(2) == 1

    def _id(self, kind: str) -> str:
        return f"{kind}{self._rng.randrange(self._object_ids)}"

    def _moment(self, least_days: int, most_days: int) -> str:
        """Write an instant in whole hours from the event's own time."""
        return _written(self._rng, self._at_us + self._rng.randint(least_days * 24, most_days * 24) * HOUR)

    def _money(self, *amounts: int) -> Record:
        amount_minor = self._pick(*(amounts or (0, 1, 990, 120_000)))
        return {"amount_minor": amount_minor, "currency": self._pick("EUR", "USD", "JPY")}

    def _maybe(self, **members: Json) -> Record:
        """Keep each member or leave it out; sometimes it is there and null."""
        kept = {}
        for name, value in members.items():
            if presence := self._rng.randrange(4):
                kept[name] = None if presence == 1 else value
        return kept

    def _usage(self, kind: str) -> Record:
        user = self._id("u")
        writers: dict[str, Callable[[], Record]] = {
            "usage.event": lambda: {
                "event": self._pick("report.opened", "søk"),
                "user_id": user,
                "properties": {"n": self._pick(1, 1.0, 1.5, "1")},
                **({"count": self._pick(0, 1, 2, 25, 1_000_000_000)} if self._rng.randrange(2) else {}),
                **self._maybe(feature="reports", duration_ms=1200),
            },
            "usage.session": lambda: {
                "session_id": self._id("s"),
                "user_id": user,
                "started_at": self._moment(-1, 0),
                "ended_at": rfc3339(self._at_us),
                "pages": self._rng.randrange(9),
                "is_bounce": self._flag(),
            },
            "usage.page": lambda: {
                "path": "/pricing?é",
                "visitor_id": user,
                "campaign": {"source": "mail", "medium": "email", "name": "spring", "x_term": "t"},
                **self._maybe(referrer="https://example.com/"),
            },
            "usage.gauge": lambda: {"metric": "seats_used", "value": self._rng.randrange(90), **self._maybe(seats=100)},
            "usage.error": lambda: {"kind": "query_failed", "count": self._rng.randrange(5)},
        }
        return writers[kind]()

    def _ticket(self, kind: str) -> Record:
        ticket_id = self._id("t")
        status = ("new", "open", "pending", "hold", "solved", "closed")
        priority = ("low", "normal", "high", "urgent")
        writers: dict[str, Callable[[], Record]] = {
            "ticket.created": lambda: {
                "channel": self._pick("email", "chat"),
                "priority": self._pick(*priority),
                "kind": self._pick("question", "incident", "problem", "task"),
                "tags": self._pick([], ["billing", "été"]),
                **self._maybe(department="tier 1", subject="<b>Héllo</b>", user_id=self._id("u")),
            },
            "ticket.replied": lambda: {
                "author_role": self._pick("agent", "agent", "customer", "bot"),
                "public": self._rng.randrange(3) > 0,
                **self._maybe(text="…", department="tier 2"),
            },
            "ticket.status_changed": lambda: {"from": self._pick(*status), "to": self._pick(*status)},
            "ticket.priority_changed": lambda: {"from": self._pick(*priority), "to": self._pick(*priority)},
            "ticket.assigned": lambda: self._maybe(department="billing", agent_id=self._pick("ana", "bo")),
            "ticket.reopened": dict,
            "ticket.merged": lambda: {"into": self._id("t")},
            "ticket.deleted": dict,
            "ticket.account_changed": self._moved,
            "ticket.abandoned": lambda: {"wait_ms": self._rng.randrange(90_000)},
        }
        if kind == "ticket.abandoned" and self._rng.randrange(4):
            return writers[kind]()
        return {"ticket_id": ticket_id, **writers[kind]()}

    def _moved(self) -> Record:
        both = (self._account, "elsewhere")
        return dict(zip(("from", "to"), both if self._rng.randrange(2) else both[::-1], strict=True))

    def _payment(self, kind: str) -> Record:
        if kind.startswith("invoice."):
            return self._invoice()
        writers: dict[str, Callable[[], Record]] = {
            "subscription.upserted": self._subscription,
            "charge.succeeded": lambda: {"charge_id": self._id("ch"), "amount": self._money()},
            "charge.failed": lambda: {
                "charge_id": self._id("ch"),
                "amount": self._money(),
                **self._maybe(failure_code="card_declined", order_id="o1"),
            },
            "refund.created": lambda: {
                "refund_id": self._id("re"),
                "charge_id": self._id("ch"),
                "amount": self._money(),
                "cancels_subscription": self._flag(),
            },
            "dispute.opened": lambda: {"dispute_id": self._id("dp"), "amount": self._money()},
            "dispute.closed": lambda: {"dispute_id": self._id("dp"), "amount": self._money(), "outcome": "won"},
            "credit_note.created": lambda: {
                "credit_note_id": self._id("cn"),
                "amount": self._money(990, -500),
                "invoice_id": self._id("in"),
            },
        }
        return writers[kind]()

    def _invoice(self) -> Record:
        period = {"start": self._moment(-30, -30), "end": self._moment(0, 0)}
        line = {"amount_minor": 990, "recurring": True, "period": period, "proration": False}
        return {
            "invoice_id": self._id("in"),
            "total": self._money(),
            "tax": self._money(),
            "lines": [line],
            "attempt": self._rng.randrange(5),
            **self._maybe(
                due_at=self._moment(-20, 20),
                subscription_id=self._id("sub"),
                next_attempt_at=self._moment(3, 3),
            ),
        }

    def _subscription(self) -> Record:
        item = {
            "item_id": "i1",
            "product_id": "p1",
            "price_id": "pr1",
            "unit_amount_minor": self._pick(990, "990", "0.125"),
            "quantity": self._rng.randint(1, 50),
            "interval": self._pick("month", "year"),
            "interval_count": 1,
            "usage_type": "licensed",
        }
        return {
            "subscription_id": self._id("sub"),
            "status": self._pick("trialing", "active", "past_due", "canceled", "paused"),
            "items": [item],
            "currency": self._pick("EUR", "USD"),
            "discounts": self._pick([], [{"percent": 12.5, "duration": "forever"}]),
            "started_at": self._moment(-90, -30),
            "current_period_start": self._moment(-30, 0),
            "current_period_end": self._moment(1, 30),
            "cancel_at_period_end": self._flag(),
            "auto_renew": self._flag(),
            "version": self._rng.randint(1, 9),
            **self._maybe(
                cancel_at=self._moment(1, 30),
                pause={"behavior": "void", "resumes_at": self._moment(1, 30)},
                cancellation={"reason": "cancellation_requested", "feedback": "too_expensive"},
            ),
        }

    def _facts(self, kind: str) -> Record:
        user = {"user_id": self._id("u"), "role": self._pick("champion", "sponsor", "admin", "member")}
        if kind == "user.role_changed":
            return user
        if kind.startswith("user."):
            return {"user_id": user["user_id"], **self._maybe(role=user["role"])}
        writers: dict[str, Callable[[], Record]] = {
            **dict.fromkeys(("account.created", "account.updated", "account.deleted"), self._account_facts),
            **dict.fromkeys(("trial.started", "trial.converted", "trial.ended"), self._trial),
            **dict.fromkeys(("contract.signed", "renewal.due", "renewal.outcome"), self._contract),
            **dict.fromkeys(("recommendation.made", "recommendation.actioned"), lambda: self._maybe(recommendation_id=self._id("rec"))),
            **dict.fromkeys(
                ("referral.made", "referral.converted"),
                lambda: {"referral_id": self._id("r"), **self._maybe(referred_account="other")},
            ),
            "account.owner_changed": lambda: {"from": "ana", "to": self._pick("ana", "bo", "zoë")},
            "account.stage_changed": lambda: {"from": "trial", "to": self._pick("onboarding", "adopted", "churned")},
            "account.aliased": lambda: {"alias": {"system": "stripe", "id": self._id("cus_")}},
            "signup.completed": lambda: {
                "user_id": user["user_id"],
                **self._maybe(channel=self._pick("web", "ads"), visitor_id=self._id("v"), referred_by=self._pick("other", self._account)),
            },
            "onboarding.step_completed": lambda: {"step": self._id("step"), **self._maybe(checklist=self._pick("default", "admin"))},
            "entitlement.changed": lambda: self._maybe(
                features=self._pick(["sso"], [], ["sso", "api", "sso"]), seats=self._rng.randrange(500)
            ),
            "touchpoint.logged": lambda: {
                "kind": self._pick("meeting", "qbr", "email", "call"),
                **self._maybe(direction=self._pick("outbound", "Inbound"), outcome=self._pick("held", "no_show")),
            },
            "csm.pulse_set": lambda: {"value": self._pick(1, 5, "red", "green"), "comment": "…"},
            "champion.left": lambda: {"user_id": user["user_id"]},
        }
        return writers[kind]()

    def _survey(self, kind: str) -> Record:
        if kind == "feedback.received":
            text = self._pick("Love it!", "We are moving to a competitor.", " \n", "", "Zu teuer.")
            return {"channel": self._pick("in_app", "email"), "text": text, **self._maybe(language=self._pick("en", "de"), rating=4.5)}
        survey = self._pick("nps", "csat", "ces", "custom")
        asked = {"survey_id": self._id("q"), "kind": survey, "user_id": self._id("u")}
        if kind == "survey.offered":
            return asked
        least, most = (self._pick(0, 1), 10) if survey == "nps" else self._pick((1, 5), (1, 7), (0, 1), (-2, 2), (0, 100))
        score = self._rng.randint(least, most)
        return {
            **asked,
            "score": self._pick(score, float(score)) if survey == "nps" else self._pick(score, (least + most) / 2, least + 0.1234567),
            "scale_min": least,
            "scale_max": most,
            **({} if survey == "nps" or self._flag() else {"direction": self._pick("higher_better", "lower_better")}),
            **self._maybe(ticket_id=self._id("t"), comment=self._pick("Grrr!", "", "ok"), language="en"),
        }

    def _account_facts(self) -> Record:
        return {
            "name": self._pick("Acme", "Grüne Wiese"),
            **self._maybe(
                segment=self._pick("smb", "enterprise"),
                industry="retail",
                employees=self._rng.randrange(9_000),
                region="eu",
                plan=self._pick("team", "pro"),
                seats=self._rng.randrange(500),
                parent_id="holding",
                owner=self._pick("ana", "bo"),
                created_at=self._moment(-400, -1),
                lifecycle_stage="adopted",
                currency="EUR",
                custom={"tier": 1},
            ),
        }

    def _trial(self) -> Record:
        return {
            "trial_id": self._id("tr"),
            "plan": "pro",
            **self._maybe(card_on_file=self._flag(), starts_at=self._moment(-14, 0), ends_at=self._moment(0, 14)),
        }

    def _contract(self) -> Record:
        return {
            "contract_id": self._id("c"),
            **self._maybe(
                term_start=self._moment(-365, -1),
                term_end=self._pick(self._moment(1, 365), "2026-03-01T00:00:00Z"),
                mrr=self._money(),
                outcome=self._pick("renewed", "lapsed"),
            ),
        }
