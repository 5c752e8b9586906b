"""Decoding: every record becomes one event or one reason, in each envelope mode, alone or among others; and who an event is."""

import json
import random
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.verify.reference import Event
from models.decoding import Decoded, Reason, decode_batch
from models.events import TOPIC_EVENTS
from models.identity import IDENTITY, IDENTITY_BYTES, WHO_BYTES, contents
from models.times import parse_us
from tests.support.examples import EXAMPLES, TOPIC_OF
from tests.support.generate import histories, to_kafka
from tests.support.poison import (
    ACCOUNT,
    BROKER_MS,
    HARMLESS,
    POISON,
    STRUCTURED,
    Harmless,
    Header,
    Poison,
    Sent,
    binary_headers,
    event,
    text,
    with_data,
)

USAGE = "usage-events"
KEY = ACCOUNT.encode()
CANARY = "hunter2"


def usage(value: bytes | None, headers: Sequence[Header] = (), key: bytes | None = KEY, timestamp: int = BROKER_MS) -> Sent:
    """Make a record of usage-events."""
    return Sent(USAGE, key, value, headers, timestamp)


def only(decoded: Decoded) -> Any:
    """Give the event of a batch of one, which must be usable."""
    assert decoded.rejected == []
    [only_event] = decoded.events
    return only_event


def decode_one(sent: Sent) -> Decoded:
    """Decode one record by itself."""
    return decode_batch(sent.topic, [sent])


Identity = tuple[int, int, int]


def identity_of(**members: Any) -> Identity:
    """Give the identity of the usable event, with members replaced."""
    decoded = decode_one(usage(text(event(**members))))
    only(decoded)
    [identity] = decoded.identity.tolist()
    return cast("Identity", identity)


def what(identity: Identity) -> int:
    """Give the part of an identity that is made of the content."""
    return identity[2]


def who(identity: Identity) -> tuple[int, int]:
    """Give the part of an identity that is made of source and id."""
    return identity[:2]


# Reasons


@pytest.mark.parametrize("poison", [poison for poison in POISON if poison.before is None], ids=lambda poison: poison.name)
def test_what_cannot_be_used_has_its_reason(poison: Poison) -> None:
    """Each record of the catalogue is rejected for the reason that it stands for."""
    decoded = decode_one(poison.sent)
    assert decoded.events == []
    [rejected] = decoded.rejected
    assert (rejected.index, rejected.reason, rejected.stage) == (0, poison.reason, "decode")


@pytest.mark.parametrize("poison", [poison for poison in POISON if poison.before is not None], ids=lambda poison: poison.name)
def test_a_conflict_is_known_by_who_and_what(poison: Poison) -> None:
    """The second record has the same source and id, and other content."""
    assert poison.before is not None
    decoded = decode_batch(poison.topic, [poison.before, poison.sent])
    first, second = decoded.identity.tolist()
    assert who(first) == who(second)
    assert what(first) != what(second)


def test_every_reason_is_in_the_catalogue() -> None:
    """None is forgotten, so that whoever runs the catalogue has seen them all."""
    assert {poison.reason for poison in POISON} == set(Reason)


@pytest.mark.parametrize("harmless", HARMLESS, ids=lambda harmless: harmless.name)
def test_what_only_looks_bad_is_used(harmless: Harmless) -> None:
    """Odd, but within the contract."""
    only(decode_one(harmless.sent))


@pytest.mark.parametrize("topic", TOPIC_EVENTS)
@pytest.mark.parametrize("seed", range(4))
def test_bad_records_do_not_disturb_those_beside_them(topic: str, seed: int) -> None:
    """Mixed in any order, each record fares as it does alone, and keeps its place."""
    sent = [poison.sent for poison in POISON if poison.topic == topic and not poison.before and len(poison.value or b"") < 10_000]
    sent += [harmless.sent for harmless in HARMLESS if harmless.sent.topic == topic and len(harmless.sent.value or b"") < 10_000]
    sent += [Sent(topic, one["subject"].encode(), text(one)) for one in EXAMPLES if TOPIC_OF[one["type"]] == topic]
    random.Random(seed).shuffle(sent)
    assert_same_as_alone(topic, sent)


