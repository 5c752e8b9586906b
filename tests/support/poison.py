"""Records that cannot be used, each with the reason why, and odd ones that can: what a decoder, or a running service, is tried with.

`POISON` covers every reason and every kind of bad data of the fault list; each entry must end as one dead letter with its reason.
`HARMLESS` looks as bad, but each entry must be applied. Topics have no prefix. All times lie in the past of any broker, but those of
`future_time`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.decoding import Reason

ACCOUNT = "acct_poison"
BROKER_MS = 1_795_291_200_000
"""A broker's time after that of every usable event here: 2026-11-21T20:00:00Z."""

USAGE = "usage-events"
TICKETS = "ticket-events"
PAYMENTS = "payment-events"
ACCOUNTS = "account-events"
SURVEYS = "survey-events"

STRUCTURED = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)

Header = tuple[str, bytes]
Json = Any


@dataclass(frozen=True, slots=True)
class Sent:
    """A record as a producer sends it, with what the broker adds."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()
    timestamp: int = BROKER_MS
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that becomes a dead letter; `before` is the usable record that must be read first, if any."""

    name: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    reason: Reason
    before: Sent | None = None

    @property
    def sent(self) -> Sent:
        """The record itself."""
        return Sent(self.topic, self.key, self.value, self.headers)


def event(kind: str = "usage.event", data: Json = None, **members: Json) -> dict[str, Json]:
    """Write a usable event of a type, with other members put in place; one that is `...` is left out."""
    usable = {
        "type": kind,
        "id": "poison-1",
        "source": "/poison",
        "time": "2024-01-02T03:04:05.678Z",
        "subject": ACCOUNT,
        "data": {"event": "report_exported", "user_id": "u1"} if data is None else data,
    }
    return {name: member for name, member in {**usable, **members}.items() if member is not ...}


def text(content: Json) -> bytes:
    """Write JSON in UTF-8."""
    return json.dumps(content, ensure_ascii=False).encode()


def with_data(data: bytes, kind: str = "usage.event") -> bytes:
    """Write an event whose `data` is raw text."""
    return text(event(kind, data={})).replace(b"{}", data)


def binary_headers(**replaced: bytes | None) -> list[Header]:
    """Write the headers of the usable event in binary mode, with some replaced; one that is None is left out."""
    usable: Mapping[str, bytes | None] = {
        "specversion": b"1.0",
        "type": b"usage.event",
        "id": b"poison-1",
        "source": b"/poison",
        "time": b"2024-01-02T03:04:05.678Z",
        "subject": ACCOUNT.encode(),
    }
    members = {**usable, **replaced}
    return [(f"ce_{name}", value) for name, value in members.items() if value is not None] + [("content-type", b"application/json")]


def _poison(
    name: str,
    reason: Reason,
    value: bytes | None,
    topic: str = USAGE,
    key: bytes | None = ACCOUNT.encode(),
    headers: Sequence[Header] = (),
    before: Sent | None = None,
) -> Poison:
    return Poison(name, topic, key, value, headers, reason, before)


def _data(name: str, reason: Reason, data: Json, kind: str = "usage.event", topic: str = USAGE) -> Poison:
    return _poison(name, reason, text(event(kind, data=data)), topic)


_DATA = {"event": "report_exported"}
_ASKED = {"survey_id": "q1", "kind": "csat", "user_id": "u1"}
_CSAT = {**_ASKED, "score": 4, "scale_min": 1, "scale_max": 5}
_NPS = {**_ASKED, "kind": "nps", "score": 9, "scale_min": 0, "scale_max": 10}
_SUBSCRIPTION = {
    "subscription_id": "sub_1",
    "status": "active",
    "items": [{"unit_amount_minor": 4900, "interval": "month"}],
    "currency": "EUR",
    "version": 1,
}
_UNVERSIONED = {name: member for name, member in _SUBSCRIPTION.items() if name != "version"}
_CHARGE = {"charge_id": "ch_1", "amount": {"amount_minor": 4900, "currency": "EUR"}}
_BINARY_DATA = text(_DATA)


def _nested(levels: int, inner: bytes = b"1") -> bytes:
    return b'{"event":"x","properties":{"a":' + b"[" * levels + inner + b"]" * levels + b"}}"


