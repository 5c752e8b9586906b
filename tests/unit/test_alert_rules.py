"""The rules of alerts: what a configuration may say, and what it is told otherwise."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from alerts.rules import DURATION_MAX_US, AlertRules, format_duration, parse_duration

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def errors_of(configuration: dict[str, Any]) -> dict[str, str]:
    """What is said of each key of a configuration that is refused."""
    with pytest.raises(ValidationError) as refusal:
        AlertRules.model_validate(configuration)
    return {".".join(map(str, error["loc"])): error["msg"] for error in refusal.value.errors()}


def test_the_defaults_are_those_of_the_specification() -> None:
    """Enter and exit, waits, evaluations, recovery and reopening are as spec/alerts.md section 1.1 has them."""
    rules = AlertRules()
    assert (rules.health.at_risk.enter_fixed, rules.health.at_risk.exit_fixed) == (500_000, 570_000)
    assert (rules.health.critical.enter_fixed, rules.health.critical.exit_fixed) == (250_000, 320_000)
    assert (rules.pending_for.at_risk, rules.pending_for.critical) == (30 * MINUTE, 5 * MINUTE)
    assert (rules.min_evaluations, rules.recover_for, rules.reopen_window) == (2, 24 * HOUR, 72 * HOUR)


@pytest.mark.parametrize(
    ("text", "duration_us"),
    [
        ("250ms", 250_000),
        ("10s", 10 * SECOND),
        ("30m", 30 * MINUTE),
        ("24h", 24 * HOUR),
        ("7d", 7 * 24 * HOUR),
        (0, 0),
        ("0", 0),
        ("0s", 0),
        ("3650d", DURATION_MAX_US),
    ],
)
def test_a_duration_is_a_whole_number_and_its_unit(text: object, duration_us: int) -> None:
    """Every unit from milliseconds to days is read, and 0 needs none."""
    assert parse_duration(text) == duration_us


@pytest.mark.parametrize("text", [30, 1.5, "30", "", "1.5h", "-5m", "5 m", "1h30m", "5M", "1w", "m", True, False, None, "٣m", []])
def test_a_duration_without_a_clear_unit_is_refused_with_the_mend(text: object) -> None:
    """A bare number would leave the unit to a guess; the message shows how to write it."""
    with pytest.raises(ValueError, match="for example 30m"):
        parse_duration(text)


def test_a_duration_beyond_ten_years_is_refused() -> None:
    """Such a wait is a slip of the pen, and an instant plus a wait must fit its column."""
    with pytest.raises(ValueError, match="at most 3650d"):
        parse_duration("3651d")


@given(st.integers(0, DURATION_MAX_US // 1000))
def test_a_duration_is_written_as_it_is_read(milliseconds: int) -> None:
    """What `format_duration` writes, `parse_duration` reads back."""
    assert parse_duration(format_duration(milliseconds * 1000)) == milliseconds * 1000


def test_one_key_can_be_changed_alone() -> None:
    """What a configuration does not name keeps its default, inside a rule too."""
    rules = AlertRules.model_validate({"health": {"at_risk": {"enter": 45.5}}, "pending_for": {"critical": 0}})
    assert (rules.health.at_risk.enter_fixed, rules.health.at_risk.exit_fixed) == (455_000, 570_000)
    assert (rules.pending_for.at_risk, rules.pending_for.critical) == (30 * MINUTE, 0)


def test_the_effective_configuration_reads_back_as_itself() -> None:
    """Rules that were dumped, as Python or as JSON, are the same rules when validated again."""
    rules = AlertRules.model_validate({"recover_for": "90m", "reopen_window": 0, "health": {"critical": {"exit": 30.25}}})
    assert AlertRules.model_validate(rules.model_dump()) == rules
    assert AlertRules.model_validate_json(rules.model_dump_json()) == rules
    assert rules.model_dump()["recover_for"] == "90m"


def test_every_default_of_the_schema_is_a_value_that_the_schema_allows() -> None:
    """The schema shows durations as people write them."""
    schema = AlertRules.model_json_schema()
    waits = {**schema["properties"], **schema["$defs"]["PendingFor"]["properties"]}
    rules = AlertRules()
    assert parse_duration(waits["recover_for"]["default"]) == rules.recover_for
    assert parse_duration(waits["reopen_window"]["default"]) == rules.reopen_window
    assert parse_duration(waits["at_risk"]["default"]) == rules.pending_for.at_risk
    assert parse_duration(waits["critical"]["default"]) == rules.pending_for.critical


@pytest.mark.parametrize("exit_points", [50, 49, 0])
def test_an_exit_that_is_not_above_its_enter_is_refused(exit_points: int) -> None:
    """Without a gap an alert would flap; the message names the key and both ways to mend it."""
    errors = errors_of({"health": {"at_risk": {"exit": exit_points}}})
    assert list(errors) == ["health.at_risk"]
    assert f"exit ({exit_points}) must be greater than enter (50)" in errors["health.at_risk"]
    assert "raise exit or lower enter" in errors["health.at_risk"]


def test_a_gap_that_vanishes_in_fixed_point_is_no_gap() -> None:
    """Scores are ten-thousandths of a point, so a smaller gap holds nothing."""
    assert "health.at_risk" in errors_of({"health": {"at_risk": {"enter": "50", "exit": "50.00004"}}})


def test_critical_must_end_before_at_risk_begins_to_hold() -> None:
    """The critical exit may be the at-risk enter, and no more."""
    AlertRules.model_validate({"health": {"critical": {"exit": 50}}})
    errors = errors_of({"health": {"critical": {"exit": 50.5}}})
    assert "critical.exit (50.5) must be at most at_risk.enter (50)" in errors["health"]


def test_all_errors_are_told_at_once_each_with_its_key() -> None:
    """Whoever mends a configuration needs one round, not one for each error."""
    errors = errors_of(
        {
            "health": {"at_risk": {"enter": 101}, "critical": {"exit": 20}},
            "pending_for": {"at_risk": 30},
            "min_evaluations": 0,
            "recover_for": "1w",
            "cooldown": "72h",
        }
    )
    assert sorted(errors) == [
        "cooldown",
        "health.at_risk.enter",
        "health.critical",
        "min_evaluations",
        "pending_for.at_risk",
        "recover_for",
    ]


def test_rules_cannot_be_changed_once_made() -> None:
    """A decision is a function of rules that stay what they were."""
    rules = AlertRules()
    with pytest.raises(ValidationError):
        rules.min_evaluations = 3  # type: ignore[misc]
