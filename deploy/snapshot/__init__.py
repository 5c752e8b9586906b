"""The state of an installation in one file: `churnwatch snapshot`."""