_RECORD = [
    _poison("no key", Reason.KEY_MISSING, text(event()), key=None),
    _poison("an empty key", Reason.KEY_MISSING, text(event()), key=b""),
    _poison("no key and no value", Reason.KEY_MISSING, None, key=None),
    _poison("a tombstone on usage-events", Reason.NULL_VALUE, None),
    _poison("a tombstone on account-events", Reason.NULL_VALUE, None, ACCOUNTS),
    _poison("a tombstone in binary mode", Reason.NULL_VALUE, None, headers=binary_headers()),
    _poison("one byte over the limit", Reason.TOO_LARGE, with_data(b'{"event":"x"}').ljust(1_000_001)),
    _poison("one byte over the limit, and no JSON", Reason.TOO_LARGE, b"x" * 1_000_001),
    _poison("a text of a megabyte in plan", Reason.TOO_LARGE, text(event("account.updated", data={"plan": "p" * 1_000_000})), ACCOUNTS),
    _poison("another account's key", Reason.KEY_MISMATCH, text(event()), key=b"acct_other"),
    _poison("a key with a space behind", Reason.KEY_MISMATCH, text(event()), key=b"acct_poison "),
    _poison("a key in upper case", Reason.KEY_MISMATCH, text(event()), key=b"ACCT_POISON"),
    _poison("a key that is not UTF-8", Reason.KEY_MISMATCH, text(event()), key=b"acct_\xff"),
    _poison("a key in another normal form", Reason.KEY_MISMATCH, text(event(subject="caf\u00e9")), key="cafe\u0301".encode()),
    _poison("a key of 300 bytes", Reason.KEY_MISMATCH, text(event()), key=b"k" * 300),
]

_JSON = [
    _poison("an empty value", Reason.NOT_JSON, b""),
    _poison("spaces only", Reason.NOT_JSON, b"  \n "),
    _poison("words", Reason.NOT_JSON, b"hello, world"),
    _poison("truncated JSON", Reason.NOT_JSON, text(event())[:-9]),
    _poison("truncated within an escape", Reason.NOT_JSON, b'{"type":"usage.event","id":"\\ud8'),
    _poison("a trailing comma", Reason.NOT_JSON, text(event())[:-1] + b",}"),
    _poison("two events in one value", Reason.NOT_JSON, text(event()) * 2),
    _poison("single quotes", Reason.NOT_JSON, b"{'type': 'usage.event'}"),
    _poison("invalid UTF-8 in a known text", Reason.NOT_JSON, with_data(b'{"event":"\xff\xfe"}')),
    _poison("invalid UTF-8 in an unknown member", Reason.NOT_JSON, with_data(b'{"event":"x","other":"\xff"}')),
    _poison("invalid UTF-8 in the name of a member", Reason.NOT_JSON, with_data(b'{"event":"x","\xc3":1}')),
    _poison("a surrogate in UTF-8", Reason.NOT_JSON, with_data(b'{"event":"\xed\xa0\x80"}')),
    _poison("UTF-16", Reason.NOT_JSON, json.dumps(event()).encode("utf-16")),
    _poison("UTF-16 with no byte order mark", Reason.NOT_JSON, json.dumps(event()).encode("utf-16-le")),
    _poison("a byte order mark", Reason.NOT_JSON, b"\xef\xbb\xbf" + text(event())),
    _poison("a NUL between members", Reason.NOT_JSON, b"{\0" + text(event())[1:]),
    _poison("a raw line break in a text", Reason.NOT_JSON, with_data(b'{"event":"a\nb"}')),
    _poison("a number with a leading zero", Reason.NOT_JSON, with_data(b'{"event":"x","count":01}')),
    _poison("200,000 levels", Reason.NOT_JSON, with_data(_nested(200_000))),
    _poison("200,000 levels that never end", Reason.NOT_JSON, b"[" * 200_000),
    _poison("200,000 levels in an unknown member", Reason.NOT_JSON, with_data(b'{"event":"x","other":' + b'{"a":' * 100_000)),
    _poison("33 levels", Reason.BAD_VALUE, with_data(_nested(30))),
    _poison("33 levels in binary mode", Reason.BAD_VALUE, _nested(30), headers=binary_headers()),
    _poison("900 levels", Reason.BAD_VALUE, with_data(_nested(897))),
    _poison("33 levels in an unknown member", Reason.BAD_VALUE, with_data(b'{"event":"x","other":' + b"[" * 31 + b"]" * 31 + b"}")),
    _poison("NaN", Reason.NOT_FINITE, with_data(b'{"event":"x","value":NaN}')),
    _poison("Infinity among properties", Reason.NOT_FINITE, with_data(b'{"event":"x","properties":{"a":Infinity}}')),
    _poison("minus Infinity in an unknown member", Reason.NOT_FINITE, with_data(b'{"event":"x","other":-Infinity}')),
    _poison("1e999", Reason.NOT_FINITE, with_data(b'{"event":"x","value":1e999}')),
    _poison("1e999 among properties", Reason.NOT_FINITE, with_data(b'{"event":"x","properties":{"a":1e999}}')),
    _poison("a float of 400 digits", Reason.NOT_FINITE, with_data(b'{"event":"x","value":' + b"9" * 400 + b"}")),
    _poison("NaN in binary mode", Reason.NOT_FINITE, b'{"event":"x","value":NaN}', headers=binary_headers()),
    _poison("a list", Reason.BAD_TYPE, text([event()])),
    _poison("a number", Reason.BAD_TYPE, b"42"),
    _poison("a text", Reason.BAD_TYPE, b'"usage.event"'),
    _poison("the word null", Reason.BAD_TYPE, b"null"),
    _poison("a batch of CloudEvents", Reason.BAD_TYPE, text([event()]), headers=[("content-type", b"application/cloudevents-batch+json")]),
]

