"""How a command ends when something is wrong: one line on stderr that names it and its mend, and a meaningful code."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from stream_app.exits import ServiceExit

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `ServiceExit` into its one line and its exit code: 2 configuration, 3 broker or topics."""
    try:
        yield
    except ServiceExit as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
