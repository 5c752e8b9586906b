"""The README tells what is there: its commands exist, its links lead somewhere, its first two commands are make's."""

import re
from pathlib import Path

import typer

from deploy.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_two_commands_are_targets_of_make() -> None:
    """One runs the main job from nothing, one runs every test."""
    first = re.search(r"```\n(.*?)```", README, re.DOTALL)
    assert first is not None
    targets = re.findall(r"^make (\S+)", first[1], re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_command_it_names_exists() -> None:
    """`churnwatch topics apply` and the like are commands of the program."""
    group = typer.main.get_command(app)
    known = set(group.commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^(?:CHURNWATCH_\S+ )?churnwatch (\w+)", README, re.MULTILINE))
    assert named
    assert named <= known


def test_every_link_leads_somewhere() -> None:
    """Pages and pictures that it points to are in the repository."""
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
