"""The state of one account as plain data: what docs/state.md sections 2 to 5 say is kept, and the assessment published last."""

from typing import Any

import msgspec
import numpy as np

from models.columns import Columns
from models.fixed import SCALE
from models.fold import read_part
from models.health import BAND_NAMES
from models.input_topics import INPUT_TOPICS
from models.lifecycle import Lifecycle, Signup
from models.measures import MEASURES, Instant, missing
from models.monthly import Months
from models.months import format_month
from models.parts import Number, Write
from models.payments import Amount, Invoice
from models.row import NEVER, NONE, RING_DAYS
from models.scorecard import COMPONENTS
from models.support import Change, Ticket
from models.surveys import Surveys
from models.times import DAY_US
from models.users import EARLIER, days_of, users_of

View = dict[str, Any]


def state_view(columns: Columns, slot: int) -> View:
    """What is kept of an account; times are microseconds, days are days since 1970 as text."""
    newest, applied = columns.newest[slot].tolist(), columns.applied[slot].tolist()
    support, payment, facts, surveys = (read_part(columns, name, slot) for name in ("support", "payment", "facts", "surveys"))
    return {
        "newest": {topic: newest[i] for i, topic in enumerate(INPUT_TOPICS) if newest[i] != NEVER},
        "applied": {topic: applied[i] for i, topic in enumerate(INPUT_TOPICS) if applied[i]},
        "usage": _usage(columns, slot),
        **_users(columns, slot),
        "tickets": {name: _ticket(ticket) for name, ticket in support.tickets.items()},
        "abandoned": support.abandoned,
        "calls": support.calls,
        "ticket_months": _months(support.months),
        "invoices": {name: _invoice(invoice) for name, invoice in payment.invoices.items()},
        "charges": {
            name: {"outcome": c.outcome.value, "time": c.outcome.at, "amount_minor": c.amount_minor, "currency": c.currency}
            for name, c in payment.charges.items()
        },
        "subscriptions": {
            name: {"version": s.version, "time": s.at, "id": s.id.split("\0")[0], "data": msgspec.json.decode(s.data)}
            for name, s in payment.subscriptions.items()
        },
        "refunds": _amounts(payment.refunds),
        "disputes": _amounts(payment.disputes),
        "credit_notes": _amounts(payment.credit_notes),
        "facts": {**_values(facts.texts), **_values(facts.numbers)},
        "contracts": {name: {"term_end": term.value} for name, term in facts.contracts.items()},
        **_surveys(surveys),
        **_lifecycle(facts.life),
    }


def assessment_view(columns: Columns, slot: int) -> View:
    """The assessment of an account that was published last, its measures of usage then, and its alert; no ten-thousandths."""
    as_of = int(columns.as_of[slot])
    return {
        "as_of": None if as_of == NEVER else as_of,
        "score": _points(columns.score[slot]),
        "coverage": int(columns.coverage[slot]) / 10_000,
        "band": BAND_NAMES[int(columns.band[slot])],
        "components": {
            name: {"score": _points(columns.component[slot, i]), "contribution": _points(columns.contribution[slot, i])}
            for i, name in enumerate(COMPONENTS)
        },
        "measures": {} if as_of == NEVER else _measures(columns, slot, as_of),
        "alert": {
            "condition": int(columns.alert_condition[slot]),
            "severity": int(columns.alert_severity[slot]),
            "episode": int(columns.alert_episode[slot]),
            "sequence": int(columns.alert_sequence[slot]),
        },
    }


def _measures(columns: Columns, slot: int, as_of: int) -> View:
    """What every account has of usage, whatever the scorecard looks at; null is missing."""
    at = Instant(columns, np.array([slot]), np.array([as_of]))
    names = [name for name in MEASURES if name.startswith("usage_")]
    return {name: None if missing(name, at)[0] else int(MEASURES[name](at)[0]) / SCALE for name in names}


def _points(fixed: Any) -> float | None:
    return None if fixed == NONE else int(fixed) / 10_000


def _usage(columns: Columns, slot: int) -> View:
    used_at = int(columns.used_at[slot])
    if used_at == NEVER:
        return {"used_at": None, "days": {}}
    today = used_at // DAY_US
    ring = columns.usage[slot].tolist()
    days = range(today - RING_DAYS + 1, today + 1)
    return {"used_at": used_at, "days": {str(day): ring[day % RING_DAYS] for day in days if ring[day % RING_DAYS]}}


def _users(columns: Columns, slot: int) -> View:
    users = users_of(columns, np.array([slot]))
    seats_at = int(columns.seats_at[slot])
    return {
        "user_days": {
            f"{who:012x}": {"days": days_of(newest, mask), "has_earlier": mask >= EARLIER}
            for who, newest, mask in zip(users.who.tolist(), users.newest.tolist(), users.masks.tolist(), strict=True)
        },
        "users_level": int(columns.users_level[slot]),
        "gauge_seats": None if seats_at == NEVER else {"time": seats_at, "seats": int(columns.seats[slot])},
    }


