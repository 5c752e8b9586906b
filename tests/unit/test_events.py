"""The types of events: their names, what each requires, and that each example of the contract is one."""

import json
from typing import Any

import msgspec
import pytest

from models import events
from models.events import EVENT_CLASSES, TOPIC_EVENTS, Envelope, payload_class, type_name
from tests.support.examples import EXAMPLES, FULL, LEAST, TOPIC_OF, envelope


def class_name(kind: str) -> str:
    """Write `ticket.status_changed` as `TicketStatusChanged`."""
    return "".join(part.capitalize() for part in kind.replace(".", "_").split("_"))


def decode(example: dict[str, Any]) -> Any:
    """Decode an event by the class of its type."""
    event_class = getattr(events, class_name(example["type"]))
    return msgspec.json.decode(json.dumps(example), type=event_class)


@pytest.mark.parametrize("event_class", EVENT_CLASSES, ids=type_name)
def test_each_class_is_named_after_its_type(event_class: type[Envelope]) -> None:
    """`ticket.status_changed` is `TicketStatusChanged`, its payload `TicketStatusChangedData`."""
    assert event_class.__name__ == class_name(type_name(event_class))
    assert payload_class(event_class).__name__ == f"{event_class.__name__}Data"
    assert event_class.__doc__
    assert payload_class(event_class).__doc__


def test_each_type_is_on_one_topic_and_has_an_example() -> None:
    """No type is on two topics, and none was forgotten among the examples."""
    assert len(TOPIC_OF) == len(EVENT_CLASSES) == sum(map(len, TOPIC_EVENTS.values()))
    assert TOPIC_OF.keys() == FULL.keys() == LEAST.keys()


@pytest.mark.parametrize("kind", FULL)
def test_the_full_example_has_every_known_member(kind: str) -> None:
    """What is decoded says the same as the example, so that no member is misspelled on either side."""
    payload = payload_class(getattr(events, class_name(kind)))
    known = {member.encode_name for member in msgspec.structs.fields(payload)}
    assert FULL[kind].keys() == known


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example['type']}-{len(example['data'])}")
def test_each_example_is_an_event(example: dict[str, Any]) -> None:
    """Every example decodes as its own class, and keeps what it says."""
    event = decode(example)
    assert (event.id, event.source, event.time, event.subject) == ("evt_1", "/app", "2026-11-21T19:15:03.120Z", example["subject"])
    assert msgspec.to_builtins(event.data).items() <= decode_builtins(event.data).items()
    again = msgspec.json.decode(msgspec.json.encode(event.data), type=type(event.data))
    assert again == event.data


def decode_builtins(data: msgspec.Struct) -> dict[str, Any]:
    """Write every member of a payload, also those that say no more than their default."""
    return {member.encode_name: msgspec.to_builtins(getattr(data, member.name)) for member in msgspec.structs.fields(data)}


