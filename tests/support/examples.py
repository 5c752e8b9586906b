"""One usable event of each type, with every known member, and the least `data` that each type can have."""

from typing import Any

from models.events import EVERYBODY, TOPIC_EVENTS, type_name

ACCOUNT = "acct_42"
_AT = "2026-11-01T00:00:00Z"
_LATER = "2026-12-01T00:00:00+01:00"
_MONEY = {"amount_minor": 4900, "currency": "EUR"}
_CREDIT = {"amount_minor": -4900, "currency": "EUR"}

_INVOICE = {
    "invoice_id": "in_1",
    "subscription_id": "sub_1",
    "billing_reason": "subscription_cycle",
    "total": _MONEY,
    "tax": {"amount_minor": 782, "currency": "EUR"},
    "lines": [
        {"product_id": "prod_1", "amount_minor": 4900, "recurring": True, "period": {"start": _AT, "end": _LATER}, "proration": False},
        {"amount_minor": -100},
    ],
    "due_at": _LATER,
    "attempt": 2,
    "next_attempt_at": _LATER,
}
_CHARGE = {"charge_id": "ch_1", "amount": _MONEY, "failure_code": "card_declined", "order_id": "order_1"}
_DISPUTE = {"dispute_id": "dp_1", "amount": _MONEY, "outcome": "won"}
_ACCOUNT = {
    "name": "Zoë & Söhne",
    "segment": "enterprise",
    "industry": "retail",
    "employees": 420,
    "region": "eu",
    "plan": "pro",
    "seats": 50,
    "parent_id": "acct_1",
    "owner": "u7",
    "created_at": _AT,
    "lifecycle_stage": "adopted",
    "currency": "EUR",
    "custom": {"tier": 1},
}
_USER = {"user_id": "u1", "role": "champion"}
_TRIAL = {"trial_id": "tr_1", "plan": "pro", "card_on_file": True, "starts_at": _AT, "ends_at": _LATER}
_CONTRACT = {"contract_id": "c_1", "term_start": _AT, "term_end": _LATER, "outcome": "renewed", "mrr": _MONEY}
_REFERRAL = {"referral_id": "r_1", "referred_account": "acct_43"}
_TICKET = {"ticket_id": "t_1"}
_SURVEY = {"survey_id": "s_1", "kind": "ces", "user_id": "u1"}


