"""Dead letters before any broker: what they say, which are chosen, in which order and with which headers their records go out again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy.dlq.letters import (
    ORIGIN_HEADER,
    REPLAY_HEADER,
    REPLAYS_MAX,
    Item,
    Letter,
    Mark,
    Place,
    Selection,
    Source,
    Standing,
    chunks,
    decode_mark,
    escaped,
    hexdump,
    plan,
    read_letter,
    read_place,
    replay_headers,
    standing,
)
from deploy.dlq.showing import group_json, grouped, letter_json, letter_lines, letter_table, time_text
from models.dead_letters import KEY_MAX, SIZE_MAX, VALUE_MAX, dead_letter
from models.decoding import Rejected
from models.reasons import Reason
from tests.support.poison import Sent

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPIC = "eu.usage-events"
INPUTS = {TOPIC: 4, "eu.ticket-events": 4}
NONE: dict[Place, Mark] = {}


def letter(
    offset: int = 17,
    key: bytes | None = b"acme",
    value: bytes | None = b"no JSON",
    headers: Sequence[tuple[str, bytes]] = (),
    *,
    topic: str = TOPIC,
    partition: int = 0,
    place: Place = Place(0, 5),  # noqa: B008 - it cannot change
    reason: Reason = Reason.NOT_JSON,
    timestamp: int = 1_700_000_000_000,
) -> Letter:
    """Read the dead letter of a record, as the worker writes it."""
    sent = Sent(topic, key, value, headers, timestamp, offset)
    kept, body, told, stamp = dead_letter(topic, partition, sent, Rejected(0, reason, "value: expected JSON", "decode"), "0.1.0")
    return read_letter(place, stamp, kept, body, told, INPUTS)


def come_back(first: Letter, offset: int) -> Letter:
    """Read the dead letter that a replayed record becomes, standing at another offset now."""
    headers = [(name, value or b"") for name, value in replay_headers(first)]
    return letter(offset, first.key, first.value, headers, place=Place(first.place.partition, first.place.offset + 100))


def test_a_letter_says_where_its_record_was_and_keeps_it_as_it_was() -> None:
    """The headers that say why are apart from the record's own."""
    found = letter(headers=[("trace", b"\xff"), ("trace", b"")])
    assert found.source == Source(TOPIC, 0, 17)
    assert (found.key, found.value, found.headers) == (b"acme", b"no JSON", (("trace", b"\xff"), ("trace", b"")))
    assert (found.reason, found.errors["message"], found.damage, found.replays, found.origin) == (
        "not_json",
        "value: expected JSON",
        None,
        0,
        17,
    )


def test_the_last_headers_count_when_a_record_brought_such_headers_itself() -> None:
    """Whoever sends a record with our names on it does not say where it goes."""
    found = letter(headers=[("churnwatch.error.topic", b"eu.account-events"), ("churnwatch.error.reason", b"lie")])
    assert found.source == Source(TOPIC, 0, 17)
    assert (found.reason, found.headers) == ("not_json", ())


@pytest.mark.parametrize(
    ("told", "damage"),
    [
        (letter(value=b"x" * (VALUE_MAX + 1)), "only the beginning of the value is kept"),
        (letter(key=b"x" * (KEY_MAX + 1)), "only the beginning of the key is kept"),
        (letter(headers=[("large", b"x" * SIZE_MAX)]), "not all headers are kept"),
        (letter(topic="us.usage-events"), "us.usage-events/0 is no input of this installation"),
        (letter(partition=4), "eu.usage-events/4 is no input of this installation"),
        (read_letter(Place(0, 0), 0, b"k", b"v", [("h", None)], INPUTS), "it does not say where its record came from"),
    ],
)
def test_a_record_that_is_not_whole_or_has_nowhere_to_go_is_refused(told: Letter, damage: str) -> None:
    """It is counted and named with what is wrong, and never sent, force or not."""
    assert told.damage == damage
    assert standing(told, NONE) is Standing.DAMAGED
    made = plan([told, letter()], NONE, is_forced=True)
    assert [item.source.offset for item in made.items] == [17]
    assert made.damaged == [(told.place, damage)]


def test_tags_count_up_and_the_third_return_is_parked() -> None:
    """The tag of the letter and one; the offset at which the record stood first goes along unchanged."""
    found = letter(headers=[("trace", b"1")])
    for number, offset in enumerate((40, 60, 80), start=1):
        assert standing(found, NONE) is Standing.WAITING
        headers = replay_headers(found)
        assert headers == [("trace", b"1"), (REPLAY_HEADER, str(number).encode()), (ORIGIN_HEADER, b"17")]
        found = come_back(found, offset)
    assert (found.replays, standing(found, NONE)) == (REPLAYS_MAX, Standing.PARKED)
    assert plan([found], NONE).left == {Standing.PARKED: 1}
    assert [item.replay for item in plan([found], NONE, is_forced=True).items] == [REPLAYS_MAX + 1]


