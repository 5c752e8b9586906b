"""The naive second implementation of docs/state.md section 5b: the life of an account, from all events that are applied, each time anew.

It takes the events of `deploy.verify.reference` by what they have (`time`, `id`, `source`, `rank`, `type`, `data`), and imports nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

Event: TypeAlias = Any
Members: TypeAlias = dict[str, Any]

LET_GO = 105 * 86_400_000_000
LET_GO_LATE = 800 * 86_400_000_000
OBJECTS_KEPT = 1_000
FOR_EVER = 2**63 - 1
LEAVING = ("user.removed", "champion.left")
TWO_WAY = ("meeting", "qbr", "call")
IN_VAIN = ("no_show", "no_answer", "voicemail", "cancelled", "canceled")
PULSE = {"red": 0, "yellow": 50, "green": 100}


def _written(events: Iterable[Event], written: Callable[[Event], Any]) -> Any:
    """Find what the latest of the events that write anything wrote; None when none did."""
    found = [event for event in events if written(event) is not None]
    return written(max(found, key=lambda event: event.rank)) if found else None


def _member(name: str) -> Callable[[Event], Any]:
    return lambda event: event.data.get(name)


def _newest(events: Sequence[Event]) -> int:
    return max(int(event.time) for event in events)


def _first_of(events: Iterable[Event], kind: str) -> int | None:
    return min((event.time for event in events if event.type == kind), default=None)


class Kind(NamedTuple):
    """A kind of objects: which object an event is about, until when an object counts, and what is kept of it."""

    key_of: Callable[[Event], str | None]
    until: Callable[[list[Event]], int]
    view: Callable[[list[Event]], Members]
    let_go: int = LET_GO


class Object(NamedTuple):
    """An object from its first event until it was let go of, by the numbers of events; what is known of it then, or now."""

    key: str
    events: list[Event]
    first: int
    last: float
    view: Members


def objects(applied: Sequence[Event], kind: Kind) -> list[Object]:
    """Replay all events, letting objects go after each: those that went, then those that are left."""
    kept: dict[str, list[Event]] = {}
    until: dict[str, int] = {}
    first: dict[str, int] = {}
    gone: list[Object] = []
    newest = None

    def let_go(each: str, place: float) -> None:
        events = kept.pop(each)
        del until[each]
        gone.append(Object(each, events, first.pop(each), place, kind.view(events)))

    for place, event in enumerate(applied):
        newest = event.time if newest is None else max(newest, event.time)
        key = kind.key_of(event)
        if key is not None:
            kept.setdefault(key, []).append(event)
            first.setdefault(key, place)
            until[key] = kind.until(kept[key])
        for each in [each for each, end in until.items() if newest - end > kind.let_go]:
            let_go(each, place)
        while len(kept) > OBJECTS_KEPT:
            let_go(min(kept, key=lambda each: (until[each], each)), place)
    for each in list(kept):
        let_go(each, math.inf)
    return gone


def _kept(applied: Sequence[Event], kind: Kind) -> dict[str, Members]:
    return {one.key: one.view for one in objects(applied, kind) if one.last == math.inf}


def _key(kinds: str, member: str) -> Callable[[Event], str | None]:
    return lambda event: event.data[member] if event.type in kinds.split() else None


def _rank_of(kind: str) -> Callable[[Event], str | None]:
    return lambda event: f"{event.id}\0{event.source}" if event.type == kind else None


def _is_there(events: list[Event]) -> bool:
    def said(event: Event) -> bool | None:
        return True if event.type == "user.added" else False if event.type in LEAVING else None

    return _written(events, said) is not False


def _user_until(events: list[Event]) -> int:
    if _is_there(events):
        return FOR_EVER
    return _newest([event for event in events if event.type in ("user.added", *LEAVING) or "role" in event.data])


def _trial(events: list[Event]) -> Members:
    return {
        "started_at": _first_of(events, "trial.started"),
        "converted_at": _first_of(events, "trial.converted"),
        "ended_at": _first_of(events, "trial.ended"),
        "starts_at": _written(events, _member("starts_at")),
        "ends_at": _written(events, _member("ends_at")),
        "card_on_file": _written(events, _member("card_on_file")),
    }


def _signup(event: Event) -> Members:
    return {"time": event.time, **{name: event.data.get(name) for name in ("channel", "referred_by", "visitor_id")}}


def _first(events: Iterable[Event]) -> Event:
    return min(events, key=lambda event: event.rank)


def _term(events: list[Event]) -> Members:
    mrr = _written(events, _member("mrr"))
    return {
        "contract_id": events[0].data["contract_id"],
        "term_end": events[0].data["term_end"],
        "term_start": _written(events, _member("term_start")),
        "mrr": mrr and [mrr["amount_minor"], mrr["currency"]],
    }


def _term_key(event: Event) -> str | None:
    if event.type in ("contract.signed", "renewal.due") and "term_end" in event.data:
        return f"{event.data['contract_id']}\0{event.data['term_end']}"
    return None


def _outcome(events: list[Event]) -> Members:
    last = events[-1]
    mrr = last.data.get("mrr")
    members = {name: last.data.get(name) for name in ("contract_id", "outcome", "term_start", "term_end")}
    return {"time": last.time, **members, "mrr": mrr and [mrr["amount_minor"], mrr["currency"]]}


def _outcome_until(events: list[Event]) -> int:
    last = events[-1]
    return int(max(last.time, last.data.get("term_start") or last.time, last.data.get("term_end") or last.time))


def _is_two_way(event: Event) -> bool:
    speaks = event.data["kind"] in TWO_WAY or event.data.get("direction", "").lower() == "inbound"
    return speaks and event.data.get("outcome", "").lower() not in IN_VAIN


def _recommendation_key(event: Event) -> str | None:
    if event.type not in ("recommendation.made", "recommendation.actioned"):
        return None
    return str(event.data.get("recommendation_id", f"\0{event.id}\0{event.source}"))


_USERS = "user.added user.removed user.role_changed champion.left"

KINDS = {
    "users": Kind(
        _key(_USERS, "user_id"), _user_until, lambda events: {"is_there": _is_there(events), "role": _written(events, _member("role"))}
    ),
    "trials": Kind(
        _key("trial.started trial.converted trial.ended", "trial_id"),
        lambda events: max(_newest(events), _trial(events)["ends_at"] or 0),
        _trial,
        LET_GO_LATE,
    ),
    "signups": Kind(_key("signup.completed", "user_id"), lambda events: int(_first(events).time), lambda events: _signup(_first(events))),
    "steps": Kind(
        lambda event: f"{event.data.get('checklist', '')}\0{event.data['step']}" if event.type == "onboarding.step_completed" else None,
        lambda _: FOR_EVER,
        lambda events: {"time": min(event.time for event in events)},
    ),
    "terms": Kind(_term_key, lambda events: max(_newest(events), events[0].data["term_end"]), _term, LET_GO_LATE),
    "renewal_outcomes": Kind(_rank_of("renewal.outcome"), _outcome_until, _outcome, LET_GO_LATE),
    "referrals": Kind(
        _key("referral.made referral.converted", "referral_id"),
        _newest,
        lambda events: {
            "made_at": _first_of(events, "referral.made"),
            "converted_at": _first_of(events, "referral.converted"),
            "referred_account": _written(events, _member("referred_account")),
        },
    ),
    "touchpoints": Kind(
        _rank_of("touchpoint.logged"),
        lambda events: int(events[-1].time),
        lambda events: {"time": events[-1].time, "kind": events[-1].data["kind"], "is_two_way": _is_two_way(events[-1])},
    ),
    "recommendations": Kind(
        _recommendation_key,
        _newest,
        lambda events: {
            "made_at": _first_of(events, "recommendation.made"),
            "actioned_at": _first_of(events, "recommendation.actioned"),
        },
    ),
}


def lifecycle(applied: Sequence[Event]) -> Members:
    """Return what is kept of the life of an account: objects by their keys, a NUL in one written as `|`."""

    def pulse(event: Event) -> int | None:
        if event.type != "csm.pulse_set":
            return None
        value = event.data["value"]
        return PULSE[value] if value in PULSE else 25 * (int(value) - 1)

    def features(event: Event) -> list[str] | None:
        told = event.data.get("features") if event.type == "entitlement.changed" else None
        return None if told is None else sorted(set(told))

    contacts = [event.time for event in applied if event.type == "touchpoint.logged" and _is_two_way(event)]
    signups = [event for event in applied if event.type == "signup.completed"]
    return {
        **{name: {key.replace("\0", "|"): view for key, view in _kept(applied, kind).items()} for name, kind in KINDS.items()},
        "pulse": _written(applied, pulse),
        "features": _written(applied, features),
        "contact_at": max(contacts, default=None),
        "champion_left_at": max((event.time for event in applied if event.type == "champion.left"), default=None),
        "acquired": _signup(_first(signups)) if signups else None,
    }
