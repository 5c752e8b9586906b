"""One form for what the stream keeps of an account and for what the oracle says of it, so that the two can be compared."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from deploy.verify import reference as oracle
from deploy.verify.reference_lifecycle import KINDS
from models.health import Scale, assess
from models.scorecard import COMPONENTS, Scorecard
from models.view import state_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.verify.reference_commands import About, Told
    from models.columns import Columns
    from models.commands import Commands
    from stream_app.pipeline import Partition

Members = dict[str, Any]

_SUBSCRIPTION_DEFAULTS: Final[Members] = {"cancel_at_period_end": False, "discounts": []}
_ITEM_DEFAULTS: Final[Members] = {"quantity": 1, "interval_count": 1, "usage_type": "licensed"}


def scorecard_record(card: Scorecard) -> Members:
    """Write a scorecard as the oracle reads one: every number as decimal text."""
    return {
        "components": [
            {
                "name": name,
                "weight": str(card.component(name).weight),
                "measures": [
                    {"name": each.measure, "worst": str(each.worst), "best": str(each.best), "weight": str(each.weight)}
                    for each in card.component(name).measures
                ],
            }
            for name in COMPONENTS
        ],
        "feeds": list(card.feeds),
    }


def kept_by_stream(columns: Columns, slot: int) -> Members:
    """Return the state of an account as the stream keeps it, in the common form."""
    state = state_view(columns, slot)
    known = oracle.KNOWN["subscription.upserted"]
    for subscription in state["subscriptions"].values():
        subscription["data"] = _with_defaults(oracle._canonical(subscription["data"], known))
    if "created_at" in state["facts"]:
        state["facts"]["created_at"] = oracle.instant(state["facts"]["created_at"])
    return state


def kept_by_oracle(account: oracle.Oracle, users_level: int = 0) -> Members:
    """Return the state of an account as the oracle recomputes it, in the common form.

    `users_level` is what the stream says of its sample of the users: the oracle knows all, and is asked for those in the sample.
    """
    account.assume_sample(users_level)
    state = account.state()
    for subscription in state["subscriptions"].values():
        subscription["data"] = _with_defaults(subscription["data"])
    # A contract whose end nobody ever told says nothing that could be kept.
    state["contracts"] = {name: each for name, each in state["contracts"].items() if each["term_end"] is not None}
    return state


def rates_by_stream(commands: Commands) -> dict[About, Told]:
    """Return the rates that a partition keeps, as `deploy.verify.reference_commands` writes them."""
    found = {}
    for currency, into, day, last in commands.all_rates():
        event_id, source = last.id.split("\0", 1)
        found[currency, into, day.isoformat()] = ((last.at, event_id, source), format(Decimal(last.value).normalize(), "f"))
    return found


def _with_defaults(data: Members) -> Members:
    """Spell out what a subscription means by leaving a member out."""
    items = [{**_ITEM_DEFAULTS, **item} for item in data.get("items", [])]
    return {**_SUBSCRIPTION_DEFAULTS, **data, "items": items}


def assessed_by_stream(columns: Columns, slot: int) -> Members:
    """Return the last published assessment of an account in ten-thousandths; contributions of missing components are 0."""
    return assessed_in(columns.rows(np.array([slot], np.int64))[0])


def assessed_in(row: np.void) -> Members:
    """Return the assessment that a row of `models.row` holds, in the common form."""
    # The names of bands are looked up here and not in `models.health`: a wrong table there must not hide.
    names = ("insufficient_data", "critical", "at_risk", "watch", "healthy")
    return _assessed(
        int(row["score"]), int(row["coverage"]), names[int(row["band"])], row["component"].tolist(), row["contribution"].tolist()
    )


def reassessed_by_stream(columns: Columns, slot: int, scale: Scale) -> Members:
    """Assess an account anew, at the instant of its last assessment, from what is stored of it: with `models`, not by the oracle."""
    slots = np.array([slot], np.int64)
    found = assess(columns, slots, columns.as_of[slots], scale)
    names = ("insufficient_data", "critical", "at_risk", "watch", "healthy")
    band = names[int(found.band[0])]
    return _assessed(int(found.score[0]), int(found.coverage[0]), band, found.component[0].tolist(), found.contribution[0].tolist())


def _assessed(score: int, coverage: int, band: str, component: list[int], contribution: list[int]) -> Members:
    return {
        "score": None if score < 0 else score,
        "coverage": coverage,
        "band": band,
        "components": {
            name: {
                "score": None if component[i] < 0 else component[i],
                "contribution": max(contribution[i], 0),
                "missing": component[i] < 0,
            }
            for i, name in enumerate(COMPONENTS)
        },
    }


def published(data: Mapping[str, Any]) -> Members:
    """Return the assessment that the data of a `health.scored` tell, in the common form."""

    def fixed(points: float | None) -> int | None:
        return None if points is None else round(points * oracle.SCALE)

    return {
        "score": fixed(data["score"]),
        "coverage": fixed(data["coverage"]),
        "band": data["band"],
        "components": {
            each["name"]: {"score": fixed(each["score"]), "contribution": fixed(each["contribution"]) or 0, "missing": each["missing"]}
            for each in data["components"]
        },
    }


TOPIC_OF: Final[dict[str, str]] = {
    **dict.fromkeys(("usage", "user_days", "users_level", "gauge_seats"), "usage-events"),
    "tickets": "ticket-events",
    "abandoned": "ticket-events",
    "calls": "ticket-events",
    "ticket_months": "ticket-events",
    "facts": "account-events",
    "contracts": "account-events",
    **dict.fromkeys((*KINDS, "pulse", "features", "contact_at", "champion_left_at", "acquired"), "account-events"),
    "answers": "survey-events",
    "invitations": "survey-events",
    "opinions": "survey-events",
    "survey_months": "survey-events",
}
"""The input topic that a member of the state comes from; the others come from `payment-events`."""


def of_topic(state: Members, topic: str) -> Members:
    """Return the part of a state that one input topic brought about."""
    part = {
        name: value for name, value in state.items() if name not in {"newest", "applied"} and TOPIC_OF.get(name, "payment-events") == topic
    }
    return {"newest": state["newest"].get(topic), "applied": state["applied"].get(topic, 0), **part}


def differences(partition: Partition, accounts: Mapping[str, oracle.Oracle], card: Scorecard | None = None) -> list[str]:
    """List where a partition's accounts differ from the oracle's: state exactly, assessments when recomputed at their instant."""
    columns = partition.columns
    record = scorecard_record(card or Scorecard())
    found = []
    strangers = {key.decode() for key in columns.keys} ^ accounts.keys()
    if strangers:
        found.append(f"accounts on one side only: {sorted(strangers)[:5]}")
    for name, account in accounts.items():
        slot = columns.slots.get(name.encode())
        if slot is None:
            continue
        as_of = int(columns.as_of[slot])
        kept = kept_by_stream(columns, slot)
        found += [f"{name}: {text}" for text in told(kept, kept_by_oracle(account, kept["users_level"]))]
        found += [f"{name} at {as_of}: {text}" for text in told(assessed_by_stream(columns, slot), account.score(as_of, record))]
    return found


def told(stream: Members, expected: Members, path: str = "") -> list[str]:
    """Say where two objects in the common form differ: each member by its path, `usage.days.20513`."""
    found = []
    for member in sorted(stream.keys() | expected.keys()):
        mine, theirs, here = stream.get(member), expected.get(member), f"{path}{member}"
        if isinstance(mine, dict) and isinstance(theirs, dict):
            found += told(mine, theirs, f"{here}.")
        elif mine != theirs:
            found.append(f"{here}: the stream has {mine!r}, the oracle {theirs!r}")
    return found