def _each(kinds: str, data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give several types the same data."""
    return {kind: dict(data) for kind in kinds.split()}


_RATE = {"day": "2026-11-01", "currency": "EUR", "into": "USD", "rate": "1.0850"}

FULL: dict[str, dict[str, Any]] = {
    "usage.event": {
        "event": "report_exported",
        "user_id": "u1",
        "anonymous_id": "a1",
        "feature": "reports",
        "count": 3,
        "value": 12.5,
        "unit": "pages",
        "session_id": "s1",
        "duration_ms": 1200,
        "properties": {"format": "pdf", "pages": [1, 2], "nested": {"any": None}},
    },
    "usage.session": {
        "session_id": "s1",
        "user_id": "u1",
        "started_at": _AT,
        "ended_at": _LATER,
        "pages": 4,
        "is_bounce": False,
    },
    "usage.page": {
        "path": "/pricing",
        "referrer": "https://example.com/",
        "visitor_id": "v1",
        "campaign": {"source": "mail", "medium": "email", "name": "spring"},
    },
    "usage.gauge": {"metric": "seats_used", "value": 41, "seats": 50},
    "usage.error": {"kind": "query_failed", "count": 2},
    "ticket.created": {
        **_TICKET,
        "user_id": "u1",
        "subject": "Export fails",
        "channel": "email",
        "priority": "urgent",
        "kind": "incident",
        "tags": ["export", "pdf"],
        "department": "tier 2",
    },
    "ticket.replied": {**_TICKET, "author_role": "agent", "public": True, "department": "tier 2", "text": "We look into it."},
    "ticket.status_changed": {**_TICKET, "from": "open", "to": "solved", "reason": "fixed"},
    "ticket.priority_changed": {**_TICKET, "from": "normal", "to": "high"},
    "ticket.assigned": {**_TICKET, "agent_id": "a1", "department": "billing"},
    "ticket.reopened": _TICKET,
    "ticket.merged": {**_TICKET, "into": "t_2"},
    "ticket.deleted": _TICKET,
    "ticket.account_changed": {**_TICKET, "from": "acct_41", "to": ACCOUNT},
    "ticket.abandoned": {"wait_ms": 90_000, **_TICKET},
    "subscription.upserted": {
        "subscription_id": "sub_1",
        "status": "active",
        "items": [
            {
                "item_id": "si_1",
                "product_id": "prod_1",
                "price_id": "price_1",
                "unit_amount_minor": "0.125",
                "quantity": 50,
                "interval": "month",
                "interval_count": 1,
                "usage_type": "licensed",
            },
            {"unit_amount_minor": 4900, "interval": "year"},
        ],
        "currency": "EUR",
        "version": 3,
        "discounts": [{"percent": 12.5, "duration": "forever"}, {"amount_minor": 500, "duration": "once"}],
        "started_at": _AT,
        "current_period_start": _AT,
        "current_period_end": _LATER,
        "trial_start": _AT,
        "trial_end": _LATER,
        "cancel_at": _LATER,
        "cancel_at_period_end": True,
        "canceled_at": _AT,
        "ended_at": _LATER,
        "pause": {"behavior": "void", "resumes_at": _LATER},
        "cancellation": {"reason": "cancellation_requested", "feedback": "too_expensive", "comment": "Sorry."},
        "auto_renew": False,
    },
    **_each("invoice.issued invoice.paid invoice.payment_failed invoice.voided invoice.overdue", _INVOICE),
    **_each("charge.succeeded charge.failed", _CHARGE),
    "refund.created": {"refund_id": "re_1", "charge_id": "ch_1", "amount": _MONEY, "reason": "duplicate", "cancels_subscription": True},
    **_each("dispute.opened dispute.closed", _DISPUTE),
    "credit_note.created": {"credit_note_id": "cn_1", "amount": _CREDIT, "invoice_id": "in_1"},
    **_each("account.created account.updated account.deleted", _ACCOUNT),
    "account.owner_changed": {"from": "u7", "to": "u8"},
    "account.stage_changed": {"from": "trial", "to": "onboarding"},
    "account.aliased": {"alias": {"system": "stripe", "id": "cus_1"}},
    **_each("user.added user.removed user.role_changed", _USER),
    "signup.completed": {
        "user_id": "u1",
        "visitor_id": "v1",
        "channel": "web",
        "campaign": {"source": "mail", "medium": "email", "name": "spring"},
        "referred_by": "acct_41",
    },
    "onboarding.step_completed": {"step": "invite_team", "checklist": "default"},
    **_each("trial.started trial.converted trial.ended", _TRIAL),
    **_each("contract.signed renewal.due renewal.outcome", _CONTRACT),
    **_each("referral.made referral.converted", _REFERRAL),
    "entitlement.changed": {"features": ["sso"], "seats": 50},
    "touchpoint.logged": {"kind": "qbr", "direction": "outbound", "outcome": "held", "sentiment": "positive"},
    "csm.pulse_set": {"value": 4, "comment": "Calm."},
    "champion.left": {"user_id": "u1"},
    **_each("recommendation.made recommendation.actioned", {"recommendation_id": "rec_1"}),
    "survey.offered": _SURVEY,
    "survey.answered": {
        **_SURVEY,
        "score": 6,
        "scale_min": 1,
        "scale_max": 7,
        "direction": "lower_better",
        "ticket_id": "t_1",
        "comment": "It took three calls.",
        "language": "en",
    },
    "feedback.received": {"channel": "in_app", "text": "Love the new export.", "rating": 4.5, "language": "en-GB"},
    "cost.recorded": {
        "category": "retention.cs",
        "amount": _CREDIT,
        "period": {"start": _AT, "end": _LATER},
        "account_id": ACCOUNT,
        "channel": "events",
        "allocation": "equal",
    },
    "exchange_rate.set": _RATE,
}

LEAST: dict[str, dict[str, Any]] = {
    "usage.event": {"event": "report_exported"},
    "usage.session": {"session_id": "s1"},
    "usage.page": {"path": "/pricing"},
    "usage.gauge": {"metric": "seats_used", "value": 41},
    "usage.error": {"kind": "query_failed"},
    **_each("ticket.created ticket.assigned ticket.reopened ticket.deleted", _TICKET),
    "ticket.replied": {**_TICKET, "author_role": "customer", "public": False},
    "ticket.status_changed": {**_TICKET, "to": "open"},
    "ticket.priority_changed": {**_TICKET, "to": "low"},
    "ticket.merged": {**_TICKET, "into": "t_2"},
    "ticket.account_changed": {**_TICKET, "to": ACCOUNT},
    "ticket.abandoned": {"wait_ms": 0},
    "subscription.upserted": {"subscription_id": "sub_1", "status": "trialing", "items": [], "currency": "EUR", "version": 0},
    "invoice.issued": {"invoice_id": "in_1", "total": _MONEY},
    **_each("invoice.paid invoice.payment_failed invoice.voided invoice.overdue", {"invoice_id": "in_1"}),
    **_each("charge.succeeded charge.failed", {"charge_id": "ch_1", "amount": _MONEY}),
    "refund.created": {"refund_id": "re_1", "amount": _CREDIT},
    **_each("dispute.opened dispute.closed", {"dispute_id": "dp_1", "amount": _MONEY}),
    "credit_note.created": {"credit_note_id": "cn_1", "amount": _CREDIT},
    **_each("account.created account.updated account.deleted entitlement.changed", {}),
    **_each("account.owner_changed account.stage_changed", {"to": "x"}),
    "account.aliased": {"alias": {"system": "stripe", "id": "cus_1"}},
    **_each("user.added user.removed signup.completed champion.left", {"user_id": "u1"}),
    "user.role_changed": _USER,
    "onboarding.step_completed": {"step": "invite_team"},
    **_each("trial.started trial.converted trial.ended", {"trial_id": "tr_1"}),
    **_each("contract.signed renewal.due renewal.outcome", {"contract_id": "c_1"}),
    **_each("referral.made referral.converted", {"referral_id": "r_1"}),
    "touchpoint.logged": {"kind": "email"},
    "csm.pulse_set": {"value": "red"},
    **_each("recommendation.made recommendation.actioned", {}),
    "survey.offered": _SURVEY,
    "survey.answered": {**_SURVEY, "score": 2.5, "scale_min": 1, "scale_max": 7},
    "feedback.received": {"channel": "in_app", "text": ""},
    "cost.recorded": {"category": "cogs", "amount": _MONEY, "period": {"start": _AT, "end": _LATER}},
    "exchange_rate.set": _RATE,
}

TOPIC_OF: dict[str, str] = {type_name(event_class): topic for topic, classes in TOPIC_EVENTS.items() for event_class in classes}


def envelope(kind: str, data: dict[str, Any], event_id: str = "evt_1") -> dict[str, Any]:
    """Write an event with the required members around its data, as plain JSON would have them."""
    subject = EVERYBODY if TOPIC_OF[kind] == "account-commands" else ACCOUNT
    return {"id": event_id, "source": "/app", "type": kind, "time": "2026-11-21T19:15:03.120Z", "subject": subject, "data": data}


EXAMPLES: list[dict[str, Any]] = [envelope(kind, data) for examples in (FULL, LEAST) for kind, data in examples.items()]
