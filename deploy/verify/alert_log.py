"""What must hold of the log of alerts: `churn-alerts` as a read_committed reader sees it, in the order of each account."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from alerts.events import AlertEvent, alert_id, decode_event, event_id, fold_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alerts.events import AlertStateRecord

_OPENING: Final = frozenset({"opened", "reopened"})


Log = Iterable[tuple[bytes | None, bytes | None]]
"""Records of `churn-alerts`, key and value, in the order of the log."""


def alert_problems(log: Log, *, is_whole: bool = True) -> list[str]:
    """List what is wrong with a log of alerts: ids, sequences, episodes, and the order of what was said.

    Not `is_whole`: its beginning is gone, so that the first event of each account is taken as it is.
    """
    events, problems = read_alerts(log)
    return [*problems, *(problem for each in by_account(events).values() for problem in problems_of(each, is_whole=is_whole))]


def read_alerts(log: Log) -> tuple[list[AlertEvent], list[str]]:
    """Decode a log of alerts; what can be read of it, and what is wrong with single records."""
    problems = []
    events: list[AlertEvent] = []
    seen: set[str] = set()
    for key, value in log:
        try:
            event = decode_event(value or b"")
        except msgspec.DecodeError as error:
            problems.append(f"an alert of the key {key!r} cannot be read: {error}")
            continue
        if not event.sequence.isdecimal():
            problems.append(f"{event.subject}: {event.sequence!r} is no sequence")
            continue
        events.append(event)
        if key != event.subject.encode():
            problems.append(f"{event.subject}: the key is {key!r}")
        if event.id in seen:
            problems.append(f"{event.subject}: {event.type} {event.sequence} is there twice")
        seen.add(event.id)
    return events, problems


def by_account(events: Iterable[AlertEvent]) -> dict[str, list[AlertEvent]]:
    """Return the events of each account, in their order."""
    found: dict[str, list[AlertEvent]] = defaultdict(list)
    for event in events:
        found[event.subject].append(event)
    return dict(found)


def problems_of(events: Sequence[AlertEvent], *, is_whole: bool = True) -> list[str]:
    """List what is wrong with the alerts of one account, in their order."""
    problems = []
    first = events[0]
    begin, is_open, episode = 1, False, 0
    if not is_whole:
        kind = first.type.removeprefix("alert.")
        begin, is_open, episode = int(first.sequence), kind not in _OPENING, first.data.episode - (kind == "opened")
    for number, event in enumerate(events, begin):
        kind, at = event.type.removeprefix("alert."), f"{event.subject}: event {number}, {event.type}"
        if int(event.sequence) != number:
            problems.append(f"{at}: its sequence is {event.sequence}")
        if (kind in _OPENING) is is_open:
            problems.append(f"{at}: the alert was {'open' if is_open else 'not open'} already")
        expected = episode + (kind == "opened")
        if event.data.episode != expected:
            problems.append(f"{at}: its episode is {event.data.episode}, expected {expected}")
        if event.data.alert_id != alert_id(event.subject, event.data.episode) or event.id != event_id(event.data.alert_id, number, kind):
            problems.append(f"{at}: its ids are not those of its account, episode, sequence and kind")
        is_open, episode = kind != "resolved", event.data.episode
    return problems


def latest_states(log: Log) -> Mapping[str, AlertStateRecord]:
    """Fold a log to the state of each account's alert: what `alert-state` must hold."""
    states: dict[str, AlertStateRecord] = {}
    for _, value in log:
        event = decode_event(value or b"")
        states[event.subject] = fold_state(states.get(event.subject), event)
    return states
