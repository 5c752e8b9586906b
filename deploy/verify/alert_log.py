"""What must hold of the log of alerts: `churn-alerts` as a read_committed reader sees it, in the order of each account."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from alerts.events import AlertEvent, alert_id, decode_event, event_id, fold_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alerts.events import AlertStateRecord

_OPENING: Final = frozenset({"opened", "reopened"})


def alert_problems(log: Iterable[tuple[bytes | None, bytes | None]]) -> list[str]:
    """List what is wrong with a log of `(key, value)`: ids, sequences, episodes, and the order of what was said."""
    problems = []
    of_account: dict[str, list[AlertEvent]] = defaultdict(list)
    seen: set[str] = set()
    for key, value in log:
        event = decode_event(value or b"")
        of_account[event.subject].append(event)
        if key != event.subject.encode():
            problems.append(f"{event.subject}: the key is {key!r}")
        if event.id in seen:
            problems.append(f"{event.subject}: {event.type} {event.sequence} is there twice")
        seen.add(event.id)
    for account, events in of_account.items():
        problems += _problems_of(account, events)
    return problems


def _problems_of(account: str, events: list[AlertEvent]) -> list[str]:
    """List what is wrong with the alerts of one account, in their order."""
    problems = []
    is_open, episode = False, 0
    for number, event in enumerate(events, 1):
        kind, at = event.type.removeprefix("alert."), f"{account}: event {number}, {event.type}"
        if int(event.sequence) != number:
            problems.append(f"{at}: its sequence is {event.sequence}")
        if (kind in _OPENING) is is_open:
            problems.append(f"{at}: the alert was {'open' if is_open else 'not open'} already")
        expected = episode + (kind == "opened")
        if event.data.episode != expected:
            problems.append(f"{at}: its episode is {event.data.episode}, expected {expected}")
        if event.data.alert_id != alert_id(account, event.data.episode) or event.id != event_id(event.data.alert_id, number, kind):
            problems.append(f"{at}: its ids are not those of its account, episode, sequence and kind")
        is_open, episode = kind != "resolved", event.data.episode
    return problems


def latest_states(log: Iterable[tuple[bytes | None, bytes | None]]) -> Mapping[str, AlertStateRecord]:
    """Fold a log to the state of each account's alert: what `alert-state` must hold."""
    states: dict[str, AlertStateRecord] = {}
    for _, value in log:
        event = decode_event(value or b"")
        states[event.subject] = fold_state(states.get(event.subject), event)
    return states