def _ticket(ticket: Ticket) -> View:
    return {
        "created_at": ticket.created_at,
        "kind": ticket.kind,
        "channel": ticket.channel,
        "status": None if ticket.status is None else ticket.status.value,
        "priority": "normal" if ticket.priority is None else ticket.priority.value,
        "first_reply_at": ticket.first_reply_at,
        "agent_replies": ticket.agent_replies,
        "reopens": ticket.reopens,
        "solved_at": ticket.solved_at,
        "changes": [[at, Change(change).name.lower()] for at, change in ticket.changes],
        "departments": dict(ticket.departments),
        "agents": [[at, name] for at, name in ticket.agents],
        "newest_at": ticket.newest_at,
    }


def _invoice(invoice: Invoice) -> View:
    return {
        "status": invoice.status.value,
        "status_at": invoice.status.at,
        "due_at": None if invoice.due is None else invoice.due.value,
        "total_minor": None if invoice.total is None else invoice.total.amount_minor,
        "currency": None if invoice.total is None else invoice.total.currency,
        "failed": {str(attempt): at for attempt, at in invoice.failed.items()},
        "paid_at": invoice.paid_at,
        "newest_at": invoice.newest_at,
    }


def _months(months: Months) -> View:
    return {format_month(month): dict(figures) for month, figures in months.closed.items()}


def _lifecycle(life: Lifecycle) -> View:
    return {
        "users": {name: {"is_there": user.is_there, "role": _value(user.role)} for name, user in life.users.items()},
        "trials": {
            name: {
                "started_at": trial.started_at,
                "converted_at": trial.converted_at,
                "ended_at": trial.ended_at,
                "starts_at": _value(trial.starts),
                "ends_at": _value(trial.ends),
                "card_on_file": None if trial.card is None else trial.card.value == 1,
            }
            for name, trial in life.trials.items()
        },
        "signups": {name: _signup(signup) for name, signup in life.signups.items()},
        "steps": {_shown(name): {"time": step.at} for name, step in life.steps.items()},
        "terms": {
            _shown(name): {
                "contract_id": term.contract_id,
                "term_end": term.end,
                "term_start": _value(term.start),
                "mrr": None if term.mrr is None else [term.mrr.amount_minor, term.mrr.currency],
            }
            for name, term in life.terms.items()
        },
        "renewal_outcomes": {
            _shown(name): {
                "time": one.at,
                "contract_id": one.contract_id,
                "outcome": one.outcome,
                "term_start": one.start,
                "term_end": one.end,
                "mrr": None if one.amount_minor is None else [one.amount_minor, one.currency],
            }
            for name, one in life.outcomes.items()
        },
        "referrals": {
            name: {"made_at": one.made_at, "converted_at": one.converted_at, "referred_account": _value(one.referred)}
            for name, one in life.referrals.items()
        },
        "touchpoints": {
            _shown(name): {"time": one.at, "kind": one.kind, "is_two_way": one.is_two_way} for name, one in life.touchpoints.items()
        },
        "recommendations": {
            _shown(name): {"made_at": one.made_at, "actioned_at": one.actioned_at} for name, one in life.recommendations.items()
        },
        "pulse": _value(life.pulse),
        "features": None if life.features is None else list(life.features.names),
        "contact_at": life.contact_at,
        "champion_left_at": life.champion_left_at,
        "acquired": None if life.acquired is None else _signup(life.acquired),
    }


def _signup(signup: Signup) -> View:
    return {"time": signup.at, "channel": signup.channel, "referred_by": signup.referred_by, "visitor_id": signup.visitor_id}


def _shown(name: str) -> str:
    """A key that is made of several parts."""
    return name.replace("\0", "|")


def _value(last: Write | Number | None) -> str | int | None:
    return None if last is None else last.value


def _surveys(surveys: Surveys) -> View:
    return {
        "survey_months": _months(surveys.months),
        "answers": [
            {
                "time": a.at,
                "kind": a.kind,
                "survey_id": a.survey_id,
                "user_id": a.user_id,
                "score": a.score,
                "scale": [a.scale_min, a.scale_max],
                "direction": "lower_better" if a.is_lower_better else "higher_better",
                "ticket_id": a.ticket_id,
            }
            for a in _in_order(surveys.answers)
        ],
        "invitations": [
            {"time": i.at, "kind": i.kind, "survey_id": i.survey_id, "user_id": i.user_id} for i in _in_order(surveys.invitations)
        ],
        "opinions": [{"time": o.at, "polarity": o.polarity, "themes": list(o.themes)} for o in _in_order(surveys.opinions)],
    }


def _in_order(objects: dict[str, Any]) -> list[Any]:
    return [objects[name] for name in sorted(objects, key=lambda name: (objects[name].at, name))]


def _amounts(amounts: dict[str, Amount]) -> View:
    return {name: {"time": a.at, "amount_minor": a.amount_minor, "currency": a.currency} for name, a in amounts.items()}


def _values(facts: dict[str, Write] | dict[str, Number]) -> View:
    return {name: bool(write.value) if name == "is_deleted" else write.value for name, write in facts.items()}