@pytest.mark.parametrize(
    ("kind", "member"), [(kind, member) for kind, data in LEAST.items() for member in data if kind != "ticket.created"]
)
def test_each_member_of_the_least_example_is_required(kind: str, member: str) -> None:
    """Nothing is in the least example that could be left out."""
    data = {name: value for name, value in LEAST[kind].items() if name != member}
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{member}`"):
        decode(envelope(kind, data))


def test_a_word_that_python_keeps_for_itself_gets_an_underscore() -> None:
    """`from` on the wire is the attribute `from_`."""
    changed = decode(envelope("ticket.status_changed", {"ticket_id": "t", "from": "new", "to": "open"}))
    assert (changed.data.from_, changed.data.to) == ("new", "open")


def test_what_is_left_out_has_its_default() -> None:
    """A use counts once, a ticket is normal, an attempt is the first, a subscription has no discount."""
    assert decode(envelope("usage.event", LEAST["usage.event"])).data.count == 1
    assert decode(envelope("ticket.created", LEAST["ticket.created"])).data.priority == "normal"
    assert decode(envelope("invoice.payment_failed", LEAST["invoice.payment_failed"])).data.attempt == 1
    assert decode(envelope("subscription.upserted", LEAST["subscription.upserted"])).data.discounts == ()


@pytest.mark.parametrize("kind", LEAST)
def test_null_is_the_same_as_left_out(kind: str) -> None:
    """A member with no default other than null may be null."""
    payload = payload_class(getattr(events, class_name(kind)))
    nulls = {member.encode_name: None for member in msgspec.structs.fields(payload) if member.default is None}
    assert decode(envelope(kind, {**nulls, **LEAST[kind]})) == decode(envelope(kind, LEAST[kind]))


@pytest.mark.parametrize("kind", LEAST)
def test_members_that_nobody_knows_are_ignored(kind: str) -> None:
    """In the envelope and in the payload."""
    usual = envelope(kind, LEAST[kind])
    odd = {**usual, "traceparent": "00-1", "data": {**LEAST[kind], "x_other": [{"any": 1}]}}
    assert decode(odd) == decode(usual)


@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [
        ("usage.event", "count", 1_000_000_001),
        ("charge.succeeded", "amount", {"amount_minor": -1, "currency": "EUR"}),
        ("dispute.opened", "amount", {"amount_minor": -1, "currency": "EUR"}),
        ("refund.created", "amount", {"amount_minor": 2**63, "currency": "EUR"}),
        ("refund.created", "amount", {"amount_minor": 1, "currency": "EURO"}),
        ("refund.created", "amount", {"amount_minor": 1, "currency": "EUR\n"}),
        ("account.updated", "seats", -1),
        ("csm.pulse_set", "value", 6),
        ("csm.pulse_set", "value", "blue"),
        ("ticket.abandoned", "wait_ms", -0.5),
        ("account.updated", "plan", "p" * 257),
        ("account.updated", "created_at", "2026-01-01T00:00:00"),
    ],
)
def test_a_value_out_of_its_range_is_refused(kind: str, member: str, value: object) -> None:
    """Limits are checked while decoding."""
    with pytest.raises(msgspec.ValidationError):
        decode(envelope(kind, {**FULL[kind], member: value}))


@pytest.mark.parametrize("amount", [0, 1, 2**63 - 1, "0", "12.5", "0.000000000001"])
def test_a_price_may_be_an_integer_or_a_decimal_text(amount: object) -> None:
    """Stripe has prices of parts of cents."""
    item = {"unit_amount_minor": amount, "interval": "month"}
    assert decode(envelope("subscription.upserted", {**LEAST["subscription.upserted"], "items": [item]}))


@pytest.mark.parametrize("amount", [-1, "-1", "1.", ".5", "1e3", "", "12.5\n", "1,5", 2**63, 1.5, None])
def test_a_price_is_not_negative_and_not_a_float(amount: object) -> None:
    """What is not exactly a price is refused."""
    item = {"unit_amount_minor": amount, "interval": "month"}
    with pytest.raises(msgspec.ValidationError):
        decode(envelope("subscription.upserted", {**LEAST["subscription.upserted"], "items": [item]}))


@pytest.mark.parametrize(
    ("dataschema", "is_newer"),
    [
        ("https://example.com/usage.event/1.json", False),
        ("https://example.com/usage.event/1", False),
        ("https://example.com/usage.event", False),
        ("urn:churnwatch:schema:usage.event/1.json", False),
        ("https://example.com:8080", False),
        ("https://example.com/2026-01-01", False),
        ("https://example.com/usage.event/2", True),
        ("https://example.com/usage.event/v2", True),
        ("https://example.com/usage.event/2.json", True),
        ("https://example.com/usage.event/10", True),
        ("urn:churnwatch:schema:usage.event/2.json", True),
        ("urn:churnwatch:schema:usage.event:2", True),
    ],
)
def test_a_dataschema_of_a_newer_major_version_is_refused(dataschema: str, *, is_newer: bool) -> None:
    """The last part of the reference is the version, if it is one."""
    example = {**envelope("usage.event", LEAST["usage.event"]), "dataschema": dataschema}
    if is_newer:
        with pytest.raises(msgspec.ValidationError):
            decode(example)
    else:
        assert decode(example).dataschema == dataschema
