"""Which release of churnwatch this is."""

from importlib.metadata import version

RELEASE = version("churnwatch")
