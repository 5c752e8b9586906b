"""The additive figures: what they are called, how they are kept apart and added up."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kpi.figures import FIGURES, SUB_BUCKETS, Key, add_up, bucket_of, bucket_width, key_of, read_key, to_micro
from tests.support.profiles import unhurried


@given(seconds=st.integers(0, 10**9))
@unhurried(150)
def test_a_duration_is_in_its_bucket_and_a_bucket_is_narrow(seconds: int) -> None:
    """Each bucket is at most a thirty-second of its least duration wide; below 64 seconds they are exact."""
    least = int(bucket_of(seconds))
    assert least <= seconds < least + bucket_width(least)
    assert bucket_width(least) == 1 or bucket_width(least) * SUB_BUCKETS <= least
    assert bucket_of(least) == bucket_of(least + bucket_width(least) - 1) == str(least)


@pytest.mark.parametrize(("seconds", "least"), [(-5, "0"), (0, "0"), (63, "63"), (64, "64"), (65, "64"), (127, "126"), (3600, "3584")])
def test_the_buckets_are_golden(seconds: int, least: str) -> None:
    """They are stored under these labels: another division would not add up with what was written before."""
    assert bucket_of(seconds) == least


@given(label=st.text(min_size=1, max_size=8), currency=st.sampled_from(["EUR", "JPY"]))
@unhurried(100)
def test_a_key_reads_back_as_it_was_written(label: str, currency: str) -> None:
    """Whatever the label: products and channels have any name."""
    for key in (key_of("mrr_by_product", label=label, currency=currency), key_of("csat_answers", label=label), key_of("accounts")):
        assert read_key(str(key)) == key


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("customers", "'customers' is no figure"),
        ("mrr_end", "is money and needs a currency"),
        ("accounts@EUR", "is no money"),
        ("accounts{a}", "has no label"),
        ("costs@EUR", "needs a label: category"),
        ("mrr_end@euro", "is no key"),
    ],
)
def test_a_key_that_no_figure_has_is_refused(text: str, problem: str) -> None:
    """A wrong name would be a number that nobody reads."""
    with pytest.raises(ValueError, match=problem):
        read_key(text)


def test_parts_add_up_and_what_is_in_none_stays_absent() -> None:
    """Absent is never observed, which is not zero."""
    one, other = {Key("accounts"): 3, Key("orders"): 0}, {Key("accounts"): 4}
    assert add_up([one, other]) == {Key("accounts"): 7, Key("orders"): 0}
    assert add_up([]) == {}


def test_an_amount_is_rounded_once_half_up() -> None:
    """Millionths of a minor unit, away from zero in the middle."""
    assert to_micro(Fraction(1, 3)) == 333_333
    assert [to_micro(Fraction(n, 2_000_000)) for n in (1, -1, 3)] == [1, -1, 2]


def test_every_figure_says_what_it_counts() -> None:
    """Names are lower case, and no meaning is missing."""
    assert all(
        re.fullmatch("[a-z][a-z0-9_]+", name) and figure.name == name and len(figure.meaning) > 5 for name, figure in FIGURES.items()
    )
