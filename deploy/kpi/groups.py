"""The sections of the catalogue as a command line has them."""

from __future__ import annotations

from enum import StrEnum


class Group(StrEnum):
    """The sections of the catalogue, as they are written on a command line."""

    REVENUE = "revenue"
    VALUE_AND_COST = "value-and-cost"
    CUSTOMERS = "customers"
    USAGE = "usage"
    SUPPORT = "support"
    SURVEYS = "surveys"
    RELATIONSHIP = "relationship"

    @property
    def section(self) -> str:
        """Its name in the catalogue."""
        return self.value.replace("-", " ")
