"""What is remembered of applied events: who they are and what they say, found again where it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models import usage
from models.columns import Columns
from models.identity import IDENTITY, IDENTITY_BYTES, WHO_BYTES
from models.parts import KNOWN_IDS, is_repeated, remember
from models.usage import Outcome
from tests.support.profiles import unhurried

IDENTITIES = st.binary(min_size=IDENTITY_BYTES, max_size=IDENTITY_BYTES).map(lambda drawn: bytes(byte & 1 for byte in drawn))
"""Of two bytes only, so that who an event is is also found where one identity ends and the next begins."""


@unhurried(300)
@given(st.lists(IDENTITIES, max_size=40), IDENTITIES)
@example([bytes(7) + b"\1\1\1", b"\1\1\1" + bytes(7)], b"\1" * 6 + bytes(4))
@example([bytes(7) + b"\1\1\1", b"\1\1\1" + bytes(7), b"\1" * 6 + bytes(4)], b"\1" * 6 + bytes(4))
def test_an_event_is_known_by_who_it_is_and_repeated_by_what_it_says(known: list[bytes], asked: bytes) -> None:
    """A plain search through the list says the same; the first of two with one id counts."""
    same = [each for each in known if each[:WHO_BYTES] == asked[:WHO_BYTES]]
    assert is_repeated(bytearray(b"".join(known)), asked) == (same[0] == asked if same else None)


@unhurried(50)
@given(st.integers(0, 2 * KNOWN_IDS + 10))
def test_the_last_ones_are_remembered(count: int) -> None:
    """As many as are kept, in their order."""
    sent = [number.to_bytes(IDENTITY_BYTES, "little") for number in range(count)]
    ids = bytearray()
    for each in sent:
        remember(ids, each)
    assert bytes(ids) == b"".join(sent[-KNOWN_IDS:])


FIRST = (7, 8, 9)


@pytest.mark.parametrize(
    ("identity", "outcome"),
    [
        (FIRST, Outcome.DUPLICATE),
        ((7, 8, 9 + (1 << 16)), Outcome.CONFLICT),
        ((7, 8, 10), Outcome.CONFLICT),
        ((7, 9, 9), Outcome.APPLIED),
        ((8, 8, 9), Outcome.APPLIED),
    ],
    ids=["the same", "other content in its upper bits", "other content", "another event with half of its hash", "another event"],
)
@pytest.mark.parametrize("is_one_batch", [True, False])
def test_a_use_is_known_by_all_bits_of_who_and_what(identity: Any, outcome: Outcome, is_one_batch: bool) -> None:
    """Also where the cheap look by 32 bits raises a doubt that is none."""
    columns = Columns()
    columns.add([b"acme"])
    found = np.array([FIRST, identity], IDENTITY)
    slots, times, counts = np.zeros(2, np.int64), np.zeros(2, np.int64), np.ones(2, np.int64)
    cuts = [slice(0, 2)] if is_one_batch else [slice(0, 1), slice(1, 2)]
    outcomes = [each for cut in cuts for each in usage.fold(columns, slots[cut], times[cut], found[cut], counts[cut]).tolist()]
    assert outcomes == [Outcome.APPLIED, outcome]
    applied = 1 + (outcome == Outcome.APPLIED)
    assert (columns.applied[0, usage.TOPIC], columns.usage[0].sum()) == (applied, applied)
    remembered = zip(columns.usage_who[0], columns.usage_who_more[0], columns.usage_what[0], strict=True)
    assert list(remembered)[:3] == [FIRST, identity if applied == 2 else (0, 0, 0), (0, 0, 0)]