_ENVELOPE = [
    _poison("no id", Reason.MISSING_MEMBER, text(event(id=...))),
    _poison("no source", Reason.MISSING_MEMBER, text(event(source=...))),
    _poison("no type", Reason.MISSING_MEMBER, text(event(type=...))),
    _poison("no time", Reason.MISSING_MEMBER, text(event(time=...))),
    _poison("no subject", Reason.MISSING_MEMBER, text(event(subject=...))),
    _poison("no data", Reason.MISSING_MEMBER, text(event(data=...))),
    _poison("no member at all", Reason.MISSING_MEMBER, b"{}"),
    _poison("no specversion in structured mode", Reason.MISSING_MEMBER, text(event()), headers=STRUCTURED),
    _poison("specversion null in structured mode", Reason.MISSING_MEMBER, text(event(specversion=None)), headers=STRUCTURED),
    _poison("no specversion in binary mode", Reason.MISSING_MEMBER, _BINARY_DATA, headers=binary_headers(specversion=None)),
    _poison("no subject in binary mode", Reason.MISSING_MEMBER, _BINARY_DATA, headers=binary_headers(subject=None)),
    _poison("nothing but a type in binary mode", Reason.MISSING_MEMBER, _BINARY_DATA, headers=[("ce_type", b"usage.event")]),
    _poison("an id that is a number", Reason.BAD_TYPE, text(event(id=7))),
    _poison("an id that is null", Reason.BAD_TYPE, text(event(id=None))),
    _poison("a type that is a list", Reason.BAD_TYPE, text(event(type=["usage.event"]))),
    _poison("data that is a list", Reason.BAD_TYPE, text(event(data=[]))),
    _poison("data that is null", Reason.BAD_TYPE, with_data(b"null")),
    _poison("a time in seconds", Reason.BAD_TYPE, text(event(time=1_704_164_645))),
    _poison("an empty id", Reason.BAD_VALUE, text(event(id=""))),
    _poison("an id of 129 characters", Reason.BAD_VALUE, text(event(id="é" * 129))),
    _poison("an empty source", Reason.BAD_VALUE, text(event(source=""))),
    _poison("an empty subject", Reason.BAD_VALUE, text(event(subject=""))),
    _poison("a subject and key of 257 characters", Reason.BAD_VALUE, text(event(subject="s" * 257)), key=b"s" * 257),
    _poison("another specversion", Reason.BAD_VALUE, text(event(specversion="0.3"))),
    _poison("another specversion in binary mode", Reason.BAD_VALUE, _BINARY_DATA, headers=binary_headers(specversion=b"2.0")),
    _poison("an id header that is not UTF-8", Reason.BAD_VALUE, _BINARY_DATA, headers=binary_headers(id=b"\xff")),
    _poison("a time with no offset", Reason.BAD_TIME, text(event(time="2024-01-02T03:04:05"))),
    _poison("a time with a space", Reason.BAD_TIME, text(event(time="2024-01-02 03:04:05Z"))),
    _poison("a date", Reason.BAD_TIME, text(event(time="2024-01-02"))),
    _poison("30 February", Reason.BAD_TIME, text(event(time="2024-02-30T03:04:05Z"))),
    _poison("24 o'clock", Reason.BAD_TIME, text(event(time="2024-01-02T24:00:00Z"))),
    _poison("the year 0", Reason.BAD_TIME, text(event(time="0000-01-02T03:04:05Z"))),
    _poison("the year 10000", Reason.BAD_TIME, text(event(time="10000-01-02T03:04:05Z"))),
    _poison("milliseconds as a text", Reason.BAD_TIME, text(event(time="1704164645000"))),
    _poison("a time in words", Reason.BAD_TIME, text(event(time="Tue, 02 Jan 2024 03:04:05 GMT"))),
    _poison("digits of another script", Reason.BAD_TIME, text(event(time="２０２４-01-02T03:04:05Z"))),
    _poison("a time and a line break", Reason.BAD_TIME, text(event(time="2024-01-02T03:04:05Z\n"))),
    _poison("a bad time in binary mode", Reason.BAD_TIME, _BINARY_DATA, headers=binary_headers(time=b"yesterday")),
    _poison("the year 9999", Reason.FUTURE_TIME, text(event(time="9999-01-02T03:04:05Z"))),
    _poison("the year 9999 in binary mode", Reason.FUTURE_TIME, _BINARY_DATA, headers=binary_headers(time=b"9999-01-02T03:04:05Z")),
    _poison("an unknown type", Reason.UNKNOWN_TYPE, text(event("usage.heatmap"))),
    _poison("an empty type", Reason.UNKNOWN_TYPE, text(event(""))),
    _poison("a type of another topic", Reason.UNKNOWN_TYPE, text(event("ticket.created", data={"ticket_id": "t1"}))),
    _poison("an unknown type in binary mode", Reason.UNKNOWN_TYPE, _BINARY_DATA, headers=binary_headers(type=b"usage.heatmap")),
    _poison("a type in upper case", Reason.UNKNOWN_TYPE, text(event("Usage.Event"))),
    _poison("version 2 of a type", Reason.SCHEMA_UNSUPPORTED, text(event("usage.event.v2"))),
    _poison(
        "version 12 of a type in binary mode", Reason.SCHEMA_UNSUPPORTED, _BINARY_DATA, headers=binary_headers(type=b"usage.event.v12")
    ),
    _poison("a dataschema of version 2", Reason.SCHEMA_UNSUPPORTED, text(event(dataschema="https://example.com/usage.event/2"))),
    _poison(
        "a dataschema file of version 2", Reason.SCHEMA_UNSUPPORTED, text(event(dataschema="urn:churnwatch:schema:usage.event/2.json"))
    ),
]

