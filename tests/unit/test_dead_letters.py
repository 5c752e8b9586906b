"""Dead letters: what was read, unchanged, with the reason added, whatever its size."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.dead_letters import KEY_MAX, MESSAGE_MAX, SIZE_MAX, VALUE_MAX, dead_letter
from models.decoding import Reason, Rejected, decode_batch
from tests.support.poison import POISON, Poison, Sent

REJECTED = Rejected(3, Reason.BAD_TYPE, "data.count: expected int, got str", "decode")


def size(letter: tuple[bytes | None, bytes | None, list[tuple[str, bytes]], int]) -> int:
    """Give the bytes of a dead letter's key, value and headers."""
    key, value, headers, _ = letter
    return len(key or b"") + len(value or b"") + sum(len(name.encode()) + len(content or b"") for name, content in headers)


def test_it_is_the_record_with_headers_added() -> None:
    """Key, value, headers and timestamp stay; where it was, why, and who says so come behind them."""
    sent = Sent("usage-events", b"acct_42", b'{"count":"3"}', [("trace", b"\xff"), ("trace", b"")], timestamp=1_700_000_000_123, offset=17)
    key, value, headers, timestamp = dead_letter("eu.usage-events", 3, sent, REJECTED, "0.1.0")
    assert (key, value, timestamp) == (b"acct_42", b'{"count":"3"}', 1_700_000_000_123)
    assert headers == [
        ("trace", b"\xff"),
        ("trace", b""),
        ("churnwatch.error.topic", b"eu.usage-events"),
        ("churnwatch.error.partition", b"3"),
        ("churnwatch.error.offset", b"17"),
        ("churnwatch.error.reason", b"bad_type"),
        ("churnwatch.error.message", b"data.count: expected int, got str"),
        ("churnwatch.error.stage", b"decode"),
        ("churnwatch.error.version", b"0.1.0"),
    ]


@pytest.mark.parametrize("poison", POISON, ids=lambda poison: poison.name)
def test_each_poison_record_has_one(poison: Poison) -> None:
    """No record is too odd to be kept."""
    for rejected in decode_batch(poison.topic, [poison.sent]).rejected:
        letter = dead_letter(poison.topic, 0, poison.sent, rejected, "0.1.0")
        key, value, headers, _ = letter
        assert size(letter) <= SIZE_MAX
        assert key == poison.key
        assert value == (None if poison.value is None else poison.value[:VALUE_MAX])
        assert headers[: len(poison.headers)] == list(poison.headers)
        assert dict(headers)["churnwatch.error.reason"].decode() == rejected.reason


def test_a_long_value_is_cut_and_known_by_its_hash() -> None:
    """The hash is that of the whole value."""
    value = bytes(range(256)) * 4_000
    _, kept, headers, _ = dead_letter("t", 0, Sent("t", b"k", value), REJECTED, "0.1.0")
    assert kept == value[:VALUE_MAX]
    assert dict(headers)["churnwatch.error.sha256"].decode() == sha256(value).hexdigest()


def test_a_value_of_the_greatest_length_is_not_cut() -> None:
    """Nor hashed."""
    _, kept, headers, _ = dead_letter("t", 0, Sent("t", b"k", b"v" * VALUE_MAX), REJECTED, "0.1.0")
    assert kept == b"v" * VALUE_MAX
    assert "churnwatch.error.sha256" not in dict(headers)


def test_a_null_stays_null() -> None:
    """Neither key nor value is made up."""
    assert dead_letter("t", 0, Sent("t", None, None), REJECTED, "0.1.0")[:2] == (None, None)


def test_headers_that_do_not_fit_are_counted() -> None:
    """As many as fit are kept, from the first on."""
    many = [(f"x-{number}", b"x" * 5_000) for number in range(1_000)]
    letter = dead_letter("t", 0, Sent("t", b"k", b"v" * 1_000_000, many), REJECTED, "0.1.0")
    assert size(letter) <= SIZE_MAX
    kept = [header for header in letter[2] if not header[0].startswith("churnwatch.")]
    assert kept == many[: len(kept)]
    assert 10 < len(kept) < 1_000
    assert dict(letter[2])["churnwatch.error.headers_dropped"] == str(1_000 - len(kept)).encode()


def test_a_record_that_was_here_before_tells_the_new_reason_last() -> None:
    """Its old headers are its own and stay; readers take the last of a name."""
    first = dead_letter("usage-events", 0, Sent("usage-events", b"k", b"{"), Rejected(0, Reason.NOT_JSON, "value", "decode"), "0.1.0")
    again = dead_letter("usage-events", 0, Sent("usage-events", first[0], first[1], first[2]), REJECTED, "0.2.0")
    assert again[2][: len(first[2])] == first[2]
    assert dict(again[2])["churnwatch.error.reason"] == b"bad_type"


@given(
    st.one_of(st.none(), st.integers(0, 2_000_000)),
    st.one_of(st.none(), st.integers(0, 3 * KEY_MAX)),
    st.lists(st.tuples(st.text(max_size=20), st.one_of(st.none(), st.integers(0, 300_000))), max_size=6),
    st.text(max_size=2 * MESSAGE_MAX),
    st.integers(-(2**63), 2**63 - 1),
)
def test_it_is_never_too_large(
    value_size: int | None, key_size: int | None, header_sizes: list[tuple[str, int | None]], message: str, timestamp: int
) -> None:
    """Whatever was read, a broker with its usual settings takes the dead letter, and its message is one line."""
    value, key = (None if length is None else b"x" * length for length in (value_size, key_size))
    headers = [(name, None if length is None else b"x" * length) for name, length in header_sizes]
    sent = Sent("t", key, value, headers, timestamp)  # type: ignore[arg-type]  # Kafka has null headers too
    letter = dead_letter("t", 0, sent, Rejected(0, Reason.BAD_VALUE, message, "fold"), "0.1.0")
    assert size(letter) <= SIZE_MAX
    assert letter[3] == timestamp
    assert dict(letter[2])["churnwatch.error.message"].decode().isprintable()