def assert_same_as_alone(topic: str, sent: Sequence[Sent]) -> None:
    """Check a decoded batch against its records decoded one by one, and that its parts fit together."""
    decoded = decode_batch(topic, sent)
    assert sorted([*decoded.index, *(rejected.index for rejected in decoded.rejected)]) == list(range(len(sent)))
    assert decoded.index == sorted(decoded.index)
    assert decoded.times_us.dtype == np.int64
    assert decoded.identity.dtype == IDENTITY
    assert len(decoded.events) == len(decoded.index) == len(decoded.times_us) == len(decoded.identity)
    usable = iter(zip(decoded.events, decoded.times_us.tolist(), decoded.identity.tolist(), strict=True))
    reasons = {rejected.index: (rejected.reason, rejected.message) for rejected in decoded.rejected}
    for place, one in enumerate(sent):
        alone = decode_batch(topic, [one])
        if place in reasons:
            assert [(rejected.reason, rejected.message) for rejected in alone.rejected] == [reasons[place]]
        else:
            assert next(usable) == (alone.events[0], int(alone.times_us[0]), alone.identity.tolist()[0])


# Any bytes


NAMES = st.sampled_from(
    ["content-type", "Content-Type", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "ce_specversion", "ce_dataschema", "x", ""]
)
HEADER_VALUES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"1.0", b"usage.event", KEY, b"2024-01-02T03:04:05Z", b"application/cloudevents+json", b"application/json"]),
)
HEADERS = st.lists(st.tuples(NAMES, HEADER_VALUES), max_size=8)
KEYS = st.one_of(st.none(), st.binary(max_size=6), st.just(KEY))
STAMPS = st.one_of(st.just(BROKER_MS), st.integers(-(2**63), 2**63 - 1))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.sampled_from(["usage.event", ACCOUNT])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=12,
)
KNOWN_MEMBERS = ["event", "user_id", "count", "value", "properties", "duration_ms", "session_id", "started_at", "metric", "path", "kind"]
PAYLOADS = st.dictionaries(st.sampled_from(KNOWN_MEMBERS), JSON, max_size=4)
KINDS = st.sampled_from(["usage.event", "usage.event.v1", "usage.event.v2", "usage.session", "usage.gauge", "ticket.created", "x"])


@st.composite
def almost_events(draw: st.DrawFn) -> bytes:
    """Draw an event of which one member, or its data, may be anything, and of which some bytes may be lost, added or changed."""
    content = event(draw(KINDS), data={"event": "x", **draw(PAYLOADS)})
    for name in draw(st.lists(st.sampled_from([*content, "specversion", "dataschema"]), max_size=1)):
        content[name] = draw(JSON)
    value = json.dumps(content, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(value)))
        value = value[:at] + draw(st.binary(max_size=2)) + value[at + draw(st.integers(0, 2)) :]
    return value


VALUES = st.one_of(st.none(), st.binary(max_size=30), JSON.map(lambda value: json.dumps(value).encode()), almost_events(), almost_events())
RECORDS = st.builds(Sent, st.just(USAGE), KEYS, VALUES, HEADERS, STAMPS)
BARE_RECORDS = st.builds(Sent, st.just(USAGE), st.just(KEY), almost_events())


@given(st.lists(st.one_of(RECORDS, BARE_RECORDS), max_size=8))
@settings(max_examples=300)
def test_any_bytes_give_an_event_or_a_reason(records: list[Sent]) -> None:
    """Nothing is raised, each record ends in exactly one place, and fares as it does alone."""
    assert_same_as_alone(USAGE, records)


@pytest.mark.parametrize(
    "value",
    [
        b'"\\"' * 300_000,
        b'"' * 999_999,
        b'{"a":"' + b"\\\\" * 400_000,
        b"[" * 999_999,
        b"]" * 999_999,
        b'{"type":"' + b"a.v" * 300_000 + b'1"}',
        text(event(time="1" * 900_000)),
        text(event(time="0001-01-01T" + "+" * 900_000)),
        text(event(dataschema="/" * 900_000)),
        text(event(dataschema="urn:" + ":1" * 400_000)),
        text(event(data={"event": "x", "properties": {"a" * 400_000: ["b"] * 100_000}})),
    ],
    ids=range(11),
)
def test_large_nonsense_is_read_in_no_time(value: bytes) -> None:
    """No expression needs more than linear time; the timeout of the suite would tell."""
    decoded = decode_one(usage(value))
    assert len(decoded.events) + len(decoded.rejected) == 1


def test_a_topic_without_events_is_a_mistake_of_the_caller() -> None:
    """An unknown topic is no fault of a record."""
    with pytest.raises(KeyError):
        decode_batch("no-such-topic", [usage(text(event()))])