_PAYLOAD = [
    _data("no event name", Reason.MISSING_MEMBER, {"user_id": "u1"}),
    _data("no ticket id", Reason.MISSING_MEMBER, {"to": "open"}, "ticket.status_changed", TICKETS),
    _data("an issued invoice with no total", Reason.MISSING_MEMBER, {"invoice_id": "in_1"}, "invoice.issued", PAYMENTS),
    _data("an amount with no currency", Reason.MISSING_MEMBER, {**_CHARGE, "amount": {"amount_minor": 1}}, "charge.succeeded", PAYMENTS),
    _data("a subscription with no version", Reason.MISSING_MEMBER, _UNVERSIONED, "subscription.upserted", PAYMENTS),
    _data("a count as a text", Reason.BAD_TYPE, {**_DATA, "count": "3"}),
    _data("a count that is true", Reason.BAD_TYPE, {**_DATA, "count": True}),
    _data("a count with a fraction", Reason.BAD_TYPE, {**_DATA, "count": 1.5}),
    _data("a count that is null", Reason.BAD_TYPE, {**_DATA, "count": None}),
    _data(
        "true as an amount", Reason.BAD_TYPE, {**_CHARGE, "amount": {"amount_minor": True, "currency": "EUR"}}, "charge.failed", PAYMENTS
    ),
    _data(
        "an amount as a float", Reason.BAD_TYPE, {**_CHARGE, "amount": {"amount_minor": 49.0, "currency": "EUR"}}, "charge.failed", PAYMENTS
    ),
    _data("an amount as a bare number", Reason.BAD_TYPE, {**_CHARGE, "amount": 4900}, "charge.succeeded", PAYMENTS),
    _data("properties that are a list", Reason.BAD_TYPE, {**_DATA, "properties": []}),
    _poison("a count as a text in binary mode", Reason.BAD_TYPE, b'{"event":"x","count":"3"}', headers=binary_headers()),
    _data("a negative count", Reason.BAD_VALUE, {**_DATA, "count": -1}),
    _data("a count over the limit", Reason.BAD_VALUE, {**_DATA, "count": 1_000_000_001}),
    _poison("a count of 5,000 digits", Reason.BAD_VALUE, with_data(b'{"event":"x","count":' + b"9" * 5_000 + b"}")),
    _poison(
        "an integer beyond 64 bits among properties", Reason.BAD_VALUE, with_data(b'{"event":"x","properties":{"a":-9223372036854775809}}')
    ),
    _poison(
        "an integer of 5,000 digits among properties",
        Reason.BAD_VALUE,
        with_data(b'{"event":"x","properties":{"a":' + b"9" * 5_000 + b"}}"),
    ),
    _data(
        "a negative charge", Reason.BAD_VALUE, {**_CHARGE, "amount": {"amount_minor": -1, "currency": "EUR"}}, "charge.succeeded", PAYMENTS
    ),
    _data(
        "an amount beyond 64 bits",
        Reason.BAD_VALUE,
        {"refund_id": "re_1", "amount": {"amount_minor": 2**63, "currency": "EUR"}},
        "refund.created",
        PAYMENTS,
    ),
    _data("a currency in lower case", Reason.BAD_VALUE, {**_SUBSCRIPTION, "currency": "eur"}, "subscription.upserted", PAYMENTS),
    _data(
        "a price in words",
        Reason.BAD_VALUE,
        {**_SUBSCRIPTION, "items": [{"unit_amount_minor": "49.00 €", "interval": "month"}]},
        "subscription.upserted",
        PAYMENTS,
    ),
    _data("an unknown status", Reason.BAD_VALUE, {**_SUBSCRIPTION, "status": "frozen"}, "subscription.upserted", PAYMENTS),
    _data("an unknown priority", Reason.BAD_VALUE, {"ticket_id": "t1", "to": "sev1"}, "ticket.priority_changed", TICKETS),
    _data("an empty ticket id", Reason.BAD_VALUE, {"ticket_id": ""}, "ticket.reopened", TICKETS),
    _data("an account's plan of 900 kB", Reason.BAD_VALUE, {"plan": "p" * 900_000}, "account.updated", ACCOUNTS),
    _data("a due date with no offset", Reason.BAD_TIME, {"invoice_id": "in_1", "due_at": "2024-01-02T03:04:05"}, "invoice.paid", PAYMENTS),
    _data(
        "a period that ends on 31 April",
        Reason.BAD_TIME,
        {**_SUBSCRIPTION, "current_period_end": "2024-04-31T00:00:00Z"},
        "subscription.upserted",
        PAYMENTS,
    ),
    _data("a survey answer with no scale", Reason.MISSING_MEMBER, {**_ASKED, "score": 4}, "survey.answered", SURVEYS),
    _data(
        "a survey answer of nobody",
        Reason.MISSING_MEMBER,
        {name: value for name, value in _CSAT.items() if name != "user_id"},
        "survey.answered",
        SURVEYS,
    ),
    _data("a score as a text", Reason.BAD_TYPE, {**_CSAT, "score": "good"}, "survey.answered", SURVEYS),
    _data("an nps score with a fraction", Reason.BAD_TYPE, {**_NPS, "score": 8.5}, "survey.answered", SURVEYS),
    _data("an nps score of 11", Reason.BAD_VALUE, {**_NPS, "score": 11}, "survey.answered", SURVEYS),
    _data("an nps score of -1", Reason.BAD_VALUE, {**_NPS, "score": -1}, "survey.answered", SURVEYS),
    _data("an nps score of 0 on 1 to 10", Reason.BAD_VALUE, {**_NPS, "scale_min": 1, "score": 0}, "survey.answered", SURVEYS),
    _data("nps on 0 to 5", Reason.BAD_VALUE, {**_NPS, "scale_max": 5, "score": 4}, "survey.answered", SURVEYS),
    _data("nps where less is better", Reason.BAD_VALUE, {**_NPS, "direction": "lower_better"}, "survey.answered", SURVEYS),
    _data("a score below its scale", Reason.BAD_VALUE, {**_CSAT, "score": 0.5}, "survey.answered", SURVEYS),
    _data("a score above its scale", Reason.BAD_VALUE, {**_CSAT, "score": 5.5}, "survey.answered", SURVEYS),
    _data("a scale of one point", Reason.BAD_VALUE, {**_CSAT, "scale_min": 5, "score": 5}, "survey.answered", SURVEYS),
    _data("a scale with a fraction", Reason.BAD_TYPE, {**_CSAT, "scale_max": 5.5}, "survey.answered", SURVEYS),
    _data("a survey of another kind", Reason.BAD_VALUE, {**_ASKED, "kind": "pmf"}, "survey.offered", SURVEYS),
    _data("feedback with no text", Reason.MISSING_MEMBER, {"channel": "email"}, "feedback.received", SURVEYS),
    _data("a session that started on a date", Reason.BAD_TIME, {"session_id": "s", "started_at": "2024-01-02"}, "usage.session"),
]

