"""docs/interface.md holds what the code has: a difference fails here and shows the lines to paste."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
from prometheus_client import CollectorRegistry

from alerts.policy import Kind, Severity
from deploy.cli import app
from deploy.config_cli import plain
from models.kpi.figures import FIGURES
from stream_app.config_problems import environment_name, nested_model
from stream_app.exits import Exit
from stream_app.health import HealthState, Limits, Pages
from stream_app.metrics import HEADLINE, Metrics
from stream_app.settings import OTHER_VARIABLES, Settings
from stream_app.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

DAY_MS = 86_400_000
PAGE = (Path(__file__).parents[2] / "docs" / "interface.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """The cells of the table under a header line."""
    lines = PAGE.splitlines()
    start = lines.index(header) + 2
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def assert_same(documented: list[list[str]], expected: list[list[str]]) -> None:
    """Compare tables as the lines that the page should have."""

    def lines(table: list[list[str]]) -> str:
        return "\n".join("| " + " | ".join(row) + " |" for row in table)

    assert lines(documented) == lines(expected)


def leaves(model: type[BaseModel], path: tuple[str, ...], values: BaseModel) -> Iterator[list[str]]:
    """The rows of every setting under a path."""
    for name, field in model.model_fields.items():
        here = (*path, name)
        if group := nested_model(field):
            yield from leaves(group, here, getattr(values, name))
        else:
            default = plain(values.model_dump(include={name}))[name]
            shown = default_shown(name, default)
            yield [f"`{'.'.join(here)}`", f"`{environment_name(here)}`", shown, field.description or ""]


def default_shown(name: str, default: Any) -> str:
    """A default as the page writes it."""
    if name == "data_dir":
        return "`~/.local/share/churnwatch/<app_id>`"
    if default is None or default == []:
        return "none"
    if default in ([], {}):
        return "empty"
    if isinstance(default, list):
        return "see `config default`" if isinstance(default[0], dict) else f"`{', '.join(default)}`"
    return f"`{default!r}`" if default == "" else f"`{default}`"


def test_every_setting_is_documented_with_its_variable_default_and_meaning() -> None:
    """The table of settings is the settings, in their order."""
    assert_same(rows("| key | environment | default | meaning |"), list(leaves(Settings, (), Settings())))


def test_every_setting_has_a_meaning_and_a_variable_of_its_own() -> None:
    """No setting is without a description, and no two share a variable."""
    table = list(leaves(Settings, (), Settings()))
    assert all(row[3] for row in table)
    assert len({row[1] for row in table}) == len(table)


def test_the_other_variables_are_documented() -> None:
    """Variables with our prefix that are no settings are listed, too."""
    assert_same(rows("| variable | meaning |"), [[f"`{name}`", text] for name, text in OTHER_VARIABLES.items()])


def test_every_exit_code_is_documented() -> None:
    """The table of exit codes is the enumeration."""
    assert_same(rows("| code | name | when |"), [[str(code.value), f"`{code.name}`", code.meaning] for code in Exit])


def commands(command: Any, path: str) -> Iterator[str]:
    """Every command under a path."""
    if hasattr(command, "commands"):
        for name, sub in command.commands.items():
            yield from commands(sub, f"{path} {name}")
    else:
        yield path


def test_every_command_is_documented() -> None:
    """The table of commands has every command, and no other."""
    documented = [row[0].strip("`") for row in rows("| command | kind | what it does |")]
    assert sorted(documented) == sorted(commands(typer.main.get_command(app), "churnwatch"))


def test_every_topic_is_documented() -> None:
    """The table of topics is the inventory."""
    expected = [
        [
            f"`{topic.name}`",
            topic.direction,
            topic.key,
            topic.cleanup,
            "–" if topic.retention_ms is None else str(topic.retention_ms // DAY_MS),
            "yes" if topic.partitioned else "no",
            topic.carries,
        ]
        for topic in TOPICS
    ]
    header = "| topic | direction | key | cleanup | retention, days | co-partitioned | carries |"
    assert_same(rows(header), expected)


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    """The table of metrics is what a worker exposes, once everything has happened."""
    metrics = Metrics(CollectorRegistry())
    metrics.describe("0", "0")
    metrics.assigned({0})
    metrics.progress("usage-events", 0, 0, 0)
    metrics.alert(Kind.OPENED, Severity.AT_RISK)
    metrics.portfolio([{"other": {f"{name}@USD" if FIGURES[name].is_money else name: 1 for name in HEADLINE}}])
    expected = []
    for family in metrics.registry.collect():
        if family.name.startswith("churnwatch_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = list(dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le"))
            expected.append([f"`{name}`", family.type, ", ".join(labels) or "–", family.documentation])
    assert_same(rows("| metric | type | labels | meaning |"), expected)


def test_every_endpoint_is_documented() -> None:
    """The table of endpoints is what the server knows."""
    pages = Pages(CollectorRegistry(), HealthState(0.0), Limits(), clock=None)  # type: ignore[arg-type]
    known = pages.get("/").body.decode().removeprefix("known here: ").split()
    assert sorted(row[0].strip("`") for row in rows("| path | answers |")) == sorted(known)


def test_the_limits_in_the_page_are_those_of_the_code() -> None:
    """Thirty, ten and thirty seconds are said as they are."""
    limits = Limits()
    assert f"rebalancing for up to {limits.rebalancing:.0f} s" in PAGE
    assert f"the broker has not answered for up to {limits.unreachable:.0f} s" in PAGE
    assert f"the event loop has not come round for {limits.loop:.0f} s" in PAGE


@pytest.mark.parametrize("field", ["time", "level", "logger", "message", "exception", "suppressed", "template"])
def test_the_fields_of_a_log_line_are_documented(field: str) -> None:
    """Every field that the logs themselves write is in the table."""
    assert field in {row[0].strip("`") for row in rows("| field | meaning |")}


def test_the_page_names_only_variables_that_exist() -> None:
    """A variable in the text is a setting or one of the others."""
    known = {row[1].strip("`") for row in leaves(Settings, (), Settings())} | OTHER_VARIABLES.keys()
    known |= {"CHURNWATCH_SERVICE_HOST", "CHURNWATCH_"}
    named = set(re.findall(r"\bCHURNWATCH_[A-Z_]*[A-Z]|\bKAFKA_[A-Z_]*[A-Z]\b", PAGE))
    assert named - known <= {"KAFKA_SASL", "KAFKA_SSL"}
