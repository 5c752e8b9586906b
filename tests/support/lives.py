"""Random lives of a few accounts, dense enough that trials convert or not, visitors come again, and renewals are decided late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from models.times import DAY_US, HOUR_US, format_us
from tests.support.generate import START

if TYPE_CHECKING:
    from random import Random

Record = dict[str, Any]

KINDS: Final = (
    "signup",
    "trial",
    "trial",
    "subscription",
    "subscription",
    "touch",
    "referral",
    "advice",
    "term",
    "outcome",
    "facts",
    "step",
)
STEPS: Final = ("invite", "import", "report")


def random_lives(rng: Random, count: int, days: int = 700) -> list[Record]:
    """Write what happens to two accounts, in order of arrival, a few events some days late."""
    found: list[tuple[int, Record]] = []
    at = START
    for number in range(count):
        at += rng.choice((0, HOUR_US, DAY_US, 5 * DAY_US, 20 * DAY_US)) * days // 700
        if rng.random() < 0.1:
            at += DAY_US - at % DAY_US
        kind, data = _event(rng, at)
        record = {
            "id": f"e{number}",
            "source": rng.choice(("/a", "/b")),
            "type": kind,
            "subject": rng.choice(("acme", "beta")),
            "time": format_us(at),
            "data": {name: value for name, value in data.items() if value is not None},
        }
        found.append((at + rng.choice((0, 0, 0, DAY_US, 5 * DAY_US)), record))
    return [record for _, record in sorted(found, key=lambda each: each[0])]


def _event(rng: Random, at: int) -> tuple[str, Record]:  # noqa: C901, PLR0911 - one kind after the other
    def near(*spans: int, share: float = 1.0) -> str | None:
        return format_us(at + rng.choice(spans) * DAY_US) if rng.random() < share else None

    def one(*values: Any) -> Any:
        return rng.choice(values)

    money = {"amount_minor": one(1, 990), "currency": one("USD", "USD", "EUR")}
    match rng.choice(KINDS):
        case "signup":
            who = {"user_id": one("u", "v", "w", "x"), "visitor_id": one(None, "1", "1", "2"), "channel": one("web", "ads")}
            return "signup.completed", who | {"referred_by": one(None, "acme", "beta", "u", "other")}
        case "trial":
            kind = one("trial.started", "trial.started", "trial.converted", "trial.ended")
            card = {"trial_id": one(*"abcdef"), "plan": "pro", "card_on_file": rng.choice([None, True, False])}
            return kind, card | {"starts_at": near(-3, 0, 2, share=0.3), "ends_at": near(0, 7, 14, 30, share=0.7)}
        case "subscription":
            item = {"unit_amount_minor": 1000, "interval": one("month", "year")}
            data = {"subscription_id": one("s", "t"), "status": one("active", "active", "canceled", "trialing"), "items": [item]}
            return "subscription.upserted", data | {"currency": "USD", "version": at // HOUR_US, "ended_at": near(9, 40, share=0.3)}
        case "touch":
            return "touchpoint.logged", {"kind": one("meeting", "email", "qbr", "call"), "direction": "outbound"}
        case "referral":
            kind = one("referral.made", "referral.converted")
            return kind, {"referral_id": one(*"abcd"), "referred_account": one(None, "acme", "gamma")}
        case "advice":
            return one("recommendation.made", "recommendation.actioned"), {"recommendation_id": one(None, *"abcd")}
        case "term":
            data = {"contract_id": one("c", "d"), "term_start": near(-30, 0, 30, share=0.6), "term_end": near(0, 10, 30, 90)}
            return one("contract.signed", "renewal.due"), data | {"mrr": one(None, money)}
        case "outcome":
            decided = one("renewed", "lapsed", "cancelled", "expanded", "contracted", None)
            data = {"contract_id": one("c", "d", "e"), "outcome": decided, "term_end": near(-60, 0, 30, share=0.3)}
            return "renewal.outcome", data | {"term_start": near(-30, 0, share=0.3)}
        case "step":
            return "onboarding.step_completed", {"step": one(*STEPS, "other"), "checklist": one(None, "admin")}
        case _:
            name = {
                "name": "A",
                "segment": one("smb", "mid"),
                "industry": "x",
                "region": "eu",
                "plan": "p",
                "owner": "o",
                "currency": "USD",
            }
            fields = name | {"employees": 3, "seats": 5, "lifecycle_stage": "s", "created_at": near(-9, -1, 0, share=0.2)}
            return one("account.created", "account.updated", "account.deleted"), fields