_FIRST = Sent(TICKETS, ACCOUNT.encode(), text(event("ticket.created", data={"ticket_id": "t1"}, id="twice")))
_FIRST_USE = Sent(USAGE, ACCOUNT.encode(), text(event(id="twice")))
_CONFLICTS = [
    _poison(
        "the same id for another ticket",
        Reason.CONFLICTING_DUPLICATE,
        text(event("ticket.created", data={"ticket_id": "t2"}, id="twice")),
        TICKETS,
        before=_FIRST,
    ),
    _poison(
        "the same id with another count",
        Reason.CONFLICTING_DUPLICATE,
        text(event(data={**_DATA, "count": 2}, id="twice")),
        before=_FIRST_USE,
    ),
    _poison(
        "the same id at another time", Reason.CONFLICTING_DUPLICATE, text(event(id="twice", time="2024-01-02T03:04:06Z")), before=_FIRST_USE
    ),
]

POISON: tuple[Poison, ...] = (*_RECORD, *_JSON, *_ENVELOPE, *_PAYLOAD, *_CONFLICTS)


@dataclass(frozen=True, slots=True)
class Harmless:
    """A record that looks bad, but must be applied."""

    name: str
    sent: Sent


def _harmless(name: str, value: bytes, topic: str = USAGE, headers: Sequence[Header] = (), key: bytes = ACCOUNT.encode()) -> Harmless:
    return Harmless(name, Sent(topic, key, value, headers))


