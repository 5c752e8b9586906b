"""One form for what the stream keeps of an account and for what the oracle says of it, so that the two can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from deploy.verify import reference as oracle
from models.scorecard import COMPONENTS, Scorecard
from models.view import state_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.columns import Columns
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


def kept_by_oracle(account: oracle.Oracle) -> Members:
    """Return the state of an account as the oracle recomputes it, in the common form."""
    state = account.state()
    for subscription in state["subscriptions"].values():
        subscription["data"] = _with_defaults(subscription["data"])
    # A contract whose end nobody ever told says nothing that could be kept.
    state["contracts"] = {name: each for name, each in state["contracts"].items() if each["term_end"] is not None}
    return state


def _with_defaults(data: Members) -> Members:
    """Spell out what a subscription means by leaving a member out."""
    items = [{**_ITEM_DEFAULTS, **item} for item in data.get("items", [])]
    return {**_SUBSCRIPTION_DEFAULTS, **data, "items": items}


def assessed_by_stream(columns: Columns, slot: int) -> Members:
    """Return the last published assessment of an account in ten-thousandths; contributions of missing components are 0."""
    # The names of bands are looked up here and not in `models.health`: a wrong table there must not hide.
    names = ("insufficient_data", "critical", "at_risk", "watch", "healthy")
    component, contribution = columns.component[slot].tolist(), columns.contribution[slot].tolist()
    score = int(columns.score[slot])
    return {
        "score": None if score < 0 else score,
        "coverage": int(columns.coverage[slot]),
        "band": names[int(columns.band[slot])],
        "components": {
            name: {
                "score": None if component[i] < 0 else component[i],
                "contribution": max(contribution[i], 0),
                "missing": component[i] < 0,
            }
            for i, name in enumerate(COMPONENTS)
        },
    }


def differences(partition: Partition, accounts: Mapping[str, oracle.Oracle]) -> list[str]:
    """List where a partition's accounts differ from the oracle's: state exactly, assessments when recomputed at their instant."""
    columns = partition.columns
    card = scorecard_record(Scorecard())
    found = []
    strangers = {key.decode() for key in columns.keys} ^ accounts.keys()
    if strangers:
        found.append(f"accounts on one side only: {sorted(strangers)[:5]}")
    for name, account in accounts.items():
        slot = columns.slots.get(name.encode())
        if slot is None:
            continue
        found += _told(name, kept_by_stream(columns, slot), kept_by_oracle(account))
        as_of = int(columns.as_of[slot])
        found += _told(f"{name} at {as_of}", assessed_by_stream(columns, slot), account.score(as_of, card))
    return found


def _told(name: str, stream: Members, expected: Members) -> list[str]:
    return [
        f"{name}: {member}: the stream has {stream.get(member)!r}, the oracle {expected.get(member)!r}"
        for member in sorted(stream.keys() | expected.keys())
        if stream.get(member) != expected.get(member)
    ]