def test_an_empty_batch_has_nothing() -> None:
    """No records, no events, arrays of length 0."""
    decoded = decode_batch(USAGE, [])
    assert (decoded.events, decoded.index, decoded.rejected) == ([], [], [])
    assert decoded.times_us.shape == decoded.identity.shape == (0,)


# Messages


@pytest.mark.parametrize(
    "value",
    [
        text(event(CANARY)),
        text(event(f"{CANARY}.v2")),
        text(event(id=CANARY * 30)),
        text(event(time=CANARY)),
        text(event(specversion=CANARY)),
        text(event(dataschema=f"{CANARY}/2")),
        text(event(data={CANARY: CANARY})),
        text(event("usage.session", data={"session_id": "s", "started_at": f"{CANARY} - at `$.{CANARY}`"})),
        text(event("usage.event", data={"event": "x", "properties": {CANARY: 10**30}})),
        text(event("usage.event", data={"event": "x", "properties": CANARY})),
        f'{{"{CANARY}": {CANARY}}}'.encode(),
        f'["{CANARY}"]'.encode(),
    ],
)
def test_a_message_holds_nothing_of_the_payload(value: bytes) -> None:
    """Messages go into headers and logs: they name members, never what was in them."""
    [rejected] = decode_one(usage(value)).rejected
    assert CANARY not in rejected.message


def test_an_enumeration_s_message_holds_nothing_of_the_payload() -> None:
    """The decoder's own complaint would repeat the value, even one that looks like the end of a complaint."""
    data = {"ticket_id": "t", "to": f"{CANARY}' - at `$.{CANARY}`"}
    [rejected] = decode_one(Sent("ticket-events", KEY, text(event("ticket.priority_changed", data=data)))).rejected
    assert rejected.message == "data.to: expected one of high, low, normal, urgent"


@pytest.mark.parametrize("poison", POISON, ids=lambda poison: poison.name)
def test_a_message_is_one_line(poison: Poison) -> None:
    """It starts with the place of the fault, and goes into a header as it is."""
    for rejected in decode_one(poison.sent).rejected:
        assert rejected.message.isprintable()
        assert rejected.message.split(":")[0].split(".")[0] in {
            "key", "value", "specversion", "id", "source", "type", "time", "subject", "dataschema", "data",
        }  # fmt: skip


# Envelope modes


def in_modes(example: dict[str, Any]) -> dict[str, Sent]:
    """Send one event in each of the three modes."""
    topic, key = TOPIC_OF[example["type"]], example["subject"].encode()
    members = {name: member.encode() for name, member in example.items() if name != "data"}
    return {
        "plain": Sent(topic, key, text(example)),
        "structured": Sent(topic, key, text({"specversion": "1.0", **example}), STRUCTURED),
        "binary": Sent(topic, key, text(example["data"]), binary_headers(**members)),
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example['type']}-{len(example['data'])}")
def test_the_three_modes_give_the_same_event(example: dict[str, Any]) -> None:
    """Same class, same members, same instant, same identity."""
    decoded = {mode: decode_one(sent) for mode, sent in in_modes(example).items()}
    events = {mode: msgspec.structs.replace(only(one), specversion="1.0") for mode, one in decoded.items()}
    assert events["plain"] == events["structured"] == events["binary"]
    assert len({one.identity.tobytes() for one in decoded.values()}) == 1
    assert {int(one.times_us[0]) for one in decoded.values()} == {parse_us(example["time"])}


@given(PAYLOADS, st.sampled_from([ACCOUNT, "other"]), st.sampled_from(["2024-01-02T03:04:05Z", "9999-01-02T03:04:05Z", "soon", ""]))
def test_the_three_modes_refuse_for_the_same_reason(payload: dict[str, Any], subject: str, time: str) -> None:
    """What is wrong with an event does not depend on how it was sent."""
    example = event(data={"event": "x", **payload}, subject=subject, time=time)
    decoded = [decode_batch(USAGE, [usage(sent.value, sent.headers)]) for sent in in_modes(example).values()]
    fates = [[(rejected.reason, rejected.message) for rejected in one.rejected] or one.identity.tolist() for one in decoded]
    assert fates[0] == fates[1] == fates[2]