def _by_itself(number: int, harmless: Harmless) -> Harmless:
    """Give each record an id and, but for special keys, an account of its own, so that none is a duplicate or late for another."""
    sent = harmless.sent
    assert sent.value is not None
    assert sent.key is not None

    def own(content: bytes) -> bytes:
        return content.replace(b"poison-1", f"harmless-{number}".encode()).replace(ACCOUNT.encode(), f"acct_harmless_{number}".encode())

    headers = [(name, own(value)) for name, value in sent.headers]
    return Harmless(harmless.name, Sent(sent.topic, own(sent.key), own(sent.value), headers))


HARMLESS: tuple[Harmless, ...] = tuple(
    _by_itself(number, harmless)
    for number, harmless in enumerate(
        [
            _harmless("a usable event", text(event())),
            _harmless("structured mode", text(event(specversion="1.0")), headers=STRUCTURED),
            _harmless(
                "structured mode in odd letters",
                text(event(specversion="1.0")),
                headers=[("Content-Type", b" Application/CloudEvents+JSON")],
            ),
            _harmless("binary mode", _BINARY_DATA, headers=binary_headers()),
            _harmless("specversion with no header", text(event(specversion="1.0"))),
            _harmless("1,000 headers", text(event()), headers=[(f"x-{i % 7}", bytes([i % 256]) * 40) for i in range(1_000)]),
            _harmless("binary headers", text(event()), headers=[("trace", b"\xff\x00\xfe"), ("trace", b""), ("", b"")]),
            _harmless("a CloudEvents extension header alone", text(event()), headers=[("ce_traceparent", b"00-1-2-01")]),
            _harmless("a content type of JSON", text(event()), headers=[("content-type", b"application/json")]),
            _harmless("a lone surrogate", with_data(rb'{"event":"\ud800 and \udc00"}')),
            _harmless("a lone surrogate in an unknown member", with_data(rb'{"event":"x","other":"\ud83d"}')),
            _harmless("an emoji as a surrogate pair", with_data(rb'{"event":"\ud83d\ude00"}')),
            _harmless("an escaped NUL", with_data(rb'{"event":"a\u0000b"}')),
            _harmless("a raw NUL", with_data(b'{"event":"a\0b"}')),
            _harmless("text that turns around", with_data('{"event":"\u202e\u200b\ufeff"}'.encode())),
            _harmless("members that nobody knows", text(event(data={**_DATA, "other": {"any": [1, None]}}, traceparent="00-1"))),
            _harmless("an unknown number out of all range", with_data(b'{"event":"x","other":1e999,"more":' + b"9" * 5_000 + b"}")),
            _harmless("a member twice", with_data(b'{"event":"x","count":1,"count":2}')),
            _harmless("a type with version 1", text(event("usage.event.v1"))),
            _harmless("a dataschema of version 1", text(event(dataschema="https://example.com/usage.event/1.json"))),
            _harmless("10,000 attributes", text(event(data={**_DATA, "properties": {f"a{i}": i for i in range(10_000)}}))),
            _harmless("900 kB", text(event(data={**_DATA, "properties": {"text": "x" * 900_000}}))),
            _harmless("32 levels", with_data(_nested(29))),
            _harmless("brackets in a text", with_data(b'{"event":"' + b"[{" * 200 + b'"}')),
            _harmless("minus zero", with_data(b'{"event":"x","value":-0.0,"count":0}')),
            _harmless("1e308", with_data(b'{"event":"x","value":1e308}')),
            _harmless("the year 1970", text(event(time="1970-01-01T00:00:00Z"))),
            _harmless("a leap second", text(event(time="2016-12-31T23:59:60Z"))),
            _harmless("a time far east", text(event(time="2024-01-02t03:04:05.123456789+14:00"))),
            _harmless("spaces and another order", json.dumps(dict(reversed(event().items())), indent=2).encode()),
            _harmless("an account id of 256 letters", text(event(subject="é" * 256)), key=("é" * 256).encode()),
            _harmless(
                "a null for what may be left out", text(event(data={**_DATA, "anonymous_id": None}, dataschema=None, specversion=None))
            ),
            _harmless(
                "a refund with a minus",
                text(event("refund.created", data={"refund_id": "re_1", "amount": {"amount_minor": -4900, "currency": "EUR"}})),
                PAYMENTS,
            ),
            _harmless(
                "a price of parts of cents", text(event("subscription.upserted", data=_SUBSCRIPTION)).replace(b"4900", b'"0.125"'), PAYMENTS
            ),
            _harmless("nps on 1 to 10", text(event("survey.answered", data={**_NPS, "scale_min": 1, "score": 1})), SURVEYS),
            _harmless("an nps score as a whole float", text(event("survey.answered", data={**_NPS, "score": 10.0})), SURVEYS),
            _harmless(
                "good as 1 of 0 to 1", text(event("survey.answered", data={**_CSAT, "scale_min": 0, "scale_max": 1, "score": 1})), SURVEYS
            ),
            _harmless("half a point", text(event("survey.answered", data={**_CSAT, "score": 3.5, "direction": "lower_better"})), SURVEYS),
            _harmless("feedback with nothing in it", text(event("feedback.received", data={"channel": "", "text": ""})), SURVEYS),
            _harmless("a ticket and no more", text(event("ticket.created", data={"ticket_id": "t9"})), TICKETS),
        ]
    )
)
