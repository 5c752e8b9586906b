"""`churnwatch examples run`: the worked examples pass, and whatever is wrong with one is its failure, never a crash."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from deploy.cli import app
from deploy.examples.metrics import METRICS
from deploy.examples.running import TOLERANCE, read_examples, run_example
from models.kpi.exact import exact
from tests.support.profiles import unhurried

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED = "examples.json"
MORE = "examples_more.json"


def entries(name: str) -> list[Any]:
    """The examples of a file."""
    return read_examples((GOLDEN / name).read_text(encoding="utf-8"))


def run(*arguments: str) -> Result:
    """The command, its two streams together."""
    return CliRunner().invoke(app, ["examples", "run", *arguments])


@pytest.mark.parametrize("entry", [*entries(SHARED), *entries(MORE)], ids=lambda entry: f"{entry['id']}-{entry['metric']}")
def test_a_worked_example_gives_what_it_should(entry: Any) -> None:
    """The examples of the specification, and ours for the edges, each worked out by hand in its `source`."""
    assert run_example(entry, 0).problems == ()


def test_there_are_enough_of_them() -> None:
    """All forty of the specification; ours reach every metric, and each says how it was worked out."""
    assert len(entries(SHARED)) == 40
    more = entries(MORE)
    assert len(more) >= 100
    assert {entry["metric"] for entry in more} == {entry["metric"] for entry in entries(SHARED)} == METRICS.keys()
    assert all(len(entry["source"]) > 5 for entry in more)
    assert len({entry["id"] for entry in more}) == len(more)
    page = (GOLDEN.parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert f"; {40 + len(more)} of them are in the tests" in page


def test_the_command_says_pass_for_each_and_how_many() -> None:
    """One line for each example, the tally last, and exit code 0."""
    ended = run(str(GOLDEN / SHARED))
    lines = ended.output.splitlines()
    assert ended.exit_code == 0
    assert lines[0] == "pass  E01  nps"
    assert lines[-1] == "40 passed, 0 failed"
    assert len(lines) == 41


def test_the_command_says_what_differed(tmp_path: Path) -> None:
    """Expected and actual, where they differ, at the printed places; exit code 1."""
    file = tmp_path / "one.json"
    file.write_text('[{"id": "X", "metric": "nps", "input": {"scores": [9, 6, 6]}, "expected": {"nps": "-33.34", "promoters": 1}}]')
    ended = run(str(file))
    assert ended.exit_code == 1
    assert ended.output.splitlines() == ["FAIL  X  nps", '        nps: expected "-33.34", got "-33.33"', "0 passed, 1 failed"]


def test_json_has_what_each_metric_gave(tmp_path: Path) -> None:
    """With what stands beside the value: its reason, sample size and interval."""
    file = tmp_path / "one.json"
    file.write_text('[{"id": "X", "metric": "trial_conversion", "input": {"converted": 1, "started": 4}, "expected": {"pct": "25.00"}}]')
    ended = run(str(file), "--json")
    report = json.loads(ended.output)
    assert (report["passed"], report["failed"]) == (1, 0)
    assert report["examples"][0]["output"] == {"pct": 25, "n": 4, "interval95": ["4.558726", "69.935816"], "open": 0}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"id": "X", "metric": "happiness", "input": {}, "expected": {"a": 1}}, "unknown metric 'happiness'"),
        ({"id": "X", "metric": "nps", "input": {}, "expected": {"nps": None}}, "input: scores is missing"),
        ({"id": "X", "metric": "nps", "input": None, "expected": {"nps": None}}, "input: input is null: it should be an object"),
        ({"id": "X", "metric": "nps", "input": {"scores": "9"}, "expected": {"nps": None}}, "input: scores is '9': it should be a list"),
        (
            {"id": "X", "metric": "nps", "input": {"scores": ["x"]}, "expected": {"nps": None}},
            "input: scores[0] is 'x': it should be a number",
        ),
        (
            {"id": "X", "metric": "nps", "input": {"scores": [True]}, "expected": {"nps": None}},
            "input: scores[0] is true: it should be a number",
        ),
        ({"id": "X", "metric": "nps", "input": {"scores": ["1e999999"]}, "expected": {"nps": None}}, "it should be a number"),
        ({"id": "X", "metric": "nps", "input": {"scores": ["NaN"]}, "expected": {"nps": None}}, "it should be a number"),
        ({"id": "X", "metric": "nps", "input": {"scores": []}}, "expected is missing"),
        ({"id": "X", "metric": "nps", "input": {"scores": []}, "expected": {"enps": None}}, "enps: expected null, got nothing"),
        ({"id": "X", "metric": "cac", "input": {"cost": 1, "new_customers": -1}, "expected": {"cac": None}}, "whole number, not below 0"),
        (
            {"id": "X", "metric": "cac", "input": {"cost": 1, "new_customers": Decimal("0.5")}, "expected": {"cac": None}},
            "whole number, not below 0",
        ),
        ({"id": "X", "metric": "scaled_churn", "input": {"start": 1, "churned": 2, "days": 9}, "expected": {"days": 9}}, "between 0 and 1"),
        (
            {"id": "X", "metric": "customer_lifetime", "input": {"first": "2023-02-30", "last": None}, "expected": {"days": None}},
            "it should be a date",
        ),
        (
            {"id": "X", "metric": "bands", "input": {"scores": [1], "band_boundary": "both"}, "expected": {"bands": []}},
            "one of lower, upper",
        ),
        (
            {"id": "X", "metric": "csat", "input": {"scale_min": 5, "scale_max": 1, "scores": []}, "expected": {"n": 0}},
            "a scale ends above",
        ),
        (
            {"id": "X", "metric": "health_score", "input": {"weights": {"a": 1}, "scores": {"a": 101}}, "expected": {"score": 1}},
            "between 0 and 100",
        ),
        (
            {
                "id": "X",
                "metric": "subscription_mrr",
                "input": {"items": [{"unit_amount_minor": 1, "interval": "eon"}]},
                "expected": {"a": 1},
            },
            "items[0].interval is 'eon': it should be one of",
        ),
        (["no", "object"], "the example is no object"),
    ],
)
def test_what_is_wrong_with_an_example_is_its_failure(entry: object, problem: str) -> None:
    """One clear line, that names the member."""
    outcome = run_example(entry, 1)
    assert not outcome.has_passed
    assert problem in outcome.problems[0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        ("[NaN]", "NaN is no JSON"),
        ("{}", "a list of examples"),
        ("[", "holds no examples"),
        ("[]", "there is no example in it"),
    ],
)
def test_a_file_that_holds_no_examples_is_exit_2(content: str | None, problem: str, tmp_path: Path) -> None:
    """One line that names the file."""
    file = tmp_path / "examples.json"
    if content is not None:
        file.write_text(content)
    ended = run(str(file))
    assert ended.exit_code == 2
    assert problem in ended.output
    assert str(file) in ended.output


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.decimals(-1000, 1000, places=2) | st.sampled_from(["", "1", "x", "2020-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "start", "percent"]), inner, max_size=3),
    max_leaves=6,
)


@given(entry=st.sampled_from([*entries(SHARED), *entries(MORE)]), data=st.data())
@unhurried(150)
def test_any_spoiled_input_is_a_failure_or_a_value(entry: Any, data: st.DataObject) -> None:
    """Members replaced by anything, or taken away: never an exception."""
    spoiled = dict(entry["input"])
    for name in data.draw(st.lists(st.sampled_from(sorted(spoiled)), max_size=3)) if spoiled else []:
        if data.draw(st.booleans()):
            spoiled[name] = data.draw(JSON)
        else:
            spoiled.pop(name, None)
    outcome = run_example({**entry, "input": spoiled}, 0)
    assert outcome.has_passed or all(isinstance(line, str) and "\n" not in line for line in outcome.problems)


def test_scores_may_be_off_by_two_ten_thousandths_and_nothing_else() -> None:
    """The worked contributions of E31 are each rounded by themselves; a money amount is what it is."""
    score = {"metric": "score_delta", "input": {"weights": {"a": 1}, "before": {"a": 50}, "after": {"a": 60}}}
    assert run_example({**score, "expected": {"after": "60.0002", "drivers": {"a": "9.9998", "b": "0.0001"}}}, 0).has_passed
    assert not run_example({**score, "expected": {"after": "60.0003"}}, 0).has_passed
    assert not run_example({**score, "expected": {"drivers": {}}}, 0).has_passed
    assert exact(Decimal("0.0002")) == TOLERANCE
    money = {"metric": "cac", "input": {"cost": "10", "new_customers": 1}}
    assert not run_example({**money, "expected": {"cac": "10.0001"}}, 0).has_passed
    assert run_example({**money, "expected": {"cac": Decimal("10.0")}}, 0).has_passed
    assert run_example({**money, "expected": {"cac": 10}}, 0).output["cac"] == Fraction(10)


def test_flags_and_words_are_no_numbers() -> None:
    """True is not 1, and a decimal text is not a word."""
    ltv = {"metric": "ltv_cac", "input": {"ltv": 1, "cac": 2}}
    assert not run_example({**ltv, "expected": {"unit_economics_negative": 1}}, 0).has_passed
    assert not run_example({**ltv, "expected": {"ltv_cac": True}}, 0).has_passed
    assert not run_example({**ltv, "expected": {"ltv_cac": None}}, 0).has_passed
    bands = {"metric": "bands", "input": {"scores": [10]}}
    assert not run_example({**bands, "expected": {"bands": ["critical", "critical"]}}, 0).has_passed
    assert not run_example({**bands, "expected": {"bands": "critical"}}, 0).has_passed
