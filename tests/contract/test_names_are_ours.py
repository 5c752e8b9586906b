"""The four package names are generic: nothing else that is installed may own one of them, or one would silently win."""

from __future__ import annotations

from importlib.metadata import packages_distributions

import pytest


@pytest.mark.parametrize("name", ["models", "alerts", "stream_app", "deploy"])
def test_a_package_name_belongs_to_churnwatch_alone(name: str) -> None:
    """In an editable install and in a wheel alike."""
    # In a checkout its own metadata may be found twice: beside the sources, and where it is installed.
    assert set(packages_distributions()[name]) == {"churnwatch"}


def test_tests_are_not_installed() -> None:
    """No other top-level name comes with us."""
    ours = {name for name, owners in packages_distributions().items() if "churnwatch" in owners}
    assert {name for name in ours if not name.startswith("_")} == {"models", "alerts", "stream_app", "deploy"}