def test_texts_are_repaired_and_the_last_of_two_members_counts() -> None:
    """A lone surrogate becomes U+FFFD, a NUL stays, escapes that only look like it stay, a pair is one letter."""
    assert only(decode_one(usage(with_data(rb'{"event":"\ud800 and \\ud800 \ud83d\ude00"}')))).data.event == "\ufffd and \\ud800 \U0001f600"
    assert only(decode_one(usage(with_data(b'{"event":"a\0b\\u0000"}')))).data.event == "a\0b\0"
    assert only(decode_one(usage(with_data(b'{"event":"x","count":1,"count":2}')))).data.count == 2


def test_of_headers_that_repeat_the_last_counts() -> None:
    """As in Kafka's own clients."""
    headers = [("ce_id", b"first"), *binary_headers(id=b"last")]
    assert only(decode_one(usage(b'{"event":"x"}', headers))).id == "last"


# Time


@pytest.mark.parametrize(
    ("ahead_us", "timestamp", "is_future"),
    [
        (300_000_000, BROKER_MS, False),
        (300_000_001, BROKER_MS, True),
        (10**15, 0, False),
        (10**15, -1, False),
        (0, 2**63 - 1, False),
    ],
)
def test_an_event_may_be_five_minutes_ahead_of_the_broker(ahead_us: int, timestamp: int, *, is_future: bool) -> None:
    """And no microsecond more; where the broker's time is not known, nothing is ahead of it."""
    seconds, micros = divmod(ahead_us, 1_000_000)
    time = (np.datetime64("2026-11-21T20:00:00", "us") + np.timedelta64(seconds * 1_000_000 + micros, "us")).item().isoformat() + "Z"
    decoded = decode_one(usage(text(event(time=time)), timestamp=timestamp))
    assert [rejected.reason for rejected in decoded.rejected] == ([Reason.FUTURE_TIME] if is_future else [])


def test_only_those_which_are_ahead_are_refused() -> None:
    """A batch may have records of quite different times."""
    times = ["2024-01-02T03:04:05Z", "2026-11-21T20:06:00Z", "1970-01-01T00:00:00Z"] * 10
    decoded = decode_batch(USAGE, [usage(text(event(time=time)), timestamp=BROKER_MS - place) for place, time in enumerate(times)])
    assert [rejected.index for rejected in decoded.rejected] == list(range(1, 30, 3))
    assert decoded.times_us.tolist() == [parse_us(time) for place, time in enumerate(times) if place % 3 != 1]


# Identity


@pytest.mark.parametrize(
    ("kind", "identity"),
    [
        ("usage.event", (0x13FA_CCCE, 0xD014, 0x60E6_C7B9)),
        ("usage.session", (0x13FA_CCCE, 0xD014, 0xE9E6_4ECB)),
        ("ticket.created", (0x13FA_CCCE, 0xD014, 0x7920_9347)),
        ("subscription.upserted", (0x13FA_CCCE, 0xD014, 0x8979_B75C)),
        ("account.created", (0x13FA_CCCE, 0xD014, 0x7E8A_C851)),
    ],
)
def test_identities_never_change(kind: str, identity: Identity) -> None:
    """They are kept with the state of an account: a release that makes others forgets every known id."""
    example = next(one for one in EXAMPLES if one["type"] == kind)
    assert decode_one(in_modes(example)["plain"]).identity.tolist() == [identity]


@pytest.mark.parametrize(
    "members",
    [
        {"data": {"user_id": "u1", "event": "report_exported"}},
        {"data": {"event": "report_exported", "user_id": "u1", "count": 1}},
        {"data": {"event": "report_exported", "user_id": "u1", "feature": None, "x_other": [1]}},
        {"time": "2024-01-02T04:04:05.678+01:00"},
        {"time": "2024-01-02T03:04:05.678000999Z"},
        {"type": "usage.event.v1"},
        {"specversion": "1.0", "dataschema": "https://example.com/usage.event/1.json", "traceparent": "00-1"},
    ],
)
def test_the_way_of_writing_makes_no_other_content(members: dict[str, Any]) -> None:
    """Order, defaults, nulls, unknown members and offsets say nothing."""
    assert identity_of(**members) == identity_of()


@pytest.mark.parametrize(
    "members",
    [
        {"data": {"event": "report_exported", "user_id": "u1", "count": 2}},
        {"data": {"event": "report_exported", "user_id": "u2"}},
        {"data": {"event": "report_exported", "user_id": "u1", "properties": {"a": 1}}},
        {"time": "2024-01-02T03:04:05.679Z"},
        {"type": "usage.gauge", "data": {"metric": "m", "value": 1}},
    ],
)
def test_what_is_said_makes_the_content(members: dict[str, Any]) -> None:
    """Another count, user, property, instant or type is other content of the same event."""
    assert who(identity_of(**members)) == who(identity_of())
    assert what(identity_of(**members)) != what(identity_of())