@pytest.mark.parametrize("tag", [b"", b"-1", b"one", b"\xff", "²".encode(), b"9" * 40])
def test_a_tag_that_is_no_number_is_none(tag: bytes) -> None:
    """Anybody can send a header of that name; ours replaces it."""
    found = letter(headers=[(REPLAY_HEADER, tag), (ORIGIN_HEADER, tag)])
    assert (found.replays, found.origin) == (0, 17)
    assert replay_headers(found) == [(REPLAY_HEADER, b"1"), (ORIGIN_HEADER, b"17")]


def test_a_record_cannot_have_stood_behind_itself() -> None:
    """An offset beyond the record's own is not believed."""
    assert letter(headers=[(ORIGIN_HEADER, b"18")]).origin == 17


def test_what_was_replayed_is_not_sent_again_even_by_force() -> None:
    """A mark of another record at that place, from before the topics were made anew, does not count."""
    found = letter()
    marks = {found.place: Mark(str(found.source), 1, "2026-11-01T00:00:00Z")}
    assert plan([found], marks, is_forced=True).left == {Standing.REPLAYED: 1}
    assert standing(found, {found.place: Mark(f"{TOPIC}/0/3", 1, "")}) is Standing.WAITING


def test_a_mark_reads_back_and_anything_else_is_none() -> None:
    """The topic is ours, but nobody keeps others from writing to it."""
    mark = Mark(f"{TOPIC}/0/17", 2, "2026-11-01T00:00:00.000Z")
    assert decode_mark(mark.encode()) == mark
    assert [decode_mark(value) for value in (b"", b"\xff", b"[]", b"{}", b"null", b'{"source":1,"replay":"x","at":1}')] == [None] * 6


@given(st.permutations(range(12)))
def test_the_records_of_a_partition_go_out_as_they_first_stood(order: list[int]) -> None:
    """Also when some of them came back before: those stand further behind now, and still go first."""
    letters = [letter(offset=number, place=Place(0, number)) for number in range(12)]
    returned = [come_back(each, 100 + each.origin) if each.origin % 3 == 0 else each for each in letters]
    made = plan((returned[number] for number in order), NONE)
    assert [item.origin for item in made.items] == list(range(12))


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 5), st.integers(1, 60))
def test_transactions_hold_the_whole_plan_in_its_order_within_their_limits(sizes: list[int], records_max: int, bytes_max: int) -> None:
    """A record larger than the limit has a transaction of its own."""
    items = [Item(TOPIC, 0, number, number, 1, Place(0, number), size, "not_json") for number, size in enumerate(sizes)]
    made = list(chunks(items, records_max, bytes_max))
    assert [item for chunk in made for item in chunk] == items
    for chunk in made:
        assert len(chunk) <= records_max
        assert len(chunk) == 1 or sum(item.size for item in chunk) <= bytes_max


def test_a_selection_is_by_reason_topic_time_and_place() -> None:
    """What is given must all hold; the beginning of the time is meant, its end is not."""
    early, late = letter(1, place=Place(0, 1), timestamp=1_000), letter(2, place=Place(1, 2), timestamp=2_000, reason=Reason.BAD_TIME)
    ticket = letter(1, place=Place(0, 3), timestamp=3_000, topic="eu.ticket-events")
    everything = [ticket, late, early]

    def chosen(selection: Selection) -> list[Letter]:
        return list(selection.of(everything))

    assert chosen(Selection()) == everything
    assert chosen(Selection(reasons=frozenset({"bad_time"}))) == [late]
    assert chosen(Selection(topics=frozenset({TOPIC}))) == [late, early]
    assert chosen(Selection(since_ms=2_000)) == [ticket, late]
    assert chosen(Selection(until_ms=2_000)) == [early]
    assert chosen(Selection(places=frozenset({"0/3", f"{TOPIC}/0/2"}))) == [ticket, late]
    assert chosen(Selection(limit=2)) == [early, late]
    assert list(Selection(limit=1).of(everything, lambda each: each is not early)) == [late]


@pytest.mark.parametrize("text", ["", "0", "0/", "/1", "0/1/2", "a/1", "0/-1", "0/١"])
def test_only_two_numbers_are_a_place(text: str) -> None:
    """Everything else is taken for the place of a record."""
    assert read_place(text) is None
    assert read_place("3/17") == Place(3, 17)


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_what_is_shown_of_a_key_prints_and_tells_all_keys_apart(raw: bytes | str) -> None:
    """No control character, line break or mark that turns the text around gets through."""
    assert escaped(raw).isprintable()
    assert len(escaped(raw, 8)) <= 8


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_two_keys_never_look_the_same(one: bytes, other: bytes) -> None:
    """Backslashes are doubled, so that no key can pass for the escape of another."""
    assert (escaped(one) == escaped(other)) == (one == other)