def test_an_identity_is_ten_bytes_of_which_six_say_who() -> None:
    """That is how parts keep and search them: with nothing between, and who first."""
    one, other = (decode_one(usage(text(event(id="e", data={"event": name})))).identity.tobytes() for name in ("a", "b"))
    assert IDENTITY_BYTES == len(one) == 10
    assert one[:WHO_BYTES] == other[:WHO_BYTES]
    assert one[WHO_BYTES:] != other[WHO_BYTES:]


def test_who_is_source_and_id() -> None:
    """Neither alone, nor both run together."""
    pairs = [("a", "bc"), ("ab", "c"), ("abc", "d"), ("bc", "a"), ("a", "b"), ("é", "e"), ("a\0", "b"), ("a", "\0b")]
    assert len({who(identity_of(source=source, id=event_id)) for source, event_id in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("usage.event", b'{"event":"x","properties":{"a":1,"b":[1.5]}}', b'{"event":"x","properties":{"b":[15e-1],"a":1.0}}'),
        ("usage.event", b'{"event":"x","value":0}', b'{"event":"x","value":-0.0}'),
        ("usage.event", b'{"event":"x","value":2,"properties":{"a":1}}', b'{"event":"x","value":2.0,"properties":{"a":1e0}}'),
        ("usage.event", b'{"event":"\\u00e9"}', '{"event":"é"}'.encode()),
        ("usage.event", b'{"event":"x","properties":{"a":9223372036854775808}}', b'{"event":"x","properties":{"a":9223372036854775808.0}}'),
        ("usage.gauge", b'{"metric":"m","value":1}', b'{"value":1.0,"metric":"m"}'),
        (
            "usage.session",
            b'{"session_id":"s","started_at":"2024-01-02T03:04:05Z"}',
            b'{"started_at":"2024-01-02T04:04:05.000+01:00","session_id":"s"}',
        ),
    ],
)
def test_one_number_or_instant_may_be_written_in_several_ways(kind: str, one: bytes, other: bytes) -> None:
    """What JSON means counts, not how it is spelled."""
    first, second = (decode_one(usage(with_data(data, kind))) for data in (one, other))
    only(first)
    only(second)
    assert first.identity.tolist() == second.identity.tolist()


def test_a_price_may_be_written_in_several_ways() -> None:
    """As an integer, or as a decimal text with zeros."""
    prices = [b"990", b'"990"', b'"990.0"', b'"0990.00"']
    value = b'{"subscription_id":"s","status":"active","currency":"EUR","version":1,"items":[{"interval":"month","unit_amount_minor":%s}]}'
    sent = [Sent("payment-events", KEY, with_data(value % price, "subscription.upserted")) for price in prices]
    assert len(set(decode_batch("payment-events", sent).identity.tolist())) == 1


@given(histories())
def test_content_is_equal_where_the_second_implementation_says_so(records: list[dict[str, Any]]) -> None:
    """All that the generator writes is usable, and has the instant and the content that the oracle finds."""
    by_topic: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_topic.setdefault(to_kafka(record)[0], []).append(record)
    for topic, sent in by_topic.items():
        decoded = decode_batch(topic, [Sent(topic, key, value) for _, key, value in map(to_kafka, sent)])
        assert decoded.rejected == []
        oracle = [Event.of(record) for record in sent]
        assert decoded.times_us.tolist() == [one.time for one in oracle]
        packed, _ = contents(decoded.events, set(map(type, decoded.events)))
        ours = [(type(one), at, content) for one, at, content in zip(decoded.events, decoded.times_us.tolist(), packed, strict=True)]
        theirs = [one.content for one in oracle]
        assert [[a == b for b in ours] for a in ours] == [[a == b for b in theirs] for a in theirs]
        assert all(
            one == other
            for one, mine in zip(decoded.identity.tolist(), zip(oracle, theirs, strict=True), strict=True)
            for other, yours in zip(decoded.identity.tolist(), zip(oracle, theirs, strict=True), strict=True)
            if (mine[0].source, mine[0].id, mine[1]) == (yours[0].source, yours[0].id, yours[1])
        )