def test_escapes_are_those_of_the_language() -> None:
    """A person can read them."""
    assert escaped(b"\x1b[31m\n\xff\\n\xe2\x80\xae") == r"\x1b[31m\n\xff\\n\u202e"
    assert escaped(None) == "-"
    assert escaped("x" * 41, 40) == "x" * 39 + "…"


def test_a_hexdump_has_sixteen_bytes_on_a_line() -> None:
    """Where, in hexadecimal, as ASCII."""
    assert list(hexdump(b"\x1b[31m no JSON \xff\x00")) == [
        "00000000  1b 5b 33 31 6d 20 6e 6f 20 4a 53 4f 4e 20 ff 00  .[31m no JSON ..",
    ]
    assert list(hexdump(bytes(17)))[1] == f"00000010  {'00':<47}  ."


def test_counts_are_by_topic_and_reason_with_what_a_replay_would_do() -> None:
    """The most first."""
    sent, waiting, cut = (
        letter(1, place=Place(0, 1)),
        letter(2, place=Place(0, 2)),
        letter(3, place=Place(0, 3), value=b"x" * VALUE_MAX * 2),
    )
    other = letter(4, place=Place(0, 4), topic="eu.ticket-events", timestamp=0)
    rows = map(json.loads, group_json(grouped([other, sent, waiting, cut], {sent.place: Mark(str(sent.source), 1, "")})))
    time = "2023-11-14T22:13:20.000Z"
    assert list(rows) == [
        {
            "topic": TOPIC,
            "reason": "not_json",
            "letters": 3,
            "waiting": 1,
            "replayed": 1,
            "parked": 0,
            "damaged": 1,
            "first": time,
            "last": time,
        },
        {
            "topic": "eu.ticket-events",
            "reason": "not_json",
            "letters": 1,
            "waiting": 1,
            "replayed": 0,
            "parked": 0,
            "damaged": 0,
            "first": time_text(0),
            "last": time_text(0),
        },
    ]


def test_a_letter_as_json_is_one_line_of_ascii() -> None:
    """A key that is no UTF-8 is given in base 64."""
    line = letter_json(letter(key=b"\xff\n"), NONE)
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line)
    assert (told["key"], told["key_base64"], told["value_bytes"], told["standing"]) == (None, "/wo=", 7, "waiting")
    assert json.loads(letter_json(letter(key="zoë\x1b".encode()), NONE))["key"] == "zoë\x1b"


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (None, ["value     none"]),
        (b"", ["value     0 bytes", "  "]),
        (b'{\n  "a": "\x1b"\n}', ["value     14 bytes", "  {", r'    "a": "\x1b"', "  }"]),
        (b"\xffab", ["value     3 bytes", f"  00000000  {'ff 61 62':<47}  .ab"]),
        ("é".encode() * 3_000, ["value     6,000 bytes", "  " + "é" * 2_048, "  … 1,904 bytes more: `--raw` writes them all"]),
        (b"x" + "é".encode() * 2_048, ["value     4,097 bytes", "  x" + "é" * 2_047, "  … 1 bytes more: `--raw` writes them all"]),
    ],
)
def test_a_value_is_shown_as_text_or_as_a_hexdump(value: bytes | None, lines: list[str]) -> None:
    """Its own line breaks are kept, all else that does not print is escaped; what is long is cut."""
    shown = list(letter_lines(letter(value=value), NONE))
    assert shown[-len(lines) :] == lines


def test_one_letter_in_full_says_what_a_replay_made_of_it() -> None:
    """When, and as which try; or why it cannot be sent."""
    found = letter(headers=[("trace", b"\xff")])
    marks = {found.place: Mark(str(found.source), 1, "2026-11-01T00:00:00Z")}
    lines = list(letter_lines(found, marks))
    assert "standing  replayed: at 2026-11-01T00:00:00Z, as try 1" in lines
    assert r"header    trace: \xff" in lines
    assert "standing  damaged: only the beginning of the key is kept" in list(letter_lines(letter(key=b"k" * 20_000), NONE))


def test_a_table_takes_no_key_for_markup_or_an_escape() -> None:
    """Brackets are brackets."""
    console = Console(width=200, record=True, file=None, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(letter_table([letter(key=b"[bold]\x1b]0;title\x07")], NONE))
    assert r"[bold]\x1b]0;title\x07" in captured.get()


@pytest.mark.parametrize(("timestamp_ms", "shown"), [(-1, "-1"), (10**18, str(10**18)), (1_000, "1970-01-01T00:00:01.000Z")])
def test_a_time_that_no_calendar_has_is_shown_as_its_number(timestamp_ms: int, shown: str) -> None:
    """A producer may set any."""
    assert time_text(timestamp_ms) == shown
